package exchange

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// The control socket carries an operator's orders to a running hub. It is a Unix socket that only the hub's own user may
// open: whoever can write there could as well write the database.
const (
	controlFile  = "control.sock"
	exportPath   = "/export"
	orderLimit   = 8 << 20          // bytes of one order: some ten thousand members at once
	answerLimit  = 256 << 20        // bytes of one answer: a full list
	orderTimeout = 10 * time.Minute // a verification of a large hub
)

// listenControl makes the socket. It stands before anything says that the hub runs: an order that found none would take the
// state directory for its own.
func listenControl(state string) (net.Listener, error) {
	path := filepath.Join(state, controlFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err // a socket left by a crash; the state directory's lock says that nobody else serves it
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// control serves the socket until ctx ends.
func (x *Exchange) control(ctx context.Context) error {
	srv := &http.Server{Handler: http.HandlerFunc(x.serveOrder), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(x.log.Handler(), slog.LevelWarn)}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(x.orders); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (x *Exchange) serveOrder(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && r.URL.Path == exportPath {
		w.Header().Set("Content-Type", "application/jsonl")
		if err := x.storage.Export(r.Context(), w); err != nil {
			x.log.Warn("an export ended early", "err", err)
			panic(http.ErrAbortHandler) // the reader must see that the end is missing
		}
		return
	}
	if r.Method == http.MethodGet && r.URL.Path == booksPath {
		x.serveBooks(w, r)
		return
	}
	var o Order
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, orderLimit))
	d.DisallowUnknownFields()
	var a Answer
	err := d.Decode(&o)
	if err == nil {
		a, err = x.Do(r.Context(), o)
	}
	if err != nil {
		a = Answer{Error: err.Error(), Report: a.Report}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(a); err != nil {
		x.log.Warn("an order's answer was not delivered", "err", err)
	}
}

// errNotRunning says that nobody serves the socket.
var errNotRunning = errors.New("the hub is not running")

// ask sends a request to the running hub of a state directory.
func ask(state string, req *http.Request) (*http.Response, error) {
	path := filepath.Join(state, controlFile)
	client := &http.Client{Timeout: orderTimeout, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
	res, err := client.Do(req)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return nil, errNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("asking the hub: %w", err)
	}
	return res, nil
}

// fetchExport copies the running hub's export to w.
func fetchExport(ctx context.Context, state string, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://hub"+exportPath, nil)
	if err != nil {
		return err
	}
	res, err := ask(state, req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(w, res.Body); err != nil {
		return fmt.Errorf("reading the export, which is not complete: %w", err)
	}
	return nil
}

// send gives an order to the running hub of a state directory.
func send(ctx context.Context, state string, o Order) (Answer, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return Answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://hub/order", bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	res, err := ask(state, req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	var a Answer
	if err := json.NewDecoder(io.LimitReader(res.Body, answerLimit)).Decode(&a); err != nil {
		return Answer{}, fmt.Errorf("reading the hub's answer: %w", err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}
