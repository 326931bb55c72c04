package load

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// bare is SQLite with nothing around it, as durable as we are (WAL, synchronous FULL): what our stores stand beside. The
// driver is the one that journal and store have linked in.
type bare struct {
	db  *sql.DB
	put *sql.Stmt
}

func openBare(ctx context.Context, path string) (*bare, error) {
	db, err := openSQLite(path, true)
	if err != nil {
		return nil, err
	}
	b := &bare{db: db}
	if _, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS bare (n INTEGER PRIMARY KEY, line BLOB)"); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if b.put, err = db.PrepareContext(ctx, "INSERT INTO bare (line) VALUES (?)"); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return b, nil
}

// insert is one durable row.
func (b *bare) insert(line []byte) (time.Duration, error) {
	began := time.Now()
	_, err := b.put.Exec(line)
	return time.Since(began), err
}

func (b *bare) close() error { return errors.Join(b.put.Close(), b.db.Close()) }

func openSQLite(path string, write bool) (*sql.DB, error) {
	if write {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
	}
	mode := "ro"
	if write {
		mode = "rwc&_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-65536)&_pragma=wal_autocheckpoint(4000)"
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&mode="+mode)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// hubTables hold what a batch becomes: the bundle, the private parts beside it, and one line a leaf.
func hubTables() []string { return []string{"bundles", "private_parts", "lines"} }

// rawGroup is how many leaves one transaction of the bare inserts holds.
const rawGroup = 1000

// rawIngest writes the rows of a hub's database into a fresh one with the same tables and indexes: prepared inserts,
// rawGroup leaves a transaction, no check, no projection, no presence. It says how long it took, what it used of the
// processors, and how many leaves there are.
func rawIngest(ctx context.Context, hub, to string) (took, used time.Duration, leaves int, err error) {
	from, err := openSQLite(hub, false)
	if err != nil {
		return 0, 0, 0, err
	}
	defer from.Close()
	db, err := openSQLite(to, true)
	if err != nil {
		return 0, 0, 0, err
	}
	defer db.Close()
	var work [3][][]any
	var puts [3]*sql.Stmt
	for i, table := range hubTables() {
		if err := copyShape(ctx, from, db, table); err != nil {
			return 0, 0, 0, err
		}
		if work[i], err = readRows(ctx, from, table); err != nil {
			return 0, 0, 0, err
		}
		if len(work[i]) == 0 {
			return 0, 0, 0, fmt.Errorf("the hub's %s is empty", table)
		}
		marks := "?"
		for range len(work[i][0]) - 1 {
			marks += ",?"
		}
		if puts[i], err = db.PrepareContext(ctx, "INSERT INTO "+table+" VALUES ("+marks+")"); err != nil {
			return 0, 0, 0, err
		}
	}
	leaves = len(work[2])
	ctx = context.WithoutCancel(ctx) // the driver starts a goroutine a statement for one that can end
	groups := max(1, leaves/rawGroup)
	began, before := time.Now(), processorTime()
	for g := range groups {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return 0, 0, 0, err
		}
		for i := range work {
			put := tx.StmtContext(ctx, puts[i])
			for _, row := range work[i][len(work[i])*g/groups : len(work[i])*(g+1)/groups] {
				if _, err := put.ExecContext(ctx, row...); err != nil {
					return 0, 0, 0, errors.Join(err, tx.Rollback())
				}
			}
		}
		if err := tx.Commit(); err != nil {
			return 0, 0, 0, err
		}
	}
	return time.Since(began), processorTime() - before, leaves, nil
}

func copyShape(ctx context.Context, from, to *sql.DB, table string) error {
	rows, err := from.QueryContext(ctx, "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type DESC", table)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		if _, err := to.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return rows.Err()
}

func readRows(ctx context.Context, db *sql.DB, table string) ([][]any, error) {
	rows, err := db.QueryContext(ctx, "SELECT * FROM "+table+" ORDER BY 1")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var out [][]any
	for rows.Next() {
		row, to := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			to[i] = &row[i]
		}
		if err := rows.Scan(to...); err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, rows.Err()
}
