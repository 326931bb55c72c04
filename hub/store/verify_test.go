package store

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// testChecks reads the receipt as the fixture wrote it. Signatures are the intake's and are tested there.
var testChecks = Checks{Receipt: func(l Log) (uint64, tlog.Hash, error) {
	parts := strings.Split(string(l.Receipt), "\n")
	if len(parts) < 5 || !strings.Contains(parts[4], "sig") {
		return 0, tlog.Hash{}, errors.New("no signature")
	}
	size, err := noteSize(l.Receipt)
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	b, err := base64.StdEncoding.DecodeString(parts[2])
	return size, tlog.Hash(b), err
}}

// full is a store with two nodes, three logs, private parts, an erased one and a door.
func full(t *testing.T) (*Store, []*edgeLog) {
	t.Helper()
	s := fresh(t)
	edges := []*edgeLog{newEdge("lisbon", "lisbon-front", 1), newEdge("lisbon", "lisbon-front", 2), newEdge("porto", "porto-front", 1)}
	for _, e := range edges {
		commit(t, s, e.batch(t, 100))
		door := e.leaf(t, event.KindDoor, event.Door{Door: "front", State: "forced"}, nil)
		commit(t, s, e.accepted(t, 100, []event.Leaf{door}))
		commit(t, s, e.batch(t, 56))
	}
	return s, edges
}

func verify(t *testing.T, s *Store) Report {
	t.Helper()
	r, err := s.Verify(t.Context(), testChecks)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerifyRecomputesAWholeStore(t *testing.T) {
	s, _ := full(t)
	if err := s.Erase(t.Context(), Address{"lisbon-front", event.Epoch{1}, 3}); err != nil {
		t.Fatal(err)
	}
	r := verify(t, s)
	if !r.OK() || r.Logs != 3 || r.Leaves != 471 || r.Receipts != 3 || r.Private != 467 || r.Erased != 1 || r.Lines != 468 || r.Present != 10 {
		t.Fatalf("%+v", r)
	}
}

func TestVerifyNamesTheFirstDifference(t *testing.T) {
	for name, c := range map[string]struct {
		sql   string
		edge  string
		index uint64
	}{
		"a byte of a leaf":         {`UPDATE bundles SET lines = CAST(replace(CAST(lines AS TEXT), '"i":42,', '"i":43,') AS BLOB) WHERE log = 1 AND first = 0`, "lisbon-front", 42},
		"a verdict of a leaf":      {`UPDATE bundles SET lines = CAST(replace(CAST(lines AS TEXT), '"grant"', '"erant"') AS BLOB) WHERE log = 3 AND first = 101`, "porto-front", 101},
		"a bundle removed":         {`PRAGMA foreign_keys=OFF; DELETE FROM bundles WHERE log = 1 AND first = 100`, "lisbon-front", 100},
		"the last bundle removed":  {`PRAGMA foreign_keys=OFF; DELETE FROM bundles WHERE log = 3 AND first = 101`, "porto-front", 101},
		"a root":                   {`UPDATE logs SET root = zeroblob(32) WHERE id = 3`, "porto-front", 157},
		"a compact range":          {`UPDATE bundles SET tree = zeroblob(length(tree)) WHERE log = 3 AND first = 100`, "porto-front", 100},
		"a receipt's root":         {`UPDATE logs SET receipt = CAST(replace(CAST(receipt AS TEXT), char(10) || '157' || char(10), char(10) || '101' || char(10)) AS BLOB) WHERE id = 3`, "porto-front", 101},
		"a receipt's signature":    {`UPDATE logs SET receipt = CAST(replace(CAST(receipt AS TEXT), 'sig', 'gis') AS BLOB) WHERE id = 3`, "porto-front", 0},
		"a receipt for the future": {`UPDATE logs SET receipt = CAST(replace(CAST(receipt AS TEXT), char(10) || '157' || char(10), char(10) || '158' || char(10)) AS BLOB) WHERE id = 3`, "porto-front", 157},
		"a private part":           {`UPDATE private_parts SET parts = CAST(replace(CAST(parts AS BLOB), CAST('"m3"' AS BLOB), CAST('"m4"' AS BLOB)) AS BLOB) WHERE seq = 1`, "lisbon-front", 3},
		"a damaged private row":    {`UPDATE private_parts SET parts = x'ff' WHERE seq = 1`, "lisbon-front", 0},
		"a line's person":          {`UPDATE lines SET member = 'mallory' WHERE id = (7 << 16) + 7`, "porto-front", 7},
		"a line removed":           {`DELETE FROM lines WHERE id = (7 << 16) + 7`, "porto-front", 7},
		"a line added":             {`INSERT INTO lines SELECT 8 << 16, node, at, shape, member FROM lines WHERE id = (7 << 16) + 7`, "porto-front", 101},
		"a line past its bundle":   {`INSERT INTO lines SELECT (7 << 16) + 100, node, at, shape, member FROM lines WHERE id = (7 << 16) + 7`, "porto-front", 101},
		"a line of no bundle":      {`INSERT INTO lines SELECT 99 << 16, node, at, shape, member FROM lines WHERE id = (7 << 16) + 7`, "", 0},
		"a presence":               {`UPDATE presence SET line = line - 10 WHERE member = 'm1'`, "", 0},
		"a presence elsewhere":     {`UPDATE presence SET node = 3 - node WHERE member = 'm1'`, "", 0},
		"a presence of nothing":    {`UPDATE presence SET line = 1 WHERE member = 'm1'`, "", 0},
		"a time of arrival":        {`UPDATE bundles SET received = received + 1`, "", 0},
		"a presence removed":       {`DELETE FROM presence WHERE member = 'm1'`, "", 0},
		"a door's state":           {`UPDATE facts SET value = 'closed' WHERE edge = 'porto-front'`, "porto-front", 100},
		"a door's state removed":   {`DELETE FROM facts WHERE edge = 'porto-front'`, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := full(t)
			before := dump(t, s)
			execSQL(t, s, c.sql)
			if dump(t, s) == before {
				t.Fatal("the test changed nothing")
			}
			r := verify(t, s)
			if r.OK() {
				t.Fatal("not seen")
			}
			d := r.Differences[0]
			if c.edge != "" && (d.Edge != c.edge || d.Index != c.index) {
				t.Fatalf("said %s; want %s index %d", d, c.edge, c.index)
			}
			t.Log(d)
		})
	}
}

func TestErasingAPersonLeavesEveryProofStanding(t *testing.T) {
	s, edges := full(t)
	roots, _ := s.Logs(t.Context())
	n := forget(t, s, "m7")
	if n != 45 {
		t.Fatalf("%d parts erased", n)
	}
	if r := verify(t, s); !r.OK() || r.Erased != uint64(n) {
		t.Fatalf("%+v", r)
	}
	after, _ := s.Logs(t.Context())
	for i := range roots {
		if roots[i].Root != after[i].Root || !bytes.Equal(roots[i].Receipt, after[i].Receipt) {
			t.Fatal("a root or receipt moved")
		}
	}
	a := Address{"lisbon-front", event.Epoch{1}, 7}
	if p, err := s.Inclusion(t.Context(), a); err != nil || !p.Holds {
		t.Fatalf("the proof of an erased leaf: %+v %v", p, err)
	}
	if l, err := s.Line(t.Context(), a); err != nil || l.Member != "" || l.At != hour {
		t.Fatalf("the line still tells: %+v %v", l, err)
	}
	if _, state, err := s.Private(t.Context(), a); err != nil || state != PrivateErased {
		t.Fatalf("state %s, %v", state, err)
	}
	// The edge sends it again: erased stays erased.
	again := edges[0].accepted(t, 0, nil)
	again.Bundle, again.Log = nil, edges[0].log(t)
	commit(t, s, again)
	if r := verify(t, s); !r.OK() || r.Erased != uint64(n) {
		t.Fatalf("a repeat brought it back: %+v", r)
	}
	s.Close()
	for _, name := range []string{FileName, FileName + "-wal"} {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(`"m7"`)) {
			t.Fatalf("%s still holds the member's id on disk", name)
		}
	}
}

func TestALatePrivatePartCompletesItsLine(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	a := e.batch(t, 5)
	late := a.Private[2]
	a.Private = append(a.Private[:2:2], a.Private[3:]...)
	commit(t, s, a)
	if l, _ := s.Line(t.Context(), Address{e.edge, e.epoch, 2}); l.Member != "" {
		t.Fatalf("%+v", l)
	}
	commit(t, s, Accepted{Log: e.log(t), Private: []PrivatePart{late}})
	if l, _ := s.Line(t.Context(), Address{e.edge, e.epoch, 2}); l.Member != "m2" {
		t.Fatalf("%+v", l)
	}
	if r := verify(t, s); !r.OK() || r.Missing != 0 {
		t.Fatalf("%+v", r)
	}
	if err := s.Commit(t.Context(), []Accepted{{Log: e.log(t), Private: []PrivatePart{{Index: 99}}}}); !errors.Is(err, ErrGap) {
		t.Fatalf("a part for a leaf that is not here: %v", err)
	}
}

func TestABackupCountsOnlyAfterItWasReadBack(t *testing.T) {
	s, edges := full(t)
	dir := t.TempDir()
	bad := Checks{Receipt: func(Log) (uint64, tlog.Hash, error) { return 0, tlog.Hash{}, errors.New("no") }}
	if _, err := s.Backup(t.Context(), filepath.Join(dir, "a.db"), bad); err == nil {
		t.Fatal("a copy that does not verify counted")
	}
	if _, err := os.Stat(filepath.Join(dir, "a.db")); !os.IsNotExist(err) {
		t.Fatal("the bad copy is still there")
	}
	for _, l := range must(s.Logs(t.Context())) {
		if l.Backup != 0 {
			t.Fatalf("the watermark rose: %+v", l)
		}
	}
	file := filepath.Join(dir, "b.db")
	marks, err := s.Backup(t.Context(), file, testChecks)
	if err != nil || len(marks) != 3 || marks[0].Backup != 157 {
		t.Fatalf("%+v %v", marks, err)
	}
	if _, err := s.Backup(t.Context(), file, testChecks); err == nil {
		t.Fatal("an older backup was overwritten")
	}
	// A commit whose caller still has the old watermark in mind does not lower it.
	commit(t, s, edges[0].batch(t, 3))
	if l := must(s.Logs(t.Context()))[0]; l.Backup != 157 || l.Size != 160 {
		t.Fatalf("%+v", l)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode of the copy: %v %v", st.Mode(), err)
	}
}

func TestARestoreIsANewGenerationAtTheBackupsHeads(t *testing.T) {
	s, edges := full(t)
	file := filepath.Join(t.TempDir(), "b.db")
	if _, err := s.Backup(t.Context(), file, testChecks); err != nil {
		t.Fatal(err)
	}
	before := must(s.Generation(t.Context()))
	old := must(s.Logs(t.Context()))
	late := edges[0].batch(t, 10)
	commit(t, s, late)
	o := Options{Dir: filepath.Join(t.TempDir(), "new"), Network: testNetwork, Projection: testProjection}
	if err := Restore(t.Context(), file, Options{Dir: s.dir, Network: testNetwork, Projection: testProjection}, testChecks); err == nil {
		t.Fatal("restored over a living database")
	}
	if err := Restore(t.Context(), file, o, testChecks); err != nil {
		t.Fatal(err)
	}
	r := open(t, o.Dir)
	if g := must(r.Generation(t.Context())); g == before || g == "" {
		t.Fatalf("generation %q, before %q", g, before)
	}
	for i, l := range must(r.Logs(t.Context())) {
		if l.Size != old[i].Size || l.Root != old[i].Root || l.Backup != l.Size {
			t.Fatalf("%+v", l)
		}
	}
	// The edge sends again what the hub forgot, and all is as it was.
	commit(t, r, late)
	if rep := verify(t, r); !rep.OK() || rep.Leaves != 481 {
		t.Fatalf("%+v", rep)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, []byte(`"verdict":"grant"`))
	b[i+12] ^= 1
	flipped := filepath.Join(t.TempDir(), "flipped.db")
	if err := os.WriteFile(flipped, b, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Dir = filepath.Join(t.TempDir(), "other")
	if err := Restore(t.Context(), flipped, o, testChecks); err == nil || !strings.Contains(err.Error(), "index") {
		t.Fatalf("a flipped byte was restored: %v", err)
	}
}

func TestExportCarriesEveryLeafWithItsProofState(t *testing.T) {
	s, edges := full(t)
	if err := s.Erase(t.Context(), Address{"lisbon-front", event.Epoch{1}, 3}); err != nil {
		t.Fatal(err)
	}
	held := edges[2].tap(t, "ana", hour)
	a := edges[2].accepted(t, 157, []event.Leaf{held})
	a.Log.Receipt = nil
	commit(t, s, a)
	var buf bytes.Buffer
	if err := s.Export(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(buf.String()), "\n") {
		var v struct {
			exportHead
			exportLog
			exportLeaf
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch {
		case v.Format != "":
			count["head"]++
		case v.Log != "":
			count["log"]++
		default:
			count[v.Proof]++
			l, err := event.Parse([]byte(v.Leaf))
			if err != nil {
				t.Fatal(err)
			}
			if v.Erased {
				count["erased"]++
			}
			if v.Private != "" {
				var salt [32]byte
				if _, err := decodeHex(salt[:], v.Salt); err != nil || event.Commit(salt, []byte(v.Private)) != *l.Commitment {
					t.Fatalf("leaf %d: the exported part does not open its commitment", l.Index)
				}
			}
		}
	}
	want := map[string]int{"head": 1, "log": 3, "receipted": 471, "stored": 1, "erased": 1}
	for k, n := range want {
		if count[k] != n {
			t.Errorf("%s: %d, want %d", k, count[k], n)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Whoever can write the database can take a receipt out of it, and then rewrite what it proved. It cannot be called proven.
func TestLeavesWithoutAReceiptAreCounted(t *testing.T) {
	s, _ := full(t)
	if r := verify(t, s); !r.OK() || r.Stored != 0 {
		t.Fatalf("%+v", r)
	}
	execSQL(t, s, `UPDATE logs SET receipt = NULL, receipt_size = 0 WHERE id = 1`)
	r := verify(t, s)
	var size uint64
	if err := s.read.QueryRow(`SELECT size FROM logs WHERE id = 1`).Scan(&size); err != nil || !r.OK() || r.Stored != size || size == 0 {
		t.Fatalf("%d leaves without a receipt, %v: %+v", size, err, r)
	}
}
