// Package link owns the edge's one MQTT session with the hub: it brings it up, keeps it, notices when it is dead, and
// tries again at its own pace. It is the only importer of paho.
//
// It carries messages and promises nothing about them: both ways run at quality of service 0, and correctness lives in
// the outbox, which sends again whatever no receipt covers. So an MQTT acknowledgement would only cost memory here: paho
// keeps unacknowledged messages, reports success for lost ones, and changes their order after a reconnect. Nothing is
// queued while the session is down, Send says so instead. On a crash nothing of the link is left, and nothing is missed.
//
// No byte from the hub reaches paho unchecked: a guard in front of it refuses what the hub never sends, before anything
// is allocated for it (see guard.go).
package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"kith/internal/event"
	"kith/internal/wire"
)

// Limits of a session.
const (
	MaxMessage  = wire.MaxMessage  // bytes of one payload, both ways
	maxReceived = 32               // payloads waiting to be taken from Received; the oldest is dropped
	connectTime = 15 * time.Second // from dialling to the granted subscription, for each of its three steps
	writeTime   = 10 * time.Second // to get one packet out
	packetTime  = time.Minute      // from the first byte of a packet to its last
	pingTime    = 10 * time.Second // to hear the answer to a ping
	handTime    = 2 * time.Second  // to hand a message to paho; it blocks when its session has just died
	leaveTime   = time.Second      // to say goodbye
	slack       = 15 * time.Second // over paho's own idea of when silence is death
)

// Pace of reconnecting.
const (
	minWait   = time.Second
	maxWait   = time.Minute
	stableFor = time.Minute // a session that lasted this long ends all suspicion
	// A session that came up and soon died, again and again, is a bad line or a second device with our key. A bad line
	// must make progress, so waiting stops growing at 2^flapSteps seconds.
	flapSteps = 3
	maxSteps  = 6 // 2^6 s is over maxWait
)

// DefaultKeepAlive is how long a session may be silent before the link asks whether the hub is still there.
const DefaultKeepAlive = 30 * time.Second

// Errors of Send.
var (
	ErrDown    = errors.New("no session with the hub")
	ErrTooLong = errors.New("message longer than allowed")
)

// Options of New.
type Options struct {
	Broker string // host:port, or the same with ssl:// or tls:// before it
	Edge   string // edge id: the client id, and part of both topics
	// TLS is the edge's side, with its certificate. It may be nil only when Dial is given and brings connections that are
	// private by themselves, as in a simulation.
	TLS *tls.Config
	// Dial opens a connection; nil for the machine's own network. A tailnet brings its own.
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	KeepAlive time.Duration // whole seconds; 0 for DefaultKeepAlive
	Log       *slog.Logger
}

// Link is one edge's connection. Run owns the session; the other methods may be called from any goroutine.
type Link struct {
	o       Options
	address string

	received chan []byte
	up       chan bool

	mu      sync.Mutex // guards what follows; never held over I/O
	session *session   // nil while down
	status  Status
}

// Status is what a health page shows of the link.
type Status struct {
	Up       bool
	Since    time.Time // of the last change; zero before the first session
	Sessions uint64    // that came up since the start
	Dropped  uint64    // payloads from the hub that nobody took in time
	Err      string    // why the last session or attempt ended
}

// New checks the options. The link does nothing until Run.
func New(o Options) (*Link, error) {
	address := o.Broker
	for _, scheme := range []string{"ssl://", "tls://"} {
		address = strings.TrimPrefix(address, scheme)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("link: broker %q: want host:port: %w", o.Broker, err)
	}
	switch {
	case !event.IsID(o.Edge):
		return nil, fmt.Errorf("link: edge id %q", o.Edge)
	case o.TLS == nil && o.Dial == nil:
		return nil, errors.New("link: TLS is required on the open network")
	case o.TLS != nil && o.TLS.InsecureSkipVerify:
		return nil, errors.New("link: a hub that is not verified could be anyone")
	case o.KeepAlive < 0 || o.KeepAlive%time.Second != 0 || o.KeepAlive > 5*time.Minute:
		return nil, fmt.Errorf("link: keep-alive %v: want whole seconds, at most 5 minutes", o.KeepAlive)
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = DefaultKeepAlive
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.TLS != nil {
		o.TLS = o.TLS.Clone()
		if o.TLS.ServerName == "" {
			o.TLS.ServerName = host
		}
	}
	return &Link{o: o, address: address, received: make(chan []byte, maxReceived), up: make(chan bool, 1)}, nil
}

// Received is what the hub sent. When it is not taken in time the oldest is dropped and counted: what the hub says later
// covers what it said before.
func (l *Link) Received() <-chan []byte { return l.received }

// Up says true when a session has come up and false when it has gone. Only the latest word waits to be read, so a true
// may follow a true: the session is then another one.
func (l *Link) Up() <-chan bool { return l.up }

// Status reads the state.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Send writes one payload to the hub's connection, at most once, and returns when it is written, refused, or ctx is
// done. A nil error does not say that it arrived. The payload must not be changed until Send returns, and not after an
// error either.
func (l *Link) Send(ctx context.Context, payload []byte) error {
	if len(payload) > MaxMessage {
		return fmt.Errorf("sending %d bytes to the hub: %w: at most %d", len(payload), ErrTooLong, MaxMessage)
	}
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s == nil {
		return fmt.Errorf("sending to the hub: %w", ErrDown)
	}
	if err := s.send(ctx, payload); err != nil {
		return fmt.Errorf("sending to the hub: %w", err)
	}
	return nil
}

// Run keeps a session until ctx is done, and leaves no goroutine behind. Call it once.
func (l *Link) Run(ctx context.Context) error {
	steps := 0
	for {
		lasted, err := l.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		steps = nextSteps(steps, lasted)
		wait := waitAfter(steps, rand.Int64N)
		l.o.Log.Info("no session with the hub", "err", err, "retry_ms", wait.Milliseconds())
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// nextSteps is how suspicious to be after an attempt whose session lasted so long, 0 if it never came up.
func nextSteps(steps int, lasted time.Duration) int {
	switch {
	case lasted >= stableFor:
		return 0
	case lasted > 0:
		return min(steps+1, flapSteps)
	}
	return min(steps+1, maxSteps)
}

// waitAfter draws the pause before the next attempt: the upper bound doubles with every step, and the draw spreads a
// thousand edges that lost the same hub at the same moment.
func waitAfter(steps int, draw func(int64) int64) time.Duration {
	upper := min(maxWait, 2*minWait<<steps)
	return minWait + time.Duration(draw(int64(upper-minWait)+1))
}

// once makes one attempt and, if a session comes up, stays with it to its end.
func (l *Link) once(ctx context.Context) (lasted time.Duration, err error) {
	s, err := l.open(ctx)
	if err != nil {
		l.mu.Lock()
		l.status.Err = err.Error()
		l.mu.Unlock()
		return 0, err
	}
	began := time.Now()
	l.change(s, nil)
	err = s.run(ctx)
	l.change(nil, err)
	return max(time.Since(began), 1), err
}

// change makes s the session, or none, and tells.
func (l *Link) change(s *session, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = s
	l.status.Up = s != nil
	l.status.Since = time.Now()
	if s != nil {
		l.status.Sessions++
	}
	if why != nil {
		l.status.Err = why.Error()
	}
	// Under the lock, so that two changes cannot cross. The channel holds one: an unread word gives way.
	select {
	case <-l.up:
	default:
	}
	l.up <- s != nil
}

// arrived takes a payload off paho's hands without ever making it wait: a handler that blocks stops paho's pings.
func (l *Link) arrived(payload []byte) {
	for {
		select {
		case l.received <- payload:
			return
		default:
		}
		select {
		case <-l.received:
			l.mu.Lock()
			l.status.Dropped++
			l.mu.Unlock()
		default:
		}
	}
}
