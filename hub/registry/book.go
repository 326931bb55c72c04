package registry

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"kith/internal/access"
)

// Book is the registry as a value in memory. It belongs to one goroutine at a time.
type Book struct {
	network   string
	nodes     map[string]Node
	edges     map[string]Edge
	members   map[string]access.Member
	cards     map[string]access.Card
	cardsOf   map[string][]string // member to card ids
	schedules map[Key]Schedule
	grants    map[Key]Grant
	closed    map[Closure]bool
	resources map[Key]Resource
	erased    erased
}

// NewBook is an empty book of a network.
func NewBook(network string) *Book {
	return &Book{
		network: network, nodes: map[string]Node{}, edges: map[string]Edge{}, members: map[string]access.Member{},
		cards: map[string]access.Card{}, cardsOf: map[string][]string{}, schedules: map[Key]Schedule{}, grants: map[Key]Grant{},
		closed: map[Closure]bool{}, resources: map[Key]Resource{}, erased: erased{names: map[access.ErasedName]bool{}, waiting: map[access.ErasedName]bool{}},
	}
}

// Refusal says why a change was not taken, in sentences for the person who asked for it.
type Refusal struct{ Problems []string }

func (r *Refusal) Error() string { return strings.Join(r.Problems, "; ") }

// Step is a change that was applied to the book: what to store, whose rosters to build again, and the way back.
type Step struct {
	Records []Record
	Nodes   []string
	Erased  bool // the names of erased people are others now
	undo    []func()
}

// Undo takes the step back, newest part first.
func (s *Step) Undo() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
	s.undo = nil
}

// Apply checks a change against the book and applies it. On a *Refusal the book is as it was.
func (b *Book) Apply(c Change, now time.Time) (*Step, error) {
	a := &applying{b: b, now: now, step: &Step{}, touched: map[string]bool{}}
	a.nodes(c)
	a.edges(c)
	a.members(c)
	a.cards(c)
	a.schedules(c)
	a.grants(c)
	a.doors(c)
	a.resources(c)
	a.drops(c)
	a.erase(c)
	if a.err == nil && len(a.problems) > 0 {
		a.err = &Refusal{Problems: a.problems}
	}
	if a.err != nil {
		a.step.Undo()
		return nil, a.err
	}
	for id := range a.touched {
		if _, ok := b.nodes[id]; ok {
			a.step.Nodes = append(a.step.Nodes, id)
		}
	}
	slices.Sort(a.step.Nodes)
	return a.step, nil
}

// Document builds the roster of one node from the book: members at home here, and those elsewhere whom a grant of this
// node names, by id or by group, while that grant has not ended; and the names of all who were erased, since anybody may have
// been anywhere. Version and Issued are left to the caller.
func (b *Book) Document(node string, now time.Time) (access.Document, error) {
	n, ok := b.nodes[node]
	if !ok {
		return access.Document{}, fmt.Errorf("building the roster of %.60q: no such node", node)
	}
	d := access.Document{Network: b.network, Node: node, Zone: n.Zone, Version: 1}
	named, groups := map[string]bool{}, map[string]bool{}
	for _, k := range b.keysAt(node) {
		g := b.grants[k]
		d.Grants = append(d.Grants, g.Grant)
		if g.Until != 0 && g.Until <= now.Unix() {
			continue
		}
		if g.Member != "" {
			named[g.Member] = true
		} else {
			groups[g.Group] = true
		}
	}
	roams := func(m *access.Member) bool {
		return named[m.ID] || slices.ContainsFunc(m.Groups, func(g string) bool { return groups[g] })
	}
	for _, m := range b.members {
		if m.Home == node || roams(&m) {
			d.Members = append(d.Members, m)
		}
	}
	slices.SortFunc(d.Members, func(x, y access.Member) int { return cmp.Compare(x.ID, y.ID) })
	here := make(map[string]bool, len(d.Members))
	for i := range d.Members {
		here[d.Members[i].ID] = true
		for _, id := range b.cardsOf[d.Members[i].ID] {
			d.Cards = append(d.Cards, b.cards[id])
		}
	}
	slices.SortFunc(d.Cards, func(x, y access.Card) int { return cmp.Compare(x.ID, y.ID) })
	// A grant that has ended for a person who is not at home here names nobody in this document any more.
	d.Grants = slices.DeleteFunc(d.Grants, func(g access.Grant) bool { return g.Member != "" && !here[g.Member] })
	for k, s := range b.schedules {
		if k.Node == node {
			d.Schedules = append(d.Schedules, s.Schedule)
		}
	}
	slices.SortFunc(d.Schedules, func(x, y access.Schedule) int { return cmp.Compare(x.ID, y.ID) })
	for c := range b.closed {
		if c.Node == node {
			d.Closed = append(d.Closed, c.Door)
		}
	}
	slices.Sort(d.Closed)
	for k, v := range b.resources {
		if k.Node == node {
			d.Resources = append(d.Resources, v.Resource)
		}
	}
	slices.SortFunc(d.Resources, func(x, y access.Resource) int { return cmp.Compare(x.ID, y.ID) })
	d.ErasureKey, d.Erased = b.erased.texts()
	return d, nil
}

func (b *Book) keysAt(node string) []Key {
	var keys []Key
	for k := range b.grants {
		if k.Node == node {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(x, y Key) int { return cmp.Compare(x.ID, y.ID) })
	return keys
}

// bare is what stands in a document's head where version and time will be. Ids cannot contain it.
const bare = `"version":0,"issued":0,`

// encode writes a document without version and time, and the hash of that: what it says.
func encode(d access.Document) ([]byte, [32]byte, error) {
	d.Version, d.Issued = 0, 0
	b, err := json.Marshal(d)
	if err == nil && !bytes.Contains(b[:min(len(b), 256)], []byte(bare)) {
		err = errors.New("a roster document without its head")
	}
	return b, sha256.Sum256(b), err
}

// dated puts version and time into what encode wrote, without writing a quarter of a million people twice.
func dated(b []byte, version uint64, issued int64) []byte {
	return bytes.Replace(b, []byte(bare), fmt.Appendf(nil, `"version":%d,"issued":%d,`, version, issued), 1)
}

func (b *Book) putCard(c access.Card) {
	if old, ok := b.cards[c.ID]; ok {
		b.unlink(old)
	}
	b.cards[c.ID] = c
	b.cardsOf[c.Member] = append(b.cardsOf[c.Member], c.ID)
}

func (b *Book) dropCard(id string) {
	b.unlink(b.cards[id])
	delete(b.cards, id)
}

func (b *Book) unlink(c access.Card) {
	rest := slices.DeleteFunc(slices.Clone(b.cardsOf[c.Member]), func(id string) bool { return id == c.ID })
	if len(rest) == 0 {
		delete(b.cardsOf, c.Member)
		return
	}
	b.cardsOf[c.Member] = rest
}

func sorted[V any](m map[string]V) []V {
	out := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}
