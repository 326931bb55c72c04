package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kith/internal/mqtt"
)

// script is a hub in memory: a few lines of MQTT over net.Pipe, so that hours of waiting pass in a bubble of fake time.
type script struct {
	t     *testing.T
	dials []time.Time
	stop  chan struct{}       // closed when the test is over
	serve func(n int, c *far) // runs for connection n, from 1; nil refuses the connection
}

// far is the hub's end of one connection.
type far struct {
	conn net.Conn
	in   *mqtt.Reader
	stop chan struct{}
}

// hold does nothing for a while.
func (f *far) hold(d time.Duration) {
	select {
	case <-time.After(d):
	case <-f.stop:
	}
}

func (s *script) dial(context.Context, string, string) (net.Conn, error) {
	s.dials = append(s.dials, time.Now())
	if s.serve == nil {
		return nil, errors.New("connection refused")
	}
	a, b := net.Pipe()
	n := len(s.dials)
	go func() {
		defer b.Close()
		s.serve(n, &far{conn: b, in: mqtt.NewReader(b, 1<<20), stop: s.stop})
	}()
	return a, nil
}

// next reads a packet of the wanted type; false when the link hung up or said something else.
func (f *far) next(kind byte) (mqtt.Packet, bool) {
	p, err := f.in.Next()
	return p, err == nil && p.Type == kind
}

func (f *far) send(raw []byte) { f.conn.Write(raw) }

// welcome lets the link log in and subscribe.
func (f *far) welcome() bool {
	if _, ok := f.next(mqtt.CONNECT); !ok {
		return false
	}
	f.send(mqtt.AppendConnAck(nil, mqtt.Accepted))
	p, ok := f.next(mqtt.SUBSCRIBE)
	if !ok {
		return false
	}
	sub, err := mqtt.ParseSubscribe(p.Body)
	if err != nil {
		return false
	}
	f.send(mqtt.AppendSubAck(nil, sub.ID, sub.QoS))
	return true
}

// stay answers pings and hands publishes over until the link goes.
func (f *far) stay(got func(mqtt.Publish)) {
	for {
		p, err := f.in.Next()
		if err != nil {
			return
		}
		switch p.Type {
		case mqtt.PINGREQ:
			f.send(mqtt.AppendPingResp(nil))
		case mqtt.PUBLISH:
			if m, err := mqtt.ParsePublish(p); err == nil && got != nil {
				got(m)
			}
		case mqtt.DISCONNECT:
			return
		}
	}
}

func (s *script) link() *Link {
	l, err := New(Options{Broker: "hub:8883", Edge: "front", Dial: s.dial})
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// bubble runs a link against a script in fake time. When body returns the link is stopped, and the bubble fails the test
// if any goroutine of link or paho is left.
func bubble(t *testing.T, s *script, body func(ctx context.Context, l *Link)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.t, s.stop = t, make(chan struct{})
		defer close(s.stop)
		l := s.link()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		body(ctx, l)
		cancel()
		start := time.Now()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("stopping took %v", d)
		}
		if l.Status().Up {
			t.Error("up after the end")
		}
	})
}

// rise waits for a session. It is bounded, since fake time would otherwise run for ever.
func rise(t *testing.T, l *Link) {
	t.Helper()
	select {
	case up := <-l.Up():
		if up {
			return
		}
		t.Fatal("down")
	case <-time.After(10 * time.Minute):
		t.Fatalf("no session in ten minutes: %+v", l.Status())
	}
}

func TestMessagesPassBothWaysInOrder(t *testing.T) {
	var got []string
	s := &script{}
	s.serve = func(_ int, f *far) {
		if !f.welcome() {
			return
		}
		f.stay(func(m mqtt.Publish) {
			if m.Topic != "v1/front/up" || m.QoS != 0 || m.Retain {
				t.Errorf("published on %s at %d", m.Topic, m.QoS)
			}
			got = append(got, string(m.Payload))
			f.send(mqtt.AppendPublish(nil, "v1/front/down", append([]byte("re: "), m.Payload...)))
		})
	}
	bubble(t, s, func(ctx context.Context, l *Link) {
		rise(t, l)
		for i := range 20 {
			if err := l.Send(ctx, fmt.Appendf(nil, "%d", i)); err != nil {
				t.Fatal(err)
			}
			if back := <-l.Received(); string(back) != fmt.Sprintf("re: %d", i) {
				t.Fatalf("received %q", back)
			}
		}
		if len(got) != 20 || l.Status().Sessions != 1 {
			t.Errorf("hub got %v", got)
		}
		time.Sleep(24 * time.Hour) // pings hold a quiet session
		if st := l.Status(); !st.Up || st.Sessions != 1 {
			t.Errorf("after a quiet day: %+v", st)
		}
	})
}

func TestNothingIsQueuedWhileDown(t *testing.T) {
	s := &script{}
	bubble(t, s, func(ctx context.Context, l *Link) {
		time.Sleep(time.Minute)
		if err := l.Send(ctx, []byte("x")); !errors.Is(err, ErrDown) {
			t.Errorf("send: %v", err)
		}
		if err := l.Send(ctx, make([]byte, MaxMessage+1)); !errors.Is(err, ErrTooLong) {
			t.Errorf("send too much: %v", err)
		}
		if st := l.Status(); st.Up || !strings.Contains(st.Err, "refused") {
			t.Errorf("%+v", st)
		}
	})
}

func TestRetriesArePacedAndSpread(t *testing.T) {
	s := &script{}
	bubble(t, s, func(context.Context, *Link) { time.Sleep(10 * time.Hour) })
	var slow, fast int
	for i := 1; i < len(s.dials); i++ {
		gap := s.dials[i].Sub(s.dials[i-1])
		if gap < minWait || gap > maxWait {
			t.Fatalf("attempt %d came %v after the one before", i, gap)
		}
		if i > maxSteps {
			if gap > 45*time.Second {
				slow++
			}
			if gap < 15*time.Second {
				fast++
			}
		}
	}
	// Uniform between 1 s and 60 s: about 1,180 attempts, a quarter in each of these ranges.
	if n := len(s.dials); n < 900 || n > 1500 || slow < n/8 || fast < n/8 {
		t.Errorf("%d attempts in ten hours, %d slow, %d fast", n, slow, fast)
	}
	if first := s.dials[1].Sub(s.dials[0]); first > 4*time.Second {
		t.Errorf("first retry after %v", first)
	}
}

func TestPauseGrowsOnlyWhileItFails(t *testing.T) {
	for _, c := range []struct {
		steps  int
		lasted time.Duration
		want   int
	}{
		{0, 0, 1}, {5, 0, 6}, {6, 0, 6}, {6, stableFor, 0}, {6, time.Second, flapSteps}, {0, time.Second, 1}, {6, 365 * 24 * time.Hour, 0},
	} {
		if got := nextSteps(c.steps, c.lasted); got != c.want {
			t.Errorf("after %d and %v: %d, want %d", c.steps, c.lasted, got, c.want)
		}
	}
	least := func(int64) int64 { return 0 }
	most := func(n int64) int64 { return n - 1 }
	for steps, upper := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		if a, b := waitAfter(steps, least), waitAfter(steps, most); a != minWait || b != upper*time.Second {
			t.Errorf("after %d: from %v to %v", steps, a, b)
		}
	}
}

func TestFlappingLineStillMakesProgress(t *testing.T) {
	s := &script{}
	s.serve = func(_ int, f *far) {
		if f.welcome() {
			f.hold(3 * time.Second)
		}
	}
	bubble(t, s, func(_ context.Context, l *Link) {
		time.Sleep(10 * time.Minute)
		// At most 16 s of waiting for 3 s of line.
		if n := l.Status().Sessions; n < 30 || n > 150 {
			t.Errorf("%d sessions in ten minutes", n)
		}
	})
}

func TestDeadHubIsNoticed(t *testing.T) {
	for name, c := range map[string]struct {
		serve  func(*far)
		within time.Duration
	}{
		"accepts and says nothing": {func(f *far) { f.next(mqtt.CONNECT); f.hold(time.Hour) }, 20 * time.Second},
		"does not even read":       {func(f *far) { f.hold(time.Hour) }, 20 * time.Second},
		"connack after 16 s":       {func(f *far) { f.next(mqtt.CONNECT); f.hold(16 * time.Second); f.send(mqtt.AppendConnAck(nil, 0)) }, 20 * time.Second},
		"connack in drops":         {func(f *far) { f.next(mqtt.CONNECT); trickle(f, mqtt.AppendConnAck(nil, 0), 7*time.Second) }, 20 * time.Second},
		"no suback": {func(f *far) {
			f.next(mqtt.CONNECT)
			f.send(mqtt.AppendConnAck(nil, 0))
			f.next(mqtt.SUBSCRIBE)
			f.hold(time.Hour)
		}, 35 * time.Second},
		"subscription refused":       {refuseSubscription, time.Second},
		"not authorized":             {func(f *far) { f.next(mqtt.CONNECT); f.send(mqtt.AppendConnAck(nil, mqtt.NotAuthorized)) }, time.Second},
		"no pingresp":                {func(f *far) { f.welcome(); f.in.Next(); f.in.Next(); f.hold(time.Hour) }, time.Minute},
		"half open, nothing is read": {func(f *far) { f.welcome(); f.hold(time.Hour) }, time.Minute},
		"packet in drops": {func(f *far) {
			f.welcome()
			trickle(f, mqtt.AppendPublish(nil, "v1/front/down", make([]byte, 100)), 9*time.Second)
		}, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{}
			s.serve = func(n int, f *far) {
				if n == 1 {
					c.serve(f)
					return
				}
				if f.welcome() {
					f.stay(nil)
				}
			}
			bubble(t, s, func(_ context.Context, l *Link) {
				time.Sleep(c.within + 5*time.Second) // and the first pause, of at most 4 s
				if st := l.Status(); !st.Up || st.Err == "" || len(s.dials) != 2 {
					t.Errorf("after %v: %+v, %d attempts", c.within, st, len(s.dials))
				}
			})
		})
	}
}

func trickle(f *far, raw []byte, pause time.Duration) {
	for _, b := range raw {
		f.send([]byte{b})
		f.hold(pause)
	}
}

func refuseSubscription(f *far) {
	f.next(mqtt.CONNECT)
	f.send(mqtt.AppendConnAck(nil, 0))
	p, ok := f.next(mqtt.SUBSCRIBE)
	if !ok {
		return
	}
	sub, _ := mqtt.ParseSubscribe(p.Body)
	f.send(mqtt.AppendSubAck(nil, sub.ID, mqtt.Refused))
	f.stay(nil)
}

func TestSlowButHonestConnackIsWaitedFor(t *testing.T) {
	s := &script{}
	s.serve = func(_ int, f *far) {
		f.next(mqtt.CONNECT)
		f.hold(12 * time.Second)
		f.send(mqtt.AppendConnAck(nil, mqtt.Accepted))
		p, ok := f.next(mqtt.SUBSCRIBE)
		if !ok {
			return
		}
		f.hold(12 * time.Second)
		sub, _ := mqtt.ParseSubscribe(p.Body)
		f.send(mqtt.AppendSubAck(nil, sub.ID, 0))
		f.stay(nil)
	}
	bubble(t, s, func(_ context.Context, l *Link) {
		rise(t, l)
		if len(s.dials) != 1 {
			t.Errorf("%d attempts", len(s.dials))
		}
	})
}

// hostile is what a broken or malicious hub may send once the session is up. None of it may reach paho.
func hostile() map[string][]byte {
	down := "v1/front/down"
	quality1 := mqtt.AppendPublish(nil, down, []byte("\x00\x01x"))
	quality1[0] |= 2
	retained := mqtt.AppendPublish(nil, down, []byte("x"))
	retained[0] |= 1
	return map[string][]byte{
		"256 MiB in five bytes":       {0x30, 0xff, 0xff, 0xff, 0x7f},
		"five length bytes":           {0x30, 0xff, 0xff, 0xff, 0xff, 0x01},
		"one byte too many":           mqtt.AppendPublish(nil, down, make([]byte, MaxMessage+mqtt.Overhead)),
		"suback with two codes":       {0x90, 4, 0, 1, 0, 0},
		"suback without codes":        {0x90, 2, 0, 1},
		"suback of 256 MiB":           {0x90, 0xff, 0xff, 0xff, 0x7f},
		"second connack":              mqtt.AppendConnAck(nil, 0),
		"pingresp with body":          {0xd0, 1, 0},
		"quality of service 1":        quality1,
		"quality of service 3":        {0x36, 3, 0, 1, 'a'},
		"retained":                    retained,
		"topic of another edge":       mqtt.AppendPublish(nil, "v1/back/down", []byte("x")),
		"topic longer than packet":    {0x30, 3, 0xff, 0xff, 'x'},
		"empty publish":               {0x30, 0},
		"topic not utf-8":             mqtt.AppendPublish(nil, "v1/\xff/down", nil),
		"puback of nothing":           {0x40, 2, 0, 1},
		"pubrec of nothing":           {0x50, 2, 0, 1},
		"pubrel of nothing":           {0x62, 2, 0, 1},
		"unsuback of nothing":         {0xb0, 2, 0, 1},
		"a publish from client to us": mqtt.AppendSubscribe(nil, 1, "#"),
		"connect":                     mqtt.AppendConnect(nil, "x", 1),
		"reserved type 0":             {0x00, 0},
		"reserved type 15":            {0xf0, 0},
		"http":                        []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"zeros":                       make([]byte, 4096),
	}
}

func TestHostileHubEndsTheSessionAndNothingElse(t *testing.T) {
	for name, raw := range hostile() {
		t.Run(name, func(t *testing.T) {
			s := &script{}
			s.serve = func(n int, f *far) {
				if !f.welcome() {
					return
				}
				if n == 1 {
					f.hold(time.Second) // the session is up on both sides
					f.send(raw)
					f.hold(time.Minute)
					return
				}
				f.stay(nil)
			}
			bubble(t, s, func(_ context.Context, l *Link) {
				time.Sleep(90 * time.Second)
				if st := l.Status(); !st.Up || st.Sessions != 2 || len(l.Received()) != 0 {
					t.Errorf("%+v, %d messages", st, len(l.Received()))
				}
			})
		})
	}
}

func TestOldestIsDroppedWhenNobodyTakes(t *testing.T) {
	const n = 100
	s := &script{}
	s.serve = func(_ int, f *far) {
		if !f.welcome() {
			return
		}
		go func() {
			for i := range n {
				f.send(mqtt.AppendPublish(nil, "v1/front/down", []byte{byte(i)}))
			}
		}()
		f.stay(nil)
	}
	bubble(t, s, func(_ context.Context, l *Link) {
		time.Sleep(10 * time.Minute)
		st := l.Status()
		if st.Sessions != 1 || !st.Up || st.Dropped != n-maxReceived {
			t.Fatalf("%+v", st)
		}
		for i := n - maxReceived; i < n; i++ {
			if m := <-l.Received(); !bytes.Equal(m, []byte{byte(i)}) {
				t.Fatalf("got %v, want %d", m, i)
			}
		}
	})
}

func TestSendGivesUpWithItsContext(t *testing.T) {
	s := &script{}
	s.serve = func(_ int, f *far) {
		if f.welcome() {
			f.hold(time.Hour) // reads nothing
		}
	}
	bubble(t, s, func(ctx context.Context, l *Link) {
		rise(t, l)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		start := time.Now()
		if err := l.Send(short, []byte("x")); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if err := l.Send(ctx, []byte("y")); err == nil || time.Since(start) > writeTime+2*time.Second {
			t.Errorf("to a hub that does not read, after %v: %v", time.Since(start), err)
		}
	})
}

func TestStopWhileDiallingIsPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := New(Options{Broker: "hub:1", Edge: "front", Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(time.Second)
		start := time.Now()
		cancel()
		if err := <-done; err != nil || time.Since(start) > time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, nil }
	for name, o := range map[string]Options{
		"no port":        {Broker: "hub", Edge: "a", Dial: dial},
		"no edge":        {Broker: "hub:1", Dial: dial},
		"wildcard":       {Broker: "hub:1", Edge: "+", Dial: dial},
		"no tls":         {Broker: "hub:1", Edge: "a"},
		"odd keep-alive": {Broker: "hub:1", Edge: "a", Dial: dial, KeepAlive: 1500 * time.Millisecond},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
