package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kith/internal/event"
)

// Bounds of erasing, which shares the writer with the doors: one step is one transaction of a few milliseconds.
const (
	eraseStep  = 64                     // private parts overwritten in one transaction
	eraseScan  = 1024                   // private rows looked at in one read
	foldBusyMS = 10                     // that folding the WAL waits for a reader, and the doors with it
	foldTries  = 50                     // before whoever erases is told to come again
	foldAgain  = 100 * time.Millisecond // between two of them
)

// Same length in, same length out: SQLite overwrites the cell where it is.
const (
	eraseRange = "UPDATE private SET salt = zeroblob(32), part = zeroblob(length(part)) WHERE number >= ? AND number < ?"
	eraseOne   = "UPDATE private SET salt = zeroblob(32), part = zeroblob(length(part)) WHERE number = ?"
)

// Erase overwrites every private part that says a word for which is holds (event.Names), and its salt, so that neither the
// database nor its WAL nor a damaged copy that was kept aside holds them any more. It returns how many. Leaves, roots and
// proofs stand. It covers what was appended, or waited to be, when it is called; from then on a part that names such a person is
// not carried into a new epoch either. Whoever appends keeps such words out by himself. Called again after any failure, or
// after a kill, it finishes what is left. (What the flash of a memory card keeps in worn-out cells is beyond any program.)
//
// A part that is no JSON names nobody that anyone could find, and holds no proof: it goes too. So do the damaged copies kept
// aside, since whom they name cannot be told. A row that the disk does not give back is an error, after all others were looked at.
func (j *Journal) Erase(ctx context.Context, is func(word string) bool) (int, error) {
	j.tending.Lock() // a verification would hold the WAL
	defer j.tending.Unlock()
	j.unwanted.Store(&is)
	n, err := j.eraseWhere(ctx, is)
	// Also when nothing was found: a kill may have come between overwriting and folding.
	if err = errors.Join(err, j.fold(ctx), j.dropEvidence()); err != nil {
		return n, fmt.Errorf("erasing: %w", err)
	}
	return n, nil
}

// eraseWhere walks all private rows in short reads, oldest first, so that the WAL can be folded in between and what is
// appended meanwhile is met at the end. Rows that the disk does not give back are passed by; the first of them is the error.
func (j *Journal) eraseWhere(ctx context.Context, is func(word string) bool) (total int, unread error) {
	if err := j.ask1(ctx, func(*txn) error { return nil }); err != nil { // what was queued before is in the tables now
		return 0, err
	}
	i, at := 0, uint64(0)
	for {
		v := j.view.Load() // it may have grown
		if i >= len(v.epochs) {
			return total, unread
		}
		e := v.epochs[i]
		if at = max(at, e.pruned); at >= e.tree.size {
			i, at = i+1, 0
			continue
		}
		n, bad, err := j.eraseRows(ctx, e.number(at), e.number(at+eraseScan), is)
		if total += n; err != nil {
			return total, err
		}
		if unread == nil {
			unread = bad
		}
		at += eraseScan
	}
}

// eraseRows erases in the rows from..to-1. What cannot be read is halved until it is a single row.
func (j *Journal) eraseRows(ctx context.Context, from, to int64, is func(word string) bool) (n int, unread, err error) {
	found, err := j.named(ctx, from, to, is)
	switch {
	case err == nil:
		return len(found), nil, j.overwrite(ctx, found)
	case ctx.Err() != nil || errors.Is(err, ErrStorage):
		return 0, nil, err
	case to-from == 1:
		return 0, err, nil
	}
	mid := from + (to-from)/2
	n, unread, err = j.eraseRows(ctx, from, mid, is)
	if err != nil {
		return n, unread, err
	}
	more, bad, err := j.eraseRows(ctx, mid, to, is)
	if unread == nil {
		unread = bad
	}
	return n + more, unread, err
}

// named finds the rows from..to-1 that are to go.
func (j *Journal) named(ctx context.Context, from, to int64, is func(word string) bool) (found []int64, err error) {
	err = j.reading(func(q *sql.DB) error {
		rows, err := q.QueryContext(ctx, "SELECT number, part FROM private WHERE number >= ? AND number < ? ORDER BY number", from, to)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var number int64
			var part sql.RawBytes
			if err := rows.Scan(&number, &part); err != nil {
				return err
			}
			switch {
			case len(part) == 0 || part[0] == 0: // erased
			case event.Names(part, is):
				found = append(found, number)
			case event.CheckJSON(part) != nil:
				j.log.Warn("a private part that cannot be read goes with those of the erased", "row", number)
				found = append(found, number)
			}
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("looking for private parts: %w", err)
	}
	return found, nil
}

// overwrite zeroes private rows. What it replaces may still stand in the WAL, until fold.
func (j *Journal) overwrite(ctx context.Context, numbers []int64) error {
	for len(numbers) > 0 {
		step := numbers[:min(len(numbers), eraseStep)]
		numbers = numbers[len(step):]
		// Routine: the reserve of a full disk is for what people do.
		err := j.ask(ctx, &request{routine: true, answer: make(chan error, 1), op: func(t *txn) error {
			for _, n := range step {
				t.execSQL(eraseOne, n)
			}
			return t.err
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// fold brings the WAL to zero bytes. A reader may be in the way; then the doors come first and the next try is soon.
func (j *Journal) fold(ctx context.Context) error {
	for tries := 1; ; tries++ {
		err := j.ask(ctx, &request{answer: make(chan error, 1), alone: func(ctx context.Context, d *database) error {
			if err := j.opt.faults.check("fold", nil); err != nil {
				return err
			}
			return truncateWALWithin(ctx, d, foldBusyMS)
		}})
		if err == nil {
			return nil
		}
		if !errors.Is(err, errReader) || tries == foldTries {
			return fmt.Errorf("overwritten, but the WAL still holds old pages (erase again): %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(foldAgain):
		}
	}
}

// dropEvidence removes the damaged copies. One that is made from here on is of a database that was searched.
func (j *Journal) dropEvidence() error {
	entries, err := os.ReadDir(j.opt.Dir)
	if err != nil {
		return fmt.Errorf("listing evidence: %w", err)
	}
	gone := false
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), damagedStem) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(j.opt.Dir, e.Name())); err != nil {
			return fmt.Errorf("removing evidence: %w", err)
		}
		j.log.Warn("a damaged copy of the journal was removed: it may name somebody who was erased", "evidence", e.Name())
		gone = true
	}
	if !gone {
		return nil
	}
	return syncDir(j.opt.Dir)
}
