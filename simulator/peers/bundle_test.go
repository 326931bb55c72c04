package peers_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/hub/audit"
	"kith/hub/settlement"
	"kith/internal/event"
	"kith/internal/pki"
	"kith/internal/wire"
)

const (
	bundleNetwork = "lindens"
	firstCut      = 20_000 // day of the first period's cut
	manifest      = "bundle.note"
)

const bundlePolicy = `# The houses' own words about it: "a night is a night".
version: rules-7
network: lindens
units:
  - {name: night, scale: 0}
  - {name: h2, scale: 2} # in quotes in a journal
prices:
  use:
    bed: {unit: night, each: 1}
    kiln: {unit: h2, each: 25}
  work: {garden: {unit: h2, each: 1}}
  deliver-service:
    ride: {unit: h2, each: 3}
commons:
  node: pool
  dues: [{unit: night, num: 1, den: 7}]
  grants:
    - {node: cedar, unit: h2, amount: 11, reason: roof}
limits:
  - {node: cedar, unit: night, floor: -60, ceiling: 60}
  - {node: birch, unit: night, floor: -9, ceiling: 9}
  - {node: alder, unit: night, floor: -5, ceiling: 5}
  - {node: cedar, unit: h2, floor: -9000,
     ceiling: 9000}
one_sided: {hold: false, cap: {night: 6}}
closing: {window: 1h, answer: 1h30m, age_days: 3}
`

// quarter is a network of four houses, whose periods are closed by the rooms that the hub closes them with.
type quarter struct {
	t        *testing.T
	random   *rand.Rand
	network  audit.Network
	operator note.Signer
	witness  note.Signer
	edges    map[string]note.Signer
	lines    map[string][][]byte // by node
	epochs   map[string]event.Epoch
	entries  map[string][]uint64 // by node: where its entries stand
	nonces   int
	policy   string
}

func made[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newQuarter(t *testing.T, seed uint64) *quarter {
	t.Helper()
	q := &quarter{t: t, policy: bundlePolicy, random: rand.New(rand.NewPCG(seed, 9)),
		edges: map[string]note.Signer{}, lines: map[string][][]byte{},
		epochs: map[string]event.Epoch{}, entries: map[string][]uint64{},
		network: audit.Network{Name: bundleNetwork, Nodes: []string{"alder", "birch", "cedar", "dogwood", "elder"}}}
	key := func(name string) (signer note.Signer, skey, vkey string) {
		skey, vkey, err := note.GenerateKey(nil, name)
		if err != nil {
			t.Fatal(err)
		}
		return made(note.NewSigner(skey)), skey, vkey
	}
	q.operator, _, q.network.Operator = key(pki.OperatorKeyName(bundleNetwork))
	_, skey, vkey := key(pki.WitnessKeyName(bundleNetwork))
	q.witness, q.network.Witness = made(fnote.NewSignerForCosignatureV1(skey)), made(fnote.VKeyToCosignatureV1(vkey))
	for i, node := range q.network.Nodes[:4] { // elder has no edge yet: it is missing from every cut
		edge := audit.Edge{ID: node + "-door", Node: node}
		q.edges[node], _, edge.Key = key(pki.EdgeKeyName(bundleNetwork, node, edge.ID))
		q.network.Edges = append(q.network.Edges, edge)
		q.epochs[node] = event.Epoch{byte(i + 1)}
	}
	return q
}

// leaf makes the next line of a house, as it would stand in an epoch.
func (q *quarter) leaf(node string, epoch event.Epoch, index uint64, kind event.Kind, body []byte) []byte {
	l := event.Leaf{Network: bundleNetwork, Node: node, Edge: node + "-door", Epoch: epoch, Index: index, Kind: kind, Clock: event.Synced,
		At: 1785578400000, Boot: "00112233445566aa", Body: body}
	if q.random.IntN(5) == 0 {
		l.Clock = event.Unsure
	}
	if kind.IsEntry() || kind == event.KindReplayed {
		c := sha256.Sum256(body) // of a private part that nobody has any more
		l.Commitment = &c
	}
	return made(l.Encode())
}

func (q *quarter) add(node string, kind event.Kind, body []byte) {
	at := uint64(len(q.lines[node]))
	if kind.IsEntry() {
		q.entries[node] = append(q.entries[node], at)
	}
	q.lines[node] = append(q.lines[node], q.leaf(node, q.epochs[node], at, kind, body))
}

// entry draws what somebody entered: any kind, any home, and now and then what makes no obligation.
func (q *quarter) entry(node string, cut int) (event.Kind, []byte) {
	r := q.random
	kinds := []event.Kind{event.KindUse, event.KindUse, event.KindUse, event.KindWork, event.KindDeliverService, event.KindConsume,
		event.KindTransfer}
	resource := map[event.Kind]string{event.KindUse: []string{"bed", "bed", "kiln"}[r.IntN(3)], event.KindWork: "garden",
		event.KindDeliverService: "ride"}
	homes := append(slices.Clone(q.network.Nodes), q.network.Nodes[:4]...)
	kind := kinds[r.IntN(len(kinds))]
	e := event.Entry{Resource: "soup", Quantity: 1 + r.Int64N(5), Measure: "any", Home: homes[r.IntN(len(homes))], Day: cut - r.IntN(9),
		Evidence: []string{"A", "B", "C"}[r.IntN(3)]}
	if name, priced := resource[kind]; priced {
		e.Resource = name
	}
	switch r.IntN(40) {
	case 0:
		e.Home = "nowhere"
	case 1:
		e.Day = cut + 2
	case 2:
		e.Day = cut - 500
	}
	if kind == event.KindTransfer {
		e.To = "cedar"
	}
	if e.Evidence == "A" {
		if q.nonces++; r.IntN(8) == 0 && q.nonces > 3 {
			e.Nonce = fmt.Sprintf("%032x", q.nonces-1-r.IntN(3)) // a copy
		} else {
			e.Nonce = fmt.Sprintf("%032x", q.nonces)
		}
	}
	if old := q.entries[node]; len(old) > 0 && r.IntN(5) == 0 {
		e.Corrects = fmt.Sprintf("%s/%d", q.epochs[node], old[r.IntN(len(old))])
		e.Quantity = r.Int64N(4)
	}
	return kind, made(event.EncodeEntry(kind, e))
}

// live fills the houses' journals until a cut.
func (q *quarter) live(n, cut int) {
	q.t.Helper()
	for _, node := range q.network.Nodes[:4] {
		q.add(node, event.KindDoor, made(event.Marshal(event.Door{Door: "front", State: "closed"})))
		for range n {
			switch kind, body := q.entry(node, cut); q.random.IntN(14) {
			case 0, 1, 2:
				q.add(node, event.KindDoor, made(event.Marshal(event.Door{Door: "front", State: "opened"})))
			case 3: // an economic leaf that nobody can read
				q.add(node, kind, append([]byte(`{"more":1,`), body[1:]...))
			case 4: // from a lost branch of this journal
				inner := q.leaf(node, event.Epoch{0xff}, uint64(q.random.IntN(5)), kind, body)
				q.add(node, event.KindReplayed, made(event.Marshal(event.Replayed{OldEpoch: event.Epoch{0xff}.String(), Leaf: string(inner)})))
			case 5: // from a lost branch, and here already
				at := uint64(len(q.lines[node]))
				q.add(node, kind, body)
				inner := q.leaf(node, q.epochs[node], at, kind, body)
				carried := event.Replayed{OldEpoch: q.epochs[node].String(), OldIndex: at, Leaf: string(inner)}
				q.add(node, event.KindReplayed, made(event.Marshal(carried)))
			default:
				q.add(node, kind, body)
			}
		}
	}
}

// inputs draws the line below everything that is there. As a hub does, it shows what is new, and what that corrects.
func (q *quarter) inputs(previous *audit.Closing, day int) audit.Files {
	q.t.Helper()
	var points []settlement.Checkpoint
	var before *settlement.Cut
	from, again := map[string]uint64{}, map[audit.Address]bool{}
	if previous != nil {
		before = previous.Cut
		for _, c := range before.Checkpoints {
			from[c.Journal] = c.Size
		}
		for _, a := range made(audit.ParseCarry("carry.txt", previous.Carried())).Later {
			again[a] = q.random.IntN(4) > 0
		}
	}
	for _, lines := range q.lines {
		for _, line := range lines {
			if a, ok := audit.Target(line); ok {
				again[a] = true
			}
		}
	}
	receipts, excerpts := map[string][]byte{}, map[string][]byte{}
	for _, node := range q.network.Nodes[:4] {
		origin := wire.Origin(bundleNetwork, node, node+"-door", q.epochs[node])
		x := audit.NewExcerpt(origin, from[origin], uint64(len(q.lines[node])))
		var hashes []tlog.Hash
		for i, line := range q.lines[node] {
			hashes = append(hashes, tlog.RecordHash(line))
			if audit.Economic(line) && (uint64(i) >= from[origin] || again[audit.Address{Journal: origin, Index: uint64(i)}]) {
				x.Show(line)
			} else {
				x.Hide(0, tlog.RecordHash(line))
			}
		}
		c := wire.Checkpoint{Origin: origin, Size: uint64(len(hashes)), Root: rootOf(hashes)}
		receipts[origin] = made(note.Sign(&note.Note{Text: c.Text()}, q.edges[node], q.witness))
		excerpts[origin] = made(x.Text())
		points = append(points, settlement.Checkpoint{Journal: origin, Node: node, Size: c.Size, Root: c.Root})
	}
	cut := made(settlement.NewCut(settlement.Day(day), q.network.Nodes, points, before))
	f := audit.Inputs(&q.network, []byte(q.policy), cut, previous)
	for i, p := range cut.Checkpoints {
		receipt, excerpt := audit.InputNames(i)
		f[receipt], f[excerpt] = receipts[p.Journal], excerpts[p.Journal]
	}
	return f
}

// closed carries a period through: disputes of every outcome, a statement that is withdrawn, and with leave two houses go.
func (q *quarter) closed(name string, previous *audit.Closing, day int, leave bool) (*audit.Closing, []byte) {
	q.t.Helper()
	c, err := audit.Start(q.inputs(previous, day), name)
	if err != nil {
		q.t.Fatal(err)
	}
	do := func(s audit.Step) {
		q.t.Helper()
		if err := c.Do(s, audit.Signer(q.operator)); err != nil {
			q.t.Fatalf("%+v: %v", s, err)
		}
	}
	why := strings.Repeat("5e", 32)
	do(audit.Step{Do: audit.DoPropose, At: 1000})
	disputed := c.Period.Clearable()
	for i := range min(4, len(disputed)) {
		o := disputed[len(disputed)/4*i]
		do(audit.Step{Do: audit.DoChallenge, At: 1000 + int64(i), Obligation: o.ID.String(), Node: o.Debtor, Note: why})
		if i < 3 {
			third := slices.IndexFunc(q.network.Nodes, func(n string) bool { return n != o.Debtor && n != o.Creditor })
			do(audit.Step{Do: audit.DoDecide, Obligation: o.ID.String(), Node: q.network.Nodes[third],
				Outcome: []string{"stand", "amend", "void"}[i], Note: why})
		}
	}
	if leave {
		do(audit.Step{Do: audit.DoLapse, At: 99_000})
	}
	do(audit.Step{Do: audit.DoPropose, At: 100_000})
	do(audit.Step{Do: audit.DoFinalise, Number: len(c.Period.Proposals), At: 200_000})
	if leave {
		q.leave(c, do, "cedar")
		q.leave(c, do, "birch")
	}
	do(audit.Step{Do: audit.DoBook})
	return c, made(c.Bundle(audit.Signer(q.operator)))
}

// leave lets a house go with choices of every sort; what it has no choice about is frozen.
func (q *quarter) leave(c *audit.Closing, do func(audit.Step), node string) {
	q.t.Helper()
	s := audit.Step{Do: audit.DoExit, Node: node}
	for _, o := range made(c.Open()) {
		if o.Debtor != node && o.Creditor != node {
			continue
		}
		by := []string{o.Creditor, o.Debtor}
		slices.Sort(by)
		remainder := []string{"novate", "waive", "serve-in-kind", "freeze", ""}[q.random.IntN(5)]
		pick := audit.Pick{Obligation: o.ID.String(), Remainder: remainder, By: by}
		switch {
		case pick.Remainder == "serve-in-kind":
			pick.Until = firstCut + 400
		case pick.Remainder == "novate" && (node != "cedar" || o.Debtor == "pool" || o.Creditor == "pool"):
			pick.Remainder = "waive"
		}
		if o.Debtor == "pool" || o.Creditor == "pool" {
			pick.Remainder, pick.Until = "waive", 0
		}
		if pick.Remainder != "" {
			s.Choices = append(s.Choices, pick)
		}
	}
	do(s)
}

// verifyBundles gives bundles to the other reader and returns its exit code and one report for each that it looked at.
func verifyBundles(t *testing.T, python string, bundles [][]byte, options ...string) (int, []map[string]any) {
	t.Helper()
	dir := t.TempDir()
	args := append([]string{"-B", filepath.Join("testdata", "verify_bundle.py"), "--json"}, options...)
	for i, b := range bundles {
		path := filepath.Join(dir, fmt.Sprintf("%d.tar", i))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // bounds a hang
	defer cancel()
	c := exec.CommandContext(ctx, python, args...)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || said.Len() > 0 {
		t.Fatalf("%v %s", err, said.Bytes())
	}
	var reports []map[string]any
	for line := range bytes.Lines(out) {
		var r map[string]any
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		reports = append(reports, r)
	}
	return c.ProcessState.ExitCode(), reports
}

// asJSON is what `hub verify BUNDLE --json` prints.
func asJSON(t *testing.T, r audit.Report) (out map[string]any) {
	t.Helper()
	if err := json.Unmarshal(made(json.Marshal(r)), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Three periods that follow each other, with every reason to set an entry aside, corrections over a cut, disputes and two
// houses that leave: written from docs/FORMATS.md, the other verifier comes to the same seals and the same totals.
func TestBundlesVerifyInAnotherLanguage(t *testing.T) {
	python := needPython(t)
	asides := []string{"unreadable", "unknown-home", "carried-twice", "corrected", "taken-back", "corrects-twice", "corrects-nothing",
		"nonce-used", "too-old", "node-left", "same-home", "no-price", "dated-later", "held", "capped"}
	texts := []string{"\nstage lot-0 ", "/~exit", "correction ", "novation", "\nlater ", "\nvoid ", "\nleft ", "\nused ", `"part":4`,
		`"unsure":true`}
	whys := map[string]int{}
	for seed := range uint64(4) {
		q := newQuarter(t, seed)
		var previous *audit.Closing
		var bundles [][]byte
		var want []map[string]any
		for i := range 3 {
			if seed == 1 && i < 2 {
				q.policy = strings.Replace(bundlePolicy, "hold: false", "hold: true", 1)
			} else if i == 2 { // what was held is taken up, by other rules
				q.policy = strings.NewReplacer("rules-7", "rules-8", "unit: night, each: 1", "unit: night, each: 2").Replace(bundlePolicy)
			}
			q.live(22, firstCut+30*i)
			c, bundle := q.closed(fmt.Sprintf("month-%d", i+1), previous, firstCut+30*i, i == 1)
			again, r := audit.Verify(bundle)
			if !r.OK {
				t.Fatalf("seed %d, period %d: %v", seed, i, r.Difference)
			}
			for _, a := range again.Set.Asides {
				whys[string(a.Why)]++
			}
			for name := range c.Files {
				for _, word := range texts {
					whys[word] += bytes.Count(c.Files[name], []byte(word))
				}
			}
			previous, bundles, want = c, append(bundles, bundle), append(want, asJSON(t, r))
		}
		code, got := verifyBundles(t, python, bundles)
		if code != 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("seed %d: exit %d\n%v\nwant\n%v", seed, code, got, want)
		}
		if code, got := verifyBundles(t, python, [][]byte{bundles[0], bundles[2]}); code != 1 || len(got) != 2 || got[1]["ok"] != false {
			t.Errorf("seed %d: the third period follows the first: exit %d, %v", seed, code, got)
		}
	}
	for _, why := range append(asides, texts...) {
		if whys[why] == 0 {
			t.Errorf("nothing here is %q: %v", why, whys)
		}
	}
}

// A figure is changed in every file, with the manifest as it was and with one that the operator signed to fit. Both verifiers
// refuse it. They name the same file, or the other one names the very file that was changed.
func TestAChangedFigureIsRefusedInBothLanguages(t *testing.T) {
	python := needPython(t)
	q := newQuarter(t, 3)
	q.live(5, firstCut)
	first, _ := q.closed("month-1", nil, firstCut, false)
	q.live(5, firstCut+30)
	_, good := q.closed("month-2", first, firstCut+30, true)
	files := made(audit.Unpack(good))
	var what []string
	var bundles [][]byte
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for _, from := range []int{0, len(files[name]) / 2} {
			changed := figure(files[name], from)
			if changed == nil {
				continue
			}
			bad := maps.Clone(files)
			bad[name] = changed
			if from > 0 {
				what, bundles = append(what, name), append(bundles, made(audit.Pack(bad)))
			}
			if name != manifest {
				bad[manifest] = q.resigned(bad)
				what, bundles = append(what, name+", signed"), append(bundles, made(audit.Pack(bad)))
			}
		}
	}
	if len(bundles) < 100 {
		t.Fatalf("only %d changes", len(bundles))
	}
	code, got := verifyBundles(t, python, append(bundles, good), "--apart")
	if len(got) != len(bundles)+1 || code != 1 || got[len(bundles)]["ok"] != true {
		t.Fatalf("exit %d after %d of %d bundles", code, len(got), len(bundles)+1)
	}
	for i, b := range bundles {
		_, r := audit.Verify(b)
		mine, _ := got[i]["difference"].(map[string]any)
		// When something was done, and why, is the operator's own word; and an answer has more proofs than one.
		own := strings.HasSuffix(what[i], ", signed") && (strings.HasPrefix(what[i], "steps/") || strings.Contains(what[i], ".proof.txt"))
		switch {
		case r.OK != got[i]["ok"]:
			t.Errorf("%s: hub verify says %v, the other %v", what[i], r.Difference, got[i])
		case r.OK && !own:
			t.Errorf("%s: a changed figure verifies", what[i])
		case !r.OK && mine["file"] != r.Difference.File && fmt.Sprint(mine["file"], ", signed") != what[i]:
			t.Errorf("%s: hub verify names %v, the other %v", what[i], r.Difference, mine)
		}
	}
}

// Where dues divide with equal remainders, a rotation serves them: three houses that owe round a circle.
func TestBundlesWithEqualSharesVerifyInAnotherLanguage(t *testing.T) {
	python := needPython(t)
	q := newQuarter(t, 1)
	var previous *audit.Closing
	var bundles [][]byte
	var want []map[string]any
	for i, nights := range []int64{10, 17, 24, 31, 38} {
		for k, node := range q.network.Nodes[:4] {
			e := event.Entry{Resource: "bed", Quantity: nights, Measure: "night", Home: q.network.Nodes[(k+1)%3], Day: firstCut, Evidence: "B"}
			if k == 3 {
				e.Home = node
			}
			q.add(node, event.KindUse, made(event.EncodeEntry(event.KindUse, e)))
		}
		c, err := audit.Start(q.inputs(previous, firstCut+i), fmt.Sprintf("week-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []audit.Step{{Do: audit.DoPropose}, {Do: audit.DoFinalise, Number: 1, At: 99_999}, {Do: audit.DoBook}} {
			if err := c.Do(s, audit.Signer(q.operator)); err != nil {
				t.Fatal(err)
			}
		}
		bundle := made(c.Bundle(audit.Signer(q.operator)))
		_, r := audit.Verify(bundle)
		previous, bundles, want = c, append(bundles, bundle), append(want, asJSON(t, r))
	}
	if code, got := verifyBundles(t, python, bundles); code != 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("exit %d\n%v\nwant\n%v", code, got, want)
	}
}

var documentedFile = regexp.MustCompile("(?s)<!-- bundle example: ([^ ]+) -->\n```[a-z]*\n(.*?)```\n")

// The page that the other verifier was written from shows a whole bundle.
func TestTheDocumentedBundleVerifiesInAnotherLanguage(t *testing.T) {
	python := needPython(t)
	page := made(os.ReadFile(filepath.Join("..", "..", "docs", "FORMATS.md")))
	files := audit.Files{}
	for _, m := range documentedFile.FindAllSubmatch(page, -1) {
		files[string(m[1])] = m[2]
	}
	bundle := made(audit.Pack(files))
	_, r := audit.Verify(bundle)
	r.Pinned = true
	code, got := verifyBundles(t, python, [][]byte{bundle}, "--operator", r.Operator)
	if !r.OK || code != 0 || !reflect.DeepEqual(got, []map[string]any{asJSON(t, r)}) {
		t.Fatalf("exit %d\n%v\nwant\n%+v", code, got, r)
	}
	other := newQuarter(t, 1).network.Operator
	if code, got := verifyBundles(t, python, [][]byte{bundle}, "--operator", other); code != 1 || got[0]["ok"] != false {
		t.Errorf("under the key of another operator: exit %d, %v", code, got)
	}
	var spelt [][]byte
	for _, at := range []int{101, 110, 147, 155, 156, 200, 265, 340, 510, len(bundle) - 1, len(bundle) - 1024} {
		bad := bytes.Clone(bundle)
		bad[at] ^= 1
		spelt = append(spelt, bad)
	}
	spelt = append(spelt, bundle[:len(bundle)-512], append(bytes.Clone(bundle), make([]byte, 512)...))
	code, got = verifyBundles(t, python, spelt, "--apart")
	if code != 1 || len(got) != len(spelt) {
		t.Fatalf("exit %d after %d of %d", code, len(got), len(spelt))
	}
	for i, b := range spelt {
		if _, r := audit.Verify(b); r.OK || got[i]["ok"] != false {
			t.Errorf("archive %d in another spelling: hub verify says %v, the other %v", i, r.Difference, got[i])
		}
	}
}

// An operator who signs everything anew still needs the one right answer: one that discharges nothing is not the best, and one
// that no lot was drawn for is not the only one.
func TestAnAnswerThatIsNotProvenIsRefusedInBothLanguages(t *testing.T) {
	python := needPython(t)
	var q *quarter
	var good []byte
	for seed := uint64(0); !bytes.Contains(good, []byte("\nstage lot-0 ")); seed++ { // until something is left to lots
		if seed == 100 {
			t.Fatal("no answer here needs a lot")
		}
		q = newQuarter(t, seed)
		q.policy = strings.Replace(bundlePolicy, "age_days: 3", "age_days: 1", 1)
		q.live(22, firstCut)
		_, good = q.closed("month-1", nil, firstCut, false)
	}
	var bundles [][]byte
	var want []string
	for _, unit := range []string{"h2", "night"} {
		for _, number := range []string{"001", "002"} {
			folder := "statements/" + number + "/"
			for share, why := range map[int64]string{0: "not optimal: ", 1: "what "} { // all of it is as good as can be, and does not go round
				f := made(audit.Unpack(good))
				discharging(f, folder, unit, share)
				text, _, _ := strings.Cut(string(f[folder+"statement.note"]), "\n\n")
				f[folder+"statement.note"] = made(note.Sign(&note.Note{Text: text + "\n"}, q.operator))
				f[manifest] = q.resigned(f)
				bundles, want = append(bundles, made(audit.Pack(f))), append(want, why)
			}
			f := made(audit.Unpack(good))
			if !withoutLots(f, folder+unit+".proof.txt") {
				continue
			}
			f[manifest] = q.resigned(f)
			bundles, want = append(bundles, made(audit.Pack(f))), append(want, "not the only answer: ")
		}
	}
	_, got := verifyBundles(t, python, bundles, "--apart")
	for i, b := range bundles {
		_, r := audit.Verify(b)
		mine, _ := got[i]["difference"].(map[string]any)
		if what, _ := mine["what"].(string); r.OK || !strings.HasPrefix(r.Difference.File, "statements/") || !strings.HasPrefix(what, want[i]) {
			t.Errorf("want %q: hub verify says %v, the other %v", want[i], r.Difference, mine)
		}
	}
}

// A house that shows another past than the one it was closed with is refused, also with the hub's own signature on it.
func TestAJournalThatForkedIsRefusedInBothLanguages(t *testing.T) {
	python := needPython(t)
	q := newQuarter(t, 2)
	q.live(4, firstCut)
	first, _ := q.closed("month-1", nil, firstCut, false)
	q.live(4, firstCut+30)
	_, good := q.closed("month-2", first, firstCut+30, false)
	q.lines["birch"][0] = q.leaf("birch", q.epochs["birch"], 0, event.KindDoor, []byte(`{"door":"back","state":"closed"}`))
	forked := q.inputs(first, firstCut+30)
	f := made(audit.Unpack(good))
	for name := range f {
		if name == "cut.txt" || strings.HasPrefix(name, "receipts/") || strings.HasPrefix(name, "journals/") {
			f[name] = forked[name]
		}
	}
	f[manifest] = q.resigned(f)
	bundle := made(audit.Pack(f))
	_, r := audit.Verify(bundle)
	_, got := verifyBundles(t, python, [][]byte{bundle})
	mine, _ := got[0]["difference"].(map[string]any)
	if want := "journals/00002.txt"; r.OK || r.Difference.File != want || mine["file"] != want {
		t.Fatalf("want %s: hub verify says %v, the other %v", want, r.Difference, mine)
	}
}

// discharging writes an answer that discharges all of every debt (share 1) or none (0) and moves no balance, with the proof
// that would fit it and a statement that speaks of it.
func discharging(f audit.Files, folder, unit string, share int64) {
	name, proof, statement := folder+unit+".answer.txt", folder+unit+".proof.txt", folder+"statement.note"
	before := sha256.Sum256(f[name])
	var cut, total, aged, debts int64
	var balances, lines string
	for line := range strings.Lines(string(f[folder+unit+".case.txt"])) {
		var a, b, c string
		var n, m int64
		switch {
		case strings.HasPrefix(line, "cut "):
			fmt.Sscanf(line, "cut %d", &cut)
		case strings.HasPrefix(line, "limit "):
			fmt.Sscanf(line, "limit %s %d", &a, &n)
			balances += fmt.Sprintf("balance %s %d %d\n", a, n, n)
		case strings.HasPrefix(line, "debt "):
			fmt.Sscanf(line, "debt %s %s %s %d %d", &a, &b, &c, &n, &m)
			lines += fmt.Sprintf("line %s %d %d\n", a, share*m, (1-share)*m)
			total, aged, debts = total+share*m, aged+share*m*min(cut-n, 1), debts+1
		}
	}
	f[name] = fmt.Appendf(nil, "kith-clearing-statement v1\ncase %x\nunit %s\ncut %d\ntotal %d\ndrawn 0\n%s%send %d\n",
		sha256.Sum256(f[folder+unit+".case.txt"]), unit, cut, total, balances, lines, debts)
	after := sha256.Sum256(f[name])
	text := fmt.Sprintf("kith-clearing-proof v1\nstatement %x\nstage total %d\nstage draw 0\nstage age %d\n", after, total, aged)
	for line := range strings.Lines(string(f[proof])) {
		if words := strings.Fields(line); words[0] == "potential" {
			text += "potential " + words[1] + " 0 0 0\n"
		} else if words[0] == "end" {
			text += line
		}
	}
	f[proof] = []byte(text)
	f[statement] = regexp.MustCompile(fmt.Sprintf("%x ([0-9]+) [0-9]+", before)).
		ReplaceAll(f[statement], fmt.Appendf(nil, "%x ${1} %d", after, total))
}

// withoutLots leaves the stages of the lots out of a proof; false when it has none.
func withoutLots(f audit.Files, name string) bool {
	var out []string
	lots := 0
	for line := range strings.Lines(string(f[name])) {
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "stage lot-"):
			lots++
			continue
		case words[0] == "potential":
			line = strings.Join(words[:5], " ") + "\n"
		}
		out = append(out, line)
	}
	f[name] = []byte(strings.Join(out, ""))
	return lots > 0
}

// figure changes the next digit behind a place, or gives nil.
func figure(b []byte, from int) []byte {
	for i := from; i < len(b); i++ {
		if b[i] >= '0' && b[i] < '9' {
			b = bytes.Clone(b)
			b[i]++
			return b
		}
	}
	return nil
}

// resigned is the manifest of an operator who lies: it agrees with what is there.
func (q *quarter) resigned(f audit.Files) []byte {
	q.t.Helper()
	text, _, _ := strings.Cut(string(f[manifest]), "file ")
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if name != manifest {
			sum := sha256.Sum256(f[name])
			text += fmt.Sprintf("file %s %d %s\n", hex.EncodeToString(sum[:]), len(f[name]), name)
		}
	}
	return made(note.Sign(&note.Note{Text: text}, q.operator))
}
