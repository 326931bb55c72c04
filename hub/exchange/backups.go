package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"kith/hub/store"
)

const (
	backupPrefix = "hub-"
	backupSuffix = ".db"
	backupTime   = "20060102T150405.000Z" // of four-digit years: sorts by age
)

// backups are taken one at a time.
type backups struct {
	mu   sync.Mutex
	last error
	at   time.Time
}

// keepBackups takes a backup every so often. Edges prune only what stands in a verified one.
func (x *Exchange) keepBackups(ctx context.Context) error {
	tick := time.NewTicker(time.Duration(x.cfg.Backup.Every))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if _, err := x.backup(ctx); err != nil && ctx.Err() == nil {
				x.log.Error("backup failed; edges keep everything until one succeeds", "err", err)
			}
		}
	}
}

// backup copies the database, verifies the copy, makes room among the older ones, and tells the intake how far the copy
// reaches, in this order: edges prune by that word, so it is said of a file that is there to stay.
func (x *Exchange) backup(ctx context.Context) (Answer, error) {
	x.backups.mu.Lock()
	defer x.backups.mu.Unlock()
	file, marks, err := x.copied(ctx)
	x.backups.last, x.backups.at = err, time.Now()
	if err != nil {
		return Answer{}, fmt.Errorf("backing up: %w", err)
	}
	thinned := x.thin(file)
	if err := intact(file); err != nil {
		x.backups.last = err
		return Answer{}, fmt.Errorf("backing up: the new copy is gone: %w", errors.Join(err, thinned))
	}
	if x.intake != nil {
		for _, m := range marks {
			if err := x.intake.Backed(ctx, m.Log.Edge, m.Log.Epoch, m.Backup); err != nil {
				return Answer{}, fmt.Errorf("telling how far the backup reaches: %w", err)
			}
		}
	}
	return Answer{Files: []string{file}}, thinned
}

// copied makes the next copy.
func (x *Exchange) copied(ctx context.Context) (file string, marks []store.Watermark, err error) {
	dir := x.cfg.backupDir(x.opt.StateDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	older, err := copies(dir)
	if err != nil {
		return "", nil, err
	}
	name, err := nextCopy(older, time.Now())
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", dir, err)
	}
	file = filepath.Join(dir, name)
	marks, err = x.storage.Backup(ctx, file, x.checks())
	return file, marks, err
}

// copies lists the names of copies in a directory, oldest first. What bears no time was put there by somebody else.
func copies(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, ok := copyTime(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// copyTime reads the time in the name of a copy, in the one spelling that copyName writes.
func copyTime(name string) (time.Time, bool) {
	at, err := time.Parse(backupPrefix+backupTime+backupSuffix, name)
	return at, err == nil && copyName(at) == name
}

func copyName(at time.Time) string {
	return backupPrefix + at.UTC().Format(backupTime) + backupSuffix
}

// nextCopy names the copy after these: by the time, or just above the newest name when that is ahead of the clock. So the
// order of the names is the order in which copies were made, whatever a clock says that was set back or lost its battery.
func nextCopy(older []string, now time.Time) (string, error) {
	if len(older) > 0 {
		newest := older[len(older)-1]
		if at, _ := copyTime(newest); !now.Truncate(time.Millisecond).After(at) {
			now = at.Add(time.Millisecond)
		}
		if copyName(now) <= newest {
			return "", fmt.Errorf("no later name than %s is left for the next copy; move that file away", newest)
		}
	}
	return copyName(now), nil
}

// thin removes the oldest copies beyond those to keep, and never the one that was just made.
func (x *Exchange) thin(made string) error {
	dir := filepath.Dir(made)
	names, err := copies(dir)
	if err != nil {
		return err
	}
	spare := len(names) - x.cfg.Backup.Keep
	var errs []error
	for _, name := range names {
		if spare <= 0 {
			break
		}
		if name == filepath.Base(made) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		spare--
	}
	return errors.Join(errs...)
}

// intact is nil while a copy that was made is still there.
func intact(file string) error {
	info, err := os.Lstat(file)
	if err == nil && (!info.Mode().IsRegular() || info.Size() == 0) {
		err = fmt.Errorf("%s is no copy any more", file)
	}
	return err
}

// Verification is what hub verify prints.
type Verification struct {
	OK          bool     `json:"ok"`
	Logs        uint64   `json:"logs"`
	Leaves      uint64   `json:"leaves"`
	Receipts    uint64   `json:"receipts"`
	Private     uint64   `json:"private"`
	Erased      uint64   `json:"erased"`
	Stored      uint64   `json:"stored"`  // leaves that no receipt proves
	Missing     uint64   `json:"missing"` // private parts that never came
	Lines       uint64   `json:"lines"`
	Present     uint64   `json:"present"`
	Opaque      uint64   `json:"opaque"`             // lines that are no leaves, kept as they came
	Lost        uint64   `json:"lost"`               // leaves that were co-signed once and are gone here
	Periods     uint64   `json:"periods,omitempty"`  // derived again from their own texts
	Releases    uint64   `json:"releases,omitempty"` // public reports whose note, hashes and statement agree
	Gaps        []string `json:"gaps,omitempty"`
	Differences []string `json:"differences,omitempty"`

	Commitments uint64 `json:"commitments,omitempty"` // their notes, and those that take one back
}

func (v *Verification) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s, %s; private parts: %d match, %d erased, %d missing; %s and %s recomputed\n", many(v.Logs, "log", "logs"),
		many(v.Leaves, "leaf", "leaves"), many(v.Receipts, "receipt", "receipts"), v.Private, v.Erased, v.Missing,
		many(v.Lines, "line", "lines"), many(v.Present, "person", "people"))
	if v.Periods > 0 {
		fmt.Fprintf(w, "%s derived, cleared, booked and sealed again\n", many(v.Periods, "period", "periods"))
	}
	if v.Releases > 0 {
		fmt.Fprintf(w, "%s as signed\n", many(v.Releases, "public report is", "public reports are"))
	}
	if v.Commitments > 0 {
		fmt.Fprintf(w, "%s as the operator signed them\n", many(v.Commitments, "note of a commitment is", "notes of commitments are"))
	}
	if v.Stored > 0 {
		fmt.Fprintf(w, "%d leaves that no receipt proves; while edges deliver, these are the newest of each\n", v.Stored)
	}
	for _, g := range v.Gaps {
		fmt.Fprintln(w, "LOST, unverifiable until an archive fills it:", g)
	}
	if v.Opaque > 0 {
		fmt.Fprintf(w, "%d lines are no leaves; they are kept and hashed as they came\n", v.Opaque)
	}
	if v.OK {
		fmt.Fprintln(w, "verified: every root, receipt, commitment and projection is what it says")
	}
	for _, d := range v.Differences {
		fmt.Fprintln(w, "NOT VERIFIED:", d)
	}
}

func many(n uint64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// verify recomputes everything. A difference is an answer, not an error.
func (x *Exchange) verify(ctx context.Context) (Answer, error) {
	r, err := x.storage.Verify(ctx, x.checks())
	if err != nil {
		return Answer{}, fmt.Errorf("verifying: %w", err)
	}
	v := &Verification{OK: r.OK(), Logs: r.Logs, Leaves: r.Leaves, Receipts: r.Receipts, Private: r.Private, Erased: r.Erased,
		Stored: r.Stored, Missing: r.Missing, Lines: r.Lines, Present: r.Present, Opaque: r.Opaque, Lost: r.Lost}
	for _, g := range r.Gaps {
		v.Gaps = append(v.Gaps, g.String())
	}
	for _, d := range r.Differences {
		v.Differences = append(v.Differences, d.String())
	}
	if err := x.verifyPeriods(ctx, v); err != nil {
		return Answer{}, fmt.Errorf("verifying: %w", err)
	}
	if err := x.verifyCommitments(ctx, v); err != nil {
		return Answer{}, fmt.Errorf("verifying: %w", err)
	}
	return Answer{Report: v}, nil
}
