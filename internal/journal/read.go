package journal

import (
	"context"
	"database/sql"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// stored is one leaf row with its private row, valid during the callback only.
type stored struct {
	index      uint64
	hash       tlog.Hash
	line       []byte
	hasPrivate bool // a row is there, erased or not
	salt, part []byte
}

// erased reports a private row that was overwritten. A real salt is never all zero.
func (s *stored) erased() bool {
	for _, b := range s.salt {
		if b != 0 {
			return false
		}
	}
	return true
}

// check recomputes everything one row claims.
func (s *stored) check(e *epoch) error {
	if tlog.RecordHash(s.line) != s.hash {
		return fmt.Errorf("%w: epoch %s, leaf %d", ErrDamaged, e.id, s.index)
	}
	leaf, err := event.Parse(s.line)
	if err != nil || leaf.Epoch != e.id || leaf.Index != s.index {
		return fmt.Errorf("%w: epoch %s, leaf %d is not the leaf of this address", ErrDamaged, e.id, s.index)
	}
	switch {
	case leaf.Commitment == nil && !s.hasPrivate:
		return nil
	case leaf.Commitment == nil:
		return fmt.Errorf("%w: epoch %s, leaf %d has a private part and no commitment", ErrDamaged, e.id, s.index)
	case !s.hasPrivate:
		return fmt.Errorf("%w: epoch %s, private part of leaf %d is missing and was not erased", ErrDamaged, e.id, s.index)
	case s.erased():
		return nil
	}
	if len(s.salt) != 32 || event.Commit([32]byte(s.salt), s.part) != *leaf.Commitment {
		return fmt.Errorf("%w: epoch %s, private part of leaf %d", ErrDamaged, e.id, s.index)
	}
	return nil
}

const selectLeaves = `SELECT l.number, l.hash, l.line, p.salt, p.part FROM leaf l
	LEFT JOIN private p ON p.number = l.number WHERE l.number >= ? AND l.number < ? ORDER BY l.number`

// scanLeaves walks leaf rows from..to-1. It checks shapes only; hashes are the callback's business.
func scanLeaves(ctx context.Context, q querier, e *epoch, from, to uint64, each func(*stored) error) error {
	rows, err := q.QueryContext(ctx, selectLeaves, e.number(from), e.number(to))
	if err != nil {
		return fmt.Errorf("reading leaves of epoch %s: %w", e.id, err)
	}
	defer rows.Close()
	for at := from; rows.Next(); at++ {
		var number int64
		var hash, line, salt, part sql.RawBytes
		if err := rows.Scan(&number, &hash, &line, &salt, &part); err != nil {
			return fmt.Errorf("reading leaf %d of epoch %s: %w", at, e.id, err)
		}
		s := stored{index: uint64(number - e.number(0)), line: line, hasPrivate: salt != nil, salt: salt, part: part}
		if len(hash) != tlog.HashSize {
			return fmt.Errorf("%w: epoch %s, hash of leaf %d", ErrDamaged, e.id, s.index)
		}
		s.hash = tlog.Hash(hash)
		if err := each(&s); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading leaves of epoch %s: %w", e.id, err)
	}
	return nil
}

// groupsFrom reads the leaf hashes of complete groups: beside the leaves, or packed after pruning.
func groupsFrom(ctx context.Context, q querier, e *epoch) groupReader {
	return func(group uint64) ([]tlog.Hash, error) {
		hashes, err := readGroup(ctx, q, e, group)
		if err != nil {
			return nil, err
		}
		if fold(hashes) != e.tree.levels[groupBits][group] {
			return nil, fmt.Errorf("%w: epoch %s, hashes of leaves %d to %d", ErrDamaged, e.id, group<<groupBits, (group+1)<<groupBits-1)
		}
		return hashes, nil
	}
}

func readGroup(ctx context.Context, q querier, e *epoch, group uint64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, 0, groupSize)
	rows, err := q.QueryContext(ctx, `SELECT number, hash FROM leaf WHERE number >= ?1 AND number < ?2 UNION ALL
		SELECT number, hash FROM hole WHERE number >= ?1 AND number < ?2 AND what = 0 AND hash IS NOT NULL ORDER BY number`,
		e.number(group<<groupBits), e.number((group+1)<<groupBits))
	if err != nil {
		return nil, fmt.Errorf("reading hashes of epoch %s: %w", e.id, err)
	}
	defer rows.Close()
	for rows.Next() {
		var number int64
		var h sql.RawBytes
		if err := rows.Scan(&number, &h); err != nil {
			return nil, fmt.Errorf("reading hashes of epoch %s: %w", e.id, err)
		}
		if len(h) != tlog.HashSize {
			return nil, fmt.Errorf("%w: epoch %s, hash of leaf %d", ErrDamaged, e.id, group<<groupBits+uint64(len(hashes)))
		}
		hashes = append(hashes, tlog.Hash(h))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading hashes of epoch %s: %w", e.id, err)
	}
	if len(hashes) == groupSize {
		return hashes, nil
	}
	var tile []byte
	err = q.QueryRowContext(ctx, "SELECT hashes FROM tile WHERE number = ?", e.number(group)).Scan(&tile)
	if err == sql.ErrNoRows {
		return nil, fmt.Errorf("%w: epoch %s, hashes of leaves %d to %d", ErrPruned, e.id, group<<groupBits, (group+1)<<groupBits-1)
	}
	if err != nil {
		return nil, fmt.Errorf("reading packed hashes of epoch %s: %w", e.id, err)
	}
	return unpack(tile, e, group)
}

func unpack(tile []byte, e *epoch, group uint64) ([]tlog.Hash, error) {
	if len(tile) != groupSize*tlog.HashSize {
		return nil, fmt.Errorf("%w: epoch %s, packed hashes of leaves from %d", ErrDamaged, e.id, group<<groupBits)
	}
	hashes := make([]tlog.Hash, groupSize)
	for i := range hashes {
		copy(hashes[i][:], tile[i*tlog.HashSize:])
	}
	return hashes, nil
}

// reading hands the read pool to f; a reopening writer waits until f is done.
func (j *Journal) reading(f func(*sql.DB) error) error {
	j.dbMu.RLock()
	defer j.dbMu.RUnlock()
	if j.db == nil {
		select {
		case <-j.done:
			return ErrClosed
		default:
			return fmt.Errorf("%w: the database is closed", ErrStorage)
		}
	}
	return f(j.db.readQ)
}

// Read returns acknowledged leaves from index from on, at most maxLeaves of them and about maxBytes of leaf and private
// bytes, but at least one. Each line is checked against its stored hash, so bad bytes never leave as good ones.
func (j *Journal) Read(ctx context.Context, id event.Epoch, from uint64, maxLeaves, maxBytes int) ([]Entry, error) {
	e, err := j.view.Load().find(id)
	if err != nil {
		return nil, err
	}
	if from > e.tree.size {
		return nil, fmt.Errorf("%w: leaf %d of %d", ErrRange, from, e.tree.size)
	}
	if from < e.pruned {
		return nil, fmt.Errorf("%w: leaf %d, first kept is %d", ErrPruned, from, e.pruned)
	}
	to := min(e.tree.size, from+uint64(max(maxLeaves, 1)))
	out := make([]Entry, 0, to-from)
	errEnough := fmt.Errorf("enough")
	left := maxBytes
	err = j.reading(func(q *sql.DB) error {
		return scanLeaves(ctx, q, e, from, to, func(s *stored) error {
			if s.index != from+uint64(len(out)) {
				// Pruned between the view and the query, or gone.
				return fmt.Errorf("%w: leaf %d", ErrPruned, from+uint64(len(out)))
			}
			if left -= len(s.line) + len(s.part); left < 0 && len(out) > 0 {
				return errEnough
			}
			if err := s.check(e); err != nil {
				return err
			}
			n := Entry{Index: s.index, Leaf: append([]byte(nil), s.line...)}
			if s.hasPrivate && !s.erased() {
				n.Salt = [32]byte(s.salt)
				n.Private = append([]byte{}, s.part...)
			}
			out = append(out, n)
			return nil
		})
	})
	if err != nil && err != errEnough {
		return nil, fmt.Errorf("reading from leaf %d: %w", from, err)
	}
	if len(out) == 0 && from < to {
		return nil, fmt.Errorf("%w: leaf %d", ErrPruned, from)
	}
	return out, nil
}

// withTree runs f over a hash reader of the epoch's tree as it is now.
func (j *Journal) withTree(ctx context.Context, id event.Epoch, size uint64, f func(tlog.HashReader) error) error {
	e, err := j.view.Load().find(id)
	if err != nil {
		return err
	}
	if size > e.tree.size {
		return fmt.Errorf("%w: size %d, epoch %s has %d", ErrRange, size, id, e.tree.size)
	}
	return j.reading(func(q *sql.DB) error { return f(e.tree.reader(groupsFrom(ctx, q, e))) })
}

// RootAt is the root of the epoch's first size leaves.
func (j *Journal) RootAt(ctx context.Context, id event.Epoch, size uint64) (h tlog.Hash, err error) {
	err = j.withTree(ctx, id, size, func(r tlog.HashReader) error {
		h, err = tlog.TreeHash(int64(size), r)
		return err
	})
	return h, err
}

// Inclusion proves that leaf index is in the tree of size. It stands for pruned leaves too.
func (j *Journal) Inclusion(ctx context.Context, id event.Epoch, index, size uint64) (p tlog.RecordProof, err error) {
	if index >= size {
		return nil, fmt.Errorf("%w: leaf %d in a tree of %d", ErrRange, index, size)
	}
	err = j.withTree(ctx, id, size, func(r tlog.HashReader) error {
		p, err = tlog.ProveRecord(int64(size), int64(index), r)
		return err
	})
	return p, err
}

// Consistency proves that the tree of newer extends the tree of older. The empty tree has no proof.
func (j *Journal) Consistency(ctx context.Context, id event.Epoch, older, newer uint64) (p tlog.TreeProof, err error) {
	if older < 1 || older > newer {
		return nil, fmt.Errorf("%w: consistency from %d to %d", ErrRange, older, newer)
	}
	err = j.withTree(ctx, id, newer, func(r tlog.HashReader) error {
		p, err = tlog.ProveTree(int64(newer), int64(older), r)
		return err
	})
	return p, err
}
