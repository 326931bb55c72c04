// Package gate owns the moment of decision at one reader: presented card -> credential -> verdict -> journal -> door.
//
// The order is the promise. A card is proved, the verdict is decided in memory, the fact is handed to the journal, and
// only then may the lock move: as soon as the fact is durable, or after JournalWait when the disk is slow. In strict mode
// there is no opening without a durable record. A crash between the hand-over and the lock leaves a record of an opening
// that did not happen; a crash after it leaves at most JournalWait without a record, bounded by the boot leaf that follows.
//
// Hub, broker, network and disk are never asked whether a door opens. The person at the reader hears five words and
// never a reason; the reason is in the fact.
package gate

import (
	"context"
	"encoding/hex"
	"errors"
	"sync/atomic"
	"time"

	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
)

// Limits of one tap.
const (
	JournalWait   = 100 * time.Millisecond // longest wait of an opening for its record, when the door is not strict
	StrictWait    = 2 * time.Second        // longest wait of a strict door for its record; then it stays shut
	ExchangeLimit = 8 * time.Second        // longest proof of one card; slow phones with time extensions stay below
	MaxTargets    = 2                      // cards in the field at once that are asked
)

// Words the person at the reader is told (package feedback plays them).
type Word int

// The five words.
const (
	Felt Word = iota + 1
	Working
	Yes
	NotNow
	TryAgain
)

// Config is what one reader serves.
type Config struct {
	Reader    string
	Door      access.Door
	Direction string // in, out, inside or pass
	Strict    bool   // no durable record, no opening
	ReaderID  card.ReaderID
	Pulse     time.Duration // the door's own release, for a person without one of their own
	MaxPulse  time.Duration // no release of this door is longer; 0: none is known
}

// Rooms are the neighbours of a gate. All are called from the reader's one goroutine.
type Rooms struct {
	// Decide answers from the roster in memory. The gate fills card, assurance and door; the roster side adds time,
	// freshness and the door's mode, because those are not the gate's to know.
	Decide func(access.Query) access.Verdict
	// Record hands a fact to the journal without blocking; the channel (capacity 1) yields nil once the fact is durable or
	// the error that prevented it. A fact whose record failed is kept by the recorder and written when it can be.
	Record func(event.Fact) <-chan error
	// Release asks the door to open for the given time. The door alone decides how long it really does. An error means that it
	// did not take the wish: the lock stays where it is.
	Release func(time.Duration, string) error
	// Say tells the person a word; hold is how long a Yes lasts. It never blocks.
	Say func(w Word, hold time.Duration)
	// Passed tells the occupancy that a member was let through.
	Passed func(member, direction string, at time.Time)
	// Now is the wall clock with its quality, and the time since the program started.
	Now func() (time.Time, event.Clock, time.Duration)
}

// Stats are counters of one gate, for metrics. They only grow.
type Stats struct {
	Granted, Denied, Unreadable atomic.Uint64
	BeforeDurable               atomic.Uint64 // doors opened before their record was durable
	NotReleased                 atomic.Uint64 // granted taps whose door did not take the wish
	NotRecorded                 atomic.Uint64 // strict doors kept shut because the record was not durable in time
}

// Gate serves one reader. It is driven by the reader's goroutine alone; Stats may be read from any.
type Gate struct {
	cfg     Config
	rooms   Rooms
	limiter *Limiter
	Stats   Stats
}

// New makes the gate of one reader.
func New(cfg Config, rooms Rooms) *Gate {
	return &Gate{cfg: cfg, rooms: rooms, limiter: NewLimiter()}
}

// Felt tells the person that the card was felt, before any exchange with it.
func (g *Gate) Felt() { g.rooms.Say(Felt, 0) }

// Unreadable answers a card that could not be read at all. Nothing was claimed, so nothing is recorded as a denial of
// somebody; the fact that a reader could not read is still a fact.
func (g *Gate) Unreadable(why string) {
	g.refuse(identity{reason: access.Unreadable, detail: why}, time.Now())
}

// Present runs one presentation to its end: prove, decide, record, answer.
func (g *Gate) Present(ctx context.Context, targets []card.Target, channels []card.Channel) {
	ctx, cancel := context.WithTimeout(ctx, ExchangeLimit)
	defer cancel()
	g.rooms.Say(Working, 0)
	who := g.identify(ctx, targets, channels)
	done := time.Now() // the last card byte is in: from here on the wait is ours
	if who.reason != "" {
		g.refuse(who, done)
		return
	}
	id := who.credential.ID()
	_, _, mono := g.rooms.Now()
	if g.limiter.Paused(mono, id) {
		g.refuse(identity{credential: who.credential, reason: Paused, detail: "too many refusals of this card in a row"}, done)
		return
	}
	v := g.rooms.Decide(access.Query{Card: id, Assurance: string(who.credential.Assurance), Door: g.cfg.Door})
	if !v.Allow {
		g.limiter.Refused(mono, id)
		g.deny(who, v, done)
		return
	}
	g.limiter.Forget(id)
	g.grant(who, v, done)
}

// identity is what the cards in the field added up to: a credential, or the reason why there is none.
type identity struct {
	credential card.Credential
	reason     access.Reason
	detail     string
}

// identify asks every card that can speak. Exactly one proof counts; two are a question only the person can answer. A
// card that began to prove itself and failed never falls back to its UID: a torn or forged proof must not be worth more
// than none.
func (g *Gate) identify(ctx context.Context, targets []card.Target, channels []card.Channel) identity {
	var proved []card.Credential
	mute := -1 // index of the one card that does not speak PKOC
	mutes := 0
	var failed error
	for i, t := range targets[:min(len(targets), MaxTargets)] {
		if channels[i] == nil || !t.ISODEP() {
			mute, mutes = i, mutes+1
			continue
		}
		c, _, err := card.Prove(ctx, channels[i], g.cfg.ReaderID, nil)
		switch {
		case err == nil:
			proved = append(proved, c)
		case errors.Is(err, card.ErrNotPKOC):
			mute, mutes = i, mutes+1
		default:
			failed = err
		}
	}
	switch {
	case len(proved) == 1:
		return identity{credential: proved[0]}
	case len(proved) > 1:
		return identity{reason: access.Unreadable, detail: "two membership cards in the field"}
	case errors.Is(failed, card.ErrSignature) || errors.Is(failed, card.ErrPublicKey):
		return identity{reason: access.BadSignature, detail: failed.Error()}
	case failed != nil:
		return identity{reason: access.Unreadable, detail: failed.Error()}
	case mutes != 1:
		return identity{reason: access.Unreadable, detail: "several cards in the field and none is a membership card"}
	}
	c, err := card.NewUID(targets[mute].UID)
	if err != nil {
		return identity{reason: access.Unreadable, detail: err.Error()}
	}
	return identity{credential: c}
}

// grant records and opens, in this order.
func (g *Gate) grant(who identity, v access.Verdict, done time.Time) {
	recorded := g.rooms.Record(g.fact(who, v, done))
	wait := JournalWait
	if g.cfg.Strict {
		wait = StrictWait
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var failed bool
	select {
	case err := <-recorded:
		failed = err != nil
	case <-timer.C:
		failed = true
	}
	if failed && g.cfg.Strict {
		g.Stats.NotRecorded.Add(1)
		// The record may still become durable after this moment and would then claim an opening; the second fact says
		// that there was none.
		g.refuse(identity{credential: who.credential, reason: access.NoRecord, detail: "journal did not confirm in time"}, done)
		return
	}
	if failed {
		g.Stats.BeforeDurable.Add(1)
	}
	pulse := g.cfg.Pulse
	if v.PulseMS > 0 {
		pulse = time.Duration(v.PulseMS) * time.Millisecond
	}
	if g.cfg.MaxPulse > 0 { // the door would cap it anyway, and the light must not say more than the lock does
		pulse = min(pulse, g.cfg.MaxPulse)
	}
	if err := g.rooms.Release(pulse, "tap"); err != nil {
		// The record of the grant stands, and no record of an opening follows it; nobody passed.
		g.Stats.NotReleased.Add(1)
		g.rooms.Say(TryAgain, 0)
		return
	}
	g.rooms.Say(Yes, pulse)
	g.Stats.Granted.Add(1)
	at, _, _ := g.rooms.Now()
	g.rooms.Passed(v.Member, g.cfg.Direction, at)
}

// deny records first and answers after, like grant, so that the time to an answer does not tell them apart.
func (g *Gate) deny(who identity, v access.Verdict, done time.Time) {
	recorded := g.rooms.Record(g.fact(who, v, done))
	timer := time.NewTimer(JournalWait)
	defer timer.Stop()
	select {
	case <-recorded:
	case <-timer.C:
	}
	g.Stats.Denied.Add(1)
	g.rooms.Say(NotNow, 0)
}

// refuse answers a presentation that no roster was asked about.
func (g *Gate) refuse(who identity, done time.Time) {
	v := access.Verdict{Reason: who.reason}
	if who.reason == access.Unreadable {
		g.rooms.Record(g.fact(who, v, done))
		g.Stats.Unreadable.Add(1)
		g.rooms.Say(TryAgain, 0)
		return
	}
	g.deny(who, v, done)
}

// fact writes down what was decided. What names a person goes to the private part.
func (g *Gate) fact(who identity, v access.Verdict, done time.Time) event.Fact {
	wall, quality, mono := g.rooms.Now()
	verdict, assurance := "deny", "none"
	if v.Allow {
		verdict = "grant"
	}
	if len(who.credential.Key) > 0 {
		assurance = string(who.credential.Assurance)
	}
	f := event.Fact{Kind: event.KindTap, At: wall, Mono: mono, Clock: quality}
	var err error
	f.Body, err = event.Marshal(event.Tap{
		Door: g.cfg.Door.ID, Reader: g.cfg.Reader, Direction: g.cfg.Direction, Verdict: verdict, Reason: string(v.Reason),
		Assurance: assurance, Roster: v.RosterVersion,
	})
	if err != nil {
		panic("gate: a tap of ids and numbers does not encode: " + err.Error()) // ids were checked with the config
	}
	private := event.Private{Member: v.Member}
	if assurance != "none" {
		private.Card = who.credential.ID()
	}
	private.Body, err = event.Marshal(event.TapPrivate{
		Grant: v.Grant, Rule: v.Rule, Detail: printable(who.detail), Micros: time.Since(done).Microseconds(),
	})
	if err != nil {
		panic("gate: a tap's private part does not encode: " + err.Error()) // printable left ASCII only
	}
	f.Private = &private
	return f
}

// maxDetail bounds the text about a card's misbehaviour, in bytes. The card chose some of it.
const maxDetail = 200

// printable keeps plain ASCII: the text goes into journals, pages and exports, and a card is hostile input everywhere.
func printable(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < 0x20 || c > 0x7e {
			b = append(b[:i:i], []byte("... "+hex.EncodeToString(b[i:min(len(b), i+8)]))...)
			break
		}
	}
	return string(b[:min(len(b), maxDetail)])
}
