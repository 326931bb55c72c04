package weather

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"kith/edge/outbox"
	"kith/hub/intake"
	"kith/internal/event"
	"kith/internal/wire"
)

// town is a world in fine weather where a test makes the trouble.
func town(t *testing.T, seed uint64, edges int) *world {
	t.Helper()
	return brokenTown(seed, edges, Broken{})
}

func brokenTown(seed uint64, edges int, b Broken) *world {
	w := newWorld(seed, Options{Broken: b})
	w.climate = climate{delay: 20 * time.Millisecond}
	w.most *= 100
	for i := range edges {
		edge := fmt.Sprintf("edge%d", i)
		w.hub.nodes[edge] = "node"
		d := w.device(edge)
		d.book = newBook(w, "node", edge)
		d.start()
	}
	w.hub.start()
	w.pass(10 * time.Second)
	return w
}

func (w *world) pass(d time.Duration) { w.until(w.now + d) }

// end waits for calm, checks every promise, and tells what went wrong.
func (w *world) end(t *testing.T) {
	t.Helper()
	w.clear()
	w.calm()
	w.final()
	for _, v := range w.result.Violations {
		t.Error(v)
	}
}

func (w *world) filed(kind string) (n int) {
	for _, f := range w.hub.shelf.evidence {
		if f.Kind == kind {
			n++
		}
	}
	return n
}

// replays lists the originals that an epoch carries over.
func (c *chapter) replays(t *testing.T) (n int) {
	t.Helper()
	for _, e := range c.entries {
		l, err := event.Parse(e.Leaf)
		if err != nil {
			t.Fatal(err)
		}
		if l.Kind == event.KindReplayed {
			n++
		}
	}
	return n
}

func TestF11HubRestoredFromBackupIsHealed(t *testing.T) {
	w := town(t, 1, 2)
	d := w.devices[0]
	d.tap(20)
	w.pass(time.Minute)
	w.hub.backup()
	reference := d.book
	d.tap(300)
	w.pass(time.Minute)
	w.hub.restore(0)
	w.pass(2 * time.Minute)
	w.end(t)
	v := w.hub.shelf.logs[address{d.edge, d.book.last().id}]
	if len(d.book.epochs) != 1 || d.book != reference || v.state.Size != d.book.last().size() || v.state.Root != d.book.last().root(v.state.Size) {
		t.Errorf("hub has %d of %d leaves, %d epochs", v.state.Size, d.book.last().size(), len(d.book.epochs))
	}
	if w.result.Seen["hub-forgot healed"] == 0 || w.filed(intake.EvidenceForgot) == 0 {
		t.Error("nobody noticed that the hub forgot")
	}
}

func TestF12WhatBothHaveLostStaysVisible(t *testing.T) {
	w := town(t, 2, 1)
	d := w.devices[0]
	d.tap(30)
	w.pass(time.Minute)
	w.hub.backup() // the old one
	d.tap(100)
	w.pass(time.Minute)
	w.hub.backup()
	w.pass(time.Minute)
	if !d.book.prune() {
		t.Fatal("nothing was pruned")
	}
	archive := w.hub.shelf.logs[address{d.edge, d.book.last().id}].lines
	w.hub.restore(0)
	w.pass(2 * time.Minute)
	d.tap(5)
	w.pass(time.Minute)
	w.end(t)
	v := w.hub.shelf.logs[address{d.edge, d.book.last().id}]
	s, err := intake.ParseStanding(v.standing)
	if err != nil || len(s.Lost) != 1 || s.Lost[0].To != d.book.last().pruned {
		t.Fatalf("standing %q, pruned %d", v.standing, d.book.last().pruned)
	}
	for _, f := range w.hub.shelf.evidence {
		if f.Kind == intake.EvidenceLost {
			gap, err := intake.ParseGap(f.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if err := gap.Fill(archive[gap.From:gap.To]); err != nil {
				t.Errorf("the archive does not heal it: %v", err)
			}
		}
	}
}

func TestF13OlderDiskThatWroteNothingStartsANewEpoch(t *testing.T) {
	w := town(t, 3, 1)
	d := w.devices[0]
	d.tap(10)
	w.pass(time.Minute)
	old := d.book.copy()
	d.tap(10)
	w.pass(time.Minute)
	// The older disk goes in without a start of the program, which would write a leaf.
	d.book = old
	d.hand.Log, d.hand.Origin = old, old.origin
	d.disconnect()
	d.connect(time.Second)
	w.pass(time.Minute)
	d.tap(3)
	w.end(t)
	if len(old.epochs) != 2 || w.result.Seen["epoch restored"] != 1 || old.last().replays(t) != 0 {
		t.Errorf("%d epochs, %d replayed", len(old.epochs), old.last().replays(t))
	}
	if w.hub.shelf.logs[address{d.edge, old.epochs[0].id}].standing != "sealed limit=21" {
		t.Errorf("old epoch: %s", w.hub.shelf.logs[address{d.edge, old.epochs[0].id}].standing)
	}
}

func TestF14OlderDiskThatWroteIsAForkAndLosesNoTap(t *testing.T) {
	w := town(t, 4, 1)
	d := w.devices[0]
	d.tap(10)
	w.pass(time.Minute)
	old := d.book.copy()
	d.tap(10)
	w.pass(time.Minute)
	d.crash("for an older disk")
	d.book = old
	d.noUp, d.noDown = true, true
	w.pass(time.Minute)
	d.tap(7) // offline
	w.pass(time.Minute)
	d.noUp, d.noDown = false, false
	w.pass(3 * time.Minute)
	w.end(t)
	if got := old.last().replays(t); got != 8 { // the boot leaf and seven taps
		t.Errorf("%d leaves carried over, want 8", got)
	}
	if w.filed(intake.EvidenceFork) == 0 || !d.machine.Report().Held {
		t.Error("no evidence, or not held")
	}
}

func TestF15TwoDevicesWithOneKeyAreFoundWithinAMinute(t *testing.T) {
	w := town(t, 5, 1)
	d := w.devices[0]
	d.tap(3)
	w.pass(time.Minute)
	c := w.device(d.edge)
	c.disk, c.book = d.disk, d.book.copy()
	c.start()
	w.pass(time.Minute)
	if w.filed(intake.EvidenceDuplicate) == 0 {
		t.Error("the hub has no evidence after a minute")
	}
	if !d.machine.Report().Duplicate && !c.machine.Report().Duplicate {
		t.Error("no tamper alarm at either device")
	}
	d.tap(4)
	c.tap(4)
	w.end(t)
}

func TestF16TwoDevicesInTurnForkAtTheFirstConflict(t *testing.T) {
	w := town(t, 6, 1)
	d := w.devices[0]
	d.tap(3)
	w.pass(time.Minute)
	copied := d.book.copy()
	d.disconnect()
	w.pass(time.Minute)
	c := w.device(d.edge)
	c.disk, c.book = d.disk, copied
	c.start()
	c.tap(2)
	w.pass(time.Minute)
	c.crash("for good")
	c.run++ // it does not start again
	d.tap(2)
	d.connect(time.Second)
	w.pass(2 * time.Minute)
	w.devices = w.devices[:1]
	w.end(t)
	if got := d.book.last().replays(t); got != 2 || w.filed(intake.EvidenceFork) == 0 {
		t.Errorf("%d carried over, %d proofs", got, w.filed(intake.EvidenceFork))
	}
}

func TestF9ThreeWeeksApartAreCaughtUp(t *testing.T) {
	w := town(t, 7, 1)
	w.most *= 100 // three weeks of a hub that looks at its watch every second
	d := w.devices[0]
	d.noUp, d.noDown = true, true
	d.disconnect()
	for range 21 {
		w.pass(24 * time.Hour)
		d.tap(200)
	}
	w.pass(time.Minute)
	d.noUp, d.noDown = false, false
	w.end(t)
	if got := d.machine.Report().Hub; got < 21*200 {
		t.Errorf("hub has %d", got)
	}
}

func TestF10AnEdgeThatIsHeardButHearsNothingPrunesNothing(t *testing.T) {
	w := town(t, 8, 1)
	d := w.devices[0]
	d.noDown = true
	d.tap(50)
	w.pass(10 * time.Minute)
	w.hub.backup()
	w.pass(time.Minute)
	if d.book.last().receipt > 1 || d.book.prune() {
		t.Errorf("receipt %d without having heard one", d.book.last().receipt)
	}
	w.end(t)
}

func TestF24FullHubDiskHealsByItself(t *testing.T) {
	w := town(t, 9, 2)
	w.hub.shelf.full = true
	for _, d := range w.devices {
		d.tap(40)
	}
	w.pass(3 * time.Minute)
	for _, d := range w.devices {
		if d.book.last().receipt > 1 {
			t.Error("acknowledged with a full disk")
		}
	}
	w.hub.shelf.full = false
	w.pass(2 * time.Minute)
	w.end(t)
}

func TestF31ASlowHubIsNotFlooded(t *testing.T) {
	w := town(t, 10, 3)
	w.hub.slow = true
	for _, d := range w.devices {
		d.tap(4000)
	}
	most := 0
	for range 120 {
		w.pass(time.Second)
		most = max(most, len(w.hub.inbox))
		for _, d := range w.devices {
			if n := d.machine.Report().InFlight; n > outbox.Window {
				t.Fatalf("%d batches in flight", n)
			}
		}
	}
	w.end(t)
	// 48 batches would do in order; the network mixes them up, and the hub takes 0.8 s for each.
	t.Logf("at most %d messages waited, %d were said", most, w.result.Messages)
	if most > 3*intake.MaxWaiting || w.result.Messages > 1000 {
		t.Errorf("%d messages waited, %d were said", most, w.result.Messages)
	}
}

func TestF32AThousandEdgesReconnectWithinAMinute(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	w := town(t, 11, n)
	w.pass(time.Minute)
	w.hub.crash("with everybody on")
	for !w.hub.up {
		w.pass(100 * time.Millisecond)
	}
	began := w.now
	for {
		live := 0
		for _, d := range w.devices {
			if d.machine.Report().State == outbox.Live {
				live++
			}
		}
		if live == n {
			break
		}
		if w.now > began+time.Minute {
			t.Fatalf("%d of %d edges are live after a minute", live, n)
		}
		w.pass(time.Second)
	}
	t.Logf("all %d live %v after the hub was back", n, w.now-began)
}

// F39: what nobody signed moves nothing.
func TestF39ForgedReceiptsMoveNothing(t *testing.T) {
	w := town(t, 12, 1)
	d := w.devices[0]
	d.noUp = true
	d.tap(5)
	w.pass(10 * time.Second)
	c := d.book.last()
	before := c.receipt
	text, err := d.book.Checkpoint(t.Context(), c.id, c.size())
	if err != nil {
		t.Fatal(err)
	}
	stranger := newKey("weather/hub-witness")
	stranger.secret[0]++
	for name, note := range map[string][]byte{
		"unsigned by the hub": text,
		"another key":         append(bytes.Clone(text), "— weather/hub-witness AAAA\n"...),
		"empty":               nil,
	} {
		m, err := (&wire.Receipt{Generation: "x", Epoch: c.id, Size: c.size(), Backup: c.size(), Credit: 1, Note: note}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		d.receive(m)
		if c.receipt != before || d.book.prune() {
			t.Errorf("%s: receipt %d", name, c.receipt)
		}
	}
	w.end(t)
}
