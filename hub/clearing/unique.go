package clearing

import "fmt"

// verifyUnique refuses an answer beside which another is as good in every stage. The difference of two such answers is a
// set of closed walks over free arcs. An arc strictly between its bounds can move both ways, so those arcs must form a
// forest; with each tree shrunk to one point, an arc at a bound can move one way only, and those must form no cycle.
func (c *Case) verifyUnique(free []loose) error {
	if a := c.tie(free); a != nil {
		return fmt.Errorf("debt can still move between %q and %q: %w", c.nodes[a.from], c.nodes[a.to], ErrNotUnique)
	}
	return nil
}

// tie returns an arc of a closed walk that could move, nil when there is none.
func (c *Case) tie(free []loose) *loose {
	if len(free) == 0 {
		return nil
	}
	tree := newForest(len(c.nodes))
	bound := make([]*loose, 0, len(free))
	for i := range free {
		a := &free[i]
		if a.flow == 0 || a.flow == a.limit {
			bound = append(bound, a)
			continue
		}
		if !tree.join(a.from, a.to) {
			return a
		}
	}
	return c.cycle(tree, bound)
}

// cycle peels off points into which nothing can move (Kahn's topological order) and returns an arc among the rest.
func (c *Case) cycle(tree forest, bound []*loose) *loose {
	ends := func(a *loose) (from, to int32) {
		from, to = tree.root(a.from), tree.root(a.to)
		if a.flow != 0 { // full: it can only move back
			from, to = to, from
		}
		return from, to
	}
	start := make([]int32, len(c.nodes)+1)
	in := make([]int32, len(c.nodes))
	for _, a := range bound {
		from, to := ends(a)
		start[from+1]++
		in[to]++
	}
	for v := range c.nodes {
		start[v+1] += start[v]
	}
	out := make([]int32, len(bound))
	fill := make([]int32, len(c.nodes))
	for _, a := range bound {
		from, to := ends(a)
		out[start[from]+fill[from]] = to
		fill[from]++
	}
	ready := make([]int32, 0, len(c.nodes))
	for v := range c.nodes {
		if in[v] == 0 {
			ready = append(ready, int32(v))
		}
	}
	for n := 0; n < len(ready); n++ {
		v := ready[n]
		for _, to := range out[start[v]:start[v+1]] {
			if in[to]--; in[to] == 0 {
				ready = append(ready, to)
			}
		}
	}
	for _, a := range bound {
		if from, to := ends(a); in[from] > 0 && in[to] > 0 {
			return a
		}
	}
	return nil
}

// forest is a union-find over node indices with path halving.
type forest []int32

func newForest(n int) forest {
	f := make(forest, n)
	for i := range f {
		f[i] = int32(i)
	}
	return f
}

func (f forest) root(v int32) int32 {
	for f[v] != v {
		f[v] = f[f[v]]
		v = f[v]
	}
	return v
}

// join unites two trees and says false when they were one already.
func (f forest) join(a, b int32) bool {
	ra, rb := f.root(a), f.root(b)
	if ra == rb {
		return false
	}
	f[max(ra, rb)] = min(ra, rb)
	return true
}
