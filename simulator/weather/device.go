package weather

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"kith/edge/outbox"
	"kith/internal/event"
	"kith/internal/wire"
)

// device is one box with one disk. A stolen and copied disk is a second device with the same edge's name and key.
type device struct {
	w       *world
	name    string
	edge    string
	disk    string
	book    *book
	machine *outbox.Machine
	hand    outbox.Hand
	run     int // counts starts; what an older start had planned does not happen
	powered bool
	linked  bool
	noUp    bool // partition: what it says is lost
	noDown  bool // partition: what is said to it is lost
	wakeAt  time.Duration
	last    outbox.State
	snap    *book
}

// crash is what a power cut throws.
type crash struct{ where string }

func (d *device) start() {
	d.run++
	d.powered, d.linked, d.wakeAt = true, false, 0
	d.book.boot, d.book.at = d.w.word(), wallAtStart+d.w.now.Milliseconds()
	d.machine = outbox.New(outbox.Settings{Boot: d.book.boot, Seed: d.w.rng.Uint64(), Broken: d.w.opt.Broken.Edge})
	d.hand = outbox.Hand{Log: d.book, Boot: d.book.boot, Disk: d.disk, Origin: d.book.origin, Own: d.book.own, Witness: d.w.witness,
		Logger: slog.New(slog.DiscardHandler)}
	d.book.write(event.KindBoot, marshal(event.Boot{Version: "weather", StateDir: d.disk}), nil)
	d.w.trace("%s starts as %s, epoch %s", d.name, d.book.boot, d.book.last().id)
	d.connect(d.w.between(100*time.Millisecond, 3*time.Second))
}

// plan does something later, unless the device has crashed by then.
func (d *device) plan(after time.Duration, do func()) {
	run := d.run
	d.w.after(after, func() {
		if d.powered && d.run == run {
			do()
		}
	})
}

func (d *device) connect(after time.Duration) {
	d.plan(after, func() {
		if d.linked || !d.w.hub.up {
			return
		}
		d.linked = true
		d.step(outbox.InLink{Up: true})
	})
}

func (d *device) disconnect() {
	if d.linked {
		d.linked = false
		d.step(outbox.InLink{Up: false})
	}
}

func (d *device) crash(where string) {
	if !d.powered {
		return
	}
	d.w.trace("%s loses power %s", d.name, where)
	d.w.saw("edge crash")
	d.powered, d.linked = false, false
	d.run++
	run := d.run
	d.w.after(d.w.between(time.Second, 20*time.Second), func() {
		if d.run == run {
			d.start()
		}
	})
}

// tap is a person at the door: durable a moment later, unless the power fails first.
func (d *device) tap(n int) {
	if !d.powered {
		return
	}
	d.plan(d.w.between(time.Millisecond, 30*time.Millisecond), func() {
		for range n {
			d.w.taps++
			id := fmt.Sprintf("t%d", d.w.taps)
			var private []byte
			if d.w.chance(0.5) {
				private = marshal(event.Private{At: d.book.at, Member: id})
			}
			kind := event.KindTap
			if d.w.chance(0.02) {
				kind = "later-kind"
			}
			d.book.at = wallAtStart + d.w.now.Milliseconds()
			d.book.write(kind, marshal(map[string]string{"tap": id}), private)
		}
		d.step(outbox.InTick{})
	})
}

func (d *device) step(ev any) {
	defer func() {
		if c, ok := recover().(crash); ok {
			d.crash(c.where)
		}
	}()
	ctx := context.Background()
	for ev != nil {
		outputs := d.machine.Step(d.w.now, outbox.Input{Epochs: d.book.Epochs(), Event: ev})
		ev = nil
		d.watch()
		for _, o := range outputs {
			if wake, ok := o.(outbox.Wake); ok {
				d.wake(wake.At)
				continue
			}
			payload, result := d.hand.Do(ctx, o)
			if d.w.stormy && d.w.chance(d.w.climate.crash) {
				panic(crash{"between disk and wire"})
			}
			if payload != nil {
				d.send(payload)
			}
			if result != nil {
				ev = result
			}
		}
	}
}

// watch takes note of rare states.
func (d *device) watch() {
	r := d.machine.Report()
	if r.State != d.last {
		d.w.trace("%s is %s (hub has %d of %s)", d.name, r.State, r.Hub, r.Epoch)
		d.w.saw("state " + string(r.State))
		if d.last == outbox.HubForgot && r.State == outbox.Live {
			d.w.saw("hub-forgot healed")
		}
		d.last = r.State
	}
	if r.Duplicate {
		d.w.saw("duplicate told")
	}
	if r.Held {
		d.w.saw("held told")
	}
	if r.InFlight >= outbox.Window {
		d.w.saw("window full")
	}
}

func (d *device) wake(at time.Duration) {
	if d.wakeAt > d.w.now && d.wakeAt <= at {
		return
	}
	d.wakeAt = at
	d.plan(max(at-d.w.now, 0), func() {
		if d.w.now >= d.wakeAt {
			d.wakeAt = 0
			d.step(outbox.InTick{})
		}
	})
}

func (d *device) send(payload []byte) {
	d.w.note(d.name, payload)
	if d.w.opt.Trace != nil {
		d.w.trace("%s says %s", d.name, header(payload))
	}
	if !d.linked {
		return
	}
	d.w.carry(func() bool { return d.noUp || !d.w.hub.up }, func() { d.w.hub.receive(d.edge, payload) })
}

func (d *device) receive(payload []byte) {
	if !d.powered || !d.linked {
		return
	}
	ev, err := d.hand.Hear(context.Background(), payload)
	if err != nil {
		d.w.violate("%s cannot read %s: %v", d.name, header(payload), err)
		return
	}
	if d.w.stormy && d.w.chance(d.w.climate.crash) {
		d.crash("after a receipt was kept")
		return
	}
	if ev != nil {
		d.step(ev)
	}
}

func header(payload []byte) string {
	for i, c := range payload {
		if c == '\n' {
			return string(payload[:i])
		}
	}
	return string(payload)
}

// noise is a message that a newer edge might send.
func (d *device) noise() {
	d.send([]byte(`{"v":1,"type":"later-type","x":1}` + "\n"))
	d.send([]byte(`{"v":2,"type":"hello"}` + "\n"))
	d.send([]byte(wire.UpTopic(d.edge)))
}
