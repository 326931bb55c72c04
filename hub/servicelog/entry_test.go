package servicelog

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
)

type inHand struct{ card *card.PKOCCard }

func (i inHand) Transceive(_ context.Context, apdu []byte) ([]byte, error) {
	return i.card.Transceive(apdu), nil
}

// entered is an entry that a real card signed.
func entered(t *testing.T, kind event.Kind, e event.Entry) (event.Leaf, event.Private) {
	t.Helper()
	e.Evidence, e.Nonce = "A", event.FormatNonce([16]byte{7})
	l := leaf(t, kind, e)
	key, err := card.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id := event.Binding([16]byte{7}, event.EntryBytes(&l, &e))
	c, proof, err := card.Prove(t.Context(), inHand{card.NewPKOCCard(key)}, card.ReaderID{}, &id)
	if err != nil {
		t.Fatal(err)
	}
	body, err := event.Marshal(event.EntryPrivate{Note: "upstairs", Key: hex.EncodeToString(proof.PublicKey), Signature: hex.EncodeToString(proof.Signature)})
	if err != nil {
		t.Fatal(err)
	}
	return l, event.Private{At: hour + 61_000, Member: "ana", Card: c.ID(), Body: body}
}

func washing() event.Entry {
	return event.Entry{Resource: "washing-machine", Quantity: 1, Measure: "cycle", Home: "oaxaca", Day: 20_700}
}

func TestAnEntryReadsAsASentence(t *testing.T) {
	for want, c := range map[string]struct {
		kind event.Kind
		edit func(*event.Entry)
	}{
		"used washing machine, 1 cycle":                      {event.KindUse, func(*event.Entry) {}},
		"used washing machine, 3 cycles":                     {event.KindUse, func(e *event.Entry) { e.Quantity = 3 }},
		"worked: kitchen, 90 minutes":                        {event.KindWork, func(e *event.Entry) { e.Resource, e.Quantity, e.Measure = "kitchen", 90, "minute" }},
		"consumed power, 1200 wh":                            {event.KindConsume, func(e *event.Entry) { e.Resource, e.Quantity, e.Measure = "power", 1200, "wh" }},
		"handed over drill, 2 pieces to porto":               {event.KindTransfer, func(e *event.Entry) { e.Resource, e.Quantity, e.Measure, e.To = "drill", 2, "piece", "porto" }},
		"corrected an entry: used washing machine, 2 cycles": {event.KindUse, func(e *event.Entry) { e.Quantity, e.Corrects = 2, strings.Repeat("0", 32)+"/3" }},
		"took back an entry: used washing machine":           {event.KindUse, func(e *event.Entry) { e.Quantity, e.Corrects = 0, strings.Repeat("0", 32)+"/3" }},
	} {
		e := washing()
		c.edit(&e)
		l, p := entered(t, c.kind, e)
		line, ok := Project(l, &p)
		if got := Sentence(line); !ok || got != want || line.Member != "ana" || line.At != hour+61_000 || line.Assurance != "A" {
			t.Errorf("%q, want %q (%+v)", got, want, line)
		}
	}
	for _, k := range event.EntryKinds() {
		if Did(k) == strings.ReplaceAll(string(k), "-", " ") {
			t.Errorf("%s has no past", k)
		}
	}
	if _, ok := Project(leaf(t, event.KindUse, map[string]any{"resource": 7}), nil); ok {
		t.Error("a foreign body became a line")
	}
}

func steps(t *testing.T, l event.Leaf, p *event.Private) map[string]Step {
	t.Helper()
	line, ok := Project(l, p)
	if !ok {
		t.Fatal("no line")
	}
	out := map[string]Step{}
	for _, s := range Why(Question{Line: line, Leaf: l, Private: p, Member: &access.Member{ID: "ana", Name: "Ana", Home: "oaxaca", Role: "resident"}}) {
		out[s.Name] = s
	}
	return out
}

func TestTheWhyOfAnEntryChecksTheCardsSignature(t *testing.T) {
	l, p := entered(t, event.KindUse, washing())
	s := steps(t, l, &p)
	if s["evidence"].Mark != Yes || s["person"].Text != "Ana" || s["entry"].Detail != "upstairs" {
		t.Fatalf("%+v", s)
	}
	forged := l
	forged.Body = []byte(strings.Replace(string(l.Body), `"quantity":1`, `"quantity":9`, 1))
	if s = steps(t, forged, &p); s["evidence"].Mark != No {
		t.Fatalf("a forged quantity passed: %+v", s["evidence"])
	}
	if s = steps(t, l, nil); s["evidence"].Mark != Unknown || s["person"].Mark != Unknown || !strings.Contains(s["person"].Detail, "oaxaca") {
		t.Fatalf("erased: %+v", s)
	}
	one := washing()
	one.Evidence = "C"
	if s = steps(t, leaf(t, event.KindUse, one), &event.Private{Member: "ana", Card: "uid:04a1b2c3"}); s["evidence"].Mark != Plain || !strings.Contains(s["evidence"].Detail, "copy") {
		t.Fatalf("one-sided: %+v", s["evidence"])
	}
}

func TestACarriedEntryIsAnEntryAtItsOwnAddress(t *testing.T) {
	l, p := entered(t, event.KindUse, washing())
	part, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	salt := [32]byte{5}
	c := event.Commit(salt, part)
	l.Commitment = &c
	text, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	carrier := leaf(t, event.KindReplayed, event.Replayed{OldEpoch: l.Epoch.String(), OldIndex: l.Index, Leaf: string(text)})
	carrier.Epoch, carrier.Index = event.Epoch{9}, 1
	body, err := event.Marshal(event.ReplayedPrivate{Salt: hex.EncodeToString(salt[:]), Private: string(part)})
	if err != nil {
		t.Fatal(err)
	}
	private := &event.Private{Body: body}
	line, ok := Project(carrier, private)
	if !ok || line.Direction != Carried || line.Epoch != carrier.Epoch || line.Member != "ana" || Sentence(line) != "used washing machine, 1 cycle" {
		t.Fatalf("%+v", line)
	}
	if s := steps(t, carrier, private); s["evidence"].Mark != Yes {
		t.Fatalf("%+v", s)
	}
}
