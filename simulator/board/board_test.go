package board

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	wire "kith/edge/board"
)

func listen(t *testing.T) *Board {
	t.Helper()
	b, err := Listen(filepath.Join(t.TempDir(), "board"), append(Door("front"), "tamper")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func connect(t *testing.T, b *Board) *wire.Socket {
	t.Helper()
	s, err := wire.OpenSocket(b.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for range 500 {
		if s.Err() == nil {
			return s
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal(s.Err())
	return nil
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func await(t *testing.T, b *Board, signal string, v int) {
	t.Helper()
	if _, err := b.Await(soon(t), signal, v); err != nil {
		t.Fatal(err)
	}
}

// Any program that can read a Unix socket sees how long the lock was released.
func TestAWatcherOnTheSocketSeesTheLocksPulse(t *testing.T) {
	b := listen(t)
	edge := connect(t, b)
	conn, err := net.Dial("unix", b.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	lines := wire.NewLineReader(conn)
	for range 4 { // the present levels
		if l, err := lines.Next(); err != nil || l.In == "" || l.V != 0 {
			t.Fatalf("present level %+v, %v", l, err)
		}
	}
	const pulse = 50 * time.Millisecond
	if err := edge.Set("front/lock", 1); err != nil {
		t.Fatal(err)
	}
	time.Sleep(pulse)
	if err := edge.Set("front/lock", 0); err != nil {
		t.Fatal(err)
	}
	up, err := lines.Next()
	if err != nil || up.Out != "front/lock" || up.V != 1 {
		t.Fatalf("saw %+v, %v", up, err)
	}
	down, err := lines.Next()
	if err != nil || down.Out != "front/lock" || down.V != 0 {
		t.Fatalf("saw %+v, %v", down, err)
	}
	if seen := down.T - up.T; seen < pulse/2 || seen > 20*pulse {
		t.Errorf("the pulse was %v, want about %v", seen, pulse)
	}
}

func TestALockDropsWithTheConnectionThatReleasedIt(t *testing.T) {
	b := listen(t)
	conn, err := net.Dial("unix", b.Path())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, `{"t":1,"out":"front/lock","v":1}`+"\n"+`{"t":1,"out":"front/green","v":1}`+"\n")
	await(t, b, "front/green", 1)
	await(t, b, "front/lock", 1)
	conn.Close() // the process died
	await(t, b, "front/lock", 0)
	if b.Get("front/green") != 1 {
		t.Error("a light went out with the process; it stays as the pin does")
	}
}

func TestASecondDriverIsTurnedAwayUntilTheFirstLeaves(t *testing.T) {
	b := listen(t)
	first := connect(t, b)
	if err := first.Set("front/lock", 0); err != nil {
		t.Fatal(err)
	}
	await(t, b, "front/lock", 0)
	time.Sleep(20 * time.Millisecond)
	conn, err := net.Dial("unix", b.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, `{"t":1,"out":"front/lock","v":1}`+"\n")
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil && os.IsTimeout(err) {
		t.Fatal("the second driver was not turned away")
	}
	if b.Get("front/lock") != 0 {
		t.Fatal("two edges drive one lock")
	}
	first.Close()
	second := connect(t, b)
	for range 100 {
		if err := second.Set("front/lock", 1); err == nil && b.Get("front/lock") == 1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("nobody may drive the lock any more")
}

func TestAPushedDoorOpensWhenReleasedAndFallsShut(t *testing.T) {
	b := listen(t)
	edge := connect(t, b)
	if err := b.Lean("front", Push{Open: 10 * time.Millisecond, Close: 30 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	w := b.Watch()
	defer w.Stop()
	if err := edge.Set("front/lock", 1); err != nil {
		t.Fatal(err)
	}
	up, err := w.Await(soon(t), "front/contact", 1)
	if err != nil {
		t.Fatal(err)
	}
	down, err := w.Await(soon(t), "front/contact", 0)
	if err != nil {
		t.Fatal(err)
	}
	if down.At <= up.At {
		t.Errorf("closed at %v, opened at %v", down.At, up.At)
	}
	// Relocked before the push got through: the door stays shut.
	if err := b.Lean("front", Push{Open: 100 * time.Millisecond, Close: time.Second}); err != nil {
		t.Fatal(err)
	}
	edge.Set("front/lock", 0)
	edge.Set("front/lock", 1)
	edge.Set("front/lock", 0)
	time.Sleep(150 * time.Millisecond)
	if b.Get("front/contact") != 0 {
		t.Error("a locked door opened")
	}
}

func TestAWatcherThatDoesNotReadIsCutOffAndNobodyWaits(t *testing.T) {
	b := listen(t)
	lazy, err := net.Dial("unix", b.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer lazy.Close()
	w := b.Watch()
	start := time.Now()
	for i := range 50_000 {
		if err := b.Set("front/contact", (i+1)%2); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("50,000 changes took %v behind a watcher that sleeps", took)
	}
	n := 0
	for range w.C {
		n++
	}
	if n > watchBuffer {
		t.Errorf("%d changes were kept for a sleeping watch", n)
	}
	for range 200 {
		b.mu.Lock()
		clients := len(b.clients)
		b.mu.Unlock()
		if clients == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the sleeping client is still connected")
}

func TestHostileClientsAreHungUpOn(t *testing.T) {
	b := listen(t)
	for name, text := range map[string]string{
		"endless line":    strings.Repeat("x", 4*wire.MaxLineBytes),
		"not JSON":        "open sesame\n",
		"input as output": `{"t":1,"out":"front/contact","v":1}` + "\n",
		"plays the board": `{"t":1,"in":"front/contact","v":1}` + "\n",
	} {
		conn, err := net.Dial("unix", b.Path())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, text)
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil && os.IsTimeout(err) {
			t.Errorf("%s: the client stayed", name)
		}
		conn.Close()
	}
	if b.Get("front/contact") != 0 {
		t.Error("a client moved an input")
	}
}

func TestASocketLeftByACrashIsReplacedAndNothingElseIs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "board")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Fatal("a living board was replaced")
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	b, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	plain := filepath.Join(dir, "notes")
	if err := os.WriteFile(plain, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(plain); err == nil {
		t.Fatal("a file was replaced by a socket")
	}
	if kept, _ := os.ReadFile(plain); string(kept) != "keep" {
		t.Error("the file is gone")
	}
}

// syncBuffer is a writer two goroutines may share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestTheCommandMovesInputsAndPrintsEveryChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "board")
	var out syncBuffer
	stdin := strings.NewReader("contact open\nexit press back\nfire on\ntamper open\nnonsense now\nquit\n")
	code := Command(soon(t), []string{"--socket", path, "--door", "front", "--door", "back", "--json"}, stdin, &out, io.Discard)
	if code != exitOK {
		t.Fatalf("exit %d\n%s", code, out.String())
	}
	if !strings.HasPrefix(out.String(), `{"socket":`) || !strings.Contains(out.String(), `{"error":"unknown command \"nonsense now\""}`) {
		t.Errorf("printed\n%s", out.String())
	}
	for line := range strings.Lines(out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("with --json, a line is %q", line)
		}
	}
	var plain syncBuffer
	if code := Command(soon(t), []string{"--socket", path}, strings.NewReader("nonsense now\nquit\n"), &plain, io.Discard); code != exitOK ||
		!strings.Contains(plain.String(), `error unknown command "nonsense now"`) {
		t.Errorf("exit %d, printed\n%s", code, plain.String())
	}
	for _, want := range []string{
		`"in":"front/contact","v":1}`, `"in":"back/exit","v":1}`, `"in":"front/fire","v":1}`, `"in":"tamper","v":1}`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no line with %s in\n%s", want, out.String())
		}
	}
	for _, args := range [][]string{{}, {"--socket", path, "extra"}, {"--no-such"}} {
		if code := Command(t.Context(), args, strings.NewReader(""), io.Discard, io.Discard); code != exitUsage {
			t.Errorf("%v: exit %d, want %d", args, code, exitUsage)
		}
	}
	code = Command(t.Context(), []string{"--socket", path, "--for", "1ms"}, strings.NewReader(""), io.Discard, io.Discard)
	if code != exitOK {
		t.Errorf("a bounded run: exit %d", code)
	}
}

func TestTheCommandShowsAnEdgesLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "board")
	var out syncBuffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		done <- Command(ctx, []string{"--socket", path}, strings.NewReader(""), &out, io.Discard)
	}()
	edge, err := wire.OpenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer edge.Close()
	for range 500 {
		if edge.Set("front/lock", 1) == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for range 500 {
		if strings.Contains(out.String(), " out front/lock 1\n") {
			cancel()
			if code := <-done; code != exitOK {
				t.Errorf("exit %d", code)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	t.Errorf("the lock was not shown:\n%s", out.String())
}
