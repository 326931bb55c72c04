package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kith/internal/access"
)

// memory is a Store that keeps what it is told, or refuses.
type memory struct {
	records map[string]map[string][]byte
	rosters map[string]Roster
	fail    error
}

func newMemory() *memory {
	return &memory{records: map[string]map[string][]byte{}, rosters: map[string]Roster{}}
}

func (m *memory) Records(_ context.Context, kind string) ([]Record, error) {
	var all []Record
	for _, id := range slices.Sorted(maps.Keys(m.records[kind])) {
		all = append(all, Record{kind, id, m.records[kind][id]})
	}
	return all, nil
}

func (m *memory) Rosters(context.Context) ([]Roster, error) {
	return slices.Collect(maps.Values(m.rosters)), nil
}

func (m *memory) Save(_ context.Context, records []Record, rosters []Roster) error {
	if m.fail != nil {
		return m.fail
	}
	for _, r := range records {
		if m.records[r.Kind] == nil {
			m.records[r.Kind] = map[string][]byte{}
		}
		if r.Body == nil {
			delete(m.records[r.Kind], r.ID)
		} else {
			m.records[r.Kind][r.ID] = r.Body
		}
	}
	for _, r := range rosters {
		if r.Version <= m.rosters[r.Node].Version {
			return fmt.Errorf("roster of %s goes back", r.Node)
		}
		m.rosters[r.Node] = r
	}
	return nil
}

var now = time.Unix(1_800_000_000, 0)

func card(n int) string { return fmt.Sprintf("pkoc:%064x", n) }

// house is two nodes: ana and bo live in lisbon, eva in porto; residents of the network may use lisbon's front door.
func house(t *testing.T) (*Registry, *memory) {
	t.Helper()
	m := newMemory()
	r, err := Open(t.Context(), "demo", m)
	if err != nil {
		t.Fatal(err)
	}
	rosters := apply(t, r, Change{
		Nodes: []Node{{"lisbon", "Lisbon", "Europe/Lisbon"}, {"porto", "Porto", "Europe/Lisbon"}},
		Edges: []Edge{{ID: "lisbon-front", Node: "lisbon", Key: "k"}},
		Members: []access.Member{
			{ID: "ana", Name: "Ana", Home: "lisbon", Role: access.RoleResident, Groups: []string{"residents"}},
			{ID: "bo", Name: "Bo", Home: "lisbon", Role: access.RoleHost},
			{ID: "eva", Name: "Eva", Home: "porto", Role: access.RoleResident, Groups: []string{"residents"}},
			{ID: "gil", Name: "Gil", Home: "porto", Role: access.RoleGuest},
		},
		Cards:     []access.Card{{ID: card(1), Member: "ana"}, {ID: card(2), Member: "eva"}, {ID: card(3), Member: "gil"}},
		Schedules: []Schedule{{"lisbon", access.Schedule{ID: "day", Spans: []access.Span{{Days: []string{"mon"}, From: "08:00", To: "20:00"}}}}},
		Resources: []Resource{{"lisbon", access.Resource{ID: "bed", Name: "Bed", Measure: "night", Offered: true, MaxEntry: 14}}},
		Grants:    []Grant{{"lisbon", access.Grant{ID: "all", Group: "residents", Doors: []string{"front"}, Schedule: "day"}}},
	})
	if len(rosters) != 2 {
		t.Fatalf("%d rosters", len(rosters))
	}
	return r, m
}

func apply(t *testing.T, r *Registry, c Change) []Roster {
	t.Helper()
	rosters, err := r.Apply(t.Context(), c, now)
	if err != nil {
		t.Fatal(err)
	}
	return rosters
}

func document(t *testing.T, r *Registry, node string) access.Document {
	t.Helper()
	v, ok := r.Roster(node)
	if !ok {
		t.Fatalf("no roster of %s", node)
	}
	d, err := access.ParseJSON(v.Document)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := access.Compile(d); err != nil {
		t.Fatal(err)
	}
	return d
}

func ids(d access.Document) string {
	var out []string
	for _, m := range d.Members {
		out = append(out, m.ID)
	}
	return strings.Join(out, " ")
}

func TestARosterNamesOnlyPeopleWithARightThere(t *testing.T) {
	r, _ := house(t)
	if got := ids(document(t, r, "lisbon")); got != "ana bo eva" {
		t.Fatalf("lisbon: %s", got)
	}
	d := document(t, r, "porto")
	if got := ids(d); got != "eva gil" {
		t.Fatalf("porto: %s", got)
	}
	if len(d.Cards) != 2 || len(d.Grants) != 0 || len(d.Schedules) != 0 {
		t.Fatalf("porto: %+v", d)
	}
}

func TestAVersionRisesOnlyWhenTheContentChanges(t *testing.T) {
	r, _ := house(t)
	if v := apply(t, r, Change{Members: []access.Member{{ID: "bo", Name: "Bo", Home: "lisbon", Role: access.RoleHost}}}); len(v) != 0 {
		t.Fatalf("nothing changed, yet %d rosters", len(v))
	}
	v := apply(t, r, Change{Members: []access.Member{{ID: "gil", Name: "Gil", Home: "porto", Role: access.RoleResident}}})
	if len(v) != 1 || v[0].Node != "porto" {
		t.Fatalf("%+v", v)
	}
	first := v[0].Version
	// Joining a group lets gil roam: both houses hear of it.
	v = apply(t, r, Change{Members: []access.Member{{ID: "gil", Name: "Gil", Home: "porto", Role: access.RoleResident, Groups: []string{"residents"}}}})
	if len(v) != 2 || v[1].Version != first+1 {
		t.Fatalf("%+v", v)
	}
	if got := ids(document(t, r, "lisbon")); got != "ana bo eva gil" {
		t.Fatalf("lisbon: %s", got)
	}
}

// Doors never accept a version that is not above the newest they held. A book that comes back from an older copy must not
// count on from there: it would say things that nobody hears, or two things under one number.
func TestABookFromAnOlderCopyCountsOnAboveEverythingItEverSaid(t *testing.T) {
	r, m := house(t)
	copied := newMemory()
	for kind, all := range m.records {
		copied.records[kind] = maps.Clone(all)
	}
	copied.rosters = maps.Clone(m.rosters)
	newest, at := uint64(0), now
	for i := range 20 { // a busy hour that the copy does not know
		at = at.Add(3 * time.Minute)
		v, err := r.Apply(t.Context(), Change{Members: []access.Member{{ID: "gil", Name: fmt.Sprintf("Gil %d", i), Home: "porto", Role: access.RoleGuest}}}, at)
		if err != nil || len(v) != 1 || v[0].Version <= newest {
			t.Fatalf("%+v after version %d: %v", v, newest, err)
		}
		newest = v[0].Version
	}
	back, err := Open(t.Context(), "demo", copied)
	if err != nil {
		t.Fatal(err)
	}
	v, err := back.Apply(t.Context(), Change{Members: []access.Member{{ID: "gil", Name: "Gil", Home: "porto", Role: access.RoleGuest, Blocked: true}}}, at.Add(time.Minute))
	if err != nil || len(v) != 1 || v[0].Version <= newest {
		t.Fatalf("%+v: doors that hold version %d would not take it: %v", v, newest, err)
	}
	// A clock that went back keeps no change waiting.
	w, err := back.Apply(t.Context(), Change{Members: []access.Member{{ID: "gil", Name: "Gil", Home: "porto", Role: access.RoleGuest}}}, now.Add(-time.Hour))
	if err != nil || len(w) != 1 || w[0].Version != v[0].Version+1 {
		t.Fatalf("%+v after version %d: %v", w, v[0].Version, err)
	}
}

func TestACatalogueStandsInItsOwnNodesRosterOnly(t *testing.T) {
	r, _ := house(t)
	if d := document(t, r, "lisbon"); len(d.Resources) != 1 || d.Resources[0].ID != "bed" || !d.Resources[0].Offered {
		t.Fatalf("lisbon: %+v", d.Resources)
	}
	if d := document(t, r, "porto"); len(d.Resources) != 0 {
		t.Fatalf("porto: %+v", d.Resources)
	}
	v := apply(t, r, Change{Resources: []Resource{{"porto", access.Resource{ID: "bed", Measure: "night"}}, {"lisbon", access.Resource{ID: "bed", Measure: "night"}}}})
	if len(v) != 2 || document(t, r, "lisbon").Resources[0].Offered {
		t.Fatalf("%d rosters", len(v))
	}
	if all := r.Resources(""); len(all) != 2 || all[0].Node != "lisbon" || len(r.Resources("porto")) != 1 {
		t.Fatalf("%+v", all)
	}
	if v := apply(t, r, Change{DropResources: []Key{{"lisbon", "bed"}}}); len(v) != 1 || v[0].Node != "lisbon" || len(document(t, r, "lisbon").Resources) != 0 {
		t.Fatalf("%+v", v)
	}
}

func TestRevokingTakesEffectInTheVeryNextVersion(t *testing.T) {
	r, _ := house(t)
	v := apply(t, r, Change{Cards: []access.Card{{ID: card(2), Member: "eva", Revoked: true}}})
	if len(v) != 2 {
		t.Fatalf("%d rosters: eva stands in both", len(v))
	}
	for _, node := range []string{"lisbon", "porto"} {
		d := document(t, r, node)
		i := slices.IndexFunc(d.Cards, func(c access.Card) bool { return c.ID == card(2) })
		if i < 0 || !d.Cards[i].Revoked {
			t.Fatalf("%s: %+v", node, d.Cards)
		}
	}
	_, err := r.Apply(t.Context(), Change{Cards: []access.Card{{ID: card(2), Member: "eva"}}}, now)
	var no *Refusal
	if !errors.As(err, &no) {
		t.Fatalf("a revoked card came back: %v", err)
	}
	apply(t, r, Change{Close: []Closure{{"lisbon", "front"}}})
	if d := document(t, r, "lisbon"); len(d.Closed) != 1 {
		t.Fatalf("%+v", d.Closed)
	}
	apply(t, r, Change{Open: []Closure{{"lisbon", "front"}}, DropMembers: []string{"eva"}})
	if d := document(t, r, "lisbon"); len(d.Closed) != 0 || ids(d) != "ana bo" {
		t.Fatalf("%+v %s", d.Closed, ids(d))
	}
}

func TestARoamerLeavesTheRosterWhenTheGrantHasEnded(t *testing.T) {
	r, _ := house(t)
	apply(t, r, Change{Grants: []Grant{{"lisbon", access.Grant{ID: "stay", Member: "gil", Doors: []string{"front"}, Until: now.Unix() + 3600}}}})
	if got := ids(document(t, r, "lisbon")); got != "ana bo eva gil" {
		t.Fatalf("lisbon: %s", got)
	}
	v, err := r.Refresh(t.Context(), now.Add(2*time.Hour))
	if err != nil || len(v) != 1 {
		t.Fatalf("%d rosters, %v", len(v), err)
	}
	if got := ids(document(t, r, "lisbon")); got != "ana bo eva" {
		t.Fatalf("lisbon: %s", got)
	}
}

func TestRefusalsSayWhatToMendAndChangeNothing(t *testing.T) {
	for name, c := range map[string]struct {
		change Change
		says   string
	}{
		"zone":            {Change{Nodes: []Node{{"x", "X", "Mars/Olympus"}}}, "time zone"},
		"unknown home":    {Change{Members: []access.Member{{ID: "z", Home: "nowhere", Role: "resident"}}}, "there is no node"},
		"bad id":          {Change{Members: []access.Member{{ID: "Ana!", Home: "lisbon", Role: "resident"}}}, "lower-case"},
		"rtl name":        {Change{Members: []access.Member{{ID: "z", Name: "a\u202eb", Home: "lisbon", Role: "resident"}}}, "invisible"},
		"role":            {Change{Members: []access.Member{{ID: "z", Home: "lisbon", Role: "boss"}}}, "resident"},
		"card twice":      {Change{Cards: []access.Card{{ID: card(1), Member: "eva"}}}, "belongs to ana already"},
		"card of nobody":  {Change{Cards: []access.Card{{ID: card(9), Member: "zoe"}}}, "not known"},
		"card id":         {Change{Cards: []access.Card{{ID: "pkoc:AB", Member: "ana"}}}, "hex digits"},
		"grant of nobody": {Change{Grants: []Grant{{"lisbon", access.Grant{ID: "g", Member: "zoe", Doors: []string{"front"}}}}}, "not known"},
		"grant of both":   {Change{Grants: []Grant{{"lisbon", access.Grant{ID: "g", Member: "ana", Group: "residents", Doors: []string{"front"}}}}}, "not to both"},
		"grant nowhere":   {Change{Grants: []Grant{{"lisbon", access.Grant{ID: "g", Member: "ana"}}}}, "no door"},
		"grant schedule":  {Change{Grants: []Grant{{"lisbon", access.Grant{ID: "g", Member: "ana", Doors: []string{"front"}, Schedule: "night"}}}}, "no schedule"},
		"used schedule":   {Change{DropSchedules: []Key{{"lisbon", "day"}}}, "used by grant all"},
		"edge moves":      {Change{Edges: []Edge{{ID: "lisbon-front", Node: "porto", Key: "k"}}}, "cannot move"},
		"edge without":    {Change{Edges: []Edge{{ID: "porto-front", Node: "porto"}}}, "verifier key"},
		"ends first":      {Change{Members: []access.Member{{ID: "z", Home: "lisbon", Role: "resident", From: 5, Until: 4}}}, "begin before it ends"},
		"measure changes": {Change{Resources: []Resource{{"lisbon", access.Resource{ID: "bed", Measure: "day"}}}}, "counted in night"},
		"resource limits": {Change{Resources: []Resource{{"lisbon", access.Resource{ID: "desk", Measure: "day", MaxEntry: -1}}}}, "resources[1].max_entry"},
		"resource verb":   {Change{Resources: []Resource{{"lisbon", access.Resource{ID: "desk", Measure: "day", Actions: []string{"eat"}}}}}, "resources[1].actions[0]"},
		"resource where":  {Change{Resources: []Resource{{"nowhere", access.Resource{ID: "desk", Measure: "day"}}}}, "there is no node"},
		"resource gone":   {Change{DropResources: []Key{{"porto", "bed"}}}, "not known"},
		"span":            {Change{Schedules: []Schedule{{"lisbon", access.Schedule{ID: "day", Spans: []access.Span{{Days: []string{"mon"}, From: "8", To: "20:00"}}}}}}, "schedules[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			r, m := house(t)
			before, stored := snapshot(r.book), fmt.Sprint(m.records)
			_, err := r.Apply(t.Context(), c.change, now)
			var no *Refusal
			if !errors.As(err, &no) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("have %v, want a refusal that says %q", err, c.says)
			}
			if d := cmp.Diff(before, snapshot(r.book)); d != "" || fmt.Sprint(m.records) != stored {
				t.Fatalf("the refused change left a trace: %s", d)
			}
		})
	}
}

func TestWhatWasNotStoredIsNotInForce(t *testing.T) {
	r, m := house(t)
	before := snapshot(r.book)
	m.fail = errors.New("disk")
	if _, err := r.Apply(t.Context(), Change{DropMembers: []string{"ana"}, Retire: []string{"lisbon-front"}}, now); !errors.Is(err, m.fail) {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, snapshot(r.book)); d != "" {
		t.Fatal(d)
	}
	m.fail = nil
	apply(t, r, Change{Retire: []string{"lisbon-front"}})
	if _, err := r.Admitted("lisbon-front"); !errors.Is(err, ErrNotAdmitted) {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), "demo", m)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(snapshot(r.book), snapshot(again.book)); d != "" {
		t.Fatalf("a restart changed the book: %s", d)
	}
	if v := apply(t, again, Change{}); len(v) != 0 {
		t.Fatal("a restart made new versions")
	}
}

// Whatever is asked, the book stays whole: a refusal changes nothing, every document compiles, no person without a
// right stands in it, and the stored book is the book in memory.
func TestTheBookStaysWhole(t *testing.T) {
	nodes := rapid.SampledFrom([]string{"lisbon", "porto", "bali"})
	people := rapid.SampledFrom([]string{"ana", "bo", "eva", "gil", "zoe"})
	groups := rapid.SampledFrom([]string{"residents", "cooks"})
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory()
		r, err := Open(context.Background(), "demo", m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Apply(context.Background(), Change{Nodes: []Node{{"lisbon", "", "UTC"}, {"porto", "", "UTC"}}}, now); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			var c Change
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1:
				mem := access.Member{ID: people.Draw(t, "who"), Home: nodes.Draw(t, "home"), Role: "resident"}
				if rapid.Bool().Draw(t, "grouped") {
					mem.Groups = []string{groups.Draw(t, "group")}
				}
				c.Members = append(c.Members, mem)
			case 2:
				c.Cards = append(c.Cards, access.Card{ID: card(rapid.IntRange(0, 4).Draw(t, "card")), Member: people.Draw(t, "who"), Revoked: rapid.Bool().Draw(t, "revoked")})
			case 3:
				g := access.Grant{ID: rapid.SampledFrom([]string{"g1", "g2"}).Draw(t, "id"), Doors: []string{"front"}}
				if rapid.Bool().Draw(t, "single") {
					g.Member = people.Draw(t, "who")
				} else {
					g.Group = groups.Draw(t, "group")
				}
				c.Grants = append(c.Grants, Grant{nodes.Draw(t, "node"), g})
			case 4:
				c.DropMembers = append(c.DropMembers, people.Draw(t, "who"))
			case 5:
				c.DropCards = append(c.DropCards, card(rapid.IntRange(0, 4).Draw(t, "card")))
				c.DropGrants = append(c.DropGrants, Key{nodes.Draw(t, "node"), "g1"})
			case 7:
				c.Resources = append(c.Resources, Resource{nodes.Draw(t, "node"), access.Resource{ID: rapid.SampledFrom([]string{"bed", "desk"}).Draw(t, "id"),
					Measure: rapid.SampledFrom([]string{"night", "day"}).Draw(t, "measure"), MaxEntry: rapid.Int64Range(-1, 3).Draw(t, "max")}})
			case 8:
				c.DropResources = append(c.DropResources, Key{nodes.Draw(t, "node"), "bed"})
			case 9:
				c.Erase = append(c.Erase, Erasing{people.Draw(t, "who"), []string{card(rapid.IntRange(0, 4).Draw(t, "card"))}})
				if rapid.Bool().Draw(t, "refused") {
					c.DropCards = append(c.DropCards, "pkoc:none")
				}
			case 6:
				c.Close = append(c.Close, Closure{nodes.Draw(t, "node"), "front"})
			}
			before := snapshot(r.book)
			_, err := r.Apply(context.Background(), c, now)
			var no *Refusal
			if err != nil && !errors.As(err, &no) {
				t.Fatal(err)
			}
			if err != nil {
				if d := cmp.Diff(before, snapshot(r.book)); d != "" {
					t.Fatalf("refused, but changed: %s", d)
				}
			}
			again, err := Open(context.Background(), "demo", m)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(snapshot(r.book), snapshot(again.book)); d != "" {
				t.Fatalf("stored and held differ: %s", d)
			}
			checkRosters(t, r)
		}
	})
}

func checkRosters(t *rapid.T, r *Registry) {
	for node, v := range r.now {
		var d access.Document
		if err := json.Unmarshal(v.Document, &d); err != nil {
			t.Fatal(err)
		}
		if _, err := access.Compile(d); err != nil {
			t.Fatal(err)
		}
		fresh, err := r.book.Document(node, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, h, _ := encode(fresh); h != v.Content {
			t.Fatalf("the roster of %s is out of date", node)
		}
		for _, m := range d.Members {
			right := m.Home == node
			for _, g := range d.Grants {
				right = right || g.Member == m.ID || slices.Contains(m.Groups, g.Group)
			}
			if !right {
				t.Fatalf("%s stands in the roster of %s without a right", m.ID, node)
			}
		}
	}
}

// snapshot is a comparable copy of a book.
func snapshot(b *Book) map[string]any {
	cards := map[string][]string{}
	for m, list := range b.cardsOf {
		cards[m] = slices.Sorted(slices.Values(list))
	}
	j := func(v any) string {
		s, _ := json.Marshal(v)
		return string(s)
	}
	grants, schedules, closed, resources := map[string]string{}, map[string]string{}, map[string]bool{}, map[string]string{}
	for k, v := range b.resources {
		resources[k.Node+"/"+k.ID] = j(v)
	}
	for k, v := range b.grants {
		grants[k.Node+"/"+k.ID] = j(v)
	}
	for k, v := range b.schedules {
		schedules[k.Node+"/"+k.ID] = j(v)
	}
	for k := range b.closed {
		closed[k.Node+"/"+k.Door] = true
	}
	key, erased := b.erased.texts()
	return map[string]any{"erased": erased, "key": key, "kept": b.erased.kept, "nodes": j(b.nodes), "edges": j(b.edges), "members": j(b.members), "cards": j(b.cards),
		"cardsOf": cards, "grants": grants, "schedules": schedules, "closed": closed, "resources": resources}
}

func BenchmarkApplyAmongManyPeople(b *testing.B) {
	const people = 50_000
	r, err := Open(context.Background(), "demo", newMemory())
	if err != nil {
		b.Fatal(err)
	}
	c := Change{Nodes: []Node{{"lisbon", "", "UTC"}}, Grants: []Grant{{"lisbon", access.Grant{ID: "all", Group: "residents", Doors: []string{"front"}}}}}
	for i := range people {
		id := fmt.Sprintf("m%d", i)
		c.Members = append(c.Members, access.Member{ID: id, Home: "lisbon", Role: "resident", Groups: []string{"residents"}})
		c.Cards = append(c.Cards, access.Card{ID: card(i), Member: id})
	}
	if _, err := r.Apply(context.Background(), c, now); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		if _, err := r.Apply(context.Background(), Change{Members: []access.Member{{ID: "m7", Home: "lisbon", Role: "resident", From: int64(i + 1)}}}, now); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
