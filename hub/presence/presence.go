// Package presence owns the answer to "who is where", and how sure that answer is.
//
// It is pure: taps go in, places come out. Each member has one newest tap, by the edge's time as far as the hub can believe it
// (Seen.Counts), with a fixed rule for ties; so an edge that catches up on last week changes nobody's place today, an edge with a
// wrong clock keeps nobody's place for tomorrow, and after a crash the same leaves give the same picture. Being in at one node means being out of all others: there is one place
// per member. Nothing is kept here, no clock is read, and a leaf without a member moves nobody.
package presence

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"kith/internal/event"
)

// How long a tap says something about now.
const (
	Fades  = 20 * time.Hour     // after this the person may well have left unseen
	Forget = 7 * 24 * time.Hour // after this the person is no longer counted
	Ahead  = 5 * time.Minute    // a tap further in the future than this was made by a wrong clock
)

// Tap is what presence must know of one leaf.
type Tap struct {
	Member, Node, Edge string
	Epoch              event.Epoch
	Index              uint64
	At                 int64 // Unix milliseconds, by the edge
	Clock              event.Clock
	Door               string
	Direction          string // in, out, inside (a room of the house), or pass when the reader does not tell
	Granted            bool
}

// Seen is where a member was last.
type Seen struct {
	Member, Node, Edge string
	Epoch              event.Epoch
	Index              uint64
	At                 int64
	Clock              event.Clock
	Door               string
	Direction          string
	Received           int64 // when the hub took the tap in, Unix milliseconds by its own clock; 0: nobody knows
	Arrival            int64 // grows with every tap that arrives
}

// Of says what a tap tells: nothing when it was refused or names nobody.
func Of(t Tap) (Seen, bool) {
	if !t.Granted || t.Member == "" {
		return Seen{}, false
	}
	return Seen{Member: t.Member, Node: t.Node, Edge: t.Edge, Epoch: t.Epoch, Index: t.Index, At: t.At, Clock: t.Clock, Door: t.Door,
		Direction: t.Direction}, true
}

// Counts is the time from which a tap counts, Unix milliseconds: the edge's own, but never later than its arrival, and the
// arrival where the edge did not know the time. So an edge that catches up on last week moves nobody, and one whose clock runs
// ahead, or lies, can say of a person no more than any edge can: that the person was seen there just now. The next tap
// elsewhere has the last word again.
func (s Seen) Counts() int64 {
	switch {
	case s.Received == 0:
		return s.At
	case s.Clock != event.Synced:
		return s.Received
	}
	return min(s.At, s.Received)
}

// Newer is a strict total order over taps of one member: by the time from which they count, then by arrival, then by address.
// Each tap has its rank alone, whatever it is compared with; so folding in any order ends at the same tap.
func Newer(a, b Seen) bool {
	if c := cmp.Compare(a.Counts(), b.Counts()); c != 0 {
		return c > 0
	}
	if c := cmp.Compare(a.Arrival, b.Arrival); c != 0 {
		return c > 0
	}
	if c := cmp.Compare(a.Node, b.Node); c != 0 {
		return c > 0
	}
	if c := cmp.Compare(a.Edge, b.Edge); c != 0 {
		return c > 0
	}
	if c := bytes.Compare(a.Epoch[:], b.Epoch[:]); c != 0 {
		return c > 0
	}
	return a.Index > b.Index
}

// Doubt says why a place is not certain; empty means no known doubt.
type Doubt string

// Doubts, from the weakest to the strongest.
const (
	Certain  Doubt = ""
	NoExit   Doubt = "no-exit"  // the reader does not tell in from out: the person was seen here, and may have left
	LongAgo  Doubt = "long-ago" // no tap for longer than Fades
	BadClock Doubt = "clock"    // the edge did not know the time, or its time lies in the future
)

// Person is one who is in.
type Person struct {
	Member string
	Node   string
	Door   string
	At     int64 // from when the last tap counts, Unix milliseconds
	Doubt  Doubt
}

// In judges one member's last tap now: the person, and whether to count the person as in.
func In(s Seen, now time.Time) (Person, bool) {
	at := s.Counts()
	age := now.Sub(time.UnixMilli(at))
	p := Person{Member: s.Member, Node: s.Node, Door: s.Door, At: at}
	if s.Direction == "out" || age > Forget {
		return p, false
	}
	switch {
	case s.Clock != event.Synced || age < -Ahead || s.At > at+Ahead.Milliseconds():
		p.Doubt = BadClock
	case age > Fades:
		p.Doubt = LongAgo
	case s.Direction != "in" && s.Direction != "inside":
		p.Doubt = NoExit
	}
	return p, true
}

// House is who is in at one node.
type House struct {
	Node    string
	People  []Person // latest tap first
	Certain int      // of them without doubt
}

// Houses sorts everybody's last tap into nodes, by node id.
func Houses(all []Seen, now time.Time) []House {
	by := map[string]*House{}
	for _, s := range all {
		p, ok := In(s, now)
		if !ok {
			continue
		}
		h := by[p.Node]
		if h == nil {
			h = &House{Node: p.Node}
			by[p.Node] = h
		}
		h.People = append(h.People, p)
		if p.Doubt == Certain {
			h.Certain++
		}
	}
	houses := make([]House, 0, len(by))
	for _, h := range by {
		slices.SortFunc(h.People, func(a, b Person) int {
			if c := cmp.Compare(b.At, a.At); c != 0 {
				return c
			}
			return cmp.Compare(a.Member, b.Member)
		})
		houses = append(houses, *h)
	}
	slices.SortFunc(houses, func(a, b House) int { return cmp.Compare(a.Node, b.Node) })
	return houses
}
