package pn532

import (
	"context"
	"errors"
	"fmt"
	"time"

	"periph.io/x/conn/v3/gpio"
)

// Transport carries frames between the host and one chip. It is used by one goroutine. Every error but ErrTimeout, ErrNoise
// and the end of ctx means the transport is broken for good and has to be opened again.
type Transport interface {
	// Reset restarts the chip where a reset pin is wired, and does nothing elsewhere.
	Reset() error
	// Wake rouses a chip that sleeps (a fresh or powered-down one).
	Wake() error
	// Send writes one whole frame in bounded time.
	Send(frame []byte) error
	// Receive reads the next frame of any kind. expect is how many payload bytes (TFI included) the reply probably has, 0
	// for an ACK: buses that must say in advance how much they read go by it. It gives ErrTimeout at the deadline, ErrNoise
	// after maxNoise bytes that belong to no frame, and ctx.Err() soon after ctx ends.
	Receive(ctx context.Context, deadline time.Time, expect int) (Frame, error)
	// Flush throws away what was received and not read.
	Flush() error
	// Close releases the bus. It ends the use of the transport.
	Close() error
}

const (
	// maxNoise bounds the bytes between two frames that belong to neither, in bytes. A chip sends none; a broken line does.
	maxNoise = 1024
	// cancelSlice bounds how long a wait does not see that ctx ended.
	cancelSlice = 100 * time.Millisecond
)

var (
	// ErrTimeout says that no frame came in time.
	ErrTimeout = errors.New("no frame in time")
	// ErrNoise says that the line carries bytes, but no frames.
	ErrNoise = errors.New("only noise on the line")
)

const (
	// resetLow is how long RSTPDN is held low; the data sheet asks for 20 ns, wires and levels for more.
	resetLow = time.Millisecond
	// resetBoot is the chip's time from reset to listening (2 ms by the data sheet, table 38), with reserve.
	resetBoot = 5 * time.Millisecond
)

// pulseReset restarts the chip through its RSTPDN pin. It runs only when a reader is opened, never during a tap.
func pulseReset(pin gpio.PinOut) error {
	if pin == nil {
		return nil
	}
	if err := pin.Out(gpio.Low); err != nil {
		return fmt.Errorf("pulling RSTPDN %s low: %w", pin, err)
	}
	time.Sleep(resetLow)
	if err := pin.Out(gpio.High); err != nil {
		return fmt.Errorf("letting RSTPDN %s go: %w", pin, err)
	}
	time.Sleep(resetBoot)
	return nil
}
