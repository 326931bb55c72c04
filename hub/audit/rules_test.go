package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kith/hub/ledger"
	"kith/hub/settlement"
	"kith/internal/event"
)

// ledgerless is a network of three houses with nothing in its journals yet.
func ledgerless(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.lines = map[string][][]byte{}
	return w
}

const (
	nonceOne = "000102030405060708090a0b0c0d0e0f"
	nonceTwo = "101112131415161718191a1b1c1d1e1f"
)

// bed is one use of beds at house i, signed by a card when it has a nonce.
func (w *world) bed(i int, home string, quantity int64, day int, nonce, corrects string) string {
	e := event.Entry{Resource: "bed", Quantity: quantity, Measure: "night", Home: home, Day: day, Evidence: "B", Nonce: nonce, Corrects: corrects}
	if nonce != "" {
		e.Evidence = "A"
	}
	node := w.network.Nodes[i]
	w.add(i, event.KindUse, e)
	return fmt.Sprintf("%s/%d", event.Epoch{byte(i)}, len(w.lines[node])-1)
}

// after closes the next period, cut at everything that is there, on a day.
func (w *world) after(previous *Closing, name string, day settlement.Day, steps ...Step) (*Closing, []byte) {
	w.t.Helper()
	c := must(Start(w.inputsAfter(previous, day), name))
	for _, s := range append(append([]Step{{Do: DoPropose, At: 1000}, {Do: DoFinalise, Number: 1, At: 5000}}, steps...), Step{Do: DoBook}) {
		if err := c.Do(s, Signer(w.operator)); err != nil {
			w.t.Fatal(err)
		}
	}
	bundle := must(c.Bundle(Signer(w.operator)))
	again, r := Verify(bundle)
	if !r.OK {
		w.t.Fatal(r.Difference)
	}
	if err := again.Follows(previous); err != nil {
		w.t.Fatal(err)
	}
	return again, bundle
}

func (c *Closing) owed(debtor, creditor string) (sum int64) {
	for _, o := range c.Set.Obligations {
		if o.Debtor == debtor && o.Creditor == creditor && o.Unit == "night" {
			sum += o.Amount
		}
	}
	return sum
}

func (c *Closing) reasons() string {
	var list []string
	for _, a := range c.Set.Asides {
		list = append(list, fmt.Sprintf("%s:%d:%s", strings.Split(a.Journal, "/")[2], a.Index, a.Why))
	}
	return strings.Join(list, " ")
}

func TestASecondUseOfANonceMakesNoObligationWhereverItStands(t *testing.T) {
	w := ledgerless(t)
	w.bed(0, "bb", 3, 100, nonceOne, "")
	w.bed(0, "bb", 3, 100, nonceOne, "") // copied to the letter
	w.bed(0, "cc", 1, 100, nonceOne, "") // and with another home
	w.bed(1, "cc", 2, 100, nonceOne, "") // another house is not to spoil an entry by repeating its nonce
	w.bed(2, "cc", 5, 100, nonceTwo, "") // of the own house: no obligation, but a use all the same
	first, _ := w.after(nil, "p1", 110)
	if got := first.reasons(); got != "aa-1:1:nonce-used aa-1:2:nonce-used cc-1:0:same-home" {
		t.Fatal(got)
	}
	if first.owed("bb", "aa") != 3 || first.owed("cc", "aa") != 0 || first.owed("cc", "bb") != 2 || first.Report().Copies != 2 {
		t.Fatalf("%+v", first.Set.Obligations)
	}
	w.bed(0, "bb", 3, 100, nonceOne, "") // copied into the next period
	w.bed(2, "aa", 5, 101, nonceTwo, "")
	fixed := w.bed(0, "bb", 4, 112, "", fmt.Sprintf("%s/%d", event.Epoch{}, 1)) // a copy counted nothing: nothing to take back
	second, _ := w.after(first, "p2", 120)
	if got := second.reasons(); got != "aa-1:3:nonce-used cc-1:1:nonce-used" {
		t.Fatal(got)
	}
	if second.owed("aa", "bb") != 0 || !slices.ContainsFunc(second.Set.Obligations, func(o settlement.Obligation) bool { return o.Amount == 4 }) {
		t.Fatalf("the correction %s of a copy: %+v", fixed, second.Set.Obligations)
	}
	if !bytes.Contains(second.Files[carryName], []byte("used aa-1 "+nonceOne+" 100\n")) {
		t.Fatal("the next period would not know the nonce")
	}
}

func TestANonceIsForgottenOnlyWithTheDaysThatItCouldBeCopiedFrom(t *testing.T) {
	w := ledgerless(t)
	w.bed(0, "bb", 3, 100, nonceOne, "")
	first, _ := w.after(nil, "p1", 110)
	w.bed(0, "bb", 1, 101, "", "")
	second, _ := w.after(first, "p2", 101+NonceDays)
	if bytes.Contains(second.Files[carryName], []byte(nonceOne)) {
		t.Fatal("a nonce is carried on for ever")
	}
	w.bed(0, "bb", 3, 100, nonceOne, "")
	w.bed(0, "bb", 3, 101, nonceTwo, "") // one day younger: still taken
	third, _ := w.after(second, "p3", 102+NonceDays)
	if got := third.reasons(); got != "aa-1:2:too-old" {
		t.Fatal(got)
	}
}

func TestAnEntryThatWasPutOffWaitsUntilItIsShown(t *testing.T) {
	w := ledgerless(t)
	w.bed(0, "bb", 3, 115, "", "") // the edge's clock was ahead
	first, _ := w.after(nil, "p1", 110)
	hidden := must(Start(w.cutAt(first, 120, func([]byte) bool { return true }), "p2"))
	if hidden.owed("bb", "aa") != 0 || len(hidden.Set.Later) != 1 {
		t.Fatalf("%+v", hidden.Set)
	}
	shown := must(Start(w.cutAt(first, 120, none), "p2"))
	if shown.owed("bb", "aa") != 3 || len(shown.Set.Later) != 0 {
		t.Fatalf("%+v", shown.Set)
	}
}

func TestWhatMadeNoObligationIsNotTakenBackByALaterCorrection(t *testing.T) {
	w := ledgerless(t)
	w.bed(0, "bb", 7, 100, "", "ffffffffffffffffffffffffffffffff/9") // corrects nothing: counts nothing
	w.bed(0, "nowhere", 6, 100, "", "")                              // a home that is none
	first, _ := w.after(nil, "p1", 110)
	if got := first.reasons(); got != "aa-1:0:corrects-nothing aa-1:1:unknown-home" {
		t.Fatal(got)
	}
	epoch := event.Epoch{}.String()
	w.bed(0, "bb", 2, 111, "", epoch+"/0")
	w.bed(0, "cc", 1, 111, "", epoch+"/1")
	second, _ := w.after(first, "p2", 120)
	if second.reasons() != "" || second.owed("bb", "aa") != 2 || second.owed("aa", "bb") != 0 || second.owed("cc", "aa") != 1 {
		t.Fatalf("%s %+v", second.reasons(), second.Set.Obligations)
	}
}

func TestALeafCarriedOverThatCannotBeReadDoesNoHarm(t *testing.T) {
	w := ledgerless(t)
	w.bed(0, "bb", 2, 100, "", "")
	l := must(event.Parse(w.lines["aa"][0]))
	l.Body = []byte(`{"resource":"bed"}`)
	w.add(0, event.KindReplayed, event.Replayed{OldEpoch: l.Epoch.String(), Leaf: string(must(l.Encode()))})
	w.bed(0, "bb", 1, 100, "", l.Epoch.String()+"/0") // its target is the leaf that cannot be read
	c, _ := w.after(nil, "p1", 110)
	if got := c.reasons(); got != "aa-1:1:unreadable aa-1:2:corrects-nothing" || c.owed("bb", "aa") != 2 {
		t.Fatalf("%s %+v", got, c.Set.Obligations)
	}
}

func TestALimitThatFactsPassIsInTheBundleAndCannotBeLeftOut(t *testing.T) {
	w := ledgerless(t)
	w.bed(1, "aa", 40, 100, "", "") // aa has a limit of -5 to 5
	c, bundle := w.after(nil, "p1", 110)
	if len(c.Breaches) != 1 || c.Breaches[0].Node != "aa" || c.Breaches[0].Balance+c.Breaches[0].Open >= -5 {
		t.Fatalf("%+v", c.Breaches)
	}
	for name, text := range map[string]string{"left out": "kith-breaches v1\nend 0\n",
		"made smaller": strings.Replace(string(c.Files[breachesName]), fmt.Sprint(c.Breaches[0].Open), "-6", 1)} {
		f := must(Unpack(bundle))
		f[breachesName] = []byte(text)
		if _, r := Verify(w.resigned(f, header(f))); r.OK || r.Difference.File != breachesName {
			t.Errorf("%s: %+v", name, r.Difference)
		}
	}
	quiet := ledgerless(t)
	quiet.bed(1, "aa", 6, 100, "", "") // one past the floor
	if c, _ := quiet.after(nil, "p1", 110); len(c.Breaches) != 1 {
		t.Fatalf("%+v", c.Breaches)
	}
	edge := ledgerless(t)
	edge.bed(1, "aa", 5, 100, "", "")
	if c, _ := edge.after(nil, "p1", 110); len(c.Breaches) != 0 {
		t.Fatalf("%+v", c.Breaches)
	}
}

func TestABundleOfAnotherOperatorIsRefusedWhenTheKeyIsGiven(t *testing.T) {
	w := newWorld(t)
	bundle := must(w.closed(w.inputs(none)).Bundle(Signer(w.operator)))
	if _, r := VerifyBy(bundle, w.network.Operator); !r.OK || !r.Pinned {
		t.Fatalf("%+v", r)
	}
	if _, r := VerifyBy(bundle, ""); !r.OK || r.Pinned {
		t.Fatalf("%+v", r)
	}
	if _, r := VerifyBy(bundle, newWorld(t).network.Operator); r.OK || r.Pinned || r.Difference.File != networkName {
		t.Fatalf("%+v", r)
	}
}

func TestALeavingNodeIsAnsweredAndNothingOfItCountsAnyMore(t *testing.T) {
	w := ledgerless(t)
	w.bed(0, "bb", 4, 100, "", "") // bb owes aa
	w.bed(1, "cc", 2, 100, "", "") // cc owes bb
	w.bed(2, "aa", 3, 100, "", "") // aa owes cc: a circle of two
	w.bed(2, "bb", 9, 100, "", "") // bb owes cc
	plain, _ := w.after(nil, "p1", 110)
	open := must(plain.Period.Carry(plain.Discharged()))
	pick := func(debtor, creditor, remainder string, by ...string) Pick {
		for _, o := range open {
			if o.Debtor == debtor && o.Creditor == creditor {
				return Pick{Obligation: o.ID.String(), Remainder: remainder, By: by}
			}
		}
		t.Fatalf("%s owes %s nothing: %+v", debtor, creditor, open)
		return Pick{}
	}
	waived := pick("bb", "cc", string(settlement.Waive), "cc")
	served := pick("bb", "aa", string(settlement.ServeInKind), "aa", "bb")
	served.Until = 200
	exit := Step{Do: DoExit, Node: "bb", Choices: []Pick{waived, served}}
	left, bundle := w.after(nil, "p1", 110, exit)
	carried := string(left.Files[carryName])
	if !strings.Contains(carried, "\nleft bb\n") || strings.Contains(carried, waived.Obligation) || !strings.Contains(carried, " 1 200 leaf ") {
		t.Fatal(carried)
	}
	for unit, sum := range totals(left) {
		if sum != 0 {
			t.Fatalf("%s sums to %d", unit, sum)
		}
	}
	w.bed(0, "bb", 1, 111, "", "")
	w.bed(1, "aa", 1, 111, "", "")
	next, _ := w.after(left, "p2", 120)
	if got := next.reasons(); got != "aa-1:1:node-left bb-1:1:node-left" {
		t.Fatal(got)
	}
	for _, o := range next.Period.Clearable() {
		if o.Debtor == "bb" || o.Creditor == "bb" {
			t.Fatalf("%+v of a node that left is cleared", o)
		}
	}
	f := must(Unpack(bundle))
	f[stepName(3)] = bytes.Replace(f[stepName(3)], []byte(`"waive"`), []byte(`"freeze"`), 1)
	if _, r := Verify(w.resigned(f, header(f))); r.OK {
		t.Fatal("another choice was signed, and verifies")
	}
	for name, bad := range map[string]Step{
		"a stranger":          {Do: DoExit, Node: "zz"},
		"by the debtor":       {Do: DoExit, Node: "bb", Choices: []Pick{{Obligation: waived.Obligation, Remainder: "waive", By: []string{"bb"}}}},
		"twice by one":        {Do: DoExit, Node: "bb", Choices: []Pick{{Obligation: waived.Obligation, Remainder: "waive", By: []string{"cc", "cc"}}}},
		"no room in the pool": {Do: DoExit, Node: "bb", Choices: []Pick{{Obligation: waived.Obligation, Remainder: "novate", By: []string{"bb", "cc"}}}},
		"of no obligation":    {Do: DoExit, Node: "bb", Choices: []Pick{{Obligation: strings.Repeat("0", 64), Remainder: "waive", By: []string{"cc"}}}},
	} {
		c := must(Start(w.inputsAfter(nil, 110), "p1"))
		for _, s := range []Step{{Do: DoPropose, At: 1000}, {Do: DoFinalise, Number: 1, At: 5000}} {
			if err := c.Do(s, Signer(w.operator)); err != nil {
				t.Fatal(err)
			}
		}
		if c.Do(bad, Signer(w.operator)) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestThePoolStepsBetweenWhenANodeLeavesWithRoomInIt(t *testing.T) {
	w := ledgerless(t)
	w.bed(1, "aa", 4, 100, "", "") // aa owes bb four; bb has no limit, so that the pool cannot clear it
	plain, _ := w.after(nil, "p1", 110)
	var debt settlement.Obligation
	for _, o := range plain.Period.Obligations {
		if o.Creditor == "bb" {
			debt = o
		}
	}
	left, _ := w.after(nil, "p1", 110, Step{Do: DoExit, Node: "aa",
		Choices: []Pick{{Obligation: debt.ID.String(), Remainder: "novate", By: []string{"aa", "bb"}}}})
	carried := string(left.Files[carryName])
	if strings.Contains(carried, debt.ID.String()) || strings.Count(carried, " novation\n") != 2 {
		t.Fatal(carried)
	}
	for unit, sum := range totals(left) {
		if sum != 0 {
			t.Fatalf("%s sums to %d", unit, sum)
		}
	}
	entries := must(ReadEntries(left.Files))
	parts := 0
	for _, e := range entries {
		if e.Source.Part == partNovated || strings.HasSuffix(e.Source.Journal, "/~exit") {
			parts++
		}
	}
	if parts != 3 {
		t.Fatalf("%d entries of the novation", parts)
	}
	next, _ := w.after(left, "p2", 120) // what the pool has taken over is cleared there
	if next.Set.Sources[settlement.ID{}].Kind != "" || len(next.Period.Obligations) == 0 {
		t.Fatal("nothing was carried")
	}
}

func TestWhatASecondHouseWaivesOfANovationIsBooked(t *testing.T) {
	w := ledgerless(t)
	w.bed(1, "aa", 4, 100, "", "")
	plain, _ := w.after(nil, "p1", 110)
	novate := Step{Do: DoExit, Node: "aa"}
	for _, o := range plain.Period.Obligations {
		if o.Creditor == "bb" {
			novate.Choices = []Pick{{Obligation: o.ID.String(), Remainder: "novate", By: []string{"aa", "bb"}}}
		}
	}
	first, _ := w.after(nil, "p1", 110, novate)
	waive := Step{Do: DoExit, Node: "bb"}
	for _, o := range must(first.Period.Carry(first.Discharged())) {
		if o.Debtor == "commons" && o.Creditor == "bb" {
			waive.Choices = []Pick{{Obligation: o.ID.String(), Remainder: "waive", By: []string{"bb"}}}
		}
	}
	both, _ := w.after(nil, "p1", 110, novate, waive)
	if got := both.Balances[ledger.Account{Path: ledger.DuePath("demo", "commons", "bb"), Unit: "night"}].Balance(); got != 0 || len(waive.Choices) != 1 {
		t.Fatalf("the pool's books still owe %d", got)
	}
}

func TestAStepHasItsOwnKeysAndNoOther(t *testing.T) {
	w := newWorld(t)
	for name, bad := range map[string]Step{
		"a note with a yes":   {Do: DoConfirm, Number: 1, Node: "aa", Note: strings.Repeat("0", 64)},
		"a time of a booking": {Do: DoBook, At: 7},
		"a time before 1970":  {Do: DoLapse, At: -1},
	} {
		c := must(Start(w.inputs(none), "p1"))
		if err := c.Do(Step{Do: DoPropose, At: 1000}, Signer(w.operator)); err != nil {
			t.Fatal(err)
		}
		if err := c.Do(bad, Signer(w.operator)); err == nil || !strings.Contains(err.Error(), "key that it does not have") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := must(Start(w.inputs(none), "p1"))
	o := c.Period.Obligations[0]
	if err := c.Do(Step{Do: DoChallenge, At: 1, Obligation: o.ID.String(), Node: o.Debtor, Note: strings.Repeat("0", 64)}, nil); err != nil {
		t.Fatal(err)
	}
	if c.Do(Step{Do: DoDecide, Obligation: o.ID.String(), Node: "zz", Outcome: "void", Note: strings.Repeat("0", 64)}, nil) == nil {
		t.Error("a stranger has decided")
	}
	first, _ := w.after(nil, "p1", 110)
	if _, err := Start(w.inputsAfter(first, 120), "p1"); err == nil {
		t.Error("a period follows itself")
	}
}

func totals(c *Closing) map[string]int64 {
	sums := map[string]int64{}
	for a, t := range c.Balances {
		sums[a.Unit] += t.Balance()
	}
	return sums
}
