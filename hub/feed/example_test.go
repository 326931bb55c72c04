package feed_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"kith/hub/feed"
)

func ExampleWriteLedger() {
	books := &feed.Journal{Network: "kith", Units: []feed.Unit{{Name: "night"}}, Entries: []feed.Entry{{
		ID: "4f2a", Code: "booked", Kind: "post", Standing: "fact", At: 1793707200000, Journal: "kith.example/lisbon-front/0a", Index: 12, Rule: "v3",
		Postings: []feed.Posting{{Path: "kith/lisbon", Unit: "night", Amount: 2}, {Path: "kith/porto", Unit: "night", Amount: -2}},
	}}, Closings: []feed.Closing{{Period: "2026-11", Day: 20787, After: 1, Root: "c0ffee", Balances: []feed.Balance{
		{Path: "kith/lisbon", Unit: "night", Amount: 2}, {Path: "kith/porto", Unit: "night", Amount: -2}}}}}
	if err := feed.WriteLedger(os.Stdout, books); err != nil {
		fmt.Println(err)
	}
	// Output:
	// ; kith-ledger-export v1
	// ; network kith
	// ; unit night counts smallest parts with 0 decimal places
	//
	// commodity "night"
	// account kith:lisbon
	// account kith:porto
	//
	// 2026-11-03 * (0) post 4f2a
	//     ; from kith.example/lisbon-front/0a 12 part 0 rule v3 at 1793707200000
	//     kith:lisbon  2 "night"
	//     kith:porto  -2 "night"
	//
	// 2026-11-30 * closing 2026-11
	//     ; seal c0ffee
	//     kith:lisbon  0 "night" = 2 "night"
	//     kith:porto  0 "night" = -2 "night"
}

func ExampleReport_Release() {
	var done []feed.Contribution
	for m := range 7 {
		done = append(done, feed.Contribution{Node: "lisbon", Kind: "bed", Member: fmt.Sprint("member-", m), Amount: 3})
		if m < 2 { // two people only: withheld, and Lisbon's figure with it, since the sum would tell
			done = append(done, feed.Contribution{Node: "porto", Kind: "bed", Member: fmt.Sprint("member-", m), Amount: 4})
		}
	}
	cells, err := feed.Tally(done)
	if err != nil {
		fmt.Println(err)
		return
	}
	report := &feed.Report{Network: "kith", Period: "2026-11", From: 20758, To: 20787, Privacy: feed.DefaultPrivacy(),
		Houses:   []feed.House{{ID: "lisbon", Name: "Lisbon"}, {ID: "porto", Name: "Porto"}},
		Measures: []feed.Measure{{Unit: "night", Cells: cells, Offers: []feed.Offer{{Node: "lisbon", Kind: "bed", Offered: 60}}}}}
	release, err := report.Release(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	files, err := release.Files()
	if err != nil {
		fmt.Println(err)
		return
	}
	_, table, _ := bytes.Cut(files.Markdown, []byte("### "))
	table, _, _ = bytes.Cut(table, []byte("\n\n##"))
	fmt.Println(string(table))
	fmt.Println(strings.SplitN(string(files.Note), "\n", 2)[0])
	// Output:
	// bed, by night
	//
	// | house | delivered | offered | target |
	// |---|---:|---:|---:|
	// | Lisbon | withheld | 60 | – |
	// | Porto | withheld | – | – |
	// | All houses | 29 | 60 | – |
	// kith-report-note v1
}

func ExamplePicture_Figure() {
	p := &feed.Picture{ID: "2026-11", Unit: feed.Unit{Name: "night"}, Houses: []feed.House{{ID: "lisbon", Name: "Lisbon"}, {ID: "porto", Name: "Porto"}},
		Before: []feed.Debt{{From: "lisbon", To: "porto", Amount: 5}, {From: "porto", To: "lisbon", Amount: 3}},
		After:  []feed.Debt{{From: "lisbon", To: "porto", Amount: 2}}}
	figure, err := p.Figure()
	if err != nil {
		fmt.Println(err)
		return
	}
	for line := range strings.Lines(string(figure)) {
		if strings.HasPrefix(line, "<tr>") {
			fmt.Print(line)
		}
	}
	// Output:
	// <tr><th scope="row">Lisbon</th><td>Porto</td><td>5</td><td>2</td></tr>
	// <tr><th scope="row">Porto</th><td>Lisbon</td><td>3</td><td>0</td></tr>
}
