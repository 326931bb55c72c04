package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"kith/internal/event"
)

// lose makes n taps that are lost: the log goes on behind them, and only the edge log of the test still has them.
func (e *edgeLog) lose(t testing.TB, n int) Accepted {
	t.Helper()
	from := e.tree.size
	e.batch(t, n)
	return Accepted{Log: e.log(t), From: from, Lost: true, Proof: e.proof(t, from),
		Evidence: []Evidence{{Kind: "lost", Index: from, Bytes: fmt.Appendf(nil, "%d", from), Why: "gone"}}}
}

// proof is the consistency proof from an older size, as an edge shows it with a bridge.
func (e *edgeLog) proof(t testing.TB, from uint64) tlog.TreeProof {
	t.Helper()
	if from == 0 {
		return nil
	}
	stored := map[int64]tlog.Hash{}
	var tree tree
	for _, l := range e.lines {
		tree.append(tlog.RecordHash([]byte(l)), func(level int, index uint64, h tlog.Hash) {
			stored[tlog.StoredHashIndex(level, int64(index))] = h
		})
	}
	return must(tlog.ProveTree(int64(e.tree.size), int64(from), tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i := range at {
			out[i] = stored[at[i]]
		}
		return out, nil
	})))
}

func (e *edgeLog) archive(from, to uint64) [][]byte {
	var lines [][]byte
	for _, l := range e.lines[from:to] {
		lines = append(lines, []byte(l))
	}
	return lines
}

// roots are the true roots of an edge log at every size.
func (e *edgeLog) roots(t testing.TB) []tlog.Hash {
	t.Helper()
	var truth tree
	out := []tlog.Hash{must(truth.root())}
	for _, l := range e.lines {
		truth.append(tlog.RecordHash([]byte(l)), nil)
		out = append(out, must(truth.root()))
	}
	return out
}

func gapped(t testing.TB) (*Store, *edgeLog) {
	t.Helper()
	s, e := fresh(t), newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 10), e.lose(t, 27), e.batch(t, 20))
	return s, e
}

func TestALogGoesOnBehindAGapAndTheGapIsNamed(t *testing.T) {
	s, e := gapped(t)
	r := verify(t, s)
	if !r.OK() || r.Leaves != 30 || r.Lost != 27 || len(r.Gaps) != 1 || r.Gaps[0] != (Gap{"lisbon", "lisbon-front", e.epoch, 10, 37}) {
		t.Fatalf("%+v", r)
	}
	if g := must(s.Gaps(t.Context())); len(g) != 1 || g[0] != r.Gaps[0] {
		t.Fatalf("%+v", g)
	}
	for i := range uint64(57) {
		b, err := s.Leaf(t.Context(), Address{e.edge, e.epoch, i})
		if lost := i >= 10 && i < 37; lost && !errors.Is(err, ErrLost) || !lost && (err != nil || string(b) != e.lines[i]) {
			t.Fatalf("leaf %d: %q %v", i, b, err)
		}
	}
	if _, _, err := s.Private(t.Context(), Address{e.edge, e.epoch, 11}); !errors.Is(err, ErrLost) {
		t.Fatalf("a private part in a gap: %v", err)
	}
	if err := s.Commit(t.Context(), []Accepted{{Log: e.log(t), Private: []PrivatePart{e.parts[11]}}}); !errors.Is(err, ErrLost) {
		t.Fatalf("a late private part in a gap: %v", err)
	}
	var buf bytes.Buffer
	if err := s.Export(t.Context(), &buf); err != nil || strings.Count(buf.String(), `{"lost":[10,37],"tree":["`) != 1 {
		t.Fatalf("export: %v\n%s", err, buf.String())
	}
}

func TestARepeatedGapChangesNothingAndAnotherOneIsRefused(t *testing.T) {
	s, e := fresh(t), newEdge("lisbon", "lisbon-front", 1)
	a, lost, b := e.batch(t, 10), e.lose(t, 27), e.batch(t, 20)
	late := lost
	late.From = 11
	if err := s.Commit(t.Context(), []Accepted{a, late}); !errors.Is(err, ErrGap) {
		t.Fatalf("a gap that starts past the head: %v", err)
	}
	short := lost
	short.Log.Range = short.Log.Range[1:]
	if err := s.Commit(t.Context(), []Accepted{a, short}); err == nil {
		t.Fatal("a gap without its tree was stored")
	}
	for name, proof := range map[string]tlog.TreeProof{"no": nil, "a shorter": lost.Proof[1:], "a longer": append(lost.Proof[:len(lost.Proof):len(lost.Proof)], tlog.Hash{})} {
		unproven := lost
		unproven.Proof = proof
		if err := s.Commit(t.Context(), []Accepted{a, unproven}); err == nil {
			t.Fatalf("a gap with %s proof was stored", name)
		}
	}
	wrong := lost
	wrong.Log.Root[0] ^= 1
	if err := s.Commit(t.Context(), []Accepted{a, wrong}); err == nil {
		t.Fatal("a gap with another root was stored")
	}
	commit(t, s, a, lost)
	before := dump(t, s)
	commit(t, s, lost)
	commit(t, s, a, lost, lost)
	if dump(t, s) != before {
		t.Fatal("a repeat changed the database")
	}
	if err := s.Commit(t.Context(), []Accepted{wrong}); !errors.Is(err, ErrConflict) {
		t.Fatalf("another tree of the same size: %v", err)
	}
	commit(t, s, b, lost)
	if r := verify(t, s); !r.OK() || r.Lost != 27 {
		t.Fatalf("%+v", r)
	}
}

func TestProofsAroundGapsAreRightOrNotGiven(t *testing.T) {
	s := fresh(t)
	run := byte(0)
	refused, given := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		e := newEdge("lisbon", fmt.Sprintf("edge-%d", run), run)
		var segments []Accepted
		lost := map[uint64]bool{}
		behind := uint64(0)
		for i, n := range rapid.SliceOfN(rapid.IntRange(1, 24), 1, 6).Draw(rt, "lengths") {
			if from := e.tree.size; rapid.Bool().Draw(rt, fmt.Sprint("lost", i)) {
				segments = append(segments, e.lose(t, n))
				for j := range uint64(n) {
					lost[from+j] = true
				}
				behind = e.tree.size
				continue
			}
			segments = append(segments, e.batch(t, n))
		}
		commit(t, s, segments...)
		ends := map[uint64]bool{0: true}
		for i := range segments {
			ends[segments[i].Log.Size] = true
		}
		want := e.roots(t)
		sizes := make([]uint64, len(want)+1)
		for i := range sizes {
			sizes[i] = uint64(i)
		}
		have, err := s.Roots(t.Context(), e.edge, e.epoch, sizes)
		if err != nil || len(have) != len(sizes) {
			rt.Fatalf("%d roots, %v", len(have), err)
		}
		for i := range want {
			if inside := i > 0 && lost[uint64(i-1)] && !ends[uint64(i)]; inside != (have[i] == tlog.Hash{}) || !inside && have[i] != want[i] {
				rt.Fatalf("root at %d of %d: %s, want %s (inside a gap: %v)", i, len(want)-1, have[i], want[i], inside)
			}
		}
		if have[len(want)] != (tlog.Hash{}) {
			rt.Fatal("a root for the future")
		}
		for i := range e.tree.size {
			p, err := s.Inclusion(t.Context(), Address{e.edge, e.epoch, i})
			switch {
			case err == nil && (lost[i] || !p.Holds):
				rt.Fatalf("leaf %d: %+v", i, p)
			case err == nil:
				given++
			case !errors.Is(err, ErrLost):
				rt.Fatalf("leaf %d: %v", i, err)
			case i >= behind:
				rt.Fatalf("leaf %d behind the last gap has no proof: %v", i, err)
			default:
				refused++
			}
		}
	})
	if given == 0 || refused == 0 {
		t.Fatalf("%d proofs, %d refused: the test saw one side only", given, refused)
	}
	if r := verify(t, s); !r.OK() {
		t.Fatalf("%+v", r.Differences)
	}
	if have := must(s.Roots(t.Context(), "nobody", event.Epoch{}, []uint64{0, 4})); len(have) != 2 || have[1] != (tlog.Hash{}) {
		t.Fatalf("roots of an unknown log: %v", have)
	}
}

func TestOnlyTheLostLeavesFillTheirGap(t *testing.T) {
	s, e := gapped(t)
	before := dump(t, s)
	fill := func(from uint64, lines [][]byte) error { return s.Fill(t.Context(), e.edge, e.epoch, from, lines) }
	changed := e.archive(10, 37)
	changed[5] = bytes.Replace(changed[5], []byte(`"grant"`), []byte(`"erant"`), 1)
	swapped := e.archive(10, 37)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	twoInOne := e.archive(10, 37)
	twoInOne[0] = append(append(twoInOne[0], '\n'), twoInOne[1]...)
	for name, err := range map[string]error{
		"a changed leaf":   fill(10, changed),
		"another order":    fill(10, swapped),
		"two lines in one": fill(10, twoInOne),
		"a part of it":     fill(10, e.archive(10, 36)),
		"more than it":     fill(10, e.archive(10, 38)),
		"from its middle":  fill(12, e.archive(12, 37)),
		"past the end":     fill(57, e.archive(10, 37)),
		"over a leaf":      fill(9, e.archive(10, 37)),
		"nothing":          fill(10, nil),
		"another edge":     s.Fill(t.Context(), "porto-front", e.epoch, 10, e.archive(10, 37)),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if !errors.Is(fill(10, changed), ErrConflict) {
		t.Error("a changed leaf is a conflict")
	}
	if dump(t, s) != before {
		t.Fatal("a refused archive left a trace")
	}
}

func TestAnArchiveHealsTheGapForEveryReader(t *testing.T) {
	s, e := fresh(t), newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 10), e.lose(t, 300), e.batch(t, 20))
	passed := must(s.Newest(t.Context()))
	if err := s.Fill(t.Context(), e.edge, e.epoch, 10, e.archive(10, 310)); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, s); !r.OK() || r.Lost != 0 || len(r.Gaps) != 0 || r.Leaves != 330 || r.Lines != 330 || r.Missing != 300 {
		t.Fatalf("%+v", r)
	}
	lines, _, err := s.LinesAfter(t.Context(), passed, MaxLines)
	if err != nil || len(lines) != 300 || lines[0].Index != 10 || lines[0].Member != "" {
		t.Fatalf("%d lines reach a reader who had passed the gap, %v", len(lines), err)
	}
	before := dump(t, s)
	if err := s.Fill(t.Context(), e.edge, e.epoch, 10, e.archive(10, 310)); err != nil || dump(t, s) != before {
		t.Fatalf("a repeat: %v", err)
	}
	late := Accepted{Log: e.log(t)}
	for i := uint64(10); i < 310; i++ {
		late.Private = append(late.Private, e.parts[i])
	}
	commit(t, s, late)
	if r := verify(t, s); !r.OK() || r.Missing != 0 || r.Private != 330 {
		t.Fatalf("%+v", r)
	}
	// Nothing tells it from a log that never lost anything.
	whole, again := fresh(t), newEdge("lisbon", "lisbon-front", 1)
	commit(t, whole, again.batch(t, 10), again.batch(t, 300), again.batch(t, 20))
	for i := range uint64(330) {
		a := Address{e.edge, e.epoch, i}
		if have, want := must(s.Line(t.Context(), a)), must(whole.Line(t.Context(), a)); have != want {
			t.Fatalf("have %+v\nwant %+v", have, want)
		}
		if i%7 != 0 {
			continue
		}
		if p, err := s.Inclusion(t.Context(), a); err != nil || !p.Holds {
			t.Fatalf("leaf %d: %+v %v", i, p, err)
		}
	}
	if have, want := must(s.Presence(t.Context(), "")), must(whole.Presence(t.Context(), "")); fmt.Sprint(have) != fmt.Sprint(want) {
		t.Fatalf("have %v\nwant %v", have, want)
	}
	commit(t, s, e.batch(t, 3))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, open(t, s.dir)); !r.OK() || r.Leaves != 333 {
		t.Fatalf("%+v", r)
	}
}

func TestAFullDiskDuringAFillLeavesTheGap(t *testing.T) {
	s, e := fresh(t), newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 10), e.lose(t, 900))
	var pages int
	if err := s.write.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	execSQL(t, s, fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+20))
	before := dump(t, s)
	if err := s.Fill(t.Context(), e.edge, e.epoch, 10, e.archive(10, 910)); !errors.Is(err, ErrDiskFull) || dump(t, s) != before {
		t.Fatalf("%v", err)
	}
	execSQL(t, s, `PRAGMA max_page_count = 1000000`)
	if err := s.Fill(t.Context(), e.edge, e.epoch, 10, e.archive(10, 910)); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, s); !r.OK() || r.Leaves != 910 || r.Lost != 0 {
		t.Fatalf("%+v", r)
	}
}

func TestABackupWithAGapIsVerifiedAndFilledAfterARestore(t *testing.T) {
	s, e := gapped(t)
	file := t.TempDir() + "/b.db"
	if _, err := s.Backup(t.Context(), file, testChecks); err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: t.TempDir() + "/new", Network: testNetwork, Projection: testProjection}
	if err := Restore(t.Context(), file, o, testChecks); err != nil {
		t.Fatal(err)
	}
	r := open(t, o.Dir)
	if err := r.Fill(t.Context(), e.edge, e.epoch, 10, e.archive(10, 37)); err != nil {
		t.Fatal(err)
	}
	if rep := verify(t, r); !rep.OK() || rep.Leaves != 57 || rep.Lost != 0 {
		t.Fatalf("%+v", rep)
	}
}

// unreadable appends a line that is no leaf to an edge log, and gives what the intake makes of it.
func (e *edgeLog) unreadable(line string) event.Leaf {
	l := event.Leaf{Network: testNetwork, Node: e.node, Edge: e.edge, Epoch: e.epoch, Index: e.tree.size}
	e.lines = append(e.lines, line)
	e.tree.append(tlog.RecordHash([]byte(line)), nil)
	return l
}

func withOpaque(t testing.TB) (*Store, *edgeLog) {
	t.Helper()
	s, e := fresh(t), newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 9))
	foreign := newEdge("porto", "porto-front", 9)
	foreign.tap(t, "ana", hour)
	leaves := []event.Leaf{e.tap(t, "ana", hour), e.unreadable("{}"), e.unreadable(""), e.unreadable("\xff\xfe"), e.unreadable(foreign.lines[0]), e.tap(t, "bo", hour)}
	commit(t, s, e.accepted(t, 9, leaves))
	commit(t, s, e.accepted(t, 15, []event.Leaf{e.unreadable("")}))
	commit(t, s, e.batch(t, 4))
	return s, e
}

func TestLinesThatNobodyCanReadAreKeptAndHashedButNeverShown(t *testing.T) {
	s, e := withOpaque(t)
	if r := verify(t, s); !r.OK() || r.Leaves != 20 || r.Opaque != 5 || r.Lines != 15 {
		t.Fatalf("%+v", r)
	}
	for i, want := range e.lines {
		a := Address{e.edge, e.epoch, uint64(i)}
		if b, err := s.Leaf(t.Context(), a); err != nil || string(b) != want {
			t.Fatalf("leaf %d: %q %v", i, b, err)
		}
		if p, err := s.Inclusion(t.Context(), a); err != nil || !p.Holds {
			t.Fatalf("leaf %d: %+v %v", i, p, err)
		}
		_, err := s.Line(t.Context(), a)
		if unread := i >= 10 && i < 14 || i == 15; unread != errors.Is(err, ErrUnknown) {
			t.Fatalf("line %d: %v", i, err)
		}
	}
	if err := s.Erase(t.Context(), Address{e.edge, e.epoch, 13}); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, s); !r.OK() || r.Opaque != 5 {
		t.Fatalf("%+v", r)
	}
	var buf bytes.Buffer
	if err := s.Export(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, line := range strings.Split(strings.TrimSpace(buf.String()), "\n") {
		var v struct{ Opaque *[]byte }
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		if v.Opaque != nil {
			found = append(found, string(*v.Opaque))
		}
	}
	if len(found) != 5 || found[2] != "\xff\xfe" || found[3] != e.lines[13] {
		t.Fatalf("export: %q", found)
	}
}

func TestAnArchiveBringsUnreadableLinesBackAsSuch(t *testing.T) {
	s, e := fresh(t), newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 3))
	e.unreadable("{}")
	e.tap(t, "ana", hour)
	e.unreadable("")
	commit(t, s, Accepted{Log: e.log(t), From: 3, Lost: true, Proof: e.proof(t, 3)})
	if err := s.Fill(t.Context(), e.edge, e.epoch, 3, e.archive(3, 6)); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, s); !r.OK() || r.Leaves != 6 || r.Opaque != 2 || r.Lines != 4 || r.Lost != 0 {
		t.Fatalf("%+v", r)
	}
}

// The subtrees of the ten leaves went into larger ones together with lost leaves: nothing but the proof holds them.
func TestALeafBeforeAGapCannotBeRewrittenWithItsTree(t *testing.T) {
	s, e := gapped(t)
	forged := e.archive(0, 10)
	forged[3] = bytes.Replace(forged[3], []byte(`"reader":"r1"`), []byte(`"reader":"r2"`), 1)
	var grown tree
	for _, l := range forged {
		grown.append(tlog.RecordHash(l), nil)
	}
	var packed []byte
	for _, h := range grown.hashes {
		packed = append(packed, h[:]...)
	}
	execSQL(t, s, fmt.Sprintf(`UPDATE bundles SET lines = x'%x', tree = x'%x' WHERE first = 0`, bytes.Join(forged, newline), packed))
	if r := verify(t, s); r.OK() || r.Differences[0].Index != 10 || !strings.Contains(r.Differences[0].What, "gap") {
		t.Fatalf("not seen: %+v", r)
	}
}

func TestVerifyNamesDamageAroundGapsAndUnreadableLines(t *testing.T) {
	for name, c := range map[string]struct {
		make  func(testing.TB) (*Store, *edgeLog)
		sql   string
		index uint64
	}{
		"the tree over a gap":               {gapped, `UPDATE bundles SET tree = zeroblob(length(tree)) WHERE lost = 1`, 10},
		"the proof over a gap":              {gapped, `UPDATE bundles SET proof = zeroblob(length(proof)) WHERE lost = 1`, 10},
		"a proof over a gap removed":        {gapped, `UPDATE bundles SET proof = NULL WHERE lost = 1`, 10},
		"a gap made longer":                 {gapped, `UPDATE bundles SET n = 64 - 10 WHERE lost = 1`, 10},
		"a gap made shorter, same popcount": {gapped, `UPDATE bundles SET n = 35 - 10 WHERE lost = 1`, 35},
		"a gap removed":                     {gapped, `DELETE FROM bundles WHERE lost = 1`, 10},
		"a gap of nothing":                  {gapped, `UPDATE bundles SET n = 0 WHERE lost = 1`, 10},
		"a line within a gap":               {gapped, `INSERT INTO lines SELECT (2 << 16) + 2, node, at, shape, member FROM lines WHERE id = (1 << 16) + 7`, 37},
		"an unreadable byte":                {withOpaque, `UPDATE bundles SET lines = CAST(replace(CAST(lines AS BLOB), '{}', '{1') AS BLOB) WHERE first = 9`, 9},
		"a mark removed":                    {withOpaque, `UPDATE bundles SET opaque = NULL WHERE first = 9`, 10},
		"a mark added":                      {withOpaque, `UPDATE bundles SET opaque = x'3f' WHERE first = 9`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := c.make(t)
			before := dump(t, s)
			execSQL(t, s, c.sql)
			if dump(t, s) == before {
				t.Fatal("the test changed nothing")
			}
			r := verify(t, s)
			if r.OK() {
				t.Fatalf("not seen: %+v", r)
			}
			if d := r.Differences[0]; c.index != 0 && d.Index != c.index {
				t.Fatalf("said %s; want index %d", d, c.index)
			}
			t.Log(r.Differences[0])
		})
	}
	// Leaves replaced by a gap hash the same; that is why a gap is counted and named.
	s, e := fresh(t), newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 10), e.batch(t, 27))
	execSQL(t, s, fmt.Sprintf(`DELETE FROM private_parts WHERE seq = 2; DELETE FROM lines WHERE id >= 2 << 16; DELETE FROM presence;
		UPDATE bundles SET lost = 1, lines = x'', proof = x'%x' WHERE first = 10`, packProof(e.proof(t, 10))))
	if r := verify(t, s); r.Lost != 27 || len(r.Gaps) != 1 {
		t.Fatalf("%+v", r)
	}
}
