package audit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"kith/hub/ledger"
	"kith/hub/settlement"
)

// Open lists what the final period leaves open as far as it has come, ascending by ID: what a leaving node can be asked about.
func (c *Closing) Open() ([]settlement.Obligation, error) { return c.Period.Carry(c.Discharged()) }

// leave reads what was chosen about a node that leaves, and holds what the pool is to take over to the node's room in it.
func (c *Closing) leave(s Step) (settlement.Input, error) {
	x := settlement.Exit{Node: s.Node, Commons: c.Policy.Pool.Commons}
	if !c.Network.hasNode(x.Node) || c.Ground.Opening.left(x.Node) {
		return nil, fmt.Errorf("%.60q is no node of this network, or has left it", s.Node)
	}
	for i, p := range s.Choices {
		id, ok := digest(p.Obligation)
		until := settlement.Day(p.Until)
		if !ok || int64(until) != p.Until || until < 0 || until > 0 && p.Remainder != string(settlement.ServeInKind) {
			return nil, fmt.Errorf("choice %d: not an obligation of 64 hexadecimal digits, or a day that does not fit", i)
		}
		if !slices.IsSorted(p.By) || len(slices.Compact(slices.Clone(p.By))) != len(p.By) {
			return nil, fmt.Errorf("choice %d: who said so stands once, ascending", i)
		}
		x.Choices = append(x.Choices, settlement.Choice{Obligation: id, Remainder: settlement.Remainder(p.Remainder), By: p.By, Until: until})
	}
	if c.Period.State != settlement.Final {
		return nil, errors.New("a node leaves once its last statement is final, and before the books are written")
	}
	if err := c.room(x); err != nil {
		return nil, err
	}
	return settlement.Leave{Exit: x, Discharged: c.Discharged()}, nil
}

// room refuses novations that would carry the leaving node past its limit with the pool once they are cleared there.
func (c *Closing) room(x settlement.Exit) error {
	open, err := c.Open()
	if err != nil {
		return err
	}
	novate := map[settlement.ID]bool{}
	for _, choice := range x.Choices {
		if choice.Remainder == settlement.Novate {
			novate[choice.Obligation] = true
		}
	}
	takes, gives := map[string]int64{}, map[string]int64{} // of the pool, by unit
	for i := range open {
		o, side := &open[i], gives
		if !novate[o.ID] {
			continue
		}
		if o.Debtor == x.Node {
			side = takes
		}
		if o.Open() > maxBalance-side[o.Unit] {
			return fmt.Errorf("novating %s: %w", o.ID, settlement.ErrOverflow)
		}
		side[o.Unit] += o.Open()
	}
	for _, u := range c.Policy.Units {
		account := ledger.Account{Path: ledger.NodePath(c.Network.Name, x.Node), Unit: u.Name}
		limit, limited := c.Policy.Limits[account]
		balance := c.after(account)
		if takes[u.Name]+gives[u.Name] > 0 && (!limited || balance-takes[u.Name] < limit.Floor || balance+gives[u.Name] > limit.Ceiling) {
			return fmt.Errorf("the pool has no room for %d and %d %s of %s, whose balance with it is %d: choose otherwise",
				takes[u.Name], gives[u.Name], u.Name, x.Node, balance)
		}
	}
	return nil
}

// after is a node's balance with the pool once the statement in force is booked.
func (c *Closing) after(account ledger.Account) int64 {
	for _, a := range c.answers[len(c.answers)-1] {
		for _, b := range a.r.Balances {
			if a.c.Unit() == account.Unit && ledger.NodePath(c.Network.Name, b.Node) == account.Path {
				return b.After
			}
		}
	}
	return c.Opening[account].Balance()
}

// leaving lists the nodes that leave with this period, ascending.
func (c *Closing) leaving() []string {
	var nodes []string
	for _, x := range c.Period.Exits {
		nodes = append(nodes, x.Node)
	}
	slices.Sort(nodes)
	return nodes
}

// novated lists the obligations that came into being when a node left: known are those of the period.
func novated(settled, known []settlement.Obligation) []settlement.Obligation {
	var list []settlement.Obligation
	for _, o := range settled {
		if _, here := slices.BinarySearchFunc(known, o.ID, func(k settlement.Obligation, id settlement.ID) int { return bytes.Compare(k.ID[:], id[:]) }); !here {
			list = append(list, o)
		}
	}
	return list
}
