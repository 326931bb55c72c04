package appliance

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"kith/edge/board"
	"kith/edge/door"
	"kith/edge/feedback"
	"kith/edge/gate"
	"kith/edge/reader"
	"kith/internal/event"
)

// lock drives one door's lock through the board.
type lock struct {
	board  board.Board
	signal string
}

// Set implements door.Lock.
func (l lock) Set(released bool) error {
	v := 0
	if released {
		v = 1
	}
	return l.board.Set(l.signal, v)
}

func (a *Appliance) openDoors(ctx context.Context) error {
	for _, d := range a.cfg.Doors {
		driver, err := door.NewDriver(d.machine(), lock{a.board, d.ID + "/lock"}, a)
		if err != nil {
			return err
		}
		a.doors[d.ID] = driver
	}
	inside, err := newInside(&a.cfg)
	if err != nil {
		return err
	}
	a.inside = inside
	if err := a.rebuildInside(ctx); err != nil {
		a.log.Error("who is in could not be rebuilt from the journal; counting from now", "err", err)
	}
	return nil
}

// DoorEvent implements door.Sink: what a door did becomes a fact, and what concerns people at it reaches their lamp.
func (a *Appliance) DoorEvent(e door.Event) {
	a.record(event.KindDoor, event.Door{Door: e.Door, State: string(e.State), Why: e.Why})
	wall, _, _ := a.clock()
	a.inside.moved(e.Door, string(e.State), wall)
	switch {
	case e.State == door.HeldWarning:
		a.sayAt(e.Door, feedback.Warning)
	case (e.State == door.Relocked || e.State == door.FireClear) && !a.doors[e.Door].Letting(): // and nobody was let in since
		a.sayAt(e.Door, feedback.Locked)
	}
}

// sayAt tells everybody at a door a word.
func (a *Appliance) sayAt(door string, w feedback.Word) {
	for _, r := range a.cfg.Readers {
		if r.Door == door {
			a.lamps[r.ID].Say(feedback.Utterance{Word: w})
		}
	}
}

func (a *Appliance) openReaders(context.Context) error {
	for _, r := range a.cfg.Readers {
		d := a.doorOf(r)
		open := a.opt.Reader
		if open == nil {
			open = a.openPN532
		}
		p, err := open(r)
		if err != nil {
			return fmt.Errorf("reader %s: %w", r.ID, err)
		}
		a.readers[r.ID] = p
		a.states[r.ID] = new(atomic.Pointer[readerState])
		a.lamps[r.ID] = feedback.New(feedback.Config{Reader: r.ID, Quiet: a.cfg.Quiet}, a.board)
		driver, timing := a.doors[d.ID], d.machine().WithDefaults()
		a.gates[r.ID] = gate.New(gate.Config{
			Reader: r.ID, Door: d.rules(), Direction: r.Direction, Strict: d.Strict, ReaderID: a.cfg.readerID(r.ID),
			Pulse:    time.Duration(timing.PulseMS) * time.Millisecond,
			MaxPulse: time.Duration(timing.MaxPulseMS) * time.Millisecond,
		}, gate.Rooms{
			Decide: a.decide,
			Record: a.recorder.Record,
			Release: func(pulse time.Duration, why string) error {
				err := driver.Release(door.Release{PulseMS: int(pulse.Milliseconds()), Why: why})
				if err != nil {
					a.log.Error("door did not take a release", "door", d.ID, "err", err)
				}
				return err
			},
			Say: func(w gate.Word, hold time.Duration) {
				a.lamps[r.ID].Say(feedback.Utterance{Word: words[w], Hold: hold})
			},
			Passed: func(member, direction string, at time.Time) { a.inside.passed(d.ID, member, direction, at) },
			Now:    a.clock,
		})
	}
	return nil
}

// words maps what a gate says to what a lamp plays: the two rooms do not know each other.
var words = map[gate.Word]feedback.Word{
	gate.Felt: feedback.Felt, gate.Working: feedback.Working, gate.Yes: feedback.Yes,
	gate.NotNow: feedback.NotNow, gate.TryAgain: feedback.TryAgain,
}

func (a *Appliance) doorOf(r Reader) Door {
	for _, d := range a.cfg.Doors {
		if d.ID == r.Door {
			return d
		}
	}
	panic("appliance: a checked configuration has a reader without a door")
}

// sink is the reader's view of its gate.
type sink struct {
	a    *Appliance
	r    Reader
	gate *gate.Gate
}

func (s *sink) Felt() { s.gate.Felt() }

// Presented takes a card to the entry that waits at this reader, if one does, and else to the door; never to both.
func (s *sink) Presented(ctx context.Context, p reader.Presentation) {
	if s.a.kiosk.Takes(s.r.ID) {
		s.a.kiosk.Present(ctx, s.r.ID, p.Targets, p.Channels)
		return
	}
	s.gate.Present(ctx, p.Targets, p.Channels)
}

func (s *sink) Unreadable(why string) {
	if s.a.kiosk.Takes(s.r.ID) {
		s.a.kiosk.Unreadable(s.r.ID)
		return
	}
	s.gate.Unreadable(why)
}

func (s *sink) Gone() {}

func (s *sink) State(up bool, why string) {
	s.a.states[s.r.ID].Store(&readerState{up, why, time.Now()})
	s.a.log.Info("reader changed", "reader", s.r.ID, "up", up, "why", why)
	s.a.record(event.KindReader, event.Reader{Reader: s.r.ID, Up: up, Why: why})
}

// pumpBoard carries levels from the board to the doors until ctx ends. Inputs that no door declares are ignored.
func (a *Appliance) pumpBoard(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case c, ok := <-a.board.Inputs():
			if !ok {
				return fmt.Errorf("the board was closed")
			}
			a.input(c)
		}
	}
}

func (a *Appliance) input(c board.Change) {
	if c.Signal == "tamper" {
		a.record(event.KindTamper, event.Tamper{Open: c.Value != 0})
		return
	}
	id, kind, _ := strings.Cut(c.Signal, "/")
	d, known := a.doors[id]
	if !known {
		return
	}
	switch on := c.Value != 0; kind {
	case "contact":
		d.Input(door.Contact{Open: on})
	case "exit":
		d.Input(door.Exit{Pressed: on})
	case "fire":
		d.Input(door.Fire{Active: on})
	}
}
