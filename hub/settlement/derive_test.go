package settlement

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

func testPolicy() *Policy {
	return &Policy{Version: "v3", Hash: [32]byte{3}, Prices: map[Action]map[string]Price{
		Use:  {"bed": {Unit: "bed-night", Each: 1}, "desk": {Unit: "hour", Each: 4}},
		Work: {"kitchen": {Unit: "hour", Each: 1}},
	}}
}

var testNodes = []string{"berlin", "lisbon", "porto"}

func journal(node string) string { return "kith/" + node + "-front/0" }

func testCut(t testing.TB, day Day, previous *Cut, sizes map[string]uint64) *Cut {
	t.Helper()
	var checkpoints []Checkpoint
	for node, size := range sizes {
		checkpoints = append(checkpoints, Checkpoint{Journal: journal(node), Node: node, Size: size, Root: [32]byte{byte(size), node[0]}})
	}
	c, err := NewCut(day, testNodes, checkpoints, previous)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func event(place, home string, index uint64, change ...func(*Event)) Event {
	e := Event{Journal: journal(place), Index: index, Action: Use, Resource: "bed", Quantity: 2, Place: place, Home: home,
		Day: 90, Evidence: TwoSided}
	for _, c := range change {
		c(&e)
	}
	return e
}

func TestUseMakesTheHomeOweAndWorkMakesThePlaceOwe(t *testing.T) {
	cut := testCut(t, 100, nil, map[string]uint64{"lisbon": 10})
	work := event("lisbon", "porto", 2, func(e *Event) { e.Action, e.Resource, e.Quantity = Work, "kitchen", 90 })
	d, err := Derive(testPolicy(), nil, cut, []Event{event("lisbon", "porto", 1), work}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, o := range d.Obligations {
		got[o.Debtor+">"+o.Creditor+" "+o.Unit] = o.Amount
	}
	if want := map[string]int64{"porto>lisbon bed-night": 2, "lisbon>porto hour": 90}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestEventsThatMakeNoObligationAreNamedWithTheirReason(t *testing.T) {
	policy := testPolicy()
	policy.CapC = map[string]int64{"bed-night": 3}
	one := func(e *Event) { e.Evidence = OneSided }
	cut := testCut(t, 100, nil, map[string]uint64{"lisbon": 10})
	d, err := Derive(policy, nil, cut, []Event{
		event("lisbon", "lisbon", 1),
		event("lisbon", "porto", 2, func(e *Event) { e.Resource = "sauna" }),
		event("lisbon", "porto", 3, func(e *Event) { e.Day = 101 }),
		event("lisbon", "porto", 4, one), event("lisbon", "porto", 5, one),
		event("lisbon", "porto", 10), // above the cut: not of this period
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Aside{{journal("lisbon"), 1, WhyHome}, {journal("lisbon"), 2, WhyNoPrice}, {journal("lisbon"), 3, WhyLater},
		{journal("lisbon"), 5, WhyCapped}}
	if !reflect.DeepEqual(d.Asides, want) || len(d.Obligations) != 1 || len(d.Later) != 1 {
		t.Errorf("asides %v, %d obligations, %d later", d.Asides, len(d.Obligations), len(d.Later))
	}
	policy.HoldC = true
	d, err = Derive(policy, nil, cut, []Event{event("lisbon", "porto", 4, one)}, nil)
	if err != nil || len(d.Obligations) != 0 || len(d.Later) != 1 || d.Asides[0].Why != WhyHeld {
		t.Errorf("held: %+v, %v", d, err)
	}
}

func TestLateDataGoesIntoTheNextPeriodWithItsOwnDateAndNothingTwice(t *testing.T) {
	events := []Event{event("lisbon", "porto", 1), event("porto", "berlin", 4), event("lisbon", "berlin", 12, func(e *Event) { e.Day = 150 })}
	november := testCut(t, 100, nil, map[string]uint64{"lisbon": 10})
	if want := []string{"berlin", "porto"}; !reflect.DeepEqual(november.Missing, want) {
		t.Fatalf("missing %v, want %v", november.Missing, want)
	}
	december := testCut(t, 130, november, map[string]uint64{"lisbon": 20, "porto": 9})
	january := testCut(t, 160, december, map[string]uint64{"lisbon": 20, "porto": 9})
	seen := map[ID]Day{}
	var later []Event
	var previous *Cut
	for i, cut := range []*Cut{november, december, january} {
		d, err := Derive(testPolicy(), previous, cut, events, later)
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Obligations) != 1 {
			t.Errorf("period %d has %d obligations, want 1", i, len(d.Obligations))
		}
		for _, o := range d.Obligations {
			if _, twice := seen[o.ID]; twice {
				t.Errorf("%s is settled twice", o.ID)
			}
			seen[o.ID] = o.Day
		}
		previous, later = cut, d.Later
	}
	if len(seen) != 3 {
		t.Errorf("%d events settled, want 3", len(seen))
	}
}

func TestJournalThatShrinksOrVanishesMakesNoCut(t *testing.T) {
	first := testCut(t, 100, nil, map[string]uint64{"lisbon": 10, "porto": 3})
	for name, points := range map[string][]Checkpoint{
		"shrunk":   {{journal("lisbon"), "lisbon", 9, [32]byte{}}, {journal("porto"), "porto", 3, [32]byte{3, 'p'}}},
		"vanished": {{journal("lisbon"), "lisbon", 10, [32]byte{10, 'l'}}},
		"forked":   {{journal("lisbon"), "lisbon", 10, [32]byte{99}}, {journal("porto"), "porto", 3, [32]byte{3, 'p'}}},
	} {
		if _, err := NewCut(120, testNodes, points, first); !errors.Is(err, ErrBackward) {
			t.Errorf("%s: got %v, want ErrBackward", name, err)
		}
	}
	if _, err := NewCut(99, testNodes, first.Checkpoints, first); !errors.Is(err, ErrBackward) {
		t.Errorf("an earlier day: got %v", err)
	}
}

func TestSameLeafWithTwoContentsIsRefused(t *testing.T) {
	cut := testCut(t, 100, nil, map[string]uint64{"lisbon": 10})
	other := event("lisbon", "porto", 1, func(e *Event) { e.Quantity = 3 })
	if _, err := Derive(testPolicy(), nil, cut, []Event{event("lisbon", "porto", 1), other}, nil); !errors.Is(err, ErrEvent) {
		t.Errorf("got %v, want ErrEvent", err)
	}
	huge := event("lisbon", "porto", 1, func(e *Event) { e.Resource, e.Quantity = "desk", 1<<62 })
	if _, err := Derive(testPolicy(), nil, cut, []Event{huge}, nil); !errors.Is(err, ErrOverflow) {
		t.Errorf("got %v, want ErrOverflow", err)
	}
}

// evenSplit stands in for the ledger's division: the parts left over go to the first places.
func evenSplit(total int64, weights []int64, _ [32]byte) ([]int64, error) {
	sum, left := int64(0), total
	for _, w := range weights {
		sum += w
	}
	shares := make([]int64, len(weights))
	for i, w := range weights {
		shares[i] = total * w / sum
		left -= shares[i]
	}
	for i := range left {
		shares[i]++
	}
	return shares, nil
}

func TestDuesAndGrantsAreObligationsWithTheCommonsAndInputOrderDoesNotMatter(t *testing.T) {
	cut := testCut(t, 100, nil, map[string]uint64{"lisbon": 50, "porto": 50, "berlin": 50})
	pool := Pool{Commons: "pool", Dues: []Dues{{Unit: "bed-night", Num: 1, Den: 10}},
		Grants: []Grant{{Node: "berlin", Unit: "bed-night", Amount: 7, Reason: "flood"}}}
	var events []Event
	for i := range uint64(30) {
		place := testNodes[i%3]
		events = append(events, event(place, testNodes[(i+1+i/10)%3], i, func(e *Event) { e.Quantity = int64(i) + 1 }))
	}
	var want []Obligation
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 0))
		rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		d, err := Derive(testPolicy(), nil, cut, append(events, events[3]), nil)
		if err != nil {
			t.Fatal(err)
		}
		list, err := pool.Join(testPolicy(), cut, d.Obligations, evenSplit)
		if err != nil {
			t.Fatal(err)
		}
		gross, dues, grants := int64(0), int64(0), int64(0)
		for _, o := range list {
			switch {
			case o.Creditor == "pool":
				dues += o.Amount
			case o.Debtor == "pool":
				grants += o.Amount
			default:
				gross += o.Amount
			}
		}
		if dues != gross/10 || grants != 7 {
			t.Fatalf("dues %d of %d, grants %d", dues, gross, grants)
		}
		if want == nil {
			want = list
		} else if !reflect.DeepEqual(list, want) {
			t.Fatal("another order of events gave other obligations")
		}
	}
}
