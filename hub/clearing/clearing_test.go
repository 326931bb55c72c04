package clearing

import "testing"

func chain() (Terms, []Obligation) {
	debt := func(i int, from, to string, amount int64) Obligation {
		return Obligation{ID: testID(0, i), Debtor: from, Creditor: to, Unit: "hour", Amount: amount, Day: 100}
	}
	return Terms{Unit: "hour", Cut: 100, AgeCap: 365, Roots: testRoots(0)}, []Obligation{
		debt(1, "10", "20", 100), debt(2, "20", "30", 100), debt(3, "30", "10", 200), debt(4, "40", "30", 100)}
}

func TestChainOfFourDischargesThreeHundredAndLeavesTwoHundreds(t *testing.T) {
	terms, obligations := chain()
	c, err := Compile(terms, obligations)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Settle(c)
	if err != nil {
		t.Fatal(err)
	}
	if r.Total != 300 {
		t.Errorf("discharged %d, want 300", r.Total)
	}
	left := map[string]int64{"10": 0, "20": 0, "30": 100, "40": 100}
	for i, l := range r.Lines {
		o := c.Obligation(i)
		if got := o.Amount - l.Discharged; got != left[o.Debtor] {
			t.Errorf("%s still owes %s %d, want %d", o.Debtor, o.Creditor, got, left[o.Debtor])
		}
	}
}
