// Package load owns the figures: what the programs cost, measured on this machine beside a floor or peer that runs in the
// same minute, and a generator of edges that deliver as fast as a hub takes it.
//
// Everything measured is production code, assembled as `edge run` and `hub run` assemble it; only hands, cards and clocks
// are ours. It promises that a figure it prints was measured in this run, and that a figure it could not measure is named
// as such and makes the exit code 1. A promise that is not met is said and does not fail the run: on a shared machine the
// ratio to the peer says more than the figure. It keeps its files in one directory and removes it at the end.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"kith/edge/appliance"
	"kith/hub/exchange"
	"kith/internal/command"
)

// childWord makes this program act as one of the others, so that a process can be killed and weighed where no separate
// program is at hand.
const childWord = "as"

// Command is `simulator load`.
func Command(ctx context.Context, s command.Streams, args []string) int {
	if len(args) > 1 && args[0] == childWord {
		return asProgram(ctx, s, args[1], args[2:])
	}
	f := command.Flags(s, "simulator load")
	var o options
	bench := f.Bool("bench", false, "measure every promised figure beside its floor or peer")
	only := f.String("only", "", "measure only these parts: `NAME[,NAME]` of "+strings.Join(names(), ", "))
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.BoolVar(&o.short, "short", false, "tiny sizes: shows that everything runs, measures nothing worth telling")
	f.StringVar(&o.dir, "dir", "", "keep the files under `DIR`; default: a temporary directory, removed at the end")
	f.StringVar(&o.profile, "profile", "", "write a processor profile of this process to `FILE` (go tool pprof)")
	f.StringVar(&o.edge, "edge", "", "the edge program to weigh: `FILE`; default: built from the module around the working directory")
	g := generator{}
	f.IntVar(&g.edges, "edges", 20, "generator: `N` edges")
	f.IntVar(&g.rate, "rate", 1000, "generator: `R` events a second of all edges; 0 as fast as they are taken")
	f.IntVar(&g.batch, "batch", 1, "generator: `N` events a message")
	f.DurationVar(&g.span, "for", 10*time.Second, "generator: how long")
	f.StringVar(&g.hub, "hub", "", "generator: `DIR` of hub.yaml of a running hub; default: a hub in this process")
	if _, code, ok := command.Parse(s, f, args, 0); !ok {
		return code
	}
	for _, name := range split(*only) {
		if !slices.Contains(names(), name) {
			fmt.Fprintf(s.Err, "simulator load: no part %q; there are %s\n", name, strings.Join(names(), ", "))
			return command.Usage
		}
	}
	o.only = split(*only)
	if !*bench {
		if err := g.check(); err != nil {
			fmt.Fprintf(s.Err, "simulator load: %v\n", err)
			return command.Usage
		}
	}
	if err := inDir(&o, func() error {
		return profiled(o.profile, func() error {
			if !*bench {
				return g.run(ctx, s.Out, o)
			}
			return measureAll(ctx, s.Out, o)
		})
	}); err != nil {
		return command.Fail(s, "simulator load", err)
	}
	return command.OK
}

// options of one run.
type options struct {
	json, short        bool
	dir, edge, profile string
	only               []string
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

// inDir runs f with a directory of its own.
func inDir(o *options, f func() error) (err error) {
	parent := o.dir
	if parent != "" {
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(parent, "kith-load-")
	if err != nil {
		return err
	}
	if parent == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	o.dir = dir
	return f()
}

// profiled runs f and, when a file is named, writes down where this process spent its time.
func profiled(path string, f func() error) error {
	if path == "" {
		return f()
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return errors.Join(err, out.Close())
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, out.Close())
}

// asProgram is edge or hub in this program's clothes.
func asProgram(ctx context.Context, s command.Streams, name string, args []string) int {
	switch name {
	case "edge":
		return appliance.Program("load").Run(ctx, s, args)
	case "hub":
		return exchange.Program("load").Run(ctx, s, args)
	case clearingWord:
		if err := obey(ctx, s.Out, strings.Join(args, " ")); err != nil {
			return command.Fail(s, "simulator load", err)
		}
		return command.OK
	}
	fmt.Fprintf(s.Err, "simulator load: no program %q\n", name)
	return command.Usage
}

// part is one thing that can be measured alone.
type part struct {
	name string
	run  func(context.Context, *bench) error
}

func parts() []part {
	return []part{
		{"tap", measureTap},
		{"decision", measureDecision},
		{"journal", measureJournal},
		{"ingest", measureIngest},
		{"broker", measureBroker},
		{"receipt", measureReceipt},
		{"memory", measureMemory},
		{"start", measureStart},
		{"clearing", measureClearing},
	}
}

func names() []string {
	var out []string
	for _, p := range parts() {
		out = append(out, p.name)
	}
	return out
}

// bench is one run of the table.
type bench struct {
	options
	size    sizes
	figures []figure
	missing []string
	say     func(format string, args ...any)
}

// measureAll runs the parts one after the other, so that none disturbs another, and prints the table.
func measureAll(ctx context.Context, out io.Writer, o options) error {
	b := &bench{options: o, size: full(), say: func(format string, args ...any) {
		if !o.json {
			fmt.Fprintf(out, format+"\n", args...)
		}
	}}
	if o.short {
		b.size = tiny()
	}
	began := time.Now()
	b.say("%s", machine())
	for _, p := range parts() {
		if len(o.only) > 0 && !slices.Contains(o.only, p.name) {
			continue
		}
		start := time.Now()
		err := p.run(ctx, b)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.missing = append(b.missing, fmt.Sprintf("%s: %v", p.name, err))
		}
		b.say("  %-9s %5.1f s  load %s", p.name, time.Since(start).Seconds(), loadAverage())
	}
	if err := b.print(out, time.Since(began)); err != nil {
		return err
	}
	if len(b.missing) > 0 {
		return errors.New("not everything could be measured:\n  " + strings.Join(b.missing, "\n  "))
	}
	return nil
}

// sizes say how much is done for each figure.
type sizes struct {
	taps, doors            int
	people, rules, asked   int
	appends                int
	edges, batches, single int // ingest: edges, batches of 100 a round, single leaves a round
	rounds                 int
	links                  int // edges with a connection of their own
	linkBatches, linkOnes  int
	paced                  time.Duration // receipts at pacedRate
	idle                   time.Duration
	credentials, backlog   int
	leaves                 int // edge journal before the kill
	hubLeaves              int
	fewNodes, fewDebts     int
	nodes, debts           int
	manyNodes, manyDebts   int
}

func full() sizes {
	return sizes{taps: 320, doors: 8, people: 250_000, rules: 200, asked: 100_000, appends: 1500, edges: 120, batches: 600,
		single: 7200, rounds: 3, links: 80, linkBatches: 480, linkOnes: 6400, paced: 8 * time.Second, idle: 6 * time.Second,
		credentials: 100_000, backlog: 50_000, leaves: 1_000_000, hubLeaves: 300_000, fewNodes: 200, fewDebts: 10_000,
		nodes: 10_000, debts: 100_000, manyNodes: 100_000, manyDebts: 1_000_000}
}

func tiny() sizes {
	return sizes{taps: 6, doors: 2, people: 500, rules: 20, asked: 500, appends: 20, edges: 4, batches: 8, single: 20, rounds: 1,
		links: 2, linkBatches: 4, linkOnes: 20, paced: 200 * time.Millisecond, idle: 200 * time.Millisecond, credentials: 200,
		backlog: 200, leaves: 1000, hubLeaves: 1000, fewNodes: 20, fewDebts: 100, nodes: 50, debts: 300,
		manyNodes: 60, manyDebts: 400}
}
