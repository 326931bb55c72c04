package demo

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// line is a house's uplink: a TCP relay to the hub that can be cut and mended, as providers do.
type line struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

func openLine(target string) (*line, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &line{listener: l, target: target, conns: map[net.Conn]struct{}{}}, nil
}

func (l *line) addr() string { return l.listener.Addr().String() }

// run relays until ctx ends.
func (l *line) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		l.listener.Close()
		l.cut(true)
	})
	defer stop()
	for {
		c, err := l.listener.Accept()
		if err != nil {
			l.wg.Wait()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		l.wg.Go(func() { l.relay(c) })
	}
}

func (l *line) relay(near net.Conn) {
	defer near.Close()
	if !l.hold(near) {
		return
	}
	defer l.drop(near)
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer far.Close()
	if !l.hold(far) {
		return
	}
	defer l.drop(far)
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // ends with either side; the session above notices by itself
			near.Close()
			far.Close()
		})
	}
	both.Wait()
}

func (l *line) hold(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *line) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// cut takes the line down, or brings it back.
func (l *line) cut(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if down {
		for c := range l.conns {
			c.Close()
		}
	}
}
