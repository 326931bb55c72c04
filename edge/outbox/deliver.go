package outbox

import (
	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/wire"
)

// onState is the hub's word on the cursor's epoch: where to go on from, or that we must part ways.
func (m *Machine) onState(in InState) {
	s := in.State
	if !m.up || s.Boot != m.set.Boot || s.Seq <= m.answered || s.Seq > m.seq {
		return // to another start of this edge, or an older answer than one we had
	}
	m.answered = s.Seq
	m.challenge, m.held, m.duplicate = s.Challenge, s.Held, s.Duplicate
	if m.duplicate {
		m.roster = roster{}
	}
	if s.Seq == m.seq {
		m.answer(m.now - m.helloAt)
		m.tries = 0
	} else {
		m.answer(firstWait) // it was asked again before it could answer
	}
	m.helloBy, m.helloNext = 0, 0
	if s.Again {
		m.helloSoon()
	}
	if m.generation != s.Generation {
		// Another hub than the one we knew: what it has of every epoch is open again.
		first := m.generation == ""
		m.generation = s.Generation
		if !m.set.Broken.AnyGeneration {
			clear(m.done)
		}
		was := m.cursor
		if m.point(); m.cursor != was || !first {
			m.state = Hello
			m.hello()
			return
		}
	}
	if s.Epoch != m.cursor {
		m.hello()
		return
	}
	if s.Status == wire.StatusUnknown || s.Status == wire.StatusRetired {
		m.state = Away
		m.forgetHub()
		m.helloIn(turnedAway)
		return
	}
	m.resume(in)
}

func (m *Machine) resume(in InState) {
	s, e := in.State, m.epoch(m.cursor)
	old := e.Epoch != m.last().Epoch
	closed := s.Status == wire.StatusSealed || s.Status == wire.StatusFork
	switch {
	case in.Relation == Unclear:
		m.helloSoon()
		return
	case old && in.Relation == Equal && s.Size >= deliverable(e):
		m.finish(e.Epoch)
		return
	case in.Relation == Differs:
		m.part(Forked, s.Size, s.Size)
		return
	case in.Relation == Ahead:
		m.part(Forgot, e.Size+1, s.Size)
		return
	case closed && (!old || s.Size >= s.Limit):
		m.settle(s.Size, s.Size)
		return
	}
	if m.search != nil {
		m.search = nil
	}
	m.believe(e, s.Size, s.Backup, s.Credit)
	m.limit = s.Limit
	m.landed()
	// The hub answered after everything that was sent before the hello. What it has not got of that is lost; what was sent
	// since may still be on its way, and a keep-alive must not send it twice.
	if len(m.flight) == 0 || m.unsure || s.Seq != m.seq || m.flight[0].at < m.helloAt || m.flight[0].from > s.Size {
		m.next, m.flight, m.sending = max(s.Size, m.acked[e.Epoch]), nil, false
	}
	m.unsure = false
	switch {
	case e.Receipt > s.Size:
		m.state = HubForgot
	case s.Size < e.Size:
		m.state = CatchUp
	default:
		m.state = Live
	}
}

// believe takes over what the hub says it has.
func (m *Machine) believe(e *journal.EpochInfo, size, backup, credit uint64) {
	m.hub, m.credit = size, credit
	if backup != e.Backup && backup <= size {
		m.out = append(m.out, SetBackup{Epoch: e.Epoch, Watermark: backup})
	}
}

// finish ends with an older epoch and turns to the next.
func (m *Machine) finish(id event.Epoch) {
	m.done[id] = true
	m.point()
	m.state = Hello
	m.hello()
}

func (m *Machine) onReceipt(in InReceipt) {
	r := in.Receipt
	if !m.up || in.Note == Worthless || in.Note == NoNote {
		return
	}
	if in.Note == Foreign {
		// The hub co-signed, with our key under it, what is not our history. Its state will show where we part.
		m.helloSoon()
		return
	}
	if m.search != nil && r.Epoch == m.cursor && m.search.confirm && r.Size == m.search.lo {
		m.begin()
		return
	}
	if r.Generation != m.generation {
		// A valid acknowledgement, but of another hub than the one we talk with: it says nothing of what this one has.
		m.helloSoon()
		return
	}
	if r.Epoch != m.cursor || m.search != nil || m.state == Hello || m.state == Away || r.Size < m.hub {
		return
	}
	e := m.epoch(m.cursor)
	if r.Size > m.hub {
		m.bridges = 0
	}
	m.believe(e, r.Size, r.Backup, r.Credit)
	m.tries = 0
	m.next = max(m.next, m.hub)
	m.landed()
	if e.Epoch != m.last().Epoch && m.hub >= deliverable(e) {
		m.finish(e.Epoch)
		return
	}
	if m.hub >= e.Size {
		m.state = Live
	}
}

// landed drops what is acknowledged from the flight.
func (m *Machine) landed() {
	kept := m.flight[:0]
	for _, f := range m.flight {
		if f.to > m.hub {
			kept = append(kept, f)
		} else {
			m.answer(m.now - f.at)
		}
	}
	m.flight = kept
}

func (m *Machine) onNeed(n *wire.Need) {
	if !m.up || n.Epoch != m.cursor || m.search != nil || m.state == Hello {
		return
	}
	if n.Generation != m.generation || n.From < m.hub {
		m.helloSoon()
		return
	}
	if len(m.flight) > 0 {
		m.answer(m.now - m.flight[0].at)
	}
	if n.From >= m.next || n.From < m.acked[n.Epoch] || m.needAt != 0 && m.now < m.needAt+max(helloPause, m.took) {
		// Sent again already: the batches behind a lost one ask in turn, and a slow hub asks late. Should this one be
		// meant for the new copy, its timeout finds out.
		return
	}
	m.needAt, m.unsure = m.now, false
	m.next, m.flight, m.sending = n.From, nil, false
}

func (m *Machine) onConflict(c *wire.Conflict) {
	if !m.up || c.Epoch != m.cursor {
		return
	}
	if m.search != nil {
		return // the search repeats its question, and ends by the hub's roots
	}
	m.flight = nil
	m.next = m.hub
	m.retryAt = m.now + firstWait
	m.helloSoon()
}

func (m *Machine) onSent(s InSent) {
	if !m.sending || s.Epoch != m.cursor || s.From != m.next {
		return
	}
	m.sending = false
	if s.Leaves == 0 {
		m.retryAt = m.now + helloPause
		return
	}
	m.next = s.From + s.Leaves
	m.flight = append(m.flight, span{s.From, m.next, m.now, m.now + m.wait()})
	m.lingerBy = 0
	if m.set.Broken.AckOnSend {
		m.acked[m.cursor], m.flight = m.next, nil
	}
}

// pump sends as much as window and credit allow. With nothing in flight even one leaf goes out at once; behind others
// a small batch waits a moment for company.
func (m *Machine) pump() {
	ready := m.state == Live || m.state == CatchUp || m.state == HubForgot
	if !m.up || !ready || m.unsure || m.search != nil || m.sending || m.now < m.retryAt || len(m.flight) >= Window {
		return
	}
	m.retryAt = 0
	e := m.epoch(m.cursor)
	end := deliverable(e)
	if m.limit != 0 && m.limit < end {
		if end = m.limit; m.next >= end && len(m.flight) == 0 {
			m.helloSoon() // the hub takes no more of it; what is left is carried over
		}
	}
	if m.next >= end {
		if m.state != Live && len(m.flight) == 0 && e.Epoch == m.last().Epoch {
			m.state = Live
		}
		return
	}
	if m.next < e.Pruned {
		if len(m.flight) == 0 && m.next == m.hub {
			if m.bridges++; m.bridges > maxBridges {
				// No receipt reaches over the gap, or the hub takes none: what is left is carried into a new epoch, where
				// the numbers of the originals show the gap.
				m.bridges = 0
				m.settle(m.hub, m.hub)
				return
			}
			m.sending = true
			m.send(SendBridge{Epoch: e.Epoch, Old: m.hub})
		}
		return
	}
	n := min(end-m.next, wire.MaxBatchLeaves)
	if room := m.hub + m.credit; m.next+n > room {
		if m.next >= room {
			if len(m.flight) == 0 {
				m.helloIn(creditWait)
			}
			return
		}
		n = room - m.next
	}
	if len(m.flight) > 0 && n < FullBatch {
		if m.lingerBy == 0 {
			m.lingerBy = m.now + Linger
		}
		if m.now < m.lingerBy {
			return
		}
	}
	m.lingerBy = 0
	m.sending = true
	m.send(SendBatch{Epoch: e.Epoch, From: m.next, Max: int(n)})
}
