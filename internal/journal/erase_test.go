package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kith/internal/event"
)

// word is what asks for one word.
func word(w string) func(string) bool { return func(s string) bool { return s == w } }

// eraseLeaves erases by address, for tests that care little who is erased.
func (j *Journal) eraseLeaves(ctx context.Context, id event.Epoch, indexes ...uint64) error {
	e, err := j.view.Load().find(id)
	if err != nil {
		return err
	}
	var numbers []int64
	for _, i := range indexes {
		numbers = append(numbers, e.number(i))
	}
	if err := j.overwrite(ctx, numbers); err != nil {
		return err
	}
	return j.fold(ctx)
}

func TestErasedPartsAreNowhereInTheFilesAndProofsStand(t *testing.T) {
	l := newLog(t)
	ctx := context.Background()
	l.append(700)
	id := l.j.Head().Epoch
	entries, err := l.j.Read(ctx, id, 0, 700, 1<<22)
	if err != nil {
		t.Fatal(err)
	}
	var salts, kept [][]byte
	for _, n := range entries {
		if n.Private == nil {
			continue
		}
		p, err := event.ParsePrivate(n.Private)
		if err != nil {
			t.Fatal(err)
		}
		if p.Member == "member-3" || n.Index == 13 {
			salts = append(salts, n.Salt[:], []byte(p.Card))
			l.mem[0].erased[n.Index] = true
		} else {
			kept = append(kept, n.Salt[:])
		}
	}
	head := l.j.Head()
	n, err := l.j.Erase(ctx, word("member-3"))
	if err != nil || n < 50 {
		t.Fatalf("erased %d: %v", n, err)
	}
	if n, err := l.j.Erase(ctx, word(tap(14).Private.Card)); err != nil || n != 1 {
		t.Fatalf("erased %d by card: %v", n, err)
	}
	if n, err := l.j.Erase(ctx, word("member-3")); err != nil || n != 0 {
		t.Fatalf("erased %d again: %v", n, err)
	}
	if l.j.Head() != head {
		t.Error("erasing moved the head")
	}
	l.CheckJournal()
	r, err := l.j.Verify(ctx)
	if err != nil || int(r.Epochs[0].Erased) != len(l.mem[0].erased) {
		t.Errorf("verify counts %d erased, want %d", r.Epochs[0].Erased, len(l.mem[0].erased))
	}
	// The files as they are while the journal is open, WAL included: copied by another process, since closing our own
	// descriptor of a live database would drop its locks.
	copyTree(t, filepath.Join(l.opt.Dir, liveDir), filepath.Join(t.TempDir(), "copy"), func(name string, data []byte) {
		for _, s := range salts {
			if bytes.Contains(data, s) {
				t.Fatalf("%s still holds an erased salt or card", name)
			}
		}
	})
	if err := l.j.Close(); err != nil {
		t.Fatal(err)
	}
	disk := onDisk(t, l)
	for _, s := range salts {
		if bytes.Contains(disk, s) {
			t.Fatal("after closing, the files still hold an erased salt or card")
		}
	}
	if !bytes.Contains(disk, kept[0]) {
		t.Fatal("a kept salt is not found either: this test sees nothing")
	}
}

// guests are records in which the erased stand everywhere they can: before the journal's own card, beside somebody else's tap, in
// an entry as witness and as receiver. The last one names nobody of them.
func guests() (records []Record, named [][]byte, is func(string) bool) {
	const who, card = "zephyrine-q", "uid:04deadbeefcafe77"
	entry := func(member string, p event.EntryPrivate) Record {
		body, err := event.EncodeEntry(event.KindTransfer, event.Entry{Resource: "bed", Quantity: 1, Measure: "night", Home: "lisbon", To: "oaxaca", Evidence: event.EvidenceC})
		if err != nil {
			panic(err)
		}
		return Record{Kind: event.KindTransfer, At: testStart, Mono: 1, Clock: event.Synced, Body: body,
			Private: &event.Private{Member: member, Body: mustMarshal(p)}}
	}
	mine, unknown := tap(1), tap(2)
	mine.Private = &event.Private{Member: who, Card: "pkoc:" + fmt.Sprintf("%064x", 99)}
	unknown.Private = &event.Private{Card: card, Body: json.RawMessage(`{"us":1}`)}
	records = []Record{mine, unknown, entry("ana", event.EntryPrivate{ToMember: who}), entry("ana", event.EntryPrivate{WitnessMember: who}),
		entry("ana", event.EntryPrivate{WitnessCard: card}), tap(3)}
	return records, [][]byte{[]byte(who), []byte(card)}, func(w string) bool { return w == who || w == card }
}

// holding says which of the words stand in the files of a journal's directory, evidence included.
func holding(t *testing.T, dir string, words [][]byte) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, w := range words {
			if bytes.Contains(text, w) {
				found = append(found, fmt.Sprintf("%s: %q", filepath.Base(path), w))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// copied is a copy of a living journal's directory, as a power cut at this moment would leave it.
func (l *testLog) copied() string {
	dir := filepath.Join(l.t.TempDir(), "copy")
	copyTree(l.t, l.opt.Dir, dir, nil)
	return dir
}

func TestErasingReachesEveryFieldAndWhatWasCarriedOver(t *testing.T) {
	l, ctx := newLog(t), context.Background()
	records, words, is := guests()
	if _, err := l.j.Append(ctx, records...); err != nil {
		t.Fatal(err)
	}
	for range 2 { // carried over, and carried over again
		head := l.j.Head()
		all, err := l.j.Read(ctx, head.Epoch, 0, 100, 1<<20)
		if err == nil {
			err = l.j.StartEpoch(ctx, event.KindFork, event.Epochal{}, Carry{all, head.Size})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l.learn()
	if found := holding(t, l.copied(), words); len(found) == 0 {
		t.Fatal("the search finds nothing where there is something")
	}
	if n, err := l.j.Erase(ctx, is); err != nil || n != 3*5 {
		t.Fatalf("erased %d of 15: %v", n, err)
	}
	if found := holding(t, l.copied(), words); len(found) > 0 {
		t.Fatal(found)
	}
	l.noteErased()
	l.CheckJournal()
	for i, e := range l.j.Epochs() {
		got, err := l.j.Read(ctx, e.Epoch, e.Size-1, 1, 1<<20)
		if err != nil || got[0].Private == nil {
			t.Errorf("epoch %d: the part of somebody else went too: %v", i, err)
		}
	}
}

// What a new epoch takes over was read before; whoever was erased since must not come back with it.
func TestWhatWasReadBeforeAnErasingIsNotCarriedOver(t *testing.T) {
	l, ctx := newLog(t), context.Background()
	records, words, is := guests()
	if _, err := l.j.Append(ctx, records...); err != nil {
		t.Fatal(err)
	}
	head := l.j.Head()
	all, err := l.j.Read(ctx, head.Epoch, 0, 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.j.Erase(ctx, is); err != nil {
		t.Fatal(err)
	}
	other := word("nobody")
	l.fault(func(stage string, _ []*request) error { // an erasing that begins when the rows are made and not yet written
		if stage == "begin" {
			l.j.unwanted.Store(&other)
		}
		return nil
	})
	if err := l.j.StartEpoch(ctx, event.KindFork, event.Epochal{}, Carry{all, head.Size}); !errors.Is(err, ErrRange) {
		t.Fatalf("carried over beside an erasing: %v", err)
	}
	l.fault(nil)
	l.j.unwanted.Store(&is)
	if err := l.j.StartEpoch(ctx, event.KindFork, event.Epochal{}, Carry{all, head.Size}); err != nil {
		t.Fatal(err)
	}
	if found := holding(t, l.copied(), words); len(found) > 0 {
		t.Fatal(found)
	}
	l.learn()
	l.noteErased()
	l.CheckJournal()
}

// Wherever a power cut or a refusing disk ends an erasing, the next one finishes it, and nothing else has changed.
func TestAnErasingThatWasCutShortIsFinishedByTheNext(t *testing.T) {
	records, words, is := guests()
	for _, stage := range []string{"begin", "write", "commit", "committed", "fold"} {
		for _, c := range []struct {
			name string
			err  error
		}{{"power", nil}, {"EIO", syscall.EIO}, {"full", syscall.ENOSPC}} {
			t.Run(stage+"/"+c.name, func(t *testing.T) {
				l, ctx := newLog(t), context.Background()
				for range 20 { // more than one step
					if _, err := l.j.Append(ctx, records...); err != nil {
						t.Fatal(err)
					}
				}
				l.learn()
				head, cut, passes := l.j.Head(), "", 0
				l.fault(func(at string, _ []*request) error {
					if at != stage {
						return nil
					}
					if passes++; passes != 2 && stage != "fold" {
						return nil
					}
					if c.err == nil && cut == "" {
						cut = l.copied()
					}
					return c.err
				})
				_, err := l.j.Erase(ctx, is)
				if (err != nil) != (c.err != nil) {
					t.Fatalf("the first erasing says %v", err)
				}
				l.fault(nil)
				if c.name == "full" && !l.j.Space().Reserve {
					t.Error("erasing took what is set aside for people's taps")
				}
				if cut != "" {
					if err := l.j.Close(); err != nil {
						t.Fatal(err)
					}
					l.opt.Dir = cut
					if found := holding(t, cut, words); len(found) == 0 {
						t.Fatal("the power was cut after all was done: this proves nothing")
					}
				}
				l.append(0)
				l.reopen()
				if _, err := l.j.Erase(ctx, is); err != nil {
					t.Fatal(err)
				}
				if found := holding(t, l.copied(), words); len(found) > 0 {
					t.Fatal(found)
				}
				if l.j.Head() != head {
					t.Error("erasing moved the head")
				}
				l.noteErased()
				if n := len(l.mem[0].erased); n != 20*5 {
					t.Errorf("%d parts are erased, want 100", n)
				}
				l.CheckJournal()
			})
		}
	}
}

// A part is erased where it stands, so no row may have left a copy of itself when others were pruned beside it.
func TestErasedPartsLeftNoCopyWhenOthersWerePruned(t *testing.T) {
	for _, size := range []int{520, 700, 1023} {
		l, ctx := newLog(t), context.Background()
		l.append(size)
		l.receipt(0)
		l.backup(uint64(size) - 260)
		entries, err := l.j.Read(ctx, l.j.Head().Epoch, 0, size, 1<<22)
		if err != nil {
			t.Fatal(err)
		}
		if n := l.prune(testStart.Add(longAfter)); n == 0 || n == size {
			t.Fatalf("pruned %d of %d", n, size)
		}
		if _, err := l.j.Erase(ctx, func(w string) bool { return strings.HasPrefix(w, "member-") }); err != nil {
			t.Fatal(err)
		}
		var words [][]byte
		for _, n := range entries {
			if p, err := event.ParsePrivate(n.Private); err == nil {
				words = append(words, n.Salt[:], []byte(p.Card))
			}
		}
		if found := holding(t, l.copied(), words); len(found) > 0 {
			t.Fatalf("%d leaves: %d, first %s", size, len(found), found[0])
		}
	}
}

func TestErasingTakesDamagedCopiesAndPartsThatCannotBeRead(t *testing.T) {
	l, ctx := newLog(t), context.Background()
	records, words, is := guests()
	if _, err := l.j.Append(ctx, records...); err != nil {
		t.Fatal(err)
	}
	l.append(900) // so that the damage is not at the end, where a start looks
	kept := filepath.Join(l.opt.Dir, damagedStem+"20260301T093000Z")
	copyTree(t, filepath.Join(l.opt.Dir, liveDir), kept, nil)
	if err := l.j.Close(); err != nil {
		t.Fatal(err)
	}
	l.sqlOn(`UPDATE private SET part = CAST(replace(part, '","', '"!"') AS BLOB) WHERE number = ?`, int64(1)<<indexBits)
	l.reopen()
	if n, err := l.j.Erase(ctx, is); err != nil || n != 5 {
		t.Fatalf("erased %d of 5: %v", n, err)
	}
	if found := holding(t, l.copied(), words); len(found) > 0 || l.evidence() != 0 {
		t.Fatalf("%v, %d damaged copies", found, l.evidence())
	}
	l.noteErased()
	l.CheckJournal()
}

// A page that the disk does not give back keeps no other from being searched, and is said.
func TestErasingPassesByWhatTheDiskDoesNotGiveBack(t *testing.T) {
	l, ctx := newLog(t), context.Background()
	l.append(3000)
	if err := l.j.Close(); err != nil {
		t.Fatal(err)
	}
	path := livePath(l.opt.Dir)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte(tap(1501).Private.Card))
	if at < 0 {
		t.Fatal("no such row")
	}
	page := at / pageBytes * pageBytes
	lost := bytes.Count(b[page:page+pageBytes], []byte(`"card":"`))
	b[page] ^= 0xff // no kind of page
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l.reopen()
	n, err := l.j.Erase(ctx, func(w string) bool { return strings.HasPrefix(w, "member-") || w == tap(14).Private.Card })
	if err == nil || n < 2400-lost-1 || n >= 2400 || lost == 0 {
		t.Fatalf("erased %d of 2400 but %d: %v", n, lost, err)
	}
	var words [][]byte
	for i := range 3000 {
		if card := []byte(tap(i).Private.Card); !bytes.Contains(b[page:page+pageBytes], card) {
			words = append(words, card)
		}
	}
	if found := holding(t, l.copied(), words); len(found) > 1 { // one may begin on the page before
		t.Fatalf("%d, first %s", len(found), found[0])
	}
}

// Whoever reads for long keeps the WAL; taps must not wait for that.
func TestErasingWaitsForAReaderAndNobodyWaitsForErasing(t *testing.T) {
	l, ctx := newLog(t), context.Background()
	l.append(20)
	reader, err := l.j.db.readQ.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback()
	var n int
	if err := reader.QueryRow("SELECT count(*) FROM private").Scan(&n); err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{}, foldTries)
	l.fault(func(stage string, _ []*request) error {
		if stage == "fold" {
			waits <- struct{}{}
		}
		return nil
	})
	done := make(chan error, 1)
	go func() { _, err := l.j.Erase(ctx, word("member-3")); done <- err }()
	<-waits
	<-waits // the first try was in vain
	l.append(1)
	reader.Rollback()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	l.fault(nil)
	l.noteErased()
	l.CheckJournal()
}
