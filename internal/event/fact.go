package event

import (
	"encoding/json"
	"time"
)

// Fact is what a room knows when something happened, before the journal gives it an address. Wall time is data and may
// be wrong; Clock says how far it was trusted; Mono is the time since the program started and never jumps.
type Fact struct {
	Kind    Kind
	At      time.Time
	Mono    time.Duration
	Clock   Clock
	Body    json.RawMessage
	Private *Private // with it the leaf carries a commitment and the hour only
}
