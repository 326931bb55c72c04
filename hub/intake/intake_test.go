package intake

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"kith/internal/event"
	"kith/internal/wire"
)

func TestTreeAgreesWithTwoForeignOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "leaves")
		split := rapid.IntRange(0, n).Draw(t, "split")
		a := &author{}
		f := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
		r := f.NewEmptyRange(0)
		var mine tree
		for i := range n {
			if i == split {
				mine = treeOf(mine.size, mine.pack())
			}
			line := fmt.Appendf(nil, "leaf %d", i)
			h, err := tlog.StoredHashes(int64(i), line, a)
			if err != nil {
				t.Fatal(err)
			}
			a.hashes = append(a.hashes, h...)
			mine.extend(tlog.RecordHash(line))
			if err := r.Append(rfc6962.DefaultHasher.HashLeaf(line), nil); err != nil {
				t.Fatal(err)
			}
		}
		if want, _ := tlog.TreeHash(int64(n), a); mine.root() != want || !mine.whole() {
			t.Fatalf("root of %d leaves differs from tlog's", n)
		}
		if n > 0 {
			if want, _ := r.GetRootHash(nil); !bytes.Equal(want, func() []byte { h := mine.root(); return h[:] }()) {
				t.Fatalf("root of %d leaves differs from compact's", n)
			}
			for i, h := range r.Hashes() {
				if !bytes.Equal(h, mine.nodes[i][:]) {
					t.Fatalf("node %d differs", i)
				}
			}
		}
	})
}

func TestABatchIsStoredThenCoSigned(t *testing.T) {
	s := newShop(t, "front")
	a := s.edges["front"]
	a.taps(t, 10)
	r := one[*wire.Receipt](t, s.tell("front", a.batch(0, 3), a.batch(3, 10)))
	if c := s.verified(a, r.Note); c.Size != 10 || c.Root != a.root(10) || r.Size != 10 || r.Generation != "g1" || r.Credit != fullCredit {
		t.Errorf("receipt %+v", r)
	}
	if s.store.commits != 1 {
		t.Errorf("%d commits for one group", s.store.commits)
	}
	got := s.store.accepted
	if len(got) != 2 || len(got[1].Leaves) != 7 || len(got[1].Private) != 7 || got[1].Private[0].Index != 3 || got[1].Leaves[0].Index != 3 {
		t.Errorf("accepted %+v", got)
	}
}

func TestNothingIsSaidWhenTheCommitFails(t *testing.T) {
	s := newShop(t, "front", "back")
	a, b := s.edges["front"], s.edges["back"]
	a.taps(t, 2)
	b.taps(t, 2)
	s.store.err = func([]Accepted) error { return errors.New("disk full") }
	if got := s.tell("front", a.batch(0, 2)); len(got) != 0 {
		t.Fatalf("answers %+v", got)
	}
	s.store.err = nil
	s.in.read = s.in.read.Add(-2 * reloadEvery)
	if r := one[*wire.Receipt](t, s.tell("front", a.batch(0, 2))); r.Size != 2 {
		t.Fatalf("after the disk is well: %+v", r)
	}
	// One edge's fault must not cost another one its receipt.
	s.store.err = func(all []Accepted) error {
		for _, x := range all {
			if x.Log.Edge == "front" {
				return errors.New("poison")
			}
		}
		return nil
	}
	a.taps(t, 1)
	s.sent = map[string][]wire.Down{}
	var group []Message
	for _, m := range []struct {
		e string
		u wire.Up
	}{{"front", a.batch(2, 3)}, {"back", b.batch(0, 2)}} {
		p, err := m.u.Encode()
		must(t, err)
		group = append(group, Message{m.e, p})
	}
	s.in.Serve(t.Context(), group)
	if len(s.sent["front"]) != 0 {
		t.Errorf("front was answered: %+v", s.sent["front"])
	}
	if r := one[*wire.Receipt](t, s.sent["back"]); r.Size != 2 {
		t.Errorf("back: %+v", r)
	}
}

func TestDoubledOverlappingAndEarlyBatches(t *testing.T) {
	s := newShop(t, "front")
	a := s.edges["front"]
	a.taps(t, 12)
	if n := one[*wire.Need](t, s.tell("front", a.batch(3, 5))); n.From != 0 {
		t.Errorf("need %+v", n)
	}
	s.tell("front", a.batch(0, 5))
	if r := one[*wire.Receipt](t, s.tell("front", a.batch(0, 5))); r.Size != 5 {
		t.Errorf("doubled: %+v", r)
	}
	if r := one[*wire.Receipt](t, s.tell("front", a.batch(2, 9))); r.Size != 9 {
		t.Errorf("overlapping: %+v", r)
	}
	last := s.store.accepted[len(s.store.accepted)-1]
	if last.From != 5 || len(last.Leaves) != 4 || !bytes.Equal(last.Bundle, bytes.Join(a.lines[5:9], []byte("\n"))) || last.Private[0].Index != 5 {
		t.Errorf("overlap stored from %d: %d leaves", last.From, len(last.Leaves))
	}
	if n := one[*wire.Need](t, s.tell("front", a.batch(10, 12))); n.From != 9 {
		t.Errorf("need %+v", n)
	}
}

// F33, F34: a line that is no leaf is stored opaque with evidence, an unknown kind is stored as it is; neither stops the
// stream.
func TestBadLinesAndUnknownKindsDoNotStopTheStream(t *testing.T) {
	s := newShop(t, "front")
	a := s.edges["front"]
	a.taps(t, 1)
	a.put(t, []byte(`{"not":"a leaf"}`), wire.Private{})
	a.put(t, bytes.Repeat([]byte("x"), event.MaxLeaf+1), wire.Private{})
	// A leaf of another place, each wrong in one word only.
	for _, move := range []func(*event.Leaf){
		func(l *event.Leaf) { l.Index = 0 },
		func(l *event.Leaf) { l.Network = "weed" },
		func(l *event.Leaf) { l.Node = "oaxaca" },
		func(l *event.Leaf) { l.Edge = "back" },
		func(l *event.Leaf) { l.Epoch[15]++ },
	} {
		l, err := event.Parse(a.lines[0])
		must(t, err)
		l.Index = uint64(len(a.lines))
		move(&l)
		line, err := l.Encode()
		must(t, err)
		a.put(t, line, wire.Private{})
	}
	a.write(t, "later-kind", `{"x":1}`, nil)
	a.taps(t, 1)
	n := len(a.lines)
	if r := one[*wire.Receipt](t, s.tell("front", a.batch(0, n))); r.Size != uint64(n) {
		t.Fatalf("receipt %+v", r)
	}
	acc := s.store.accepted[0]
	for i, kind := range []event.Kind{event.KindTap, "", "", "", "", "", "", "", "later-kind", event.KindTap} {
		if l := acc.Leaves[i]; l.Kind != kind || l.Index != uint64(i) || l.Network != "seed" || l.Node != "lisbon" || l.Edge != "front" || l.Epoch != a.epoch {
			t.Errorf("leaf %d: %+v", i, acc.Leaves[i])
		}
	}
	bad := s.store.evidence(EvidenceLeaf)
	if len(bad) != 7 || len(bad[1].Bytes) != event.MaxLeaf {
		t.Fatalf("%d lines are evidence, want 7; the long one keeps %d bytes", len(bad), len(bad[1].Bytes))
	}
	for i, calls := range []string{"front " + a.epoch.String() + " 0", "weed/", "seed/oaxaca/", "/back ", event.Epoch{1, 15: 1}.String()} {
		if e := bad[2+i]; e.Index != uint64(3+i) || !strings.Contains(e.Why, "it calls itself ") || !strings.Contains(e.Why, calls) {
			t.Errorf("leaf %d: %q, want that it names %q", 3+i, e.Why, calls)
		}
	}
}

func TestAPrivatePartMustFitItsCommitmentAndIsNotKeptAsEvidence(t *testing.T) {
	s := newShop(t, "front")
	a := s.edges["front"]
	a.taps(t, 2)
	a.write(t, event.KindDoor, `{"door":"front","state":"opened"}`, nil)
	b := a.batch(0, 3)
	// Right in everything but the commitment: the time lies in its leaf's hour, and the salt is the leaf's own.
	other := fmt.Appendf(nil, `{"at":%d,"mono":5,"member":"somebody-else"}`, tapped+1)
	b.Private = []wire.Private{b.Private[0], {Salt: b.Private[1].Salt, Bytes: other}, {Bytes: []byte(`{"member":"smuggled"}`)}}
	if r := one[*wire.Receipt](t, s.tell("front", b)); r.Size != 3 {
		t.Fatalf("receipt %+v", r)
	}
	if p := s.store.accepted[0].Private; len(p) != 1 || p[0].Index != 0 {
		t.Errorf("private parts %+v", p)
	}
	bad := s.store.evidence(EvidencePrivate)
	if len(bad) != 2 {
		t.Fatalf("evidence %+v", bad)
	}
	for i, why := range []string{"the leaf commits to another part", "the leaf has no commitment"} {
		if e := bad[i]; e.Index != uint64(1+i) || e.Why != why {
			t.Errorf("leaf %d: %q, want %q", e.Index, e.Why, why)
		}
		if e := bad[i]; len(e.Bytes) != 32 || bytes.Contains(e.Bytes, []byte("member")) {
			t.Errorf("evidence holds the private part: %q", e.Bytes)
		}
	}
}

// F16, F18: the proof of a fork can be checked by anyone with the edge's key alone.
func TestAForkIsProvenBeforeAThirdParty(t *testing.T) {
	s := newShop(t, "front")
	a := s.edges["front"]
	a.taps(t, 4)
	s.tell("front", a.batch(0, 4))
	other := a.copy()
	a.taps(t, 3)
	other.write(t, event.KindBoot, `{"disk":"d1"}`, nil)
	other.taps(t, 3)
	s.tell("front", a.batch(4, 7))
	c := one[*wire.Conflict](t, s.tell("front", other.batch(4, 8)))
	if c.Size != 7 || c.Root != a.root(7) || s.verified(a, c.Receipt).Size != 7 {
		t.Fatalf("conflict %+v", c)
	}
	if len(s.store.evidence(EvidenceFork)) != 0 || len(s.store.evidence(EvidenceMismatch)) != 1 {
		t.Fatal("a batch alone is a note, not a proof")
	}
	one[*wire.Conflict](t, s.tell("front", &wire.Head{Epoch: other.epoch, Size: 7, Checkpoint: other.head(7)}))
	forks := s.store.evidence(EvidenceFork)
	if len(forks) != 1 {
		t.Fatalf("evidence %+v", forks)
	}
	roots := map[tlog.Hash]bool{}
	cut := bytes.Index(forks[0].Bytes[1:], []byte("kith.seed/")) + 1
	for _, text := range [][]byte{forks[0].Bytes[:cut], forks[0].Bytes[cut:]} {
		n, err := note.Open(text, note.VerifierList(a.public))
		must(t, err)
		p, err := wire.ParseCheckpoint(n.Text)
		must(t, err)
		if p.Size != 7 {
			t.Errorf("head of %d", p.Size)
		}
		roots[p.Root] = true
	}
	if len(roots) != 2 {
		t.Error("the two heads have one root")
	}
	// Nothing more is taken, the first history stands, and everything is held.
	a.taps(t, 1)
	one[*wire.Conflict](t, s.tell("front", a.batch(7, 8)))
	st := one[*wire.State](t, s.tell("front", a.hello("b1", 1, "")))
	if st.Status != wire.StatusFork || st.Size != 7 || !st.Held || st.Limit != 7 {
		t.Errorf("state %+v", st)
	}
	// A new epoch is welcome, and held.
	next := newAuthor(t, "front", 9)
	next.signer, next.public = a.signer, a.public
	next.write(t, event.KindFork, fmt.Sprintf(`{"old_epoch":%q,"old_size":4}`, a.epoch), nil)
	if r := one[*wire.Receipt](t, s.tell("front", next.batch(0, 1))); r.Size != 1 {
		t.Errorf("new epoch: %+v", r)
	}
	if l := s.store.logs[logKey{"front", next.epoch}]; !l.Standing.Held {
		t.Error("new epoch is not held")
	}
	// Restart: the standing survives as text.
	s.open()
	if st := one[*wire.State](t, s.tell("front", a.hello("b1", 2, ""))); st.Status != wire.StatusFork || !st.Held {
		t.Errorf("after a restart: %+v", st)
	}
	must(t, s.in.Release(t.Context(), "front"))
	if st := one[*wire.State](t, s.tell("front", a.hello("b1", 3, ""))); st.Held {
		t.Error("held after release")
	}
}

func TestAClosedEpochIsClosedAndTheCheckCanFail(t *testing.T) {
	for _, broken := range []bool{false, true} {
		s := newShop(t, "front")
		s.in.ground.Broken.AnyEpoch = broken
		a := s.edges["front"]
		a.taps(t, 6)
		s.tell("front", a.batch(0, 3))
		next := newAuthor(t, "front", 9)
		next.signer = a.signer
		next.write(t, event.KindRestored, fmt.Sprintf(`{"old_epoch":%q,"old_size":4}`, a.epoch), nil)
		s.tell("front", next.batch(0, 1))
		if got := s.store.logs[logKey{"front", a.epoch}].Standing.Text(); got != "sealed limit=4" {
			t.Fatalf("standing %q", got)
		}
		if r := one[*wire.Receipt](t, s.tell("front", a.batch(3, 4))); r.Size != 4 {
			t.Errorf("up to where it stands it may come: %+v", r)
		}
		_, refused := s.tell("front", a.batch(4, 6))[0].(*wire.Conflict)
		if refused == broken {
			t.Errorf("with the defect %v: refused %v", broken, refused)
		}
	}
}

func TestAHeadOfASmallerSizeIsCoSignedOnlyIfItIsOurs(t *testing.T) {
	s := newShop(t, "front")
	a := s.edges["front"]
	a.taps(t, 9)
	s.tell("front", a.batch(0, 9))
	r := one[*wire.Receipt](t, s.tell("front", &wire.Head{Epoch: a.epoch, Size: 5, Checkpoint: a.head(5)}))
	if c := s.verified(a, r.Note); c.Size != 5 || c.Root != a.root(5) {
		t.Errorf("receipt %+v", c)
	}
	got := one[*wire.Roots](t, s.tell("front", &wire.RootsGet{Epoch: a.epoch, Sizes: []uint64{1, 8, 9, 10}}))
	for i, want := range []tlog.Hash{a.root(1), a.root(8), a.root(9), {}} {
		if got.Roots[i] != want {
			t.Errorf("root at %d", got.Sizes[i])
		}
	}
	other := a.copy()
	other.lines, other.hashes, other.parts = other.lines[:4], other.hashes[:tlog.StoredHashCount(4)], other.parts[:4]
	other.write(t, event.KindBoot, `{"disk":"d1"}`, nil)
	one[*wire.Conflict](t, s.tell("front", &wire.Head{Epoch: a.epoch, Size: 5, Checkpoint: other.head(5)}))
	if len(s.store.evidence(EvidenceFork)) != 1 {
		t.Error("no proof was kept")
	}
}

// F15: only a start that answers a challenge given after another start spoke proves two devices.
func TestDuplicateNeedsAFreshAnswer(t *testing.T) {
	s := newShop(t, "front")
	a := s.edges["front"]
	a.taps(t, 2)
	s.tell("front", a.batch(0, 2))
	first := one[*wire.State](t, s.tell("front", a.hello("aaaa", 1, "")))
	second := one[*wire.State](t, s.tell("front", a.hello("bbbb", 1, "")))
	if first.Duplicate || second.Duplicate {
		t.Fatal("a restart is no duplicate")
	}
	late := one[*wire.State](t, s.tell("front", a.hello("aaaa", 2, first.Challenge)))
	if late.Duplicate || !late.Again {
		t.Fatalf("a late hello of the start before: %+v", late)
	}
	again := one[*wire.State](t, s.tell("front", a.hello("bbbb", 2, second.Challenge)))
	if again.Duplicate {
		t.Fatal("the current start speaks on")
	}
	var proof *wire.State
	for _, m := range s.tell("front", a.hello("aaaa", 3, late.Challenge)) {
		if st, ok := m.(*wire.State); ok {
			proof = st
		}
	}
	if proof == nil || !proof.Duplicate || !proof.Held || len(s.store.evidence(EvidenceDuplicate)) != 1 {
		t.Fatalf("two starts in turn: %+v", proof)
	}
	if l := s.store.logs[logKey{"front", a.epoch}]; !l.Standing.Duplicate || !l.Standing.Held {
		t.Error("the store was not told")
	}
}

// F17: an epoch belongs to the edge that started it.
func TestAnEpochOfAnotherEdgeIsRefused(t *testing.T) {
	s := newShop(t, "front", "back")
	a, b := s.edges["front"], s.edges["back"]
	b.epoch = a.epoch
	a.taps(t, 1)
	b.taps(t, 1)
	s.tell("front", a.batch(0, 1))
	if c := one[*wire.Conflict](t, s.tell("back", b.batch(0, 1))); c.Size != 0 {
		t.Errorf("conflict %+v", c)
	}
	if _, ok := s.store.logs[logKey{"back", b.epoch}]; ok {
		t.Error("it was stored")
	}
}

func TestStrangersAndRetiredEdgesStoreNothing(t *testing.T) {
	s := newShop(t, "front")
	stranger := newAuthor(t, "stranger", 5)
	stranger.taps(t, 1)
	if st := one[*wire.State](t, s.tell("stranger", stranger.hello("cccc", 1, ""))); st.Status != wire.StatusUnknown {
		t.Errorf("state %+v", st)
	}
	if got := s.tell("stranger", stranger.batch(0, 1)); len(got) != 0 {
		t.Errorf("answers %+v", got)
	}
	a := s.edges["front"]
	a.taps(t, 1)
	s.retired["front"] = true
	if st := one[*wire.State](t, s.tell("front", a.hello("aaaa", 1, ""))); st.Status != wire.StatusRetired {
		t.Errorf("state %+v", st)
	}
	if got := s.tell("front", a.batch(0, 1)); len(got) != 0 || len(s.store.logs) != 0 {
		t.Errorf("answers %+v", got)
	}
}

func TestForgedSignaturesAndForeignOriginsAreRefused(t *testing.T) {
	s := newShop(t, "front", "back")
	a, b := s.edges["front"], s.edges["back"]
	a.taps(t, 2)
	b.taps(t, 2)
	forged := a.batch(0, 2)
	forged.Checkpoint = bytes.Replace(forged.Checkpoint, []byte("\n2\n"), []byte("\n3\n"), 1)
	wrongSize := a.batch(0, 2)
	wrongSize.Checkpoint = a.head(1)
	foreign := a.batch(0, 2)
	foreign.Checkpoint = b.head(2)
	// The edge's own key, over the very tree that is sent, for another log.
	elsewhere := func(network, node string, epoch event.Epoch) wire.Up {
		m := a.batch(0, 2)
		text, err := note.Sign(&note.Note{Text: wire.Checkpoint{Origin: wire.Origin(network, node, "front", epoch), Size: 2, Root: a.root(2)}.Text()}, a.signer)
		must(t, err)
		m.Checkpoint = text
		return m
	}
	for name, m := range map[string]wire.Up{"forged": forged, "size": wrongSize, "foreign": foreign,
		"network": elsewhere("weed", "lisbon", a.epoch), "node": elsewhere("seed", "oaxaca", a.epoch), "epoch": elsewhere("seed", "lisbon", event.Epoch{9})} {
		before := s.in.Stats.Refused.Load()
		if got := s.tell("front", m); len(got) != 0 || s.in.Stats.Refused.Load() != before+1 {
			t.Errorf("%s: answers %+v", name, got)
		}
	}
	// Another edge's whole batch, sent by this one.
	if got := s.tell("front", b.batch(0, 2)); len(got) != 0 {
		t.Errorf("answers %+v", got)
	}
	if len(s.store.logs) != 0 {
		t.Error("something was stored")
	}
	s.in.Serve(t.Context(), []Message{{"front", []byte(`{"v":1,"type":"later"}` + "\n")}, {"front", []byte("junk")}})
	if s.in.Stats.Ignored.Load() != 1 {
		t.Error("a later type is counted as ignored")
	}
}

// F12: what both sides have lost is bridged only over the hub's own receipt, stays visible, and only the true leaves fill it.
func TestALostRangeIsVisibleAndOnlyTheArchiveFillsIt(t *testing.T) {
	s := newShop(t, "front")
	a := s.edges["front"]
	a.taps(t, 40)
	s.tell("front", a.batch(0, 10))
	small := map[logKey]Log{}
	for k, l := range s.store.logs {
		small[k] = l
	}
	receipt := one[*wire.Receipt](t, s.tell("front", a.batch(10, 40)))
	s.store.logs, s.store.generation = small, "g2"
	k := logKey{"front", a.epoch}
	s.store.lines[k] = s.store.lines[k][:10]
	s.open()

	path, err := tlog.ProveRecord(24, 23, a)
	must(t, err)
	var nodes []tlog.Hash
	for i := len(path) - 1; i >= 0; i-- {
		nodes = append(nodes, path[i])
	}
	proof, err := tlog.ProveTree(23, 10, a)
	must(t, err)
	ahead, err := tlog.ProveTree(40, 23, a)
	must(t, err)
	bridge := &wire.Bridge{Epoch: a.epoch, Old: 10, New: 23, ReceiptSize: 40, Subtrees: nodes, Proof: proof, Ahead: ahead, Checkpoint: a.head(23), Receipt: receipt.Note}
	for name, spoil := range map[string]func(*wire.Bridge){
		"without receipt": func(b *wire.Bridge) { b.Receipt = a.head(40) },
		"other subtrees":  func(b *wire.Bridge) { b.Subtrees = []tlog.Hash{{1}, {2}, {3}, {4}} },
		"other proof":     func(b *wire.Bridge) { b.Proof = nil },
		"not ahead":       func(b *wire.Bridge) { b.Ahead = nil },
	} {
		bad := *bridge
		spoil(&bad)
		for _, m := range s.tell("front", &bad) {
			if _, ok := m.(*wire.Conflict); !ok {
				t.Errorf("%s: %+v", name, m)
			}
		}
	}
	if s.store.logs[k].Size != 10 {
		t.Fatal("a bad bridge was taken")
	}
	if r := one[*wire.Receipt](t, s.tell("front", bridge)); r.Size != 23 || r.Generation != "g2" {
		t.Fatalf("receipt %+v", r)
	}
	if got := s.store.logs[k].Standing; got.Text() != "open lost=10-23" {
		t.Errorf("standing %q", got.Text())
	}
	s.store.lines[k] = a.lines[:23]
	if r := one[*wire.Receipt](t, s.tell("front", a.batch(23, 40))); s.verified(a, r.Note).Root != a.root(40) {
		t.Error("the log does not go on")
	}
	gap, err := ParseGap(s.store.evidence(EvidenceLost)[0].Bytes)
	must(t, err)
	if gap.From != 10 || gap.To != 23 {
		t.Errorf("gap %+v", gap)
	}
	must(t, gap.Fill(a.lines[10:23]))
	wrong := append([][]byte{}, a.lines[10:23]...)
	wrong[4] = []byte("{}")
	if gap.Fill(wrong) == nil || gap.Fill(a.lines[10:22]) == nil {
		t.Error("other leaves fill the gap")
	}
}

// A hostile edge may write what it likes beside its own signature; none of it may get into a receipt.
func TestOnlyTheEdgesOwnLineGetsIntoAReceipt(t *testing.T) {
	for name, spoil := range map[string]func(s *shop, own string) string{
		"a false line of the hub": func(s *shop, own string) string {
			return own + sigLine(s.witness, make([]byte, 72))
		},
		"a false line of another edge": func(s *shop, own string) string {
			return own + sigLine(s.edges["back"].public, make([]byte, 64))
		},
		"many lines": func(s *shop, own string) string {
			return own + strings.Repeat("\u2014 nobody AAAAAAAA\n", 90)
		},
		"lines before its own": func(s *shop, own string) string { return sigLine(s.witness, make([]byte, 72)) + own },
		"bits that are not needed": func(_ *shop, own string) string {
			// 68 bytes are 91 digits and one =: the last digit carries two bits that no decoder reads.
			digits := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
			at := len(own) - len("=\n") - 1
			return own[:at] + digits[strings.IndexByte(digits, own[at])^1:][:1] + own[at+1:]
		},
	} {
		s := newShop(t, "front", "back")
		a := s.edges["front"]
		a.taps(t, 10)
		dirty := func(clean []byte) []byte {
			body, own, _ := strings.Cut(string(clean), "\n\n")
			out := []byte(body + "\n\n" + spoil(s, own))
			if bytes.Equal(out, clean) {
				t.Fatalf("%s: the test changed nothing", name)
			}
			return out
		}
		check := func(what string, text []byte, size uint64) {
			t.Helper()
			n, err := note.Open(text, note.VerifierList(a.public, s.edges["back"].public, s.witness))
			if err != nil || len(n.Sigs) != 2 || len(n.UnverifiedSigs) != 0 || !bytes.HasPrefix(text, a.head(size)) {
				t.Errorf("%s, %s: %v\n%s", name, what, err, text)
			}
		}
		b := a.batch(0, 10)
		b.Checkpoint = dirty(b.Checkpoint)
		check("batch", one[*wire.Receipt](t, s.tell("front", b)).Note, 10)
		check("head", one[*wire.Receipt](t, s.tell("front", &wire.Head{Epoch: a.epoch, Size: 4, Checkpoint: dirty(a.head(4))})).Note, 4)
		h := a.hello("00112233445566aa", 1, "")
		h.Checkpoint = dirty(h.Checkpoint)
		check("hello", one[*wire.State](t, s.tell("front", h)).Receipt, 10)
	}
}

// sigLine is a signature line of a key with bytes that it never gave.
func sigLine(key note.Verifier, sig []byte) string {
	b := binary.BigEndian.AppendUint32(nil, key.KeyHash())
	return "\u2014 " + key.Name() + " " + base64.StdEncoding.EncodeToString(append(b, sig...)) + "\n"
}

func TestAReceiptSurvivesACrashRightAfterTheCommit(t *testing.T) {
	s := newShop(t, "front")
	a := s.edges["front"]
	a.taps(t, 5)
	s.tell("front", a.batch(0, 5))
	l := s.store.logs[logKey{"front", a.epoch}]
	l.Receipt = nil // killed before the next commit could tell the store
	s.store.logs[logKey{"front", a.epoch}] = l
	s.open()
	st := one[*wire.State](t, s.tell("front", a.hello("aaaa", 1, "")))
	if st.Size != 5 || s.verified(a, st.Receipt).Size != 5 {
		t.Errorf("state %+v", st)
	}
}

func TestIdleTellsTheStoreTheLastReceipt(t *testing.T) {
	s := newShop(t, "front")
	a := s.edges["front"]
	a.taps(t, 5)
	s.tell("front", a.batch(0, 5))
	s.in.Idle(t.Context())
	if got := s.verified(a, s.store.logs[logKey{"front", a.epoch}].Receipt); got.Size != 5 {
		t.Errorf("stored receipt %+v", got)
	}
	n := s.store.commits
	s.in.Idle(t.Context())
	if s.store.commits != n {
		t.Error("an idle hub writes")
	}
}

func TestStandingHasOneText(t *testing.T) {
	for _, s := range []Standing{
		{Status: wire.StatusOpen}, {Status: wire.StatusFork, Limit: 12, Held: true, Duplicate: true},
		{Status: wire.StatusSealed, Lost: []Span{{1, 2}, {30, 44}}},
	} {
		got, err := ParseStanding(s.Text())
		if err != nil || got.Text() != s.Text() {
			t.Errorf("%q: %+v, %v", s.Text(), got, err)
		}
	}
	for _, bad := range []string{"", "new", "open held held", "open limit=3", "fork", "sealed limit=x", "open lost=1", "open  held"} {
		if _, err := ParseStanding(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestAFloodOfOneEdgeStarvesNobody(t *testing.T) {
	q := newQueue()
	for range 100 {
		q.offer("flood", []byte("x"))
	}
	q.offer("quiet", []byte("y"))
	got := q.take()
	if len(got) != MaxWaiting+1 || got[1].edge != "quiet" {
		t.Errorf("%d messages, second of %s", len(got), got[1].edge)
	}
	if q.offer("flood", make([]byte, MaxWaitingBytes+1)) {
		t.Error("more bytes than the bound")
	}
	if q.bytes != 0 || q.credit(true) != failingCredit || q.credit(false) != fullCredit {
		t.Errorf("queue %d bytes", q.bytes)
	}
}

func BenchmarkServe(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d-a-batch", size), func(b *testing.B) {
			const edges = 64
			names := make([]string, edges)
			for i := range names {
				names[i] = fmt.Sprintf("edge%d", i)
			}
			rounds := max(4, 400/size)
			b.StopTimer()
			var leaves int
			var busy time.Duration
			for range b.N {
				s := newShop(b, names...)
				s.store.err = nil
				var groups [][]waiting
				for r := range rounds {
					var g []waiting
					for _, n := range names {
						a := s.edges[n]
						a.taps(b, size)
						p, err := a.batch(r*size, (r+1)*size).Encode()
						must(b, err)
						g = append(g, waiting{n, p})
					}
					groups = append(groups, g)
				}
				s.in.opt.Serial = false
				s.in.opt.Sender = silent{}
				runtime.GC()
				before := processor(b)
				b.StartTimer()
				for _, g := range groups {
					s.in.work(b.Context(), s.in.check(b.Context(), g))
				}
				b.StopTimer()
				busy += processor(b) - before
				leaves += rounds * edges * size
				if got := int(s.in.Stats.Leaves.Load()); got != rounds*edges*size {
					b.Fatalf("%d leaves accepted", got)
				}
			}
			b.ReportMetric(float64(leaves)/b.Elapsed().Seconds(), "leaves/s")
			b.ReportMetric(float64(busy.Nanoseconds())/float64(leaves), "cpu-ns/leaf")
		})
	}
}

// processor is the time this process has had, which a busy machine does not distort as it does the clock.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type silent struct{}

func (silent) Send(string, []byte) error { return nil }

// A private part whose exact time its own leaf denies could keep a person somewhere for years, or put a line on top of all.
func TestAPrivatePartMustLieInTheHourOfItsLeaf(t *testing.T) {
	s := newShop(t, "front")
	a := s.edges["front"]
	start := tapped - tapped%event.HourMS
	var kept []uint64
	for _, c := range []struct {
		part string
		kept bool
	}{
		{`{"at":%d,"mono":5,"member":"ana"}`, true},
		{`{"at":-1,"mono":5,"member":"ana"}`, false},
		{`{"at":0,"mono":5,"member":"ana"}`, false},
		{`{"at":9223372036854775807,"mono":5,"member":"ana"}`, false},
		{`{"mono":5,"member":"ana"}`, false},
		{`{"member":"ana","at":4000000000000}`, false},
		{`{"member":"ana","at":%d}`, true},
		{`{"at":%d}`, true},
		{`{"at":4000000000000}`, false},
		{`{"at":%d,"mono":5,"AT":4000000000000}`, false},
		{`{"at":%d,"mono":5,"\u0061t":4000000000000}`, false},
		{`{"at":%d,"body":{"at":4000000000000}}`, true},
		{`["nobody","can","read","this"]`, true},
		{`{"at":"noon"}`, true}, // no time at all
	} {
		text := c.part
		if strings.Contains(text, "%d") {
			text = fmt.Sprintf(text, tapped)
		}
		if c.kept {
			kept = append(kept, uint64(len(a.lines)))
		}
		a.write(t, event.KindTap, `{}`, []byte(text))
	}
	for at, in := range map[int64]bool{start - 1: false, start: true, start + event.HourMS - 1: true, start + event.HourMS: false} {
		if in {
			kept = append(kept, uint64(len(a.lines)))
		}
		a.write(t, event.KindTap, `{}`, fmt.Appendf(nil, `{"at":%d,"mono":5,"member":"ana","body":{}}`, at))
	}
	// What a leaf carries over from a lost branch has its own time inside.
	kept = append(kept, uint64(len(a.lines)))
	a.write(t, event.KindReplayed, `{}`, []byte(`{"at":0,"mono":0,"body":{}}`))
	if r := one[*wire.Receipt](t, s.tell("front", a.batch(0, len(a.lines)))); r.Size != uint64(len(a.lines)) {
		t.Fatalf("receipt %+v", r)
	}
	var have []uint64
	for _, p := range s.store.accepted[0].Private {
		have = append(have, p.Index)
	}
	if !slices.Equal(have, kept) {
		t.Errorf("kept %d, want %d", have, kept)
	}
	bad := s.store.evidence(EvidencePrivate)
	if len(bad) != len(a.lines)-len(kept) {
		t.Fatalf("%d pieces of evidence for %d parts", len(bad), len(a.lines)-len(kept))
	}
	for _, e := range bad {
		if len(e.Bytes) != 32 || !strings.Contains(e.Why, "hour") {
			t.Errorf("evidence %+v", e)
		}
	}
}
