package clearing

import "fmt"

// Settle answers a case. The answer is returned only after [Verify] accepted it, so a fault of the solver can cost an
// answer but never give a wrong one.
func Settle(c *Case) (*Result, error) {
	r, err := settle(c)
	if err != nil {
		return nil, fmt.Errorf("clearing %q on day %d: %w", c.terms.Unit, c.terms.Cut, err)
	}
	if err := Verify(c, r); err != nil {
		return nil, fmt.Errorf("checking our own answer: %w", err)
	}
	return r, nil
}

func settle(c *Case) (*Result, error) {
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
		if s < fixedStages-1 {
			continue
		}
		if free = c.onCycles(free); c.tie(free, flow) == nil {
			break
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
	p, err := g.optimise()
	if err != nil {
		return Stage{}, nil, err
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

// fillValues states the objective of every stage, as the verifier sums it.
func (c *Case) fillValues(r *Result) error {
	flow := make([]int64, len(c.arcs))
	if err := c.verifyPool(r, flow); err != nil {
		return err
	}
	free, err := c.verifyLines(r, flow)
	if err != nil {
		return err
	}
	r.Stages[0].Value = WideOf(r.Total)
	for s := 1; s < len(r.Stages); s++ {
		st := &r.Stages[s]
		if st.Value, free, err = c.verifyStage(s, st.Potentials, free, flow); err != nil {
			return fmt.Errorf("stage %q: %w", st.Name, err)
		}
	}
	return nil
}
