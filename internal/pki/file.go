package pki

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	modePrivate = 0o600
	modePublic  = 0o644
	modeDir     = 0o700
)

// WriteFile replaces path by data so that after a crash at any point either the old or the new content stands: write
// beside it, fsync, rename, fsync the directory. Without the last step a file system may bring the old name back.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".tmp-"+filepath.Base(path)+"-*") // created 0600
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // gone already when the rename happened
	if err := fill(f, data, mode); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return syncDir(dir)
}

func fill(f *os.File, data []byte, mode fs.FileMode) error {
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	return nil
}

// ReadPublic reads a certificate or a verifier key.
func ReadPublic(path string) ([]byte, error) { return read(path, false) }

// ReadPrivate reads a private key and refuses, with ErrExposed, a file that anyone but its owner may touch.
func ReadPrivate(path string) ([]byte, error) { return read(path, true) }

func read(path string, private bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading key material: %w", err)
	}
	defer f.Close()
	// The open file is asked, not the name, so that nobody can swap it between the question and the read.
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", path, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("reading %s: not a regular file", path)
	case info.Size() > MaxFile:
		return nil, fmt.Errorf("reading %s: %d bytes, more than %d: not a key", path, info.Size(), MaxFile)
	case private && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("reading %s: mode %04o: %w: run chmod 600 %s, and make a new key if others use this machine",
			path, info.Mode().Perm(), ErrExposed, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return data, nil
}

// named is one file to be.
type named struct {
	name string
	data []byte
	mode fs.FileMode
}

// makeDir writes files into a directory that appears in full or not at all: a crash leaves only a hidden partial
// directory, which the next try replaces.
func makeDir(dir string, files []named) error {
	dir = filepath.Clean(dir)
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("making %s: %w: keys are never overwritten, remove or rename it first", dir, ErrExists)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	parent := filepath.Dir(dir)
	partial := filepath.Join(parent, "."+filepath.Base(dir)+".partial")
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	if err := os.MkdirAll(partial, modeDir); err != nil {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	for _, f := range files {
		if err := WriteFile(filepath.Join(partial, f.name), f.data, f.mode); err != nil {
			return err
		}
	}
	if err := os.Rename(partial, dir); err != nil {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	return syncDir(parent)
}
