package store

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"

	"kith/internal/event"
)

// parallelLeaves is how many leaves make a second core worth waking, in leaves of one commit.
const parallelLeaves = 256

// projected is what one batch adds to the projections.
type projected struct {
	lines  []Line
	seen   []Seen
	facts  []Fact
	erased map[uint64]bool // private parts that are not taken in; nil: none
}

// prepare runs the pure projections outside the transaction, on all cores.
func (s *Store) prepare(batches []Accepted, gone *gone) ([]projected, error) {
	done := make([]projected, len(batches))
	leaves := 0
	for i := range batches {
		leaves += len(batches[i].Leaves)
	}
	if leaves < parallelLeaves {
		for i := range batches {
			if err := s.prepareOne(&batches[i], &done[i], gone); err != nil {
				return nil, err
			}
		}
		return done, nil
	}
	workers := min(runtime.GOMAXPROCS(0), len(batches))
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(batches) && errs[w] == nil; i += workers {
				errs[w] = s.prepareOne(&batches[i], &done[i], gone)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return done, nil
}

func (s *Store) prepareOne(a *Accepted, p *projected, gone *gone) error {
	parts := make(map[uint64]*PrivatePart, len(a.Private))
	for i := range a.Private {
		part := &a.Private[i]
		if gone.names(part.Bytes) {
			if p.erased == nil {
				p.erased = map[uint64]bool{}
			}
			p.erased[part.Index] = true
			continue
		}
		parts[part.Index] = part
	}
	p.lines = make([]Line, 0, len(a.Leaves))
	for i := range a.Leaves {
		leaf := &a.Leaves[i]
		if leaf.Index != a.From+uint64(i) || leaf.Edge != a.Log.Edge || leaf.Epoch != a.Log.Epoch || leaf.Node != a.Log.Node {
			return fmt.Errorf("projecting edge %s: leaf %d stands at place %d of another log", a.Log.Edge, leaf.Index, a.From+uint64(i))
		}
		if leaf.Kind == opaque {
			continue
		}
		if leaf.Network != s.network {
			return fmt.Errorf("projecting edge %s: leaf %d is of network %s", a.Log.Edge, leaf.Index, leaf.Network)
		}
		var private *event.Private
		if part := parts[leaf.Index]; part != nil {
			private = readPrivate(part.Bytes)
		}
		s.projectLeaf(leaf, private, p)
	}
	return nil
}

func (s *Store) projectLeaf(leaf *event.Leaf, private *event.Private, p *projected) {
	if line, ok := s.project.Line(*leaf, private); ok {
		p.lines = append(p.lines, line)
		if seen, ok := s.project.Seen(line); ok {
			p.seen = append(p.seen, seen)
		}
	}
	if fact, ok := s.project.Fact(*leaf); ok {
		p.facts = append(p.facts, fact)
	}
}

// readPrivate takes what it understands: the commitment covers the bytes, and a part that we cannot read is kept all
// the same.
func readPrivate(b []byte) *event.Private {
	if p, ok := quickPrivate(b); ok {
		return &p
	}
	p, err := event.ParsePrivate(b)
	if err != nil {
		return nil
	}
	return &p
}

// quickPrivate reads the one spelling that event.Private.Encode writes for slugs and card ids, a tenth of the general
// parser's time; every other spelling is left to that.
func quickPrivate(b []byte) (event.Private, bool) {
	var p event.Private
	if len(b) > event.MaxPrivate {
		return p, false
	}
	rest, ok := bytes.CutPrefix(b, []byte(`{"at":`))
	if p.At, rest, ok = digits(rest, ok); !ok {
		return p, false
	}
	rest, ok = bytes.CutPrefix(rest, []byte(`,"mono":`))
	if p.Mono, rest, ok = digits(rest, ok); !ok {
		return p, false
	}
	if p.Member, rest, ok = plainText(rest, `,"member":"`); !ok {
		return p, false
	}
	if p.Card, rest, ok = plainText(rest, `,"card":"`); !ok {
		return p, false
	}
	if body, ok := bytes.CutPrefix(rest, []byte(`,"body":`)); ok {
		if len(body) < 3 || body[0] != '{' || body[len(body)-1] != '}' {
			return p, false
		}
		body = body[:len(body)-1]
		if event.CheckJSON(body) != nil {
			return p, false
		}
		p.Body = bytes.Clone(body)
		return p, true
	}
	return p, len(rest) == 1 && rest[0] == '}'
}

func digits(b []byte, ok bool) (int64, []byte, bool) {
	const most = 18 // digits that cannot overflow
	n, i := int64(0), 0
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		n = n*10 + int64(b[i]-'0')
		i++
		if i > most {
			return 0, nil, false
		}
	}
	return n, b[i:], ok && i > 0 && (i == 1 || b[0] != '0')
}

// plainText reads an optional string of printable ASCII without escapes.
func plainText(b []byte, key string) (string, []byte, bool) {
	rest, ok := bytes.CutPrefix(b, []byte(key))
	if !ok {
		return "", b, true
	}
	for i, c := range rest {
		switch {
		case c == '"':
			return string(rest[:i]), rest[i+1:], true
		case c < 0x20 || c > 0x7e || c == '\\':
			return "", nil, false
		}
	}
	return "", nil, false
}
