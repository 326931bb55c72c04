// Package occupancy owns the answer to "who is in, how many, and how sure are we?", folded from passages.
//
// It is pure: the same passages in the same order give the same picture, so after a crash it is rebuilt from the journal's
// leaves. It never pretends: besides its best count it gives the fewest and the most that fit what was seen, because
// people leave by an exit button, hold a door for each other and forget to tap.
//
// It never decides about a door and never knows a name: people are member ids, and Forget erases one.
package occupancy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// How long what was seen stays worth something.
const (
	SureOpen   = 4 * time.Hour  // in a zone that people can leave unseen, somebody seen entering is surely in for so long
	SureClosed = 24 * time.Hour // in a zone where leaving needs a tap
	GoneOpen   = 16 * time.Hour // after so long without any sign a person is no longer counted at all
	GoneClosed = 72 * time.Hour
	DoubtLasts = GoneOpen  // an unseen coming or going widens the bounds for so long: as long as whoever it was may be counted
	sweepEvery = time.Hour // how often what is too old is thrown away; pictures leave it out at once
)

// Bounds.
const (
	MaxZones  = 256
	MaxDoors  = 1024
	MaxPeople = 100_000 // present at once; a passage beyond is counted as unseen coming
	maxDoubts = 1024    // unseen comings or goings remembered per zone; the oldest falls out
)

// Street is the zone outside. Nobody is counted there.
const Street = ""

// Door joins two zones.
type Door struct {
	ID      string
	Outside string // zone, or Street
	Inside  string
	TapsOut bool // leaving needs a tap: a reader inside and no exit button
}

// Kind of passage.
type Kind int

// Kinds of passage.
const (
	In     Kind = iota + 1 // a member went inwards by card
	Out                    // a member went outwards by card
	Exit                   // somebody went outwards unseen: exit button or inner handle
	Forced                 // the door was forced: somebody came or went
)

// Passage is one walk through a door.
type Passage struct {
	At     time.Time
	Door   string
	Kind   Kind
	Member string // of In and Out
}

// Count is how many people are in. Low <= Best <= High.
type Count struct{ Low, Best, High int }

// Zone is one zone's count.
type Zone struct {
	ID string
	Count
}

// Present is one member who was seen to come and not to leave.
type Present struct {
	Member string
	Zone   string
	Since  time.Time // the latest sign of them
	Sure   bool      // counted in Low
}

// Picture is the state at a moment, ordered by id.
type Picture struct {
	At      time.Time
	Total   Count
	Zones   []Zone
	People  []Present
	Ignored uint64 // passages by doors that are not configured
}

// House folds passages. It belongs to one goroutine.
type House struct {
	doors   map[string]Door
	zones   map[string]*zone
	people  map[string]sign
	now     time.Time
	swept   time.Time
	ignored uint64
}

type zone struct {
	open bool        // somebody can leave unseen
	came []time.Time // unseen comings, ascending
	left []time.Time // unseen goings, ascending
}

type sign struct {
	zone string
	at   time.Time
}

// New makes an empty house.
func New(doors []Door) (*House, error) {
	if len(doors) > MaxDoors {
		return nil, fmt.Errorf("making occupancy: %d doors exceed the limit of %d", len(doors), MaxDoors)
	}
	h := &House{doors: map[string]Door{}, zones: map[string]*zone{}, people: map[string]sign{}}
	for i, d := range doors {
		if d.ID == "" || d.Inside == d.Outside {
			return nil, fmt.Errorf("making occupancy: doors[%d] %q: joins %q with itself or has no id", i, d.ID, d.Inside)
		}
		if _, twice := h.doors[d.ID]; twice {
			return nil, fmt.Errorf("making occupancy: doors[%d]: %q stands twice", i, d.ID)
		}
		h.doors[d.ID] = d
		for _, id := range []string{d.Inside, d.Outside} {
			if id == Street {
				continue
			}
			if h.zones[id] == nil {
				h.zones[id] = &zone{}
			}
		}
		// Whoever stands inside may go out unseen, and whoever stands outside, if that is a zone, may be let in unseen.
		if !d.TapsOut && d.Inside != Street {
			h.zones[d.Inside].open = true
		}
	}
	if len(h.zones) > MaxZones {
		return nil, errors.New("making occupancy: too many zones")
	}
	return h, nil
}

// Apply takes a passage. Time that runs backwards stands still.
func (h *House) Apply(p Passage) {
	d, known := h.doors[p.Door]
	if !known {
		h.ignored++
		return
	}
	if p.At.After(h.now) {
		h.now = p.At
	}
	h.fade()
	switch p.Kind {
	case In:
		h.walk(p.Member, d.Outside, d.Inside, d)
	case Out:
		h.walk(p.Member, d.Inside, d.Outside, d)
	case Exit:
		h.left(d.Inside)
		h.came(d.Outside)
	case Forced:
		// It may have been either way, so each zone may have one more or one less.
		for _, id := range []string{d.Inside, d.Outside} {
			h.came(id)
			h.left(id)
		}
	default:
		h.ignored++
	}
}

// walk moves a member. Where the house believed otherwise, it has missed something, and says so in its bounds.
func (h *House) walk(member, from, to string, d Door) {
	if member == "" {
		h.left(from)
		h.came(to)
		return
	}
	was, present := h.people[member]
	present = present && !h.gone(was, h.now)
	switch {
	case present && was.zone != from:
		// They left there unseen. If somebody was noticed leaving, it was probably they; if leaving needs a tap, what
		// happened once happens again.
		z := h.zones[was.zone]
		z.left = younger(z.left, h.now)
		switch {
		case len(z.left) > 0:
			z.left = z.left[1:]
		case !z.open:
			h.left(was.zone)
		}
		h.explain(from)
	case !present && from != Street:
		// They were let in by somebody: one unseen coming is explained, and what happened once happens again.
		h.explain(from)
		if d.TapsOut {
			h.came(from)
		}
	}
	delete(h.people, member)
	if to == Street {
		return
	}
	if len(h.people) >= MaxPeople {
		h.came(to)
		return
	}
	h.people[member] = sign{zone: to, at: h.now}
}

// explain takes back an unseen coming whose person has now been seen.
func (h *House) explain(id string) {
	z := h.zones[id]
	if z == nil {
		return
	}
	if z.came = younger(z.came, h.now); len(z.came) > 0 {
		z.came = z.came[1:]
	}
}

func (h *House) came(id string) {
	if z := h.zones[id]; z != nil {
		z.came = push(z.came, h.now)
	}
}

func (h *House) left(id string) {
	if z := h.zones[id]; z != nil {
		z.left = push(z.left, h.now)
	}
}

func push(list []time.Time, t time.Time) []time.Time {
	if len(list) == maxDoubts {
		list = append(list[:0], list[1:]...)
	}
	return append(list, t)
}

// fade throws away doubts and people that are too old. Nothing depends on when it runs: whoever reads looks at the age.
func (h *House) fade() {
	if h.now.Sub(h.swept) < sweepEvery {
		return
	}
	h.swept = h.now
	for _, z := range h.zones {
		z.came = younger(z.came, h.now)
		z.left = younger(z.left, h.now)
	}
	for id, s := range h.people {
		if h.gone(s, h.now) {
			delete(h.people, id)
		}
	}
}

func younger(list []time.Time, now time.Time) []time.Time {
	i := 0
	for i < len(list) && now.Sub(list[i]) >= DoubtLasts {
		i++
	}
	return list[i:]
}

func (h *House) gone(s sign, now time.Time) bool {
	if h.zones[s.zone].open {
		return now.Sub(s.at) >= GoneOpen
	}
	return now.Sub(s.at) >= GoneClosed
}

func (h *House) sure(s sign, now time.Time) bool {
	if h.zones[s.zone].open {
		return now.Sub(s.at) < SureOpen
	}
	return now.Sub(s.at) < SureClosed
}

// At is the picture at a moment, which may be later than the latest passage. It changes nothing.
func (h *House) At(now time.Time) Picture {
	if now.Before(h.now) {
		now = h.now
	}
	pic := Picture{At: now, Ignored: h.ignored}
	type tally struct{ sure, all int }
	in := map[string]tally{}
	for id, s := range h.people {
		if h.gone(s, now) {
			continue
		}
		t := in[s.zone]
		t.all++
		sure := h.sure(s, now)
		if sure {
			t.sure++
		}
		in[s.zone] = t
		pic.People = append(pic.People, Present{Member: id, Zone: s.zone, Since: s.at, Sure: sure})
	}
	slices.SortFunc(pic.People, func(a, b Present) int { return strings.Compare(a.Member, b.Member) })
	for id, z := range h.zones {
		came, left := len(younger(z.came, now)), len(younger(z.left, now))
		t := in[id]
		// Those who went unseen are most likely among those whose stay is no longer sure.
		c := Count{Low: max(0, t.sure-left), High: t.all + came}
		c.Best = min(max(t.all-left, c.Low), c.High)
		pic.Zones = append(pic.Zones, Zone{ID: id, Count: c})
		pic.Total.Low += c.Low
		pic.Total.Best += c.Best
		pic.Total.High += c.High
	}
	slices.SortFunc(pic.Zones, func(a, b Zone) int { return strings.Compare(a.ID, b.ID) })
	return pic
}

// Forget erases members, as if never seen. The number of people does not fall by that: unseen comings take their place.
func (h *House) Forget(is func(member string) bool) {
	for member, s := range h.people {
		if is(member) {
			delete(h.people, member)
			h.came(s.zone)
		}
	}
}
