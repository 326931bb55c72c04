package weather

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"kith/hub/intake"
	"kith/internal/event"
)

// shelf is the disk of the hub: intake's store in memory, with the strictness of the real one.
type shelf struct {
	w          *world
	generation string
	order      []address
	logs       map[address]*volume
	full       bool
	evidence   []filed
}

type address struct {
	edge  string
	epoch event.Epoch
}

type filed struct {
	address
	intake.Evidence
}

// volume is one log: its state and its lines. A line that is lost is nil.
type volume struct {
	state    intake.Log
	standing string // as the real store keeps it
	lines    [][]byte
	stops    []stop // the right edge of the tree at the end of every commit, recomputed here
}

type stop struct {
	size  uint64
	nodes []tlog.Hash
}

func (s *stop) extend(leaf tlog.Hash) {
	h := leaf
	for n := s.size; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(s.nodes[len(s.nodes)-1], h)
		s.nodes = s.nodes[:len(s.nodes)-1]
	}
	s.nodes = append(s.nodes, h)
	s.size++
}

func (s *stop) root() tlog.Hash {
	if len(s.nodes) == 0 {
		h, _ := tlog.TreeHash(0, nil)
		return h
	}
	h := s.nodes[len(s.nodes)-1]
	for i := len(s.nodes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(s.nodes[i], h)
	}
	return h
}

func (s *stop) copy() stop { return stop{s.size, slices.Clone(s.nodes)} }

func newShelf(w *world) *shelf {
	return &shelf{w: w, generation: w.word(), logs: map[address]*volume{}}
}

// copy is a backup.
func (s *shelf) copy() *shelf {
	n := &shelf{w: s.w, generation: s.generation, order: slices.Clone(s.order), logs: map[address]*volume{}, evidence: slices.Clone(s.evidence)}
	for _, a := range s.order {
		v := *s.logs[a]
		v.lines, v.stops = slices.Clip(v.lines), slices.Clip(v.stops)
		n.logs[a] = &v
	}
	return n
}

func (s *shelf) Generation(context.Context) (string, error) { return s.generation, nil }

func (s *shelf) Logs(context.Context) ([]intake.Log, error) {
	out := make([]intake.Log, 0, len(s.order))
	for _, a := range s.order {
		v := s.logs[a]
		// The edge's own note is not kept: a receipt holds it, and without one the edge shows it again.
		l := intake.Log{Edge: v.state.Edge, Node: v.state.Node, Epoch: v.state.Epoch, Size: v.state.Size, Root: v.state.Root, Range: v.state.Range,
			Receipt: v.state.Receipt, Boot: v.state.Boot, Backup: v.state.Backup}
		var err error
		if l.Standing, err = intake.ParseStanding(v.standing); err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

var errFull = errors.New("the disk is full")

// Commit is where the hub may lose its power: before anything is stored, or after all of it is.
func (s *shelf) Commit(_ context.Context, all []intake.Accepted) error {
	s.w.hub.maybeCrash("before commit")
	if s.full {
		s.w.saw("hub disk full")
		return errFull
	}
	for i := range all {
		if err := s.fits(all, i); err != nil {
			return err
		}
	}
	for i := range all {
		s.accept(&all[i])
	}
	s.w.hub.maybeCrash("between commit and answer")
	return nil
}

func (s *shelf) fits(all []intake.Accepted, i int) error {
	a := &all[i]
	size := uint64(0)
	if v := s.logs[address{a.Log.Edge, a.Log.Epoch}]; v != nil {
		size = v.state.Size
	}
	for j := range i {
		if all[j].Log.Edge == a.Log.Edge && all[j].Log.Epoch == a.Log.Epoch {
			size = all[j].Log.Size
		}
	}
	if a.From != size || a.Bundle == nil && !a.Lost && a.Log.Size != size || a.Bundle != nil && a.Log.Size != a.From+uint64(len(a.Leaves)) {
		return fmt.Errorf("batch from %d to %d does not continue the %d leaves stored", a.From, a.Log.Size, size)
	}
	return nil
}

func (s *shelf) accept(a *intake.Accepted) {
	k := address{a.Log.Edge, a.Log.Epoch}
	v := s.logs[k]
	if v == nil {
		v = &volume{stops: []stop{{}}}
		s.logs[k] = v
		s.order = append(s.order, k)
	}
	backup := v.state.Backup
	v.state, v.standing = a.Log, a.Log.Standing.Text()
	v.state.Backup = backup
	for _, e := range a.Evidence {
		s.file(filed{k, e})
	}
	switch {
	case a.Lost:
		for uint64(len(v.lines)) < a.Log.Size {
			v.lines = append(v.lines, nil)
		}
		t := stop{size: a.Log.Size}
		for _, h := range a.Log.Range {
			t.nodes = append(t.nodes, h)
		}
		v.stops = append(v.stops, t)
		s.w.saw("lost range")
	case a.Bundle != nil:
		t := v.stops[len(v.stops)-1].copy()
		for _, line := range bytes.Split(a.Bundle, []byte("\n")) {
			v.lines = append(v.lines, line)
			t.extend(tlog.RecordHash(line))
		}
		v.stops = append(v.stops, t)
		for _, p := range a.Private {
			s.w.privateAt(k, p, a.Leaves[p.Index-a.From])
		}
	}
}

func (s *shelf) file(f filed) {
	for _, old := range s.evidence {
		if old.address == f.address && old.Kind == f.Kind && old.Index == f.Index && bytes.Equal(old.Bytes, f.Bytes) {
			return
		}
	}
	s.w.saw("evidence " + f.Kind)
	s.evidence = append(s.evidence, f)
}

func (s *shelf) Roots(_ context.Context, edge string, epoch event.Epoch, sizes []uint64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(sizes))
	v := s.logs[address{edge, epoch}]
	for i, n := range sizes {
		if v != nil {
			out[i], _ = v.rootAt(n)
		}
	}
	return out, nil
}

// rootAt recomputes a root from the lines behind the nearest stop.
func (v *volume) rootAt(n uint64) (tlog.Hash, bool) {
	if n > v.state.Size {
		return tlog.Hash{}, false
	}
	at := len(v.stops) - 1
	for v.stops[at].size > n {
		at--
	}
	t := v.stops[at].copy()
	for t.size < n {
		line := v.lines[t.size]
		if line == nil {
			return tlog.Hash{}, false
		}
		t.extend(tlog.RecordHash(line))
	}
	return t.root(), true
}
