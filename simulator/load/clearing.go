package load

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"

	"kith/hub/clearing"
)

// market describes a drawn network of debts. Floating point stays in this generator: amounts leave it as whole numbers.
type market struct {
	nodes, debts int
	powerLaw     bool
	seed         uint64
}

const (
	marketCut  = 20_000 // day of the cut
	marketDays = 31
	ageCap     = 365
	lawOfRanks = 0.55 // density of a node in a trade network by its rank
)

// draw makes distinct ordered pairs, uniform or by rank with most ranks shared by debtors and creditors; amounts are
// log-normal.
func (m market) draw() (clearing.Terms, []clearing.Obligation) {
	rng := rand.New(rand.NewPCG(m.seed, 7))
	pick := func() (int, int) { return rng.IntN(m.nodes), rng.IntN(m.nodes) }
	sigma := 1.5
	if m.powerLaw {
		pick, sigma = m.byRank(rng), 1.8
	}
	id := func(kind string, i int) [32]byte {
		return sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte(kind), m.seed), uint64(i)))
	}
	seen := make(map[uint64]bool, m.debts)
	debts := make([]clearing.Obligation, 0, m.debts)
	for len(debts) < m.debts {
		u, v := pick()
		key := uint64(u)<<32 | uint64(v)
		if u == v || seen[key] {
			continue
		}
		seen[key] = true
		debts = append(debts, clearing.Obligation{ID: id("debt", len(debts)), Debtor: fmt.Sprintf("n%06d", u), Creditor: fmt.Sprintf("n%06d", v),
			Unit: "hour", Amount: max(1, int64(math.Exp(8+sigma*rng.NormFloat64()))), Day: clearing.Day(marketCut - rng.IntN(marketDays))})
	}
	return clearing.Terms{Unit: "hour", Cut: marketCut, AgeCap: ageCap, Roots: [][32]byte{id("root", 0)}}, debts
}

func (m market) byRank(rng *rand.Rand) func() (int, int) {
	sums := make([]float64, m.nodes)
	sum := 0.0
	for i := range sums {
		sum += math.Pow(float64(i+1), -lawOfRanks)
		sums[i] = sum
	}
	debtors := rng.Perm(m.nodes)
	creditors := slices.Clone(debtors)
	for i := range creditors {
		if j := rng.IntN(m.nodes); rng.IntN(5) == 0 { // one rank in five is not shared
			creditors[i], creditors[j] = creditors[j], creditors[i]
		}
	}
	rank := func() int { return min(m.nodes-1, sort.SearchFloat64s(sums, rng.Float64()*sum)) }
	return func() (int, int) { return debtors[rank()], creditors[rank()] }
}

// walk reads every debt and every line once.
func (m market) walk(c *clearing.Case, r *clearing.Result) (sum int64) {
	gross := int64(0)
	for i := range r.Lines {
		gross += c.Obligation(i).Amount
		sum += r.Lines[i].Discharged
	}
	if gross != c.Gross() {
		return -1
	}
	return sum
}

func (m market) String() string {
	kind := "uniform"
	if m.powerLaw {
		kind = "power law"
	}
	return fmt.Sprintf("%d nodes, %d debts, %s", m.nodes, m.debts, kind)
}
