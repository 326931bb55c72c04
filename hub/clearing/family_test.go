package clearing

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// families are the shapes of network that every property is shown on.
var families = []string{"dense", "sparse", "star", "long-cycle", "ties", "near-the-limits", "disconnected"}

// family draws one small case of a shape; unit lets amounts be whole multiples of it, so that an oracle with floating
// point numbers can be asked about amounts near the limits too.
func family(shape string, seed uint64, pool bool) (terms Terms, obligations []Obligation, unit int64) {
	rng := rand.New(rand.NewPCG(seed, uint64(len(shape))))
	nodes, debts, most, days, unit := 8, 24, int64(1000), 40, int64(1)
	switch shape {
	case "dense":
		nodes, debts = 7, 60
	case "sparse":
		nodes, debts = 20, 26
	case "ties":
		nodes, debts, most, days = 6, 30, 2, 2
	case "near-the-limits":
		unit = 1 << 40
		most = 1 << 15
	}
	name := func(i int) string { return fmt.Sprintf("n%02d", i) }
	add := func(from, to int) {
		if from != to {
			obligations = append(obligations, Obligation{ID: testID(seed, len(obligations)), Debtor: name(from), Creditor: name(to),
				Unit: "hour", Amount: unit * (1 + rng.Int64N(most)), Day: 1000 - Day(rng.IntN(days))})
		}
	}
	switch shape {
	case "star":
		for i := 1; i < nodes; i++ {
			add(0, i)
			add(i, 0)
		}
	case "long-cycle":
		for i := range 40 {
			add(i, (i+1)%40)
		}
		for range 10 {
			add(rng.IntN(40), rng.IntN(40))
		}
	case "disconnected":
		for range debts {
			part := 8 * rng.IntN(3)
			add(part+rng.IntN(4), part+rng.IntN(4))
		}
	default:
		for range debts {
			add(rng.IntN(nodes), rng.IntN(nodes))
		}
	}
	terms = Terms{Unit: "hour", Cut: 1000, AgeCap: 30, Roots: testRoots(seed)}
	if pool {
		terms.Commons = "n00" // the commons also owes and is owed
		for i := 1; i < nodes; i += 2 {
			terms.Limits = append(terms.Limits, Limit{Node: name(i), Balance: unit * (rng.Int64N(most) - most/2),
				Floor: -unit * rng.Int64N(most), Ceiling: unit * rng.Int64N(most)})
		}
	}
	return terms, obligations, unit
}

func mustCompile(t testing.TB, terms Terms, obligations []Obligation) *Case {
	t.Helper()
	c, err := Compile(terms, obligations)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustSettle(t testing.TB, c *Case) *Result {
	t.Helper()
	r, err := Settle(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
