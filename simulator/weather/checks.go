package weather

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/edge/outbox"
	"kith/hub/intake"
	"kith/internal/event"
	"kith/internal/wire"
)

// checks watches a run from outside. It knows nothing of states and steps, only of leaves, notes and disks.
type checks struct {
	cosigned map[string]tlog.Hash          // per generation, origin and size: I2
	backed   map[address]uint64            // leaves in some backup: I3
	gone     map[address]map[uint64][]byte // leaves that edges have pruned
	floor    map[address]uint64            // what the hub has once stored in this generation: it never shrinks
}

func newChecks() checks {
	return checks{cosigned: map[string]tlog.Hash{}, backed: map[address]uint64{}, gone: map[address]map[uint64][]byte{}, floor: map[address]uint64{}}
}

// answer holds every note that leaves the hub to I1 and I2.
func (c *checks) answer(w *world, edge string, payload []byte) {
	down, err := wire.ParseDown(payload)
	if err != nil {
		w.violate("hub says what is no message: %v", err)
		return
	}
	if s, ok := down.(*wire.State); ok && s.Credit <= 1 && s.Status != wire.StatusUnknown {
		w.saw("credit low")
	}
	if _, ok := down.(*wire.Need); ok {
		w.saw("need")
	}
	text := lineOf(down)
	if text == nil {
		return
	}
	node := w.hub.nodes[edge]
	n, err := note.Open(text, note.VerifierList(newKey(network+"/"+node+"/"+edge), w.witness))
	if err != nil || len(n.Sigs) != 2 {
		w.violate("receipt for %s lacks a signature: %v", edge, err)
		return
	}
	p, err := wire.ParseCheckpoint(n.Text)
	if err != nil {
		w.violate("receipt for %s: %v", edge, err)
		return
	}
	k := fmt.Sprintf("%s %s %d", w.hub.shelf.generation, p.Origin, p.Size)
	if old, ok := c.cosigned[k]; ok && old != p.Root {
		w.violate("I2: two roots co-signed at %s", k)
	}
	c.cosigned[k] = p.Root
	for _, a := range w.hub.shelf.order {
		if wire.Origin(network, node, edge, a.epoch) != p.Origin || a.edge != edge {
			continue
		}
		v := w.hub.shelf.logs[a]
		if v.state.Size < p.Size {
			break
		}
		if root, known := v.rootAt(p.Size); known && root != p.Root {
			w.violate("I1: co-signed root of %s at %d is not what is stored", edge, p.Size)
		}
		return
	}
	w.violate("I1: co-signed %d leaves of %s that are not stored", p.Size, edge)
}

func (c *checks) backedUp(s *shelf) {
	for _, a := range s.order {
		c.backed[a] = max(c.backed[a], s.logs[a].state.Size)
	}
}

func (c *checks) restored(w *world) { clear(c.floor) }

// pruned holds every leaf that an edge deletes to I3.
func (c *checks) pruned(w *world, a address, index uint64, leaf []byte) {
	if index >= c.backed[a] {
		w.violate("I3: edge %s pruned leaf %d, of which no backup exists", a.edge, index)
	}
	if c.gone[a] == nil {
		c.gone[a] = map[uint64][]byte{}
	}
	c.gone[a][index] = leaf
	w.saw("pruned")
}

// privateAt holds a stored private part to its commitment.
func (w *world) privateAt(a address, p intake.PrivatePart, l event.Leaf) {
	if l.Index != p.Index || l.Commitment == nil || event.Commit(p.Salt, p.Bytes) != *l.Commitment {
		w.violate("private part of %s %d does not fit its leaf", a.edge, p.Index)
	}
}

// settled reports whether every device has delivered everything, and why not.
func (w *world) settled() (bool, string) {
	for _, d := range w.devices {
		if !d.powered {
			return false, d.name + " is off"
		}
		r, c := d.machine.Report(), d.book.last()
		if r.State != outbox.Live || r.Epoch != c.id || c.receipt != c.size() {
			return false, fmt.Sprintf("%s is %s at epoch %s, receipt %d of %d", d.name, r.State, r.Epoch, c.receipt, c.size())
		}
		v := w.hub.shelf.logs[address{d.edge, c.id}]
		if v == nil || v.state.Size != c.size() {
			return false, d.name + ": the hub has less"
		}
	}
	return true, ""
}

// final holds the end to every promise.
func (w *world) final() {
	index := w.stored()
	gone := map[[32]byte]bool{} // what was pruned is held to account in gaps
	for _, leaves := range w.check.gone {
		for _, line := range leaves {
			if key, ok := original(line); ok {
				gone[key] = true
			}
		}
	}
	for _, d := range w.devices {
		for at, c := range d.book.epochs {
			damaged := false
			for _, later := range d.book.epochs[at:] {
				damaged = damaged || later.damaged
			}
			for i := c.pruned; i < c.size(); i++ {
				line := c.entries[i].Leaf
				key, ok := original(line)
				if !ok {
					continue // opaque, without effect; or it tells of the epoch itself
				}
				if c.abandoned && index[key] == 0 && (damaged || gone[key]) {
					// It had been carried over, and the copy was lost with the damaged tail of the later epoch, or was
					// pruned there after a backup.
					w.saw("copy of a carried leaf lost")
					continue
				}
				if index[key] == 0 {
					w.violate("lost: leaf %d of %s epoch %s is not in the hub, nor replayed", i, d.name, c.id)
				}
			}
		}
	}
	w.gaps(index)
	w.result.Leaves = len(index)
	w.finish()
}

// gaps holds I11: what was pruned is in the hub, or a range is marked as lost.
func (w *world) gaps(index map[[32]byte]int) {
	for _, a := range w.hub.shelf.order {
		v := w.hub.shelf.logs[a]
		standing, err := intake.ParseStanding(v.standing)
		if err != nil {
			w.violate("%v", err)
			continue
		}
		if standing.Status != wire.StatusOpen && v.state.Size > standing.Limit {
			w.violate("closed epoch of %s grew to %d past its limit %d", a.edge, v.state.Size, standing.Limit)
		}
		for i, line := range v.lines {
			lost := false
			for _, l := range standing.Lost {
				lost = lost || uint64(i) >= l.From && uint64(i) < l.To
			}
			if (line == nil) != lost {
				w.violate("I11: leaf %d of %s: lost is %v, marked is %v", i, a.edge, line == nil, lost)
			}
		}
		for i, line := range w.check.gone[a] {
			key, ok := original(line)
			if !ok || index[key] > 0 || standing.Status == wire.StatusFork {
				continue
			}
			if i < uint64(len(v.lines)) && v.lines[i] == nil {
				w.saw("pruned, then lost by a restore, and marked")
				continue
			}
			if i < uint64(len(v.lines)) {
				w.violate("pruned leaf %d of %s was replaced", i, a.edge)
			}
		}
	}
}

// stored recomputes every tree of the hub from its lines, and counts every original once: a replayed leaf counts as its
// original, whatever epoch it stands in.
func (w *world) stored() map[[32]byte]int {
	index := map[[32]byte]int{}
	for _, a := range w.hub.shelf.order {
		v := w.hub.shelf.logs[a]
		if uint64(len(v.lines)) != v.state.Size {
			w.violate("hub: %d lines of %s, size %d", len(v.lines), a.edge, v.state.Size)
		}
		if last := v.stops[len(v.stops)-1]; last.root() != v.state.Root {
			w.violate("hub: root of %s at %d is not that of its lines", a.edge, v.state.Size)
		}
		for i, line := range v.lines {
			if line == nil {
				continue
			}
			l, err := event.Parse(line)
			if err != nil {
				continue
			}
			if l.Edge != a.edge || l.Epoch != a.epoch || l.Index != uint64(i) {
				w.violate("I4: leaf %d of %s calls itself %s %s %d", i, a.edge, l.Edge, l.Epoch, l.Index)
			}
			key, ok := originalOf(&l, line)
			if !ok {
				continue
			}
			if index[key]++; index[key] > 1 {
				// Two copies of one disk may carry the same original over, or a hub restored to an older backup may get
				// an original that a fork has carried over already. The effect of a leaf has one key, that of its
				// original, so it counts once; twice at one address is I4 above.
				w.saw("original carried over twice")
				index[key] = 1
			}
		}
	}
	return index
}

// original identifies the fact of a line: a replayed leaf is its original.
func original(line []byte) ([32]byte, bool) {
	l, err := event.Parse(line)
	if err != nil {
		return [32]byte{}, false
	}
	return originalOf(&l, line)
}

func originalOf(l *event.Leaf, line []byte) ([32]byte, bool) {
	switch l.Kind {
	case event.KindFork, event.KindRestored, event.KindRecovered:
		return [32]byte{}, false
	case event.KindReplayed:
		var r event.Replayed
		if json.Unmarshal(l.Body, &r) != nil {
			return [32]byte{}, false
		}
		return sha256.Sum256([]byte(r.Leaf)), true
	}
	return sha256.Sum256(line), true
}

func (w *world) finish() {
	for _, a := range w.hub.shelf.order {
		v := w.hub.shelf.logs[a]
		fmt.Fprintf(w.sum, "%s %s %d %x %s\n", a.edge, a.epoch, v.state.Size, v.state.Root[:], v.standing)
		for _, l := range v.lines {
			w.sum.Write(l)
		}
	}
	w.result.Digest = [32]byte(w.sum.Sum(nil))
	w.result.Virtual = w.now
}

// calm waits until everything has arrived.
func (w *world) calm() {
	w.stormy = false
	end := w.now + calmMax
	why := ""
	for quiet := 0; w.now < end; {
		w.until(w.now + calmLook)
		var ok bool
		if ok, why = w.settled(); !ok {
			quiet = 0
			continue
		}
		if quiet++; quiet >= int(time.Minute/calmLook) {
			return
		}
	}
	w.violate("liveness: %v after the weather calmed down, %s", calmMax, why)
}
