package roster

import (
	"time"

	"kith/internal/access"
	"kith/internal/bulletin"
)

// Times of the lease.
const (
	bootPenalty  = 10 * time.Minute // added at each start: power cuts must not stop the lease's clock
	rewriteEvery = 5 * time.Second  // how soon a roster that the disk refused is tried again
	persistEvery = 10 * time.Minute // how often the clock is written down; equal to the penalty, so that nothing is ever lost
	farJump      = 24 * time.Hour   // a wall clock further ahead than this needs the hub's word
)

// lease knows how long ago the hub last vouched for the roster and how late it is at least, without trusting the wall
// clock. It is pure: mono is the time since the process began.
//
// Two witnesses can end a lease, and either suffices: the lower bound of time has reached the ticket's end, or as much
// time has passed on the monotonic clock as the ticket was given to live.
type lease struct {
	low     int64         // unix seconds: it is certainly not earlier than this ...
	lowAt   time.Duration // ... since then on the monotonic clock
	elapsed time.Duration // since the hub last vouched, as of sinceAt
	sinceAt time.Duration
	ticket  bulletin.Ticket // zero = none
}

// clockFile is what survives a power cut.
type clockFile struct {
	Low     int64  `json:"low"`     // unix seconds
	Elapsed int64  `json:"elapsed"` // seconds since the hub last vouched
	Floor   uint64 `json:"floor"`   // newest roster version ever accepted
	Hash    string `json:"hash"`    // and its document's hash
	Ticket  int64  `json:"ticket"`  // issue time of the newest ticket ever accepted
}

func (l *lease) lowNow(mono time.Duration) int64 { return l.low + int64((mono-l.lowAt)/time.Second) }

func (l *lease) elapsedNow(mono time.Duration) time.Duration { return l.elapsed + mono - l.sinceAt }

// witness raises the lower bound to a time that is known to have come.
func (l *lease) witness(unix int64, mono time.Duration) {
	if unix > l.lowNow(mono) {
		l.low, l.lowAt = unix, mono
	}
}

// accept takes a newer ticket.
func (l *lease) accept(t bulletin.Ticket, mono time.Duration) {
	l.witness(t.Issued, mono)
	l.ticket = t
	l.restart(t.Issued, mono)
}

// restart begins the count anew. What was on the way for long is already as old as the lower bound says.
func (l *lease) restart(issued int64, mono time.Duration) {
	l.elapsed, l.sinceAt = time.Duration(max(0, l.lowNow(mono)-issued))*time.Second, mono
}

// age is the time since the hub vouched, by the witness that says more.
func (l *lease) age(issued int64, mono time.Duration) time.Duration {
	byLow := time.Duration(l.lowNow(mono)-issued) * time.Second
	return max(byLow, l.elapsedNow(mono))
}

// freshness of the held roster. Before the first ticket the roster's own header is the hub's last word: never fresh, but
// its age lets the degraded mode keep people for a while.
func (l *lease) freshness(held bulletin.Header, mono time.Duration) access.Freshness {
	if l.ticket.RosterVersion == 0 {
		return access.Freshness{Age: l.age(held.Issued, mono)}
	}
	age := l.age(l.ticket.Issued, mono)
	life := time.Duration(l.ticket.Until-l.ticket.Issued) * time.Second
	// A roster newer than the ticket's is at least as fresh as the ticket says; an older one is known to be behind.
	return access.Freshness{Fresh: l.ticket.RosterVersion <= held.Version && age < life, Age: age}
}

// clock turns a wall clock into a time to decide with. A wall clock that is not synchronised, runs behind what is
// certain or jumps far ahead without the hub's word is unsure, and the lower bound stands in for it.
func (l *lease) clock(wall time.Time, synced bool, mono time.Duration) (now time.Time, unsure bool) {
	low := l.lowNow(mono)
	if !synced || wall.Unix() < low || wall.Unix() > low+int64(farJump/time.Second) {
		return time.Unix(low, 0).UTC(), true
	}
	l.witness(wall.Unix(), mono)
	return wall, false
}
