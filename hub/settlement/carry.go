package settlement

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
)

// check holds an obligation to Amount = Discharged + Waived + Open, each at least zero.
func (o *Obligation) check() error {
	switch {
	case !validSlug(o.Debtor) || !validSlug(o.Creditor) || !validSlug(o.Unit) || o.Debtor == o.Creditor:
		return fmt.Errorf("obligation %s: %w", o.ID, ErrName)
	case o.Amount <= 0 || o.Discharged < 0 || o.Waived < 0 || o.Discharged > o.Amount || o.Waived > o.Amount-o.Discharged:
		return fmt.Errorf("obligation %s: %d discharged and %d waived of %d: %w", o.ID, o.Discharged, o.Waived, o.Amount, ErrEvent)
	}
	return nil
}

// Settled returns every obligation of a final period as it ends: with what the final statement discharges, and with what the
// nodes that leave have chosen about the rest. discharged must name obligations that the statement was over and nothing else.
func (p *Period) Settled(discharged map[ID]int64) ([]Obligation, error) {
	if p.State != Final && p.State != Posted {
		return nil, fmt.Errorf("carrying period %q over in %q: %w", p.Name, p.State, ErrState)
	}
	rest := maps.Clone(discharged)
	cleared := map[ID]bool{}
	for _, o := range p.Clearable() {
		cleared[o.ID] = true
	}
	var list []Obligation
	for _, o := range p.Obligations {
		if done, here := rest[o.ID]; here {
			if !cleared[o.ID] || done < 0 || done > o.Open() {
				return nil, fmt.Errorf("discharging %d of obligation %s with %d open: %w", done, o.ID, o.Open(), ErrUnknown)
			}
			o.Discharged += done
			delete(rest, o.ID)
		}
		list = append(list, o)
	}
	for id := range rest {
		return nil, fmt.Errorf("discharging obligation %s: %w", id, ErrUnknown)
	}
	for _, x := range p.Exits {
		var err error
		if list, err = x.Resolve(list); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Carry returns what goes into the next period: everything that [Period.Settled] leaves open, with its own date.
func (p *Period) Carry(discharged map[ID]int64) ([]Obligation, error) {
	list, err := p.Settled(discharged)
	return slices.DeleteFunc(list, func(o Obligation) bool { return o.Open() == 0 }), err
}

// step lets a node go. What the statement discharges is given again: only the rest can be chosen about.
func (in Leave) step(p *Period) error {
	if p.State != Final {
		return fmt.Errorf("%q: %w", p.State, ErrState)
	}
	if !validSlug(in.Exit.Node) || in.Exit.Node == in.Exit.Commons {
		return fmt.Errorf("exit of %q: %w", in.Exit.Node, ErrName)
	}
	if slices.ContainsFunc(p.Exits, func(x Exit) bool { return x.Node == in.Exit.Node }) {
		return fmt.Errorf("exit of %q: it leaves already: %w", in.Exit.Node, ErrDispute)
	}
	p.Exits = append(p.Exits, in.Exit)
	_, err := p.Settled(in.Discharged)
	return err
}

// Remainder says what becomes of one obligation that a leaving node has left over.
type Remainder string

// The choices. Waive is the creditor's alone to say; the others need both parties. Novate needs room in the pool's limits too, for
// which whoever lets the node go has to look.
const (
	ServeInKind Remainder = "serve-in-kind" // stays owed, to be served by the day agreed on; is not cleared any more
	Novate      Remainder = "novate"        // the commons steps between: debtor to commons, commons to creditor
	Waive       Remainder = "waive"
	Freeze      Remainder = "freeze" // stays on the books, is not cleared any more
)

// Choice says what becomes of one obligation. That the nodes in By have said so is the operator's word.
type Choice struct {
	Obligation ID
	Remainder  Remainder
	By         []string // nodes that chose so
	Until      Day      // for ServeInKind: the day agreed on
}

// Exit says which node leaves, and where novated debts go.
type Exit struct {
	Node    string
	Commons string
	Choices []Choice
}

// Resolve answers what is still open after the last cut of a leaving node. What nobody chose about is frozen, so that
// nothing of a node that is gone is cleared. No net position moves except by waiving. What is closed stays as it is.
func (x Exit) Resolve(all []Obligation) ([]Obligation, error) {
	choices := map[ID]Choice{}
	for _, c := range x.Choices {
		if _, twice := choices[c.Obligation]; twice {
			return nil, fmt.Errorf("exit of %q: two choices about %s: %w", x.Node, c.Obligation, ErrDispute)
		}
		choices[c.Obligation] = c
	}
	var list []Obligation
	for _, o := range all {
		if o.Open() == 0 || o.Debtor != x.Node && o.Creditor != x.Node {
			list = append(list, o)
			continue
		}
		c, chosen := choices[o.ID]
		delete(choices, o.ID)
		if !chosen {
			o.Frozen = true
			list = append(list, o)
			continue
		}
		kept, err := x.apply(c, o)
		if err != nil {
			return nil, fmt.Errorf("exit of %q: obligation %s: %w", x.Node, o.ID, err)
		}
		list = append(list, kept...)
	}
	for id := range choices {
		return nil, fmt.Errorf("exit of %q: choice about %s: %w", x.Node, id, ErrUnknown)
	}
	sortObligations(list)
	return list, nil
}

func (x Exit) apply(c Choice, o Obligation) ([]Obligation, error) {
	if !slices.Contains(c.By, o.Creditor) || c.Remainder != Waive && !slices.Contains(c.By, o.Debtor) {
		return nil, fmt.Errorf("%s chosen by %v: %w", c.Remainder, c.By, ErrParty)
	}
	switch c.Remainder {
	case ServeInKind:
		if c.Until < o.Day {
			return nil, fmt.Errorf("due on day %d already: %w", o.Day, ErrEvent)
		}
		o.Until, o.Frozen = c.Until, true
		return []Obligation{o}, nil
	case Waive:
		o.Waived += o.Open()
		return []Obligation{o}, nil
	case Freeze:
		o.Frozen = true
		return []Obligation{o}, nil
	case Novate:
		return x.novate(o)
	}
	return nil, fmt.Errorf("choice %q: %w", c.Remainder, ErrUnknown)
}

// novate discharges the old obligation by two new ones, in which the commons stands between the parties. Where the
// commons is a party already, there is nothing to step between.
func (x Exit) novate(o Obligation) ([]Obligation, error) {
	if !validSlug(x.Commons) || o.Debtor == x.Commons || o.Creditor == x.Commons {
		return nil, fmt.Errorf("commons %q: %w", x.Commons, ErrParty)
	}
	part := func(which, debtor, creditor string) Obligation {
		b := append([]byte("kith novation v1\n"), o.ID[:]...)
		return Obligation{ID: sha256.Sum256(append(append(b, which...), '\n')), Debtor: debtor, Creditor: creditor,
			Unit: o.Unit, Amount: o.Open(), Day: o.Day, Evidence: o.Evidence}
	}
	in, out := part("in", o.Debtor, x.Commons), part("out", x.Commons, o.Creditor)
	o.Discharged += o.Open()
	return []Obligation{o, in, out}, nil
}
