// Package servicelog owns what people read of a leaf: one line, and behind it the "why" from card to verdict.
//
// It is pure: the same leaf with the same private part gives the same line on every machine, so a stored line can be
// recomputed, and a line whose private part was erased is what remains of it, not a special case. It reads no clock and
// keeps nothing. It never shows a card's id or key.
package servicelog

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"kith/internal/event"
)

// Line is what people see of one leaf.
type Line struct {
	Node, Edge string
	Epoch      event.Epoch
	Index      uint64
	Kind       event.Kind
	At         int64 // Unix milliseconds, exact when the private part is there or the leaf concerns nobody
	Clock      event.Clock
	Door       string // or the reader, for a line about a reader
	Direction  string
	Verdict    string
	Reason     string
	Assurance  string
	Member     string
	Note       string // a short word: what happened, for kinds without a verdict; NoteLate and the like for taps
	Receipted  bool   // covered by the hub's receipt; filled by whoever knows
}

// Words of Line.Note.
const (
	NoteLate    = "late"    // the door opened before the record was durable
	NoteUnclean = "unclean" // started after an unclean stop
	NoteStarted = "started"
	NoteUp      = "up"
	NoteDown    = "down"
	NoteOpen    = "open"
	NoteClosed  = "closed"
	NoteCarried = "carried" // brought over from a lost branch of the journal
)

// Verdicts of a tap.
const (
	Grant = "grant"
	Deny  = "deny"
)

// Project makes the line of a leaf. Leaves that nobody needs to read, such as each opening of a door, have none.
func Project(leaf event.Leaf, p *event.Private) (Line, bool) {
	l := Line{Node: leaf.Node, Edge: leaf.Edge, Epoch: leaf.Epoch, Index: leaf.Index, Kind: leaf.Kind, At: leaf.At, Clock: leaf.Clock}
	if p != nil && (leaf.Kind == event.KindReplayed || inItsHour(&leaf, p)) {
		l.At, l.Member = p.At, p.Member
	}
	if leaf.Kind.IsEntry() {
		return l, l.entry(leaf)
	}
	switch leaf.Kind {
	case event.KindTap:
		return l, l.tap(leaf.Body)
	case event.KindReplayed:
		return carried(l, leaf.Body, p)
	}
	return l, l.plain(leaf)
}

// inItsHour: a private part whose exact time is not in the hour that its leaf states has no effect. The leaf is what the edge
// signed and what was here first; the part could otherwise put a person anywhere in time.
func inItsHour(leaf *event.Leaf, p *event.Private) bool {
	return p.At >= leaf.At && p.At-leaf.At < event.HourMS
}

func (l *Line) tap(body []byte) bool {
	t, ok := quickTap(body)
	if !ok {
		t = event.Tap{}
		if json.Unmarshal(body, &t) != nil {
			return false
		}
	}
	l.Door, l.Direction, l.Verdict, l.Reason, l.Assurance = t.Door, t.Direction, t.Verdict, t.Reason, t.Assurance
	if t.Late {
		l.Note = NoteLate
	}
	return true
}

// carried projects the original leaf that a replayed one brings along, at the address of the replayed one.
func carried(l Line, body []byte, p *event.Private) (Line, bool) {
	original, err := inner(body)
	if err != nil || original.Edge != l.Edge || original.Node != l.Node {
		return l, false
	}
	line, ok := Project(original, carriedPrivate(&original, p))
	line.Epoch, line.Index = l.Epoch, l.Index
	if line.Kind.IsEntry() {
		line.Direction = Carried
		return line, ok
	}
	line.Note = NoteCarried
	return line, ok
}

// Original gives the leaf in which a decision stands, with the private part that belongs to it: for a replayed leaf what it
// carries, for any other the leaf itself.
func Original(leaf event.Leaf, p *event.Private) (event.Leaf, *event.Private) {
	if leaf.Kind != event.KindReplayed {
		return leaf, p
	}
	original, err := inner(leaf.Body)
	if err != nil {
		return leaf, p
	}
	return original, carriedPrivate(&original, p)
}

// inner reads the original leaf in the body of a replayed one. An edge never wraps twice, and neither do we unwrap twice.
func inner(body []byte) (event.Leaf, error) {
	var r event.Replayed
	if err := json.Unmarshal(body, &r); err != nil {
		return event.Leaf{}, err
	}
	original, err := event.Parse([]byte(r.Leaf))
	switch {
	case err != nil:
		return original, err
	case original.Kind == event.KindReplayed:
		return original, errors.New("a replayed leaf within a replayed leaf")
	case original.Epoch.String() != r.OldEpoch || original.Index != r.OldIndex:
		return original, errors.New("the original stands at another address than is said of it")
	}
	return original, nil
}

// carriedPrivate takes the original's private part out of the carrying one, if it opens the original's commitment.
func carriedPrivate(original *event.Leaf, p *event.Private) *event.Private {
	if p == nil || original.Commitment == nil {
		return nil
	}
	var r event.ReplayedPrivate
	if json.Unmarshal(p.Body, &r) != nil {
		return nil
	}
	var salt [32]byte
	if len(r.Salt) != 2*len(salt) {
		return nil
	}
	if _, err := hex.Decode(salt[:], []byte(r.Salt)); err != nil || event.Commit(salt, []byte(r.Private)) != *original.Commitment {
		return nil
	}
	part, err := event.ParsePrivate([]byte(r.Private))
	if err != nil || !inItsHour(original, &part) {
		return nil
	}
	return &part
}

// plain fills in the kinds without a person and says whether people need to read them.
func (l *Line) plain(leaf event.Leaf) bool {
	switch leaf.Kind {
	case event.KindBoot:
		b, ok := body[event.Boot](leaf)
		l.Note = NoteStarted
		if b.Unclean {
			l.Note = NoteUnclean
		}
		return ok
	case event.KindDoor:
		d, ok := body[event.Door](leaf)
		l.Door, l.Note = d.Door, d.State
		return ok && worthALine[d.State]
	case event.KindReader:
		r, ok := body[event.Reader](leaf)
		l.Door, l.Note = r.Reader, NoteDown
		if r.Up {
			l.Note = NoteUp
		}
		return ok
	case event.KindTamper:
		t, ok := body[event.Tamper](leaf)
		l.Note = NoteClosed
		if t.Open {
			l.Note = NoteOpen
		}
		return ok
	case event.KindClock:
		c, ok := body[event.ClockChange](leaf)
		l.Note = string(c.Quality)
		return ok
	case event.KindStorage:
		s, ok := body[event.Storage](leaf)
		l.Note = s.State
		return ok
	case event.KindRoster:
		r, ok := body[event.RosterSet](leaf)
		l.Note = strconv.FormatUint(r.Version, 10)
		return ok
	case event.KindRecovered, event.KindRestored, event.KindFork:
		_, ok := body[event.Epochal](leaf)
		return ok
	}
	return false
}

// worthALine are the door states that a host wants to hear of; each tap already tells of the ordinary ones.
var worthALine = map[string]bool{"held": true, "held-warning": true, "forced": true, "fire": true, "fire-clear": true, "stuck": true}

func body[T any](leaf event.Leaf) (T, bool) {
	var v T
	return v, json.Unmarshal(leaf.Body, &v) == nil
}

// Fact is the last word on one thing of an edge.
type Fact struct {
	Node, Edge string
	Topic      string // door, reader, clock, storage, tamper, roster, boot
	Subject    string // which door or reader; empty for the edge itself
	Value      string
	Why        string
	At         int64
	Index      uint64
}

// State makes the fact of a leaf that changes the state of something.
func State(leaf event.Leaf) (Fact, bool) {
	f := Fact{Node: leaf.Node, Edge: leaf.Edge, Topic: string(leaf.Kind), At: leaf.At, Index: leaf.Index}
	ok := false
	switch leaf.Kind {
	case event.KindDoor:
		var d event.Door
		d, ok = body[event.Door](leaf)
		f.Subject, f.Value, f.Why = d.Door, d.State, d.Why
	case event.KindReader:
		var r event.Reader
		r, ok = body[event.Reader](leaf)
		f.Subject, f.Value, f.Why = r.Reader, word(r.Up, NoteUp, NoteDown), r.Why
	case event.KindTamper:
		var t event.Tamper
		t, ok = body[event.Tamper](leaf)
		f.Value = word(t.Open, NoteOpen, NoteClosed)
	case event.KindClock:
		var c event.ClockChange
		c, ok = body[event.ClockChange](leaf)
		f.Value = string(c.Quality)
	case event.KindStorage:
		var s event.Storage
		s, ok = body[event.Storage](leaf)
		f.Value = s.State
		if s.Lost > 0 {
			f.Why = fmt.Sprintf("%d events could not be kept", s.Lost)
		}
	case event.KindRoster:
		var r event.RosterSet
		r, ok = body[event.RosterSet](leaf)
		f.Value, f.Why = strconv.FormatUint(r.Version, 10), r.Source
	case event.KindBoot:
		var b event.Boot
		b, ok = body[event.Boot](leaf)
		f.Value, f.Why = b.Version, word(b.Unclean, NoteUnclean, "")
	}
	return f, ok
}

func word(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

// quickTap reads the spelling that event.Marshal writes for a Tap of slugs, a tenth of the general parser's time; every
// other spelling is left to that.
func quickTap(b []byte) (event.Tap, bool) {
	var t event.Tap
	ok := true
	text := func(key string) string {
		rest, had := bytes.CutPrefix(b, []byte(key))
		if !ok || !had {
			ok = false
			return ""
		}
		for i, c := range rest {
			switch {
			case c == '"':
				b = rest[i+1:]
				return string(rest[:i])
			case c < 0x20 || c > 0x7e || c == '\\':
				ok = false
				return ""
			}
		}
		ok = false
		return ""
	}
	t.Door = text(`{"door":"`)
	t.Reader = text(`,"reader":"`)
	t.Direction = text(`,"dir":"`)
	t.Verdict = text(`,"verdict":"`)
	t.Reason = text(`,"reason":"`)
	t.Assurance = text(`,"assurance":"`)
	rest, had := bytes.CutPrefix(b, []byte(`,"roster":`))
	if !ok || !had {
		return t, false
	}
	end := bytes.IndexAny(rest, ",}")
	if end < 0 {
		return t, false
	}
	n, err := strconv.ParseUint(string(rest[:end]), 10, 64)
	t.Roster = n
	switch string(rest[end:]) {
	case `,"late":true}`:
		t.Late = true
	case `}`:
	default:
		return t, false
	}
	return t, err == nil && (end == 1 || rest[0] != '0')
}
