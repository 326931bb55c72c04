package feed

import (
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

func BenchmarkExports(b *testing.B) {
	j := books(1, 100_000)
	for name, write := range exports {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := write(io.Discard, j); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/100k-entries")
		})
	}
}

// A network far larger than any today, with many small groups in it.
func BenchmarkReleaseOfAThousandHouses(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	rep := &Report{Network: "n", Period: "2026-11", From: november, To: november + 29, Privacy: DefaultPrivacy()}
	var list []Contribution
	for h := range 1000 {
		id := fmt.Sprintf("h%d", h)
		rep.Houses = append(rep.Houses, House{ID: id})
		for k := range 20 {
			for m := range r.IntN(12) {
				list = append(list, Contribution{id, fmt.Sprintf("k%d", k), fmt.Sprintf("%s-%d", id, m), 1 + r.Int64N(40)})
			}
		}
	}
	cells, err := Tally(list)
	if err != nil {
		b.Fatal(err)
	}
	rep.Measures = []Measure{{Unit: "night", Cells: cells}}
	for b.Loop() {
		if _, err := rep.Release(nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/release")
}
