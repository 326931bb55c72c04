package clearing

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// First lines of the three texts. docs/FORMATS.md, "Clearing", describes them for a stranger's verifier.
const (
	caseTitle      = "kith-clearing-case v1"
	statementTitle = "kith-clearing-statement v1"
	proofTitle     = "kith-clearing-proof v1"
)

// noCommons stands for a case without a commons; it is not a valid name.
const noCommons = "-"

// AppendText appends the canonical text of the case: lines of words with one space between them, each ending in a
// newline. The same case has the same bytes whatever order its input had.
func (c *Case) AppendText(b []byte) []byte {
	t := &c.terms
	b = line(b, caseTitle)
	b = line(b, "unit", t.Unit)
	b = numbers(append(b, "cut"...), int64(t.Cut))
	b = numbers(append(b, "age-cap"...), int64(t.AgeCap))
	commons := t.Commons
	if commons == "" {
		commons = noCommons
	}
	b = line(b, "commons", commons)
	for i := range t.Roots {
		b = line(b, "root", hex.EncodeToString(t.Roots[i][:]))
	}
	for _, l := range t.Limits {
		b = append(append(b, "limit "...), l.Node...)
		b = numbers(b, l.Balance, l.Floor, l.Ceiling)
	}
	for i := range c.debts {
		d := &c.debts[i]
		b = hex.AppendEncode(append(b, "debt "...), d.id[:])
		b = append(append(b, ' '), c.nodes[d.debtor]...)
		b = append(append(b, ' '), c.nodes[d.creditor]...)
		b = numbers(b, int64(d.day), d.amount)
	}
	return numbers(append(b, "end"...), int64(len(c.debts)))
}

// Digest returns the SHA-256 of the canonical text.
func (c *Case) Digest() [32]byte { return sha256.Sum256(c.AppendText(nil)) }

// AppendStatement appends the canonical text of the answer without its proof. For one case only one such text is right.
// The result must have been accepted by [Verify] or returned by [Settle] for this case.
func (c *Case) AppendStatement(b []byte, r *Result) []byte {
	digest := c.Digest()
	b = line(b, statementTitle)
	b = line(b, "case", hex.EncodeToString(digest[:]))
	b = line(b, "unit", r.Unit)
	b = numbers(append(b, "cut"...), int64(r.Cut))
	b = numbers(append(b, "total"...), r.Total)
	b = numbers(append(b, "drawn"...), r.Drawn)
	for _, l := range r.Balances {
		b = append(append(b, "balance "...), l.Node...)
		b = numbers(b, l.Before, l.After)
	}
	for i := range r.Lines {
		l := &r.Lines[i]
		b = hex.AppendEncode(append(b, "line "...), l.ID[:])
		b = numbers(b, l.Discharged, c.debts[i].amount-l.Discharged)
	}
	return numbers(append(b, "end"...), int64(len(r.Lines)))
}

// AppendProof appends the canonical text of the proof: the stages, then one line per node with its potential in each.
func (c *Case) AppendProof(b []byte, r *Result) []byte {
	digest := sha256.Sum256(c.AppendStatement(nil, r))
	b = line(b, proofTitle)
	b = line(b, "statement", hex.EncodeToString(digest[:]))
	for i := range r.Stages {
		b = line(b, "stage", r.Stages[i].Name, r.Stages[i].Value.String())
	}
	for v, name := range c.nodes {
		b = append(append(b, "potential "...), name...)
		for i := range r.Stages {
			b = strconv.AppendInt(append(b, ' '), r.Stages[i].Potentials[v], 10)
		}
		b = append(b, '\n')
	}
	return numbers(append(b, "end"...), int64(len(c.nodes)))
}

func line(b []byte, words ...string) []byte {
	for i, w := range words {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, w...)
	}
	return append(b, '\n')
}

// numbers ends a line with decimal numbers, each after a space.
func numbers(b []byte, values ...int64) []byte {
	for _, v := range values {
		b = strconv.AppendInt(append(b, ' '), v, 10)
	}
	return append(b, '\n')
}
