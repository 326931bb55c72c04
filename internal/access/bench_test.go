package access

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"runtime"
	"slices"
	"testing"
	"time"
)

const (
	benchPeople = 250_000
	benchRules  = 200
)

// bigHouse has a quarter of a million people in 40 groups and 200 grants, each with a schedule of three spans.
func bigHouse() Document {
	d := Document{Network: "kith", Node: "lisbon", Version: 1, Issued: base, Zone: "Europe/Lisbon"}
	rnd := rand.New(rand.NewSource(1))
	for i := range benchRules {
		d.Schedules = append(d.Schedules, Schedule{ID: fmt.Sprint("s", i), Holidays: []string{"2026-12-25", "2027-01-01"}, Spans: []Span{
			{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "07:00", To: "22:00"},
			{Days: []string{"sat", "sun"}, From: "09:00", To: "20:00"}, {Days: []string{"fri"}, From: "23:00", To: "04:00"}}})
		g := Grant{ID: fmt.Sprintf("g%03d", i), Group: fmt.Sprint("group-", i%40), Schedule: fmt.Sprint("s", i), Zones: []string{fmt.Sprint("zone-", i%10)}}
		for range 8 {
			g.Doors = append(g.Doors, fmt.Sprint("door-", rnd.Intn(50)))
		}
		d.Grants = append(d.Grants, g)
	}
	for i := range benchPeople {
		key := make([]byte, 32)
		rnd.Read(key)
		id := fmt.Sprintf("member-%06d", i)
		d.Members = append(d.Members, Member{ID: id, Name: "Somebody Ordinary", Role: RoleResident, Groups: []string{
			fmt.Sprint("group-", i%40), fmt.Sprint("group-", (i+7)%40), fmt.Sprint("group-", (i+19)%40)}})
		d.Cards = append(d.Cards, Card{ID: fmt.Sprintf("pkoc:%x", key), Member: id})
	}
	return d
}

func quantile(sorted []time.Duration, per1000 int) float64 {
	return float64(sorted[len(sorted)*per1000/1000].Nanoseconds())
}

// BenchmarkDecide reports p50 and p99 of single decisions over random people and doors, beside a bare look-up of the
// same card id in a map, in the same run.
func BenchmarkDecide(b *testing.B) {
	d := bigHouse()
	r, err := Compile(d)
	if err != nil {
		b.Fatal(err)
	}
	bare := make(map[string]*Card, len(d.Cards))
	for i := range d.Cards {
		bare[d.Cards[i].ID] = &d.Cards[i]
	}
	now := time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC)
	rnd := rand.New(rand.NewSource(2))
	var decide, lookup []time.Duration
	allowed := 0
	for b.Loop() {
		id := d.Cards[rnd.Intn(benchPeople)].ID
		q := Query{Card: id, Door: Door{ID: fmt.Sprint("door-", rnd.Intn(50)), Zones: []string{"zone-3"}}, Now: now, Fresh: Freshness{Fresh: true}}
		t0 := time.Now()
		v := r.Decide(q)
		t1 := time.Now()
		found := bare[id]
		t2 := time.Now()
		if v.Allow {
			allowed++
		}
		if found == nil {
			b.Fatal("lost a card")
		}
		decide, lookup = append(decide, t1.Sub(t0)), append(lookup, t2.Sub(t1))
	}
	slices.Sort(decide)
	slices.Sort(lookup)
	b.ReportMetric(quantile(decide, 500), "decide-p50-ns")
	b.ReportMetric(quantile(decide, 990), "decide-p99-ns")
	b.ReportMetric(quantile(lookup, 500), "map-p50-ns")
	b.ReportMetric(quantile(lookup, 990), "map-p99-ns")
	b.ReportMetric(100*float64(allowed)/float64(len(decide)), "allowed-%")
}

// BenchmarkDecideWorst asks for a person who holds all 200 grants at a door where none opens.
func BenchmarkDecideWorst(b *testing.B) {
	d := bigHouse()
	d.Members, d.Cards = d.Members[:1], d.Cards[:1]
	for i := range d.Grants {
		d.Grants[i].Group, d.Grants[i].Member = "", d.Members[0].ID
		d.Grants[i].Doors = append(d.Grants[i].Doors, "front")
	}
	r, err := Compile(d)
	if err != nil {
		b.Fatal(err)
	}
	q := Query{Card: d.Cards[0].ID, Door: Door{ID: "front"}, Now: time.Date(2026, 11, 18, 3, 0, 0, 0, time.UTC), Fresh: Freshness{Fresh: true}}
	for b.Loop() {
		if r.Decide(q).Reason != Closed {
			b.Fatal("not the worst case")
		}
	}
}

// BenchmarkCompile reports what a quarter of a million people cost to read and to keep.
func BenchmarkCompile(b *testing.B) {
	text, err := json.Marshal(bigHouse())
	if err != nil {
		b.Fatal(err)
	}
	var r *Roster
	for b.Loop() {
		d, err := ParseJSON(text)
		if err != nil {
			b.Fatal(err)
		}
		if r, err = Compile(d); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(text))/(1<<20), "document-MiB")
	b.ReportMetric(held(&r), "roster-MiB")
}

// held is how much of the heap goes away with the roster.
func held(r **Roster) float64 {
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	with := heap()
	runtime.KeepAlive(*r)
	*r = nil
	return (with - heap()) / (1 << 20)
}

func TestADecisionAllocatesNothing(t *testing.T) {
	r := compile(t, house())
	q := tap(anaCard, "front", at(t, "Europe/Lisbon", "2026-11-18 12:00:00"))
	if n := testing.AllocsPerRun(100, func() { r.Decide(q) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
