package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Timing of a closing at the end of a demo. Both only bound a hang: nothing is waited for that has come.
const (
	arriveLimit = 60 * time.Second       // for the entries of the week and of the living to reach the hub
	arriveAgain = 100 * time.Millisecond // between two looks
	closeLimit  = 3 * time.Minute        // for the whole closing
)

// arrive mends the uplinks and waits until the hub has every entry that was made. What is late all the same counts in the next
// period, as in any network.
func (d *demo) arrive(ctx context.Context) error {
	for _, h := range houses() {
		d.mu.Lock()
		away := d.away[h.id]
		d.mu.Unlock()
		if away {
			d.cut(h, false)
			d.say("the uplink of %s is back, for the closing", h.name)
		}
	}
	d.mu.Lock()
	want := d.entries
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, arriveLimit)
	defer cancel()
	for {
		draft, err := d.hub.Draft(ctx)
		switch {
		case err == nil && draft.Entries >= want && len(draft.Missing) == 0:
			return nil
		case !sleep(ctx, arriveAgain) && err != nil:
			return fmt.Errorf("drafting the closing: %w", err)
		case ctx.Err() != nil:
			d.say("closing without %d entries that are still on their way", want-draft.Entries)
			return nil
		}
	}
}

// settle carries the week to its posted statement, as an operator would over two weeks, and writes the bundle. Every
// house says yes early, because here all houses are one person's.
func (d *demo) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	if err := d.arrive(ctx); err != nil {
		return err
	}
	draft, err := d.hub.Draft(ctx)
	if err != nil {
		return fmt.Errorf("drafting the closing: %w", err)
	}
	d.say("closing: %d entries, of which those of visitors are debts between houses", draft.Entries)
	for _, u := range draft.Units {
		before, after := 0, 0
		for _, debt := range u.Debts {
			if debt.Before > 0 {
				before++
			}
			if debt.After > 0 {
				after++
			}
		}
		d.say("  %-7s %6d owed in %s; %d of it goes round and is gone, %s left", u.Unit, u.Gross, plural(int64(before), "debt"), u.Cleared, plural(int64(after), "debt"))
	}
	bundle, report, err := d.hub.CloseNow(ctx, "demo-week")
	if err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	if !report.OK {
		return errors.New("closing: the bundle does not verify")
	}
	d.say("closed: %d journals, seal %.16s...; the bundle of %d bytes verifies from itself alone", report.Journals, report.Seal, len(bundle))
	if d.opt.Bundle == "" {
		return nil
	}
	if err := os.WriteFile(d.opt.Bundle, bundle, 0o644); err != nil {
		return fmt.Errorf("writing the bundle: %w", err)
	}
	d.say("anyone checks it with: hub verify %s", d.opt.Bundle)
	return nil
}
