package roster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"

	"kith/internal/access"
)

// Bounds of a lone edge's file.
const (
	fileLimit = 4 << 20         // bytes; a file that people edit is far smaller
	pollEvery = 2 * time.Second // how soon a change is seen
	racy      = 4 * time.Second // a file changed so recently may change again within the same time stamp
)

// File is the roster of an edge without a hub: a YAML file that is read again when it changes. What does not compile
// never replaces what does; the error waits in Err for the health page.
type File struct {
	path    string
	current atomic.Pointer[access.Roster]

	mu    sync.Mutex // guards what follows
	mtime time.Time
	size  int64
	hash  [sha256.Size]byte // of what was read last
	used  [sha256.Size]byte // of what is in force
	lost  error             // the file could not be read
	bad   error             // what it held last cannot be used
}

// OpenFile reads the file for the first time. A file that cannot be used is an error here: nobody is locked out by a
// typo later, but a start should say it aloud.
func OpenFile(path string) (*File, error) {
	f := &File{path: path}
	f.poll(time.Now())
	if err := f.Err(); err != nil {
		return nil, err
	}
	return f, nil
}

// Current is the latest roster that compiled.
func (f *File) Current() *access.Roster { return f.current.Load() }

// Err is why the file as it stands now is not the one in force; nil if it is.
func (f *File) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.lost, f.bad)
}

// Freshness of a lone edge is always given: its file is the truth.
func (f *File) Freshness() access.Freshness { return access.Freshness{Fresh: true} }

// Clock trusts a synchronised clock; nobody else can tell a lone edge the time.
func (f *File) Clock(wall time.Time, quality Quality) (now time.Time, unsure bool) {
	return wall, quality != Synchronised
}

// Run looks for changes until ctx ends.
func (f *File) Run(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f.poll(time.Now())
		}
	}
}

// poll reads the file if its stamp changed or is too young to be trusted, and compiles it if its bytes changed.
func (f *File) poll(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		f.lost, f.mtime = fmt.Errorf("watching roster file: %w", err), time.Time{}
		return
	}
	same := info.ModTime().Equal(f.mtime) && info.Size() == f.size
	if same && now.Sub(f.mtime).Abs() > racy {
		return
	}
	b, err := readLimited(f.path, fileLimit)
	if err != nil {
		f.lost, f.mtime = fmt.Errorf("reading roster file: %w", err), time.Time{}
		return
	}
	f.lost, f.mtime, f.size = nil, info.ModTime(), info.Size()
	hash := sha256.Sum256(b)
	if hash == f.hash {
		return // also when it is the bad content whose error is being shown
	}
	f.hash = hash
	r, err := parseFile(b, info.ModTime())
	if err != nil {
		f.bad = fmt.Errorf("reading roster file %s: %w", f.path, err)
		return
	}
	f.bad = nil
	f.used = hash
	f.current.Store(r)
}

// Digest is the SHA-256 of the file's bytes that are in force.
func (f *File) Digest() [sha256.Size]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used
}

// parseFile is strict: unknown or repeated keys and a second document are errors that name their line. Version and
// issue time may be left out; the time of the last change stands in for both.
func parseFile(b []byte, changed time.Time) (*access.Roster, error) {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	var d access.Document
	if err := dec.Decode(&d); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the file is empty")
		}
		return nil, err
	}
	var more any
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("the file holds more than one document")
	}
	stamp := max(1, changed.Unix())
	if d.Version == 0 {
		d.Version = uint64(stamp)
	}
	if d.Issued == 0 {
		d.Issued = stamp
	}
	return access.Compile(d)
}
