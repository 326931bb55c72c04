package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"time"
)

// policyText is what the demo's houses agreed on.
//
//go:embed policy.yaml
var policyText []byte

// Timing of a closing at the end of a demo.
const (
	closeSettle = 3 * time.Second  // for the last entries to reach the hub
	closeLimit  = 60 * time.Second // for the whole closing
)

// settle carries the week to its posted statement, as an operator would over two weeks, and writes the bundle. Every
// house says yes early, because here all houses are one person's.
func (d *demo) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	if !sleep(ctx, closeSettle) {
		return ctx.Err()
	}
	draft, err := d.hub.Draft(ctx)
	if err != nil {
		return fmt.Errorf("drafting the closing: %w", err)
	}
	d.say("closing: %d entries of the week become debts between houses", draft.Entries)
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
