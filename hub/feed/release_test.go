package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// story is a month of five houses with enough life to show most of it: one figure is of two people only.
func story(t testing.TB) *Report {
	t.Helper()
	r := rand.New(rand.NewPCG(2, 3))
	houses := []House{{ID: "lisbon", Name: "Casa Lisboa"}, {ID: "porto", Name: "Ribeira"}, {ID: "forest", Name: "Waldhaus"}, {ID: "harbour", Name: "Hafen 12"},
		{ID: "mill", Name: "The Mill", Missing: true}}
	var nights, minutes []Contribution
	for h, house := range houses {
		for m := range 9 + 5*h {
			member := fmt.Sprintf("p%d", m*3+h)
			nights = append(nights, Contribution{house.ID, "bed", member, 1 + r.Int64N(6)})
			if m%2 == 0 {
				nights = append(nights, Contribution{house.ID, "sofa", member, 1 + r.Int64N(2)})
			}
			minutes = append(minutes, Contribution{house.ID, "cooking", member, 15 * (1 + r.Int64N(20))})
			if h != 3 || m < 2 {
				minutes = append(minutes, Contribution{house.ID, "repair", member, 10 * (1 + r.Int64N(30))})
			}
		}
	}
	rep := &Report{Network: "Rooted", Period: "2026-11", From: november, To: november + 29, Statement: 2, StatementDigest: strings.Repeat("5f3a", 16),
		Rules: []Rule{{"v3", november - 40, ""}, {"v4", november + 12, strings.Repeat("a1", 32)}}, Privacy: DefaultPrivacy(), Houses: houses,
		Units:          []Unit{{"hour", 2}, {"night", 0}, {"credit", 0}},
		DisputesOpened: 3, DisputesClosed: 2, Breaches: 1, Corrections: []Correction{{"2026-10", 4}, {"2026-09", 1}},
		Clearing: []Clearing{{Unit: "hour", Gross: 412350, Cleared: 348012, Members: 61, Largest: 9000, Kinds: []string{"cooking", "repair"}},
			{Unit: "night", Gross: 287, Cleared: 201, Members: 48, Largest: 12, Kinds: []string{"bed", "sofa"}},
			{Unit: "credit", Gross: 40, Cleared: 12, Members: 3, Largest: 20}},
		Pool: []Pool{{"hour", 20617, 15000, 88250, 30000}, {"night", 14, 6, 41, 18}}}
	for i, list := range [][]Contribution{nights, minutes} {
		cells, err := Tally(list)
		if err != nil {
			t.Fatal(err)
		}
		m := Measure{Unit: []string{"night", "minute"}[i], Cells: cells}
		for h, house := range houses {
			if i == 0 {
				m.Offers = append(m.Offers, Offer{house.ID, "bed", int64(60 + 30*h), int64(50 + 20*h)}, Offer{house.ID, "sofa", 30, 0})
			} else {
				m.Offers = append(m.Offers, Offer{house.ID, "cooking", 0, int64(2400 + 600*h)})
			}
		}
		rep.Measures = append(rep.Measures, m)
	}
	return rep
}

func filesOf(t testing.TB, r *Report, previous *Release) (*Release, *Files) {
	t.Helper()
	out, err := r.Release(previous)
	if err != nil {
		t.Fatal(err)
	}
	f, err := out.Files()
	if err != nil {
		t.Fatal(err)
	}
	return out, f
}

func TestTheThreeTextsSayTheSame(t *testing.T) {
	out, f := filesOf(t, story(t), nil)
	v := out.view()
	for _, c := range out.Clearing {
		for _, amount := range []*int64{c.Gross, c.Cleared, c.Left} {
			if amount == nil {
				continue
			}
			for _, text := range [][]byte{f.Markdown, f.HTML} {
				if !bytes.Contains(text, []byte(v.amount(c.Unit, *amount))) {
					t.Errorf("%s %d is missing in a text", c.Unit, *amount)
				}
			}
		}
	}
	withheld := 0
	for _, m := range out.Delivered {
		for _, figure := range m.Figures {
			if figure.Delivered == nil {
				withheld++
			}
		}
	}
	if got := strings.Count(string(f.HTML), `class="held">withheld`); withheld < 2 || got != withheld {
		t.Errorf("%d figures are withheld, the page says so %d times", withheld, got)
	}
	if !bytes.Contains(f.Markdown, []byte("348012/412350 = 84.3 %")) || !bytes.Contains(f.HTML, []byte("348012/412350")) {
		t.Error("the clearing ratio is not there as an exact fraction")
	}
	if bytes.Contains(f.JSON, []byte("member")) && strings.Count(string(f.JSON), "member") != strings.Count(string(f.JSON), "min_members") {
		t.Error("the JSON speaks of members")
	}
	for _, text := range [][]byte{f.Markdown, f.HTML, f.JSON} {
		for n := range 60 {
			if bytes.Contains(text, fmt.Appendf(nil, "\"p%d\"", n)) {
				t.Errorf("member p%d is in a public text", n)
			}
		}
	}
}

func TestTheNoteBindsAllThreeTexts(t *testing.T) {
	_, f := filesOf(t, story(t), nil)
	want := fmt.Sprintf("kith-report-note v1\nnetwork Rooted\nperiod 2026-11\nsha256 %x report.html\nsha256 %x report.json\nsha256 %x report.md\n",
		sha256.Sum256(f.HTML), sha256.Sum256(f.JSON), sha256.Sum256(f.Markdown))
	if string(f.Note) != want {
		t.Errorf("the note says\n%s\nwant\n%s", f.Note, want)
	}
}

func TestShuffledReportHasTheSameBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	_, want := filesOf(t, story(t), nil)
	for range 20 {
		rep := story(t)
		r.Shuffle(len(rep.Houses), func(a, b int) { rep.Houses[a], rep.Houses[b] = rep.Houses[b], rep.Houses[a] })
		r.Shuffle(len(rep.Units), func(a, b int) { rep.Units[a], rep.Units[b] = rep.Units[b], rep.Units[a] })
		r.Shuffle(len(rep.Measures), func(a, b int) { rep.Measures[a], rep.Measures[b] = rep.Measures[b], rep.Measures[a] })
		r.Shuffle(len(rep.Clearing), func(a, b int) { rep.Clearing[a], rep.Clearing[b] = rep.Clearing[b], rep.Clearing[a] })
		r.Shuffle(len(rep.Pool), func(a, b int) { rep.Pool[a], rep.Pool[b] = rep.Pool[b], rep.Pool[a] })
		r.Shuffle(len(rep.Rules), func(a, b int) { rep.Rules[a], rep.Rules[b] = rep.Rules[b], rep.Rules[a] })
		r.Shuffle(len(rep.Corrections), func(a, b int) {
			rep.Corrections[a], rep.Corrections[b] = rep.Corrections[b], rep.Corrections[a]
		})
		for _, m := range rep.Measures {
			r.Shuffle(len(m.Cells), func(a, b int) { m.Cells[a], m.Cells[b] = m.Cells[b], m.Cells[a] })
			r.Shuffle(len(m.Offers), func(a, b int) { m.Offers[a], m.Offers[b] = m.Offers[b], m.Offers[a] })
		}
		_, got := filesOf(t, rep, nil)
		if !bytes.Equal(got.Note, want.Note) {
			t.Fatal("other order, other bytes")
		}
	}
}

func TestAReleaseReadsBackAndNothingElseDoes(t *testing.T) {
	out, f := filesOf(t, story(t), nil)
	back, err := ParseRelease(f.JSON)
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Files()
	if err != nil || !bytes.Equal(again.Note, f.Note) {
		t.Errorf("a release read back writes other bytes (%v)", err)
	}
	for name, text := range map[string][]byte{"nothing": nil, "a space more": append([]byte(" "), f.JSON...), "a field more": bytes.Replace(f.JSON,
		[]byte("{\n"), []byte("{\n \"x\": 1,\n"), 1), "another format": bytes.Replace(f.JSON, []byte("v1"), []byte("v2"), 1), "too long": make([]byte, MaxReleaseBytes+1)} {
		if _, err := ParseRelease(text); !errors.Is(err, ErrReport) {
			t.Errorf("%s: %v", name, err)
		}
	}
	next := story(t)
	if _, err := next.Release(out); !errors.Is(err, ErrReport) {
		t.Errorf("the same period released twice: %v", err)
	}
	next.Period, next.From, next.To = "2026-12", november+30, november+60
	if _, err := next.Release(out); err != nil {
		t.Errorf("the next period: %v", err)
	}
	if next.Network = "other"; true {
		if _, err := next.Release(out); !errors.Is(err, ErrReport) {
			t.Errorf("after the release of another network: %v", err)
		}
	}
}

func TestSmallHousesPublishNoFigureOfAFew(t *testing.T) {
	few := []Contribution{{"a", "bed", "m1", 5}, {"a", "bed", "m2", 4}, {"b", "bed", "m3", 9}, {"b", "bed", "m4", 1}}
	cells, err := Tally(few)
	if err != nil {
		t.Fatal(err)
	}
	rep := &Report{Network: "n", Period: "2026-11", From: november, To: november + 29, Privacy: DefaultPrivacy(), Houses: []House{{ID: "a"}, {ID: "b"}},
		Measures: []Measure{{Unit: "night", Cells: cells}}, Clearing: []Clearing{{Unit: "night", Gross: 19, Cleared: 19, Members: 4, Largest: 9, Kinds: []string{"bed"}}},
		Pool: []Pool{{"night", 1, 0, 1, 0}}}
	out, f := filesOf(t, rep, nil)
	for _, figure := range out.Delivered[0].Figures {
		if figure.Delivered != nil {
			t.Errorf("%s of %s is published: %d", figure.Kind, figure.Node, *figure.Delivered)
		}
	}
	if out.Clearing[0].Gross != nil || out.Clearing[0].Ratio != nil || out.Pool[0].Balance != nil || out.Pool[0].Withheld != 1 {
		t.Errorf("closing and pool of four people: %+v %+v", out.Clearing[0], out.Pool[0])
	}
	var parsed map[string]any
	if err := json.Unmarshal(f.JSON, &parsed); err != nil {
		t.Fatal(err)
	}
}

func TestReportsThatDoNotHoldTogetherAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Report)
		want   error
	}{
		"no privacy rule":     {func(r *Report) { r.Privacy = Privacy{} }, ErrPrivacy},
		"rule of two":         {func(r *Report) { r.Privacy.MinMembers = 2 }, ErrPrivacy},
		"cell changed":        {func(r *Report) { r.Measures[0].Cells[5].Amount++; r.Measures[0].Cells[5].Largest++ }, ErrCells},
		"cell twice":          {func(r *Report) { r.Measures[0].Cells[1] = r.Measures[0].Cells[2] }, ErrCells},
		"cell of a stranger":  {func(r *Report) { r.Measures[0].Cells[9].Node = "moon" }, ErrCells},
		"more than members":   {func(r *Report) { r.Measures[0].Cells[0].Largest = 1 }, ErrCells},
		"kind in two":         {func(r *Report) { r.Measures[1].Offers[0].Kind = "bed" }, ErrCells},
		"offer of a stranger": {func(r *Report) { r.Measures[1].Offers[0].Node = "moon" }, ErrCells},
		"offer below zero":    {func(r *Report) { r.Measures[1].Offers[0].Offered = -1 }, ErrCells},
		"cleared too much":    {func(r *Report) { r.Clearing[0].Cleared = r.Clearing[0].Gross + 1 }, ErrReport},
		"kind of nothing":     {func(r *Report) { r.Clearing[0].Kinds = []string{"gold"} }, ErrReport},
		"house twice":         {func(r *Report) { r.Houses[1].ID = r.Houses[0].ID }, ErrReport},
		"house named all":     {func(r *Report) { r.Houses[1].ID = All }, ErrReport},
		"backward":            {func(r *Report) { r.To = r.From - 1 }, ErrReport},
		"pool below zero":     {func(r *Report) { r.Pool[0].In = -1 }, ErrReport},
	} {
		rep := story(t)
		c.change(rep)
		if _, err := rep.Release(nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := Tally([]Contribution{{"a", "bed", "m", 3}, {"a", "bed", "m", -4}}); !errors.Is(err, ErrCells) {
		t.Errorf("a contribution below zero: %v", err)
	}
}

func TestPercentagesAreNeverFlattering(t *testing.T) {
	for _, c := range []struct {
		num, den int64
		want     string
	}{{1, 3, "33.3"}, {2, 3, "66.6"}, {999_999, 1_000_000, "99.9"}, {1, 1, "100.0"}, {0, 7, "0.0"}, {1<<62 - 1, 1 << 62, "99.9"}, {1 << 62, 1, "999999.9"}, {5, 4, "125.0"}} {
		if got := percent(c.num, c.den); got != c.want {
			t.Errorf("%d/%d is written as %s, want %s", c.num, c.den, got, c.want)
		}
	}
}

// FuzzReportText puts any text where names go: it must come out as text in all three forms.
func FuzzReportText(f *testing.F) {
	for _, s := range []string{"Casa", "<script>alert(1)</script>", "a|b\n# c", "\u202egnp", "\xff", "[x](javascript:y)", "</style>", "{{.}}", "`"} {
		f.Add(s)
	}
	small := func() *Report {
		return &Report{Network: "n", Period: "p", From: november, To: november, Privacy: DefaultPrivacy(), Houses: []House{{ID: "a", Name: "A"}, {ID: "b"}},
			Units: []Unit{{"u", 2}}, Measures: []Measure{{Unit: "u", Offers: []Offer{{"a", "k", 1, 2}, {"b", "l", 1, 2}}}}, Clearing: []Clearing{{Unit: "u"}},
			Pool: []Pool{{Unit: "u"}}, Rules: []Rule{{"v", 1, ""}}, Corrections: []Correction{{"2026-10", 1}}}
	}
	_, base := filesOf(f, small(), nil)
	f.Fuzz(func(t *testing.T, s string) {
		rep := small()
		rep.Network, rep.Period, rep.Houses[0].Name, rep.Rules[0].Version = "x"+s, "x"+s, s+"x", s
		rep.Corrections[0].Period, rep.Measures[0].Offers[0].Kind = "x"+s, "x"+s
		rep.Units[0].Name, rep.Measures[0].Unit, rep.Clearing[0].Unit, rep.Pool[0].Unit = "x"+s, "x"+s, "x"+s, "x"+s
		out, err := rep.Release(nil)
		if err != nil {
			if len(s) >= MaxNameBytes {
				return
			}
			t.Fatal(err)
		}
		files, err := out.Files()
		if err != nil {
			t.Fatal(err)
		}
		if a, b := bytes.Count(base.HTML, []byte("<")), bytes.Count(files.HTML, []byte("<")); a != b {
			t.Fatalf("the page has %d tags, with plain names %d", b, a)
		}
		if a, b := bytes.Count(base.Markdown, []byte("\n")), bytes.Count(files.Markdown, []byte("\n")); a != b {
			t.Fatalf("the Markdown has %d lines, with plain names %d", b, a)
		}
		if a, b := strings.Count(string(base.Markdown), "|")-strings.Count(string(base.Markdown), "\\|"),
			strings.Count(string(files.Markdown), "|")-strings.Count(string(files.Markdown), "\\|"); a != b {
			t.Fatalf("the tables have %d bars, with plain names %d", b, a)
		}
		if !json.Valid(files.JSON) || bytes.Count(files.Note, []byte("\n")) != 6 {
			t.Fatalf("note or JSON broke: %q", files.Note)
		}
	})
}
