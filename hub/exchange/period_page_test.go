package exchange

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kith/hub/settlement"
	"kith/hub/web"
)

func (w *town) site(p *periodPage) *web.Web {
	w.t.Helper()
	none := http.NotFoundHandler()
	return must(web.New(web.Options{Network: "n", Houses: &pages{x: w.x}, Book: &pages{x: w.x}, Periods: p, Health: none, Metrics: none, Log: slog.New(slog.DiscardHandler)}))
}

// shown is the page about the period as a browser gets it.
func (w *town) shown() string {
	w.t.Helper()
	site := w.site(newPeriodPage(w.x))
	r := httptest.NewRequest("GET", "/period", nil)
	r.Host = "127.0.0.1"
	rec := httptest.NewRecorder()
	site.Handler().ServeHTTP(rec, r)
	if rec.Code != 200 {
		w.t.Fatalf("%d", rec.Code)
	}
	return rec.Body.String()
}

func TestThePageShowsTheDraftThenThePeriodUnderWayThenTheBundle(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	d := must(w.x.Draft(t.Context()))
	p := must(newPeriodPage(w.x).Period(t.Context(), nil))
	if p.Wait != "" || p.Entries != d.Entries || len(p.Units) != len(d.Units) || len(p.Units) == 0 {
		t.Fatalf("%+v", p)
	}
	for i, u := range p.Units { // what houses gave is what houses took, and the table twin holds the same sums as the draft
		var given, taken int64
		for _, n := range u.Nodes {
			given, taken = given+n.Given, taken+n.Taken
		}
		if given != taken || given == 0 || u.Goes > u.Gross || u.Gross != d.Units[i].Gross || u.Goes != d.Units[i].Cleared {
			t.Errorf("%s: given %d, taken %d, %d owed, %d goes round", u.Name, given, taken, u.Gross, u.Goes)
		}
	}
	var aside, want int
	for _, a := range p.Asides {
		aside += a.Count
		if a.Why == string(settlement.WhyHome) {
			t.Error("a code stands where words should")
		}
	}
	for _, n := range d.Asides {
		want += n
	}
	if aside != want {
		t.Errorf("%d entries are set aside, %d are explained", want, aside)
	}
	b := w.shown()
	if strings.Count(b, `<figure class="debts">`) != len(d.Units) || strings.Count(b, "The same as a table") != len(d.Units) || !strings.Contains(b, "None yet.") {
		t.Error(b)
	}
	w.do(PeriodOrder{Do: "close", Period: "week-1", Day: lastDay.Format(time.DateOnly)}, lastDay)
	if b = w.shown(); !strings.Contains(b, "<strong>week-1</strong> is being closed") || !strings.Contains(b, "It can be challenged until") || strings.Contains(b, "<figure") ||
		!strings.Contains(b, "hub period finalise --state-dir "+w.dir+" week-1") {
		t.Error(b)
	}
	w.do(PeriodOrder{Do: "finalise", Period: "week-1"}, lastDay.Add(8*24*time.Hour))
	w.do(PeriodOrder{Do: "post", Period: "week-1"}, lastDay.Add(9*24*time.Hour))
	_, r := verified(t, must(w.x.bundle(t.Context(), "week-1")))
	if b = w.shown(); !strings.Contains(b, `href="/period/week-1"`) || !strings.Contains(b, r.Seal[:16]) || !strings.Contains(b, "0 entries") {
		t.Error(b)
	}
}

func TestThePageSaysWhyNothingCanBeDrafted(t *testing.T) {
	w := newTown(t)
	for want, change := range map[string]func(){
		"No policy is configured":                  func() { w.x.cfg.PolicyText, w.x.cfg.Policy = nil, "" },
		"The policy is not valid":                  func() { w.x.cfg.PolicyText = []byte("units: <script>") },
		"The policy that hub.yaml names cannot be": func() { w.x.cfg.PolicyText, w.x.cfg.Policy = nil, t.TempDir()+"/none.yaml" },
	} {
		change()
		if b := w.shown(); !strings.Contains(b, want) || strings.Contains(b, "<script>") || strings.Contains(b, "so far") {
			t.Errorf("%q: %s", want, b)
		}
	}
}

func TestAHouseWithAHostileNameIsTextInTheDrawing(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	for i := range w.x.cfg.Nodes {
		w.x.cfg.Nodes[i].Name = "<script>alert(1)</script>"
	}
	w.cfg = w.x.cfg
	w.restart()
	if b := w.shown(); strings.Contains(b, "<script>") || !strings.Contains(b, "&lt;script&gt;") || !strings.Contains(b, "<figure") {
		t.Error(b)
	}
}

func TestOneDraftServesAllReadersForAWhile(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send("lisbon", "oaxaca")
	p := newPeriodPage(w.x)
	first := must(p.Period(t.Context(), nil))
	w.send("vermont")
	if again := must(p.Period(t.Context(), nil)); again.Entries != first.Entries {
		t.Error("a fresh draft was made at once")
	}
	p.at = p.at.Add(-max(draftAge, draftRest*p.took))
	if later := must(p.Period(t.Context(), nil)); later.Entries <= first.Entries {
		t.Error("the draft is never made again")
	}
	synctest.Test(t, func(t *testing.T) {
		busy := newPeriodPage(nil)
		busy.gate <- struct{}{} // somebody's draft takes long
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := busy.Period(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error("a reader waits longer than its own request:", err)
		}
	})
}

// Grants are one a period and unit, named after the cut: of the same cut there can be no second period.
func TestAPeriodClosedTodayLeavesADraftAndNoSecondCutOfItsKind(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	today := time.Now().UTC()
	w.closed("week-1", today)
	if time.Now().UTC().Day() != today.Day() {
		t.Skip("SKIP: it has just become midnight")
	}
	d, err := w.x.Draft(t.Context())
	if err != nil {
		t.Fatal("no page has a draft any more:", err)
	}
	if len(d.Units) == 0 {
		t.Error("what week-1 left open is not in the draft")
	}
	again := PeriodOrder{Do: "close", Period: "week-2", Day: today.Format(time.DateOnly)}
	if _, err := w.x.period(t.Context(), again, today); err == nil || !strings.Contains(err.Error(), "since period week-1 was cut") {
		t.Errorf("the same cut again: %v", err)
	}
	w.houses["lisbon"].tap(1)
	w.send("lisbon")
	w.do(again, today)
}
