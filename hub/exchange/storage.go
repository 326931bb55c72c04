package exchange

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/hub/intake"
	"kith/hub/presence"
	"kith/hub/registry"
	"kith/hub/servicelog"
	"kith/hub/store"
	"kith/internal/event"
	"kith/internal/pki"
	"kith/internal/wire"
)

// storage is the store as intake and registry see it. It turns their values into the store's and back, and adds nothing.
type storage struct{ *store.Store }

var (
	_ intake.Store   = (*storage)(nil)
	_ registry.Store = (*storage)(nil)
)

// projection joins the pure folds to the store.
var projection = store.Projection{Line: projectLine, Seen: projectSeen, Newer: newerSeen, Fact: projectFact}

func storeOptions(dir, network string) store.Options {
	return store.Options{Dir: dir, Network: network, Projection: projection}
}

func openStorage(ctx context.Context, dir, network string) (*storage, error) {
	s, err := store.Open(ctx, storeOptions(dir, network))
	if err != nil {
		return nil, err
	}
	return &storage{s}, nil
}

func projectLine(l event.Leaf, p *event.Private) (store.Line, bool) {
	line, ok := servicelog.Project(l, p)
	return store.Line(line), ok
}

func projectSeen(l store.Line) (store.Seen, bool) {
	seen, ok := presence.Of(presence.Tap{Member: l.Member, Node: l.Node, Edge: l.Edge, Epoch: l.Epoch, Index: l.Index, At: l.At, Clock: l.Clock,
		Door: l.Door, Direction: l.Direction, Granted: l.Kind == event.KindTap && l.Verdict == servicelog.Grant})
	return store.Seen(seen), ok
}

func newerSeen(a, b store.Seen) bool { return presence.Newer(presence.Seen(a), presence.Seen(b)) }

func projectFact(l event.Leaf) (store.Fact, bool) {
	f, ok := servicelog.State(l)
	return store.Fact(f), ok
}

// Logs implements intake.Store. The edges' own notes are not kept apart from the receipts made of them; the intake knows.
func (s *storage) Logs(ctx context.Context) ([]intake.Log, error) {
	kept, err := s.Store.Logs(ctx)
	if err != nil {
		return nil, err
	}
	logs := make([]intake.Log, len(kept))
	for i, l := range kept {
		standing, err := intake.ParseStanding(l.Status)
		if err != nil {
			return nil, fmt.Errorf("log of edge %s epoch %s: %w", l.Edge, l.Epoch, err)
		}
		logs[i] = intake.Log{Edge: l.Edge, Node: l.Node, Epoch: l.Epoch, Size: l.Size, Root: l.Root, Range: l.Range, Receipt: l.Receipt,
			Standing: standing, Boot: l.Boot, Backup: l.Backup}
	}
	return logs, nil
}

// Commit implements intake.Store.
func (s *storage) Commit(ctx context.Context, batches []intake.Accepted) error {
	kept := make([]store.Accepted, len(batches))
	for i := range batches {
		a := &batches[i]
		kept[i] = store.Accepted{Log: keptLog(&a.Log), From: a.From, Leaves: a.Leaves, Bundle: a.Bundle, Lost: a.Lost, Proof: a.Proof}
		if len(a.Private) > 0 {
			kept[i].Private = make([]store.PrivatePart, len(a.Private))
		}
		for j := range a.Private {
			kept[i].Private[j] = store.PrivatePart(a.Private[j])
		}
		for _, e := range a.Evidence {
			kept[i].Evidence = append(kept[i].Evidence, store.Evidence(e))
		}
	}
	return s.Store.Commit(ctx, kept)
}

func keptLog(l *intake.Log) store.Log {
	return store.Log{Edge: l.Edge, Node: l.Node, Epoch: l.Epoch, Size: l.Size, Root: l.Root, Range: l.Range, Receipt: l.Receipt,
		Status: l.Standing.Text(), Boot: l.Boot, Backup: l.Backup}
}

// Records implements registry.Store.
func (s *storage) Records(ctx context.Context, kind string) ([]registry.Record, error) {
	kept, err := s.Store.Records(ctx, kind)
	records := make([]registry.Record, len(kept))
	for i := range kept {
		records[i] = registry.Record(kept[i])
	}
	return records, err
}

// Rosters implements registry.Store.
func (s *storage) Rosters(ctx context.Context) ([]registry.Roster, error) {
	kept, err := s.Store.Rosters(ctx)
	rosters := make([]registry.Roster, len(kept))
	for i := range kept {
		rosters[i] = registry.Roster(kept[i])
	}
	return rosters, err
}

// Save implements registry.Store.
func (s *storage) Save(ctx context.Context, records []registry.Record, rosters []registry.Roster) error {
	keptRecords, keptRosters := make([]store.Record, len(records)), make([]store.Roster, len(rosters))
	for i := range records {
		keptRecords[i] = store.Record(records[i])
	}
	for i := range rosters {
		keptRosters[i] = store.Roster(rosters[i])
	}
	return s.Store.Save(ctx, keptRecords, keptRosters)
}

// checks are what verify, backup and restore prove receipts with. Without a registry, before a restore, the hub's own
// signature stands alone: it was given only after the edge's had been proven.
func (x *Exchange) checks() store.Checks {
	key := func(edge string) (note.Verifier, error) {
		e, err := x.registry.Admitted(edge)
		if e.ID == "" {
			return nil, err
		}
		return x.verifiers.of(e.Key) // a retired edge's journal is proven like any other
	}
	if x.registry == nil {
		key = nil
	}
	return receiptCheck(x.cfg.Network, x.keys.CosignVerifier, key)
}

// receiptCheck proves that a receipt is the hub's co-signature on the checkpoint that this very edge signed for this log.
// An edge that got a new key keeps its old journals: a receipt whose edge line is of an earlier key, of the same name,
// rests on the hub's co-signature. A line that claims to be of today's key must verify.
func receiptCheck(network string, witness note.Verifier, key func(edge string) (note.Verifier, error)) store.Checks {
	return store.Checks{Receipt: func(l store.Log) (uint64, tlog.Hash, error) {
		known := []note.Verifier{witness}
		names := []string{pki.EdgeKeyName(network, l.Node, l.Edge)}
		if key != nil {
			edge, err := key(l.Edge)
			if err != nil {
				return 0, tlog.Hash{}, fmt.Errorf("the edge's key: %w", err)
			}
			known, names = append(known, edge), append(names, edge.Name())
		}
		n, err := note.Open(l.Receipt, note.VerifierList(known...))
		if err != nil {
			return 0, tlog.Hash{}, err
		}
		if err := signed(n, witness, names); err != nil {
			return 0, tlog.Hash{}, err
		}
		if err := wire.OneSpelling(l.Receipt, 2); err != nil {
			return 0, tlog.Hash{}, err
		}
		c, err := wire.ParseCheckpoint(n.Text)
		if err != nil {
			return 0, tlog.Hash{}, err
		}
		if want := wire.Origin(network, l.Node, l.Edge, l.Epoch); c.Origin != want {
			return 0, tlog.Hash{}, fmt.Errorf("it is of %s, not of %s", wire.Plain(c.Origin), want)
		}
		return c.Size, c.Root, nil
	}}
}

// signed wants the hub's verified line and the edge's, verified or of an earlier key.
func signed(n *note.Note, witness note.Verifier, edge []string) error {
	hub, own := false, false
	for _, s := range n.Sigs {
		hub = hub || s.Name == witness.Name() && s.Hash == witness.KeyHash()
		own = own || slices.Contains(edge, s.Name)
	}
	for _, s := range n.UnverifiedSigs {
		own = own || slices.Contains(edge, s.Name)
	}
	switch {
	case !hub:
		return errors.New("the hub's co-signature is missing")
	case !own:
		return errors.New("the edge's signature is missing")
	}
	return nil
}
