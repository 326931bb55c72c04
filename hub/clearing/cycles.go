package clearing

// onCycles keeps of the free arcs those that can lie on a closed walk: a node with a single free arc has none through it,
// so the arc is dropped, and so on until nothing more falls off. What is dropped carries the same flow in every answer
// that is still as good. Most of what two stages leave free falls off here, and needs no lot.
//
// Each node keeps how many free arcs it has and the exclusive-or of their positions and of their other ends, so that the
// last one left can be named without any list.
func (c *Case) onCycles(free []loose) []loose {
	nodes := make([]struct{ count, arcs, ends int32 }, len(c.nodes))
	for i := range free {
		a := &free[i]
		from, to := &nodes[a.from], &nodes[a.to]
		from.count++
		from.arcs ^= int32(i)
		from.ends ^= a.to
		to.count++
		to.arcs ^= int32(i)
		to.ends ^= a.from
	}
	dropped := make([]bool, len(free))
	for v := range nodes {
		for at := int32(v); nodes[at].count == 1; {
			i, other := nodes[at].arcs, nodes[at].ends
			dropped[i] = true
			nodes[at].count = 0
			nodes[other].count--
			nodes[other].arcs ^= i
			nodes[other].ends ^= at
			at = other
		}
	}
	left := free[:0]
	for i := range free {
		if !dropped[i] {
			left = append(left, free[i])
		}
	}
	return left
}
