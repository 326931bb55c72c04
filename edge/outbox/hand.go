package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/wire"
)

// Log is the journal. *journal.Journal is one.
type Log interface {
	// Epochs lists every epoch, oldest first; the last one takes the leaves.
	Epochs() []journal.EpochInfo
	// Read returns stored leaves, fewer than asked where bytes or the epoch end; journal.ErrPruned below the kept ones.
	Read(ctx context.Context, epoch event.Epoch, from uint64, maxLeaves, maxBytes int) ([]journal.Entry, error)
	// Checkpoint returns the signed head of that size. The largest signed head is durable before it returns.
	Checkpoint(ctx context.Context, epoch event.Epoch, size uint64) ([]byte, error)
	RootAt(ctx context.Context, epoch event.Epoch, size uint64) (tlog.Hash, error)
	Inclusion(ctx context.Context, epoch event.Epoch, index, size uint64) (tlog.RecordProof, error)
	Consistency(ctx context.Context, epoch event.Epoch, older, newer uint64) (tlog.TreeProof, error)
	Receipt(epoch event.Epoch) (uint64, []byte)
	// SetReceipt keeps a receipt that stands both signatures and our own root; journal.ErrReceipt for any other.
	SetReceipt(ctx context.Context, text []byte) error
	SetBackup(ctx context.Context, epoch event.Epoch, watermark uint64) error
	// StartEpoch seals the current epoch and opens a new one with replay. body.OldEpoch is then abandoned: from now on
	// its Receipt is at most body.OldSize when it is an older epoch than the current one, and nothing past its Receipt is
	// delivered. It must refuse when body.OldEpoch is the current epoch and has leaves behind the last of replay: a tap
	// that was recorded meanwhile would stay behind in an epoch that nobody delivers.
	StartEpoch(ctx context.Context, kind event.Kind, body event.Epochal, carry journal.Carry) error
}

// Roster takes what the hub says about people and grants. It verifies everything itself.
type Roster interface {
	Version() uint64
	// Offer looks at a signed header and says what to fetch.
	Offer(ctx context.Context, header []byte) (Want, error)
	// Part takes one part and says what to fetch next.
	Part(ctx context.Context, version, part, parts uint64, b []byte) (Want, error)
	// Ticket takes a signed freshness ticket.
	Ticket(ctx context.Context, ticket []byte) error
}

// Bounds of reading.
const (
	batchBytes  = wire.MaxMessage - 32<<10 // leaves and private parts of one batch; the rest is salts, head and header
	replayChunk = 512                      // leaves read at once for a new epoch
	replayBytes = 1 << 20
)

// Hand does what a machine asks for, and reads for it what the hub says. It holds no state; its calls come from the
// goroutine that owns the machine.
type Hand struct {
	Log      Log
	Roster   Roster // may be nil
	Boot     string
	Disk     string
	Origin   func(event.Epoch) string // first line of our checkpoints
	Own      note.Verifier            // our key
	Witness  note.Verifier            // the hub's
	Degraded func() bool              // may be nil
	Logger   *slog.Logger
}

// Do carries out one output. It returns the message to send, if any, and then the event that tells the machine how it
// went, if the machine waits for one.
func (h *Hand) Do(ctx context.Context, o Output) (payload []byte, event any) {
	var err error
	switch o := o.(type) {
	case SendHello:
		payload, err = h.hello(ctx, o)
	case SendBatch:
		sent := InSent{Epoch: o.Epoch, From: o.From}
		payload, sent.Leaves, err = h.batch(ctx, o)
		event = sent
	case SendBridge:
		sent := InSent{Epoch: o.Epoch, From: o.Old}
		payload, sent.Leaves, err = h.bridge(ctx, o)
		event = sent
	case SendHead:
		var text []byte
		if text, err = h.Log.Checkpoint(ctx, o.Epoch, o.Size); err == nil {
			payload, err = (&wire.Head{Epoch: o.Epoch, Size: o.Size, Checkpoint: text}).Encode()
		}
	case SendRootsGet:
		payload, err = (&wire.RootsGet{Epoch: o.Epoch, Sizes: o.Sizes}).Encode()
	case SendRosterGet:
		payload, err = (&wire.RosterGet{Version: o.Version, Part: o.Part}).Encode()
	case SetBackup:
		err = h.Log.SetBackup(ctx, o.Epoch, o.Watermark)
	case StartEpoch:
		err = h.start(ctx, o)
		event = InStarted{OK: err == nil}
	}
	if err != nil {
		h.Logger.Warn("outbox could not act", "what", fmt.Sprintf("%T", o), "err", err)
	}
	return payload, event
}

func (h *Hand) info(epoch event.Epoch) (journal.EpochInfo, error) {
	for _, e := range h.Log.Epochs() {
		if e.Epoch == epoch {
			return e, nil
		}
	}
	return journal.EpochInfo{}, fmt.Errorf("epoch %s is not in the journal", epoch)
}

func (h *Hand) hello(ctx context.Context, o SendHello) ([]byte, error) {
	e, err := h.info(o.Epoch)
	if err != nil {
		return nil, err
	}
	m := wire.Hello{Boot: h.Boot, Disk: h.Disk, Seq: o.Seq, Challenge: o.Challenge, Generation: o.Generation, Epoch: o.Epoch, Size: e.Size}
	if m.Size > 0 {
		if m.Checkpoint, err = h.Log.Checkpoint(ctx, o.Epoch, m.Size); err != nil {
			return nil, err
		}
	}
	m.ReceiptSize, m.Receipt = h.Log.Receipt(o.Epoch)
	if h.Roster != nil {
		m.Roster = h.Roster.Version()
	}
	m.Degraded = h.Degraded != nil && h.Degraded()
	return m.Encode()
}

func (h *Hand) batch(ctx context.Context, o SendBatch) ([]byte, uint64, error) {
	entries, err := h.Log.Read(ctx, o.Epoch, o.From, o.Max, batchBytes)
	if err != nil || len(entries) == 0 {
		return nil, 0, err
	}
	n, room := 0, batchBytes
	for n < len(entries) && n < o.Max {
		// A salt in hex and the line ends come on top of what Read counts.
		if room -= len(entries[n].Leaf) + len(entries[n].Private) + 68; room < 0 && n > 0 {
			break
		}
		n++
	}
	m := wire.Batch{Epoch: o.Epoch, From: o.From, Leaves: make([][]byte, n)}
	for i := range m.Leaves {
		m.Leaves[i] = entries[i].Leaf
		if entries[i].Private != nil {
			if m.Private == nil {
				m.Private = make([]wire.Private, n)
			}
			m.Private[i] = wire.Private{Salt: entries[i].Salt, Bytes: entries[i].Private}
		}
	}
	if m.Checkpoint, err = h.Log.Checkpoint(ctx, o.Epoch, o.From+uint64(n)); err != nil {
		return nil, 0, err
	}
	b, err := m.Encode()
	if err != nil {
		return nil, 0, err
	}
	return b, uint64(n), nil
}

// bridge proves that what was pruned here is what the hub once co-signed. The inclusion path of the first kept leaf in the
// tree that ends with it is the compact range before it, right to left.
func (h *Hand) bridge(ctx context.Context, o SendBridge) ([]byte, uint64, error) {
	e, err := h.info(o.Epoch)
	if err != nil {
		return nil, 0, err
	}
	m := wire.Bridge{Epoch: o.Epoch, Old: o.Old, New: e.Pruned}
	m.ReceiptSize, m.Receipt = h.Log.Receipt(o.Epoch)
	if m.New <= m.Old || m.ReceiptSize < m.New {
		return nil, 0, fmt.Errorf("leaves below %d are pruned, the receipt covers %d", m.New, m.ReceiptSize)
	}
	path, err := h.subtrees(ctx, o.Epoch, m.New, e.Size)
	if err != nil {
		return nil, 0, err
	}
	m.Subtrees = path
	if m.Old > 0 {
		if m.Proof, err = h.Log.Consistency(ctx, o.Epoch, m.Old, m.New); err != nil {
			return nil, 0, err
		}
	}
	if m.Ahead, err = h.Log.Consistency(ctx, o.Epoch, m.New, m.ReceiptSize); err != nil {
		return nil, 0, err
	}
	if m.Checkpoint, err = h.Log.Checkpoint(ctx, o.Epoch, m.New); err != nil {
		return nil, 0, err
	}
	b, err := m.Encode()
	return b, m.New - m.Old, err
}

// subtrees returns the compact range of [0, n), left to right.
func (h *Hand) subtrees(ctx context.Context, epoch event.Epoch, n, size uint64) ([]tlog.Hash, error) {
	if n < size {
		path, err := h.Log.Inclusion(ctx, epoch, n, n+1)
		if err != nil {
			return nil, err
		}
		out := make([]tlog.Hash, len(path))
		for i := range path {
			out[len(path)-1-i] = path[i]
		}
		return out, nil
	}
	// Everything is pruned: there is no leaf behind n. The roots of the prefixes that end at subtree borders give the
	// subtrees only where n is a power of two, so keep one leaf: pruning never takes the newest.
	if n&(n-1) == 0 {
		root, err := h.Log.RootAt(ctx, epoch, n)
		return []tlog.Hash{root}, err
	}
	return nil, errors.New("every leaf is pruned; nothing left to bridge to")
}

func (h *Hand) start(ctx context.Context, o StartEpoch) error {
	var replay []journal.Entry
	e, err := h.info(o.Old)
	if err != nil {
		return err
	}
	to := o.To
	if !e.Sealed {
		to = e.Size // taps that came meanwhile go too, also where nothing differed before
	}
	for from := max(o.From, e.Pruned); from < to; {
		chunk, err := h.Log.Read(ctx, o.Old, from, int(min(to-from, replayChunk)), replayBytes)
		if err != nil {
			return err
		}
		if len(chunk) == 0 {
			break
		}
		if replay = append(replay, chunk...); len(replay) > journal.MaxReplay {
			return fmt.Errorf("more than %d leaves differ from the hub's; an operator must export this journal", journal.MaxReplay)
		}
		from += uint64(len(chunk))
	}
	return h.Log.StartEpoch(ctx, o.Kind, event.Epochal{OldEpoch: o.Old.String(), OldSize: o.OldSize, Why: o.Why}, journal.Carry{Leaves: replay, Size: e.Size})
}

// Hear reads one message of the hub and returns what it means for the machine; nil for nothing. Unknown types and
// versions are wire.ErrUnknownType and wire.ErrVersion.
func (h *Hand) Hear(ctx context.Context, payload []byte) (any, error) {
	down, err := wire.ParseDown(payload)
	if err != nil {
		return nil, err
	}
	switch m := down.(type) {
	case *wire.State:
		in := InState{State: m, Relation: h.relate(ctx, m)}
		if len(m.Receipt) > 0 {
			in.NoteSize, in.Note = h.keep(ctx, m.Epoch, m.Receipt)
		}
		return in, nil
	case *wire.Receipt:
		size, verdict := h.keep(ctx, m.Epoch, m.Note)
		if size != m.Size {
			verdict = Worthless
		}
		return InReceipt{Receipt: m, Note: verdict}, nil
	case *wire.Need:
		return InNeed{m}, nil
	case *wire.Conflict:
		return InConflict{m}, nil
	case *wire.Roots:
		return h.compare(ctx, m), nil
	case *wire.RosterOffer:
		return h.want(func(r Roster) (Want, error) { return r.Offer(ctx, m.Note) })
	case *wire.RosterPart:
		return h.want(func(r Roster) (Want, error) { return r.Part(ctx, m.Version, m.Part, m.Parts, m.Bytes) })
	case *wire.Ticket:
		if h.Roster == nil {
			return nil, nil
		}
		return nil, h.Roster.Ticket(ctx, m.Note)
	}
	return nil, nil
}

func (h *Hand) want(ask func(Roster) (Want, error)) (any, error) {
	if h.Roster == nil {
		return nil, nil
	}
	w, err := ask(h.Roster)
	if err != nil {
		return nil, err
	}
	return InRoster{w}, nil
}

func (h *Hand) relate(ctx context.Context, s *wire.State) Relation {
	e, err := h.info(s.Epoch)
	if err != nil {
		return Unclear
	}
	if s.Size > e.Size {
		return Ahead
	}
	mine, err := h.Log.RootAt(ctx, s.Epoch, s.Size)
	if err != nil {
		h.Logger.Warn("own root not read", "err", err)
		return Unclear
	}
	if mine != s.Root {
		return Differs
	}
	return Equal
}

// keep lets the journal take a receipt. A note that both keys signed but that is not of our tree is told apart from one
// that nobody signed: the first is the hub showing another history under our own key.
func (h *Hand) keep(ctx context.Context, epoch event.Epoch, text []byte) (uint64, Verdict) {
	if size, have := h.Log.Receipt(epoch); len(have) > 0 && bytes.Equal(have, text) {
		return size, Ours // verified when it first came; a quiet hub repeats it with every answer
	}
	n, err := note.Open(text, note.VerifierList(h.Own, h.Witness))
	if err != nil || len(n.Sigs) != 2 {
		return 0, Worthless
	}
	c, err := wire.ParseCheckpoint(n.Text)
	if err != nil || c.Origin != h.Origin(epoch) {
		return 0, Worthless
	}
	err = h.Log.SetReceipt(ctx, text)
	switch {
	case err == nil:
		return c.Size, Ours
	case errors.Is(err, journal.ErrReceipt):
		return c.Size, Foreign
	}
	h.Logger.Warn("receipt not kept", "err", err)
	return c.Size, NoNote
}

func (h *Hand) compare(ctx context.Context, m *wire.Roots) InRoots {
	in := InRoots{Roots: m, Known: make([]bool, len(m.Sizes)), Same: make([]bool, len(m.Sizes))}
	for i, size := range m.Sizes {
		if m.Roots[i] == (tlog.Hash{}) {
			continue
		}
		if mine, err := h.Log.RootAt(ctx, m.Epoch, size); err == nil {
			in.Known[i], in.Same[i] = true, mine == m.Roots[i]
		}
	}
	return in
}
