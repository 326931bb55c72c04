package access

import (
	"strings"
	"time"
)

// Decide answers a tap. It is pure, allocates nothing that grows with the roster, and a nil Roster answers NoRoster.
//
// When several things forbid, the verdict names the one a host can do most with: first what is wrong with the card,
// then with the person, then with the door, then the grant that came closest to opening (stale-roster, clock-unsure,
// closed, not-yet-valid, expired, wrong-door in this order, and of equals the grant with the lowest id).
func (r *Roster) Decide(q Query) Verdict {
	if r == nil {
		return Verdict{Reason: NoRoster}
	}
	v := Verdict{RosterVersion: r.version}
	c, ok := r.card(q.Card)
	if !ok {
		v.Reason = UnknownCard
		return v
	}
	m := &r.members[c.member]
	v.Member = r.idOf(m)
	if v.Reason = r.barred(c, m, &q); v.Reason != "" {
		return v
	}
	best := r.bestGrant(c.member, m, &q)
	v.Reason = best.reason
	if best.reason == WrongDoor {
		return v
	}
	g := &r.grants[best.grant]
	v.Grant = g.id
	if g.week >= 0 {
		v.Rule = r.weeks[g.week].id
	}
	if best.reason != Granted {
		return v
	}
	if !q.Fresh.Fresh {
		if !r.kept(m, &q) {
			v.Reason = StaleRoster
			return v
		}
		v.Degraded = true
	}
	v.Allow = true
	v.PulseMS = int(m.pulse)
	return v
}

// barred is what forbids whatever the grants say; empty = nothing.
func (r *Roster) barred(c *card, m *member, q *Query) Reason {
	now := q.Now.Unix()
	held, stay := &r.tenures[c.tenure], &r.tenures[m.tenure]
	switch {
	case c.revoked:
		return Revoked
	case m.blocked:
		return Blocked
	case ended(held.until, now) || ended(stay.until, now):
		return Expired
	case !begun(held.from, now) || !begun(stay.from, now):
		if q.ClockUnsure {
			return ClockUnsure
		}
		return NotYetValid
	case !q.Door.AllowUID && (q.Assurance == "uid" || strings.HasPrefix(q.Card, uidPrefix)):
		return UIDNotAllowed
	case q.Mode != ModeNormal:
		return DoorClosed
	}
	if _, closed := r.closed[q.Door.ID]; closed {
		return DoorClosed
	}
	return ""
}

func ended(until, now int64) bool { return until != 0 && until <= now }

func begun(from, now int64) bool { return from == 0 || from <= now }

// outcome is how far a grant came; a higher rank is nearer to opening.
type outcome struct {
	reason Reason
	rank   int
	grant  uint32
}

// better keeps the higher rank, and of equals the lower grant, whatever order they come in.
func (o outcome) better(than outcome) bool {
	return o.rank > than.rank || (o.rank == than.rank && o.grant < than.grant)
}

const (
	rankWrongDoor = iota
	rankExpired
	rankNotYet
	rankClosed
	rankUnsure
	rankGranted
)

func (r *Roster) bestGrant(memberIndex uint32, m *member, q *Query) outcome {
	s := search{r: r, m: m, time: q.Now, now: q.Now.Unix(), unsure: q.ClockUnsure, best: outcome{reason: WrongDoor, rank: rankWrongDoor}}
	s.arrive(&q.Door)
	if s.places == 0 {
		return s.best
	}
	s.list(r.own[memberIndex])
	for _, g := range r.sets[m.set] {
		s.list(r.grantsOf[g])
	}
	return s.best
}

// search is one walk over a person's grants.
type search struct {
	r       *Roster
	m       *member
	time    time.Time
	now     int64 // the same in unix seconds
	unsure  bool
	here    [1 + maxQueryZones]uint32 // the door and its zones
	places  int                       // how many of them
	best    outcome
	wall    wall
	hasWall bool
}

// arrive numbers the door and its zones, leaving out what no grant names.
func (s *search) arrive(d *Door) {
	add := func(n uint32) {
		if n != 0 {
			s.here[s.places] = n
			s.places++
		}
	}
	add(s.r.places[d.ID].door)
	for _, z := range d.Zones[:min(len(d.Zones), maxQueryZones)] {
		add(s.r.places[z].zone)
	}
}

// list tries grants by ascending id and leaves at the first that opens: no later one of this list can be better.
func (s *search) list(grants []uint32) {
	for _, n := range grants {
		if s.best.rank == rankGranted && n > s.best.grant {
			return
		}
		if o := s.try(n); o.rank != rankWrongDoor && (s.best.rank == rankWrongDoor || o.better(s.best)) {
			s.best = o
		}
	}
}

func (s *search) try(n uint32) outcome {
	g := &s.r.grants[n]
	switch {
	case !meets(g.places, s.here[:s.places]):
		return outcome{WrongDoor, rankWrongDoor, n}
	case ended(g.until, s.now):
		return outcome{Expired, rankExpired, n}
	case s.unsure && !s.always(g):
		return outcome{ClockUnsure, rankUnsure, n}
	case !begun(g.from, s.now):
		return outcome{NotYetValid, rankNotYet, n}
	case g.week >= 0 && !s.open(g.week):
		return outcome{Closed, rankClosed, n}
	}
	return outcome{Granted, rankGranted, n}
}

// always says that a right holds whatever the time is: an unscheduled, endless grant of somebody who lives here. What
// ends with the person's own stay is judged on the lower bound of time, and the freshness ticket bounds that.
func (s *search) always(g *grant) bool {
	return g.week < 0 && g.until == 0 && begun(g.from, s.now) && s.m.role.lives()
}

func (s *search) open(week int32) bool {
	if !s.hasWall {
		s.wall, s.hasWall = wallAt(s.time, s.r.zone), true
	}
	return s.r.weeks[week].open(s.wall)
}

// meets says whether two small ascending or short lists share a place.
func meets(places, here []uint32) bool {
	for _, h := range here {
		lo, hi := 0, len(places)
		for lo < hi {
			mid := int(uint(lo+hi) / 2)
			if places[mid] < h {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		if lo < len(places) && places[lo] == h {
			return true
		}
	}
	return false
}

// kept says whether the door's degraded mode still lets this person use an otherwise good grant.
func (r *Roster) kept(m *member, q *Query) bool {
	longest := q.Door.DegradedMax
	if longest <= 0 {
		longest = DegradedMax
	}
	if q.Fresh.Age > max(longest, time.Duration(0)) {
		return false
	}
	switch q.Door.Degraded {
	case KeepResidents, "":
		return m.role.lives() && m.home == 0 // homes[0] is this node
	case StaffOnly:
		return m.role.staff()
	default:
		return false
	}
}
