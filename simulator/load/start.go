package load

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// measureStart kills programs that have much behind them and measures how soon they are ready again.
func measureStart(ctx context.Context, b *bench) error {
	if err := startEdge(ctx, b); err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	if err := startHub(ctx, b); err != nil {
		return fmt.Errorf("hub: %w", err)
	}
	return nil
}

func startEdge(ctx context.Context, b *bench) (err error) {
	argv, note, err := b.edgeProgram(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "start-edge")
	f, err := openFront(dir, "front", 1, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	nothing, err := killAndStart(ctx, b, f, argv)
	if err != nil {
		return err
	}
	j, err := loneJournal(ctx, dir, "front")
	if err != nil {
		return err
	}
	if err := errors.Join(fillJournal(ctx, j, b.size.leaves), j.Close()); err != nil {
		return err
	}
	full, err := killAndStart(ctx, b, f, argv)
	if err != nil {
		return err
	}
	b.add(figure{Name: "edge ready after SIGKILL", Value: full, Unit: millis, Bare: nothing, Peer: "the same with an empty journal", Floor: 2000, Aim: 1000,
		Note: join(note, fmt.Sprintf("%d leaves; process start to /readyz", b.size.leaves))})
	return nil
}

// killAndStart lets an edge run, taps, kills it, and measures the start after that; the median of the rounds.
func killAndStart(ctx context.Context, b *bench, f *front, argv []string) (float64, error) {
	var times []float64
	for n := range b.size.rounds + 1 {
		c, err := startChild(ctx, argv, "run", "--config", f.config)
		if err != nil {
			return 0, err
		}
		took, err := c.ready(ctx)
		if err == nil && n > 0 { // the first one was not killed before
			times = append(times, milliseconds(took))
		}
		for i := 0; i < 2*cardsADoor && err == nil; i++ {
			_, err = f.tap(ctx, 0, i+n)
		}
		if err := errors.Join(err, c.kill()); err != nil {
			return 0, err
		}
	}
	return median(times), nil
}

// startHub fills a hub, lets it run as a process of its own, kills that, and starts it again.
func startHub(ctx context.Context, b *bench) error {
	dir := filepath.Join(b.dir, "start-hub")
	if err := fillHub(ctx, b, dir); err != nil {
		return fmt.Errorf("filling it: %w", err)
	}
	argv, err := selfAs("hub")
	if err != nil {
		return err
	}
	var times []float64
	for n := range b.size.rounds + 1 {
		took, err := runHubOnce(ctx, argv, dir)
		if err != nil {
			return err
		}
		if n > 0 {
			times = append(times, milliseconds(took))
		}
	}
	b.add(figure{Name: "hub ready after SIGKILL", Value: median(times), Unit: millis, Floor: 5000, Aim: 2000,
		Note: fmt.Sprintf("%d leaves (the promise says 10 M; starting reads none of them)", b.size.hubLeaves)})
	return nil
}

func fillHub(ctx context.Context, b *bench, dir string) (err error) {
	p := newPipe()
	h, err := openHub(ctx, dir, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	devices, err := h.devices(ctx, min(b.size.edges, 50))
	if err != nil {
		return err
	}
	const chunk = 20 // batches of one edge prepared at once
	for left := b.size.hubLeaves / batchLeaves / len(devices); ; left -= chunk {
		lanes := make([]*lane, len(devices))
		for i, d := range devices {
			messages, err := d.batches(max(1, min(left, chunk)), batchLeaves)
			if err != nil {
				return err
			}
			lanes[i] = p.lane(d, messages)
		}
		if _, err := runLanes(ctx, lanes); err != nil {
			return err
		}
		if left <= chunk {
			return nil
		}
	}
}

// runHubOnce starts a hub, waits until it is ready and kills it.
func runHubOnce(ctx context.Context, argv []string, dir string) (time.Duration, error) {
	c, err := startChild(ctx, argv, "run", "--config", filepath.Join(dir, "hub.yaml"))
	if err != nil {
		return 0, err
	}
	took, err := c.ready(ctx)
	return took, errors.Join(err, c.kill())
}
