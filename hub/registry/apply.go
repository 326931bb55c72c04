package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"kith/internal/access"
	"kith/internal/event"
)

// maxProblems bounds what one refusal says.
const maxProblems = 16

// applying is one change on its way into the book.
type applying struct {
	b        *Book
	now      time.Time
	step     *Step
	touched  map[string]bool // nodes whose roster may change
	problems []string
	err      error
}

func (a *applying) refuse(format string, args ...any) {
	if len(a.problems) < maxProblems {
		a.problems = append(a.problems, fmt.Sprintf(format, args...))
	}
}

// put and drop note what to store and how to come back. The body is encoded now, so later parts of the same change
// write their own record after it.
func (a *applying) put(kind, id string, v any) {
	body, err := json.Marshal(v)
	if err != nil && a.err == nil {
		a.err = fmt.Errorf("encoding %s %q: %w", kind, id, err)
	}
	a.step.Records = append(a.step.Records, Record{kind, id, body})
}

func (a *applying) drop(kind, id string) {
	a.step.Records = append(a.step.Records, Record{Kind: kind, ID: id})
}

// set changes one entry of a map and remembers the old one.
func set[K comparable, V any](a *applying, m map[K]V, k K, v V) {
	old, had := m[k]
	m[k] = v
	a.step.undo = append(a.step.undo, func() {
		if had {
			m[k] = old
		} else {
			delete(m, k)
		}
	})
}

func unset[K comparable, V any](a *applying, m map[K]V, k K) {
	old, had := m[k]
	delete(m, k)
	a.step.undo = append(a.step.undo, func() {
		if had {
			m[k] = old
		}
	})
}

func (a *applying) id(what, id string) bool {
	if event.IsID(id) {
		return true
	}
	a.refuse("%s %.60q: an id has 1 to %d lower-case letters, digits and dashes, and does not begin with a dash", what, id, event.MaxID)
	return false
}

func (a *applying) window(what string, from, until int64) {
	if from < 0 || until < 0 || until != 0 && until <= from {
		a.refuse("%s: it must begin before it ends", what)
	}
}

// name refuses what could break a line or turn text around on a page.
func (a *applying) name(what, s string) {
	bad := func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
	}
	if len(s) > access.MaxNameBytes || !utf8.ValidString(s) || strings.ContainsFunc(s, bad) {
		a.refuse("%s: a name has at most %d bytes and no invisible control characters", what, access.MaxNameBytes)
	}
}

func (a *applying) nodes(c Change) {
	for _, n := range c.Nodes {
		if !a.id("node", n.ID) {
			continue
		}
		a.name("node "+n.ID, n.Name)
		if _, err := time.LoadLocation(n.Zone); err != nil || n.Zone == "" || n.Zone == "Local" {
			a.refuse("node %s: %.60q is not a time zone; write it like Europe/Lisbon", n.ID, n.Zone)
		}
		set(a, a.b.nodes, n.ID, n)
		a.put(KindNode, n.ID, n)
		a.touched[n.ID] = true
	}
}

func (a *applying) edges(c Change) {
	for _, e := range c.Edges {
		if !a.id("edge", e.ID) || !a.node("edge "+e.ID, e.Node) {
			continue
		}
		a.name("edge "+e.ID, e.Name)
		if e.Key == "" {
			a.refuse("edge %s: its verifier key is missing; the edge prints it at its first start", e.ID)
		}
		if old, ok := a.b.edges[e.ID]; ok && old.Node != e.Node {
			// Its journal names the node in every leaf.
			a.refuse("edge %s stands at %s and cannot move to %s; admit it there under a new id", e.ID, old.Node, e.Node)
			continue
		}
		if e.Admitted == 0 {
			e.Admitted = a.now.Unix()
		}
		set(a, a.b.edges, e.ID, e)
		a.put(KindEdge, e.ID, e)
	}
	for _, id := range c.Retire {
		e, ok := a.b.edges[id]
		if !ok {
			a.refuse("edge %.60q: not known, so it cannot be retired", id)
			continue
		}
		if e.Retired == 0 {
			e.Retired = a.now.Unix()
			set(a, a.b.edges, id, e)
			a.put(KindEdge, id, e)
		}
	}
}

func (a *applying) node(what, node string) bool {
	if _, ok := a.b.nodes[node]; ok {
		return true
	}
	if node == "" {
		a.refuse("%s: no node is named, and every one belongs to a node", what)
		return false
	}
	a.refuse("%s: there is no node %.60q", what, node)
	return false
}

func (a *applying) members(c Change) {
	for _, m := range c.Members {
		if !a.id("member", m.ID) || !a.node("member "+m.ID, m.Home) {
			continue
		}
		if a.b.erased.has(m.ID) {
			// What still arrives about the one who was erased would be taken for this one's.
			a.refuse("member %s: somebody of this id was erased, and what arrives under it is dropped for ever; choose another id", m.ID)
			continue
		}
		a.name("member "+m.ID, m.Name)
		a.window("member "+m.ID, m.From, m.Until)
		for _, g := range m.Groups {
			a.id("member "+m.ID+": group", g)
		}
		if old, ok := a.b.members[m.ID]; ok {
			a.touch(&old)
		}
		a.touch(&m)
		m.Groups = slices.Clone(m.Groups)
		set(a, a.b.members, m.ID, m)
		a.put(KindMember, m.ID, m)
	}
}

// touch marks every node where this person may stand in the roster.
func (a *applying) touch(m *access.Member) {
	a.touched[m.Home] = true
	for k, g := range a.b.grants {
		if !a.touched[k.Node] && (g.Member == m.ID || g.Group != "" && slices.Contains(m.Groups, g.Group)) {
			a.touched[k.Node] = true
		}
	}
}

func (a *applying) cards(c Change) {
	for _, k := range c.Cards {
		m, ok := a.b.members[k.Member]
		if !ok {
			a.refuse("a card names member %.60q, who is not known", k.Member)
			continue
		}
		old, held := a.b.cards[k.ID]
		if held {
			if old.Member != k.Member {
				a.refuse("a card of %s belongs to %s already; take it back there first", k.Member, old.Member)
				continue
			}
			if old.Revoked && !k.Revoked {
				a.refuse("a revoked card of %s stays revoked; hand out another one, or remove it and register it anew", k.Member)
				continue
			}
		}
		if !isCard(k.ID) {
			a.refuse("a card of %s: the id must be pkoc: and 64, or uid: and 8, 14 or 20 lower-case hex digits", k.Member)
			continue
		}
		a.window("a card of "+k.Member, k.From, k.Until)
		a.setCard(k)
		a.put(KindCard, k.ID, k)
		if !held {
			a.unmark(k.ID)
		}
		a.touch(&m)
	}
}

func (a *applying) setCard(k access.Card) {
	old, had := a.b.cards[k.ID]
	a.b.putCard(k)
	a.step.undo = append(a.step.undo, func() {
		if had {
			a.b.putCard(old)
		} else {
			a.b.dropCard(k.ID)
		}
	})
}

func isCard(id string) bool {
	kind, hex, _ := strings.Cut(id, ":")
	if strings.Trim(hex, "0123456789abcdef") != "" {
		return false
	}
	return kind == "pkoc" && len(hex) == 64 || kind == "uid" && (len(hex) == 8 || len(hex) == 14 || len(hex) == 20)
}

func (a *applying) schedules(c Change) {
	for _, s := range c.Schedules {
		if !a.id("schedule", s.ID) || !a.node("schedule "+s.ID, s.Node) {
			continue
		}
		k := Key{s.Node, s.ID}
		set(a, a.b.schedules, k, s)
		a.put(KindSchedule, s.Node+"/"+s.ID, s)
		a.touched[s.Node] = true
	}
}

func (a *applying) grants(c Change) {
	for _, g := range c.Grants {
		if !a.id("grant", g.ID) || !a.node("grant "+g.ID, g.Node) {
			continue
		}
		if (g.Member == "") == (g.Group == "") {
			a.refuse("grant %s: it belongs to one member or to one group, not to both and not to nobody", g.ID)
		}
		if _, ok := a.b.members[g.Member]; !ok && g.Member != "" {
			a.refuse("grant %s: member %.60q is not known", g.ID, g.Member)
		}
		if len(g.Doors)+len(g.Zones) == 0 {
			a.refuse("grant %s: it names no door and no zone", g.ID)
		}
		if _, ok := a.b.schedules[Key{g.Node, g.Schedule}]; !ok && g.Schedule != "" {
			a.refuse("grant %s: %s has no schedule %.60q", g.ID, g.Node, g.Schedule)
		}
		a.window("grant "+g.ID, g.From, g.Until)
		set(a, a.b.grants, Key{g.Node, g.ID}, g)
		a.put(KindGrant, g.Node+"/"+g.ID, g)
		a.touched[g.Node] = true
	}
}

func (a *applying) doors(c Change) {
	for _, d := range c.Close {
		if !a.id("door", d.Door) || !a.node("door "+d.Door, d.Node) {
			continue
		}
		set(a, a.b.closed, d, true)
		a.put(KindClosure, d.Node+"/"+d.Door, d)
		a.touched[d.Node] = true
	}
	for _, d := range c.Open {
		if !a.b.closed[d] {
			a.refuse("door %.60q of %.60q is not closed", d.Door, d.Node)
			continue
		}
		unset(a, a.b.closed, d)
		a.drop(KindClosure, d.Node+"/"+d.Door)
		a.touched[d.Node] = true
	}
}

// resources leaves limits and verbs to access.Compile, which names the field of the roster that would hold them.
func (a *applying) resources(c Change) {
	for _, r := range c.Resources {
		if !a.id("resource", r.ID) || !a.node("resource "+r.ID, r.Node) {
			continue
		}
		a.name("resource "+r.ID, r.Name)
		if k := (Key{r.Node, r.ID}); a.b.resources[k].Measure != "" && a.b.resources[k].Measure != r.Measure {
			// Entries of the old measure stand in journals for ever; the same id must not come to mean another amount.
			a.refuse("resource %s is counted in %s and stays so; for %.60q choose another id", r.ID, a.b.resources[k].Measure, r.Measure)
			continue
		}
		r.Actions, r.Groups = slices.Clone(r.Actions), slices.Clone(r.Groups)
		set(a, a.b.resources, Key{r.Node, r.ID}, r)
		a.put(KindResource, r.Node+"/"+r.ID, r)
		a.touched[r.Node] = true
	}
}

func (a *applying) drops(c Change) {
	for _, k := range c.DropResources {
		if _, ok := a.b.resources[k]; !ok {
			a.refuse("resource %.60q of %.60q is not known", k.ID, k.Node)
			continue
		}
		unset(a, a.b.resources, k)
		a.drop(KindResource, k.Node+"/"+k.ID)
		a.touched[k.Node] = true
	}
	for _, k := range c.DropGrants {
		if _, ok := a.b.grants[k]; !ok {
			a.refuse("grant %.60q of %.60q is not known", k.ID, k.Node)
			continue
		}
		a.dropGrant(k)
	}
	for _, k := range c.DropSchedules {
		if _, ok := a.b.schedules[k]; !ok {
			a.refuse("schedule %.60q of %.60q is not known", k.ID, k.Node)
			continue
		}
		for g, v := range a.b.grants {
			if g.Node == k.Node && v.Schedule == k.ID {
				a.refuse("schedule %s is used by grant %s; change that first", k.ID, g.ID)
			}
		}
		unset(a, a.b.schedules, k)
		a.drop(KindSchedule, k.Node+"/"+k.ID)
		a.touched[k.Node] = true
	}
	for _, id := range c.DropCards {
		k, ok := a.b.cards[id]
		if !ok {
			a.refuse("a card to be removed is not known")
			continue
		}
		a.dropCard(k)
	}
	for _, id := range c.DropMembers {
		a.dropMember(id)
	}
}

func (a *applying) dropGrant(k Key) {
	unset(a, a.b.grants, k)
	a.drop(KindGrant, k.Node+"/"+k.ID)
	a.touched[k.Node] = true
}

func (a *applying) dropCard(k access.Card) {
	if m, ok := a.b.members[k.Member]; ok {
		a.touch(&m)
	}
	a.b.dropCard(k.ID)
	a.step.undo = append(a.step.undo, func() { a.b.putCard(k) })
	a.drop(KindCard, k.ID)
}

func (a *applying) dropMember(id string) {
	m, ok := a.b.members[id]
	if !ok {
		a.refuse("member %.60q is not known", id)
		return
	}
	a.touch(&m)
	for _, card := range slices.Clone(a.b.cardsOf[id]) {
		a.dropCard(a.b.cards[card])
	}
	for k, g := range a.b.grants {
		if g.Member == id {
			a.dropGrant(k)
		}
	}
	unset(a, a.b.members, id)
	a.drop(KindMember, id)
}
