package wire

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

const (
	epochText = "000102030405060708090a0b0c0d0e0f"
	rootText  = "abababababababababababababababababababababababababababababababab"
	saltText  = "0101010101010101010101010101010101010101010101010101010101010101"
	noteText  = "kith.seed/lisbon/lisbon-front/" + epochText + "\n3\nq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n\n— seed/lisbon/lisbon-front AAAA\n"
)

func epoch() event.Epoch { e, _ := event.ParseEpoch(epochText); return e }

func root(b byte) (h tlog.Hash) { copy(h[:], bytes.Repeat([]byte{b}, 32)); return h }

func salt() (s [32]byte) { copy(s[:], bytes.Repeat([]byte{1}, 32)); return s }

var upFixtures = []struct {
	name, text string
	message    Up
}{
	{"hello of an empty epoch",
		`{"v":1,"type":"hello","boot":"0011223344556677","disk":"d1","seq":1,"challenge":"","generation":"","epoch":"` + epochText +
			`","size":0,"receipt":0,"roster":0,"degraded":false,"checkpoint":0}` + "\n",
		&Hello{Boot: "0011223344556677", Disk: "d1", Seq: 1, Epoch: epoch()}},
	{"hello with checkpoint and receipt",
		`{"v":1,"type":"hello","boot":"0011223344556677","disk":"d1","seq":9,"challenge":"ab-7","generation":"g1","epoch":"` + epochText +
			`","size":3,"receipt":3,"roster":12,"degraded":true,"checkpoint":145}` + "\n" + noteText + noteText + "— seed/hub-witness BBBB\n",
		&Hello{Boot: "0011223344556677", Disk: "d1", Seq: 9, Challenge: "ab-7", Generation: "g1", Epoch: epoch(), Size: 3, ReceiptSize: 3,
			Roster: 12, Degraded: true, Checkpoint: []byte(noteText), Receipt: []byte(noteText + "— seed/hub-witness BBBB\n")}},
	{"batch without private parts",
		`{"v":1,"type":"batch","epoch":"` + epochText + `","from":0,"leaves":2,"private":false}` + "\n" + `{"a":1}` + "\n" + `{"b":2}` + "\n" + noteText,
		&Batch{Epoch: epoch(), Leaves: [][]byte{[]byte(`{"a":1}`), []byte(`{"b":2}`)}, Checkpoint: []byte(noteText), Bundle: []byte(`{"a":1}` + "\n" + `{"b":2}`)}},
	{"batch with one private part",
		`{"v":1,"type":"batch","epoch":"` + epochText + `","from":7,"leaves":2,"private":true}` + "\n" + `{"a":1}` + "\n" + `{"b":2}` + "\n-\n" + saltText + ` {"at":5}` + "\n" + noteText,
		&Batch{Epoch: epoch(), From: 7, Leaves: [][]byte{[]byte(`{"a":1}`), []byte(`{"b":2}`)},
			Private: []Private{{}, {Salt: salt(), Bytes: []byte(`{"at":5}`)}}, Checkpoint: []byte(noteText), Bundle: []byte(`{"a":1}` + "\n" + `{"b":2}`)}},
	{"head", `{"v":1,"type":"head","epoch":"` + epochText + `","size":3}` + "\n" + noteText, &Head{Epoch: epoch(), Size: 3, Checkpoint: []byte(noteText)}},
	{"roots-get", `{"v":1,"type":"roots-get","epoch":"` + epochText + `","sizes":[1,2,900]}` + "\n", &RootsGet{Epoch: epoch(), Sizes: []uint64{1, 2, 900}}},
	{"bridge",
		`{"v":1,"type":"bridge","epoch":"` + epochText + `","old":1,"new":2,"receipt":3,"subtrees":1,"proof":1,"ahead":1,"checkpoint":145}` + "\n" +
			rootText + "\n" + strings.Repeat("cd", 32) + "\n" + strings.Repeat("ef", 32) + "\n" + noteText + noteText,
		&Bridge{Epoch: epoch(), Old: 1, New: 2, ReceiptSize: 3, Subtrees: []tlog.Hash{root(0xab)}, Proof: []tlog.Hash{root(0xcd)},
			Ahead: []tlog.Hash{root(0xef)}, Checkpoint: []byte(noteText), Receipt: []byte(noteText)}},
	{"roster-get", `{"v":1,"type":"roster-get","version":4,"part":1}` + "\n", &RosterGet{Version: 4, Part: 1}},
}

var downFixtures = []struct {
	name, text string
	message    Down
}{
	{"state",
		`{"v":1,"type":"state","generation":"g1","epoch":"` + epochText + `","size":3,"root":"` + rootText +
			`","status":"open","limit":0,"held":false,"duplicate":false,"backup":1,"credit":1024,"boot":"0011223344556677","seq":9,"challenge":"ab-8","again":false}` + "\n" + noteText,
		&State{Generation: "g1", Epoch: epoch(), Size: 3, Root: root(0xab), Status: StatusOpen, Backup: 1, Credit: 1024,
			Boot: "0011223344556677", Seq: 9, Challenge: "ab-8", Receipt: []byte(noteText)}},
	{"receipt", `{"v":1,"type":"receipt","generation":"g1","epoch":"` + epochText + `","size":3,"backup":0,"credit":256}` + "\n" + noteText,
		&Receipt{Generation: "g1", Epoch: epoch(), Size: 3, Credit: 256, Note: []byte(noteText)}},
	{"need", `{"v":1,"type":"need","generation":"g1","epoch":"` + epochText + `","from":2}` + "\n", &Need{Generation: "g1", Epoch: epoch(), From: 2}},
	{"conflict", `{"v":1,"type":"conflict","generation":"g1","epoch":"` + epochText + `","size":3,"root":"` + rootText + `","why":"root at 4 differs"}` + "\n",
		&Conflict{Generation: "g1", Epoch: epoch(), Size: 3, Root: root(0xab), Why: "root at 4 differs"}},
	{"roots", `{"v":1,"type":"roots","generation":"g1","epoch":"` + epochText + `","sizes":[1,5]}` + "\n" + rootText + "\n-\n",
		&Roots{Generation: "g1", Epoch: epoch(), Sizes: []uint64{1, 5}, Roots: []tlog.Hash{root(0xab), {}}}},
	{"roster-offer", `{"v":1,"type":"roster-offer"}` + "\nheader\n", &RosterOffer{Note: []byte("header\n")}},
	{"roster-part", `{"v":1,"type":"roster-part","version":4,"part":1,"parts":2}` + "\n{\"x\":\n1}", &RosterPart{Version: 4, Part: 1, Parts: 2, Bytes: []byte("{\"x\":\n1}")}},
	{"ticket", `{"v":1,"type":"ticket"}` + "\nticket\n", &Ticket{Note: []byte("ticket\n")}},
}

func TestEveryMessageHasOneSpellingBothWays(t *testing.T) {
	check := func(name, text string, encode func() ([]byte, error), parse func([]byte) (any, error), want any) {
		t.Run(name, func(t *testing.T) {
			b, err := encode()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(text, string(b)); d != "" {
				t.Errorf("encoded (-want +got):\n%s", d)
			}
			got, err := parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("parsed (-want +got):\n%s", d)
			}
		})
	}
	for _, f := range upFixtures {
		check(f.name, f.text, f.message.Encode, func(b []byte) (any, error) { return ParseUp(b) }, f.message)
	}
	for _, f := range downFixtures {
		check(f.name, f.text, f.message.Encode, func(b []byte) (any, error) { return ParseDown(b) }, f.message)
	}
}

func TestForeignTypesAndVersionsAreToldFromDamage(t *testing.T) {
	for _, c := range []struct {
		text string
		want error
	}{
		{`{"v":1,"type":"hello-again","x":{"y":1}}` + "\n", ErrUnknownType},
		{`{"v":2,"type":"hello"}` + "\n", ErrVersion},
		{`{"v":12345,"type":"?"}` + "\n", ErrVersion},
		{``, ErrMessage}, {"\n", ErrMessage}, {"{}\n", ErrMessage}, {`{"v":1}` + "\n", ErrMessage},
		{`{"v":,"type":"hello"}` + "\n", ErrMessage}, {`{"v":1,"type":""}` + "\n", ErrMessage},
		{`{"v":1,"type":"hello"}`, ErrMessage}, {strings.Repeat("x", MaxMessage+1), ErrMessage},
		{`{"v":1,"type":"roster-get","version":4,"part":1,"extra":1}` + "\n", ErrMessage},
		{`{"v":1,"type":"roster-get","part":1,"version":4}` + "\n", ErrMessage},
		{`{"v":1,"type":"roster-get","version":4}` + "\n", ErrMessage},
		{`{"v":1,"type":"roster-get","version":04,"part":1}` + "\n", ErrMessage},
		{`{"v":1,"type":"roster-get", "version":4,"part":1}` + "\n", ErrMessage},
		{`{"v":1,"type":"roster-get","version":4,"part":1}` + "\nx", ErrMessage},
		{`{"v":1,"type":"roster-get","version":4,"part":99999999999999999999}` + "\n", ErrMessage},
		{`{"v":1,"type":"roots-get","epoch":"` + epochText + `","sizes":[2,2]}` + "\n", ErrMessage},
		{`{"v":1,"type":"roots-get","epoch":"` + epochText + `","sizes":[]}` + "\n", ErrMessage},
		{`{"v":1,"type":"roots-get","epoch":"` + strings.ToUpper("abcdef") + epochText[6:] + `","sizes":[1]}` + "\n", ErrMessage},
		{`{"v":1,"type":"batch","epoch":"` + epochText + `","from":0,"leaves":257,"private":false}` + "\n" + strings.Repeat("{}\n", 257), ErrMessage},
		{`{"v":1,"type":"batch","epoch":"` + epochText + `","from":0,"leaves":3,"private":false}` + "\n{}\n{}\n", ErrMessage},
		{`{"v":1,"type":"batch","epoch":"` + epochText + `","from":0,"leaves":1,"private":true}` + "\n{}\nsalt {}\n", ErrMessage},
	} {
		if _, err := ParseUp([]byte(c.text)); !errors.Is(err, c.want) {
			t.Errorf("ParseUp(%.80q) = %v, want %v", c.text, err, c.want)
		}
	}
}

func TestWhatCannotBeReadIsNotWritten(t *testing.T) {
	leaf := []byte("{}")
	for name, m := range map[string]Up{
		"no leaves":          &Batch{},
		"too many leaves":    &Batch{Leaves: make([][]byte, MaxBatchLeaves+1)},
		"newline in a leaf":  &Batch{Leaves: [][]byte{[]byte("{\n}")}},
		"parts do not match": &Batch{Leaves: [][]byte{leaf}, Private: make([]Private, 2)},
		"too long":           &Batch{Leaves: [][]byte{bytes.Repeat([]byte("x"), MaxMessage)}},
		"size without head":  &Hello{Size: 1},
		"word with a space":  &Hello{Boot: "a b"},
		"sizes fall":         &RootsGet{Sizes: []uint64{2, 1}},
	} {
		if b, err := m.Encode(); err == nil {
			t.Errorf("%s: encoded as %.80q", name, b)
		}
	}
}

func TestTopicsNameTheEdge(t *testing.T) {
	if edge, ok := UpEdge(UpTopic("lisbon-front")); !ok || edge != "lisbon-front" {
		t.Errorf("UpEdge = %q, %v", edge, ok)
	}
	for _, bad := range []string{"", "v1//up", "v1/a/b/up", "v1/a/down", "v2/a/up", "v1/A/up", "v1/+/up", "v1/a/up/x"} {
		if edge, ok := UpEdge(bad); ok {
			t.Errorf("UpEdge(%q) = %q", bad, edge)
		}
	}
	if DownTopic("a") != "v1/a/down" || UpFilter != "v1/+/up" {
		t.Error("topics changed; edges in the field speak the old ones")
	}
}

func TestCheckpointTextHasOneSpelling(t *testing.T) {
	c := Checkpoint{Origin: Origin("seed", "lisbon", "lisbon-front", epoch()), Size: 3, Root: root(0xab)}
	got, err := ParseCheckpoint(c.Text())
	if err != nil || got != c {
		t.Fatalf("ParseCheckpoint = %+v, %v", got, err)
	}
	for _, bad := range []string{"", "a\n1\n", strings.Replace(c.Text(), "\n3\n", "\n03\n", 1), c.Text() + "x\n", strings.TrimSuffix(c.Text(), "\n"),
		strings.Replace(c.Text(), "q6ur", "q6u", 1), strings.Replace(c.Text(), "\n3\n", "\n-3\n", 1)} {
		if _, err := ParseCheckpoint(bad); err == nil {
			t.Errorf("ParseCheckpoint(%q) accepted", bad)
		}
	}
}

// A few hostile bytes must not make the reader allocate: what is declared is not what is there.
func TestHostileHeadersAllocateLittle(t *testing.T) {
	for _, text := range []string{
		`{"v":1,"type":"batch","epoch":"` + epochText + `","from":0,"leaves":256,"private":true}` + "\n",
		`{"v":1,"type":"bridge","epoch":"` + epochText + `","old":1,"new":2,"receipt":3,"subtrees":64,"proof":64,"ahead":64,"checkpoint":4096}` + "\n",
		`{"v":1,"type":"batch","epoch":"` + epochText + `","from":0,"leaves":9223372036854775807,"private":true}` + "\n",
		"{\"v\":", `{"v":1,"type":"hello","boot":"` + strings.Repeat("a", maxHeader),
	} {
		if got := allocated(func() { _, _ = ParseUp([]byte(text)) }); got > bound(len(text)) {
			t.Errorf("%.60q allocates %d bytes", text, got)
		}
	}
}

func bound(input int) uint64 { return 4*uint64(input) + 64<<10 }

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzParseUp(f *testing.F) {
	for _, x := range upFixtures {
		f.Add([]byte(x.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseUp(b)
		if err != nil {
			return
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted %q, writes %q (%v)", b, again, err)
		}
		if got := allocated(func() { _, _ = ParseUp(b) }); got > bound(len(b)) {
			t.Fatalf("%d bytes of input allocate %d", len(b), got)
		}
	})
}

func FuzzParseDown(f *testing.F) {
	for _, x := range downFixtures {
		f.Add([]byte(x.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseDown(b)
		if err != nil {
			return
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted %q, writes %q (%v)", b, again, err)
		}
		if got := allocated(func() { _, _ = ParseDown(b) }); got > bound(len(b)) {
			t.Fatalf("%d bytes of input allocate %d", len(b), got)
		}
	})
}

func BenchmarkParseBatchOf100(b *testing.B) {
	m := Batch{Epoch: epoch(), Checkpoint: []byte(noteText)}
	for range 100 {
		m.Leaves = append(m.Leaves, bytes.Repeat([]byte("x"), 350))
		m.Private = append(m.Private, Private{Salt: salt(), Bytes: bytes.Repeat([]byte("y"), 200)})
	}
	text, err := m.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseUp(text); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/leaf")
}
