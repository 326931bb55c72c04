package chip

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/edge/reader"
	"kith/edge/reader/pn532"
	"kith/internal/card"
)

var testReader = card.ReaderID{Site: [16]byte{1}, Location: [16]byte{2}}

// door is a Sink that proves every card and remembers whom it would have let in.
type door struct {
	presented    func(ctx context.Context, p reader.Presentation)
	granted      chan grant
	mu           sync.Mutex
	up, held     bool
	felt, failed int
}

type grant struct {
	credential card.Credential
	proof      card.Proof
	took       time.Duration // from the moment the card was felt
}

func newDoor() *door { return &door{granted: make(chan grant, 1024)} }

func (d *door) Felt() {
	d.mu.Lock()
	d.felt++
	d.held = true
	d.mu.Unlock()
}

func (d *door) Presented(ctx context.Context, p reader.Presentation) {
	if d.presented != nil {
		d.presented(ctx, p)
		return
	}
	for _, ch := range p.Channels {
		if ch == nil {
			continue
		}
		credential, proof, err := card.Prove(ctx, ch, testReader, nil)
		if err != nil {
			d.mu.Lock()
			d.failed++
			d.mu.Unlock()
			continue
		}
		select {
		case d.granted <- grant{credential, proof, time.Since(p.Felt)}:
		default:
		}
	}
}

func (d *door) Unreadable(string) {}

func (d *door) Gone() {
	d.mu.Lock()
	d.held = false
	d.mu.Unlock()
}

func (d *door) State(up bool, _ string) {
	d.mu.Lock()
	d.up = up
	d.mu.Unlock()
}

func (d *door) isFree() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.held
}

func (d *door) isUp() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.up
}

// drive runs our driver on the reader behind link until the returned function is called.
func drive(t testing.TB, link string, d reader.Sink, opts pn532.Options) (stop func()) {
	t.Helper()
	r := pn532.New(func() (pn532.Transport, error) {
		h, err := pn532.OpenHSU(link, pn532.HSUOptions{})
		if err != nil {
			return nil, err
		}
		return h, nil
	}, opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, d) }()
	return sync.OnceFunc(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("the driver did not stop within 5 s")
		}
	})
}

// waitFor asks until it is so.
func waitFor(t testing.TB, d time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if so() {
			return
		}
	}
	t.Fatalf("not within %v: %s", d, what)
}

// How long a hand holds a card, and how long it is away: longer than a field flickers.
const (
	tapHeld = 150 * time.Millisecond
	tapAway = 500 * time.Millisecond
)

// tapping holds the card before the reader and takes it away, again and again.
func tapping(field *Field, k *Card) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			field.Place(k)
			if ended(quit, tapHeld) {
				return
			}
			field.Clear()
			if ended(quit, tapAway) {
				return
			}
		}
	}()
	return func() { close(quit); <-done; field.Clear() }
}

func ended(quit <-chan struct{}, within time.Duration) bool {
	select {
	case <-quit:
		return true
	case <-time.After(within):
		return false
	}
}

// Under every fault: no panic, nobody but the card's owner is ever let in, and within 3 s of the
// reader's recovery a tap is served again. Afterwards nothing is left running.
func TestTheDriverOutlivesEveryFault(t *testing.T) {
	goroutines, heap := settledGoroutines(), heapInUse()
	var trials sync.WaitGroup
	for _, fault := range Faults() {
		trials.Go(func() {
			healed, err := outlive(t, fault)
			if err != nil {
				t.Errorf("%s: %v", fault, err)
				return
			}
			t.Logf("%s: served %v after the reader behaved again", fault, healed.Round(time.Millisecond))
		})
	}
	trials.Wait()
	waitFor(t, 5*time.Second, fmt.Sprintf("back to %d goroutines", goroutines), func() bool {
		return runtime.NumGoroutine() <= goroutines
	})
	if grown := int64(heapInUse()) - int64(heap); grown > 4<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// outlive runs one reader into one fault and out of it, a hand tapping all the while.
func outlive(t *testing.T, fault Fault) (healed time.Duration, err error) {
	const (
		trouble  = 900 * time.Millisecond
		recovery = 3 * time.Second
	)
	link := filepath.Join(t.TempDir(), "reader")
	field := NewField()
	c, err := Open(field, Options{Link: link, ReturnAfter: 100 * time.Millisecond})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	k := newPKOCCard(t)
	d := newDoor()
	defer drive(t, link, d, pn532.Options{})()
	defer tapping(field, k)()
	serve := func(within time.Duration, when string) error {
		select {
		case g := <-d.granted:
			if g.credential.ID() != k.credential.ID() {
				return fmt.Errorf("%s a card that does not exist was let in", when)
			}
			return nil
		case <-time.After(within):
			return fmt.Errorf("no tap was served within %v %s", within, when)
		}
	}
	if err := serve(5*time.Second, "before the fault"); err != nil {
		return 0, err
	}
	if err := c.Inject(fault, -1); err != nil {
		return 0, err
	}
	time.Sleep(trouble)
	if err := c.Inject(FaultNone, 0); err != nil {
		return 0, err
	}
	for len(d.granted) > 0 { // taps that got through all the same
		if err := serve(time.Second, "during the fault"); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	err = serve(recovery, "after the fault")
	return time.Since(start), err
}

// A fault that strikes between SELECT and AUTHENTICATE, the worst moment: the tap may be lost, but
// it admits nobody else, and the next one is served.
func TestAFaultInsideATransactionAdmitsNobodyElse(t *testing.T) {
	t.Parallel()
	var trials sync.WaitGroup
	for _, fault := range Faults() {
		trials.Go(func() {
			if err := strikeInside(t, fault); err != nil {
				t.Errorf("%s: %v", fault, err)
			}
		})
	}
	trials.Wait()
}

func strikeInside(t *testing.T, fault Fault) error {
	link := filepath.Join(t.TempDir(), "reader")
	field := NewField()
	c, err := Open(field, Options{Link: link, ReturnAfter: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	defer c.Close()
	k := newPKOCCard(t)
	answer, armed := k.Answer, true // armed belongs to the chip's goroutine
	k.Answer = func(apdu []byte) []byte {
		if apdu[1] == 0xA4 && armed {
			armed = false
			c.fault, c.left = fault, 1
		}
		return answer(apdu)
	}
	d := newDoor()
	defer drive(t, link, d, pn532.Options{ExchangeWait: 300 * time.Millisecond})()
	defer tapping(field, k)()
	for served := 0; served < 2; served++ {
		select {
		case g := <-d.granted:
			if g.credential.ID() != k.credential.ID() {
				return fmt.Errorf("a card that does not exist was let in")
			}
		case <-time.After(6 * time.Second):
			return fmt.Errorf("%d taps served, want 2", served)
		}
	}
	struck := false
	c.do(func() { struck = !armed && c.left == 0 })
	if !struck {
		return fmt.Errorf("the fault never struck")
	}
	return nil
}

func settledGoroutines() int {
	time.Sleep(20 * time.Millisecond)
	return runtime.NumGoroutine()
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestACardThatLeavesOrThinksLongDoesNotConfuseTheDriver(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "reader")
	_, field := openChip(t, Options{Link: link})
	d := newDoor()
	defer drive(t, link, d, pn532.Options{})()
	waitFor(t, 3*time.Second, "the reader is up", d.isUp)
	leaver := newPKOCCard(t)
	leaver.LeaveAfter = 2 // in the middle of AUTHENTICATE
	field.Place(leaver)
	waitFor(t, 3*time.Second, "the lost tap is noticed", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.failed == 1
	})
	if len(d.granted) != 0 {
		t.Fatal("a card that left was let in")
	}
	slow := newPKOCCard(t)
	slow.Delay = 300 * time.Millisecond
	field.Place(slow)
	select {
	case g := <-d.granted:
		if g.credential.ID() != slow.credential.ID() || g.took < 2*slow.Delay {
			t.Errorf("let in after %v", g.took)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("a slow card was not read")
	}
}

// Ten thousand proofs through terminal, driver and card: the card never sees a transaction id
// twice. (A reader that repeats one could be answered from a recording.)
func TestNoTransactionIDComesTwiceInTenThousandTaps(t *testing.T) {
	const taps = 10_000
	link := filepath.Join(t.TempDir(), "reader")
	c, field := openChip(t, Options{Link: link})
	k := newPKOCCard(t)
	answer := k.Answer
	seen := make(map[string]bool, taps) // written on the chip's goroutine
	twice := 0
	k.Answer = func(apdu []byte) []byte {
		if len(apdu) > 28 && apdu[0] == 0x80 {
			// 80 80 00 01 Lc, 5C 02 0100, then 4C 10 and the id
			if apdu[9] != 0x4C || apdu[10] != 0x10 {
				t.Errorf("AUTHENTICATE %s", hex.EncodeToString(apdu))
			}
			id := string(apdu[11:27])
			if seen[id] {
				twice++
			}
			seen[id] = true
		}
		return answer(apdu)
	}
	d := newDoor()
	proofs, done := 0, make(chan struct{})
	d.presented = func(ctx context.Context, p reader.Presentation) {
		defer close(done)
		for ; proofs < taps; proofs++ {
			credential, _, err := card.Prove(ctx, p.Channels[0], testReader, nil)
			if err != nil {
				t.Errorf("tap %d: %v", proofs, err)
				return
			}
			if credential.ID() != k.credential.ID() {
				t.Errorf("tap %d proved another card", proofs)
			}
		}
	}
	field.Place(k)
	start := time.Now()
	stop := drive(t, link, d, pn532.Options{TransactionWait: time.Minute})
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		t.Error("not done within a minute")
	}
	took := time.Since(start)
	stop()
	c.do(func() {}) // the chip is at rest: what it wrote may be read
	if len(seen) < taps || twice > 0 {
		t.Errorf("%d ids in %d taps, %d of them twice", len(seen), taps, twice)
	}
	t.Logf("%d proofs in %v, %v each", taps, took.Round(time.Millisecond), (took / taps).Round(time.Microsecond))
}

// What `card new` writes and `reader` holds is what the driver proves.
func TestACardFileHeldByTheCommandIsProvenByTheDriver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "card.pem"), filepath.Join(dir, "reader")
	var id bytes.Buffer
	if code := CardCommand(t.Context(), []string{"new", file}, nil, &id, io.Discard); code != exitOK {
		t.Fatalf("card new: exit %d", code)
	}
	stdin, hand := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- ReaderCommand(t.Context(), []string{"--tty", link, "--card", file, "--json"}, stdin, io.Discard, io.Discard)
	}()
	d := newDoor()
	defer drive(t, link, d, pn532.Options{})()
	waitFor(t, 5*time.Second, "the reader is up", d.isUp)
	fmt.Fprintln(hand, "tap 300")
	select {
	case g := <-d.granted:
		if got := g.credential.ID(); got != strings.TrimSpace(id.String()) {
			t.Errorf("proven %s, the file is %s", got, id.String())
		}
	case <-time.After(5 * time.Second):
		t.Error("the tap was not served")
	}
	fmt.Fprintln(hand, "quit")
	if code := <-done; code != exitOK {
		t.Errorf("exit %d", code)
	}
}

// A slow card and one that leaves too early are also at hand for whoever has no Go, by words.
func TestTheReaderIsToldOfSlowAndLeavingCards(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "card.pem"), filepath.Join(dir, "reader")
	if code := CardCommand(t.Context(), []string{"new", file}, nil, io.Discard, io.Discard); code != exitOK {
		t.Fatalf("card new: exit %d", code)
	}
	stdin, hand := io.Pipe()
	events, out := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- ReaderCommand(t.Context(), []string{"--tty", link, "--card", file}, stdin, out, io.Discard)
		out.Close()
	}()
	said := lines(t.Context(), events)
	tell := func(word, answer string) {
		t.Helper()
		go fmt.Fprintln(hand, word)
		for limit := time.After(20 * time.Second); ; {
			select {
			case line, ok := <-said:
				if !ok {
					t.Fatalf("%s: the reader ended", word)
				}
				if strings.Contains(line, answer) {
					return
				}
			case <-limit:
				t.Fatalf("%s: no %q", word, answer)
			}
		}
	}
	tell("", `"tty"`)
	d := newDoor()
	defer drive(t, link, d, pn532.Options{})()
	waitFor(t, 20*time.Second, "the reader is up", d.isUp)
	const slow = 400 * time.Millisecond // of each of a proof's two exchanges
	serve := func() time.Duration {
		t.Helper()
		select {
		case g := <-d.granted:
			return g.took
		case <-time.After(20 * time.Second):
			t.Fatal("the tap was not served")
		}
		return 0
	}
	tell("slow 400", "slow 400")
	tell("place", "placed 1")
	if took := serve(); took < 2*slow {
		t.Errorf("served %v after a card that takes %v twice was felt", took, slow)
	}
	tell("leave 1", "lift it first")
	lift := func() {
		t.Helper()
		tell("lift", "lifted")
		waitFor(t, 20*time.Second, "the driver has seen the card go", d.isFree) // or it would be the same stay
	}
	lift()
	tell("slow 0", "slow 0")
	tell("leave 2", "leave 2")
	tell("place", "left 2")
	if n := len(d.granted); n != 0 {
		t.Errorf("%d proofs of a card that left in the middle of one", n)
	}
	lift()
	tell("leave 0", "leave 0")
	tell("tap 3000", "placed 1")
	serve()
	for word, answer := range map[string]string{"slow": "want a number", "slow -1": "up to 60000", "leave 1001": "up to 1000", "leave 1 a b": "perhaps a card",
		"slow 5 uid:11223344": "exchanges nothing", "leave 1 /nonexistent": "nonexistent"} {
		tell(word, answer)
	}
	go fmt.Fprintln(hand, "quit")
	for range said { // until it has ended
	}
	if code := <-done; code != exitOK {
		t.Errorf("exit %d", code)
	}
}
