package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"kith/internal/event"
)

// What the writer remembers of presence must never differ from the table, whatever was refused, erased or moved meanwhile.
func TestRememberedPlacesAreWhatTheTableSays(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		remembers, asks := fresh(t), fresh(t)
		edges := []*edgeLog{newEdge("lisbon", "lisbon-front", 1), newEdge("lisbon", "lisbon-back", 2), newEdge("porto", "porto-front", 3)}
		erased := 0
		for step := range 60 {
			clear(asks.places)
			e := edges[rng.IntN(len(edges))]
			from := e.tree.size
			var leaves []event.Leaf
			for range 1 + rng.IntN(4) {
				leaves = append(leaves, e.tap(t, fmt.Sprintf("m%d", rng.IntN(6)), hour+int64(rng.IntN(100_000))))
			}
			a := e.accepted(t, from, leaves)
			if rng.IntN(4) == 0 { // all of it is refused
				gap := a
				gap.From, gap.Log.Edge = 1<<20, "nobody"
				for _, s := range []*Store{remembers, asks} {
					if s.Commit(t.Context(), []Accepted{a, gap}) == nil {
						t.Fatal("a gap was taken")
					}
				}
			}
			commit(t, remembers, a)
			commit(t, asks, a)
			if rng.IntN(6) == 0 {
				who := fmt.Sprintf("m%d", rng.IntN(6))
				n, m := forget(t, remembers, who), forget(t, asks, who)
				if n != m {
					t.Fatal(n, m)
				}
				remembers.Heed(nil) // the same few people come back, under the same names
				asks.Heed(nil)
				erased += n
			}
			have, err := remembers.Presence(t.Context(), "")
			want, wrong := asks.Presence(t.Context(), "")
			if err != nil || wrong != nil || fmt.Sprint(have) != fmt.Sprint(want) {
				t.Fatalf("seed %d step %d:\nremembered %v\nin the table %v\n%v %v", seed, step, have, want, err, wrong)
			}
			for member, p := range remembers.places {
				stored, err := scanPlace(remembers.read.QueryRow(seenSelect+` WHERE p.member = ?`, member))
				if err != nil || *stored != *p {
					t.Fatalf("seed %d step %d: %s is remembered at %+v and stored at %+v: %v", seed, step, member, *p, *stored, err)
				}
			}
		}
		if len(remembers.places) == 0 || erased == 0 {
			t.Fatalf("seed %d: %d places remembered, %d parts erased: this run proves nothing", seed, len(remembers.places), erased)
		}
	}
}

// A row that somebody took from under the writer comes back with the next tap, instead of holding up every commit.
func TestAPlaceThatIsGoneIsMadeAgain(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 3))
	execSQL(t, s, `DELETE FROM presence`)
	commit(t, s, e.batch(t, 3))
	if seen, err := s.Presence(t.Context(), ""); err != nil || len(seen) != 3 {
		t.Fatal(len(seen), err)
	}
	// So does one whose line is gone, which nothing that is read can show.
	execSQL(t, s, `UPDATE presence SET line = 1`)
	clear(s.places)
	commit(t, s, e.batch(t, 3))
	if seen, err := s.Presence(t.Context(), ""); err != nil || len(seen) != 3 {
		t.Fatal(len(seen), err)
	}
	if r := verify(t, s); !r.OK() {
		t.Fatalf("%+v", r)
	}
}
