package access

import (
	"iter"
	"sort"
	"time"
)

// Roster is a compiled, immutable document. Everything that belongs to one person is a fixed-size record without
// pointers, and all text stands in one arena, so that a quarter of a million people cost the garbage collector nothing.
type Roster struct {
	network, node string
	version       uint64
	issued        time.Time
	zone          *time.Location

	text     arena
	members  []member // ascending by id
	tenures  []tenure // shared by people and cards; the first has no bounds
	homes    []string
	sets     [][]uint32          // distinct sets of groups, as indexes into grantsOf
	grantsOf [][]uint32          // grants of each group, ascending
	own      map[uint32][]uint32 // grants of single members, ascending
	cards    deck
	grants   []grant // ascending by id, so that the index is the tie-breaker and order in the document cannot matter
	places   map[string]place
	weeks    []week
	closed   map[string]struct{}

	catalogue catalogue
	erasures  *Erasures // nil when nobody was erased
}

// member is 20 bytes and, in the arena, id and name one behind the other.
type member struct {
	text    uint32
	set     uint32
	tenure  uint32
	pulse   uint16 // milliseconds
	home    uint16
	id      uint8 // bytes
	name    uint8 // bytes
	role    role
	blocked bool
}

// tenure is a validity, shared by all who have the same.
type tenure struct{ from, until int64 }

type grant struct {
	id          string
	from, until int64
	places      []uint32 // doors and zones, ascending
	week        int32    // -1 = always
}

// place numbers a name as a door and as a zone, 0 = never granted; the two are different things that may share a name.
type place struct{ door, zone uint32 }

type role uint8

const (
	guest role = iota
	resident
	host
	operator
	governor
	auditor
)

// roleNames are in the order of the constants above.
func roleNames() []string {
	return []string{RoleGuest, RoleResident, RoleHost, RoleOperator, RoleGovernor, RoleAuditor}
}

func (r role) String() string { return roleNames()[r] }

func (r role) staff() bool { return r == host || r == operator }

// lives tells people whose right does not hang on a stay from guests and visitors.
func (r role) lives() bool { return r == resident || r.staff() }

// Person is what other rooms may ask of a member: a greeting, a role, a home.
type Person struct{ ID, Name, Home, Role string }

// Network, Node, Version, Issued and Zone repeat the document's head.
func (r *Roster) Network() string { return r.network }

// Node is the place this roster is for.
func (r *Roster) Node() string { return r.node }

// Version counts the node's rosters upwards.
func (r *Roster) Version() uint64 { return r.version }

// Issued is when the hub made the document.
func (r *Roster) Issued() time.Time { return r.issued }

// Zone is the node's zone.
func (r *Roster) Zone() *time.Location { return r.zone }

// Len is the number of members, cards and grants.
func (r *Roster) Len() (members, cards, grants int) {
	return len(r.members), len(r.cards.all), len(r.grants)
}

// Person finds a member by id.
func (r *Roster) Person(id string) (Person, bool) {
	if r == nil {
		return Person{}, false
	}
	i, ok := r.find(id)
	if !ok {
		return Person{}, false
	}
	return r.person(i), true
}

// Holder finds whose card this is, revoked or not.
func (r *Roster) Holder(cardID string) (Person, bool) {
	if r == nil {
		return Person{}, false
	}
	c, ok := r.card(cardID)
	if !ok {
		return Person{}, false
	}
	return r.person(c.member), true
}

// People walks all members by ascending id.
func (r *Roster) People() iter.Seq[Person] {
	return func(yield func(Person) bool) {
		if r == nil {
			return
		}
		for i := range r.members {
			if !yield(r.person(uint32(i))) {
				return
			}
		}
	}
}

func (r *Roster) person(i uint32) Person {
	m := &r.members[i]
	return Person{ID: r.idOf(m), Name: r.text.text(m.text+uint32(m.id), m.name), Home: r.homes[m.home], Role: m.role.String()}
}

func (r *Roster) idOf(m *member) string { return r.text.text(m.text, m.id) }

func (r *Roster) find(id string) (uint32, bool) {
	n := len(r.members)
	i := sort.Search(n, func(i int) bool { return r.idOf(&r.members[i]) >= id })
	if i == n || r.idOf(&r.members[i]) != id {
		return 0, false
	}
	return uint32(i), true
}

func (r *Roster) card(id string) (*card, bool) {
	key, ok := parseCardID(id)
	if !ok {
		return nil, false
	}
	return r.cards.find(key)
}
