package advice

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"kith/internal/event"
)

// Limits of one case.
const (
	MaxNodes    = 1_000   // houses
	MaxThings   = 100_000 // kinds of things, counted at each house
	MaxPromises = 10_000  // commitments in force
	MaxPeople   = 1 << 20 // people in all houses together; beds of one house
	MaxParts    = 1 << 40 // of one kind at one house, and in one promise
	MaxDays     = 100_000 // of one period
	maxName     = 80      // bytes of a house's name in a reason
)

// Do is what a line of advice proposes.
type Do string

// The proposals. What ValueFlows calls their action is in [Do.Action].
const (
	Place Do = "place" // people of the receiver's house sleep at the provider's
	Lend  Do = "lend"  // things go from the provider's house to the receiver's
	Offer Do = "offer" // the provider hosts more of the network's visitors
)

// Action is the verb of ValueFlows that a commitment of this kind promises.
func (d Do) Action() string {
	if d == Lend {
		return string(event.KindTransferCustody)
	}
	return string(event.KindUse)
}

// Days is for how many days after its own a commitment of this kind is counted.
func (d Do) Days() int32 {
	if d == Place {
		return 1
	}
	return 30
}

// Night is the measure of beds.
const Night = "night"

// Node is one house as it is now.
type Node struct {
	ID, Name string
	Beds     int64  // all that the catalogue counts by night; 0: not known, and not advised on
	Offered  int64  // of them to members of other houses
	Bed      string // kind of the offered ones
	In       int64  // people, counted as in
	Visitors int64  // of them members of other houses
}

// Thing is one kind of thing at one house, with what was done with it in the running period.
type Thing struct {
	Node, Kind, Measure string
	Count               int64 // how many there are; 0: not known
	Offered, Lendable   bool  // to members of other houses; may leave the house
	Used, Hosted        int64 // parts of Measure, by everybody and by members of other houses
}

// Promise is a commitment in force. Had is what its receiving side had when it was made: visitors there, things there, or
// what the provider had hosted. What came since keeps the promise.
type Promise struct {
	Do                 Do
	Kind               string
	Provider, Receiver string
	Quantity, Had      int64
}

// Case is everything that is known. The order of its lists does not matter, but for promises: the oldest first.
type Case struct {
	Seed     []byte // ties are drawn from it; what nobody can choose, such as the roots of a cut
	Day      int32  // days since 1970-01-01
	Days     int64  // of the running period so far, from 1
	Nodes    []Node
	Things   []Thing
	Promises []Promise
}

// Item is one line of advice. Its ID stays while day, kind and houses are the same; its quantity follows the present.
type Item struct {
	ID       string `json:"id"`
	Do       Do     `json:"do"`
	Kind     string `json:"resource"`
	Measure  string `json:"measure"`
	Provider string `json:"provider"`
	Receiver string `json:"receiver,omitempty"`
	Quantity int64  `json:"quantity"`
	Had      int64  `json:"had"`
	Reason   string `json:"reason"`
}

// Unmet is what nothing can be advised for.
type Unmet struct {
	Node     string `json:"node"`
	Quantity int64  `json:"quantity"`
	Reason   string `json:"reason"`
}

// Quota is a house's share of what all houses host of one kind.
type Quota struct {
	Node    string `json:"node"`
	Kind    string `json:"resource"`
	Measure string `json:"measure"`
	Hosted  int64  `json:"hosted"`
	Quota   int64  `json:"quota"`
	Reason  string `json:"reason"`
}

// Advice is the answer to a case.
type Advice struct {
	Items  []Item  `json:"items"`
	Unmet  []Unmet `json:"unmet,omitempty"`  // people who are over, and for whom no bed is left
	Quotas []Quota `json:"quotas,omitempty"` // by kind and house
}

// desk is a case in the making: all by id, promises counted.
type desk struct {
	*Case
	nodes []Node // ascending by id
	names map[string]string
	out   Advice
}

// Advise answers a case.
func Advise(c *Case) (*Advice, error) {
	d := &desk{Case: c, nodes: slices.Clone(c.Nodes), names: map[string]string{}, out: Advice{Items: []Item{}}}
	if err := d.check(); err != nil {
		return nil, err
	}
	slices.SortFunc(d.nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	for _, step := range []func() error{d.people, d.things, d.quotas} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(d.out.Items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(rank(a.Do), rank(b.Do)), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Provider, b.Provider), strings.Compare(a.Receiver, b.Receiver))
	})
	return &d.out, nil
}

func rank(d Do) int { return slices.Index([]Do{Place, Lend, Offer}, d) }

func (d *desk) check() error {
	if len(d.nodes) > MaxNodes || len(d.Things) > MaxThings || len(d.Promises) > MaxPromises || d.Day < 0 || d.Days < 1 || d.Days > MaxDays {
		return fmt.Errorf("%d houses, %d things, %d promises on day %d of %d: %w (at most %d, %d and %d)",
			len(d.nodes), len(d.Things), len(d.Promises), d.Day, d.Days, ErrCase, MaxNodes, MaxThings, MaxPromises)
	}
	people := int64(0)
	for _, n := range d.nodes {
		if !event.IsID(n.ID) || d.names[n.ID] != "" || !within(MaxPeople, n.Beds, n.Offered, n.In, n.Visitors) || n.Offered > n.Beds || n.Visitors > n.In ||
			n.Offered > 0 && !event.IsID(n.Bed) {
			return fmt.Errorf("house %.60q with %d of %d beds offered and %d of %d people visiting: %w", n.ID, n.Offered, n.Beds, n.Visitors, n.In, ErrCase)
		}
		people += n.In
		d.names[n.ID] = called(n)
	}
	if people > MaxPeople {
		return fmt.Errorf("%d people: %w (at most %d)", people, ErrCase, MaxPeople)
	}
	seen := map[[2]string]string{}
	for _, t := range d.Things {
		key := [2]string{t.Node, t.Kind}
		if d.names[t.Node] == "" || !event.IsID(t.Kind) || !event.IsID(t.Measure) || seen[key] != "" || !within(MaxParts, t.Count, t.Used, t.Hosted) || t.Hosted > t.Used {
			return fmt.Errorf("%d of %.60q at %.60q, used %d, by visitors %d: %w", t.Count, t.Kind, t.Node, t.Used, t.Hosted, ErrCase)
		}
		seen[key] = t.Measure
	}
	for _, p := range d.Promises {
		if rank(p.Do) < 0 || !within(MaxParts, p.Quantity, p.Had) {
			return fmt.Errorf("a promise to %.20q %d of %.60q: %w", p.Do, p.Quantity, p.Kind, ErrCase)
		}
	}
	return nil
}

func within(most int64, values ...int64) bool {
	for _, v := range values {
		if v < 0 || v > most {
			return false
		}
	}
	return true
}

// called is a house's name, fit for a line of text that is signed.
func called(n Node) string {
	name := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			return -1
		}
		return r
	}, n.Name)
	for len(name) > maxName {
		name = name[:len(name)-1]
	}
	if name = strings.TrimSpace(strings.ToValidUTF8(name, "")); name == "" {
		return n.ID
	}
	return name
}

// open is how much of the promises of one kind to one place is still to come. pick says which promises those are; now is
// what that place has. Older promises are kept first.
func open(promises []Promise, pick func(*Promise) bool, now int64) []int64 {
	list := make([]int64, len(promises))
	came, first := int64(0), true
	for i := range promises {
		p := &promises[i]
		if !pick(p) {
			continue
		}
		if first {
			came, first = max(0, now-p.Had), false
		}
		kept := min(came, p.Quantity)
		came -= kept
		list[i] = p.Quantity - kept
	}
	return list
}

func (d *desk) add(i Item) {
	sum := sha256.Sum256(fmt.Appendf(nil, "kith advice v1\n%d %s %s %s %s\n", d.Day, i.Do, i.Kind, i.Provider, i.Receiver))
	i.ID = hex.EncodeToString(sum[:8])
	d.out.Items = append(d.out.Items, i)
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
