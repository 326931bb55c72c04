package door

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the shell.
const (
	inputQueue   = 64              // inputs waiting for the machine
	eventQueue   = 256             // events waiting for the listener
	releaseFresh = 2 * time.Second // a release that waited longer is dropped: the person has gone, the door must not open behind them
)

// ErrBusy says that the door's machine does not keep up; the person should try again.
var ErrBusy = errors.New("door does not keep up")

// Sink hears a door's events, one at a time, from a goroutine of its own: a slow journal slows no lock. Up to 256 events
// wait; what finds no room is dropped and counted in Status.
type Sink interface {
	DoorEvent(Event)
}

// Status is a picture for health and pages.
type Status struct {
	Released    bool // as the lock was last driven
	LockFailing bool // the lock cannot be driven; retried without end
	Open        bool
	Held        bool
	Fire        bool
	Dropped     uint64 // events lost to a slow listener
	Overrun     uint64 // inputs that came faster than the machine; their last level was kept
}

// Driver is the shell of one door: a goroutine that owns the machine, a guard that owns the lock and a goroutine that tells.
type Driver struct {
	cfg     Config
	guard   *guard
	sink    Sink
	start   time.Time
	in      chan queued
	events  chan Event
	dropped atomic.Uint64
	overrun atomic.Uint64
	missed  missed
	flags   atomic.Uint32 // open, held, fire as last stepped
	asked   atomic.Int32  // releases that the machine has not taken yet
}

type queued struct {
	at time.Duration
	in Input
}

// missed keeps the last level of inputs that found the queue full.
type missed struct {
	mu      sync.Mutex
	contact *Contact
	exit    *Exit
	fire    *Fire
}

const (
	flagOpen = 1 << iota
	flagHeld
	flagFire
)

// NewDriver checks the configuration, after filling its defaults, and makes a driver that does nothing before Run.
func NewDriver(cfg Config, lock Lock, sink Sink) (*Driver, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("making driver: %w", err)
	}
	d := &Driver{cfg: cfg, sink: sink, start: time.Now(), in: make(chan queued, inputQueue), events: make(chan Event, eventQueue)}
	d.guard = newGuard(cfg, lock, d.lockTrouble)
	return d, nil
}

// Release asks for the lock to be let go. It never waits.
func (d *Driver) Release(r Release) error {
	d.asked.Add(1)
	select {
	case d.in <- queued{d.now(), r}:
		return nil
	default:
		d.asked.Add(-1)
		d.overrun.Add(1)
		return ErrBusy
	}
}

// Input takes a level of contact, exit button or fire. It never waits, and a level is never lost: if the machine does
// not keep up, the latest is given to it later. Fire reaches the lock here and now, whatever the machine does.
func (d *Driver) Input(in Input) {
	if f, ok := in.(Fire); ok && d.cfg.HasFire {
		d.guard.setFire(f)
	}
	d.missed.mu.Lock()
	defer d.missed.mu.Unlock()
	if d.missed.empty() {
		select {
		case d.in <- queued{d.now(), in}:
			return
		default:
		}
	}
	d.overrun.Add(1)
	d.missed.keep(in)
}

// Status may be asked at any time.
func (d *Driver) Status() Status {
	released, failing := d.guard.state()
	f := d.flags.Load()
	return Status{
		Released: released, LockFailing: failing, Open: f&flagOpen != 0, Held: f&flagHeld != 0, Fire: f&flagFire != 0,
		Dropped: d.dropped.Load(), Overrun: d.overrun.Load(),
	}
}

// Letting says whether the lock is meant to be let go: a release is under way, or asked for, or there is fire. Status tells
// what became of that at the lock, which may be a moment behind.
func (d *Driver) Letting() bool {
	released, _, _ := d.guard.want(time.Now())
	return released || d.asked.Load() > 0
}

// Run works the door until ctx ends. At its end the lock is secured, unless there is fire.
func (d *Driver) Run(ctx context.Context) error {
	var rooms sync.WaitGroup
	rooms.Go(func() { d.guard.run(ctx) })
	rooms.Go(func() { d.tell(ctx) })
	d.work(ctx)
	rooms.Wait()
	return nil
}

func (d *Driver) now() time.Duration { return time.Since(d.start) }

func (d *Driver) work(ctx context.Context) {
	m := New(d.cfg)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-d.in:
			d.take(m, q, timer)
			if _, ok := q.in.(Release); ok {
				d.asked.Add(-1)
			}
			for _, late := range d.missed.drain(len(d.in) == 0) {
				d.step(m, late, timer)
			}
		case <-timer.C:
			d.step(m, Tick{}, timer)
		}
	}
}

func (d *Driver) take(m *Machine, q queued, timer *time.Timer) {
	if r, ok := q.in.(Release); ok && d.now()-q.at > releaseFresh {
		d.report(Event{Door: d.cfg.ID, State: Stuck, Why: "a release came too late and was dropped: " + r.Why, At: d.now()})
		return
	}
	d.step(m, q.in, timer)
}

func (d *Driver) step(m *Machine, in Input, timer *time.Timer) {
	timer.Stop()
	now := d.now()
	for _, out := range m.Step(now, in) {
		switch out := out.(type) {
		case Drive:
			switch {
			case out.ForFire: // the guard heard of it before the machine did
			case out.Released:
				d.guard.release()
			default:
				d.guard.secure()
			}
		case Event:
			d.report(out)
		case Wake:
			timer.Reset(out.At - now)
		}
	}
	var f uint32
	for bit, on := range map[uint32]bool{flagOpen: m.Open(), flagHeld: m.IsHeld(), flagFire: m.Burning()} {
		if on {
			f |= bit
		}
	}
	d.flags.Store(f)
}

func (d *Driver) report(e Event) {
	select {
	case d.events <- e:
	default:
		d.dropped.Add(1)
	}
}

func (d *Driver) lockTrouble(err error) {
	e := Event{Door: d.cfg.ID, State: Stuck, Why: "lock can be driven again", At: d.now()}
	if err != nil {
		e.Why = "lock cannot be driven: " + err.Error()
		e.Why = e.Why[:min(len(e.Why), maxWhyBytes)]
	}
	d.report(e)
}

// tell hands events over until ctx ends, then those that are still waiting.
func (d *Driver) tell(ctx context.Context) {
	for {
		select {
		case e := <-d.events:
			d.sink.DoorEvent(e)
		case <-ctx.Done():
			for {
				select {
				case e := <-d.events:
					d.sink.DoorEvent(e)
				default:
					return
				}
			}
		}
	}
}

func (m *missed) empty() bool { return m.contact == nil && m.exit == nil && m.fire == nil }

func (m *missed) keep(in Input) {
	switch in := in.(type) {
	case Contact:
		m.contact = &in
	case Exit:
		m.exit = &in
	case Fire:
		m.fire = &in
	}
}

// drain gives the kept levels once the queue is empty, so that they come after everything older.
func (m *missed) drain(queueEmpty bool) []Input {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !queueEmpty || m.empty() {
		return nil
	}
	var out []Input
	if m.contact != nil {
		out = append(out, *m.contact)
	}
	if m.exit != nil {
		out = append(out, *m.exit)
	}
	if m.fire != nil {
		out = append(out, *m.fire)
	}
	m.contact, m.exit, m.fire = nil, nil, nil
	return out
}
