package store

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kith/internal/event"
)

// MaxLines is the most rows one read returns.
const MaxLines = 1000

// querier is the reading half of a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

type scanner interface{ Scan(dest ...any) error }

// Logs returns every known log, by edge and by order of appearance.
func (s *Store) Logs(ctx context.Context) ([]Log, error) {
	logs, _, err := readLogs(ctx, s.read)
	if err != nil {
		return nil, fmt.Errorf("reading logs: %w", err)
	}
	return logs, nil
}

func readLogs(ctx context.Context, q querier) ([]Log, []int64, error) {
	rows, err := q.QueryContext(ctx, `SELECT id, edge, node, epoch, size, root, tree, receipt, status, boot, backup FROM logs ORDER BY edge, id`)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	var logs []Log
	var ids []int64
	for rows.Next() {
		var l Log
		var id int64
		var epoch, root, packed []byte
		if err := rows.Scan(&id, &l.Edge, &l.Node, &epoch, &l.Size, &root, &packed, &l.Receipt, &l.Status, &l.Boot, &l.Backup); err != nil {
			return nil, nil, err
		}
		if len(epoch) != len(l.Epoch) || len(root) != len(l.Root) {
			return nil, nil, fmt.Errorf("log of %s: epoch of %d bytes, root of %d", l.Edge, len(epoch), len(root))
		}
		copy(l.Epoch[:], epoch)
		copy(l.Root[:], root)
		t, err := unpackTree(l.Size, packed)
		if err != nil {
			return nil, nil, fmt.Errorf("log of %s: %w", l.Edge, err)
		}
		for _, h := range t.hashes {
			l.Range = append(l.Range, h)
		}
		logs, ids = append(logs, l), append(ids, id)
	}
	return logs, ids, rows.Err()
}

const lineSelect = `SELECT b.first + (l.id & 0xffff), g.edge, g.node, g.epoch, g.receipt_size, l.at, l.member, s.kind, s.clock, s.door,
	s.direction, s.verdict, s.reason, s.assurance, s.note
	FROM lines l JOIN bundles b ON b.seq = l.id >> 16 JOIN logs g ON g.id = b.log JOIN shapes s ON s.id = l.shape`

func scanLine(r scanner) (Line, error) {
	var l Line
	var receipt int64
	var epoch []byte
	err := r.Scan(&l.Index, &l.Edge, &l.Node, &epoch, &receipt, &l.At, &l.Member, &l.Kind, &l.Clock, &l.Door,
		&l.Direction, &l.Verdict, &l.Reason, &l.Assurance, &l.Note)
	copy(l.Epoch[:], epoch)
	l.Receipted = l.Index < uint64(receipt)
	return l, err
}

func queryLines(ctx context.Context, q querier, text string, args ...any) ([]Line, error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Line
	for rows.Next() {
		l, err := scanLine(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, rows.Err()
}

// Lines returns the newest lines of a node by event time, newest first, before the given Unix millisecond (0 = now); of all
// nodes when node is empty.
func (s *Store) Lines(ctx context.Context, node string, before int64, limit int) ([]Line, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	limit = clampLimit(limit)
	ids, err := s.newestNodes(ctx, node, before, limit)
	if err != nil {
		return nil, fmt.Errorf("reading lines of %q: %w", node, err)
	}
	var all []Line
	for _, id := range ids {
		lines, err := queryLines(ctx, s.read, lineSelect+` WHERE l.node = ? AND l.at < ? ORDER BY l.at DESC, l.id DESC LIMIT ?`, id, before, limit)
		if err != nil {
			return nil, fmt.Errorf("reading lines of %q: %w", node, err)
		}
		all = append(all, lines...)
	}
	if len(ids) > 1 {
		slices.SortStableFunc(all, func(a, b Line) int { return cmp.Compare(b.At, a.At) })
	}
	return all[:min(limit, len(all))], nil
}

// newestNodes finds the nodes that can have a line among the newest: of n lines none stands in a node whose own newest line is
// older than that of n other nodes. So a network of a thousand houses costs one look at each, not a list of each.
func (s *Store) newestNodes(ctx context.Context, node string, before int64, n int) ([]int64, error) {
	return addresses(s.read.QueryContext(ctx, `SELECT id FROM (SELECT id, (SELECT max(at) FROM lines WHERE lines.node = nodes.id AND at < ?) AS newest
		FROM nodes WHERE ? = '' OR node = ?) WHERE newest IS NOT NULL ORDER BY newest DESC, id LIMIT ?`, before, node, node, n))
}

// Line returns the line of one leaf.
func (s *Store) Line(ctx context.Context, a Address) (Line, error) {
	id, err := s.address(ctx, a)
	if err != nil {
		return Line{}, err
	}
	l, err := scanLine(s.read.QueryRowContext(ctx, lineSelect+` WHERE l.id = (SELECT seq << 16 | (? - first) FROM bundles
		WHERE log = ? AND first <= ? ORDER BY first DESC LIMIT 1)`, int64(a.Index), id>>maxIndexBits, int64(a.Index)))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrUnknown
	}
	if err != nil {
		return Line{}, fmt.Errorf("reading the line of %s %d: %w", a.Edge, a.Index, err)
	}
	return l, nil
}

// Cursor is a place in the order of arrival. Its text form is for clients, who only ever hand it back.
type Cursor struct{ Bundle, Leaf int64 }

func (c Cursor) String() string {
	return strconv.FormatInt(c.Bundle, 10) + "-" + strconv.FormatInt(c.Leaf, 10)
}

// ParseCursor reads what String wrote; the empty text is the beginning.
func ParseCursor(text string) (Cursor, error) {
	if text == "" {
		return Cursor{}, nil
	}
	a, b, ok := strings.Cut(text, "-")
	bundle, err1 := strconv.ParseInt(a, 10, 64)
	leaf, err2 := strconv.ParseInt(b, 10, 64)
	if !ok || err1 != nil || err2 != nil || bundle < 0 || leaf < 0 {
		return Cursor{}, fmt.Errorf("cursor %.40q: use the one that the last answer gave", text)
	}
	return Cursor{bundle, leaf}, nil
}

// LinesAfter returns lines in the order of their arrival, so that a reader who comes back misses nothing, also when an
// edge catches up on last week. The cursor is the place after the last line returned.
func (s *Store) LinesAfter(ctx context.Context, after Cursor, limit int) ([]Line, Cursor, error) {
	limit = clampLimit(limit)
	rows, err := s.read.QueryContext(ctx, `SELECT seq, first, n FROM bundles WHERE seq >= ? ORDER BY seq LIMIT ?`, after.Bundle, limit+1)
	if err != nil {
		return nil, after, fmt.Errorf("reading arrivals: %w", err)
	}
	type span struct{ seq, first, n int64 }
	var spans []span
	for rows.Next() {
		var b span
		if err := rows.Scan(&b.seq, &b.first, &b.n); err != nil {
			return nil, after, errors.Join(err, rows.Close())
		}
		spans = append(spans, b)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, after, fmt.Errorf("reading arrivals: %w", err)
	}
	var all []Line
	for _, b := range spans {
		skip := int64(0)
		if b.seq == after.Bundle {
			skip = after.Leaf
		}
		lines, err := queryLines(ctx, s.read, lineSelect+` WHERE l.id >= ? AND l.id < ? ORDER BY l.id LIMIT ?`,
			b.seq<<placeBits+skip, (b.seq+1)<<placeBits, limit-len(all))
		if err != nil {
			return nil, after, fmt.Errorf("reading arrivals: %w", err)
		}
		all = append(all, lines...)
		if len(all) >= limit {
			return all, Cursor{b.seq, int64(lines[len(lines)-1].Index) + 1 - b.first}, nil
		}
		after = Cursor{b.seq, b.n}
	}
	return all, after, nil
}

// Newest is the cursor after everything that is stored now.
func (s *Store) Newest(ctx context.Context) (Cursor, error) {
	var c Cursor
	err := s.read.QueryRowContext(ctx, `SELECT seq, n FROM bundles ORDER BY seq DESC LIMIT 1`).Scan(&c.Bundle, &c.Leaf)
	if errors.Is(err, sql.ErrNoRows) {
		return c, nil
	}
	return c, err
}

// seenSelect reads presence with what the line and its bundle say of it.
const seenSelect = `SELECT p.member, n.node, g.edge, g.epoch, b.first + (p.line & 0xffff), l.at, s.clock, s.door, s.direction,
	p.received, p.line, p.id
	FROM presence p JOIN nodes n ON n.id = p.node JOIN lines l ON l.id = p.line JOIN shapes s ON s.id = l.shape
	JOIN bundles b ON b.seq = p.line >> 16 JOIN logs g ON g.id = b.log`

func scanPlace(r scanner) (*place, error) {
	var p place
	var epoch []byte
	err := r.Scan(&p.Member, &p.Node, &p.Edge, &epoch, &p.Index, &p.At, &p.Clock, &p.Door, &p.Direction, &p.Received, &p.Arrival, &p.row)
	copy(p.Epoch[:], epoch)
	return &p, err
}

// Presence returns the last place of every member whose last place is this node; of all nodes when node is empty.
func (s *Store) Presence(ctx context.Context, node string) ([]Seen, error) {
	rows, err := s.read.QueryContext(ctx, seenSelect+` WHERE ? = '' OR n.node = ? ORDER BY p.member`, node, node)
	if err != nil {
		return nil, fmt.Errorf("reading presence: %w", err)
	}
	defer rows.Close()
	var all []Seen
	for rows.Next() {
		p, err := scanPlace(rows)
		if err != nil {
			return nil, fmt.Errorf("reading presence: %w", err)
		}
		all = append(all, p.Seen)
	}
	return all, rows.Err()
}

// Facts returns the last word on each thing of the edges of a node; of all nodes when node is empty.
func (s *Store) Facts(ctx context.Context, node string) ([]Fact, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT node, edge, topic, subject, value, why, at, address FROM facts
		WHERE ? = '' OR node = ? ORDER BY edge, topic, subject`, node, node)
	if err != nil {
		return nil, fmt.Errorf("reading facts: %w", err)
	}
	defer rows.Close()
	var all []Fact
	for rows.Next() {
		var f Fact
		var address int64
		if err := rows.Scan(&f.Node, &f.Edge, &f.Topic, &f.Subject, &f.Value, &f.Why, &f.At, &address); err != nil {
			return nil, fmt.Errorf("reading facts: %w", err)
		}
		f.Index = uint64(address) & (1<<maxIndexBits - 1)
		all = append(all, f)
	}
	return all, rows.Err()
}

// Leaf returns the exact bytes of one leaf; ErrLost when it lies in a gap.
func (s *Store) Leaf(ctx context.Context, a Address) ([]byte, error) {
	id, err := s.address(ctx, a)
	if err != nil {
		return nil, err
	}
	b, _, err := leafBytes(ctx, s.read, id)
	if err != nil {
		return nil, fmt.Errorf("reading leaf %s %s %d: %w", a.Edge, a.Epoch, a.Index, err)
	}
	return b, nil
}

// Evidence returns what was kept about a log, oldest first.
func (s *Store) Evidence(ctx context.Context, edge string, epoch event.Epoch) ([]Evidence, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT kind, idx, bytes, why FROM evidence WHERE edge = ? AND epoch = ? ORDER BY id`, edge, epoch[:])
	if err != nil {
		return nil, fmt.Errorf("reading evidence: %w", err)
	}
	defer rows.Close()
	var all []Evidence
	for rows.Next() {
		var e Evidence
		if err := rows.Scan(&e.Kind, &e.Index, &e.Bytes, &e.Why); err != nil {
			return nil, fmt.Errorf("reading evidence: %w", err)
		}
		all = append(all, e)
	}
	return all, rows.Err()
}

func (s *Store) address(ctx context.Context, a Address) (int64, error) {
	var id, size int64
	err := s.read.QueryRowContext(ctx, `SELECT id, size FROM logs WHERE edge = ? AND epoch = ?`, a.Edge, a.Epoch[:]).Scan(&id, &size)
	if errors.Is(err, sql.ErrNoRows) || err == nil && a.Index >= uint64(size) {
		return 0, fmt.Errorf("leaf %s %s %d: %w", a.Edge, a.Epoch, a.Index, ErrUnknown)
	}
	if err != nil {
		return 0, fmt.Errorf("finding leaf %s %d: %w", a.Edge, a.Index, err)
	}
	return id<<maxIndexBits | int64(a.Index), nil
}

// leafBytes reads one line, and whether it is an opaque one.
func leafBytes(ctx context.Context, q querier, address int64) ([]byte, bool, error) {
	index := address & (1<<maxIndexBits - 1)
	var first, n int64
	var lines, bits []byte
	var lost bool
	err := q.QueryRowContext(ctx, `SELECT first, n, lines, opaque, lost FROM bundles WHERE log = ? AND first <= ?
		ORDER BY first DESC LIMIT 1`, address>>maxIndexBits, index).Scan(&first, &n, &lines, &bits, &lost)
	switch {
	case errors.Is(err, sql.ErrNoRows) || err == nil && index >= first+n:
		return nil, false, ErrUnknown
	case err == nil && lost:
		return nil, false, ErrLost
	case err != nil:
		return nil, false, err
	}
	place := uint64(index - first)
	for ; first < index; first++ {
		_, lines, _ = bytes.Cut(lines, newline)
	}
	line, _, _ := bytes.Cut(lines, newline)
	return line, isOpaque(bits, place), nil
}

// leafAt reads a leaf with its private part. An opaque line comes back with Kind "".
func leafAt(ctx context.Context, q querier, address int64) (event.Leaf, *event.Private, error) {
	b, unread, err := leafBytes(ctx, q, address)
	if err != nil || unread {
		return event.Leaf{}, nil, err
	}
	leaf, err := event.Parse(b)
	if err != nil {
		return leaf, nil, err
	}
	part, state, err := privateAt(ctx, q, address)
	if err != nil || state != PrivatePresent {
		return leaf, nil, err
	}
	return leaf, readPrivate(part.Bytes), nil
}

// eachLeaf walks the stored lines [from, to) of a log; a gap among them is ErrLost.
func eachLeaf(ctx context.Context, q querier, log int64, from, to uint64, f func(uint64, []byte) error) error {
	rows, err := q.QueryContext(ctx, `SELECT first, n, lines, lost FROM bundles WHERE log = ? AND first + n > ? AND first < ? ORDER BY first`, log, int64(from), int64(to))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var first, n uint64
		var lines sql.RawBytes
		var lost bool
		if err := rows.Scan(&first, &n, &lines, &lost); err != nil {
			return err
		}
		if lost {
			return fmt.Errorf("[%d, %d): %w", first, first+n, ErrLost)
		}
		rest := []byte(lines)
		for i := first; i < first+n; i++ {
			var line []byte
			line, rest, _ = bytes.Cut(rest, newline)
			if i < from || i >= to {
				continue
			}
			if err := f(i, line); err != nil {
				return err
			}
		}
	}
	return rows.Err()
}

func clampLimit(n int) int { return max(1, min(n, MaxLines)) }
