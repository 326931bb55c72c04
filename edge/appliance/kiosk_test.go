package appliance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/configs"
	"kith/edge/board"
	"kith/edge/kiosk"
	"kith/edge/reader"
	"kith/internal/card"
	"kith/internal/command"
	"kith/internal/event"
	"kith/internal/journal"
)

// pins is a board that remembers what was driven.
type pins struct {
	mu     sync.Mutex
	set    map[string]int // times a signal was driven to 1 or more
	level  map[string]int // as last driven
	inputs chan board.Change
}

func (p *pins) Set(signal string, v int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v > 0 {
		p.set[signal]++
	}
	p.level[signal] = v
	return nil
}

func (p *pins) Inputs() <-chan board.Change { return p.inputs }
func (p *pins) Close() error                { return nil }

func (p *pins) count(signal string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set[signal]
}

// hand presents cards at one reader.
type hand struct{ cards chan presented }

type presented struct {
	card *card.PKOCCard
	done chan struct{}
}

func (h hand) Run(ctx context.Context, s reader.Sink) error {
	s.State(true, "")
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-h.cards:
			s.Felt()
			s.Presented(ctx, reader.Presentation{Targets: []card.Target{{UID: []byte{4, 1, 2, 3, 4, 5, 6}, SAK: 0x20}}, Channels: []card.Channel{inHand{p.card}}})
			s.Gone()
			close(p.done)
		}
	}
}

func (h hand) show(c *card.PKOCCard) {
	p := presented{c, make(chan struct{})}
	h.cards <- p
	<-p.done
}

type inHand struct{ card *card.PKOCCard }

func (i inHand) Transceive(_ context.Context, apdu []byte) ([]byte, error) {
	return i.card.Transceive(apdu), nil
}

// cabin is a running lone edge with two people.
type cabin struct {
	dir      string
	spare    string // instead of the machine's memory
	pins     *pins
	hand     hand
	ana, ben *card.PKOCCard
	edge     *Appliance
	stop     func()
}

func newCabin(t *testing.T) *cabin {
	t.Helper()
	c := &cabin{dir: t.TempDir()}
	people := string(configs.Roster)
	for _, who := range []struct {
		card **card.PKOCCard
		old  string
	}{{&c.ana, "pkoc:0ec5d87dc39d14a2c5480686da860c82b16be0b6903b525f84848b79fd463e32"}, {&c.ben, "uid:04a1b2c3d4e580"}} {
		key, err := card.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		*who.card = card.NewPKOCCard(key)
		if !strings.Contains(people, who.old) {
			t.Fatalf("the example roster has no card %s", who.old)
		}
		people = strings.Replace(people, who.old, (*who.card).Credential().ID(), 1)
	}
	for name, b := range map[string]string{"roster.yaml": people, "edge.yaml": strings.Replace(string(configs.EdgeAlone), "127.0.0.1:8081", "127.0.0.1:0", 1)} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.start(t)
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *cabin) state() string { return filepath.Join(c.dir, "state") }

func (c *cabin) start(t *testing.T) {
	t.Helper()
	cfg, err := Load(filepath.Join(c.dir, "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c.pins, c.hand = &pins{set: map[string]int{}, level: map[string]int{}, inputs: make(chan board.Change)}, hand{make(chan presented)}
	c.edge, err = Open(t.Context(), cfg, Options{StateDir: c.state(), Version: "test", Clock: TrustedClock(), Board: c.pins, SpareDir: c.spare,
		Reader: func(Reader) (Presenter, error) { return c.hand, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.state(), addrFile), []byte(c.edge.Addr()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.edge.Run(ctx) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// edgeCommand runs a verb of the program against the running edge; the channel yields its output when it ends.
func (c *cabin) edgeCommand(t *testing.T, args ...string) <-chan string {
	out := make(chan string, 1)
	go func() {
		var b bytes.Buffer
		code := Program("test").Run(t.Context(), command.Streams{Out: &b, Err: &b}, append(args, "--config", filepath.Join(c.dir, "edge.yaml")))
		out <- fmt.Sprintf("%d %s", code, b.String())
	}()
	return out
}

// waits until an entry waits at the reader, in that state.
func (c *cabin) waits(t *testing.T, want bool) {
	t.Helper()
	for range 500 {
		if c.edge.kiosk.Takes("reader") == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no entry came to wait (want %v)", want)
}

func (c *cabin) leaves(t *testing.T, kind event.Kind) []journal.Entry {
	t.Helper()
	head := c.edge.journal.Head()
	all, err := c.edge.journal.Read(t.Context(), head.Epoch, 0, 200, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var out []journal.Entry
	for _, e := range all {
		if l, err := event.Parse(e.Leaf); err == nil && l.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

func TestAnEntryAtTheReaderIsInTheJournalAndTheDoorStaysShut(t *testing.T) {
	c := newCabin(t)
	out := c.edgeCommand(t, "entry", "add", "--action", "use", "--resource", "bed", "--quantity", "2", "--reader", "reader", "--json")
	c.waits(t, true)
	c.hand.show(c.ana)
	text := <-out
	var a kiosk.Answer
	if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "0 ")), &a); err != nil || a.State != kiosk.Recorded || a.Evidence != "A" {
		t.Fatalf("%v %s", err, text)
	}
	time.Sleep(100 * time.Millisecond) // a release would have reached the lock by now
	if n := c.pins.count("door/lock"); n != 0 {
		t.Fatalf("the door was opened %d times by a card that signed an entry", n)
	}
	if len(c.leaves(t, event.KindTap)) != 0 {
		t.Fatal("the entry's card was also a tap at the door")
	}
	uses := c.leaves(t, event.KindUse)
	if len(uses) != 1 {
		t.Fatalf("%d leaves", len(uses))
	}
	leaf, err := event.Parse(uses[0].Leaf)
	if err != nil {
		t.Fatal(err)
	}
	private, err := event.ParsePrivate(uses[0].Private)
	if err != nil {
		t.Fatal(err)
	}
	if err := card.CheckBinding(leaf, private); err != nil {
		t.Fatalf("what stands in the journal does not prove the card: %v", err)
	}
	if leaf.Commitment == nil || *leaf.Commitment != event.Commit(uses[0].Salt, uses[0].Private) || bytes.Contains(uses[0].Leaf, []byte("ana")) {
		t.Fatalf("the person is not behind a commitment: %s", uses[0].Leaf)
	}
	if want := fmt.Sprintf("%s/%d", leaf.Epoch, leaf.Index); a.Address != want {
		t.Fatalf("address %s, want %s", a.Address, want)
	}
	// The reader belongs to its door again.
	c.hand.show(c.ana)
	for range 200 { // the door's own goroutine drives the lock
		if c.pins.count("door/lock") > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n, taps := c.pins.count("door/lock"), len(c.leaves(t, event.KindTap)); n == 0 || taps != 1 {
		t.Fatalf("the next tap did not open the door: lock driven %d times, %d taps", n, taps)
	}
	if list := <-c.edgeCommand(t, "entry", "list"); !strings.HasPrefix(list, "0 ") || !strings.Contains(list, "use bed\t2 night\tof cabin\tevidence A") {
		t.Fatalf("%s", list)
	}
}

func TestTwoPeopleWitnessWorkAndAStrangerDoesNot(t *testing.T) {
	c := newCabin(t)
	out := c.edgeCommand(t, "entry", "add", "--action", "work", "--resource", "kitchen", "--quantity", "240", "--reader", "reader")
	c.waits(t, true)
	key, err := card.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c.hand.show(card.NewPKOCCard(key))
	c.hand.show(c.ben)
	c.hand.show(c.ben)
	c.hand.show(c.ana)
	if text := <-out; !strings.HasPrefix(text, "0 ") || !strings.Contains(text, "recorded, evidence A") {
		t.Fatal(text)
	}
	if c.pins.count("door/lock") != 0 {
		t.Fatal("the door opened")
	}
	if c.pins.count("reader/red") == 0 {
		t.Fatal("the stranger was not told")
	}
}

func TestLimitsStartedUsesAndCorrectionsOutliveARestart(t *testing.T) {
	c := newCabin(t)
	enter := func(who *card.PKOCCard, args ...string) string {
		t.Helper()
		out := c.edgeCommand(t, append([]string{"entry", "add", "--reader", "reader", "--json"}, args...)...)
		select {
		case text := <-out:
			return text // refused before a card was asked for
		case <-time.After(50 * time.Millisecond):
		}
		c.waits(t, true)
		c.hand.show(who)
		return <-out
	}
	var washed, begun kiosk.Answer
	text := enter(c.ana, "--action", "use", "--resource", "washing-machine", "--quantity", "3")
	if err := json.Unmarshal([]byte(text[2:]), &washed); err != nil || washed.State != kiosk.Recorded {
		t.Fatal(text)
	}
	text = enter(c.ben, "--action", "use", "--resource", "workshop", "--start")
	if err := json.Unmarshal([]byte(text[2:]), &begun); err != nil || begun.State != kiosk.Running {
		t.Fatal(text)
	}
	c.stop()
	c.start(t)
	if text = enter(c.ana, "--action", "use", "--resource", "washing-machine", "--quantity", "2"); !strings.Contains(text, "above-max-day") {
		t.Fatal(text)
	}
	if text = enter(c.ana, "--action", "use", "--resource", "washing-machine", "--quantity", "1", "--corrects", washed.Address); !strings.Contains(text, `"recorded"`) {
		t.Fatal(text)
	}
	if text = enter(c.ana, "--action", "use", "--resource", "washing-machine", "--quantity", "3"); !strings.Contains(text, `"recorded"`) {
		t.Fatal(text)
	}
	if text = enter(c.ben, "--stop", begun.ID); !strings.Contains(text, `"recorded"`) || !strings.Contains(text, `"quantity":1,`) {
		t.Fatal(text)
	}
	if text = enter(c.ben, "--stop", begun.ID); !strings.Contains(text, "no started use") {
		t.Fatal(text)
	}
}

func TestTheEntryAPIAnswersToLoopbackNamesOnly(t *testing.T) {
	c := newCabin(t)
	for host, want := range map[string]int{"": 200, "evil.example": 403} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.edge.Addr()+"/api/v1/resources", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("host %q: %d, want %d", host, res.StatusCode, want)
		}
	}
}
