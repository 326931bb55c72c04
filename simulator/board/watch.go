package board

import (
	"context"
	"fmt"
)

// Watch sees every change from its making on. A watcher that falls watchBuffer changes behind is
// ended: its channel closes, because a gap in what it saw would be worse.
type Watch struct {
	C     <-chan Change
	c     chan Change
	b     *Board
	ended bool // guarded by the board's mu
}

// Watch begins to watch.
func (b *Board) Watch() *Watch {
	c := make(chan Change, watchBuffer)
	w := &Watch{C: c, c: c, b: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		w.end()
		return w
	}
	b.watches[w] = true
	return w
}

// Stop ends the watch and closes C.
func (w *Watch) Stop() {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	w.end()
}

// put and end run with the board's mu held.
func (w *Watch) put(c Change) {
	select {
	case w.c <- c:
	default:
		w.end()
	}
}

func (w *Watch) end() {
	if !w.ended {
		w.ended = true
		close(w.c)
		delete(w.b.watches, w)
	}
}

// Await returns the next change of signal to v, or at once (with the present time 0) when it
// already stands there.
func (b *Board) Await(ctx context.Context, signal string, v int) (Change, error) {
	w := b.Watch()
	defer w.Stop()
	if b.Get(signal) == v {
		return Change{Signal: signal, Value: v}, nil
	}
	return w.Await(ctx, signal, v)
}

// Await returns the next change of signal to v that the watch sees, and passes over all others.
func (w *Watch) Await(ctx context.Context, signal string, v int) (Change, error) {
	for {
		select {
		case c, ok := <-w.C:
			if !ok {
				return Change{}, fmt.Errorf("waiting for %s = %d: the watch ended", signal, v)
			}
			if c.Signal == signal && c.Value == v {
				return c, nil
			}
		case <-ctx.Done():
			return Change{}, fmt.Errorf("waiting for %s = %d: %w", signal, v, ctx.Err())
		}
	}
}
