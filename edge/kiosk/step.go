package kiosk

import (
	"encoding/hex"
	"fmt"
	"time"

	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
)

// tap takes a card that answered what it was asked. A card that cannot stand for this entry is told so and changes
// nothing: a stranger's tap must not end somebody else's entry.
func (m *Machine) tap(now time.Duration, t Tap) []Output {
	s, ok := m.sessions[t.Ask.ID]
	if !ok {
		return nil
	}
	no := []Output{Say{Reader: s.Proposal.Reader, Word: NotNow}}
	second := s.State == Witness || s.Proposal.Member != ""
	switch {
	case s.State != Waiting && s.State != Witness, second != t.Ask.Second:
		return no // it expired, was cancelled or went on while the card was being asked
	case t.Known != access.Granted:
		return no
	case s.State == Witness:
		return m.witnessed(now, s, t, no)
	case s.Proposal.Member != "":
		return m.hosted(now, s, t, no)
	}
	return m.own(now, s, t, no)
}

// own is the member's own card.
func (m *Machine) own(now time.Duration, s *session, t Tap, no []Output) []Output {
	if s.use != nil && s.use.Member != t.Person.ID || s.old != nil && s.old.Member != t.Person.ID {
		return no
	}
	s.entry.Quantity, s.entry.Day = t.Ask.Entry.Quantity, t.Ask.Entry.Day
	s.Quantity = s.entry.Quantity
	if s.use != nil && s.entry.Quantity == 0 {
		return m.refused(s, "time-unknown")
	}
	if why := m.permits(s, t.Person, t.View); why != "" {
		s.Person = t.Person
		return m.refused(s, why)
	}
	s.first, s.Person = t, t.Person
	if s.Proposal.Start {
		return m.start(now, s, t)
	}
	s.Evidence = event.EvidenceC
	if t.Assurance == card.PKOC {
		s.Evidence = event.EvidenceA
	}
	if r, _ := t.View.Roster.Resource(s.entry.Resource); r.NeedsWitness(s.entry.Quantity) {
		s.State, s.Until = Witness, now+WitnessWait
		s.first.View.Roster = nil // the second card brings its own; an old roster must not be held in memory
		return []Output{Say{Reader: s.Proposal.Reader, Word: Working}}
	}
	return m.record(now, s, Tap{})
}

// witnessed is the second card. It must have proved itself and belong to somebody else.
func (m *Machine) witnessed(now time.Duration, s *session, t Tap, no []Output) []Output {
	if t.Person.ID == s.first.Person.ID || t.Assurance != card.PKOC {
		return no
	}
	if s.Evidence == event.EvidenceC && staff(t.Person) {
		s.Evidence = event.EvidenceB
	}
	return m.record(now, s, t)
}

// hosted is the card of a host who confirms an entry on behalf of a member.
func (m *Machine) hosted(now time.Duration, s *session, t Tap, no []Output) []Output {
	if t.Person.ID == s.Proposal.Member || t.Assurance != card.PKOC || !staff(t.Person) {
		return no
	}
	member, ok := t.View.Roster.Person(s.Proposal.Member)
	if !ok {
		return m.refused(s, string(access.UnknownCard))
	}
	s.entry.Day = t.Ask.Entry.Day
	if why := m.permits(s, member, t.View); why != "" {
		return m.refused(s, why)
	}
	s.Person, s.Evidence = member, event.EvidenceB
	s.first = Tap{View: t.View, Person: member}
	return m.record(now, s, t)
}

func staff(p access.Person) bool { return p.Role == access.RoleHost || p.Role == access.RoleOperator }

func (m *Machine) refused(s *session, why string) []Output {
	s.State, s.Reason = Refused, why
	return []Output{Say{Reader: s.Proposal.Reader, Word: NotNow}}
}

// start begins a use. Nothing is recorded yet: what counts is made by the stop. Who is on the list of the erased and still in the
// roster gets in and starts nothing, since the file of started uses would name them and nobody searches it again.
func (m *Machine) start(now time.Duration, s *session, t Tap) []Output {
	if erased := t.View.Roster.Erasures(); erased.Has(t.Person.ID) || erased.Has(t.Card) {
		s.first, s.Person = Tap{}, access.Person{}
		return m.refused(s, "unknown-member")
	}
	for _, u := range m.running {
		if u.Member == t.Person.ID && u.Resource == s.entry.Resource {
			return m.refused(s, "already-running")
		}
	}
	if len(m.running) >= MaxRunning {
		return m.refused(s, "full")
	}
	u := &Use{ID: s.ID, Member: t.Person.ID, Resource: s.entry.Resource, Measure: s.entry.Measure, Started: t.View.Wall.UnixMilli(),
		Clock: t.View.Clock, mono: now, here: true}
	m.running[s.ID], s.use = u, u
	s.State, s.first.View.Roster = Running, nil
	return []Output{m.keep(), Say{Reader: s.Proposal.Reader, Word: Yes, Hold: yesHold}}
}

// record writes the entry down. What names a person goes to the private part.
func (m *Machine) record(now time.Duration, s *session, second Tap) []Output {
	view := s.first.View
	if second.Card != "" {
		view = second.View
	}
	private := event.EntryPrivate{Note: s.Proposal.Note, Reader: s.Proposal.Reader, ToMember: s.Proposal.ToMember}
	e := s.entry
	e.Home, e.Evidence = s.first.Person.Home, s.Evidence
	if s.old != nil {
		e.Home = s.old.Entry.Home
	}
	if s.use != nil {
		private.Started = s.first.Ask.started
	}
	if s.first.Assurance == card.PKOC {
		e.Nonce = event.FormatNonce(s.first.Nonce)
		private.Key, private.Signature = hex.EncodeToString(s.first.Key), hex.EncodeToString(s.first.Signature)
	}
	if second.Card != "" {
		private.WitnessMember, private.WitnessCard = second.Person.ID, second.Card
		private.WitnessNonce = event.FormatNonce(second.Nonce)
		private.WitnessKey, private.WitnessSignature = hex.EncodeToString(second.Key), hex.EncodeToString(second.Signature)
	}
	body, err := event.EncodeEntry(s.Proposal.Action, e)
	if err != nil {
		return m.refused(s, "not-an-entry")
	}
	part, err := event.Marshal(private)
	if err != nil {
		return m.refused(s, "not-an-entry")
	}
	s.entry, s.Quantity, s.State = e, e.Quantity, Recording
	m.spend(s, view)
	s.first.View.Roster = nil
	if s.old != nil {
		s.old.correcting = true
	}
	return []Output{Record{ID: s.ID, Fact: event.Fact{Kind: s.Proposal.Action, At: view.Wall, Mono: now, Clock: view.Clock, Body: body,
		Private: &event.Private{Member: s.first.Person.ID, Card: s.first.Card, Body: part}}}}
}

// written ends an entry. One that could not be made durable is refused as a whole: the person is still there, and may
// try again without being counted twice.
func (m *Machine) written(in Written) []Output {
	s, ok := m.sessions[in.ID]
	if !ok || s.State != Recording {
		return nil
	}
	say := func(w Word) []Output {
		if s.Proposal.Reader == "" {
			return nil
		}
		return []Output{Say{Reader: s.Proposal.Reader, Word: w, Hold: yesHold}}
	}
	if in.Err != nil {
		if s.spent != 0 {
			m.book.usage[s.usage] -= s.spent
		}
		if s.old != nil {
			s.old.correcting = false
		}
		s.State, s.Reason = Refused, "not-recorded"
		return say(TryAgain)
	}
	s.State, s.Address = Recorded, fmt.Sprintf("%s/%d", in.Epoch, in.Index)
	if s.old != nil {
		s.old.corrected = true
	}
	m.book.add(made{Address: s.Address, Kind: s.Proposal.Action, Entry: s.entry, Member: s.first.Person.ID, ToMember: s.Proposal.ToMember,
		At: s.first.View.Wall.UnixMilli()})
	if s.Proposal.Stop == "" {
		return say(Yes)
	}
	delete(m.running, s.Proposal.Stop)
	if begun, ok := m.sessions[s.Proposal.Stop]; ok {
		begun.State, begun.Address = Recorded, s.Address
	}
	return append([]Output{m.keep()}, say(Yes)...)
}
