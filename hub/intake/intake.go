// Package intake owns what the hub believes of every edge's journal: it proves leaves, checkpoints and commitments,
// stores them through the store in one transaction, and only then co-signs. The co-signature is the one acknowledgement
// there is.
//
// Promises. What was co-signed was durable before the co-signature left; one root is co-signed per edge, epoch and size,
// and sizes only grow within one generation; a second history becomes evidence and never replaces the first; a range that
// is lost stays visible. A crash at any point costs at most answers, which the edges ask for again.
//
// It never projects, never decides about people, and never trusts an edge about anything but what the edge's own key has
// signed. Decisions are Edge.Step, a pure function; this file is the shell around it: a front that checks signatures in
// parallel and one goroutine that owns all states.
package intake

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"kith/internal/event"
	"kith/internal/wire"
)

const (
	flushEvery  = time.Second     // how long a receipt may wait to be told to the store
	reloadEvery = time.Second     // how often state is read again after a failed commit
	maxCommands = 64              // commands waiting
	giveUpAfter = 3               // single commits that fail before the rest of a failed group waits for its edges to repeat
	slowCommit  = 5 * time.Second // worth a line in the log
)

// Edges answers who may deliver. It is asked for every message and must answer from memory.
type Edges interface {
	Admission(edge string) (Admission, bool)
}

// Sender carries an answer down. It must not block; what it drops the edge will ask for again.
type Sender interface {
	Send(edge string, payload []byte) error
}

// Desk hears what is not about leaves. Its calls must not block.
type Desk interface {
	Hello(edge, node string, m *wire.Hello)
	RosterGet(edge, node string, m *wire.RosterGet)
}

// Options of an intake. All but Desk and Log are required.
type Options struct {
	Network string
	Store   Store
	Edges   Edges
	Sender  Sender
	Desk    Desk
	Signer  note.Signer   // the hub's witness key: cosignature/v1
	Witness note.Verifier // its public half
	Log     *slog.Logger

	// For a simulator, which must be the same on every run: Serial does without Run, Offer and goroutines that own
	// anything; Word is the random word of this start; Now is the clock.
	Serial bool
	Word   string
	Now    func() time.Time
	// Broken switches on deliberate defects; tests prove with them that the checks can fail.
	Broken Defects
}

// Stats counts since start.
type Stats struct {
	Messages, Dropped, Refused, Ignored, Leaves, Commits, FailedCommits, Receipts atomic.Uint64
}

// Intake is made by Open and works while Run runs. Offer may be called from anywhere.
type Intake struct {
	Stats Stats

	opt      Options
	keys     Keys
	ground   Ground
	queue    *queue
	commands chan func(context.Context)

	// The goroutine of Run owns what follows.
	edges   map[string]Edge
	owners  map[event.Epoch]string // which edge started an epoch
	dirty   map[string]bool        // edges with receipts that the store has not been told
	failing bool
	reload  bool
	read    time.Time
}

// Open reads the known logs and the generation.
func Open(ctx context.Context, o Options) (*Intake, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Store == nil || o.Edges == nil || o.Sender == nil || o.Signer == nil || o.Witness == nil || !event.IsID(o.Network) {
		return nil, errors.New("opening intake: network, store, edges, sender and witness key are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Word == "" {
		var run [4]byte
		rand.Read(run[:])
		o.Word = hex.EncodeToString(run[:])
	}
	in := &Intake{opt: o, keys: Keys{Network: o.Network, Witness: o.Witness}, queue: newQueue(),
		commands: make(chan func(context.Context), maxCommands), dirty: map[string]bool{}}
	var err error
	if in.ground.Generation, err = o.Store.Generation(ctx); err != nil {
		return nil, fmt.Errorf("opening intake: %w", err)
	}
	in.ground.Run, in.ground.Broken = o.Word, o.Broken
	if err := in.load(ctx); err != nil {
		return nil, fmt.Errorf("opening intake: %w", err)
	}
	return in, nil
}

// load takes the states from the store. What lives in memory only, the starts seen, is carried over.
func (in *Intake) load(ctx context.Context) error {
	logs, err := in.opt.Store.Logs(ctx)
	if err != nil {
		return fmt.Errorf("reading logs: %w", err)
	}
	fresh, owners := Group(logs)
	for id, old := range in.edges {
		e, ok := fresh[id]
		if !ok {
			e = NewEdge(id, old.Node, nil)
		}
		e.turn, e.boots = old.turn, old.boots
		for i := range e.Logs {
			// The store may lack the edge's note of a head that was reached just before.
			if l := old.find(e.Logs[i].Epoch); l != nil && l.Size == e.Logs[i].Size && e.Logs[i].Checkpoint == nil {
				e.Logs[i].Checkpoint = l.Checkpoint
			}
		}
		fresh[id] = e
	}
	in.edges, in.owners = fresh, owners
	return nil
}

// Group sorts stored logs by edge and tells who started each epoch.
func Group(logs []Log) (map[string]Edge, map[event.Epoch]string) {
	byEdge := map[string][]Log{}
	owners := map[event.Epoch]string{}
	for _, l := range logs {
		l.receipted = noteSize(l.Receipt)
		if l.Checkpoint == nil && l.receipted == l.Size {
			l.Checkpoint = l.Receipt
		}
		byEdge[l.Edge] = append(byEdge[l.Edge], l)
		owners[l.Epoch] = l.Edge
	}
	edges := make(map[string]Edge, len(byEdge))
	for id, list := range byEdge {
		edges[id] = NewEdge(id, list[0].Node, list)
	}
	return edges, owners
}

// Offer queues a message. False: it was dropped, because this edge or all edges have too much waiting.
func (in *Intake) Offer(edge string, payload []byte) bool {
	in.Stats.Messages.Add(1)
	if len(payload) > wire.MaxMessage || !in.queue.offer(edge, payload) {
		in.Stats.Dropped.Add(1)
		return false
	}
	return true
}

// Run works until ctx ends. What was stored by then was also answered, or its edge asks again.
func (in *Intake) Run(ctx context.Context) error {
	groups := make(chan []Checked)
	done := make(chan struct{})
	go func() {
		defer close(done)
		in.front(ctx, groups)
	}()
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	for {
		select {
		case <-ctx.Done():
			<-done
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), slowCommit)
			in.flush(last)
			cancel()
			return ctx.Err()
		case group := <-groups:
			in.work(ctx, group)
		case f := <-in.commands:
			f(ctx)
		case <-flush.C:
			in.flush(ctx)
		}
	}
}

// front checks the next group while the owner still commits the one before.
func (in *Intake) front(ctx context.Context, groups chan<- []Checked) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-in.queue.arrived:
		}
		group := in.check(ctx, in.queue.take())
		if len(group) == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case groups <- group:
		}
	}
}

// check proves messages in parallel and keeps their order.
func (in *Intake) check(ctx context.Context, taken []waiting) []Checked {
	results := make([]Checked, len(taken))
	in.each(len(taken), func(i int) { results[i] = in.checkOne(ctx, taken[i]) })
	kept := results[:0]
	for _, c := range results {
		if c.Up != nil {
			kept = append(kept, c)
		}
	}
	return kept
}

// each calls f(0..n-1) on all processors.
func (in *Intake) each(n int, f func(int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	if in.opt.Serial || workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

func (in *Intake) checkOne(ctx context.Context, w waiting) Checked {
	admission, _ := in.opt.Edges.Admission(w.edge)
	c, err := Check(w.edge, w.payload, admission, in.keys)
	if err != nil {
		if errors.Is(err, wire.ErrUnknownType) || errors.Is(err, wire.ErrVersion) {
			in.Stats.Ignored.Add(1)
		} else {
			in.Stats.Refused.Add(1)
			in.opt.Log.Warn("message refused", "edge", w.edge, "err", err)
		}
		return Checked{}
	}
	if sizes := sizesOf(c.Up); sizes != nil && c.Admitted && !admission.Retired {
		epoch, _ := epochOf(c.Up)
		if c.Roots, err = in.opt.Store.Roots(ctx, w.edge, epoch, sizes); err != nil {
			in.opt.Log.Warn("roots not read", "edge", w.edge, "err", err)
		}
	}
	return c
}

// work steps a group, commits it as one, and answers.
func (in *Intake) work(ctx context.Context, group []Checked) {
	if in.reload && in.opt.Now().Sub(in.read) >= reloadEvery {
		in.read = in.opt.Now()
		if err := in.load(ctx); err != nil {
			in.opt.Log.Error("state not read again; nothing is accepted until it is", "err", err)
			return
		}
		in.reload = false
	}
	if in.reload {
		return // states may differ from what is stored; the edges repeat
	}
	in.ground.Credit = in.queue.credit(in.failing)
	moved := in.step(group)
	if len(moved) == 0 {
		return
	}
	began := in.opt.Now()
	if in.opt.Broken.AnswerFirst {
		in.answer(moved)
	}
	kept := in.commit(ctx, moved)
	if took := in.opt.Now().Sub(began); took > slowCommit {
		in.opt.Log.Warn("commit was slow", "took", took)
	}
	for _, m := range kept {
		in.edges[m.edge.ID] = m.edge
		for i := range m.edge.Logs {
			in.owners[m.edge.Logs[i].Epoch] = m.edge.ID
		}
	}
	if !in.opt.Broken.AnswerFirst {
		in.answer(kept)
	}
}

// Message is what an edge sent.
type Message struct {
	Edge    string
	Payload []byte
}

// Serve works one group of messages and returns when it is answered. Only with Serial.
func (in *Intake) Serve(ctx context.Context, group []Message) {
	taken := make([]waiting, len(group))
	for i := range group {
		taken[i] = waiting{group[i].Edge, group[i].Payload}
	}
	in.work(ctx, in.check(ctx, taken))
}

// Idle does what Run does every second when nothing arrives. Only with Serial.
func (in *Intake) Idle(ctx context.Context) { in.flush(ctx) }

// moved is one edge in the middle of a group.
type moved struct {
	edge    Edge
	outputs []Output
	stores  []Accepted
	answers [][]byte
}

func (in *Intake) step(group []Checked) []*moved {
	var list []*moved
	byEdge := map[string]*moved{}
	started := map[event.Epoch]string{}
	for i := range group {
		c := &group[i]
		m := byEdge[c.Edge]
		if m == nil {
			e, ok := in.edges[c.Edge]
			if !ok || e.Node != c.Admission.Node && len(e.Logs) == 0 {
				e = NewEdge(c.Edge, c.Admission.Node, nil)
			}
			m = &moved{edge: e}
			byEdge[c.Edge] = m
			list = append(list, m)
		}
		in.desk(c)
		epoch, ok := epochOf(c.Up)
		if ok {
			owner, known := in.owners[epoch]
			if !known {
				owner, known = started[epoch]
			}
			c.Foreign = known && owner != c.Edge
		}
		var outputs []Output
		m.edge, outputs = m.edge.Step(in.ground, c)
		for j := range outputs {
			if a := outputs[j].Accept; a != nil {
				m.stores = append(m.stores, *a)
				started[a.Log.Epoch] = c.Edge
			}
		}
		m.outputs = append(m.outputs, outputs...)
	}
	return list
}

func (in *Intake) desk(c *Checked) {
	if in.opt.Desk == nil || !c.Admitted || c.Admission.Retired {
		return
	}
	switch m := c.Up.(type) {
	case *wire.Hello:
		in.opt.Desk.Hello(c.Edge, c.Admission.Node, m)
	case *wire.RosterGet:
		in.opt.Desk.RosterGet(c.Edge, c.Admission.Node, m)
	}
}

// commit stores everything in one transaction. If that fails, each edge is tried alone, so that one edge's fault costs
// nobody else; after a few failures in a row it is the store that is ill, and everybody waits.
func (in *Intake) commit(ctx context.Context, list []*moved) []*moved {
	var all []Accepted
	for _, m := range list {
		all = append(all, m.stores...)
	}
	if len(all) == 0 {
		return list
	}
	err := in.opt.Store.Commit(ctx, all)
	if err == nil {
		in.stored(all)
		return list
	}
	in.failed(err)
	var kept []*moved
	bad := 0
	for _, m := range list {
		if len(m.stores) > 0 {
			if len(list) == 1 || bad >= giveUpAfter {
				continue
			}
			if err := in.opt.Store.Commit(ctx, m.stores); err != nil {
				in.failed(err)
				bad++
				continue
			}
			in.stored(m.stores)
			bad = 0
		}
		kept = append(kept, m)
	}
	return kept
}

func (in *Intake) stored(all []Accepted) {
	in.failing = false
	in.Stats.Commits.Add(1)
	for i := range all {
		in.Stats.Leaves.Add(uint64(len(all[i].Leaves)))
		delete(in.dirty, all[i].Log.Edge)
	}
}

func (in *Intake) failed(err error) {
	in.failing, in.reload = true, true
	in.Stats.FailedCommits.Add(1)
	in.opt.Log.Error("commit failed; nothing of it is acknowledged", "err", err)
}

// answer co-signs in parallel and sends. The commit has returned.
func (in *Intake) answer(list []*moved) {
	in.each(len(list), func(i int) { in.answerOne(list[i]) })
	for _, m := range list {
		in.edges[m.edge.ID] = m.edge
		if len(m.stores) > 0 {
			in.dirty[m.edge.ID] = true
		}
		for _, b := range m.answers {
			if err := in.opt.Sender.Send(m.edge.ID, b); err != nil {
				in.opt.Log.Debug("answer not sent", "edge", m.edge.ID, "err", err)
			}
		}
	}
}

func (in *Intake) answerOne(m *moved) {
	// The logs are shared with the state before; a receipt must not appear in it from another goroutine.
	m.edge = m.edge.clone()
	answers, err := m.edge.Finish(m.outputs, in.opt.Signer)
	if err != nil {
		in.opt.Log.Error("receipt not signed", "edge", m.edge.ID, "err", err)
	}
	for _, a := range answers {
		b, err := a.Encode()
		if err != nil {
			in.opt.Log.Error("answer not written", "edge", m.edge.ID, "err", err)
			continue
		}
		if _, ok := a.(*wire.Receipt); ok {
			in.Stats.Receipts.Add(1)
		}
		m.answers = append(m.answers, b)
	}
}

// flush tells the store the receipts that no later batch carried.
func (in *Intake) flush(ctx context.Context) {
	if len(in.dirty) == 0 || in.reload {
		return
	}
	var all []Accepted
	for _, id := range slices.Sorted(maps.Keys(in.dirty)) {
		e := in.edges[id]
		for _, l := range e.Logs {
			if l.receipted == l.Size && l.Size > 0 && l.told != l.receipted {
				all = append(all, Accepted{Log: l, From: l.Size})
			}
		}
		delete(in.dirty, id)
		if len(all) >= groupMessages {
			break
		}
	}
	if len(all) == 0 {
		return
	}
	if err := in.opt.Store.Commit(ctx, all); err != nil {
		in.failed(err)
		return
	}
	in.Stats.Commits.Add(1)
	for i := range all {
		e := in.edges[all[i].Log.Edge]
		if l := e.find(all[i].Log.Epoch); l != nil {
			l.told = all[i].Log.receipted
		}
	}
}
