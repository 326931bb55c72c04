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

// pruneGroups are removed in one transaction: 1,024 leaves, a few milliseconds of the writer that the doors wait for.
const pruneGroups = 4

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
	if err := j.overwrite(ctx, numbers); err != nil {
		return err
	}
	return j.fold(ctx)
}
