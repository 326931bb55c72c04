package exchange

import (
	"slices"
	"testing"

	"kith/hub/broker"
	"kith/hub/registry"
)

// sessions is a transport that notes what it was asked.
type sessions struct{ did []string }

func (s *sessions) Messages() <-chan broker.Message { return nil }
func (s *sessions) Connected() []string             { return []string{"lisbon-front", "lisbon-back"} }
func (s *sessions) Cut(edge, _ string)              { s.did = append(s.did, "cut "+edge) }
func (s *sessions) Send(edge string, _ []byte) error {
	s.did = append(s.did, "send "+edge)
	return nil
}

func TestASessionOnAReplacedCertificateEndsBeforeItHearsMore(t *testing.T) {
	b := newBench(t)
	b.admit("lisbon-front")
	b.admit("lisbon-back")
	s := &sessions{}
	b.x.transport = s
	b.admit("lisbon-front") // the house has a new machine, the old one was carried off and is still connected
	if !slices.Equal(s.did, []string{"cut lisbon-front"}) {
		t.Fatalf("%q", s.did)
	}
	s.did = nil
	e := must(b.x.registry.Admitted("lisbon-back"))
	e.Name = "Back door"
	if _, err := b.x.Do(t.Context(), Order{Change: &registry.Change{Edges: []registry.Edge{e}}}); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(s.did, "cut lisbon-back") {
		t.Fatalf("another name of the same edge cost its session: %q", s.did)
	}
}
