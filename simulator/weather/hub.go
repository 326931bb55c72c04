package weather

import (
	"context"
	"time"

	"kith/hub/intake"
	"kith/internal/wire"
)

// hub is the process and the disk of the hub.
type hub struct {
	w       *world
	up      bool
	run     int
	shelf   *shelf
	intake  *intake.Intake
	inbox   []intake.Message
	serving bool
	slow    bool
	backups []*shelf
	nodes   map[string]string // edge -> node
	retired map[string]bool
}

// Bounds of the hub's model.
const (
	serveEvery = 5 * time.Millisecond
	slowEvery  = 800 * time.Millisecond
	idleEvery  = time.Second
	restWait   = 20 * time.Second
)

func newHub(w *world) *hub {
	h := &hub{w: w, nodes: map[string]string{}, retired: map[string]bool{}}
	h.shelf = newShelf(w)
	return h
}

// Admission is intake.Edges.
func (h *hub) Admission(edge string) (intake.Admission, bool) {
	node, ok := h.nodes[edge]
	if !ok {
		return intake.Admission{}, false
	}
	return intake.Admission{Node: node, Verifier: newKey(network + "/" + node + "/" + edge), Retired: h.retired[edge]}, true
}

func (h *hub) start() {
	in, err := intake.Open(context.Background(), intake.Options{
		Network: network, Store: h.shelf, Edges: h, Sender: h, Signer: h.w.witness, Witness: h.w.witness, Serial: true,
		Word: h.w.word()[:8], Broken: h.w.opt.Broken.Hub,
		Now: func() time.Time { return time.UnixMilli(wallAtStart).Add(h.w.now) },
	})
	if err != nil {
		h.w.violate("hub does not start: %v", err)
		return
	}
	h.run++
	h.intake, h.up, h.inbox, h.serving = in, true, nil, false
	h.w.trace("hub starts, generation %s", h.shelf.generation)
	h.idle()
	for _, d := range h.w.devices {
		d.connect(h.w.between(100*time.Millisecond, 4*time.Second))
	}
}

func (h *hub) plan(after time.Duration, do func()) {
	run := h.run
	h.w.after(after, func() {
		if h.up && h.run == run {
			do()
		}
	})
}

func (h *hub) idle() {
	h.plan(idleEvery, func() {
		h.guarded(func() { h.intake.Idle(context.Background()) })
		if h.up {
			h.idle()
		}
	})
}

func (h *hub) maybeCrash(where string) {
	if h.w.stormy && h.w.chance(h.w.climate.crash/4) {
		panic(crash{where})
	}
}

// guarded runs a part of the hub that may lose its power on the way.
func (h *hub) guarded(do func()) {
	defer func() {
		r := recover()
		if c, ok := r.(crash); ok {
			h.w.saw("hub crash " + c.where)
			h.crash(c.where)
		} else if r != nil {
			panic(r)
		}
	}()
	do()
}

func (h *hub) crash(where string) {
	if !h.up {
		return
	}
	h.w.trace("hub loses power %s", where)
	h.up = false
	h.run++
	for _, d := range h.w.devices {
		d.plan(h.w.between(10*time.Millisecond, 2*time.Second), d.disconnect)
	}
	run := h.run
	h.w.after(h.w.between(time.Second, restWait), func() {
		if h.run == run {
			h.start()
		}
	})
}

func (h *hub) receive(edge string, payload []byte) {
	waiting := 0
	for i := range h.inbox {
		if h.inbox[i].Edge == edge {
			waiting++
		}
	}
	if waiting >= intake.MaxWaiting {
		h.w.saw("hub queue full")
		return
	}
	h.inbox = append(h.inbox, intake.Message{Edge: edge, Payload: payload})
	h.schedule()
}

func (h *hub) schedule() {
	if h.serving || len(h.inbox) == 0 {
		return
	}
	h.serving = true
	every, n := serveEvery, 64
	if h.slow {
		every, n = slowEvery, 1
	}
	h.plan(every, func() {
		h.serving = false
		group := h.inbox[:min(n, len(h.inbox))]
		h.inbox = h.inbox[len(group):]
		h.guarded(func() { h.intake.Serve(context.Background(), group) })
		if h.up {
			h.schedule()
		}
	})
}

// Send is intake.Sender: every copy of the edge hears it.
func (h *hub) Send(edge string, payload []byte) error {
	h.maybeCrash("between two answers")
	h.w.note("hub", payload)
	if h.w.opt.Trace != nil {
		h.w.trace("hub tells %s %s", edge, header(payload))
	}
	h.w.check.answer(h.w, edge, payload)
	for _, d := range h.w.devices {
		if d.edge == edge {
			h.w.carry(func() bool { return d.noDown }, func() { d.receive(payload) })
		}
	}
	return nil
}

// backup makes a copy, and once it stands the marks rise.
func (h *hub) backup() {
	if !h.up {
		return
	}
	copied := h.shelf.copy()
	h.backups = append(h.backups, copied)
	h.w.check.backedUp(copied)
	for _, a := range h.shelf.order {
		v := h.shelf.logs[a]
		v.state.Backup = max(v.state.Backup, v.state.Size)
		if err := h.intake.Backed(context.Background(), a.edge, a.epoch, v.state.Size); err != nil {
			h.w.violate("backup: %v", err)
		}
	}
	h.w.trace("hub backs up %d logs", len(copied.order))
	h.w.saw("backup")
}

// restore goes back to one of the backups, under a new generation.
func (h *hub) restore(which int) {
	if len(h.backups) == 0 {
		return
	}
	if h.up {
		h.crash("for a restore")
	}
	h.shelf = h.backups[which].copy()
	h.shelf.generation = h.w.word()
	h.w.check.restored(h.w)
	h.w.trace("hub is restored from backup %d of %d", which+1, len(h.backups))
	h.w.saw("hub restored")
}

func lineOf(down wire.Down) (note []byte) {
	switch m := down.(type) {
	case *wire.State:
		return m.Receipt
	case *wire.Receipt:
		return m.Note
	case *wire.Conflict:
		return m.Receipt
	}
	return nil
}
