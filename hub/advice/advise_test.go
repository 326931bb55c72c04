package advice

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func advise(t *testing.T, c *Case) *Advice {
	t.Helper()
	a, err := Advise(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range a.Items {
		if i.Reason == "" || len(i.ID) != idDigits || i.Quantity < 1 || CheckReason(shorten(i.Reason)) != nil {
			t.Fatalf("an item without a reason that can be signed: %+v", i)
		}
	}
	for _, u := range a.Unmet {
		if u.Reason == "" || u.Quantity < 1 {
			t.Fatalf("%+v", u)
		}
	}
	return a
}

func house(id string, beds, offered, in, visitors int64) Node {
	return Node{ID: id, Name: strings.ToUpper(id[:1]) + id[1:], Beds: beds, Offered: offered, Bed: "bed", In: in, Visitors: visitors}
}

func evening() *Case {
	return &Case{Seed: []byte("roots"), Day: 20778, Days: 7, Nodes: []Node{
		house("lisbon", 12, 12, 15, 2), house("oaxaca", 12, 8, 9, 0), house("porto", 10, 10, 2, 1), house("vermont", 0, 0, 4, 4)}}
}

func TestPeopleWhoAreOverGoWhereTheFullestHouseStaysEmptiest(t *testing.T) {
	a := advise(t, evening())
	if len(a.Items) != 1 || len(a.Unmet) != 0 {
		t.Fatalf("%+v", a)
	}
	i := a.Items[0]
	if i.Do != Place || i.Provider != "porto" || i.Receiver != "lisbon" || i.Quantity != 3 || i.Had != 1 || i.Kind != "bed" || i.Measure != Night {
		t.Fatalf("%+v", i)
	}
	want := "Lisbon expects 15 people for 12 beds and gets all 3 that it asked for. Porto has 8 of its offered beds free. With these guests 5 of its 10 beds are taken; spread like this, the fullest host stays as empty as it can."
	if i.Reason != want {
		t.Errorf("have %s\nwant %s", i.Reason, want)
	}
}

func TestScarceBedsAreSharedAndWhoeverGetsNoneHearsWhy(t *testing.T) {
	c := &Case{Seed: []byte("roots"), Days: 1, Nodes: []Node{house("a", 2, 0, 7, 0), house("b", 2, 0, 3, 0), house("c", 9, 3, 4, 0), house("d", 0, 0, 9, 0)}}
	a := advise(t, c)
	placed := map[string]int64{}
	for _, i := range a.Items {
		placed[i.Receiver] += i.Quantity
	}
	if placed["b"] != 1 || placed["a"] != 2 || len(a.Unmet) != 1 || a.Unmet[0].Node != "a" || a.Unmet[0].Quantity != 3 || !strings.Contains(a.Unmet[0].Reason, "gets 2 of the 5 asked") {
		t.Fatalf("%+v", a)
	}
	c.Nodes[2].Offered = 0
	if a = advise(t, c); len(a.Items) != 0 || len(a.Unmet) != 2 || !strings.Contains(a.Unmet[0].Reason, "no house has an offered bed free") {
		t.Fatalf("%+v", a)
	}
}

func crowd(rng *rand.Rand, n int, most int64) *Case {
	c := &Case{Seed: []byte{byte(rng.Uint32())}, Day: 20778, Days: 1 + rng.Int64N(30)}
	for i := range n {
		h := house(fmt.Sprintf("house-%d", i), rng.Int64N(most+1), 0, rng.Int64N(most+1), 0)
		if h.Beds > 0 {
			h.Offered = rng.Int64N(h.Beds + 1)
		}
		h.Visitors = rng.Int64N(h.In + 1)
		c.Nodes = append(c.Nodes, h)
		for _, kind := range []string{"bike", "loom"} {
			t := Thing{Node: h.ID, Kind: kind, Measure: "hour", Count: rng.Int64N(5), Offered: rng.IntN(4) > 0, Lendable: rng.IntN(4) > 0, Used: rng.Int64N(50)}
			t.Hosted = rng.Int64N(t.Used + 1)
			c.Things = append(c.Things, t)
		}
		if h.Beds > 0 {
			used := rng.Int64N(3 * most)
			c.Things = append(c.Things, Thing{Node: h.ID, Kind: "bed", Measure: Night, Count: h.Beds, Offered: h.Offered > 0, Used: used, Hosted: rng.Int64N(used + 1)})
		}
	}
	return c
}

func TestNoHouseIsGivenMorePeopleThanBedsAndNoneIsSentWhoHasOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 500 {
		c := crowd(rng, 1+rng.IntN(9), 12)
		a := advise(t, c)
		comes, goes := map[string]int64{}, map[string]int64{}
		for _, i := range a.Items {
			if i.Do == Place {
				comes[i.Provider] += i.Quantity
				goes[i.Receiver] += i.Quantity
			}
		}
		unmet, over, free, placed := int64(0), int64(0), int64(0), int64(0)
		for _, u := range a.Unmet {
			unmet += u.Quantity
		}
		for _, n := range c.Nodes {
			if n.Beds > 0 {
				over += max(0, n.In-n.Beds)
				free += max(0, min(n.Beds-n.In, n.Offered-n.Visitors))
			}
			if placed += comes[n.ID]; comes[n.ID] > 0 && (n.In+comes[n.ID] > n.Beds || n.Visitors+comes[n.ID] > n.Offered) {
				t.Fatalf("%+v gets %d", n, comes[n.ID])
			}
			if goes[n.ID] > max(0, n.In-n.Beds) {
				t.Fatalf("%+v sends %d", n, goes[n.ID])
			}
		}
		if placed != min(over, free) || placed+unmet != over {
			t.Fatalf("%d over, %d beds free: %d placed, %d unmet", over, free, placed, unmet)
		}
	}
}

// TestNoOtherSpreadIsMoreEven compares the fullest house, then the next, with every other way to spread as many people.
func TestNoOtherSpreadIsMoreEven(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	const scale = 2 * 2 * 2 * 3 * 3 * 5 * 7 // of all bed counts up to 10
	for range 300 {
		var rooms []*bedroom
		var free []int64
		var nodes []Node
		for i := range 1 + rng.IntN(4) {
			n := house(fmt.Sprintf("h%d", i), 1+rng.Int64N(10), 0, 0, 0)
			nodes = append(nodes, n)
			r := &bedroom{Node: &nodes[len(nodes)-1], expected: rng.Int64N(n.Beds + 1)}
			r.free = rng.Int64N(n.Beds - r.expected + 1)
			rooms, free = append(rooms, r), append(free, r.free)
		}
		people := rng.Int64N(sum(free) + 1)
		spread(rooms, people)
		fullest := func(x []int64) []int64 {
			var list []int64
			for i, r := range rooms {
				if r.free > 0 {
					list = append(list, (r.expected+x[i])*scale/r.Beds)
				}
			}
			slices.SortFunc(list, func(a, b int64) int { return int(b - a) })
			return list
		}
		mine := make([]int64, len(rooms))
		for i, r := range rooms {
			mine[i] = r.gets
		}
		every(free, people, func(x []int64) {
			if slices.Compare(fullest(x), fullest(mine)) < 0 {
				t.Fatalf("%d people: %v, but %v leaves the fullest emptier", people, mine, x)
			}
		})
		if sum(mine) != people {
			t.Fatalf("%d of %d were spread", sum(mine), people)
		}
	}
}

func TestTheOrderOfTheInputDoesNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for range 200 {
		c := crowd(rng, 2+rng.IntN(8), 12)
		want := advise(t, c)
		rng.Shuffle(len(c.Nodes), func(i, j int) { c.Nodes[i], c.Nodes[j] = c.Nodes[j], c.Nodes[i] })
		rng.Shuffle(len(c.Things), func(i, j int) { c.Things[i], c.Things[j] = c.Things[j], c.Things[i] })
		if have := advise(t, c); !reflect.DeepEqual(have, want) {
			t.Fatalf("have %+v\nwant %+v", have, want)
		}
	}
}

func TestAnAcceptedAdviceIsNotGivenAgainAndIsKeptByArriving(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		c := crowd(rng, 2+rng.IntN(6), 12)
		for _, i := range advise(t, c).Items {
			made := i.Commit("demo", i.Quantity, int64(c.Day)*secondsOfDay)
			c.Promises = append(c.Promises, made.Promise())
		}
		if again := advise(t, c); len(again.Items) != 0 {
			t.Fatalf("all was promised, and yet: %+v", again.Items)
		}
	}
	c := evening()
	made := advise(t, c).Items[0].Commit("demo", 2, int64(c.Day)*secondsOfDay)
	c.Promises = []Promise{made.Promise()}
	rest := advise(t, c)
	if len(rest.Items) != 1 || rest.Items[0].Quantity != 1 {
		t.Fatalf("two of three were promised: %+v", rest.Items)
	}
	c.Nodes[0].In, c.Nodes[2].In, c.Nodes[2].Visitors = 13, 4, 3 // the two have arrived
	if after := advise(t, c); len(after.Items) != 1 || after.Items[0].Quantity != 1 || !strings.Contains(after.Items[0].Reason, "Lisbon expects 13 people") {
		t.Fatalf("a kept promise counts twice: %+v", after.Items)
	}
}

func TestPromisesAreKeptOldestFirst(t *testing.T) {
	all := func(*Promise) bool { return true }
	p := []Promise{{Quantity: 2, Had: 3}, {Quantity: 4, Had: 4}}
	for now, want := range map[int64][]int64{0: {2, 4}, 3: {2, 4}, 4: {1, 4}, 6: {0, 3}, 99: {0, 0}} {
		if have := open(p, all, now); !slices.Equal(have, want) {
			t.Errorf("with %d there now: %v, want %v", now, have, want)
		}
	}
}

func bikes(node string, count, used int64) Thing {
	return Thing{Node: node, Kind: "bike", Measure: "hour", Count: count, Offered: true, Lendable: true, Used: used}
}

func TestThingsGoWhereEachIsUsedAtLeastTwiceAsMuch(t *testing.T) {
	c := &Case{Days: 7, Nodes: []Node{house("a", 0, 0, 0, 0), house("b", 0, 0, 0, 0)}}
	for name, s := range map[string]struct {
		a, b  Thing
		moves int64
	}{
		"idle against busy":     {bikes("a", 4, 0), bikes("b", 1, 30), 3},
		"nearly even":           {bikes("a", 2, 10), bikes("b", 1, 19), 0},
		"just worth the way":    {bikes("a", 2, 10), bikes("b", 1, 20), 1},
		"the last one stays":    {bikes("a", 1, 0), bikes("b", 1, 99), 0},
		"nobody uses any":       {bikes("a", 9, 0), bikes("b", 1, 0), 0},
		"how many is not known": {bikes("a", 9, 0), bikes("b", 0, 50), 0},
		"too much to multiply":  {bikes("a", MaxParts, 0), bikes("b", 1, MaxParts), maxMoves},
	} {
		c.Things = []Thing{s.a, s.b}
		moves := int64(0)
		for _, i := range advise(t, c).Items {
			if i.Do != Lend || i.Provider != "a" || i.Receiver != "b" || i.Had != s.b.Count {
				t.Errorf("%s: %+v", name, i)
			}
			moves += i.Quantity
		}
		if moves != s.moves {
			t.Errorf("%s: %d move, want %d", name, moves, s.moves)
		}
	}
	c.Things = []Thing{bikes("a", 4, 0), bikes("b", 1, 30)}
	c.Things[0].Lendable = false
	if a := advise(t, c); len(a.Items) != 0 {
		t.Errorf("what may not leave its house was lent: %+v", a.Items)
	}
}

func TestWhatVisitorsUsedIsSharedAsAQuota(t *testing.T) {
	c := &Case{Seed: []byte("roots"), Days: 7, Nodes: []Node{house("a", 12, 12, 0, 0), house("b", 6, 6, 0, 0), house("c", 1, 1, 0, 0)}, Things: []Thing{
		{Node: "a", Kind: "bed", Measure: Night, Count: 12, Offered: true, Used: 40, Hosted: 10},
		{Node: "b", Kind: "bed", Measure: Night, Count: 6, Offered: true, Used: 60, Hosted: 30},
		{Node: "c", Kind: "bed", Measure: Night, Count: 1, Offered: true, Used: 0, Hosted: 0}}}
	a := advise(t, c)
	var quotas []int64
	for _, q := range a.Quotas {
		quotas = append(quotas, q.Quota)
	}
	if !slices.Equal(quotas, []int64{25, 13, 2}) { // of 40, by 12, 6 and 1: 25.26, 12.63, 2.11
		t.Fatalf("%v", quotas)
	}
	if len(a.Items) != 2 || a.Items[0].Do != Offer || a.Items[0].Provider != "a" || a.Items[0].Quantity != 15 || a.Items[0].Receiver != "" || a.Items[1].Quantity != 2 {
		t.Fatalf("%+v", a.Items)
	}
	if want := "Visitors used 40 nights in all; shared among the houses by how many each offers, A's share is 25. It has hosted 10."; a.Items[0].Reason != want {
		t.Errorf("%s", a.Items[0].Reason)
	}
	c.Days = 1 // one bed is one night a day: c can hold one, and no house more than it has
	c.Things[0].Hosted, c.Things[1].Hosted = 10, 9
	if a = advise(t, c); a.Quotas[2].Quota != 1 || a.Quotas[0].Quota+a.Quotas[1].Quota != 18 || a.Quotas[0].Quota > 12 || a.Quotas[1].Quota > 6 {
		t.Fatalf("%+v", a.Quotas)
	}
}

func TestACaseThatDoesNotHoldTogetherIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Case){
		"no day":                  func(c *Case) { c.Days = 0 },
		"too long":                func(c *Case) { c.Days = MaxDays + 1 },
		"a house twice":           func(c *Case) { c.Nodes[1].ID = c.Nodes[0].ID },
		"no id":                   func(c *Case) { c.Nodes[1].ID = "<b>" },
		"more offered than there": func(c *Case) { c.Nodes[0].Offered = 13 },
		"more visitors than in":   func(c *Case) { c.Nodes[0].Visitors = 16 },
		"too many people":         func(c *Case) { c.Nodes[0].In, c.Nodes[1].In = MaxPeople, MaxPeople },
		"offered without a name":  func(c *Case) { c.Nodes[0].Bed = "" },
		"a thing of nobody":       func(c *Case) { c.Things = []Thing{bikes("nowhere", 1, 1)} },
		"a thing twice":           func(c *Case) { c.Things = []Thing{bikes("lisbon", 1, 1), bikes("lisbon", 1, 1)} },
		"too much used":           func(c *Case) { c.Things = []Thing{bikes("lisbon", 1, MaxParts+1)} },
		"hosted more than used":   func(c *Case) { c.Things = []Thing{{Node: "lisbon", Kind: "bed", Measure: Night, Hosted: 1}} },
		"an unknown promise":      func(c *Case) { c.Promises = []Promise{{Do: "sell"}} },
		"a promise without end":   func(c *Case) { c.Promises = []Promise{{Do: Place, Quantity: MaxParts + 1}} },
		"too many houses":         func(c *Case) { c.Nodes = make([]Node, MaxNodes+1) },
		"too many things":         func(c *Case) { c.Things = make([]Thing, MaxThings+1) },
		"too many promises":       func(c *Case) { c.Promises = make([]Promise, MaxPromises+1) },
	} {
		c := evening()
		change(c)
		if _, err := Advise(c); !errors.Is(err, ErrCase) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAHostileNameStaysOneLineOfTheReason(t *testing.T) {
	c := evening()
	c.Nodes[0].Name = "Lis\nbon \u202eevil\x00" + strings.Repeat("Ä", 500)
	c.Nodes[2].Name = "\n\n"
	i := advise(t, c).Items[0]
	made := i.Commit("demo", 1, 1795255200)
	if _, err := ParseCommitment(made.Text()); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(i.Reason, "\n\x00\u202e") || len(i.Reason) > MaxReason || !strings.Contains(i.Reason, "porto has 8") {
		t.Errorf("%q", i.Reason)
	}
}
