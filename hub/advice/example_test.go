package advice_test

import (
	"fmt"

	"kith/hub/advice"
)

func ExampleAdvise() {
	a, err := advice.Advise(&advice.Case{Seed: []byte("the roots of the last cut"), Day: 20778, Days: 1, Nodes: []advice.Node{
		{ID: "lisbon", Name: "Lisbon", Beds: 12, Offered: 12, Bed: "bed", In: 15},
		{ID: "porto", Name: "Porto", Beds: 10, Offered: 4, Bed: "bed", In: 5},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, i := range a.Items {
		fmt.Println(i.Do, i.Quantity, "of", i.Receiver, "at", i.Provider)
		fmt.Println(i.Reason)
	}
	// Output:
	// place 3 of lisbon at porto
	// Lisbon expects 15 people for 12 beds and gets all 3 that it asked for. Porto has 4 of its offered beds free. With these guests 8 of its 10 beds are taken; spread like this, the fullest host stays as empty as it can.
}
