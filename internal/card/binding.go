package card

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"kith/internal/event"
)

// ErrBinding says that an entry is not what its card signed, or that no card of its class did.
var ErrBinding = errors.New("entry is not bound to its card")

// CheckBinding checks again, from the journal's bytes alone, what an entry's evidence claims:
//
//   - class A: the member's card signed Binding of this entry, and the key in the private part is that card's; when a
//     witness is named, the witness's card, another one, signed WitnessBinding.
//   - class B: the host's card signed WitnessBinding for this member and entry.
//   - class C: nothing, and nothing is claimed.
//
// It does not check that private belongs to leaf (that is the commitment's part), whose card it was (the roster's), or
// that a nonce was used once. What the signature proves and what not is said at event.Binding.
func CheckBinding(leaf event.Leaf, private event.Private) error {
	e, err := event.ParseEntry(leaf.Kind, leaf.Body)
	if err != nil {
		return fmt.Errorf("checking an entry: %w", err)
	}
	var p event.EntryPrivate
	if len(private.Body) > 0 {
		if err := json.Unmarshal(private.Body, &p); err != nil {
			return fmt.Errorf("checking an entry: private part: %w", err)
		}
	}
	bytes := event.EntryBytes(&leaf, &e)
	switch e.Evidence {
	case event.EvidenceA:
		nonce, err := event.ParseNonce(e.Nonce)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBinding, err)
		}
		if err := checkSigned(signed{private.Card, p.Key, p.Signature}, event.Binding(nonce, bytes)); err != nil {
			return fmt.Errorf("%w: the member's card: %w", ErrBinding, err)
		}
		if p.WitnessMember == "" && p.WitnessCard == "" {
			return nil
		}
		if p.WitnessCard == private.Card || p.WitnessMember == private.Member {
			return fmt.Errorf("%w: the witness is the member", ErrBinding)
		}
	case event.EvidenceB:
		if p.WitnessMember == private.Member {
			return fmt.Errorf("%w: the host who confirmed is the member", ErrBinding)
		}
	default:
		return nil
	}
	nonce, err := event.ParseNonce(p.WitnessNonce)
	if err != nil {
		return fmt.Errorf("%w: witness: %w", ErrBinding, err)
	}
	id := event.WitnessBinding(nonce, private.Member, private.Card, bytes)
	if err := checkSigned(signed{p.WitnessCard, p.WitnessKey, p.WitnessSignature}, id); err != nil {
		return fmt.Errorf("%w: the witness's card: %w", ErrBinding, err)
	}
	return nil
}

type signed struct{ card, key, signature string }

func checkSigned(s signed, id [event.NonceSize]byte) error {
	key, err := hex.DecodeString(s.key)
	if err != nil || len(key) != pointSize {
		return fmt.Errorf("key is not %d bytes in hex", pointSize)
	}
	sig, err := hex.DecodeString(s.signature)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if have := (Credential{Assurance: PKOC, Key: key[1 : 1+KeySize]}).ID(); have != s.card {
		return errors.New("the key is not the one of the named card")
	}
	return Verify(key, sig, id[:])
}
