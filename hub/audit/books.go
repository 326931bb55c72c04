package audit

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"kith/hub/ledger"
	"kith/hub/settlement"
)

// Parts of what one source books.
const (
	partFresh   = 0 // an obligation comes into the books; also the moves of the pool
	partBack    = 1 // the same, taking back what a leaf corrected
	partSetOff  = 2 // what the statement discharges
	partWaived  = 3 // what a decision took out, or a creditor gave up when a node left
	partNovated = 4 // what the pool has taken over from a node that left
	dayMS       = 24 * 60 * 60 * 1000
	maxBalance  = math.MaxInt64 / 4
	maxAccounts = 1 << 24
)

func hash(b []byte) [32]byte { return sha256.Sum256(b) }

func (f Files) keys() iter.Seq[string] { return maps.Keys(f) }

// settling is the journal that entries of a closing come from when they come from no leaf.
func (c *Closing) settling() string {
	return "kith." + c.Network.Name + "/settlement/" + c.Period.Name
}

// entries books a period: each new obligation, each discharge, each waiver, each novation, each move of the pool. settled is
// what became of every obligation.
func (c *Closing) entries(settled []settlement.Obligation) []ledger.Entry {
	var list []ledger.Entry
	version, done := c.Policy.Settlement.Version, c.Discharged()
	was, is := map[settlement.ID]int64{}, map[settlement.ID]*settlement.Obligation{} // waived before; now
	for _, o := range c.Set.Obligations {
		was[o.ID] = o.Waived
	}
	for i := range settled {
		is[settled[i].ID] = &settled[i]
	}
	for i := range c.Period.Obligations {
		o := &c.Period.Obligations[i]
		at := ledger.Source{Journal: c.settling(), Index: uint64(i), Rule: version}
		if c.Set.Fresh[o.ID] {
			from, source := c.Set.Sources[o.ID], at
			switch from.Kind {
			case fromLeaf:
				source = ledger.Source{Journal: from.Leaf.Journal, Index: from.Leaf.Index, Rule: version, Part: partFresh}
			case fromCorrection:
				source = ledger.Source{Journal: from.Leaf.Journal, Index: from.Leaf.Index, Rule: version, Part: partBack}
			}
			e := c.due(source, o, -o.Amount)
			e.At, e.Unsure = int64(o.Day)*dayMS, c.Set.unsure[o.ID]
			list = append(list, e)
		}
		now := is[o.ID]
		for _, m := range []struct {
			part   uint32
			amount int64
		}{{partSetOff, done[o.ID]}, {partWaived, now.Waived - was[o.ID]}, {partNovated, now.Discharged - o.Discharged - done[o.ID]}} {
			if m.amount > 0 {
				at.Part = m.part
				list = append(list, c.due(at, o, m.amount))
			}
		}
	}
	for i, o := range novated(settled, c.Period.Obligations) {
		at := ledger.Source{Journal: c.settling() + "/~exit", Index: uint64(i), Rule: version}
		list = append(list, c.due(at, &o, -o.Amount))
		if o.Waived > 0 { // by a second node that left with this period
			at.Part = partWaived
			list = append(list, c.due(at, &o, o.Waived))
		}
	}
	for _, a := range c.answers[len(c.answers)-1] {
		for i, b := range a.r.Balances {
			if moved := b.After - b.Before; moved != 0 {
				list = append(list, ledger.Entry{Kind: ledger.Post, Standing: ledger.Fact, At: int64(c.Cut.Day) * dayMS,
					Source: ledger.Source{Journal: c.settling() + "/" + a.c.Unit(), Index: uint64(i), Rule: version},
					Postings: []ledger.Posting{
						{Account: ledger.Account{Path: ledger.NodePath(c.Network.Name, b.Node), Unit: a.c.Unit()}, Amount: moved},
						{Account: ledger.Account{Path: ledger.CommonsPath(c.Network.Name), Unit: a.c.Unit()}, Amount: -moved},
					}})
			}
		}
	}
	slices.SortFunc(list, func(a, b ledger.Entry) int {
		return cmp.Or(cmp.Compare(a.Source.Journal, b.Source.Journal), cmp.Compare(a.Source.Index, b.Source.Index),
			cmp.Compare(a.Source.Part, b.Source.Part))
	})
	return list
}

// due moves what debtor and creditor have open with each other; amount is the debtor's side.
func (c *Closing) due(source ledger.Source, o *settlement.Obligation, amount int64) ledger.Entry {
	return ledger.Entry{Source: source, Kind: ledger.Post, Standing: ledger.Fact, At: int64(c.Cut.Day) * dayMS, Postings: []ledger.Posting{
		{Account: ledger.Account{Path: ledger.DuePath(c.Network.Name, o.Debtor, o.Creditor), Unit: o.Unit}, Amount: amount},
		{Account: ledger.Account{Path: ledger.DuePath(c.Network.Name, o.Creditor, o.Debtor), Unit: o.Unit}, Amount: -amount},
	}}
}

// book writes the books of a period that has become posted, or holds those that are here to it.
func (c *Closing) book(write bool) error {
	settled, err := c.Period.Settled(c.Discharged())
	if err != nil {
		return err
	}
	entries := c.entries(settled)
	b, err := ledger.New(c.Policy.Units)
	if err != nil {
		return err
	}
	for i, a := range b.Apply(ledger.Rules{}, entries) {
		if a.Code != ledger.Booked {
			return fmt.Errorf("booking entry %d of %s: %s", i, entries[i].Source.Journal, a.Code)
		}
	}
	c.Balances = maps.Clone(c.Opening)
	for _, a := range b.Accounts() {
		have, add := c.Balances[a], b.Account(a)
		if have.Debits > maxBalance-add.Debits || have.Credits > maxBalance-add.Credits {
			return fmt.Errorf("booking in %s: the total does not fit", a.Path)
		}
		have.Debits, have.Credits = have.Debits+add.Debits, have.Credits+add.Credits
		c.Balances[a] = have
	}
	texts := Files{}
	for i := range entries {
		texts[entriesName] = append(entries[i].AppendJSON(texts[entriesName]), '\n')
	}
	if texts[entriesName] == nil {
		texts[entriesName] = []byte{}
	}
	var root [32]byte
	if texts[closingName], root, err = appendBalances(c.Balances); err != nil {
		return err
	}
	c.Seal = ledger.Seal{Period: c.Period.Name, Accounts: uint64(len(c.Balances)), Root: root}
	texts[sealName] = c.Seal.AppendText(nil)
	texts[journalName] = c.hledger(entries)
	carry := c.carry(settled)
	texts[carryName] = carry.AppendText(nil)
	if c.Breaches, err = c.breaches(carry.Obligations); err != nil {
		return err
	}
	texts[breachesName] = appendBreaches(nil, c.Breaches)
	texts[readmeName] = c.readme()
	for _, name := range []string{entriesName, closingName, sealName, journalName, carryName, breachesName, readmeName} {
		if write {
			c.Files[name] = texts[name]
			continue
		}
		if err := c.Files.same(name, texts[name]); err != nil {
			return err
		}
	}
	return nil
}

// carry is what the posted period leaves to the next.
func (c *Closing) carry(settled []settlement.Obligation) *Carry {
	n := &Carry{Period: c.Period.Name, Seal: c.Seal.Root, Sources: maps.Clone(c.Set.Sources), Later: c.Set.Later, Void: slices.Clone(c.Set.Void),
		Idle: c.Set.Idle, Left: append(c.leaving(), c.Set.Left...), Used: c.Set.Used}
	for _, o := range novated(settled, c.Period.Obligations) {
		n.Sources[o.ID] = Source{Kind: fromNovation}
	}
	for _, o := range settled {
		if o.Open() > 0 {
			n.Obligations = append(n.Obligations, o)
		}
	}
	for _, d := range c.Period.Disputes {
		if from := c.Set.Sources[d.Obligation]; from.Kind == fromLeaf && (d.Outcome == settlement.Voided || d.Outcome == settlement.Amend) {
			n.Void = append(n.Void, from.Leaf)
		}
	}
	n.Void = sorted(n.Void)
	slices.Sort(n.Left)
	return n
}

// appendBalances writes the leaf line of every account, in order, and the root over them.
func appendBalances(balances map[ledger.Account]ledger.Totals) ([]byte, [32]byte, error) {
	text := []byte{}
	var leaves []tlog.Hash
	for _, a := range accounts(balances) {
		from := len(text)
		text = ledger.AppendLeaf(text, a, balances[a])
		leaves = append(leaves, tlog.RecordHash(text[from:]))
	}
	return text, treeOver(leaves), nil
}

func treeOver(leaves []tlog.Hash) [32]byte {
	var stack []subtree
	for i, h := range leaves {
		n := subtree{at: uint64(i), hash: h}
		for k := len(stack); k > 0 && stack[k-1].level == n.level; k-- {
			n = subtree{at: stack[k-1].at, level: n.level + 1, hash: tlog.NodeHash(stack[k-1].hash, n.hash)}
			stack = stack[:k-1]
		}
		stack = append(stack, n)
	}
	return rootOf(stack)
}

func accounts(balances map[ledger.Account]ledger.Totals) []ledger.Account {
	list := slices.Collect(maps.Keys(balances))
	slices.SortFunc(list, func(a, b ledger.Account) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Unit, b.Unit)) })
	return list
}

func parseBalances(file string, text []byte) (map[ledger.Account]ledger.Totals, [32]byte, error) {
	balances := map[ledger.Account]ledger.Totals{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		var v [5]int64
		ok := len(words) == 2+len(v) && n <= maxAccounts
		for i := range v {
			var fine bool
			if ok {
				v[i], fine = number(words[2+i])
			}
			ok = ok && fine && v[i] <= maxBalance && v[i] >= -maxBalance
		}
		if !ok {
			return nil, [32]byte{}, differ(file, n, "not a line of balances: %.200q", line)
		}
		balances[ledger.Account{Path: words[0], Unit: words[1]}] = ledger.Totals{Debits: v[0], Credits: v[1], DebitsPending: v[2], CreditsPending: v[3]}
	}
	again, root, err := appendBalances(balances)
	if err == nil {
		err = (Files{file: text}).sameOrNil(file, again)
	}
	return balances, root, err
}

// hledger writes the books of the period for hledger and ledger: what was open, every entry, and the sealed balances as
// assertions that both programs check.
func (c *Closing) hledger(entries []ledger.Entry) []byte {
	b := fmt.Appendf(nil, "; Books of %s for %s. Check: hledger check -s -f journal.hledger, or ledger --strict --pedantic -f journal.hledger bal\n\n",
		c.Network.Name, c.Period.Name)
	for _, u := range c.Policy.Units {
		b = fmt.Appendf(b, "commodity %s\n", commodity(u.Name))
	}
	last := ""
	for _, a := range accounts(c.Balances) {
		if name := column(a.Path); name != last {
			b, last = fmt.Appendf(b, "account %s\n", name), name
		}
	}
	day := c.Cut.Day
	if c.Previous != nil {
		day = c.Previous.Day
	}
	var opening []ledger.Posting
	for _, a := range accounts(c.Opening) {
		if v := c.Opening[a].Balance(); v != 0 {
			opening = append(opening, ledger.Posting{Account: a, Amount: v})
		}
	}
	b = transaction(b, int64(day)*dayMS, "opening balances", opening)
	for i := range entries {
		id := entries[i].ID()
		b = transaction(b, entries[i].At, id.String(), entries[i].Postings)
	}
	b = fmt.Appendf(b, "\n%s closing balances of %s\n", date(int64(c.Cut.Day)*dayMS), c.Period.Name)
	for _, a := range accounts(c.Balances) {
		b = fmt.Appendf(b, "    %s  0 %s = %d %s\n", column(a.Path), commodity(a.Unit), c.Balances[a].Balance(), commodity(a.Unit))
	}
	return b
}

func transaction(b []byte, at int64, what string, posts []ledger.Posting) []byte {
	if len(posts) == 0 {
		return b
	}
	b = append(append(append(append(append(b, '\n'), date(at)...), ' '), what...), '\n')
	for _, p := range posts {
		b = append(append(append(b, "    "...), column(p.Account.Path)...), "  "...)
		b = append(strconv.AppendInt(b, p.Amount, 10), ' ')
		b = append(append(b, commodity(p.Account.Unit)...), '\n')
	}
	return b
}

func date(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.DateOnly) }

func column(path string) string { return strings.ReplaceAll(path, "/", ":") }

// commodity quotes names that are more than letters.
func commodity(name string) string {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz") == "" {
		return name
	}
	return `"` + name + `"`
}

// ReadEntries reads the entries of a posted period.
func ReadEntries(f Files) ([]ledger.Entry, error) {
	var list []ledger.Entry
	n := 0
	for line := range strings.Lines(string(f[entriesName])) {
		n++
		e, err := ledger.ParseEntry([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil {
			return nil, differ(entriesName, n, "%v", err)
		}
		list = append(list, e)
	}
	return list, nil
}

func (c *Closing) readme() []byte {
	return fmt.Appendf(nil, `# Period %s of %s

This bundle proves how the period was closed. It needs no network and no database to be checked:

    hub verify BUNDLE.tar

The command recomputes every tree, signature, obligation, clearing, posting and balance from the files here and names the first
line that differs. Compare the operator's key that it prints with the one your house was given:

    %s

Books: hledger check -s -f ledger/journal.hledger
Formats: docs/FORMATS.md, "Audit bundle". A leaf that is not shown stands as a hash: what a house did beside the economy is its own.
`, c.Period.Name, c.Network.Name, c.Network.Operator)
}
