package clearing

// onCycles keeps of the free arcs those that can lie on a closed walk: a node with a single free arc has none through it,
// so the arc is dropped, and so on until nothing more falls off. What is dropped carries the same flow in every answer
// that is still as good. Most of what two stages leave free falls off here, and needs no lot.
//
// Each node keeps how many free arcs it has and the exclusive-or of their positions, so that the last one left can be
// named without any list.
func (c *Case) onCycles(free []int32) []int32 {
	nodes := make([]struct{ count, names int32 }, len(c.nodes))
	for i, k := range free {
		a := &c.arcs[k]
		for _, end := range [2]int32{a.from, a.to} {
			nodes[end].count++
			nodes[end].names ^= int32(i)
		}
	}
	dropped := make([]bool, len(free))
	for v := range c.nodes {
		for at := int32(v); nodes[at].count == 1; {
			i := nodes[at].names
			a := &c.arcs[free[i]]
			dropped[i] = true
			for _, end := range [2]int32{a.from, a.to} {
				nodes[end].count--
				nodes[end].names ^= i
			}
			at = a.from + a.to - at // go on from the other end
		}
	}
	left := free[:0]
	for i, k := range free {
		if !dropped[i] {
			left = append(left, k)
		}
	}
	return left
}
