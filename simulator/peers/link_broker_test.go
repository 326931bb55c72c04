// Package peers_test puts the two ends of a connection together that may not know each other: the edge's link and the
// hub's broker, over mutual TLS on the loopback address, through a proxy that can be cut or go deaf.
package peers_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"kith/edge/link"
	"kith/hub/broker"
	"kith/internal/pki"
)

// pair is a broker, and what is needed to make edges for it.
type pair struct {
	dir    string
	keys   *pki.Hub
	broker *broker.Broker
}

func newPair(t testing.TB, l broker.Limits) *pair {
	t.Helper()
	p := &pair{dir: t.TempDir()}
	keys := filepath.Join(p.dir, "keys")
	if err := pki.Create(pki.New{Dir: keys, Network: "lindens", Names: []string{"127.0.0.1"}, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	var err error
	if p.keys, err = pki.OpenHub(keys); err != nil {
		t.Fatal(err)
	}
	p.open(t, "", l)
	return p
}

func (p *pair) open(t testing.TB, listen string, l broker.Limits) {
	t.Helper()
	b, err := broker.Open(context.Background(), broker.Options{Listen: listen, TLS: p.keys.ServerTLS(nil), Dir: filepath.Join(p.dir, "scratch"),
		Admitted: func(string, *x509.Certificate) bool { return true }, Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	p.broker = b
}

// edge starts a link that reaches the broker at addr.
func (p *pair) edge(t testing.TB, id, addr string) *link.Link {
	t.Helper()
	dir := filepath.Join(p.dir, id)
	if _, err := p.keys.EdgeBundle(dir, "lisbon", id, time.Now()); err != nil {
		t.Fatal(err)
	}
	e, err := pki.OpenEdge(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := link.New(link.Options{Broker: "ssl://" + addr, Edge: id, TLS: e.ClientTLS("127.0.0.1", nil), KeepAlive: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

func up(t testing.TB, l *link.Link, sessions uint64, within time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(2 * time.Millisecond) {
		if s := l.Status(); s.Up && s.Sessions >= sessions {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no session %d within %v: %+v", sessions, within, l.Status())
		}
	}
}

func send(t testing.TB, l *link.Link, payload []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := l.Send(ctx, payload); err != nil {
		t.Fatal(err)
	}
}

func take[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came in 5 s")
		panic("unreachable")
	}
}

// echo has the broker answer every message with itself.
func (p *pair) echo(t testing.TB) {
	b, stop := p.broker, make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case m := <-b.Messages():
				b.Send(m.Edge, m.Payload)
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() { close(stop); done.Wait() })
}

func TestEveryMessageArrivesInOrderAtAThousandASecond(t *testing.T) {
	t.Parallel()
	const n, pace = 2000, time.Millisecond
	p := newPair(t, broker.Limits{MessageRate: 5000})
	l := p.edge(t, "front", p.broker.Addr().String())
	up(t, l, 1, 60*time.Second)
	go func() {
		start := time.Now()
		for i := range n {
			time.Sleep(time.Until(start.Add(time.Duration(i) * pace)))
			l.Send(context.Background(), binary.BigEndian.AppendUint64(nil, uint64(i)))
		}
	}()
	start := time.Now()
	for i := range uint64(n) {
		m := take(t, p.broker.Messages())
		if got := binary.BigEndian.Uint64(m.Payload); m.Edge != "front" || got != i {
			t.Fatalf("message %d from %s came as number %d", got, m.Edge, i)
		}
	}
	if d := time.Since(start); d > 10*n*pace {
		t.Errorf("%d messages took %v", n, d)
	}
}

func TestEverySizeUpToTheLimitPassesBothWays(t *testing.T) {
	t.Parallel()
	p := newPair(t, broker.Limits{ByteRate: 64 << 20})
	l := p.edge(t, "front", p.broker.Addr().String())
	up(t, l, 1, 60*time.Second)
	for _, n := range []int{0, 1, 127, 128, 4095, 16383, 16384, 65535, 65536, link.MaxMessage - 1, link.MaxMessage} {
		payload := bytes.Repeat([]byte{byte(n)}, n)
		send(t, l, payload)
		if m := take(t, p.broker.Messages()); !bytes.Equal(m.Payload, payload) {
			t.Errorf("%d bytes up came as %d", n, len(m.Payload))
		}
		if err := p.broker.Send("front", payload); err != nil {
			t.Fatal(err)
		}
		if got := take(t, l.Received()); !bytes.Equal(got, payload) {
			t.Errorf("%d bytes down came as %d", n, len(got))
		}
	}
	if s := l.Status(); s.Sessions != 1 {
		t.Errorf("%+v", s)
	}
}

func TestBrokerRestartIsSurvived(t *testing.T) {
	t.Parallel()
	p := newPair(t, broker.Limits{})
	addr := p.broker.Addr().String()
	edges := []*link.Link{p.edge(t, "front", addr), p.edge(t, "back", addr)}
	for _, l := range edges {
		up(t, l, 1, 60*time.Second)
	}
	p.broker.Close()
	p.open(t, addr, broker.Limits{})
	for _, l := range edges {
		up(t, l, 2, 60*time.Second)
		send(t, l, []byte("back again"))
		take(t, p.broker.Messages())
	}
}

func TestCutEdgeComesBackOnlyByItself(t *testing.T) {
	t.Parallel()
	p := newPair(t, broker.Limits{})
	l := p.edge(t, "front", p.broker.Addr().String())
	up(t, l, 1, 60*time.Second)
	p.broker.Cut("front", "test")
	up(t, l, 2, 60*time.Second)
}

// proxy stands between link and broker.
type proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	conns []net.Conn
	deaf  bool // swallows everything, both ways, and keeps the connections open
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &proxy{listener: in, target: target}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			a, err := in.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", x.target)
			if err != nil {
				a.Close()
				continue
			}
			x.mu.Lock()
			x.conns = append(x.conns, a, b)
			x.mu.Unlock()
			running.Go(func() { x.carry(a, b) })
			running.Go(func() { x.carry(b, a) })
		}
	})
	t.Cleanup(func() { in.Close(); x.cut(); running.Wait() })
	return x
}

func (x *proxy) carry(from, to net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		x.mu.Lock()
		deaf := x.deaf
		x.mu.Unlock()
		if err != nil {
			if !deaf {
				to.Close()
			}
			return
		}
		if !deaf {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

func (x *proxy) cut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.conns {
		c.Close()
	}
	x.conns = nil
}

func (x *proxy) setDeaf(deaf bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.deaf = deaf
}

func TestCutLineIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t, broker.Limits{})
	x := newProxy(t, p.broker.Addr().String())
	l := p.edge(t, "front", x.listener.Addr().String())
	for i := range uint64(3) {
		up(t, l, i+1, 60*time.Second)
		send(t, l, fmt.Append(nil, i))
		if m := take(t, p.broker.Messages()); string(m.Payload) != fmt.Sprint(i) {
			t.Errorf("got %q", m.Payload)
		}
		if i < 2 {
			x.cut()
		}
	}
}

func TestHalfOpenLineIsNoticedByBothEnds(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 15 s of real silence")
	}
	p := newPair(t, broker.Limits{})
	x := newProxy(t, p.broker.Addr().String())
	l := p.edge(t, "front", x.listener.Addr().String())
	up(t, l, 1, 60*time.Second)
	x.setDeaf(true)
	start := time.Now()
	for deadline := start.Add(30 * time.Second); len(p.broker.Connected()) != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the broker still believes in the edge after 30 s; its keep-alive is 2 s")
		}
	}
	for deadline := start.Add(60 * time.Second); l.Status().Up; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the link still believes in the hub after 60 s")
		}
	}
	x.setDeaf(false)
	x.cut()
	up(t, l, 2, 60*time.Second)
	send(t, l, []byte("again"))
	take(t, p.broker.Messages())
}

func TestSecondDeviceWithTheSameKeyIsSeen(t *testing.T) {
	t.Parallel()
	p := newPair(t, broker.Limits{})
	addr := p.broker.Addr().String()
	l := p.edge(t, "front", addr)
	up(t, l, 1, 60*time.Second)
	e, err := pki.OpenEdge(filepath.Join(p.dir, "front"))
	if err != nil {
		t.Fatal(err)
	}
	clone, err := link.New(link.Options{Broker: addr, Edge: "front", TLS: e.ClientTLS("127.0.0.1", nil)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); clone.Run(ctx) }()
	defer func() { cancel(); <-done }()
	seen := 0
	for deadline := time.After(60 * time.Second); seen < 2; {
		select {
		case e := <-p.broker.Events():
			if e.Kind == broker.Duplicate && e.Edge == "front" {
				seen++
			}
		case <-deadline:
			t.Fatalf("%d duplicates seen", seen)
		}
	}
}

func quantiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-us")
}

// BenchmarkEcho is the way from Send to Received over the hub's Messages and Send: what a receipt costs in transport.
func BenchmarkEcho(b *testing.B) {
	p := newPair(b, broker.Limits{MessageRate: 1_000_000, ByteRate: 1 << 30})
	p.echo(b)
	l := p.edge(b, "front", p.broker.Addr().String())
	up(b, l, 1, 60*time.Second)
	payload := make([]byte, 400)
	took := make([]time.Duration, 0, 1<<16)
	for b.Loop() {
		start := time.Now()
		send(b, l, payload)
		take(b, l.Received())
		took = append(took, time.Since(start))
	}
	quantiles(b, took)
}

// BenchmarkEchoAtAThousandASecond is the same at the pace that the promise names.
func BenchmarkEchoAtAThousandASecond(b *testing.B) {
	p := newPair(b, broker.Limits{MessageRate: 1_000_000, ByteRate: 1 << 30})
	p.echo(b)
	l := p.edge(b, "front", p.broker.Addr().String())
	up(b, l, 1, 60*time.Second)
	took := make([]time.Duration, 0, 1<<16)
	start := time.Now()
	for b.Loop() {
		due := start.Add(time.Duration(len(took)) * time.Millisecond)
		time.Sleep(time.Until(due))
		began := time.Now()
		send(b, l, make([]byte, 400))
		take(b, l.Received())
		took = append(took, time.Since(began))
	}
	quantiles(b, took)
}

// BenchmarkManyEdges is the raw rate of the transport: many edges, each sending one message after the other.
func BenchmarkManyEdges(b *testing.B) {
	for _, c := range []struct{ edges, size int }{{1, 200}, {20, 200}, {20, 40 << 10}} {
		b.Run(fmt.Sprintf("%dx%d", c.edges, c.size), func(b *testing.B) {
			p := newPair(b, broker.Limits{MessageRate: 1_000_000, ByteRate: 1 << 30, HalfOpen: 100, ConnectRate: 1000})
			links := make([]*link.Link, c.edges)
			for i := range links {
				links[i] = p.edge(b, fmt.Sprintf("e%d", i), p.broker.Addr().String())
			}
			for _, l := range links {
				up(b, l, 1, 60*time.Second)
			}
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			b.ResetTimer()
			var senders sync.WaitGroup
			for i, l := range links {
				n := b.N / c.edges
				if i < b.N%c.edges {
					n++
				}
				payload := make([]byte, c.size)
				senders.Go(func() {
					for range n {
						if l.Send(context.Background(), payload) != nil {
							return
						}
					}
				})
			}
			for range b.N {
				take(b, p.broker.Messages())
			}
			senders.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkPlainTLS is the reference: the same bytes over one bare TLS connection of the same keys, echoed.
func BenchmarkPlainTLS(b *testing.B) {
	client, server := tlsPair(b)
	go io.Copy(server, server)
	payload := make([]byte, 400)
	took := make([]time.Duration, 0, 1<<16)
	for b.Loop() {
		start := time.Now()
		if _, err := client.Write(payload); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(client, payload); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	quantiles(b, took)
}

func tlsPair(b *testing.B) (client, server net.Conn) {
	b.Helper()
	p := newPair(b, broker.Limits{})
	if _, err := p.keys.EdgeBundle(filepath.Join(p.dir, "x"), "lisbon", "x", time.Now()); err != nil {
		b.Fatal(err)
	}
	e, err := pki.OpenEdge(filepath.Join(p.dir, "x"))
	if err != nil {
		b.Fatal(err)
	}
	in, err := tls.Listen("tcp", "127.0.0.1:0", p.keys.ServerTLS(nil))
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	got := make(chan net.Conn, 1)
	go func() {
		conn, err := in.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
		}
		if err != nil {
			b.Error(err)
		}
		got <- conn
	}()
	if client, err = tls.Dial("tcp", in.Addr().String(), e.ClientTLS("127.0.0.1", nil)); err != nil {
		b.Fatal(err)
	}
	server = <-got
	b.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}
