package week

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	edgeDisk = "48m" // room for the reserve of the journal, and not much more
	hubDisk  = "24m"
	fullTaps = 12 // taps while a disk is full
)

// smallDisk mounts a small file system of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		if os.Getenv("KITH_PEERS") == "required" && os.Geteuid() == 0 {
			t.Fatalf("mounting a small disk: %v", err)
		}
		t.Skipf("SKIP: may not mount a small disk here (%v); what a full disk does is NOT tested", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("the small disk does not go away: %v", err)
		}
	})
	return dir
}

// ballast takes what is left of a disk, to the last block.
func ballast(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "ballast"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			return
		}
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func unload(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
}

func TestAFullDiskAtAnEdgeStopsNoDecisionAndLosesNoFact(t *testing.T) {
	noLeaks(t)
	disk, dir := smallDisk(t, edgeDisk), quickDir(t)
	hub, people := town(t, filepath.Join(dir, "hub"))
	h := admit(t, hub.x, "lisbon", "front", dir, hub.x.BrokerAddr())
	h.real, h.state = true, filepath.Join(disk, "state")
	h.start()
	t.Cleanup(h.stop)
	eventually(t, catchUp, "the edge has a roster", func() bool { code, _, err := page(h.app.Addr(), "/readyz"); return err == nil && code == http.StatusOK })
	knock := func(n int, when string) {
		for i := range n {
			h.expect(true, people[i%len(people)], "in", when)
			time.Sleep(gap)
		}
	}
	waiting := func() float64 { return metric(t, h.app.Addr(), "kith_facts_waiting") }

	knock(2, "a good disk")
	h.settled()
	before := h.locks.releases()
	for round := 0; waiting() == 0; round++ { // the journal gives up its reserve first
		if round > 20 {
			t.Fatal("the disk does not fill up")
		}
		ballast(t, disk)
		knock(1, "a disk that fills up")
	}
	first := len(h.taps)
	began := time.Now()
	knock(fullTaps, "a full disk")
	each := time.Since(began)/fullTaps - gap
	if n := waiting(); n < fullTaps {
		t.Errorf("%v facts wait in memory after %d taps on a full disk", n, fullTaps)
	}
	if _, text, err := page(h.app.Addr(), "/health"); err != nil || !strings.Contains(text, "wait in memory") {
		t.Errorf("health does not say that facts wait in memory: %v %s", err, text)
	}
	if got := h.locks.releases() - before; got != h.opened()-2 {
		t.Errorf("the lock let go %d times for %d taps", got, h.opened()-2)
	}
	unload(t, disk)
	eventually(t, catchUp, "facts are written once there is room", func() bool { return waiting() == 0 })
	knock(1, "a disk with room again")
	h.settled()
	if lost := metric(t, h.app.Addr(), "kith_facts_lost"); lost != 0 {
		t.Errorf("%v facts were lost", lost)
	}
	h.stop()
	hub.verify()
	hub.end()
	got := hub.export()[h.id]
	h.checkDelivered(got)
	h.checkLocks()
	h.verify()
	for i, g := range got {
		if want := i >= first && i < first+fullTaps; want && !g.late || g.late && i > first+fullTaps {
			t.Errorf("tap %d of %d: late is %v", i, len(got), g.late)
		}
	}
	t.Logf("%d taps on a full disk, %s each from card to lock", fullTaps, each.Round(time.Millisecond))
}

// The reserve of the journal is also what a start on a full disk lives from.
func TestAnEdgeWithItsReserveStartsOnAFullDisk(t *testing.T) {
	noLeaks(t)
	disk, dir := smallDisk(t, edgeDisk), quickDir(t)
	hub, people := town(t, filepath.Join(dir, "hub"))
	h := admit(t, hub.x, "lisbon", "front", dir, hub.x.BrokerAddr())
	h.real, h.state = true, filepath.Join(disk, "state")
	h.start()
	t.Cleanup(h.stop)
	eventually(t, catchUp, "the edge has a roster", func() bool { code, _, err := page(h.app.Addr(), "/readyz"); return err == nil && code == http.StatusOK })
	h.settled()
	h.stop()
	ballast(t, disk)
	h.start()
	ballast(t, disk) // and what the start has set free
	for range 3 {
		h.expect(true, people[0], "in", "a start on a full disk")
		time.Sleep(gap)
	}
	unload(t, disk)
	eventually(t, catchUp, "facts are written once there is room", func() bool { return metric(t, h.app.Addr(), "kith_facts_waiting") == 0 })
	h.settled()
	h.stop()
	hub.end()
	h.checkDelivered(hub.export()[h.id])
	h.checkLocks()
}

// The broker has its scratch space below the state directory. Once it lies on the full disk too, and once it does not, so
// that a receipt that should not be would also arrive.
func TestAHubWithAFullDiskAcknowledgesNothingAndRecoversByItself(t *testing.T) {
	for name, apart := range map[string]bool{"the broker's disk is full too": false, "only the database's disk is full": true} {
		t.Run(name, func(t *testing.T) { fullHub(t, apart) })
	}
}

func fullHub(t *testing.T, apart bool) {
	noLeaks(t)
	disk, dir := smallDisk(t, hubDisk), quickDir(t)
	if apart {
		scratch := filepath.Join(dir, "scratch")
		if err := errors.Join(os.MkdirAll(filepath.Join(disk, "hub"), 0o700), os.Mkdir(scratch, 0o700), os.Symlink(scratch, filepath.Join(disk, "hub", "broker"))); err != nil {
			t.Fatal(err)
		}
	}
	hub, people := town(t, filepath.Join(disk, "hub"))
	h := settle(t, hub, "front", dir, hub.x.BrokerAddr())
	knock := func(n int, when string) {
		for i := range n {
			h.expect(true, people[i%len(people)], "in", when)
			time.Sleep(gap)
		}
	}
	knock(2, "a good hub")
	h.settled()
	failed := func() float64 { return metric(t, hub.x.Addr(), "kith_intake_failed_commits") }
	covered := func() float64 { return metric(t, h.app.Addr(), "kith_journal_receipted_leaves") }
	well := func() bool { code, _, err := page(hub.x.Addr(), "/health"); return err == nil && code == http.StatusOK }
	eventually(t, catchUp, "the hub is well", well)
	for round := 0; failed() == 0; round++ { // what SQLite has already taken from the disk goes first
		if round > 60 {
			t.Fatal("the hub's disk does not fill up")
		}
		ballast(t, disk)
		knock(1, "a hub whose disk fills up")
	}
	at, stored := covered(), metric(t, hub.x.Addr(), "kith_intake_leaves")
	if at > stored {
		t.Errorf("receipts cover %v leaves and the hub has stored %v", at, stored)
	}
	knock(fullTaps, "a hub with a full disk")
	if now := covered(); now != at {
		t.Errorf("receipts went from %v to %v leaves while the hub's disk was full", at, now)
	}
	if code, text, err := page(hub.x.Addr(), "/health"); err != nil || code == http.StatusOK || !strings.Contains(text, "nothing of it is acknowledged") {
		t.Errorf("the hub's health does not turn red: %d %v %s", code, err, text)
	}
	unload(t, disk)
	began := time.Now()
	h.settled()
	t.Logf("caught up %s after there was room", time.Since(began).Round(time.Millisecond))
	eventually(t, catchUp, "the hub's health is good again", well)
	h.stop()
	hub.verify()
	hub.end()
	h.checkDelivered(hub.export()[h.id])
	h.checkLocks()
	h.verify()
}
