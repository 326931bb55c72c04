// Package board owns a virtual board: locks, contacts, buttons, lights and buzzers of a house
// that exists on one machine only, behind a Unix socket that speaks the board protocol.
//
// It promises what a well-built board does: a lock drops when the connection that released it
// ends, an output has one driver at a time, and a watcher that does not keep up is cut off
// instead of slowing a door. Nothing survives a crash; every lock is then inactive. It never
// decides who may pass.
package board

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	wire "kith/edge/board"
)

// Limits of a virtual board.
const (
	maxConnections = 64  // edges and watchers together
	clientQueue    = 512 // lines waiting for one client before it is cut off
	writeTimeout   = time.Second
	watchBuffer    = 1024 // changes waiting for one watcher in this process
)

// Push is a person who leans on a door: it opens Open after the lock is released and falls shut
// Close after that, unless the lock drops first.
type Push struct {
	Open  time.Duration // from release to open
	Close time.Duration // from open to closed
}

// Change is a level a signal took, stamped with the machine's monotonic clock.
type Change struct {
	At     time.Duration
	Signal string
	Value  int
	Input  bool
}

// Board is a running virtual board.
type Board struct {
	path     string
	listener *net.UnixListener
	wg       sync.WaitGroup

	mu      sync.Mutex
	inputs  map[string]int     // at most wire.MaxSignals
	outputs map[string]int     // at most wire.MaxSignals
	drivers map[string]*client // who set an output first
	clients map[*client]bool
	watches map[*Watch]bool
	pushes  map[string]Push // by door
	timers  map[string]*time.Timer
	closed  bool
}

// Listen starts a board at a Unix socket, with the given inputs at 0 (closed, released, quiet).
// A socket file left by a crash is replaced.
func Listen(path string, inputs ...string) (*Board, error) {
	if len(inputs) > wire.MaxSignals {
		return nil, fmt.Errorf("listening as board: %d inputs, at most %d", len(inputs), wire.MaxSignals)
	}
	b := &Board{
		path:    path,
		inputs:  make(map[string]int),
		outputs: make(map[string]int),
		drivers: make(map[string]*client),
		clients: make(map[*client]bool),
		watches: make(map[*Watch]bool),
		pushes:  make(map[string]Push),
		timers:  make(map[string]*time.Timer),
	}
	for _, in := range inputs {
		if err := wire.CheckSignal(in); err != nil {
			return nil, fmt.Errorf("listening as board: %w", err)
		}
		if !wire.IsInput(in) {
			return nil, fmt.Errorf("listening as board: %s is not an input", in)
		}
		b.inputs[in] = 0
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listening as board: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening as board: %w", err)
	}
	b.listener = l
	b.wg.Add(1)
	go b.accept()
	return b, nil
}

// removeStale takes away a socket nobody listens at, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return fmt.Errorf("another board listens at %s", path)
	}
	return os.Remove(path)
}

// Door names the inputs of a door: contact, exit button and fire contact.
func Door(id string) []string { return []string{id + "/contact", id + "/exit", id + "/fire"} }

// Path is the socket.
func (b *Board) Path() string { return b.path }

// Close drops every lock and ends all connections.
func (b *Board) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	err := b.listener.Close()
	for _, t := range b.timers {
		t.Stop()
	}
	for signal := range b.outputs {
		if wire.IsLock(signal) {
			b.setOutput(signal, 0)
		}
	}
	for c := range b.clients {
		c.end()
	}
	for w := range b.watches {
		w.end()
	}
	b.mu.Unlock()
	b.wg.Wait()
	return err
}

// Set makes an input take a level: a hand opens the door, presses the button.
func (b *Board) Set(input string, v int) error {
	if err := errors.Join(wire.CheckSignal(input), wire.CheckValue(v)); err != nil {
		return fmt.Errorf("setting input: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.inputs[input]; !known {
		return fmt.Errorf("setting input: the board has no input %s (it has %s)", input,
			strings.Join(slices.Sorted(maps.Keys(b.inputs)), ", "))
	}
	b.setInput(input, v)
	return nil
}

// Get reads any signal's level; an output nobody has set is 0.
func (b *Board) Get(signal string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v, ok := b.inputs[signal]; ok {
		return v
	}
	return b.outputs[signal]
}

// Lean makes someone push at a door from now on; the zero Push sends them away.
func (b *Board) Lean(door string, p Push) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.inputs[door+"/contact"]; !known {
		return fmt.Errorf("leaning on %s: the board has no contact there", door)
	}
	if p == (Push{}) {
		delete(b.pushes, door)
		return nil
	}
	b.pushes[door] = p
	if b.outputs[door+"/lock"] == 1 {
		b.swing(door, p)
	}
	return nil
}

// setInput and setOutput change a level and tell everyone; mu is held.
func (b *Board) setInput(signal string, v int) {
	if b.inputs[signal] == v {
		return
	}
	b.inputs[signal] = v
	b.tell(Change{At: wire.Now(), Signal: signal, Value: v, Input: true})
}

func (b *Board) setOutput(signal string, v int) {
	old, known := b.outputs[signal]
	if known && old == v {
		return
	}
	b.outputs[signal] = v
	b.tell(Change{At: wire.Now(), Signal: signal, Value: v})
	door, isLock := strings.CutSuffix(signal, "/lock")
	if !isLock {
		return
	}
	if p, leaning := b.pushes[door]; leaning && v == 1 {
		b.swing(door, p)
	}
}

// swing lets the pushed door open, if it is still released by then; mu is held.
func (b *Board) swing(door string, p Push) {
	if t := b.timers[door]; t != nil {
		t.Stop()
	}
	b.timers[door] = time.AfterFunc(p.Open, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.closed || b.outputs[door+"/lock"] != 1 {
			return
		}
		b.setInput(door+"/contact", 1)
		b.timers[door] = time.AfterFunc(p.Close, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			if !b.closed {
				b.setInput(door+"/contact", 0)
			}
		})
	})
}

// tell sends a change to every client and watcher; mu is held.
func (b *Board) tell(c Change) {
	l := wire.Line{T: c.At, V: c.Value}
	if c.Input {
		l.In = c.Signal
	} else {
		l.Out = c.Signal
	}
	text := wire.AppendLine(nil, l)
	for client := range b.clients {
		client.send(text)
	}
	for w := range b.watches {
		w.put(c)
	}
}
