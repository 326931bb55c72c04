package store

import (
	"database/sql"
	"errors"

	"kith/internal/event"
)

// shape is what a line shares with many others.
type shape struct {
	kind                                              event.Kind
	clock                                             event.Clock
	door, direction, verdict, reason, assurance, note string
}

func (l *Line) shape() shape {
	return shape{l.Kind, l.Clock, l.Door, l.Direction, l.Verdict, l.Reason, l.Assurance, l.Note}
}

// shape finds the number of a line's shape, or gives it one.
func (t *commitTx) shape(l *Line) (int64, error) {
	sh := l.shape()
	if id, ok := t.s.shapes[sh]; ok {
		return id, nil
	}
	if id, ok := t.shapes[sh]; ok {
		return id, nil
	}
	args := []any{string(sh.kind), string(sh.clock), sh.door, sh.direction, sh.verdict, sh.reason, sh.assurance, sh.note}
	var id int64
	err := t.tx.QueryRowContext(t.ctx, `SELECT id FROM shapes WHERE kind = ? AND clock = ? AND door = ? AND direction = ?
		AND verdict = ? AND reason = ? AND assurance = ? AND note = ?`, args...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = t.tx.QueryRowContext(t.ctx, `INSERT INTO shapes (kind, clock, door, direction, verdict, reason, assurance, note)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`, args...).Scan(&id)
	}
	if err == nil {
		t.shapes[sh] = id
	}
	return id, err
}
