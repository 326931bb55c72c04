package store

import (
	"cmp"
	"database/sql"
	"errors"
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
		to   Seen
		from place
	}
	moves := make([]move, 0, len(t.seen))
	for _, s := range t.seen {
		from, err := t.place(s.Member)
		if err != nil {
			return err
		}
		if from.row == 0 || t.s.project.Newer(s, from.Seen) {
			moves = append(moves, move{s, from})
		}
	}
	slices.SortFunc(moves, func(a, b move) int {
		if a.from.row != b.from.row {
			return cmp.Compare(a.from.row, b.from.row)
		}
		return cmp.Compare(a.to.Member, b.to.Member)
	})
	for i := range moves {
		if err := t.putPlace(moves[i].to, moves[i].from); err != nil {
			return err
		}
	}
	return nil
}

// putSeen replaces a member's last place when this one is newer by the projection's own order.
func (t *commitTx) putSeen(s Seen) error {
	from, err := t.place(s.Member)
	if err != nil || from.row != 0 && !t.s.project.Newer(s, from.Seen) {
		return err
	}
	return t.putPlace(s, from)
}

// place is what this transaction sees of a member.
func (t *commitTx) place(member string) (place, error) {
	if p, ok := t.places[member]; ok {
		return p, nil
	}
	if p, ok := t.s.places[member]; ok {
		return p, nil
	}
	p, err := scanPlace(t.q.seenOf.QueryRowContext(t.ctx, member))
	if errors.Is(err, sql.ErrNoRows) {
		return place{}, nil
	}
	if err == nil {
		t.places[member] = p
	}
	return p, err
}

func (t *commitTx) putPlace(s Seen, from place) error {
	row, err := t.log(&Log{Edge: s.Edge, Epoch: s.Epoch, Node: s.Node})
	if err != nil {
		return err
	}
	// Until this transaction is published the writer knows nothing of the member: a rollback needs no undoing then.
	delete(t.s.places, s.Member)
	args := []any{row.id<<maxIndexBits | int64(s.Index), s.Edge, s.Epoch[:], int64(s.Index), s.At, string(s.Clock), s.Door, s.Direction}
	updated := int64(0)
	if from.row != 0 {
		q := t.q.stayed // leaves both indexes alone
		args := append(args, from.row)
		if from.Node != s.Node {
			q, args = t.q.moved, append(args[:len(args)-1], s.Node, from.row)
		}
		res, err := q.ExecContext(t.ctx, args...)
		if err != nil {
			return err
		}
		if updated, err = res.RowsAffected(); err != nil {
			return err
		}
	}
	if updated == 0 {
		res, err := t.q.seen.ExecContext(t.ctx, append([]any{s.Member, s.Node}, args...)...)
		if err != nil {
			return err
		}
		if from.row, err = res.LastInsertId(); err != nil {
			return err
		}
	}
	t.places[s.Member] = place{s, from.row}
	return nil
}

// leave takes a member out of presence.
func (t *commitTx) leave(member string) error {
	delete(t.s.places, member)
	t.places[member] = place{}
	_, err := t.tx.ExecContext(t.ctx, `DELETE FROM presence WHERE member = ?`, member)
	return err
}

// publishPlaces makes the transaction's places the writer's.
func (t *commitTx) publishPlaces() {
	if len(t.s.places)+len(t.places) > maxPlaces {
		clear(t.s.places)
	}
	for member, p := range t.places {
		if p.row != 0 && len(t.s.places) < maxPlaces {
			t.s.places[member] = p
		}
	}
}

func scanPlace(r scanner) (place, error) {
	var p place
	var epoch []byte
	err := r.Scan(&p.Member, &p.Node, &p.Edge, &epoch, &p.Index, &p.At, &p.Clock, &p.Door, &p.Direction, &p.row)
	copy(p.Epoch[:], epoch)
	return p, err
}
