package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/wire"
)

// What we sign carries our line only; a receipt carries ours and the hub's.
const (
	headLines    = 1
	receiptLines = 2
)

// openCheckpoint verifies a signed checkpoint of origin that has so many signature lines. Every verifier given must have
// signed it. Foreign bytes: bounded, and accepted in one spelling only, so that no bit of a stored note can change unseen.
func openCheckpoint(text []byte, origin string, lines int, by ...note.Verifier) (signed, error) {
	if len(text) > maxNote {
		return signed{}, fmt.Errorf("note of %d bytes, limit %d", len(text), maxNote)
	}
	n, err := note.Open(text, note.VerifierList(by...))
	if err != nil {
		return signed{}, err
	}
	for _, v := range by {
		if !signedBy(n, v) {
			return signed{}, fmt.Errorf("note lacks the signature of %s", v.Name())
		}
	}
	if err := wire.OneSpelling(text, lines); err != nil {
		return signed{}, err
	}
	c, err := wire.ParseCheckpoint(n.Text)
	switch {
	case err != nil:
		return signed{}, err
	case c.Origin != origin:
		return signed{}, fmt.Errorf("checkpoint is of another log, want %s", origin)
	}
	return signed{size: c.Size, root: c.Root, note: append([]byte(nil), text...)}, nil
}

func signedBy(n *note.Note, v note.Verifier) bool {
	for _, s := range n.Sigs {
		if s.Name == v.Name() && s.Hash == v.KeyHash() {
			return true
		}
	}
	return false
}

// Checkpoint signs the head of the epoch's first size leaves; size 0 means all of them. The largest head ever signed is
// durable before its bytes are returned, and every smaller one is proven to be a prefix of it: so no two heads of one
// size can differ, whatever happened to the disk in between (invariant I8).
func (j *Journal) Checkpoint(ctx context.Context, id event.Epoch, size uint64) ([]byte, error) {
	e, err := j.view.Load().find(id)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		size = e.tree.size
	}
	if size == e.head.size && e.head.note != nil {
		return e.head.note, nil
	}
	root, err := j.RootAt(ctx, id, size)
	if err != nil {
		return nil, fmt.Errorf("signing head: %w", err)
	}
	if size < e.head.size {
		if err := j.provePrefix(ctx, e, size, root); err != nil {
			return nil, fmt.Errorf("signing head: %w", err)
		}
	}
	text, err := note.Sign(&note.Note{Text: wire.Checkpoint{Origin: j.origin(id), Size: size, Root: root}.Text()}, j.opt.Signer)
	if err != nil {
		return nil, fmt.Errorf("signing head: %w", err)
	}
	if size <= e.head.size {
		return text, nil
	}
	err = j.ask1(ctx, func(t *txn) error {
		e, err := t.find(id)
		if err != nil {
			return err
		}
		if size > e.tree.size {
			// Only after a loss between signing and storing: the bytes die here.
			return fmt.Errorf("%w: head of %d over %d leaves", ErrRange, size, e.tree.size)
		}
		if size <= e.head.size {
			return nil // a larger head of the same tree is already durable
		}
		e.head = signed{size: size, root: root, note: text}
		return t.exec(t.db.putHead, e.num, text)
	})
	if err != nil {
		return nil, fmt.Errorf("keeping signed head: %w", err)
	}
	return text, nil
}

func (j *Journal) provePrefix(ctx context.Context, e *epoch, size uint64, root tlog.Hash) error {
	if size == 0 {
		return nil
	}
	p, err := j.Consistency(ctx, e.id, size, e.head.size)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(p, int64(e.head.size), e.head.root, int64(size), root); err != nil {
		return fmt.Errorf("%w: head of %d does not lead to the signed head of %d: %w", ErrDamaged, size, e.head.size, err)
	}
	return nil
}

// Receipt is the newest one: the size it covers and its note, nil when there is none.
func (j *Journal) Receipt(id event.Epoch) (size uint64, text []byte) {
	e, err := j.view.Load().find(id)
	if err != nil {
		return 0, nil
	}
	return e.receipt.size, e.receipt.note
}

// SetReceipt takes a checkpoint of ours with the hub's co-signature (C2SP tlog-cosignature, cosignature/v1). It is
// refused with ErrReceipt unless both signatures stand, the size is not beyond our head and the root is our own root at
// that size. An older receipt than the one we hold is valid and changes nothing.
func (j *Journal) SetReceipt(ctx context.Context, text []byte) error {
	if j.opt.Cosigner == nil {
		return fmt.Errorf("%w: this edge knows no hub", ErrReceipt)
	}
	if len(text) > maxNote {
		return fmt.Errorf("%w: note of %d bytes, limit %d", ErrReceipt, len(text), maxNote)
	}
	id, err := j.epochOf(text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	s, err := openCheckpoint(text, j.origin(id), receiptLines, j.opt.Verifier, j.opt.Cosigner)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	root, err := j.RootAt(ctx, id, s.size)
	if errors.Is(err, ErrRange) {
		return fmt.Errorf("%w: covers %d leaves: %w", ErrReceipt, s.size, err)
	}
	if err != nil {
		return fmt.Errorf("checking receipt: %w", err)
	}
	if root != s.root {
		return fmt.Errorf("%w: its root at size %d is not ours", ErrReceipt, s.size)
	}
	err = j.ask1(ctx, func(t *txn) error {
		e, err := t.find(id)
		if err != nil || s.size < e.receipt.size || s.size == e.receipt.size && e.receipt.note != nil {
			return err
		}
		if s.size > e.tree.size {
			return fmt.Errorf("%w: covers %d leaves, there are %d", ErrReceipt, s.size, e.tree.size)
		}
		e.receipt = s
		return t.exec(t.db.putReceipt, e.num, s.note)
	})
	if err != nil {
		return fmt.Errorf("keeping receipt: %w", err)
	}
	return nil
}

// epochOf reads the epoch out of the first line; openCheckpoint then holds the note to that very origin.
func (j *Journal) epochOf(text []byte) (event.Epoch, error) {
	line, _, _ := strings.Cut(string(text), "\n")
	prefix := strings.TrimSuffix(j.origin(event.Epoch{}), event.Epoch{}.String())
	hex, ok := strings.CutPrefix(line, prefix)
	if !ok {
		return event.Epoch{}, fmt.Errorf("note is not of this edge, want a first line %s<epoch>", prefix)
	}
	id, err := event.ParseEpoch(hex)
	if err != nil {
		return id, err
	}
	_, err = j.view.Load().find(id)
	return id, err
}

// SetBackup tells up to which index the hub has this epoch in a verified backup. It may go down: a restored hub can
// have less than it once said, and pruning must follow the smaller figure.
func (j *Journal) SetBackup(ctx context.Context, id event.Epoch, watermark uint64) error {
	e, err := j.view.Load().find(id)
	if err != nil {
		return err
	}
	if watermark = min(watermark, e.tree.size); watermark == e.backup {
		return nil
	}
	err = j.ask1(ctx, func(t *txn) error {
		e, err := t.find(id)
		if err != nil {
			return err
		}
		e.backup = min(watermark, e.tree.size)
		return t.execSQL("UPDATE epoch SET backup = ? WHERE num = ?", int64(e.backup), e.num)
	})
	if err != nil {
		return fmt.Errorf("keeping backup watermark %s: %w", strconv.FormatUint(watermark, 10), err)
	}
	return nil
}
