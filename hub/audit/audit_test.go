package audit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	cosign "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/hub/settlement"
	"kith/internal/event"
	"kith/internal/pki"
	"kith/internal/wire"
)

const testPolicy = `version: r1
network: demo
units: [{name: night}, {name: minute}]
prices:
  use: {bed: {unit: night, each: 1}}
  work: {cooking: {unit: minute, each: 1}}
commons: {node: commons, dues: [{unit: night, num: 1, den: 10}]}
limits: [{node: aa, unit: night, floor: -5, ceiling: 5}]
one_sided: {cap: {night: 4}}
closing: {window: 1h, answer: 1h}
`

// world is a network of three houses without a hub around it.
type world struct {
	t        testing.TB
	network  Network
	operator note.Signer
	witness  note.Signer
	edges    map[string]note.Signer
	lines    map[string][][]byte
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, network: Network{Name: "demo", Nodes: []string{"aa", "bb", "cc"}}, edges: map[string]note.Signer{}, lines: map[string][][]byte{}}
	key := func(name string) (note.Signer, string, string) {
		s, v, err := note.GenerateKey(nil, name)
		if err != nil {
			t.Fatal(err)
		}
		return must(note.NewSigner(s)), v, s
	}
	w.operator, w.network.Operator, _ = key(pki.OperatorKeyName("demo"))
	_, plain, secret := key(pki.WitnessKeyName("demo"))
	w.network.Witness = must(cosign.VKeyToCosignatureV1(plain))
	w.witness = must(cosign.NewSignerForCosignatureV1(secret))
	rng := rand.New(rand.NewPCG(1, 2))
	for i, node := range w.network.Nodes {
		s, v, _ := key(pki.EdgeKeyName("demo", node, node+"-1"))
		w.edges[node] = s
		w.network.Edges = append(w.network.Edges, Edge{ID: node + "-1", Node: node, Key: v})
		for range 40 {
			home := w.network.Nodes[(i+1+rng.IntN(2))%3]
			switch rng.IntN(4) {
			case 0:
				w.add(i, event.KindUse, event.Entry{Resource: "bed", Quantity: 1 + rng.Int64N(9), Measure: "night", Home: home, Day: 100 + rng.IntN(9), Evidence: "B"})
			case 1:
				w.add(i, event.KindWork, event.Entry{Resource: "cooking", Quantity: 30, Measure: "minute", Home: home, Day: 101, Evidence: "C"})
			default:
				w.add(i, event.KindDoor, event.Door{Door: "front", State: "closed"})
			}
		}
	}
	return w
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) add(i int, kind event.Kind, body any) {
	node := w.network.Nodes[i]
	l := event.Leaf{Network: "demo", Node: node, Edge: node + "-1", Epoch: event.Epoch{byte(i)}, Index: uint64(len(w.lines[node])), Kind: kind, Clock: event.Synced,
		Boot: "00112233445566aa", Body: must(event.Marshal(body))}
	w.lines[node] = append(w.lines[node], must(l.Encode()))
}

// inputs cuts at everything that is there. hide keeps a leaf from being shown.
func (w *world) inputs(hide func(line []byte) bool) Files {
	w.t.Helper()
	return w.cutAt(nil, 110, hide)
}

// inputsAfter cuts the next period, and shows what its entries correct and what was put off.
func (w *world) inputsAfter(previous *Closing, day settlement.Day) Files {
	w.t.Helper()
	return w.cutAt(previous, day, none)
}

func (w *world) cutAt(previous *Closing, day settlement.Day, hide func(line []byte) bool) Files {
	w.t.Helper()
	var points []settlement.Checkpoint
	var before *settlement.Cut
	from, late := map[string]uint64{}, map[Address]bool{}
	if previous != nil {
		before = previous.Cut
		for _, a := range must(ParseCarry("carry", previous.Carried())).Later {
			late[a] = true
		}
		for _, c := range before.Checkpoints {
			from[c.Journal] = c.Size
		}
	}
	receipts, excerpts := map[string][]byte{}, map[string][]byte{}
	for i, node := range w.network.Nodes {
		origin := wire.Origin("demo", node, node+"-1", event.Epoch{byte(i)})
		corrected := map[uint64]bool{}
		for _, line := range w.lines[node][from[origin]:] {
			if at, ok := Target(line); ok && at.Journal == origin {
				corrected[at.Index] = true
			}
		}
		var hashes []tlog.Hash
		x := NewExcerpt(origin, from[origin], uint64(len(w.lines[node])))
		for k, line := range w.lines[node] {
			hashes = append(hashes, tlog.RecordHash(line))
			if Economic(line) && !hide(line) && (uint64(k) >= from[origin] || corrected[uint64(k)] || late[Address{origin, uint64(k)}]) {
				x.Show(line)
			} else {
				x.Hide(0, tlog.RecordHash(line))
			}
		}
		c := wire.Checkpoint{Origin: origin, Size: uint64(len(hashes)), Root: treeOver(hashes)}
		receipts[origin] = must(note.Sign(&note.Note{Text: c.Text()}, w.edges[node], w.witness))
		excerpts[origin] = must(x.Text())
		points = append(points, settlement.Checkpoint{Journal: origin, Node: node, Size: c.Size, Root: c.Root})
	}
	rand.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	cut := must(settlement.NewCut(day, w.network.Nodes, points, before))
	f := Inputs(&w.network, []byte(testPolicy), cut, previous)
	for i, p := range cut.Checkpoints {
		receipt, excerpt := InputNames(i)
		f[receipt], f[excerpt] = receipts[p.Journal], excerpts[p.Journal]
	}
	return f
}

func none([]byte) bool { return false }

func (w *world) closed(in Files) *Closing {
	w.t.Helper()
	c := must(Start(in, "p1"))
	for _, s := range []Step{{Do: DoPropose, At: 1000}, {Do: DoFinalise, Number: 1, At: 5000}, {Do: DoBook}} {
		if err := c.Do(s, Signer(w.operator)); err != nil {
			w.t.Fatal(err)
		}
	}
	return c
}

// resigned packs changed files as an operator would who lies: with a manifest that agrees.
func (w *world) resigned(f Files, header string) []byte {
	w.t.Helper()
	signed := must(note.Sign(&note.Note{Text: header + string(listing(f))}, w.operator))
	f[manifestName] = signed
	return must(Pack(f))
}

func header(f Files) string {
	text := string(f[manifestName])
	return text[:strings.Index(text, "file ")]
}

func TestNoFileCanBeChangedByTheOperatorWithoutBeingNamed(t *testing.T) {
	w := newWorld(t)
	bundle := must(w.closed(w.inputs(none)).Bundle(Signer(w.operator)))
	c, r := Verify(bundle)
	if !r.OK {
		t.Fatal(r.Difference)
	}
	tried := 0
	for _, name := range c.Files.names() {
		if name == manifestName {
			continue
		}
		for _, change := range []func([]byte) []byte{digitUp, lastLineGone, lastLineTwice} {
			f := must(Unpack(bundle))
			text := change(slices.Clone(f[name]))
			if bytes.Equal(text, f[name]) || name == stepName(2) && !bytes.Contains(text, []byte(`"at":5000,"number":1}`)) && bytes.Count(text, newline) == 1 {
				continue // when it became final is the operator's own word
			}
			f[name] = text
			tried++
			if _, r := Verify(w.resigned(f, header(f))); r.OK || r.Difference == nil || r.Difference.File == "" {
				t.Errorf("%s was changed and signed, and verifies", name)
			}
		}
		f := must(Unpack(bundle))
		delete(f, name)
		if _, r := Verify(w.resigned(f, header(f))); r.OK {
			t.Errorf("%s was left out, and verifies", name)
		}
	}
	f := must(Unpack(bundle))
	f["extra.txt"] = []byte("more\n")
	if _, r := Verify(w.resigned(f, header(f))); r.OK || r.Difference.File != "extra.txt" {
		t.Errorf("a file too much: %+v", r)
	}
	if tried < 40 {
		t.Fatalf("only %d changes were tried", tried)
	}
}

// Whoever has a key of his own can sign any manifest: one with a line that names no file is refused like every other.
func TestAManifestThatListsNoFileIsRefused(t *testing.T) {
	w := newWorld(t)
	f := Files{networkName: w.network.AppendText(nil)}
	for _, line := range []string{"file \n", "file x\n", "file a b\n"} {
		f[manifestName] = must(Signer(w.operator)(string(listing(f)) + line))
		if _, r := Verify(must(Pack(f))); r.OK || r.Difference == nil || r.Difference.What != "is in the manifest and not in the bundle" {
			t.Errorf("%q: %+v", line, r)
		}
	}
}

// What is printed of a bundle by somebody unknown must not write anything else on a terminal than what it says.
func TestABundlePrintsNothingOfItsOwn(t *testing.T) {
	const hide = "\x1b[8m\u009b8m\u202e"
	w := newWorld(t)
	in := w.inputsAfter(w.closed(w.inputs(none)), 130)
	in[openCarryName] = bytes.Replace(in[openCarryName], []byte("period p1\n"), []byte("period "+hide+"\n"), 1)
	if _, err := Start(in, "p2"); err == nil || !strings.HasPrefix(err.Error(), openCarryName+" line 2") {
		t.Errorf("a period of that name before this one: %v", err)
	}
	f := Files{networkName: w.network.AppendText(nil), policyName: []byte("version: r1\n\"\\e[8m\": 1\n")}
	if _, err := Start(f, "p1"); err == nil || strings.ContainsFunc(err.Error(), func(r rune) bool { return visible(r) != r }) {
		t.Errorf("a policy with a strange key: %q", err)
	}
}

func digitUp(b []byte) []byte {
	for i := len(b) / 2; i < len(b); i++ {
		if b[i] >= '0' && b[i] < '9' {
			b[i]++
			return b
		}
	}
	return b
}

func lastLineGone(b []byte) []byte {
	if i := bytes.LastIndexByte(bytes.TrimSuffix(b, newline), '\n'); i >= 0 {
		return b[:i+1]
	}
	return b
}

func lastLineTwice(b []byte) []byte {
	i := bytes.LastIndexByte(bytes.TrimSuffix(b, newline), '\n')
	return append(b, b[i+1:]...)
}

func TestShuffledInputsGiveIdenticalBytes(t *testing.T) {
	w := newWorld(t)
	var first Files
	for range 4 {
		c := w.closed(w.inputs(none))
		if first == nil {
			first = c.Files
			continue
		}
		for _, name := range c.Files.names() {
			// Receipts carry the second in which the witness signed.
			if !strings.HasPrefix(name, "receipts/") && !bytes.Equal(c.Files[name], first[name]) {
				t.Fatalf("%s differs", name)
			}
		}
	}
}

func TestALeafThatIsNotShownMakesAnotherSet(t *testing.T) {
	w := newWorld(t)
	all := w.closed(w.inputs(none))
	hidden := 0
	part := w.closed(w.inputs(func([]byte) bool { hidden++; return hidden == 3 }))
	if len(part.Shown) != len(all.Shown)-1 || bytes.Equal(part.Files[obligationsName], all.Files[obligationsName]) {
		t.Fatal("hiding a leaf changed nothing")
	}
}

func TestDraftComesToWhatClosingComesTo(t *testing.T) {
	w := newWorld(t)
	c := w.closed(w.inputs(none))
	d := must(c.Ground.Draft(nil))
	r := c.Report()
	if len(d.Units) != len(r.Units) || len(d.Units) == 0 {
		t.Fatalf("%+v %+v", d, r)
	}
	for i, u := range r.Units {
		left := int64(0)
		for _, debt := range d.Units[i].Debts {
			left += debt.After
		}
		if d.Units[i].Gross != u.Gross || d.Units[i].Cleared != u.Cleared || left != u.Gross-u.Cleared {
			t.Fatalf("%+v %+v", d.Units[i], u)
		}
	}
}

func TestExcerptOfAnySizesLeadsToBothRoots(t *testing.T) {
	var hashes []tlog.Hash
	for i := range 70 {
		hashes = append(hashes, tlog.RecordHash(fmt.Appendf(nil, "leaf-%d", i)))
	}
	for from := range 35 {
		for to := from; to <= 70; to += 7 {
			x := NewExcerpt("o", uint64(from), uint64(to))
			for i := range to {
				if i%5 == 3 {
					x.Show(fmt.Appendf(nil, "leaf-%d", i))
				} else {
					x.Hide(0, hashes[i])
				}
			}
			p, err := readExcerpt("f", must(x.Text()))
			if err != nil || p.fromRoot != treeOver(hashes[:from]) || p.toRoot != treeOver(hashes[:to]) || len(p.shown) != (to+1)/5 {
				t.Fatalf("%d to %d: %v %+v", from, to, err, p)
			}
		}
	}
}

func FuzzUnpack(f *testing.F) {
	w := newWorld(f)
	f.Add(must(w.closed(w.inputs(none)).Bundle(Signer(w.operator))))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := Unpack(b)
		if err == nil && !bytes.Equal(must(Pack(files)), b) {
			t.Fatal("a second spelling was accepted")
		}
		Verify(b)
	})
}

func FuzzTexts(f *testing.F) {
	w := newWorld(f)
	c := w.closed(w.inputs(none))
	for _, name := range []string{networkName, cutName, carryName, closingName, excerptName(0)} {
		f.Add(c.Files[name])
	}
	f.Add([]byte("kith-carry v1\nperiod p\nseal " + strings.Repeat("0", 64) + "\nlater o 1\nvoid o 2\nidle o 3\nleft aa\nused aa-1 " + nonceOne + " 7\nend 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := ParseNetwork(b); err == nil && !bytes.Equal(n.AppendText(nil), b) {
			t.Fatal("network")
		}
		if c, err := ParseCarry("f", b); err == nil && !bytes.Equal(c.AppendText(nil), b) {
			t.Fatal("carry")
		}
		if c, err := parseCut("f", b); err == nil && !bytes.Equal(c.AppendText(nil), b) {
			t.Fatal("cut")
		}
		if _, _, err := parseBalances("f", b); err == nil {
			_ = err
		}
		if p, err := readExcerpt("f", b); err == nil && p.to > 1<<maxLevel {
			t.Fatal("excerpt")
		}
	})
}
