// Package presence owns the answer to "who is where", and how sure that answer is.
//
// It is pure: taps go in, places come out. The order of arrival never matters, because each member has one newest tap by
// event time with a fixed rule for ties; so an edge that catches up on last week changes nobody's place today, and after
// a crash the same leaves give the same picture. Being in at one node means being out of all others: there is one place
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
}

// Of says what a tap tells: nothing when it was refused or names nobody.
func Of(t Tap) (Seen, bool) {
	if !t.Granted || t.Member == "" {
		return Seen{}, false
	}
	return Seen{t.Member, t.Node, t.Edge, t.Epoch, t.Index, t.At, t.Clock, t.Door, t.Direction}, true
}

// Newer is a strict total order over taps of one member: by time, then by address. Because it is total, folding in any
// order of arrival ends at the same tap.
func Newer(a, b Seen) bool {
	if c := cmp.Compare(a.At, b.At); c != 0 {
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
	At     int64 // last tap, Unix milliseconds
	Doubt  Doubt
}

// In judges one member's last tap now: the person, and whether to count the person as in.
func In(s Seen, now time.Time) (Person, bool) {
	age := now.Sub(time.UnixMilli(s.At))
	p := Person{Member: s.Member, Node: s.Node, Door: s.Door, At: s.At}
	if s.Direction == "out" || age > Forget {
		return p, false
	}
	switch {
	case s.Clock != event.Synced || age < -Ahead:
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
