package store

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"kith/internal/access"
	"kith/internal/event"
)

// I9: whoever is erased, at whatever moment, and whatever edges send before and after, every root, receipt and proof stands as
// it stands without any erasure; what was erased stays erased, what comes later of the same person is not kept, and all else
// stays as it was sent.
func TestErasingAnybodyAtAnyTimeMovesNoRootAndNoProof(t *testing.T) {
	members := []string{"m0", "m1", "m2", "m3"}
	rapid.Check(t, func(rt *rapid.T) {
		s := fresh(t)
		defer func() { s.Close() }()
		edges := []*edgeLog{newEdge("lisbon", "lisbon-front", 1), newEdge("porto", "porto-front", 1)}
		whose, state := map[Address]string{}, map[Address]PrivateState{}
		var gone []string
		arrives := func(a Address) {
			if state[a] = PrivatePresent; slices.Contains(gone, whose[a]) {
				state[a] = PrivateErased
			}
		}
		for range rapid.IntRange(3, 9).Draw(rt, "steps") {
			e := rapid.SampledFrom(edges).Draw(rt, "edge")
			at := func(i uint64) Address { return Address{e.edge, e.epoch, i} }
			what := rapid.SampledFrom([]string{"send", "erase one", "repeat", "erase member", "send", "repeat", "erase member", "reopen"}).Draw(rt, "step")
			switch {
			case what == "send":
				from := e.tree.size
				var leaves []event.Leaf
				for range rapid.IntRange(1, 6).Draw(rt, "leaves") {
					a := at(e.tree.size)
					whose[a] = rapid.SampledFrom(members).Draw(rt, "member")
					leaves = append(leaves, e.tap(t, whose[a], hour+int64(a.Index)))
				}
				a := e.accepted(t, from, leaves)
				a.Private = slices.DeleteFunc(a.Private, func(p PrivatePart) bool { // some come late
					late := rapid.Bool().Draw(rt, "late")
					if state[at(p.Index)] = PrivateNone; !late {
						arrives(at(p.Index))
					}
					return late
				})
				commit(t, s, a)
			case what == "repeat" && e.tree.size > 0:
				a := e.accepted(t, 0, nil)
				a.Bundle, a.Log = nil, e.log(t)
				commit(t, s, a)
				for _, p := range a.Private {
					if state[at(p.Index)] == PrivateNone {
						arrives(at(p.Index))
					}
				}
			case what == "erase member":
				m, want := rapid.SampledFrom(members).Draw(rt, "erased"), 0
				for a, who := range whose {
					if who == m && state[a] == PrivatePresent {
						state[a] = PrivateErased
						want++
					}
				}
				gone = append(gone, m)
				if n := forget(t, s, gone...); n != want {
					rt.Fatalf("%d parts of %s erased, want %d", n, m, want)
				}
			case what == "erase one" && e.tree.size > 0:
				a := at(rapid.Uint64Range(0, e.tree.size-1).Draw(rt, "which"))
				if err := s.Erase(t.Context(), a); err != nil {
					rt.Fatal(err)
				}
				state[a] = PrivateErased // also one that has not come yet: it is not kept when it comes
			case what == "reopen":
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				s = open(t, s.dir)
				list := erasures(gone...)
				s.Heed(func() *access.Erasures { return list })
			}
			logs, err := s.Logs(t.Context())
			if err != nil {
				rt.Fatal(err)
			}
			for _, l := range logs {
				e := edges[slices.IndexFunc(edges, func(e *edgeLog) bool { return e.edge == l.Edge })]
				if want := e.log(t); l.Root != want.Root || l.Size != want.Size || !bytes.Equal(l.Receipt, want.Receipt) {
					rt.Fatalf("the log of %s stands at %d %x, want %d %x", l.Edge, l.Size, l.Root, want.Size, want.Root)
				}
			}
			for a := range whose {
				e := edges[slices.IndexFunc(edges, func(e *edgeLog) bool { return e.edge == a.Edge })]
				part, is, err := s.Private(t.Context(), a)
				var want []byte
				if is == PrivatePresent {
					want = e.parts[a.Index].Bytes
				}
				if err != nil || is != state[a] || !bytes.Equal(part.Bytes, want) {
					rt.Fatalf("%v of %s: %q %q, want %q (%v)", a, whose[a], is, part.Bytes, state[a], err)
				}
				line, err := s.Line(t.Context(), a)
				if err != nil || (line.Member != "") != (is == PrivatePresent) {
					rt.Fatalf("%v is %q and its line tells of %q (%v)", a, is, line.Member, err)
				}
			}
		}
		erased := uint64(0)
		for a, is := range state {
			if p, err := s.Inclusion(t.Context(), a); err != nil || !p.Holds {
				rt.Fatalf("the proof of %v: %+v %v", a, p, err)
			}
			if is == PrivateErased {
				erased++
			}
		}
		if r := verify(t, s); !r.OK() || r.Erased != erased {
			rt.Fatalf("%d erased: %+v", erased, r)
		}
	})
}
