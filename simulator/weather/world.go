// Package weather owns the bad days: a network of edges and a hub in one goroutine and in virtual time, where messages are
// lost, doubled, late and out of order, disks are full, old or copied, and programs die between any two steps. What runs
// is the product's own sync code: outbox's machine and hand, intake's checks, steps and shell.
//
// A seed decides everything: the same seed gives the same digest of all messages, and any failure can be replayed with a
// trace. After the weather comes calm, and then every promise of the sync protocol is checked. It keeps nothing on a real
// disk, opens no connection and never reads a clock.
package weather

import (
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sort"
	"time"

	"kith/edge/outbox"
	"kith/hub/intake"
	"kith/internal/event"
)

// Options of one run.
type Options struct {
	Trace  io.Writer // nil: none
	Broken Broken
}

// Broken lists deliberate defects. With any of them on, the checks must fail on some seed: that is their proof.
type Broken struct {
	Edge        outbox.Defects
	Hub         intake.Defects
	PruneOnSend bool // an edge prunes what it has only sent
}

// Result of one run.
type Result struct {
	Seed       uint64
	Digest     [sha256.Size]byte // over every message in its order, and the hub's disk at the end
	Violations []string
	Seen       map[string]int // rare states reached
	Messages   int
	Leaves     int
	Virtual    time.Duration
}

// Names lists what was seen, sorted.
func (r Result) Names() []string {
	out := make([]string, 0, len(r.Seen))
	for k := range r.Seen {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// Times of a run.
const (
	stormMin    = 3 * time.Minute
	stormMax    = 9 * time.Minute
	calmMax     = 40 * time.Minute // within which everything must have arrived
	calmLook    = 10 * time.Second
	maxHappens  = 12_000 // events of one run, three times the usual: a message storm must end the run, not the machine
	wallAtStart = int64(1_790_000_000_000)
)

type happening struct {
	at  time.Duration
	seq uint64
	do  func()
}

type agenda []happening

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(happening)) }
func (a *agenda) Pop() any {
	old := *a
	x := old[len(old)-1]
	*a = old[:len(old)-1]
	return x
}

// world is one run. Everything happens on the goroutine of Run.
type world struct {
	opt     Options
	rng     *rand.Rand
	now     time.Duration
	seq     uint64
	agenda  agenda
	witness key
	hub     *hub
	devices []*device
	result  Result
	sum     hash.Hash
	crc     *crc32.Table
	climate climate
	stormy  bool
	taps    int
	most    uint64 // events before the run is ended
	check   checks
}

// climate is how bad this seed's network is.
type climate struct {
	loss, double float64
	late         float64 // share of messages that come up to a minute late
	crash        float64 // chance of a power cut at each step between store and send
	delay        time.Duration
}

func (w *world) draw(n int) int { return w.rng.IntN(n) }

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

func (w *world) word() string { return fmt.Sprintf("%016x", w.rng.Uint64()) }

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.agenda, happening{w.now + d, w.seq, do})
}

func (w *world) saw(what string) { w.result.Seen[what]++ }

func (w *world) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.trace("VIOLATION %s", text)
	if len(w.result.Violations) < 20 {
		w.result.Violations = append(w.result.Violations, fmt.Sprintf("at %v: %s", w.now, text))
	}
}

func (w *world) trace(format string, args ...any) {
	if w.opt.Trace != nil {
		fmt.Fprintf(w.opt.Trace, "%12v %s\n", w.now, fmt.Sprintf(format, args...))
	}
}

func (w *world) note(who string, payload []byte) {
	w.result.Messages++
	var line [12]byte
	binary.BigEndian.PutUint64(line[:], uint64(w.now))
	binary.BigEndian.PutUint32(line[8:], crc32.Checksum(payload, w.crc))
	w.sum.Write(line[:])
	io.WriteString(w.sum, who)
}

func newWorld(seed uint64, o Options) *world {
	w := &world{opt: o, rng: rand.New(rand.NewPCG(seed, 0x6b697468)), witness: newKey(network + "/hub-witness"), sum: sha256.New(), crc: crc32.MakeTable(crc32.Castagnoli),
		result: Result{Seed: seed, Seen: map[string]int{}}, check: newChecks(), most: maxHappens}
	w.hub = newHub(w)
	return w
}

// until runs everything up to a moment.
func (w *world) until(end time.Duration) {
	for w.agenda.Len() > 0 && w.agenda[0].at <= end {
		if w.seq > w.most {
			w.violate("liveness: more than %d events; somebody talks without end", w.most)
			w.agenda = nil
			return
		}
		h := heap.Pop(&w.agenda).(happening)
		w.now = h.at
		h.do()
	}
	w.now = end
}

// carry takes one message over the network, as the climate has it.
func (w *world) carry(cut func() bool, deliver func()) {
	copies := 1
	if w.stormy {
		if w.chance(w.climate.loss) {
			copies = 0
		}
		if w.chance(w.climate.double) {
			copies++
		}
	}
	for range copies {
		d := time.Millisecond + w.between(0, w.climate.delay)
		if w.stormy && w.chance(w.climate.late) {
			d += w.between(0, time.Minute)
		}
		w.after(d, func() {
			if !cut() {
				deliver()
			}
		})
	}
}

func (w *world) device(edge string) *device {
	n := fmt.Sprintf("%s-%d", edge, len(w.devices))
	d := &device{w: w, name: n, edge: edge, disk: w.word()}
	w.devices = append(w.devices, d)
	return d
}

func (w *world) pruned(edge string, epoch event.Epoch, index uint64, leaf []byte) {
	w.check.pruned(w, address{edge, epoch}, index, leaf)
}
