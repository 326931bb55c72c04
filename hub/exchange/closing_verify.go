package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"kith/hub/audit"
	"kith/hub/settlement"
)

// verifyPeriods derives every stored period again, in order, and holds the journal of the books to them. The first
// difference ends it: what follows rests on it.
func (x *Exchange) verifyPeriods(ctx context.Context, v *Verification) error {
	names, err := x.storage.Periods(ctx)
	if err != nil {
		return err
	}
	var previous *audit.Closing
	var want []byte
	differs := func(format string, args ...any) error {
		v.OK, v.Differences = false, append(v.Differences, fmt.Sprintf(format, args...))
		return nil
	}
	for _, name := range names {
		c, err := x.readPeriod(ctx, name)
		if err == nil {
			err = c.Follows(previous)
		}
		var d *audit.Difference
		switch {
		case errors.As(err, &d):
			return differs("period %s: %v", name, d)
		case err != nil:
			return err
		}
		if c.Period.State == settlement.Posted {
			want = append(want, c.Entries()...)
		}
		if err := x.verifyRelease(ctx, c, v); err != nil {
			return err
		}
		previous = c
		v.Periods++
	}
	lines, err := x.storage.Entries(ctx)
	if err != nil {
		return err
	}
	if have := append(bytes.Join(lines, []byte("\n")), '\n'); len(lines) > 0 && !bytes.Equal(have, want) || len(lines) == 0 && len(want) > 0 {
		return differs("the books hold other entries than the posted periods")
	}
	return nil
}
