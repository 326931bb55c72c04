package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

func TestAppendedLeavesSurviveReopening(t *testing.T) {
	l := newLog(t)
	for _, n := range []int{0, 1, 1, 3, 250, 1, 1, 700, 0} {
		l.append(n)
		l.CheckJournal()
		if _, err := l.j.Checkpoint(context.Background(), l.mem[0].id, 0); err != nil {
			t.Fatal(err)
		}
		l.reopen()
		l.CheckJournal()
	}
}

func TestTenThousandLeavesReopenWithoutReadingThemAll(t *testing.T) {
	l := newLog(t)
	l.append(10_000)
	l.receipt(0)
	began := time.Now()
	l.reopen()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("reopening 10,000 leaves took %v", took)
	}
	l.CheckJournal()
}

func TestLeafOfAPersonCarriesTheHourOnly(t *testing.T) {
	l := newLog(t)
	rec := tap(1)
	if _, err := l.j.Append(context.Background(), rec, door(2)); err != nil {
		t.Fatal(err)
	}
	got, err := l.j.Read(context.Background(), l.j.Head().Epoch, 0, 10, 1<<20)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	leaf, err := event.Parse(got[0].Leaf)
	if err != nil {
		t.Fatal(err)
	}
	if leaf.At%event.HourMS != 0 || leaf.Mono != 0 || strings.Contains(string(got[0].Leaf), "member") {
		t.Errorf("leaf tells more than the hour: %s", got[0].Leaf)
	}
	p, err := event.ParsePrivate(got[0].Private)
	if err != nil || p.At != rec.At.UnixMilli() || p.Mono != int64(rec.Mono) {
		t.Errorf("private part lacks the exact time: %+v, %v", p, err)
	}
	if leaf, _ := event.Parse(got[1].Leaf); leaf.At%event.HourMS == 0 || leaf.Mono == 0 {
		t.Errorf("leaf of a door lost its exact time: %s", got[1].Leaf)
	}
	if rec.Private.At != 0 {
		t.Error("the caller's private part was changed")
	}
}

func TestBadRecordIsRefusedAloneAndOthersGoOn(t *testing.T) {
	l := newLog(t)
	bad := door(1)
	for name, change := range map[string]func(*Record){
		"body not compact": func(r *Record) { r.Body = []byte(`{"a": 1}`) },
		"body not object":  func(r *Record) { r.Body = []byte(`[1]`) },
		"no clock quality": func(r *Record) { r.Clock = "" },
		"kind not an id":   func(r *Record) { r.Kind = "Door" },
		"too long to be carried over": func(r *Record) {
			r.Body = []byte(`{"x":"` + strings.Repeat("y", event.MaxLeaf-600) + `"}`)
		},
		"private too long": func(r *Record) { r.Private = &event.Private{Member: strings.Repeat("m", event.MaxPrivate)} },
	} {
		rec := bad
		change(&rec)
		if _, err := l.j.Append(context.Background(), door(0), rec); err == nil {
			t.Errorf("%s: taken", name)
		}
		l.append(1)
	}
	l.CheckJournal()
	if got := len(l.mem[0].leaves); got != 6 {
		t.Errorf("%d leaves, want 6: a refused record left its neighbour behind", got)
	}
}

func TestSixtyFourAppendersShareCommitsAndLoseNothing(t *testing.T) {
	l := newLog(t)
	const writers, each = 64, 20
	commits := 0
	l.fault(func(stage string, _ []*request) error {
		if stage == "commit" {
			commits++ // only the writer's goroutine comes here
		}
		return nil
	})
	var mu sync.Mutex
	seen := map[uint64]string{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				rec := door(w*1000 + i)
				at, err := l.j.Append(context.Background(), rec, rec)
				if err != nil || len(at) != 2 || at[1] != at[0]+1 {
					t.Errorf("append: %v, %v", at, err)
					return
				}
				mu.Lock()
				for _, n := range at {
					if seen[n] != "" {
						t.Errorf("index %d given twice", n)
					}
					seen[n] = string(rec.Body)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	l.learn()
	l.CheckJournal()
	for n, body := range seen {
		if !strings.Contains(string(l.mem[0].leaves[n]), body) {
			t.Errorf("leaf %d does not hold the record it was given for", n)
		}
	}
	if commits >= writers*each {
		t.Errorf("%d commits for %d appends: nothing was grouped", commits, writers*each)
	}
	t.Logf("%d appends in %d commits", writers*each, commits)
}

func TestWaitingAppendGivesUpWithItsContextAndIsStillWritten(t *testing.T) {
	l := newLog(t)
	release := make(chan struct{})
	l.fault(func(stage string, _ []*request) error {
		if stage == "commit" {
			<-release
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := l.j.Append(ctx, door(1))
	if !errors.Is(err, ErrPending) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("append returned %v, want ErrPending", err)
	}
	close(release)
	l.append(1)
	if got := len(l.mem[0].leaves); got != 2 {
		t.Fatalf("%d leaves, want 2: the pending one was dropped", got)
	}
	l.CheckJournal()
}

func TestChangedSignalsAppendsOnly(t *testing.T) {
	l := newLog(t)
	l.append(3)
	select {
	case <-l.j.Changed():
	case <-time.After(time.Second):
		t.Fatal("no signal after an append")
	}
	l.receipt(0)
	select {
	case <-l.j.Changed():
		t.Fatal("a receipt is not a new leaf")
	default:
	}
}

func TestClosedJournalRefusesAndASecondOpenIsRefused(t *testing.T) {
	l := newLog(t)
	l.append(1)
	if _, err := Open(context.Background(), l.opt); err == nil {
		t.Fatal("two journals on one directory")
	}
	if err := l.j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.j.Append(context.Background(), door(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if _, err := l.j.Read(context.Background(), l.mem[0].id, 0, 1, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	l.reopen()
	l.CheckJournal()
}

func TestReadStaysWithinItsBounds(t *testing.T) {
	l := newLog(t)
	l.append(50)
	id := l.j.Head().Epoch
	for _, c := range []struct {
		from        uint64
		leaves, max int
		want        int
	}{{0, 10, 1 << 20, 10}, {45, 10, 1 << 20, 5}, {0, 10, 1, 1}, {50, 10, 1 << 20, 0}, {0, 50, 3000, -1}} {
		got, err := l.j.Read(context.Background(), id, c.from, c.leaves, c.max)
		if err != nil {
			t.Fatal(err)
		}
		if c.want >= 0 && len(got) != c.want || c.want < 0 && (len(got) < 2 || len(got) > 10) {
			t.Errorf("read(%d, %d, %d) gave %d leaves, want %d", c.from, c.leaves, c.max, len(got), c.want)
		}
	}
	if _, err := l.j.Read(context.Background(), id, 51, 1, 1); !errors.Is(err, ErrRange) {
		t.Errorf("reading past the end: %v", err)
	}
	if _, err := l.j.Read(context.Background(), event.Epoch{1}, 0, 1, 1); !errors.Is(err, ErrRange) {
		t.Errorf("reading a foreign epoch: %v", err)
	}
}

// The vectors of the Certificate Transparency reference implementation (RFC 6962 section 2.1; leaves and roots of
// sizes 1 to 8 as published with it).
func TestTreeMatchesCertificateTransparencyVectors(t *testing.T) {
	leaves := []string{"", "\x00", "\x10", "\x20\x21", "\x30\x31", "\x40\x41\x42\x43", "\x50\x51\x52\x53\x54\x55\x56\x57",
		"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f"}
	roots := []string{
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	tr := tree{}.fork()
	empty := tr.root()
	if got := fmt.Sprintf("%x", empty[:]); got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("empty tree has root %s", got)
	}
	for i, leaf := range leaves {
		tr.push(tlog.RecordHash([]byte(leaf)))
		root := tr.root()
		if got := fmt.Sprintf("%x", root[:]); got != roots[i] {
			t.Errorf("size %d: root %s, want %s", i+1, got, roots[i])
		}
	}
}

func TestForkedTreeLeavesThePublishedOneAsItWas(t *testing.T) {
	base := tree{}.fork()
	var reference []tlog.Hash
	for i := range 3 * groupSize {
		h := tlog.RecordHash([]byte{byte(i), byte(i >> 8)})
		more, err := tlog.StoredHashesForRecordHash(int64(i), h, tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
			out := make([]tlog.Hash, len(at))
			for k, n := range at {
				out[k] = reference[n]
			}
			return out, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		reference = append(reference, more...)
		before := base.root()
		doomed := base.fork() // a transaction that fails
		for k := range 5 {
			doomed.push(tlog.RecordHash([]byte{0xff, byte(k)}))
		}
		if base.root() != before {
			t.Fatalf("at size %d: a failed transaction changed the published tree", i)
		}
		next := base.fork()
		next.push(h)
		if base.root() != before {
			t.Fatalf("at size %d: the next tree changed the published one", i)
		}
		base = next
		want, _ := tlog.TreeHash(int64(i+1), tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
			out := make([]tlog.Hash, len(at))
			for k, n := range at {
				out[k] = reference[n]
			}
			return out, nil
		}))
		if base.root() != want {
			t.Fatalf("size %d: root %v, want %v", i+1, base.root(), want)
		}
	}
}
