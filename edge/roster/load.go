package roster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"kith/internal/bulletin"
)

func (s *Store) loadClock() error {
	b, err := s.disk.Read(clockName, clockLimit)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the roster's clock: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var c clockFile
	if err := dec.Decode(&c); err != nil {
		return fmt.Errorf("reading the roster's clock: %w", err)
	}
	s.lease.low = max(s.lease.low, c.Low)
	s.lease.elapsed = time.Duration(max(0, min(c.Elapsed, maxElapsed))) * time.Second
	s.floor, s.hash, s.newest = c.Floor, c.Hash, c.Ticket
	s.onDisk = onDisk{c.Floor, c.Hash, c.Ticket}
	return nil
}

// maxElapsed keeps a broken clock file from overflowing a duration; 30 years outlast every lease.
const maxElapsed = 30 * 365 * 24 * 3600

// loadRoster verifies the stored roster as if it came from the hub today: a disk is no better witness than a network.
func (s *Store) loadRoster() error {
	f, err := s.disk.Open(rosterName)
	if missing(err) {
		if s.floor > 0 {
			return fmt.Errorf("reading roster: version %d was accepted, but its file is gone; it must come from the hub again", s.floor)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading roster: %w", err)
	}
	defer f.Close()
	note, document, err := stored(f)
	if err != nil {
		return fmt.Errorf("reading roster: %w; it must come from the hub again", err)
	}
	h, r, err := s.verify(note, document)
	if err != nil {
		return fmt.Errorf("reading roster: the stored file cannot be used; it must come from the hub again: %w", err)
	}
	if err := s.forward(h); err != nil {
		return fmt.Errorf("reading roster: the stored file was put back: %w", err)
	}
	s.put(h, r, note)
	s.lease.witness(h.Issued, s.mono())
	return nil
}

// stored finds note and document in a file.
func stored(f file) (note []byte, document *Document, err error) {
	size, err := f.Size()
	if err != nil {
		return nil, nil, err
	}
	if size > rosterFileLimit {
		return nil, nil, fmt.Errorf("%s has %d bytes and exceeds the limit of %d", rosterName, size, rosterFileLimit)
	}
	head := make([]byte, min(size, bulletin.MaxNoteBytes+1))
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), head); err != nil {
		return nil, nil, err
	}
	note, ok := split(head)
	if !ok {
		return nil, nil, errors.New("the file is torn")
	}
	begin := len(note) + 1
	return note, &Document{head: head[:begin], file: f, size: size - int64(begin)}, nil
}

// split finds the note at the beginning of a stored file. A note is text, an empty line and signatures; one more empty line
// ends it, and the document begins.
func split(head []byte) (note []byte, ok bool) {
	text := bytes.Index(head, []byte("\n\n"))
	if text < 0 {
		return nil, false
	}
	sigs := bytes.Index(head[text+2:], []byte("\n\n"))
	if sigs < 0 {
		return nil, false
	}
	return head[:text+2+sigs+1], true
}

// loadTicket takes the stored ticket back, with the time that passed since as the clock file has it.
func (s *Store) loadTicket() error {
	b, err := s.disk.Read(ticketName, bulletin.MaxNoteBytes)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading ticket: %w", err)
	}
	t, err := bulletin.OpenTicket(b, s.o.Keys)
	if err != nil {
		return fmt.Errorf("reading ticket: %w", err)
	}
	switch {
	case t.Network != s.o.Network || t.Node != s.o.Node:
		return fmt.Errorf("reading ticket for %s/%s: %w", t.Network, t.Node, ErrForeign)
	case t.Issued < s.newest:
		return fmt.Errorf("reading ticket: the stored file was put back: %w", ErrOlder)
	case t.Issued > s.newest:
		// The power went between ticket and clock: the counter belongs to the ticket before. Start it at what is certain.
		s.newest, s.onDisk.ticket = t.Issued, t.Issued
		s.lease.accept(t, s.mono())
	default:
		s.lease.ticket = t
		s.lease.witness(t.Issued, s.mono())
	}
	return nil
}
