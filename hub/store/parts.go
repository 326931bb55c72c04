package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"kith/internal/event"
)

// partsRow is the row of private parts beside one bundle, ascending by index.
type partsRow struct {
	seq, received int64
	first, n      uint64
	parts         []storedPart
}

// line is the number of the line of a leaf of the bundle.
func (p *partsRow) line(index uint64) int64 { return p.seq<<placeBits | int64(index-p.first) }

type storedPart struct {
	PrivatePart
	erased bool
}

const (
	partPresent = 1
	partErased  = 2
)

// at finds the entry of an index, and where it would stand.
func (p *partsRow) at(index uint64) (int, bool) {
	return slices.BinarySearchFunc(p.parts, index, func(s storedPart, i uint64) int {
		switch {
		case s.Index < i:
			return -1
		case s.Index > i:
			return 1
		}
		return 0
	})
}

// add takes a part that is not there yet; an erased one is there.
func (p *partsRow) add(part *PrivatePart) bool {
	if part.Index < p.first || part.Index >= p.first+p.n || len(part.Bytes) > event.MaxPrivate {
		return false
	}
	i, found := p.at(part.Index)
	if !found {
		p.parts = slices.Insert(p.parts, i, storedPart{PrivatePart: *part})
	}
	return !found
}

// erase leaves a mark, also where nothing was.
func (p *partsRow) erase(index uint64) {
	i, found := p.at(index)
	if !found {
		p.parts = slices.Insert(p.parts, i, storedPart{})
	}
	p.parts[i] = storedPart{PrivatePart: PrivatePart{Index: index}, erased: true}
}

// encode writes entries of: uvarint place in the bundle, one byte of state, and when present the salt, a uvarint
// length and the bytes.
func (p *partsRow) encode() []byte {
	size := 0
	for i := range p.parts {
		size += 40 + len(p.parts[i].Bytes)
	}
	b := make([]byte, 0, size)
	for i := range p.parts {
		s := &p.parts[i]
		b = binary.AppendUvarint(b, s.Index-p.first)
		if s.erased {
			b = append(b, partErased)
			continue
		}
		b = append(b, partPresent)
		b = append(b, s.Salt[:]...)
		b = binary.AppendUvarint(b, uint64(len(s.Bytes)))
		b = append(b, s.Bytes...)
	}
	return b
}

var errParts = errors.New("a row of private parts is damaged")

// decode reads what encode wrote and refuses anything else, since a disk may lie. It copies what it keeps.
func (p *partsRow) decode(b []byte) error {
	for len(b) > 0 {
		place, k := binary.Uvarint(b)
		if k <= 0 || place >= p.n || len(b) == k {
			return errParts
		}
		s := storedPart{PrivatePart: PrivatePart{Index: p.first + place}}
		state := b[k]
		b = b[k+1:]
		switch state {
		case partErased:
			s.erased = true
		case partPresent:
			if len(b) < len(s.Salt) {
				return errParts
			}
			copy(s.Salt[:], b)
			b = b[len(s.Salt):]
			n, k := binary.Uvarint(b)
			if k <= 0 || n > uint64(len(b)-k) {
				return errParts
			}
			s.Bytes = bytes.Clone(b[k : k+int(n)])
			b = b[k+int(n):]
		default:
			return errParts
		}
		if len(p.parts) > 0 && p.parts[len(p.parts)-1].Index >= s.Index {
			return errParts
		}
		p.parts = append(p.parts, s)
	}
	return nil
}

func (t *commitTx) putParts(p *partsRow) error {
	b := p.encode()
	t.bytes += len(b)
	_, err := t.q.parts.ExecContext(t.ctx, p.seq, b)
	return err
}

// partsAt reads the private parts of the bundle that holds an address; ErrLost in a gap.
func partsAt(ctx context.Context, q querier, address int64) (partsRow, error) {
	var p partsRow
	var packed []byte
	log, index := address>>maxIndexBits, uint64(address)&(1<<maxIndexBits-1)
	var lost bool
	err := q.QueryRowContext(ctx, `SELECT b.seq, b.first, b.n, b.lost, b.received, p.parts FROM bundles b LEFT JOIN private_parts p ON p.seq = b.seq
		WHERE b.log = ? AND b.first <= ? ORDER BY b.first DESC LIMIT 1`, log, int64(index)).Scan(&p.seq, &p.first, &p.n, &lost, &p.received, &packed)
	if errors.Is(err, sql.ErrNoRows) || err == nil && index >= p.first+p.n {
		return p, ErrUnknown
	}
	if err == nil && lost {
		err = ErrLost
	}
	if err != nil {
		return p, err
	}
	if err := p.decode(packed); err != nil {
		return p, fmt.Errorf("beside the bundle at %d: %w", p.first, err)
	}
	return p, nil
}

// PrivateState says what became of a private part.
type PrivateState string

// The states of a private part.
const (
	PrivateNone    PrivateState = "none" // the leaf has none, or it has not arrived
	PrivatePresent PrivateState = "present"
	PrivateErased  PrivateState = "erased"
)

// Private returns the private part beside a leaf.
func (s *Store) Private(ctx context.Context, a Address) (PrivatePart, PrivateState, error) {
	id, err := s.address(ctx, a)
	if err != nil {
		return PrivatePart{}, PrivateNone, err
	}
	part, state, err := privateAt(ctx, s.read, id)
	if err != nil {
		return part, state, fmt.Errorf("reading the private part of %s %d: %w", a.Edge, a.Index, err)
	}
	return part, state, nil
}

func privateAt(ctx context.Context, q querier, address int64) (PrivatePart, PrivateState, error) {
	row, err := partsAt(ctx, q, address)
	if err != nil {
		return PrivatePart{}, PrivateNone, err
	}
	return row.get(uint64(address) & (1<<maxIndexBits - 1))
}

func (p *partsRow) get(index uint64) (PrivatePart, PrivateState, error) {
	i, found := p.at(index)
	switch {
	case !found:
		return PrivatePart{Index: index}, PrivateNone, nil
	case p.parts[i].erased:
		return PrivatePart{Index: index}, PrivateErased, nil
	}
	return p.parts[i].PrivatePart, PrivatePresent, nil
}
