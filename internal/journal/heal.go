package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// maxEvidence damaged directories are kept; the oldest goes when one more is made, since a failing card damages often
// and its copies must not fill it.
const maxEvidence = 4

func livePath(dir string) string { return filepath.Join(dir, liveDir, dbFile) }

// finishRebuild completes or undoes a rebuild that was cut short. A rebuild moves aside the damaged directory only when
// the new one is complete and synced, so the two names tell what happened.
func finishRebuild(dir string) error {
	rebuilt := filepath.Join(dir, rebuildDir)
	if _, err := os.Stat(rebuilt); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := os.Stat(filepath.Join(dir, liveDir))
	switch {
	case err == nil:
		err = os.RemoveAll(rebuilt)
	case errors.Is(err, fs.ErrNotExist):
		if err = os.Rename(rebuilt, filepath.Join(dir, liveDir)); err == nil {
			err = syncDir(dir)
		}
	}
	if err != nil {
		return fmt.Errorf("finishing an interrupted rebuild: %w", err)
	}
	return nil
}

// loss tells what a rebuild could not carry on.
type loss struct {
	body     event.Epochal
	orphans  []Entry                // readable leaves past the loss that the hub does not have
	abandon  bool                   // the old epoch contradicts its own signatures
	receipts map[event.Epoch]uint64 // what the hub has
}

// heal rebuilds the database from the rows that prove themselves, moves the damaged one aside, and starts a new epoch
// if a leaf was lost that the hub has no receipt for. The damaged files are evidence and are not changed.
func (j *Journal) heal(ctx context.Context, acked *view, damage error) (*database, *view, error) {
	lost, err := j.rebuild(ctx, acked)
	if err != nil {
		return nil, nil, fmt.Errorf("rebuilding after %w: %w", damage, err)
	}
	aside, err := swap(j.opt.Dir, j.opt.Now)
	if err != nil {
		return nil, nil, fmt.Errorf("rebuilding after %w: %w", damage, err)
	}
	d, v, err := j.openChecked(ctx, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the rebuilt journal: %w", err)
	}
	if lost == nil {
		j.log.Warn("journal rebuilt, no leaf lost", "evidence", aside)
		return d, v, nil
	}
	if v, err = j.recovered(d, v, lost); err != nil {
		d.close()
		return nil, nil, err
	}
	j.log.Error("journal rebuilt with loss, new epoch", "evidence", aside, "kept", lost.body.OldSize, "carried", len(lost.orphans))
	return d, v, nil
}

// recovered starts the new epoch straight on d: nobody else sees the journal yet.
func (j *Journal) recovered(d *database, v *view, lost *loss) (*view, error) {
	rows, err := j.epochRows(event.KindRecovered, lost.body, lost.orphans)
	if err != nil {
		return nil, fmt.Errorf("carrying over after loss: %w", err)
	}
	t := &txn{db: d, epochs: append([]*epoch(nil), v.epochs...), forked: map[int]bool{}}
	op := &request{op: func(t *txn) error { return t.startEpoch(rows, lost.abandon) }}
	refused, err := j.transact(t, []*request{op})
	if err == nil {
		err = refused[0]
	}
	if err != nil {
		return nil, fmt.Errorf("starting an epoch after loss: %w", err)
	}
	t.seal()
	return &view{epochs: t.epochs}, nil
}

// swap makes the rebuilt directory the live one. One rename moves a database together with its WAL, and the second
// happens only after the first, so finishRebuild can tell at any point what is left to do.
func swap(dir string, now nowFunc) (string, error) {
	at, _, _ := now()
	stem := damagedStem + at.UTC().Format("20060102T150405Z")
	name := stem
	for n := 2; ; n++ {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = fmt.Sprintf("%s-%d", stem, n)
	}
	if err := syncDir(filepath.Join(dir, rebuildDir)); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(dir, liveDir), filepath.Join(dir, name)); err != nil {
		return "", fmt.Errorf("keeping the damaged files: %w", err)
	}
	if err := os.Rename(filepath.Join(dir, rebuildDir), filepath.Join(dir, liveDir)); err != nil {
		return "", fmt.Errorf("putting the rebuilt files in place: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return "", err
	}
	return name, dropOldEvidence(dir)
}

func dropOldEvidence(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("listing evidence: %w", err)
	}
	type aged struct {
		name string
		at   int64
	}
	var kept []aged
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), damagedStem) {
			kept = append(kept, aged{e.Name(), info.ModTime().UnixNano()})
		}
	}
	sort.Slice(kept, func(a, b int) bool { return kept[a].at < kept[b].at })
	for len(kept) > maxEvidence {
		if err := os.RemoveAll(filepath.Join(dir, kept[0].name)); err != nil {
			return fmt.Errorf("removing oldest evidence: %w", err)
		}
		kept = kept[1:]
	}
	return nil
}

// rebuild writes what is good into a fresh database in rebuildDir. It returns nil if nothing was lost.
func (j *Journal) rebuild(ctx context.Context, acked *view) (*loss, error) {
	path := filepath.Join(j.opt.Dir, rebuildDir, dbFile)
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("clearing an unfinished rebuild: %w", err)
	}
	d, err := openDatabase(ctx, path)
	if err != nil {
		return nil, err
	}
	lost, err := j.rebuildInto(ctx, d, acked)
	if err == nil {
		err = truncateWAL(ctx, d)
	}
	return lost, errors.Join(err, d.close())
}

func (j *Journal) rebuildInto(ctx context.Context, d *database, acked *view) (*loss, error) {
	if err := j.claim(ctx, d); err != nil {
		return nil, err
	}
	lost, kept, err := j.salvageAll(ctx, d, acked)
	if err != nil || lost == nil {
		return nil, err
	}
	// Something is missing. Look for it in the raw bytes: the database's handles on the file are closed by now.
	raw, err := scavenge(ctx, filepath.Join(j.opt.Dir, liveDir), j.opt.Network, j.opt.Node, j.opt.Edge)
	if err != nil {
		return nil, err
	}
	for _, n := range lost.orphans {
		delete(raw.leaves, tlog.RecordHash(n.Leaf))
	}
	lost.orphans = append(lost.orphans, raw.missing(func(id event.Epoch, index uint64) bool {
		k, ok := kept[id]
		return ok && (index < k || index < lost.receipts[id])
	})...)
	if id, ok := raw.newest(); ok && lost.body.OldEpoch == "" {
		lost.body.OldEpoch = id.String()
	}
	if len(lost.orphans) > MaxReplay {
		j.log.Error("journal rebuilt: more readable leaves past the loss than can be carried over; they stay in the evidence",
			"left", len(lost.orphans)-MaxReplay)
		lost.orphans = lost.orphans[:MaxReplay]
	}
	return lost, nil
}

// salvageAll copies every epoch SQLite can still read. It returns the size at which each of them stands.
func (j *Journal) salvageAll(ctx context.Context, d *database, acked *view) (*loss, map[event.Epoch]uint64, error) {
	kept := map[event.Epoch]uint64{}
	q, err := sql.Open("sqlite", dsn(livePath(j.opt.Dir), readerCacheKiB, "&mode=ro&_query_only=1"))
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	q.SetMaxOpenConns(1)
	epochs, err := readEpochs(ctx, q)
	if err != nil || len(epochs) == 0 {
		// Not even the list of epochs: the tree is lost here, and the hub will show how much it has.
		lost := &loss{body: event.Epochal{Why: "journal unreadable"}}
		if acked != nil {
			lost.body.OldEpoch = acked.current().id.String()
		}
		return lost, kept, nil
	}
	var lost *loss
	receipts := map[event.Epoch]uint64{}
	for i, e := range epochs {
		s := salvage{j: j, ctx: ctx, q: q, d: d, e: e}
		if acked != nil && i < len(acked.epochs) && acked.epochs[i].id == e.id {
			s.floor = acked.epochs[i].tree.size
		}
		l, err := s.run()
		if err != nil {
			return nil, nil, fmt.Errorf("epoch %s: %w", e.id, err)
		}
		if l != nil && lost != nil {
			l.orphans = append(lost.orphans, l.orphans...)
		}
		if l != nil {
			lost = l
		}
		kept[e.id], receipts[e.id] = s.size, s.receipt.size
	}
	if lost != nil {
		last := epochs[len(epochs)-1].id
		lost.body.OldEpoch, lost.body.OldSize, lost.receipts = last.String(), kept[last], receipts
	}
	return lost, kept, nil
}
