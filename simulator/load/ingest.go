package load

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// batchLeaves is the batch that the promise names.
const batchLeaves = 100

// measureIngest delivers through the assembled hub without a network: proven, stored, projected and co-signed.
func measureIngest(ctx context.Context, b *bench) error {
	hundred, err := ingest(ctx, b, load{dir: "ingest-100", edges: b.size.edges, messages: b.size.batches, leaves: batchLeaves})
	if err != nil {
		return err
	}
	b.add(figure{Name: "ingest, 100 events a batch", Value: hundred.rate, Unit: perSec, Bare: hundred.raw, Peer: "bare SQLite, same rows",
		Floor: 50_000, Aim: 100_000, Note: "in process, no network; ratio aimed at: 0.6; " + hundred.processor()})
	one, err := ingest(ctx, b, load{dir: "ingest-1", edges: b.size.edges, messages: b.size.single, leaves: 1})
	if err != nil {
		return err
	}
	b.add(figure{Name: "ingest, 1 event a batch", Value: one.rate, Unit: perSec, Bare: one.raw, Peer: "bare SQLite, same rows",
		Floor: 8000, Aim: 10_000, Note: "in process, a signature each way for every event; " + one.processor()})
	return nil
}

// measureBroker is the same through TLS, the broker and real sessions, whose client side costs us too.
func measureBroker(ctx context.Context, b *bench) error {
	hundred, err := ingest(ctx, b, load{dir: "broker-100", edges: b.size.links, messages: b.size.linkBatches, leaves: batchLeaves, wired: true})
	if err != nil {
		return err
	}
	b.add(figure{Name: "ingest over MQTT+TLS, 100 events a batch", Value: hundred.rate, Unit: perSec, Bare: hundred.raw, Peer: "bare SQLite, same rows",
		Floor: 50_000, Aim: 100_000, Note: fmt.Sprintf("%d edges share the cores with the hub; %s", b.size.links, hundred.processor())})
	one, err := ingest(ctx, b, load{dir: "broker-1", edges: b.size.links, messages: b.size.linkOnes, leaves: 1, wired: true})
	if err != nil {
		return err
	}
	b.add(figure{Name: "ingest over MQTT+TLS, 1 event a batch", Value: one.rate, Unit: perSec, Bare: one.raw, Peer: "bare SQLite, same rows",
		Floor: 8000, Aim: 10_000, Note: fmt.Sprintf("%d edges share the cores with the hub; %s", b.size.links, one.processor())})
	return nil
}

// load says what to deliver in each round.
type load struct {
	dir                     string
	edges, messages, leaves int // messages of all edges
	wired                   bool
}

// result of a load: medians of its rounds, in leaves a second, beside the bare inserts of the same rows; and what either
// used of the processors, which a busy machine changes less than the time on the wall.
type result struct {
	rate, raw       float64
	used, usedByRaw float64 // microseconds a leaf
}

func (r result) processor() string {
	return fmt.Sprintf("processor %.1f us an event, bare %.1f", r.used, r.usedByRaw)
}

// processorTime is what this process has used on all cores.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func microseconds(d time.Duration, events int) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(events)
}

func ingest(ctx context.Context, b *bench, l load) (r result, err error) {
	dir := filepath.Join(b.dir, l.dir)
	var p *pipe
	var h *hub
	if l.wired {
		h, err = openHub(ctx, dir, nil)
	} else {
		p = newPipe()
		h, err = openHub(ctx, dir, p)
	}
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	devices, err := h.devices(ctx, l.edges)
	if err != nil {
		return r, err
	}
	var w *wires
	if l.wired {
		if w, err = dial(ctx, h.x.BrokerAddr(), devices); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, w.stop()) }()
	}
	each := max(1, l.messages/l.edges)
	var rates, used []float64
	for range b.size.rounds {
		lanes := make([]*lane, len(devices))
		for i, d := range devices {
			messages, err := d.batches(each, l.leaves)
			if err != nil {
				return r, err
			}
			if l.wired {
				lanes[i] = w.lane(i, d, messages)
			} else {
				lanes[i] = p.lane(d, messages)
			}
		}
		before := processorTime()
		took, err := runLanes(ctx, lanes)
		if err != nil {
			return r, err
		}
		used = append(used, microseconds(processorTime()-before, each*l.leaves*l.edges))
		rates = append(rates, float64(each*l.leaves*l.edges)/took.Seconds())
	}
	if w != nil {
		if err := w.stop(); err != nil {
			return r, err
		}
	}
	if err := h.stop(); err != nil {
		return r, err
	}
	if err := nothingLost(ctx, h, devices); err != nil {
		return r, err
	}
	var raws, usedByRaw []float64
	for i := range b.size.rounds {
		took, cpu, rows, err := rawIngest(ctx, h.database(), filepath.Join(dir, fmt.Sprintf("raw-%d.db", i)))
		if err != nil {
			return r, fmt.Errorf("bare inserts: %w", err)
		}
		raws = append(raws, float64(rows)/took.Seconds())
		usedByRaw = append(usedByRaw, microseconds(cpu, rows))
	}
	return result{median(rates), median(raws), median(used), median(usedByRaw)}, nil
}

// nothingLost makes a figure worthless unless every leaf is there once.
func nothingLost(ctx context.Context, h *hub, devices []*device) error {
	lost, doubled, err := counted(ctx, h.database(), devices)
	if err == nil && (lost != 0 || doubled != 0) {
		err = fmt.Errorf("%d leaves lost, %d doubled", lost, doubled)
	}
	return err
}

// pacedRate is the rate of the promise on receipts, in events a second.
const pacedRate = 1000

// measureReceipt is the time from an event that is due to the co-signature over it in the edge's hands.
func measureReceipt(ctx context.Context, b *bench) (err error) {
	h, err := openHub(ctx, filepath.Join(b.dir, "receipt"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	const edges = 20
	devices, err := h.devices(ctx, edges)
	if err != nil {
		return err
	}
	w, err := dial(ctx, h.x.BrokerAddr(), devices)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	every := time.Second * edges / pacedRate
	lanes := make([]*lane, edges)
	for i, d := range devices {
		messages, err := d.batches(max(1, int(b.size.paced/every)), 1)
		if err != nil {
			return err
		}
		lanes[i] = w.lane(i, d, messages)
		lanes[i].every, lanes[i].first = every, every*time.Duration(i)/edges
	}
	floor, stopFloor := receiptFloor(ctx, b, h, devices[0])
	if _, err := runLanes(ctx, lanes); err != nil {
		return errors.Join(err, stopFloor())
	}
	if err := stopFloor(); err != nil {
		return err
	}
	var waits []time.Duration
	for _, l := range lanes {
		waits = append(waits, l.waits...)
	}
	note := fmt.Sprintf("%d receipts, %d edges", len(waits), edges)
	b.add(figure{Name: "receipt at 1,000 events/s, p50", Value: quantile(waits, 500), Unit: millis, Bare: quantile(*floor, 500),
		Peer: "TLS echo + bare SQLite insert", Floor: 2, Aim: 1, Note: note})
	b.add(figure{Name: "receipt at 1,000 events/s, p99", Value: quantile(waits, 990), Unit: millis, Bare: quantile(*floor, 990),
		Peer: "TLS echo + bare SQLite insert", Floor: 10, Aim: 3})
	if err := errors.Join(w.stop(), h.stop()); err != nil {
		return err
	}
	return nothingLost(ctx, h, devices)
}
