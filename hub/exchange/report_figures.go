package exchange

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"kith/hub/audit"
	"kith/hub/feed"
	"kith/hub/ledger"
	"kith/hub/settlement"
	"kith/hub/store"
	"kith/internal/event"
	"kith/internal/wire"
)

// firstReach is how many days before its cut the first period of a network is said to begin at most.
const firstReach = 366

// Where an obligation came from, as carry.txt spells it. What comes from no leaf is nobody's doing.
const (
	sourceLeaf       = "leaf"
	sourceCorrection = "correction"
)

// past is what the periods before tell about the one that is reported.
type past struct {
	names []string
	cuts  []*settlement.Cut
	owed  map[settlement.ID]debt // left open by the statement before: its report may have told their sum
}

// debt is what a statement left of one obligation.
type debt struct {
	unit   string
	amount int64
	from   audit.Address
}

func (p *past) add(c *audit.Closing) {
	p.names, p.cuts = append(p.names, c.Name), append(p.cuts, c.Cut)
	p.owed = map[settlement.ID]debt{}
	done := c.Discharged()
	for _, o := range cleared(c) {
		if left := o.Open() - done[o.ID]; left > 0 {
			p.owed[o.ID] = debt{o.Unit, left, c.Set.Sources[o.ID].Leaf}
		}
	}
}

// settledIn names the period that took a leaf; empty: none so far.
func (p *past) settledIn(a audit.Address) string {
	for i, cut := range p.cuts {
		for _, c := range cut.Checkpoints {
			if c.Journal == a.Journal && a.Index < c.Size {
				return p.names[i]
			}
		}
	}
	return ""
}

// cleared lists what the final statement is over, as it stood at the cut.
func cleared(c *audit.Closing) []settlement.Obligation {
	out := map[settlement.ID]bool{}
	for _, d := range c.Period.Disputes {
		out[d.Obligation] = d.Outcome != settlement.Stand
	}
	var list []settlement.Obligation
	for _, o := range c.Set.Obligations {
		if o.Open() > 0 && !o.Frozen && !out[o.ID] {
			list = append(list, o)
		}
	}
	return list
}

// figures gathers the report of one posted period. It holds members, for as long as the small-group rule asks about them.
type figures struct {
	x    *Exchange
	c    *audit.Closing
	past *past

	why     map[audit.Address]settlement.Why
	offered map[audit.Address]bool // went into the derivation of this period
	void    map[audit.Address]bool // a decision took away what it had made
	later   map[audit.Address]bool // put off by the period before
	moved   map[audit.Address]audit.Address
	members map[audit.Address]string

	first       int32 // earliest day of anything that counts
	done        []done
	corrections map[string]int
}

// done is one entry that counts in the period.
type done struct {
	flow feed.Flow
	at   audit.Address
}

func (x *Exchange) figures(ctx context.Context, c *audit.Closing, p *past, previous *feed.Release) (*feed.Report, error) {
	f := &figures{x: x, c: c, past: p, first: int32(c.Cut.Day), corrections: map[string]int{}, members: map[audit.Address]string{}}
	f.sort()
	for i := range c.Shown {
		f.take(&c.Shown[i])
	}
	statement := c.Period.InForce()
	if statement == nil {
		return nil, errors.New("it has no statement in force")
	}
	r := &feed.Report{Network: c.Network.Name, Period: c.Name, To: int32(c.Cut.Day), Statement: statement.Number, StatementDigest: hex.EncodeToString(statement.Digest[:]),
		Privacy: feed.DefaultPrivacy(), DisputesOpened: len(c.Period.Disputes), Breaches: len(c.Breaches)}
	r.From = f.from(r.To)
	r.Rules = []feed.Rule{f.rule(r.From, previous)}
	for _, d := range c.Period.Disputes {
		if d.Outcome != settlement.Undecided {
			r.DisputesClosed++
		}
	}
	for _, u := range c.Policy.Units {
		r.Units = append(r.Units, feed.Unit{Name: u.Name, Scale: u.Scale})
	}
	for name, n := range f.corrections {
		r.Corrections = append(r.Corrections, feed.Correction{Period: name, Count: n})
	}
	f.houses(r)
	kinds, err := f.measure(ctx, r)
	if err == nil {
		err = f.clearing(ctx, r, kinds, previous)
	}
	if err == nil {
		err = f.pool(r)
	}
	return r, err
}

// sort says of every leaf what became of it.
func (f *figures) sort() {
	c := f.c
	f.why, f.offered, f.void = map[audit.Address]settlement.Why{}, map[audit.Address]bool{}, map[audit.Address]bool{}
	f.later, f.moved = map[audit.Address]bool{}, map[audit.Address]audit.Address{}
	for _, a := range c.Set.Asides {
		f.why[audit.Address{Journal: a.Journal, Index: a.Index}] = a.Why
	}
	carried := map[settlement.ID]bool{}
	if c.Ground.Opening != nil {
		for _, o := range c.Ground.Opening.Obligations {
			carried[o.ID] = true
		}
		for _, a := range c.Ground.Opening.Later {
			f.later[a] = true
		}
	}
	for id, from := range c.Set.Sources {
		if from.Kind == sourceLeaf && !carried[id] {
			f.offered[from.Leaf] = true
		}
	}
	for _, d := range c.Period.Disputes {
		if from := c.Set.Sources[d.Obligation]; from.Kind == sourceLeaf && (d.Outcome == settlement.Voided || d.Outcome == settlement.Amend) {
			f.void[from.Leaf] = true
		}
	}
	for i := range c.Shown {
		if lost, ok := lostAddress(c.Shown[i].Line); ok {
			f.moved[lost] = audit.Address{Journal: c.Shown[i].Journal, Index: c.Shown[i].Index}
		}
	}
}

// lostAddress is where the leaf stood that a replayed one carries over from a lost branch.
func lostAddress(line []byte) (audit.Address, bool) {
	l, err := event.Parse(line)
	if err != nil || l.Kind != event.KindReplayed {
		return audit.Address{}, false
	}
	var body event.Replayed
	if err := json.Unmarshal(l.Body, &body); err != nil {
		return audit.Address{}, false
	}
	if l, err = event.Parse([]byte(body.Leaf)); err != nil {
		return audit.Address{}, false
	}
	return audit.Address{Journal: wire.Origin(l.Network, l.Node, l.Edge, l.Epoch), Index: l.Index}, true
}

// take reads one leaf: what it delivered, or which earlier period it corrects. What an earlier report said stands; so an
// entry that takes the place of one in there is told as a correction, and its amount, which would be a person's, is not.
func (f *figures) take(s *audit.Shown) {
	flow, at, ok := flowOf(s)
	if !ok {
		return
	}
	switch settlement.Action(flow.Action) {
	case settlement.Use, settlement.Consume, settlement.Work, settlement.DeliverService:
	default:
		return
	}
	fresh := f.past.settledIn(at) == ""
	if target, ok := audit.Target(s.Line); ok && (f.offered[at] || fresh && f.why[at] == "taken-back") {
		name := f.past.settledIn(target)
		if to, carried := f.moved[target]; carried && name == "" {
			target = to
			name = f.past.settledIn(to)
		}
		if name != "" && !f.later[target] {
			if fresh {
				f.corrections[name]++
			}
			return
		}
	}
	if why := f.why[at]; !f.offered[at] || f.void[at] || why == settlement.WhyHeld || why == settlement.WhyLater {
		return
	}
	f.first = min(f.first, flow.Day)
	f.done = append(f.done, done{flow, at})
}

// from is the first day of the period. A network's first one begins with a month, so that the day on which somebody did
// something first is not told.
func (f *figures) from(to int32) int32 {
	if f.c.Previous != nil {
		return min(int32(f.c.Previous.Day)+1, to)
	}
	day := time.Unix(int64(max(f.first, to-firstReach, 0))*daySeconds, 0).UTC()
	return int32(time.Date(day.Year(), day.Month(), 1, 0, 0, 0, 0, time.UTC).Unix() / daySeconds)
}

// rule is the policy, since the first report in a row that names it.
func (f *figures) rule(from int32, previous *feed.Release) feed.Rule {
	p := &f.c.Policy.Settlement
	rule := feed.Rule{Version: p.Version, Since: from, Digest: hex.EncodeToString(p.Hash[:])}
	if previous != nil {
		for _, old := range previous.Rules {
			if day, err := time.Parse(time.DateOnly, old.Since); err == nil && old.Version == rule.Version && old.Digest == rule.Digest {
				rule.Since = int32(day.Unix() / daySeconds)
			}
		}
	}
	return rule
}

func (f *figures) houses(r *feed.Report) {
	names := map[string]string{}
	for _, n := range f.x.registry.Nodes() {
		names[n.ID] = n.Name
	}
	for _, id := range f.c.Network.Nodes {
		r.Houses = append(r.Houses, feed.House{ID: id, Name: cmp.Or(names[id], id), Missing: slices.Contains(f.c.Cut.Missing, id)})
	}
}

// kindNames gives every kind its name in the report. One that houses count in different measures is told apart by them.
type kindNames map[string]map[string]bool // measures by kind

func (k kindNames) see(kind, measure string) {
	if k[kind] == nil {
		k[kind] = map[string]bool{}
	}
	k[kind][measure] = true
}

func (k kindNames) name(kind, measure string) string {
	if len(k[kind]) > 1 {
		return kind + "/" + measure
	}
	return kind
}

// measure counts what was delivered, by house and kind.
func (f *figures) measure(ctx context.Context, r *feed.Report) (kindNames, error) {
	kinds := kindNames{}
	parts, offers := map[string][]feed.Contribution{}, map[string][]feed.Offer{}
	for _, d := range f.done {
		kinds.see(d.flow.Resource, d.flow.Unit)
	}
	days := int64(r.To-r.From) + 1
	for _, res := range f.x.registry.Resources("") {
		if res.Offered && res.Capacity > 0 && (res.Measure == "night" || res.Measure == "day") && slices.Contains(f.c.Network.Nodes, res.Node) {
			kinds.see(res.ID, res.Measure)
			offers[res.Measure] = append(offers[res.Measure], feed.Offer{Node: res.Node, Kind: res.ID, Offered: res.Capacity * days})
		}
	}
	for _, d := range f.done {
		who, err := f.who(ctx, d.at)
		if err != nil {
			return nil, err
		}
		parts[d.flow.Unit] = append(parts[d.flow.Unit], feed.Contribution{Node: d.flow.Place, Kind: kinds.name(d.flow.Resource, d.flow.Unit),
			Member: who, Amount: d.flow.Quantity})
	}
	for unit := range offers {
		for i := range offers[unit] {
			offers[unit][i].Kind = kinds.name(offers[unit][i].Kind, unit)
		}
		if parts[unit] == nil {
			parts[unit] = []feed.Contribution{}
		}
	}
	for unit, list := range parts {
		cells, err := feed.Tally(list)
		if err != nil {
			return nil, fmt.Errorf("counting in %s: %w", unit, err)
		}
		r.Measures = append(r.Measures, feed.Measure{Unit: unit, Cells: cells, Offers: offers[unit]})
	}
	return kinds, nil
}

// stake gathers who has how much of an amount.
type stake map[string]int64

func (s stake) add(member string, amount int64) error {
	if amount < 0 {
		amount = -amount
	}
	if s[member] > math.MaxInt64-amount {
		return errors.New("counting who stands behind: the sum does not fit")
	}
	s[member] += amount
	return nil
}

// sides is what stands behind one unit of the closing.
type sides struct {
	gross   stake
	apart   stake                   // owed or delivered, and not the other
	carried stake                   // left by the statement before
	leaf    map[audit.Address]int64 // owed less delivered, of each leaf of this period
}

// clearing compares what was owed with what was delivered at the policy's prices, as any reader can. What the statement
// before had left is no secret where its report told it, and part of the difference where it did not.
func (f *figures) clearing(ctx context.Context, r *feed.Report, kinds kindNames, previous *feed.Release) error {
	units := map[string]*sides{}
	at := func(unit string) *sides {
		if units[unit] == nil {
			units[unit] = &sides{stake{}, stake{}, stake{}, map[audit.Address]int64{}}
		}
		return units[unit]
	}
	priced := map[string][]string{}
	for _, list := range f.c.Policy.Settlement.Prices {
		for kind, price := range list {
			for measure := range kinds[kind] {
				priced[price.Unit] = append(priced[price.Unit], kinds.name(kind, measure))
			}
		}
	}
	for _, d := range f.done {
		if price, ok := f.c.Policy.Settlement.Prices[settlement.Action(d.flow.Action)][d.flow.Resource]; ok {
			at(price.Unit).leaf[d.at] -= d.flow.Quantity * price.Each // < 2^60 by the bounds of both
		}
	}
	if err := f.owe(ctx, at); err != nil {
		return err
	}
	for _, u := range f.c.Report().Units {
		s := at(u.Unit)
		for leaf, difference := range s.leaf {
			who, err := f.who(ctx, leaf)
			if err == nil && difference != 0 {
				err = s.apart.add(who, difference)
			}
			if err != nil {
				return err
			}
		}
		gross, err := feed.Behind(s.gross)
		if err != nil {
			return err
		}
		if gross.Amount != u.Gross {
			return fmt.Errorf("%d %s are owed by the statement, %d by the obligations", u.Gross, u.Unit, gross.Amount)
		}
		apart, err := feed.Behind(s.apart)
		if err != nil {
			return err
		}
		groups := []feed.Group{apart}
		if previous != nil && !slices.ContainsFunc(previous.Clearing, func(c feed.Cleared) bool { return c.Unit == u.Unit && c.Left != nil }) {
			for who, amount := range s.carried {
				if err := s.apart.add(who, amount); err != nil {
					return err
				}
			}
			if apart, err = feed.Behind(s.apart); err != nil {
				return err
			}
			groups = append(groups, apart)
		}
		names := priced[u.Unit]
		slices.Sort(names)
		r.Clearing = append(r.Clearing, feed.Clearing{Unit: u.Unit, Gross: u.Gross, Cleared: u.Cleared, Members: gross.Members, Largest: gross.Largest,
			Kinds: slices.Compact(names), Apart: groups})
	}
	return nil
}

// owe lays every obligation of the final statement to whom it came from, and to the side on which a reader finds it.
func (f *figures) owe(ctx context.Context, at func(string) *sides) error {
	lay := func(from audit.Address, to stake, amount int64) error {
		who, err := f.who(ctx, from)
		if err != nil || amount == 0 {
			return err
		}
		return to.add(who, amount)
	}
	here := map[settlement.ID]bool{}
	for _, o := range cleared(f.c) {
		here[o.ID] = true
		s, from := at(o.Unit), f.c.Set.Sources[o.ID]
		left, known := f.past.owed[o.ID]
		err := lay(from.Leaf, s.gross, o.Open())
		switch {
		case err != nil:
		case from.Kind != sourceLeaf && from.Kind != sourceCorrection: // dues and grants follow from figures that are published anyway
		case f.c.Set.Fresh[o.ID] && from.Kind == sourceLeaf:
			s.leaf[from.Leaf] += o.Open()
		case known:
			err = errors.Join(lay(from.Leaf, s.carried, o.Open()), lay(from.Leaf, s.apart, left.amount-o.Open()))
		default:
			err = lay(from.Leaf, s.apart, o.Open())
		}
		if err != nil {
			return err
		}
	}
	for id, left := range f.past.owed { // left before, and not in this statement: in dispute now, or answered otherwise
		if !here[id] {
			if err := lay(left.from, at(left.unit).apart, left.amount); err != nil {
				return err
			}
		}
	}
	return nil
}

// pool tells what the commons took and gave, in the units that were cleared.
func (f *figures) pool(r *feed.Report) error {
	commons := f.c.Policy.Pool.Commons
	if commons == "" {
		return nil
	}
	pools := map[string]*feed.Pool{}
	for _, u := range f.c.Report().Units {
		pools[u.Unit] = &feed.Pool{Unit: u.Unit}
	}
	account := ledger.CommonsPath(f.c.Network.Name)
	for unit, p := range pools {
		p.Balance = f.c.Balances[ledger.Account{Path: account, Unit: unit}].Balance()
	}
	discharged := f.c.Discharged()
	for _, o := range f.c.Set.Obligations {
		p := pools[o.Unit]
		switch amount := discharged[o.ID]; {
		case p == nil || amount == 0:
		case o.Creditor == commons:
			p.In += amount
		case o.Debtor == commons:
			p.Out += amount
		}
	}
	entries, err := audit.ReadEntries(f.c.Files)
	if err != nil {
		return err
	}
	for i := range entries {
		list := entries[i].Postings
		if !slices.ContainsFunc(list, func(p ledger.Posting) bool { return p.Account.Path == account }) {
			continue
		}
		for _, p := range list {
			if pool := pools[p.Account.Unit]; pool != nil && p.Account.Path != account {
				pool.Demand = max(pool.Demand, -p.Amount) // a draw lowers the house's account
			}
		}
	}
	for _, p := range pools {
		r.Pool = append(r.Pool, *p)
	}
	return nil
}

// who is the member whom a leaf names; empty when nobody is known: erased, never told, or from no leaf at all.
func (f *figures) who(ctx context.Context, at audit.Address) (string, error) {
	if at == (audit.Address{}) {
		return "", nil
	}
	if who, known := f.members[at]; known {
		return who, nil
	}
	parts := strings.Split(at.Journal, "/")
	if len(parts) != 4 {
		return "", fmt.Errorf("journal %.200q is no origin", at.Journal)
	}
	epoch, err := event.ParseEpoch(parts[3])
	if err != nil {
		return "", fmt.Errorf("journal %.200q: %w", at.Journal, err)
	}
	line, err := f.x.storage.Line(ctx, store.Address{Edge: parts[2], Epoch: epoch, Index: at.Index})
	if err != nil && !errors.Is(err, store.ErrUnknown) {
		return "", err
	}
	f.members[at] = line.Member
	return line.Member, nil
}
