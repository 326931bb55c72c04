package ledger_test

import (
	"fmt"

	"kith/hub/ledger"
)

// Two permissions together would carry lisbon past its floor: the second is refused, and stays refused.
func ExampleBook_Apply() {
	book, err := ledger.New([]ledger.Unit{{Name: "hour", Scale: 2}})
	if err != nil {
		fmt.Println(err)
		return
	}
	lisbon := ledger.Account{Path: ledger.NodePath("kith", "lisbon"), Unit: "hour"}
	porto := ledger.Account{Path: ledger.NodePath("kith", "porto"), Unit: "hour"}
	rules := ledger.Rules{Limits: map[ledger.Account]ledger.Limit{lisbon: {Floor: -100, Ceiling: 100}}}
	var batch []ledger.Entry
	for index := range uint64(2) {
		batch = append(batch, ledger.Entry{Source: ledger.Source{Journal: "kith/lisbon-front/0", Index: index, Rule: "v1"},
			Kind: ledger.Post, Standing: ledger.Permission,
			Postings: []ledger.Posting{{Account: lisbon, Amount: -60}, {Account: porto, Amount: 60}}})
	}
	for range 2 {
		for _, a := range book.Apply(rules, batch) {
			fmt.Println(a.Code, a.Fresh)
		}
	}
	fmt.Println(book.Account(porto).Balance())
	// Output:
	// booked true
	// refused-limit true
	// booked false
	// refused-limit false
	// 60
}
