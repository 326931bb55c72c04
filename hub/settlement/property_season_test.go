package settlement

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// look holds the period to what must be true after every step, whatever it was.
func (s *season) look(was *Period, in Input) {
	p, rt := s.p, s.rt
	switch in := in.(type) {
	case DrawLine:
		s.drawn = slices.Clone(p.Obligations)
	case Propose:
		s.covered = clearable(was)
		s.texts = append(s.texts, s.text(rt, was, s.policy))
		if in.Digest != sha256.Sum256([]byte(s.texts[len(s.texts)-1])) {
			rt.Fatal("the statement that is out is not the one that was drafted")
		}
	case Finalise:
		s.discharge()
	}
	for i, d := range p.Disputes {
		if i < len(was.Disputes) && was.Disputes[i].Outcome == Undecided && d.Outcome != Undecided {
			s.tally[fmt.Sprintf("%T in %q: %s", in, was.State, d.Outcome)]++
		}
	}
	for i, o := range p.Obligations {
		d := s.drawn[i]
		wholeOrFail(rt, &o)
		if d.Waived = o.Waived; o != d || o.Waived < s.drawn[i].Waived {
			rt.Fatalf("I3: a step made %+v of %+v", o, s.drawn[i])
		}
	}
	if !slices.Equal(p.Clearable(), clearable(p)) {
		rt.Fatalf("clearable are %+v, want %+v", p.Clearable(), clearable(p))
	}
	if p.InForce() != nil && !slices.Equal(clearable(p), s.covered) {
		rt.Fatal("the set of the statement that is out has changed under it")
	}
	var awaited []string
	if p.State == Proposed {
		confirmed := p.Proposals[len(p.Proposals)-1].Confirmed
		awaited = slices.DeleteFunc(partiesOf(s.covered), func(node string) bool { return slices.Contains(confirmed, node) })
	}
	if !slices.Equal(p.Awaited(), awaited) {
		rt.Fatalf("awaited are %v, want %v", p.Awaited(), awaited)
	}
	for i, st := range p.Proposals { // earlier ones stay readable
		if st.Number != i+1 || st.Digest != sha256.Sum256([]byte(s.texts[i])) {
			rt.Fatalf("statement %d became %+v", i+1, st)
		}
	}
	if p.State != Final && p.State != Posted {
		if _, err := p.Settled(nil); !errors.Is(err, ErrState) {
			rt.Fatalf("a period in %q was carried over: %v", p.State, err)
		}
		return
	}
	signers := slices.Clone(p.Signed)
	slices.Sort(signers)
	if len(slices.Compact(signers)) < s.terms.Signers {
		rt.Fatalf("I8: final with %v, needs %d", p.Signed, s.terms.Signers)
	}
	s.lookAtTheEnd()
	if leave, ok := in.(Leave); ok {
		s.lookAtExit(was, leave.Exit)
	}
}

// wholeOrFail is I3 for one obligation.
func wholeOrFail(rt *rapid.T, o *Obligation) {
	if o.Amount != o.Discharged+o.Waived+o.Open() || o.Amount <= 0 || o.Discharged < 0 || o.Waived < 0 || o.Open() < 0 {
		rt.Fatalf("I3: %d is not %d discharged, %d waived and %d open: %s", o.Amount, o.Discharged, o.Waived, o.Open(), o.ID)
	}
}

type position struct{ node, unit string }

// positions are what every node is owed less what it owes; what a creditor gave up counts as if it were still there.
func positions(list []Obligation) map[position]int64 {
	net := map[position]int64{}
	for _, o := range list {
		net[position{o.Creditor, o.Unit}] += o.Open() + o.Waived
		net[position{o.Debtor, o.Unit}] -= o.Open() + o.Waived
	}
	maps.DeleteFunc(net, func(_ position, v int64) bool { return v == 0 })
	return net
}

// discharge draws what the final statement discharges: debts in a circle, as a clearing does it.
func (s *season) discharge() {
	s.discharged = map[ID]int64{}
	for range rapid.IntRange(1, 6).Draw(s.rt, "circles") {
		if len(s.covered) == 0 {
			return
		}
		left := func(o Obligation) int64 { return o.Open() - s.discharged[o.ID] }
		path := []Obligation{rapid.SampledFrom(s.covered).Draw(s.rt, "first")}
		for len(path) < 5 && path[len(path)-1].Creditor != path[0].Debtor {
			at := path[len(path)-1].Creditor
			next := slices.IndexFunc(s.covered, func(o Obligation) bool {
				return o.Unit == path[0].Unit && o.Debtor == at && left(o) > 0 && (o.Creditor == path[0].Debtor || len(path) < 3)
			})
			if next < 0 {
				break
			}
			path = append(path, s.covered[next])
		}
		most := left(path[0])
		for _, o := range path {
			most = min(most, left(o))
		}
		seen := map[ID]bool{}
		for _, o := range path {
			seen[o.ID] = true
		}
		if path[len(path)-1].Creditor == path[0].Debtor && most > 0 && len(path) == len(seen) {
			amount := rapid.Int64Range(1, most).Draw(s.rt, "discharged")
			for _, o := range path {
				s.discharged[o.ID] += amount
			}
			s.tally["circle"]++
		}
	}
}

// lookAtTheEnd is I3 and I4 for what becomes of every obligation, and for what is carried over.
func (s *season) lookAtTheEnd() {
	p, rt := s.p, s.rt
	all, err := p.Settled(s.discharged)
	if err != nil {
		rt.Fatal(err)
	}
	open, err := p.Carry(s.discharged)
	if err != nil {
		rt.Fatal(err)
	}
	for i := range all {
		wholeOrFail(rt, &all[i])
	}
	if got, want := positions(all), positions(p.Obligations); !maps.Equal(got, want) {
		rt.Fatalf("I4: net positions moved from %v to %v", want, got)
	}
	if all = slices.DeleteFunc(all, func(o Obligation) bool { return o.Amount == o.Discharged+o.Waived }); !slices.Equal(all, open) {
		rt.Fatalf("carried over are %+v, open are %+v", open, all)
	}
	for _, x := range p.Exits {
		for _, o := range open {
			if !o.Frozen && (o.Debtor == x.Node || o.Creditor == x.Node) && o.Debtor != "pool" && o.Creditor != "pool" {
				rt.Fatalf("%+v of a node that left would still be cleared", o)
			}
		}
	}
	if wrong := s.undue(); wrong != nil {
		if _, err := p.Settled(wrong); !errors.Is(err, ErrUnknown) {
			rt.Fatalf("I3: discharging %v: %v", wrong, err)
		}
	}
	one := map[ID]int64{}
	for _, o := range s.covered { // whatever amounts: a clearing may leave a rest of every one
		one[o.ID] = rapid.Int64Range(0, o.Open()).Draw(rt, "some")
	}
	some := *p
	some.Exits = nil
	parts, err := some.Settled(one)
	if err != nil {
		rt.Fatal(err)
	}
	for i, o := range parts {
		wholeOrFail(rt, &o)
		if o.Discharged != p.Obligations[i].Discharged+one[o.ID] || o.Waived != p.Obligations[i].Waived {
			rt.Fatalf("I3: discharging %d of %+v came to %+v", one[o.ID], p.Obligations[i], o)
		}
	}
}

// undue draws a discharge that no statement can have: nil where there is none of that sort.
func (s *season) undue() map[ID]int64 {
	wrong := maps.Clone(s.discharged)
	switch rapid.IntRange(0, 3).Draw(s.rt, "undue") {
	case 0:
		wrong[ID{252}] = 1
		return wrong
	case 1:
		for _, o := range s.p.Obligations {
			if !slices.Contains(s.covered, o) {
				wrong[o.ID] = 1
				return wrong
			}
		}
	case 2:
		for _, o := range s.covered {
			wrong[o.ID] = o.Open() + 1
			return wrong
		}
	case 3:
		for _, o := range s.covered {
			wrong[o.ID] = -1
			return wrong
		}
	}
	return nil
}

// leave draws the exit of a node, right or with one thing wrong.
func (s *season) leave() (Input, []error) {
	p, rt := s.p, s.rt
	in := Leave{Exit: Exit{Node: rapid.SampledFrom(seasonNodes).Draw(rt, "leaving"), Commons: "pool"}, Discharged: s.discharged}
	if p.State != Final {
		return in, []error{ErrState}
	}
	list, err := p.Settled(s.discharged)
	if err != nil {
		rt.Fatal(err)
	}
	x, foreign := &in.Exit, []Obligation{}
	var chosen []Obligation
	for _, o := range list {
		if o.Open() == 0 || o.Debtor != x.Node && o.Creditor != x.Node {
			foreign = append(foreign, o)
			continue
		}
		if s.chance(3) {
			continue
		}
		pool := o.Debtor == x.Commons || o.Creditor == x.Commons
		c := Choice{Obligation: o.ID, Remainder: rapid.SampledFrom([]Remainder{Novate, Waive, ServeInKind, Freeze}).Draw(rt, "remainder"),
			By: []string{o.Debtor, o.Creditor}}
		if c.Remainder == Novate && pool {
			c.Remainder = Freeze
		}
		if c.Remainder == Waive && s.chance(2) {
			c.By = []string{o.Creditor}
		}
		if c.Remainder == ServeInKind {
			c.Until = o.Day + Day(rapid.IntRange(0, 9).Draw(rt, "until"))
		}
		x.Choices, chosen = append(x.Choices, c), append(chosen, o)
	}
	var faults []error
	if slices.ContainsFunc(p.Exits, func(e Exit) bool { return e.Node == x.Node }) {
		faults = append(faults, ErrDispute)
	}
	if wrong := s.spoil(&in, chosen, foreign); wrong != nil {
		faults = append(faults, wrong)
	}
	return in, faults
}

// spoil makes one thing of an exit wrong and returns what it must be refused with; nil where nothing was spoiled.
func (s *season) spoil(in *Leave, chosen, foreign []Obligation) error {
	x := &in.Exit
	how, last := rapid.IntRange(-8, 11).Draw(s.rt, "spoiled"), len(x.Choices)-1
	switch {
	case how == 0:
		x.Node = "No Node"
		return ErrName
	case how == 1:
		x.Node = x.Commons
		return ErrName
	case how == 2:
		x.Choices = append(x.Choices, Choice{Obligation: ID{251}, Remainder: Freeze})
		return ErrUnknown
	case how == 3 && len(foreign) > 0:
		o := foreign[0]
		x.Choices = append(x.Choices, Choice{Obligation: o.ID, Remainder: Freeze, By: []string{o.Debtor, o.Creditor}})
		return ErrUnknown
	case how == 4:
		if wrong := s.undue(); wrong != nil {
			in.Discharged = wrong
			return ErrUnknown
		}
	case last < 0:
	case how == 5:
		x.Choices = append(x.Choices, x.Choices[last])
		return ErrDispute
	case how == 6:
		x.Choices[last].By = []string{chosen[last].Debtor}
		return ErrParty
	case how == 7 && x.Choices[last].Remainder != Waive:
		x.Choices[last].By = []string{chosen[last].Creditor, "elsewhere"}
		return ErrParty
	case how == 8:
		x.Choices[last].Remainder = "gift"
		x.Choices[last].By = []string{chosen[last].Debtor, chosen[last].Creditor}
		return ErrUnknown
	case how == 9 && x.Choices[last].Remainder == ServeInKind:
		x.Choices[last].Until = chosen[last].Day - 1
		return ErrEvent
	case how == 10 && (chosen[last].Debtor == x.Commons || chosen[last].Creditor == x.Commons):
		x.Choices[last].Remainder = Novate
		x.Choices[last].By = []string{chosen[last].Debtor, chosen[last].Creditor}
		return ErrParty
	case how == 11 && x.Choices[last].Remainder == Novate:
		x.Commons = ""
		return ErrParty
	}
	return nil
}

// lookAtExit holds each obligation to what was chosen about it.
func (s *season) lookAtExit(was *Period, x Exit) {
	before, err := was.Settled(s.discharged)
	if err != nil {
		s.rt.Fatal(err)
	}
	after, err := s.p.Settled(s.discharged)
	if err != nil {
		s.rt.Fatal(err)
	}
	now := map[ID]Obligation{}
	for i, o := range after {
		if i > 0 && bytes.Compare(after[i-1].ID[:], o.ID[:]) >= 0 {
			s.rt.Fatalf("%s stands twice, or out of order", o.ID)
		}
		now[o.ID] = o
	}
	var fresh []Obligation
	for _, o := range before {
		want := o
		i := slices.IndexFunc(x.Choices, func(c Choice) bool { return c.Obligation == o.ID })
		switch {
		case o.Open() == 0 || o.Debtor != x.Node && o.Creditor != x.Node:
		case i < 0 || x.Choices[i].Remainder == Freeze:
			want.Frozen = true
		case x.Choices[i].Remainder == ServeInKind:
			want.Frozen, want.Until = true, x.Choices[i].Until
		case x.Choices[i].Remainder == Waive:
			want.Waived += o.Open()
		case x.Choices[i].Remainder == Novate:
			want.Discharged += o.Open()
			rest := Obligation{Unit: o.Unit, Amount: o.Open(), Day: o.Day, Evidence: o.Evidence}
			rest.Debtor, rest.Creditor = o.Debtor, "pool"
			fresh = append(fresh, rest)
			rest.Debtor, rest.Creditor = "pool", o.Creditor
			fresh = append(fresh, rest)
		}
		if now[o.ID] != want {
			s.rt.Fatalf("exit of %q: %+v became %+v, want %+v", x.Node, o, now[o.ID], want)
		}
		delete(now, o.ID)
		if now := want; now != o && i < 0 {
			s.tally["left unchosen"]++
		} else if now != o {
			s.tally[string(x.Choices[i].Remainder)]++
		}
	}
	for _, o := range now {
		o.ID = ID{}
		i := slices.Index(fresh, o)
		if i < 0 {
			s.rt.Fatalf("exit of %q: nobody chose %+v", x.Node, o)
		}
		fresh = slices.Delete(fresh, i, i+1)
	}
	if len(fresh) > 0 {
		s.rt.Fatalf("exit of %q: the pool did not take over %+v", x.Node, fresh)
	}
}

// again is I7: whoever has the cut, the events, the policy and the steps that were taken comes to the same statements byte for
// byte and to the same end, whatever order the events come in and however often; and not with another event or policy.
func (s *season) again() {
	if s.p.State == Open {
		return
	}
	rt := s.rt
	events := rapid.Permutation(append(slices.Clone(s.events), s.events[:len(s.events)/2]...)).Draw(rt, "events")
	texts, q, err := s.replay(events, s.policy, len(s.taken))
	if err != nil || !slices.Equal(texts, s.texts) {
		rt.Fatalf("I7: derived again the statements are\n%q, were\n%q (%v)", texts, s.texts, err)
	}
	if !reflect.DeepEqual(q, s.p) {
		rt.Fatalf("I7: derived again the period is\n%+v, was\n%+v", q, s.p)
	}
	first := slices.IndexFunc(s.taken, func(in Input) bool { _, is := in.(Propose); return is }) + 1
	if first == 0 {
		return
	}
	other := *s.policy
	other.Hash[0]++
	if texts, _, err := s.replay(s.events, &other, first); err != nil || texts[0] == s.texts[0] {
		rt.Fatalf("I7: another policy makes the same statement (%v)", err)
	}
	if _, q, err = s.replay(s.events, s.policy, first); err != nil {
		rt.Fatal(err)
	}
	for i := range s.events {
		if id := s.policy.identify(&s.events[i]); slices.ContainsFunc(clearable(q), func(o Obligation) bool { return o.ID == id }) {
			changed := slices.Clone(s.events)
			if rapid.Bool().Draw(rt, "another day") {
				changed[i].Day-- // all sums stay as they are
			} else {
				changed[i].Quantity++
			}
			// Dues follow what was done; a dispute about some that are no longer asked cannot be replayed at all.
			if texts, _, err := s.replay(changed, s.policy, first); err == nil && texts[0] == s.texts[0] {
				rt.Fatalf("I7: the statement is the same when event %d is another", i)
			}
			s.tally["another event"]++
			return
		}
	}
}

// replay takes the first steps again, over a set and a cut that are made anew from these events.
func (s *season) replay(events []Event, policy *Policy, steps int) (texts []string, q *Period, err error) {
	g := *s.ground
	g.policy = policy
	points := slices.Clone(s.cut.Checkpoints)
	slices.Reverse(points)
	if g.cut, err = NewCut(s.cut.Day, seasonNodes, points, s.previous); err != nil {
		return nil, nil, err
	}
	if q, err = Begin("2026-11", s.terms); err != nil {
		return nil, nil, err
	}
	for _, in := range s.taken[:steps] {
		switch in.(type) {
		case DrawLine:
			in = DrawLine{Cut: g.cut, Obligations: g.set(s.rt, events, s.later)}
		case Propose:
			texts = append(texts, s.text(s.rt, q, policy))
		}
		if q, err = q.Step(in); err != nil {
			return texts, nil, err
		}
	}
	return texts, q, nil
}

// The seasons are worth what they contain: the same few hundred, on every machine, come to every step and every refusal.
func TestSeasonsReachEveryStepAndEveryRefusal(t *testing.T) {
	reached := map[string]int{}
	for seed := range 300 {
		for what, n := range rapid.Custom(runSeason).Example(seed) {
			reached[what] += n
		}
	}
	missing := []string{"circle", "another event", "left unchosen", "novate", "waive", "serve-in-kind", "freeze"}
	for step, refusals := range map[string][]error{
		"Book": {ErrState}, "Propose": {ErrState, ErrWindow}, "Confirm": {ErrState, ErrParty}, "Lapse": {ErrState},
		"DrawLine": {ErrState, ErrCut, ErrEvent, ErrName}, "Challenge": {ErrState, ErrUnknown, ErrParty, ErrDispute},
		"Decide": {ErrState, ErrUnknown, ErrParty, ErrDispute}, "Finalise": {ErrState, ErrWindow, ErrSigners},
		"Leave": {ErrState, ErrName, ErrUnknown, ErrParty, ErrDispute},
	} {
		missing = append(missing, "settlement."+step)
		for _, err := range refusals {
			missing = append(missing, "settlement."+step+": "+err.Error())
		}
	}
	for _, state := range []State{Drafted, Proposed} {
		for _, what := range []string{"stand", "amend", "void"} {
			missing = append(missing, fmt.Sprintf("settlement.Decide in %q: %s", state, what))
			if what != "amend" {
				missing = append(missing, fmt.Sprintf("settlement.Lapse in %q: %s", state, what))
			}
		}
	}
	if missing = slices.DeleteFunc(missing, func(what string) bool { return reached[what] > 0 }); len(missing) > 0 {
		t.Errorf("no season comes to %q, only to %v", missing, reached)
	}
}
