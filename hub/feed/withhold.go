package feed

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
)

// What withholding one more published cell costs: rather several cells of single houses than one total.
const (
	costCell      = 1
	costNodeTotal = 4
	costKindTotal = 6
	costAll       = 20
)

// marginPart is the least share of a small-group figure by which it must stay uncertain: one tenth.
const marginPart = 10

// withhold marks what may not be published.
//
// A reader knows every equation of the table, every published cell, that amounts are whole and never below zero, and
// that a withheld cell is not zero, since zeros are always published. Such a reader can compute a withheld cell exactly
// if and only if no closed walk through withheld cells leads over it on which amounts could be moved round: along an arc
// without bound, against it down to one. (The table is a network, so whole amounts suffice.) For each figure of a small
// group that has no such walk yet, the cheapest one is laid, by which the figure can move by a tenth of itself; the cells
// on it are withheld too, and the same walk protects them.
func (t *table) withhold(rule Privacy) {
	var small []int
	for i := range t.arcs {
		c := &t.arcs[i].cell
		if !rule.shows(c.Amount, c.Largest, c.Members) {
			t.arcs[i].withheld = true
			small = append(small, i)
		}
	}
	slices.SortStableFunc(small, func(a, b int) int { return cmp.Compare(t.arcs[b].cell.Amount, t.arcs[a].cell.Amount) })
	for _, i := range small {
		a := &t.arcs[i]
		need := max(1, a.cell.Amount/marginPart+min(1, a.cell.Amount%marginPart))
		if t.free(i, a.to, a.from, need) || a.cell.Amount-1 >= need && t.free(i, a.from, a.to, need) {
			continue
		}
		walk := t.cheapest(i, a.to, a.from, need)
		if a.cell.Amount-1 >= need {
			if down := t.cheapest(i, a.from, a.to, need); walk == nil || down != nil && down.cost.less(walk.cost) {
				walk = down
			}
		}
		for _, j := range walk.arcs { // there always is one: over the totals, upwards
			t.arcs[j].withheld = true
		}
	}
}

// passes says whether need can be moved over this half of an arc.
func (t *table) passes(h half, need int64) bool {
	amount := t.arcs[h.arc].cell.Amount
	return amount > 0 && (h.forward || amount-1 >= need)
}

func (t *table) end(h half) int {
	if h.forward {
		return t.arcs[h.arc].to
	}
	return t.arcs[h.arc].from
}

// free says whether there is such a walk over cells that are withheld already.
func (t *table) free(without, start, goal int, need int64) bool {
	seen := make([]bool, len(t.out))
	seen[start] = true
	for list := []int{start}; len(list) > 0; {
		at := list[0]
		list = list[1:]
		for _, h := range t.out[at] {
			next := t.end(h)
			if seen[next] || h.arc == without || !t.arcs[h.arc].withheld || !t.passes(h, need) {
				continue
			}
			if next == goal {
				return true
			}
			seen[next] = true
			list = append(list, next)
		}
	}
	return false
}

type price struct {
	weight int
	amount int64 // of what is newly withheld, saturating
}

func (p price) less(o price) bool {
	return cmp.Or(cmp.Compare(p.weight, o.weight), cmp.Compare(p.amount, o.amount)) < 0
}

func (p price) plus(a *arc) price {
	if a.withheld {
		return p
	}
	switch {
	case a.cell.Node != "" && a.cell.Kind != "":
		p.weight += costCell
	case a.cell.Node != "":
		p.weight += costNodeTotal
	case a.cell.Kind != "":
		p.weight += costKindTotal
	default:
		p.weight += costAll
	}
	if a.cell.Amount > math.MaxInt64-p.amount {
		p.amount = math.MaxInt64
	} else {
		p.amount += a.cell.Amount
	}
	return p
}

type walk struct {
	arcs []int
	cost price
}

// cheapest finds the cheapest walk between two places on which need can be moved, without the arc that is to be
// protected. It returns nil if there is none. Equal prices are decided by the order of names.
func (t *table) cheapest(without, start, goal int, need int64) *walk {
	best, via := make([]price, len(t.out)), make([]int, len(t.out))
	for p := range best {
		best[p], via[p] = price{weight: math.MaxInt}, -1
	}
	best[start] = price{}
	q := &queue{{at: start}}
	for q.Len() > 0 {
		s := heap.Pop(q).(stop)
		if s.at == goal {
			break
		}
		if best[s.at].less(s.price) {
			continue
		}
		for _, h := range t.out[s.at] {
			if h.arc == without || !t.passes(h, need) {
				continue
			}
			a, next := &t.arcs[h.arc], t.end(h)
			if p := s.price.plus(a); p.less(best[next]) {
				best[next], via[next] = p, h.arc
				heap.Push(q, stop{p, next})
			}
		}
	}
	if best[goal].weight == math.MaxInt {
		return nil
	}
	w := &walk{cost: best[goal]}
	for p := goal; p != start; {
		a := via[p]
		w.arcs = append(w.arcs, a)
		p = t.arcs[a].from + t.arcs[a].to - p
	}
	return w
}

type stop struct {
	price price
	at    int
}

// queue is a heap of places by price.
type queue []stop

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].price != q[j].price {
		return q[i].price.less(q[j].price)
	}
	return q[i].at < q[j].at
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(stop)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
