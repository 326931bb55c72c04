package exchange

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"kith/configs"
	"kith/hub/audit"
	"kith/internal/command"
	"kith/internal/event"
	"kith/internal/pki"
)

func TestTheExampleWeekIsClosedAndItsBundleVerifies(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	draft := must(w.x.Draft(t.Context()))
	if len(draft.Units) != 3 || draft.Entries != 20 {
		t.Fatalf("%+v", draft)
	}
	bundle := w.closed("week-1", lastDay)
	c, r := verified(t, bundle)
	if r.Number != 1 || len(r.Units) != 3 || r.Shown != 20 || r.Journals != 5 || len(r.Missing) != 0 {
		t.Fatalf("%+v", r)
	}
	for i, u := range r.Units {
		if u.Cleared <= 0 || u.Cleared > u.Gross || draft.Units[i].Gross != u.Gross || draft.Units[i].Cleared != u.Cleared {
			t.Fatalf("%+v, drafted %+v", u, draft.Units[i])
		}
	}
	again := must(w.x.bundle(t.Context(), "week-1"))
	w.restart()
	if third := must(w.again().bundle(t.Context(), "week-1")); !bytes.Equal(bundle, again) || !bytes.Equal(bundle, third) {
		t.Fatal("the same period gave other bytes")
	}
	file := filepath.Join(t.TempDir(), "week-1.tar")
	if err := os.WriteFile(file, bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := Program("test").Run(t.Context(), command.Streams{Out: &out, Err: &out}, []string{"verify", file, "--json"}); code != command.OK {
		t.Fatalf("code %d: %s", code, out.String())
	}
	if strings.Contains(string(bundle), "ana-of") || strings.Contains(string(bundle), personKey) || strings.Contains(string(bundle), `"kind":"tap"`) {
		t.Fatal("the bundle names a person or shows a tap")
	}
	checkWith(t, c.Files["ledger/journal.hledger"], "hledger", "check", "-s", "-f")
	checkWith(t, c.Files["ledger/journal.hledger"], "ledger", "--strict", "--pedantic", "bal", "-f")
}

// again opens the desk of periods as after a restart.
func (w *town) again() *Exchange {
	w.t.Helper()
	if err := w.x.loadPeriod(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return w.x
}

func checkWith(t *testing.T, journal []byte, peer string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(peer); err != nil {
		if os.Getenv("KITH_PEERS") == "required" {
			t.Fatalf("%s is missing", peer)
		}
		t.Logf("SKIP: %s missing; the journal was not read by it", peer)
		return
	}
	file := filepath.Join(t.TempDir(), "books.journal")
	if err := os.WriteFile(file, journal, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(peer, append(args, file)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", peer, err, out)
	}
	broken := bytes.Replace(journal, []byte(" night\n"), []byte("1 night\n"), 1)
	if err := os.WriteFile(file, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	if exec.Command(peer, append(args, file)...).Run() == nil {
		t.Fatalf("%s accepts books with one amount changed", peer)
	}
}

func TestAFlippedByteAnywhereInABundleIsFoundAndNamed(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	w.closed("week-1", lastDay)
	for range 2 { // the same signature twice, of more than the limits allow
		w.houses["oaxaca"].entry(event.KindUse, event.Entry{Resource: "bed", Quantity: 30, Measure: "night", Home: "lisbon", Day: 20765, Evidence: "A",
			Nonce: "000102030405060708090a0b0c0d0e0f"})
	}
	w.send("oaxaca")
	bundle := w.closed("week-2", lastDay.AddDate(0, 0, 7))
	c, r := verified(t, bundle)
	if r.Follows != "week-1" {
		t.Fatalf("%+v", r)
	}
	if c.Files["rules.txt"] == nil || !bytes.Contains(c.Files["breaches.txt"], []byte("breach ")) || !bytes.Contains(c.Files["carry.txt"], []byte("used ")) ||
		!bytes.Contains(c.Files["asides.txt"], []byte("nonce-used")) {
		t.Fatal("the bundle lacks a part that this test is about")
	}
	rng := rand.New(rand.NewPCG(7, uint64(len(bundle))))
	places := []int{} // 200 anywhere, and one in each file: some are small
	for range 200 {
		places = append(places, rng.IntN(len(bundle)))
	}
	for at, last := 0, ""; at < len(bundle); at++ {
		if name, _ := fileAt(c.Files, at); name != last && name != "" {
			last, places = name, append(places, at+rng.IntN(len(c.Files[name])))
		}
	}
	for n, at := range places {
		bad := slices.Clone(bundle)
		bad[at] ^= 1 << rng.IntN(8)
		_, r := audit.Verify(bad)
		if r.OK || r.Difference == nil || r.Difference.File == "" || r.Difference.What == "" {
			t.Fatalf("flip %d at byte %d was not found: %+v", n, at, r)
		}
		want, line := fileAt(c.Files, at)
		if want != "" && r.Difference.File != want {
			t.Fatalf("byte %d is of %s, the difference is said of %s", at, want, r.Difference)
		}
		// A journal's leaves stand under one root, and the words of the policy stand nowhere else; everything else has its line.
		if want != "" && want != "policy.yaml" && !strings.HasPrefix(want, "journals/") && r.Difference.Line != line {
			t.Fatalf("byte %d is in line %d of %s, the difference is said of %s", at, line, want, r.Difference)
		}
	}
}

// fileAt says whose content a byte of the tar is, and in which line; empty for headers and padding.
func fileAt(f audit.Files, at int) (name string, line int) {
	const block = 512
	names := slices.Sorted(maps.Keys(f))
	slices.SortStableFunc(names, func(a, b string) int { return boolInt(b == "bundle.note") - boolInt(a == "bundle.note") })
	from := 0
	for _, name := range names {
		from += block
		if at >= from && at < from+len(f[name]) {
			return name, 1 + bytes.Count(f[name][:at-from], []byte("\n"))
		}
		from += (len(f[name]) + block - 1) / block * block
	}
	return "", 0
}

func boolInt(v bool) int {
	if v {
		return 1
	}
	return 0
}

func TestTheSameLeavesReachTheSameSealHoweverTheyCame(t *testing.T) {
	var seals, statements []string
	for _, order := range []string{"in order", "thrice, out of order, with a kill between"} {
		w := newTown(t)
		w.seeded()
		if order == "in order" {
			w.send(w.all()...)
		} else {
			nodes := w.all()
			slices.Reverse(nodes)
			for _, n := range nodes {
				h := w.houses[n]
				w.say(h.keys.ID, h.batchOf(0, h.size()/2))
				w.receipts()
				w.kill()
				w.say(h.keys.ID, h.batchOf(h.size()/2, h.size()))
				w.say(h.keys.ID, h.batchOf(0, h.size()))
				w.say(h.keys.ID, h.batchOf(0, h.size()/2))
			}
			w.receipts()
			w.do(PeriodOrder{Do: "close", Period: "week-1", Day: lastDay.Format(time.DateOnly)}, lastDay)
			w.kill()
			if a := must(w.x.period(t.Context(), PeriodOrder{Do: "list"}, lastDay)); len(a.Periods) != 1 || a.Periods[0].State != "proposed" {
				t.Fatalf("%+v", a.Periods)
			}
			w.do(PeriodOrder{Do: "finalise", Period: "week-1"}, lastDay.AddDate(0, 0, 8))
			w.kill()
			w.do(PeriodOrder{Do: "post", Period: "week-1"}, lastDay.AddDate(0, 0, 8))
		}
		if order == "in order" {
			w.closed("week-1", lastDay)
		}
		c, r := verified(t, must(w.x.bundle(t.Context(), "week-1")))
		text, _ := c.Statement(1)
		seals, statements = append(seals, r.Seal), append(statements, text)
	}
	if seals[0] != seals[1] || statements[0] != statements[1] {
		t.Fatalf("seals %v\nstatements:\n%s\n%s", seals, statements[0], statements[1])
	}
}

func TestADisputeTakesOneObligationOutAndTheOldStatementStaysReadable(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	w.do(PeriodOrder{Do: "close", Period: "week-1", Day: lastDay.Format(time.DateOnly)}, lastDay)
	shown := w.do(PeriodOrder{Do: "show", Period: "week-1"}, lastDay)
	o := shown.Lines[0]
	later := lastDay.Add(time.Hour)
	p := w.do(PeriodOrder{Do: "dispute", Period: "week-1", Obligation: o.ID, Node: o.Debtor, Reason: "the beds were not used"}, later)
	if len(p.Statements) != 2 || !p.Statements[0].Withdrawn || p.Statements[1].Withdrawn || p.State != "proposed" {
		t.Fatalf("%+v", p)
	}
	whole := w.do(PeriodOrder{Do: "show", Period: "week-1"}, later)
	if whole.Statements[0].Text != shown.Statements[0].Text || !strings.Contains(whole.Statements[1].Text, "disputed "+o.ID) {
		t.Fatal("the old statement is not what it was, or the new one does not name the disputed obligation")
	}
	if _, err := w.x.period(t.Context(), PeriodOrder{Do: "finalise", Period: "week-1"}, later.Add(time.Hour)); err == nil {
		t.Fatal("final before the window has run out")
	}
	w.do(PeriodOrder{Do: "decide", Period: "week-1", Obligation: o.ID, Node: third(o), Outcome: "void", Reason: "both agree"}, later)
	w.restart()
	w.do(PeriodOrder{Do: "finalise", Period: "week-1"}, later.AddDate(0, 0, 8))
	w.do(PeriodOrder{Do: "post", Period: "week-1"}, later.AddDate(0, 0, 8))
	if _, r := verified(t, must(w.x.bundle(t.Context(), "week-1"))); r.Number != 2 {
		t.Fatalf("%+v", r)
	}
}

func third(o ObligationState) string {
	for _, n := range []string{"lisbon", "oaxaca", "vermont"} {
		if n != o.Debtor && n != o.Creditor {
			return n
		}
	}
	return ""
}

func TestAnotherHubRebuiltFromBundlesReachesTheSameSeal(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send("lisbon", "oaxaca", "chiang-mai", "vermont") // the fifth comes late
	first := w.closed("week-1", lastDay)
	w.send("popup-azores")
	second := w.closed("week-2", lastDay.AddDate(0, 0, 7))
	c1, r1 := verified(t, first)
	c2, r2 := verified(t, second)
	if len(r1.Missing) != 1 || len(r2.Missing) != 0 || r2.Shown == 0 || r1.Seal == r2.Seal {
		t.Fatalf("%+v\n%+v", r1, r2)
	}
	if err := c2.Follows(c1); err != nil {
		t.Fatal(err)
	}
	for _, o := range c2.Period.Obligations { // late data bears its own date
		if o.Debtor == "vermont" && o.Creditor == "popup-azores" && o.Day != 20762 {
			t.Fatalf("%+v", o)
		}
	}
	other := newTown(t)
	for i, b := range [][]byte{first, second} {
		file := filepath.Join(t.TempDir(), "b.tar")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			wrong := filepath.Join(t.TempDir(), "second.tar")
			if err := os.WriteFile(wrong, second, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := other.x.period(t.Context(), PeriodOrder{Do: "adopt", File: wrong, Operator: r1.Operator}, lastDay); err == nil {
				t.Fatal("a second period was adopted as the first")
			}
		}
		// The second one is held to the key of the first.
		p := other.do(PeriodOrder{Do: "adopt", File: file, Operator: []string{r1.Operator, ""}[i]}, lastDay)
		if p.Report.Seal != []string{r1.Seal, r2.Seal}[i] {
			t.Fatalf("%+v", p.Report)
		}
	}
	other.restart()
	if a := must(other.x.Do(t.Context(), Order{Verify: true})); !a.Report.OK || a.Report.Periods != 2 {
		t.Fatalf("%+v", a.Report)
	}
	if b := must(other.again().bundle(t.Context(), "week-2")); !bytes.Equal(b, second) {
		t.Fatal("an adopted period has another bundle")
	}
}

// Anybody can close a period of that name: what a hub starts from must be signed by a key that somebody has compared.
func TestAStrangersBundleIsNotAdopted(t *testing.T) {
	stranger := newTown(t)
	stranger.seeded()
	stranger.send(stranger.all()...)
	_, r := verified(t, stranger.closed("week-1", lastDay))
	file := filepath.Join(t.TempDir(), "week-1.tar")
	if err := os.WriteFile(file, must(stranger.x.bundle(t.Context(), "week-1")), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	own := filepath.Join(w.dir, keysDir, pki.FileOperatorVerify)
	refused := func(why, operator string) {
		t.Helper()
		if _, err := w.x.period(t.Context(), PeriodOrder{Do: "adopt", File: file, Operator: operator}, lastDay); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("operator %q: %v", operator, err)
		}
		if a := must(w.x.period(t.Context(), PeriodOrder{Do: "list"}, lastDay)); len(a.Periods) != 0 {
			t.Fatalf("%+v", a.Periods)
		}
	}
	refused("--operator", "")
	refused("network.txt", strings.TrimSpace(string(must(pki.ReadPublic(own)))))
	refused("network.txt", r.Operator[:len(r.Operator)-1])
	var said bytes.Buffer
	if err := w.x.close(); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(config, configs.NetworkHub, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"period", "adopt", "--config", config, "--state-dir", w.dir, "--operator", filepath.Join(stranger.dir, keysDir, pki.FileOperatorVerify), file}
	if code := Program("test").Run(t.Context(), command.Streams{Out: &said, Err: &said}, args); code != command.OK || !strings.Contains(said.String(), r.Seal) {
		t.Errorf("with the key given: code %d: %s", code, said.String())
	}
	w.open()
}

func TestACorrectionStandsInThePlaceOfWhatItCorrects(t *testing.T) {
	w := newTown(t)
	h := w.houses["lisbon"]
	bed := func(n int64, day int, corrects string) string {
		return h.entry(event.KindUse, event.Entry{Resource: "bed", Quantity: n, Measure: "night", Home: "oaxaca", Day: day, Evidence: "B", Corrects: corrects})
	}
	one := bed(7, 20759, "")
	bed(5, 20760, one) // in the same period: 5 count
	old := bed(4, 20761, "")
	w.send("lisbon")
	c, _ := verified(t, w.closed("week-1", lastDay))
	if got := owed(c, "oaxaca", "lisbon"); got != 9 {
		t.Fatalf("%d nights", got)
	}
	bed(1, 20766, old) // in the next: 4 are taken back, 1 counts
	bed(9, 20766, one) // corrected already: counts nothing
	bed(0, 20766, "ffffffffffffffffffffffffffffffff/3")
	w.send("lisbon")
	bundle := w.closed("week-2", lastDay.AddDate(0, 0, 7))
	c, _ = verified(t, bundle)
	if got := owed(c, "oaxaca", "lisbon"); got != 1 { // the nine were cleared through the pool
		t.Fatalf("%d nights", got)
	}
	if got := owed(c, "lisbon", "oaxaca"); got != 4 {
		t.Fatalf("%d nights back", got)
	}
	asides := string(c.Files["asides.txt"])
	if !strings.Contains(asides, "corrects-twice") || !strings.Contains(asides, "corrects-nothing") {
		t.Fatal(asides)
	}
}

func owed(c *audit.Closing, debtor, creditor string) (sum int64) {
	for _, o := range c.Period.Obligations {
		if o.Debtor == debtor && o.Creditor == creditor && o.Unit == "night" {
			sum += o.Amount
		}
	}
	return sum
}

func TestADemonstrationIsClosedInOneGo(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	b, r, err := w.x.CloseNow(t.Context(), "demo-week")
	if err != nil || !r.OK || len(b) == 0 {
		t.Fatalf("%v %+v", err, r)
	}
	if _, _, err := w.x.CloseNow(t.Context(), "demo-week"); err == nil {
		t.Fatal("the same period was closed twice")
	}
}

// operatorOf makes an operator's key of that network's name.
func operatorOf(t *testing.T, dir, network string) note.Signer {
	t.Helper()
	if err := pki.MakeOperator(dir, network); err != nil {
		t.Fatal(err)
	}
	signer, _, _, err := pki.OpenOperator(dir, network)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// Whoever keeps a copy of keys/ from the first start has the key that every period is closed under.
func TestTheKeysOfTheFirstDayCloseEveryPeriod(t *testing.T) {
	w := newTown(t)
	keys := filepath.Join(w.dir, keysDir)
	before := must(os.ReadFile(filepath.Join(keys, pki.FileOperatorSign)))
	w.seeded()
	w.send(w.all()...)
	_, r := verified(t, w.closed("week-1", lastDay))
	if after := must(os.ReadFile(filepath.Join(keys, pki.FileOperatorSign))); !bytes.Equal(before, after) || r.Operator != w.x.ownOperator() {
		t.Error("the period was closed under another key than the first day's")
	}
	for _, missing := range [][]string{{pki.FileOperatorSign, pki.FileOperatorVerify}, {pki.FileOperatorSign}} {
		old := newTown(t) // from before keys were made at once, or cut short in making them up; it has signed nothing
		for _, file := range missing {
			if err := os.Remove(filepath.Join(old.dir, keysDir, file)); err != nil {
				t.Fatal(err)
			}
		}
		old.restart()
		if _, _, err := old.x.operator(); err != nil {
			t.Error(err)
		}
	}
}

// Under another key the next period would follow from nothing that anybody knows.
func TestNoPeriodFollowsUnderAnotherOperatorsKey(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	first, _ := verified(t, w.closed("week-1", lastDay))
	kept := map[string][]byte{}
	for _, file := range []string{pki.FileOperatorSign, pki.FileOperatorVerify} {
		path := filepath.Join(w.dir, keysDir, file)
		kept[path] = must(os.ReadFile(path))
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	w.houses["lisbon"].tap(1)
	w.send("lisbon")
	day := lastDay.AddDate(0, 0, 7)
	next := PeriodOrder{Do: "close", Period: "week-2", Day: day.Format(time.DateOnly)}
	if _, err := w.x.period(t.Context(), next, day); err == nil || !strings.Contains(err.Error(), "operator.skey") {
		t.Fatalf("without a key: %v", err)
	}
	if _, err := w.x.Draft(t.Context()); err == nil {
		t.Error("a page has a draft under no key")
	}
	w.restart()
	for path := range kept {
		if _, err := os.Stat(path); err == nil {
			t.Fatal("a start made a key in place of the lost one")
		}
	}
	operatorOf(t, filepath.Join(w.dir, keysDir), "commons-week")
	if _, err := w.x.period(t.Context(), next, day); err == nil || !strings.Contains(err.Error(), "put back operator.skey") {
		t.Fatalf("under a key that nobody knows: %v", err)
	}
	for path, text := range kept {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	second, _ := verified(t, w.closed("week-2", day))
	if err := second.Follows(first); err != nil {
		t.Error(err)
	}
	stranger := *first
	network := *first.Network
	network.Operator += "A"
	stranger.Network = &network
	var d *audit.Difference
	if err := second.Follows(&stranger); !errors.As(err, &d) || d.File != "network.txt" || d.Line != 3 {
		t.Errorf("a period after a stranger's: %v", err)
	}
}

func TestADatabaseWithoutItsKeysFoundsNoNewNetwork(t *testing.T) {
	w := newTown(t)
	if err := w.x.close(); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(w.dir, keysDir)
	if err := os.Rename(keys, keys+".lost"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), w.cfg, Options{StateDir: w.dir}); err == nil || !strings.Contains(err.Error(), "put back the keys") {
		t.Errorf("opened: %v", err)
	}
	if _, err := os.Stat(keys); err == nil {
		t.Error("keys were made for a network that has others")
	}
}
