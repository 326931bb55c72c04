package store

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"kith/internal/access"
	"kith/internal/event"
)

// erasures is a list of words.
func erasures(words ...string) *access.Erasures {
	key := access.ErasureKey{1, 2, 3}
	var names []access.ErasedName
	for _, w := range words {
		names = append(names, key.Name(w))
	}
	return access.NewErasures(key, names)
}

// forget puts words on the store's list and erases what says them, but for the free pages.
func forget(t testing.TB, s *Store, words ...string) int {
	t.Helper()
	list := erasures(words...)
	s.Heed(func() *access.Erasures { return list })
	n, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func compact(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var (
	anasCard = "pkoc:" + strings.Repeat("ab", 32)
	anasKey  = "04" + strings.Repeat("ab", 32) + strings.Repeat("cd", 32)
	zoesCard = "pkoc:" + strings.Repeat("ef", 32)
)

// said are private parts that name ana, or her card, in each way that there is; and those that do not.
func said(t testing.TB) (ana, others []event.Private) {
	t.Helper()
	body := func(v any) json.RawMessage {
		raw, err := event.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	at := hour + 5
	original := event.Private{At: at, Member: "zoe", Body: body(event.EntryPrivate{Note: `she said "hello"`, WitnessMember: "ana"})}
	text, err := original.Encode()
	if err != nil {
		t.Fatal(err)
	}
	ana = []event.Private{
		{At: at, Member: "ana", Card: anasCard},
		{At: at, Member: "ana"},
		{At: at, Card: anasCard}, // before it was hers, or after it was revoked
		{At: at, Card: anasCard, Body: json.RawMessage(`{"detail":"a \"quoted\" word"}`)},
		{At: at, Member: "zoe", Card: zoesCard, Body: body(event.EntryPrivate{ToMember: "ana"})},
		{At: at, Member: "zoe", Card: zoesCard, Body: body(event.EntryPrivate{WitnessMember: "ana", WitnessCard: anasCard})},
		{At: at, Body: body(event.EntryPrivate{Key: anasKey})},
		{At: at, Body: body(map[string]string{"salt": strings.Repeat("0", 64), "private": string(text)})},
		{At: at, Body: json.RawMessage(`{"new":["\u0061na"]}`)},
	}
	others = []event.Private{
		{At: at},
		{At: at, Member: "zoe", Card: zoesCard, Body: json.RawMessage(`{"grant":"g1","us":830}`)},
		{At: at, Member: "anaconda", Body: body(event.EntryPrivate{Note: "ana", Reader: "ana-front"})},
		{At: at, Member: "zoe", Body: body(event.EntryPrivate{Note: `"ana" helped`})},
		{At: at, Member: "zoe", Card: anasCard, Body: body(event.EntryPrivate{Key: anasKey})}, // it was zoe's before
	}
	others[2].Body = body(event.EntryPrivate{Note: "ana was here", Reader: "ana-front"})
	return ana, others
}

func (e *edgeLog) taps(t testing.TB, parts []event.Private) Accepted {
	t.Helper()
	from := e.tree.size
	var leaves []event.Leaf
	for i := range parts {
		leaves = append(leaves, e.leaf(t, event.KindTap, event.Tap{Door: "front", Verdict: "grant"}, &parts[i]))
	}
	return e.accepted(t, from, leaves)
}

// Whichever way a part came, before the erasure, after it or late, the database ends in the same state.
func TestWhoWasErasedIsErasedFromWhatComesBeforeAfterAndLate(t *testing.T) {
	ana, others := said(t)
	list := erasures("ana", anasCard)
	ways := map[string]func(s *Store, a Accepted) int{
		"before": func(s *Store, a Accepted) int {
			commit(t, s, a)
			return forget(t, s, "ana", anasCard)
		},
		"after": func(s *Store, a Accepted) int {
			s.Heed(func() *access.Erasures { return list })
			commit(t, s, a)
			if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
				t.Fatalf("%d parts were taken in and erased again: %v", n, err)
			}
			return len(ana)
		},
		"late": func(s *Store, a Accepted) int {
			parts := a.Private
			a.Private = nil
			commit(t, s, a)
			s.Heed(func() *access.Erasures { return list })
			late := Accepted{Log: a.Log, Private: parts}
			commit(t, s, late, late)
			return len(ana)
		},
		"twice": func(s *Store, a Accepted) int {
			commit(t, s, a)
			n := forget(t, s, "ana", anasCard)
			late := Accepted{Log: a.Log, Private: a.Private}
			commit(t, s, late)
			return n + forget(t, s, "ana", anasCard)
		},
	}
	pictures := map[string]bool{}
	for way, do := range ways {
		s := fresh(t)
		e := newEdge("lisbon", "lisbon-front", 1)
		a := e.taps(t, append(slices.Clone(ana), others...))
		if n := do(s, a); n != len(ana) {
			t.Errorf("%s: %d parts erased, want %d", way, n, len(ana))
		}
		r := verify(t, s)
		if !r.OK() || r.Erased != uint64(len(ana)) || r.Private != uint64(len(others)) || r.Missing != 0 {
			t.Errorf("%s: %+v", way, r)
		}
		for i := range ana {
			at := Address{e.edge, e.epoch, uint64(i)}
			if l, err := s.Line(t.Context(), at); err != nil || l.Member != "" || l.At != hour {
				t.Errorf("%s: the line of %d tells %+v %v", way, i, l, err)
			}
			if p, err := s.Inclusion(t.Context(), at); err != nil || !p.Holds {
				t.Errorf("%s: the proof of %d: %+v %v", way, i, p, err)
			}
		}
		pictures[picture(t, s)] = true
		for _, compacted := range []bool{false, true} {
			if compacted {
				compact(t, s)
			}
			if swept, err := s.Swept(t.Context()); err != nil || swept != (compacted && way != "late") {
				t.Errorf("%s, compacted %v: swept %v %v", way, compacted, swept, err)
			}
		}
	}
	if len(pictures) != 1 {
		t.Errorf("%d states, want one", len(pictures))
	}
}

// picture is what a store says of people.
func picture(t testing.TB, s *Store) string {
	t.Helper()
	lines, err := s.Lines(t.Context(), "", 0, MaxLines)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := s.Presence(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	err = s.eachParts(t.Context(), "", func(log int64, p *partsRow) { parts = append(parts, fmt.Sprintf("%d %x", log, p.encode())) })
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(lines, seen, parts)
}

// Whoever was put on the list and not erased yet is found by whoever verifies, and stands in no backup that counts.
func TestVerifyNamesWhatStillTellsOfTheErased(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 20))
	list := erasures("m7")
	s.Heed(func() *access.Erasures { return list })
	r := verify(t, s)
	if len(r.Differences) != 1 || r.Differences[0].Index != 7 || !strings.Contains(r.Differences[0].What, "erased") {
		t.Fatalf("%+v", r.Differences)
	}
	file := filepath.Join(t.TempDir(), "copy.db")
	if _, err := s.Backup(t.Context(), file, testChecks); err == nil || !strings.Contains(err.Error(), "erased") {
		t.Fatal(err)
	}
	if n := forget(t, s, "m7"); n != 2 {
		t.Fatal(n)
	}
	if _, err := s.Backup(t.Context(), file, testChecks); err != nil {
		t.Fatal(err)
	}
}

// A commit that was worked out before somebody was erased, and gets its turn after it, takes nothing of that person in.
func TestACommitThatWaitedForAnErasureHeedsIt(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	a := e.taps(t, []event.Private{{At: hour + 5, Member: "ana", Card: anasCard}, {At: hour + 6, Member: "zoe"}})
	list, asked := erasures("ana"), 0
	s.Heed(func() *access.Erasures {
		if asked++; asked == 1 {
			return nil // as it stood when the batch was worked out
		}
		return list
	})
	commit(t, s, a)
	if asked != 2 {
		t.Fatalf("asked %d times", asked)
	}
	if r := verify(t, s); !r.OK() || r.Erased != 1 || r.Present != 1 {
		t.Fatalf("%+v", r)
	}
}

// However commits and an erasure fall together, nothing of the erased is left.
func TestNothingOfTheErasedIsLeftByCommitsBesideAnErasure(t *testing.T) {
	s := fresh(t)
	var now atomic.Pointer[access.Erasures]
	s.Heed(now.Load)
	const edges, batches = 4, 12
	half, done := make(chan struct{}, edges), make(chan error, edges)
	for i := range edges {
		e := newEdge("lisbon", fmt.Sprint("edge-", i), byte(i+1))
		var all []Accepted
		for range batches {
			all = append(all, e.batch(t, 20))
		}
		go func() {
			var err error
			for j := range all {
				if j == batches/2 {
					half <- struct{}{}
				}
				if err == nil {
					err = s.Commit(context.Background(), all[j:j+1])
				}
			}
			done <- err
		}()
	}
	<-half // at least one is in the midst of it
	now.Store(erasures("m7"))
	swept, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range edges {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if again, err := s.Sweep(t.Context()); again != 0 || err != nil {
		t.Fatalf("%d parts were left by a sweep of %d: %v", again, swept, err)
	}
	if r := verify(t, s); !r.OK() || r.Erased != edges*batches*2 {
		t.Fatalf("%+v", r)
	}
}

func TestTheCardsThatStoodBesideAMemberAreFound(t *testing.T) {
	s := fresh(t)
	ana, others := said(t)
	old := "uid:04deadbeefcafe"
	inner := event.Private{At: hour, Member: "ana", Card: old}
	text, err := inner.Encode()
	if err != nil {
		t.Fatal(err)
	}
	carried, err := event.Marshal(map[string]string{"salt": strings.Repeat("0", 64), "private": string(text)})
	if err != nil {
		t.Fatal(err)
	}
	e := newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.taps(t, append(append(ana, others...), event.Private{At: hour, Body: carried})))
	n, cards, err := s.Beside(t.Context(), "ana")
	if want := []string{anasCard, old}; err != nil || !slices.Equal(cards, want) || n != 7 {
		t.Fatalf("%d parts, cards %v, want %v, %v", n, cards, want, err)
	}
	if n, cards, err := s.Beside(t.Context(), "nobody"); err != nil || n != 0 || len(cards) != 0 {
		t.Fatalf("%d parts, cards %v, %v", n, cards, err)
	}
	var many []event.Private
	for i := range 2 * maxCardsBeside {
		many = append(many, event.Private{At: hour, Member: "liar", Card: fmt.Sprintf("uid:%08x", i)})
	}
	commit(t, s, e.taps(t, many))
	if _, cards, err := s.Beside(t.Context(), "liar"); err != nil || len(cards) != maxCardsBeside {
		t.Fatalf("%d cards of one person, %v", len(cards), err)
	}
}

// The quick reading of a part says what the general one says, for every part that the intake lets through.
func TestAQuickLookNamesWhomTheGeneralOneNames(t *testing.T) {
	list := erasures("ana", anasCard)
	is := func(word string) bool {
		if len(word) == keyDigits && strings.HasPrefix(word, "04") {
			word = "pkoc:" + word[2:2+cardDigits]
		}
		return list.Has(word)
	}
	words := rapid.SampledFrom([]string{"ana", "zoe", "anaconda", anasCard, zoesCard, anasKey, `"ana"`, "ana ", "a\nna", `{"member":"ana"}`, "", "é"})
	g := &gone{list: list, known: map[string]struct{}{}}
	rapid.Check(t, func(t *rapid.T) {
		p := event.Private{At: hour, Member: words.Draw(t, "member"), Card: words.Draw(t, "card")}
		if rapid.Bool().Draw(t, "with a body") {
			body, err := event.Marshal(map[string]any{"note": words.Draw(t, "note"), words.Draw(t, "key"): []string{words.Draw(t, "within")}})
			if err != nil {
				t.Fatal(err)
			}
			p.Body = body
		}
		part, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if have, want := g.names(part), event.Names(part, is); have != want {
			t.Fatalf("%s: %v, want %v", part, have, want)
		}
	})
}

// The list of who was erased is in a backup, and so is how far it was followed.
func TestABackupKnowsWhatWasErased(t *testing.T) {
	s := fresh(t)
	if err := s.Save(t.Context(), []Record{{Kind: "erased", ID: "key", Body: []byte(`{}`)}}, nil); err != nil {
		t.Fatal(err)
	}
	e := newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 20))
	forget(t, s, "m7")
	compact(t, s)
	file := filepath.Join(t.TempDir(), "copy.db")
	if _, err := s.Backup(t.Context(), file, testChecks); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	if err := Restore(t.Context(), file, Options{Dir: dir, Network: testNetwork, Projection: testProjection}, testChecks); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	if kept, err := again.Records(t.Context(), "erased"); err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	again.Heed(func() *access.Erasures { return erasures("m7") })
	if swept, err := again.Swept(t.Context()); err != nil || !swept {
		t.Fatal(swept, err)
	}
	again.Heed(func() *access.Erasures { return erasures("m7", "m8") })
	if swept, err := again.Swept(t.Context()); err != nil || swept {
		t.Fatal(swept, err)
	}
}

// A crash between the sweep and the rewriting of the files is made good: what a start asks first says that both are to be done.
// Nor does a list count that has changed between them.
func TestASweepCountsOnceItsPagesAreGone(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 20))
	swept := func(s *Store, want bool, when string) {
		t.Helper()
		if have, err := s.Swept(t.Context()); err != nil || have != want {
			t.Fatalf("%s: swept %v %v", when, have, err)
		}
	}
	forget(t, s, "m7")
	swept(s, false, "before the files were rewritten")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, s.dir)
	list := erasures("m7")
	s.Heed(func() *access.Erasures { return list })
	swept(s, false, "after a restart between the two")
	compact(t, s)
	swept(s, false, "rewritten, but never swept by this program")
	if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	compact(t, s)
	swept(s, true, "swept and rewritten")
	forget(t, s, "m7", "m8")
	list = erasures("m7", "m8", "m9")
	s.Heed(func() *access.Erasures { return list })
	compact(t, s)
	swept(s, false, "another name came between")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, s.dir)
	s.Heed(func() *access.Erasures { return erasures("m7", "m8") })
	swept(s, true, "the list that was swept")
}
