package demo

import (
	"testing"
	"time"

	"kith/hub/audit"
	"kith/hub/settlement"
	"kith/internal/access"
	"kith/internal/event"
)

// A settlement of the demo's week has something to settle, and every entry of it is one that the catalogue allows.
func TestAWeekHasEntriesOfVisitorsInEveryHouse(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	s := newScript(1, populate(1, now))
	known := map[string]access.Resource{}
	for _, r := range catalogue(houses()[0]) {
		known[r.ID] = r
	}
	visits, all := map[string]int{}, 0
	for at := now.Add(-7 * 24 * time.Hour); at.Before(now); at = at.Add(historyStep) {
		m := s.next(at, false)
		s.done(m, true)
		if m.entry == nil {
			continue
		}
		all++
		e, house := m.entry, s.where[m.who]
		r := known[e.resource]
		if !r.Allows(string(e.action)) || e.quantity < 1 || e.quantity > r.MaxEntry {
			t.Fatalf("%+v is not in the catalogue", *e)
		}
		if r.NeedsWitness(e.quantity) != (e.witness >= 0) || e.witness == m.who || e.witness >= 0 && s.where[e.witness] != house {
			t.Fatalf("%+v: a wrong witness", *e)
		}
		if s.people[m.who].home != house {
			visits[house]++
		}
	}
	for _, h := range houses() {
		if visits[h.id] < 5 {
			t.Errorf("%s: %d entries of visitors among %d", h.id, visits[h.id], all)
		}
	}
}

// Every entry of the demo can be told as a line, and moves the draft that the line is about.
func TestEveryEntryHasItsWordsAndItsPrice(t *testing.T) {
	policy, err := audit.ParsePolicy("policy.yaml", policyText)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, r := range catalogue(houses()[0]) {
		action := event.KindUse
		if len(r.Actions) > 0 {
			action = event.Kind(r.Actions[0])
		}
		if p := policy.Settlement.Prices[settlement.Action(action)][r.ID]; p.Each < 1 {
			t.Errorf("%s %s is not priced", action, r.ID)
		}
		text := did(&entry{action: action, resource: r.ID, quantity: 2})
		if said[text] {
			t.Errorf("%s: %q is said of something else too", r.ID, text)
		}
		said[text] = true
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
