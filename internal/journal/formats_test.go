package journal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/access"
	"kith/internal/bulletin"
	"kith/internal/event"
	"kith/internal/health"
	"kith/internal/wire"
)

const formatsPage = "../../docs/FORMATS.md"

// docExample is the worked example of the page: fixed seeds, ids and times, everything else made by the code.
type docExample struct {
	t                  testing.TB
	edge, hub, witness docKey
	cosigner           *fnote.Signer
	epoch              event.Epoch
	salt               [32]byte
	private            []byte
	leaves             [][]byte
	hashes             []tlog.Hash
	root               tlog.Hash
	checkpoint         []byte
	receipt            []byte
	blocks             map[string]string
}

// docKey is a note key made of one repeated byte.
type docKey struct {
	skey, vkey string
	signer     note.Signer
	verifier   note.Verifier
}

const (
	docNetwork = "demo"
	docNode    = "lisbon"
	docEdge    = "lisbon-front"
	docTime    = 1785578403 // 2026-08-01T10:00:03Z, when the example hub co-signs
)

func newDocKey(t testing.TB, name string, seed byte) docKey {
	t.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	public := append([]byte{1}, private.Public().(ed25519.PublicKey)...)
	sum := sha256.Sum256(append([]byte(name+"\n"), public...))
	id := binary.BigEndian.Uint32(sum[:4])
	b64 := base64.StdEncoding.EncodeToString
	k := docKey{
		skey: fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, id, b64(append([]byte{1}, private.Seed()...))),
		vkey: fmt.Sprintf("%s+%08x+%s", name, id, b64(public)),
	}
	var err error
	if k.signer, err = note.NewSigner(k.skey); err != nil {
		t.Fatal(err)
	}
	if k.verifier, err = note.NewVerifier(k.vkey); err != nil {
		t.Fatal(err)
	}
	return k
}

func newDocExample(t testing.TB) *docExample {
	x := &docExample{t: t, blocks: map[string]string{}}
	x.edge = newDocKey(t, docNetwork+"/"+docNode+"/"+docEdge, 1)
	x.hub = newDocKey(t, docNetwork+"/hub", 2)
	x.witness = newDocKey(t, docNetwork+"/hub-witness", 3)
	var err error
	if x.witness.vkey, err = fnote.VKeyToCosignatureV1(x.witness.vkey); err != nil {
		t.Fatal(err)
	}
	if x.witness.verifier, err = fnote.NewVerifierForCosignatureV1(x.witness.vkey); err != nil {
		t.Fatal(err)
	}
	if x.cosigner, err = fnote.NewSignerForCosignatureV1(x.witness.skey); err != nil {
		t.Fatal(err)
	}
	for i := range x.epoch {
		x.epoch[i] = byte(i)
	}
	for i := range x.salt {
		x.salt[i] = byte(0x20 + i)
	}
	x.makeLeaves()
	x.makeNotes()
	x.makeWire()
	x.makeRoster()
	return x
}

// must is for encoders that cannot fail on the values of the example.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (x *docExample) leaf(kind event.Kind, at, mono int64, body any, commitment *[32]byte) {
	raw := must[json.RawMessage](x.t)(event.Marshal(body))
	l := event.Leaf{Network: docNetwork, Node: docNode, Edge: docEdge, Epoch: x.epoch, Index: uint64(len(x.leaves)), Kind: kind, At: at,
		Clock: event.Synced, Boot: "0011223344556677", Mono: mono, Body: raw, Commitment: commitment}
	line := must[[]byte](x.t)(l.Encode())
	x.leaves = append(x.leaves, line)
	x.hashes = append(x.hashes, tlog.RecordHash(line))
}

func (x *docExample) makeLeaves() {
	card := "pkoc:0ec5d87dc39d14a2c5480686da860c82b16be0b6903b525f84848b79fd463e32"
	private := event.Private{At: 1785578402345, Mono: 2345678901, Member: "ana", Card: card,
		Body: must[json.RawMessage](x.t)(event.Marshal(event.TapPrivate{Grant: "hosts", Micros: 412}))}
	x.private = must[[]byte](x.t)(private.Encode())
	c := event.Commit(x.salt, x.private)
	x.leaf(event.KindBoot, 1785578400123, 12345678, event.Boot{Version: "1.0", StateDir: "8f14e45fceea167a5a36dedd4bea2543", Starts: 1}, nil)
	x.leaf(event.KindTap, 1785578400000, 0, event.Tap{Door: "front", Reader: "front-in", Direction: "in", Verdict: "grant",
		Reason: string(access.Granted), Assurance: "pkoc", Roster: 7}, &c)
	x.leaf(event.KindDoor, 1785578402350, 2350678901, event.Door{Door: "front", State: "unlocked", Why: "tap"}, nil)

	x.blocks["leaf 0"], x.blocks["leaf 1"], x.blocks["leaf 2"] = string(x.leaves[0]), string(x.leaves[1]), string(x.leaves[2])
	x.blocks["private part of leaf 1"] = string(x.private)
	x.blocks["commitment"] = fmt.Sprintf("salt        %x\ncommitment  %x", x.salt, c)
}

func (x *docExample) makeNotes() {
	node := tlog.NodeHash(x.hashes[0], x.hashes[1])
	x.root = tlog.NodeHash(node, x.hashes[2])
	x.blocks["tree"] = fmt.Sprintf("leaf hash 0  %x\nleaf hash 1  %x\nleaf hash 2  %x\nnode 0..1    %x\nroot of 3    %x",
		x.hashes[0][:], x.hashes[1][:], x.hashes[2][:], node[:], x.root[:])

	text := wire.Checkpoint{Origin: wire.Origin(docNetwork, docNode, docEdge, x.epoch), Size: 3, Root: x.root}.Text()
	x.checkpoint = must[[]byte](x.t)(note.Sign(&note.Note{Text: text}, x.edge.signer))
	n := must[*note.Note](x.t)(note.Open(x.checkpoint, note.VerifierList(x.edge.verifier)))
	time.Sleep(time.Until(time.Unix(docTime, 0))) // in a bubble of its own time: a co-signature carries the second it was made in
	x.receipt = must[[]byte](x.t)(note.Sign(n, x.cosigner))

	x.blocks["keys"] = "edge         " + x.edge.vkey + "\nhub          " + x.hub.vkey + "\nhub-witness  " + x.witness.vkey
	x.blocks["signing key"] = x.edge.skey
	x.blocks["checkpoint"] = strings.TrimSuffix(string(x.checkpoint), "\n")
	x.blocks["receipt"] = strings.TrimSuffix(string(x.receipt), "\n")
	x.blocks["co-signed bytes"] = strings.TrimSuffix(fmt.Sprintf("cosignature/v1\ntime %d\n%s", docTime, text), "\n")
	x.blocks["edge signature"] = x.dissect(x.receipt, 0)
	x.blocks["hub co-signature"] = x.dissect(x.receipt, 1)
}

// dissect shows what is behind the base64 of one signature line.
func (x *docExample) dissect(signed []byte, line int) string {
	lines := strings.Split(strings.TrimSpace(string(signed[bytes.Index(signed, []byte("\n\n"))+2:])), "\n")
	b := must[[]byte](x.t)(base64.StdEncoding.DecodeString(lines[line][strings.LastIndexByte(lines[line], ' ')+1:]))
	if len(b) == 4+8+ed25519.SignatureSize {
		return fmt.Sprintf("key id     %x\ntime       %x = %d\nsignature  %x", b[:4], b[4:12], binary.BigEndian.Uint64(b[4:12]), b[12:])
	}
	return fmt.Sprintf("key id     %x\nsignature  %x", b[:4], b[4:])
}

type encoder interface{ Encode() ([]byte, error) }

func (x *docExample) makeWire() {
	text := wire.Checkpoint{Origin: wire.Origin(docNetwork, docNode, docEdge, x.epoch), Size: 2, Root: tlog.NodeHash(x.hashes[0], x.hashes[1])}.Text()
	two := must[[]byte](x.t)(note.Sign(&note.Note{Text: text}, x.edge.signer))
	node := tlog.NodeHash(x.hashes[0], x.hashes[1])
	boot, generation := "0011223344556677", "5d41402abc4b2a76b9719d911017c592"
	for name, m := range map[string]encoder{
		"hello": &wire.Hello{Boot: boot, Disk: "8f14e45fceea167a5a36dedd4bea2543", Seq: 2, Challenge: "c3fcd3d7-17", Generation: generation,
			Epoch: x.epoch, Size: 3, ReceiptSize: 3, Roster: 7, Checkpoint: x.checkpoint, Receipt: x.receipt},
		"batch": &wire.Batch{Epoch: x.epoch, From: 0, Leaves: x.leaves, Checkpoint: x.checkpoint,
			Private: []wire.Private{{}, {Salt: x.salt, Bytes: x.private}, {}}},
		"head":      &wire.Head{Epoch: x.epoch, Size: 2, Checkpoint: two},
		"roots-get": &wire.RootsGet{Epoch: x.epoch, Sizes: []uint64{1, 2, 900}},
		"bridge": &wire.Bridge{Epoch: x.epoch, Old: 1, New: 2, ReceiptSize: 3, Subtrees: []tlog.Hash{node}, Proof: []tlog.Hash{x.hashes[1]},
			Ahead: []tlog.Hash{x.hashes[2]}, Checkpoint: two, Receipt: x.receipt},
		"roster-get": &wire.RosterGet{Version: 7, Part: 0},
		"state": &wire.State{Generation: generation, Epoch: x.epoch, Size: 3, Root: x.root, Status: wire.StatusOpen, Backup: 2, Credit: 1024,
			Boot: boot, Seq: 2, Challenge: "c3fcd3d7-18", Receipt: x.receipt},
		"receipt":  &wire.Receipt{Generation: generation, Epoch: x.epoch, Size: 3, Backup: 2, Credit: 1024, Note: x.receipt},
		"need":     &wire.Need{Generation: generation, Epoch: x.epoch, From: 1},
		"conflict": &wire.Conflict{Generation: generation, Epoch: x.epoch, Size: 3, Root: x.root, Why: "two roots of one size", Receipt: x.receipt},
		"roots":    &wire.Roots{Generation: generation, Epoch: x.epoch, Sizes: []uint64{1, 2, 900}, Roots: []tlog.Hash{x.hashes[0], node, {}}},
	} {
		x.message(name, m)
	}
}

// message stores one example and holds the parser to it.
func (x *docExample) message(name string, m encoder) {
	b := must[[]byte](x.t)(m.Encode())
	if _, isUp := m.(wire.Up); isUp {
		must[wire.Up](x.t)(wire.ParseUp(b))
	} else {
		must[wire.Down](x.t)(wire.ParseDown(b))
	}
	x.blocks["message "+name] = strings.TrimSuffix(string(b), "\n")
}

func (x *docExample) makeRoster() {
	doc := access.Document{Network: docNetwork, Node: docNode, Version: 7, Issued: 1785578000, Zone: "Europe/Lisbon",
		Members: []access.Member{
			{ID: "ana", Name: "Ana", Home: docNode, Role: access.RoleHost},
			{ID: "cleo", Name: "Cleo", Home: "oaxaca", Role: access.RoleGuest, Groups: []string{"visitors"}, Until: 1787000000},
		},
		Cards: []access.Card{{ID: "pkoc:0ec5d87dc39d14a2c5480686da860c82b16be0b6903b525f84848b79fd463e32", Member: "ana"},
			{ID: "uid:04a1b2c3d4e580", Member: "cleo", Revoked: true}},
		Schedules: []access.Schedule{{ID: "daytime", Holidays: []string{"2026-12-25"},
			Spans: []access.Span{{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "08:00", To: "20:00"}}}},
		Grants: []access.Grant{{ID: "hosts", Member: "ana", Zones: []string{"house"}},
			{ID: "visitors", Group: "visitors", Doors: []string{"front"}, Schedule: "daytime"}},
		Closed: []string{"cellar"},
	}
	b := must[[]byte](x.t)(json.Marshal(doc))
	must[*access.Roster](x.t)(access.Compile(must[access.Document](x.t)(access.ParseJSON(b))))
	h := bulletin.Describe(bulletin.Header{Network: docNetwork, Node: docNode, Version: 7, Issued: doc.Issued}, b)
	header := must[[]byte](x.t)(bulletin.SignRoster(h, x.hub.signer))
	ticket := must[[]byte](x.t)(bulletin.SignTicket(bulletin.Ticket{Network: docNetwork, Node: docNode, RosterVersion: 7,
		Issued: docTime, Until: docTime + 24*3600}, x.hub.signer))
	x.blocks["roster document"] = string(b)
	x.blocks["roster header"] = strings.TrimSuffix(string(header), "\n")
	x.blocks["ticket"] = strings.TrimSuffix(string(ticket), "\n")
	x.message("roster-offer", &wire.RosterOffer{Note: header})
	x.message("roster-part", &wire.RosterPart{Version: 7, Part: 0, Parts: 1, Bytes: b})
	x.message("ticket", &wire.Ticket{Note: ticket})
}

// exampleBlock is a comment that names an example, then a fenced block that holds it.
var exampleBlock = regexp.MustCompile("(?s)<!-- example: ([a-z0-9 -]+) -->\n```[a-z]*\n(.*?)\n```\n")

func readPage(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(formatsPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheDocumentedExampleIsWhatTheCodeMakes(t *testing.T) {
	page := readPage(t)
	synctest.Test(t, func(t *testing.T) {
		x := newDocExample(t)
		seen := map[string]bool{}
		for _, m := range exampleBlock.FindAllStringSubmatch(page, -1) {
			name, text := m[1], m[2]
			want, known := x.blocks[name]
			switch {
			case name == "export": // held by simulator/peers, which may ask the hub's store
			case !known:
				t.Errorf("the page has an example %q that nothing here makes", name)
			case text != want:
				t.Errorf("example %q on the page is\n%s\nthe code makes\n%s", name, text, want)
			}
			seen[name] = true
		}
		for name, want := range x.blocks {
			if !seen[name] {
				t.Errorf("the page lacks the example %q:\n%s", name, want)
			}
		}
	})
}

func TestTheDocumentedExampleVerifies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newDocExample(t)
		origin := wire.Origin(docNetwork, docNode, docEdge, x.epoch)
		s, err := openCheckpoint(x.receipt, origin, receiptLines, x.edge.verifier, x.witness.verifier)
		if err != nil || s.size != 3 || s.root != x.root {
			t.Fatalf("receipt opens as %d %x: %v", s.size, s.root, err)
		}
		tree := tree{}.fork()
		for i, line := range x.leaves {
			l, err := event.Parse(line)
			if err != nil || l.Index != uint64(i) {
				t.Fatalf("leaf %d: %v", i, err)
			}
			tree.push(tlog.RecordHash(line))
		}
		if tree.root() != x.root {
			t.Fatal("the journal's tree and the example's differ")
		}
		if l, _ := event.Parse(x.leaves[1]); event.Commit(x.salt, x.private) != *l.Commitment {
			t.Fatal("the private part does not match its commitment")
		}
		// RFC 6962, section 2.1, spelt out: the page says it in these words.
		if sum := sha256.Sum256(append([]byte{0}, x.leaves[0]...)); tlog.Hash(sum) != x.hashes[0] {
			t.Fatal("a leaf hash is not SHA-256(0x00, line)")
		}
		if sum := sha256.Sum256(append(append([]byte{1}, x.hashes[0][:]...), x.hashes[1][:]...)); tlog.Hash(sum) != tlog.NodeHash(x.hashes[0], x.hashes[1]) {
			t.Fatal("an inner hash is not SHA-256(0x01, left, right)")
		}
	})
}

// jsonKeys lists the keys that a value is written with, all levels.
func jsonKeys(v reflect.Type, seen map[reflect.Type]bool) []string {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || seen[v] || v == reflect.TypeFor[time.Time]() {
		return nil
	}
	seen[v] = true
	var keys []string
	for i := range v.NumField() {
		f := v.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			keys = append(keys, name)
		}
		keys = append(keys, jsonKeys(f.Type, seen)...)
	}
	return keys
}

// Every key that is written somewhere has a row in the table of its section.
func TestEveryKeyIsDocumentedInItsSection(t *testing.T) {
	page := readPage(t)
	for _, c := range []struct {
		section string
		values  []any
	}{
		{"## Leaf", []any{event.Boot{}, event.Stop{}, event.Tap{}, event.Door{}, event.Reader{}, event.Tamper{}, event.ClockChange{},
			event.Storage{}, event.RosterSet{}, event.Epochal{}, event.Replayed{}}},
		{"## Private part", []any{event.Private{}, event.TapPrivate{}, event.ReplayedPrivate{}}},
		{"## Roster", []any{access.Document{}}},
		{"## `edge verify --json`", []any{Report{}}},
		{"## `/health`", []any{health.Report{}}},
	} {
		_, rest, ok := strings.Cut(page, "\n"+c.section)
		if !ok {
			t.Errorf("no section %q", c.section)
			continue
		}
		text, _, _ := strings.Cut(rest, "\n## ")
		for _, v := range c.values {
			for _, key := range jsonKeys(reflect.TypeOf(v), map[reflect.Type]bool{}) {
				if !strings.Contains(text, "`"+key+"`") {
					t.Errorf("%s does not name the key `%s` of %T", c.section, key, v)
				}
			}
		}
	}
	for _, n := range []int{event.MaxLeaf, event.MaxPrivate, wire.MaxMessage, wire.MaxNote, wire.MaxBatchLeaves, bulletin.PartBytes} {
		if !strings.Contains(page, grouped(n)) {
			t.Errorf("the limit %s is not on the page", grouped(n))
		}
	}
}

// grouped writes 262144 as 262,144.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
