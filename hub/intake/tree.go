package intake

import (
	"crypto/sha256"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is the right edge of an RFC 6962 tree: the roots of the perfect subtrees that cover [0, size), left to right, at
// most 64 of them. It is all the hub needs to extend a log and to know every later root.
type tree struct {
	size  uint64
	nodes []tlog.Hash
}

// treeOf copies the nodes: extend must never write into the stored state of a log, because the new state may be dropped.
func treeOf(size uint64, nodes [][32]byte) tree {
	t := tree{size: size, nodes: make([]tlog.Hash, len(nodes), 64)}
	for i := range nodes {
		t.nodes[i] = nodes[i]
	}
	return t
}

func (t *tree) extend(leaf tlog.Hash) {
	h := leaf
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.nodes) - 1
		h = tlog.NodeHash(t.nodes[last], h)
		t.nodes = t.nodes[:last]
	}
	t.nodes = append(t.nodes, h)
	t.size++
}

func (t *tree) root() tlog.Hash {
	if len(t.nodes) == 0 {
		return sha256.Sum256(nil)
	}
	h := t.nodes[len(t.nodes)-1]
	for i := len(t.nodes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.nodes[i], h)
	}
	return h
}

// whole reports whether the number of nodes fits the size.
func (t *tree) whole() bool { return bits.OnesCount64(t.size) == len(t.nodes) }

func (t *tree) pack() [][32]byte {
	out := make([][32]byte, len(t.nodes))
	for i := range t.nodes {
		out[i] = t.nodes[i]
	}
	return out
}
