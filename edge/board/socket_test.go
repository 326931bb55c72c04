package board

import (
	"errors"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// far is the other end: a board that says and hears what a test wants.
type far struct {
	t    *testing.T
	l    net.Listener
	path string
	conn net.Conn
	in   *LineReader
}

func listenFar(t *testing.T, path string) *far {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f := &far{t: t, l: l, path: path}
	t.Cleanup(f.hangUp)
	return f
}

func (f *far) accept() {
	f.t.Helper()
	conn, err := f.l.Accept()
	if err != nil {
		f.t.Fatal(err)
	}
	f.conn, f.in = conn, NewLineReader(conn)
}

func (f *far) say(text string) {
	f.t.Helper()
	if _, err := f.conn.Write([]byte(text)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *far) hear() Line {
	f.t.Helper()
	f.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	l, err := f.in.Next()
	if err != nil {
		f.t.Fatal(err)
	}
	return l
}

func (f *far) hangUp() {
	if f.conn != nil {
		f.conn.Close()
	}
	f.l.Close()
}

func openSocket(t *testing.T, path string) *Socket {
	t.Helper()
	s, err := OpenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func socketPath(t *testing.T) string { return filepath.Join(t.TempDir(), "board") }

func awaitErr(t *testing.T, s *Socket, down bool) {
	t.Helper()
	for range 500 {
		if (s.Err() != nil) == down {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the link is not in the state expected (down %v): %v", down, s.Err())
}

func TestALinkCarriesLevelsBothWays(t *testing.T) {
	f := listenFar(t, socketPath(t))
	s := openSocket(t, f.path)
	f.accept()
	f.say(`{"t":1,"in":"front/contact","v":0}` + "\n" + `{"t":2,"in":"front/contact","v":0}` + "\n" +
		`{"t":3,"out":"front/lock","v":1}` + "\n" + `{"t":4,"in":"front/contact","v":1}` + "\n")
	for _, want := range []int{0, 1} { // the repetition and the echo of an output are not changes
		if c := next(t, s); c.Signal != "front/contact" || c.Value != want {
			t.Fatalf("got %+v, want front/contact %d", c, want)
		}
	}
	before := Now()
	if err := s.Set("front/lock", 1); err != nil {
		t.Fatal(err)
	}
	l := f.hear()
	if l.Out != "front/lock" || l.V != 1 || l.T < before || l.T > Now() {
		t.Fatalf("the board heard %+v", l)
	}
}

func TestAChangeIsStampedByOurClockNotTheirs(t *testing.T) {
	f := listenFar(t, socketPath(t))
	s := openSocket(t, f.path)
	f.accept()
	f.say(`{"t":9223372036854775807,"in":"tamper","v":1}` + "\n")
	if c := next(t, s); c.At > Now() || Now()-c.At > 5*time.Second {
		t.Errorf("stamped %v at %v", c.At, Now())
	}
}

// The released lock is the threat: who can cut and mend the wire must not choose when it opens.
func TestAfterAReconnectLightsReturnAndLocksDoNot(t *testing.T) {
	path := socketPath(t)
	f := listenFar(t, path)
	s := openSocket(t, path)
	f.accept()
	awaitErr(t, s, false)
	for signal, v := range map[string]int{"front/lock": 1, "front/green": 1} {
		if err := s.Set(signal, v); err != nil {
			t.Fatal(err)
		}
		f.hear()
	}
	f.hangUp()
	awaitErr(t, s, true)
	if err := s.Set("front/lock", 1); !errors.Is(err, ErrDown) {
		t.Fatalf("a release into the void gave %v", err)
	}
	if err := s.Set("front/red", 1); !errors.Is(err, ErrDown) {
		t.Fatalf("a light into the void gave %v", err)
	}
	f = listenFar(t, path)
	f.accept()
	got := make(map[string]int)
	first := f.hear()
	got[first.Out] = first.V
	for len(got) < 3 {
		l := f.hear()
		got[l.Out] = l.V
	}
	if first.Out != "front/lock" || got["front/lock"] != 0 || got["front/green"] != 1 || got["front/red"] != 1 {
		t.Errorf("after the reconnect the board was told %v, first %+v", got, first)
	}
}

func TestAHostileBoardIsHungUpOn(t *testing.T) {
	for name, text := range map[string]string{
		"endless line":     strings.Repeat("x", 4*MaxLineBytes),
		"not JSON":         "hello\n",
		"output as input":  `{"t":1,"in":"front/lock","v":1}` + "\n",
		"negative level":   `{"t":1,"in":"front/contact","v":-4}` + "\n",
		"too many signals": manySignals(MaxSignals + 1),
	} {
		t.Run(name, func(t *testing.T) {
			f := listenFar(t, socketPath(t))
			openSocket(t, f.path)
			f.accept()
			f.conn.Write([]byte(text)) // fails half way when the client hangs up early: as it should
			f.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			l, err := f.in.Next()
			var late net.Error
			if err == nil || errors.As(err, &late) && late.Timeout() {
				t.Fatalf("the client stayed: it said %+v, %v", l, err)
			}
			f.accept() // and it tries again
		})
	}
}

func manySignals(n int) string {
	var b []byte
	for i := range n {
		b = AppendLine(b, Line{T: 1, In: "d" + string(rune('a'+i/26)) + string(rune('a'+i%26)) + "/contact", V: 1})
	}
	return string(b)
}

func TestABoardThatDoesNotReadDoesNotHoldADoorUp(t *testing.T) {
	f := listenFar(t, socketPath(t))
	s := openSocket(t, f.path)
	f.accept()
	awaitErr(t, s, false)
	for i := range 1_000_000 {
		start := time.Now()
		err := s.Set("front/buzzer", i%2)
		if took := time.Since(start); took > 50*writeTimeout { // a hang, not a slow machine
			t.Fatalf("setting an output took %v", took)
		}
		if err != nil {
			if !errors.Is(err, ErrDown) {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("a board that never read took everything")
}

func TestWrongOutputsAreRefused(t *testing.T) {
	f := listenFar(t, socketPath(t))
	s := openSocket(t, f.path)
	f.accept()
	awaitErr(t, s, false)
	for name, set := range map[string]struct {
		signal string
		v      int
	}{
		"an input":   {"front/contact", 1},
		"a bad name": {"front lock", 1},
		"negative":   {"front/lock", -1},
		"too large":  {"front/buzzer", MaxValue + 1},
	} {
		if err := s.Set(set.signal, set.v); err == nil || errors.Is(err, ErrDown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenSocket(strings.Repeat("p", maxSocketPathBytes+1)); err == nil {
		t.Error("a path no socket can have was taken")
	}
}

func TestCloseRelocksAndLeavesNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	f := listenFar(t, socketPath(t))
	s := openSocket(t, f.path)
	f.accept()
	awaitErr(t, s, false)
	if err := s.Set("front/lock", 1); err != nil {
		t.Fatal(err)
	}
	f.hear()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if l := f.hear(); l.Out != "front/lock" || l.V != 0 {
		t.Errorf("at close the board heard %+v", l)
	}
	for range s.Inputs() {
	}
	if err := s.Set("front/lock", 1); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed board was set: %v", err)
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}
