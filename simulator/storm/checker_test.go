package storm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"kith/edge/gate"
	"kith/internal/event"
)

// Bounds of the matching.
const (
	rounding     = 3 * time.Millisecond   // leaves carry milliseconds, and the board's clock is translated
	recordMost   = gate.StrictWait        // longest time from a fact to the lock at a strict door
	handOver     = 300 * time.Millisecond // from the gate's word to the lock, on a machine that is overloaded
	unproven     = 250 * time.Millisecond // a lenient door may have moved so long before a kill without a record
	decideMost   = 3 * time.Second        // from the moment a card is lifted to the decision about it
	overlapRound = 10 * time.Millisecond
	boardLag     = 50 * time.Millisecond // from the door's word to the board's time stamp, likewise
)

// witness is what was seen at one edge from outside.
type witness struct {
	edge          string
	strict        bool
	presentations []presentation
	movements     []movement
	others        []string
	kills         []span
	receipts      []note
}

// span is the time from a signal to the end of its process.
type span struct{ from, to time.Time }

// finding is one broken promise. Its kind is stable: the tests of this checker name it.
type finding struct{ kind, text string }

// Kinds of findings.
const (
	foundDouble    = "address-twice"
	foundTwice     = "tap-twice"
	foundOrder     = "index-gap"
	foundRoot      = "root"
	foundReceipt   = "receipt"
	foundPulse     = "pulse-without-grant"
	foundGrant     = "grant-without-pulse"
	foundUntouched = "pulse-without-tap"
	foundCard      = "grant-without-card"
	foundOther     = "other-lock"
)

// tally counts what was matched, for the log and so that nothing is proved about nothing.
type tally struct {
	pulses, grants, matched     int
	killedBetween, denied, long int // grants without a pulse of their own, by reason
	stuck                       int // likewise: the door itself says that the release came too late or found no lock
	early                       int // likewise: over before the board had told the new start of its inputs, which the lock waits for
	unrecorded                  int // pulses of a lenient door that a kill took the record of
	receipts, leaves            int
}

// examine holds an export against what was seen from outside.
//
// The matching: a grant leaf belongs to the pulse that follows it, at most recordMost and handOver later, before any other
// grant of that edge; every pulse has exactly one. A grant without a pulse stands only where its process was killed between
// record and release, or where the lock was released already, or where a strict door says in its next leaf about this card
// that it stayed shut (and was killed before any leaf of its could, if the disk was that slow), or where the door says that it
// was stuck, or that it had not heard from the board yet. A lenient door may move without a record only within the bound before a kill.
func examine(b *book, seen []witness) ([]finding, tally) {
	var out []finding
	var sum tally
	found := func(kind, format string, args ...any) { out = append(out, finding{kind, fmt.Sprintf(format, args...)}) }
	b.checkLogs(found, &sum)
	for i := range seen {
		w := &seen[i]
		b.checkReceipts(w, found, &sum)
		m := match{w: w, taps: b.taps(w.edge), leaves: b.leaves(w.edge), found: found, sum: &sum}
		m.touched()
		m.grants()
	}
	return out, sum
}

type report = func(kind, format string, args ...any)

// checkLogs wants each address once, each tap once, and the root that the hub claims.
func (b *book) checkLogs(found report, sum *tally) {
	addresses, facts := map[string]bool{}, map[string]bool{}
	for _, l := range b.logs {
		for i, leaf := range l.leaves {
			sum.leaves++
			at := fmt.Sprintf("%s/%s/%d", leaf.leaf.Edge, leaf.leaf.Epoch, leaf.leaf.Index)
			if addresses[at] {
				found(foundDouble, "%s stands twice", at)
			}
			addresses[at] = true
			if len(l.lost) == 0 && (leaf.leaf.Index != uint64(i) || leaf.leaf.Edge != l.edge || leaf.leaf.Epoch.String() != l.epoch) {
				found(foundOrder, "%s stands at place %d of %s/%s", at, i, l.edge, l.epoch)
			}
			if leaf.tap != nil {
				fact := fmt.Sprintf("%s/%s/%d", l.edge, leaf.tap.boot, leaf.tap.mono)
				if facts[fact] {
					found(foundTwice, "the tap of %s at %s stands twice", l.edge, leaf.tap.at)
				}
				facts[fact] = true
			}
		}
		if len(l.lost) > 0 {
			continue
		}
		root, err := l.rootAt(l.size)
		if err != nil || root != l.root || uint64(len(l.leaves)) != l.size {
			found(foundRoot, "%s/%s: %d leaves, the hub says %d; root %s, the hub says %s (%v)", l.edge, l.epoch, len(l.leaves), l.size, root, l.root, err)
		}
	}
}

// checkReceipts wants every receipt that the edge ever held to cover what the hub holds now.
func (b *book) checkReceipts(w *witness, found report, sum *tally) {
	for _, r := range w.receipts {
		sum.receipts++
		covered := false
		for _, l := range b.ofEdge(w.edge) {
			if l.epoch != r.epoch {
				continue
			}
			root, err := l.rootAt(r.size)
			if err != nil || root != r.root {
				found(foundReceipt, "%s/%s: receipt at %d for %s, the hub has %s (%v)", w.edge, r.epoch, r.size, r.root, root, err)
			}
			covered = true
		}
		if !covered {
			found(foundReceipt, "%s/%s: a receipt at %d for an epoch that the hub does not know", w.edge, r.epoch, r.size)
		}
	}
}

// match joins pulses, grants and presentations of one edge.
type match struct {
	w      *witness
	taps   []*bookTap
	leaves []event.Leaf
	found  report
	sum    *tally
}

// touched wants a card before every movement of a lock, and a presentation of the very card behind every grant.
func (m *match) touched() {
	for _, signal := range m.w.others {
		m.found(foundOther, "%s: %s moved", m.w.edge, signal)
	}
	for _, p := range m.w.movements {
		if !m.presented("", p.on) {
			m.found(foundUntouched, "%s: lock moved at %s, nobody was there", m.w.edge, p.on)
		}
	}
	for _, t := range m.taps {
		if t.body.Verdict == "grant" && !m.presented(t.card, t.at) {
			m.found(foundCard, "%s: grant at %s for a card that was not there", m.w.edge, t.at)
		}
	}
}

// presented says whether the card, or any card, lay before the reader shortly before.
func (m *match) presented(card string, at time.Time) bool {
	for _, p := range m.w.presentations {
		end := p.lifted
		if end.IsZero() {
			end = at
		}
		if (card == "" || p.card == card) && !at.Before(p.placed.Add(-rounding)) && !at.After(end.Add(decideMost)) {
			return true
		}
	}
	return false
}

func (m *match) grants() {
	var grants []*bookTap
	for _, t := range m.taps {
		if t.body.Verdict == "grant" {
			grants = append(grants, t)
		}
	}
	m.sum.grants += len(grants)
	m.sum.pulses += len(m.w.movements)
	taken := map[*bookTap]bool{}
	for _, p := range m.w.movements {
		var last *bookTap
		for i, g := range grants {
			if g.at.After(p.on.Add(rounding)) {
				break
			}
			// A second card just before the board stamped the movement came to a lock that was already on its way.
			if last = g; i > 0 && p.on.Sub(g.at) <= boardLag {
				if before := grants[i-1]; !taken[before] && before.boot == g.boot && p.on.Sub(before.at) <= recordMost+handOver {
					last = before
				}
			}
		}
		switch {
		case last != nil && !taken[last] && p.on.Sub(last.at) <= recordMost+handOver:
			taken[last] = true
			m.sum.matched++
		case !m.w.strict && m.killed(p.on, p.on.Add(unproven)):
			m.sum.unrecorded++
		default:
			m.found(foundPulse, "%s: lock moved at %s and no grant says why", m.w.edge, p.on.Format(time.StampMilli))
		}
	}
	for i, g := range grants {
		if taken[g] {
			continue
		}
		limit := g.at.Add(recordMost + handOver)
		if i+1 < len(grants) && grants[i+1].at.Before(limit) {
			limit = grants[i+1].at
		}
		switch {
		case m.killed(g.at.Add(-rounding), limit):
			m.sum.killedBetween++
		case m.w.strict && m.lastOfItsLife(g) && m.killed(g.at, limit.Add(recordMost)):
			m.sum.killedBetween++ // the refusal was waiting behind its record
		case m.stuck(g, limit):
			m.sum.stuck++
		case m.early(g):
			m.sum.early++
		case m.refused(g):
			m.sum.denied++
		case m.released(g.at):
			m.sum.long++
		default:
			m.found(foundGrant, "%s: grant at %s did not move the lock; %s", m.w.edge, g.at.Format(time.StampMilli), m.around(g))
		}
	}
}

// around tells what happened near a grant, for whoever has to find out why.
func (m *match) around(g *bookTap) string {
	var b strings.Builder
	near := func(at time.Time) bool { return at.Sub(g.at).Abs() < 10*time.Second }
	for _, k := range m.w.kills {
		if near(k.from) {
			fmt.Fprintf(&b, "killed %+d to %+d ms; ", k.from.Sub(g.at).Milliseconds(), k.to.Sub(g.at).Milliseconds())
		}
	}
	for _, p := range m.w.movements {
		if near(p.on) {
			fmt.Fprintf(&b, "lock %+d to %+d ms; ", p.on.Sub(g.at).Milliseconds(), p.off.Sub(g.at).Milliseconds())
		}
	}
	for _, t := range m.taps {
		if near(t.at) {
			fmt.Fprintf(&b, "%s %s of %s at %+d ms, same card %t; ", t.body.Verdict, t.body.Reason, t.boot, t.at.Sub(g.at).Milliseconds(), t.card == g.card)
		}
	}
	for _, l := range m.leaves {
		if at := time.UnixMilli(l.At); l.Commitment == nil && near(at) {
			fmt.Fprintf(&b, "%s of %s at %+d ms %s; ", l.Kind, l.Boot, at.Sub(g.at).Milliseconds(), l.Body)
		}
	}
	return b.String()
}

// killed says whether the process died of the storm within a time.
func (m *match) killed(from, to time.Time) bool {
	for _, k := range m.w.kills {
		if !k.to.Before(from) && !k.from.After(to) {
			return true
		}
	}
	return false
}

// refused says whether the next leaf about this card in the same life says that the door stayed shut.
func (m *match) refused(g *bookTap) bool {
	for _, t := range m.taps {
		if t.boot == g.boot && t.card == g.card && t.mono > g.mono {
			return t.body.Verdict == "deny" && t.body.Reason == "no-record"
		}
	}
	return false
}

// lastOfItsLife says whether nothing of the same start is written behind a grant.
func (m *match) lastOfItsLife(g *bookTap) bool {
	return !slices.ContainsFunc(m.leaves, func(l event.Leaf) bool { return l.Boot == g.boot && l.Mono > g.mono }) &&
		!slices.ContainsFunc(m.taps, func(t *bookTap) bool { return t.boot == g.boot && t.mono > g.mono }) // leaves of people carry no mono
}

// stuck says whether the door of the same start says by then that it could not be released.
func (m *match) stuck(g *bookTap, by time.Time) bool {
	return slices.ContainsFunc(m.leaves, func(l event.Leaf) bool {
		var d event.Door
		return l.Kind == event.KindDoor && l.Boot == g.boot && l.Mono > g.mono && !time.UnixMilli(l.At).After(by) &&
			json.Unmarshal(l.Body, &d) == nil && d.State == "stuck"
	})
}

// early says whether the door of this start locked again before it first heard how its contact stands. A lock waits for the
// board's first word, lest a start during a fire lock somebody in, and a board that is slow to say it can miss a short pulse.
func (m *match) early(g *bookTap) bool {
	var relocked, heard int64
	for _, l := range m.leaves {
		var d event.Door
		if l.Kind != event.KindDoor || l.Boot != g.boot || json.Unmarshal(l.Body, &d) != nil {
			continue
		}
		if d.State == "relocked" && l.Mono > g.mono && relocked == 0 {
			relocked = l.Mono
		}
		if d.Why == "start" && heard == 0 {
			heard = l.Mono
		}
	}
	return relocked != 0 && heard > relocked
}

// released says whether the lock was let go already when the grant came: the release is then longer, and no movement.
func (m *match) released(at time.Time) bool {
	for _, p := range m.w.movements {
		if !p.on.After(at.Add(boardLag)) && (p.off.IsZero() || !p.off.Before(at.Add(-overlapRound))) {
			return true
		}
	}
	return false
}

// sort brings movements of two posts into the order of their times.
func (w *witness) sort() {
	slices.SortFunc(w.movements, func(a, b movement) int { return a.on.Compare(b.on) })
}
