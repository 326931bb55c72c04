package clearing

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sort"
	"syscall"
	"testing"
	"time"
)

// market describes a generated network; floats stay in this generator, amounts leave it as whole numbers.
type market struct {
	nodes, debts int
	powerLaw     bool
	seed         uint64
	days         int
}

func (m market) String() string {
	kind := "uniform"
	if m.powerLaw {
		kind = "power-law"
	}
	return fmt.Sprintf("%s/%dk-nodes/%dk-debts", kind, m.nodes/1000, m.debts/1000)
}

func testRoots(seed uint64) [][32]byte {
	return [][32]byte{sha256.Sum256(binary.BigEndian.AppendUint64([]byte("root"), seed))}
}

func testID(seed uint64, i int) ID {
	return sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte("id"), seed), uint64(i)))
}

const benchCut = 20_000

// generate draws distinct ordered pairs: uniform, or both ends by rank with density rank^-0.55 where debtor and creditor
// ranks are mostly shared; amounts are log-normal.
func (m market) generate() (Terms, []Obligation) {
	rng := rand.New(rand.NewPCG(m.seed, 7))
	names := make([]string, m.nodes)
	for i := range names {
		names[i] = fmt.Sprintf("n%06d", i)
	}
	sigma := 1.5
	pick := func() (int, int) { return rng.IntN(m.nodes), rng.IntN(m.nodes) }
	if m.powerLaw {
		sigma = 1.8
		pick = m.powerLawPick(rng)
	}
	seen := make(map[uint64]bool, m.debts)
	obligations := make([]Obligation, 0, m.debts)
	for len(obligations) < m.debts {
		u, v := pick()
		key := uint64(u)<<32 | uint64(v)
		if u == v || seen[key] {
			continue
		}
		seen[key] = true
		amount := int64(math.Floor(math.Exp(8 + sigma*rng.NormFloat64())))
		obligations = append(obligations, Obligation{ID: testID(m.seed, len(obligations)), Debtor: names[u], Creditor: names[v],
			Unit: "hour", Amount: max(1, amount), Day: benchCut - Day(rng.IntN(m.days))})
	}
	return Terms{Unit: "hour", Cut: benchCut, AgeCap: 365, Roots: testRoots(m.seed)}, obligations
}

func (m market) powerLawPick(rng *rand.Rand) func() (int, int) {
	cumulated := make([]float64, m.nodes)
	sum := 0.0
	for i := range cumulated {
		sum += math.Pow(float64(i+1), -0.55)
		cumulated[i] = sum
	}
	debtorRank, creditorRank := rng.Perm(m.nodes), []int(nil)
	creditorRank = slices.Clone(debtorRank)
	for i := range creditorRank { // one rank in five is not shared
		if j := rng.IntN(m.nodes); rng.IntN(5) == 0 {
			creditorRank[i], creditorRank[j] = creditorRank[j], creditorRank[i]
		}
	}
	draw := func() int { return min(m.nodes-1, sort.SearchFloat64s(cumulated, rng.Float64()*sum)) }
	return func() (int, int) { return debtorRank[draw()], creditorRank[draw()] }
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var benchMarkets = []market{
	{nodes: 10_000, debts: 100_000, seed: 1, days: 31},
	{nodes: 10_000, debts: 100_000, seed: 2, days: 31, powerLaw: true},
	{nodes: 100_000, debts: 1_000_000, seed: 3, days: 31},
	{nodes: 100_000, debts: 1_000_000, seed: 4, days: 31, powerLaw: true},
}

func benchCase(b *testing.B, m market) *Case {
	terms, obligations := m.generate()
	start := time.Now()
	c, err := Compile(terms, obligations)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%s compiled in %v", m, time.Since(start).Round(time.Millisecond))
	return c
}

func BenchmarkFirstStage(b *testing.B) {
	for _, m := range benchMarkets {
		b.Run(m.String(), func(b *testing.B) {
			c := benchCase(b, m)
			runtime.GC()
			cpu := cpuTime()
			for b.Loop() {
				flow := make([]int64, len(c.arcs))
				free := make([]int32, len(c.arcs))
				for k := range free {
					free[k] = int32(k)
				}
				if _, _, err := c.optimiseStage(0, free, flow); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpuTime()-cpu).Seconds()/float64(b.N), "cpu-s/op")
		})
	}
}

func BenchmarkSettle(b *testing.B) {
	for _, m := range append([]market{{nodes: 200, debts: 10_000, seed: 5, days: 31}}, benchMarkets...) {
		b.Run(m.String(), func(b *testing.B) {
			c := benchCase(b, m)
			runtime.GC()
			var r *Result
			var err error
			cpu := cpuTime()
			for b.Loop() {
				if r, err = Settle(c); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpuTime()-cpu).Seconds()/float64(b.N), "cpu-s/op")
			b.ReportMetric(100*float64(r.Total)/float64(c.Gross()), "%cleared")
			b.ReportMetric(float64(len(r.Stages)-fixedStages), "lots")
			b.ReportMetric(peakMemoryMiB(), "peak-MiB")
		})
	}
}

func peakMemoryMiB() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Maxrss) / 1024
}

func BenchmarkVerify(b *testing.B) {
	for _, m := range benchMarkets {
		b.Run(m.String(), func(b *testing.B) {
			c := benchCase(b, m)
			r, err := Settle(c)
			if err != nil {
				b.Fatal(err)
			}
			runtime.GC()
			cpu := cpuTime()
			for b.Loop() {
				if err := Verify(c, r); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(1000*(cpuTime()-cpu).Seconds()/float64(b.N), "cpu-ms/op")
		})
	}
}
