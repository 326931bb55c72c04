package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
)

const (
	pageBytes      = 4096             // of the database, SQLite's own default
	checkpointWAL  = 4000 * pageBytes // bytes of new WAL that make a checkpoint beside the writer worth its syncs
	writerWAL      = 16000            // pages of WAL at which the writer itself finishes the checkpoint; only then the WAL starts anew
	bytesPerCommit = 8 * pageBytes    // what a commit writes whatever is in it: heads, the ends of tables and indexes
	bytesPerLine   = 96               // of a line in table and index, and its share of presence
)

// checkpoints moves the write-ahead log into the database file on a connection of its own, while the writer goes on: copying
// the pages and syncing the file would otherwise be every third millisecond of a busy writer. It never waits for readers or
// for the writer and keeps none of them waiting, and what it fails to do the writer does itself at writerWAL pages, so its
// errors mean nothing for what is durable: that is the synced WAL.
type checkpoints struct {
	db   *sql.DB
	due  chan struct{}
	quit context.CancelFunc
	done sync.WaitGroup

	running sync.Mutex // SQLite refuses a second checkpoint at the same time; one that must truncate waits here
	written int        // bytes since the last one, about; the writer owns it
}

func (c *checkpoints) start(path string) error {
	db, err := openDB(path, "rw")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	ctx, quit := context.WithCancel(context.Background())
	c.db, c.due, c.quit = db, make(chan struct{}, 1), quit
	c.done.Go(func() { c.run(ctx) })
	return nil
}

func (c *checkpoints) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.due:
		}
		c.running.Lock()
		// A failure shows where it matters, in the writer's own commits; being stopped half way costs nothing.
		_, _ = c.db.ExecContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`)
		c.running.Unlock()
	}
}

// wrote is called by the writer after a commit of about so many bytes.
func (c *checkpoints) wrote(n int) {
	if c.written += n; c.written < checkpointWAL {
		return
	}
	c.written = 0
	select {
	case c.due <- struct{}{}:
	default:
	}
}

// truncate empties the write-ahead log, so that the pages that were there before leave the disk. False: readers hold it up.
func (c *checkpoints) truncate(ctx context.Context, writer *sql.DB) (bool, error) {
	c.running.Lock()
	defer c.running.Unlock()
	var busy, log, moved int
	if err := writer.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &log, &moved); err != nil {
		return false, fmt.Errorf("emptying the write-ahead log: %w", err)
	}
	return busy == 0, nil
}

func (c *checkpoints) close() error {
	if c.db == nil {
		return nil
	}
	c.quit()
	c.done.Wait()
	return c.db.Close()
}
