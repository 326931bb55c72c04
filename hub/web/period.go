package web

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"kith/internal/page"
)

// Limits of the pages about periods.
const (
	MaxAsked       = 512 // fields of one question; more do not fit into a header
	StatementLines = 200 // obligations on one page of a statement
	MaxDownloads   = 2   // bundles on their way at the same time: each is in memory
)

// Period is what the period under way would come to if it were closed now, and those that are closed.
type Period struct {
	Wait    string    // a sentence: why there is no draft
	Under   *UnderWay // a period that is being closed; there is no draft then
	Day     string    // the last that counts
	Entries int       // looked at so far
	Asides  []Aside
	Missing []string
	Units   []PeriodUnit
	Trials  []Trial        // one per unit of the policy
	Close   string         // the line that closes it, with an example of a name
	Posted  []PostedPeriod // latest first
}

// UnderWay is a period between its cut and its booking.
type UnderWay struct {
	Name   string
	State  string // cut, proposed or final
	Number int    // of the statement that is out; 0: none
	Until  int64  // it can be challenged, Unix seconds; 0: not now
	Open   int    // disputes that nobody has decided
	Next   []Order
}

// Order is a line for an operator's terminal, and what it is for.
type Order struct{ Why, Line string }

// Aside counts entries that were looked at and move nothing. Why goes on from the word "entries".
type Aside struct {
	Count int
	Why   string
}

// PeriodUnit is one unit of the draft. Amounts are in its smallest parts.
type PeriodUnit struct {
	Name        string
	Scale       int // decimal places when shown
	Gross, Goes int64
	Debts       Figure
	Nodes       []PeriodNode
}

// PeriodNode is what a node gave and took in one unit.
type PeriodNode struct {
	Name         string
	Given, Taken int64
}

// PostedPeriod is a closed one. Name is an id: it may stand in a command as it is.
type PostedPeriod struct{ Name, Day, Seal string }

// Asked are rules that a reader wants to try, as typed: the name of a field and its text, "unit" among them.
type Asked map[string]string

// Trial is one unit's rules as the fields of a form, and what the draft would come to under those that were typed.
type Trial struct {
	Unit   string
	Scale  int
	Dues   Field
	Prices []Field
	Limits []LimitFields
	More   int       // houses that have no field
	Asked  bool      // the question was about this unit
	Fault  string    // of the question as a whole
	Wait   string    // a sentence: why there is no answer
	Answer *Trialled // nil: nothing was asked, or there is no answer
}

// Field is one rule as text. Now is what the policy says.
type Field struct{ Name, Label, Text, Now, Fault string }

// LimitFields are how far a house's balance with the pool may go.
type LimitFields struct {
	House          string
	Floor, Ceiling Field
}

// Trialled compares the draft with itself under other rules.
type Trialled struct {
	Now, Then Sums
	Nodes     []TrialNode
}

// Sums of one unit.
type Sums struct{ Gross, Goes, Dues int64 }

// TrialNode is one node under both rules.
type TrialNode struct {
	Name      string
	Now, Then Standing
}

// Standing is how a node comes out of a draft.
type Standing struct {
	Owes, Owed int64 // still
	Pool       int64 // its balance with the pool
	Dues       int64
	Limited    bool
	Hit        string // the limit that it stands at, in words
}

// Periods tells how periods stand. It is asked on every look at a page and answers from memory when it can. What is not
// there is ErrUnknown.
type Periods interface {
	Period(ctx context.Context, asked Asked) (Period, error)
	Statement(ctx context.Context, q StatementQuery) (Statement, error)
	Bundle(ctx context.Context, period string) ([]byte, error) // the same bytes each time; ErrUnknown before it is posted
	Member(ctx context.Context, member, period string) (MemberStatement, error)
}

// Drawer writes HTML in which every text is escaped already.
type Drawer interface {
	Figure() ([]byte, error)
}

// Figure is a finished drawing. Only Draw makes one, so that no string of somebody's can pass for HTML.
type Figure struct{ safe template.HTML }

// Draw keeps what a drawer writes.
func Draw(d Drawer) (Figure, error) {
	b, err := d.Figure()
	if err != nil {
		return Figure{}, err
	}
	return Figure{template.HTML(b)}, nil
}

type periodView struct {
	Head   page.Head
	Now    Period
	Under  *underView
	Units  []unitView
	Trials []trialView
}

type underView struct {
	*UnderWay
	Steps []step
	Until string
}

// step is one of the stations of a closing.
type step struct {
	Name, Says string
	Mark       string // of template "mark"
}

type unitView struct {
	Name              string
	Gross, Goes, Left string
	Figure            template.HTML
	Nodes             []givenRow
}

type givenRow struct{ Name, Given, Taken string }

type trialView struct {
	Trial
	Sums    []changeRow
	Rows    []nodeChange
	HasPool bool // somebody has a limit
	HasDues bool // somebody pays dues
	Alone   bool // the only unit
}

// change is an amount under the tried rules. Was is what the rules in force give, when that differs.
type change struct{ Then, Was string }

type changeRow struct {
	Name string
	change
}

type nodeChange struct {
	Name             string
	Owes, Owed, Pool change
	Dues             change
	Hit, WasHit      string
}

const periodFoot = "Drafted from co-signed leaves alone, by the same arithmetic that closes a period and that anybody can run again."

func (w *Web) period(rw http.ResponseWriter, r *http.Request) {
	asked := Asked{}
	for name, texts := range r.URL.Query() {
		if len(asked) < MaxAsked {
			asked[name] = texts[0]
		}
	}
	p, err := w.o.Periods.Period(r.Context(), asked)
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	v := periodView{Head: page.Head{Title: "This period", Network: w.o.Network, Here: r.URL.Path, Live: "/live", Nav: nav(), Foot: periodFoot}, Now: p}
	if p.Under != nil {
		v.Under = &underView{UnderWay: p.Under, Steps: stations(p.Under.State, p.Under.Number), Until: utc(p.Under.Until)}
	}
	for _, u := range p.Units {
		row := unitView{Name: u.Name, Gross: amount(u.Gross, u.Scale), Goes: amount(u.Goes, u.Scale), Left: amount(u.Gross-u.Goes, u.Scale), Figure: u.Debts.safe}
		for _, n := range u.Nodes {
			row.Nodes = append(row.Nodes, givenRow{n.Name, amount(n.Given, u.Scale), amount(n.Taken, u.Scale)})
		}
		v.Units = append(v.Units, row)
	}
	for _, t := range p.Trials {
		v.Trials = append(v.Trials, trialled(t, len(p.Trials) == 1))
	}
	w.render(rw, r, "period", v)
}

// stations are the steps of closing, as far as a period is.
func stations(state string, number int) []step {
	list := []step{
		{Name: "Cut", Says: "every journal is cut at a named checkpoint; what comes later counts in the next period"},
		{Name: "Proposed", Says: "the statement is out, signed; houses can challenge single debts"},
		{Name: "Final", Says: "nothing can be disputed any more"},
		{Name: "Posted", Says: "booked and sealed; anybody can recompute it"}}
	if number > 0 {
		list[1].Says = fmt.Sprintf("statement %d is out, signed; houses can challenge single debts", number)
	}
	at := slices.Index([]string{"cut", "proposed", "final", "posted"}, state)
	for i := range list {
		list[i].Mark = "plain"
		if i <= at {
			list[i].Mark = "yes"
		}
	}
	return list
}

// utc writes Unix seconds for readers in many zones; nothing for 0.
func utc(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format("2 January 2006, 15:04 MST")
}

func trialled(t Trial, alone bool) trialView {
	v := trialView{Trial: t, Alone: alone}
	a := t.Answer
	if a == nil {
		return v
	}
	differ := func(now, then int64) change {
		c := change{Then: amount(then, t.Scale)}
		if now != then {
			c.Was = amount(now, t.Scale)
		}
		return c
	}
	v.Sums = []changeRow{{"owed", differ(a.Now.Gross, a.Then.Gross)}, {"goes round", differ(a.Now.Goes, a.Then.Goes)}, {"left", differ(a.Now.Gross-a.Now.Goes, a.Then.Gross-a.Then.Goes)}}
	if a.Now.Dues != 0 || a.Then.Dues != 0 {
		v.HasDues = true
		v.Sums = append(v.Sums, changeRow{"dues", differ(a.Now.Dues, a.Then.Dues)})
	}
	for _, n := range a.Nodes {
		v.HasPool = v.HasPool || n.Now.Limited || n.Then.Limited
		row := nodeChange{Name: n.Name, Owes: differ(n.Now.Owes, n.Then.Owes), Owed: differ(n.Now.Owed, n.Then.Owed), Pool: differ(n.Now.Pool, n.Then.Pool), Dues: differ(n.Now.Dues, n.Then.Dues), Hit: n.Then.Hit}
		if n.Now.Hit != n.Then.Hit {
			row.WasHit = n.Now.Hit
		}
		v.Rows = append(v.Rows, row)
	}
	return v
}

// nav is what every page links to besides the front page.
func nav() []page.Link {
	return []page.Link{{Href: "/board", Text: "Board"}, {Href: "/period", Text: "Period"}}
}

// amount writes smallest parts with the decimal places of their unit. Nothing is rounded: all of its digits are shown.
func amount(n int64, scale int) string {
	sign, size := "", uint64(n)
	if n < 0 {
		sign, size = "\u2212", -size
	}
	digits, scale := strconv.FormatUint(size, 10), max(scale, 0)
	if short := scale + 1 - len(digits); short > 0 {
		digits = strings.Repeat("0", short) + digits
	}
	whole, rest := digits[:len(digits)-scale], digits[len(digits)-scale:]
	var b strings.Builder
	b.WriteString(sign)
	for i := range len(whole) {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteRune('\u202f') // as in the drawing, four digits too
		}
		b.WriteByte(whole[i])
	}
	if rest != "" {
		b.WriteString("." + rest)
	}
	return b.String()
}
