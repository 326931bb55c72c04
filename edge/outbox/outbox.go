// Package outbox owns the way of leaves from the journal to the hub: at its own pace, in order, until a receipt covers
// them. It also asks for the parts of a roster.
//
// Promises. A leaf counts as delivered only when a note with our signature and the hub's co-signature over our own root
// covers it; sessions, broker acknowledgements and order count for nothing, and any message may be lost, doubled or
// late. Nothing is kept here, so a crash loses nothing: the first hello after it finds the place again. When the hub has
// lost leaves they are sent again; when this disk turns out to be an older or a second copy, the epoch is ended where the
// histories part and what only we have is carried into a new one, so that no real tap is lost.
//
// It never decides about doors, never deletes a leaf, and never believes a size or root that nobody signed further than
// to ask a question about it.
//
// # States
//
//	state       enters when                               does                                      leaves to
//	offline     no session                                nothing                                   hello
//	hello       connected, or the hub's state is unclear  hello; again after 4..60 s                any below
//	catch-up    the hub has less than we                  batches of up to 256, 4 in flight         live
//	live        all is there or in flight                 a leaf at once, more in company, hello    catch-up, forked ...
//	                                                      every 30 s
//	hub-forgot  the hub has less than it co-signed        shows its receipt, sends again; over a    live
//	                                                      pruned range a bridge
//	forgot      the hub has more, and our root is its     one head for a co-signature, then epoch   hello
//	            root at our size                          "restored"
//	forked      roots differ                              roots by 32, heads as proof, then epoch   hello (held)
//	                                                      "fork" with what differs replayed
//	turned-away the hub does not know us or retired us    hello every 60 s                          hello
//
// Held and duplicate are flags beside the state, as told by the hub. With duplicate no roster is taken.
package outbox

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"kith/internal/wire"
)

// Session carries messages. *link.Link is one.
type Session interface {
	Send(ctx context.Context, payload []byte) error
	Received() <-chan []byte
	Up() <-chan bool
}

const sendWait = 10 * time.Second // for the session to take one message

// Options of an outbox.
type Options struct {
	Settings Settings
	Hand     Hand
	Changed  <-chan struct{} // the journal's
	Session  Session
}

// Outbox runs one machine.
type Outbox struct {
	machine *Machine
	hand    Hand
	changed <-chan struct{}
	session Session
	began   time.Time
	report  atomic.Pointer[Report]
	ignored atomic.Uint64
	refused atomic.Uint64
	met     chan struct{} // closed by publish
}

// NewOutbox takes what it needs; Run starts it.
func NewOutbox(o Options) *Outbox {
	if o.Hand.Logger == nil {
		o.Hand.Logger = slog.New(slog.DiscardHandler)
	}
	x := &Outbox{machine: New(o.Settings), hand: o.Hand, changed: o.Changed, session: o.Session, met: make(chan struct{})}
	x.publish()
	return x
}

// Report is the newest state, for health. It may be called from anywhere.
func (x *Outbox) Report() Report { return *x.report.Load() }

// Ignored counts messages of a newer hub; Refused counts damaged ones.
func (x *Outbox) Ignored() uint64 { return x.ignored.Load() }

// Refused counts messages that were no messages.
func (x *Outbox) Refused() uint64 { return x.refused.Load() }

// Met is closed once the hub's first word has been acted on: it is known whose copy of the journal is the newer, and an epoch
// that had to end has ended.
func (x *Outbox) Met() <-chan struct{} { return x.met }

func (x *Outbox) publish() {
	r := x.machine.Report()
	x.report.Store(&r)
	switch r.State {
	case Offline, Hello, Forgot, Forked:
		return
	}
	select {
	case <-x.met:
		return
	default:
	}
	// What the hub says of an older epoch tells nothing of the newest.
	if epochs := x.hand.Log.Epochs(); r.Epoch == epochs[len(epochs)-1].Epoch {
		close(x.met)
	}
}

// Run owns the machine until ctx ends.
func (x *Outbox) Run(ctx context.Context) error {
	x.began = time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var event any = InTick{}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case up := <-x.session.Up():
			event = InLink{up}
		case b := <-x.session.Received():
			if event = x.hear(ctx, b); event == nil {
				continue
			}
		case <-x.changed:
		case <-timer.C:
		}
		timer.Reset(x.step(ctx, event))
		x.publish()
	}
}

func (x *Outbox) hear(ctx context.Context, b []byte) any {
	event, err := x.hand.Hear(ctx, b)
	switch {
	case errors.Is(err, wire.ErrUnknownType), errors.Is(err, wire.ErrVersion):
		x.ignored.Add(1)
	case err != nil:
		x.refused.Add(1)
		x.hand.Logger.Warn("message from the hub refused", "err", err)
	}
	return event
}

// step feeds the machine until it has nothing more to do now, and returns how long it may sleep.
func (x *Outbox) step(ctx context.Context, event any) time.Duration {
	for event != nil {
		now := time.Since(x.began)
		outputs := x.machine.Step(now, Input{Epochs: x.hand.Log.Epochs(), Event: event})
		event = nil
		for _, o := range outputs {
			if w, ok := o.(Wake); ok {
				if event == nil {
					return max(w.At-now, 0)
				}
				continue
			}
			payload, result := x.hand.Do(ctx, o)
			if payload != nil && !x.send(ctx, payload) {
				if s, ok := result.(InSent); ok {
					s.Leaves = 0
					result = s
				}
			}
			if result != nil {
				event = result
			}
		}
	}
	return 0
}

func (x *Outbox) send(ctx context.Context, payload []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	if err := x.session.Send(ctx, payload); err != nil {
		x.hand.Logger.Debug("message not sent", "err", err)
		return false
	}
	return true
}
