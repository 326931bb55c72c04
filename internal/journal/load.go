package journal

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/wire"
)

// Row numbers: epoch number above, index below.
const (
	indexBits = 44
	indexEnd  = 1<<indexBits - 1
)

// checkGroups complete groups before the tail are recomputed leaf by leaf at every open: 512 leaves and the tail, a few
// milliseconds, and the stretch that a kill or a torn write could have touched.
const checkGroups = 2

// epoch is one storage life. Published epochs are never changed; a transaction works on a copy.
type epoch struct {
	num               int64
	id                event.Epoch
	tree              tree
	root              tlog.Hash
	pruned, backup    uint64
	sealed, abandoned bool
	head, receipt     signed
}

// signed is a checkpoint with its note.
type signed struct {
	size uint64
	root tlog.Hash
	note []byte
}

func (e *epoch) number(index uint64) int64 { return e.num<<indexBits | int64(index) }

func (e *epoch) headNow() Head { return Head{Epoch: e.id, Size: e.tree.size, Root: e.root} }

// load opens the database, checks it, heals it if it must, and publishes the view.
func (j *Journal) load(ctx context.Context) error {
	if err := finishRebuild(j.opt.Dir); err != nil {
		return err
	}
	acked := j.view.Load()
	d, v, err := j.openChecked(ctx, acked)
	if err != nil && isDamage(err) {
		j.log.Error("journal is damaged: rebuilding from what is good", "err", err)
		d, v, err = j.heal(ctx, acked, err)
	}
	if err != nil {
		return err
	}
	j.db = d // Open has no readers yet, and reopen holds dbMu
	j.view.Store(v)
	return nil
}

// openChecked opens the live database and returns the view it holds, or ErrDamaged. With acked set (reopening after a
// failure) a tail past what was acknowledged is removed: its callers were told that it failed and will append again.
func (j *Journal) openChecked(ctx context.Context, acked *view) (*database, *view, error) {
	d, err := openDatabase(ctx, livePath(j.opt.Dir))
	if err != nil {
		return nil, nil, err
	}
	v, err := j.inspect(ctx, d, acked)
	if err != nil {
		d.close()
		return nil, nil, err
	}
	return d, v, nil
}

func (j *Journal) inspect(ctx context.Context, d *database, acked *view) (*view, error) {
	if err := j.claim(ctx, d); err != nil {
		return nil, err
	}
	if acked != nil {
		if err := trimUnacknowledged(ctx, d, acked.current()); err != nil {
			return nil, err
		}
		// After a failed fsync the WAL may be readable and yet not on the disk. Copying it into the file writes and
		// syncs those pages anew.
		if err := truncateWAL(ctx, d); err != nil {
			return nil, err
		}
	}
	epochs, err := readEpochs(ctx, d.w)
	if err != nil {
		return nil, err
	}
	for _, e := range epochs {
		if err := j.loadEpoch(ctx, d.w, e); err != nil {
			return nil, err
		}
	}
	if acked != nil {
		if err := stillThere(acked, epochs); err != nil {
			return nil, err
		}
	}
	if len(epochs) == 0 {
		e, err := firstEpoch(ctx, d)
		if err != nil {
			return nil, err
		}
		epochs = append(epochs, e)
	}
	return &view{epochs: epochs}, nil
}

// claim binds a new database to this edge, and refuses another edge's.
func (j *Journal) claim(ctx context.Context, d *database) error {
	var network, node, edge string
	err := d.w.QueryRowContext(ctx, "SELECT network, node, edge FROM format").Scan(&network, &node, &edge)
	if err != nil {
		return fmt.Errorf("reading whose journal this is: %w", err)
	}
	if network == "" {
		_, err := d.w.ExecContext(ctx, "UPDATE format SET network = ?, node = ?, edge = ?", j.opt.Network, j.opt.Node, j.opt.Edge)
		if err != nil {
			return fmt.Errorf("claiming new journal: %w", err)
		}
		return nil
	}
	if network != j.opt.Network || node != j.opt.Node || edge != j.opt.Edge {
		return fmt.Errorf("%w: this directory holds %s/%s/%s", ErrIdentity, network, node, edge)
	}
	return nil
}

func firstEpoch(ctx context.Context, d *database) (*epoch, error) {
	e := newEpoch(1)
	if _, err := d.w.ExecContext(ctx, "INSERT INTO epoch (num, id) VALUES (?, ?)", e.num, e.id[:]); err != nil {
		return nil, fmt.Errorf("starting first epoch: %w", err)
	}
	return e, nil
}

func newEpoch(num int64) *epoch {
	e := &epoch{num: num}
	rand.Read(e.id[:])
	e.root = e.tree.root()
	return e
}

func trimUnacknowledged(ctx context.Context, d *database, e *epoch) error {
	tx, err := d.w.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("removing what was not acknowledged: %w", err)
	}
	defer tx.Rollback()
	for _, table := range []string{"leaf", "private"} {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE number BETWEEN ? AND ?",
			e.number(e.tree.size), e.number(indexEnd)); err != nil {
			return fmt.Errorf("removing what was not acknowledged: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM subtree WHERE number BETWEEN ? AND ?",
		e.number(e.tree.size>>groupBits), e.number(indexEnd)); err != nil {
		return fmt.Errorf("removing what was not acknowledged: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("removing what was not acknowledged: %w", err)
	}
	return nil
}

// stillThere compares a reopened database with what was acknowledged before the failure.
func stillThere(acked *view, epochs []*epoch) error {
	for i, a := range acked.epochs {
		if i >= len(epochs) || epochs[i].id != a.id {
			return fmt.Errorf("%w: epoch %s is gone", ErrDamaged, a.id)
		}
		if e := epochs[i]; e.tree.size < a.tree.size || e.tree.size == a.tree.size && e.root != a.root {
			return fmt.Errorf("%w: epoch %s has %d leaves after reopening, %d were acknowledged", ErrDamaged, a.id, e.tree.size, a.tree.size)
		}
	}
	return nil
}

// querier is a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func readEpochs(ctx context.Context, q querier) ([]*epoch, error) {
	rows, err := q.QueryContext(ctx, "SELECT num, id, sealed, size, abandoned, pruned, backup FROM epoch ORDER BY num")
	if err != nil {
		return nil, fmt.Errorf("reading epochs: %w", err)
	}
	defer rows.Close()
	var out []*epoch
	for rows.Next() {
		e := &epoch{}
		var id []byte
		if err := rows.Scan(&e.num, &id, &e.sealed, &e.tree.size, &e.abandoned, &e.pruned, &e.backup); err != nil {
			return nil, fmt.Errorf("reading epochs: %w", err)
		}
		if len(id) != len(e.id) || e.num < 1 || e.num >= 1<<18 || e.pruned%groupSize != 0 || e.tree.size > indexEnd {
			return nil, fmt.Errorf("%w: epoch row %d", ErrDamaged, e.num)
		}
		copy(e.id[:], id)
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading epochs: %w", err)
	}
	return out, nil
}

// loadEpoch fills the tree from group roots and tail, and checks what a crash could have touched.
func (j *Journal) loadEpoch(ctx context.Context, q querier, e *epoch) error {
	sealedAt := e.tree.size
	e.tree = tree{}.fork()
	size, err := lastIndex(ctx, q, e)
	if err != nil {
		return err
	}
	if e.sealed && size != sealedAt {
		return fmt.Errorf("%w: epoch %s was sealed at %d and has %d leaves", ErrDamaged, e.id, sealedAt, size)
	}
	roots, err := readRoots(ctx, q, e)
	if err != nil {
		return err
	}
	groups := size >> groupBits
	if uint64(len(roots)) != groups {
		return fmt.Errorf("%w: epoch %s has %d leaves and %d group roots", ErrDamaged, e.id, size, len(roots))
	}
	unchecked := max(e.pruned>>groupBits, groups-min(groups, checkGroups))
	for _, root := range roots[:unchecked] {
		e.tree.pushGroup(root)
	}
	if err := loadTail(ctx, q, e, roots, size); err != nil {
		return err
	}
	e.root = e.tree.root()
	return j.loadNotes(ctx, q, e)
}

// loadTail reads the leaves from the end of the tree on, with their private parts, and checks each of them.
func loadTail(ctx context.Context, q querier, e *epoch, roots []tlog.Hash, size uint64) error {
	from := e.tree.size
	holes, err := readHoles(ctx, q, e, from, size)
	if err != nil {
		return err
	}
	w := walk{e: e, holes: holes, next: from, roots: roots, report: &EpochReport{}}
	if err := scanLeaves(ctx, q, e, from, size, w.leaf); err != nil {
		return err
	}
	return w.upTo(size)
}

// loadNotes brings back the last signed head and the receipt. The notes carry their own size and root.
func (j *Journal) loadNotes(ctx context.Context, q querier, e *epoch) error {
	for _, n := range []struct {
		table string
		lines int
		to    *signed
	}{{"head", headLines, &e.head}, {"receipt", receiptLines, &e.receipt}} {
		var text []byte
		err := q.QueryRowContext(ctx, "SELECT note FROM "+n.table+" WHERE num = ?", e.num).Scan(&text)
		if err == sql.ErrNoRows {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading %s of epoch %s: %w", n.table, e.id, err)
		}
		s, err := openCheckpoint(text, wire.Origin(j.opt.Network, j.opt.Node, j.opt.Edge, e.id), n.lines, j.opt.Verifier)
		if err != nil {
			return fmt.Errorf("%w: epoch %s, %s: %w", ErrDamaged, e.id, n.table, err)
		}
		if err := matches(ctx, q, e, s); err != nil {
			return fmt.Errorf("%s: %w", n.table, err)
		}
		*n.to = s
	}
	return nil
}

// fail makes the journal refuse until reopen has proven the database again.
func (j *Journal) fail(err error) {
	j.failed.Store(true)
	j.log.Error("journal storage failed: closing the database before the next append", "err", err)
}

// reopen is the only way out of a failure. Readers wait for its end.
func (j *Journal) reopen() {
	ctx := context.Background()
	j.dbMu.Lock()
	defer j.dbMu.Unlock()
	if j.db != nil {
		j.db.close()
		j.db = nil
	}
	err := j.opt.faults.check("reopen", nil)
	if err == nil {
		err = j.load(ctx)
	}
	if err != nil {
		j.log.Error("journal does not open again", "err", err)
		return
	}
	j.failed.Store(false)
	j.log.Info("journal opened again after a storage failure", "size", j.Head().Size)
}

func truncateWAL(ctx context.Context, d *database) error {
	return truncateWALWithin(ctx, d, busyTimeoutMS)
}

// errReader says that a reader was in the way.
var errReader = errors.New("a reader holds it")

func truncateWALWithin(ctx context.Context, d *database, busyMS int) error {
	wait := func(ms int) error {
		_, err := d.w.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", ms))
		return err
	}
	var busy, frames, moved int
	err := wait(busyMS)
	if err == nil {
		err = d.w.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved)
		err = errors.Join(err, wait(busyTimeoutMS))
	}
	switch {
	case err != nil:
		return fmt.Errorf("folding the WAL into the database: %w", err)
	case busy != 0:
		return fmt.Errorf("folding the WAL into the database: %w for %d ms", errReader, busyMS)
	}
	return nil
}
