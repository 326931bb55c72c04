package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"kith/internal/event"
)

// latePrivate stores private parts that come after their leaves and projects those leaves again. An erased part
// stays erased, and one that names somebody who was erased is never taken in.
func (t *commitTx) latePrivate(row *logRow, a *Accepted, done *projected) error {
	if len(a.Private) == 0 {
		return nil
	}
	base := row.id << maxIndexBits
	for i := range a.Private {
		part := &a.Private[i]
		if part.Index >= row.size {
			return fmt.Errorf("%w: a private part for index %d, we hold %d", ErrGap, part.Index, row.size)
		}
		p, err := partsAt(t.ctx, t.tx, base|int64(part.Index))
		if err != nil {
			return err
		}
		if done.erased[part.Index] {
			if _, found := p.at(part.Index); !found {
				p.erase(part.Index)
				err = t.putParts(&p)
			}
			if err != nil {
				return err
			}
			continue // its line was made without it
		}
		if !p.add(part) {
			continue
		}
		if err := t.putParts(&p); err != nil {
			return err
		}
		if err := t.reproject(base|int64(part.Index), &p); err != nil {
			return err
		}
	}
	return nil
}

// reproject recomputes one line of a bundle from leaf and private part as they stand now, and the presence of whom it names.
func (t *commitTx) reproject(address int64, b *partsRow) error {
	leaf, private, err := leafAt(t.ctx, t.tx, address)
	if err != nil {
		return err
	}
	return t.replace(address, b, leaf, private)
}

// replace puts the line that a leaf and a private part project to in the place of the one that is there.
func (t *commitTx) replace(address int64, b *partsRow, leaf event.Leaf, private *event.Private) error {
	if err := t.lines.flush(); err != nil {
		return err
	}
	id := b.line(leafIndex(address))
	if _, err := t.q.dropLine.ExecContext(t.ctx, id); err != nil {
		return err
	}
	if leaf.Kind == opaque {
		return nil
	}
	line, ok := t.s.project.Line(leaf, private)
	if !ok {
		return nil
	}
	node, err := t.node(leaf.Node)
	if err != nil {
		return err
	}
	shape, err := t.shape(&line)
	if err != nil {
		return err
	}
	if _, err := t.q.line.ExecContext(t.ctx, id, node, line.At, shape, line.Member); err != nil {
		return err
	}
	if seen, ok := t.s.project.Seen(line); ok {
		seen.Received, seen.Arrival = b.received, id
		return t.putSeen(&seen)
	}
	return nil
}

// Erase forgets the private part of one leaf.
func (s *Store) Erase(ctx context.Context, a Address) error {
	_, err := s.erase(ctx, func(t *commitTx) ([]int64, error) {
		r, ok := t.s.logs[logKey{a.Edge, a.Epoch}]
		if !ok || a.Index >= r.size {
			return nil, ErrUnknown
		}
		return []int64{r.id<<maxIndexBits | int64(a.Index)}, nil
	})
	if err != nil {
		return fmt.Errorf("erasing the private part of %s %s %d: %w", a.Edge, a.Epoch, a.Index, err)
	}
	return nil
}

func (s *Store) erase(ctx context.Context, find func(*commitTx) ([]int64, error)) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dbtx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return 0, classify(err)
	}
	t := s.newTx(ctx, dbtx)
	list, err := find(t)
	if err == nil {
		err = t.eraseAll(list)
	}
	if err != nil {
		return 0, errors.Join(classify(err), ignoreDone(dbtx.Rollback()))
	}
	if err := dbtx.Commit(); err != nil {
		return 0, classify(err)
	}
	t.publish()
	// Old pages also stand in the write-ahead log; only a truncating checkpoint takes them off the disk. Readers can
	// hold it up, then the next automatic one does it.
	if _, err := s.checkpoints.truncate(ctx, s.write); err != nil {
		return 0, fmt.Errorf("erased, but the write-ahead log still holds old pages: %w", err)
	}
	return len(list), nil
}

// eraseAll takes addresses in ascending order, bundle by bundle.
func (t *commitTx) eraseAll(list []int64) error {
	members := map[string]bool{}
	for len(list) > 0 {
		p, err := partsAt(t.ctx, t.tx, list[0])
		if err != nil {
			return err
		}
		end := list[0] - int64(leafIndex(list[0])) + int64(p.first+p.n)
		n, _ := slices.BinarySearch(list, end)
		if err := t.eraseIn(&p, list[:n], members); err != nil {
			return err
		}
		list = list[n:]
	}
	for m := range members {
		if err := t.refold(m); err != nil {
			return err
		}
	}
	return nil
}

// eraseIn erases the private parts of leaves of one bundle, and collects whom their lines named.
func (t *commitTx) eraseIn(p *partsRow, list []int64, members map[string]bool) error {
	for _, address := range list {
		var named string
		err := t.tx.QueryRowContext(t.ctx, `SELECT member FROM lines WHERE id = ?`, p.line(leafIndex(address))).Scan(&named)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if named != "" {
			members[named] = true
		}
		p.erase(leafIndex(address))
	}
	if err := t.putParts(p); err != nil {
		return err
	}
	var text, unread []byte
	if err := t.tx.QueryRowContext(t.ctx, `SELECT lines, opaque FROM bundles WHERE seq = ?`, p.seq).Scan(&text, &unread); err != nil {
		return err
	}
	lines := bytes.Split(text, newline)
	if uint64(len(lines)) != p.n {
		return fmt.Errorf("a bundle of %d lines says it has %d", len(lines), p.n)
	}
	for _, address := range list {
		var leaf event.Leaf
		place := leafIndex(address) - p.first
		if !isOpaque(unread, place) {
			var err error
			if leaf, err = event.Parse(lines[place]); err != nil {
				return err
			}
		}
		if err := t.replace(address, p, leaf, nil); err != nil {
			return err
		}
	}
	return nil
}

// refold computes a member's presence again from the lines that still name the member.
func (t *commitTx) refold(member string) error {
	if err := t.leave(member); err != nil {
		return err
	}
	lines, err := queryLines(t.ctx, t.tx, lineSelect+` WHERE l.member = ? ORDER BY l.id`, member)
	if err != nil {
		return err
	}
	for _, l := range lines {
		seen, ok := t.s.project.Seen(l)
		if !ok {
			continue
		}
		row, err := t.log(&Log{Edge: l.Edge, Epoch: l.Epoch, Node: l.Node})
		if err != nil {
			return err
		}
		err = t.tx.QueryRowContext(t.ctx, `SELECT seq << 16 | (? - first), received FROM bundles WHERE log = ? AND first <= ?
			ORDER BY first DESC LIMIT 1`, int64(l.Index), row.id, int64(l.Index)).Scan(&seen.Arrival, &seen.Received)
		if err != nil {
			return err
		}
		if err := t.putSeen(&seen); err != nil {
			return err
		}
	}
	return nil
}

// leafIndex is the lower part of an address.
func leafIndex(address int64) uint64 { return uint64(address) & (1<<maxIndexBits - 1) }

func addresses(rows *sql.Rows, err error) ([]int64, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []int64
	for rows.Next() {
		var a int64
		if err := rows.Scan(&a); err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, rows.Err()
}
