package roster

import (
	"bytes"
	"fmt"

	"kith/internal/bulletin"
)

// Assembler collects the parts of one roster document. It is pure: the shell asks the hub for the part that Next names
// and hands in what comes, as often and in whatever order it comes. It holds one document at most, and allocates no more
// than has arrived and half of that again.
type Assembler struct {
	header bulletin.Header
	note   []byte
	buf    []byte
	active bool
}

// Offer begins a document whose header was verified. The same header again goes on where it was; an older one is
// ignored; a newer one, or another document of the same version, starts anew. It says whether parts are wanted.
func (a *Assembler) Offer(h bulletin.Header, note []byte) bool {
	if a.active && h == a.header {
		return true
	}
	if h.Length <= 0 || h.Length > bulletin.MaxDocumentBytes || len(note) > bulletin.MaxNoteBytes || (a.active && h.Version < a.header.Version) {
		return false
	}
	*a = Assembler{header: h, note: bytes.Clone(note), active: true}
	return true
}

// Next is the header in work and the part that is wanted.
func (a *Assembler) Next() (h bulletin.Header, part int, wanted bool) {
	return a.header, len(a.buf) / bulletin.PartBytes, a.active
}

// Part takes part n of the document with this hash. Repeated, early and foreign parts change nothing. With the last part it
// returns note and document, checked against the header, and is empty again; after an error it is empty, too, and the
// hub has to offer anew.
func (a *Assembler) Part(h bulletin.Header, n int, b []byte) (note, document []byte, err error) {
	if !a.active || h != a.header || n != len(a.buf)/bulletin.PartBytes {
		return nil, nil, nil
	}
	if want := a.header.PartLength(n); len(b) != want {
		*a = Assembler{}
		return nil, nil, fmt.Errorf("assembling roster %d: part %d has %d bytes instead of %d: %w", h.Version, n, len(b), want, bulletin.ErrDocument)
	}
	a.buf = append(a.buf, b...)
	if int64(len(a.buf)) < a.header.Length {
		return nil, nil, nil
	}
	note, document = a.note, a.buf
	*a = Assembler{}
	if err := h.Matches(document); err != nil {
		return nil, nil, fmt.Errorf("assembling roster: %w", err)
	}
	return note, document, nil
}

// Drop forgets the document in work.
func (a *Assembler) Drop() { *a = Assembler{} }
