package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kith/internal/event"
)

// Well before the writer would do it, the write-ahead log moves into the database; and erasing, which has to empty the log,
// waits for that instead of being refused.
func TestTheLogMovesIntoTheDatabaseBesideTheWriter(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	why := strings.Repeat("x", 3000)
	written := 0
	for written < checkpointWAL+checkpointWAL/4 {
		from := e.tree.size
		leaves := []event.Leaf{e.tap(t, "ana", hour+int64(from))}
		for range 250 {
			leaves = append(leaves, e.leaf(t, event.KindDoor, event.Door{Door: "front", State: "open", Why: why}, nil))
		}
		a := e.accepted(t, from, leaves)
		written += len(a.Bundle)
		commit(t, s, a)
	}
	if written >= writerWAL*pageBytes {
		t.Fatalf("%d bytes: the writer itself would have done it", written)
	}
	if forget(t, s, "ana") == 0 {
		t.Fatal("nothing was erased")
	}
	if wal, err := os.Stat(filepath.Join(s.dir, FileName+"-wal")); err != nil || wal.Size() != 0 {
		t.Fatalf("the log was not emptied: %v %v", wal, err)
	}
	// The other half without an eraser: only the checkpoint beside the writer can make the file grow.
	size := func() int64 {
		f, err := os.Stat(filepath.Join(s.dir, FileName))
		if err != nil {
			t.Fatal(err)
		}
		return f.Size()
	}
	before := size()
	for written = 0; written < checkpointWAL+checkpointWAL/4; {
		from := e.tree.size
		var leaves []event.Leaf
		for range 250 {
			leaves = append(leaves, e.leaf(t, event.KindDoor, event.Door{Door: "front", State: "open", Why: why}, nil))
		}
		a := e.accepted(t, from, leaves)
		written += len(a.Bundle)
		commit(t, s, a)
	}
	for end := time.Now().Add(time.Minute); size() < before+checkpointWAL/2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the database file grew from %d to %d bytes after %d bytes of leaves", before, size(), written)
		}
	}
	if r := verify(t, s); !r.OK() {
		t.Fatalf("%+v", r)
	}
}
