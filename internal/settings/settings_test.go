package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type door struct {
	ID    string   `yaml:"id"`
	Pulse Duration `yaml:"pulse"`
	Doors []door   `yaml:"doors"`
}

func TestMistakesAreNamedWithTheirLine(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"unknown key":  {"id: a\npusle: 5s\n", "line 2: unknown key pusle"},
		"nested":       {"id: a\ndoors:\n  - id: b\n    lock: x\n", "line 4: unknown key lock"},
		"twice":        {"id: a\nid: b\n", "line 2"},
		"no unit":      {"pulse: 5\n", `line 1: "5" is not a duration`},
		"negative":     {"id: a\npulse: -5s\n", `line 2: "-5s" is not a duration`},
		"wrong kind":   {"id: [1]\n", "line 1"},
		"not yaml":     {"id: \"a\n", "line"},
		"empty":        {"", "empty"},
		"two":          {"id: a\n---\nid: b\n", "second document"},
		"alias":        {"id: &x a\ndoors:\n  - id: *x\n", "aliases"},
		"tab":          {"id: a\n\tpulse: 1s\n", "line 2"},
		"just a value": {"hello\n", "line 1"},
	} {
		var d door
		err := Decode("edge.yaml", []byte(c.in), &d)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "edge.yaml: ") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "settings.") {
			t.Errorf("%s: speaks of Go types: %v", name, err)
		}
	}
}

func TestGoodFileRoundTrips(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	b, err := Encode(door{ID: "a", Pulse: Duration(5 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var d door
	if err := Load(path, &d); err != nil || d.ID != "a" || d.Pulse.Or(1) != 5*time.Second {
		t.Fatalf("%v %+v", err, d)
	}
}

func TestHugeFileIsRefusedUnread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, make([]byte, MaxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Load(path, &door{}); err == nil || !strings.Contains(err.Error(), "not a configuration") {
		t.Fatal(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("id: a\npulse: 5s\n"))
	f.Add([]byte("a: &a [x,x]\nb: &b [*a,*a]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		var d door
		_ = Decode("x", b, &d)
	})
}
