package exchange

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"kith/configs"
	"kith/hub/feed"
	"kith/hub/registry"
	"kith/hub/store"
	"kith/internal/access"
	"kith/internal/command"
	"kith/internal/event"
	"kith/internal/wire"
)

var reportFiles = []string{feed.ReportMarkdown, feed.ReportHTML, feed.ReportJSON, feed.ReportNote}

// by is an entry of one member.
func (h *house) by(member string, kind event.Kind, e event.Entry) string {
	h.t.Helper()
	l := event.Leaf{Network: "commons-week", Node: h.node, Edge: h.keys.ID, Epoch: h.epoch, Index: h.size(), Kind: kind, At: hour, Clock: event.Synced,
		Boot: "00112233445566aa", Body: must(event.EncodeEntry(kind, e))}
	p := event.Private{At: hour + int64(l.Index), Member: member, Card: "pkoc:" + personKey}
	part := wire.Private{Salt: sha256.Sum256(fmt.Appendf(nil, "%s %d", h.node, l.Index)), Bytes: must(p.Encode())}
	c := event.Commit(part.Salt, part.Bytes)
	l.Commitment = &c
	h.put(must(l.Encode()), part)
	return fmt.Sprintf("%s/%d", h.epoch, l.Index)
}

// bed is nights of a member of one house at another.
func (h *house) bed(member, home string, nights int64, day int) string {
	return h.by(member, event.KindUse, event.Entry{Resource: "bed", Quantity: nights, Measure: "night", Home: home, Day: day, Evidence: "B"})
}

// tell runs a verb of the hub on the town's state directory.
func (w *town) tell(args ...string) (string, string, int) {
	w.t.Helper()
	config := filepath.Join(w.t.TempDir(), "hub.yaml")
	if err := os.WriteFile(config, configs.NetworkHub, 0o600); err != nil {
		w.t.Fatal(err)
	}
	var out, said bytes.Buffer
	code := Program("test").Run(w.t.Context(), command.Streams{Out: &out, Err: &said},
		append([]string{args[0], "--config", config, "--state-dir", w.dir}, args[1:]...))
	return out.String(), said.String(), code
}

// reported asks for a report by the verb, checks the note as a stranger does, and returns the four files by name.
func (w *town) reported(period string) map[string]string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "report")
	if out, said, code := w.tell("report", period, "--out", dir); code != command.OK || strings.Count(out, "wrote ") != len(reportFiles) {
		w.t.Fatalf("report of %s: code %d: %s%s", period, code, out, said)
	}
	files := map[string]string{}
	for _, name := range reportFiles {
		files[name] = string(must(os.ReadFile(filepath.Join(dir, name))))
	}
	key := must(note.NewVerifier(strings.TrimSpace(string(must(os.ReadFile(filepath.Join(w.dir, keysDir, "operator.vkey")))))))
	n, err := note.Open([]byte(files[feed.ReportNote]), note.VerifierList(key))
	if err != nil {
		w.t.Fatal(err)
	}
	want := fmt.Sprintf("kith-report-note v1\nnetwork commons-week\nperiod %s\n", period)
	for _, name := range []string{"report.html", "report.json", "report.md"} {
		want += fmt.Sprintf("sha256 %x %s\n", sha256.Sum256([]byte(files[name])), name)
	}
	if n.Text != want {
		w.t.Fatalf("the note says\n%s\nwant\n%s", n.Text, want)
	}
	return files
}

func released(t *testing.T, files map[string]string) *feed.Release {
	t.Helper()
	return must(feed.ParseRelease([]byte(files[feed.ReportJSON])))
}

// figure looks a delivered figure up; nil: withheld.
func figure(t *testing.T, r *feed.Release, unit, node, kind string) *int64 {
	t.Helper()
	for _, m := range r.Delivered {
		for _, f := range m.Figures {
			if m.Unit == unit && f.Node == node && f.Kind == kind {
				return f.Delivered
			}
		}
	}
	t.Fatalf("no figure of %s at %s in %s", kind, node, unit)
	return nil
}

// fullWeek closes a week in which members of oaxaca, each by one entry, slept in lisbon and in vermont.
func fullWeek(t *testing.T, members int) *town {
	w := newTown(t)
	for i := range members {
		w.houses["lisbon"].bed(fmt.Sprint("guest-", i), "oaxaca", 3, 20759+i%4)
		w.houses["vermont"].bed(fmt.Sprint("guest-", i), "oaxaca", 2, 20760)
	}
	w.send(w.all()...)
	w.closed("week-1", lastDay)
	return w
}

func TestAReportIsPublishedOnceAndThenTheSameForEver(t *testing.T) {
	w := fullWeek(t, 7)
	var first map[string]string
	w.serving(func() { first = w.reported("week-1") })
	r := released(t, first)
	if got := figure(t, r, "night", "lisbon", "bed"); got == nil || *got != 21 {
		t.Fatalf("nights at lisbon: %v", got)
	}
	nights := r.Clearing[1]
	if r.Clearing[0].Unit != "meal" || r.Clearing[0].Gross != nil || nights.Gross == nil || *nights.Gross != 36 { // 35 and a twentieth of dues
		t.Fatalf("%+v", r.Clearing)
	}
	if r.From != "2026-11-01" || r.To != "2026-11-07" || r.Statement != 1 || len(r.Houses) != 5 || r.Rules[0].Version != "rules-1" || len(r.Rules[0].Digest) != 64 {
		t.Fatalf("%+v", r)
	}
	same := func(when string) {
		t.Helper()
		for name, text := range w.reported("week-1") {
			if text != first[name] {
				t.Fatalf("%s: %s is not what was published", when, name)
			}
		}
	}
	w.stopped(func() { same("stopped") })
	w.kill()
	w.stopped(func() { same("after a kill") })
	// More of the same days comes late, a name changes, and the person who slept there is forgotten.
	w.houses["lisbon"].bed("guest-0", "oaxaca", 9, 20759)
	w.send("lisbon")
	w.closed("week-2", lastDay.AddDate(0, 0, 7))
	must(w.x.Do(t.Context(), Order{Change: &registry.Change{Members: []access.Member{{ID: "guest-1", Name: "Gia", Home: "oaxaca", Role: access.RoleResident}}}}))
	must(w.x.Do(t.Context(), Order{Erase: "guest-1"}))
	w.serving(func() { same("after an erasure") })
	a := must(w.x.Do(t.Context(), Order{Verify: true}))
	if !a.Report.OK || a.Report.Releases != 1 || a.Report.Periods != 2 {
		t.Fatalf("%+v", a.Report)
	}
	w.stopped(func() {
		md, _, _ := w.tell("report", "week-1")
		js, _, _ := w.tell("report", "week-1", "--json")
		if md != first[feed.ReportMarkdown] || js != first[feed.ReportJSON] {
			t.Fatal("standard output is not the published text")
		}
		if out, _, code := w.tell("verify"); code != command.OK || !strings.Contains(out, "1 public report is as signed") {
			t.Fatalf("code %d: %s", code, out)
		}
	})
	// A restored hub has it from its backup.
	file := must(w.x.backup(t.Context())).Files[0]
	if err := w.x.close(); err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(t.TempDir(), "state")
	if err := os.CopyFS(filepath.Join(restored, keysDir), os.DirFS(filepath.Join(w.dir, keysDir))); err != nil {
		t.Fatal(err)
	}
	keysOnly(t, filepath.Join(restored, keysDir))
	if err := restore(t.Context(), w.cfg, restored, file); err != nil {
		t.Fatal(err)
	}
	w.dir = restored
	same("restored")
	w.open()
}

// keysOnly gives copied keys the rights that they must have.
func keysOnly(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestALaterPeriodIsReportedAfterThoseBeforeIt(t *testing.T) {
	w := fullWeek(t, 6)
	old := w.houses["lisbon"].bed("guest-0", "oaxaca", 4, 20764)
	for i := range 6 {
		w.houses["lisbon"].bed(fmt.Sprint("guest-", i), "oaxaca", 1, 20759) // of the first week by its own date
	}
	w.send("lisbon")
	w.closed("week-2", lastDay.AddDate(0, 0, 7))
	w.houses["lisbon"].by("guest-0", event.KindUse, event.Entry{Resource: "bed", Quantity: 2, Measure: "night", Home: "oaxaca", Day: 20770, Evidence: "B", Corrects: old})
	w.houses["lisbon"].by("guest-0", event.KindUse, event.Entry{Resource: "bed", Quantity: 0, Measure: "night", Home: "oaxaca", Day: 20770, Evidence: "B",
		Corrects: fmt.Sprintf("%s/0", w.houses["lisbon"].epoch)})
	w.send("lisbon")
	w.closed("week-3", lastDay.AddDate(0, 0, 14))
	w.do(PeriodOrder{Do: "close", Period: "week-4", Day: lastDay.AddDate(0, 0, 21).Format(time.DateOnly)}, lastDay.AddDate(0, 0, 21))
	w.serving(func() {
		for period, want := range map[string]string{"week-4": "proposed", "week-9": "no such period", "": "no such period"} {
			if out, said, code := w.tell("report", period); code != command.Failed || out != "" || !strings.Contains(said, want) {
				t.Fatalf("%q: code %d, %q, %q", period, code, out, said)
			}
		}
		if _, _, code := w.tell("report"); code != command.Usage {
			t.Fatalf("without a period: code %d", code)
		}
	})
	var third, second, first *feed.Release
	w.serving(func() {
		third = released(t, w.reported("week-3"))
		second, first = released(t, w.reported("week-2")), released(t, w.reported("week-1"))
	})
	if n := len(must(w.x.storage.Released(t.Context()))); n != 3 {
		t.Fatalf("%d releases", n)
	}
	if got := figure(t, first, "night", "lisbon", "bed"); got == nil || *got != 18 {
		t.Fatalf("week-1 is told as %v", got)
	}
	if got := figure(t, second, "night", "lisbon", "bed"); got == nil || *got != 10 || len(second.Corrections) != 0 || second.From != "2026-11-08" {
		t.Fatalf("late entries are told as %v; %+v", got, second)
	}
	// What a person corrected is told as a count, and neither as a night nor by a difference of the closing.
	if got := fmt.Sprint(third.Corrections); got != "[{week-1 1} {week-2 1}]" {
		t.Fatalf("corrections: %s", got)
	}
	if len(third.Delivered) != 0 || third.Clearing[0].Gross != nil || third.Rules[0].Since != first.From {
		t.Fatalf("%+v", third)
	}
}

// Five people are told of. When one of them was forgotten before the report, four are known, and nothing is.
func TestAForgottenMemberIsNobodyInALaterReport(t *testing.T) {
	const name, id = "Zephyrine Quillfeather", "zephyrine-q"
	week := func() *town {
		w := newTown(t)
		must(w.x.Do(t.Context(), Order{Change: &registry.Change{Members: []access.Member{{ID: id, Name: name, Home: "oaxaca", Role: access.RoleResident}}}}))
		for i := range 4 {
			w.houses["lisbon"].bed(fmt.Sprint("guest-", i), "oaxaca", 3, 20759)
		}
		w.houses["lisbon"].bed(id, "oaxaca", 3, 20759)
		w.send(w.all()...)
		w.closed("week-1", lastDay)
		return w
	}
	w := week()
	var before, after map[string]string
	w.serving(func() { before = w.reported("week-1") })
	if got := figure(t, released(t, before), "night", "lisbon", "bed"); got == nil || *got != 15 {
		t.Fatalf("five people: %v", got)
	}
	w = week()
	if a := must(w.x.Do(t.Context(), Order{Erase: id})); a.Erased.Parts != 1 {
		t.Fatalf("%+v", a.Erased)
	}
	w.serving(func() { after = w.reported("week-1") })
	r := released(t, after)
	for _, f := range r.Delivered[0].Figures {
		if f.Delivered != nil && *f.Delivered != 0 {
			t.Fatalf("%+v is told of four people", f)
		}
	}
	for _, files := range []map[string]string{before, after} {
		for file, text := range files {
			for _, word := range append(traces(name, id, personKey), traces("guest-0", "guest-3")...) {
				if strings.Contains(text, string(word)) {
					t.Fatalf("%s holds %q", file, word)
				}
			}
		}
	}
	if found := grep(t, w.dir, traces(name, id)); len(found) > 0 {
		t.Fatalf("after the report: %v", found)
	}
}

// Of the worked example week, with one person at each house, a reader may know that nothing happened where nothing did.
func TestSmallNodesTellNothingButWhereNobodyDidAnything(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	w.closed("week-1", lastDay)
	offered := registry.Resource{Node: "oaxaca", Resource: access.Resource{ID: "bed", Measure: "night", Offered: true, Capacity: 6}}
	loft := registry.Resource{Node: "oaxaca", Resource: access.Resource{ID: "lesson", Measure: "night", Offered: true, Capacity: 1}} // by the hour elsewhere
	must(w.x.Do(t.Context(), Order{Change: &registry.Change{Resources: []registry.Resource{offered, loft}}}))
	var files map[string]string
	w.serving(func() { files = w.reported("week-1") })
	r, zeros, withheld := released(t, files), 0, 0
	for _, m := range r.Delivered {
		for _, f := range m.Figures {
			switch {
			case f.Delivered == nil:
				withheld++
			case *f.Delivered != 0 && f.Node != feed.All: // all five people together may be told of
				t.Fatalf("%s: %+v is told of a person", m.Unit, f)
			case *f.Delivered != 0:
			default:
				zeros++
			}
			if f.Node == "oaxaca" && f.Kind == "bed" && f.Offered != 6*7 {
				t.Fatalf("offered: %+v in %s to %s", f, r.From, r.To)
			}
		}
	}
	if zeros == 0 || withheld < 20 {
		t.Fatalf("%d zeros, %d withheld", zeros, withheld)
	}
	for i := range r.Clearing { // five people slept elsewhere, none at home; one ate at home, and many kinds of work were of a few
		if r.Clearing[i].Unit == "night" {
			continue
		}
		if r.Clearing[i].Gross != nil || r.Pool[i].In != nil || r.Pool[i].Withheld != 1 {
			t.Fatalf("%+v %+v", r.Clearing[i], r.Pool[i])
		}
	}
	figure(t, r, "hour", "chiang-mai", "lesson/hour")
	figure(t, r, "night", "oaxaca", "lesson/night")
}

// What the commons has is what came in less what went out, from the first period on.
func TestThePoolOfAReportAddsUp(t *testing.T) {
	w := newTown(t)
	var balance [3]int64
	for week := range 3 {
		for i, n := range w.all() {
			for m := range 8 {
				home := w.all()[(i+1+m%4)%5]
				w.houses[n].bed(fmt.Sprint("of-", home, m), home, int64(2+(m*i+week)%3), 20760+7*week)
			}
		}
		w.send(w.all()...)
		w.closed(fmt.Sprint("week-", week), lastDay.AddDate(0, 0, 7*week))
		r := released(t, func() (files map[string]string) {
			w.serving(func() { files = w.reported(fmt.Sprint("week-", week)) })
			return files
		}())
		for _, p := range r.Pool {
			if p.Unit != "night" {
				continue
			}
			if p.In == nil || *p.In == 0 {
				t.Fatalf("week %d: %+v", week, p)
			}
			balance[week] = *p.Balance
			before := int64(0)
			if week > 0 {
				before = balance[week-1]
			}
			if before+*p.In-*p.Out != *p.Balance {
				t.Fatalf("week %d: %d and %d in and %d out make %d", week, before, *p.In, *p.Out, *p.Balance)
			}
		}
	}
	if balance[2] <= balance[0] {
		t.Fatalf("%v", balance)
	}
}

func TestAReportThatWasTamperedWithIsFound(t *testing.T) {
	w := fullWeek(t, 6)
	w.serving(func() { w.reported("week-1") })
	if err := w.x.close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.dir, store.FileName)
	image := must(os.ReadFile(file))
	for name, change := range map[string][2]string{"page": {"What was delivered</h2>", "What was swallowed</h2>"}, "Markdown": {"## What went round\n", "## What went wrong\n"},
		"JSON": {"\"disputes_opened\": 0", "\"disputes_opened\": 9"}, "note": {"kith-report-note v1\nnetwork commons-week\n", "kith-report-note v1\nnetwork commons-weak\n"}} {
		forged := bytes.ReplaceAll(image, []byte(change[0]), []byte(change[1]))
		if bytes.Equal(forged, image) {
			t.Fatalf("%s: not to be found in the database", name)
		}
		if err := os.WriteFile(file, forged, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, _, code := w.tell("verify"); code != command.Failed || !strings.Contains(out, "NOT VERIFIED: report of week-1: ") {
			t.Fatalf("%s: code %d: %s", name, code, out)
		}
		if out, said, code := w.tell("report", "week-1"); code != command.Failed || out != "" || !strings.Contains(said, "report of week-1: ") {
			t.Fatalf("%s changed, and given: code %d: %s", name, code, said)
		}
	}
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
}

// Every way in which publishing can be cut short, and what a second asking finds.
func TestAReportThatWasCutShortIsTheSameWhenAskedAgain(t *testing.T) {
	want := map[string]string{}
	w := fullWeek(t, 6)
	before := w.dir
	w.kill() // killed before: the image is of the moment before the report
	image := w.dir
	w.serving(func() { want = w.reported("week-1") })
	w.kill() // killed after it was stored
	same := func(when string) {
		t.Helper()
		w.serving(func() {
			for name, text := range w.reported("week-1") {
				if text != want[name] {
					t.Fatalf("%s: %s differs", when, name)
				}
			}
		})
	}
	same("killed after")
	back := func(dir string) {
		t.Helper()
		if err := w.x.close(); err != nil {
			t.Fatal(err)
		}
		w.dir = dir
		w.open()
	}
	if image == before {
		t.Fatal("the image is the original")
	}
	back(before)
	if _, here, err := w.x.storage.Release(t.Context(), "week-1"); here || err != nil {
		t.Fatalf("the original has it: %v", err)
	}
	// Failed but stored: no backup can be made, so nothing is handed out.
	spoilt := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(spoilt, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := w.x.cfg.Backup.Dir
	w.x.cfg.Backup.Dir = spoilt
	for range 2 { // the second time the row is there, and still in no copy
		if a, err := w.x.Do(t.Context(), Order{Publish: &ReportOrder{Period: "week-1"}}); err == nil || a.Published != nil || !strings.Contains(err.Error(), "no backup") {
			t.Fatalf("%v", err)
		}
	}
	w.x.cfg.Backup.Dir = dir
	same("failed but stored")
	// Failed and not stored: the key cannot be read.
	w = fullWeek(t, 6)
	key := filepath.Join(w.dir, keysDir, "operator.skey")
	text := must(os.ReadFile(key))
	if err := os.WriteFile(key, []byte("no key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.x.Do(t.Context(), Order{Publish: &ReportOrder{Period: "week-1"}}); err == nil {
		t.Fatal("a report without a key")
	}
	if n := len(must(w.x.storage.Released(t.Context()))); n != 0 {
		t.Fatalf("%d releases", n)
	}
	if err := os.WriteFile(key, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w.serving(func() {
		if r := released(t, w.reported("week-1")); *figure(t, r, "night", "lisbon", "bed") != 18 {
			t.Fatalf("%+v", r)
		}
	})
}

// A period that was closed elsewhere is not reported a second time: its report is taken in as it was published.
func TestAHubRebuiltFromBundlesTakesTheReportsThatWerePublished(t *testing.T) {
	w := fullWeek(t, 7)
	var first map[string]string
	w.serving(func() { first = w.reported("week-1") })
	dir := filepath.Join(t.TempDir(), "published")
	put := func(name, text string) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range first {
		put(name, text)
	}
	bundle := filepath.Join(t.TempDir(), "b.tar")
	if err := os.WriteFile(bundle, must(w.x.bundle(t.Context(), "week-1")), 0o600); err != nil {
		t.Fatal(err)
	}
	other := newTown(t)
	other.do(PeriodOrder{Do: "adopt", File: bundle, Operator: w.x.ownOperator()}, lastDay)
	other.serving(func() {
		if _, said, code := other.tell("report", "week-1"); code != command.Failed || !strings.Contains(said, "--from") {
			t.Fatalf("a second report of an adopted period: code %d: %s", code, said)
		}
		for name, change := range map[string]string{feed.ReportMarkdown: "x", feed.ReportNote: strings.Replace(first[feed.ReportNote], "week-1", "week-2", 1)} {
			put(name, change)
			if _, said, code := other.tell("report", "week-1", "--from", dir); code != command.Failed || !strings.Contains(said, "not to be taken in") {
				t.Fatalf("%s changed: code %d: %s", name, code, said)
			}
			put(name, first[name])
		}
		if out, said, code := other.tell("report", "week-1", "--from", dir); code != command.OK || out != first[feed.ReportMarkdown] {
			t.Fatalf("code %d: %s", code, said)
		}
		if out, said, code := other.tell("report", "week-1", "--out", dir, "--from", dir); code != command.OK || strings.Count(out, "wrote") != 4 {
			t.Fatalf("once more: code %d: %s", code, said)
		}
		put(feed.ReportMarkdown, "another")
		if _, said, code := other.tell("report", "week-1", "--out", dir); code != command.Failed || !strings.Contains(said, "another report") {
			t.Fatalf("over another report: code %d: %s", code, said)
		}
	})
	if a := must(other.x.Do(t.Context(), Order{Verify: true})); !a.Report.OK || a.Report.Releases != 1 {
		t.Fatalf("%+v", a.Report)
	}
}

// Whether the hub before withheld a pool once is not known to one that never saw its reports, so it withholds once more.
func TestAfterAPeriodWhoseReportIsUnknownThePoolWaits(t *testing.T) {
	w := fullWeek(t, 7)
	c, err := w.x.readPeriod(t.Context(), "week-1")
	if err != nil {
		t.Fatal(err)
	}
	report := func(previous *feed.Release) *feed.Release {
		p := &past{}
		r, err := w.x.figures(t.Context(), c, p, previous)
		if err != nil {
			t.Fatal(err)
		}
		r.Period = "week-2"
		return must(r.Release(previous))
	}
	for _, row := range report(nil).Pool {
		if row.Unit == "night" && row.In == nil {
			t.Fatalf("%+v", row)
		}
	}
	for _, row := range report(unseen(c)).Pool {
		if row.In != nil || row.Unit == "night" && row.Withheld != 2 {
			t.Fatalf("%+v", row)
		}
	}
}

// An older hub answers an order that it does not know; the verb then says what to do.
func TestTheAnswerOfAReportIsOnePartOfTheOrders(t *testing.T) {
	b, err := json.Marshal(Order{Publish: &ReportOrder{Period: "week-1"}})
	if err != nil || string(b) != `{"publish":{"period":"week-1"}}` {
		t.Fatalf("%s %v", b, err)
	}
}

// A dispute that waits, one that was decided and a house that leaves change who owes whom, and no report may lose count of it.
func TestAReportAddsUpAfterDisputesAndAHouseThatLeft(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	w.do(PeriodOrder{Do: "close", Period: "week-1", Day: lastDay.Format(time.DateOnly)}, lastDay)
	lines := w.do(PeriodOrder{Do: "show", Period: "week-1"}, lastDay).Lines
	var between []ObligationState
	for _, l := range lines {
		if l.Debtor != "commons" && l.Creditor != "commons" && l.Debtor != "popup-azores" && l.Creditor != "popup-azores" {
			between = append(between, l)
		}
	}
	for _, o := range between[:2] {
		w.do(PeriodOrder{Do: "dispute", Period: "week-1", Obligation: o.ID, Node: o.Debtor, Reason: "nobody was there"}, lastDay)
	}
	gone := between[1]
	w.do(PeriodOrder{Do: "decide", Period: "week-1", Obligation: gone.ID, Node: third(gone), Outcome: "void", Reason: "both agree"}, lastDay)
	later := lastDay.AddDate(0, 0, 8)
	w.do(PeriodOrder{Do: "finalise", Period: "week-1"}, later)
	exit := PeriodOrder{Do: "exit", Period: "week-1", Node: "popup-azores"}
	for _, l := range w.do(PeriodOrder{Do: "show", Period: "week-1"}, later).Lines {
		if (l.Debtor == exit.Node || l.Creditor == exit.Node) && l.Open > l.Discharged && l.Debtor != "commons" && l.Creditor != "commons" {
			what := " freeze "
			if l.Creditor == exit.Node {
				what = " waive "
			}
			exit.Choices = append(exit.Choices, l.ID[:16]+what+l.Creditor+","+l.Debtor)
		}
	}
	w.do(exit, later)
	w.do(PeriodOrder{Do: "post", Period: "week-1"}, later)
	for i := range 9 {
		w.houses["oaxaca"].bed(fmt.Sprint("guest-", i), "vermont", 2, 20766)
	}
	w.send("oaxaca")
	w.closed("week-2", later)
	var first, second *feed.Release
	w.serving(func() { first, second = released(t, w.reported("week-1")), released(t, w.reported("week-2")) })
	if first.DisputesOpened != 2 || first.DisputesClosed != 1 || first.Statement < 2 || len(exit.Choices) == 0 {
		t.Fatalf("%+v", first)
	}
	if got := figure(t, second, "night", "oaxaca", "bed"); got == nil || *got != 18 {
		t.Fatalf("nights at oaxaca: %v", got)
	}
	if a := must(w.x.Do(t.Context(), Order{Verify: true})); !a.Report.OK || a.Report.Releases != 2 {
		t.Fatalf("%+v", a.Report)
	}
}
