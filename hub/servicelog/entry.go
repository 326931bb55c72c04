package servicelog

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"kith/internal/card"
	"kith/internal/event"
)

// Words of Line.Direction for entries.
const (
	Corrects = "corrects" // it replaces an older entry
	Carried  = "carried"  // brought over from a lost branch of the journal
)

// entry fills in the line of an economic leaf: the resource stands where a door's name does, the evidence class where a
// card's assurance does, and the amount is the note.
func (l *Line) entry(leaf event.Leaf) bool {
	e, err := event.ParseEntry(leaf.Kind, leaf.Body)
	if err != nil {
		return false
	}
	l.Door, l.Assurance, l.Note = e.Resource, e.Evidence, fmt.Sprintf("%d %s", e.Quantity, e.Measure)
	if e.To != "" {
		l.Note += " to " + e.To
	}
	if e.Corrects != "" {
		l.Direction = Corrects
	}
	return true
}

// Sentence is what a line says after the person's name, for an entry; for everything else the sentence of its reason.
func Sentence(l Line) string {
	if !l.Kind.IsEntry() {
		return Says(l.Reason)
	}
	thing, amount, to := strings.ReplaceAll(l.Door, "-", " "), l.Note, ""
	if i := strings.Index(amount, " to "); i >= 0 {
		amount, to = amount[:i], amount[i+1:]
	}
	amount = plural(amount)
	if l.Direction == Corrects && strings.HasPrefix(amount, "0 ") {
		return "took back an entry: " + Did(l.Kind) + " " + thing
	}
	said := Did(l.Kind) + " " + thing + ", " + amount
	if l.Kind == event.KindWork {
		said = Did(l.Kind) + ": " + thing + ", " + amount
	}
	if to != "" {
		said += " " + to
	}
	if l.Direction == Corrects {
		return "corrected an entry: " + said
	}
	return said
}

// Did is the past of a verb.
func Did(k event.Kind) string {
	switch k {
	case event.KindWork:
		return "worked"
	case event.KindUse:
		return "used"
	case event.KindConsume:
		return "consumed"
	case event.KindDeliverService:
		return "delivered"
	case event.KindTransfer:
		return "handed over"
	case event.KindTransferCustody:
		return "lent"
	case event.KindRaise:
		return "counted more of"
	case event.KindLower:
		return "counted less of"
	}
	return strings.ReplaceAll(string(k), "-", " ")
}

// plural adds the s that English wants; signs of units take none.
func plural(amount string) string {
	n, measure, _ := strings.Cut(amount, " ")
	switch measure {
	case "wh", "kwh", "km", "m", "kg", "g", "l", "ml", "eur", "":
		return amount
	}
	if n == "1" || strings.HasSuffix(measure, "s") {
		return amount
	}
	return amount + "s"
}

// whyEntry explains what an entry rests on, and checks the signatures of the cards again.
func whyEntry(q Question) []Step {
	e, err := event.ParseEntry(q.Leaf.Kind, q.Leaf.Body)
	if err != nil {
		return nil
	}
	var part event.EntryPrivate
	if q.Private != nil {
		_ = json.Unmarshal(q.Private.Body, &part) // a part that we cannot read explains nothing, and that is shown
	}
	steps := []Step{{Name: "entry", Mark: Plain, Text: Sentence(q.Line), Detail: part.Note}, entryPerson(q, &e), evidence(q, &e, &part)}
	if part.WitnessMember != "" && e.Evidence != event.EvidenceB {
		steps = append(steps, Step{Name: "witness", Mark: Yes, Text: part.WitnessMember, Detail: "another person's card signed beside"})
	}
	if e.Corrects != "" {
		steps = append(steps, Step{Name: "correction", Mark: Plain, Text: "replaces an older entry of this edge", Detail: e.Corrects})
	}
	return steps
}

func entryPerson(q Question, e *event.Entry) Step {
	s := person(q)
	if q.Private != nil && q.Line.Member == "" {
		s.Text, s.Detail = "nobody named", ""
	}
	if s.Detail == "" || s.Mark == Unknown {
		s.Detail = strings.TrimPrefix(s.Detail+"; of "+e.Home, "; ")
	}
	return s
}

func evidence(q Question, e *event.Entry, part *event.EntryPrivate) Step {
	s := Step{Name: "evidence", Mark: Yes}
	switch e.Evidence {
	case event.EvidenceA:
		s.Text, s.Detail = "A: the member's card signed this entry", "the signature was checked just now"
	case event.EvidenceB:
		s.Text, s.Detail = "B: "+part.WitnessMember+" confirmed as host", "the host's card signed this entry; checked just now"
		if part.WitnessMember == "" {
			s.Text = "B: a host confirmed"
		}
	default:
		s.Mark, s.Text, s.Detail = Plain, "C: one-sided", "no card proved it"
		if q.Private != nil && strings.HasPrefix(q.Private.Card, "uid:") {
			s.Detail = "the card showed its number only, which anyone can copy"
		}
		return s
	}
	if q.Private == nil {
		s.Mark, s.Detail = Unknown, "its signature lay in the personal part, which is not here; the edge's own signature stands"
		return s
	}
	if err := card.CheckBinding(q.Leaf, *q.Private); err != nil {
		s.Mark, s.Detail = No, "the signature does NOT hold for this entry"
		if !errors.Is(err, card.ErrBinding) {
			s.Detail = "the signature could not be read"
		}
	}
	return s
}
