package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"kith/hub/clearing"
	"kith/hub/ledger"
	"kith/hub/settlement"
	"kith/internal/wire"
)

// Names of the files of a period. Numbers count from 1; those of receipts and journals follow the cut's checkpoints.
const (
	manifestName    = "bundle.note"
	readmeName      = "README.md"
	networkName     = "network.txt"
	policyName      = policyNaming
	cutName         = "cut.txt"
	obligationsName = "obligations.txt"
	asidesName      = "asides.txt"
	carryName       = "carry.txt"
	breachesName    = "breaches.txt"
	rulesName       = "rules.txt"
	openCutName     = "opening/cut.txt"
	openCarryName   = "opening/carry.txt"
	openBooksName   = "opening/balances.txt"
	entriesName     = "ledger/entries.jsonl"
	closingName     = "ledger/balances.txt"
	sealName        = "ledger/seal.txt"
	journalName     = "ledger/journal.hledger"
)

func receiptName(i int) string     { return fmt.Sprintf("receipts/%05d.note", i+1) }
func openReceiptName(i int) string { return fmt.Sprintf("opening/receipts/%05d.note", i+1) }
func excerptName(i int) string     { return fmt.Sprintf("journals/%05d.txt", i+1) }
func stepName(i int) string        { return fmt.Sprintf("steps/%05d.json", i+1) }
func noteName(number int) string   { return fmt.Sprintf("statements/%03d/statement.note", number) }
func unitName(number int, unit, what string) string {
	return fmt.Sprintf("statements/%03d/%s.%s.txt", number, unit, what)
}

// Step is one thing that happened to a period, as it is kept.
type Step struct {
	Do         string `json:"do"`
	Period     string `json:"period,omitempty"`     // draw
	At         int64  `json:"at,omitempty"`         // Unix seconds
	Number     int    `json:"number,omitempty"`     // of the statement
	Obligation string `json:"obligation,omitempty"` // hex
	Node       string `json:"node,omitempty"`       // who confirms, disputes or reviews
	Outcome    string `json:"outcome,omitempty"`    // stand, amend or void
	Note       string `json:"note,omitempty"`       // SHA-256 of the note that says why, hex
	Choices    []Pick `json:"choices,omitempty"`    // exit
}

// Pick is what was chosen about one obligation of a node that leaves.
type Pick struct {
	Obligation string   `json:"obligation"` // hex
	Remainder  string   `json:"remainder"`  // serve-in-kind, novate, waive or freeze
	By         []string `json:"by"`         // nodes that said so
	Until      int64    `json:"until,omitempty"`
}

// What a step does.
const (
	DoDraw      = "draw"      // the line is drawn and the set fixed
	DoPropose   = "propose"   // the set is cleared and a statement is out
	DoConfirm   = "confirm"   // a node says yes early
	DoChallenge = "challenge" // a party disputes one obligation
	DoDecide    = "decide"    // a third node decides a dispute
	DoLapse     = "lapse"     // time decides what nobody answered
	DoFinalise  = "finalise"  // nothing can be disputed any more
	DoExit      = "exit"      // a node leaves, and what it has left over is answered
	DoBook      = "book"      // the books are written and sealed
)

// Closing is one period on its way, with all its texts. It is owned by one goroutine.
type Closing struct {
	Ground
	Set      *Set
	Name     string
	Period   *settlement.Period
	Opening  map[ledger.Account]ledger.Totals
	Balances map[ledger.Account]ledger.Totals // when posted
	Seal     ledger.Seal                      // when posted
	Breaches []Breach                         // when posted
	Files    Files

	steps   int
	answers [][]answer // of each statement, by unit
	texts   []string   // of each statement
}

type answer struct {
	c *clearing.Case
	r *clearing.Result
}

// Sign signs a note's text as the operator.
type Sign func(text string) ([]byte, error)

// Signer makes a Sign of a note key.
func Signer(s note.Signer) Sign {
	return func(text string) ([]byte, error) { return note.Sign(&note.Note{Text: text}, s) }
}

// Start draws the line: in are the inputs of a period, and the texts that follow from them are added.
func Start(in Files, name string) (*Closing, error) {
	c, err := ground(in)
	if err != nil {
		return nil, err
	}
	c.Files[rulesName], c.Files[obligationsName], c.Files[asidesName] = c.Policy.appendText(nil), c.Set.appendText(nil), c.Set.appendAsides(nil)
	if c.Period, err = settlement.Begin(name, c.Policy.Terms); err != nil {
		return nil, err
	}
	return c, c.Do(Step{Do: DoDraw, Period: name}, nil)
}

// Load reads a period back from its texts and derives every one of them again. A [Difference] names what does not follow.
func Load(f Files) (*Closing, error) {
	c, err := ground(f)
	if err != nil {
		return nil, err
	}
	if err := f.same(rulesName, c.Policy.appendText(nil)); err != nil {
		return nil, err
	}
	if err := f.same(obligationsName, c.Set.appendText(nil)); err != nil {
		return nil, err
	}
	if err := f.same(asidesName, c.Set.appendAsides(nil)); err != nil {
		return nil, err
	}
	for f[stepName(c.steps)] != nil {
		name := stepName(c.steps)
		var s Step
		d := json.NewDecoder(bytes.NewReader(f[name]))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			return nil, differ(name, 1, "%v", err)
		}
		if c.steps == 0 {
			if c.Period, err = settlement.Begin(s.Period, c.Policy.Terms); err != nil {
				return nil, differ(name, 1, "%v", err)
			}
		}
		if err := f.same(name, s.text()); err != nil {
			return nil, err
		}
		if err := c.Do(s, nil); err != nil {
			var d *Difference
			if errors.As(err, &d) {
				return nil, d
			}
			return nil, differ(name, 1, "%v", err)
		}
	}
	if c.Period == nil {
		return nil, differ(stepName(0), 0, "is missing")
	}
	return c, nil
}

func (s *Step) text() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return nil // strings and numbers alone: cannot fail
	}
	return append(b, '\n')
}

// Do takes the next step. With a signer it makes the texts that follow; without one it holds the texts that are there to
// what must follow. On an error the closing is to be thrown away.
func (c *Closing) Do(s Step, sign Sign) error {
	in, err := c.input(s, sign)
	if err != nil {
		return err
	}
	next, err := c.Period.Step(in)
	if err != nil {
		return err
	}
	c.Period = next
	switch s.Do {
	case DoDraw:
		c.Name = s.Period
	case DoBook:
		if err := c.book(sign != nil); err != nil {
			return err
		}
	}
	c.Files[stepName(c.steps)] = s.text()
	c.steps++
	return nil
}

// plain is a step with the keys that its kind has and no other.
func (s *Step) plain() Step {
	p := Step{Do: s.Do}
	switch s.Do {
	case DoDraw:
		p.Period = s.Period
	case DoPropose, DoLapse:
		p.At = s.At
	case DoConfirm:
		p.Number, p.Node = s.Number, s.Node
	case DoChallenge:
		p.At, p.Obligation, p.Node, p.Note = s.At, s.Obligation, s.Node, s.Note
	case DoDecide:
		p.Obligation, p.Node, p.Outcome, p.Note = s.Obligation, s.Node, s.Outcome, s.Note
	case DoFinalise:
		p.At, p.Number = s.At, s.Number
	case DoExit:
		p.Node, p.Choices = s.Node, s.Choices
	}
	return p
}

// input turns a step into what the period is told.
func (c *Closing) input(s Step, sign Sign) (settlement.Input, error) {
	var why, id [32]byte
	var ok bool
	if p := s.plain(); s.At < 0 || !bytes.Equal(p.text(), s.text()) {
		return nil, fmt.Errorf("a step %.40q with a key that it does not have, or before 1970", s.Do)
	}
	switch s.Do {
	case DoChallenge, DoDecide:
		if why, ok = digest(s.Note); !ok {
			return nil, errors.New("the note's digest is not 64 hexadecimal digits")
		}
		if id, ok = digest(s.Obligation); !ok {
			return nil, errors.New("the obligation is not 64 hexadecimal digits")
		}
	}
	switch s.Do {
	case DoDraw:
		if c.Ground.Opening != nil && c.Ground.Opening.Period == s.Period {
			return nil, fmt.Errorf("period %.60q cannot follow itself", s.Period)
		}
		return settlement.DrawLine{Cut: c.Cut, Obligations: c.Set.Obligations}, nil
	case DoPropose:
		d, err := c.propose(sign)
		return settlement.Propose{Digest: d, At: s.At}, err
	case DoConfirm:
		return settlement.Confirm{Number: s.Number, Node: s.Node}, nil
	case DoChallenge:
		return settlement.Challenge{Obligation: id, By: s.Node, Note: why, At: s.At}, nil
	case DoDecide:
		if !c.Network.hasNode(s.Node) {
			return nil, fmt.Errorf("%.60q, who decides, is no node of this network", s.Node)
		}
		return settlement.Decide{Obligation: id, Outcome: settlement.Outcome(s.Outcome), Reviewer: s.Node, Note: why}, nil
	case DoLapse:
		return settlement.Lapse{At: s.At}, nil
	case DoFinalise:
		return settlement.Finalise{Number: s.Number, Signers: []string{c.Network.Operator}, At: s.At}, nil
	case DoExit:
		return c.leave(s)
	case DoBook:
		return settlement.Book{}, nil
	}
	return nil, fmt.Errorf("%.40q is no step of a period", s.Do)
}

// propose clears every unit, or checks the answers that are here, and returns the statement's digest.
func (c *Closing) propose(sign Sign) (none [32]byte, err error) {
	number := len(c.Period.Proposals) + 1
	answers, err := c.clear(number, sign != nil)
	if err != nil {
		return none, err
	}
	var cleared []settlement.Cleared
	for _, a := range answers {
		text := a.c.AppendStatement(nil, a.r)
		cleared = append(cleared, settlement.Cleared{Unit: a.c.Unit(), Case: a.c.Digest(), Statement: hash(text), Gross: a.c.Gross(), Total: a.r.Total})
	}
	st, err := c.Period.Draft(c.Network.Name, &c.Policy.Settlement, cleared)
	if err != nil {
		return none, err
	}
	text := string(st.AppendText(nil))
	name := noteName(number)
	if sign != nil {
		if c.Files[name], err = sign(text); err != nil {
			return none, fmt.Errorf("signing the statement: %w", err)
		}
	}
	key, err := c.Network.operator()
	if err != nil {
		return none, differ(networkName, 0, "the operator's key: %v", err)
	}
	signed, err := opened(c.Files[name], key)
	if err != nil {
		return none, c.Files.noteLine(name, []byte(text), fmt.Errorf("the signature: %w", err))
	}
	if err := (Files{name: []byte(signed)}).same(name, []byte(text)); err != nil {
		return none, err
	}
	c.answers, c.texts = append(c.answers, answers), append(c.texts, text)
	return st.Digest(), nil
}

// clear answers the case of each unit, or checks the answers that are here with the verifier alone.
func (c *Closing) clear(number int, solve bool) ([]answer, error) {
	var answers []answer
	for _, unit := range c.Policy.Units {
		cs, err := c.compile(unit.Name, c.Period.Clearable())
		if err != nil || cs == nil {
			if err != nil {
				return nil, fmt.Errorf("clearing %s: %w", unit.Name, err)
			}
			continue
		}
		in, out, proof := unitName(number, unit.Name, "case"), unitName(number, unit.Name, "answer"), unitName(number, unit.Name, "proof")
		a := answer{c: cs}
		if solve {
			if a.r, err = clearing.Settle(cs); err != nil {
				return nil, err
			}
			c.Files[in], c.Files[out], c.Files[proof] = cs.AppendText(nil), cs.AppendStatement(nil, a.r), cs.AppendProof(nil, a.r)
		}
		if err := c.Files.same(in, cs.AppendText(nil)); err != nil {
			return nil, err
		}
		if a.r, err = cs.Decode(c.Files[out], c.Files[proof]); err != nil {
			return nil, differ(out, 0, "answer and proof (%s) cannot be read: %v", proof, err)
		}
		// Before anything is stored, and again by everybody who reads the bundle.
		if err := clearing.Verify(cs, a.r); err != nil {
			return nil, differ(out, 0, "is not the proven answer to its case: %v", err)
		}
		answers = append(answers, a)
	}
	return answers, nil
}

// compile makes the case of one unit; nil when there is nothing to clear in it.
func (c *Closing) compile(unit string, list []settlement.Obligation) (*clearing.Case, error) {
	terms := clearing.Terms{Unit: unit, Cut: clearing.Day(c.Cut.Day), AgeCap: c.Policy.AgeCap, Roots: c.Cut.Roots(), Commons: c.Policy.Pool.Commons}
	for _, l := range c.Policy.limits {
		if l.Unit == unit {
			balance := c.Opening[ledger.Account{Path: ledger.NodePath(c.Network.Name, l.Node), Unit: unit}].Balance()
			terms.Limits = append(terms.Limits, clearing.Limit{Node: l.Node, Balance: balance, Floor: l.Floor, Ceiling: l.Ceiling})
		}
	}
	var debts []clearing.Obligation
	for i := range list {
		if o := &list[i]; o.Unit == unit {
			debts = append(debts, clearing.Obligation{ID: clearing.ID(o.ID), Debtor: o.Debtor, Creditor: o.Creditor, Unit: unit, Amount: o.Open(),
				Day: clearing.Day(o.Day)})
		}
	}
	if len(debts) == 0 {
		return nil, nil
	}
	return clearing.Compile(terms, debts)
}

// ground reads and checks the inputs of a period.
func ground(f Files) (*Closing, error) {
	c := &Closing{Files: f}
	var err error
	if c.Network, err = ParseNetwork(f[networkName]); err != nil {
		return nil, err
	}
	if c.Policy, err = ParsePolicy(policyName, f[policyName]); err != nil {
		return nil, differ(policyName, 0, "%v", err)
	}
	if c.Policy.Network != c.Network.Name {
		return nil, differ(policyName, 0, "is of network %s, not of %s", c.Policy.Network, c.Network.Name)
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	cut, err := parseCut(cutName, f[cutName])
	if err != nil {
		return nil, err
	}
	if c.Cut, err = settlement.NewCut(cut.Day, c.Network.Nodes, cut.Checkpoints, c.Previous); err != nil {
		return nil, differ(cutName, 0, "%v", err)
	}
	if err := f.same(cutName, c.Cut.AppendText(nil)); err != nil {
		return nil, err
	}
	if err := c.journals(); err != nil {
		return nil, err
	}
	if c.Set, err = c.Derive(); err != nil {
		return nil, differ(obligationsName, 0, "%v", err)
	}
	return c, nil
}

// open reads what the previous period left.
func (c *Closing) open() error {
	c.Opening = map[ledger.Account]ledger.Totals{}
	if c.Files[openCarryName] == nil {
		return nil
	}
	var err error
	if c.Ground.Opening, err = ParseCarry(openCarryName, c.Files[openCarryName]); err != nil {
		return err
	}
	if c.Previous, err = parseCut(openCutName, c.Files[openCutName]); err != nil {
		return err
	}
	for i, p := range c.Previous.Checkpoints {
		if err := c.receipt(openReceiptName(i), p); err != nil {
			return err
		}
	}
	var root [32]byte
	if c.Opening, root, err = parseBalances(openBooksName, c.Files[openBooksName]); err != nil {
		return err
	}
	if root != c.Ground.Opening.Seal {
		return differ(openBooksName, 0, "the balances do not lead to the seal of %s", c.Ground.Opening.Period)
	}
	return nil
}

func (c *Closing) receipt(name string, want settlement.Checkpoint) error {
	have, err := c.Network.checkpoint(c.Files[name])
	if err != nil {
		text := wire.Checkpoint{Origin: want.Journal, Size: want.Size, Root: want.Root}.Text()
		if d := c.Files.noteLine(name, []byte(text), err); d.Line < strings.Count(text, "\n")+2 {
			return d
		}
		return differ(name, 0, "%v", err)
	}
	if have != want {
		return differ(name, 0, "states size %d of %s; the cut says size %d of %s, or another root", have.Size, have.Journal, want.Size, want.Journal)
	}
	return nil
}

// journals proves the receipts and excerpts of the cut and gathers the leaves that they show.
func (c *Closing) journals() error {
	at := map[string]settlement.Checkpoint{}
	if c.Previous != nil {
		for _, p := range c.Previous.Checkpoints {
			at[p.Journal] = p
		}
	}
	for i, p := range c.Cut.Checkpoints {
		if err := c.receipt(receiptName(i), p); err != nil {
			return err
		}
		name := excerptName(i)
		x, err := readExcerpt(name, c.Files[name])
		if err != nil {
			return err
		}
		before, known := at[p.Journal]
		switch {
		case x.origin != p.Journal || x.to != p.Size || x.from != before.Size:
			return differ(name, 0, "is of %s from %d to %d; the cuts say %s from %d to %d", x.origin, x.from, x.to, p.Journal, before.Size, p.Size)
		case known && x.fromRoot != before.Root:
			return differ(name, 0, "does not lead to the root of the previous cut")
		case x.toRoot != p.Root:
			return differ(name, 0, "does not lead to the root that was co-signed")
		}
		c.Shown = append(c.Shown, x.shown...)
	}
	return nil
}

func parseCut(file string, text []byte) (*settlement.Cut, error) {
	s, err := scan(file, text, "kith-cut v1")
	if err != nil {
		return nil, err
	}
	c := &settlement.Cut{}
	for words := s.next(); words != nil; words = s.next() {
		switch {
		case len(words) == 2 && words[0] == "day":
			n, ok := number(words[1])
			if c.Day = settlement.Day(n); !ok || n < 0 || int64(c.Day) != n {
				return nil, s.bad("not a day")
			}
		case len(words) == 5 && words[0] == "checkpoint":
			n, ok := number(words[3])
			root, fine := digest(words[4])
			if !ok || !fine || n < 0 {
				return nil, s.bad("not a checkpoint")
			}
			c.Checkpoints = append(c.Checkpoints, settlement.Checkpoint{Journal: words[1], Node: words[2], Size: uint64(n), Root: root})
		case len(words) == 2 && words[0] == "missing":
			c.Missing = append(c.Missing, words[1])
		default:
			return nil, s.bad("not a line of a cut")
		}
	}
	return c, (Files{file: text}).sameOrNil(file, c.AppendText(nil))
}

func (f Files) sameOrNil(name string, want []byte) error {
	if !bytes.Equal(f[name], want) {
		return f.same(name, want)
	}
	return nil
}

// Party finds the obligation that a prefix of its hexadecimal digits names.
func (c *Closing) Party(prefix string) (settlement.Obligation, error) {
	var found []settlement.Obligation
	for _, o := range c.Period.Obligations {
		if strings.HasPrefix(hex.EncodeToString(o.ID[:]), prefix) {
			found = append(found, o)
		}
	}
	if len(found) != 1 || prefix == "" {
		return settlement.Obligation{}, fmt.Errorf("%d obligations begin with %.64q", len(found), prefix)
	}
	return found[0], nil
}

// Discharged says what the statement in force discharges, by obligation.
func (c *Closing) Discharged() map[settlement.ID]int64 {
	done := map[settlement.ID]int64{}
	if c.Period.InForce() == nil {
		return done
	}
	for _, a := range c.answers[len(c.answers)-1] {
		for _, l := range a.r.Lines {
			if l.Discharged > 0 {
				done[settlement.ID(l.ID)] = l.Discharged
			}
		}
	}
	return done
}

// Newer lists the files that other lacks.
func (f Files) Newer(other Files) Files {
	fresh := Files{}
	for _, name := range slices.Collect(f.keys()) {
		if _, here := other[name]; !here {
			fresh[name] = f[name]
		}
	}
	return fresh
}
