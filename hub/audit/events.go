package audit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"kith/hub/settlement"
	"kith/internal/event"
	"kith/internal/wire"
)

// Address names one leaf.
type Address struct {
	Journal string
	Index   uint64
}

func (a Address) compare(b Address) int {
	return cmp.Or(cmp.Compare(a.Journal, b.Journal), cmp.Compare(a.Index, b.Index))
}

// Why an entry was not even offered to the derivation.
const (
	whyUnreadable = "unreadable"       // an economic kind with a body that this program cannot read
	whyStranger   = "unknown-home"     // the member's home is no node of this network
	whyTwin       = "carried-twice"    // carried over from a lost branch, and here already
	whyCorrected  = "corrected"        // a later entry stands in its place
	whyTakenBack  = "taken-back"       // a correction to nothing
	whyNoTarget   = "corrects-nothing" // names no entry of this edge
	whyTwice      = "corrects-twice"   // names an entry that was corrected already, or found void
	whyUsed       = "nonce-used"       // what a card signed for one entry of this edge stands in a second one
	whyOld        = "too-old"          // so old that a second use of its nonce would not be known any more
	whyLeft       = "node-left"        // the place or the member's home has left the network
)

// NonceDays is how long a nonce is remembered, by the day of its entry. A card's signature covers that day, so that a copy
// bears it too: what is older than this is not taken with a nonce at all.
const NonceDays = 400

// nonceKey names one use of a card. The card is not named in public; but its signature covers the edge, so that a copy which
// could be right stands at the same edge. Another house cannot spoil an entry by repeating its nonce.
type nonceKey struct{ edge, nonce string }

func (k nonceKey) compare(o nonceKey) int {
	return cmp.Or(cmp.Compare(k.edge, o.edge), cmp.Compare(k.nonce, o.nonce))
}

// entry is one economic fact, wherever it stands.
type entry struct {
	at    Address
	leaf  event.Leaf // the original, for one that was carried over
	body  event.Entry
	event settlement.Event
}

// back is an entry of an earlier period that a correction takes back.
type back struct {
	old *entry
	by  *entry
}

// reading is what the leaves of a period say.
type reading struct {
	network *Network
	opening *Carry
	before  func(Address) bool // below the previous cut
	oldest  settlement.Day     // an entry of an earlier day is not taken with a nonce

	entries map[Address]*entry
	alias   map[Address]Address // where the leaf of a lost branch stands now
	out     map[Address]bool    // not offered
	twin    map[Address]bool    // carried over, and here already
	asides  []settlement.Aside
	void    map[Address]bool
	backs   []back
	used    map[nonceKey]settlement.Day // nonces of this period
}

// Economic says whether a leaf is one that a bundle must show.
func Economic(line []byte) bool {
	if !bytes.Contains(line, []byte(`"resource":"`)) && !bytes.Contains(line, []byte(`\"resource\":\"`)) {
		return false // cheap, and right for every economic body: most leaves are taps
	}
	l, err := event.Parse(line)
	if err != nil {
		return false
	}
	_, inner := original(&l)
	return l.Kind.IsEntry() || inner
}

// original returns the leaf that a replayed leaf carries, when that is an economic one.
func original(l *event.Leaf) (event.Leaf, bool) {
	if l.Kind != event.KindReplayed {
		return event.Leaf{}, false
	}
	var r event.Replayed
	if json.Unmarshal(l.Body, &r) != nil {
		return event.Leaf{}, false
	}
	inner, err := event.Parse([]byte(r.Leaf))
	if err != nil || !inner.Kind.IsEntry() || inner.Node != l.Node || inner.Edge != l.Edge || inner.Network != l.Network {
		return event.Leaf{}, false
	}
	return inner, true
}

// Target returns the address that an economic leaf corrects, so that a bundle can show that one too.
func Target(line []byte) (Address, bool) {
	l, err := event.Parse(line)
	if err != nil {
		return Address{}, false
	}
	if inner, ok := original(&l); ok {
		l = inner
	}
	body, err := event.ParseEntry(l.Kind, l.Body)
	if err != nil {
		return Address{}, false
	}
	return target(&l, &body)
}

func target(l *event.Leaf, e *event.Entry) (Address, bool) {
	epoch, index, ok := e.Corrected()
	return Address{Journal: wire.Origin(l.Network, l.Node, l.Edge, epoch), Index: index}, ok
}

// read brings the shown leaves, in the order of their addresses, into what can be settled.
func (r *reading) read(shown []Shown) error {
	r.entries, r.alias = map[Address]*entry{}, map[Address]Address{}
	r.out, r.twin, r.void = map[Address]bool{}, map[Address]bool{}, map[Address]bool{}
	slices.SortFunc(shown, func(a, b Shown) int { return a.address().compare(b.address()) })
	for i := range shown {
		if err := r.take(&shown[i]); err != nil {
			return err
		}
	}
	for old, at := range r.alias {
		if e, carried := r.entries[old], r.entries[at]; e != nil && carried != nil && e.event.Journal == old.Journal && sameEntry(e, carried) {
			r.set(at, whyTwin)
			r.twin[at] = true
			r.alias[old] = old
		}
	}
	r.refuseCopies(shown)
	for i := range shown {
		if e, here := r.entries[shown[i].address()]; here && !r.before(e.at) && !r.out[e.at] {
			r.correct(e)
		}
	}
	return nil
}

// refuseCopies sets aside every entry whose nonce was used before: in an earlier period, or at a lower address in this one.
// What was carried over from a lost branch and is here already is no second use.
func (r *reading) refuseCopies(shown []Shown) {
	r.used = map[nonceKey]settlement.Day{}
	for i := range shown {
		e, here := r.entries[shown[i].address()]
		if !here || r.before(e.at) || e.body.Nonce == "" || r.twin[e.at] {
			continue
		}
		key := nonceKey{e.leaf.Edge, e.body.Nonce}
		_, now := r.used[key]
		_, earlier := r.opening.used(key)
		switch {
		case now || earlier:
			r.set(e.at, whyUsed)
			continue
		case r.oldest > e.event.Day:
			r.set(e.at, whyOld)
		}
		r.used[key] = e.event.Day
	}
}

func (s *Shown) address() Address { return Address{s.Journal, s.Index} }

func sameEntry(a, b *entry) bool {
	return bytes.Equal(a.leaf.Body, b.leaf.Body) && a.leaf.Kind == b.leaf.Kind
}

// take reads one leaf. A line that is none, or is not of this place in this journal, is hashed like any other and counts
// nothing: the hub kept it as it came.
func (r *reading) take(s *Shown) error {
	l, err := event.Parse(s.Line)
	if err != nil || l.Index != s.Index || wire.Origin(l.Network, l.Node, l.Edge, l.Epoch) != s.Journal {
		return nil
	}
	at := s.address()
	if inner, ok := original(&l); ok {
		r.alias[Address{wire.Origin(inner.Network, inner.Node, inner.Edge, inner.Epoch), inner.Index}] = at
		l = inner
	}
	if !l.Kind.IsEntry() {
		return nil
	}
	body, err := event.ParseEntry(l.Kind, l.Body)
	if err != nil {
		r.set(at, whyUnreadable)
		return nil
	}
	if body.Day != int(settlement.Day(body.Day)) {
		return fmt.Errorf("the day of %s %d does not fit", s.Journal, s.Index)
	}
	r.entries[at] = &entry{at: at, leaf: l, body: body, event: settlement.Event{Journal: at.Journal, Index: at.Index,
		Action: settlement.Action(l.Kind), Resource: body.Resource, Quantity: body.Quantity, Place: l.Node, Home: body.Home,
		Day: settlement.Day(body.Day), Evidence: settlement.Evidence(body.Evidence)}}
	switch {
	case !r.network.hasNode(body.Home):
		r.set(at, whyStranger)
	case r.opening.left(l.Node) || r.opening.left(body.Home):
		r.set(at, whyLeft)
	}
	return nil
}

// set keeps an entry from being offered; the first reason stands. What was said in an earlier period is not said again,
// unless it was put off then.
func (r *reading) set(at Address, why string) {
	if r.out[at] {
		return
	}
	r.out[at] = true
	if !r.before(at) || r.opening.isLater(at) {
		r.asides = append(r.asides, settlement.Aside{Journal: at.Journal, Index: at.Index, Why: settlement.Why(why)})
	}
}

// correct carries out what an entry says about an older one. The old one counts nothing from then on; when it was settled
// in an earlier period, it is taken back at the prices that its replacement has.
func (r *reading) correct(e *entry) {
	old, ok := target(&e.leaf, &e.body)
	if !ok {
		return
	}
	if at, moved := r.alias[old]; moved {
		old = at
	}
	was, here := r.entries[old]
	switch {
	case !here || was == e:
		r.set(e.at, whyNoTarget)
		return
	case r.void[old] || r.opening.isVoid(old):
		r.set(e.at, whyTwice)
		return
	}
	r.void[old] = true
	switch {
	case !r.before(old), r.opening.isLater(old):
		r.set(old, whyCorrected)
	case !r.out[old] && !r.opening.isIdle(old):
		r.backs = append(r.backs, back{old: was, by: e})
	}
	if e.body.Quantity == 0 {
		r.set(e.at, whyTakenBack)
	}
}

// offered returns the events of the period, and those that the previous period put off.
func (r *reading) offered() (events, later []settlement.Event) {
	for at, e := range r.entries {
		switch {
		case r.out[at]:
		case !r.before(at):
			events = append(events, e.event)
		case r.opening.isLater(at):
			later = append(later, e.event)
		}
	}
	return events, later
}

func compareAsides(a, b settlement.Aside) int {
	return cmp.Or(cmp.Compare(a.Journal, b.Journal), cmp.Compare(a.Index, b.Index), cmp.Compare(a.Why, b.Why))
}
