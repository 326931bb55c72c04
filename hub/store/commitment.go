package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Limits of commitments.
const (
	MaxCommitmentNote = 4 << 10 // bytes of one note
	MaxCommitments    = 100_000 // notes kept
)

// CommitmentNote is what an operator signed: a commitment, or that it is taken back. The note is opaque here.
type CommitmentNote struct {
	Digest  [32]byte // of the commitment's text
	Cancels bool
	Note    []byte
}

// SaveCommitment makes a note durable. It may be repeated with the same bytes; other bytes for the same commitment are
// ErrConflict, and taking back what is not here is ErrUnknown.
func (s *Store) SaveCommitment(ctx context.Context, n CommitmentNote) error {
	if len(n.Note) == 0 || len(n.Note) > MaxCommitmentNote {
		return fmt.Errorf("saving a commitment: a note of %d bytes, want 1 to %d", len(n.Note), MaxCommitmentNote)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("saving a commitment: %w", classify(err))
	}
	if err := saveCommitment(ctx, tx, &n); err != nil {
		return errors.Join(fmt.Errorf("saving commitment %x: %w", n.Digest[:8], classify(err)), ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("saving commitment %x: %w", n.Digest[:8], classify(err))
	}
	return nil
}

func saveCommitment(ctx context.Context, tx *sql.Tx, n *CommitmentNote) error {
	var count, made int
	if err := tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(digest = ? AND cancels = 0), 0) FROM commitments`, n.Digest[:]).Scan(&count, &made); err != nil {
		return err
	}
	switch {
	case n.Cancels && made == 0:
		return ErrUnknown
	case count >= MaxCommitments:
		return fmt.Errorf("%d notes are here, and no more are kept", MaxCommitments)
	}
	return putOnce(ctx, tx, n.Note, `SELECT note FROM commitments WHERE digest = ? AND cancels = ?`,
		`INSERT INTO commitments (digest, cancels, note) VALUES (?, ?, ?)`, []any{n.Digest[:], n.Cancels}, []any{n.Note})
}

// Commitments returns every note in the order of signing.
func (s *Store) Commitments(ctx context.Context) ([]CommitmentNote, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT digest, cancels, note FROM commitments ORDER BY seq`)
	if err != nil {
		return nil, fmt.Errorf("reading commitments: %w", err)
	}
	defer rows.Close()
	var list []CommitmentNote
	for rows.Next() {
		var n CommitmentNote
		var digest []byte
		if err := rows.Scan(&digest, &n.Cancels, &n.Note); err != nil {
			return nil, fmt.Errorf("reading commitments: %w", err)
		}
		if copy(n.Digest[:], digest) != len(digest) || len(digest) != len(n.Digest) {
			return nil, fmt.Errorf("reading commitments: a digest of %d bytes", len(digest))
		}
		list = append(list, n)
	}
	return list, rows.Err()
}
