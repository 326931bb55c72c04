package event

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a body, so that hostile input cannot deepen the stack.
const maxDepth = 8

// scan walks the one spelling of a line. The first mismatch stays in err and makes the rest a no-op.
type scan struct {
	b   string
	at  int
	err error
}

func (s *scan) peek(want string) bool { return s.err == nil && strings.HasPrefix(s.b[s.at:], want) }

func (s *scan) lit(want string) {
	if s.err != nil {
		return
	}
	if !strings.HasPrefix(s.b[s.at:], want) {
		s.err = fmt.Errorf("at byte %d: want %s", s.at, want)
		return
	}
	s.at += len(want)
}

// until reads a string without escapes up to the closing mark. Its callers check the alphabet.
func (s *scan) until(mark byte) string {
	if s.err != nil {
		return ""
	}
	n := strings.IndexByte(s.b[s.at:], mark)
	if n < 0 {
		s.err = fmt.Errorf("at byte %d: string does not end", s.at)
		return ""
	}
	v := s.b[s.at : s.at+n]
	s.at += n + 1
	return v
}

// uint reads a decimal number below 2^63 in its shortest form.
func (s *scan) uint() uint64 {
	if s.err != nil {
		return 0
	}
	start := s.at
	for s.at < len(s.b) && s.b[s.at] >= '0' && s.b[s.at] <= '9' {
		s.at++
	}
	text := s.b[start:s.at]
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || (len(text) > 1 && text[0] == '0') {
		s.err = fmt.Errorf("at byte %d: not a number below 2^63", start)
	}
	return n
}

func (s *scan) value() string {
	if s.err != nil {
		return ""
	}
	start := s.at
	end, err := checkValue(s.b, s.at, 0)
	if err != nil {
		s.err = err
		return ""
	}
	s.at = end
	return s.b[start:end]
}

// CheckJSON reports whether b is exactly one JSON value in compact form: no white space between tokens, no floats or
// exponents, valid UTF-8, no key twice in an object, at most 8 levels deep. Bodies and private parts are held to it.
func CheckJSON(b []byte) error {
	s := string(b)
	end, err := checkValue(s, 0, 0)
	if err != nil {
		return err
	}
	if end != len(s) {
		return fmt.Errorf("at byte %d: %d bytes after the value", end, len(s)-end)
	}
	return nil
}

func checkValue(s string, at, depth int) (int, error) {
	if at >= len(s) {
		return at, errors.New("value is missing")
	}
	if depth > maxDepth {
		return at, fmt.Errorf("at byte %d: deeper than %d levels", at, maxDepth)
	}
	switch c := s[at]; {
	case c == '{':
		return checkObject(s, at, depth)
	case c == '[':
		return checkArray(s, at, depth)
	case c == '"':
		return checkString(s, at)
	case c == '-' || c >= '0' && c <= '9':
		return checkInt(s, at)
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if strings.HasPrefix(s[at:], word) {
			return at + len(word), nil
		}
	}
	return at, fmt.Errorf("at byte %d: not a compact JSON value", at)
}

func checkObject(s string, at, depth int) (int, error) {
	at++
	var few [12]string // most objects need no more, and those need no allocation
	keys := few[:0]
	for first := true; ; first = false {
		if at < len(s) && s[at] == '}' && first {
			return at + 1, nil
		}
		start := at
		end, err := checkString(s, at)
		if err != nil {
			return at, err
		}
		key := s[start:end]
		for _, k := range keys {
			if k == key {
				return at, fmt.Errorf("at byte %d: key %s twice", at, clip(key))
			}
		}
		keys = append(keys, key)
		if at = end; at >= len(s) || s[at] != ':' {
			return at, fmt.Errorf("at byte %d: want ':'", at)
		}
		if at, err = checkValue(s, at+1, depth+1); err != nil {
			return at, err
		}
		if at >= len(s) {
			return at, errors.New("object does not end")
		}
		switch s[at] {
		case '}':
			return at + 1, nil
		case ',':
			at++
		default:
			return at, fmt.Errorf("at byte %d: want ',' or '}'", at)
		}
	}
}

func checkArray(s string, at, depth int) (int, error) {
	at++
	for first := true; ; first = false {
		if at < len(s) && s[at] == ']' && first {
			return at + 1, nil
		}
		var err error
		if at, err = checkValue(s, at, depth+1); err != nil {
			return at, err
		}
		if at >= len(s) {
			return at, errors.New("array does not end")
		}
		switch s[at] {
		case ']':
			return at + 1, nil
		case ',':
			at++
		default:
			return at, fmt.Errorf("at byte %d: want ',' or ']'", at)
		}
	}
}

func checkString(s string, at int) (int, error) {
	if at >= len(s) || s[at] != '"' {
		return at, fmt.Errorf("at byte %d: want a string", at)
	}
	start := at + 1
	ascii := true
	for at = start; at < len(s); at++ {
		switch c := s[at]; {
		case c == '"':
			if !ascii && !utf8.ValidString(s[start:at]) {
				return at, fmt.Errorf("at byte %d: invalid UTF-8", start)
			}
			return at + 1, nil
		case c >= utf8.RuneSelf:
			ascii = false
		case c < 0x20:
			return at, fmt.Errorf("at byte %d: control character in a string", at)
		case c == '\\':
			at++
			if at >= len(s) {
				break
			}
			if s[at] == 'u' {
				if at+4 >= len(s) || !hex4(s[at+1:at+5]) {
					return at, fmt.Errorf("at byte %d: bad \\u escape", at)
				}
				at += 4
			} else if strings.IndexByte(`"\/bfnrt`, s[at]) < 0 {
				return at, fmt.Errorf("at byte %d: bad escape", at)
			}
		}
	}
	return at, errors.New("string does not end")
}

func hex4(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}

// checkInt accepts the shortest form of an integer that fits int64: amounts and times are exact or they are nothing.
func checkInt(s string, at int) (int, error) {
	start := at
	if s[at] == '-' {
		at++
	}
	digits := at
	for at < len(s) && s[at] >= '0' && s[at] <= '9' {
		at++
	}
	text := s[start:at]
	if at == digits || (s[digits] == '0' && at-digits > 1) || text == "-0" {
		return at, fmt.Errorf("at byte %d: not an integer in shortest form", start)
	}
	if at < len(s) && (s[at] == '.' || s[at] == 'e' || s[at] == 'E') {
		return at, fmt.Errorf("at byte %d: floats are not allowed", start)
	}
	const safe = 18 // digits that cannot leave int64
	if at-digits <= safe {
		return at, nil
	}
	if _, err := strconv.ParseInt(text, 10, 64); err != nil {
		return at, fmt.Errorf("at byte %d: integer outside int64", start)
	}
	return at, nil
}
