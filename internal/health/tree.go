// Package health owns the one tree that says what is well and what failed first, and the registry of metrics that tells
// machines the same.
//
// Children depend on their parent: while a parent has failed its children read "dependency failed", so the first red
// line from the top is the cause. The same tree feeds the page, health.json and the metric. It is kept in memory only
// and is rebuilt by whoever reports after a start; it never decides anything.
package health

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// State of one part.
type State string

// States. A part that has not reported is Unknown, and that counts as not ready.
const (
	OK         State = "ok"
	Failed     State = "failed"
	Dependency State = "dependency failed"
	Unknown    State = "unknown"
)

// Limits of one tree.
const (
	MaxParts = 4096 // parts
	maxDepth = 8
	maxWhy   = 200 // bytes of a reason
)

// Node is one part in a snapshot.
type Node struct {
	Name     string    `json:"name"`
	State    State     `json:"state"`
	Why      string    `json:"why,omitempty"`
	Since    time.Time `json:"since"`
	Children []Node    `json:"children,omitempty"`
}

// Tree is the living tree. Its methods may be called from any goroutine.
type Tree struct {
	mu    sync.Mutex // guards parts, for the length of one report or snapshot
	root  *part
	parts map[string]*part
	now   func() time.Time
}

type part struct {
	name     string
	parent   *part
	depth    int
	state    State
	why      string
	since    time.Time
	children []*part
}

// New makes a tree with its root part.
func New(root string, now func() time.Time) *Tree {
	r := &part{name: root, state: Unknown, since: now()}
	return &Tree{root: r, parts: map[string]*part{root: r}, now: now}
}

// Add puts a part below another. A part that is there already keeps its state.
func (t *Tree) Add(parent, name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.parts[parent]
	switch {
	case !ok:
		return fmt.Errorf("adding %q to the health tree: no part %q", name, parent)
	case t.parts[name] != nil && t.parts[name].parent == p:
		return nil
	case t.parts[name] != nil:
		return fmt.Errorf("adding %q to the health tree: it stands elsewhere", name)
	case len(t.parts) >= MaxParts || p.depth >= maxDepth:
		return fmt.Errorf("adding %q to the health tree: it is full", name)
	}
	c := &part{name: name, parent: p, depth: p.depth + 1, state: Unknown, since: t.now()}
	p.children = append(p.children, c)
	t.parts[name] = c
	return nil
}

// Remove takes a part and all below it out. The root stays.
func (t *Tree) Remove(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.parts[name]
	if !ok || p.parent == nil {
		return
	}
	p.parent.children = slices.DeleteFunc(p.parent.children, func(c *part) bool { return c == p })
	t.forget(p)
}

func (t *Tree) forget(p *part) {
	delete(t.parts, p.name)
	for _, c := range p.children {
		t.forget(c)
	}
}

// Set reports a part well (nil) or failed. Reports about parts that are not in the tree are dropped: they were removed.
func (t *Tree) Set(name string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.parts[name]
	if !ok {
		return
	}
	state, why := OK, ""
	if err != nil {
		state, why = Failed, err.Error()
		if len(why) > maxWhy {
			why = why[:maxWhy]
		}
	}
	if p.state != state {
		p.since = t.now()
	}
	p.state, p.why = state, why
}

// Snapshot is the tree now, with failures passed down.
func (t *Tree) Snapshot() Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.root.snapshot(nil)
}

func (p *part) snapshot(broken *part) Node {
	n := Node{Name: p.name, State: p.state, Why: p.why, Since: p.since}
	if broken != nil && p.state != Failed {
		n.State, n.Why = Dependency, broken.name
	}
	if p.state == Failed && broken == nil {
		broken = p
	}
	for _, c := range p.children {
		n.Children = append(n.Children, c.snapshot(broken))
	}
	return n
}

// First is the first part from the top that is not well: the cause. ok is false when all is well.
func (n Node) First() (Node, bool) {
	if n.State == Failed || n.State == Unknown {
		return n, true
	}
	for _, c := range n.Children {
		if f, bad := c.First(); bad {
			return f, true
		}
	}
	return Node{}, false
}

// Report is the body of /health.
type Report struct {
	State State  `json:"state"`
	Cause string `json:"cause,omitempty"`
	Why   string `json:"why,omitempty"`
	Tree  Node   `json:"tree"`
}

// Report says the tree and its cause.
func (t *Tree) Report() Report {
	r := Report{State: OK, Tree: t.Snapshot()}
	if f, bad := r.Tree.First(); bad {
		r.State, r.Cause, r.Why = f.State, f.Name, f.Why
	}
	return r
}

// ServeHTTP answers with the report: 200 when all is well, else 503.
func (t *Tree) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	r := t.Report()
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		http.Error(w, "the health report cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if r.State != OK {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(append(b, '\n')) // the reader went away: nobody is left to tell
}
