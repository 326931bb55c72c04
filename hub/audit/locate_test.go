package audit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kith/internal/event"
)

// twoPeriods is a second period with everything in it that a bundle can hold, but an exit.
func twoPeriods(t testing.TB) (*Closing, []byte) {
	t.Helper()
	w := newWorld(t)
	first := w.closed(w.inputs(none))
	w.bed(0, "bb", 3, 100, nonceOne, "")
	w.bed(0, "bb", 3, 100, nonceOne, "")
	w.bed(0, "bb", 3, 129, nonceTwo, "")
	w.bed(1, "aa", 4, 129, "", fmt.Sprintf("%s/%d", event.Epoch{1}, 1))
	return w.after(first, "p2", 130)
}

// bit turns one bit of one file and returns what verifying says, and the line in which it was turned.
func bit(bundle []byte, name string, at int, mask byte) (d *Difference, line int) {
	f := must(Unpack(bundle))
	line = 1 + bytes.Count(f[name][:at], newline)
	f[name] = slices.Clone(f[name])
	f[name][at] ^= mask
	_, r := Verify(must(Pack(f)))
	return r.Difference, line
}

// One bit that is turned in storage is named with its line in every file that follows from others. A journal's other leaves
// and hashes stand under one root, and the words of a policy stand nowhere else: there the line may be left out.
func TestATurnedBitIsNamedWithItsLine(t *testing.T) {
	c, bundle := twoPeriods(t)
	rng := rand.New(rand.NewPCG(7, 9))
	const each = 12
	for _, name := range c.Files.names() {
		for range each {
			at, mask := rng.IntN(len(c.Files[name])), byte(1)<<rng.IntN(8)
			have := c.Files[name][at]
			d, line := bit(bundle, name, at, mask)
			if d == nil || d.File != name || d.What == "" || d.Line != line && name != policyName && !strings.HasPrefix(name, "journals/") {
				t.Errorf("%s line %d, %q to %q: %v", name, line, have, have^mask, d)
			}
		}
	}
}

// What counts of an entry is found by what follows from it, also where the journal has only a root.
func TestATurnedBitInAnEntryIsNamedWithItsLine(t *testing.T) {
	c, bundle := twoPeriods(t)
	tried := 0
	for i, p := range c.Cut.Checkpoints {
		name := excerptName(i)
		text := c.Files[name]
		places := []int{}
		for _, word := range []string{"from ", "to ", "mark ", "end "} {
			places = append(places, bytes.Index(text, []byte("\n"+word))+len(word)+1)
		}
		for id, from := range c.Set.Sources {
			if from.Kind != fromLeaf || !c.Set.Fresh[id] || from.Leaf.Journal != p.Journal {
				continue
			}
			leaf := bytes.Index(text, fmt.Appendf(nil, `,"i":%d,`, from.Leaf.Index))
			leaf = bytes.LastIndex(text[:leaf], []byte("\nleaf ")) + 1
			for _, key := range []string{`leaf {"v":1,"net":"`, `"i":`, `"kind":"`, `"resource":"`, `"quantity":`, `"home":"`, `"day":`, `"evidence":"`, `"nonce":"`} {
				line, _, _ := bytes.Cut(text[leaf:], newline)
				if at := bytes.Index(line, []byte(key)); at >= 0 {
					places = append(places, leaf+at+len(key))
				}
			}
		}
		for _, at := range places {
			tried++
			if d, line := bit(bundle, name, at, 1); d == nil || d.File != name || d.Line != line {
				t.Errorf("%s line %d, %.20q: %v", name, line, text[at:], d)
			}
		}
	}
	if tried < 20 {
		t.Fatalf("only %d bits were turned", tried)
	}
}

// A bundle whose signer lists other files than there are gets no line from what nobody has signed.
func TestNoLineIsNamedOfAFileThatIsNotListed(t *testing.T) {
	c, bundle := twoPeriods(t)
	f := must(Unpack(bundle))
	delete(f, carryName)
	if _, r := Verify(must(Pack(f))); r.OK || r.Difference == nil {
		t.Fatal("a missing file is not missed")
	}
	f = must(Unpack(bundle))
	f["extra.txt"] = []byte("x\n")
	if _, r := Verify(must(Pack(f))); r.OK || r.Difference.File != "extra.txt" || r.Difference.Line != 0 {
		t.Fatalf("%+v", r.Difference)
	}
	if _, r := Verify(must(Pack(c.Files))); !r.OK {
		t.Fatal(r.Difference)
	}
}
