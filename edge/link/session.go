package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"kith/internal/mqtt"
	"kith/internal/wire"
)

// session is one paho client, used for one connection and never again: paho's own reconnecting keeps state that we do
// not want and paces itself in step with everybody else's.
type session struct {
	link    *Link
	client  paho.Client
	guard   *guard
	lost    chan struct{} // paho has given the connection up
	whyLost error         // written before lost is closed
	out     chan outgoing
}

type outgoing struct {
	payload []byte
	result  chan error // capacity 1: nobody need be waiting
}

// open dials, logs in and subscribes.
func (l *Link) open(ctx context.Context) (*session, error) {
	conn, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{link: l, lost: make(chan struct{}), out: make(chan outgoing)}
	s.guard = newGuard(conn, wire.DownTopic(l.o.Edge), l.o.KeepAlive+pingTime+slack)
	s.client = paho.NewClient(s.options())
	// A cancelled context breaks whatever paho waits for.
	stop := context.AfterFunc(ctx, func() { s.guard.fail(context.Cause(ctx)) })
	defer stop()
	if err := s.login(); err != nil {
		s.guard.fail(err)
		s.client.Disconnect(milliseconds(leaveTime))
		return nil, err
	}
	return s, nil
}

func (l *Link) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := l.o.Dial(ctx, "tcp", l.address)
	if err != nil {
		return nil, fmt.Errorf("reaching the hub: %w", err)
	}
	if l.o.TLS == nil {
		return conn, nil
	}
	secure := tls.Client(conn, l.o.TLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("tls with the hub: %w", err)
	}
	return secure, nil
}

func (s *session) options() *paho.ClientOptions {
	o := paho.NewClientOptions()
	o.Servers = []*url.URL{{Scheme: "tcp", Host: s.link.address}}
	o.SetClientID(s.link.o.Edge)
	o.SetProtocolVersion(mqtt.Level) // stated, else paho tries 3.1 after every refusal
	o.SetCleanSession(true)
	o.SetStore(paho.NewMemoryStore())
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetKeepAlive(s.link.o.KeepAlive)
	o.SetPingTimeout(pingTime)
	o.SetConnectTimeout(connectTime)
	o.SetWriteTimeout(handTime) // how long Publish may block; the guard has its own deadlines
	o.SetOrderMatters(true)
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { s.link.arrived(m.Payload()) })
	o.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return s.guard, nil })
	o.SetConnectionLostHandler(func(_ paho.Client, err error) {
		s.whyLost = err
		close(s.lost)
	})
	return o
}

func (s *session) login() error {
	if err := s.wait(s.client.Connect()); err != nil {
		return fmt.Errorf("logging in at the hub: %w", err)
	}
	topic := wire.DownTopic(s.link.o.Edge)
	// Without a handler of its own: the default one serves, also for a message that overtakes the SUBACK.
	token := s.client.Subscribe(topic, 0, nil)
	if err := s.wait(token); err != nil {
		return fmt.Errorf("subscribing at the hub: %w", err)
	}
	if t, ok := token.(*paho.SubscribeToken); !ok || t.Result()[topic] != 0 {
		return errors.New("subscribing at the hub: refused")
	}
	return nil
}

// wait waits for a token, a dead connection or connectTime.
func (s *session) wait(t paho.Token) error {
	timer := time.NewTimer(connectTime)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-s.guard.failed:
		return s.guard.err
	case <-timer.C:
		return errors.New("no answer in time")
	}
}

// run stays until the session ends, and says why it did.
func (s *session) run(ctx context.Context) error {
	var pump sync.WaitGroup
	pump.Go(s.pump)
	var err error
	select {
	case <-ctx.Done():
		err = context.Cause(ctx)
		s.client.Disconnect(milliseconds(leaveTime)) // a proper goodbye
	case <-s.lost:
		err = s.whyLost
	case <-s.guard.failed:
		err = s.guard.err
	}
	s.guard.fail(err)
	s.client.Disconnect(milliseconds(leaveTime)) // does nothing the second time
	pump.Wait()
	return err
}

// pump hands messages to paho, which may block while its connection dies, so that callers of send need not wait for it.
func (s *session) pump() {
	for {
		select {
		case o := <-s.out:
			o.result <- s.publish(o.payload)
		case <-s.guard.failed:
			return
		}
	}
}

func (s *session) publish(payload []byte) error {
	t := s.client.Publish(wire.UpTopic(s.link.o.Edge), 0, false, payload)
	select {
	case <-t.Done():
		return t.Error()
	case <-s.guard.failed:
		return ErrDown
	}
}

func (s *session) send(ctx context.Context, payload []byte) error {
	o := outgoing{payload: payload, result: make(chan error, 1)}
	select {
	case s.out <- o:
	case <-s.guard.failed:
		return ErrDown
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.result:
		return err
	case <-s.guard.failed:
		return ErrDown
	case <-ctx.Done():
		return ctx.Err()
	}
}

func milliseconds(d time.Duration) uint { return uint(d / time.Millisecond) }
