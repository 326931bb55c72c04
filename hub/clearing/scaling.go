package clearing

import (
	"fmt"
	"math/bits"
)

// Cost scaling after Goldberg: with prices, a circulation is eps-optimal when no edge with room has a reduced cost below
// -eps. Each phase makes eps smaller by saturating what is too cheap and moving the excess on along admissible edges
// (reduced cost below zero), in paths of at most pathLength edges. eps and scale are powers of two, given as exponents.
const (
	firstScale = 7 // bits by which costs are made finer in the first attempt
	scaleStep  = 2 // bits more after a failed attempt
	phaseStep  = 4 // bits less of eps in each phase
	ripeStep   = 8 // bits of eps under the greatest cost from which on an optimum is worth looking for
	pathLength = 4
)

// maxPrice bounds every price, so that cost + price - price never wraps. Prices fall by at most 3*nodes*eps a phase; a
// case that would pass the bound is refused.
const maxPrice = 1 << 60

// optimise finds a circulation of least cost in g and returns the potentials that prove it.
func (g *residual) optimise() ([]int64, error) {
	if g.cost == 0 {
		return make([]int64, g.nodes), nil
	}
	scale := firstScale
	g.rescale(1 << firstScale)
	w := newWorker(g)
	greatest := bits.Len64(uint64(g.cost))
	for eps := greatest + scale; ; {
		eps = max(0, eps-phaseStep)
		if !w.refine(uint(eps)) {
			return nil, fmt.Errorf("a price passed %d: %w", int64(maxPrice), ErrOverflow)
		}
		if eps > greatest+scale-ripeStep {
			continue
		}
		if eps > 0 {
			if p := g.potentials(earlyPasses); p != nil {
				return p, nil
			}
			continue
		}
		fine := g.scale > int64(g.nodes) // below 1/nodes, eps-optimal is optimal, and relaxation comes to rest within nodes passes
		passes := ripePasses
		if fine {
			passes = max(passes, g.nodes+1)
		}
		if p := g.potentials(passes); p != nil {
			return p, nil
		}
		if fine {
			return nil, ErrNoProof
		}
		scale += scaleStep
		g.rescale(1 << scaleStep)
	}
}

// worker holds what a phase needs beside the network.
type worker struct {
	*residual
	shift    uint    // eps is 1 << shift
	cur      []int32 // first edge of each node that may still be admissible
	queue    []int32 // nodes with excess, a ring
	head     int
	waiting  int
	queued   []bool
	path     [pathLength]int32
	relabels int
	buckets  buckets
}

func newWorker(g *residual) *worker {
	return &worker{residual: g, cur: make([]int32, g.nodes), queue: make([]int32, g.nodes),
		queued: make([]bool, g.nodes), buckets: newBuckets(g.nodes)}
}

// refine turns the circulation into an eps-optimal one, eps being 1 << shift.
func (w *worker) refine(shift uint) bool {
	w.shift = shift
	w.saturate()
	w.relabels = 0
	for w.waiting > 0 {
		v := w.pop()
		for w.excess[v] > 0 {
			if !w.advance(v) {
				return false
			}
			if w.relabels >= w.nodes {
				w.relabels = 0
				if !w.updatePrices() {
					return false
				}
			}
		}
	}
	return true
}

// saturate fills every edge of negative reduced cost; after it no edge is admissible.
func (w *worker) saturate() {
	copy(w.cur, w.start[:w.nodes])
	for v := range w.nodes {
		pv := w.price[v]
		for i := w.start[v]; i < w.start[v+1]; i++ {
			e := w.edges[i]
			if e.head&mayGo != 0 && int64(e.cost)*w.scale+pv < w.price[e.to()] {
				room := w.links[i].room
				w.excess[v] -= room
				w.excess[e.to()] += room
				w.move(i, room)
			}
		}
	}
	w.head, w.waiting = 0, 0
	for v := range w.nodes {
		if w.excess[v] > 0 {
			w.push(int32(v))
		}
	}
}

func (w *worker) push(v int32) {
	if w.queued[v] {
		return
	}
	w.queued[v] = true
	at := w.head + w.waiting
	if at >= len(w.queue) {
		at -= len(w.queue)
	}
	w.queue[at] = v
	w.waiting++
}

func (w *worker) pop() int32 {
	v := w.queue[w.head]
	if w.head++; w.head == len(w.queue) {
		w.head = 0
	}
	w.waiting--
	w.queued[v] = false
	return v
}

// advance follows admissible edges from v, relabelling dead ends, and moves excess along the path it found.
func (w *worker) advance(v int32) bool {
	tip, steps := v, 0
	for steps < pathLength && (steps == 0 || w.excess[tip] >= 0) {
		if e := w.admissible(tip); e >= 0 {
			w.path[steps] = e
			steps++
			tip = int32(w.edges[e].to())
			continue
		}
		if steps == 0 {
			if !w.relabel(tip, maxPrice) {
				return false
			}
			continue
		}
		// Flow that came along the last edge could go back there, though there is no room yet.
		steps--
		back := w.edges[w.links[w.path[steps]].back]
		if !w.relabel(tip, int64(back.cost)*w.scale+w.price[tip]-w.price[back.to()]) {
			return false
		}
		tip = int32(back.to())
	}
	u := v
	for _, at := range w.path[:steps] {
		amount := min(w.links[at].room, w.excess[u])
		if amount <= 0 {
			break
		}
		to := int32(w.edges[at].to())
		w.move(at, amount)
		w.excess[u] -= amount
		w.excess[to] += amount
		if u != v && w.excess[u] > 0 {
			w.push(u)
		}
		u = to
	}
	if u != v && w.excess[u] > 0 {
		w.push(u)
	}
	return true
}

// admissible returns the next edge of v that flow may take, -1 when v must be relabelled first.
func (w *worker) admissible(v int32) int32 {
	price, scale, at := w.price, w.scale, w.cur[v]
	pv := price[v]
	edges := w.edges[at:w.start[v+1]]
	for i := range edges {
		if e := edges[i]; e.head&mayGo != 0 && int64(e.cost)*scale+pv < price[e.to()] {
			w.cur[v] = at + int32(i)
			return at + int32(i)
		}
	}
	w.cur[v] = w.start[v+1]
	return -1
}

// relabel lowers the price of v as far as eps-optimality allows; least is a reduced cost that must be kept in any case.
func (w *worker) relabel(v int32, least int64) bool {
	price, scale := w.price, w.scale
	pv := price[v]
	least -= pv
	edges := w.edges[w.start[v]:w.start[v+1]]
	for i := range edges {
		if e := edges[i]; e.head&mayGo != 0 {
			least = min(least, int64(e.cost)*scale-price[e.to()])
		}
	}
	price[v] = -least - 1<<w.shift
	w.cur[v] = w.start[v]
	w.relabels++
	return price[v] > -maxPrice
}
