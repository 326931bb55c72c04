package settlement

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var (
	seasonNodes = []string{"berlin", "lisbon", "popup", "porto"}
	seasonSteps = map[State][]string{ // what may be right; now and then any other is tried
		Open:     {"line"},
		Drafted:  {"propose", "challenge", "decide", "lapse"},
		Proposed: {"confirm", "challenge", "decide", "finalise", "lapse", "confirm"},
		Final:    {"leave", "leave", "leave", "book"},
		Posted:   {"line", "propose", "confirm", "challenge", "decide", "lapse", "finalise", "leave", "book"},
	}
)

// ground is what a period is built on.
type ground struct {
	policy        *Policy
	pool          Pool
	previous, cut *Cut
	events, later []Event
	carried       []Obligation
	terms         Terms
}

func drawGround(rt *rapid.T) *ground {
	g := &ground{policy: testPolicy(), pool: Pool{Commons: "pool"}, terms: Terms{WindowSeconds: rapid.Int64Range(0, 20).Draw(rt, "window"),
		AnswerSeconds: rapid.Int64Range(0, 30).Draw(rt, "answer"), Signers: rapid.IntRange(1, 3).Draw(rt, "signers")}}
	if rapid.Bool().Draw(rt, "dues") {
		g.pool.Dues = []Dues{{Unit: "bed-night", Num: 1, Den: 10}}
		g.pool.Grants = []Grant{{Node: "berlin", Unit: "hour", Amount: rapid.Int64Range(1, 9).Draw(rt, "grant"), Reason: "flood"}}
	}
	first, second := map[string]uint64{}, map[string]uint64{}
	for _, node := range seasonNodes {
		first[node] = rapid.Uint64Range(0, 3).Draw(rt, "size before")
		second[node] = rapid.Uint64Range(first[node], 20).Draw(rt, "size")
	}
	g.policy.HoldC = rapid.IntRange(1, 3).Draw(rt, "hold") == 3
	g.previous = seasonCut(rt, 85, nil, first)
	g.cut = seasonCut(rt, 100, g.previous, second)
	for i := range rapid.IntRange(2, 16).Draw(rt, "events") {
		e := drawEvent(rt, uint64(i))
		if rapid.IntRange(1, 6).Draw(rt, "put off") == 6 {
			e.Journal = "kith/" + e.Place + "-front/older"
			g.later = append(g.later, e)
		} else {
			g.events = append(g.events, e)
		}
	}
	for i := range rapid.IntRange(0, 9).Draw(rt, "carried") {
		from, by := rapid.IntRange(0, 3).Draw(rt, "from"), rapid.IntRange(1, 3).Draw(rt, "by")
		o := debt(byte(i+1), seasonNodes[from], seasonNodes[(from+by)%4], rapid.Int64Range(2, 40).Draw(rt, "amount"))
		o.Discharged = rapid.Int64Range(0, o.Amount-1).Draw(rt, "discharged")
		o.Waived = rapid.Int64Range(0, o.Open()).Draw(rt, "waived")
		o.Frozen = rapid.IntRange(1, 5).Draw(rt, "frozen") == 5
		o.Evidence = rapid.SampledFrom([]Evidence{TwoSided, OneSided}).Draw(rt, "evidence")
		g.carried = append(g.carried, o)
	}
	return g
}

func drawEvent(rt *rapid.T, index uint64) Event {
	what := rapid.SampledFrom([]struct {
		action   Action
		resource string
	}{{Use, "bed"}, {Use, "desk"}, {Work, "kitchen"}, {Use, "sauna"}}).Draw(rt, "what")
	place := rapid.SampledFrom(seasonNodes).Draw(rt, "place")
	return Event{Journal: journal(place), Index: index, Action: what.action, Resource: what.resource, Place: place,
		Quantity: rapid.Int64Range(1, 20).Draw(rt, "quantity"), Home: rapid.SampledFrom(seasonNodes).Draw(rt, "home"),
		Day:      Day(rapid.IntRange(80, 103).Draw(rt, "day")),
		Evidence: rapid.SampledFrom([]Evidence{TwoSided, Confirmed, OneSided}).Draw(rt, "evidence")}
}

func seasonCut(rt *rapid.T, day Day, previous *Cut, sizes map[string]uint64) *Cut {
	var points []Checkpoint
	for _, node := range seasonNodes {
		root := [32]byte{byte(sizes[node]), node[0], node[1]}
		points = append(points, Checkpoint{Journal: journal(node), Node: node, Size: sizes[node], Root: root})
	}
	c, err := NewCut(day, seasonNodes, points, previous)
	if err != nil {
		rt.Fatal(err)
	}
	return c
}

// set derives the obligations of the period from these events.
func (g *ground) set(rt *rapid.T, events, later []Event) []Obligation {
	d, err := Derive(g.policy, g.previous, g.cut, events, later)
	if err != nil {
		rt.Fatal(err)
	}
	list, err := g.pool.Join(g.policy, g.cut, d.Obligations, evenSplit)
	if err != nil {
		rt.Fatal(err)
	}
	return append(list, g.carried...)
}

// season is one period that random steps are tried on, with what is known of it from the outside.
type season struct {
	*ground
	rt         *rapid.T
	p          *Period
	at         int64
	drawn      []Obligation // as the line was drawn
	covered    []Obligation // what the newest statement is over
	texts      []string     // of every statement
	taken      []Input      // steps that were not refused
	discharged map[ID]int64 // by the final statement
	tally      map[string]int
}

func (s *season) chance(oneIn int) bool {
	return rapid.IntRange(1, oneIn).Draw(s.rt, "chance") == oneIn
}

func (s *season) node() string {
	return rapid.SampledFrom([]string{"berlin", "lisbon", "popup", "porto", "pool", "elsewhere", "No Node"}).Draw(s.rt, "node")
}

// clearable is told from the lists alone.
func clearable(p *Period) (list []Obligation) {
	for _, o := range p.Obligations {
		out := slices.ContainsFunc(p.Disputes, func(d Dispute) bool { return d.Obligation == o.ID && d.Outcome != Stand })
		if o.Amount > o.Discharged+o.Waived && !o.Frozen && !out {
			list = append(list, o)
		}
	}
	return list
}

func partiesOf(list []Obligation) (nodes []string) {
	for _, o := range list {
		nodes = append(nodes, o.Debtor, o.Creditor)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// text is the statement that a period would propose; the digest of the set stands in for what the clearing answers.
func (s *season) text(rt *rapid.T, p *Period, policy *Policy) string {
	var units []Cleared
	for _, unit := range []string{"bed-night", "hour"} {
		u := Cleared{Unit: unit}
		var set strings.Builder
		for _, o := range p.Clearable() {
			if o.Unit == unit {
				u.Gross += o.Open()
				fmt.Fprintf(&set, "%s %s %s %d %d\n", o.ID, o.Debtor, o.Creditor, o.Open(), o.Day)
			}
		}
		if u.Case = sha256.Sum256([]byte(set.String())); u.Gross > 0 {
			units = append(units, u)
		}
	}
	st, err := p.Draft("kith", policy, units)
	if err != nil {
		rt.Fatal(err)
	}
	return string(st.AppendText(nil))
}

func copyOf(p *Period) *Period {
	c := *p
	c.Obligations, c.Proposals, c.Disputes = slices.Clone(p.Obligations), slices.Clone(p.Proposals), slices.Clone(p.Disputes)
	c.Signed, c.Exits = slices.Clone(p.Signed), slices.Clone(p.Exits)
	for i := range c.Proposals {
		c.Proposals[i].Confirmed = slices.Clone(p.Proposals[i].Confirmed)
	}
	return &c
}

// draw returns a step, and every reason for which it must be refused; none when it must be taken.
func (s *season) draw() (Input, []error) {
	p, rt := s.p, s.rt
	var faults []error
	fault := func(is bool, err error) {
		if is {
			faults = append(faults, err)
		}
	}
	out := p.State == Proposed // a statement is out
	last := Proposal{Number: len(p.Proposals)}
	if len(p.Proposals) > 0 {
		last = p.Proposals[len(p.Proposals)-1]
	}
	number := last.Number
	if s.chance(8) {
		number = rapid.IntRange(0, last.Number+1).Draw(rt, "number")
	}
	s.at += rapid.Int64Range(0, 4).Draw(rt, "passes")
	if s.chance(5) {
		s.at += rapid.Int64Range(0, 40).Draw(rt, "passes idly")
	}
	at := s.at
	if s.chance(8) {
		at -= rapid.Int64Range(1, 40).Draw(rt, "back")
	}
	menu := p.State
	if s.chance(6) {
		menu = Posted
	}
	what := rapid.SampledFrom(seasonSteps[menu]).Draw(rt, "step")
	var one Obligation // what a dispute is about
	unknown := len(p.Obligations) == 0 || s.chance(12)
	if !unknown {
		one = rapid.SampledFrom(p.Obligations).Draw(rt, "obligation")
	} else {
		one = debt(255, "berlin", "porto", 1)
	}
	switch what {
	case "line":
		in, err := s.line()
		fault(p.State != Open, ErrState)
		fault(err != nil, err)
		return in, faults
	case "propose":
		fault(p.State != Drafted, ErrState)
		fault(at < last.At, ErrWindow)
		in := Propose{At: at}
		if p.State == Drafted {
			in.Digest = sha256.Sum256([]byte(s.text(rt, p, s.policy)))
		}
		return in, faults
	case "confirm":
		in := Confirm{Number: number, Node: s.node()}
		if waiting := p.Awaited(); len(waiting) > 0 && !s.chance(6) {
			in.Node = waiting[0]
		}
		fault(!out || number != last.Number, ErrState)
		fault(!slices.Contains(partiesOf(clearable(p)), in.Node), ErrParty)
		return in, faults
	case "challenge":
		by := rapid.SampledFrom([]string{one.Debtor, one.Creditor}).Draw(rt, "by")
		in := Challenge{Obligation: one.ID, By: by, At: at, Note: [32]byte{byte(len(s.taken))}}
		if s.chance(8) {
			in.By = s.node()
		}
		fault(p.State != Drafted && p.State != Proposed, ErrState)
		fault(unknown, ErrUnknown)
		fault(in.By != one.Debtor && in.By != one.Creditor, ErrParty)
		fault(slices.ContainsFunc(p.Disputes, func(d Dispute) bool { return d.Obligation == one.ID }), ErrDispute)
		fault(out && at-last.At > s.terms.WindowSeconds, ErrState)
		return in, faults
	case "decide":
		if len(p.Disputes) > 0 && !s.chance(6) {
			id := rapid.SampledFrom(p.Disputes).Draw(rt, "dispute").Obligation
			one = p.Obligations[slices.IndexFunc(p.Obligations, func(o Obligation) bool { return o.ID == id })]
		}
		in := Decide{Obligation: one.ID, Reviewer: s.node(), Note: [32]byte{byte(len(s.taken)), 1},
			Outcome: rapid.SampledFrom([]Outcome{Stand, Amend, Voided, Voided, Undecided, "gift"}).Draw(rt, "outcome")}
		i := slices.IndexFunc(p.Disputes, func(d Dispute) bool { return d.Obligation == one.ID })
		fault(p.State != Drafted && p.State != Proposed, ErrState)
		fault(i < 0, ErrUnknown)
		fault(i >= 0 && p.Disputes[i].Outcome != Undecided, ErrDispute)
		fault(in.Reviewer == one.Debtor || in.Reviewer == one.Creditor || in.Reviewer == "No Node", ErrParty)
		fault(in.Outcome == Undecided || in.Outcome == "gift", ErrUnknown)
		return in, faults
	case "lapse":
		fault(p.State != Drafted && p.State != Proposed, ErrState)
		return Lapse{At: at}, faults
	case "finalise":
		in := Finalise{Number: number, At: at}
		in.Signers = rapid.SliceOfN(rapid.SampledFrom([]string{"k3", "k1", "k2"}), 0, 6).Draw(rt, "signers")
		distinct := map[string]bool{}
		for _, k := range in.Signers {
			distinct[k] = true
		}
		fault(!out || number != last.Number, ErrState)
		fault(at-last.At < s.terms.WindowSeconds && !slices.Equal(last.Confirmed, partiesOf(clearable(p))), ErrWindow)
		fault(len(distinct) < s.terms.Signers, ErrSigners)
		return in, faults
	case "leave":
		return s.leave()
	}
	fault(p.State != Final, ErrState)
	return Book{}, faults
}

// line draws the line, in one of four cases with one thing wrong.
func (s *season) line() (Input, error) {
	list := rapid.Permutation(s.set(s.rt, s.events, s.later)).Draw(s.rt, "set")
	if !s.chance(4) {
		return DrawLine{Cut: s.cut, Obligations: list}, nil
	}
	bad := debt(254, "berlin", "porto", 20)
	how := rapid.IntRange(0, 8).Draw(s.rt, "spoiled")
	switch how {
	case 0:
		return DrawLine{Obligations: list}, ErrCut
	case 1:
		bad.Day = s.cut.Day + 1
	case 2:
		bad.Amount = 0
	case 3:
		bad.Discharged = -1
	case 4:
		bad.Waived = -1
	case 5:
		bad.Discharged, bad.Waived = 15, 6
	case 6:
		bad.Creditor = bad.Debtor
	case 7:
		bad.Unit = "No Unit"
	case 8:
		list = append(list, bad)
	}
	err := map[int]error{1: ErrCut, 6: ErrName, 7: ErrName}[how]
	if err == nil {
		err = ErrEvent
	}
	return DrawLine{Cut: s.cut, Obligations: append(list, bad)}, err
}

// follow takes one step on a copy, from the rules as they are written down, for a step that must be taken.
func (s *season) follow(p *Period, in Input) *Period {
	p = copyOf(p)
	withdraw := func() {
		if p.State == Proposed {
			p.Proposals[len(p.Proposals)-1].Withdrawn, p.State = true, Drafted
		}
	}
	end := func(d *Dispute, outcome Outcome) {
		if d.Outcome = outcome; outcome == Stand {
			withdraw()
			return
		}
		i := slices.IndexFunc(p.Obligations, func(o Obligation) bool { return o.ID == d.Obligation })
		p.Obligations[i].Waived = p.Obligations[i].Amount - p.Obligations[i].Discharged
	}
	switch in := in.(type) {
	case DrawLine:
		p.Obligations = slices.Clone(in.Obligations)
		slices.SortFunc(p.Obligations, func(a, b Obligation) int { return strings.Compare(a.ID.String(), b.ID.String()) })
		p.Cut, p.State = in.Cut, Drafted
	case Propose:
		p.Proposals = append(p.Proposals, Proposal{Number: len(p.Proposals) + 1, Digest: in.Digest, At: in.At})
		p.State = Proposed
	case Confirm:
		last := &p.Proposals[len(p.Proposals)-1]
		last.Confirmed = append(last.Confirmed, in.Node)
		slices.Sort(last.Confirmed)
		last.Confirmed = slices.Compact(last.Confirmed)
	case Challenge:
		p.Disputes = append(p.Disputes, Dispute{Obligation: in.Obligation, By: in.By, Note: in.Note, At: in.At})
		withdraw()
	case Decide:
		d := &p.Disputes[slices.IndexFunc(p.Disputes, func(d Dispute) bool { return d.Obligation == in.Obligation })]
		d.Reviewer, d.Decision = in.Reviewer, in.Note
		end(d, in.Outcome)
	case Lapse:
		for i := range p.Disputes {
			d := &p.Disputes[i]
			o := p.Obligations[slices.IndexFunc(p.Obligations, func(o Obligation) bool { return o.ID == d.Obligation })]
			if d.Outcome == Undecided && in.At-d.At >= s.terms.AnswerSeconds {
				end(d, map[bool]Outcome{true: Voided, false: Stand}[o.Evidence == OneSided])
			}
		}
	case Finalise:
		p.Signed = slices.Clone(in.Signers)
		slices.Sort(p.Signed)
		p.Signed, p.State = slices.Compact(p.Signed), Final
	case Leave:
		p.Exits = append(p.Exits, in.Exit)
	case Book:
		p.State = Posted
	}
	return p
}

// runSeason returns how often each step came to what.
func runSeason(rt *rapid.T) map[string]int {
	s := &season{ground: drawGround(rt), rt: rt, at: 1000, tally: map[string]int{}}
	var err error
	if s.p, err = Begin("2026-11", s.terms); err != nil {
		rt.Fatal(err)
	}
	for range rapid.IntRange(1, 50).Draw(rt, "steps") {
		in, faults := s.draw()
		was := copyOf(s.p)
		next, err := s.p.Step(in)
		if !reflect.DeepEqual(s.p, was) {
			rt.Fatalf("%T changed the period it started from", in)
		}
		if err != nil {
			if !slices.ContainsFunc(faults, func(f error) bool { return errors.Is(err, f) }) {
				rt.Fatalf("%+v in %q: %v, want one of %v", in, was.State, err, faults)
			}
			if len(faults) == 1 {
				s.tally[fmt.Sprintf("%T: %v", in, faults[0])]++
			}
			continue
		}
		if len(faults) > 0 {
			rt.Fatalf("%+v in %q was taken, want %v", in, was.State, faults)
		}
		s.tally[fmt.Sprintf("%T", in)]++
		if want := s.follow(was, in); !reflect.DeepEqual(next, want) {
			rt.Fatalf("%+v in %q came to\n%+v, want\n%+v", in, was.State, next, want)
		}
		s.p = next
		s.taken = append(s.taken, in)
		s.look(was, in)
	}
	s.again()
	return s.tally
}

// I3, I4 and I7 over random steps of a period, right ones and wrong ones, and what stands for I8 until the
// rules count governors: only enough distinct signers make a statement final, and not before its window.
func TestPeriodsOfRandomStepsKeepEveryInvariant(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { runSeason(rt) })
}
