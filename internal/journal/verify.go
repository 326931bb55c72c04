package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/wire"
)

// verifyChunk leaves are read in one query, so that a long verification does not hold the WAL back.
const verifyChunk = 16 * groupSize

// Report is the result of Verify. OK means that every leaf hash, every group root, every signature and every private
// part that is present was recomputed and agrees.
type Report struct {
	Network string        `json:"network"`
	Node    string        `json:"node"`
	Edge    string        `json:"edge"`
	OK      bool          `json:"ok"`
	Epochs  []EpochReport `json:"epochs"`
	First   *Difference   `json:"first_difference,omitempty"` // the first one met, oldest epoch first
}

// EpochReport counts what was checked in one epoch.
type EpochReport struct {
	Epoch       string      `json:"epoch"`
	Size        uint64      `json:"size"`         // leaves ever written
	Pruned      uint64      `json:"pruned"`       // leaves below this index are gone, their hashes were checked
	Leaves      uint64      `json:"leaves"`       // leaves recomputed from their bytes
	Private     uint64      `json:"private"`      // private parts that match their commitment
	Erased      uint64      `json:"erased"`       // private parts erased on purpose
	Lost        uint64      `json:"lost"`         // leaves lost to damage that the hub had already received
	LostPrivate uint64      `json:"lost_private"` // private parts lost to damage
	Root        string      `json:"root"`         // base64, recomputed
	Signed      uint64      `json:"signed"`       // size of the largest head ever signed
	Receipt     uint64      `json:"receipt"`      // size of the newest receipt
	Cosigned    bool        `json:"cosigned"`     // the receipt's co-signature was checked (the hub's key was given)
	Sealed      bool        `json:"sealed"`
	Abandoned   bool        `json:"abandoned"`
	Difference  *Difference `json:"difference,omitempty"`
}

// Difference names one place where the stored bytes do not agree with each other.
type Difference struct {
	Edge  string `json:"edge"`
	Epoch string `json:"epoch"`
	Index uint64 `json:"index"` // the leaf; for group, head and receipt the last leaf they cover
	What  string `json:"what"`  // leaf, private, group, head, receipt, count or database
	Why   string `json:"why"`
}

// Verify recomputes a journal that is not open, or is open in another process, without writing to it. Options needs
// Dir and Verifier; with Cosigner the receipts are checked too. An error means that it could not run; what it found is
// in the report.
func Verify(ctx context.Context, opt Options) (Report, error) {
	path := livePath(opt.Dir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return Report{}, fmt.Errorf("verifying: there is no journal in %s", opt.Dir)
	}
	if opt.Verifier == nil {
		return Report{}, errors.New("verifying: the edge's public key is required")
	}
	q, err := sql.Open("sqlite", dsn(path, readerCacheKiB, "&mode=ro&_query_only=1"))
	if err != nil {
		return Report{}, fmt.Errorf("verifying: %w", err)
	}
	defer q.Close()
	q.SetMaxOpenConns(1)
	// One snapshot: a running edge appends, signs and prunes meanwhile, and a head read after the leaves it covers were
	// counted would look like a forgery. It costs the edge a longer WAL until this is done.
	tx, err := q.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return Report{}, fmt.Errorf("verifying: %w", err)
	}
	v := verification{q: tx, own: opt.Verifier, hub: opt.Cosigner, edge: opt.Edge}
	err = v.all(ctx, nil)
	if end := tx.Rollback(); err == nil && end != nil && !errors.Is(end, sql.ErrTxDone) {
		err = fmt.Errorf("verifying: %w", end)
	}
	return v.report, err
}

// Verify recomputes the open journal up to its present head. Pruning waits until it is done.
func (j *Journal) Verify(ctx context.Context) (Report, error) {
	j.tending.Lock()
	defer j.tending.Unlock()
	v := verification{own: j.opt.Verifier, hub: j.opt.Cosigner, edge: j.opt.Edge}
	err := j.reading(func(q *sql.DB) error {
		v.q = q
		return v.all(ctx, j.view.Load())
	})
	return v.report, err
}

type verification struct {
	q        querier
	own, hub note.Verifier
	edge     string
	report   Report
}

// found records a difference. A cancelled context is not one.
func (v *verification) found(id string, index uint64, what string, err error) *Difference {
	d := &Difference{Edge: v.edge, Epoch: id, Index: index, What: what, Why: err.Error()}
	if v.report.First == nil {
		v.report.First = d
	}
	return d
}

// all verifies every epoch of live, or of the file when live is nil.
func (v *verification) all(ctx context.Context, live *view) error {
	err := v.q.QueryRowContext(ctx, "SELECT network, node, edge FROM format").Scan(&v.report.Network, &v.report.Node, &v.report.Edge)
	if err == nil {
		v.edge = v.report.Edge
	} else if ctx.Err() == nil {
		v.found("", 0, "database", err)
		return nil
	}
	epochs, err := readEpochs(ctx, v.q)
	if err != nil && ctx.Err() == nil {
		v.found("", 0, "database", err)
		return nil
	}
	leaves, private := uint64(0), uint64(0)
	for i, e := range epochs {
		size, err := v.size(ctx, e)
		if live != nil && err == nil {
			if i >= len(live.epochs) {
				break
			}
			e, size = live.epochs[i], live.epochs[i].tree.size
		}
		r := EpochReport{Epoch: e.id.String(), Size: size, Pruned: e.pruned, Sealed: e.sealed, Abandoned: e.abandoned}
		if err == nil {
			r.Difference = v.epoch(ctx, e, size, &r)
		} else {
			r.Difference = v.found(r.Epoch, size, "database", err)
		}
		v.report.Epochs = append(v.report.Epochs, r)
		leaves += r.Leaves
		private += r.Private + r.Erased + r.LostPrivate
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("verifying: %w", err)
	}
	if live == nil && v.report.First == nil {
		v.leftovers(ctx, leaves, private)
	}
	v.report.OK = v.report.First == nil
	return ctx.Err()
}

func (v *verification) size(ctx context.Context, e *epoch) (uint64, error) {
	size, err := lastIndex(ctx, v.q, e)
	if err == nil && e.sealed && size != e.tree.size {
		err = fmt.Errorf("%w: sealed at %d, has %d leaves", ErrDamaged, e.tree.size, size)
	}
	return size, err
}

// leftovers finds rows that belong to no leaf, and pages that SQLite itself cannot read.
func (v *verification) leftovers(ctx context.Context, leaves, private uint64) {
	for _, c := range []struct {
		table string
		want  uint64
	}{{"leaf", leaves}, {"private", private}} {
		var n uint64
		err := v.q.QueryRowContext(ctx, "SELECT count(*) FROM "+c.table).Scan(&n)
		if err == nil && n != c.want {
			err = fmt.Errorf("%w: %d rows in table %s, %d belong to an epoch", ErrDamaged, n, c.table, c.want)
		}
		if err != nil {
			v.found("", 0, "count", err)
			return
		}
	}
	var verdict string
	err := v.q.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict)
	if err == nil && verdict != "ok" {
		err = errors.New(verdict)
	}
	if err != nil {
		v.found("", 0, "database", err)
	}
}

// epoch recomputes one epoch and returns its first difference.
func (v *verification) epoch(ctx context.Context, e *epoch, size uint64, r *EpochReport) *Difference {
	roots, err := readRoots(ctx, v.q, e)
	if err != nil {
		return v.found(r.Epoch, uint64(len(roots))<<groupBits, "group", err)
	}
	if uint64(len(roots)) < size>>groupBits {
		return v.found(r.Epoch, uint64(len(roots)+1)<<groupBits-1, "group", fmt.Errorf("%w: root is missing", ErrDamaged))
	}
	mine := &epoch{num: e.num, id: e.id, tree: tree{}.fork(), pruned: e.pruned}
	if d := v.prunedGroups(ctx, mine, roots, r); d != nil {
		return d
	}
	for from := e.pruned; from < size; from += verifyChunk {
		if d := v.chunk(ctx, mine, roots, [2]uint64{from, min(from+verifyChunk, size)}, r); d != nil {
			return d
		}
	}
	root := mine.tree.root()
	r.Root = root.String()
	return v.notes(ctx, mine, r)
}

func (v *verification) prunedGroups(ctx context.Context, mine *epoch, roots []tlog.Hash, r *EpochReport) *Difference {
	for g := range mine.pruned >> groupBits {
		hashes, err := readGroup(ctx, v.q, mine, g)
		if err == nil && fold(hashes) != roots[g] {
			err = fmt.Errorf("%w: packed hashes do not give the group's root", ErrDamaged)
		}
		if err != nil && !errors.Is(err, ErrPruned) {
			return v.found(r.Epoch, (g+1)<<groupBits-1, "group", err)
		}
		mine.tree.pushGroup(roots[g])
	}
	return nil
}

// chunk recomputes the leaves of span, which starts at a group boundary.
func (v *verification) chunk(ctx context.Context, mine *epoch, roots []tlog.Hash, span [2]uint64, r *EpochReport) *Difference {
	holes, err := readHoles(ctx, v.q, mine, span[0], span[1])
	if err != nil {
		return v.found(r.Epoch, span[0], "database", err)
	}
	w := walk{e: mine, holes: holes, next: span[0], roots: roots, report: r}
	what := "leaf"
	err = scanLeaves(ctx, v.q, mine, span[0], span[1], func(s *stored) error {
		err := w.leaf(s)
		if err != nil && tlog.RecordHash(s.line) == s.hash {
			what = "private"
		}
		return err
	})
	if err == nil {
		err = w.upTo(span[1])
	}
	if err == nil {
		return nil
	}
	if w.group {
		what = "group"
	} else if sqliteCode(err) != 0 {
		what = "database"
	}
	return v.found(r.Epoch, w.next, what, err)
}

// walk pushes leaves and known holes in order and closes groups.
type walk struct {
	e      *epoch
	holes  map[uint64]hole
	next   uint64
	roots  []tlog.Hash // stored group roots, to be matched
	hashes []tlog.Hash
	blind  bool // the group has a hole whose hash is unknown: only its stored root can be used
	group  bool // the error is about a group root
	report *EpochReport
}

func (w *walk) leaf(s *stored) error {
	if err := w.upTo(s.index); err != nil {
		return err
	}
	if s.index != w.next {
		return fmt.Errorf("%w: epoch %s, row %d is out of order", ErrDamaged, w.e.id, s.index)
	}
	if err := s.check(w.e); err != nil {
		return err
	}
	w.report.Leaves++
	switch {
	case !s.hasPrivate:
	case s.erased():
		if h, ok := w.holes[s.index]; ok && h.what == holePrivate {
			w.report.LostPrivate++
		} else {
			w.report.Erased++
		}
	default:
		w.report.Private++
	}
	return w.push(s.hash)
}

// upTo passes known holes before index.
func (w *walk) upTo(index uint64) error {
	for w.next < index {
		h, ok := w.holes[w.next]
		if !ok || h.what != holeLeaf {
			return fmt.Errorf("%w: epoch %s, leaf %d is missing", ErrDamaged, w.e.id, w.next)
		}
		w.report.Lost++
		w.blind = w.blind || !h.known
		if err := w.push(h.hash); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) push(h tlog.Hash) error {
	w.hashes = append(w.hashes, h)
	group := w.next >> groupBits
	if full := len(w.hashes) == groupSize; full || group >= uint64(len(w.roots)) {
		if !full && w.blind {
			return fmt.Errorf("%w: epoch %s, leaf %d has no hash", ErrDamaged, w.e.id, w.next)
		}
		if !full {
			w.e.tree.push(h)
		} else if group < uint64(len(w.roots)) {
			if !w.blind && fold(w.hashes) != w.roots[group] {
				w.group = true
				return fmt.Errorf("%w: epoch %s, leaves %d to %d do not give their group's root", ErrDamaged, w.e.id, group<<groupBits, w.next)
			}
			w.e.tree.pushGroup(w.roots[group])
		} else {
			w.group = true
			return fmt.Errorf("%w: epoch %s, group root at leaf %d is missing", ErrDamaged, w.e.id, w.next)
		}
		if full {
			w.hashes, w.blind = w.hashes[:0], false
		}
	}
	w.next++
	return nil
}

// notes checks the last signed head and the receipt against the recomputed tree.
func (v *verification) notes(ctx context.Context, mine *epoch, r *EpochReport) *Difference {
	origin := wire.Origin(v.report.Network, v.report.Node, v.report.Edge, mine.id)
	for _, n := range []struct {
		table string
		lines int
		by    []note.Verifier
		size  *uint64
	}{{"head", headLines, []note.Verifier{v.own}, &r.Signed}, {"receipt", receiptLines, []note.Verifier{v.own, v.hub}, &r.Receipt}} {
		if n.by[len(n.by)-1] == nil {
			n.by = n.by[:len(n.by)-1]
		}
		var text []byte
		err := v.q.QueryRowContext(ctx, "SELECT note FROM "+n.table+" WHERE num = ?", mine.num).Scan(&text)
		if err == sql.ErrNoRows {
			continue
		}
		var s signed
		if err == nil {
			s, err = openCheckpoint(text, origin, n.lines, n.by...)
		}
		if err == nil {
			err = matches(ctx, v.q, mine, s)
		}
		if err != nil {
			return v.found(r.Epoch, max(s.size, 1)-1, n.table, err)
		}
		*n.size = s.size
		r.Cosigned = r.Cosigned || len(n.by) == 2
	}
	return nil
}

// matches holds a signed head against the tree.
func matches(ctx context.Context, q querier, e *epoch, s signed) error {
	if s.size > e.tree.size {
		return fmt.Errorf("%w: epoch %s ends at %d, the note covers %d", ErrDamaged, e.id, e.tree.size, s.size)
	}
	root, err := tlog.TreeHash(int64(s.size), e.tree.reader(groupsFrom(ctx, q, e)))
	if errors.Is(err, ErrPruned) {
		return nil // inside a group with a hole of unknown hash: the group's root is checked by larger heads only
	}
	if err != nil {
		return err
	}
	if root != s.root {
		return fmt.Errorf("%w: epoch %s, the tree of %d leaves differs from the note", ErrDamaged, e.id, s.size)
	}
	return nil
}

func lastIndex(ctx context.Context, q querier, e *epoch) (uint64, error) {
	var leaf, gap int64
	err := q.QueryRowContext(ctx, `SELECT (SELECT coalesce(max(number), -1) FROM leaf WHERE number BETWEEN ?1 AND ?2),
		(SELECT coalesce(max(number), -1) FROM hole WHERE number BETWEEN ?1 AND ?2)`, e.number(0), e.number(indexEnd)).Scan(&leaf, &gap)
	if err != nil {
		return 0, fmt.Errorf("finding the end of epoch %s: %w", e.id, err)
	}
	size := e.pruned
	if last := max(leaf, gap); last >= 0 {
		size = max(size, uint64(last-e.number(0))+1)
	}
	return size, nil
}

func readRoots(ctx context.Context, q querier, e *epoch) ([]tlog.Hash, error) {
	rows, err := q.QueryContext(ctx, "SELECT number, root FROM subtree WHERE number BETWEEN ? AND ? ORDER BY number",
		e.number(0), e.number(indexEnd))
	if err != nil {
		return nil, fmt.Errorf("reading group roots of epoch %s: %w", e.id, err)
	}
	defer rows.Close()
	var out []tlog.Hash
	for rows.Next() {
		var number int64
		var root sql.RawBytes
		if err := rows.Scan(&number, &root); err != nil {
			return out, fmt.Errorf("reading group roots of epoch %s: %w", e.id, err)
		}
		if number != e.number(uint64(len(out))) || len(root) != tlog.HashSize {
			return out, fmt.Errorf("%w: epoch %s, root of the group from leaf %d", ErrDamaged, e.id, len(out)<<groupBits)
		}
		out = append(out, tlog.Hash(root))
	}
	return out, rows.Err()
}

// hole is what damage took.
type hole struct {
	what  int
	known bool
	hash  tlog.Hash
}

const (
	holeLeaf    = 0
	holePrivate = 1
)

func readHoles(ctx context.Context, q querier, e *epoch, from, to uint64) (map[uint64]hole, error) {
	rows, err := q.QueryContext(ctx, "SELECT number, what, hash FROM hole WHERE number >= ? AND number < ?", e.number(from), e.number(to))
	if err != nil {
		return nil, fmt.Errorf("reading holes of epoch %s: %w", e.id, err)
	}
	defer rows.Close()
	var out map[uint64]hole
	for rows.Next() {
		var number int64
		var h hole
		var hash []byte
		if err := rows.Scan(&number, &h.what, &hash); err != nil {
			return nil, fmt.Errorf("reading holes of epoch %s: %w", e.id, err)
		}
		if h.known = len(hash) == tlog.HashSize; h.known {
			h.hash = tlog.Hash(hash)
		}
		if out == nil {
			out = map[uint64]hole{}
		}
		out[uint64(number-e.number(0))] = h
	}
	return out, rows.Err()
}
