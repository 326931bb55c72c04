package appliance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"kith/edge/roster"
	"kith/internal/event"
	"kith/internal/health"
	"kith/internal/journal"
)

// Limits of the edge's pages.
const (
	pageHeaderWait = 5 * time.Second
	pageWait       = 30 * time.Second
	pageHeader     = 16 << 10         // bytes of a request's header
	homeEvery      = 10 * time.Second // between two tries to listen where the pages should be
)

// healthTree is the dependency tree of one edge: the first red line is the cause.
type healthTree struct {
	tree   *health.Tree
	config atomic.Pointer[error]
}

// configuration takes why the file is not the one that runs; nil: it is.
func (h *healthTree) configuration(err error) {
	if err == nil {
		h.config.Store(nil)
		return
	}
	h.config.Store(&err)
}

// endpoint is the HTTP listener of the edge, on loopback. Where another program has the address that it should have, it is at
// a free port, and at its own too once that is free.
type endpoint struct {
	listener net.Listener
	server   *http.Server
	log      *slog.Logger
	want     string                // host:port
	why      atomic.Pointer[error] // it is not there; nil: it is
	home     func()                // called once it is there after all; may be nil. Set before run
}

// away says why the pages are not where they should be; nil: they are.
func (e *endpoint) away() error {
	if p := e.why.Load(); p != nil {
		return fmt.Errorf("opening the pages: %w; they are at %s until it is free", *p, e.addr())
	}
	return nil
}

func (e *endpoint) addr() string { return e.listener.Addr().String() }

func (e *endpoint) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { e.server.Close() })
	defer stop()
	if e.away() != nil {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(homeEvery)
			defer tick.Stop()
			e.comeHome(ctx, tick.C)
		}()
		defer func() { cancel(); e.server.Close(); <-done }()
	}
	if err := e.server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// comeHome tries at each tick to listen where the pages should be and, once it can, serves them there too until the server is
// closed.
func (e *endpoint) comeHome(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		l, err := net.Listen("tcp", e.want)
		if err != nil {
			continue
		}
		e.why.Store(nil)
		e.log.Info("the pages are where they should be", "at", e.want)
		if e.home != nil {
			e.home()
		}
		if err := e.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			e.log.Error("the pages are no longer where they should be", "at", e.want, "err", err)
			e.why.Store(&err)
		}
		return
	}
}

func (e *endpoint) close() {
	e.server.Close()
	e.listener.Close()
}

func (a *Appliance) openPages(context.Context) error {
	t := health.New("edge", time.Now)
	a.health = &healthTree{tree: t}
	for _, part := range [][2]string{{"edge", "configuration"}, {"edge", "journal"}, {"edge", "roster"}, {"edge", "clock"}, {"edge", "board"}, {"journal", "erasing"}} {
		if err := t.Add(part[0], part[1]); err != nil {
			return err
		}
	}
	for _, d := range a.cfg.Doors {
		if err := t.Add("board", "door "+d.ID); err != nil {
			return err
		}
	}
	for _, r := range a.cfg.Readers {
		if err := t.Add("edge", "reader "+r.ID); err != nil {
			return err
		}
	}
	if a.uplink != nil {
		if err := errors.Join(t.Add("edge", "hub link"), t.Add("hub link", "receipts")); err != nil {
			return err
		}
	}
	addr := a.cfg.Listen
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	if a.opt.NoPages {
		return nil
	}
	if err := t.Add("edge", "pages"); err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	var why error
	if err != nil && a.opt.anyPort {
		l, why, err = listenNear(addr)
	}
	if err != nil {
		return err
	}
	routes, err := a.routes()
	if err != nil {
		l.Close()
		return err
	}
	a.http = &endpoint{listener: l, log: a.log, want: addr, server: &http.Server{Handler: routes, ReadHeaderTimeout: pageHeaderWait,
		ReadTimeout: pageWait, WriteTimeout: pageWait, MaxHeaderBytes: pageHeader}}
	if why != nil {
		a.http.why.Store(&why)
		a.log.Error("opening the pages where they should be failed; they are elsewhere until that is free", "want", addr, "at", a.Addr(), "err", why)
	}
	return nil
}

func (a *Appliance) routes() (http.Handler, error) {
	metrics := health.NewMetrics(a.health.tree)
	a.measure(metrics)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		a.look()
		a.health.tree.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", metrics.Handler())
	mux.Handle("/api/v1/", a.kiosk.Handler())
	if err := a.mountWall(mux); err != nil {
		return nil, fmt.Errorf("preparing the page at the wall: %w", err)
	}
	return localOnly(mux), nil
}

// localOnly refuses a name that is not this machine's own: a page elsewhere must not reach a loopback service by
// pointing its name here (DNS rebinding).
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "this service answers to its loopback address only", http.StatusForbidden)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}

// ready says whether taps can be decided. The hub's absence is no reason not to be.
func (a *Appliance) ready() error {
	if a.people.Current() == nil {
		return errors.New("not ready: no roster yet, so every card would be refused")
	}
	for id, s := range a.states {
		if p := s.Load(); p == nil || !p.up {
			return fmt.Errorf("not ready: reader %s does not answer", id)
		}
	}
	return nil
}

// look writes the present state of every part into the tree.
func (a *Appliance) look() {
	t := a.health.tree
	t.Set("edge", nil)
	if p := a.health.config.Load(); p != nil {
		t.Set("configuration", fmt.Errorf("running on the last good one: %w", *p))
	} else {
		t.Set("configuration", nil)
	}
	if a.http != nil {
		err := a.http.away()
		if err != nil && a.http.home != nil {
			err = fmt.Errorf("%w, and this start is not kept as the last good", err)
		}
		t.Set("pages", err)
	}
	t.Set("journal", a.journalTrouble())
	t.Set("erasing", a.eraser.err())
	t.Set("roster", a.rosterTrouble())
	if _, quality, _ := a.clock(); quality != event.Synced {
		t.Set("clock", errors.New("the time is not kept by any source; schedules wait for it, permanent rights hold"))
	} else {
		t.Set("clock", nil)
	}
	var down error
	if b, ok := a.board.(interface{ Err() error }); ok {
		down = b.Err()
	}
	t.Set("board", down)
	for id, d := range a.doors {
		var err error
		switch s := d.Status(); {
		case s.LockFailing:
			err = errors.New("the lock cannot be driven")
		case s.Held:
			err = errors.New("held open")
		}
		t.Set("door "+id, err)
	}
	for id, p := range a.states {
		switch s := p.Load(); {
		case s == nil:
			t.Set("reader "+id, errors.New("has not answered since the start"))
		case !s.up:
			t.Set("reader "+id, errors.New(s.why))
		default:
			t.Set("reader "+id, nil)
		}
	}
	if a.uplink != nil {
		link, receipts := a.uplink.trouble()
		t.Set("hub link", link)
		t.Set("receipts", receipts)
	}
}

func (a *Appliance) journalTrouble() error {
	why, waiting, lost := a.recorder.trouble()
	space := a.journal.Space()
	switch {
	case a.spare != nil:
		return fmt.Errorf("kept in memory only, since the disk took none at the start; mend the disk and start again: %w", a.spare)
	case why != "":
		return fmt.Errorf("%d facts wait in memory, %d lost: %s", waiting, lost, why)
	case space.State != journal.SpaceOK:
		return fmt.Errorf("disk %s: %d MiB free", space.State, space.Free>>20)
	}
	return nil
}

func (a *Appliance) rosterTrouble() error {
	fresh := a.people.Freshness()
	store, signed := a.people.(*roster.Store)
	switch f, ok := a.people.(interface{ Err() error }); {
	case ok && f.Err() != nil:
		return f.Err()
	case a.people.Current() == nil:
		return errors.New("none yet: every card is refused until the hub sends one")
	case signed && store.Status().Broken != nil:
		return fmt.Errorf("its files cannot be relied on: %w", store.Status().Broken)
	case !fresh.Fresh:
		return fmt.Errorf("the hub has not vouched for it for %s; doors run in their degraded mode", fresh.Age.Round(time.Minute))
	}
	return nil
}

func (a *Appliance) measure(m *health.Metrics) {
	count := func(name, help string, read func() uint64) {
		m.Func(name, help, func() float64 { return float64(read()) })
	}
	count("kith_journal_leaves", "Leaves in the present epoch.", func() uint64 { return a.journal.Head().Size })
	count("kith_journal_receipted_leaves", "Leaves of the present epoch that the hub has acknowledged.", func() uint64 {
		n, _ := a.journal.Receipt(a.journal.Head().Epoch)
		return n
	})
	count("kith_facts_waiting", "Facts in memory that the disk has not taken.", func() uint64 { _, n, _ := a.recorder.trouble(); return uint64(n) })
	count("kith_facts_lost", "Facts that found no room in memory while the disk took none.", func() uint64 { _, _, n := a.recorder.trouble(); return n })
	count("kith_people_inside", "Best count of the people in.", func() uint64 {
		now, _, _ := a.clock()
		return uint64(a.inside.picture(now).Total.Best)
	})
	sum := func(read func(id string) uint64) func() uint64 {
		return func() uint64 {
			var n uint64
			for id := range a.gates {
				n += read(id)
			}
			return n
		}
	}
	count("kith_taps_granted", "Taps that opened a door since the start.", sum(func(id string) uint64 { return a.gates[id].Stats.Granted.Load() }))
	count("kith_taps_denied", "Taps that were refused since the start.", sum(func(id string) uint64 { return a.gates[id].Stats.Denied.Load() }))
	count("kith_taps_unreadable", "Presentations that could not be read since the start.", sum(func(id string) uint64 { return a.gates[id].Stats.Unreadable.Load() }))
	count("kith_opened_before_durable", "Doors opened before their record was durable.", sum(func(id string) uint64 { return a.gates[id].Stats.BeforeDurable.Load() }))
}

// brokenPage says what is wrong with the configuration as it stands.
func brokenPage(trouble func() error) http.Handler {
	return localOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "This edge is not running.\n\nIts configuration cannot be used:\n\n  %s\n\nMend the file; it is read again every 2 seconds.\n",
			strings.ReplaceAll(trouble().Error(), "; ", "\n  "))
	}))
}
