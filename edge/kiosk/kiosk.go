// Package kiosk owns entries in the making: somebody says what was done or used, a card at a reader confirms it, and a
// fact goes to the journal.
//
// A proposed entry waits at one reader, named, at most TapWait. While it waits, a card shown there signs the entry and
// nothing else: the presentation never reaches the door. A tap of the member's own PKOC card makes class A; the card of a
// host who confirms on behalf of a member makes class B; a card that proves nothing, or none, makes class C. Entries from
// a size that the catalogue names wait WitnessWait for a second person's card. A use can be started and stopped, and then
// the clock makes its quantity. A correction is a new entry that names the old.
//
// All of that is Machine, a pure step function. Kiosk around it asks cards, draws nonces and hands facts over. A crash
// loses what waits and nothing that was said to be recorded; started uses survive in a file of the caller's. It never
// opens a door, never decides who may enter, and never tells anybody at the wall who somebody else is.
package kiosk

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
)

// Limits of one presentation.
const (
	ExchangeLimit = 8 * time.Second // longest proof of one card
	RecordWait    = 2 * time.Second // a person waits so long for the word; the entry goes on without
	MaxTargets    = 2               // cards in the field at once that are asked
)

// Rooms are the neighbours of a kiosk. They may be called from several goroutines.
type Rooms struct {
	// View is the roster in force and the wall clock with its quality; the duration is monotonic.
	View func() (View, time.Duration)
	// Identify says whose card this is, with the roster and the lower bound of time that doors use.
	Identify func(cardID string, assurance card.Assurance) (access.Person, access.Reason)
	// Record makes a fact durable, or says that it is not. It blocks, and keeps nothing that it reported as failed.
	Record func(ctx context.Context, f event.Fact) (event.Epoch, uint64, error)
	// Say tells the person at a reader a word; it never blocks.
	Say func(reader string, w Word, hold time.Duration)
	// Keep makes the started uses survive a restart.
	Keep func([]Use) error
	// ReaderID is what a reader tells a card about itself.
	ReaderID func(reader string) card.ReaderID
}

// heard is a word that a reader said, so that the page beside it can say the same.
type heard struct {
	word Word
	at   time.Duration
}

// Kiosk is the shell around the machine. Methods may be called from any goroutine.
type Kiosk struct {
	rooms Rooms
	log   *slog.Logger
	work  sync.WaitGroup // records on their way

	mu      sync.Mutex // guards what follows
	machine *Machine
	heard   map[string]heard // by reader: its last word
	closed  bool

	keeping sync.Mutex // one file, written in the order of the states
}

// New makes a kiosk with the uses that a former start left running.
func New(cfg Config, rooms Rooms, running []Use, log *slog.Logger) *Kiosk {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Kiosk{rooms: rooms, log: log, machine: NewMachine(cfg, running), heard: map[string]heard{}}
}

// tell says a word at a reader. Readers are few and named by the configuration, so what was heard is bounded.
func (k *Kiosk) tell(reader string, w Word, hold time.Duration) {
	_, now := k.rooms.View()
	k.mu.Lock()
	k.heard[reader] = heard{w, now}
	k.mu.Unlock()
	k.rooms.Say(reader, w, hold)
}

// Remember folds an entry of the journal, before the kiosk is used.
func (k *Kiosk) Remember(l event.Leaf, p *event.Private) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.machine.Remember(l, p)
}

// Close lets no new record begin and returns when those on their way have been answered.
func (k *Kiosk) Close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.work.Wait()
}

// errClosed answers an entry that came while the edge was stopping.
var errClosed = errors.New("the edge is stopping")

// Propose begins an entry and returns it with its id.
func (k *Kiosk) Propose(p Proposal) (Session, error) {
	var id [8]byte
	rand.Read(id[:])
	in := Propose{ID: hex.EncodeToString(id[:]), Proposal: p}
	if _, err := k.step(func(v View) Input { in.View = v; return in }); err != nil {
		return Session{}, err
	}
	s, _ := k.Session(in.ID)
	return s, nil
}

// Cancel takes a waiting entry back, or forgets a started use; false when there is no such entry.
func (k *Kiosk) Cancel(id string) bool {
	if _, ok := k.Session(id); !ok {
		return false
	}
	_, err := k.step(func(View) Input { return Cancel{id} })
	return err == nil
}

// Session returns an entry in the making, or lately made.
func (k *Kiosk) Session(id string) (Session, bool) {
	_, now := k.rooms.View()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.machine.Session(now, id)
}

// Recent lists the newest entries first.
func (k *Kiosk) Recent(limit int) []Line {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.machine.Recent(limit)
}

// Running lists the uses that were started and not stopped, oldest first.
func (k *Kiosk) Running() []Use {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := k.machine.keep().Running
	slices.SortStableFunc(all, func(a, b Use) int { return cmp.Compare(a.Started, b.Started) })
	return all
}

// Takes reports whether a card at this reader belongs to an entry now, and not to the door.
func (k *Kiosk) Takes(reader string) bool {
	_, ok := k.ask(reader)
	return ok
}

func (k *Kiosk) ask(reader string) (Ask, bool) {
	view, now := k.rooms.View()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.machine.Waiting(now, reader, view)
}

// Present runs one presentation at a reader whose card Takes has claimed, to the word that the person hears.
func (k *Kiosk) Present(ctx context.Context, reader string, targets []card.Target, channels []card.Channel) {
	ctx, cancel := context.WithTimeout(ctx, ExchangeLimit)
	defer cancel()
	k.tell(reader, Working, 0)
	ask, ok := k.ask(reader)
	if !ok { // it ended between the two questions; the door is not asked in its place
		k.tell(reader, NotNow, 0)
		return
	}
	t, word := k.prove(ctx, ask, reader, targets, channels)
	if word != 0 {
		k.tell(reader, word, 0)
		return
	}
	t.Person, t.Known = k.rooms.Identify(t.Card, t.Assurance)
	recorded, err := k.step(func(v View) Input { t.View = v; return t })
	if err != nil || recorded == nil {
		return
	}
	timer := time.NewTimer(RecordWait)
	defer timer.Stop()
	select {
	case <-recorded: // the word was said by whoever took the answer
	case <-timer.C:
		k.tell(reader, Working, 0) // the disk is slow; yes or try again follows
	}
}

// Unreadable tells the person to try again; the entry goes on waiting.
func (k *Kiosk) Unreadable(reader string) { k.tell(reader, TryAgain, 0) }

// prove asks every card in the field to sign the entry. Exactly one that can speak counts; each gets a nonce of its own,
// so that no transaction id is ever asked twice. A card that began to prove itself and failed never falls back to its
// number.
func (k *Kiosk) prove(ctx context.Context, ask Ask, reader string, targets []card.Target, channels []card.Channel) (Tap, Word) {
	k.mu.Lock()
	entry := k.machine.Bytes(ask)
	k.mu.Unlock()
	var proved []Tap
	mute, mutes := -1, 0
	var failed error
	for i, target := range targets[:min(len(targets), MaxTargets)] {
		if channels[i] == nil || !target.ISODEP() {
			mute, mutes = i, mutes+1
			continue
		}
		t := Tap{Ask: ask}
		rand.Read(t.Nonce[:])
		id := event.Binding(t.Nonce, entry)
		if ask.Second {
			id = event.WitnessBinding(t.Nonce, ask.Member, ask.Card, entry)
		}
		c, proof, err := card.Prove(ctx, channels[i], k.rooms.ReaderID(reader), &id)
		switch {
		case err == nil:
			t.Card, t.Assurance, t.Key, t.Signature = c.ID(), c.Assurance, proof.PublicKey, proof.Signature
			proved = append(proved, t)
		case errors.Is(err, card.ErrNotPKOC):
			mute, mutes = i, mutes+1
		default:
			failed = err
		}
	}
	switch {
	case len(proved) == 1:
		return proved[0], 0
	case errors.Is(failed, card.ErrSignature) || errors.Is(failed, card.ErrPublicKey):
		return Tap{}, NotNow
	case len(proved) > 1 || failed != nil || mutes != 1:
		return Tap{}, TryAgain
	}
	c, err := card.NewUID(targets[mute].UID)
	if err != nil {
		return Tap{}, TryAgain
	}
	return Tap{Ask: ask, Card: c.ID(), Assurance: c.Assurance}, 0
}

// step feeds the machine and carries out what it wants. The channel, if any, closes when the record was answered.
func (k *Kiosk) step(input func(View) Input) (<-chan struct{}, error) {
	view, now := k.rooms.View()
	k.mu.Lock()
	outputs, err := k.machine.Step(now, input(view))
	k.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var recorded <-chan struct{}
	for _, o := range outputs {
		switch o := o.(type) {
		case Say:
			if o.Reader != "" {
				k.tell(o.Reader, o.Word, o.Hold)
			}
		case Keep:
			k.keep()
		case Record:
			recorded = k.record(o)
		}
	}
	return recorded, nil
}

func (k *Kiosk) keep() {
	if err := k.write(); err != nil {
		k.log.Error("started uses would not survive a restart", "err", err)
	}
}

// write keeps the newest state, also when another goroutine made it: an older one must not come last.
func (k *Kiosk) write() error {
	k.keeping.Lock()
	defer k.keeping.Unlock()
	k.mu.Lock()
	now := k.machine.keep()
	k.mu.Unlock()
	return k.rooms.Keep(now.Running)
}

// record waits for the disk beside the reader's goroutine. There are never more of these than entries in the making.
func (k *Kiosk) record(r Record) <-chan struct{} {
	done := make(chan struct{})
	k.mu.Lock()
	closed := k.closed
	if !closed {
		k.work.Add(1)
	}
	k.mu.Unlock()
	go func() {
		defer close(done)
		var epoch event.Epoch
		var index uint64
		err := errClosed
		if !closed {
			defer k.work.Done()
			epoch, index, err = k.rooms.Record(context.Background(), r.Fact)
		}
		if err != nil {
			k.log.Error("an entry was not recorded; whoever made it was told to try again", "kind", r.Fact.Kind, "err", err)
		}
		if _, err := k.step(func(View) Input { return Written{ID: r.ID, Epoch: epoch, Index: index, Err: err} }); err != nil {
			k.log.Error("the end of a record was not taken", "err", err)
		}
	}()
	return done
}
