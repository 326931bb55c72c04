package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// Bounds of the search through raw bytes.
const (
	scavengeChunk = 1 << 20                                // bytes read at a time
	badBlock      = 4096                                   // bytes skipped when the device cannot read them
	maxScavenged  = 32_768                                 // leaves, the newest; about 25 MB while they are carried over
	scavengeKeep  = event.MaxLeaf + event.MaxPrivate + 256 // bytes carried from one chunk to the next, so that no line is cut
)

// scavenger finds leaves in files that SQLite cannot read any more. A leaf row holds the hash right before the line, and
// a private row the salt right before the part; so a find proves itself, by hash or by commitment, and noise never does.
// Lines so long that SQLite spread them over pages are not found.
type scavenger struct {
	leaf    []byte // how every leaf of this edge begins
	private []byte // how every private part begins
	found   map[tlog.Hash]Entry
	leaves  map[tlog.Hash]event.Leaf

	parts     map[[32]byte]Entry // by commitment; Index holds the exact time here
	partsFrom uint64             // parts older than this were dropped
}

// scavenge reads every file of a directory that no database handle has open.
func scavenge(ctx context.Context, dir, network, node, edge string) (*scavenger, error) {
	s := &scavenger{
		leaf:    fmt.Appendf(nil, `{"v":1,"net":"%s","node":"%s","edge":"%s","epoch":"`, network, node, edge),
		private: []byte(`{"at":`),
		found:   map[tlog.Hash]Entry{}, leaves: map[tlog.Hash]event.Leaf{}, parts: map[[32]byte]Entry{},
	}
	names, err := filepath.Glob(filepath.Join(dir, dbFile+"*"))
	if err != nil {
		return nil, fmt.Errorf("searching raw bytes: %w", err)
	}
	for _, name := range names {
		if err := s.file(ctx, name); err != nil {
			return nil, fmt.Errorf("searching raw bytes: %w", err)
		}
	}
	for h, leaf := range s.leaves {
		if leaf.Commitment == nil {
			continue
		}
		if p, ok := s.parts[*leaf.Commitment]; ok {
			n := s.found[h]
			n.Salt, n.Private = p.Salt, p.Private
			s.found[h] = n
		}
	}
	return s, nil
}

func (s *scavenger) file(ctx context.Context, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 0, scavengeKeep+scavengeChunk)
	for at := int64(0); ctx.Err() == nil; {
		n, err := f.ReadAt(buf[len(buf):cap(buf)], at)
		if n == 0 && err != nil && err != io.EOF {
			at += badBlock // a bad sector: go on behind it
			if info, serr := f.Stat(); serr != nil || at >= info.Size() {
				break
			}
			continue
		}
		buf, at = buf[:len(buf)+n], at+int64(n)
		s.search(buf)
		if n == 0 || err == io.EOF {
			break
		}
		keep := min(len(buf), scavengeKeep)
		buf = buf[:copy(buf, buf[len(buf)-keep:])]
	}
	return ctx.Err()
}

func (s *scavenger) search(b []byte) {
	each := func(start []byte, try func(prefix [32]byte, line []byte) bool) {
		for at := 0; ; at++ {
			n := bytes.Index(b[at:], start)
			if n < 0 {
				return
			}
			at += n
			if at < 32 {
				continue
			}
			prefix := [32]byte(b[at-32 : at])
			line := b[at:min(len(b), at+max(event.MaxLeaf, event.MaxPrivate))]
			for end := 0; ; {
				k := bytes.IndexByte(line[end:], '}')
				if k < 0 {
					break
				}
				if end += k + 1; try(prefix, line[:end]) {
					break
				}
			}
		}
	}
	each(s.leaf, func(prefix [32]byte, line []byte) bool {
		h := tlog.Hash(prefix)
		if tlog.RecordHash(line) != h {
			return false
		}
		leaf, err := event.Parse(line)
		if err == nil {
			s.found[h] = Entry{Index: leaf.Index, Leaf: bytes.Clone(line)}
			s.leaves[h] = leaf
			if len(s.found) >= 2*maxScavenged {
				s.forgetOld()
			}
		}
		return true
	})
	each(s.private, func(salt [32]byte, part []byte) bool {
		if event.CheckJSON(part) != nil {
			return false
		}
		c := event.Commit(salt, part)
		if p, err := event.ParsePrivate(part); err == nil && len(s.parts) < 2*maxScavenged {
			s.parts[c] = Entry{Index: uint64(max(p.At, 0)), Salt: salt, Private: bytes.Clone(part)}
		} else if err == nil && uint64(max(p.At, 0)) > s.partsFrom {
			s.forgetOldParts()
			s.parts[c] = Entry{Index: uint64(p.At), Salt: salt, Private: bytes.Clone(part)}
		}
		return true
	})
}

// forgetOld keeps the newer half: what is old has most likely reached the hub long ago.
func (s *scavenger) forgetOld() {
	hashes := make([]tlog.Hash, 0, len(s.leaves))
	for h := range s.leaves {
		hashes = append(hashes, h)
	}
	sort.Slice(hashes, func(a, b int) bool { return younger(s.leaves[hashes[a]], s.leaves[hashes[b]]) })
	for _, h := range hashes[min(len(hashes), maxScavenged):] {
		delete(s.found, h)
		delete(s.leaves, h)
	}
}

func younger(a, b event.Leaf) bool { return a.At > b.At || a.At == b.At && a.Index > b.Index }

func (s *scavenger) forgetOldParts() {
	times := make([]uint64, 0, len(s.parts))
	for _, p := range s.parts {
		times = append(times, p.Index)
	}
	sort.Slice(times, func(a, b int) bool { return times[a] > times[b] })
	s.partsFrom = times[min(len(times)-1, maxScavenged)]
	for c, p := range s.parts {
		if p.Index <= s.partsFrom {
			delete(s.parts, c)
		}
	}
}

// missing lists what was found and is not accounted for, oldest first within its epoch.
func (s *scavenger) missing(known func(event.Epoch, uint64) bool) []Entry {
	hashes := make([]tlog.Hash, 0, len(s.found))
	for h, leaf := range s.leaves {
		if !known(leaf.Epoch, leaf.Index) {
			hashes = append(hashes, h)
		}
	}
	sort.Slice(hashes, func(a, b int) bool {
		x, y := s.leaves[hashes[a]], s.leaves[hashes[b]]
		if x.Epoch != y.Epoch {
			// Epochs carry no order of their own; the wall time is the best there is.
			return x.At < y.At || x.At == y.At && bytes.Compare(x.Epoch[:], y.Epoch[:]) < 0
		}
		return x.Index < y.Index
	})
	out := make([]Entry, len(hashes))
	for i, h := range hashes {
		out[i] = s.found[h]
	}
	return out
}

// newest is the epoch of the youngest leaf found.
func (s *scavenger) newest() (event.Epoch, bool) {
	var best event.Leaf
	found := false
	for _, l := range s.leaves {
		if !found || younger(l, best) {
			best, found = l, true
		}
	}
	return best.Epoch, found
}
