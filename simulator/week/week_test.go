package week

import (
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"kith/hub/exchange"
	"kith/internal/access"
)

const (
	day      = 24 * time.Hour
	days     = 7
	tapsADay = 40
	outage   = 8 * time.Hour
	longDay  = 3
	longCut  = 30 * time.Hour
	memory   = 16 << 20 // bytes that the heap may hold more at the end of the week than after its first day
)

// act is something that happens at a moment of the week.
type act struct {
	at   time.Duration
	what func()
}

// story is a week: what happens when. Acts run one after another in the test's goroutine, in fake time.
type story struct {
	began time.Time
	acts  []act
}

func (s *story) on(at time.Duration, what func()) { s.acts = append(s.acts, act{at, what}) }

func (s *story) run() {
	slices.SortStableFunc(s.acts, func(a, b act) int { return int(a.at - b.at) })
	for _, a := range s.acts {
		time.Sleep(time.Until(s.began.Add(a.at)))
		a.what()
	}
}

// A whole virtual week: two edges, a hub, lines that lose, double, delay, go away for eight hours and more every day and
// once for thirty. Nothing but hardware and wires is not production code.
func TestAVirtualWeekOfOutagesLosesNothingAndMovesNoLock(t *testing.T) {
	dir := quickDir(t)
	wall := time.Now()
	synctest.Test(t, func(t *testing.T) { virtualWeek(t, dir) })
	t.Logf("wall time %s", time.Since(wall).Round(time.Millisecond))
}

func virtualWeek(t *testing.T, dir string) {
	lines := newSky(1)
	hub := &centre{t: t, cfg: hubConfig(6 * time.Hour), opt: exchange.Options{StateDir: filepath.Join(dir, "hub"), Version: "week",
		NoPages: true, Transport: lines, Log: slog.New(slog.DiscardHandler)}}
	hub.start()
	people := cast{lisbon: crowd(t, "lisbon", 8), oaxaca: crowd(t, "oaxaca", 5),
		guest: newPerson(t, "visitor", "oaxaca", access.RoleGuest, "guests"), late: newPerson(t, "newcomer", "lisbon", access.RoleResident, "members"),
		lost: newPerson(t, "loser", "lisbon", access.RoleResident, "members")}
	hub.enter(slices.Concat(people.lisbon, people.oaxaca, []person{people.guest, people.lost})...)
	w := &virtual{t: t, hub: hub, lines: lines, people: people, rng: rand.New(rand.NewPCG(1, 8)), story: story{began: time.Now()}}
	for _, h := range []struct{ node, id string }{{"lisbon", "front"}, {"oaxaca", "gate"}} {
		e := admit(t, hub.x, h.node, h.id, dir, "127.0.0.1:8883")
		end := lines.end(h.id)
		e.session = end
		e.start()
		end.set(true)
		w.houses = append(w.houses, e)
	}
	w.write()
	w.run()

	for _, h := range w.houses {
		h.stop()
	}
	time.Sleep(time.Minute) // what is still in the air lands
	sum := hub.verify()
	hub.end()
	have := hub.export()
	var leaves uint64
	for _, h := range w.houses {
		r := h.verify()
		leaves += leavesOf(r)
		if len(r.Epochs) != 1 {
			t.Errorf("%s: %d epochs; an outage is no reason for a new one", h.id, len(r.Epochs))
		}
		if r.Epochs[0].Pruned == 0 {
			t.Errorf("%s: nothing was pruned in a week with 48 h of retention", h.id)
		}
		h.checkDelivered(have[h.id])
		h.checkLocks()
	}
	if sum.Logs != 2 || sum.Leaves > leaves || leaves-sum.Leaves > 8 {
		t.Errorf("the hub has %d leaves in %d logs, the edges wrote %d", sum.Leaves, sum.Logs, leaves)
	}
	t.Logf("%d taps, %d leaves, %d messages (%d lost, %d doubled, %d slow, %d late by hours); arrived twice %v", len(w.houses[0].taps)+len(w.houses[1].taps),
		leaves, lines.fate.sent, lines.fate.lost, lines.fate.twice, lines.fate.slow, lines.fate.late, lines.both)
	// Tens of thousands of messages are sent: one of each kind of weather that does not come means that the sky is not what it says.
	for what, n := range map[string]int{"lost": lines.fate.lost, "doubled": lines.fate.twice, "slow": lines.fate.slow, "late by hours": lines.fate.late,
		"a batch that reached the hub twice": lines.both["*wire.Batch <nil>"], "a receipt that reached an edge twice": lines.both["*wire.Receipt <nil>"]} {
		if n == 0 {
			t.Errorf("in %d messages: none %s", lines.fate.sent, what)
		}
	}
}

type cast struct {
	lisbon, oaxaca    []person
	guest, late, lost person
}

// virtual is the week's script.
type virtual struct {
	t      *testing.T
	hub    *centre
	lines  *sky
	houses []*house // front, gate
	people cast
	rng    *rand.Rand
	story
	heap uint64
}

// write fills the week.
func (w *virtual) write() {
	front, gate := w.houses[0], w.houses[1]
	for d := range time.Duration(days) {
		w.cut(front, d*day, outage)
		w.cut(front, d*day+14*time.Hour, 6*time.Hour)
		switch d {
		case longDay:
			w.cut(gate, d*day+8*time.Hour, longCut)
			w.long(d*day+8*time.Hour, longCut)
		case longDay + 1: // the long one is not over before 14:00
			w.cut(gate, d*day+17*time.Hour, 10*time.Hour)
		default: // a poor line: up for six hours a day
			w.cut(gate, d*day+8*time.Hour, outage)
			w.cut(gate, d*day+17*time.Hour, 10*time.Hour)
		}
		for i, h := range w.houses {
			who := w.people.lisbon
			if h == gate {
				who = w.people.oaxaca
			}
			for n := range time.Duration(tapsADay) {
				p := who[w.rng.IntN(len(who))]
				direction := []string{"in", "out"}[w.rng.IntN(2)]
				w.on(d*day+n*(day/tapsADay)+time.Duration(i*20+w.rng.IntN(15))*time.Second, func() { h.expect(true, p, direction, "an ordinary tap") })
			}
		}
	}
	w.newcomer(2*day+4*time.Hour, front, gate)
	w.revocation(5*day+4*time.Hour, front, gate)
	w.on(6*day+12*time.Hour+5*time.Second, func() { gate.stop(); gate.start(); w.lines.ends[gate.id].again() }) // in its outage
	w.on(6*day+12*time.Hour+8*time.Second, func() { gate.expect(true, w.people.oaxaca[0], "in", "after a restart without a hub") })
	w.on(5*day+16*time.Hour+30*minute, func() { w.hub.end(); w.hub.start() })
	w.on(day, func() { w.heap = heap() })
	w.on(days*day+5*time.Hour, func() {
		if now := heap(); now > w.heap+memory {
			w.t.Errorf("heap grew from %d KiB on the first day to %d KiB on the last", w.heap>>10, now>>10)
		} else {
			w.t.Logf("heap: %d KiB after a day, %d KiB after the week", w.heap>>10, now>>10)
		}
	})
}

// cut takes a line away for a while, at about that time.
func (w *virtual) cut(h *house, from, length time.Duration) {
	late := time.Duration(w.rng.IntN(600)) * time.Second
	if length == longCut {
		late = 0 // others count from its beginning
	}
	w.on(from+late, func() { w.lines.ends[h.id].set(false) })
	w.on(from+late+length, func() { w.lines.ends[h.id].set(true) })
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

const minute = time.Minute

// newcomer: a roster made during an outage is in force at once where the line is up, and arrives where it was not.
func (w *virtual) newcomer(at time.Duration, cut, up *house) {
	p := w.people.late
	w.on(at+7*time.Second, func() { up.expect(false, p, "in", "before anybody knew them") })
	w.on(at+minute, func() { w.hub.enter(p) })
	w.on(at+2*minute+7*time.Second, func() { up.expect(true, p, "in", "after they were entered") })
	w.on(at+2*minute+9*time.Second, func() { cut.expect(false, p, "in", "where the line is down") })
	w.on(at+5*time.Hour+7*time.Second, func() { cut.expect(true, p, "in", "after the line was back") })
}

// revocation takes effect at once where the line is up and with the line where it is down.
func (w *virtual) revocation(at time.Duration, cut, up *house) {
	p := w.people.lost
	w.on(at+7*time.Second, func() { up.expect(true, p, "in", "before it was revoked") })
	w.on(at+minute, func() { w.hub.order(exchange.Order{RevokeCard: p.card()}) })
	w.on(at+2*minute+7*time.Second, func() { up.expect(false, p, "in", "after it was revoked") })
	w.on(at+2*minute+9*time.Second, func() { cut.expect(true, p, "in", "where the line is down") })
	w.on(at+5*time.Hour+7*time.Second, func() { cut.expect(false, p, "in", "after the line was back") })
}

// long is the outage in which the ticket runs out: a day after the hub's last word only those who live there are kept.
func (w *virtual) long(from, length time.Duration) {
	gate := w.houses[1]
	guest, other := w.people.guest, w.people.lisbon[1]
	ask := func(at time.Duration, want bool, when string) {
		w.on(at+11*time.Second, func() { gate.expect(want, guest, "in", when+", a guest") })
		w.on(at+19*time.Second, func() { gate.expect(want, other, "in", when+", a resident of another house") })
		w.on(at+27*time.Second, func() { gate.expect(true, w.people.oaxaca[0], "in", when+", somebody who lives here") })
	}
	ask(from+time.Hour, true, "an hour into the outage")
	ask(from+day-15*minute, true, "just before the ticket ends") // the ticket was at most ten minutes old
	ask(from+day+minute, false, "just after the ticket ended")
	ask(from+29*time.Hour, false, "late in the outage")
	ask(from+length+3*minute, true, "after the line was back")
}
