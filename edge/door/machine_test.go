package door

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func full() Config {
	return Config{ID: "front", HasContact: true, HasExit: true, HasFire: true}.WithDefaults()
}

// script runs lines like "1000 release" in milliseconds and returns all locks and events as text. Wakes are honoured: time never
// passes a wake without a tick, as in the shell.
func script(cfg Config, lines ...string) string {
	m := New(cfg)
	var out []string
	wake := never
	step := func(at time.Duration, in Input) {
		wake = never
		for _, o := range m.Step(at, in) {
			switch o := o.(type) {
			case Drive:
				out = append(out, fmt.Sprintf("%d lock=%s", at.Milliseconds(), map[bool]string{true: "free", false: "shut"}[o.Released]))
			case Event:
				out = append(out, strings.TrimSpace(fmt.Sprintf("%d %s %s", o.At.Milliseconds(), o.State, o.Why)))
			case Wake:
				wake = o.At
			}
		}
	}
	for _, line := range lines {
		var at, pulse int
		var word string
		fmt.Sscanf(line, "%d %s %d", &at, &word, &pulse)
		for wake != never && wake <= ms(at) {
			step(wake, Tick{})
		}
		in := map[string]Input{
			"release": Release{PulseMS: pulse, Why: "tap"}, "open": Contact{true}, "close": Contact{false},
			"press": Exit{true}, "unpress": Exit{false}, "fire": Fire{true}, "clear": Fire{false}, "end": Tick{},
		}[word]
		step(ms(at), in)
	}
	return strings.Join(out, ", ")
}

func TestDoorDoesWhatTheTableSays(t *testing.T) {
	exitReleases := full()
	exitReleases.ExitReleases = true
	bare := Config{ID: "front"}.WithDefaults()
	cases := []struct {
		name string
		cfg  Config
		in   []string
		want string
	}{
		{"a release ends by itself", full(), []string{"0 close", "100 release", "6000 end"},
			"0 closed start, 100 lock=free, 100 unlocked tap, 5100 lock=shut, 5100 relocked not opened"},
		{"a door without contact just relocks", bare, []string{"100 release", "6000 end"},
			"100 lock=free, 100 unlocked tap, 5100 lock=shut, 5100 relocked"},
		{"relock as soon as it opens", full(), []string{"0 close", "100 release", "1100 open", "3000 close", "9000 end"},
			"0 closed start, 100 lock=free, 100 unlocked tap, 1100 lock=shut, 1100 opened, 1100 relocked opened, 3000 closed"},
		{"extended release of a person", full(), []string{"0 close", "0 release 12000", "20000 end"},
			"0 closed start, 0 lock=free, 0 unlocked tap, 12000 lock=shut, 12000 relocked not opened"},
		{"no release is longer than the longest", full(), []string{"0 close", "0 release 59000", "60000 end"},
			"0 closed start, 0 lock=free, 0 unlocked tap, 15000 lock=shut, 15000 relocked not opened"},
		{"a second release extends", full(), []string{"0 close", "0 release", "4000 release", "60000 end"},
			"0 closed start, 0 lock=free, 0 unlocked tap, 4000 lock=free, 9000 lock=shut, 9000 relocked not opened"},
		{"a short release does not shorten a long one", full(), []string{"0 close", "0 release 12000", "1000 release 500", "60000 end"},
			"0 closed start, 0 lock=free, 0 unlocked tap, 1000 lock=free, 12000 lock=shut, 12000 relocked not opened"},
		{"an open door whose contact is stuck still lets in", full(), []string{"0 open", "100 release", "5200 end"},
			"0 opened start, 100 lock=free, 100 unlocked tap, 5100 lock=shut, 5100 relocked"},
		{"forced, with the hold", full(), []string{"0 close", "1000 open", "30000 close"},
			"0 closed start, 1000 forced, 16000 held-warning, 21000 held, 30000 closed"},
		{"a handle pressed as the lock fell is no force", full(), []string{"0 close", "0 release", "5400 open", "6000 close", "9000 end"},
			"0 closed start, 0 lock=free, 0 unlocked tap, 5000 lock=shut, 5000 relocked not opened, 5400 opened, 6000 closed"},
		{"a little later it is", full(), []string{"0 close", "0 release", "5501 open"},
			"0 closed start, 0 lock=free, 0 unlocked tap, 5000 lock=shut, 5000 relocked not opened, 5501 forced"},
		{"held warns first, and a closing ends it", full(), []string{"0 close", "0 release", "1000 open", "17000 close", "60000 end"},
			"0 closed start, 0 lock=free, 0 unlocked tap, 1000 lock=shut, 1000 opened, 1000 relocked opened, 16000 held-warning, 17000 closed"},
		{"the next person through an open door has the full time", full(), []string{"0 close", "0 release", "1000 open", "17000 release", "22000 end", "36500 end", "37000 end"},
			"0 closed start, 0 lock=free, 0 unlocked tap, 1000 lock=shut, 1000 opened, 1000 relocked opened, 16000 held-warning, 17000 lock=free, 17000 unlocked tap, 22000 lock=shut, 22000 relocked, 32000 held-warning, 37000 held"},
		{"found open at start is not forced, but held", full(), []string{"0 open", "20000 end"},
			"0 opened start, 15000 held-warning, 20000 held"},
		{"exit shunts and does not release", full(), []string{"0 close", "1000 press", "1200 unpress", "5000 open", "6000 close", "20000 end"},
			"0 closed start, 1000 exit, 5000 opened, 6000 closed"},
		{"the shunt ends", full(), []string{"0 close", "1000 press", "1200 unpress", "6201 open"},
			"0 closed start, 1000 exit, 6201 forced"},
		{"somebody else's card does not end the shunt", full(), []string{"0 close", "0 release", "100 press", "200 unpress", "300 open", "1000 close", "4000 open"},
			"0 closed start, 0 lock=free, 0 unlocked tap, 100 exit, 300 lock=shut, 300 opened, 300 relocked opened, 1000 closed, 4000 opened"},
		{"exit releases where configured", exitReleases, []string{"0 close", "1000 press", "1200 unpress", "9000 end"},
			"0 closed start, 1000 lock=free, 1000 unlocked exit, 1000 exit, 6000 lock=shut, 6000 relocked not opened"},
		{"an exit button that sticks releases once and is told", exitReleases, []string{"0 close", "1000 press", "70000 end", "80000 open"},
			"0 closed start, 1000 lock=free, 1000 unlocked exit, 1000 exit, 6000 lock=shut, 6000 relocked not opened, 61000 stuck exit button does not come up, 80000 forced"},
		{"fire holds the lock free for as long as it burns", full(), []string{"0 close", "1000 fire", "90000 open", "200000 close", "300000 clear", "400000 end"},
			"0 closed start, 1000 lock=free, 1000 fire, 90000 opened, 200000 closed, 300000 lock=shut, 300000 fire-clear"},
		{"fire outlasts a release, and its end secures", full(), []string{"0 close", "0 release", "1000 fire", "2000 clear", "9000 end"},
			"0 closed start, 0 lock=free, 0 unlocked tap, 1000 lock=free, 1000 fire, 2000 lock=shut, 2000 fire-clear"},
		{"a release in fire changes nothing", full(), []string{"0 close", "0 fire", "1000 release", "2000 clear", "9000 end"},
			"0 closed start, 0 lock=free, 0 fire, 2000 lock=shut, 2000 fire-clear"},
		{"nobody is warned of a door open in fire, but after it", full(), []string{"0 close", "0 fire", "1000 open", "100000 clear", "120000 end"},
			"0 closed start, 0 lock=free, 0 fire, 1000 opened, 100000 lock=shut, 100000 fire-clear, 115000 held-warning, 120000 held"},
		{"wires that are not there move nothing", bare, []string{"0 open", "1 press", "2 fire", "3 close", "4 open", "99999 end"}, ""},
		{"repeated levels are no edges", full(), []string{"0 close", "1 close", "2 clear", "3 unpress", "4 press", "5 press", "6 fire", "7 fire"},
			"0 closed start, 4 exit, 6 lock=free, 6 fire"},
	}
	for _, c := range cases {
		if got := script(c.cfg, c.in...); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestALockThatNeverOpensIsToldOnce(t *testing.T) {
	lines := []string{"0 close"}
	for i := range 12 {
		lines = append(lines, fmt.Sprintf("%d release", (i+1)*10_000))
	}
	got := script(full(), append(lines, "200000 end")...)
	if n := strings.Count(got, "stuck"); n != 1 || !strings.Contains(got, "85000 stuck released again and again") {
		t.Fatalf("told %d times: %s", n, got)
	}
}

func TestAFlappingContactCannotFloodTheJournal(t *testing.T) {
	lines := []string{"0 close"}
	for i := range 400 {
		lines = append(lines, fmt.Sprintf("%d %s", 1000+i*50, []string{"open", "close"}[i%2]))
	}
	lines = append(lines, "25000 open", "25100 release", "25200 close", "25300 open", "26000 close", "60000 end")
	got := script(full(), lines...)
	if n := strings.Count(got, ", "); n > 40 {
		t.Fatalf("%d lines came out of 404 changes", n)
	}
	for _, want := range []string{"stuck contact changes without end", "25300 lock=shut, 25300 relocked opened", "36000 closed steady again"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	for _, edit := range []func(*Config){
		func(c *Config) { c.ID = "" }, func(c *Config) { c.PulseMS = 99 }, func(c *Config) { c.MaxPulseMS = c.PulseMS - 1 },
		func(c *Config) { c.MaxPulseMS = HighestPulseMS + 1 }, func(c *Config) { c.HeldMS = 999 }, func(c *Config) { c.HeldMS = HighestHeldMS + 1 },
		func(c *Config) { c.PreAlarmMS = c.HeldMS + 1 }, func(c *Config) { c.PreAlarmMS = -1 }, func(c *Config) { c.ExitShuntMS = -5 },
		func(c *Config) { c.ExitReleases, c.HasExit = true, false },
	} {
		c := full()
		edit(&c)
		if c.Validate() == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	if err := full().Validate(); err != nil {
		t.Error(err)
	}
	if err := (Config{ID: "a", PulseMS: 30_000}).WithDefaults().Validate(); err != nil {
		t.Errorf("a long pulse alone: %v", err)
	}
}

// TestNoSequenceReleasesTheLockWithoutACause drives random inputs at random times and keeps its own, simpler account of
// what may hold the lock free.
func TestNoSequenceReleasesTheLockWithoutACause(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := full()
		cfg.HasContact, cfg.HasFire = rapid.Bool().Draw(t, "contact"), rapid.Bool().Draw(t, "fire")
		cfg.ExitReleases = rapid.Bool().Draw(t, "exit releases")
		m := New(cfg)
		w := &witness{cfg: cfg, cause: never, wake: never}
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			w.at += ms(rapid.SampledFrom([]int{0, 1, 40, 499, 500, 1000, 4999, 5000, 14_999, 20_000, 61_000}).Draw(t, "pause"))
			for w.wake != never && w.wake <= w.at { // the shell ticks at wakes
				w.step(t, m, w.wake, Tick{})
			}
			w.step(t, m, w.at, rapid.SampledFrom([]Input{
				Release{Why: "tap"}, Release{PulseMS: 12_000}, Release{PulseMS: 1 << 40}, Release{PulseMS: -5}, Contact{true}, Contact{false},
				Exit{true}, Exit{false}, Fire{true}, Fire{false}, Tick{},
			}).Draw(t, "input"))
		}
		// Every release ends: put the fire out and wait.
		w.step(t, m, w.at, Fire{false})
		end := w.at + ms(cfg.MaxPulseMS)
		for w.wake != never && w.wake <= end {
			w.step(t, m, w.wake, Tick{})
		}
		if w.free {
			t.Fatal("the lock is still released after the longest pulse")
		}
		if limit := time.Duration(w.causes)*ms(cfg.MaxPulseMS) + w.burning; w.released > limit {
			t.Fatalf("released for %v in all; %d causes and fire explain %v", w.released, w.causes, limit)
		}
	})
}

// witness is the test's own account.
type witness struct {
	cfg      Config
	at, last time.Duration
	wake     time.Duration
	free     bool // the lock, as driven
	fire     bool
	open     bool
	known    bool
	pressed  bool
	cause    time.Duration // latest release or releasing exit; never = none, or used up by an opening
	causes   int
	released time.Duration
	burning  time.Duration
}

func (w *witness) step(t *rapid.T, m *Machine, at time.Duration, in Input) {
	if w.free {
		w.released += at - w.last
	}
	if w.fire {
		w.burning += at - w.last
	}
	w.last = at
	opened := false
	switch in := in.(type) {
	case Release:
		w.cause, w.causes = at, w.causes+1
	case Exit:
		if in.Pressed && !w.pressed && w.cfg.ExitReleases {
			w.cause, w.causes = at, w.causes+1
		}
		w.pressed = in.Pressed
	case Fire:
		if w.cfg.HasFire {
			if w.fire && !in.Active {
				w.cause = never
			}
			w.fire = in.Active
		}
	case Contact:
		opened = w.cfg.HasContact && w.known && in.Open && !w.open
		if w.cfg.HasContact {
			w.known, w.open = true, in.Open
		}
		if opened && !w.fire {
			w.cause = never
		}
	}
	w.wake = never
	outs := m.Step(at, in)
	for i, o := range outs {
		switch o := o.(type) {
		case Drive:
			w.free = o.Released
		case Event:
			if o.At != at {
				t.Fatalf("event of %v at %v", o.At, at)
			}
		case Wake:
			if i != len(outs)-1 || o.At <= at {
				t.Fatalf("wake %v at %v as output %d of %d", o.At, at, i, len(outs))
			}
			w.wake = o.At
		}
	}
	live := w.cause != never && at < w.cause+ms(w.cfg.MaxPulseMS)
	if w.free && !w.fire && !live {
		t.Fatalf("%v %#v: the lock is released without a cause", at, in)
	}
	if w.fire && !w.free {
		t.Fatalf("%v %#v: the lock is shut in a fire", at, in)
	}
	if opened && !w.fire && w.free {
		t.Fatalf("%v: opened and not relocked", at)
	}
	if w.free != m.Released() {
		t.Fatalf("%v: the machine believes %t, the lock is %t", at, m.Released(), w.free)
	}
}

func TestTimeThatRunsBackwardsStandsStill(t *testing.T) {
	m := New(full())
	m.Step(ms(10_000), Release{})
	m.Step(0, Tick{})
	if !m.Released() {
		t.Fatal("time ran back and ended a release")
	}
	m.Step(ms(15_000), Tick{})
	if m.Released() {
		t.Fatal("the release did not end in its own time")
	}
}

func BenchmarkStep(b *testing.B) {
	m := New(full())
	at := time.Duration(0)
	for b.Loop() {
		at += time.Second
		m.Step(at, Release{})
		m.Step(at, Contact{true})
		m.Step(at, Contact{false})
	}
}
