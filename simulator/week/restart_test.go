package week

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/edge/appliance"
	"kith/hub/exchange"
	"kith/internal/access"
	"kith/internal/command"
	"kith/internal/settings"
	"kith/simulator/board"
	"kith/simulator/chip"
)

func TestARestartWithoutAHubKeepsPeopleRosterAndFacts(t *testing.T) {
	noLeaks(t)
	dir := quickDir(t)
	hub, people := town(t, filepath.Join(dir, "hub"))
	line := newRelay(t, hub.x.BrokerAddr())
	h := settle(t, hub, "front", dir, line.listener.Addr().String())
	h.expect(true, people[0], "in", "before the outage")
	time.Sleep(gap)
	h.settled()
	line.cut(true)
	for _, p := range people[1:] {
		h.expect(true, p, "in", "in the outage")
		time.Sleep(gap)
	}
	h.expect(true, people[1], "out", "in the outage")
	time.Sleep(gap)
	inside := func() float64 { return metric(t, h.app.Addr(), "kith_people_inside") }
	want := float64(len(people) - 1)
	if got := inside(); got != want {
		t.Fatalf("%v people are in, want %v", got, want)
	}
	leaves := metric(t, h.app.Addr(), "kith_journal_leaves")
	for range 2 {
		want = inside()
		h.stop()
		h.start()
		if got := inside(); got != want {
			t.Errorf("after the restart %v people are in, want %v", got, want)
		}
		now := metric(t, h.app.Addr(), "kith_journal_leaves")
		if now <= leaves {
			t.Errorf("the journal had %v leaves before the restart and has %v", leaves, now)
		}
		leaves = now
		h.expect(true, people[0], "in", "after a restart without a hub")
		time.Sleep(gap)
	}
	stranger := newPerson(t, "stranger", "lisbon", access.RoleResident)
	h.expect(false, stranger, "in", "after a restart without a hub")
	line.cut(false)
	h.settled()
	h.stop()
	hub.verify()
	hub.end()
	h.checkDelivered(hub.export()[h.id])
	h.checkLocks()
	if r := h.verify(); len(r.Epochs) != 1 {
		t.Errorf("%d epochs after clean restarts, want 1", len(r.Epochs))
	}
}

func TestADamagedClockFileOfTheRosterIsSaidAndLocksNobodyOut(t *testing.T) {
	noLeaks(t)
	dir := quickDir(t)
	hub, people := town(t, filepath.Join(dir, "hub"))
	line := newRelay(t, hub.x.BrokerAddr())
	h := settle(t, hub, "front", dir, line.listener.Addr().String())
	h.settled()
	line.cut(true)
	h.stop()
	if err := os.WriteFile(filepath.Join(h.state, "roster.clock"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	if code, text, err := page(h.app.Addr(), "/health"); err != nil || code == http.StatusOK || !strings.Contains(text, "cannot be relied on") {
		t.Errorf("health hides a damaged file of the roster: %d %v %s", code, err, text)
	}
	h.expect(true, people[0], "in", "after a damaged file")
}

// cabin is a lone edge as `edge run` starts it, with a virtual board and a virtual reader.
type cabin struct {
	t      *testing.T
	dir    string
	board  *board.Board
	field  *chip.Field
	out    screen
	bad    screen
	cancel context.CancelFunc
	code   chan int
	guest  person
}

// screen is a terminal that a program writes to while a test reads.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func newCabin(t *testing.T) *cabin {
	t.Helper()
	c := &cabin{t: t, dir: quickDir(t), guest: newPerson(t, "ana", "cabin", access.RoleHost)}
	b, err := board.Listen(filepath.Join(c.dir, "board.sock"), append(board.Door("front"), "tamper")...)
	if err != nil {
		t.Fatal(err)
	}
	c.board, c.field = b, chip.NewField()
	ch, err := chip.Open(c.field, chip.Options{Link: filepath.Join(c.dir, "in.tty")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(ch.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := b.Lean("front", board.Push{Open: 100 * time.Millisecond, Close: 200 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	c.write("edge.yaml", c.config())
	c.write("roster.yaml", c.roster())
	return c
}

func (c *cabin) config() string {
	b, err := settings.Encode(appliance.Config{Network: network, Node: "cabin", Edge: "door", Zone: "UTC", Clock: "trusted", Identity: "identity",
		Roster: "roster.yaml", Board: "unix:board.sock",
		Doors: []appliance.Door{{ID: "front", Zones: []string{"house"}, Lock: "fail-secure", Egress: "mechanical",
			Pulse: settings.Duration(2 * time.Second), Contact: true}},
		Readers: []appliance.Reader{{ID: "front-in", Door: "front", Direction: "in", PN532: "hsu:in.tty"}}})
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

func (c *cabin) roster() string {
	return fmt.Sprintf("network: %s\nnode: cabin\nzone: UTC\nmembers:\n  - {id: ana, name: Ana, role: host}\ncards:\n  - {id: %q, member: ana}\n"+
		"grants:\n  - {id: hosts, member: ana, zones: [house]}\n", network, c.guest.card())
}

func (c *cabin) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// run starts `edge run`; the end of the test stops it.
func (c *cabin) run() {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	c.cancel, c.code = cancel, make(chan int, 1)
	c.out, c.bad = screen{}, screen{}
	out, bad := &c.out, &c.bad
	go func() {
		c.code <- appliance.Program("week").Run(ctx, command.Streams{Out: out, Err: bad}, []string{"run", "--config", filepath.Join(c.dir, "edge.yaml")})
	}()
	c.t.Cleanup(c.stop)
}

func (c *cabin) stop() {
	if c.cancel == nil {
		return
	}
	c.cancel()
	c.cancel = nil
	select {
	case code := <-c.code:
		if code != command.OK {
			c.t.Errorf("edge run ended with %d: %s", code, c.bad.String())
		}
	case <-time.After(stopWait):
		c.t.Error("edge run does not stop")
	}
}

var healthLine = regexp.MustCompile(`http://(\S+)/health`)

// addr waits for the line that says where the pages are, and for the reader.
func (c *cabin) addr() string {
	c.t.Helper()
	eventually(c.t, catchUp, "edge run says where it is: "+c.bad.String(), func() bool {
		m := healthLine.FindStringSubmatch(c.out.String())
		if m == nil {
			return false
		}
		code, _, err := page(m[1], "/readyz")
		return err == nil && code == http.StatusOK
	})
	return healthLine.FindStringSubmatch(c.out.String())[1]
}

// opens lays the card of somebody on the reader and says whether the lock let go.
func (c *cabin) opens(p person) bool {
	c.t.Helper()
	watch := c.board.Watch()
	defer watch.Stop()
	held := chip.NewPKOC(p.key)
	if err := c.field.Place(held); err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		c.field.Lift(held)
		time.Sleep(gap)
	}()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
	defer cancel()
	_, err := watch.Await(ctx, "front/lock", 1)
	return err == nil
}

func TestABrokenConfigurationRunsOnTheLastGoodOneAndNamesTheLine(t *testing.T) {
	noLeaks(t)
	c := newCabin(t)
	c.run()
	addr := c.addr()
	if !c.opens(c.guest) {
		t.Fatal("the door does not open on a good configuration")
	}
	if code, text, err := page(addr, "/health"); err != nil || code != http.StatusOK {
		t.Fatalf("health of a good start: %d %v %s", code, err, text)
	}
	c.stop()
	broken := c.config() + "colour: red\n"
	line := fmt.Sprintf("line %d: unknown key colour", strings.Count(broken, "\n"))
	for _, text := range []string{broken, "doors: [", "", strings.Replace(c.config(), "egress: mechanical", "egress: software", 1)} {
		c.write("edge.yaml", text)
		c.run()
		addr := c.addr()
		code, health, err := page(addr, "/health")
		if err != nil || code == http.StatusOK || !strings.Contains(health, "last good") {
			t.Errorf("health on the last good configuration: %d %v %s", code, err, health)
		}
		if text == broken && (!strings.Contains(health, line) || !strings.Contains(c.bad.String(), line)) {
			t.Errorf("neither health nor log may keep %q back:\n%s\n%s", line, health, c.bad.String())
		}
		if !c.opens(c.guest) {
			t.Errorf("the door does not open with the configuration %.40q on disk", text)
		}
		c.stop()
	}
	c.write("edge.yaml", c.config())
	c.run()
	if code, text, err := page(c.addr(), "/health"); err != nil || code != http.StatusOK {
		t.Errorf("health after the configuration was mended: %d %v %s", code, err, text)
	}
}

func TestABrokenRosterFileKeepsTheLastGoodOneAlsoOverARestart(t *testing.T) {
	noLeaks(t)
	c := newCabin(t)
	c.run()
	addr := c.addr()
	if !c.opens(c.guest) {
		t.Fatal("the door does not open with a good roster")
	}
	broken := c.roster() + "colour: red\n"
	line := fmt.Sprintf("line %d", strings.Count(broken, "\n"))
	c.write("roster.yaml", broken)
	red := func(addr string) bool {
		code, text, err := page(addr, "/health")
		return err == nil && code != http.StatusOK && strings.Contains(text, line) && strings.Contains(text, "colour")
	}
	eventually(t, catchUp, "health names the line of the mistake", func() bool { return red(addr) })
	if !c.opens(c.guest) {
		t.Error("the door does not open with a broken roster file")
	}
	c.stop() // a power cut before anybody mended it
	c.run()
	addr = c.addr()
	if !c.opens(c.guest) {
		t.Error("the door does not open after a restart with a broken roster file")
	}
	eventually(t, catchUp, "health names the line of the mistake after the restart too", func() bool { return red(addr) })
	second := newPerson(t, "ben", "cabin", access.RoleResident)
	c.write("roster.yaml", strings.NewReplacer("cards:", "  - {id: ben, name: Ben, role: resident}\ncards:", "grants:",
		fmt.Sprintf("  - {id: %q, member: ben}\ngrants:\n  - {id: ben, member: ben, zones: [house]}", second.card())).Replace(c.roster()))
	eventually(t, catchUp, "health is good after the file was mended", func() bool { code, _, err := page(addr, "/health"); return err == nil && code == http.StatusOK })
	if !c.opens(second) {
		t.Error("the mended roster is not in force")
	}
}

// kept is the copy of the last good configuration.
func (c *cabin) kept() string {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, "state", "config.last-good.yaml"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.t.Fatal(err)
	}
	return string(b)
}

// unstartable are configurations without a mistake in the file that no edge starts on, each with what is to be said of it.
func (c *cabin) unstartable() map[string]string {
	c.t.Helper()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { taken.Close() })
	out := map[string]string{}
	for _, bad := range [][3]string{
		{"board: unix:board.sock", "board: gpio", "opening the board"},
		{"identity: identity", "identity: roster.yaml/keys", "opening the identity"},
		{`listen: ""`, "listen: " + taken.Addr().String(), "opening the pages"},
	} {
		text := strings.Replace(c.config(), bad[0], bad[1], 1)
		if bad[1] == "board: gpio" {
			text = strings.Replace(text, "pins: {}", "pins: {front/lock: {pin: GPIO9999}, front/contact: {pin: GPIO9998}}", 1)
		}
		if text == c.config() || !strings.Contains(text, bad[1]) {
			c.t.Fatalf("%q is not in the configuration:\n%s", bad[0], c.config())
		}
		out[text] = bad[2]
	}
	return out
}

func TestAConfigurationThatNoEdgeStartsOnIsNeverTheLastGoodOne(t *testing.T) {
	noLeaks(t)
	c := newCabin(t)
	c.run()
	c.addr()
	c.stop()
	if c.kept() != c.config() {
		t.Fatalf("a good start kept another configuration:\n%s", c.kept())
	}
	for text, why := range c.unstartable() {
		c.write("edge.yaml", text)
		for range 2 { // also over a second restart
			c.run()
			addr := c.addr()
			code, health, err := page(addr, "/health")
			if err != nil || code == http.StatusOK || !strings.Contains(health, "last good") || !strings.Contains(health, why) {
				t.Errorf("health must be red with %q: %d %v %s", why, code, err, health)
			}
			if !strings.Contains(c.bad.String(), why) {
				t.Errorf("the log keeps %q back: %s", why, c.bad.String())
			}
			if !c.opens(c.guest) {
				t.Errorf("the door does not open while the edge cannot start: %s", why)
			}
			c.stop()
			if c.kept() != c.config() {
				t.Fatalf("what the edge could not start on (%s) is now the last good configuration:\n%s", why, c.kept())
			}
		}
	}
}

func TestAFirstConfigurationThatNoEdgeStartsOnFailsAndIsNotKept(t *testing.T) {
	noLeaks(t)
	c := newCabin(t)
	for text, why := range c.unstartable() {
		c.write("edge.yaml", text)
		c.run()
		select {
		case code := <-c.code:
			c.cancel()
			c.cancel = nil
			if code != command.Failed || !strings.Contains(c.bad.String(), why) {
				t.Errorf("edge run ended with %d: %s", code, c.bad.String())
			}
		case <-time.After(catchUp):
			t.Fatal("edge run goes on with a configuration it cannot start on, and nothing to fall back on")
		}
		if kept := c.kept(); kept != "" {
			t.Errorf("kept as the last good configuration, and never started on:\n%s", kept)
		}
	}
}

var pageLine = regexp.MustCompile(`page=http://(\S+)`)

func TestAnEdgeThatNeverHadAGoodConfigurationSaysSoAndStartsOnceMended(t *testing.T) {
	noLeaks(t)
	c := newCabin(t)
	if taken, err := net.Listen("tcp", appliance.DefaultPages); err == nil { // else another program has it, which is as good
		defer taken.Close()
	}
	mistake := func(key string) string {
		broken := c.config() + key + ": red\n"
		c.write("edge.yaml", broken)
		return fmt.Sprintf("line %d: unknown key %s", strings.Count(broken, "\n"), key)
	}
	line := mistake("colour")
	c.run()
	eventually(t, catchUp, "the log names the line, and where the page is", func() bool {
		return strings.Contains(c.bad.String(), line) && pageLine.MatchString(c.bad.String())
	})
	addr := pageLine.FindStringSubmatch(c.bad.String())[1]
	says := func(line string) func() bool {
		return func() bool {
			code, text, err := page(addr, "/")
			return err == nil && code == http.StatusServiceUnavailable && strings.Contains(text, line)
		}
	}
	eventually(t, catchUp, "a page says what is wrong, with its line", says(line))
	second := mistake("shape")
	eventually(t, catchUp, "the page says what is wrong now", says(second))
	if says(line)() || !strings.Contains(c.bad.String(), second) {
		t.Errorf("the page still names the mistake that was mended, or the log does not name the new one: %s", c.bad.String())
	}
	c.write("edge.yaml", c.config())
	c.addr()
	if !c.opens(c.guest) {
		t.Error("the door does not open after the configuration was mended")
	}
	c.stop()
	mistake("weight") // the next slip, and a restart
	c.run()
	c.addr()
	if !c.opens(c.guest) {
		t.Error("a start that had waited kept no good configuration for the next one")
	}
}

// saysSo wants a page with the line of the mistake.
func saysSo(t *testing.T, addr, line string) {
	t.Helper()
	eventually(t, catchUp, "a page says what is wrong, with its line", func() bool {
		code, text, err := page(addr, "/")
		return err == nil && code == http.StatusServiceUnavailable && strings.Contains(text, line)
	})
}

// hubRun is `hub run` under test.
func hubRun(t *testing.T, config string) (out, bad *screen, stop func()) {
	t.Helper()
	out, bad = &screen{}, &screen{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	code := make(chan int, 1)
	go func() {
		code <- exchange.Program("week").Run(ctx, command.Streams{Out: out, Err: bad}, []string{"run", "--config", config})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case c := <-code:
			if c != command.OK {
				t.Errorf("hub run ended with %d: %s", c, bad.String())
			}
		case <-time.After(stopWait):
			t.Error("hub run does not stop")
		}
	})
	t.Cleanup(stop)
	return out, bad, stop
}

func TestAHubWithABrokenConfigurationSaysSoAndStartsOnceMended(t *testing.T) {
	noLeaks(t)
	if taken, err := net.Listen("tcp", exchange.DefaultListen); err == nil { // else another program has it, which is as good
		defer taken.Close()
	}
	dir := quickDir(t)
	path := filepath.Join(dir, "hub.yaml")
	good, err := settings.Encode(hubConfig(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	broken := string(good) + "colour: red\n"
	line := fmt.Sprintf("line %d: unknown key colour", strings.Count(broken, "\n"))
	if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	out, bad, stop := hubRun(t, path)
	eventually(t, catchUp, "the log names the line, and where the page is", func() bool {
		return strings.Contains(bad.String(), line) && pageLine.MatchString(bad.String())
	})
	saysSo(t, pageLine.FindStringSubmatch(bad.String())[1], line)
	if err := os.WriteFile(path, []byte(string(good)+"shape: red\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	saysSo(t, pageLine.FindStringSubmatch(bad.String())[1], strings.Replace(line, "colour", "shape", 1))
	if strings.Contains(out.String(), "running") {
		t.Error("the hub runs on a configuration that nobody can read")
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, catchUp, "the hub runs once the file is mended", func() bool { return strings.Contains(out.String(), "is running") })
	addr := regexp.MustCompile(`http://([^/ ]+)/`).FindStringSubmatch(out.String())[1]
	eventually(t, catchUp, "its health is good", func() bool { code, _, err := page(addr, "/health"); return err == nil && code == http.StatusOK })
	stop()
}
