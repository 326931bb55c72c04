package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"modernc.org/sqlite"
)

// Files under Options.Dir. The database has a directory of its own, so that one rename moves it together with its WAL:
// a WAL left behind would be replayed into the next database of that name.
const (
	lockFile    = "lock"
	liveDir     = "log"
	rebuildDir  = "rebuild"
	damagedStem = "damaged-"
	dbFile      = "journal.db"
)

// formatVersion of the tables. An older program that meets a newer number refuses to write.
const formatVersion = 1

// Database settings.
const (
	busyTimeoutMS    = 5000
	pageBytes        = 1024 // an append dirties two or three pages; small ones cost a card 8.5 KB of writes a tap, 4096 cost 14.7 KB
	writerCacheKiB   = 4096
	readerCacheKiB   = 2048
	checkpointPages  = 1024 // 1 MiB of WAL: short, since a growing WAL costs file-system metadata on a card
	maxReaders       = 4
	journalLimitByte = 4 << 20 // a WAL that grew under a long reader shrinks back to this
)

// migrations[i] brings format i to i+1, each in one transaction.
//
// Leaf and private rows have number = epoch.num << indexBits | index, so appends go to the right edge of the B-tree.
// subtree has one row a complete group with its root; tile has the 256 leaf hashes of a group whose leaves were pruned.
// An erased private part keeps its row with zeroed salt and part: overwriting in place leaves no copy in the page,
// while a deletion could make SQLite move neighbours and leave stale bytes of them in a gap. hole lists what damage took
// and the hub still has (see heal.go): 0 a leaf, with its hash if that survived; 1 a private part.
var migrations = []string{
	`CREATE TABLE format (version INTEGER NOT NULL, network TEXT NOT NULL, node TEXT NOT NULL, edge TEXT NOT NULL);
	INSERT INTO format VALUES (0, '', '', '');
	CREATE TABLE epoch (
		num INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, sealed INTEGER NOT NULL DEFAULT 0,
		size INTEGER NOT NULL DEFAULT 0, -- set when sealed; a live epoch's size is its last row
		abandoned INTEGER NOT NULL DEFAULT 0, pruned INTEGER NOT NULL DEFAULT 0, backup INTEGER NOT NULL DEFAULT 0);
	CREATE TABLE leaf (number INTEGER PRIMARY KEY, hash BLOB NOT NULL, line BLOB NOT NULL);
	CREATE TABLE private (number INTEGER PRIMARY KEY, salt BLOB NOT NULL, part BLOB NOT NULL);
	CREATE TABLE subtree (number INTEGER PRIMARY KEY, root BLOB NOT NULL);
	CREATE TABLE tile (number INTEGER PRIMARY KEY, hashes BLOB NOT NULL);
	CREATE TABLE hole (number INTEGER PRIMARY KEY, what INTEGER NOT NULL, hash BLOB);
	CREATE TABLE head (num INTEGER PRIMARY KEY, note BLOB NOT NULL); -- the largest head that was ever signed
	CREATE TABLE receipt (num INTEGER PRIMARY KEY, note BLOB NOT NULL);`,
}

// database is one open connection set: a pinned writer and a pool of readers.
type database struct {
	path   string
	writeQ *sql.DB
	w      *sql.Conn
	readQ  *sql.DB

	begin, commit, rollback               *sql.Stmt
	putLeaf, putPrivate, putGroup         *sql.Stmt
	putHead, putReceipt, putTile, lastRow *sql.Stmt
}

func dsn(path string, cacheKiB int, extra string) string {
	u := url.URL{Path: path}
	return fmt.Sprintf("file:%s?_busy_timeout=%d&_defensive=1&_dqs=0&_pragma=trusted_schema(0)"+
		"&_pragma=temp_store(2)&_pragma=cache_size(-%d)%s", u.EscapedPath(), busyTimeoutMS, cacheKiB, extra)
}

// openDatabase opens or creates the file, and proves that it will be as durable as we promise before any use.
func openDatabase(ctx context.Context, path string) (*database, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making database directory: %w", err)
	}
	d := &database{path: path}
	var err error
	d.writeQ, err = sql.Open("sqlite", dsn(path, writerCacheKiB, fmt.Sprintf(
		"&_auto_vacuum=NONE&_pragma=page_size(%d)&_journal_mode=WAL&_synchronous=FULL&_txlock=immediate&_pragma=secure_delete(1)"+
			"&_pragma=wal_autocheckpoint(%d)&_pragma=journal_size_limit(%d)", pageBytes, checkpointPages, journalLimitByte)))
	if err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	d.writeQ.SetMaxOpenConns(1)
	if d.w, err = d.writeQ.Conn(ctx); err != nil {
		d.close()
		return nil, fmt.Errorf("opening database: %w", err)
	}
	if err := d.prepare(ctx); err != nil {
		d.close()
		return nil, err
	}
	d.readQ, err = sql.Open("sqlite", dsn(path, readerCacheKiB, "&_query_only=1"))
	if err != nil {
		d.close()
		return nil, fmt.Errorf("opening readers: %w", err)
	}
	d.readQ.SetMaxOpenConns(maxReaders)
	d.readQ.SetMaxIdleConns(maxReaders)
	return d, nil
}

func (d *database) prepare(ctx context.Context) error {
	if err := checkSettings(ctx, d.w); err != nil {
		return err
	}
	if err := migrate(ctx, d.w, migrations); err != nil {
		return err
	}
	for _, p := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&d.begin, "BEGIN IMMEDIATE"}, {&d.commit, "COMMIT"}, {&d.rollback, "ROLLBACK"},
		{&d.putLeaf, "INSERT INTO leaf VALUES (?, ?, ?)"},
		{&d.putPrivate, "INSERT INTO private VALUES (?, ?, ?)"},
		{&d.putGroup, "INSERT INTO subtree VALUES (?, ?)"},
		{&d.putTile, "INSERT OR REPLACE INTO tile VALUES (?, ?)"},
		{&d.putHead, "INSERT OR REPLACE INTO head VALUES (?, ?)"},
		{&d.putReceipt, "INSERT OR REPLACE INTO receipt VALUES (?, ?)"},
		{&d.lastRow, "SELECT coalesce(max(number), -1) FROM leaf WHERE number >= ? AND number < ?"},
	} {
		s, err := d.w.PrepareContext(ctx, p.sql)
		if err != nil {
			return fmt.Errorf("preparing %q: %w", p.sql, err)
		}
		*p.to = s
	}
	return nil
}

// checkSettings reads the settings back: a VFS or build that ignores one would lose acknowledged leaves in silence.
func checkSettings(ctx context.Context, c *sql.Conn) error {
	for _, s := range []struct{ pragma, want string }{
		{"journal_mode", "wal"}, {"synchronous", "2"}, {"secure_delete", "1"}, {"auto_vacuum", "0"},
	} {
		var got string
		if err := c.QueryRowContext(ctx, "PRAGMA "+s.pragma).Scan(&got); err != nil {
			return fmt.Errorf("reading back %s: %w", s.pragma, err)
		}
		if got != s.want {
			return fmt.Errorf("%w: %s is %s, need %s; nothing would be safe, not starting", ErrSettings, s.pragma, got, s.want)
		}
	}
	return nil
}

func tableCount(ctx context.Context, c *sql.Conn) (int, error) {
	var n int
	if err := c.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type = 'table'").Scan(&n); err != nil {
		return 0, fmt.Errorf("reading schema: %w", err)
	}
	return n, nil
}

func readVersion(ctx context.Context, c *sql.Conn) (int, error) {
	n, err := tableCount(ctx, c)
	if err != nil || n == 0 {
		return 0, err
	}
	var v int
	if err := c.QueryRowContext(ctx, "SELECT version FROM format").Scan(&v); err != nil {
		return 0, fmt.Errorf("reading format version: %w", err)
	}
	return v, nil
}

func migrate(ctx context.Context, c *sql.Conn, steps []string) error {
	have, err := readVersion(ctx, c)
	if err != nil {
		return err
	}
	if have > len(steps) {
		return fmt.Errorf("%w: format %d, this program writes %d; install the newer program", ErrNewer, have, len(steps))
	}
	for v := have; v < len(steps); v++ {
		tx, err := c.BeginTx(ctx, nil)
		if err != nil {
			return fmt.Errorf("migrating to format %d: %w", v+1, err)
		}
		if _, err = tx.ExecContext(ctx, steps[v]); err == nil {
			_, err = tx.ExecContext(ctx, "UPDATE format SET version = ?", v+1)
		}
		if err == nil {
			err = tx.Commit()
		}
		if err != nil {
			tx.Rollback()
			return fmt.Errorf("migrating to format %d: %w", v+1, err)
		}
	}
	return nil
}

// close lets go of everything; the last connection folds the WAL into the file.
func (d *database) close() error {
	var errs []error
	if d.readQ != nil {
		errs = append(errs, d.readQ.Close())
	}
	if d.w != nil {
		for _, s := range []*sql.Stmt{d.begin, d.commit, d.rollback, d.putLeaf, d.putPrivate, d.putGroup, d.putHead,
			d.putReceipt, d.putTile, d.lastRow} {
			if s != nil {
				s.Close()
			}
		}
		errs = append(errs, d.w.Close())
	}
	if d.writeQ != nil {
		errs = append(errs, d.writeQ.Close())
	}
	return errors.Join(errs...)
}

// SQLite primary result codes that change what we do (sqlite.org/rescode.html).
const (
	codeIOErr   = 10
	codeCorrupt = 11
	codeFull    = 13
	codeNotADB  = 26
	primaryMask = 0xff
	shmSize     = codeIOErr | 19<<8 // the shared index could not grow: a full disk at open
)

func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

func isFull(err error) bool {
	c := sqliteCode(err)
	return c&primaryMask == codeFull || c == shmSize || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isDamage tells stored bytes that are wrong from a disk that will not answer.
func isDamage(err error) bool {
	c := sqliteCode(err) & primaryMask
	return c == codeCorrupt || c == codeNotADB || errors.Is(err, ErrDamaged) ||
		(c == codeIOErr && !isFull(err)) || (c == 1 && strings.Contains(err.Error(), "malformed"))
}

// lockDir makes sure that one process writes this journal. The lock dies with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking journal: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking journal %s: another process has it open: %w", dir, err)
	}
	return f, nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing directory: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	return nil
}
