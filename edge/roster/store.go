// Package roster owns this node's copy of people and grants: the roster the hub signed, its freshness ticket and the
// edge's lower bound of time; or, for a lone edge without a hub, a YAML file.
//
// It promises that doors can ask it without network and without waiting; that versions never go backwards, also across
// power cuts; that a power cut at any moment leaves the old roster or the new one; and that what cannot be read is
// said, never guessed: an edge whose file is broken starts with no roster and asks for it again.
//
// It never talks to the network, never decides about a door, and never accepts what the hub did not sign.
package roster

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"kith/internal/access"
	"kith/internal/bulletin"
)

// Files of the store and the most that is read from them.
const (
	rosterName      = "roster.signed"
	partsName       = "roster.parts" // a roster on its way
	ticketName      = "roster.ticket"
	clockName       = "roster.clock"
	clockLimit      = 4 << 10 // bytes
	rosterFileLimit = bulletin.MaxDocumentBytes + bulletin.MaxNoteBytes + 1
)

// Refusals.
var (
	ErrForeign = errors.New("made for another network or node")
	ErrOlder   = errors.New("older than what is held")
	ErrFork    = errors.New("same version with other content: the hub has signed two truths")
	ErrContent = errors.New("document says something else than its signed header")
	ErrAhead   = errors.New("vouches for a newer roster than is held: fetch that first")
)

// errUnread is a disk that does not give back a document.
var errUnread = errors.New("its file cannot be read")

// Options of a store.
type Options struct {
	Dir           string // exists, belongs to this edge alone
	Network, Node string
	Keys          bulletin.Keys
	Built         time.Time // when this program was built: it is certainly later
}

// Store holds the roster in force. Current, Freshness and Clock may be asked from any goroutine; installing is serialised.
type Store struct {
	o       Options
	disk    disk
	start   time.Time
	current atomic.Pointer[access.Roster]

	unreadable atomic.Bool // the disk took parts of a roster and did not give them back

	mu      sync.Mutex // guards what follows
	held    bulletin.Header
	note    []byte
	floor   uint64
	hash    string // of the floor's document
	newest  int64  // issue time of the newest ticket ever accepted
	onDisk  onDisk // what of these three the disk has taken
	lease   lease
	ahead   []byte // a good ticket for a roster that is not here yet
	broken  error  // why the files could not be used, until they were replaced
	unsaved error  // why something could not be written last time

	unwritten *Document // the roster in force, while the disk does not take it
}

// onDisk is what the clock file may say. Were it ahead of the files beside it, these would look as if they had been put back.
type onDisk struct {
	floor  uint64
	hash   string
	ticket int64
}

// Open loads what a former life left. Broken files are no reason not to start: see Status.
func Open(o Options) (*Store, error) {
	info, err := os.Stat(o.Dir)
	if err != nil || !info.IsDir() {
		return nil, fmt.Errorf("opening roster store: %q is no directory: %v", o.Dir, err)
	}
	return openOn(folder(o.Dir), o)
}

func openOn(d disk, o Options) (*Store, error) {
	s := &Store{o: o, disk: d, start: time.Now()}
	s.lease.low = o.Built.Unix()
	for _, left := range []string{partsName, rosterName + besideName} { // by a power cut; people of former rosters stand in them
		_ = d.Remove(left) // what stays is emptied by the next
	}
	var trouble []error
	if err := s.loadClock(); err != nil {
		trouble = append(trouble, err)
	}
	if err := s.loadRoster(); err != nil {
		trouble = append(trouble, err)
	}
	if err := s.loadTicket(); err != nil {
		trouble = append(trouble, err)
	}
	s.broken = errors.Join(trouble...)
	// The penalty must be durable before anybody is let in by it, or cutting the power each minute would stop the clock.
	// A disk that cannot be written is said in Status; it must not keep the residents out.
	s.lease.elapsed += bootPenalty
	_ = s.persist()
	return s, nil
}

func (s *Store) mono() time.Duration { return time.Since(s.start) }

// Current is the roster in force, nil if there is none.
func (s *Store) Current() *access.Roster { return s.current.Load() }

// Held is the signed header of the roster in force; Version 0 if there is none.
func (s *Store) Held() bulletin.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// Freshness says whether the hub's word still covers the roster.
func (s *Store) Freshness() access.Freshness {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease.freshness(s.held, s.mono())
}

// Clock turns the wall clock into a time to decide with; if it is unsure, that time is the lower bound.
func (s *Store) Clock(wall time.Time, quality Quality) (now time.Time, unsure bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease.clock(wall, quality == Synchronised, s.mono())
}

// Quality of a wall clock.
type Quality int

// Qualities.
const (
	Unsynchronised Quality = iota
	Synchronised           // set by a time service or a battery-backed clock that was
)

// Witness raises the lower bound of time: t was signed by the hub, or stands in a durable leaf as a trusted time.
func (s *Store) Witness(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease.witness(t.Unix(), s.mono())
}

// Status is a picture for health.
type Status struct {
	Version    uint64
	Fresh      access.Freshness
	Until      time.Time // end of the ticket; zero = none
	LowerBound time.Time
	Broken     error // files that could not be used or written; the store works on in memory
}

// Status may be asked at any time.
func (s *Store) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	mono := s.mono()
	st := Status{Version: s.held.Version, Fresh: s.lease.freshness(s.held, mono), LowerBound: time.Unix(s.lease.lowNow(mono), 0).UTC(), Broken: errors.Join(s.broken, s.unsaved)}
	if s.lease.ticket.RosterVersion != 0 {
		st.Until = time.Unix(s.lease.ticket.Until, 0).UTC()
	}
	return st
}

// Install verifies a signed roster, makes it durable and puts it in force. Installing again what is held is no error. A disk
// that takes nothing must not keep a revoked card working: the roster is then in force in memory alone, Run writes it down
// as soon as it can be, and Status says so meanwhile. A power cut before that brings the older one back until the hub offers
// the newer again. The document is used up.
func (s *Store) Install(note []byte, document *Document) error {
	defer document.drop()
	if err := document.settle(); err != nil {
		s.unreadable.Store(true)
		return fmt.Errorf("installing roster: %w", err)
	}
	h, r, err := s.verify(note, document)
	if err != nil {
		if document.file != nil && (errors.Is(err, errUnread) || errors.Is(err, bulletin.ErrDocument)) {
			s.unreadable.Store(true) // these bytes were right when they came
		}
		return fmt.Errorf("installing roster: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.Version == s.held.Version && h.Hash == s.held.Hash {
		return nil
	}
	if err := s.forward(h); err != nil {
		return fmt.Errorf("installing roster: %w", err)
	}
	s.unwritten = document
	failed := s.write()
	s.put(h, r, note)
	s.lease.witness(h.Issued, s.mono())
	if s.lease.ticket.RosterVersion == 0 {
		s.lease.restart(h.Issued, s.mono())
	}
	s.broken = nil
	if failed != nil {
		return fmt.Errorf("installing roster %d: it is in force, but only in memory: %w", h.Version, failed)
	}
	if err := s.persist(); err != nil {
		return fmt.Errorf("installing roster %d: it is in force, but %w", h.Version, err)
	}
	if s.ahead != nil {
		if t, err := bulletin.OpenTicket(s.ahead, s.o.Keys); err == nil && t.RosterVersion <= h.Version {
			note := s.ahead
			s.ahead = nil
			return s.takeTicket(t, note)
		}
	}
	return nil
}

// write makes the roster in force durable, if it is not.
func (s *Store) write() error {
	if s.unwritten == nil {
		return nil
	}
	if err := s.unwritten.store(s.disk, rosterName); err != nil {
		s.unsaved = err
		return err
	}
	s.unwritten = nil
	return nil
}

// forward refuses everything that is not newer than the newest version ever accepted. That very version may come again,
// with the same content, if the file was lost.
func (s *Store) forward(h bulletin.Header) error {
	switch {
	case h.Version < s.floor:
		return fmt.Errorf("version %d, held is %d: %w", h.Version, s.floor, ErrOlder)
	case h.Version == s.floor && hex.EncodeToString(h.Hash[:]) != s.hash:
		return fmt.Errorf("version %d: %w", h.Version, ErrFork)
	}
	return nil
}

func (s *Store) put(h bulletin.Header, r *access.Roster, note []byte) {
	s.held, s.note = h, bytes.Clone(note)
	s.floor, s.hash = h.Version, hex.EncodeToString(h.Hash[:])
	s.current.Store(r)
}

// verify checks signature, place, bytes and content, and needs no lock. The text is read twice, and both times proved: a
// disk is no better witness than a network.
func (s *Store) verify(note []byte, document *Document) (bulletin.Header, *access.Roster, error) {
	h, err := s.VerifyHeader(note)
	if err != nil {
		return h, nil, err
	}
	if !bytes.Equal(document.head, append(bytes.Clone(note), '\n')) {
		return h, nil, fmt.Errorf("the document came with another note: %w", ErrContent)
	}
	var text io.Reader
	var proofs []*bulletin.Proof
	r, err := access.CompileJSON(func() io.Reader {
		p := h.Proof()
		text, proofs = io.TeeReader(document.read(), p), append(proofs, p)
		return text
	})
	if _, err := io.Copy(io.Discard, text); err != nil { // what it left when it gave up
		return h, nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	for _, p := range proofs {
		if err := p.Err(); err != nil {
			return h, nil, err
		}
	}
	if err != nil {
		return h, nil, err
	}
	if r.Network() != h.Network || r.Node() != h.Node || r.Version() != h.Version || r.Issued().Unix() != h.Issued {
		return h, nil, fmt.Errorf("document is %s/%s %d issued %d: %w", r.Network(), r.Node(), r.Version(), r.Issued().Unix(), ErrContent)
	}
	return h, r, nil
}

// spool is where the parts of a roster on its way may lie; nil: in memory, because the disk does not give back what it takes.
func (s *Store) spool() disk {
	if s == nil || s.unreadable.Load() {
		return nil
	}
	return s.disk
}

// VerifyHeader checks a roster note alone, so that parts are asked for only after the hub has vouched for them.
func (s *Store) VerifyHeader(note []byte) (bulletin.Header, error) {
	h, err := bulletin.OpenRoster(note, s.o.Keys)
	if err != nil {
		return h, err
	}
	if h.Network != s.o.Network || h.Node != s.o.Node {
		return h, fmt.Errorf("roster is for %s/%s: %w", h.Network, h.Node, ErrForeign)
	}
	return h, nil
}

// Wants says whether a signed header is worth fetching.
func (s *Store) Wants(h bulletin.Header) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.Version == s.held.Version && h.Hash == s.held.Hash {
		return ErrOlder
	}
	return s.forward(h)
}

// InstallTicket verifies a freshness ticket and makes it durable. A ticket for a roster that is not here yet is kept in
// memory until that roster comes, and says ErrAhead; the ticket in force stays in force.
func (s *Store) InstallTicket(note []byte) error {
	t, err := bulletin.OpenTicket(note, s.o.Keys)
	if err != nil {
		return fmt.Errorf("installing ticket: %w", err)
	}
	if t.Network != s.o.Network || t.Node != s.o.Node {
		return fmt.Errorf("installing ticket for %s/%s: %w", t.Network, t.Node, ErrForeign)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeTicket(t, note); err != nil {
		return fmt.Errorf("installing ticket: %w", err)
	}
	return nil
}

func (s *Store) takeTicket(t bulletin.Ticket, note []byte) error {
	if t == s.lease.ticket {
		return nil
	}
	if t.Issued <= s.newest {
		return fmt.Errorf("issued %d, held is %d: %w", t.Issued, s.newest, ErrOlder)
	}
	s.lease.witness(t.Issued, s.mono())
	if t.RosterVersion > s.held.Version {
		s.ahead = bytes.Clone(note)
		return fmt.Errorf("roster %d, held is %d: %w", t.RosterVersion, s.held.Version, ErrAhead)
	}
	// The hub's word counts from now on, written or not; a restart before the next ticket falls back to the one before.
	failed := replace(s.disk, ticketName, note)
	if s.newest = t.Issued; failed == nil {
		s.onDisk.ticket = t.Issued
	}
	s.lease.accept(t, s.mono())
	return errors.Join(failed, s.persist())
}

// Run writes the clock down until ctx ends, and once more then.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(persistEvery)
	defer tick.Stop()
	again := time.NewTicker(rewriteEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.Persist()
		case <-again.C:
			if s.waiting() {
				_ = s.Persist()
			}
		case <-tick.C:
			_ = s.Persist() // tried again at the next tick; Status says it meanwhile
		}
	}
}

// waiting says whether the roster in force is not on the disk yet.
func (s *Store) waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unwritten != nil
}

// Persist writes down now what is not on the disk yet, and the clock.
func (s *Store) Persist() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.persist()
}

// persist writes the clock also when the disk has no room for the roster: a lease must not become young again by a power cut.
func (s *Store) persist() (err error) {
	defer func() { s.unsaved = err }()
	failed := s.write()
	if failed == nil {
		s.onDisk.floor, s.onDisk.hash = s.floor, s.hash
	} else {
		failed = fmt.Errorf("writing the roster: %w", failed)
	}
	mono := s.mono()
	b, err := json.Marshal(clockFile{Low: s.lease.lowNow(mono), Elapsed: int64(s.lease.elapsedNow(mono) / time.Second),
		Floor: s.onDisk.floor, Hash: s.onDisk.hash, Ticket: s.onDisk.ticket})
	if err != nil {
		return errors.Join(failed, fmt.Errorf("writing the roster's clock: %w", err))
	}
	return errors.Join(failed, replace(s.disk, clockName, append(b, '\n')))
}
