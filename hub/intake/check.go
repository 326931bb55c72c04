package intake

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/wire"
)

// Admission is what the registry says of an edge.
type Admission struct {
	Node     string
	Verifier note.Verifier // the edge's key
	Retired  bool
}

// Keys are what every message is checked against.
type Keys struct {
	Network string
	Witness note.Verifier // the hub's own co-signatures
}

// Checked is a message with everything that can be proved of it alone: signatures, hashes, leaves, commitments. Making it
// is the dear part (an Ed25519 check costs 55 us) and needs no state, so messages of many edges are checked in parallel.
type Checked struct {
	Edge string
	Up   wire.Up

	Head    wire.Checkpoint // verified; zero when the message has none
	Receipt *wire.Checkpoint
	Hashes  []tlog.Hash
	Leaves  []event.Leaf
	Private []PrivatePart
	Bad     []Evidence // leaves and private parts that are refused

	// The shell fills these from the outside before Step.
	Admission Admission
	Admitted  bool
	Foreign   bool        // the epoch belongs to another edge
	Roots     []tlog.Hash // RootsGet: one per size; Head: one
}

// Check parses one message and proves what can be proved without state. Its errors are faults of the sender.
func Check(edge string, payload []byte, a Admission, k Keys) (Checked, error) {
	up, err := wire.ParseUp(payload)
	if err != nil {
		return Checked{}, err
	}
	c := Checked{Edge: edge, Up: up, Admission: a, Admitted: a.Verifier != nil}
	if !c.Admitted || a.Retired {
		return c, nil // answered from the header alone
	}
	open := func(epoch event.Epoch, size uint64, text []byte, keys ...note.Verifier) (wire.Checkpoint, *note.Note, error) {
		return openNote(wire.Origin(k.Network, a.Node, edge, epoch), size, text, keys)
	}
	head := func(epoch event.Epoch, size uint64, text *[]byte) error {
		var n *note.Note
		if c.Head, n, err = open(epoch, size, *text, a.Verifier); err == nil {
			*text, err = plainNote(n)
		}
		return err
	}
	switch m := up.(type) {
	case *wire.Hello:
		if m.Size > 0 {
			err = head(m.Epoch, m.Size, &m.Checkpoint)
		}
		// A receipt we cannot verify is no reason to turn the edge away: it may come from a hub key before ours.
		if own, _, err := open(m.Epoch, m.ReceiptSize, m.Receipt, a.Verifier, k.Witness); err == nil {
			c.Receipt = &own
		}
	case *wire.Head:
		err = head(m.Epoch, m.Size, &m.Checkpoint)
	case *wire.Bridge:
		if err = head(m.Epoch, m.New, &m.Checkpoint); err == nil {
			var own wire.Checkpoint
			own, _, err = open(m.Epoch, m.ReceiptSize, m.Receipt, a.Verifier, k.Witness)
			c.Receipt = &own
		}
	case *wire.Batch:
		if err = head(m.Epoch, m.From+uint64(len(m.Leaves)), &m.Checkpoint); err == nil {
			c.leaves(m, k.Network)
		}
	}
	if err != nil {
		return Checked{}, fmt.Errorf("message of edge %s: %w", edge, err)
	}
	return c, nil
}

// plainNote writes an edge's verified note again with the edge's one signature line and nothing else. A note may carry lines
// of keys that its reader does not know, and what we co-sign becomes part of every verification, backup and export: a false
// line in our own name, or in another edge's, would spoil them for the whole hub, and long ones would burst the receipt.
func plainNote(n *note.Note) ([]byte, error) {
	sig, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return fmt.Appendf(nil, "%s\n\u2014 %s %s\n", n.Text, n.Sigs[0].Name, base64.StdEncoding.EncodeToString(sig)), nil
}

// openNote verifies that all keys signed the checkpoint of this origin and size.
func openNote(origin string, size uint64, text []byte, keys []note.Verifier) (wire.Checkpoint, *note.Note, error) {
	n, err := note.Open(text, note.VerifierList(keys...))
	if err != nil {
		return wire.Checkpoint{}, nil, fmt.Errorf("checkpoint: %w", err)
	}
	if len(n.Sigs) != len(keys) {
		return wire.Checkpoint{}, nil, fmt.Errorf("checkpoint: %d of %d signatures", len(n.Sigs), len(keys))
	}
	c, err := wire.ParseCheckpoint(n.Text)
	switch {
	case err != nil:
		return c, nil, err
	case c.Origin != origin:
		return c, nil, fmt.Errorf("checkpoint: it is of %s, want %s", wire.Plain(c.Origin), origin)
	case c.Size != size:
		return c, nil, fmt.Errorf("checkpoint: it is signed at %d, want %d", c.Size, size)
	}
	return c, n, nil
}

// leaves hashes every line as it is, and reads it. A line that is not the leaf of its address cannot be taken out, since
// every later root covers its bytes, and must not stop the stream: it is stored opaque, without any effect, and becomes
// evidence. Only its author can have signed it.
func (c *Checked) leaves(m *wire.Batch, network string) {
	c.Hashes = make([]tlog.Hash, len(m.Leaves))
	c.Leaves = make([]event.Leaf, len(m.Leaves))
	for i, line := range m.Leaves {
		index := m.From + uint64(i)
		c.Hashes[i] = tlog.RecordHash(line)
		l, err := event.Parse(line)
		if err == nil && (l.Network != network || l.Node != c.Admission.Node || l.Edge != c.Edge || l.Epoch != m.Epoch || l.Index != index) {
			err = fmt.Errorf("it calls itself %s/%s/%s %s %d", l.Network, l.Node, l.Edge, l.Epoch, l.Index)
		}
		if err != nil {
			c.Bad = append(c.Bad, Evidence{Kind: EvidenceLeaf, Index: index, Bytes: clip(line), Why: err.Error()})
			l = event.Leaf{Network: network, Node: c.Admission.Node, Edge: c.Edge, Epoch: m.Epoch, Index: index}
		}
		c.Leaves[i] = l
		if i < len(m.Private) && m.Private[i].Bytes != nil {
			c.private(&l, &m.Private[i])
		}
	}
}

// private keeps a private part that its leaf commits to. Of another one only the digest is kept: it may name a person who
// asked to be forgotten, and evidence is never erased.
func (c *Checked) private(l *event.Leaf, p *wire.Private) {
	sum := event.Commit(p.Salt, p.Bytes)
	switch {
	case l.Commitment == nil:
		c.Bad = append(c.Bad, Evidence{Kind: EvidencePrivate, Index: l.Index, Bytes: sum[:], Why: "the leaf has no commitment"})
	case *l.Commitment != sum:
		c.Bad = append(c.Bad, Evidence{Kind: EvidencePrivate, Index: l.Index, Bytes: sum[:], Why: "the leaf commits to another part"})
	case len(p.Bytes) > event.MaxPrivate:
		c.Bad = append(c.Bad, Evidence{Kind: EvidencePrivate, Index: l.Index, Bytes: sum[:], Why: "the part is too long"})
	case event.CheckJSON(p.Bytes) != nil:
		// What is not text in the one form would change its bytes on the way through an export.
		c.Bad = append(c.Bad, Evidence{Kind: EvidencePrivate, Index: l.Index, Bytes: sum[:], Why: "the part is not compact JSON"})
	case !inItsHour(l, p.Bytes):
		// An exact time that the signed leaf denies would move a person, or a line, to wherever its author likes.
		c.Bad = append(c.Bad, Evidence{Kind: EvidencePrivate, Index: l.Index, Bytes: sum[:], Why: "the part's time is not in the leaf's hour"})
	default:
		c.Private = append(c.Private, PrivatePart{Index: l.Index, Salt: p.Salt, Bytes: p.Bytes})
	}
}

// inItsHour says whether the exact time in a private part lies in the hour that its leaf states. What a replayed leaf carries
// has its own time inside, which the projection holds to the carried leaf; and a part that nobody can read says no time.
func inItsHour(l *event.Leaf, part []byte) bool {
	if l.Kind == event.KindReplayed {
		return true
	}
	at, ok := leadingAt(part)
	if !ok {
		p, err := event.ParsePrivate(part)
		if err != nil {
			return true
		}
		at = p.At
	}
	return at >= l.At && at-l.At < event.HourMS
}

// leadingAt reads the time where event.Private.Encode writes it, a twentieth of the general parser's time. The part is known to be
// compact JSON without a key twice. But the parser takes "AT" for "at", and the last one counts: a part in which the key could
// stand once more, in any spelling, is left to it.
func leadingAt(part []byte) (int64, bool) {
	rest, ok := bytes.CutPrefix(part, []byte(`{"at":`))
	end := bytes.IndexByte(rest, ',')
	if !ok || end < 0 || bytes.IndexByte(rest, '\\') >= 0 {
		return 0, false
	}
	for i := end; i+3 < len(rest); i++ {
		if rest[i] == '"' && rest[i+1]|0x20 == 'a' && rest[i+2]|0x20 == 't' && rest[i+3] == '"' {
			return 0, false
		}
	}
	at, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	return at, err == nil
}

// clip bounds evidence of a hostile line; its whole bytes stand in the bundle.
func clip(b []byte) []byte { return b[:min(len(b), event.MaxLeaf)] }

// epochOf names the log a message is about.
func epochOf(up wire.Up) (event.Epoch, bool) {
	switch m := up.(type) {
	case *wire.Hello:
		return m.Epoch, true
	case *wire.Batch:
		return m.Epoch, true
	case *wire.Head:
		return m.Epoch, true
	case *wire.RootsGet:
		return m.Epoch, true
	case *wire.Bridge:
		return m.Epoch, true
	}
	return event.Epoch{}, false
}

// sizesOf lists the sizes whose roots Step wants to know.
func sizesOf(up wire.Up) []uint64 {
	switch m := up.(type) {
	case *wire.Head:
		return []uint64{m.Size}
	case *wire.RootsGet:
		return m.Sizes
	}
	return nil
}

// challenge names one hello of one run of the hub.
func challenge(run string, turn uint64) string { return fmt.Sprintf("%s-%d", run, turn) }

// turnOf reads a challenge of this run; 0 for any other.
func turnOf(run, text string) uint64 {
	rest, ok := strings.CutPrefix(text, run+"-")
	var n uint64
	if _, err := fmt.Sscanf(rest, "%d", &n); !ok || err != nil {
		return 0
	}
	return n
}
