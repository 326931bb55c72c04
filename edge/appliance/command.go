package appliance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"kith/internal/command"
	"kith/internal/health"
	"kith/internal/journal"
	"kith/internal/pki"
)

// Names and limits of what a run leaves in its state directory.
const (
	addrFile     = "listen"                // where the pages of the running edge are
	lastGoodFile = "config.last-good.yaml" // the configuration of the last good start
	DefaultPages = "127.0.0.1:8081"        // of a run whose configuration cannot be read; any free port if it is taken
	statusLimit  = 1 << 20                 // bytes of a status answer
	statusWait   = 5 * time.Second         // for a running edge to answer
)

// Program is the command line of the edge.
func Program(version string) command.Program {
	return command.Program{Name: "edge", About: "the appliance of one house (version " + version + ")", Verbs: []command.Verb{
		{Name: "run", Args: "[--config FILE] [--state-dir DIR] [--log text|json]", Help: "work until told to stop", Run: runVerb(version)},
		{Name: "status", Args: "[--config FILE] [--state-dir DIR] [--json]", Help: "the health of the running edge", Run: statusVerb},
		{Name: "verify", Args: "[--config FILE] [--state-dir DIR] [--json]", Help: "recompute the whole journal and name the first difference", Run: verifyVerb},
		{Name: "erase", Args: "[--config FILE] ID...", Help: "what to put into the roster file of an edge without a hub so that it forgets a member or card", Run: eraseVerb},
		{Name: "entry add", Args: "[--config FILE] --action VERB --resource R --quantity N --reader READER [--json] ...", Help: "enter what was done or used, and wait for the card", Run: entryAddVerb},
		{Name: "entry list", Args: "[--config FILE] [--limit N] [--json]", Help: "the newest entries of this edge", Run: entryListVerb},
	}}
}

// place are the flags all verbs share.
type place struct {
	config, state string
	json          bool
	log           string
	debug         bool
}

func parse(s command.Streams, verb string, args []string) (place, int, bool) {
	var p place
	f := command.Flags(s, "edge "+verb)
	f.StringVar(&p.config, "config", "edge.yaml", "configuration `FILE`")
	f.StringVar(&p.state, "state-dir", "", "`DIR` of the journal; default: state/ beside the configuration")
	if verb == "run" {
		f.StringVar(&p.log, "log", "text", "text or json, to standard error")
		f.BoolVar(&p.debug, "debug", false, "log more")
	} else {
		f.BoolVar(&p.json, "json", false, "print JSON")
	}
	_, code, ok := command.Parse(s, f, args, 0)
	if p.state == "" {
		p.state = filepath.Join(filepath.Dir(p.config), "state")
	}
	return p, code, ok
}

func runVerb(version string) func(context.Context, command.Streams, []string) int {
	return func(ctx context.Context, s command.Streams, args []string) int {
		p, code, ok := parse(s, "run", args)
		if !ok {
			return code
		}
		boundMemory()
		log := logger(s.Err, p)
		a, err := begin(ctx, p, Options{StateDir: p.state, Version: version, Log: log})
		switch {
		case err != nil && ctx.Err() != nil: // told to stop before it had begun
			return command.OK
		case err != nil:
			return command.Fail(s, "edge run", err)
		}
		if err := pki.WriteFile(filepath.Join(p.state, addrFile), []byte(a.Addr()+"\n"), 0o600); err != nil {
			log.Warn("the address of the pages was not written down; edge status will not find it", "err", err)
		}
		fmt.Fprintf(s.Out, "edge %s of %s is running; health at http://%s/health, kiosk at http://%s/kiosk\n", a.cfg.Edge, a.cfg.Node, a.Addr(), a.Addr())
		if err := a.Run(ctx); err != nil {
			return command.Fail(s, "edge run", err)
		}
		return command.OK
	}
}

func logger(w io.Writer, p place) *slog.Logger {
	opt := &slog.HandlerOptions{}
	if p.debug {
		opt.Level = slog.LevelDebug
	}
	if p.log == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

func statusVerb(ctx context.Context, s command.Streams, args []string) int {
	p, code, ok := parse(s, "status", args)
	if !ok {
		return code
	}
	well, err := health.Ask(ctx, filepath.Join(p.state, addrFile), s.Out, p.json)
	switch {
	case err != nil:
		return command.Fail(s, "edge status", err)
	case !well:
		return command.Failed
	}
	return command.OK
}

func verifyVerb(ctx context.Context, s command.Streams, args []string) int {
	p, code, ok := parse(s, "verify", args)
	if !ok {
		return code
	}
	cfg, err := Load(p.config)
	if err != nil {
		return command.Fail(s, "edge verify", err)
	}
	a := &Appliance{cfg: cfg, clock: TrustedClock()}
	if err := a.openIdentity(ctx); err != nil {
		return command.Fail(s, "edge verify", err)
	}
	report, err := journal.Verify(ctx, journal.Options{Dir: p.state, Network: cfg.Network, Node: cfg.Node, Edge: cfg.Edge,
		Signer: a.keys.signer, Verifier: a.keys.verifier, Cosigner: a.keys.witness})
	if err != nil {
		return command.Fail(s, "edge verify", err)
	}
	if p.json {
		e := json.NewEncoder(s.Out)
		e.SetIndent("", "  ")
		if err := e.Encode(report); err != nil {
			return command.Fail(s, "edge verify", err)
		}
	} else {
		printReport(s.Out, report)
	}
	if !report.OK {
		return command.Failed
	}
	return command.OK
}

func printReport(w io.Writer, r journal.Report) {
	for _, e := range r.Epochs {
		fmt.Fprintf(w, "%s/%s/%s epoch %.8s: %d leaves, %d recomputed, %d private parts match, %d erased, signed to %d, receipted to %d\n",
			r.Network, r.Node, r.Edge, e.Epoch, e.Size, e.Leaves, e.Private, e.Erased, e.Signed, e.Receipt)
	}
	if r.OK {
		fmt.Fprintln(w, "verified: every leaf, hash, signature and receipt is what it was")
		return
	}
	fmt.Fprintf(w, "NOT VERIFIED: %+v\n", *r.First)
}
