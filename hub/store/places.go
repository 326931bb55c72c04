package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// maxPlaces bounds the last places that the writer keeps in memory, in members; about others it asks the table.
const maxPlaces = 1 << 17

// place is a member's row of presence as the writer knows it. Row 0: there is none.
type place struct {
	Seen
	row int64
}

// putPlaces writes the newest places of one transaction, in the order of their rows: a commit of a thousand taps touches a
// thousand of them.
func (t *commitTx) putPlaces() error {
	type move struct {
		to   *Seen
		from *place
	}
	moves := make([]move, 0, len(t.seen))
	for _, s := range t.seen {
		from, err := t.place(s.Member)
		if err != nil {
			return err
		}
		if from.row == 0 || t.s.project.Newer(*s, from.Seen) {
			moves = append(moves, move{s, from})
		}
	}
	slices.SortFunc(moves, func(a, b move) int {
		if a.from.row != b.from.row {
			return cmp.Compare(a.from.row, b.from.row)
		}
		return cmp.Compare(a.to.Member, b.to.Member)
	})
	for _, m := range moves {
		if err := t.putPlace(m.to, m.from); err != nil {
			return err
		}
	}
	return nil
}

// putSeen replaces a member's last place when this one is newer by the projection's own order.
func (t *commitTx) putSeen(s *Seen) error {
	from, err := t.place(s.Member)
	if err != nil || from.row != 0 && !t.s.project.Newer(*s, from.Seen) {
		return err
	}
	return t.putPlace(s, from)
}

// place is what this transaction sees of a member; row 0: the member is nowhere.
func (t *commitTx) place(member string) (*place, error) {
	if p := t.places[member]; p != nil {
		return p, nil
	}
	if p := t.s.places[member]; p != nil {
		return p, nil
	}
	p, err := scanPlace(t.q.seenOf.QueryRowContext(t.ctx, member))
	if errors.Is(err, sql.ErrNoRows) {
		return &place{}, nil
	}
	return p, err
}

func (t *commitTx) putPlace(s *Seen, from *place) error {
	node, err := t.node(s.Node)
	if err != nil {
		return err
	}
	row, updated := from.row, int64(0)
	if row != 0 {
		var res sql.Result
		if from.Node == s.Node {
			res, err = t.q.stayed.ExecContext(t.ctx, s.Arrival, s.Received, row)
		} else {
			res, err = t.q.moved.ExecContext(t.ctx, node, s.Arrival, s.Received, row)
		}
		if err != nil {
			return err
		}
		if updated, err = res.RowsAffected(); err != nil {
			return err
		}
	}
	if updated == 0 {
		if row, err = t.newPlace(s, node); err != nil {
			return err
		}
	}
	t.places[s.Member] = &place{*s, row}
	return nil
}

// newPlace makes a member's row. A row that nothing could read, because its line is gone, is there all the same.
func (t *commitTx) newPlace(s *Seen, node int64) (row int64, err error) {
	res, err := t.q.seen.ExecContext(t.ctx, s.Member, node, s.Arrival, s.Received)
	if err != nil {
		return 0, err
	}
	made, err := res.RowsAffected()
	if err != nil {
		return 0, err
	}
	if made == 1 {
		return res.LastInsertId()
	}
	err = t.tx.QueryRowContext(t.ctx, `UPDATE presence SET node = ?, line = ?, received = ? WHERE member = ? RETURNING id`,
		node, s.Arrival, s.Received, s.Member).Scan(&row)
	return row, err
}

// leave takes a member out of presence.
func (t *commitTx) leave(member string) error {
	t.places[member] = &place{}
	_, err := t.tx.ExecContext(t.ctx, `DELETE FROM presence WHERE member = ?`, member)
	return err
}

// refoldAll computes all of presence again when a migration has asked for it, in one transaction with taking the wish away.
func (s *Store) refoldAll(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dbtx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	t := s.newTx(ctx, dbtx)
	wish, err := dbtx.ExecContext(ctx, `DELETE FROM meta WHERE name = 'refold'`)
	if err == nil {
		var n int64
		if n, err = wish.RowsAffected(); err == nil && n > 0 {
			err = t.refoldBundles()
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("computing presence again: %w", err), ignoreDone(dbtx.Rollback()))
	}
	if err := dbtx.Commit(); err != nil {
		return fmt.Errorf("computing presence again: %w", err)
	}
	t.publish()
	return nil
}

// refoldBundles folds every line, bundle by bundle in the order of arrival. Its memory grows with the members alone.
func (t *commitTx) refoldBundles() error {
	if _, err := t.tx.ExecContext(t.ctx, `DELETE FROM presence`); err != nil {
		return err
	}
	for p := (partsRow{}); ; {
		err := t.tx.QueryRowContext(t.ctx, `SELECT seq, first, received FROM bundles WHERE seq > ? AND lost = 0 ORDER BY seq LIMIT 1`, p.seq).
			Scan(&p.seq, &p.first, &p.received)
		if errors.Is(err, sql.ErrNoRows) {
			return t.finish()
		}
		if err != nil {
			return err
		}
		lines, err := queryLines(t.ctx, t.tx, lineSelect+` WHERE l.id >= ? AND l.id < ?`, p.seq<<placeBits, (p.seq+1)<<placeBits)
		if err != nil {
			return err
		}
		for _, l := range lines {
			if seen, ok := t.s.project.Seen(l); ok {
				t.fold(&seen, &p)
			}
		}
	}
}

// fold keeps the newest place of each member for the end of the transaction.
func (t *commitTx) fold(seen *Seen, b *partsRow) {
	seen.Received, seen.Arrival = b.received, b.line(seen.Index)
	if old := t.seen[seen.Member]; old == nil || t.s.project.Newer(*seen, *old) {
		t.seen[seen.Member] = seen
	}
}

// publishPlaces makes the transaction's places the writer's.
func (t *commitTx) publishPlaces() {
	t.s.open = false
	if len(t.s.places)+len(t.places) > maxPlaces {
		clear(t.s.places)
	}
	for member, p := range t.places {
		switch {
		case p.row == 0:
			delete(t.s.places, member)
		case len(t.s.places) < maxPlaces:
			t.s.places[member] = p
		}
	}
}
