package access

import (
	"hash/maphash"
	"math/bits"
)

const (
	pkocBytes   = 32 // X coordinate of a P-256 key
	maxUIDBytes = 10 // ISO 14443-3: 4, 7 or 10
)

// cardKey is a card id in binary: how many bytes it has and these bytes. A 4-byte UID never equals the beginning of a
// 7-byte one, and no UID equals a key.
type cardKey [1 + pkocBytes]byte

type card struct {
	key     cardKey
	revoked bool
	member  uint32
	tenure  uint32
}

// deck finds cards by their key. The table holds 4 bytes a slot: the place of a card and some bits of its hash, so that a
// look-up touches one line of the table and one card. A map would take twice the memory and grow by copying.
type deck struct {
	all   []card
	slots []uint32 // tag and place + 1; 0 = empty
	seed  maphash.Seed
}

// A slot's 32 bits: which card, and a tag that tells cards apart without looking at them.
const (
	placeBits = 20
	placeMask = 1<<placeBits - 1
	_         = uint(placeMask - MaxCards) // every card has a place
)

// newDeck has room for n cards, which is all that it will take.
func newDeck(n int) deck {
	return deck{all: make([]card, 0, n), slots: make([]uint32, n+n/2+1), seed: maphash.MakeSeed()}
}

// slot is where a key stands, or the empty slot where it would.
func (d *deck) slot(key cardKey) (at int, tag uint32) {
	sum := maphash.Comparable(d.seed, key)
	first, _ := bits.Mul64(sum, uint64(len(d.slots)))
	tag = uint32(sum) &^ placeMask
	for at = int(first); ; {
		s := d.slots[at]
		if s == 0 || (s&^placeMask == tag && d.all[s&placeMask-1].key == key) {
			return at, tag
		}
		if at++; at == len(d.slots) {
			at = 0
		}
	}
}

func (d *deck) find(key cardKey) (*card, bool) {
	if len(d.all) == 0 {
		return nil, false
	}
	at, _ := d.slot(key)
	if d.slots[at] == 0 {
		return nil, false
	}
	return &d.all[d.slots[at]&placeMask-1], true
}

// add takes a card unless its key is there already. The deck must have room.
func (d *deck) add(c card) bool {
	at, tag := d.slot(c.key)
	if d.slots[at] != 0 {
		return false
	}
	d.all = append(d.all, c)
	d.slots[at] = tag | uint32(len(d.all))
	return true
}
