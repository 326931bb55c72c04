package board

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestALineSurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Line{V: rapid.IntRange(0, MaxValue).Draw(t, "v")}
		l.T = Now()
		name := rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,20}/[a-z0-9][a-z0-9-]{0,20}`).Draw(t, "name")
		if rapid.Bool().Draw(t, "out") {
			l.Out = name
		} else {
			l.In = name
		}
		text := AppendLine(nil, l)
		got, err := ParseLine(bytes.TrimSuffix(text, []byte("\n")))
		if err != nil || got != l {
			t.Fatalf("%q read as %+v, %v; want %+v", text, got, err, l)
		}
	})
}

func TestHostileLinesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           ``,
		"no value":        `{"t":1,"in":"a/contact"}`,
		"no time":         `{"in":"a/contact","v":1}`,
		"both directions": `{"t":1,"in":"a/contact","out":"a/lock","v":1}`,
		"no direction":    `{"t":1,"v":1}`,
		"negative value":  `{"t":1,"in":"a/contact","v":-1}`,
		"huge value":      `{"t":1,"in":"a/contact","v":20001}`,
		"a float":         `{"t":1,"in":"a/contact","v":1.5}`,
		"unknown field":   `{"t":1,"in":"a/contact","v":1,"x":2}`,
		"two objects":     `{"t":1,"in":"a/contact","v":1}{}`,
		"upper case":      `{"t":1,"in":"A/contact","v":1}`,
		"two slashes":     `{"t":1,"in":"a/b/contact","v":1}`,
		"control bytes":   `{"t":1,"in":"a\u0000/contact","v":1}`,
		"long name":       `{"t":1,"in":"` + strings.Repeat("a", MaxNameBytes+1) + `","v":1}`,
		"array":           `[1]`,
		"too long":        `{"t":1,"in":"a/contact","v":1` + strings.Repeat(" ", MaxLineBytes) + `}`,
	} {
		if l, err := ParseLine([]byte(text)); err == nil {
			t.Errorf("%s: %q was read as %+v", name, text, l)
		}
	}
}

func TestALineWithoutEndIsRefusedAtTheBound(t *testing.T) {
	endless := &endlessReader{}
	_, err := NewLineReader(endless).Next()
	if !errors.Is(err, ErrLineTooLong) {
		t.Fatalf("an endless line gave %v", err)
	}
	if endless.read > 2*MaxLineBytes {
		t.Errorf("%d bytes were taken before the line was refused", endless.read)
	}
}

type endlessReader struct{ read int }

func (e *endlessReader) Read(b []byte) (int, error) {
	e.read += len(b)
	return copy(b, bytes.Repeat([]byte("x"), len(b))), nil
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"t":1,"in":"front/contact","v":1}`))
	f.Add([]byte(`{"t":-1,"out":"front/lock","v":0}`))
	f.Add([]byte(`{"T":1,"IN":"a","V":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseLine(b)
		if err != nil {
			return
		}
		again, err := ParseLine(bytes.TrimSuffix(AppendLine(nil, l), []byte("\n")))
		if err != nil || again != l {
			t.Fatalf("%q read as %+v, written and read as %+v, %v", b, l, again, err)
		}
	})
}
