package audit

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of a bundle.
const (
	MaxBundle    = 1 << 30 // bytes
	maxFiles     = 1 << 18
	maxNameBytes = 100 // a plain ustar name
)

// Files are the texts of one period by name.
type Files map[string][]byte

// names lists the files in their order: the manifest first, then by name.
func (f Files) names() []string {
	list := slices.Sorted(maps.Keys(f))
	slices.SortStableFunc(list, func(a, b string) int {
		switch {
		case a == b:
			return 0
		case a == manifestName:
			return -1
		case b == manifestName:
			return 1
		}
		return 0
	})
	return list
}

// Pack writes the one tar that holds these files: POSIX ustar, fixed owner, mode and time.
func Pack(f Files) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range f.names() {
		if !plainName(name) {
			return nil, fmt.Errorf("packing %.120q: not a plain name", name)
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(f[name])), Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("packing %s: %w", name, err)
		}
		if _, err := w.Write(f[name]); err != nil {
			return nil, fmt.Errorf("packing %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("packing: %w", err)
	}
	return buf.Bytes(), nil
}

// Unpack reads what Pack writes and nothing else: a second spelling of the same files would be a second bundle. The error
// is a *[Difference].
func Unpack(b []byte) (Files, error) {
	if len(b) > MaxBundle {
		return nil, differ("the bundle", 0, "%d bytes, at most %d are read", len(b), MaxBundle)
	}
	f := Files{}
	r := tar.NewReader(bytes.NewReader(b))
	last := "the beginning"
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, differ("the bundle", 0, "the header of the file after %s: %v", last, err)
		}
		if _, twice := f[h.Name]; twice || !plainName(h.Name) || h.Typeflag != tar.TypeReg || len(f) == maxFiles {
			return nil, differ("the bundle", 0, "the header of the file after %s: %.120q is not a plain file, or is there twice", last, h.Name)
		}
		// The reader gives no more than the bytes that are here, whatever size the header declares.
		body, err := io.ReadAll(r)
		if err != nil {
			return nil, differ(h.Name, 0, "its content ends early: %v", err)
		}
		f[h.Name], last = body, h.Name
	}
	again, err := Pack(f)
	if err != nil {
		return nil, differ("the bundle", 0, "%v", err)
	}
	if !bytes.Equal(again, b) {
		return nil, differ("the bundle", 0, "%s", f.place(again, b))
	}
	return f, nil
}

// place says in whose header or padding two tars part.
func (f Files) place(want, have []byte) string {
	at := 0
	for at < len(want) && at < len(have) && want[at] == have[at] {
		at++
	}
	const block = 512
	from := 0
	for _, name := range f.names() {
		size := block + (len(f[name])+block-1)/block*block
		if at < from+size {
			return fmt.Sprintf("byte %d, in the header or padding of %s, is not as it must be", at, name)
		}
		from += size
	}
	return fmt.Sprintf("byte %d, behind the last file, is not as it must be", at)
}

func plainName(name string) bool {
	if name == "" || len(name) > maxNameBytes || strings.HasPrefix(name, "/") || strings.Contains(name, "..") || strings.HasSuffix(name, "/") {
		return false
	}
	for i := range len(name) {
		switch b := name[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '.', b == '/':
		default:
			return false
		}
	}
	return true
}
