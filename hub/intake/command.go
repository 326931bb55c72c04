package intake

import (
	"context"
	"fmt"
	"slices"

	"kith/internal/event"
)

// do runs f on the goroutine that owns the states.
func (in *Intake) do(ctx context.Context, f func(context.Context) error) error {
	if in.opt.Serial {
		return f(ctx)
	}
	done := make(chan error, 1)
	select {
	case in.commands <- func(c context.Context) { done <- f(c) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Backed tells that the leaves of a log below size stand in a verified backup. Edges hear it with the next answer and may
// prune below it.
func (in *Intake) Backed(ctx context.Context, edge string, epoch event.Epoch, size uint64) error {
	return in.do(ctx, func(context.Context) error {
		e, ok := in.edges[edge]
		if !ok {
			return fmt.Errorf("raising backup mark: edge %s has no log", edge)
		}
		e = e.clone()
		l := e.find(epoch)
		if l == nil || size > l.Size {
			return fmt.Errorf("raising backup mark: edge %s has no %d leaves in epoch %s", edge, size, epoch)
		}
		l.Backup = max(l.Backup, size)
		in.edges[edge] = e
		return nil
	})
}

// Release is the operator's word that a held edge counts again.
func (in *Intake) Release(ctx context.Context, edge string) error {
	return in.do(ctx, func(ctx context.Context) error {
		e, ok := in.edges[edge]
		if !ok {
			return fmt.Errorf("releasing edge %s: it has no log", edge)
		}
		e = e.clone()
		e.Held, e.Duplicate, e.boots = false, false, nil
		var all []Accepted
		for i := range e.Logs {
			e.Logs[i].Standing.Held, e.Logs[i].Standing.Duplicate = false, false
			all = append(all, Accepted{Log: e.Logs[i], From: e.Logs[i].Size})
		}
		if err := in.opt.Store.Commit(ctx, all); err != nil {
			in.failed(err)
			return fmt.Errorf("releasing edge %s: %w", edge, err)
		}
		in.edges[edge] = e
		return nil
	})
}

// Filled takes a lost range off a log: the store holds its leaves again.
func (in *Intake) Filled(ctx context.Context, edge string, epoch event.Epoch, gap Span) error {
	return in.do(ctx, func(ctx context.Context) error {
		e, ok := in.edges[edge]
		if !ok {
			return fmt.Errorf("clearing a loss: edge %s: %w", edge, ErrUnknown)
		}
		e = e.clone()
		l := e.find(epoch)
		if l == nil {
			return fmt.Errorf("clearing a loss: edge %s has no epoch %s", edge, epoch)
		}
		l.Standing.Lost = slices.DeleteFunc(slices.Clone(l.Standing.Lost), func(s Span) bool { return s == gap })
		if err := in.opt.Store.Commit(ctx, []Accepted{{Log: *l, From: l.Size}}); err != nil {
			in.failed(err)
			return fmt.Errorf("clearing a loss of edge %s: %w", edge, err)
		}
		in.edges[edge] = e
		return nil
	})
}

// Edge returns a copy of what is known of one edge, for health and pages.
func (in *Intake) Edge(ctx context.Context, id string) (Edge, error) {
	var out Edge
	err := in.do(ctx, func(context.Context) error {
		e, ok := in.edges[id]
		if !ok {
			return fmt.Errorf("edge %s: %w", id, ErrUnknown)
		}
		out = e.clone()
		return nil
	})
	return out, err
}

// ErrUnknown: no message of that edge was ever accepted.
var ErrUnknown = fmt.Errorf("not known to intake")
