package feed

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
)

const november = 20758 // 2026-11-01

// month makes a report of random small life: houses where few people do much, and kinds that few people do.
func month(t testing.TB, r *rand.Rand) (*Report, map[string]int64) {
	t.Helper()
	rep := &Report{Network: "kith", Period: "2026-11", From: november, To: november + 29, Privacy: DefaultPrivacy(), Units: []Unit{{"hour", 0}},
		Statement: 1}
	prices := map[string]int64{}
	nodes := 1 + r.IntN(5)
	for n := range nodes {
		rep.Houses = append(rep.Houses, House{ID: fmt.Sprintf("h%d", n)})
	}
	cover, who, gross := r.IntN(12), map[string]int64{}, int64(0)
	for m, measure := range []string{"night", "minute"} {
		var list []Contribution
		for k := range 1 + r.IntN(4) {
			kind := fmt.Sprintf("k%d-%d", m, k)
			prices[kind] = 1 + r.Int64N(3)
			for _, h := range rep.Houses {
				for range r.IntN(2 + cover) {
					member := fmt.Sprint("p", r.IntN(4+cover))
					amount := r.Int64N([]int64{2, 4, 40}[r.IntN(3)]) * 10
					if r.IntN(9) == 0 {
						amount *= 20
					}
					list = append(list, Contribution{h.ID, kind, member, amount / []int64{1, 10}[r.IntN(2)]})
				}
			}
		}
		for _, c := range list {
			gross += prices[c.Kind] * c.Amount
			who[c.Member] += prices[c.Kind] * c.Amount
		}
		cells, err := Tally(list)
		if err != nil {
			t.Fatal(err)
		}
		rep.Measures = append(rep.Measures, Measure{Unit: measure, Cells: cells})
	}
	c := Clearing{Unit: "hour", Gross: gross, Cleared: gross / 2}
	for _, amount := range who {
		if amount > 0 {
			c.Members++
			c.Largest = max(c.Largest, amount)
		}
	}
	for _, m := range rep.Measures {
		for _, cell := range m.Cells {
			if cell.Node == "" && cell.Kind != "" {
				c.Kinds = append(c.Kinds, cell.Kind)
			}
		}
	}
	rep.Clearing = []Clearing{c}
	return rep, prices
}

// observe tells the attacker everything that a reader of one release knows about what was delivered: the sums, that
// withheld figures are not zero, and (as if all of it had been between houses) what was owed at public prices.
func observe(s *system, out *Release, prices map[string]int64) {
	var owed []term
	for _, m := range out.Delivered {
		name := func(f Figure) string { return m.Unit + "/" + f.Node + "/" + f.Kind }
		byNode, byKind := map[string][]term{}, map[string][]term{}
		for _, f := range m.Figures {
			s.bound(name(f), f.Delivered, 1)
			n, k := int64(1), int64(1)
			if f.Kind == All {
				n = -1
			}
			if f.Node == All {
				k = -1
			}
			byNode[f.Node] = append(byNode[f.Node], term{name(f), n})
			byKind[f.Kind] = append(byKind[f.Kind], term{name(f), k})
			if f.Node == All && f.Kind != All && prices != nil {
				owed = append(owed, term{name(f), prices[f.Kind]})
			}
		}
		for _, terms := range byNode {
			s.equal(terms...)
		}
		for _, terms := range byKind {
			s.equal(terms...)
		}
	}
	for _, c := range out.Clearing {
		if c.Gross != nil && owed != nil {
			s.publish("gross", c.Gross)
			s.equal(append(owed, term{"gross", -1})...)
		}
	}
}

// truth checks the published figures against the cells and counts what is shown and withheld.
func truth(t *testing.T, r *Report, out *Release) (shown, withheld int, small []string, amounts map[string]int64) {
	t.Helper()
	amounts = map[string]int64{}
	cells := map[string]Cell{}
	for _, m := range r.Measures {
		for _, c := range m.Cells {
			node, kind := c.Node, c.Kind
			if node == "" {
				node = All
			}
			if kind == "" {
				kind = All
			}
			cells[m.Unit+"/"+node+"/"+kind] = c
		}
	}
	for _, m := range out.Delivered {
		for _, f := range m.Figures {
			name := m.Unit + "/" + f.Node + "/" + f.Kind
			c := cells[name]
			amounts[name] = c.Amount
			few := c.Amount > 0 && (c.Members < 5 || c.Largest*100 > c.Amount*80)
			switch {
			case f.Delivered == nil && few:
				withheld++
				small = append(small, name)
			case f.Delivered == nil:
				withheld++
				if c.Amount == 0 {
					t.Fatalf("%s is zero and withheld", name)
				}
			case few:
				t.Fatalf("%s is published: %d by %d members, largest %d", name, c.Amount, c.Members, c.Largest)
			case *f.Delivered != c.Amount:
				t.Fatalf("%s is published as %d, it is %d", name, *f.Delivered, c.Amount)
			default:
				shown++
			}
		}
	}
	return shown, withheld, small, amounts
}

// TestNothingWithheldCanBeComputed attacks many small reports by equations and by ranges.
func TestNothingWithheldCanBeComputed(t *testing.T) {
	seeds := uint64(120)
	if testing.Short() {
		seeds = 60
	}
	shown, withheld, open := 0, 0, 0
	for seed := range seeds {
		r, prices := month(t, rand.New(rand.NewPCG(seed, 11)))
		out, err := r.Release(nil)
		if err != nil {
			t.Fatal(err)
		}
		a, b, small, amounts := truth(t, r, out)
		shown, withheld = shown+a, withheld+b
		if out.Clearing[0].Gross != nil {
			open++
		}
		s := newSystem()
		observe(s, out, prices)
		if found := s.solved(t); len(found) > 0 {
			t.Fatalf("seed %d: equations give %v", seed, found)
		}
		ranges := s.ranges(t)
		for name, span := range ranges {
			if span[1] != nil && span[0].Cmp(span[1]) == 0 {
				t.Fatalf("seed %d: %s can be nothing but %v", seed, name, span[0])
			}
		}
		for _, name := range small {
			span, need := ranges[name], (amounts[name]+9)/10
			if span[1] != nil && new(big.Rat).Sub(span[1], span[0]).Cmp(big.NewRat(need, 1)) < 0 {
				t.Fatalf("seed %d: %s = %d is known to lie in %v..%v", seed, name, amounts[name], span[0], span[1])
			}
		}
	}
	if shown < withheld/3 || withheld < 100 || open < int(seeds)/20 {
		t.Errorf("%d shown, %d withheld, %d closings shown of %d: the reports say too little for this test", shown, withheld, open, seeds)
	}
	t.Logf("%d figures shown, %d withheld, %d of %d closings shown", shown, withheld, open, seeds)
}

// Without the second step, the same attacker must win: else the test above proves nothing.
func TestTheAttackerWinsAgainstSmallGroupsAlone(t *testing.T) {
	won := 0
	for seed := range uint64(100) {
		r, _ := month(t, rand.New(rand.NewPCG(seed, 11)))
		out, err := r.Release(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _, small, amounts := truth(t, r, out)
		primary := map[string]bool{}
		for _, name := range small {
			primary[name] = true
		}
		for m := range out.Delivered {
			for i := range out.Delivered[m].Figures {
				f := &out.Delivered[m].Figures[i]
				if name := out.Delivered[m].Unit + "/" + f.Node + "/" + f.Kind; !primary[name] {
					v := amounts[name]
					f.Delivered = &v
				}
			}
		}
		s := newSystem()
		observe(s, out, nil)
		if len(s.solved(t)) > 0 {
			won++
		}
	}
	if won < 10 {
		t.Errorf("the attacker won %d of 100", won)
	}
}

// Releases over a year: what a reader learns from the pool's balances must not tell a closing that was withheld.
func TestReleasesOfAYearDoNotTellOnEachOther(t *testing.T) {
	published, held := 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 13))
		s, balance := newSystem(), int64(0)
		var previous *Release
		s.publish("balance/-1", &balance)
		withheld := map[string]bool{}
		for i := range 12 {
			rep := &Report{Network: "kith", Period: fmt.Sprintf("2026-%02d", i+1), From: november + int32(i)*30, To: november + int32(i)*30 + 29,
				Privacy: DefaultPrivacy(), Units: []Unit{{"hour", 0}}}
			gross := 10 * (6 + r.Int64N(50))
			c := Clearing{Unit: "hour", Gross: gross, Cleared: gross / 2, Members: 6, Largest: gross / 5}
			if r.IntN(3) == 0 {
				c.Members, c.Largest = 2, gross/2
			}
			p := Pool{Unit: "hour", In: gross / 10, Out: r.Int64N(5), Demand: 7}
			balance += p.In - p.Out
			p.Balance = balance
			rep.Clearing = []Clearing{c}
			if r.IntN(8) > 0 || i == 0 {
				rep.Pool = []Pool{p}
			} else {
				balance -= p.In - p.Out
				rep.Pool, rep.Clearing = nil, nil
			}
			out, err := rep.Release(previous)
			if err != nil {
				t.Fatal(err)
			}
			previous = out
			name := func(what string) string { return fmt.Sprint(what, "/", i) }
			if rep.Pool == nil { // nothing happened, and everybody knows
				s.equal(term{name("balance"), 1}, term{fmt.Sprint("balance/", i-1), -1})
				continue
			}
			cl, po := out.Clearing[0], out.Pool[0]
			for what, v := range map[string]*int64{"gross": cl.Gross, "cleared": cl.Cleared, "left": cl.Left, "in": po.In, "out": po.Out, "balance": po.Balance} {
				s.publish(name(what), v)
				if v == nil && what != "balance" {
					withheld[name(what)] = true
				}
			}
			if cl.Gross == nil {
				held++
			} else {
				published++
			}
			s.equal(term{name("gross"), 1}, term{name("cleared"), -1}, term{name("left"), -1})
			s.equal(term{name("gross"), 1}, term{name("in"), -10}) // dues of a tenth, which everybody knows
			s.equal(term{name("balance"), 1}, term{fmt.Sprint("balance/", i-1), -1}, term{name("in"), -1}, term{name("out"), 1})
			s.publish(name("out"), &p.Out) // grants are decided in public
			delete(withheld, name("out"))
		}
		for _, name := range s.solved(t) {
			if withheld[name] {
				t.Fatalf("seed %d: %s follows from the other releases", seed, name)
			}
		}
	}
	if published < 100 || held < 100 {
		t.Errorf("%d closings published, %d withheld: too few for this test", published, held)
	}
}
