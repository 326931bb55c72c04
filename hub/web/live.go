package web

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"kith/internal/event"
)

// Limits of the event stream.
const (
	MaxReaders   = 256              // live readers
	readerQueue  = 16               // changes that wait for one reader
	writeTimeout = 5 * time.Second  // for one change to be taken
	beat         = 20 * time.Second // between two signs of life
	retryMS      = 2000             // after which a browser connects again
)

// live tells readers which node changed. A reader that does not keep up is cut, never waited for: its browser comes back
// and fetches the page as it is then, so nothing is lost by it.
type live struct {
	mu      sync.Mutex // guards readers, for the length of one hand-over
	readers map[*reader]struct{}
	closed  bool
}

type reader struct {
	node string // empty: all
	wake chan string
	cut  chan struct{}
}

func newLive() *live { return &live{readers: map[*reader]struct{}{}} }

// join adds a reader; false when the house is full or closing.
func (l *live) join(node string) (*reader, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.readers) >= MaxReaders {
		return nil, false
	}
	r := &reader{node: node, wake: make(chan string, readerQueue), cut: make(chan struct{})}
	l.readers[r] = struct{}{}
	return r, true
}

func (l *live) leave(r *reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.readers, r)
}

func (l *live) publish(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range l.readers {
		if node != "" && r.node != "" && r.node != node {
			continue
		}
		select {
		case r.wake <- node:
		default:
			delete(l.readers, r)
			close(r.cut)
		}
	}
}

func (l *live) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for r := range l.readers {
		delete(l.readers, r)
		close(r.cut)
	}
}

// stream is GET /live?node=: server-sent events (HTML standard, section 9.2) that say only that something changed. What
// changed is on the page, which the reader fetches by the same route as everybody.
func (w *Web) stream(rw http.ResponseWriter, r *http.Request) {
	node := r.URL.Query().Get("node")
	if node != "" && !event.IsID(node) {
		http.Error(rw, "no such node", http.StatusBadRequest)
		return
	}
	reader, ok := w.live.join(node)
	if !ok {
		rw.Header().Set("Retry-After", "10")
		http.Error(rw, "too many live readers; the page works by reload", http.StatusServiceUnavailable)
		return
	}
	defer w.live.leave(reader)
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(rw)
	send := func(text string) bool {
		// A peer that takes nothing holds this goroutine for one deadline, not for ever. A writer without deadlines
		// (a recorder in a test) just writes.
		_ = out.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := rw.Write([]byte(text))
		return err == nil && out.Flush() == nil
	}
	if !send(fmt.Sprintf("retry: %d\n\n", retryMS)) {
		return
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-reader.cut:
			return
		case node := <-reader.wake:
			if !send("event: change\ndata: " + node + "\n\n") {
				return
			}
		case <-tick.C:
			if !send(": still here\n\n") {
				return
			}
		}
	}
}
