package servicelog

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"kith/internal/access"
	"kith/internal/event"
)

// Mark says how one step of a trace came out.
type Mark string

// Marks.
const (
	Yes     Mark = "yes"
	No      Mark = "no"
	Plain   Mark = "plain"   // said for completeness
	Unknown Mark = "unknown" // not said by the leaf, or erased
)

// Step is one link of the chain card, person, grant, rule, verdict, proof.
type Step struct {
	Name   string // card, person, grant, rule, verdict, proof
	Mark   Mark
	Text   string
	Detail string
}

// Question is all that is known about one tap. Pointers are nil when the registry of today does not know the thing.
type Question struct {
	Line    Line
	Leaf    event.Leaf
	Private *event.Private
	Erased  bool
	Member  *access.Member
	Grant   *access.Grant
	Rule    *access.Schedule
	Zone    *time.Location
}

// Why explains a tap in the order in which it was decided. The verdict is the edge's; names, grants and rules are as the
// registry says them today, and the trace says so where they are gone.
func Why(q Question) []Step {
	if q.Line.Kind.IsEntry() {
		q.Leaf, q.Private = Original(q.Leaf, q.Private)
		return whyEntry(q)
	}
	if q.Line.Kind != event.KindTap {
		return nil
	}
	q.Leaf, q.Private = Original(q.Leaf, q.Private)
	var tap event.TapPrivate
	if q.Private != nil {
		_ = json.Unmarshal(q.Private.Body, &tap) // a part that we cannot read explains nothing, and that is shown
	}
	return []Step{shown(q, tap), person(q), grant(q, tap), rule(q, tap), verdict(q, tap)}
}

func shown(q Question, tap event.TapPrivate) Step {
	s := Step{Name: "card", Mark: Yes}
	switch q.Line.Assurance {
	case "pkoc":
		s.Text = "proved its own key by a fresh signature"
		s.Detail = "PKOC, P-256: cannot be copied"
	case "uid":
		s.Mark = Plain
		s.Text = "showed its number only"
		s.Detail = "UID: can be copied by anyone who held it"
	case "none", "":
		s.Mark = No
		s.Text = "proved nothing"
		s.Detail = tap.Detail
	default:
		s.Text = "proved itself as " + q.Line.Assurance
	}
	return s
}

func person(q Question) Step {
	s := Step{Name: "person", Mark: Yes}
	switch {
	case q.Erased:
		s.Mark, s.Text = Unknown, "erased"
		s.Detail = "the personal part of this record was erased; its place in the journal stands"
	case q.Private == nil:
		s.Mark, s.Text = Unknown, "not received"
		s.Detail = "the personal part has not reached the hub"
	case q.Line.Member == "":
		s.Mark, s.Text = No, "nobody known"
		s.Detail = "this house's roster did not hold the card"
	case q.Member == nil:
		s.Text, s.Detail = q.Line.Member, "no longer in the registry"
	default:
		s.Text = Named(q.Member)
		s.Detail = q.Member.Role + ", at home in " + q.Member.Home
	}
	switch access.Reason(q.Line.Reason) {
	case access.Blocked, access.Revoked:
		s.Mark = No
	}
	return s
}

// Named is how a person is shown: the chosen name, else the id.
func Named(m *access.Member) string {
	if strings.TrimSpace(m.Name) == "" {
		return m.ID
	}
	return m.Name
}

func grant(q Question, tap event.TapPrivate) Step {
	s := Step{Name: "grant", Mark: Yes}
	switch {
	case q.Private == nil:
		s.Mark, s.Text = Unknown, "not known"
	case tap.Grant == "" && q.Line.Verdict == Grant:
		s.Mark, s.Text = Plain, "not named by the edge"
	case tap.Grant == "":
		s.Mark, s.Text = No, "none fits"
		s.Detail = "no grant opens " + q.Line.Door + " for this card now"
	case q.Grant == nil:
		s.Text, s.Detail = tap.Grant, "no longer in the registry"
	default:
		s.Text = tap.Grant
		who := "for " + q.Grant.Member
		if q.Grant.Group != "" {
			who = "for the group " + q.Grant.Group
		}
		s.Detail = who + ": " + strings.Join(append(append([]string(nil), q.Grant.Doors...), q.Grant.Zones...), ", ")
	}
	switch access.Reason(q.Line.Reason) {
	case access.Expired, access.NotYetValid, access.WrongDoor:
		s.Mark = No
	}
	return s
}

func rule(q Question, tap event.TapPrivate) Step {
	s := Step{Name: "rule", Mark: Yes}
	switch {
	case q.Private == nil:
		s.Mark, s.Text = Unknown, "not known"
	case tap.Rule == "" && tap.Grant != "":
		s.Text = "at any time"
	case tap.Rule == "":
		s.Mark, s.Text = Plain, "none was asked"
	case q.Rule == nil:
		s.Text, s.Detail = tap.Rule, "no longer in the registry"
	default:
		s.Text, s.Detail = tap.Rule, Hours(q.Rule)
	}
	switch access.Reason(q.Line.Reason) {
	case access.Closed, access.DoorClosed:
		s.Mark = No
	}
	return s
}

// Hours says a schedule in one line.
func Hours(s *access.Schedule) string {
	var parts []string
	for _, p := range s.Spans {
		parts = append(parts, strings.Join(p.Days, " ")+" "+p.From+"–"+p.To)
	}
	if n := len(s.Holidays); n > 0 {
		parts = append(parts, fmt.Sprintf("closed on %d named days", n))
	}
	return strings.Join(parts, "; ")
}

func verdict(q Question, tap event.TapPrivate) Step {
	s := Step{Name: "verdict", Mark: No, Text: Says(q.Line.Reason)}
	if q.Line.Verdict == Grant {
		s.Mark = Yes
		if q.Line.Direction == "out" && access.Reason(q.Line.Reason) == access.Granted {
			s.Text = "let out"
		}
	}
	if t, err := tapOf(q.Leaf); err == nil {
		s.Detail = fmt.Sprintf("roster version %d", t.Roster)
	}
	if tap.Micros > 0 {
		s.Detail += fmt.Sprintf(", decided in %d.%03d ms", tap.Micros/1000, tap.Micros%1000)
	}
	return s
}

func tapOf(leaf event.Leaf) (event.Tap, error) {
	var t event.Tap
	return t, json.Unmarshal(leaf.Body, &t)
}

// Says is the sentence of a reason, for a host. The person at the door never hears it.
func Says(reason string) string {
	switch access.Reason(reason) {
	case access.Granted:
		return "let in"
	case access.UnknownCard:
		return "this card is not known here"
	case access.Revoked:
		return "this card was taken back"
	case access.Blocked:
		return "this person is blocked"
	case access.Expired:
		return "the right to enter has ended"
	case access.NotYetValid:
		return "the right to enter has not begun"
	case access.UIDNotAllowed:
		return "this door asks for a card that cannot be copied"
	case access.DoorClosed:
		return "a host closed this door"
	case access.WrongDoor:
		return "no right at this door"
	case access.Closed:
		return "outside the hours"
	case access.ClockUnsure:
		return "the edge was not sure of the time"
	case access.StaleRoster:
		return "the edge had not heard from the hub for too long"
	case access.NoRoster:
		return "the edge had no roster yet"
	case access.BadSignature:
		return "the card's signature was wrong"
	case access.Unreadable:
		return "the card could not be read"
	case access.NoRecord:
		return "the tap could not be recorded, and this door opens only on record"
	case "paused": // by the gate, which asks no roster then
		return "this card was refused too often just now"
	case "":
		return ""
	}
	return strings.ReplaceAll(reason, "-", " ")
}
