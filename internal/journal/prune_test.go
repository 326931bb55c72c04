package journal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kith/internal/event"
)

const longAfter = 400 * 24 * time.Hour

func (l *testLog) prune(now time.Time) int {
	l.t.Helper()
	n, err := l.j.Prune(context.Background(), now)
	if err != nil {
		l.t.Fatal(err)
	}
	l.noteErased()
	return n
}

// noteErased learns which private parts are gone from incomplete groups.
func (l *testLog) noteErased() {
	l.t.Helper()
	for i, e := range l.j.Epochs() {
		for at := e.Pruned; at < e.Size; {
			got, err := l.j.Read(context.Background(), e.Epoch, at, 1000, 1<<22)
			if err != nil {
				l.t.Fatal(err)
			}
			for _, n := range got {
				if leaf, _ := event.Parse(n.Leaf); leaf.Commitment != nil && n.Private == nil {
					l.mem[i].erased[n.Index] = true
				}
				at++
			}
		}
	}
}

func TestPruningNeedsReceiptAndBackupAndAge(t *testing.T) {
	old := testStart.Add(longAfter)
	for _, c := range []struct {
		name            string
		receipt, backup uint64
		now             time.Time
		want            uint64
	}{
		{"nothing from the hub", 0, 0, old, 0},
		{"receipt without backup", 1000, 0, old, 0},
		{"backup without receipt", 0, 1000, old, 0},
		{"backup is shorter", 1000, 600, old, 512},
		{"receipt is shorter", 300, 1000, old, 256},
		{"all of it but the open group", 1000, 1000, old, 768},
		{"too young", 1000, 1000, testStart.Add(29 * 24 * time.Hour), 0},
		{"one leaf of the group too young", 1000, 1000, testStart.Add(30*24*time.Hour + time.Minute), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLog(t)
			l.append(1000)
			if c.receipt > 0 {
				l.receipt(c.receipt)
			}
			l.backup(c.backup)
			if n := l.prune(c.now); uint64(n) != c.want {
				t.Errorf("pruned %d leaves, want %d", n, c.want)
			}
			if got := l.j.Epochs()[0].Pruned; got != c.want {
				t.Errorf("first kept leaf is %d, want %d", got, c.want)
			}
			if c.want == 0 && len(l.mem[0].erased) > 0 && c.backup*c.receipt == 0 {
				t.Error("private parts were erased before the hub had them")
			}
			l.CheckJournal()
			if c.want > 0 {
				if _, err := l.j.Read(context.Background(), l.mem[0].id, c.want-1, 1, 1); !errors.Is(err, ErrPruned) {
					t.Errorf("reading a pruned leaf: %v", err)
				}
			}
			l.reopen()
			l.CheckJournal()
			l.append(300)
			l.CheckJournal()
		})
	}
}

func TestJournalPrunedToItsLastLeafKeepsItsSize(t *testing.T) {
	l := newLog(t)
	l.append(512)
	l.receipt(0)
	l.backup(512)
	if n := l.prune(testStart.Add(longAfter)); n != 512 {
		t.Fatalf("pruned %d, want 512", n)
	}
	l.reopen()
	l.CheckJournal()
	l.append(3)
	l.CheckJournal()
}

// onDisk is every byte of the live database's files; the journal must be closed.
func onDisk(t *testing.T, l *testLog) []byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(l.opt.Dir, liveDir, "*"))
	if err != nil || len(names) == 0 {
		t.Fatal("no database files", err)
	}
	var all []byte
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return all
}

func TestPrunedPartsAreNowhereInTheFiles(t *testing.T) {
	l := newLog(t)
	l.append(600)
	entries, err := l.j.Read(context.Background(), l.j.Head().Epoch, 0, 600, 1<<22)
	if err != nil {
		t.Fatal(err)
	}
	l.receipt(0)
	l.backup(600)
	l.prune(testStart.Add(longAfter))
	l.CheckJournal()
	if err := l.j.Close(); err != nil {
		t.Fatal(err)
	}
	disk := onDisk(t, l)
	for _, n := range entries {
		if n.Private != nil && bytes.Contains(disk, n.Salt[:]) {
			t.Fatalf("salt of pruned leaf %d is still in the files", n.Index)
		}
	}
}
