package board

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Limits of the link to a virtual board.
const (
	maxSocketPathBytes = 107                    // sun_path less its terminator, unix(7)
	dialTimeout        = 500 * time.Millisecond // a local listener answers at once or is not there
	writeTimeout       = 200 * time.Millisecond // a board that does not read for so long is down
	backoffFirst       = 20 * time.Millisecond
	backoffMax         = time.Second
)

// Socket is a board at the other end of a Unix socket (the simulator's virtual board, or a
// helper process that owns foreign hardware). It connects and reconnects by itself.
//
// While the link is down Set returns ErrDown, but remembers lights and buzzers and sends them
// when the link is back. A lock is different: whatever was asked before, a new link is told 0
// for every lock. A release answers one tap at one moment; by the time the link is back its pulse
// has run out, the person may be gone, and whoever can cut and mend the wire would otherwise
// choose when the door opens. Only a new decision may release.
type Socket struct {
	path string
	mail *mailbox
	quit chan struct{}
	done chan struct{}

	mu     sync.Mutex
	conn   net.Conn       // nil while down
	outs   map[string]int // last outputs asked for, at most MaxSignals; a lock is kept as 0
	why    error          // why the link is down
	closed bool
	buf    []byte // scratch for one line
}

var _ Board = (*Socket)(nil)

// OpenSocket starts the link to the virtual board that listens at path. The board need not be
// there yet.
func OpenSocket(path string) (*Socket, error) {
	if path == "" || len(path) > maxSocketPathBytes {
		return nil, fmt.Errorf("opening board socket: path of %d bytes, want 1 to %d", len(path), maxSocketPathBytes)
	}
	s := &Socket{
		path: path,
		mail: newMailbox(),
		quit: make(chan struct{}),
		done: make(chan struct{}),
		outs: make(map[string]int),
		why:  errors.New("not connected yet"),
	}
	go s.run()
	return s, nil
}

// Inputs implements Board.
func (s *Socket) Inputs() <-chan Change { return s.mail.out }

// Err is nil while the board is reachable, else says why it is not.
func (s *Socket) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrDown, s.why)
}

// Set implements Board.
func (s *Socket) Set(signal string, v int) error {
	if err := errors.Join(CheckSignal(signal), CheckValue(v)); err != nil {
		return fmt.Errorf("setting board output: %w", err)
	}
	if IsInput(signal) {
		return fmt.Errorf("setting board output %s: it is an input", signal)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("setting board output %s: %w", signal, ErrClosed)
	}
	if _, known := s.outs[signal]; !known && len(s.outs) >= MaxSignals {
		return fmt.Errorf("setting board output %s: the board already has %d outputs", signal, MaxSignals)
	}
	if IsLock(signal) {
		s.outs[signal] = 0
	} else {
		s.outs[signal] = v
	}
	if s.conn == nil {
		return fmt.Errorf("setting board output %s: %w: %w", signal, ErrDown, s.why)
	}
	if err := s.send(signal, v); err != nil {
		return fmt.Errorf("setting board output %s: %w: %w", signal, ErrDown, err)
	}
	return nil
}

// send writes one line; mu is held and conn is set. A failed write ends the link: part of the
// line may be out, so nothing after it could be understood.
func (s *Socket) send(signal string, v int) error {
	s.buf = AppendLine(s.buf[:0], Line{T: Now(), Out: signal, V: v})
	err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		_, err = s.conn.Write(s.buf)
	}
	if err != nil {
		s.drop(err)
	}
	return err
}

// drop forgets the link; mu is held.
func (s *Socket) drop(why error) {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
		s.why = why
	}
}

// Close tells every lock 0, ends the link and closes Inputs.
func (s *Socket) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for signal := range s.outs {
		if IsLock(signal) && s.conn != nil {
			// A failure here leaves the lock to the board, which relocks when the link ends.
			_ = s.send(signal, 0)
		}
	}
	s.drop(ErrClosed)
	s.mu.Unlock()
	close(s.quit)
	<-s.done
	s.mail.close()
	return nil
}

// run owns the link: dial, listen until it breaks, wait, again.
func (s *Socket) run() {
	defer close(s.done)
	levels := make(map[string]int) // last level reported per input, at most MaxSignals
	wait := backoffFirst
	for {
		start := time.Now()
		err := s.session(levels)
		if time.Since(start) > backoffMax {
			wait = backoffFirst // the link held: this is a new trouble
		}
		s.mu.Lock()
		s.drop(err)
		s.why = err
		s.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-s.quit:
			timer.Stop()
			return
		case <-timer.C:
		}
		wait = min(2*wait, backoffMax)
	}
}

// session is one life of the link.
func (s *Socket) session(levels map[string]int) error {
	conn, err := net.DialTimeout("unix", s.path, dialTimeout)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return errors.New("no board listens at the configured socket")
		}
		return fmt.Errorf("dialling board: %w", err)
	}
	if err := s.adopt(conn); err != nil {
		conn.Close()
		return err
	}
	lines := NewLineReader(conn)
	for {
		l, err := lines.Next()
		if err != nil {
			return fmt.Errorf("listening to board: %w", err)
		}
		if l.In == "" {
			continue // the board shows outputs to everyone who watches
		}
		if !IsInput(l.In) {
			return fmt.Errorf("listening to board: %q is not an input", l.In)
		}
		old, known := levels[l.In]
		if !known && len(levels) >= MaxSignals {
			return fmt.Errorf("listening to board: more than %d inputs", MaxSignals)
		}
		if known && old == l.V {
			continue
		}
		levels[l.In] = l.V
		s.mail.put(Change{Signal: l.In, Value: l.V, At: Now()})
	}
}

// adopt makes conn the link and brings the board to the last outputs, locks to 0 first.
func (s *Socket) adopt(conn net.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.conn = conn
	for _, locks := range []bool{true, false} {
		for signal, v := range s.outs {
			if IsLock(signal) != locks {
				continue
			}
			if err := s.send(signal, v); err != nil {
				return err
			}
		}
	}
	return nil
}
