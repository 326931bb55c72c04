// Package card owns what a card can prove to a reader and how: the PKOC SE V1 protocol over ISO 14443-4, from the reader's
// side (Prove) and from the card's side (PKOCCard), the identity that comes out of it (Credential) and a card's key on disk.
//
// It holds no state between taps and starts no goroutine, so a crash loses nothing: a half-finished proof is no proof.
// It never decides who may enter, never touches hardware (a Channel carries the bytes), and never believes a byte of a card
// that is not bounded, parsed and, where it matters, verified.
//
// What a PKOC V1 proof says: whoever answered holds the private key of this public key now. What it does not say: the
// signature covers the transaction id alone, not the reader, the place or the version, so a live relay is not detected by it;
// and the public key goes out in clear, so a card can be recognised by any reader. A UID proves nothing at all: it is an
// identifier that anyone can copy, and it is marked so on every credential (assurance uid).
package card

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Assurance says how strongly a credential was proved.
type Assurance string

const (
	// PKOC means possession of a P-256 private key was proved with a fresh challenge.
	PKOC Assurance = "pkoc"
	// UID means a number was read that anyone can copy.
	UID Assurance = "uid"
)

// KeySize is the length of a PKOC credential, the X coordinate of a P-256 point, in bytes.
const KeySize = 32

// Credential is what a card is known by: a key (or a number) and how strongly it was proved.
type Credential struct {
	Assurance Assurance
	Key       []byte // PKOC: the 32 bytes of X. UID: the 4, 7 or 10 bytes of the UID.
}

// ErrNoCredential says that bytes or a text do not name a card that could be known again.
var ErrNoCredential = errors.New("not a credential")

// ID is the one spelling of a credential: "pkoc:" and 64, or "uid:" and 8, 14 or 20 lower hex digits.
func (c Credential) ID() string {
	return string(c.Assurance) + ":" + hex.EncodeToString(c.Key)
}

// ParseID reads the spelling that ID writes and no other, so that two texts never name one card.
// A PKOC X that lies on no point is let through: no card can ever prove it, so it opens nothing.
func ParseID(text string) (Credential, error) {
	kind, digits, ok := strings.Cut(text, ":")
	if !ok || len(digits) > 2*KeySize {
		return Credential{}, fmt.Errorf("card id: want pkoc:<64 hex digits> or uid:<8, 14 or 20 hex digits>: %w", ErrNoCredential)
	}
	if strings.ToLower(digits) != digits {
		return Credential{}, fmt.Errorf("card id: write hex digits in lower case: %w", ErrNoCredential)
	}
	key, err := hex.DecodeString(digits)
	if err != nil {
		return Credential{}, fmt.Errorf("card id: %w: after the colon only hex digits in pairs are allowed", ErrNoCredential)
	}
	switch Assurance(kind) {
	case PKOC:
		if len(key) != KeySize || uniform(key) {
			return Credential{}, fmt.Errorf("card id: a pkoc id is 64 hex digits of a public key, this is not: %w", ErrNoCredential)
		}
		return Credential{Assurance: PKOC, Key: key}, nil
	case UID:
		return NewUID(key)
	}
	return Credential{}, fmt.Errorf("card id: unknown kind %.16q, want pkoc or uid: %w", kind, ErrNoCredential)
}

// randomUID is the first byte of a single-size UID that the card draws anew at each activation (ISO 14443-3 6.5.4).
const randomUID = 0x08

// cascadeTag can never be the first byte of a single-size UID: it announces that more bytes follow (ISO 14443-3 6.5.4).
const cascadeTag = 0x88

// NewUID makes a credential of a UID that can stand for one card: of a legal size, fixed, and not a filler pattern.
func NewUID(uid []byte) (Credential, error) {
	switch {
	case len(uid) != 4 && len(uid) != 7 && len(uid) != 10:
		return Credential{}, fmt.Errorf("uid: %d bytes, want 4, 7 or 10: %w", len(uid), ErrNoCredential)
	case RandomUID(uid):
		return Credential{}, fmt.Errorf("uid: begins with 08, so the card draws it anew at each tap and it names nobody: %w", ErrNoCredential)
	case len(uid) == 4 && uid[0] == cascadeTag:
		return Credential{}, fmt.Errorf("uid: four bytes that begin with 88 are half of a longer uid: %w", ErrNoCredential)
	case uniform(uid):
		return Credential{}, fmt.Errorf("uid: one byte repeated is a filler, not an identity: %w", ErrNoCredential)
	}
	return Credential{Assurance: UID, Key: bytes.Clone(uid)}, nil
}

// RandomUID reports whether the card made this UID up for this one activation, as phones and private cards do.
func RandomUID(uid []byte) bool { return len(uid) == 4 && uid[0] == randomUID }

// uniform reports whether b is one byte repeated, as an erased or unprogrammed number is.
func uniform(b []byte) bool {
	return len(b) > 0 && bytes.Count(b, b[:1]) == len(b)
}

// Target is one ISO 14443-A card as the reader found it.
type Target struct {
	UID  []byte
	ATQA [2]byte // as sent by the reader chip, high byte first
	SAK  byte
	ATS  []byte // with its length byte TL in front; empty if the card gave none
}

// sakISODEP is the SAK bit that announces ISO 14443-4 (ISO 14443-3 6.5.3, bit 6).
const sakISODEP = 0x20

// ISODEP reports whether the card takes APDUs.
func (t Target) ISODEP() bool { return t.SAK&sakISODEP != 0 }

// Channel is one ISO 14443-4 card in the field. Transceive sends one APDU at most once and returns the whole answer with its
// status word. An error means the answer will never come: the card left, the link failed or ctx ended; nothing is retried.
// The answer is valid until the next call. A Channel is used from one goroutine.
type Channel interface {
	Transceive(ctx context.Context, apdu []byte) ([]byte, error)
}
