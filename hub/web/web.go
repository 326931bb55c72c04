// Package web owns the hub's pages and API for hosts and operators: who is where, what happened, and why.
//
// It reads: what it shows comes through the small interfaces below. Two orders of an operator are all that it carries, to
// [Boards], and only in a form that a page of this very process made, from the same origin. Until people have
// accounts it answers on loopback only, to loopback host names only. Every route names its role in one table, and Open
// refuses a route that does not. It keeps no state but its live readers; a crash loses nothing.
package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"kith/internal/event"
	"kith/internal/page"
)

// Limits of this room.
const (
	HeaderTimeout = 5 * time.Second  // to send the request's header
	ReadTimeout   = 10 * time.Second // to send the whole request
	AnswerTimeout = 15 * time.Second // to take one answer; streams set their own per write
	IdleTimeout   = 60 * time.Second
	StopTimeout   = 3 * time.Second // for answers under way when the hub stops
	MaxHeader     = 16 << 10        // bytes of a request's header
	MaxBody       = 4 << 10         // bytes of a request's body; orders read up to MaxForm
	MaxRequests   = 64              // answered at the same time, streams apart
	HomeLines     = 40              // lines of the live list on the front page
	NodeLines     = 80              // lines of a node's page
	MaxFaces      = 7               // people drawn on a card
	MaxEvents     = 500             // events of one API answer
)

// Node is one house as it is now.
type Node struct {
	ID, Name string
	Zone     *time.Location
	People   []Person // latest first
	Doors    []Door
	Edges    []Edge
}

// Person is one who is in.
type Person struct {
	Member, Name, Home string
	House              string // name of Home
	Role               string
	Door               string
	At                 int64  // last tap, Unix milliseconds
	Doubt              string // empty: certain; else no-exit, long-ago, clock
}

// Door is the last word on one door.
type Door struct {
	Edge, ID string
	State    string
	Why      string
	At       int64
	Closed   bool // by a host, in the roster
}

// Link says whether an edge speaks with the hub.
type Link string

// Links.
const (
	Connected Link = "connected"
	Away      Link = "away"
	Never     Link = "never" // admitted, not yet heard
	Retired   Link = "retired"
	Held      Link = "held" // two histories were seen; an operator decides
)

// Edge is one appliance as the hub sees it.
type Edge struct {
	ID, Name     string
	Link         Link
	Heard        int64  // last word, Unix milliseconds; 0 = never
	Size         uint64 // leaves here
	Receipted    uint64 // of them covered by a receipt
	Behind       uint64 // leaves that the edge says it has and that are not here yet
	Backup       uint64 // leaves in a verified backup
	Epochs       int
	Roster       uint64 // version in force at the edge
	RosterNewest uint64
	Version      string
	Trouble      []string // what the edge itself reports: reader, clock, disk, tamper
}

// Line is a row of the service log with the name that the registry knows today.
type Line struct {
	Node, Edge string
	Epoch      event.Epoch
	Index      uint64
	Kind       event.Kind
	At         int64
	Clock      event.Clock
	Door       string
	Direction  string
	Verdict    string
	Reason     string
	Assurance  string
	Member     string
	Note       string
	Receipted  bool
	Name       string // of the member; empty when nobody is known
	Says       string // the sentence of the reason
}

// Step is one link of the "why".
type Step struct{ Name, Mark, Text, Detail string }

// Proof shows how far a leaf is proven.
type Proof struct {
	Receipted bool
	Size      uint64    // of the receipt
	Root      string    // base64
	Time      time.Time // of the co-signature; zero when not known
	Path      []string  // base64 hashes from the leaf up
	Leaf      string    // base64 leaf hash
	Holds     bool      // recomputed now, from stored bytes, and it leads to Root
}

// Event is all that is known about one leaf.
type Event struct {
	Line    Line
	HasLine bool // leaves that nobody needs to read have a page, but no line
	Kind    event.Kind
	Node    string
	At      int64
	Leaf    string
	Private string // none, present, erased
	Steps   []Step
	Proof   Proof
}

// Address names one leaf.
type Address struct {
	Edge  string
	Epoch event.Epoch
	Index uint64
}

// Houses tells the present. Nodes are sorted as they shall be shown.
type Houses interface {
	Nodes(ctx context.Context) ([]Node, error)
}

// Book tells the past. Lines returns the newest lines of a node by event time, of all nodes when node is empty, newest
// first, before a Unix millisecond (0 = all). After returns lines in the order of arrival with the cursor behind them; an
// unknown cursor is ErrCursor.
type Book interface {
	Lines(ctx context.Context, node string, before int64, limit int) ([]Line, error)
	After(ctx context.Context, cursor string, limit int) ([]Line, string, error)
	Event(ctx context.Context, a Address) (Event, error) // ErrUnknown
}

// Errors that Book gives.
var (
	ErrUnknown = errors.New("not known here")
	ErrCursor  = errors.New("no such cursor")
)

// Options of the pages.
type Options struct {
	Network string
	Houses  Houses
	Book    Book
	Boards  Boards
	Periods Periods
	Health  http.Handler // GET /health, 200 or 503
	Metrics http.Handler // GET /metrics
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// Web is the set of pages.
type Web struct {
	o       Options
	set     *page.Set
	pages   map[string]*template.Template
	handler http.Handler
	live    *live
	slots   chan struct{}

	downloads chan struct{}
	token     string // of every form of this process
}

// New builds the pages and checks the table of routes.
func New(o Options) (*Web, error) {
	if o.Houses == nil || o.Book == nil || o.Periods == nil || o.Health == nil || o.Metrics == nil || o.Log == nil {
		return nil, errors.New("building the pages: an option is missing")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	set, err := page.New(templates, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("building the pages: %w", err)
	}
	w := &Web{o: o, set: set, pages: map[string]*template.Template{}, live: newLive(), slots: make(chan struct{}, MaxRequests),
		downloads: make(chan struct{}, MaxDownloads)}
	for _, name := range []string{"network", "node", "event", "period", "statement", "member", "fault"} {
		if w.pages[name], err = set.Page(name); err != nil {
			return nil, fmt.Errorf("building the pages: %w", err)
		}
	}
	for _, name := range []string{"board", "board-refused"} {
		if w.pages[name], err = set.Page(name); err != nil {
			return nil, fmt.Errorf("building the pages: %w", err)
		}
	}
	if w.token, err = newToken(); err != nil {
		return nil, fmt.Errorf("building the pages: %w", err)
	}
	mux, err := mount(w.routes(), w.slot)
	if err != nil {
		return nil, fmt.Errorf("building the pages: %w", err)
	}
	guarded := http.NewCrossOriginProtection().Handler(http.MaxBytesHandler(mux, MaxBody))
	w.handler = page.Guard(loopbackHost(guarded))
	return w, nil
}

// Handler answers all routes.
func (w *Web) Handler() http.Handler { return w.handler }

// Changed tells live readers that something changed at a node; empty means everywhere. It never blocks.
func (w *Web) Changed(node string) { w.live.publish(node) }

// CheckListen refuses an address that is not loopback: these pages show who is at home, and people have no accounts yet.
func CheckListen(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("listen address %q: %w", address, err)
	}
	if isLoopback(host) {
		return nil
	}
	return fmt.Errorf("listen address %q: only loopback (127.0.0.1, ::1, localhost) is served until people have accounts; use ssh -L to look from elsewhere", address)
}

func isLoopback(host string) bool {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// loopbackHost refuses other host names: a page elsewhere whose name was pointed at this machine (DNS rebinding) would
// otherwise read these pages with a visitor's browser.
func loopbackHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !isLoopback(host) {
			http.Error(rw, "this hub answers to loopback names only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(rw, r)
	})
}

// Serve answers on a listener until ctx ends.
func (w *Web) Serve(ctx context.Context, l net.Listener) error {
	if err := CheckListen(l.Addr().String()); err != nil {
		return errors.Join(err, l.Close())
	}
	s := &http.Server{
		Handler: w.handler, ReadHeaderTimeout: HeaderTimeout, ReadTimeout: ReadTimeout, WriteTimeout: AnswerTimeout,
		IdleTimeout: IdleTimeout, MaxHeaderBytes: MaxHeader, ErrorLog: slog.NewLogLogger(w.o.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serving pages: %w", err)
	case <-ctx.Done():
	}
	w.live.close()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopTimeout)
	defer cancel()
	err := s.Shutdown(stop)
	if err != nil {
		err = errors.Join(err, s.Close())
	}
	<-done
	return err
}
