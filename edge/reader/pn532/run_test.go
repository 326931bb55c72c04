package pn532

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kith/edge/reader"
	"kith/internal/card"
)

func want(t *testing.T, b *bench, lines ...string) {
	t.Helper()
	if got := b.take(); !slices.Equal(got, lines) {
		t.Errorf("the sink heard %q, want %q", got, lines)
	}
}

func TestOneTapIsOnePresentation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		c := newTagged(t)
		placed := time.Now()
		b.field(c)
		time.Sleep(time.Millisecond)
		b.book.mu.Lock()
		if len(b.at) < 1 || b.at[0].Sub(placed) > 50*time.Millisecond {
			t.Errorf("card was felt after %v", b.at)
		}
		b.book.mu.Unlock()
		want(t, b, "felt", "proved")
		time.Sleep(10 * time.Minute) // it lies there
		want(t, b)
		b.field()
		time.Sleep(time.Second)
		want(t, b, "gone")
		b.field(c)
		time.Sleep(100 * time.Millisecond)
		want(t, b, "felt", "proved")
		b.stop()
		want(t, b, "gone")
	})
}

func TestFlickerIsNoNewTap(t *testing.T) {
	for name, uid := range map[string]func(i int) []byte{
		"a card":                   func(int) []byte { return []byte{4, 1, 2, 3, 4, 5, 6} },
		"a phone with made-up uid": func(i int) []byte { return []byte{8, byte(i), 2, 3} },
	} {
		for _, sak := range []byte{0x20, 0x08} {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, Options{})
				c := newTagged(t)
				c.sak, c.uid = sak, uid(0)
				b.field(c)
				time.Sleep(100 * time.Millisecond)
				for i := range 50 {
					b.field()
					time.Sleep(absentFor / 2)
					c.uid = uid(i)
					b.field(c)
					time.Sleep(absentFor / 2)
				}
				if b.count("felt") != 1 || b.count("gone") != 0 {
					t.Errorf("%s, sak %02x: %q", name, sak, b.take())
				}
			})
		}
	}
}

func TestNextPersonNeedNotWaitForTheFlickerTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		first, second := newTagged(t), newTagged(t)
		second.uid = []byte{4, 9, 9, 9, 9, 9, 9}
		b.field(first)
		time.Sleep(100 * time.Millisecond)
		b.field(second)
		time.Sleep(2 * presenceEvery) // well below absentFor
		want(t, b, "felt", "proved", "gone", "felt", "proved")
	})
}

func TestTornExchangeMayBeTriedAgainSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		c := newTagged(t)
		c.delay = 50 * time.Millisecond
		b.field(c)
		time.Sleep(10 * time.Millisecond)
		b.misbehave(func(p *peer, code byte, _ []byte) bool {
			if code == cmdInDataExchange {
				p.say(ackFrame[:])
				p.reply(code, 0x01) // the card left
				return true
			}
			return false
		})
		time.Sleep(100 * time.Millisecond)
		b.misbehave(nil)
		b.field()
		time.Sleep(2*absentTorn + presenceEvery)
		b.field(c)
		time.Sleep(300 * time.Millisecond)
		want(t, b, "felt", "lost", "gone", "felt", "proved")
	})
}

func TestNumberIsBelievedOnlyWhenSeenTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		ghost := chipFrame(cmdInList+1, 1, 1, 0, 4, 8, 4, 0xDE, 0xAD, 0xBE, 0xEF)
		once := true
		b.misbehave(func(p *peer, code byte, _ []byte) bool {
			if code == cmdInList && once {
				once = false
				p.say(ackFrame[:])
				p.say(ghost) // a belated list, right in form
				return true
			}
			return false
		})
		time.Sleep(3 * time.Second)
		want(t, b)
		b.field(&tagged{uid: []byte{0xDE, 0xAD, 0xBE, 0xEF}, sak: 8})
		time.Sleep(200 * time.Millisecond)
		want(t, b, "felt", "uid deadbeef")
	})
}

func TestSlowCardIsWaitedForAndDeadOneIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		c := newTagged(t)
		c.delay = exchangeWait - 100*time.Millisecond // twice: SELECT and AUTHENTICATE
		b.field(c)
		time.Sleep(5 * time.Second)
		want(t, b, "felt", "proved")
		b.field()
		time.Sleep(time.Second)
		c.delay = time.Minute
		b.field(c)
		time.Sleep(exchangeWait + 100*time.Millisecond)
		want(t, b, "gone", "felt", "lost")
	})
}

func TestTransactionEndsAtItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{TransactionWait: time.Second})
		c := newTagged(t)
		c.delay = 300 * time.Millisecond
		c.raw = func([]byte) []byte { return []byte{0x90, 0} }
		b.use = func(ctx context.Context, p reader.Presentation) string {
			begin := time.Now()
			for { // a sink that never stops asking
				if _, err := p.Channels[0].Transceive(ctx, []byte{0, 0, 0, 0}); err != nil {
					if took := time.Since(begin); took > 1500*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("after %v: %v", took, err)
					}
					return "ended"
				}
			}
		}
		b.field(c)
		time.Sleep(3 * time.Second)
		want(t, b, "felt", "ended")
	})
}

func TestChannelIsDeadAfterItsPresentation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		var kept card.Channel
		b.use = func(_ context.Context, p reader.Presentation) string { kept = p.Channels[0]; return "kept" }
		b.field(newTagged(t))
		time.Sleep(100 * time.Millisecond)
		want(t, b, "felt", "kept")
		b.stop()
		if _, err := kept.Transceive(t.Context(), []byte{0, 0, 0, 0}); !errors.Is(err, errOver) {
			t.Errorf("%v", err)
		}
	})
}

func TestSilentChipIsReportedWithinTwoSecondsAndComesBack(t *testing.T) {
	for _, with := range []string{"an empty field", "a card on it"} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, Options{})
			if with != "an empty field" {
				b.field(newTagged(t))
				time.Sleep(100 * time.Millisecond)
				want(t, b, "felt", "proved")
			}
			b.misbehave(func(*peer, byte, []byte) bool { return true })
			time.Sleep(2 * time.Second)
			want(t, b, "down")
			time.Sleep(time.Second)
			b.misbehave(nil)
			time.Sleep(3 * time.Second)
			want(t, b, "up") // and the card that lay there all the time is the same tap
			if s := b.r.Stats(); s.Reopens == 0 || s.Resyncs == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A chip that takes the command for a card and then dies: the wait for a slow card must not hide it, nor may a second card
// in the field make it longer.
func TestChipThatDiesWithinAnExchangeIsReportedWithinTwoSeconds(t *testing.T) {
	for _, cards := range []int{1, 2} {
		for _, nth := range []int{1, 2} { // SELECT or AUTHENTICATE
			synctest.Test(t, func(t *testing.T) {
				b := start(t, Options{})
				b.use = func(ctx context.Context, p reader.Presentation) string {
					for i := range p.Channels {
						if _, _, err := card.Prove(ctx, p.Channels[i], card.ReaderID{}, nil); err == nil {
							t.Error("a dead chip proved a card")
						}
					}
					return "asked"
				}
				exchanges, dead := 0, time.Time{}
				b.misbehave(func(p *peer, code byte, _ []byte) bool {
					if code == cmdInDataExchange && dead.IsZero() {
						if exchanges++; exchanges == nth {
							dead = time.Now()
							p.say(ackFrame[:])
						}
					}
					return !dead.IsZero()
				})
				second := newTagged(t)
				second.uid = []byte{4, 9, 9, 9, 9, 9, 9}
				b.field([]*tagged{newTagged(t), second}[:cards]...)
				time.Sleep(2 * time.Second)
				b.book.mu.Lock()
				last := b.at[len(b.at)-1]
				b.book.mu.Unlock()
				want(t, b, "felt", "asked", "down")
				if took := last.Sub(dead); took > 2*time.Second || took < time.Second {
					t.Errorf("%d cards, exchange %d: down after %v", cards, nth, took)
				}
			})
		}
	}
}

func TestPulledReaderIsReportedAtOnceAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		b.field(newTagged(t))
		time.Sleep(100 * time.Millisecond)
		b.take()
		b.pull()
		time.Sleep(60 * time.Millisecond)
		want(t, b, "down")
		time.Sleep(time.Second)
		want(t, b, "up")
	})
}

func TestCardIsLetGoWhenTheReaderStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		b.field(newTagged(t))
		time.Sleep(100 * time.Millisecond)
		b.misbehave(func(*peer, byte, []byte) bool { return true })
		time.Sleep(2 * heldThrough)
		want(t, b, "felt", "proved", "down", "gone")
		time.Sleep(time.Hour) // bounded: about one attempt in two seconds
		if n := b.r.Stats().Reopens; n > 3700 || n < 1000 {
			t.Errorf("%d attempts in an hour", n)
		}
		want(t, b)
	})
}

func TestTwoCardsArePresentedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{Fast424: true})
		one, two := newTagged(t), &tagged{uid: []byte{1, 2, 3, 4}, sak: 8}
		b.use = func(ctx context.Context, p reader.Presentation) string {
			if len(p.Targets) != 2 || p.Channels[0] == nil || p.Channels[1] != nil {
				return "wrong"
			}
			return "two"
		}
		b.field(one, two)
		time.Sleep(100 * time.Millisecond)
		b.field(two)
		time.Sleep(time.Second)
		want(t, b, "felt", "two") // one of them is still there
		b.field()
		time.Sleep(time.Second)
		want(t, b, "gone")
	})
}

func TestListThatDoesNotParseIsUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		b.misbehave(func(p *peer, code byte, _ []byte) bool {
			if code == cmdInList {
				p.say(ackFrame[:])
				p.reply(code, 1, 1, 0, 4, 8, 99, 1)
				return true
			}
			return false
		})
		time.Sleep(10 * time.Second)
		if n := b.count("unreadable"); n < 5 || n > 25 || b.count("felt") != n {
			t.Errorf("%d unreadable in 10 s", n)
		}
		b.take()
		b.misbehave(nil)
		time.Sleep(time.Second)
		b.take()
		b.field(newTagged(t))
		time.Sleep(100 * time.Millisecond)
		want(t, b, "felt", "proved")
	})
}

// A chip that answers "none" at once, always, must not make the loop spin.
func TestChipThatNeverLooksDoesNotSpinTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		b.misbehave(func(p *peer, code byte, _ []byte) bool {
			if code == cmdInList {
				p.say(ackFrame[:])
				p.reply(code, 0)
				return true
			}
			return false
		})
		before := b.r.Stats().Commands
		time.Sleep(time.Second)
		if n := b.r.Stats().Commands - before; n > 60 {
			t.Errorf("%d commands in a second", n)
		}
	})
}

func TestIdleReaderSendsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		before := b.r.Stats()
		time.Sleep(time.Minute)
		after := b.r.Stats()
		if n := after.Commands - before.Commands; n > 180 || n < 60 {
			t.Errorf("%d commands in an idle minute", n)
		}
		if after.Reopens != 0 || after.Strays != 0 {
			t.Errorf("%+v", after)
		}
		want(t, b)
	})
}

// Every fault, for one command and for three, in an idle reader and inside an exchange: no wrong answer is believed, and three
// seconds after the chip behaves the next tap is served.
func TestEveryFaultPasses(t *testing.T) {
	spoil := func(at int) func(p *peer, code byte, params []byte) bool {
		return func(p *peer, code byte, params []byte) bool {
			p.say(ackFrame[:])
			in := p.line.in
			p.line.in = make(chan []byte, 16)
			p.run(code, params)
			p.abort() // a list that would wait is answered by nothing
			spoiled := p.line.in
			p.line.in = in
			for len(spoiled) > 0 {
				f := <-spoiled
				f[len(f)-at] ^= 0x55
				p.say(f)
			}
			return true
		}
	}
	late := func(after time.Duration) func(p *peer, code byte, params []byte) bool {
		return func(p *peer, code byte, params []byte) bool {
			p.say(ackFrame[:])
			time.AfterFunc(after, func() { p.mu.Lock(); defer p.mu.Unlock(); p.say(chipFrame(code+1, 0, 0x90, 0x00)) })
			return true
		}
	}
	faults := map[string]func(p *peer, code byte, params []byte) bool{
		"noise before the ACK": func(p *peer, code byte, params []byte) bool {
			p.say(append(bytes.Repeat([]byte{0xA5, 0x00, 0xFF, 0x01}, 6), 0x00, 0x00, 0xFF, 0x01))
			p.say(ackFrame[:])
			p.run(code, params)
			return true
		},
		"nothing but noise": func(p *peer, _ byte, _ []byte) bool { p.say(bytes.Repeat([]byte{0xA5}, 900)); return true },
		"noise of starts":   func(p *peer, _ byte, _ []byte) bool { p.say(bytes.Repeat([]byte{0x00, 0xFF, 0x12}, 300)); return true },
		"dropped ACK":       func(p *peer, code byte, params []byte) bool { p.run(code, params); return true },
		"NACK":              func(p *peer, _ byte, _ []byte) bool { p.say(nackFrame[:]); return true },
		"wrong LCS":         spoil(6),
		"wrong DCS":         spoil(2),
		"error frame": func(p *peer, _ byte, _ []byte) bool {
			p.say(ackFrame[:])
			p.say([]byte{0, 0, 0xFF, 1, 0xFF, 0x7F, 0x81, 0})
			return true
		},
		"wrong reply code": func(p *peer, code byte, _ []byte) bool { p.say(ackFrame[:]); p.reply(code+2, 0); return true },
		"long reply": func(p *peer, code byte, _ []byte) bool {
			p.say(ackFrame[:])
			p.reply(code, make([]byte, 262)...)
			return true
		},
		"reply without data": func(p *peer, code byte, _ []byte) bool { p.say(ackFrame[:]); p.reply(code); return true },
		"silence":            func(*peer, byte, []byte) bool { return true },
		"ACK alone":          func(p *peer, _ byte, _ []byte) bool { p.say(ackFrame[:]); return true },
		"ACKs without end":   func(p *peer, _ byte, _ []byte) bool { p.say(bytes.Repeat(ackFrame[:], 100)); return true },
		"reply 950 ms late":  late(950 * time.Millisecond),
		"reply 2.6 s late":   late(2600 * time.Millisecond),
		"plug pulled":        func(p *peer, _ byte, _ []byte) bool { p.line.Close(); return true },
		"half a reply": func(p *peer, code byte, _ []byte) bool {
			p.say(ackFrame[:])
			p.say([]byte{0, 0, 0xFF, 0x20, 0xE0, 0xD5, code + 1})
			return true
		},
	}
	for name, fault := range faults {
		for _, times := range []int{1, 3} {
			for _, place := range []string{"idle", "exchange"} {
				t.Run(strings.ReplaceAll(name, " ", "-")+"/"+place, func(t *testing.T) { passFault(t, fault, times, place == "exchange") })
			}
		}
	}
}

func passFault(t *testing.T, fault func(*peer, byte, []byte) bool, times int, within bool) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Options{})
		left := times
		b.misbehave(func(p *peer, code byte, params []byte) bool {
			if left == 0 || (within && left == times && code != cmdInDataExchange) {
				return false
			}
			left--
			return fault(p, code, params)
		})
		c := newTagged(t)
		if within {
			b.field(c)
		}
		time.Sleep(4 * time.Second)
		b.misbehave(nil)
		b.field()
		time.Sleep(2400 * time.Millisecond)
		for _, l := range b.take() {
			if l != "up" && l != "down" && l != "felt" && l != "gone" && l != "unreadable" && l != "proved" && l != "lost" && l != "refused" {
				t.Errorf("the sink heard %q", l)
			}
		}
		b.field(c)
		time.Sleep(600 * time.Millisecond)
		if got := b.take(); b.r.state != up || len(got) < 2 || got[len(got)-1] != "proved" {
			t.Errorf("three seconds later: %q", got)
		}
	})
}
