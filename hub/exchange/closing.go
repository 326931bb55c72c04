package exchange

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"kith/hub/audit"
	"kith/hub/ledger"
	"kith/hub/settlement"
	"kith/hub/store"
	"kith/internal/event"
	"kith/internal/pki"
	"kith/internal/settings"
)

const (
	notesPrefix = "notes/" // why somebody disputes or decides; kept, and never in a bundle
	maxReason   = 4096     // bytes
	daySeconds  = 24 * 60 * 60
)

// closing is the desk at which periods are closed, one after the other. Until the rules of governance come, the operator's
// key alone closes.
type closing struct {
	mu     sync.Mutex
	loaded bool
	number int            // of the newest period; 0: none yet
	last   *audit.Closing // the newest period
	leaves map[string]*economic
	copied map[string]bool // periods whose report stands in a backup that this process made
}

// PeriodOrder is one step of closing a period.
type PeriodOrder struct {
	Do         string `json:"do"` // close, dispute, decide, confirm, lapse, finalise, exit, post, show, list, bundle, balance, adopt
	Period     string `json:"period,omitempty"`
	Day        string `json:"day,omitempty"` // close: the last day that counts; default today
	Obligation string `json:"obligation,omitempty"`
	Node       string `json:"node,omitempty"`
	Unit       string `json:"unit,omitempty"` // balance: of one unit alone
	Outcome    string `json:"outcome,omitempty"`
	Reason     string `json:"reason,omitempty"`
	File       string `json:"file,omitempty"`
	Operator   string `json:"operator,omitempty"` // adopt: the verifier key that the bundle must be signed with

	Choices []string `json:"choices,omitempty"` // exit
}

// PeriodState is a period as people see it.
type PeriodState struct {
	Name        string            `json:"name"`
	State       string            `json:"state"`
	Day         string            `json:"day,omitempty"`
	Until       int64             `json:"challenge_until,omitempty"` // Unix seconds
	Confirmed   []string          `json:"confirmed,omitempty"`       // nodes that said yes early
	Awaited     []string          `json:"awaited,omitempty"`         // parties that did not yet
	Statements  []StatementState  `json:"statements,omitempty"`
	Obligations int               `json:"obligations"`
	Disputes    []DisputeState    `json:"disputes,omitempty"`
	Report      *audit.Report     `json:"report,omitempty"`
	Lines       []ObligationState `json:"lines,omitempty"` // show alone
}

// StatementState is one numbered statement.
type StatementState struct {
	Number    int    `json:"number"`
	Digest    string `json:"digest"`
	At        int64  `json:"at"`
	Withdrawn bool   `json:"withdrawn,omitempty"`
	Text      string `json:"text,omitempty"`
}

// DisputeState is one dispute.
type DisputeState struct {
	Obligation string `json:"obligation"`
	By         string `json:"by"`
	Outcome    string `json:"outcome,omitempty"`
}

// ObligationState is one obligation with what the statement in force discharges of it.
type ObligationState struct {
	ID         string `json:"id"`
	Debtor     string `json:"debtor"`
	Creditor   string `json:"creditor"`
	Unit       string `json:"unit"`
	Amount     int64  `json:"amount"`
	Open       int64  `json:"open"` // before the statement
	Discharged int64  `json:"discharged"`
	Day        string `json:"day"`
	Evidence   string `json:"evidence"`
}

// Period carries out one step of closing. What it changed is durable, in one transaction a step, when it returns.
func (x *Exchange) Period(ctx context.Context, o PeriodOrder) (Answer, error) {
	return x.period(ctx, o, time.Now())
}

func (x *Exchange) period(ctx context.Context, o PeriodOrder, now time.Time) (Answer, error) {
	x.closing.mu.Lock()
	defer x.closing.mu.Unlock()
	if err := x.loadPeriod(ctx); err != nil {
		return Answer{}, err
	}
	switch o.Do {
	case "list":
		return x.listPeriods(ctx)
	case "show":
		return x.showPeriod(ctx, o.Period)
	case "bundle":
		return x.writeBundle(ctx, o)
	case "balance":
		return x.proveBalance(ctx, o)
	case "adopt":
		return x.adopt(ctx, o)
	case "close":
		return x.closePeriod(ctx, o, now)
	}
	c := x.closing.last
	if c == nil || c.Name != o.Period {
		return Answer{}, fmt.Errorf("no period %.60q under way; hub period list shows them", o.Period)
	}
	steps, notes, err := stepsOf(c, o, now.Unix())
	if err != nil {
		return Answer{}, err
	}
	for _, s := range steps {
		if err := x.step(ctx, s, notes); err != nil {
			return Answer{}, err
		}
	}
	return Answer{Periods: []PeriodState{describe(x.closing.last, false)}}, nil
}

// stepsOf turns an order into steps. A dispute or a decision that withdraws the statement is followed by the next one.
func stepsOf(c *audit.Closing, o PeriodOrder, now int64) ([]audit.Step, audit.Files, error) {
	number := len(c.Period.Proposals)
	switch o.Do {
	case "confirm":
		return []audit.Step{{Do: audit.DoConfirm, Number: number, Node: o.Node}}, nil, nil
	case "finalise":
		return []audit.Step{{Do: audit.DoFinalise, Number: number, At: now}}, nil, nil
	case "exit":
		picks, err := picksOf(c, o.Choices)
		return []audit.Step{{Do: audit.DoExit, Node: o.Node, Choices: picks}}, nil, err
	case "post":
		return []audit.Step{{Do: audit.DoBook}}, nil, nil
	case "lapse":
		return []audit.Step{{Do: audit.DoLapse, At: now}, {Do: audit.DoPropose, At: now}}, nil, nil
	case "dispute", "decide":
		found, err := c.Party(o.Obligation)
		if err != nil {
			return nil, nil, err
		}
		if o.Reason == "" || len(o.Reason) > maxReason {
			return nil, nil, fmt.Errorf("a reason of 1 to %d bytes is needed; name no person in it", maxReason)
		}
		note := fmt.Appendf(nil, "kith-note v1\nperiod %s\n%s %s\nby %s\n\n%s\n", c.Name, o.Do, found.ID, o.Node, o.Reason)
		sum := sha256.Sum256(note)
		s := audit.Step{Do: audit.DoChallenge, Obligation: found.ID.String(), Node: o.Node, Note: hex.EncodeToString(sum[:]), At: now}
		if o.Do == "decide" {
			s.Do, s.Outcome, s.At = audit.DoDecide, o.Outcome, 0
		}
		return []audit.Step{s, {Do: audit.DoPropose, At: now}}, audit.Files{notesPrefix + s.Note: note}, nil
	}
	return nil, nil, fmt.Errorf("period %.40q: want close, dispute, decide, confirm, lapse, finalise, exit, post, show, list, bundle, balance or adopt", o.Do)
}

// step takes one step on a copy, stores it in one transaction and only then believes it. A proposal is passed over while the
// statement that is out still stands.
func (x *Exchange) step(ctx context.Context, s audit.Step, notes audit.Files) error {
	c := x.closing.last
	if s.Do == audit.DoPropose && c.Period.State != settlement.Drafted {
		return nil
	}
	next := *c
	next.Files = audit.Files{}
	for name, text := range c.Files {
		next.Files[name] = text
	}
	sign, _, err := x.operator()
	if err != nil {
		return err
	}
	if err := next.Do(s, sign); err != nil {
		return err
	}
	fresh := next.Files.Newer(c.Files)
	for name, text := range notes {
		fresh[name] = text
	}
	if err := x.save(ctx, x.closing.number, &next, fresh); err != nil {
		return err
	}
	x.closing.last = &next
	if s.Do == audit.DoBook {
		x.closing.leaves = nil
	}
	x.turned()
	x.log.Info("a period went on", "period", next.Name, "step", s.Do, "state", string(next.Period.State))
	return nil
}

// save makes a step durable. The entries of a posted period pass through the books of the whole network first.
func (x *Exchange) save(ctx context.Context, number int, c *audit.Closing, fresh audit.Files) error {
	p := store.Period{Number: number, Name: c.Name, Files: fresh}
	if c.Period.State == settlement.Posted {
		entries, err := audit.ReadEntries(c.Files)
		if err != nil {
			return err
		}
		if err := x.checkBooks(ctx, c, entries); err != nil {
			return fmt.Errorf("booking %s: %w", c.Name, err)
		}
		for i := range entries {
			p.Entries = append(p.Entries, store.PeriodEntry{ID: entries[i].ID(), Line: entries[i].AppendJSON(nil)})
		}
	}
	return x.storage.SavePeriod(ctx, p)
}

// checkBooks applies the entries to the books and holds the seal of the result to the period's.
func (x *Exchange) checkBooks(ctx context.Context, c *audit.Closing, entries []ledger.Entry) error {
	lines, err := x.storage.Entries(ctx)
	if err != nil {
		return err
	}
	records := make([]ledger.Record, len(lines))
	for i, line := range lines {
		e, err := ledger.ParseEntry(line)
		if err != nil {
			return err
		}
		records[i] = ledger.Record{Entry: e, Code: ledger.Booked}
	}
	book, err := ledger.Restore(c.Policy.Units, records)
	if err != nil {
		return err
	}
	for i, a := range book.Apply(ledger.Rules{Limits: c.Policy.Limits}, entries) {
		if a.Code != ledger.Booked {
			return fmt.Errorf("entry %d of %s: %s", i, entries[i].Source.Journal, a.Code)
		}
		for _, b := range a.Breaches {
			x.log.Warn("a balance is past its limit", "account", b.Account.Path, "unit", b.Account.Unit, "balance", b.Balance)
		}
	}
	sealed, err := book.Seal(c.Name)
	if err == nil && sealed.Root != c.Seal.Root {
		err = errors.New("the books lead to another seal than the period")
	}
	return err
}

// closePeriod cuts, derives, clears and proposes. After a crash between it goes on where it was.
func (x *Exchange) closePeriod(ctx context.Context, o PeriodOrder, now time.Time) (Answer, error) {
	c := &x.closing
	switch {
	case c.last != nil && c.last.Name == o.Period && c.last.Period.State == settlement.Drafted:
	case c.last != nil && c.last.Name == o.Period:
		return Answer{}, fmt.Errorf("period %s is %s already", o.Period, c.last.Period.State)
	case c.last != nil && c.last.Period.State != settlement.Posted:
		return Answer{}, fmt.Errorf("period %s is %s; post it before the next", c.last.Name, c.last.Period.State)
	default:
		if err := x.draw(ctx, o, now); err != nil {
			return Answer{}, err
		}
	}
	if err := x.step(ctx, audit.Step{Do: audit.DoPropose, At: now.Unix()}, nil); err != nil {
		return Answer{}, err
	}
	return Answer{Periods: []PeriodState{describe(c.last, false)}}, nil
}

func (x *Exchange) draw(ctx context.Context, o PeriodOrder, now time.Time) error {
	names, err := x.storage.Periods(ctx)
	if err != nil {
		return err
	}
	if !event.IsID(o.Period) || slices.Contains(names, o.Period) {
		return fmt.Errorf("period %.60q: want an id such as 2026-11 that no period has", o.Period)
	}
	day := now
	if o.Day != "" {
		if day, err = time.Parse(time.DateOnly, o.Day); err != nil || day.Unix() < 0 {
			return fmt.Errorf("day %.20q: write 2026-11-30", o.Day)
		}
	}
	in, err := x.inputs(ctx, settlement.Day(day.Unix()/daySeconds))
	if err != nil {
		return fmt.Errorf("gathering what period %s stands on: %w", o.Period, err)
	}
	next, err := audit.Start(in, o.Period)
	if err != nil {
		return err
	}
	if err := x.save(ctx, x.closing.number+1, next, next.Files); err != nil {
		return err
	}
	x.closing.last, x.closing.number = next, x.closing.number+1
	x.turned()
	return nil
}

// loadPeriod reads the newest period and proves it, once.
func (x *Exchange) loadPeriod(ctx context.Context) error {
	if x.closing.loaded {
		return nil
	}
	names, err := x.storage.Periods(ctx)
	if err != nil {
		return err
	}
	if n := len(names); n > 0 {
		if x.closing.last, err = x.readPeriod(ctx, names[n-1]); err != nil {
			return err
		}
	}
	x.closing.number, x.closing.loaded = len(names), true
	return nil
}

func (x *Exchange) readPeriod(ctx context.Context, name string) (*audit.Closing, error) {
	files, err := x.storage.PeriodFiles(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no period %.60q; hub period list shows them", name)
	}
	for file := range files {
		if strings.HasPrefix(file, notesPrefix) {
			delete(files, file)
		}
	}
	c, err := audit.Load(files)
	if err != nil {
		return nil, fmt.Errorf("period %s as it is stored: %w", name, err)
	}
	return c, nil
}

func (x *Exchange) operator() (audit.Sign, string, error) {
	signer, _, vkey, err := pki.OpenOperator(filepath.Join(x.opt.StateDir, keysDir), x.cfg.Network)
	if err != nil {
		return nil, "", fmt.Errorf("the operator's key, which %s/ of the first day has too: %w", keysDir, err)
	}
	return audit.Signer(signer), strings.TrimSpace(string(vkey)), nil
}

// policyText reads the policy in force.
func (x *Exchange) policyText() ([]byte, error) {
	if x.cfg.PolicyText != nil {
		return x.cfg.PolicyText, nil
	}
	if x.cfg.Policy == "" {
		return nil, errors.New("hub.yaml names no policy; add policy: policy.yaml with prices and limits")
	}
	return settings.Read(x.cfg.Policy)
}

func (x *Exchange) listPeriods(ctx context.Context) (Answer, error) {
	names, err := x.storage.Periods(ctx)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Periods: []PeriodState{}}
	for i, name := range names {
		if i == len(names)-1 {
			a.Periods = append(a.Periods, describe(x.closing.last, false))
			break
		}
		a.Periods = append(a.Periods, PeriodState{Name: name, State: string(settlement.Posted)})
	}
	return a, nil
}

func (x *Exchange) showPeriod(ctx context.Context, name string) (Answer, error) {
	c, err := x.named(ctx, name)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Periods: []PeriodState{describe(c, true)}}, nil
}

func describe(c *audit.Closing, whole bool) PeriodState {
	r := c.Report()
	p := PeriodState{Name: c.Name, State: string(c.Period.State), Day: r.Day, Obligations: len(c.Period.Obligations), Report: &r}
	for _, s := range c.Period.Proposals {
		st := StatementState{Number: s.Number, Digest: hex.EncodeToString(s.Digest[:]), At: s.At, Withdrawn: s.Withdrawn}
		if whole {
			st.Text, _ = c.Statement(s.Number)
		}
		p.Statements = append(p.Statements, st)
	}
	if s := c.Period.InForce(); s != nil && c.Period.State == settlement.Proposed {
		p.Until = s.At + c.Policy.Terms.WindowSeconds
		p.Confirmed, p.Awaited = s.Confirmed, c.Period.Awaited()
	}
	for _, d := range c.Period.Disputes {
		p.Disputes = append(p.Disputes, DisputeState{d.Obligation.String(), d.By, string(d.Outcome)})
	}
	if whole {
		done := c.Discharged()
		for _, o := range c.Period.Obligations {
			p.Lines = append(p.Lines, ObligationState{ID: o.ID.String(), Debtor: o.Debtor, Creditor: o.Creditor, Unit: o.Unit, Amount: o.Amount, Open: o.Open(),
				Discharged: done[o.ID], Day: time.Unix(int64(o.Day)*daySeconds, 0).UTC().Format(time.DateOnly), Evidence: string(o.Evidence)})
		}
	}
	return p
}

// bundle packs a posted period.
func (x *Exchange) bundle(ctx context.Context, name string) ([]byte, error) {
	c, err := x.named(ctx, name)
	if err != nil {
		return nil, err
	}
	return x.bundleOf(c)
}

// named is the newest period as it stands, or an older one read back and proven.
func (x *Exchange) named(ctx context.Context, name string) (*audit.Closing, error) {
	if c := x.closing.last; c != nil && c.Name == name {
		return c, nil
	}
	return x.readPeriod(ctx, name)
}

// proveBalance writes what one house keeps of a posted period to show its own balance by.
func (x *Exchange) proveBalance(ctx context.Context, o PeriodOrder) (Answer, error) {
	c, err := x.named(ctx, o.Period)
	if err != nil {
		return Answer{}, err
	}
	sign, err := x.signerOf(c)
	if err != nil {
		return Answer{}, err
	}
	text, err := c.Prove(o.Node, o.Unit, sign)
	if err != nil {
		return Answer{}, err
	}
	r := audit.VerifyBalance(text, c.Network.Operator)
	if !r.OK {
		return Answer{}, fmt.Errorf("our own proof of balance does not verify: %w", r.Difference)
	}
	r.Pinned = false // whose key it is, is for the reader of the file to say
	a := Answer{Balance: &r}
	if o.File != "" {
		if err := pki.WriteFile(o.File, text, 0o644); err != nil {
			return Answer{}, err
		}
		a.Files = []string{o.File}
	}
	return a, nil
}

func (x *Exchange) writeBundle(ctx context.Context, o PeriodOrder) (Answer, error) {
	b, err := x.bundle(ctx, o.Period)
	if err != nil {
		return Answer{}, err
	}
	if _, r := audit.Verify(b); !r.OK {
		return Answer{}, fmt.Errorf("our own bundle does not verify: %w", r.Difference)
	}
	if err := pki.WriteFile(o.File, b, 0o644); err != nil {
		return Answer{}, err
	}
	return Answer{Files: []string{o.File}}, nil
}

// adopt takes a period over from its bundle: a hub that starts from bundles reaches the same seals. Anybody can close a period
// of this network's name under a key of their own, so that the operator's key must be the one that is given, this hub's own, or
// that of the period before. The witness needs no word of its own: the operator signs the network that names its key, and the
// next period must verify this one's receipts by it.
func (x *Exchange) adopt(ctx context.Context, o PeriodOrder) (Answer, error) {
	file := o.File
	info, err := os.Stat(file)
	if err == nil && info.Size() > audit.MaxBundle {
		err = fmt.Errorf("%s has %d bytes, the limit is %d", file, info.Size(), audit.MaxBundle)
	}
	if err != nil {
		return Answer{}, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return Answer{}, err
	}
	c, r := audit.VerifyBy(b, o.Operator)
	if !r.OK {
		return Answer{}, fmt.Errorf("adopting %s: %w", file, r.Difference)
	}
	last := x.closing.last
	switch {
	case c.Network.Name != x.cfg.Network:
		return Answer{}, fmt.Errorf("adopting %s: it is of network %s", file, c.Network.Name)
	case last != nil && last.Period.State != settlement.Posted:
		return Answer{}, fmt.Errorf("adopting %s: period %s is %s; post it first", file, last.Name, last.Period.State)
	case last != nil && last.Network.Operator != c.Network.Operator:
		return Answer{}, fmt.Errorf("adopting %s: it is signed by %s, period %s was by %s", file, c.Network.Operator, last.Name, last.Network.Operator)
	case last == nil && o.Operator == "" && x.ownOperator() != c.Network.Operator:
		return Answer{}, fmt.Errorf("adopting %s: it is signed by %s, which is not this hub's own operator key: compare it with the one that "+
			"your houses were given, and if it is that one, give it with --operator KEY", file, c.Network.Operator)
	}
	if err := c.Follows(last); err != nil {
		return Answer{}, fmt.Errorf("adopting %s: %w", file, err)
	}
	if err := x.save(ctx, x.closing.number+1, c, c.Files); err != nil {
		return Answer{}, err
	}
	x.closing.last, x.closing.number, x.closing.leaves = c, x.closing.number+1, nil
	x.turned()
	return Answer{Periods: []PeriodState{describe(c, false)}}, nil
}

// ownOperator is the operator's verifier key of this hub; empty when it is lost.
func (x *Exchange) ownOperator() string {
	vkey, err := pki.ReadPublic(filepath.Join(x.opt.StateDir, keysDir, pki.FileOperatorVerify))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(vkey))
}
