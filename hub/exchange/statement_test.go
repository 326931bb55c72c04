package exchange

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kith/configs"
	"kith/hub/audit"
	"kith/hub/registry"
	"kith/hub/web"
	"kith/internal/access"
	"kith/internal/command"
	"kith/internal/event"
)

func (w *town) statement(p *periodPage, q web.StatementQuery) web.Statement {
	w.t.Helper()
	s, err := p.Statement(w.t.Context(), q)
	if err != nil {
		w.t.Fatalf("%+v: %v", q, err)
	}
	return s
}

func TestAStatementShowsEveryDebtAndWhatItRestsOn(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	p := newPeriodPage(w.x)
	w.do(PeriodOrder{Do: "close", Period: "week-1", Day: lastDay.Format(time.DateOnly)}, lastDay)
	first := w.statement(p, web.StatementQuery{Period: "week-1"})
	if first.State != "proposed" || first.Number != 1 || first.File != "" || len(first.Lines) != first.Total || len(first.Cut) != 5 || len(first.Next) == 0 ||
		first.Until != lastDay.Add(7*24*time.Hour).Unix() || !strings.Contains(first.Note, "number 1\n") {
		t.Fatalf("%+v", first)
	}
	if _, err := p.Bundle(t.Context(), "week-1"); !errors.Is(err, web.ErrUnknown) {
		t.Error("a bundle before the books:", err)
	}
	sums := func(s *web.Statement) map[string]int64 {
		m := map[string]int64{}
		for _, l := range s.Lines {
			if l.Rest != l.Open-l.Discharged || l.Rest < 0 || l.Aside != "" && l.Discharged != 0 || l.Href == "" && l.From == "" {
				t.Errorf("%+v", l)
			}
			m[l.Unit] += l.Discharged
		}
		return m
	}
	for _, u := range first.Units {
		if sums(&first)[u.Name] != u.Goes {
			t.Errorf("%s: debts say %d, the statement %d", u.Name, sums(&first)[u.Name], u.Goes)
		}
	}
	// A dispute makes a second number; the first stays readable with its own answer.
	disputed := first.Lines[0]
	o := must(w.x.closing.last.Party(disputed.ID))
	w.do(PeriodOrder{Do: "dispute", Period: "week-1", Obligation: disputed.ID, Node: o.Creditor, Reason: "it was less"}, lastDay.Add(time.Hour))
	second := w.statement(p, web.StatementQuery{Period: "week-1"})
	if second.Number != 2 || len(second.Numbers) != 2 || !second.Numbers[0].Withdrawn || second.Numbers[1].Withdrawn || len(second.Disputes) != 1 || second.Disputes[0].Amount != o.Amount {
		t.Fatalf("%+v", second)
	}
	for _, l := range second.Lines {
		if (l.ID == disputed.ID) != (l.Aside != "") {
			t.Errorf("%+v", l)
		}
	}
	old := w.statement(p, web.StatementQuery{Period: "week-1", Number: 1})
	if old.Note != first.Note || len(old.Units) != len(first.Units) || old.Units[0] != first.Units[0] || old.Lines[0] != first.Lines[0] {
		t.Error("the withdrawn statement reads otherwise than when it was out")
	}
	w.do(PeriodOrder{Do: "finalise", Period: "week-1"}, lastDay.Add(9*24*time.Hour))
	w.do(PeriodOrder{Do: "post", Period: "week-1"}, lastDay.Add(9*24*time.Hour))
	last := w.statement(p, web.StatementQuery{Period: "week-1"})
	bundle := must(p.Bundle(t.Context(), "week-1"))
	_, r := verified(t, bundle)
	if last.State != "posted" || last.Seal != r.Seal || last.Key != r.Operator || last.Number != r.Number || len(last.Postings) == 0 || len(last.Balances) == 0 || last.Posted < len(last.Postings) || len(last.Next) != 0 {
		t.Errorf("%+v\n%+v", last, r)
	}
	if again := must(p.Bundle(t.Context(), "week-1")); !bytes.Equal(again, bundle) {
		t.Error("the same period gave other bytes")
	}
	for _, q := range []web.StatementQuery{{Period: "week-2"}, {Period: "../x"}, {Period: "week-1", Number: 3}, {Period: "week-1", Number: -1}, {Period: "week-1", From: last.Total}, {Period: "week-1", From: -1}} {
		if _, err := p.Statement(t.Context(), q); !errors.Is(err, web.ErrUnknown) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	w.houses["oaxaca"].entry(event.KindUse, event.Entry{Resource: "bed", Quantity: 3, Measure: "night", Home: "lisbon", Day: 20765, Evidence: "B"})
	w.send("oaxaca")
	w.closed("week-2", lastDay.AddDate(0, 0, 7))
	if s := w.statement(p, web.StatementQuery{Period: "week-1"}); s.Seal != last.Seal || len(s.Lines) != len(last.Lines) {
		t.Error("an older period reads otherwise once a newer one is posted")
	}
	if s := w.statement(p, web.StatementQuery{Period: "week-2"}); s.Follows != "week-1" {
		t.Errorf("%+v", s.Follows)
	}
}

// What the pool took over from a house that left leads to no leaf.
func TestANovatedDebtLeadsNowhere(t *testing.T) {
	limit := []byte("  - {node: lisbon, unit: night")
	w := townOf(t, bytes.Replace(configs.NetworkPolicy, limit, append([]byte("  - {node: popup-azores, unit: minute, floor: -900, ceiling: 900}\n"), limit...), 1))
	w.seeded()
	w.send(w.all()...)
	w.do(PeriodOrder{Do: "close", Period: "week-1", Day: lastDay.Format(time.DateOnly)}, lastDay)
	later, exit := lastDay.AddDate(0, 0, 8), PeriodOrder{Do: "exit", Period: "week-1", Node: "popup-azores"}
	w.do(PeriodOrder{Do: "finalise", Period: "week-1"}, later)
	for _, l := range w.do(PeriodOrder{Do: "show", Period: "week-1"}, later).Lines {
		if l.Debtor == exit.Node && l.Unit == "minute" && l.Open > l.Discharged {
			exit.Choices = append(exit.Choices, l.ID+" novate "+min(l.Debtor, l.Creditor)+","+max(l.Debtor, l.Creditor))
		}
	}
	w.do(exit, later)
	w.do(PeriodOrder{Do: "post", Period: "week-1"}, later)
	w.houses["oaxaca"].entry(event.KindUse, event.Entry{Resource: "bed", Quantity: 3, Measure: "night", Home: "lisbon", Day: 20765, Evidence: "B"})
	w.send("oaxaca")
	w.closed("week-2", lastDay.AddDate(0, 0, 16))
	novated := 0
	for _, l := range w.statement(newPeriodPage(w.x), web.StatementQuery{Period: "week-2"}).Lines {
		if strings.HasPrefix(l.Href, "/event//") || (l.Href == "") == (l.From == "") {
			t.Errorf("%+v", l)
		}
		if strings.Contains(l.From, "left") {
			novated++
		}
	}
	if novated == 0 {
		t.Error("no debt is shown as taken over")
	}
}

func TestAPeriodThatGoesOnIsNotShownAsItWas(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	p := newPeriodPage(w.x)
	w.x.pages = &pages{x: w.x, periods: p, web: w.site(p)}
	defer func() { w.x.pages = nil }()
	if out := must(p.Period(t.Context(), nil)); out.Under != nil || !strings.Contains(out.Close, "hub period close --state-dir "+w.dir) {
		t.Fatalf("%+v", out.Close)
	}
	w.do(PeriodOrder{Do: "close", Period: "week-1", Day: lastDay.Format(time.DateOnly)}, lastDay)
	if out := must(p.Period(t.Context(), nil)); out.Under == nil || out.Under.State != "proposed" || out.Trials != nil {
		t.Error("the draft from before the closing is still shown")
	}
	w.do(PeriodOrder{Do: "finalise", Period: "week-1"}, lastDay.Add(8*24*time.Hour))
	if s := w.statement(p, web.StatementQuery{Period: "week-1"}); s.State != "final" {
		t.Error(s.State)
	}
	w.do(PeriodOrder{Do: "post", Period: "week-1"}, lastDay.Add(8*24*time.Hour))
	if out := must(p.Period(t.Context(), nil)); out.Under != nil || len(out.Posted) != 1 {
		t.Errorf("%+v", out)
	}
}

// TestTheLinesOnPagesRunAsTheyArePrinted hands the printed words to a shell and those to the program.
func TestTheLinesOnPagesRunAsTheyArePrinted(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("SKIP: no sh here; the printed lines were not split by a shell")
	}
	w := newTown(t)
	w.x.cfg.file = filepath.Join(t.TempDir(), "it's a \"hub\".yaml")
	w.seeded()
	w.send(w.all()...)
	w.closed("week-1", lastDay)
	s := w.statement(newPeriodPage(w.x), web.StatementQuery{Period: "week-1"})
	run := func(line string) string {
		t.Helper()
		out, err := exec.Command(sh, "-c", "hub() { for w; do printf '%s\\0' \"$w\"; done; }; "+line).Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		args := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		for i := range args {
			if args[i] == "NODE" {
				args[i] = "lisbon"
			}
			if args[i] == "week-1.tar" || args[i] == "NODE-week-1.txt" {
				args[i] = filepath.Join(w.dir, args[i]) // a test leaves nothing in its own directory
			}
		}
		if i := len(args); i > 3 && args[2] == "--config" && args[3] != w.x.cfg.file {
			t.Errorf("%q became %q", w.x.cfg.file, args[3])
		}
		var said bytes.Buffer
		if code := Program("test").Run(t.Context(), command.Streams{Out: &said, Err: &said}, args); code != command.OK {
			t.Fatalf("%s: code %d: %s", line, code, said.String())
		}
		return said.String()
	}
	if err := w.x.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.x.cfg.file, configs.NetworkHub, 0o600); err != nil {
		t.Fatal(err)
	}
	run(s.Fetch)
	if said := run(s.Own); !strings.Contains(said, s.Seal) {
		t.Error(said)
	}
	if said := run(s.Check); !strings.Contains(said, s.Seal) {
		t.Error(said)
	}
	w.open()
}

func TestAMembersStatementHasTheirEntriesAndNobodyElses(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	if _, err := w.x.Do(t.Context(), Order{Change: &registry.Change{Members: []access.Member{{ID: "ana-of-lisbon", Name: "Ana", Home: "lisbon", Role: access.RoleResident}}}}); err != nil {
		t.Fatal(err)
	}
	p := newPeriodPage(w.x)
	m := must(p.Member(t.Context(), "ana-of-lisbon", ""))
	h := w.houses["lisbon"]
	want := 0
	for _, line := range h.lines {
		if audit.Economic(line) {
			want++
		}
	}
	if m.Name != "Ana" || m.State != "open" || m.Entries != want || want == 0 || len(m.Sums) == 0 || m.Others != nil || !m.Open {
		t.Fatalf("%d of %d entries: %+v", m.Entries, want, m)
	}
	entries := 0
	for _, s := range m.Sums {
		entries += s.Entries
		if s.Classes["A"]+s.Classes["B"]+s.Classes["C"] != s.Entries {
			t.Errorf("%+v", s)
		}
	}
	if entries != want {
		t.Errorf("the sums hold %d of %d entries", entries, want)
	}
	gave := map[string]int64{}
	for _, l := range m.Lines {
		if !strings.HasPrefix(l.Href, "/event/lisbon-front/"+h.epoch.String()+"/") || l.Where != "Lisbon" || (l.Unit == "") != (l.Aside != "") {
			t.Errorf("%+v", l)
		}
		if l.Unit != "" {
			gave[l.Unit] += l.Amount
		}
	}
	for _, e := range m.Effects {
		if e.Gave+e.Took != gave[e.Unit] || e.Discharged != 0 {
			t.Errorf("%+v of %d", e, gave[e.Unit])
		}
	}
	w.closed("week-1", lastDay)
	p.stale.Store(true)
	if m = must(p.Member(t.Context(), "ana-of-lisbon", "")); m.Entries != 0 || len(m.Others) != 1 || m.Others[0] != "week-1" {
		t.Errorf("after the closing: %+v", m)
	}
	closed := must(p.Member(t.Context(), "ana-of-lisbon", "week-1"))
	var done int64
	for _, e := range closed.Effects {
		done += e.Discharged
	}
	if closed.Entries != want || closed.State != "posted" || done == 0 {
		t.Errorf("%d went round: %+v", done, closed)
	}
	for _, q := range [][2]string{{"ana-of-lisbon", "week-9"}, {"ana-of-lisbon", "../x"}, {"UP", ""}} {
		if _, err := p.Member(t.Context(), q[0], q[1]); !errors.Is(err, web.ErrUnknown) {
			t.Errorf("%v: %v", q, err)
		}
	}
	// Once erased, nothing of the person is left here, and the period reads as before.
	if _, err := w.x.Do(t.Context(), Order{Erase: "ana-of-lisbon"}); err != nil {
		t.Fatal(err)
	}
	for _, period := range []string{"", "week-1", "week-9"} {
		if m = must(p.Member(t.Context(), "ana-of-lisbon", period)); !m.Erased || m.Name+m.ID+m.Home != "" || m.Lines != nil {
			t.Errorf("%q: %+v", period, m)
		}
	}
	if mine := must(p.of(t.Context(), must(p.closingOf(t.Context(), "week-1")), "ana-of-lisbon")); len(mine) != 0 {
		t.Errorf("%d entries still name the person", len(mine))
	}
}

func TestACorrectedEntryCountsOnceInAMembersSums(t *testing.T) {
	w := newTown(t)
	h := w.houses["lisbon"]
	wrong := h.entry(event.KindUse, event.Entry{Resource: "bed", Quantity: 5, Measure: "night", Home: "oaxaca", Day: 20764, Evidence: "B"})
	h.entry(event.KindUse, event.Entry{Resource: "bed", Quantity: 2, Measure: "night", Home: "oaxaca", Day: 20764, Evidence: "B", Corrects: wrong})
	w.send(w.all()...)
	if _, err := w.x.Do(t.Context(), Order{Change: &registry.Change{Members: []access.Member{{ID: "ana-of-lisbon", Name: "Ana", Home: "oaxaca", Role: access.RoleResident}}}}); err != nil {
		t.Fatal(err)
	}
	m := must(newPeriodPage(w.x).Member(t.Context(), "ana-of-lisbon", ""))
	if m.Entries != 2 || len(m.Sums) != 1 || m.Sums[0].Quantity != 2 || m.Sums[0].Entries != 1 || len(m.Effects) != 1 || m.Effects[0].Took != 2 {
		t.Fatalf("%+v", m)
	}
}
