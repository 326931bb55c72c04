package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// Proof shows that a leaf is in the tree whose root the hub co-signed.
type Proof struct {
	Size   uint64 // of the receipt
	Root   tlog.Hash
	Path   tlog.RecordProof
	Leaf   tlog.Hash
	Holds  bool   // the path was recomputed here from stored bytes and leads to Root
	Stated string // the root's line of the receipt itself
}

// Inclusion recomputes, from the bytes that are stored, the path from a leaf to the newest receipted root.
// ErrUnknown: no receipt covers the leaf yet. ErrLost: the leaf, or a part of the path, lies in a gap.
func (s *Store) Inclusion(ctx context.Context, a Address) (Proof, error) {
	address, err := s.address(ctx, a)
	if err != nil {
		return Proof{}, err
	}
	p, err := inclusion(ctx, s.read, address)
	if err != nil {
		return Proof{}, fmt.Errorf("proving leaf %s %s %d: %w", a.Edge, a.Epoch, a.Index, err)
	}
	return p, nil
}

func inclusion(ctx context.Context, q querier, address int64) (Proof, error) {
	var p Proof
	var note []byte
	log, index := address>>maxIndexBits, address&(1<<maxIndexBits-1)
	if err := q.QueryRowContext(ctx, `SELECT receipt_size, receipt FROM logs WHERE id = ?`, log).Scan(&p.Size, &note); err != nil {
		return p, err
	}
	if uint64(index) >= p.Size {
		return p, ErrUnknown
	}
	parts := bytes.SplitN(note, newline, 4)
	if len(parts) < 3 {
		return p, errors.New("the receipt is not a checkpoint")
	}
	p.Stated = string(parts[2])
	stated, err := tlog.ParseHash(p.Stated)
	if err != nil {
		return p, fmt.Errorf("the root of the receipt: %w", err)
	}
	hashes := hashReader{ctx, q, log}
	if p.Path, err = tlog.ProveRecord(int64(p.Size), index, hashes); err != nil {
		return p, err
	}
	leaf, _, err := leafBytes(ctx, q, address)
	if err != nil {
		return p, err
	}
	p.Leaf, p.Root = tlog.RecordHash(leaf), stated
	p.Holds = tlog.CheckRecord(p.Path, int64(p.Size), stated, index, p.Leaf) == nil
	return p, nil
}

// hashReader answers for any complete inner node of a log's tree. The bundle that holds the node's last leaf and the
// compact range before that bundle are enough: a proof costs some 20 rows and 256 hashes each, whatever the log's size.
type hashReader struct {
	ctx context.Context
	q   querier
	log int64
}

// ReadHashes is tlog.HashReader.
func (r hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, stored := range indexes {
		level, n := tlog.SplitStoredHashIndex(stored)
		h, err := r.hash(level, uint64(n))
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

func (r hashReader) hash(level int, n uint64) (tlog.Hash, error) {
	last := (n+1)<<level - 1
	b, err := readSpan(r.ctx, r.q, r.log, last)
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("bundle of leaf %d: %w", last, err)
	}
	if b.lost {
		// What lies wholly before or inside a gap may still stand in the tree that leads over it.
		after, err := unpackTree(b.first+b.n, b.after)
		if h, ok := after.node(level, n); err == nil && ok {
			return h, nil
		}
		return tlog.Hash{}, errors.Join(fmt.Errorf("inner node %d at level %d: %w", n, level, ErrLost), err)
	}
	t, err := unpackTree(b.first, b.before)
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("bundle at %d: %w", b.first, err)
	}
	var found *tlog.Hash
	for t.size <= last {
		var line []byte
		line, b.lines, _ = bytes.Cut(b.lines, newline)
		t.append(tlog.RecordHash(line), func(l int, i uint64, h tlog.Hash) {
			if l == level && i == n {
				found = &h
			}
		})
	}
	if found == nil {
		return tlog.Hash{}, fmt.Errorf("inner node %d at level %d did not come up", n, level)
	}
	return *found, nil
}

// span is one row of bundles with the compact ranges on both sides of it.
type span struct {
	first, n             uint64
	lines, before, after []byte
	lost                 bool
}

// readSpan reads the bundle or gap that holds an index.
func readSpan(ctx context.Context, q querier, log int64, index uint64) (span, error) {
	var b span
	err := q.QueryRowContext(ctx, `SELECT b.first, b.n, b.lines, b.tree, b.lost, coalesce((SELECT p.tree FROM bundles p
		WHERE p.log = b.log AND p.first < b.first ORDER BY p.first DESC LIMIT 1), x'')
		FROM bundles b WHERE b.log = ? AND b.first <= ? ORDER BY b.first DESC LIMIT 1`,
		log, int64(index)).Scan(&b.first, &b.n, &b.lines, &b.after, &b.lost, &b.before)
	if errors.Is(err, sql.ErrNoRows) || err == nil && index >= b.first+b.n {
		err = ErrUnknown
	}
	return b, err
}

// treeAt computes the compact range of [0, size) from one row. ErrLost: it ends inside a gap.
func treeAt(ctx context.Context, q querier, log int64, size uint64) (tree, error) {
	if size == 0 {
		return tree{}, nil
	}
	b, err := readSpan(ctx, q, log, size-1)
	if err != nil {
		return tree{}, err
	}
	if size == b.first+b.n {
		return unpackTree(size, b.after)
	}
	if b.lost {
		return tree{}, ErrLost
	}
	t, err := unpackTree(b.first, b.before)
	for err == nil && t.size < size {
		var line []byte
		line, b.lines, _ = bytes.Cut(b.lines, newline)
		t.append(tlog.RecordHash(line), nil)
	}
	return t, err
}

// Roots recomputes the roots of a log at earlier sizes. A zero hash stands for "cannot tell": the log is unknown, has not
// reached the size, or the size ends inside a gap.
func (s *Store) Roots(ctx context.Context, edge string, epoch event.Epoch, sizes []uint64) ([]tlog.Hash, error) {
	roots := make([]tlog.Hash, len(sizes))
	var id int64
	var held uint64
	err := s.read.QueryRowContext(ctx, `SELECT id, size FROM logs WHERE edge = ? AND epoch = ?`, edge, epoch[:]).Scan(&id, &held)
	if errors.Is(err, sql.ErrNoRows) {
		return roots, nil
	}
	for i, size := range sizes {
		if err != nil {
			break
		}
		if size > held {
			continue
		}
		var t tree
		switch t, err = treeAt(ctx, s.read, id, size); {
		case errors.Is(err, ErrLost):
			err = nil
		case err == nil:
			roots[i], err = t.root()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("roots of %s %s: %w", edge, epoch, err)
	}
	return roots, nil
}
