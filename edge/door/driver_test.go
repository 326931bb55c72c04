package door

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// coil is a lock that remembers when it moved, and can fail or hang.
type coil struct {
	mu    sync.Mutex
	start time.Time
	moves []string
	free  bool
	fail  bool
	tries int
}

func (c *coil) Set(released bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tries++
	if c.fail {
		return errors.New("wire cut")
	}
	c.free = released
	c.moves = append(c.moves, fmt.Sprintf("%d %t", time.Since(c.start).Milliseconds(), released))
	return nil
}

func (c *coil) setFail(fail bool) { c.mu.Lock(); c.fail = fail; c.mu.Unlock() }

func (c *coil) isFree() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.free }

func (c *coil) log() string { c.mu.Lock(); defer c.mu.Unlock(); return strings.Join(c.moves, ", ") }

// diary is a sink.
type diary struct {
	mu    sync.Mutex
	lines []string
	hang  chan struct{}
}

func (d *diary) DoorEvent(e Event) {
	if d.hang != nil {
		<-d.hang
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, strings.TrimSpace(fmt.Sprintf("%d %s %s", e.At.Milliseconds(), e.State, e.Why)))
}

func (d *diary) log() []string { d.mu.Lock(); defer d.mu.Unlock(); return slices.Clone(d.lines) }

// scene runs a driver in fake time.
func scene(t *testing.T, cfg Config, f func(*testing.T, *Driver, *coil, *diary, context.CancelFunc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		lock, log := &coil{start: time.Now()}, &diary{}
		d, err := NewDriver(cfg, lock, log)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		synctest.Wait()
		f(t, d, lock, log, cancel)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func settle(d time.Duration) { time.Sleep(d); synctest.Wait() }

func TestTheShellReleasesAndRelocksInTime(t *testing.T) {
	cfg := full()
	cfg.HasFire = false
	scene(t, cfg, func(t *testing.T, d *Driver, lock *coil, log *diary, _ context.CancelFunc) {
		d.Input(Contact{false})
		settle(time.Second)
		if err := d.Release(Release{Why: "tap"}); err != nil {
			t.Fatal(err)
		}
		settle(0)
		if s := d.Status(); !s.Released || s.Open {
			t.Fatalf("%+v", s)
		}
		settle(2 * time.Second)
		d.Input(Contact{true})
		settle(time.Second)
		if want := "0 false, 1000 true, 3000 false"; lock.log() != want {
			t.Fatalf("lock moved %q, want %q", lock.log(), want)
		}
		settle(20 * time.Second)
		if s := d.Status(); s.Released || !s.Open || !s.Held {
			t.Fatalf("%+v", s)
		}
		want := []string{"0 closed start", "1000 unlocked tap", "3000 opened", "3000 relocked opened", "18000 held-warning", "23000 held"}
		if !slices.Equal(log.log(), want) {
			t.Fatalf("told %q", log.log())
		}
	})
}

func TestWhatTheLockIsMeantToBeIsKnownBeforeTheLockIsThere(t *testing.T) {
	scene(t, full(), func(t *testing.T, d *Driver, _ *coil, _ *diary, _ context.CancelFunc) {
		want := func(letting bool, when string) {
			t.Helper()
			if d.Letting() != letting {
				t.Errorf("%s: letting is %v", when, !letting)
			}
		}
		d.Input(Contact{false})
		d.Input(Fire{false})
		settle(time.Second)
		want(false, "at rest")
		if err := d.Release(Release{Why: "tap"}); err != nil {
			t.Fatal(err)
		}
		want(true, "asked, and not taken yet")
		settle(time.Second)
		want(true, "in a release")
		d.Input(Contact{true})
		settle(0)
		want(false, "after the opening")
		d.Input(Contact{false})
		for range inputQueue + 3 { // some are refused
			_ = d.Release(Release{Why: "tap"})
		}
		settle(time.Minute)
		want(false, "after more wishes than it takes")
		d.Input(Fire{true})
		want(true, "in a fire")
		settle(time.Second)
		d.Input(Fire{false})
		want(false, "after the fire")
		settle(time.Second)
		want(false, "long after the fire")
	})
}

func TestAStartSecuresALockThatWasLeftReleased(t *testing.T) {
	scene(t, full(), func(t *testing.T, d *Driver, lock *coil, _ *diary, _ context.CancelFunc) {
		settle(fireWait)
		if lock.log() != "500 false" {
			t.Fatalf("without a word from the fire input: %q", lock.log())
		}
	})
	scene(t, full(), func(t *testing.T, d *Driver, lock *coil, _ *diary, _ context.CancelFunc) {
		settle(100 * time.Millisecond)
		d.Input(Fire{false})
		settle(0)
		if lock.log() != "100 false" {
			t.Fatalf("as soon as there is no fire: %q", lock.log())
		}
	})
	scene(t, full(), func(t *testing.T, d *Driver, lock *coil, _ *diary, _ context.CancelFunc) {
		settle(100 * time.Millisecond)
		d.Input(Fire{true})
		settle(time.Hour)
		if lock.log() != "100 true" {
			t.Fatalf("a start in a fire must never lock: %q", lock.log())
		}
	})
}

func TestTheEndSecuresUnlessThereIsFire(t *testing.T) {
	scene(t, full(), func(t *testing.T, d *Driver, lock *coil, _ *diary, stop context.CancelFunc) {
		d.Input(Fire{false})
		_ = d.Release(Release{})
		settle(time.Second)
		if !lock.isFree() {
			t.Fatal("not released")
		}
		stop()
		settle(0)
		if lock.isFree() {
			t.Fatal("left released")
		}
	})
	scene(t, full(), func(t *testing.T, d *Driver, lock *coil, _ *diary, stop context.CancelFunc) {
		d.Input(Fire{true})
		settle(time.Second)
		stop()
		settle(time.Hour)
		if !lock.isFree() {
			t.Fatal("locked people in a fire")
		}
	})
}

// hung runs only the guard of a driver: to the lock, that is a machine whose goroutine has hung.
func hung(t *testing.T, f func(*testing.T, *Driver, *coil)) {
	synctest.Test(t, func(t *testing.T) {
		lock := &coil{start: time.Now()}
		d, err := NewDriver(full(), lock, &diary{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go d.guard.run(ctx)
		d.Input(Fire{false})
		settle(0)
		f(t, d, lock)
		cancel()
		synctest.Wait()
	})
}

func TestAHungMachineCannotKeepTheDoorReleased(t *testing.T) {
	hung(t, func(t *testing.T, d *Driver, lock *coil) {
		d.guard.release() // the machine's last act
		settle(14_999 * time.Millisecond)
		if !lock.isFree() {
			t.Fatal("dropped too early")
		}
		settle(time.Millisecond)
		if lock.isFree() {
			t.Fatal("still released after the longest pulse")
		}
	})
}

func TestAHungMachineCannotKeepPeopleInAFire(t *testing.T) {
	hung(t, func(t *testing.T, d *Driver, lock *coil) {
		d.guard.release()
		settle(time.Second)
		d.Input(Fire{true})
		settle(time.Hour)
		if !lock.isFree() {
			t.Fatal("the longest pulse ended the fire's release")
		}
		d.Input(Fire{false})
		settle(0)
		if lock.isFree() {
			t.Fatal("still released after the fire")
		}
	})
}

func TestALockThatCannotBeDrivenIsTriedAgainAndToldOnce(t *testing.T) {
	cfg := full()
	cfg.HasFire = false
	scene(t, cfg, func(t *testing.T, d *Driver, lock *coil, log *diary, _ context.CancelFunc) {
		_ = d.Release(Release{Why: "tap"})
		settle(0)
		lock.setFail(true)
		settle(time.Minute)
		if !d.Status().LockFailing || lock.tries < 30 || lock.tries > 60 {
			t.Fatalf("%d tries in a minute, %+v", lock.tries, d.Status())
		}
		lock.setFail(false)
		settle(lockRetryMost)
		if lock.isFree() || d.Status().LockFailing {
			t.Fatal("not secured after the wire was mended")
		}
		var told []string
		for _, l := range log.log() {
			if strings.Contains(l, "stuck") {
				told = append(told, l)
			}
		}
		if len(told) != 2 || !strings.Contains(told[0], "wire cut") || !strings.Contains(told[1], "again") {
			t.Fatalf("told %q", told)
		}
	})
}

func TestALockThatFailsWhileReleasingIsNotReleasedLate(t *testing.T) {
	cfg := full()
	cfg.HasFire = false
	scene(t, cfg, func(t *testing.T, d *Driver, lock *coil, _ *diary, _ context.CancelFunc) {
		lock.setFail(true)
		_ = d.Release(Release{})
		settle(6 * time.Second)
		lock.setFail(false)
		settle(time.Minute)
		if strings.Contains(lock.log(), "true") {
			t.Fatalf("opened behind a person who had gone: %q", lock.log())
		}
	})
}

func TestAReleaseThatWaitedTooLongIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := full()
		cfg.HasFire = false
		lock, log := &coil{start: time.Now()}, &diary{}
		d, _ := NewDriver(cfg, lock, log)
		_ = d.Release(Release{Why: "tap"}) // nobody works yet
		time.Sleep(releaseFresh + time.Millisecond)
		go func() { _ = d.Run(t.Context()) }()
		settle(time.Second)
		if strings.Contains(lock.log(), "true") {
			t.Fatalf("opened for a person who had gone: %q", lock.log())
		}
		if l := log.log(); len(l) != 1 || !strings.Contains(l[0], "too late") {
			t.Fatalf("told %q", l)
		}
	})
}

func TestNobodyWaitsForAHungMachineAndNoLevelIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := full()
		lock, log := &coil{start: time.Now()}, &diary{}
		d, _ := NewDriver(cfg, lock, log)
		for range inputQueue / 2 {
			d.Input(Contact{false})
			d.Input(Exit{false})
		}
		if err := d.Release(Release{}); !errors.Is(err, ErrBusy) {
			t.Fatalf("a full queue: %v", err)
		}
		d.Input(Contact{true})
		d.Input(Fire{true})
		d.Input(Exit{true})
		go func() { _ = d.Run(t.Context()) }()
		settle(time.Second)
		if s := d.Status(); !s.Open || !s.Fire || !s.Released || s.Overrun != 4 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestASlowListenerSlowsNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := full()
		cfg.HasFire, cfg.HasContact = false, false
		lock, log := &coil{start: time.Now()}, &diary{hang: make(chan struct{})}
		d, _ := NewDriver(cfg, lock, log)
		go func() { _ = d.Run(t.Context()) }()
		for range eventQueue {
			settle(6 * time.Second)
			_ = d.Release(Release{})
			settle(0)
			if !lock.isFree() {
				t.Fatal("the lock waits for the listener")
			}
		}
		if d.Status().Dropped == 0 {
			t.Fatal("nothing was counted as dropped")
		}
		close(log.hang)
		settle(0)
	})
}

func TestFloatingWiresMoveNothing(t *testing.T) {
	scene(t, Config{ID: "front"}, func(t *testing.T, d *Driver, lock *coil, _ *diary, _ context.CancelFunc) {
		d.Input(Fire{true})
		d.Input(Exit{true})
		d.Input(Contact{true})
		settle(time.Minute)
		if lock.log() != "0 false" {
			t.Fatalf("lock moved: %q", lock.log())
		}
	})
}

func ExampleMachine() {
	m := New(Config{ID: "front", HasContact: true}.WithDefaults())
	m.Step(0, Contact{Open: false})
	for _, in := range []Input{Release{Why: "tap"}, Contact{Open: true}} {
		for _, out := range m.Step(time.Second, in) {
			if d, ok := out.(Drive); ok {
				fmt.Println("released:", d.Released)
			}
		}
	}
	// Output:
	// released: true
	// released: false
}
