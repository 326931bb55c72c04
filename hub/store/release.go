package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// MaxRelease is the most bytes that one text of a release may have.
const MaxRelease = 1 << 24

// Release is the public report of one period as it was published. The texts are opaque here.
type Release struct {
	Number   int // of the period, from 1
	Period   string
	Markdown []byte
	HTML     []byte
	JSON     []byte
	Note     []byte
}

func (r *Release) texts() [4][]byte {
	return [4][]byte{r.Markdown, r.HTML, r.JSON, r.Note}
}

// SaveRelease makes a release durable, all four texts or none. It may be repeated with the same bytes; other bytes for a
// period that has a release are refused with ErrConflict, whatever the reason for them. ErrUnknown: no such period.
func (s *Store) SaveRelease(ctx context.Context, r Release) error {
	for _, text := range r.texts() {
		if len(text) == 0 || len(text) > MaxRelease {
			return fmt.Errorf("saving the release of %s: a text of %d bytes, want 1 to %d", r.Period, len(text), MaxRelease)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("saving the release of %s: %w", r.Period, classify(err))
	}
	if err := saveRelease(ctx, tx, &r); err != nil {
		return errors.Join(fmt.Errorf("saving the release of %s: %w", r.Period, classify(err)), ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("saving the release of %s: %w", r.Period, classify(err))
	}
	return nil
}

func saveRelease(ctx context.Context, tx *sql.Tx, r *Release) error {
	var period string
	err := tx.QueryRowContext(ctx, `SELECT period FROM period_files WHERE number = ? LIMIT 1`, r.Number).Scan(&period)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("period %d: %w", r.Number, ErrUnknown)
	case err != nil:
		return err
	case period != r.Period:
		return fmt.Errorf("period %d is %s: %w", r.Number, period, ErrConflict)
	}
	have, err := scanRelease(tx.QueryRowContext(ctx, releaseSelect+` WHERE number = ?`, r.Number))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err = tx.ExecContext(ctx, `INSERT INTO releases (number, period, markdown, html, json, note) VALUES (?, ?, ?, ?, ?, ?)`,
			r.Number, r.Period, r.Markdown, r.HTML, r.JSON, r.Note)
		return err
	case err != nil:
		return err
	}
	mine := r.texts()
	for i, text := range have.texts() {
		if !bytes.Equal(text, mine[i]) {
			return fmt.Errorf("it was published with other content: %w", ErrConflict)
		}
	}
	return nil
}

const releaseSelect = `SELECT number, period, markdown, html, json, note FROM releases`

func scanRelease(r scanner) (Release, error) {
	var out Release
	err := r.Scan(&out.Number, &out.Period, &out.Markdown, &out.HTML, &out.JSON, &out.Note)
	return out, err
}

// Release returns the release of a period; false when it has none.
func (s *Store) Release(ctx context.Context, period string) (Release, bool, error) {
	r, err := scanRelease(s.read.QueryRowContext(ctx, releaseSelect+` WHERE period = ?`, period))
	if errors.Is(err, sql.ErrNoRows) {
		return Release{}, false, nil
	}
	if err != nil {
		return Release{}, false, fmt.Errorf("reading the release of %s: %w", period, err)
	}
	return r, true, nil
}

// Released returns the number and name of every period that has a release, the first one first.
func (s *Store) Released(ctx context.Context) ([]Release, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT number, period FROM releases ORDER BY number`)
	if err != nil {
		return nil, fmt.Errorf("reading releases: %w", err)
	}
	defer rows.Close()
	var list []Release
	for rows.Next() {
		var r Release
		if err := rows.Scan(&r.Number, &r.Period); err != nil {
			return nil, fmt.Errorf("reading releases: %w", err)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}
