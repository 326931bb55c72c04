package access

import (
	"fmt"
	"slices"
	"strings"
)

// Limits of a node's catalogue.
const (
	MaxResources      = 1_024         // kinds of things one node offers or lets people do
	MaxResourceGroups = 64            // groups one kind is for
	MaxResourceParts  = 1_000_000_000 // parts of a measure in any limit
	MaxLeadHours      = 366 * 24      // hours of notice
	maxActions        = 8             // verbs there are
)

// Resource is a kind of thing that people at this node use, consume, give or do. Amounts are whole parts of Measure: count
// work in minutes, nights as integers, energy in Wh; never fractions.
type Resource struct {
	ID       string   `json:"id" yaml:"id"`
	Name     string   `json:"name,omitempty" yaml:"name,omitempty"`
	Measure  string   `json:"measure" yaml:"measure"`                     // minute, hour, night, day, cycle, piece, meal, km, wh ...
	Actions  []string `json:"actions,omitempty" yaml:"actions,omitempty"` // verbs that may be entered; left out: use
	Offered  bool     `json:"offered,omitempty" yaml:"offered,omitempty"` // to the commons: members of other nodes too
	Capacity int64    `json:"capacity,omitempty" yaml:"capacity,omitempty"`
	Groups   []string `json:"groups,omitempty" yaml:"groups,omitempty"` // only members of one of these; left out: everybody here
	MaxEntry int64    `json:"max_entry,omitempty" yaml:"max_entry,omitempty"`
	MaxDay   int64    `json:"max_day,omitempty" yaml:"max_day,omitempty"`           // of one member, on the node's calendar
	Witness  int64    `json:"witness_from,omitempty" yaml:"witness_from,omitempty"` // from this quantity on another member taps too; 0 = never
	Lead     int      `json:"lead_hours,omitempty" yaml:"lead_hours,omitempty"`     // notice that a request for it should give
}

// Allows reports whether this verb may be entered for the resource.
func (r *Resource) Allows(action string) bool {
	if len(r.Actions) == 0 {
		return action == "use"
	}
	return slices.Contains(r.Actions, action)
}

// NeedsWitness reports whether an entry of this quantity waits for a second person.
func (r *Resource) NeedsWitness(quantity int64) bool { return r.Witness > 0 && quantity >= r.Witness }

// actionNames are the verbs of economic events (event.EntryKinds, which this room does not know).
func actionNames() []string {
	return []string{"work", "use", "consume", "deliver-service", "transfer", "transfer-custody", "raise", "lower"}
}

// catalogue is the compiled list: ascending by id, with the numbers of its groups.
type catalogue struct {
	all    []Resource
	groups [][]uint32
}

func (c *compiler) resources(all []Resource) {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(all[a].ID, all[b].ID) })
	for k, i := range order {
		r, path := &all[i], fmt.Sprintf("resources[%d]", i)
		c.slug(path+".id", r.ID)
		if k > 0 && all[order[k-1]].ID == r.ID {
			c.add("%s.id: %q stands twice, first at resources[%d]", path, r.ID, order[k-1])
		}
		c.slug(path+".measure", r.Measure)
		if !plainName(r.Name) {
			c.add("%s.name: wants at most %d bytes of UTF-8 without control characters", path, MaxNameBytes)
		}
		c.actions(path, r.Actions)
		for _, limit := range [...]struct {
			field string
			value int64
			most  int64
		}{{"capacity", r.Capacity, MaxResourceParts}, {"max_entry", r.MaxEntry, MaxResourceParts}, {"max_day", r.MaxDay, MaxResourceParts},
			{"witness_from", r.Witness, MaxResourceParts}, {"lead_hours", int64(r.Lead), MaxLeadHours}} {
			if limit.value < 0 || limit.value > limit.most {
				c.add("%s.%s: %d is not within 0 and %d", path, limit.field, limit.value, limit.most)
			}
		}
		if r.MaxDay > 0 && r.MaxEntry > r.MaxDay {
			c.add("%s.max_entry: %d is above max_day %d", path, r.MaxEntry, r.MaxDay)
		}
		var groups []uint32
		if c.within(path+".groups", len(r.Groups), MaxResourceGroups) {
			for n, g := range r.Groups {
				if id, ok := c.group(fmt.Sprintf("%s.groups[%d]", path, n), g); ok {
					groups = append(groups, id)
				}
			}
		}
		kept := *r
		kept.Actions, kept.Groups = slices.Clone(r.Actions), slices.Clone(r.Groups)
		c.r.catalogue.all = append(c.r.catalogue.all, kept)
		c.r.catalogue.groups = append(c.r.catalogue.groups, groups)
	}
}

func (c *compiler) actions(path string, actions []string) {
	if !c.within(path+".actions", len(actions), maxActions) {
		return
	}
	for i, a := range actions {
		if !slices.Contains(actionNames(), a) {
			c.add("%s.actions[%d]: %.40q is none of %s", path, i, a, strings.Join(actionNames(), ", "))
		}
		if slices.Contains(actions[:i], a) {
			c.add("%s.actions[%d]: %.40q stands twice", path, i, a)
		}
	}
}

// Resources returns the node's catalogue by ascending id. The caller does not change it.
func (r *Roster) Resources() []Resource {
	if r == nil {
		return nil
	}
	return r.catalogue.all
}

// Resource finds a kind of the catalogue.
func (r *Roster) Resource(id string) (Resource, bool) {
	n, ok := r.resource(id)
	if !ok {
		return Resource{}, false
	}
	return r.catalogue.all[n], true
}

func (r *Roster) resource(id string) (int, bool) {
	if r == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(r.catalogue.all, id, func(e Resource, id string) int { return strings.Compare(e.ID, id) })
}

// Why a member may not enter a resource.
const (
	NoResource Reason = "no-resource" // not in this node's catalogue
	NotOffered Reason = "not-offered" // kept for the people who are at home here
	NotInGroup Reason = "not-in-group"
)

// Entitled says whether a member may use, or be credited for, a resource: Granted or why not.
func (r *Roster) Entitled(memberID, resourceID string) Reason {
	n, ok := r.resource(resourceID)
	if !ok {
		return NoResource
	}
	i, ok := r.find(memberID)
	if !ok {
		return UnknownCard
	}
	m := &r.members[i]
	switch e := &r.catalogue.all[n]; {
	case m.blocked:
		return Blocked
	case m.home != 0 && !e.Offered: // homes[0] is this node
		return NotOffered
	case len(e.Groups) > 0 && !slices.ContainsFunc(r.catalogue.groups[n], func(g uint32) bool { return slices.Contains(r.sets[m.set], g) }):
		return NotInGroup
	}
	return Granted
}

// Identify says whose card this is, when card and person are in force at that time; the door in the query is not asked,
// and a card that proves nothing identifies too: whoever asks records its assurance.
func (r *Roster) Identify(q Query) (Person, Reason) {
	if r == nil {
		return Person{}, NoRoster
	}
	c, ok := r.card(q.Card)
	if !ok {
		return Person{}, UnknownCard
	}
	q.Door, q.Mode = Door{AllowUID: true}, ModeNormal
	if why := r.barred(c, &r.members[c.member], &q); why != "" {
		return Person{}, why
	}
	return r.person(c.member), Granted
}
