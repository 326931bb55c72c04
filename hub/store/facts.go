package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// MaxFacts is how many things of one edge the hub remembers the last word on: 8 doors, 16 readers and some topics of the edge
// itself are 30, and names change over the years. An edge can name as many things as it writes leaves; beyond the bound the
// word that is oldest goes. That costs nobody but the edge's own node, whose leaves still say everything.
const MaxFacts = 256

type factKey struct{ edge, topic, subject string }

type addressedFact struct {
	Fact
	address int64
}

// putFacts writes the last words of one transaction. The writer counts rows from above: what it put is counted as new until
// the count reaches the bound, and only then the rows are looked at. So the bound holds after every commit.
func (t *commitTx) putFacts() error {
	full := map[string]bool{}
	for _, f := range t.facts {
		if _, err := t.q.fact.ExecContext(t.ctx, f.Edge, f.Topic, f.Subject, f.Node, f.address, f.At, f.Value, f.Why); err != nil {
			return err
		}
		if t.s.facts[f.Edge]++; t.s.facts[f.Edge] > MaxFacts {
			full[f.Edge] = true
		}
	}
	for _, edge := range slices.Sorted(maps.Keys(full)) {
		if err := t.trimFacts(edge); err != nil {
			return err
		}
	}
	return nil
}

// trimFacts drops an edge's oldest words beyond the bound and counts them. A rollback leaves a count that is not too low: there
// were no more than MaxFacts rows before, and none that are not counted here.
func (t *commitTx) trimFacts(edge string) error {
	var n int
	if err := t.tx.QueryRowContext(t.ctx, `SELECT count(*) FROM facts WHERE edge = ?`, edge).Scan(&n); err != nil {
		return err
	}
	t.s.facts[edge] = min(n, MaxFacts)
	if n <= MaxFacts {
		return nil
	}
	if _, err := t.tx.ExecContext(t.ctx, `DELETE FROM facts WHERE edge = ? AND address <= (SELECT address FROM facts WHERE edge = ?
		ORDER BY address DESC LIMIT 1 OFFSET ?)`, edge, edge, MaxFacts); err != nil {
		return err
	}
	_, err := t.tx.ExecContext(t.ctx, `INSERT INTO meta (name, value) VALUES (?, CAST(? AS TEXT)) ON CONFLICT (name)
		DO UPDATE SET value = CAST(CAST(value AS INTEGER) + CAST(excluded.value AS INTEGER) AS TEXT)`, droppedFacts(edge), n-MaxFacts)
	return err
}

func droppedFacts(edge string) string { return "facts dropped of " + edge }

// FactsDropped is how many last words of an edge were dropped because it named more than MaxFacts things.
func (s *Store) FactsDropped(ctx context.Context, edge string) (uint64, error) {
	var n uint64
	err := s.read.QueryRowContext(ctx, `SELECT CAST(value AS INTEGER) FROM meta WHERE name = ?`, droppedFacts(edge)).Scan(&n)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("reading the dropped facts of %s: %w", edge, err)
	}
	return n, nil
}

// warmFacts counts what is there, and brings a database of before the bound under it.
func (s *Store) warmFacts(ctx context.Context) error {
	rows, err := s.write.QueryContext(ctx, `SELECT edge, count(*) FROM facts GROUP BY edge`)
	if err != nil {
		return err
	}
	defer rows.Close()
	over := false
	for rows.Next() {
		var edge string
		var n int
		if err := rows.Scan(&edge, &n); err != nil {
			return err
		}
		s.facts[edge] = n
		over = over || n > MaxFacts
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || !over {
		return err
	}
	dbtx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	t := commitTx{s: s, ctx: ctx, tx: dbtx}
	for _, edge := range slices.Sorted(maps.Keys(s.facts)) {
		if s.facts[edge] > MaxFacts {
			if err := t.trimFacts(edge); err != nil {
				return errors.Join(err, ignoreDone(dbtx.Rollback()))
			}
		}
	}
	return dbtx.Commit()
}

// foldFacts is what Verify compares the rows with: the last words of each edge, the newest MaxFacts of them.
type foldFacts map[string]map[factKey]addressedFact

func (all foldFacts) add(f Fact, address int64) {
	m := all[f.Edge]
	if m == nil {
		m = map[factKey]addressedFact{}
		all[f.Edge] = m
	}
	k := factKey{f.Edge, f.Topic, f.Subject}
	if old, ok := m[k]; !ok || address > old.address {
		m[k] = addressedFact{f, address}
	}
	if len(m) >= 2*MaxFacts { // what falls out now could come back only with an address that falls out again
		all.trim(f.Edge)
	}
}

func (all foldFacts) trim(edge string) {
	m := all[edge]
	if len(m) <= MaxFacts {
		return
	}
	keys := slices.SortedFunc(maps.Keys(m), func(a, b factKey) int { return cmp.Compare(m[a].address, m[b].address) })
	for _, k := range keys[:len(m)-MaxFacts] {
		delete(m, k)
	}
}

// rest trims every edge and counts what is left.
func (all foldFacts) rest() int {
	n := 0
	for edge := range all {
		all.trim(edge)
		n += len(all[edge])
	}
	return n
}
