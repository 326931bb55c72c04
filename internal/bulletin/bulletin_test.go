package bulletin

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func hub(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

func keys(t testing.TB, vkeys ...string) Keys {
	t.Helper()
	k, err := ParseKeys(vkeys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var sample = Describe(Header{Network: "kith", Node: "lisbon", Version: 3, Issued: 1_790_000_000}, []byte("{}\n"))

func TestRosterNoteHasExactlyTheAgreedText(t *testing.T) {
	s, vkey := hub(t, "hub")
	signed, err := SignRoster(sample, s)
	if err != nil {
		t.Fatal(err)
	}
	// The hash is that of "{}\n" as sha256sum prints it.
	want := "kith roster v1\nkith/lisbon\n3\nca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356\n3\n1790000000\n\n— hub "
	if !strings.HasPrefix(string(signed), want) {
		t.Fatalf("note is\n%s", signed)
	}
	got, err := OpenRoster(signed, keys(t, vkey))
	if err != nil || got != sample {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestTicketNoteHasExactlyTheAgreedText(t *testing.T) {
	s, vkey := hub(t, "hub")
	ticket := Ticket{Network: "kith", Node: "lisbon", RosterVersion: 3, Issued: 1_790_000_000, Until: 1_790_086_400}
	signed, err := SignTicket(ticket, s)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(signed), "kith ticket v1\nkith/lisbon\n3\n1790000000\n1790086400\n\n— hub ") {
		t.Fatalf("note is\n%s", signed)
	}
	got, err := OpenTicket(signed, keys(t, vkey))
	if err != nil || got != ticket {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err := OpenRoster(signed, keys(t, vkey)); !errors.Is(err, ErrFormat) {
		t.Fatalf("a ticket passed as a roster: %v", err)
	}
}

func TestAProofTakesADocumentInPieces(t *testing.T) {
	doc := bytes.Repeat([]byte("kith"), 1000)
	h := Describe(Header{Version: 3}, doc)
	p := h.Proof()
	for rest := doc; len(rest) > 0; {
		n := min(len(rest), 7)
		if err := p.Err(); !errors.Is(err, ErrDocument) {
			t.Fatalf("proved with %d bytes to come: %v", len(rest), err)
		}
		if m, err := p.Write(rest[:n]); m != n || err != nil {
			t.Fatal(m, err)
		}
		rest = rest[n:]
	}
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	_, _ = p.Write([]byte("k"))
	if err := p.Err(); !errors.Is(err, ErrDocument) {
		t.Fatalf("one byte more: %v", err)
	}
	doc[5] ^= 1
	if err := h.Matches(doc); !errors.Is(err, ErrDocument) {
		t.Fatalf("one bit less: %v", err)
	}
}

func TestOnlyAKnownKeyCounts(t *testing.T) {
	s, _ := hub(t, "hub")
	other, otherKey := hub(t, "hub")
	signed, _ := SignRoster(sample, s)
	if _, err := OpenRoster(signed, keys(t, otherKey)); !errors.Is(err, ErrSignature) {
		t.Fatalf("a foreign key of the same name was taken: %v", err)
	}
	both, err := note.Sign(&note.Note{Text: sample.text()}, s, other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRoster(both, keys(t, otherKey)); err != nil {
		t.Fatalf("one of two keys should do while keys are changed: %v", err)
	}
}

func TestEveryFlippedByteIsRefused(t *testing.T) {
	s, vkey := hub(t, "hub")
	signed, _ := SignRoster(sample, s)
	k := keys(t, vkey)
	for i := range signed {
		bad := bytes.Clone(signed)
		bad[i] ^= 1
		if h, err := OpenRoster(bad, k); err == nil {
			t.Fatalf("byte %d flipped and still opened as %+v", i, h)
		}
	}
}

func TestSignedNonsenseIsRefused(t *testing.T) {
	s, vkey := hub(t, "hub")
	k := keys(t, vkey)
	good := sample.text()
	for _, text := range []string{
		strings.Replace(good, "v1", "v2", 1),
		strings.Replace(good, "kith/lisbon", "kith", 1),
		strings.Replace(good, "kith/lisbon", "kith/Lisbon", 1),
		strings.Replace(good, "kith/lisbon", "kith/lisbon/x", 1),
		strings.Replace(good, "\n3\n", "\n03\n", 1),
		strings.Replace(good, "\n3\n", "\n+3\n", 1),
		strings.Replace(good, "\n3\n", "\n0\n", 1),
		strings.Replace(good, "\n3\n", "\n18446744073709551616\n", 1),
		strings.Replace(good, "ca3d", "CA3D", 1),
		strings.Replace(good, "ca3d", "ca3", 1),
		strings.Replace(good, "\n3\n1790000000\n", "\n67108865\n1790000000\n", 1),
		strings.Replace(good, "\n3\n1790000000\n", "\n-3\n1790000000\n", 1),
		strings.Replace(good, "1790000000", "99999999999999", 1),
		good + "more\n",
		strings.Replace(good, "\n1790000000", "", 1),
	} {
		if text == good {
			t.Fatal("the case changes nothing")
		}
		signed, err := note.Sign(&note.Note{Text: text}, s)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := OpenRoster(signed, k); !errors.Is(err, ErrFormat) {
			t.Errorf("%q opened as %+v, %v", text, h, err)
		}
	}
	if _, err := OpenRoster(make([]byte, MaxNoteBytes+1), k); !errors.Is(err, ErrFormat) {
		t.Errorf("an oversize note: %v", err)
	}
}

func TestSigningRefusesWhatOpeningWould(t *testing.T) {
	s, _ := hub(t, "hub")
	for _, edit := range []func(*Header){
		func(h *Header) { h.Network = "a/b" }, func(h *Header) { h.Node = "a\nb" }, func(h *Header) { h.Version = 0 },
		func(h *Header) { h.Length = 0 }, func(h *Header) { h.Length = MaxDocumentBytes + 1 }, func(h *Header) { h.Issued = -1 },
	} {
		h := sample
		edit(&h)
		if _, err := SignRoster(h, s); err == nil {
			t.Errorf("signed %+v", h)
		}
	}
	for _, k := range []Ticket{
		{Network: "kith", Node: "lisbon", Issued: 1, Until: 2},
		{Network: "kith", Node: "lisbon", RosterVersion: 1, Issued: 2, Until: 2},
		{Network: "kith", Node: "lisbon", RosterVersion: 1, Issued: 1, Until: 2 + MaxTicketSeconds},
		{Network: "kith", Node: "", RosterVersion: 1, Issued: 1, Until: 2},
	} {
		if _, err := SignTicket(k, s); err == nil {
			t.Errorf("signed %+v", k)
		}
	}
}

func TestPartsRebuildTheDocument(t *testing.T) {
	for _, size := range []int{1, PartBytes - 1, PartBytes, PartBytes + 1, 3*PartBytes + 5} {
		doc := bytes.Repeat([]byte{7}, size)
		h := Describe(Header{}, doc)
		var back []byte
		for n := range h.Parts() {
			p := Part(doc, n)
			if len(p) != h.PartLength(n) {
				t.Fatalf("size %d part %d: %d bytes, PartLength %d", size, n, len(p), h.PartLength(n))
			}
			back = append(back, p...)
		}
		if err := h.Matches(back); err != nil {
			t.Fatal(err)
		}
		if Part(doc, h.Parts()) != nil || Part(doc, -1) != nil || h.PartLength(h.Parts()) != 0 {
			t.Fatalf("size %d: a part beyond the end exists", size)
		}
	}
}

func FuzzOpenRoster(f *testing.F) {
	s, vkey := hub(f, "hub")
	signed, _ := SignRoster(sample, s)
	k := keys(f, vkey)
	f.Add(signed)
	f.Add([]byte("kith roster v1\n\n— hub AAAA\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := OpenRoster(b, k)
		if err == nil && h != sample {
			t.Fatalf("forged %+v", h)
		}
	})
}

func ExampleOpenTicket() {
	skey, vkey, _ := note.GenerateKey(rand.Reader, "hub.kith")
	signer, _ := note.NewSigner(skey)
	signed, _ := SignTicket(Ticket{Network: "kith", Node: "lisbon", RosterVersion: 9, Issued: 1_790_000_000, Until: 1_790_086_400}, signer)
	hubKeys, _ := ParseKeys(vkey)
	ticket, err := OpenTicket(signed, hubKeys)
	fmt.Println(ticket.RosterVersion, ticket.Until-ticket.Issued, err)
	// Output: 9 86400 <nil>
}
