// Command simulator is a network on one machine: the demo, virtual readers, cards and boards, seeded checks and load.
// `simulator help` lists what it can be told.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the demo's houses stand in five time zones

	"kith/internal/command"
	"kith/simulator/board"
	"kith/simulator/chip"
	"kith/simulator/demo"
	"kith/simulator/load"
	"kith/simulator/weather"
)

var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := program().Run(ctx, command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}

// verb adapts the rooms' own commands.
func verb(run func(context.Context, []string, command.Streams) int) func(context.Context, command.Streams, []string) int {
	return func(ctx context.Context, s command.Streams, args []string) int { return run(ctx, args, s) }
}

func program() command.Program {
	return command.Program{Name: "simulator", About: "a network on one machine (version " + version + ")", Verbs: []command.Verb{
		{Name: "demo", Args: "[--for DURATION] [--dir DIR] [--seed N] [--listen HOST:PORT] [--close] [--bundle FILE] [-v]", Help: "a hub, five houses, sixty people, alive; prints the page's address; closes the week at the end if told", Run: demo.Command},
		{Name: "load", Args: "--bench [--only NAME] [--json] | --edges N --rate R --for DURATION", Help: "every promised figure beside its floor, or a load on a hub", Run: load.Command},
		{Name: "check", Args: "[--seeds N] [--seed X] [--trace | --json]", Help: "the sync machines of edges and hub under seeded weather", Run: weather.Command},
		{Name: "reader", Args: "--tty PATH [--card FILE]...", Help: "a virtual PN532 on a pseudo-terminal; commands on standard input", Run: verb(func(ctx context.Context, args []string, s command.Streams) int {
			return chip.ReaderCommand(ctx, args, s.In, s.Out, s.Err)
		})},
		{Name: "board", Args: "--socket PATH [--door NAME]...", Help: "virtual locks, contacts, buttons and lamps; commands on standard input", Run: verb(func(ctx context.Context, args []string, s command.Streams) int {
			return board.Command(ctx, args, s.In, s.Out, s.Err)
		})},
		{Name: "card", Args: "new FILE | show FILE", Help: "make a PKOC card, or print its id", Run: verb(func(ctx context.Context, args []string, s command.Streams) int {
			return chip.CardCommand(ctx, args, s.In, s.Out, s.Err)
		})},
	}}
}
