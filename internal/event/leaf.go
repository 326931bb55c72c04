// Package event owns what a fact looks like: the leaf, one line of JSON whose exact bytes are hashed and kept for ever,
// and the private part beside it, which may be erased without disturbing a single hash.
//
// The package is pure: it never reads a clock, draws a random number or stores anything. A leaf is written by Encode
// alone, in one fixed key order without white space and without floats, and Parse accepts exactly what Encode can
// write. So two programs in two languages that read the same leaf agree on its bytes (docs/FORMATS.md, "Leaf").
package event

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Limits of one leaf and of one private part, in bytes. A tap is about 350; the rest is room for later kinds.
const (
	MaxLeaf    = 4096
	MaxPrivate = 4096
	MaxID      = 48 // bytes of a slug: node, edge, door, member ...
)

// HourMS is the grain, in milliseconds, of the public time of a leaf that concerns a person.
const HourMS = int64(time.Hour / time.Millisecond)

// Version is the leaf format written today. A reader refuses others: they are not leaves of this log.
const Version = 1

// Epoch names one continuous storage life of an edge's journal: 128 random bits. After proven loss, a restored copy or
// a fork the edge starts a new one and never appends to the old one again.
type Epoch [16]byte

func (e Epoch) String() string { return hex.EncodeToString(e[:]) }

// ParseEpoch reads 32 lower-case hex digits.
func ParseEpoch(s string) (Epoch, error) {
	var e Epoch
	if err := decodeHex(e[:], s); err != nil {
		return e, fmt.Errorf("epoch %q: %w", clip(s), err)
	}
	return e, nil
}

// Clock says how far the wall time of a leaf can be trusted. Order is always the index, never the time.
type Clock string

// Clock qualities.
const (
	Synced Clock = "synced" // set from a trusted source since boot
	Unsure Clock = "unsure" // no such source since boot, or the clock jumped
)

// Kind names what happened. A hub stores and co-signs kinds it does not know: a newer edge must not be held up.
type Kind string

// Leaf is one fact, decoded. Encode and Parse are inverse on every valid value.
type Leaf struct {
	Network, Node, Edge string
	Epoch               Epoch
	Index               uint64 // address is (Edge, Epoch, Index)
	Kind                Kind
	At                  int64 // Unix milliseconds; floored to the hour when Commitment is set
	Clock               Clock
	Boot                string          // 16 hex digits, one per start of the edge program
	Mono                int64           // nanoseconds since that start; 0 when Commitment is set
	Body                json.RawMessage // a compact JSON object, by kind
	Commitment          *[32]byte       // over the private part, when a person is concerned
}

// ErrLeaf is wrapped by every refusal of Parse and Encode.
var ErrLeaf = errors.New("not a leaf")

// Encode writes the one line, without the newline.
func (l *Leaf) Encode() ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLeaf, err)
	}
	b := make([]byte, 0, 320+len(l.Body))
	b = append(b, `{"v":1,"net":"`...)
	b = append(b, l.Network...)
	b = append(b, `","node":"`...)
	b = append(b, l.Node...)
	b = append(b, `","edge":"`...)
	b = append(b, l.Edge...)
	b = append(b, `","epoch":"`...)
	b = hex.AppendEncode(b, l.Epoch[:])
	b = append(b, `","i":`...)
	b = strconv.AppendUint(b, l.Index, 10)
	b = append(b, `,"kind":"`...)
	b = append(b, l.Kind...)
	b = append(b, `","at":`...)
	b = strconv.AppendInt(b, l.At, 10)
	b = append(b, `,"clock":"`...)
	b = append(b, l.Clock...)
	b = append(b, `","boot":"`...)
	b = append(b, l.Boot...)
	b = append(b, `","mono":`...)
	b = strconv.AppendInt(b, l.Mono, 10)
	b = append(b, `,"body":`...)
	b = append(b, l.Body...)
	if l.Commitment != nil {
		b = append(b, `,"c":"`...)
		b = hex.AppendEncode(b, l.Commitment[:])
		b = append(b, '"')
	}
	b = append(b, '}')
	if len(b) > MaxLeaf {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrLeaf, len(b), MaxLeaf)
	}
	return b, nil
}

func (l *Leaf) check() error {
	switch {
	case !IsID(l.Network):
		return fmt.Errorf("net %q is not an id", clip(l.Network))
	case !IsID(l.Node):
		return fmt.Errorf("node %q is not an id", clip(l.Node))
	case !IsID(l.Edge):
		return fmt.Errorf("edge %q is not an id", clip(l.Edge))
	case !IsID(string(l.Kind)):
		return fmt.Errorf("kind %q is not an id", clip(string(l.Kind)))
	case l.Clock != Synced && l.Clock != Unsure:
		return fmt.Errorf("clock %q is neither synced nor unsure", clip(string(l.Clock)))
	case len(l.Boot) != 16 || decodeHex(make([]byte, 8), l.Boot) != nil:
		return fmt.Errorf("boot %q is not 16 hex digits", clip(l.Boot))
	case l.At < 0 || l.Mono < 0:
		return fmt.Errorf("negative time (at %d, mono %d)", l.At, l.Mono)
	case l.Index > 1<<62:
		return fmt.Errorf("index %d past 2^62", l.Index)
	case l.Commitment != nil && (l.Mono != 0 || l.At%HourMS != 0):
		// The exact moment belongs to the person and lives in the private part, so that erasing that part erases it.
		return fmt.Errorf("a leaf with a commitment carries the hour only (at %d, mono %d)", l.At, l.Mono)
	}
	if len(l.Body) == 0 || l.Body[0] != '{' {
		return errors.New("body is not an object")
	}
	if err := CheckJSON(l.Body); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	return nil
}

// Parse reads one line as Encode wrote it; anything else, down to a space or another key order, is refused, because a
// second spelling of the same fact would be a second hash. It keeps no reference to b.
func Parse(b []byte) (Leaf, error) {
	l, err := parse(b)
	if err != nil {
		return Leaf{}, fmt.Errorf("%w: %w", ErrLeaf, err)
	}
	return l, nil
}

func parse(b []byte) (Leaf, error) {
	var l Leaf
	if len(b) > MaxLeaf {
		return l, fmt.Errorf("%d bytes, limit %d", len(b), MaxLeaf)
	}
	s := scan{b: string(b)}
	s.lit(`{"v":1,"net":"`)
	l.Network = s.until('"')
	s.lit(`,"node":"`)
	l.Node = s.until('"')
	s.lit(`,"edge":"`)
	l.Edge = s.until('"')
	s.lit(`,"epoch":"`)
	epoch := s.until('"')
	s.lit(`,"i":`)
	l.Index = s.uint()
	s.lit(`,"kind":"`)
	l.Kind = Kind(s.until('"'))
	s.lit(`,"at":`)
	l.At = int64(s.uint())
	s.lit(`,"clock":"`)
	l.Clock = Clock(s.until('"'))
	s.lit(`,"boot":"`)
	l.Boot = s.until('"')
	s.lit(`,"mono":`)
	l.Mono = int64(s.uint())
	s.lit(`,"body":`)
	l.Body = json.RawMessage(s.value())
	if s.peek(`,"c":"`) {
		s.lit(`,"c":"`)
		var c [32]byte
		if err := decodeHex(c[:], s.until('"')); err != nil && s.err == nil {
			s.err = fmt.Errorf("commitment: %w", err)
		}
		l.Commitment = &c
	}
	s.lit(`}`)
	if s.err == nil && s.at != len(s.b) {
		s.err = fmt.Errorf("%d bytes after the end", len(s.b)-s.at)
	}
	if s.err != nil {
		return l, s.err
	}
	e, err := ParseEpoch(epoch)
	if err != nil {
		return l, err
	}
	l.Epoch = e
	return l, l.check()
}

// IsID reports whether s is a slug: a lower-case letter or digit, then up to 47 of those or '-'. Ids need no escaping
// in JSON, in topics, in file names or in URLs, which is the reason for the narrow alphabet.
func IsID(s string) bool {
	if len(s) == 0 || len(s) > MaxID || s[0] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

const commitDomain = "kith/commitment/v1\n"

// Commit binds a private part to its leaf: SHA-256(domain, 32-byte salt, private bytes). The salt is random and is
// erased together with the part; without it a guess of the part cannot be checked against the commitment.
func Commit(salt [32]byte, private []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(commitDomain))
	h.Write(salt[:])
	h.Write(private)
	return [32]byte(h.Sum(nil))
}

func decodeHex(dst []byte, s string) error {
	if len(s) != 2*len(dst) {
		return fmt.Errorf("want %d hex digits, have %d", 2*len(dst), len(s))
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 'A' && c <= 'F' {
			return errors.New("hex digits are lower case")
		}
	}
	_, err := hex.Decode(dst, []byte(s))
	return err
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
