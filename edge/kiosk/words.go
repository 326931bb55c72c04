package kiosk

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"kith/internal/access"
	"kith/internal/event"
	"kith/internal/page"
)

// verbs are the kinds that people enter at the wall, in the order of the page. Counting a stock is a host's work, and a
// transfer names another house: both are entered with the program.
var verbs = [...]struct {
	kind  event.Kind
	title string // of a group
	said  string // before the name of the thing
}{
	{event.KindUse, "I used", "Used"},
	{event.KindConsume, "I took", "Took"},
	{event.KindWork, "I worked", "Worked"},
	{event.KindDeliverService, "I did", "Did"},
}

func verb(kind event.Kind) string {
	for _, v := range verbs {
		if v.kind == kind {
			return v.said
		}
	}
	return page.Pretty(string(kind))
}

func nameOf(r access.Resource) string {
	if r.Name != "" {
		return r.Name
	}
	return page.Pretty(r.ID)
}

// counted says a quantity the way people do.
func counted(n int64, measure string) string {
	switch {
	case measure == "minute" && n < 60:
		return fmt.Sprintf("%d min", n)
	case measure == "minute" && n%60 == 0:
		return fmt.Sprintf("%d h", n/60)
	case measure == "minute":
		return fmt.Sprintf("%d h %d min", n/60, n%60)
	}
	return fmt.Sprintf("%d %s", n, unitWord(n, measure))
}

// unitWord is the word behind a number. Short ones are signs of units, which have no plural.
func unitWord(n int64, measure string) string {
	word := strings.ReplaceAll(measure, "-", " ")
	if n == 1 || len(word) <= 3 || strings.HasSuffix(word, "s") {
		return word
	}
	return word + "s"
}

// step is how far a press of + leads from a quantity. Half an hour is three presses; a day is not a hundred.
func step(n int64, measure string) int64 {
	switch {
	case measure == "wh" || measure == "gram":
		return 100
	case measure != "minute":
		return 1
	case n < 30:
		return 5
	case n < 120:
		return 15
	}
	return 30
}

// presets are the quantities that one press gives.
func presets(r access.Resource) []int64 {
	all := []int64{1, 2, 3, 4, 5}
	switch r.Measure {
	case "minute":
		all = []int64{15, 30, 60, 120, 240}
	case "wh", "gram":
		all = []int64{100, 250, 500, 1000, 2000}
	}
	return slices.DeleteFunc(all, func(n int64) bool { return n > most(r) })
}

// most is the largest quantity of one entry.
func most(r access.Resource) int64 {
	switch {
	case r.MaxEntry > 0:
		return r.MaxEntry
	case r.MaxDay > 0:
		return r.MaxDay
	}
	return event.MaxQuantity
}

// usual is the quantity that was entered most often lately, the newest among equals; else what the thing suggests.
func usual(r access.Resource, kind event.Kind, lately []Line) int64 {
	times := map[int64]int{}
	best := int64(0)
	for _, l := range slices.Backward(lately) { // oldest first
		if l.Kind != kind || l.Entry.Resource != r.ID || l.Entry.Quantity < 1 || l.Entry.Measure != r.Measure || l.Corrected {
			continue
		}
		if times[l.Entry.Quantity]++; times[l.Entry.Quantity] >= times[best] {
			best = l.Entry.Quantity
		}
	}
	if best == 0 {
		best = map[string]int64{"minute": 30, "wh": 500, "gram": 250}[r.Measure]
	}
	return min(max(best, 1), most(r))
}

// tile is one big button of the first page.
type tile struct {
	Action, Resource, Name, Hint string
}

type group struct {
	Title string
	Tiles []tile
}

// offers are the first page's buttons: by verb, what people here enter most lately first, from one page to the next.
func offers(all []access.Resource, lately []Line, from int) (groups []group, next int) {
	type key struct {
		kind     event.Kind
		resource string
	}
	times := map[key]int{}
	for _, l := range lately {
		times[key{l.Kind, l.Entry.Resource}]++
	}
	n, shown := 0, 0
	for _, v := range verbs {
		var here []access.Resource
		for _, r := range all {
			if r.Allows(string(v.kind)) {
				here = append(here, r)
			}
		}
		slices.SortStableFunc(here, func(a, b access.Resource) int {
			return cmp.Compare(times[key{v.kind, b.ID}], times[key{v.kind, a.ID}])
		})
		g := group{Title: v.title}
		for _, r := range here {
			if n++; n <= from {
				continue
			}
			if shown == MaxTiles {
				next = n - 1
				break
			}
			shown++
			g.Tiles = append(g.Tiles, tile{string(v.kind), r.ID, nameOf(r), "in " + unitWord(2, r.Measure)})
		}
		if len(g.Tiles) > 0 {
			groups = append(groups, g)
		}
		if next > 0 {
			break
		}
	}
	return groups, next
}

// words are what a page says when it cannot go on: large, and what to do.
type words struct{ Title, Text string }

// refusalWords says why a proposal was not taken. Nobody is known at that point, so nothing is told about anybody.
func refusalWords(no *Refusal) words {
	switch no.Reason {
	case "reader-busy":
		return words{"Another entry waits here", fmt.Sprintf("It ends within %d seconds. Then try again.", int(TapWait/time.Second))}
	case "time-unknown":
		return words{"How long is not known", "The clock was not sure since the start. Ask a host to give it up, and enter the time by hand."}
	case "not-running", "being-stopped":
		return words{"Not running any more", "It was stopped, or is being stopped."}
	case "already-corrected", "unknown-entry":
		return words{"It cannot be taken back here", "It was taken back already, or is too long ago. A host can help."}
	case "no-resource", "not-this-action", "above-max-entry", "no-roster":
		return words{"The list has changed", "Begin again: what can be entered is not what this page showed."}
	case "full":
		return words{"Too much at once", "Try again in half a minute."}
	}
	return words{"Try again", "This page was out of date."}
}

// troubleWords say what keeps entries from being taken.
func troubleWords(t Trouble) words {
	switch t {
	case NoReader:
		return words{"The reader does not answer", "Nothing can be entered until it does. It comes back by itself; if it stays like this, tell a host."}
	case NotKept:
		return words{"No entries just now", "The disk takes nothing, so an entry could be lost. Note it down, and tell a host."}
	}
	return words{"Not ready yet", "This house's list of people has not arrived. It comes by itself."}
}
