package web

import (
	"fmt"
	"strings"
	"time"

	"kith/internal/event"
	"kith/internal/page"
)

// words says a line the way a host would.
func words(l Line) lineRow {
	row := lineRow{Where: page.Pretty(l.Door)}
	if !l.Receipted {
		row.Proof = "not co-signed yet"
	}
	if l.Kind == event.KindTap || l.Kind == event.KindReplayed && l.Verdict != "" {
		tapWords(l, &row)
		return row
	}
	if l.Kind.IsEntry() {
		entryWords(l, &row)
		return row
	}
	thingWords(l, &row)
	return row
}

func tapWords(l Line, row *lineRow) {
	row.Who = l.Name
	switch {
	case row.Who != "":
	case l.Member != "":
		row.Who = l.Member
	case l.Reason == "unknown-card":
		row.Who = "An unknown card"
	case l.Assurance == "none" || l.Assurance == "":
		row.Who = "A card"
	default:
		row.Who = "Somebody"
	}
	if l.Verdict != "grant" {
		row.What = "was not let in"
		if l.Direction == "out" {
			row.What = "was not let out"
		}
		row.Badge = page.Badge{Tone: "bad", Text: l.Says}
		return
	}
	row.What = map[string]string{"in": "came in", "out": "went out"}[l.Direction]
	if row.What == "" {
		row.What = "passed"
	}
	switch {
	case l.Note == "late":
		row.Badge = page.Badge{Tone: "warn", Text: "recorded late", Hint: "the door opened before the record was durable"}
	case l.Note == "carried":
		row.Badge = page.Badge{Tone: "plain", Text: "carried over", Hint: "brought over from a lost branch of the journal"}
	case l.Assurance == "uid":
		row.Badge = page.Badge{Tone: "warn", Text: "can be copied", Hint: "the card showed its number only"}
	}
}

// entryWords says who did or used what, and marks what is weaker than a card's own signature.
func entryWords(l Line, row *lineRow) {
	row.Where = ""
	if row.Who = l.Name; row.Who == "" {
		row.Who = l.Member
	}
	if row.Who == "" {
		row.Who = "Somebody"
	}
	row.What = l.Says
	switch {
	case l.Direction == "carried":
		row.Badge = page.Badge{Tone: "plain", Text: "carried over", Hint: "brought over from a lost branch of the journal"}
	case l.Assurance == event.EvidenceC:
		row.Badge = page.Badge{Tone: "warn", Text: "one-sided", Hint: "no card proved this entry"}
	case l.Assurance == event.EvidenceB:
		row.Badge = page.Badge{Tone: "plain", Text: "host confirmed", Hint: "a host's card signed it for the member"}
	}
}

func thingWords(l Line, row *lineRow) {
	subject := page.Pretty(l.Door)
	say := func(what, tone, text string) {
		row.What = what
		if tone != "" {
			row.Badge = page.Badge{Tone: tone, Text: text}
		}
	}
	row.Where = page.Pretty(l.Edge)
	switch l.Kind {
	case event.KindDoor:
		row.Where = ""
		doorWords(subject, l.Note, say)
	case event.KindReader:
		if l.Note == "up" {
			say("Reader "+l.Door+" is back", "good", "reads")
		} else {
			say("Reader "+l.Door+" does not answer", "bad", "silent")
		}
	case event.KindTamper:
		if l.Note == "open" {
			say("The case was opened", "bad", "tamper")
		} else {
			say("The case was closed", "good", "closed")
		}
	case event.KindClock:
		if l.Note == string(event.Synced) {
			say("The clock is right again", "good", "time known")
		} else {
			say("The clock is not sure", "warn", "time unsure")
		}
	case event.KindStorage:
		switch l.Note {
		case "ok":
			say("The disk has room again", "good", "disk well")
		case "low":
			say("The disk is nearly full", "warn", "disk low")
		default:
			say("The disk is "+l.Note, "bad", "disk "+l.Note)
		}
	case event.KindBoot:
		if l.Note == "unclean" {
			say("Started after a sudden stop", "warn", "sudden stop")
		} else {
			say("Started", "", "")
		}
	case event.KindRoster:
		say("Roster "+l.Note+" is in force", "", "")
	case event.KindRecovered:
		say("Began a new journal after a loss", "warn", "new journal")
	case event.KindRestored:
		say("Began a new journal after an older disk came back", "warn", "new journal")
	case event.KindFork:
		say("Two histories of one journal were seen", "bad", "fork")
	default:
		say(page.Pretty(string(l.Kind)), "", "")
	}
}

func doorWords(door, state string, say func(what, tone, text string)) {
	switch state {
	case "forced":
		say(door+" was forced open", "bad", "look")
	case "held", "held-warning":
		say(door+" stands open", "warn", "open too long")
	case "stuck":
		say("The lock of "+door+" is stuck", "bad", "look")
	case "fire":
		say("Fire signal at "+door+": released", "bad", "fire")
	case "fire-clear":
		say("Fire signal at "+door+" is over", "good", "clear")
	default:
		say(door+": "+state, "", "")
	}
}

// doorBadge shows a door's state; a door closed by a host says so whatever the contact says.
func doorBadge(d Door) page.Badge {
	switch d.State {
	case "forced":
		return page.Badge{Tone: "bad", Text: "forced open", Hint: d.Why}
	case "stuck":
		return page.Badge{Tone: "bad", Text: "lock stuck", Hint: d.Why}
	case "fire":
		return page.Badge{Tone: "bad", Text: "released by fire signal"}
	case "held", "held-warning":
		return page.Badge{Tone: "warn", Text: "open too long"}
	}
	if d.Closed {
		return page.Badge{Tone: "plain", Text: "closed by a host"}
	}
	switch d.State {
	case "opened", "exit", "unlocked":
		return page.Badge{Tone: "plain", Text: "open"}
	case "closed", "relocked", "fire-clear":
		return page.Badge{Tone: "good", Text: "shut"}
	case "":
		return page.Badge{Tone: "unknown", Text: "not heard of"}
	}
	return page.Badge{Tone: "plain", Text: strings.ReplaceAll(d.State, "-", " ")}
}

func doubtBadge(doubt string) page.Badge {
	switch doubt {
	case "":
		return page.Badge{}
	case "no-exit":
		return page.Badge{Tone: "unknown", Text: "may have left", Hint: "this reader does not tell coming from going"}
	case "long-ago":
		return page.Badge{Tone: "unknown", Text: "long ago", Hint: "no tap for most of a day"}
	case "clock":
		return page.Badge{Tone: "unknown", Text: "time unsure", Hint: "the edge did not know the time"}
	}
	return page.Badge{Tone: "unknown", Text: strings.ReplaceAll(doubt, "-", " ")}
}

func edgeBadge(e Edge) page.Badge {
	switch e.Link {
	case Connected:
		if e.Behind > 0 {
			return page.Badge{Tone: "warn", Text: "catching up, " + page.Number(e.Behind) + " to come"}
		}
		return page.Badge{Tone: "good", Text: "in step"}
	case Held:
		return page.Badge{Tone: "bad", Text: "two histories", Hint: "an operator must decide which branch stands"}
	case Never:
		return page.Badge{Tone: "unknown", Text: "not heard yet"}
	case Retired:
		return page.Badge{Tone: "plain", Text: "retired"}
	}
	return page.Badge{Tone: "warn", Text: "on its own", Hint: "no link; doors decide by themselves and the journal waits there"}
}

// linkBadge sums up a house's edges: the worst one speaks.
func linkBadge(n *Node, now time.Time) page.Badge {
	live, away, held := 0, 0, 0
	var behind uint64
	var heard int64
	for _, e := range n.Edges {
		switch e.Link {
		case Connected:
			live++
			behind += e.Behind
		case Held:
			held++
		case Away:
			away++
			heard = max(heard, e.Heard)
		}
	}
	switch {
	case held > 0:
		return page.Badge{Tone: "bad", Text: "two histories", Hint: "an operator must decide which branch stands"}
	case away > 0 && live == 0 && heard > 0:
		return page.Badge{Tone: "warn", Text: "on its own, heard " + moment(heard, n.Zone, now).Ago(), Hint: "no link; doors decide by themselves and the journal waits there"}
	case away > 0:
		return page.Badge{Tone: "warn", Text: fmt.Sprintf("%d of %d edges on their own", away, away+live)}
	case behind > 0:
		return page.Badge{Tone: "warn", Text: "catching up, " + page.Number(behind) + " to come"}
	case live > 0:
		return page.Badge{Tone: "good", Text: "in step"}
	}
	return page.Badge{Tone: "unknown", Text: "not heard yet"}
}

// edgeFacts are the figures behind an edge's badge.
func edgeFacts(e Edge) [][2]string {
	facts := [][2]string{{"Journal here", fmt.Sprintf("%s, %s co-signed", page.Plural(int(e.Size), "leaf", "leaves"), covered(e.Receipted, e.Size))}}
	if e.Behind > 0 {
		facts = append(facts, [2]string{"Still there", page.Plural(int(e.Behind), "leaf", "leaves")})
	}
	facts = append(facts, [2]string{"In backup", covered(e.Backup, e.Size)})
	switch {
	case e.Roster == 0:
		facts = append(facts, [2]string{"Roster", "none in force"})
	case e.Roster < e.RosterNewest:
		facts = append(facts, [2]string{"Roster", fmt.Sprintf("version %d, newest is %d", e.Roster, e.RosterNewest)})
	default:
		facts = append(facts, [2]string{"Roster", fmt.Sprintf("version %d, newest", e.Roster)})
	}
	if e.Epochs > 1 {
		facts = append(facts, [2]string{"Journals", page.Plural(e.Epochs, "epoch", "epochs")})
	}
	if e.Version != "" {
		facts = append(facts, [2]string{"Program", e.Version})
	}
	return facts
}

func covered(n, of uint64) string {
	switch {
	case of == 0 || n == 0:
		return "none"
	case n >= of:
		return "all"
	}
	return page.Number(n)
}

func join(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, ", ")
}

func join2(who, what string) string { return strings.TrimSpace(who + " " + what) }
