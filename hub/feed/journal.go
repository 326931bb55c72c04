package feed

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Bounds of one export.
const (
	MaxEntries   = 1 << 24
	MaxClosings  = 1 << 12
	MaxNameBytes = 1 << 10 // of any one name
)

// Refusals of values that no faithful export can be made of.
var (
	ErrJournal = errors.New("not a journal that can be exported")
	ErrBalance = errors.New("amounts do not balance")
)

// Unit is what amounts count in. Exports carry smallest parts; Scale tells how many decimal places a person sees.
type Unit struct {
	Name  string `json:"name"`
	Scale int    `json:"scale"`
}

// Posting moves one account: above zero it gains. Path parts are separated by slashes.
type Posting struct {
	Path   string
	Unit   string
	Amount int64
}

// Entry is one record of the books in the words of hub/ledger. Seq is its place in booking order.
type Entry struct {
	Seq      uint64
	ID       string
	Code     string // "booked" moves balances; anything else is listed by CSV and JSON Lines alone
	Kind     string // post, hold, settle, void, expire or reverse
	Standing string
	At       int64 // Unix ms by the edge's clock
	Unsure   bool
	Ref      string
	Journal  string
	Index    uint64
	Rule     string
	Part     uint32
	Postings []Posting
}

// Balance is one account as it was sealed. Amount is what is posted; the pending pair is held.
type Balance struct {
	Path           string
	Unit           string
	Amount         int64
	DebitsPending  int64
	CreditsPending int64
}

// Closing is the seal of a period over the first After records.
type Closing struct {
	Period   string
	Day      int32  // days since 1970-01-01 on which the period was cut
	After    uint64 // records below this Seq are sealed
	Root     string // hexadecimal root of the seal
	Balances []Balance
}

// Journal is a stretch of the books of one network. With an Opening it starts from that seal instead of from nothing.
type Journal struct {
	Network  string
	Units    []Unit
	Opening  *Closing
	Entries  []Entry
	Closings []Closing
}

// Entries of these kinds move balances when they are booked.
func (e *Entry) moves() bool {
	return e.Code == "booked" && (e.Kind == "post" || e.Kind == "settle" || e.Kind == "reverse")
}

// account is one column of the books.
type account struct{ path, unit string }

func (a account) compare(b account) int {
	return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.unit, b.unit))
}

// stretch is what lies between two closings, in the order in which programs that sort by date read it too.
type stretch struct {
	entries []dated
	closing *Closing // nil: still open
	day     int32    // of the closing
}

type dated struct {
	*Entry
	day int32
}

// chart is a checked journal in one canonical order.
type chart struct {
	network   string
	units     []Unit
	paths     []string // every path that occurs, ascending
	opening   *Closing
	stretches []stretch
}

// Days that every reader of these formats can tell apart.
const (
	firstDay = 0       // 1970-01-01
	lastDay  = 2932894 // 9999-12-29; a closing is asserted one day later
)

// survey checks and orders a journal. Dates in the accounting formats are those of booking: a late fact keeps its own
// time beside it and stands in the period that took it, since a program that sorts by date would else move it over an
// assertion that was true when it was sealed.
func survey(j *Journal) (*chart, error) {
	if len(j.Entries) > MaxEntries || len(j.Closings) > MaxClosings {
		return nil, fmt.Errorf("exporting %d entries and %d closings: %w (at most %d and %d)", len(j.Entries), len(j.Closings),
			ErrJournal, MaxEntries, MaxClosings)
	}
	c := &chart{network: j.Network, units: slices.Clone(j.Units)}
	slices.SortFunc(c.units, func(a, b Unit) int { return cmp.Compare(a.Name, b.Name) })
	known := map[string]bool{}
	for _, u := range c.units {
		if known[u.Name] || len(u.Name) > MaxNameBytes {
			return nil, fmt.Errorf("exporting unit %.60q: %w: twice, or too long", u.Name, ErrJournal)
		}
		known[u.Name] = true
	}
	entries := make([]*Entry, len(j.Entries))
	for i := range j.Entries {
		entries[i] = &j.Entries[i]
	}
	slices.SortFunc(entries, func(a, b *Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	for i, e := range entries {
		if i > 0 && entries[i-1].Seq == e.Seq {
			return nil, fmt.Errorf("exporting entry %d: two stand in that place: %w", e.Seq, ErrJournal)
		}
		if err := checkPostings(e, known); err != nil {
			return nil, fmt.Errorf("exporting entry %d: %w", e.Seq, err)
		}
	}
	closings, err := checkClosings(j, known)
	if err != nil {
		return nil, err
	}
	c.opening = closings[0]
	c.cut(entries, closings[1:])
	c.collect(entries, closings)
	return c, nil
}

// checkPostings holds what moves balances to a sum of zero per unit, taken apart by sign so that it cannot wrap.
func checkPostings(e *Entry, known map[string]bool) error {
	up, down := map[string]uint64{}, map[string]uint64{}
	for _, p := range e.Postings {
		if !known[p.Unit] || len(p.Path) > MaxNameBytes || p.Path == "" {
			return fmt.Errorf("account %.60q in unit %.60q: %w", p.Path, p.Unit, ErrJournal)
		}
		side, size := up, uint64(p.Amount)
		if p.Amount < 0 {
			side, size = down, -uint64(p.Amount)
		}
		if size > math.MaxUint64-side[p.Unit] {
			return fmt.Errorf("sum in unit %.60q: %w", p.Unit, ErrBalance)
		}
		side[p.Unit] += size
	}
	for _, p := range e.Postings {
		if up[p.Unit] != down[p.Unit] {
			return fmt.Errorf("unit %.60q gains %d and gives %d: %w", p.Unit, up[p.Unit], down[p.Unit], ErrBalance)
		}
	}
	return nil
}

// checkClosings returns the opening, which may be nil, and the closings in order.
func checkClosings(j *Journal, known map[string]bool) ([]*Closing, error) {
	list := []*Closing{j.Opening}
	for i := range j.Closings {
		list = append(list, &j.Closings[i])
	}
	slices.SortFunc(list[1:], func(a, b *Closing) int {
		return cmp.Or(cmp.Compare(a.After, b.After), cmp.Compare(a.Day, b.Day), cmp.Compare(a.Period, b.Period))
	})
	periods := map[string]bool{}
	for i, k := range list {
		if k == nil {
			continue
		}
		if periods[k.Period] || len(k.Period) > MaxNameBytes {
			return nil, fmt.Errorf("exporting period %.60q: %w: twice, or too long", k.Period, ErrJournal)
		}
		periods[k.Period] = true
		if i > 0 && list[0] != nil && k.After < list[0].After {
			return nil, fmt.Errorf("exporting period %.60q: %w: closed before the opening", k.Period, ErrJournal)
		}
		asked, seen := Entry{Code: "booked", Kind: "post"}, map[account]bool{}
		for _, b := range k.Balances {
			if a := (account{b.Path, b.Unit}); seen[a] {
				return nil, fmt.Errorf("exporting period %.60q: %.60q is sealed twice: %w", k.Period, b.Path, ErrJournal)
			} else {
				seen[a] = true
			}
			asked.Postings = append(asked.Postings, Posting{b.Path, b.Unit, b.Amount})
		}
		if err := checkPostings(&asked, known); err != nil {
			return nil, fmt.Errorf("exporting period %.60q: %w", k.Period, err)
		}
	}
	if first := j.Opening; first != nil {
		for i := range j.Entries {
			if j.Entries[i].Seq < first.After {
				return nil, fmt.Errorf("exporting entry %d: %w: it is in the opening of %d already", j.Entries[i].Seq, ErrJournal, first.After)
			}
		}
	}
	return list, nil
}

// cut divides entries by closings and dates them. Closings on one day are moved a day on each, for readers that check
// balances once a day.
func (c *chart) cut(entries []*Entry, closings []*Closing) {
	floor := int32(firstDay)
	if c.opening != nil {
		floor = min(max(c.opening.Day, firstDay), lastDay) + 1
	}
	for i := 0; i <= len(closings); i++ {
		s, ceiling := stretch{}, int32(lastDay)
		if i < len(closings) {
			s.closing = closings[i]
			s.day = min(max(s.closing.Day, floor), lastDay)
			ceiling = s.day
		}
		n := 0
		for n < len(entries) && (s.closing == nil || entries[n].Seq < s.closing.After) {
			e := entries[n]
			s.entries = append(s.entries, dated{e, min(max(dayOf(e.At), floor), ceiling)})
			n++
		}
		entries = entries[n:]
		slices.SortStableFunc(s.entries, func(a, b dated) int { return cmp.Compare(a.day, b.day) })
		c.stretches = append(c.stretches, s)
		floor = min(s.day+1, lastDay)
	}
}

// collect lists every path, so that each format can declare what it will speak of.
func (c *chart) collect(entries []*Entry, closings []*Closing) {
	seen := map[string]bool{}
	for _, e := range entries {
		for _, p := range e.Postings {
			seen[p.Path] = true
		}
	}
	for _, k := range closings {
		if k == nil {
			continue
		}
		for _, b := range k.Balances {
			seen[b.Path] = true
		}
	}
	for path := range seen {
		c.paths = append(c.paths, path)
	}
	slices.Sort(c.paths)
}

// sealed returns the balances of a closing in canonical order.
func (k *Closing) sealed() []Balance {
	list := slices.Clone(k.Balances)
	slices.SortFunc(list, func(a, b Balance) int {
		return account{a.Path, a.Unit}.compare(account{b.Path, b.Unit})
	})
	return list
}

const dayMS = 24 * 60 * 60 * 1000

// dayOf returns the UTC day of a Unix time in milliseconds, held to the days that can be written.
func dayOf(ms int64) int32 {
	day := ms / dayMS
	if ms%dayMS < 0 {
		day--
	}
	return int32(min(max(day, firstDay), lastDay))
}

// isoDay writes a day as ISO 8601 date.
func isoDay(day int32) string {
	return time.Unix(int64(day)*(dayMS/1000), 0).UTC().Format(time.DateOnly)
}

// bySeq puts entries back into booking order, for formats that do not sort by date.
func bySeq(list []dated) {
	slices.SortFunc(list, func(a, b dated) int { return cmp.Compare(a.Seq, b.Seq) })
}
