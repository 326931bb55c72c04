package settlement

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
)

// Cleared is what the clearing of one unit came to, by the digests of its canonical texts.
type Cleared struct {
	Unit      string
	Case      [32]byte // what was asked
	Statement [32]byte // what was answered
	Gross     int64
	Total     int64 // discharged
}

// Statement is what is proposed and signed: it binds cut, policy, every unit's case and answer, and what was left out.
// The text of an answer stands beside it; its digest stands in it.
type Statement struct {
	Network  string
	Period   string
	Number   int
	Policy   [32]byte
	Cut      *Cut
	Units    []Cleared // ascending by unit
	Disputed []ID      // left out because of a dispute, ascending
	Frozen   []ID      // left out because their node is gone, ascending
}

// Draft gathers the statement that the period would propose next.
func (p *Period) Draft(network string, policy *Policy, units []Cleared) (*Statement, error) {
	if p.State != Drafted {
		return nil, fmt.Errorf("drafting a statement of %q in %q: %w", p.Name, p.State, ErrState)
	}
	if !validSlug(network) {
		return nil, fmt.Errorf("drafting a statement of network %q: %w", network, ErrName)
	}
	s := &Statement{Network: network, Period: p.Name, Number: len(p.Proposals) + 1, Policy: policy.Hash, Cut: p.Cut,
		Units: slices.Clone(units)}
	slices.SortFunc(s.Units, func(a, b Cleared) int { return cmp.Compare(a.Unit, b.Unit) })
	gross := map[string]int64{}
	for _, o := range p.Clearable() {
		gross[o.Unit] += o.Open()
	}
	for i, u := range s.Units {
		if i > 0 && s.Units[i-1].Unit == u.Unit || u.Gross != gross[u.Unit] || u.Total < 0 || u.Total > u.Gross {
			return nil, fmt.Errorf("unit %q of %d cleared by %d, the set has %d: %w", u.Unit, u.Gross, u.Total, gross[u.Unit], ErrEvent)
		}
		delete(gross, u.Unit)
	}
	for unit := range gross {
		return nil, fmt.Errorf("unit %q was not cleared: %w", unit, ErrUnknown)
	}
	for _, o := range p.Obligations {
		d := p.dispute(o.ID)
		switch {
		case o.Open() == 0:
		case d != nil && d.Outcome == Undecided:
			s.Disputed = append(s.Disputed, o.ID)
		case o.Frozen:
			s.Frozen = append(s.Frozen, o.ID)
		}
	}
	return s, nil
}

// AppendText appends the canonical text of the statement.
func (s *Statement) AppendText(b []byte) []byte {
	cut := s.Cut.Digest()
	b = append(append(b, "kith-settlement-statement v1\nnetwork "...), s.Network...)
	b = append(append(b, "\nperiod "...), s.Period...)
	b = strconv.AppendInt(append(b, "\nnumber "...), int64(s.Number), 10)
	b = hex.AppendEncode(append(b, "\npolicy "...), s.Policy[:])
	b = hex.AppendEncode(append(b, "\ncut "...), cut[:])
	b = append(b, '\n')
	for _, node := range s.Cut.Missing {
		b = append(append(append(b, "missing "...), node...), '\n')
	}
	for _, u := range s.Units {
		b = append(append(append(b, "unit "...), u.Unit...), ' ')
		b = append(hex.AppendEncode(b, u.Case[:]), ' ')
		b = append(hex.AppendEncode(b, u.Statement[:]), ' ')
		b = append(strconv.AppendInt(b, u.Gross, 10), ' ')
		b = append(strconv.AppendInt(b, u.Total, 10), '\n')
	}
	for _, id := range s.Disputed {
		b = append(hex.AppendEncode(append(b, "disputed "...), id[:]), '\n')
	}
	for _, id := range s.Frozen {
		b = append(hex.AppendEncode(append(b, "frozen "...), id[:]), '\n')
	}
	return b
}

// Digest returns the SHA-256 of the canonical text: what signers sign and what [Propose] carries.
func (s *Statement) Digest() [32]byte { return sha256.Sum256(s.AppendText(nil)) }

// Same says whether two statements have the same bytes.
func (s *Statement) Same(o *Statement) bool { return bytes.Equal(s.AppendText(nil), o.AppendText(nil)) }
