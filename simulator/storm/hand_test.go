package storm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pins "kith/edge/board"
	"kith/internal/card"
	"kith/simulator/board"
	"kith/simulator/chip"
)

// Times of a hand.
const (
	pulse     = 100 * time.Millisecond // the doors' release: short, so that each tap moves the lock by itself
	holdMost  = 350 * time.Millisecond // a hurried hand holds a card this long while nothing happens
	holdLong  = 3 * time.Second        // a patient one, whose card has to open
	relock    = 2 * time.Second        // longest wait for a released lock to drop
	gapLeast  = 20 * time.Millisecond  // between two cards
	gapMost   = 120 * time.Millisecond
	doorID    = "front"
	readerID  = "front-in"
	cardsEach = 12 // cards of one hand: each one is away long enough to be a new tap
)

// presentation is one card held before one reader.
type presentation struct {
	card           string
	placed, lifted time.Time
}

// movement is one release of a lock, as the board saw it.
type movement struct{ on, off time.Time }

// post is the hardware of one edge, alive whatever becomes of the program: board, reader and the people before it.
type post struct {
	board *board.Board
	field *chip.Field
	cards []*chip.Card

	mu            sync.Mutex
	presentations []presentation
	movements     []movement
	other         []string // signals of locks that are not this door's
}

// openPost puts virtual hardware where the edge's configuration says.
func openPost(t testing.TB, dir string, cards []*chip.Card) *post {
	t.Helper()
	b, err := board.Listen(dir+"/board.sock", append(board.Door(doorID), "tamper")...)
	if err != nil {
		t.Fatal(err)
	}
	p := &post{board: b, field: chip.NewField(), cards: cards}
	c, err := chip.Open(p.field, chip.Options{Link: dir + "/reader.tty"})
	if err != nil {
		t.Fatal(err)
	}
	watch := b.Watch()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.write(watch)
	}()
	t.Cleanup(func() {
		watch.Stop()
		<-done
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// write notes every movement of a lock. The board's clock is the machine's monotonic one; leaves carry wall time.
func (p *post) write(watch *board.Watch) {
	for c := range watch.C {
		at := time.Now().Add(c.At - pins.Now()).Round(0)
		if !pins.IsLock(c.Signal) {
			continue
		}
		p.mu.Lock()
		n := len(p.movements)
		switch {
		case c.Signal != doorID+"/lock":
			p.other = append(p.other, c.Signal)
		case c.Value == 1:
			p.movements = append(p.movements, movement{on: at})
		case n > 0 && p.movements[n-1].off.IsZero():
			p.movements[n-1].off = at
		}
		p.mu.Unlock()
	}
}

// tap holds one card before the reader until the lock is released, at most so long, and says whether it was.
func (p *post) tap(ctx context.Context, c *chip.Card, hold time.Duration) (bool, error) {
	id, err := c.ID()
	if err != nil {
		return false, err
	}
	watch := p.board.Watch()
	defer watch.Stop()
	p.mu.Lock()
	n := len(p.presentations)
	p.presentations = append(p.presentations, presentation{card: id, placed: time.Now().Round(0)})
	p.mu.Unlock()
	if err := p.field.Place(c); err != nil {
		return false, err
	}
	short, cancel := context.WithTimeout(ctx, hold)
	_, err = watch.Await(short, doorID+"/lock", 1)
	cancel()
	opened := err == nil
	p.field.Lift(c)
	p.mu.Lock()
	p.presentations[n].lifted = time.Now().Round(0)
	p.mu.Unlock()
	if opened {
		long, cancel := context.WithTimeout(ctx, relock)
		defer cancel()
		if _, err := watch.Await(long, doorID+"/lock", 0); err != nil && ctx.Err() == nil {
			return true, fmt.Errorf("the lock stays released: %w", err)
		}
	}
	return opened, nil
}

// crowd taps one card after the other until ctx ends.
func (p *post) crowd(ctx context.Context, rng *rand.Rand) error {
	for i := 0; ctx.Err() == nil; i++ {
		if _, err := p.tap(ctx, p.cards[i%len(p.cards)], holdMost); err != nil {
			return err
		}
		pause(ctx, gapLeast+time.Duration(rng.Int64N(int64(gapMost-gapLeast))))
	}
	return nil
}

// taps makes n taps that all have to open.
func (p *post) taps(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		opened, err := p.tap(t.Context(), p.cards[i%len(p.cards)], holdLong)
		if err != nil {
			t.Fatal(err)
		}
		if !opened {
			t.Fatalf("tap %d of %d did not open within %s", i+1, n, holdLong)
		}
		time.Sleep(gapLeast)
	}
}

// seen copies what was noted so far.
func (p *post) seen() ([]presentation, []movement, []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]presentation(nil), p.presentations...), append([]movement(nil), p.movements...), append([]string(nil), p.other...)
}

// newCards makes a hand's cards: keys that prove themselves, and every third one a mere number.
func newCards(t testing.TB, hand byte) []*chip.Card {
	t.Helper()
	var out []*chip.Card
	for i := range cardsEach {
		if i%3 == 2 {
			c, err := chip.NewUID([]byte{0x04, hand, byte(i), 0x11, 0x22, 0x33, 0x80})
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, c)
			continue
		}
		key, err := card.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, chip.NewPKOC(key))
	}
	return out
}
