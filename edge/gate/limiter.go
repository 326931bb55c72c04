package gate

import (
	"time"

	"kith/internal/access"
)

// Paused is the reason of a refusal that the limiter gave: this one card was refused too often just now.
const Paused access.Reason = "paused"

// Limits of the pause (docs/ARCHITECTURE.md, "Limits").
const (
	RefusalsBeforePause = 5
	RefusalWindow       = time.Minute
	FirstPause          = 5 * time.Second
	LongestPause        = time.Minute
	MaxPausedCards      = 256 // cards remembered by one gate
)

// Limiter slows down one card that is refused again and again, and nobody else: other cards are never locked out. It is
// a value of monotonic times, without a clock of its own; the gate's goroutine owns it.
type Limiter struct {
	cards map[string]*refusals
}

type refusals struct {
	count  int
	since  time.Duration
	until  time.Duration
	pause  time.Duration
	latest time.Duration
}

// NewLimiter makes an empty one.
func NewLimiter() *Limiter { return &Limiter{cards: map[string]*refusals{}} }

// Paused reports whether the card has to wait.
func (l *Limiter) Paused(now time.Duration, card string) bool {
	r := l.cards[card]
	return r != nil && now < r.until
}

// Refused counts one refusal and starts a pause when there were too many in the window. Each further pause is twice
// as long, up to LongestPause.
func (l *Limiter) Refused(now time.Duration, card string) {
	r := l.cards[card]
	if r == nil {
		l.makeRoom()
		r = &refusals{since: now, pause: FirstPause}
		l.cards[card] = r
	}
	if now-r.since > RefusalWindow && now > r.until {
		if now-r.latest > RefusalWindow {
			r.pause = FirstPause // calm for a whole window: start gently again
		}
		r.count, r.since = 0, now
	}
	r.count++
	r.latest = now
	if r.count >= RefusalsBeforePause {
		r.until = now + r.pause
		r.pause = min(2*r.pause, LongestPause)
		r.count, r.since = 0, r.until
	}
}

// Forget clears a card that was let in.
func (l *Limiter) Forget(card string) { delete(l.cards, card) }

// makeRoom drops the card that was quiet longest. An attacker with 256 cards gains five tries for one of them.
func (l *Limiter) makeRoom() {
	if len(l.cards) < MaxPausedCards {
		return
	}
	oldest := ""
	for id, r := range l.cards {
		if oldest == "" || r.latest < l.cards[oldest].latest || r.latest == l.cards[oldest].latest && id < oldest {
			oldest = id
		}
	}
	delete(l.cards, oldest)
}
