package pn532

import (
	"sync/atomic"
)

// Stats counts what a reader met since it was made.
type Stats struct {
	Commands      uint64 // sent to the chip
	Frames        uint64 // received, of every kind
	Strays        uint64 // received where another was awaited, and dropped
	NACKs         uint64 // sent for a spoiled frame
	Resyncs       uint64 // times the line was brought back in order
	Reopens       uint64 // times the transport was opened again
	Presentations uint64
}

type counters struct {
	commands, frames, strays, nacks, resyncs, reopens, presentations atomic.Uint64
}

// Stats reads the counters. Each is exact; together they are of about one moment.
func (r *Reader) Stats() Stats {
	c := &r.stats
	return Stats{
		Commands: c.commands.Load(), Frames: c.frames.Load(), Strays: c.strays.Load(), NACKs: c.nacks.Load(),
		Resyncs: c.resyncs.Load(), Reopens: c.reopens.Load(), Presentations: c.presentations.Load(),
	}
}
