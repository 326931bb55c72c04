package feed

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// Bounds of one report.
const (
	MaxNodes         = 1 << 12
	MaxKinds         = 1 << 8
	MaxCells         = 1 << 16
	MaxContributions = 1 << 24
)

// Refusals of a report.
var (
	ErrCells   = errors.New("cells do not add up")
	ErrPrivacy = errors.New("not a privacy rule")
	ErrReport  = errors.New("not a report that can be released")
)

// Contribution is what one member stands behind: the corrected sum of this period. It never leaves this package.
type Contribution struct {
	Node   string // the house it counts for
	Kind   string // resource kind
	Member string // pseudonym, the same at every house; empty: nobody knows any more, or ever did
	Amount int64
}

// Group is an amount with what the small-group rule asks about it.
type Group struct {
	Amount  int64
	Members int   // distinct members behind it
	Largest int64 // the part of the member with the most
}

// Behind counts who stands behind an amount, given what each member has of it. What is under the empty name is nobody's
// that is known: a person who was erased, a private part that never came, or no person at all. It might all be of the one
// member who has the most, and it proves nobody else to be there; so it is added to the largest part and to no head
// count. Forgetting a person can therefore hide a figure and never uncover one.
func Behind(parts map[string]int64) (Group, error) {
	var g Group
	for member, amount := range parts {
		var fits bool
		if g.Amount, fits = sum(g.Amount, amount); !fits {
			return Group{}, fmt.Errorf("counting who stands behind: %w: the sum does not fit", ErrCells)
		}
		if member != "" && amount > 0 {
			g.Members++
			g.Largest = max(g.Largest, amount)
		}
	}
	if g.Largest += parts[""]; g.Amount > 0 { // at most Amount
		g.Members = max(g.Members, 1)
	}
	return g, nil
}

// Cell is one figure with what the small-group rule asks about it. An empty Node or Kind stands for all of them.
type Cell struct {
	Node    string
	Kind    string
	Amount  int64
	Members int   // distinct members behind it
	Largest int64 // the part of the member with the most
}

// Tally turns contributions into cells with all their totals. Distinct members and the largest of a total cannot be
// added up from its parts, so they are counted here.
func Tally(list []Contribution) ([]Cell, error) {
	if len(list) > MaxContributions {
		return nil, fmt.Errorf("tallying %d contributions: %w (at most %d)", len(list), ErrCells, MaxContributions)
	}
	type place struct{ node, kind string }
	parts := map[place]map[string]int64{}
	for i, c := range list {
		if c.Node == "" || c.Kind == "" {
			return nil, fmt.Errorf("tallying contribution %d: %w: node and kind are needed", i, ErrCells)
		}
		for _, p := range []place{{c.Node, c.Kind}, {c.Node, ""}, {"", c.Kind}, {"", ""}} {
			if parts[p] == nil {
				parts[p] = map[string]int64{}
			}
			total, fits := sum(parts[p][c.Member], c.Amount)
			if !fits {
				return nil, fmt.Errorf("tallying contribution %d of %d: %w: below zero or too large; a correction of an earlier "+
					"period belongs among the corrections", i, c.Amount, ErrCells)
			}
			parts[p][c.Member] = total
		}
	}
	cells := make([]Cell, 0, len(parts))
	for p, members := range parts {
		g, err := Behind(members)
		if err != nil {
			return nil, fmt.Errorf("tallying %.60q of %.60q: %w", p.kind, p.node, err)
		}
		cells = append(cells, Cell{Node: p.node, Kind: p.kind, Amount: g.Amount, Members: g.Members, Largest: g.Largest})
	}
	slices.SortFunc(cells, compareCells)
	return cells, nil
}

func compareCells(a, b Cell) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Kind, b.Kind))
}

// Privacy is the small-group rule of the policy.
type Privacy struct {
	MinMembers       int `json:"min_members"`       // fewer distinct members: withheld
	DominancePercent int `json:"dominance_percent"` // one member has more than this share: withheld
}

// DefaultPrivacy is the rule of a network that set none.
func DefaultPrivacy() Privacy { return Privacy{MinMembers: 5, DominancePercent: 80} }

// Bounds of the rule that a policy may set.
const (
	minMembersLeast, minMembersMost = 3, 20
	dominanceLeast, dominanceMost   = 50, 95
)

func (p Privacy) check() error {
	if p.MinMembers < minMembersLeast || p.MinMembers > minMembersMost || p.DominancePercent < dominanceLeast || p.DominancePercent > dominanceMost {
		return fmt.Errorf("at least %d members, none above %d %%: %w (%d to %d members, %d to %d %%)", p.MinMembers, p.DominancePercent,
			ErrPrivacy, minMembersLeast, minMembersMost, dominanceLeast, dominanceMost)
	}
	return nil
}

// shows says whether so many members, none of them with more than largest, may stand behind a published amount. Nothing
// at all is no person's doing and may be said.
func (p Privacy) shows(amount, largest int64, members int) bool {
	if amount == 0 {
		return true
	}
	if members < p.MinMembers {
		return false
	}
	lhi, llo := bits.Mul64(uint64(largest), 100)
	ahi, alo := bits.Mul64(uint64(amount), uint64(p.DominancePercent))
	return lhi < ahi || lhi == ahi && llo <= alo
}

// table is one measure as a circulation: every house and every kind is a place, every cell an arc from its house to its
// kind, and the totals lead back: kind -> all kinds -> all houses -> house. What flows into a place flows out of it, and
// these equations are exactly what a reader of the table knows.
type table struct {
	nodes, kinds []string
	arcs         []arc
	out          [][]half // by place
}

type arc struct {
	from, to int
	cell     Cell
	withheld bool
}

type half struct {
	arc     int
	forward bool
}

func (t *table) place(node, kind string) (from, to int) {
	n, _ := slices.BinarySearch(t.nodes, node)
	k, _ := slices.BinarySearch(t.kinds, kind)
	k += len(t.nodes)
	allKinds := len(t.nodes) + len(t.kinds)
	allNodes := allKinds + 1
	switch {
	case node != "" && kind != "":
		return n, k
	case node != "":
		return allNodes, n
	case kind != "":
		return k, allKinds
	}
	return allKinds, allNodes
}

// newTable checks that the cells add up and lays them out. Cells that are not given are zero.
func newTable(nodes, kinds []string, cells []Cell) (*table, error) {
	t := &table{nodes: nodes, kinds: kinds, out: make([][]half, len(nodes)+len(kinds)+2)}
	cells = slices.Clone(cells)
	slices.SortFunc(cells, compareCells)
	in, out := make([]int64, len(t.out)), make([]int64, len(t.out))
	for i, c := range cells {
		if i > 0 && compareCells(cells[i-1], c) == 0 {
			return nil, fmt.Errorf("cell %.60q of %.60q: %w: it stands twice", c.Kind, c.Node, ErrCells)
		}
		if _, here := slices.BinarySearch(nodes, c.Node); c.Node != "" && !here {
			return nil, fmt.Errorf("cell of node %.60q: %w: no such node", c.Node, ErrCells)
		}
		if _, here := slices.BinarySearch(kinds, c.Kind); c.Kind != "" && !here {
			return nil, fmt.Errorf("cell of kind %.60q: %w: no such kind", c.Kind, ErrCells)
		}
		if err := c.check(); err != nil {
			return nil, err
		}
		from, to := t.place(c.Node, c.Kind)
		var fitsIn, fitsOut bool
		out[from], fitsOut = sum(out[from], c.Amount)
		in[to], fitsIn = sum(in[to], c.Amount)
		if !fitsIn || !fitsOut {
			return nil, fmt.Errorf("cell %.60q of %.60q: %w: the sum does not fit", c.Kind, c.Node, ErrCells)
		}
		t.out[from] = append(t.out[from], half{len(t.arcs), true})
		t.out[to] = append(t.out[to], half{len(t.arcs), false})
		t.arcs = append(t.arcs, arc{from: from, to: to, cell: c})
	}
	for p := range in {
		if in[p] != out[p] {
			return nil, fmt.Errorf("total %d of parts %d: %w", in[p], out[p], ErrCells)
		}
	}
	return t, nil
}

// check holds one cell to what members can add up to.
func (c Cell) check() error {
	hi, lo := bits.Mul64(uint64(max(c.Largest, 0)), uint64(max(c.Members, 0)))
	if c.Amount < 0 || c.Members < 0 || c.Largest < 0 || c.Largest > c.Amount || hi == 0 && lo < uint64(c.Amount) {
		return fmt.Errorf("cell %.60q of %.60q: %w: %d by %d members with at most %d each", c.Kind, c.Node, ErrCells, c.Amount, c.Members, c.Largest)
	}
	return nil
}
