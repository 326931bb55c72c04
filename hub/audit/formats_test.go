package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	cosign "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/hub/settlement"
	"kith/internal/event"
	"kith/internal/pki"
	"kith/internal/wire"
)

// docTime is when the example hub co-signs: 2026-08-01T10:00:03Z.
const docTime = 1785578403

const docPolicy = `version: rules-1
network: demo
units: [{name: night, scale: 0}]
prices: {use: {bed: {unit: night, each: 1}}}
commons: {node: commons, dues: [{unit: night, num: 1, den: 3}]}
limits:
  - {node: lisbon, unit: night, floor: -3, ceiling: 3}
  - {node: oaxaca, unit: night, floor: -1, ceiling: 1}
one_sided: {hold: false, cap: {night: 4}}
closing: {window: 1h, answer: 1h}
`

// docKey is a note key made of one repeated byte.
func docKey(t testing.TB, name string, seed byte) (signer note.Signer, skey, vkey string) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	public := append([]byte{1}, private.Public().(ed25519.PublicKey)...)
	sum := sha256.Sum256(append([]byte(name+"\n"), public...))
	id, b64 := binary.BigEndian.Uint32(sum[:4]), base64.StdEncoding.EncodeToString
	skey = fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, id, b64(append([]byte{1}, private.Seed()...)))
	return must(note.NewSigner(skey)), skey, fmt.Sprintf("%s+%08x+%s", name, id, b64(public))
}

// docPeriod closes the period that docs/FORMATS.md shows: two houses, four nights one way and two the other, a copy of an
// entry, dues, and limits that leave something over.
func docPeriod(t testing.TB) *Closing {
	t.Helper()
	operator, _, vkey := docKey(t, pki.OperatorKeyName("demo"), 4)
	_, wskey, wvkey := docKey(t, pki.WitnessKeyName("demo"), 3)
	witness := must(cosign.NewSignerForCosignatureV1(wskey))
	n := Network{Name: "demo", Operator: vkey, Witness: must(cosign.VKeyToCosignatureV1(wvkey)), Nodes: []string{"lisbon", "oaxaca"}}
	time.Sleep(time.Until(time.Unix(docTime, 0))) // in a bubble of its own time: a co-signature carries its second
	bed := func(quantity int64, home, evidence, nonce string) event.Entry {
		return event.Entry{Resource: "bed", Quantity: quantity, Measure: "night", Home: home, Day: 20660, Evidence: evidence, Nonce: nonce}
	}
	door, nonce := event.Door{Door: "front", State: "closed"}, "000102030405060708090a0b0c0d0e0f"
	var points []settlement.Checkpoint
	var receipts, excerpts [][]byte
	for i, bodies := range [][]any{{door, bed(4, "oaxaca", "A", nonce), bed(4, "oaxaca", "A", nonce), door, door}, {door, bed(2, "lisbon", "C", "")}} {
		node := n.Nodes[i]
		signer, _, vkey := docKey(t, pki.EdgeKeyName("demo", node, node+"-front"), byte(5+i))
		n.Edges = append(n.Edges, Edge{ID: node + "-front", Node: node, Key: vkey})
		epoch := event.Epoch{byte(0xa0 + i)}
		x := NewExcerpt(wire.Origin("demo", node, node+"-front", epoch), 0, uint64(len(bodies)))
		var hashes []tlog.Hash
		for k, body := range bodies {
			l := event.Leaf{Network: "demo", Node: node, Edge: node + "-front", Epoch: epoch, Index: uint64(k), Kind: event.KindDoor, At: 1785578400000,
				Clock: event.Synced, Boot: "0011223344556677", Body: must(event.Marshal(body))}
			if _, entry := body.(event.Entry); entry {
				c := sha256.Sum256(fmt.Appendf(nil, "%s %d", node, k)) // of a private part that nobody has any more
				l.Kind, l.Commitment = event.KindUse, &c
			}
			line := must(l.Encode())
			if hashes = append(hashes, tlog.RecordHash(line)); Economic(line) {
				x.Show(line)
			} else {
				x.Hide(0, tlog.RecordHash(line))
			}
		}
		c := wire.Checkpoint{Origin: wire.Origin("demo", node, node+"-front", epoch), Size: uint64(len(hashes)), Root: treeOver(hashes)}
		points = append(points, settlement.Checkpoint{Journal: c.Origin, Node: node, Size: c.Size, Root: c.Root})
		receipts = append(receipts, must(note.Sign(&note.Note{Text: c.Text()}, signer, witness)))
		excerpts = append(excerpts, must(x.Text()))
	}
	cut := must(settlement.NewCut(20661, n.Nodes, points, nil))
	f := Inputs(&n, []byte(docPolicy), cut, nil)
	for i := range points {
		receipt, excerpt := InputNames(i)
		f[receipt], f[excerpt] = receipts[i], excerpts[i]
	}
	c := must(Start(f, "week-1"))
	for _, s := range []Step{{Do: DoPropose, At: docTime}, {Do: DoConfirm, Number: 1, Node: "lisbon"}, {Do: DoConfirm, Number: 1, Node: "oaxaca"},
		{Do: DoConfirm, Number: 1, Node: "commons"}, {Do: DoFinalise, Number: 1, At: docTime + 60}, {Do: DoBook}} {
		if err := c.Do(s, Signer(operator)); err != nil {
			t.Fatal(err)
		}
	}
	bundle := must(c.Bundle(Signer(operator)))
	again, r := Verify(bundle)
	if !r.OK {
		t.Fatal(r.Difference)
	}
	return again
}

var bundleBlock = regexp.MustCompile("(?s)<!-- bundle example: ([^ ]+) -->\n```[a-z]*\n(.*?)```\n")

var balanceBlock = regexp.MustCompile("(?s)<!-- proof of balance: oaxaca -->\n```text\n(.*?)```\n")

func TestTheDocumentedBundleIsWhatTheCodeMakes(t *testing.T) {
	page, err := os.ReadFile("../../docs/FORMATS.md")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := docPeriod(t)
		seen := map[string]bool{}
		for _, m := range bundleBlock.FindAllSubmatch(page, -1) {
			name := string(m[1])
			if want, here := c.Files[name]; !here || !bytes.Equal(want, m[2]) {
				t.Errorf("%s on the page is\n%s\nthe code makes\n%s", name, m[2], want)
			}
			seen[name] = true
		}
		for _, name := range c.Files.names() {
			if !seen[name] {
				t.Errorf("the page lacks %s:\n%s", name, c.Files[name])
			}
		}
		sum := sha256.Sum256(must(Pack(c.Files)))
		if said := fmt.Sprintf("%x", sum); !strings.Contains(string(page), said) {
			t.Errorf("the page does not say the digest of the whole bundle, %s", said)
		}
		m := balanceBlock.FindSubmatch(page)
		if m == nil {
			t.Fatal("the page shows no proof of balance")
		}
		operator, _, _ := docKey(t, pki.OperatorKeyName("demo"), 4)
		if want := must(c.Prove("oaxaca", "", Signer(operator))); !bytes.Equal(want, slices.Concat(m[1], c.Files[manifestName])) {
			t.Errorf("the proof of balance on the page is\n%s\nthe code makes\n%s", m[1], want)
		}
		if !slices.ContainsFunc(c.Set.Asides, func(a settlement.Aside) bool { return a.Why == whyUsed }) || len(c.Breaches) == 0 {
			t.Error("the example lacks a copy or a breach")
		}
	})
}
