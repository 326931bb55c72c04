package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"kith/hub/store"
	"kith/internal/command"
	"kith/internal/pki"
	"kith/internal/settings"
)

func runVerb(version string) func(context.Context, command.Streams, []string) int {
	return func(ctx context.Context, s command.Streams, args []string) int {
		f := command.Flags(s, "hub run")
		p := placeFlags(f)
		f.StringVar(&p.log, "log", "text", "text or json, to standard error")
		f.BoolVar(&p.debug, "debug", false, "log more")
		if _, code, ok := command.Parse(s, f, args, 0); !ok {
			return code
		}
		p.fill()
		log := logger(s.Err, p)
		cfg, err := Load(p.config)
		if err != nil {
			if cfg, err = waitForConfig(ctx, p, err, log); err != nil {
				if ctx.Err() == nil {
					return command.Fail(s, "hub run", err)
				}
				return command.OK // told to stop while waiting
			}
		}
		x, err := Open(ctx, cfg, Options{StateDir: p.state, Version: version, Log: log})
		if err != nil {
			return command.Fail(s, "hub run", err)
		}
		if err := pki.WriteFile(filepath.Join(p.state, addrFile), []byte(x.Addr()+"\n"), 0o600); err != nil {
			log.Warn("the address of the pages was not written down; hub status will not find it", "err", err)
		}
		fmt.Fprintf(s.Out, "hub of %s is running; page at http://%s/ , edges connect to %s\n", cfg.Network, x.Addr(), x.BrokerAddr())
		if err := x.Run(ctx); err != nil {
			return command.Fail(s, "hub run", err)
		}
		return command.OK
	}
}

// waitForConfig shows what is wrong where a browser looks for the hub, until it is right or ctx ends.
func waitForConfig(ctx context.Context, p *place, trouble error, log *slog.Logger) (Config, error) {
	w := &waiting{path: p.config}
	w.trouble.Store(&trouble)
	l, err := net.Listen("tcp", DefaultListen)
	if err != nil { // another program has it; the log says where the page is
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return Config{}, fmt.Errorf("the page of a configuration that cannot be used: %w", errors.Join(err, trouble))
	}
	log.Error("configuration cannot be used; nothing runs until it is mended, it is read again every 2 s",
		"err", trouble, "page", "http://"+l.Addr().String())
	notice := &http.Server{Handler: w, ReadHeaderTimeout: statusWait}
	go func() { _ = notice.Serve(l) }() // ends with Close
	defer notice.Close()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return Config{}, ctx.Err()
		case <-tick.C:
			cfg, ready, changed := w.look()
			if ready {
				return cfg, nil
			}
			if changed {
				log.Error("configuration still cannot be used", "err", *w.trouble.Load())
			}
		}
	}
}

// waiting is the page of a hub whose configuration cannot be used. It says what the file's newest reading found: whoever has
// mended one mistake must see the next one, not the old one again.
type waiting struct {
	path    string
	trouble atomic.Pointer[error] // requests read it while the file is read again
}

// look reads the file again. It is ready when the configuration can be used, changed when something else is wrong with it.
func (w *waiting) look() (cfg Config, ready, changed bool) {
	cfg, err := Load(w.path)
	if err == nil {
		return cfg, true, false
	}
	old := *w.trouble.Swap(&err)
	return Config{}, false, old.Error() != err.Error()
}

func verifyVerb(ctx context.Context, s command.Streams, args []string) int {
	if bundles, operator, asJSON, err := bundleArgs(args); len(bundles) > 0 {
		if err != nil {
			fmt.Fprintf(s.Err, "hub verify: %v\n", err)
			return command.Usage
		}
		return verifyFiles(s, bundles, operator, asJSON)
	}
	return report(ctx, s, "verify", args, Order{Verify: true})
}

func backupVerb(ctx context.Context, s command.Streams, args []string) int {
	return report(ctx, s, "backup", args, Order{Backup: true})
}

func report(ctx context.Context, s command.Streams, verb string, args []string, o Order) int {
	f := command.Flags(s, "hub "+verb)
	p := answerFlags(f)
	if _, code, ok := command.Parse(s, f, args, 0); !ok {
		return code
	}
	p.fill()
	a, err := give(ctx, p, o)
	if err != nil {
		return command.Fail(s, "hub "+verb, err)
	}
	printAnswer(s.Out, a, p.json)
	if a.Report != nil && !a.Report.OK {
		return command.Failed
	}
	return command.OK
}

// exportVerb streams every leaf. It asks the running hub over the control socket, or reads the database itself.
func exportVerb(ctx context.Context, s command.Streams, args []string) int {
	f := command.Flags(s, "hub export")
	p := placeFlags(f)
	if _, code, ok := command.Parse(s, f, args, 0); !ok {
		return code
	}
	p.fill()
	err := fetchExport(ctx, p.state, s.Out)
	if errors.Is(err, errNotRunning) {
		err = exportHere(ctx, p, s.Out)
	}
	if err != nil {
		return command.Fail(s, "hub export", err)
	}
	return command.OK
}

func exportHere(ctx context.Context, p *place, w io.Writer) error {
	cfg, err := Load(p.config)
	if err != nil {
		return err
	}
	x, err := openDesk(ctx, cfg, Options{StateDir: p.state, existing: true})
	if err != nil {
		return err
	}
	return errors.Join(x.storage.Export(ctx, w), x.close())
}

// restoreVerb makes the database of a state directory from a backup. The keys are not in a backup: they are copied apart, to
// a place as safe as the network is worth.
func restoreVerb(ctx context.Context, s command.Streams, args []string) int {
	f := command.Flags(s, "hub restore")
	p := answerFlags(f)
	plain, code, ok := command.Parse(s, f, args, 1)
	if !ok {
		return code
	}
	p.fill()
	if len(plain) != 1 {
		fmt.Fprintln(s.Err, "hub restore: name the backup file")
		return command.Usage
	}
	cfg, err := Load(p.config)
	if err != nil {
		return command.Fail(s, "hub restore", err)
	}
	if err := restore(ctx, cfg, p.state, plain[0]); err != nil {
		return command.Fail(s, "hub restore", err)
	}
	if p.json {
		printAnswer(s.Out, Answer{Files: []string{filepath.Join(p.state, store.FileName)}}, true)
		return command.OK
	}
	fmt.Fprintf(s.Out, "restored %s from %s; edges will send again what it lacks\n", p.state, plain[0])
	if list := filepath.Join(p.state, memoryFile); !stands(list) {
		fmt.Fprintf(s.Out, "there is no %s: if this network ever erased anybody, put the lost hub's there before this one starts, "+
			"or order again whatever was erased since that backup\n", list)
	}
	if key := filepath.Join(p.state, keysDir, pki.FileOperatorSign); !stands(key) {
		fmt.Fprintf(s.Out, "there is no %s: doors and journals do without, but no period can be closed until the lost hub's is put there\n", key)
	}
	return command.OK
}

func stands(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}

// restore refuses to make keys: under a new authority no edge of the network could ever connect again, and nobody would send
// what the backup lacks.
func restore(ctx context.Context, cfg Config, state, file string) error {
	keys := filepath.Join(state, keysDir)
	if _, err := os.Stat(keys); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there are no keys in %s, and a backup holds none: copy the directory %s/ of the lost hub there, from its "+
			"state directory or from where you put it away, with its file modes (cp -a); without it no edge could connect again", keys, keysDir)
	} else if err != nil {
		return err
	}
	x := &Exchange{cfg: cfg, opt: Options{StateDir: state}, log: slog.New(slog.DiscardHandler)}
	if err := x.openKeys(); err != nil {
		return err
	}
	return store.Restore(ctx, file, storeOptions(state, cfg.Network), x.checks())
}

// ServeHTTP says what is wrong with the configuration.
func (w *waiting) ServeHTTP(rw http.ResponseWriter, _ *http.Request) {
	trouble := *w.trouble.Load()
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	rw.Header().Set("Cache-Control", "no-store")
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	rw.WriteHeader(http.StatusServiceUnavailable)
	text := trouble.Error()
	var bad *settings.Error
	if errors.As(trouble, &bad) {
		text = bad.File + "\n  " + strings.Join(bad.Lines, "\n  ")
	}
	fmt.Fprintf(rw, "This hub is not running.\n\nIts configuration cannot be used:\n\n  %s\n\nMend the file; it is read again every 2 seconds.\n", text)
}
