// Package access owns the question "may this card open this door now?" and its answer.
//
// It promises that Decide is a pure function: the same Roster and the same Query give the same Verdict on every
// machine, so that an auditor can replay a refusal from the journal. A Roster never changes after Compile, so any number
// of goroutines may ask it, and a crash can lose nothing because nothing is kept here.
//
// It never reads a clock, a file or a network, never starts a goroutine, and never opens anything: a Verdict is a value.
// Programs that use it import time/tzdata, so that a node's zone is known on a machine without a zone database.
package access

// Limits of one roster. They bound what a hostile or broken hub can make an edge hold.
const (
	MaxDocumentBytes  = 64 << 20  // bytes of one document as JSON or YAML
	MaxMembers        = 500_000   // people
	MaxCards          = 1_000_000 // cards
	MaxGroups         = 4_096     // groups named anywhere in one document
	MaxMemberGroups   = 64        // groups of one person
	MaxSchedules      = 1_024     // schedules
	MaxSpans          = 64        // spans of one schedule
	MaxHolidays       = 1_024     // closed days of one schedule
	MaxGrants         = 100_000   // grants
	MaxGrantPlaces    = 256       // doors and zones named by one grant
	MaxClosed         = 4_096     // doors closed by a host
	MaxErased         = 50_000    // names of erased people and of their cards
	MaxNameBytes      = 200       // bytes of a person's name
	MaxPulseMS        = 60_000    // milliseconds of a person's extended release
	maxSlugBytes      = 48        // bytes of an id
	maxProblems       = 16        // problems reported by one Compile
	maxQueryZones     = 64        // zones one door may lie in
	maxJSONDepth      = 8         // nesting of a document: the deepest legal value lies at 5
	minFieldsPerThing = 2         // every object of a document has at least two fields
)

// Roles a member can have. Hosts and operators are the staff of a node.
const (
	RoleGuest    = "guest"
	RoleResident = "resident"
	RoleHost     = "host"
	RoleOperator = "operator"
	RoleGovernor = "governor"
	RoleAuditor  = "auditor"
)

// Document is the roster of one node as the hub signs it (JSON) or a lone edge reads it (YAML). Times are unix seconds;
// 0 leaves that side open. A validity runs from From, included, to Until, excluded.
type Document struct {
	Network   string     `json:"network" yaml:"network"`
	Node      string     `json:"node" yaml:"node"`
	Version   uint64     `json:"version" yaml:"version"`
	Issued    int64      `json:"issued" yaml:"issued"`
	Zone      string     `json:"zone" yaml:"zone"`                         // IANA name, e.g. Europe/Lisbon
	Groups    []string   `json:"groups,omitempty" yaml:"groups,omitempty"` // when given, every group used must stand here
	Members   []Member   `json:"members,omitempty" yaml:"members,omitempty"`
	Cards     []Card     `json:"cards,omitempty" yaml:"cards,omitempty"`
	Schedules []Schedule `json:"schedules,omitempty" yaml:"schedules,omitempty"`
	Grants    []Grant    `json:"grants,omitempty" yaml:"grants,omitempty"`
	Closed    []string   `json:"closed,omitempty" yaml:"closed,omitempty"` // doors closed by a host
	Resources []Resource `json:"resources,omitempty" yaml:"resources,omitempty"`

	ErasureKey string   `json:"erasure_key,omitempty" yaml:"erasure_key,omitempty"` // 64 hex digits; needed where anything is erased
	Erased     []string `json:"erased,omitempty" yaml:"erased,omitempty"`           // ErasedName as 32 hex digits, ascending
}

// Member is one person with a right at this node. An empty Home means this node.
type Member struct {
	ID      string   `json:"id" yaml:"id"`
	Name    string   `json:"name,omitempty" yaml:"name,omitempty"`
	Home    string   `json:"home,omitempty" yaml:"home,omitempty"`
	Role    string   `json:"role" yaml:"role"`
	Groups  []string `json:"groups,omitempty" yaml:"groups,omitempty"`
	From    int64    `json:"from,omitempty" yaml:"from,omitempty"`
	Until   int64    `json:"until,omitempty" yaml:"until,omitempty"`
	Blocked bool     `json:"blocked,omitempty" yaml:"blocked,omitempty"`
	PulseMS int      `json:"pulse_ms,omitempty" yaml:"pulse_ms,omitempty"` // extended release; 0 = the door's own
}

// Card ties a card id text ("pkoc:<64 hex>" or "uid:<8, 14 or 20 hex>") to a member.
type Card struct {
	ID      string `json:"id" yaml:"id"`
	Member  string `json:"member" yaml:"member"`
	Revoked bool   `json:"revoked,omitempty" yaml:"revoked,omitempty"`
	From    int64  `json:"from,omitempty" yaml:"from,omitempty"`
	Until   int64  `json:"until,omitempty" yaml:"until,omitempty"`
}

// Schedule is a weekly opening in the node's zone. A span belongs to the day it begins on: if that day is a holiday the
// whole span is closed, also its part after midnight.
type Schedule struct {
	ID       string   `json:"id" yaml:"id"`
	Spans    []Span   `json:"spans" yaml:"spans"`
	Holidays []string `json:"holidays,omitempty" yaml:"holidays,omitempty"` // yyyy-mm-dd
}

// Span is a stretch of wall-clock time on some days of the week. To may be "24:00"; From later than To passes midnight.
type Span struct {
	Days []string `json:"days" yaml:"days"` // mon, tue, wed, thu, fri, sat, sun
	From string   `json:"from" yaml:"from"` // HH:MM
	To   string   `json:"to" yaml:"to"`     // HH:MM, excluded
}

// Grant lets one member or one group through doors and the doors of zones; an empty Schedule means always.
type Grant struct {
	ID       string   `json:"id" yaml:"id"`
	Member   string   `json:"member,omitempty" yaml:"member,omitempty"`
	Group    string   `json:"group,omitempty" yaml:"group,omitempty"`
	Doors    []string `json:"doors,omitempty" yaml:"doors,omitempty"`
	Zones    []string `json:"zones,omitempty" yaml:"zones,omitempty"`
	Schedule string   `json:"schedule,omitempty" yaml:"schedule,omitempty"`
	From     int64    `json:"from,omitempty" yaml:"from,omitempty"`
	Until    int64    `json:"until,omitempty" yaml:"until,omitempty"`
}
