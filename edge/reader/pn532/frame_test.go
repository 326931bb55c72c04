package pn532

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

type frameVectors struct {
	Frames  []struct{ Name, Data, Frame string }
	ACK     string
	NACK    string
	Error   string
	Wake    string                         `json:"hsu_wakeup"`
	Long    struct{ Data, Frame string }   `json:"extended_example"`
	Rejects []struct{ Name, Frame string } `json:"reject"`
}

func loadFrames(t testing.TB) frameVectors {
	t.Helper()
	text, err := os.ReadFile("testdata/pn532_frames.json")
	if err != nil {
		t.Fatal(err)
	}
	var v frameVectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Frames) < 5 || len(v.Rejects) < 2 || v.Long.Data == "" {
		t.Fatal("vectors are missing from testdata/pn532_frames.json")
	}
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFrameVectorsHoldBothWays(t *testing.T) {
	v := loadFrames(t)
	v.Frames = append(v.Frames, struct{ Name, Data, Frame string }{"extended", v.Long.Data, v.Long.Frame})
	for _, f := range v.Frames {
		data, frame := unhex(t, f.Data), unhex(t, f.Frame)
		if data[0] == hostToChip {
			got, err := appendFrame(nil, data[1], data[2:])
			if err != nil || !bytes.Equal(got, frame) {
				t.Errorf("%s: written %X, want %X: %v", f.Name, got, frame, err)
			}
			continue
		}
		got, used, noise, n := parseFrame(frame)
		if n != found || got.Kind != Info || !bytes.Equal(got.Data, data[1:]) || noise != 0 || used < len(frame)-1 {
			t.Errorf("%s: read %v %X (used %d, noise %d)", f.Name, got.Kind, got.Data, used, noise)
		}
	}
	for name, tc := range map[string]struct {
		text string
		want Kind
	}{"ack": {v.ACK, ACK}, "nack": {v.NACK, NACK}, "error": {v.Error, Syntax}} {
		if f, _, _, n := parseFrame(unhex(t, tc.text)); n != found || f.Kind != tc.want {
			t.Errorf("%s: read as %v", name, f.Kind)
		}
	}
	if !bytes.Equal(ackFrame[:], unhex(t, v.ACK)) || !bytes.Equal(nackFrame[:], unhex(t, v.NACK)) {
		t.Error("ACK or NACK is written otherwise")
	}
	if wake := unhex(t, v.Wake); !bytes.HasPrefix(wake, hsuWake[:]) {
		t.Errorf("wake-up %X is no part of %X", hsuWake, wake)
	}
	for _, r := range v.Rejects {
		if f, _, _, n := parseFrame(unhex(t, r.Frame)); n != found || f.Kind != Bad {
			t.Errorf("%s: read as %v %X", r.Name, f.Kind, f.Data)
		}
	}
}

// chipFrame wraps a reply as a chip does; data begins with the reply code.
func chipFrame(data ...byte) []byte {
	f, err := appendFrame(nil, data[0], data[1:])
	if err != nil {
		panic(err)
	}
	head := 5
	if len(data)+1 > normalMax {
		head = 8
	}
	f[head] = chipToHost // D5 for D4: the sum grows by one
	f[len(f)-2]--
	return f
}

func TestCommandsFitOneFrameOrAreRefused(t *testing.T) {
	for n := range payloadMax + 2 {
		f, err := appendFrame(nil, cmdInDataExchange, make([]byte, n))
		if fits := n+2 <= payloadMax; fits != (err == nil) || (!fits && !errors.Is(err, ErrTooLong)) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if len(f) > frameMax {
			t.Fatalf("%d bytes: frame of %d", n, len(f))
		}
	}
}

func TestFramesAreFoundInAnyNoiseAndAnyCut(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		data := append([]byte{0x41}, rapid.SliceOfN(rapid.Byte(), 0, payloadMax-2).Draw(r, "data")...)
		noise := rapid.SliceOfN(rapid.ByteRange(1, 254), 0, 60).Draw(r, "noise") // no start code in it
		line := append(bytes.Clone(noise), chipFrame(data...)...)
		var buf []byte
		skipped := 0
		for i, b := range line {
			buf = append(buf, b)
			f, used, k, n := parseFrame(buf)
			skipped += k
			if n == found {
				if f.Kind != Info || !bytes.Equal(f.Data, data) || skipped != len(noise) || i < len(line)-2 {
					r.Fatalf("after %d of %d bytes: %v %X, noise %d", i+1, len(line), f.Kind, f.Data, skipped)
				}
				return
			}
			buf = buf[used:]
		}
		r.Fatal("frame was not found")
	})
}

func FuzzFrame(f *testing.F) {
	v := loadFrames(f)
	for _, x := range v.Frames {
		f.Add(unhex(f, x.Frame))
	}
	f.Add(unhex(f, v.Long.Frame))
	f.Add([]byte{0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02})
	f.Fuzz(func(t *testing.T, line []byte) {
		var before, after runtime.MemStats
		least := ^uint64(0)
		for range 3 { // other goroutines allocate too
			runtime.ReadMemStats(&before)
			readAll(t, line)
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		if least > 1024 {
			t.Errorf("%d bytes allocated for a line of %d", least, len(line))
		}
	})
}

// readAll reads a line to its end and checks that every step moves on and holds less than a frame back.
func readAll(t *testing.T, line []byte) {
	for len(line) > 0 {
		f, used, noise, n := parseFrame(line)
		if used > len(line) || noise > used || (n == found && used == 0) || len(f.Data) > payloadMax {
			t.Fatalf("used %d and noise %d of %d bytes, data of %d", used, noise, len(line), len(f.Data))
		}
		if f.Kind == Info && len(f.Data) == 0 {
			t.Fatal("reply without a code")
		}
		if n == more {
			if held := len(line) - used; held >= frameMax {
				t.Fatalf("%d bytes held back", held)
			}
			return
		}
		line = line[used:]
	}
}

func FuzzList(f *testing.F) {
	f.Add([]byte{1, 1, 0x00, 0x44, 0x20, 7, 4, 1, 2, 3, 4, 5, 6, 5, 0x78, 0x80, 0x70, 2})
	f.Add([]byte{2, 1, 0, 4, 8, 4, 1, 2, 3, 4, 2, 0, 4, 8, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, data []byte) {
		targets, err := parseList(data, 2)
		if len(targets) > 2 || (err != nil && targets != nil) {
			t.Fatalf("%d targets, %v", len(targets), err)
		}
		for _, x := range targets {
			if n := len(x.UID); n != 4 && n != 7 && n != 10 {
				t.Fatalf("uid of %d bytes", n)
			}
		}
	})
}

func TestListsAreReadStrictly(t *testing.T) {
	one := []byte{1, 1, 0x03, 0x44, 0x20, 7, 4, 1, 2, 3, 4, 5, 6, 5, 0x78, 0x80, 0x70, 2}
	targets, err := parseList(one, 2)
	if err != nil || len(targets) != 1 || !targets[0].ISODEP() || targets[0].ATQA != [2]byte{0x03, 0x44} ||
		!bytes.Equal(targets[0].UID, one[6:13]) || !bytes.Equal(targets[0].ATS, one[13:]) {
		t.Errorf("%+v %v", targets, err)
	}
	for name, data := range map[string][]byte{
		"nothing":                   {},
		"three cards":               {3},
		"a card and no bytes":       {1},
		"cut uid":                   one[:10],
		"uid of 5":                  {1, 1, 0, 4, 8, 5, 1, 2, 3, 4, 5},
		"ats longer than the reply": {1, 1, 0, 4, 0x20, 4, 1, 2, 3, 4, 9, 0x78},
		"ats of length 0":           {1, 1, 0, 4, 0x20, 4, 1, 2, 3, 4, 0},
		"bytes after the last":      append(bytes.Clone(one), 9),
		"second target is absent":   append([]byte{2}, one[1:]...),
		"wrong target number":       {1, 2, 0, 4, 8, 4, 1, 2, 3, 4},
	} {
		if got, err := parseList(data, 2); !errors.Is(err, errList) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}
