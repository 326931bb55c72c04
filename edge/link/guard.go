package link

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"kith/internal/mqtt"
)

// guard stands between the connection and paho. paho v1.5.1 allocates as many bytes as a peer declares in five, panics
// on a SUBACK with more codes than were asked for, does not notice a connection that somebody else closed, and sets no
// deadline of its own on most writes. The guard reads whole packets under its own limits and deadlines, lets through
// only the five kinds that our hub sends, and tells the session about the first error of the connection.
type guard struct {
	net.Conn
	in   *mqtt.Reader
	rest []byte // of the packet being handed over
	down string // the only topic a message may come on
	idle time.Duration
	by   time.Time // until the CONNACK has come: when it must have

	once   sync.Once
	failed chan struct{}
	err    error // why; written once, before failed is closed
}

var errNotOurs = errors.New("packet that the hub never sends")

func newGuard(conn net.Conn, down string, idle time.Duration) *guard {
	return &guard{Conn: conn, in: mqtt.NewReader(conn, MaxMessage+mqtt.Overhead), down: down, idle: idle,
		by: time.Now().Add(connectTime), failed: make(chan struct{})}
}

// fail records the first error and closes the connection. It returns that first error, so that paho reports it too.
func (g *guard) fail(err error) error {
	g.once.Do(func() {
		g.err = err
		close(g.failed)
		g.closeConn()
	})
	<-g.failed
	return g.err
}

// closeConn closes what is below TLS: closing TLS would first write an alert to a peer that may not read.
func (g *guard) closeConn() {
	if t, ok := g.Conn.(interface{ NetConn() net.Conn }); ok {
		t.NetConn().Close()
		return
	}
	g.Conn.Close()
}

// Read hands over the bytes of checked packets.
func (g *guard) Read(p []byte) (int, error) {
	if len(g.rest) == 0 {
		if err := g.next(); err != nil {
			return 0, g.fail(err)
		}
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

func (g *guard) next() error {
	first := !g.by.IsZero()
	wait := g.by
	if !first {
		wait = time.Now().Add(g.idle)
	}
	if err := g.Conn.SetReadDeadline(wait); err != nil {
		return err
	}
	if err := g.in.Wait(); err != nil {
		return fmt.Errorf("waiting for the hub: %w", err)
	}
	if !first {
		if err := g.Conn.SetReadDeadline(time.Now().Add(packetTime)); err != nil {
			return err
		}
	}
	packet, err := g.in.Next()
	if err != nil {
		return fmt.Errorf("reading from the hub: %w", err)
	}
	if first != (packet.Type == mqtt.CONNACK) {
		return fmt.Errorf("%w: type %d", errNotOurs, packet.Type)
	}
	if err := g.check(packet); err != nil {
		return err
	}
	g.by = time.Time{}
	g.rest = packet.Raw
	return nil
}

func (g *guard) check(p mqtt.Packet) error {
	size := -1
	switch p.Type {
	case mqtt.CONNACK:
		size = 2
	case mqtt.SUBACK:
		size = 3 // one filter was asked for
	case mqtt.PINGRESP:
		size = 0
	case mqtt.PUBLISH:
		m, err := mqtt.ParsePublish(p)
		if err != nil {
			return err
		}
		if m.Topic != g.down || m.QoS != 0 || m.Retain {
			return fmt.Errorf("%w: a message that was not subscribed to", errNotOurs)
		}
		return nil
	}
	if len(p.Body) != size {
		return fmt.Errorf("%w: type %d with %d bytes", errNotOurs, p.Type, len(p.Body))
	}
	return nil
}

// Write writes under the guard's deadline.
func (g *guard) Write(p []byte) (int, error) {
	if err := g.Conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return 0, g.fail(err)
	}
	n, err := g.Conn.Write(p)
	if err != nil {
		return n, g.fail(fmt.Errorf("writing to the hub: %w", err))
	}
	return n, nil
}

// Close is called by paho when it gives up.
func (g *guard) Close() error {
	g.fail(net.ErrClosed)
	return nil
}

// Deadlines are the guard's alone; paho would clear them.

func (g *guard) SetDeadline(time.Time) error      { return nil }
func (g *guard) SetReadDeadline(time.Time) error  { return nil }
func (g *guard) SetWriteDeadline(time.Time) error { return nil }
