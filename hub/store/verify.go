package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// Difference is the first thing of a log that is not as it must be.
type Difference struct {
	Node, Edge string
	Epoch      event.Epoch
	Index      uint64
	What       string
}

func (d Difference) String() string {
	return fmt.Sprintf("node %s edge %s epoch %s index %d: %s", d.Node, d.Edge, d.Epoch, d.Index, d.What)
}

// Report is the outcome of Verify. Erased and Missing parts are not differences: the commitment stands, the part is
// gone or has not arrived. Nor are gaps and opaque lines: the roots over them are proven, and they are counted and named.
type Report struct {
	Logs, Leaves, Receipts   uint64
	Stored                   uint64 // leaves that no receipt proves, among Leaves: a batch of each log at most, while the hub is in order
	Opaque                   uint64 // leaves that nobody can read, among Leaves
	Lost                     uint64 // leaves in gaps, not among Leaves
	Gaps                     []Gap
	Private, Erased, Missing uint64
	Lines, Present           uint64
	Differences              []Difference // the first one of each log, and of the projections
}

// OK says that nothing differs.
func (r Report) OK() bool { return len(r.Differences) == 0 }

// Checks are the verifiers that this room does not own.
type Checks struct {
	// Receipt proves the signatures of a co-signed checkpoint of this log and returns what it states.
	Receipt func(l Log) (size uint64, root tlog.Hash, err error)
}

// Verify recomputes everything from the bundles: each leaf's place, each root and compact range, each receipt and each
// commitment; then the projections, which must equal the stored ones. It reads one snapshot, so it may run beside the
// writer, and needs memory for the members present, not for the leaves. A private part that names somebody who was erased is
// a difference too.
func (s *Store) Verify(ctx context.Context, c Checks) (Report, error) {
	if c.Receipt == nil {
		return Report{}, errors.New("verifying the store: no check for receipts given")
	}
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return Report{}, fmt.Errorf("verifying the store: %w", err)
	}
	v := verifier{ctx: ctx, q: tx, project: s.project, checks: c, gone: s.gone(), seen: map[string]Seen{}, facts: foldFacts{}}
	err = v.all()
	if err = errors.Join(err, ignoreDone(tx.Rollback())); err != nil {
		return v.report, fmt.Errorf("verifying the store: %w", err)
	}
	return v.report, nil
}

type verifier struct {
	ctx     context.Context
	q       querier
	project Projection
	checks  Checks
	gone    *gone
	report  Report
	seen    map[string]Seen
	facts   foldFacts
}

func (v *verifier) all() error {
	logs, ids, err := readLogs(v.ctx, v.q)
	if err != nil {
		return err
	}
	for i := range logs {
		v.report.Logs++
		d, err := v.log(&logs[i], ids[i])
		if err != nil {
			return err
		}
		if d != nil {
			d.Node, d.Edge, d.Epoch = logs[i].Node, logs[i].Edge, logs[i].Epoch
			v.report.Differences = append(v.report.Differences, *d)
		}
	}
	if !v.report.OK() {
		return nil // projections of leaves that differ would only repeat the cause
	}
	if err := v.strays(); err != nil {
		return err
	}
	if err := v.presence(); err != nil {
		return err
	}
	return v.factRows()
}

// log walks one log's bundles in order. A returned Difference ends the walk of this log.
func (v *verifier) log(l *Log, id int64) (*Difference, error) {
	rows, err := v.q.QueryContext(v.ctx, `SELECT b.seq, b.first, b.n, b.lines, b.tree, b.opaque, b.lost, b.proof, b.received, p.parts FROM bundles b
		LEFT JOIN private_parts p ON p.seq = b.seq WHERE b.log = ? ORDER BY b.first`, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	lines, err := v.q.QueryContext(v.ctx, lineSelect+` WHERE g.id = ? ORDER BY b.first, l.id`, id)
	if err != nil {
		return nil, err
	}
	defer lines.Close()
	w := logWalk{v: v, log: l, id: id, stored: lineRows{rows: lines}}
	if err := w.receipt(); err != nil {
		return nil, err
	}
	for w.diff == nil && rows.Next() {
		var p partsRow
		var text, packed, parts, proof []byte
		var lost bool
		if err := rows.Scan(&p.seq, &p.first, &p.n, &text, &packed, &w.unread, &lost, &proof, &p.received, &parts); err != nil {
			return nil, err
		}
		if lost {
			w.gap(&p, packed, proof)
			continue
		}
		if err := p.decode(parts); err != nil {
			w.differ(p.first, err.Error())
			break
		}
		if err := w.bundle(text, packed, &p); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if w.diff == nil {
		err = w.end()
	}
	return w.diff, err
}

// logWalk is the state of walking one log.
type logWalk struct {
	v           *verifier
	log         *Log
	id          int64
	tree        tree
	unread      []byte // opaque lines of the present bundle
	stored      lineRows
	receiptSize uint64
	receiptRoot tlog.Hash
	diff        *Difference
}

func (w *logWalk) differ(index uint64, what string) {
	if w.diff == nil {
		w.diff = &Difference{Index: index, What: what}
	}
}

func (w *logWalk) receipt() error {
	if w.log.Receipt == nil {
		return nil
	}
	size, root, err := w.v.checks.Receipt(*w.log)
	if err != nil {
		w.differ(0, "the receipt does not verify: "+err.Error())
		return nil
	}
	if size > w.log.Size {
		w.differ(w.log.Size, fmt.Sprintf("the receipt covers %d leaves, %d are here", size, w.log.Size))
		return nil
	}
	w.receiptSize, w.receiptRoot = size, root
	w.v.report.Receipts++
	w.atReceipt() // a receipt for nothing
	return nil
}

func (w *logWalk) atReceipt() {
	if w.log.Receipt == nil || w.tree.size != w.receiptSize || w.diff != nil {
		return
	}
	root, err := w.tree.root()
	if err != nil || root != w.receiptRoot {
		w.differ(w.tree.size, "the root of the stored leaves is not the receipted one: a leaf below this index was changed")
	}
}

func (w *logWalk) bundle(text, packed []byte, p *partsRow) error {
	if p.first != w.tree.size {
		w.differ(w.tree.size, fmt.Sprintf("the next bundle starts at %d", p.first))
		return nil
	}
	leaves := bytes.Split(text, newline)
	if uint64(len(leaves)) != p.n {
		w.differ(p.first, fmt.Sprintf("a bundle of %d lines says it has %d", len(leaves), p.n))
		return nil
	}
	for _, line := range leaves {
		w.leaf(line, p)
		if w.diff != nil {
			return nil
		}
	}
	stored, err := unpackTree(w.tree.size, packed)
	if err != nil || !stored.equal(w.tree) {
		w.differ(p.first, fmt.Sprintf("the leaves %d to %d do not hash to the stored tree: one of them was changed", p.first, w.tree.size-1))
	}
	return nil
}

// gap steps over leaves that are lost. What can be proven of it is proven: by the kept proof that the tree behind holds what
// stands before, and by the next receipt that its root is the one the edge and the hub signed.
func (w *logWalk) gap(p *partsRow, packed, packedProof []byte) {
	after, err := unpackTree(p.first+p.n, packed)
	var proof tlog.TreeProof
	if err == nil {
		proof, err = unpackProof(packedProof)
	}
	switch {
	case p.first != w.tree.size:
		w.differ(w.tree.size, fmt.Sprintf("the next gap starts at %d", p.first))
	case err != nil:
		w.differ(p.first, "the tree over a gap: "+err.Error())
	case p.n == 0 || !after.extends(w.tree):
		w.differ(p.first, "the tree over a gap does not hold the leaves before it")
	case w.receiptSize > p.first && w.receiptSize < after.size:
		w.differ(p.first, fmt.Sprintf("the receipt for %d leaves ends within a gap", w.receiptSize))
	}
	if w.diff == nil {
		if err := checkGap(w.tree, after, proof); err != nil {
			w.differ(p.first, err.Error())
		}
	}
	if w.diff != nil {
		return
	}
	w.tree = after
	w.v.report.Lost += p.n
	w.v.report.Gaps = append(w.v.report.Gaps, Gap{w.log.Node, w.log.Edge, w.log.Epoch, p.first, after.size})
	w.atReceipt()
}

// opaque steps over a line that nobody can read: hashed like any other, and without effect.
func (w *logWalk) opaque(line []byte, p *partsRow) {
	if _, state, _ := p.get(w.tree.size); state == PrivatePresent {
		w.differ(w.tree.size, "a private part beside a line that is no leaf")
		return
	}
	w.tree.append(tlog.RecordHash(line), nil)
	w.atReceipt()
	w.v.report.Leaves++
	w.v.report.Opaque++
}

func (w *logWalk) leaf(line []byte, p *partsRow) {
	index := w.tree.size
	if isOpaque(w.unread, index-p.first) {
		w.opaque(line, p)
		return
	}
	leaf, err := event.Parse(line)
	if err != nil {
		w.differ(index, err.Error())
		return
	}
	if leaf.Edge != w.log.Edge || leaf.Epoch != w.log.Epoch || leaf.Index != index || leaf.Node != w.log.Node {
		w.differ(index, fmt.Sprintf("a leaf of %s epoch %s index %d stands here", leaf.Edge, leaf.Epoch, leaf.Index))
		return
	}
	w.tree.append(tlog.RecordHash(line), nil)
	w.atReceipt()
	part, state, _ := p.get(index)
	var private *event.Private
	switch {
	case state == PrivatePresent:
		w.v.report.Private++
		if leaf.Commitment == nil || event.Commit(part.Salt, part.Bytes) != *leaf.Commitment {
			w.differ(index, "the private part is not the one that the leaf commits to")
			return
		}
		if w.v.gone.names(part.Bytes) {
			w.differ(index, "the private part names somebody who was erased; order the erasure again")
			return
		}
		private = readPrivate(part.Bytes)
	case state == PrivateErased:
		w.v.report.Erased++
	case leaf.Commitment != nil:
		w.v.report.Missing++
	}
	w.v.report.Leaves++
	w.projection(&leaf, private, p)
}

func (w *logWalk) projection(leaf *event.Leaf, private *event.Private, b *partsRow) {
	var p projected
	s := Store{project: w.v.project}
	s.projectLeaf(leaf, private, &p)
	address := w.id<<maxIndexBits | int64(leaf.Index)
	for i := range p.lines {
		have, ok, err := w.stored.next()
		if err != nil {
			w.differ(leaf.Index, err.Error())
			return
		}
		have.Receipted = p.lines[i].Receipted
		if !ok || have != p.lines[i] {
			w.differ(leaf.Index, "the service log line is not what this leaf projects to")
			return
		}
		w.v.report.Lines++
	}
	for _, seen := range p.seen {
		seen.Received, seen.Arrival = b.received, b.line(leaf.Index)
		if old, ok := w.v.seen[seen.Member]; !ok || w.v.project.Newer(seen, old) {
			w.v.seen[seen.Member] = seen
		}
	}
	for _, f := range p.facts {
		w.v.facts.add(f, address)
	}
}

func (w *logWalk) end() error {
	if w.log.Size > w.receiptSize {
		w.v.report.Stored += w.log.Size - w.receiptSize
	}
	if w.tree.size != w.log.Size {
		w.differ(w.tree.size, fmt.Sprintf("the head says %d leaves, the bundles end here", w.log.Size))
		return nil
	}
	root, err := w.tree.root()
	if err != nil {
		return err
	}
	if root != w.log.Root {
		w.differ(w.tree.size, "the root of the stored leaves is not the head's")
		return nil
	}
	extra, ok, err := w.stored.next()
	if err == nil && ok {
		w.differ(extra.Index, "a service log line that no leaf projects to")
	}
	return err
}

// lineRows hands out stored lines one by one.
type lineRows struct{ rows *sql.Rows }

func (r lineRows) next() (Line, bool, error) {
	if !r.rows.Next() {
		return Line{}, false, r.rows.Err()
	}
	l, err := scanLine(r.rows)
	return l, err == nil, err
}

// strays looks for lines that belong to no bundle: no walk of a log has met them.
func (v *verifier) strays() error {
	var lines uint64
	if err := v.q.QueryRowContext(v.ctx, `SELECT count(*) FROM lines`).Scan(&lines); err != nil {
		return err
	}
	if lines != v.report.Lines {
		v.differ("", "", event.Epoch{}, 0, fmt.Sprintf("%d lines of the service log, %d by the leaves", lines, v.report.Lines))
	}
	return nil
}

func (v *verifier) presence() error {
	rows, err := v.q.QueryContext(v.ctx, seenSelect)
	if err != nil {
		return err
	}
	defer rows.Close()
	stored := 0
	for rows.Next() {
		have, err := scanPlace(rows)
		if err != nil {
			return err
		}
		stored++
		if want, ok := v.seen[have.Member]; !ok || want != have.Seen {
			v.differ(have.Node, have.Edge, have.Epoch, have.Index, "presence of a member is not what the leaves say")
		}
	}
	v.report.Present = uint64(stored)
	if stored != len(v.seen) && v.report.OK() {
		for _, s := range v.seen {
			v.differ(s.Node, s.Edge, s.Epoch, s.Index, fmt.Sprintf("%d members are present by the leaves, %d by the table", len(v.seen), stored))
			break
		}
	}
	return rows.Err()
}

func (v *verifier) factRows() error {
	rows, err := v.q.QueryContext(v.ctx, `SELECT node, edge, topic, subject, value, why, at, address FROM facts`)
	if err != nil {
		return err
	}
	defer rows.Close()
	stored, want := 0, v.facts.rest()
	for rows.Next() {
		var f addressedFact
		if err := rows.Scan(&f.Node, &f.Edge, &f.Topic, &f.Subject, &f.Value, &f.Why, &f.At, &f.address); err != nil {
			return err
		}
		f.Index = uint64(f.address) & (1<<maxIndexBits - 1)
		stored++
		if v.facts[f.Edge][factKey{f.Edge, f.Topic, f.Subject}] != f {
			v.differ(f.Node, f.Edge, event.Epoch{}, f.Index, strings.TrimSpace("the state of "+f.Topic+" "+f.Subject)+" is not what the leaves say")
		}
	}
	if stored != want && v.report.OK() {
		v.differ("", "", event.Epoch{}, 0, fmt.Sprintf("%d states by the leaves, %d in the table", want, stored))
	}
	return rows.Err()
}

func (v *verifier) differ(node, edge string, epoch event.Epoch, index uint64, what string) {
	v.report.Differences = append(v.report.Differences, Difference{node, edge, epoch, index, what})
}
