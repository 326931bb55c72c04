package clearing

// residual is the network of what could still move in one stage: every free arc as an edge forward for the flow that may
// be added and an edge backward for the flow that may be taken back. Costs are the negated gains; they count scale times.
// Only nodes with a free arc take part, under numbers of their own. A scan reads edges and prices and nothing else; how
// much room there is lies beside, under the edge's index.
type residual struct {
	nodes  int
	names  []int32 // index in the case of each node
	start  []int32 // edges[start[v]:start[v+1]] leave v
	edges  []edge
	links  []link
	lead   []int32 // the forward edge of each free arc
	scale  int64
	cost   int64 // greatest |gain|
	price  []int64
	excess []int64
}

// edge is what a scan reads: the node at its end, whether anything can still move there, and whether anything can come
// from there along the edge back.
type edge struct {
	head uint32 // node<<headShift, mayGo, mayCome
	cost int32
}

const (
	mayGo     = 1
	mayCome   = 2
	headShift = 2
)

func (e edge) to() uint32 { return e.head >> headShift }

// link is the rest of an edge.
type link struct {
	room int64 // how much may still move
	back int32 // the same arc the other way
}

// newResidual lays the free arcs out by node, with the flow they carry now.
func newResidual(c *Case, free []int32, flow []int64, gain func(*arc) int64) *residual {
	m := 2 * len(free)
	g := &residual{edges: make([]edge, m), links: make([]link, m), lead: make([]int32, len(free)), scale: 1}
	number := make([]int32, len(c.nodes)+1)
	for _, k := range free {
		number[c.arcs[k].from]++
		number[c.arcs[k].to]++
	}
	g.start = append(g.start, 0)
	for v, n := range number {
		if n == 0 {
			continue
		}
		number[v] = int32(g.nodes)
		g.names = append(g.names, int32(v))
		g.start = append(g.start, g.start[g.nodes]+n)
		g.nodes++
	}
	g.price, g.excess = make([]int64, g.nodes), make([]int64, g.nodes)
	next := make([]int32, g.nodes)
	copy(next, g.start)
	for i, k := range free {
		a := &c.arcs[k]
		weight := gain(a)
		g.cost = max(g.cost, weight, -weight)
		from, to := number[a.from], number[a.to]
		there, back := next[from], next[to]
		next[from]++
		next[to]++
		g.edges[there] = edge{head: uint32(to) << headShift, cost: int32(-weight)}
		g.edges[back] = edge{head: uint32(from) << headShift, cost: int32(weight)}
		g.links[there] = link{room: a.limit - flow[k], back: back}
		g.links[back] = link{room: flow[k], back: there}
		if flow[k] < a.limit {
			g.edges[there].head |= mayGo
			g.edges[back].head |= mayCome
		}
		if flow[k] > 0 {
			g.edges[back].head |= mayGo
			g.edges[there].head |= mayCome
		}
		g.lead[i] = there
	}
	return g
}

// move sends an amount along an edge.
func (g *residual) move(at int32, amount int64) {
	there := &g.links[at]
	back := &g.links[there.back]
	if back.room == 0 {
		g.edges[there.back].head |= mayGo
		g.edges[at].head |= mayCome
	}
	there.room -= amount
	back.room += amount
	if there.room == 0 {
		g.edges[at].head &^= mayGo
		g.edges[there.back].head &^= mayCome
	}
}

// takeFlow writes the flow back to the arcs.
func (g *residual) takeFlow(free []int32, flow []int64) {
	for i, k := range free {
		flow[k] = g.links[g.links[g.lead[i]].back].room
	}
}

// rescale makes costs and prices finer by a factor.
func (g *residual) rescale(factor int64) {
	g.scale *= factor
	for v := range g.price {
		g.price[v] *= factor
	}
}

// Bounds on how often potentials may look at an edge before it gives up on the present flow, in passes over all edges.
const (
	earlyPasses = 4  // while prices can still be made finer: the flow may be optimal, more often it is not
	ripePasses  = 20 // at the end of an attempt: the few cycles that are left are worth being found here
)

// potentials rounds the prices to whole costs and repairs them by relaxation until no edge with room has a negative
// reduced cost. A flow that is not yet optimal has negative cycles, on which this would never come to rest; once in a
// while it looks for them among the edges that last lowered a node, and lets flow go round. It returns nil when the
// passes run out.
func (g *residual) potentials(passes int) []int64 {
	p := make([]int64, g.nodes)
	via := make([]int32, g.nodes) // the edge that last lowered the node, -1 when none
	queue := make([]int32, g.nodes)
	queued := make([]bool, g.nodes)
	for v := range p {
		p[v] = floorDiv(g.price[v], g.scale)
		via[v] = -1
		queue[v] = int32(v)
		queued[v] = true
	}
	lowered := 0
	budget := int64(passes) * int64(len(g.edges))
	for head := 0; head < len(queue); head++ {
		if head == g.nodes { // reuse the space of what was served
			queue = append(queue[:0], queue[head:]...)
			head = 0
		}
		v := queue[head]
		queued[v] = false
		pv := p[v]
		edges := g.edges[g.start[v]:g.start[v+1]]
		if budget -= int64(len(edges)); budget < 0 {
			return nil
		}
		for i := range edges {
			e := edges[i]
			if e.head&mayGo == 0 {
				continue
			}
			if to := e.to(); pv+int64(e.cost) < p[to] {
				p[to] = pv + int64(e.cost)
				via[to] = g.start[v] + int32(i)
				lowered++
				if !queued[to] {
					queued[to] = true
					queue = append(queue, int32(to))
				}
			}
		}
		if lowered >= g.nodes {
			lowered = 0
			g.cancel(via)
		}
	}
	return p
}

// cancel lets as much as fits go round each cycle of the edges in via, one of which leads to each node at most. Such a
// cycle is negative: each of its edges was tight or better for its end when it lowered it, and the start of one was
// lowered again since. What goes back along it has a reduced cost of zero or more, so no new edge asks for relaxation.
func (g *residual) cancel(via []int32) {
	seen := make([]int32, g.nodes) // in which walk, from 1
	for first := range via {
		walk, v := int32(first)+1, int32(first)
		for seen[v] == 0 && via[v] >= 0 {
			seen[v] = walk
			v = g.tail(via[v])
		}
		if seen[v] != walk {
			continue
		}
		room := g.links[via[v]].room
		for u := g.tail(via[v]); u != v; u = g.tail(via[u]) {
			room = min(room, g.links[via[u]].room)
		}
		for u := v; ; {
			at := via[u]
			g.move(at, room)
			if g.links[at].room == 0 {
				via[u] = -1
			}
			if u = g.tail(at); u == v {
				break
			}
		}
	}
}

// tail returns the node an edge leaves.
func (g *residual) tail(at int32) int32 { return int32(g.edges[g.links[at].back].to()) }

// floorDiv divides rounding down, also below zero.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
