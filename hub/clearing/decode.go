package clearing

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Bounds of a foreign text. A case of MaxObligations lines fits; memory grows with the text and never with a number that
// stands in it.
const (
	MaxTextBytes = 1<<31 - 1
	maxLineBytes = 1024
	maxWords     = 2 + fixedStages + MaxLots // words of the longest line: a potential in every stage
)

// reader hands out the lines of a text as words and remembers where it is.
type reader struct {
	rest []byte
	at   int // number of the line last read, from 1
	word []string
}

func newReader(text []byte) (*reader, error) {
	if len(text) > MaxTextBytes {
		return nil, fmt.Errorf("text of %d bytes: %w (at most %d)", len(text), ErrTooMany, MaxTextBytes)
	}
	return &reader{rest: text}, nil
}

// next reads one line and splits it; it says false at the end.
func (r *reader) next() (bool, error) {
	if len(r.rest) == 0 {
		return false, nil
	}
	r.at++
	n := bytes.IndexByte(r.rest[:min(len(r.rest), maxLineBytes)], '\n')
	if n < 0 {
		return false, r.wrong("no end within %d bytes", maxLineBytes)
	}
	r.word = strings.SplitN(string(r.rest[:n]), " ", maxWords+1)
	r.rest = r.rest[n+1:]
	return true, nil
}

func (r *reader) wrong(format string, args ...any) error {
	return fmt.Errorf("line %d: %s: %w", r.at, fmt.Sprintf(format, args...), ErrFormat)
}

// want requires the line to have this many words after its first.
func (r *reader) want(n int) error {
	if len(r.word) != n+1 {
		return r.wrong("%q has %d words, want %d", r.word[0], len(r.word)-1, n)
	}
	return nil
}

func (r *reader) number(i int) (int64, error) {
	v, err := strconv.ParseInt(r.word[i], 10, 64)
	if err != nil {
		return 0, r.wrong("%q is not a number", r.word[i])
	}
	return v, nil
}

func (r *reader) small(i int) (int32, error) {
	v, err := strconv.ParseInt(r.word[i], 10, 32)
	if err != nil {
		return 0, r.wrong("%q is not a number of days", r.word[i])
	}
	return int32(v), nil
}

func (r *reader) hash(i int) (h [32]byte, err error) {
	if len(r.word[i]) != hex.EncodedLen(len(h)) {
		return h, r.wrong("%q is not 32 bytes in hexadecimal", r.word[i])
	}
	if _, err := hex.Decode(h[:], []byte(r.word[i])); err != nil {
		return h, r.wrong("%q is not 32 bytes in hexadecimal", r.word[i])
	}
	return h, nil
}

// title requires the first line.
func (r *reader) title(want string) error {
	ok, err := r.next()
	if err == nil && (!ok || strings.Join(r.word, " ") != want) {
		err = r.wrong("title is not %q", want)
	}
	return err
}

// DecodeCase reads the canonical text of a case and refuses every other spelling of it.
func DecodeCase(text []byte) (*Case, error) {
	r, err := newReader(text)
	if err != nil {
		return nil, fmt.Errorf("reading a case: %w", err)
	}
	var terms Terms
	var debts []Obligation
	if err := r.title(caseTitle); err != nil {
		return nil, fmt.Errorf("reading a case: %w", err)
	}
	for {
		more, err := r.next()
		if err == nil && more {
			err = r.caseLine(&terms, &debts)
		}
		if err != nil {
			return nil, fmt.Errorf("reading a case: %w", err)
		}
		if !more {
			break
		}
	}
	c, err := Compile(terms, debts)
	if err != nil {
		return nil, fmt.Errorf("reading a case: %w", err)
	}
	if at := firstDifference(text, c.AppendText(nil)); at > 0 {
		return nil, fmt.Errorf("reading a case: line %d: %w", at, ErrFormat)
	}
	return c, nil
}

func (r *reader) caseLine(t *Terms, debts *[]Obligation) (err error) {
	words := map[string]int{"unit": 1, "cut": 1, "age-cap": 1, "commons": 1, "root": 1, "limit": 4, "debt": 5, "end": 1}
	n, known := words[r.word[0]]
	if !known {
		return r.wrong("%q is not a word of a case", r.word[0])
	}
	if err := r.want(n); err != nil {
		return err
	}
	switch r.word[0] {
	case "unit":
		t.Unit = r.word[1]
	case "cut":
		var d int32
		d, err = r.small(1)
		t.Cut = Day(d)
	case "age-cap":
		t.AgeCap, err = r.small(1)
	case "commons":
		if r.word[1] != noCommons {
			t.Commons = r.word[1]
		}
	case "root":
		var h [32]byte
		h, err = r.hash(1)
		t.Roots = append(t.Roots, h)
	case "limit":
		err = r.limitLine(t)
	case "debt":
		err = r.debtLine(t, debts)
	}
	return err
}

func (r *reader) limitLine(t *Terms) error {
	var v [3]int64
	for i := range v {
		var err error
		if v[i], err = r.number(2 + i); err != nil {
			return err
		}
	}
	t.Limits = append(t.Limits, Limit{Node: r.word[1], Balance: v[0], Floor: v[1], Ceiling: v[2]})
	return nil
}

func (r *reader) debtLine(t *Terms, debts *[]Obligation) error {
	id, err := r.hash(1)
	if err != nil {
		return err
	}
	day, err := r.small(4)
	if err != nil {
		return err
	}
	amount, err := r.number(5)
	if err != nil {
		return err
	}
	*debts = append(*debts, Obligation{ID: id, Debtor: r.word[2], Creditor: r.word[3], Unit: t.Unit, Amount: amount, Day: Day(day)})
	return nil
}

// Decode reads statement and proof of this case. It checks their form and that they belong together; whether they are
// right, only [Verify] says.
func (c *Case) Decode(statement, proof []byte) (*Result, error) {
	r := &Result{}
	if err := c.decodeStatement(statement, r); err != nil {
		return nil, fmt.Errorf("reading a statement: %w", err)
	}
	if err := c.decodeProof(proof, r); err != nil {
		return nil, fmt.Errorf("reading a proof: %w", err)
	}
	return r, nil
}

func (c *Case) decodeStatement(text []byte, res *Result) error {
	r, err := newReader(text)
	if err != nil {
		return err
	}
	if err := r.title(statementTitle); err != nil {
		return err
	}
	for {
		more, err := r.next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if err := r.statementLine(res); err != nil {
			return err
		}
	}
	if len(res.Lines) != len(c.debts) { // the canonical text below needs a line for every obligation
		return c.explainCoverage(res.Lines)
	}
	if at := firstDifference(text, c.AppendStatement(nil, res)); at > 0 {
		return fmt.Errorf("line %d: %w, or of another case", at, ErrFormat)
	}
	return nil
}

func (r *reader) statementLine(res *Result) (err error) {
	words := map[string]int{"case": 1, "unit": 1, "cut": 1, "total": 1, "drawn": 1, "balance": 3, "line": 3, "end": 1}
	n, known := words[r.word[0]]
	if !known {
		return r.wrong("%q is not a word of a statement", r.word[0])
	}
	if err := r.want(n); err != nil {
		return err
	}
	switch r.word[0] {
	case "unit":
		res.Unit = r.word[1]
	case "cut":
		var d int32
		d, err = r.small(1)
		res.Cut = Day(d)
	case "total":
		res.Total, err = r.number(1)
	case "drawn":
		res.Drawn, err = r.number(1)
	case "balance":
		b := Balance{Node: r.word[1]}
		if b.Before, err = r.number(2); err == nil {
			b.After, err = r.number(3)
		}
		res.Balances = append(res.Balances, b)
	case "line":
		var l Line
		if l.ID, err = r.hash(1); err == nil {
			l.Discharged, err = r.number(2)
		}
		res.Lines = append(res.Lines, l)
	}
	return err
}

func (c *Case) decodeProof(text []byte, res *Result) error {
	r, err := newReader(text)
	if err != nil {
		return err
	}
	if err := r.title(proofTitle); err != nil {
		return err
	}
	for node := 0; ; {
		more, err := r.next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		switch r.word[0] {
		case "statement", "end":
			err = r.want(1)
		case "stage":
			err = r.stageLine(res, len(c.nodes))
		case "potential":
			err = r.potentialLine(res, node, len(c.nodes))
			node++
		default:
			err = r.wrong("%q is not a word of a proof", r.word[0])
		}
		if err != nil {
			return err
		}
	}
	if at := firstDifference(text, c.AppendProof(nil, res)); at > 0 {
		return fmt.Errorf("line %d: %w, or of another statement", at, ErrFormat)
	}
	return nil
}

func (r *reader) stageLine(res *Result, nodes int) error {
	if err := r.want(2); err != nil {
		return err
	}
	if len(res.Stages) == fixedStages+MaxLots {
		return r.wrong("more than %d stages", fixedStages+MaxLots)
	}
	value, ok := parseWide(r.word[2])
	if !ok {
		return r.wrong("%q is not a value", r.word[2])
	}
	res.Stages = append(res.Stages, Stage{Name: r.word[1], Value: value, Potentials: make([]int64, nodes)})
	return nil
}

func (r *reader) potentialLine(res *Result, node, nodes int) error {
	if err := r.want(1 + len(res.Stages)); err != nil {
		return err
	}
	if node >= nodes {
		return r.wrong("more potentials than the case has nodes")
	}
	for i := range res.Stages {
		v, err := r.number(2 + i)
		if err != nil {
			return err
		}
		res.Stages[i].Potentials[node] = v
	}
	return nil
}

// firstDifference returns the number of the first line in which two texts differ, 0 when they are the same.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return 1 + bytes.Count(a[:n], []byte{'\n'})
}
