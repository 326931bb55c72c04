package kiosk

import (
	"time"

	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
)

// Limits of entries in the making.
const (
	TapWait      = 30 * time.Second // a proposed entry waits so long for a card
	WitnessWait  = 10 * time.Second // and so long for the second one
	MaxSessions  = 256              // entries in the making and lately made that can be asked for
	MaxRunning   = 64               // uses that were started and not stopped
	MaxRecent    = 256              // entries that can still be listed and corrected here
	MaxUsage     = 16_384           // members x resources x days counted against a daily limit
	OneSidedHour = 60               // entries without any card in an hour
	yesHold      = 1500 * time.Millisecond
)

// State is how far an entry came.
type State string

// States. Waiting and Witness hold a reader; the last five are final, except that a Running use can be stopped.
const (
	Waiting   State = "waiting"   // for a card
	Witness   State = "witness"   // for the card of a second person
	Recording State = "recording" // on its way to the disk
	Recorded  State = "recorded"
	Running   State = "running" // started
	Refused   State = "refused"
	Expired   State = "expired"
	Cancelled State = "cancelled"
)

// Final reports whether nothing more will happen to the entry by itself.
func (s State) Final() bool { return s != Waiting && s != Witness && s != Recording }

// Proposal is what somebody asks to have entered.
type Proposal struct {
	Action   event.Kind
	Resource string
	Quantity int64
	Reader   string // where the card will be shown; "" for a one-sided entry
	Note     string
	Member   string // on behalf of this member, to be confirmed by a host; or one-sided
	To       string // node of a transfer
	ToMember string
	Corrects string // "<epoch>/<index>"
	Start    bool   // begin a use whose quantity the stop will make
	Stop     string // id of the started use to stop
}

// View is what the moment of a proposal or tap looks like from outside.
type View struct {
	Roster *access.Roster
	Wall   time.Time
	Clock  event.Clock
}

// Ask is what the next card at a reader is asked to sign. It is a value: it comes back with the Tap, so that what was
// signed and what is recorded are the same bytes.
type Ask struct {
	ID      string
	Second  bool // a witness, or the host of an entry on behalf of a member
	Kind    event.Kind
	Entry   event.Entry // without home, evidence and nonce
	Member  string      // whom a second card stands beside
	Card    string
	started int64
}

// Tap is a card that answered an Ask.
type Tap struct {
	Ask       Ask
	View      View
	Card      string // card id
	Assurance card.Assurance
	Person    access.Person
	Known     access.Reason // access.Granted when card and person are in force
	Nonce     [event.NonceSize]byte
	Key       []byte // what a PKOC card proved, for the journal
	Signature []byte
}

// Input is what happens: Propose, Tap, Written or Cancel.
type Input interface{ input() }

// Propose begins an entry under an id that the caller drew.
type Propose struct {
	ID       string
	Proposal Proposal
	View     View
}

// Written says what became of a Record.
type Written struct {
	ID    string
	Epoch event.Epoch
	Index uint64
	Err   error
}

// Cancel takes a waiting entry back, or forgets a started use.
type Cancel struct{ ID string }

func (Propose) input() {}
func (Tap) input()     {}
func (Written) input() {}
func (Cancel) input()  {}

// Output is what to do: Record, Say or Keep.
type Output interface{ output() }

// Record wants a fact durable; Written answers it.
type Record struct {
	ID   string
	Fact event.Fact
}

// Say tells the person at a reader a word.
type Say struct {
	Reader string
	Word   Word
	Hold   time.Duration
}

// Keep wants the started uses remembered across a restart.
type Keep struct{ Running []Use }

func (Record) output() {}
func (Say) output()    {}
func (Keep) output()   {}

// Word is one of the five words at a reader (package feedback plays them).
type Word int

// The words that a kiosk uses.
const (
	Working Word = iota + 1
	Yes
	NotNow
	TryAgain
)

// Session is one entry in the making, for whoever asks.
type Session struct {
	ID       string
	State    State
	Reason   string // of Refused: a short word
	Proposal Proposal
	Measure  string
	Quantity int64
	Person   access.Person // once known
	Evidence string        // once known
	Address  string        // of Recorded: "<epoch>/<index>"
	Until    time.Duration // of Waiting and Witness, monotonic
}

type session struct {
	Session
	order uint64
	entry event.Entry
	first Tap // of the member, once tapped
	use   *Use
	old   *made
	usage usageKey
	spent int64 // counted against the daily limit, to be given back if the record fails
}

// Config is where this machine stands.
type Config struct {
	Network, Node, Edge string
	Readers             []string
}

// Machine owns the entries in the making at one edge. It is a value of monotonic times without clock, randomness or I/O;
// one caller at a time.
type Machine struct {
	cfg      Config
	sessions map[string]*session
	order    uint64
	running  map[string]*Use
	book     book
	oneSided []time.Duration // of the last hour, ascending
}

// NewMachine makes a machine with the uses that a former start left running.
func NewMachine(cfg Config, running []Use) *Machine {
	m := &Machine{cfg: cfg, sessions: map[string]*session{}, running: map[string]*Use{}, book: newBook()}
	for _, u := range running[:min(len(running), MaxRunning)] {
		u.mono, u.here = 0, false
		m.running[u.ID] = &u
		m.order++
		m.sessions[u.ID] = &session{order: m.order, use: &u, Session: Session{ID: u.ID, State: Running, Measure: u.Measure,
			Proposal: Proposal{Action: event.KindUse, Resource: u.Resource, Start: true}}}
	}
	return m
}

// Step takes one input at a monotonic time. Only a Propose can fail, with a *Refusal, and then nothing has changed.
func (m *Machine) Step(now time.Duration, in Input) ([]Output, error) {
	m.expire(now)
	switch in := in.(type) {
	case Propose:
		return m.propose(now, in)
	case Tap:
		return m.tap(now, in), nil
	case Written:
		return m.written(in), nil
	case Cancel:
		return m.cancel(in), nil
	}
	return nil, nil
}

func (m *Machine) expire(now time.Duration) {
	for _, s := range m.sessions {
		if (s.State == Waiting || s.State == Witness) && now >= s.Until {
			s.State = Expired
		}
	}
}

// Waiting says what the next card at a reader is to sign; false when no entry waits there and the reader belongs to its
// door.
func (m *Machine) Waiting(now time.Duration, reader string, view View) (Ask, bool) {
	m.expire(now)
	for _, s := range m.sessions {
		if s.Proposal.Reader != reader || s.State != Waiting && s.State != Witness {
			continue
		}
		a := Ask{ID: s.ID, Kind: s.Proposal.Action, Entry: s.entry}
		switch {
		case s.State == Witness:
			a.Second, a.Member, a.Card = true, s.first.Person.ID, s.first.Card
		case s.Proposal.Member != "":
			a.Second, a.Member = true, s.Proposal.Member
		case s.use != nil:
			a.Entry.Quantity, a.started = s.use.quantity(now, view), s.use.Started
		}
		if s.State == Waiting && s.old == nil {
			a.Entry.Day = day(view)
		}
		return a, true
	}
	return Ask{}, false
}

// Bytes are what the card's signature covers, besides a nonce.
func (m *Machine) Bytes(a Ask) []byte {
	return event.EntryBytes(&event.Leaf{Network: m.cfg.Network, Node: m.cfg.Node, Edge: m.cfg.Edge, Kind: a.Kind}, &a.Entry)
}

// Session returns an entry in the making, or lately made.
func (m *Machine) Session(now time.Duration, id string) (Session, bool) {
	m.expire(now)
	s, ok := m.sessions[id]
	if !ok {
		return Session{}, false
	}
	return s.Session, true
}

func (m *Machine) propose(now time.Duration, in Propose) ([]Output, error) {
	s := &session{Session: Session{ID: in.ID, State: Waiting, Proposal: in.Proposal, Until: now + TapWait}}
	if err := m.check(s, in.View); err != nil {
		return nil, err
	}
	if err := m.makeRoom(); err != nil {
		return nil, err
	}
	m.order++
	s.order = m.order
	if s.Proposal.Reader != "" {
		m.sessions[s.ID] = s
		return nil, nil
	}
	return m.oneSidedEntry(now, s, in.View)
}

// makeRoom forgets the oldest entry that is settled. Started uses stay until they are stopped; they have a bound of
// their own.
func (m *Machine) makeRoom() error {
	if len(m.sessions) < MaxSessions {
		return nil
	}
	var oldest *session
	for _, s := range m.sessions {
		if s.State.Final() && s.State != Running && (oldest == nil || s.order < oldest.order) {
			oldest = s
		}
	}
	if oldest == nil {
		return refuse(Full, "full", "too many entries wait; try again in half a minute")
	}
	delete(m.sessions, oldest.ID)
	return nil
}

// oneSidedEntry records what somebody wrote down without any card: class C.
func (m *Machine) oneSidedEntry(now time.Duration, s *session, v View) ([]Output, error) {
	for len(m.oneSided) > 0 && now-m.oneSided[0] >= time.Hour {
		m.oneSided = m.oneSided[1:]
	}
	if len(m.oneSided) >= OneSidedHour {
		return nil, refuse(Full, "full", "too many entries without a card in an hour; tap at a reader")
	}
	person, ok := v.Roster.Person(s.Proposal.Member)
	if !ok {
		return nil, refuse(Ruled, string(access.UnknownCard), "no such member in this node's roster")
	}
	if s.entry.Day = day(v); s.old != nil {
		s.entry.Day = s.old.Entry.Day
	}
	if why := m.permits(s, person, v); why != "" {
		return nil, refuse(Ruled, why, "the catalogue does not allow it: %s", why)
	}
	if r, _ := v.Roster.Resource(s.entry.Resource); r.NeedsWitness(s.entry.Quantity) {
		return nil, refuse(Ruled, "needs-witness", "an entry of this size needs two cards; name a reader")
	}
	m.oneSided = append(m.oneSided, now)
	m.sessions[s.ID] = s
	s.first = Tap{View: v, Person: person}
	s.Evidence = event.EvidenceC
	return m.record(now, s, Tap{}), nil
}

func (m *Machine) cancel(in Cancel) []Output {
	s, ok := m.sessions[in.ID]
	if !ok {
		return nil
	}
	switch s.State {
	case Waiting, Witness:
		s.State = Cancelled
	case Running:
		s.State = Cancelled
		delete(m.running, s.ID)
		return []Output{m.keep()}
	}
	return nil
}
