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

// What a start says of itself waits for the hub's first word, at most courtesy; whatever happens to somebody writes it first.
func TestAStartsOwnFactsWaitForTheHubAndForNobodyElse(t *testing.T) {
	own := func(kind event.Kind, body any) event.Fact {
		b, err := event.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		return event.Fact{Kind: kind, Body: b}
	}
	start := []event.Fact{own(event.KindBoot, event.Boot{}), own(event.KindTamper, event.Tamper{}), own(event.KindDoor, event.Door{Door: "front", State: "closed", Why: "start"}),
		own(event.KindReader, event.Reader{Reader: "in", Up: true}), own(event.KindRoster, event.RosterSet{}), own(event.KindClock, event.ClockChange{})}
	for name, c := range map[string]struct {
		then    func(r *recorder, met chan struct{}, stop func())
		written int           // at once after then
		later   time.Duration // until all is written
	}{
		"nothing happens": {func(*recorder, chan struct{}, func()) {}, 0, courtesy},
		"the hub is met":  {func(_ *recorder, met chan struct{}, _ func()) { close(met) }, len(start), 0},
		"somebody taps":   {func(r *recorder, _ chan struct{}, _ func()) { <-r.Record(tapFact(t, 1)) }, len(start) + 1, 0},
		"the case is open": {func(r *recorder, _ chan struct{}, _ func()) {
			<-r.Record(own(event.KindTamper, event.Tamper{Open: true}))
		}, len(start) + 1, 0},
		"the door is forced": {func(r *recorder, _ chan struct{}, _ func()) {
			<-r.Record(own(event.KindDoor, event.Door{State: "forced"}))
		}, len(start) + 1, 0},
		"an entry is to be kept":  {func(r *recorder, _ chan struct{}, _ func()) { r.settle(context.Background()) }, len(start), 0},
		"the program stops":       {func(_ *recorder, _ chan struct{}, stop func()) { stop() }, len(start), 0},
		"a reader comes and goes": {func(r *recorder, _ chan struct{}, _ func()) { chatter(r, own(event.KindReader, event.Reader{})) }, len(start) + maxCourtesy, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, met := &disk{}, make(chan struct{})
				r := newRecorder(d, slog.New(slog.DiscardHandler))
				r.met = met
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan struct{})
				for _, f := range start {
					r.Record(f)
				}
				go func() { r.run(ctx); close(done) }()
				synctest.Wait()
				if len(d.written) != 0 {
					t.Fatalf("%d facts were written before anything happened", len(d.written))
				}
				c.then(r, met, cancel)
				synctest.Wait()
				if len(d.written) != c.written {
					t.Fatalf("%d facts were written, want %d", len(d.written), c.written)
				}
				time.Sleep(c.later)
				synctest.Wait()
				for i, f := range start {
					if len(d.written) <= i || d.written[i].Kind != f.Kind {
						t.Fatalf("after %s: %d facts, place %d is not %s", c.later, len(d.written), i, f.Kind)
					}
				}
				cancel()
				<-done
			})
		})
	}
}

func chatter(r *recorder, f event.Fact) {
	for range maxCourtesy {
		r.Record(f)
	}
}
