package appliance

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"kith/internal/event"
)

// Limits of the clock's watch.
const (
	clockEvery   = time.Second
	jumpLimit    = 2 * time.Second // wall against monotonic time between two looks; slewing stays far below
	staUnsync    = 0x0040          // STA_UNSYNC of adjtimex(2)
	clockEarlier = 24 * time.Hour  // before the newest leaf by more than this: not a time to trust
)

// Clock is the wall clock with its quality, and the time since the program started. Wall time is data and may be wrong; it
// orders nothing.
type Clock func() (wall time.Time, quality event.Clock, mono time.Duration)

// SystemClock reads the kernel's clock and asks it whether something keeps it right (adjtimex(2)).
func SystemClock() Clock {
	start := time.Now()
	return func() (time.Time, event.Clock, time.Duration) {
		now := time.Now()
		quality := event.Unsure
		var t unix.Timex
		if _, err := unix.Adjtimex(&t); err == nil && t.Status&staUnsync == 0 {
			quality = event.Synced
		}
		return now, quality, now.Sub(start)
	}
}

// TrustedClock is for a machine whose time is kept by other means, and for simulations.
func TrustedClock() Clock {
	start := time.Now()
	return func() (time.Time, event.Clock, time.Duration) {
		now := time.Now()
		return now, event.Synced, now.Sub(start)
	}
}

// clockWatch notices jumps and changes of quality, because a schedule or an expiry decided just before one may have been
// wrong. It is a value; watchClock feeds it.
type clockWatch struct {
	wall    time.Time
	mono    time.Duration
	quality event.Clock
	started bool
}

// look takes one reading and says whether there is something to record.
func (w *clockWatch) look(wall time.Time, quality event.Clock, mono time.Duration) (change event.ClockChange, changed bool) {
	wall = wall.Round(0) // without the monotonic reading, which would hide the jump
	if w.started {
		jump := wall.Sub(w.wall) - (mono - w.mono)
		if jump > jumpLimit || jump < -jumpLimit {
			change.JumpMS, changed = jump.Milliseconds(), true
		}
		changed = changed || quality != w.quality
	} else {
		changed = quality != event.Synced
	}
	change.Quality = quality
	w.wall, w.mono, w.quality, w.started = wall, mono, quality, true
	return change, changed
}

func (a *Appliance) watchClock(ctx context.Context) {
	var w clockWatch
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		if change, changed := w.look(a.clock()); changed {
			a.log.Warn("clock changed", "quality", change.Quality, "jump_ms", change.JumpMS)
			a.record(event.KindClock, change)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
