package appliance

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
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/configs"
	"kith/edge/board"
	"kith/edge/roster"
	"kith/internal/access"
	"kith/internal/bulletin"
	"kith/internal/card"
	"kith/internal/command"
	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/pki"
)

// searched bounds a wait for the edge to have searched; it measures nothing.
const searched = 2 * time.Minute

// traces are what must not be found: each word, its bytes where it is hexadecimal, and its unsalted hashes.
func traces(words ...string) [][]byte {
	var all [][]byte
	for _, w := range words {
		forms := [][]byte{[]byte(w)}
		if _, digits, ok := strings.Cut(w, ":"); ok {
			raw, err := hex.DecodeString(digits)
			if err != nil {
				panic(err)
			}
			forms = append(forms, []byte(digits), raw)
		}
		for _, f := range forms {
			h := sha256.Sum256(f)
			all = append(all, f, h[:], []byte(hex.EncodeToString(h[:])), []byte(base64.StdEncoding.EncodeToString(h[:])))
		}
	}
	return all
}

// traced names the files of the edge that hold one of the words. They are copied by another process: to close a descriptor of a
// live database here would drop its locks.
func (c *cabin) traced(t *testing.T, words [][]byte) (found []string) {
	t.Helper()
	for _, dir := range []string{c.state(), c.spare} {
		to := filepath.Join(t.TempDir(), "copy")
		if out, err := exec.Command("cp", "-a", dir, to).CombinedOutput(); err != nil {
			t.Fatalf("copying: %v: %s", err, out)
		}
		err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			for _, w := range words {
				if bytes.Contains(text, w) {
					found = append(found, fmt.Sprintf("%s: %q", strings.TrimPrefix(path, to), w))
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// edit changes the host's file of people.
func (c *cabin) edit(t *testing.T, change func(string) string) {
	t.Helper()
	path := filepath.Join(c.dir, "roster.yaml")
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(change(string(b))), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// erase takes every line with one of the words out of the host's file, and puts in what edge erase prints.
func (c *cabin) erase(t *testing.T, ids []string, words ...string) {
	t.Helper()
	out := <-c.edgeCommand(t, append([]string{"erase"}, ids...)...)
	keys, ok := strings.CutPrefix(out, "0 ")
	if !ok {
		t.Fatal(out)
	}
	c.edit(t, func(text string) string {
		text, _, _ = strings.Cut(text, "# Take them")
		var kept []string
		for line := range strings.Lines(text) {
			gone := false
			for _, w := range words {
				gone = gone || strings.Contains(line, w)
			}
			if !gone {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "") + keys
	})
}

// wantSearched waits until the list of the host's file is the one that was searched for.
func (c *cabin) wantSearched(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, "roster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got []byte
	for deadline := time.Now().Add(searched); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		people := c.edge.people.(*filed)
		if people.Digest() != sha256.Sum256(b) {
			continue // not in force yet
		}
		want = []byte(digest(people.Current().Erasures()) + "\n")
		if got, _ = os.ReadFile(filepath.Join(c.state(), erasedFile)); bytes.Equal(got, want) {
			return
		}
	}
	t.Fatalf("searched for %q, want %q: %v", got, want, c.edge.eraser.err())
}

func TestAnErasedPersonIsInNoFileOfTheEdgeAndEveryProofStands(t *testing.T) {
	const id, name, uid = "zephyrine-q", "Zephyrine Quillfeather", "uid:04deadbeefcafe"
	c := newCabin(t)
	c.stop()
	c.spare = t.TempDir()
	key, err := card.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	zephyrine := card.NewPKOCCard(key)
	pkoc := zephyrine.Credential().ID()
	words := append(traces(id, name, pkoc, uid), zephyrine.Credential().Key, []byte(hex.EncodeToString(zephyrine.Credential().Key)))
	c.edit(t, func(text string) string {
		text = strings.Replace(text, "members:\n", "members:\n  - {id: "+id+", name: "+name+", role: resident, groups: [residents]}\n", 1)
		return strings.Replace(text, "cards:\n", "cards:\n  - {id: \""+pkoc+"\", member: "+id+"}\n  - {id: \""+uid+"\", member: "+id+"}\n", 1)
	})
	c.start(t)

	// At the door, by both cards; in entries as the one, as the witness and as the receiver; as a use that runs.
	stranger := func() {
		body, err := event.Marshal(event.Tap{Door: "door", Reader: "reader", Verdict: "deny", Reason: string(access.UnknownCard)})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-c.edge.recorder.Record(event.Fact{Kind: event.KindTap, At: time.Now(), Clock: event.Synced, Body: body,
			Private: &event.Private{Card: uid, Body: json.RawMessage(`{"us":7}`)}}); err != nil {
			t.Fatal(err)
		}
	}
	enter := func(want string, cards []*card.PKOCCard, args ...string) {
		t.Helper()
		out := c.edgeCommand(t, append([]string{"entry", "add", "--reader", "reader"}, args...)...)
		for _, who := range cards {
			c.waits(t, true)
			c.hand.show(who)
		}
		if text := <-out; !strings.Contains(text, want) {
			t.Fatalf("%v: %s", args, text)
		}
	}
	c.hand.show(zephyrine)
	stranger()
	enter("recorded", []*card.PKOCCard{zephyrine}, "--action", "use", "--resource", "bed", "--quantity", "1")
	enter("recorded", []*card.PKOCCard{c.ben, zephyrine}, "--action", "work", "--resource", "kitchen", "--quantity", "240")
	enter("started", []*card.PKOCCard{zephyrine}, "--action", "use", "--resource", "workshop", "--start")
	if c.edge.inside.picture(time.Now()).People == nil || len(c.edge.kiosk.Running()) != 1 {
		t.Fatal("nobody is in, or no use runs")
	}

	// What breakdowns leave: a damaged copy, half a file, a journal in memory of a start without a disk.
	c.stop()
	if out, err := exec.Command("cp", "-a", filepath.Join(c.state(), "log"), filepath.Join(c.state(), "damaged-20260301T093000Z")).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for _, left := range []string{usesFile, lastRosterFile} {
		if err := os.WriteFile(filepath.Join(c.state(), ".tmp-"+left+"-1234"), []byte(name+id), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(c.state(), "log")
	if err := errors.Join(os.Rename(log, log+".good"), os.WriteFile(log, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	c.hand.show(zephyrine)
	c.stop()
	if err := errors.Join(os.Remove(log), os.Rename(log+".good", log)); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	found := strings.Join(c.traced(t, words), "\n")
	for _, where := range []string{"log/journal.db", "damaged-", "kith-edge-", usesFile, lastRosterFile} {
		if !strings.Contains(found, where) {
			t.Fatalf("the search finds nothing in %s, where there is something:\n%s", where, found)
		}
	}
	head := c.edge.journal.Head()

	c.erase(t, []string{id}, id, pkoc, uid)
	c.wantSearched(t)
	if found := c.traced(t, words); len(found) > 0 {
		t.Fatalf("after erasing: %q", found)
	}
	if root, err := c.edge.journal.RootAt(t.Context(), head.Epoch, head.Size); err != nil || root != head.Root {
		t.Fatalf("the history has changed: %v", err)
	}
	if c.edge.eraser.err() != nil || len(c.edge.kiosk.Running()) != 0 {
		t.Errorf("%v, and a use runs of nobody: %v", c.edge.eraser.err(), c.edge.kiosk.Running())
	}
	for _, p := range c.edge.inside.picture(time.Now()).People {
		if p.Member == id {
			t.Error("who was erased is still in")
		}
	}

	// The cards are still about. What they say is kept, and not whose it was.
	c.hand.show(zephyrine)
	stranger()
	taps := c.leaves(t, event.KindTap)
	for _, tap := range taps[len(taps)-2:] {
		p, err := event.ParsePrivate(tap.Private)
		if err != nil || p.Card != "" || len(p.Body) == 0 || !bytes.Contains(tap.Leaf, []byte(`"reason":"unknown-card"`)) {
			t.Errorf("%v: %s %s", err, tap.Leaf, tap.Private)
		}
	}
	if out := <-c.edgeCommand(t, "entry", "add", "--action", "use", "--resource", "bed", "--quantity", "1", "--reader", "reader", "--member", id); !strings.Contains(out, "erased") {
		t.Errorf("an entry was taken for somebody who is nobody: %s", out)
	}
	if found := c.traced(t, words); len(found) > 0 {
		t.Fatalf("after a tap: %q", found)
	}

	// A restart has nothing to search; another list has.
	c.stop()
	c.start(t)
	if c.edge.eraser.done != digest(c.edge.erasures()) {
		t.Error("what was searched was not remembered")
	}
	ben := traces(c.ben.Credential().ID()) // three letters stand anywhere
	if len(c.traced(t, ben)) == 0 {
		t.Fatal("ben is nowhere")
	}
	c.erase(t, []string{"ben"}, "ben")
	c.wantSearched(t)
	if found := c.traced(t, append(ben, words...)); len(found) > 0 {
		t.Fatalf("after the second: %q", found)
	}
	c.stop()
	if out := <-c.edgeCommand(t, "verify"); !strings.HasPrefix(out, "0 ") {
		t.Fatal(out)
	}
}

// The list may come into force while nothing runs, and the search be cut short by a stop.
func TestAStartSearchesForAListThatCameMeanwhile(t *testing.T) {
	c := newCabin(t)
	c.spare = t.TempDir()
	c.hand.show(c.ana)
	words := traces(c.ana.Credential().ID())
	c.stop()
	if len(c.traced(t, words)) == 0 {
		t.Fatal("ana is nowhere")
	}
	c.erase(t, []string{"ana"}, "ana")
	c.start(t)
	c.stop() // most likely before the first look
	c.start(t)
	c.wantSearched(t)
	if found := c.traced(t, words); len(found) > 0 {
		t.Fatal(found)
	}
}

// What an edge cannot search, it says, and goes on letting people in.
func TestASearchThatCannotBeEndedIsSaidAndTriedAgain(t *testing.T) {
	c := newCabin(t)
	c.hand.show(c.ben)
	c.spoil(t, false)
	c.erase(t, []string{"ana"}, "ana")
	for deadline := time.Now().Add(searched); c.edge.eraser.err() == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody is told that the journal on the disk still names somebody")
		}
	}
	c.edge.look()
	var health bytes.Buffer
	if err := json.NewEncoder(&health).Encode(c.edge.health.tree.Snapshot()); err != nil || !strings.Contains(health.String(), `"erasing"`) {
		t.Fatalf("%v %s", err, health.String())
	}
	if _, err := os.Stat(filepath.Join(c.state(), erasedFile)); err == nil {
		t.Fatal("it is remembered as done")
	}
	locks := c.pins.count("door/lock")
	c.hand.show(c.ben)
	for deadline := time.Now().Add(searched); c.pins.count("door/lock") == locks; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the door waits for the search")
		}
	}
}

func listOf(t *testing.T, ids ...string) *access.Erasures {
	t.Helper()
	var key access.ErasureKey
	names := make([]access.ErasedName, len(ids))
	for i, id := range ids {
		names[i] = key.Name(id)
	}
	return access.NewErasures(key, names)
}

func TestEachListIsSearchedForOnceAndAFailureAgainLater(t *testing.T) {
	var list *access.Erasures
	var fails error
	var runs []string
	path := filepath.Join(t.TempDir(), erasedFile)
	start := func() *eraser {
		e := &eraser{path: path, log: slog.New(slog.DiscardHandler), list: func() *access.Erasures { return list },
			search: func(_ context.Context, is func(string) bool) error {
				s := ""
				for _, id := range []string{"ana", "ben"} {
					if is(id) {
						s += id
					}
				}
				runs = append(runs, s)
				return fails
			}}
		e.read()
		return e
	}
	now := time.Now()
	e := start()
	step := func(what string, after time.Duration, want ...string) {
		t.Helper()
		now = now.Add(after)
		runs = nil
		e.look(t.Context(), now)
		e.look(t.Context(), now.Add(time.Second))
		if fmt.Sprint(runs) != fmt.Sprint(want) {
			t.Errorf("%s: searched for %q, want %q", what, runs, want)
		}
	}
	step("nobody", 0)
	list = listOf(t, "ana")
	step("ana", time.Second, "ana")
	list = listOf(t, "ana")
	step("the same in another roster", time.Second)
	e = start()
	step("the same after a restart", time.Second)
	list, fails = listOf(t, "ana", "ben"), errors.New("disk full")
	step("ben too, and it fails", time.Second, "anaben")
	if e.err() == nil {
		t.Error("nobody is told")
	}
	step("a while later", eraseAgain+time.Second, "anaben")
	e = start()
	step("after a restart", 0, "anaben")
	fails = nil
	step("and at last", eraseAgain+time.Second, "anaben")
	if e.err() != nil {
		t.Error(e.err())
	}
	list, fails = listOf(t, "ben"), errors.New("disk full")
	step("another", time.Second, "ben")
	list, fails = listOf(t, "ana", "ben"), nil
	if step("back to what was searched", time.Second); e.err() != nil {
		t.Error(e.err())
	}
	list = nil
	e = start()
	list = listOf(t, "ana", "ben")
	step("a start that knew of nobody may have kept somebody", time.Second, "anaben")
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	list = listOf(t, "ana")
	if e.look(stopped, now.Add(time.Second)); e.err() != nil || e.done == digest(list) {
		t.Errorf("a stop in the middle is no failure and no end: %v", e.err())
	}
	if err := os.WriteFile(path, []byte("ana\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e = start()
	step("a file that says something else", time.Second, "ana")
	e.path = filepath.Join(path, "no such directory")
	list = listOf(t, "ben")
	step("searched and not written down", time.Second, "ben")
	if e.err() == nil || e.done == digest(list) {
		t.Error("a restart would not know, and nobody is told")
	}
}

func TestWhoWasErasedIsLeftOutOfWhatIsRecorded(t *testing.T) {
	const card = "uid:04deadbeefcafe"
	d := &discreet{journal: &disk{}, list: func() *access.Erasures { return listOf(t, "ana", card) }}
	for name, c := range map[string]struct{ have, want event.Private }{
		"nobody":      {event.Private{At: 5, Member: "ben", Card: "uid:04010203", Body: json.RawMessage(`{"us":1}`)}, event.Private{At: 5, Member: "ben", Card: "uid:04010203", Body: json.RawMessage(`{"us":1}`)}},
		"their card":  {event.Private{At: 5, Card: card, Body: json.RawMessage(`{"us":1}`)}, event.Private{At: 5, Body: json.RawMessage(`{"us":1}`)}},
		"themselves":  {event.Private{At: 5, Member: "ana", Card: "uid:04010203", Body: json.RawMessage(`{"us":1}`)}, event.Private{At: 5, Card: "uid:04010203", Body: json.RawMessage(`{"us":1}`)}},
		"in the body": {event.Private{At: 5, Member: "ben", Body: json.RawMessage(`{"witness":"ana"}`)}, event.Private{At: 5, Member: "ben"}},
	} {
		have := c.have
		records := []journal.Record{{Kind: event.KindTap, Private: &have}, {Kind: event.KindDoor}}
		if _, err := d.Append(t.Context(), records...); err != nil || fmt.Sprintf("%+v", *records[0].Private) != fmt.Sprintf("%+v", c.want) || records[1].Private != nil {
			t.Errorf("%s: %v %+v", name, err, *records[0].Private)
		}
		if fmt.Sprintf("%+v", have) != fmt.Sprintf("%+v", c.have) {
			t.Errorf("%s: the fact itself was changed", name)
		}
	}
	private := func(p event.EntryPrivate) *event.Private {
		b, err := event.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return &event.Private{Member: "ben", Body: b}
	}
	for _, p := range []*event.Private{{Member: "ana"}, private(event.EntryPrivate{ToMember: "ana"}), private(event.EntryPrivate{WitnessCard: card})} {
		if _, err := d.Append(t.Context(), journal.Record{Kind: event.KindUse, Private: p}); !errors.Is(err, errErased) {
			t.Errorf("an entry that names the erased: %v", err)
		}
	}
}

// held is a disk that takes its time.
type held struct{ begun, end chan struct{} }

func (h held) Append(context.Context, ...journal.Record) ([]uint64, error) {
	close(h.begun)
	<-h.end
	return nil, nil
}

func TestASearchComesBehindWhatWasOnItsWay(t *testing.T) {
	disk := held{make(chan struct{}), make(chan struct{})}
	d := &discreet{journal: disk, list: func() *access.Erasures { return nil }}
	written, order := make(chan struct{}), make(chan string, 2)
	go func() {
		defer close(written)
		if _, err := d.Append(t.Context(), journal.Record{Kind: event.KindDoor}); err != nil {
			t.Error(err)
		}
	}()
	<-disk.begun
	go func() {
		d.passed()
		select {
		case <-disk.end:
			order <- "behind"
		default:
			order <- "before"
		}
	}()
	time.Sleep(time.Millisecond) // a search that does not wait has most likely ended by now
	close(disk.end)
	if got := <-order; got != "behind" {
		t.Error("the search began while a fact was on its way")
	}
	<-written
}

func TestAHostIsToldWhatToPutIntoTheFile(t *testing.T) {
	config := filepath.Join(t.TempDir(), "edge.yaml")
	if err := os.WriteFile(config, configs.Edge, 0o600); err != nil {
		t.Fatal(err)
	}
	d := access.Document{Members: []access.Member{{ID: "ana"}, {ID: "ben"}},
		Cards: []access.Card{{ID: "uid:04010203", Member: "ana"}, {ID: "uid:04010204", Member: "ana"}, {ID: "uid:04010205", Member: "ben"}}}
	names, strangers, err := eraseFrom(&d, []string{"ana", "cleo", "uid:04010205"})
	if err != nil || len(names) != 5 || fmt.Sprint(strangers) != "[cleo]" || len(d.ErasureKey) != 64 {
		t.Fatalf("%v %v %v %q", err, names, strangers, d.ErasureKey)
	}
	var key access.ErasureKey
	hex.Decode(key[:], []byte(d.ErasureKey))
	list := access.NewErasures(key, names)
	for _, id := range []string{"ana", "uid:04010203", "uid:04010204", "cleo", "uid:04010205"} {
		if !list.Has(id) {
			t.Errorf("%s is not on the list", id)
		}
	}
	if list.Has("ben") {
		t.Error("ben is on the list")
	}
	for _, n := range names {
		d.Erased = append(d.Erased, n.String())
	}
	drawn := d.ErasureKey
	again, _, err := eraseFrom(&d, []string{"ben"})
	if err != nil || len(again) != 6 || d.ErasureKey != drawn {
		t.Fatalf("%v: the list was begun anew: %d names", err, len(again))
	}
	for _, bad := range []access.Document{{ErasureKey: "12"}, {ErasureKey: strings.Repeat("xy", 32)}, {Erased: []string{"12"}}, {ErasureKey: drawn, Erased: []string{drawn}}, {ErasureKey: drawn, Erased: []string{"zz"}}} {
		if _, _, err := eraseFrom(&bad, []string{"ana"}); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	var out bytes.Buffer
	run := func(args ...string) int {
		out.Reset()
		return Program("test").Run(t.Context(), command.Streams{Out: &out, Err: &out}, append([]string{"erase", "--config", config}, args...))
	}
	if code := run(); code != command.Usage {
		t.Errorf("nobody in particular: %d %s", code, &out)
	}
	beside := filepath.Join(filepath.Dir(config), "alone.yaml")
	if err := errors.Join(os.WriteFile(beside, configs.EdgeAlone, 0o600), os.WriteFile(filepath.Join(filepath.Dir(config), "roster.yaml"), configs.Roster, 0o600)); err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	out.Reset()
	code := Program("test").Run(t.Context(), command.Streams{Out: &out, Err: &told}, []string{"erase", "--config", beside, "ana", "zephyrine-q"})
	if code != command.OK || strings.Contains(out.String(), "zephyrine-q") || !strings.Contains(told.String(), "zephyrine-q stands in no line") {
		t.Errorf("what is to be pasted must name nobody: %d %s %s", code, &out, &told)
	}
	if code := run("ana"); code != command.Failed || !strings.Contains(out.String(), "hub member erase") {
		t.Errorf("at an edge of a hub: %d %s", code, &out)
	}
}

// mute is a session with a hub that says nothing.
type mute struct{}

func (mute) Send(context.Context, []byte) error { return errors.New("no line") }
func (mute) Received() <-chan []byte            { return nil }
func (mute) Up() <-chan bool                    { return nil }

// A roster that comes from the hub is the way on which the list reaches most edges.
func TestARosterOfTheHubErases(t *testing.T) {
	const id, name = "zephyrine-q", "Zephyrine Quillfeather"
	c := &cabin{dir: t.TempDir(), spare: t.TempDir()}
	now := time.Now()
	keys := filepath.Join(t.TempDir(), "keys")
	if err := pki.Create(pki.New{Dir: keys, Network: "demo", Names: []string{"127.0.0.1"}, Now: now}); err != nil {
		t.Fatal(err)
	}
	hub, err := pki.OpenHub(keys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hub.EdgeBundle(filepath.Join(c.dir, "identity"), "lisbon", "lisbon-front", now); err != nil {
		t.Fatal(err)
	}
	cfg, err := Decode(filepath.Join(c.dir, "edge.yaml"), configs.Edge)
	if err != nil {
		t.Fatal(err)
	}
	run := func() (edge *Appliance, in hand, stop func()) {
		in = hand{make(chan presented)}
		a, err := Open(t.Context(), cfg, Options{StateDir: c.state(), Clock: TrustedClock(), Session: mute{}, SpareDir: c.spare, NoPages: true,
			Board: &pins{set: map[string]int{}, level: map[string]int{}, inputs: make(chan board.Change)}, Reader: func(r Reader) (Presenter, error) {
				if r.Direction == "in" {
					return in, nil
				}
				return hand{make(chan presented)}, nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		return a, in, sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	deliver := func(a *Appliance, d access.Document) {
		t.Helper()
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		h := bulletin.Describe(bulletin.Header{Network: d.Network, Node: d.Node, Version: d.Version, Issued: d.Issued}, text)
		note, err := bulletin.SignRoster(h, hub.Signer)
		if err != nil {
			t.Fatal(err)
		}
		store := a.people.(*roster.Store)
		desk := &rosterDesk{store: store, assembler: store.Assembler()}
		if want, err := desk.Offer(t.Context(), note); err != nil || !want.More {
			t.Fatalf("%v %+v", err, want)
		}
		for n := range h.Parts() {
			part := text[n*bulletin.PartBytes : min(len(text), (n+1)*bulletin.PartBytes)]
			if _, err := desk.Part(t.Context(), d.Version, uint64(n), uint64(h.Parts()), part); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantSearched := func(a *Appliance) {
		t.Helper()
		want := digest(a.erasures()) + "\n"
		for deadline := time.Now().Add(searched); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if got, _ := os.ReadFile(filepath.Join(c.state(), erasedFile)); string(got) == want {
				return
			}
		}
		t.Fatal("not searched: ", a.eraser.err())
	}
	key, err := card.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	held := card.NewPKOCCard(key)
	pkoc := held.Credential().ID()
	words := traces(id, name, pkoc)

	d := access.Document{Network: "demo", Node: "lisbon", Version: 1, Issued: now.Unix(), Zone: "Europe/Lisbon",
		Members: []access.Member{{ID: id, Name: name, Home: "lisbon", Role: access.RoleResident, Groups: []string{"residents"}}},
		Cards:   []access.Card{{ID: pkoc, Member: id}}, Grants: []access.Grant{{ID: "residents", Group: "residents", Zones: []string{"house"}}}}
	a, in, stop := run()
	defer func() { stop() }()
	in.show(held) // nobody yet
	deliver(a, d)
	in.show(held)
	stop()
	if err := os.WriteFile(filepath.Join(c.state(), "roster.signed.new"), []byte(name), 0o600); err != nil { // what a power cut leaves
		t.Fatal(err)
	}
	a, in, stop = run()
	in.show(held)
	if found := strings.Join(c.traced(t, words), "\n"); !strings.Contains(found, "journal.db") || !strings.Contains(found, "roster.signed") || strings.Contains(found, ".new") {
		t.Fatalf("before: %s", found)
	}
	head := a.journal.Head()

	var secret access.ErasureKey
	secret[0] = 1
	list := []access.ErasedName{secret.Name(id), secret.Name(pkoc)}
	slices.SortFunc(list, access.ErasedName.Compare)
	d.Version, d.Members, d.Cards, d.ErasureKey, d.Erased = 2, nil, nil, hex.EncodeToString(secret[:]), []string{list[0].String(), list[1].String()}
	deliver(a, d)
	in.show(held)
	wantSearched(a)
	if found := c.traced(t, words); len(found) > 0 {
		t.Fatalf("after: %q", found)
	}
	if root, err := a.journal.RootAt(t.Context(), head.Epoch, head.Size); err != nil || root != head.Root {
		t.Fatalf("the history has changed: %v", err)
	}
	stop()
	a, in, stop = run() // the stored roster has the list
	in.show(held)
	stop()
	if found := c.traced(t, words); len(found) > 0 {
		t.Fatalf("after a restart: %q", found)
	}
}
