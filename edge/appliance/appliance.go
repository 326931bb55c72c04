// Package appliance is the assembled edge: it reads the configuration, opens every room in order, wires them through the
// interfaces they declare, and stops them in reverse. It is the only edge room that knows the others; tests, demo and
// simulator run exactly this.
//
// What it promises on a crash is what its rooms promise; its own part is the order. Locks are driven to secured before a
// reader is asked for anything, the boot leaf is written before any fact of a person or a door, and at a stop the readers
// end first, then the doors, then the journal. Losing or regaining hub, network or disk changes what is reported and never
// what a lock does.
package appliance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"kith/edge/board"
	"kith/edge/door"
	"kith/edge/feedback"
	"kith/edge/gate"
	"kith/edge/kiosk"
	"kith/edge/outbox"
	"kith/edge/reader"
	"kith/edge/roster"
	"kith/internal/access"
	"kith/internal/event"
	"kith/internal/journal"
)

// Options are what a caller may put in place of what the configuration names. Everything left out is the real thing.
type Options struct {
	StateDir string
	Version  string
	Log      *slog.Logger
	Clock    Clock                           // nil: the system's, with its own word on its quality
	Board    board.Board                     // nil: as configured; closed by the appliance
	Reader   func(Reader) (Presenter, error) // nil: the PN532 as configured
	Session  outbox.Session                  // nil: MQTT to the configured hub
	SpareDir string                          // in memory, for the journal of a start whose disk takes none; empty: /dev/shm
	NoPages  bool                            // no listener: for simulations that may not open sockets

	anyPort bool // pages whose address is taken are at a free port until it is not
}

// Presenter is a running reader.
type Presenter interface {
	Run(ctx context.Context, sink reader.Sink) error
}

// people answers who may do what: the roster the hub signed, or the file of a lone edge.
type people interface {
	Current() *access.Roster
	Freshness() access.Freshness
	Clock(wall time.Time, quality roster.Quality) (time.Time, bool)
	Run(ctx context.Context) error
}

// Appliance is one running edge.
type Appliance struct {
	cfg   Config
	opt   Options
	log   *slog.Logger
	clock Clock
	keys  keys
	start start

	journal  *journal.Journal
	spare    error     // why the journal is in memory; nil while it is on the disk
	facts    *discreet // what happens reaches the journal through it
	recorder *recorder
	people   people
	board    board.Board
	doors    map[string]*door.Driver
	lamps    map[string]*feedback.Player // by reader
	gates    map[string]*gate.Gate       // by reader
	readers  map[string]Presenter
	states   map[string]*atomic.Pointer[readerState]
	inside   *inside
	kiosk    *kiosk.Kiosk
	eraser   *eraser
	uplink   *uplink
	health   *healthTree
	behind   *behind // the file that this edge should run on and does not; nil: it does
	http     *endpoint
	stages   []stage
}

type readerState struct {
	up    bool
	why   string
	since time.Time
}

// stage is one running part: started in order, stopped in reverse.
type stage struct {
	name string
	run  func(context.Context) error
}

// Open brings an edge up to the point where Run can start it. On an error nothing is left open.
func Open(ctx context.Context, cfg Config, opt Options) (_ *Appliance, err error) {
	a := &Appliance{cfg: cfg, opt: opt, log: opt.Log, clock: opt.Clock,
		doors: map[string]*door.Driver{}, lamps: map[string]*feedback.Player{}, gates: map[string]*gate.Gate{},
		readers: map[string]Presenter{}, states: map[string]*atomic.Pointer[readerState]{}}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.log = a.log.With("edge", cfg.Edge)
	switch {
	case a.clock != nil:
	case cfg.Clock == "trusted":
		a.clock = TrustedClock()
	default:
		a.clock = SystemClock()
	}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	for _, step := range []struct {
		doing string
		do    func(context.Context) error
	}{
		{"preparing the state directory", a.openState},
		{"opening the identity", a.openIdentity},
		{"opening the board", a.openBoard}, // first of the hardware: from here on every lock is secured
		{"opening the journal", a.openJournal},
		{"clearing what a power cut left", a.sweep},
		{"opening the roster", a.openPeople},
		{"opening the kiosk", a.openKiosk}, // before the doors: one walk through the journal's end serves both
		{"opening the doors", a.openDoors},
		{"opening the list of the erased", a.openEraser},
		{"opening the readers", a.openReaders},
		{"opening the uplink", a.openUplink},
		{"opening the pages", a.openPages},
		{"recording the start", a.recordBoot}, // last: a start that failed before has no leaf, and so lacks no stop
	} {
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.doing, err)
		}
	}
	return a, nil
}

func (a *Appliance) openState(context.Context) error {
	if err := os.MkdirAll(a.opt.StateDir, 0o700); err != nil {
		return err
	}
	s, err := nextStart(filepath.Join(a.opt.StateDir, "starts.json"))
	a.start = s
	return err
}

func (a *Appliance) openBoard(context.Context) error {
	if a.opt.Board != nil {
		a.board = a.opt.Board
		return nil
	}
	if path, ok := strings.CutPrefix(a.cfg.Board, "unix:"); ok {
		b, err := board.OpenSocket(path)
		if err != nil {
			return err
		}
		a.board = b
		return nil
	}
	pins := make(map[string]board.Pin, len(a.cfg.Pins))
	for signal, p := range a.cfg.Pins {
		pins[signal] = board.Pin{Name: p.Name, ActiveLow: p.ActiveLow, Pull: board.Pull(p.Pull),
			Debounce: time.Duration(p.Debounce), Tone: p.Tone}
	}
	b, err := board.OpenGPIO(pins)
	if err != nil {
		return err
	}
	a.board = b
	return nil
}

func (a *Appliance) journalOptions() journal.Options {
	return journal.Options{
		Dir: a.opt.StateDir, Network: a.cfg.Network, Node: a.cfg.Node, Edge: a.cfg.Edge,
		Signer: a.keys.signer, Verifier: a.keys.verifier, Cosigner: a.keys.witness, Retention: time.Duration(a.cfg.Retention),
		Now: func() (time.Time, time.Duration, event.Clock) { w, q, m := a.clock(); return w, m, q }, Log: a.log,
	}
}

// openJournal opens the journal, or one in memory where the disk takes none.
func (a *Appliance) openJournal(ctx context.Context) error {
	opt := a.journalOptions()
	j, err := journal.Open(ctx, opt)
	if err != nil && diskRefuses(ctx, err) {
		a.spare = err
		j, err = openSpare(ctx, opt, a.opt.SpareDir)
		if err != nil {
			err = errors.Join(a.spare, err)
		}
	}
	if err != nil {
		return err
	}
	a.journal = j
	a.facts = &discreet{journal: j, list: a.erasures}
	a.recorder = newRecorder(a.facts, a.log)
	if a.spare != nil {
		a.recorder.volatile = true
		a.log.Error("the disk takes no journal; facts are kept in memory until the next start, and strict doors stay shut", "err", a.spare)
	}
	return nil
}

// recordBoot hands the journal the boot leaf: durable before the first fact of anybody, or together with it.
func (a *Appliance) recordBoot(ctx context.Context) error {
	j := a.journal
	boot := event.Boot{Version: a.opt.Version, StateDir: a.start.Disk, Starts: a.start.Starts}
	if head := j.Head(); head.Size > 0 {
		entries, err := j.Read(ctx, head.Epoch, head.Size-1, 1, event.MaxLeaf+event.MaxPrivate)
		if err == nil && len(entries) == 1 {
			if last, err := event.Parse(entries[0].Leaf); err == nil {
				boot.Unclean, boot.PrevAt = last.Kind != event.KindStop, last.At
			}
		}
	}
	if a.cfg.Hub != "" && a.spare == nil && j.Head().Size > 0 {
		a.record(event.KindBoot, boot) // the recorder lets it wait until the hub is met, or the first fact of anybody
		return nil
	}
	err := a.recordNow(ctx, event.KindBoot, boot)
	if errors.Is(err, journal.ErrFull) || errors.Is(err, journal.ErrStorage) {
		a.log.Error("boot could not be recorded; doors decide all the same", "err", err)
		a.record(event.KindBoot, boot) // waits in memory with what follows
		return nil
	}
	return err
}

func (a *Appliance) openPeople(context.Context) error {
	if a.cfg.Roster != "" {
		f, err := openFiled(a.cfg.Roster, a.opt.StateDir, a.log)
		if err != nil {
			return err
		}
		a.people = f
		return nil
	}
	s, err := roster.Open(roster.Options{Dir: a.opt.StateDir, Network: a.cfg.Network, Node: a.cfg.Node, Keys: a.keys.hub, Built: a.keys.made})
	if err != nil {
		return err
	}
	a.people = s
	return nil
}

// decide adds to a gate's question what only the assembled edge knows: the time and how far it is trusted, and whether
// the hub still vouches for the roster.
func (a *Appliance) decide(q access.Query) access.Verdict {
	wall, quality, _ := a.clock()
	trust := roster.Unsynchronised
	if quality == event.Synced {
		trust = roster.Synchronised
	}
	q.Now, q.ClockUnsure = a.people.Clock(wall, trust)
	q.Fresh = a.people.Freshness()
	return a.people.Current().Decide(q)
}

// record hands a fact without a person to the journal and does not wait.
func (a *Appliance) record(kind event.Kind, body any) {
	f, err := a.fact(kind, body)
	if err != nil {
		a.log.Error("fact could not be written down", "kind", kind, "err", err)
		return
	}
	a.recorder.Record(f)
}

func (a *Appliance) recordNow(ctx context.Context, kind event.Kind, body any) error {
	f, err := a.fact(kind, body)
	if err != nil {
		return err
	}
	_, err = a.journal.Append(ctx, record(f))
	return err
}

func (a *Appliance) fact(kind event.Kind, body any) (event.Fact, error) {
	wall, quality, mono := a.clock()
	b, err := event.Marshal(body)
	return event.Fact{Kind: kind, At: wall, Mono: mono, Clock: quality, Body: b}, err
}

// Run works until ctx ends or a part fails that nothing works without. It returns after everything has stopped.
func (a *Appliance) Run(ctx context.Context) error {
	defer a.close()
	a.stages = a.plan()
	failed := make(chan error, len(a.stages))
	type running struct {
		stage
		cancel context.CancelFunc
		done   chan struct{}
	}
	var up []running
	for _, s := range a.stages {
		stop, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := running{s, cancel, make(chan struct{})}
		go func() {
			defer close(r.done)
			if err := r.run(stop); err != nil && stop.Err() == nil {
				failed <- fmt.Errorf("%s: %w", r.name, err)
			}
		}()
		up = append(up, r)
	}
	a.log.Info("edge is running", "node", a.cfg.Node, "doors", len(a.cfg.Doors), "readers", len(a.cfg.Readers), "pages", a.Addr())
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		a.log.Error("edge stops: a part failed", "err", err)
	}
	for i := len(up) - 1; i >= 0; i-- {
		if up[i].name == "recorder" { // everything that could still say something has stopped
			a.record(event.KindStop, event.Stop{Why: stopReason(err)})
		}
		up[i].cancel()
		<-up[i].done
	}
	return err
}

func stopReason(err error) string {
	if err != nil {
		return "failure"
	}
	return "asked"
}

// plan is the start order; stopping is its reverse.
func (a *Appliance) plan() []stage {
	plan := []stage{
		{"recorder", func(ctx context.Context) error { a.recorder.run(ctx); return nil }},
		{"roster", a.people.Run},
		{"kiosk", func(ctx context.Context) error { <-ctx.Done(); a.kiosk.Close(); return nil }},
		{"erasing", func(ctx context.Context) error { a.eraser.run(ctx); return nil }},
	}
	if a.http != nil {
		plan = append(plan, stage{"pages", a.http.run})
	}
	if a.uplink != nil {
		plan = append(plan, a.uplink.stages()...)
	}
	if a.behind != nil {
		plan = append(plan, stage{"configuration", func(ctx context.Context) error {
			tick := time.NewTicker(configAgain)
			defer tick.Stop()
			a.watchConfig(ctx, tick.C)
			return nil
		}})
	}
	plan = append(plan, stage{"clock", func(ctx context.Context) error { a.watchClock(ctx); return nil }},
		stage{"housekeeping", func(ctx context.Context) error { a.keepHouse(ctx); return nil }})
	for _, d := range a.cfg.Doors {
		plan = append(plan, stage{"door " + d.ID, a.doors[d.ID].Run})
	}
	plan = append(plan, stage{"board", a.pumpBoard})
	for _, r := range a.cfg.Readers {
		plan = append(plan, stage{"lamp " + r.ID, a.lamps[r.ID].Run})
	}
	for _, r := range a.cfg.Readers {
		plan = append(plan, stage{"reader " + r.ID, func(ctx context.Context) error {
			return a.readers[r.ID].Run(ctx, &sink{a, r, a.gates[r.ID]})
		}})
	}
	return plan
}

// Addr is where the pages are, host:port.
func (a *Appliance) Addr() string {
	if a.http == nil {
		return ""
	}
	return a.http.addr()
}

func (a *Appliance) close() {
	if a.http != nil {
		a.http.close()
	}
	if a.board != nil {
		if err := a.board.Close(); err != nil {
			a.log.Error("closing the board", "err", err)
		}
	}
	if a.journal != nil {
		if err := a.journal.Close(); err != nil {
			a.log.Error("closing the journal", "err", err)
		}
	}
}
