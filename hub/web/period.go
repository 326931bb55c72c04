package web

import (
	"context"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"kith/internal/page"
)

// Period is what the period under way would come to if it were closed now, and those that are closed.
type Period struct {
	Wait    string // a sentence: why there is no draft; empty: there is one
	Day     string // the last that counts
	Entries int    // looked at so far
	Asides  []Aside
	Missing []string
	Units   []PeriodUnit
	Posted  []PostedPeriod // latest first
}

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

// Periods tells how the period stands. It is asked on every look at the page and answers from memory when it can.
type Periods interface {
	Period(ctx context.Context) (Period, error)
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
	Head  page.Head
	Now   Period
	Units []unitView
}

type unitView struct {
	Name              string
	Gross, Goes, Left string
	Figure            template.HTML
	Nodes             []givenRow
}

type givenRow struct{ Name, Given, Taken string }

func (w *Web) period(rw http.ResponseWriter, r *http.Request) {
	p, err := w.o.Periods.Period(r.Context())
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	v := periodView{Head: page.Head{Title: "This period", Network: w.o.Network, Here: r.URL.Path, Nav: nav()}, Now: p}
	for _, u := range p.Units {
		row := unitView{Name: u.Name, Gross: amount(u.Gross, u.Scale), Goes: amount(u.Goes, u.Scale), Left: amount(u.Gross-u.Goes, u.Scale), Figure: u.Debts.safe}
		for _, n := range u.Nodes {
			row.Nodes = append(row.Nodes, givenRow{n.Name, amount(n.Given, u.Scale), amount(n.Taken, u.Scale)})
		}
		v.Units = append(v.Units, row)
	}
	w.render(rw, r, "period", v)
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
