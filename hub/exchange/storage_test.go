package exchange

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/hub/intake"
	"kith/hub/registry"
	"kith/hub/servicelog"
	"kith/hub/store"
	"kith/internal/event"
	"kith/internal/pki"
	"kith/internal/wire"
)

var hour = 472222 * event.HourMS

const testConfig = "network: demo\nnodes:\n  - id: lisbon\n    name: Lisbon\n    zone: Europe/Lisbon\n"

// bench is a real desk, opened in a directory, with the intake's decisions in front of its store. The shell of the intake
// is left out so that a test can stop between any two of its steps.
type bench struct {
	t      *testing.T
	cfg    Config
	dir    string
	x      *Exchange
	edges  map[string]intake.Edge
	ground intake.Ground
}

func newBench(t *testing.T) *bench {
	t.Helper()
	cfg, err := Decode("hub.yaml", []byte(testConfig))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, cfg: cfg, dir: filepath.Join(t.TempDir(), "state")}
	b.open()
	t.Cleanup(func() { b.x.close() })
	return b
}

func (b *bench) open() {
	b.t.Helper()
	x, err := openDesk(b.t.Context(), b.cfg, Options{StateDir: b.dir})
	if err != nil {
		b.t.Fatal(err)
	}
	b.x = x
	b.edges, _ = intake.Group(must(x.storage.Logs(b.t.Context())))
	b.ground = intake.Ground{Generation: must(x.storage.Generation(b.t.Context())), Run: "run", Credit: 100}
}

// restart closes in order and opens again.
func (b *bench) restart() {
	b.t.Helper()
	if err := b.x.close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

// kill goes on with what lay on the disk at this moment, as after a power cut: nothing was closed.
func (b *bench) kill() {
	b.t.Helper()
	image := filepath.Join(b.t.TempDir(), "state")
	err := filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		to := filepath.Join(image, strings.TrimPrefix(path, b.dir))
		if err != nil || d.IsDir() {
			return firstError(err, os.MkdirAll(to, 0o700))
		}
		info, err := d.Info()
		if err != nil || strings.HasSuffix(path, "-shm") {
			return err
		}
		content, err := os.ReadFile(path)
		return firstError(err, os.WriteFile(to, content, info.Mode()))
	})
	if err = firstError(err, b.x.close()); err != nil {
		b.t.Fatal(err)
	}
	b.dir = image
	b.open()
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// step checks, decides and stores one message, and gives what is to be signed and answered.
func (b *bench) step(id string, payload []byte) (intake.Edge, []intake.Output) {
	b.t.Helper()
	ctx := b.t.Context()
	admission, _ := b.x.Admission(id)
	c, err := intake.Check(id, payload, admission, intake.Keys{Network: b.cfg.Network, Witness: b.x.keys.CosignVerifier})
	if err != nil {
		b.t.Fatal(err)
	}
	switch m := c.Up.(type) {
	case *wire.Head:
		c.Roots = must(b.x.storage.Roots(ctx, id, m.Epoch, []uint64{m.Size}))
	case *wire.RootsGet:
		c.Roots = must(b.x.storage.Roots(ctx, id, m.Epoch, m.Sizes))
	}
	e, ok := b.edges[id]
	if !ok {
		e = intake.NewEdge(id, admission.Node, nil)
	}
	next, outputs := e.Step(b.ground, &c)
	var all []intake.Accepted
	for _, o := range outputs {
		if o.Accept != nil {
			all = append(all, *o.Accept)
		}
	}
	if err := b.x.storage.Commit(ctx, all); err != nil {
		b.t.Fatal(err)
	}
	return next, outputs
}

// say is step and then the answers, co-signed.
func (b *bench) say(id string, payload []byte) []wire.Down {
	b.t.Helper()
	next, outputs := b.step(id, payload)
	answers, err := next.Finish(outputs, b.x.keys.Cosigner)
	if err != nil {
		b.t.Fatal(err)
	}
	b.edges[id] = next
	return answers
}

// settle tells the store the receipts, compares what the store keeps with what the intake believes, before and after a
// restart, and verifies everything.
func (b *bench) settle() store.Report {
	b.t.Helper()
	believed := map[event.Epoch]intake.Log{}
	for _, e := range b.edges {
		for _, l := range e.Logs {
			if err := b.x.storage.Commit(b.t.Context(), []intake.Accepted{{Log: l, From: l.Size}}); err != nil {
				b.t.Fatal(err)
			}
			believed[l.Epoch] = l
		}
	}
	for range 2 {
		kept := must(b.x.storage.Logs(b.t.Context()))
		if len(kept) != len(believed) {
			b.t.Fatalf("%d logs kept, %d believed", len(kept), len(believed))
		}
		for _, l := range kept {
			if have, want := public(l), public(believed[l.Epoch]); !reflect.DeepEqual(have, want) {
				b.t.Fatalf("have %+v\nwant %+v", have, want)
			}
		}
		b.restart()
	}
	r, err := b.x.storage.Verify(b.t.Context(), b.x.checks())
	if err != nil || !r.OK() {
		b.t.Fatalf("%v %v", err, r.Differences)
	}
	return r
}

// public leaves out what lives in memory only.
func public(l intake.Log) intake.Log {
	r := l.Range
	if len(r) == 0 {
		r = nil
	}
	return intake.Log{Edge: l.Edge, Node: l.Node, Epoch: l.Epoch, Size: l.Size, Root: l.Root, Range: r, Receipt: l.Receipt,
		Standing: l.Standing, Boot: l.Boot, Backup: l.Backup}
}

// journal plays one epoch of one edge.
type journal struct {
	t      *testing.T
	keys   *pki.Edge
	epoch  event.Epoch
	lines  [][]byte
	parts  []wire.Private
	hashes []tlog.Hash
}

// admit lets the desk admit an edge, as an operator does.
func (b *bench) admit(id string) *journal {
	b.t.Helper()
	dir := filepath.Join(b.t.TempDir(), id)
	if _, err := b.x.Do(b.t.Context(), Order{Bundle: &BundleOrder{Edge: id, Node: "lisbon", Dir: dir}}); err != nil {
		b.t.Fatal(err)
	}
	return &journal{t: b.t, keys: must(pki.OpenEdge(filepath.Join(dir, "identity"))), epoch: event.Epoch{1}}
}

func (j *journal) fork(epoch byte, keep int) *journal {
	f := &journal{t: j.t, keys: j.keys, epoch: event.Epoch{epoch}}
	for i := range keep {
		f.put(j.lines[i], j.parts[i])
	}
	return f
}

// ReadHashes is tlog.HashReader.
func (j *journal) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, j.hashes[i])
	}
	return out, nil
}

func (j *journal) size() uint64 { return uint64(len(j.lines)) }

func (j *journal) put(line []byte, part wire.Private) {
	j.t.Helper()
	h, err := tlog.StoredHashes(int64(len(j.lines)), line, j)
	if err != nil {
		j.t.Fatal(err)
	}
	j.hashes = append(j.hashes, h...)
	j.lines, j.parts = append(j.lines, line), append(j.parts, part)
}

func (j *journal) add(kind event.Kind, body any, p *event.Private) {
	j.t.Helper()
	l := event.Leaf{Network: "demo", Node: "lisbon", Edge: j.keys.ID, Epoch: j.epoch, Index: j.size(), Kind: kind, At: hour, Clock: event.Synced,
		Boot: "00112233445566aa", Body: must(event.Marshal(body))}
	var part wire.Private
	if p != nil {
		part = wire.Private{Salt: [32]byte{1, byte(l.Index)}, Bytes: must(p.Encode())}
		c := event.Commit(part.Salt, part.Bytes)
		l.Commitment = &c
	}
	j.put(must(l.Encode()), part)
}

func (j *journal) taps(n int) {
	j.t.Helper()
	for range n {
		at := hour + int64(j.size())*1000
		j.add(event.KindTap, event.Tap{Door: "front", Reader: "r1", Direction: "in", Verdict: "grant", Reason: "granted", Assurance: "pkoc", Roster: 1},
			&event.Private{At: at, Member: fmt.Sprintf("m%d", j.size()%7), Card: "pkoc:ab", Body: json.RawMessage(`{"grant":"g1","us":830}`)})
	}
}

func (j *journal) root(size uint64) tlog.Hash {
	j.t.Helper()
	return must(tlog.TreeHash(int64(size), j))
}

func (j *journal) checkpoint(size uint64) []byte {
	j.t.Helper()
	c := wire.Checkpoint{Origin: wire.Origin("demo", "lisbon", j.keys.ID, j.epoch), Size: size, Root: j.root(size)}
	return must(note.Sign(&note.Note{Text: c.Text()}, j.keys.Signer))
}

func (j *journal) batch(from, to uint64) []byte {
	j.t.Helper()
	return must((&wire.Batch{Epoch: j.epoch, From: from, Leaves: j.lines[from:to], Private: j.parts[from:to], Checkpoint: j.checkpoint(to)}).Encode())
}

func (j *journal) hello() []byte {
	j.t.Helper()
	m := &wire.Hello{Boot: "00112233445566aa", Disk: "d1", Seq: 1, Epoch: j.epoch, Size: j.size()}
	if m.Size > 0 {
		m.Checkpoint = j.checkpoint(m.Size)
	}
	return must(m.Encode())
}

// bridge leads from the hub's size to the first leaf that still exists, with the hub's own receipt ahead of it.
func (j *journal) bridge(from, to uint64, receipt *wire.Receipt) []byte {
	j.t.Helper()
	m := &wire.Bridge{Epoch: j.epoch, Old: from, New: to, ReceiptSize: receipt.Size, Checkpoint: j.checkpoint(to), Receipt: receipt.Note}
	for level, at := 40, uint64(0); level >= 0; level-- {
		if to>>level&1 == 1 {
			m.Subtrees = append(m.Subtrees, j.hashes[tlog.StoredHashIndex(level, int64(at>>level))])
			at += 1 << level
		}
	}
	if from > 0 {
		m.Proof = must(tlog.ProveTree(int64(to), int64(from), j))
	}
	m.Ahead = must(tlog.ProveTree(int64(receipt.Size), int64(to), j))
	return must(m.Encode())
}

// receipt is the one answer that is expected, checked by the edge's own keys.
func receipt(t *testing.T, j *journal, size uint64, answers []wire.Down) *wire.Receipt {
	t.Helper()
	if len(answers) != 1 {
		t.Fatalf("answers: %+v", answers)
	}
	r, ok := answers[0].(*wire.Receipt)
	if !ok || r.Size != size {
		t.Fatalf("answer %+v, want a receipt for %d", answers[0], size)
	}
	covers(t, j, size, r.Note)
	return r
}

func covers(t *testing.T, j *journal, size uint64, text []byte) {
	t.Helper()
	n, err := note.Open(text, note.VerifierList(j.keys.Verifier, j.keys.CosignVerifier))
	if err != nil || len(n.Sigs) != 2 {
		t.Fatalf("the receipt: %v", err)
	}
	if c, err := wire.ParseCheckpoint(n.Text); err != nil || c.Size != size || c.Root != j.root(size) {
		t.Fatalf("the receipt says %+v %v, want size %d", c, err, size)
	}
}

func TestTheStoreKeepsWhatTheIntakeBelieves(t *testing.T) {
	b := newBench(t)
	j := b.admit("lisbon-front")
	j.taps(40)
	if s := b.say(j.keys.ID, j.hello())[0].(*wire.State); s.Status != wire.StatusNew || s.Size != 0 {
		t.Fatalf("%+v", s)
	}
	receipt(t, j, 10, b.say(j.keys.ID, j.batch(0, 10)))
	if r := b.settle(); r.Leaves != 10 || r.Receipts != 1 || r.Private != 10 || r.Present != 7 {
		t.Fatalf("%+v", r)
	}
	receipt(t, j, 25, b.say(j.keys.ID, j.batch(5, 25))) // overlaps
	receipt(t, j, 25, b.say(j.keys.ID, j.batch(0, 10))) // late
	if need := b.say(j.keys.ID, j.batch(30, 40))[0].(*wire.Need); need.From != 25 {
		t.Fatalf("%+v", need)
	}
	if r := b.settle(); r.Leaves != 25 || r.Lines != 25 {
		t.Fatalf("%+v", r)
	}
	for size := uint64(1); size <= 25; size++ {
		if have := must(b.x.storage.Roots(t.Context(), j.keys.ID, j.epoch, []uint64{size})); have[0] != j.root(size) {
			t.Fatalf("root at %d", size)
		}
	}
	receipt(t, j, 17, b.say(j.keys.ID, must((&wire.Head{Epoch: j.epoch, Size: 17, Checkpoint: j.checkpoint(17)}).Encode())))
	receipt(t, j, 40, b.say(j.keys.ID, j.batch(25, 40)))
	if r := b.settle(); r.Leaves != 40 || r.Opaque != 0 || r.Missing != 0 {
		t.Fatalf("%+v", r)
	}
}

func TestLinesThatAreNoLeavesStopNobody(t *testing.T) {
	b := newBench(t)
	j := b.admit("lisbon-front")
	other := b.admit("lisbon-back")
	other.epoch = event.Epoch{7}
	other.taps(1)
	j.taps(3)
	for _, line := range []string{`{"v":1}`, "", "\xff\x00\xfe", string(other.lines[0])} {
		j.put([]byte(line), wire.Private{})
	}
	j.taps(1)
	j.parts[1].Bytes = []byte(`{"at":1,"mono":0,"member":"mallory"}`) // its leaf commits to another part
	receipt(t, j, j.size(), b.say(j.keys.ID, j.batch(0, j.size())))
	j.put(nil, wire.Private{})
	receipt(t, j, j.size(), b.say(j.keys.ID, j.batch(j.size()-1, j.size()))) // a whole bundle of one empty line
	r := b.settle()
	if r.Leaves != 9 || r.Opaque != 5 || r.Lines != 4 || r.Missing != 1 || r.Private != 3 {
		t.Fatalf("%+v", r)
	}
	kinds := map[string]int{}
	for _, e := range must(b.x.storage.Evidence(t.Context(), j.keys.ID, j.epoch)) {
		kinds[e.Kind]++
		if bytes.Contains(e.Bytes, []byte("mallory")) {
			t.Error("evidence, which is never erased, names a person")
		}
	}
	if kinds[intake.EvidenceLeaf] != 5 || kinds[intake.EvidencePrivate] != 1 {
		t.Fatalf("%v", kinds)
	}
	for i, want := range j.lines {
		if got := must(b.x.storage.Leaf(t.Context(), store.Address{Edge: j.keys.ID, Epoch: j.epoch, Index: uint64(i)})); !bytes.Equal(got, want) {
			t.Fatalf("line %d: %q, want %q", i, got, want)
		}
	}
}

func TestAForkIsKeptAsEvidenceAndItsTapsAreCarriedOver(t *testing.T) {
	b := newBench(t)
	j := b.admit("lisbon-front")
	j.taps(20)
	receipt(t, j, 20, b.say(j.keys.ID, j.batch(0, 20)))
	// A restored copy of the disk wrote five other taps at the same addresses.
	twin := j.fork(1, 12)
	for i := range 8 {
		twin.add(event.KindTap, event.Tap{Door: "front", Reader: "r1", Direction: "out", Verdict: "grant", Reason: "granted", Assurance: "pkoc", Roster: 1},
			&event.Private{At: hour + 90_000 + int64(i), Member: "zoe", Card: "pkoc:cd", Body: json.RawMessage(`{"grant":"g1","us":7}`)})
	}
	answers := b.say(j.keys.ID, twin.batch(12, 20))
	if c, ok := answers[0].(*wire.Conflict); !ok || c.Size != 20 {
		t.Fatalf("%+v", answers)
	}
	b.settle()
	if s := b.edges[j.keys.ID].Logs[0].Standing; s.Status != wire.StatusFork || !s.Held {
		t.Fatalf("%+v", s)
	}
	proof := must(b.x.storage.Evidence(t.Context(), j.keys.ID, j.epoch))
	if len(proof) != 1 || proof[0].Kind != intake.EvidenceFork || !bytes.HasPrefix(proof[0].Bytes, twin.checkpoint(20)) {
		t.Fatalf("%+v", proof)
	}
	next := j.fork(2, 0)
	next.add(event.KindFork, event.Epochal{OldEpoch: j.epoch.String(), OldSize: 12}, nil)
	for i := 12; i < 20; i++ {
		next.carry(twin, i)
	}
	receipt(t, next, 9, b.say(j.keys.ID, next.batch(0, 9)))
	if r := b.settle(); r.Logs != 2 || r.Leaves != 29 || r.Lines != 29 || r.Missing != 0 {
		t.Fatalf("%+v", r)
	}
	l := must(b.x.storage.Line(t.Context(), store.Address{Edge: j.keys.ID, Epoch: next.epoch, Index: 8}))
	if l.Kind != event.KindTap || l.Note != servicelog.NoteCarried || l.Member != "zoe" || l.At != hour+90_007 || l.Direction != "out" {
		t.Fatalf("%+v", l)
	}
	if got := b.seen("zoe"); got.At != hour+90_007 || got.Epoch != next.epoch {
		t.Fatalf("%+v", got)
	}
	must(b.x.registry.Apply(t.Context(), registry.Change{Erase: []registry.Erasing{{Member: "zoe"}}}, time.Now()))
	if n := must(b.x.storage.Sweep(t.Context())); n != 8 {
		t.Fatalf("%d parts erased", n)
	}
	if r := b.settle(); r.Erased != 8 || b.seen("zoe").Member != "" {
		t.Fatalf("%+v", r)
	}
}

func (b *bench) seen(member string) store.Seen {
	for _, s := range must(b.x.storage.Presence(b.t.Context(), "")) {
		if s.Member == member {
			return s
		}
	}
	return store.Seen{}
}

// carry appends leaf i of a lost branch as the journal does.
func (j *journal) carry(from *journal, i int) {
	j.t.Helper()
	inner := must(event.ParsePrivate(from.parts[i].Bytes))
	j.add(event.KindReplayed, event.Replayed{OldEpoch: from.epoch.String(), OldIndex: uint64(i), Leaf: string(from.lines[i])},
		&event.Private{Member: inner.Member, Card: inner.Card, Body: must(event.Marshal(event.ReplayedPrivate{
			Salt: hex.EncodeToString(from.parts[i].Salt[:]), Private: string(from.parts[i].Bytes)}))})
}

func TestAKillBetweenStoreAndSignCostsAnAnswerOnly(t *testing.T) {
	b := newBench(t)
	j := b.admit("lisbon-front")
	j.taps(30)
	for _, to := range []uint64{10, 20, 30} {
		b.step(j.keys.ID, j.batch(to-10, to)) // stored; nothing was signed or said
		b.kill()
		l := b.edges[j.keys.ID].Logs[0]
		if l.Size != to || l.Root != j.root(to) || l.Checkpoint != nil {
			t.Fatalf("%+v", l)
		}
		if r, err := b.x.storage.Verify(t.Context(), b.x.checks()); err != nil || !r.OK() || r.Leaves != to {
			t.Fatalf("%+v %v", r, err)
		}
		known := j.fork(1, int(to))
		s := b.say(j.keys.ID, known.hello())[0].(*wire.State)
		if s.Size != to {
			t.Fatalf("%+v", s)
		}
		covers(t, j, to, s.Receipt)
		receipt(t, j, to, b.say(j.keys.ID, j.batch(to-10, to))) // the edge may as well send it again
		if to == 20 {
			b.kill() // signed and said, but the store was not told of the receipt
			continue
		}
		b.settle()
	}
	if r := b.settle(); r.Leaves != 30 || r.Receipts != 1 || r.Missing != 0 {
		t.Fatalf("%+v", r)
	}
}

func TestWhatBothSidesLostIsBridgedNamedAndFilledByAnArchive(t *testing.T) {
	b := newBench(t)
	j := b.admit("lisbon-front")
	j.taps(50)
	receipt(t, j, 12, b.say(j.keys.ID, j.batch(0, 12)))
	b.settle()
	a, err := b.x.Do(t.Context(), Order{Backup: true})
	if err != nil {
		t.Fatal(err)
	}
	b.restart() // the intake that decides here hears of the backup from the store
	if l := b.edges[j.keys.ID].Logs[0]; l.Backup != 12 {
		t.Fatalf("%+v", l)
	}
	own := receipt(t, j, 40, b.say(j.keys.ID, j.batch(12, 40)))
	b.settle()
	generation := b.ground.Generation
	// The disk dies. Keys were copied apart; the database comes from the backup. The edge has pruned below 31 by now.
	old := b.dir
	b.dir = filepath.Join(t.TempDir(), "restored")
	if err := firstError(b.x.close(), os.CopyFS(filepath.Join(b.dir, keysDir), os.DirFS(filepath.Join(old, keysDir)))); err != nil {
		t.Fatal(err)
	}
	for _, f := range must(filepath.Glob(filepath.Join(b.dir, keysDir, "*"))) {
		if err := os.Chmod(f, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := restore(t.Context(), b.cfg, b.dir, a.Files[0]); err != nil {
		t.Fatal(err)
	}
	b.open()
	if b.ground.Generation == generation {
		t.Fatal("a restored hub claims its old generation")
	}
	receipt(t, j, 31, b.say(j.keys.ID, j.bridge(12, 31, own)))
	receipt(t, j, 50, b.say(j.keys.ID, j.batch(31, 50)))
	r := b.settle()
	if r.Lost != 19 || len(r.Gaps) != 1 || r.Gaps[0].From != 12 || r.Gaps[0].To != 31 || r.Leaves != 31 {
		t.Fatalf("%+v", r)
	}
	if s := b.edges[j.keys.ID].Logs[0].Standing.Text(); s != "open lost=12-31" {
		t.Fatal(s)
	}
	if have := must(b.x.storage.Roots(t.Context(), j.keys.ID, j.epoch, []uint64{12, 20, 31, 45})); have[0] != j.root(12) ||
		have[1] != (tlog.Hash{}) || have[2] != j.root(31) || have[3] != j.root(45) {
		t.Fatalf("%v", have)
	}
	var gap intake.Gap
	for _, e := range must(b.x.storage.Evidence(t.Context(), j.keys.ID, j.epoch)) {
		if e.Kind == intake.EvidenceLost {
			gap = must(intake.ParseGap(e.Bytes))
		}
	}
	if err := gap.Fill(j.lines[gap.From:gap.To]); err != nil {
		t.Fatal(err)
	}
	if err := b.x.storage.Fill(t.Context(), j.keys.ID, j.epoch, gap.From, j.lines[gap.From:gap.To]); err != nil {
		t.Fatal(err)
	}
	if r := b.settle(); r.Lost != 0 || r.Leaves != 50 || r.Lines != 50 || r.Missing != 19 {
		t.Fatalf("%+v", r)
	}
}

func TestAReceiptIsTheEdgesNoteWithTheHubsCoSignature(t *testing.T) {
	b := newBench(t)
	j, other := b.admit("lisbon-front"), b.admit("lisbon-back")
	other.epoch = event.Epoch{7}
	j.taps(4)
	other.taps(4)
	good := receipt(t, j, 4, b.say(j.keys.ID, j.batch(0, 4))).Note
	foreign := receipt(t, other, 4, b.say(other.keys.ID, other.batch(0, 4))).Note
	log := store.Log{Edge: j.keys.ID, Node: "lisbon", Epoch: j.epoch, Size: 4, Receipt: good}
	body, sigs, _ := strings.Cut(string(good), "\n\n")
	lines := strings.SplitAfter(sigs, "\n")
	twisted := strings.Replace(lines[0], lines[0][len(lines[0])-12:len(lines[0])-4], "AAAAAAAA", 1)
	check := b.x.checks()
	for name, c := range map[string]struct {
		change func(*store.Log)
		ok     bool
	}{
		"as it is":              {func(*store.Log) {}, true},
		"without the hub":       {func(l *store.Log) { l.Receipt = []byte(body + "\n\n" + lines[0]) }, false},
		"without the edge":      {func(l *store.Log) { l.Receipt = []byte(body + "\n\n" + lines[1]) }, false},
		"a twisted edge line":   {func(l *store.Log) { l.Receipt = []byte(body + "\n\n" + twisted + lines[1]) }, false},
		"another size":          {func(l *store.Log) { l.Receipt = bytes.Replace(good, []byte("\n4\n"), []byte("\n5\n"), 1) }, false},
		"of another edge":       {func(l *store.Log) { l.Receipt = foreign }, false},
		"for another epoch":     {func(l *store.Log) { l.Epoch[0] = 9 }, false},
		"for an edge not known": {func(l *store.Log) { l.Edge = "nobody" }, false},
	} {
		l := log
		c.change(&l)
		size, root, err := check.Receipt(l)
		if c.ok != (err == nil) || c.ok && (size != 4 || root != j.root(4)) {
			t.Errorf("%s: %d %v", name, size, err)
		}
	}
	// The edge's disk died and it was given a new key: what it signed before stands. A retired edge's book does too.
	rekeyed := must(b.x.keys.EdgeBundle(filepath.Join(t.TempDir(), "again"), "lisbon", j.keys.ID, time.Now()))
	for _, change := range []registry.Change{
		{Edges: []registry.Edge{{ID: j.keys.ID, Node: "lisbon", Key: rekeyed.VKey}}},
		{Retire: []string{j.keys.ID}},
	} {
		if _, err := b.x.Do(context.Background(), Order{Change: &change}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := check.Receipt(log); err != nil {
			t.Fatal(err)
		}
	}
	b.settle()
}
