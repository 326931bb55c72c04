package door

import "time"

// contact takes a level of the door contact. The first one after a start is a fact without a cause: a door found open
// was not forced under our eyes.
func (m *Machine) contact(open bool) {
	if !m.contactKnown {
		m.contactKnown, m.open = true, open
		if open {
			m.heldFrom, m.warned, m.held = m.now, false, false
		}
		m.tell(WhyStart)
		return
	}
	if open == m.open {
		return
	}
	m.open = open
	m.noteChange()
	if open {
		m.opened()
	} else {
		m.closed()
	}
}

// fair says whether an opening now has a cause.
func (m *Machine) fair() bool {
	live := func(until time.Duration) bool { return until != never && m.now <= until }
	return m.fire || m.pulseUntil != never || live(m.fairUntil) || live(m.shuntUntil) || (m.pressed && !m.buttonDead)
}

// opened relocks at once: the leaf is past the strike, so that a second person needs an own release, and a door that falls
// shut is already locked.
func (m *Machine) opened() {
	m.unopened = 0
	m.heldFrom, m.warned, m.held = m.now, false, false
	fair := m.fair()
	relock := m.pulseUntil != never
	if relock {
		m.pulseUntil = never
		m.fairUntil = m.now
		m.out = append(m.out, Drive{})
	}
	if m.flapping {
		if relock {
			m.event(Relocked, "opened")
		}
		return
	}
	if fair {
		m.tell("")
	} else {
		m.toldOpen = true
		m.event(Forced, "")
	}
	if relock {
		m.event(Relocked, "opened")
	}
}

func (m *Machine) closed() {
	m.heldFrom, m.warned, m.held = never, false, false
	m.fairUntil = max(m.fairUntil, m.now+grace)
	if !m.flapping {
		m.tell("")
	}
}

func (m *Machine) tell(why string) {
	m.toldOpen = m.open
	if m.open {
		m.event(Opened, why)
		return
	}
	m.event(Closed, why)
}

// noteChange counts contact changes. A contact that changes too often is broken or shaken; its events stop, so that it
// cannot flood the journal, until it has been still for flapWindow. The lock keeps following it.
func (m *Machine) noteChange() {
	if m.flapping {
		m.steadyAfter = m.now + flapWindow
		return
	}
	m.changes = append(m.changes, m.now)
	if len(m.changes) < flapMost {
		return
	}
	if m.now-m.changes[0] <= flapWindow {
		m.flapping = true
		m.steadyAfter = m.now + flapWindow
		m.event(Stuck, "contact changes without end")
		return
	}
	m.changes = append(m.changes[:0], m.changes[1:]...)
}
