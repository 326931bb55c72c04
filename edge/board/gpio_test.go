package board

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpiotest"
	"periph.io/x/conn/v3/physic"
)

// bank is a host of fake pins that remembers the order in which outputs were driven.
type bank struct {
	mu    sync.Mutex
	order []string
	pins  map[string]gpio.PinIO
}

func newBank() *bank { return &bank{pins: make(map[string]gpio.PinIO)} }

func (b *bank) find(name string) gpio.PinIO { return b.pins[name] }

type recordingPin struct {
	*gpiotest.Pin
	bank  *bank
	tones bool
}

func (b *bank) pin(name string) *recordingPin {
	p := &recordingPin{Pin: &gpiotest.Pin{N: name, EdgesChan: make(chan gpio.Level, 64)}, bank: b}
	b.pins[name] = p
	return p
}

func (p *recordingPin) Out(l gpio.Level) error {
	p.bank.mu.Lock()
	p.bank.order = append(p.bank.order, fmt.Sprintf("%s=%v", p.N, l))
	p.bank.mu.Unlock()
	return p.Pin.Out(l)
}

func (p *recordingPin) PWM(d gpio.Duty, f physic.Frequency) error {
	if !p.tones {
		return errors.New("no PWM on this pin")
	}
	return p.Pin.PWM(d, f)
}

func (p *recordingPin) level() gpio.Level { return p.Pin.Read() }

func openPins(t *testing.T, b *bank, pins map[string]Pin) *GPIO {
	t.Helper()
	g, err := OpenPins(pins, b.find)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func next(t *testing.T, b Board) Change {
	t.Helper()
	select {
	case c, ok := <-b.Inputs():
		if !ok {
			t.Fatal("inputs ended")
		}
		return c
	case <-time.After(5 * time.Second):
		t.Fatal("no change came")
	}
	return Change{}
}

func TestALockIsInactiveAtOpenAndAtClose(t *testing.T) {
	for _, activeLow := range []bool{false, true} {
		t.Run(fmt.Sprintf("active low %v", activeLow), func(t *testing.T) {
			b := newBank()
			lock := b.pin("GPIO17")
			released := gpio.Level(!activeLow)
			lock.L = released // as a crashed process may have left it
			g := openPins(t, b, map[string]Pin{"front/lock": {Name: "GPIO17", ActiveLow: activeLow}})
			if lock.level() == released {
				t.Fatal("the lock is released after open")
			}
			if err := g.Set("front/lock", 1); err != nil || lock.level() != released {
				t.Fatalf("the lock did not release: %v", err)
			}
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
			if lock.level() == released {
				t.Fatal("the lock is released after close")
			}
			if err := g.Set("front/lock", 1); !errors.Is(err, ErrClosed) {
				t.Errorf("a closed board released a lock: %v", err)
			}
		})
	}
}

func TestLocksGoInactiveBeforeAMistakeElsewhereIsFound(t *testing.T) {
	b := newBank()
	lock := b.pin("GPIO17")
	lock.L = gpio.High
	_, err := OpenPins(map[string]Pin{
		"front/lock":    {Name: "GPIO17"},
		"front/contact": {Name: "GPIO99"},
		"front/green":   {Name: "GPIO98"},
	}, b.find)
	if err == nil {
		t.Fatal("pins that do not exist were opened")
	}
	if lock.level() != gpio.Low {
		t.Error("the lock stayed released")
	}
}

func TestWrongPinsAreRefused(t *testing.T) {
	b := newBank()
	b.pin("GPIO1")
	many := make(map[string]Pin)
	for i := range MaxSignals + 1 {
		many[fmt.Sprintf("d%d/lock", i)] = Pin{Name: fmt.Sprintf("GPIO%d", i)}
	}
	for name, pins := range map[string]map[string]Pin{
		"no name":       {"front/lock": {}},
		"bad signal":    {"Front/lock": {Name: "GPIO1"}},
		"shared pin":    {"front/lock": {Name: "GPIO1"}, "back/lock": {Name: "gpio1"}},
		"bad pull":      {"front/exit": {Name: "GPIO1", Pull: "sideways"}},
		"long debounce": {"front/exit": {Name: "GPIO1", Debounce: time.Minute}},
		"musical lock":  {"front/lock": {Name: "GPIO1", Tone: true}},
		"too many":      many,
	} {
		if g, err := OpenPins(maps.Clone(pins), b.find); err == nil {
			g.Close()
			t.Errorf("%s: opened", name)
		}
	}
}

func TestAnInputIsReportedInItsOwnSense(t *testing.T) {
	b := newBank()
	exit := b.pin("GPIO22")
	g := openPins(t, b, map[string]Pin{"front/exit": {Name: "GPIO22", ActiveLow: true, Pull: PullUp, Debounce: 5 * time.Millisecond}})
	if c := next(t, g); c != (Change{"front/exit", 0, c.At}) {
		t.Fatalf("first level %+v, want released", c)
	}
	exit.EdgesChan <- gpio.Low
	c := next(t, g)
	if c.Signal != "front/exit" || c.Value != 1 {
		t.Fatalf("pressing gave %+v", c)
	}
	if since := Now() - c.At; since < 0 || since > time.Second {
		t.Errorf("the change is stamped %v ago", since)
	}
}

func TestABouncingContactIsOneChange(t *testing.T) {
	b := newBank()
	contact := b.pin("GPIO27")
	g := openPins(t, b, map[string]Pin{"front/contact": {Name: "GPIO27", Debounce: 20 * time.Millisecond}})
	next(t, g)
	for range 5 { // ends high
		contact.EdgesChan <- gpio.High
		contact.EdgesChan <- gpio.Low
	}
	contact.EdgesChan <- gpio.High
	if c := next(t, g); c.Value != 1 {
		t.Fatalf("bounce gave %+v", c)
	}
	select {
	case c := <-g.Inputs():
		t.Fatalf("the bounce was reported as well: %+v", c)
	case <-time.After(100 * time.Millisecond):
	}
}

func TestALineThatNeverSettlesIsStillReported(t *testing.T) {
	b := newBank()
	p := &flapping{Pin: &gpiotest.Pin{N: "GPIO27"}}
	b.pins["GPIO27"] = p
	g := openPins(t, b, map[string]Pin{"front/contact": {Name: "GPIO27", Debounce: 10 * time.Millisecond}})
	next(t, g)
	p.flap.Store(true)
	next(t, g) // must come, whatever it says, though no debounce time passes without an edge
}

// flapping reports an edge at every wait and another level at every read.
type flapping struct {
	*gpiotest.Pin
	flap  atomic.Bool
	reads atomic.Int64
	waits atomic.Int64
}

func (p *flapping) In(gpio.Pull, gpio.Edge) error { return nil }

func (p *flapping) Read() gpio.Level {
	n := p.reads.Add(1)
	return gpio.Level(p.flap.Load() && n%3 == 0)
}

func (p *flapping) WaitForEdge(time.Duration) bool {
	p.waits.Add(1)
	return true
}

// brokenWait is periph host v3.8.5 (gpioioctl) given -1, or any line whose device is gone: the
// wait fails at once. It also remembers the longest and the smallest wait it was asked for.
type brokenWait struct {
	*gpiotest.Pin
	waits    atomic.Int64
	negative atomic.Bool
}

func (p *brokenWait) In(gpio.Pull, gpio.Edge) error { return nil }

func (p *brokenWait) WaitForEdge(d time.Duration) bool {
	p.waits.Add(1)
	if d <= 0 || d > edgeWait {
		p.negative.Store(true)
	}
	return false
}

func TestALoopOverABrokenWaitDoesNotSpin(t *testing.T) {
	const watch = 200 * time.Millisecond
	for name, pin := range map[string]interface {
		gpio.PinIO
	}{
		"wait fails at once":   &brokenWait{Pin: &gpiotest.Pin{N: "GPIO4"}},
		"edges without an end": &flapping{Pin: &gpiotest.Pin{N: "GPIO4"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank()
			b.pins["GPIO4"] = pin
			g := openPins(t, b, map[string]Pin{"front/contact": {Name: "GPIO4"}})
			next(t, g)
			time.Sleep(watch)
			var waits int64
			switch p := pin.(type) {
			case *brokenWait:
				waits = p.waits.Load()
				if p.negative.Load() {
					t.Error("a wait without a finite bound was asked for")
				}
			case *flapping:
				waits = p.waits.Load()
			}
			if most := int64(watch/edgePause) * 3 / 2; waits > most {
				t.Errorf("%d waits in %v, at most %d keep the core free", waits, watch, most)
			}
		})
	}
}

func TestAMissedEdgeHeals(t *testing.T) {
	b := newBank()
	contact := b.pin("GPIO27")
	g := openPins(t, b, map[string]Pin{"front/contact": {Name: "GPIO27"}})
	next(t, g)
	contact.Lock()
	contact.L = gpio.High // no edge is told
	contact.Unlock()
	if c := next(t, g); c.Value != 1 {
		t.Fatalf("got %+v", c)
	}
}

func TestABuzzerPlaysWhereThePinCanAndSoundsWhereItCannot(t *testing.T) {
	for _, tones := range []bool{true, false} {
		b := newBank()
		p := b.pin("GPIO12")
		p.tones = tones
		g := openPins(t, b, map[string]Pin{"door/buzzer": {Name: "GPIO12", Tone: true}})
		if err := g.Set("door/buzzer", 880); err != nil {
			t.Fatal(err)
		}
		if tones && p.F != 880*physic.Hertz {
			t.Errorf("the buzzer plays %v", p.F)
		}
		if !tones && p.level() != gpio.High {
			t.Error("the buzzer is silent")
		}
		if err := g.Set("door/buzzer", 0); err != nil || p.level() != gpio.Low {
			t.Errorf("the buzzer goes on: %v", err)
		}
	}
}

func TestCloseEndsTheListenersInTime(t *testing.T) {
	before := runtime.NumGoroutine()
	b := newBank()
	pins := make(map[string]Pin)
	for i := range 16 {
		name := fmt.Sprintf("GPIO%d", i)
		b.pin(name)
		pins[fmt.Sprintf("d%d/contact", i)] = Pin{Name: name}
	}
	g := openPins(t, b, pins)
	start := time.Now()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 8*edgeWait { // one after the other they would need 16
		t.Errorf("closing took %v", took)
	}
	for range g.Inputs() {
	}
	for range 50 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}
