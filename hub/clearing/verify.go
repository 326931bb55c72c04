package clearing

import (
	"fmt"
	"slices"
)

// maxPotential keeps gain - p(debtor) + p(creditor) inside an int64 for every gain of every stage.
const maxPotential = 1 << 60

// Verify accepts the one right answer to a case and refuses every other, without solving anything.
//
// An answer is feasible when every line is between zero and its amount, debts between the same two nodes are discharged
// oldest first, pool balances stay in their limits, and every node's debts fall by as much as its claims. It is optimal
// in a stage when, with r = gain - p(debtor) + p(creditor), each arc that the earlier stages left free is full where
// r > 0 and empty where r < 0: then the value equals the bound sum(limit * max(0, r)), primal equals dual, and no answer
// can have more. Where r = 0 the arc is free for the next stage. It is unique when nothing is left that could move.
func Verify(c *Case, r *Result) error {
	if err := verify(c, r); err != nil {
		return fmt.Errorf("verifying the clearing of %q on day %d: %w", c.terms.Unit, c.terms.Cut, err)
	}
	return nil
}

func verify(c *Case, r *Result) error {
	if r.Unit != c.terms.Unit {
		return fmt.Errorf("result in %q: %w", r.Unit, ErrUnit)
	}
	if r.Cut != c.terms.Cut {
		return fmt.Errorf("result cut on day %d: %w", r.Cut, ErrCut)
	}
	if len(r.Lines) != len(c.debts) {
		return c.explainCoverage(r.Lines)
	}
	if err := c.verifyStages(r.Stages); err != nil {
		return err
	}
	flow := make([]int64, len(c.arcs))
	if err := c.verifyPool(r, flow); err != nil {
		return err
	}
	free, err := c.verifyLines(r, flow)
	if err != nil {
		return err
	}
	if free, err = c.verifyOptimal(r, free, flow); err != nil {
		return err
	}
	return c.verifyUnique(free, flow)
}

// explainCoverage says where lines and case part: a line for every obligation, each once, in the order of the case.
func (c *Case) explainCoverage(lines []Line) error {
	i := 0
	for i < len(lines) && i < len(c.debts) && lines[i].ID == c.debts[i].id {
		i++
	}
	if i < len(lines) {
		foreign := !slices.ContainsFunc(c.debts, func(d debt) bool { return d.id == lines[i].ID })
		if foreign {
			return fmt.Errorf("line %d answers %s, which is not in the case: %w", i, lines[i].ID, ErrCoverage)
		}
	}
	if i < len(c.debts) {
		omitted := !slices.ContainsFunc(lines, func(l Line) bool { return l.ID == c.debts[i].id })
		if omitted {
			return fmt.Errorf("obligation %s is not answered: %w", c.debts[i].id, ErrCoverage)
		}
	}
	return fmt.Errorf("line %d is out of order or stands twice: %w", i, ErrCoverage)
}

func (c *Case) verifyStages(stages []Stage) error {
	if len(stages) < fixedStages || len(stages) > fixedStages+MaxLots {
		return fmt.Errorf("%d stages: %w (%d to %d)", len(stages), ErrStages, fixedStages, fixedStages+MaxLots)
	}
	for i := range stages {
		s := &stages[i]
		if s.Name != stageName(i) {
			return fmt.Errorf("stage %d is %q, want %q: %w", i, s.Name, stageName(i), ErrStages)
		}
		if len(s.Potentials) != len(c.nodes) {
			return fmt.Errorf("stage %q has %d potentials for %d nodes: %w", s.Name, len(s.Potentials), len(c.nodes), ErrStages)
		}
		for v, p := range s.Potentials {
			if p < -maxPotential || p > maxPotential {
				return fmt.Errorf("stage %q: potential %d of %q: %w", s.Name, p, c.nodes[v], ErrOverflow)
			}
		}
	}
	return nil
}

// verifyPool reads the flow of the pool's ways from the balances. A result that drew and paid in at once would show only
// the difference, which is the better answer anyway: its draw is smaller.
func (c *Case) verifyPool(r *Result, flow []int64) error {
	if len(r.Balances) != len(c.terms.Limits) {
		return fmt.Errorf("%d balances for %d limits: %w", len(r.Balances), len(c.terms.Limits), ErrCoverage)
	}
	drawn := int64(0)
	for i, l := range c.terms.Limits {
		b := r.Balances[i]
		if b.Node != l.Node || b.Before != l.Balance {
			return fmt.Errorf("balance %d says %q stood at %d, the case says %q at %d: %w",
				i, b.Node, b.Before, l.Node, l.Balance, ErrCoverage)
		}
		draw, payIn := l.room()
		if b.After < b.Before-draw || b.After > b.Before+payIn {
			return fmt.Errorf("balance of %q moves from %d to %d, past %d or %d: %w",
				b.Node, b.Before, b.After, l.Floor, l.Ceiling, ErrBounds)
		}
		flow[c.debtEnd+2*i] = max(0, b.Before-b.After)
		flow[c.debtEnd+2*i+1] = max(0, b.After-b.Before)
		drawn += flow[c.debtEnd+2*i]
	}
	if drawn != r.Drawn {
		return fmt.Errorf("drawn is stated as %d and sums to %d: %w", r.Drawn, drawn, ErrValue)
	}
	return nil
}

// verifyLines reads lines and case side by side, once: it checks coverage, bounds and order of age, sums the lines into
// the flow of their arcs, and requires that every node's debts and claims fall alike. On the way it looks which arcs the
// first stage decides, and returns the others.
func (c *Case) verifyLines(r *Result, flow []int64) ([]int32, error) {
	if len(r.Lines) != len(c.debts) {
		return nil, c.explainCoverage(r.Lines)
	}
	// Price and change of a node lie together: the creditor's are the one random access for each arc.
	at := make([]struct{ price, net int64 }, len(c.nodes))
	for v, p := range r.Stages[0].Potentials {
		at[v].price = p
	}
	free := make([]int32, 0, len(c.arcs)/2)
	total, wrong := int64(0), -1
	younger := false // something older between the same two nodes is not wholly discharged
	for k := range c.arcs {
		a := &c.arcs[k]
		from, to := &at[a.from], &at[a.to]
		reduced := to.price - from.price
		if a.kind == arcDebt {
			younger = younger && c.arcs[k-1].from == a.from && c.arcs[k-1].to == a.to
			sum, err := c.sumLines(r.Lines, a, &younger)
			if err != nil {
				return nil, err
			}
			reduced++
			total += sum
			flow[k] = sum
		}
		from.net -= flow[k]
		to.net += flow[k]
		switch {
		case reduced == 0:
			if a.limit > 0 {
				free = append(free, int32(k))
			}
		case undecided(a, reduced, flow[k]):
			wrong = k
		}
	}
	for v := range at {
		if at[v].net != 0 {
			return nil, fmt.Errorf("node %q gains %d: %w", c.nodes[v], at[v].net, ErrUnbalanced)
		}
	}
	if total != r.Total {
		return nil, fmt.Errorf("total is stated as %d and sums to %d: %w", r.Total, total, ErrValue)
	}
	if wrong >= 0 {
		a := &c.arcs[wrong]
		return nil, fmt.Errorf("stage %q: %w", StageTotal, c.notOptimal(a, gainTotal(a)-at[a.from].price+at[a.to].price, flow[wrong]))
	}
	return free, nil
}

// sumLines checks the lines of one arc and returns what they discharge together. open carries the order of age from one
// debt to the next: once one is not whole, nothing younger between the same nodes may be discharged.
func (c *Case) sumLines(all []Line, a *arc, open *bool) (int64, error) {
	sum := int64(0)
	debts := c.debts[a.first:a.end]
	lines := all[a.first:a.end][:len(debts)]
	for i := range debts {
		d, l := &debts[i], &lines[i]
		switch {
		case l.ID != d.id:
			return 0, c.explainCoverage(all)
		case uint64(l.Discharged) > uint64(d.amount):
			return 0, fmt.Errorf("obligation %s of %d, discharged %d: %w", d.id, d.amount, l.Discharged, ErrBounds)
		case *open && l.Discharged > 0:
			return 0, fmt.Errorf("obligation %s: %w", d.id, ErrOldestFirst)
		}
		*open = *open || l.Discharged < d.amount
		sum += l.Discharged
	}
	return sum, nil
}

// verifyOptimal walks the stages after the first over the arcs that are still free and returns those that none decides.
func (c *Case) verifyOptimal(r *Result, free []int32, flow []int64) ([]int32, error) {
	if want := WideOf(r.Total); r.Stages[0].Value != want {
		return nil, fmt.Errorf("stage %q is stated as %s and sums to %s: %w", StageTotal, r.Stages[0].Value, want, ErrValue)
	}
	for s := 1; s < len(r.Stages); s++ {
		st := &r.Stages[s]
		value, left, err := c.verifyStage(s, st.Potentials, free, flow)
		if err != nil {
			return nil, fmt.Errorf("stage %q: %w", st.Name, err)
		}
		if value != st.Value {
			return nil, fmt.Errorf("stage %q is stated as %s and sums to %s: %w", st.Name, st.Value, value, ErrValue)
		}
		free = left
	}
	return free, nil
}

// verifyStage checks a stage after the first on the free arcs and returns its value and the arcs it leaves free: those of
// reduced gain zero, before a lot only those that lie on cycles. Draw and age are summed over all arcs, a lot over the
// arcs it could still decide.
func (c *Case) verifyStage(s int, p []int64, free []int32, flow []int64) (Wide, []int32, error) {
	gain := gains(c, s)
	var value Wide
	switch s {
	case 1:
		value = c.sum(flow, c.debtEnd, len(c.arcs), gain)
		if len(c.terms.Limits) == 0 && flat(p) { // no way of the pool and no prices: every reduced gain is zero
			return value, free, nil
		}
	case 2:
		value = c.sum(flow, 0, c.debtEnd, gain)
	}
	left := free[:0]
	for _, k := range free {
		a := &c.arcs[k]
		weight := gain(a)
		if s >= fixedStages {
			value = value.plus(flow[k], weight)
		}
		reduced := weight - p[a.from] + p[a.to]
		if reduced == 0 {
			left = append(left, k)
		} else if undecided(a, reduced, flow[k]) {
			return Wide{}, nil, c.notOptimal(a, reduced, flow[k])
		}
	}
	if s >= fixedStages-1 { // a lot follows, or nothing
		left = c.onCycles(left)
	}
	return value, left, nil
}

// sum adds up an objective over arcs.
func (c *Case) sum(flow []int64, from, to int, gain func(*arc) int64) Wide {
	var value Wide
	for k := from; k < to; k++ {
		if flow[k] > 0 {
			value = value.plus(flow[k], gain(&c.arcs[k]))
		}
	}
	return value
}

// flat says whether all potentials are the same.
func flat(p []int64) bool {
	for _, v := range p {
		if v != p[0] {
			return false
		}
	}
	return true
}

// undecided says whether an arc of reduced gain other than zero is not at the bound where optimality wants it: full
// above zero, empty below.
func undecided(a *arc, reduced, flow int64) bool {
	return reduced > 0 && flow != a.limit || reduced < 0 && flow != 0
}

func (c *Case) notOptimal(a *arc, r, flow int64) error {
	return fmt.Errorf("%q to %q carries %d of %d at reduced gain %d: %w",
		c.nodes[a.from], c.nodes[a.to], flow, a.limit, r, ErrNotOptimal)
}
