package kiosk

import (
	"maps"
	"slices"

	"kith/internal/access"
)

// Forget drops what is still known here of people who were erased, by the ids of them and of their cards: entries in the
// making and lately made, limits, and uses that they started. Nobody else could stop such a use, so it ends without an entry. It
// fails when the started uses could not be written down without them, and is to be called again then.
func (k *Kiosk) Forget(is func(id string) bool) error {
	k.mu.Lock()
	k.machine.forget(is)
	k.mu.Unlock()
	return k.write()
}

func (m *Machine) forget(is func(id string) bool) {
	maps.DeleteFunc(m.running, func(_ string, u *Use) bool { return is(u.Member) })
	maps.DeleteFunc(m.sessions, func(_ string, s *session) bool {
		named := slices.ContainsFunc([]string{s.Proposal.Member, s.Proposal.ToMember, s.Person.ID, s.first.Person.ID, s.first.Card}, is) ||
			s.use != nil && is(s.use.Member)
		if named && s.State == Recording { // its word is still to be said, and to nobody in particular
			s.Proposal.Member, s.Proposal.ToMember, s.Person, s.first = "", "", access.Person{}, Tap{View: s.first.View}
			s.use, s.usage, s.spent = nil, usageKey{}, 0
			return false
		}
		return named
	})
	maps.DeleteFunc(m.book.usage, func(k usageKey, _ int64) bool { return is(k.member) })
	for _, e := range m.book.recent {
		if is(e.Member) {
			e.Member = "" // as after a restart: it stands, and nobody corrects it
		}
		if is(e.ToMember) {
			e.ToMember = ""
		}
	}
}
