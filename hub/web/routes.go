package web

import (
	"embed"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

//go:embed templates/*.html
var templates embed.FS

// Role says who may ask for a route. Until people have accounts only loopback can ask at all, and the table already says
// what each route will demand.
type Role string

// Roles.
const (
	Anyone  Role = "anyone"  // says nothing about people
	Host    Role = "host"    // of the node that is asked about
	Machine Role = "machine" // figures without people

	Operator Role = "operator" // of the network: sees all nodes beside each other, and signs
)

// route is one line of the table.
type route struct {
	pattern string
	role    Role
	handle  http.HandlerFunc
	stream  bool // open-ended: does not take one of the slots
	changes bool // an operator's order: a POST behind ordered; all else is GET and changes nothing
}

func (w *Web) routes() []route {
	return []route{
		{pattern: "GET /{$}", role: Host, handle: w.network},
		{pattern: "GET /node/{id}", role: Host, handle: w.node},
		{pattern: "GET /event/{edge}/{epoch}/{index}", role: Host, handle: w.event},
		{pattern: "GET /period", role: Host, handle: w.period},
		{pattern: "GET /period/{id}", role: Host, handle: w.statement},
		{pattern: "GET /period/{id}/bundle.tar", role: Host, handle: w.bundle, stream: true},
		{pattern: "GET /member/{id}", role: Host, handle: w.member},
		{pattern: "GET /board", role: Operator, handle: w.board},
		{pattern: "POST /board/accept", role: Operator, handle: w.ordered(w.accept), changes: true},
		{pattern: "POST /board/cancel", role: Operator, handle: w.ordered(w.cancel), changes: true},
		{pattern: "GET /live", role: Host, handle: w.stream, stream: true},
		{pattern: "GET /api/v1/nodes", role: Host, handle: w.apiNodes},
		{pattern: "GET /api/v1/events", role: Host, handle: w.apiEvents},
		{pattern: "GET /health", role: Machine, handle: w.o.Health.ServeHTTP},
		{pattern: "GET /readyz", role: Machine, handle: w.ready},
		{pattern: "GET /metrics", role: Machine, handle: w.o.Metrics.ServeHTTP},
		{pattern: "GET /assets/{name}", role: Anyone, handle: w.set.ServeAsset},
		{pattern: "GET /", role: Anyone, handle: w.lost},
	}
}

// mount checks the table before anything is served: a route without a declared role is a mistake that must not start.
func mount(table []route, limit ...func(http.HandlerFunc) http.HandlerFunc) (*http.ServeMux, error) {
	mux := http.NewServeMux()
	seen := map[string]bool{}
	for _, r := range table {
		switch {
		case r.role != Anyone && r.role != Host && r.role != Machine && r.role != Operator:
			return nil, fmt.Errorf("route %q declares no role", r.pattern)
		case r.handle == nil:
			return nil, fmt.Errorf("route %q has no handler", r.pattern)
		case seen[r.pattern]:
			return nil, fmt.Errorf("route %q stands twice", r.pattern)
		case r.changes && (!strings.HasPrefix(r.pattern, "POST ") || r.role != Operator):
			return nil, fmt.Errorf("route %q: what changes something is a POST of an operator", r.pattern)
		case !r.changes && !strings.HasPrefix(r.pattern, "GET "):
			return nil, fmt.Errorf("route %q: all else is GET, and GET changes nothing", r.pattern)
		}
		seen[r.pattern] = true
		h := r.handle
		if !r.stream {
			for _, l := range limit {
				h = l(h)
			}
		}
		mux.HandleFunc(r.pattern, h)
	}
	if len(seen) == 0 {
		return nil, errors.New("no routes")
	}
	return mux, nil
}

// slot bounds how many requests are answered at once, so that a flood costs others time and not the hub its memory.
func (w *Web) slot(next http.HandlerFunc) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		select {
		case w.slots <- struct{}{}:
			defer func() { <-w.slots }()
			next(rw, r)
		case <-r.Context().Done():
		}
	}
}
