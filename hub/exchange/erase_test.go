package exchange

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"kith/hub/registry"
	"kith/internal/access"
	"kith/internal/event"
	"kith/internal/wire"
)

func TestAnErasedMemberIsInNoFileAndEveryProofStands(t *testing.T) {
	const name, id, uid = "Zephyrine Quillfeather", "zephyrine-q", "uid:04deadbeefcafe"
	w := newTown(t)
	w.seeded()
	h := w.houses["lisbon"]
	card := "pkoc:04" + hex.EncodeToString(bytes.Repeat([]byte{0xab, 0x3d}, 32))
	change := registry.Change{Members: []access.Member{{ID: id, Name: name, Home: "lisbon", Role: access.RoleResident}},
		Cards: []access.Card{{ID: uid, Member: id}}}
	if _, err := w.x.Do(t.Context(), Order{Change: &change}); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		h.personal(id, []string{card, uid}[i%2])
	}
	w.send(w.all()...)
	bundle := w.closed("week-1", lastDay)
	if _, err := w.x.backup(t.Context()); err != nil {
		t.Fatal(err)
	}
	words := traces(name, id, card, uid)
	if found := grep(t, w.dir, words); len(found) == 0 {
		t.Fatal("the search finds nothing where there is something")
	}
	if bytes.Contains(bundle, []byte(id)) {
		t.Fatal("the bundle names a member")
	}
	a, err := w.x.Do(t.Context(), Order{Erase: id})
	if err != nil || a.Erased == nil || a.Erased.Parts != 20 {
		t.Fatalf("%v %+v", err, a.Erased)
	}
	if found := grep(t, w.dir, words); len(found) > 0 {
		t.Fatalf("after erasing: %v", found)
	}
	time.Sleep(2 * time.Millisecond) // backups are named by the millisecond
	if _, err := w.x.backup(t.Context()); err != nil {
		t.Fatal(err)
	}
	var export bytes.Buffer
	if err := w.x.storage.Export(t.Context(), &export); err != nil {
		t.Fatal(err)
	}
	for _, word := range words {
		if bytes.Contains(export.Bytes(), word) {
			t.Fatalf("the export holds %q", word)
		}
	}
	if found := grep(t, w.dir, words); len(found) > 0 {
		t.Fatalf("in a later backup: %v", found)
	}
	r, err := w.x.storage.Verify(t.Context(), w.x.checks())
	if err != nil || !r.OK() || r.Erased != 20 {
		t.Fatalf("%v %+v", err, r)
	}
	after := must(w.x.bundle(t.Context(), "week-1"))
	if verified(t, after); !bytes.Equal(after, bundle) {
		t.Fatal("the statement's bundle has changed")
	}
	// The edge did not hear of it and sends everything again.
	w.say(h.keys.ID, h.batchOf(0, h.size()))
	w.receipts()
	if found := grep(t, w.dir, words); len(found) > 0 {
		t.Fatalf("after a repeat from the edge: %v", found)
	}
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

// personal is a tap of one person.
func (h *house) personal(member, card string) {
	h.t.Helper()
	l := event.Leaf{Network: "commons-week", Node: h.node, Edge: h.keys.ID, Epoch: h.epoch, Index: h.size(), Kind: event.KindTap, At: hour, Clock: event.Synced,
		Boot: "00112233445566aa", Body: must(event.Marshal(event.Tap{Door: "front", Reader: "r1", Direction: "in", Verdict: "grant", Reason: "granted",
			Assurance: "pkoc", Roster: 1}))}
	p := event.Private{At: hour + int64(l.Index), Member: member, Card: card}
	part := wire.Private{Salt: sha256.Sum256(fmt.Appendf(nil, "salt %d", l.Index)), Bytes: must(p.Encode())}
	c := event.Commit(part.Salt, part.Bytes)
	l.Commitment = &c
	h.put(must(l.Encode()), part)
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
