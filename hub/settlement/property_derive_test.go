package settlement

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// I6 and I12 on the way into a period: over random cuts that grow, a leaf makes one obligation under one rule, in the first
// period that covers it, that its own date is not ahead of and whose policy takes its evidence. A journal that has ended says
// nothing after its final size, and no cut can let a journal shrink, fork or vanish.
func TestEveryLeafIsSettledOnceByTheFirstCutThatCoversIt(t *testing.T) {
	const periods = 4
	rapid.Check(t, func(rt *rapid.T) {
		policy := testPolicy()
		var events []Event
		for i := range rapid.IntRange(1, 24).Draw(rt, "events") {
			events = append(events, drawEvent(rt, uint64(i)))
		}
		ended := rapid.SampledFrom(seasonNodes).Draw(rt, "ended")
		final := rapid.Uint64Range(0, 24).Draw(rt, "final size")
		sizes, settled := map[string]uint64{}, map[ID]int{}
		var previous *Cut
		var later []Event
		want := map[ID]int{}
		for n := range periods {
			for _, node := range seasonNodes {
				sizes[node] = rapid.Uint64Range(sizes[node], 30).Draw(rt, "size")
			}
			sizes[ended] = min(sizes[ended], final)
			cut := seasonCut(rt, Day(80+8*n), previous, sizes)
			refuseSpoiledCut(rt, previous, cut)
			policy.HoldC = rapid.Bool().Draw(rt, "hold") // what is held is taken up once a policy holds none
			offered := rapid.Permutation(append(slices.Clone(events), events[len(events)/2:]...)).Draw(rt, "offered")
			d, err := Derive(policy, previous, cut, offered, later)
			if err != nil {
				rt.Fatal(err)
			}
			for i := range events {
				e := &events[i]
				_, priced := policy.Prices[e.Action][e.Resource]
				inside := e.Index < sizes[e.Place] && (e.Place != ended || e.Index < final)
				enough := e.Evidence != OneSided || !policy.HoldC
				if _, before := want[policy.identify(e)]; !before && priced && e.Home != e.Place && inside && e.Day <= cut.Day && enough {
					want[policy.identify(e)] = n
				}
			}
			for _, o := range d.Obligations {
				if _, twice := settled[o.ID]; twice {
					rt.Fatalf("I6: %s makes two obligations", o.ID)
				}
				settled[o.ID] = n
				of := slices.IndexFunc(events, func(e Event) bool { return policy.identify(&e) == o.ID })
				if e := events[of]; o.Day != e.Day || e.Place == ended && e.Index >= final {
					rt.Fatalf("I12: %+v of a journal that ended at %d made %+v", e, final, o)
				}
			}
			if !maps.Equal(settled, want) {
				rt.Fatalf("after period %d: settled %v, want %v", n, settled, want)
			}
			previous, later = cut, d.Later
		}
	})
}

func refuseSpoiledCut(rt *rapid.T, previous, cut *Cut) {
	if previous == nil {
		return
	}
	points := slices.Clone(cut.Checkpoints)
	which := rapid.IntRange(0, len(points)-1).Draw(rt, "which")
	before, _ := previous.find(points[which].Journal)
	switch points[which] = before; rapid.IntRange(0, 2).Draw(rt, "spoiled") {
	case 0:
		points[which].Root[31] ^= 1 // another history of the same length
	case 1:
		points = slices.Delete(points, which, which+1)
	case 2:
		if before.Size == 0 {
			return
		}
		points[which].Size--
	}
	if _, err := NewCut(cut.Day, seasonNodes, points, previous); err == nil {
		rt.Fatalf("I12: %+v became %+v", before, points)
	}
	if other, err := NewCut(cut.Day, seasonNodes, points, nil); err != nil || other.Digest() == cut.Digest() {
		rt.Fatalf("I7: two cuts with one digest: %+v (%v)", points, err)
	}
}

// I9, the period's half: nothing of a person enters what a period signs, so that erasing her moves none of it. A cut binds a
// journal by its root, which the store keeps whatever is erased, and an event has these parts of its leaf and no other: no
// member, card, reader, note or time of day.
func TestNothingOfAPersonEntersAPeriod(t *testing.T) {
	for _, tc := range []struct {
		of   any
		want []string
	}{
		{Event{}, []string{"Journal", "Index", "Action", "Resource", "Quantity", "Place", "Home", "Day", "Evidence"}},
		{Obligation{}, []string{"ID", "Debtor", "Creditor", "Unit", "Amount", "Discharged", "Waived", "Day", "Evidence", "Frozen", "Until"}},
		{Checkpoint{}, []string{"Journal", "Node", "Size", "Root"}},
	} {
		var names []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(tc.of)) {
			names = append(names, f.Name)
		}
		if !slices.Equal(names, tc.want) {
			other := slices.DeleteFunc(names, func(n string) bool { return slices.Contains(tc.want, n) })
			t.Errorf("%T has %v: is that a trace of a person, which an erasure cannot reach?", tc.of, other)
		}
	}
}
