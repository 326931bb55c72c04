package exchange

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"kith/hub/audit"
	"kith/hub/feed"
	"kith/hub/settlement"
	"kith/hub/web"
)

// Limits of the page about the period.
const (
	draftAge  = 2 * time.Second // how long a draft serves all readers: each one derives and clears the whole period
	maxPosted = 60              // closed periods listed, the latest
)

// periodPage answers the page about the period from one draft at a time. Whoever holds the gate may touch the rest.
type periodPage struct {
	x    *Exchange
	gate chan struct{}
	at   time.Time
	last web.Period
}

func newPeriodPage(x *Exchange) *periodPage {
	return &periodPage{x: x, gate: make(chan struct{}, 1)}
}

// Period implements web.Periods.
func (p *periodPage) Period(ctx context.Context) (web.Period, error) {
	select {
	case p.gate <- struct{}{}:
		defer func() { <-p.gate }()
	case <-ctx.Done():
		return web.Period{}, ctx.Err()
	}
	if !p.at.IsZero() && time.Since(p.at) < draftAge {
		return p.last, nil
	}
	fresh, err := p.x.periodNow(ctx)
	if err != nil {
		return web.Period{}, fmt.Errorf("drafting the period: %w", err)
	}
	p.last, p.at = fresh, time.Now() // its age counts from its end, so that slow drafts do not follow one another without a pause
	return fresh, nil
}

func (x *Exchange) periodNow(ctx context.Context) (web.Period, error) {
	a, err := x.Period(ctx, PeriodOrder{Do: "list"})
	if err != nil {
		return web.Period{}, err
	}
	var out web.Period
	for _, s := range a.Periods {
		if s.State != string(settlement.Posted) {
			out.Wait = underWay(&s)
			continue
		}
		done := web.PostedPeriod{Name: s.Name, Day: s.Day}
		if s.Report != nil {
			done.Seal = s.Report.Seal
		}
		out.Posted = append(out.Posted, done)
	}
	slices.Reverse(out.Posted)
	out.Posted = out.Posted[:min(len(out.Posted), maxPosted)]
	if out.Wait != "" {
		return out, nil
	}
	policy, wait := x.pagePolicy()
	if wait != "" {
		out.Wait = wait
		return out, nil
	}
	draft, err := x.Draft(ctx)
	if err != nil {
		return web.Period{}, err
	}
	err = x.fill(&out, draft, policy)
	return out, err
}

func underWay(s *PeriodState) string {
	text := fmt.Sprintf("Period %s is being closed: it is %s. The next draft begins once it is posted.", s.Name, s.State)
	if s.Until > 0 {
		text += " It can be challenged until " + time.Unix(s.Until, 0).UTC().Format("2 January 2006, 15:04 MST") + "."
	}
	return text
}

// pagePolicy reads the policy, or says in a sentence why nothing can be drafted.
func (x *Exchange) pagePolicy() (*audit.Policy, string) {
	if x.cfg.Policy == "" && x.cfg.PolicyText == nil {
		return nil, "No policy is configured, so nothing is priced or cleared here. Add policy: policy.yaml with prices and limits to hub.yaml."
	}
	text, err := x.policyText()
	if err != nil {
		return nil, fmt.Sprintf("The policy that hub.yaml names cannot be read: %v", err)
	}
	policy, err := audit.ParsePolicy("policy.yaml", text)
	if err != nil {
		return nil, fmt.Sprintf("The policy is not valid, so nothing can be drafted: %v", err)
	}
	return policy, ""
}

// fill puts a draft into the words of the page.
func (x *Exchange) fill(out *web.Period, d *audit.Draft, policy *audit.Policy) error {
	names := map[string]string{}
	for _, n := range x.registry.Nodes() {
		names[n.ID] = n.Name
	}
	called := func(id string) string {
		if names[id] == "" {
			return id
		}
		return names[id]
	}
	out.Day = time.Unix(int64(d.Day)*daySeconds, 0).UTC().Format("2 January 2006")
	out.Entries = d.Entries
	for code, n := range d.Asides {
		out.Asides = append(out.Asides, web.Aside{Count: n, Why: asideWords(code)})
	}
	slices.SortFunc(out.Asides, func(a, b web.Aside) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Why, b.Why)) })
	for _, id := range d.Missing {
		out.Missing = append(out.Missing, called(id))
	}
	for _, unit := range policy.Units {
		u := web.PeriodUnit{Name: unit.Name, Scale: unit.Scale}
		for _, n := range d.Nodes {
			if n.Unit == unit.Name && (n.Given != 0 || n.Taken != 0) {
				u.Nodes = append(u.Nodes, web.PeriodNode{Name: called(n.Node), Given: n.Given, Taken: n.Taken})
			}
		}
		i := slices.IndexFunc(d.Units, func(u audit.UnitDraft) bool { return u.Unit == unit.Name })
		if i < 0 && len(u.Nodes) == 0 {
			continue
		}
		picture := &feed.Picture{ID: "draft", Unit: feed.Unit(unit)}
		if i >= 0 {
			u.Gross, u.Goes = d.Units[i].Gross, d.Units[i].Cleared
			drawDebts(picture, d.Units[i].Debts, called)
		}
		var err error
		if u.Debts, err = web.Draw(picture); err != nil {
			return err
		}
		out.Units = append(out.Units, u)
	}
	return nil
}

func drawDebts(p *feed.Picture, debts []audit.Debt, called func(string) string) {
	houses := map[string]bool{}
	for _, d := range debts {
		p.Before = append(p.Before, feed.Debt{From: d.Debtor, To: d.Creditor, Amount: d.Before})
		p.After = append(p.After, feed.Debt{From: d.Debtor, To: d.Creditor, Amount: d.After})
		for _, id := range []string{d.Debtor, d.Creditor} {
			if !houses[id] {
				houses[id] = true
				p.Houses = append(p.Houses, feed.House{ID: id, Name: called(id)})
			}
		}
	}
}

// asideWords goes on from "entries". A code that has no words here is shown as it is.
func asideWords(code string) string {
	switch code {
	case string(settlement.WhyHome):
		return "by members of the house itself"
	case string(settlement.WhyNoPrice):
		return "without a price in the policy"
	case string(settlement.WhyHeld):
		return "one-sided, waiting to be confirmed"
	case string(settlement.WhyCapped):
		return "one-sided, past the cap of the period"
	case string(settlement.WhyLater):
		return "dated later, for the next period"
	case "corrected":
		return "replaced by a later entry"
	case "taken-back":
		return "that take an entry back"
	case "unknown-home":
		return "by members of no house here"
	}
	return code
}
