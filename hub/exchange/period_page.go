package exchange

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"kith/hub/audit"
	"kith/hub/feed"
	"kith/hub/registry"
	"kith/hub/settlement"
	"kith/hub/web"
)

// Limits of the page about the period.
const (
	draftAge  = 2 * time.Second // how long a draft serves all readers: each one derives and clears the whole period
	draftRest = 4               // times as long as a draft took, it is not made again: so pages get a fifth of one core at most
	maxPosted = 60              // closed periods listed, the latest
)

// periodPage answers the pages about periods from one draft at a time.
type periodPage struct {
	x     *Exchange
	gate  chan struct{} // one computation at a time; its holder alone touches the last five fields
	queue chan struct{} // questions that wait for the gate
	stale atomic.Bool   // a period went on since
	faces faces

	at   time.Time
	took time.Duration
	last web.Period
	now  *drafted // nil: there is no draft
	kept []*chapter
}

// drafted is one draft with what was tried on it. Only the holder of the gate may touch the last three fields.
type drafted struct {
	basis    *basis
	policy   *audit.Policy
	houses   []registry.Node // ascending by name
	names    map[string]string
	measures map[string]string // of resource kinds, for the words of a price
	now      *result
	tried    map[string]*web.Trialled
	chapter  *chapter // nil until a member's statement is asked for
}

func newPeriodPage(x *Exchange) *periodPage {
	return &periodPage{x: x, gate: make(chan struct{}, 1), queue: make(chan struct{}, trialQueue)}
}

// Period implements web.Periods.
func (p *periodPage) Period(ctx context.Context, asked web.Asked) (web.Period, error) {
	out, now, err := p.current(ctx)
	if err == nil && now != nil {
		p.ask(ctx, &out, now, asked)
	}
	return out, err
}

// current is the draft that serves everybody just now.
func (p *periodPage) current(ctx context.Context) (web.Period, *drafted, error) {
	select {
	case p.gate <- struct{}{}:
		defer func() { <-p.gate }()
	case <-ctx.Done():
		return web.Period{}, nil, ctx.Err()
	}
	if !p.stale.Swap(false) && !p.at.IsZero() && time.Since(p.at) < max(draftAge, draftRest*p.took) {
		return p.last, p.now, nil
	}
	began := time.Now()
	fresh, now, err := p.x.periodNow(ctx)
	if err != nil {
		p.stale.Store(true)
		return web.Period{}, nil, fmt.Errorf("drafting the period: %w", err)
	}
	p.last, p.now, p.at = fresh, now, time.Now() // its age counts from its end, so that slow drafts do not follow one another without a pause
	p.took = p.at.Sub(began)
	return fresh, now, nil
}

// turned makes the pages show that a period went on. Orders come when the pages are there, or when there are none.
func (x *Exchange) turned() {
	if x.pages != nil {
		x.pages.periods.stale.Store(true)
		x.pages.web.Changed("")
	}
}

func (x *Exchange) periodNow(ctx context.Context) (web.Period, *drafted, error) {
	a, err := x.Period(ctx, PeriodOrder{Do: "list"})
	if err != nil {
		return web.Period{}, nil, err
	}
	var out web.Period
	for i := range a.Periods {
		s := &a.Periods[i]
		if s.State != string(settlement.Posted) {
			out.Under = x.underWay(s)
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
	if out.Under != nil {
		return out, nil, nil
	}
	policy, wait := x.pagePolicy()
	if wait != "" {
		out.Wait = wait
		return out, nil, nil
	}
	b, err := x.basis(ctx)
	if err != nil {
		return web.Period{}, nil, err
	}
	d := &drafted{basis: b, policy: b.ground.Policy, houses: x.registry.Nodes(), names: x.names(), measures: map[string]string{}, now: &result{}, tried: map[string]*web.Trialled{}}
	slices.SortFunc(d.houses, func(a, b registry.Node) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	d.houses = slices.DeleteFunc(d.houses, func(n registry.Node) bool { return n.ID == policy.Pool.Commons })
	for _, r := range x.registry.Resources("") {
		d.measures[r.ID] = r.Measure
	}
	if d.now.draft, err = b.draft(d.policy); err != nil {
		return web.Period{}, nil, err
	}
	out.Close = x.command("period close", time.Now().UTC().Format("2006-01-02"))
	return out, d, d.fill(&out)
}

// underWay says how far the closing of a period is, and what comes next.
func (x *Exchange) underWay(s *PeriodState) *web.UnderWay {
	u := &web.UnderWay{Name: s.Name, State: s.State, Until: s.Until}
	for _, st := range s.Statements {
		if !st.Withdrawn {
			u.Number = st.Number
		}
	}
	for _, d := range s.Disputes {
		if d.Outcome == "" {
			u.Open++
		}
	}
	u.Next = x.nextSteps(s)
	return u
}

// nextSteps are the orders that carry a period on.
func (x *Exchange) nextSteps(s *PeriodState) []web.Order {
	switch settlement.State(s.State) {
	case settlement.Drafted:
		return []web.Order{{Why: "The cut is made. Propose the statement:", Line: x.command("period close", s.Name)}}
	case settlement.Proposed:
		return []web.Order{
			{Why: "A house that owes or is owed takes one obligation out (its table names them):", Line: x.command("period dispute", "--by", "NODE", "--reason", "TEXT", s.Name, "OBLIGATION")},
			{Why: "A house says yes early:", Line: x.command("period confirm", "--by", "NODE", s.Name)},
			{Why: "After the time to challenge, or once every house has said yes:", Line: x.command("period finalise", s.Name)}}
	case settlement.Final:
		return []web.Order{{Why: "Nothing can be disputed any more. Book it and seal the balances:", Line: x.command("period post", s.Name)}}
	}
	return nil
}

// command is a line that can be run as it is printed, on the machine of this hub.
func (x *Exchange) command(verb string, args ...string) string {
	line := "hub " + verb
	if x.cfg.file != "" {
		line += " --config " + quoted(x.cfg.file)
	}
	if dir, err := filepath.Abs(x.opt.StateDir); err == nil {
		line += " --state-dir " + quoted(dir)
	}
	for _, a := range args {
		line += " " + quoted(a)
	}
	return line
}

// quoted is one word for a POSIX shell.
func quoted(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+,=") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func (x *Exchange) names() map[string]string {
	names := map[string]string{}
	for _, n := range x.registry.Nodes() {
		names[n.ID] = n.Name
	}
	return names
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

// poolName is what people call the account that a policy's commons is: no house has it.
const poolName = "The pool"

func (d *drafted) called(id string) string {
	if id == d.policy.Pool.Commons {
		return poolName
	}
	return called(d.names, id)
}

func called(names map[string]string, id string) string {
	if names[id] == "" {
		return id
	}
	return names[id]
}

// fill puts a draft into the words of the page.
func (p *drafted) fill(out *web.Period) error {
	d, called := p.now.draft, p.called
	out.Day = time.Unix(int64(d.Day)*daySeconds, 0).UTC().Format("2 January 2006")
	out.Entries = d.Entries
	for code, n := range d.Asides {
		out.Asides = append(out.Asides, web.Aside{Count: n, Why: asideWords(code)})
	}
	slices.SortFunc(out.Asides, func(a, b web.Aside) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Why, b.Why)) })
	for _, id := range d.Missing {
		out.Missing = append(out.Missing, called(id))
	}
	for _, unit := range p.policy.Units {
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
