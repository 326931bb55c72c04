package audit

import (
	"fmt"
	"math"

	"kith/hub/ledger"
	"kith/hub/settlement"
)

// Breach is a node that stands past its limit when the period ends. Clearing never carries a node past one; what happened
// at the doors does, also while no hub could be asked, and so does a policy that draws a limit closer.
type Breach struct {
	Node    string `json:"node"`
	Unit    string `json:"unit"`
	Floor   int64  `json:"floor"`
	Ceiling int64  `json:"ceiling"`
	Balance int64  `json:"balance"` // with the pool
	Open    int64  `json:"open"`    // what others still owe it, less what it still owes
}

// breaches lists, by node and unit, the limits that a node's balance with the pool passes, alone or together with what is
// open. What is open moves through the pool sooner or later, so that the second says what is coming.
func (c *Closing) breaches(open []settlement.Obligation) ([]Breach, error) {
	net := map[[2]string]int64{}
	add := func(node, unit string, amount int64) error {
		key := [2]string{node, unit}
		if sum := net[key]; amount > 0 && sum > math.MaxInt64/2-amount || amount < 0 && sum < -math.MaxInt64/2-amount {
			return fmt.Errorf("summing what is open at %s in %s: %w", node, unit, settlement.ErrOverflow)
		}
		net[key] += amount
		return nil
	}
	for i := range open {
		o := &open[i]
		if err := add(o.Creditor, o.Unit, o.Open()); err != nil {
			return nil, err
		}
		if err := add(o.Debtor, o.Unit, -o.Open()); err != nil {
			return nil, err
		}
	}
	var list []Breach
	for _, l := range c.Policy.limits {
		b := Breach{Node: l.Node, Unit: l.Unit, Floor: l.Floor, Ceiling: l.Ceiling, Open: net[[2]string{l.Node, l.Unit}],
			Balance: c.Balances[ledger.Account{Path: ledger.NodePath(c.Network.Name, l.Node), Unit: l.Unit}].Balance()}
		if past(b.Balance, l) || past(b.Balance+b.Open, l) { // a balance is below half of an int64
			list = append(list, b)
		}
	}
	return list, nil
}

func past(v int64, l limitRule) bool { return v < l.Floor || v > l.Ceiling }

func appendBreaches(b []byte, list []Breach) []byte {
	b = append(b, "kith-breaches v1\n"...)
	for _, x := range list {
		b = fmt.Appendf(b, "breach %s %s %d %d %d %d\n", x.Node, x.Unit, x.Floor, x.Ceiling, x.Balance, x.Open)
	}
	return fmt.Appendf(b, "end %d\n", len(list))
}
