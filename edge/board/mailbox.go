package board

import "sync"

// mailbox is the bounded queue between the pins and the one reader of Inputs. put never blocks.
// When the queue is full, the oldest entry that a later entry of the same signal has overtaken
// is dropped: every signal's last level survives, in order. That such an entry exists follows
// from queueBound > MaxSignals.
type mailbox struct {
	out  chan Change
	quit chan struct{}
	wake chan struct{} // capacity 1: "the queue is not empty"
	done chan struct{}

	mu    sync.Mutex
	queue []Change // guarded by mu, at most queueBound
}

func newMailbox() *mailbox {
	m := &mailbox{
		out:  make(chan Change, inputsBuffer),
		quit: make(chan struct{}),
		wake: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	go m.pump()
	return m
}

func (m *mailbox) put(c Change) {
	m.mu.Lock()
	m.queue = append(m.queue, c)
	if len(m.queue) > queueBound {
		m.queue = dropOvertaken(m.queue)
	}
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// dropOvertaken removes the oldest change that a later change of the same signal makes moot.
func dropOvertaken(q []Change) []Change {
	last := make(map[string]int, MaxSignals)
	for i, c := range q {
		last[c.Signal] = i
	}
	for i, c := range q {
		if last[c.Signal] != i {
			return append(q[:i], q[i+1:]...)
		}
	}
	// More distinct signals than the board admits: the caller broke the bound.
	panic("board: more distinct signals queued than MaxSignals")
}

func (m *mailbox) take() (Change, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) == 0 {
		return Change{}, false
	}
	c := m.queue[0]
	m.queue = append(m.queue[:0], m.queue[1:]...)
	return c, true
}

// pump owns the sending side of out.
func (m *mailbox) pump() {
	defer close(m.done)
	defer close(m.out)
	for {
		c, ok := m.take()
		if !ok {
			select {
			case <-m.wake:
				continue
			case <-m.quit:
				return
			}
		}
		select {
		case m.out <- c:
		case <-m.quit:
			return
		}
	}
}

// close ends the pump; no put may follow that matters. Called once.
func (m *mailbox) close() {
	close(m.quit)
	<-m.done
}
