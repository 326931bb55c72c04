package pn532

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
)

const (
	// spiMost is the chip's fastest clock (data sheet, table 1: 5 MHz); spiUsual already makes the bus vanish beside the card.
	spiMost  = 5 * physic.MegaHertz
	spiUsual = 2 * physic.MegaHertz
	// The first byte of a transfer says what it is (UM0701-02 section 6.2.5).
	spiWrite  = 0x01
	spiStatus = 0x02
	spiRead   = 0x03
	// spiWakeTime is how long the select line is held to wake the chip.
	spiWakeTime = 2 * time.Millisecond
)

// SPIOptions are how a chip on SPI is wired.
type SPIOptions struct {
	Hz    physic.Frequency // 0 means 2 MHz; at most 5 MHz
	IRQ   gpio.PinIn       // nil: the chip is polled
	Reset gpio.PinOut      // RSTPDN, nil if not wired
}

// SPI is the SPI transport: mode 0, least significant bit first, which a Raspberry Pi cannot do in hardware, so every byte is
// reversed here.
type SPI struct {
	conn  spi.Conn
	port  spi.Port
	reset gpio.PinOut
	wake  int // bytes whose clock takes spiWakeTime
	ready *ready
	w, r  [1 + frameMax]byte
}

// NewSPI connects to a chip on port and takes it over: Close closes it if it can be closed.
func NewSPI(port spi.Port, opts SPIOptions) (*SPI, error) {
	if opts.Hz == 0 {
		opts.Hz = spiUsual
	}
	if opts.Hz < physic.KiloHertz || opts.Hz > spiMost {
		return nil, fmt.Errorf("opening reader on %v: clock of %s, want 1kHz to %s", port, opts.Hz, spiMost)
	}
	conn, err := port.Connect(opts.Hz, spi.Mode0, 8)
	if err != nil {
		return nil, fmt.Errorf("opening reader on %v: %w", port, err)
	}
	bytesIn2ms := int(opts.Hz/physic.Hertz) * int(spiWakeTime/time.Millisecond) / 1000 / 8
	s := &SPI{conn: conn, port: port, reset: opts.Reset, wake: max(1, bytesIn2ms)}
	if s.ready, err = newReady(opts.IRQ, s.status); err != nil {
		return nil, fmt.Errorf("opening reader on %v: %w", port, err)
	}
	return s, nil
}

// String names the bus.
func (s *SPI) String() string { return s.conn.String() }

// Reset pulses RSTPDN.
func (s *SPI) Reset() error { return pulseReset(s.reset) }

// Wake holds the chip selected for spiWakeTime by clocking that long; the zeros are no command.
func (s *SPI) Wake() error {
	if err := s.conn.Tx(make([]byte, s.wake), nil); err != nil {
		return fmt.Errorf("waking the chip on %s: %w", s.conn, err)
	}
	return nil
}

// Send writes one frame.
func (s *SPI) Send(frame []byte) error {
	w := append(s.w[:0], spiWrite)
	w = append(w, frame...)
	reverse(w)
	if err := s.conn.Tx(w, nil); err != nil {
		return fmt.Errorf("writing to %s: %w", s.conn, err)
	}
	return nil
}

// status asks whether a frame waits.
func (s *SPI) status() (bool, error) {
	w, r := s.w[:2], s.r[:2]
	w[0], w[1] = bits.Reverse8(spiStatus), 0
	if err := s.conn.Tx(w, r); err != nil {
		return false, fmt.Errorf("reading the status on %s: %w", s.conn, err)
	}
	b := bits.Reverse8(r[1])
	return b == 0x01, nil // a pulled plug reads FF or 00 and is not ready
}

func (s *SPI) wait(ctx context.Context, deadline time.Time) error { return s.ready.wait(ctx, deadline) }

func (s *SPI) fetch(n int) ([]byte, error) {
	w, r := s.w[:1+n], s.r[:1+n]
	clear(w)
	w[0] = bits.Reverse8(spiRead)
	if err := s.conn.Tx(w, r); err != nil {
		return nil, fmt.Errorf("reading from %s: %w", s.conn, err)
	}
	reverse(r[1:])
	return r[1:], nil
}

// Receive reads the next frame.
func (s *SPI) Receive(ctx context.Context, deadline time.Time, expect int) (Frame, error) {
	return framed(ctx, deadline, expect, s)
}

// Flush does nothing: the bus holds no bytes, and the chip drops a reply when a command comes.
func (s *SPI) Flush() error { return nil }

// Close closes the port.
func (s *SPI) Close() error {
	var errs []error
	if s.ready.irq != nil {
		errs = append(errs, s.ready.irq.Halt())
	}
	if c, ok := s.port.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func reverse(b []byte) {
	for i := range b {
		b[i] = bits.Reverse8(b[i])
	}
}
