package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/pki"
)

// loneJournal opens a journal with keys of its own, as an edge without a hub does.
func loneJournal(ctx context.Context, dir, edge string) (*journal.Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	signer, verifier, err := pki.OpenLone(filepath.Join(dir, "identity"), network, house, edge)
	if err != nil {
		return nil, err
	}
	return journal.Open(ctx, journal.Options{Dir: filepath.Join(dir, "state"), Network: network, Node: house, Edge: edge, Signer: signer, Verifier: verifier})
}

// tapRecord is what a gate hands over for a granted tap.
func tapRecord(n int) (journal.Record, error) {
	body, err := event.Marshal(event.Tap{Door: "front", Reader: "front-in", Direction: "in", Verdict: "grant", Reason: "granted",
		Assurance: "pkoc", Roster: 7})
	if err != nil {
		return journal.Record{}, err
	}
	detail, err := event.Marshal(event.TapPrivate{Grant: "members-house", Rule: "group members, zone house", Micros: 310})
	return journal.Record{Kind: event.KindTap, At: time.Now(), Mono: time.Duration(n) * time.Millisecond, Clock: event.Synced, Body: body,
		Private: &event.Private{Member: fmt.Sprintf("member-%03d", n%500), Card: fmt.Sprintf("pkoc:%064x", n%500+1), Body: detail}}, err
}

// fillJournal appends n taps as fast as it takes them.
func fillJournal(ctx context.Context, j *journal.Journal, n int) error {
	records := make([]journal.Record, min(n, journal.MaxAppend))
	for written := 0; written < n; written += len(records) {
		records = records[:min(len(records), n-written)]
		for i := range records {
			var err error
			if records[i], err = tapRecord(written + i); err != nil {
				return err
			}
		}
		if _, err := j.Append(ctx, records...); err != nil {
			return err
		}
	}
	return nil
}

// measureJournal is one durable tap at a time, turn by turn with a bare insert of the same bytes on the same disk.
func measureJournal(ctx context.Context, b *bench) (err error) {
	dir := filepath.Join(b.dir, "journal")
	j, err := loneJournal(ctx, dir, "front")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	db, err := openBare(ctx, filepath.Join(dir, "bare.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	var line []byte
	var ours, bare []time.Duration
	for n := range b.size.appends {
		r, err := tapRecord(n)
		if err != nil {
			return err
		}
		began := time.Now()
		index, err := j.Append(ctx, r)
		if err != nil {
			return err
		}
		ours = append(ours, time.Since(began))
		if line == nil {
			e, err := j.Read(ctx, j.Head().Epoch, index[0], 1, event.MaxLeaf+event.MaxPrivate)
			if err != nil {
				return err
			}
			line = append(append(line, e[0].Leaf...), e[0].Private...)
		}
		took, err := db.insert(line)
		if err != nil {
			return err
		}
		bare = append(bare, took)
	}
	const peer = "bare SQLite insert"
	what := fmt.Sprintf("%d bytes, one commit each, turn by turn", len(line))
	b.add(figure{Name: "journal append, p50", Value: quantile(ours, 500), Unit: millis, Bare: quantile(bare, 500), Peer: peer, Note: what})
	b.add(figure{Name: "journal append, p99", Value: quantile(ours, 990), Unit: millis, Bare: quantile(bare, 990), Peer: peer})
	return nil
}
