package kiosk

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
)

const reader = "front-in"

func catalogueOf(t testing.TB) *access.Roster {
	t.Helper()
	r, err := access.Compile(access.Document{Network: "demo", Node: "lisbon", Version: 1, Zone: "Europe/Lisbon",
		Members: []access.Member{
			{ID: "ana", Name: "Ana", Role: access.RoleResident, Groups: []string{"makers"}}, {ID: "ben", Name: "Ben", Role: access.RoleResident},
			{ID: "host", Name: "Hal", Role: access.RoleHost}, {ID: "eva", Name: "Eva", Role: access.RoleResident, Home: "oaxaca"},
		},
		Resources: []access.Resource{
			{ID: "bed", Measure: "night", Offered: true, MaxEntry: 14, MaxDay: 20, Lead: 24},
			{ID: "kitchen", Measure: "minute", Actions: []string{"work"}, Offered: true, Witness: 120},
			{ID: "workshop", Measure: "minute", Groups: []string{"makers"}},
			{ID: "flour", Measure: "gram", Actions: []string{"consume", "raise", "lower", "transfer"}},
		}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// bench is a machine with a clock and people that can be moved by hand.
type bench struct {
	t       testing.TB
	m       *Machine
	view    View
	now     time.Duration
	n       int
	said    []Word
	facts   []event.Fact
	kept    [][]Use
	pending []string
	index   uint64
}

func newBench(t testing.TB) *bench {
	return &bench{t: t, m: NewMachine(Config{Network: "demo", Node: "lisbon", Edge: "lisbon-front", Readers: []string{reader, "front-out"}}, nil),
		view: View{Roster: catalogueOf(t), Wall: time.Date(2026, 3, 10, 23, 30, 0, 0, time.UTC), Clock: event.Synced}, now: time.Hour}
}

func (b *bench) step(in Input) error {
	out, err := b.m.Step(b.now, in)
	for _, o := range out {
		switch o := o.(type) {
		case Say:
			b.said = append(b.said, o.Word)
		case Record:
			b.facts, b.pending = append(b.facts, o.Fact), append(b.pending, o.ID)
		case Keep:
			b.kept = append(b.kept, o.Running)
		}
	}
	return err
}

func (b *bench) pass(d time.Duration) { b.now += d; b.view.Wall = b.view.Wall.Add(d) }

func (b *bench) propose(p Proposal) (string, error) {
	b.n++
	id := fmt.Sprint("s", b.n)
	return id, b.step(Propose{id, p, b.view})
}

func (b *bench) must(p Proposal) string {
	b.t.Helper()
	id, err := b.propose(p)
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// tap shows a person's card at the reader, if anything waits there.
func (b *bench) tap(who string, how card.Assurance) bool {
	b.t.Helper()
	ask, ok := b.m.Waiting(b.now, reader, b.view)
	if !ok {
		return false
	}
	t := Tap{Ask: ask, View: b.view, Card: string(how) + ":" + who, Assurance: how, Known: access.UnknownCard}
	if p, ok := b.view.Roster.Person(who); ok {
		t.Person, t.Known = p, access.Granted
	}
	if how == card.PKOC {
		b.n++
		t.Nonce, t.Key, t.Signature = [16]byte{byte(b.n), byte(b.n >> 8)}, []byte{4}, []byte{1}
	}
	if err := b.step(t); err != nil {
		b.t.Fatal(err)
	}
	return true
}

// disk answers every record.
func (b *bench) disk(err error) {
	b.t.Helper()
	for _, id := range b.pending {
		if e := b.step(Written{ID: id, Index: b.index, Err: err}); e != nil {
			b.t.Fatal(e)
		}
		b.index++
	}
	b.pending = nil
}

func (b *bench) session(id string) Session {
	s, _ := b.m.Session(b.now, id)
	return s
}

func (b *bench) last() (event.Entry, event.Private, event.EntryPrivate) {
	b.t.Helper()
	f := b.facts[len(b.facts)-1]
	e, err := event.ParseEntry(f.Kind, f.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	var part event.EntryPrivate
	if err := json.Unmarshal(f.Private.Body, &part); err != nil {
		b.t.Fatal(err)
	}
	return e, *f.Private, part
}

func use(n int64) Proposal {
	return Proposal{Action: event.KindUse, Resource: "bed", Quantity: n, Reader: reader, Note: "blue room"}
}

func kitchen(n int64) Proposal {
	return Proposal{Action: event.KindWork, Resource: "kitchen", Quantity: n, Reader: reader}
}

func TestTheMembersOwnCardMakesClassA(t *testing.T) {
	b := newBench(t)
	id := b.must(use(2))
	b.tap("eva", card.PKOC)
	if s := b.session(id); s.State != Recording || len(b.said) != 0 {
		t.Fatalf("%+v, said %v: yes is said when it is durable", s, b.said)
	}
	b.disk(nil)
	if s := b.session(id); s.State != Recorded || !strings.HasSuffix(s.Address, "/0") || b.said[0] != Yes {
		t.Fatalf("%+v, said %v", s, b.said)
	}
	e, private, part := b.last()
	// 23:30 UTC in March is the same day in Lisbon; what happened stands on the node's calendar.
	if e.Evidence != "A" || e.Home != "oaxaca" || e.Quantity != 2 || e.Day != 20522 || e.Nonce == "" || part.Key == "" || part.Note != "blue room" {
		t.Fatalf("%+v %+v", e, part)
	}
	if private.Member != "eva" || strings.Contains(string(b.facts[0].Body), "eva") || strings.Contains(string(b.facts[0].Body), "blue") {
		t.Fatalf("the public body names the person: %s", b.facts[0].Body)
	}
	if _, ok := b.m.Waiting(b.now, reader, b.view); ok {
		t.Fatal("the reader still belongs to the entry")
	}
}

func TestACardThatProvesNothingMakesClassC(t *testing.T) {
	b := newBench(t)
	b.must(use(1))
	b.tap("ana", card.UID)
	if e, p, part := b.last(); e.Evidence != "C" || e.Nonce != "" || p.Card != "uid:ana" || part.Key != "" {
		t.Fatalf("%+v %+v", e, part)
	}
}

func TestAHostConfirmsForAMemberAndNobodyElseDoes(t *testing.T) {
	b := newBench(t)
	p := use(1)
	p.Member = "ana"
	id := b.must(p)
	for _, who := range []string{"ben", "ana", "nobody"} {
		b.tap(who, card.PKOC)
	}
	b.tap("host", card.UID)
	if s := b.session(id); s.State != Waiting || len(b.said) != 4 || len(b.facts) != 0 {
		t.Fatalf("%+v said %v", s, b.said)
	}
	b.tap("host", card.PKOC)
	e, private, part := b.last()
	if e.Evidence != "B" || private.Member != "ana" || private.Card != "" || part.WitnessMember != "host" || part.WitnessSignature == "" || e.Nonce != "" {
		t.Fatalf("%+v %+v %+v", e, private, part)
	}
	b.disk(nil)
	p.Member = "host"
	id = b.must(p)
	b.tap("host", card.PKOC)
	if s := b.session(id); s.State != Waiting {
		t.Fatalf("a host confirmed his own entry: %+v", s)
	}
}

func TestWorkAboveTheLimitWaitsForAnotherPersonsCard(t *testing.T) {
	for name, c := range map[string]struct {
		first  card.Assurance
		second string
		how    card.Assurance
		after  time.Duration
		want   State
		class  string
	}{
		"a peer":                         {card.PKOC, "ben", card.PKOC, time.Second, Recording, "A"},
		"a host":                         {card.PKOC, "host", card.PKOC, time.Second, Recording, "A"},
		"the same person":                {card.PKOC, "ana", card.PKOC, time.Second, Witness, ""},
		"a stranger":                     {card.PKOC, "nobody", card.PKOC, time.Second, Witness, ""},
		"a number":                       {card.PKOC, "ben", card.UID, time.Second, Witness, ""},
		"too late":                       {card.PKOC, "ben", card.PKOC, WitnessWait, Expired, ""},
		"at the last moment":             {card.PKOC, "ben", card.PKOC, WitnessWait - 1, Recording, "A"},
		"a host beside a number":         {card.UID, "host", card.PKOC, time.Second, Recording, "B"},
		"a peer beside a number":         {card.UID, "ben", card.PKOC, time.Second, Recording, "C"},
		"nobody within the witness time": {card.PKOC, "", card.PKOC, WitnessWait, Expired, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			id := b.must(kitchen(120))
			b.tap("ana", c.first)
			if s := b.session(id); s.State != Witness || b.said[0] != Working || len(b.facts) != 0 {
				t.Fatalf("%+v said %v", s, b.said)
			}
			b.pass(c.after)
			if c.second != "" {
				b.tap(c.second, c.how)
			}
			s := b.session(id)
			if s.State != c.want {
				t.Fatalf("%s, want %s", s.State, c.want)
			}
			if c.class == "" {
				if len(b.facts) != 0 {
					t.Fatal("something was recorded")
				}
				return
			}
			if e, p, part := b.last(); e.Evidence != c.class || p.Member != "ana" || part.WitnessMember != c.second || part.WitnessNonce == e.Nonce {
				t.Fatalf("%+v %+v", e, part)
			}
		})
	}
}

func TestWorkBelowTheLimitNeedsNoSecondCard(t *testing.T) {
	b := newBench(t)
	id := b.must(kitchen(119))
	if b.tap("ana", card.PKOC); b.session(id).State != Recording {
		t.Fatalf("%+v", b.session(id))
	}
}

func TestAWaitEndsAndGivesTheReaderBackToItsDoor(t *testing.T) {
	b := newBench(t)
	id := b.must(use(1))
	if _, err := b.propose(use(1)); fault(err) != Busy {
		t.Fatalf("two entries at one reader: %v", err)
	}
	b.pass(TapWait - 1)
	if _, ok := b.m.Waiting(b.now, reader, b.view); !ok {
		t.Fatal("gave up too early")
	}
	ask, _ := b.m.Waiting(b.now, reader, b.view)
	b.pass(1)
	if b.tap("ana", card.PKOC) || b.session(id).State != Expired {
		t.Fatalf("%+v", b.session(id))
	}
	// A card that was being asked while the time ran out comes too late.
	p, _ := b.view.Roster.Person("ana")
	if err := b.step(Tap{Ask: ask, View: b.view, Card: "pkoc:ana", Assurance: card.PKOC, Person: p, Known: access.Granted}); err != nil || len(b.facts) != 0 {
		t.Fatalf("%v %v", err, b.facts)
	}
	id = b.must(use(1))
	if err := b.step(Cancel{id}); err != nil || b.tap("ana", card.PKOC) || b.session(id).State != Cancelled {
		t.Fatalf("%+v", b.session(id))
	}
}

func fault(err error) Fault {
	var no *Refusal
	if errors.As(err, &no) {
		return no.Fault
	}
	return 0
}

func TestWhatTheCatalogueDoesNotAllowIsRefusedWithAReason(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Proposal)
		want string
		how  Fault
	}{
		"unknown resource":      {func(p *Proposal) { p.Resource = "boat" }, "no-resource", Ruled},
		"another verb":          {func(p *Proposal) { p.Action = event.KindWork }, "not-this-action", Ruled},
		"no verb":               {func(p *Proposal) { p.Action = "tap" }, "bad-action", Bad},
		"too much at once":      {func(p *Proposal) { p.Quantity = 15 }, "above-max-entry", Ruled},
		"nothing":               {func(p *Proposal) { p.Quantity = 0 }, "bad-quantity", Bad},
		"less":                  {func(p *Proposal) { p.Quantity = -1 }, "bad-quantity", Bad},
		"unknown reader":        {func(p *Proposal) { p.Reader = "back" }, "unknown-reader", Bad},
		"no reader, no member":  {func(p *Proposal) { p.Reader = "" }, "no-reader", Bad},
		"long note":             {func(p *Proposal) { p.Note = strings.Repeat("x", event.MaxNote+1) }, "bad-note", Bad},
		"note of two lines":     {func(p *Proposal) { p.Note = "a\nb" }, "bad-note", Bad},
		"note turned around":    {func(p *Proposal) { p.Note = "a\u202eb" }, "bad-note", Bad},
		"a use that goes":       {func(p *Proposal) { p.To = "porto" }, "bad-to", Bad},
		"a transfer to nowhere": {func(p *Proposal) { p.Action, p.Resource = event.KindTransfer, "flour" }, "bad-to", Bad},
		"unknown correction":    {func(p *Proposal) { p.Corrects = strings.Repeat("0", 32) + "/1" }, "unknown-entry", Ruled},
		"start with quantity":   {func(p *Proposal) { p.Start = true }, "bad-start", Bad},
		"start of nights":       {func(p *Proposal) { p.Start, p.Quantity = true, 0 }, "not-a-time", Bad},
		"stop of nothing":       {func(p *Proposal) { *p = Proposal{Stop: "x", Reader: reader} }, "not-running", Ruled},
		"stop and more":         {func(p *Proposal) { p.Stop = "x" }, "bad-stop", Bad},
		"one-sided stranger":    {func(p *Proposal) { p.Reader, p.Member = "", "zoe" }, "unknown-card", Ruled},
		"member is no id":       {func(p *Proposal) { p.Member = "A b" }, "bad-member", Bad},
	} {
		b := newBench(t)
		p := use(1)
		c.edit(&p)
		_, err := b.propose(p)
		var no *Refusal
		if !errors.As(err, &no) || no.Reason != c.want || no.Fault != c.how || len(b.m.sessions) != 0 {
			t.Errorf("%s: %v (%+v)", name, err, no)
		}
	}
	for _, c := range []struct {
		who  string
		p    Proposal
		want string
	}{
		{"ben", Proposal{Action: event.KindUse, Resource: "workshop", Quantity: 1, Reader: reader}, "not-in-group"},
		{"eva", Proposal{Action: event.KindUse, Resource: "workshop", Quantity: 1, Reader: reader}, "not-offered"},
		{"ana", Proposal{Action: event.KindRaise, Resource: "flour", Quantity: 1, Reader: reader}, "staff-only"},
	} {
		b := newBench(t)
		id := b.must(c.p)
		b.tap(c.who, card.PKOC)
		if s := b.session(id); s.State != Refused || s.Reason != c.want || len(b.facts) != 0 || b.said[0] != NotNow {
			t.Errorf("%s: %+v", c.who, s)
		}
	}
	b := newBench(t)
	b.view.Roster = nil
	if _, err := b.propose(use(1)); fault(err) != Ruled {
		t.Errorf("without a roster: %v", err)
	}
}

func TestADaysLimitCountsEntriesAndCorrectionsAndNotWhatFailed(t *testing.T) {
	b := newBench(t)
	enter := func(p Proposal) Session {
		t.Helper()
		id := b.must(p)
		b.tap("ana", card.PKOC)
		b.disk(nil)
		return b.session(id)
	}
	first := enter(use(14))
	failed := b.must(use(6))
	b.tap("ana", card.PKOC)
	b.disk(errors.New("disk"))
	if s := b.session(failed); s.State != Refused || s.Reason != "not-recorded" || b.said[len(b.said)-1] != TryAgain {
		t.Fatalf("%+v", s)
	}
	if s := enter(use(7)); s.Reason != "above-max-day" {
		t.Fatalf("%+v", s)
	}
	if s := enter(use(6)); s.State != Recorded {
		t.Fatalf("what failed was counted: %+v", s)
	}
	less := use(4)
	less.Corrects = first.Address
	if s := enter(less); s.State != Recorded {
		t.Fatalf("%+v", s)
	}
	if s := enter(use(11)); s.Reason != "above-max-day" {
		t.Fatalf("%+v", s)
	}
	if s := enter(use(10)); s.State != Recorded {
		t.Fatalf("a correction gave nothing back: %+v", s)
	}
	b.pass(24 * time.Hour)
	if s := enter(use(14)); s.State != Recorded {
		t.Fatalf("yesterday counts today: %+v", s)
	}
}

func TestACorrectionNamesTheOldIsOnesOwnAndComesOnce(t *testing.T) {
	b := newBench(t)
	id := b.must(use(3))
	b.tap("ana", card.PKOC)
	b.disk(nil)
	old, _, _ := b.last()
	address := b.session(id).Address
	b.pass(48 * time.Hour)
	fix := use(0)
	fix.Corrects = address
	other := fix
	other.Action, other.Resource = event.KindConsume, "flour"
	if _, err := b.propose(other); fault(err) != Bad {
		t.Fatalf("a correction of another kind: %v", err)
	}
	id = b.must(fix)
	b.tap("ben", card.PKOC)
	if s := b.session(id); s.State != Waiting {
		t.Fatalf("ben corrected ana: %+v", s)
	}
	b.tap("ana", card.PKOC)
	if _, err := b.propose(Proposal{Action: fix.Action, Resource: fix.Resource, Corrects: address, Reader: "front-out"}); fault(err) != Ruled {
		t.Fatalf("corrected twice at once: %v", err)
	}
	b.disk(nil)
	e, _, _ := b.last()
	if e.Corrects != address || e.Quantity != 0 || e.Day != old.Day || e.Home != old.Home {
		t.Fatalf("%+v corrects %+v", e, old)
	}
	if _, err := b.propose(fix); fault(err) != Ruled {
		t.Fatalf("corrected twice: %v", err)
	}
	list := b.m.Recent(10)
	if len(list) != 2 || list[0].Corrected || !list[1].Corrected {
		t.Fatalf("%+v", list)
	}
}

func TestAStartedUseIsMadeByItsStop(t *testing.T) {
	shop := Proposal{Action: event.KindUse, Resource: "workshop", Reader: reader, Start: true}
	b := newBench(t)
	id := b.must(shop)
	b.tap("ana", card.PKOC)
	if s := b.session(id); s.State != Running || len(b.facts) != 0 || len(b.kept) != 1 || len(b.kept[0]) != 1 {
		t.Fatalf("%+v %v", s, b.kept)
	}
	again := b.must(shop)
	if b.tap("ana", card.PKOC); b.session(again).Reason != "already-running" {
		t.Fatalf("%+v", b.session(again))
	}
	b.pass(61*time.Minute + time.Second)
	b.view.Wall = b.view.Wall.Add(-9 * time.Hour) // the wall clock jumps; what was started here is measured by the monotonic one
	stop := b.must(Proposal{Stop: id, Reader: reader})
	b.tap("ben", card.PKOC)
	if s := b.session(stop); s.State != Waiting {
		t.Fatalf("ben stopped ana's use: %+v", s)
	}
	b.tap("ana", card.PKOC)
	b.disk(nil)
	e, _, part := b.last()
	if e.Quantity != 62 || e.Measure != "minute" || part.Started == 0 || b.session(id).State != Recorded || len(b.kept[len(b.kept)-1]) != 0 {
		t.Fatalf("%+v %+v %+v", e, part, b.session(id))
	}
	if _, err := b.propose(Proposal{Stop: id, Reader: reader}); fault(err) != Ruled {
		t.Fatalf("stopped twice: %v", err)
	}
}

func TestAStartedUseSurvivesARestartIfTheTimeIsKnown(t *testing.T) {
	b := newBench(t)
	id := b.must(Proposal{Action: event.KindUse, Resource: "workshop", Reader: reader, Start: true})
	b.tap("ana", card.PKOC)
	raw, err := json.Marshal(b.kept[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		clock event.Clock
		after time.Duration
		want  int64
	}{"known": {event.Synced, 90 * time.Minute, 90}, "unsure": {event.Unsure, time.Hour, 0}, "backwards": {event.Synced, -time.Hour, 0}} {
		var uses []Use
		if err := json.Unmarshal(raw, &uses); err != nil {
			t.Fatal(err)
		}
		n := newBench(t)
		n.m, n.now = NewMachine(n.m.cfg, uses), time.Second
		n.view.Wall, n.view.Clock = b.view.Wall.Add(c.after), c.clock
		stop, err := n.propose(Proposal{Stop: id, Reader: reader})
		if c.want == 0 {
			if fault(err) != Ruled || n.session(id).State != Running {
				t.Errorf("%s: %v", name, err)
			}
			if err := n.step(Cancel{id}); err != nil || len(n.kept[0]) != 0 {
				t.Errorf("%s: the use cannot be given up: %v", name, err)
			}
			continue
		}
		n.tap("ana", card.PKOC)
		n.disk(nil)
		if e, _, _ := n.last(); err != nil || e.Quantity != c.want || n.session(stop).State != Recorded {
			t.Errorf("%s: %v %+v", name, err, e)
		}
	}
}

func TestOneSidedEntriesAreClassCAndFew(t *testing.T) {
	b := newBench(t)
	p := use(1)
	p.Reader, p.Member, p.Resource, p.Action = "", "ana", "workshop", event.KindUse
	for range OneSidedHour {
		b.must(p)
		b.disk(nil)
	}
	if e, private, part := b.last(); e.Evidence != "C" || private.Member != "ana" || private.Card != "" || part.Reader != "" {
		t.Fatalf("%+v %+v", e, private)
	}
	if _, err := b.propose(p); fault(err) != Full {
		t.Fatalf("%v", err)
	}
	b.pass(time.Hour)
	b.must(p)
	p = kitchen(120)
	p.Reader, p.Member = "", "ana"
	if _, err := b.propose(p); fault(err) != Ruled {
		t.Fatalf("an entry that needs two cards went in with none: %v", err)
	}
}

func TestARestartForgetsNoLimitAndNoCorrection(t *testing.T) {
	b := newBench(t)
	n := newBench(t)
	var addresses []string
	for i, q := range []int64{14, 6} {
		id := b.must(use(q))
		b.tap("ana", card.PKOC)
		b.disk(nil)
		addresses = append(addresses, b.session(id).Address)
		f := b.facts[i]
		n.m.Remember(event.Leaf{Kind: f.Kind, Body: f.Body, Index: uint64(i)}, f.Private)
	}
	id := n.must(use(1))
	if n.tap("ana", card.PKOC); n.session(id).Reason != "above-max-day" {
		t.Fatalf("%+v", n.session(id))
	}
	fix := use(1)
	fix.Corrects = addresses[1]
	id = n.must(fix)
	if n.tap("ana", card.PKOC); n.session(id).State != Recording {
		t.Fatalf("%+v", n.session(id))
	}
	n.m.Remember(event.Leaf{Kind: event.KindUse, Body: []byte(`{"resource":1}`)}, nil) // what cannot be read is passed over
	n.m.Remember(event.Leaf{Kind: event.KindUse, Body: b.facts[0].Body, Index: 9}, nil)
	fix.Corrects, fix.Reader = strings.Repeat("0", 32)+"/9", "front-out"
	if _, err := n.propose(fix); fault(err) != Ruled {
		t.Fatalf("an erased entry has no owner who could correct it: %v", err)
	}
}

// Whatever people, cards, disk and time do, the machine holds to its bounds, and every fact is one that somebody's card or
// a one-sided word stands for.
func TestTheMachineHoldsItsBounds(t *testing.T) {
	people := []string{"ana", "ben", "eva", "host", "nobody"}
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t)
		var ids, addresses []string
		for range rapid.IntRange(1, 120).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0, 1, 2:
				p := Proposal{Action: rapid.SampledFrom(event.EntryKinds()).Draw(rt, "action"), Quantity: rapid.Int64Range(-1, 200).Draw(rt, "quantity"),
					Resource: rapid.SampledFrom([]string{"bed", "kitchen", "workshop", "flour", "boat"}).Draw(rt, "resource"),
					Reader:   rapid.SampledFrom([]string{reader, reader, "front-out", "", "x"}).Draw(rt, "reader"),
					Member:   rapid.SampledFrom([]string{"", "", "ana", "zoe"}).Draw(rt, "member"), Start: rapid.Bool().Draw(rt, "start")}
				if len(addresses) > 0 && rapid.Bool().Draw(rt, "corrects") {
					p.Corrects = rapid.SampledFrom(addresses).Draw(rt, "which")
				}
				if len(ids) > 0 && rapid.IntRange(0, 4).Draw(rt, "stop") == 0 {
					p = Proposal{Stop: rapid.SampledFrom(ids).Draw(rt, "use"), Reader: reader}
				}
				if id, err := b.propose(p); err == nil {
					ids = append(ids, id)
				}
			case 3, 4, 5, 6:
				b.tap(rapid.SampledFrom(people).Draw(rt, "who"), rapid.SampledFrom([]card.Assurance{card.PKOC, card.UID}).Draw(rt, "how"))
			case 7:
				var err error
				if rapid.IntRange(0, 3).Draw(rt, "disk") == 0 {
					err = errors.New("disk")
				}
				done := b.pending
				b.disk(err)
				for _, id := range done {
					if s := b.session(id); s.State == Recorded {
						addresses = append(addresses, s.Address)
					}
				}
			case 8:
				b.pass(time.Duration(rapid.IntRange(0, 40).Draw(rt, "seconds")) * time.Second)
			case 9:
				if len(ids) > 0 {
					_ = b.step(Cancel{rapid.SampledFrom(ids).Draw(rt, "cancel")})
				}
			}
			holding := map[string]int{}
			for _, s := range b.m.sessions {
				if s.first.View.Roster != nil {
					rt.Fatal("an entry holds a roster in memory")
				}
				if !s.State.Final() && s.Proposal.Reader != "" {
					holding[s.Proposal.Reader]++
				}
			}
			for r, n := range holding {
				if n > 1 {
					rt.Fatalf("%d entries at %s", n, r)
				}
			}
			if len(b.m.sessions) > MaxSessions || len(b.m.running) > MaxRunning || len(b.m.book.recent) > MaxRecent {
				rt.Fatal("a list grew beyond its bound")
			}
		}
		corrected := map[string]bool{}
		for _, f := range b.facts {
			e, err := event.ParseEntry(f.Kind, f.Body)
			if err != nil {
				rt.Fatal(err)
			}
			var part event.EntryPrivate
			if err := json.Unmarshal(f.Private.Body, &part); err != nil {
				rt.Fatal(err)
			}
			if e.Evidence == "A" && (part.Signature == "" || e.Nonce == "") || e.Evidence == "B" && part.WitnessSignature == "" ||
				part.WitnessMember != "" && part.WitnessMember == f.Private.Member {
				rt.Fatalf("%+v %+v", e, part)
			}
			if r, _ := b.view.Roster.Resource(e.Resource); r.NeedsWitness(e.Quantity) && part.WitnessMember == "" {
				rt.Fatalf("no witness: %+v", e)
			}
		}
		for _, l := range b.m.Recent(MaxRecent) {
			if c := l.Entry.Corrects; c != "" && corrected[c] {
				rt.Fatalf("%s corrected twice", c)
			} else if c != "" {
				corrected[c] = true
			}
		}
	})
}

func TestFinishedEntriesMakeRoomAndWaitingOnesDoNot(t *testing.T) {
	b := newBench(t)
	first := b.must(use(1))
	if err := b.step(Cancel{first}); err != nil {
		t.Fatal(err)
	}
	p := use(1)
	p.Reader, p.Member, p.Resource = "", "ana", "workshop"
	for range MaxSessions - 1 {
		b.pass(time.Hour / OneSidedHour)
		b.must(p) // never answered by the disk
	}
	b.pass(time.Hour)
	b.must(p)
	if _, ok := b.m.Session(b.now, first); ok || len(b.m.sessions) != MaxSessions {
		t.Fatal("the finished entry should have made room")
	}
	b.pass(time.Hour)
	if _, err := b.propose(p); fault(err) != Full {
		t.Fatalf("%v", err)
	}
}
