// Package bulletin owns the statements that a hub signs for its edges: the roster header, which vouches for the bytes of
// one roster document, and the freshness ticket, which vouches that a roster version is still good for a while.
//
// Both are C2SP signed notes (c2sp.org/signed-note) with Ed25519 keys, so that any verifier of notes can check them. A
// statement has exactly one text: what does not parse back to the same bytes is refused. Nothing is kept here, so a crash
// loses nothing; the package never reads a clock, a file or a network.
package bulletin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"kith/internal/wire"
)

// Limits of statements and of what they vouch for.
const (
	MaxNoteBytes     = 4 << 10   // bytes of one signed note
	MaxDocumentBytes = 64 << 20  // bytes of a roster document
	PartBytes        = 128 << 10 // a document travels in parts of this size; the last may be shorter
	MaxTicketSeconds = 72 * 3600 // life of a ticket
	maxSlugBytes     = 48        // bytes of a network or node id
	maxUnixSeconds   = 1 << 36   // far beyond any sane time; keeps sums clear of overflow
)

const (
	rosterTitle = "kith roster v1"
	ticketTitle = "kith ticket v1"
)

// Errors a caller may want to tell apart.
var (
	ErrSignature = errors.New("no valid signature of a known hub key")
	ErrFormat    = errors.New("not a well-formed statement")
	ErrDocument  = errors.New("document does not match its signed header")
)

// Signer and Keys are the note package's, so that callers need not import it.
type (
	Signer = note.Signer
	Keys   = note.Verifiers
)

// Header vouches for one roster document.
type Header struct {
	Network, Node string
	Version       uint64
	Hash          [sha256.Size]byte // of the document bytes
	Length        int64             // bytes
	Issued        int64             // unix seconds
}

// Ticket vouches that nothing older than RosterVersion was in force when it was issued.
type Ticket struct {
	Network, Node string
	RosterVersion uint64
	Issued, Until int64 // unix seconds
}

// ParseKeys reads hub verifier keys ("name+hash+base64"). Several may be given while keys are changed.
func ParseKeys(vkeys ...string) (Keys, error) {
	var all []note.Verifier
	for i, k := range vkeys {
		v, err := note.NewVerifier(strings.TrimSpace(k))
		if err != nil {
			return nil, fmt.Errorf("reading hub key %d: %w", i, err)
		}
		all = append(all, v)
	}
	if len(all) == 0 {
		return nil, errors.New("reading hub keys: none given")
	}
	return note.VerifierList(all...), nil
}

// Describe makes the header of a document.
func Describe(h Header, document []byte) Header {
	h.Hash, h.Length = sha256.Sum256(document), int64(len(document))
	return h
}

// Matches says whether these are the bytes the header vouches for.
func (h Header) Matches(document []byte) error {
	p := h.Proof()
	_, _ = p.Write(document) // the verdict is Err's
	return p.Err()
}

// Proof compares bytes with a header as they go by, so that nobody has to hold a document to check it.
type Proof struct {
	header Header
	hash   hash.Hash
	n      int64
}

// Proof begins before the document's first byte.
func (h Header) Proof() *Proof { return &Proof{header: h, hash: sha256.New()} }

// Write takes the next bytes; it never fails.
func (p *Proof) Write(b []byte) (int, error) {
	p.n += int64(len(b))
	return p.hash.Write(b)
}

// Err says why what was written is not the document; nil if it is.
func (p *Proof) Err() error {
	if p.n != p.header.Length {
		return fmt.Errorf("checking roster %d: %d bytes instead of %d: %w", p.header.Version, p.n, p.header.Length, ErrDocument)
	}
	if [sha256.Size]byte(p.hash.Sum(nil)) != p.header.Hash {
		return fmt.Errorf("checking roster %d: other hash: %w", p.header.Version, ErrDocument)
	}
	return nil
}

// Parts is how many parts the document travels in.
func (h Header) Parts() int { return int((h.Length + PartBytes - 1) / PartBytes) }

// PartLength is the size of part n, 0 for a part that does not exist.
func (h Header) PartLength(n int) int {
	if n < 0 || n >= h.Parts() {
		return 0
	}
	return int(min(PartBytes, h.Length-int64(n)*PartBytes))
}

// Part cuts part n out of a document; nil for a part that does not exist.
func Part(document []byte, n int) []byte {
	if n < 0 || n > len(document)/PartBytes {
		return nil
	}
	rest := document[n*PartBytes:]
	if len(rest) == 0 {
		return nil
	}
	return rest[:min(PartBytes, len(rest))]
}

func (h Header) text() string {
	return fmt.Sprintf("%s\n%s/%s\n%d\n%s\n%d\n%d\n", rosterTitle, h.Network, h.Node, h.Version, hex.EncodeToString(h.Hash[:]), h.Length, h.Issued)
}

func (h Header) check() error {
	switch {
	case !isSlug(h.Network) || !isSlug(h.Node):
		return errors.New("network or node is no id")
	case h.Version == 0:
		return errors.New("version is 0")
	case h.Length <= 0 || h.Length > MaxDocumentBytes:
		return fmt.Errorf("length %d is not within 1 and %d", h.Length, MaxDocumentBytes)
	case h.Issued < 0 || h.Issued > maxUnixSeconds:
		return errors.New("issued is no sane time")
	}
	return nil
}

func (t Ticket) text() string {
	return fmt.Sprintf("%s\n%s/%s\n%d\n%d\n%d\n", ticketTitle, t.Network, t.Node, t.RosterVersion, t.Issued, t.Until)
}

func (t Ticket) check() error {
	switch {
	case !isSlug(t.Network) || !isSlug(t.Node):
		return errors.New("network or node is no id")
	case t.RosterVersion == 0:
		return errors.New("version is 0")
	case t.Issued < 0 || t.Issued > maxUnixSeconds:
		return errors.New("issued is no sane time")
	case t.Until <= t.Issued || t.Until-t.Issued > MaxTicketSeconds:
		return fmt.Errorf("a life of %d s is not within 1 and %d", t.Until-t.Issued, MaxTicketSeconds)
	}
	return nil
}

// SignRoster makes the note for a header.
func SignRoster(h Header, key Signer) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("signing roster header: %w", err)
	}
	return sign(h.text(), key)
}

// SignTicket makes the note for a ticket.
func SignTicket(t Ticket, key Signer) ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("signing ticket: %w", err)
	}
	return sign(t.text(), key)
}

func sign(text string, key Signer) ([]byte, error) {
	out, err := note.Sign(&note.Note{Text: text}, key)
	if err != nil {
		return nil, fmt.Errorf("signing statement: %w", err)
	}
	return out, nil
}

// OpenRoster verifies a roster note. It reads nothing before a known key has signed it.
func OpenRoster(signed []byte, keys Keys) (Header, error) {
	lines, text, err := open(signed, keys, rosterTitle, 6)
	if err != nil {
		return Header{}, fmt.Errorf("opening roster header: %w", err)
	}
	var h Header
	p := reader{}
	h.Network, h.Node = p.place(lines[1])
	h.Version = p.number(lines[2])
	hash, err := hex.DecodeString(lines[3])
	if err != nil || len(hash) != sha256.Size {
		return Header{}, fmt.Errorf("opening roster header: hash: %w", ErrFormat)
	}
	h.Hash = [sha256.Size]byte(hash)
	h.Length, h.Issued = p.signed(lines[4]), p.signed(lines[5])
	if p.bad || h.text() != text {
		return Header{}, fmt.Errorf("opening roster header: %w", ErrFormat)
	}
	if err := h.check(); err != nil {
		return Header{}, fmt.Errorf("opening roster header: %w: %w", ErrFormat, err)
	}
	return h, nil
}

// OpenTicket verifies a ticket note.
func OpenTicket(signed []byte, keys Keys) (Ticket, error) {
	lines, text, err := open(signed, keys, ticketTitle, 5)
	if err != nil {
		return Ticket{}, fmt.Errorf("opening ticket: %w", err)
	}
	var t Ticket
	p := reader{}
	t.Network, t.Node = p.place(lines[1])
	t.RosterVersion, t.Issued, t.Until = p.number(lines[2]), p.signed(lines[3]), p.signed(lines[4])
	if p.bad || t.text() != text {
		return Ticket{}, fmt.Errorf("opening ticket: %w", ErrFormat)
	}
	if err := t.check(); err != nil {
		return Ticket{}, fmt.Errorf("opening ticket: %w: %w", ErrFormat, err)
	}
	return t, nil
}

// open verifies a note and splits its text into the wanted number of lines.
func open(signed []byte, keys Keys, title string, want int) ([]string, string, error) {
	if len(signed) > MaxNoteBytes {
		return nil, "", fmt.Errorf("%d bytes exceed the limit of %d: %w", len(signed), MaxNoteBytes, ErrFormat)
	}
	n, err := note.Open(signed, keys)
	if err != nil {
		var unverified *note.UnverifiedNoteError
		var invalid *note.InvalidSignatureError
		if errors.As(err, &unverified) || errors.As(err, &invalid) {
			return nil, "", fmt.Errorf("%w: %w", ErrSignature, err)
		}
		return nil, "", fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := wire.OneSpelling(signed, len(n.Sigs)+len(n.UnverifiedSigs)); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrFormat, err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != want+1 || lines[want] != "" || lines[0] != title {
		return nil, "", ErrFormat
	}
	return lines, n.Text, nil
}

// reader parses fields and remembers whether one was bad.
type reader struct{ bad bool }

func (r *reader) number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	r.bad = r.bad || err != nil
	return n
}

func (r *reader) signed(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	r.bad = r.bad || err != nil
	return n
}

func (r *reader) place(s string) (network, node string) {
	network, node, ok := strings.Cut(s, "/")
	r.bad = r.bad || !ok
	return network, node
}

// isSlug accepts [a-z0-9][a-z0-9-]{0,47}.
func isSlug(s string) bool {
	if s == "" || len(s) > maxSlugBytes || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
