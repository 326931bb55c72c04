package outbox

import (
	"time"

	"kith/internal/event"
	"kith/internal/wire"
)

// search finds where our history and the hub's part: at lo they agree, at hi they do not (or one of them ends).
type search struct {
	lo, hi  uint64
	stands  uint64 // leaves the hub has of the epoch
	confirm bool   // lo is the place; a receipt at lo is awaited as the proof
	tries   int
	by      time.Duration
}

// part begins to look for the common part of the current epoch. A difference at the hub's own head is shown to it with our
// signature: two roots of one size are the proof of a fork.
func (m *Machine) part(as State, hi, stands uint64) {
	if m.search != nil && m.search.stands == stands {
		return
	}
	m.state = as
	m.flight, m.sending = nil, false
	m.search = &search{hi: hi, stands: stands}
	m.ask()
}

// settle is part for an epoch that the hub has closed while its content is ours: all it has is common.
func (m *Machine) settle(size, stands uint64) {
	if m.search != nil && m.search.lo == size {
		return
	}
	m.state = Forked
	m.flight, m.sending = nil, false
	m.search = &search{lo: size, hi: size + 1, stands: stands}
	m.ask()
}

// ask narrows the search by up to 32 roots a question, or asks for the proof, or begins the new epoch.
func (m *Machine) ask() {
	s, e := m.search, m.epoch(m.cursor)
	if s.hi <= min(s.stands, e.Size) {
		m.send(SendHead{Epoch: m.cursor, Size: s.hi}) // the proof of the fork; any message may be lost, so with each question
	}
	s.by = m.now + min(firstWait<<min(s.tries, 4), maxWait)
	s.tries++
	if s.hi-s.lo > 1 {
		m.send(SendRootsGet{Epoch: m.cursor, Sizes: grid(s.lo, s.hi)})
		return
	}
	s.confirm = true
	if s.lo == 0 || e.Receipt >= s.lo {
		m.begin()
		return
	}
	// Nothing but a co-signature is believed: the hub signs our head at the place, and the old epoch stands up to there.
	m.send(SendHead{Epoch: m.cursor, Size: s.lo})
}

// grid spreads up to 32 sizes over (lo, hi), the last one being hi-1.
func grid(lo, hi uint64) []uint64 {
	n := hi - lo - 1
	if n <= wire.MaxSizes {
		out := make([]uint64, n)
		for i := range out {
			out[i] = lo + 1 + uint64(i)
		}
		return out
	}
	out := make([]uint64, wire.MaxSizes)
	for i := range out {
		out[i] = lo + 1 + (n-1)/(wire.MaxSizes-1)*uint64(i)
	}
	out[len(out)-1] = hi - 1
	return out
}

func (m *Machine) onRoots(in InRoots) {
	s := m.search
	if s == nil || s.confirm || in.Roots.Epoch != m.cursor || in.Roots.Generation != m.generation {
		return
	}
	lo, hi := s.lo, s.hi
	for i, size := range in.Roots.Sizes {
		if i >= len(in.Known) || !in.Known[i] {
			continue
		}
		if in.Same[i] {
			lo = max(lo, size)
		} else if size > 0 {
			hi = min(hi, size)
		}
	}
	if lo == s.lo && hi == s.hi && s.tries >= maxUnknown {
		// The hub cannot tell: it has lost those leaves. What it cannot show is not common; carried over, a leaf that was
		// common after all still counts once, by the address of its original.
		hi = lo + 1
	}
	if lo >= hi || lo == s.lo && hi == s.hi {
		return // contradicts itself, or tells nothing new: the timer asks again
	}
	s.lo, s.hi, s.tries = lo, hi, 0
	m.ask()
}

func (m *Machine) searchTimer() {
	if s := m.search; !m.starting && m.now >= s.by {
		if s.tries > 8 {
			// The hub cannot tell, or has become another: begin with its state again.
			m.search = nil
			m.state = Hello
			m.hello()
			return
		}
		m.ask()
	}
}

// begin ends the epoch at the common part. What we have past it is carried into the new epoch, so that no real tap is
// lost; with nothing past it this disk was simply older. An epoch that was sealed before, because this disk lost its tail,
// has nothing to end: if the hub has all that is left of it, it is done.
func (m *Machine) begin() {
	s, e := m.search, m.epoch(m.cursor)
	if m.starting {
		return
	}
	old := m.cursor != m.last().Epoch
	if old && s.lo >= deliverable(e) {
		m.finish(m.cursor)
		return
	}
	if m.epochs > 0 && m.now < m.epochAt+epochPause {
		s.by = m.epochAt + epochPause
		return
	}
	o := StartEpoch{Kind: event.KindFork, Old: m.cursor, OldSize: s.lo, From: s.lo, To: deliverable(e), Why: "another history of this epoch is at the hub"}
	if s.lo >= e.Size {
		o = StartEpoch{Kind: event.KindRestored, Old: m.cursor, OldSize: max(s.stands, s.lo), From: s.lo, To: e.Size, Why: "the hub has more of this epoch than this disk"}
	}
	if m.set.Broken.IgnoreEpoch {
		m.search, m.hub, m.next, m.credit, m.state = nil, s.lo, s.lo, Window*wire.MaxBatchLeaves, CatchUp
		return
	}
	if m.set.Broken.ForgetTheReplays {
		o.From = o.To
	}
	m.starting = true
	m.out = append(m.out, o)
}

func (m *Machine) onStarted(ok bool) {
	if !m.starting {
		return
	}
	m.starting = false
	if !ok {
		if m.search == nil {
			return
		}
		m.search.by = m.now + firstWait
		if m.failures++; m.failures >= maxFailures && m.cursor != m.last().Epoch {
			m.failures = 0
			m.finish(m.cursor) // its leaves stay in this journal; later epochs must not wait for it
		}
		return
	}
	m.failures = 0
	m.epochs++
	m.epochAt = m.now
	m.point()
	if m.up {
		m.state = Hello
		m.hello()
	}
}
