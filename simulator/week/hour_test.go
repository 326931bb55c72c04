package week

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kith/hub/exchange"
	"kith/internal/access"
)

const (
	pageWait = 5 * time.Second
	catchUp  = 40 * time.Second       // for an edge to have everything receipted again
	gap      = 450 * time.Millisecond // between two taps at one door: somebody walks through and it falls shut
)

// relay is a house's uplink: a TCP relay to the hub that can be cut and mended.
type relay struct {
	listener net.Listener
	target   string

	mu    sync.Mutex // guards what follows
	down  bool
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

func newRelay(t testing.TB, target string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, target: target, conns: map[net.Conn]struct{}{}}
	r.wg.Go(r.run)
	t.Cleanup(func() {
		l.Close()
		r.cut(true)
		r.wg.Wait()
	})
	return r
}

func (r *relay) run() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.carry(c) })
	}
}

func (r *relay) carry(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", r.target)
	if err != nil || !r.hold(near, far) {
		if far != nil {
			far.Close()
		}
		return
	}
	defer far.Close()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // ends with either side
			near.Close()
			far.Close()
		})
	}
	both.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, near)
	delete(r.conns, far)
}

func (r *relay) hold(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		r.conns[c] = struct{}{}
	}
	return !r.down
}

func (r *relay) cut(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
	if down {
		for c := range r.conns {
			c.Close()
			delete(r.conns, c)
		}
	}
}

// page fetches one page of a program.
func page(addr, path string) (int, string, error) {
	c := &http.Client{Timeout: pageWait, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get("http://" + addr + path)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, string(b), err
}

// metric reads one number of a program; -1 when it is not there.
func metric(t testing.TB, addr, name string) float64 {
	t.Helper()
	_, text, err := page(addr, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(text, "\n") {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			var v float64
			if _, err := fmt.Sscan(rest, &v); err == nil {
				return v
			}
		}
	}
	return -1
}

// eventually waits until something holds.
func eventually(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// receipted says whether the hub has acknowledged everything this edge wrote.
func (h *house) receipted() bool {
	leaves := metric(h.t, h.app.Addr(), "kith_journal_leaves")
	return leaves > 0 && metric(h.t, h.app.Addr(), "kith_journal_receipted_leaves") == leaves
}

func (h *house) settled() {
	h.t.Helper()
	eventually(h.t, catchUp, h.id+" has everything receipted", h.receipted)
}

// town is a running hub with people, over the real broker.
func town(t *testing.T, state string) (*centre, []person) {
	t.Helper()
	hub := &centre{t: t, cfg: hubConfig(time.Hour), opt: exchange.Options{StateDir: state, Version: "week", Log: slog.New(slog.DiscardHandler)}}
	hub.start()
	t.Cleanup(hub.end)
	hub.cfg.Broker = hub.x.BrokerAddr() // the same after a restart
	people := crowd(t, "lisbon", 4)
	hub.enter(people...)
	return hub, people
}

// settle admits an edge that reaches the hub at broker and starts it.
func settle(t *testing.T, hub *centre, id, dir, broker string) *house {
	t.Helper()
	h := admit(t, hub.x, "lisbon", id, dir, broker)
	h.real, h.log = true, slog.New(overheard{&h.roster})
	h.start()
	t.Cleanup(h.stop)
	eventually(t, catchUp, id+" has a roster", func() bool { code, _, err := page(h.app.Addr(), "/readyz"); return err == nil && code == http.StatusOK })
	return h
}

// The week again, an hour of it in half a minute, over mutual TLS and MQTT: two cuts of one of two lines, in the first of them a
// card revoked and somebody new, in the second a restart of the edge; then a restart of the hub. The link takes short sessions for
// a bad line and waits longer after each, so more cuts cost mostly patience.
func TestAnHourOfCutsOverTheRealBrokerLosesNothingAndMovesNoLock(t *testing.T) {
	noLeaks(t)
	dir := quickDir(t)
	hub, people := town(t, filepath.Join(dir, "hub"))
	loser := newPerson(t, "loser", "lisbon", access.RoleResident, "members")
	hub.enter(loser)
	line := newRelay(t, hub.x.BrokerAddr())
	front, back := settle(t, hub, "front", dir, line.listener.Addr().String()), settle(t, hub, "back", dir, hub.x.BrokerAddr())
	houses := []*house{front, back}

	var hands sync.WaitGroup
	t.Cleanup(hands.Wait)
	comeAndGo := func() (pause func()) {
		ctx, enough := context.WithCancel(t.Context())
		for i, h := range houses {
			hands.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					h.expect(true, people[(n+i)%len(people)], []string{"in", "out"}[n/len(people)%2], "a tap of the hour")
					time.Sleep(gap)
				}
			})
		}
		return func() { enough(); hands.Wait() }
	}
	ask := func(h *house, want bool, p person, when string) {
		t.Helper()
		h.expect(want, p, "in", when)
		time.Sleep(gap)
	}
	for _, h := range houses {
		ask(h, true, loser, "before the card was lost")
	}

	pause := comeAndGo()
	time.Sleep(time.Second)
	line.cut(true)
	newcomer := newPerson(t, "newcomer", "lisbon", access.RoleResident, "members")
	hub.enter(newcomer)
	issued := hub.order(exchange.Order{RevokeCard: loser.card()}).Rosters
	time.Sleep(2 * time.Second)
	pause()
	back.informed(issued)
	ask(back, true, newcomer, "after they were entered")
	ask(back, false, loser, "after the card was revoked")
	ask(front, false, newcomer, "where the line is down")
	ask(front, true, loser, "where the line is down")
	pause = comeAndGo()
	line.cut(false)
	front.settledWhileTapping()
	pause()
	front.informed(issued)
	ask(front, true, newcomer, "after the line was back")
	ask(front, false, loser, "after the line was back")

	pause = comeAndGo()
	time.Sleep(time.Second)
	line.cut(true)
	time.Sleep(time.Second)
	pause()
	front.stop()
	front.start()
	ask(front, true, newcomer, "after a restart without a hub")
	ask(front, false, loser, "after a restart without a hub")
	pause = comeAndGo()
	time.Sleep(time.Second)
	line.cut(false)
	front.settledWhileTapping()

	hub.end()
	time.Sleep(time.Second)
	hub.start()
	second := newPerson(t, "second", "lisbon", access.RoleResident, "members")
	issued = hub.enter(second)
	back.settledWhileTapping()
	pause()
	for _, h := range houses {
		h.informed(issued)
		ask(h, true, second, "after the hub was back")
		h.settled()
		h.stop()
	}
	hub.verify()
	hub.end()
	have := hub.export()
	for _, h := range houses {
		if r := h.verify(); len(r.Epochs) != 1 {
			t.Errorf("%s: %d epochs; neither a cut nor a restart is a reason for a new one", h.id, len(r.Epochs))
		}
		h.checkDelivered(have[h.id])
		h.checkLocks()
		t.Logf("%s: %d taps, all there", h.id, len(h.taps))
	}
}

// informed waits until the roster just issued for a house is in force at its edge. The hub hears of that with the edge's next
// greeting only, and a tap that comes too early is a refusal, of which a card has few.
func (h *house) informed(issued []exchange.Issue) {
	h.t.Helper()
	at := slices.IndexFunc(issued, func(i exchange.Issue) bool { return i.Node == h.cfg.Node })
	if at < 0 {
		h.t.Fatalf("no new roster for %s: %+v", h.cfg.Node, issued)
	}
	eventually(h.t, catchUp, fmt.Sprintf("%s has roster %d", h.id, issued[at].Version), func() bool { return h.roster.Load() >= issued[at].Version })
}

// overheard is a log that remembers which roster an edge says is in force, and forgets the rest.
type overheard struct{ version *atomic.Uint64 }

func (o overheard) Enabled(context.Context, slog.Level) bool { return true }
func (o overheard) WithAttrs([]slog.Attr) slog.Handler       { return o }
func (o overheard) WithGroup(string) slog.Handler            { return o }
func (o overheard) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "roster in force" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "version" {
				o.version.Store(a.Value.Uint64())
			}
			return true
		})
	}
	return nil
}

// settledWhileTapping waits until the hub has acknowledged what is there now, while more comes.
func (h *house) settledWhileTapping() {
	h.t.Helper()
	now := metric(h.t, h.app.Addr(), "kith_journal_leaves")
	eventually(h.t, catchUp, h.id+" is acknowledged again", func() bool {
		return metric(h.t, h.app.Addr(), "kith_journal_receipted_leaves") >= now
	})
}
