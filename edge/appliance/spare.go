package appliance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"kith/internal/journal"
)

// A card of memory that has had its time turns read-only, and stays so through every start. The doors of a house must not end
// with it: the journal of such a start is in memory. It has an epoch of its own, which the hub takes like any other; nothing in
// it survives a power cut, so no strict door opens on it and no entry is taken.
const (
	spareDir     = "/dev/shm" // tmpfs on every Linux with a C library
	spareReserve = 1 << 20    // bytes, instead of the disk's 16 MiB
)

// errVolatile answers a fact that is kept and would not survive a power cut.
var errVolatile = errors.New("the journal is in memory only, since the disk takes none")

// diskRefuses tells a disk that does not serve from a journal that must not be written here: another edge's, a newer
// program's, or one that another process has open.
func diskRefuses(ctx context.Context, err error) bool {
	for _, no := range []error{journal.ErrIdentity, journal.ErrNewer, journal.ErrSettings, syscall.EWOULDBLOCK} {
		if errors.Is(err, no) {
			return false
		}
	}
	return ctx.Err() == nil
}

// spareOf names the journal in memory that belongs to a state directory.
func spareOf(state, under string) (string, error) {
	if under == "" {
		under = spareDir
	}
	state, err := filepath.Abs(state)
	if err != nil {
		return "", fmt.Errorf("naming the journal in memory: %w", err)
	}
	sum := sha256.Sum256([]byte(state))
	return filepath.Join(under, "kith-edge-"+hex.EncodeToString(sum[:8])), nil
}

// openSpare opens the journal in memory that belongs to a state directory; a restart of the program alone finds it again.
func openSpare(ctx context.Context, opt journal.Options, under string) (*journal.Journal, error) {
	dir, err := spareOf(opt.Dir, under)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("making the journal in memory: %w", err)
	}
	// Everybody may write beside it, so what was there before must be ours alone: a link or a directory of somebody else would
	// give them the names of a house.
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("making the journal in memory: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(st.Uid) != os.Geteuid() || info.Mode().Perm() != 0o700 {
		return nil, fmt.Errorf("making the journal in memory: %s exists and is not ours alone; remove it", dir)
	}
	opt.Dir, opt.Reserve = dir, spareReserve
	j, err := journal.Open(ctx, opt)
	if err != nil {
		return nil, fmt.Errorf("opening the journal in memory: %w", err)
	}
	return j, nil
}

// eraseSpare erases in the journal in memory that a former start left, if one did; this start does not use it.
func eraseSpare(ctx context.Context, opt journal.Options, under string, is func(string) bool) error {
	dir, err := spareOf(opt.Dir, under)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	j, err := openSpare(ctx, opt, under)
	if err != nil {
		return err
	}
	_, err = j.Erase(ctx, is)
	return errors.Join(err, j.Close())
}
