package settlement

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// ID names an obligation.
type ID [32]byte

// String returns the ID as 64 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Evidence says how well an event is proven.
type Evidence string

// The classes of evidence.
const (
	TwoSided  Evidence = "A" // the member's card signed for this reader
	Confirmed Evidence = "B" // host and member both said so
	OneSided  Evidence = "C" // a bare card number, or one side's word
)

// Action is what an event did, in the words of ValueFlows.
type Action string

// The actions that make nodes owe each other. All others are kept in the service log alone.
const (
	Work           Action = "work"            // done at the place by a member of another home
	DeliverService Action = "deliver-service" // the same, by result instead of by time
	Use            Action = "use"             // of something at the place
	Consume        Action = "consume"
)

// Event is the public part of an economic leaf, as far as settlement needs it.
type Event struct {
	Journal  string
	Index    uint64
	Action   Action
	Resource string // kind
	Quantity int64  // in the smallest part of the resource's own measure
	Place    string // node where it happened
	Home     string // node of the member
	Day      Day    // by the edge's clock
	Evidence Evidence
}

// Price says what one part of a resource kind counts in which unit. It is a whole number, so that no event is rounded.
type Price struct {
	Unit string
	Each int64
}

// Policy is what the rules in force say about one period.
type Policy struct {
	Version string // slug; enters every identity
	Hash    [32]byte
	Prices  map[Action]map[string]Price
	HoldC   bool             // one-sided events wait, until a policy takes them or an entry with more evidence corrects them
	CapC    map[string]int64 // most that one-sided events of one home at one place may add per unit; absent: no cap
}

// Obligation is what one node owes another. Amount = Discharged + Waived + Open().
type Obligation struct {
	ID         ID
	Debtor     string
	Creditor   string
	Unit       string
	Amount     int64
	Discharged int64
	Waived     int64
	Day        Day
	Evidence   Evidence
	Frozen     bool // of a node that left; not cleared any more
	Until      Day  // by when a frozen one is to be served in kind; 0 when that was not agreed
}

// Open returns what is still owed.
func (o *Obligation) Open() int64 { return o.Amount - o.Discharged - o.Waived }

// Aside names an event that made no obligation in this period, and why.
type Aside struct {
	Journal string
	Index   uint64
	Why     Why
}

// Why an event stands aside.
type Why string

// WhyLater and WhyHeld come back with the next period, as they are: what a leaf says never changes. A held event is taken up once
// the policy in force holds none, or gives way to a later entry that corrects it with more evidence.
const (
	WhyHome    Why = "same-home"   // the member's own house
	WhyNoPrice Why = "no-price"    // the policy does not count it
	WhyHeld    Why = "held"        // one-sided, and the policy holds those
	WhyCapped  Why = "capped"      // one-sided, past the cap of the period
	WhyLater   Why = "dated-later" // the edge's clock was ahead; taken up in the next period
)

// Derived is what the events of one period come to.
type Derived struct {
	Obligations []Obligation // ascending by ID
	Asides      []Aside      // ascending by journal and index
	Later       []Event      // to be offered again with the next period, in place of their leaves
}

// Derive makes the obligations of the period between two cuts. Events are those of the journals, in any order; what lies
// below the previous cut was settled then, and what lies above this cut is not looked at. later are the events that the
// previous period put off.
func Derive(policy *Policy, previous, cut *Cut, events, later []Event) (*Derived, error) {
	if len(events)+len(later) > MaxEvents {
		return nil, fmt.Errorf("deriving from %d events: %w (at most %d)", len(events)+len(later), ErrEvent, MaxEvents)
	}
	if err := policy.check(); err != nil {
		return nil, err
	}
	var mine []Event
	for _, e := range events {
		if cut.covers(e.Journal, e.Index) && !previous.covers(e.Journal, e.Index) {
			mine = append(mine, e)
		}
	}
	mine = append(mine, later...)
	slices.SortFunc(mine, compareEvents)
	d := &Derived{}
	caps := map[[3]string]int64{}
	for i := range mine {
		e := &mine[i]
		if i > 0 && mine[i-1].Journal == e.Journal && mine[i-1].Index == e.Index {
			if mine[i-1] != *e {
				return nil, fmt.Errorf("deriving from %s/%d: stands with two contents: %w", e.Journal, e.Index, ErrEvent)
			}
			continue
		}
		o, why, err := policy.obligation(e, cut.Day, caps)
		if err != nil {
			return nil, fmt.Errorf("deriving from %s/%d: %w", e.Journal, e.Index, err)
		}
		if why == "" {
			d.Obligations = append(d.Obligations, o)
			continue
		}
		d.Asides = append(d.Asides, Aside{Journal: e.Journal, Index: e.Index, Why: why})
		if why == WhyLater || why == WhyHeld {
			d.Later = append(d.Later, *e)
		}
	}
	sortObligations(d.Obligations)
	return d, nil
}

func compareEvents(a, b Event) int {
	return cmp.Or(cmp.Compare(a.Journal, b.Journal), cmp.Compare(a.Index, b.Index))
}

func sortObligations(list []Obligation) {
	slices.SortFunc(list, func(a, b Obligation) int { return bytes.Compare(a.ID[:], b.ID[:]) })
}

func (p *Policy) check() error {
	if !validSlug(p.Version) {
		return fmt.Errorf("policy version %q: %w", p.Version, ErrName)
	}
	for action, kinds := range p.Prices {
		for kind, price := range kinds {
			if !validSlug(string(action)) || !validSlug(kind) || !validSlug(price.Unit) || price.Each <= 0 {
				return fmt.Errorf("price of %s %q: %w", action, kind, ErrPolicy)
			}
		}
	}
	return nil
}

// obligation decides one event. The member's home answers for what the member took elsewhere; the place answers for what
// a member of another home did for it.
func (p *Policy) obligation(e *Event, cut Day, caps map[[3]string]int64) (Obligation, Why, error) {
	if !validOrigin(e.Journal) || !validSlug(e.Place) || !validSlug(e.Home) || e.Quantity <= 0 || e.Day < 0 {
		return Obligation{}, "", ErrEvent
	}
	price, counted := p.Prices[e.Action][e.Resource]
	switch {
	case e.Evidence != TwoSided && e.Evidence != Confirmed && e.Evidence != OneSided:
		return Obligation{}, "", fmt.Errorf("evidence %q: %w", e.Evidence, ErrEvent)
	case e.Home == e.Place:
		return Obligation{}, WhyHome, nil
	case !counted:
		return Obligation{}, WhyNoPrice, nil
	case e.Day > cut:
		return Obligation{}, WhyLater, nil
	case e.Evidence == OneSided && p.HoldC:
		return Obligation{}, WhyHeld, nil
	case e.Quantity > math.MaxInt64/price.Each:
		return Obligation{}, "", fmt.Errorf("%d at %d each: %w", e.Quantity, price.Each, ErrOverflow)
	}
	o := Obligation{ID: p.identify(e), Debtor: e.Home, Creditor: e.Place, Unit: price.Unit,
		Amount: e.Quantity * price.Each, Day: e.Day, Evidence: e.Evidence}
	if e.Action == Work || e.Action == DeliverService {
		o.Debtor, o.Creditor = o.Creditor, o.Debtor
	}
	if most, capped := p.CapC[price.Unit]; capped && e.Evidence == OneSided {
		key := [3]string{e.Home, e.Place, price.Unit}
		if o.Amount > most-caps[key] {
			return Obligation{}, WhyCapped, nil
		}
		caps[key] += o.Amount
	}
	return o, "", nil
}

// identify derives the identity from the leaf and the rule version: one leaf makes one obligation under one rule.
func (p *Policy) identify(e *Event) ID {
	b := append([]byte("kith obligation v1\n"), e.Journal...)
	b = strconv.AppendUint(append(b, '\n'), e.Index, 10)
	b = append(append(b, '\n'), p.Version...)
	return sha256.Sum256(append(b, '\n'))
}
