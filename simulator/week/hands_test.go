package week

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/edge/board"
	"kith/edge/reader"
	"kith/internal/access"
	"kith/internal/card"
)

// Hardware in memory: a board that remembers every move of its locks, and a reader that a test lays cards on.

const (
	inputRoom = 256 // changes of the board that nobody has taken yet
	pushAfter = 100 * time.Millisecond
	shutAfter = 300 * time.Millisecond
)

// move is one change of a lock's level.
type move struct {
	at       time.Time
	released bool
}

// locks remembers what the locks of one edge did, over restarts of the appliance.
type locks struct {
	mu    sync.Mutex
	level map[string]int
	moves []move
}

// set notes a level and says whether it is a change.
func (l *locks) set(signal string, v int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.level == nil {
		l.level = map[string]int{}
	}
	if l.level[signal] == v {
		return false
	}
	l.level[signal] = v
	l.moves = append(l.moves, move{time.Now(), v != 0})
	return true
}

// secured says whether every lock holds.
func (l *locks) secured() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for signal, v := range l.level {
		if v != 0 && board.IsLock(signal) {
			return false
		}
	}
	return true
}

func (l *locks) releases() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, m := range l.moves {
		if m.released {
			n++
		}
	}
	return n
}

func (l *locks) all() []move {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]move(nil), l.moves...)
}

// plank is a board with one door. Somebody walks through whenever the lock lets go.
type plank struct {
	locks  *locks
	door   string
	inputs chan board.Change

	mu     sync.Mutex // guards what follows
	closed bool
	timers []*time.Timer
}

func newPlank(l *locks, door string) *plank {
	p := &plank{locks: l, door: door, inputs: make(chan board.Change, inputRoom)}
	for _, signal := range []string{"contact", "exit", "fire"} {
		p.inputs <- board.Change{Signal: door + "/" + signal}
	}
	return p
}

// Set implements board.Board.
func (p *plank) Set(signal string, v int) error {
	if err := board.CheckSignal(signal); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return board.ErrClosed
	}
	if board.IsLock(signal) && p.locks.set(signal, v) && v != 0 {
		p.timers = append(p.timers[:0], time.AfterFunc(pushAfter, func() { p.input("contact", 1) }),
			time.AfterFunc(shutAfter, func() { p.input("contact", 0) }))
	}
	return nil
}

func (p *plank) input(signal string, v int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	select {
	case p.inputs <- board.Change{Signal: p.door + "/" + signal, Value: v}:
	default: // nobody reads: the appliance is stopping
	}
}

// Inputs implements board.Board.
func (p *plank) Inputs() <-chan board.Change { return p.inputs }

// Close implements board.Board: every lock falls shut.
func (p *plank) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	for _, t := range p.timers {
		t.Stop()
	}
	p.locks.set(p.door+"/lock", 0)
	close(p.inputs)
	return nil
}

// slot is a reader that a test lays cards on.
type slot struct{ taps chan laid }

type laid struct {
	card *card.PKOCCard
	done chan struct{}
}

func newSlot() *slot { return &slot{taps: make(chan laid)} }

// Run implements appliance.Presenter.
func (s *slot) Run(ctx context.Context, sink reader.Sink) error {
	sink.State(true, "")
	for {
		select {
		case <-ctx.Done():
			return nil
		case l := <-s.taps:
			sink.Felt()
			sink.Presented(ctx, reader.Presentation{
				Targets:  []card.Target{{UID: []byte{4, 1, 2, 3, 4, 5, 6}, SAK: 0x20}},
				Channels: []card.Channel{air{l.card}}, Felt: time.Now(),
			})
			sink.Gone()
			close(l.done)
		}
	}
}

// air is a card without a reader chip in between.
type air struct{ card *card.PKOCCard }

func (a air) Transceive(_ context.Context, apdu []byte) ([]byte, error) {
	return a.card.Transceive(apdu), nil
}

// person is somebody with a card.
type person struct {
	access.Member
	key *ecdsa.PrivateKey
}

func (p person) card() string { return card.NewPKOCCard(p.key).Credential().ID() }

func newPerson(t testing.TB, id, home, role string, groups ...string) person {
	t.Helper()
	key, err := card.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return person{access.Member{ID: id, Name: strings.ToUpper(id[:1]) + id[1:], Home: home, Role: role, Groups: groups}, key}
}

// crowd makes n residents of a house.
func crowd(t testing.TB, home string, n int) []person {
	t.Helper()
	var out []person
	for i := range n {
		out = append(out, newPerson(t, fmt.Sprintf("%s-%d", home, i+1), home, access.RoleResident, "members"))
	}
	return out
}

func cardOf(p person) *card.PKOCCard { return card.NewPKOCCard(p.key) }
