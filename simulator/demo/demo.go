// Package demo owns a whole network on one machine, alive: a hub, the five houses of configs/network with eleven edges,
// virtual readers and boards, sixty people with PKOC cards who come, go, roam and are refused for good reasons, an uplink
// that goes away and catches up, and a week of history with the visits of the example's seed in it.
//
// Everything but the people and their hands is production code: the very rooms that `edge run` and `hub run` assemble, over
// real MQTT, TLS, SQLite and the serial protocol of the reader. It keeps its files in one directory and removes it at the
// end unless told where. It is never a place for rules of its own: prices, limits and things are the example's.
package demo

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"kith/configs"
	"kith/edge/appliance"
	"kith/hub/exchange"
	"kith/hub/registry"
	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/command"
	"kith/internal/pki"
	"kith/internal/settings"
	"kith/simulator/board"
	"kith/simulator/chip"
)

// Timing of the living part.
const (
	movePause   = 900 * time.Millisecond // between two taps in the network, on average
	cardTime    = 600 * time.Millisecond // how long a card is held at a reader
	outageAfter = 20 * time.Second       // the first outage
	outageEvery = 90 * time.Second
	outageFor   = 25 * time.Second
	closeAfter  = 20 * time.Second // of life before a closing, when nothing else was asked for
)

const addrFile = "listen" // in a state directory: where hub status and edge status look for who runs on it

// Options of one demo.
type Options struct {
	Dir    string // kept; empty: a temporary one, removed at the end
	Listen string
	Seed   uint64
	For    time.Duration // of life, once all runs; 0: until ctx ends
	Close  bool          // settle between the houses at the end
	Bundle string        // where to write the audit bundle of that
	Log    *slog.Logger
	Out    io.Writer
}

// demo is a running network. Its goroutine owns script; hands are goroutines of single moves.
type demo struct {
	opt     Options
	dir     string
	hub     *exchange.Exchange
	configs map[string]appliance.Config
	people  []person
	keys    []*ecdsa.PrivateKey
	script  *script
	lines   map[string]*line        // by house
	boards  map[string]*board.Board // by edge
	fields  map[string]*chip.Field  // by edge/reader
	addrs   map[string]string       // of each edge's API
	chips   []*chip.Chip
	began   time.Time
	busy    map[string]bool // places at which somebody stands; live owns it

	mu       sync.Mutex // one line at a time, and what follows
	entries  int        // that the hub should have by the end
	standing map[string]bool
	away     map[string]bool  // houses without an uplink
	given    map[string]int64 // by house and unit, what the draft should show; nil until the week has arrived at the hub
}

// Command is `simulator demo`.
func Command(ctx context.Context, s command.Streams, args []string) int {
	f := command.Flags(s, "simulator demo")
	o := Options{Out: s.Out}
	f.StringVar(&o.Dir, "dir", "", "keep everything in `DIR`, which must not exist; default: a temporary directory")
	f.StringVar(&o.Listen, "listen", exchange.DefaultListen, "`HOST:PORT` of the page; when taken, a free port is used")
	f.Uint64Var(&o.Seed, "seed", 1, "the same `SEED` gives the same people doing the same")
	f.DurationVar(&o.For, "for", 0, "stop by itself after living for `DURATION`")
	f.BoolVar(&o.Close, "close", false, "at the end, settle between the houses and verify the result; stops after 20 s if --for says nothing")
	f.StringVar(&o.Bundle, "bundle", "", "write the audit bundle of the closing to `FILE`")
	verbose := f.Bool("v", false, "show the programs' own logs")
	if _, code, ok := command.Parse(s, f, args, 0); !ok {
		return code
	}
	if o.For < 0 {
		fmt.Fprintf(s.Err, "simulator demo: --for %v: want a time from now on; 0 or nothing is without end\n", o.For)
		return command.Usage
	}
	o.Log = slog.New(slog.DiscardHandler)
	if *verbose {
		o.Log = slog.New(slog.NewTextHandler(s.Err, nil))
	}
	o.Close = o.Close || o.Bundle != ""
	if o.Close && o.For == 0 {
		o.For = closeAfter
	}
	if err := Run(ctx, o); err != nil {
		return command.Fail(s, "simulator demo", err)
	}
	return command.OK
}

// Run lives until ctx ends and stops everything in order.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{opt: o, dir: o.Dir, configs: map[string]appliance.Config{}, lines: map[string]*line{}, boards: map[string]*board.Board{},
		fields: map[string]*chip.Field{}, addrs: map[string]string{}, busy: map[string]bool{}, standing: map[string]bool{},
		away: map[string]bool{}, began: time.Now()}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "kith-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(d.dir)
	} else if err := os.Mkdir(d.dir, 0o700); err != nil {
		return fmt.Errorf("the demo starts from nothing: %w", err)
	}
	// Everything but the living ends with its own context, after the living has stopped.
	under, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	failed := make(chan error, 64)
	start := func(name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(under); err != nil && under.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	defer func() {
		stop()
		wg.Wait()
		d.closeHardware()
	}()
	if err := d.build(ctx, start); err != nil {
		return ignoreEnd(ctx, err)
	}
	d.say("houses, people, taps   http://%s/", d.hub.Addr())
	d.say("what houses owe        http://%s/period", d.hub.Addr())
	d.say("what would balance it  http://%s/board", d.hub.Addr())
	for _, h := range houses() {
		d.say("%-22s http://%s/kiosk?at=%s", "kiosk of "+h.name, d.addrs[h.edges[0].id], kioskReader)
	}
	d.say("enter something at a kiosk: somebody holds a card for you. Ctrl-C stops all of it.")
	life, die := context.WithCancel(ctx)
	defer die()
	if o.For > 0 { // not before: building takes longer on a slow machine, and what was asked for is life
		time.AfterFunc(o.For, die)
	}
	select {
	case err := <-failed:
		return err
	case <-d.live(life):
	}
	if o.Close {
		if err := d.settle(under); err != nil {
			return err
		}
	}
	d.say("stopping: readers first, then doors, then journals")
	return nil
}

// ignoreEnd drops the error of work that was cut short because the demo was told to stop.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// build makes the network as an operator would, writes the week, and starts the edges.
func (d *demo) build(ctx context.Context, start func(string, func(context.Context) error)) error {
	if err := d.openHub(ctx); err != nil {
		return err
	}
	start("hub", d.hub.Run)
	d.people = populate(d.opt.Seed, time.Now())
	d.script = newScript(d.opt.Seed, d.people)
	if err := d.register(ctx); err != nil {
		return err
	}
	for _, h := range houses() {
		l, err := openLine(d.hub.BrokerAddr())
		if err != nil {
			return err
		}
		d.lines[h.id] = l
		start("uplink of "+h.name, l.run)
		for _, e := range h.edges {
			if err := d.addEdge(ctx, h, e, l.addr()); err != nil {
				return fmt.Errorf("adding %s: %w", e.id, err)
			}
		}
	}
	n, err := d.writeWeek(ctx, time.Now())
	if err != nil {
		return err
	}
	d.say("a week of history: %d facts in %d journals, on their way to the hub", n, len(d.configs))
	for _, h := range houses() {
		for _, e := range h.edges {
			a, err := d.openEdge(ctx, e.id)
			if err != nil {
				return fmt.Errorf("opening %s: %w", e.id, err)
			}
			d.addrs[e.id] = a.Addr()
			if err := pki.WriteFile(filepath.Join(d.dir, e.id, "state", addrFile), []byte(a.Addr()+"\n"), 0o600); err != nil {
				return err
			}
			start("edge "+e.id, a.Run)
		}
	}
	return nil
}

func (d *demo) openHub(ctx context.Context) error {
	c := network().hub
	c.Listen, c.Broker, c.BrokerNames = d.opt.Listen, "127.0.0.1:0", []string{"127.0.0.1"}
	c.Backup = exchange.Backup{Every: settings.Duration(time.Minute), Keep: 3}
	if l, err := net.Listen("tcp", c.Listen); err == nil {
		l.Close()
	} else {
		c.Listen = "127.0.0.1:0"
	}
	path := filepath.Join(d.dir, "hub", "hub.yaml")
	b, err := settings.Encode(c)
	if err == nil {
		err = os.Mkdir(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = pki.WriteFile(path, b, 0o600)
	}
	if err == nil {
		err = pki.WriteFile(filepath.Join(filepath.Dir(path), c.Policy), configs.NetworkPolicy, 0o600)
	}
	if err != nil {
		return err
	}
	cfg, err := exchange.Load(path) // as hub run would read it
	if err != nil {
		return err
	}
	state := filepath.Join(d.dir, "hub", "state")
	if d.hub, err = exchange.Open(ctx, cfg, exchange.Options{StateDir: state, Version: "demo", Log: d.opt.Log}); err != nil {
		return err
	}
	return pki.WriteFile(filepath.Join(state, addrFile), []byte(d.hub.Addr()+"\n"), 0o600)
}

// register puts people, cards, hours, grants and catalogues into the registry: what an operator does with hub member add and its sisters.
func (d *demo) register(ctx context.Context) error {
	var c registry.Change
	for _, p := range d.people {
		key, err := card.NewKey()
		if err != nil {
			return err
		}
		d.keys = append(d.keys, key)
		m := access.Member{ID: p.id, Name: p.name, Home: p.home, Role: p.role, Groups: p.groups}
		if !p.until.IsZero() {
			m.Until = p.until.Unix()
		}
		c.Members = append(c.Members, m)
		c.Cards = append(c.Cards, access.Card{ID: card.NewPKOCCard(key).Credential().ID(), Member: p.id, Revoked: p.trait == revoked})
	}
	everyDay := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	for _, h := range houses() {
		c.Schedules = append(c.Schedules, registry.Schedule{Node: h.id, Schedule: access.Schedule{ID: "daytime",
			Spans: []access.Span{{Days: everyDay, From: "07:00", To: "22:00"}}}})
		for _, g := range []access.Grant{
			{ID: "members-house", Group: "members", Zones: []string{"house"}}, // of any house: that is the network
			{ID: "guests-house", Group: "guests", Zones: []string{"house"}, Schedule: "daytime"},
			{ID: "members-work", Group: "members", Zones: []string{"work"}, Schedule: "daytime"},
			{ID: "makers-tools", Group: "makers", Zones: []string{"tools"}},
		} {
			c.Grants = append(c.Grants, registry.Grant{Node: h.id, Grant: g})
		}
		for _, r := range h.things {
			c.Resources = append(c.Resources, registry.Resource{Node: h.id, Resource: r})
		}
	}
	_, err := d.hub.Do(ctx, exchange.Order{Change: &c})
	return err
}

// addEdge admits an edge and gives its configuration the doors of the demo.
func (d *demo) addEdge(ctx context.Context, h house, e site, uplink string) error {
	dir := filepath.Join(d.dir, e.id)
	if _, err := d.hub.Do(ctx, exchange.Order{Bundle: &exchange.BundleOrder{Edge: e.id, Node: h.id, Name: e.door, Dir: dir, Hub: uplink}}); err != nil {
		return err
	}
	c := appliance.Config{Network: network().hub.Network, Node: h.id, Edge: e.id, Zone: h.zone, Identity: "identity", Hub: uplink, Board: "unix:board.sock",
		Doors: []appliance.Door{{ID: e.door, Zones: e.zones, Lock: "fail-secure", Egress: "mechanical", Pulse: settings.Duration(5 * time.Second),
			Held: settings.Duration(30 * time.Second), PreAlarm: settings.Duration(10 * time.Second), Contact: true, Exit: !e.front, Fire: true}}}
	readers := [][2]string{{e.door + "-reader", "inside"}}
	if e.front {
		readers = [][2]string{{e.door + "-in", "in"}, {e.door + "-out", "out"}, {kioskReader, "inside"}}
	}
	for _, r := range readers {
		c.Readers = append(c.Readers, appliance.Reader{ID: r[0], Door: e.door, Direction: r[1], PN532: "hsu:" + r[0] + ".tty"})
	}
	b, err := settings.Encode(c)
	path := filepath.Join(dir, "edge.yaml")
	if err == nil {
		err = pki.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return err
	}
	d.configs[e.id], err = appliance.Load(path) // as edge run would read it
	return err
}

// openEdge puts virtual hardware where the configuration says and opens the appliance on it.
func (d *demo) openEdge(ctx context.Context, id string) (*appliance.Appliance, error) {
	c := d.configs[id]
	b, err := board.Listen(filepath.Join(d.dir, id, "board.sock"), append(board.Door(c.Doors[0].ID), "tamper")...)
	if err != nil {
		return nil, err
	}
	d.boards[id] = b
	if err := b.Lean(c.Doors[0].ID, board.Push{Open: 700 * time.Millisecond, Close: 2500 * time.Millisecond}); err != nil {
		return nil, err
	}
	for _, r := range c.Readers {
		field := chip.NewField()
		ch, err := chip.Open(field, chip.Options{Link: filepath.Join(d.dir, id, r.ID+".tty")})
		if err != nil {
			return nil, err
		}
		d.fields[id+"/"+r.ID] = field
		d.chips = append(d.chips, ch)
	}
	return appliance.Open(ctx, c, appliance.Options{StateDir: filepath.Join(d.dir, id, "state"), Version: "demo",
		Log: d.opt.Log, Clock: appliance.TrustedClock()})
}

func (d *demo) closeHardware() {
	for _, c := range d.chips {
		if err := c.Close(); err != nil {
			d.opt.Log.Error("closing a virtual reader", "err", err)
		}
	}
	for _, b := range d.boards {
		if err := b.Close(); err != nil {
			d.opt.Log.Error("closing a virtual board", "err", err)
		}
	}
}

// key is the card of a person; a stranger has one of nobody's.
func (d *demo) key(who int) *ecdsa.PrivateKey {
	if who >= 0 {
		return d.keys[who]
	}
	key, err := card.NewKey()
	if err != nil {
		panic("demo: no random numbers: " + err.Error())
	}
	return key
}

func (d *demo) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.opt.Out, "%6.1fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}
