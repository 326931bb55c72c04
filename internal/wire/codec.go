package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// field is one key of a header and where its value lives. Exactly one pointer is set.
type field struct {
	name string
	num  *uint64
	word *string
	why  *string
	flag *bool
	hex  []byte // of fixed length
	list *[]uint64
}

// codec is the one description of a message that both directions follow.
type codec struct {
	typ    string
	fields []field
	size   func() int                 // bytes of the payload, about
	write  func(b []byte) []byte      // appends the payload
	read   func(payload []byte) error // keeps slices of payload
	check  func() error               // what the header must satisfy besides its spelling; may be nil
}

func (c codec) encode() ([]byte, error) {
	if err := c.valid(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMessage, c.typ, err)
	}
	b := make([]byte, 0, 512+c.size())
	b = append(b, `{"v":1,"type":"`...)
	b = append(b, c.typ...)
	b = append(b, '"')
	for _, f := range c.fields {
		b = append(b, `,"`...)
		b = append(b, f.name...)
		b = append(b, `":`...)
		b = f.append(b)
	}
	b = append(b, "}\n"...)
	b = c.write(b)
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("%w: %s of %d bytes, limit %d", ErrMessage, c.typ, len(b), MaxMessage)
	}
	return b, nil
}

func (c codec) valid() error {
	for _, f := range c.fields {
		if err := f.valid(); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if c.check != nil {
		return c.check()
	}
	return nil
}

func (c codec) parse(b []byte) error {
	header, payload, ok := bytes.Cut(b, newline)
	if !ok {
		return errors.New("no header line")
	}
	s := scan{b: string(header)}
	s.lit(`{"v":1,"type":"`)
	s.lit(c.typ)
	s.lit(`"`)
	for _, f := range c.fields {
		s.lit(`,"`)
		s.lit(f.name)
		s.lit(`":`)
		f.scan(&s)
	}
	s.lit(`}`)
	if s.err == nil && s.at != len(s.b) {
		s.err = errors.New("header goes on after its end")
	}
	if s.err != nil {
		return s.err
	}
	if err := c.valid(); err != nil {
		return err
	}
	return c.read(payload)
}

func (f *field) append(b []byte) []byte {
	switch {
	case f.num != nil:
		return strconv.AppendUint(b, *f.num, 10)
	case f.flag != nil:
		return strconv.AppendBool(b, *f.flag)
	case f.list != nil:
		b = append(b, '[')
		for i, n := range *f.list {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendUint(b, n, 10)
		}
		return append(b, ']')
	}
	b = append(b, '"')
	switch {
	case f.word != nil:
		b = append(b, *f.word...)
	case f.why != nil:
		b = append(b, *f.why...)
	default:
		b = hex.AppendEncode(b, f.hex)
	}
	return append(b, '"')
}

func (f *field) scan(s *scan) {
	switch {
	case f.num != nil:
		*f.num = s.uint()
	case f.flag != nil:
		if *f.flag = s.peek("true"); *f.flag {
			s.lit("true")
		} else {
			s.lit("false")
		}
	case f.list != nil:
		s.lit("[")
		for s.err == nil && !s.peek("]") {
			if len(*f.list) > 0 {
				s.lit(",")
			}
			if *f.list = append(*f.list, s.uint()); len(*f.list) > MaxSizes {
				s.fail("more than %d numbers", MaxSizes)
			}
		}
		s.lit("]")
	case f.word != nil:
		*f.word = s.text()
	case f.why != nil:
		*f.why = s.text()
	default:
		s.hash(f.hex)
	}
}

func (f *field) valid() error {
	switch {
	case f.num != nil && *f.num > 1<<62:
		return fmt.Errorf("%d is past 2^62", *f.num)
	case f.word != nil && !isWord(*f.word):
		return fmt.Errorf("%q is not a word", clip(*f.word))
	case f.why != nil && !isWhy(*f.why):
		return errors.New("not at most 200 bytes of plain text")
	case f.list != nil:
		if n := len(*f.list); n == 0 || n > MaxSizes {
			return fmt.Errorf("%d numbers, want 1 to %d", n, MaxSizes)
		}
		for i, n := range *f.list {
			if n > 1<<62 || i > 0 && n <= (*f.list)[i-1] {
				return errors.New("numbers must rise")
			}
		}
	}
	return nil
}

func isWord(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return len(s) <= maxWord
}

func isWhy(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return len(s) <= maxWhy
}

// Plain makes any text fit for a why: what does not fit is replaced or cut.
func Plain(s string) string {
	b := []byte(s[:min(len(s), maxWhy)])
	for i, c := range b {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			b[i] = '\''
		}
	}
	return string(b)
}

// scan walks one spelling; the first mismatch stays in err and makes the rest a no-op.
type scan struct {
	b   string
	at  int
	err error
}

func (s *scan) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("header byte %d: "+format, append([]any{s.at}, args...)...)
	}
}

func (s *scan) peek(want string) bool { return s.err == nil && strings.HasPrefix(s.b[s.at:], want) }

func (s *scan) lit(want string) {
	if !s.peek(want) {
		s.fail("want %s", want)
		return
	}
	s.at += len(want)
}

func (s *scan) uint() uint64 {
	start := s.at
	for s.at < len(s.b) && s.b[s.at] >= '0' && s.b[s.at] <= '9' {
		s.at++
	}
	text := s.b[start:s.at]
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || len(text) > 1 && text[0] == '0' {
		s.fail("not a number below 2^63")
	}
	return n
}

func (s *scan) text() string {
	s.lit(`"`)
	if s.err != nil {
		return ""
	}
	n := strings.IndexByte(s.b[s.at:], '"')
	if n < 0 {
		s.fail("string does not end")
		return ""
	}
	v := s.b[s.at : s.at+n]
	s.at += n + 1
	return v
}

func (s *scan) hash(dst []byte) {
	if v := s.text(); s.err == nil && !decodeHex(dst, v) {
		s.fail("want %d lower-case hex digits", 2*len(dst))
	}
}

func decodeHex(dst []byte, s string) bool {
	if len(s) != 2*len(dst) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

func clip(s string) string { return s[:min(len(s), 64)] }

// line cuts one line off the payload; it must be closed by a newline.
func line(p *[]byte) ([]byte, error) {
	l, rest, ok := bytes.Cut(*p, newline)
	if !ok {
		return nil, errors.New("payload ends within a line")
	}
	*p = rest
	return l, nil
}

// take cuts n bytes off the payload.
func take(p *[]byte, n uint64) ([]byte, error) {
	if n > uint64(len(*p)) {
		return nil, fmt.Errorf("payload lacks %d bytes", n-uint64(len(*p)))
	}
	b := (*p)[:n:n]
	*p = (*p)[n:]
	return b, nil
}

// rest takes what is left as a note of at most MaxNote bytes; nothing is nil.
func rest(p []byte) ([]byte, error) {
	if len(p) > MaxNote {
		return nil, fmt.Errorf("note of %d bytes, limit %d", len(p), MaxNote)
	}
	if len(p) == 0 {
		return nil, nil
	}
	return p, nil
}

func appendHashes(b []byte, hashes []tlog.Hash) []byte {
	for i := range hashes {
		b = hex.AppendEncode(b, hashes[i][:])
		b = append(b, '\n')
	}
	return b
}

func readHashes(p *[]byte, n uint64) ([]tlog.Hash, error) {
	if n > MaxHashes {
		return nil, fmt.Errorf("%d hashes, limit %d", n, MaxHashes)
	}
	if n == 0 {
		return nil, nil
	}
	out := make([]tlog.Hash, n)
	for i := range out {
		l, err := line(p)
		if err != nil {
			return nil, err
		}
		if !decodeHex(out[i][:], string(l)) {
			return nil, fmt.Errorf("hash line %d is not one", i)
		}
	}
	return out, nil
}

func epochField(e *event.Epoch) field { return field{name: "epoch", hex: e[:]} }

func num(name string, p *uint64) field  { return field{name: name, num: p} }
func word(name string, p *string) field { return field{name: name, word: p} }
func flag(name string, p *bool) field   { return field{name: name, flag: p} }
