package exchange

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"kith/hub/audit"
	"kith/hub/clearing"
	"kith/hub/ledger"
	"kith/hub/settlement"
	"kith/hub/web"
	"kith/internal/event"
)

// Limits of the pages about one period.
const (
	chaptersKept = 3   // periods kept as they were read: reading one proves it again
	shownPosts   = 100 // postings on a page; the bundle has all
	shownBooks   = 300 // accounts on a page; likewise
)

// closingOf finds a period by name: the newest one as it stands, any other one read back and proven.
func (p *periodPage) closingOf(ctx context.Context, name string) (*chapter, error) {
	if !event.IsID(name) {
		return nil, web.ErrUnknown
	}
	last, err := p.x.newest(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(p.kept, func(c *chapter) bool { return c.closing.Name == name })
	if i >= 0 && (p.kept[i].closing == last || last.Name != name && p.kept[i].closing.Period.State == settlement.Posted) {
		return p.kept[i], nil
	}
	c := last
	if last == nil || last.Name != name {
		names, err := p.x.storage.Periods(ctx)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, name) {
			return nil, web.ErrUnknown
		}
		if c, err = p.x.readPeriod(ctx, name); err != nil {
			return nil, err
		}
	}
	if i >= 0 {
		p.kept = slices.Delete(p.kept, i, i+1) // the period went on since
	}
	p.kept = append(p.kept, chapterOf(c))
	if len(p.kept) > chaptersKept {
		p.kept = slices.Delete(p.kept, 0, 1)
	}
	return p.kept[len(p.kept)-1], nil
}

// newest is the period that was closed last, or is being closed. A closing that was given out is never changed.
func (x *Exchange) newest(ctx context.Context) (*audit.Closing, error) {
	x.closing.mu.Lock()
	defer x.closing.mu.Unlock()
	err := x.loadPeriod(ctx)
	return x.closing.last, err
}

// enter waits for the one place where pages about periods are worked out.
func (p *periodPage) enter(ctx context.Context) (leave func(), err error) {
	select {
	case p.gate <- struct{}{}:
		return func() { <-p.gate }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Statement implements web.Periods.
func (p *periodPage) Statement(ctx context.Context, q web.StatementQuery) (web.Statement, error) {
	leave, err := p.enter(ctx)
	if err != nil {
		return web.Statement{}, err
	}
	defer leave()
	ch, err := p.closingOf(ctx, q.Period)
	if err != nil {
		return web.Statement{}, err
	}
	c := ch.closing
	if q.Number == 0 {
		q.Number = len(c.Period.Proposals)
	}
	if q.Number < 0 || q.Number > len(c.Period.Proposals) || q.Number == 0 && len(c.Period.Proposals) > 0 {
		return web.Statement{}, web.ErrUnknown
	}
	w := &statement{x: p.x, c: c, names: p.x.names(), number: q.Number}
	return w.page(q.From)
}

// Bundle implements web.Periods.
func (p *periodPage) Bundle(ctx context.Context, name string) ([]byte, error) {
	leave, err := p.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	ch, err := p.closingOf(ctx, name)
	if err == nil && ch.closing.Period.State != settlement.Posted {
		err = web.ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	return p.x.bundleOf(ch.closing)
}

// statement puts one period into the words of its page.
type statement struct {
	x      *Exchange
	c      *audit.Closing
	names  map[string]string
	number int // of the statement that is shown; 0: none is out yet
}

func (w *statement) called(id string) string {
	if id == w.c.Policy.Pool.Commons {
		return poolName
	}
	return called(w.names, id)
}

func (w *statement) page(from int) (web.Statement, error) {
	c := w.c
	r := c.Report()
	out := web.Statement{Pool: len(c.Policy.Limits) > 0, Name: c.Name, State: string(c.Period.State), Day: dayWords(c.Cut.Day), Number: w.number, Follows: r.Follows, Policy: r.Policy,
		Key: c.Network.Operator, Seal: r.Seal, Accounts: len(c.Balances), From: from}
	for _, s := range c.Period.Proposals {
		out.Numbers = append(out.Numbers, web.StatementNumber{Number: s.Number, At: s.At, Withdrawn: s.Withdrawn, Digest: hex.EncodeToString(s.Digest[:])})
	}
	if s := c.Period.InForce(); s != nil {
		for _, node := range s.Confirmed {
			out.Confirmed = append(out.Confirmed, w.called(node))
		}
		if c.Period.State == settlement.Proposed {
			out.Until = s.At + c.Policy.Terms.WindowSeconds
		}
	}
	if w.number > 0 {
		out.Note = string(c.Files[fmt.Sprintf("statements/%03d/statement.note", w.number)])
	}
	w.cut(&out)
	if err := w.obligations(&out, from); err != nil {
		return out, err
	}
	w.disputes(&out)
	state := PeriodState{Name: c.Name, State: out.State}
	out.Next = w.x.nextSteps(&state)
	if c.Period.State != settlement.Posted {
		return out, nil
	}
	file := c.Name + ".tar"
	out.File = file
	out.Fetch, out.Check = w.x.command("period bundle", "--out", file, c.Name), "hub verify "+quoted(file)
	out.Own = w.x.command("period balance", "--out", "NODE-"+c.Name+".txt", c.Name, "NODE")
	return out, w.books(&out)
}

func dayWords(d settlement.Day) string {
	return time.Unix(int64(d)*daySeconds, 0).UTC().Format("2 January 2006")
}

func (w *statement) cut(out *web.Statement) {
	for _, p := range w.c.Cut.Checkpoints {
		edge, epoch := journalParts(p.Journal)
		out.Cut = append(out.Cut, web.CutPoint{House: w.called(p.Node), Edge: edge, Epoch: epoch, Size: p.Size, Root: hex.EncodeToString(p.Root[:])})
	}
	for _, node := range w.c.Cut.Missing {
		out.Missing = append(out.Missing, w.called(node))
	}
}

// journalParts are the last two words of an origin: edge and epoch.
func journalParts(origin string) (edge, epoch string) {
	rest := origin
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		rest, epoch = rest[:i], rest[i+1:]
	}
	return rest[strings.LastIndexByte(rest, '/')+1:], epoch
}

// leafPage is the address of the page about one leaf.
func leafPage(a audit.Address) string {
	edge, epoch := journalParts(a.Journal)
	return fmt.Sprintf("/event/%s/%s/%d", edge, epoch, a.Index)
}

// answers reads what the shown statement cleared, from its own texts: an old statement keeps its own answer.
func (w *statement) answers(out *web.Statement) (map[settlement.ID]clearing.Line, error) {
	lines := map[settlement.ID]clearing.Line{}
	for _, u := range w.c.Policy.Units {
		text := func(what string) []byte {
			return w.c.Files[fmt.Sprintf("statements/%03d/%s.%s.txt", w.number, u.Name, what)]
		}
		if text("case") == nil {
			continue
		}
		cs, err := clearing.DecodeCase(text("case"))
		if err != nil {
			return nil, fmt.Errorf("the case of %s in statement %d: %w", u.Name, w.number, err)
		}
		r, err := cs.Decode(text("answer"), text("proof"))
		if err != nil {
			return nil, fmt.Errorf("the answer of %s in statement %d: %w", u.Name, w.number, err)
		}
		for _, l := range r.Lines {
			lines[settlement.ID(l.ID)] = l
		}
		out.Units = append(out.Units, web.StatementUnit{Name: u.Name, Scale: u.Scale, Gross: cs.Gross(), Goes: r.Total})
	}
	return lines, nil
}

func (w *statement) obligations(out *web.Statement, from int) error {
	cleared, err := w.answers(out)
	if err != nil {
		return err
	}
	list := slices.Clone(w.c.Period.Obligations)
	slices.SortFunc(list, func(a, b settlement.Obligation) int {
		return cmp.Or(cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Debtor, b.Debtor), cmp.Compare(a.Creditor, b.Creditor), cmp.Compare(a.Day, b.Day), bytes.Compare(a.ID[:], b.ID[:]))
	})
	out.Total = len(list)
	if from < 0 || from > len(list) || from == len(list) && from > 0 {
		return web.ErrUnknown
	}
	for i := range list[from:min(len(list), from+web.StatementLines)] {
		o := &list[from+i]
		l := web.StatementLine{ID: o.ID.String(), Debtor: w.called(o.Debtor), Creditor: w.called(o.Creditor), Unit: o.Unit, Scale: w.scale(o.Unit), Open: o.Open(),
			Day: dayWords(o.Day), Evidence: string(o.Evidence)}
		done, in := cleared[o.ID]
		if in {
			l.Discharged = done.Discharged
		}
		l.Aside = w.aside(o, in)
		l.Rest = l.Open - l.Discharged
		switch from := w.c.Set.Sources[o.ID]; {
		case from.Leaf.Journal != "":
			l.Href = leafPage(from.Leaf)
		case from.Kind != fromCommons: // a novation follows from no leaf either
			l.From = "stands for a debt of a house that left"
		case o.Creditor == w.c.Policy.Pool.Commons:
			l.From = "dues"
		default:
			l.From = "grant"
		}
		if w.c.Set.Fresh[o.ID] {
			l.Fresh = true
		}
		out.Lines = append(out.Lines, l)
	}
	return nil
}

// aside says why an obligation is not in the statement that is shown; empty when it is.
func (w *statement) aside(o *settlement.Obligation, in bool) string {
	if in {
		return ""
	}
	for _, d := range w.c.Period.Disputes {
		if d.Obligation == o.ID {
			switch d.Outcome {
			case settlement.Undecided:
				return "disputed: left out"
			case settlement.Voided:
				return "void by decision"
			case settlement.Amend:
				return "void, to be entered anew"
			}
			return "disputed then: left out"
		}
	}
	switch {
	case w.number == 0:
		return ""
	case o.Frozen:
		return "frozen: its house has left"
	}
	return "left out"
}

func (w *statement) scale(unit string) int {
	i := slices.IndexFunc(w.c.Policy.Units, func(u ledger.Unit) bool { return u.Name == unit })
	if i < 0 {
		return 0
	}
	return w.c.Policy.Units[i].Scale
}

func (w *statement) disputes(out *web.Statement) {
	for _, d := range w.c.Period.Disputes {
		v := web.StatementDispute{ID: d.Obligation.String(), By: w.called(d.By), At: d.At, Outcome: string(d.Outcome)}
		if d.Reviewer != "" {
			v.Reviewer = w.called(d.Reviewer)
		}
		for i := range w.c.Period.Obligations {
			if o := &w.c.Period.Obligations[i]; o.ID == d.Obligation {
				v.Debtor, v.Creditor, v.Unit, v.Scale, v.Amount = w.called(o.Debtor), w.called(o.Creditor), o.Unit, w.scale(o.Unit), o.Amount
			}
		}
		out.Disputes = append(out.Disputes, v)
	}
}

// books puts what was posted into words.
func (w *statement) books(out *web.Statement) error {
	accounts := make([]ledger.Account, 0, len(w.c.Balances))
	for a := range w.c.Balances {
		if w.c.Balances[a].Balance() != 0 {
			accounts = append(accounts, a)
		}
	}
	slices.SortFunc(accounts, func(a, b ledger.Account) int { return cmp.Or(cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Path, b.Path)) })
	for _, a := range accounts[:min(len(accounts), shownBooks)] {
		out.Balances = append(out.Balances, web.Posting{Account: w.account(a.Path), Unit: a.Unit, Scale: w.scale(a.Unit), Amount: w.c.Balances[a].Balance()})
	}
	out.MoreBalances = len(accounts) - len(out.Balances)
	entries, err := audit.ReadEntries(w.c.Files)
	if err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		out.Posted += len(e.Postings)
		if len(out.Postings)+len(e.Postings) > shownPosts {
			continue
		}
		for _, p := range e.Postings {
			out.Postings = append(out.Postings, web.Posting{Why: w.why(e), Account: w.account(p.Account.Path), Unit: p.Account.Unit, Scale: w.scale(p.Account.Unit), Amount: p.Amount})
		}
	}
	return nil
}

// why says what an entry of the books does (docs/FORMATS.md, "Audit bundle").
func (w *statement) why(e *ledger.Entry) string {
	if strings.HasPrefix(e.Source.Journal, "kith."+w.c.Network.Name+"/settlement/"+w.c.Name+"/") {
		return "moved with the pool"
	}
	switch e.Source.Part {
	case 0:
		return "came up"
	case 1:
		return "taken back"
	case 2:
		return "went round"
	case 3:
		return "waived"
	}
	return string(e.Kind)
}

// account puts the path of an account into words.
func (w *statement) account(path string) string {
	net := w.c.Network.Name
	if path == ledger.CommonsPath(net) {
		return "The pool"
	}
	rest := strings.TrimPrefix(path, net+"/")
	if node, other, due := strings.Cut(rest, "/~due/"); due {
		return w.called(node) + ", with " + w.called(other)
	}
	if !strings.ContainsAny(rest, "/~") {
		return w.called(rest) + ", with the pool"
	}
	return rest
}

// bundleOf packs a posted period. The same period has the same bytes at any time and on any machine.
func (x *Exchange) bundleOf(c *audit.Closing) ([]byte, error) {
	sign, err := x.signerOf(c)
	if err != nil {
		return nil, err
	}
	return c.Bundle(sign)
}

// signerOf is what signs the manifest of a period: this hub's operator, or who closed it where it was adopted from.
func (x *Exchange) signerOf(c *audit.Closing) (audit.Sign, error) {
	if c.Manifest() != nil {
		return func(string) ([]byte, error) { return c.Manifest(), nil }, nil // adopted: it is signed already
	}
	sign, vkey, err := x.operator()
	if err != nil {
		return nil, err
	}
	if vkey != c.Network.Operator {
		return nil, fmt.Errorf("period %s was closed with another operator's key; its bundle is to be had where it was closed", c.Name)
	}
	return sign, nil
}
