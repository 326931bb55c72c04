package board

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/host/v3"
)

// Timing of real pins.
const (
	DefaultDebounce = 15 * time.Millisecond // contacts and buttons bounce for 1 to 10 ms
	maxDebounce     = time.Second
	// edgeWait bounds one wait for an edge. Never -1: periph host v3.8.5 (gpioioctl) takes a
	// negative timeout for a deadline in the past, returns at once and burns a core. The wait also
	// heals a missed edge, because the level is read after each.
	edgeWait = 250 * time.Millisecond
	// edgePause paces the loop where the pin's own wait does not: a line that reports edges
	// without end, or one whose wait fails at once (device gone).
	edgePause = 2 * time.Millisecond
	// edgePoll is the pace at which a pin without working edges is read instead.
	edgePoll = 20 * time.Millisecond
	// settleLimit ends the wait for a level to settle on a line that never does, in debounces.
	settleLimit = 8
)

// Pull names a pin's resistor.
type Pull string

// The pulls of a pin; the empty string leaves the pin as the boot configuration set it.
const (
	PullKeep  Pull = ""
	PullUp    Pull = "up"
	PullDown  Pull = "down"
	PullFloat Pull = "float"
)

// Pin says which GPIO carries a signal, and how.
type Pin struct {
	Name      string        // as the host knows it: "GPIO17"
	ActiveLow bool          // true: a low level means 1
	Pull      Pull          // inputs only
	Debounce  time.Duration // inputs only; 0 means DefaultDebounce
	Tone      bool          // outputs only: the value is a pitch for a passive buzzer (PWM)
}

// GPIO is a board of real pins. An input's direction follows from its signal (IsInput).
type GPIO struct {
	mail *mailbox
	quit chan struct{}
	wg   sync.WaitGroup

	mu     sync.Mutex
	outs   map[string]output
	ins    []input
	closed bool
}

type output struct {
	spec Pin
	pin  gpio.PinIO
}

type input struct {
	signal string
	spec   Pin
	pin    gpio.PinIO
}

var _ Board = (*GPIO)(nil)

// OpenGPIO opens the pins of the machine it runs on.
func OpenGPIO(pins map[string]Pin) (*GPIO, error) {
	if _, err := host.Init(); err != nil {
		return nil, fmt.Errorf("opening pins: loading the host's drivers: %w", err)
	}
	return OpenPins(pins, gpioreg.ByName)
}

// OpenPins opens pins that find knows by name. Locks are set inactive before anything else is
// touched, so that a mistake in the rest of the configuration leaves every door locked.
func OpenPins(pins map[string]Pin, find func(name string) gpio.PinIO) (*GPIO, error) {
	if err := checkPins(pins); err != nil {
		return nil, fmt.Errorf("opening pins: %w", err)
	}
	g := &GPIO{quit: make(chan struct{}), outs: make(map[string]output)}
	var problems []error
	for _, pass := range []func(signal string) bool{
		IsLock,
		func(s string) bool { return !IsLock(s) && !IsInput(s) },
		IsInput,
	} {
		for signal, spec := range pins {
			if !pass(signal) {
				continue
			}
			if err := g.open(signal, spec, find(spec.Name)); err != nil {
				problems = append(problems, fmt.Errorf("opening pin %s for %s: %w", spec.Name, signal, err))
			}
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	g.mail = newMailbox()
	for _, in := range g.ins {
		g.wg.Add(1)
		go g.watch(in)
	}
	return g, nil
}

func checkPins(pins map[string]Pin) error {
	if len(pins) > MaxSignals {
		return fmt.Errorf("%d signals, at most %d fit on a board", len(pins), MaxSignals)
	}
	users := make(map[string]string, len(pins))
	for signal, spec := range pins {
		if err := CheckSignal(signal); err != nil {
			return err
		}
		if spec.Name == "" {
			return fmt.Errorf("%s has no pin name", signal)
		}
		key := strings.ToUpper(spec.Name)
		if other, taken := users[key]; taken {
			return fmt.Errorf("pin %s serves both %s and %s", spec.Name, min(signal, other), max(signal, other))
		}
		users[key] = signal
		if spec.Debounce < 0 || spec.Debounce > maxDebounce {
			return fmt.Errorf("%s: debounce %v, want 0 to %v", signal, spec.Debounce, maxDebounce)
		}
		if _, err := spec.Pull.gpio(); err != nil {
			return fmt.Errorf("%s: %w", signal, err)
		}
		if spec.Tone && (IsInput(signal) || IsLock(signal)) {
			return fmt.Errorf("%s: only a buzzer plays tones", signal)
		}
	}
	return nil
}

func (p Pull) gpio() (gpio.Pull, error) {
	switch p {
	case PullKeep:
		return gpio.PullNoChange, nil
	case PullUp:
		return gpio.PullUp, nil
	case PullDown:
		return gpio.PullDown, nil
	case PullFloat:
		return gpio.Float, nil
	}
	return 0, fmt.Errorf("pull %q: want up, down, float or nothing", string(p))
}

func (g *GPIO) open(signal string, spec Pin, pin gpio.PinIO) error {
	if pin == nil {
		return errors.New("the host has no pin of that name")
	}
	if !IsInput(signal) {
		out := output{spec, pin}
		if err := out.set(0); err != nil {
			return err
		}
		g.outs[signal] = out
		return nil
	}
	if spec.Debounce == 0 {
		spec.Debounce = DefaultDebounce
	}
	pull, err := spec.Pull.gpio()
	if err != nil {
		return err
	}
	if err := pin.In(pull, gpio.BothEdges); err != nil {
		return err
	}
	g.ins = append(g.ins, input{signal, spec, pin})
	return nil
}

// set drives one pin. A passive buzzer is played by PWM where the pin can; where it cannot, the
// level alone still tells an active buzzer to sound.
func (o output) set(v int) error {
	if o.spec.Tone && v > 0 {
		if err := o.pin.PWM(gpio.DutyHalf, physic.Frequency(v)*physic.Hertz); err == nil {
			return nil
		}
	}
	return o.pin.Out(gpio.Level((v > 0) != o.spec.ActiveLow))
}

// Inputs implements Board.
func (g *GPIO) Inputs() <-chan Change { return g.mail.out }

// Err is always nil: a pin that fails says so in Set.
func (g *GPIO) Err() error { return nil }

// Set implements Board.
func (g *GPIO) Set(signal string, v int) error {
	if err := CheckValue(v); err != nil {
		return fmt.Errorf("setting pin of %s: %w", signal, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("setting pin of %s: %w", signal, ErrClosed)
	}
	out, ok := g.outs[signal]
	if !ok {
		return fmt.Errorf("setting pin of %s: %w", signal, ErrUnknown)
	}
	if err := out.set(v); err != nil {
		return fmt.Errorf("setting pin %s of %s: %w", out.spec.Name, signal, err)
	}
	return nil
}

// Close sets every output inactive, locks first, and ends the listeners within edgeWait.
func (g *GPIO) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	var problems []error
	for _, locks := range []bool{true, false} {
		for signal, out := range g.outs {
			if IsLock(signal) != locks {
				continue
			}
			if err := out.set(0); err != nil {
				problems = append(problems, fmt.Errorf("closing pin %s of %s: %w", out.spec.Name, signal, err))
			}
		}
	}
	g.mu.Unlock()
	close(g.quit)
	g.wg.Wait()
	g.mail.close()
	return errors.Join(problems...)
}

// level reads an input as its signal's value.
func (in input) level() int {
	if bool(in.pin.Read()) != in.spec.ActiveLow {
		return 1
	}
	return 0
}

// watch owns one input pin. The first level is reported at once; a later one when it has held
// still for the debounce time, or after settleLimit debounces on a line that never holds still.
func (g *GPIO) watch(in input) {
	defer g.wg.Done()
	known := in.level()
	g.mail.put(Change{Signal: in.signal, Value: known, At: Now()})
	for {
		if g.pausedOut(in.pin.WaitForEdge, edgeWait) {
			return
		}
		if in.level() == known {
			continue
		}
		if g.settle(in) {
			return
		}
		if v := in.level(); v != known {
			known = v
			g.mail.put(Change{Signal: in.signal, Value: v, At: Now()})
		}
	}
}

// settle waits until no edge came for the debounce time, true if the board closed meanwhile.
func (g *GPIO) settle(in input) (closed bool) {
	until := time.Now().Add(settleLimit * in.spec.Debounce)
	quiet := time.Now()
	for last := in.level(); ; {
		now := time.Now()
		if now.Sub(quiet) >= in.spec.Debounce || now.After(until) {
			return false
		}
		if g.pausedOut(in.pin.WaitForEdge, in.spec.Debounce-now.Sub(quiet)) {
			return true
		}
		if v := in.level(); v != last {
			last, quiet = v, time.Now()
		}
	}
}

// pausedOut waits for an edge at most d and at least edgePause, whatever the pin's driver does,
// and tells whether the board closed.
func (g *GPIO) pausedOut(wait func(time.Duration) bool, d time.Duration) (closed bool) {
	start := time.Now()
	d = max(d, edgePause)
	edge, least := wait(d), edgePause
	if !edge && time.Since(start) < d/2 {
		least = min(edgePoll, d) // the wait failed
	}
	rest := max(least-time.Since(start), 0)
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-g.quit:
		return true
	case <-timer.C:
		// Both may be ready; closing must win or Close waits one more round.
		select {
		case <-g.quit:
			return true
		default:
			return false
		}
	}
}
