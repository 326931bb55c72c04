package weather

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// Command plays seeds and tells what came of them: `check --seeds N --seed X --trace`. It returns the exit code.
func Command(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("simulator check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	seeds := flags.Int("seeds", 200, "how many seeds to play")
	seed := flags.Uint64("seed", 1, "the first seed")
	trace := flags.Bool("trace", false, "tell every message of the first seed, and play only that one")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if *seeds < 1 || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "simulator check: want --seeds of at least 1 and no other words; try --help")
		return 2
	}
	if *trace {
		r := Run(*seed, Options{Trace: stdout})
		report(stdout, r)
		return code(len(r.Violations))
	}
	began := time.Now()
	total := Total{Seen: map[string]int{}}
	Many(ctx, *seed, *seeds, Options{}, func(r Result) {
		total.add(r)
		if len(r.Violations) > 0 {
			report(stdout, r)
		}
	})
	fmt.Fprintf(stdout, "%d seeds from %d: %d messages, %d leaves, %v of virtual time in %v; %d failed\n",
		total.Runs, *seed, total.Messages, total.Leaves, total.Virtual.Round(time.Minute), time.Since(began).Round(time.Millisecond), total.Failed)
	names := make([]string, 0, len(total.Seen))
	for k := range total.Seen {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		fmt.Fprintf(stdout, "  in %6d seeds: %s\n", total.Seen[k], k)
	}
	if ctx.Err() != nil {
		return 1
	}
	return code(total.Failed)
}

func code(failed int) int {
	if failed > 0 {
		return 1
	}
	return 0
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
