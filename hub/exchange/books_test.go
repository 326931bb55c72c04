package exchange

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kith/configs"
	"kith/internal/command"
	"kith/internal/event"
)

// tellBooks runs the verb on the state directory of a town and returns what it wrote.
func (w *town) tellBooks(format string) (string, string, int) {
	w.t.Helper()
	config := filepath.Join(w.t.TempDir(), "hub.yaml")
	if err := os.WriteFile(config, configs.NetworkHub, 0o600); err != nil {
		w.t.Fatal(err)
	}
	var out, said bytes.Buffer
	code := Program("test").Run(w.t.Context(), command.Streams{Out: &out, Err: &said},
		[]string{"books", "--config", config, "--state-dir", w.dir, "--format", format})
	return out.String(), said.String(), code
}

// serving runs f while the town's desk answers on its control socket.
func (w *town) serving(f func()) {
	w.t.Helper()
	l, err := listenControl(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(w.dir, controlFile)); err != nil || info.Mode().Perm() != 0o600 {
		w.t.Fatalf("the control socket: %v %v", info, err)
	}
	w.x.orders = l
	ctx, stop := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.x.control(ctx) }()
	f()
	stop()
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

// stopped runs f while nobody has the town's state directory open.
func (w *town) stopped(f func()) {
	w.t.Helper()
	if err := w.x.close(); err != nil {
		w.t.Fatal(err)
	}
	f()
	w.open()
}

// twoWeeks closes the example week and one after it, in which a house uses beds and corrects an entry of the first.
func twoWeeks(t *testing.T) *town {
	w := newTown(t)
	w.seeded()
	use := func(n int64, day int, corrects string) string {
		return w.houses["lisbon"].entry(event.KindUse, event.Entry{Resource: "bed", Quantity: n, Measure: "night", Home: "oaxaca", Day: day, Evidence: "B", Corrects: corrects})
	}
	old := use(23, 20760, "")
	w.send(w.all()...)
	w.closed("week-1", lastDay)
	use(5, 20765, old)
	w.send("lisbon")
	w.closed("week-2", lastDay.AddDate(0, 0, 7))
	return w
}

func TestTheBooksAreTheSameFromARunningAndAStoppedHub(t *testing.T) {
	w := twoWeeks(t)
	for _, format := range []string{"ledger", "beancount", "csv", "balances", "jsonl", "valueflows"} {
		var running, stopped, said string
		var code int
		w.serving(func() { running, said, code = w.tellBooks(format) })
		if code != command.OK || running == "" {
			t.Fatalf("%s, running: code %d: %s", format, code, said)
		}
		w.stopped(func() { stopped, said, code = w.tellBooks(format) })
		if code != command.OK || running != stopped {
			t.Fatalf("%s, stopped: code %d: %s; the same bytes: %v", format, code, said, running == stopped)
		}
		if strings.Contains(running, "ana-of") || strings.Contains(running, personKey) {
			t.Fatalf("%s names a person", format)
		}
	}
	w.serving(func() {
		if out, said, code := w.tellBooks("abacus"); code != command.Usage || out != "" || !strings.Contains(said, "abacus") {
			t.Fatalf("an unknown format: code %d, %q, %q", code, out, said)
		}
		var out bytes.Buffer
		if err := fetchBooks(t.Context(), w.dir, "abacus", &out); err == nil || !strings.Contains(err.Error(), "abacus") || out.Len() > 0 {
			t.Fatalf("the hub's refusal came as books: %v, %q", err, out.String())
		}
	})
}

func TestOtherAccountingProgramsAcceptTheBooks(t *testing.T) {
	w := twoWeeks(t)
	var journal, beans string
	w.serving(func() {
		journal, _, _ = w.tellBooks("ledger")
		beans, _, _ = w.tellBooks("beancount")
	})
	for _, week := range []string{"closing week-1", "closing week-2"} {
		if !strings.Contains(journal, week) {
			t.Fatalf("the journal has no %s", week)
		}
	}
	accepted(t, journal, "books.journal", "hledger", "check", "-s", "-f")
	accepted(t, journal, "books.journal", "ledger", "--strict", "--pedantic", "bal", "-f")
	accepted(t, beans, "books.beancount", "bean-check")
}

// accepted says that a peer takes these books, and that it does not take them once one asserted balance is another.
func accepted(t *testing.T, text, name, peer string, args ...string) {
	t.Helper()
	t.Run(peer, func(t *testing.T) {
		if _, err := exec.LookPath(peer); err != nil {
			if os.Getenv("KITH_PEERS") == "required" {
				t.Fatalf("%s is missing", peer)
			}
			t.Skipf("SKIP: %s missing; the books were not read by it", peer)
		}
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), peer, append(args, file)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", peer, err, out)
		}
		if err := os.WriteFile(file, []byte(spoilt(t, text)), 0o600); err != nil {
			t.Fatal(err)
		}
		if exec.CommandContext(t.Context(), peer, append(args, file)...).Run() == nil {
			t.Fatalf("%s accepts books with one balance changed", peer)
		}
	})
}

// spoilt changes the last balance that is asserted.
func spoilt(t *testing.T, text string) string {
	t.Helper()
	mark := " = "
	if strings.Contains(text, " balance ") {
		mark = "  "
	}
	lines := strings.SplitAfter(text, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(text, " balance ") && !strings.Contains(lines[i], " balance ") {
			continue
		}
		if at := strings.LastIndex(lines[i], mark); at >= 0 {
			from := at + len(mark)
			if lines[i][from] == '-' {
				from++
			}
			lines[i] = lines[i][:from] + "9" + lines[i][from:]
			return strings.Join(lines, "")
		}
	}
	t.Fatal("no balance is asserted")
	return ""
}

func TestTheBooksHoldEveryEntryOfThePostedPeriodsAndNothingElse(t *testing.T) {
	w := twoWeeks(t)
	want := len(must(w.x.storage.Entries(t.Context())))
	w.do(PeriodOrder{Do: "close", Period: "week-3", Day: lastDay.AddDate(0, 0, 14).Format(time.DateOnly)}, lastDay.AddDate(0, 0, 14))
	var lines, table string
	w.serving(func() {
		lines, _, _ = w.tellBooks("jsonl")
		table, _, _ = w.tellBooks("csv")
	})
	ids, rows := map[string]bool{}, must(csv.NewReader(strings.NewReader(table)).ReadAll())
	for _, line := range must(w.x.storage.Entries(t.Context())) {
		_, rest, _ := strings.Cut(string(line), `"journal":"`)
		journal, _, _ := strings.Cut(rest, `"`)
		ids[journal] = true
		if !strings.Contains(table, journal) {
			t.Fatalf("the table has nothing of %s", journal)
		}
	}
	if len(ids) < 3 || len(rows) != 1+2*want {
		t.Fatalf("%d journals, %d rows for %d entries of two postings", len(ids), len(rows), want)
	}
	if strings.Contains(lines, "week-3") || strings.Count(lines, "\n") != 1+want+2 {
		t.Fatalf("%d lines for a head, %d entries and 2 seals", strings.Count(lines, "\n"), want)
	}
}

func TestAnEventThatWasCorrectedIsNoFlowAndItsClaimIsTakenBack(t *testing.T) {
	w := twoWeeks(t)
	var text string
	w.serving(func() { text, _, _ = w.tellBooks("valueflows") })
	var d struct {
		Events []struct {
			ID     string `json:"id"`
			Effort *struct {
				Value int64 `json:"hasNumericalValue"`
			} `json:"effortQuantity"`
		} `json:"economicEvents"`
		Claims []struct {
			Provider  string `json:"provider"`
			Receiver  string `json:"receiver"`
			Triggered string `json:"triggeredBy"`
			Resource  struct {
				Value int64 `json:"hasNumericalValue"`
			} `json:"resourceQuantity"`
		} `json:"claims"`
		Settlements []json.RawMessage `json:"settlements"`
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Events) != 21 || len(d.Settlements) == 0 { // 20 of the seed, and the correction in the place of what it corrects
		t.Fatalf("%d events, %d settlements", len(d.Events), len(d.Settlements))
	}
	listed := map[string]bool{}
	for _, e := range d.Events {
		listed[e.ID] = true
		if e.Effort != nil && e.Effort.Value == 23 {
			t.Fatalf("%s was corrected and is listed", e.ID)
		}
	}
	back, loose := false, 0
	for _, c := range d.Claims {
		back = back || c.Provider == "lisbon" && c.Receiver == "oaxaca" && c.Resource.Value == 23 && c.Triggered != ""
		if c.Triggered != "" && !listed[c.Triggered] {
			t.Fatalf("%+v names an event that is not here", c)
		}
		if c.Triggered == "" && c.Provider != "commons" && c.Receiver != "commons" { // dues and grants follow from no event
			loose++
		}
	}
	if !back || loose != 1 {
		t.Fatalf("taken back: %v; %d claims without an event, want the corrected one alone", back, loose)
	}
}

func TestAHubWithoutAPostedPeriodHasEmptyBooks(t *testing.T) {
	w := newTown(t)
	w.stopped(func() {
		for _, format := range []string{"ledger", "beancount", "csv", "balances", "jsonl", "valueflows"} {
			if _, said, code := w.tellBooks(format); code != command.OK {
				t.Fatalf("%s: code %d: %s", format, code, said)
			}
		}
	})
}

func TestBooksOfAPeriodThatWasChangedInTheDatabaseAreNotGiven(t *testing.T) {
	w := twoWeeks(t)
	if err := w.x.close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.dir, "hub.db")
	image := must(os.ReadFile(file))
	forged := bytes.ReplaceAll(image, []byte(`"quantity":23,`), []byte(`"quantity":13,`)) // nobody said so
	if bytes.Equal(forged, image) {
		t.Fatal("the leaf is not to be found in the database")
	}
	if err := os.WriteFile(file, forged, 0o600); err != nil {
		t.Fatal(err)
	}
	out, said, code := w.tellBooks("ledger")
	if code != command.Failed || out != "" || !strings.Contains(said, "week-1") || !strings.Contains(said, "journals/") {
		t.Fatalf("code %d, %d bytes of books, %q", code, len(out), said)
	}
}

func TestAHubRebuiltFromBundlesGivesTheSameBooks(t *testing.T) {
	w, other := twoWeeks(t), newTown(t)
	for _, name := range []string{"week-1", "week-2"} {
		file := filepath.Join(t.TempDir(), name+".tar")
		if err := os.WriteFile(file, must(w.x.bundle(t.Context(), name)), 0o600); err != nil {
			t.Fatal(err)
		}
		other.do(PeriodOrder{Do: "adopt", File: file, Operator: w.x.ownOperator()}, lastDay)
	}
	for _, format := range []string{"ledger", "beancount", "csv", "balances", "jsonl", "valueflows"} {
		var first, second string
		w.serving(func() { first, _, _ = w.tellBooks(format) })
		other.serving(func() { second, _, _ = other.tellBooks(format) })
		if first == "" || first != second {
			t.Fatalf("%s: %d bytes, rebuilt %d bytes", format, len(first), len(second))
		}
	}
}

func TestADecisionThatVoidsAnObligationLeavesNoClaimAndNoFlow(t *testing.T) {
	w := newTown(t)
	w.houses["lisbon"].entry(event.KindUse, event.Entry{Resource: "bed", Quantity: 23, Measure: "night", Home: "oaxaca", Day: 20760, Evidence: "B"})
	w.houses["oaxaca"].entry(event.KindUse, event.Entry{Resource: "bed", Quantity: 3, Measure: "night", Home: "lisbon", Day: 20760, Evidence: "B"})
	w.send("lisbon", "oaxaca")
	w.do(PeriodOrder{Do: "close", Period: "week-1", Day: lastDay.Format(time.DateOnly)}, lastDay)
	for _, o := range w.do(PeriodOrder{Do: "show", Period: "week-1"}, lastDay).Lines {
		if o.Amount == 23 {
			w.do(PeriodOrder{Do: "dispute", Period: "week-1", Obligation: o.ID, Node: o.Debtor, Reason: "nobody slept there"}, lastDay)
			w.do(PeriodOrder{Do: "decide", Period: "week-1", Obligation: o.ID, Node: third(o), Outcome: "void", Reason: "both agree"}, lastDay)
		}
	}
	w.do(PeriodOrder{Do: "finalise", Period: "week-1"}, lastDay.AddDate(0, 0, 8))
	w.do(PeriodOrder{Do: "post", Period: "week-1"}, lastDay.AddDate(0, 0, 8))
	w.serving(func() {
		text, said, code := w.tellBooks("valueflows")
		if code != command.OK || strings.Contains(text, `"hasNumericalValue": 23`) || !strings.Contains(text, `"hasNumericalValue": 3`) {
			t.Fatalf("code %d: %s\n%s", code, said, text)
		}
	})
}
