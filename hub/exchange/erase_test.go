package exchange

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kith/configs"
	"kith/hub/intake"
	"kith/hub/registry"
	"kith/hub/store"
	"kith/internal/access"
	"kith/internal/command"
	"kith/internal/event"
	"kith/internal/wire"
)

const (
	zephName = "Zephyrine Quillfeather"
	zeph     = "zephyrine-q"
	zephUID  = "uid:04deadbeefcafe"
	zephLost = "uid:0badc0de" // a card that the registry has forgotten
)

var (
	zephX     = hex.EncodeToString(bytes.Repeat([]byte{0xab, 0x3d}, 16))
	zephCard  = "pkoc:" + zephX
	zephKey   = "04" + zephX + hex.EncodeToString(bytes.Repeat([]byte{0x5c, 0xe7}, 16))
	zephSig   = hex.EncodeToString(bytes.Repeat([]byte{0x91, 0x2e, 0x77, 0xd4}, 16))
	zephWords = append(traces(zephName, zeph, zephCard, zephUID, zephLost), bytesOf(zephKey), []byte(zephKey), bytesOf(zephSig), []byte(zephSig))
)

func bytesOf(digits string) []byte { return must(hex.DecodeString(digits)) }

// enrolled makes zephyrine a member with two cards.
func (w *town) enrolled() {
	w.t.Helper()
	must(w.x.Do(w.t.Context(), Order{Change: &registry.Change{Members: []access.Member{{ID: zeph, Name: zephName, Home: "lisbon", Role: access.RoleResident}},
		Cards: []access.Card{{ID: zephUID, Member: zeph}, {ID: zephCard, Member: zeph, Revoked: true}, {ID: zephLost, Member: zeph}}}}))
	must(w.x.Do(w.t.Context(), Order{Change: &registry.Change{DropCards: []string{zephLost}}}))
}

// everyRole writes a leaf for each way in which a private part can name somebody, and says how many those are.
func (h *house) everyRole() int {
	h.t.Helper()
	tap := event.Tap{Door: "front", Reader: "r1", Direction: "in", Verdict: "grant", Reason: "granted", Assurance: "pkoc", Roster: 1}
	refused := event.Tap{Door: "front", Reader: "r1", Direction: "in", Verdict: "deny", Reason: "unknown", Assurance: "pkoc", Roster: 1}
	bed := event.Entry{Resource: "bed", Quantity: 1, Measure: "night", Home: "oaxaca", Day: 20759, Evidence: "B"}
	loan := event.Entry{Resource: "bed", Quantity: 1, Measure: "night", Home: "lisbon", Day: 20759, Evidence: "B", To: "oaxaca"}
	entry := func(p event.EntryPrivate) json.RawMessage { return must(event.Marshal(p)) }
	all := []struct {
		kind event.Kind
		body any
		part event.Private
	}{
		{event.KindTap, tap, event.Private{Member: zeph, Card: zephUID, Body: json.RawMessage(`{"grant":"g1","us":830}`)}},
		{event.KindTap, tap, event.Private{Member: zeph, Card: zephLost}},
		{event.KindTap, refused, event.Private{Card: zephUID}},  // before it was hers
		{event.KindTap, refused, event.Private{Card: zephCard}}, // after it was revoked
		{event.KindTap, refused, event.Private{Card: zephLost}},
		{event.KindUse, bed, event.Private{Member: zeph, Card: zephCard, Body: entry(event.EntryPrivate{Note: "late", Key: zephKey, Signature: zephSig})}},
		{event.KindUse, bed, event.Private{Member: "bo", Card: "uid:01020304", Body: entry(event.EntryPrivate{WitnessMember: zeph, WitnessCard: zephCard,
			WitnessNonce: "000102030405060708090a0b0c0d0e0f", WitnessKey: zephKey, WitnessSignature: zephSig})}},
		{event.KindTransfer, loan, event.Private{Member: "bo", Body: entry(event.EntryPrivate{ToMember: zeph})}},
	}
	for _, l := range all {
		l.part.At = hour + int64(h.size())
		h.append(l.kind, must(event.Marshal(l.body)), l.part)
	}
	last := len(h.lines) - 1
	h.append(event.KindReplayed, must(event.Marshal(event.Replayed{OldEpoch: event.Epoch{99}.String(), OldIndex: 7, Leaf: string(h.lines[last])})),
		event.Private{At: hour + int64(h.size()), Body: must(event.Marshal(event.ReplayedPrivate{Salt: hex.EncodeToString(h.parts[last].Salt[:]),
			Private: string(h.parts[last].Bytes)}))})
	return len(all) + 1
}

func (h *house) append(kind event.Kind, body json.RawMessage, p event.Private) {
	h.t.Helper()
	l := event.Leaf{Network: "commons-week", Node: h.node, Edge: h.keys.ID, Epoch: h.epoch, Index: h.size(), Kind: kind, At: hour, Clock: event.Synced,
		Boot: "00112233445566aa", Body: body}
	part := wire.Private{Salt: sha256.Sum256(fmt.Appendf(nil, "salt %s %d", h.node, l.Index)), Bytes: must(p.Encode())}
	c := event.Commit(part.Salt, part.Bytes)
	l.Commitment = &c
	h.put(must(l.Encode()), part)
}

// seasons closes n weeks with something of zephyrine's in each, and gives the bundles.
func (w *town) seasons(n int) (bundles [][]byte, parts int) {
	w.t.Helper()
	for i := range n {
		if i == 0 {
			w.seeded()
		}
		parts += w.houses["lisbon"].everyRole()
		w.send(w.all()...)
		bundles = append(bundles, w.closed(fmt.Sprint("week-", i+1), lastDay.AddDate(0, 0, 7*i)))
	}
	return bundles, parts
}

// forgotten holds the town to what must stand after an erasure, and returns what an export says.
func (w *town) forgotten(when string, parts int, bundles [][]byte) string {
	w.t.Helper()
	if found := grep(w.t, w.dir, zephWords); len(found) > 0 {
		w.t.Fatalf("%s: %v", when, found)
	}
	v := must(w.x.verify(w.t.Context())).Report
	if !v.OK || v.Erased != uint64(parts) || v.Missing != 0 || int(v.Periods) != len(bundles) {
		w.t.Fatalf("%s: %+v, want %d parts erased and %d periods", when, v, parts, len(bundles))
	}
	for i := range bundles {
		after := must(w.x.bundle(w.t.Context(), fmt.Sprint("week-", i+1)))
		if verified(w.t, after); !bytes.Equal(after, bundles[i]) {
			w.t.Fatalf("%s: the bundle of week %d has changed", when, i+1)
		}
	}
	var export bytes.Buffer
	if err := w.x.storage.Export(w.t.Context(), &export); err != nil {
		w.t.Fatal(err)
	}
	silent(w.t, when+": the export", export.String())
	for _, n := range w.all() {
		d, _ := w.x.Roster(n)
		roster := must(access.ParseJSON(d))
		erased := must(access.Compile(roster)).Erasures()
		for _, id := range []string{zeph, zephCard, zephUID, zephLost} {
			if !erased.Has(id) {
				w.t.Fatalf("%s: the edges of %s are not told of %s", when, n, id)
			}
		}
		silent(w.t, when+": the roster of "+n, string(d))
	}
	return export.String()
}

func silent(t *testing.T, what, text string) {
	t.Helper()
	for _, word := range zephWords {
		if strings.Contains(text, string(word)) {
			t.Fatalf("%s holds %q", what, word)
		}
	}
}

func TestAnErasedMemberIsInNoFileAndEveryProofStands(t *testing.T) {
	w := newTown(t)
	w.enrolled()
	h := w.houses["lisbon"]
	bundles, parts := w.seasons(12)
	must(w.x.backup(t.Context()))
	for _, word := range zephWords {
		if !slices.ContainsFunc([]string{zephName, zeph, zephX, zephUID, zephLost, zephKey, zephSig}, func(s string) bool { return s == string(word) }) {
			continue // only its plain form was ever written
		}
		if len(grep(t, w.dir, [][]byte{word})) == 0 {
			t.Fatalf("the search for %q finds nothing where there is something", word)
		}
	}
	for i := range bundles {
		silent(t, "a bundle", string(bundles[i]))
	}
	a, err := w.x.Do(t.Context(), Order{Erase: zeph})
	if err != nil || a.Erased == nil || a.Erased.Parts != parts || len(a.Rosters) != len(w.cfg.Nodes) {
		t.Fatalf("%v %+v %v, want %d parts", err, a.Erased, a.Rosters, parts)
	}
	w.forgotten("after erasing", parts, bundles)
	w.serving(func() {
		for name, text := range w.reported("week-1") {
			silent(t, name, text)
		}
		for _, format := range []string{"ledger", "beancount", "csv", "jsonl", "valueflows", "balances"} {
			out, said, code := w.tellBooks(format)
			if code != 0 {
				t.Fatalf("books as %s: %s", format, said)
			}
			silent(t, "the books as "+format, out)
		}
	})

	// The edge did not hear of it: it sends everything again, then what happened since, two parts of it late.
	w.say(h.keys.ID, h.batchOf(0, h.size()))
	w.receipts()
	w.forgotten("after a repeat", parts, bundles)
	from := h.size()
	parts += h.everyRole()
	kept := slices.Clone(h.parts)
	var late []intake.PrivatePart
	for _, i := range []uint64{from, from + 5} {
		late = append(late, intake.PrivatePart{Index: i, Salt: kept[i].Salt, Bytes: kept[i].Bytes})
		h.parts[i] = wire.Private{}
	}
	w.send("lisbon")
	h.parts = kept
	if v := must(w.x.verify(t.Context())).Report; !v.OK || v.Missing != 2 || v.Erased != uint64(parts-2) {
		t.Fatalf("before the late parts: %+v", v)
	}
	log := w.edges[h.keys.ID].Logs[0]
	if err := w.x.storage.Commit(t.Context(), []intake.Accepted{{Log: log, From: log.Size, Private: late}}); err != nil {
		t.Fatal(err)
	}
	w.forgotten("after new leaves", parts, bundles)

	time.Sleep(2 * time.Millisecond) // backups are named by the millisecond
	must(w.x.backup(t.Context()))
	w.restart()
	w.forgotten("in a later backup", parts, bundles)
	again := registry.Change{Members: []access.Member{{ID: zeph, Home: "lisbon", Role: access.RoleGuest}}}
	if _, err := w.x.Do(t.Context(), Order{Change: &again}); err == nil || !strings.Contains(err.Error(), "choose another id") {
		t.Fatalf("an erased id is taken again: %v", err)
	}
}

// A card of somebody who was erased may be handed out again; what it does from then on is the new holder's.
func TestACardOfAnErasedMemberCountsAgainForTheNextHolder(t *testing.T) {
	w := newTown(t)
	w.enrolled()
	h := w.houses["lisbon"]
	h.append(event.KindTap, must(event.Marshal(event.Tap{Door: "front", Verdict: "grant"})), event.Private{At: hour, Member: zeph, Card: zephUID})
	w.send("lisbon")
	must(w.x.Do(t.Context(), Order{Erase: zeph}))
	must(w.x.Do(t.Context(), Order{Change: &registry.Change{Members: []access.Member{{ID: "noor", Home: "lisbon", Role: access.RoleGuest}},
		Cards: []access.Card{{ID: zephUID, Member: "noor"}}}}))
	h.append(event.KindTap, must(event.Marshal(event.Tap{Door: "front", Verdict: "grant"})), event.Private{At: hour + 1, Member: "noor", Card: zephUID})
	h.append(event.KindTap, must(event.Marshal(event.Tap{Door: "front", Verdict: "grant"})), event.Private{At: hour + 2, Member: zeph, Card: zephUID})
	w.send("lisbon")
	for range 2 {
		v := must(w.x.verify(t.Context())).Report
		if !v.OK || v.Erased != 2 || v.Private != 1 || w.seen("noor").Member != "noor" || w.seen(zeph).Member != "" {
			t.Fatalf("%+v", v)
		}
		w.restart()
	}
	// Nor does it count as the erased one's again when it was taken back.
	h.append(event.KindTap, must(event.Marshal(event.Tap{Door: "front", Verdict: "deny"})), event.Private{At: hour + 3, Card: zephUID})
	w.send("lisbon")
	must(w.x.Do(t.Context(), Order{Change: &registry.Change{DropCards: []string{zephUID}}}))
	w.restart()
	if v := must(w.x.verify(t.Context())).Report; !v.OK || v.Erased != 2 || v.Private != 2 {
		t.Fatalf("taken back: %+v", v)
	}
}

// In a copy from before a card went to whoever was erased with it, the card is another's. The list beside the database keeps it
// all the same; so taps that name nothing but the card go when nobody has it any more.
func TestACardOfTheErasedIsRememberedWhileAnOlderHolderHasIt(t *testing.T) {
	w := newTown(t)
	h := w.houses["lisbon"]
	must(w.x.Do(t.Context(), Order{Change: &registry.Change{Members: []access.Member{{ID: "ben", Home: "lisbon", Role: access.RoleGuest}},
		Cards: []access.Card{{ID: zephUID, Member: "ben"}}}}))
	aside := filepath.Join(t.TempDir(), store.FileName)
	if err := os.Rename(must(w.x.backup(t.Context())).Files[0], aside); err != nil {
		t.Fatal(err)
	}
	must(w.x.Do(t.Context(), Order{Change: &registry.Change{DropCards: []string{zephUID}}}))
	w.enrolled()
	h.append(event.KindTap, must(event.Marshal(event.Tap{Door: "front", Verdict: "deny"})), event.Private{At: hour, Card: zephUID})
	w.send("lisbon")
	must(w.x.Do(t.Context(), Order{Erase: zeph}))
	listed := must(os.ReadFile(filepath.Join(w.dir, memoryFile)))
	w.stopped(func() {
		for _, name := range []string{store.FileName, store.FileName + "-wal", store.FileName + "-shm"} {
			if err := os.Remove(filepath.Join(w.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(w.dir, store.FileName), must(os.ReadFile(aside)), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	w.restart()
	if have := must(os.ReadFile(filepath.Join(w.dir, memoryFile))); !bytes.Equal(have, listed) {
		t.Fatalf("the list has changed while the card is ben's:\n%s\n%s", have, listed)
	}
	h.sent = 0
	w.send("lisbon")
	if v := must(w.x.verify(t.Context())).Report; !v.OK || v.Private != 1 {
		t.Fatalf("what the edge sends again, while the card is ben's: %+v", v)
	}
	must(w.x.Do(t.Context(), Order{Change: &registry.Change{DropCards: []string{zephUID}}}))
	w.restart()
	if v := must(w.x.verify(t.Context())).Report; !v.OK || v.Private != 0 || v.Erased != 1 {
		t.Fatalf("with nobody's card: %+v", v)
	}
	if found := grep(t, filepath.Join(w.dir), traces(zephUID)); len(found) > 0 {
		t.Fatal(found)
	}
}

// Whatever fails, and wherever a power cut comes between two steps, the order given again ends in the same state.
func TestAnErasureThatWasCutShortIsFinishedByTheSameOrder(t *testing.T) {
	begin := func(t *testing.T) (*town, [][]byte, int) {
		w := newTown(t)
		w.enrolled()
		bundles, parts := w.seasons(2)
		for range 2 {
			time.Sleep(2 * time.Millisecond)
			must(w.x.backup(t.Context()))
		}
		return w, bundles, parts
	}
	w, bundles, parts := begin(t)
	count := len(must(w.x.erasure(t.Context(), zeph)).steps())
	must(w.x.Do(t.Context(), Order{Erase: zeph}))
	want := w.forgotten("undisturbed", parts, bundles)
	finish := func(t *testing.T, w *town, bundles [][]byte) {
		t.Helper()
		time.Sleep(2 * time.Millisecond)
		if _, err := w.x.Do(t.Context(), Order{Erase: zeph}); err != nil {
			t.Fatal(err)
		}
		// Keys and epochs differ from town to town; what the export says of each leaf does not.
		have := w.forgotten("finished", parts, bundles)
		if a, b := strings.Count(have, `"erased":true`), strings.Count(want, `"erased":true`); a != b || strings.Count(have, "\n") != strings.Count(want, "\n") {
			t.Fatalf("%d parts are marked as erased, want %d", a, b)
		}
		files := must(filepath.Glob(filepath.Join(w.cfg.backupDir(w.dir), backupPrefix+"*")))
		if _, err := os.Stat(filepath.Join(w.dir, memoryFile)); len(files) != 1 || err != nil {
			t.Fatalf("backups %v, the list beside the database: %v", files, err)
		}
	}
	for n := range count {
		t.Run(fmt.Sprint("power cut before step ", n+1), func(t *testing.T) {
			w, bundles, _ := begin(t)
			e := must(w.x.erasure(t.Context(), zeph))
			for _, s := range e.steps()[:n] {
				if err := s.do(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			w.kill()
			finish(t, w, bundles)
		})
		t.Run(fmt.Sprint("failure of step ", n+1), func(t *testing.T) {
			w, bundles, _ := begin(t)
			e := must(w.x.erasure(t.Context(), zeph))
			for i, s := range e.steps()[:n+1] {
				ctx, stop := context.WithCancel(t.Context())
				heal := func() {}
				if i == n {
					stop()
					heal = w.obstruct(n)
				}
				err := s.do(ctx)
				if stop(); (err != nil) != (i == n) {
					t.Fatalf("step %d: %v", i+1, err)
				}
				heal()
			}
			finish(t, w, bundles)
		})
	}
}

// A start after a power cut in the midst of an erasure ends it in the database by itself, down to the free pages, whether or not
// it still finds anything to erase.
func TestAStartEndsAnErasureInTheFiles(t *testing.T) {
	for n := 1; n <= 3; n++ {
		w := newTown(t)
		w.enrolled()
		w.seasons(1)
		e := must(w.x.erasure(t.Context(), zeph))
		for _, s := range e.steps()[:n] {
			if err := s.do(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if done := must(w.x.storage.Swept(t.Context())); done {
			t.Fatalf("after %d steps the erasure counts as ended, with old pages on the disk", n)
		}
		w.kill()
		if done := must(w.x.storage.Swept(t.Context())); !done {
			t.Fatalf("a start after %d steps has not ended the erasure", n)
		}
		if found := grep(t, w.dir, zephWords); len(found) > 0 {
			t.Fatalf("a start after %d steps left %v", n, found)
		}
	}
}

// obstruct lies in the way of those steps that no cancelled context stops.
func (w *town) obstruct(step int) (heal func()) {
	w.t.Helper()
	var path string
	switch step {
	case 1:
		path = filepath.Join(w.dir, memoryFile, "in the way")
	case 5:
		oldest := must(filepath.Glob(filepath.Join(w.cfg.backupDir(w.dir), backupPrefix+"*")))[0]
		if err := os.Remove(oldest); err != nil {
			w.t.Fatal(err)
		}
		path = filepath.Join(oldest, "in the way")
	default:
		return func() {}
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// Edges prune by any verified backup: one that is taken between the last two steps must not go with the older ones.
func TestABackupThatIsTakenWhileOlderOnesGoStays(t *testing.T) {
	w := newTown(t)
	w.enrolled()
	w.seasons(1)
	old := must(w.x.backup(t.Context())).Files[0]
	time.Sleep(2 * time.Millisecond)
	e := must(w.x.erasure(t.Context(), zeph))
	var other string
	for i, s := range e.steps() {
		if i == len(e.steps())-1 {
			time.Sleep(2 * time.Millisecond)
			other = must(w.x.backup(t.Context())).Files[0]
		}
		if err := s.do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if left := must(filepath.Glob(filepath.Join(filepath.Dir(old), backupPrefix+"*"))); !slices.Equal(left, []string{e.backup, other}) {
		t.Fatalf("left %v, want %s and %s", left, e.backup, other)
	}
}

// An older copy of the database that is put back still has the person. The list beside it has not.
func TestADatabasePutBackFromBeforeAnErasureForgetsAgain(t *testing.T) {
	w := newTown(t)
	w.enrolled()
	bundles, parts := w.seasons(1)
	aside := filepath.Join(t.TempDir(), "aside.db")
	if err := os.Rename(must(w.x.backup(t.Context())).Files[0], aside); err != nil {
		t.Fatal(err)
	}
	must(w.x.Do(t.Context(), Order{Erase: zeph}))
	w.forgotten("erased", parts, bundles)
	config := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(config, configs.NetworkHub, 0o600); err != nil {
		t.Fatal(err)
	}
	putBack := func(listed bool) {
		w.stopped(func() {
			for _, name := range []string{store.FileName, store.FileName + "-wal", store.FileName + "-shm"} {
				if err := os.Remove(filepath.Join(w.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
			out, said, code := speak(t, "restore", aside, "--config", config, "--state-dir", w.dir)
			if code != command.OK || strings.Contains(out, "order again whatever was erased") == listed {
				t.Fatalf("code %d: %s%s", code, out, said)
			}
		})
	}
	putBack(true)
	w.forgotten("put back", parts, bundles)
	if _, known := w.x.registry.Member(zeph); known {
		t.Fatal("the person is in the registry again")
	}
	// Without the list nobody can know; the same order says it again.
	if err := os.Remove(filepath.Join(w.dir, memoryFile)); err != nil {
		t.Fatal(err)
	}
	putBack(false)
	if len(grep(t, w.dir, zephWords)) == 0 {
		t.Fatal("forgotten without a list: this test proves nothing")
	}
	must(w.x.Do(t.Context(), Order{Erase: zeph}))
	w.forgotten("ordered again", parts, bundles)
}

func TestAListBesideTheDatabaseThatIsNotOursIsNamed(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	must(w.x.Do(t.Context(), Order{Erase: "ana-of-lisbon"}))
	file := filepath.Join(w.dir, memoryFile)
	good := must(os.ReadFile(file))
	if err := w.x.close(); err != nil {
		t.Fatal(err)
	}
	other := slices.Clone(good)
	if other[0] = '0'; good[0] == '0' {
		other[0] = '1'
	}
	for says, text := range map[string][]byte{"another key": other, "line 1": {}, "line 2": append(slices.Clone(good[:65]), "zz\n"...),
		"line 3": append(slices.Clone(good), good[:65]...), "more than": bytes.Repeat([]byte("0"), maxMemory+1)} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := openDesk(t.Context(), w.cfg, Options{StateDir: w.dir})
		if err == nil {
			t.Fatal(x.close(), "opened with a list that says", says)
		}
		if !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), file) {
			t.Errorf("have %v, want the file and %q", err, says)
		}
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
}

func FuzzMemory(f *testing.F) {
	f.Add([]byte(strings.Repeat("0a", 32) + "\n" + strings.Repeat("1b", 16) + "\n"))
	f.Add([]byte(strings.Repeat("0a", 32)))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseMemory(text)
		if err == nil && 33*len(m.Names) > len(text)+1 {
			t.Fatalf("%d names in %d bytes", len(m.Names), len(text))
		}
	})
}

// A misspelt id costs no backup. An erased id ordered again may be the end of an erasure that a crash cut short: then the older
// backups, which still name the person, go.
func TestOnlyAnErasureThatBeganCostsBackups(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	order := func(member string) error {
		time.Sleep(2 * time.Millisecond) // backups are named by the millisecond
		_, err := w.x.Do(t.Context(), Order{Erase: member})
		return err
	}
	first := must(w.x.backup(t.Context())).Files[0]
	for range 2 {
		if err := order("ana-of-lisbno"); err == nil {
			t.Fatal("nobody was erased, and all is said to be well")
		}
		if _, err := os.Stat(first); err != nil {
			t.Fatal("a misspelt id cost a backup:", err)
		}
		if w.x.registry.Erasures().Len() > 0 {
			t.Fatal("a misspelt id is on the list of the erased")
		}
	}
	for range 2 {
		if err := order("ana-of-lisbon"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(first); err == nil {
			t.Fatal("the older backup outlived the erasure")
		}
		time.Sleep(2 * time.Millisecond)
		first = must(w.x.backup(t.Context())).Files[0]
	}
}

// Whoever closes a door in haste learns whether there is one of that name.
func TestAClosedDoorThatNobodyToldOfIsNamed(t *testing.T) {
	w := newTown(t)
	h := w.houses["lisbon"]
	h.fact(event.KindDoor, event.Door{Door: "front", State: "locked"})
	w.send("lisbon")
	a := must(w.x.Do(t.Context(), Order{Change: &registry.Change{Close: []registry.Closure{{Node: "lisbon", Door: "front"}, {Node: "lisbon", Door: "fornt"}, {Node: "oaxaca", Door: "front"}}}}))
	if want := []string{"lisbon/fornt", "oaxaca/front"}; !slices.Equal(a.Unheard, want) || len(a.Rosters) != 2 {
		t.Errorf("unheard %v, want %v; rosters %v", a.Unheard, want, a.Rosters)
	}
}

// traces are what must not be found: each word, its bytes where it is hexadecimal, and its unsalted hashes.
func traces(words ...string) [][]byte {
	var all [][]byte
	for _, w := range words {
		_, digits, _ := bytes.Cut([]byte(w), []byte(":"))
		forms := [][]byte{[]byte(w)}
		if len(digits) > 0 {
			raw, err := hex.DecodeString(string(digits))
			if err != nil {
				panic(err)
			}
			forms = append(forms, digits, raw)
		}
		for _, f := range forms {
			h := sha256.Sum256(f)
			all = append(all, f, h[:], []byte(hex.EncodeToString(h[:])), []byte(base64.StdEncoding.EncodeToString(h[:])))
		}
	}
	return all
}

// grep names the files under dir that hold one of the words.
func grep(t *testing.T, dir string, words [][]byte) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
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
