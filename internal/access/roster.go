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

	text     string
	members  []member // ascending by id
	homes    []string
	sets     [][]uint32          // distinct sets of groups, as indexes into grantsOf
	grantsOf [][]uint32          // grants of each group, ascending
	own      map[uint32][]uint32 // grants of single members, ascending
	pkoc     map[[pkocBytes]byte]uint32
	uid      map[uidKey]uint32
	cards    []card
	grants   []grant // ascending by id, so that the index is the tie-breaker and order in the document cannot matter
	places   map[string]place
	weeks    []week
	closed   map[string]struct{}

	catalogue catalogue
}

const (
	pkocBytes   = 32 // X coordinate of a P-256 key
	maxUIDBytes = 10 // ISO 14443-3: 4, 7 or 10
)

// uidKey is length and bytes: a 4-byte UID never equals the beginning of a 7-byte one.
type uidKey [1 + maxUIDBytes]byte

// piece is a stretch of the text arena.
type piece struct {
	off uint32
	n   uint8
}

type member struct {
	from, until int64
	id, name    piece
	set         uint32
	pulse       uint32
	home        uint16
	role        role
	blocked     bool
}

type card struct {
	from, until int64
	member      uint32
	revoked     bool
}

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
	return len(r.members), len(r.cards), len(r.grants)
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
	i, ok := r.card(cardID)
	if !ok {
		return Person{}, false
	}
	return r.person(r.cards[i].member), true
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
	return Person{ID: r.str(m.id), Name: r.str(m.name), Home: r.homes[m.home], Role: m.role.String()}
}

func (r *Roster) str(p piece) string { return r.text[p.off : p.off+uint32(p.n)] }

func (r *Roster) find(id string) (uint32, bool) {
	n := len(r.members)
	i := sort.Search(n, func(i int) bool { return r.str(r.members[i].id) >= id })
	if i == n || r.str(r.members[i].id) != id {
		return 0, false
	}
	return uint32(i), true
}

func (r *Roster) card(id string) (uint32, bool) {
	pkoc, uid, kind := parseCardID(id)
	var i uint32
	var ok bool
	switch kind {
	case cardPKOC:
		i, ok = r.pkoc[pkoc]
	case cardUID:
		i, ok = r.uid[uid]
	}
	return i, ok
}
