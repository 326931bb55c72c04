package feed

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// books makes a journal of n entries over three periods whose seals are the running balances, kept here a second time.
func books(seed uint64, n int) *Journal {
	r := rand.New(rand.NewPCG(seed, 7))
	j := &Journal{Network: "kith", Units: []Unit{{"minute", 0}, {"bed-night", 0}, {"eur", 2}}}
	nodes := []string{"lisbon", "porto", "forest", "harbour", "mill"}
	var paths []string
	for i, node := range nodes {
		paths = append(paths, "kith/"+node, "kith/"+node+"/~due/"+nodes[(i+1)%len(nodes)])
		for m := range 40 {
			paths = append(paths, fmt.Sprintf("kith/%s/m%d", node, m))
		}
	}
	paths = append(paths, "kith/~commons", "kith/~conversion", "kith/~rounding")
	balances := map[account]int64{}
	const start = 20758 // 2026-11-01
	for i := range n {
		e := Entry{Seq: uint64(i), ID: fmt.Sprintf("%064x", i*7919+int(seed)), Code: "booked", Kind: "post", Standing: "fact", Journal: "kith.example/front/ab",
			Index: uint64(i), Rule: "v3", At: int64(start+i*90/max(n, 1))*dayMS + r.Int64N(dayMS) - r.Int64N(9)*dayMS}
		switch r.IntN(20) {
		case 0:
			e.Kind = "hold"
		case 1:
			e.Kind, e.Ref = "void", strings.Repeat("ab", 32)
		case 2:
			e.Code = "refused-limit"
		case 3:
			e.Kind, e.Ref, e.Unsure = "settle", strings.Repeat("cd", 32), true
		}
		if e.Kind != "void" {
			unit, left := j.Units[r.IntN(3)].Name, int64(0)
			for range 1 + r.IntN(3) {
				amount := r.Int64N(2000) - 1000
				e.Postings = append(e.Postings, Posting{paths[r.IntN(len(paths))], unit, amount})
				left += amount
			}
			e.Postings = append(e.Postings, Posting{paths[r.IntN(len(paths))], unit, -left})
		}
		if e.moves() {
			for _, p := range e.Postings {
				balances[account{p.Path, p.Unit}] += p.Amount
			}
		}
		j.Entries = append(j.Entries, e)
		if third := max(n/3, 1); (i+1)%third == 0 && len(j.Closings) < 3 {
			k := Closing{Period: fmt.Sprintf("2026-%02d", 11+len(j.Closings)), Day: int32(start + 30*(len(j.Closings)+1)), After: uint64(i + 1), Root: strings.Repeat("0e", 32)}
			for a, v := range balances {
				k.Balances = append(k.Balances, Balance{Path: a.path, Unit: a.unit, Amount: v})
			}
			j.Closings = append(j.Closings, k)
		}
	}
	return j
}

// hostile turns every name into something that means mischief in one of the formats.
func hostile(j *Journal) *Journal {
	nasty := strings.NewReplacer("minute", "a\";b\n2026-01-01 * x", "lisbon", "=cmd|' /C calc'!A0", "porto", "  ;(x)", "forest", "", "harbour",
		"[2026-01-01]", "mill", "\xff\u202e%\\", "m1", "* \"q\"\n", "m2", "-1", "m3", "A:B:", "m4", "ÄÖ")
	out := *j
	out.Network = "net\nwork; \"x\""
	out.Units, out.Entries, out.Closings = nil, nil, nil
	for _, u := range j.Units {
		out.Units = append(out.Units, Unit{nasty.Replace(u.Name), u.Scale})
	}
	for _, e := range j.Entries {
		e.Journal, e.Rule, e.Standing = "j :tag: [2020-01-01]\n", "r: x", "\n"
		posts := e.Postings
		e.Postings = nil
		for _, p := range posts {
			e.Postings = append(e.Postings, Posting{nasty.Replace(p.Path), nasty.Replace(p.Unit), p.Amount})
		}
		out.Entries = append(out.Entries, e)
	}
	for _, k := range j.Closings {
		balances := k.Balances
		k.Balances = nil
		for _, b := range balances {
			k.Balances = append(k.Balances, Balance{Path: nasty.Replace(b.Path), Unit: nasty.Replace(b.Unit), Amount: b.Amount})
		}
		out.Closings = append(out.Closings, k)
	}
	return &out
}

var checkers = []struct {
	name, debian, file string
	write              func(io.Writer, *Journal) error
	args               []string
}{
	{"hledger", "hledger", "books.journal", WriteLedger, []string{"check", "-s", "-f"}},
	{"ledger", "ledger", "books.journal", WriteLedger, []string{"--args-only", "--strict", "--pedantic", "balance", "-f"}},
	{"bean-check", "beancount", "books.beancount", WriteBeancount, []string{"--no-cache"}},
}

// ask lets one program judge a text.
func ask(t *testing.T, which int, text []byte) (string, error) {
	t.Helper()
	c := checkers[which]
	path, err := exec.LookPath(c.name)
	if err != nil {
		if os.Getenv("KITH_PEERS") == "required" {
			t.Fatalf("%s (Debian package %s) is missing and KITH_PEERS=required", c.name, c.debian)
		}
		t.Skipf("SKIP: %s missing (Debian package %s), the export was not checked by it", c.name, c.debian)
	}
	file := filepath.Join(t.TempDir(), c.file)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), path, append(append([]string{}, c.args...), file)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running %s: %v", c.name, err)
	}
	return string(said), err
}

func written(t testing.TB, write func(io.Writer, *Journal) error, j *Journal) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, j); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A hundred thousand lines pass; then one unit more in one posting, or in one assertion, must not.
func TestAccountingProgramsAcceptTheBooksAndNoOthers(t *testing.T) {
	j := books(1, 17_800)
	for i, c := range checkers {
		t.Run(c.name, func(t *testing.T) {
			text := written(t, c.write, j)
			if n := bytes.Count(text, []byte("\n")); n < 100_000 {
				t.Fatalf("the export has %d lines only", n)
			}
			if said, err := ask(t, i, text); err != nil {
				t.Fatalf("refused: %v\n%.2000s", err, said)
			}
		})
	}
	small := books(2, 60)
	for i, c := range checkers {
		t.Run(c.name+" catches", func(t *testing.T) {
			text := string(written(t, c.write, small))
			if said, err := ask(t, i, []byte(text)); err != nil {
				t.Fatalf("refused before any change: %v\n%.2000s", err, said)
			}
			posting, assertion, pair := tampered(t, text)
			for name, bad := range map[string]string{"a posting one more": posting, "an assertion one more": assertion, "two postings moved by one": pair} {
				if _, err := ask(t, i, []byte(bad)); err == nil {
					t.Errorf("%s is not noticed", name)
				}
			}
		})
	}
}

// tampered changes an amount by one in three ways: one posting, one assertion, and two postings so that the entry still
// balances and only the closing can tell.
func tampered(t *testing.T, text string) (posting, assertion, pair string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	bump := func(at int, by int64) string {
		f := strings.Fields(lines[at])
		where := len(f) - 2
		var n int64
		if _, err := fmt.Sscan(f[where], &n); err != nil {
			t.Fatalf("line %q: %v", lines[at], err)
		}
		cut := strings.LastIndex(lines[at], f[where])
		return lines[at][:cut] + fmt.Sprint(n+by) + lines[at][cut+len(f[where]):]
	}
	with := func(changes map[int]string) string {
		c := append([]string{}, lines...)
		for at, line := range changes {
			c[at] = line
		}
		return strings.Join(c, "\n")
	}
	isPosting := func(s string) bool {
		f := strings.Fields(s)
		return strings.HasPrefix(s, "  ") && len(f) == 3 && strings.Contains(f[0], ":") && !strings.HasSuffix(f[0], ":")
	}
	for i := range lines {
		if posting == "" && isPosting(lines[i]) && isPosting(lines[i+1]) && strings.Fields(lines[i])[0] != strings.Fields(lines[i+1])[0] {
			posting = with(map[int]string{i: bump(i, 1)})
			pair = with(map[int]string{i: bump(i, 1), i + 1: bump(i+1, -1)})
		}
		if assertion == "" && (strings.Contains(lines[i], " = ") || strings.Contains(lines[i], " balance ")) {
			assertion = with(map[int]string{i: bump(i, 1)})
		}
	}
	if posting == "" || assertion == "" || pair == "" {
		t.Fatal("nothing to tamper with")
	}
	return posting, assertion, pair
}

func TestHostileNamesStayNames(t *testing.T) {
	j := hostile(books(3, 300))
	for i, c := range checkers {
		t.Run(c.name, func(t *testing.T) {
			text := written(t, c.write, j)
			if said, err := ask(t, i, text); err != nil {
				t.Fatalf("refused: %v\n%.3000s", err, said)
			}
			tidy := written(t, c.write, books(3, 300))
			if got, want := bytes.Count(text, []byte("\n")), bytes.Count(tidy, []byte("\n")); got != want {
				t.Errorf("%d lines, with plain names %d: a name broke out of its line", got, want)
			}
		})
	}
}

// The programs themselves say what they read: their balances are the sealed ones.
func TestBalancesReadByHledgerAreTheSealedOnes(t *testing.T) {
	if _, err := exec.LookPath("hledger"); err != nil {
		ask(t, 0, nil)
	}
	j := books(4, 300)
	last := j.Closings[2]
	file := filepath.Join(t.TempDir(), "books.journal")
	if err := os.WriteFile(file, written(t, WriteLedger, j), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "hledger", "-f", file, "balance", "--flat", "-E", "-O", "csv", "-N", "--layout=bare").Output()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	got := map[account]string{}
	for _, row := range rows[1:] {
		got[account{row[0], row[1]}] = row[2]
	}
	for _, b := range last.Balances {
		if b.Amount != 0 && got[account{plainPath(b.Path), b.Unit}] != fmt.Sprint(b.Amount) {
			t.Errorf("%s in %s: hledger reads %q, sealed is %d", b.Path, b.Unit, got[account{plainPath(b.Path), b.Unit}], b.Amount)
		}
	}
}

var exports = map[string]func(io.Writer, *Journal) error{"ledger": WriteLedger, "beancount": WriteBeancount, "csv": WriteCSV,
	"balances": WriteBalancesCSV, "jsonl": WriteJSONLines}

func shuffled(r *rand.Rand, j *Journal) *Journal {
	c := *j
	c.Units, c.Entries, c.Closings = append([]Unit{}, j.Units...), append([]Entry{}, j.Entries...), append([]Closing{}, j.Closings...)
	r.Shuffle(len(c.Units), func(a, b int) { c.Units[a], c.Units[b] = c.Units[b], c.Units[a] })
	r.Shuffle(len(c.Entries), func(a, b int) { c.Entries[a], c.Entries[b] = c.Entries[b], c.Entries[a] })
	r.Shuffle(len(c.Closings), func(a, b int) { c.Closings[a], c.Closings[b] = c.Closings[b], c.Closings[a] })
	for i := range c.Closings {
		list := append([]Balance{}, c.Closings[i].Balances...)
		r.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
		c.Closings[i].Balances = list
	}
	return &c
}

func TestOrderOfTheInputChangesNoByte(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for seed := range uint64(20) {
		j := books(seed, 40)
		for name, write := range exports {
			if a, b := written(t, write, j), written(t, write, shuffled(r, j)); !bytes.Equal(a, b) {
				t.Fatalf("%s: other order, other bytes", name)
			}
		}
	}
}

// A second period exported alone starts from the first one's seal and ends at its own.
func TestAPeriodAloneStartsFromTheSealBefore(t *testing.T) {
	j := books(6, 300)
	part := &Journal{Network: j.Network, Units: j.Units, Opening: &j.Closings[0], Closings: j.Closings[1:2]}
	for _, e := range j.Entries {
		if e.Seq >= j.Closings[0].After && e.Seq < j.Closings[1].After {
			part.Entries = append(part.Entries, e)
		}
	}
	for i, c := range checkers {
		t.Run(c.name, func(t *testing.T) {
			if said, err := ask(t, i, written(t, c.write, part)); err != nil {
				t.Fatalf("refused: %v\n%.2000s", err, said)
			}
		})
	}
	part.Entries = append(part.Entries, j.Entries[0])
	if err := WriteLedger(io.Discard, part); !errors.Is(err, ErrJournal) {
		t.Errorf("an entry from before the opening: %v", err)
	}
}

// Two closings on one day, a closing of nothing, and clocks that are wrong by centuries.
func TestOddDatesStayInTheirPeriod(t *testing.T) {
	post := func(seq uint64, at int64) Entry {
		return Entry{Seq: seq, ID: fmt.Sprint(seq), Code: "booked", Kind: "post", At: at, Postings: []Posting{{"n/a", "u1", 5}, {"n/b", "u1", -5}}}
	}
	seal := func(period string, after uint64, day int32, amount int64) Closing {
		return Closing{Period: period, After: after, Day: day, Balances: []Balance{{Path: "n/a", Unit: "u1", Amount: amount}, {Path: "n/b", Unit: "u1", Amount: -amount}}}
	}
	j := &Journal{Network: "n", Units: []Unit{{"u1", 0}}, Entries: []Entry{post(0, 1<<62), post(1, -1<<62), post(2, 20800*dayMS), post(3, 0)},
		Closings: []Closing{seal("a", 1, 20758, 5), seal("b", 2, 20758, 10), seal("c", 2, 20758, 10), seal("d", 3, 20700, 15)}}
	for i, c := range checkers {
		t.Run(c.name, func(t *testing.T) {
			if said, err := ask(t, i, written(t, c.write, j)); err != nil {
				t.Fatalf("refused: %v\n%.2000s", err, said)
			}
		})
	}
}

func TestWhatDoesNotHoldTogetherIsNotExported(t *testing.T) {
	entry := func(p ...Posting) *Journal {
		return &Journal{Units: []Unit{{"u", 0}, {"v", 0}}, Entries: []Entry{{Code: "booked", Kind: "post", Postings: p}}}
	}
	for name, c := range map[string]struct {
		j    *Journal
		want error
	}{
		"unbalanced":       {entry(Posting{"a", "u", 1}, Posting{"b", "u", -2}), ErrBalance},
		"across units":     {entry(Posting{"a", "u", 1}, Posting{"b", "v", -1}), ErrBalance},
		"sum wraps":        {entry(Posting{"a", "u", -1 << 63}, Posting{"b", "u", -1 << 63}, Posting{"c", "u", 0}), ErrBalance},
		"unknown unit":     {entry(Posting{"a", "w", 0}), ErrJournal},
		"account unnamed":  {entry(Posting{"", "u", 0}), ErrJournal},
		"name too long":    {entry(Posting{strings.Repeat("x", MaxNameBytes+1), "u", 0}), ErrJournal},
		"place twice":      {&Journal{Entries: []Entry{{Seq: 1}, {Seq: 1}}}, ErrJournal},
		"unit twice":       {&Journal{Units: []Unit{{"u", 0}, {"u", 1}}}, ErrJournal},
		"period twice":     {&Journal{Closings: []Closing{{Period: "a"}, {Period: "a", After: 1}}}, ErrJournal},
		"sealed unevenly":  {&Journal{Units: []Unit{{"u", 0}}, Closings: []Closing{{Balances: []Balance{{Path: "a", Unit: "u", Amount: 1}}}}}, ErrBalance},
		"sealed twice":     {&Journal{Units: []Unit{{"u", 0}}, Closings: []Closing{{Balances: []Balance{{Path: "a", Unit: "u"}, {Path: "a", Unit: "u"}}}}}, ErrJournal},
		"closed too early": {&Journal{Opening: &Closing{Period: "o", After: 4}, Closings: []Closing{{Period: "a", After: 3}}}, ErrJournal},
	} {
		for format, write := range exports {
			if err := write(io.Discard, c.j); !errors.Is(err, c.want) {
				t.Errorf("%s as %s: %v, want %v", name, format, err, c.want)
			}
		}
	}
}

func TestCSVIsNoFormulaAndReadsBackAsWritten(t *testing.T) {
	j := hostile(books(7, 60))
	text := written(t, WriteCSV, j)
	if !bytes.HasSuffix(text, []byte("\r\n")) {
		t.Error("the last row is not ended as RFC 4180 wants it")
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want, at := 0, map[string]int{}
	for i, name := range rows[0] {
		at[name] = i
	}
	for _, e := range j.Entries {
		want += max(len(e.Postings), 1)
	}
	if len(rows)-1 != want {
		t.Fatalf("%d rows for %d postings", len(rows)-1, want)
	}
	for _, row := range rows[1:] {
		for name, i := range at {
			if v := strings.TrimLeft(row[i], " "); name != "amount" && v != "" && strings.ContainsRune("=+-@\t\r\n", rune(v[0])) {
				t.Fatalf("column %s begins like a formula: %q", name, row[i])
			}
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"lisbon", "=1+1", "a\"b", "x\ny", "", "~due", "0Xff", "_2F", "é", "\xff", "'", "|", "-", "a  b"} {
		f.Add(s, "other")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if (plainName(a) == plainName(b)) != (a == b) || (beanPart(a) == beanPart(b)) != (a == b) || (beanUnit(a) == beanUnit(b)) != (a == b) {
			t.Fatalf("%q and %q share a name", a, b)
		}
		for _, c := range plainName(a) {
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.~-_", c) {
				t.Fatalf("%q is written with %q", a, c)
			}
		}
		if p := beanPart(a); strings.Trim(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") != "" || p[0] >= 'a' || p[0] == '-' {
			t.Fatalf("%q is part %q", a, p)
		}
		if u := beanUnit(a); len(u) > maxBeanUnitBytes || u[0] < 'A' || u[0] > 'Z' {
			t.Fatalf("%q is unit %q", a, u)
		}
		row, err := csv.NewReader(strings.NewReader("x," + cell(a) + ",y\r\n")).Read()
		if err != nil || len(row) != 3 {
			t.Fatalf("%q as a cell: %v %q", a, err, row)
		}
		back := row[1]
		if strings.HasPrefix(back, "'") {
			back = back[1:]
		}
		norm := strings.NewReplacer("\r\n", "\n") // encoding/csv reads line ends in quotes so
		if want := strings.ToValidUTF8(a, "\uFFFD"); norm.Replace(back) != norm.Replace(want) {
			t.Fatalf("%q reads back as %q", want, back)
		}
	})
}

func flows() *Flows {
	return &Flows{Network: "kith", Flows: []Flow{
		{ID: "j/3", Action: "use", Place: "porto", Home: "lisbon", Resource: "bed", Quantity: 2, Unit: "night", Day: 20760, Evidence: "A"},
		{ID: "j/1", Action: "work", Place: "porto", Home: "lisbon", Resource: "cooking", Quantity: 90, Unit: "minute", Day: 20759, Evidence: "B"},
		{ID: "j/2", Action: "deliver-service", Place: "lisbon", Home: "porto", Resource: "repair", Quantity: 1, Unit: "piece", Day: 20759},
	}, Claims: []Claim{{ID: "o2", Debtor: "lisbon", Creditor: "porto", Unit: "hour", Amount: 20, Day: 20760, TriggeredBy: "j/3"},
		{ID: "o1", Debtor: "porto", Creditor: "lisbon", Unit: "hour", Amount: 9, Day: 20759, TriggeredBy: "j/1"}},
		Discharges: []Discharge{{Claim: "o2", Period: "2026-11", Day: 20788, Amount: 9}, {Claim: "o1", Period: "2026-11", Day: 20788, Amount: 9}}}
}

func TestValueFlowsNamesBothSidesAndWhatIsSettled(t *testing.T) {
	var b bytes.Buffer
	f := flows()
	if err := WriteValueFlows(&b, f); err != nil {
		t.Fatal(err)
	}
	var d vfDocument
	if err := json.Unmarshal(b.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	work, service, use := d.Events[0], d.Events[1], d.Events[2]
	if work.Provider != "lisbon" || work.Receiver != "porto" || work.Effort == nil || work.Effort.Value != 90 || work.Resource != nil {
		t.Errorf("work: %+v", work)
	}
	if service.Action != "deliverService" || service.Provider != "porto" || service.Resource == nil {
		t.Errorf("service: %+v", service)
	}
	if use.Provider != "porto" || use.Receiver != "lisbon" || use.Effort == nil {
		t.Errorf("use: %+v", use)
	}
	if !d.Claims[0].Finished || d.Claims[1].Finished || d.Claims[1].Provider != "lisbon" {
		t.Errorf("claims: %+v", d.Claims)
	}
	f.Flows[0], f.Flows[2] = f.Flows[2], f.Flows[0]
	f.Claims[0], f.Claims[1] = f.Claims[1], f.Claims[0]
	f.Discharges[0], f.Discharges[1] = f.Discharges[1], f.Discharges[0]
	var again bytes.Buffer
	if err := WriteValueFlows(&again, f); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Errorf("other order, other bytes (%v)", err)
	}
	f.Discharges[0].Amount = 100
	if err := WriteValueFlows(io.Discard, f); !errors.Is(err, ErrFlow) {
		t.Errorf("more settled than owed: %v", err)
	}
	f.Flows[0].Action = "steal"
	if err := WriteValueFlows(io.Discard, f); !errors.Is(err, ErrFlow) {
		t.Errorf("an unknown verb: %v", err)
	}
}
