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

// stuffed is a bundle in which somebody has changed the last hash of a journal, and added lines to what the earlier period left
// before the last one of it. No root speaks for those until the file is held to the manifest.
func stuffed(t testing.TB, bundle []byte, lines string) (f Files, d *Difference) {
	t.Helper()
	f = must(Unpack(bundle))
	end := bytes.LastIndex(f[openCarryName], []byte("\nend ")) + 1
	f[openCarryName] = slices.Concat(f[openCarryName][:end], []byte(lines), f[openCarryName][end:])
	for i := 0; f[excerptName(i)] != nil && d == nil; i++ {
		if at := bytes.LastIndex(f[excerptName(i)], []byte("\nnode ")); at > 0 {
			f[excerptName(i)] = slices.Clone(f[excerptName(i)])
			f[excerptName(i)][at+1+bytes.IndexByte(f[excerptName(i)][at+1:], '\n')-1] ^= 1
			d = f.sealed()
		}
	}
	if d == nil || !strings.HasPrefix(d.File, "journals/") {
		t.Fatalf("no journal was changed: %v", d)
	}
	return f, d
}

func (f Files) size() (n int64) {
	for _, text := range f {
		n += int64(len(text))
	}
	return n
}

// maxPasses is how often a search may read a bundle of three houses, and what its cost counts beside the texts.
const maxPasses = 8

// Whoever stuffs a changed bundle with nonces that were used before, or with anything else, makes the search for the changed line
// longer by those lines and not by their number times a journal.
func TestASearchForALineReadsAFewTimesWhatIsThere(t *testing.T) {
	_, bundle := twoPeriods(t)
	nonces := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "used zz %032x 130\n", i)
		}
		return b.String()
	}
	work := func(f Files, d *Difference) int64 {
		t.Helper()
		l := &looking{f, maxLooked}
		if at := l.locate(d); at.File != d.File || l.left < 0 {
			t.Fatalf("%v: %v, %d bytes left", d, at, l.left)
		}
		if have, size := maxLooked-l.left, f.size(); have > maxPasses*size {
			t.Fatalf("%v: %d bytes were read of a bundle of %d", d, have, size)
		}
		return maxLooked - l.left
	}
	const many = 4000
	f, d := stuffed(t, bundle, nonces(many))
	if _, err := ParseCarry(openCarryName, f[openCarryName]); err != nil {
		t.Fatal("the lines are refused before any search:", err)
	}
	once := work(f, d)
	f, d = stuffed(t, bundle, nonces(2*many))
	if twice := work(f, d); twice-once > maxPasses*int64(len(nonces(many))) {
		t.Fatalf("%d lines more cost %d bytes more", many, twice-once)
	}
	f = must(Unpack(bundle))
	seal := bytes.Index(f[openCarryName], []byte("\nseal ")) + 1
	line := string(f[openCarryName][seal : seal+1+bytes.IndexByte(f[openCarryName][seal:], '\n')])
	f[openCarryName] = slices.Concat(f[openCarryName][:seal], []byte(strings.Repeat(line, many)), f[openCarryName][seal:])
	if d = f.sealed(); d == nil || d.File != openCarryName {
		t.Fatal(d)
	}
	work(f, d)
}

// With less to read than a search takes, it names the file alone: never a line that it had no time to hold to anything.
func TestASearchThatEndsEarlyNamesTheFileAlone(t *testing.T) {
	c, bundle := twoPeriods(t)
	size, named, alone := c.Files.size(), 0, 0
	for _, name := range c.Files.names() {
		f := must(Unpack(bundle))
		at := len(f[name]) / 2
		line := 1 + bytes.Count(f[name][:at], newline)
		f[name] = slices.Clone(f[name])
		f[name][at] ^= 1
		for left := int64(0); left <= 6*size; left += size / 2 {
			d := f.sealed()
			if d == nil || d.Line > 0 || d.File != name {
				continue // the search does not come to it
			}
			switch d = (&looking{f, left}).locate(d); {
			case d.File != name || d.Line != 0 && d.Line != line:
				t.Errorf("%s line %d, %d bytes: %v", name, line, left, d)
			case d.Line > 0:
				named++
			default:
				alone++
			}
		}
	}
	if named < 20 || alone < 20 {
		t.Fatalf("%d lines were named and %d not", named, alone)
	}
}

// What grows with two texts of a bundle together is counted before it is begun.
func TestASearchCountsWhatGrowsWithTwoTexts(t *testing.T) {
	const many = 1 << 15
	repeated := func(line string, n int) []byte { return bytes.Repeat([]byte(line+"\n"), n) }
	for what, f := range map[string]Files{
		"steps and debts":       {obligationsName: repeated("d", many)},
		"checkpoints and nodes": {cutName: repeated("c", many), networkName: repeated("n", many)},
		"rules and the cut":     {policyName: repeated("grant", many), cutName: repeated("checkpoint", 4*many)},
	} {
		if what == "steps and debts" {
			for i := range many {
				f[stepName(i)] = []byte("{}\n")
			}
		}
		if l := (&looking{f, maxLooked}); l.whole() || l.left >= 0 {
			t.Errorf("%s: %d bytes are left", what, l.left)
		}
		for name := range f { // each of the two alone is little
			if one := (Files{name: f[name]}); !(&looking{one, maxLooked}).whole() {
				t.Errorf("%s alone is too much", name)
				break
			}
		}
	}
}
