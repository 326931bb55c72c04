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

// Period is what is to become durable of one period by one step, in one transaction.
type Period struct {
	Number  int // from 1
	Name    string
	Files   map[string][]byte // new ones; a name that stands already is refused unless its bytes are the same
	Entries []PeriodEntry     // of the books, in order
}

// PeriodEntry is one line of the journal of the books.
type PeriodEntry struct {
	ID   [32]byte
	Line []byte
}

// SavePeriod makes one step of a period durable, all of it or nothing. It may be repeated.
func (s *Store) SavePeriod(ctx context.Context, p Period) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("saving period %s: %w", p.Name, classify(err))
	}
	if err := savePeriod(ctx, tx, &p); err != nil {
		return errors.Join(fmt.Errorf("saving period %s: %w", p.Name, classify(err)), ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("saving period %s: %w", p.Name, classify(err))
	}
	return nil
}

func savePeriod(ctx context.Context, tx *sql.Tx, p *Period) error {
	var other string
	err := tx.QueryRowContext(ctx, `SELECT period FROM period_files WHERE number = ? AND period <> ? LIMIT 1`, p.Number, p.Name).Scan(&other)
	if err == nil {
		return fmt.Errorf("period %d is %s: %w", p.Number, other, ErrConflict)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	for name, body := range p.Files {
		if err := putOnce(ctx, tx, body, `SELECT body FROM period_files WHERE number = ? AND name = ?`,
			`INSERT INTO period_files (number, name, period, body) VALUES (?, ?, ?, ?)`, []any{p.Number, name}, []any{p.Name, nonNil(body)}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for i, e := range p.Entries {
		if err := putOnce(ctx, tx, e.Line, `SELECT line FROM entries WHERE id = ?`, `INSERT INTO entries (id, number, line) VALUES (?, ?, ?)`,
			[]any{e.ID[:]}, []any{p.Number, e.Line}); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

// putOnce inserts a row, or finds it standing with the same bytes.
func putOnce(ctx context.Context, tx *sql.Tx, body []byte, find, insert string, key, rest []any) error {
	var have []byte
	err := tx.QueryRowContext(ctx, find, key...).Scan(&have)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err = tx.ExecContext(ctx, insert, append(key, rest...)...)
		return err
	case err != nil:
		return err
	case !bytes.Equal(have, body):
		return fmt.Errorf("stands with other content: %w", ErrConflict)
	}
	return nil
}

// Periods returns the names of all periods, the first one first.
func (s *Store) Periods(ctx context.Context) ([]string, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT DISTINCT number, period FROM period_files ORDER BY number`)
	if err != nil {
		return nil, fmt.Errorf("reading periods: %w", err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var n int
		var name string
		if err := rows.Scan(&n, &name); err != nil {
			return nil, fmt.Errorf("reading periods: %w", err)
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// PeriodFiles returns every text of a period by name; none when there is no such period.
func (s *Store) PeriodFiles(ctx context.Context, period string) (map[string][]byte, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT name, body FROM period_files WHERE period = ?`, period)
	if err != nil {
		return nil, fmt.Errorf("reading period %s: %w", period, err)
	}
	defer rows.Close()
	files := map[string][]byte{}
	for rows.Next() {
		var name string
		var body []byte
		if err := rows.Scan(&name, &body); err != nil {
			return nil, fmt.Errorf("reading period %s: %w", period, err)
		}
		files[name] = nonNil(body)
	}
	return files, rows.Err()
}

// Entries returns the journal of the books, in order.
func (s *Store) Entries(ctx context.Context) ([][]byte, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT line FROM entries ORDER BY seq`)
	if err != nil {
		return nil, fmt.Errorf("reading the books: %w", err)
	}
	defer rows.Close()
	var lines [][]byte
	for rows.Next() {
		var line []byte
		if err := rows.Scan(&line); err != nil {
			return nil, fmt.Errorf("reading the books: %w", err)
		}
		lines = append(lines, line)
	}
	return lines, rows.Err()
}

// Leaves walks the lines [from, to) of a log in order. The line is valid during the call only; it is nil, once, for a
// whole gap, and until then says where the gap ends.
func (s *Store) Leaves(ctx context.Context, a Address, to uint64, f func(at, until uint64, line []byte) error) error {
	id, err := s.logID(ctx, a)
	if err != nil {
		return err
	}
	at := a.Index
	for at < to {
		b, err := readSpan(ctx, s.read, id, at)
		if err != nil {
			return fmt.Errorf("reading leaf %s %s %d: %w", a.Edge, a.Epoch, at, err)
		}
		if b.lost {
			until := min(b.first+b.n, to)
			if err := f(at, until, nil); err != nil {
				return err
			}
			at = until
			continue
		}
		for i := b.first; i < b.first+b.n && i < to; i++ {
			var line []byte
			line, b.lines, _ = bytes.Cut(b.lines, newline)
			if i < at {
				continue
			}
			if err := f(i, i+1, nonNil(line)); err != nil {
				return err
			}
			at = i + 1
		}
	}
	return nil
}

// Hashes answers for the inner nodes of a log's tree. ErrLost: a gap hides one.
func (s *Store) Hashes(ctx context.Context, edge string, epoch event.Epoch) (tlog.HashReader, error) {
	id, err := s.logID(ctx, Address{Edge: edge, Epoch: epoch})
	return hashReader{ctx, s.read, id}, err
}

func (s *Store) logID(ctx context.Context, a Address) (int64, error) {
	var id int64
	err := s.read.QueryRowContext(ctx, `SELECT id FROM logs WHERE edge = ? AND epoch = ?`, a.Edge, a.Epoch[:]).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrUnknown
	}
	if err != nil {
		return 0, fmt.Errorf("log %s %s: %w", a.Edge, a.Epoch, err)
	}
	return id, nil
}
