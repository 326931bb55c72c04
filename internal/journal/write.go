package journal

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// Room for the envelope, so that every leaf we take can be carried over to a later epoch as a replayed one and still
// fit event.MaxLeaf and event.MaxPrivate, in bytes.
const (
	replayRoom        = 512
	replayPrivateRoom = 512
)

// reopenEvery spaces the attempts to regain a failed database.
const reopenEvery = time.Second

// request is one caller's wish. Either rows or op is set; alone ops run outside any transaction.
type request struct {
	rows    []row
	routine bool
	op      func(*txn) error
	alone   func(context.Context, *database) error

	indexes []uint64
	answer  chan error // capacity 1
}

// row is a leaf that lacks only its address.
type row struct {
	leaf    event.Leaf
	salt    [32]byte
	private []byte
}

// faults lets tests break the disk at an exact line. Stages: begin, write, commit, committed, reopen, fold.
type faults struct {
	at atomic.Pointer[fault]
}

type fault func(stage string, batch []*request) error

func (f *faults) check(stage string, batch []*request) error {
	if at := f.at.Load(); at != nil {
		return (*at)(stage, batch)
	}
	return nil
}

// Append writes records in order, all or none, and returns their indexes once they are durable. It waits no longer
// than ctx: after ErrPending the records are still in the queue and must not be appended again.
func (j *Journal) Append(ctx context.Context, records ...Record) ([]uint64, error) {
	if len(records) == 0 || len(records) > MaxAppend {
		return nil, fmt.Errorf("appending %d records: want 1 to %d", len(records), MaxAppend)
	}
	r := &request{answer: make(chan error, 1), rows: make([]row, len(records))}
	for i := range records {
		var err error
		if r.rows[i], err = j.prepare(&records[i]); err != nil {
			return nil, fmt.Errorf("appending %s: %w", records[i].Kind, err)
		}
		r.routine = r.routine || records[i].Routine
	}
	if err := j.ask(ctx, r); err != nil {
		return nil, fmt.Errorf("appending: %w", err)
	}
	return r.indexes, nil
}

// prepare does all that can fail for the record's own fault, so that the writer meets only the disk.
func (j *Journal) prepare(rec *Record) (row, error) {
	w := row{leaf: event.Leaf{
		Network: j.opt.Network, Node: j.opt.Node, Edge: j.opt.Edge, Kind: rec.Kind,
		At: rec.At.UnixMilli(), Clock: rec.Clock, Boot: j.opt.Boot, Mono: int64(rec.Mono), Body: rec.Body,
		Index: 1 << 62, // the widest index: what fits now fits later
	}}
	if w.leaf.At < 0 {
		w.leaf.At = 0 // a clock before 1970 is as unsure as one at 1970, and order is the index
	}
	if rec.Private != nil {
		p := *rec.Private
		p.At, p.Mono = w.leaf.At, w.leaf.Mono
		var err error
		if w.private, err = p.Encode(); err != nil {
			return row{}, err
		}
		rand.Read(w.salt[:])
		c := event.Commit(w.salt, w.private)
		w.leaf.Commitment = &c
		w.leaf.At -= w.leaf.At % event.HourMS
		w.leaf.Mono = 0
	}
	line, err := w.leaf.Encode()
	if err != nil {
		return row{}, err
	}
	if rec.Kind == event.KindReplayed {
		return w, nil // carried over as it is if its epoch is lost too, never wrapped twice
	}
	if n := quotedLen(line) + replayRoom; n > event.MaxLeaf {
		return row{}, fmt.Errorf("%w: body too long by %d bytes to be carried over to a later epoch", event.ErrLeaf, n-event.MaxLeaf)
	}
	if n := quotedLen(w.private) + replayPrivateRoom; n > event.MaxPrivate {
		return row{}, fmt.Errorf("%w: private part too long by %d bytes to be carried over", event.ErrLeaf, n-event.MaxPrivate)
	}
	return w, nil
}

// quotedLen bounds the length of b as a JSON string: quotes and backslashes double, and event.CheckJSON admits no
// control characters. U+2028 and U+2029 (3 bytes) become 6.
func quotedLen(b []byte) int {
	n := len(b) + 2
	for _, c := range b {
		if c == '"' || c == '\\' || c == 0xe2 {
			n++
		}
		if c == 0xe2 {
			n += 2
		}
	}
	return n
}

// ask hands a request to the writer and waits for its answer.
func (j *Journal) ask(ctx context.Context, r *request) error {
	select {
	case <-j.quit:
		return ErrClosed
	default:
	}
	select {
	case j.queue <- r:
	case <-ctx.Done():
		return fmt.Errorf("waiting for the writer: %w", ctx.Err()) // not queued: nothing will be written
	case <-j.quit:
		return ErrClosed
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrPending, ctx.Err())
	case <-j.done:
		select {
		case err := <-r.answer:
			return err
		default:
			return ErrClosed
		}
	}
}

func (j *Journal) ask1(ctx context.Context, op func(*txn) error) error {
	return j.ask(ctx, &request{op: op, answer: make(chan error, 1)})
}

// run is the writer: the only goroutine that changes the database or publishes a view.
func (j *Journal) run() {
	defer close(j.done)
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	var held *request
	var tried time.Time
	for {
		var first *request
		if held != nil {
			first, held = held, nil
		} else {
			select {
			case first = <-j.queue:
			case <-tick.C:
				j.space.keep()
				if j.failed.Load() {
					j.reopen()
				}
				continue
			case <-j.quit:
				j.refuseQueued()
				return
			}
		}
		batch := []*request{first}
		if first.alone == nil {
			batch, held = j.gather(first)
		}
		if j.failed.Load() && time.Since(tried) >= reopenEvery {
			tried = time.Now()
			j.reopen()
		}
		if j.failed.Load() {
			answerAll(batch, fmt.Errorf("%w: waiting for the database to open again", ErrStorage))
			continue
		}
		j.serve(batch)
	}
}

func (j *Journal) refuseQueued() {
	for {
		select {
		case r := <-j.queue:
			r.answer <- ErrClosed
		default:
			return
		}
	}
}

// gather takes what waits, up to one commit's worth. A request that must run alone is handed back for the next round.
func (j *Journal) gather(first *request) (batch []*request, held *request) {
	batch = append(make([]*request, 0, 16), first)
	for n := len(first.rows); n < maxBatch; {
		select {
		case r := <-j.queue:
			if r.alone != nil || n+len(r.rows) > maxBatch {
				return batch, r
			}
			n += len(r.rows)
			batch = append(batch, r)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

func answerAll(batch []*request, err error) {
	for _, r := range batch {
		r.answer <- err
	}
}

// serve runs one batch and answers it. A full disk is met by giving up the reserve once; any other failure means that
// the database is not to be trusted until it was closed, reopened and checked (a failed fsync may have dropped pages
// that later reads still see).
func (j *Journal) serve(batch []*request) {
	if alone := batch[0].alone; alone != nil {
		err := alone(context.Background(), j.db)
		if err != nil && !isFull(err) && isDamage(err) {
			j.fail(err)
		}
		batch[0].answer <- err
		return
	}
	if batch = j.refuseRoutine(batch); len(batch) == 0 {
		return
	}
	refused, err := j.commit(batch)
	if isFull(err) && slices.ContainsFunc(batch, func(r *request) bool { return !r.routine }) && j.space.release() {
		j.log.Warn("journal disk is full: reserve released")
		refused, err = j.commit(batch)
	}
	if err == nil {
		j.space.wrote()
		for i, r := range batch {
			r.answer <- refused[i]
		}
		return
	}
	if isFull(err) {
		j.space.full.Store(true)
		answerAll(batch, fmt.Errorf("%w: %w", ErrFull, err))
		return
	}
	j.fail(err)
	answerAll(batch, fmt.Errorf("%w: %w", ErrStorage, err))
	j.reopen()
}

// refuseRoutine keeps class B out while only the reserve is left.
func (j *Journal) refuseRoutine(batch []*request) []*request {
	if !j.space.full.Load() {
		return batch
	}
	keep := batch[:0]
	for _, r := range batch {
		if r.routine {
			r.answer <- ErrFull
			continue
		}
		keep = append(keep, r)
	}
	return keep
}

// txn is one transaction with the view it will publish.
type txn struct {
	db     *database
	epochs []*epoch
	forked map[int]bool
	err    error // the first database error; a request's own refusal is not one
	added  bool
}

// epoch returns the transaction's own copy, free to change.
func (t *txn) epoch(i int) *epoch {
	if !t.forked[i] {
		c := *t.epochs[i]
		c.tree = c.tree.fork()
		t.epochs[i] = &c
		t.forked[i] = true
	}
	return t.epochs[i]
}

// seal computes the roots of what changed, once a transaction.
func (t *txn) seal() {
	for i := range t.epochs {
		if t.forked[i] {
			t.epochs[i].root = t.epochs[i].tree.root()
		}
	}
}

func (t *txn) current() *epoch { return t.epoch(len(t.epochs) - 1) }

func (t *txn) find(id event.Epoch) (*epoch, error) {
	for i := range t.epochs {
		if t.epochs[i].id == id {
			return t.epoch(i), nil
		}
	}
	return nil, fmt.Errorf("%w: epoch %s is not in this journal", ErrRange, id)
}

func (t *txn) exec(s *sql.Stmt, args ...any) error {
	if t.err == nil {
		_, t.err = s.ExecContext(context.Background(), args...)
	}
	return t.err
}

func (t *txn) execSQL(query string, args ...any) error {
	if t.err == nil {
		_, t.err = t.db.w.ExecContext(context.Background(), query, args...)
	}
	return t.err
}

// put writes one leaf at the end of the current epoch.
func (t *txn) put(w *row) (uint64, error) {
	e := t.current()
	index := e.tree.size
	w.leaf.Epoch, w.leaf.Index = e.id, index
	line, err := w.leaf.Encode()
	if err != nil {
		return 0, err
	}
	h := tlog.RecordHash(line)
	number := e.number(index)
	if err := t.exec(t.db.putLeaf, number, h[:], line); err != nil {
		return 0, err
	}
	if w.private != nil {
		if err := t.exec(t.db.putPrivate, number, w.salt[:], w.private); err != nil {
			return 0, err
		}
	}
	if root := e.tree.push(h); root != nil {
		if err := t.exec(t.db.putGroup, e.number(index>>groupBits), root[:]); err != nil {
			return 0, err
		}
	}
	t.added = true
	return index, nil
}

// commit runs the batch in one transaction and publishes the new view. The first result holds each request's own
// refusal; the second is a failure of the disk that concerns all of them.
func (j *Journal) commit(batch []*request) ([]error, error) {
	v := j.view.Load()
	t := &txn{db: j.db, epochs: append(make([]*epoch, 0, len(v.epochs)+1), v.epochs...), forked: map[int]bool{}}
	refused, err := j.transact(t, batch)
	if err != nil {
		t.db.rollback.ExecContext(context.Background()) // may already be rolled back; the check below tells
		if isFull(err) {
			if left := j.checkEnd(v); left != nil {
				return nil, left // not a plain full disk: something stayed behind, or the end cannot be read
			}
		}
		return nil, err
	}
	t.seal()
	j.view.Store(&view{epochs: t.epochs})
	if t.added {
		select {
		case j.changed <- struct{}{}:
		default:
		}
	}
	return refused, nil
}

func (j *Journal) transact(t *txn, batch []*request) ([]error, error) {
	ctx := context.Background()
	if err := j.opt.faults.check("begin", batch); err != nil {
		return nil, err
	}
	if _, err := t.db.begin.ExecContext(ctx); err != nil {
		return nil, fmt.Errorf("beginning transaction: %w", err)
	}
	refused := make([]error, len(batch))
	for i, r := range batch {
		if refused[i] = t.do(r); t.err != nil {
			return nil, fmt.Errorf("writing: %w", t.err)
		}
	}
	if err := j.opt.faults.check("write", batch); err != nil {
		return nil, err
	}
	if err := j.opt.faults.check("commit", batch); err != nil {
		return nil, err
	}
	if _, err := t.db.commit.ExecContext(ctx); err != nil {
		return nil, fmt.Errorf("committing: %w", err)
	}
	if err := j.opt.faults.check("committed", batch); err != nil {
		return nil, err
	}
	return refused, nil
}

// do runs one request. Its error is a refusal that wrote nothing, unless t.err is set.
func (t *txn) do(r *request) error {
	if r.op != nil {
		return r.op(t)
	}
	r.indexes = make([]uint64, len(r.rows))
	for i := range r.rows {
		var err error
		if r.indexes[i], err = t.put(&r.rows[i]); err != nil {
			if t.err == nil {
				t.err = err // half a request must not be committed
			}
			return err
		}
	}
	return nil
}

// checkEnd proves after a full disk that the transaction left nothing behind.
func (j *Journal) checkEnd(v *view) error {
	e := v.current()
	var last int64
	if err := j.db.lastRow.QueryRowContext(context.Background(), e.number(0), e.number(indexEnd)).Scan(&last); err != nil {
		return fmt.Errorf("%w: reading the end after a full disk: %w", ErrDamaged, err)
	}
	if want := e.number(e.tree.size) - 1; last != want && (last >= 0 || e.tree.size != e.pruned) {
		return fmt.Errorf("%w: log ends at row %d after a rollback, want %d", ErrDamaged, last, want)
	}
	return nil
}

// mustMarshal encodes our own bodies, which always encode.
func mustMarshal(v any) json.RawMessage {
	b, err := event.Marshal(v)
	if err != nil {
		panic("journal: own body does not encode: " + err.Error())
	}
	return b
}
