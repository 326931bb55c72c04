package clearing

import (
	"errors"
	"slices"
	"testing"
)

// clone makes a result that can be tampered with.
func clone(r *Result) *Result {
	c := *r
	c.Lines = slices.Clone(r.Lines)
	c.Balances = slices.Clone(r.Balances)
	c.Stages = slices.Clone(r.Stages)
	for i := range c.Stages {
		c.Stages[i].Potentials = slices.Clone(c.Stages[i].Potentials)
	}
	return &c
}

// rewrite replaces the flow of a result and restates every sum honestly; potentials stay as they are.
func rewrite(c *Case, r *Result, flow []int64) *Result {
	w := c.distribute(flow)
	w.Stages = clone(r).Stages
	for s := range w.Stages {
		if s < fixedStages {
			w.Stages[s].Value = Wide{}
			for k := range c.arcs {
				w.Stages[s].Value = w.Stages[s].Value.plus(flow[k], gains(c, s)(&c.arcs[k]))
			}
		}
	}
	return w
}

// greedy discharges cycles as it finds them, by depth-first search: balanced, and as a rule not the most.
func greedy(c *Case) []int64 {
	flow := make([]int64, len(c.arcs))
	out := make([][]int32, len(c.nodes))
	for k := range c.arcs[:c.debtEnd] {
		out[c.arcs[k].from] = append(out[c.arcs[k].from], int32(k))
	}
	for start := range c.nodes {
		for {
			path := findCycle(c, out, flow, int32(start))
			if path == nil {
				break
			}
			room := int64(MaxTotal)
			for _, k := range path {
				room = min(room, c.arcs[k].limit-flow[k])
			}
			for _, k := range path {
				flow[k] += room
			}
		}
	}
	return flow
}

func findCycle(c *Case, out [][]int32, flow []int64, start int32) []int32 {
	seen := make([]bool, len(c.nodes))
	var path []int32
	var walk func(v int32) bool
	walk = func(v int32) bool {
		for _, k := range out[v] {
			a := &c.arcs[k]
			if flow[k] == a.limit {
				continue
			}
			path = append(path, k)
			if a.to == start {
				return true
			}
			if !seen[a.to] {
				seen[a.to] = true
				if walk(a.to) {
					return true
				}
			}
			path = path[:len(path)-1]
		}
		return false
	}
	if walk(start) {
		return path
	}
	return nil
}

// flows reads from a result what each arc carries.
func flows(c *Case, r *Result) []int64 {
	flow := make([]int64, len(c.arcs))
	for k := range c.arcs[:c.debtEnd] {
		for _, l := range r.Lines[c.arcs[k].first:c.arcs[k].end] {
			flow[k] += l.Discharged
		}
	}
	for i, b := range r.Balances {
		flow[c.debtEnd+2*i] = max(0, b.Before-b.After)
		flow[c.debtEnd+2*i+1] = max(0, b.After-b.Before)
	}
	return flow
}

func TestGreedySetOffIsBalancedAndRefused(t *testing.T) {
	refused := 0
	for seed := range uint64(30) {
		terms, obligations, _ := family("dense", seed, false)
		c := mustCompile(t, terms, obligations)
		r := mustSettle(t, c)
		g := rewrite(c, r, greedy(c))
		if err := Verify(c, g); err != nil && !errors.Is(err, ErrNotOptimal) {
			t.Fatalf("seed %d: the greedy answer is not even balanced: %v", seed, err)
		}
		if g.Total > r.Total {
			t.Fatalf("seed %d: greedy discharges %d, ours %d", seed, g.Total, r.Total)
		}
		if g.Total == r.Total {
			continue
		}
		refused++
		if err := Verify(c, g); !errors.Is(err, ErrNotOptimal) {
			t.Errorf("seed %d: greedy total %d of %d: got %v, want ErrNotOptimal", seed, g.Total, r.Total, err)
		}
	}
	if refused < 15 {
		t.Errorf("greedy was below the optimum in %d of 30 cases only: the test shows too little", refused)
	}
}

func TestVerifierRefusesEveryTampering(t *testing.T) {
	terms, obligations, _ := family("dense", 5, true)
	late := Obligation{ID: testID(9, 1), Debtor: "n01", Creditor: "n02", Unit: "hour", Amount: 5, Day: terms.Cut + 1}
	foreign := Obligation{ID: testID(9, 2), Debtor: "n01", Creditor: "n02", Unit: "bed-night", Amount: 5, Day: 1}
	if _, err := Compile(terms, append(slices.Clone(obligations), late)); !errors.Is(err, ErrCut) {
		t.Errorf("an obligation dated after the cut: got %v, want ErrCut", err)
	}
	if _, err := Compile(terms, append(slices.Clone(obligations), foreign)); !errors.Is(err, ErrUnit) {
		t.Errorf("an obligation in a foreign unit: got %v, want ErrUnit", err)
	}
	c := mustCompile(t, terms, obligations)
	good := mustSettle(t, c)
	partial := slices.IndexFunc(good.Lines, func(l Line) bool { return l.Discharged > 0 })
	for _, tc := range []struct {
		name   string
		tamper func(r *Result)
		want   error
	}{
		{"an amount plus one", func(r *Result) { r.Lines[partial].Discharged++ }, nil},
		{"an amount minus one, total adjusted", func(r *Result) { r.Lines[partial].Discharged--; r.Total-- }, nil},
		{"a negative amount", func(r *Result) { r.Lines[partial].Discharged = -1 }, ErrBounds},
		{"a total plus one", func(r *Result) { r.Total++ }, ErrValue},
		{"a drawn plus one", func(r *Result) { r.Drawn++ }, ErrValue},
		{"a balance plus one", func(r *Result) { r.Balances[0].After++ }, nil},
		{"another balance before", func(r *Result) { r.Balances[0].Before++ }, ErrCoverage},
		{"a balance past its ceiling", func(r *Result) { r.Balances[0].After = 1 << 61 }, ErrBounds},
		{"a value plus one", func(r *Result) { r.Stages[2].Value = r.Stages[2].Value.plus(1, 1) }, ErrValue},
		{"an omitted obligation", func(r *Result) { r.Lines = slices.Delete(r.Lines, 3, 4) }, ErrCoverage},
		{"the last obligation omitted", func(r *Result) { r.Lines = r.Lines[:len(r.Lines)-1] }, ErrCoverage},
		{"one dated after the cut", func(r *Result) { r.Lines = append(r.Lines, Line{ID: late.ID, Discharged: 5}) }, ErrCoverage},
		{"one of a foreign unit", func(r *Result) { r.Lines[2] = Line{ID: foreign.ID} }, ErrCoverage},
		{"two lines changed places", func(r *Result) { r.Lines[0], r.Lines[1] = r.Lines[1], r.Lines[0] }, ErrCoverage},
		{"a result of another unit", func(r *Result) { r.Unit = "bed-night" }, ErrUnit},
		{"a result of another cut", func(r *Result) { r.Cut++ }, ErrCut},
		{"a stage left out", func(r *Result) { r.Stages = slices.Delete(r.Stages, 1, 2) }, ErrStages},
		{"stages changed places", func(r *Result) { r.Stages[0], r.Stages[1] = r.Stages[1], r.Stages[0] }, ErrStages},
		{"a potential that would wrap", func(r *Result) { r.Stages[0].Potentials[0] = -1 << 63 }, ErrOverflow},
		{"a potential too few", func(r *Result) { r.Stages[0].Potentials = r.Stages[0].Potentials[1:] }, ErrStages},
	} {
		r := clone(good)
		tc.tamper(r)
		switch err := Verify(c, r); {
		case err == nil:
			t.Errorf("%s: accepted", tc.name)
		case tc.want != nil && !errors.Is(err, tc.want):
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

// Every node of the cycle is held from both sides. Node 40 only owes: a higher price there proves the same optimum, a
// lower one says that it should have discharged.
func TestVerifierRefusesAChangedPotential(t *testing.T) {
	terms, obligations := chain()
	c := mustCompile(t, terms, append(obligations, Obligation{ID: testID(0, 9), Debtor: "10", Creditor: "30", Unit: "hour", Amount: 50, Day: 90}))
	good := mustSettle(t, c)
	refused := 0
	for v := range c.nodes {
		for _, by := range []int64{-1000, 1000} {
			if c.nodes[v] == "40" && by > 0 {
				continue
			}
			r := clone(good)
			r.Stages[0].Potentials[v] += by
			err := Verify(c, r)
			if err == nil {
				t.Errorf("potential of %q changed by %d: accepted", c.nodes[v], by)
			} else if errors.Is(err, ErrNotOptimal) {
				refused++
			}
		}
	}
	if refused == 0 {
		t.Error("no changed potential was refused as such")
	}
}

// Two debts back to back with either of two equal partners: both answers discharge the same, of the same age.
func TestAnotherOptimalAnswerIsRefused(t *testing.T) {
	terms, _ := chain()
	debt := func(i int, from, to string) Obligation {
		return Obligation{ID: testID(3, i), Debtor: from, Creditor: to, Unit: "hour", Amount: 10, Day: 50}
	}
	c := mustCompile(t, terms, []Obligation{debt(1, "a", "b"), debt(2, "b", "c"), debt(3, "c", "a"), debt(4, "b", "d"), debt(5, "d", "a")})
	r := mustSettle(t, c)
	if r.Total != 30 || len(r.Stages) != fixedStages+1 {
		t.Fatalf("total %d with %d stages, want 30 with a lot", r.Total, len(r.Stages))
	}
	other := make([]int64, len(c.arcs))
	for k := range c.arcs {
		o := c.Obligation(k)
		via := "c"
		if slices.ContainsFunc(r.Lines, func(l Line) bool { return l.ID == testID(3, 2) && l.Discharged > 0 }) {
			via = "d"
		}
		if o.Debtor == "a" || o.Debtor == via || o.Creditor == via {
			other[k] = 10
		}
	}
	w := rewrite(c, r, other)
	if w.Total != r.Total {
		t.Fatalf("the other answer discharges %d, not %d", w.Total, r.Total)
	}
	if err := Verify(c, w); !errors.Is(err, ErrNotOptimal) {
		t.Errorf("with the lot: got %v, want ErrNotOptimal", err)
	}
	w.Stages = w.Stages[:fixedStages]
	if err := Verify(c, w); !errors.Is(err, ErrNotUnique) {
		t.Errorf("without the lot: got %v, want ErrNotUnique", err)
	}
	half := make([]int64, len(c.arcs)) // half of it each way: what can move is strictly inside its bounds
	for k := range half {
		if half[k] = 5; c.nodes[c.arcs[k].from] == "a" {
			half[k] = 10
		}
	}
	w = rewrite(c, r, half)
	w.Stages = w.Stages[:fixedStages]
	if err := Verify(c, w); w.Total != r.Total || !errors.Is(err, ErrNotUnique) {
		t.Errorf("half each way: discharged %d, got %v, want ErrNotUnique", w.Total, err)
	}
	r.Stages = r.Stages[:fixedStages]
	if err := Verify(c, r); !errors.Is(err, ErrNotUnique) {
		t.Errorf("our own answer without its lot: got %v, want ErrNotUnique", err)
	}
}

func TestYoungerDebtBeforeOlderIsRefused(t *testing.T) {
	terms, obligations := chain()
	terms.AgeCap = 0 // one age, so that only the oldest-first rule tells the two apart
	twin := obligations[0]
	twin.ID, twin.Day, twin.Amount = testID(0, 7), 40, 100
	c := mustCompile(t, terms, append(obligations, twin))
	r := mustSettle(t, c)
	i := slices.IndexFunc(r.Lines, func(l Line) bool { return l.ID == twin.ID })
	j := slices.IndexFunc(r.Lines, func(l Line) bool { return l.ID == obligations[0].ID })
	if r.Lines[i].Discharged != 100 || r.Lines[j].Discharged != 0 {
		t.Fatalf("older discharged %d, younger %d, want 100 and 0", r.Lines[i].Discharged, r.Lines[j].Discharged)
	}
	r.Lines[i].Discharged, r.Lines[j].Discharged = 0, 100
	if err := Verify(c, r); !errors.Is(err, ErrOldestFirst) {
		t.Errorf("got %v, want ErrOldestFirst", err)
	}
}
