package board

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// MaxLineBytes bounds one line of the board protocol. A reader allocates this once per
// connection and refuses a longer line before reading the rest of it.
const MaxLineBytes = 256

// ErrLineTooLong means the other side sent more than MaxLineBytes without a newline.
var ErrLineTooLong = fmt.Errorf("line longer than %d bytes", MaxLineBytes)

// Line is one line of the board protocol: {"t":123,"out":"front/lock","v":1}. T is the sender's
// monotonic clock in nanoseconds; exactly one of Out and In is set.
type Line struct {
	T   time.Duration
	Out string
	In  string
	V   int
}

type wireLine struct {
	T   *int64 `json:"t"`
	Out string `json:"out"`
	In  string `json:"in"`
	V   *int   `json:"v"`
}

// ParseLine reads one line, strictly: all fields present, none unknown, nothing behind it.
func ParseLine(b []byte) (Line, error) {
	if len(b) > MaxLineBytes {
		return Line{}, ErrLineTooLong
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var w wireLine
	if err := dec.Decode(&w); err != nil {
		return Line{}, fmt.Errorf("reading board line: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Line{}, errors.New("reading board line: something follows the object")
	}
	if w.T == nil || w.V == nil || (w.Out == "") == (w.In == "") {
		return Line{}, errors.New(`reading board line: want "t", "v" and one of "out", "in"`)
	}
	if err := CheckSignal(w.Out + w.In); err != nil {
		return Line{}, fmt.Errorf("reading board line: %w", err)
	}
	if err := CheckValue(*w.V); err != nil {
		return Line{}, fmt.Errorf("reading board line: %w", err)
	}
	return Line{T: time.Duration(*w.T), Out: w.Out, In: w.In, V: *w.V}, nil
}

// AppendLine writes one line with its newline. Names were checked on the way in, so they need
// no escaping.
func AppendLine(dst []byte, l Line) []byte {
	dst = append(dst, `{"t":`...)
	dst = strconv.AppendInt(dst, int64(l.T), 10)
	key, name := `,"in":"`, l.In
	if l.Out != "" {
		key, name = `,"out":"`, l.Out
	}
	dst = append(append(append(dst, key...), name...), `","v":`...)
	dst = strconv.AppendInt(dst, int64(l.V), 10)
	return append(dst, "}\n"...)
}

// LineReader cuts a stream into lines of bounded length.
type LineReader struct{ r *bufio.Reader }

// NewLineReader wraps r; it allocates its whole buffer here.
func NewLineReader(r io.Reader) *LineReader {
	return &LineReader{bufio.NewReaderSize(r, MaxLineBytes)}
}

// Next returns the next parsed line. Any error ends the stream: after a line that was too long
// or malformed nothing that follows can be trusted.
func (lr *LineReader) Next() (Line, error) {
	b, err := lr.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return Line{}, ErrLineTooLong
	}
	if err != nil {
		return Line{}, err
	}
	return ParseLine(bytes.TrimRight(b, "\r\n"))
}
