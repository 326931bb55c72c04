package outbox

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/wire"
)

var _ Log = (*journal.Journal)(nil)

// bench drives one machine by hand.
type bench struct {
	t      testing.TB
	m      *Machine
	now    time.Duration
	epochs []journal.EpochInfo
	last   []Output
}

func newBench(t testing.TB, size uint64) *bench {
	return &bench{t: t, m: New(Settings{Boot: "b1", Seed: 7}), epochs: []journal.EpochInfo{{Epoch: event.Epoch{1}, Size: size}}}
}

// step feeds one event and answers every send, as the hand does.
func (b *bench) step(ev any) []Output {
	b.last = nil
	for ev != nil {
		out := b.m.Step(b.now, Input{Epochs: b.epochs, Event: ev})
		ev = nil
		for _, o := range out {
			if s, ok := o.(SendBatch); ok {
				ev = InSent{s.Epoch, s.From, uint64(s.Max)}
			}
			if _, ok := o.(Wake); !ok {
				b.last = append(b.last, o)
			}
		}
	}
	return b.last
}

func (b *bench) pass(d time.Duration) []Output {
	b.now += d
	return b.step(InTick{})
}

// state answers the last hello.
func (b *bench) state(size uint64, change func(*InState)) []Output {
	in := InState{State: &wire.State{Generation: "g1", Epoch: b.m.cursor, Size: size, Status: wire.StatusOpen, Credit: 1024, Boot: "b1", Seq: b.m.seq, Challenge: "c-1"}}
	if change != nil {
		change(&in)
	}
	return b.step(in)
}

func (b *bench) receipt(size uint64, v Verdict) []Output {
	if v == Ours {
		b.epochs[len(b.epochs)-1].Receipt = size
	}
	return b.step(InReceipt{Receipt: &wire.Receipt{Generation: "g1", Epoch: b.m.cursor, Size: size, Credit: 1024}, Note: v})
}

func batches(out []Output) (list []SendBatch) {
	for _, o := range out {
		if s, ok := o.(SendBatch); ok {
			list = append(list, s)
		}
	}
	return list
}

func has[T any](out []Output) bool {
	for _, o := range out {
		if _, ok := o.(T); ok {
			return true
		}
	}
	return false
}

func live(t testing.TB, size uint64) *bench {
	b := newBench(t, size)
	b.step(InLink{true})
	b.now += 10 * time.Millisecond
	b.state(size, nil)
	if b.m.state != Live {
		t.Fatalf("state %s", b.m.state)
	}
	return b
}

func TestOneTapGoesAtOnceAndMoreWaitForCompany(t *testing.T) {
	b := live(t, 5)
	b.epochs[0].Size = 6
	if got := batches(b.step(InTick{})); len(got) != 1 || got[0].From != 5 || got[0].Max != 1 {
		t.Fatalf("one tap: %+v", got)
	}
	b.epochs[0].Size = 8
	if got := batches(b.pass(time.Millisecond)); len(got) != 0 {
		t.Fatalf("behind one in flight: %+v", got)
	}
	if got := batches(b.pass(Linger)); len(got) != 1 || got[0].From != 6 || got[0].Max != 2 {
		t.Fatalf("after the linger: %+v", got)
	}
	b.epochs[0].Size = 8 + FullBatch
	if got := batches(b.pass(time.Millisecond)); len(got) != 1 || got[0].Max != FullBatch {
		t.Fatalf("a full batch waits for nobody: %+v", got)
	}
	b.epochs[0].Size += 7
	b.step(InTick{})
	if got := batches(b.receipt(b.m.next, Ours)); len(got) != 1 || got[0].Max != 7 {
		t.Fatalf("an acknowledgement lets the rest go: %+v", got)
	}
}

func TestWindowAndCreditBoundWhatIsInFlight(t *testing.T) {
	b := newBench(t, 10_000)
	b.step(InLink{true})
	got := batches(b.state(0, nil))
	if len(got) != Window || got[3].From != 768 || got[3].Max != wire.MaxBatchLeaves {
		t.Fatalf("window: %+v", got)
	}
	b = newBench(t, 10_000)
	b.step(InLink{true})
	if got := batches(b.state(0, func(s *InState) { s.State.Credit = 300 })); len(got) != 1 || got[0].Max != 256 {
		t.Fatalf("credit: %+v", got)
	}
	if got := batches(b.pass(Linger)); len(got) != 1 || got[0].Max != 44 {
		t.Fatalf("the rest of the credit: %+v", got)
	}
	b = newBench(t, 10_000)
	b.step(InLink{true})
	if got := batches(b.state(0, func(s *InState) { s.State.Credit = 0 })); len(got) != 0 {
		t.Fatalf("no credit: %+v", got)
	}
	if out := b.pass(creditWait); !has[SendHello](out) {
		t.Fatalf("asks again: %+v", out)
	}
}

func TestOnlyAVerifiedReceiptOfThisHubMovesTheOutbox(t *testing.T) {
	b := newBench(t, 100)
	b.step(InLink{true})
	b.state(0, nil)
	for _, v := range []Verdict{NoNote, Worthless, Foreign} {
		b.receipt(100, v)
		if b.m.hub != 0 {
			t.Errorf("verdict %d: hub has %d", v, b.m.hub)
		}
	}
	b.step(InReceipt{Receipt: &wire.Receipt{Generation: "g0", Epoch: b.m.cursor, Size: 100, Credit: 1}, Note: Ours})
	if b.m.hub != 0 {
		t.Error("a receipt of another generation was taken for this hub's")
	}
	b.receipt(100, Ours)
	if b.m.hub != 100 || b.m.state != Live {
		t.Errorf("hub has %d, %s", b.m.hub, b.m.state)
	}
}

func TestALostBatchIsFoundByTimeoutAndResentFromTheHubsSize(t *testing.T) {
	b := newBench(t, 100)
	b.step(InLink{true})
	b.state(0, nil)
	b.now += firstWait
	if out := b.step(InTick{}); !has[SendHello](out) || len(batches(out)) != 0 {
		t.Fatalf("overdue: %+v", out)
	}
	if got := batches(b.state(40, nil)); len(got) != 1 || got[0].From != 40 || got[0].Max != 60 {
		t.Fatalf("resent: %+v", got)
	}
}

func TestNeedRewindsOnceForAWholeWindow(t *testing.T) {
	b := newBench(t, 10_000)
	b.step(InLink{true})
	b.state(0, nil)
	need := func() []SendBatch {
		return batches(b.step(InNeed{&wire.Need{Generation: "g1", Epoch: b.m.cursor, From: 0}}))
	}
	b.now += 10 * time.Millisecond
	if got := need(); len(got) != Window || got[0].From != 0 {
		t.Fatalf("rewind: %+v", got)
	}
	for range 3 {
		if got := need(); len(got) != 0 {
			t.Fatalf("again: %+v", got)
		}
	}
}

func TestAKeepAliveSendsNothingTwice(t *testing.T) {
	b := live(t, 5)
	b.now += KeepAlive
	if !has[SendHello](b.step(InTick{})) {
		t.Fatal("no keep-alive")
	}
	b.now += time.Millisecond
	b.epochs[0].Size = 6
	if len(batches(b.step(InTick{}))) != 1 {
		t.Fatal("a tap waits for the hello")
	}
	if got := batches(b.state(5, nil)); len(got) != 0 {
		t.Fatalf("sent twice: %+v", got)
	}
}

func TestStatesOfOthersAndOfThePastAreIgnored(t *testing.T) {
	b := newBench(t, 10)
	b.step(InLink{true})
	for name, change := range map[string]func(*InState){
		"another start":   func(s *InState) { s.State.Boot = "b2" },
		"never asked for": func(s *InState) { s.State.Seq += 5 },
		"answered before": func(s *InState) { s.State.Seq = 0 },
	} {
		b.state(10, change)
		if b.m.state != Hello {
			t.Errorf("%s: %s", name, b.m.state)
		}
	}
}

func TestEpochsAreDeliveredInTheirOrderAndAgainAfterARestore(t *testing.T) {
	b := newBench(t, 0)
	b.epochs = []journal.EpochInfo{{Epoch: event.Epoch{1}, Size: 8, Receipt: 5, Sealed: true, Abandoned: true}, {Epoch: event.Epoch{2}, Size: 4, Sealed: true}, {Epoch: event.Epoch{3}, Size: 3}}
	b.step(InLink{true})
	if b.m.cursor != (event.Epoch{1}) {
		t.Fatalf("begins with %s", b.m.cursor)
	}
	if got := batches(b.state(0, nil)); len(got) != 1 || got[0].Max != 5 {
		t.Fatalf("an abandoned epoch past its stand: %+v", got)
	}
	b.step(InReceipt{Receipt: &wire.Receipt{Generation: "g1", Epoch: event.Epoch{1}, Size: 5, Credit: 1024}, Note: Ours})
	if b.m.cursor != (event.Epoch{2}) {
		t.Fatalf("then %s", b.m.cursor)
	}
	b.state(4, nil)
	if b.m.cursor != (event.Epoch{3}) {
		t.Fatalf("then %s", b.m.cursor)
	}
	b.state(3, nil)
	b.now += KeepAlive
	b.step(InTick{})
	b.state(0, func(s *InState) { s.State.Generation = "g2" })
	if b.m.cursor != (event.Epoch{1}) {
		t.Fatalf("after a restore: %s", b.m.cursor)
	}
}

func TestTheSearchFindsTheLastCommonLeafWithFewQuestions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ours := rapid.Uint64Range(1, 1<<20).Draw(t, "ours")
		hub := rapid.Uint64Range(1, 1<<20).Draw(t, "hub")
		common := rapid.Uint64Range(0, min(ours, hub)).Draw(t, "common")
		if common == hub && hub <= ours {
			return // no conflict
		}
		b := &bench{m: New(Settings{Boot: "b1", Seed: 7}), epochs: []journal.EpochInfo{{Epoch: event.Epoch{1}, Size: ours}}}
		b.step(InLink{true})
		relation := Differs
		if hub > ours {
			relation = Ahead
		}
		out := b.state(hub, func(s *InState) { s.Relation = relation })
		for asked := 0; ; asked++ {
			if asked > 8 {
				t.Fatalf("ours %d, hub %d, common %d: %+v", ours, hub, common, out)
			}
			var next []Output
			for _, o := range out {
				switch o := o.(type) {
				case StartEpoch:
					kind := event.KindFork
					if common == ours {
						kind = event.KindRestored
					}
					if o.From != common || o.Kind != kind {
						t.Fatalf("%+v, want %s at %d", o, kind, common)
					}
					return
				case SendRootsGet:
					in := InRoots{Roots: &wire.Roots{Generation: "g1", Epoch: o.Epoch, Sizes: o.Sizes}}
					for _, n := range o.Sizes {
						in.Known, in.Same = append(in.Known, n <= hub), append(in.Same, n <= common)
					}
					next = b.step(in)
				case SendHead:
					if o.Size == common && b.m.search != nil && b.m.search.confirm {
						next = b.step(InReceipt{Receipt: &wire.Receipt{Generation: "g1", Epoch: o.Epoch, Size: common}, Note: Ours})
					}
				}
			}
			out = next
		}
	})
}

func TestADuplicateTakesNoRoster(t *testing.T) {
	b := live(t, 5)
	if !has[SendRosterGet](b.step(InRoster{Want{true, 4, 0}})) {
		t.Fatal("an offer is followed")
	}
	b.now += KeepAlive
	b.step(InTick{})
	b.state(5, func(s *InState) { s.State.Duplicate, s.State.Held = true, true })
	if r := b.m.Report(); !r.Duplicate || !r.Held {
		t.Fatalf("report %+v", r)
	}
	if has[SendRosterGet](b.step(InRoster{Want{true, 5, 0}})) || has[SendRosterGet](b.pass(time.Minute)) {
		t.Error("a roster was asked for while another device lives with our key")
	}
}

func TestALostRosterPartIsAskedForAgainAndNotForEver(t *testing.T) {
	b := live(t, 5)
	n := 0
	b.step(InRoster{Want{true, 4, 2}})
	for range 400 {
		for _, o := range b.pass(5 * time.Second) {
			if g, ok := o.(SendRosterGet); ok {
				if n++; g != (SendRosterGet{4, 2}) {
					t.Fatalf("asked for %+v", g)
				}
			}
		}
	}
	if n == 0 || n > maxRosterIn {
		t.Errorf("asked %d times", n)
	}
}

// Whatever is said in whatever order: no panic, little output, never more in flight than the window, and no new epoch
// without a co-signature at its place.
func TestAnyMessagesInAnyOrderKeepTheBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &bench{m: New(Settings{Boot: "b1", Seed: rapid.Uint64().Draw(t, "seed")}), epochs: []journal.EpochInfo{{Epoch: event.Epoch{1}, Size: 50}}}
		num := rapid.Uint64Range(0, 120)
		gen := rapid.SampledFrom([]string{"g1", "g2"})
		epoch := rapid.SampledFrom([]event.Epoch{{1}, {2}})
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			b.now += time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "pass"))
			b.epochs[0].Size += rapid.Uint64Range(0, 3).Draw(t, "grow")
			var ev any
			switch rapid.IntRange(0, 8).Draw(t, "kind") {
			case 0:
				ev = InLink{rapid.Bool().Draw(t, "up")}
			case 1, 2:
				ev = InState{State: &wire.State{Generation: gen.Draw(t, "g"), Epoch: epoch.Draw(t, "e"), Size: num.Draw(t, "n"), Limit: num.Draw(t, "l"),
					Status: rapid.SampledFrom([]string{wire.StatusOpen, wire.StatusFork, wire.StatusSealed, wire.StatusUnknown, "what"}).Draw(t, "status"),
					Credit: num.Draw(t, "credit"), Boot: "b1", Seq: b.m.seq, Again: rapid.Bool().Draw(t, "again"), Duplicate: rapid.Bool().Draw(t, "dup")},
					Relation: Relation(rapid.IntRange(0, 3).Draw(t, "rel"))}
			case 3:
				size := rapid.Uint64Range(0, b.epochs[0].Size).Draw(t, "n")
				v := Verdict(rapid.IntRange(0, 3).Draw(t, "verdict"))
				if v == Ours {
					b.epochs[0].Receipt = max(b.epochs[0].Receipt, size)
				}
				ev = InReceipt{Receipt: &wire.Receipt{Generation: gen.Draw(t, "g"), Epoch: epoch.Draw(t, "e"), Size: size, Credit: num.Draw(t, "credit")}, Note: v}
			case 4:
				ev = InNeed{&wire.Need{Generation: gen.Draw(t, "g"), Epoch: epoch.Draw(t, "e"), From: num.Draw(t, "n")}}
			case 5:
				ev = InConflict{&wire.Conflict{Generation: gen.Draw(t, "g"), Epoch: epoch.Draw(t, "e"), Size: num.Draw(t, "n")}}
			case 6:
				ev = InRoots{Roots: &wire.Roots{Generation: gen.Draw(t, "g"), Epoch: epoch.Draw(t, "e"), Sizes: []uint64{num.Draw(t, "n")}},
					Known: []bool{rapid.Bool().Draw(t, "known")}, Same: []bool{rapid.Bool().Draw(t, "same")}}
			case 7:
				ev = InStarted{false}
			default:
				ev = InTick{}
			}
			out := b.step(ev)
			if len(out) > 24 || len(b.m.flight) > Window {
				t.Fatalf("%d outputs, %d in flight", len(out), len(b.m.flight))
			}
			for _, o := range out {
				if s, ok := o.(StartEpoch); ok && s.From > b.epochs[0].Receipt {
					t.Fatalf("a new epoch at %d, co-signed are %d", s.From, b.epochs[0].Receipt)
				}
			}
		}
	})
}

// Time alone must not keep the machine busy: whatever state it is in, silence costs a handful of steps a minute.
func TestSilenceCostsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &bench{m: New(Settings{Boot: "b1", Seed: 7}), epochs: []journal.EpochInfo{{Epoch: event.Epoch{1}, Size: 50}}}
		b.step(InLink{true})
		b.state(rapid.Uint64Range(0, 60).Draw(t, "size"), func(s *InState) {
			s.Relation = Relation(rapid.IntRange(0, 3).Draw(t, "relation"))
			s.State.Credit = rapid.Uint64Range(0, 300).Draw(t, "credit")
			s.State.Status = rapid.SampledFrom([]string{wire.StatusOpen, wire.StatusFork, wire.StatusRetired}).Draw(t, "status")
		})
		if rapid.Bool().Draw(t, "conflict") {
			b.step(InConflict{&wire.Conflict{Generation: "g1", Epoch: event.Epoch{1}}})
		}
		if rapid.Bool().Draw(t, "failed") {
			b.m.Step(b.now, Input{Epochs: b.epochs, Event: InSent{event.Epoch{1}, b.m.next, 0}})
		}
		steps := 0
		for end := b.now + 10*time.Minute; b.now < end; steps++ {
			out := b.m.Step(b.now, Input{Epochs: b.epochs, Event: InTick{}})
			for _, o := range out {
				if s, ok := o.(SendBatch); ok {
					b.m.Step(b.now, Input{Epochs: b.epochs, Event: InSent{s.Epoch, s.From, uint64(s.Max)}})
				}
			}
			b.now = max(b.now+1, out[len(out)-1].(Wake).At)
		}
		if steps > 400 {
			t.Fatalf("%d steps in ten minutes of silence, %s", steps, b.m.state)
		}
	})
}

func TestJitterComesFromTheSeed(t *testing.T) {
	waits := map[string]bool{}
	for seed := range uint64(20) {
		m := New(Settings{Seed: seed})
		n := New(Settings{Seed: seed})
		if a, b := m.wait(), n.wait(); a != b || a > firstWait || a < firstWait*3/4 {
			t.Errorf("seed %d: %v, %v", seed, a, b)
		}
		waits[fmt.Sprint(New(Settings{Seed: seed}).wait())] = true
	}
	if len(waits) < 15 {
		t.Errorf("%d different waits of 20", len(waits))
	}
}
