package store

import (
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is a compact range over [0, size): the roots of the perfect subtrees of an RFC 6962 tree, left to right. It
// needs no more than 40 hashes for any log.
type tree struct {
	size   uint64
	hashes []tlog.Hash
}

// visitor sees every inner node and leaf that becomes complete, by level and index.
type visitor func(level int, index uint64, h tlog.Hash)

func (t *tree) append(h tlog.Hash, visit visitor) {
	level := 0
	if visit != nil {
		visit(0, t.size, h)
	}
	for s := t.size; s&1 == 1; s >>= 1 {
		last := len(t.hashes) - 1
		h = tlog.NodeHash(t.hashes[last], h)
		t.hashes = t.hashes[:last]
		level++
		if visit != nil {
			visit(level, t.size>>level, h)
		}
	}
	t.hashes = append(t.hashes, h)
	t.size++
}

func (t *tree) root() (tlog.Hash, error) {
	if t.size == 0 {
		return tlog.TreeHash(0, nil)
	}
	h := t.hashes[len(t.hashes)-1]
	for i := len(t.hashes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.hashes[i], h)
	}
	return h, nil
}

func (t *tree) clone() tree { return tree{size: t.size, hashes: slices.Clone(t.hashes)} }

func (t *tree) equal(o tree) bool {
	if t.size != o.size || len(t.hashes) != len(o.hashes) {
		return false
	}
	for i := range t.hashes {
		if t.hashes[i] != o.hashes[i] {
			return false
		}
	}
	return true
}

// node gives the root of one of the perfect subtrees that the range consists of.
func (t *tree) node(level int, index uint64) (tlog.Hash, bool) {
	i, at := 0, uint64(0)
	for l := bits.Len64(t.size) - 1; l >= 0; l-- {
		if t.size>>l&1 == 0 {
			continue
		}
		if l == level && at>>l == index {
			return t.hashes[i], true
		}
		at += 1 << l
		i++
	}
	return tlog.Hash{}, false
}

// extends reports whether nothing that both ranges name differs. Without the leaves between them more cannot be said.
func (t *tree) extends(o tree) bool {
	i, at := 0, uint64(0)
	for l := bits.Len64(o.size) - 1; l >= 0; l-- {
		if o.size>>l&1 == 0 {
			continue
		}
		if h, ok := t.node(l, at>>l); ok && h != o.hashes[i] {
			return false
		}
		at += 1 << l
		i++
	}
	return true
}

func packRange(r [][32]byte) []byte {
	b := make([]byte, 0, 32*len(r))
	for i := range r {
		b = append(b, r[i][:]...)
	}
	return b
}

func unpackTree(size uint64, b []byte) (tree, error) {
	if len(b) != 32*bits.OnesCount64(size) {
		return tree{}, fmt.Errorf("compact range of %d bytes for size %d", len(b), size)
	}
	t := tree{size: size}
	for ; len(b) > 0; b = b[32:] {
		t.hashes = append(t.hashes, tlog.Hash(b[:32]))
	}
	return t, nil
}
