package journal

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// A group is 256 leaves. The hashes below a complete group's root are not kept in memory and not stored a second time:
// they are the hashes beside the leaves, or one packed row once the leaves are pruned.
const (
	groupBits = 8
	groupSize = 1 << groupBits
)

// tree is the Merkle tree of one epoch as far as memory needs it: every complete hash at levels >= groupBits, and all
// hashes of the last, incomplete group. About 1/4 byte a leaf.
//
// It is a value: a fork grows while the tree it came from stays readable. The two share backing arrays, which is safe
// because nobody reads a slice past its own length and only the writer forks, so an array is only written past every published length.
type tree struct {
	size   uint64
	levels [][]tlog.Hash // levels[l] for l < groupBits holds the incomplete group only
}

// fork is a tree that can be pushed to while t stays as it is.
func (t tree) fork() tree {
	levels := make([][]tlog.Hash, len(t.levels), max(len(t.levels), groupBits)+groupBits)
	copy(levels, t.levels)
	return tree{size: t.size, levels: levels}
}

// push appends one leaf hash to a forked tree. The result is the group's root when this leaf completes one.
func (t *tree) push(h tlog.Hash) *tlog.Hash {
	var root *tlog.Hash
	t.size++
	for l := 0; ; l++ {
		if l == len(t.levels) {
			t.levels = append(t.levels, nil)
		}
		if l < groupBits && t.levels[l] == nil {
			t.levels[l] = make([]tlog.Hash, 0, groupSize>>l)
		}
		if l == groupBits {
			g := h
			root = &g
			clear(t.levels[:groupBits])
		}
		t.levels[l] = append(t.levels[l], h)
		n := len(t.levels[l])
		if n%2 == 1 {
			return root
		}
		h = tlog.NodeHash(t.levels[l][n-2], t.levels[l][n-1])
	}
}

// pushGroup appends the root of a whole group to a forked tree; only legal at a group boundary.
func (t *tree) pushGroup(h tlog.Hash) {
	t.size += groupSize
	for l := groupBits; ; l++ {
		for l >= len(t.levels) {
			t.levels = append(t.levels, nil)
		}
		t.levels[l] = append(t.levels[l], h)
		n := len(t.levels[l])
		if n%2 == 1 {
			return
		}
		h = tlog.NodeHash(t.levels[l][n-2], t.levels[l][n-1])
	}
}

func (t tree) root() tlog.Hash {
	h, err := tlog.TreeHash(int64(t.size), t.reader(nil))
	if err != nil {
		panic("journal: a tree cannot read its own right edge: " + err.Error())
	}
	return h
}

// groupReader yields the 256 leaf hashes of a complete group.
type groupReader func(group uint64) ([]tlog.Hash, error)

// reader serves tlog. Levels below a complete group's root are recomputed from the group's leaf hashes.
func (t tree) reader(groups groupReader) tlog.HashReader {
	loaded := map[uint64][]tlog.Hash{}
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			level, n := tlog.SplitStoredHashIndex(index)
			h, err := t.node(level, uint64(n), groups, loaded)
			if err != nil {
				return nil, err
			}
			out[i] = h
		}
		return out, nil
	})
}

func (t tree) node(level int, n uint64, groups groupReader, loaded map[uint64][]tlog.Hash) (tlog.Hash, error) {
	if (n+1)<<level > t.size {
		return tlog.Hash{}, fmt.Errorf("%w: hash (%d,%d) in a tree of %d", ErrRange, level, n, t.size)
	}
	if level >= groupBits {
		return t.levels[level][n], nil
	}
	group := n >> (groupBits - level)
	first := n - group<<(groupBits-level) // position within the group's row of this level
	if group == t.size>>groupBits {
		return t.levels[level][first], nil
	}
	leaves, ok := loaded[group]
	if !ok {
		if groups == nil {
			return tlog.Hash{}, fmt.Errorf("%w: group %d is not in memory", ErrRange, group)
		}
		var err error
		if leaves, err = groups(group); err != nil {
			return tlog.Hash{}, err
		}
		loaded[group] = leaves
	}
	return fold(leaves[first<<level : (first+1)<<level]), nil
}

// fold is the root of a complete subtree; len(hashes) is a power of two.
func fold(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return tlog.NodeHash(fold(hashes[:half]), fold(hashes[half:]))
}
