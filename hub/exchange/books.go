package exchange

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"kith/hub/audit"
	"kith/hub/feed"
	"kith/hub/settlement"
	"kith/internal/command"
	"kith/internal/event"
)

const (
	booksPath    = "/books"
	booksType    = "application/octet-stream"
	booksFormats = "ledger, beancount, csv, balances, jsonl or valueflows"
	complaint    = 4096 // bytes of a refusal that are read
)

// booksVerb streams the book of all posted periods. It asks the running hub over the control socket, or reads the database
// itself.
func booksVerb(ctx context.Context, s command.Streams, args []string) int {
	f := command.Flags(s, "hub books")
	p := placeFlags(f)
	format := f.String("format", "ledger", booksFormats)
	if _, code, ok := command.Parse(s, f, args, 0); !ok {
		return code
	}
	p.fill()
	if err := checkFormat(*format); err != nil {
		fmt.Fprintf(s.Err, "hub books: %v\n", err)
		return command.Usage
	}
	err := fetchBooks(ctx, p.state, *format, s.Out)
	if errors.Is(err, errNotRunning) {
		err = booksHere(ctx, p, *format, s.Out)
	}
	if err != nil {
		return command.Fail(s, "hub books", err)
	}
	return command.OK
}

func checkFormat(format string) error {
	switch format {
	case "ledger", "beancount", "csv", "balances", "jsonl", "valueflows":
		return nil
	}
	return fmt.Errorf("format %.40q: want %s", format, booksFormats)
}

func booksHere(ctx context.Context, p *place, format string, w io.Writer) error {
	cfg, err := Load(p.config)
	if err != nil {
		return err
	}
	x, err := openDesk(ctx, cfg, Options{StateDir: p.state, existing: true})
	if err != nil {
		return err
	}
	b, err := x.readBooks(ctx)
	if err == nil {
		err = b.write(w, format)
	}
	return errors.Join(err, x.close())
}

// fetchBooks copies the running hub's books to w.
func fetchBooks(ctx context.Context, state, format string, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://hub"+booksPath+"?format="+url.QueryEscape(format), nil)
	if err != nil {
		return err
	}
	res, err := ask(state, req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != booksType { // an older hub takes it for an order
		said, err := io.ReadAll(io.LimitReader(res.Body, complaint))
		return errors.Join(fmt.Errorf("the running hub gives no books: %s", strings.TrimSpace(string(said))), err)
	}
	if _, err := io.Copy(w, res.Body); err != nil {
		return fmt.Errorf("reading the books, which are not complete: %w", err)
	}
	return nil
}

func (x *Exchange) serveBooks(w http.ResponseWriter, r *http.Request) {
	format := r.URL.Query().Get("format")
	if err := checkFormat(format); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b, err := x.readBooks(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out := &begun{w: w}
	w.Header().Set("Content-Type", booksType)
	if err := b.write(out, format); err != nil {
		if !out.yes {
			http.Error(w, err.Error(), http.StatusInternalServerError) // sets another content type
			return
		}
		x.log.Warn("the books ended early", "err", err)
		panic(http.ErrAbortHandler) // the reader must see that the end is missing
	}
}

// begun notes whether anything was written.
type begun struct {
	w   io.Writer
	yes bool
}

func (b *begun) Write(p []byte) (int, error) {
	b.yes = true
	return b.w.Write(p)
}

// books are all posted periods in the words of the exports.
type books struct {
	journal feed.Journal
	flows   feed.Flows

	events map[audit.Address]feed.Flow
	claims map[settlement.ID]feed.Claim
	from   map[settlement.ID]audit.Source
	asides map[audit.Address]bool // named without a price, or past a cap: they happened
	gone   map[audit.Address]bool // count nothing
}

// readBooks derives every posted period again from its texts, so that what leaves the hub is what its bundles prove.
func (x *Exchange) readBooks(ctx context.Context) (*books, error) {
	names, err := x.storage.Periods(ctx)
	if err != nil {
		return nil, err
	}
	b := &books{journal: feed.Journal{Network: x.cfg.Network}, flows: feed.Flows{Network: x.cfg.Network},
		events: map[audit.Address]feed.Flow{}, claims: map[settlement.ID]feed.Claim{}, from: map[settlement.ID]audit.Source{},
		asides: map[audit.Address]bool{}, gone: map[audit.Address]bool{}}
	var last *audit.Closing
	for _, name := range names {
		c, err := x.readPeriod(ctx, name)
		if err != nil {
			return nil, err
		}
		if c.Period.State != settlement.Posted {
			break // the newest one, still under way
		}
		if err := c.Follows(last); err != nil {
			return nil, fmt.Errorf("period %s: %w", name, err)
		}
		if err := b.add(c); err != nil {
			return nil, fmt.Errorf("period %s: %w", name, err)
		}
		last = c
	}
	return b, b.finish(last)
}

func (b *books) write(w io.Writer, format string) error {
	switch format {
	case "ledger":
		return feed.WriteLedger(w, &b.journal)
	case "beancount":
		return feed.WriteBeancount(w, &b.journal)
	case "csv":
		return feed.WriteCSV(w, &b.journal)
	case "balances":
		return feed.WriteBalancesCSV(w, &b.journal)
	case "jsonl":
		return feed.WriteJSONLines(w, &b.journal)
	case "valueflows":
		return feed.WriteValueFlows(w, &b.flows)
	}
	return checkFormat(format)
}

// add takes one posted period.
func (b *books) add(c *audit.Closing) error {
	entries, err := audit.ReadEntries(c.Files)
	if err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		out := feed.Entry{Seq: uint64(len(b.journal.Entries)), ID: e.ID().String(), Code: "booked", Kind: string(e.Kind), Standing: string(e.Standing),
			At: e.At, Unsure: e.Unsure, Journal: e.Source.Journal, Index: e.Source.Index, Rule: e.Source.Rule, Part: e.Source.Part}
		if e.Ref != [32]byte{} {
			out.Ref = e.Ref.String()
		}
		for _, p := range e.Postings {
			out.Postings = append(out.Postings, feed.Posting{Path: p.Account.Path, Unit: p.Account.Unit, Amount: p.Amount})
		}
		b.journal.Entries = append(b.journal.Entries, out)
	}
	closing := feed.Closing{Period: c.Name, Day: int32(c.Cut.Day), After: uint64(len(b.journal.Entries)), Root: hex.EncodeToString(c.Seal.Root[:])}
	for a, t := range c.Balances {
		closing.Balances = append(closing.Balances, feed.Balance{Path: a.Path, Unit: a.Unit, Amount: t.Balance(),
			DebitsPending: t.DebitsPending, CreditsPending: t.CreditsPending})
	}
	b.journal.Closings = append(b.journal.Closings, closing)
	for _, u := range c.Policy.Units {
		unit := feed.Unit{Name: u.Name, Scale: u.Scale}
		if i := slices.IndexFunc(b.journal.Units, func(old feed.Unit) bool { return old.Name == u.Name }); i >= 0 {
			b.journal.Units[i] = unit // the newest policy says how it is shown
		} else {
			b.journal.Units = append(b.journal.Units, unit)
		}
	}
	b.addFlows(c)
	return nil
}

// addFlows takes the events, claims and discharges of one period.
func (b *books) addFlows(c *audit.Closing) {
	for i := range c.Shown {
		if f, at, ok := flowOf(&c.Shown[i]); ok {
			b.events[at] = f
		}
	}
	for _, a := range c.Set.Asides {
		at := audit.Address{Journal: a.Journal, Index: a.Index}
		switch a.Why {
		case settlement.WhyHome, settlement.WhyHeld, settlement.WhyLater:
		case settlement.WhyNoPrice, settlement.WhyCapped:
			b.asides[at] = true
		default:
			b.gone[at] = true
		}
	}
	done := c.Discharged()
	for i := range c.Period.Obligations {
		o := &c.Period.Obligations[i]
		b.from[o.ID] = c.Set.Sources[o.ID]
		b.claims[o.ID] = feed.Claim{ID: o.ID.String(), Debtor: o.Debtor, Creditor: o.Creditor, Unit: o.Unit, Amount: o.Amount - o.Waived, Day: int32(o.Day)}
		if amount := done[o.ID]; amount > 0 {
			b.flows.Discharges = append(b.flows.Discharges, feed.Discharge{Claim: o.ID.String(), Period: c.Name, Day: int32(c.Cut.Day), Amount: amount})
		}
	}
}

// flowOf is the public part of an economic leaf. One that was carried over from a lost branch speaks for the original.
func flowOf(s *audit.Shown) (feed.Flow, audit.Address, bool) {
	at := audit.Address{Journal: s.Journal, Index: s.Index}
	l, err := event.Parse(s.Line)
	if err != nil {
		return feed.Flow{}, at, false
	}
	if l.Kind == event.KindReplayed {
		var body event.Replayed
		if err := json.Unmarshal(l.Body, &body); err != nil {
			return feed.Flow{}, at, false
		}
		if l, err = event.Parse([]byte(body.Leaf)); err != nil {
			return feed.Flow{}, at, false
		}
	}
	if !l.Kind.IsEntry() {
		return feed.Flow{}, at, false
	}
	e, err := event.ParseEntry(l.Kind, l.Body)
	if err != nil {
		return feed.Flow{}, at, false
	}
	return feed.Flow{ID: fmt.Sprintf("%s/%d", at.Journal, at.Index), Action: string(l.Kind), Place: l.Node, Home: e.Home, Resource: e.Resource,
		Quantity: e.Quantity, Unit: e.Measure, Day: int32(e.Day), Evidence: e.Evidence}, at, true
}

// finish drops the events that count nothing any more and claims that a decision took away whole.
func (b *books) finish(last *audit.Closing) error {
	if last == nil {
		return nil
	}
	carry, err := audit.ParseCarry("carry.txt", last.Carried())
	if err != nil {
		return err
	}
	for _, at := range carry.Void {
		if !b.asides[at] { // those are void only so that nobody takes back what was never owed
			b.gone[at] = true
		}
	}
	for at := range b.gone {
		delete(b.events, at)
	}
	for _, f := range b.events {
		b.flows.Flows = append(b.flows.Flows, f)
	}
	for id, claim := range b.claims {
		if f, here := b.events[b.from[id].Leaf]; here {
			claim.TriggeredBy = f.ID
		}
		if claim.Amount > 0 {
			b.flows.Claims = append(b.flows.Claims, claim)
		}
	}
	return nil
}
