package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestADocumentSurvivesJSON(t *testing.T) {
	b, err := json.Marshal(house())
	if err != nil {
		t.Fatal(err)
	}
	d, err := ParseJSON(b)
	if err != nil || !reflect.DeepEqual(d, house()) {
		t.Fatalf("%v\n%+v", err, d)
	}
}

func TestParseJSONIsStrict(t *testing.T) {
	good := `{"network":"kith","node":"lisbon","version":1,"issued":1,"zone":"UTC","members":[{"id":"ana","role":"guest"}]}`
	if _, err := ParseJSON([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", strings.Replace(good, `"zone"`, `"zonne"`, 1), "zonne"},
		{"unknown key within", strings.Replace(good, `"role"`, `"rolle"`, 1), "rolle"},
		{"other case", strings.Replace(good, `"zone"`, `"Zone"`, 1), "unknown key"},
		{"long s folds to s", strings.Replace(good, `"members"`, `"member`+"\u017f"+`"`, 1), "unknown key"},
		{"escaped key", strings.Replace(good, `"zone"`, `"\u007aone"`, 1), "unknown key"},
		{"another order", strings.Replace(good, `"network":"kith","node":"lisbon"`, `"node":"lisbon","network":"kith"`, 1), "comes too late"},
		{"repeated key", strings.Replace(good, `"zone"`, `"node":"porto","zone"`, 1), "stands twice"},
		{"repeated key within", strings.Replace(good, `"role"`, `"id":"eve","role"`, 1), "stands twice"},
		{"more after the end", good + `{"network":"kith","node":"porto"}`, "more bytes"},
		{"garbage after the end", good + `x`, "more bytes"},
		{"empty object", strings.Replace(good, `{"id":"ana","role":"guest"}`, `{}`, 1), "fewer than"},
		{"fraction", strings.Replace(good, `"version":1`, `"version":1.5`, 1), "version"},
		{"negative version", strings.Replace(good, `"version":1`, `"version":-1`, 1), "version"},
		{"huge number", strings.Replace(good, `"issued":1`, `"issued":1e400`, 1), "issued"},
		{"deep", strings.Repeat(`{"a":1,"spans":[`, 10_000), "deeper"},
		{"list at the top", "[]", "a list where"},
		{"list in a list", strings.Replace(good, `[{`, `[[{`, 1), "a list where"},
		{"object as a value", strings.Replace(good, `"zone":"UTC"`, `"zone":{"a":1,"b":2}`, 1), "an object where"},
		{"string among objects", strings.Replace(good, `[{`, `["x",{`, 1), "a string in a list"},
		{"number among objects", strings.Replace(good, `[{`, `[7,{`, 1), "something else"},
		{"wrong bracket", `{"a":1,"b":2]`, "wrong bracket"},
		{"never opened", `]`, "never opened"},
		{"string without end", `{"a`, "without an end"},
		{"cut", good[:len(good)-1], "unexpected"},
		{"empty", "", "EOF"},
		{"too long", strings.Repeat(" ", MaxDocumentBytes+1), "limit"},
	} {
		if _, err := ParseJSON([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want something with %q", c.name, err, c.want)
		}
	}
}

// parseBound is what parsing n bytes may allocate: the decoder's slices grow by doubling, and the smallest object that
// passes the shape check becomes a struct some ten times its size.
func parseBound(n int) uint64 { return 64*uint64(n) + 1<<20 }

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestParsingAllocatesInProportion(t *testing.T) {
	for name, piece := range map[string]string{
		"smallest members":   `{"id":"","role":""},`,
		"smallest cards":     `{"id":"","from":0},`,
		"empty objects":      `{},`,
		"empty lists":        `[],`,
		"empty strings":      `"",`,
		"nested empty lists": `[[[[]]]],`,
	} {
		for _, field := range []string{"members", "cards", "schedules", "grants", "closed", "resources"} {
			text := []byte(`{"network":"kith","` + field + `":[` + strings.TrimSuffix(strings.Repeat(piece, 100_000), ",") + `]}`)
			if n := allocated(func() { _, _ = ParseJSON(text) }); n > parseBound(len(text)) {
				t.Errorf("%s in %s: %d bytes of text made %d bytes", name, field, len(text), n)
			}
		}
	}
}

// The decoder holds a whole value at a time, so one that no document has is refused before it is decoded.
func TestAValueThatNoDocumentHasIsRefusedInLittleMemory(t *testing.T) {
	const many = 1 << 20
	words := strings.Repeat(`"a",`, many) + `"a"`
	for name, text := range map[string]string{
		"a long name":         `{"network":"kith","members":[{"id":"a","role":"guest","name":"` + strings.Repeat("a", many) + `"}]}`,
		"many groups":         `{"network":"kith","members":[{"id":"a","role":"guest","groups":[` + words + `]}]}`,
		"many holidays":       `{"network":"kith","schedules":[{"id":"a","spans":[],"holidays":[` + words + `]}]}`,
		"many spans":          `{"network":"kith","schedules":[{"id":"a","spans":[` + strings.Repeat(`{"from":"","to":""},`, many) + `{"from":"","to":""}]}]}`,
		"a list for a name":   `{"network":[` + words + `],"node":"a"}`,
		"a long number":       `{"network":"kith","version":` + strings.Repeat("1", many) + `}`,
		"space":               `{"network":"kith","members":[{"id":` + strings.Repeat(" ", many) + `"a","role":"guest"}]}`,
		"an escape after all": `{"network":"` + strings.Repeat(`\u0061`, many) + `","node":"a"}`,
	} {
		for _, parse := range []func() error{
			func() error { _, err := ParseJSON([]byte(text)); return err },
			func() error { _, err := CompileJSON(twice([]byte(text))); return err },
		} {
			var err error
			if n := allocated(func() { err = parse() }); !errors.Is(err, errLong) || n > uint64(2*len(text))+1<<20 {
				t.Errorf("%s: %d bytes of text made %d bytes; %v", name, len(text), n, err)
			}
		}
	}
	long := house()
	for i := range MaxHolidays {
		long.Schedules[0].Holidays = append(long.Schedules[0].Holidays, time.Unix(int64(i+1)*86400, 0).UTC().Format(time.DateOnly))
	}
	long.Schedules[0].Holidays = long.Schedules[0].Holidays[:MaxHolidays]
	for len(long.Schedules[0].Spans) < MaxSpans {
		long.Schedules[0].Spans = append(long.Schedules[0].Spans, Span{Days: []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}, From: "00:00", To: "24:00"})
	}
	long.Members[0].Name = strings.Repeat("<", MaxNameBytes) // written in six bytes each
	b, err := json.MarshalIndent(long, "", "    ")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CompileJSON(twice(b)); err != nil {
		t.Errorf("the longest legal values are refused: %v", err)
	}
}

func FuzzParseJSON(f *testing.F) {
	b, _ := json.Marshal(house())
	f.Add(b)
	f.Add([]byte(`{"network":"kith","node":"lisbon","members":[{},{}]}`))
	f.Add([]byte(`{"network":"kith","node":"lisbon","version":1,"zone":"UTC","erasure_key":"` + strings.Repeat("0a", 32) + `","erased":["` + strings.Repeat("1b", 16) + `"]}`))
	f.Add([]byte(`{"a":{"b":[{"c":"\"","d":1}]},"a":2}`))
	f.Add([]byte(`[[[[[[[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Document
		var err error
		if n := allocated(func() { d, err = ParseJSON(b) }); n > parseBound(len(b)) {
			t.Fatalf("%d bytes of text made %d bytes", len(b), n)
		}
		if err != nil {
			return
		}
		again, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseJSON(again)
		if errors.Is(err, errLong) {
			return // what was written out is escaped here
		}
		if err != nil {
			t.Fatalf("what was parsed does not parse when written: %v\n%s", err, again)
		}
		if once, _ := json.Marshal(back); !bytes.Equal(once, again) {
			t.Fatal("writing and reading changes the document")
		}
		r, err := Compile(d)
		if err == nil {
			_ = r.Decide(Query{Card: anaCard, Door: Door{ID: "front"}})
		}
		var streamed *Roster
		var bad error
		if n := allocated(func() { streamed, bad = CompileJSON(twice(b)) }); n > parseBound(len(b)) {
			t.Fatalf("%d bytes of text made %d bytes on the way to a roster", len(b), n)
		}
		if (bad == nil) != (err == nil) {
			t.Fatalf("read whole: %v; read as a stream: %v", err, bad)
		}
		if err == nil && !reflect.DeepEqual(plain(r), plain(streamed)) {
			t.Fatal("read whole and as a stream, they differ")
		}
	})
}

func ExampleRoster_Decide() {
	d, _ := ParseJSON([]byte(`{"network":"kith","node":"lisbon","version":1,"issued":0,"zone":"Europe/Lisbon",
		"members":[{"id":"ana","role":"resident"}],
		"cards":[{"id":"uid:04a1b2c3","member":"ana"}],
		"grants":[{"id":"g","member":"ana","doors":["front"]}]}`))
	r, err := Compile(d)
	v := r.Decide(Query{Card: "uid:04a1b2c3", Door: Door{ID: "front"}, Fresh: Freshness{Fresh: true}})
	fmt.Println(err, v.Allow, v.Reason, v.Member)
	// Output: <nil> false uid-not-allowed ana
}
