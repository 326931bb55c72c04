package weather

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"kith/edge/outbox"
	"kith/hub/intake"
	"kith/internal/command"
)

var seeds = flag.Int("seeds", 1000, "seeds of weather to play")

// Each of these must be reached by some seed; a promise about a state that never comes is not checked.
var rare = []string{
	"state forked", "state forgot", "state hub-forgot", "hub-forgot healed", "duplicate told", "held told", "window full",
	"evidence fork", "evidence forgot", "evidence duplicate", "evidence leaf", "evidence lost",
	"lost range", "pruned", "pruned, then lost by a restore, and marked", "older epoch carried over", "third epoch",
	"epoch fork", "epoch restored", "edge lost its tail", "edge rolled back", "edge cloned", "need", "credit low",
	"hub restored", "hub disk full", "hub throttled", "hub crash before commit", "hub crash between commit and answer",
	"hub crash between two answers", "edge crash", "partition up=true down=false", "partition up=false down=true", "partition up=true down=true",
}

func TestEveryPromiseHoldsInAThousandWeathers(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = 100
	}
	total := Total{Seen: map[string]int{}}
	Many(t.Context(), 1, n, Options{}, func(r Result) {
		total.add(r)
		for _, v := range r.Violations {
			t.Errorf("seed %d: %s", r.Seed, v)
		}
	})
	t.Logf("%d seeds, %d messages, %d leaves, %v virtual", total.Runs, total.Messages, total.Leaves, total.Virtual)
	if n < 1000 {
		return
	}
	for _, what := range rare {
		if total.Seen[what] == 0 {
			t.Errorf("never reached: %s", what)
		}
	}
}

func TestSameSeedSameDigest(t *testing.T) {
	var last [32]byte
	for seed := uint64(2000); seed < 2015; seed++ {
		a, b := Run(seed, Options{}), Run(seed, Options{})
		if a.Digest != b.Digest || a.Messages != b.Messages {
			t.Errorf("seed %d: digest %x, then %x", seed, a.Digest[:8], b.Digest[:8])
		}
		if a.Digest == last {
			t.Errorf("seed %d: the digest does not depend on the seed", seed)
		}
		last = a.Digest
	}
}

// A check that no defect can fail checks nothing. (One more defect, a hub that goes on with
// a closed epoch, is caught in hub/intake: an honest edge never asks for it.)
func TestEveryDefectIsCaught(t *testing.T) {
	for _, c := range []struct {
		name   string
		broken Broken
		sign   string // what some violation must say
		from   uint64 // first seed
	}{
		{"edge takes a sent batch for a received one", Broken{Edge: outbox.Defects{AckOnSend: true}}, "liveness", 1},
		{"edge takes what a hub had before its restore for what it has now", Broken{Edge: outbox.Defects{AnyGeneration: true}}, "lost", 1},
		{"edge goes on with a forked epoch", Broken{Edge: outbox.Defects{IgnoreEpoch: true}}, "lost", 1},
		{"edge delivers the current epoch only", Broken{Edge: outbox.Defects{SkipOldEpochs: true}}, "lost", 1},
		{"edge starts a new epoch without the leaves that differ", Broken{Edge: outbox.Defects{ForgetTheReplays: true}}, "lost", 1},
		{"edge prunes what it has sent", Broken{PruneOnSend: true}, "I3", 1},
		{"hub answers before the commit", Broken{Hub: intake.Defects{AnswerFirst: true}}, "I1", 1},
		{"hub dedupes without comparing roots", Broken{Hub: intake.Defects{SkipRoot: true}}, "I1", 1},
		{"hub co-signs any root of a smaller size", Broken{Hub: intake.Defects{TwoRoots: true}}, "I", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tried, caught := 0, ""
			Many(ctx, c.from, 400, Options{Broken: c.broken}, func(r Result) {
				tried++
				for _, v := range r.Violations {
					if caught == "" && strings.Contains(v, c.sign) {
						caught = v
						cancel()
					}
				}
			})
			if caught == "" {
				t.Fatalf("%d seeds and no check noticed", tried)
			}
			t.Logf("after %d seeds: %s", tried, caught)
		})
	}
}

func TestCommandTellsAndReplays(t *testing.T) {
	tell := func(args ...string) (code int, out, said string) {
		t.Helper()
		var o, e bytes.Buffer
		code = Command(t.Context(), command.Streams{Out: &o, Err: &e}, args)
		return code, o.String(), e.String()
	}
	if code, out, said := tell("--seeds", "5", "--seed", "7"); code != command.OK || !strings.Contains(out, "5 seeds from 7") {
		t.Fatalf("code %d: %s%s", code, out, said)
	}
	if code, out, _ := tell("--seed", "7", "--trace"); code != command.OK || !strings.Contains(out, `"type":"hello"`) {
		t.Errorf("trace: code %d, %d bytes", code, len(out))
	}
	code, out, said := tell("--seeds", "5", "--seed", "7", "--json")
	var f findings
	if err := json.Unmarshal([]byte(out), &f); code != command.OK || err != nil {
		t.Fatalf("code %d: %s%s %v", code, out, said, err)
	}
	if f.First != 7 || f.Seeds != 5 || f.Failed != 0 || f.Messages == 0 || f.Leaves == 0 || f.Virtual <= 0 || f.Seconds <= 0 || len(f.Seen) == 0 ||
		!strings.Contains(out, `"broken": []`) {
		t.Errorf("JSON: %s", out)
	}
	page, err := os.ReadFile("../../docs/FORMATS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n`simulator check --json`")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, shape := range []reflect.Type{reflect.TypeFor[findings](), reflect.TypeFor[broken]()} {
		for i := range shape.NumField() {
			if key := shape.Field(i).Tag.Get("json"); !strings.Contains(section, "`"+key+"`") {
				t.Errorf("docs/FORMATS.md does not say what %s is", key)
			}
		}
	}
	if code, out, said := tell("--help"); code != command.OK || said != "" || !strings.Contains(out, "--seeds MANY") || !strings.Contains(out, "--json") {
		t.Errorf("help: code %d: %s%s", code, out, said)
	}
	for _, args := range [][]string{{"--sedes", "5"}, {"--seeds", "0"}, {"--seeds", "-3"}, {"7"}, {"--trace", "--json"}} {
		if code, out, said := tell(args...); code != command.Usage || out != "" || said == "" {
			t.Errorf("%v: code %d: %s%s", args, code, out, said)
		}
	}
}

// What a broken promise looks like in JSON.
func TestCommandNamesTheSeedsThatBroke(t *testing.T) {
	f := findings{First: 3, Broken: []broken{{Seed: 9}, {Seed: 4, Violations: []string{"I1"}}}}
	f.fill(Total{Runs: 7, Failed: 2, Virtual: 90 * time.Second}, time.Second)
	if f.Broken[0].Seed != 4 || f.Broken[1].Seed != 9 || f.Failed != 2 || f.Virtual != 90 || f.Seconds != 1 {
		t.Errorf("%+v", f)
	}
}
