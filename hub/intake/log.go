package intake

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/wire"
)

// Log is the state of one (edge, epoch).
type Log struct {
	Edge, Node string
	Epoch      event.Epoch
	Size       uint64
	Root       tlog.Hash
	Range      [][32]byte // compact range of [0, Size)
	Checkpoint []byte     // the edge's own note at Size; not stored: a receipt holds it, and without one the edge shows it again
	Receipt    []byte     // the newest co-signed checkpoint that was told to the store; its size may lag behind Size
	Standing   Standing
	Boot       string // of the newest valid leaf
	Backup     uint64 // leaves that stand in a verified backup

	receipted uint64 // size that Receipt covers
	told      uint64 // size of the receipt that the store has for certain
}

// Standing is what the hub thinks of a log. Text and ParseStanding turn it into the one string that the store keeps.
type Standing struct {
	Status    string // wire.StatusOpen, StatusSealed or StatusFork
	Limit     uint64 // sealed and fork: leaves past it are refused
	Held      bool   // kept and co-signed, but it counts for nothing until an operator decides
	Duplicate bool   // two devices were seen to live with this edge's key
	Lost      []Span // leaves that were co-signed once, are gone here and no longer exist at the edge
}

// Span is the half-open range of indexes [From, To).
type Span struct{ From, To uint64 }

const maxLost = 16 // spans of one log; beyond it an operator must bring the archive first

// Text writes, for example, "open", "fork limit=12 held" or "open lost=5-20".
func (s Standing) Text() string {
	b := []byte(s.Status)
	if s.Status != wire.StatusOpen {
		b = strconv.AppendUint(append(b, " limit="...), s.Limit, 10)
	}
	if s.Held {
		b = append(b, " held"...)
	}
	if s.Duplicate {
		b = append(b, " duplicate"...)
	}
	for _, l := range s.Lost {
		b = fmt.Appendf(b, " lost=%d-%d", l.From, l.To)
	}
	return string(b)
}

// ParseStanding reads what Text wrote.
func ParseStanding(text string) (Standing, error) {
	words := strings.Split(text, " ")
	s := Standing{Status: words[0]}
	if s.Status != wire.StatusOpen && s.Status != wire.StatusSealed && s.Status != wire.StatusFork {
		return s, fmt.Errorf("standing %q: unknown status", text)
	}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "held":
			s.Held = true
		case "duplicate":
			s.Duplicate = true
		case "limit":
			s.Limit, err = strconv.ParseUint(value, 10, 63)
		case "lost":
			var l Span
			_, err = fmt.Sscanf(value, "%d-%d", &l.From, &l.To)
			s.Lost = append(s.Lost, l)
		default:
			err = errors.New("unknown word")
		}
		if err != nil {
			return s, fmt.Errorf("standing %q: %s: %w", text, w, err)
		}
	}
	if s.Text() != text {
		return s, fmt.Errorf("standing %q: not in its one spelling", text)
	}
	return s, nil
}

// Accepted is one proven batch, or, with Bundle nil, a change of a log's state alone.
type Accepted struct {
	Log      Log // the state after it
	From     uint64
	Leaves   []event.Leaf // one per line of Bundle; an opaque line has Kind "" and only its address
	Bundle   []byte       // leaf lines as received, joined by newlines
	Private  []PrivatePart
	Evidence []Evidence
	// Lost tells that [From, Log.Size) is a gap that the log continues behind: the one case where Size moves without a
	// Bundle. Proof then leads from From to Log.Size: it is kept with the gap, or nobody could prove later that the leaves
	// before it are those that were signed. Nil when From is 0.
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

// Kinds of evidence.
const (
	EvidenceFork      = "fork"      // two notes of the edge: one size, two roots; or one note against the hub's co-signed tree
	EvidenceMismatch  = "mismatch"  // a batch whose checkpoint does not follow from its leaves and what the hub holds
	EvidenceLeaf      = "leaf"      // a line that is no leaf of this address; stored opaque
	EvidencePrivate   = "private"   // a private part that its commitment does not cover; refused (its digest only)
	EvidenceDuplicate = "duplicate" // two starts of the edge shown to live at the same time
	EvidenceReuse     = "reuse"     // an epoch that belongs to another edge
	EvidenceForgot    = "forgot"    // the hub's own receipt for more than the hub has
	EvidenceLost      = "lost"      // a Gap: what the archive must bring back
)

// Store keeps what intake proves. hub/store implements it.
type Store interface {
	// Generation is the random id that a restore from backup changes.
	Generation(context.Context) (string, error)
	// Logs returns every known log; it is read once, at start, and again for one edge after a failed commit.
	Logs(context.Context) ([]Log, error)
	// Commit stores everything in one transaction, in order. When it returns nil all of it is durable; on an error none
	// of it was stored and the same call may be repeated.
	Commit(context.Context, []Accepted) error
	// Roots recomputes the roots of a log at sizes not above what is stored; a zero hash stands for "cannot tell".
	// It is called from other goroutines than Commit, also while a Commit runs.
	Roots(ctx context.Context, edge string, epoch event.Epoch, sizes []uint64) ([]tlog.Hash, error)
}

// Gap is what must be known to prove that an archive holds exactly the lost leaves: the right edge of the tree before
// them and the root behind them. Its text is the bytes of an EvidenceLost.
type Gap struct {
	Span
	Before [][32]byte
	Root   tlog.Hash // of [0, To)
}

// Text writes "from to root", then one line per node of Before.
func (g Gap) Text() []byte {
	b := fmt.Appendf(nil, "%d %d %x\n", g.From, g.To, g.Root[:])
	for i := range g.Before {
		b = hex.AppendEncode(b, g.Before[i][:])
		b = append(b, '\n')
	}
	return b
}

// ParseGap reads what Text wrote.
func ParseGap(text []byte) (Gap, error) {
	var g Gap
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	var root string
	if _, err := fmt.Sscanf(lines[0], "%d %d %64s", &g.From, &g.To, &root); err != nil {
		return g, fmt.Errorf("gap: %w", err)
	}
	for i, l := range append([]string{root}, lines[1:]...) {
		b, err := hex.DecodeString(l)
		if err != nil || len(b) != 32 {
			return g, fmt.Errorf("gap: line %d is not a hash", i)
		}
		if i == 0 {
			g.Root = tlog.Hash(b)
		} else {
			g.Before = append(g.Before, [32]byte(b))
		}
	}
	if t := treeOf(g.From, g.Before); !t.whole() || g.To <= g.From || string(g.Text()) != string(text) {
		return g, errors.New("gap: not in its one spelling")
	}
	return g, nil
}

// Fill proves that lines are exactly the leaves of the gap. Nothing else may ever be stored in their place.
func (g Gap) Fill(lines [][]byte) error {
	if uint64(len(lines)) != g.To-g.From {
		return fmt.Errorf("archive holds %d leaves, the gap [%d, %d) lacks %d", len(lines), g.From, g.To, g.To-g.From)
	}
	t := treeOf(g.From, g.Before)
	for _, l := range lines {
		t.extend(tlog.RecordHash(l))
	}
	if t.root() != g.Root {
		return fmt.Errorf("archive does not hold the leaves of the gap [%d, %d): their root differs", g.From, g.To)
	}
	return nil
}

// Edge is everything intake knows of one edge. Step returns a changed copy and leaves the receiver as it was, so that
// what was not committed can be dropped.
type Edge struct {
	ID, Node  string
	Logs      []Log // in order of arrival
	Held      bool
	Duplicate bool

	// What follows lives as long as the process: it proves that two starts live at the same time.
	turn  uint64 // counts hellos; a challenge names one
	boots []boot
	// A repeating edge fills no disk: what was last noted is not noted again.
	noted  uint64 // size at which a mismatch was seen, plus one
	forgot uint64 // size of the receipt that went beyond what we hold
}

// boot is one start of the edge program that said hello since the hub started.
type boot struct {
	id, disk string
	gone     uint64 // turn at which another start took over; 0: this one is current
}

const (
	maxBoots = 8    // starts remembered per edge
	maxLogs  = 1024 // epochs of one edge: beyond it a new one is refused
)

// NewEdge takes up an edge with its stored logs.
func NewEdge(id, node string, logs []Log) Edge {
	e := Edge{ID: id, Node: node, Logs: logs}
	for i := range logs {
		e.Held = e.Held || logs[i].Standing.Held
		e.Duplicate = e.Duplicate || logs[i].Standing.Duplicate
	}
	return e
}

func (e *Edge) find(epoch event.Epoch) *Log {
	for i := len(e.Logs) - 1; i >= 0; i-- {
		if e.Logs[i].Epoch == epoch {
			return &e.Logs[i]
		}
	}
	return nil
}

// Log returns the state of one epoch.
func (e *Edge) Log(epoch event.Epoch) (Log, bool) {
	if l := e.find(epoch); l != nil {
		return *l, true
	}
	return Log{}, false
}

func (e Edge) clone() Edge {
	e.Logs = slices.Clone(e.Logs)
	e.boots = slices.Clone(e.boots)
	return e
}
