package storm

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// line is what lies between edges and hub: a TCP relay that passes on, waits, goes deaf or breaks. TLS runs through it, so
// whatever it swallows ends the connection sooner or later, and what was sent or answered meanwhile is sent again.
type line struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	rng   *rand.Rand // nil: good weather
	down  bool
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
	fates map[fate]int // connections by what was drawn for them in bad weather
	felt  map[fate]int // and those that felt it: some end before it strikes
}

// fate is what becomes of one connection.
type fate string

const (
	good     fate = "good"
	slow     fate = "slow"      // every piece waits
	broken   fate = "broken"    // both ends are closed at some moment
	halfOpen fate = "half-open" // nothing passes any more, and nobody is told
	deaf     fate = "deaf"      // the edge is heard, the hub's answers are swallowed
)

// Weather of a connection.
const (
	fateMost    = 2 * time.Second       // a fate falls within this time
	silenceMost = 3 * time.Second       // a half-open connection is closed after at most this time more
	delayMost   = 40 * time.Millisecond // of one piece on a slow line
	pieceBytes  = 16 << 10
)

func openLine(t testing.TB, target string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out := &line{listener: l, target: target, conns: map[net.Conn]struct{}{}, fates: map[fate]int{}, felt: map[fate]int{}}
	out.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			out.wg.Go(func() { out.relay(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		out.cut(true)
		out.wg.Wait()
	})
	return out
}

func (l *line) addr() string { return l.listener.Addr().String() }

// weather makes it bad from now on, from a seed; 0 is good weather. Connections that stand are closed.
func (l *line) weather(seed uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rng = nil
	if seed != 0 {
		l.rng = rand.New(rand.NewPCG(seed, 0x6c696e65))
	}
	for c := range l.conns {
		c.Close()
	}
}

// cut takes the line down, or brings it back.
func (l *line) cut(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if down {
		for c := range l.conns {
			c.Close()
		}
	}
}

func (l *line) hold(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *line) drop(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// draw gives a connection its fate and the moments of it.
func (l *line) draw() (f fate, at, end, delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f = good
	if l.rng != nil {
		f = []fate{good, good, slow, slow, broken, broken, halfOpen, halfOpen, deaf, deaf}[l.rng.IntN(10)]
		at = time.Duration(l.rng.Int64N(int64(fateMost)))
		end = at + time.Duration(l.rng.Int64N(int64(silenceMost)))
		delay = time.Duration(l.rng.Int64N(int64(delayMost)))
		l.fates[f]++
	}
	return f, at, end, delay
}

// feel notes that a connection was done what its fate says.
func (l *line) feel(f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.felt[f]++
}

// wasBad wants that every fate fell: the seed gives one of each to the first nine connections. In a long storm, with hundreds of
// connections, each fate must also have been felt; in a short one few live long enough for that, unless they are slow.
func (l *line) wasBad(t testing.TB, long bool) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range []fate{good, slow, broken, halfOpen, deaf} {
		if l.fates[f] == 0 {
			t.Errorf("no connection was %s: this storm proves less than it says", f)
		}
		if (f == slow || long && f != good) && l.felt[f] == 0 {
			t.Errorf("%d connections were to be %s and none was", l.fates[f], f)
		}
	}
}

func (l *line) relay(near net.Conn) {
	if !l.hold(near) {
		near.Close()
		return
	}
	defer l.drop(near)
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	if !l.hold(far) {
		far.Close()
		return
	}
	defer l.drop(far)
	f, at, end, delay := l.draw()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if f != slow {
		delay = 0
	}
	quiet := make(chan struct{})
	struck := sync.OnceFunc(func() { l.feel(f) })
	switch f {
	case broken:
		defer time.AfterFunc(at, func() { struck(); near.Close(); far.Close() }).Stop()
	case halfOpen, deaf:
		defer time.AfterFunc(at, func() { close(quiet) }).Stop()
		defer time.AfterFunc(end, func() { near.Close(); far.Close() }).Stop()
	}
	var both sync.WaitGroup
	carry := func(from, to net.Conn, silenced bool) {
		defer near.Close()
		defer far.Close()
		b := make([]byte, pieceBytes)
		for {
			n, err := from.Read(b)
			if n > 0 {
				if delay > 0 && pause(ctx, delay) {
					struck()
				}
				select {
				case <-quiet:
					if silenced {
						struck()
						_, _ = io.Copy(io.Discard, from) // ends when the silence does
						return
					}
				default:
				}
				if _, err := to.Write(b[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	both.Go(func() { carry(near, far, f == halfOpen) })
	both.Go(func() { carry(far, near, true) })
	both.Wait()
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
