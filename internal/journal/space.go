package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
)

// ReserveBytes is set aside so that a full disk still takes 10,000 taps: about 0.7 KB each in the tables, and the WAL
// that carries them.
const ReserveBytes = 16 << 20

const (
	reserveFile  = "reserve"
	lowPercent   = 15 // below this much free space the state is low
	percent      = 100
	reserveRoom  = 2 // the reserve comes back when this many times its size is free
	reserveChunk = 1 << 20
)

// Space states.
const (
	SpaceOK   = "ok"
	SpaceLow  = "low"
	SpaceFull = "full" // writes have failed, or only the reserve is left to write into
)

// Space is what the health tree shows of the disk.
type Space struct {
	State   string // ok, low or full
	Free    uint64 // bytes
	Total   uint64 // bytes
	Reserve bool   // the reserve file stands
	Failed  bool   // the database is closed after a storage failure and has not opened again
}

// spaceState guards the reserve file. full is read by the writer at every batch.
type spaceState struct {
	dir     string
	reserve int64
	full    atomic.Bool
	mu      sync.Mutex
	held    bool
}

func (s *spaceState) init(dir string, reserve int64) {
	s.dir, s.reserve = dir, reserve
	info, err := os.Stat(s.path())
	s.held = err == nil && info.Size() >= reserve
}

func (s *spaceState) path() string { return filepath.Join(s.dir, reserveFile) }

// release gives the reserve to the file system; false when there was none to give.
func (s *spaceState) release() bool {
	s.full.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held {
		return false
	}
	s.held = false
	return os.Remove(s.path()) == nil
}

// wrote clears the full state after a commit that had the reserve behind it.
func (s *spaceState) wrote() {
	if s.full.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held {
			s.full.Store(false)
		}
	}
}

// keep makes the reserve when there is none and room for it. Written, not only sized: a sparse file reserves nothing.
func (s *spaceState) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held {
		return
	}
	free, _, err := statfs(s.dir)
	if err != nil || free < uint64(s.reserve)*reserveRoom {
		return
	}
	if err := s.fill(); err != nil {
		os.Remove(s.path())
		return
	}
	s.held = true
	s.full.Store(false)
}

func (s *spaceState) fill() error {
	f, err := os.OpenFile(s.path(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, min(s.reserve, reserveChunk))
	for left := s.reserve; left > 0; {
		n, err := f.Write(chunk[:min(left, int64(len(chunk)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return f.Close()
}

func statfs(dir string) (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("asking %s for its space: %w", dir, err)
	}
	return uint64(st.Bavail) * uint64(st.Bsize), uint64(st.Blocks) * uint64(st.Bsize), nil
}

// Space reports the disk under the journal.
func (j *Journal) Space() Space {
	out := Space{State: SpaceOK, Failed: j.failed.Load()}
	j.space.mu.Lock()
	out.Reserve = j.space.held
	j.space.mu.Unlock()
	var err error
	out.Free, out.Total, err = statfs(j.opt.Dir)
	switch {
	case j.space.full.Load():
		out.State = SpaceFull
	case err != nil || !out.Reserve || out.Free*percent < out.Total*lowPercent:
		out.State = SpaceLow
	}
	return out
}
