package access

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// problems gathers what is wrong with a document, each with field and index, up to maxProblems.
type problems struct {
	found []error
	more  int
}

func (p *problems) add(format string, args ...any) {
	if len(p.found) >= maxProblems {
		p.more++
		return
	}
	p.found = append(p.found, fmt.Errorf(format, args...))
}

func (p *problems) err() error {
	if len(p.found) == 0 {
		return nil
	}
	if p.more > 0 {
		p.found = append(p.found, fmt.Errorf("and %d more problems", p.more))
	}
	return fmt.Errorf("compiling roster: %w", errors.Join(p.found...))
}

func (p *problems) slug(path, s string) bool {
	if isSlug(s) {
		return true
	}
	p.add("%s: %.60q is no id (lower-case letters, digits and dashes, at most %d)", path, s, maxSlugBytes)
	return false
}

func (p *problems) window(path string, from, until int64) {
	switch {
	case from < 0:
		p.add("%s.from: %d is negative", path, from)
	case until < 0:
		p.add("%s.until: %d is negative", path, until)
	case until != 0 && until <= from:
		p.add("%s.until: %d is not after from %d", path, until, from)
	}
}

func (p *problems) most(path string, n, limit int) bool {
	if n > limit {
		p.add("%s: %d exceed the limit of %d", path, n, limit)
		return false
	}
	return true
}

// compiler holds the tables that only compiling needs.
type compiler struct {
	problems
	r        *Roster
	groups   map[string]uint32
	declared bool // the document lists its groups
	sets     map[string]uint32
	weeks    map[string]int32
	text     strings.Builder
	placed   uint32 // doors and zones numbered so far
}

// Compile checks a document completely and builds the roster that answers from it. It keeps nothing of d.
func Compile(d Document) (*Roster, error) {
	c := &compiler{
		r: &Roster{
			network: strings.Clone(d.Network), node: strings.Clone(d.Node), version: d.Version, issued: time.Unix(d.Issued, 0).UTC(),
			own: map[uint32][]uint32{}, places: map[string]place{}, closed: map[string]struct{}{},
		},
		groups: map[string]uint32{}, sets: map[string]uint32{}, weeks: map[string]int32{},
	}
	c.head(d)
	fits := c.most("members", len(d.Members), MaxMembers)
	fits = c.most("cards", len(d.Cards), MaxCards) && fits
	fits = c.most("groups", len(d.Groups), MaxGroups) && fits
	fits = c.most("schedules", len(d.Schedules), MaxSchedules) && fits
	fits = c.most("grants", len(d.Grants), MaxGrants) && fits
	fits = c.most("closed", len(d.Closed), MaxClosed) && fits
	fits = c.most("resources", len(d.Resources), MaxResources) && fits
	if !fits {
		return nil, c.err()
	}
	c.declareGroups(d.Groups)
	c.schedules(d.Schedules)
	c.members(d.Members)
	c.cards(d.Cards)
	c.grants(d.Grants)
	c.resources(d.Resources)
	for i, door := range d.Closed {
		if c.slug(fmt.Sprintf("closed[%d]", i), door) {
			c.r.closed[strings.Clone(door)] = struct{}{}
		}
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	return c.r, nil
}

func (c *compiler) head(d Document) {
	c.slug("network", d.Network)
	c.slug("node", d.Node)
	if d.Version == 0 {
		c.add("version: is 0; versions count from 1")
	}
	if d.Issued < 0 {
		c.add("issued: %d is negative", d.Issued)
	}
	if d.Zone == "" || d.Zone == "Local" {
		c.add("zone: %q names no place; write an IANA zone such as Europe/Lisbon", d.Zone)
		c.r.zone = time.UTC
		return
	}
	zone, err := time.LoadLocation(d.Zone)
	if err != nil {
		c.add("zone: %.60q is not known here (%v); write an IANA zone such as Europe/Lisbon", d.Zone, err)
		zone = time.UTC
	}
	c.r.zone = zone
}

func (c *compiler) declareGroups(groups []string) {
	for i, g := range groups {
		path := fmt.Sprintf("groups[%d]", i)
		if !c.slug(path, g) {
			continue
		}
		if _, twice := c.groups[g]; twice {
			c.add("%s: %q stands twice", path, g)
		}
		c.group(path, g)
	}
	c.declared = len(groups) > 0
}

// group numbers a group, or says that it was not declared.
func (c *compiler) group(path, g string) (uint32, bool) {
	if i, ok := c.groups[g]; ok {
		return i, true
	}
	if !c.slug(path, g) {
		return 0, false
	}
	if c.declared {
		c.add("%s: group %q does not stand in groups", path, g)
		return 0, false
	}
	if len(c.groups) == MaxGroups {
		c.add("%s: more than %d groups", path, MaxGroups)
		return 0, false
	}
	i := uint32(len(c.groups))
	c.groups[strings.Clone(g)] = i
	c.r.grantsOf = append(c.r.grantsOf, nil)
	return i, true
}

func (c *compiler) schedules(all []Schedule) {
	for i, s := range all {
		path := fmt.Sprintf("schedules[%d]", i)
		c.slug(path+".id", s.ID)
		if _, twice := c.weeks[s.ID]; twice {
			c.add("%s.id: %q stands twice", path, s.ID)
		}
		s.ID = strings.Clone(s.ID)
		c.weeks[s.ID] = int32(len(c.r.weeks))
		c.r.weeks = append(c.r.weeks, compileWeek(path, s, &c.problems))
	}
}

func (c *compiler) piece(s string) piece {
	p := piece{off: uint32(c.text.Len()), n: uint8(len(s))}
	c.text.WriteString(s)
	return p
}

func (c *compiler) members(all []Member) {
	order := make([]uint32, len(all))
	bytes := 0
	for i := range all {
		order[i] = uint32(i)
		bytes += len(all[i].ID) + min(len(all[i].Name), MaxNameBytes)
	}
	sort.Slice(order, func(i, k int) bool {
		a, b := all[order[i]].ID, all[order[k]].ID
		return a < b || (a == b && order[i] < order[k])
	})
	c.text.Grow(bytes)
	c.r.members = make([]member, 0, len(all))
	homes := map[string]uint16{"": 0}
	c.r.homes = []string{c.r.node}
	homes[c.r.node] = 0
	for k, i := range order {
		m := &all[i]
		path := func(field string) string { return fmt.Sprintf("members[%d]%s", i, field) }
		if k > 0 && all[order[k-1]].ID == m.ID {
			c.add("%s: %q stands twice, first at members[%d]", path(".id"), m.ID, order[k-1])
			continue
		}
		if !c.checkMember(path, m) {
			continue
		}
		home, ok := homes[m.Home]
		if !ok {
			if len(c.r.homes) == math.MaxUint16 {
				c.add("%s: more than %d homes", path(".home"), math.MaxUint16)
				continue
			}
			home = uint16(len(c.r.homes))
			c.r.homes = append(c.r.homes, strings.Clone(m.Home))
			homes[c.r.homes[home]] = home
		}
		c.r.members = append(c.r.members, member{
			id: c.piece(m.ID), name: c.piece(m.Name), home: home, role: role(slices.Index(roleNames(), m.Role)),
			set: c.set(path, m.Groups), from: m.From, until: m.Until, blocked: m.Blocked, pulse: uint32(m.PulseMS),
		})
	}
	c.r.text = c.text.String()
}

// checkMember leaves the common good case without formatting a path: a quarter of a million people pass here.
func (c *compiler) checkMember(path func(string) string, m *Member) bool {
	before := len(c.found) + c.more
	if !isSlug(m.ID) {
		c.slug(path(".id"), m.ID)
	}
	if m.Home != "" && !isSlug(m.Home) {
		c.slug(path(".home"), m.Home)
	}
	if !slices.Contains(roleNames(), m.Role) {
		c.add("%s: %.40q is none of %s", path(".role"), m.Role, strings.Join(roleNames(), ", "))
	}
	if !plainName(m.Name) {
		c.add("%s: wants at most %d bytes of UTF-8 without control characters", path(".name"), MaxNameBytes)
	}
	if m.PulseMS < 0 || m.PulseMS > MaxPulseMS {
		c.add("%s: %d ms is not within 0 and %d", path(".pulse_ms"), m.PulseMS, MaxPulseMS)
	}
	if m.From < 0 || m.Until < 0 || (m.Until != 0 && m.Until <= m.From) {
		c.window(path(""), m.From, m.Until)
	}
	if len(m.Groups) > MaxMemberGroups {
		c.most(path(".groups"), len(m.Groups), MaxMemberGroups)
	}
	return len(c.found)+c.more == before
}

// plainName refuses what could break a line in a log or turn text around on a page.
func plainName(s string) bool {
	if len(s) > MaxNameBytes || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return true
}

// set numbers a set of groups. Few distinct sets exist, so each member holds one number.
func (c *compiler) set(path func(string) string, groups []string) uint32 {
	ids := make([]uint32, 0, 8)
	for i, g := range groups {
		id, ok := c.groups[g]
		if !ok {
			if id, ok = c.group(path(fmt.Sprintf(".groups[%d]", i)), g); !ok {
				continue
			}
		}
		if slices.Contains(ids, id) {
			c.add("%s: %q stands twice", path(fmt.Sprintf(".groups[%d]", i)), g)
			continue
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var key [4 * MaxMemberGroups]byte
	for i, id := range ids {
		key[4*i], key[4*i+1], key[4*i+2], key[4*i+3] = byte(id), byte(id>>8), byte(id>>16), byte(id>>24)
	}
	if n, ok := c.sets[string(key[:4*len(ids)])]; ok {
		return n
	}
	n := uint32(len(c.r.sets))
	c.sets[string(key[:4*len(ids)])] = n
	c.r.sets = append(c.r.sets, ids)
	return n
}

func (c *compiler) cards(all []Card) {
	uids := 0
	for i := range all {
		if strings.HasPrefix(all[i].ID, uidPrefix) {
			uids++
		}
	}
	c.r.cards = make([]card, 0, len(all))
	c.r.pkoc = make(map[[pkocBytes]byte]uint32, len(all)-uids)
	c.r.uid = make(map[uidKey]uint32, uids)
	for i := range all {
		k := &all[i]
		pkoc, uid, kind := parseCardID(k.ID)
		n := uint32(len(c.r.cards))
		var twice bool
		switch kind {
		case cardPKOC:
			_, twice = c.r.pkoc[pkoc]
			c.r.pkoc[pkoc] = n
		case cardUID:
			_, twice = c.r.uid[uid]
			c.r.uid[uid] = n
		default:
			c.add("cards[%d].id: is no card id (pkoc: and 64, or uid: and 8, 14 or 20 lower-case hex digits)", i)
			continue
		}
		if twice {
			c.add("cards[%d].id: stands twice; one card belongs to one member", i)
		}
		if k.From < 0 || k.Until < 0 || (k.Until != 0 && k.Until <= k.From) {
			c.window(fmt.Sprintf("cards[%d]", i), k.From, k.Until)
		}
		owner, ok := c.r.find(k.Member)
		if !ok {
			c.add("cards[%d].member: no member %.60q", i, k.Member)
		}
		c.r.cards = append(c.r.cards, card{member: owner, revoked: k.Revoked, from: k.From, until: k.Until})
	}
}

func (c *compiler) grants(all []Grant) {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(all[a].ID, all[b].ID) })
	c.r.grants = make([]grant, 0, len(all))
	for k, i := range order {
		g := &all[i]
		path := fmt.Sprintf("grants[%d]", i)
		c.slug(path+".id", g.ID)
		if k > 0 && all[order[k-1]].ID == g.ID {
			c.add("%s.id: %q stands twice, first at grants[%d]", path, g.ID, order[k-1])
		}
		c.window(path, g.From, g.Until)
		n := uint32(len(c.r.grants))
		c.holder(path, g, n)
		week := int32(-1)
		if g.Schedule != "" {
			w, ok := c.weeks[g.Schedule]
			if !ok {
				c.add("%s.schedule: no schedule %.60q", path, g.Schedule)
			}
			week = w
		}
		c.r.grants = append(c.r.grants, grant{
			id: strings.Clone(g.ID), from: g.From, until: g.Until, week: week, places: c.grantPlaces(path, g),
		})
	}
}

// holder files grant n under its member or its group. Grants come by ascending n, so the lists ascend.
func (c *compiler) holder(path string, g *Grant, n uint32) {
	if (g.Member == "") == (g.Group == "") {
		c.add("%s: names %s; a grant belongs to exactly one", path, map[bool]string{true: "neither member nor group", false: "both member and group"}[g.Member == ""])
		return
	}
	if g.Member != "" {
		m, ok := c.r.find(g.Member)
		if !ok {
			c.add("%s.member: no member %.60q", path, g.Member)
			return
		}
		c.r.own[m] = append(c.r.own[m], n)
		return
	}
	if id, ok := c.group(path+".group", g.Group); ok {
		c.r.grantsOf[id] = append(c.r.grantsOf[id], n)
	}
}

func (c *compiler) grantPlaces(path string, g *Grant) []uint32 {
	if len(g.Doors)+len(g.Zones) == 0 {
		c.add("%s: names neither doors nor zones", path)
	}
	if !c.most(path+".doors and zones", len(g.Doors)+len(g.Zones), MaxGrantPlaces) {
		return nil
	}
	var out []uint32
	name := func(field, s string, pick func(*place) *uint32) {
		if !c.slug(path+field, s) {
			return
		}
		p := c.r.places[s]
		n := pick(&p)
		if *n == 0 {
			// Doors and zones count together: one sorted list holds both.
			c.placed++
			*n = c.placed
			c.r.places[strings.Clone(s)] = p
		}
		out = append(out, *n)
	}
	for i, s := range g.Doors {
		name(fmt.Sprintf(".doors[%d]", i), s, func(p *place) *uint32 { return &p.door })
	}
	for i, s := range g.Zones {
		name(fmt.Sprintf(".zones[%d]", i), s, func(p *place) *uint32 { return &p.zone })
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Doors lists every door and zone that some grant names, ascending, so that an edge can say that a configured door is
// out of everybody's reach.
func (r *Roster) Doors() (doors, zones []string) {
	if r == nil {
		return nil, nil
	}
	for _, s := range slices.Sorted(maps.Keys(r.places)) {
		if r.places[s].door != 0 {
			doors = append(doors, s)
		}
		if r.places[s].zone != 0 {
			zones = append(zones, s)
		}
	}
	return doors, zones
}
