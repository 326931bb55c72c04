package exchange

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"kith/hub/advice"
	"kith/hub/audit"
	"kith/hub/registry"
	"kith/hub/store"
	"kith/internal/access"
	"kith/internal/event"
	"kith/internal/pki"
)

// Order is one thing an operator asks of the hub, over the control socket of a running one or directly. Exactly one field
// besides Change is set; a Change may come alone.
type Order struct {
	Change     *registry.Change `json:"change,omitempty"`
	Bundle     *BundleOrder     `json:"bundle,omitempty"`
	RevokeCard string           `json:"revoke_card,omitempty"`
	Block      string           `json:"block,omitempty"`   // member
	Unblock    string           `json:"unblock,omitempty"` // member
	List       string           `json:"list,omitempty"`    // nodes, edges, members, cards, grants, resources
	Archive    string           `json:"archive,omitempty"` // file with leaves that the hub has lost
	Release    string           `json:"release,omitempty"` // held edge whose leaves count again
	Period     *PeriodOrder     `json:"period,omitempty"`
	Publish    *ReportOrder     `json:"publish,omitempty"`
	Erase      string           `json:"erase,omitempty"` // member
	Advice     *AdviceOrder     `json:"advice,omitempty"`
	Commitment *CommitmentOrder `json:"commitment,omitempty"`
	Backup     bool             `json:"backup,omitempty"`
	Verify     bool             `json:"verify,omitempty"`
}

// BundleOrder asks for everything a new edge starts with, in a directory that must not exist yet.
type BundleOrder struct {
	Edge, Node, Name string
	Dir              string
	Hub              string // host:port under which the edge reaches the broker
}

// Answer is what came of an order.
type Answer struct {
	Rosters   []Issue             `json:"rosters,omitempty"` // new versions that follow from it
	Nodes     []registry.Node     `json:"nodes,omitempty"`
	Edges     []registry.Edge     `json:"edges,omitempty"`
	Members   []access.Member     `json:"members,omitempty"`
	Cards     []access.Card       `json:"cards,omitempty"`
	Grants    []registry.Grant    `json:"grants,omitempty"`
	Resources []registry.Resource `json:"resources,omitempty"`
	Files     []string            `json:"files,omitempty"`
	Filled    []string            `json:"filled,omitempty"`  // ranges that an archive brought back
	Unheard   []string            `json:"unheard,omitempty"` // NODE/DOOR closed of which no edge has told yet
	Periods   []PeriodState       `json:"periods,omitempty"`
	Published *Published          `json:"published,omitempty"`
	Erased    *Erasure            `json:"erased,omitempty"`
	Advice    *advice.Advice      `json:"advice,omitempty"`
	Report    *Verification       `json:"report,omitempty"`
	Error     string              `json:"error,omitempty"`

	Commitments []CommitmentState    `json:"commitments,omitempty"`
	Balance     *audit.BalanceReport `json:"balance,omitempty"`
}

// Issue is one new roster version.
type Issue struct {
	Node    string `json:"node"`
	Version uint64 `json:"version"`
}

// Do carries out one order. What it changed is durable, and offered to the connected edges, when it returns.
func (x *Exchange) Do(ctx context.Context, o Order) (Answer, error) {
	switch {
	case o.Bundle != nil:
		return x.addEdge(ctx, *o.Bundle)
	case o.RevokeCard != "":
		c, ok := x.registry.Card(o.RevokeCard)
		if !ok {
			return Answer{}, fmt.Errorf("no card %.80q; hub list cards shows them", o.RevokeCard)
		}
		c.Revoked = true
		return x.apply(ctx, registry.Change{Cards: []access.Card{c}})
	case o.Block != "" || o.Unblock != "":
		m, ok := x.registry.Member(o.Block + o.Unblock)
		if !ok {
			return Answer{}, fmt.Errorf("no member %.60q; hub list members shows them", o.Block+o.Unblock)
		}
		m.Blocked = o.Block != ""
		return x.apply(ctx, registry.Change{Members: []access.Member{m}})
	case o.Change != nil:
		a, err := x.apply(ctx, *o.Change)
		if err == nil && len(o.Change.Close) > 0 {
			a.Unheard, err = x.unheard(ctx, o.Change.Close)
		}
		return a, err
	case o.Archive != "":
		return x.archive(ctx, o.Archive)
	case o.Release != "":
		return x.release(ctx, o.Release)
	case o.Period != nil:
		return x.Period(ctx, *o.Period)
	case o.Publish != nil:
		return x.publish(ctx, *o.Publish)
	case o.Erase != "":
		return x.erase(ctx, o.Erase)
	case o.Advice != nil:
		return x.Advice(ctx, *o.Advice)
	case o.Commitment != nil:
		return x.Commitment(ctx, *o.Commitment)
	case o.Backup:
		return x.backup(ctx)
	case o.Verify:
		return x.verify(ctx)
	}
	return x.list(o.List)
}

// unheard names those of the closed doors of which no edge has told. A door may be closed before it is built; but whoever
// closes one in haste and misspells it must not believe that it is closed.
func (x *Exchange) unheard(ctx context.Context, closed []registry.Closure) ([]string, error) {
	facts, err := x.storage.Facts(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("closed; whether there is such a door could not be looked up: %w", err)
	}
	var out []string
	for _, d := range closed {
		if !slices.ContainsFunc(facts, func(f store.Fact) bool { return f.Topic == "door" && f.Node == d.Node && f.Subject == d.Door }) {
			out = append(out, d.Node+"/"+d.Door)
		}
	}
	return out, nil
}

func (x *Exchange) list(what string) (Answer, error) {
	switch what {
	case "nodes":
		return Answer{Nodes: x.registry.Nodes()}, nil
	case "edges":
		return Answer{Edges: x.registry.Edges()}, nil
	case "members":
		return Answer{Members: x.registry.Members()}, nil
	case "cards":
		return Answer{Cards: x.registry.Cards()}, nil
	case "grants":
		return Answer{Grants: x.registry.Grants()}, nil
	case "resources":
		return Answer{Resources: x.registry.Resources("")}, nil
	}
	return Answer{}, unlisted(what)
}

func unlisted(what string) error {
	return fmt.Errorf("list %.40q: want nodes, edges, members, cards, grants or resources", what)
}

// apply brings a change into force, signs the rosters that follow and lets the edges know. A retired edge is cut at once, and
// so is a session on a certificate that was replaced: nobody may go on reading rosters with what was stolen.
func (x *Exchange) apply(ctx context.Context, c registry.Change) (Answer, error) {
	before := map[string]string{}
	for _, e := range c.Edges {
		if old, err := x.registry.Admitted(e.ID); err == nil {
			before[e.ID] = old.Cert
		}
	}
	erased := x.registry.Erasures()
	rosters, err := x.registry.Apply(ctx, c, time.Now())
	if err != nil {
		return Answer{}, err
	}
	if len(c.Cards) > 0 && x.registry.Erasures() != erased {
		x.handedOut()
	}
	var a Answer
	for _, r := range rosters {
		a.Rosters = append(a.Rosters, Issue{r.Node, r.Version})
	}
	for _, edge := range c.Retire {
		x.cut(edge, "retired")
	}
	for _, e := range c.Edges {
		if old, ok := before[e.ID]; ok && old != e.Cert {
			x.cut(e.ID, "its certificate was replaced")
		}
	}
	x.announce(rosters)
	return a, nil
}

// addEdge writes the bundle first and admits the edge after: a crash between leaves a directory that opens nothing, and
// never an admitted edge whose keys nobody has.
func (x *Exchange) addEdge(ctx context.Context, o BundleOrder) (Answer, error) {
	if !event.IsID(o.Edge) {
		return Answer{}, fmt.Errorf("edge %.60q is not an id (a-z, 0-9 and -)", o.Edge)
	}
	node, ok := x.node(o.Node)
	if !ok {
		return Answer{}, fmt.Errorf("no node %.60q in the configuration", o.Node)
	}
	if o.Hub == "" {
		o.Hub = x.cfg.Broker
	}
	if _, err := os.Stat(o.Dir); err == nil {
		return Answer{}, fmt.Errorf("%s exists; name a directory that does not", o.Dir)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return Answer{}, err
	}
	issued, err := x.keys.EdgeBundle(filepath.Join(o.Dir, "identity"), o.Node, o.Edge, time.Now())
	if err != nil {
		return Answer{}, err
	}
	config := filepath.Join(o.Dir, "edge.yaml")
	if err := pki.WriteFile(config, edgeConfig(x.cfg.Network, node, o), 0o600); err != nil {
		return Answer{}, err
	}
	a, err := x.apply(ctx, registry.Change{Edges: []registry.Edge{{ID: o.Edge, Node: o.Node, Name: o.Name, Key: issued.VKey,
		Cert: issued.Fingerprint, Admitted: time.Now().Unix()}}})
	if err != nil {
		return Answer{}, errors.Join(fmt.Errorf("admitting %s (its bundle in %s is worth nothing): %w", o.Edge, o.Dir, err))
	}
	a.Files = []string{config, filepath.Join(o.Dir, "identity")}
	return a, nil
}

// edgeConfig is a first configuration that runs as it is, against a virtual board and reader, and says what to change on
// real hardware.
func edgeConfig(network string, n Node, o BundleOrder) []byte {
	return fmt.Appendf(nil, `# Made by the hub for this edge. It runs as it is with "simulator board" and "simulator reader"; on a Raspberry Pi set
# board: gpio with the pins, and pn532: spi:SPI0.0 with irq and reset. Paths are relative to this file.
network: %s
node: %s
edge: %s
zone: %s

identity: identity/
hub: %s
listen: 127.0.0.1:0          # printed at start; edge status finds it

board: unix:board.sock
doors:
  - id: front
    zones: [house]
    lock: fail-secure
    egress: mechanical
    pulse: 5s
    contact: true
    exit_button: true
    fire: true
readers:
  - id: front-in
    door: front
    direction: in
    pn532: hsu:reader.tty
`, network, n.ID, o.Edge, n.Zone, o.Hub)
}

func (x *Exchange) node(id string) (Node, bool) {
	for _, n := range x.cfg.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return Node{}, false
}
