package intake

import "sync"

// Bounds of what waits.
const (
	MaxWaiting      = 16       // messages of one edge
	MaxWaitingBytes = 64 << 20 // bytes of all edges
	groupMessages   = 512      // messages of one commit
	groupBytes      = 4 << 20  // bytes of one commit
	fullCredit      = 1024     // leaves
	lowCredit       = 128      // leaves, while the queue is more than half full
	failingCredit   = 1        // leaves, while the store refuses: one edge's next leaf shows that it is well again
)

// queue keeps what waits, a short line for each edge. Edges take turns, so that a slow or flooding one holds up nobody
// else; what does not fit is dropped, since every edge sends again what was not receipted.
type queue struct {
	mu      sync.Mutex
	lines   map[string][][]byte
	turns   []string // edges with waiting messages, next first
	bytes   int
	arrived chan struct{}
}

type waiting struct {
	edge    string
	payload []byte
}

func newQueue() *queue {
	return &queue{lines: map[string][][]byte{}, arrived: make(chan struct{}, 1)}
}

func (q *queue) offer(edge string, payload []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.lines[edge]
	if len(line) >= MaxWaiting || q.bytes+len(payload) > MaxWaitingBytes {
		return false
	}
	if len(line) == 0 {
		q.turns = append(q.turns, edge)
	}
	q.lines[edge] = append(line, payload)
	q.bytes += len(payload)
	select {
	case q.arrived <- struct{}{}:
	default:
	}
	return true
}

// take drains up to one group, one message of each edge in turn. Messages of one edge keep their order.
func (q *queue) take() []waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []waiting
	for size := 0; len(q.turns) > 0 && len(out) < groupMessages && size < groupBytes; {
		edge := q.turns[0]
		line := q.lines[edge]
		out = append(out, waiting{edge, line[0]})
		size += len(line[0])
		q.turns = q.turns[1:]
		if line = line[1:]; len(line) == 0 {
			delete(q.lines, edge)
		} else {
			q.lines[edge] = line
			q.turns = append(q.turns, edge)
		}
	}
	for i := range out {
		q.bytes -= len(out[i].payload)
	}
	if len(q.turns) > 0 {
		select {
		case q.arrived <- struct{}{}:
		default:
		}
	}
	return out
}

// credit tells edges how far they may run ahead.
func (q *queue) credit(failing bool) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case failing:
		return failingCredit
	case q.bytes > MaxWaitingBytes/2:
		return lowCredit
	}
	return fullCredit
}
