package pn532

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"

	"kith/internal/card"
)

// bare is a chip without the loop.
func bare() (*chip, *peer) {
	p := &peer{retries: 1}
	return newChip(newHSU(p.plug(), "in memory", HSUOptions{}), &counters{}), p
}

func (c *chip) end(t *testing.T) {
	if err := c.t.Close(); err != nil {
		t.Error(err)
	}
}

func TestAPDUGoesToTheCardAtMostOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, fault := range map[string]func(p *peer, code byte, params []byte) bool{
			"lost ACK":   func(p *peer, code byte, params []byte) bool { p.run(code, params); return true },
			"lost reply": func(p *peer, code byte, params []byte) bool { p.say(ackFrame[:]); p.apdus++; return true },
			"error frame": func(p *peer, code byte, params []byte) bool {
				p.say(ackFrame[:])
				p.apdus++
				p.say([]byte{0, 0, 0xFF, 1, 0xFF, 0x7F, 0x81, 0})
				return true
			},
			"wrong code": func(p *peer, code byte, params []byte) bool {
				p.say(ackFrame[:])
				p.apdus++
				p.reply(code+2, 0)
				return true
			},
		} {
			c, p := bare()
			p.field(newTagged(t))
			p.misbehave(func(p *peer, code byte, params []byte) bool {
				return code == cmdInDataExchange && fault(p, code, params)
			})
			if _, err := c.exchange(t.Context(), 1, []byte{0, 0xA4, 4, 0}, time.Second); err == nil || errors.Is(err, errDead) {
				t.Errorf("%s: %v", name, err)
			}
			if p.apdus != 1 {
				t.Errorf("%s: the card was asked %d times", name, p.apdus)
			}
			p.misbehave(nil)
			if _, err := c.exchange(t.Context(), 1, []byte{0, 0xA4, 4, 0}, time.Second); err != nil {
				t.Errorf("%s: afterwards: %v", name, err)
			}
			c.end(t)
		}
	})
}

// A late reply with the very code of the next command comes just before, between and after its neighbours: it is never an answer.
func TestLateReplyIsNeverTheNextAnswer(t *testing.T) {
	for after := 900 * time.Millisecond; after < 1100*time.Millisecond; after += 10 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			c, p := bare()
			defer c.end(t)
			honest := []byte{0x90, 0x00}
			p.field(&tagged{uid: []byte{1, 2, 3, 4}, sak: 0x20, raw: func([]byte) []byte { return honest }})
			p.misbehave(func(p *peer, code byte, _ []byte) bool {
				if code != cmdInDataExchange {
					return false
				}
				p.fault = func(p *peer, code byte, params []byte) bool { // the reply leaves behind the next command's ACK
					p.say(ackFrame[:])
					p.say(chipFrame(cmdInDataExchange+1, 0x00, 0xBA, 0xD0))
					p.run(code, params)
					p.fault = nil
					return true
				}
				p.say(ackFrame[:])
				time.AfterFunc(after, func() {
					p.mu.Lock()
					defer p.mu.Unlock()
					if p.fault != nil {
						p.say(chipFrame(cmdInDataExchange+1, 0x00, 0xBA, 0xD0))
					}
				})
				return true
			})
			first, err := c.exchange(t.Context(), 1, []byte{0, 0, 0, 1}, time.Second)
			if err == nil && !bytes.Equal(first, []byte{0xBA, 0xD0}) {
				t.Errorf("first: %X", first)
			}
			if err == nil { // it came in time after all
				return
			}
			second, err := c.exchange(t.Context(), 1, []byte{0, 0, 0, 2}, time.Second)
			if err != nil || !bytes.Equal(second, honest) {
				t.Errorf("late by %v: second answer %X, %v", after, second, err)
			}
		})
	}
}

func TestSpoiledReplyIsAskedForOnceWithNACK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := bare()
		defer c.end(t)
		p.misbehave(func(p *peer, code byte, _ []byte) bool {
			if code != cmdGetFirmware {
				return false
			}
			p.say(ackFrame[:])
			p.last = chipFrame(code+1, 0x32, 1, 6, 7)
			bad := bytes.Clone(p.last)
			bad[8] ^= 0xFF
			p.say(bad)
			return true
		})
		data, err := c.command(t.Context(), request{code: cmdGetFirmware, wait: time.Second})
		if err != nil || !bytes.Equal(data, []byte{0x32, 1, 6, 7}) || c.stats.nacks.Load() != 1 || c.stats.resyncs.Load() != 0 {
			t.Errorf("%X %v, %d NACKs, %d resyncs", data, err, c.stats.nacks.Load(), c.stats.resyncs.Load())
		}
	})
}

func TestChainedAnswersAreJoinedWithinTheirBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			name  string
			parts []int // sizes; the last one ends the chain
			ok    bool
		}{
			{"one", []int{258}, true},
			{"two full", []int{262, 100}, true},
			{"an empty part", []int{0, 3}, true},
			{"at the bound", []int{262, 262, 262, 238}, true},
			{"beyond the bound", []int{262, 262, 262, 239}, false},
			{"empty parts without end", make([]int, 20), false},
			{"64 KiB", slicesOf(262, 250), false},
		} {
			c, p := bare()
			n, calls := 0, []int{}
			p.misbehave(func(p *peer, code byte, params []byte) bool {
				if code != cmdInDataExchange {
					return false
				}
				calls = append(calls, len(params))
				size, status := tc.parts[n], byte(statusMore)
				if n++; n == len(tc.parts) {
					status = 0
				}
				p.say(ackFrame[:])
				p.reply(code, append([]byte{status}, bytes.Repeat([]byte{byte(n)}, size)...)...)
				return true
			})
			answer, err := c.exchange(t.Context(), 1, []byte{1, 2, 3, 4}, time.Second)
			sum := 0
			for _, s := range tc.parts {
				sum += s
			}
			if (err == nil) != tc.ok || (tc.ok && len(answer) != sum) {
				t.Errorf("%s: %d bytes, %v", tc.name, len(answer), err)
			}
			if len(calls) > maxParts || calls[0] != 5 || (len(calls) > 1 && calls[1] != 1) {
				t.Errorf("%s: parameters of %v bytes", tc.name, calls)
			}
			c.end(t)
		}
	})
}

func slicesOf(v, n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = v
	}
	return s
}

func TestAPDUThatFitsNoFrameIsRefused(t *testing.T) {
	c, _ := bare()
	defer c.end(t)
	for _, n := range []int{0, exchangeData + 1} {
		if _, err := c.exchange(t.Context(), 1, make([]byte, n), time.Second); !errors.Is(err, ErrTooLong) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestRefusalOfTheCardsLinkHasItsStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := bare()
		defer c.end(t)
		_ = p // an empty field: status 01
		_, err := c.exchange(t.Context(), 1, []byte{0, 0, 0, 0}, time.Second)
		var rf RFError
		if !errors.As(err, &rf) || rf.Status != 0x01 {
			t.Errorf("%v", err)
		}
	})
}

func TestOtherChipsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := bare()
		defer c.end(t)
		p.misbehave(func(p *peer, code byte, _ []byte) bool {
			if code != cmdGetFirmware {
				return false
			}
			p.say(ackFrame[:])
			p.reply(code, 0x33, 1, 6, 7)
			return true
		})
		if err := c.configure(t.Context()); !errors.Is(err, ErrProtocol) {
			t.Errorf("%v", err)
		}
	})
}

// rated is a line that only carries bytes at the chip's own rate.
type rated struct {
	*HSU
	p    *peer
	chip int // the chip's rate
	host int
	next int
}

func (r *rated) SetRate(baud int) error { r.host = baud; return nil }
func (r *rated) Send(f []byte) error {
	if r.host != r.chip {
		return nil
	}
	if len(f) > 7 && f[6] == cmdSetBaudRate {
		r.next = map[byte]int{0x05: 230400, 0x07: 921600}[f[7]]
	}
	err := r.HSU.Send(f)
	if r.next != 0 && bytes.Equal(f, ackFrame[:]) {
		r.chip, r.next = r.next, 0
	}
	return err
}

func TestLineIsMovedToTheFastRateAndFoundThere(t *testing.T) {
	for _, tc := range []struct {
		name string
		chip int
	}{{"fresh chip", hsuBaud}, {"chip that kept its power", 921600}} {
		synctest.Test(t, func(t *testing.T) {
			p := &peer{}
			r := New(nil, Options{Baud: 921600})
			line := &rated{HSU: newHSU(p.plug(), "in memory", HSUOptions{}), p: p, chip: tc.chip, host: hsuBaud}
			c := newChip(line, &r.stats)
			defer c.end(t)
			if err := r.start(t.Context(), c); err != nil || line.chip != 921600 || line.host != 921600 {
				t.Errorf("%s: chip at %d, host at %d: %v", tc.name, line.chip, line.host, err)
			}
			if _, err := c.command(t.Context(), request{code: cmdGetFirmware, wait: time.Second}); err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
		})
	}
}

// stuck is a port whose other end takes nothing.
type stuck struct {
	line
	release chan struct{}
}

func (s *stuck) Write([]byte) (int, error) { <-s.release; return 0, io.ErrClosedPipe }

func TestWriteThatHangsGivesTheTransportUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{release: make(chan struct{}), line: line{closed: make(chan struct{})}}
		h := newHSU(s, "in memory", HSUOptions{})
		begin := time.Now()
		if err := h.Send(ackFrame[:]); err == nil || time.Since(begin) != hsuWriteMax {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if err := h.Send(ackFrame[:]); err == nil {
			t.Error("a stuck line took a second frame")
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		close(s.release) // the kernel lets go; the writer must end, or the bubble never does
	})
}

func TestNoiseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{}
		l := p.plug()
		h := newHSU(l, "in memory", HSUOptions{})
		for range 10 {
			p.say(bytes.Repeat([]byte{0xA5}, 200))
		}
		if _, err := h.Receive(t.Context(), time.Now().Add(time.Second), 0); !errors.Is(err, ErrNoise) {
			t.Errorf("%v", err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestPortThatIsNotThereSaysSo(t *testing.T) {
	if _, err := OpenHSU("/dev/does-not-exist", HSUOptions{}); !errors.Is(err, os.ErrNotExist) && err == nil {
		t.Errorf("%v", err)
	}
	if err := probe(panicPort{}); err == nil {
		t.Error("a panic of the serial module was not turned into an error")
	}
}

type panicPort struct{}

func (panicPort) Read([]byte) (int, error)           { panic("index out of range [16]") }
func (panicPort) Write([]byte) (int, error)          { return 0, nil }
func (panicPort) Close() error                       { return nil }
func (panicPort) SetMode(*serial.Mode) error         { return nil }
func (panicPort) SetReadTimeout(time.Duration) error { return nil }
func (panicPort) ResetInputBuffer() error            { return nil }

// pseudo opens a pseudo-terminal with an instant chip behind it.
func pseudo(t testing.TB, p *peer) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("SKIP: pseudo-terminals missing: ", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/dev/pts/%d", n)
	keep, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0) // the line survives its last user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keep.Close() })
	l := p.plug()
	go func() {
		buf := make([]byte, 512)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			p.hear(l, buf[:n])
			for len(l.in) > 0 {
				if _, err := master.Write(<-l.in); err != nil {
					return
				}
			}
		}
	}()
	return path
}

func TestProofOverAPseudoTerminal(t *testing.T) {
	p := &peer{}
	path := pseudo(t, p)
	p.field(newTagged(t))
	h, err := OpenHSU(path, HSUOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := New(nil, Options{})
	c := newChip(h, &r.stats)
	defer c.end(t)
	if err := r.start(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	targets, err := c.list(t.Context(), search{most: 2, retries: 1, wait: time.Second})
	if err != nil || len(targets) != 1 {
		t.Fatal(targets, err)
	}
	if _, _, err := card.Prove(t.Context(), &channel{c: c, tg: 1, wait: time.Second}, card.ReaderID{}, nil); err != nil {
		t.Error(err)
	}
}

// BenchmarkExchange is the software's share of one InDataExchange over a pseudo-terminal with an instant chip.
func BenchmarkExchange(b *testing.B) {
	p := &peer{}
	path := pseudo(b, p)
	p.field(&tagged{uid: []byte{1, 2, 3, 4}, sak: 0x20, raw: func([]byte) []byte { return make([]byte, 135) }})
	h, err := OpenHSU(path, HSUOptions{})
	if err != nil {
		b.Fatal(err)
	}
	c := newChip(h, &counters{})
	defer func() { _ = c.t.Close() }()
	apdu := make([]byte, 62)
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		if _, err := c.exchange(context.Background(), 1, apdu, time.Second); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "us-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "us-p99")
}
