// Package door owns one door: its lock, contact, exit button and fire input, as a pure state machine with a thin shell.
//
// It promises that the lock is released only by a live release, by the exit button where configured, or by fire; that
// every release ends, at the latest after MaxPulseMS and even if the machine's goroutine hangs; that a restart secures
// the lock unless there is fire; and that losing or regaining anything else (network, hub, disk, inputs) never moves it.
//
// It never decides who may enter, never waits for its listeners, and is never the only way out: egress is mechanical,
// and a magnetic lock has its fire release in series, in hardware.
package door

import (
	"fmt"
	"time"
)

// Limits and defaults. Milliseconds are as they stand in the configuration.
const (
	DefaultPulseMS     = 5_000   // IEC 60839-11-1: a system-defined release lasts at least 3 s
	DefaultMaxPulseMS  = 15_000  // the longest extended release of a person
	DefaultHeldMS      = 20_000  // open for longer: held
	DefaultPreAlarmMS  = 5_000   // the person at the door hears of it this long before the host does
	DefaultExitShuntMS = 5_000   // an opening this long after the exit button is not forced
	HighestPulseMS     = 60_000  // no configuration may ask for more
	HighestHeldMS      = 600_000 // nor for a longer hold
	maxWhyBytes        = 120     // of a text that travels into an event

	grace       = 500 * time.Millisecond // a handle already pressed as the lock fell, or a leaf that bounced, is no force
	buttonStuck = 60 * time.Second       // an exit button held for longer is stuck and shunts nothing any more
	flapWindow  = 10 * time.Second
	flapMost    = 20 // contact changes within flapWindow; more is a broken contact, and would fill the journal
	unopened    = 8  // releases in a row without an opening: the contact or the lock is likely stuck
)

// Config describes one door.
type Config struct {
	ID           string
	PulseMS      int  // release of an ordinary person
	MaxPulseMS   int  // no release is longer
	HeldMS       int  // open for so long = held
	PreAlarmMS   int  // held-warning comes so long before held
	ExitShuntMS  int  // an opening so long after the exit button is not forced
	HasContact   bool // inputs that are not wired are ignored: a floating wire must move nothing
	HasExit      bool
	HasFire      bool
	ExitReleases bool // the exit button also releases the lock, for PulseMS
}

// WithDefaults fills what is zero.
func (c Config) WithDefaults() Config {
	fill := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	fill(&c.PulseMS, DefaultPulseMS)
	fill(&c.MaxPulseMS, max(DefaultMaxPulseMS, c.PulseMS))
	fill(&c.HeldMS, DefaultHeldMS)
	fill(&c.PreAlarmMS, min(DefaultPreAlarmMS, c.HeldMS))
	fill(&c.ExitShuntMS, DefaultExitShuntMS)
	return c
}

// Validate says what is wrong with a configuration whose defaults are filled.
func (c Config) Validate() error {
	checks := []struct {
		name         string
		v, low, high int
	}{
		{"pulse_ms", c.PulseMS, 100, HighestPulseMS},
		{"max_pulse_ms", c.MaxPulseMS, c.PulseMS, HighestPulseMS},
		{"held_ms", c.HeldMS, 1_000, HighestHeldMS},
		{"pre_alarm_ms", c.PreAlarmMS, 0, c.HeldMS},
		{"exit_shunt_ms", c.ExitShuntMS, 100, HighestPulseMS},
	}
	if c.ID == "" {
		return fmt.Errorf("door: id is empty")
	}
	for _, k := range checks {
		if k.v < k.low || k.v > k.high {
			return fmt.Errorf("door %s: %s: %d is not within %d and %d", c.ID, k.name, k.v, k.low, k.high)
		}
	}
	if c.ExitReleases && !c.HasExit {
		return fmt.Errorf("door %s: the exit button shall release the lock, but the door has no exit button", c.ID)
	}
	return nil
}

// State is what a door says has happened.
type State string

// States. A forced opening is reported as forced alone, without opened.
const (
	Unlocked    State = "unlocked"
	Relocked    State = "relocked"
	Opened      State = "opened"
	Closed      State = "closed"
	HeldWarning State = "held-warning"
	Held        State = "held"
	Forced      State = "forced"
	ExitPressed State = "exit"
	FireActive  State = "fire"
	FireClear   State = "fire-clear"
	Stuck       State = "stuck"
)

// WhyStart is the cause of the first level a contact reports: how the door was found, which nobody did just now.
const WhyStart = "start"

// Input is one thing that reaches the door.
type Input interface{ input() }

// Inputs. Repeated levels are no edges and change nothing.
type (
	// Release asks for the lock to be let go; PulseMS 0 = the door's own.
	Release struct {
		PulseMS int
		Why     string
	}
	// Contact is the door leaf.
	Contact struct{ Open bool }
	// Exit is the exit button.
	Exit struct{ Pressed bool }
	// Fire is the building's fire panel.
	Fire struct{ Active bool }
	// Tick lets time pass.
	Tick struct{}
)

func (Release) input() {}
func (Contact) input() {}
func (Exit) input()    {}
func (Fire) input()    {}
func (Tick) input()    {}

// Output is one thing the door wants.
type Output interface{ output() }

// Outputs. Drive comes before the events that tell of it; a Wake, if any, comes last and replaces the one before.
type (
	// Drive moves the lock. A repeated release means that the pulse was extended.
	Drive struct{ Released, ForFire bool }
	// Event is for the journal and the house.
	Event struct {
		Door  string
		State State
		Why   string
		At    time.Duration
	}
	// Wake asks for a Tick at this time.
	Wake struct{ At time.Duration }
)

func (Drive) output() {}
func (Event) output() {}
func (Wake) output()  {}

// never marks a deadline that is not set. Time zero is a legal time.
const never = time.Duration(-1)

// Machine is one door. It belongs to one goroutine.
type Machine struct {
	cfg Config
	now time.Duration
	out []Output

	fire       bool
	pulseUntil time.Duration // lock is released until then; never = no pulse
	fairUntil  time.Duration // an opening until then follows a release, not force; never = none
	shuntUntil time.Duration // the same after the exit button

	contactKnown bool
	open         bool
	heldFrom     time.Duration // the hold is counted from here; never = not counted
	warned, held bool

	pressed      bool
	pressedSince time.Duration
	buttonDead   bool // reported as stuck until it is let go

	unopened    int
	changes     []time.Duration // latest contact changes, at most flapMost
	flapping    bool
	steadyAfter time.Duration
	toldOpen    bool // the last contact state that an event told
}

// New makes a secured door. The configuration must be valid.
func New(cfg Config) *Machine {
	return &Machine{cfg: cfg, pulseUntil: never, fairUntil: never, shuntUntil: never, heldFrom: never}
}

// Step takes one input at a monotonic time and says what to do. It is deterministic; time that runs backwards stands still.
func (m *Machine) Step(now time.Duration, in Input) []Output {
	m.now = max(now, m.now)
	m.out = nil
	m.elapse()
	switch in := in.(type) {
	case Release:
		m.release(in)
	case Contact:
		if m.cfg.HasContact {
			m.contact(in.Open)
		}
	case Exit:
		if m.cfg.HasExit {
			m.exit(in.Pressed)
		}
	case Fire:
		if m.cfg.HasFire {
			m.setFire(in.Active)
		}
	}
	if at, ok := m.next(); ok {
		m.out = append(m.out, Wake{At: at})
	}
	return m.out
}

// Released says whether the lock is let go at the machine's latest time.
func (m *Machine) Released() bool { return m.fire || m.pulseUntil != never }

// Open says whether the leaf stands open, as far as known.
func (m *Machine) Open() bool { return m.open }

// Burning says whether the fire input is active.
func (m *Machine) Burning() bool { return m.fire }

// IsHeld says whether the leaf has stood open for too long.
func (m *Machine) IsHeld() bool { return m.held }

func (m *Machine) event(s State, why string) {
	if len(why) > maxWhyBytes {
		why = why[:maxWhyBytes]
	}
	m.out = append(m.out, Event{Door: m.cfg.ID, State: s, Why: why, At: m.now})
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// elapse does what the passing of time alone brings.
func (m *Machine) elapse() {
	if m.pulseUntil != never && m.now >= m.pulseUntil {
		why := ""
		if m.cfg.HasContact && !m.open {
			why = "not opened"
		}
		m.endPulse(why)
		m.countUnopened()
	}
	if m.flapping && m.now >= m.steadyAfter {
		m.flapping = false
		m.changes = m.changes[:0]
		if m.open != m.toldOpen {
			m.tell("steady again")
		}
	}
	if m.heldFrom != never && !m.fire {
		if !m.warned && m.now >= m.heldFrom+ms(m.cfg.HeldMS-m.cfg.PreAlarmMS) {
			m.warned = true
			m.event(HeldWarning, "")
		}
		if !m.held && m.now >= m.heldFrom+ms(m.cfg.HeldMS) {
			m.held = true
			m.event(Held, "")
		}
	}
	if m.pressed && !m.buttonDead && m.now >= m.pressedSince+buttonStuck {
		m.buttonDead = true
		m.event(Stuck, "exit button does not come up")
	}
}

// next is the earliest time at which elapse has something to do.
func (m *Machine) next() (time.Duration, bool) {
	at := never
	sooner := func(t time.Duration) {
		if at == never || t < at {
			at = t
		}
	}
	if m.pulseUntil != never {
		sooner(m.pulseUntil)
	}
	if m.flapping {
		sooner(m.steadyAfter)
	}
	if m.heldFrom != never && !m.fire {
		if !m.warned {
			sooner(m.heldFrom + ms(m.cfg.HeldMS-m.cfg.PreAlarmMS))
		}
		if !m.held {
			sooner(m.heldFrom + ms(m.cfg.HeldMS))
		}
	}
	if m.pressed && !m.buttonDead {
		sooner(m.pressedSince + buttonStuck)
	}
	return at, at != never
}

func (m *Machine) release(r Release) {
	pulse := r.PulseMS
	if pulse <= 0 {
		pulse = m.cfg.PulseMS
	}
	m.startPulse(ms(min(pulse, m.cfg.MaxPulseMS)), r.Why)
}

// startPulse never shortens a pulse that is under way, and in fire it leaves the lock to the fire.
func (m *Machine) startPulse(pulse time.Duration, why string) {
	m.restartHold()
	if m.fire {
		return
	}
	until := m.now + pulse
	fresh := m.pulseUntil == never
	m.pulseUntil = max(m.pulseUntil, until)
	m.fairUntil = max(m.fairUntil, m.pulseUntil+grace)
	m.out = append(m.out, Drive{Released: true})
	if fresh {
		m.event(Unlocked, why)
	}
}

func (m *Machine) endPulse(why string) {
	m.pulseUntil = never
	m.out = append(m.out, Drive{})
	m.event(Relocked, why)
}

// countUnopened notices a lock or contact that no longer moves: people do not give up eight times in a row.
func (m *Machine) countUnopened() {
	if !m.cfg.HasContact || m.open {
		return
	}
	m.unopened++
	if m.unopened == unopened {
		m.event(Stuck, "released again and again, never opened: check lock and contact")
	}
}

// restartHold gives the next person through an open door the full time, unless the host was already told.
func (m *Machine) restartHold() {
	if m.heldFrom != never && !m.held {
		m.heldFrom, m.warned = m.now, false
	}
}

func (m *Machine) exit(pressed bool) {
	if pressed == m.pressed {
		return
	}
	m.pressed = pressed
	if !pressed {
		if !m.buttonDead {
			m.shuntUntil = max(m.shuntUntil, m.now+ms(m.cfg.ExitShuntMS)) // somebody stood here until just now
		}
		m.buttonDead = false
		return
	}
	m.pressedSince = m.now
	m.shuntUntil = max(m.shuntUntil, m.now+ms(m.cfg.ExitShuntMS))
	if m.cfg.ExitReleases {
		m.startPulse(ms(m.cfg.PulseMS), "exit")
	} else {
		m.restartHold()
	}
	m.event(ExitPressed, "")
}

func (m *Machine) setFire(active bool) {
	if active == m.fire {
		return
	}
	m.fire = active
	if active {
		m.pulseUntil = never // the fire holds the lock now, and its end secures it
		m.out = append(m.out, Drive{Released: true, ForFire: true})
		m.event(FireActive, "")
		return
	}
	m.fairUntil = max(m.fairUntil, m.now+grace)
	m.out = append(m.out, Drive{})
	m.event(FireClear, "")
	if m.heldFrom != never {
		m.heldFrom, m.warned, m.held = m.now, false, false
	}
}
