package pn532

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.bug.st/serial"
	"periph.io/x/conn/v3/gpio"
)

const (
	// hsuBaud is the chip's rate after reset (UM0701-02 section 6.2.2).
	hsuBaud = 115200
	// hsuWriteMax bounds one write. The longest frame takes 24 ms at 115200 baud; a line that takes nothing for this long
	// has a dead driver or nobody at its other end.
	hsuWriteMax = 500 * time.Millisecond
	// hsuBuffer is the read buffer in bytes: the longest frame and noise around it.
	hsuBuffer = 2 * frameMax
)

// hsuWake is 55 55 and zeros, which give the chip's oscillator its time to start (UM0701-02 section 7.2.11).
var hsuWake = [16]byte{0x55, 0x55}

// HSUOptions are what a serial reader may need beyond its device path.
type HSUOptions struct {
	Reset gpio.PinOut // RSTPDN, nil if not wired
}

// port is the part of a serial port that HSU uses. Read gives 0 bytes and no error at its timeout.
type port interface {
	io.ReadWriteCloser
	SetReadTimeout(time.Duration) error
	ResetInputBuffer() error
	SetMode(*serial.Mode) error
}

// HSU is the high-speed UART transport.
type HSU struct {
	port  port
	path  string
	reset gpio.PinOut

	buf   [hsuBuffer]byte
	at, n int // buf[at:n] is received and not read
	timer *time.Timer
	out   chan []byte // to the writer; one frame
	sent  chan error  // from the writer; one result
	stuck error
}

// OpenHSU opens the serial device at path at the chip's start-up rate. Whatever lay in its buffers, in either direction,
// belongs to another conversation and is dropped.
func OpenHSU(path string, opts HSUOptions) (*HSU, error) {
	p, err := serial.Open(path, &serial.Mode{BaudRate: hsuBaud})
	if err != nil {
		return nil, fmt.Errorf("opening reader %s (is it plugged in, and free of a console?): %w", path, err)
	}
	if err := errors.Join(p.ResetInputBuffer(), p.ResetOutputBuffer(), probe(p)); err != nil {
		return nil, fmt.Errorf("opening reader %s: %w", path, errors.Join(err, p.Close()))
	}
	return newHSU(p, path, opts), nil
}

// probe reads without waiting. The serial module waits with select(2), which cannot hold a descriptor above 1023 and makes
// the module panic there; a process with that many files open learns it here as an error and not in the middle of a tap.
func probe(p port) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("too many files are open in this process for its serial ports: %v", r)
		}
	}()
	if err := p.SetReadTimeout(0); err != nil {
		return err
	}
	var b [1]byte
	_, err = p.Read(b[:])
	return err
}

func newHSU(p port, path string, opts HSUOptions) *HSU {
	h := &HSU{port: p, path: path, reset: opts.Reset, timer: time.NewTimer(time.Hour), out: make(chan []byte, 1), sent: make(chan error, 1)}
	h.timer.Stop()
	go write(p, h.out, h.sent)
	return h
}

// write is the writer. A write to a terminal whose other end takes nothing cannot be interrupted, so it has its own
// goroutine; if it hangs, the transport is given up and the goroutine ends when the line does.
func write(w io.Writer, out <-chan []byte, sent chan<- error) {
	for frame := range out {
		for len(frame) > 0 {
			n, err := w.Write(frame)
			if err != nil {
				sent <- err
				return
			}
			frame = frame[n:]
		}
		sent <- nil
	}
}

// String names the device.
func (h *HSU) String() string { return h.path }

// Reset pulses RSTPDN; the chip is then back at its start-up rate.
func (h *HSU) Reset() error { return pulseReset(h.reset) }

// Wake sends the preamble.
func (h *HSU) Wake() error { return h.Send(hsuWake[:]) }

// SetRate changes the host's side of the line to baud.
func (h *HSU) SetRate(baud int) error {
	if err := h.port.SetMode(&serial.Mode{BaudRate: baud}); err != nil {
		return fmt.Errorf("setting %s to %d baud: %w", h.path, baud, err)
	}
	return nil
}

// Send writes one frame within hsuWriteMax.
func (h *HSU) Send(frame []byte) error {
	if h.stuck != nil {
		return h.stuck
	}
	h.out <- append(make([]byte, 0, len(frame)), frame...) // the writer may hold it after we gave up
	h.timer.Reset(hsuWriteMax)
	defer h.timer.Stop()
	select {
	case err := <-h.sent:
		if err != nil {
			h.stuck = fmt.Errorf("writing to %s: %w", h.path, err)
		}
	case <-h.timer.C:
		h.stuck = fmt.Errorf("writing to %s: the line took nothing for %v", h.path, hsuWriteMax)
	}
	return h.stuck
}

// Receive reads the next frame. It blocks in the kernel, not in a sleep: the first byte wakes it.
func (h *HSU) Receive(ctx context.Context, deadline time.Time, _ int) (Frame, error) {
	noise := 0
	for {
		f, used, skipped, n := parseFrame(h.buf[h.at:h.n])
		h.at += used
		noise += skipped
		if n == found {
			return f, nil
		}
		if noise > maxNoise {
			return Frame{}, fmt.Errorf("%s: %d bytes: %w", h.path, noise, ErrNoise)
		}
		h.n = copy(h.buf[:], h.buf[h.at:h.n])
		h.at = 0
		if err := h.fill(ctx, deadline); err != nil {
			return Frame{}, err
		}
	}
}

// fill reads at least one more byte. The buffer always has room: an unfinished frame is shorter than frameMax.
func (h *HSU) fill(ctx context.Context, deadline time.Time) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		wait := time.Until(deadline)
		if wait <= 0 {
			return ErrTimeout
		}
		if err := h.port.SetReadTimeout(min(wait, cancelSlice)); err != nil {
			return fmt.Errorf("setting the read timeout of %s: %w", h.path, err)
		}
		n, err := h.port.Read(h.buf[h.n:])
		h.n += n
		if err != nil {
			return fmt.Errorf("reading from %s: %w", h.path, err)
		}
		if n > 0 {
			return nil
		}
	}
}

// Flush drops what is buffered here and in the kernel.
func (h *HSU) Flush() error {
	h.at, h.n = 0, 0
	if err := h.port.ResetInputBuffer(); err != nil {
		return fmt.Errorf("flushing %s: %w", h.path, err)
	}
	return nil
}

// Close closes the device and ends the writer, unless it hangs in a write: then the kernel ends it with the line.
func (h *HSU) Close() error {
	close(h.out)
	if err := h.port.Close(); err != nil {
		return fmt.Errorf("closing %s: %w", h.path, err)
	}
	return nil
}
