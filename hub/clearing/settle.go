package clearing

import "fmt"

// Settle answers a case. The answer is returned only after [Verify] accepted it, so a fault of the solver can cost an
// answer but never give a wrong one.
func Settle(c *Case) (*Result, error) { return SettleStages(c, func(string) {}) }

// SettleStages is [Settle] for a caller who wants to know how far it is: solved is called with the name of each stage
// once that is solved.
func SettleStages(c *Case, solved func(stage string)) (*Result, error) {
	r, err := settle(c, solved)
	if err != nil {
		return nil, fmt.Errorf("clearing %q on day %d: %w", c.terms.Unit, c.terms.Cut, err)
	}
	if err := Verify(c, r); err != nil {
		return nil, fmt.Errorf("checking our own answer: %w", err)
	}
	return r, nil
}

func settle(c *Case, solved func(stage string)) (*Result, error) {
	flow := make([]int64, len(c.arcs))
	free := make([]int32, 0, len(c.arcs))
	for k := range c.arcs {
		if c.arcs[k].limit > 0 {
			free = append(free, int32(k))
		}
	}
	var stages []Stage
	for s := 0; ; s++ {
		if s == fixedStages+MaxLots {
			return nil, fmt.Errorf("%d lots left a tie: %w", MaxLots, ErrNoProof)
		}
		st, left, err := c.optimiseStage(s, free, flow)
		if err != nil {
			return nil, fmt.Errorf("stage %q: %w", stageName(s), err)
		}
		free = left
		stages = append(stages, st)
		solved(st.Name)
		if s < fixedStages-1 {
			continue
		}
		rest := c.onCycles(c.looseArcs(free, flow))
		if c.tie(rest) == nil {
			break
		}
		free = free[:0]
		for i := range rest {
			free = append(free, rest[i].arc)
		}
	}
	r := c.distribute(flow)
	r.Stages = stages
	return r, c.fillValues(r)
}

// optimiseStage moves the flow of the free arcs to the best value of stage s and returns what is still free after it.
func (c *Case) optimiseStage(s int, free []int32, flow []int64) (Stage, []int32, error) {
	gain := gains(c, s)
	g := newResidual(c, free, flow, gain)
	found, err := g.optimise()
	if err != nil {
		return Stage{}, nil, err
	}
	p := make([]int64, len(c.nodes))
	for i, v := range g.names {
		p[v] = found[i]
	}
	g.takeFlow(free, flow)
	left := free[:0]
	for _, k := range free {
		a := &c.arcs[k]
		if gain(a)-p[a.from]+p[a.to] == 0 {
			left = append(left, k)
		}
	}
	return Stage{Name: stageName(s), Potentials: p}, left, nil
}

// distribute divides the flow of each arc between its obligations, oldest first.
func (c *Case) distribute(flow []int64) *Result {
	r := &Result{Unit: c.terms.Unit, Cut: c.terms.Cut, Lines: make([]Line, len(c.debts)),
		Balances: make([]Balance, len(c.terms.Limits))}
	for k := range c.arcs[:c.debtEnd] {
		rest := flow[k]
		r.Total += rest
		for i := c.arcs[k].first; i < c.arcs[k].end; i++ {
			done := min(rest, c.debts[i].amount)
			r.Lines[i] = Line{ID: c.debts[i].id, Discharged: done}
			rest -= done
		}
	}
	for i, l := range c.terms.Limits {
		draw, payIn := flow[c.debtEnd+2*i], flow[c.debtEnd+2*i+1]
		r.Drawn += draw
		r.Balances[i] = Balance{Node: l.Node, Before: l.Balance, After: l.Balance - draw + payIn}
	}
	return r
}

// looseArcs returns the free arcs with what they carry.
func (c *Case) looseArcs(free []int32, flow []int64) []loose {
	out := make([]loose, 0, len(free))
	for _, k := range free {
		a := &c.arcs[k]
		out = append(out, loose{flow: flow[k], limit: a.limit, arc: k, from: a.from, to: a.to})
	}
	return out
}

// fillValues states the objective of every stage, as the verifier sums it.
func (c *Case) fillValues(r *Result) error {
	values, _, err := c.examine(r)
	if err != nil {
		return err
	}
	for s := range r.Stages {
		r.Stages[s].Value = values[s]
	}
	return nil
}
