package outbox

import (
	"time"

	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/wire"
)

// Times and bounds of the machine.
const (
	Window      = 4                      // batches in flight
	FullBatch   = 100                    // leaves that are worth a batch of their own while others are in flight
	Linger      = 250 * time.Millisecond // how long fewer may wait for company
	KeepAlive   = 30 * time.Second       // a hello after so much silence
	firstWait   = 4 * time.Second        // for an answer; doubles up to maxWait
	maxWait     = 60 * time.Second
	creditWait  = 5 * time.Second  // before asking again whether there is credit
	turnedAway  = 60 * time.Second // before asking again when the hub does not know us, or retired us
	epochPause  = 60 * time.Second // between two new epochs: a hub gone mad must not fill the disk with them
	helloPause  = time.Second      // between two hellos that answers provoke
	maxFailures = 5                // attempts to carry an older epoch over before later ones go on without it
	maxUnknown  = 3                // questions about roots that tell nothing before the search ends where it is
	maxBridges  = 8                // bridges sent in vain before the rest is carried over
	maxRosterIn = 20               // repeats of one roster request before the next offer is awaited
)

// State is where the outbox stands. Offline, Hello, CatchUp and Live are the ordinary path.
type State string

// States.
const (
	Offline   State = "offline"    // no session
	Hello     State = "hello"      // connected, the hub's state is not known
	CatchUp   State = "catch-up"   // the hub has less than we
	Live      State = "live"       // the hub has all, or all is in flight
	HubForgot State = "hub-forgot" // the hub has less than it once co-signed: sent again from there
	Forgot    State = "forgot"     // the hub has more than we: this disk is an older copy; a new epoch follows
	Forked    State = "forked"     // our history and the hub's differ; the place is being found, a new epoch follows
	Away      State = "turned-away"
)

// Relation compares the hub's head with our own tree.
type Relation int

// Relations.
const (
	Equal   Relation = iota // its size is not above ours and its root is ours at that size
	Differs                 // its size is not above ours and its root is another
	Ahead                   // its size is above ours
	Unclear                 // our tree could not be read now
)

// Verdict is what the journal found of a receipt note.
type Verdict int

// Verdicts. Only Ours moves anything.
const (
	NoNote    Verdict = iota
	Ours              // both signatures stand, the root is ours; the journal has kept it
	Foreign           // both signatures stand, but the root is not ours or the size is beyond ours
	Worthless         // a signature does not stand
)

// Input is one thing that happened, with the journal's epochs as they are now, oldest first.
type Input struct {
	Epochs []journal.EpochInfo
	Event  any // one of the In... types
}

// Events.
type (
	// InLink tells that the session came up or went down.
	InLink struct{ Up bool }
	// InTick is the passing of time, or new leaves.
	InTick struct{}
	// InState is the hub's answer to a hello, with what the journal makes of it.
	InState struct {
		State    *wire.State
		Relation Relation
		Note     Verdict
		NoteSize uint64
	}
	// InReceipt is a receipt.
	InReceipt struct {
		Receipt *wire.Receipt
		Note    Verdict
	}
	// InNeed asks for leaves.
	InNeed struct{ Need *wire.Need }
	// InConflict says that something did not fit.
	InConflict struct{ Conflict *wire.Conflict }
	// InRoots tells where the hub's roots are ours.
	InRoots struct {
		Roots *wire.Roots
		Known []bool
		Same  []bool
	}
	// InSent is the result of SendBatch or SendBridge. Leaves 0: it could not be read or sent.
	InSent struct {
		Epoch  event.Epoch
		From   uint64
		Leaves uint64
	}
	// InStarted is the result of StartEpoch.
	InStarted struct{ OK bool }
	// InRoster is what the roster wants next.
	InRoster struct{ Want Want }
)

// Output is one thing to do.
type Output any

// Outputs.
type (
	// SendHello says where we stand in an epoch.
	SendHello struct {
		Epoch      event.Epoch
		Seq        uint64
		Challenge  string
		Generation string
	}
	// SendBatch sends up to Max leaves; the answer is InSent.
	SendBatch struct {
		Epoch event.Epoch
		From  uint64
		Max   int
	}
	// SendBridge leads the hub from Old over what was pruned here; the answer is InSent.
	SendBridge struct {
		Epoch event.Epoch
		Old   uint64
	}
	// SendHead shows our signed head at Size.
	SendHead struct {
		Epoch event.Epoch
		Size  uint64
	}
	// SendRootsGet asks for the hub's roots.
	SendRootsGet struct {
		Epoch event.Epoch
		Sizes []uint64
	}
	// SendRosterGet asks for one part of the roster.
	SendRosterGet struct{ Version, Part uint64 }
	// StartEpoch ends Old, or gives up the rest of an older epoch, and carries [From, To) of it over; the answer is
	// InStarted. To of the current epoch is its end at that moment.
	StartEpoch struct {
		Kind    event.Kind
		Old     event.Epoch
		OldSize uint64
		From    uint64
		To      uint64
		Why     string
	}
	// SetBackup tells the journal what stands in the hub's backup.
	SetBackup struct {
		Epoch     event.Epoch
		Watermark uint64
	}
	// Wake asks for an InTick at that time at the latest.
	Wake struct{ At time.Duration }
)

// Want is what a roster lacks. Zero: nothing.
type Want struct {
	More    bool
	Version uint64
	Part    uint64
}

// Settings of a machine.
type Settings struct {
	Boot string // of this start: 16 hex digits
	Seed uint64 // of the jitter
	// Broken switches on deliberate defects; tests prove with them that the checks can fail.
	Broken Defects
}

// Defects that must never be on.
type Defects struct {
	AckOnSend        bool // takes a sent batch for a received one, whatever the hub says
	AnyGeneration    bool // takes what a hub had before its restore for what it has now
	IgnoreEpoch      bool // goes on appending to an epoch that has forked
	SkipOldEpochs    bool // delivers the current epoch only
	ForgetTheReplays bool // starts a new epoch without the leaves that differ
}

type span struct {
	from, to uint64
	at       time.Duration // when it was sent
	by       time.Duration // when an answer is overdue
}

// Machine is the outbox as a pure state machine: Step reads no clock and draws no lot but from its seed. One goroutine
// owns it.
type Machine struct {
	set   Settings
	rng   uint64
	now   time.Duration
	in    []journal.EpochInfo
	out   []Output
	state State

	up         bool
	cursor     event.Epoch // the epoch being delivered
	done       map[event.Epoch]bool
	generation string
	challenge  string
	held       bool
	duplicate  bool

	seq, answered uint64
	helloAt       time.Duration // when the last hello went out
	helloBy       time.Duration // when its answer is overdue; 0: none is awaited
	helloNext     time.Duration // a hello that is due later; 0: none
	tries         int
	took          time.Duration // of answers lately: the longest, fading

	hub      uint64 // leaves the hub has of the cursor's epoch in this generation
	credit   uint64
	limit    uint64 // where the hub has closed the epoch; 0: open
	next     uint64 // first leaf not sent
	flight   []span
	unsure   bool          // something was lost: the hub's state is awaited before more is sent
	sending  bool          // a SendBatch or SendBridge is not answered yet
	retryAt  time.Duration // after one that failed
	lingerBy time.Duration // when a small batch goes out anyway; 0: none waits
	spoke    time.Duration // when we last sent anything
	needAt   time.Duration // when a need was last followed

	acked    map[event.Epoch]uint64 // only with Broken.AckOnSend
	search   *search
	epochAt  time.Duration // when the last new epoch was started
	epochs   int
	starting bool
	failures int // of StartEpoch in a row
	bridges  int // sent in a row without an effect

	roster roster
}

type roster struct {
	want  Want
	by    time.Duration
	tries int
}

// New makes a machine that is offline.
func New(s Settings) *Machine {
	return &Machine{set: s, rng: s.Seed, state: Offline, done: map[event.Epoch]bool{}, acked: map[event.Epoch]uint64{}}
}

// Report is what others may know of the machine.
type Report struct {
	State      State
	Held       bool // an operator of the hub must decide before our leaves count
	Duplicate  bool // tamper alarm: another device lives with our key
	Generation string
	Epoch      event.Epoch // being delivered
	Hub, Next  uint64      // leaves the hub has of it; first leaf not sent
	InFlight   int
}

// Report tells the state.
func (m *Machine) Report() Report {
	return Report{m.state, m.held, m.duplicate, m.generation, m.cursor, m.hub, m.next, len(m.flight)}
}

// Step takes one input and returns what to do, in order. The last output is always a Wake.
func (m *Machine) Step(now time.Duration, in Input) []Output {
	m.now, m.in, m.out = now, in.Epochs, nil
	if len(m.in) == 0 {
		return []Output{Wake{At: now + KeepAlive}}
	}
	if m.epoch(m.cursor) == nil {
		m.point()
	}
	m.handle(in.Event)
	m.timers()
	m.pump()
	return append(m.out, Wake{At: m.wake()})
}

func (m *Machine) handle(event any) {
	switch e := event.(type) {
	case InLink:
		m.link(e.Up)
	case InState:
		m.onState(e)
	case InReceipt:
		m.onReceipt(e)
	case InNeed:
		m.onNeed(e.Need)
	case InConflict:
		m.onConflict(e.Conflict)
	case InRoots:
		m.onRoots(e)
	case InSent:
		m.onSent(e)
	case InStarted:
		m.onStarted(e.OK)
	case InRoster:
		m.onRoster(e.Want)
	}
}

func (m *Machine) send(o Output) {
	m.out = append(m.out, o)
	m.spoke = m.now
}

func (m *Machine) epoch(id event.Epoch) *journal.EpochInfo {
	for i := range m.in {
		if m.in[i].Epoch == id {
			return &m.in[i]
		}
	}
	return nil
}

func (m *Machine) last() *journal.EpochInfo { return &m.in[len(m.in)-1] }

// deliverable is how far an epoch is to be delivered: an abandoned one only as far as it stands, because what came after
// lives on in a later epoch.
func deliverable(e *journal.EpochInfo) uint64 {
	if e.Abandoned {
		return min(e.Size, e.Receipt)
	}
	return e.Size
}

// point sets the cursor to the oldest epoch that is not delivered: epochs arrive in their order.
func (m *Machine) point() {
	m.cursor = m.last().Epoch
	for i := range m.in[:len(m.in)-1] {
		e := &m.in[i]
		if !m.done[e.Epoch] && deliverable(e) > 0 && !m.set.Broken.SkipOldEpochs {
			m.cursor = e.Epoch
			break
		}
	}
	m.forgetHub()
}

// forgetHub drops what was believed of the hub's copy of the cursor's epoch.
func (m *Machine) forgetHub() {
	m.hub, m.next, m.credit, m.limit, m.flight, m.search = 0, 0, 0, 0, nil, nil
	m.lingerBy, m.retryAt, m.sending = 0, 0, false
	m.needAt, m.unsure = 0, false
}

func (m *Machine) link(up bool) {
	if up == m.up && up {
		return
	}
	m.up = up
	m.forgetHub()
	m.helloBy, m.helloNext, m.tries, m.took = 0, 0, 0, 0
	m.roster.by = 0
	m.state = Offline
	if up {
		m.point()
		m.state = Hello
		m.hello()
		m.askRoster()
	}
}

// hello asks the hub where it stands in the cursor's epoch.
func (m *Machine) hello() {
	m.seq++
	m.helloAt, m.helloNext = m.now, 0
	m.helloBy = m.now + m.wait()
	m.send(SendHello{Epoch: m.cursor, Seq: m.seq, Challenge: m.challenge, Generation: m.generation})
}

// helloSoon asks once, however many answers say that we should.
func (m *Machine) helloSoon() {
	if !m.up || m.helloBy != 0 {
		return
	}
	at := max(m.helloAt+helloPause, m.now)
	if m.helloNext == 0 || at < m.helloNext {
		m.helloNext = at
	}
}

func (m *Machine) helloIn(d time.Duration) {
	at := m.now + d
	if m.helloNext == 0 || at < m.helloNext {
		m.helloNext = at
	}
}

// wait is how long to wait for an answer: three times what answers took lately, at least 4 s, doubling with each failure up
// to 60 s, less a random quarter, so that a thousand edges that lost the hub together do not ask together.
func (m *Machine) wait() time.Duration {
	d := min(max(firstWait, 3*m.took)<<min(m.tries, 5), maxWait)
	return d - time.Duration(m.random()%uint64(d/4))
}

// answer takes note of how long one took. A slow hub must not be asked twice for what it is still busy with.
func (m *Machine) answer(took time.Duration) {
	m.took = max(took, m.took-m.took/8)
}

// random is splitmix64.
func (m *Machine) random() uint64 {
	m.rng += 0x9e3779b97f4a7c15
	z := m.rng
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (m *Machine) timers() {
	if !m.up {
		return
	}
	switch {
	case m.helloBy != 0 && m.now >= m.helloBy:
		m.tries++
		m.hello()
	case m.helloBy == 0 && m.helloNext != 0 && m.now >= m.helloNext,
		m.helloBy == 0 && m.now >= m.helloAt+KeepAlive:
		m.hello()
	case m.helloBy == 0 && len(m.flight) > 0 && m.now >= m.flight[0].by:
		// Something was lost. The hub's own word says from where to send again.
		m.tries++
		m.flight, m.unsure = nil, true
		m.hello()
	}
	if m.search != nil {
		m.searchTimer()
	}
	if m.roster.by != 0 && m.now >= m.roster.by {
		m.askRoster()
	}
}

// wake is the next time at which something may be due. What is due already was done in this step, or waits for an event and
// not for a time: it must not wake a small computer a thousand times a second.
func (m *Machine) wake() time.Duration {
	at := m.now + KeepAlive
	sooner := func(t time.Duration) {
		if t > m.now {
			at = min(at, t)
		}
	}
	if !m.up {
		return at
	}
	sooner(m.helloBy)
	sooner(m.roster.by)
	sooner(m.lingerBy)
	sooner(m.retryAt)
	if m.helloBy == 0 {
		sooner(m.helloNext)
		sooner(m.helloAt + KeepAlive)
		if len(m.flight) > 0 {
			sooner(m.flight[0].by)
		}
	}
	if m.search != nil {
		sooner(m.search.by)
	}
	return at
}

func (m *Machine) onRoster(w Want) {
	if m.duplicate {
		w = Want{} // who carries our key may be asking in our name: what we hold stays in force
	}
	if w != m.roster.want {
		m.roster.tries = 0
	}
	m.roster.want = w
	m.askRoster()
}

func (m *Machine) askRoster() {
	m.roster.by = 0
	if !m.roster.want.More || !m.up || m.duplicate {
		return
	}
	if m.roster.tries++; m.roster.tries > maxRosterIn {
		m.roster = roster{}
		return
	}
	m.roster.by = m.now + min(firstWait<<min(m.roster.tries-1, 4), maxWait)
	m.send(SendRosterGet{m.roster.want.Version, m.roster.want.Part})
}
