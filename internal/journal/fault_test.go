package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"kith/internal/event"
)

// Every write fails in every way the disk can fail. Whatever the caller was told, the log is whole, holds nothing twice,
// and takes the next record.
func TestFailedWritesAreToldAndLeaveNothingBehind(t *testing.T) {
	for _, stage := range []string{"begin", "write", "commit", "committed"} {
		for _, c := range []struct {
			name string
			err  error
			want error
		}{{"EIO", syscall.EIO, ErrStorage}, {"read-only", syscall.EROFS, ErrStorage}} {
			t.Run(stage+"/"+c.name, func(t *testing.T) {
				l := newLog(t)
				l.append(300)
				l.receipt(0)
				l.CheckJournal()
				l.failOnce(stage, c.err)
				at, err := l.j.Append(context.Background(), door(900), tap(901))
				if !errors.Is(err, c.want) || at != nil {
					t.Fatalf("append returned %v, %v; want %v", at, err, c.want)
				}
				l.CheckJournal() // failed-but-stored rows were taken out again: the caller will bring them again
				l.append(2)
				l.CheckJournal()
				l.reopen()
				l.CheckJournal()
				if n := len(l.j.Epochs()); n != 1 {
					t.Errorf("%d epochs: a failed write is no loss", n)
				}
			})
		}
	}
}

func (l *testLog) fault(f fault) {
	if f == nil {
		l.j.opt.faults.at.Store(nil)
		return
	}
	l.j.opt.faults.at.Store(&f)
}

// failOnce breaks the next pass through stage.
func (l *testLog) failOnce(stage string, err error) {
	var done bool
	l.fault(func(at string, _ []*request) error {
		if at == stage && !done {
			done = true
			return err
		}
		return nil
	})
}

func TestFullDiskSpendsTheReserveThenRefusesAndComesBack(t *testing.T) {
	for _, stage := range []string{"begin", "write", "commit", "committed"} {
		t.Run(stage, func(t *testing.T) {
			l := newLog(t)
			l.append(10)
			if s := l.j.Space(); !s.Reserve || s.State == SpaceFull {
				t.Fatalf("space is %+v at start", s)
			}
			l.failOnce(stage, syscall.ENOSPC)
			_, err := l.j.Append(context.Background(), door(1))
			if stage == "committed" {
				// The disk said full after it had stored: nobody can tell, so it counts as failed, and is taken out.
				if !errors.Is(err, ErrStorage) {
					t.Fatalf("append returned %v", err)
				}
				l.CheckJournal()
				return
			}
			if err != nil {
				t.Fatalf("the reserve did not help: %v", err)
			}
			l.learn()
			if s := l.j.Space(); s.Reserve || s.State != SpaceFull {
				t.Fatalf("space is %+v after the reserve went", s)
			}
			routine := door(2)
			routine.Routine = true
			if _, err := l.j.Append(context.Background(), routine); !errors.Is(err, ErrFull) {
				t.Errorf("a routine record went into the reserve: %v", err)
			}
			l.failOnce(stage, syscall.ENOSPC)
			began := time.Now()
			if _, err := l.j.Append(context.Background(), door(3)); !errors.Is(err, ErrFull) {
				t.Errorf("full and no reserve: %v, want ErrFull", err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("ErrFull took %v", took)
			}
			l.append(1)
			l.CheckJournal()
			l.j.space.keep() // what the idle writer does every 10 s
			if s := l.j.Space(); !s.Reserve || s.State == SpaceFull {
				t.Errorf("space is %+v after room came back", s)
			}
			if _, err := l.j.Append(context.Background(), routine); err != nil {
				t.Errorf("routine record refused although there is room: %v", err)
			}
			l.learn()
			l.CheckJournal()
		})
	}
}

func TestDatabaseThatDoesNotReopenKeepsRefusingUntilItDoes(t *testing.T) {
	l := newLog(t)
	l.append(5)
	broken := true
	failed := false
	l.fault(func(stage string, _ []*request) error {
		if stage == "commit" && !failed {
			failed = true
			return syscall.EIO
		}
		if stage == "reopen" && broken {
			return syscall.EIO
		}
		return nil
	})
	for range 5 {
		if _, err := l.j.Append(context.Background(), door(1)); !errors.Is(err, ErrStorage) {
			t.Fatalf("append on a failed database: %v", err)
		}
	}
	if !l.j.Space().Failed {
		t.Error("health does not see it")
	}
	if _, err := l.j.Read(context.Background(), l.mem[0].id, 0, 1, 1); !errors.Is(err, ErrStorage) {
		t.Errorf("read on a closed database: %v", err)
	}
	broken = false
	time.Sleep(reopenEvery + 50*time.Millisecond)
	l.append(1)
	l.CheckJournal()
	if l.j.Space().Failed {
		t.Error("health still shows a failure")
	}
}

func TestAcknowledgedLeafMissingAfterReopeningIsALoss(t *testing.T) {
	l := newLog(t)
	l.append(20)
	id := l.j.Head().Epoch
	// A card that lied about its flush: the acknowledged end is gone when the database is opened again.
	failed, reopened := false, make(chan struct{})
	l.fault(func(stage string, _ []*request) error {
		switch {
		case stage == "commit" && !failed:
			failed = true
			return syscall.EIO
		case stage == "reopen":
			defer close(reopened)
			d, err := openDatabase(context.Background(), livePath(l.opt.Dir))
			if err != nil {
				return err
			}
			defer d.close()
			_, err = d.w.ExecContext(context.Background(), "DELETE FROM leaf WHERE (number & ?) >= 15", int64(indexEnd))
			return err
		}
		return nil
	})
	if _, err := l.j.Append(context.Background(), door(1)); !errors.Is(err, ErrStorage) {
		t.Fatal(err)
	}
	<-reopened
	l.append(1) // waits for the writer, which heals first
	e := l.j.Epochs()
	if len(e) != 2 || e[0].Size != 15 || !e[0].Sealed {
		t.Fatalf("epochs are %+v, want the old one sealed at 15", e)
	}
	l.wantEpochal(event.KindRecovered, id, 15)
}

// wantEpochal checks the first leaf of the current epoch.
func (l *testLog) wantEpochal(kind event.Kind, old event.Epoch, size uint64) {
	l.t.Helper()
	got, err := l.j.Read(context.Background(), l.j.Head().Epoch, 0, 1, 1)
	if err != nil || len(got) == 0 {
		l.t.Fatalf("first leaf of the new epoch: %v", err)
	}
	leaf, err := event.Parse(got[0].Leaf)
	if err != nil {
		l.t.Fatal(err)
	}
	want := mustMarshal(event.Epochal{OldEpoch: old.String(), OldSize: size})
	body := string(leaf.Body)
	if leaf.Kind != kind || len(body) < len(want)-1 || body[:len(want)-1] != string(want[:len(want)-1]) {
		l.t.Errorf("first leaf is %s %s, want %s %s", leaf.Kind, body, kind, want)
	}
}

// A real full disk: a small tmpfs filled to the brim.
func TestTenThousandTapsFitAfterTheDiskIsFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		if os.Getenv("KITH_PEERS") == "required" && os.Geteuid() == 0 {
			t.Fatalf("mounting a small disk, and KITH_PEERS=required: %v", err)
		}
		t.Skipf("SKIP: may not mount a small disk here (%v); a full disk is tested with injected errors only", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	k := newKeys(t)
	opt := k.options(filepath.Join(dir, "journal"))
	opt.Reserve = 0
	l := openLog(t, k, opt)
	l.append(500)
	junk, err := os.Create(filepath.Join(dir, "junk"))
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = junk.Write(block)
	}
	junk.Close()
	if !isFull(err) {
		t.Fatal(err)
	}
	l.j.space.keep()
	taps, full := 0, false
	for !full {
		more := []Record{tap(taps)}
		for taps >= 10_000 && len(more) < 16 { // promised and kept; the rest only has to end
			more = append(more, tap(taps))
		}
		_, err := l.j.Append(context.Background(), more...)
		switch {
		case errors.Is(err, ErrFull):
			full = true
		case err != nil:
			t.Fatalf("after %d taps: %v", taps, err)
		default:
			taps += len(more)
		}
	}
	if taps < 10_000 {
		t.Errorf("%d taps fitted, promised 10,000", taps)
	}
	t.Logf("%d taps fitted after the disk was full", taps)
	l.learn()
	l.CheckJournal()
	if s := l.j.Space(); s.State != SpaceFull || s.Reserve {
		t.Errorf("space is %+v on a full disk", s)
	}
	if err := os.Remove(junk.Name()); err != nil {
		t.Fatal(err)
	}
	l.append(50)
	l.j.space.keep()
	l.append(1)
	l.CheckJournal()
	l.reopen()
	l.CheckJournal()
	l.j.Close()
}
