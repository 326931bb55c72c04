package feedback

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// panel remembers when each lamp changed.
type panel struct {
	start time.Time
	lines []string
	state map[string]int
	fail  bool
}

func (p *panel) Set(signal string, v int) error {
	if p.fail {
		return errors.New("unplugged")
	}
	name := strings.TrimPrefix(signal, "front/")
	p.state[name] = v
	p.lines = append(p.lines, fmt.Sprintf("%d %s=%d", time.Since(p.start).Milliseconds(), name, v))
	return nil
}

// play runs a scene in fake time and returns what the panel saw after its first all-off.
func play(t *testing.T, cfg Config, scene func(*Player)) []string {
	t.Helper()
	var out []string
	synctest.Test(t, func(t *testing.T) {
		p := &panel{start: time.Now(), state: map[string]int{}}
		player := New(cfg, p)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- player.Run(ctx) }()
		synctest.Wait()
		if want := []string{"0 red=0", "0 green=0", "0 blue=0", "0 buzzer=0"}; !slices.Equal(p.lines, want) {
			t.Fatalf("at start: %v", p.lines)
		}
		p.lines = nil
		scene(player)
		time.Sleep(30 * time.Second)
		out = slices.Clone(p.lines)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for name, v := range p.state {
			if v != 0 {
				t.Errorf("%s is left at %d", name, v)
			}
		}
	})
	return out
}

func TestEveryWordIsPlayedInItsOwnTime(t *testing.T) {
	cases := []struct {
		say  Utterance
		want string
	}{
		{Utterance{Word: Felt}, "0 red=1, 0 green=1, 0 blue=1, 0 buzzer=2000, 5 buzzer=0, 60 red=0, 60 green=0, 60 blue=0"},
		{Utterance{Word: Yes}, "0 green=1, 0 buzzer=880, 80 buzzer=1319, 160 buzzer=0, 5000 green=0"},
		{Utterance{Word: Yes, Hold: 12 * time.Second, Note: true}, "0 green=1, 0 buzzer=880, 80 buzzer=1319, 160 buzzer=0, 12000 green=0, 12150 blue=1, 12300 blue=0"},
		{Utterance{Word: NotNow}, "0 red=1, 0 buzzer=220, 300 buzzer=0, 500 red=0, 750 red=1, 1250 red=0"},
		{Utterance{Word: TryAgain}, "0 red=1, 0 green=1, 0 buzzer=587, 100 red=0, 100 green=0, 100 buzzer=0, 200 red=1, 200 green=1, 200 buzzer=587, 300 red=0, 300 green=0, 300 buzzer=0, 400 red=1, 400 green=1, 400 buzzer=587, 500 red=0, 500 green=0, 500 buzzer=0"},
	}
	for _, c := range cases {
		got := strings.Join(play(t, Config{Reader: "front"}, func(p *Player) { p.Say(c.say) }), ", ")
		if got != c.want {
			t.Errorf("word %d:\ngot  %s\nwant %s", c.say.Word, got, c.want)
		}
	}
}

func TestWorkingIsSilentForTheFirst250MillisecondsAfterFelt(t *testing.T) {
	for _, gap := range []time.Duration{0, 3 * time.Millisecond, 40 * time.Millisecond, 200 * time.Millisecond} {
		got := play(t, Config{Reader: "front"}, func(p *Player) {
			p.Say(Utterance{Word: Felt})
			time.Sleep(gap)
			p.Say(Utterance{Word: Working})
			time.Sleep(249*time.Millisecond - gap)
			p.Say(Utterance{Word: Yes})
		})
		want := "0 red=1, 0 green=1, 0 blue=1, 0 buzzer=2000, 5 buzzer=0, 60 red=0, 60 green=0, 60 blue=0, 249 green=1, 249 buzzer=880, 329 buzzer=1319, 409 buzzer=0, 5249 green=0"
		if strings.Join(got, ", ") != want {
			t.Errorf("gap %v:\ngot  %s\nwant %s", gap, strings.Join(got, ", "), want)
		}
		slow := play(t, Config{Reader: "front"}, func(p *Player) {
			p.Say(Utterance{Word: Felt})
			time.Sleep(gap)
			p.Say(Utterance{Word: Working})
		})
		if !slices.Contains(slow, "250 red=1") {
			t.Errorf("gap %v: working does not begin 250 ms after felt: %v", gap, slow)
		}
		if last := slow[len(slow)-1]; !strings.HasSuffix(last, "=0") {
			t.Errorf("working never ends: %s", last)
		}
		for _, line := range slow {
			if strings.Contains(line, "buzzer") && !strings.HasPrefix(line, "0 ") && !strings.HasPrefix(line, "5 ") {
				t.Errorf("working makes noise: %s", line)
			}
		}
	}
}

func TestANewWordInterruptsAtOnce(t *testing.T) {
	got := strings.Join(play(t, Config{Reader: "front"}, func(p *Player) {
		p.Say(Utterance{Word: Yes})
		time.Sleep(40 * time.Millisecond)
		p.Say(Utterance{Word: NotNow})
		time.Sleep(100 * time.Millisecond)
		p.Say(Utterance{Word: Felt})
	}), ", ")
	want := "0 green=1, 0 buzzer=880, 40 red=1, 40 green=0, 40 buzzer=220, 140 green=1, 140 blue=1, 140 buzzer=2000, 145 buzzer=0, 200 red=0, 200 green=0, 200 blue=0"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestALockThatFellEndsAYesAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		say   Utterance
		after time.Duration
		want  string
	}{
		{Utterance{Word: Yes}, time.Second, "0 green=1, 0 buzzer=880, 80 buzzer=1319, 160 buzzer=0, 1000 green=0"},
		{Utterance{Word: Yes}, 40 * time.Millisecond, "0 green=1, 0 buzzer=880, 80 buzzer=1319, 160 green=0, 160 buzzer=0"}, // the notes are heard out
		{Utterance{Word: Yes, Note: true}, time.Second, "0 green=1, 0 buzzer=880, 80 buzzer=1319, 160 buzzer=0, 1000 green=0, 1150 blue=1, 1300 blue=0"},
		{Utterance{Word: Yes, Note: true}, 5200 * time.Millisecond, "0 green=1, 0 buzzer=880, 80 buzzer=1319, 160 buzzer=0, 5000 green=0, 5150 blue=1, 5300 blue=0"},
		{Utterance{Word: Yes}, 10 * time.Second, "0 green=1, 0 buzzer=880, 80 buzzer=1319, 160 buzzer=0, 5000 green=0"},
		{Utterance{Word: Felt}, 20 * time.Millisecond, "0 red=1, 0 green=1, 0 blue=1, 0 buzzer=2000, 5 buzzer=0, 60 red=0, 60 green=0, 60 blue=0"},
		{Utterance{Word: NotNow}, 400 * time.Millisecond, "0 red=1, 0 buzzer=220, 300 buzzer=0, 500 red=0, 750 red=1, 1250 red=0"},
	} {
		got := strings.Join(play(t, Config{Reader: "front"}, func(p *Player) {
			p.Say(c.say)
			time.Sleep(c.after)
			p.Say(Utterance{Word: Locked})
		}), ", ")
		if got != c.want {
			t.Errorf("word %d, locked after %v:\ngot  %s\nwant %s", c.say.Word, c.after, got, c.want)
		}
	}
	got := play(t, Config{Reader: "front"}, func(p *Player) { // working goes on as it would have
		p.Say(Utterance{Word: Felt})
		p.Say(Utterance{Word: Working})
		time.Sleep(300 * time.Millisecond)
		p.Say(Utterance{Word: Locked})
	})
	if !slices.Contains(got, "750 red=0") || slices.Contains(got, "300 red=0") {
		t.Errorf("working was ended: %v", got)
	}
}

func TestQuietKeepsTheLightAndDropsTheSound(t *testing.T) {
	scene := func(p *Player) {
		for _, w := range []Word{Felt, Yes, NotNow, TryAgain, Warning} {
			p.Say(Utterance{Word: w})
			time.Sleep(6 * time.Second)
		}
	}
	light := func(lines []string) (out []string) {
		for _, l := range lines {
			if !strings.Contains(l, "buzzer") {
				out = append(out, l)
			}
		}
		return out
	}
	loud, quiet := play(t, Config{Reader: "front"}, scene), play(t, Config{Reader: "front", Quiet: true}, scene)
	if !slices.Equal(light(loud), quiet) {
		t.Errorf("quiet is\n%v\nwant the light of loud\n%v", quiet, light(loud))
	}
}

func TestYesAndNotNowBeginAtTheSameTime(t *testing.T) {
	for _, w := range []Word{Yes, NotNow} {
		if lines := play(t, Config{Reader: "front"}, func(p *Player) { p.Say(Utterance{Word: w}) }); !strings.HasPrefix(lines[0], "0 ") {
			t.Errorf("word %d begins with %s", w, lines[0])
		}
	}
}

func TestWordsDifferWithoutColourAndWithoutSound(t *testing.T) {
	words := []Word{Felt, Working, Yes, NotNow, TryAgain, Warning}
	rhythm := func(w Word) string { // on and off alone, as an eye without colour sees it
		var b strings.Builder
		lit, since := false, time.Duration(0)
		for _, s := range append(score(Utterance{Word: w}), step{}) {
			if on := s.light != dark; on != lit {
				fmt.Fprintf(&b, "%v %t;", since, lit)
				lit, since = on, 0
			}
			since += s.last
		}
		return b.String()
	}
	melody := func(w Word) string {
		var b strings.Builder
		for _, s := range score(Utterance{Word: w}) {
			if s.hz > 0 {
				fmt.Fprintf(&b, "%d for %v;", s.hz, s.last)
			}
		}
		return b.String()
	}
	for i, a := range words {
		for _, b := range words[i+1:] {
			if rhythm(a) == rhythm(b) {
				t.Errorf("words %d and %d differ by colour alone: %s", a, b, rhythm(a))
			}
			if melody(a) == melody(b) {
				t.Errorf("words %d and %d sound alike: %s", a, b, melody(a))
			}
		}
	}
}

func TestABrokenLampIsCountedAndToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &panel{start: time.Now(), state: map[string]int{}, fail: true}
		player := New(Config{Reader: "front"}, p)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = player.Run(ctx) }()
		player.Say(Utterance{Word: Yes})
		synctest.Wait()
		if _, failed := player.Trouble(); failed == 0 {
			t.Fatal("nothing was counted")
		}
		p.fail = false
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if p.state["green"] != 1 || p.state["buzzer"] != nextHz {
			t.Fatalf("the lamp that came back shows %v", p.state)
		}
	})
}

type hanging chan struct{}

func (h hanging) Set(string, int) error { <-h; return nil }

func TestAHangingLampNeverHoldsTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := make(hanging)
		player := New(Config{Reader: "front"}, h)
		go func() { _ = player.Run(t.Context()) }()
		for range wordQueue + 5 {
			player.Say(Utterance{Word: Yes})
		}
		if lost, _ := player.Trouble(); lost != 5 {
			t.Fatalf("lost %d words, want 5", lost)
		}
		close(h)
	})
}

func ExamplePlayer() {
	player := New(Config{Reader: "front"}, printer{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	player.Say(Utterance{Word: NotNow})
	_ = player.Run(ctx)
	// Output:
	// front/red 0
	// front/green 0
	// front/blue 0
	// front/buzzer 0
	// front/red 1
	// front/buzzer 220
	// front/red 0
	// front/buzzer 0
}

type printer struct{}

func (printer) Set(signal string, v int) error { fmt.Println(signal, v); return nil }
