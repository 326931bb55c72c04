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
	values, left, err := c.examine(r)
	if err != nil {
		return err
	}
	for s := range r.Stages {
		if st := &r.Stages[s]; st.Value != values[s] {
			return fmt.Errorf("stage %q is stated as %s and sums to %s: %w", st.Name, st.Value, values[s], ErrValue)
		}
	}
	return c.verifyUnique(left)
}

// loose is an arc that no stage so far has decided, with what it carries.
type loose struct {
	flow, limit int64
	arc         int32 // index in Case.arcs
	from, to    int32
}

// examine checks all of an answer but the stated values of its stages, which it returns, and its being the only one: for
// that it returns what the stages left free.
func (c *Case) examine(r *Result) ([]Wide, []loose, error) {
	if r.Unit != c.terms.Unit {
		return nil, nil, fmt.Errorf("result in %q: %w", r.Unit, ErrUnit)
	}
	if r.Cut != c.terms.Cut {
		return nil, nil, fmt.Errorf("result cut on day %d: %w", r.Cut, ErrCut)
	}
	if len(r.Lines) != len(c.debts) {
		return nil, nil, c.explainCoverage(r.Lines)
	}
	if err := c.verifyStages(r.Stages); err != nil {
		return nil, nil, err
	}
	x := newExamination(c, r.Stages)
	if err := x.lines(r); err != nil {
		return nil, nil, err
	}
	if err := x.pool(r); err != nil {
		return nil, nil, err
	}
	if err := x.close(r); err != nil {
		return nil, nil, err
	}
	values := append(make([]Wide, 0, len(r.Stages)), x.values[:]...)
	left := c.onCycles(x.left)
	for s := fixedStages; s < len(r.Stages); s++ {
		value, still, err := c.examineLot(s, r.Stages[s].Potentials, left)
		if err != nil {
			return nil, nil, fmt.Errorf("stage %q: %w", r.Stages[s].Name, err)
		}
		values, left = append(values, value), still
	}
	return values, left, nil
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

// fetchedAhead is how many debts' creditors the walk asks the memory for at once: their stations fit the nearest cache.
const fetchedAhead = 128

// examination is one walk over a case and its answer, in which every fixed stage is looked at in each arc.
type examination struct {
	c       *Case
	at      []station // one per node
	total   int64
	drawn   int64
	values  [fixedStages]Wide
	fetched int64 // of no meaning
	left    []loose
	wrong   [fixedStages]error // an arc at which the stage is not optimal
}

// station is what the walk needs of a node, together, because the creditor's is the one random access for each arc.
type station struct {
	price [fixedStages]int64
	net   int64 // claims discharged less debts discharged
}

func newExamination(c *Case, stages []Stage) *examination {
	x := &examination{c: c, at: make([]station, len(c.nodes)), left: make([]loose, 0, len(c.nodes)+len(c.nodes)/4)}
	total, draw, age := stages[0].Potentials, stages[1].Potentials, stages[2].Potentials
	for v := range x.at {
		x.at[v].price = [fixedStages]int64{total[v], draw[v], age[v]}
	}
	return x
}

// lines reads lines and debts side by side, once: it checks coverage, bounds and order of age, sums the debts of each arc
// and hands the sum on. The arcs are those of [Case.merge]; reading them off the debts costs less than reading them too.
func (x *examination) lines(r *Result) error {
	debts := x.c.debts
	lines := r.Lines[:len(debts)]
	cut, ageCap := x.c.terms.Cut, x.c.terms.AgeCap
	debtor, creditor, older := int32(-1), int32(-1), int64(0) // older: what is left of debts read before, between the same two
	var aged Wide
	fetched := 0
	for i, k := 0, int32(0); i < len(debts); k++ {
		if i >= fetched {
			fetched = min(i+fetchedAhead, len(debts))
			x.fetch(debts[i:fetched])
		}
		first := &debts[i]
		if first.debtor != debtor || first.creditor != creditor {
			debtor, creditor, older = first.debtor, first.creditor, 0
		}
		age := min(int32(cut-first.day), ageCap)
		flow, limit := int64(0), int64(0)
		for ; i < len(debts); i++ {
			d, l := &debts[i], &lines[i]
			if d.creditor != creditor || d.debtor != debtor || min(int32(cut-d.day), ageCap) != age {
				break
			}
			switch {
			case l.ID != d.id:
				return x.c.explainCoverage(r.Lines)
			case uint64(l.Discharged) > uint64(d.amount):
				return fmt.Errorf("obligation %s of %d, discharged %d: %w", d.id, d.amount, l.Discharged, ErrBounds)
			case older != 0 && l.Discharged > 0:
				return fmt.Errorf("obligation %s: %w", d.id, ErrOldestFirst)
			}
			older |= d.amount - l.Discharged
			flow += l.Discharged
			limit += d.amount
		}
		x.total += flow
		aged = aged.plus(flow, int64(age))
		x.arc(loose{flow: flow, limit: limit, arc: k, from: debtor, to: creditor}, 1, 0, int64(age))
	}
	x.values[0], x.values[2] = WideOf(x.total), aged
	return nil
}

// fetch reads the creditor's station of every debt, for nothing but to have it near when its arc is looked at: asked for in
// a row, the memory answers many at once, where the walk would wait for each.
func (x *examination) fetch(debts []debt) {
	var sum int64
	for i := range debts {
		sum += x.at[debts[i].creditor].net
	}
	x.fetched += sum
}

// arc books the flow of an arc at its two ends and looks which stage decides it: the first one in which its reduced gain
// is not zero. There it must be full above zero and empty below.
func (x *examination) arc(a loose, total, draw, age int64) {
	from, to := &x.at[a.from], &x.at[a.to]
	from.net -= a.flow
	to.net += a.flow
	stage, reduced := 0, total-from.price[0]+to.price[0]
	if reduced == 0 {
		stage, reduced = 1, draw-from.price[1]+to.price[1]
		if reduced == 0 {
			stage, reduced = 2, age-from.price[2]+to.price[2]
			if reduced == 0 {
				x.left = append(x.left, a)
				return
			}
		}
	}
	if a.misses(reduced) && x.wrong[stage] == nil {
		x.wrong[stage] = x.c.notOptimal(a, reduced)
	}
}

// misses says whether an arc of this reduced gain is not at the bound where optimality wants it. Signs as masks: which
// way an arc is decided is as good as random, and a wrong guess of the processor would cost more than the sum. Both
// gain and potentials lie far inside an int64, so the negation does.
func (a *loose) misses(reduced int64) bool {
	return reduced>>63&a.flow|-reduced>>63&(a.limit-a.flow) != 0
}

// pool reads the flow of the pool's ways from the balances. A result that drew and paid in at once would show only the
// difference, which is the better answer anyway: its draw is smaller.
func (x *examination) pool(r *Result) error {
	c := x.c
	if len(r.Balances) != len(c.terms.Limits) {
		return fmt.Errorf("%d balances for %d limits: %w", len(r.Balances), len(c.terms.Limits), ErrCoverage)
	}
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
		for k := c.debtEnd + 2*i; k < c.debtEnd+2*i+2; k++ {
			a := &c.arcs[k]
			if a.limit == 0 {
				continue
			}
			way := loose{flow: max(0, b.After-b.Before), limit: a.limit, arc: int32(k), from: a.from, to: a.to}
			if a.kind == arcDraw {
				way.flow = max(0, b.Before-b.After)
				x.drawn += way.flow
			}
			x.arc(way, gainTotal(a), gainDraw(a), gainAge(a))
		}
	}
	x.values[1] = WideOf(-x.drawn)
	return nil
}

// close draws the conclusions of the walk.
func (x *examination) close(r *Result) error {
	for v := range x.at {
		if x.at[v].net != 0 {
			return fmt.Errorf("node %q gains %d: %w", x.c.nodes[v], x.at[v].net, ErrUnbalanced)
		}
	}
	if x.total != r.Total {
		return fmt.Errorf("total is stated as %d and sums to %d: %w", r.Total, x.total, ErrValue)
	}
	if x.drawn != r.Drawn {
		return fmt.Errorf("drawn is stated as %d and sums to %d: %w", r.Drawn, x.drawn, ErrValue)
	}
	for s, err := range x.wrong {
		if err != nil {
			return fmt.Errorf("stage %q: %w", r.Stages[s].Name, err)
		}
	}
	return nil
}

// examineLot checks a lot on the arcs that are still free and returns its value, summed over the arcs it could decide,
// and those that it leaves free and that still lie on cycles.
func (c *Case) examineLot(s int, p []int64, free []loose) (Wide, []loose, error) {
	drawn := newLot(c, uint32(s-fixedStages))
	var value Wide
	left := free[:0]
	for _, a := range free {
		weight := drawn.draw(a.from, a.to)
		value = value.plus(a.flow, weight)
		reduced := weight - p[a.from] + p[a.to]
		if reduced == 0 {
			left = append(left, a)
		} else if a.misses(reduced) {
			return Wide{}, nil, c.notOptimal(a, reduced)
		}
	}
	return value, c.onCycles(left), nil
}

func (c *Case) notOptimal(a loose, reduced int64) error {
	return fmt.Errorf("%q to %q carries %d of %d at reduced gain %d: %w",
		c.nodes[a.from], c.nodes[a.to], a.flow, a.limit, reduced, ErrNotOptimal)
}
