package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kith/internal/event"
	"kith/internal/journal"
)

// disk is a journal that can be told to fail, with or without having stored.
type disk struct {
	mu      sync.Mutex
	fail    error
	written []journal.Record
}

func (d *disk) Append(_ context.Context, records ...journal.Record) ([]uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail == nil || errors.Is(d.fail, journal.ErrPending) {
		d.written = append(d.written, records...)
	}
	return nil, d.fail
}

func (d *disk) set(err error) { d.mu.Lock(); d.fail = err; d.mu.Unlock() }

func tapFact(t *testing.T, n uint64) event.Fact {
	t.Helper()
	body, err := event.Marshal(event.Tap{Door: "front", Roster: n})
	if err != nil {
		t.Fatal(err)
	}
	return event.Fact{Kind: event.KindTap, Body: body}
}

func TestFactsOutliveAFullDiskInOrderAndOnce(t *testing.T) {
	for name, fault := range map[string]error{"not stored": journal.ErrFull, "stored but reported pending": journal.ErrPending} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &disk{}
				r := newRecorder(d, slog.New(slog.DiscardHandler))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { r.run(ctx); close(done) }()
				for n := uint64(0); n < 30; n++ {
					if n == 10 {
						d.set(fault)
					}
					if n == 20 {
						d.set(nil)
					}
					err := <-r.Record(tapFact(t, n))
					if want := n >= 10 && n < 20; (err != nil) != want {
						t.Fatalf("fact %d: %v", n, err)
					}
				}
				time.Sleep(2 * heldRetry)
				cancel()
				<-done
				if len(d.written) != 30 {
					t.Fatalf("%d facts written, want 30", len(d.written))
				}
				for i, rec := range d.written {
					var tap event.Tap
					if err := json.Unmarshal(rec.Body, &tap); err != nil {
						t.Fatal(err)
					}
					if tap.Roster != uint64(i) {
						t.Fatalf("place %d holds fact %d", i, tap.Roster)
					}
					if want := fault == journal.ErrFull && i >= 10 && i < 20; tap.Late != want {
						t.Fatalf("fact %d: late is %v", i, tap.Late)
					}
				}
			})
		})
	}
}

func TestMemoryForWaitingFactsIsBoundedAndLossIsCounted(t *testing.T) {
	d := &disk{fail: journal.ErrFull}
	r := newRecorder(d, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.run(ctx); close(done) }()
	f := tapFact(t, 1)
	for range MaxHeld + 500 {
		<-r.Record(f)
	}
	if _, waiting, lost := r.trouble(); waiting != MaxHeld || lost != 500 {
		t.Fatalf("%d waiting, %d lost", waiting, lost)
	}
	d.set(nil)
	cancel()
	<-done
	if len(d.written) != MaxHeld {
		t.Fatalf("%d written at the stop", len(d.written))
	}
}

// strictDisk refuses a batch with a fact that is too long, as the journal does.
type strictDisk struct{ disk }

func (d *strictDisk) Append(ctx context.Context, records ...journal.Record) ([]uint64, error) {
	for _, r := range records {
		if len(r.Body) > event.MaxLeaf {
			return nil, event.ErrLeaf
		}
	}
	return d.disk.Append(ctx, records...)
}

func TestAFactThatNoJournalTakesHoldsUpNoOther(t *testing.T) {
	for name, full := range map[string]bool{"good disk": false, "full disk that gets room again": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { badFact(t, full) })
		})
	}
}

func badFact(t *testing.T, full bool) {
	d := &strictDisk{}
	r := newRecorder(d, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	if full {
		d.set(journal.ErrFull)
		r.held = append(r.held, record(tapFact(t, 100))) // what fails first, so that nobody looks at what follows
	}
	long := event.Fact{Kind: event.KindReader, Body: make([]byte, event.MaxLeaf+1)}
	var answers []<-chan error
	for n := range uint64(6) { // all in the queue before anything is written: one batch
		if n == 3 {
			answers = append(answers, r.Record(long))
		}
		answers = append(answers, r.Record(tapFact(t, n)))
	}
	go func() { r.run(ctx); close(done) }()
	for i, a := range answers {
		if err := <-a; (err != nil) != (full || i == 3) {
			t.Errorf("fact %d: %v", i, err)
		}
	}
	d.set(nil)
	time.Sleep(2 * heldRetry)
	want := 6
	if full {
		want++
	}
	if why, waiting, lost := r.trouble(); why != "" || waiting != 0 || lost != 1 || len(d.written) != want {
		t.Errorf("why %q, %d waiting, %d lost, %d written; want none waiting, 1 lost, %d written", why, waiting, lost, len(d.written), want)
	}
	cancel()
	<-done
}
