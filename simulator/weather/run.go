package weather

import (
	"fmt"
	"time"

	"kith/edge/outbox"
)

// Run plays one seed: some edges, some weather, calm, and the checks.
func Run(seed uint64, o Options) Result {
	w := newWorld(seed, o)
	w.climate = climate{
		loss: 0.3 * w.rng.Float64() * w.rng.Float64() * 2, double: 0.5 * w.rng.Float64(), late: 0.05 * w.rng.Float64(),
		crash: 0.004 * w.rng.Float64(), delay: w.between(2*time.Millisecond, 300*time.Millisecond),
	}
	w.climate.loss = min(w.climate.loss, 0.3)
	w.stormy = true
	for i := range 1 + w.draw(3) {
		edge := fmt.Sprintf("edge%d", i)
		w.hub.nodes[edge] = "node"
		d := w.device(edge)
		d.book = newBook(w, "node", edge)
		d.start()
		w.taps4(d)
	}
	w.hub.start()
	storm := w.between(stormMin, stormMax)
	for range 3 + w.draw(14) {
		w.after(w.between(5*time.Second, storm), w.trouble)
	}
	w.until(storm)
	w.clear()
	w.calm()
	w.final()
	return w.result
}

// taps4 lets people come to a door for as long as the storm lasts.
func (w *world) taps4(d *device) {
	pace := w.between(2*time.Second, 30*time.Second)
	var next func()
	next = func() {
		if !w.stormy {
			return
		}
		n := 1
		if w.chance(0.01) {
			n = 50 + w.draw(250) // a morning's queue after a day without power
		}
		if w.chance(0.001) {
			n = 1500
		}
		d.tap(n)
		w.after(w.between(pace/4, 2*pace), next)
	}
	w.after(w.between(0, pace), next)
}

// clear ends every trouble.
func (w *world) clear() {
	w.hub.slow, w.hub.shelf.full = false, false
	for _, d := range w.devices {
		d.noUp, d.noDown = false, false
		d.connect(w.between(0, 3*time.Second))
	}
	w.trace("the weather calms down")
}

// trouble is one bad thing, chosen by lot.
func (w *world) trouble() {
	d := w.devices[w.draw(len(w.devices))]
	switch w.draw(16) {
	case 0:
		d.crash("at a bad moment")
	case 1:
		w.hub.crash("at a bad moment")
	case 2, 3:
		w.partition(d)
	case 4:
		d.disconnect()
		d.connect(w.between(time.Second, 10*time.Second))
	case 5, 6:
		w.hub.backup()
	case 7:
		if n := len(w.hub.backups); n > 0 {
			w.hub.restore(w.draw(n))
		}
	case 8:
		d.snap = d.book.copy()
		w.trace("%s: its disk is copied", d.name)
	case 9:
		w.rollback(d)
	case 10:
		w.clone(d)
	case 11:
		w.hub.backup()
		w.after(45*time.Second, func() {
			if d.powered && d.book.prune() {
				w.trace("%s prunes", d.name)
			}
		})
	case 12:
		w.fullDisk()
	case 13:
		w.hub.slow = true
		w.after(w.between(10*time.Second, 90*time.Second), func() { w.hub.slow = false })
		w.saw("hub throttled")
	case 14:
		if d.powered {
			w.damage(d)
		}
	case 15:
		if d.powered {
			d.noise()
			d.book.put([]byte(`not a leaf, whoever wrote it`), [32]byte{}, nil)
			d.step(outbox.InTick{})
		}
	}
}

func (w *world) partition(d *device) {
	up, down := w.chance(0.7), w.chance(0.7)
	d.noUp, d.noDown = up, down
	w.trace("%s is cut off: up %v, down %v", d.name, up, down)
	w.saw(fmt.Sprintf("partition up=%v down=%v", up, down))
	w.after(w.between(time.Second, 3*time.Minute), func() { d.noUp, d.noDown = false, false })
}

// rollback puts an older copy of the disk into the device; sometimes people tap before it is on the net again.
func (w *world) rollback(d *device) {
	if d.snap == nil {
		return
	}
	d.crash("for an older disk")
	d.book = d.snap
	d.snap = d.book.copy()
	d.noUp, d.noDown = true, true
	w.after(w.between(2*time.Second, 40*time.Second), func() { d.noUp, d.noDown = false, false })
	w.trace("%s: an older disk is put in", d.name)
	w.saw("edge rolled back")
}

// clone is a second device with the same disk and key.
func (w *world) clone(d *device) {
	if len(w.devices) >= 5 {
		return
	}
	c := w.device(d.edge)
	c.disk = d.disk
	c.book = d.book.copy()
	w.trace("%s is a copy of %s", c.name, d.name)
	w.saw("edge cloned")
	c.start()
	w.taps4(c)
	if w.chance(0.5) { // online in turn
		d.disconnect()
		d.connect(w.between(20*time.Second, 2*time.Minute))
	}
}

func (w *world) fullDisk() {
	w.hub.shelf.full = true
	s := w.hub.shelf
	w.after(w.between(5*time.Second, time.Minute), func() { s.full = false; w.hub.shelf.full = false })
}

// damage is a bad sector in the tail of the journal, found at the next start.
func (w *world) damage(d *device) {
	d.crash("with a damaged disk")
	d.book.boot = w.word()
	d.book.truncate(uint64(1 + w.draw(5)))
	w.saw("edge lost its tail")
}
