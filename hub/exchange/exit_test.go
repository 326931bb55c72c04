package exchange

import (
	"flag"
	"strings"
	"testing"
	"time"

	"kith/internal/event"
)

func TestAHouseThatLeavesIsAnsweredInItsLastPeriod(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	w.do(PeriodOrder{Do: "close", Period: "week-1", Day: lastDay.Format(time.DateOnly)}, lastDay)
	exit := PeriodOrder{Do: "exit", Period: "week-1", Node: "popup-azores"}
	later := lastDay.AddDate(0, 0, 8)
	if _, err := w.x.period(t.Context(), exit, later); err == nil {
		t.Fatal("a house left before its last statement was final")
	}
	w.do(PeriodOrder{Do: "finalise", Period: "week-1"}, later)
	shown := w.do(PeriodOrder{Do: "show", Period: "week-1"}, later)
	var mine []ObligationState
	for _, l := range shown.Lines {
		if (l.Debtor == exit.Node || l.Creditor == exit.Node) && l.Open > l.Discharged && l.Debtor != "commons" && l.Creditor != "commons" {
			mine = append(mine, l)
		}
	}
	if len(mine) == 0 {
		t.Fatalf("the seed leaves nothing over at %s: %+v", exit.Node, shown.Lines)
	}
	for _, bad := range []string{"", "x waive a", mine[0].ID + " waive " + mine[0].Debtor, mine[0].ID + " gift " + mine[0].Creditor,
		mine[0].ID + " serve-in-kind " + mine[0].Creditor + "," + mine[0].Debtor + " tomorrow"} {
		o := exit
		o.Choices = []string{bad}
		if _, err := w.x.period(t.Context(), o, later); err == nil {
			t.Fatalf("choice %q was taken", bad)
		}
	}
	exit.Choices = []string{mine[0].ID[:16] + " waive " + mine[0].Creditor}
	w.do(exit, later)
	w.restart()
	w.do(PeriodOrder{Do: "post", Period: "week-1"}, later)
	c, _ := verified(t, must(w.x.bundle(t.Context(), "week-1")))
	carry := string(c.Files["carry.txt"])
	if !strings.Contains(carry, "\nleft popup-azores\n") || strings.Contains(carry, mine[0].ID) {
		t.Fatal(carry)
	}
	for _, l := range mine[1:] {
		if !strings.Contains(carry, "obligation "+l.ID) {
			t.Fatalf("%s vanished", l.ID)
		}
	}
	w.houses["popup-azores"].entry(event.KindUse, event.Entry{Resource: "bed", Quantity: 1, Measure: "night", Home: "lisbon", Day: 20765, Evidence: "B"})
	w.send("popup-azores")
	next, r := verified(t, w.closed("week-2", later))
	if !strings.Contains(string(next.Files["asides.txt"]), " node-left\n") || r.Shown == 0 {
		t.Fatal("what a house says after it left still counts")
	}
}

func TestTheVerbOfLeavingTakesManyChoices(t *testing.T) {
	f := flag.NewFlagSet("period exit", flag.ContinueOnError)
	n, build := periodOrder("exit", 2)(f)
	if err := f.Parse([]string{"--choice", "ab waive lisbon", "--choice", "cd novate lisbon,oaxaca"}); err != nil || n != 2 {
		t.Fatal(err)
	}
	o := must(build([]string{"week-1", "oaxaca"})).Period
	if o.Period != "week-1" || o.Node != "oaxaca" || o.Obligation != "" || len(o.Choices) != 2 {
		t.Fatalf("%+v", o)
	}
}
