package roster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"kith/internal/access"
	"kith/internal/bulletin"
)

// deliver brings a roster the way it comes from the hub: offered, and its parts collected beside the one in force.
func (h testHub) deliver(t testing.TB, s *Store, version uint64, members ...string) error {
	t.Helper()
	d := document(version, members[0])
	for _, m := range members[1:] {
		d.Members = append(d.Members, access.Member{ID: m, Role: access.RoleGuest})
	}
	signed, text := h.sign(t, d)
	a := s.Assembler()
	return collect(t, s, &a, signed, text)
}

func collect(t testing.TB, s *Store, a *Assembler, signed, text []byte) error {
	t.Helper()
	header, err := s.VerifyHeader(signed)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Offer(header, signed) {
		t.Fatal("the offer was not taken")
	}
	for {
		_, n, _ := a.Next()
		note, doc, err := a.Part(header, n, bulletin.Part(text, n))
		if err != nil {
			return err
		}
		if doc != nil {
			return s.Install(note, doc)
		}
	}
}

// crowd is enough people for a document of several parts.
func crowd() []string {
	var ids []string
	for i := range 4000 {
		ids = append(ids, fmt.Sprintf("somebody-with-a-long-name-%06d", i))
	}
	return ids
}

func TestADiskThatFailsAtAnyStepOfADeliveryKeepsNoRevokedCardWorking(t *testing.T) {
	hub := newHub(t)
	base := newPaper()
	hub.install(t, hub.open(t, base), 5, "ana")
	probe := base.after(true, false)
	s := hub.open(t, probe)
	probe.steps = 0
	if err := hub.deliver(t, s, 6, crowd()...); err != nil {
		t.Fatal(err)
	}
	if probe.steps < 15 {
		t.Fatalf("only %d steps: the model sees too little", probe.steps)
	}
	for fails := range probe.steps {
		d := base.after(true, false)
		s := hub.open(t, d)
		d.left = fails
		if err := hub.deliver(t, s, 6, crowd()...); !errors.Is(err, errCut) {
			t.Fatalf("failing from step %d on: not said: %v", fails, err)
		}
		if s.Held().Version != 6 || s.Current().Version() != 6 || s.Status().Broken == nil {
			t.Fatalf("failing from step %d on: the new roster is not in force, or nobody is told that it may not last", fails)
		}
		if v := hub.open(t, d.after(true, false)).Held().Version; v != 5 && v != 6 {
			t.Fatalf("failing from step %d on: a cut leaves %d", fails, v)
		}
		d.left = -1
		if err := s.Persist(); err != nil || s.waiting() || s.Status().Broken != nil {
			t.Fatalf("failing from step %d on: a healed disk did not take it: %v %v", fails, err, s.Status().Broken)
		}
		back := hub.open(t, d.after(true, false))
		if n, _, _ := back.Current().Len(); back.Held().Version != 6 || n != len(crowd()) {
			t.Fatalf("failing from step %d on: version %d, %d people after the disk healed", fails, back.Held().Version, n)
		}
	}
}

func TestADiskThatGivesNothingBackIsNotReliedOn(t *testing.T) {
	hub := newHub(t)
	d := newPaper()
	s := hub.open(t, d)
	hub.install(t, s, 5, "ana")
	a := s.Assembler()
	signed, text := hub.roster(t, 6, "ben")
	d.blind = true
	if err := collect(t, s, &a, signed, text); !errors.Is(err, errCut) || s.Held().Version != 5 {
		t.Fatalf("what cannot be read was installed: %v", err)
	}
	if err := collect(t, s, &a, signed, text); err != nil || s.Held().Version != 6 {
		t.Fatalf("memory was not used instead: %v", err)
	}
	doc := newDocument(d, signed)
	if err := doc.add(text); err != nil {
		t.Fatal(err)
	}
	d.left = 0
	for range 2 { // the second try must not write a file without its text
		if err := doc.store(d, rosterName); !errors.Is(err, errCut) {
			t.Fatalf("stored what is gone: %v", err)
		}
		d.left = -1
	}
	d.blind = false
	if back := hub.open(t, d.after(true, false)); back.Held().Version != 6 || back.Status().Broken != nil {
		t.Fatalf("%+v", back.Status())
	}
}

func TestABegunDocumentMayBeReplacedAndDropped(t *testing.T) {
	hub := newHub(t)
	d := newPaper()
	s := hub.open(t, d)
	a := s.Assembler()
	people := document(6, "ana")
	for _, id := range crowd() {
		people.Members = append(people.Members, access.Member{ID: id, Role: access.RoleGuest})
	}
	signed, long := hub.sign(t, people)
	h, err := s.VerifyHeader(signed)
	if err != nil || !a.Offer(h, signed) {
		t.Fatal(err)
	}
	if _, _, err := a.Part(h, 0, bulletin.Part(long, 0)); err != nil {
		t.Fatal(err)
	}
	newer, short := hub.roster(t, 7, "ben")
	if err := collect(t, s, &a, newer, short); err != nil || s.Held().Version != 7 {
		t.Fatal(err)
	}
	if back := hub.open(t, d.after(true, false)); back.Held().Version != 7 {
		t.Fatalf("version %d: a longer text was left under the newer", back.Held().Version)
	}
	people.Version = 8
	people.Issued = epoch + 8
	signed, long = hub.sign(t, people)
	if h, err = s.VerifyHeader(signed); err != nil || !a.Offer(h, signed) || d.now[partsName] == nil {
		t.Fatal("no file for the parts", err)
	}
	a.Drop()
	if _, _, wanted := a.Next(); wanted || d.now[partsName] != nil {
		t.Fatal("dropped, and still there")
	}
}

func TestAssemblerTakesPartsOnceAndInOrder(t *testing.T) {
	doc := bytes.Repeat([]byte("kith"), bulletin.PartBytes/2+7)
	h := bulletin.Describe(bulletin.Header{Network: "kith", Node: "lisbon", Version: 2}, doc)
	older := bulletin.Describe(bulletin.Header{Network: "kith", Node: "lisbon", Version: 1}, doc)
	var a Assembler
	if _, _, wanted := a.Next(); wanted {
		t.Fatal("wants a part of nothing")
	}
	if !a.Offer(h, []byte("note")) || a.Offer(older, nil) {
		t.Fatal("the newer offer must win")
	}
	for n := range h.Parts() {
		got, part, wanted := a.Next()
		if got != h || part != n || !wanted {
			t.Fatalf("wants %v %d %t", got, part, wanted)
		}
		for _, other := range []int{n - 1, n + 1} {
			if _, d, err := a.Part(h, other, bulletin.Part(doc, other)); d != nil || err != nil {
				t.Fatalf("part %d while %d is wanted: %v", other, n, err)
			}
		}
		if _, d, err := a.Part(older, n, bulletin.Part(doc, n)); d != nil || err != nil {
			t.Fatal("a part of another document was looked at")
		}
		a.Offer(h, []byte("note")) // the same offer again must not start anew
		note, got2, err := a.Part(h, n, bulletin.Part(doc, n))
		if err != nil {
			t.Fatal(err)
		}
		if last := n == h.Parts()-1; last != (got2 != nil) || (last && (!bytes.Equal(text(t, got2), doc) || string(note) != "note")) {
			t.Fatalf("part %d of %d: done %t", n, h.Parts(), got2 != nil)
		}
	}
	if _, _, wanted := a.Next(); wanted {
		t.Fatal("still wants after the end")
	}
}

func TestAssemblerRefusesWrongPartsAndStartsAnew(t *testing.T) {
	doc := bytes.Repeat([]byte("k"), bulletin.PartBytes+1)
	h := bulletin.Describe(bulletin.Header{Version: 2}, doc)
	var a Assembler
	a.Offer(h, nil)
	if _, _, err := a.Part(h, 0, doc[:7]); !errors.Is(err, bulletin.ErrDocument) {
		t.Fatalf("a short part: %v", err)
	}
	a.Offer(h, nil)
	if _, _, err := a.Part(h, 0, doc); !errors.Is(err, bulletin.ErrDocument) {
		t.Fatalf("a long part: %v", err)
	}
	a.Offer(h, nil)
	_, _, _ = a.Part(h, 0, doc[:bulletin.PartBytes])
	if _, d, err := a.Part(h, 1, []byte("x")); d != nil || !errors.Is(err, bulletin.ErrDocument) {
		t.Fatalf("a document with another hash: %v", err)
	}
	if _, _, wanted := a.Next(); wanted {
		t.Fatal("goes on with a document that is wrong")
	}
	h.Length = bulletin.MaxDocumentBytes + 1
	if a.Offer(h, nil) {
		t.Fatal("a document beyond the limit is taken")
	}
}

func text(t testing.TB, doc *Document) []byte {
	t.Helper()
	b, err := io.ReadAll(doc.read())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ExampleAssembler() {
	doc := []byte(`{"network":"kith","node":"lisbon"}`)
	h := bulletin.Describe(bulletin.Header{Network: "kith", Node: "lisbon", Version: 1}, doc)
	var a Assembler
	a.Offer(h, []byte("the signed note"))
	for {
		header, part, wanted := a.Next()
		if !wanted {
			break
		}
		_, whole, err := a.Part(header, part, bulletin.Part(doc, part)) // as the hub answers
		if whole != nil {
			fmt.Println("whole", err)
		}
	}
	// Output: whole <nil>
}
