package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/internal/mqtt"
	"kith/internal/pki"
	"kith/internal/wire"
)

// house is a network with keys on disk, made once for all tests: making keys is not what they are about.
type house struct {
	dir   string
	hub   *pki.Hub
	edges map[string]*pki.Edge
}

func newHouse(t testing.TB, edges ...string) *house {
	t.Helper()
	h := &house{dir: t.TempDir(), edges: map[string]*pki.Edge{}}
	keys := filepath.Join(h.dir, "keys")
	if err := pki.Create(pki.New{Dir: keys, Network: "lindens", Names: []string{"127.0.0.1"}, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.hub, err = pki.OpenHub(keys); err != nil {
		t.Fatal(err)
	}
	for _, e := range edges {
		h.add(t, e, time.Now())
	}
	return h
}

func (h *house) add(t testing.TB, edge string, made time.Time) {
	t.Helper()
	dir := filepath.Join(h.dir, edge)
	if _, err := h.hub.EdgeBundle(dir, "lisbon", edge, made); err != nil {
		t.Fatal(err)
	}
	e, err := pki.OpenEdge(dir)
	if err != nil {
		t.Fatal(err)
	}
	h.edges[edge] = e
}

// guests is who may come in; it can change while the broker runs.
type guests struct {
	mu  sync.Mutex
	out map[string]bool
}

func (g *guests) admitted(edge string, _ *x509.Certificate) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.out[edge]
}

func (g *guests) retire(edge string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.out == nil {
		g.out = map[string]bool{}
	}
	g.out[edge] = true
}

func open(t testing.TB, h *house, change func(*Options)) *Broker {
	t.Helper()
	o := Options{TLS: h.hub.ServerTLS(nil), Admitted: (&guests{}).admitted, Dir: t.TempDir()}
	if change != nil {
		change(&o)
	}
	b, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// peer is a bare MQTT client over TLS that can also say what no client says.
type peer struct {
	t    testing.TB
	conn net.Conn
	in   *mqtt.Reader
}

func dial(t testing.TB, b *Broker, cfg *tls.Config) (*peer, error) {
	t.Helper()
	raw, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(30 * time.Second))
	conn := tls.Client(raw, cfg)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	return &peer{t: t, conn: conn, in: mqtt.NewReader(conn, 1<<20)}, nil
}

func (p *peer) send(raw ...byte) *peer {
	p.conn.Write(raw)
	return p
}

// next reads one packet and copies it; an error means that the broker hung up.
func (p *peer) next() (mqtt.Packet, error) {
	q, err := p.in.Next()
	q.Body = slices.Clone(q.Body)
	return q, err
}

func (p *peer) want(kind byte) mqtt.Packet {
	p.t.Helper()
	q, err := p.next()
	if err != nil || q.Type != kind {
		p.t.Fatalf("got packet type %d, %v; want type %d", q.Type, err, kind)
	}
	return q
}

// gone demands that the broker ends the connection without letting anything but refusals through.
func (p *peer) gone() {
	p.t.Helper()
	for {
		q, err := p.next()
		if err != nil {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				p.t.Fatal("the connection is still open")
			}
			return
		}
		if q.Type != mqtt.CONNACK || q.Body[1] == mqtt.Accepted {
			p.t.Fatalf("got packet type %d", q.Type)
		}
	}
}

// join connects and subscribes as edge.
func join(t testing.TB, b *Broker, h *house, edge string) *peer {
	t.Helper()
	p := enter(t, b, h, edge)
	p.send(mqtt.AppendSubscribe(nil, 1, wire.DownTopic(edge))...)
	p.want(mqtt.SUBACK)
	return p
}

func enter(t testing.TB, b *Broker, h *house, edge string) *peer {
	t.Helper()
	p, err := dial(t, b, h.edges[edge].ClientTLS("127.0.0.1", nil))
	if err != nil {
		t.Fatal(err)
	}
	p.send(mqtt.AppendConnect(nil, edge, 60)...)
	if q := p.want(mqtt.CONNACK); q.Body[1] != mqtt.Accepted {
		t.Fatalf("connect refused with %d", q.Body[1])
	}
	return p
}

func receive(t testing.TB, b *Broker) Message {
	t.Helper()
	select {
	case m := <-b.Messages():
		return m
	case <-time.After(30 * time.Second):
		t.Fatal("no message in 5 s")
		return Message{}
	}
}

func await(t testing.TB, b *Broker, kind EventKind) Event {
	t.Helper()
	for {
		select {
		case e := <-b.Events():
			if e.Kind == kind {
				return e
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no %q event in 8 s", kind)
		}
	}
}

func quiet(t *testing.T, b *Broker) {
	t.Helper()
	select {
	case m := <-b.Messages():
		t.Fatalf("%d bytes came through from %s", len(m.Payload), m.Edge)
	case <-time.After(50 * time.Millisecond):
	}
}

func TestMessagesPassBothWays(t *testing.T) {
	h := newHouse(t, "front", "back")
	b := open(t, h, nil)
	front, back := join(t, b, h, "front"), join(t, b, h, "back")
	if got := b.Connected(); !slices.Equal(got, []string{"back", "front"}) {
		t.Fatalf("connected: %v", got)
	}
	front.send(mqtt.AppendPublish(nil, wire.UpTopic("front"), []byte("hello"))...)
	if m := receive(t, b); m.Edge != "front" || string(m.Payload) != "hello" {
		t.Errorf("got %q from %s", m.Payload, m.Edge)
	}
	for edge, p := range map[string]*peer{"front": front, "back": back} {
		if err := b.Send(edge, []byte("to "+edge)); err != nil {
			t.Fatal(err)
		}
		m, err := mqtt.ParsePublish(p.want(mqtt.PUBLISH))
		if err != nil || string(m.Payload) != "to "+edge || m.Topic != wire.DownTopic(edge) {
			t.Errorf("%s got %q on %s: %v", edge, m.Payload, m.Topic, err)
		}
	}
	largest := make([]byte, defaults.Message)
	front.send(mqtt.AppendPublish(nil, wire.UpTopic("front"), largest)...)
	if m := receive(t, b); len(m.Payload) != len(largest) {
		t.Errorf("largest message: %d bytes", len(m.Payload))
	}
	if err := b.Send("back", largest); err != nil {
		t.Error(err)
	}
	if q := back.want(mqtt.PUBLISH); len(q.Body) < len(largest) {
		t.Errorf("largest message down: %d bytes", len(q.Body))
	}
	if err := b.Send("nobody", nil); !errors.Is(err, ErrNotConnected) {
		t.Errorf("send to nobody: %v", err)
	}
	if err := b.Send("back", make([]byte, defaults.Message+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("send too much: %v", err)
	}
}

func TestQualityOneIsAcknowledgedAndDelivered(t *testing.T) {
	h := newHouse(t, "front")
	b := open(t, h, nil)
	p := join(t, b, h, "front")
	raw := mqtt.AppendPublish(nil, wire.UpTopic("front"), []byte("\x00\x07hello")) // packet id 7 before the payload
	raw[0] |= 1 << 1
	p.send(raw...)
	if q := p.want(mqtt.PUBACK); !slices.Equal(q.Body, []byte{0, 7}) {
		t.Errorf("puback % x", q.Body)
	}
	if m := receive(t, b); string(m.Payload) != "hello" {
		t.Errorf("got %q", m.Payload)
	}
}

func TestAnEdgeReachesOnlyItsOwnTopics(t *testing.T) {
	h := newHouse(t, "a", "b")
	b := open(t, h, nil)
	victim := join(t, b, h, "b")
	publish := func(topic string) []byte { return mqtt.AppendPublish(nil, topic, []byte("x")) }
	retained := publish(wire.UpTopic("a"))
	retained[0] |= 1
	emptyRetained := mqtt.AppendPublish(nil, wire.UpTopic("a"), nil)
	emptyRetained[0] |= 1
	twice := publish("\x00\x01") // not a topic of anyone
	twice[0] |= 2 << 1
	two := mqtt.AppendSubscribe(nil, 1, wire.DownTopic("a"))
	two = append(two, 0, 1, '#', 0)
	two[1] += 4
	for name, raw := range map[string][]byte{
		"publish as b":            publish(wire.UpTopic("b")),
		"publish to b":            publish(wire.DownTopic("b")),
		"publish to itself":       publish(wire.DownTopic("a")),
		"publish wildcard +":      publish("v1/+/up"),
		"publish wildcard #":      publish("#"),
		"publish nats wildcard":   publish("v1.*.up"),
		"publish with dots":       publish("v1.a.up"),
		"publish $SYS":            publish("$SYS/REQ/SERVER/PING"),
		"publish $JS":             publish("$JS/API/INFO"),
		"publish $MQTT":           publish("$MQTT/sub/x"),
		"publish retained":        retained,
		"clear retained":          emptyRetained,
		"quality two":             twice,
		"subscribe b":             mqtt.AppendSubscribe(nil, 1, wire.DownTopic("b")),
		"subscribe b up":          mqtt.AppendSubscribe(nil, 1, wire.UpTopic("b")),
		"subscribe own up":        mqtt.AppendSubscribe(nil, 1, wire.UpTopic("a")),
		"subscribe +":             mqtt.AppendSubscribe(nil, 1, "v1/+/down"),
		"subscribe #":             mqtt.AppendSubscribe(nil, 1, "#"),
		"subscribe own #":         mqtt.AppendSubscribe(nil, 1, "v1/a/#"),
		"subscribe $SYS":          mqtt.AppendSubscribe(nil, 1, "$SYS/#"),
		"subscribe $share":        mqtt.AppendSubscribe(nil, 1, "$share/g/v1/b/down"),
		"subscribe own and #":     two,
		"pubrel out of the blue":  {0x62, 2, 0, 1},
		"puback out of the blue":  {0x40, 2, 0, 1},
		"connect twice":           mqtt.AppendConnect(nil, "a", 60),
		"connack from a client":   mqtt.AppendConnAck(nil, 0),
		"reserved type 15":        {0xf0, 0},
		"reserved type 0":         {0x00, 0},
		"subscribe without flags": {0x80, 2, 0, 1},
		"topic with nul":          publish("v1/a\x00/up"),
		"topic not utf-8":         publish("v1/\xff/up"),
		"topic longer than all":   {0x30, 3, 0xff, 0xff, 'x'},
	} {
		t.Run(name, func(t *testing.T) {
			p := enter(t, b, h, "a")
			p.send(raw...)
			p.gone()
			if e := await(t, b, Refused); e.Edge != "a" {
				t.Errorf("refusal is laid at the door of %q", e.Edge)
			}
		})
	}
	quiet(t, b)
	if err := b.Send("b", []byte("still here")); err != nil {
		t.Fatal(err)
	}
	m, err := mqtt.ParsePublish(victim.want(mqtt.PUBLISH))
	if err != nil || string(m.Payload) != "still here" {
		t.Errorf("b got %q, %v", m.Payload, err)
	}
}

// The second wall: whatever came through the porch, the router knows each edge as a user with two rights.
func TestRouterItselfHoldsAnEdgeToItsRights(t *testing.T) {
	h := newHouse(t, "a", "b")
	b := open(t, h, nil)
	victim := join(t, b, h, "b")
	login := func(announced, client string) *peer {
		conn, err := b.router.dial(announced)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		p := &peer{t: t, conn: conn, in: mqtt.NewReader(conn, 1<<20)}
		p.send(mqtt.AppendConnect(nil, client, 60)...)
		return p
	}
	for _, filter := range []string{wire.DownTopic("b"), wire.UpTopic("b"), "#", "v1/+/down", "v1/a/#", "$SYS/#", "$JS/#", "$MQTT/#", "_INBOX/#"} {
		p := login("a", "a/test")
		p.want(mqtt.CONNACK)
		p.send(mqtt.AppendSubscribe(nil, 1, filter)...)
		if q := p.want(mqtt.SUBACK); q.Body[2] != mqtt.Refused {
			t.Errorf("subscribe %s granted with %#x", filter, q.Body[2])
		}
		p.conn.Close()
	}
	for _, topic := range []string{wire.UpTopic("b"), wire.DownTopic("b"), wire.DownTopic("a"), "$SYS/REQ/SERVER/PING", "$JS/API/INFO"} {
		p := login("a", "a/test")
		p.want(mqtt.CONNACK)
		p.send(mqtt.AppendPublish(nil, topic, []byte("x"))...)
		p.send(0xc0, 0).want(mqtt.PINGRESP) // the router has dealt with the publish
		p.conn.Close()
	}
	quiet(t, b)
	if err := b.Send("b", []byte("only this")); err != nil {
		t.Fatal(err)
	}
	if m, err := mqtt.ParsePublish(victim.want(mqtt.PUBLISH)); err != nil || string(m.Payload) != "only this" {
		t.Errorf("b got %q, %v", m.Payload, err)
	}
	// Nobody gets in whom the porch has not announced.
	stranger, err := net.Dial("tcp", net.JoinHostPort(loopback, strconv.Itoa(b.router.port)))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	stranger.SetDeadline(time.Now().Add(30 * time.Second))
	p := &peer{t: t, conn: stranger, in: mqtt.NewReader(stranger, 1<<20)}
	p.send(mqtt.AppendConnect(nil, "a", 60)...)
	p.gone()
}

func TestStrangersStayOutside(t *testing.T) {
	h := newHouse(t, "a")
	other := newHouse(t, "a")
	h.add(t, "expired", time.Now().Add(-pki.EdgeLife-time.Hour))
	b := open(t, h, nil)
	none := h.edges["a"].ClientTLS("127.0.0.1", nil)
	none.Certificates = nil
	foreign := other.edges["a"].ClientTLS("127.0.0.1", nil)
	foreign.RootCAs = h.edges["a"].ClientTLS("", nil).RootCAs // it trusts our hub; our hub must not trust it
	for name, cfg := range map[string]*tls.Config{
		"no certificate":       none,
		"another network's":    foreign,
		"expired":              h.edges["expired"].ClientTLS("127.0.0.1", nil),
		"certificate not seen": {InsecureSkipVerify: true},
	} {
		p, err := dial(t, b, cfg)
		if err != nil {
			continue
		}
		p.send(mqtt.AppendConnect(nil, "a", 60)...)
		p.gone()
		if e := await(t, b, Refused); !strings.HasPrefix(e.Why, "tls: ") {
			t.Errorf("%s: refused because %q", name, e.Why)
		}
	}
	plain, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	plain.SetDeadline(time.Now().Add(30 * time.Second))
	plain.Write(mqtt.AppendConnect(nil, "a", 60))
	answer, err := io.ReadAll(plain)
	if err == nil && len(answer) > 0 && answer[0]>>4 == mqtt.CONNACK {
		t.Error("mqtt without tls was answered")
	}
	if n := b.Stats(); n.Accepted != 0 || n.Refused == 0 {
		t.Errorf("%+v", n)
	}
}

func TestConnectMustBeThatOfAnEdge(t *testing.T) {
	h := newHouse(t, "a")
	b := open(t, h, func(o *Options) { o.Limits.ConnectTime = 2 * time.Second })
	valid := func() []byte { return mqtt.AppendConnect(nil, "a", 60) }
	at := func(i int, x byte) []byte { c := valid(); c[i] = x; return c }
	for name, raw := range map[string][]byte{
		"client id of another":   mqtt.AppendConnect(nil, "b", 60),
		"empty client id":        mqtt.AppendConnect(nil, "", 60),
		"no keep-alive":          mqtt.AppendConnect(nil, "a", 0),
		"keep-alive of 18 hours": mqtt.AppendConnect(nil, "a", 65535),
		"kept session":           at(9, 0),
		"reserved flag":          at(9, 3),
		"will without will":      at(9, 2|4),
		"will retain flag only":  at(9, 2|32),
		"mqtt 5":                 at(8, 5),
		"mqtt 3.1":               at(8, 3),
		"wrong name":             at(4, 'X'),
		"garbage":                []byte("GET / HTTP/1.1\r\n\r\n"),
		"publish first":          mqtt.AppendPublish(nil, wire.UpTopic("a"), nil),
		"connect of 600 bytes":   append([]byte{0x10, 0xd8, 0x04}, make([]byte, 600)...),
		"will":                   {0x10, 19, 0, 4, 'M', 'Q', 'T', 'T', 4, 2 | 4, 0, 60, 0, 1, 'a', 0, 1, 't', 0, 1, 'm'},
	} {
		p, err := dial(t, b, h.edges["a"].ClientTLS("127.0.0.1", nil))
		if err != nil {
			t.Fatal(err)
		}
		p.send(raw...)
		p.t = t
		p.gone()
		if e := await(t, b, Refused); e.Edge != "a" {
			t.Errorf("%s: refusal of %q", name, e.Edge)
		}
	}
	if n := b.Stats(); n.Accepted != 0 {
		t.Errorf("%d let in", n.Accepted)
	}
}

func TestRetiredEdgeIsCutAtOnceAndKeptOut(t *testing.T) {
	h := newHouse(t, "a", "b")
	var g guests
	b := open(t, h, func(o *Options) { o.Admitted = g.admitted })
	p, other := join(t, b, h, "a"), join(t, b, h, "b")
	g.retire("a")
	start := time.Now()
	b.Cut("a", "retired")
	p.gone()
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("cut after %v", d)
	}
	if e := await(t, b, EdgeDown); e.Edge != "a" || e.Why != "retired" {
		t.Errorf("%+v", e)
	}
	again, err := dial(t, b, h.edges["a"].ClientTLS("127.0.0.1", nil))
	if err == nil {
		again.send(mqtt.AppendConnect(nil, "a", 60)...)
		again.gone()
	}
	if got := b.Connected(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("connected: %v", got)
	}
	other.send(0xc0, 0).want(mqtt.PINGRESP)
}

func TestEdgeAddedAtRunTimeGetsIn(t *testing.T) {
	h := newHouse(t, "a")
	b := open(t, h, nil)
	h.add(t, "late", time.Now())
	join(t, b, h, "late")
}

func TestSecondSessionOfOneEdgeIsReportedAndWins(t *testing.T) {
	h := newHouse(t, "a")
	b := open(t, h, nil)
	first := join(t, b, h, "a")
	second := join(t, b, h, "a")
	first.gone()
	e := await(t, b, Duplicate)
	if e.Edge != "a" || e.Other != first.conn.LocalAddr().String() || e.Remote != second.conn.LocalAddr().String() || e.Silent > time.Minute {
		t.Errorf("%+v", e)
	}
	second.send(mqtt.AppendPublish(nil, wire.UpTopic("a"), []byte("2"))...)
	if m := receive(t, b); string(m.Payload) != "2" {
		t.Errorf("got %q", m.Payload)
	}
	if err := b.Send("a", []byte("down")); err != nil {
		t.Fatal(err)
	}
	second.want(mqtt.PUBLISH)
	if n := b.Stats(); n.Duplicates != 1 || n.Sessions != 1 {
		t.Errorf("%+v", n)
	}
}

func TestBrokerComesBackAfterARestart(t *testing.T) {
	h := newHouse(t, "a")
	dir := t.TempDir()
	b := open(t, h, func(o *Options) { o.Dir = dir })
	addr := b.Addr().String()
	p := join(t, b, h, "a")
	b.Close()
	p.gone()
	b = open(t, h, func(o *Options) { o.Dir, o.Listen = dir, addr })
	p = join(t, b, h, "a")
	p.send(mqtt.AppendPublish(nil, wire.UpTopic("a"), []byte("again"))...)
	if m := receive(t, b); string(m.Payload) != "again" {
		t.Errorf("got %q", m.Payload)
	}
}

func TestCloseLeavesNoGoroutineAndIsIdempotent(t *testing.T) {
	h := newHouse(t, "a", "b")
	before := runtime.NumGoroutine()
	b := open(t, h, nil)
	join(t, b, h, "a")
	p := join(t, b, h, "b")
	p.send(mqtt.AppendPublish(nil, wire.UpTopic("b"), []byte("not taken"))...)
	half, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	b.Close()
	b.Close()
	if err := b.Send("a", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("send after close: %v", err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}
