package store

import "kith/internal/event"

// opaque is the kind of a line that is no leaf of its address. It cannot be taken out, since every later root covers its
// bytes; so it is kept and hashed, but no projection ever sees it. Which lines those are is what the intake found when they
// came: a later program that could read one must not change what was shown.
const opaque event.Kind = ""

// opaqueLines marks them, one bit a line from the lowest; nil when every line is a leaf.
func opaqueLines(leaves []event.Leaf) []byte {
	var bits []byte
	for i := range leaves {
		if leaves[i].Kind != opaque {
			continue
		}
		if bits == nil {
			bits = make([]byte, (len(leaves)+7)/8)
		}
		bits[i/8] |= 1 << (i % 8)
	}
	return bits
}

func isOpaque(bits []byte, place uint64) bool {
	return place/8 < uint64(len(bits)) && bits[place/8]>>(place%8)&1 == 1
}

// readLeaf reads a line as the leaf of an address. What is not one comes back with Kind opaque and the address alone.
func readLeaf(line []byte, network string, l *Log, index uint64) event.Leaf {
	leaf, err := event.Parse(line)
	if err != nil || leaf.Network != network || leaf.Node != l.Node || leaf.Edge != l.Edge || leaf.Epoch != l.Epoch || leaf.Index != index {
		return event.Leaf{Network: network, Node: l.Node, Edge: l.Edge, Epoch: l.Epoch, Index: index}
	}
	return leaf
}
