package appliance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/configs"
	"kith/internal/event"
)

// said is a log that can be read while it is written.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// shed is a stopped cabin whose file and last good copy can be chosen.
type shed struct {
	*cabin
	log  said
	open func(Reader) (Presenter, error)
}

func newShed(t *testing.T) *shed {
	c := newCabin(t)
	c.stop()
	return &shed{cabin: c, open: func(Reader) (Presenter, error) { return c.hand, nil }}
}

func (s *shed) text(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// has writes the file, and the copy unless that is empty.
func (s *shed) has(t *testing.T, file, copy string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "edge.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if copy == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(s.state(), lastGoodFile), []byte(copy), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *shed) kept(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.state(), lastGoodFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func (s *shed) begin(ctx context.Context) (*Appliance, error) {
	return begin(ctx, place{config: filepath.Join(s.dir, "edge.yaml"), state: s.state()}, Options{StateDir: s.state(), Version: "test",
		Log: slog.New(slog.NewTextHandler(&s.log, nil)), Clock: TrustedClock(), Board: s.pins,
		Reader: func(r Reader) (Presenter, error) { return s.open(r) }})
}

// why is what the health tree says of a part.
func why(a *Appliance, part string) string {
	a.look()
	for _, n := range a.health.tree.Snapshot().Children {
		if n.Name == part {
			return n.Why
		}
	}
	return "no part " + part
}

// Yesterday's program took these wires, and doors ran on them.
func TestAnUpgradeThatMindsIdleWiresLeavesNoDoorDead(t *testing.T) {
	s := newShed(t)
	good := s.text(t)
	gpio := strings.Replace(good, "board: unix:board.sock", "board: gpio", 1)
	if gpio == good {
		t.Fatal("the example has another board")
	}
	for name, c := range map[string]struct{ text, want string }{
		"a wire too many":       {good + "pins: {door/led: {pin: GPIO5}}\n", "door/led"},
		"an input without pin":  {gpio + "pins: {door/lock: {pin: GPIO5}, door/exit: {pin: GPIO6}}\n", "door/contact is missing"},
		"an input of no door":   {gpio + "pins: {door/lock: {pin: GPIO5}, door/exit: {pin: GPIO6}, door/contact: {pin: GPIO7}, door/fire: {pin: GPIO8}}\n", "door/fire moves nothing"},
		"and another edit then": {good + "pins: {door/led: {pin: GPIO5}}\n", "door/led"},
	} {
		t.Run(name, func(t *testing.T) {
			file := c.text
			if strings.HasPrefix(name, "and") {
				file = good + "colour: red\n"
			}
			if _, err := Decode("edge.yaml", []byte(file)); err == nil {
				t.Fatal("the file itself has to be refused")
			}
			s.has(t, file, c.text)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			a, err := s.begin(ctx)
			if err != nil {
				t.Fatalf("nothing runs: %v\n%s", err, &s.log)
			}
			defer a.close()
			if h, all := why(a, "configuration"), a.behind.trouble.Error(); !strings.Contains(h, "last good") || !strings.Contains(all, c.want) {
				t.Errorf("health says %q, of %s", h, all)
			}
			if !strings.Contains(s.log.String(), "wires that move nothing") || !strings.Contains(s.log.String(), c.want) {
				t.Errorf("the log says %s", &s.log)
			}
		})
	}
}

func TestACopyWithoutALockIsRefusedAndTheLogSaysWhy(t *testing.T) {
	s := newShed(t)
	gpio := strings.Replace(s.text(t), "board: unix:board.sock", "board: gpio", 1)
	s.has(t, gpio, gpio+"pins: {door/contact: {pin: GPIO6}, door/led: {pin: GPIO5}}\n")
	_, err := readGood(filepath.Join(s.state(), lastGoodFile), filepath.Join(s.dir, "edge.yaml"))
	if err == nil || !strings.Contains(err.Error(), "door/lock is missing") || !strings.Contains(err.Error(), "door/led") {
		t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := s.begin(ctx); done <- err }()
	for i := 0; !strings.Contains(s.log.String(), "nothing runs"); i++ {
		if i == 3000 {
			t.Fatalf("it never said that nothing runs: %s", &s.log)
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if log := s.log.String(); !strings.Contains(log, "cannot be used either") || !strings.Contains(log, lastGoodFile) || !strings.Contains(log, "door/led") {
		t.Errorf("the log keeps back why the copy is of no use: %s", log)
	}
}

func TestWhatHasNotComeUpYetBringsNoOlderConfigurationBack(t *testing.T) {
	s := newShed(t)
	old := s.text(t)
	newer := strings.Replace(old, "pulse: 5s", "pulse: 6s", 1)
	s.has(t, newer, old)
	tries := 0
	s.open = func(Reader) (Presenter, error) {
		if tries++; tries < openTries {
			return nil, errors.New("line busy")
		}
		return s.hand, nil
	}
	a, err := s.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if a.cfg.Doors[0].Pulse != 6e9 || a.behind != nil || why(a, "configuration") != "" || s.kept(t) != newer {
		t.Errorf("it runs on pulse %v, health %q: %s", a.cfg.Doors[0].Pulse, why(a, "configuration"), &s.log)
	}
}

func TestAnEdgeOnTheLastGoodConfigurationTellsTheHubAndLooksAgain(t *testing.T) {
	s := newShed(t)
	old := s.text(t)
	newer := strings.Replace(old, "pulse: 5s", "pulse: 6s", 1)
	s.has(t, newer, old)
	tries := 0
	s.open = func(Reader) (Presenter, error) {
		if tries++; tries <= openTries {
			return nil, errors.New("line busy")
		}
		return s.hand, nil
	}
	a, err := s.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	a.states["reader"].Store(&readerState{up: true})
	if tries != openTries+1 || a.cfg.Doors[0].Pulse != 5e9 || !strings.Contains(why(a, "configuration"), "line busy") || !a.degraded() {
		t.Fatalf("%d tries, pulse %v, health %q, degraded %v", tries, a.cfg.Doors[0].Pulse, why(a, "configuration"), a.degraded())
	}
	planned := false
	for _, p := range a.plan() {
		planned = planned || p.name == "configuration"
	}
	if !planned {
		t.Error("nobody looks at the file again")
	}
	ticks, done := make(chan time.Time), make(chan struct{})
	go func() { defer close(done); a.watchConfig(t.Context(), ticks) }()
	look := func() { // two: the first has been looked at when the second is taken
		for range 2 {
			select {
			case ticks <- time.Time{}:
			case <-done:
			}
		}
	}
	for _, c := range []struct{ file, want string }{
		{newer, "line busy"},
		{newer + "colour: red\n", "unknown key colour"},
		{strings.Replace(newer, "6s", "7s", 1), "restart the edge"},
	} {
		s.has(t, c.file, "")
		look()
		if h := why(a, "configuration"); !strings.Contains(h, c.want) || !a.degraded() {
			t.Errorf("health says %q, and not %q", h, c.want)
		}
	}
	if !strings.Contains(s.log.String(), "restart the edge") || s.kept(t) != old || tries != openTries+1 {
		t.Errorf("%d tries: %s", tries, &s.log)
	}
	s.has(t, old, "") // the host takes the edit back
	look()
	<-done
	if h := why(a, "configuration"); h != "" || a.degraded() {
		t.Errorf("what runs is in the file, and health says %q", h)
	}
}

func TestAStartThatFailsIsNoPowerCut(t *testing.T) {
	s := newShed(t)
	cfg, err := Load(filepath.Join(s.dir, "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err = Open(t.Context(), cfg, Options{StateDir: s.state(), Version: "test", Clock: TrustedClock(), Board: s.pins,
			Reader: func(Reader) (Presenter, error) { return nil, errors.New("no such port") }}); err == nil {
			t.Fatal("it opened")
		}
	}
	s.start(t)
	boots := s.leaves(t, event.KindBoot)
	if len(boots) != 2 {
		t.Errorf("%d starts are recorded, of 2", len(boots))
	}
	for _, e := range boots {
		l, err := event.Parse(e.Leaf)
		var boot event.Boot
		if err = errors.Join(err, json.Unmarshal(l.Body, &boot)); err != nil || boot.Unclean {
			t.Errorf("a power cut that never was: %s %v", e.Leaf, err)
		}
	}
}

func TestATakenPortKeepsNoDoorShutAndPagesComeHome(t *testing.T) {
	s := newShed(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	want := taken.Addr().String()
	busy := strings.Replace(s.text(t), "listen: 127.0.0.1:0", "listen: "+want, 1)
	for name, copy := range map[string]string{"the file that always ran": busy, "a new file": s.text(t)} {
		t.Run(name, func(t *testing.T) {
			s.has(t, busy, copy)
			a, err := s.begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer a.close()
			a.states["reader"].Store(&readerState{up: true})
			h := why(a, "pages")
			if a.behind != nil || a.Addr() == want || !strings.Contains(h, want) || !strings.Contains(h, a.Addr()) || !a.degraded() {
				t.Errorf("pages are at %s, degraded %v, health says %q", a.Addr(), a.degraded(), h)
			}
			if log := s.log.String(); !strings.Contains(log, "want="+want) || !strings.Contains(log, "at="+a.Addr()) {
				t.Errorf("the log does not name the port: %s", log)
			}
			if s.kept(t) != copy {
				t.Error("a start with pages elsewhere is kept as a good one")
			}
		})
	}
	s.has(t, busy, strings.Replace(busy, "pulse: 5s", "pulse: 6s", 1))
	a, err := s.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	ctx, cancel := context.WithCancel(t.Context())
	ticks, served, home, there := make(chan time.Time), make(chan error, 1), make(chan struct{}), make(chan struct{})
	keep := a.http.home
	a.http.home = func() { keep(); close(there) }
	go func() { served <- a.http.run(ctx) }()
	go func() { defer close(home); a.http.comeHome(ctx, ticks) }()
	for range 2 {
		ticks <- time.Time{}
	}
	if why(a, "pages") == "" || s.kept(t) == busy {
		t.Error("the port is taken, and the pages are there")
	}
	taken.Close()
	select {
	case ticks <- time.Time{}:
	case <-there: // the last look came late enough
	}
	<-there
	for _, addr := range []string{want, a.Addr()} {
		var res *http.Response
		for range 1000 { // until it listens
			if res, err = http.Get("http://" + addr + "/metrics"); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("%s answers %d %v", addr, res.StatusCode, err)
		}
		res.Body.Close()
	}
	if h := why(a, "pages"); h != "" || s.kept(t) != busy {
		t.Errorf("the pages are home, health says %q, and the copy is %s", h, s.kept(t))
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	<-home
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestAFirstStartWantsThePagesWhereTheyShouldBe(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	text := strings.Replace(string(configs.EdgeAlone), "127.0.0.1:8081", taken.Addr().String(), 1)
	for name, b := range map[string]string{"roster.yaml": string(configs.Roster), "edge.yaml": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &cabin{dir: dir, pins: &pins{set: map[string]int{}, level: map[string]int{}}}
	s := &shed{cabin: c, open: func(Reader) (Presenter, error) { return c.hand, nil }}
	if _, err := s.begin(t.Context()); err == nil || !strings.Contains(err.Error(), "opening the pages") || s.kept(t) != "" {
		t.Errorf("%v", err)
	}
}
