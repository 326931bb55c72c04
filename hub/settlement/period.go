package settlement

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// State of a period.
type State string

// The states, in order. A dispute during the challenge leads back from Proposed to Drafted: the set is cleared again
// without the disputed obligation and proposed under the next number.
const (
	Open     State = "open"
	Drafted  State = "cut"      // the line is drawn and the set is fixed
	Proposed State = "proposed" // a statement is out; the challenge window runs
	Final    State = "final"    // for all signers that the terms ask for; nothing can be disputed any more
	Posted   State = "posted"   // booked
)

// Refusals of a step. The period stays as it was.
var (
	ErrState   = errors.New("not in this state")
	ErrWindow  = errors.New("the challenge window is open")
	ErrSigners = errors.New("too few distinct signers")
	ErrUnknown = errors.New("no such obligation or dispute")
	ErrParty   = errors.New("not by the right party")
	ErrDispute = errors.New("already disputed or decided")
)

// Terms of closing, from the policy in force at the cut. Times are Unix seconds.
type Terms struct {
	WindowSeconds int64 // how long a statement can be challenged
	AnswerSeconds int64 // how long a dispute may stay unanswered
	Signers       int   // distinct signers that make a statement final
}

// Proposal is one numbered statement. Earlier ones stay readable beside the one in force.
type Proposal struct {
	Number    int
	Digest    [32]byte // of the statement's text
	At        int64
	Confirmed []string // nodes that said yes early, ascending
	Withdrawn bool     // a dispute made a new number necessary
}

// Outcome of a dispute.
type Outcome string

// The outcomes. An amended obligation is voided here; its correction is a new event with its own leaf.
const (
	Undecided Outcome = ""
	Stand     Outcome = "stand"
	Amend     Outcome = "amend"
	Voided    Outcome = "void"
)

// Dispute takes one obligation out of the set. Note is the digest of the note that names the reason. Nobody signs it: that By said
// so, and Reviewer too, is the operator's word.
type Dispute struct {
	Obligation ID
	By         string
	Note       [32]byte
	At         int64
	Outcome    Outcome
	Reviewer   string // a third node; empty when time decided
	Decision   [32]byte
}

// Period is one settlement on its way. It is a value: Step returns a new one and never changes the old.
type Period struct {
	Name        string // slug, e.g. 2026-11
	State       State
	Terms       Terms
	Cut         *Cut
	Obligations []Obligation // the set as cut, disputed ones included, ascending by ID
	Proposals   []Proposal
	Disputes    []Dispute
	Signed      []string // the signers of the final statement as they were handed in, ascending
	Exits       []Exit   // nodes that leave with this period, in the order in which they were let go
}

// Input is what can happen to a period. The concrete types follow.
type Input interface{ step(p *Period) error }

// DrawLine fixes cut and set.
type DrawLine struct {
	Cut         *Cut
	Obligations []Obligation
}

// Propose puts a statement over [Period.Clearable] out.
type Propose struct {
	Digest [32]byte
	At     int64
}

// Confirm is a node's early yes to the statement in force, by the word of whoever takes the step.
type Confirm struct {
	Number int
	Node   string
}

// Challenge disputes an obligation for its debtor or creditor, by the word of whoever takes the step.
type Challenge struct {
	Obligation ID
	By         string
	Note       [32]byte
	At         int64
}

// Decide answers a dispute for a third node, likewise.
type Decide struct {
	Obligation ID
	Outcome    Outcome
	Reviewer   string
	Note       [32]byte
}

// Lapse decides every dispute that nobody answered in time: what two sides proved stands, what one side said is void.
type Lapse struct{ At int64 }

// Finalise makes the statement in force final. Signers are keys under which whoever takes the step has verified the statement, in
// any order: today the operator's alone.
type Finalise struct {
	Number  int
	Signers []string
	At      int64
}

// Leave lets a node go, after the last statement that it was in is final.
type Leave struct {
	Exit       Exit
	Discharged map[ID]int64 // by that statement
}

// Book says that the final statement stands in the ledger.
type Book struct{}

// Begin opens a period.
func Begin(name string, terms Terms) (*Period, error) {
	if !validSlug(name) || terms.WindowSeconds < 0 || terms.AnswerSeconds < 0 || terms.Signers < 1 {
		return nil, fmt.Errorf("opening period %q: %w", name, ErrPolicy)
	}
	return &Period{Name: name, State: Open, Terms: terms}, nil
}

// Step answers one input with the period as it is afterwards. On a refusal there is none and the old one stands.
func (p *Period) Step(in Input) (*Period, error) {
	next := p.clone()
	if err := in.step(next); err != nil {
		return nil, fmt.Errorf("period %q, %T: %w", p.Name, in, err)
	}
	return next, nil
}

func (p *Period) clone() *Period {
	c := *p
	c.Obligations = slices.Clone(p.Obligations)
	c.Disputes = slices.Clone(p.Disputes)
	c.Signed = slices.Clone(p.Signed)
	c.Exits = slices.Clone(p.Exits)
	c.Proposals = slices.Clone(p.Proposals)
	for i := range c.Proposals {
		c.Proposals[i].Confirmed = slices.Clone(c.Proposals[i].Confirmed)
	}
	return &c
}

// Clearable returns what the next statement is over: everything open that is neither disputed, voided nor frozen.
func (p *Period) Clearable() []Obligation {
	var list []Obligation
	for _, o := range p.Obligations {
		if d := p.dispute(o.ID); o.Open() > 0 && !o.Frozen && (d == nil || d.Outcome == Stand) {
			list = append(list, o)
		}
	}
	return list
}

// InForce returns the statement that is out, nil before the first and after one was withdrawn.
func (p *Period) InForce() *Proposal {
	if n := len(p.Proposals); n > 0 && !p.Proposals[n-1].Withdrawn {
		return &p.Proposals[n-1]
	}
	return nil
}

func (p *Period) find(id ID) *Obligation {
	i, here := slices.BinarySearchFunc(p.Obligations, id, func(o Obligation, id ID) int { return bytes.Compare(o.ID[:], id[:]) })
	if !here {
		return nil
	}
	return &p.Obligations[i]
}

func (p *Period) dispute(id ID) *Dispute {
	for i := range p.Disputes {
		if p.Disputes[i].Obligation == id {
			return &p.Disputes[i]
		}
	}
	return nil
}

func (in DrawLine) step(p *Period) error {
	if p.State != Open {
		return fmt.Errorf("%q: %w", p.State, ErrState)
	}
	if in.Cut == nil {
		return ErrCut
	}
	p.Obligations = slices.Clone(in.Obligations)
	sortObligations(p.Obligations)
	for i := range p.Obligations {
		o := &p.Obligations[i]
		if i > 0 && p.Obligations[i-1].ID == o.ID {
			return fmt.Errorf("obligation %s stands twice: %w", o.ID, ErrEvent)
		}
		if err := o.check(); err != nil {
			return err
		}
		if o.Day > in.Cut.Day {
			return fmt.Errorf("obligation %s is dated after the cut: %w", o.ID, ErrCut)
		}
	}
	p.Cut, p.State = in.Cut, Drafted
	return nil
}

func (in Propose) step(p *Period) error {
	if p.State != Drafted {
		return fmt.Errorf("%q: %w", p.State, ErrState)
	}
	if n := len(p.Proposals); n > 0 && in.At < p.Proposals[n-1].At {
		return fmt.Errorf("proposed before the last statement: %w", ErrWindow)
	}
	p.Proposals = append(p.Proposals, Proposal{Number: len(p.Proposals) + 1, Digest: in.Digest, At: in.At})
	p.State = Proposed
	return nil
}

func (in Confirm) step(p *Period) error {
	s := p.InForce()
	if p.State != Proposed || s == nil || s.Number != in.Number {
		return fmt.Errorf("statement %d in %q: %w", in.Number, p.State, ErrState)
	}
	if !slices.Contains(p.parties(), in.Node) {
		return fmt.Errorf("node %q: %w", in.Node, ErrParty)
	}
	if at, here := slices.BinarySearch(s.Confirmed, in.Node); !here {
		s.Confirmed = slices.Insert(s.Confirmed, at, in.Node)
	}
	return nil
}

// Awaited lists the parties that have not said yes to the statement in force, ascending: with the last of them the
// challenge window need not run out.
func (p *Period) Awaited() []string {
	s := p.InForce()
	if s == nil || p.State != Proposed {
		return nil
	}
	return slices.DeleteFunc(p.parties(), func(node string) bool { return slices.Contains(s.Confirmed, node) })
}

// parties lists the nodes whose debts or claims the statement in force changes, ascending.
func (p *Period) parties() []string {
	var nodes []string
	for _, o := range p.Clearable() {
		nodes = append(nodes, o.Debtor, o.Creditor)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}
