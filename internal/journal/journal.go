// Package journal owns the append-only record of one edge: leaves, their private parts, the Merkle tree over them, the
// signed heads and the hub's receipts, in one SQLite file that nothing else opens.
//
// Promises. An Append that returned nil is on the disk (WAL, synchronous FULL, commit returned). An Append that returned
// an error other than ErrPending left nothing in the log, unless the process was killed before it could say so. A head
// that was signed once is durable before anyone sees it, so no second head of the same size is ever signed. After a
// kill the log opens with everything acknowledged; after damage the damaged files are kept aside, what is good goes on,
// and if a leaf was lost a new epoch says so in its first leaf.
//
// It never decides what is worth recording, never talks to a network, and never changes a leaf that was acknowledged:
// pruning removes leaves that the hub holds and has backed up, erasing removes private parts; the hashes stay.
package journal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/wire"
)

// Limits and bounds.
const (
	MaxAppend     = 512  // records of one Append
	maxQueue      = 1024 // requests waiting for the writer; beyond it callers wait with their context
	maxBatch      = 1024 // records of one commit
	maxNote       = 4096 // bytes of a signed note we parse
	RetentionDays = 30   // default age before a leaf may be pruned
	retention     = RetentionDays * 24 * time.Hour
	tidyEvery     = 10 * time.Second // how often the idle writer looks at the disk
)

// Errors a caller can tell apart.
var (
	ErrFull     = errors.New("journal: disk is full")
	ErrStorage  = errors.New("journal: storage failed")
	ErrPending  = errors.New("journal: gave up waiting; the records are queued and may still be written")
	ErrClosed   = errors.New("journal: closed")
	ErrPruned   = errors.New("journal: leaf was pruned")
	ErrDamaged  = errors.New("journal: stored bytes do not match their hash")
	ErrRange    = errors.New("journal: no such epoch, index or size")
	ErrReceipt  = errors.New("journal: receipt refused")
	ErrNewer    = errors.New("journal: written by a newer version")
	ErrIdentity = errors.New("journal: belongs to another edge")
	ErrSettings = errors.New("journal: database refuses the durable settings")
)

// Head is the state of one epoch's tree.
type Head struct {
	Epoch event.Epoch
	Size  uint64
	Root  tlog.Hash
}

// Record is a fact to be appended. Network, node, edge, epoch, index and boot are the journal's to fill. When Private is
// set, the leaf carries a commitment and the hour only; the exact At and Mono move into the private part.
type Record struct {
	Kind    event.Kind
	At      time.Time
	Mono    time.Duration // since this start of the program
	Clock   event.Clock
	Body    json.RawMessage
	Private *event.Private
	Routine bool // class B: refused while the disk is full, so that the reserve is left to what must be kept
}

// Entry is a stored leaf with what is left of its private part.
type Entry struct {
	Index   uint64
	Leaf    []byte
	Salt    [32]byte
	Private []byte // nil when there was none, or when it was erased
}

// EpochInfo describes one epoch, oldest first in Epochs.
type EpochInfo struct {
	Epoch     event.Epoch
	Size      uint64
	Pruned    uint64 // leaves below this index are gone here
	Sealed    bool   // takes no more leaves
	Abandoned bool   // do not deliver past Receipt: its tail lives on in a later epoch
	Receipt   uint64
	Backup    uint64
}

// Options opens a journal. Dir, Network, Node, Edge, Signer and Verifier are required.
type Options struct {
	Dir                 string
	Network, Node, Edge string
	Signer              note.Signer   // the edge's key, named <network>/<node>/<edge>
	Verifier            note.Verifier // the same key's public half
	Cosigner            note.Verifier // the hub's witness key; nil for a lone edge, which then takes no receipts
	Boot                string        // 16 hex digits of this start; drawn when empty
	Retention           time.Duration // 0: 30 days
	Reserve             int64         // bytes kept for the full disk; 0: ReserveBytes
	Now                 nowFunc       // wall time, time since start, how far to trust it; for leaves the journal writes itself
	Log                 *slog.Logger

	faults *faults // tests only: where the disk misbehaves
}

type nowFunc = func() (time.Time, time.Duration, event.Clock)

// Journal is safe for concurrent use. One goroutine, started by Open and ended by Close, writes; everything it
// publishes is an immutable view, so readers take no lock.
type Journal struct {
	opt     Options
	log     *slog.Logger
	lock    *os.File
	view    atomic.Pointer[view]
	queue   chan *request
	quit    chan struct{}
	done    chan struct{}
	closing sync.Once
	changed chan struct{}
	space   spaceState
	tending sync.Mutex  // pruning, erasing and verifying take turns
	failed  atomic.Bool // the writer lost trust in the database and has not regained it

	unwanted atomic.Pointer[func(word string) bool] // of the last Erase: who is not carried into a new epoch

	// db is replaced by the writer after a storage failure; dbMu is held for reading while a reader uses it.
	dbMu sync.RWMutex
	db   *database
}

// view is one published state. Nobody changes it after it is stored.
type view struct {
	epochs []*epoch // oldest first; the last one takes the leaves
}

func (v *view) current() *epoch { return v.epochs[len(v.epochs)-1] }

func (v *view) find(id event.Epoch) (*epoch, error) {
	for i := len(v.epochs) - 1; i >= 0; i-- {
		if v.epochs[i].id == id {
			return v.epochs[i], nil
		}
	}
	return nil, fmt.Errorf("%w: epoch %s is not in this journal", ErrRange, id)
}

// Open brings the journal of Dir back, or makes a new one. It refuses another edge's directory, a newer format, a
// database that does not confirm WAL and synchronous FULL, and a directory that another process has open.
func Open(ctx context.Context, opt Options) (*Journal, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making journal directory: %w", err)
	}
	lock, err := lockDir(opt.Dir)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		opt: opt, log: opt.Log, lock: lock,
		queue:   make(chan *request, maxQueue),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
		changed: make(chan struct{}, 1),
	}
	j.space.init(opt.Dir, opt.Reserve)
	if err := j.start(ctx); err != nil {
		lock.Close()
		return nil, fmt.Errorf("opening journal in %s: %w", opt.Dir, err)
	}
	go j.run()
	return j, nil
}

// start opens the database; a full disk costs the reserve rather than the start.
func (j *Journal) start(ctx context.Context) error {
	err := j.load(ctx)
	if isFull(err) && j.space.release() {
		j.log.Warn("journal disk is full: reserve released at start")
		err = j.load(ctx)
	}
	if err != nil {
		return err
	}
	j.space.keep()
	return nil
}

func (o *Options) fill() error {
	for _, id := range []string{o.Network, o.Node, o.Edge} {
		if !event.IsID(id) {
			return fmt.Errorf("opening journal: network, node and edge must be ids, %q is not", id)
		}
	}
	name := o.Network + "/" + o.Node + "/" + o.Edge
	switch {
	case o.Dir == "":
		return errors.New("opening journal: no directory given")
	case o.Signer == nil || o.Verifier == nil:
		return errors.New("opening journal: the edge's signer and verifier are required")
	case o.Signer.Name() != name || o.Verifier.Name() != name:
		return fmt.Errorf("opening journal: key is named %s, this edge is %s", o.Signer.Name(), name)
	case o.Signer.KeyHash() != o.Verifier.KeyHash():
		return errors.New("opening journal: signer and verifier are not halves of one key")
	}
	if o.Boot == "" {
		var b [8]byte
		rand.Read(b[:])
		o.Boot = hex.EncodeToString(b[:])
	}
	if o.Retention == 0 {
		o.Retention = retention
	}
	if o.Reserve == 0 {
		o.Reserve = ReserveBytes
	}
	if o.Now == nil {
		began := time.Now()
		o.Now = func() (time.Time, time.Duration, event.Clock) { return time.Now(), time.Since(began), event.Unsure }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.faults == nil {
		o.faults = &faults{}
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("opening journal: %w", err)
	}
	o.Dir = dir
	return nil
}

// Boot names this start in every leaf it writes.
func (j *Journal) Boot() string { return j.opt.Boot }

func (j *Journal) origin(id event.Epoch) string {
	return wire.Origin(j.opt.Network, j.opt.Node, j.opt.Edge, id)
}

// Head is the state after the last acknowledged append.
func (j *Journal) Head() Head { return j.view.Load().current().headNow() }

// Epochs lists every epoch, oldest first; the last one takes the leaves.
func (j *Journal) Epochs() []EpochInfo {
	v := j.view.Load()
	out := make([]EpochInfo, len(v.epochs))
	for i, e := range v.epochs {
		out[i] = EpochInfo{
			Epoch: e.id, Size: e.tree.size, Pruned: e.pruned, Sealed: e.sealed, Abandoned: e.abandoned,
			Receipt: e.receipt.size, Backup: e.backup,
		}
	}
	return out
}

// Changed is signalled after each commit that added leaves. One signal may stand for many.
func (j *Journal) Changed() <-chan struct{} { return j.changed }

// Close answers what is queued with ErrClosed, folds the WAL into the database and lets the directory go.
func (j *Journal) Close() error {
	j.closing.Do(func() { close(j.quit) })
	<-j.done
	j.dbMu.Lock()
	defer j.dbMu.Unlock()
	var err error
	if j.db != nil {
		err = j.db.close()
		j.db = nil
	}
	j.lock.Close()
	if err != nil {
		return fmt.Errorf("closing journal: %w", err)
	}
	return nil
}
