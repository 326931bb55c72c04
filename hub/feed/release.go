package feed

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxReleaseBytes bounds a release that is read back.
const MaxReleaseBytes = 1 << 24

// File names of a release, as the note binds them.
const (
	ReportMarkdown = "report.md"
	ReportHTML     = "report.html"
	ReportJSON     = "report.json"
	ReportNote     = "report.note"
)

// Files are the three texts of a release with the note's text over their hashes.
type Files struct {
	Markdown []byte
	HTML     []byte
	JSON     []byte
	Note     []byte // to be signed by the caller as the text of a signed note
}

// Files writes a release out.
func (r *Release) Files() (*Files, error) {
	text, err := r.json()
	if err != nil {
		return nil, err
	}
	page, err := r.html()
	if err != nil {
		return nil, err
	}
	f := &Files{Markdown: r.markdown(), HTML: page, JSON: text}
	f.Note = f.note(r)
	return f, nil
}

// note is the text that binds the three: the order of its lines is that of the names.
func (f *Files) note(r *Release) []byte {
	b := []byte("kith-report-note v1\nnetwork " + plainName(r.Network) + "\nperiod " + plainName(r.Period) + "\n")
	for _, part := range []struct {
		name string
		text []byte
	}{{ReportHTML, f.HTML}, {ReportJSON, f.JSON}, {ReportMarkdown, f.Markdown}} {
		b = fmt.Appendf(b, "sha256 %x %s\n", sha256.Sum256(part.text), part.name)
	}
	return b
}

// Open checks three texts against the note's text and returns what the JSON says. It does not write Markdown and page
// again: a later program may write them in other words, and these stand as they were published.
func (f *Files) Open() (*Release, error) {
	r, err := ParseRelease(f.JSON)
	if err != nil {
		return nil, err
	}
	if want := f.note(r); !bytes.Equal(want, f.Note) {
		have, need := strings.Split(string(f.Note), "\n"), strings.Split(string(want), "\n")
		i := 0
		for i < min(len(have), len(need))-1 && have[i] == need[i] {
			i++
		}
		return nil, fmt.Errorf("reading the report of %.60q: %w: line %d of the note is %.120q, the files lead to %.120q", r.Period, ErrReport,
			i+1, have[i], need[i])
	}
	return r, nil
}

func (r *Release) json() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", " ")
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("writing the report as JSON: %w", err)
	}
	return b.Bytes(), nil
}

// ParseRelease reads a released report.json back. It accepts only the bytes that Files writes.
func ParseRelease(text []byte) (*Release, error) {
	if len(text) > MaxReleaseBytes {
		return nil, fmt.Errorf("reading a report of %d bytes: %w (at most %d)", len(text), ErrReport, MaxReleaseBytes)
	}
	r := &Release{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("reading a report: %w: %w", ErrReport, err)
	}
	again, err := r.json()
	if err != nil || r.Format != releaseFormat || !bytes.Equal(again, text) {
		return nil, fmt.Errorf("reading a report: %w: not the bytes of a %s", ErrReport, releaseFormat)
	}
	return r, nil
}

// view is a release in words, for Markdown and HTML alike.
type view struct {
	*Release
	scale map[string]int
	house map[string]string
}

func (r *Release) view() *view {
	v := &view{Release: r, scale: map[string]int{}, house: map[string]string{All: "All houses"}}
	for _, u := range r.Units {
		v.scale[u.Name] = u.Scale
	}
	for _, h := range r.Houses {
		if v.house[h.ID] = printable(h.Name); h.Name == "" {
			v.house[h.ID] = printable(h.ID)
		}
	}
	return v
}

// amount writes smallest parts as a person reads them: decimal places by the unit's scale, thousands set apart.
func (v *view) amount(unit string, n int64) string {
	sign, size := "", uint64(n)
	if n < 0 {
		sign, size = "\u2212", -uint64(n)
	}
	digits, places := strconv.FormatUint(size, 10), min(max(v.scale[unit], 0), maxScale)
	for len(digits) <= places {
		digits = "0" + digits
	}
	whole, rest := digits[:len(digits)-places], digits[len(digits)-places:]
	var b strings.Builder
	b.WriteString(sign)
	for i := range len(whole) {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteString("\u202f")
		}
		b.WriteByte(whole[i])
	}
	if places > 0 {
		b.WriteString("." + rest)
	}
	return b.String()
}

const (
	maxScale     = 6
	wordWithheld = "withheld"
)

func (v *view) maybe(unit string, n *int64) string {
	if n == nil {
		return wordWithheld
	}
	return v.amount(unit, *n)
}

// section is one kind of one measure, ready to be shown.
type section struct {
	Kind  string
	Unit  string
	Rows  []row
	Total row
	Lone  bool // there is no more than one house, so the total says nothing new

	Offers, Aims bool // some house said what it offers, or had a target
}

type row struct {
	House     string
	Delivered string
	Withheld  bool
	Offered   string
	Target    string
	Bar       int64 // per mille of what was offered, or of the target; -1: nothing to compare with
	Against   string
}

// sections groups the figures by kind, a measure's total last.
func (v *view) sections() []section {
	var list []section
	for _, m := range v.Delivered {
		var kinds []string
		seen := map[string]bool{}
		byKind := map[string][]Figure{}
		for _, f := range m.Figures {
			if !seen[f.Kind] {
				seen[f.Kind] = true
				kinds = append(kinds, f.Kind)
			}
			byKind[f.Kind] = append(byKind[f.Kind], f)
		}
		for _, kind := range kinds {
			if kind == All && len(kinds) == 2 {
				continue // one kind: its figures are the measure's
			}
			s := section{Kind: printable(kind), Unit: printable(m.Unit)}
			if kind == All {
				s.Kind = "all of these"
			}
			for _, f := range byKind[kind] {
				if kind == All { // delivered of all kinds compares only with what all kinds have
					f.Offered, f.Target = f.Offered*covers(m.Figures, Figure.offered), f.Target*covers(m.Figures, Figure.target)
				}
				s.Offers, s.Aims = s.Offers || f.Offered > 0, s.Aims || f.Target > 0
				if f.Node == All {
					s.Total = v.row(f)
				} else {
					s.Rows = append(s.Rows, v.row(f))
				}
			}
			s.Lone = len(s.Rows) < 2
			slices.SortStableFunc(s.Rows, func(a, b row) int { return cmp.Compare(a.House, b.House) })
			list = append(list, s)
		}
	}
	return list
}

func (f Figure) offered() int64 { return f.Offered }
func (f Figure) target() int64  { return f.Target }

// covers is 1 if every kind has something of that, else 0.
func covers(figures []Figure, of func(Figure) int64) int64 {
	for _, f := range figures {
		if f.Node == All && of(f) == 0 {
			return 0
		}
	}
	return 1
}

func (v *view) row(f Figure) row {
	// A measure counts whole parts; decimal places are of the units that are cleared, and one may have a measure's name.
	r := row{House: v.house[f.Node], Delivered: v.maybe("", f.Delivered), Withheld: f.Delivered == nil, Offered: "–", Target: "–", Bar: -1}
	if f.Offered > 0 {
		r.Offered = v.amount("", f.Offered)
	}
	if f.Target > 0 {
		r.Target = v.amount("", f.Target)
	}
	if f.Delivered == nil {
		return r
	}
	switch {
	case f.Offered > 0:
		r.Bar, r.Against = permille(*f.Delivered, f.Offered), percent(*f.Delivered, f.Offered)+" % of what was offered"
	case f.Target > 0:
		r.Bar, r.Against = permille(*f.Delivered, f.Target), percent(*f.Delivered, f.Target)+" % of the target"
	}
	r.Bar = min(r.Bar, 1000)
	return r
}
