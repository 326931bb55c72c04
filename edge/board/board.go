// Package board owns the pins of one appliance: locks, lights and buzzers it may set, contacts,
// buttons, fire and tamper inputs it listens to. Two boards keep the same promise: Socket speaks
// to a virtual board over a Unix socket, GPIO drives real pins.
//
// It promises that a lock is inactive after Open, after Close and after every lost connection,
// that an input's final level is always delivered, and that neither a slow reader nor a hostile
// board makes it block or grow. It never releases a lock on its own account and never decides
// anything: what a level means is the door's business. After a crash of the process a real pin
// may keep its level (the kernel latches it), so the strike belongs behind a hardware one-shot.
package board

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what a board may be asked to carry.
const (
	MaxSignals   = 64     // distinct signals of one board
	MaxNameBytes = 64     // bytes of one signal name
	MaxValue     = 20_000 // largest value of a signal: a buzzer's pitch in Hz
	queueBound   = 4 * MaxSignals
	inputsBuffer = 16 // changes buffered in the channel itself
	lockSuffix   = "/lock"
)

// Board is the pins of one appliance. Set and Close may be called from any goroutine; Inputs has
// one reader. The channel first carries the present level of every input, then changes only, and
// is closed after Close. A reader that falls behind loses intermediate levels, never the last one.
type Board interface {
	// Set drives an output. An error means the output did not (provably) take the value; the
	// caller decides what that means for the door.
	Set(signal string, v int) error
	Inputs() <-chan Change
	Close() error
}

// Change is the level an input took. At is this machine's monotonic clock when the appliance
// learned of it (never the other side's word: a wrong clock there must not move a door's timers).
type Change struct {
	Signal string
	Value  int
	At     time.Duration
}

// Errors a caller may tell apart.
var (
	ErrDown    = errors.New("board is not reachable")
	ErrUnknown = errors.New("unknown signal")
	ErrClosed  = errors.New("board is closed")
)

// Now reads the clock that stamps every Change and every line of the board protocol
// (CLOCK_MONOTONIC, nanoseconds since boot), so that stamps of several processes compare.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		// The call has no way to fail on Linux (clock_gettime(2)); without a clock no door may run.
		panic("board: reading the monotonic clock: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// IsLock tells whether a signal holds a door shut. Locks alone are never re-released.
func IsLock(signal string) bool { return strings.HasSuffix(signal, lockSuffix) }

// IsInput tells whether a signal is something the board reports (contact, exit, fire, tamper)
// rather than something it is told.
func IsInput(signal string) bool {
	if signal == "tamper" {
		return true
	}
	_, last, ok := strings.Cut(signal, "/")
	return ok && (last == "contact" || last == "exit" || last == "fire" || last == "tamper")
}

// CheckSignal says whether a name is a well-formed signal: `slug` or `slug/slug`, lower case.
func CheckSignal(signal string) error {
	if signal == "" || len(signal) > MaxNameBytes {
		return fmt.Errorf("signal name of %d bytes: want 1 to %d", len(signal), MaxNameBytes)
	}
	start, slashes := true, 0
	for i := range len(signal) {
		c := signal[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			start = false
		case c == '-' && !start:
		case c == '/' && !start && slashes == 0:
			start, slashes = true, slashes+1
		default:
			return fmt.Errorf("signal name %q: want `name` or `name/name` of a-z, 0-9 and -", signal)
		}
	}
	if start {
		return fmt.Errorf("signal name %q ends with a slash", signal)
	}
	return nil
}

// CheckValue says whether a value is one a signal can carry.
func CheckValue(v int) error {
	if v < 0 || v > MaxValue {
		return fmt.Errorf("signal value %d: want 0 to %d", v, MaxValue)
	}
	return nil
}
