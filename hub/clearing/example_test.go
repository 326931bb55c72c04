package clearing_test

import (
	"fmt"

	"kith/hub/clearing"
)

// Three houses owe each other in a ring, a fourth owes one of them.
func ExampleSettle() {
	debt := func(id byte, debtor, creditor string, amount int64) clearing.Obligation {
		return clearing.Obligation{ID: clearing.ID{id}, Debtor: debtor, Creditor: creditor, Unit: "hour", Amount: amount, Day: 20_000}
	}
	c, err := clearing.Compile(
		clearing.Terms{Unit: "hour", Cut: 20_010, AgeCap: 365, Roots: [][32]byte{{1}}},
		[]clearing.Obligation{debt(1, "10", "20", 100), debt(2, "20", "30", 100), debt(3, "30", "10", 200), debt(4, "40", "30", 100)})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := clearing.Settle(c)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("discharged", r.Total, "of", c.Gross())
	for i, l := range r.Lines {
		o := c.Obligation(i)
		fmt.Println(o.Debtor, "still owes", o.Creditor, o.Amount-l.Discharged)
	}
	fmt.Println("verified:", clearing.Verify(c, r) == nil)
	// Output:
	// discharged 300 of 500
	// 10 still owes 20 0
	// 20 still owes 30 0
	// 30 still owes 10 100
	// 40 still owes 30 100
	// verified: true
}
