package settlement

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

const hour = 3600

func debt(n byte, debtor, creditor string, amount int64) Obligation {
	return Obligation{ID: ID{n}, Debtor: debtor, Creditor: creditor, Unit: "hour", Amount: amount, Day: 90, Evidence: TwoSided}
}

func begin(t testing.TB) *Period {
	t.Helper()
	p, err := Begin("2026-11", Terms{WindowSeconds: 7 * 24 * hour, AnswerSeconds: 14 * 24 * hour, Signers: 1})
	if err != nil {
		t.Fatal(err)
	}
	one := debt(3, "berlin", "porto", 30)
	one.Evidence = OneSided
	return step(t, p, DrawLine{Cut: testCut(t, 100, nil, map[string]uint64{"lisbon": 10}),
		Obligations: []Obligation{debt(2, "porto", "berlin", 20), debt(1, "lisbon", "porto", 10), one}})
}

func step(t testing.TB, p *Period, in Input) *Period {
	t.Helper()
	next, err := p.Step(in)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func refused(t testing.TB, p *Period, in Input, want error) {
	t.Helper()
	if _, err := p.Step(in); !errors.Is(err, want) {
		t.Errorf("%T in %q: got %v, want %v", in, p.State, err, want)
	}
}

func draft(t testing.TB, p *Period) *Statement {
	t.Helper()
	gross := int64(0)
	for _, o := range p.Clearable() {
		gross += o.Open()
	}
	s, err := p.Draft("kith", testPolicy(), []Cleared{{Unit: "hour", Gross: gross}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPeriodGoesFromCutToPosted(t *testing.T) {
	p := begin(t)
	refused(t, p, Finalise{Number: 1, Signers: []string{"op"}}, ErrState)
	p = step(t, p, Propose{Digest: draft(t, p).Digest(), At: 1000})
	refused(t, p, Finalise{Number: 1, Signers: []string{"op"}, At: 1000 + 7*24*hour - 1}, ErrWindow)
	refused(t, p, Finalise{Number: 1, At: 1000 + 7*24*hour}, ErrSigners)
	refused(t, p, Finalise{Number: 2, Signers: []string{"op"}, At: 1000 + 7*24*hour}, ErrState)
	refused(t, p, Book{}, ErrState)
	p = step(t, p, Finalise{Number: 1, Signers: []string{"op", "op"}, At: 1000 + 7*24*hour})
	refused(t, p, Challenge{Obligation: ID{1}, By: "porto", At: 1001}, ErrState)
	p = step(t, p, Book{})
	if p.State != Posted || !slices.Equal(p.Signed, []string{"op"}) {
		t.Errorf("state %q, signed %v", p.State, p.Signed)
	}
}

func TestOneSignerTwiceIsOneSigner(t *testing.T) {
	p := begin(t)
	p.Terms.Signers = 2
	p = step(t, p, Propose{At: 0})
	refused(t, p, Finalise{Number: 1, Signers: []string{"op", "op"}, At: 8 * 24 * hour}, ErrSigners)
}

func TestAllPartiesTogetherEndTheWindowEarly(t *testing.T) {
	p := step(t, begin(t), Propose{At: 1000})
	refused(t, p, Confirm{Number: 1, Node: "elsewhere"}, ErrParty)
	for _, node := range []string{"porto", "lisbon", "porto"} {
		p = step(t, p, Confirm{Number: 1, Node: node})
	}
	refused(t, p, Finalise{Number: 1, Signers: []string{"op"}, At: 1001}, ErrWindow)
	if a := p.Awaited(); !slices.Equal(a, []string{"berlin"}) {
		t.Errorf("awaited %v", a)
	}
	p = step(t, p, Confirm{Number: 1, Node: "berlin"})
	if a := p.Awaited(); len(a) != 0 {
		t.Errorf("still awaited %v", a)
	}
	step(t, p, Finalise{Number: 1, Signers: []string{"op"}, At: 1001})
}

func TestDisputeTakesOneObligationOutUnderANewNumberAndTheOldStaysReadable(t *testing.T) {
	p := begin(t)
	first := draft(t, p)
	p = step(t, p, Propose{Digest: first.Digest(), At: 1000})
	p = step(t, p, Confirm{Number: 1, Node: "porto"})
	refused(t, p, Challenge{Obligation: ID{1}, By: "berlin", At: 1001}, ErrParty)
	refused(t, p, Challenge{Obligation: ID{9}, By: "berlin", At: 1001}, ErrUnknown)
	refused(t, p, Challenge{Obligation: ID{1}, By: "porto", At: 1001 + 7*24*hour}, ErrState)
	before := p
	p = step(t, p, Challenge{Obligation: ID{1}, By: "porto", Note: [32]byte{7}, At: 1001})
	if before.State != Proposed || len(before.Disputes) != 0 || before.Proposals[0].Withdrawn {
		t.Fatal("a step changed the period it started from")
	}
	refused(t, p, Challenge{Obligation: ID{1}, By: "lisbon", At: 1002}, ErrDispute)
	refused(t, p, Finalise{Number: 1, Signers: []string{"op"}, At: 1 << 40}, ErrState)
	second := draft(t, p)
	if second.Number != 2 || second.Same(first) || !slices.Equal(second.Disputed, []ID{{1}}) || len(p.Clearable()) != 2 {
		t.Fatalf("second statement %+v", second)
	}
	p = step(t, p, Propose{Digest: second.Digest(), At: 2000})
	if !p.Proposals[0].Withdrawn || p.Proposals[0].Digest != first.Digest() || p.InForce().Number != 2 || p.InForce().Confirmed != nil {
		t.Errorf("proposals %+v", p.Proposals)
	}
	p = step(t, p, Finalise{Number: 2, Signers: []string{"op"}, At: 2000 + 7*24*hour})
	open, err := p.Carry(map[ID]int64{{2}: 20, {3}: 20})
	if err != nil {
		t.Fatal(err)
	}
	if len(open) != 2 || open[0].ID != (ID{1}) || open[0].Day != 90 || open[1].Open() != 10 {
		t.Errorf("carried %+v", open)
	}
	if _, err := p.Carry(map[ID]int64{{1}: 5}); !errors.Is(err, ErrUnknown) {
		t.Errorf("discharging a disputed obligation: got %v", err)
	}
}

func TestDisputesAreDecidedByAThirdNodeOrByTime(t *testing.T) {
	p := begin(t)
	p = step(t, p, Challenge{Obligation: ID{1}, By: "porto", At: 1000})
	p = step(t, p, Challenge{Obligation: ID{3}, By: "porto", At: 1000})
	refused(t, p, Decide{Obligation: ID{1}, Outcome: Stand, Reviewer: "lisbon"}, ErrParty)
	refused(t, p, Decide{Obligation: ID{2}, Outcome: Stand, Reviewer: "lisbon"}, ErrUnknown)
	decided := step(t, p, Decide{Obligation: ID{1}, Outcome: Voided, Reviewer: "berlin"})
	if o := decided.Obligations[0]; o.Waived != 10 || o.Open() != 0 {
		t.Errorf("voided: %+v", o)
	}
	refused(t, decided, Decide{Obligation: ID{1}, Outcome: Stand, Reviewer: "berlin"}, ErrDispute)
	if early := step(t, p, Lapse{At: 1000 + 14*24*hour - 1}); len(early.Clearable()) != 1 {
		t.Error("a dispute lapsed before its time")
	}
	lapsed := step(t, p, Lapse{At: 1000 + 14*24*hour})
	if got := lapsed.Clearable(); len(got) != 2 || got[0].ID != (ID{1}) || lapsed.Obligations[2].Open() != 0 {
		t.Errorf("after lapse: %+v", got)
	}
}

func TestStandingDisputeWithdrawsTheStatementThatIsOut(t *testing.T) {
	p := step(t, begin(t), Challenge{Obligation: ID{1}, By: "porto", At: 1000})
	p = step(t, p, Propose{At: 2000})
	p = step(t, p, Decide{Obligation: ID{1}, Outcome: Stand, Reviewer: "berlin"})
	if p.State != Drafted || !p.Proposals[0].Withdrawn || len(p.Clearable()) != 3 {
		t.Errorf("state %q, %d clearable", p.State, len(p.Clearable()))
	}
}

func TestStatementMustCoverEveryUnitInFull(t *testing.T) {
	p := begin(t)
	for name, units := range map[string][]Cleared{
		"a unit left out":   nil,
		"another gross":     {{Unit: "hour", Gross: 59}},
		"more than gross":   {{Unit: "hour", Gross: 60, Total: 61}},
		"a unit twice":      {{Unit: "hour", Gross: 60}, {Unit: "hour", Gross: 60}},
		"a unit not in set": {{Unit: "hour", Gross: 60}, {Unit: "euro", Gross: 1}},
	} {
		if _, err := p.Draft("kith", testPolicy(), units); err == nil {
			t.Errorf("%s: drafted", name)
		}
	}
}

func TestLeavingNodeLeavesNoNetPositionChangedButByWaiving(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		nodes := []string{"berlin", "lisbon", "porto", "popup"}
		var open []Obligation
		exit := Exit{Node: "popup", Commons: "pool"}
		for i := range rapid.IntRange(1, 12).Draw(rt, "debts") {
			from, by := rapid.IntRange(0, 3).Draw(rt, "from"), rapid.IntRange(1, 3).Draw(rt, "by")
			o := debt(byte(i+1), nodes[from], nodes[(from+by)%4], rapid.Int64Range(1, 100).Draw(rt, "amount"))
			o.Discharged = rapid.Int64Range(0, o.Amount-1).Draw(rt, "discharged")
			open = append(open, o)
			if (o.Debtor == "popup" || o.Creditor == "popup") && rapid.Bool().Draw(rt, "choose") {
				exit.Choices = append(exit.Choices, Choice{Obligation: o.ID, By: []string{o.Debtor, o.Creditor}, Until: 95,
					Remainder: rapid.SampledFrom([]Remainder{ServeInKind, Novate, Waive, Freeze}).Draw(rt, "remainder")})
			}
		}
		list, err := exit.Resolve(open)
		if err != nil {
			rt.Fatal(err)
		}
		before, after := map[string]int64{}, map[string]int64{}
		for _, o := range open {
			before[o.Debtor] -= o.Open()
			before[o.Creditor] += o.Open()
		}
		for _, o := range list {
			if err := o.check(); err != nil {
				rt.Fatal(err)
			}
			left := o.Open() + o.Waived
			after[o.Debtor] -= left
			after[o.Creditor] += left
			if o.Open() > 0 && !o.Frozen && (o.Debtor == "popup" || o.Creditor == "popup") && o.Debtor != "pool" && o.Creditor != "pool" {
				rt.Fatalf("%s of the node that left would still be cleared", o.ID)
			}
		}
		for _, node := range append(nodes, "pool") {
			if before[node] != after[node] {
				rt.Fatalf("net position of %q moved from %d to %d", node, before[node], after[node])
			}
		}
	})
}

func TestExitChoicesNeedTheRightSignatures(t *testing.T) {
	open := []Obligation{debt(1, "popup", "porto", 10)}
	for _, tc := range []struct {
		name   string
		choice Choice
		want   error
	}{
		{"waived by the debtor", Choice{Obligation: ID{1}, Remainder: Waive, By: []string{"popup"}}, ErrParty},
		{"novated by the creditor alone", Choice{Obligation: ID{1}, Remainder: Novate, By: []string{"porto"}}, ErrParty},
		{"of no obligation", Choice{Obligation: ID{9}, Remainder: Waive, By: []string{"porto"}}, ErrUnknown},
		{"unknown", Choice{Obligation: ID{1}, Remainder: "gift", By: []string{"porto", "popup"}}, ErrUnknown},
		{"waived by the creditor", Choice{Obligation: ID{1}, Remainder: Waive, By: []string{"porto"}}, nil},
	} {
		_, err := Exit{Node: "popup", Commons: "pool", Choices: []Choice{tc.choice}}.Resolve(open)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestNodeLeavesOnceAfterItsLastStatementAndAmountsStayWhole(t *testing.T) {
	p := step(t, begin(t), Propose{At: 0})
	exit := Exit{Node: "porto", Commons: "pool", Choices: []Choice{
		{Obligation: ID{1}, Remainder: Waive, By: []string{"porto"}},
		{Obligation: ID{2}, Remainder: Novate, By: []string{"berlin", "porto"}}}}
	done := map[ID]int64{{2}: 5}
	refused(t, p, Leave{Exit: exit, Discharged: done}, ErrState)
	p = step(t, p, Finalise{Number: 1, Signers: []string{"op"}, At: 8 * 24 * hour})
	refused(t, p, Leave{Exit: Exit{Node: "pool", Commons: "pool"}}, ErrName)
	refused(t, p, Leave{Exit: exit, Discharged: map[ID]int64{{1}: 10}}, ErrUnknown)
	p = step(t, p, Leave{Exit: exit, Discharged: done})
	refused(t, p, Leave{Exit: Exit{Node: "porto", Commons: "pool"}, Discharged: done}, ErrDispute)
	all, err := p.Settled(done)
	if err != nil || len(all) != 5 {
		t.Fatalf("%v %+v", err, all)
	}
	for _, o := range all {
		if o.Discharged+o.Waived+o.Open() != o.Amount || o.check() != nil {
			t.Errorf("%+v is not whole", o)
		}
		if o.ID == (ID{3}) && !o.Frozen {
			t.Error("what nobody chose about would still be cleared")
		}
	}
	open, err := p.Carry(done)
	if err != nil || len(open) != 3 { // the frozen one and the two with the pool, of fifteen each
		t.Fatalf("%v %+v", err, open)
	}
	for _, o := range open {
		if o.ID != (ID{3}) && (o.Open() != 15 || o.Debtor != "pool" && o.Creditor != "pool") {
			t.Errorf("%+v", o)
		}
	}
}
