package kiosk

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
)

// all is everything the machine knows, as text.
func (b *bench) all() string {
	var s strings.Builder
	for _, x := range b.m.sessions {
		fmt.Fprintf(&s, "%+v %+v %+v %+v %+v\n", x.Session, x.first.Person, x.first.Card, x.use, x.usage)
	}
	for _, e := range b.m.book.recent {
		fmt.Fprintf(&s, "%+v\n", *e)
	}
	fmt.Fprintf(&s, "%v %+v", b.m.book.usage, b.m.keep())
	return s.String()
}

func TestForgettingLeavesNobodyAndTheRestAsItWas(t *testing.T) {
	for name, do := range map[string]func(b *bench) (mine string){
		"waiting on behalf": func(b *bench) string {
			return b.must(Proposal{Action: event.KindUse, Resource: "bed", Quantity: 1, Reader: reader, Member: "ana"})
		},
		"waiting for a witness": func(b *bench) string {
			id := b.must(Proposal{Action: event.KindWork, Resource: "kitchen", Quantity: 130, Reader: reader})
			b.tap("ana", card.PKOC)
			return id
		},
		"started": func(b *bench) string {
			id := b.must(Proposal{Action: event.KindUse, Resource: "workshop", Start: true, Reader: reader})
			b.tap("ana", card.PKOC)
			return id
		},
		"being stopped": func(b *bench) string {
			id := b.must(Proposal{Action: event.KindUse, Resource: "workshop", Start: true, Reader: reader})
			b.tap("ana", card.PKOC)
			return b.must(Proposal{Stop: id, Reader: reader})
		},
		"being recorded": func(b *bench) string {
			id := b.must(Proposal{Action: event.KindUse, Resource: "bed", Quantity: 1, Reader: reader})
			b.tap("ana", card.PKOC)
			return id
		},
		"recorded": func(b *bench) string {
			id := b.must(Proposal{Action: event.KindTransfer, Resource: "flour", Quantity: 1, Reader: reader, To: "oaxaca", ToMember: "ana"})
			b.tap("ben", card.PKOC)
			b.disk(nil)
			b.must(Proposal{Action: event.KindUse, Resource: "bed", Quantity: 1, Reader: reader})
			b.tap("ana", card.PKOC)
			b.disk(nil)
			return id
		},
	} {
		for _, failing := range []error{nil, errors.New("disk full")} {
			t.Run(fmt.Sprint(name, failing), func(t *testing.T) {
				b := newBench(t)
				other := b.must(Proposal{Action: event.KindUse, Resource: "bed", Quantity: 2, Reader: reader})
				b.tap("ben", card.PKOC)
				b.disk(nil)
				mine := do(b)
				if !strings.Contains(b.all(), "ana") {
					t.Fatal("nothing to forget")
				}
				recording := b.session(mine).State == Recording
				b.m.forget(func(id string) bool { return id == "ana" || id == string(card.PKOC)+":ana" })
				b.disk(failing)
				if all := b.all(); strings.Contains(all, "ana") || strings.Contains(all, "Ana") {
					t.Fatal(all)
				}
				if recording && !b.session(mine).State.Final() {
					t.Errorf("the reader waits for ever: %+v", b.session(mine))
				}
				if b.session(other).State != Recorded || b.m.book.find(b.session(other).Address) == nil || len(b.m.keep().Running) != 0 {
					t.Error("what somebody else entered is gone, or a use of nobody runs")
				}
				if _, busy := b.m.Waiting(b.now, reader, b.view); busy {
					t.Error("the reader still waits for somebody who is nobody")
				}
			})
		}
	}
}

func TestNobodyProposesForAnErasedPerson(t *testing.T) {
	var key access.ErasureKey
	key[3] = 7
	b := newBench(t)
	r, err := access.Compile(access.Document{Network: "demo", Node: "lisbon", Version: 2, Zone: "Europe/Lisbon", ErasureKey: fmt.Sprintf("%x", key[:]),
		Erased:    []string{key.Name("ana").String()},
		Members:   []access.Member{{ID: "ben", Name: "Ben", Role: access.RoleResident}},
		Resources: []access.Resource{{ID: "flour", Measure: "gram", Actions: []string{"use", "transfer"}}}})
	if err != nil {
		t.Fatal(err)
	}
	b.view.Roster = r
	for _, p := range []Proposal{
		{Action: event.KindTransfer, Resource: "flour", Quantity: 1, Reader: reader, To: "oaxaca", ToMember: "ana"},
		{Action: event.KindUse, Resource: "flour", Quantity: 1, Reader: reader, Member: "ana"},
		{Action: event.KindUse, Resource: "flour", Quantity: 1, Member: "ana"},
	} {
		var no *Refusal
		if _, err := b.propose(p); !errors.As(err, &no) || no.Reason != "unknown-member" || strings.Contains(b.all(), "ana") {
			t.Errorf("%+v: %v", p, err)
		}
	}
	b.must(Proposal{Action: event.KindTransfer, Resource: "flour", Quantity: 1, Reader: reader, To: "oaxaca", ToMember: "eva"})
}

// The file of started uses is what outlives the program, so forgetting is not done before it says so.
func TestForgettingFailsWhileTheFileStillNames(t *testing.T) {
	broken := errors.New("read-only")
	var kept []Use
	fails := true
	k := New(Config{}, Rooms{Keep: func(u []Use) error {
		if fails {
			return broken
		}
		kept = slices.Clone(u)
		return nil
	}}, []Use{{ID: "u1", Member: "ana", Resource: "workshop"}, {ID: "u2", Member: "ben", Resource: "workshop"}}, slog.New(slog.DiscardHandler))
	is := func(id string) bool { return id == "ana" }
	if err := k.Forget(is); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	fails = false
	if err := k.Forget(is); err != nil || len(kept) != 1 || kept[0].Member != "ben" {
		t.Fatalf("%v %+v", err, kept)
	}
}

// A host may have put somebody on the list and left them in the file: no search comes a second time for the file of started uses.
func TestNobodyErasedStartsAUse(t *testing.T) {
	var key access.ErasureKey
	key[3] = 7
	b := newBench(t)
	list := []string{key.Name("ana").String(), key.Name(string(card.PKOC) + ":ben").String()}
	slices.Sort(list)
	r, err := access.Compile(access.Document{Network: "demo", Node: "lisbon", Version: 2, Zone: "Europe/Lisbon", ErasureKey: fmt.Sprintf("%x", key[:]),
		Erased: list,
		Members: []access.Member{{ID: "ana", Name: "Ana", Role: access.RoleResident}, {ID: "ben", Name: "Ben", Role: access.RoleResident},
			{ID: "eva", Name: "Eva", Role: access.RoleResident}},
		Resources: []access.Resource{{ID: "workshop", Measure: "minute"}}})
	if err != nil {
		t.Fatal(err)
	}
	b.view.Roster = r
	for who, want := range map[string]State{"ana": Refused, "ben": Refused, "eva": Running} {
		id := b.must(Proposal{Action: event.KindUse, Resource: "workshop", Start: true, Reader: reader})
		b.tap(who, card.PKOC)
		s := b.session(id)
		if s.State != want || want == Refused && (s.Reason != "unknown-member" || strings.Contains(b.all(), who)) {
			t.Errorf("%s: %+v\n%s", who, s, b.all())
		}
	}
	if len(b.kept) != 1 || len(b.kept[0]) != 1 || b.kept[0][0].Member != "eva" {
		t.Errorf("written down: %+v", b.kept)
	}
}
