package weather

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kith/internal/command"
)

// Command is `simulator check`: it plays seeds and tells what came of them.
func Command(ctx context.Context, s command.Streams, args []string) int {
	f := command.Flags(s, "simulator check")
	seeds := f.Int("seeds", 200, "how `MANY` seeds to play")
	seed := f.Uint64("seed", 1, "the first `SEED`")
	trace := f.Bool("trace", false, "tell every message of the first seed, and play only that one")
	asJSON := f.Bool("json", false, "print JSON")
	if _, code, ok := command.Parse(s, f, args, 0); !ok {
		return code
	}
	switch {
	case *seeds < 1:
		fmt.Fprintf(s.Err, "simulator check: --seeds %d: want at least 1\n", *seeds)
		return command.Usage
	case *trace && *asJSON:
		fmt.Fprintln(s.Err, "simulator check: --trace is text; leave --json out")
		return command.Usage
	}
	if *trace {
		r := Run(*seed, Options{Trace: s.Out})
		report(s.Out, r)
		return code(len(r.Violations))
	}
	began := time.Now()
	total := Total{Seen: map[string]int{}}
	told := findings{First: *seed, Broken: []broken{}}
	Many(ctx, *seed, *seeds, Options{}, func(r Result) {
		total.add(r)
		if len(r.Violations) == 0 {
			return
		}
		told.Broken = append(told.Broken, broken{r.Seed, r.Messages, fmt.Sprintf("%x", r.Digest), r.Violations})
		if !*asJSON {
			report(s.Out, r)
		}
	})
	if *asJSON {
		told.fill(total, time.Since(began))
		e := json.NewEncoder(s.Out)
		e.SetIndent("", "  ")
		if err := e.Encode(told); err != nil {
			return command.Fail(s, "simulator check", err)
		}
	} else {
		total.print(s.Out, *seed, time.Since(began))
	}
	if ctx.Err() != nil {
		return command.Failed
	}
	return code(total.Failed)
}

func code(failed int) int {
	if failed > 0 {
		return command.Failed
	}
	return command.OK
}

// findings is what --json prints.
type findings struct {
	First    uint64         `json:"first"`
	Seeds    int            `json:"seeds"`
	Failed   int            `json:"failed"`
	Messages int            `json:"messages"`
	Leaves   int            `json:"leaves"`
	Virtual  float64        `json:"virtual_seconds"`
	Seconds  float64        `json:"seconds"`
	Seen     map[string]int `json:"seen"`
	Broken   []broken       `json:"broken"`
}

// broken is one seed under which a promise broke.
type broken struct {
	Seed       uint64   `json:"seed"`
	Messages   int      `json:"messages"`
	Digest     string   `json:"digest"`
	Violations []string `json:"violations"`
}

func (f *findings) fill(t Total, took time.Duration) {
	f.Seeds, f.Failed, f.Messages, f.Leaves, f.Seen = t.Runs, t.Failed, t.Messages, t.Leaves, t.Seen
	f.Virtual, f.Seconds = t.Virtual.Seconds(), took.Seconds()
	slices.SortFunc(f.Broken, func(a, b broken) int { return cmp.Compare(a.Seed, b.Seed) })
}

func report(out io.Writer, r Result) {
	fmt.Fprintf(out, "seed %d: %d messages, digest %x\n", r.Seed, r.Messages, r.Digest[:8])
	for _, v := range r.Violations {
		fmt.Fprintf(out, "seed %d: %s\n", r.Seed, v)
	}
	if len(r.Violations) > 0 {
		fmt.Fprintf(out, "seed %d: see it all with: simulator check --seed %d --trace\n", r.Seed, r.Seed)
	}
}

// Total sums many runs up.
type Total struct {
	Runs, Failed, Messages, Leaves int
	Virtual                        time.Duration
	Seen                           map[string]int // seeds in which it was seen
}

func (t *Total) print(out io.Writer, first uint64, took time.Duration) {
	fmt.Fprintf(out, "%d seeds from %d: %d messages, %d leaves, %v of virtual time in %v; %d failed\n",
		t.Runs, first, t.Messages, t.Leaves, t.Virtual.Round(time.Minute), took.Round(time.Millisecond), t.Failed)
	for _, k := range slices.Sorted(maps.Keys(t.Seen)) {
		fmt.Fprintf(out, "  in %6d seeds: %s\n", t.Seen[k], k)
	}
}

func (t *Total) add(r Result) {
	t.Runs++
	t.Messages += r.Messages
	t.Leaves += r.Leaves
	t.Virtual += r.Virtual
	if len(r.Violations) > 0 {
		t.Failed++
	}
	for k := range r.Seen {
		t.Seen[k]++
	}
}

// Many plays seeds first, first+1 ... on all processors and hands each result to each, one at a time, in no fixed order.
// Runs share nothing, so their results do not depend on each other.
func Many(ctx context.Context, first uint64, n int, o Options, each func(Result)) {
	var next atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(n) || ctx.Err() != nil {
					return
				}
				r := Run(first+uint64(i), o)
				mu.Lock()
				each(r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}
