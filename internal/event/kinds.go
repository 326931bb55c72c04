package event

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Kinds written by an edge today. Later kinds (work, use, consume ...) are added beside them; none is ever reused.
const (
	KindBoot      Kind = "boot"      // the program started; first leaf of each start
	KindStop      Kind = "stop"      // the program stopped in order; last leaf of such a run
	KindTap       Kind = "tap"       // a card was presented and decided
	KindDoor      Kind = "door"      // a door changed its state
	KindReader    Kind = "reader"    // a reader died or came back
	KindTamper    Kind = "tamper"    // the case was opened or closed
	KindClock     Kind = "clock"     // the quality of the clock changed, or it jumped
	KindStorage   Kind = "storage"   // the disk is low, full, or well again
	KindRoster    Kind = "roster"    // a roster came into force
	KindRecovered Kind = "recovered" // first leaf of an epoch after proven local loss
	KindRestored  Kind = "restored"  // first leaf of an epoch after an older copy of the disk came back
	KindFork      Kind = "fork"      // first leaf of an epoch after the old one was seen to have two histories
	KindReplayed  Kind = "replayed"  // an original leaf of a lost branch, carried over so that no real tap is lost
)

// Boot is the body of KindBoot. Unclean says that the last run did not stop in order: a relay may have been released
// for up to 250 ms without a tap leaf, and no longer (docs/ARCHITECTURE.md, "Promises").
type Boot struct {
	Version  string `json:"version"`
	Unclean  bool   `json:"unclean"`
	PrevAt   int64  `json:"prev_at"` // Unix ms of the last leaf before this start, 0 when there is none
	StateDir string `json:"disk"`    // random id of the state directory: two copies of one disk show the same
	Starts   uint64 `json:"starts"`  // how often this state directory was started
}

// Stop is the body of KindStop.
type Stop struct {
	Why string `json:"why"`
}

// Tap is the public body of KindTap. Who it was is in Private; grant and rule too, since they can name a person.
type Tap struct {
	Door      string `json:"door"`
	Reader    string `json:"reader"`
	Direction string `json:"dir"` // in, out, inside (a room of the house), or pass when the reader does not tell
	Verdict   string `json:"verdict"`
	Reason    string `json:"reason"`
	Assurance string `json:"assurance"` // pkoc, uid, or none when nothing was proved
	Roster    uint64 `json:"roster"`
	Late      bool   `json:"late,omitempty"` // recorded after the door had been opened: the disk took longer than the bound
}

// TapPrivate is the kind's part of Private.Body for KindTap.
type TapPrivate struct {
	Grant  string `json:"grant,omitempty"`
	Rule   string `json:"rule,omitempty"`
	Detail string `json:"detail,omitempty"` // status word, signature error: for the host's "why"
	Micros int64  `json:"us"`               // last card byte to decision, microseconds
}

// Door is the body of KindDoor.
type Door struct {
	Door  string `json:"door"`
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
}

// Reader is the body of KindReader.
type Reader struct {
	Reader string `json:"reader"`
	Up     bool   `json:"up"`
	Why    string `json:"why,omitempty"`
}

// Tamper is the body of KindTamper.
type Tamper struct {
	Open bool `json:"open"`
}

// ClockChange is the body of KindClock.
type ClockChange struct {
	Quality Clock `json:"quality"`
	JumpMS  int64 `json:"jump_ms"`
}

// Storage is the body of KindStorage.
type Storage struct {
	State string `json:"state"` // low, full, ok
	Lost  uint64 `json:"lost"`  // events that could not even be kept in memory while the disk was full
}

// RosterSet is the body of KindRoster.
type RosterSet struct {
	Version uint64 `json:"version"`
	Hash    string `json:"hash"` // SHA-256 of the document's bytes, hex
	Source  string `json:"source"`
}

// Epochal is the body of KindRecovered, KindRestored and KindFork: where the old epoch ends for good.
type Epochal struct {
	OldEpoch string `json:"old_epoch"`
	OldSize  uint64 `json:"old_size"` // leaves of the old epoch that stand
	Why      string `json:"why,omitempty"`
}

// Replayed is the body of KindReplayed.
type Replayed struct {
	OldEpoch string `json:"old_epoch"`
	OldIndex uint64 `json:"old_index"`
	Leaf     string `json:"leaf"` // the original line, byte for byte
}

// ReplayedPrivate is Private.Body for KindReplayed when the original had a private part.
type ReplayedPrivate struct {
	Salt    string `json:"salt"` // hex
	Private string `json:"private"`
}

// Private is the part of a fact that belongs to a person. It travels beside the leaf, lives in its own table, and can
// be erased together with its salt.
type Private struct {
	At     int64           `json:"at"`   // Unix milliseconds, exact
	Mono   int64           `json:"mono"` // nanoseconds since boot
	Member string          `json:"member,omitempty"`
	Card   string          `json:"card,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
}

// Encode writes the private part as one compact line.
func (p *Private) Encode() ([]byte, error) {
	b, err := Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("private part: %w", err)
	}
	if len(b) > MaxPrivate {
		return nil, fmt.Errorf("private part: %d bytes, limit %d", len(b), MaxPrivate)
	}
	return b, nil
}

// ParsePrivate reads a private part. Unknown keys are allowed: the commitment covers the bytes, not our reading of them.
func ParsePrivate(b []byte) (Private, error) {
	var p Private
	if len(b) > MaxPrivate {
		return p, fmt.Errorf("private part: %d bytes, limit %d", len(b), MaxPrivate)
	}
	if err := CheckJSON(b); err != nil {
		return p, fmt.Errorf("private part: %w", err)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("private part: %w", err)
	}
	return p, nil
}

// Marshal encodes a body in the compact form that CheckJSON accepts, without HTML escaping.
func Marshal(v any) (json.RawMessage, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	b := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if err := CheckJSON(b); err != nil {
		return nil, err
	}
	return b, nil
}
