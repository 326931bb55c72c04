package exchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"kith/hub/audit"
	"kith/hub/servicelog"
	"kith/hub/settlement"
	"kith/hub/store"
	"kith/hub/web"
	"kith/internal/event"
	"kith/internal/page"
)

// Limits of a member's statement.
const (
	facesKept   = 200_000 // leaves whose member is remembered, so that a second look need not read all of them again
	memberLooks = 50_000  // entries of one period that are looked through: some four seconds the first time
	shownMember = 500     // entries on a page, the latest
)

// chapter is one period with what its entries made, by leaf.
type chapter struct {
	closing *audit.Closing // nil: the draft
	shown   []audit.Shown  // of this period alone
	effects map[audit.Address]effect
	asides  map[audit.Address]string
	scale   map[string]int // of units
}

// effect is the obligation that one entry made.
type effect struct {
	settlement.Obligation
	discharged int64
}

func chapterOf(c *audit.Closing) *chapter {
	ch := newChapter(&c.Ground, c.Set)
	ch.closing = c
	done := c.Discharged()
	for i := range c.Period.Obligations { // with what decisions took out of them
		o := c.Period.Obligations[i]
		if from := c.Set.Sources[o.ID]; from.Kind != fromCommons && c.Set.Fresh[o.ID] {
			ch.effects[from.Leaf] = effect{o, done[o.ID]}
		}
	}
	return ch
}

func newChapter(g *audit.Ground, set *audit.Set) *chapter {
	ch := &chapter{effects: map[audit.Address]effect{}, asides: map[audit.Address]string{}, scale: map[string]int{}}
	for _, u := range g.Policy.Units {
		ch.scale[u.Name] = u.Scale
	}
	for _, o := range set.Obligations {
		if from := set.Sources[o.ID]; from.Kind != fromCommons && set.Fresh[o.ID] {
			ch.effects[from.Leaf] = effect{Obligation: o}
		}
	}
	for _, a := range set.Asides {
		ch.asides[audit.Address{Journal: a.Journal, Index: a.Index}] = string(a.Why)
	}
	before := map[string]uint64{}
	if g.Previous != nil {
		for _, p := range g.Previous.Checkpoints {
			before[p.Journal] = p.Size
		}
	}
	for i := range g.Shown { // what stands below the previous cut was shown then, unless it was put off until now
		at := audit.Address{Journal: g.Shown[i].Journal, Index: g.Shown[i].Index}
		_, counts := ch.effects[at]
		if at.Index >= before[at.Journal] || counts {
			ch.shown = append(ch.shown, g.Shown[i])
		}
	}
	return ch
}

// draftChapter is the chapter of the draft. Whoever calls holds the gate.
func (d *drafted) draftChapter() (*chapter, error) {
	if d.chapter != nil {
		return d.chapter, nil
	}
	set := &audit.Set{}
	if !d.basis.empty {
		g := *d.basis.ground
		var err error
		if set, err = g.Derive(); err != nil {
			return nil, err
		}
	}
	d.chapter = newChapter(d.basis.ground, set)
	return d.chapter, nil
}

// faces remembers who made an entry. What it says is only a reason to look: the line itself is read again before it is shown.
type faces struct {
	mu sync.Mutex
	of map[audit.Address]string
}

// forget drops what was remembered, because somebody was erased.
func (f *faces) forget() {
	f.mu.Lock()
	f.of = nil
	f.mu.Unlock()
}

func (f *faces) get(a audit.Address) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	who, known := f.of[a]
	return who, known
}

func (f *faces) put(a audit.Address, who string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil || len(f.of) >= facesKept {
		f.of = map[audit.Address]string{}
	}
	f.of[a] = who
}

// Member implements web.Periods: what one member did and used in a period, and nothing of anybody else.
func (p *periodPage) Member(ctx context.Context, member, period string) (web.MemberStatement, error) {
	if !event.IsID(member) {
		return web.MemberStatement{}, web.ErrUnknown
	}
	m, known := p.x.registry.Member(member)
	if !known {
		return web.MemberStatement{Erased: true}, nil // or never here: to tell the two apart would be to remember
	}
	names := p.x.names()
	out := web.MemberStatement{ID: m.ID, Name: servicelog.Named(&m), Home: called(names, m.Home), HomeID: m.Home, Role: m.Role, Period: period}
	ch, err := p.chapterFor(ctx, &out)
	if err != nil || ch == nil {
		return out, err
	}
	leave, err := p.enter(ctx)
	if err != nil {
		return out, err
	}
	defer leave()
	if len(ch.shown) > memberLooks {
		out.Wait = fmt.Sprintf("This period has %s entries; at most %s are looked through for one person.", page.Number(uint64(len(ch.shown))), page.Number(memberLooks))
		return out, nil
	}
	mine, err := p.of(ctx, ch, m.ID)
	if err != nil {
		return out, err
	}
	ch.tell(&out, mine, names)
	return out, nil
}

// chapterFor finds the period that is asked for, the one under way when none is named; nil with a sentence when there is none.
func (p *periodPage) chapterFor(ctx context.Context, out *web.MemberStatement) (*chapter, error) {
	now, drafted, err := p.current(ctx)
	if err != nil {
		return nil, err
	}
	if now.Under != nil {
		out.Others = append(out.Others, now.Under.Name)
	}
	for _, posted := range now.Posted {
		out.Others = append(out.Others, posted.Name)
	}
	if out.Period == "" && now.Under != nil {
		out.Period = now.Under.Name
	}
	out.Open = now.Under == nil
	leave, err := p.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if out.Period != "" {
		ch, err := p.closingOf(ctx, out.Period)
		if err == nil {
			out.State, out.Day = string(ch.closing.Period.State), dayWords(ch.closing.Cut.Day)
		}
		return ch, err
	}
	if drafted == nil {
		out.Wait = now.Wait
		return nil, nil
	}
	out.State, out.Day = string(settlement.Open), now.Day
	return drafted.draftChapter()
}

// of lists the entries of a chapter that name the member today, in the order of the journals.
func (p *periodPage) of(ctx context.Context, ch *chapter, member string) ([]*audit.Shown, error) {
	var mine []*audit.Shown
	for i := range ch.shown {
		s := &ch.shown[i]
		at := audit.Address{Journal: s.Journal, Index: s.Index}
		if who, known := p.faces.get(at); known && who != member {
			continue
		}
		edge, text := journalParts(s.Journal)
		epoch, err := event.ParseEpoch(text)
		if err != nil {
			continue // no edge of ours wrote it
		}
		line, err := p.x.storage.Line(ctx, store.Address{Edge: edge, Epoch: epoch, Index: s.Index})
		if errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrLost) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if line.Member != "" {
			p.faces.put(at, line.Member)
		}
		if line.Member == member {
			mine = append(mine, s)
		}
	}
	return mine, nil
}

// tell puts a member's entries into words: each one, their sums by kind of thing, and what they did between houses by unit.
func (ch *chapter) tell(out *web.MemberStatement, mine []*audit.Shown, names map[string]string) {
	sums := map[[3]string]*web.MemberSum{}
	effects := map[string]*web.MemberEffect{}
	for _, s := range mine {
		f, at, ok := flowOf(s)
		if !ok {
			continue
		}
		why := ch.asides[at]
		l := web.MemberLine{Href: leafPage(at), Day: int64(f.Day) * daySeconds, Where: called(names, f.Place), Class: f.Evidence, Aside: memberAside(why),
			What: what(f.Action, f.Resource, f.Quantity, f.Unit)}
		if e, here := ch.effects[at]; here {
			l.Unit, l.Scale, l.Amount, l.Discharged, l.Waived = e.Unit, ch.scale[e.Unit], e.Amount, e.discharged, e.Waived
			l.Debtor, l.Creditor = called(names, e.Debtor), called(names, e.Creditor)
			u := effects[e.Unit]
			if u == nil {
				u = &web.MemberEffect{Unit: e.Unit, Scale: ch.scale[e.Unit]}
				effects[e.Unit] = u
			}
			side := &u.Took
			if e.Creditor == f.Home {
				side = &u.Gave
			}
			*side += e.Amount - e.Waived
			u.Discharged += e.discharged
			l.Gave = e.Creditor == f.Home
		}
		out.Lines = append(out.Lines, l)
		if gone(why) {
			continue
		}
		key := [3]string{f.Action, f.Resource, f.Unit}
		if sums[key] == nil {
			sums[key] = &web.MemberSum{What: page.Pretty(f.Resource) + ", " + servicelog.Did(event.Kind(f.Action)), Measure: strings.ReplaceAll(f.Unit, "-", " "), Classes: map[string]int{}}
		}
		sums[key].Quantity += f.Quantity // at most 2^40 an entry and 2^17 entries
		sums[key].Entries++
		sums[key].Classes[f.Evidence]++
	}
	slices.SortStableFunc(out.Lines, func(a, b web.MemberLine) int { return cmp.Compare(b.Day, a.Day) })
	out.Entries = len(out.Lines)
	out.Lines = out.Lines[:min(len(out.Lines), shownMember)]
	for _, s := range sums {
		out.Sums = append(out.Sums, *s)
	}
	slices.SortFunc(out.Sums, func(a, b web.MemberSum) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Measure, b.Measure))
	})
	for _, e := range effects {
		out.Effects = append(out.Effects, *e)
	}
	slices.SortFunc(out.Effects, func(a, b web.MemberEffect) int { return cmp.Compare(a.Unit, b.Unit) })
}

// what is an entry in the words of the service log.
func what(action, resource string, quantity int64, measure string) string {
	return servicelog.Sentence(servicelog.Line{Kind: event.Kind(action), Door: resource, Note: fmt.Sprintf("%d %s", quantity, measure)})
}

// gone says that an entry counts nothing any more, also not as something that was done.
func gone(why string) bool {
	switch settlement.Why(why) {
	case "", settlement.WhyHome, settlement.WhyNoPrice, settlement.WhyHeld, settlement.WhyCapped, settlement.WhyLater:
		return false
	}
	return true
}

// memberAside says to a person why an entry moves nothing between houses.
func memberAside(why string) string {
	switch why {
	case "":
		return ""
	case string(settlement.WhyHome):
		return "at home"
	case string(settlement.WhyNoPrice):
		return "has no price"
	case string(settlement.WhyHeld):
		return "one-sided and held: it counts once it is entered again with a witness"
	case string(settlement.WhyCapped):
		return "one-sided, past the cap"
	case string(settlement.WhyLater):
		return "counts in the next period"
	case "corrected":
		return "replaced by a later entry"
	case "taken-back":
		return "takes an entry back"
	}
	return strings.ReplaceAll(why, "-", " ")
}
