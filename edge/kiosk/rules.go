package kiosk

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"kith/internal/access"
	"kith/internal/event"
)

// Fault is the kind of a refused proposal.
type Fault int

// Faults.
const (
	Bad   Fault = iota + 1 // it does not say what it must
	Ruled                  // the catalogue does not allow it
	Busy                   // another entry waits at that reader
	Full                   // too much at once
)

// Refusal says why a proposal was not taken.
type Refusal struct {
	Fault  Fault
	Reason string // a short word
	Text   string // a sentence for whoever proposed
}

func (r *Refusal) Error() string { return r.Text }

func refuse(f Fault, reason, format string, args ...any) *Refusal {
	return &Refusal{f, reason, fmt.Sprintf(format, args...)}
}

// check is everything that can be said of a proposal before a card is known, and fills in the entry.
func (m *Machine) check(s *session, v View) error {
	p := &s.Proposal
	if v.Roster == nil {
		return refuse(Ruled, string(access.NoRoster), "this edge has no roster yet, so it knows no catalogue")
	}
	if err := m.checkForm(p); err != nil {
		return err
	}
	if erased := v.Roster.Erasures(); erased.Has(p.Member) || erased.Has(p.ToMember) {
		return refuse(Ruled, "unknown-member", "no such member; whoever was erased is in no entry")
	}
	if p.Stop != "" {
		return m.checkStop(s, v)
	}
	if p.Corrects != "" {
		old := m.book.find(p.Corrects)
		switch {
		case old == nil:
			return refuse(Ruled, "unknown-entry", "the entry to correct is not among the latest %d of this edge", MaxRecent)
		case old.corrected || old.correcting:
			return refuse(Ruled, "already-corrected", "that entry was corrected already; name its correction")
		case p.Action != old.Kind || p.Resource != old.Entry.Resource:
			return refuse(Bad, "another-entry", "a correction has the action and resource of what it corrects: %s %s", old.Kind, old.Entry.Resource)
		}
		s.old, p.To, p.ToMember = old, old.Entry.To, old.ToMember
	}
	r, ok := v.Roster.Resource(p.Resource)
	switch {
	case !ok:
		return refuse(Ruled, string(access.NoResource), "resource %.60q is not in this node's catalogue", p.Resource)
	case !r.Allows(string(p.Action)):
		return refuse(Ruled, "not-this-action", "%s is not entered for %s", p.Action, r.ID)
	case p.Start && r.Measure != "minute" && r.Measure != "hour":
		return refuse(Bad, "not-a-time", "%s is counted in %s; only minutes and hours can be started and stopped", r.ID, r.Measure)
	case r.MaxEntry > 0 && p.Quantity > r.MaxEntry:
		return refuse(Ruled, "above-max-entry", "one entry of %s has at most %d %s", r.ID, r.MaxEntry, unitWord(r.MaxEntry, r.Measure))
	}
	s.Measure, s.Quantity = r.Measure, p.Quantity
	s.entry = event.Entry{Resource: r.ID, Quantity: p.Quantity, Measure: r.Measure, To: p.To, Corrects: p.Corrects}
	if s.old != nil {
		s.entry.Day, s.entry.Measure, s.Measure = s.old.Entry.Day, s.old.Entry.Measure, s.old.Entry.Measure
	}
	return nil
}

// checkForm holds a proposal to its own shape.
func (m *Machine) checkForm(p *Proposal) error {
	transfer := p.Action == event.KindTransfer || p.Action == event.KindTransferCustody
	switch {
	case p.Reader != "" && !slices.Contains(m.cfg.Readers, p.Reader):
		return refuse(Bad, "unknown-reader", "there is no reader %.60q here", p.Reader)
	case p.Reader == "" && p.Member == "":
		return refuse(Bad, "no-reader", "name the reader where the card will be shown, or the member of a one-sided entry")
	case p.Member != "" && !event.IsID(p.Member):
		return refuse(Bad, "bad-member", "member %.60q is not an id", p.Member)
	case !plain(p.Note):
		return refuse(Bad, "bad-note", "a note has at most %d bytes of UTF-8 on one line", event.MaxNote)
	case p.Reader != "" && m.busy(p.Reader):
		return refuse(Busy, "reader-busy", "another entry waits at %s; it ends within %s", p.Reader, TapWait)
	case p.Stop != "" && (p.Action != "" || p.Resource != "" || p.Quantity != 0 || p.Start || p.Corrects != "" || p.To != "" || p.Member != ""):
		return refuse(Bad, "bad-stop", "a stop names the started use, a reader and perhaps a note, nothing else")
	case p.Stop != "":
		return nil
	case !p.Action.IsEntry():
		return refuse(Bad, "bad-action", "action %.40q is none of work, use, consume, deliver-service, transfer, transfer-custody, raise, lower", p.Action)
	case p.Start && (p.Action != event.KindUse || p.Quantity != 0 || p.Corrects != "" || p.Member != ""):
		return refuse(Bad, "bad-start", "only a use of one's own is started, and its quantity is made by the stop")
	case p.Quantity < 0 || p.Quantity > event.MaxQuantity || p.Quantity == 0 && p.Corrects == "" && !p.Start:
		return refuse(Bad, "bad-quantity", "quantity %d: want 1 to %d, or 0 in a correction that takes an entry back", p.Quantity, event.MaxQuantity)
	case p.Corrects != "" && (p.To != "" || p.ToMember != ""):
		return refuse(Bad, "bad-to", "a correction goes where the corrected entry went")
	case p.Corrects == "" && transfer != (p.To != "") || p.To != "" && !event.IsID(p.To) || p.ToMember != "" && !event.IsID(p.ToMember):
		return refuse(Bad, "bad-to", "a transfer names the node it goes to, as NODE or NODE/MEMBER; nothing else does")
	}
	return nil
}

func (m *Machine) checkStop(s *session, v View) error {
	u, ok := m.running[s.Proposal.Stop]
	if !ok {
		return refuse(Ruled, "not-running", "there is no started use %.40q", s.Proposal.Stop)
	}
	for _, other := range m.sessions {
		if other.Proposal.Stop == u.ID && !other.State.Final() {
			return refuse(Busy, "being-stopped", "that use is being stopped at %s", other.Proposal.Reader)
		}
	}
	if !u.knows(v) {
		return refuse(Ruled, "time-unknown", "the time since the start is not known; cancel %s and enter the quantity by hand", u.ID)
	}
	s.use = u
	s.Proposal.Action, s.Proposal.Resource = event.KindUse, u.Resource
	s.Measure = u.Measure
	s.entry = event.Entry{Resource: u.Resource, Measure: u.Measure}
	return nil
}

func (m *Machine) busy(reader string) bool {
	for _, s := range m.sessions {
		if s.Proposal.Reader == reader && !s.State.Final() {
			return true
		}
	}
	return false
}

// permits asks the catalogue and the day's limits about a known person: "" or a short word.
func (m *Machine) permits(s *session, p access.Person, v View) string {
	if s.use != nil {
		return "" // it has been used; a limit stops a permission, never a fact
	}
	if s.old != nil && (s.old.Member != p.ID || s.old.corrected || s.old.correcting) {
		return "already-corrected"
	}
	if why := v.Roster.Entitled(p.ID, s.entry.Resource); why != access.Granted {
		return string(why)
	}
	if k := s.Proposal.Action; (k == event.KindRaise || k == event.KindLower) && !staff(p) {
		return "staff-only"
	}
	r, _ := v.Roster.Resource(s.entry.Resource)
	if r.MaxDay == 0 || s.Proposal.Start {
		return ""
	}
	key := usageKey{p.ID, r.ID, s.entry.Day}
	spent, counted := m.book.usage[key]
	if !counted && !m.book.room(s.entry.Day) {
		return "full"
	}
	if s.old != nil {
		spent -= s.old.Entry.Quantity
	}
	if spent+s.entry.Quantity > r.MaxDay {
		return "above-max-day"
	}
	return ""
}

// spend counts an entry against its day.
func (m *Machine) spend(s *session, v View) {
	if r, ok := v.Roster.Resource(s.entry.Resource); !ok || r.MaxDay == 0 {
		return
	}
	s.usage, s.spent = usageKey{s.first.Person.ID, s.entry.Resource, s.entry.Day}, s.entry.Quantity
	if s.old != nil {
		s.spent -= s.old.Entry.Quantity
	}
	m.book.usage[s.usage] += s.spent
}

// plain refuses what could break a line in a journal or turn text around on a page.
func plain(s string) bool {
	return len(s) <= event.MaxNote && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
	})
}
