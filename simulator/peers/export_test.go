package peers_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/hub/servicelog"
	"kith/hub/store"
	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/wire"
)

const exportNetwork = "lindens"

// house is a hub's database with what an export is made of, and the keys it is verified with.
type house struct {
	t        *testing.T
	store    *store.Store
	cosigner *fnote.Signer
	vkeys    []string
}

// noteKey draws a key and notes its verifier key.
func (h *house) noteKey(name string) (note.Signer, note.Verifier, string) {
	h.t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		h.t.Fatal(err)
	}
	s, err1 := note.NewSigner(skey)
	v, err2 := note.NewVerifier(vkey)
	if err := errors.Join(err1, err2); err != nil {
		h.t.Fatal(err)
	}
	h.vkeys = append(h.vkeys, vkey)
	return s, v, skey
}

func newHouse(t *testing.T, network string) *house {
	t.Helper()
	h := &house{t: t}
	_, _, skey := h.noteKey(network + "/hub-witness")
	var err error
	if h.cosigner, err = fnote.NewSignerForCosignatureV1(skey); err != nil {
		t.Fatal(err)
	}
	if h.vkeys[0], err = fnote.VKeyToCosignatureV1(h.vkeys[0]); err != nil {
		t.Fatal(err)
	}
	h.store, err = store.Open(context.Background(), store.Options{Dir: filepath.Join(t.TempDir(), "hub"), Network: network,
		Projection: store.Projection{
			Line: func(l event.Leaf, p *event.Private) (store.Line, bool) {
				v, ok := servicelog.Project(l, p)
				return store.Line(v), ok
			},
			Seen:  func(store.Line) (store.Seen, bool) { return store.Seen{}, false },
			Newer: func(a, b store.Seen) bool { return a.At > b.At },
			Fact:  func(l event.Leaf) (store.Fact, bool) { f, ok := servicelog.State(l); return store.Fact(f), ok },
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.store.Close() })
	return h
}

// cosign makes of an edge's checkpoint the receipt that the hub would give.
func (h *house) cosign(checkpoint []byte, edge note.Verifier) []byte {
	h.t.Helper()
	n, err := note.Open(checkpoint, note.VerifierList(edge))
	if err != nil {
		h.t.Fatal(err)
	}
	receipt, err := note.Sign(n, h.cosigner)
	if err != nil {
		h.t.Fatal(err)
	}
	return receipt
}

// compactRange is the right edge of a tree: the roots of its perfect subtrees, largest first.
func compactRange(hashes []tlog.Hash) (out [][32]byte) {
	for at, bit := 0, 1<<20; bit > 0; bit >>= 1 {
		if len(hashes)&bit != 0 {
			out = append(out, perfect(hashes[at:at+bit]))
			at += bit
		}
	}
	return out
}

func perfect(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return tlog.NodeHash(perfect(hashes[:half]), perfect(hashes[half:]))
}

func rootOf(hashes []tlog.Hash) tlog.Hash {
	nodes := compactRange(hashes)
	if len(nodes) == 0 {
		return tlog.Hash{}
	}
	root := tlog.Hash(nodes[len(nodes)-1])
	for i := len(nodes) - 2; i >= 0; i-- {
		root = tlog.NodeHash(nodes[i], root)
	}
	return root
}

// proveTree is the consistency proof from an older size, as an edge shows it with a bridge.
func proveTree(t *testing.T, hashes []tlog.Hash, from int) tlog.TreeProof {
	t.Helper()
	if from == 0 {
		return nil
	}
	p, err := tlog.ProveTree(int64(len(hashes)), int64(from), tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range at {
			level, n := tlog.SplitStoredHashIndex(i)
			out = append(out, perfect(hashes[n<<level:(n+1)<<level]))
		}
		return out, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// logState is a log of the store over hashes.
func logState(node, edge string, epoch event.Epoch, hashes []tlog.Hash, receipt []byte) store.Log {
	return store.Log{Edge: edge, Node: node, Epoch: epoch, Size: uint64(len(hashes)), Root: rootOf(hashes), Range: compactRange(hashes),
		Receipt: receipt, Status: "open", Boot: "00112233445566aa"}
}

func (h *house) commit(a ...store.Accepted) {
	h.t.Helper()
	if err := h.store.Commit(context.Background(), a); err != nil {
		h.t.Fatal(err)
	}
}

// fromJournal fills one edge's real journal, with persons, in two epochs, and stores it with its receipts as an intake would:
// the newest receipt of the second epoch is not yet written down, one private part never came and one was erased.
func (h *house) fromJournal() {
	t, ctx := h.t, context.Background()
	t.Helper()
	signer, verifier, _ := h.noteKey(exportNetwork + "/lisbon/lisbon-front")
	j, err := journal.Open(ctx, journal.Options{Dir: filepath.Join(t.TempDir(), "edge"), Network: exportNetwork, Node: "lisbon",
		Edge: "lisbon-front", Signer: signer, Verifier: verifier, Cosigner: h.cosigner.Verifier(), Reserve: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	h.fill(j, 70)
	first := j.Head().Epoch
	if err := j.StartEpoch(ctx, event.KindRecovered, event.Epochal{OldSize: 70, Why: "a \"torn\" page \\ ümläut"}, journal.Carry{Size: j.Head().Size}); err != nil {
		t.Fatal(err)
	}
	h.fill(j, 37)
	for _, e := range []struct {
		epoch    event.Epoch
		receipts []uint64
	}{{first, []uint64{40, 70}}, {j.Head().Epoch, []uint64{1, 30, 38}}} {
		var hashes []tlog.Hash
		var receipt []byte
		for _, to := range e.receipts {
			entries, err := j.Read(ctx, e.epoch, uint64(len(hashes)), int(to)-len(hashes), 1<<20)
			if err != nil || len(hashes)+len(entries) != int(to) {
				t.Fatalf("read %d leaves: %v", len(entries), err)
			}
			a := store.Accepted{From: uint64(len(hashes))}
			var lines [][]byte
			for _, n := range entries {
				leaf, err := event.Parse(n.Leaf)
				if err != nil {
					t.Fatal(err)
				}
				hashes, lines, a.Leaves = append(hashes, tlog.RecordHash(n.Leaf)), append(lines, n.Leaf), append(a.Leaves, leaf)
				if n.Private != nil && n.Index != 20 { // the part of leaf 20 never came
					a.Private = append(a.Private, store.PrivatePart{Index: n.Index, Salt: n.Salt, Bytes: n.Private})
				}
			}
			a.Log, a.Bundle = logState("lisbon", "lisbon-front", e.epoch, hashes, receipt), bytes.Join(lines, []byte("\n"))
			h.commit(a)
			checkpoint, err := j.Checkpoint(ctx, e.epoch, to)
			if err != nil {
				t.Fatal(err)
			}
			receipt = h.cosign(checkpoint, verifier)
			if err := j.SetReceipt(ctx, receipt); err != nil {
				t.Fatal(err)
			}
		}
		if e.epoch == first {
			sealed := logState("lisbon", "lisbon-front", e.epoch, hashes, receipt)
			sealed.Status = "sealed limit=70 held lost=3-5" // words of the intake, one of each sort
			h.commit(store.Accepted{Log: sealed, From: sealed.Size})
		}
	}
	if err := h.store.Erase(ctx, store.Address{Edge: "lisbon-front", Epoch: first, Index: 22}); err != nil {
		t.Fatal(err)
	}
}

// fill appends n facts, every other one with a person.
func (h *house) fill(j *journal.Journal, n int) {
	h.t.Helper()
	start := time.Date(2026, 8, 1, 10, 0, 0, 123e6, time.UTC)
	for i := range n {
		r := journal.Record{Kind: event.KindDoor, At: start.Add(time.Duration(i) * time.Second), Mono: time.Duration(i+1) * time.Second, Clock: event.Synced,
			Body: json.RawMessage(fmt.Sprintf(`{"door":"front","state":"opened","why":"<%d> é \u00e9 \" &"}`, i))}
		if i%2 == 0 {
			r.Kind, r.Body = event.KindTap, json.RawMessage(`{"door":"front","reader":"front-in","dir":"in","verdict":"grant","reason":"granted","assurance":"pkoc","roster":7}`)
			r.Private = &event.Private{Member: fmt.Sprintf("m-%d", i%7), Card: fmt.Sprintf("pkoc:%064x", i), Body: json.RawMessage(`{"detail":"<a> & \"b\"","us":412}`)}
		}
		if _, err := j.Append(context.Background(), r); err != nil {
			h.t.Fatal(err)
		}
	}
}

// withGap stores what a second, worse edge sent: a line that is no leaf, not even text, and a stretch from there to 14 that is
// lost. The receipt covers 19 of 21 leaves.
func (h *house) withGap(from int) {
	t := h.t
	t.Helper()
	signer, verifier, _ := h.noteKey(exportNetwork + "/oaxaca/oaxaca-gate")
	epoch := event.Epoch{0xfe, 1}
	var lines [][]byte
	var leaves []event.Leaf
	var hashes []tlog.Hash
	for i := range 21 {
		l := event.Leaf{Network: exportNetwork, Node: "oaxaca", Edge: "oaxaca-gate", Epoch: epoch, Index: uint64(i), Kind: event.KindReader,
			At: 1785578400000 + int64(i), Clock: event.Unsure, Boot: "00112233445566aa", Mono: int64(i), Body: json.RawMessage(`{"reader":"r","up":true}`)}
		line, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			line, l = []byte("no leaf \xff\x00\x80"), event.Leaf{Network: l.Network, Node: l.Node, Edge: l.Edge, Epoch: epoch, Index: 3}
		}
		lines, leaves, hashes = append(lines, line), append(leaves, l), append(hashes, tlog.RecordHash(line))
	}
	part := func(from, to int) store.Accepted {
		return store.Accepted{Log: logState("oaxaca", "oaxaca-gate", epoch, hashes[:to], nil), From: uint64(from), Leaves: leaves[from:to],
			Bundle: bytes.Join(lines[from:to], []byte("\n"))}
	}
	if from > 0 {
		h.commit(part(0, from))
	}
	h.commit(store.Accepted{Log: logState("oaxaca", "oaxaca-gate", epoch, hashes[:15], nil), From: uint64(from), Lost: true,
		Proof: proveTree(t, hashes[:15], from)})
	h.commit(part(15, 21))
	text := wire.Checkpoint{Origin: wire.Origin(exportNetwork, "oaxaca", "oaxaca-gate", epoch), Size: 19, Root: rootOf(hashes[:19])}.Text()
	checkpoint, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		t.Fatal(err)
	}
	h.commit(store.Accepted{Log: logState("oaxaca", "oaxaca-gate", epoch, hashes, h.cosign(checkpoint, verifier)), From: 21})
}

func (h *house) export() []byte {
	h.t.Helper()
	var out bytes.Buffer
	if err := h.store.Export(context.Background(), &out); err != nil {
		h.t.Fatal(err)
	}
	return out.Bytes()
}

// needPython is the one place that says a peer is missing.
func needPython(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err == nil {
		return path
	}
	if os.Getenv("KITH_PEERS") == "required" {
		t.Fatal("python3 is missing and KITH_PEERS=required")
	}
	t.Skip("SKIP: python3 missing; the export is not verified in another language")
	return ""
}

// verifyInPython gives an export to the other reader. It returns its exit code and what it printed.
func verifyInPython(t *testing.T, python string, export []byte, vkeys []string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, python, append([]string{filepath.Join("testdata", "verify.py")}, vkeys...)...)
	c.Stdin = bytes.NewReader(export)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), strings.TrimSpace(string(out))
}

var exportVerified = regexp.MustCompile(`^verified: 3 logs, 129 leaves, 3 receipts, 52 private parts match, 1 erased, 10 leaves that no receipt proves$`)

// differenceNamed is how a difference is told: where, then what.
var differenceNamed = regexp.MustCompile(`^NOT VERIFIED: line [0-9]+:.{10,}$`)

func TestAReaderInAnotherLanguageVerifiesAnExport(t *testing.T) {
	python := needPython(t)
	h := newHouse(t, exportNetwork)
	h.fromJournal()
	h.withGap(8)
	code, said := verifyInPython(t, python, h.export(), h.vkeys)
	if code != 0 || !exportVerified.MatchString(said) {
		t.Fatalf("exit %d, want 0 and %s:\n%s", code, exportVerified, said)
	}
}

// The tree over a gap does not lead back to the leaves before it unless the gap begins where a subtree of it ends; its proof
// does, wherever it begins.
func TestAReaderInAnotherLanguageProvesWhatStandsBeforeAGap(t *testing.T) {
	python := needPython(t)
	for _, from := range []int{4, 6, 7, 8, 13} {
		h := newHouse(t, exportNetwork)
		h.withGap(from)
		good := h.export()
		code, said := verifyInPython(t, python, good, h.vkeys)
		if code != 0 || !strings.HasSuffix(said, " 2 leaves that no receipt proves") {
			t.Errorf("gap from %d: exit %d, %s", from, code, said)
		}
		for what, bad := range map[string][]byte{
			"a leaf before it":  bytes.Replace(good, []byte(`\"up\":true`), []byte(`\"up\":false`), 1),
			"a hash of proof":   flipAfter(good, `"proof":["`, 5),
			"a hash of proof 2": flipAfter(good, `"proof":["`, 30),
			"no proof":          regexp.MustCompile(`"proof":\[[^]]*\]`).ReplaceAll(good, []byte(`"proof":[]`)),
			"more proof":        bytes.Replace(good, []byte(`"proof":["`), []byte(`"proof":["`+strings.Repeat("A", 43)+`=","`), 1),
		} {
			if bytes.Equal(bad, good) {
				t.Fatalf("gap from %d: %s was not spoilt", from, what)
			}
			if code, said := verifyInPython(t, python, bad, h.vkeys); code != 1 || !strings.Contains(said, "does not hold the leaves before it") {
				t.Errorf("gap from %d, %s: exit %d, %s", from, what, code, said)
			}
		}
	}
	h := newHouse(t, exportNetwork)
	h.withGap(0)
	if code, said := verifyInPython(t, python, h.export(), h.vkeys); code != 0 || !strings.HasSuffix(said, " 2 leaves that no receipt proves") {
		t.Errorf("gap at the beginning: exit %d, %s", code, said)
	}
}

// flipAfter changes one base64 digit of what follows a mark.
func flipAfter(b []byte, mark string, skip int) []byte {
	bad := bytes.Clone(b)
	at := bytes.Index(bad, []byte(mark)) + len(mark) + skip
	if bad[at] == 'B' {
		bad[at] = 'C'
	} else {
		bad[at] = 'B'
	}
	return bad
}

func TestAReaderInAnotherLanguageNamesEveryFlippedByte(t *testing.T) {
	python := needPython(t)
	h := newHouse(t, exportNetwork)
	h.fromJournal()
	h.withGap(8)
	good := h.export()
	places := flips(t, good)
	if len(places) < 20 {
		t.Fatalf("only %d places to flip", len(places))
	}
	for _, p := range places {
		bad := bytes.Clone(good)
		bad[p.at] ^= 1
		line := 1 + bytes.Count(good[:p.at], []byte("\n"))
		code, said := verifyInPython(t, python, bad, h.vkeys)
		if code != 1 || !differenceNamed.MatchString(said) {
			t.Errorf("%s: byte %d of line %d flipped: exit %d, %s", p.what, p.at, line, code, said)
		}
		if p.itself && !strings.HasPrefix(said, fmt.Sprintf("NOT VERIFIED: line %d:", line)) {
			t.Errorf("%s: byte %d of line %d flipped, another place is named: %s", p.what, p.at, line, said)
		}
	}
}

// flip is a byte that something proves. itself: what it spoils is seen on its own line, not at the next root.
type flip struct {
	what   string
	at     int
	itself bool
}

// flips finds one byte in each sort of field, and six more spread over the leaves.
func flips(t *testing.T, export []byte) []flip {
	t.Helper()
	var out []flip
	find := func(what, before, mark string, skip int, itself bool) {
		t.Helper()
		start := bytes.Index(export, []byte(before))
		if start < 0 {
			t.Fatalf("%s: %q is not in the export", what, before)
		}
		at := bytes.Index(export[start:], []byte(mark))
		if at < 0 {
			t.Fatalf("%s: %q does not follow %q", what, mark, before)
		}
		out = append(out, flip{what, start + at + len(mark) + skip, itself})
	}
	find("format", `{"format"`, `"kith/export/v`, 0, true)
	find("network", `{"format"`, `"network":"`, 2, false)
	find("edge", `{"log"`, `{"log":"`, 3, true)
	find("epoch of a log", `{"log"`, `"epoch":"`, 8, true)
	find("size of a log", `{"log"`, `"size":`, 0, false)
	find("root of a log", `{"log"`, `"root":"`, 7, false)
	find("status", `{"log"`, `"status":"`, 2, true)
	find("root of a receipt", `"receipt":"kith.`, `\n`, 20, true)
	find("edge's signature", `"receipt":"`, exportNetwork+`/lisbon/lisbon-front `, 30, true)
	find("hub's co-signature", `"receipt":"`, exportNetwork+`/hub-witness `, 40, true)
	find("time of the co-signature", `"receipt":"`, exportNetwork+`/hub-witness `, 14, true)
	find("index of a leaf", `{"leaf"`, `\"i\":`, 0, true)
	find("commitment", `{"leaf"`, `\"c\":\"`, 5, true)
	find("salt", `{"leaf"`, `"salt":"`, 9, true)
	find("private part", `{"leaf"`, `"private":"{`, 30, true)
	find("proof", `{"leaf"`, `"proof":"`, 1, true)
	find("mark of an erased part", `"erased"`, `"erased":`, 1, true)
	find("opaque line", `{"opaque"`, `{"opaque":"`, 2, false)
	find("tree over a gap", `{"lost"`, `"tree":["`, 3, true)
	find("proof over a gap", `{"lost"`, `"proof":["`, 3, true)
	find("end of a gap", `{"lost":[8`, `,`, 1, true)
	body := []byte(`\"body\":{\"`)
	for i := range 6 {
		from := len(export) * (i + 1) / 7
		at := bytes.Index(export[from:], body)
		if at < 0 {
			at = bytes.LastIndex(export[:from], body) - from
		}
		out = append(out, flip{"body of a leaf", from + at + len(body) + 1, false})
	}
	return out
}
