package web

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
)

// drawn stands for a finished drawing as the room of the drawings writes it.
type drawn string

func (d drawn) Figure() ([]byte, error) { return []byte(d), nil }

type undrawn struct{}

func (undrawn) Figure() ([]byte, error) { return nil, errors.New("cannot be drawn") }

const storyFigure = `<figure class="debts"><div class="halves"><svg class="half" viewBox="0 0 480 430" role="img" aria-label="Before"><g class="owed" fill="currentColor"><circle cx="240" cy="215" r="90"/></g>` +
	`<text x="240" y="26" text-anchor="middle" stroke="Canvas" stroke-width="4" paint-order="stroke">Lisbon</text></svg>` +
	`<svg class="half" viewBox="0 0 480 430" role="img" aria-label="After"><g class="left" fill="currentColor"><circle cx="240" cy="215" r="30"/></g></svg></div>` +
	`<details><summary>The same as a table</summary><table><thead><tr><th scope="col">Owes</th><th scope="col">To</th><th scope="col">Before</th><th scope="col">After</th></tr></thead>` +
	`<tbody><tr><th scope="row">Lisbon</th><td>Oaxaca</td><td>33</td><td>13</td></tr></tbody></table></details></figure>`

func storyPeriod() Period {
	debts, err := Draw(drawn(storyFigure))
	if err != nil {
		panic(err)
	}
	return Period{Day: "21 November 2026", Entries: 41, Asides: []Aside{{2, "of a house's <b>own</b>"}}, Missing: []string{"Forest camp", hostile},
		Units: []PeriodUnit{{Name: "night", Gross: 33, Goes: 20, Debts: debts, Nodes: []PeriodNode{{"Casa da Graça", 12, 9}, {hostile, 3, 0}, {strings.Repeat("Wolfeschlegelsteinhausen", 4), 1, 2}}},
			{Name: "work-hour", Scale: 2, Gross: 1234567, Goes: 1234562, Debts: debts, Nodes: []PeriodNode{{"Kyōto Machiya", 5, 1234567}}}},
		Posted: []PostedPeriod{{"week-2", "2026-11-14", strings.Repeat("c0ffee12", 8)}, {Name: "week-1"}}}
}

func (s *story) Period(context.Context) (Period, error) { return s.now, s.fail }

func TestThePeriodIsOnItsPageWithTheCommandThatRecomputesIt(t *testing.T) {
	b := get(t, newWeb(t, newStory()).Handler(), "/period").Body.String()
	last := 0
	for _, want := range []string{`aria-current="page">Period</a>`, "41 entries</strong> so far, up to 21 November 2026", "Nothing co-signed yet from", "Forest camp", "2 of a house&#39;s &lt;b&gt;own&lt;/b&gt;.", "Night",
		"<dt>owed</dt><dd>33</dd>", "<dt>goes round</dt><dd>20</dd>", "<dt>left</dt><dd>13</dd>", `<figure class="debts">`, "The same as a table", "Casa da Graça</th><td>12</td><td>9</td>",
		"Work hour", "<dd>12\u202f345.67</dd>", "<dd>0.05</dd>", "<td>0.05</td>", "week-2", "c0ffee12", "hub period bundle --out week-2.tar week-2\nhub verify week-2.tar", "hub verify week-1.tar"} {
		i := strings.Index(b[last:], want)
		if i < 0 {
			t.Fatalf("%q is missing or out of order in %s", want, b[last:])
		}
		last += i
	}
	if strings.Contains(b, "<script>") || strings.Count(b, "&lt;script&gt;alert(1)") != 2 {
		t.Error("a hostile name is not shown as text")
	}
	if front := get(t, newWeb(t, newStory()).Handler(), "/").Body.String(); !strings.Contains(front, `href="/period"`) {
		t.Error("the front page does not lead to the period")
	}
}

func TestAPeriodWithoutADraftSaysWhy(t *testing.T) {
	s := newStory()
	s.now = Period{Wait: "Period <b>x</b> is being closed.", Posted: []PostedPeriod{{Name: "week-1"}}}
	b := get(t, newWeb(t, s).Handler(), "/period").Body.String()
	if !strings.Contains(b, "Period &lt;b&gt;x&lt;/b&gt; is being closed.") || strings.Contains(b, "so far") || strings.Contains(b, "owes another") || !strings.Contains(b, "hub verify week-1.tar") {
		t.Error(b)
	}
	s.now = Period{Day: "21 November 2026"}
	if b = get(t, newWeb(t, s).Handler(), "/period").Body.String(); !strings.Contains(b, "No house owes another anything yet") || !strings.Contains(b, "None yet.") {
		t.Error(b)
	}
	s.fail = errors.New("disk")
	if w := get(t, newWeb(t, s).Handler(), "/period"); w.Code != 500 || strings.Contains(w.Body.String(), "disk") {
		t.Error(w.Code)
	}
	if _, err := Draw(undrawn{}); err == nil {
		t.Error("a figure that could not be drawn was kept")
	}
}

func TestAmountsShowEveryDigit(t *testing.T) {
	for _, c := range []struct {
		n     int64
		scale int
		want  string
	}{{0, 0, "0"}, {7, 0, "7"}, {1234, 0, "1\u202f234"}, {12345, 0, "12\u202f345"}, {-7, 0, "\u22127"}, {0, 2, "0.00"}, {5, 2, "0.05"}, {-5, 2, "\u22120.05"}, {100, 2, "1.00"}, {1234567, 2, "12\u202f345.67"},
		{123, 6, "0.000123"}, {math.MinInt64, 0, "\u22129\u202f223\u202f372\u202f036\u202f854\u202f775\u202f808"}} {
		if have := amount(c.n, c.scale); have != c.want {
			t.Errorf("%d of scale %d: have %q, want %q", c.n, c.scale, have, c.want)
		}
	}
}
