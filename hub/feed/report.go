package feed

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
)

// House is one node as the public knows it.
type House struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Missing bool   `json:"missing"` // the cut has no checkpoint of it
}

// Offer is what a house offers of a kind in the period, and what was aimed at. Neither is about a person.
type Offer struct {
	Node    string
	Kind    string
	Offered int64
	Target  int64
}

// Measure is everything that is counted in one unit, such as all kinds that are used by the night. A kind belongs to one
// measure only. What was delivered of a kind is also what was used of its capacity, so that it is published once.
type Measure struct {
	Unit   string
	Cells  []Cell
	Offers []Offer
}

// Clearing is what the closing of one unit came to. Members and Largest tell who stands behind Gross.
//
// Prices are public, so a reader can take what was delivered, at its prices, from what was owed, and learns the sum of
// whatever stands on one side only: what people had at home, what was carried over, corrected, disputed or capped.
// Apart are the groups behind each difference that can be formed in this way.
type Clearing struct {
	Unit    string
	Gross   int64
	Cleared int64
	Members int
	Largest int64
	Kinds   []string // kinds that are priced in this unit
	Apart   []Group
}

// Pool is the commons in one unit: what came in and went out, what it has, and the largest demand of one house.
type Pool struct {
	Unit    string
	In      int64
	Out     int64
	Balance int64
	Demand  int64
}

// Rule is a policy version in force during the period.
type Rule struct {
	Version string
	Since   int32  // day
	Digest  string // SHA-256 of the policy, hexadecimal; empty: not told
}

// Correction counts what was corrected of one earlier period. Amounts are not told: the difference would be a person's.
type Correction struct {
	Period string `json:"period"`
	Count  int    `json:"count"`
}

// Report is what is known of a period before the small-group rule. Days count from 1970-01-01.
type Report struct {
	Network         string
	Period          string
	From, To        int32
	Statement       int    // number of the final statement
	StatementDigest string // hexadecimal
	Rules           []Rule
	Privacy         Privacy
	Houses          []House
	Units           []Unit
	Measures        []Measure
	Clearing        []Clearing
	Pool            []Pool
	DisputesOpened  int
	DisputesClosed  int
	Breaches        int
	Corrections     []Correction
}

// All stands for every house, or every kind, in a published figure.
const All = "*"

// Figure is one published figure. A withheld one has no Delivered; why is not said, since that would tell something too.
type Figure struct {
	Node      string `json:"node"`
	Kind      string `json:"kind"`
	Delivered *int64 `json:"delivered"`
	Offered   int64  `json:"offered"`
	Target    int64  `json:"target"`
}

// Counted are the published figures of one measure: every house and every kind, with totals.
type Counted struct {
	Unit    string   `json:"unit"`
	Figures []Figure `json:"figures"`
}

// Ratio is an exact fraction with its text in percent, rounded down to a tenth.
type Ratio struct {
	Num     int64  `json:"num"`
	Den     int64  `json:"den"`
	Percent string `json:"percent"`
}

// Cleared is one published row of the closing. All of it is withheld, or none.
type Cleared struct {
	Unit    string `json:"unit"`
	Gross   *int64 `json:"gross"`
	Cleared *int64 `json:"cleared"`
	Left    *int64 `json:"left"`
	Ratio   *Ratio `json:"clearing_ratio"`
}

// Commons is one published row of the pool. Withheld counts the releases in a row, this one included, that withheld it.
type Commons struct {
	Unit     string `json:"unit"`
	In       *int64 `json:"in"`
	Out      *int64 `json:"out"`
	Balance  *int64 `json:"balance"`
	Demand   *int64 `json:"largest_demand"`
	Coverage *Ratio `json:"coverage"`
	Withheld int    `json:"withheld_releases"`
}

// InForce is a rule version as published.
type InForce struct {
	Version string `json:"version"`
	Since   string `json:"since"`
	Digest  string `json:"digest,omitempty"`
}

// Release is a report as it may be published. Its JSON is this value with these fields, and nothing else is published.
type Release struct {
	Format          string       `json:"format"`
	Network         string       `json:"network"`
	Period          string       `json:"period"`
	From            string       `json:"from"`
	To              string       `json:"to"`
	Statement       int          `json:"statement"`
	StatementDigest string       `json:"statement_digest"`
	Rules           []InForce    `json:"policy"`
	Privacy         Privacy      `json:"privacy"`
	Houses          []House      `json:"nodes"`
	Units           []Unit       `json:"units"`
	Delivered       []Counted    `json:"delivered"`
	Clearing        []Cleared    `json:"clearing"`
	Pool            []Commons    `json:"pool"`
	DisputesOpened  int          `json:"disputes_opened"`
	DisputesClosed  int          `json:"disputes_closed"`
	Breaches        int          `json:"breaches"`
	Corrections     []Correction `json:"corrections"`
}

const releaseFormat = "kith-report v1"

// Release applies the small-group rule. previous is the release of the period before, nil for a network's first: a
// period is released once, and the pool's balances of two releases must not tell what one between them withheld.
func (r *Report) Release(previous *Release) (*Release, error) {
	if err := r.check(previous); err != nil {
		return nil, fmt.Errorf("releasing %.60q: %w", r.Period, err)
	}
	out := &Release{Format: releaseFormat, Network: r.Network, Period: r.Period, From: isoDay(r.From), To: isoDay(r.To),
		Statement: r.Statement, StatementDigest: r.StatementDigest, Rules: []InForce{}, Privacy: r.Privacy,
		Houses: append([]House{}, r.Houses...), Units: append([]Unit{}, r.Units...), Delivered: []Counted{}, Clearing: []Cleared{},
		Pool: []Commons{}, DisputesOpened: r.DisputesOpened, DisputesClosed: r.DisputesClosed, Breaches: r.Breaches,
		Corrections: append([]Correction{}, r.Corrections...)}
	slices.SortFunc(out.Houses, func(a, b House) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(out.Units, func(a, b Unit) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(out.Corrections, func(a, b Correction) int { return cmp.Compare(a.Period, b.Period) })
	for _, rule := range r.Rules {
		out.Rules = append(out.Rules, InForce{rule.Version, isoDay(min(max(rule.Since, firstDay), lastDay)), rule.Digest})
	}
	slices.SortFunc(out.Rules, func(a, b InForce) int {
		return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Digest, b.Digest))
	})
	hidden, err := r.deliver(out)
	if err != nil {
		return nil, fmt.Errorf("releasing %.60q: %w", r.Period, err)
	}
	waiting := map[string]int{}
	if previous != nil {
		for _, p := range previous.Pool {
			waiting[p.Unit] = p.Withheld
		}
	}
	r.clear(out, hidden, waiting)
	r.pool(out, waiting)
	return out, nil
}

// deliver publishes the measures and returns the kinds whose total over all houses is withheld.
func (r *Report) deliver(out *Release) (map[string]bool, error) {
	nodes := make([]string, 0, len(r.Houses))
	for _, h := range out.Houses {
		nodes = append(nodes, h.ID)
	}
	hidden, home := map[string]bool{}, map[string]string{}
	for _, m := range r.Measures {
		kinds, err := m.kinds(home)
		if err != nil {
			return nil, err
		}
		t, err := newTable(nodes, kinds, m.Cells)
		if err != nil {
			return nil, fmt.Errorf("counting in %.60q: %w", m.Unit, err)
		}
		t.withhold(r.Privacy)
		counted, err := t.publish(m.Offers)
		if err != nil {
			return nil, fmt.Errorf("counting in %.60q: %w", m.Unit, err)
		}
		for _, f := range counted {
			if f.Node == All && f.Kind != All && f.Delivered == nil {
				hidden[f.Kind] = true
			}
		}
		out.Delivered = append(out.Delivered, Counted{m.Unit, counted})
	}
	for _, c := range r.Clearing {
		for _, kind := range c.Kinds {
			if home[kind] == "" {
				return nil, fmt.Errorf("clearing of %.60q counts kind %.60q: %w: it is in no measure", c.Unit, kind, ErrReport)
			}
		}
	}
	slices.SortFunc(out.Delivered, func(a, b Counted) int { return cmp.Compare(a.Unit, b.Unit) })
	return hidden, nil
}

// kinds lists the kinds of a measure, each in one measure of the report only.
func (m *Measure) kinds(home map[string]string) ([]string, error) {
	var kinds []string
	for _, c := range m.Cells {
		kinds = append(kinds, c.Kind)
	}
	for _, o := range m.Offers {
		if o.Kind == "" {
			return nil, fmt.Errorf("offer of node %.60q: %w: without a kind", o.Node, ErrCells)
		}
		kinds = append(kinds, o.Kind)
	}
	slices.Sort(kinds)
	kinds = slices.DeleteFunc(slices.Compact(kinds), func(kind string) bool { return kind == "" })
	if len(kinds) > MaxKinds {
		return nil, fmt.Errorf("counting %d kinds in %.60q: %w (at most %d)", len(kinds), m.Unit, ErrCells, MaxKinds)
	}
	for _, kind := range kinds {
		if home[kind] != "" || kind == All {
			return nil, fmt.Errorf("kind %.60q in %.60q: %w: it is in another measure", kind, m.Unit, ErrCells)
		}
		home[kind] = m.Unit
	}
	return kinds, nil
}

// publish writes every house and kind out, with totals, also where nothing was done.
func (t *table) publish(offers []Offer) ([]Figure, error) {
	if (len(t.nodes)+1)*(len(t.kinds)+1) > MaxCells {
		return nil, fmt.Errorf("%d houses by %d kinds: %w (at most %d cells)", len(t.nodes), len(t.kinds), ErrCells, MaxCells)
	}
	width := len(t.kinds) + 1
	figures := make([]Figure, (len(t.nodes)+1)*width)
	zero := int64(0)
	for i := range figures {
		f := &figures[i]
		f.Node, f.Kind, f.Delivered = All, All, &zero
		if n := i / width; n < len(t.nodes) {
			f.Node = t.nodes[n]
		}
		if k := i % width; k < len(t.kinds) {
			f.Kind = t.kinds[k]
		}
	}
	at := func(node, kind string) *Figure {
		n, k := len(t.nodes), len(t.kinds)
		if node != "" {
			n, _ = slices.BinarySearch(t.nodes, node)
		}
		if kind != "" {
			k, _ = slices.BinarySearch(t.kinds, kind)
		}
		return &figures[n*width+k]
	}
	for i := range t.arcs {
		a := &t.arcs[i]
		f := at(a.cell.Node, a.cell.Kind)
		if f.Delivered = &a.cell.Amount; a.withheld {
			f.Delivered = nil
		}
	}
	for _, o := range offers {
		if _, here := slices.BinarySearch(t.nodes, o.Node); !here {
			return nil, fmt.Errorf("offer of node %.60q: %w: no such node", o.Node, ErrCells)
		}
		for _, f := range []*Figure{at(o.Node, o.Kind), at(o.Node, ""), at("", o.Kind), at("", "")} {
			var fits, also bool
			f.Offered, fits = sum(f.Offered, o.Offered)
			if f.Target, also = sum(f.Target, o.Target); !fits || !also {
				return nil, fmt.Errorf("offer of node %.60q: %w: below zero or too large", o.Node, ErrCells)
			}
		}
	}
	return figures, nil
}

// clear publishes a unit's row if enough members stand behind it and behind every difference to what was delivered, and no
// total it follows from is withheld: whoever knows what is owed in a unit may reckon back what was delivered. waiting holds for how many releases
// the pool's row was withheld. The pool's balances around a single withheld release would give its difference away, so
// after exactly one comes a second, and dues being a known share of what is owed, that is withheld with it.
func (r *Report) clear(out *Release, hidden map[string]bool, waiting map[string]int) {
	for _, c := range r.Clearing {
		row := Cleared{Unit: c.Unit}
		if r.Privacy.shows(c.Gross, c.Largest, c.Members) && waiting[c.Unit] != 1 &&
			!slices.ContainsFunc(c.Kinds, func(k string) bool { return hidden[k] }) &&
			!slices.ContainsFunc(c.Apart, func(g Group) bool { return !r.Privacy.shows(g.Amount, g.Largest, g.Members) }) {
			left := c.Gross - c.Cleared
			row.Gross, row.Cleared, row.Left = &c.Gross, &c.Cleared, &left
			row.Ratio = ratio(c.Cleared, c.Gross)
		}
		out.Clearing = append(out.Clearing, row)
	}
	slices.SortFunc(out.Clearing, func(a, b Cleared) int { return cmp.Compare(a.Unit, b.Unit) })
}

// pool publishes a unit's row where its closing is published. A row that is left out stays withheld and
// does not shorten the wait: a period without any movement would hide nothing.
func (r *Report) pool(out *Release, waiting map[string]int) {
	for _, p := range r.Pool {
		row := Commons{Unit: p.Unit}
		if slices.ContainsFunc(out.Clearing, func(c Cleared) bool { return c.Unit == p.Unit && c.Gross != nil }) {
			row.In, row.Out, row.Balance, row.Demand = &p.In, &p.Out, &p.Balance, &p.Demand
			row.Coverage = ratio(max(p.Balance, 0), p.Demand)
		} else {
			row.Withheld = waiting[p.Unit] + 1
		}
		out.Pool = append(out.Pool, row)
	}
	for unit, n := range waiting {
		if n > 0 && !slices.ContainsFunc(r.Pool, func(p Pool) bool { return p.Unit == unit }) {
			out.Pool = append(out.Pool, Commons{Unit: unit, Withheld: n})
		}
	}
	slices.SortFunc(out.Pool, func(a, b Commons) int { return cmp.Compare(a.Unit, b.Unit) })
}

// check holds a report to its form.
func (r *Report) check(previous *Release) error {
	if err := r.Privacy.check(); err != nil {
		return err
	}
	// Two periods may be cut on one day. Which leaves count is for the cuts to say; here it must only not go backward.
	if previous != nil && (previous.Network != r.Network || previous.Period == r.Period || previous.To > isoDay(r.To)) {
		return fmt.Errorf("%w: the release before is of %.60q and ends %.60q on %s", ErrReport, previous.Network, previous.Period, previous.To)
	}
	if r.From < firstDay || r.To > lastDay || r.From > r.To || r.Period == "" || len(r.Houses) > MaxNodes || r.Statement < 0 ||
		r.DisputesOpened < 0 || r.DisputesClosed < 0 || r.Breaches < 0 {
		return fmt.Errorf("%w: period, number of houses or a count is out of range", ErrReport)
	}
	names := []func() (string, []string){
		func() (string, []string) { return "house", collect(r.Houses, func(h House) string { return h.ID }) },
		func() (string, []string) { return "unit", collect(r.Units, func(u Unit) string { return u.Name }) },
		func() (string, []string) {
			return "measure", collect(r.Measures, func(m Measure) string { return m.Unit })
		},
		func() (string, []string) {
			return "clearing", collect(r.Clearing, func(c Clearing) string { return c.Unit })
		},
		func() (string, []string) { return "pool", collect(r.Pool, func(p Pool) string { return p.Unit }) },
		func() (string, []string) {
			return "correction", collect(r.Corrections, func(c Correction) string { return c.Period })
		},
	}
	for _, list := range names {
		what, ids := list()
		slices.Sort(ids)
		for i, id := range ids {
			if id == "" || id == All || len(id) > MaxNameBytes || i > 0 && ids[i-1] == id {
				return fmt.Errorf("%w: %s %.60q is unnamed, too long, or there twice", ErrReport, what, id)
			}
		}
	}
	for _, c := range r.Clearing {
		if c.Cleared < 0 || c.Cleared > c.Gross {
			return fmt.Errorf("%w: %d cleared of %d in %.60q", ErrReport, c.Cleared, c.Gross, c.Unit)
		}
		for _, g := range append([]Group{{c.Gross, c.Members, c.Largest}}, c.Apart...) {
			if err := (Cell{Kind: c.Unit, Amount: g.Amount, Members: g.Members, Largest: g.Largest}).check(); err != nil {
				return err
			}
		}
	}
	for _, p := range r.Pool {
		if p.In < 0 || p.Out < 0 || p.Demand < 0 {
			return fmt.Errorf("%w: pool of %.60q", ErrReport, p.Unit)
		}
	}
	return nil
}

func collect[T any](list []T, name func(T) string) []string {
	names := make([]string, 0, len(list))
	for _, v := range list {
		names = append(names, name(v))
	}
	return names
}

// ratio gives an exact fraction; nil where there is nothing to divide by.
func ratio(num, den int64) *Ratio {
	if den <= 0 || num < 0 {
		return nil
	}
	return &Ratio{num, den, percent(num, den)}
}

// mostPermille bounds what is written as a percentage.
const mostPermille = 9_999_999

// percent writes num/den with one decimal place, rounded down so that nothing looks more complete than it is.
func percent(num, den int64) string {
	n := permille(num, den)
	return strconv.FormatInt(n/10, 10) + "." + strconv.FormatInt(n%10, 10)
}

func permille(num, den int64) int64 {
	hi, lo := bits.Mul64(uint64(num), 1000)
	if hi >= uint64(den) {
		return mostPermille
	}
	q, _ := bits.Div64(hi, lo, uint64(den))
	return int64(min(q, mostPermille))
}
