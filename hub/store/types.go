package store

import (
	"errors"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// Log is the state of one (edge, epoch). The edge's own note at Size is not kept: its receipt is that note with one more
// signature, and until there is one the edge shows its note again.
type Log struct {
	Edge, Node string
	Epoch      event.Epoch
	Size       uint64
	Root       tlog.Hash
	Range      [][32]byte // compact range: roots of the perfect subtrees of [0, Size), left to right
	Receipt    []byte     // the newest co-signed checkpoint, nil before the first
	Status     string     // whatever the intake writes: this room never reads it
	Boot       string
	Backup     uint64 // leaves that stand in a verified backup; raised by Backup alone, Commit ignores it
}

// Accepted is one proven batch, or, with Bundle nil, a change of a log's state alone.
type Accepted struct {
	Log      Log          // the state after this batch
	From     uint64       // index of the first leaf of Bundle
	Leaves   []event.Leaf // one per line of Bundle; Kind "" is an opaque line, kept and hashed but never read
	Bundle   []byte       // the leaf lines as received, joined by newlines
	Private  []PrivatePart
	Evidence []Evidence
	// Lost makes [From, Log.Size) a gap that the log goes on behind; Bundle is nil then. Log.Range leads over it, and Proof
	// is the consistency proof from From to Log.Size: what ties the leaves before the gap to what was signed behind it.
	Lost  bool
	Proof tlog.TreeProof
}

// PrivatePart travels beside a leaf and is stored apart from it.
type PrivatePart struct {
	Index uint64
	Salt  [32]byte
	Bytes []byte
}

// Evidence is a thing that must not have happened, kept byte for byte.
type Evidence struct {
	Kind  string
	Index uint64
	Bytes []byte
	Why   string
}

// Address names one leaf.
type Address struct {
	Edge  string
	Epoch event.Epoch
	Index uint64
}

// Line is a row of the service log: what people see of one leaf. Empty Member: nobody known, or erased.
type Line struct {
	Node, Edge string
	Epoch      event.Epoch
	Index      uint64
	Kind       event.Kind
	At         int64 // Unix milliseconds; the leaf's hour once the private part is erased
	Clock      event.Clock
	Door       string
	Direction  string
	Verdict    string
	Reason     string
	Assurance  string
	Member     string
	Note       string // what happened, for kinds without a verdict
	Receipted  bool   // derived on reading: covered by the hub's receipt
}

// Seen is where a member was last, by event time.
type Seen struct {
	Member, Node, Edge string
	Epoch              event.Epoch
	Index              uint64
	At                 int64
	Clock              event.Clock
	Door               string
	Direction          string
	Received           int64 // when the hub took it in, Unix milliseconds by its own clock
	Arrival            int64 // grows with every leaf that arrives; no two leaves have the same
}

// Fact is the last word on one thing of an edge.
type Fact struct {
	Node, Edge string
	Topic      string // door, reader, clock, storage, tamper, roster, boot
	Subject    string // which door, which reader; empty for the edge itself
	Value      string
	Why        string
	At         int64
	Index      uint64
}

// Projection holds the pure functions that turn leaves into what people see. They are called again by Verify and
// Erase, so the same arguments must always give the same answer. What Seen gives has no Received and no Arrival: those are the
// store's, which fills them in before it asks Newer.
type Projection struct {
	Line  func(event.Leaf, *event.Private) (Line, bool)
	Seen  func(Line) (Seen, bool)
	Newer func(a, b Seen) bool // strict order: a replaces b
	Fact  func(event.Leaf) (Fact, bool)
}

// Errors that callers tell apart.
var (
	ErrUnknown  = errors.New("not known here")
	ErrGap      = errors.New("batch does not continue the log")
	ErrConflict = errors.New("another leaf stands at this address")
	ErrLost     = errors.New("lost here and at the edge; only an archive can bring it back")
	ErrDiskFull = errors.New("the disk is full")
	ErrNewer    = errors.New("the database was written by a newer version")
)
