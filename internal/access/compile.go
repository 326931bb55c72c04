package access

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
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

func (p *problems) within(path string, n, limit int) bool {
	if n > limit {
		p.add("%s: %d exceed the limit of %d", path, n, limit)
		return false
	}
	return true
}

// compiler holds the tables that only compiling needs. People and cards come to it one by one, so that nobody has to hold
// them all; everything else is small and stands in the document.
type compiler struct {
	problems
	r        *Roster
	doc      *Document // head, groups and what follows the cards
	stage    stage
	groups   map[string]uint32
	declared bool // the document lists its groups
	sets     map[string]uint32
	homes    map[string]uint16
	tenures  map[tenure]uint32
	weeks    map[string]int32
	seen     census
	most     census
	placed   uint32 // doors and zones numbered so far
}

// census is how many people and cards there are, known before the first of them comes.
type census struct{ members, cards int }

// stage is how far a document has come. Members need head and groups; cards and grants need the members by id.
type stage int

const (
	atHead stage = iota
	atMembers
	atCards
)

// maxShared bounds the tables of what many people have alike; beyond that each has its own.
const maxShared = 4096

func newCompiler(d *Document, n census) *compiler {
	return &compiler{
		r:   &Roster{own: map[uint32][]uint32{}, places: map[string]place{}, closed: map[string]struct{}{}, tenures: make([]tenure, 1)},
		doc: d, most: n, groups: map[string]uint32{}, sets: map[string]uint32{}, homes: map[string]uint16{}, weeks: map[string]int32{},
		tenures: map[tenure]uint32{{}: 0},
	}
}

// Compile checks a document completely and builds the roster that answers from it. It keeps nothing of d.
func Compile(d Document) (*Roster, error) {
	c := newCompiler(&d, census{len(d.Members), len(d.Cards)})
	if !c.fits() {
		return nil, c.err()
	}
	for i := range d.Members {
		if err := c.member(&d.Members[i]); err != nil {
			return nil, err
		}
	}
	for i := range d.Cards {
		if err := c.card(&d.Cards[i]); err != nil {
			return nil, err
		}
	}
	return c.end()
}

// fits refuses what exceeds a limit before anything is made of it.
func (c *compiler) fits() bool {
	d := c.doc
	fits := c.within("members", c.most.members, MaxMembers)
	fits = c.within("cards", c.most.cards, MaxCards) && fits
	fits = c.within("groups", len(d.Groups), MaxGroups) && fits
	fits = c.within("schedules", len(d.Schedules), MaxSchedules) && fits
	fits = c.within("grants", len(d.Grants), MaxGrants) && fits
	fits = c.within("closed", len(d.Closed), MaxClosed) && fits
	fits = c.within("erased", len(d.Erased), MaxErased) && fits
	return c.within("resources", len(d.Resources), MaxResources) && fits
}

// reach does what has to be done before people, or cards, can be taken.
func (c *compiler) reach(s stage) {
	for c.stage < s {
		switch c.stage++; c.stage {
		case atMembers:
			c.head(c.doc)
			c.declareGroups(c.doc.Groups)
			c.r.homes, c.homes[""], c.homes[c.r.node] = []string{c.r.node}, 0, 0
			c.r.members = make([]member, 0, c.most.members)
		case atCards:
			c.r.text.close()
			c.sortMembers()
			c.r.cards = newDeck(c.most.cards)
		}
	}
}

// end compiles what is left.
func (c *compiler) end() (*Roster, error) {
	c.reach(atCards)
	d := c.doc
	c.schedules(d.Schedules)
	c.grants(d.Grants)
	c.resources(d.Resources)
	c.erasures(d.ErasureKey, d.Erased)
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

func (c *compiler) head(d *Document) {
	c.r.network, c.r.node, c.r.version, c.r.issued = strings.Clone(d.Network), strings.Clone(d.Node), d.Version, time.Unix(d.Issued, 0).UTC()
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

// member takes the next person of the document and keeps nothing of it. An error is not about the person.
func (c *compiler) member(m *Member) error {
	c.reach(atMembers)
	i := c.seen.members
	if i == c.most.members {
		return errMore
	}
	c.seen.members++
	c.r.members = append(c.r.members, member{}) // also for one that cannot be taken: the place is the number in the document
	path := func(field string) string { return fmt.Sprintf("members[%d]%s", i, field) }
	if !c.checkMember(path, m) {
		return nil
	}
	home, ok := c.homes[m.Home]
	if !ok {
		if len(c.r.homes) == math.MaxUint16 {
			c.add("%s: more than %d homes", path(".home"), math.MaxUint16)
			return nil
		}
		home = uint16(len(c.r.homes))
		c.r.homes = append(c.r.homes, strings.Clone(m.Home))
		c.homes[c.r.homes[home]] = home
	}
	c.r.members[i] = member{
		text: c.r.text.add(m.ID, m.Name), id: uint8(len(m.ID)), name: uint8(len(m.Name)), home: home,
		role: role(slices.Index(roleNames(), m.Role)), set: c.set(path, m.Groups), tenure: c.tenure(m.From, m.Until),
		blocked: m.Blocked, pulse: uint16(m.PulseMS),
	}
	return nil
}

// sortMembers brings members into the order of their ids, in place; a hub sends them so.
func (c *compiler) sortMembers() {
	all := c.r.members
	id := func(i uint32) string { return c.r.idOf(&all[i]) }
	order := make([]uint32, len(all))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		return cmp.Or(strings.Compare(id(a), id(b)), cmp.Compare(a, b))
	})
	for k := 1; k < len(order); k++ {
		if a, b := order[k-1], order[k]; id(a) == id(b) && id(a) != "" {
			c.add("members[%d].id: %q stands twice, first at members[%d]", b, id(b), a)
		}
	}
	for i := range order { // each cycle of the permutation moves through one spare place
		first, at := all[i], i
		for int(order[at]) != i {
			next := int(order[at])
			all[at], order[at], at = all[next], uint32(at), next
		}
		all[at], order[at] = first, uint32(at)
	}
}

func (c *compiler) tenure(from, until int64) uint32 {
	t := tenure{from, until}
	n, ok := c.tenures[t]
	if !ok {
		n = uint32(len(c.r.tenures))
		c.r.tenures = append(c.r.tenures, t)
		if len(c.tenures) < maxShared {
			c.tenures[t] = n
		}
	}
	return n
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
		c.within(path(".groups"), len(m.Groups), MaxMemberGroups)
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

// card takes the next card of the document and keeps nothing of it. An error is not about the card.
func (c *compiler) card(k *Card) error {
	c.reach(atCards)
	i := c.seen.cards
	if i == c.most.cards {
		return errMore
	}
	c.seen.cards++
	key, ok := parseCardID(k.ID)
	if !ok {
		c.add("cards[%d].id: is no card id (pkoc: and 64, or uid: and 8, 14 or 20 lower-case hex digits)", i)
		return nil
	}
	if k.From < 0 || k.Until < 0 || (k.Until != 0 && k.Until <= k.From) {
		c.window(fmt.Sprintf("cards[%d]", i), k.From, k.Until)
	}
	owner, ok := c.r.find(k.Member)
	if !ok {
		c.add("cards[%d].member: no member %.60q", i, k.Member)
	}
	if !c.r.cards.add(card{key: key, revoked: k.Revoked, member: owner, tenure: c.tenure(k.From, k.Until)}) {
		c.add("cards[%d].id: stands twice; one card belongs to one member", i)
	}
	return nil
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
	if !c.within(path+".doors and zones", len(g.Doors)+len(g.Zones), MaxGrantPlaces) {
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
