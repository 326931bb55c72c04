package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"kith/internal/event"
	"kith/internal/mqtt"
)

const (
	// maxConnect is the size, in bytes, of the only packet a peer may send before it is a session.
	maxConnect = 512
	// acceptPause is how long accepting rests after an error, such as no more file descriptors.
	acceptPause = 100 * time.Millisecond
	// refuseTime bounds how long a refusal may take to be written.
	refuseTime = time.Second
)

// accept lets connections onto the porch.
func (b *Broker) accept() {
	for {
		conn, err := b.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			b.log.Warn("accepting edge connections fails", "err", err)
			select {
			case <-time.After(acceptPause):
				continue
			case <-b.done:
				return
			}
		}
		if why := b.porch.enter(conn, time.Now()); why != "" {
			// A flood must cost as little as can be: no event, no handshake, no goroutine.
			b.counts.refused.Add(1)
			conn.Close()
			continue
		}
		b.running.Go(func() { b.receive(conn) })
	}
}

// receive brings one connection from the porch to its session, and stays with it to the end.
func (b *Broker) receive(conn net.Conn) {
	remote := conn.RemoteAddr().String()
	s, edge, err := b.admit(conn)
	b.porch.leave(conn, time.Now())
	if err != nil {
		conn.Close()
		b.refuse(edge, remote, err)
		return
	}
	b.counts.accepted.Add(1)
	s.run()
	b.remove(s)
	if s.subscribed.Load() {
		b.tell(Event{Kind: EdgeDown, Edge: edge, Remote: remote, Why: s.why})
	}
}

func (b *Broker) refuse(edge, remote string, err error) {
	b.counts.refused.Add(1)
	b.tell(Event{Kind: Refused, Edge: edge, Remote: remote, Why: err.Error()})
}

// admit does everything that is due before a connection may speak for an edge, within Limits.ConnectTime.
func (b *Broker) admit(raw net.Conn) (*session, string, error) {
	deadline := time.Now().Add(b.limits.ConnectTime)
	if err := raw.SetDeadline(deadline); err != nil {
		return nil, "", err
	}
	conn := tls.Server(raw, b.tls)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, "", fmt.Errorf("tls: %w", err)
	}
	cert, edge, err := whose(conn.ConnectionState())
	if err != nil {
		return nil, "", err
	}
	if !b.admitted(edge, cert) {
		deny(conn, mqtt.NotAuthorized)
		return nil, edge, errors.New("edge is not admitted")
	}
	in := mqtt.NewReader(conn, maxConnect)
	keep, err := b.readConnect(conn, in, edge)
	if err != nil {
		return nil, edge, err
	}
	s := newSession(b, edge, conn, in)
	s.idle = keep + keep/2 // section 3.1.2.10
	if err := s.join(); err != nil {
		deny(conn, mqtt.ServerUnavailable)
		return nil, edge, err
	}
	if err := b.place(s, cert); err != nil {
		s.inner.Close()
		deny(conn, mqtt.NotAuthorized)
		return nil, edge, err
	}
	return s, edge, conn.SetDeadline(time.Time{})
}

// whose reads the edge id from a certificate that the handshake has verified.
func whose(state tls.ConnectionState) (*x509.Certificate, string, error) {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return nil, "", errors.New("no verified certificate")
	}
	cert := state.PeerCertificates[0]
	edge := cert.Subject.CommonName
	// Dots, slashes, wildcards and blanks would mean something to the router.
	if !event.IsID(edge) {
		return nil, "", errors.New("the certificate's common name is not an edge id")
	}
	return cert, edge, nil
}

// readConnect reads the CONNECT and holds it to what an edge of ours sends.
func (b *Broker) readConnect(conn net.Conn, in *mqtt.Reader, edge string) (keep time.Duration, err error) {
	p, err := in.Next()
	if err != nil {
		return 0, fmt.Errorf("waiting for connect: %w", err)
	}
	if p.Type != mqtt.CONNECT {
		return 0, fmt.Errorf("first packet has type %d, not connect", p.Type)
	}
	c, err := mqtt.ParseConnect(p.Body)
	if err != nil {
		return 0, err
	}
	keep = time.Duration(c.KeepAlive) * time.Second
	switch {
	case c.Level != mqtt.Level:
		deny(conn, mqtt.BadLevel)
		return 0, fmt.Errorf("protocol level %d, only 3.1.1 is spoken here", c.Level)
	case c.ClientID != edge:
		deny(conn, mqtt.IdentifierRejected)
		return 0, errors.New("client id is not the edge id of the certificate")
	case c.Will || !c.Clean:
		deny(conn, mqtt.NotAuthorized)
		return 0, errors.New("a will or a kept session was asked for: nothing is kept here")
	case keep == 0 || keep > b.limits.KeepAlive:
		deny(conn, mqtt.NotAuthorized)
		return 0, fmt.Errorf("keep-alive of %v: want one of at most %v, else a dead session would stay", keep, b.limits.KeepAlive)
	}
	return keep, nil
}

// deny answers a CONNECT with a refusal, as a courtesy.
func deny(conn net.Conn, code byte) {
	if conn.SetWriteDeadline(time.Now().Add(refuseTime)) == nil {
		conn.Write(mqtt.AppendConnAck(nil, code))
	}
}

// place makes s the session of its edge. A session that was there is ended and reported: an edge that was switched off
// and on must get in at once, but two devices with one key must not go unseen.
func (b *Broker) place(s *session, cert *x509.Certificate) error {
	b.mu.Lock()
	old := b.sessions[s.edge]
	if old == nil && len(b.sessions) >= b.limits.Sessions {
		b.mu.Unlock()
		return fmt.Errorf("%d edges are connected: no more sessions", b.limits.Sessions)
	}
	b.sessions[s.edge] = s
	b.mu.Unlock()
	if old != nil {
		b.counts.duplicates.Add(1)
		b.tell(Event{Kind: Duplicate, Edge: s.edge, Remote: s.remote, Other: old.remote, Silent: old.silent(),
			Why: "a second session with the same certificate name"})
		old.end("replaced by a newer session")
	}
	// Asked again, now that Cut would find the session: a retirement in between is not missed. The same for Close.
	select {
	case <-b.done:
	default:
		if b.admitted(s.edge, cert) {
			return nil
		}
	}
	b.remove(s)
	return errors.New("edge is not admitted")
}

func (b *Broker) remove(s *session) {
	b.mu.Lock()
	if b.sessions[s.edge] == s {
		delete(b.sessions, s.edge)
	}
	b.mu.Unlock()
}

// innerID is the client id towards the router: never used twice, so that a returning edge does not have to wait until
// the router has noticed the end of its last session.
func (b *Broker) innerID(edge string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	return edge + "/" + strconv.FormatUint(b.last, 10)
}
