package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// Bounds of the search through a damaged table.
const (
	probeMisses = 2 * groupSize // point look-ups without a row before we believe that nothing follows
	maxGap      = 1 << 20       // rows; a larger jump of the row number is a damaged number, not a gap
)

// salvage copies one epoch out of a damaged database. A leaf is good if its line hashes to the hash beside it and says
// this very address. A bad leaf that the receipt covers becomes a hole: the hub has it, the tree goes on over its group's
// root. At the first bad leaf past the receipt the epoch ends, and good leaves behind it are carried over.
type salvage struct {
	j     *Journal
	ctx   context.Context
	q     *sql.DB
	d     *database
	e     *epoch
	floor uint64 // leaves known to have been acknowledged
	size  uint64 // result: leaves that stand

	roots         map[uint64]tlog.Hash
	head, receipt signed
	headLost      bool
	cut           bool // a bad leaf ended the epoch
	torn          bool // the table could not be read to its end
	group         []cell
	orphans       []Entry
	tx            *sql.Tx
}

// cell is one leaf position of the group being copied.
type cell struct {
	good        bool
	hasHash     bool
	hash        tlog.Hash
	line        []byte
	hasPrivate  bool
	privateGood bool
	salt, part  []byte
}

func (s *salvage) run() (*loss, error) {
	s.readNotes()
	s.readRoots()
	var err error
	if s.tx, err = s.d.w.BeginTx(s.ctx, nil); err != nil {
		return nil, err
	}
	defer s.tx.Rollback()
	out := &epoch{num: s.e.num, id: s.e.id, pruned: s.e.pruned, tree: tree{}.fork()}
	if err := s.prunedGroups(out); err != nil {
		return nil, err
	}
	if err := s.leaves(out); err != nil {
		return nil, err
	}
	return s.finish(out)
}

func (s *salvage) readNotes() {
	origin := s.j.origin(s.e.id)
	for _, n := range []struct {
		table string
		lines int
		to    *signed
	}{{"head", headLines, &s.head}, {"receipt", receiptLines, &s.receipt}} {
		var text []byte
		err := s.q.QueryRowContext(s.ctx, "SELECT note FROM "+n.table+" WHERE num = ?", s.e.num).Scan(&text)
		if err == nil {
			*n.to, err = openCheckpoint(text, origin, n.lines, s.j.opt.Verifier)
		}
		if err != nil && err != sql.ErrNoRows && n.table == "head" {
			s.headLost = true // what was signed is unknown, so nothing may be signed in this epoch again
		}
	}
}

func (s *salvage) readRoots() {
	s.roots = map[uint64]tlog.Hash{}
	rows, err := s.q.QueryContext(s.ctx, "SELECT number, root FROM subtree WHERE number BETWEEN ? AND ?", s.e.number(0), s.e.number(indexEnd))
	if err != nil {
		return
	}
	defer rows.Close()
	for rows.Next() {
		var number int64
		var root sql.RawBytes
		if rows.Scan(&number, &root) == nil && len(root) == tlog.HashSize {
			s.roots[uint64(number-s.e.number(0))] = tlog.Hash(root)
		}
	}
}

// prunedGroups carries packed hashes over. Their leaves are with the hub, so a damaged tile is no loss of a leaf while
// the root stands; without both the tree ends here.
func (s *salvage) prunedGroups(out *epoch) error {
	for g := range s.e.pruned >> groupBits {
		root, haveRoot := s.roots[g]
		var tile []byte
		err := s.q.QueryRowContext(s.ctx, "SELECT hashes FROM tile WHERE number = ?", s.e.number(g)).Scan(&tile)
		if err == nil {
			hashes, err := unpack(tile, s.e, g)
			if err == nil && !haveRoot {
				root, haveRoot = fold(hashes), true
			}
			if err == nil && fold(hashes) == root {
				if _, err := s.tx.ExecContext(s.ctx, "INSERT INTO tile VALUES (?, ?)", s.e.number(g), tile); err != nil {
					return err
				}
			}
		}
		if !haveRoot {
			out.pruned, s.cut = g<<groupBits, true
			return nil
		}
		if err := s.putRoot(out, root); err != nil {
			return err
		}
	}
	return nil
}

func (s *salvage) putRoot(out *epoch, root tlog.Hash) error {
	number := s.e.number(out.tree.size >> groupBits)
	out.tree.pushGroup(root)
	_, err := s.tx.ExecContext(s.ctx, "INSERT INTO subtree VALUES (?, ?)", number, root[:])
	return err
}

// leaves streams rows in order. Where a page cannot be read it feels its way row by row.
func (s *salvage) leaves(out *epoch) error {
	next := s.e.pruned
	feed := func(r *stored) error {
		if r.index < next || r.index-next > maxGap {
			return errEnd
		}
		for ; next < r.index; next++ {
			if err := s.cell(out, next, cell{}); err != nil {
				return err
			}
		}
		next++
		return s.cell(out, r.index, s.judge(r))
	}
	for {
		err := scanLeaves(s.ctx, s.q, s.e, next, indexEnd, feed)
		if err == nil || errors.Is(err, errEnd) {
			s.torn = s.torn || err != nil
			break
		}
		if errors.Is(err, errTarget) || s.ctx.Err() != nil {
			return err
		}
		if at, ok := s.probe(next); ok {
			for ; next < at; next++ {
				if err := s.cell(out, next, cell{}); err != nil {
					return err
				}
			}
			if err := scanLeaves(s.ctx, s.q, s.e, at, at+1, feed); err != nil && sqliteCode(err) == 0 && !errors.Is(err, ErrDamaged) {
				return err
			}
			if next == at { // found by the probe, unreadable now
				if err := s.cell(out, next, cell{}); err != nil {
					return err
				}
				next++
			}
			continue
		}
		s.torn = true
		break
	}
	return s.flush(out)
}

var (
	errEnd    = errors.New("no further row makes sense")
	errTarget = errors.New("writing the rebuilt journal")
)

// probe finds the next readable row by point look-ups.
func (s *salvage) probe(from uint64) (uint64, bool) {
	known := max(s.floor, s.head.size, s.receipt.size, uint64(len(s.roots))<<groupBits)
	for at, misses := from, 0; at < known || misses < probeMisses; at++ {
		var n int
		err := s.q.QueryRowContext(s.ctx, "SELECT length(line) FROM leaf WHERE number = ?", s.e.number(at)).Scan(&n)
		if err == nil {
			return at, true
		}
		misses++
	}
	return 0, false
}

// judge copies a row and says what of it proves itself.
func (s *salvage) judge(r *stored) cell {
	c := cell{hasHash: true, hash: r.hash, hasPrivate: r.hasPrivate}
	leaf, err := event.Parse(r.line)
	c.good = err == nil && leaf.Epoch == s.e.id && leaf.Index == r.index && tlog.RecordHash(r.line) == r.hash
	if !c.good {
		return c
	}
	c.line = append([]byte(nil), r.line...)
	c.privateGood = r.check(s.e) == nil
	c.hasPrivate = leaf.Commitment != nil
	if c.privateGood {
		c.salt, c.part = append([]byte(nil), r.salt...), append([]byte(nil), r.part...)
	}
	return c
}

func (s *salvage) cell(out *epoch, index uint64, c cell) error {
	if s.cut {
		if c.good && index >= s.receipt.size {
			n := Entry{Index: index, Leaf: c.line}
			if c.privateGood && c.hasPrivate && !(&stored{salt: c.salt}).erased() {
				n.Salt, n.Private = [32]byte(c.salt), c.part
			}
			s.orphans = append(s.orphans, n)
		}
		return nil
	}
	s.group = append(s.group, c)
	if len(s.group) == groupSize {
		return s.flush(out)
	}
	return nil
}

// flush writes the collected cells: a whole group, or the tail.
func (s *salvage) flush(out *epoch) error {
	group := s.group
	s.group = nil
	first := out.tree.size
	if s.cut || len(group) == 0 {
		return nil
	}
	root, haveRoot := s.roots[first>>groupBits]
	haveRoot = haveRoot && len(group) == groupSize
	hashes := make([]tlog.Hash, 0, groupSize)
	blind := false
	for i, c := range group {
		index := first + uint64(i)
		// A bad line with a hash beside it may be covered by the receipt, whose root then proves the hash in finish.
		if !c.good && (index >= s.receipt.size || !c.hasHash && !haveRoot) {
			return s.end(out, group[:i], group[i:])
		}
		blind = blind || !c.hasHash
		hashes = append(hashes, c.hash)
	}
	if len(group) < groupSize {
		return s.write(out, group, func(i int) error { out.tree.push(hashes[i]); return nil })
	}
	if !blind {
		root = fold(hashes)
	}
	if err := s.write(out, group, func(int) error { return nil }); err != nil {
		return err
	}
	return s.putRoot(out, root)
}

// end cuts the epoch inside a group and turns to carrying over.
func (s *salvage) end(out *epoch, keep, rest []cell) error {
	for i, c := range keep {
		if !c.hasHash {
			keep, rest = keep[:i], append(append([]cell(nil), keep[i:]...), rest...)
			break
		}
	}
	err := s.write(out, keep, func(i int) error { out.tree.push(keep[i].hash); return nil })
	if err != nil {
		return err
	}
	s.cut = true
	for i, c := range rest {
		if err := s.cell(out, out.tree.size+uint64(i), c); err != nil {
			return err
		}
	}
	return nil
}

func (s *salvage) write(out *epoch, cells []cell, pushed func(int) error) error {
	first := out.tree.size
	put := func(query string, args ...any) error {
		if _, err := s.tx.ExecContext(s.ctx, query, args...); err != nil {
			return fmt.Errorf("%w: %w", errTarget, err)
		}
		return nil
	}
	for i, c := range cells {
		number := s.e.number(first + uint64(i))
		var err error
		if !c.good {
			var hash []byte
			if c.hasHash {
				hash = c.hash[:]
			}
			err = put("INSERT INTO hole VALUES (?, ?, ?)", number, holeLeaf, hash)
		} else {
			err = put("INSERT INTO leaf VALUES (?, ?, ?)", number, c.hash[:], c.line)
		}
		if err == nil && c.good && c.hasPrivate {
			if !c.privateGood {
				c.salt, c.part = make([]byte, 32), []byte{}
				err = put("INSERT INTO hole VALUES (?, ?, NULL)", number, holePrivate)
			}
			if err == nil {
				err = put("INSERT INTO private VALUES (?, ?, ?)", number, c.salt, c.part)
			}
		}
		if err == nil {
			err = pushed(i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finish holds the rebuilt tree against the signatures and closes the epoch if something is missing.
func (s *salvage) finish(out *epoch) (*loss, error) {
	size := out.tree.size
	short := size < max(s.floor, s.head.size, s.receipt.size) || s.e.sealed && size < s.e.tree.size
	contradicts := false
	for _, n := range []*signed{&s.head, &s.receipt} {
		if n.note != nil && n.size <= size && errors.Is(matches(s.ctx, s.tx, out, *n), ErrDamaged) {
			contradicts = true
			n.note = nil
		}
	}
	lost := s.cut || s.torn || short || contradicts || s.headLost
	sealed := s.e.sealed || lost
	_, err := s.tx.ExecContext(s.ctx, `INSERT INTO epoch (num, id, sealed, size, abandoned, pruned, backup) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		s.e.num, s.e.id[:], sealed, int64(size), s.e.abandoned || contradicts, int64(out.pruned), int64(min(s.e.backup, size)))
	for _, n := range []struct {
		table string
		signed
	}{{"head", s.head}, {"receipt", s.receipt}} {
		// A note beyond the end stays in the evidence: the epoch is sealed, so no other head of that size can come.
		if err == nil && n.note != nil && n.size <= size {
			_, err = s.tx.ExecContext(s.ctx, "INSERT INTO "+n.table+" VALUES (?, ?)", s.e.num, n.note)
		}
	}
	if err == nil {
		err = s.tx.Commit()
	}
	s.size = size
	if err != nil || !lost {
		return nil, err
	}
	return &loss{
		body:    event.Epochal{Why: fmt.Sprintf("journal damaged: epoch %s ends at %d", s.e.id, size)},
		orphans: s.orphans, abandon: contradicts,
	}, nil
}
