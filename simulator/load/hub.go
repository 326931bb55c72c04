package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"kith/edge/link"
	"kith/hub/broker"
	"kith/hub/exchange"
	"kith/hub/store"
	"kith/internal/pki"
	"kith/internal/settings"
	"kith/internal/wire"
)

const (
	network = "load"
	house   = "house"
	// downQueue is how many answers wait for one edge of this process; what finds no room is dropped, as on a bad line.
	downQueue = 256
)

// hub is the assembled hub in this process.
type hub struct {
	dir  string
	x    *exchange.Exchange
	stop func() error
}

// openHub starts a hub on a directory. With a transport it opens no socket at all.
func openHub(ctx context.Context, dir string, t exchange.Transport) (*hub, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path, err := writeHubConfig(dir)
	if err != nil {
		return nil, err
	}
	cfg, err := exchange.Load(path)
	if err != nil {
		return nil, err
	}
	// The broker's limits of one edge stay as they are; only the porch lets many edges of one address in at once.
	x, err := exchange.Open(ctx, cfg, exchange.Options{StateDir: filepath.Join(dir, "state"), Version: "load", Transport: t, NoPages: true,
		Limits: broker.Limits{HalfOpen: 1000, ConnectRate: 1000}})
	if err != nil {
		return nil, err
	}
	under, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- x.Run(under) }()
	return &hub{dir: dir, x: x, stop: sync.OnceValue(func() error {
		cancel()
		return <-done
	})}, nil
}

func writeHubConfig(dir string) (string, error) {
	c := exchange.Config{Network: network, Listen: "127.0.0.1:0", Broker: "127.0.0.1:0", BrokerNames: []string{"127.0.0.1"},
		Nodes: []exchange.Node{{ID: house, Name: "House", Zone: "Europe/Lisbon"}}}
	path := filepath.Join(dir, "hub.yaml")
	b, err := settings.Encode(c)
	if err != nil {
		return "", err
	}
	return path, pki.WriteFile(path, b, 0o600)
}

func (h *hub) database() string { return filepath.Join(h.dir, "state", store.FileName) }

// devices admits n edges.
func (h *hub) devices(ctx context.Context, n int) ([]*device, error) {
	out := make([]*device, n)
	for i := range out {
		id := fmt.Sprintf("edge-%03d", i)
		dir := filepath.Join(h.dir, "bundles", id)
		if _, err := h.x.Do(ctx, exchange.Order{Bundle: &exchange.BundleOrder{Edge: id, Node: house, Dir: dir, Hub: h.x.BrokerAddr()}}); err != nil {
			return nil, fmt.Errorf("adding %s: %w", id, err)
		}
		var err error
		if out[i], err = newDevice(filepath.Join(dir, "identity")); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// held reads how many leaves the hub has of each edge, from beside it.
func held(ctx context.Context, database string) (map[string]uint64, error) {
	db, err := openSQLite(database, false)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, "SELECT edge, sum(size) FROM logs GROUP BY edge")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]uint64{}
	for rows.Next() {
		var edge string
		var size int64
		if err := rows.Scan(&edge, &size); err != nil {
			return nil, err
		}
		out[edge] = uint64(size)
	}
	return out, rows.Err()
}

// counted compares what the hub holds with what was sent: lines a leaf, each address once. It says what is lost and what
// is double; the address is the key of the table, so a double would show as a count beyond what was sent.
func counted(ctx context.Context, database string, devices []*device) (lost, doubled int64, err error) {
	have, err := held(ctx, database)
	if err != nil {
		return 0, 0, err
	}
	var sent int64
	for _, d := range devices {
		sent += int64(d.size)
		if n := have[d.keys.ID]; n < d.size {
			lost += int64(d.size - n)
		}
	}
	db, err := openSQLite(database, false)
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	var lines int64
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM lines").Scan(&lines); err != nil {
		return 0, 0, err
	}
	return max(lost, sent-lines), max(0, lines-sent), nil
}

// pipe is a transport inside one process: what is left of a delivery when the network is taken away.
type pipe struct {
	up chan broker.Message

	mu   sync.Mutex
	down map[string]chan []byte
}

func newPipe() *pipe {
	return &pipe{up: make(chan broker.Message, downQueue), down: map[string]chan []byte{}}
}

// Messages implements exchange.Transport.
func (p *pipe) Messages() <-chan broker.Message { return p.up }

// Send implements exchange.Transport.
func (p *pipe) Send(edge string, payload []byte) error {
	select {
	case p.hears(edge) <- payload:
		return nil
	default:
		return broker.ErrSlow
	}
}

// Connected implements exchange.Transport.
func (p *pipe) Connected() []string { return nil }

// Cut implements exchange.Transport.
func (p *pipe) Cut(string, string) {}

func (p *pipe) hears(edge string) chan []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.down[edge]
	if c == nil {
		c = make(chan []byte, downQueue)
		p.down[edge] = c
	}
	return c
}

// lane joins a device to the pipe.
func (p *pipe) lane(d *device, messages []message) *lane {
	id := d.keys.ID
	return &lane{device: d, messages: messages, received: p.hears(id), send: func(ctx context.Context, payload []byte) error {
		select {
		case p.up <- broker.Message{Edge: id, Payload: payload}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}

// wires are sessions of the production link, one an edge.
type wires struct {
	links []*link.Link
	stop  func() error
}

// dial brings a session up for every device.
func dial(ctx context.Context, addr string, devices []*device) (*wires, error) {
	under, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	errs := make([]error, len(devices))
	w := &wires{stop: sync.OnceValue(func() error {
		cancel()
		wg.Wait()
		return errors.Join(errs...)
	})}
	for i, d := range devices {
		l, err := link.New(link.Options{Broker: addr, Edge: d.keys.ID, TLS: d.keys.ClientTLS("127.0.0.1", nil)})
		if err != nil {
			return nil, errors.Join(err, w.stop())
		}
		wg.Go(func() { errs[i] = l.Run(under) })
		w.links = append(w.links, l)
	}
	for i, l := range w.links {
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), w.stop())
		case <-l.Up():
		}
		// The hello is what an edge says first.
		hello := wire.Hello{Boot: devices[i].boot, Epoch: devices[i].epoch}
		b, err := hello.Encode()
		if err == nil {
			err = l.Send(ctx, b)
		}
		if err != nil {
			return nil, errors.Join(err, w.stop())
		}
	}
	return w, nil
}

func (w *wires) lane(i int, d *device, messages []message) *lane {
	return &lane{device: d, messages: messages, received: w.links[i].Received(), send: w.links[i].Send}
}
