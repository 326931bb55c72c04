// Command hub collects the journals of the network's edges, co-signs them, and shows and exports what they say.
// `hub help` lists what it can be told.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // pages show times in each node's zone, also on a machine without a zone database

	"kith/hub/exchange"
	"kith/internal/command"
)

var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := exchange.Program(version).Run(ctx, command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}
