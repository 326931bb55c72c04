package event

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func bed() Entry {
	return Entry{Resource: "bed", Quantity: 2, Measure: "night", Home: "oaxaca", Day: 20_700, Evidence: EvidenceA,
		Nonce: "000102030405060708090a0b0c0d0e0f"}
}

// The vector is also in docs/FORMATS.md: a stranger's checker, written from there alone, must reach the same id.
func TestBindingIsExactlyTheDocumentedVector(t *testing.T) {
	e := bed()
	nonce, err := ParseNonce(e.Nonce)
	if err != nil {
		t.Fatal(err)
	}
	entry := EntryBytes(&Leaf{Network: "demo", Node: "lisbon", Edge: "lisbon-front", Kind: KindUse}, &e)
	const want = `{"net":"demo","node":"lisbon","edge":"lisbon-front","kind":"use","resource":"bed","quantity":2,"measure":"night","day":20700,"to":"","corrects":""}`
	if string(entry) != want {
		t.Fatalf("have %s\nwant %s", entry, want)
	}
	if CheckJSON(entry) != nil {
		t.Fatal("entry bytes are not compact JSON")
	}
	id := Binding(nonce, entry)
	if got := hex.EncodeToString(id[:]); got != "609e08f38c0dbff2311762a1b2c24011" {
		t.Fatalf("binding %s", got)
	}
	id = WitnessBinding(nonce, "ana", "uid:04a1b2c3d4e580", entry)
	if got := hex.EncodeToString(id[:]); got != "57b2e9265d790f2b70d1ff18dae0c94c" {
		t.Fatalf("witness binding %s", got)
	}
}

func TestEveryBoundFieldChangesTheBinding(t *testing.T) {
	leaf, e := Leaf{Network: "demo", Node: "lisbon", Edge: "lisbon-front", Kind: KindUse}, bed()
	seen := map[[NonceSize]byte]string{Binding([NonceSize]byte{}, EntryBytes(&leaf, &e)): "original"}
	try := func(name string, nonce [NonceSize]byte, edit func(*Leaf, *Entry)) {
		l, x := leaf, e
		edit(&l, &x)
		id := Binding(nonce, EntryBytes(&l, &x))
		if other, twice := seen[id]; twice {
			t.Errorf("%s binds like %s", name, other)
		}
		seen[id] = name
	}
	for name, edit := range map[string]func(*Leaf, *Entry){
		"network":  func(l *Leaf, _ *Entry) { l.Network = "other" },
		"node":     func(l *Leaf, _ *Entry) { l.Node = "porto" },
		"edge":     func(l *Leaf, _ *Entry) { l.Edge = "lisbon-back" },
		"kind":     func(l *Leaf, _ *Entry) { l.Kind = KindConsume },
		"resource": func(_ *Leaf, e *Entry) { e.Resource = "desk" },
		"quantity": func(_ *Leaf, e *Entry) { e.Quantity = 3 },
		"measure":  func(_ *Leaf, e *Entry) { e.Measure = "day" },
		"day":      func(_ *Leaf, e *Entry) { e.Day++ },
		"to":       func(_ *Leaf, e *Entry) { e.To = "porto" },
		"corrects": func(_ *Leaf, e *Entry) { e.Corrects = strings.Repeat("0", 32) + "/1" },
	} {
		try(name, [NonceSize]byte{}, edit)
	}
	try("nonce", [NonceSize]byte{1}, func(*Leaf, *Entry) {})
	entry := EntryBytes(&leaf, &e)
	for name, id := range map[string][NonceSize]byte{
		"witness":         WitnessBinding([NonceSize]byte{}, "ana", "", entry),
		"another member":  WitnessBinding([NonceSize]byte{}, "ben", "", entry),
		"another card":    WitnessBinding([NonceSize]byte{}, "ana", "uid:04a1b2c3", entry),
		"witness's nonce": WitnessBinding([NonceSize]byte{1}, "ana", "", entry),
	} {
		if other, twice := seen[id]; twice {
			t.Errorf("%s binds like %s", name, other)
		}
		seen[id] = name
	}
}

func TestAnEntryThatDoesNotHoldTogetherIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		kind Kind
		edit func(*Entry)
	}{
		"not an economic kind":       {KindTap, func(*Entry) {}},
		"resource":                   {KindUse, func(e *Entry) { e.Resource = "Bed" }},
		"measure":                    {KindUse, func(e *Entry) { e.Measure = "" }},
		"home":                       {KindUse, func(e *Entry) { e.Home = "" }},
		"nothing":                    {KindUse, func(e *Entry) { e.Quantity = 0 }},
		"less than nothing":          {KindUse, func(e *Entry) { e.Quantity = -1 }},
		"too much":                   {KindUse, func(e *Entry) { e.Quantity = MaxQuantity + 1 }},
		"day before the calendar":    {KindUse, func(e *Entry) { e.Day = -1 }},
		"evidence":                   {KindUse, func(e *Entry) { e.Evidence = "D" }},
		"class A without a nonce":    {KindUse, func(e *Entry) { e.Nonce = "" }},
		"nonce in upper case":        {KindUse, func(e *Entry) { e.Nonce = "000102030405060708090A0B0C0D0E0F" }},
		"a use that goes somewhere":  {KindUse, func(e *Entry) { e.To = "porto" }},
		"a transfer to nowhere":      {KindTransfer, func(*Entry) {}},
		"a person in public":         {KindTransfer, func(e *Entry) { e.To = "porto/ana" }},
		"correction of nothing":      {KindUse, func(e *Entry) { e.Corrects = "1" }},
		"correction with plus":       {KindUse, func(e *Entry) { e.Corrects = strings.Repeat("0", 32) + "/+1" }},
		"correction with zero ahead": {KindUse, func(e *Entry) { e.Corrects = strings.Repeat("0", 32) + "/01" }},
	} {
		e := bed()
		c.edit(&e)
		if _, err := EncodeEntry(c.kind, e); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e := bed()
	e.Quantity, e.Corrects = 0, strings.Repeat("0", 32)+"/12"
	if _, err := EncodeEntry(KindUse, e); err != nil {
		t.Errorf("an entry that takes another back: %v", err)
	}
}

func TestAnEntryHasOneSpelling(t *testing.T) {
	body, err := EncodeEntry(KindUse, bed())
	if err != nil {
		t.Fatal(err)
	}
	good := string(body)
	for name, bad := range map[string]string{
		"space":          strings.Replace(good, ":", ": ", 1),
		"order":          strings.Replace(good, `"resource":"bed","quantity":2`, `"quantity":2,"resource":"bed"`, 1),
		"unknown key":    strings.Replace(good, `{`, `{"x":1,`, 1),
		"other case":     strings.Replace(good, `"resource"`, `"Resource"`, 1),
		"empty to":       strings.Replace(good, `,"nonce"`, `,"to":"","nonce"`, 1),
		"escape":         strings.Replace(good, `bed`, `\u0062ed`, 1),
		"another value":  good + "{}",
		"number as text": strings.Replace(good, `:2,`, `:"2",`, 1),
		"nothing":        "",
		"too long":       strings.Replace(good, `bed`, strings.Repeat("b", MaxLeaf), 1),
	} {
		if _, err := ParseEntry(KindUse, []byte(bad)); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: accepted or another error: %v", name, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,47}`)
		e := Entry{Resource: id.Draw(t, "resource"), Quantity: rapid.Int64Range(1, MaxQuantity).Draw(t, "quantity"), Measure: id.Draw(t, "measure"),
			Home: id.Draw(t, "home"), Day: rapid.IntRange(0, maxDay).Draw(t, "day"), Evidence: rapid.SampledFrom([]string{"B", "C"}).Draw(t, "evidence")}
		body, err := EncodeEntry(KindWork, e)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseEntry(KindWork, body); err != nil || back != e {
			t.Fatalf("%+v: %v", back, err)
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	body, _ := EncodeEntry(KindUse, bed())
	f.Add([]byte(body))
	f.Add([]byte(`{"resource":"a","quantity":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(KindUse, b)
		if err != nil {
			return
		}
		if again, err := EncodeEntry(KindUse, e); err != nil || string(again) != string(b) {
			t.Fatalf("accepted a second spelling: %q -> %q (%v)", b, again, err)
		}
	})
}
