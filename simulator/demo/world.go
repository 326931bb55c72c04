package demo

import (
	"fmt"
	"math/rand/v2"
	"time"

	"kith/internal/access"
)

// house is one node of the worked example, with what the demo puts into it. Names of people are invented.
type house struct {
	id, name, zone string
	edges          []site
	people         int // more than beds: some are always away, and visitors sleep in theirs
	things         []access.Resource
}

// site is one edge: a door, and whether it leads into the house or to a room of it.
type site struct {
	id, door string
	zones    []string
	front    bool // readers in and out, and one in the hall beside a screen; else one reader that does not tell
}

// doors are the edges of a house, and how many of the sixty people live there.
func doors(node string) (edges []site, people int) {
	front := func(id, door string) site { return site{id, door, []string{"house"}, true} }
	room := func(id, door, zone string) site { return site{id, door, []string{zone}, false} }
	switch node {
	case "lisbon":
		return []site{front("lisbon-front", "front"), room("lisbon-studio", "studio", "work"), room("lisbon-workshop", "workshop", "tools")}, 16
	case "oaxaca":
		return []site{front("oaxaca-gate", "gate"), room("oaxaca-kiln", "kiln", "tools")}, 13
	case "chiang-mai":
		return []site{front("chiang-mai-front", "front"), room("chiang-mai-desks", "desks", "work")}, 12
	case "vermont":
		return []site{front("vermont-front", "front"), room("vermont-barn", "barn", "tools")}, 11
	case "popup-azores":
		return []site{front("popup-azores-gate", "gate"), room("popup-azores-tent", "tent", "work")}, 8
	}
	panic("demo: nobody has built doors for " + node)
}

// person is one member of the demo and what the script knows about them. The hub and the edges know only what was
// entered and what was tapped.
type person struct {
	id, name, home string
	role           string
	groups         []string
	until          time.Time // end of a guest's pass; zero = none
	trait          trait
}

// trait is why a person is refused now and then.
type trait int

const (
	ordinary  trait = iota
	revoked         // card reported lost, still carried by somebody
	expired         // guest whose pass has ended
	untrained       // tries the workshop without the induction
	nightOwl        // comes when the studio is closed
)

var firstNames = []string{
	"Ana", "Bruno", "Clara", "Duarte", "Elif", "Farid", "Greta", "Hugo", "Inés", "João", "Kavya", "Lior", "Marta", "Nuno", "Olga", "Paulo",
	"Efraín", "Flor", "Gael", "Itzel", "Jacinta", "Lázaro", "Noé", "Ofelia", "Pilar", "Ramón", "Sol", "Tomás", "Úrsula",
	"Anong", "Boon", "Chai", "Dao", "Fai", "Hathai", "Kasem", "Lek", "Malee", "Nok", "Ploy", "Rung",
	"Abel", "Bea", "Dalia", "Mina", "Rosa", "Samir", "Udo", "Vera", "Wanda", "Xavier", "Zoe",
	"Ciro", "Quim", "Somchai", "Teresa", "Tuk", "Wan", "Yara", "Ying",
}

// populate makes the sixty people, the same for the same seed.
func populate(seed uint64, now time.Time) []person {
	rng := rand.New(rand.NewPCG(seed, 1))
	var out []person
	n := 0
	for _, h := range houses() {
		for i := range h.people {
			p := person{id: fmt.Sprintf("%s-%02d", h.id, i+1), name: firstNames[n%len(firstNames)], home: h.id,
				role: "resident", groups: []string{"members"}}
			switch {
			case i == 0:
				p.role, p.groups = "host", append(p.groups, "makers")
			case i%9 == 8:
				p.role, p.groups, p.until = "guest", []string{"guests"}, now.Add(time.Duration(3+rng.IntN(20))*24*time.Hour)
			case i%3 == 1:
				p.groups = append(p.groups, "makers")
			}
			switch i {
			case 5:
				p.trait = untrained
				p.groups = []string{"members"}
			case 6:
				p.trait = nightOwl
			case 7:
				p.trait = revoked
			case 8:
				p.trait, p.until = expired, now.Add(-26*time.Hour)
			}
			out = append(out, p)
			n++
		}
	}
	return out
}

// move is one thing a person does at a reader.
type move struct {
	who    int // index into the people; -1 for a stranger
	edge   string
	reader string
	arrive string // node whose occupants the person joins if let in; "" for none
	leave  bool   // the person leaves the node if let out
	entry  *entry // something to be entered there, instead of a tap at the door
	say    string // a line for the terminal, when the moment is worth one
}

// place is where one person at a time stands: the kiosk in the hall is not the door.
func (m move) place() string {
	if m.entry != nil {
		return m.edge + "/" + m.reader
	}
	return m.edge
}

// script decides who does what next. It knows what the doors should answer only as far as people do: where they are.
type script struct {
	rng    *rand.Rand
	people []person
	where  []string // node a person is in, "" when outside
	sent   []int    // how often a person was a visitor of the seed
	net    balances // of what visitors gave and took so far
}

func newScript(seed uint64, people []person) *script {
	return &script{rng: rand.New(rand.NewPCG(seed, 2)), people: people, where: make([]string, len(people)), sent: make([]int, len(people)), net: balances{}}
}

// presenceAim is the share of a house's people that is in at an hour of its day: asleep at night, out in the afternoon.
func presenceAim(hour int) float64 {
	switch {
	case hour < 7:
		return 0.85
	case hour < 10:
		return 0.7
	case hour < 18:
		return 0.45
	case hour < 22:
		return 0.6
	}
	return 0.8
}

// next is the next move at a moment. live asks for the rarer, more telling moves more often than a week of history does.
func (s *script) next(now time.Time, live bool) move {
	roll := s.rng.Float64()
	refusals, roams, rooms, entries := 0.03, 0.02, 0.28, 0.02
	if live {
		refusals, roams, rooms, entries = 0.08, 0.10, 0.18, 0.36
	}
	switch {
	case roll > 1-entries:
		if m, ok := s.note(now, live); ok {
			return m
		}
	case roll < refusals:
		return s.refusal(now)
	case roll < refusals+roams:
		return s.roam()
	case roll < refusals+roams+rooms:
		if m, ok := s.room(now); ok {
			return m
		}
	}
	return s.threshold(now)
}

// threshold lets somebody come or go so that a house drifts towards what is usual at its hour.
func (s *script) threshold(now time.Time) move {
	hs := houses()
	h := hs[s.rng.IntN(len(hs))]
	zone, err := time.LoadLocation(h.zone)
	if err != nil {
		panic("demo: a zone of the demo is unknown: " + h.zone)
	}
	var in, out []int
	for i, p := range s.people {
		switch {
		case p.trait == revoked || p.trait == expired:
		case s.where[i] == h.id:
			in = append(in, i)
		case s.where[i] == "" && p.home == h.id:
			out = append(out, i)
		}
	}
	aim := presenceAim(now.In(zone).Hour()) * float64(h.people)
	come := float64(len(in)) < aim
	if s.rng.Float64() < 0.2 {
		come = !come
	}
	if (come && len(out) > 0) || len(in) == 0 && len(out) > 0 {
		return s.enter(out[s.rng.IntN(len(out))], h, "")
	}
	if len(in) == 0 {
		return s.stranger(h)
	}
	who := in[s.rng.IntN(len(in))]
	return move{who: who, edge: h.edges[0].id, reader: h.edges[0].door + "-out", leave: true}
}

func (s *script) enter(who int, h house, say string) move {
	return move{who: who, edge: h.edges[0].id, reader: h.edges[0].door + "-in", arrive: h.id, say: say}
}

// visitor is whom a house sends to another: whoever has been sent least, never its host or anybody's guest. -1: nobody.
func (s *script) visitor(home string) int {
	best := -1
	for i, p := range s.people {
		if p.home == home && p.role == "resident" && p.trait == ordinary && (best < 0 || s.sent[i] < s.sent[best]) {
			best = i
		}
	}
	if best >= 0 {
		s.sent[best]++
	}
	return best
}

// room is somebody inside who opens a room of the house they may enter at this hour.
func (s *script) room(now time.Time) (move, bool) {
	for range 8 {
		i := s.rng.IntN(len(s.people))
		h, ok := houseOf(s.where[i])
		if !ok || len(h.edges) < 2 {
			continue
		}
		e := h.edges[1+s.rng.IntN(len(h.edges)-1)]
		zone, err := time.LoadLocation(h.zone)
		if err != nil {
			panic("demo: a zone of the demo is unknown: " + h.zone)
		}
		hour := now.In(zone).Hour()
		if e.zones[0] == "tools" && !has(s.people[i].groups, "makers") || e.zones[0] == "work" && (hour < 8 || hour >= 21) {
			continue
		}
		return move{who: i, edge: e.id, reader: e.door + "-reader"}, true
	}
	return move{}, false
}

// roam takes somebody to another house of the network: the same card opens it.
func (s *script) roam() move {
	hs := houses()
	for range 20 {
		i := s.rng.IntN(len(s.people))
		p := s.people[i]
		if p.trait != ordinary || p.role == "guest" {
			continue
		}
		h := hs[s.rng.IntN(len(hs))]
		if h.id == s.where[i] || h.id == p.home && s.where[i] == "" {
			continue
		}
		from, _ := houseOf(p.home)
		return s.enter(i, h, fmt.Sprintf("%s from %s opens the door in %s with the same card", p.name, from.name, h.name))
	}
	return s.stranger(hs[0])
}

// refusal is a tap that has a good reason to fail.
func (s *script) refusal(now time.Time) move {
	hs := houses()
	for range 30 {
		i := s.rng.IntN(len(s.people))
		p := s.people[i]
		h, _ := houseOf(p.home)
		front := move{who: i, edge: h.edges[0].id, reader: h.edges[0].door + "-in"}
		switch p.trait {
		case revoked:
			front.say = fmt.Sprintf("somebody tries %s's lost card in %s: not now", p.name, h.name)
			return front
		case expired:
			front.say = fmt.Sprintf("%s's guest pass in %s ended yesterday: not now", p.name, h.name)
			return front
		case untrained:
			for _, e := range h.edges {
				if e.zones[0] == "tools" {
					return move{who: i, edge: e.id, reader: e.door + "-reader",
						say: fmt.Sprintf("%s has had no induction for the %s: not now", p.name, e.door)}
				}
			}
		case nightOwl:
			for _, e := range h.edges {
				zone, err := time.LoadLocation(h.zone)
				if err != nil {
					panic("demo: a zone of the demo is unknown: " + h.zone)
				}
				if hour := now.In(zone).Hour(); e.zones[0] == "work" && (hour < 8 || hour >= 22) {
					return move{who: i, edge: e.id, reader: e.door + "-reader",
						say: fmt.Sprintf("%s wants into the %s of %s at night: closed", p.name, e.door, h.name)}
				}
			}
		}
	}
	return s.stranger(hs[s.rng.IntN(len(hs))])
}

func (s *script) stranger(h house) move {
	return move{who: -1, edge: h.edges[0].id, reader: h.edges[0].door + "-in", say: fmt.Sprintf("a stranger's card in %s: not now", h.name)}
}

// done tells the script what the door answered.
func (s *script) done(m move, let bool) {
	if !let || m.who < 0 {
		return
	}
	switch {
	case m.entry != nil:
		s.net.add(s.people[m.who].home, houseAt(m.edge).id, m.entry)
	case m.arrive != "":
		s.where[m.who] = m.arrive
	case m.leave:
		s.where[m.who] = ""
	}
}

func houseOf(id string) (house, bool) {
	for _, h := range houses() {
		if h.id == id {
			return h, true
		}
	}
	return house{}, false
}

func has(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}
