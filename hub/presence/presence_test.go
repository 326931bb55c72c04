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

// arrived is what the store knows of a tap that came in some time ago.
func arrived(x Tap, ago time.Duration, arrival int64) Seen {
	s, _ := Of(x)
	s.Received, s.Arrival = noon.Add(-ago).UnixMilli(), arrival
	return s
}

// An edge can be wrong about the time, on purpose or not. It never keeps a person whom another house has seen since.
func TestAClockThatRunsAheadPinsNobody(t *testing.T) {
	honest := arrived(tap("ana", "porto", "in", time.Minute), time.Minute, 2)
	for name, c := range map[string]struct {
		ahead time.Duration
		clock event.Clock
	}{
		"a year ahead":            {365 * 24 * time.Hour, event.Synced},
		"an hour ahead":           {2 * time.Hour, event.Synced},
		"ahead, and it admits it": {365 * 24 * time.Hour, event.Unsure},
	} {
		lie := tap("ana", "lisbon", "in", -c.ahead)
		lie.Clock = c.clock
		before := arrived(lie, time.Hour, 1)
		if Newer(before, honest) || !Newer(honest, before) {
			t.Errorf("%s: a tap that came an hour ago beats one of a minute ago", name)
		}
		if p, in := In(before, noon); !in || p.Doubt != BadClock || p.At != noon.Add(-time.Hour).UnixMilli() {
			t.Errorf("%s: shown as %+v", name, p)
		}
		// And when ten of them came later than the honest one, the next honest one wins again.
		for i := range int64(10) {
			if again := arrived(tap("ana", "porto", "in", 0), 0, 20); !Newer(again, arrived(lie, time.Second, 3+i)) {
				t.Errorf("%s: the person cannot come back", name)
			}
		}
	}
}

func TestAnEdgeThatCatchesUpMovesNobody(t *testing.T) {
	today := arrived(tap("ana", "porto", "in", 2*time.Hour), 2*time.Hour, 1)
	lastWeek := arrived(tap("ana", "lisbon", "in", 7*24*time.Hour), time.Minute, 2)
	if Newer(lastWeek, today) || !Newer(today, lastWeek) {
		t.Fatal("last week's tap moved a person today")
	}
	// Without a clock nobody can know that: the arrival counts, and the doubt is said.
	lost := tap("ana", "lisbon", "in", 50*365*24*time.Hour)
	lost.Clock = event.Unsure
	s := arrived(lost, time.Minute, 3)
	if p, in := In(s, noon); !Newer(s, today) || !in || p.Doubt != BadClock {
		t.Fatalf("%+v %v", p, in)
	}
}

// The order is strict and total whatever clocks say, so no order of folding changes who is where.
func TestTheOrderHasNoCircle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.Custom(func(t *rapid.T) Seen {
			x := tap("ana", rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "node"), "in", time.Duration(rapid.IntRange(-3, 3).Draw(t, "ago"))*time.Hour)
			x.Clock = rapid.SampledFrom([]event.Clock{event.Synced, event.Unsure}).Draw(t, "clock")
			return arrived(x, time.Duration(rapid.IntRange(0, 3).Draw(t, "received"))*time.Hour, int64(rapid.IntRange(1, 1<<20).Draw(t, "arrival")))
		})
		s := rapid.SliceOfN(gen, 3, 3).Draw(t, "taps")
		a, b, c := s[0], s[1], s[2]
		if Newer(a, b) && Newer(b, a) || Newer(a, a) || Newer(a, b) && Newer(b, c) && !Newer(a, c) || a != b && !Newer(a, b) && !Newer(b, a) && a.Arrival != b.Arrival {
			t.Fatalf("%+v\n%+v\n%+v", a, b, c)
		}
	})
}
