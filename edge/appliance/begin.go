package appliance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	configEvery = 2 * time.Second // between two looks at it
	noticeWait  = 5 * time.Second // for the header of a request to the page that says so
)

// attempt is a configuration and the bytes it was read from.
type attempt struct {
	cfg   Config
	bytes []byte
}

// read reads path; name is the file that relative paths are meant beside.
func read(path, name string) (attempt, error) {
	b, err := settings.Read(path)
	if err != nil {
		return attempt{}, err
	}
	cfg, err := Decode(name, b)
	return attempt{cfg, b}, err
}

// begin opens the edge on its configuration file; else, saying so, on the copy of the last one that an edge was opened on;
// else it shows a page with what is wrong and waits until the file is mended. A door never depends on the newest edit being
// right, and only a start that went well makes an edit the one to fall back on.
func begin(ctx context.Context, p place, opt Options) (*Appliance, error) {
	newest, trouble := read(p.config, p.config)
	unread := trouble != nil
	if !unread {
		a, err := openKeeping(ctx, p, opt, newest)
		if err == nil {
			return a, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		trouble = fmt.Errorf("%s: the edge does not start with it: %w", p.config, err)
	}
	opt.Log.Error("configuration cannot be used", "err", trouble)
	good := filepath.Join(p.state, lastGoodFile)
	if last, err := read(good, p.config); err == nil && (unread || !bytes.Equal(last.bytes, newest.bytes)) {
		opt.Log.Error("running on the last good configuration", "file", good)
		a, err := Open(ctx, last.cfg, opt)
		if err != nil {
			return nil, errors.Join(trouble, fmt.Errorf("%s, the last good one: %w", good, err))
		}
		a.health.configuration(trouble)
		return a, nil
	}
	if !unread { // nothing else to run on, and what is wrong may lie outside of the file: whoever supervises tries again
		return nil, trouble
	}
	mended, err := await(ctx, p, trouble, opt.Log)
	if err != nil {
		return nil, err
	}
	return openKeeping(ctx, p, opt, mended)
}

// openKeeping opens the edge and, once that went well, keeps what it was opened on.
func openKeeping(ctx context.Context, p place, opt Options, t attempt) (*Appliance, error) {
	a, err := Open(ctx, t.cfg, opt)
	if err != nil {
		return nil, err
	}
	if err := pki.WriteFile(filepath.Join(p.state, lastGoodFile), t.bytes, 0o600); err != nil {
		opt.Log.Warn("the good configuration was not kept", "err", err)
	}
	return a, nil
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

// notice serves the page of a configuration that cannot be used until stop: at the wanted address or, where another program
// has that, at a free one.
func notice(want string, trouble func() error) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", want)
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", func() {}, err
		}
	}
	s := &http.Server{Handler: brokenPage(trouble), ReadHeaderTimeout: noticeWait}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with stop, and nothing of a door depends on it
	}()
	return l.Addr().String(), func() { s.Close(); <-done }, nil
}
