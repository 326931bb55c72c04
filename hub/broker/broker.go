// Package broker owns the hub's side of every connection from an edge: who gets in, what may pass, and how much of it.
//
// Two walls stand one behind the other. The porch is ours: it accepts, demands TLS 1.3 with a client certificate of the
// network, limits each source and each edge, and lets only well-formed packets on an edge's own two topics through.
// Behind it an embedded nats-server with its MQTT gateway routes; it knows each edge as a user whose only rights are to
// publish v1.<edge>.up and to subscribe v1.<edge>.down, and it listens on the loopback address for nobody but the porch.
// The hub takes part in process.
//
// The broker keeps nothing: no retained message, no will, no persistent session, no queue on disk that outlives the
// process. What it loses on a crash, the journals send again. A PUBACK from here promises nothing. It never blocks one
// edge because of another, never logs a payload, and never holds more memory than Limits say.
package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kith/internal/wire"
)

// Limits bound what edges and strangers can take. A zero field stands for its default.
type Limits struct {
	Message       int           // bytes of one payload, both ways
	Sessions      int           // connected edges
	HalfOpen      int           // connections of one source address that are not yet a session
	HalfOpenTotal int           // the same, of all sources
	ConnectRate   int           // connections per second of one source address
	ConnectTime   time.Duration // from accept to a complete, valid CONNECT
	KeepAlive     time.Duration // longest keep-alive an edge may ask for; none is refused
	PacketTime    time.Duration // from the first byte of a packet to its last
	WriteTime     time.Duration // to get one packet out to an edge
	MessageRate   int           // messages per second of one edge; more wait in the edge's own socket
	ByteRate      int           // bytes per second of one edge, likewise
	UpMessages    int           // messages of one edge that the hub has not yet taken
	UpBytes       int           // bytes of these
	UpTotal       int           // bytes of these, of all edges
	DownBytes     int           // bytes on their way to one edge; more means it does not read: it is cut
}

// Defaults of Limits.
var defaults = Limits{
	Message:       wire.MaxMessage,
	Sessions:      1500,
	HalfOpen:      20,
	HalfOpenTotal: 512,
	ConnectRate:   50,
	ConnectTime:   5 * time.Second,
	KeepAlive:     5 * time.Minute,
	PacketTime:    time.Minute,
	WriteTime:     10 * time.Second,
	MessageRate:   200,
	ByteRate:      1 << 20,
	UpMessages:    64,
	UpBytes:       1 << 20,
	UpTotal:       64 << 20,
	DownBytes:     2 << 20,
}

func (l Limits) orDefaults() Limits {
	set(&l.Message, defaults.Message)
	set(&l.Sessions, defaults.Sessions)
	set(&l.HalfOpen, defaults.HalfOpen)
	set(&l.HalfOpenTotal, defaults.HalfOpenTotal)
	set(&l.ConnectRate, defaults.ConnectRate)
	set(&l.ConnectTime, defaults.ConnectTime)
	set(&l.KeepAlive, defaults.KeepAlive)
	set(&l.PacketTime, defaults.PacketTime)
	set(&l.WriteTime, defaults.WriteTime)
	set(&l.MessageRate, defaults.MessageRate)
	set(&l.ByteRate, defaults.ByteRate)
	set(&l.UpMessages, defaults.UpMessages)
	set(&l.UpBytes, defaults.UpBytes)
	set(&l.UpTotal, defaults.UpTotal)
	set(&l.DownBytes, defaults.DownBytes)
	// One message must always fit, else an edge would wait for ever.
	l.UpBytes = max(l.UpBytes, l.Message)
	l.UpTotal = max(l.UpTotal, l.UpBytes)
	l.DownBytes = max(l.DownBytes, l.Message)
	return l
}

func set[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Options of Open.
type Options struct {
	// Listen is the address for edges; empty means a free port of the loopback address. Listener, when set, is used
	// instead, and closed by Close: a tailnet brings its own.
	Listen   string
	Listener net.Listener
	// TLS is the hub's side: it must demand and verify a client certificate of the network.
	TLS *tls.Config
	// Admitted says whether the edge that showed this certificate may come in. It is asked at every connection, from many
	// goroutines, and must answer from memory.
	Admitted func(edge string, cert *x509.Certificate) bool
	// Dir is scratch space of the broker alone. It is emptied at every start.
	Dir    string
	Limits Limits
	Log    *slog.Logger
}

// Message is one payload from an edge, whose name is the one of its certificate.
type Message struct {
	Edge    string
	Payload []byte
}

// Event tells what happened at the porch.
type Event struct {
	Kind   EventKind
	Edge   string // empty when no certificate was shown
	Remote string
	Why    string
	// Duplicate only: the session that had to go, and how long nothing had come from it. A few seconds of silence look
	// like an edge that was switched off and on; hardly any, again and again, like two edges with one key.
	Other  string
	Silent time.Duration
	At     time.Time
}

// EventKind is what an Event is about.
type EventKind string

// Kinds of events.
const (
	EdgeUp    EventKind = "up"        // connected and subscribed: Send reaches it
	EdgeDown  EventKind = "down"      // its session ended
	Duplicate EventKind = "duplicate" // a second session with the same certificate name; the first was ended
	Refused   EventKind = "refused"   // not let in, or cut for what it sent
)

// Bounds of the channels to the hub, in elements.
const (
	maxMessages = 256
	maxEvents   = 1024
)

// Errors of Send.
var (
	ErrNotConnected = errors.New("edge is not connected")
	ErrTooLong      = errors.New("message longer than allowed")
	ErrSlow         = errors.New("edge does not read: session cut")
	ErrClosed       = errors.New("broker is closed")
)

// Broker is open between Open and Close. All methods may be called from any goroutine.
type Broker struct {
	limits   Limits
	admitted func(string, *x509.Certificate) bool
	tls      *tls.Config
	log      *slog.Logger

	listener net.Listener
	router   *router
	porch    *porch
	up       *budget

	messages chan Message
	events   chan Event
	done     chan struct{}
	closing  sync.Once
	running  sync.WaitGroup

	mu       sync.Mutex // guards sessions and last; never held over I/O
	sessions map[string]*session
	last     uint64

	counts counts
}

// counts are the numbers behind Stats.
type counts struct {
	accepted, refused, duplicates, messages, bytes, sent, cutSlow, eventsLost atomic.Uint64
}

// Stats are totals since Open, and what is there now.
type Stats struct {
	Accepted, Refused, Duplicates, Messages, Bytes, Sent, CutSlow, EventsLost uint64
	Sessions                                                                  int
	Waiting                                                                   int // bytes the hub has not yet taken
}

// Open starts the broker. It returns when edges can connect.
func Open(ctx context.Context, o Options) (*Broker, error) {
	if o.TLS == nil || o.TLS.ClientAuth != tls.RequireAndVerifyClientCert {
		return nil, errors.New("opening broker: TLS with a verified client certificate is required")
	}
	if o.Admitted == nil || o.Dir == "" {
		return nil, errors.New("opening broker: Admitted and Dir are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := o.Limits.orDefaults()
	b := &Broker{
		limits: l, admitted: o.Admitted, tls: o.TLS, log: o.Log,
		porch: newPorch(l), up: newBudget(l.UpTotal),
		messages: make(chan Message, maxMessages),
		events:   make(chan Event, maxEvents),
		done:     make(chan struct{}),
		sessions: make(map[string]*session),
	}
	var err error
	if b.router, err = openRouter(ctx, o.Dir, l, o.Log, b.deliver); err != nil {
		return nil, fmt.Errorf("opening broker: %w", err)
	}
	if b.listener = o.Listener; b.listener == nil {
		if o.Listen == "" {
			o.Listen = "127.0.0.1:0"
		}
		var lc net.ListenConfig
		if b.listener, err = lc.Listen(ctx, "tcp", o.Listen); err != nil {
			b.router.close()
			return nil, fmt.Errorf("opening broker: %w", err)
		}
	}
	b.running.Go(b.accept)
	return b, nil
}

// Addr is where edges connect.
func (b *Broker) Addr() net.Addr { return b.listener.Addr() }

// Messages is what edges sent, in the order of each edge. Until a message is taken from it, its edge's budget is in use;
// an edge whose budget is used up waits in its own connection, and no other edge does. It is never closed: after Close
// nothing more comes.
func (b *Broker) Messages() <-chan Message { return b.messages }

// Events is what happened at the porch. When nobody reads it, the newest are counted and lost.
func (b *Broker) Events() <-chan Event { return b.events }

// Send passes a payload to a connected edge, at most once. A nil error does not say that it arrived.
func (b *Broker) Send(edge string, payload []byte) error {
	if len(payload) > b.limits.Message {
		return fmt.Errorf("sending %d bytes to edge %s: %w: at most %d", len(payload), edge, ErrTooLong, b.limits.Message)
	}
	select {
	case <-b.done:
		return fmt.Errorf("sending to edge %s: %w", edge, ErrClosed)
	default:
	}
	b.mu.Lock()
	s := b.sessions[edge]
	b.mu.Unlock()
	if s == nil || !s.subscribed.Load() {
		return fmt.Errorf("sending to edge %s: %w", edge, ErrNotConnected)
	}
	if s.down.Add(int64(len(payload))) > int64(b.limits.DownBytes) {
		b.counts.cutSlow.Add(1)
		s.end("does not read what it is sent")
		return fmt.Errorf("sending to edge %s: %w", edge, ErrSlow)
	}
	if err := b.router.publish(subject(wire.DownTopic(edge)), payload); err != nil {
		return fmt.Errorf("sending to edge %s: %w", edge, err)
	}
	b.counts.sent.Add(1)
	return nil
}

// Connected lists the edges that Send reaches now, sorted.
func (b *Broker) Connected() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]string, 0, len(b.sessions))
	for edge, s := range b.sessions {
		if s.subscribed.Load() {
			out = append(out, edge)
		}
	}
	slices.Sort(out)
	return out
}

// Cut ends an edge's session at once. To keep it out, make Admitted refuse it first and call Cut then: a connection that
// was being let in meanwhile is asked for again.
func (b *Broker) Cut(edge, why string) {
	b.mu.Lock()
	s := b.sessions[edge]
	b.mu.Unlock()
	if s != nil {
		s.end(why)
	}
}

// Stats reads the counters.
func (b *Broker) Stats() Stats {
	b.mu.Lock()
	n := len(b.sessions)
	b.mu.Unlock()
	c := &b.counts
	return Stats{
		Accepted: c.accepted.Load(), Refused: c.refused.Load(), Duplicates: c.duplicates.Load(),
		Messages: c.messages.Load(), Bytes: c.bytes.Load(), Sent: c.sent.Load(),
		CutSlow: c.cutSlow.Load(), EventsLost: c.eventsLost.Load(), Sessions: n, Waiting: b.up.used(),
	}
}

// Close ends all sessions and stops every goroutine of the broker before it returns. Messages not yet taken are lost,
// as on a crash.
func (b *Broker) Close() error {
	b.closing.Do(func() {
		close(b.done)
		b.listener.Close()
		b.porch.close()
		b.mu.Lock()
		open := make([]*session, 0, len(b.sessions))
		for _, s := range b.sessions {
			open = append(open, s)
		}
		b.mu.Unlock()
		for _, s := range open {
			s.end("the hub is closing")
		}
		b.router.close()
		b.running.Wait()
	})
	return nil
}

// deliver hands a payload from the router to the hub. It runs on the router's one delivery goroutine; while the hub does
// not take, it waits here, and the budgets at the porch keep what gathers behind it within bounds.
func (b *Broker) deliver(edge string, payload []byte) {
	select {
	case b.messages <- Message{Edge: edge, Payload: payload}:
	case <-b.done:
		return
	}
	b.counts.messages.Add(1)
	b.counts.bytes.Add(uint64(len(payload)))
	b.mu.Lock()
	s := b.sessions[edge]
	b.mu.Unlock()
	if s != nil {
		s.share.give(len(payload))
	}
}

func (b *Broker) tell(e Event) {
	e.At = time.Now()
	select {
	case b.events <- e:
	default:
		b.counts.eventsLost.Add(1)
	}
}
