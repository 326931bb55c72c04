package audit

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"kith/hub/settlement"
	"kith/internal/event"
)

const carryTitle = "kith-carry v1"

// Where an obligation came from.
const (
	fromLeaf       = "leaf"       // follows from this leaf
	fromCorrection = "correction" // takes back what this leaf has corrected
	fromCommons    = "commons"    // dues or a grant; from no leaf
	fromNovation   = "novation"   // the pool stepped between, when a node left; from no leaf
)

// Source of an obligation.
type Source struct {
	Kind string
	Leaf Address // zero when from no leaf
}

func (s Source) ofLeaf() bool { return s.Kind == fromLeaf || s.Kind == fromCorrection }

// Carry is what one period leaves to the next.
type Carry struct {
	Period      string // that leaves it
	Seal        [32]byte
	Obligations []settlement.Obligation // still open, ascending by ID
	Sources     map[settlement.ID]Source
	Later       []Address // events put off, ascending
	Void        []Address // entries that count nothing any more, ascending; from all periods so far
	Idle        []Address // entries that made no obligation, so that no correction has any to take back, ascending; likewise
	Left        []string  // nodes that have left the network, ascending
	Used        map[nonceKey]settlement.Day
}

func (c *Carry) isIdle(a Address) bool {
	if c == nil {
		return false
	}
	_, here := slices.BinarySearchFunc(c.Idle, a, Address.compare)
	return here
}

func (c *Carry) left(node string) bool {
	if c == nil {
		return false
	}
	_, here := slices.BinarySearch(c.Left, node)
	return here
}

func (c *Carry) used(k nonceKey) (settlement.Day, bool) {
	if c == nil {
		return 0, false
	}
	day, here := c.Used[k]
	return day, here
}

func (c *Carry) isVoid(a Address) bool {
	if c == nil {
		return false
	}
	_, here := slices.BinarySearchFunc(c.Void, a, Address.compare)
	return here
}

func (c *Carry) isLater(a Address) bool {
	if c == nil {
		return false
	}
	_, here := slices.BinarySearchFunc(c.Later, a, Address.compare)
	return here
}

// AppendText appends the canonical text.
func (c *Carry) AppendText(b []byte) []byte {
	b = fmt.Appendf(b, "%s\nperiod %s\nseal %s\n", carryTitle, c.Period, hex.EncodeToString(c.Seal[:]))
	for i := range c.Obligations {
		b = appendObligation(b, &c.Obligations[i], c.Sources[c.Obligations[i].ID])
	}
	for _, a := range c.Later {
		b = fmt.Appendf(b, "later %s %d\n", a.Journal, a.Index)
	}
	for _, a := range c.Void {
		b = fmt.Appendf(b, "void %s %d\n", a.Journal, a.Index)
	}
	for _, a := range c.Idle {
		b = fmt.Appendf(b, "idle %s %d\n", a.Journal, a.Index)
	}
	for _, node := range c.Left {
		b = fmt.Appendf(b, "left %s\n", node)
	}
	for _, k := range slices.SortedFunc(maps.Keys(c.Used), nonceKey.compare) {
		b = fmt.Appendf(b, "used %s %s %d\n", k.edge, k.nonce, c.Used[k])
	}
	return fmt.Appendf(b, "end %d\n", len(c.Obligations))
}

// appendObligation writes one obligation as it stands, with its source.
func appendObligation(b []byte, o *settlement.Obligation, from Source) []byte {
	b = hex.AppendEncode(append(b, "obligation "...), o.ID[:])
	b = append(append(append(append(append(append(b, ' '), o.Debtor...), ' '), o.Creditor...), ' '), o.Unit...)
	for _, v := range []int64{o.Amount, o.Discharged, o.Waived, int64(o.Day)} {
		b = strconv.AppendInt(append(b, ' '), v, 10)
	}
	b = append(append(b, ' '), o.Evidence...)
	b = strconv.AppendInt(append(b, ' '), flag(o.Frozen), 10)
	b = strconv.AppendInt(append(b, ' '), int64(o.Until), 10)
	b = append(append(b, ' '), from.Kind...)
	if from.ofLeaf() {
		b = append(append(b, ' '), from.Leaf.Journal...)
		b = strconv.AppendUint(append(b, ' '), from.Leaf.Index, 10)
	}
	return append(b, '\n')
}

// ParseCarry reads what AppendText writes.
func ParseCarry(file string, text []byte) (*Carry, error) {
	s, err := scan(file, text, carryTitle)
	if err != nil {
		return nil, err
	}
	c := &Carry{Sources: map[settlement.ID]Source{}, Used: map[nonceKey]settlement.Day{}}
	for words := s.next(); words != nil; words = s.next() {
		ok := false
		switch words[0] {
		case "period":
			if ok = len(words) == 2 && event.IsID(words[1]); ok { // it is printed
				c.Period = words[1]
			}
		case "seal":
			if len(words) == 2 {
				c.Seal, ok = digest(words[1])
			}
		case "obligation":
			ok = c.takeObligation(words)
		case "later", "void", "idle":
			var a Address
			if a, ok = parseAddress(words[1:]); !ok {
				break
			}
			list := map[string]*[]Address{"later": &c.Later, "void": &c.Void, "idle": &c.Idle}[words[0]]
			*list = append(*list, a)
		case "left":
			if ok = len(words) == 2 && event.IsID(words[1]); ok {
				c.Left = append(c.Left, words[1])
			}
		case "used":
			ok = c.takeNonce(words)
		case "end":
			ok = s.at == len(s.lines)
		}
		if !ok {
			return nil, s.bad("not a line of what is carried over")
		}
	}
	for _, list := range [][]Address{c.Later, c.Void, c.Idle} {
		slices.SortFunc(list, Address.compare)
	}
	slices.Sort(c.Left)
	if err := (Files{file: text}).same(file, c.AppendText(nil)); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Carry) takeNonce(words []string) bool {
	if len(words) != 4 || !event.IsID(words[1]) {
		return false
	}
	_, err := event.ParseNonce(words[2])
	day, ok := number(words[3])
	c.Used[nonceKey{words[1], words[2]}] = settlement.Day(day)
	return ok && err == nil && day == int64(settlement.Day(day))
}

func (c *Carry) takeObligation(words []string) bool {
	const short, long = 13, 15
	if len(words) != short && len(words) != long {
		return false
	}
	id, ok := digest(words[1])
	var n [4]int64
	for i := range n {
		var fine bool
		n[i], fine = number(words[5+i])
		ok = ok && fine
	}
	until, fine := number(words[11])
	if !ok || !fine || n[3] != int64(settlement.Day(n[3])) || until != int64(settlement.Day(until)) {
		return false
	}
	from := Source{Kind: words[12]}
	if len(words) == long {
		if from.Leaf, ok = parseAddress(words[13:]); !ok {
			return false
		}
	}
	if !from.ofLeaf() && from.Kind != fromCommons && from.Kind != fromNovation || from.ofLeaf() != (len(words) == long) {
		return false
	}
	c.Obligations = append(c.Obligations, settlement.Obligation{ID: id, Debtor: words[2], Creditor: words[3], Unit: words[4], Amount: n[0],
		Discharged: n[1], Waived: n[2], Day: settlement.Day(n[3]), Evidence: settlement.Evidence(words[9]), Frozen: words[10] == "1",
		Until: settlement.Day(until)})
	c.Sources[id] = from
	return true
}

func parseAddress(words []string) (Address, bool) {
	if len(words) != 2 {
		return Address{}, false
	}
	n, ok := number(words[1])
	return Address{Journal: words[0], Index: uint64(n)}, ok && n >= 0
}
