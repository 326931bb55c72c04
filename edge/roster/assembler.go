package roster

import (
	"bytes"
	"fmt"

	"kith/internal/bulletin"
)

// Assembler collects the parts of one roster document: the shell asks the hub for the part that Next names and hands in what
// comes, as often and in whatever order it comes. The parts go into a file beside the roster in force; without a disk, and
// when it refuses, into memory, which then holds no more than has arrived: one document at most. The zero Assembler has no
// disk. A crash leaves a file that the next Store removes.
type Assembler struct {
	store  *Store
	header bulletin.Header
	note   []byte
	doc    *Document // nil: nothing is in work
	proof  *bulletin.Proof
}

// Assembler returns one that keeps what it collects on the store's disk. A store has one at a time.
func (s *Store) Assembler() Assembler { return Assembler{store: s} }

// Offer begins a document whose header was verified. The same header again goes on where it was; an older one is
// ignored; a newer one, or another document of the same version, starts anew. It says whether parts are wanted.
func (a *Assembler) Offer(h bulletin.Header, note []byte) bool {
	if a.doc != nil && h == a.header {
		return true
	}
	if h.Length <= 0 || h.Length > bulletin.MaxDocumentBytes || len(note) > bulletin.MaxNoteBytes || (a.doc != nil && h.Version < a.header.Version) {
		return false
	}
	a.Drop()
	a.header, a.note, a.doc, a.proof = h, bytes.Clone(note), newDocument(a.store.spool(), note), h.Proof()
	return true
}

// Next is the header in work and the part that is wanted.
func (a *Assembler) Next() (h bulletin.Header, part int, wanted bool) {
	if a.doc == nil {
		return a.header, 0, false
	}
	return a.header, int(a.doc.size / bulletin.PartBytes), true
}

// Part takes part n of the document with this hash. Repeated, early and foreign parts change nothing. With the last part it
// returns note and document, checked against the header, and is empty again; after an error it is empty, too, and the
// hub has to offer anew.
func (a *Assembler) Part(h bulletin.Header, n int, b []byte) (note []byte, document *Document, err error) {
	if _, next, wanted := a.Next(); !wanted || h != a.header || n != next {
		return nil, nil, nil
	}
	if want := h.PartLength(n); len(b) != want {
		a.Drop()
		return nil, nil, fmt.Errorf("assembling roster %d: part %d has %d bytes instead of %d: %w", h.Version, n, len(b), want, bulletin.ErrDocument)
	}
	_, _ = a.proof.Write(b) // the verdict is Err's
	if err := a.doc.add(b); err != nil {
		a.Drop()
		a.store.unreadable.Store(true)
		return nil, nil, fmt.Errorf("assembling roster %d: %w", h.Version, err)
	}
	if a.doc.size < h.Length {
		return nil, nil, nil
	}
	if err := a.proof.Err(); err != nil {
		a.Drop()
		return nil, nil, fmt.Errorf("assembling roster: %w", err)
	}
	note, document = a.note, a.doc
	*a = Assembler{store: a.store}
	return note, document, nil
}

// Drop forgets the document in work.
func (a *Assembler) Drop() {
	if a.doc != nil {
		a.doc.drop()
	}
	*a = Assembler{store: a.store}
}
