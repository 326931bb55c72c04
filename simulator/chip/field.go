package chip

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"kith/internal/card"
)

// Card is one virtual card. Its fields are read by the chip and must not change once placed.
type Card struct {
	UID  []byte  // 4, 7 or 10 bytes
	ATQA [2]byte // SENS_RES as the PN532 reports it, most significant byte first
	SAK  byte
	ATS  []byte // with its length byte; nil when the card does not speak ISO 14443-4
	// Answer takes a command APDU and returns the reply; nil means silence. It runs on the
	// chip's goroutine.
	Answer func(apdu []byte) []byte
	// Enter is called on the chip's goroutine when the card is activated; nil means nothing to do.
	Enter func()
	// Delay is how long the card thinks about each APDU.
	Delay time.Duration
	// LeaveAfter makes the card leave the field in the middle of its n-th APDU (1 is the
	// first); 0 means it stays.
	LeaveAfter int

	credential card.Credential
	nameless   error // why there is no credential
}

// ID is the card id text a reader will learn. A card whose number names nobody (a random UID, say)
// can be held before a reader but has none.
func (c *Card) ID() (string, error) {
	if c.nameless != nil {
		return "", fmt.Errorf("naming card: %w", c.nameless)
	}
	return c.credential.ID(), nil
}

// maxCards bounds a field; more do not fit on an antenna.
const maxCards = 8

// NewPKOC makes a PKOC card of a key: a 7-byte UID derived from the public key, so that the same
// key file is always the same card.
func NewPKOC(key *ecdsa.PrivateKey) *Card {
	pkoc := card.NewPKOCCard(key)
	id := sha256.Sum256(pkoc.Credential().Key)
	return &Card{
		UID:  append([]byte{0x04}, id[:6]...),
		ATQA: [2]byte{0x00, 0x44},
		SAK:  0x20,
		// T0 78: FSC 256, TA TB TC follow; TA 77: up to 848 kbit/s; TB 71: FWT 39 ms,
		// SFGT 0.6 ms; TC 02: CID; one historical byte (ISO 14443-4 section 5.2).
		ATS:    []byte{0x06, 0x78, 0x77, 0x71, 0x02, 0x80},
		Answer: pkoc.Transceive,
		Enter:  pkoc.Reset,

		credential: pkoc.Credential(),
	}
}

// NewUID makes a card that has nothing but a number (ISO 14443-3 only).
func NewUID(uid []byte) (*Card, error) {
	c := &Card{UID: slices.Clone(uid)}
	c.credential, c.nameless = card.NewUID(uid)
	switch len(uid) {
	case 4:
		c.ATQA, c.SAK = [2]byte{0x00, 0x04}, 0x08
	case 7:
		c.ATQA, c.SAK = [2]byte{0x00, 0x44}, 0x00
	case 10:
		c.ATQA, c.SAK = [2]byte{0x00, 0x84}, 0x00
	default:
		return nil, fmt.Errorf("making a card: UID of %d bytes, want 4, 7 or 10", len(uid))
	}
	return c, nil
}

// Field is the space before an antenna. Any goroutine may place and lift cards.
type Field struct {
	mu      sync.Mutex
	cards   []*placed
	changed chan struct{} // capacity 1
}

// placed is one stay of a card in the field: a card that left and came back must be activated
// anew, even if it is the same one.
type placed struct {
	card *Card
	seen int // APDUs of this stay
}

// NewField makes an empty field.
func NewField() *Field { return &Field{changed: make(chan struct{}, 1)} }

// Place brings a card into the field; a card already there stays as it is.
func (f *Field) Place(c *Card) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.cards) >= maxCards {
		return fmt.Errorf("placing card: %d cards are in the field already", maxCards)
	}
	if !slices.ContainsFunc(f.cards, func(p *placed) bool { return p.card == c }) {
		f.cards = append(f.cards, &placed{card: c})
		f.tell()
	}
	return nil
}

// Lift takes a card out of the field.
func (f *Field) Lift(c *Card) {
	f.remove(func(p *placed) bool { return p.card == c })
}

// Clear takes every card out of the field.
func (f *Field) Clear() { f.remove(func(*placed) bool { return true }) }

func (f *Field) remove(which func(*placed) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(f.cards)
	f.cards = slices.DeleteFunc(f.cards, which)
	if len(f.cards) != before {
		f.tell()
	}
}

func (f *Field) tell() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *Field) present() []*placed {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.cards)
}

func (f *Field) has(c *Card) bool {
	return slices.ContainsFunc(f.present(), func(p *placed) bool { return p.card == c })
}

func (f *Field) holds(p *placed) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.cards, p)
}
