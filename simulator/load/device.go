package load

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/pki"
	"kith/internal/wire"
)

// device is an edge that is nothing but its key and the right edge of its tree. It writes leaves and signs heads as a
// journal does, before anything is timed, so that a generator costs the hub's machine little.
type device struct {
	keys  *pki.Edge
	dir   string
	epoch event.Epoch
	boot  string
	size  uint64
	nodes []tlog.Hash
	rng   *mathrand.Rand
}

// message is one signed batch, ready to send.
type message struct {
	payload  []byte
	from, to uint64
}

func newDevice(dir string) (*device, error) {
	keys, err := pki.OpenEdge(dir)
	if err != nil {
		return nil, err
	}
	d := &device{keys: keys, dir: dir}
	var boot [8]byte
	rand.Read(boot[:])
	rand.Read(d.epoch[:])
	d.rng = mathrand.New(mathrand.NewPCG(1, uint64(d.epoch[0])))
	d.boot = hex.EncodeToString(boot[:])
	return d, nil
}

// batches makes n batches of so many leaves each.
func (d *device) batches(n, leaves int) ([]message, error) {
	out := make([]message, n)
	for i := range out {
		var err error
		if out[i], err = d.batch(leaves); err != nil {
			return nil, fmt.Errorf("making a batch: %w", err)
		}
	}
	return out, nil
}

func (d *device) batch(n int) (message, error) {
	b := wire.Batch{Epoch: d.epoch, From: d.size, Leaves: make([][]byte, n), Private: make([]wire.Private, n)}
	for i := range n {
		var err error
		if b.Leaves[i], b.Private[i], err = d.leaf(); err != nil {
			return message{}, err
		}
		d.push(tlog.RecordHash(b.Leaves[i]))
	}
	head := wire.Checkpoint{Origin: wire.Origin(d.keys.Network, d.keys.Node, d.keys.ID, d.epoch), Size: d.size, Root: d.root()}
	var err error
	if b.Checkpoint, err = note.Sign(&note.Note{Text: head.Text()}, d.keys.Signer); err != nil {
		return message{}, err
	}
	payload, err := b.Encode()
	return message{payload, b.From, d.size}, err
}

// people is how many pass one edge's door: of a hundred taps in a row, some 63 are different ones.
const people = 100

// leaf is an ordinary tap: somebody, at the one door.
func (d *device) leaf() ([]byte, wire.Private, error) {
	at := time.Now().UnixMilli()
	body, err := event.Marshal(event.Tap{Door: "front", Reader: "front-in", Direction: "in", Verdict: "grant", Reason: "granted",
		Assurance: "pkoc", Roster: 7})
	if err != nil {
		return nil, wire.Private{}, err
	}
	detail, err := event.Marshal(event.TapPrivate{Grant: "members-house", Rule: "group members, zone house", Micros: 310})
	if err != nil {
		return nil, wire.Private{}, err
	}
	who := d.rng.IntN(people)
	private := event.Private{At: at, Mono: int64(d.size) * 1e6, Member: fmt.Sprintf("%s-%03d", d.keys.ID, who),
		Card: fmt.Sprintf("pkoc:%064x", who+1), Body: detail}
	p := wire.Private{}
	if p.Bytes, err = private.Encode(); err != nil {
		return nil, p, err
	}
	rand.Read(p.Salt[:])
	commitment := event.Commit(p.Salt, p.Bytes)
	l := event.Leaf{Network: d.keys.Network, Node: d.keys.Node, Edge: d.keys.ID, Epoch: d.epoch, Index: d.size, Kind: event.KindTap,
		At: at - at%event.HourMS, Clock: event.Synced, Boot: d.boot, Body: body, Commitment: &commitment}
	line, err := l.Encode()
	return line, p, err
}

// push extends the compact range of RFC 6962.
func (d *device) push(h tlog.Hash) {
	for n := d.size; n&1 == 1; n >>= 1 {
		last := len(d.nodes) - 1
		h = tlog.NodeHash(d.nodes[last], h)
		d.nodes = d.nodes[:last]
	}
	d.nodes = append(d.nodes, h)
	d.size++
}

func (d *device) root() tlog.Hash {
	h := d.nodes[len(d.nodes)-1]
	for i := len(d.nodes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(d.nodes[i], h)
	}
	return h
}

// covered proves a receipt: our signature and the hub's over our own root at our own size.
func (d *device) covered(receipt []byte) error {
	n, err := note.Open(receipt, note.VerifierList(d.keys.Verifier, d.keys.CosignVerifier))
	if err != nil {
		return fmt.Errorf("receipt of %s: %w", d.keys.ID, err)
	}
	c, err := wire.ParseCheckpoint(n.Text)
	if err != nil {
		return fmt.Errorf("receipt of %s: %w", d.keys.ID, err)
	}
	if len(n.Sigs) != 2 || c.Size != d.size || c.Root != d.root() {
		return fmt.Errorf("receipt of %s: it covers %d leaves with %d signatures, want %d with 2, of our root", d.keys.ID, c.Size, len(n.Sigs), d.size)
	}
	return nil
}
