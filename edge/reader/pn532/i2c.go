package pn532

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/i2c"
)

const (
	i2cAddress = 0x24 // seven bits (UM0701-02 section 6.2.4)
	i2cReady   = 0x01 // first byte of every read: bit 0 set if a frame follows
)

// I2COptions are how a chip on I2C is wired. RSTPDN is worth its wire here more than anywhere: a chip that holds the clock low
// is freed by nothing else.
type I2COptions struct {
	IRQ   gpio.PinIn  // nil: the chip is polled
	Reset gpio.PinOut // RSTPDN, nil if not wired
}

// I2C is the I2C transport. The chip stretches the clock, which a Raspberry Pi 3 and older handle badly; SPI is the better
// choice where there is one.
type I2C struct {
	bus   i2c.Bus
	reset gpio.PinOut
	ready *ready
	r     [1 + frameMax]byte
}

// NewI2C uses the chip on bus and takes the bus over: Close closes it if it can be closed.
func NewI2C(bus i2c.Bus, opts I2COptions) (*I2C, error) {
	t := &I2C{bus: bus, reset: opts.Reset}
	var err error
	if t.ready, err = newReady(opts.IRQ, t.status); err != nil {
		return nil, fmt.Errorf("opening reader on %s: %w", bus, err)
	}
	return t, nil
}

// String names the bus.
func (t *I2C) String() string { return fmt.Sprintf("%s/%#x", t.bus, i2cAddress) }

// Reset pulses RSTPDN.
func (t *I2C) Reset() error { return pulseReset(t.reset) }

// Wake calls the chip's address. A sleeping chip wakes by it and does not answer, so the error says nothing.
func (t *I2C) Wake() error {
	_ = t.bus.Tx(i2cAddress, []byte{0x00}, nil)
	return nil
}

// Send writes one frame.
func (t *I2C) Send(frame []byte) error {
	if err := t.bus.Tx(i2cAddress, frame, nil); err != nil {
		return fmt.Errorf("writing to %s: %w", t, err)
	}
	return nil
}

func (t *I2C) status() (bool, error) {
	r := t.r[:1]
	if err := t.bus.Tx(i2cAddress, nil, r); err != nil {
		return false, fmt.Errorf("reading the status on %s: %w", t, err)
	}
	return r[0] == i2cReady, nil
}

func (t *I2C) wait(ctx context.Context, deadline time.Time) error { return t.ready.wait(ctx, deadline) }

func (t *I2C) fetch(n int) ([]byte, error) {
	r := t.r[:1+n]
	if err := t.bus.Tx(i2cAddress, nil, r); err != nil {
		return nil, fmt.Errorf("reading from %s: %w", t, err)
	}
	if r[0] != i2cReady {
		return nil, errNotReady
	}
	return r[1:], nil
}

// Receive reads the next frame.
func (t *I2C) Receive(ctx context.Context, deadline time.Time, expect int) (Frame, error) {
	return framed(ctx, deadline, expect, t)
}

// Flush does nothing: the bus holds no bytes, and the chip drops a reply when a command comes.
func (t *I2C) Flush() error { return nil }

// Close closes the bus.
func (t *I2C) Close() error {
	var errs []error
	if t.ready.irq != nil {
		errs = append(errs, t.ready.irq.Halt())
	}
	if c, ok := t.bus.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
