package demo

import (
	"testing"
	"time"

	"kith/internal/access"
)

// A settlement of the demo's week has something to settle, and every entry of it is one that the catalogue allows.
func TestAWeekHasEntriesOfVisitorsInEveryHouse(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	s := newScript(1, populate(1, now))
	known := map[string]access.Resource{}
	for _, r := range catalogue() {
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
