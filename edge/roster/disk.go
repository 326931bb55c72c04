package roster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// disk is the little of a file system that this room needs; the second implementation is the tests' power cut.
type disk interface {
	// Read returns at most limit bytes of a file, and an error if there are more. A missing file is fs.ErrNotExist.
	Read(name string, limit int64) ([]byte, error)
	// Open opens a file for reading. A missing file is fs.ErrNotExist.
	Open(name string) (file, error)
	// Create creates or empties a file, to be written and read.
	Create(name string) (file, error)
	// Write creates or empties a file, fills it and syncs it.
	Write(name string, parts ...[]byte) error
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes renames durable.
	SyncDir() error
}

// file is one that is too large to be held in memory. Write appends.
type file interface {
	io.ReaderAt
	io.WriteCloser
	Size() (int64, error)
	Sync() error
}

// besideName ends the name of what is being written.
const besideName = ".new"

// replace puts new content under a name so that a power cut at any moment leaves the old content or the new one, never
// a mixture: the new bytes are durable under another name before the name moves, and the move is durable on return.
func replace(d disk, name string, parts ...[]byte) error {
	tmp := name + besideName
	if err := d.Write(tmp, parts...); err != nil {
		_ = d.Remove(tmp) // half a roster is of no use and names people
		return fmt.Errorf("writing %s: %w", tmp, err)
	}
	return move(d, tmp, name)
}

// move puts a file whose bytes are durable under another name; the move is durable on return.
func move(d disk, from, to string) error {
	if err := d.Rename(from, to); err != nil {
		return fmt.Errorf("moving %s into place: %w", from, err)
	}
	if err := d.SyncDir(); err != nil {
		return fmt.Errorf("syncing the directory of %s: %w", to, err)
	}
	return nil
}

// folder is a real directory.
type folder string

func (f folder) Read(name string, limit int64) ([]byte, error) {
	return readLimited(filepath.Join(string(f), name), limit)
}

func readLimited(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s exceeds the limit of %d bytes", path, limit)
	}
	return b, nil
}

func (f folder) Open(name string) (file, error) {
	return opened(os.Open(filepath.Join(string(f), name)))
}

func (f folder) Create(name string) (file, error) {
	return opened(os.OpenFile(filepath.Join(string(f), name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600))
}

// sized adds to a file what the interface asks of it.
type sized struct{ *os.File }

func opened(f *os.File, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return sized{f}, nil
}

func (f sized) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f folder) Write(name string, parts ...[]byte) (err error) {
	file, err := os.OpenFile(filepath.Join(string(f), name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for _, p := range parts {
		if _, err := file.Write(p); err != nil {
			return err
		}
	}
	return file.Sync()
}

func (f folder) Rename(from, to string) error {
	return os.Rename(filepath.Join(string(f), from), filepath.Join(string(f), to))
}

func (f folder) Remove(name string) error { return os.Remove(filepath.Join(string(f), name)) }

func (f folder) SyncDir() (err error) {
	dir, err := os.Open(string(f))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	return dir.Sync()
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
