package exchange

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"kith/hub/broker"
	"kith/hub/intake"
	"kith/hub/presence"
	"kith/hub/servicelog"
	"kith/hub/store"
	"kith/hub/web"
	"kith/internal/access"
	"kith/internal/event"
	"kith/internal/health"
	"kith/internal/wire"
)

// pages serves the web room with what the other rooms know.
type pages struct {
	x        *Exchange
	web      *web.Web
	tree     *health.Tree
	listener net.Listener
	periods  *periodPage

	failed, stored uint64 // of the intake, at the last look
	ill            bool

	zones map[string]*time.Location

	mu    sync.Mutex
	heard map[string]hearsay // by edge
}

// hearsay is the last word of an edge about itself.
type hearsay struct {
	at     time.Time
	epoch  event.Epoch
	size   uint64
	roster uint64
}

// Health parts of a hub.
const (
	partStore  = "database"
	partBroker = "broker"
	partIntake = "intake"
	partBackup = "backup"
	partEdges  = "edges"
)

func (x *Exchange) openPages() (*pages, error) {
	p := &pages{x: x, heard: map[string]hearsay{}, zones: map[string]*time.Location{}, tree: health.New("hub", time.Now)}
	for _, part := range [][2]string{{"hub", partStore}, {partStore, partIntake}, {partStore, partBackup}, {"hub", partBroker}, {partBroker, partEdges}} {
		if err := p.tree.Add(part[0], part[1]); err != nil {
			return nil, err
		}
	}
	for _, n := range x.cfg.Nodes {
		zone, err := time.LoadLocation(n.Zone)
		if err != nil {
			return nil, err
		}
		p.zones[n.ID] = zone
	}
	p.periods = newPeriodPage(x)
	metrics := health.NewMetrics(p.tree)
	p.measure(metrics)
	w, err := web.New(web.Options{Network: x.cfg.Name, Houses: p, Book: p, Boards: newBoardPage(x), Periods: p.periods, Health: p.tree, Metrics: metrics.Handler(), Log: x.log, Now: time.Now})
	if err != nil {
		return nil, err
	}
	p.web = w
	if x.opt.NoPages {
		return p, nil
	}
	p.listener, err = net.Listen("tcp", x.cfg.Listen)
	return p, err
}

func (p *pages) addr() string {
	if p.listener == nil {
		return ""
	}
	return p.listener.Addr().String()
}

func (p *pages) close() {
	if p.listener != nil {
		p.listener.Close()
	}
}

// calmAfter is how long after the last change readers are told once more: a receipt follows its leaves, and a draft may be
// shown for a moment after a newer one could be made.
const calmAfter = draftAge + time.Second

// run serves, and tells live readers when something new is stored or an edge comes or goes.
func (p *pages) run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- p.web.Serve(ctx, p.listener) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	calm := time.NewTimer(calmAfter)
	defer calm.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-p.x.storage.Changed():
			p.web.Changed("")
			calm.Reset(calmAfter)
		case <-calm.C:
			p.web.Changed("")
		case <-tick.C:
			p.look(ctx)
		}
	}
}

// look writes the present state of every part into the health tree.
func (p *pages) look(ctx context.Context) {
	x := p.x
	_, err := x.storage.Generation(ctx)
	p.tree.Set("hub", nil)
	p.tree.Set(partStore, err)
	if p.refusing() {
		p.tree.Set(partIntake, errors.New("the database refuses what edges send; nothing of it is acknowledged"))
	} else {
		p.tree.Set(partIntake, nil)
	}
	p.tree.Set(partBroker, nil)
	p.tree.Set(partEdges, errors.Join(p.silent(), p.forgotten()))
	x.backups.mu.Lock()
	last, at := x.backups.last, x.backups.at
	x.backups.mu.Unlock()
	if last == nil && !at.IsZero() && time.Since(at) > 3*time.Duration(x.cfg.Backup.Every) {
		last = fmt.Errorf("none since %s", at.Format(time.DateTime))
	}
	p.tree.Set(partBackup, last)
}

// refusing says whether the newest thing the database did with what edges sent was to refuse it. Only run's goroutine asks.
func (p *pages) refusing() bool {
	failed, stored := p.x.intake.Stats.FailedCommits.Load(), p.x.intake.Stats.Commits.Load()
	switch {
	case failed != p.failed:
		p.ill = true
	case stored != p.stored:
		p.ill = false
	}
	p.failed, p.stored = failed, stored
	return p.ill
}

// silentLimit is how long an admitted edge may be away before the health tree says so.
const silentLimit = 10 * time.Minute

func (p *pages) silent() error {
	connected := p.x.transport.Connected()
	var away []string
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.x.registry.Edges() {
		if e.Retired == 0 && !slices.Contains(connected, e.ID) && time.Since(p.heard[e.ID].at) > silentLimit && time.Since(time.Unix(e.Admitted, 0)) > silentLimit {
			away = append(away, e.ID)
		}
	}
	if len(away) > 0 {
		return fmt.Errorf("not heard for %s: %s", silentLimit, strings.Join(away[:min(len(away), 8)], ", "))
	}
	return nil
}

// forgotten names a node whose doors hold a newer roster than this hub: it came back from a backup that does not know it.
// The doors keep what they hold, with everything taken back in it, and take no word on its freshness from here, until
// somebody who has looked makes the next change.
func (p *pages) forgotten() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.x.registry.Edges() {
		newest, ok := p.x.registry.Roster(e.Node)
		if held := p.heard[e.ID].roster; ok && e.Retired == 0 && held > newest.Version {
			return fmt.Errorf("%s holds roster %d and this hub knows %d: it was restored. Enter again what changed at %s since the backup; "+
				"the first change brings this hub's book into force there", e.ID, held, newest.Version, e.Node)
		}
	}
	return nil
}

// said keeps what an edge last said of itself.
func (p *pages) said(edge string, m *wire.Hello) {
	p.mu.Lock()
	p.heard[edge] = hearsay{at: time.Now(), epoch: m.Epoch, size: m.Size, roster: m.Roster}
	p.mu.Unlock()
}

// session notes that an edge came or went.
func (p *pages) session(e broker.Event) {
	if e.Edge == "" {
		return
	}
	p.mu.Lock()
	h := p.heard[e.Edge]
	h.at = time.Now()
	p.heard[e.Edge] = h
	p.mu.Unlock()
	if reg, err := p.x.registry.Admitted(e.Edge); err == nil {
		p.web.Changed(reg.Node)
	}
}

func (p *pages) measure(m *health.Metrics) {
	x := p.x
	count := func(name, help string, read func() uint64) {
		m.Func(name, help, func() float64 { return float64(read()) })
	}
	count("kith_intake_leaves", "Leaves accepted since the start.", x.intake.Stats.Leaves.Load)
	count("kith_intake_messages", "Messages from edges since the start.", x.intake.Stats.Messages.Load)
	count("kith_intake_refused", "Messages refused since the start.", x.intake.Stats.Refused.Load)
	count("kith_intake_dropped", "Messages dropped because too much waited; the edges send them again.", x.intake.Stats.Dropped.Load)
	count("kith_intake_commits", "Transactions since the start.", x.intake.Stats.Commits.Load)
	count("kith_intake_failed_commits", "Transactions that failed since the start.", x.intake.Stats.FailedCommits.Load)
	count("kith_intake_receipts", "Receipts sent since the start.", x.intake.Stats.Receipts.Load)
	m.Func("kith_edges_connected", "Edges with a session now.", func() float64 { return float64(len(x.transport.Connected())) })
}

// Nodes implements web.Houses.
func (p *pages) Nodes(ctx context.Context) ([]web.Node, error) {
	x := p.x
	seen, err := x.storage.Presence(ctx, "")
	if err != nil {
		return nil, err
	}
	houses := presence.Houses(asSeen(seen), time.Now())
	facts, err := x.storage.Facts(ctx, "")
	if err != nil {
		return nil, err
	}
	logs, err := x.storage.Store.Logs(ctx)
	if err != nil {
		return nil, err
	}
	connected := x.transport.Connected()
	var out []web.Node
	for _, n := range x.cfg.Nodes {
		node := web.Node{ID: n.ID, Name: n.Name, Zone: p.zones[n.ID]}
		for _, h := range houses {
			if h.Node == n.ID {
				for _, person := range h.People {
					node.People = append(node.People, p.person(person))
				}
			}
		}
		closed := p.closed(n.ID)
		for _, f := range facts {
			if f.Node == n.ID && f.Topic == "door" {
				node.Doors = append(node.Doors, web.Door{Edge: f.Edge, ID: f.Subject, State: f.Value, Why: f.Why, At: f.At, Closed: closed[f.Subject]})
			}
		}
		for _, e := range x.registry.Edges() {
			if e.Node == n.ID {
				node.Edges = append(node.Edges, p.edge(e.ID, e.Name, e.Retired != 0, slices.Contains(connected, e.ID), logs, facts))
			}
		}
		out = append(out, node)
	}
	return out, nil
}

func (p *pages) person(in presence.Person) web.Person {
	m, _ := p.x.registry.Member(in.Member)
	out := web.Person{Member: in.Member, Name: servicelog.Named(&m), Home: m.Home, House: p.house(m.Home), Role: m.Role, Door: in.Door, At: in.At, Doubt: string(in.Doubt)}
	if m.ID == "" {
		out.Name = in.Member
	}
	return out
}

// house is the name of a node, or its id when the configuration has none.
func (p *pages) house(node string) string {
	for _, n := range p.x.cfg.Nodes {
		if n.ID == node && n.Name != "" {
			return n.Name
		}
	}
	return node
}

func (p *pages) closed(node string) map[string]bool {
	out := map[string]bool{}
	for _, door := range p.x.registry.Closed(node) {
		out[door] = true
	}
	return out
}

func (p *pages) edge(id, name string, retired, up bool, logs []store.Log, facts []store.Fact) web.Edge {
	p.mu.Lock()
	h := p.heard[id]
	p.mu.Unlock()
	e := web.Edge{ID: id, Name: name, Link: web.Never, Roster: h.roster}
	if !h.at.IsZero() {
		e.Heard, e.Link = h.at.UnixMilli(), web.Away
	}
	held := false
	for _, l := range logs {
		if l.Edge != id {
			continue
		}
		e.Epochs++
		e.Size += l.Size
		e.Backup += l.Backup
		e.Receipted += noteSize(l.Receipt)
		if l.Epoch == h.epoch && h.size > l.Size {
			e.Behind = h.size - l.Size
		}
		if s, err := intake.ParseStanding(l.Status); err == nil && s.Held {
			held = true
		}
		if e.Link == web.Never {
			e.Link = web.Away
		}
	}
	if n, ok := p.x.registry.Roster(p.nodeOf(id)); ok {
		e.RosterNewest = n.Version
	}
	switch {
	case retired:
		e.Link = web.Retired
	case held:
		e.Link = web.Held
	case up:
		e.Link = web.Connected
	}
	for _, f := range facts {
		if f.Edge != id {
			continue
		}
		switch {
		case f.Topic == "boot":
			e.Version = f.Value
		case f.Topic == "reader" && f.Value == servicelog.NoteDown:
			e.Trouble = append(e.Trouble, "reader "+f.Subject+" does not answer")
		case f.Topic == "clock" && f.Value == string(event.Unsure):
			e.Trouble = append(e.Trouble, "clock is unsure")
		case f.Topic == "storage" && f.Value != "ok":
			e.Trouble = append(e.Trouble, "disk is "+f.Value)
		case f.Topic == "tamper" && f.Value == servicelog.NoteOpen:
			e.Trouble = append(e.Trouble, "case is open")
		}
	}
	return e
}

func (p *pages) nodeOf(edge string) string {
	e, _ := p.x.registry.Admitted(edge)
	return e.Node
}

// noteSize is the size that a co-signed checkpoint covers: its second line.
func noteSize(note []byte) uint64 {
	var size uint64
	lines := strings.SplitN(string(note), "\n", 3)
	if len(lines) == 3 {
		fmt.Sscanf(lines[1], "%d", &size)
	}
	return size
}

// Lines implements web.Book.
func (p *pages) Lines(ctx context.Context, node string, before int64, limit int) ([]web.Line, error) {
	lines, err := p.x.storage.Lines(ctx, node, before, limit)
	return p.named(lines), err
}

// After implements web.Book.
func (p *pages) After(ctx context.Context, cursor string, limit int) ([]web.Line, string, error) {
	var c store.Cursor
	if cursor != "" {
		var err error
		if c, err = store.ParseCursor(cursor); err != nil {
			return nil, "", web.ErrCursor
		}
	}
	lines, next, err := p.x.storage.LinesAfter(ctx, c, limit)
	return p.named(lines), next.String(), err
}

func (p *pages) named(lines []store.Line) []web.Line {
	out := make([]web.Line, 0, len(lines))
	for _, l := range lines {
		w := web.Line{Node: l.Node, Edge: l.Edge, Epoch: l.Epoch, Index: l.Index, Kind: l.Kind, At: l.At, Clock: l.Clock, Door: l.Door,
			Direction: l.Direction, Verdict: l.Verdict, Reason: l.Reason, Assurance: l.Assurance, Member: l.Member, Note: l.Note,
			Receipted: l.Receipted, Says: servicelog.Sentence(servicelog.Line(l))}
		if m, ok := p.x.registry.Member(l.Member); ok {
			w.Name = servicelog.Named(&m)
		}
		out = append(out, w)
	}
	return out
}

// Event implements web.Book: one leaf with its "why" and its proof.
func (p *pages) Event(ctx context.Context, a web.Address) (web.Event, error) {
	at := store.Address{Edge: a.Edge, Epoch: a.Epoch, Index: a.Index}
	leaf, err := p.x.storage.Leaf(ctx, at)
	if errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrLost) {
		return web.Event{}, web.ErrUnknown
	}
	if err != nil {
		return web.Event{}, err
	}
	out := web.Event{Leaf: string(leaf)}
	part, state, err := p.x.storage.Private(ctx, at)
	if err != nil {
		return out, err
	}
	out.Private = string(state)
	var private *event.Private
	if state == store.PrivatePresent {
		if v, err := event.ParsePrivate(part.Bytes); err == nil {
			private = &v
		}
	}
	// A line that is no leaf of this address was stored as it came: hashed, and never shown as what it claims to be.
	if l, err := event.Parse(leaf); err == nil && l.Edge == a.Edge && l.Epoch == a.Epoch && l.Index == a.Index {
		out.Kind, out.Node, out.At = l.Kind, l.Node, l.At
		if line, ok := servicelog.Project(l, private); ok {
			out.HasLine = true
			out.Line = p.named([]store.Line{store.Line(line)})[0]
			out.At = line.At
			for _, s := range servicelog.Why(p.question(line, l, private, state)) {
				out.Steps = append(out.Steps, web.Step{Name: s.Name, Mark: string(s.Mark), Text: s.Text, Detail: s.Detail})
			}
		}
	}
	out.Proof, err = p.proof(ctx, at)
	out.Line.Receipted = out.Proof.Receipted
	return out, err
}

// question gathers what the registry of today knows of a tap.
func (p *pages) question(line servicelog.Line, l event.Leaf, private *event.Private, state store.PrivateState) servicelog.Question {
	l, private = servicelog.Original(l, private)
	q := servicelog.Question{Line: line, Leaf: l, Private: private, Erased: state == store.PrivateErased, Zone: p.zones[l.Node]}
	if m, ok := p.x.registry.Member(line.Member); ok {
		m.Home = p.house(m.Home)
		q.Member = &m
	}
	var tap event.TapPrivate
	if private != nil && json.Unmarshal(private.Body, &tap) == nil {
		if g, ok := p.x.registry.Grant(l.Node, tap.Grant); ok {
			q.Grant = &access.Grant{}
			*q.Grant = g.Grant
		}
		if s, ok := p.x.registry.Schedule(l.Node, tap.Rule); ok {
			q.Rule = &access.Schedule{}
			*q.Rule = s.Schedule
		}
	}
	return q
}

func (p *pages) proof(ctx context.Context, a store.Address) (web.Proof, error) {
	got, err := p.x.storage.Inclusion(ctx, a)
	if errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrLost) {
		return web.Proof{}, nil
	}
	if err != nil {
		return web.Proof{}, err
	}
	b64 := base64.StdEncoding.EncodeToString
	out := web.Proof{Receipted: true, Size: got.Size, Root: b64(got.Root[:]), Leaf: b64(got.Leaf[:]), Holds: got.Holds}
	for _, h := range got.Path {
		out.Path = append(out.Path, b64(h[:]))
	}
	return out, nil
}

func asSeen(list []store.Seen) []presence.Seen {
	out := make([]presence.Seen, len(list))
	for i, s := range list {
		out[i] = presence.Seen(s)
	}
	return out
}
