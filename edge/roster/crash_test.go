package roster

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"
)

var errCut = errors.New("the power was cut")

// paper is a disk with a power switch. Files have content that was synced and content that was not, and the directory
// has names that were synced and names that were not, as ext4 behaves without data journalling.
type paper struct {
	now, kept map[string]*sheet // names as the process sees them, and as they survive
	left      int               // steps until the cut; negative = never
	steps     int
	blind     bool   // large files cannot be read
	full      string // what is written under a name that begins like this finds no room; empty: all does
}

type sheet struct{ now, kept []byte }

func newPaper() *paper { return &paper{now: map[string]*sheet{}, kept: map[string]*sheet{}, left: -1} }

func (p *paper) step() error {
	p.steps++
	if p.left == 0 {
		return errCut
	}
	p.left--
	return nil
}

func (p *paper) Read(name string, limit int64) ([]byte, error) {
	s, ok := p.now[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if int64(len(s.now)) > limit {
		return nil, errors.New("too long")
	}
	return append([]byte(nil), s.now...), nil
}

// leaf is an open file of the paper; the name may move while it is open.
type leaf struct {
	p *paper
	s *sheet
}

func (p *paper) Open(name string) (file, error) {
	s, ok := p.now[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &leaf{p, s}, nil
}

func (p *paper) Create(name string) (file, error) {
	if err := p.step(); err != nil {
		return nil, err
	}
	if p.now[name] == nil {
		p.now[name] = &sheet{}
	}
	p.now[name].now = nil
	return &leaf{p, p.now[name]}, nil
}

func (l *leaf) Write(b []byte) (int, error) {
	for _, half := range [][]byte{b[:len(b)/2], b[len(b)/2:]} {
		if err := l.p.step(); err != nil {
			return 0, err
		}
		l.s.now = append(l.s.now, half...)
	}
	return len(b), nil
}

func (l *leaf) ReadAt(b []byte, off int64) (int, error) {
	if l.p.blind {
		return 0, errCut
	}
	return bytes.NewReader(l.s.now).ReadAt(b, off)
}

func (l *leaf) Size() (int64, error) { return int64(len(l.s.now)), nil }

func (l *leaf) Sync() error {
	if err := l.p.step(); err != nil {
		return err
	}
	l.s.kept = append([]byte(nil), l.s.now...)
	return nil
}

func (l *leaf) Close() error { return nil }

func (p *paper) Remove(name string) error {
	if p.now[name] == nil {
		return fs.ErrNotExist
	}
	if err := p.step(); err != nil {
		return err
	}
	delete(p.now, name)
	return nil
}

func (p *paper) Write(name string, parts ...[]byte) error {
	if err := p.step(); err != nil {
		return err
	}
	if p.full != "" && strings.HasPrefix(name, p.full) {
		return errCut
	}
	s := &sheet{}
	p.now[name] = s
	for _, b := range parts {
		if err := p.step(); err != nil {
			return err
		}
		s.now = append(s.now, b[:len(b)/2]...)
		if err := p.step(); err != nil {
			return err
		}
		s.now = append(s.now, b[len(b)/2:]...)
	}
	if err := p.step(); err != nil {
		return err
	}
	s.kept = append([]byte(nil), s.now...)
	return nil
}

func (p *paper) Rename(from, to string) error {
	if err := p.step(); err != nil {
		return err
	}
	p.now[to] = p.now[from]
	delete(p.now, from)
	return nil
}

func (p *paper) SyncDir() error {
	if err := p.step(); err != nil {
		return err
	}
	p.kept = maps.Clone(p.now)
	return nil
}

// after is what the disk holds when the power is back: with or without the names, with or without the bytes that were
// not yet synced.
func (p *paper) after(names, contents bool) *paper {
	src := p.kept
	if names {
		src = p.now
	}
	out := newPaper()
	for name, s := range src {
		b := s.kept
		if contents {
			b = s.now
		}
		b = append([]byte(nil), b...)
		out.now[name] = &sheet{now: b, kept: b}
	}
	out.kept = maps.Clone(out.now)
	return out
}

func TestAPowerCutAtAnyStepLeavesTheOldRosterOrTheNewOne(t *testing.T) {
	hub := newHub(t)
	base := newPaper()
	s := hub.open(t, base)
	hub.install(t, s, 5, "ana")
	hub.ticket(t, s, 5, 10, 3600)

	probe := base.after(true, false)
	s = hub.open(t, probe)
	probe.steps = 0
	if err := hub.deliver(t, s, 6, "ben"); err != nil {
		t.Fatal(err)
	}
	hub.ticket(t, s, 6, 20, 3600)
	total := probe.steps
	if total < 10 {
		t.Fatalf("only %d steps: the model sees too little", total)
	}
	old, fresh := 0, 0
	for cut := range total {
		for _, names := range []bool{false, true} {
			for _, contents := range []bool{false, true} {
				t.Run(fmt.Sprintf("cut %d names %t contents %t", cut, names, contents), func(t *testing.T) {
					d := base.after(true, false)
					s := hub.open(t, d)
					d.left = cut
					err := hub.deliver(t, s, 6, "ben")
					done := err == nil
					if done {
						_ = s.InstallTicket(hub.signTicket(t, 6, 20, 3600))
					}
					back := hub.open(t, d.after(names, contents))
					if err := back.Status().Broken; err != nil {
						t.Fatalf("files are broken: %v", err)
					}
					v := back.Held().Version
					if back.Current() == nil || (v != 5 && v != 6) || back.Current().Version() != v {
						t.Fatalf("held version is %d", v)
					}
					if done && v != 6 {
						t.Fatal("an installed roster was lost")
					}
					if v == 5 {
						old++
					} else {
						fresh++
						oldNote, oldDoc := hub.roster(t, 5, "ana")
						if err := install(back, oldNote, oldDoc); !errors.Is(err, ErrOlder) {
							t.Fatalf("rolled back: %v", err)
						}
					}
					if err := hub.deliver(t, back, 6, "ben"); err != nil {
						t.Fatalf("cannot go on after the cut: %v", err)
					}
				})
			}
		}
	}
	if old == 0 || fresh == 0 {
		t.Fatalf("old %d, fresh %d: the cuts did not meet both sides", old, fresh)
	}
}

func TestAMutantThatSkipsADurabilityStepIsCaught(t *testing.T) {
	// The model must be able to fail: without the sync of the file's bytes a moved name can point at nothing.
	d := newPaper()
	if err := replace(d, "a", []byte("old")); err != nil {
		t.Fatal(err)
	}
	d.now["a.new"] = &sheet{now: []byte("new")}
	_ = d.Rename("a.new", "a")
	_ = d.SyncDir()
	if b, _ := d.after(false, false).Read("a", 10); string(b) != "" {
		t.Fatalf("unsynced bytes survived as %q", b)
	}
	d = newPaper()
	_ = replace(d, "a", []byte("old"))
	_ = d.Write("a.new", []byte("new"))
	_ = d.Rename("a.new", "a")
	if b, _ := d.after(false, false).Read("a", 10); string(b) != "old" {
		t.Fatalf("an unsynced name survived as %q", b)
	}
}
