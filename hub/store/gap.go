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

// fillLeaves is how many leaves of an archive become one bundle: as many as an edge sends at once.
const fillLeaves = 256

// maxGapProof bounds a consistency proof, in hashes: one a level, and one more.
const maxGapProof = maxIndexBits + 1

// Gap is a stretch of a log, [From, To), that is lost here and at the edge. It stays visible until Fill.
type Gap struct {
	Node, Edge string
	Epoch      event.Epoch
	From, To   uint64
}

func (g Gap) String() string {
	return fmt.Sprintf("node %s edge %s epoch %s: leaves %d to %d are lost here and at the edge", g.Node, g.Edge, g.Epoch, g.From, g.To-1)
}

// lost stores a gap. The intake has proven the tree behind it by the hub's own receipt.
func (t *commitTx) lost(row *logRow, a *Accepted) error {
	size := a.Log.Size
	switch {
	case a.Bundle != nil || len(a.Leaves) > 0 || a.From >= size:
		return fmt.Errorf("a gap from %d to %d with %d leaves", a.From, size, len(a.Leaves))
	case size <= row.size:
		return t.sameTree(row, &a.Log)
	case a.From != row.size:
		return fmt.Errorf("%w: it starts at %d, we hold %d", ErrGap, a.From, row.size)
	case size >= 1<<maxIndexBits:
		return fmt.Errorf("index past 2^%d", maxIndexBits)
	}
	packed := packRange(a.Log.Range)
	after, err := unpackTree(size, packed)
	if err != nil {
		return err
	}
	root, err := after.root()
	if err == nil && root != a.Log.Root {
		err = errors.New("the range behind the gap has another root than the head")
	}
	if err != nil {
		return err
	}
	before, err := treeAt(t.ctx, t.tx, row.id, a.From)
	if err != nil {
		return err
	}
	if err := checkGap(before, after, a.Proof); err != nil {
		return err
	}
	_, err = t.tx.ExecContext(t.ctx, `INSERT INTO bundles (log, first, n, lines, tree, lost, proof) VALUES (?, ?, ?, x'', ?, 1, ?)`,
		row.id, int64(a.From), int64(size-a.From), packed, packProof(a.Proof))
	return err
}

// checkGap proves that the tree behind a gap grew out of the one before it. The roots of the subtrees cannot show it: most of
// those before have gone into nodes together with lost leaves. A gap at the beginning has nothing before it.
func checkGap(before, after tree, proof tlog.TreeProof) error {
	if before.size == 0 {
		if len(proof) > 0 {
			return errors.New("a gap at the beginning of a log has a proof of what stands before it")
		}
		return nil
	}
	old, err := before.root()
	if err != nil {
		return err
	}
	root, err := after.root()
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(proof, int64(after.size), root, int64(before.size), old); err != nil {
		return fmt.Errorf("the tree over a gap does not hold the leaves before it: %w", err)
	}
	return nil
}

func packProof(p tlog.TreeProof) []byte {
	var b []byte
	for _, h := range p {
		b = append(b, h[:]...)
	}
	return b
}

func unpackProof(b []byte) (tlog.TreeProof, error) {
	if len(b)%tlog.HashSize != 0 || len(b) > maxGapProof*tlog.HashSize {
		return nil, fmt.Errorf("a proof over a gap of %d bytes", len(b))
	}
	var p tlog.TreeProof
	for ; len(b) > 0; b = b[tlog.HashSize:] {
		p = append(p, tlog.Hash(b[:tlog.HashSize]))
	}
	return p, nil
}

// sameTree proves that a repeated head is one that the log went through.
func (t *commitTx) sameTree(row *logRow, l *Log) error {
	have, err := treeAt(t.ctx, t.tx, row.id, l.Size)
	if errors.Is(err, ErrLost) {
		return nil // inside a longer gap: nothing here says otherwise
	}
	if err != nil {
		return err
	}
	root, err := have.root()
	if err == nil && root != l.Root {
		err = fmt.Errorf("%w: another root at %d", ErrConflict, l.Size)
	}
	return err
}

// Fill puts the leaves of an archive into the gap that starts at from. They must be all of it: the tree over them must be the
// one that was stored behind the gap, so nothing but the lost leaves can ever take their place. All of it becomes durable at
// once, with its projections, or nothing. Their private parts may follow through Commit like any late ones. A repeat changes
// nothing. What the intake noted of the loss is its own to clear.
func (s *Store) Fill(ctx context.Context, edge string, epoch event.Epoch, from uint64, lines [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dbtx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("filling the gap of edge %s at %d: %w", edge, from, classify(err))
	}
	t := s.newTx(ctx, dbtx)
	err = t.fill(logKey{edge, epoch}, from, lines)
	if err == nil {
		err = t.finish()
	}
	if err != nil {
		err = fmt.Errorf("filling the gap of edge %s epoch %s at %d: %w", edge, epoch, from, classify(err))
		return errors.Join(err, ignoreDone(dbtx.Rollback()))
	}
	if err := dbtx.Commit(); err != nil {
		return errors.Join(fmt.Errorf("filling the gap of edge %s at %d: %w", edge, from, classify(err)), ignoreDone(dbtx.Rollback()))
	}
	t.publish()
	return nil
}

func (t *commitTx) fill(k logKey, from uint64, lines [][]byte) error {
	row, ok := t.s.logs[k]
	if !ok {
		return ErrUnknown
	}
	gap, err := readSpan(t.ctx, t.tx, row.id, from)
	switch {
	case err != nil:
		return err
	case !gap.lost:
		return t.same(row, from, lines)
	case gap.first != from || gap.n != uint64(len(lines)):
		return fmt.Errorf("%d leaves offered, the gap is [%d, %d)", len(lines), gap.first, gap.first+gap.n)
	}
	before, err := unpackTree(from, gap.before)
	if err != nil {
		return err
	}
	behind, err := unpackTree(from+gap.n, gap.after)
	if err != nil {
		return err
	}
	whole := before.clone()
	for i, line := range lines {
		if bytes.Contains(line, newline) {
			return fmt.Errorf("line %d is not one line", from+uint64(i))
		}
		whole.append(tlog.RecordHash(line), nil)
	}
	if !whole.equal(behind) {
		return fmt.Errorf("%w: these are not the leaves that were lost", ErrConflict)
	}
	if _, err := t.tx.ExecContext(t.ctx, `DELETE FROM bundles WHERE log = ? AND first = ? AND lost = 1`, row.id, int64(from)); err != nil {
		return err
	}
	l := Log{Edge: k.edge, Node: row.node, Epoch: k.epoch}
	return t.refill(row, l, before, lines)
}

// refill writes the leaves as bundles of the usual size. They take new places in the order of arrival, so that readers who
// have passed the gap see them.
func (t *commitTx) refill(row *logRow, l Log, at tree, lines [][]byte) error {
	for len(lines) > 0 {
		a := Accepted{Log: l, From: at.size}
		size, n := 0, 0
		for n < min(len(lines), fillLeaves) && (n == 0 || size+len(lines[n])+1 <= MaxBundle) {
			a.Leaves = append(a.Leaves, readLeaf(lines[n], t.s.network, &l, at.size))
			at.append(tlog.RecordHash(lines[n]), nil)
			size += len(lines[n]) + 1
			n++
		}
		a.Bundle, lines = bytes.Join(lines[:n], newline), lines[n:]
		a.Log.Size = at.size
		for _, h := range at.hashes {
			a.Log.Range = append(a.Log.Range, h)
		}
		var p projected
		if err := t.s.prepareOne(&a, &p, nil); err != nil {
			return err
		}
		b, err := t.insert(row, &a, &p)
		if err != nil {
			return err
		}
		if err := t.project(row, &a, b, &p); err != nil {
			return err
		}
	}
	t.leaves = true
	return nil
}

// Gaps lists what is lost, by log and place.
func (s *Store) Gaps(ctx context.Context) ([]Gap, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT l.node, l.edge, l.epoch, b.first, b.first + b.n FROM bundles b JOIN logs l ON l.id = b.log
		WHERE b.lost = 1 ORDER BY b.log, b.first`)
	if err != nil {
		return nil, fmt.Errorf("reading gaps: %w", err)
	}
	return scanGaps(rows)
}

func scanGaps(rows *sql.Rows) ([]Gap, error) {
	defer rows.Close()
	var all []Gap
	for rows.Next() {
		var g Gap
		var epoch []byte
		if err := rows.Scan(&g.Node, &g.Edge, &epoch, &g.From, &g.To); err != nil {
			return nil, fmt.Errorf("reading gaps: %w", err)
		}
		copy(g.Epoch[:], epoch)
		all = append(all, g)
	}
	return all, rows.Err()
}
