package card

import (
	"context"
	"encoding/hex"
	"errors"
	"testing"

	"kith/internal/event"
)

type held struct{ card *PKOCCard }

func (d held) Transceive(_ context.Context, apdu []byte) ([]byte, error) {
	return d.card.Transceive(apdu), nil
}

// sign lets a new card answer a transaction id, as a reader would.
func sign(t *testing.T, id [16]byte) (string, Proof) {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c, proof, err := Prove(t.Context(), held{NewPKOCCard(key)}, ReaderID{}, &id)
	if err != nil {
		t.Fatal(err)
	}
	return c.ID(), proof
}

// bound is an entry as a kiosk records it, before it is encoded.
type bound struct {
	leaf    event.Leaf
	entry   event.Entry
	private event.Private
	part    event.EntryPrivate
}

func (b bound) check(t *testing.T) error {
	t.Helper()
	var err error
	if b.leaf.Body, err = event.EncodeEntry(b.leaf.Kind, b.entry); err != nil {
		t.Fatal(err)
	}
	if b.private.Body, err = event.Marshal(b.part); err != nil {
		t.Fatal(err)
	}
	return CheckBinding(b.leaf, b.private)
}

// work is an hour in the kitchen that two cards signed.
func work(t *testing.T) bound {
	t.Helper()
	nonce, second := [16]byte{1}, [16]byte{2}
	b := bound{leaf: event.Leaf{Network: "demo", Node: "lisbon", Edge: "lisbon-front", Kind: event.KindWork}, private: event.Private{Member: "ana"},
		entry: event.Entry{Resource: "kitchen", Quantity: 60, Measure: "minute", Home: "oaxaca", Day: 20_700, Evidence: "A", Nonce: event.FormatNonce(nonce)}}
	entry := event.EntryBytes(&b.leaf, &b.entry)
	id, proof := sign(t, event.Binding(nonce, entry))
	b.private.Card, b.part.Key, b.part.Signature = id, hex.EncodeToString(proof.PublicKey), hex.EncodeToString(proof.Signature)
	id, proof = sign(t, event.WitnessBinding(second, "ana", b.private.Card, entry))
	b.part.WitnessMember, b.part.WitnessCard, b.part.WitnessNonce = "ben", id, event.FormatNonce(second)
	b.part.WitnessKey, b.part.WitnessSignature = hex.EncodeToString(proof.PublicKey), hex.EncodeToString(proof.Signature)
	return b
}

func TestBindingHoldsForThisEntryThisNonceAndThisCardAlone(t *testing.T) {
	if err := work(t).check(t); err != nil {
		t.Fatal(err)
	}
	alone := work(t)
	alone.part.WitnessMember, alone.part.WitnessCard, alone.part.WitnessNonce, alone.part.WitnessKey, alone.part.WitnessSignature = "", "", "", "", ""
	if err := alone.check(t); err != nil {
		t.Fatalf("without a witness: %v", err)
	}
	other := work(t) // another pair of cards over the same entry
	for name, edit := range map[string]func(*bound){
		"another quantity":                     func(b *bound) { b.entry.Quantity++ },
		"another resource":                     func(b *bound) { b.entry.Resource = "garden" },
		"another day":                          func(b *bound) { b.entry.Day++ },
		"another verb":                         func(b *bound) { b.leaf.Kind = event.KindDeliverService },
		"another place":                        func(b *bound) { b.leaf.Node = "porto" },
		"another edge":                         func(b *bound) { b.leaf.Edge = "lisbon-back" },
		"another nonce":                        func(b *bound) { b.entry.Nonce = event.FormatNonce([16]byte{3}) },
		"another card is named":                func(b *bound) { b.private.Card = other.private.Card },
		"another card's key":                   func(b *bound) { b.part.Key = other.part.Key },
		"another card's signature":             func(b *bound) { b.part.Signature = other.part.Signature },
		"another card, key and all":            func(b *bound) { b.private.Card, b.part.Key = other.private.Card, other.part.Key },
		"no signature":                         func(b *bound) { b.part.Signature = "" },
		"a short key":                          func(b *bound) { b.part.Key = b.part.Key[:64] },
		"another member, so another witness's": func(b *bound) { b.private.Member = "eva" },
		"a witness of another":                 func(b *bound) { b.part.WitnessSignature = other.part.WitnessSignature },
		"a witness without a nonce":            func(b *bound) { b.part.WitnessNonce = "" },
		"the member as witness":                func(b *bound) { b.part.WitnessMember = "ana" },
		"the member's card as witness": func(b *bound) {
			b.part.WitnessCard, b.part.WitnessKey, b.part.WitnessSignature = b.private.Card, b.part.Key, b.part.Signature
		},
		"a witness without a card": func(b *bound) { b.part.WitnessCard = "" },
	} {
		b := work(t)
		edit(&b)
		if err := b.check(t); !errors.Is(err, ErrBinding) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAHostsWordBindsTheHostAndAOneSidedEntryBindsNobody(t *testing.T) {
	b := work(t)
	b.entry.Evidence, b.entry.Nonce, b.private.Card, b.part.Key, b.part.Signature = "B", "", "", "", ""
	if err := b.check(t); !errors.Is(err, ErrBinding) { // the second card signed for a first one
		t.Fatalf("a witness's signature passed for a host's word: %v", err)
	}
	nonce := [16]byte{9}
	id, proof := sign(t, event.WitnessBinding(nonce, "ana", "", event.EntryBytes(&b.leaf, &b.entry)))
	b.part.WitnessCard, b.part.WitnessNonce = id, event.FormatNonce(nonce)
	b.part.WitnessKey, b.part.WitnessSignature = hex.EncodeToString(proof.PublicKey), hex.EncodeToString(proof.Signature)
	if err := b.check(t); err != nil {
		t.Fatal(err)
	}
	b.part.WitnessMember = "ana"
	if err := b.check(t); !errors.Is(err, ErrBinding) {
		t.Fatalf("ana is her own host: %v", err)
	}
	b.entry.Evidence = "C"
	if err := b.check(t); err != nil {
		t.Fatalf("class C claims nothing, so nothing can be wrong with it: %v", err)
	}
	b.leaf.Kind = event.KindTap
	b.leaf.Body = []byte(`{}`)
	if err := CheckBinding(b.leaf, b.private); !errors.Is(err, event.ErrEntry) {
		t.Fatalf("a tap is no entry: %v", err)
	}
}
