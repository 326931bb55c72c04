package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"kith/internal/access"
)

// Watermark is how far one log stands in a verified backup.
type Watermark struct {
	Log    Log
	Backup uint64
}

// Backup writes a complete copy to a new file, makes it durable, opens it again, verifies it as a stranger would, and
// only then raises the backup watermark of each log. An edge prunes below that mark, so a copy that was never read back
// must not count. On any error the copy is removed and no mark moved.
func (s *Store) Backup(ctx context.Context, file string, c Checks) ([]Watermark, error) {
	if _, err := os.Lstat(file); err == nil {
		return nil, fmt.Errorf("backing up: %s exists; name a new file", file)
	}
	marks, err := s.backup(ctx, file, c)
	if err != nil {
		if rm := os.Remove(file); rm != nil && !errors.Is(rm, os.ErrNotExist) {
			err = errors.Join(err, rm)
		}
		return nil, fmt.Errorf("backing up to %s: %w", file, err)
	}
	return marks, nil
}

func (s *Store) backup(ctx context.Context, file string, c Checks) ([]Watermark, error) {
	// VACUUM INTO accepts an empty existing file; made here so that the copy is never world-readable.
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if _, err := s.read.ExecContext(ctx, `VACUUM INTO ?`, file); err != nil {
		return nil, classify(err)
	}
	if err := errors.Join(syncFile(file), syncDir(filepath.Dir(file))); err != nil {
		return nil, err
	}
	held, err := verifyFile(ctx, file, s.project, s.erased, c)
	if err != nil {
		return nil, err
	}
	return s.raise(ctx, held)
}

// verifyFile proves that a database file is sound and whole, and returns its logs.
func verifyFile(ctx context.Context, file string, p Projection, erased func() *access.Erasures, c Checks) ([]Log, error) {
	db, err := openDB(file, "ro")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var said string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&said); err != nil {
		return nil, fmt.Errorf("checking %s: %w", file, err)
	}
	if said != "ok" {
		return nil, fmt.Errorf("checking %s: %s", file, said)
	}
	copied := Store{read: db, project: p, erased: erased}
	report, err := copied.Verify(ctx, c)
	if err != nil {
		return nil, err
	}
	if !report.OK() {
		return nil, fmt.Errorf("%s differs: %s", file, report.Differences[0])
	}
	return copied.Logs(ctx)
}

func (s *Store) raise(ctx context.Context, held []Log) ([]Watermark, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, classify(err)
	}
	var marks []Watermark
	for _, l := range held {
		if _, err := tx.ExecContext(ctx, `UPDATE logs SET backup = ? WHERE edge = ? AND epoch = ? AND backup < ?`,
			int64(l.Size), l.Edge, l.Epoch[:], int64(l.Size)); err != nil {
			return nil, errors.Join(classify(err), ignoreDone(tx.Rollback()))
		}
		marks = append(marks, Watermark{Log: l, Backup: l.Size})
	}
	if err := tx.Commit(); err != nil {
		return nil, classify(err)
	}
	return marks, nil
}

// Restore makes a hub directory from a verified backup and gives it a new generation, which tells every edge to compare heads
// again. It refuses a directory that holds a database already: a restore must never be the thing that loses data.
func Restore(ctx context.Context, file string, o Options, c Checks) error {
	target := filepath.Join(o.Dir, FileName)
	if err := restore(ctx, file, target, o, c); err != nil {
		return fmt.Errorf("restoring %s into %s: %w", file, o.Dir, err)
	}
	return nil
}

func restore(ctx context.Context, file, target string, o Options, c Checks) error {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{target, target + "-wal"} {
		if _, err := os.Lstat(name); err == nil {
			return fmt.Errorf("%s exists; move the old database away first", name)
		}
	}
	if _, err := verifyFile(ctx, file, o.Projection, nil, c); err != nil {
		return err
	}
	part := target + ".restoring"
	if err := copyFile(file, part); err != nil {
		return err
	}
	if err := regenerate(ctx, part); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := syncFile(part); err != nil {
		return err
	}
	if err := os.Rename(part, target); err != nil {
		return err
	}
	return syncDir(o.Dir)
}

// regenerate draws the new generation before the file gets its final name, so no hub can ever start on a copy that
// still claims the old one. Everything in the copy stands in a backup: the one it came from.
func regenerate(ctx context.Context, file string) error {
	db, err := openDB(file, "rw")
	if err != nil {
		return err
	}
	gen, err := newGeneration()
	if err != nil {
		return errors.Join(err, db.Close())
	}
	db.SetMaxOpenConns(1)
	for _, text := range []string{`UPDATE meta SET value = '` + gen + `' WHERE name = 'generation'`, `UPDATE logs SET backup = size`,
		`PRAGMA wal_checkpoint(TRUNCATE)`, `PRAGMA journal_mode = DELETE`} {
		if _, err := db.ExecContext(ctx, text); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	return db.Close()
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync()
}
