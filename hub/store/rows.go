package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

const (
	lineWidth = 5  // columns of lines
	manyRows  = 50 // rows of one INSERT: a call costs more than a row
)

const lineInsert = `INSERT INTO lines (id, node, at, shape, member) VALUES `

// statements are prepared once on the one writer connection.
type statements struct {
	bundle, parts, head, receipt *sql.Stmt
	line, lines, dropLine        *sql.Stmt
	seen, seenOf, stayed, moved  *sql.Stmt
	fact                         *sql.Stmt
}

func (q *statements) each(f func(**sql.Stmt, string) error) error {
	for _, e := range []struct {
		st  **sql.Stmt
		sql string
	}{
		{&q.bundle, `INSERT INTO bundles (log, first, n, lines, tree, opaque, received) VALUES (?, ?, ?, ?, ?, ?, ?)`},
		{&q.head, `UPDATE logs SET size = ?1, root = ?2, tree = ?3, status = ?4, boot = ?5 WHERE id = ?6`},
		{&q.receipt, `UPDATE logs SET size = ?1, root = ?2, tree = ?3, status = ?4, boot = ?5, receipt = ?7, receipt_size = ?8 WHERE id = ?6`},
		{&q.line, lineInsert + tuples(1, lineWidth)},
		{&q.lines, lineInsert + tuples(manyRows, lineWidth)},
		{&q.parts, `INSERT INTO private_parts (seq, parts) VALUES (?, ?) ON CONFLICT (seq) DO UPDATE SET parts = excluded.parts`},
		{&q.seenOf, seenSelect + ` WHERE p.member = ?`},
		{&q.seen, `INSERT INTO presence (member, node, line, received) VALUES (?, ?, ?, ?) ON CONFLICT (member) DO NOTHING`},
		{&q.stayed, `UPDATE presence SET line = ?, received = ? WHERE id = ?`}, // leaves both indexes alone
		{&q.moved, `UPDATE presence SET node = ?, line = ?, received = ? WHERE id = ?`},
		{&q.fact, `INSERT INTO facts (edge, topic, subject, node, address, at, value, why) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (edge, topic, subject) DO UPDATE SET node = excluded.node, address = excluded.address,
			at = excluded.at, value = excluded.value, why = excluded.why WHERE excluded.address > facts.address`},
		{&q.dropLine, `DELETE FROM lines WHERE id = ?`},
	} {
		if err := f(e.st, e.sql); err != nil {
			return err
		}
	}
	return nil
}

func (q *statements) prepare(ctx context.Context, db *sql.DB) error {
	return q.each(func(st **sql.Stmt, text string) (err error) {
		*st, err = db.PrepareContext(ctx, text)
		return err
	})
}

// in binds the statements to a transaction; database/sql finds them prepared on the same connection.
func (q *statements) in(ctx context.Context, tx *sql.Tx) statements {
	bound := *q
	_ = bound.each(func(st **sql.Stmt, _ string) error {
		*st = tx.StmtContext(ctx, *st)
		return nil
	})
	return bound
}

func (q *statements) close() {
	_ = q.each(func(st **sql.Stmt, _ string) error {
		if *st != nil {
			_ = (*st).Close() // the connection goes next and takes the statement with it
		}
		return nil
	})
}

// tuples makes "(?, ?), (?, ?)".
func tuples(rows, width int) string {
	one := "(" + strings.TrimSuffix(strings.Repeat("?, ", width), ", ") + ")"
	return strings.TrimSuffix(strings.Repeat(one+", ", rows), ", ")
}

// rowBuffer gathers rows of one table into many-row inserts.
type rowBuffer struct {
	ctx       context.Context
	many, one *sql.Stmt
	width     int
	args      []any
}

func (b *rowBuffer) add(row ...any) error {
	if len(row) != b.width {
		return errors.New("a row of the wrong width")
	}
	b.args = append(b.args, row...)
	if len(b.args) < manyRows*b.width {
		return nil
	}
	_, err := b.many.ExecContext(b.ctx, b.args...)
	b.args = b.args[:0]
	return err
}

func (b *rowBuffer) flush() error {
	for rest := b.args; len(rest) > 0; rest = rest[b.width:] {
		if _, err := b.one.ExecContext(b.ctx, rest[:b.width]...); err != nil {
			return err
		}
	}
	b.args = b.args[:0]
	return nil
}
