package audit

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Difference is the first thing in a bundle that is not as it must be.
type Difference struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"` // 0: the file as a whole
	What string `json:"what"`
}

func (d *Difference) Error() string {
	if d.Line > 0 {
		return fmt.Sprintf("%s line %d: %s", d.File, d.Line, d.What)
	}
	return d.File + ": " + d.What
}

func differ(file string, line int, format string, args ...any) *Difference {
	return &Difference{File: file, Line: line, What: strings.Map(visible, fmt.Sprintf(format, args...))}
}

// visible keeps a bundle of somebody from moving a reader's cursor, or hiding what stands behind.
func visible(r rune) rune {
	switch {
	case r == '\n' || r == '\t':
		return ' '
	case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
		return '\''
	}
	return r
}

// same compares a file with what it must be, line by line.
func (f Files) same(name string, want []byte) error {
	have, here := f[name]
	if !here {
		return differ(name, 0, "is missing")
	}
	if bytes.Equal(have, want) {
		return nil
	}
	haveLines, wantLines := bytes.Split(have, newline), bytes.Split(want, newline)
	for i := range max(len(haveLines), len(wantLines)) {
		switch {
		case i >= len(haveLines):
			return differ(name, i+1, "ends early; %.200q follows from the inputs", wantLines[i])
		case i >= len(wantLines):
			return differ(name, i+1, "%.200q is too much", haveLines[i])
		case !bytes.Equal(haveLines[i], wantLines[i]):
			return differ(name, i+1, "%.200q, but %.200q follows from the inputs", haveLines[i], wantLines[i])
		}
	}
	return nil
}

var newline = []byte("\n")

// scanner reads lines of words with one space between them.
type scanner struct {
	file  string
	lines []string
	at    int // lines read
}

func scan(file string, text []byte, title string) (*scanner, error) {
	s := &scanner{file: file, lines: strings.Split(string(text), "\n")}
	if len(s.lines) < 2 || s.lines[len(s.lines)-1] != "" {
		return nil, differ(file, len(s.lines), "does not end in a newline")
	}
	s.lines = s.lines[:len(s.lines)-1]
	if words := s.next(); strings.Join(words, " ") != title {
		return nil, differ(file, 1, "want %q", title)
	}
	return s, nil
}

// next returns the words of the next line, nil at the end.
func (s *scanner) next() []string {
	if s.at == len(s.lines) {
		return nil
	}
	s.at++
	return strings.Split(s.lines[s.at-1], " ")
}

// rest returns what stands behind the first word of the line that was read last.
func (s *scanner) rest() string {
	_, rest, _ := strings.Cut(s.lines[s.at-1], " ")
	return rest
}

func (s *scanner) bad(what string) error {
	return differ(s.file, s.at, "%s: %.200q", what, s.lines[max(0, s.at-1)])
}

// number reads a decimal number in its one spelling.
func number(word string) (int64, bool) {
	n, err := strconv.ParseInt(word, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == word
}

func digest(word string) (h [32]byte, ok bool) {
	if len(word) != 2*len(h) || strings.ToLower(word) != word {
		return h, false
	}
	_, err := hex.Decode(h[:], []byte(word))
	return h, err == nil
}

func compareText(a, b string) int { return cmp.Compare(a, b) }

func flag(v bool) int64 {
	if v {
		return 1
	}
	return 0
}
