package journal

import (
	"context"
	"encoding/hex"
	"fmt"

	"kith/internal/event"
)

// MaxReplay bounds the leaves one StartEpoch carries over. An edge that was off the net for three weeks at 5,000 events
// a day has 105,000.
const MaxReplay = 200_000

// Carry is what a new epoch takes over from the old one.
type Carry struct {
	Leaves []Entry // to be replayed
	Size   uint64  // of the old epoch, as its reader saw it
}

// StartEpoch seals the current epoch and opens a new one in a single transaction: its first leaf is of kind (recovered,
// restored or fork) with body, then follow the leaves of carry as replayed ones, originals byte for byte. With
// restored and fork the old epoch is abandoned: nothing past its receipt may be delivered, since the hub knows better.
// body.OldEpoch is filled when empty. Replayed leaves that are replayed again are not wrapped twice. A leaf that was appended
// behind carry.Size makes it ErrRange: it would stay in an epoch that nobody delivers; read again and carry it too. So does an
// erasing that began meanwhile.
func (j *Journal) StartEpoch(ctx context.Context, kind event.Kind, body event.Epochal, carry Carry) error {
	if kind != event.KindRecovered && kind != event.KindRestored && kind != event.KindFork {
		return fmt.Errorf("starting epoch: kind %q does not start one", kind)
	}
	if body.OldEpoch == "" {
		body.OldEpoch = j.Head().Epoch.String()
	}
	unwanted := j.unwanted.Load()
	rows, err := j.epochRows(kind, body, carry.Leaves)
	if err != nil {
		return fmt.Errorf("starting epoch: %w", err)
	}
	err = j.ask1(ctx, func(t *txn) error {
		if j.unwanted.Load() != unwanted {
			return fmt.Errorf("%w: somebody was erased while the leaves were read", ErrRange)
		}
		if now := t.epochs[len(t.epochs)-1].id.String(); body.OldEpoch != now {
			return fmt.Errorf("%w: epoch %s is no longer the current one", ErrRange, body.OldEpoch)
		}
		if size := uint64(t.current().tree.size); size != carry.Size {
			return fmt.Errorf("%w: the epoch has grown to %d leaves while %d were read", ErrRange, size, carry.Size)
		}
		return t.startEpoch(rows, kind != event.KindRecovered)
	})
	if err != nil {
		return fmt.Errorf("starting epoch: %w", err)
	}
	return nil
}

// epochRows prepares the first leaf and the replayed ones.
func (j *Journal) epochRows(kind event.Kind, body event.Epochal, replay []Entry) ([]row, error) {
	if len(replay) > MaxReplay {
		return nil, fmt.Errorf("%d leaves to replay, limit %d", len(replay), MaxReplay)
	}
	at, mono, clock := j.opt.Now()
	first := Record{Kind: kind, At: at, Mono: mono, Clock: clock, Body: mustMarshal(body)}
	records := append(make([]Record, 0, len(replay)+1), first)
	unwanted := j.unwanted.Load()
	for i := range replay {
		n := replay[i]
		if unwanted != nil && n.Private != nil && event.Names(n.Private, *unwanted) {
			n.Salt, n.Private = [32]byte{}, nil // it was read before it was erased
		}
		rec, err := replayed(&n)
		if err != nil {
			return nil, fmt.Errorf("replaying leaf %d: %w", replay[i].Index, err)
		}
		rec.At, rec.Mono, rec.Clock = at, mono, clock
		records = append(records, rec)
	}
	rows := make([]row, len(records))
	for i := range records {
		var err error
		if rows[i], err = j.prepare(&records[i]); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// replayed wraps one original. Its member and card are repeated outside, so that erasing a person finds it.
func replayed(n *Entry) (Record, error) {
	leaf, err := event.Parse(n.Leaf)
	if err != nil {
		return Record{}, err
	}
	var inner event.Private
	if n.Private != nil {
		if inner, err = event.ParsePrivate(n.Private); err != nil {
			return Record{}, err
		}
	}
	if leaf.Kind == event.KindReplayed {
		rec := Record{Kind: leaf.Kind, Body: leaf.Body}
		if n.Private != nil {
			rec.Private = &inner
		}
		return rec, nil
	}
	rec := Record{Kind: event.KindReplayed, Body: mustMarshal(event.Replayed{
		OldEpoch: leaf.Epoch.String(), OldIndex: leaf.Index, Leaf: string(n.Leaf),
	})}
	if n.Private != nil {
		rec.Private = &event.Private{Member: inner.Member, Card: inner.Card, Body: mustMarshal(event.ReplayedPrivate{
			Salt: hex.EncodeToString(n.Salt[:]), Private: string(n.Private),
		})}
	}
	return rec, nil
}

// startEpoch seals the last epoch, if there is one, and writes rows into a new one.
func (t *txn) startEpoch(rows []row, abandon bool) error {
	num := int64(1)
	if len(t.epochs) > 0 {
		old := t.current()
		old.sealed, old.abandoned = true, old.abandoned || abandon
		num = old.num + 1
		if err := t.execSQL("UPDATE epoch SET sealed = 1, abandoned = ?, size = ? WHERE num = ?",
			old.abandoned, int64(old.tree.size), old.num); err != nil {
			return err
		}
	}
	e := newEpoch(num)
	e.tree = e.tree.fork()
	if err := t.execSQL("INSERT INTO epoch (num, id) VALUES (?, ?)", e.num, e.id[:]); err != nil {
		return err
	}
	t.epochs = append(t.epochs, e)
	t.forked[len(t.epochs)-1] = true
	for i := range rows {
		if _, err := t.put(&rows[i]); err != nil {
			if t.err == nil {
				t.err = err
			}
			return err
		}
	}
	return nil
}
