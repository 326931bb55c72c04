package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"kith/internal/event"
)

// Commit stores proven batches in one transaction, in the order given: bundles, private parts, evidence, heads,
// receipts and projections. When it returns nil everything is durable and may be acknowledged. On any error nothing was
// stored, and the same call may be tried again; ErrDiskFull heals by itself once there is space.
//
// A batch that is stored already is passed over, so a repeat changes nothing. A batch that leaves a gap is ErrGap, one
// that differs from what is stored is ErrConflict: the caller keeps that one as evidence. A private part that names
// somebody who was erased is stored as erased.
func (s *Store) Commit(ctx context.Context, batches []Accepted) error {
	gone := s.gone()
	done, err := s.prepare(batches, gone)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.gone(); now != gone {
		// Somebody was erased meanwhile. Whoever erases looks at what is stored after this lock, and never again.
		if done, err = s.prepare(batches, now); err != nil {
			return err
		}
	}
	dbtx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("committing batches: %w", classify(err))
	}
	t := s.newTx(ctx, dbtx)
	for i := range batches {
		if err := t.accept(&batches[i], &done[i]); err != nil {
			a := &batches[i]
			err = fmt.Errorf("committing edge %s epoch %s from %d: %w", a.Log.Edge, a.Log.Epoch, a.From, classify(err))
			return errors.Join(err, ignoreDone(dbtx.Rollback()))
		}
	}
	if err := t.finish(); err != nil {
		return errors.Join(fmt.Errorf("committing projections: %w", classify(err)), ignoreDone(dbtx.Rollback()))
	}
	if err := dbtx.Commit(); err != nil {
		return errors.Join(fmt.Errorf("committing batches: %w", classify(err)), ignoreDone(dbtx.Rollback()))
	}
	t.publish()
	s.checkpoints.wrote(t.bytes + bytesPerCommit)
	return nil
}

// ignoreDone drops "already rolled back": a full disk makes SQLite roll back by itself.
func ignoreDone(err error) error {
	if err == nil || errors.Is(err, sql.ErrTxDone) || strings.Contains(err.Error(), "no transaction is active") {
		return nil
	}
	return fmt.Errorf("rolling back: %w", err)
}

// commitTx is one transaction with what it changes in the caches, which stay untouched until it has committed.
type commitTx struct {
	s      *Store
	ctx    context.Context
	tx     *sql.Tx
	q      statements
	logs   map[logKey]*logRow
	nodes  map[string]int64
	shapes map[shape]int64
	lines  rowBuffer
	seen   map[string]*Seen
	places map[string]*place
	facts  map[factKey]addressedFact
	leaves bool
	bytes  int // about what it adds to the write-ahead log
}

func (s *Store) newTx(ctx context.Context, tx *sql.Tx) *commitTx {
	// The driver watches a context that can end with a goroutine for every statement, which costs more than the statement.
	// The transaction itself still ends with its own context.
	ctx = context.WithoutCancel(ctx)
	if s.open {
		clear(s.places)
	}
	s.open = true
	t := &commitTx{
		s: s, ctx: ctx, tx: tx, q: s.stmts.in(ctx, tx), logs: make(map[logKey]*logRow), nodes: make(map[string]int64),
		seen: make(map[string]*Seen), facts: make(map[factKey]addressedFact), shapes: make(map[shape]int64),
		places: make(map[string]*place),
	}
	t.lines = rowBuffer{ctx: ctx, many: t.q.lines, one: t.q.line, width: lineWidth}
	return t
}

func (t *commitTx) accept(a *Accepted, p *projected) error {
	row, err := t.log(&a.Log)
	if err != nil {
		return err
	}
	var b *partsRow
	switch {
	case a.Lost:
		err = t.lost(row, a)
	case a.Bundle != nil:
		b, err = t.bundle(row, a, p)
	}
	if err != nil {
		return err
	}
	if b != nil {
		if err := t.project(row, a, b, p); err != nil {
			return err
		}
		t.leaves = true
	} else if err := t.latePrivate(row, a, p); err != nil {
		return err
	}
	for i := range a.Evidence {
		if err := t.evidence(row, a, &a.Evidence[i]); err != nil {
			return err
		}
	}
	return t.head(row, a)
}

// log finds or makes the row of this (edge, epoch).
func (t *commitTx) log(l *Log) (*logRow, error) {
	k := logKey{l.Edge, l.Epoch}
	if r, ok := t.logs[k]; ok {
		return r, nil
	}
	if r, ok := t.s.logs[k]; ok {
		if r.node != l.Node {
			return nil, fmt.Errorf("this log belongs to node %s, not %s", r.node, l.Node)
		}
		c := *r
		t.logs[k] = &c
		return &c, nil
	}
	if !event.IsID(l.Edge) || !event.IsID(l.Node) {
		return nil, fmt.Errorf("edge %q at node %q: not ids", l.Edge, l.Node)
	}
	if len(t.s.logs)+len(t.logs) >= maxLogs {
		return nil, fmt.Errorf("%d logs are the limit", maxLogs)
	}
	empty := tree{}
	root, err := empty.root()
	if err != nil {
		return nil, err
	}
	res, err := t.tx.ExecContext(t.ctx, `INSERT INTO logs (edge, node, epoch, size, root, tree, status, boot) VALUES (?, ?, ?, 0, ?, ?, ?, ?)`,
		l.Edge, l.Node, l.Epoch[:], root[:], []byte{}, l.Status, l.Boot)
	if err != nil {
		return nil, err
	}
	id, err := res.LastInsertId()
	if err != nil {
		return nil, err
	}
	r := &logRow{id: id, node: l.Node}
	t.logs[k] = r
	return r, nil
}

// bundle stores the leaf lines and says what place they took; nil: they were here before.
func (t *commitTx) bundle(row *logRow, a *Accepted, done *projected) (*partsRow, error) {
	n := uint64(len(a.Leaves))
	switch {
	case n == 0 || len(a.Bundle) > MaxBundle || n > 1<<placeBits:
		return nil, fmt.Errorf("a bundle of %d leaves and %d bytes", n, len(a.Bundle))
	case a.From+n <= row.size:
		return nil, t.same(row, a.From, bytes.Split(a.Bundle, newline))
	case a.From != row.size:
		return nil, fmt.Errorf("%w: it starts at %d, we hold %d", ErrGap, a.From, row.size)
	case a.Log.Size != a.From+n:
		return nil, fmt.Errorf("%w: the new head says %d, the leaves end at %d", ErrGap, a.Log.Size, a.From+n)
	case a.From+n >= 1<<maxIndexBits:
		return nil, fmt.Errorf("index past 2^%d", maxIndexBits)
	}
	return t.insert(row, a, done)
}

// insert writes the row of a bundle that has its place, and the private parts beside it.
func (t *commitTx) insert(row *logRow, a *Accepted, done *projected) (*partsRow, error) {
	n, packed := uint64(len(a.Leaves)), packRange(a.Log.Range)
	if _, err := unpackTree(a.Log.Size, packed); err != nil {
		return nil, err
	}
	p := &partsRow{first: a.From, n: n, received: t.s.now().UnixMilli()}
	res, err := t.q.bundle.ExecContext(t.ctx, row.id, int64(a.From), int64(n), nonNil(a.Bundle), packed, opaqueLines(a.Leaves), p.received)
	t.bytes += len(a.Bundle)
	if err != nil {
		return nil, err
	}
	if p.seq, err = res.LastInsertId(); err != nil || len(a.Private) == 0 {
		return p, err
	}
	p.parts = make([]storedPart, 0, len(a.Private))
	for i := range a.Private {
		if part := &a.Private[i]; !p.add(part) {
			return nil, fmt.Errorf("private part %d does not belong to this batch", part.Index)
		}
		if done.erased[a.Private[i].Index] {
			p.erase(a.Private[i].Index)
		}
	}
	return p, t.putParts(p)
}

// same proves that repeated lines are what is stored.
func (t *commitTx) same(row *logRow, from uint64, want [][]byte) error {
	i := 0
	err := eachLeaf(t.ctx, t.tx, row.id, from, from+uint64(len(want)), func(index uint64, leaf []byte) error {
		if i >= len(want) || !bytes.Equal(leaf, want[i]) {
			return fmt.Errorf("%w: index %d", ErrConflict, index)
		}
		i++
		return nil
	})
	if err == nil && i != len(want) {
		return fmt.Errorf("%w: %d leaves stored, %d offered", ErrConflict, i, len(want))
	}
	return err
}

func (t *commitTx) project(row *logRow, a *Accepted, b *partsRow, p *projected) error {
	node, err := t.node(a.Log.Node)
	if err != nil {
		return err
	}
	t.bytes += bytesPerLine * len(p.lines)
	for i := range p.lines {
		l := &p.lines[i]
		shape, err := t.shape(l)
		if err != nil {
			return err
		}
		if err := t.lines.add(b.line(l.Index), node, l.At, shape, l.Member); err != nil {
			return err
		}
	}
	for i := range p.seen {
		t.fold(&p.seen[i], b)
	}
	base := row.id << maxIndexBits
	for _, f := range p.facts {
		k := factKey{f.Edge, f.Topic, f.Subject}
		if old, ok := t.facts[k]; !ok || base|int64(f.Index) > old.address {
			t.facts[k] = addressedFact{f, base | int64(f.Index)}
		}
	}
	return nil
}

func (t *commitTx) node(name string) (int64, error) {
	if id, ok := t.s.nodes[name]; ok {
		return id, nil
	}
	if id, ok := t.nodes[name]; ok {
		return id, nil
	}
	res, err := t.tx.ExecContext(t.ctx, `INSERT INTO nodes (node) VALUES (?)`, name)
	if err != nil {
		return 0, err
	}
	id, err := res.LastInsertId()
	t.nodes[name] = id
	return id, err
}

// evidence is inserted, never changed. A second sight of the same thing adds nothing.
func (t *commitTx) evidence(row *logRow, a *Accepted, e *Evidence) error {
	if row.evidence >= MaxEvidence && !a.Lost {
		return nil // what an archive must prove is never dropped: the intake bounds the gaps
	}
	digest := sha256.Sum256(e.Bytes)
	res, err := t.tx.ExecContext(t.ctx, `INSERT INTO evidence (edge, epoch, kind, idx, bytes, why, digest)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		a.Log.Edge, a.Log.Epoch[:], e.Kind, int64(e.Index), nonNil(e.Bytes), e.Why, digest[:])
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	row.evidence += int(n)
	return err
}

// head moves the log's state forward. A repeat of an older state changes nothing; a receipt never goes backwards.
func (t *commitTx) head(row *logRow, a *Accepted) error {
	l := &a.Log
	if l.Size < row.size {
		return nil
	}
	if a.Bundle == nil && !a.Lost && l.Size != row.size {
		return fmt.Errorf("%w: head %d without leaves, we hold %d", ErrGap, l.Size, row.size)
	}
	receipt, size := row.receipt, uint64(0)
	if l.Receipt != nil {
		var err error
		if size, err = noteSize(l.Receipt); err != nil {
			return err
		}
		if size > l.Size {
			return fmt.Errorf("a receipt for %d leaves, the log has %d", size, l.Size)
		}
		receipt = max(size, receipt)
	}
	args := []any{int64(l.Size), l.Root[:], packRange(l.Range), l.Status, l.Boot, row.id}
	q := t.q.head
	if l.Receipt != nil && size == receipt {
		q, args = t.q.receipt, append(args, l.Receipt, int64(size))
	}
	if _, err := q.ExecContext(t.ctx, args...); err != nil {
		return err
	}
	row.size, row.receipt = l.Size, receipt
	return nil
}

// finish writes the rows that wait in buffers and the folded projections.
func (t *commitTx) finish() error {
	if err := t.lines.flush(); err != nil {
		return err
	}
	if err := t.putPlaces(); err != nil {
		return err
	}
	return t.putFacts()
}

// publish makes the transaction's view the writer's view. It runs after the commit only.
func (t *commitTx) publish() {
	for k, r := range t.logs {
		t.s.logs[k] = r
	}
	for n, id := range t.nodes {
		t.s.nodes[n] = id
	}
	if len(t.s.shapes)+len(t.shapes) > maxShapes {
		clear(t.s.shapes)
	}
	for sh, id := range t.shapes {
		t.s.shapes[sh] = id
	}
	t.publishPlaces()
	if t.leaves {
		select {
		case t.s.newest <- struct{}{}:
		default:
		}
	}
}

// noteSize reads the second line of a checkpoint note: its tree size. The signatures were checked by the intake.
func noteSize(note []byte) (uint64, error) {
	_, rest, ok := bytes.Cut(note, newline)
	if !ok {
		return 0, errors.New("a receipt without a size")
	}
	line, _, _ := bytes.Cut(rest, newline)
	n, err := strconv.ParseUint(string(line), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("the size of a receipt: %w", err)
	}
	return n, nil
}

var newline = []byte("\n")

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
