package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

func TestWhatIsCommittedIsReadBackExactly(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 100), e.batch(t, 37))
	for i, want := range e.lines {
		got, err := s.Leaf(t.Context(), Address{e.edge, e.epoch, uint64(i)})
		if err != nil || string(got) != want {
			t.Fatalf("leaf %d: %s (%v), want %s", i, got, err, want)
		}
	}
	logs, err := s.Logs(t.Context())
	if err != nil || len(logs) != 1 {
		t.Fatalf("%d logs, %v", len(logs), err)
	}
	want := e.log(t)
	got := logs[0]
	if got.Size != 137 || got.Root != want.Root || !bytes.Equal(got.Receipt, want.Receipt) || len(got.Range) != len(want.Range) {
		t.Fatalf("have %+v\nwant %+v", got, want)
	}
	lines, err := s.Lines(t.Context(), "lisbon", 0, 1000)
	if err != nil || len(lines) != 137 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	if lines[0].Index != 136 || lines[0].Member != "m6" || !lines[0].Receipted {
		t.Fatalf("newest line: %+v", lines[0])
	}
	seen, err := s.Presence(t.Context(), "lisbon")
	if err != nil || len(seen) != 10 {
		t.Fatalf("%d present, %v", len(seen), err)
	}
}

func TestTheNewestLinesOfAllNodesAreMerged(t *testing.T) {
	s := fresh(t)
	var all []Line
	for n := range 9 {
		e := newEdge(fmt.Sprintf("node-%d", n), fmt.Sprintf("edge-%d", n), 1)
		var leaves []event.Leaf
		for i := range 5 {
			leaves = append(leaves, e.tap(t, "ana", hour+int64((i*7+n*3)%40)))
		}
		commit(t, s, e.accepted(t, 0, leaves))
		lines, err := s.Lines(t.Context(), e.node, 0, 100)
		if err != nil || len(lines) != 5 {
			t.Fatalf("%d lines, %v", len(lines), err)
		}
		all = append(all, lines...)
	}
	slices.SortFunc(all, func(a, b Line) int { return int(b.At - a.At) })
	for _, limit := range []int{1, 3, 10, 100} {
		for _, before := range []int64{0, hour + 20} {
			got, err := s.Lines(t.Context(), "", before, limit)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.DeleteFunc(slices.Clone(all), func(l Line) bool { return before > 0 && l.At >= before })
			want = want[:min(limit, len(want))]
			if len(got) != len(want) {
				t.Fatalf("%d lines, want %d", len(got), len(want))
			}
			for i := range got {
				if got[i].At != want[i].At {
					t.Fatalf("limit %d before %d: line %d is of %d, want %d", limit, before, i, got[i].At, want[i].At)
				}
			}
		}
	}
}

func TestARepeatedCommitChangesNothing(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	a, b := e.batch(t, 10), e.batch(t, 5)
	commit(t, s, a)
	before := dump(t, s)
	commit(t, s, a)
	commit(t, s, a, a)
	if after := dump(t, s); after != before {
		t.Fatalf("a repeat changed the database\n%s\n%s", before, after)
	}
	commit(t, s, a, b)
	before = dump(t, s)
	commit(t, s, b, a)
	if after := dump(t, s); after != before {
		t.Fatal("a late repeat of an older batch changed the database")
	}
}

func TestGapsAndOtherLeavesAreRefusedAndStoreNothing(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	a := e.batch(t, 10)
	b := e.batch(t, 10)
	c := e.batch(t, 10)
	commit(t, s, a)
	before := dump(t, s)
	if err := s.Commit(t.Context(), []Accepted{c}); !errors.Is(err, ErrGap) {
		t.Fatalf("a gap: %v", err)
	}
	other := newEdge("lisbon", "lisbon-front", 1)
	other.tap(t, "mallory", hour)
	d := newEdge("lisbon", "lisbon-front", 1)
	d.tap(t, "mallory", hour)
	fork := d.accepted(t, 0, []event.Leaf{other.leaf(t, event.KindTap, event.Tap{}, nil)})
	fork.Leaves[0].Index = 0
	if err := s.Commit(t.Context(), []Accepted{fork}); !errors.Is(err, ErrConflict) {
		t.Fatalf("another first leaf: %v", err)
	}
	// A good batch in the same call falls with the bad one: one transaction.
	if err := s.Commit(t.Context(), []Accepted{b, fork}); !errors.Is(err, ErrConflict) {
		t.Fatalf("a mixed call: %v", err)
	}
	if after := dump(t, s); after != before {
		t.Fatal("a refused commit left a trace")
	}
	commit(t, s, b, c)
}

func TestLateDataNeverOverwritesNewerPresence(t *testing.T) {
	s := fresh(t)
	front, back := newEdge("lisbon", "lisbon-front", 1), newEdge("porto", "porto-front", 2)
	front.tap(t, "ana", hour+5000)
	late := back.tap(t, "ana", hour+1000)
	commit(t, s, front.accepted(t, 0, []event.Leaf{mustParse(t, front.lines[0])}))
	commit(t, s, back.accepted(t, 0, []event.Leaf{late}))
	seen, err := s.Presence(t.Context(), "")
	if err != nil || len(seen) != 1 || seen[0].Node != "lisbon" {
		t.Fatalf("%+v %v", seen, err)
	}
	newer := front.tree.size
	l := front.tap(t, "ana", hour+9000)
	commit(t, s, front.accepted(t, newer, []event.Leaf{l}))
	seen, _ = s.Presence(t.Context(), "lisbon")
	if len(seen) != 1 || seen[0].At != hour+9000 {
		t.Fatalf("%+v", seen)
	}
}

func TestReceiptsAndSizesNeverGoBackwards(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	a := e.batch(t, 3)
	old := e.log(t)
	b := e.batch(t, 3)
	commit(t, s, a, b)
	commit(t, s, Accepted{Log: old})
	stale := e.log(t)
	stale.Receipt = old.Receipt
	stale.Boot = "ffffffffffffffff"
	commit(t, s, Accepted{Log: stale})
	logs, _ := s.Logs(t.Context())
	if logs[0].Size != 6 || !bytes.Equal(logs[0].Receipt, b.Log.Receipt) || logs[0].Boot != "ffffffffffffffff" {
		t.Fatalf("%+v", logs[0])
	}
}

func TestEvidenceIsKeptOnceAndBounded(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	a := e.batch(t, 1)
	a.Evidence = []Evidence{{Kind: "fork", Index: 0, Bytes: []byte("x"), Why: "two leaves"}}
	commit(t, s, a, a)
	for i := range MaxEvidence + 20 {
		commit(t, s, Accepted{Log: e.log(t), Evidence: []Evidence{{Kind: "fork", Index: uint64(i), Bytes: []byte("y")}}})
		if i == 3 {
			s.Close()
			s = open(t, s.dir)
		}
		if i == 5 {
			// The count above was read back at open; jump to the bound quickly.
			s.logs[logKey{e.edge, e.epoch}].evidence = MaxEvidence - 2
		}
	}
	kept, err := s.Evidence(t.Context(), e.edge, e.epoch)
	if err != nil || len(kept) != 7+2 {
		t.Fatalf("%d pieces kept, %v", len(kept), err)
	}
	if kept[0].Why != "two leaves" {
		t.Fatalf("the first was overwritten: %+v", kept[0])
	}
}

func TestEveryLeafIsProvenInTheReceiptedRoot(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	for _, n := range []int{1, 100, 7, 256, 33, 100} {
		commit(t, s, e.batch(t, n))
	}
	for i := uint64(0); i < e.tree.size; i += 1 + i%13 {
		p, err := s.Inclusion(t.Context(), Address{e.edge, e.epoch, i})
		if err != nil {
			t.Fatal(err)
		}
		root, _ := e.tree.root()
		if !p.Holds || p.Root != root || p.Size != e.tree.size || p.Leaf != tlog.RecordHash([]byte(e.lines[i])) {
			t.Fatalf("leaf %d: %+v", i, p)
		}
	}
	if _, err := s.Inclusion(t.Context(), Address{e.edge, e.epoch, e.tree.size}); !errors.Is(err, ErrUnknown) {
		t.Fatalf("past the end: %v", err)
	}
	// A changed byte in the store is seen on the page, not only by verify.
	execSQL(t, s, `UPDATE bundles SET lines = CAST(replace(CAST(lines AS TEXT), 'front', 'fr0nt') AS BLOB) WHERE first = 1`)
	p, err := s.Inclusion(t.Context(), Address{e.edge, e.epoch, 50})
	if err != nil || p.Holds {
		t.Fatalf("a proof over changed bytes holds: %+v %v", p, err)
	}
}

func TestArrivalOrderMissesNothing(t *testing.T) {
	s := fresh(t)
	a, b := newEdge("lisbon", "lisbon-front", 1), newEdge("porto", "porto-front", 2)
	want := 0
	var cur Cursor
	var got []Line
	for round := range 6 {
		commit(t, s, a.batch(t, 3+round))
		commit(t, s, b.batch(t, 2))
		want += 5 + round
		for range 3 {
			lines, next, err := s.LinesAfter(t.Context(), cur, 4)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := ParseCursor(next.String()); err != nil || back != next {
				t.Fatalf("cursor %v: %v %v", next, back, err)
			}
			got, cur = append(got, lines...), next
		}
	}
	for {
		lines, next, err := s.LinesAfter(t.Context(), cur, 4)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) == 0 {
			break
		}
		got, cur = append(got, lines...), next
	}
	newest, err := s.Newest(t.Context())
	if err != nil || newest != cur {
		t.Fatalf("newest %v, read up to %v (%v)", newest, cur, err)
	}
	seen := map[string]bool{}
	for _, l := range got {
		seen[fmt.Sprintf("%s/%d", l.Edge, l.Index)] = true
	}
	if len(got) != want || len(seen) != want {
		t.Fatalf("%d lines, %d distinct, want %d", len(got), len(seen), want)
	}
}

func TestASecondHubOnTheSameDirectoryIsRefused(t *testing.T) {
	s := fresh(t)
	_, err := Open(context.Background(), Options{Dir: s.dir, Network: testNetwork, Projection: testProjection})
	if err == nil {
		t.Fatal("two writers on one directory")
	}
}

func TestANewerFormatAndAnotherNetworkAreRefused(t *testing.T) {
	s := fresh(t)
	execSQL(t, s, `PRAGMA user_version = 999`)
	s.Close()
	if _, err := Open(t.Context(), Options{Dir: s.dir, Network: testNetwork, Projection: testProjection}); !errors.Is(err, ErrNewer) {
		t.Fatalf("newer format: %v", err)
	}
	s = fresh(t)
	s.Close()
	if _, err := Open(t.Context(), Options{Dir: s.dir, Network: "other", Projection: testProjection}); err == nil {
		t.Fatal("opened the database of another network")
	}
}

func mustParse(t testing.TB, line string) event.Leaf {
	t.Helper()
	l, err := event.Parse([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func execSQL(t testing.TB, s *Store, text string) {
	t.Helper()
	if _, err := s.write.Exec(text); err != nil {
		t.Fatal(err)
	}
}

// dump is every row of every table as text.
func dump(t testing.TB, s *Store) string {
	t.Helper()
	var out bytes.Buffer
	for _, table := range []string{"meta", "logs", "bundles", "private_parts", "evidence", "nodes", "shapes", "lines", "presence", "facts"} {
		rows, err := s.write.Query("SELECT * FROM " + table + " ORDER BY 1, 2")
		if err != nil {
			t.Fatal(err)
		}
		cols, _ := rows.Columns()
		for rows.Next() {
			vals := make([]any, len(cols))
			ptrs := make([]any, len(cols))
			for i := range vals {
				ptrs[i] = &vals[i]
			}
			if err := rows.Scan(ptrs...); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&out, table, vals)
		}
		rows.Close()
	}
	return out.String()
}
