package appliance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"kith/internal/pki"
	"kith/internal/settings"
)

// Timing of a configuration that cannot be used.
const (
	configEvery = 2 * time.Second // between two looks at it, while nothing runs
	noticeWait  = 5 * time.Second // for the header of a request to the page that says so
	openTries   = 4               // times that the edge is opened on a file before it is opened on an older one
	openPause   = time.Second     // between two of them
	configAgain = time.Minute     // between two looks at it, while the last good one runs
	configTell  = 60              // looks after which the log says again that it does
)

// attempt is a configuration and the bytes it was read from.
type attempt struct {
	cfg   Config
	bytes []byte
	idle  []string // wires of it that move nothing, and inputs without one
}

// read reads path; name is the file that relative paths are meant beside.
func read(path, name string) (attempt, error) {
	b, err := settings.Read(path)
	if err != nil {
		return attempt{}, err
	}
	cfg, err := Decode(name, b)
	return attempt{cfg: cfg, bytes: b}, err
}

// readGood reads the copy of the last good configuration. An edge ran on it, perhaps one of an older program that did not hold
// pins to doors: idle wires are told, and are no reason to leave those doors dead.
func readGood(path, name string) (attempt, error) {
	b, err := settings.Read(path)
	if err != nil {
		return attempt{}, err
	}
	cfg, idle, err := decode(name, b)
	return attempt{cfg, b, idle}, err
}

// begin opens the edge on its configuration file, with some patience for what has not come up yet; else, saying so, on the copy
// of the last one that an edge was opened on; else it shows a page with what is wrong and waits until the file is mended. A
// door never depends on the newest edit being right, and only a start that went well makes an edit the one to fall back on.
func begin(ctx context.Context, p place, opt Options) (*Appliance, error) {
	good := filepath.Join(p.state, lastGoodFile)
	last, lost := readGood(good, p.config)
	opt.anyPort = !errors.Is(lost, fs.ErrNotExist) // doors that worked here before wait for no port; a first start says what is wrong
	newest, trouble := read(p.config, p.config)
	unread := trouble != nil
	other := lost == nil && (unread || !bytes.Equal(last.bytes, newest.bytes))
	if !unread {
		a, err := openPatiently(ctx, p, opt, newest, last.bytes, other)
		if err == nil {
			return a, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		trouble = fmt.Errorf("%s: the edge does not start with it: %w", p.config, err)
	}
	opt.Log.Error("configuration cannot be used", "err", trouble)
	if other {
		opt.Log.Error("running on the last good configuration", "file", good)
		a, err := Open(ctx, last.cfg, opt)
		if err != nil {
			return nil, errors.Join(trouble, fmt.Errorf("%s, the last good one: %w", good, err))
		}
		if len(last.idle) > 0 {
			idle := &settings.Error{File: lastGoodFile, Lines: last.idle}
			opt.Log.Error("the last good configuration has wires that move nothing, or inputs without one", "err", idle)
			trouble = fmt.Errorf("%w; %w", trouble, idle)
		}
		a.behind = &behind{path: p.config, runs: last.bytes, tried: newest.bytes, trouble: trouble}
		a.health.configuration(trouble)
		return a, nil
	}
	if lost != nil {
		opt.Log.Error("the last good configuration cannot be used either", "file", good, "err", lost)
	}
	if !unread { // nothing else to run on, and what is wrong may lie outside of the file: whoever supervises tries again
		return nil, trouble
	}
	mended, err := await(ctx, p, trouble, opt.Log)
	if err != nil {
		return nil, err
	}
	return openKeeping(ctx, p, opt, mended, last.bytes)
}

// openPatiently is openKeeping, some times over where an older configuration would run else: at boot a line may be busy or a
// disk not mounted, and after rewiring the older one drives the old pins. Without an older one whoever supervises tries again.
func openPatiently(ctx context.Context, p place, opt Options, t attempt, kept []byte, older bool) (*Appliance, error) {
	for try := 1; ; try++ {
		a, err := openKeeping(ctx, p, opt, t, kept)
		if err == nil || !older || try == openTries || ctx.Err() != nil {
			return a, err
		}
		opt.Log.Warn("the edge does not start; it is tried again before an older configuration is", "err", err, "try", try, "of", openTries)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(openPause):
		}
	}
}

// openKeeping opens the edge and, once that went well, keeps what it was opened on in the place of what is kept: with pages
// elsewhere than they should be, when they have come home.
func openKeeping(ctx context.Context, p place, opt Options, t attempt, kept []byte) (*Appliance, error) {
	a, err := Open(ctx, t.cfg, opt)
	if err != nil || bytes.Equal(t.bytes, kept) {
		return a, err
	}
	keep := func() {
		if err := pki.WriteFile(filepath.Join(p.state, lastGoodFile), t.bytes, 0o600); err != nil {
			opt.Log.Warn("the good configuration was not kept", "err", err)
		}
	}
	if a.http != nil && a.http.away() != nil {
		a.http.home = keep
		return a, nil
	}
	keep()
	return a, nil
}

// behind is the file that an edge should run on while it runs on the last good one. It is read again and never opened: to open
// it is to drive its pins, and to restart is for somebody to choose who sees that nobody stands at a door.
type behind struct {
	path    string
	runs    []byte // the last good one
	tried   []byte // what the edge did not start on; nil: it could not even be read
	trouble error  // of the start
}

// look says why the file is not the one that runs; nil: it is.
func (b *behind) look() error {
	t, err := read(b.path, b.path)
	switch {
	case err != nil:
		return err
	case bytes.Equal(t.bytes, b.runs):
		return nil
	case bytes.Equal(t.bytes, b.tried):
		return b.trouble
	}
	return fmt.Errorf("%s was changed and can be read: restart the edge when nobody stands at a door", b.path)
}

// watchConfig looks at the file at each tick until ctx ends or the file is the one that runs, and tells what it finds.
func (a *Appliance) watchConfig(ctx context.Context, ticks <-chan time.Time) {
	said, looks := a.behind.trouble.Error(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		err := a.behind.look()
		a.health.configuration(err)
		if err == nil {
			a.log.Info("the configuration file is the one that runs")
			return
		}
		if looks++; err.Error() != said || looks == configTell {
			a.log.Error("still running on the last good configuration; a restart tries the file again", "err", err)
			said, looks = err.Error(), 0
		}
	}
}

// await shows what is wrong with the file as it stands, until nothing is or ctx ends.
func await(ctx context.Context, p place, trouble error, log *slog.Logger) (attempt, error) {
	var now atomic.Pointer[error]
	now.Store(&trouble)
	addr, stop, err := notice(DefaultPages, func() error { return *now.Load() })
	if err != nil {
		log.Error("the page that says so could not be started", "err", err)
	}
	defer stop()
	log.Error("nothing runs until the configuration is mended; it is read again every 2 s", "page", "http://"+addr)
	tick := time.NewTicker(configEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return attempt{}, ctx.Err()
		case <-tick.C:
		}
		t, err := read(p.config, p.config)
		if err == nil {
			return t, nil
		}
		if err.Error() != (*now.Load()).Error() {
			log.Error("configuration cannot be used", "err", err)
		}
		now.Store(&err)
	}
}

// listenNear listens at the wanted address or, saying why, at a free port of this machine.
func listenNear(want string) (l net.Listener, why, err error) {
	if l, why = net.Listen("tcp", want); why == nil {
		return l, nil, nil
	}
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, why, errors.Join(why, err)
	}
	return l, why, nil
}

// notice serves the page of a configuration that cannot be used until stop: at the wanted address or, where another program
// has that, at a free one.
func notice(want string, trouble func() error) (addr string, stop func(), err error) {
	l, _, err := listenNear(want)
	if err != nil {
		return "", func() {}, err
	}
	s := &http.Server{Handler: brokenPage(trouble), ReadHeaderTimeout: noticeWait}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with stop, and nothing of a door depends on it
	}()
	return l.Addr().String(), func() { s.Close(); <-done }, nil
}
