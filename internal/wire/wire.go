// Package wire owns what an edge and the hub say to each other: the topics, the envelopes of both directions and their one
// spelling. It keeps no state, so a crash loses nothing; it never looks into a leaf, never checks a signature and never
// reads a clock.
//
// # Topics
//
// An edge publishes on v1/<edge>/up and hears v1/<edge>/down; nothing else is said on the wire.
//
// # Message
//
// One message is at most MaxMessage bytes: a header line, a newline, a payload. The header is a compact JSON object that
// starts {"v":1,"type":"<type>" and then carries exactly the keys of its type, in the order listed below, without white
// space. Numbers are decimal below 2^63; epochs are 32 and roots 64 lower-case hex digits; words are at most 64 bytes of
// a-z, 0-9 and '-', possibly none; why is at most 200 bytes of printable ASCII without '"' and '\'. So a message has one
// spelling: Parse accepts exactly what Encode writes. A missing, unknown or displaced key is an error. A type that this
// program does not know is ErrUnknownType and another version is ErrVersion: the reader counts and ignores both, so that
// the other side may be newer. A changed meaning or a new key of a known type is a new type or a new version.
//
// A note is a C2SP signed note (checkpoint or receipt) of at most MaxNote bytes. Hash lines are 64 hex digits each.
//
//	up:
//	hello       boot disk seq challenge generation epoch size receipt roster degraded checkpoint
//	            payload: the signed checkpoint of size (checkpoint bytes long; 0 when size is 0), then the last receipt of
//	            that epoch (receipt: its size; no bytes when there is none)
//	batch       epoch from leaves private
//	            payload: leaves leaf lines; if private, as many lines "-" or "<64 hex salt> <private part>"; then the
//	            checkpoint signed at from+leaves
//	head        epoch size
//	            payload: the checkpoint signed at size
//	roots-get   epoch sizes            (1 to MaxSizes sizes, rising)
//	bridge      epoch old new receipt subtrees proof ahead checkpoint
//	            payload: hash lines: the compact range of [0,new) left to right (subtrees), the consistency proof old->new
//	            (proof), the consistency proof new->receipt (ahead); then the checkpoint signed at new (checkpoint bytes
//	            long), then the receipt of size receipt
//	roster-get  version part
//
//	down:
//	state       generation epoch size root status limit held duplicate backup credit boot seq challenge again
//	            payload: the newest receipt of that epoch, or nothing
//	receipt     generation epoch size backup credit
//	            payload: the co-signed checkpoint at size
//	need        generation epoch from
//	conflict    generation epoch size root why
//	            payload: the newest receipt of that epoch, or nothing
//	roots       generation epoch sizes
//	            payload: per size one hash line, or "-" when the hub cannot tell
//	roster-offer  payload: the signed roster header
//	roster-part   version part parts; payload: the bytes of that part
//	ticket        payload: the signed ticket
package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// Limits of one message.
const (
	Version        = 1
	MaxMessage     = 256 << 10 // bytes
	MaxBatchLeaves = 256       // leaves of one batch
	MaxNote        = 4 << 10   // bytes of a signed note
	MaxSizes       = 32        // sizes asked for at once
	MaxHashes      = 64        // hash lines of one proof
	MaxRosterPart  = 192 << 10 // bytes of one part of a roster
	maxHeader      = 2 << 10   // bytes of the header line
	maxWord        = 64        // bytes
	maxWhy         = 200       // bytes
)

// Errors a reader tells apart: the first two are counted and ignored, the third is a fault of the other side.
var (
	ErrVersion     = errors.New("wire: message of another version")
	ErrUnknownType = errors.New("wire: message of an unknown type")
	ErrMessage     = errors.New("wire: not a message")
)

const (
	topicPrefix = "v1/"
	topicUp     = "/up"
	topicDown   = "/down"
	// UpFilter matches the upward topic of every edge.
	UpFilter = topicPrefix + "+" + topicUp
)

// UpTopic is where an edge publishes.
func UpTopic(edge string) string { return topicPrefix + edge + topicUp }

// DownTopic is what an edge hears.
func DownTopic(edge string) string { return topicPrefix + edge + topicDown }

// UpEdge names the edge of an upward topic.
func UpEdge(topic string) (string, bool) {
	rest, ok := strings.CutPrefix(topic, topicPrefix)
	edge, ok2 := strings.CutSuffix(rest, topicUp)
	return edge, ok && ok2 && event.IsID(edge)
}

// Up is a message of an edge: *Hello, *Batch, *Head, *RootsGet, *Bridge or *RosterGet.
type Up interface {
	Encode() ([]byte, error)
	up() codec
}

// Down is a message of the hub: *State, *Receipt, *Need, *Conflict, *Roots, *RosterOffer, *RosterPart or *Ticket.
type Down interface {
	Encode() ([]byte, error)
	down() codec
}

// Hello says where an edge stands in one epoch and who is asking. It is also the keep-alive.
type Hello struct {
	Boot        string // of this start
	Disk        string // of the state directory
	Seq         uint64 // counts the hellos of this boot; the answer repeats it
	Challenge   string // the last one the hub gave to this boot: shows that the boot lives now
	Generation  string // of the hub, as last seen
	Epoch       event.Epoch
	Size        uint64
	ReceiptSize uint64
	Roster      uint64 // version in force
	Degraded    bool   // something an operator must see: disk low, clock unsure, reader dead
	Checkpoint  []byte
	Receipt     []byte
}

// Batch carries leaves as they are stored, with what is left of their private parts.
type Batch struct {
	Epoch      event.Epoch
	From       uint64
	Leaves     [][]byte
	Private    []Private // nil, or one for each leaf
	Checkpoint []byte    // signed at From+len(Leaves)

	// Bundle is the leaf lines joined by newlines, as received. Encode ignores it.
	Bundle []byte
}

// Private is the private part of one leaf; Bytes is nil when there is none or it was erased.
type Private struct {
	Salt  [32]byte
	Bytes []byte
}

// Head shows a signed head of a size the hub holds: it asks for a co-signature there, or proves a fork.
type Head struct {
	Epoch      event.Epoch
	Size       uint64
	Checkpoint []byte
}

// RootsGet asks for the hub's roots at smaller sizes, to find where two histories part.
type RootsGet struct {
	Epoch event.Epoch
	Sizes []uint64
}

// Bridge leads the hub over leaves that it once co-signed, has lost, and that no longer exist here.
type Bridge struct {
	Epoch       event.Epoch
	Old, New    uint64 // the hub's size; the first index that still exists
	ReceiptSize uint64
	Subtrees    []tlog.Hash
	Proof       []tlog.Hash // Old -> New
	Ahead       []tlog.Hash // New -> ReceiptSize
	Checkpoint  []byte      // signed at New
	Receipt     []byte
}

// RosterGet asks for one part of a roster.
type RosterGet struct {
	Version uint64
	Part    uint64
}

// Status of a log at the hub.
const (
	StatusNew     = "new"     // nothing stored yet
	StatusOpen    = "open"    // takes the next leaves
	StatusSealed  = "sealed"  // a later epoch has taken its place
	StatusFork    = "fork"    // two histories were shown; evidence is kept, nothing more is taken
	StatusRetired = "retired" // the edge was retired: nothing is taken
	StatusUnknown = "unknown" // the edge is not admitted
)

// State answers a hello.
type State struct {
	Generation string
	Epoch      event.Epoch
	Size       uint64
	Root       tlog.Hash
	Status     string
	Limit      uint64 // sealed and fork: leaves past it are refused; 0 for every other status
	Held       bool   // what comes is kept, but an operator must decide before it counts
	Duplicate  bool   // two devices were seen to live with this edge's key
	Backup     uint64 // leaves in a verified backup
	Credit     uint64 // leaves the edge may send past Size
	Boot       string // whom this answers
	Seq        uint64 // which hello it answers
	Challenge  string
	Again      bool // say hello again now, with this challenge
	Receipt    []byte
}

// Receipt is the acknowledgement: the leaves below Size are durable at the hub.
type Receipt struct {
	Generation string
	Epoch      event.Epoch
	Size       uint64
	Backup     uint64
	Credit     uint64
	Note       []byte
}

// Need asks for the leaves from From on.
type Need struct {
	Generation string
	Epoch      event.Epoch
	From       uint64
}

// Conflict says that a batch or head does not fit what the hub holds.
type Conflict struct {
	Generation string
	Epoch      event.Epoch
	Size       uint64
	Root       tlog.Hash
	Why        string
	Receipt    []byte
}

// Roots answers RootsGet. A zero hash: not known.
type Roots struct {
	Generation string
	Epoch      event.Epoch
	Sizes      []uint64
	Roots      []tlog.Hash
}

// RosterOffer carries a signed roster header.
type RosterOffer struct{ Note []byte }

// RosterPart carries one part of a roster document.
type RosterPart struct {
	Version, Part, Parts uint64
	Bytes                []byte
}

// Ticket carries a signed freshness ticket.
type Ticket struct{ Note []byte }

// ParseUp reads a message of an edge. The result points into b.
func ParseUp(b []byte) (Up, error) {
	typ, err := begin(b)
	if err != nil {
		return nil, err
	}
	var m Up
	switch typ {
	case "hello":
		m = new(Hello)
	case "batch":
		m = new(Batch)
	case "head":
		m = new(Head)
	case "roots-get":
		m = new(RootsGet)
	case "bridge":
		m = new(Bridge)
	case "roster-get":
		m = new(RosterGet)
	default:
		return nil, fmt.Errorf("%w: %s", ErrUnknownType, typ)
	}
	if err := m.up().parse(b); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMessage, typ, err)
	}
	return m, nil
}

// ParseDown reads a message of the hub. The result points into b.
func ParseDown(b []byte) (Down, error) {
	typ, err := begin(b)
	if err != nil {
		return nil, err
	}
	var m Down
	switch typ {
	case "state":
		m = new(State)
	case "receipt":
		m = new(Receipt)
	case "need":
		m = new(Need)
	case "conflict":
		m = new(Conflict)
	case "roots":
		m = new(Roots)
	case "roster-offer":
		m = new(RosterOffer)
	case "roster-part":
		m = new(RosterPart)
	case "ticket":
		m = new(Ticket)
	default:
		return nil, fmt.Errorf("%w: %s", ErrUnknownType, typ)
	}
	if err := m.down().parse(b); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMessage, typ, err)
	}
	return m, nil
}

// begin reads version and type, so that what a newer program says can be told from damage.
func begin(b []byte) (string, error) {
	if len(b) > MaxMessage {
		return "", fmt.Errorf("%w: %d bytes, limit %d", ErrMessage, len(b), MaxMessage)
	}
	header, _, ok := bytes.Cut(b[:min(len(b), maxHeader)], newline)
	if !ok {
		return "", fmt.Errorf("%w: no header line within %d bytes", ErrMessage, maxHeader)
	}
	rest, ok := bytes.CutPrefix(header, []byte(`{"v":`))
	if !ok || len(header) > 0 && header[len(header)-1] != '}' {
		return "", fmt.Errorf("%w: no header", ErrMessage)
	}
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	if digits == 0 || digits > 9 {
		return "", fmt.Errorf("%w: no version", ErrMessage)
	}
	if v := string(rest[:digits]); v != "1" {
		return "", fmt.Errorf("%w: %s", ErrVersion, v)
	}
	rest, ok = bytes.CutPrefix(rest[digits:], []byte(`,"type":"`))
	name, _, closed := bytes.Cut(rest, []byte(`"`))
	if !ok || !closed || !event.IsID(string(name[:min(len(name), maxWord)])) {
		return "", fmt.Errorf("%w: no type", ErrMessage)
	}
	return string(name), nil
}

var newline = []byte("\n")
