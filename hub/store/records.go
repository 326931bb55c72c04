package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Record is one thing of the registry: its meaning is the registry's, its bytes are kept here. Body nil removes it.
type Record struct {
	Kind string // places, edges, members, cards, grants, schedules, closures, resources, erased
	ID   string
	Body []byte
}

// Roster is one version of a node's roster.
type Roster struct {
	Node     string
	Version  uint64
	Issued   int64    // Unix seconds
	Content  [32]byte // hash of what the document says, without version and time
	Document []byte   // nil for versions that are no longer the newest
}

// MaxRecord bounds one record, in bytes.
const MaxRecord = 64 << 10

var recordTables = map[string]struct{ put, drop, list string }{
	"places":    recordSQL("places"),
	"edges":     recordSQL("edges"),
	"members":   recordSQL("members"),
	"cards":     recordSQL("cards"),
	"grants":    recordSQL("grants"),
	"schedules": recordSQL("schedules"),
	"closures":  recordSQL("closures"),
	"resources": recordSQL("resources"),
	"erased":    recordSQL("erased"),
}

func recordSQL(table string) struct{ put, drop, list string } {
	return struct{ put, drop, list string }{
		`INSERT INTO ` + table + ` (id, body) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body`,
		`DELETE FROM ` + table + ` WHERE id = ?`,
		`SELECT id, body FROM ` + table + ` ORDER BY id`,
	}
}

// Save makes the registry's change and the rosters that follow from it durable in one transaction.
func (s *Store) Save(ctx context.Context, records []Record, rosters []Roster) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("saving the registry: %w", classify(err))
	}
	err = saveAll(ctx, tx, records, rosters)
	if err != nil {
		return errors.Join(fmt.Errorf("saving the registry: %w", classify(err)), ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("saving the registry: %w", classify(err))
	}
	return nil
}

func saveAll(ctx context.Context, tx *sql.Tx, records []Record, rosters []Roster) error {
	for _, r := range records {
		table, ok := recordTables[r.Kind]
		if !ok {
			return fmt.Errorf("no records of kind %q", r.Kind)
		}
		if r.ID == "" || len(r.Body) > MaxRecord {
			return fmt.Errorf("%s %q: %d bytes, limit %d", r.Kind, r.ID, len(r.Body), MaxRecord)
		}
		var err error
		if r.Body == nil {
			_, err = tx.ExecContext(ctx, table.drop, r.ID)
		} else {
			_, err = tx.ExecContext(ctx, table.put, r.ID, r.Body)
		}
		if err != nil {
			return fmt.Errorf("%s %q: %w", r.Kind, r.ID, err)
		}
	}
	for _, r := range rosters {
		if err := saveRoster(ctx, tx, r); err != nil {
			return fmt.Errorf("roster of %s version %d: %w", r.Node, r.Version, err)
		}
	}
	return nil
}

func saveRoster(ctx context.Context, tx *sql.Tx, r Roster) error {
	var newest uint64
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM rosters WHERE node = ?`, r.Node).Scan(&newest); err != nil {
		return err
	}
	if r.Version <= newest {
		return fmt.Errorf("version %d stands already: an edge would refuse to go back", newest)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE rosters SET document = NULL WHERE node = ? AND document IS NOT NULL`, r.Node); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO rosters (node, version, issued, content, document) VALUES (?, ?, ?, ?, ?)`,
		r.Node, int64(r.Version), r.Issued, r.Content[:], r.Document)
	return err
}

// Records returns every record of a kind, by id.
func (s *Store) Records(ctx context.Context, kind string) ([]Record, error) {
	table, ok := recordTables[kind]
	if !ok {
		return nil, fmt.Errorf("reading records: no records of kind %q", kind)
	}
	rows, err := s.read.QueryContext(ctx, table.list)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", kind, err)
	}
	defer rows.Close()
	var all []Record
	for rows.Next() {
		r := Record{Kind: kind}
		if err := rows.Scan(&r.ID, &r.Body); err != nil {
			return nil, fmt.Errorf("reading %s: %w", kind, err)
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// Rosters returns the newest version of every node.
func (s *Store) Rosters(ctx context.Context) ([]Roster, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT node, version, issued, content, document FROM rosters r
		WHERE version = (SELECT max(version) FROM rosters n WHERE n.node = r.node) ORDER BY node`)
	if err != nil {
		return nil, fmt.Errorf("reading rosters: %w", err)
	}
	defer rows.Close()
	var all []Roster
	for rows.Next() {
		var r Roster
		var content []byte
		if err := rows.Scan(&r.Node, &r.Version, &r.Issued, &content, &r.Document); err != nil {
			return nil, fmt.Errorf("reading rosters: %w", err)
		}
		copy(r.Content[:], content)
		all = append(all, r)
	}
	return all, rows.Err()
}
