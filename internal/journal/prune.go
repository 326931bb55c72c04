package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// Bounds of the slow work that shares the writer with the doors: one step is one transaction of a few milliseconds.
const (
	pruneGroups = 4    // groups removed in one transaction: 1,024 leaves
	eraseStep   = 256  // private parts overwritten in one transaction
	eraseScan   = 4096 // private rows looked at in one read
)

// Prune removes what the hub holds, has backed up, and is older than the retention time (invariant I3: index below
// min(receipt, backup watermark)). Leaves go in whole groups of 256 and leave their hashes packed in one row, so every
// proof about the rest still stands. Private parts of an incomplete group are erased in place at the same age. It
// returns the number of leaves removed.
func (j *Journal) Prune(ctx context.Context, now time.Time) (int, error) {
	j.tending.Lock()
	defer j.tending.Unlock()
	before := now.Add(-j.opt.Retention).UnixMilli()
	total := 0
	for _, e := range j.view.Load().epochs {
		n, err := j.pruneEpoch(ctx, e, before)
		if total += n; err != nil {
			return total, fmt.Errorf("pruning epoch %s: %w", e.id, err)
		}
	}
	return total, nil
}

func (e *epoch) prunable() uint64 { return min(e.receipt.size, e.backup) }

func (j *Journal) pruneEpoch(ctx context.Context, e *epoch, before int64) (int, error) {
	total := 0
	at := e.pruned >> groupBits
	for limit := e.prunable() >> groupBits; at < limit; {
		var tiles [][]byte
		for g := at; g < limit && len(tiles) < pruneGroups; g++ {
			tile, err := j.oldGroup(ctx, e, g, before)
			if err != nil {
				return total, err
			}
			if tile == nil {
				limit = g
				break
			}
			tiles = append(tiles, tile)
		}
		if len(tiles) == 0 {
			break
		}
		first := at
		if err := j.ask1(ctx, func(t *txn) error { return t.prune(e.id, first, tiles) }); err != nil {
			return total, err
		}
		at += uint64(len(tiles))
		total += len(tiles) * groupSize
	}
	return total, j.eraseOldTail(ctx, e, at<<groupBits, before)
}

// errYoung ends a scan at the first leaf that must stay.
var errYoung = errors.New("younger than the retention time")

// oldGroup packs the hashes of a group whose leaves are all old enough, or returns nil.
func (j *Journal) oldGroup(ctx context.Context, e *epoch, group uint64, before int64) ([]byte, error) {
	var tile []byte
	err := j.reading(func(q *sql.DB) error {
		err := scanLeaves(ctx, q, e, group<<groupBits, (group+1)<<groupBits, func(s *stored) error {
			if err := s.check(e); err != nil {
				return err
			}
			return young(s, before)
		})
		if err != nil {
			return err
		}
		hashes, err := groupsFrom(ctx, q, e)(group)
		if err != nil && !errors.Is(err, ErrPruned) {
			return err
		}
		tile = []byte{} // a group with a hole whose hash is unknown leaves no tile: its root is all there is
		for _, h := range hashes {
			tile = append(tile, h[:]...)
		}
		return nil
	})
	if errors.Is(err, errYoung) {
		return nil, nil
	}
	return tile, err
}

func young(s *stored, before int64) error {
	leaf, err := event.Parse(s.line)
	if err != nil {
		return err
	}
	if leaf.At+event.HourMS > before { // the exact time may be up to an hour after the leaf's
		return errYoung
	}
	return nil
}

func (t *txn) prune(id event.Epoch, first uint64, tiles [][]byte) error {
	e, err := t.find(id)
	if err != nil {
		return err
	}
	end := (first + uint64(len(tiles))) << groupBits
	if e.pruned != first<<groupBits || end > e.prunable() {
		return fmt.Errorf("%w: pruning %d to %d is no longer allowed", ErrRange, e.pruned, end)
	}
	for i, tile := range tiles {
		if len(tile) == groupSize*tlog.HashSize {
			if err := t.exec(t.db.putTile, e.number(first+uint64(i)), tile); err != nil {
				return err
			}
		}
	}
	from, to := e.number(first<<groupBits), e.number(end)
	t.execSQL(eraseRange, from, to) // first, so that no stale copy survives a page merge
	for _, table := range []string{"private", "leaf", "hole"} {
		t.execSQL("DELETE FROM "+table+" WHERE number >= ? AND number < ?", from, to)
	}
	e.pruned = end
	return t.execSQL("UPDATE epoch SET pruned = ? WHERE num = ?", int64(end), e.num)
}

// Same length in, same length out: SQLite overwrites the cell where it is.
const (
	eraseRange = "UPDATE private SET salt = zeroblob(32), part = zeroblob(length(part)) WHERE number >= ? AND number < ?"
	eraseOne   = "UPDATE private SET salt = zeroblob(32), part = zeroblob(length(part)) WHERE number = ?"
)

func (j *Journal) eraseOldTail(ctx context.Context, e *epoch, from uint64, before int64) error {
	var numbers []int64
	err := j.reading(func(q *sql.DB) error {
		return scanLeaves(ctx, q, e, from, min(from+groupSize, max(from, e.prunable())), func(s *stored) error {
			if !s.hasPrivate || s.erased() || errors.Is(young(s, before), errYoung) {
				return nil
			}
			numbers = append(numbers, e.number(s.index))
			return nil
		})
	})
	if err != nil || len(numbers) == 0 {
		return err
	}
	return j.eraseNumbers(ctx, numbers)
}

// Erasure says whose private parts go: all of a member, all of a card, or listed leaves of one epoch.
type Erasure struct {
	Member, Card string
	Epoch        event.Epoch
	Indexes      []uint64
}

// Erase overwrites private parts and their salts so that neither the database nor its WAL holds them any more, and
// returns how many. Leaves, roots and proofs stand. It covers the rows that are there when it is called. (What the
// flash of a memory card keeps in worn-out cells is beyond any program.)
func (j *Journal) Erase(ctx context.Context, who Erasure) (int, error) {
	if who.Member == "" && who.Card == "" && len(who.Indexes) == 0 {
		return 0, errors.New("erasing: name a member, a card or indexes")
	}
	var numbers []int64
	if len(who.Indexes) > 0 {
		e, err := j.view.Load().find(who.Epoch)
		if err != nil {
			return 0, fmt.Errorf("erasing: %w", err)
		}
		for _, i := range who.Indexes {
			if i >= e.tree.size {
				return 0, fmt.Errorf("erasing: %w: leaf %d of %d", ErrRange, i, e.tree.size)
			}
			numbers = append(numbers, e.number(i))
		}
	}
	if who.Member != "" || who.Card != "" {
		found, err := j.findPerson(ctx, who)
		if err != nil {
			return 0, fmt.Errorf("erasing: %w", err)
		}
		numbers = append(numbers, found...)
	}
	n, err := j.countPresent(ctx, numbers)
	if err == nil {
		err = j.eraseNumbers(ctx, numbers)
	}
	if err != nil {
		return 0, fmt.Errorf("erasing: %w", err)
	}
	return n, nil
}

// findPerson walks all private rows in short reads, so that the WAL can be folded in between.
func (j *Journal) findPerson(ctx context.Context, who Erasure) ([]int64, error) {
	var found []int64
	for last := int64(-1); ; {
		seen := 0
		err := j.reading(func(q *sql.DB) error {
			rows, err := q.QueryContext(ctx, "SELECT number, part FROM private WHERE number > ? ORDER BY number LIMIT ?", last, eraseScan)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var part sql.RawBytes
				if err := rows.Scan(&last, &part); err != nil {
					return err
				}
				seen++
				if len(part) == 0 || part[0] == 0 {
					continue
				}
				p, err := event.ParsePrivate(part)
				if err != nil {
					return fmt.Errorf("%w: private row %d: %w", ErrDamaged, last, err)
				}
				if who.Member != "" && p.Member == who.Member || who.Card != "" && p.Card == who.Card {
					found = append(found, last)
				}
			}
			return rows.Err()
		})
		if err != nil {
			return nil, fmt.Errorf("looking for private parts: %w", err)
		}
		if seen < eraseScan {
			return found, nil
		}
	}
}

func (j *Journal) countPresent(ctx context.Context, numbers []int64) (int, error) {
	n := 0
	err := j.reading(func(q *sql.DB) error {
		for _, number := range numbers {
			var salt []byte
			err := q.QueryRowContext(ctx, "SELECT salt FROM private WHERE number = ?", number).Scan(&salt)
			if err != nil && err != sql.ErrNoRows {
				return err
			}
			if s := (stored{salt: salt}); err == nil && !s.erased() {
				n++
			}
		}
		return nil
	})
	return n, err
}

func (j *Journal) eraseNumbers(ctx context.Context, numbers []int64) error {
	for len(numbers) > 0 {
		step := numbers[:min(len(numbers), eraseStep)]
		numbers = numbers[len(step):]
		err := j.ask1(ctx, func(t *txn) error {
			for _, n := range step {
				t.execSQL(eraseOne, n)
			}
			return t.err
		})
		if err != nil {
			return err
		}
	}
	err := j.ask(ctx, &request{alone: truncateWAL, answer: make(chan error, 1)})
	if err != nil {
		return fmt.Errorf("overwritten, but the WAL still holds old pages (erase again): %w", err)
	}
	return nil
}
