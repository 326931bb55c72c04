// Package registry owns who and what belongs to the network: nodes, admitted edges, members, cards, grants, schedules,
// closed doors and catalogues of resources; and the roster document that follows from them for each node.
//
// The decisions are pure: Book.Apply takes values and gives values. Registry adds the one mutable state, kept in step
// with a Store: a change is in force once Apply returned nil, and after a crash it is in force wholly or not at all,
// together with the new roster versions. A version rises only when what a document says has changed, and never goes
// back. Revoking and closing are changes like any other and stand in the very next version.
//
// It never sends anything: what to publish is in the answer. It never puts a person into a roster of a node where that
// person has no right. Nor does it forget whom it erased: of these it keeps names that tell nobody who they were, and hands
// them to every node, so that no edge and no late message brings anything about them back.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"kith/internal/access"
)

// Node is one place.
type Node struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Zone string `json:"zone"` // IANA name
}

// Edge is one appliance. Key is its note verifier key; times are Unix seconds.
type Edge struct {
	ID       string `json:"id"`
	Node     string `json:"node"`
	Name     string `json:"name,omitempty"`
	Key      string `json:"key"`
	Cert     string `json:"cert,omitempty"` // SHA-256 of the one certificate it may connect with, hex; empty: any of the network for this id
	Admitted int64  `json:"admitted"`
	Retired  int64  `json:"retired,omitempty"`
}

// Grant is a grant at one node.
type Grant struct {
	Node string `json:"node"`
	access.Grant
}

// Schedule is a schedule of one node.
type Schedule struct {
	Node string `json:"node"`
	access.Schedule
}

// Closure is a door that a host closed.
type Closure struct {
	Node string `json:"node"`
	Door string `json:"door"`
}

// Resource is a kind of thing in the catalogue of one node.
type Resource struct {
	Node string `json:"node"`
	access.Resource
}

// Key names a thing of one node.
type Key struct{ Node, ID string }

// Change is what is to become true, all of it or nothing. The lists are applied in the order of the fields.
type Change struct {
	Nodes         []Node
	Edges         []Edge
	Retire        []string // edges
	Members       []access.Member
	Cards         []access.Card
	Schedules     []Schedule
	Grants        []Grant
	Close         []Closure
	Open          []Closure
	Resources     []Resource
	DropGrants    []Key
	DropSchedules []Key
	DropCards     []string
	DropMembers   []string // and with them their cards and grants
	DropResources []Key
	Erase         []Erasing
	Recall        *Memory
}

// Roster is one version of a node's document.
type Roster struct {
	Node     string
	Version  uint64
	Issued   int64
	Content  [32]byte // hash of what the document says, without version and time
	Document []byte   // access.Document as JSON; nil in versions that are no longer the newest
}

// Record is how a thing is stored: the kinds are the Kind constants, Body nil removes it.
type Record struct {
	Kind string
	ID   string
	Body []byte
}

// Kinds of records.
const (
	KindNode     = "places"
	KindEdge     = "edges"
	KindMember   = "members"
	KindCard     = "cards"
	KindGrant    = "grants"
	KindSchedule = "schedules"
	KindClosure  = "closures"
	KindResource = "resources"
	KindErased   = "erased"
)

// Store keeps records and rosters. Save is one durable transaction: nil means all of it survives a power cut, an error
// means none of it is there. Save refuses a roster version that is not above the newest.
type Store interface {
	Records(ctx context.Context, kind string) ([]Record, error)
	Rosters(ctx context.Context) ([]Roster, error)
	Save(ctx context.Context, records []Record, rosters []Roster) error
}

// Registry is the book in force. Methods may be called from any goroutine; changes queue.
type Registry struct {
	store Store
	mu    sync.RWMutex // guards book and rosters; held for writing through one Save
	book  *Book
	now   map[string]Roster

	erased atomic.Pointer[access.Erasures] // as the book has them; whoever stores private parts asks for each batch
}

// Open reads the book from its store.
func Open(ctx context.Context, network string, store Store) (*Registry, error) {
	r := &Registry{store: store, book: NewBook(network), now: map[string]Roster{}}
	for _, load := range []struct {
		kind string
		put  func(*Book, []byte) error
	}{
		{KindNode, read(func(b *Book, v Node) { b.nodes[v.ID] = v })},
		{KindEdge, read(func(b *Book, v Edge) { b.edges[v.ID] = v })},
		{KindMember, read(func(b *Book, v access.Member) { b.members[v.ID] = v })},
		{KindCard, read(func(b *Book, v access.Card) { b.putCard(v) })},
		{KindSchedule, read(func(b *Book, v Schedule) { b.schedules[Key{v.Node, v.ID}] = v })},
		{KindGrant, read(func(b *Book, v Grant) { b.grants[Key{v.Node, v.ID}] = v })},
		{KindClosure, read(func(b *Book, v Closure) { b.closed[v] = true })},
		{KindResource, read(func(b *Book, v Resource) { b.resources[Key{v.Node, v.ID}] = v })},
		{KindErased, loadErased},
	} {
		records, err := store.Records(ctx, load.kind)
		if err != nil {
			return nil, fmt.Errorf("opening the registry: %w", err)
		}
		for _, rec := range records {
			if err := load.put(r.book, rec.Body); err != nil {
				return nil, fmt.Errorf("opening the registry: %s %q: %w", load.kind, rec.ID, err)
			}
		}
	}
	if err := r.book.erased.begin(); err != nil {
		return nil, fmt.Errorf("opening the registry: %w", err)
	}
	r.erased.Store(r.book.erased.list())
	rosters, err := store.Rosters(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening the registry: %w", err)
	}
	for _, v := range rosters {
		r.now[v.Node] = v
	}
	return r, nil
}

func read[T any](put func(*Book, T)) func(*Book, []byte) error {
	return func(b *Book, body []byte) error {
		var v T
		if err := json.Unmarshal(body, &v); err != nil {
			return err
		}
		put(b, v)
		return nil
	}
}

// Apply brings a change into force and returns the new roster versions that follow from it, to be signed and offered.
// A *Refusal says what a host should mend; nothing has changed then.
func (r *Registry) Apply(ctx context.Context, c Change, now time.Time) ([]Roster, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	step, err := r.book.Apply(c, now)
	if err != nil {
		return nil, err
	}
	rosters, err := r.next(step.Nodes, now)
	if err == nil && len(step.Records)+len(rosters) > 0 {
		err = r.store.Save(ctx, step.Records, rosters)
	}
	if err != nil {
		step.Undo()
		return nil, fmt.Errorf("changing the registry: %w", err)
	}
	for _, v := range rosters {
		r.now[v.Node] = v
	}
	if step.Erased {
		r.erased.Store(r.book.erased.list())
	}
	return rosters, nil
}

// Refresh builds every document again and returns those that changed: roaming people leave a node's roster once their
// last grant there has ended.
func (r *Registry) Refresh(ctx context.Context, now time.Time) ([]Roster, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for id := range r.book.nodes {
		all = append(all, id)
	}
	rosters, err := r.next(all, now)
	if err == nil && len(rosters) > 0 {
		err = r.store.Save(ctx, nil, rosters)
	}
	if err != nil {
		return nil, fmt.Errorf("refreshing rosters: %w", err)
	}
	for _, v := range rosters {
		r.now[v.Node] = v
	}
	return rosters, nil
}

// next makes the next version of each named node whose document says something new.
func (r *Registry) next(nodes []string, now time.Time) ([]Roster, error) {
	var all []Roster
	for _, id := range nodes {
		d, err := r.book.Document(id, now)
		if err != nil {
			return nil, err
		}
		plain, content, err := encode(d)
		if err != nil {
			return nil, err
		}
		old, ok := r.now[id]
		if ok && old.Content == content {
			continue
		}
		d.Version, d.Issued = above(old.Version, now), now.Unix()
		if _, err := access.Compile(d); err != nil {
			// What an edge would refuse must not be published; the words name the field.
			return nil, &Refusal{Problems: []string{err.Error()}}
		}
		b := dated(plain, d.Version, d.Issued)
		if len(b) > access.MaxDocumentBytes {
			return nil, &Refusal{Problems: []string{fmt.Sprintf("the roster of %s would have %d bytes, the limit is %d", id, len(b), access.MaxDocumentBytes)}}
		}
		all = append(all, Roster{Node: id, Version: d.Version, Issued: d.Issued, Content: content, Document: b})
	}
	return all, nil
}

// above is the next version: the time in milliseconds, which no operator's script outruns, or one more than the last. A hub
// that came back from an older backup has forgotten versions that doors hold, and doors never go back. Time has gone on
// meanwhile: what such a hub takes back next is above everything it ever said, and never a second document of one version.
func above(last uint64, now time.Time) uint64 {
	return max(last+1, uint64(max(now.UnixMilli(), 0)))
}

// Roster returns the newest document of a node.
func (r *Registry) Roster(node string) (Roster, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	v, ok := r.now[node]
	return v, ok
}

// ErrNotAdmitted is the answer for an edge that was never admitted, or was retired.
var ErrNotAdmitted = errors.New("this edge is not admitted")

// Admitted returns an edge that may speak.
func (r *Registry) Admitted(edge string) (Edge, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.book.edges[edge]
	switch {
	case !ok:
		return Edge{}, fmt.Errorf("edge %.60q: %w", edge, ErrNotAdmitted)
	case e.Retired != 0:
		return e, fmt.Errorf("edge %s was retired: %w", edge, ErrNotAdmitted)
	}
	return e, nil
}

// Edges returns every edge, retired ones too, by id.
func (r *Registry) Edges() []Edge {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sorted(r.book.edges)
}

// Nodes returns every node by id.
func (r *Registry) Nodes() []Node {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sorted(r.book.nodes)
}

// Member finds a person.
func (r *Registry) Member(id string) (access.Member, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m, ok := r.book.members[id]
	return m, ok
}

// Grant finds a grant of a node.
func (r *Registry) Grant(node, id string) (Grant, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	g, ok := r.book.grants[Key{node, id}]
	return g, ok
}

// Schedule finds a schedule of a node.
func (r *Registry) Schedule(node, id string) (Schedule, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.book.schedules[Key{node, id}]
	return s, ok
}

// Len is the number of members, cards and grants in the network.
func (r *Registry) Len() (members, cards, grants int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.book.members), len(r.book.cards), len(r.book.grants)
}
