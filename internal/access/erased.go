package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// ErasureKey is drawn once by a network, so that its lists of erased names say nothing beside those of another.
type ErasureKey [32]byte

// ErasedName stands for the id of an erased person, or of a card of theirs, wherever it must still be known that nothing
// about them may be kept: the first 16 bytes of HMAC-SHA-256 (RFC 2104) of it. It tells nobody a name. Whoever holds the key,
// as every edge does, can still ask whether a name that he knows, or guesses, is on the list; this is the very question that
// an edge has to answer.
type ErasedName [16]byte

// Name hashes a member's id or a card's.
func (k ErasureKey) Name(id string) (n ErasedName) {
	h := hmac.New(sha256.New, k[:])
	h.Write([]byte(id))
	copy(n[:], h.Sum(nil))
	return n
}

func (n ErasedName) String() string { return hex.EncodeToString(n[:]) }

// Compare orders names as their texts.
func (n ErasedName) Compare(o ErasedName) int { return slices.Compare(n[:], o[:]) }

// Erasures answers whether somebody was erased. The zero value and nil know of nobody.
type Erasures struct {
	key   ErasureKey
	names []ErasedName // ascending, each once
}

// NewErasures takes names in any order and keeps its own copy of them.
func NewErasures(key ErasureKey, names []ErasedName) *Erasures {
	names = slices.Clone(names)
	slices.SortFunc(names, ErasedName.Compare)
	return &Erasures{key, slices.Compact(names)}
}

// Len is how many names were erased.
func (e *Erasures) Len() int {
	if e == nil {
		return 0
	}
	return len(e.names)
}

// Has says whether this member's or card's id was erased.
func (e *Erasures) Has(id string) bool {
	if e.Len() == 0 || id == "" {
		return false
	}
	_, found := slices.BinarySearchFunc(e.names, e.key.Name(id), ErasedName.Compare)
	return found
}

// Digest tells one list from another: whoever searched its records for the names of a list need not do so again.
func (e *Erasures) Digest() (d [sha256.Size]byte) {
	if e.Len() == 0 {
		return d
	}
	h := sha256.New()
	h.Write(e.key[:])
	for i := range e.names {
		h.Write(e.names[i][:])
	}
	h.Sum(d[:0])
	return d
}

// Erasures are those that the hub told this node's edges of.
func (r *Roster) Erasures() *Erasures {
	if r == nil {
		return nil
	}
	return r.erasures
}

func (c *compiler) erasures(key string, names []string) {
	if key == "" && len(names) == 0 {
		return
	}
	e := &Erasures{names: make([]ErasedName, len(names))}
	if len(key) != 2*len(e.key) || !unhex(e.key[:], key) {
		c.add("erasure_key: is not %d lower-case hex digits", 2*len(e.key))
	}
	for i, text := range names {
		path := fmt.Sprintf("erased[%d]", i)
		switch {
		case len(text) != 2*len(e.names[i]) || !unhex(e.names[i][:], text):
			c.add("%s: is not %d lower-case hex digits", path, 2*len(e.names[i]))
		case i > 0 && e.names[i].Compare(e.names[i-1]) <= 0:
			c.add("%s: is not above the one before; they ascend, each once", path)
		}
	}
	c.r.erasures = e
}
