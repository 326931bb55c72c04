package intake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	cosigning "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/wire"
)

// shop is a hub's intake with real keys, a store in memory and edges that sign.
type shop struct {
	t       testing.TB
	in      *Intake
	store   *memory
	sent    map[string][]wire.Down
	mu      sync.Mutex
	witness note.Verifier
	signer  note.Signer
	edges   map[string]*author
	retired map[string]bool
}

// author is an edge's journal, as far as intake can see it.
type author struct {
	name   string
	signer note.Signer
	public note.Verifier
	epoch  event.Epoch
	lines  [][]byte
	parts  []wire.Private
	hashes []tlog.Hash
}

func (a *author) ReadHashes(x []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(x))
	for i := range x {
		out[i] = a.hashes[x[i]]
	}
	return out, nil
}

func newShop(t testing.TB, edges ...string) *shop {
	s := &shop{t: t, store: &memory{generation: "g1", logs: map[logKey]Log{}, lines: map[logKey][][]byte{}}, sent: map[string][]wire.Down{},
		edges: map[string]*author{}, retired: map[string]bool{}}
	skey, vkey, err := note.GenerateKey(nil, "seed/hub-witness")
	must(t, err)
	s.signer, err = cosigning.NewSignerForCosignatureV1(skey)
	must(t, err)
	vkey, err = cosigning.VKeyToCosignatureV1(vkey)
	must(t, err)
	s.witness, err = cosigning.NewVerifierForCosignatureV1(vkey)
	must(t, err)
	for i, name := range edges {
		s.edges[name] = newAuthor(t, name, byte(i+1))
	}
	s.open()
	return s
}

func newAuthor(t testing.TB, name string, epoch byte) *author {
	skey, vkey, err := note.GenerateKey(nil, "seed/lisbon/"+name)
	must(t, err)
	a := &author{name: name, epoch: event.Epoch{epoch}}
	a.signer, err = note.NewSigner(skey)
	must(t, err)
	a.public, err = note.NewVerifier(vkey)
	must(t, err)
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *shop) open() {
	in, err := Open(context.Background(), Options{Network: "seed", Store: s.store, Edges: s, Sender: s, Signer: s.signer, Witness: s.witness, Serial: true})
	must(s.t, err)
	s.in = in
}

func (s *shop) Admission(edge string) (Admission, bool) {
	a, ok := s.edges[edge]
	if !ok {
		return Admission{}, false
	}
	return Admission{Node: "lisbon", Verifier: a.public, Retired: s.retired[edge]}, true
}

func (s *shop) Send(edge string, payload []byte) error {
	m, err := wire.ParseDown(bytes.Clone(payload))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[edge] = append(s.sent[edge], m)
	return nil
}

// tell sends messages of one edge in one group and returns the answers.
func (s *shop) tell(edge string, ups ...wire.Up) []wire.Down {
	s.t.Helper()
	s.sent[edge] = nil
	var group []Message
	for _, u := range ups {
		b, err := u.Encode()
		must(s.t, err)
		group = append(group, Message{edge, b})
	}
	s.in.Serve(context.Background(), group)
	return s.sent[edge]
}

// one is the single answer of a type.
func one[T wire.Down](t testing.TB, answers []wire.Down) T {
	t.Helper()
	var zero T
	if len(answers) != 1 {
		t.Fatalf("%d answers: %+v", len(answers), answers)
	}
	m, ok := answers[0].(T)
	if !ok {
		t.Fatalf("answer is %T %+v, want %T", answers[0], answers[0], zero)
	}
	return m
}

// tapped is when the first tap of every author is, Unix milliseconds.
const tapped = int64(1_790_000_000_000)

func (a *author) write(t testing.TB, kind event.Kind, body string, private []byte) {
	l := event.Leaf{Network: "seed", Node: "lisbon", Edge: a.name, Epoch: a.epoch, Index: uint64(len(a.lines)), Kind: kind, At: tapped - tapped%event.HourMS, Clock: event.Synced,
		Boot: "0011223344556677", Body: []byte(body)}
	var p wire.Private
	if private != nil {
		p = wire.Private{Salt: [32]byte{1, byte(len(a.lines))}, Bytes: private}
		c := event.Commit(p.Salt, private)
		l.Commitment = &c
	}
	line, err := l.Encode()
	must(t, err)
	a.put(t, line, p)
}

func (a *author) put(t testing.TB, line []byte, p wire.Private) {
	h, err := tlog.StoredHashes(int64(len(a.lines)), line, a)
	must(t, err)
	a.lines, a.parts, a.hashes = append(a.lines, line), append(a.parts, p), append(a.hashes, h...)
}

func (a *author) taps(t testing.TB, n int) {
	for range n {
		a.write(t, event.KindTap, `{"door":"front","reader":"r1","dir":"in","verdict":"granted","reason":"granted","assurance":"pkoc","roster":7}`,
			fmt.Appendf(nil, `{"at":%d,"mono":5,"member":"m-ana","card":"pkoc:0011","body":{"grant":"g1","us":310}}`, tapped+int64(len(a.lines))))
	}
}

func (a *author) root(n uint64) tlog.Hash {
	h, err := tlog.TreeHash(int64(n), a)
	if err != nil {
		panic(err)
	}
	return h
}

func (a *author) head(n uint64) []byte {
	text, err := note.Sign(&note.Note{Text: wire.Checkpoint{Origin: wire.Origin("seed", "lisbon", a.name, a.epoch), Size: n, Root: a.root(n)}.Text()}, a.signer)
	if err != nil {
		panic(err)
	}
	return text
}

func (a *author) batch(from, to int) *wire.Batch {
	return &wire.Batch{Epoch: a.epoch, From: uint64(from), Leaves: a.lines[from:to], Private: a.parts[from:to], Checkpoint: a.head(uint64(to))}
}

func (a *author) hello(boot string, seq uint64, challenge string) *wire.Hello {
	n := uint64(len(a.lines))
	m := &wire.Hello{Boot: boot, Disk: "d1", Seq: seq, Challenge: challenge, Epoch: a.epoch, Size: n}
	if n > 0 {
		m.Checkpoint = a.head(n)
	}
	return m
}

// copy is a cloned disk.
func (a *author) copy() *author {
	b := *a
	b.lines, b.parts, b.hashes = append([][]byte{}, a.lines...), append([]wire.Private{}, a.parts...), append([]tlog.Hash{}, a.hashes...)
	return &b
}

// verified opens a receipt as the edge does.
func (s *shop) verified(a *author, text []byte) wire.Checkpoint {
	s.t.Helper()
	n, err := note.Open(text, note.VerifierList(a.public, s.witness))
	must(s.t, err)
	if len(n.Sigs) != 2 {
		s.t.Fatalf("%d signatures on a receipt", len(n.Sigs))
	}
	c, err := wire.ParseCheckpoint(n.Text)
	must(s.t, err)
	return c
}

type logKey struct {
	edge  string
	epoch event.Epoch
}

// memory is a Store with the strictness of the real one.
type memory struct {
	generation string
	order      []logKey
	logs       map[logKey]Log
	lines      map[logKey][][]byte
	accepted   []Accepted
	commits    int
	err        func([]Accepted) error
}

func (m *memory) Generation(context.Context) (string, error) { return m.generation, nil }

func (m *memory) Logs(context.Context) ([]Log, error) {
	var out []Log
	for _, k := range m.order {
		l := m.logs[k]
		l.Checkpoint, l.receipted, l.told = nil, 0, 0
		out = append(out, l)
	}
	return out, nil
}

func (m *memory) Commit(_ context.Context, all []Accepted) error {
	if m.err != nil {
		if err := m.err(all); err != nil {
			return err
		}
	}
	for i := range all {
		k := logKey{all[i].Log.Edge, all[i].Log.Epoch}
		if m.logs[k].Size != all[i].From {
			return errors.New("gap in the store")
		}
		if _, ok := m.logs[k]; !ok {
			m.order = append(m.order, k)
		}
		m.logs[k] = all[i].Log
		if all[i].Bundle != nil {
			m.lines[k] = append(m.lines[k], bytes.Split(all[i].Bundle, []byte("\n"))...)
		}
	}
	m.accepted = append(m.accepted, all...)
	m.commits++
	return nil
}

func (m *memory) Roots(_ context.Context, edge string, epoch event.Epoch, sizes []uint64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(sizes))
	lines := m.lines[logKey{edge, epoch}]
	for i, n := range sizes {
		if n <= uint64(len(lines)) {
			var t tree
			for _, l := range lines[:n] {
				t.extend(tlog.RecordHash(l))
			}
			out[i] = t.root()
		}
	}
	return out, nil
}

// evidence lists what was stored of one kind.
func (m *memory) evidence(kind string) []Evidence {
	var out []Evidence
	for _, a := range m.accepted {
		for _, e := range a.Evidence {
			if e.Kind == kind {
				out = append(out, e)
			}
		}
	}
	return out
}
