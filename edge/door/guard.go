package door

import (
	"context"
	"sync"
	"time"
)

// Lock is the output stage. Set is called from one goroutine only, and must return within a second: a Set that hangs
// leaves the lock to the relay's own hardware time-out, which no software can replace.
type Lock interface {
	Set(released bool) error
}

const (
	fireWait      = 500 * time.Millisecond // a start waits this long for the fire input before it secures
	lockRetry     = 100 * time.Millisecond // first retry of a failed Set
	lockRetryMost = 2 * time.Second        // the slowest retry
)

// guard is the only one who touches the lock, in a goroutine apart from the machine's. It knows no doors, only an end
// of the present release and whether there is fire, so that
//
//   - a machine that hangs while the lock is released cannot keep it released: the end was set when the release began;
//   - a machine that hangs cannot keep people in a fire: the fire input reaches the guard on a path of its own, and the
//     end of a release does not count while it is active;
//   - a machine that hangs as a fire clears cannot keep the door open: clearing needs nobody but the guard;
//   - nobody ever waits for the lock: wishes are overwritten, not queued, and the newest is the one that counts.
type guard struct {
	lock     Lock
	trouble  func(err error) // called on the first failure and, with nil, when it is over
	longest  time.Duration
	hasFire  bool
	wake     chan struct{} // holds one
	mu       sync.Mutex    // guards what follows
	until    time.Time     // the release ends then; zero = none
	fire     bool
	fireSeen bool
	failing  bool
	applied  bool // the last level that Set took
}

func newGuard(cfg Config, lock Lock, trouble func(error)) *guard {
	return &guard{lock: lock, trouble: trouble, longest: ms(cfg.MaxPulseMS), hasFire: cfg.HasFire, wake: make(chan struct{}, 1)}
}

// release lets go for the longest pulse at most; the machine will ask to secure before.
func (g *guard) release() { g.change(func() { g.until = time.Now().Add(g.longest) }) }

func (g *guard) secure() { g.change(func() { g.until = time.Time{} }) }

// setFire takes a level of the fire input. A fire that clears also ends whatever release was under way.
func (g *guard) setFire(f Fire) {
	g.change(func() {
		if g.fire && !f.Active {
			g.until = time.Time{}
		}
		g.fire, g.fireSeen = f.Active, true
	})
}

func (g *guard) change(f func()) {
	g.mu.Lock()
	f()
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// want is the level to drive and when to look again.
func (g *guard) want(now time.Time) (released bool, again time.Duration, timed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fire {
		return true, 0, false
	}
	if g.until.IsZero() || !now.Before(g.until) {
		return false, 0, false
	}
	return true, g.until.Sub(now), true
}

// run drives the lock until ctx ends, then secures it, unless there is fire.
func (g *guard) run(ctx context.Context) {
	g.awaitFire(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	driven, known, retry := false, false, lockRetry
	for {
		select {
		case <-ctx.Done():
			g.last()
			return
		case <-g.wake:
		case <-timer.C:
		}
		level, again, timed := g.want(time.Now())
		if !known || driven != level {
			if err := g.lock.Set(level); err != nil {
				known = false
				g.note(err)
				again, timed = min(retry, lockRetryMost), true
				retry = min(2*retry, lockRetryMost)
			} else {
				driven, known, retry = level, true, lockRetry
				g.mu.Lock()
				g.applied = level
				g.mu.Unlock()
				g.note(nil)
			}
		}
		if timed {
			timer.Reset(again)
		} else {
			timer.Stop()
		}
	}
}

// awaitFire gives the fire input the chance to be heard first: a start during a fire must not lock for a moment.
func (g *guard) awaitFire(ctx context.Context) {
	if !g.hasFire {
		return
	}
	timer := time.NewTimer(fireWait)
	defer timer.Stop()
	for {
		g.mu.Lock()
		seen := g.fireSeen
		g.mu.Unlock()
		if seen {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-g.wake:
		}
	}
}

// last secures at the end. One retry, because the process is leaving and the relay falls by itself when it has left.
func (g *guard) last() {
	g.mu.Lock()
	fire := g.fire
	g.until = time.Time{}
	g.mu.Unlock()
	if fire {
		return
	}
	if err := g.lock.Set(false); err != nil {
		if err = g.lock.Set(false); err != nil {
			g.note(err)
			return
		}
	}
	g.mu.Lock()
	g.applied = false
	g.mu.Unlock()
}

func (g *guard) note(err error) {
	g.mu.Lock()
	changed := g.failing != (err != nil)
	g.failing = err != nil
	g.mu.Unlock()
	if changed {
		g.trouble(err)
	}
}

func (g *guard) state() (released, failing bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.applied, g.failing
}
