package audit

import (
	"encoding/hex"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

const (
	excerptTitle = "kith-excerpt v1"
	maxLevel     = 40 // of a subtree: no journal is larger
)

// subtree is a perfect subtree of an RFC 6962 tree, at a place that its size divides.
type subtree struct {
	at    uint64
	level int
	hash  tlog.Hash
}

// Excerpt shows some leaves of a journal and stands for all others by the fewest subtree hashes. So one pass over it
// gives the root at both ends of a period: that is the inclusion of every leaf shown and the consistency of both heads.
type Excerpt struct {
	text    []byte
	hidden  []subtree // not written yet: what comes next may still complete them
	at      uint64
	from    uint64
	to      uint64
	written bool // the line at from
}

// NewExcerpt begins the excerpt of the journal of that origin, from the previous cut's size to this cut's.
func NewExcerpt(origin string, from, to uint64) *Excerpt {
	x := &Excerpt{from: from, to: to}
	x.text = fmt.Appendf(nil, "%s\norigin %s\nfrom %d\nto %d\n", excerptTitle, origin, from, to)
	return x
}

// At is how far the excerpt has come.
func (x *Excerpt) At() uint64 { return x.at }

// Hide passes over a perfect subtree. Its size must divide the place.
func (x *Excerpt) Hide(level int, h tlog.Hash) {
	x.mark()
	s := subtree{at: x.at, level: level, hash: h}
	x.at += 1 << level
	for n := len(x.hidden); n > 0 && x.hidden[n-1].level == s.level && x.hidden[n-1].at>>s.level&1 == 0; n-- {
		s = subtree{at: x.hidden[n-1].at, level: s.level + 1, hash: tlog.NodeHash(x.hidden[n-1].hash, s.hash)}
		x.hidden = x.hidden[:n-1]
	}
	x.hidden = append(x.hidden, s)
}

// Show writes one leaf.
func (x *Excerpt) Show(line []byte) {
	x.mark()
	x.flush()
	x.text = append(append(append(x.text, "leaf "...), line...), '\n')
	x.at++
}

// Text ends the excerpt.
func (x *Excerpt) Text() ([]byte, error) {
	x.mark()
	x.flush()
	if x.at != x.to {
		return nil, fmt.Errorf("an excerpt to %d ended at %d", x.to, x.at)
	}
	return fmt.Appendf(x.text, "end %d\n", x.at), nil
}

func (x *Excerpt) mark() {
	if x.at == x.from && !x.written {
		x.flush()
		x.text = fmt.Appendf(x.text, "mark %d\n", x.at)
		x.written = true
	}
}

func (x *Excerpt) flush() {
	for _, s := range x.hidden {
		x.text = fmt.Appendf(x.text, "node %d %s\n", s.level, hex.EncodeToString(s.hash[:]))
	}
	x.hidden = x.hidden[:0]
}

// Cover lists the perfect subtrees that cover [from, to), left to right, as level and index.
func Cover(from, to uint64) [][2]uint64 {
	var list [][2]uint64
	for from < to {
		level := bits.TrailingZeros64(from | 1<<maxLevel)
		for from+1<<level > to {
			level--
		}
		list = append(list, [2]uint64{uint64(level), from >> level})
		from += 1 << level
	}
	return list
}

// Shown is one leaf of an excerpt.
type Shown struct {
	Journal string
	Index   uint64
	Line    []byte
}

// proven is what an excerpt comes to.
type proven struct {
	origin           string
	from, to         uint64
	fromRoot, toRoot tlog.Hash
	shown            []Shown
}

func readExcerpt(file string, text []byte) (*proven, error) {
	s, err := scan(file, text, excerptTitle)
	if err != nil {
		return nil, err
	}
	p := &proven{}
	for _, key := range []string{"origin", "from", "to"} {
		words := s.next()
		if len(words) != 2 || words[0] != key {
			return nil, s.bad("want " + key)
		}
		n, ok := number(words[1])
		switch {
		case key == "origin":
			p.origin = words[1]
		case !ok || n < 0 || n > 1<<maxLevel:
			return nil, s.bad("not a size")
		case key == "from":
			p.from = uint64(n)
		default:
			p.to = uint64(n)
		}
	}
	var stack []subtree
	size, marked := uint64(0), false
	push := func(level int, h tlog.Hash) {
		n := subtree{at: size, level: level, hash: h}
		size += 1 << level
		for i := len(stack); i > 0 && stack[i-1].level == n.level; i-- {
			n = subtree{at: stack[i-1].at, level: n.level + 1, hash: tlog.NodeHash(stack[i-1].hash, n.hash)}
			stack = stack[:i-1]
		}
		stack = append(stack, n)
	}
	for words := s.next(); words != nil; words = s.next() {
		switch words[0] {
		case "mark":
			if size != p.from || marked || len(words) != 2 || words[1] != fmt.Sprint(size) {
				return nil, s.bad("the line of the previous cut is not here")
			}
			marked, p.fromRoot = true, rootOf(stack)
		case "node":
			level, ok := int64(0), false
			var h [32]byte
			if len(words) == 3 {
				if level, ok = number(words[1]); ok {
					h, ok = digest(words[2])
				}
			}
			if !ok || level < 0 || level > maxLevel || size%(1<<level) != 0 || size+1<<level > p.to || size < p.from && size+1<<level > p.from {
				return nil, s.bad("not a subtree that can stand here")
			}
			push(int(level), h)
		case "leaf":
			line := []byte(s.rest())
			if size >= p.to || len(line) > event.MaxLeaf {
				return nil, s.bad("not a leaf that can stand here")
			}
			p.shown = append(p.shown, Shown{Journal: p.origin, Index: size, Line: line})
			push(0, tlog.RecordHash(line))
		case "end":
			if size != p.to || !marked || len(words) != 2 || words[1] != fmt.Sprint(size) || s.at != len(s.lines) {
				return nil, s.bad("the excerpt does not end at its size")
			}
			p.toRoot = rootOf(stack)
			return p, nil
		default:
			return nil, s.bad("not a line of an excerpt")
		}
	}
	return nil, differ(file, s.at, "ends early")
}

func rootOf(stack []subtree) tlog.Hash {
	if len(stack) == 0 {
		h, _ := tlog.TreeHash(0, nil) // of nothing: cannot fail
		return h
	}
	h := stack[len(stack)-1].hash
	for i := len(stack) - 2; i >= 0; i-- {
		h = tlog.NodeHash(stack[i].hash, h)
	}
	return h
}
