// Command edge is the appliance of one house: it reads cards, opens doors, counts who is in and keeps the journal.
// `edge help` lists what it can be told.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // a node's time zone must be known on a machine without a zone database

	"kith/edge/appliance"
	"kith/internal/command"
)

var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := appliance.Program(version).Run(ctx, command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}
