package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"kith/hub/exchange"
	"kith/internal/command"
	"kith/internal/event"
	"kith/internal/wire"
)

// Limits of the generator.
const (
	maxEdges    = 1000
	maxRate     = 1_000_000
	maxEvents   = 4_000_000 // prepared before anything is timed; some 700 bytes of memory each
	guessedRate = 50_000    // events a second to prepare for when the rate is left open
)

// generator is a crowd of edges that deliver to one hub.
type generator struct {
	edges, rate, batch int
	span               time.Duration
	hub                string
}

// check says what is wrong with its flags.
func (g *generator) check() error {
	switch {
	case g.edges < 1 || g.edges > maxEdges:
		return fmt.Errorf("--edges %d: want 1 to %d", g.edges, maxEdges)
	case g.rate < 0 || g.rate > maxRate:
		return fmt.Errorf("--rate %d: want 0 to %d", g.rate, maxRate)
	case g.batch < 1 || g.batch > wire.MaxBatchLeaves:
		return fmt.Errorf("--batch %d: want 1 to %d", g.batch, wire.MaxBatchLeaves)
	case g.span <= 0 || g.messages()*g.batch*g.edges > maxEvents:
		return fmt.Errorf("--for %v: want more than nothing and at most %d events in all", g.span, maxEvents)
	}
	return nil
}

// messages is how many each edge sends.
func (g *generator) messages() int {
	rate := g.rate
	if rate == 0 {
		rate = guessedRate
	}
	return max(1, int(float64(rate)*g.span.Seconds())/g.batch/g.edges)
}

// outcome is what a run tells.
type outcome struct {
	Edges   int     `json:"edges"`
	Events  int     `json:"events"`
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"events_per_second"`
	P50     float64 `json:"receipt_p50_ms"`
	P99     float64 `json:"receipt_p99_ms"`
	Most    float64 `json:"receipt_max_ms"`
	Resent  int     `json:"messages_sent_again"`
	Lost    int64   `json:"lost"`
	Doubled int64   `json:"doubled"`
	Machine string  `json:"machine"`
}

// run makes edges, delivers, counts, and takes the edges' rights away again.
func (g *generator) run(ctx context.Context, out io.Writer, o options) error {
	r := outcome{Edges: g.edges, Machine: machine()}
	run := g.runHere
	if g.hub != "" {
		run = g.runThere
	}
	if err := run(ctx, o.dir, &r); err != nil {
		return err
	}
	if err := r.print(out, o.json); err != nil {
		return err
	}
	if r.Lost != 0 || r.Doubled != 0 {
		return fmt.Errorf("%d events lost, %d doubled", r.Lost, r.Doubled)
	}
	return nil
}

func (r *outcome) print(out io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	_, err := fmt.Fprintf(out, "%s\n%d edges, %d events in %.1f s: %.0f events/s\nreceipt p50 %.2f ms, p99 %.2f ms, longest %.0f ms; %d messages sent again\n"+
		"lost %d, doubled %d\n", r.Machine, r.Edges, r.Events, r.Seconds, r.Rate, r.P50, r.P99, r.Most, r.Resent, r.Lost, r.Doubled)
	return err
}

// deliver sends from all devices at once.
func (g *generator) deliver(ctx context.Context, addr string, devices []*device, r *outcome) (err error) {
	prepared := make([][]message, len(devices))
	for i, d := range devices {
		if prepared[i], err = d.batches(g.messages(), g.batch); err != nil {
			return err
		}
	}
	w, err := dial(ctx, addr, devices)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	lanes := make([]*lane, len(devices))
	for i, d := range devices {
		lanes[i] = w.lane(i, d, prepared[i])
		if g.rate > 0 {
			every := time.Second * time.Duration(g.edges*g.batch) / time.Duration(g.rate)
			lanes[i].every, lanes[i].first = every, every*time.Duration(i)/time.Duration(g.edges)
		}
	}
	took, err := runLanes(ctx, lanes)
	if err != nil {
		return err
	}
	var waits []time.Duration
	for _, l := range lanes {
		waits = append(waits, l.waits...)
		r.Resent += l.resent
	}
	r.Events, r.Seconds = g.messages()*g.batch*g.edges, took.Seconds()
	r.Rate = float64(r.Events) / took.Seconds()
	r.P50, r.P99, r.Most = quantile(waits, 500), quantile(waits, 990), quantile(waits, 1000)
	return nil
}

// runHere delivers to a hub in this process.
func (g *generator) runHere(ctx context.Context, dir string, r *outcome) (err error) {
	h, err := openHub(ctx, filepath.Join(dir, "hub"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	devices, err := h.devices(ctx, g.edges)
	if err != nil {
		return err
	}
	if err := g.deliver(ctx, h.x.BrokerAddr(), devices, r); err != nil {
		return err
	}
	if err := h.stop(); err != nil {
		return err
	}
	r.Lost, r.Doubled, err = counted(ctx, h.database(), devices)
	return err
}

// runThere delivers to a running hub. It speaks to it as an operator does: edge add, export, revoke.
func (g *generator) runThere(ctx context.Context, dir string, r *outcome) (err error) {
	config := filepath.Join(g.hub, "hub.yaml")
	cfg, err := exchange.Load(config)
	if err != nil {
		return err
	}
	if len(cfg.Nodes) == 0 {
		return fmt.Errorf("%s names no node for the edges to stand at", config)
	}
	tell := func(out io.Writer, args ...string) error {
		var said bytes.Buffer
		if code := exchange.Program("load").Run(ctx, command.Streams{In: bytes.NewReader(nil), Out: out, Err: &said}, args); code != command.OK {
			return fmt.Errorf("hub %s: %s", args[0], bytes.TrimSpace(said.Bytes()))
		}
		return nil
	}
	var devices []*device
	defer func() {
		for _, d := range devices {
			err = errors.Join(err, tell(io.Discard, "revoke", "edge", d.keys.ID, "--config", config))
		}
	}()
	name := fmt.Sprintf("load-%x", time.Now().UnixMilli())
	for i := range g.edges {
		id := fmt.Sprintf("%s-%d", name, i)
		bundle := filepath.Join(dir, "bundles", id)
		if err := tell(io.Discard, "edge", "add", id, "--node", cfg.Nodes[0].ID, "--out", bundle, "--config", config); err != nil {
			return err
		}
		d, err := newDevice(filepath.Join(bundle, "identity"))
		if err != nil {
			return err
		}
		devices = append(devices, d)
	}
	if err := g.deliver(ctx, cfg.Broker, devices, r); err != nil {
		return err
	}
	return g.count(dir, devices, r, func(out io.Writer) error { return tell(out, "export", "--config", config) })
}

// count looks for every leaf of ours in the hub's export, each address once.
func (g *generator) count(dir string, devices []*device, r *outcome, export func(io.Writer) error) (err error) {
	f, err := os.Create(filepath.Join(dir, "export.jsonl"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := export(f); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	found := map[string][]bool{}
	for _, d := range devices {
		found[d.keys.ID] = make([]bool, d.size)
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Leaf string `json:"leaf"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("reading the export: %w", err)
		}
		if line.Leaf == "" {
			continue // the head, or the state of a log
		}
		l, err := event.Parse([]byte(line.Leaf))
		if err != nil {
			return fmt.Errorf("reading the export: %w", err)
		}
		ours, ok := found[l.Edge]
		switch {
		case !ok:
		case l.Index >= uint64(len(ours)) || ours[l.Index]:
			r.Doubled++
		default:
			ours[l.Index] = true
		}
	}
	for _, ours := range found {
		for _, there := range ours {
			if !there {
				r.Lost++
			}
		}
	}
	return lines.Err()
}
