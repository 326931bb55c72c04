package week

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kith/edge/appliance"
	"kith/edge/outbox"
	"kith/hub/exchange"
	"kith/hub/registry"
	"kith/internal/access"
	"kith/internal/command"
	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/settings"
)

const (
	network    = "week"
	settleFor  = 50 * time.Millisecond  // from the gate's answer to the lock, in fake time
	relockWait = 10 * time.Second       // a pulse and what a busy machine adds
	lockWait   = 700 * time.Millisecond // likewise in real time, on a busy machine
	stopWait   = 20 * time.Second       // for a part to stop
)

// tap is one presentation as the person saw it.
type tap struct {
	at     time.Time
	card   string
	opened bool
}

// house is one edge under test: its directory, its configuration and, while it runs, the appliance.
type house struct {
	t       testing.TB
	id      string
	dir     string
	state   string
	cfg     appliance.Config
	session outbox.Session // nil: the real link
	real    bool           // real time
	log     *slog.Logger
	roster  atomic.Uint64 // in force, as the log says; settle listens

	locks locks
	taps  []tap
	app   *appliance.Appliance
	slots map[string]*slot
	stop_ context.CancelFunc
	done  chan error
}

// admit lets the hub make an edge and gives its configuration one door with two readers.
func admit(t testing.TB, hub *exchange.Exchange, node, id, root, broker string) *house {
	t.Helper()
	dir := filepath.Join(root, id)
	if _, err := hub.Do(t.Context(), exchange.Order{Bundle: &exchange.BundleOrder{Edge: id, Node: node, Name: id, Dir: dir, Hub: broker}}); err != nil {
		t.Fatal(err)
	}
	c := appliance.Config{Network: network, Node: node, Edge: id, Zone: "UTC", Clock: "trusted", Identity: "identity", Hub: broker,
		Board: "unix:board.sock", Retention: settings.Duration(48 * time.Hour),
		Doors: []appliance.Door{{ID: "front", Zones: []string{"house"}, Lock: "fail-secure", Egress: "mechanical",
			Pulse: settings.Duration(2 * time.Second), Contact: true, Fire: true, Degraded: "keep-residents"}}}
	for _, dir := range []string{"in", "out"} {
		c.Readers = append(c.Readers, appliance.Reader{ID: "front-" + dir, Door: "front", Direction: dir, PN532: "hsu:" + dir + ".tty"})
	}
	path := filepath.Join(dir, "edge.yaml")
	b, err := settings.Encode(c)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := appliance.Load(path) // as edge run would read it
	if err != nil {
		t.Fatal(err)
	}
	return &house{t: t, id: id, dir: dir, state: filepath.Join(dir, "state"), cfg: cfg}
}

// start opens the appliance on new hardware and lets it run.
func (h *house) start() {
	h.t.Helper()
	h.slots = map[string]*slot{}
	for _, r := range h.cfg.Readers {
		h.slots[r.ID] = newSlot()
	}
	app, err := appliance.Open(h.t.Context(), h.cfg, appliance.Options{StateDir: h.state, Version: "week", Log: h.log,
		Clock: appliance.TrustedClock(), Board: newPlank(&h.locks, h.cfg.Doors[0].ID), NoPages: !h.real, Session: h.session,
		Reader: func(r appliance.Reader) (appliance.Presenter, error) { return h.slots[r.ID], nil }})
	if err != nil {
		h.t.Fatalf("opening %s: %v", h.id, err)
	}
	h.app, h.done = app, make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.t.Context()))
	h.stop_ = cancel
	go func() { h.done <- app.Run(ctx) }()
}

// stop ends the appliance as systemd would.
func (h *house) stop() {
	h.t.Helper()
	if h.stop_ == nil {
		return
	}
	h.stop_()
	h.stop_ = nil
	select {
	case err := <-h.done:
		if err != nil {
			h.t.Errorf("%s ended with %v", h.id, err)
		}
	case <-time.After(stopWait):
		h.t.Errorf("%s does not stop", h.id)
	}
}

// tap lays a card on a reader and says whether the lock let go.
func (h *house) tap(p person, direction string) bool {
	h.t.Helper()
	if h.real {
		// A tap at a lock that is still released only makes it last: nothing new would be seen, and on a slow machine the next
		// one would come in time to make it last again.
		eventually(h.t, relockWait, h.id+" is locked again before the next tap", h.locks.secured)
	}
	before, at := h.locks.releases(), time.Now()
	l := laid{cardOf(p), make(chan struct{})}
	select {
	case h.slots["front-"+direction].taps <- l:
	case <-time.After(stopWait):
		h.t.Fatalf("%s: the reader takes no card", h.id)
	}
	<-l.done
	opened := false
	if !h.real {
		time.Sleep(settleFor)
		opened = h.locks.releases() > before
	} else {
		for end := time.Now().Add(lockWait); !opened && time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			opened = h.locks.releases() > before
		}
	}
	h.taps = append(h.taps, tap{at, p.card(), opened})
	return opened
}

// expect taps and complains when the door does something else.
func (h *house) expect(want bool, p person, direction, when string) {
	h.t.Helper()
	if got := h.tap(p, direction); got != want {
		h.t.Errorf("%s, %s, %s at %s: opened %v, want %v", time.Now().UTC().Format(time.DateTime), h.id, p.ID, when, got, want)
	}
}

// opened is how many taps opened the door.
func (h *house) opened() int {
	n := 0
	for _, t := range h.taps {
		if t.opened {
			n++
		}
	}
	return n
}

// checkLocks proves that the lock let go for taps and for nothing else, once for each, and never stayed so.
func (h *house) checkLocks() {
	h.t.Helper()
	moves := h.locks.all()
	grants := h.taps[:0:0]
	for _, t := range h.taps {
		if t.opened {
			grants = append(grants, t)
		}
	}
	longest := time.Duration(h.cfg.Doors[0].Pulse) + 2*time.Second
	n := 0
	for i, m := range moves {
		if !m.released {
			continue
		}
		if n >= len(grants) || m.at.Before(grants[n].at) || m.at.Sub(grants[n].at) > lockWait {
			h.t.Errorf("%s: the lock let go at %s, which no tap explains", h.id, m.at.UTC().Format(time.DateTime))
			return
		}
		n++
		if i+1 >= len(moves) || moves[i+1].at.Sub(m.at) > longest {
			h.t.Errorf("%s: the lock that let go at %s stayed so for more than %s", h.id, m.at.UTC().Format(time.DateTime), longest)
		}
	}
	if n != len(grants) {
		h.t.Errorf("%s: the lock let go %d times for %d granted taps", h.id, n, len(grants))
	}
}

// verify runs the edge's own verification over its stopped journal.
func (h *house) verify() journal.Report {
	h.t.Helper()
	var out, bad bytes.Buffer
	code := appliance.Program("week").Run(h.t.Context(), command.Streams{Out: &out, Err: &bad},
		[]string{"verify", "--json", "--config", filepath.Join(h.dir, "edge.yaml"), "--state-dir", h.state})
	var r journal.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		h.t.Fatalf("%s: edge verify says %q %q: %v", h.id, out.String(), bad.String(), err)
	}
	if code != command.OK || !r.OK {
		h.t.Errorf("%s: journal is not what it was: %s", h.id, out.String())
	}
	return r
}

// hubConfig is a hub of two houses.
func hubConfig(backup time.Duration) exchange.Config {
	return exchange.Config{Network: network, Name: "Week", Listen: "127.0.0.1:0", Broker: "127.0.0.1:0", BrokerNames: []string{"127.0.0.1"},
		Nodes:  []exchange.Node{{ID: "lisbon", Name: "Lisbon", Zone: "Europe/Lisbon"}, {ID: "oaxaca", Name: "Oaxaca", Zone: "America/Mexico_City"}},
		Backup: exchange.Backup{Every: settings.Duration(backup), Keep: 3}}
}

// centre is a hub that can be stopped and started again.
type centre struct {
	t    testing.TB
	cfg  exchange.Config
	opt  exchange.Options
	x    *exchange.Exchange
	stop context.CancelFunc
	done chan error
}

func (c *centre) start() {
	c.t.Helper()
	x, err := exchange.Open(c.t.Context(), c.cfg, c.opt)
	if err != nil {
		c.t.Fatalf("opening the hub: %v", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	c.x, c.stop, c.done = x, cancel, make(chan error, 1)
	go func() { c.done <- x.Run(ctx) }()
}

func (c *centre) end() {
	c.t.Helper()
	if c.stop == nil {
		return
	}
	c.stop()
	c.stop = nil
	select {
	case err := <-c.done:
		if err != nil && !errors.Is(err, context.Canceled) {
			c.t.Errorf("the hub ended with %v", err)
		}
	case <-time.After(stopWait):
		c.t.Error("the hub does not stop")
	}
}

func (c *centre) order(o exchange.Order) exchange.Answer {
	c.t.Helper()
	a, err := c.x.Do(c.t.Context(), o)
	if err != nil {
		c.t.Fatalf("the hub refuses an order: %v", err)
	}
	return a
}

// enter gives people their cards and every member and guest a right to every front door.
func (c *centre) enter(people ...person) []exchange.Issue {
	c.t.Helper()
	var change registry.Change
	for _, p := range people {
		change.Members = append(change.Members, p.Member)
		change.Cards = append(change.Cards, access.Card{ID: p.card(), Member: p.ID})
	}
	for _, n := range c.cfg.Nodes {
		for _, g := range []string{"members", "guests"} {
			change.Grants = append(change.Grants, registry.Grant{Node: n.ID, Grant: access.Grant{ID: g, Group: g, Zones: []string{"house"}}})
		}
	}
	return c.order(exchange.Order{Change: &change}).Rosters
}

func (c *centre) verify() exchange.Verification {
	c.t.Helper()
	r := c.order(exchange.Order{Verify: true}).Report
	if !r.OK || r.Missing != 0 {
		c.t.Errorf("hub verify: %+v", *r)
	}
	return *r
}

// received is one tap as the hub has it.
type received struct {
	card, verdict, reason string
	late, receipted       bool
	at                    int64
	index                 uint64
	epoch                 event.Epoch
}

// export reads everything the stopped hub has, with its own verb, and returns the taps of each edge in order. It proves
// on the way that no address is there twice.
func (c *centre) export() map[string][]received {
	c.t.Helper()
	path := filepath.Join(c.opt.StateDir, "export.yaml")
	b, err := settings.Encode(c.cfg)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	var out, bad bytes.Buffer
	if code := exchange.Program("week").Run(c.t.Context(), command.Streams{Out: &out, Err: &bad},
		[]string{"export", "--config", path, "--state-dir", c.opt.StateDir}); code != command.OK {
		c.t.Fatalf("hub export: %s", bad.String())
	}
	taps := map[string][]received{}
	seen := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var row struct{ Leaf, Private, Proof string }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			c.t.Fatalf("export line %.80q: %v", line, err)
		}
		if row.Leaf == "" {
			continue
		}
		l, err := event.Parse([]byte(row.Leaf))
		if err != nil {
			c.t.Fatal(err)
		}
		if address := fmt.Sprint(l.Edge, l.Epoch, l.Index); seen[address] {
			c.t.Errorf("leaf %s is there twice", address)
		} else {
			seen[address] = true
		}
		if l.Kind != event.KindTap {
			continue
		}
		taps[l.Edge] = append(taps[l.Edge], read(c.t, l, row.Private, row.Proof))
	}
	return taps
}

func read(t testing.TB, l event.Leaf, private, proof string) received {
	t.Helper()
	var body event.Tap
	p, err := event.ParsePrivate([]byte(private))
	if err = errors.Join(err, json.Unmarshal(l.Body, &body)); err != nil {
		t.Fatalf("tap %d of %s: %v", l.Index, l.Edge, err)
	}
	return received{card: p.Card, verdict: body.Verdict, reason: body.Reason, late: body.Late, receipted: proof == "receipted", at: p.At,
		index: l.Index, epoch: l.Epoch}
}

// checkDelivered compares what people did at a door with what the hub has: each tap once, in order, with its outcome.
func (h *house) checkDelivered(got []received) {
	h.t.Helper()
	if len(got) != len(h.taps) {
		h.t.Errorf("%s: %d taps, the hub has %d", h.id, len(h.taps), len(got))
	}
	for i, g := range got[:min(len(got), len(h.taps))] {
		w := h.taps[i]
		if g.card != w.card || (g.verdict == "grant") != w.opened || !g.receipted || g.at < w.at.UnixMilli()-1 || g.at > w.at.Add(lockWait).UnixMilli() {
			h.t.Errorf("%s: tap %d at %s opened %v; the hub has %+v", h.id, i, w.at.UTC(), w.opened, g)
			return
		}
	}
}

// leavesOf adds up what an edge's journal holds.
func leavesOf(r journal.Report) (size uint64) {
	for _, e := range r.Epochs {
		size += e.Size
	}
	return size
}

// quickDir is a directory without a disk behind it where the machine has one: these runs are about time, and fsync has
// its own tests.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "kith-week-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// noLeaks fails the test when goroutines of the house are left at its end. A bubble does that by itself.
func noLeaks(t testing.TB) {
	t.Helper()
	before := ours()
	t.Cleanup(func() {
		var left []string
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			left = left[:0]
			for id, text := range ours() {
				if _, was := before[id]; !was {
					left = append(left, text)
				}
			}
			if len(left) == 0 || time.Now().After(end) {
				break
			}
		}
		if len(left) > 0 {
			t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
		}
	})
}

// ours are the goroutines that run code of the house or of what it drives, by their first line.
func ours() map[string]string {
	buf := make([]byte, 8<<20)
	out := map[string]string{}
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		head, _, _ := strings.Cut(g, " [")
		if strings.Contains(g, "week.noLeaks") || strings.Contains(g, "testing.tRunner") || strings.Contains(g, "week.ours") {
			continue
		}
		for _, part := range []string{"kith/", "nats-server", "paho", "database/sql", "net/http"} {
			if strings.Contains(g, part) {
				out[head] = g
			}
		}
	}
	return out
}
