package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"kith/edge/outbox"
	"kith/internal/wire"
)

const (
	resendAfter = 2 * time.Second  // without a receipt everything that has none is sent again
	giveUp      = 30 * time.Second // without any progress something is wrong
)

// lane delivers one device's messages as the outbox does: a window of batches in flight, and what no receipt covers is sent
// again.
type lane struct {
	device   *device
	messages []message
	send     func(ctx context.Context, payload []byte) error
	received <-chan []byte
	every    time.Duration // between two messages; 0: as fast as receipts come
	first    time.Duration // when the first one is due, so that edges do not speak in step

	waits   []time.Duration // from the moment a message was due to its receipt
	resent  int
	receipt []byte
}

// run returns when receipts cover everything, the last of them proven.
func (l *lane) run(ctx context.Context) error {
	start := time.Now()
	due := func(i int) time.Time { return start.Add(l.first + time.Duration(i)*l.every) }
	sent := make([]time.Time, len(l.messages))
	next, done := 0, 0
	progress := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for done < len(l.messages) {
		for next < len(l.messages) && next-done < outbox.Window && (l.every == 0 || !time.Now().Before(due(next))) {
			if sent[next].IsZero() {
				sent[next] = time.Now()
				if l.every != 0 {
					sent[next] = due(next)
				}
			} else {
				l.resent++
			}
			if err := l.send(ctx, l.messages[next].payload); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				break // the session is away; the timer tries again
			}
			next++
		}
		wait := resendAfter
		if l.every != 0 && next < len(l.messages) && next-done < outbox.Window {
			wait = min(wait, time.Until(due(next)))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			if time.Since(progress) > giveUp {
				return fmt.Errorf("edge %s: no receipt for %v; %d of %d messages are covered", l.device.keys.ID, giveUp, done, len(l.messages))
			}
			if next > done && time.Since(progress) >= resendAfter && time.Since(sent[done]) >= resendAfter {
				next = done
			}
		case b := <-l.received:
			before := done
			if err := l.hear(b, &next, &done, sent); err != nil {
				return err
			}
			if done > before {
				progress = time.Now()
			}
		}
	}
	return l.device.covered(l.receipt)
}

func (l *lane) hear(b []byte, next, done *int, sent []time.Time) error {
	m, err := wire.ParseDown(b)
	if err != nil {
		if errors.Is(err, wire.ErrUnknownType) || errors.Is(err, wire.ErrVersion) {
			return nil
		}
		return err
	}
	switch m := m.(type) {
	case *wire.Receipt:
		now := time.Now()
		for *done < len(l.messages) && m.Epoch == l.device.epoch && l.messages[*done].to <= m.Size {
			l.waits = append(l.waits, now.Sub(sent[*done]))
			*done++
			l.receipt = m.Note
		}
		*next = max(*next, *done)
	case *wire.Need:
		for i := range l.messages {
			if l.messages[i].from == m.From {
				*next = max(i, *done)
			}
		}
	case *wire.Conflict:
		return fmt.Errorf("the hub refuses leaves of %s: %s", l.device.keys.ID, m.Why)
	}
	return nil
}

// runLanes runs all at once and says how long it took.
func runLanes(ctx context.Context, lanes []*lane) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(lanes))
	var wg sync.WaitGroup
	began := time.Now()
	for i, l := range lanes {
		wg.Go(func() {
			if errs[i] = l.run(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return took, err
		}
	}
	return took, errors.Join(errs...)
}
