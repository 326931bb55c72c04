package demo

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"kith/edge/appliance"
	"kith/edge/door"
	"kith/edge/gate"
	"kith/edge/kiosk"
	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/pki"
)

// Timing of the week that is already there.
const (
	historyStep = 4 * time.Minute   // between two moves in the network, on average
	historyEnds = 2 * time.Minute   // before now
	lastGuest   = 100 * time.Second // before now, after all else
)

// past writes one edge's journal of a week: every tap is proved by a real card, decided by the production roster and
// recorded by the production gate; only the clock is a script's. The edge delivers it all when it first meets the hub.
type past struct {
	journal *journal.Journal
	gates   map[string]*gate.Gate
	kiosk   *kiosk.Kiosk
	machine *door.Machine
	now     time.Time
	start   time.Time
	facts   []event.Fact
	let     bool
}

// openPast prepares the edge of a bundle directory for a week that begins at start.
func openPast(ctx context.Context, cfg appliance.Config, state string, roster *access.Roster, start time.Time) (*past, error) {
	id, err := pki.OpenEdge(cfg.Identity)
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(ctx, journal.Options{Dir: state, Network: cfg.Network, Node: cfg.Node, Edge: cfg.Edge,
		Signer: id.Signer, Verifier: id.Verifier, Cosigner: id.CosignVerifier})
	if err != nil {
		return nil, err
	}
	d := cfg.Doors[0]
	p := &past{journal: j, gates: map[string]*gate.Gate{}, now: start, start: start,
		machine: door.New(door.Config{ID: d.ID, HasContact: d.Contact}.WithDefaults())}
	for _, r := range cfg.Readers {
		p.gates[r.ID] = gate.New(gate.Config{Reader: r.ID, Door: access.Door{ID: d.ID, Zones: d.Zones}, Direction: r.Direction,
			Pulse: 5 * time.Second}, gate.Rooms{
			Decide: func(q access.Query) access.Verdict {
				q.Now, q.Fresh = p.now, access.Freshness{Fresh: true}
				return roster.Decide(q)
			},
			Record:  p.record,
			Release: func(pulse time.Duration, why string) error { p.release(pulse, why); return nil },
			Say:     func(gate.Word, time.Duration) {},
			Passed:  func(string, string, time.Time) {},
			Now:     func() (time.Time, event.Clock, time.Duration) { return p.now, event.Synced, p.now.Sub(p.start) },
		})
	}
	p.openKiosk(cfg, roster)
	p.fact(event.KindBoot, event.Boot{Version: "demo history", StateDir: fmt.Sprintf("%032x", 1), Starts: 1})
	return p, nil
}

func (p *past) record(f event.Fact) <-chan error {
	p.facts = append(p.facts, f)
	done := make(chan error, 1)
	done <- nil
	return done
}

func (p *past) fact(kind event.Kind, body any) {
	b, err := event.Marshal(body)
	if err != nil {
		panic("demo: a body does not encode: " + err.Error())
	}
	p.facts = append(p.facts, event.Fact{Kind: kind, At: p.now, Mono: p.now.Sub(p.start), Clock: event.Synced, Body: b})
}

// release lets the production door machine live through one opening: somebody walks through and the door falls shut.
func (p *past) release(pulse time.Duration, why string) {
	p.let = true
	at := p.now.Sub(p.start)
	for _, in := range []struct {
		after time.Duration
		input door.Input
	}{{0, door.Release{PulseMS: int(pulse.Milliseconds()), Why: why}}, {time.Second, door.Contact{Open: true}}, {4 * time.Second, door.Contact{}}} {
		for _, out := range p.machine.Step(at+in.after, in.input) {
			if e, ok := out.(door.Event); ok {
				b, err := event.Marshal(event.Door{Door: e.Door, State: string(e.State), Why: e.Why})
				if err != nil {
					panic("demo: a door's event does not encode: " + err.Error())
				}
				p.facts = append(p.facts, event.Fact{Kind: event.KindDoor, At: p.start.Add(e.At), Mono: e.At, Clock: event.Synced, Body: b})
			}
		}
	}
}

// tap presents a card at a reader at a moment and says whether the door opened.
func (p *past) tap(ctx context.Context, now time.Time, reader string, key *ecdsa.PrivateKey) bool {
	p.now, p.let = now, false
	c := card.NewPKOCCard(key)
	target := card.Target{UID: []byte{4, 1, 2, 3, 4, 5, 6}, SAK: 0x20}
	p.gates[reader].Present(ctx, []card.Target{target}, []card.Channel{direct{c}})
	return p.let
}

// direct is a card without a reader in between.
type direct struct{ card *card.PKOCCard }

func (d direct) Transceive(_ context.Context, apdu []byte) ([]byte, error) {
	return d.card.Transceive(apdu), nil
}

// close makes the week durable.
func (p *past) close(ctx context.Context) (int, error) {
	p.now = p.now.Add(time.Minute)
	p.fact(event.KindStop, event.Stop{Why: "asked"})
	// The door's closing lies after the tap; facts of one edge stand in the order they happened.
	sort.SliceStable(p.facts, func(i, j int) bool { return p.facts[i].Mono < p.facts[j].Mono })
	const batch = 256
	for i := 0; i < len(p.facts); i += batch {
		var records []journal.Record
		for _, f := range p.facts[i:min(i+batch, len(p.facts))] {
			records = append(records, journal.Record{Kind: f.Kind, At: f.At, Mono: f.Mono, Clock: f.Clock, Body: f.Body, Private: f.Private})
		}
		if _, err := p.journal.Append(ctx, records...); err != nil {
			return i, err
		}
	}
	return len(p.facts), p.journal.Close()
}

// writeWeek lets the script live through the week before now at every edge.
func (d *demo) writeWeek(ctx context.Context, now time.Time) (int, error) {
	start := now.Add(-7 * 24 * time.Hour)
	edges := map[string]*past{}
	for _, h := range houses() {
		doc, ok := d.hub.Roster(h.id)
		if !ok {
			return 0, fmt.Errorf("the hub has no roster for %s", h.id)
		}
		parsed, err := access.ParseJSON(doc)
		if err != nil {
			return 0, err
		}
		roster, err := access.Compile(parsed)
		if err != nil {
			return 0, err
		}
		for _, e := range h.edges {
			p, err := openPast(ctx, d.configs[e.id], filepath.Join(d.dir, e.id, "state"), roster, start)
			if err != nil {
				return 0, fmt.Errorf("preparing the history of %s: %w", e.id, err)
			}
			edges[e.id] = p
		}
	}
	var err error
	seed := network().seed
	order := make([]int, len(seed))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return seed[a].at(a, now).Compare(seed[b].at(b, now)) })
	for at := start.Add(time.Minute); at.Before(now.Add(-historyEnds)); {
		if len(order) > 0 && !seed[order[0]].at(order[0], now).After(at) {
			if err := d.visit(ctx, at, &seed[order[0]], edges); err != nil {
				return 0, err
			}
			order = order[1:]
		}
		m := d.script.next(at, false)
		switch {
		case m.entry == nil:
			d.script.done(m, edges[m.edge].tap(ctx, at, m.reader, d.key(m.who)))
		case m.entry.witness < 0:
			err = edges[m.edge].enter(ctx, at, m, d.key(m.who))
		default:
			err = edges[m.edge].enter(ctx, at, m, d.key(m.who), d.key(m.entry.witness))
		}
		if err != nil {
			return 0, fmt.Errorf("an entry of the week at %s: %w", m.edge, err)
		}
		at = at.Add(time.Duration(float64(historyStep) * (0.2 + 1.6*d.script.rng.Float64())))
	}
	hs := houses()
	for i, h := range hs { // somebody from the next house is there already when you come to look
		if who := d.script.visitor(hs[(i+1)%len(hs)].id); who >= 0 {
			m := d.script.enter(who, h, "")
			d.script.done(m, edges[m.edge].tap(ctx, now.Add(-lastGuest), m.reader, d.key(who)))
		}
	}
	total := 0
	for id, p := range edges {
		n, err := p.close(ctx)
		if err != nil {
			return total, fmt.Errorf("writing the history of %s: %w", id, err)
		}
		total += n
		for _, f := range p.facts {
			if f.Kind.IsEntry() {
				d.entries++
			}
		}
	}
	return total, nil
}

// visit lets one line of the seed happen: somebody of that home comes in, unless there already, and the host of the house
// enters what they did.
func (d *demo) visit(ctx context.Context, at time.Time, v *visit, edges map[string]*past) error {
	h, ok := houseOf(v.place)
	if !ok {
		return fmt.Errorf("the seed speaks of %s, which is no house", v.place)
	}
	who, front := d.script.visitor(v.home), h.edges[0]
	if who < 0 {
		return fmt.Errorf("nobody of %s is free to go to %s", v.home, v.place)
	}
	if d.script.where[who] != h.id {
		m := d.script.enter(who, h, "")
		d.script.done(m, edges[m.edge].tap(ctx, at, m.reader, d.key(who)))
	}
	_, host := d.companions(h)
	if err := edges[front.id].host(ctx, at.Add(visitStays), d.people[who].id, v, d.key(host)); err != nil {
		return fmt.Errorf("an entry of the seed at %s: %w", h.name, err)
	}
	d.script.net.add(v.home, v.place, &v.entry)
	return nil
}
