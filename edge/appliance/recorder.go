package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"kith/edge/door"
	"kith/internal/event"
	"kith/internal/journal"
)

// Limits of the way into the journal.
const (
	recordQueue = 1024             // facts waiting for the disk
	recordBatch = 256              // facts of one commit
	MaxHeld     = 10_000           // facts kept in memory while the disk takes none
	heldRetry   = time.Second      // between two tries while it takes none
	drainLimit  = 10 * time.Second // for the last facts at a stop
	courtesy    = 5 * time.Second  // that a start's own facts wait for the hub's first word
	maxCourtesy = 64               // of them; more are written at once
)

// errQueueFull answers a fact that found no room in memory either. It is counted, and the count is recorded when the disk is back.
var errQueueFull = errors.New("the journal does not keep up and memory for waiting facts is used up")

// appender is the journal, as far as the recorder needs it.
type appender interface {
	Append(ctx context.Context, records ...journal.Record) ([]uint64, error)
}

// recorder is the one way of facts into the journal. Its goroutine owns the facts that the disk would not take: they stay in
// memory, in order and at most MaxHeld, and are written, marked late, as soon as it does. No door waits for any of this
// longer than its own bound.
type recorder struct {
	log     *slog.Logger
	journal appender
	queue   chan pending
	held    []journal.Record // owned by run
	lost    atomic.Uint64
	holding atomic.Int64
	failing atomic.Pointer[string]

	volatile bool // the journal is in memory: what it took is kept, and durable for nobody. Set before run

	// met is closed when the hub's first word has been acted on; nil: nobody is waited for. Set before run. Until then what a
	// start says of itself (boot, reader, roster, clock, storage) waits in first: were it written before the hub is met, a disk
	// put back from an older copy would have forked already, instead of learning that it is old and going on in a new
	// epoch. Nobody's fact waits for that: a tap, a door, a tamper switch or an entry writes what waits, and then itself.
	met   <-chan struct{}
	first []pending // owned by run
}

// pending is a fact on its way, or, without a kind, the wish that what waits be written first.
type pending struct {
	fact  event.Fact
	reply chan error
}

func newRecorder(j appender, log *slog.Logger) *recorder {
	return &recorder{journal: j, log: log, queue: make(chan pending, recordQueue)}
}

// Record hands a fact over. It never blocks; the channel yields nil once the fact is durable, else why it is not yet.
func (r *recorder) Record(f event.Fact) <-chan error {
	p := pending{f, make(chan error, 1)}
	select {
	case r.queue <- p:
	default:
		r.lost.Add(1)
		p.reply <- errQueueFull
	}
	return p.reply
}

// settle returns when nothing waits for the hub's first word any more: for those who write beside the recorder.
func (r *recorder) settle(ctx context.Context) error {
	p := pending{reply: make(chan error, 1)}
	select {
	case r.queue <- p:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-p.reply:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ofItself tells the facts with which a start describes itself, all in order, from those that happened to somebody.
func ofItself(f event.Fact) bool {
	switch f.Kind {
	case event.KindBoot, event.KindReader, event.KindRoster, event.KindClock, event.KindStorage:
		return true
	case event.KindTamper:
		var t event.Tamper
		return json.Unmarshal(f.Body, &t) == nil && !t.Open
	case event.KindDoor:
		var d event.Door
		return json.Unmarshal(f.Body, &d) == nil && d.Why == door.WhyStart
	}
	return false
}

// release ends the courtesy.
func (r *recorder) release(ctx context.Context) {
	r.met = nil
	if first := r.first; len(first) > 0 {
		r.first = nil
		r.write(ctx, first)
	}
}

// offer writes a batch, or lets it wait while that is a courtesy.
func (r *recorder) offer(ctx context.Context, batch []pending) {
	if r.met != nil && len(r.first)+len(batch) <= maxCourtesy && !slices.ContainsFunc(batch, func(p pending) bool { return !ofItself(p.fact) }) {
		r.first = append(r.first, batch...)
		return
	}
	r.release(ctx)
	facts := batch[:0]
	for _, p := range batch {
		if p.fact.Kind == "" {
			p.reply <- nil
			continue
		}
		facts = append(facts, p)
	}
	if len(facts) > 0 {
		r.write(ctx, facts)
	}
}

// run writes until stop is closed, then writes what is left. The journal must stay open until it returns.
func (r *recorder) run(ctx context.Context) {
	retry := time.NewTicker(heldRetry)
	defer retry.Stop()
	patience := time.NewTimer(courtesy)
	defer patience.Stop()
	for {
		select {
		case p := <-r.queue:
			r.offer(context.Background(), r.take(p))
		case <-r.met:
			r.release(context.Background())
		case <-patience.C:
			r.release(context.Background())
		case <-retry.C:
			if len(r.held) > 0 {
				r.write(context.Background(), nil)
			}
		case <-ctx.Done():
			r.drain()
			return
		}
	}
}

func (r *recorder) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	r.release(ctx)
	for {
		select {
		case p := <-r.queue:
			r.offer(ctx, r.take(p))
		default:
			if len(r.held) > 0 {
				r.write(ctx, nil)
			}
			if n := len(r.held); n > 0 {
				r.log.Error("facts were lost at the stop: the disk takes none", "facts", n)
			}
			return
		}
	}
}

// take collects what waits behind the first, up to one commit.
func (r *recorder) take(first pending) []pending {
	batch := []pending{first}
	for len(batch) < recordBatch {
		select {
		case p := <-r.queue:
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

// write appends what was held before what is new, so that the order of the journal is the order of things.
func (r *recorder) write(ctx context.Context, batch []pending) {
	err := r.writeHeld(ctx)
	offered := err == nil && len(batch) > 0
	if offered {
		records := make([]journal.Record, len(batch))
		for i, p := range batch {
			if r.volatile {
				p.fact = late(p.fact)
			}
			records[i] = record(p.fact)
		}
		_, err = r.journal.Append(ctx, records...)
		if refused(err) {
			r.writeEach(ctx, batch, err)
			return
		}
	}
	r.note(err)
	for _, p := range batch {
		// A pending append may still be written: to hold it as well would write it twice. When it was an append of what
		// was held, this fact was never offered.
		if err != nil && !(offered && errors.Is(err, journal.ErrPending)) {
			r.hold(p.fact)
		}
		if err == nil && r.volatile {
			p.reply <- errVolatile
			continue
		}
		p.reply <- err
	}
	r.holding.Store(int64(len(r.held)))
}

// refused says that the journal found fault with a fact, not with the disk: it would refuse it for ever.
func refused(err error) bool { return errors.Is(err, event.ErrLeaf) }

// writeEach writes a batch one by one, because one fact of it can never be written: it must hold up no other. It is
// counted as lost; what was waiting before the batch has been written.
func (r *recorder) writeEach(ctx context.Context, batch []pending, err error) {
	if len(batch) == 1 {
		r.drop(batch[0].fact.Kind, err)
		batch[0].reply <- err
		return
	}
	for _, p := range batch {
		r.write(ctx, []pending{p})
	}
}

func (r *recorder) writeHeld(ctx context.Context) error {
	for most := recordBatch; len(r.held) > 0; {
		n := min(len(r.held), most)
		_, err := r.journal.Append(ctx, r.held[:n]...)
		switch {
		case refused(err) && n > 1:
			most = 1
			continue
		case refused(err):
			r.drop(r.held[0].Kind, err)
		case errors.Is(err, journal.ErrPending):
			r.held = r.held[n:]
			return err
		case err != nil:
			return err
		}
		r.held = r.held[n:]
	}
	return nil
}

// drop counts a fact that can never be written.
func (r *recorder) drop(kind event.Kind, err error) {
	r.lost.Add(1)
	r.log.Error("a fact that no journal takes was dropped", "kind", kind, "err", err)
}

func (r *recorder) hold(f event.Fact) {
	if len(r.held) >= MaxHeld {
		r.lost.Add(1)
		return
	}
	r.held = append(r.held, record(late(f)))
}

// late marks a tap that was acted on before it was durable.
func late(f event.Fact) event.Fact {
	var tap event.Tap
	if f.Kind != event.KindTap || json.Unmarshal(f.Body, &tap) != nil {
		return f
	}
	tap.Late = true
	if body, err := event.Marshal(tap); err == nil {
		f.Body = body
	}
	return f
}

func record(f event.Fact) journal.Record {
	return journal.Record{Kind: f.Kind, At: f.At, Mono: f.Mono, Clock: f.Clock, Body: f.Body, Private: f.Private}
}

// note logs a change between writing and not writing, once each way.
func (r *recorder) note(err error) {
	was := r.failing.Load()
	switch {
	case err != nil && was == nil:
		text := err.Error()
		r.failing.Store(&text)
		r.log.Error("journal takes no facts; doors go on deciding, facts wait in memory", "err", err)
	case err == nil && was != nil:
		r.failing.Store(nil)
		r.log.Info("journal takes facts again")
	}
}

// trouble is what the health page says: why nothing is written, how much waits, how much was lost.
func (r *recorder) trouble() (why string, waiting int64, lost uint64) {
	if p := r.failing.Load(); p != nil {
		why = *p
	}
	return why, r.holding.Load(), r.lost.Load()
}
