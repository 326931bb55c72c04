package board

import (
	"maps"
	"net"
	"slices"
	"time"

	wire "kith/edge/board"
)

// client is one connection: an edge that drives, or a watcher that only reads. Both are told
// every level at first and every change afterwards; who never sends is a watcher.
type client struct {
	conn  net.Conn
	lines chan []byte // at most clientQueue; closed never, the writer ends with gone
	gone  chan struct{}
	ended bool // guarded by the board's mu
}

// send queues a line; a client that lets clientQueue lines pile up is cut off. The board's mu is
// held.
func (c *client) send(text []byte) {
	select {
	case c.lines <- text:
	default:
		c.end()
	}
}

// end cuts the connection; the board's mu is held.
func (c *client) end() {
	if !c.ended {
		c.ended = true
		close(c.gone)
		c.conn.Close()
	}
}

func (b *Board) accept() {
	defer b.wg.Done()
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			if b.isClosed() {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors: let some go
			continue
		}
		if !b.admit(conn) {
			conn.Close()
		}
	}
}

func (b *Board) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// admit takes a connection in and tells it every present level.
func (b *Board) admit(conn net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.clients) >= maxConnections {
		return false
	}
	c := &client{conn: conn, lines: make(chan []byte, clientQueue), gone: make(chan struct{})}
	b.clients[c] = true
	now := wire.Now()
	for _, signal := range slices.Sorted(maps.Keys(b.inputs)) {
		c.send(wire.AppendLine(nil, wire.Line{T: now, In: signal, V: b.inputs[signal]}))
	}
	for _, signal := range slices.Sorted(maps.Keys(b.outputs)) {
		c.send(wire.AppendLine(nil, wire.Line{T: now, Out: signal, V: b.outputs[signal]}))
	}
	b.wg.Add(2)
	go b.write(c)
	go b.read(c)
	return true
}

func (b *Board) write(c *client) {
	defer b.wg.Done()
	for {
		select {
		case <-c.gone:
			return
		case text := <-c.lines:
			err := c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			if err == nil {
				_, err = c.conn.Write(text)
			}
			if err != nil {
				b.mu.Lock()
				c.end()
				b.mu.Unlock()
				return
			}
		}
	}
}

// read takes a client's outputs until it leaves or says something a board does not understand.
func (b *Board) read(c *client) {
	defer b.wg.Done()
	lines := wire.NewLineReader(c.conn)
	for {
		l, err := lines.Next()
		if err != nil || l.Out == "" || !b.drive(c, l) {
			break
		}
	}
	b.leave(c)
}

// drive applies one output; false when this client may not set it. One edge at a time drives a
// signal: two of them would release and relock the same door against each other.
func (b *Board) drive(c *client, l wire.Line) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.ended || wire.IsInput(l.Out) {
		return false
	}
	driver := b.drivers[l.Out]
	if driver != nil && driver != c {
		return false
	}
	if _, known := b.outputs[l.Out]; !known && len(b.outputs) >= wire.MaxSignals {
		return false
	}
	b.drivers[l.Out] = c
	b.setOutput(l.Out, l.V)
	return true
}

// leave forgets a client. What it released is locked again, as the one-shot before a real strike
// does when the program behind it is gone.
func (b *Board) leave(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.end()
	delete(b.clients, c)
	for signal, driver := range b.drivers {
		if driver != c {
			continue
		}
		delete(b.drivers, signal)
		if wire.IsLock(signal) {
			b.setOutput(signal, 0)
		}
	}
}
