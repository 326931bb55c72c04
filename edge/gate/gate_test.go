package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
)

// bench is a gate with its neighbours laid open.
type bench struct {
	gate    *Gate
	verdict access.Verdict
	asked   []access.Query
	facts   []event.Fact
	order   []string
	said    []Word
	holds   []time.Duration // of each word said
	pulses  []time.Duration
	passed  []string
	durable func() <-chan error
	stuck   error // the door takes no wish
}

func newBench(cfg Config) *bench {
	b := &bench{verdict: access.Verdict{Allow: true, Reason: access.Granted, Member: "ana", Grant: "g1", RosterVersion: 3}}
	b.durable = func() <-chan error { c := make(chan error, 1); c <- nil; return c }
	start := time.Now()
	b.gate = New(cfg, Rooms{
		Decide: func(q access.Query) access.Verdict { b.asked = append(b.asked, q); return b.verdict },
		Record: func(f event.Fact) <-chan error {
			b.facts = append(b.facts, f)
			b.order = append(b.order, "record")
			return b.durable()
		},
		Release: func(d time.Duration, _ string) error {
			if b.stuck != nil {
				return b.stuck
			}
			b.pulses = append(b.pulses, d)
			b.order = append(b.order, "release")
			return nil
		},
		Say:    func(w Word, hold time.Duration) { b.said, b.holds = append(b.said, w), append(b.holds, hold) },
		Passed: func(m, d string, _ time.Time) { b.passed = append(b.passed, m+" "+d) },
		Now:    func() (time.Time, event.Clock, time.Duration) { return time.Now(), event.Synced, time.Since(start) },
	})
	return b
}

func config() Config {
	return Config{Reader: "front-in", Door: access.Door{ID: "front"}, Direction: "in", Pulse: 5 * time.Second}
}

// isoDEP is a 7-byte-UID card that answers APDUs.
func isoDEP(n byte) card.Target {
	return card.Target{UID: []byte{4, n, 2, 3, 4, 5, 6}, SAK: 0x20, ATS: []byte{5, 0x78, 0x80, 0x70, 2}}
}

type channel func([]byte) ([]byte, error)

func (c channel) Transceive(ctx context.Context, apdu []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c(apdu)
}

func pkoc(t *testing.T) (card.Channel, string) {
	t.Helper()
	key, err := card.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c := card.NewPKOCCard(key)
	return channel(func(b []byte) ([]byte, error) { return c.Transceive(b), nil }), c.Credential().ID()
}

func (b *bench) last(t *testing.T) (event.Tap, event.Private, event.TapPrivate) {
	t.Helper()
	f := b.facts[len(b.facts)-1]
	var tap event.Tap
	var private event.TapPrivate
	if err := json.Unmarshal(f.Body, &tap); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(f.Private.Body, &private); err != nil {
		t.Fatal(err)
	}
	return tap, *f.Private, private
}

func TestGrantedTapIsRecordedBeforeTheLockMoves(t *testing.T) {
	b := newBench(config())
	ch, id := pkoc(t)
	b.gate.Felt()
	b.gate.Present(t.Context(), []card.Target{isoDEP(1)}, []card.Channel{ch})
	if got := strings.Join(b.order, " "); got != "record release" {
		t.Fatalf("order was %q", got)
	}
	tap, private, _ := b.last(t)
	if tap.Verdict != "grant" || tap.Assurance != "pkoc" || tap.Roster != 3 || private.Member != "ana" || private.Card != id {
		t.Fatalf("%+v %+v", tap, private)
	}
	if strings.Contains(string(b.facts[0].Body), "ana") || strings.Contains(string(b.facts[0].Body), id) {
		t.Fatalf("the public body names the person: %s", b.facts[0].Body)
	}
	if fmt.Sprint(b.said) != fmt.Sprint([]Word{Felt, Working, Yes}) || b.pulses[0] != 5*time.Second || b.passed[0] != "ana in" {
		t.Fatalf("%v %v %v", b.said, b.pulses, b.passed)
	}
}

func TestNobodyIsToldYesByADoorThatDidNotHear(t *testing.T) {
	b := newBench(config())
	b.stuck = errors.New("door does not keep up")
	ch, _ := pkoc(t)
	b.gate.Present(t.Context(), []card.Target{isoDEP(1)}, []card.Channel{ch})
	if b.said[len(b.said)-1] != TryAgain || len(b.passed) != 0 || b.gate.Stats.Granted.Load() != 0 || b.gate.Stats.NotReleased.Load() != 1 {
		t.Fatalf("said %v, passed %v", b.said, b.passed)
	}
}

func TestPersonWithMoreTimeGetsItAndTheLightSaysNoMoreThanTheDoorGives(t *testing.T) {
	for _, c := range []struct {
		own       int // of the person, ms
		most, get time.Duration
	}{
		{12_000, 15 * time.Second, 12 * time.Second},
		{60_000, 15 * time.Second, 15 * time.Second},
		{0, 15 * time.Second, 5 * time.Second},
		{60_000, 0, time.Minute},
	} {
		cfg := config()
		cfg.MaxPulse = c.most
		b := newBench(cfg)
		b.verdict.PulseMS = c.own
		ch, _ := pkoc(t)
		b.gate.Present(t.Context(), []card.Target{isoDEP(1)}, []card.Channel{ch})
		last := len(b.said) - 1
		if b.pulses[0] != c.get || b.said[last] != Yes || b.holds[last] != c.get {
			t.Errorf("%d ms of at most %v: released for %v, word %d for %v", c.own, c.most, b.pulses[0], b.said[last], b.holds[last])
		}
	}
}

func TestDenialIsRecordedAndSaysNoReason(t *testing.T) {
	b := newBench(config())
	b.verdict = access.Verdict{Reason: access.Expired, Member: "ana", RosterVersion: 3}
	ch, _ := pkoc(t)
	b.gate.Present(t.Context(), []card.Target{isoDEP(1)}, []card.Channel{ch})
	tap, _, _ := b.last(t)
	if tap.Verdict != "deny" || tap.Reason != "expired" || len(b.pulses) != 0 || b.said[len(b.said)-1] != NotNow {
		t.Fatalf("%+v %v %v", tap, b.pulses, b.said)
	}
}

func TestSlowDiskDelaysTheDoorByTheBoundAndStrictKeepsItShut(t *testing.T) {
	for _, strict := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg := config()
			cfg.Strict = strict
			b := newBench(cfg)
			b.durable = func() <-chan error { return make(chan error, 1) } // never
			ch, _ := pkoc(t)
			start := time.Now()
			b.gate.Present(t.Context(), []card.Target{isoDEP(1)}, []card.Channel{ch})
			took := time.Since(start)
			switch {
			case !strict && (took != JournalWait || len(b.pulses) != 1 || b.gate.Stats.BeforeDurable.Load() != 1):
				t.Fatalf("opened after %v: %v", took, b.pulses)
			case strict && (len(b.pulses) != 0 || b.said[len(b.said)-1] != NotNow || b.gate.Stats.NotRecorded.Load() != 1):
				t.Fatalf("strict door opened without a record: %v %v", b.pulses, b.said)
			}
		})
	}
}

// However long the disk takes, who was let in and who was not are answered after the same time.
func TestTheTimeToAnAnswerDoesNotTellYesFromNo(t *testing.T) {
	for _, c := range []struct{ disk, answer time.Duration }{
		{0, 0},
		{60 * time.Millisecond, 60 * time.Millisecond},
		{time.Hour, JournalWait},
	} {
		for _, v := range []access.Verdict{{Allow: true, Reason: access.Granted}, {Reason: access.Expired, Member: "ana"}, {Reason: access.UnknownCard}} {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(config())
				b.verdict = v
				b.durable = func() <-chan error {
					done := make(chan error, 1)
					time.AfterFunc(c.disk, func() { done <- nil })
					return done
				}
				ch, _ := pkoc(t)
				start := time.Now()
				b.gate.Present(t.Context(), []card.Target{isoDEP(1)}, []card.Channel{ch})
				if took := time.Since(start); took != c.answer || len(b.said) != 2 {
					t.Errorf("disk takes %v: %s is answered after %v with %v, want %v", c.disk, v.Reason, took, b.said, c.answer)
				}
			})
		}
	}
}

func TestFullDiskDoesNotStopDecisions(t *testing.T) {
	b := newBench(config())
	b.durable = func() <-chan error { c := make(chan error, 1); c <- errors.New("disk full"); return c }
	ch, _ := pkoc(t)
	b.gate.Present(t.Context(), []card.Target{isoDEP(1)}, []card.Channel{ch})
	if len(b.pulses) != 1 {
		t.Fatal("the door stayed shut because the disk was full")
	}
}

func TestWhatTheFieldAddsUpTo(t *testing.T) {
	good, id := pkoc(t)
	other, _ := pkoc(t)
	torn := channel(func([]byte) ([]byte, error) { return nil, errors.New("card left") })
	bank := channel(func([]byte) ([]byte, error) { return []byte{0x6A, 0x82}, nil })
	forged := channel(func(apdu []byte) ([]byte, error) {
		b, err := good.Transceive(t.Context(), apdu)
		if len(b) > 80 {
			b[len(b)-3] ^= 1
		}
		return b, err
	})
	refusing := channel(func(apdu []byte) ([]byte, error) {
		if apdu[1] == 0xA4 {
			return good.Transceive(t.Context(), apdu)
		}
		return []byte{0x69, 0x85}, nil
	})
	uid4 := card.Target{UID: []byte{0xDE, 0xAD, 0xBE, 0xEF}, SAK: 8}
	phone := card.Target{UID: []byte{8, 1, 2, 3}, SAK: 0x20}
	for _, c := range []struct {
		name       string
		targets    []card.Target
		channels   []card.Channel
		reason     access.Reason
		credential string
	}{
		{"one membership card", []card.Target{isoDEP(1)}, []card.Channel{good}, "", id},
		{"membership card beside a bank card", []card.Target{isoDEP(1), isoDEP(2)}, []card.Channel{bank, good}, "", id},
		{"membership card beside a number", []card.Target{uid4, isoDEP(2)}, []card.Channel{nil, good}, "", id},
		{"two membership cards", []card.Target{isoDEP(1), isoDEP(2)}, []card.Channel{good, other}, access.Unreadable, ""},
		{"two strangers", []card.Target{isoDEP(1), uid4}, []card.Channel{bank, nil}, access.Unreadable, ""},
		{"a number", []card.Target{uid4}, []card.Channel{nil}, "", "uid:deadbeef"},
		{"a card that speaks something else", []card.Target{isoDEP(1)}, []card.Channel{bank}, "", "uid:04010203040506"},
		{"a phone's random number", []card.Target{phone}, []card.Channel{bank}, access.Unreadable, ""},
		{"torn proof never falls back to the number", []card.Target{isoDEP(1)}, []card.Channel{torn}, access.Unreadable, ""},
		{"torn proof beside a number", []card.Target{isoDEP(1), uid4}, []card.Channel{torn, nil}, access.Unreadable, ""},
		{"forged proof", []card.Target{isoDEP(1)}, []card.Channel{forged}, access.BadSignature, ""},
		{"refused proof", []card.Target{isoDEP(1)}, []card.Channel{refusing}, access.Unreadable, ""},
	} {
		b := newBench(config())
		who := b.gate.identify(t.Context(), c.targets, c.channels)
		got := ""
		if len(who.credential.Key) > 0 {
			got = who.credential.ID()
		}
		if who.reason != c.reason || got != c.credential {
			t.Errorf("%s: %q %q (%s)", c.name, who.reason, got, who.detail)
		}
	}
}

func TestOneCardIsPausedAndOthersAreNot(t *testing.T) {
	l := NewLimiter()
	now := time.Duration(0)
	for range RefusalsBeforePause {
		if l.Paused(now, "a") {
			t.Fatal("paused too early")
		}
		l.Refused(now, "a")
		now += time.Second
	}
	if !l.Paused(now, "a") || l.Paused(now, "b") {
		t.Fatal("a must wait and b must not")
	}
	now += FirstPause
	if l.Paused(now, "a") {
		t.Fatal("the first pause is 5 s")
	}
	for range RefusalsBeforePause {
		l.Refused(now, "a")
	}
	if !l.Paused(now+2*FirstPause-time.Second, "a") || l.Paused(now+2*FirstPause, "a") {
		t.Fatal("the second pause is 10 s")
	}
	for i := range 10_000 {
		l.Refused(now, fmt.Sprint("x", i))
	}
	if len(l.cards) > MaxPausedCards {
		t.Fatalf("%d cards remembered", len(l.cards))
	}
}

func TestHostileDetailStaysShortAndPrintable(t *testing.T) {
	for _, s := range []string{strings.Repeat("x", 5000), "a\x00b\x1b[31m", "\u202Eevil", ""} {
		if p := printable(s); len(p) > maxDetail || strings.ContainsFunc(p, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			t.Errorf("%q", p)
		}
	}
}
