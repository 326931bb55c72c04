package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"kith/internal/access"
)

// largeHouse has many people in 40 groups, and rules with weekly hours of three spans, each over eight of 50 doors.
func largeHouse(people, rules int) access.Document {
	rng := rand.New(rand.NewPCG(1, 1))
	d := access.Document{Network: network, Node: house, Version: 1, Issued: time.Now().Unix(), Zone: "Europe/Lisbon"}
	for i := range rules {
		hours := fmt.Sprintf("hours-%d", i)
		d.Schedules = append(d.Schedules, access.Schedule{ID: hours, Holidays: []string{"2026-12-25", "2027-01-01"}, Spans: []access.Span{
			{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "07:00", To: "22:00"},
			{Days: []string{"sat", "sun"}, From: "09:00", To: "20:00"}, {Days: []string{"fri"}, From: "23:00", To: "04:00"}}})
		g := access.Grant{ID: fmt.Sprintf("rule-%03d", i), Group: fmt.Sprintf("group-%d", i%40), Schedule: hours,
			Zones: []string{fmt.Sprintf("zone-%d", i%10)}}
		for range 8 {
			g.Doors = append(g.Doors, fmt.Sprintf("door-%d", rng.IntN(50)))
		}
		d.Grants = append(d.Grants, g)
	}
	for i := range people {
		id := fmt.Sprintf("member-%06d", i)
		d.Members = append(d.Members, access.Member{ID: id, Name: "Somebody Ordinary", Role: access.RoleResident, Groups: []string{
			fmt.Sprintf("group-%d", i%40), fmt.Sprintf("group-%d", (i+7)%40), fmt.Sprintf("group-%d", (i+19)%40)}})
		d.Cards = append(d.Cards, access.Card{ID: fmt.Sprintf("pkoc:%016x%016x%016x%016x", rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64()), Member: id})
	}
	return d
}

// measureDecision asks for random people at random doors, beside a bare look-up of the same card ids in a map.
func measureDecision(ctx context.Context, b *bench) error {
	d := largeHouse(b.size.people, b.size.rules)
	r, err := access.Compile(d)
	if err != nil {
		return err
	}
	people := make(map[string]*access.Card, len(d.Cards))
	for i := range d.Cards {
		people[d.Cards[i].ID] = &d.Cards[i]
	}
	noon := time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC)
	rng := rand.New(rand.NewPCG(2, 2))
	ours, bare := make([]time.Duration, b.size.asked), make([]time.Duration, b.size.asked)
	allowed := 0
	for i := range ours {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		id := d.Cards[rng.IntN(len(d.Cards))].ID
		q := access.Query{Card: id, Door: access.Door{ID: fmt.Sprintf("door-%d", rng.IntN(50)), Zones: []string{"zone-3"}}, Now: noon,
			Fresh: access.Freshness{Fresh: true}}
		// Whoever comes second finds the card's text warm, so they take turns.
		first, second := time.Now(), time.Time{}
		var v access.Verdict
		var found *access.Card
		if i%2 == 0 {
			v = r.Decide(q)
			second = time.Now()
			found = people[id]
			ours[i], bare[i] = second.Sub(first), time.Since(second)
		} else {
			found = people[id]
			second = time.Now()
			v = r.Decide(q)
			bare[i], ours[i] = second.Sub(first), time.Since(second)
		}
		if found == nil {
			return errors.New("a card is not in the map")
		}
		if v.Allow {
			allowed++
		}
	}
	if allowed == 0 || allowed == len(ours) {
		return fmt.Errorf("%d of %d decisions allow: not a fair mix", allowed, len(ours))
	}
	what := fmt.Sprintf("%d people, %d rules, %d%% allowed", b.size.people, b.size.rules, 100*allowed/len(ours))
	b.add(figure{Name: "decision, p50", Value: quantile(ours, 500), Unit: millis, Bare: quantile(bare, 500), Peer: "map look-up", Note: what})
	b.add(figure{Name: "decision, p99", Value: quantile(ours, 990), Unit: millis, Bare: quantile(bare, 990), Peer: "map look-up", Floor: 1, Aim: 0.05})
	return nil
}
