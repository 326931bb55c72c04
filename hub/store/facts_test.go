package store

import (
	"fmt"
	"testing"

	"kith/internal/event"
)

func (e *edgeLog) doors(t *testing.T, names ...string) Accepted {
	t.Helper()
	from := e.tree.size
	var leaves []event.Leaf
	for _, name := range names {
		leaves = append(leaves, e.leaf(t, event.KindDoor, event.Door{Door: name, State: fmt.Sprintf("state-%d", e.tree.size)}, nil))
	}
	return e.accepted(t, from, leaves)
}

func numbered(from, to int) (names []string) {
	for i := from; i < to; i++ {
		names = append(names, fmt.Sprintf("door-%d", i))
	}
	return names
}

// However many things an edge invents, the table keeps the newest words of it, and those of other edges untouched.
func TestAnEdgeNamesOnlySoManyThings(t *testing.T) {
	s := fresh(t)
	honest, hostile := newEdge("lisbon", "lisbon-front", 1), newEdge("porto", "porto-front", 2)
	again := newEdge("porto", "porto-front", 3) // a later epoch of the same edge
	commit(t, s, honest.doors(t, "front", "back"))
	check := func(want int, dropped uint64) {
		t.Helper()
		all, err := s.Facts(t.Context(), "porto")
		if err != nil || len(all) != want {
			t.Fatalf("%d facts, want %d; %v", len(all), want, err)
		}
		if n, err := s.FactsDropped(t.Context(), "porto-front"); err != nil || n != dropped {
			t.Fatalf("%d dropped, want %d; %v", n, dropped, err)
		}
		if two, err := s.Facts(t.Context(), "lisbon"); err != nil || len(two) != 2 {
			t.Fatalf("%d facts of the honest edge, %v", len(two), err)
		}
		if r := verify(t, s); !r.OK() {
			t.Fatalf("%+v", r)
		}
	}
	// The same few things again and again drop nothing.
	for range 3 * MaxFacts / 100 {
		for range 4 {
			commit(t, s, hostile.doors(t, numbered(0, 25)...))
		}
	}
	check(25, 0)
	commit(t, s, hostile.doors(t, numbered(0, MaxFacts)...))
	check(MaxFacts, 0)
	// A refused commit changes neither rows nor what the writer believes of them.
	late := hostile.doors(t, "one-more")
	if s.Commit(t.Context(), []Accepted{late, {Log: late.Log, From: 1 << 20, Leaves: late.Leaves, Bundle: late.Bundle}}) == nil {
		t.Fatal("a gap was taken")
	}
	check(MaxFacts, 0)
	commit(t, s, late)
	check(MaxFacts, 1)
	commit(t, s, hostile.doors(t, numbered(1000, 1000+3*MaxFacts)...))
	check(MaxFacts, 1+3*MaxFacts)
	// One of the oldest speaks again and is heard; a late leaf of the older epoch takes nobody's place.
	commit(t, s, again.doors(t, numbered(2000, 2000+MaxFacts)...))
	check(MaxFacts, 1+4*MaxFacts)
	commit(t, s, hostile.doors(t, "door-7"))
	check(MaxFacts, 2+4*MaxFacts)
	commit(t, s, again.doors(t, "door-7"))
	check(MaxFacts, 3+4*MaxFacts)
	all, _ := s.Facts(t.Context(), "porto")
	heard := false
	for _, f := range all {
		heard = heard || f.Subject == "door-7"
	}
	if !heard {
		t.Fatal("the newest word is not there")
	}
	// A database that is beyond the bound comes under it when it is opened.
	execSQL(t, s, `INSERT INTO facts SELECT edge, topic, 'old-' || subject, node, address - 1000000, at, value, why FROM facts WHERE edge = 'porto-front'`)
	dir := s.dir
	s.Close()
	s = open(t, dir)
	check(MaxFacts, 3+5*MaxFacts)
}
