package kiosk

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"kith/internal/event"
)

// Use is a use that was started. It is kept in a file across restarts; the monotonic start is then gone, and the wall
// clock is asked if it was and is right.
type Use struct {
	ID       string      `json:"id"`
	Member   string      `json:"member"`
	Resource string      `json:"resource"`
	Measure  string      `json:"measure"`
	Started  int64       `json:"started_ms"`
	Clock    event.Clock `json:"clock"`

	mono time.Duration
	here bool // started in this run: mono counts
}

func (u *Use) knows(v View) bool {
	return u.here || u.Clock == event.Synced && v.Clock == event.Synced && v.Wall.UnixMilli() >= u.Started
}

// quantity is the time since the start in begun parts of the measure, at least one; 0 when it cannot be known.
func (u *Use) quantity(now time.Duration, v View) int64 {
	if !u.knows(v) {
		return 0
	}
	elapsed := time.Duration(v.Wall.UnixMilli()-u.Started) * time.Millisecond
	if u.here {
		elapsed = now - u.mono
	}
	part := time.Minute
	if u.Measure == "hour" {
		part = time.Hour
	}
	return max(1, int64((elapsed+part-1)/part))
}

func (m *Machine) keep() Keep {
	all := make([]Use, 0, len(m.running))
	for _, id := range slices.Sorted(maps.Keys(m.running)) {
		all = append(all, *m.running[id])
	}
	return Keep{all}
}

// day is the number of the day on the node's calendar.
func day(v View) int {
	y, mo, d := v.Wall.In(v.Roster.Zone()).Date()
	return max(0, int(time.Date(y, mo, d, 0, 0, 0, 0, time.UTC).Unix()/86400))
}

// made is an entry that stands in the journal.
type made struct {
	Address    string
	Kind       event.Kind
	Entry      event.Entry
	Member     string
	ToMember   string
	At         int64
	corrected  bool
	correcting bool
}

type usageKey struct {
	member, resource string
	day              int
}

// book is what was made lately: the newest entries, and how much of each daily limit is used up.
type book struct {
	recent []*made // oldest first
	usage  map[usageKey]int64
}

func newBook() book { return book{usage: map[usageKey]int64{}} }

func (b *book) add(e made) {
	if len(b.recent) >= MaxRecent {
		b.recent = slices.Delete(b.recent, 0, 1)
	}
	b.recent = append(b.recent, &e)
}

func (b *book) find(address string) *made {
	for _, e := range b.recent {
		if e.Address == address && e.Member != "" {
			return e
		}
	}
	return nil
}

// room makes space for one more count, dropping days before yesterday.
func (b *book) room(today int) bool {
	if len(b.usage) < MaxUsage {
		return true
	}
	maps.DeleteFunc(b.usage, func(k usageKey, _ int64) bool { return k.day < today-1 })
	return len(b.usage) < MaxUsage
}

// Remember folds an entry that stands in the journal, in its order, so that a restart forgets no limit and no correction.
func (m *Machine) Remember(l event.Leaf, p *event.Private) {
	e, err := event.ParseEntry(l.Kind, l.Body)
	if err != nil {
		return
	}
	n := made{Address: fmt.Sprintf("%s/%d", l.Epoch, l.Index), Kind: l.Kind, Entry: e, At: l.At}
	if p != nil {
		var part event.EntryPrivate
		if json.Unmarshal(p.Body, &part) == nil {
			n.Member, n.ToMember, n.At = p.Member, part.ToMember, p.At
		}
	}
	spent := e.Quantity
	if old := m.book.find(e.Corrects); old != nil && e.Corrects != "" {
		old.corrected = true
		spent -= old.Entry.Quantity
	}
	key := usageKey{n.Member, e.Resource, e.Day}
	if _, counted := m.book.usage[key]; n.Member != "" && (counted || m.book.room(e.Day)) {
		m.book.usage[key] += spent
	}
	m.book.add(n)
}

// Line is an entry as it is listed at the kiosk: without the person, because anyone may stand there.
type Line struct {
	Address   string
	At        int64
	Kind      event.Kind
	Entry     event.Entry
	Corrected bool
}

// Recent lists the newest entries first.
func (m *Machine) Recent(limit int) []Line {
	var out []Line
	for i := len(m.book.recent) - 1; i >= 0 && len(out) < limit; i-- {
		e := m.book.recent[i]
		out = append(out, Line{e.Address, e.At, e.Kind, e.Entry, e.corrected})
	}
	return out
}

// splitTo reads NODE or NODE/MEMBER.
func splitTo(s string) (node, member string, ok bool) {
	node, member, both := strings.Cut(s, "/")
	return node, member, !both || member != ""
}
