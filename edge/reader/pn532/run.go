package pn532

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kith/edge/reader"
	"kith/internal/card"
)

const (
	// standingRetries keeps the chip looking for a card by itself; 255 would be for ever, and a chip that answers "none" now
	// and then proves that it lives.
	standingRetries = 0xFE
	// standingWait bounds one standing list. A silent chip is known after it and maxSyncs echoes: under 2 s.
	standingWait = 900 * time.Millisecond
	// glanceRetries and glanceWait are for a look that must end soon.
	glanceRetries = 2
	glanceWait    = 250 * time.Millisecond
	// listAtLeast is the time an empty list command takes on a chip that really looked; one that is faster gets listPause
	// before the next, which a person does not feel.
	listAtLeast = 5 * time.Millisecond
	listPause   = 20 * time.Millisecond

	// presenceEvery is how often a card that lies on the reader is asked whether it is still there.
	presenceEvery = 50 * time.Millisecond
	// absentFor is how long a card must be away before it counts as gone, and the same card as a new tap. Weak fields and
	// phones flicker for less; a hand that lifts a card and means to tap again takes longer.
	absentFor = 400 * time.Millisecond
	// absentTorn is absentFor after an exchange that the link broke: nothing was decided, so a second try is welcome sooner.
	absentTorn = 100 * time.Millisecond
	// heldThrough is how long a reader may be away with a card on it and still call it the same tap.
	heldThrough = 5 * time.Second
	// unreadablePause keeps a card that cannot be read from filling the book.
	unreadablePause = 500 * time.Millisecond

	// exchangeWait bounds one exchange with a card, with all time extensions the card asks of the chip. Old cards sign for
	// 190 ms and phones with a key store of their own for 500 ms. A chip that dies inside one is known after this and
	// maxSyncs echoes: under 2 s; more patience would be time in which a dead reader looks alive.
	exchangeWait = 1400 * time.Millisecond
	// transactionWait bounds everything a presentation does with its cards.
	transactionWait = 6 * time.Second

	// backoffFirst and backoffMost bound the pause before a failed reader is opened again.
	backoffFirst = 100 * time.Millisecond
	backoffMost  = time.Second
	// backoffForget is how long a reader must have served to start at backoffFirst again.
	backoffForget = 5 * time.Second
)

// Options of a Reader; the zero value is right for most places.
type Options struct {
	// MaxTargets is how many cards the chip tells apart, 1 or 2; 0 means 2.
	MaxTargets int
	// Baud is the rate to move a serial line to after start; 0 stays at 115200.
	Baud int
	// Fast424 moves cards that offer it to 424 kbit/s: 15 ms less per PKOC tap, and less reach with a weak antenna.
	Fast424 bool
	// ExchangeWait bounds one exchange with a card; 0 means 1.4 s. With more than 1.5 s a chip that dies inside an exchange is
	// reported later than 2 s.
	ExchangeWait time.Duration
	// TransactionWait bounds a whole presentation; 0 means 6 s.
	TransactionWait time.Duration
}

// Reader drives one PN532. Run owns it; Stats may be called from anywhere.
type Reader struct {
	open  func() (Transport, error)
	opts  Options
	stats counters

	// Below: Run's goroutine alone.
	state state
	held  []card.Target // the cards of the presentation that has not ended
	seen  time.Time     // when they were last there
	torn  bool          // the link broke within their presentation
}

// state is what the sink was last told.
type state uint8

const (
	untold state = iota
	up
	down
)

// New makes a reader that opens its chip with open, as often as it has to.
func New(open func() (Transport, error), opts Options) *Reader {
	if opts.MaxTargets <= 0 || opts.MaxTargets > reader.MaxTargets {
		opts.MaxTargets = reader.MaxTargets
	}
	if opts.ExchangeWait <= 0 {
		opts.ExchangeWait = exchangeWait
	}
	if opts.TransactionWait <= 0 {
		opts.TransactionWait = transactionWait
	}
	return &Reader{open: open, opts: opts}
}

// Run serves the reader until ctx ends, and then returns nil. A reader that cannot be opened, or dies, or is pulled out, is
// reported and opened again for ever, at most backoffMost apart.
func (r *Reader) Run(ctx context.Context, sink reader.Sink) error {
	backoff := backoffFirst
	for ctx.Err() == nil {
		start := time.Now()
		err := r.serve(ctx, sink)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			err = errors.New("reader stopped without a reason")
		}
		if time.Since(start) > backoffForget {
			backoff = backoffFirst
		}
		r.tell(sink, down, err.Error())
		pause(ctx, backoff)
		backoff = min(2*backoff, backoffMost)
		r.stats.reopens.Add(1)
		r.letGo(sink)
	}
	if r.held != nil {
		r.held = nil
		sink.Gone()
	}
	return nil
}

// letGo ends a presentation whose card cannot be asked for because its reader has been away for long.
func (r *Reader) letGo(sink reader.Sink) {
	if r.held == nil || time.Since(r.seen) < heldThrough {
		return
	}
	r.held = nil
	sink.Gone()
}

func (r *Reader) tell(sink reader.Sink, s state, why string) {
	if r.state == s {
		return
	}
	r.state = s
	sink.State(s == up, why)
}

// pause waits, but not longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// serve is one life of the transport: open, make ready, look for cards until something breaks.
func (r *Reader) serve(ctx context.Context, sink reader.Sink) (err error) {
	t, err := r.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	c := newChip(t, &r.stats)
	if err := r.start(ctx, c); err != nil {
		return fmt.Errorf("starting the reader chip: %w", err)
	}
	r.tell(sink, up, "")
	for ctx.Err() == nil {
		if err := r.round(ctx, c, sink); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if c.resync() == nil { // ends a standing list
		return c.fieldOff(context.WithoutCancel(ctx))
	}
	return nil
}

// start wakes and configures the chip. A chip that kept its power while we restarted still talks at the rate it was moved
// to, so if it is silent at the first rate the other is tried.
func (r *Reader) start(ctx context.Context, c *chip) error {
	if err := c.t.Reset(); err != nil {
		return fmt.Errorf("%w: %w", errDead, err)
	}
	line, hasRate := c.t.(rater)
	fast := hasRate && r.opts.Baud != 0 && r.opts.Baud != hsuBaud
	err := r.wake(ctx, c)
	if err != nil && fast {
		if rateErr := line.SetRate(r.opts.Baud); rateErr != nil {
			return errors.Join(rateErr, err)
		}
		return r.wake(ctx, c)
	}
	if err != nil || !fast {
		return err
	}
	return c.setRate(ctx, line, r.opts.Baud)
}

func (r *Reader) wake(ctx context.Context, c *chip) error {
	c.dead = nil // it may hear at this rate what it did not at another
	if err := c.t.Wake(); err != nil {
		return fmt.Errorf("%w: %w", errDead, err)
	}
	if err := c.send(ackFrame[:]); err != nil { // ends what an earlier life may have left running
		return err
	}
	if err := c.t.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errDead, err)
	}
	return c.configure(ctx)
}

// round is one turn of the loop: look after the card that lies there, or wait for one.
func (r *Reader) round(ctx context.Context, c *chip, sink reader.Sink) error {
	var targets []card.Target
	var err error
	if r.held != nil {
		targets, err = r.watch(ctx, c, sink)
	} else if targets, err = r.await(ctx, c); errors.Is(err, errList) {
		sink.Felt()
		sink.Unreadable("reader chip reported cards that do not parse")
		pause(ctx, unreadablePause)
		return c.release(ctx)
	}
	if err != nil || len(targets) == 0 {
		return err
	}
	return r.present(ctx, c, sink, targets)
}

// await is one standing list.
func (r *Reader) await(ctx context.Context, c *chip) ([]card.Target, error) {
	start := time.Now()
	targets, err := c.list(ctx, search{most: r.opts.MaxTargets, retries: standingRetries, wait: standingWait})
	if err != nil {
		return nil, err
	}
	if len(targets) == 0 {
		if time.Since(start) < listAtLeast {
			pause(ctx, listPause)
		}
		return nil, nil
	}
	return r.confirm(ctx, c, targets)
}

// confirm looks a second time if a card of the list cannot prove itself. The number of such a card is all there is, so it must
// not come from a spoiled or belated list; it costs such a card one more activation (6 ms). Cards that take APDUs prove
// themselves with a fresh challenge and need none.
func (r *Reader) confirm(ctx context.Context, c *chip, targets []card.Target) ([]card.Target, error) {
	for _, t := range targets {
		if t.ISODEP() {
			continue
		}
		again, err := r.glance(ctx, c)
		if err != nil || !sameAll(targets, again) {
			return nil, err
		}
		return again, nil
	}
	return targets, nil
}

// glance lists what is in the field now.
func (r *Reader) glance(ctx context.Context, c *chip) ([]card.Target, error) {
	if err := c.release(ctx); err != nil {
		return nil, err
	}
	return c.list(ctx, search{most: r.opts.MaxTargets, retries: glanceRetries, wait: glanceWait})
}

// present hands the cards to the sink and keeps them as held.
func (r *Reader) present(ctx context.Context, c *chip, sink reader.Sink, targets []card.Target) error {
	p := reader.Presentation{Targets: targets, Channels: make([]card.Channel, len(targets)), Felt: time.Now()}
	sink.Felt()
	if r.opts.Fast424 && len(targets) == 1 && targets[0].ISODEP() {
		if err := c.speedUp(ctx, targets[0]); err != nil {
			sink.Unreadable("reader was lost before the exchange")
			return err
		}
	}
	r.stats.presentations.Add(1)
	r.held, r.torn = targets, false
	channels := make([]*channel, 0, len(targets))
	for i, t := range targets {
		if t.ISODEP() {
			ch := &channel{c: c, tg: byte(i + 1), wait: r.opts.ExchangeWait}
			channels = append(channels, ch)
			p.Channels[i] = ch
		}
	}
	bound, cancel := context.WithTimeout(ctx, r.opts.TransactionWait)
	sink.Presented(bound, p)
	cancel()
	var dead error
	for _, ch := range channels {
		r.torn = r.torn || ch.lost != nil
		if errors.Is(ch.lost, errDead) {
			dead = ch.lost
		}
		ch.lost = errOver
	}
	r.seen = time.Now()
	return dead
}

// watch waits until the held cards are gone. It returns other cards if those took their place, to be presented at once.
func (r *Reader) watch(ctx context.Context, c *chip, sink reader.Sink) ([]card.Target, error) {
	active := len(r.held) == 1 && r.held[0].ISODEP()
	enough := absentFor
	if r.torn {
		enough = absentTorn
	}
	absent := time.Time{}
	for ctx.Err() == nil {
		there, others, err := r.look(ctx, c, &active)
		switch {
		case err != nil:
			return nil, err
		case there:
			absent = time.Time{}
			r.seen = time.Now()
		case len(others) > 0:
			r.held = nil
			sink.Gone()
			return others, nil
		case absent.IsZero():
			absent = time.Now()
		case time.Since(absent) >= enough:
			r.held = nil
			err := c.release(ctx)
			sink.Gone()
			return nil, err
		}
		pause(ctx, presenceEvery)
	}
	return nil, ctx.Err()
}

// look asks whether the held cards are there. A card that is still activated is asked itself, which keeps its activation and
// a phone's made-up UID; else the field is listed anew.
func (r *Reader) look(ctx context.Context, c *chip, active *bool) (there bool, others []card.Target, err error) {
	if *active && !c.plainPresence {
		there, err := c.attention(ctx)
		if err != nil || there {
			return there, nil, err
		}
	}
	*active = false
	targets, err := r.glance(ctx, c)
	if errors.Is(err, errList) { // something flickers; whatever it is, it is no new tap yet
		return false, nil, nil
	}
	if err != nil || len(targets) == 0 {
		return false, nil, err
	}
	for _, t := range targets {
		for _, h := range r.held {
			if same(t, h) {
				*active = len(targets) == 1 && t.ISODEP()
				return true, nil, nil
			}
		}
	}
	others, err = r.confirm(ctx, c, targets)
	if errors.Is(err, errList) {
		return false, nil, nil
	}
	return false, others, err
}

// same reports whether two sightings are taken for one card. UIDs that cards make up anew at each activation are taken for
// the same one: a phone that flickers would else tap by itself.
func same(a, b card.Target) bool {
	if card.RandomUID(a.UID) && card.RandomUID(b.UID) {
		return true
	}
	return string(a.UID) == string(b.UID)
}

// sameAll reports whether two lists show the same cards, in any order.
func sameAll(a, b []card.Target) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		found := false
		for _, y := range b {
			found = found || same(x, y)
		}
		if !found {
			return false
		}
	}
	return true
}
