package presence

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/internal/event"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func tap(member, node, dir string, ago time.Duration) Tap {
	return Tap{Member: member, Node: node, Edge: node + "-front", At: noon.Add(-ago).UnixMilli(), Clock: event.Synced, Door: "front", Direction: dir, Granted: true}
}

func fold(taps ...Tap) []Seen {
	last := map[string]Seen{}
	for _, t := range taps {
		if s, ok := Of(t); ok {
			if old, had := last[s.Member]; !had || Newer(s, old) {
				last[s.Member] = s
			}
		}
	}
	var all []Seen
	for _, s := range last {
		all = append(all, s)
	}
	return all
}

func TestInElsewhereIsOutOfHere(t *testing.T) {
	h := Houses(fold(tap("ana", "lisbon", "in", 3*time.Hour), tap("ana", "porto", "in", time.Hour), tap("bo", "lisbon", "in", time.Hour)), noon)
	if len(h) != 2 || len(h[0].People) != 1 || h[0].People[0].Member != "bo" || h[1].People[0].Member != "ana" {
		t.Fatalf("%+v", h)
	}
}

func TestLateDataMovesNobody(t *testing.T) {
	h := Houses(fold(tap("ana", "lisbon", "out", time.Hour), tap("ana", "lisbon", "in", 9*time.Hour), tap("ana", "porto", "in", 2*time.Hour)), noon)
	if len(h) != 0 {
		t.Fatalf("ana left an hour ago: %+v", h)
	}
}

func TestDoubtIsSaid(t *testing.T) {
	unsure := tap("a", "x", "in", time.Hour)
	unsure.Clock = event.Unsure
	for name, c := range map[string]struct {
		tap   Tap
		doubt Doubt
		in    bool
	}{
		"in":                {tap("a", "x", "in", time.Hour), Certain, true},
		"pass":              {tap("a", "x", "pass", time.Hour), NoExit, true},
		"old":               {tap("a", "x", "in", Fades+time.Minute), LongAgo, true},
		"old pass":          {tap("a", "x", "pass", Fades+time.Minute), LongAgo, true},
		"very old":          {tap("a", "x", "in", Forget+time.Minute), Certain, false},
		"unsure":            {unsure, BadClock, true},
		"from the future":   {tap("a", "x", "in", -time.Hour), BadClock, true},
		"a little too fast": {tap("a", "x", "in", -time.Minute), Certain, true},
		"out":               {tap("a", "x", "out", time.Hour), Certain, false},
	} {
		s, ok := Of(c.tap)
		if !ok {
			t.Fatal(name)
		}
		p, in := In(s, noon)
		if in != c.in || p.Doubt != c.doubt {
			t.Errorf("%s: in %v doubt %q, want %v %q", name, in, p.Doubt, c.in, c.doubt)
		}
	}
}

func TestARefusedOrNamelessTapMovesNobody(t *testing.T) {
	refused, nameless := tap("ana", "lisbon", "in", time.Hour), tap("", "lisbon", "in", time.Hour)
	refused.Granted = false
	if len(fold(refused, nameless)) != 0 {
		t.Fatal("somebody moved")
	}
}

func TestTheOrderOfArrivalNeverMatters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.Custom(func(t *rapid.T) Tap {
			x := tap(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "who"), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "node"),
				rapid.SampledFrom([]string{"in", "out", "pass"}).Draw(t, "dir"), time.Duration(rapid.IntRange(0, 3).Draw(t, "ago"))*time.Hour)
			x.Index = uint64(rapid.IntRange(0, 5).Draw(t, "index"))
			x.Epoch[0] = byte(rapid.IntRange(0, 1).Draw(t, "epoch"))
			return x
		})
		taps := rapid.SliceOfN(gen, 1, 12).Draw(t, "taps")
		other := rapid.Permutation(taps).Draw(t, "order")
		key := func(t Tap) [3]any { return [3]any{t.Edge, t.Epoch, t.Index} }
		seen := map[[3]any]Tap{}
		for _, x := range taps {
			if old, ok := seen[key(x)]; ok && old != x {
				t.Skip("one address holds one leaf")
			}
			seen[key(x)] = x
		}
		a, b := Houses(fold(taps...), noon), Houses(fold(other...), noon)
		if len(a) != len(b) {
			t.Fatalf("%+v\n%+v", a, b)
		}
		for i := range a {
			if a[i].Node != b[i].Node || len(a[i].People) != len(b[i].People) || a[i].Certain != b[i].Certain {
				t.Fatalf("%+v\n%+v", a, b)
			}
			for j := range a[i].People {
				if a[i].People[j] != b[i].People[j] {
					t.Fatalf("%+v\n%+v", a, b)
				}
			}
		}
	})
}
