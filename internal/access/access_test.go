package access

import (
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

const (
	anaCard   = "pkoc:00000000000000000000000000000000000000000000000000000000000000aa"
	benCard   = "pkoc:00000000000000000000000000000000000000000000000000000000000000bb"
	caraCard  = "pkoc:00000000000000000000000000000000000000000000000000000000000000cc"
	danUID    = "uid:04a1b2c3d4e5f6"
	nobody    = "pkoc:00000000000000000000000000000000000000000000000000000000000000ff"
	stranger  = "uid:08aabbcc"
	lostCard  = "pkoc:0000000000000000000000000000000000000000000000000000000000000001"
	blockCard = "pkoc:0000000000000000000000000000000000000000000000000000000000000002"
)

func at(t testing.TB, zone, text string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	out, err := time.ParseInLocation("2006-01-02 15:04:05", text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func house() Document {
	return Document{
		Network: "kith", Node: "lisbon", Version: 7, Issued: 1_790_000_000, Zone: "Europe/Lisbon",
		Members: []Member{
			{ID: "ana", Name: "Ana", Role: RoleResident, Groups: []string{"people"}, PulseMS: 12_000},
			{ID: "ben", Name: "Ben", Role: RoleGuest, Groups: []string{"guests"}},
			{ID: "cara", Role: RoleResident, Home: "porto", Groups: []string{"people", "guests"}},
			{ID: "dan", Role: RoleHost},
			{ID: "eve", Role: RoleResident, Groups: []string{"people"}, Blocked: true},
		},
		Cards: []Card{
			{ID: anaCard, Member: "ana"}, {ID: benCard, Member: "ben"}, {ID: caraCard, Member: "cara"}, {ID: danUID, Member: "dan"},
			{ID: lostCard, Member: "ana", Revoked: true}, {ID: blockCard, Member: "eve"},
		},
		Schedules: []Schedule{
			{ID: "day", Spans: []Span{{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "08:00", To: "20:00"}}, Holidays: []string{"2026-12-25"}},
			{ID: "night", Spans: []Span{{Days: []string{"fri", "sat"}, From: "22:00", To: "06:00"}}, Holidays: []string{"2026-12-25"}},
		},
		Grants: []Grant{
			{ID: "g-people", Group: "people", Doors: []string{"front"}, Zones: []string{"living"}},
			{ID: "g-guests", Group: "guests", Doors: []string{"front"}, Schedule: "day"},
			{ID: "g-dan", Member: "dan", Doors: []string{"front", "office"}},
			{ID: "g-ben-night", Member: "ben", Doors: []string{"club"}, Schedule: "night"},
			{ID: "g-ben-past", Member: "ben", Doors: []string{"sauna"}, Until: 1_000},
			{ID: "g-ben-soon", Member: "ben", Doors: []string{"sauna", "roof"}, From: 4_000_000_000},
		},
		Closed: []string{"cellar"},
		Resources: []Resource{
			{ID: "bed", Name: "Bed", Measure: "night", Offered: true, Capacity: 6, MaxEntry: 14, Lead: 24},
			{ID: "kitchen", Measure: "minute", Actions: []string{"work"}, Groups: []string{"people"}, MaxDay: 600, Witness: 240},
		},
	}
}

func compile(t testing.TB, d Document) *Roster {
	t.Helper()
	r, err := Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tap(card, door string, now time.Time) Query {
	return Query{Card: card, Door: Door{ID: door}, Now: now, Fresh: Freshness{Fresh: true}}
}

func TestEveryReasonIsGivenForItsOwnCause(t *testing.T) {
	noon := at(t, "Europe/Lisbon", "2026-11-18 12:00:00")    // Wednesday
	evening := at(t, "Europe/Lisbon", "2026-11-18 21:00:00") // Wednesday
	late := noon.Add(48 * time.Hour)
	mexico := func(d *Document) { d.Node, d.Zone = "oaxaca", "America/Mexico_City" } // six hours behind Lisbon and UTC
	cases := []struct {
		name string
		edit func(*Document)
		q    Query
		with func(*Query)
		want Verdict
	}{
		{"resident always", nil, tap(anaCard, "front", evening), nil, Verdict{Allow: true, Reason: Granted, Member: "ana", Grant: "g-people", PulseMS: 12_000}},
		{"resident through a zone", nil, tap(anaCard, "kitchen", noon), func(q *Query) { q.Door.Zones = []string{"none", "living"} }, Verdict{Allow: true, Reason: Granted, Member: "ana", Grant: "g-people", PulseMS: 12_000}},
		{"guest in schedule", nil, tap(benCard, "front", noon), nil, Verdict{Allow: true, Reason: Granted, Member: "ben", Grant: "g-guests", Rule: "day"}},
		{"guest out of schedule", nil, tap(benCard, "front", evening), nil, Verdict{Reason: Closed, Member: "ben", Grant: "g-guests", Rule: "day"}},
		{"guest in the house's schedule, in the night of UTC", mexico, tap(benCard, "front", at(t, "America/Mexico_City", "2026-11-18 19:59:59").UTC()), nil, Verdict{Allow: true, Reason: Granted, Member: "ben", Grant: "g-guests", Rule: "day"}},
		{"guest before the house's schedule, at noon of UTC", mexico, tap(benCard, "front", at(t, "America/Mexico_City", "2026-11-18 07:59:59").UTC()), nil, Verdict{Reason: Closed, Member: "ben", Grant: "g-guests", Rule: "day"}},
		{"guest on the house's Friday, on a Saturday of UTC", mexico, tap(benCard, "front", at(t, "America/Mexico_City", "2026-11-20 18:00:00").UTC()), nil, Verdict{Allow: true, Reason: Granted, Member: "ben", Grant: "g-guests", Rule: "day"}},
		{"unknown card", nil, tap(nobody, "front", noon), nil, Verdict{Reason: UnknownCard}},
		{"unknown uid card at a pkoc door", nil, tap(stranger, "front", noon), nil, Verdict{Reason: UnknownCard}},
		{"malformed card id", nil, tap("pkoc:AA", "front", noon), nil, Verdict{Reason: UnknownCard}},
		{"revoked card", nil, tap(lostCard, "front", noon), nil, Verdict{Reason: Revoked, Member: "ana"}},
		{"blocked person", nil, tap(blockCard, "front", noon), nil, Verdict{Reason: Blocked, Member: "eve"}},
		{"wrong door", nil, tap(anaCard, "office", noon), nil, Verdict{Reason: WrongDoor, Member: "ana"}},
		{"door nobody knows", nil, tap(anaCard, "moon", noon), nil, Verdict{Reason: WrongDoor, Member: "ana"}},
		{"uid card at a pkoc door", nil, tap(danUID, "office", noon), nil, Verdict{Reason: UIDNotAllowed, Member: "dan"}},
		{"uid card where it may", nil, tap(danUID, "office", noon), func(q *Query) { q.Door.AllowUID = true }, Verdict{Allow: true, Reason: Granted, Member: "dan", Grant: "g-dan"}},
		{"weak assurance of a strong id", nil, tap(anaCard, "front", noon), func(q *Query) { q.Assurance = "uid" }, Verdict{Reason: UIDNotAllowed, Member: "ana"}},
		{"card expired", func(d *Document) { d.Cards[0].Until = noon.Unix() }, tap(anaCard, "front", noon), nil, Verdict{Reason: Expired, Member: "ana"}},
		{"card not expired a second before", func(d *Document) { d.Cards[0].Until = noon.Unix() + 1 }, tap(anaCard, "front", noon), nil, Verdict{Allow: true, Reason: Granted, Member: "ana", Grant: "g-people", PulseMS: 12_000}},
		{"person expired", func(d *Document) { d.Members[0].Until = noon.Unix() }, tap(anaCard, "front", noon), nil, Verdict{Reason: Expired, Member: "ana"}},
		{"person not yet", func(d *Document) { d.Members[0].From = noon.Unix() + 1 }, tap(anaCard, "front", noon), nil, Verdict{Reason: NotYetValid, Member: "ana"}},
		{"card begins this very second", func(d *Document) { d.Cards[0].From = noon.Unix() }, tap(anaCard, "front", noon), nil, Verdict{Allow: true, Reason: Granted, Member: "ana", Grant: "g-people", PulseMS: 12_000}},
		{"grant not yet beats grant expired", nil, tap(benCard, "sauna", noon), nil, Verdict{Reason: NotYetValid, Member: "ben", Grant: "g-ben-soon"}},
		{"grant not yet", nil, tap(benCard, "roof", noon), nil, Verdict{Reason: NotYetValid, Member: "ben", Grant: "g-ben-soon"}},
		{"closed by a host in the roster", nil, tap(anaCard, "cellar", noon), nil, Verdict{Reason: DoorClosed, Member: "ana"}},
		{"closed by a host at the door", nil, tap(anaCard, "front", noon), func(q *Query) { q.Mode = ModeClosed }, Verdict{Reason: DoorClosed, Member: "ana"}},
		{"a mode nobody knows is closed", nil, tap(anaCard, "front", noon), func(q *Query) { q.Mode = "party" }, Verdict{Reason: DoorClosed, Member: "ana"}},
		{"stale keeps a resident", nil, tap(anaCard, "front", noon), func(q *Query) { q.Fresh = Freshness{Age: 25 * time.Hour} }, Verdict{Allow: true, Reason: Granted, Member: "ana", Grant: "g-people", PulseMS: 12_000, Degraded: true}},
		{"stale for 7 days keeps nobody", nil, tap(anaCard, "front", noon), func(q *Query) { q.Fresh = Freshness{Age: DegradedMax + 1} }, Verdict{Reason: StaleRoster, Member: "ana", Grant: "g-people"}},
		{"stale drops a visiting resident", nil, tap(caraCard, "front", noon), func(q *Query) { q.Fresh = Freshness{Age: time.Hour} }, Verdict{Reason: StaleRoster, Member: "cara", Grant: "g-guests", Rule: "day"}},
		{"stale drops a guest", nil, tap(benCard, "front", noon), func(q *Query) { q.Fresh = Freshness{Age: time.Hour} }, Verdict{Reason: StaleRoster, Member: "ben", Grant: "g-guests", Rule: "day"}},
		{"stale says wrong door where it is", nil, tap(benCard, "office", noon), func(q *Query) { q.Fresh = Freshness{Age: time.Hour} }, Verdict{Reason: WrongDoor, Member: "ben"}},
		{"staff-only drops a resident", nil, tap(anaCard, "front", noon), func(q *Query) { q.Fresh, q.Door.Degraded = Freshness{}, StaffOnly }, Verdict{Reason: StaleRoster, Member: "ana", Grant: "g-people"}},
		{"staff-only keeps a host", nil, tap(danUID, "front", noon), func(q *Query) { q.Fresh, q.Door.Degraded, q.Door.AllowUID = Freshness{}, StaffOnly, true }, Verdict{Allow: true, Reason: Granted, Member: "dan", Grant: "g-dan", Degraded: true}},
		{"degraded closed keeps nobody", nil, tap(anaCard, "front", noon), func(q *Query) { q.Fresh, q.Door.Degraded = Freshness{}, DegradedClosed }, Verdict{Reason: StaleRoster, Member: "ana", Grant: "g-people"}},
		{"an unknown degraded mode keeps nobody", nil, tap(anaCard, "front", noon), func(q *Query) { q.Fresh, q.Door.Degraded = Freshness{}, "open" }, Verdict{Reason: StaleRoster, Member: "ana", Grant: "g-people"}},
		{"clock unsure keeps a resident's always", nil, tap(anaCard, "front", noon), func(q *Query) { q.ClockUnsure = true }, Verdict{Allow: true, Reason: Granted, Member: "ana", Grant: "g-people", PulseMS: 12_000}},
		{"clock unsure stops schedules", nil, tap(benCard, "front", noon), func(q *Query) { q.ClockUnsure = true }, Verdict{Reason: ClockUnsure, Member: "ben", Grant: "g-guests", Rule: "day"}},
		{"clock unsure keeps an end that surely came", func(d *Document) { d.Cards[0].Until = 5 }, tap(anaCard, "front", noon), func(q *Query) { q.ClockUnsure = true }, Verdict{Reason: Expired, Member: "ana"}},
		{"clock unsure cannot say not yet", func(d *Document) { d.Cards[0].From = late.Unix() }, tap(anaCard, "front", noon), func(q *Query) { q.ClockUnsure = true }, Verdict{Reason: ClockUnsure, Member: "ana"}},
		{"clock unsure stops a guest's always", func(d *Document) { d.Grants[1].Schedule = "" }, tap(benCard, "front", noon), func(q *Query) { q.ClockUnsure = true }, Verdict{Reason: ClockUnsure, Member: "ben", Grant: "g-guests"}},
		{"clock unsure stops a grant with an end", func(d *Document) { d.Grants[0].Until = late.Unix() }, tap(anaCard, "front", noon), func(q *Query) { q.ClockUnsure = true }, Verdict{Reason: ClockUnsure, Member: "ana", Grant: "g-people"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := house()
			if c.edit != nil {
				c.edit(&d)
			}
			if c.with != nil {
				c.with(&c.q)
			}
			c.want.RosterVersion = 7
			if got := compile(t, d).Decide(c.q); got != c.want {
				t.Fatalf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
	if got := (*Roster)(nil).Decide(tap(anaCard, "front", noon)); got != (Verdict{Reason: NoRoster}) {
		t.Fatalf("nil roster: %+v", got)
	}
}

func TestADoorAndAZoneOfOneNameAreDifferentPlaces(t *testing.T) {
	d := house()
	d.Grants = []Grant{
		{ID: "a", Member: "ana", Doors: []string{"hall"}},
		{ID: "b", Member: "ben", Zones: []string{"hall", "attic"}},
		{ID: "c", Member: "cara", Doors: []string{"attic"}},
	}
	r := compile(t, d)
	noon := at(t, "Europe/Lisbon", "2026-11-18 12:00:00")
	for card, want := range map[string][2]bool{anaCard: {true, false}, benCard: {false, true}, caraCard: {false, false}} {
		asDoor, asZone := tap(card, "hall", noon), tap(card, "x", noon)
		asZone.Door.Zones = []string{"hall"}
		if got := [2]bool{r.Decide(asDoor).Allow, r.Decide(asZone).Allow}; got != want {
			t.Errorf("%s: door, zone = %v, want %v", card[len(card)-2:], got, want)
		}
	}
}

func TestCompileNamesFieldAndIndex(t *testing.T) {
	cases := []struct {
		want string
		edit func(*Document)
	}{
		{"network: ", func(d *Document) { d.Network = "Kith" }},
		{"node: ", func(d *Document) { d.Node = strings.Repeat("a", 49) }},
		{"version: ", func(d *Document) { d.Version = 0 }},
		{"issued: ", func(d *Document) { d.Issued = -1 }},
		{"zone: ", func(d *Document) { d.Zone = "" }},
		{"zone: ", func(d *Document) { d.Zone = "Local" }},
		{"zone: ", func(d *Document) { d.Zone = "Europe/Nowhere" }},
		{"groups[1]: ", func(d *Document) { d.Groups = []string{"people", "people", "guests"} }},
		{"members[1].groups[0]: group \"guests\"", func(d *Document) { d.Groups = []string{"people"} }},
		{"members[2].id: ", func(d *Document) { d.Members[2].ID = "-x" }},
		{"members[3].id: \"ana\" stands twice, first at members[0]", func(d *Document) { d.Members[3].ID = "ana" }},
		{"members[1].role: ", func(d *Document) { d.Members[1].Role = "king" }},
		{"members[1].name: ", func(d *Document) { d.Members[1].Name = "a\nb" }},
		{"members[1].name: ", func(d *Document) { d.Members[1].Name = "a\u202eb" }},
		{"members[1].name: ", func(d *Document) { d.Members[1].Name = strings.Repeat("a", 201) }},
		{"members[1].home: ", func(d *Document) { d.Members[1].Home = "No" }},
		{"members[1].pulse_ms: ", func(d *Document) { d.Members[1].PulseMS = MaxPulseMS + 1 }},
		{"members[1].from: ", func(d *Document) { d.Members[1].From = -5 }},
		{"members[1].until: ", func(d *Document) { d.Members[1].From, d.Members[1].Until = 9, 9 }},
		{"members[0].groups[1]: \"people\" stands twice", func(d *Document) { d.Members[0].Groups = []string{"people", "people"} }},
		{"members[0].groups[0]: ", func(d *Document) { d.Members[0].Groups = []string{"P"} }},
		{"cards[2].id: ", func(d *Document) { d.Cards[2].ID = "pkoc:" + strings.Repeat("A", 64) }},
		{"cards[2].id: ", func(d *Document) { d.Cards[2].ID = "uid:0102030405" }},
		{"cards[2].id: stands twice", func(d *Document) { d.Cards[2].ID = anaCard }},
		{"cards[2].member: ", func(d *Document) { d.Cards[2].Member = "zoe" }},
		{"cards[2].until: ", func(d *Document) { d.Cards[2].Until = -1 }},
		{"schedules[1].id: \"day\" stands twice", func(d *Document) { d.Schedules[1].ID = "day" }},
		{"schedules[0].spans: ", func(d *Document) { d.Schedules[0].Spans = nil }},
		{"schedules[0].spans[0].days[1]: ", func(d *Document) { d.Schedules[0].Spans[0].Days = []string{"mon", "monday"} }},
		{"schedules[0].spans[0].days[1]: \"mon\" stands twice", func(d *Document) { d.Schedules[0].Spans[0].Days = []string{"mon", "mon"} }},
		{"schedules[0].spans[0].days: ", func(d *Document) { d.Schedules[0].Spans[0].Days = nil }},
		{"schedules[0].spans[0].from: ", func(d *Document) { d.Schedules[0].Spans[0].From = "24:00" }},
		{"schedules[0].spans[0].to: ", func(d *Document) { d.Schedules[0].Spans[0].To = "24:01" }},
		{"schedules[0].spans[0].to: ", func(d *Document) { d.Schedules[0].Spans[0].To = "8:00" }},
		{"schedules[0].spans[0]: ", func(d *Document) { d.Schedules[0].Spans[0].To = "08:00" }},
		{"schedules[0].holidays[0]: ", func(d *Document) { d.Schedules[0].Holidays = []string{"2026-02-30"} }},
		{"grants[1].id: \"g-people\" stands twice, first at grants[0]", func(d *Document) { d.Grants[1].ID = "g-people" }},
		{"grants[0]: names neither member nor group", func(d *Document) { d.Grants[0].Group = "" }},
		{"grants[0]: names both", func(d *Document) { d.Grants[0].Member = "ana" }},
		{"grants[2].member: ", func(d *Document) { d.Grants[2].Member = "zoe" }},
		{"grants[0]: names neither doors nor zones", func(d *Document) { d.Grants[0].Doors, d.Grants[0].Zones = nil, nil }},
		{"grants[0].doors[0]: ", func(d *Document) { d.Grants[0].Doors = []string{"Front door"} }},
		{"grants[0].zones[0]: ", func(d *Document) { d.Grants[0].Zones = []string{""} }},
		{"grants[1].schedule: ", func(d *Document) { d.Grants[1].Schedule = "dya" }},
		{"grants[1].until: ", func(d *Document) { d.Grants[1].From, d.Grants[1].Until = 5, 4 }},
		{"resources[1].id: ", func(d *Document) { d.Resources[1].ID = "Bed" }},
		{"resources[1].id: \"bed\" stands twice, first at resources[0]", func(d *Document) { d.Resources[1].ID = "bed" }},
		{"resources[0].measure: ", func(d *Document) { d.Resources[0].Measure = "" }},
		{"resources[0].name: ", func(d *Document) { d.Resources[0].Name = "a\u202eb" }},
		{"resources[1].actions[0]: \"eat\" is none of", func(d *Document) { d.Resources[1].Actions = []string{"eat"} }},
		{"resources[1].actions[1]: \"work\" stands twice", func(d *Document) { d.Resources[1].Actions = []string{"work", "work"} }},
		{"resources[0].max_entry: -1", func(d *Document) { d.Resources[0].MaxEntry = -1 }},
		{"resources[0].max_entry: 8 is above max_day 7", func(d *Document) { d.Resources[0].MaxEntry, d.Resources[0].MaxDay = 8, 7 }},
		{"resources[0].lead_hours: ", func(d *Document) { d.Resources[0].Lead = MaxLeadHours + 1 }},
		{"resources[0].groups[0]: ", func(d *Document) { d.Resources[0].Groups = []string{"P"} }},
		{"resources[1].groups[0]: group \"people\"", func(d *Document) { d.Groups = []string{"guests"}; d.Resources[1].Groups = []string{"people"} }},
		{"resources: 1025 exceed", func(d *Document) { d.Resources = make([]Resource, MaxResources+1) }},
		{"closed[0]: ", func(d *Document) { d.Closed = []string{"/"} }},
		{"closed: 4097 exceed", func(d *Document) { d.Closed = make([]string, MaxClosed+1) }},
		{"grants: 100001 exceed", func(d *Document) { d.Grants = make([]Grant, MaxGrants+1) }},
		{"and 484 more problems", func(d *Document) {
			for i := range 500 {
				d.Closed = append(d.Closed, fmt.Sprint("BAD", i))
			}
		}},
	}
	for _, c := range cases {
		d := house()
		c.edit(&d)
		r, err := Compile(d)
		if err == nil || r != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want an error naming %q, got %v", c.want, err)
		}
	}
}
