package broker

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/internal/mqtt"
	"kith/internal/pki"
	"kith/internal/wire"
)

// maxHostile is how many bytes the whole process may allocate over one hostile connection. A TLS handshake with both
// certificates, which the test's own client is part of, costs about 150 KiB of it.
const maxHostile = 1 << 20

func allocated(run func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestHostileBytesNeverAllocateWhatTheyDeclare(t *testing.T) {
	h := newHouse(t, "a")
	b := open(t, h, nil)
	join(t, b, h, "a").conn.Close() // the router's first session makes its streams
	await(t, b, EdgeDown)
	five := [][]byte{
		{0x10, 0xff, 0xff, 0xff, 0x7f}, {0x30, 0xff, 0xff, 0xff, 0x7f}, {0x82, 0xff, 0xff, 0xff, 0x7f},
		{0xc0, 0xff, 0xff, 0xff, 0x7f}, {0x30, 0xff, 0xff, 0xff, 0xff}, {0x16, 0x03, 0x01, 0xff, 0xff},
	}
	for _, raw := range five {
		for where, attack := range map[string]func(){
			"outside tls": func() {
				conn, err := net.Dial("tcp", b.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(30 * time.Second))
				conn.Write(raw)
				conn.(*net.TCPConn).CloseWrite()
				conn.Read(make([]byte, 64))
			},
			"before connect": func() {
				p, err := dial(t, b, h.edges["a"].ClientTLS("127.0.0.1", nil))
				if err != nil {
					t.Fatal(err)
				}
				p.send(raw...)
				p.gone()
			},
			"in a session": func() {
				p := enter(t, b, h, "a")
				p.send(raw...)
				p.gone()
			},
			"behind the porch": func() {
				conn, err := b.router.dial("a")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(30 * time.Second))
				p := &peer{t: t, conn: conn, in: mqtt.NewReader(conn, 1<<20)}
				p.send(mqtt.AppendConnect(nil, "a/hostile", 60)...)
				p.want(mqtt.CONNACK)
				p.send(raw...)
				p.gone()
			},
		} {
			if n := allocated(attack); n > maxHostile {
				t.Errorf("% x %s: %d bytes allocated", raw, where, n)
			}
		}
	}
}

func TestOversizeMessageIsCut(t *testing.T) {
	h := newHouse(t, "a")
	b := open(t, h, func(o *Options) { o.Limits.Message = 1000 })
	for _, n := range []int{1001, 5000, 300 << 10} {
		p := join(t, b, h, "a")
		p.send(mqtt.AppendPublish(nil, wire.UpTopic("a"), make([]byte, n))...)
		p.gone()
		if e := await(t, b, Refused); e.Edge != "a" || !strings.Contains(e.Why, mqtt.ErrTooLong.Error()) {
			t.Errorf("%d bytes: %+v", n, e)
		}
	}
	quiet(t, b)
	p := join(t, b, h, "a")
	p.send(mqtt.AppendPublish(nil, wire.UpTopic("a"), make([]byte, 1000))...)
	if m := receive(t, b); len(m.Payload) != 1000 {
		t.Errorf("%d bytes", len(m.Payload))
	}
}

func TestSlowConnectIsDroppedAtTheDeadline(t *testing.T) {
	h := newHouse(t, "a")
	const deadline = time.Second
	b := open(t, h, func(o *Options) { o.Limits.ConnectTime = deadline })
	for name, drip := range map[string]func() net.Conn{
		"tcp only": func() net.Conn {
			conn, err := net.Dial("tcp", b.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			return conn
		},
		"tls, then connect byte by byte": func() net.Conn {
			p, err := dial(t, b, h.edges["a"].ClientTLS("127.0.0.1", nil))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for _, x := range mqtt.AppendConnect(nil, "a", 60) {
					if _, err := p.conn.Write([]byte{x}); err != nil {
						return
					}
					time.Sleep(deadline / 4)
				}
			}()
			return p.conn
		},
	} {
		start := time.Now()
		conn := drip()
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		for {
			if _, err := conn.Read(make([]byte, 64)); err != nil {
				break
			}
		}
		conn.Close()
		if d := time.Since(start); d < deadline/2 || d > deadline+20*time.Second {
			t.Errorf("%s: dropped after %v", name, d)
		}
	}
	if n := b.Stats(); n.Accepted != 0 {
		t.Errorf("%+v", n)
	}
}

func TestOneSourceCannotFillThePorch(t *testing.T) {
	h := newHouse(t, "a")
	b := open(t, h, func(o *Options) { o.Limits.HalfOpen, o.Limits.ConnectTime = 5, 1500*time.Millisecond })
	var open []net.Conn
	for range 30 {
		conn, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	dropped := 0
	for _, conn := range open {
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			dropped++
		}
	}
	if dropped != 25 {
		t.Errorf("%d of 30 dropped at once, want all but 5", dropped)
	}
	time.Sleep(1200 * time.Millisecond) // the five run into the deadline
	join(t, b, h, "a")
}

func TestFloodOfOneEdgeWaitsInItsOwnConnection(t *testing.T) {
	h := newHouse(t, "loud", "calm")
	b := open(t, h, func(o *Options) {
		o.Limits.MessageRate, o.Limits.ByteRate = 100_000, 1<<30
		o.Limits.UpMessages, o.Limits.UpBytes = 8, defaults.Message
	})
	loud, calm := join(t, b, h, "loud"), join(t, b, h, "calm")
	go func() {
		big := mqtt.AppendPublish(nil, wire.UpTopic("loud"), make([]byte, 64<<10))
		for {
			if _, err := loud.conn.Write(big); err != nil {
				return
			}
		}
	}()
	time.Sleep(300 * time.Millisecond) // nobody takes: everything between is as full as it may get
	st := b.Stats()
	if st.Waiting > defaults.Message {
		t.Errorf("%d bytes wait inside, more than one edge's budget", st.Waiting)
	}
	if st.Messages > maxMessages+1 {
		t.Errorf("%d messages delivered into a channel of %d", st.Messages, maxMessages)
	}
	// The hub takes slowly; the calm edge gets through among the first few, not after the flood.
	for range maxMessages { // what the channel held
		receive(t, b)
	}
	calm.send(mqtt.AppendPublish(nil, wire.UpTopic("calm"), []byte("me too"))...)
	for i := 0; ; i++ {
		if m := receive(t, b); m.Edge == "calm" {
			break
		}
		if i > 2*maxMessages {
			t.Fatal("the calm edge is not heard")
		}
		time.Sleep(100 * time.Microsecond)
	}
	calm.send(0xc0, 0).want(mqtt.PINGRESP)
	loud.conn.Close()
}

func TestRateOfOneEdgeIsBounded(t *testing.T) {
	h := newHouse(t, "a")
	b := open(t, h, func(o *Options) { o.Limits.MessageRate = 100 })
	p := join(t, b, h, "a")
	one := mqtt.AppendPublish(nil, wire.UpTopic("a"), []byte("x"))
	start := time.Now()
	p.send(bytes.Repeat(one, 300)...)
	for range 300 {
		receive(t, b)
	}
	// 200 at once (less the subscription), then 100 a second.
	if d := time.Since(start); d < 900*time.Millisecond || d > 30*time.Second {
		t.Errorf("300 messages at 100/s took %v", d)
	}
}

func TestEdgeThatDoesNotReadIsCut(t *testing.T) {
	h := newHouse(t, "slow", "b")
	b := open(t, h, func(o *Options) { o.Limits.WriteTime = 2 * time.Second })
	join(t, b, h, "slow")
	other := join(t, b, h, "b")
	payload := make([]byte, defaults.Message)
	var err error
	for range 200 { // 50 MiB: more than any socket holds
		if err = b.Send("slow", payload); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if !errors.Is(err, ErrSlow) {
		t.Errorf("send: %v", err)
	}
	if e := await(t, b, EdgeDown); e.Edge != "slow" {
		t.Errorf("%+v", e)
	}
	if err := b.Send("b", []byte("x")); err != nil {
		t.Error(err)
	}
	other.want(mqtt.PUBLISH)
}

func TestSilentEdgeIsCutAfterItsKeepAlive(t *testing.T) {
	h := newHouse(t, "a")
	b := open(t, h, nil)
	p, err := dial(t, b, h.edges["a"].ClientTLS("127.0.0.1", nil))
	if err != nil {
		t.Fatal(err)
	}
	p.send(mqtt.AppendConnect(nil, "a", 1)...)
	p.want(mqtt.CONNACK)
	start := time.Now()
	p.gone()
	if d := time.Since(start); d < 1400*time.Millisecond || d > 30*time.Second {
		t.Errorf("cut after %v, want 1.5 s", d)
	}
}

func TestBucketNeverGivesMoreThanItsRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, burst := rapid.IntRange(1, 1<<20).Draw(t, "rate"), rapid.IntRange(1, 1<<22).Draw(t, "burst")
		now := time.Unix(1_700_000_000, 0)
		b, start := newBucket(rate, burst, now), now
		took := int64(0)
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "pause")))
			n := rapid.IntRange(0, burst).Draw(t, "n")
			took += int64(n)
			now = now.Add(b.take(n, now))
			// Everything taken is paid for by the burst and the time passed; a nanosecond may be rounded off.
			paid := float64(burst) + float64(rate)*(now.Sub(start)+1).Seconds()
			if float64(took) > paid+1 {
				t.Fatalf("%d taken, %.3f paid", took, paid)
			}
		}
		if b.fill(now.Add(365 * 24 * time.Hour)); b.level != int64(burst)*int64(time.Second) {
			t.Fatalf("level %d after a year", b.level)
		}
	})
}

func TestBudgetsAreWholeAgainWhenAllIsOver(t *testing.T) {
	all := newBudget(1000)
	l := Limits{UpBytes: 500, UpMessages: 5}
	done := make(chan struct{})
	a, b := newShare(l, all), newShare(l, all)
	for range 5 {
		a.take(1, done)
		b.take(1, done)
	}
	if all.used() != 1000 {
		t.Fatalf("%d used", all.used())
	}
	third := newShare(l, all)
	got := make(chan bool)
	go func() { got <- third.take(300, done) }()
	a.give(1)
	a.end() // the rest goes back at once
	a.give(1)
	if !<-got {
		t.Fatal("not woken")
	}
	third.give(300)
	go func() { got <- third.take(400, done); got <- third.take(400, done) }()
	if !<-got {
		t.Fatal("refused")
	}
	close(done)
	if <-got {
		t.Fatal("let through after the end")
	}
	third.end()
	for range 7 {
		b.give(1)
	}
	if all.used() != 0 {
		t.Errorf("%d still used", all.used())
	}
}

func TestSourcesAreCountedByAddressOrNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7", "[::ffff:192.0.2.7]:2": "192.0.2.7",
		"[2001:db8:1:2:3::1]:1": "2001:db8:1:2::/64", "[2001:db8:1:2:ffff::]:9": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64",
	} {
		if got := sourceOf(address(in)); got != want {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
	p := newPorch(defaults)
	now := time.Unix(0, 0)
	for i := range maxSources + 100 { // a botnet: the map stays bounded
		c := &fakeConn{remote: address(fmt.Sprintf("[2001:db8:%x:%x::1]:1", i>>8, i&255))}
		p.enter(c, now)
		p.leave(c, now)
	}
	if len(p.sources) > maxSources || p.total != 0 || len(p.conns) != 0 {
		t.Errorf("%d sources, %d on the porch", len(p.sources), p.total)
	}
	if why := p.enter(&fakeConn{remote: address("192.0.2.1:1")}, now.Add(time.Minute)); why != "" {
		t.Errorf("a minute later: %s", why)
	}
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

type fakeConn struct {
	net.Conn
	remote net.Addr
}

func (f *fakeConn) RemoteAddr() net.Addr { return f.remote }

// mosquitto finds a Debian client program: somebody else's MQTT and TLS.
func mosquitto(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("KITH_PEERS") == "required" {
			t.Fatalf("%s is required and missing: install mosquitto-clients", name)
		}
		t.Skipf("SKIP: %s missing: install mosquitto-clients to run this", name)
	}
	return path
}

func TestMosquittoClientsTalkBothWays(t *testing.T) {
	pub, sub := mosquitto(t, "mosquitto_pub"), mosquitto(t, "mosquitto_sub")
	h := newHouse(t, "front", "back")
	b := open(t, h, nil)
	_, port, _ := net.SplitHostPort(b.Addr().String())
	args := func(edge string, more ...string) []string {
		dir := filepath.Join(h.dir, edge)
		return append([]string{"-h", "127.0.0.1", "-p", port, "-i", edge, "-V", "mqttv311", "--tls-version", "tlsv1.3",
			"--cafile", filepath.Join(dir, pki.FileCA), "--cert", filepath.Join(dir, pki.FileEdge), "--key", filepath.Join(dir, pki.FileEdgeKey)}, more...)
	}
	for _, qos := range []string{"0", "1"} {
		if out, err := exec.Command(pub, args("front", "-t", "v1/front/up", "-m", "from mosquitto "+qos, "-q", qos)...).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub: %v\n%s", err, out)
		}
		if m := receive(t, b); m.Edge != "front" || string(m.Payload) != "from mosquitto "+qos {
			t.Errorf("got %q from %s", m.Payload, m.Edge)
		}
	}
	var out bytes.Buffer
	listen := exec.CommandContext(t.Context(), sub, args("front", "-t", "v1/front/down", "-q", "1", "-C", "1", "-W", "10")...)
	listen.Stdout, listen.Stderr = &out, &out
	if err := listen.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, b, EdgeUp)
	if err := b.Send("front", []byte("to mosquitto")); err != nil {
		t.Fatal(err)
	}
	if err := listen.Wait(); err != nil || strings.TrimSpace(out.String()) != "to mosquitto" {
		t.Errorf("mosquitto_sub: %v, %q", err, out.String())
	}
	for _, refused := range [][]string{
		append([]string{pub}, args("front", "-t", "v1/back/up", "-m", "x", "-q", "1")...),
		append([]string{pub}, args("front", "-t", "v1/front/up", "-m", "x", "-q", "1", "-r")...),
		append([]string{sub}, args("front", "-t", "#", "-C", "1", "-W", "2")...),
	} {
		cmd := exec.Command(refused[0], refused[1:]...)
		var said bytes.Buffer
		cmd.Stdout = &said
		cmd.Start()
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		if e := await(t, b, Refused); e.Edge != "front" {
			t.Errorf("refused %+v", e)
		}
		cmd.Process.Kill() // mosquitto_sub would try again for ever
		<-done
		if said.Len() != 0 {
			t.Errorf("%v heard %q", refused[len(refused)-6:], said.String())
		}
	}
	quiet(t, b)
}

func BenchmarkUplink(b *testing.B) {
	h := newHouse(b, "a")
	broker := open(b, h, func(o *Options) { o.Limits.MessageRate, o.Limits.ByteRate = 10_000_000, 1<<40 })
	for _, size := range []int{200, 4 << 10, 40 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := join(b, broker, h, "a")
			p.conn.SetDeadline(time.Time{})
			raw := mqtt.AppendPublish(nil, wire.UpTopic("a"), make([]byte, size))
			chunk := bytes.Repeat(raw, max(1, (16<<10)/len(raw)))
			per := len(chunk) / len(raw)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				for sent := 0; sent < b.N; sent += per {
					n := min(per, b.N-sent)
					if _, err := p.conn.Write(chunk[:n*len(raw)]); err != nil {
						return
					}
				}
			}()
			for range b.N {
				<-broker.Messages()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			p.conn.Close()
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	h := newHouse(b, "a")
	broker := open(b, h, func(o *Options) { o.Limits.MessageRate, o.Limits.ByteRate = 10_000_000, 1<<40 })
	p := join(b, broker, h, "a")
	p.conn.SetDeadline(time.Time{})
	go func() {
		for m := range broker.Messages() {
			broker.Send(m.Edge, m.Payload)
		}
	}()
	raw := mqtt.AppendPublish(nil, wire.UpTopic("a"), make([]byte, 200))
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		start := time.Now()
		p.send(raw...)
		if _, err := p.in.Next(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// BenchmarkConnect measures TLS 1.3 with both certificates, CONNECT and SUBSCRIBE, client included.
func BenchmarkConnect(b *testing.B) {
	h := newHouse(b, "a")
	broker := open(b, h, func(o *Options) { o.Limits.ConnectRate = 1_000_000 })
	cfg := h.edges["a"].ClientTLS("127.0.0.1", nil)
	for b.Loop() {
		p, err := dial(b, broker, cfg)
		if err != nil {
			b.Fatal(err)
		}
		p.send(mqtt.AppendConnect(nil, "a", 60)...)
		p.want(mqtt.CONNACK)
		p.send(0xe0, 0)
		p.conn.Close()
	}
}

func TestSubjectsAndTopicsNameTheSameEdge(t *testing.T) {
	if got := subject("v1/lisbon-front/down"); got != "v1.lisbon-front.down" {
		t.Error(got)
	}
	if e, ok := edgeOf("v1.lisbon-front.up"); e != "lisbon-front" || !ok {
		t.Errorf("%q %v", e, ok)
	}
	for _, s := range []string{"", "v1..up", "v1.a.down", "v2.a.up", "v1.a.b.up", "v1.up", "v1.*.up"} {
		if e, ok := edgeOf(s); ok {
			t.Errorf("%q is of %q", s, e)
		}
	}
}
