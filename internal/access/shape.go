package access

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// shape watches JSON text go by before the decoder allocates anything. encoding/json takes the last of repeated keys and
// ignores case; two readers of one signed document must never see two different rosters, so both are refused here. It also
// goes on after a value of the wrong type, so that a list of two-byte strings in place of members would cost a hundred bytes
// each; the shape therefore knows which lists hold objects, and that no object is empty. It holds whole values, some times over;
// the shape therefore knows how long one can be. It keeps one key of the text at a time, and counts people and cards.
type shape struct {
	open    []frame
	at      int64 // bytes that went by
	within  lexeme
	word    []byte // the string being read, from its quote on, while it may be a key
	wordAt  int64
	bare    int  // bytes of the number or literal being read
	space   int  // bytes since the last word
	inner   int  // strings and objects in the lists of this element
	perhaps bool // a string in an object has ended; it is a key if a colon comes next
	section string
	seen    census
}

type frame struct {
	kind   frameKind
	lists  bool   // the last key holds objects
	fields int    // keys so far
	keys   []byte // each between quotes; an object has at most 14, so a linear search is right
}

type frameKind byte

const (
	anObject frameKind = iota
	objectList
	stringList
)

type lexeme byte

const (
	betweenWords lexeme = iota
	inString
	inEscape
)

// Bounds of keys; Document itself has 14.
const (
	maxFields   = 16
	maxKeyBytes = 40 // as quoted by an error; the longest key has 12
)

// Bounds of what the decoder holds at once: one value at the top, or one element of a list there.
const (
	maxStringBytes = 6*MaxNameBytes + 2 // as written, with its quotes: a name with all of its bytes escaped
	maxNumberBytes = 24                 // also of true, false and null
	maxSpaceBytes  = 1_024              // from one word to the next
	maxInner       = 4_096              // strings and objects in the lists of one element; a schedule has the most, some 1,500
)

// errLong is wrapped by every refusal of a value for its length alone.
var errLong = errors.New("longer than any in a document")

// checkShape reads a text to its end.
func checkShape(r io.Reader) (census, error) {
	s := shape{word: make([]byte, 0, maxKeyBytes+2)}
	b := make([]byte, 32<<10)
	for {
		n, err := r.Read(b)
		if bad := s.see(b[:n]); bad != nil {
			return s.seen, bad
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return s.seen, err
		}
	}
	if s.within != betweenWords {
		return s.seen, fmt.Errorf("byte %d: a string without an end", s.wordAt)
	}
	return s.seen, nil
}

func (s *shape) see(b []byte) error {
	for _, c := range b {
		var err error
		switch {
		case s.within == inEscape:
			s.within = inString
			s.spell(c)
		case s.within == inString && c == '"':
			s.within = betweenWords
			s.spell(c)
			s.perhaps = s.kind() == anObject && len(s.open) > 0
		case s.within == inString:
			if c == '\\' {
				s.within = inEscape
			}
			s.spell(c)
		case isSpace(c):
			if s.bare, s.space = 0, s.space+1; s.space > maxSpaceBytes {
				err = fmt.Errorf("byte %d: more than %d bytes of space: %w", s.at, maxSpaceBytes, errLong)
			}
		case s.perhaps && c == ':':
			s.perhaps, s.space = false, 0
			err = s.key()
		default:
			s.perhaps = false
			err = s.mark(c)
		}
		if err == nil && s.within != betweenWords && s.at-s.wordAt >= maxStringBytes {
			err = fmt.Errorf("byte %d: a string of more than %d bytes: %w", s.wordAt, maxStringBytes, errLong)
		}
		if err != nil {
			return err
		}
		s.at++
	}
	return nil
}

func (s *shape) spell(c byte) {
	if len(s.word) < cap(s.word) {
		s.word = append(s.word, c)
	}
}

// mark takes a byte outside of strings.
func (s *shape) mark(c byte) error {
	bare := s.bare
	s.bare, s.space = 0, 0
	switch {
	case c == '{' || c == '[':
		return s.begin(c == '{')
	case c == '}' || c == ']':
		return s.close(c == '}')
	case c == '"' && s.kind() == objectList:
		return fmt.Errorf("byte %d: a string in a list of objects", s.at)
	case c == '"':
		s.within, s.word, s.wordAt = inString, append(s.word[:0], c), s.at
		if s.kind() == stringList {
			return s.hold()
		}
	case c != ',' && s.kind() != anObject:
		return fmt.Errorf("byte %d: a list holds something else than strings or objects", s.at)
	case c != ',' && c != ':':
		if s.bare = bare + 1; s.bare > maxNumberBytes {
			return fmt.Errorf("byte %d: a number of more than %d digits: %w", s.at, maxNumberBytes, errLong)
		}
	}
	return nil
}

// hold counts what stands in the lists of an element. Lists of the document itself are decoded one element at a time.
func (s *shape) hold() error {
	if len(s.open) == 2 && (s.kind() == objectList || s.section == "groups" || s.section == "closed" || s.section == "erased") {
		s.inner = 0
		return nil
	}
	if s.inner++; s.inner > maxInner {
		return fmt.Errorf("byte %d: more than %d words in one element: %w", s.at, maxInner, errLong)
	}
	return nil
}

// kind is that of the innermost level; outside of everything it is an object, whose decoder knows best.
func (s *shape) kind() frameKind {
	if len(s.open) == 0 {
		return anObject
	}
	return s.open[len(s.open)-1].kind
}

// begin allows an object at the top and in lists of objects, and a list as the value of a key.
func (s *shape) begin(object bool) error {
	n := len(s.open)
	switch {
	case n == maxJSONDepth:
		return fmt.Errorf("byte %d: nested deeper than %d", s.at, maxJSONDepth)
	case object && n > 0 && s.kind() != objectList:
		return fmt.Errorf("byte %d: an object where none belongs", s.at)
	case object:
		if n == 2 { // in a list of the document itself
			s.count()
		}
		if n > 0 {
			if err := s.hold(); err != nil {
				return err
			}
		}
		s.push(anObject)
	case n == 0 || s.kind() != anObject || s.open[n-1].fields == 0:
		return fmt.Errorf("byte %d: a list where none belongs", s.at)
	case s.open[n-1].lists:
		s.push(objectList)
	default:
		s.push(stringList)
	}
	return nil
}

func (s *shape) count() {
	switch s.section {
	case "members":
		s.seen.members++
	case "cards":
		s.seen.cards++
	}
}

func holdsObjects(key []byte) bool {
	switch string(key) {
	case "members", "cards", "schedules", "spans", "grants", "resources":
		return true
	}
	return false
}

// push opens a level and reuses its keys, so that a roster of many people costs no garbage here.
func (s *shape) push(kind frameKind) {
	n := len(s.open)
	if n < cap(s.open) {
		s.open = s.open[:n+1]
	} else {
		s.open = append(s.open, frame{})
	}
	s.open[n] = frame{kind: kind, keys: s.open[n].keys[:0]}
}

func (s *shape) close(object bool) error {
	if len(s.open) == 0 {
		return fmt.Errorf("byte %d: closes what was never opened", s.at)
	}
	top := &s.open[len(s.open)-1]
	if (top.kind == anObject) != object {
		return fmt.Errorf("byte %d: closes the wrong bracket", s.at)
	}
	if object && top.fields < minFieldsPerThing {
		return fmt.Errorf("byte %d: an object with fewer than %d fields", s.at, minFieldsPerThing)
	}
	s.open = s.open[:len(s.open)-1]
	return nil
}

// key takes the string just read as a key of the innermost object.
func (s *shape) key() error {
	k := s.word[1:]
	if end := len(k) - 1; end >= 0 && k[end] == '"' {
		k = k[:end]
	}
	for _, c := range k {
		if (c < 'a' || c > 'z') && c != '_' {
			return fmt.Errorf("byte %d: unknown key %.40q", s.wordAt+1, k)
		}
	}
	if len(k) > maxKeyBytes {
		return fmt.Errorf("byte %d: unknown key %.40q", s.wordAt+1, k)
	}
	top := &s.open[len(s.open)-1]
	if bytes.Contains(top.keys, s.word) {
		return fmt.Errorf("byte %d: key %.40q stands twice", s.wordAt+1, k)
	}
	if top.fields == maxFields {
		return fmt.Errorf("byte %d: more than %d fields in one object", s.wordAt+1, maxFields)
	}
	top.keys = append(top.keys, s.word...)
	top.fields++
	top.lists = holdsObjects(k)
	if len(s.open) == 1 {
		s.section, s.inner = string(k), 0
	}
	return nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
