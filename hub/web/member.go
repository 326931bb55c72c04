package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"kith/internal/event"
	"kith/internal/page"
)

// MemberStatement is what one member did and used in one period. It says nothing of anybody else.
type MemberStatement struct {
	Erased             bool // or never here; everything else is empty then
	ID, Name, Role     string
	Home, HomeID       string
	Period, State, Day string // Period empty: the one under way
	Open               bool   // there is one under way
	Others             []string
	Wait               string // a sentence: why nothing can be told
	Sums               []MemberSum
	Effects            []MemberEffect
	Lines              []MemberLine // latest first
	Entries            int          // in all
}

// MemberSum is one kind of thing that was done or used.
type MemberSum struct {
	What, Measure string
	Quantity      int64
	Entries       int
	Classes       map[string]int // entries by class of evidence
}

// MemberEffect is what the entries did between houses in one unit: to the credit of the member's home, and at its cost.
type MemberEffect struct {
	Unit                   string
	Scale                  int
	Gave, Took, Discharged int64
}

// MemberLine is one entry.
type MemberLine struct {
	Href               string
	Day                int64 // Unix seconds
	What, Where, Class string
	Aside              string // why it moves nothing between houses
	Unit               string // empty: no obligation
	Scale              int
	Amount             int64
	Discharged, Waived int64
	Debtor, Creditor   string
	Gave               bool // to the credit of the member's home
}

type memberView struct {
	Head    page.Head
	M       MemberStatement
	Title   string
	Periods []periodLink
	Sums    []sumRow
	Effects []effectRow
	Lines   []memberRow
	Classes []classWords
	More    int
	Printed string
}

type periodLink struct {
	Href, Text string
	Here       bool
}

type sumRow struct {
	MemberSum
	Amount string
	Proven []page.Badge
}

type effectRow struct{ Unit, Gave, Took, Net, Cleared string }

type memberRow struct {
	MemberLine
	When   string
	Effect string
	Badge  page.Badge
}

type classWords struct {
	Badge page.Badge
	Says  string
}

const memberFoot = "Each line is a leaf of a house's own signed journal. Open one to see why, and its proof."

func (w *Web) member(rw http.ResponseWriter, r *http.Request) {
	id, period := r.PathValue("id"), r.URL.Query().Get("period")
	if !event.IsID(id) || period != "" && !event.IsID(period) {
		w.lost(rw, r)
		return
	}
	m, err := w.o.Periods.Member(r.Context(), id, period)
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	w.render(rw, r, "member", w.memberView(r, &m))
}

func (w *Web) memberView(r *http.Request, m *MemberStatement) memberView {
	now := w.o.Now()
	v := memberView{M: *m, Head: page.Head{Title: "Erased", Network: w.o.Network, Here: r.URL.Path, Nav: nav()}}
	if m.Erased {
		return v
	}
	v.Head.Title, v.Head.Foot, v.Title = m.Name, memberFoot, "Since the last closing"
	v.Head.Crumbs = []page.Link{{Href: "/node/" + m.HomeID, Text: m.Home}}
	v.Printed = now.UTC().Format("2 January 2006, 15:04 MST")
	here := "/member/" + m.ID
	if m.Open {
		v.Periods = append(v.Periods, periodLink{here, "Since then", m.Period == ""})
	}
	for _, name := range m.Others {
		v.Periods = append(v.Periods, periodLink{here + "?period=" + name, name, m.Period == name})
	}
	if len(m.Others) == 0 {
		v.Title = "So far"
		v.Periods = nil
	}
	if m.Period != "" {
		v.Title = "Period " + m.Period
	} else {
		v.Head.Live = "/live"
	}
	for _, s := range m.Sums {
		row := sumRow{MemberSum: s, Amount: measured(s.Quantity, s.Measure)}
		for _, class := range []string{event.EvidenceA, event.EvidenceB, event.EvidenceC} {
			if n := s.Classes[class]; n > 0 {
				b := classBadge(class)
				b.Text = fmt.Sprintf("%s × %d", class, n)
				row.Proven = append(row.Proven, b)
			}
		}
		v.Sums = append(v.Sums, row)
	}
	for _, e := range m.Effects {
		v.Effects = append(v.Effects, effectRow{e.Unit, amount(e.Gave, e.Scale), amount(e.Took, e.Scale), withSign(e.Gave-e.Took, e.Scale), amount(e.Discharged, e.Scale)})
	}
	for _, l := range m.Lines {
		l.What = strings.ToUpper(l.What[:min(1, len(l.What))]) + l.What[min(1, len(l.What)):] // a verb of ours: ASCII
		v.Lines = append(v.Lines, memberRow{l, time.Unix(l.Day, 0).UTC().Format("2 Jan 2006"), memberEffect(&l), classBadge(l.Class)})
	}
	v.More = m.Entries - len(m.Lines)
	for _, class := range []string{event.EvidenceA, event.EvidenceB, event.EvidenceC} {
		v.Classes = append(v.Classes, classWords{classBadge(class), classBadge(class).Hint})
	}
	return v
}

// classBadge shows how well an entry is proven.
func classBadge(class string) page.Badge {
	switch class {
	case event.EvidenceA:
		return page.Badge{Tone: "good", Text: "A", Hint: "the member's card signed this very entry"}
	case event.EvidenceB:
		return page.Badge{Tone: "plain", Text: "B", Hint: "a host confirmed it"}
	case event.EvidenceC:
		return page.Badge{Tone: "warn", Text: "C", Hint: "one-sided: no card proved it"}
	}
	return page.Badge{Tone: "unknown", Text: class}
}

// memberEffect says what one entry did between houses.
func memberEffect(l *MemberLine) string {
	if l.Unit == "" {
		return l.Aside
	}
	text := fmt.Sprintf("%s owes %s %s", l.Debtor, l.Creditor, amounted(l.Amount, l.Scale, l.Unit))
	switch {
	case l.Waived > 0 && l.Waived == l.Amount:
		return text + "; void by decision"
	case l.Discharged > 0 && l.Discharged == l.Amount:
		return text + "; all of it went round"
	case l.Discharged > 0:
		return text + "; " + amount(l.Discharged, l.Scale) + " went round"
	}
	return text
}

// measured writes a quantity with its measure.
func measured(n int64, measure string) string { return amounted(n, 0, measure) }

// amounted writes an amount with its unit, which takes an s in English unless it is a sign.
func amounted(n int64, scale int, unit string) string {
	unit = strings.ReplaceAll(unit, "-", " ")
	switch unit {
	case "wh", "kwh", "km", "m", "kg", "g", "l", "ml", "eur", "":
		return strings.TrimSpace(amount(n, scale) + " " + unit)
	}
	if (n != 1 || scale > 0) && unit[len(unit)-1] != 's' {
		unit += "s"
	}
	return amount(n, scale) + " " + unit
}

// withSign writes an amount with its sign, also above zero.
func withSign(n int64, scale int) string {
	if n > 0 {
		return "+" + amount(n, scale)
	}
	return amount(n, scale)
}
