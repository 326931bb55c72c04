package access

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const base = int64(1_790_000_000)

var (
	doorNames = []string{"front", "office", "cellar"}
	zoneNames = []string{"home", "work"}
)

// drawDocument makes small worlds in which everything is likely to meet everything.
func drawDocument(t *rapid.T) Document {
	window := func(name string) (int64, int64) {
		from := rapid.SampledFrom([]int64{0, 0, 0, 0, base - 1000, base + 1000}).Draw(t, name+" from")
		until := rapid.SampledFrom([]int64{0, 0, 0, 0, base - 500, base + 5000}).Draw(t, name+" until")
		if until != 0 && until <= from {
			until = 0
		}
		return from, until
	}
	d := Document{Network: "kith", Node: "lisbon", Version: 1, Zone: "Europe/Lisbon", Schedules: []Schedule{
		{ID: "day", Spans: []Span{{Days: []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}, From: "08:00", To: "20:00"}}},
		{ID: "night", Spans: []Span{{Days: []string{"mon", "wed", "fri"}, From: "20:00", To: "08:00"}}},
	}}
	for i := range rapid.IntRange(1, 4).Draw(t, "members") {
		m := Member{ID: fmt.Sprint("m", i), Role: rapid.SampledFrom(roleNames()).Draw(t, "role"), Blocked: rapid.IntRange(0, 5).Draw(t, "blocked") == 0,
			Home: rapid.SampledFrom([]string{"", "lisbon", "porto"}).Draw(t, "home")}
		m.From, m.Until = window("member")
		for _, g := range []string{"a", "b"} {
			if rapid.Bool().Draw(t, "group") {
				m.Groups = append(m.Groups, g)
			}
		}
		c := Card{ID: fmt.Sprintf("pkoc:%064x", i), Member: m.ID, Revoked: rapid.IntRange(0, 5).Draw(t, "revoked") == 0}
		if rapid.IntRange(0, 3).Draw(t, "uid") == 0 {
			c.ID = fmt.Sprintf("uid:%08x", i)
		}
		c.From, c.Until = window("card")
		d.Members, d.Cards = append(d.Members, m), append(d.Cards, c)
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "grants") {
		g := Grant{ID: fmt.Sprint("g", i), Schedule: rapid.SampledFrom([]string{"", "day", "night"}).Draw(t, "schedule")}
		if rapid.Bool().Draw(t, "for group") {
			g.Group = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "holder")
		} else {
			g.Member = rapid.SampledFrom(d.Members).Draw(t, "holder").ID
		}
		g.Doors = []string{rapid.SampledFrom(doorNames).Draw(t, "door")}
		if rapid.Bool().Draw(t, "zoned") {
			g.Zones = []string{rapid.SampledFrom(zoneNames).Draw(t, "zone")}
		}
		g.From, g.Until = window("grant")
		d.Grants = append(d.Grants, g)
	}
	if rapid.IntRange(0, 4).Draw(t, "closing") == 0 {
		d.Closed = []string{rapid.SampledFrom(doorNames).Draw(t, "closed")}
	}
	return d
}

func drawQuery(t *rapid.T, d Document) Query {
	return Query{
		Card: rapid.SampledFrom(d.Cards).Draw(t, "card").ID,
		Door: Door{
			ID: rapid.SampledFrom(doorNames).Draw(t, "at door"), Zones: rapid.SliceOfNDistinct(rapid.SampledFrom(zoneNames), 0, 2, rapid.ID).Draw(t, "in zones"),
			AllowUID: rapid.Bool().Draw(t, "allow uid"), Degraded: rapid.SampledFrom([]Degraded{"", KeepResidents, StaffOnly, DegradedClosed}).Draw(t, "degraded"),
		},
		Now:         time.Unix(base+rapid.Int64Range(-100_000, 100_000).Draw(t, "now"), 0),
		ClockUnsure: rapid.IntRange(0, 3).Draw(t, "unsure") == 0,
		Mode:        rapid.SampledFrom([]Mode{"", "", "", "", ModeClosed}).Draw(t, "mode"),
		Fresh:       Freshness{Fresh: rapid.IntRange(0, 2).Draw(t, "stale") == 0, Age: time.Duration(rapid.IntRange(0, 300).Draw(t, "age")) * time.Hour},
	}
}

func mustCompile(t *rapid.T, d Document) *Roster {
	r, err := Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// clone is deep enough for what the properties change.
func clone(d Document) Document {
	d.Members, d.Cards, d.Grants = slices.Clone(d.Members), slices.Clone(d.Cards), slices.Clone(d.Grants)
	for i := range d.Grants {
		d.Grants[i].Doors, d.Grants[i].Zones = slices.Clone(d.Grants[i].Doors), slices.Clone(d.Grants[i].Zones)
	}
	for i := range d.Members {
		d.Members[i].Groups = slices.Clone(d.Members[i].Groups)
	}
	d.Closed = slices.Clone(d.Closed)
	return d
}

func TestLooseningNeverDenies(t *testing.T) {
	type world struct {
		d *Document
		q *Query
	}
	loosen := map[string]func(*rapid.T, world){
		"add a grant": func(t *rapid.T, w world) {
			w.d.Grants = append(w.d.Grants, Grant{ID: rapid.SampledFrom([]string{"a0", "z0"}).Draw(t, "id"), Group: "a", Doors: []string{"front"}, Schedule: "day", Until: base - 1})
		},
		"unrevoke":        func(t *rapid.T, w world) { pick(t, w.d.Cards).Revoked = false },
		"unblock":         func(t *rapid.T, w world) { pick(t, w.d.Members).Blocked = false },
		"open a door":     func(t *rapid.T, w world) { w.d.Closed = nil },
		"endless card":    func(t *rapid.T, w world) { c := pick(t, w.d.Cards); c.From, c.Until = 0, 0 },
		"endless member":  func(t *rapid.T, w world) { m := pick(t, w.d.Members); m.From, m.Until = 0, 0 },
		"join a group":    func(t *rapid.T, w world) { pick(t, w.d.Members).Groups = []string{"a", "b"} },
		"become the host": func(t *rapid.T, w world) { m := pick(t, w.d.Members); m.Role, m.Home = RoleHost, "" },
		"allow uid":       func(t *rapid.T, w world) { w.q.Door.AllowUID = true },
		"freshen":         func(t *rapid.T, w world) { w.q.Fresh.Fresh = true },
		"be sure of time": func(t *rapid.T, w world) { w.q.ClockUnsure = false },
		"end the closing": func(t *rapid.T, w world) { w.q.Mode = ModeNormal },
		"more zones":      func(t *rapid.T, w world) { w.q.Door.Zones = zoneNames },
		"loosen a grant": func(t *rapid.T, w world) {
			if len(w.d.Grants) > 0 {
				g := pick(t, w.d.Grants)
				g.From, g.Until, g.Schedule, g.Doors = 0, 0, "", doorNames
			}
		},
	}
	var names []string
	for n := range loosen {
		names = append(names, n)
	}
	slices.Sort(names)
	granted := 0
	rapid.Check(t, func(t *rapid.T) {
		d := drawDocument(t)
		q := drawQuery(t, d)
		// One resident who surely gets in on most taps, so that the property is never tried on refusals alone.
		d.Members = append(d.Members, Member{ID: "sure", Role: RoleResident, Groups: []string{"a"}})
		d.Cards = append(d.Cards, Card{ID: anaCard, Member: "sure"})
		d.Grants = append(d.Grants, Grant{ID: "m-sure", Member: "sure", Doors: doorNames})
		if rapid.IntRange(0, 3).Draw(t, "odd") < 3 {
			q.Mode, q.Fresh = ModeNormal, Freshness{Fresh: true}
		}
		looser, lq := clone(d), q
		name := rapid.SampledFrom(names).Draw(t, "loosen")
		loosen[name](t, world{&looser, &lq})
		strict, loose := mustCompile(t, d), mustCompile(t, looser)
		for _, c := range d.Cards { // everybody at every door, in this one world
			for _, door := range doorNames {
				q.Card, lq.Card, q.Door.ID, lq.Door.ID = c.ID, c.ID, door, door
				before, after := strict.Decide(q), loose.Decide(lq)
				if before.Allow {
					granted++
				}
				if before.Allow && !after.Allow {
					t.Fatalf("%s: %+v became %+v", name, before, after)
				}
			}
		}
	})
	if granted < 10 {
		t.Fatalf("only %d cases were granted before: the property was hardly tried", granted)
	}
}

// pick draws one element to change.
func pick[T any](t *rapid.T, s []T) *T { return &s[rapid.IntRange(0, len(s)-1).Draw(t, "which")] }

func TestTighteningAlwaysDenies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDocument(t)
		q := drawQuery(t, d)
		i := slices.IndexFunc(d.Cards, func(c Card) bool { return c.ID == q.Card })
		tight := clone(d)
		var want Reason
		switch rapid.IntRange(0, 4).Draw(t, "tighten") {
		case 0:
			tight.Cards[i].Revoked, want = true, Revoked
		case 1:
			tight.Cards[i].Revoked = false
			for k := range tight.Members {
				tight.Members[k].Blocked = true
			}
			want = Blocked
		case 2:
			tight.Cards = slices.Delete(tight.Cards, i, i+1)
			want = UnknownCard
		case 3:
			tight.Closed = doorNames
		case 4:
			tight.Grants = nil
		}
		v := mustCompile(t, tight).Decide(q)
		if v.Allow || v.Reason == Granted || v.Reason == "" || (want != "" && v.Reason != want) {
			t.Fatalf("%+v, want reason %q", v, want)
		}
	})
}

func TestTheVerdictDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDocument(t)
		q := drawQuery(t, d)
		want := mustCompile(t, d).Decide(q)
		shuffled := clone(d)
		rnd := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		rnd.Shuffle(len(shuffled.Grants), func(i, k int) {
			shuffled.Grants[i], shuffled.Grants[k] = shuffled.Grants[k], shuffled.Grants[i]
		})
		rnd.Shuffle(len(shuffled.Members), func(i, k int) {
			shuffled.Members[i], shuffled.Members[k] = shuffled.Members[k], shuffled.Members[i]
		})
		rnd.Shuffle(len(shuffled.Cards), func(i, k int) {
			shuffled.Cards[i], shuffled.Cards[k] = shuffled.Cards[k], shuffled.Cards[i]
		})
		for i := range shuffled.Members {
			slices.Reverse(shuffled.Members[i].Groups)
		}
		slices.Reverse(q.Door.Zones)
		if got := mustCompile(t, shuffled).Decide(q); got != want {
			t.Fatalf("%+v became %+v", want, got)
		}
	})
}

func TestAVerdictIsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDocument(t)
		q := drawQuery(t, d)
		r := mustCompile(t, d)
		v := r.Decide(q)
		if v != r.Decide(q) {
			t.Fatal("asked twice, answered twice")
		}
		if v.Allow != (v.Reason == Granted) || v.RosterVersion != 1 || (v.Allow && (v.Grant == "" || v.Member == "")) || (!v.Allow && (v.PulseMS != 0 || v.Degraded)) {
			t.Fatalf("%+v", v)
		}
		if v.Degraded != (v.Allow && !q.Fresh.Fresh) {
			t.Fatalf("%+v for %+v", v, q.Fresh)
		}
	})
}
