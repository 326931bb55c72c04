package access

import "time"

// Reason says why, for the host's page and the journal. The person at the door never hears it: a refusal looks the same
// for every reason.
type Reason string

// Reasons. The last three are given by the gate, which meets a card before a roster can be asked.
const (
	Granted       Reason = "granted"
	UnknownCard   Reason = "unknown-card"    // no such card in this node's roster
	Revoked       Reason = "revoked"         // this card was taken back
	Blocked       Reason = "blocked"         // this person was blocked
	Expired       Reason = "expired"         // card, person or every fitting grant has ended
	NotYetValid   Reason = "not-yet-valid"   // card, person or every fitting grant has not begun
	UIDNotAllowed Reason = "uid-not-allowed" // a card without cryptography at a door that asks for it
	DoorClosed    Reason = "door-closed"     // a host closed the door
	WrongDoor     Reason = "wrong-door"      // no grant names this door or its zones
	Closed        Reason = "closed"          // outside the schedule
	ClockUnsure   Reason = "clock-unsure"    // the right depends on a time that is not known
	StaleRoster   Reason = "stale-roster"    // the freshness ticket ran out and the door's degraded mode does not keep this person
	NoRoster      Reason = "no-roster"       // this edge has never held a roster
	BadSignature  Reason = "bad-signature"
	Unreadable    Reason = "unreadable"
	NoRecord      Reason = "no-record" // strict door, journal not writable
)

// Degraded is what a door does while the freshness ticket has run out.
type Degraded string

// Degraded modes. The empty mode is KeepResidents.
const (
	KeepResidents  Degraded = "keep-residents" // residents and staff whose home is this node keep their rights
	StaffOnly      Degraded = "staff-only"     // hosts and operators keep their rights
	DegradedClosed Degraded = "closed"         // nobody
)

// Mode is what a host set on the door locally, beside the roster's list of closed doors.
type Mode string

// Door modes.
const (
	ModeNormal Mode = ""
	ModeClosed Mode = "closed"
)

// DegradedMax is how long a degraded mode keeps anybody when the door names no other limit (reference: 7 days).
const DegradedMax = 7 * 24 * time.Hour

// Door is what the edge's own configuration says of a door.
type Door struct {
	ID          string
	Zones       []string // at most 64 are looked at
	AllowUID    bool     // cards without cryptography are opt-in, door by door
	Degraded    Degraded
	DegradedMax time.Duration // 0 = DegradedMax
}

// Freshness is the state of the ticket: Age is the time since the hub last vouched for the roster. A lone edge with its own YAML
// roster is always fresh.
type Freshness struct {
	Fresh bool
	Age   time.Duration
}

// Query is one tap. When ClockUnsure is set, Now must be the lower bound of the true time: an end that lies before it
// is certainly past, and a beginning that lies before it certainly came.
type Query struct {
	Card        string // card id text
	Assurance   string // what the card proved; empty = read from the id text
	Door        Door
	Now         time.Time
	ClockUnsure bool
	Mode        Mode
	Fresh       Freshness
}

// Verdict is the answer with what is needed to replay it.
type Verdict struct {
	Allow         bool
	Reason        Reason
	Member        string // empty for an unknown card
	Grant         string // the grant that opened, or that the reason speaks of
	Rule          string // that grant's schedule; empty = always
	RosterVersion uint64
	PulseMS       int  // extended release of this person; 0 = the door's own
	Degraded      bool // allowed only because the degraded mode keeps this person
}
