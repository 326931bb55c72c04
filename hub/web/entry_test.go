package web

import (
	"strings"
	"testing"

	"kith/internal/event"
)

func TestAnEntrySaysWhoDidWhatAndHowWeakItIs(t *testing.T) {
	for want, l := range map[string]Line{
		"Ana|used bed, 2 nights||":                  {Kind: event.KindUse, Name: "Ana", Member: "ana", Says: "used bed, 2 nights", Assurance: "A", Receipted: true},
		"ana|used bed, 2 nights||not co-signed yet": {Kind: event.KindUse, Member: "ana", Says: "used bed, 2 nights", Assurance: "A"},
		"Somebody|worked: kitchen|one-sided|":       {Kind: event.KindWork, Says: "worked: kitchen", Assurance: "C", Receipted: true},
		"Ben|worked: kitchen|host confirmed|":       {Kind: event.KindWork, Name: "Ben", Says: "worked: kitchen", Assurance: "B", Receipted: true},
		"Ben|worked: kitchen|carried over|":         {Kind: event.KindWork, Name: "Ben", Says: "worked: kitchen", Assurance: "C", Direction: "carried", Receipted: true},
	} {
		r := words(l)
		if got := r.Who + "|" + r.What + "|" + r.Badge.Text + "|" + r.Proof; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	s := newStory()
	s.lines = []Line{{Node: "lisbon", Edge: "lisbon-front", Epoch: storyEpoch, Index: 9, Kind: event.KindUse, At: ago(0), Clock: event.Synced, Name: "Ana",
		Says: "used <b>bed</b>, 1 night", Assurance: "C", Receipted: true}}
	page := get(t, newWeb(t, s).Handler(), "/node/lisbon").Body.String()
	if !strings.Contains(page, "used &lt;b&gt;bed&lt;/b&gt;, 1 night") || !strings.Contains(page, "one-sided") {
		t.Error("the entry is not on the house's page as text")
	}
}
