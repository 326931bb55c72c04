package feed

import (
	"cmp"
	"errors"
	"fmt"
	"html"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Bounds of one picture.
const (
	MaxDebts  = 1 << 20
	MaxDrawn  = 24 // houses; the ones with less volume are drawn as one
	maxNamed  = 8  // houses that are named in the picture; more are numbered, and named in the table
	maxLabels = 6  // debts that carry their amount
	nameRunes = 14
)

// ErrPicture refuses debts that cannot be drawn.
var ErrPicture = errors.New("not debts that can be drawn")

// Debt is what one house owes another. Several between the same two are added.
type Debt struct {
	From   string
	To     string
	Amount int64
}

// Picture is the debts of one unit before and after a closing. Only houses with debts are drawn.
type Picture struct {
	ID     string // makes the ids in the drawing unique on its page, such as the period
	Unit   Unit
	Houses []House
	Before []Debt
	After  []Debt
}

// Layout says how the two halves of a standalone picture stand.
type Layout int

// The layouts: side by side, or one above the other for a narrow screen.
const (
	Desk Layout = iota
	Phone
)

const others = "\x00others" // no house can have this id and be drawn beside it: it sorts first and is placed last

// drawing is a checked picture in canonical order.
type drawing struct {
	id     string
	unit   string
	view   *view
	places []place
	at     map[string]int
	halves [2]panel
	most   int64
}

type place struct{ id, name string }

type panel struct {
	word, empty string
	class       string
	debts       []Debt // as drawn
	count       int    // pairs of houses with a debt, drawn or not
	total       int64
}

// draw checks and orders the picture.
func (p *Picture) draw() (*drawing, error) {
	if len(p.Before)+len(p.After) > MaxDebts || len(p.Houses) > MaxNodes {
		return nil, fmt.Errorf("drawing %d debts of %d houses: %w (at most %d and %d)", len(p.Before)+len(p.After), len(p.Houses), ErrPicture,
			MaxDebts, MaxNodes)
	}
	d := &drawing{id: plainName(p.ID + "-" + p.Unit.Name), unit: p.Unit.Name, at: map[string]int{},
		view: &view{scale: map[string]int{p.Unit.Name: p.Unit.Scale}}}
	name := map[string]string{}
	for _, h := range p.Houses {
		if _, twice := name[h.ID]; twice || h.ID == others {
			return nil, fmt.Errorf("drawing house %.60q: %w: it is there twice", h.ID, ErrPicture)
		}
		if name[h.ID] = printable(h.Name); h.Name == "" {
			name[h.ID] = printable(h.ID)
		}
	}
	volume := map[string]int64{}
	for _, list := range [][]Debt{p.Before, p.After} {
		for _, debt := range list {
			_, a := name[debt.From]
			if _, b := name[debt.To]; !a || !b || debt.From == debt.To || debt.Amount < 0 {
				return nil, fmt.Errorf("drawing %d from %.60q to %.60q: %w", debt.Amount, debt.From, debt.To, ErrPicture)
			}
			for _, id := range []string{debt.From, debt.To} {
				var fits bool
				if volume[id], fits = sum(volume[id], debt.Amount); !fits {
					return nil, fmt.Errorf("drawing debts of %.60q: %w: the sum does not fit", id, ErrPicture)
				}
			}
		}
	}
	d.choose(name, volume)
	for i, list := range [][]Debt{p.Before, p.After} {
		h := &d.halves[i]
		*h = panel{word: []string{"Before", "After"}[i], empty: []string{"Nothing was owed", "All of it is cleared"}[i], class: []string{"owed", "left"}[i]}
		if err := d.gather(h, list); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// choose decides which houses get a place: all that have debts, or those with the most volume and one for the others.
func (d *drawing) choose(name map[string]string, volume map[string]int64) {
	var ids []string
	for id, v := range volume {
		if v > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Or(cmp.Compare(volume[b], volume[a]), cmp.Compare(a, b)) })
	var rest []string
	if len(ids) > MaxDrawn {
		ids, rest = ids[:MaxDrawn-1], ids[MaxDrawn-1:]
	}
	slices.Sort(ids)
	for _, id := range ids {
		d.at[id] = len(d.places)
		d.places = append(d.places, place{id, name[id]})
	}
	for _, id := range rest {
		d.at[id] = len(d.places)
	}
	if len(rest) > 0 {
		d.places = append(d.places, place{others, strconv.Itoa(len(rest)) + " others"})
	}
}

// gather adds up the debts of each pair of places. What the others owe each other is in the total alone.
func (d *drawing) gather(h *panel, list []Debt) error {
	pairs, real := map[[2]int]int64{}, map[[2]string]bool{}
	for _, debt := range list {
		var fits bool
		if h.total, fits = sum(h.total, debt.Amount); !fits {
			return fmt.Errorf("drawing debts: %w: the sum does not fit", ErrPicture)
		}
		if debt.Amount > 0 {
			real[[2]string{debt.From, debt.To}] = true
		}
		if pair := [2]int{d.at[debt.From], d.at[debt.To]}; pair[0] != pair[1] && debt.Amount > 0 {
			pairs[pair] += debt.Amount
		}
	}
	h.count = len(real)
	for pair, amount := range pairs {
		h.debts = append(h.debts, Debt{d.places[pair[0]].id, d.places[pair[1]].id, amount})
		d.most = max(d.most, amount)
	}
	slices.SortFunc(h.debts, func(a, b Debt) int {
		return cmp.Or(cmp.Compare(d.index(a.From), d.index(b.From)), cmp.Compare(d.index(a.To), d.index(b.To)))
	})
	return nil
}

func (d *drawing) index(id string) int {
	if i, here := d.at[id]; here {
		return i
	}
	return len(d.places) - 1
}

func (d *drawing) label(i int) string {
	name := d.places[i].name
	if len(d.places) > maxNamed {
		return strconv.Itoa(i + 1)
	}
	if runes := []rune(name); len(runes) > nameRunes {
		return string(runes[:nameRunes-1]) + "…"
	}
	return name
}

func (h *panel) words(v *view, unit string) string {
	if h.count == 0 {
		return h.empty
	}
	debts := "1 debt"
	if h.count > 1 {
		debts = strconv.Itoa(h.count) + " debts"
	}
	return debts + ", " + some(v.amount(unit, h.total), printable(unit))
}

// some is an amount with its unit. Short units are signs or codes, which have no plural.
func some(amount, unit string) string {
	if amount != "1" && len(unit) > 3 && !strings.HasSuffix(unit, "s") {
		unit += "s"
	}
	return amount + " " + unit
}

// Geometry of one half, in tenths of a pixel.
const (
	panelWide, panelHigh   = 5200, 4300
	ringNamed, ringNumbers = 1300, 1450
	dot                    = 85
	bend                   = 260 // how far a debt bends out of the straight line, so that two opposite ones lie apart
	thin, thick, thickMany = 14, 90, 40
	many                   = 30 // debts of one half above which lines are thinner and fainter
)

// writePanel writes the inside of one half. It has classes and presentation attributes only, so that it may stand in a
// page that allows no inline style, and takes its colours from the text around it.
func (d *drawing) writePanel(b *strings.Builder, h *panel) {
	fmt.Fprintf(b, `<text x="240" y="26" text-anchor="middle" font-size="20" font-weight="650" fill="currentColor">%s</text>`+"\n", h.word)
	fmt.Fprintf(b, `<text class="sum" x="240" y="50" text-anchor="middle" font-size="16" fill="currentColor" fill-opacity=".75">%s</text>`+"\n",
		html.EscapeString(h.words(d.view, d.unit)))
	ring := int64(ringNamed)
	if len(d.places) > maxNamed {
		ring = ringNumbers
	}
	centre := point{panelWide / 2, 2450}
	spots := make([]point, len(d.places))
	for i := range spots {
		spots[i] = around(centre, ring, i, len(spots))
	}
	faint := ".5"
	if len(h.debts) > many {
		faint = ".3"
	}
	fmt.Fprintf(b, `<g class="%s" fill="none" stroke="currentColor" stroke-opacity="%s">`+"\n", h.class, faint)
	var heads, amounts strings.Builder
	for _, debt := range h.debts {
		from, to := spots[d.index(debt.From)], spots[d.index(debt.To)]
		s := newStroke(from, to, d.width(debt.Amount, len(h.debts)))
		fmt.Fprintf(b, `<path d="M%sQ%s %s" stroke-width="%s"/>`+"\n", s.start, s.control, s.end, tenths(s.width))
		fmt.Fprintf(&heads, `<path d="M%sL%s %sZ"/>`+"\n", s.tip, s.left, s.right)
		if len(h.debts) <= maxLabels {
			fmt.Fprintf(&amounts, `<text x="%s" y="%s" text-anchor="middle" font-size="14.5" fill="currentColor" stroke="Canvas" stroke-width="4" stroke-linejoin="round" paint-order="stroke">%s</text>`+"\n",
				tenths(s.middle.x), tenths(s.middle.y+45), d.view.amount(d.unit, debt.Amount))
		}
	}
	b.WriteString("</g>\n")
	if heads.Len() > 0 {
		fmt.Fprintf(b, "<g class=\"%s\" fill=\"currentColor\">\n%s</g>\n", h.class, heads.String())
	}
	b.WriteString("<g class=\"houses\" fill=\"currentColor\">\n")
	for i, at := range spots {
		fmt.Fprintf(b, `<circle cx="%s" cy="%s" r="%s"/>`+"\n", tenths(at.x), tenths(at.y), tenths(dot))
		text, anchor := d.labelSpot(centre, ring, i)
		fmt.Fprintf(b, `<text x="%s" y="%s" text-anchor="%s" font-size="16" stroke="Canvas" stroke-width="4" stroke-linejoin="round" paint-order="stroke">%s</text>`+"\n",
			tenths(text.x), tenths(text.y), anchor, html.EscapeString(d.label(i)))
	}
	b.WriteString("</g>\n")
	b.WriteString(amounts.String())
}

// labelSpot puts a name outside the ring: beside its place at the sides, over or under it elsewhere.
func (d *drawing) labelSpot(centre point, ring int64, i int) (at point, anchor string) {
	out := around(centre, ring+250, i, len(d.places))
	side := out.minus(centre)
	switch {
	case len(d.places) > maxNamed || side.x*side.x*4 < side.y*side.y:
		return out.plus(point{0, 55}), "middle"
	case side.x > 0:
		return around(centre, ring+160, i, len(d.places)).plus(point{0, 55}), "start"
	}
	return around(centre, ring+160, i, len(d.places)).plus(point{0, 55}), "end"
}

// width draws amounts by their size, the largest debt of both halves as thick as it gets.
func (d *drawing) width(amount int64, debts int) int64 {
	span := uint64(thick - thin)
	if debts > many {
		span = thickMany - thin
	}
	hi, lo := bits.Mul64(uint64(amount), span)
	q, _ := bits.Div64(hi, lo, uint64(max(d.most, 1))) // amount <= most, so that the quotient fits
	return thin + int64(q)
}

type stroke struct {
	start, control, end, middle point
	tip, left, right            point
	width                       int64
}

func newStroke(from, to point, width int64) stroke {
	s := stroke{width: width}
	half := point{(from.x + to.x) / 2, (from.y + to.y) / 2}
	s.control = half.plus(to.minus(from).turned().scaled(bend))
	s.start = from.plus(s.control.minus(from).scaled(dot + 20))
	back, head := s.control.minus(to), 80+width
	s.tip = to.plus(back.scaled(dot + 30))
	s.end = s.tip.plus(back.scaled(head - 10))
	base, side := s.tip.plus(back.scaled(head)), back.turned().scaled(40+width*7/10)
	s.left, s.right = base.plus(side), base.minus(side)
	s.middle = point{(42*s.start.x + 46*s.control.x + 12*s.end.x) / 100, (42*s.start.y + 46*s.control.y + 12*s.end.y) / 100} // at 0.35 of the way
	return s
}

func (d *drawing) describe(h *panel) string {
	const spoken = 40 // debts that are read out one by one
	var b strings.Builder
	b.WriteString(h.words(d.view, d.unit) + ".")
	for i, debt := range h.debts {
		if i == spoken {
			b.WriteString(" And more; see the table.")
			break
		}
		fmt.Fprintf(&b, " %s owes %s %s.", d.places[d.index(debt.From)].name, d.places[d.index(debt.To)].name, d.view.amount(d.unit, debt.Amount))
	}
	return html.EscapeString(b.String())
}

func (d *drawing) writeSVG(b *strings.Builder, h *panel) {
	id := "debts-" + d.id + "-" + h.class
	fmt.Fprintf(b, `<svg class="half" viewBox="0 0 %s %s" role="img" aria-labelledby="%s-t" aria-describedby="%s-d" xmlns="http://www.w3.org/2000/svg">`+"\n",
		tenths(panelWide), tenths(panelHigh), id, id)
	fmt.Fprintf(b, "<title id=\"%s-t\">%s: debts between houses in %s</title>\n<desc id=\"%s-d\">%s</desc>\n", id, h.word,
		html.EscapeString(printable(d.unit)), id, d.describe(h))
	d.writePanel(b, h)
	b.WriteString("</svg>\n")
}

// Figure writes both halves and the table that says the same, as HTML for a page: classes debts, half, owed, left, sum,
// houses. It has no inline style, script or address.
func (p *Picture) Figure() ([]byte, error) {
	d, err := p.draw()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("<figure class=\"debts\">\n<div class=\"halves\">\n")
	d.writeSVG(&b, &d.halves[0])
	d.writeSVG(&b, &d.halves[1])
	b.WriteString("</div>\n")
	d.writeTable(&b)
	b.WriteString("</figure>\n")
	return []byte(b.String()), nil
}

func (d *drawing) writeTable(b *strings.Builder) {
	amounts := map[[2]int][2]int64{}
	var pairs [][2]int
	for i := range d.halves {
		for _, debt := range d.halves[i].debts {
			pair := [2]int{d.index(debt.From), d.index(debt.To)}
			a, here := amounts[pair]
			if !here {
				pairs = append(pairs, pair)
			}
			a[i] = debt.Amount
			amounts[pair] = a
		}
	}
	slices.SortFunc(pairs, func(a, c [2]int) int { return cmp.Or(cmp.Compare(a[0], c[0]), cmp.Compare(a[1], c[1])) })
	fmt.Fprintf(b, "<details>\n<summary>The same as a table</summary>\n<table>\n<caption>Debts between houses in %s</caption>\n"+
		"<thead><tr><th scope=\"col\">Owes</th><th scope=\"col\">To</th><th scope=\"col\">Before</th><th scope=\"col\">After</th></tr></thead>\n<tbody>\n",
		html.EscapeString(printable(d.unit)))
	for _, pair := range pairs {
		fmt.Fprintf(b, "<tr><th scope=\"row\">%s</th><td>%s</td><td>%s</td><td>%s</td></tr>\n", d.tableName(pair[0]), d.tableName(pair[1]),
			d.view.amount(d.unit, amounts[pair][0]), d.view.amount(d.unit, amounts[pair][1]))
	}
	fmt.Fprintf(b, "</tbody>\n<tfoot><tr><th scope=\"row\" colspan=\"2\">Together</th><td>%s</td><td>%s</td></tr></tfoot>\n</table>\n</details>\n",
		d.view.amount(d.unit, d.halves[0].total), d.view.amount(d.unit, d.halves[1].total))
}

func (d *drawing) tableName(i int) string {
	name := html.EscapeString(d.places[i].name)
	if len(d.places) > maxNamed {
		return strconv.Itoa(i+1) + " " + name
	}
	return name
}

const pictureStyle = `<style>
svg { color-scheme: light dark; font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Cantarell, sans-serif; color: #20261f; background: #fffefb; }
.owed { color: #a3271b; } .left { color: #1b664d; } svg text { stroke: #fffefb; } svg text[font-weight], svg .sum { stroke: none; }
@media (prefers-color-scheme: dark) { svg { color: #eceee8; background: #1a1f1b; } .owed { color: #ffa99d; } .left { color: #86d4b4; } svg text { stroke: #1a1f1b; } }
</style>
`

// SVG writes the picture as a file of its own, light or dark as its reader prefers.
func (p *Picture) SVG(layout Layout) ([]byte, error) {
	d, err := p.draw()
	if err != nil {
		return nil, err
	}
	wide, high, second := int64(2*panelWide), int64(panelHigh), point{panelWide, 0}
	if layout == Phone {
		wide, high, second = panelWide, 2*panelHigh, point{0, panelHigh}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" role="img" aria-labelledby="t" aria-describedby="d">`+"\n", tenths(wide), tenths(high))
	fmt.Fprintf(&b, "<title id=\"t\">Debts between houses in %s, before and after clearing</title>\n<desc id=\"d\">Before: %s After: %s</desc>\n",
		html.EscapeString(printable(d.unit)), d.describe(&d.halves[0]), d.describe(&d.halves[1]))
	b.WriteString(pictureStyle + "<g>\n")
	d.writePanel(&b, &d.halves[0])
	fmt.Fprintf(&b, "</g>\n<g transform=\"translate(%s)\">\n", second)
	d.writePanel(&b, &d.halves[1])
	b.WriteString("</g>\n</svg>\n")
	return []byte(b.String()), nil
}
