// Package exchange is the assembled hub: it opens keys, store, registry, intake, broker and pages in order, wires them
// through the interfaces they declare, and stops them in reverse. It is the only hub room that knows the others; tests,
// demo and simulator run exactly this.
//
// What it promises on a crash is what its rooms promise; its own part is the order: nothing is co-signed that the store has not
// made durable, an edge is admitted only after its keys are on disk, and a new roster version is durable before it is offered.
package exchange

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"kith/hub/broker"
	"kith/hub/intake"
	"kith/hub/registry"
	"kith/hub/store"
	"kith/internal/pki"
)

// Limits and names.
const (
	addrFile     = "listen"        // where the pages of the running hub are
	keysDir      = "keys"          // under the state directory
	brokerDir    = "broker"        // likewise
	statusWait   = 5 * time.Second // for a running hub to answer
	refreshEvery = time.Minute     // rosters lose people whose last grant has ended
)

// Options are what a caller may put in place of what the configuration names. Everything left out is the real thing.
type Options struct {
	StateDir  string
	Version   string
	Log       *slog.Logger
	Transport Transport     // nil: the broker of the configuration
	NoPages   bool          // no listeners: for simulations that may not open sockets
	Limits    broker.Limits // what is zero is the broker's default; a load from one address needs a wider porch

	existing bool // refuse to make a new network
}

// Transport carries messages between edges and hub; it promises nothing about their arrival.
type Transport interface {
	Messages() <-chan broker.Message
	Send(edge string, payload []byte) error
	Connected() []string
	Cut(edge, why string)
}

// Exchange is one running hub.
type Exchange struct {
	cfg Config
	opt Options
	log *slog.Logger

	keys      *pki.Hub
	storage   *storage
	registry  *registry.Registry
	intake    *intake.Intake
	transport Transport
	broker    *broker.Broker // nil when the transport was given
	pages     *pages
	orders    net.Listener // the control socket; nil without pages
	verifiers verifiers
	papers    papers
	backups   backups
	closing   closing
	promises  promises
}

// openDesk opens what orders need: keys, database and registry.
func openDesk(ctx context.Context, cfg Config, opt Options) (_ *Exchange, err error) {
	x := &Exchange{cfg: cfg, opt: opt, log: opt.Log}
	if x.log == nil {
		x.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	if opt.existing {
		// A question must not found a network: a mistyped directory would then pass an audit.
		if _, err := os.Stat(filepath.Join(opt.StateDir, store.FileName)); err != nil {
			return nil, fmt.Errorf("there is no hub in %s; name its --state-dir: %w", opt.StateDir, err)
		}
	}
	if err := os.MkdirAll(opt.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("preparing the state directory: %w", err)
	}
	if err := x.openKeys(); err != nil {
		return nil, fmt.Errorf("opening the keys: %w", err)
	}
	if x.storage, err = openStorage(ctx, opt.StateDir, cfg.Network); err != nil {
		return nil, err
	}
	if x.registry, err = registry.Open(ctx, cfg.Network, x.storage); err != nil {
		return nil, err
	}
	if err := x.operatorOfOld(ctx); err != nil {
		return nil, err
	}
	var nodes []registry.Node
	for _, n := range cfg.Nodes {
		name := n.Name
		if name == "" {
			name = n.ID
		}
		nodes = append(nodes, registry.Node{ID: n.ID, Name: name, Zone: n.Zone})
	}
	if _, err := x.registry.Apply(ctx, registry.Change{Nodes: nodes}, time.Now()); err != nil {
		return nil, fmt.Errorf("entering the configured nodes: %w", err)
	}
	if err := x.remember(ctx); err != nil {
		return nil, err
	}
	return x, nil
}

func (x *Exchange) openKeys() error {
	dir := filepath.Join(x.opt.StateDir, keysDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(x.opt.StateDir, store.FileName)); err == nil {
			// Under new keys no edge of this network could ever connect again, and nothing signed here would verify.
			return fmt.Errorf("%s is here and %s is not: put back the keys from where you keep their copy", store.FileName, dir)
		}
		if err := pki.Create(pki.New{Dir: dir, Network: x.cfg.Network, Names: x.cfg.BrokerNames, Now: time.Now()}); err != nil {
			return err
		}
	}
	keys, err := pki.OpenHub(dir)
	if err != nil {
		return err
	}
	if keys.Network() != x.cfg.Network {
		return fmt.Errorf("%s holds the keys of network %s, not %s", dir, keys.Network(), x.cfg.Network)
	}
	renewed, err := keys.Renew(x.cfg.BrokerNames, time.Now())
	if renewed {
		x.log.Info("the hub's certificate was renewed", "names", x.cfg.BrokerNames)
	}
	x.keys = keys
	return err
}

// operatorOfOld makes the operator's key for a hub from before keys were made all at once, unless it has signed something: then
// the key is not missing but lost.
func (x *Exchange) operatorOfOld(ctx context.Context) error {
	dir := filepath.Join(x.opt.StateDir, keysDir)
	if stands(filepath.Join(dir, pki.FileOperatorSign)) {
		return nil
	}
	periods, err := x.storage.Periods(ctx)
	if err != nil {
		return err
	}
	promises, err := x.storage.Commitments(ctx)
	if err != nil || len(periods) > 0 || len(promises) > 0 {
		return err
	}
	if err := os.Remove(filepath.Join(dir, pki.FileOperatorVerify)); err != nil && !errors.Is(err, fs.ErrNotExist) { // half a pair, of a crash just here
		return err
	}
	return pki.MakeOperator(dir, x.cfg.Network)
}

// Open brings a hub up to the point where Run can start it. On an error nothing is left open.
func Open(ctx context.Context, cfg Config, opt Options) (_ *Exchange, err error) {
	x, err := openDesk(ctx, cfg, opt)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	x.transport = opt.Transport
	if x.transport == nil {
		b, err := broker.Open(ctx, broker.Options{Listen: cfg.Broker, TLS: x.keys.ServerTLS(nil), Admitted: x.admitted,
			Dir: filepath.Join(opt.StateDir, brokerDir), Limits: opt.Limits, Log: x.log})
		if err != nil {
			return nil, fmt.Errorf("opening the broker: %w", err)
		}
		x.broker, x.transport = b, b
	}
	if x.intake, err = intake.Open(ctx, intake.Options{Network: cfg.Network, Store: x.storage, Edges: x, Sender: x.transport, Desk: x,
		Signer: x.keys.Cosigner, Witness: x.keys.CosignVerifier, Log: x.log}); err != nil {
		return nil, err
	}
	if x.pages, err = x.openPages(); err != nil {
		return nil, fmt.Errorf("opening the pages: %w", err)
	}
	if !opt.NoPages {
		if x.orders, err = listenControl(opt.StateDir); err != nil {
			return nil, fmt.Errorf("opening the control socket: %w", err)
		}
	}
	return x, nil
}

// Run works until ctx ends or a part fails that nothing works without. It returns after everything has stopped.
func (x *Exchange) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, x.close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	failed := make(chan error, 8)
	start := func(name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	start("intake", x.intake.Run)
	start("messages", x.pump)
	start("rosters", x.refresh)
	start("backups", x.keepBackups)
	if x.broker != nil {
		start("sessions", x.watchSessions)
	}
	if !x.opt.NoPages {
		start("control", x.control)
		start("pages", x.pages.run)
	}
	x.log.Info("hub is running", "network", x.cfg.Network, "pages", x.Addr(), "broker", x.BrokerAddr())
	select {
	case <-ctx.Done():
	case err = <-failed:
		x.log.Error("hub stops: a part failed", "err", err)
	}
	cancel()
	wg.Wait()
	return err
}

// pump hands messages to the intake. What it drops, the edges send again.
func (x *Exchange) pump(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-x.transport.Messages():
			x.intake.Offer(m.Edge, m.Payload)
		}
	}
}

// Addr is where the pages are, host:port; empty without pages.
func (x *Exchange) Addr() string {
	if x.pages == nil {
		return ""
	}
	return x.pages.addr()
}

// BrokerAddr is where edges connect; empty when the transport was given.
func (x *Exchange) BrokerAddr() string {
	if x.broker == nil {
		return ""
	}
	return x.broker.Addr().String()
}

// Roster is the newest roster document of a node, as its edges receive it.
func (x *Exchange) Roster(node string) ([]byte, bool) {
	r, ok := x.registry.Roster(node)
	return r.Document, ok
}

func (x *Exchange) close() error {
	var errs []error
	if x.orders != nil {
		_ = x.orders.Close() // Run has closed it already, unless it was never called
		x.orders = nil
	}
	if x.pages != nil {
		x.pages.close()
		x.pages = nil
	}
	if x.broker != nil {
		errs = append(errs, x.broker.Close())
		x.broker = nil
	}
	if x.storage != nil {
		errs = append(errs, x.storage.Close())
		x.storage = nil
	}
	return errors.Join(errs...)
}

// verifiers keeps each edge's parsed key: parsing costs more than looking it up for every message.
type verifiers struct {
	mu    sync.Mutex
	byKey map[string]note.Verifier
}

func (v *verifiers) of(vkey string) (note.Verifier, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if known, ok := v.byKey[vkey]; ok {
		return known, nil
	}
	parsed, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	if v.byKey == nil {
		v.byKey = map[string]note.Verifier{}
	}
	v.byKey[vkey] = parsed
	return parsed, nil
}

// Admission implements intake.Edges.
func (x *Exchange) Admission(edge string) (intake.Admission, bool) {
	e, err := x.registry.Admitted(edge)
	if e.ID == "" {
		return intake.Admission{}, false
	}
	key, parseErr := x.verifiers.of(e.Key)
	if parseErr != nil {
		x.log.Error("an edge's key in the registry cannot be read", "edge", edge, "err", parseErr)
		return intake.Admission{}, false
	}
	return intake.Admission{Node: e.Node, Verifier: key, Retired: err != nil}, true
}

// admitted says whether the certificate that an edge shows is the one it was given.
func (x *Exchange) admitted(edge string, cert *x509.Certificate) bool {
	e, err := x.registry.Admitted(edge)
	if err != nil {
		return false
	}
	return e.Cert == "" || e.Cert == pki.Fingerprint(cert)
}

// cut ends an edge's session after the registry has turned it away.
func (x *Exchange) cut(edge, why string) {
	if x.transport != nil {
		x.transport.Cut(edge, why)
	}
}

// watchSessions logs what happens at the porch. A second session with one key is worth an operator's look.
func (x *Exchange) watchSessions(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-x.broker.Events():
			level := slog.LevelInfo
			if e.Kind == broker.Duplicate || e.Kind == broker.Refused {
				level = slog.LevelWarn
			}
			x.log.Log(ctx, level, "session", "kind", e.Kind, "edge", e.Edge, "remote", e.Remote, "why", e.Why)
			x.pages.session(e)
		}
	}
}
