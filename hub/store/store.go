// Package store owns the hub's database and is the only hub room that writes SQL.
//
// It promises that Commit is one transaction: bundles as received, private parts, log heads, receipts, evidence and
// every projection become durable together (WAL and synchronous=FULL, read back at every open) or not at all. Commit may be repeated
// with the same batches. After a crash the database is at the last commit that returned, or at the one under way.
//
// It never judges a leaf: what comes in has been proven by the intake. It never overwrites evidence, never lowers a
// size, a receipt or a roster version, and never serves a write from anywhere but its one writer connection.
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"

	"kith/internal/access"
	"kith/internal/event"
)

// Limits of this room.
const (
	FileName     = "hub.db"
	maxReaders   = 4  // connections of the read pool
	maxIndexBits = 40 // an address packs the log's number above 40 bits of index
	placeBits    = 16 // a line's number packs its bundle's above 16 bits of place in it
	maxLogs      = 1 << 22
	maxShapes    = 1 << 16 // shapes remembered; more are looked up
	MaxEvidence  = 1000    // rows kept per log; a hostile edge must not fill the disk with proof of its hostility
	MaxBundle    = 2 << 20 // bytes of one bundle: 256 leaves of the largest size and their newlines
	busyTimeout  = 5 * time.Second
	cacheKiB     = 65536
)

// Options say where the database is and how leaves are projected.
type Options struct {
	Dir        string
	Network    string
	Projection Projection
	Now        func() time.Time // the hub's clock; nil: time.Now
}

// Store is the open database. All methods may be called from any goroutine; writes queue for the one writer.
type Store struct {
	dir, path, network string
	project            Projection
	now                func() time.Time
	write, read        *sql.DB
	lock               *os.File
	checkpoints        checkpoints

	mu     sync.Mutex // held by the one writer for the length of a transaction; guards the caches below
	logs   map[logKey]*logRow
	nodes  map[string]int64
	shapes map[shape]int64
	facts  map[string]int // rows of each edge, counted from above
	places map[string]*place
	open   bool // a transaction was begun and not published: what the writer remembers of places may be wrong
	stmts  statements
	newest chan struct{}

	erased  func() *access.Erasures // who must not be kept; nil: nobody
	goneMu  sync.Mutex
	goneNow *gone  // of the list that erased gave last
	swept   string // digest of the list that the last sweep followed; guarded by mu
}

type logKey struct {
	edge  string
	epoch event.Epoch
}

type logRow struct {
	id       int64
	size     uint64
	receipt  uint64
	evidence int
	node     string
}

// Open opens or creates the database and brings it to this program's format.
func Open(ctx context.Context, o Options) (*Store, error) {
	if !event.IsID(o.Network) {
		return nil, fmt.Errorf("opening the store: network %q is not an id", o.Network)
	}
	p := o.Projection
	if p.Line == nil || p.Seen == nil || p.Newer == nil || p.Fact == nil {
		return nil, errors.New("opening the store: a projection function is missing")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(o.Dir, FileName)
	s := &Store{
		dir: o.Dir, path: path, network: o.Network, project: p, now: o.Now, lock: lock, newest: make(chan struct{}, 1),
		logs: make(map[logKey]*logRow), nodes: make(map[string]int64), shapes: make(map[shape]int64),
		places: make(map[string]*place), facts: make(map[string]int),
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store %s: %w", path, err), s.Close())
	}
	return s, nil
}

func (s *Store) start(ctx context.Context) error {
	// SQLite gives the WAL the mode of the database: names of people must not be world-readable.
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), syncDir(s.dir)); err != nil {
		return err
	}
	if s.write, err = openDB(s.path, "rwc"); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if err := checkPragmas(ctx, s.write); err != nil {
		return err
	}
	if err := migrate(ctx, s.write); err != nil {
		return err
	}
	if s.read, err = openDB(s.path, "ro"); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(maxReaders)
	s.read.SetMaxIdleConns(maxReaders)
	if err := s.checkpoints.start(s.path); err != nil {
		return err
	}
	if err := s.identify(ctx); err != nil {
		return err
	}
	if err := s.warm(ctx); err != nil {
		return err
	}
	if err := s.stmts.prepare(ctx, s.write); err != nil {
		return err
	}
	return s.refoldAll(ctx)
}

// identify gives a fresh database its generation and network, and refuses a database of another network.
func (s *Store) identify(ctx context.Context) error {
	gen, err := newGeneration()
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"generation": gen, "network": s.network} {
		if _, err := s.write.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, name, value); err != nil {
			return err
		}
	}
	have, err := s.meta(ctx, "network")
	if err != nil {
		return err
	}
	if have != s.network {
		return fmt.Errorf("this database belongs to network %q, not %q", have, s.network)
	}
	return nil
}

// warm loads what the writer must know of each log. It reads no leaves, so it is quick after any crash.
func (s *Store) warm(ctx context.Context) error {
	rows, err := s.write.QueryContext(ctx, `SELECT id, edge, node, epoch, size, receipt_size,
		(SELECT count(*) FROM evidence e WHERE e.edge = logs.edge AND e.epoch = logs.epoch) FROM logs`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var k logKey
		var r logRow
		var epoch []byte
		if err := rows.Scan(&r.id, &k.edge, &r.node, &epoch, &r.size, &r.receipt, &r.evidence); err != nil {
			return err
		}
		if len(epoch) != len(k.epoch) {
			return fmt.Errorf("log %d: epoch of %d bytes", r.id, len(epoch))
		}
		copy(k.epoch[:], epoch)
		s.logs[k] = &r
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	names, err := s.write.QueryContext(ctx, `SELECT id, node FROM nodes`)
	if err != nil {
		return err
	}
	defer names.Close()
	for names.Next() {
		var id int64
		var node string
		if err := names.Scan(&id, &node); err != nil {
			return err
		}
		s.nodes[node] = id
	}
	if err := errors.Join(names.Err(), names.Close()); err != nil {
		return err
	}
	return s.warmFacts(ctx)
}

// Close stops the store. The database needs no orderly close; this one only saves the next start some work.
func (s *Store) Close() error {
	var errs []error
	s.stmts.close()
	errs = append(errs, s.checkpoints.close())
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	if s.write != nil {
		errs = append(errs, s.write.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Changed is signalled after a commit that stored leaves. Its capacity is one: a reader that is late sees one signal.
func (s *Store) Changed() <-chan struct{} { return s.newest }

// Generation is the random id of this line of the database's life; a restore changes it.
func (s *Store) Generation(ctx context.Context) (string, error) { return s.meta(ctx, "generation") }

func (s *Store) meta(ctx context.Context, name string) (string, error) {
	var v string
	err := s.read.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = ?`, name).Scan(&v)
	if err != nil {
		return "", fmt.Errorf("reading %s of the store: %w", name, err)
	}
	return v, nil
}

func newGeneration() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(b[:]), nil
}

// pragmas that hold on every connection. secure_delete overwrites what is erased; trusted_schema off keeps a
// tampered file from running functions.
func dsn(path, mode string) string {
	q := url.Values{"mode": {mode}, "_txlock": {"immediate"}}
	for _, p := range []string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "foreign_keys(ON)", "trusted_schema(OFF)",
		"secure_delete(ON)", "temp_store(MEMORY)", fmt.Sprintf("cache_size(-%d)", cacheKiB),
	} {
		q.Add("_pragma", p)
	}
	if mode != "ro" {
		q.Add("_pragma", "journal_mode(WAL)")
		q.Add("_pragma", "synchronous(FULL)")
		q.Add("_pragma", fmt.Sprintf("wal_autocheckpoint(%d)", writerWAL))
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

func openDB(path, mode string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return sql.Open("sqlite", dsn(abs, mode))
}

// checkPragmas reads back what durability rests on: a pragma that SQLite did not take is silent otherwise.
func checkPragmas(ctx context.Context, db *sql.DB) error {
	for name, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "secure_delete": "1", "trusted_schema": "0",
	} {
		var have string
		if err := db.QueryRowContext(ctx, "PRAGMA "+name).Scan(&have); err != nil {
			return fmt.Errorf("reading back %s: %w", name, err)
		}
		if have != want {
			return fmt.Errorf("SQLite says %s=%s, need %s: is the file system fit for a database?", name, have, want)
		}
	}
	return nil
}

// SQLite result codes, https://www.sqlite.org/rescode.html
const sqliteFull = 13

// classify names the failures that an operator can mend.
func classify(err error) error {
	var se *sqlite.Error
	if errors.As(err, &se) && se.Code()&0xff == sqliteFull {
		return fmt.Errorf("%w: free space on the hub's data disk; nothing was acknowledged: %w", ErrDiskFull, err)
	}
	return err
}
