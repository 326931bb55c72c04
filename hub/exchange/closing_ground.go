package exchange

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"kith/hub/audit"
	"kith/hub/ledger"
	"kith/hub/settlement"
	"kith/hub/store"
	"kith/internal/pki"
	"kith/internal/wire"
)

// economic are the leaves of one journal that can count, as far as they were read: a draft is asked for often and a
// journal only grows.
type economic struct {
	from, read uint64
	shown      []audit.Shown
}

// head is one journal at its newest receipt.
type head struct {
	log   store.Log
	point settlement.Checkpoint
}

// heads lists the journals that have a receipt. What no receipt covers waits for the next cut.
func (x *Exchange) heads(ctx context.Context) ([]head, error) {
	logs, err := x.storage.Store.Logs(ctx)
	if err != nil {
		return nil, err
	}
	var list []head
	for _, l := range logs {
		if l.Receipt == nil {
			continue
		}
		text, _, _ := strings.Cut(string(l.Receipt), "\n\n")
		c, err := wire.ParseCheckpoint(text + "\n")
		if err != nil {
			return nil, fmt.Errorf("the receipt of %s %s: %w", l.Edge, l.Epoch, err)
		}
		list = append(list, head{l, settlement.Checkpoint{Journal: c.Origin, Node: l.Node, Size: c.Size, Root: c.Root}})
	}
	slices.SortFunc(list, func(a, b head) int { return strings.Compare(a.point.Journal, b.point.Journal) })
	return list, nil
}

// ground gathers what a period would stand on, cut at the newest receipts.
func (x *Exchange) ground(ctx context.Context, day settlement.Day) (*audit.Ground, []head, error) {
	text, err := x.policyText()
	if err != nil {
		return nil, nil, err
	}
	g := &audit.Ground{}
	if g.Policy, err = audit.ParsePolicy("policy.yaml", text); err != nil {
		return nil, nil, err
	}
	if g.Network, err = x.described(); err != nil {
		return nil, nil, err
	}
	heads, err := x.heads(ctx)
	if err != nil {
		return nil, nil, err
	}
	points := make([]settlement.Checkpoint, len(heads))
	for i := range heads {
		points[i] = heads[i].point
	}
	before := map[string]uint64{}
	if last := x.posted(); last != nil {
		g.Previous = last.Cut
		if g.Opening, err = audit.ParseCarry("carry.txt", last.Carried()); err != nil {
			return nil, nil, err
		}
		for _, c := range last.Cut.Checkpoints {
			before[c.Journal] = c.Size
		}
	}
	if g.Cut, err = settlement.NewCut(day, g.Network.Nodes, points, g.Previous); err != nil {
		return nil, nil, err
	}
	for i := range heads {
		e, err := x.economic(ctx, &heads[i], before[heads[i].point.Journal])
		if err != nil {
			return nil, nil, err
		}
		g.Shown = append(g.Shown, e.shown...)
	}
	older, err := x.older(ctx, g, heads, before)
	g.Shown = append(g.Shown, older...)
	return g, heads, err
}

// posted is the period that the next one follows.
func (x *Exchange) posted() *audit.Closing {
	if c := x.closing.last; c != nil && c.Period.State == settlement.Posted {
		return c
	}
	return nil
}

// economic reads on in one journal.
func (x *Exchange) economic(ctx context.Context, h *head, from uint64) (*economic, error) {
	if x.closing.leaves == nil {
		x.closing.leaves = map[string]*economic{}
	}
	e := x.closing.leaves[h.point.Journal]
	if e == nil || e.from != from {
		e = &economic{from: from, read: from}
		x.closing.leaves[h.point.Journal] = e
	}
	err := x.storage.Leaves(ctx, store.Address{Edge: h.log.Edge, Epoch: h.log.Epoch, Index: e.read}, h.point.Size, func(at, until uint64, line []byte) error {
		if line != nil && audit.Economic(line) {
			e.shown = append(e.shown, audit.Shown{Journal: h.point.Journal, Index: at, Line: slices.Clone(line)})
		}
		e.read = until
		return nil
	})
	return e, err
}

// older reads the leaves below the previous cut that the period speaks of: corrected entries, and events put off.
func (x *Exchange) older(ctx context.Context, g *audit.Ground, heads []head, before map[string]uint64) ([]audit.Shown, error) {
	var wanted []audit.Address
	if g.Opening != nil {
		wanted = append(wanted, g.Opening.Later...)
	}
	for i := range g.Shown {
		if a, ok := audit.Target(g.Shown[i].Line); ok {
			wanted = append(wanted, a)
		}
	}
	seen := map[audit.Address]bool{}
	var list []audit.Shown
	for _, a := range wanted {
		i := slices.IndexFunc(heads, func(h head) bool { return h.point.Journal == a.Journal })
		if i < 0 || a.Index >= before[a.Journal] || seen[a] {
			continue
		}
		seen[a] = true
		line, err := x.storage.Leaf(ctx, store.Address{Edge: heads[i].log.Edge, Epoch: heads[i].log.Epoch, Index: a.Index})
		if errors.Is(err, store.ErrLost) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, audit.Shown{Journal: a.Journal, Index: a.Index, Line: slices.Clone(line)})
	}
	return list, nil
}

// described is the network with the keys that its signatures are checked by.
func (x *Exchange) described() (*audit.Network, error) {
	_, operator, err := x.operator()
	if err != nil {
		return nil, err
	}
	witness, err := pki.ReadPublic(filepath.Join(x.opt.StateDir, keysDir, pki.FileWitVerify))
	if err != nil {
		return nil, err
	}
	n := &audit.Network{Name: x.cfg.Network, Operator: operator, Witness: strings.TrimSpace(string(witness))}
	for _, node := range x.registry.Nodes() {
		n.Nodes = append(n.Nodes, node.ID)
	}
	for _, e := range x.registry.Edges() {
		n.Edges = append(n.Edges, audit.Edge{ID: e.ID, Node: e.Node, Key: strings.TrimSpace(e.Key)})
	}
	return n, nil
}

// inputs are the files that a period starts from.
func (x *Exchange) inputs(ctx context.Context, day settlement.Day) (audit.Files, error) {
	g, heads, err := x.ground(ctx, day)
	if err != nil {
		return nil, err
	}
	if len(heads) == 0 {
		return nil, errors.New("no edge has a receipt yet: there is nothing to cut")
	}
	// A new pair of keys is made where none is found. Under it nobody could tell this hub's next period from a stranger's.
	if last := x.posted(); last != nil && g.Network.Operator != last.Network.Operator {
		return nil, fmt.Errorf("period %s was closed under the operator's key %s, and %s/ has another: put back operator.skey and operator.vkey as they were then",
			last.Name, keyID(last.Network.Operator), keysDir)
	}
	if last := x.posted(); last != nil && g.Cut.Digest() == last.Cut.Digest() {
		return nil, fmt.Errorf("not a leaf has come since period %s was cut on the same day: close once one has, or with a later --day", last.Name)
	}
	text, err := x.policyText()
	if err != nil {
		return nil, err
	}
	f := audit.Inputs(g.Network, text, g.Cut, x.posted())
	before := map[string]uint64{}
	if g.Previous != nil {
		for _, c := range g.Previous.Checkpoints {
			before[c.Journal] = c.Size
		}
	}
	for i := range heads { // both are ascending by journal
		receipt, excerpt := audit.InputNames(i)
		f[receipt] = heads[i].log.Receipt
		if f[excerpt], err = x.excerpt(ctx, &heads[i], before[heads[i].point.Journal], g.Shown); err != nil {
			return nil, fmt.Errorf("journal %s: %w", heads[i].point.Journal, err)
		}
	}
	return f, nil
}

// excerpt shows the leaves of the list that are of this journal and stands for all others by hashes.
func (x *Exchange) excerpt(ctx context.Context, h *head, from uint64, all []audit.Shown) ([]byte, error) {
	hashes, err := x.storage.Hashes(ctx, h.log.Edge, h.log.Epoch)
	if err != nil {
		return nil, err
	}
	out := audit.NewExcerpt(h.point.Journal, from, h.point.Size)
	hide := func(to uint64) error {
		cover := audit.Cover(out.At(), to)
		indexes := make([]int64, len(cover))
		for i, c := range cover {
			indexes[i] = tlog.StoredHashIndex(int(c[0]), int64(c[1]))
		}
		found, err := hashes.ReadHashes(indexes)
		if err != nil {
			return fmt.Errorf("leaves %d to %d: %w; hub archive brings lost leaves back", out.At(), to, err)
		}
		for i, c := range cover {
			out.Hide(int(c[0]), found[i])
		}
		return nil
	}
	shown := map[uint64]bool{}
	var older []audit.Shown
	for _, s := range all {
		if s.Journal == h.point.Journal {
			shown[s.Index] = true
			if s.Index < from {
				older = append(older, s)
			}
		}
	}
	slices.SortFunc(older, func(a, b audit.Shown) int { return int(int64(a.Index) - int64(b.Index)) })
	for _, s := range older {
		if err := hide(s.Index); err != nil {
			return nil, err
		}
		out.Show(s.Line)
	}
	if err := hide(from); err != nil {
		return nil, err
	}
	err = x.storage.Leaves(ctx, store.Address{Edge: h.log.Edge, Epoch: h.log.Epoch, Index: from}, h.point.Size, func(at, until uint64, line []byte) error {
		switch {
		case line == nil:
			return hide(until)
		case shown[at]:
			out.Show(line)
		default:
			out.Hide(0, tlog.RecordHash(line))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out.Text()
}

// basis is what a draft is computed from. Nobody changes it.
type basis struct {
	ground *audit.Ground
	sealed map[ledger.Account]ledger.Totals // by the period before
	empty  bool                             // no edge has a receipt yet
}

// Draft is what a period would come to if it were closed now: a pure function of the receipted leaves and the policy.
func (x *Exchange) Draft(ctx context.Context) (*audit.Draft, error) {
	b, err := x.basis(ctx)
	if err != nil {
		return nil, err
	}
	return b.draft(b.ground.Policy)
}

// basis gathers what a draft stands on. Only this holds up the desk where periods are closed, not the clearing after it.
func (x *Exchange) basis(ctx context.Context) (*basis, error) {
	x.closing.mu.Lock()
	defer x.closing.mu.Unlock()
	if err := x.loadPeriod(ctx); err != nil {
		return nil, err
	}
	if c := x.closing.last; c != nil && c.Period.State != settlement.Posted {
		return nil, fmt.Errorf("period %s is %s; the next draft begins once it is posted", c.Name, c.Period.State)
	}
	today := settlement.Day(time.Now().Unix() / daySeconds)
	g, heads, err := x.ground(ctx, today)
	if last := x.posted(); err == nil && last != nil && g.Cut.Digest() == last.Cut.Digest() {
		g, heads, err = x.ground(ctx, today+1) // nothing has come since today's cut, and no two periods can have the same
	}
	if err != nil {
		return nil, err
	}
	b := &basis{ground: g, empty: len(heads) == 0}
	if last := x.posted(); last != nil {
		b.sealed = last.Balances
	}
	return b, nil
}

// draft is what the same leaves come to under a policy, which may be another one than that in force.
func (b *basis) draft(policy *audit.Policy) (*audit.Draft, error) {
	g := *b.ground
	g.Policy = policy
	if b.empty {
		return &audit.Draft{Day: g.Cut.Day, Missing: g.Cut.Missing}, nil
	}
	return g.Draft(b.sealed)
}

// CloseNow carries a period from the cut to its books in one go, with every party's early yes in place of the challenge
// window, and returns the verified bundle. It is for a demonstration, where all houses are one person's.
func (x *Exchange) CloseNow(ctx context.Context, name string) ([]byte, audit.Report, error) {
	x.closing.mu.Lock()
	defer x.closing.mu.Unlock()
	if err := x.loadPeriod(ctx); err != nil {
		return nil, audit.Report{}, err
	}
	now := time.Now()
	if _, err := x.closePeriod(ctx, PeriodOrder{Period: name}, now); err != nil {
		return nil, audit.Report{}, err
	}
	c := x.closing.last
	var parties []string
	for _, o := range c.Period.Clearable() {
		parties = append(parties, o.Debtor, o.Creditor)
	}
	slices.Sort(parties)
	var steps []audit.Step
	for _, node := range slices.Compact(parties) {
		steps = append(steps, audit.Step{Do: audit.DoConfirm, Number: 1, Node: node})
	}
	for _, s := range append(steps, audit.Step{Do: audit.DoFinalise, Number: 1, At: now.Unix()}, audit.Step{Do: audit.DoBook}) {
		if err := x.step(ctx, s, nil); err != nil {
			return nil, audit.Report{}, err
		}
	}
	b, err := x.bundle(ctx, name)
	if err != nil {
		return nil, audit.Report{}, err
	}
	_, r := audit.Verify(b)
	if !r.OK {
		return nil, r, r.Difference
	}
	return b, r, nil
}
