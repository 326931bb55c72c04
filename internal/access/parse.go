package access

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// ParseJSON reads a document strictly: unknown keys, repeated keys, keys that differ only by case, bytes after the end
// and anything above MaxDocumentBytes are errors. It does not validate the content; Compile does.
func ParseJSON(b []byte) (Document, error) {
	if len(b) > MaxDocumentBytes {
		return Document{}, fmt.Errorf("parsing roster: %d bytes exceed the limit of %d", len(b), MaxDocumentBytes)
	}
	if err := checkShape(b); err != nil {
		return Document{}, fmt.Errorf("parsing roster: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	d, err := decodeDocument(dec)
	if err != nil {
		return Document{}, fmt.Errorf("parsing roster near byte %d: %w", dec.InputOffset(), err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Document{}, fmt.Errorf("parsing roster: more bytes after the document's end at byte %d", dec.InputOffset())
	}
	return d, nil
}

// shape walks JSON text before the decoder allocates anything. encoding/json takes the last of repeated keys and ignores
// case; two readers of one signed document must never see two different rosters, so both are refused here. It also goes
// on after a value of the wrong type, so that a list of two-byte strings in place of members would cost a hundred bytes
// each; the shape therefore knows which lists hold objects, and that no object is empty.
type shape struct {
	open []frame
	text []byte
	at   int
}

type frame struct {
	kind frameKind
	keys [][]byte // an object of a document has at most 12 fields, so a linear search is right
}

type frameKind byte

const (
	anObject frameKind = iota
	objectList
	stringList
)

// maxFields bounds keys of one object; Document itself has 12.
const maxFields = 16

func checkShape(b []byte) error {
	s := shape{text: b}
	for s.at < len(b) {
		var err error
		switch c := b[s.at]; {
		case c == '{' || c == '[':
			err = s.begin(c == '{')
		case c == '}' || c == ']':
			err = s.close(c == '}')
		case c == '"':
			err = s.str()
			s.at-- // str stands behind the quote already
		case c != ',' && !isSpace(c) && s.kind() != anObject:
			err = fmt.Errorf("byte %d: a list holds something else than strings or objects", s.at)
		}
		if err != nil {
			return err
		}
		s.at++
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
		s.push(anObject)
	case n == 0 || s.kind() != anObject || len(s.open[n-1].keys) == 0:
		return fmt.Errorf("byte %d: a list where none belongs", s.at)
	case holdsObjects(s.open[n-1].keys[len(s.open[n-1].keys)-1]):
		s.push(objectList)
	default:
		s.push(stringList)
	}
	return nil
}

func holdsObjects(key []byte) bool {
	switch string(key) {
	case "members", "cards", "schedules", "spans", "grants", "resources":
		return true
	}
	return false
}

// push opens a level and reuses its key list, so that a roster of many people costs no garbage here.
func (s *shape) push(kind frameKind) {
	n := len(s.open)
	if n < cap(s.open) {
		s.open = s.open[:n+1]
		s.open[n].kind, s.open[n].keys = kind, s.open[n].keys[:0]
		return
	}
	s.open = append(s.open, frame{kind: kind})
}

func (s *shape) close(object bool) error {
	if len(s.open) == 0 {
		return fmt.Errorf("byte %d: closes what was never opened", s.at)
	}
	top := &s.open[len(s.open)-1]
	if (top.kind == anObject) != object {
		return fmt.Errorf("byte %d: closes the wrong bracket", s.at)
	}
	if object && len(top.keys) < minFieldsPerThing {
		return fmt.Errorf("byte %d: an object with fewer than %d fields", s.at, minFieldsPerThing)
	}
	s.open = s.open[:len(s.open)-1]
	return nil
}

func (s *shape) str() error {
	start := s.at + 1
	end := start
	for end < len(s.text) && s.text[end] != '"' {
		if s.text[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(s.text) {
		return fmt.Errorf("byte %d: a string without an end", s.at)
	}
	s.at = end + 1
	if len(s.open) == 0 || s.kind() == stringList {
		return nil
	}
	if s.kind() == objectList {
		return fmt.Errorf("byte %d: a string in a list of objects", start-1)
	}
	next := s.at
	for next < len(s.text) && isSpace(s.text[next]) {
		next++
	}
	if next == len(s.text) || s.text[next] != ':' {
		return nil // a value, not a key
	}
	return s.key(s.text[start:end], start)
}

func (s *shape) key(k []byte, at int) error {
	for _, c := range k {
		if (c < 'a' || c > 'z') && c != '_' {
			return fmt.Errorf("byte %d: unknown key %.40q", at, k)
		}
	}
	top := &s.open[len(s.open)-1]
	for _, seen := range top.keys {
		if bytes.Equal(seen, k) {
			return fmt.Errorf("byte %d: key %.40q stands twice", at, k)
		}
	}
	if len(top.keys) == maxFields {
		return fmt.Errorf("byte %d: more than %d fields in one object", at, maxFields)
	}
	top.keys = append(top.keys, k)
	return nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
