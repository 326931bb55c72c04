package feed

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestWhatIsNobodysCountsForTheLargestAndForNoHead(t *testing.T) {
	for name, c := range map[string]struct {
		parts map[string]int64
		want  Group
	}{
		"five":               {map[string]int64{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, Group{15, 5, 5}},
		"four and a ghost":   {map[string]int64{"a": 1, "b": 2, "c": 3, "d": 4, "": 5}, Group{15, 4, 9}},
		"ghosts alone":       {map[string]int64{"": 5}, Group{5, 1, 5}},
		"nobody did much":    {map[string]int64{"a": 0, "": 0}, Group{}},
		"one took it back":   {map[string]int64{"a": 0, "b": 2}, Group{2, 1, 2}},
		"nothing whatever":   {nil, Group{}},
		"as much as it fits": {map[string]int64{"a": math.MaxInt64 - 1, "": 1}, Group{math.MaxInt64, 1, math.MaxInt64}},
	} {
		if got, err := Behind(c.parts); err != nil || got != c.want {
			t.Errorf("%s: %+v %v, want %+v", name, got, err, c.want)
		}
	}
	for name, parts := range map[string]map[string]int64{"below zero": {"a": -1}, "too much": {"a": math.MaxInt64, "b": 1}} {
		if _, err := Behind(parts); !errors.Is(err, ErrCells) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Forgetting people may hide figures and must never uncover one: else an erasure would undo what a report withheld.
func TestForgettingPeopleUncoversNoSmallGroup(t *testing.T) {
	hidden := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 17))
		var list []Contribution
		for range 1 + r.IntN(40) {
			list = append(list, Contribution{fmt.Sprint("h", r.IntN(3)), fmt.Sprint("k", r.IntN(2)), fmt.Sprint("p", r.IntN(9)), 1 + r.Int64N(20)})
		}
		gone := fmt.Sprint("p", r.IntN(9))
		forgotten := append([]Contribution{}, list...)
		for i := range forgotten {
			if forgotten[i].Member == gone {
				forgotten[i].Member = ""
			}
		}
		before, err := Tally(list)
		if err != nil {
			t.Fatal(err)
		}
		after, err := Tally(forgotten)
		if err != nil || len(after) != len(before) {
			t.Fatalf("%v: %d cells, were %d", err, len(after), len(before))
		}
		rule := DefaultPrivacy()
		for i, b := range before {
			a := after[i]
			was, is := rule.shows(b.Amount, b.Largest, b.Members), rule.shows(a.Amount, a.Largest, a.Members)
			if a.Amount != b.Amount || is && !was {
				t.Fatalf("seed %d: %+v was withheld and became %+v", seed, b, a)
			}
			if was && !is {
				hidden++
			}
		}
	}
	if hidden == 0 {
		t.Error("nothing was ever hidden: this proves nothing")
	}
}

// Prices are public: what is owed less what was delivered at those prices is the sum of whatever stands on one side only.
// A row whose difference is of a few people would publish them.
func TestARowThatTellsAFewPeopleByADifferenceIsWithheld(t *testing.T) {
	var list []Contribution
	for m := range 8 {
		list = append(list, Contribution{"a", "bed", fmt.Sprint("m", m), 3}, Contribution{"b", "bed", fmt.Sprint("m", m), 2})
	}
	list = append(list, Contribution{"a", "bed", "m0", 4}) // at home: delivered, and owed by nobody
	cells, err := Tally(list)
	if err != nil {
		t.Fatal(err)
	}
	with := func(apart ...Group) *Release {
		rep := &Report{Network: "n", Period: "2026-11", From: november, To: november + 29, Privacy: DefaultPrivacy(), Houses: []House{{ID: "a"}, {ID: "b"}},
			Measures: []Measure{{Unit: "night", Cells: cells}},
			Clearing: []Clearing{{Unit: "night", Gross: 40, Cleared: 30, Members: 8, Largest: 5, Kinds: []string{"bed"}, Apart: apart}},
			Pool:     []Pool{{"night", 2, 0, 2, 1}}}
		out, err := rep.Release(nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	attack := func(out *Release) []string {
		s := newSystem()
		for _, f := range out.Delivered[0].Figures {
			if f.Node == All && f.Kind == "bed" {
				s.publish("bed", f.Delivered)
			}
		}
		s.publish("gross", out.Clearing[0].Gross)
		s.equal(term{"bed", 1}, term{"gross", -1}, term{"at home", -1})
		return s.solved(t)
	}
	if found := attack(with()); len(found) != 1 || found[0] != "at home" {
		t.Fatalf("without the rule the difference follows: %v", found)
	}
	out := with(Group{4, 1, 4})
	if found := attack(out); len(found) > 0 || out.Clearing[0].Gross != nil || out.Pool[0].In != nil {
		t.Fatalf("%v follows; %+v", found, out.Clearing[0])
	}
	for name, groups := range map[string][]Group{"many": {{12, 6, 4}}, "none": {{}}, "many, with what was carried": {{12, 6, 4}, {15, 7, 4}}} {
		if with(groups...).Clearing[0].Gross == nil {
			t.Errorf("%s: withheld", name)
		}
	}
	if with(Group{}, Group{5, 2, 3}).Clearing[0].Gross != nil {
		t.Error("a difference with what was carried tells two people")
	}
	bad := &Report{Network: "n", Period: "p", From: 1, To: 2, Privacy: DefaultPrivacy(), Clearing: []Clearing{{Unit: "u", Apart: []Group{{9, 2, 3}}}}}
	if _, err := bad.Release(nil); !errors.Is(err, ErrCells) {
		t.Errorf("a group that cannot be: %v", err)
	}
}

func TestAReportOpensOnlyWithTheTextsThatItsNoteNames(t *testing.T) {
	out, f := filesOf(t, story(t), nil)
	r, err := f.Open()
	if err != nil || r.Period != out.Period {
		t.Fatalf("%v %+v", err, r)
	}
	if f.HTML = append([]byte(nil), f.HTML...); true { // written in other words by a later program: it stands as it was published
		f.HTML = bytes.Replace(f.HTML, []byte("<body>"), []byte("<body >"), 1)
		f.Note = f.note(out)
		if _, err := f.Open(); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(*Files){
		"Markdown": func(f *Files) { f.Markdown = append(f.Markdown, ' ') },
		"page":     func(f *Files) { f.HTML = f.HTML[1:] },
		"JSON":     func(f *Files) { f.JSON = bytes.Replace(f.JSON, []byte(`"breaches": 1`), []byte(`"breaches": 2`), 1) },
		"note":     func(f *Files) { f.Note = bytes.Replace(f.Note, []byte("2026-11"), []byte("2026-12"), 1) },
		"long":     func(f *Files) { f.Note = append(f.Note, "more\n"...) },
		"short":    func(f *Files) { f.Note = f.Note[:20] },
		"no JSON":  func(f *Files) { f.JSON = nil },
	} {
		_, g := filesOf(t, story(t), nil)
		change(g)
		if _, err := g.Open(); !errors.Is(err, ErrReport) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

func TestTwoPeriodsMayBeCutOnOneDay(t *testing.T) {
	first, second := story(t), story(t)
	out, err := first.Release(nil)
	if err != nil {
		t.Fatal(err)
	}
	second.Period, second.From = "2026-11b", second.To
	if _, err := second.Release(out); err != nil {
		t.Errorf("cut on the same day: %v", err)
	}
	if second.To--; true {
		second.From = second.To
	}
	if _, err := second.Release(out); !errors.Is(err, ErrReport) {
		t.Errorf("cut before the one before: %v", err)
	}
}

// FuzzParseRelease: what is read back is exactly what would be written.
func FuzzParseRelease(f *testing.F) {
	_, files := filesOf(f, story(f), nil)
	f.Add(files.JSON)
	f.Add([]byte(`{"format":"kith-report v1"}`))
	f.Add([]byte(strings.Replace(string(files.JSON), `"network"`, `"Network"`, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRelease(b)
		if err != nil {
			return
		}
		if again, err := r.json(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("a second spelling was accepted: %q", b)
		}
		if _, err := r.Files(); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}
