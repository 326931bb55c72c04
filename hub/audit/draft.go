package audit

import (
	"cmp"
	"maps"
	"slices"

	"kith/hub/clearing"
	"kith/hub/ledger"
	"kith/hub/settlement"
)

// Draft is what a period would come to if it were closed now.
type Draft struct {
	Day     settlement.Day `json:"day"`
	Entries int            `json:"entries"` // economic leaves looked at
	Asides  map[string]int `json:"asides,omitempty"`
	Missing []string       `json:"missing,omitempty"`
	Units   []UnitDraft    `json:"units"`
	Nodes   []NodeDraft    `json:"nodes"`
}

// UnitDraft is one unit of a draft.
type UnitDraft struct {
	Unit    string `json:"unit"`
	Gross   int64  `json:"gross"`
	Cleared int64  `json:"cleared"`
	Debts   []Debt `json:"debts"` // by debtor and creditor
}

// Debt is what one node owes another before and after clearing.
type Debt struct {
	Debtor   string `json:"debtor"`
	Creditor string `json:"creditor"`
	Before   int64  `json:"before"`
	After    int64  `json:"after"`
}

// NodeDraft is one node in one unit: what it has given and taken in the period, and its balance with the pool.
type NodeDraft struct {
	Node  string        `json:"node"`
	Unit  string        `json:"unit"`
	Given int64         `json:"given"`
	Taken int64         `json:"taken"`
	Pool  int64         `json:"pool"`  // before
	After int64         `json:"after"` // with this draft
	Limit *ledger.Limit `json:"limit,omitempty"`
}

// Draft is a pure function of the ground and the balances that the last period has sealed.
func (g *Ground) Draft(sealed map[ledger.Account]ledger.Totals) (*Draft, error) {
	set, err := g.Derive()
	if err != nil {
		return nil, err
	}
	c := &Closing{Ground: *g, Set: set, Opening: sealed, Files: Files{}}
	d := &Draft{Day: g.Cut.Day, Entries: len(g.Shown), Asides: map[string]int{}, Missing: g.Cut.Missing}
	for _, a := range set.Asides {
		d.Asides[string(a.Why)]++
	}
	nodes := map[[2]string]*NodeDraft{}
	at := func(node, unit string) *NodeDraft {
		key := [2]string{node, unit}
		if nodes[key] == nil {
			account := ledger.Account{Path: ledger.NodePath(g.Network.Name, node), Unit: unit}
			n := &NodeDraft{Node: node, Unit: unit, Pool: sealed[account].Balance()}
			n.After = n.Pool
			if l, limited := g.Policy.Limits[account]; limited {
				n.Limit = &l
			}
			nodes[key] = n
		}
		return nodes[key]
	}
	for i := range set.Obligations {
		if o := &set.Obligations[i]; set.Fresh[o.ID] {
			at(o.Creditor, o.Unit).Given += o.Amount
			at(o.Debtor, o.Unit).Taken += o.Amount
		}
	}
	for _, unit := range g.Policy.Units {
		u, balances, err := c.draftUnit(unit.Name)
		if err != nil {
			return nil, err
		}
		if u == nil {
			continue
		}
		d.Units = append(d.Units, *u)
		for _, b := range balances {
			at(b.Node, unit.Name).After = b.After
		}
	}
	for _, n := range nodes {
		d.Nodes = append(d.Nodes, *n)
	}
	slices.SortFunc(d.Nodes, func(a, b NodeDraft) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Unit, b.Unit)) })
	return d, nil
}

func (c *Closing) draftUnit(unit string) (*UnitDraft, []clearing.Balance, error) {
	open := slices.Clone(c.Set.Obligations)
	open = slices.DeleteFunc(open, func(o settlement.Obligation) bool { return o.Open() <= 0 || o.Frozen })
	cs, err := c.compile(unit, open)
	if err != nil || cs == nil {
		return nil, nil, err
	}
	r, err := clearing.Settle(cs)
	if err != nil {
		return nil, nil, err
	}
	u := &UnitDraft{Unit: unit, Gross: cs.Gross(), Cleared: r.Total}
	debts := map[[2]string]*Debt{}
	for i, l := range r.Lines {
		o := cs.Obligation(i)
		key := [2]string{o.Debtor, o.Creditor}
		if debts[key] == nil {
			debts[key] = &Debt{Debtor: o.Debtor, Creditor: o.Creditor}
		}
		debts[key].Before += o.Amount
		debts[key].After += o.Amount - l.Discharged
	}
	for _, key := range slices.SortedFunc(maps.Keys(debts), func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) }) {
		u.Debts = append(u.Debts, *debts[key])
	}
	return u, r.Balances, nil
}
