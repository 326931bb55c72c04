package clearing

// residual is the network of what could still move in one stage: every free arc as an edge forward for the flow that may
// be added and an edge backward for the flow that may be taken back. Costs are the negated gains; they count scale times.
// What every scan needs lies together in edges; the rest lies beside it under the same index.
type residual struct {
	nodes  int
	start  []int32 // edges[start[v]:start[v+1]] leave v
	edges  []edge
	limit  []int64 // room of an edge and of the one back, together
	back   []int32 // the same arc the other way
	lead   []int32 // the forward edge of each free arc
	scale  int64
	cost   int64 // greatest |gain|
	price  []int64
	excess []int64
}

type edge struct {
	room int64 // how much may still move along this edge
	to   int32
	cost int32
}

// newResidual lays the free arcs out by node, with the flow they carry now.
func newResidual(c *Case, free []int32, flow []int64, gain func(*arc) int64) *residual {
	n, m := len(c.nodes), 2*len(free)
	g := &residual{nodes: n, start: make([]int32, n+1), edges: make([]edge, m), limit: make([]int64, m),
		back: make([]int32, m), lead: make([]int32, len(free)), scale: 1, price: make([]int64, n), excess: make([]int64, n)}
	for _, k := range free {
		g.start[c.arcs[k].from+1]++
		g.start[c.arcs[k].to+1]++
	}
	for v := range n {
		g.start[v+1] += g.start[v]
	}
	next := make([]int32, n)
	copy(next, g.start)
	for i, k := range free {
		a := &c.arcs[k]
		weight := gain(a)
		g.cost = max(g.cost, weight, -weight)
		there, back := next[a.from], next[a.to]
		next[a.from]++
		next[a.to]++
		g.edges[there] = edge{room: a.limit - flow[k], cost: int32(-weight), to: a.to}
		g.edges[back] = edge{room: flow[k], cost: int32(weight), to: a.from}
		g.limit[there], g.limit[back] = a.limit, a.limit
		g.back[there], g.back[back] = back, there
		g.lead[i] = there
	}
	return g
}

// takeFlow writes the flow back to the arcs.
func (g *residual) takeFlow(free []int32, flow []int64) {
	for i, k := range free {
		flow[k] = g.edges[g.back[g.lead[i]]].room
	}
}

// rescale makes costs and prices finer by a factor.
func (g *residual) rescale(factor int64) {
	g.scale *= factor
	for v := range g.price {
		g.price[v] *= factor
	}
}

// relaxBudget bounds how often potentials may look at an edge before it gives up on the present flow, in passes over
// all edges. A flow that is not yet optimal has a negative cycle and would never come to rest.
const relaxBudget = 6

// potentials rounds the prices to whole costs and repairs them by relaxation until no edge with room has a negative
// reduced cost. It returns nil when the budget runs out.
func (g *residual) potentials() []int64 {
	p := make([]int64, g.nodes)
	for v := range p {
		p[v] = floorDiv(g.price[v], g.scale)
	}
	queue := make([]int32, 0, g.nodes)
	queued := make([]bool, g.nodes)
	for v := range g.nodes {
		queue = append(queue, int32(v))
		queued[v] = true
	}
	budget := int64(relaxBudget) * int64(len(g.edges))
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
			e := &edges[i]
			if e.room == 0 {
				continue
			}
			if bound := pv + int64(e.cost); bound < p[e.to] {
				p[e.to] = bound
				if !queued[e.to] {
					queued[e.to] = true
					queue = append(queue, e.to)
				}
			}
		}
	}
	return p
}

// floorDiv divides rounding down, also below zero.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
