package weather

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/wire"
)

const network = "weather"

// book is the disk of one device: a journal in memory. What is in it is durable; what the device has not yet written is
// lost by a crash.
type book struct {
	w      *world
	node   string
	edge   string
	boot   string
	at     int64
	own    key
	hub    key
	epochs []*chapter
	// signed guards I8 for this disk: one root for each size it ever signed.
	signed map[[24]byte]tlog.Hash
}

// chapter is one epoch.
type chapter struct {
	id                event.Epoch
	entries           []journal.Entry
	hashes            []tlog.Hash // tlog's stored hashes
	pruned, receipt   uint64
	backup            uint64
	note              []byte
	sealed, abandoned bool
	damaged           bool // its tail was lost
}

func (c *chapter) size() uint64 { return uint64(len(c.entries)) }

func (c *chapter) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(c.hashes)) {
			return nil, fmt.Errorf("hash %d of %d", x, len(c.hashes))
		}
		out[i] = c.hashes[x]
	}
	return out, nil
}

func (c *chapter) root(n uint64) tlog.Hash {
	h, err := tlog.TreeHash(int64(n), c)
	if err != nil {
		panic(err) // the simulator's own fault
	}
	return h
}

func newBook(w *world, node, edge string) *book {
	b := &book{w: w, node: node, edge: edge, own: newKey(network + "/" + node + "/" + edge), hub: w.witness, signed: map[[24]byte]tlog.Hash{}}
	b.open()
	return b
}

func (b *book) open() *chapter {
	c := &chapter{}
	for i := range c.id {
		c.id[i] = byte(b.w.draw(256))
	}
	b.epochs = append(b.epochs, c)
	return c
}

// copy is what a thief with the card in a reader, or a backup program, makes of the disk.
func (b *book) copy() *book {
	n := *b
	n.signed = map[[24]byte]tlog.Hash{}
	n.epochs = make([]*chapter, len(b.epochs))
	for i, c := range b.epochs {
		d := *c
		d.entries, d.hashes = slices.Clone(c.entries), slices.Clip(c.hashes)
		n.epochs[i] = &d
	}
	return &n
}

func (b *book) last() *chapter { return b.epochs[len(b.epochs)-1] }

func (b *book) find(id event.Epoch) (*chapter, error) {
	for _, c := range b.epochs {
		if c.id == id {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: no epoch %s", journal.ErrRange, id)
}

// write appends one leaf. private may be nil.
func (b *book) write(kind event.Kind, body json.RawMessage, private []byte) uint64 {
	c := b.last()
	l := event.Leaf{Network: network, Node: b.node, Edge: b.edge, Epoch: c.id, Index: c.size(), Kind: kind, At: b.at, Clock: event.Synced,
		Boot: b.boot, Mono: int64(b.w.now), Body: body}
	var salt [32]byte
	if private != nil {
		for i := range salt {
			salt[i] = byte(b.w.draw(256))
		}
		sum := event.Commit(salt, private)
		l.At, l.Mono, l.Commitment = b.at/event.HourMS*event.HourMS, 0, &sum
	}
	line, err := l.Encode()
	if err != nil {
		panic(err)
	}
	return b.put(line, salt, private)
}

func (b *book) put(line []byte, salt [32]byte, private []byte) uint64 {
	c := b.last()
	i := c.size()
	stored, err := tlog.StoredHashes(int64(i), line, c)
	if err != nil {
		panic(err)
	}
	c.hashes = append(c.hashes, stored...)
	c.entries = append(c.entries, journal.Entry{Index: i, Leaf: line, Salt: salt, Private: private})
	return i
}

// truncate is damage found at start: the tail is gone, the epoch is sealed at what is good, and a new one says so.
func (b *book) truncate(lost uint64) {
	c := b.last()
	keep := c.size() - min(lost, c.size()-c.pruned)
	c.entries = c.entries[:keep]
	c.hashes = c.hashes[:tlog.StoredHashCount(int64(keep))]
	if c.receipt > keep {
		c.receipt, c.note = 0, nil
	}
	c.sealed, c.damaged = true, true
	old := c.id
	b.open()
	b.write(event.KindRecovered, marshal(event.Epochal{OldEpoch: old.String(), OldSize: keep}), nil)
}

func marshal(v any) json.RawMessage {
	m, err := event.Marshal(v)
	if err != nil {
		panic(err)
	}
	return m
}

// prune drops what the hub holds and has backed up (I3); the newest leaf always stays.
func (b *book) prune() bool {
	some := false
	for _, c := range b.epochs {
		mark := min(c.receipt, c.backup)
		if b.w.opt.Broken.PruneOnSend {
			mark = c.size()
		}
		if c.size() > 0 {
			mark = min(mark, c.size()-1)
		}
		for i := c.pruned; i < mark; i++ {
			b.w.pruned(b.edge, c.id, i, c.entries[i].Leaf)
			c.entries[i] = journal.Entry{Index: i}
			some = true
		}
		c.pruned = max(c.pruned, mark)
	}
	return some
}

// What follows is outbox.Log.

func (b *book) Epochs() []journal.EpochInfo {
	out := make([]journal.EpochInfo, len(b.epochs))
	for i, c := range b.epochs {
		out[i] = journal.EpochInfo{Epoch: c.id, Size: c.size(), Pruned: c.pruned, Sealed: c.sealed, Abandoned: c.abandoned, Receipt: c.receipt, Backup: c.backup}
	}
	return out
}

func (b *book) Read(_ context.Context, id event.Epoch, from uint64, maxLeaves, maxBytes int) ([]journal.Entry, error) {
	c, err := b.find(id)
	if err != nil {
		return nil, err
	}
	if from < c.pruned {
		return nil, journal.ErrPruned
	}
	if from > c.size() {
		return nil, journal.ErrRange
	}
	var out []journal.Entry
	for _, e := range c.entries[from:min(c.size(), from+uint64(maxLeaves))] {
		if maxBytes -= len(e.Leaf) + len(e.Private); maxBytes < 0 && len(out) > 0 {
			break
		}
		out = append(out, e)
	}
	return out, nil
}

func (b *book) Checkpoint(_ context.Context, id event.Epoch, size uint64) ([]byte, error) {
	c, err := b.find(id)
	if err != nil || size > c.size() {
		return nil, journal.ErrRange
	}
	root := c.root(size)
	k := [24]byte(append(append([]byte{}, id[:]...), fmt.Sprintf("%08x", size)...))
	if old, ok := b.signed[k]; ok && old != root {
		b.w.violate("I8: edge %s signs two heads of size %d", b.edge, size)
	}
	b.signed[k] = root
	return note.Sign(&note.Note{Text: wire.Checkpoint{Origin: b.origin(id), Size: size, Root: root}.Text()}, b.own)
}

func (b *book) origin(id event.Epoch) string { return wire.Origin(network, b.node, b.edge, id) }

func (b *book) RootAt(_ context.Context, id event.Epoch, size uint64) (tlog.Hash, error) {
	c, err := b.find(id)
	if err != nil || size > c.size() {
		return tlog.Hash{}, journal.ErrRange
	}
	return c.root(size), nil
}

func (b *book) Inclusion(_ context.Context, id event.Epoch, index, size uint64) (tlog.RecordProof, error) {
	c, err := b.find(id)
	if err != nil {
		return nil, err
	}
	return tlog.ProveRecord(int64(size), int64(index), c)
}

func (b *book) Consistency(_ context.Context, id event.Epoch, older, newer uint64) (tlog.TreeProof, error) {
	c, err := b.find(id)
	if err != nil {
		return nil, err
	}
	return tlog.ProveTree(int64(newer), int64(older), c)
}

func (b *book) Receipt(id event.Epoch) (uint64, []byte) {
	c, err := b.find(id)
	if err != nil {
		return 0, nil
	}
	return c.receipt, c.note
}

func (b *book) SetReceipt(_ context.Context, text []byte) error {
	n, err := note.Open(text, note.VerifierList(b.own, b.hub))
	if err != nil || len(n.Sigs) != 2 {
		return journal.ErrReceipt
	}
	p, err := wire.ParseCheckpoint(n.Text)
	if err != nil {
		return journal.ErrReceipt
	}
	for _, c := range b.epochs {
		if b.origin(c.id) != p.Origin {
			continue
		}
		if p.Size > c.size() || c.root(p.Size) != p.Root {
			return journal.ErrReceipt
		}
		if p.Size > c.receipt {
			c.receipt, c.note = p.Size, text
		}
		return nil
	}
	return journal.ErrReceipt
}

func (b *book) SetBackup(_ context.Context, id event.Epoch, mark uint64) error {
	c, err := b.find(id)
	if err == nil {
		c.backup = min(mark, c.size())
	}
	return err
}

func (b *book) StartEpoch(_ context.Context, kind event.Kind, body event.Epochal, carry journal.Carry) error {
	id, err := event.ParseEpoch(body.OldEpoch)
	if err != nil {
		return err
	}
	old, err := b.find(id)
	if err != nil || old == b.last() && carry.Size != old.size() {
		return journal.ErrRange
	}
	if old != b.last() {
		b.w.saw("older epoch carried over")
		if old.receipt > body.OldSize {
			old.receipt, old.note = body.OldSize, nil
		}
	}
	b.last().sealed, old.abandoned = true, true
	b.open()
	b.write(kind, marshal(body), nil)
	for i := range carry.Leaves {
		b.replay(&carry.Leaves[i])
	}
	b.w.saw("epoch " + string(kind))
	if len(b.epochs) > 2 {
		b.w.saw("third epoch")
	}
	return nil
}

func (b *book) replay(e *journal.Entry) {
	l, err := event.Parse(e.Leaf)
	if err != nil {
		return // an opaque line has no effect and no second life
	}
	if l.Kind == event.KindReplayed {
		b.write(l.Kind, l.Body, e.Private)
		return
	}
	var private []byte
	if e.Private != nil {
		private = marshal(event.Private{Body: marshal(event.ReplayedPrivate{Salt: fmt.Sprintf("%x", e.Salt[:]), Private: string(e.Private)})})
	}
	b.write(event.KindReplayed, marshal(event.Replayed{OldEpoch: l.Epoch.String(), OldIndex: l.Index, Leaf: string(e.Leaf)}), private)
}
