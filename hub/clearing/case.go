package clearing

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// Bounds of one case. MaxTotal leaves two bits of an int64 free, so that the sum of every capacity, and with it every
// sum a node can see, fits twice.
const (
	MaxNodes       = 1 << 20 // nodes
	MaxObligations = 1 << 24 // obligations
	MaxRoots       = 1 << 16 // log roots of one cut
	MaxAgeCap      = 36_500  // days
	MaxDay         = 1 << 24 // days since 1970-01-01
	MaxNameBytes   = 48      // bytes of a node's or a unit's name
	MaxTotal       = 1<<62 - 1
)

// ID names an obligation: the 32-byte identity it has in the ledger.
type ID [32]byte

// String returns the ID as 64 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Day counts days since 1970-01-01.
type Day int32

// Obligation is what one node owes another. Amount counts the smallest parts of the unit.
type Obligation struct {
	ID       ID
	Debtor   string
	Creditor string
	Unit     string
	Amount   int64
	Day      Day // due day; never after the cut
}

// Limit is one node's balance with the pool, and the two sides it may move between. A balance that facts already
// carried past a side is allowed: it can then only move back.
type Limit struct {
	Node    string
	Balance int64
	Floor   int64
	Ceiling int64
}

// Terms say under which conditions a case is cleared. Limits open the pool: each adds a way from and to Commons.
type Terms struct {
	Unit    string
	Cut     Day
	AgeCap  int32      // days; a debt older than this counts as this old
	Roots   [][32]byte // roots of the logs at the cut, in any order; the lot is drawn from them
	Commons string     // the commons' node; may be empty when there are no limits
	Limits  []Limit    // in any order
}

// Case is a checked, canonical case. It is immutable and can only come from [Compile] or [DecodeCase].
type Case struct {
	terms   Terms    // Roots and Limits ascending
	nodes   []string // ascending
	debts   []debt   // ascending by debtor, creditor, day, ID
	arcs    []arc    // debts merged by debtor, creditor and age, in the order of debts; then the ways of the pool
	debtEnd int      // arcs[:debtEnd] carry debts
	commons int32    // index in nodes, -1 without a commons
	total   int64    // sum of all amounts
}

type debt struct {
	id       ID
	amount   int64
	debtor   int32
	creditor int32
	day      Day
}

// arc is one direction in which debt can be discharged. Several debts of one age share it: the oldest-first rule divides
// its flow between them.
type arc struct {
	limit int64 // capacity
	from  int32 // debtor
	to    int32 // creditor
	first int32 // debts[first:end], or the limit's index for a way of the pool
	end   int32
	age   int32 // days, capped
	kind  arcKind
}

type arcKind uint8

const (
	arcDebt  arcKind = iota
	arcDraw          // from the commons to a node: the node's pool balance falls
	arcPayIn         // from a node to the commons: the node's pool balance rises
)

// Unit returns the unit of the case.
func (c *Case) Unit() string { return c.terms.Unit }

// Cut returns the last day of the case.
func (c *Case) Cut() Day { return c.terms.Cut }

// Size returns the number of nodes and of obligations.
func (c *Case) Size() (nodes, obligations int) { return len(c.nodes), len(c.debts) }

// Gross returns the sum of all amounts.
func (c *Case) Gross() int64 { return c.total }

// Nodes returns the names of all nodes, ascending. The caller must not change them.
func (c *Case) Nodes() []string { return c.nodes }

// Limits returns the pool limits in canonical order. The caller must not change them.
func (c *Case) Limits() []Limit { return c.terms.Limits }

// Obligation returns the i-th obligation in canonical order.
func (c *Case) Obligation(i int) Obligation {
	d := &c.debts[i]
	return Obligation{ID: d.id, Debtor: c.nodes[d.debtor], Creditor: c.nodes[d.creditor],
		Unit: c.terms.Unit, Amount: d.amount, Day: d.day}
}

// Compile checks terms and obligations and brings them into canonical order. The order of the input does not matter,
// and the input is not kept.
func Compile(terms Terms, obligations []Obligation) (*Case, error) {
	if len(obligations) > MaxObligations {
		return nil, fmt.Errorf("compiling a case of %d obligations: %w (at most %d)", len(obligations), ErrTooMany, MaxObligations)
	}
	c := &Case{terms: terms}
	if err := c.adoptTerms(); err != nil {
		return nil, fmt.Errorf("compiling terms: %w", err)
	}
	index, err := c.adoptNodes(obligations)
	if err != nil {
		return nil, fmt.Errorf("compiling nodes: %w", err)
	}
	if err := c.adoptDebts(obligations, index); err != nil {
		return nil, fmt.Errorf("compiling obligations: %w", err)
	}
	if err := c.refuseTwins(); err != nil {
		return nil, fmt.Errorf("compiling obligations: %w", err)
	}
	if err := c.merge(); err != nil {
		return nil, fmt.Errorf("compiling capacities: %w", err)
	}
	return c, nil
}

func (c *Case) adoptTerms() error {
	t := &c.terms
	switch {
	case !validName(t.Unit):
		return fmt.Errorf("unit %q: %w", t.Unit, ErrName)
	case t.Commons != "" && !validName(t.Commons):
		return fmt.Errorf("commons %q: %w", t.Commons, ErrName)
	case t.AgeCap < 0 || t.AgeCap > MaxAgeCap:
		return fmt.Errorf("age cap %d days: %w (0 to %d)", t.AgeCap, ErrTerms, MaxAgeCap)
	case t.Cut < 0 || t.Cut > MaxDay:
		return fmt.Errorf("cut on day %d: %w (0 to %d)", t.Cut, ErrTerms, MaxDay)
	case len(t.Roots) == 0 || len(t.Roots) > MaxRoots:
		return fmt.Errorf("%d roots: %w (1 to %d: the lot is drawn from them)", len(t.Roots), ErrTerms, MaxRoots)
	case len(t.Limits) > 0 && t.Commons == "":
		return fmt.Errorf("limits without a commons: %w", ErrTerms)
	case len(t.Limits) > MaxNodes:
		return fmt.Errorf("%d limits: %w", len(t.Limits), ErrTooMany)
	}
	t.Roots = slices.Clone(t.Roots)
	slices.SortFunc(t.Roots, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	t.Limits = slices.Clone(t.Limits)
	slices.SortFunc(t.Limits, func(a, b Limit) int { return cmp.Compare(a.Node, b.Node) })
	for i, l := range t.Limits {
		if err := c.checkLimit(i, l); err != nil {
			return fmt.Errorf("limit of %q: %w", l.Node, err)
		}
	}
	return nil
}

func (c *Case) checkLimit(i int, l Limit) error {
	inside := func(v int64) bool { return v >= -MaxTotal && v <= MaxTotal }
	switch {
	case !validName(l.Node):
		return ErrName
	case l.Node == c.terms.Commons:
		return fmt.Errorf("the commons has no limit with itself: %w", ErrLimit)
	case i > 0 && c.terms.Limits[i-1].Node == l.Node:
		return ErrDuplicate
	case l.Floor > l.Ceiling:
		return fmt.Errorf("floor %d above ceiling %d: %w", l.Floor, l.Ceiling, ErrLimit)
	case !inside(l.Balance) || !inside(l.Floor) || !inside(l.Ceiling):
		return ErrOverflow
	}
	return nil
}

// adoptNodes collects every name once, ascending, and returns the index of each.
func (c *Case) adoptNodes(obligations []Obligation) (map[string]int32, error) {
	index := make(map[string]int32)
	adopt := func(name string) error {
		if _, known := index[name]; known {
			return nil
		}
		if !validName(name) {
			return fmt.Errorf("node %q: %w", name, ErrName)
		}
		if len(index) == MaxNodes {
			return fmt.Errorf("node %q: %w (at most %d)", name, ErrTooMany, MaxNodes)
		}
		index[name] = 0
		c.nodes = append(c.nodes, name)
		return nil
	}
	if c.terms.Commons != "" {
		if err := adopt(c.terms.Commons); err != nil {
			return nil, err
		}
	}
	for i := range c.terms.Limits {
		if err := adopt(c.terms.Limits[i].Node); err != nil {
			return nil, err
		}
	}
	for i := range obligations {
		if err := adopt(obligations[i].Debtor); err != nil {
			return nil, err
		}
		if err := adopt(obligations[i].Creditor); err != nil {
			return nil, err
		}
	}
	slices.Sort(c.nodes)
	for i, name := range c.nodes {
		index[name] = int32(i)
	}
	c.commons = -1
	if c.terms.Commons != "" {
		c.commons = index[c.terms.Commons]
	}
	return index, nil
}

// adoptDebts sorts the obligations: first into one bucket per debtor, then within each bucket.
func (c *Case) adoptDebts(obligations []Obligation, index map[string]int32) error {
	start := make([]int32, len(c.nodes)+1)
	debtors := make([]int32, len(obligations))
	for i := range obligations {
		o := &obligations[i]
		if err := c.checkObligation(o); err != nil {
			return fmt.Errorf("obligation %s: %w", o.ID, err)
		}
		if o.Amount > MaxTotal-c.total {
			return fmt.Errorf("obligation %s of %d on top of %d: %w", o.ID, o.Amount, c.total, ErrOverflow)
		}
		c.total += o.Amount
		debtors[i] = index[o.Debtor]
		start[debtors[i]+1]++
	}
	for v := range c.nodes {
		start[v+1] += start[v]
	}
	next := slices.Clone(start)
	c.debts = make([]debt, len(obligations))
	for i := range obligations {
		o, v := &obligations[i], debtors[i]
		c.debts[next[v]] = debt{id: o.ID, amount: o.Amount, debtor: v, creditor: index[o.Creditor], day: o.Day}
		next[v]++
	}
	for v := range c.nodes {
		slices.SortFunc(c.debts[start[v]:start[v+1]], compareDebts)
	}
	return nil
}

func (c *Case) checkObligation(o *Obligation) error {
	switch {
	case o.Unit != c.terms.Unit:
		return fmt.Errorf("unit %q in a case of %q: %w", o.Unit, c.terms.Unit, ErrUnit)
	case o.Day > c.terms.Cut:
		return fmt.Errorf("day %d, cut on day %d: %w", o.Day, c.terms.Cut, ErrCut)
	case o.Day < 0:
		return fmt.Errorf("day %d: %w", o.Day, ErrTerms)
	case o.Amount <= 0:
		return fmt.Errorf("amount %d: %w", o.Amount, ErrAmount)
	case o.Debtor == o.Creditor:
		return fmt.Errorf("node %q: %w", o.Debtor, ErrSelf)
	}
	return nil
}

func compareDebts(a, b debt) int {
	if a.debtor != b.debtor {
		return cmp.Compare(a.debtor, b.debtor)
	}
	if a.creditor != b.creditor {
		return cmp.Compare(a.creditor, b.creditor)
	}
	if a.day != b.day {
		return cmp.Compare(a.day, b.day)
	}
	return bytes.Compare(a.id[:], b.id[:])
}

// refuseTwins finds an ID that stands twice, also between different nodes. It sorts the leading eight bytes of all IDs,
// and looks at whole IDs only where those are equal.
func (c *Case) refuseTwins() error {
	lead := make([]uint64, len(c.debts))
	for i := range c.debts {
		lead[i] = binary.BigEndian.Uint64(c.debts[i].id[:])
	}
	slices.Sort(lead)
	shared := make(map[uint64]bool)
	for i := 1; i < len(lead); i++ {
		if lead[i] == lead[i-1] {
			shared[lead[i]] = true
		}
	}
	if len(shared) == 0 {
		return nil
	}
	seen := make(map[ID]bool)
	for i := range c.debts {
		id := c.debts[i].id
		if !shared[binary.BigEndian.Uint64(id[:])] {
			continue
		}
		if seen[id] {
			return fmt.Errorf("obligation %s: %w", id, ErrDuplicate)
		}
		seen[id] = true
	}
	return nil
}

// merge builds the arcs and refuses capacities whose sum does not fit.
func (c *Case) merge() error {
	sum := c.total
	for i := range c.debts {
		d := &c.debts[i]
		age := min(int32(c.terms.Cut-d.day), c.terms.AgeCap)
		if n := len(c.arcs); n > 0 {
			if a := &c.arcs[n-1]; a.from == d.debtor && a.to == d.creditor && a.age == age {
				a.limit += d.amount
				a.end++
				continue
			}
		}
		c.arcs = append(c.arcs, arc{limit: d.amount, from: d.debtor, to: d.creditor, age: age,
			first: int32(i), end: int32(i + 1)})
	}
	c.debtEnd = len(c.arcs)
	for i, l := range c.terms.Limits {
		node, _ := slices.BinarySearch(c.nodes, l.Node)
		draw, payIn := l.room()
		for _, a := range []arc{
			{kind: arcDraw, from: c.commons, to: int32(node), limit: draw, first: int32(i)},
			{kind: arcPayIn, from: int32(node), to: c.commons, limit: payIn, first: int32(i)},
		} {
			if a.limit > MaxTotal-sum {
				return fmt.Errorf("limit of %q: room of %d on top of %d: %w", l.Node, a.limit, sum, ErrOverflow)
			}
			sum += a.limit
			c.arcs = append(c.arcs, a)
		}
	}
	return nil
}

// room returns how far the balance may fall and rise. The bounds checked before keep both below 1<<63.
func (l Limit) room() (draw, payIn int64) {
	return max(0, l.Balance-l.Floor), max(0, l.Ceiling-l.Balance)
}

// validName accepts what the network calls a slug: lower-case letters, digits and inner hyphens.
func validName(s string) bool {
	if len(s) == 0 || len(s) > MaxNameBytes || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', b >= '0' && b <= '9', b == '-':
		default:
			return false
		}
	}
	return true
}
