package exchange

import (
	"context"
	"sync"
	"time"

	"kith/hub/registry"
	"kith/internal/bulletin"
	"kith/internal/wire"
)

// Tickets: how long the hub's word on a roster lasts at an edge that hears nothing more, and how often it is renewed.
const (
	TicketLife  = 24 * time.Hour
	ticketRenew = 10 * time.Minute
)

// papers keeps the signed header of each node's newest roster and the present ticket, so that a thousand edges that
// come back at once cost one signature a node.
type papers struct {
	mu     sync.Mutex
	byNode map[string]*paper
}

type paper struct {
	roster  registry.Roster
	header  bulletin.Header
	note    []byte
	ticket  []byte
	written time.Time
}

// paper returns what to show the edges of a node; nil while the node has no roster.
func (x *Exchange) paper(node string) *paper {
	r, ok := x.registry.Roster(node)
	if !ok {
		return nil
	}
	x.papers.mu.Lock()
	defer x.papers.mu.Unlock()
	if x.papers.byNode == nil {
		x.papers.byNode = map[string]*paper{}
	}
	p := x.papers.byNode[node]
	now := time.Now()
	if p == nil || p.roster.Version != r.Version {
		h := bulletin.Describe(bulletin.Header{Network: x.cfg.Network, Node: node, Version: r.Version, Issued: r.Issued}, r.Document)
		note, err := bulletin.SignRoster(h, x.keys.Signer)
		if err != nil {
			x.log.Error("a roster could not be signed", "node", node, "version", r.Version, "err", err)
			return nil
		}
		p = &paper{roster: r, header: h, note: note}
		x.papers.byNode[node] = p
	}
	if age := now.Sub(p.written); p.ticket == nil || age > ticketRenew || age < 0 {
		// A new value: the old one may be on its way to an edge.
		fresh := *p
		ticket, err := bulletin.SignTicket(bulletin.Ticket{Network: x.cfg.Network, Node: node, RosterVersion: r.Version,
			Issued: now.Unix(), Until: now.Add(TicketLife).Unix()}, x.keys.Signer)
		if err != nil {
			x.log.Error("a ticket could not be signed", "node", node, "err", err)
			return nil
		}
		fresh.ticket, fresh.written = ticket, now
		p = &fresh
		x.papers.byNode[node] = p
	}
	return p
}

// Hello implements intake.Desk: an edge that shows an older roster is offered the newest; each is told how long it may
// rely on the one it has.
func (x *Exchange) Hello(edge, node string, m *wire.Hello) {
	x.pages.said(edge, m)
	p := x.paper(node)
	if p == nil {
		return
	}
	if m.Roster < p.roster.Version {
		x.send(edge, &wire.RosterOffer{Note: p.note})
	}
	x.send(edge, &wire.Ticket{Note: p.ticket})
}

// RosterGet implements intake.Desk. A part of a version that is no longer the newest is not sent: the offer of the newest
// is on its way.
func (x *Exchange) RosterGet(edge, node string, m *wire.RosterGet) {
	p := x.paper(node)
	if p == nil || m.Version != p.roster.Version {
		return
	}
	part := bulletin.Part(p.roster.Document, int(min(m.Part, uint64(p.header.Parts()))))
	if part == nil {
		return
	}
	x.send(edge, &wire.RosterPart{Version: m.Version, Part: m.Part, Parts: uint64(p.header.Parts()), Bytes: part})
}

// announce offers new rosters to the edges that are connected now. The others ask when they come.
func (x *Exchange) announce(rosters []registry.Roster) {
	if x.transport == nil || len(rosters) == 0 {
		return
	}
	changed := map[string]bool{}
	for _, r := range rosters {
		changed[r.Node] = true
	}
	for _, edge := range x.transport.Connected() {
		e, err := x.registry.Admitted(edge)
		if err != nil || !changed[e.Node] {
			continue
		}
		if p := x.paper(e.Node); p != nil {
			x.send(edge, &wire.RosterOffer{Note: p.note})
			x.send(edge, &wire.Ticket{Note: p.ticket})
		}
	}
}

func (x *Exchange) send(edge string, m wire.Down) {
	b, err := m.Encode()
	if err == nil {
		err = x.transport.Send(edge, b)
	}
	if err != nil {
		x.log.Debug("message to an edge not sent; it will ask", "edge", edge, "err", err)
	}
}

// refresh builds rosters again as time passes.
func (x *Exchange) refresh(ctx context.Context) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			rosters, err := x.registry.Refresh(ctx, now)
			if err != nil {
				x.log.Error("rosters were not refreshed", "err", err)
				continue
			}
			x.announce(rosters)
		}
	}
}
