package appliance

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"kith/edge/roster"
	"kith/internal/access"
	"kith/internal/pki"
)

// lastRosterFile is the newest roster of a lone edge that could be used, in the state directory.
const (
	lastRosterFile  = "roster.last-good.yaml"
	rosterEvery     = 2 * time.Second // between two looks at what is in force
	lastRosterLimit = 4 << 20         // bytes; a roster file is no larger
)

// filed is the people of a lone edge: the host's file or, when a start finds that broken, the copy of the last one that
// was not. A mistake in the file followed by a power cut must not lock the house out.
type filed struct {
	path, copy string
	log        *slog.Logger
	inForce    atomic.Pointer[roster.File]
	trouble    atomic.Pointer[error] // why the host's file is not the one in force; nil while it is

	keeping sync.Mutex        // guards what follows
	kept    [sha256.Size]byte // digest of the copy
}

func openFiled(path, state string, log *slog.Logger) (*filed, error) {
	f := &filed{path: path, copy: filepath.Join(state, lastRosterFile), log: log}
	file, err := roster.OpenFile(path)
	if err == nil {
		f.inForce.Store(file)
		f.keep()
		return f, nil
	}
	good, lost := roster.OpenFile(f.copy)
	if lost != nil {
		return nil, err // there never was a good one
	}
	log.Error("roster file cannot be used; the last good one is in force", "err", err)
	f.inForce.Store(good)
	f.trouble.Store(&err)
	return f, nil
}

func (f *filed) Current() *access.Roster     { return f.inForce.Load().Current() }
func (f *filed) Freshness() access.Freshness { return f.inForce.Load().Freshness() }
func (f *filed) Digest() [sha256.Size]byte   { return f.inForce.Load().Digest() }
func (f *filed) Clock(wall time.Time, q roster.Quality) (time.Time, bool) {
	return f.inForce.Load().Clock(wall, q)
}

// Err says why the host's file as it stands is not in force.
func (f *filed) Err() error {
	if p := f.trouble.Load(); p != nil {
		return fmt.Errorf("the last good one is in force: %w", *p)
	}
	return f.inForce.Load().Err()
}

// Run looks at the host's file until ctx ends: first until it can be used, then for changes.
func (f *filed) Run(ctx context.Context) error {
	tick := time.NewTicker(rosterEvery)
	defer tick.Stop()
	for f.trouble.Load() != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		file, err := roster.OpenFile(f.path)
		if err != nil {
			f.trouble.Store(&err)
			continue
		}
		f.inForce.Store(file)
		f.trouble.Store(nil)
		f.keep()
	}
	watched := make(chan error, 1)
	go func() { watched <- f.inForce.Load().Run(ctx) }()
	for {
		select {
		case err := <-watched:
			return err
		case <-tick.C:
			f.keep()
		}
	}
}

// keep copies the host's file when it is in force and has changed. What is copied is read anew, so it is held against the
// digest of what was compiled: the host may be writing at this very moment.
func (f *filed) keep() {
	f.keeping.Lock()
	defer f.keeping.Unlock()
	file := f.inForce.Load()
	digest := file.Digest()
	if file.Err() != nil || digest == f.kept {
		return
	}
	b, changed, err := readRoster(f.path)
	if err != nil || sha256.Sum256(b) != digest {
		return // the next look finds it settled
	}
	if err := pki.WriteFile(f.copy, b, 0o600); err != nil {
		f.log.Warn("the good roster was not kept for a start on a broken one", "err", err)
		return
	}
	// A roster without a version of its own counts by the time of its last change.
	if err := os.Chtimes(f.copy, changed, changed); err != nil {
		f.log.Warn("the kept roster has another time than its original", "err", err)
	}
	f.kept = digest
}

// settled fails while the copy is of an earlier file: people stand in that who may be in no roster any more.
func (f *filed) settled() error {
	f.keep()
	b, _, err := readRoster(f.copy)
	if err == nil && sha256.Sum256(b) != f.Digest() {
		err = errors.New("it is still of an earlier roster")
	}
	if err != nil {
		return fmt.Errorf("the copy of the roster, %s: %w", f.copy, err)
	}
	return nil
}

func readRoster(path string) ([]byte, time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, lastRosterLimit)) // what is cut off no longer has the digest
	return b, info.ModTime(), err
}
