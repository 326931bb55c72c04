package registry

import (
	"cmp"
	"slices"

	"kith/internal/access"
)

// Members returns every person by id.
func (r *Registry) Members() []access.Member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sorted(r.book.members)
}

// Card finds a card by its id text.
func (r *Registry) Card(id string) (access.Card, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.book.cards[id]
	return c, ok
}

// Cards returns every card by id.
func (r *Registry) Cards() []access.Card {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sorted(r.book.cards)
}

// Grants returns every grant by node and id.
func (r *Registry) Grants() []Grant {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]Grant, 0, len(r.book.grants))
	for _, n := range sorted(r.book.nodes) {
		for _, k := range r.book.keysAt(n.ID) {
			out = append(out, r.book.grants[k])
		}
	}
	return out
}

// Resources returns every catalogue entry by node and id; of one node when it is named.
func (r *Registry) Resources(node string) []Resource {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []Resource
	for k, v := range r.book.resources {
		if node == "" || k.Node == node {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(x, y Resource) int {
		return cmp.Or(cmp.Compare(x.Node, y.Node), cmp.Compare(x.ID, y.ID))
	})
	return out
}

// Closed returns the doors of a node that a host closed, by id.
func (r *Registry) Closed(node string) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []string
	for c := range r.book.closed {
		if c.Node == node {
			out = append(out, c.Door)
		}
	}
	slices.Sort(out)
	return out
}
