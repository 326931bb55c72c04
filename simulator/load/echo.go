package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"kith/internal/pki"
)

// floorEvery is how often the floor of a receipt is measured beside the receipts, so that both meet the same machine.
const floorEvery = 20 * time.Millisecond

// receiptFloor measures, until it is told to stop, what no receipt can do without: a message over TLS and back, and a durable
// insert in between. One after the other, from one goroutine.
func receiptFloor(ctx context.Context, b *bench, h *hub, d *device) (*[]time.Duration, func() error) {
	times := new([]time.Duration)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		err := echoes(ctx, filepath.Join(h.dir, "floor.db"), filepath.Join(h.dir, "state", "keys"), d, times)
		done <- err
	}()
	return times, func() error {
		cancel()
		if err := <-done; err != nil {
			return fmt.Errorf("measuring the floor: %w", err)
		}
		return nil
	}
}

func echoes(ctx context.Context, path, keys string, d *device, times *[]time.Duration) (err error) {
	db, err := openBare(context.WithoutCancel(ctx), path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	near, far, err := tlsPair(keys, d)
	if err != nil {
		return err
	}
	defer near.Close()
	answered := make(chan error, 1)
	line := d.line()
	go func() { answered <- answer(far, db, len(line)) }()
	tick := time.NewTicker(floorEvery)
	defer tick.Stop()
	for {
		began := time.Now()
		if _, err := near.Write(line); err != nil {
			return err
		}
		if _, err := io.ReadFull(near, line); err != nil {
			return errors.Join(err, <-answered)
		}
		*times = append(*times, time.Since(began))
		select {
		case <-ctx.Done():
			near.Close()
			<-answered
			return nil
		case <-tick.C:
		}
	}
}

// answer inserts each message and sends it back.
func answer(far net.Conn, db *bare, size int) error {
	defer far.Close()
	b := make([]byte, size)
	for {
		if _, err := io.ReadFull(far, b); err != nil {
			return err // the other side has gone
		}
		if _, err := db.insert(b); err != nil {
			return err
		}
		if _, err := far.Write(b); err != nil {
			return err
		}
	}
}

// line is as long as one event is on the wire.
func (d *device) line() []byte { return make([]byte, 1000) }

func tlsPair(keys string, d *device) (near, far net.Conn, err error) {
	hub, err := pki.OpenHub(keys)
	if err != nil {
		return nil, nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", hub.ServerTLS(nil))
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	type accepted struct {
		conn net.Conn
		err  error
	}
	got := make(chan accepted, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
		}
		got <- accepted{conn, err}
	}()
	near, err = tls.Dial("tcp", l.Addr().String(), d.keys.ClientTLS("127.0.0.1", nil))
	a := <-got
	return near, a.conn, errors.Join(err, a.err)
}
