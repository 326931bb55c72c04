package journal

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// sqlOn changes a closed journal behind its back.
func (l *testLog) sqlOn(query string, args ...any) {
	l.t.Helper()
	db, err := sql.Open("sqlite", "file:"+livePath(l.opt.Dir))
	if err != nil {
		l.t.Fatal(err)
	}
	defer db.Close()
	res, err := db.Exec(query, args...)
	if err != nil {
		l.t.Fatal(err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		l.t.Fatalf("%s %v changed nothing", query, args)
	}
}

// flipBlob flips one random bit of a blob and returns what undoes it.
func (l *testLog) flipBlob(table, column string, number int64, key string) func() {
	l.t.Helper()
	db, err := sql.Open("sqlite", "file:"+livePath(l.opt.Dir))
	if err != nil {
		l.t.Fatal(err)
	}
	defer db.Close()
	var b []byte
	where := fmt.Sprintf(" WHERE %s = ?", key)
	if err := db.QueryRow("SELECT "+column+" FROM "+table+where, number).Scan(&b); err != nil {
		l.t.Fatal(err)
	}
	bad := append([]byte(nil), b...)
	bad[mrand.IntN(len(bad))] ^= 1 << mrand.IntN(8)
	l.sqlOn("UPDATE "+table+" SET "+column+" = ?"+where, bad, number)
	return func() { l.sqlOn("UPDATE "+table+" SET "+column+" = ?"+where, b, number) }
}

func (l *testLog) verifyFile() Report {
	l.t.Helper()
	r, err := Verify(context.Background(), l.opt)
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

// richLog has pruned, erased, signed, received and open parts.
func richLog(t *testing.T) *testLog {
	t.Helper()
	l := newLog(t)
	l.append(900)
	l.receipt(600)
	l.backup(300)
	if n := l.prune(testStart.Add(longAfter)); n != 256 {
		t.Fatalf("pruned %d", n)
	}
	if _, err := l.j.Checkpoint(context.Background(), l.j.Head().Epoch, 800); err != nil {
		t.Fatal(err)
	}
	l.CheckJournal()
	return l
}

func TestVerifyNamesTheLeafOfEveryFlippedByte(t *testing.T) {
	l := richLog(t)
	e := l.j.view.Load().current()
	if err := l.j.Close(); err != nil {
		t.Fatal(err)
	}
	if r := l.verifyFile(); !r.OK || !r.Epochs[0].Cosigned || r.Epochs[0].Leaves != 644 || r.Edge != "lisbon-front" {
		t.Fatalf("the undamaged journal: %+v, %+v", r, r.First)
	}
	person := func() int64 { // a leaf whose private part is there
		for {
			if n := 310 + mrand.Int64N(580); (n+1)%5 != 0 {
				return n
			}
		}
	}
	for range 25 {
		leaf := 256 + mrand.Int64N(644)
		p, g := person(), 1+mrand.Int64N(2)
		for _, c := range []struct {
			table, column string
			number        int64
			key           string
			what          string
			first, last   int64
		}{
			{"leaf", "line", e.number(uint64(leaf)), "number", "leaf", leaf, leaf},
			{"leaf", "hash", e.number(uint64(leaf)), "number", "leaf", leaf, leaf},
			{"private", "salt", e.number(uint64(p)), "number", "private", p, p},
			{"private", "part", e.number(uint64(p)), "number", "private", p, p},
			{"subtree", "root", e.number(uint64(g)), "number", "group", g * 256, g*256 + 255},
			{"tile", "hashes", e.number(0), "number", "group", 0, 255},
			{"head", "note", e.num, "num", "head", 0, 799},
			{"receipt", "note", e.num, "num", "receipt", 0, 599},
		} {
			undo := l.flipBlob(c.table, c.column, c.number, c.key)
			r := l.verifyFile()
			d := r.First
			if r.OK || d == nil || d.What != c.what || d.Edge != "lisbon-front" || d.Epoch != e.id.String() ||
				int64(d.Index) < c.first || int64(d.Index) > c.last {
				t.Errorf("flipped bit in %s.%s of leaves %d to %d: report says %+v", c.table, c.column, c.first, c.last, d)
			}
			undo()
		}
	}
	_, receipt := l.j.Receipt(e.id)
	for name, change := range map[string][]any{
		"receipt spelt otherwise":  {"UPDATE receipt SET note = ? WHERE num = ?", respelt(receipt), e.num},
		"head spelt otherwise":     {"UPDATE head SET note = ? WHERE num = ?", respelt(e.head.note), e.num},
		"leaf row gone":            {"DELETE FROM leaf WHERE number = ?", e.number(700)},
		"private row gone":         {"DELETE FROM private WHERE number = ?", e.number(701)},
		"private row of nobody":    {"INSERT INTO private VALUES (?, x'01', x'02')", e.number(99)},
		"group root gone":          {"DELETE FROM subtree WHERE number = ?", e.number(2)},
		"leaf moved":               {"UPDATE leaf SET number = ? WHERE number = ?", e.number(2000), e.number(899)},
		"two leaves of one past":   {"UPDATE leaf SET line = (SELECT line FROM leaf WHERE number = ?) WHERE number = ?", e.number(500), e.number(501)},
		"tail cut below the head":  {"DELETE FROM leaf WHERE number >= ?", e.number(799)},
		"tail cut, parts are left": {"DELETE FROM leaf WHERE number >= ?", e.number(890)},
	} {
		copied := filepath.Join(t.TempDir(), "copy")
		copyTree(t, l.opt.Dir, copied, nil)
		c := &testLog{t: t, opt: l.opt}
		c.opt.Dir = copied
		c.sqlOn(change[0].(string), change[1:]...)
		if r := c.verifyFile(); r.OK || r.First == nil {
			t.Errorf("%s: verify says all is well", name)
		}
	}
	if r := l.verifyFile(); !r.OK {
		t.Errorf("after undoing every flip: %+v", r.First)
	}
}

// Bytes flipped anywhere in the file: either verify says so, or the byte means nothing and all that was written is there.
func TestFlippedByteAnywhereInTheFileIsSeenOrHarmless(t *testing.T) {
	l := richLog(t)
	if err := l.j.Close(); err != nil {
		t.Fatal(err)
	}
	pristine, err := os.ReadFile(livePath(l.opt.Dir))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for range 60 {
		c := &testLog{t: t, opt: l.opt, keys: l.keys}
		c.opt.Dir = t.TempDir()
		if err := os.MkdirAll(filepath.Dir(livePath(c.opt.Dir)), 0o700); err != nil {
			t.Fatal(err)
		}
		at := mrand.IntN(len(pristine))
		if err := os.WriteFile(livePath(c.opt.Dir), flip(pristine, at), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := c.verifyFile(); !r.OK {
			seen++
			continue
		}
		j, err := Open(context.Background(), c.opt)
		if err != nil {
			t.Fatalf("flipped byte %d: verify is content, open is not: %v", at, err)
		}
		c.j, c.mem = j, l.mem
		c.CheckJournal()
		j.Close()
	}
	if seen < 20 {
		t.Errorf("only %d of 60 flips were seen", seen)
	}
}

// damagedOpen closes, damages and opens again; the reference then follows the journal.
func (l *testLog) damagedOpen(damage func()) {
	l.t.Helper()
	l.j.Close()
	damage()
	j, err := Open(context.Background(), l.opt)
	if err != nil {
		l.t.Fatal(err)
	}
	l.j = j
}

func (l *testLog) evidence() int {
	l.t.Helper()
	names, err := filepath.Glob(filepath.Join(l.opt.Dir, damagedStem+"*", dbFile))
	if err != nil {
		l.t.Fatal(err)
	}
	return len(names)
}

func TestLostLeafStartsANewEpochThatCarriesTheRestOver(t *testing.T) {
	l := newLog(t)
	l.append(400)
	l.receipt(300)
	if _, err := l.j.Checkpoint(context.Background(), l.j.Head().Epoch, 0); err != nil {
		t.Fatal(err)
	}
	e := l.j.view.Load().current()
	originals := l.mem[0].leaves
	l.damagedOpen(func() { l.flipBlob("leaf", "line", e.number(350), "number") })
	infos := l.j.Epochs()
	if len(infos) != 2 || infos[0].Size != 350 || !infos[0].Sealed || infos[0].Abandoned || infos[0].Receipt != 300 {
		t.Fatalf("epochs are %+v, want the old one sealed at 350 and its receipt kept", infos)
	}
	if infos[1].Size != 1+49 {
		t.Fatalf("new epoch has %d leaves, want 1 and the 49 behind the lost one", infos[1].Size)
	}
	l.wantEpochal(event.KindRecovered, e.id, 350)
	got, err := l.j.Read(context.Background(), infos[1].Epoch, 1, 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range got {
		leaf, _ := event.Parse(n.Leaf)
		want := originals[351+i]
		if leaf.Kind != event.KindReplayed || !strings.Contains(string(leaf.Body), fmt.Sprintf(`"old_index":%d,`, 351+i)) {
			t.Fatalf("leaf %d of the new epoch is %s", i+1, n.Leaf)
		}
		var body event.Replayed
		if err := json.Unmarshal(leaf.Body, &body); err != nil || body.Leaf != string(want) {
			t.Fatalf("original %d was not carried over byte for byte", 351+i)
		}
		if old, _ := event.Parse(want); old.Commitment != nil {
			l.checkReplayedPrivate(n, old)
		}
	}
	if l.evidence() != 1 {
		t.Error("the damaged file was not kept")
	}
	l.mem[0].leaves, l.mem[0].hashes = originals[:350], nil
	l.rehash()
	l.learn()
	l.CheckJournal()
	l.append(3)
	l.reopen()
	l.CheckJournal()
	if l.evidence() != 1 {
		t.Error("a healed journal was healed again")
	}
}

func (l *testLog) checkReplayedPrivate(n Entry, old event.Leaf) {
	l.t.Helper()
	p, err := event.ParsePrivate(n.Private)
	if err != nil {
		l.t.Fatal(err)
	}
	var inner event.ReplayedPrivate
	if err := json.Unmarshal(p.Body, &inner); err != nil {
		l.t.Fatal(err)
	}
	salt, err := hex.DecodeString(inner.Salt)
	if err != nil || len(salt) != 32 {
		l.t.Fatal("salt", err)
	}
	if event.Commit([32]byte(salt), []byte(inner.Private)) != *old.Commitment || p.Member == "" {
		l.t.Fatal("the private part was not carried over")
	}
}

func TestDamageBelowTheReceiptIsAHoleAndNoLoss(t *testing.T) {
	for name, damage := range map[string]func(l *testLog, e *epoch){
		"line in the open group":       func(l *testLog, e *epoch) { l.flipBlob("leaf", "line", e.number(520), "number") },
		"line in a closed group":       func(l *testLog, e *epoch) { l.flipBlob("leaf", "line", e.number(300), "number") },
		"row gone from a closed group": func(l *testLog, e *epoch) { l.sqlOn("DELETE FROM leaf WHERE number = ?", e.number(300)) },
		"row and group both": func(l *testLog, e *epoch) {
			l.sqlOn("DELETE FROM leaf WHERE number BETWEEN ? AND ?", e.number(300), e.number(310))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t)
			l.append(600)
			l.receipt(540)
			e := l.j.view.Load().current()
			l.damagedOpen(func() { damage(l, e) })
			if n := len(l.j.Epochs()); n != 1 {
				t.Fatalf("%d epochs, but the hub has what was damaged", n)
			}
			if got := l.j.Head(); got.Root != l.mem[0].root(t, 600) {
				t.Fatalf("head is %v, want the same tree as before", got)
			}
			r, err := l.j.Verify(context.Background())
			if err != nil || !r.OK || r.Epochs[0].Lost == 0 {
				t.Fatalf("verify: %v, %+v, first %+v", err, r, r.First)
			}
			if l.evidence() != 1 {
				t.Error("the damaged file was not kept")
			}
			if _, err := l.j.Read(context.Background(), e.id, r.Epochs[0].Size-60, 60, 1<<20); err != nil {
				t.Errorf("leaves past the receipt: %v", err)
			}
			l.append(200)
			l.receipt(0)
			l.reopen()
			if got := l.j.Head(); got.Root != l.mem[0].root(t, 800) || len(l.j.Epochs()) != 1 {
				t.Fatalf("after going on: %v", got)
			}
			l.backup(800)
			if n, err := l.j.Prune(context.Background(), testStart.Add(longAfter)); err != nil || n != 768 {
				t.Errorf("pruned %d: %v", n, err)
			}
			l.reopen()
			if r, err := l.j.Verify(context.Background()); err != nil || !r.OK {
				t.Fatalf("verify after pruning a group with a hole: %v, %+v", err, r.First)
			}
		})
	}
}

func TestLostPrivatePartIsCountedAndTheLogGoesOn(t *testing.T) {
	l := newLog(t)
	l.append(100)
	e := l.j.view.Load().current()
	l.damagedOpen(func() { l.flipBlob("private", "part", e.number(90), "number") })
	r, err := l.j.Verify(context.Background())
	if err != nil || !r.OK || r.Epochs[0].LostPrivate != 1 || len(r.Epochs) != 1 {
		t.Fatalf("verify: %v, %+v", err, r)
	}
	l.mem[0].erased[90] = true
	l.CheckJournal()
}

func TestDamagedGroupRootIsRecomputed(t *testing.T) {
	l := newLog(t)
	l.append(600)
	l.receipt(0)
	e := l.j.view.Load().current()
	l.damagedOpen(func() { l.flipBlob("subtree", "root", e.number(1), "number") })
	l.CheckJournal()
	if l.evidence() != 1 {
		t.Error("the damaged file was not kept")
	}
}

func TestUnreadableSignedHeadSealsTheEpoch(t *testing.T) {
	l := newLog(t)
	l.append(60)
	l.receipt(0)
	e := l.j.view.Load().current()
	l.damagedOpen(func() { l.sqlOn("UPDATE head SET note = x'00'") })
	if n := l.j.Epochs(); len(n) != 2 || n[0].Size != 60 || n[0].Epoch != e.id {
		t.Fatalf("epochs are %+v: signing could have gone on without knowing what was signed", n)
	}
	l.learn()
	l.CheckJournal()
}

func TestFilesThatAreNoDatabaseAnyMore(t *testing.T) {
	want := map[string]uint64{"header overwritten": 690, "cut in the middle": 250, "one page of zeros": 675}
	for name, damage := range map[string]func([]byte) []byte{
		"header overwritten": func(b []byte) []byte { copy(b, strings.Repeat("x", 4096)); return b },
		"cut in the middle":  func(b []byte) []byte { return b[:len(b)/2/4096*4096] },
		"cut to one page":    func(b []byte) []byte { return b[:4096] },
		"random":             func(b []byte) []byte { return []byte(strings.Repeat("noise ", 9999)) },
		"one page of zeros": func(b []byte) []byte {
			at := len(b) / 4096 * 3 / 4 * 4096
			copy(b[at:at+4096], make([]byte, 4096))
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t)
			l.append(700)
			id := l.j.Head().Epoch
			if _, err := l.j.Checkpoint(context.Background(), id, 0); err != nil {
				t.Fatal(err)
			}
			l.damagedOpen(func() {
				b, err := os.ReadFile(livePath(l.opt.Dir))
				if err == nil {
					err = os.WriteFile(livePath(l.opt.Dir), damage(b), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			})
			infos := l.j.Epochs()
			last := infos[len(infos)-1]
			if len(infos) < 2 || last.Epoch == id {
				t.Fatalf("epochs are %+v: the loss was not admitted", infos)
			}
			got, err := l.j.Read(context.Background(), last.Epoch, 0, 1, 1)
			if err != nil || !strings.Contains(string(got[0].Leaf), `"kind":"recovered"`) {
				t.Fatalf("first leaf: %v", err)
			}
			kept := uint64(0)
			if infos[0].Epoch == id {
				kept = infos[0].Size
			}
			t.Logf("%d of 700 leaves stand, %d were carried over", kept, last.Size-1)
			if got := kept + last.Size - 1; got < want[name] {
				t.Errorf("%d of 700 leaves saved, want at least %d", got, want[name])
			}
			l.mem = nil
			l.learn()
			l.append(5)
			l.CheckJournal()
			l.reopen()
			l.CheckJournal()
			if l.evidence() != 1 {
				t.Errorf("%d pieces of evidence, want 1", l.evidence())
			}
		})
	}
}

func TestScavengingKeepsTheNewestWithinItsBound(t *testing.T) {
	s := &scavenger{found: map[tlog.Hash]Entry{}, leaves: map[tlog.Hash]event.Leaf{}, parts: map[[32]byte]Entry{}}
	for i := range uint64(2 * maxScavenged) {
		h := tlog.Hash{byte(i), byte(i >> 8), byte(i >> 16)}
		s.leaves[h] = event.Leaf{Index: i, At: int64(i / 100)}
		s.found[h] = Entry{Index: i}
		s.parts[h] = Entry{Index: i}
	}
	s.forgetOld()
	s.forgetOldParts()
	if len(s.found) != maxScavenged || len(s.leaves) != maxScavenged || len(s.parts) > maxScavenged {
		t.Fatalf("%d leaves and %d parts are kept, bound %d", len(s.found), len(s.parts), maxScavenged)
	}
	for _, n := range s.missing(func(event.Epoch, uint64) bool { return false }) {
		if n.Index < maxScavenged {
			t.Fatalf("leaf %d was kept in place of a newer one", n.Index)
		}
	}
}

func TestRestoredOlderCopyOpensAsItWas(t *testing.T) {
	l := newLog(t)
	l.append(300)
	l.receipt(0)
	l.j.Close()
	old := filepath.Join(t.TempDir(), "old")
	copyTree(t, l.opt.Dir, old, nil)
	l.reopen()
	l.append(100)
	l.receipt(0)
	l.j.Close()
	opt := l.opt
	opt.Dir = old
	c := openLog(t, l.keys, opt)
	c.CheckJournal()
	if c.j.Head().Size != 300 {
		t.Errorf("size %d, want 300", c.j.Head().Size)
	}
	// The hub knows more; the edge then seals at what it has and says so.
	if err := c.j.StartEpoch(context.Background(), event.KindRestored, event.Epochal{OldSize: 400, Why: "hub has more"}, Carry{Size: c.j.Head().Size}); err != nil {
		t.Fatal(err)
	}
	c.learn()
	c.CheckJournal()
	if e := c.j.Epochs(); !e[0].Abandoned || !e[0].Sealed || e[1].Size != 1 {
		t.Errorf("epochs are %+v", e)
	}
}

func TestForkReplaysWhatTheHubDoesNotHaveAndNeverWrapsTwice(t *testing.T) {
	l := newLog(t)
	l.append(40)
	ctx := context.Background()
	for round := range 2 {
		id := l.j.Head().Epoch
		branch, err := l.j.Read(ctx, id, 1, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		body := event.Epochal{OldEpoch: id.String(), OldSize: 1}
		if err := l.j.StartEpoch(ctx, event.KindFork, body, Carry{branch, l.j.Head().Size - 1}); !errors.Is(err, ErrRange) {
			t.Fatalf("a leaf that came meanwhile was left behind: %v", err)
		}
		if err := l.j.StartEpoch(ctx, event.KindFork, body, Carry{branch, l.j.Head().Size}); err != nil {
			t.Fatal(err)
		}
		l.wantEpochal(event.KindFork, id, 1)
		if got := l.j.Head().Size; got != 40 {
			t.Fatalf("round %d: new epoch has %d leaves", round, got)
		}
		l.learn()
		l.CheckJournal()
		if err := l.j.StartEpoch(ctx, event.KindFork, body, Carry{branch, l.j.Head().Size}); !errors.Is(err, ErrRange) {
			t.Errorf("the same epoch was left twice: %v", err)
		}
	}
	got, err := l.j.Read(ctx, l.j.Head().Epoch, 1, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range got {
		if strings.Count(string(n.Leaf), "old_epoch") != 1 {
			t.Fatalf("wrapped twice: %s", n.Leaf)
		}
	}
	if err := l.j.StartEpoch(ctx, event.KindTap, event.Epochal{}, Carry{}); err == nil {
		t.Error("a tap started an epoch")
	}
	if n, err := l.j.Erase(ctx, word("member-3")); err != nil || n < 12 {
		t.Errorf("erased %d parts over three epochs: %v", n, err)
	}
}

func TestNewerFormatAndForeignEdgeAreRefused(t *testing.T) {
	l := newLog(t)
	l.append(3)
	l.j.Close()
	l.sqlOn("UPDATE format SET version = 99")
	if _, err := Open(context.Background(), l.opt); !errors.Is(err, ErrNewer) {
		t.Errorf("newer format: %v", err)
	}
	l.sqlOn("UPDATE format SET version = ?, node = 'porto'", formatVersion)
	if _, err := Open(context.Background(), l.opt); !errors.Is(err, ErrIdentity) {
		t.Errorf("foreign edge: %v", err)
	}
	l.sqlOn("UPDATE format SET node = 'lisbon'")
	l.reopen()
	l.CheckJournal()
	if l.evidence() != 0 {
		t.Error("a refusal was taken for damage")
	}
}

func TestMigrationIsAllOrNothing(t *testing.T) {
	l := newLog(t)
	l.append(3)
	ctx := context.Background()
	steps := append(append([]string(nil), migrations...), "CREATE TABLE extra (a); INSERT INTO nowhere VALUES (1)")
	l.j.Close()
	d, err := openDatabase(ctx, livePath(l.opt.Dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate(ctx, d.w, steps); err == nil {
		t.Fatal("a broken migration passed")
	}
	if v, err := readVersion(ctx, d.w); err != nil || v != formatVersion {
		t.Errorf("version is %d after a failed migration: %v", v, err)
	}
	if _, err := d.w.ExecContext(ctx, "SELECT * FROM extra"); err == nil {
		t.Error("half of the migration stayed")
	}
	d.close()
	l.reopen()
	l.CheckJournal()
}

func TestInterruptedRebuildIsFinishedOrUndone(t *testing.T) {
	l := newLog(t)
	l.append(30)
	l.j.Close()
	live, rebuilt := filepath.Join(l.opt.Dir, liveDir), filepath.Join(l.opt.Dir, rebuildDir)
	if err := os.MkdirAll(rebuilt, 0o700); err != nil { // killed while it was still being written
		t.Fatal(err)
	}
	l.reopen()
	l.CheckJournal()
	l.j.Close()
	if err := os.Rename(live, rebuilt); err != nil { // killed between the two renames
		t.Fatal(err)
	}
	l.reopen()
	l.CheckJournal()
	if _, err := os.Stat(rebuilt); err == nil {
		t.Error("the rebuild directory is still there")
	}
}

func TestSettingsThatDoNotHoldStopTheStart(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:") // a database that cannot do WAL
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := checkSettings(context.Background(), c); !errors.Is(err, ErrSettings) {
		t.Errorf("checkSettings: %v", err)
	}
}
