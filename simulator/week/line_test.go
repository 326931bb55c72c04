package week

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"kith/hub/broker"
	"kith/internal/wire"
)

// What the air does to a message. The protocol must stand all of it: nothing counts but a receipt.
const (
	lossShare  = 0.03
	twiceShare = 0.05
	slowShare  = 0.04
	lostShare  = 0.002 // comes back hours later, across outages
	swift      = 120 * time.Millisecond
	slow       = 20 * time.Second
	ages       = 5 * time.Hour
	upRoom     = 1024
	downRoom   = 256
)

var errDown = errors.New("the line is down")

// sky is every line between the houses and the hub, as the hub's transport.
type sky struct {
	up chan broker.Message

	mu   sync.Mutex // guards what follows
	rng  *rand.Rand
	ends map[string]*end
	fate struct{ sent, lost, twice, slow, late int }
	both map[string]int // messages of which both copies arrived, by what they are
}

// end is a house's end of its line, as the outbox's session.
type end struct {
	sky      *sky
	edge     string
	open     bool // guarded by sky.mu
	ups      chan bool
	received chan []byte
}

func newSky(seed uint64) *sky {
	return &sky{up: make(chan broker.Message, upRoom), rng: rand.New(rand.NewPCG(seed, 7)), ends: map[string]*end{}, both: map[string]int{}}
}

func (s *sky) end(edge string) *end {
	e := &end{sky: s, edge: edge, ups: make(chan bool, 1), received: make(chan []byte, downRoom)}
	s.mu.Lock()
	s.ends[edge] = e
	s.mu.Unlock()
	return e
}

// set takes a line down or brings it back; the newest word is the one the house hears.
func (e *end) set(open bool) {
	e.sky.mu.Lock()
	defer e.sky.mu.Unlock()
	e.open = open
	select {
	case <-e.ups:
	default:
	}
	e.ups <- open
}

// again tells a house that has just started how its line is.
func (e *end) again() {
	e.sky.mu.Lock()
	open := e.open
	e.sky.mu.Unlock()
	e.set(open)
}

// carry decides what becomes of one message. deliver says whether it found room; kind is asked only of what arrived twice.
func (s *sky) carry(e *end, deliver func() bool, kind func() string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.open {
		return errDown
	}
	s.fate.sent++
	copies := 1
	switch roll := s.rng.Float64(); {
	case roll < lossShare:
		s.fate.lost++
		return nil
	case roll < lossShare+twiceShare:
		s.fate.twice++
		copies = 2
	}
	landed := 0 // guarded by mu
	for range copies {
		delay, ancient := time.Duration(s.rng.Int64N(int64(swift))), false
		switch roll := s.rng.Float64(); {
		case roll < lostShare:
			s.fate.late++
			delay, ancient = time.Duration(s.rng.Int64N(int64(ages))), true
		case roll < lostShare+slowShare:
			s.fate.slow++
			delay = time.Duration(s.rng.Int64N(int64(slow)))
		}
		time.AfterFunc(delay, func() {
			s.mu.Lock()
			open := e.open || ancient
			s.mu.Unlock()
			if !open || !deliver() {
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if landed++; landed == 2 {
				s.both[kind()]++
			}
		})
	}
	return nil
}

// Send implements outbox.Session.
func (e *end) Send(_ context.Context, payload []byte) error {
	m := broker.Message{Edge: e.edge, Payload: append([]byte(nil), payload...)}
	return e.sky.carry(e, func() bool {
		select {
		case e.sky.up <- m:
			return true
		default:
			return false
		}
	}, func() string {
		up, err := wire.ParseUp(m.Payload)
		return fmt.Sprintf("%T %v", up, err)
	})
}

// Received implements outbox.Session.
func (e *end) Received() <-chan []byte { return e.received }

// Up implements outbox.Session.
func (e *end) Up() <-chan bool { return e.ups }

// Messages implements exchange.Transport.
func (s *sky) Messages() <-chan broker.Message { return s.up }

// Send implements exchange.Transport.
func (s *sky) Send(edge string, payload []byte) error {
	s.mu.Lock()
	e := s.ends[edge]
	s.mu.Unlock()
	if e == nil {
		return errDown
	}
	b := append([]byte(nil), payload...)
	return s.carry(e, func() bool {
		select {
		case e.received <- b:
			return true
		default:
			return false
		}
	}, func() string {
		down, err := wire.ParseDown(b)
		return fmt.Sprintf("%T %v", down, err)
	})
}

// Connected implements exchange.Transport.
func (s *sky) Connected() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for id, e := range s.ends {
		if e.open {
			out = append(out, id)
		}
	}
	return out
}

// Cut implements exchange.Transport.
func (s *sky) Cut(edge, _ string) {
	s.mu.Lock()
	e := s.ends[edge]
	s.mu.Unlock()
	if e != nil {
		e.set(false)
	}
}
