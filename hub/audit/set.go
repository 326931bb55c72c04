package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"kith/hub/ledger"
	"kith/hub/settlement"
	"kith/internal/event"
)

// Ground is what a period stands on.
type Ground struct {
	Network  *Network
	Policy   *Policy
	Previous *settlement.Cut // nil before the first period
	Cut      *settlement.Cut
	Opening  *Carry // nil before the first period
	Shown    []Shown

	sizes map[string]uint64 // of the previous cut
}

// Set is what follows from the ground: the obligations of a period, and what made none.
type Set struct {
	Obligations []settlement.Obligation // ascending by ID, carried ones included
	Sources     map[settlement.ID]Source
	Fresh       map[settlement.ID]bool // not carried
	Asides      []settlement.Aside
	Later, Void []Address // for the next period
	Idle        []Address
	Left        []string
	Used        map[nonceKey]settlement.Day

	unsure map[settlement.ID]bool // the edge's clock was not trusted then
}

// ErrDerive is wrapped by what keeps a set from being derived.
var ErrDerive = errors.New("obligations do not follow")

// Derive makes the set of a period.
func (g *Ground) Derive() (*Set, error) {
	g.sizes = map[string]uint64{}
	if g.Previous != nil {
		for _, c := range g.Previous.Checkpoints {
			g.sizes[c.Journal] = c.Size
		}
	}
	r := &reading{network: g.Network, opening: g.Opening, before: g.before}
	if g.Previous != nil {
		r.oldest = g.Previous.Day - NonceDays
	}
	if err := r.read(slices.Clone(g.Shown)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDerive, err)
	}
	events, later := r.offered()
	p := &g.Policy.Settlement
	d, err := settlement.Derive(p, g.Previous, g.Cut, events, later)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDerive, err)
	}
	s := &Set{Sources: map[settlement.ID]Source{}, Fresh: map[settlement.ID]bool{},
		unsure: map[settlement.ID]bool{}, Asides: append(r.asides, d.Asides...)}
	for _, list := range [][]settlement.Event{events, later} {
		for i := range list {
			at := Address{list[i].Journal, list[i].Index}
			id := obligationID(at, p.Version)
			s.Sources[id], s.unsure[id] = Source{Kind: fromLeaf, Leaf: at}, r.entries[at].leaf.Clock == event.Unsure
		}
	}
	list := d.Obligations
	for _, b := range r.backs {
		if o, ok := g.takeBack(b); ok {
			list = append(list, o)
			s.Sources[o.ID], s.unsure[o.ID] = Source{Kind: fromCorrection, Leaf: b.by.at}, b.by.leaf.Clock == event.Unsure
		}
	}
	if list, err = g.Policy.Pool.Join(p, g.Cut, list, split); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDerive, err)
	}
	return s, s.fill(g, list, d.Later, r)
}

func (g *Ground) before(a Address) bool {
	return a.Index < g.sizes[a.Journal]
}

// fill joins what is new to what is carried, and notes what the next period must know.
func (s *Set) fill(g *Ground, list []settlement.Obligation, later []settlement.Event, r *reading) error {
	for i := range list {
		o := &list[i]
		s.Fresh[o.ID] = true
		if _, known := s.Sources[o.ID]; known {
			continue
		}
		if o.Debtor != g.Policy.Pool.Commons && o.Creditor != g.Policy.Pool.Commons {
			return fmt.Errorf("%w: obligation %s has no source", ErrDerive, o.ID)
		}
		s.Sources[o.ID] = Source{Kind: fromCommons}
	}
	s.Obligations = slices.Clone(list)
	if g.Opening != nil {
		for _, o := range g.Opening.Obligations {
			if s.Fresh[o.ID] {
				return fmt.Errorf("%w: obligation %s is carried and new at once", ErrDerive, o.ID)
			}
			s.Sources[o.ID] = g.Opening.Sources[o.ID]
		}
		s.Obligations = append(s.Obligations, g.Opening.Obligations...)
	}
	slices.SortFunc(s.Obligations, func(a, b settlement.Obligation) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	slices.SortFunc(s.Asides, compareAsides)
	for _, e := range later {
		s.Later = append(s.Later, Address{e.Journal, e.Index})
	}
	s.remember(g, r)
	return nil
}

// remember gathers what later periods must know of all entries so far.
func (s *Set) remember(g *Ground, r *reading) {
	s.Void = slices.Collect(maps.Keys(r.void))
	for _, a := range s.Asides {
		if idle(string(a.Why)) {
			s.Idle = append(s.Idle, Address{a.Journal, a.Index})
		}
	}
	s.Used = maps.Clone(r.used)
	if o := g.Opening; o != nil {
		s.Void, s.Idle, s.Left = append(s.Void, o.Void...), append(s.Idle, o.Idle...), slices.Clone(o.Left)
		for k, day := range o.Used {
			s.Used[k] = day
		}
		for _, a := range o.Later { // an entry that was put off waits until it is shown: it cannot be dropped by hiding it
			if _, shown := r.entries[a]; !shown {
				s.Later = append(s.Later, a)
			}
		}
	}
	s.Later = sorted(s.Later)
	maps.DeleteFunc(s.Used, func(_ nonceKey, day settlement.Day) bool { return day < g.Cut.Day-NonceDays })
	s.Void, s.Idle = sorted(s.Void), sorted(s.Idle)
}

func sorted(list []Address) []Address {
	slices.SortFunc(list, Address.compare)
	return slices.Compact(list)
}

// idle says whether an entry that stands aside could be taken for one that made an obligation, when it is seen again
// beside a correction.
func idle(why string) bool {
	switch why {
	case string(settlement.WhyCapped), string(settlement.WhyNoPrice), whyTwin, whyNoTarget, whyTwice, whyStranger, whyUsed, whyOld, whyLeft:
		return true
	}
	return false
}

// takeBack makes the obligation that undoes an entry of an earlier period: the same at today's price, the other way.
func (g *Ground) takeBack(b back) (settlement.Obligation, bool) {
	e := &b.old.event
	price, counted := g.Policy.Settlement.Prices[e.Action][e.Resource]
	if !counted || e.Home == e.Place || e.Quantity == 0 {
		return settlement.Obligation{}, false
	}
	o := settlement.Obligation{Debtor: e.Place, Creditor: e.Home, Unit: price.Unit, Amount: e.Quantity * price.Each, // < 2^60 by both bounds
		Day: min(b.by.event.Day, g.Cut.Day), Evidence: b.by.event.Evidence}
	if e.Action == settlement.Work || e.Action == settlement.DeliverService {
		o.Debtor, o.Creditor = o.Creditor, o.Debtor
	}
	o.ID = derivedID("kith correction v1\n", b.by.at, g.Policy.Settlement.Version)
	return o, true
}

// obligationID is the identity that settlement gives the obligation of a leaf (docs/FORMATS.md, "Settlement").
func obligationID(a Address, version string) settlement.ID {
	return derivedID("kith obligation v1\n", a, version)
}

func derivedID(domain string, a Address, version string) settlement.ID {
	b := append([]byte(domain), a.Journal...)
	b = strconv.AppendUint(append(b, '\n'), a.Index, 10)
	b = append(append(b, '\n'), version...)
	return sha256.Sum256(append(b, '\n'))
}

func split(total int64, weights []int64, event [32]byte) ([]int64, error) {
	return ledger.SplitByWeight(total, weights, event)
}

// appendText writes the set as a file.
func (s *Set) appendText(b []byte) []byte {
	b = append(b, "kith-obligations v1\n"...)
	for i := range s.Obligations {
		b = appendObligation(b, &s.Obligations[i], s.Sources[s.Obligations[i].ID])
	}
	return fmt.Appendf(b, "end %d\n", len(s.Obligations))
}

func (s *Set) appendAsides(b []byte) []byte {
	b = append(b, "kith-asides v1\n"...)
	for _, a := range s.Asides {
		b = fmt.Appendf(b, "aside %s %d %s\n", a.Journal, a.Index, a.Why)
	}
	return fmt.Appendf(b, "end %d\n", len(s.Asides))
}
