package occupancy

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC)

// house: the front door is left by a handle, the office needs a tap both ways.
func house(t testing.TB) *House {
	t.Helper()
	h, err := New([]Door{{ID: "front", Inside: "home"}, {ID: "office", Outside: "home", Inside: "desk", TapsOut: true}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func at(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }

func in(minutes int, door, who string) Passage {
	return Passage{At: at(minutes), Door: door, Kind: In, Member: who}
}
func out(minutes int, door, who string) Passage {
	return Passage{At: at(minutes), Door: door, Kind: Out, Member: who}
}
func exit(minutes int, door string) Passage {
	return Passage{At: at(minutes), Door: door, Kind: Exit}
}

func TestCountsSayWhatWasSeenAndWhatWasNot(t *testing.T) {
	const day = 24 * 60
	cases := []struct {
		name       string
		walks      []Passage
		when       int // minutes after noon
		home, desk Count
	}{
		{"nobody", nil, 0, Count{}, Count{}},
		{"one in", []Passage{in(0, "front", "ana")}, 1, Count{1, 1, 1}, Count{}},
		{"one in twice is one", []Passage{in(0, "front", "ana"), in(5, "front", "ana")}, 6, Count{1, 1, 1}, Count{}},
		{"a handle lets one out unseen", []Passage{in(0, "front", "ana"), in(0, "front", "ben"), exit(5, "front")}, 6, Count{1, 1, 2}, Count{}},
		{"who comes back had gone", []Passage{in(0, "front", "ana"), in(0, "front", "ben"), exit(5, "front"), in(9, "front", "ben")}, 10, Count{2, 2, 2}, Count{}},
		{"an exit from an empty house", []Passage{exit(5, "front")}, 6, Count{0, 0, 0}, Count{}},
		{"inner door moves one", []Passage{in(0, "front", "ana"), in(1, "office", "ana")}, 2, Count{}, Count{1, 1, 1}},
		{"and back", []Passage{in(0, "front", "ana"), in(1, "office", "ana"), out(2, "office", "ana")}, 3, Count{1, 1, 1}, Count{}},
		{"let in by somebody", []Passage{out(2, "office", "ana")}, 3, Count{1, 1, 1}, Count{0, 0, 1}},
		{"gone past a reader that must be tapped", []Passage{in(0, "office", "ana"), in(0, "office", "ben"), in(9, "front", "ana")}, 10, Count{1, 1, 2}, Count{0, 0, 1}},
		{"forced", []Passage{in(0, "front", "ana"), {At: at(1), Door: "front", Kind: Forced}}, 2, Count{0, 0, 2}, Count{}},
		{"sure for four hours where leaving is unseen", []Passage{in(0, "front", "ana")}, 4*60 - 1, Count{1, 1, 1}, Count{}},
		{"then perhaps", []Passage{in(0, "front", "ana")}, 4 * 60, Count{0, 1, 1}, Count{}},
		{"then no more", []Passage{in(0, "front", "ana")}, 16 * 60, Count{}, Count{}},
		{"longer where leaving is tapped", []Passage{in(0, "office", "ana")}, day - 1, Count{}, Count{1, 1, 1}},
		{"and then perhaps", []Passage{in(0, "office", "ana")}, day, Count{}, Count{0, 1, 1}},
		{"and after three days no more", []Passage{in(0, "office", "ana")}, 3 * day, Count{}, Count{}},
		{"a doubt fades", []Passage{{At: at(0), Door: "front", Kind: Forced}, in(15*60, "front", "ana")}, 16 * 60, Count{1, 1, 1}, Count{}},
		{"a door nobody knows", []Passage{in(0, "moon", "ana")}, 1, Count{}, Count{}},
		{"a walk without a name is unseen", []Passage{in(0, "front", "")}, 1, Count{0, 0, 1}, Count{}},
		{"time that runs back", []Passage{in(60, "front", "ana"), in(0, "front", "ben")}, 60, Count{2, 2, 2}, Count{}},
	}
	for _, c := range cases {
		h := house(t)
		for _, p := range c.walks {
			h.Apply(p)
		}
		pic := h.At(at(c.when))
		want := []Zone{{"desk", c.desk}, {"home", c.home}}
		if !reflect.DeepEqual(pic.Zones, want) {
			t.Errorf("%s: %+v, want %+v", c.name, pic.Zones, want)
		}
		if total := (Count{c.home.Low + c.desk.Low, c.home.Best + c.desk.Best, c.home.High + c.desk.High}); pic.Total != total {
			t.Errorf("%s: total %+v, want %+v", c.name, pic.Total, total)
		}
	}
}

func TestPeopleAreListedByIDWithTheirLatestSign(t *testing.T) {
	h := house(t)
	for _, p := range []Passage{in(0, "front", "ben"), in(1, "front", "ana"), in(2, "office", "ben"), in(3, "moon", "eve")} {
		h.Apply(p)
	}
	pic := h.At(at(5))
	want := []Present{{"ana", "home", at(1), true}, {"ben", "desk", at(2), true}}
	if !reflect.DeepEqual(pic.People, want) || pic.Ignored != 1 {
		t.Fatalf("%+v ignored %d", pic.People, pic.Ignored)
	}
	h.Forget(func(member string) bool { return member == "ana" || member == "nobody" })
	pic = h.At(at(5))
	if len(pic.People) != 1 || pic.Zones[1].Count != (Count{0, 0, 1}) {
		t.Fatalf("after forgetting: %+v", pic)
	}
}

func TestBadDoorsAreRefused(t *testing.T) {
	many := make([]Door, MaxDoors+1)
	zones := make([]Door, MaxZones+1)
	for i := range zones {
		zones[i] = Door{ID: fmt.Sprint(i), Inside: fmt.Sprint("z", i)}
	}
	for i, doors := range [][]Door{{{ID: "", Inside: "a"}}, {{ID: "a"}}, {{ID: "a", Inside: "x", Outside: "x"}}, {{ID: "a", Inside: "x"}, {ID: "a", Inside: "y"}}, many, zones} {
		if _, err := New(doors); err == nil {
			t.Errorf("case %d was taken", i)
		}
	}
}

// TestTheTruthLiesWithinTheBounds walks people who always tap inwards, and tap outwards where they must, through a
// model world, and asks the fold after each step.
func TestTheTruthLiesWithinTheBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, err := New([]Door{{ID: "front", Inside: "home"}, {ID: "office", Outside: "home", Inside: "desk", TapsOut: true}})
		if err != nil {
			t.Fatal(err)
		}
		truth := map[string]string{} // member -> zone
		minute := 0
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			minute += rapid.IntRange(0, 90).Draw(t, "pause")
			who := fmt.Sprint("m", rapid.IntRange(0, 7).Draw(t, "who"))
			switch truth[who] {
			case Street:
				h.Apply(in(minute, "front", who))
				truth[who] = "home"
			case "home":
				if rapid.Bool().Draw(t, "leave") {
					h.Apply(exit(minute, "front"))
					truth[who] = Street
				} else {
					h.Apply(in(minute, "office", who))
					truth[who] = "desk"
				}
			case "desk":
				h.Apply(out(minute, "office", who))
				truth[who] = "home"
			}
			pic := h.At(at(minute))
			for _, z := range pic.Zones {
				if z.Low < 0 || z.Low > z.Best || z.Best > z.High {
					t.Fatalf("bounds out of order: %+v", z)
				}
				n, stayedTooLong := 0, false
				for m, zone := range truth {
					if zone == z.ID {
						n++
						if !listed(pic, m) {
							stayedTooLong = true // a stay beyond GoneOpen is dropped by design
						}
					}
				}
				if n < z.Low || (n > z.High && !stayedTooLong) {
					t.Fatalf("minute %d: %d people in %s, bounds %+v", minute, n, z.ID, z.Count)
				}
			}
		}
	})
}

func listed(p Picture, member string) bool {
	for _, x := range p.People {
		if x.Member == member {
			return true
		}
	}
	return false
}

func TestAnyPassagesGiveOrderedBoundsAndTheSamePictureAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doors := []Door{{ID: "a", Inside: "x"}, {ID: "b", Outside: "x", Inside: "y", TapsOut: true}, {ID: "c", Outside: "y", Inside: Street}}
		one, _ := New(doors)
		two, _ := New(doors)
		last := noon
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			p := Passage{
				At: at(rapid.IntRange(-100, 10_000).Draw(t, "at")), Door: rapid.SampledFrom([]string{"a", "b", "c", "z"}).Draw(t, "door"),
				Kind: Kind(rapid.IntRange(0, 5).Draw(t, "kind")), Member: rapid.SampledFrom([]string{"", "p", "q", "r"}).Draw(t, "who"),
			}
			one.Apply(p)
			two.Apply(p)
			last = p.At
			pic := one.At(last)
			if !reflect.DeepEqual(pic, two.At(last)) {
				t.Fatal("the same passages gave two pictures")
			}
			seen := map[string]bool{}
			for _, x := range pic.People {
				if seen[x.Member] || x.Member == "" || x.Zone == Street {
					t.Fatalf("people: %+v", pic.People)
				}
				seen[x.Member] = true
			}
			for _, z := range pic.Zones {
				if z.Low < 0 || z.Low > z.Best || z.Best > z.High {
					t.Fatalf("bounds out of order: %+v", z)
				}
			}
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	h := house(t)
	for i := range 3 * maxDoubts {
		h.Apply(Passage{At: noon.Add(time.Duration(i) * time.Second), Door: "front", Kind: Forced})
	}
	if n := len(h.zones["home"].came); n != maxDoubts {
		t.Fatalf("%d doubts are kept", n)
	}
	for i := range MaxPeople + 3 {
		h.Apply(in(60, "office", fmt.Sprint(i)))
	}
	if pic := h.At(at(60)); len(pic.People) != MaxPeople || pic.Zones[0].High != MaxPeople+3 {
		t.Fatalf("%d people, %+v", len(pic.People), pic.Zones[0])
	}
}

func ExampleHouse() {
	h, _ := New([]Door{{ID: "front", Inside: "home"}})
	h.Apply(Passage{At: noon, Door: "front", Kind: In, Member: "ana"})
	h.Apply(Passage{At: noon, Door: "front", Kind: In, Member: "ben"})
	h.Apply(Passage{At: noon.Add(time.Hour), Door: "front", Kind: Exit})
	fmt.Printf("%+v\n", h.At(noon.Add(time.Hour)).Total)
	// Output: {Low:1 Best:1 High:2}
}
