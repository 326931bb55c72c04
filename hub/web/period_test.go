package web

import (
	"context"
	"errors"
	"fmt"
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
	field := func(name, label, text, now, fault string) Field { return Field{name, label, text, now, fault} }
	return Period{Day: "21 November 2026", Entries: 41, Asides: []Aside{{2, "of a house's <b>own</b>"}}, Missing: []string{"Forest camp", hostile},
		Units: []PeriodUnit{{Name: "night", Gross: 33, Goes: 20, Debts: debts, Nodes: []PeriodNode{{"Casa da Graça", 12, 9}, {hostile, 3, 0}, {strings.Repeat("Wolfeschlegelsteinhausen", 4), 1, 2}}},
			{Name: "work-hour", Scale: 2, Gross: 1234567, Goes: 1234562, Debts: debts, Nodes: []PeriodNode{{"Kyōto Machiya", 5, 1234567}}}},
		Trials: []Trial{{Unit: "night", Dues: field("dues", "Dues to the pool", "10 %", "5 %", ""), Prices: []Field{field("price.use.bed", "Bed, used, per night", "1", "1", "")},
			Limits: []LimitFields{{House: "Casa da Graça", Floor: field("floor.lisbon", "floor", "-10", "-10", ""), Ceiling: field("ceiling.lisbon", "ceiling", "4", "10", "")},
				{House: hostile, Floor: field("floor.hostile", "floor", "", "", ""), Ceiling: field("ceiling.hostile", "ceiling", "", "", "")}}, More: 3, Asked: true,
			Answer: &Trialled{Now: Sums{33, 20, 2}, Then: Sums{34, 17, 4}, Nodes: []TrialNode{
				{Name: "Casa da Graça", Now: Standing{Owes: 3, Pool: 2, Dues: 1, Limited: true}, Then: Standing{Owes: 9, Pool: 4, Dues: 2, Limited: true, Hit: "at its ceiling"}},
				{Name: hostile, Now: Standing{Owed: 3, Dues: 1, Hit: "below its floor"}, Then: Standing{Owed: 3, Dues: 2}}}}},
			{Unit: "work-hour", Scale: 2, Dues: field("dues", "Dues to the pool", "all of it", "", "Want a share such as 5 %."), Asked: true, Fault: "No such field: \"x\".", Wait: "Others are trying rules just now."}},
		Close:  "hub period close --state-dir '/var/lib/my hub' 2026-11-21",
		Posted: []PostedPeriod{{"week-2", "2026-11-14", strings.Repeat("c0ffee12", 8)}, {Name: "week-1"}}}
}

func (s *story) Period(_ context.Context, asked Asked) (Period, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = asked
	return s.now, s.fail
}

func TestThePeriodIsOnItsPage(t *testing.T) {
	b := get(t, newWeb(t, newStory()).Handler(), "/period").Body.String()
	inOrder(t, b, `data-live="/live"`, `aria-current="page">Period</a>`, `data-fragment="now"`, "41 entries</strong> so far, up to 21 November 2026", "Nothing co-signed yet from", "Forest camp", "2 of a house&#39;s &lt;b&gt;own&lt;/b&gt;.", "Night",
		"<dt>owed</dt><dd>33</dd>", "<dt>goes round</dt><dd>20</dd>", "<dt>left</dt><dd>13</dd>", `<figure class="debts">`, "The same as a table", "Casa da Graça</th><td>12</td><td>9</td>",
		"Work hour", "<dd>12\u202f345.67</dd>", "<dd>0.05</dd>", "<td>0.05</td>", "What if the rules were others?", `data-fragment="posted"`, `href="/period/week-2"`, "c0ffee12c0ffee12…", `href="/period/week-1"`,
		"hub period close --state-dir &#39;/var/lib/my hub&#39; 2026-11-21", "Drafted from co-signed leaves alone")
	if strings.Contains(b, "<script>") || strings.Count(b, "&lt;script&gt;alert(1)") != 4 || strings.Contains(b, "Every line here is a leaf") {
		t.Error("a hostile name is not shown as text, or the foot is another page's")
	}
	if front := get(t, newWeb(t, newStory()).Handler(), "/").Body.String(); !strings.Contains(front, `href="/period"`) || !strings.Contains(front, "Every line here is a leaf") {
		t.Error("the front page does not lead to the period, or has no foot")
	}
}

// inOrder wants texts one after the other.
func inOrder(t *testing.T, b string, texts ...string) {
	t.Helper()
	last := 0
	for _, want := range texts {
		i := strings.Index(b[last:], want)
		if i < 0 {
			t.Fatalf("%q is missing or out of order in %s", want, b[last:])
		}
		last += i
	}
}

func TestRulesAreTriedInAPlainFormAndFaultsStandBesideTheField(t *testing.T) {
	s := newStory()
	b := get(t, newWeb(t, s).Handler(), "/period?unit=night&floor.lisbon=-10&ceiling.lisbon=4&unit=twice").Body.String()
	if len(s.asked) != 3 || s.asked["unit"] != "night" || s.asked["ceiling.lisbon"] != "4" {
		t.Fatalf("%v was asked", s.asked)
	}
	inOrder(t, b, `id="try-night" open`, "<dt>owed</dt><dd>34<small>now 33</small></dd>", "<dt>goes round</dt><dd>17<small>now 20</small></dd>", "<dt>left</dt><dd>17<small>now 13</small></dd>", "<dt>dues</dt><dd>4<small>now 2</small></dd>",
		"Casa da Graça", "at its ceiling", "<td>9<small>now 3</small></td><td>0</td><td>4<small>now 2</small></td><td>2<small>now 1</small></td>", "now below its floor",
		`<form method="get" action="/period#try-night">`, `<input type="hidden" name="unit" value="night">`, `name="dues" value="10 %"`, "<small>now 5 %</small>", `name="floor.lisbon" value="-10"`, `name="ceiling.lisbon" value="4"`, "3 more houses keep their",
		"No such field: &#34;x&#34;.", "Others are trying rules just now.", `value="all of it"`, `aria-invalid="true"`, "Want a share such as 5 %.")
	if strings.Count(b, `aria-invalid="true"`) != 1 {
		t.Error("a field without a fault is marked, or one with a fault is not")
	}
	var many strings.Builder
	for i := range MaxAsked + 50 {
		fmt.Fprintf(&many, "&f%d=", i)
	}
	if get(t, newWeb(t, s).Handler(), "/period?unit=night"+many.String()); len(s.asked) > MaxAsked {
		t.Errorf("%d fields were read", len(s.asked))
	}
}

func TestAPeriodUnderWaySaysHowFarItIs(t *testing.T) {
	s := newStory()
	s.now = Period{Under: &UnderWay{Name: "week-3", State: "proposed", Number: 2, Until: storyNow.Unix(), Open: 1, Next: []Order{{"A house says yes early:", "hub period confirm --by NODE week-3"}}}}
	b := get(t, newWeb(t, s).Handler(), "/period").Body.String()
	inOrder(t, b, "<strong>week-3</strong> is being closed", `class="node yes"`, "Cut", `class="node yes"`, "Proposed", "statement 2 is out", `class="node plain"`, "Final", "(to come)", "Posted", `href="/period/week-3"`,
		"21 November 2026, 10:42 UTC", "1 dispute is undecided", "hub period confirm --by NODE week-3", "None yet.")
	if strings.Contains(b, "so far") || strings.Contains(b, "What if") {
		t.Error("there is no draft while a period is being closed")
	}
}

func TestAPeriodWithoutADraftSaysWhy(t *testing.T) {
	s := newStory()
	s.now = Period{Wait: "The policy <b>x</b> is not valid.", Posted: []PostedPeriod{{Name: "week-1"}}}
	b := get(t, newWeb(t, s).Handler(), "/period").Body.String()
	if !strings.Contains(b, "The policy &lt;b&gt;x&lt;/b&gt; is not valid.") || strings.Contains(b, "so far") || strings.Contains(b, "owes another") || !strings.Contains(b, `href="/period/week-1"`) {
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
