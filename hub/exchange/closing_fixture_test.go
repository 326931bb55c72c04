package exchange

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"kith/configs"
	"kith/hub/audit"
	"kith/hub/intake"
	"kith/internal/event"
	"kith/internal/pki"
	"kith/internal/wire"
)

// personKey stands for the public key of somebody's card.
const personKey = "04a1b2c3d4e5f60718293a4b5c6d7e8f"

// lastDay is the last day of the worked example week.
var lastDay = time.Unix(20764*daySeconds, 0).UTC()

// town is the worked example network with one edge at each place, on a real desk.
type town struct {
	*bench
	houses map[string]*house
}

type house struct {
	journal
	node string
	sent uint64
}

func newTown(t *testing.T) *town {
	t.Helper()
	return townOf(t, configs.NetworkPolicy)
}

func townOf(t *testing.T, policy []byte) *town {
	t.Helper()
	cfg, err := Decode("hub.yaml", configs.NetworkHub)
	if err != nil {
		t.Fatal(err)
	}
	cfg.PolicyText = policy
	b := &bench{t: t, cfg: cfg, dir: filepath.Join(t.TempDir(), "state")}
	b.open()
	t.Cleanup(func() { b.x.close() })
	w := &town{bench: b, houses: map[string]*house{}}
	for i, n := range cfg.Nodes {
		dir := filepath.Join(t.TempDir(), n.ID)
		if _, err := b.x.Do(t.Context(), Order{Bundle: &BundleOrder{Edge: n.ID + "-front", Node: n.ID, Dir: dir}}); err != nil {
			t.Fatal(err)
		}
		w.houses[n.ID] = &house{node: n.ID, journal: journal{t: t, keys: must(pki.OpenEdge(filepath.Join(dir, "identity"))), epoch: event.Epoch{byte(i + 1)}}}
	}
	return w
}

// seeded gives every house its part of the seed, with taps between: most leaves of a journal are taps.
func (w *town) seeded() {
	w.t.Helper()
	rows := must(csv.NewReader(bytes.NewReader(configs.NetworkSeed)).ReadAll())
	for i, r := range rows[1:] {
		h := w.houses[r[0]]
		h.tap(i % 3)
		h.entry(event.Kind(r[2]), event.Entry{Resource: r[3], Quantity: int64(must(strconv.Atoi(r[4]))), Measure: r[5], Home: r[1],
			Day: must(strconv.Atoi(r[6])), Evidence: r[7]})
	}
}

func (h *house) tap(n int) {
	for range n {
		h.fact(event.KindTap, event.Tap{Door: "front", Reader: "r1", Direction: "in", Verdict: "grant", Reason: "granted", Assurance: "pkoc", Roster: 1})
	}
}

func (h *house) entry(kind event.Kind, e event.Entry) string {
	h.fact(kind, e)
	return fmt.Sprintf("%s/%d", h.epoch, h.size()-1)
}

func (h *house) fact(kind event.Kind, body any) {
	h.t.Helper()
	l := event.Leaf{Network: "commons-week", Node: h.node, Edge: h.keys.ID, Epoch: h.epoch, Index: h.size(), Kind: kind, At: hour, Clock: event.Synced,
		Boot: "00112233445566aa", Body: must(event.Marshal(body))}
	p := event.Private{At: hour + int64(l.Index), Member: "ana-of-" + h.node, Card: "pkoc:" + personKey}
	part := wire.Private{Salt: [32]byte{1, byte(l.Index), h.epoch[0]}, Bytes: must(p.Encode())}
	c := event.Commit(part.Salt, part.Bytes)
	l.Commitment = &c
	h.put(must(l.Encode()), part)
}

func (h *house) batchOf(from, to uint64) []byte {
	h.t.Helper()
	c := wire.Checkpoint{Origin: wire.Origin("commons-week", h.node, h.keys.ID, h.epoch), Size: to, Root: h.root(to)}
	signed := must(note.Sign(&note.Note{Text: c.Text()}, h.keys.Signer))
	return must((&wire.Batch{Epoch: h.epoch, From: from, Leaves: h.lines[from:to], Private: h.parts[from:to], Checkpoint: signed}).Encode())
}

// send delivers what a house has, and stores the receipt as the intake's shell does.
func (w *town) send(nodes ...string) {
	w.t.Helper()
	for _, n := range nodes {
		h := w.houses[n]
		if h.size() > h.sent {
			w.say(h.keys.ID, h.batchOf(h.sent, h.size()))
			h.sent = h.size()
		}
	}
	w.receipts()
}

// receipts tells the store what was co-signed.
func (w *town) receipts() {
	w.t.Helper()
	for _, e := range w.edges {
		for _, l := range e.Logs {
			if err := w.x.storage.Commit(w.t.Context(), []intake.Accepted{{Log: l, From: l.Size}}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

func (w *town) all() []string {
	var list []string
	for _, n := range w.cfg.Nodes {
		list = append(list, n.ID)
	}
	return list
}

func (w *town) do(o PeriodOrder, at time.Time) PeriodState {
	w.t.Helper()
	a, err := w.x.period(w.t.Context(), o, at)
	if err != nil {
		w.t.Fatalf("%+v: %v", o, err)
	}
	return a.Periods[0]
}

// closed carries a period through, without disputes.
func (w *town) closed(name string, day time.Time) []byte {
	w.t.Helper()
	w.do(PeriodOrder{Do: "close", Period: name, Day: day.Format(time.DateOnly)}, day)
	w.do(PeriodOrder{Do: "finalise", Period: name}, day.Add(8*24*time.Hour))
	w.do(PeriodOrder{Do: "post", Period: name}, day.Add(9*24*time.Hour))
	return must(w.x.bundle(w.t.Context(), name))
}

func verified(t *testing.T, bundle []byte) (*audit.Closing, audit.Report) {
	t.Helper()
	c, r := audit.Verify(bundle)
	if !r.OK {
		t.Fatalf("the bundle does not verify: %v", r.Difference)
	}
	return c, r
}
