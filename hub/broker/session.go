package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"kith/internal/mqtt"
	"kith/internal/wire"
)

// session is one admitted connection. Two goroutines own it: up moves packets from the edge to the router, down the
// other way; each alone writes to its side. end may be called by anyone and stops both.
type session struct {
	broker *Broker
	edge   string
	remote string
	conn   *tls.Conn // the edge
	in     *mqtt.Reader
	inner  net.Conn // the router
	idle   time.Duration
	share  *share

	subscribed atomic.Bool  // the router has granted the one subscription
	down       atomic.Int64 // payload bytes given to the router for this edge and not yet written to it
	heard      atomic.Int64 // Unix nanoseconds of the last packet from the edge

	ended sync.Once
	done  chan struct{}
	why   string // why it ended; written once, before done is closed
}

func newSession(b *Broker, edge string, conn *tls.Conn, in *mqtt.Reader) *session {
	s := &session{broker: b, edge: edge, remote: conn.RemoteAddr().String(), conn: conn, in: in,
		share: newShare(b.limits, b.up), done: make(chan struct{})}
	s.heard.Store(time.Now().UnixNano())
	return s
}

// silent is how long nothing has come from the edge.
func (s *session) silent() time.Duration {
	return time.Duration(time.Now().UnixNano() - s.heard.Load())
}

// end stops the session. The first reason stands.
func (s *session) end(why string) {
	s.ended.Do(func() {
		s.why = why
		close(s.done)
		// The bare connection, not the TLS one: that would wait to write an alert to a peer that does not read.
		s.conn.NetConn().Close()
		s.inner.Close()
		s.share.end()
	})
}

// join logs in at the router as the edge and has the answer passed on.
func (s *session) join() error {
	inner, err := s.broker.router.dial(s.edge)
	if err != nil {
		return err
	}
	s.inner = inner
	err = s.login()
	s.broker.router.forget(inner)
	if err != nil {
		inner.Close()
		return fmt.Errorf("logging in at the router: %w", err)
	}
	return nil
}

func (s *session) login() error {
	if err := s.inner.SetDeadline(time.Now().Add(innerDialTime)); err != nil {
		return err
	}
	// No keep-alive inside: the porch watches the edge's, and ends both sides.
	hello := mqtt.AppendConnect(nil, s.broker.innerID(s.edge), 0)
	if _, err := s.inner.Write(hello); err != nil {
		return err
	}
	// Exactly the four bytes of a CONNACK: what follows belongs to the reader of down.
	var ack [4]byte
	if _, err := io.ReadFull(s.inner, ack[:]); err != nil {
		return err
	}
	if ack != [4]byte{mqtt.CONNACK << 4, 2, 0, mqtt.Accepted} {
		return fmt.Errorf("refused with code %d", ack[3])
	}
	return s.inner.SetDeadline(time.Time{})
}

// run moves packets until either side ends.
func (s *session) run() {
	s.in.SetMax(s.broker.limits.Message + mqtt.Overhead)
	if err := s.write(mqtt.AppendConnAck(nil, mqtt.Accepted)); err != nil {
		s.end(err.Error())
	}
	var both sync.WaitGroup
	both.Go(func() { s.finish("router: ", s.downward()) })
	s.finish("", s.upward())
	both.Wait()
}

// errRefused marks what an edge of ours never sends.
var errRefused = errors.New("refused")

func (s *session) finish(side string, err error) {
	if errors.Is(err, errRefused) || errors.Is(err, mqtt.ErrTooLong) || errors.Is(err, mqtt.ErrMalformed) {
		s.broker.refuse(s.edge, s.remote, err)
	}
	if err == nil {
		s.end("closed by the edge")
		return
	}
	s.end(side + err.Error())
}

// upward moves packets from the edge to the router, no faster than its rates and budgets allow. What waits, waits in the
// edge's own connection.
func (s *session) upward() error {
	l := s.broker.limits
	now := time.Now()
	messages := newBucket(l.MessageRate, 2*l.MessageRate, now)
	bytes := newBucket(l.ByteRate, max(2*l.ByteRate, l.Message), now)
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(s.idle)); err != nil {
			return err
		}
		if err := s.in.Wait(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("waiting for the edge: %w", err)
		}
		if err := s.conn.SetReadDeadline(time.Now().Add(l.PacketTime)); err != nil {
			return err
		}
		p, err := s.in.Next()
		if err != nil {
			return fmt.Errorf("reading from the edge: %w", err)
		}
		now := time.Now()
		s.heard.Store(now.UnixNano())
		if !s.pause(max(messages.take(1, now), bytes.take(len(p.Raw), now))) {
			return net.ErrClosed
		}
		if stop, err := s.pass(p); stop || err != nil {
			return err
		}
	}
}

func (s *session) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.done:
		return false
	}
}

// pass looks at one packet from the edge and lets it through, or ends the session: an edge runs our program, so anything
// that it does not send comes from somebody else or from a fault, and both should be seen.
func (s *session) pass(p mqtt.Packet) (stop bool, err error) {
	switch p.Type {
	case mqtt.PUBLISH:
		m, err := mqtt.ParsePublish(p)
		if err != nil {
			return false, err
		}
		if err := s.checkPublish(m); err != nil {
			return false, err
		}
		if !s.share.take(len(m.Payload), s.done) {
			return false, net.ErrClosed
		}
		return false, s.forward(p.Raw)
	case mqtt.SUBSCRIBE:
		f, err := mqtt.ParseSubscribe(p.Body)
		if err != nil {
			return false, err
		}
		if f.Filter != wire.DownTopic(s.edge) {
			return false, fmt.Errorf("%w: subscribe to a topic that is not the edge's own", errRefused)
		}
		// Quality of service 0, whatever was asked for: the answer says so. A higher one would cost a stored consumer.
		return false, s.forward(mqtt.AppendSubscribe(nil, f.ID, f.Filter))
	case mqtt.PINGREQ:
		if len(p.Body) != 0 {
			return false, fmt.Errorf("%w: ping with a body", mqtt.ErrMalformed)
		}
		return false, s.forward(p.Raw)
	case mqtt.DISCONNECT:
		return true, nil
	}
	return false, fmt.Errorf("%w: packet type %d", errRefused, p.Type)
}

func (s *session) checkPublish(m mqtt.Publish) error {
	switch {
	case m.Topic != wire.UpTopic(s.edge):
		return fmt.Errorf("%w: publish to a topic that is not the edge's own", errRefused)
	case m.Retain:
		return fmt.Errorf("%w: publish to be retained", errRefused)
	case m.QoS > 1:
		return fmt.Errorf("%w: publish at quality of service %d", errRefused, m.QoS)
	case len(m.Payload) > s.broker.limits.Message:
		return fmt.Errorf("%w: payload of %d bytes", mqtt.ErrTooLong, len(m.Payload))
	}
	return nil
}

func (s *session) forward(packet []byte) error {
	if err := s.inner.SetWriteDeadline(time.Now().Add(s.broker.limits.WriteTime)); err != nil {
		return err
	}
	if _, err := s.inner.Write(packet); err != nil {
		return fmt.Errorf("writing to the router: %w", err)
	}
	return nil
}

// downward moves packets from the router to the edge. An edge that does not read is cut after Limits.WriteTime, or as
// soon as Send finds too much on its way.
func (s *session) downward() error {
	out := mqtt.NewReader(s.inner, s.broker.limits.Message+mqtt.Overhead)
	for {
		p, err := out.Next()
		if err != nil {
			return err
		}
		size := 0
		switch p.Type {
		case mqtt.PUBLISH:
			m, err := mqtt.ParsePublish(p)
			if err != nil {
				return err
			}
			size = len(m.Payload)
		case mqtt.SUBACK:
			if len(p.Body) != 3 || p.Body[2] != 0 {
				return errors.New("the subscription was not granted")
			}
			// Before the edge reads it: it may speak, and be answered, the moment it does.
			if !s.subscribed.Swap(true) {
				s.broker.tell(Event{Kind: EdgeUp, Edge: s.edge, Remote: s.remote})
			}
		}
		if err := s.write(p.Raw); err != nil {
			return err
		}
		s.down.Add(int64(-size))
	}
}

func (s *session) write(packet []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.broker.limits.WriteTime)); err != nil {
		return err
	}
	if _, err := s.conn.Write(packet); err != nil {
		return fmt.Errorf("writing to the edge: %w", err)
	}
	return nil
}
