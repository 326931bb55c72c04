package feed

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"slices"
)

//go:embed templates/report.html
var reportPage string

// tile is one unit of the closing at a glance.
type tile struct {
	Unit, Gross, Cleared, Left string
	Percent, Fraction          string
	Bar                        int64
	Withheld, Empty            bool
}

type poolRow struct {
	Unit, In, Out, Balance, Demand, Coverage, Fraction string
	Withheld                                           bool
}

type houseRow struct {
	Name    string
	Missing bool
}

type pageView struct {
	Network, Period, From, To, Digest string
	Statement                         int
	Houses                            []houseRow
	Count                             string
	Tiles                             []tile
	Sections                          []section
	Pool                              []poolRow
	Opened, Closed, Breaches          int
	Corrections                       []Correction
	Rules                             []InForce
	Explain, Check                    string
	Against                           bool // something was offered, or aimed at
}

// html writes the release as one page that needs nothing else: no script, no font, no address.
func (r *Release) html() ([]byte, error) {
	v := r.view()
	p := pageView{Network: printable(r.Network), Period: printable(r.Period), From: r.From, To: r.To, Statement: r.Statement,
		Digest: plainName(r.StatementDigest), Count: houses(len(r.Houses)), Sections: v.sections(), Opened: r.DisputesOpened,
		Closed: r.DisputesClosed, Breaches: r.Breaches, Explain: r.explain(), Check: checkWords}
	if r.StatementDigest == "" {
		p.Digest = ""
	}
	p.Against = slices.ContainsFunc(p.Sections, func(s section) bool { return s.Offers || s.Aims })
	for _, h := range r.Houses {
		p.Houses = append(p.Houses, houseRow{v.house[h.ID], h.Missing})
	}
	slices.SortStableFunc(p.Houses, func(a, b houseRow) int { return cmp.Compare(a.Name, b.Name) })
	for _, c := range r.Clearing {
		t := tile{Unit: printable(c.Unit), Gross: v.maybe(c.Unit, c.Gross), Cleared: v.maybe(c.Unit, c.Cleared), Left: v.maybe(c.Unit, c.Left),
			Withheld: c.Gross == nil, Empty: c.Gross != nil && c.Ratio == nil}
		if c.Ratio != nil {
			t.Percent, t.Bar = c.Ratio.Percent, permille(c.Ratio.Num, c.Ratio.Den)
			t.Fraction = fmt.Sprintf("%d/%d", c.Ratio.Num, c.Ratio.Den)
		}
		p.Tiles = append(p.Tiles, t)
	}
	for _, c := range r.Pool {
		w := poolRow{Unit: printable(c.Unit), In: v.maybe(c.Unit, c.In), Out: v.maybe(c.Unit, c.Out), Balance: v.maybe(c.Unit, c.Balance),
			Demand: v.maybe(c.Unit, c.Demand), Coverage: "–", Withheld: c.In == nil}
		if c.Coverage != nil {
			w.Coverage, w.Fraction = c.Coverage.Percent+" %", fmt.Sprintf("%d/%d", c.Coverage.Num, c.Coverage.Den)
		}
		p.Pool = append(p.Pool, w)
	}
	for _, c := range r.Corrections {
		p.Corrections = append(p.Corrections, Correction{printable(c.Period), c.Count})
	}
	for _, rule := range r.Rules {
		p.Rules = append(p.Rules, InForce{Version: printable(rule.Version), Since: rule.Since})
	}
	t, err := template.New("report").Parse(reportPage)
	if err != nil {
		return nil, fmt.Errorf("parsing the report's page: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, &p); err != nil {
		return nil, fmt.Errorf("writing the report's page: %w", err)
	}
	return b.Bytes(), nil
}
