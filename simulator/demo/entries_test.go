package demo

import (
	"testing"
	"time"

	"kith/hub/settlement"
	"kith/internal/access"
	"kith/internal/event"
)

// People enter only what the catalogue of the house they are in allows, and visitors keep every house within its reach.
func TestPeopleEnterWhatTheirHouseHasAndStayInReach(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	s := newScript(1, populate(1, now))
	visits, all := map[string]int{}, 0
	for n := range 3000 { // far more than anybody watches
		at := now.Add(time.Duration(n) * time.Minute)
		m := s.next(at, true)
		s.done(m, true)
		if m.entry == nil {
			continue
		}
		all++
		e, house := m.entry, s.where[m.who]
		h, _ := houseOf(house)
		var r *access.Resource
		for i := range h.things {
			if h.things[i].ID == e.resource {
				r = &h.things[i]
			}
		}
		if r == nil || !r.Allows(string(e.action)) || e.quantity < 1 || e.quantity > r.MaxEntry || houseAt(m.edge).id != house {
			t.Fatalf("%+v at %s is not in the catalogue of %s", *e, m.edge, house)
		}
		if r.NeedsWitness(e.quantity) != (e.witness >= 0) || e.witness == m.who || e.witness >= 0 && s.where[e.witness] != house {
			t.Fatalf("%+v: a wrong witness", *e)
		}
		if s.people[m.who].home != house {
			if visits[house]++; h.tomorrow(at) {
				t.Fatalf("at %s a visitor enters in %s what counts tomorrow", at, h.name)
			}
		}
	}
	for _, h := range houses() {
		if visits[h.id] < 20 {
			t.Errorf("%s: %d entries of visitors among %d", h.id, visits[h.id], all)
		}
	}
	for at, net := range s.net {
		if net > reach(at[1]) || net < -reach(at[1]) {
			t.Errorf("%s stands at %d %s, past its reach", at[0], net, at[1])
		}
	}
	for account, l := range network().policy.Limits {
		if r := reach(account.Unit); r >= l.Ceiling || -r <= l.Floor {
			t.Errorf("%v: people go as far as the limits %d to %d, so every bar turns red", account, l.Floor, l.Ceiling)
		}
	}
}

// In the week that is over the only visits are those of the seed.
func TestTheWeekHasEntriesAtHomeOnly(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	s := newScript(1, populate(1, now))
	n := 0
	for at := now.Add(-7 * 24 * time.Hour); at.Before(now); at = at.Add(historyStep) {
		m := s.next(at, false)
		s.done(m, true)
		if m.entry == nil {
			continue
		}
		if n++; s.people[m.who].home != houseAt(m.edge).id {
			t.Fatalf("%s enters %+v at %s", s.people[m.who].id, *m.entry, m.edge)
		}
	}
	if n < 20 {
		t.Errorf("a week with %d entries", n)
	}
}

// Every entry of the demo can be told as a line, and moves the draft that the line is about.
func TestEveryEntryHasItsWordsAndItsPrice(t *testing.T) {
	policy := network().policy
	said := map[string]string{}
	for _, h := range houses() {
		for _, r := range h.things {
			action := event.KindUse
			if len(r.Actions) > 0 {
				action = event.Kind(r.Actions[0])
			}
			if p := policy.Settlement.Prices[settlement.Action(action)][r.ID]; p.Each < 1 {
				t.Errorf("%s %s of %s is not priced", action, r.ID, h.id)
			}
			text := did(&entry{action: action, resource: r.ID, quantity: 2})
			if said[text] != "" && said[text] != r.ID {
				t.Errorf("%q is said of %s and of %s", text, said[text], r.ID)
			}
			said[text] = r.ID
		}
	}
}

// Whoever presses a button at a kiosk of the demo has a card held for them that moves the draft, and another as witness.
func TestYourCompanionsComeFromTwoHouses(t *testing.T) {
	d := &demo{people: populate(1, time.Now())}
	for _, h := range houses() {
		visitor, witness := d.companions(h)
		if v, w := d.people[visitor], d.people[witness]; v.home == h.id || w.home != h.id || v.trait != ordinary || w.trait != ordinary {
			t.Errorf("%s: %+v and %+v", h.id, v, w)
		}
	}
	if houseAt("oaxaca-kiln").id != "oaxaca" || houseAt("nowhere").id != "" {
		t.Error("an edge stands in the wrong house")
	}
}

// Sixty people with sixty names, and a host in every house.
func TestEveryHouseHasItsPeople(t *testing.T) {
	people, names, hosts := populate(1, time.Now()), map[string]bool{}, map[string]bool{}
	for _, p := range people {
		names[p.name] = true
		hosts[p.home] = hosts[p.home] || p.role == "host"
	}
	if len(people) != 60 || len(names) != len(people) || len(hosts) != len(houses()) {
		t.Errorf("%d people with %d names in %d houses", len(people), len(names), len(hosts))
	}
	for _, h := range houses() {
		if !hosts[h.id] || len(h.edges) < 2 || len(h.things) < 3 {
			t.Errorf("%+v lacks something", h)
		}
	}
}

// The seed stays on the days that the week of the demo has, in the order of its days, whatever hour it is now, and each of its days is
// one day in every house.
func TestTheSeedFallsIntoTheWeekAtEveryHour(t *testing.T) {
	for hour := range 25 {
		now := time.Date(2026, 11, 21, hour, 59, 0, 0, time.UTC)
		for i := range network().seed {
			v := &network().seed[i]
			at := v.at(i, now)
			if at.After(now.Add(-time.Hour)) || at.Before(now.Add(-7*24*time.Hour).Add(time.Hour)) {
				t.Errorf("at %s the visit %d would be at %s", now, i, at)
			}
			for _, h := range houses() {
				zone, err := time.LoadLocation(h.zone)
				if err != nil {
					t.Fatal(err)
				}
				if at.Add(visitApart).In(zone).Day() != at.Truncate(24*time.Hour).Day() {
					t.Errorf("visit %d is on another day in %s", i, h.name)
				}
			}
		}
	}
}
