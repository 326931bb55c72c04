package journal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mrand "math/rand/v2"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// keys of one edge and one hub.
type keys struct {
	signer   note.Signer
	verifier note.Verifier
	cosigner *fnote.Signer
}

func newKeys(t testing.TB) keys {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "commons/lisbon/lisbon-front")
	if err != nil {
		t.Fatal(err)
	}
	var k keys
	if k.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if k.verifier, err = note.NewVerifier(vkey); err != nil {
		t.Fatal(err)
	}
	k.cosigner = newCosigner(t, "commons/hub-witness")
	return k
}

func newCosigner(t testing.TB, name string) *fnote.Signer {
	t.Helper()
	skey, _, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := fnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (k keys) options(dir string) Options {
	return Options{
		Dir: dir, Network: "commons", Node: "lisbon", Edge: "lisbon-front",
		Signer: k.signer, Verifier: k.verifier, Cosigner: k.cosigner.Verifier(),
		Reserve: 1 << 16,
	}
}

// cosign makes the receipt the hub would send for a checkpoint.
func cosign(t testing.TB, k keys, by *fnote.Signer, checkpoint []byte) []byte {
	t.Helper()
	n, err := note.Open(checkpoint, note.VerifierList(k.verifier))
	if err != nil {
		t.Fatal(err)
	}
	out, err := note.Sign(n, by)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var testStart = time.Date(2026, 3, 1, 9, 30, 0, 123e6, time.UTC)

// tap is a record like the ones doors write.
// tap is of one of seven members, but for the 14th, of a card that is nobody's.
func tap(n int) Record {
	member := fmt.Sprintf("member-%d", n%7)
	if n == 14 {
		member = ""
	}
	return Record{
		Kind: event.KindTap, At: testStart.Add(time.Duration(n) * time.Second), Mono: time.Duration(n+1) * time.Second,
		Clock: event.Synced,
		Body:  json.RawMessage(`{"door":"front","reader":"front-in","dir":"in","verdict":"allow","reason":"granted","assurance":"pkoc","roster":7}`),
		Private: &event.Private{
			Member: member, Card: fmt.Sprintf("pkoc:%064x", n),
			Body: json.RawMessage(`{"grant":"residents","rule":"always","us":412}`),
		},
	}
}

func door(n int) Record {
	return Record{
		Kind: event.KindDoor, At: testStart.Add(time.Duration(n) * time.Second), Mono: time.Duration(n+1) * time.Second,
		Clock: event.Synced, Body: json.RawMessage(fmt.Sprintf(`{"door":"front","state":"opened","why":"n %d"}`, n)),
	}
}

// log is a journal with a memory of its own: CheckJournal holds the two against each other after every step.
type testLog struct {
	t    testing.TB
	j    *Journal
	opt  Options
	keys keys
	mem  []epochMemory
	n    int
}

// epochMemory is the reference: every leaf hash and stored tree hash of one epoch, kept by tlog in memory.
type epochMemory struct {
	id     event.Epoch
	leaves [][]byte
	hashes []tlog.Hash
	erased map[uint64]bool
}

func (m *epochMemory) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, n := range at {
			out[i] = m.hashes[n]
		}
		return out, nil
	})
}

func (m *epochMemory) root(t testing.TB, size int) tlog.Hash {
	t.Helper()
	h, err := tlog.TreeHash(int64(size), m.reader())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newLog(t testing.TB) *testLog {
	t.Helper()
	k := newKeys(t)
	return openLog(t, k, k.options(t.TempDir()))
}

func openLog(t testing.TB, k keys, opt Options) *testLog {
	t.Helper()
	j, err := Open(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{t: t, j: j, opt: opt, keys: k}
	t.Cleanup(func() { l.j.Close() })
	l.learn()
	return l
}

// learn takes what was acknowledged since into the reference, one epoch after another.
func (l *testLog) learn() {
	l.t.Helper()
	for i, e := range l.j.Epochs() {
		if i == len(l.mem) {
			l.mem = append(l.mem, epochMemory{id: e.Epoch, erased: map[uint64]bool{}})
		}
		m := &l.mem[i]
		if m.id != e.Epoch {
			l.t.Fatalf("epoch %d changed its name from %s to %s", i, m.id, e.Epoch)
		}
		for uint64(len(m.leaves)) < e.Size {
			got, err := l.j.Read(context.Background(), e.Epoch, uint64(len(m.leaves)), 1000, 1<<20)
			if err != nil {
				l.t.Fatal(err)
			}
			for _, n := range got {
				more, err := tlog.StoredHashes(int64(len(m.leaves)), n.Leaf, m.reader())
				if err != nil {
					l.t.Fatal(err)
				}
				m.hashes = append(m.hashes, more...)
				m.leaves = append(m.leaves, n.Leaf)
			}
		}
	}
}

func (l *testLog) append(n int) {
	l.t.Helper()
	for n > 0 {
		k := min(n, MaxAppend)
		records := make([]Record, k)
		for i := range records {
			if l.n++; l.n%5 == 0 {
				records[i] = door(l.n)
			} else {
				records[i] = tap(l.n)
			}
		}
		if _, err := l.j.Append(context.Background(), records...); err != nil {
			l.t.Fatal(err)
		}
		n -= k
	}
	l.learn()
}

func (l *testLog) reopen() {
	l.t.Helper()
	if err := l.j.Close(); err != nil {
		l.t.Fatal(err)
	}
	j, err := Open(context.Background(), l.opt)
	if err != nil {
		l.t.Fatal(err)
	}
	l.j = j
}

// CheckJournal holds the journal against the reference: heads, every readable leaf, private parts, proofs of random
// pairs, and the journal's own Verify.
func (l *testLog) CheckJournal() {
	l.t.Helper()
	ctx := context.Background()
	infos := l.j.Epochs()
	if len(infos) != len(l.mem) {
		l.t.Fatalf("%d epochs, want %d", len(infos), len(l.mem))
	}
	for i := range l.mem {
		m, e := &l.mem[i], infos[i]
		if e.Epoch != m.id || e.Size != uint64(len(m.leaves)) {
			l.t.Fatalf("epoch %d is %s with %d leaves, want %s with %d", i, e.Epoch, e.Size, m.id, len(m.leaves))
		}
		if e.Sealed != (i < len(l.mem)-1) {
			l.t.Fatalf("epoch %d: sealed is %v", i, e.Sealed)
		}
		l.checkLeaves(m, e)
		for range 5 {
			if e.Size > 0 {
				l.checkProofs(m, e.Size)
			}
		}
	}
	last := &l.mem[len(l.mem)-1]
	want := Head{Epoch: last.id, Size: uint64(len(last.leaves)), Root: last.root(l.t, len(last.leaves))}
	if got := l.j.Head(); got != want {
		l.t.Fatalf("head is %v, want %v", got, want)
	}
	r, err := l.j.Verify(ctx)
	if err != nil || !r.OK {
		l.t.Fatalf("verify: %v, %+v, first %+v", err, r, r.First)
	}
}

func (l *testLog) checkLeaves(m *epochMemory, e EpochInfo) {
	l.t.Helper()
	for at := e.Pruned; at < e.Size; {
		got, err := l.j.Read(context.Background(), m.id, at, 300, 1<<20)
		if err != nil {
			l.t.Fatalf("reading from %d: %v", at, err)
		}
		for _, n := range got {
			if n.Index != at || string(n.Leaf) != string(m.leaves[at]) {
				l.t.Fatalf("leaf %d differs from what was acknowledged", at)
			}
			leaf, err := event.Parse(n.Leaf)
			if err != nil {
				l.t.Fatal(err)
			}
			switch {
			case leaf.Commitment == nil || m.erased[at]:
				if n.Private != nil || n.Salt != [32]byte{} {
					l.t.Fatalf("leaf %d has a private part that should not be there", at)
				}
			case n.Private == nil || event.Commit(n.Salt, n.Private) != *leaf.Commitment:
				l.t.Fatalf("leaf %d: private part is missing or does not match", at)
			}
			at++
		}
	}
}

func (l *testLog) checkProofs(m *epochMemory, size uint64) {
	l.t.Helper()
	ctx := context.Background()
	newer := 1 + mrand.Uint64N(size)
	older, index := 1+mrand.Uint64N(newer), mrand.Uint64N(newer)
	root, err := l.j.RootAt(ctx, m.id, newer)
	if err != nil || root != m.root(l.t, int(newer)) {
		l.t.Fatalf("root at %d: %v, %v", newer, root, err)
	}
	p, err := l.j.Inclusion(ctx, m.id, index, newer)
	if err == nil {
		err = tlog.CheckRecord(p, int64(newer), root, int64(index), tlog.RecordHash(m.leaves[index]))
	}
	if err != nil {
		l.t.Fatalf("inclusion of %d in %d: %v", index, newer, err)
	}
	c, err := l.j.Consistency(ctx, m.id, older, newer)
	if err == nil {
		err = tlog.CheckTree(c, int64(newer), root, int64(older), m.root(l.t, int(older)))
	}
	if err != nil {
		l.t.Fatalf("consistency of %d and %d: %v", older, newer, err)
	}
}

// receipt has the hub acknowledge the first size leaves of the current epoch; 0 means all.
func (l *testLog) receipt(size uint64) {
	l.t.Helper()
	ctx := context.Background()
	id := l.j.Head().Epoch
	cp, err := l.j.Checkpoint(ctx, id, size)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.j.SetReceipt(ctx, cosign(l.t, l.keys, l.keys.cosigner, cp)); err != nil {
		l.t.Fatal(err)
	}
}

func (l *testLog) backup(size uint64) {
	l.t.Helper()
	if err := l.j.SetBackup(context.Background(), l.j.Head().Epoch, size); err != nil {
		l.t.Fatal(err)
	}
}

// rehash rebuilds the reference hashes after its leaves were cut.
func (l *testLog) rehash() {
	l.t.Helper()
	for i := range l.mem {
		m := &l.mem[i]
		leaves := m.leaves
		m.hashes = nil
		for n, leaf := range leaves {
			more, err := tlog.StoredHashes(int64(n), leaf, m.reader())
			if err != nil {
				l.t.Fatal(err)
			}
			m.hashes = append(m.hashes, more...)
		}
	}
}
