package settlement

import (
	"fmt"
	"slices"
)

// step takes the obligation out, when whoever is said to dispute it is a party to it. A statement that is out is withdrawn, and
// the set goes back to be cleared again.
func (in Challenge) step(p *Period) error {
	if p.State != Drafted && p.State != Proposed {
		return fmt.Errorf("%q: %w", p.State, ErrState)
	}
	o := p.find(in.Obligation)
	if o == nil {
		return fmt.Errorf("obligation %s: %w", in.Obligation, ErrUnknown)
	}
	if in.By != o.Debtor && in.By != o.Creditor {
		return fmt.Errorf("dispute by %q: %w", in.By, ErrParty)
	}
	if p.dispute(in.Obligation) != nil {
		return fmt.Errorf("obligation %s: %w", in.Obligation, ErrDispute)
	}
	if s := p.InForce(); s != nil && in.At > s.At+p.Terms.WindowSeconds {
		return fmt.Errorf("dispute %d seconds after the window: %w", in.At-s.At-p.Terms.WindowSeconds, ErrState)
	}
	p.Disputes = append(p.Disputes, Dispute{Obligation: in.Obligation, By: in.By, Note: in.Note, At: in.At})
	p.withdraw()
	return nil
}

// withdraw makes a new number necessary. The old statement stays where it is, marked.
func (p *Period) withdraw() {
	if s := p.InForce(); s != nil {
		s.Withdrawn = true
	}
	if p.State == Proposed {
		p.State = Drafted
	}
}

// step decides a dispute, when whoever is said to decide is no party to it. The set of a statement that is out never changes
// under it: when an obligation stands after all, that statement is withdrawn too, and the set is cleared again with it.
func (in Decide) step(p *Period) error {
	d, o := p.dispute(in.Obligation), p.find(in.Obligation)
	if d == nil || o == nil {
		return fmt.Errorf("dispute over %s: %w", in.Obligation, ErrUnknown)
	}
	if d.Outcome != Undecided {
		return fmt.Errorf("dispute over %s: %w", in.Obligation, ErrDispute)
	}
	if !validSlug(in.Reviewer) || in.Reviewer == o.Debtor || in.Reviewer == o.Creditor {
		return fmt.Errorf("reviewer %q: %w: a third node decides", in.Reviewer, ErrParty)
	}
	if in.Outcome != Stand && in.Outcome != Amend && in.Outcome != Voided {
		return fmt.Errorf("outcome %q: %w", in.Outcome, ErrUnknown)
	}
	if p.State != Drafted && p.State != Proposed {
		return fmt.Errorf("%q: %w", p.State, ErrState)
	}
	d.Reviewer, d.Decision = in.Reviewer, in.Note
	p.settleDispute(d, o, in.Outcome)
	return nil
}

func (p *Period) settleDispute(d *Dispute, o *Obligation, outcome Outcome) {
	d.Outcome = outcome
	if outcome == Stand {
		p.withdraw() // its set was cleared without this obligation
		return
	}
	o.Waived += o.Open()
}

// step decides what nobody answered.
func (in Lapse) step(p *Period) error {
	if p.State != Drafted && p.State != Proposed {
		return fmt.Errorf("%q: %w", p.State, ErrState)
	}
	for i := range p.Disputes {
		d := &p.Disputes[i]
		if d.Outcome != Undecided || in.At < d.At+p.Terms.AnswerSeconds {
			continue
		}
		o := p.find(d.Obligation)
		if o.Evidence == OneSided {
			p.settleDispute(d, o, Voided)
		} else {
			p.settleDispute(d, o, Stand)
		}
	}
	return nil
}

// step makes the statement final: after the window, or as soon as every party said yes. Disputes still undecided do not
// hold it up; their obligations go into the next period.
func (in Finalise) step(p *Period) error {
	s := p.InForce()
	if p.State != Proposed || s == nil || s.Number != in.Number {
		return fmt.Errorf("statement %d in %q: %w", in.Number, p.State, ErrState)
	}
	if in.At < s.At+p.Terms.WindowSeconds && !slices.Equal(s.Confirmed, p.parties()) {
		return fmt.Errorf("%d seconds left: %w", s.At+p.Terms.WindowSeconds-in.At, ErrWindow)
	}
	signers := slices.Clone(in.Signers)
	slices.Sort(signers)
	if signers = slices.Compact(signers); len(signers) < p.Terms.Signers {
		return fmt.Errorf("%d distinct signers of %d: %w", len(signers), p.Terms.Signers, ErrSigners)
	}
	p.Signed, p.State = signers, Final
	return nil
}

func (Book) step(p *Period) error {
	if p.State != Final {
		return fmt.Errorf("%q: %w", p.State, ErrState)
	}
	p.State = Posted
	return nil
}
