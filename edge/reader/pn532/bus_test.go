package pn532

import (
	"bytes"
	"context"
	"errors"
	"math/bits"
	"testing"
	"time"

	"periph.io/x/conn/v3/conntest"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpiotest"
	"periph.io/x/conn/v3/i2c/i2ctest"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi/spitest"
)

func lsb(b ...byte) []byte {
	out := make([]byte, len(b))
	for i, v := range b {
		out[i] = bits.Reverse8(v)
	}
	return out
}

func pad(b []byte, n int) []byte { return append(bytes.Clone(b), make([]byte, n-len(b))...) }

// lowPin is an IRQ that is low whenever it is looked at: a chip that is always ready at once.
func lowPin() *gpiotest.Pin {
	return &gpiotest.Pin{N: "IRQ", L: gpio.Low, EdgesChan: make(chan gpio.Level, 1)}
}

// heldLow stays low although In asks for a pull-up: the chip drives it.
type heldLow struct{ *gpiotest.Pin }

func (p heldLow) In(gpio.Pull, gpio.Edge) error { return nil }

func TestSPIConversationByteForByte(t *testing.T) {
	command := []byte{0x00, 0x00, 0xFF, 0x02, 0xFE, 0xD4, 0x02, 0x2A, 0x00}
	reply := []byte{0x00, 0x00, 0xFF, 0x06, 0xFA, 0xD5, 0x03, 0x32, 0x01, 0x06, 0x07, 0xE8, 0x00}
	room := 2 + 4 + frameMax - payloadMax
	read := func(n int) []byte { return pad(lsb(0x03), 1+n) }
	ops := []conntest.IO{
		{W: make([]byte, 250)}, // wake: 2 ms of clock at 1 MHz
		{W: lsb(append([]byte{0x01}, command...)...)},
		{W: pad(lsb(0x02), 2), R: lsb(0xFF, 0x00)}, // not ready
		{W: pad(lsb(0x02), 2), R: lsb(0xFF, 0x01)}, // ready
		{W: read(6), R: lsb(append([]byte{0xFF}, ackFrame[:]...)...)},
		{W: pad(lsb(0x02), 2), R: lsb(0x00, 0x01)},
		{W: read(room), R: lsb(pad(append([]byte{0x00}, reply...), 1+room)...)},
	}
	port := &spitest.Playback{Playback: conntest.Playback{Ops: ops, DontPanic: true}}
	s, err := NewSPI(port, SPIOptions{Hz: physic.MegaHertz})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Wake(); err != nil {
		t.Fatal(err)
	}
	c := newChip(s, &counters{})
	data, err := c.attempt(t.Context(), request{code: cmdGetFirmware, wait: time.Second, expect: 4})
	if err != nil || !bytes.Equal(data, []byte{0x32, 1, 6, 7}) {
		t.Errorf("%X %v", data, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestI2CConversationByteForByte(t *testing.T) {
	command := []byte{0x00, 0x00, 0xFF, 0x02, 0xFE, 0xD4, 0x02, 0x2A, 0x00}
	reply := []byte{0x00, 0x00, 0xFF, 0x06, 0xFA, 0xD5, 0x03, 0x32, 0x01, 0x06, 0x07, 0xE8, 0x00}
	room := 2 + 4 + frameMax - payloadMax
	const address = 0x24 // 48 and 49 on the wire
	bus := &i2ctest.Playback{DontPanic: true, Ops: []i2ctest.IO{
		{Addr: address, W: []byte{0x00}}, // wake
		{Addr: address, W: command},
		{Addr: address, R: []byte{0x00}}, // not ready
		{Addr: address, R: []byte{0x80}}, // nor now: bit 0 says it
		{Addr: address, R: []byte{0x01}}, // ready
		{Addr: address, R: append([]byte{0x01}, ackFrame[:]...)},
		{Addr: address, R: []byte{0x00}},
		{Addr: address, R: []byte{0x01}},
		{Addr: address, R: pad(append([]byte{0x01}, reply...), 1+room)},
	}}
	x, err := NewI2C(bus, I2COptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Wake(); err != nil {
		t.Fatal(err)
	}
	data, err := newChip(x, &counters{}).attempt(t.Context(), request{code: cmdGetFirmware, wait: time.Second, expect: 4})
	if err != nil || !bytes.Equal(data, []byte{0x32, 1, 6, 7}) {
		t.Errorf("%X %v", data, err)
	}
	if err := x.Close(); err != nil { // complains of what was not played
		t.Error(err)
	}
}

func TestSPIWithIRQNeedsNoPolling(t *testing.T) {
	frame := chipFrame(0x03, 0x32, 1, 6, 7)
	ops := []conntest.IO{{W: pad(lsb(0x03), 1+6+10), R: lsb(pad(append([]byte{0}, frame...), 1+6+10)...)}}
	port := &spitest.Playback{Playback: conntest.Playback{Ops: ops, DontPanic: true}}
	s, err := NewSPI(port, SPIOptions{IRQ: heldLow{lowPin()}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Receive(t.Context(), time.Now().Add(time.Second), 6)
	if err != nil || f.Kind != Info {
		t.Errorf("%v %v", f, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A reply longer than expected is asked for again with a NACK and then read whole.
func TestLongerReplyIsReadAgainWhole(t *testing.T) {
	frame := chipFrame(append([]byte{0x41, 0x00}, bytes.Repeat([]byte{0xAA}, 260)...)...)
	first, whole := 40+10, frameMax
	ops := []i2ctest.IO{
		{Addr: 0x24, R: append([]byte{1}, frame[:first]...)},
		{Addr: 0x24, W: nackFrame[:]},
		{Addr: 0x24, R: []byte{0}}, // the level of IRQ lies for a moment: asked, not ready
		{Addr: 0x24, R: pad(append([]byte{1}, frame...), 1+whole)},
	}
	ops[2].R = make([]byte, 1+whole)
	bus := &i2ctest.Playback{Ops: ops, DontPanic: true}
	x, err := NewI2C(bus, I2COptions{IRQ: heldLow{lowPin()}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := x.Receive(t.Context(), time.Now().Add(time.Second), 40)
	if err != nil || f.Kind != Info || len(f.Data) != 262 {
		t.Errorf("%v of %d bytes, %v", f.Kind, len(f.Data), err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

func TestSPIClockIsBounded(t *testing.T) {
	for _, hz := range []physic.Frequency{6 * physic.MegaHertz, physic.Hertz, -physic.MegaHertz} {
		if _, err := NewSPI(&spitest.Playback{}, SPIOptions{Hz: hz}); err == nil {
			t.Errorf("%s was accepted", hz)
		}
	}
}

// trapPin behaves like periph's gpioioctl: WaitForEdge gives false at once below 0 and would wait for ever at 0. It also gives
// up early when told to, as a pin without edges does.
type trapPin struct {
	gpiotest.Pin
	t     *testing.T
	calls int
	early bool
}

func (p *trapPin) In(gpio.Pull, gpio.Edge) error { return nil }
func (p *trapPin) Halt() error                   { return nil }
func (p *trapPin) Read() gpio.Level              { return gpio.High } // a wire that is cut
func (p *trapPin) WaitForEdge(d time.Duration) bool {
	p.calls++
	if d <= 0 || d > edgeSlice {
		p.t.Fatalf("WaitForEdge(%v): want more than 0 and at most %v", d, edgeSlice)
	}
	if !p.early {
		time.Sleep(d)
	}
	return false
}

func TestSilentIRQFallsBackToPollingWithoutBurningTheProcessor(t *testing.T) {
	for _, early := range []bool{false, true} {
		pin := &trapPin{t: t, early: early}
		polls, readyAt := 0, time.Now().Add(time.Hour)
		r, err := newReady(pin, func() (bool, error) { polls++; return !time.Now().Before(readyAt), nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := r.wait(t.Context(), time.Now().Add(200*time.Millisecond)); !errors.Is(err, ErrTimeout) {
			t.Errorf("%v", err)
		}
		if polls > 60 || pin.calls > 60 || polls == 0 {
			t.Errorf("early %v: %d polls and %d edge waits in 200 ms", early, polls, pin.calls)
		}
		readyAt = time.Now()
		for range maxMissed { // ready chips that the pin is silent about
			if err := r.wait(t.Context(), time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		calls := pin.calls
		begin := time.Now()
		if err := r.wait(t.Context(), time.Now().Add(time.Second)); err != nil || pin.calls != calls {
			t.Errorf("early %v: the dead pin was asked again, %v", early, err)
		}
		if took := time.Since(begin); took > 100*edgeSlice {
			t.Errorf("without the pin a ready chip took %v", took)
		}
	}
}

func TestEdgeThatComesIsSeenAtOnce(t *testing.T) {
	pin := &gpiotest.Pin{N: "IRQ", EdgesChan: make(chan gpio.Level, 1)}
	r, err := newReady(pin, func() (bool, error) { return false, nil })
	if err != nil {
		t.Fatal(err)
	}
	pin.EdgesChan <- gpio.Low
	if err := r.wait(t.Context(), time.Now().Add(time.Second)); err != nil {
		t.Error(err)
	}
}

func TestBusThatFailsIsAnErrorAndShutdownIsSeen(t *testing.T) {
	broken := errors.New("bus is gone")
	r, _ := newReady(nil, func() (bool, error) { return false, broken })
	if err := r.wait(t.Context(), time.Now().Add(time.Second)); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	r, _ = newReady(nil, func() (bool, error) { return false, nil })
	begin := time.Now()
	if err := r.wait(ctx, time.Now().Add(time.Hour)); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > time.Minute {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestResetPinIsPulsed(t *testing.T) {
	pin := &gpiotest.Pin{N: "RSTPDN", L: gpio.High}
	var seen []gpio.Level
	watched := &watchedPin{Pin: pin, seen: &seen}
	if err := pulseReset(watched); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || seen[0] != gpio.Low || seen[1] != gpio.High {
		t.Errorf("levels %v", seen)
	}
}

type watchedPin struct {
	*gpiotest.Pin
	seen *[]gpio.Level
}

func (p *watchedPin) Out(l gpio.Level) error { *p.seen = append(*p.seen, l); return p.Pin.Out(l) }
