package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func sample() Leaf {
	c := Commit([32]byte{1}, []byte(`{"at":1,"mono":2}`))
	return Leaf{
		Network: "demo", Node: "lisbon", Edge: "lisbon-front", Epoch: Epoch{0xab}, Index: 12, Kind: KindTap,
		At: 472222 * HourMS, Clock: Synced, Boot: "00112233445566aa",
		Body: json.RawMessage(`{"door":"front","verdict":"grant"}`), Commitment: &c,
	}
}

const sampleLine = `{"v":1,"net":"demo","node":"lisbon","edge":"lisbon-front","epoch":"ab000000000000000000000000000000",` +
	`"i":12,"kind":"tap","at":1699999200000,"clock":"synced","boot":"00112233445566aa","mono":0,` +
	`"body":{"door":"front","verdict":"grant"},"c":"efc80b6ba21ed2b33a2a2eb5ab7ba7bd3c2ee5f26cbbd1f2dba0cdf0a1f19b0b"}`

func TestLeafIsExactlyTheDocumentedLine(t *testing.T) {
	l := sample()
	got, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	cut := strings.Index(sampleLine, `"c":`)
	if !bytes.HasPrefix(got, []byte(sampleLine[:cut])) {
		t.Fatalf("have %s\nwant %s", got, sampleLine)
	}
	back, err := Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Encode()
	if err != nil || !bytes.Equal(got, again) {
		t.Fatalf("second encoding differs: %s (%v)", again, err)
	}
}

func TestParseRefusesEveryOtherSpelling(t *testing.T) {
	l := sample()
	line, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(line)
	swap := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, bad := range map[string]string{
		"empty":             "",
		"space":             swap(`,"i":`, `, "i":`),
		"newline":           good + "\n",
		"other order":       swap(`"net":"demo","node":"lisbon"`, `"node":"lisbon","net":"demo"`),
		"version 2":         swap(`"v":1`, `"v":2`),
		"leading zero":      swap(`"i":12`, `"i":012`),
		"negative index":    swap(`"i":12`, `"i":-12`),
		"huge index":        swap(`"i":12`, `"i":99999999999999999999`),
		"upper case epoch":  swap(`"epoch":"ab`, `"epoch":"AB`),
		"upper case edge":   swap(`lisbon-front`, `Lisbon-front`),
		"escape in an id":   swap(`lisbon-front`, `lisbon\u002dfront`),
		"float in body":     swap(`"verdict":"grant"`, `"verdict":1.5`),
		"exponent in body":  swap(`"verdict":"grant"`, `"verdict":1e3`),
		"duplicate key":     swap(`"verdict":"grant"`, `"door":"back"`),
		"space in body":     swap(`{"door":`, `{ "door":`),
		"body not object":   swap(`{"door":"front","verdict":"grant"}`, `[1]`),
		"deep body":         swap(`"grant"`, strings.Repeat("[", 10)+strings.Repeat("]", 10)),
		"exact time":        swap(`"at":1699999200000`, `"at":1699999200001`),
		"mono with private": swap(`"mono":0`, `"mono":1`),
		"clock word":        swap(`"synced"`, `"fine"`),
		"cut":               good[:len(good)-1],
		"control character": swap(`"grant"`, "\"gr\x01nt\""),
		"bad UTF-8":         swap(`"grant"`, "\"gr\xffnt\""),
		"too long":          swap(`"grant"`, `"`+strings.Repeat("x", MaxLeaf)+`"`),
	} {
		if _, err := Parse([]byte(bad)); !errors.Is(err, ErrLeaf) {
			t.Errorf("%s: accepted or wrong error (%v): %s", name, err, clip(bad))
		}
	}
}

func TestUnknownKindsArePartOfTheFormat(t *testing.T) {
	l := sample()
	l.Kind = "compost-turned"
	line, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Parse(line); err != nil || back.Kind != "compost-turned" {
		t.Fatalf("%v %v", back.Kind, err)
	}
}

func TestEncodeAndParseAreInverse(t *testing.T) {
	id := rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		body, err := Marshal(map[string]any{
			rapid.String().Draw(t, "key"): rapid.Int64().Draw(t, "n"), "s": rapid.String().Draw(t, "s"),
		})
		if err != nil {
			t.Skip("not valid UTF-8")
		}
		l := Leaf{
			Network: id.Draw(t, "net"), Node: id.Draw(t, "node"), Edge: id.Draw(t, "edge"), Kind: Kind(id.Draw(t, "kind")),
			Index: rapid.Uint64Range(0, 1<<62).Draw(t, "i"), At: rapid.Int64Range(0, 1<<52).Draw(t, "at"),
			Mono: rapid.Int64Range(0, 1<<60).Draw(t, "mono"), Clock: Unsure, Boot: "0123456789abcdef", Body: body,
		}
		line, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(line)
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		again, err := back.Encode()
		if err != nil || !bytes.Equal(line, again) {
			t.Fatalf("%s\n%s\n%v", line, again, err)
		}
	})
}

func TestCommitmentHidesWithoutTheSaltAndBindsWithIt(t *testing.T) {
	p := []byte(`{"at":1,"mono":2,"member":"ana"}`)
	a, b := Commit([32]byte{1}, p), Commit([32]byte{2}, p)
	if a == b {
		t.Fatal("another salt must give another commitment")
	}
	if a == Commit([32]byte{1}, append([]byte(nil), `{"at":1,"mono":2,"member":"eva"}`...)) {
		t.Fatal("another private part must give another commitment")
	}
}

func FuzzParse(f *testing.F) {
	l := sample()
	line, _ := l.Encode()
	f.Add(line)
	f.Add([]byte(`{"v":1,"net":"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		again, err := l.Encode()
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("accepted a second spelling: %q -> %q (%v)", b, again, err)
		}
		if !json.Valid(b) {
			t.Fatalf("accepted what is not JSON: %q", b)
		}
	})
}

func TestParseAllocatesNoMoreThanItsInputAllows(t *testing.T) {
	deep := []byte(`{"v":1,"net":"a","node":"a","edge":"a","epoch":"` + strings.Repeat("[", 4000))
	if n := testing.AllocsPerRun(100, func() { Parse(deep) }); n > 32 {
		t.Fatalf("%v allocations for a hostile line", n)
	}
}

func BenchmarkParse(b *testing.B) {
	l := sample()
	line, _ := l.Encode()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}
