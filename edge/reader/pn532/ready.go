package pn532

import (
	"context"
	"errors"
	"fmt"
	"time"

	"periph.io/x/conn/v3/gpio"
)

const (
	// edgeSlice is the longest single wait for an edge of IRQ; after it the chip is asked over the bus, so a missed edge costs
	// a card no more than this.
	edgeSlice = 50 * time.Millisecond
	// edgeLeast is the shortest wait that is ever asked of a pin. periph's gpioioctl takes 0 as for ever and returns at once
	// for less than 0.
	edgeLeast = time.Millisecond
	// pollFirst and pollMost bound the pauses between status polls where no IRQ helps: close at first, for quick replies,
	// then wider, for the standing list.
	pollFirst = 250 * time.Microsecond
	pollMost  = 5 * time.Millisecond
	// maxMissed is how many ready chips a silent IRQ may miss before it counts as not wired.
	maxMissed = 3
	// maxBusErrors is how many polls in a row may fail on the bus: a sleeping or stretching chip fails some.
	maxBusErrors = 5
)

// ready waits until a chip on SPI or I2C has something to read.
type ready struct {
	irq    gpio.PinIn           // low while a frame waits; nil if not wired
	poll   func() (bool, error) // asks over the bus
	missed int                  // frames that IRQ kept silent about, since it last spoke
}

// newReady prepares the IRQ pin. A pin that cannot watch edges is read like one without.
func newReady(irq gpio.PinIn, poll func() (bool, error)) (*ready, error) {
	if irq != nil {
		if err := irq.In(gpio.PullUp, gpio.FallingEdge); err != nil {
			return nil, fmt.Errorf("preparing IRQ pin %s: %w", irq, err)
		}
	}
	return &ready{irq: irq, poll: poll}, nil
}

// wait returns nil once a frame can be read, ErrTimeout at the deadline. An IRQ that works is believed; one that is silent
// while the bus says ready is trusted less, and after maxMissed no more, until the transport is opened again.
func (r *ready) wait(ctx context.Context, deadline time.Time) error {
	gap, failed := pollFirst, 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hasIRQ := r.irq != nil && r.missed < maxMissed
		if hasIRQ && r.irq.Read() == gpio.Low {
			r.missed = 0
			return nil
		}
		left := time.Until(deadline)
		if hasIRQ && left > 0 && r.edge(min(left, edgeSlice)) {
			continue // the level decides, an edge may be an old one
		}
		ok, err := r.poll()
		switch {
		case err != nil:
			if failed++; failed >= maxBusErrors {
				return fmt.Errorf("asking the chip whether it is ready: %w", err)
			}
		case ok:
			if hasIRQ {
				r.missed++
			}
			return nil
		default:
			failed = 0
		}
		if left <= 0 {
			return ErrTimeout
		}
		time.Sleep(min(gap, left))
		gap = min(2*gap, pollMost)
	}
}

// edge waits for an edge of IRQ for at most d and reports whether the level should be read again. A pin that returns early
// with nothing to show gives false, and the caller's pause keeps it from burning the processor.
func (r *ready) edge(d time.Duration) bool {
	return r.irq.WaitForEdge(max(d, edgeLeast)) && r.irq.Read() == gpio.Low
}

// framed reads one frame from a bus that has to say beforehand how many bytes it wants: fetch reads n bytes of the frame.
// Should the frame be longer, the chip is asked with a NACK to give it again, and it is read whole (6.2.1.4).
func framed(ctx context.Context, deadline time.Time, expect int, bus framedBus) (Frame, error) {
	size := len(ackFrame)
	if expect > 0 {
		size = min(expect, payloadMax) + frameMax - payloadMax
	}
	f, whole, err := readOnce(ctx, deadline, size, bus)
	if err != nil || whole {
		return f, err
	}
	if expect == 0 { // an information frame where an ACK was due: too old to matter, and cut short
		return Frame{Kind: Bad}, nil
	}
	if err := bus.Send(nackFrame[:]); err != nil {
		return Frame{}, err
	}
	f, whole, err = readOnce(ctx, deadline, frameMax, bus)
	if err == nil && !whole {
		return Frame{Kind: Bad}, nil
	}
	return f, err
}

// framedBus is a bus whose reads have a length.
type framedBus interface {
	Send(frame []byte) error
	wait(ctx context.Context, deadline time.Time) error
	// fetch reads n bytes; errNotReady if the chip has none after all.
	fetch(n int) ([]byte, error)
}

var errNotReady = errors.New("chip has no frame after all")

// readOnce waits and reads; whole is false if the frame goes on behind the bytes read.
func readOnce(ctx context.Context, deadline time.Time, size int, bus framedBus) (Frame, bool, error) {
	for {
		if err := bus.wait(ctx, deadline); err != nil {
			return Frame{}, false, err
		}
		b, err := bus.fetch(size)
		if errors.Is(err, errNotReady) {
			if !time.Now().Before(deadline) {
				return Frame{}, false, ErrTimeout
			}
			time.Sleep(pollFirst)
			continue
		}
		if err != nil {
			return Frame{}, false, err
		}
		f, _, _, n := parseFrame(b)
		if n == more && !startsFrame(b) {
			return Frame{Kind: Bad}, true, nil
		}
		return f, n == found, nil
	}
}

// startsFrame reports whether b holds the start of a frame.
func startsFrame(b []byte) bool {
	for i := 0; i+1 < len(b); i++ {
		if b[i] == startCode[0] && b[i+1] == startCode[1] {
			return true
		}
	}
	return false
}
