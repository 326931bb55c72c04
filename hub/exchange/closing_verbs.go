package exchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"kith/hub/audit"
	"kith/internal/command"
	"kith/internal/pki"
)

// periodOrder makes the builder of one verb on periods.
func periodOrder(do string, plain int) request {
	return func(f *flag.FlagSet) (int, func([]string) (Order, error)) {
		o := &PeriodOrder{Do: do}
		switch do {
		case "close":
			f.StringVar(&o.Day, "day", "", "last `DATE` that counts, yyyy-mm-dd; default today")
		case "confirm":
			f.StringVar(&o.Node, "by", "", "`NODE` that says yes; on your word, it signs nothing")
		case "dispute", "decide":
			f.StringVar(&o.Node, "by", "", "`NODE` that said so; on your word, it signs nothing")
			f.StringVar(&o.Reason, "reason", "", "`TEXT` that says why; name no person")
			if do == "decide" {
				f.StringVar(&o.Outcome, "outcome", "", "stand, amend or void")
			}
		case "exit":
			f.Func("choice", "what becomes of one obligation: `\"OBLIGATION serve-in-kind|waive|novate|freeze NODE[,NODE] [DATE]\"`; may stand several times", func(v string) error {
				o.Choices = append(o.Choices, v)
				return nil
			})
		case "bundle":
			f.StringVar(&o.File, "out", "", "`FILE` to write")
		case "adopt":
			f.StringVar(&o.Operator, "operator", "", "`KEY` of the operator that must have signed it, or the file with the key; needed unless it is this hub's own or that of the period before")
		case "balance":
			f.StringVar(&o.Unit, "unit", "", "in this `UNIT` alone; default: in every unit")
			f.StringVar(&o.File, "out", "", "`FILE` to write, which proves the balance for itself: hub verify FILE")
		}
		return plain, func(args []string) (Order, error) {
			if plain > 0 {
				o.Period = args[0]
			}
			switch {
			case do == "exit", do == "balance":
				o.Node = args[1]
			case plain > 1:
				o.Obligation = args[1]
			}
			if do == "adopt" {
				o.Period, o.File = "", args[0]
			}
			if do == "bundle" && o.File == "" {
				return Order{}, errors.New("--out is needed")
			}
			var err error
			if o.File != "" {
				o.File, err = filepath.Abs(o.File) // a running hub has another working directory
			}
			if o.Operator != "" && err == nil {
				o.Operator, err = operatorKey(o.Operator) // likewise
			}
			return Order{Period: o}, err
		}
	}
}

func memberErase(*flag.FlagSet) (int, func([]string) (Order, error)) {
	return 1, func(args []string) (Order, error) { return Order{Erase: args[0]}, nil }
}

func (p *PeriodState) print(w io.Writer) {
	fmt.Fprintf(w, "%s\t%s\n", p.Name, p.State)
	for _, s := range p.Statements {
		note := ""
		if s.Withdrawn {
			note = "\twithdrawn"
		}
		fmt.Fprintf(w, "  statement %d\t%s%s\n", s.Number, s.Digest, note)
	}
	if p.Report != nil {
		printTotals(w, p.Report)
	}
	if p.Until > 0 {
		fmt.Fprintf(w, "  can be challenged until %s\n", time.Unix(p.Until, 0).UTC().Format(time.RFC3339))
	}
	if len(p.Confirmed) > 0 {
		fmt.Fprintf(w, "  said yes: %s; not yet: %s\n", strings.Join(p.Confirmed, ", "), orNobody(p.Awaited))
	}
	for _, d := range p.Disputes {
		fmt.Fprintf(w, "  disputed %s by %s\t%s\n", d.Obligation, d.By, d.Outcome)
	}
	for _, l := range p.Lines {
		fmt.Fprintf(w, "  %.16s\t%s owes %s\t%d %s\tdischarged %d\t%s %s\n", l.ID, l.Debtor, l.Creditor, l.Open, l.Unit, l.Discharged, l.Day, l.Evidence)
	}
}

func orNobody(nodes []string) string {
	if len(nodes) == 0 {
		return "nobody, it can be finalised"
	}
	return strings.Join(nodes, ", ")
}

func printTotals(w io.Writer, r *audit.Report) {
	for _, u := range r.Units {
		fmt.Fprintf(w, "  %s: %d owed, %d cleared, %d left\n", u.Unit, u.Gross, u.Cleared, u.Gross-u.Cleared)
	}
	for _, b := range r.Breaches {
		fmt.Fprintf(w, "  past its limit: %s has %d %s with the pool and %d open, its limits are %d and %d\n", b.Node, b.Balance, b.Unit, b.Open, b.Floor, b.Ceiling)
	}
	if r.Copies > 0 {
		fmt.Fprintf(w, "  %d entries repeat what a card signed for another, and count nothing\n", r.Copies)
	}
	if len(r.Missing) > 0 {
		fmt.Fprintf(w, "  missing at the cut: %s\n", strings.Join(r.Missing, ", "))
	}
	if r.Seal != "" {
		fmt.Fprintf(w, "  seal %s\n", r.Seal)
	}
}

// bundleArgs tells the bundles that verify is to read, and the key they are to be signed with, from the flags of verifying
// a database. A flag that is neither is an error: somebody meant to be stricter than this would be.
func bundleArgs(args []string) (files []string, operator string, asJSON bool, err error) {
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case !strings.HasPrefix(args[i], "-"):
			files = append(files, args[i])
		case name == "json" && (!joined || value == "true"):
			asJSON = true
		case name == "operator" && joined:
			operator = value
		case name == "operator" && i+1 < len(args):
			operator, i = args[i+1], i+1
		case name == "config" || name == "state-dir":
			if !joined {
				i++
			}
		default:
			err = fmt.Errorf("no flag %.60s when a bundle is verified; there are --operator KEY and --json", args[i])
		}
	}
	return files, operator, asJSON, err
}

// verifyFiles checks bundles, the first one first, and proofs of balance, with nothing but their own bytes and the operator's
// key, when one is given. It opens no state directory.
func verifyFiles(s command.Streams, files []string, operator string, asJSON bool) int {
	if operator != "" {
		var err error
		if operator, err = operatorKey(operator); err != nil {
			return command.Fail(s, "hub verify", err)
		}
	}
	code := command.OK
	var previous *audit.Closing
	for _, file := range files {
		b, err := readFile(file)
		if err == nil && bytes.HasPrefix(b, []byte(audit.BalanceTitle)) {
			r := audit.VerifyBalance(b, operator)
			if !r.OK {
				code = command.Failed
			}
			printBalance(s.Out, file, &r, asJSON)
			continue
		}
		var c *audit.Closing
		r := audit.Report{}
		if err != nil {
			r.Difference = &audit.Difference{File: file, What: err.Error()}
		} else {
			c, r = audit.VerifyBy(b, operator)
		}
		if r.OK && previous != nil {
			if err := c.Follows(previous); err != nil {
				r.OK = false
				if !errors.As(err, &r.Difference) {
					r.Difference = &audit.Difference{File: file, What: err.Error()}
				}
			}
		}
		if !r.OK {
			code = command.Failed
		}
		printReport(s.Out, file, &r, asJSON)
		if previous = c; c == nil {
			break
		}
	}
	return code
}

// operatorKey takes a verifier key as it is, or out of the file of that name.
func operatorKey(given string) (string, error) {
	if _, err := note.NewVerifier(given); err == nil {
		return given, nil
	}
	text, err := pki.ReadPublic(given)
	if err != nil {
		return "", fmt.Errorf("--operator is neither a verifier key nor a file with one: %w", err)
	}
	key := strings.TrimSpace(string(text))
	if _, err := note.NewVerifier(key); err != nil {
		return "", fmt.Errorf("--operator: %s holds no verifier key: %w", given, err)
	}
	return key, nil
}

// readFile reads what is to be verified, and no more than the largest bundle has.
func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, audit.MaxBundle+1))
}

// keyID is the part of a verifier key that signature lines carry; the name before it may hold anything but a plus sign.
func keyID(vkey string) string {
	_, rest, _ := strings.Cut(vkey, "+")
	id, _, _ := strings.Cut(rest, "+")
	return id
}

// printBalance tells a house what stood on its accounts.
func printBalance(w io.Writer, file string, r *audit.BalanceReport, asJSON bool) {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			fmt.Fprintln(w, err)
		}
		return
	}
	if !r.OK {
		fmt.Fprintf(w, "NOT VERIFIED: %s: %v\n", file, r.Difference)
		return
	}
	fmt.Fprintf(w, "verified: what stood on the accounts of %s when period %s of %s was sealed\n", r.Node, r.Period, r.Network)
	printAccounts(w, r)
	printKey(w, r.Pinned, r.Operator, "file")
}

// printAccounts tells each balance in words: a due account says who owes whom.
func printAccounts(w io.Writer, r *audit.BalanceReport) {
	for _, b := range r.Balances {
		other, due := strings.CutPrefix(b.Account, r.Network+"/"+r.Node+"/~due/")
		switch {
		case !due && b.Account == r.Network+"/"+r.Node:
			fmt.Fprintf(w, "  has %d %s with the pool\n", b.Balance, b.Unit)
		case !due:
			fmt.Fprintf(w, "  has %d %s on %s\n", b.Balance, b.Unit, b.Account)
		case b.Balance < 0:
			fmt.Fprintf(w, "  owes %s %d %s\n", other, -b.Balance, b.Unit)
		case b.Balance > 0:
			fmt.Fprintf(w, "  is owed %d %s by %s\n", b.Balance, b.Unit, other)
		default:
			fmt.Fprintf(w, "  is even with %s in %s\n", other, b.Unit)
		}
	}
	fmt.Fprintf(w, "  seal %s over %d accounts of the whole network\n", r.Seal, r.Accounts)
}

func printReport(w io.Writer, file string, r *audit.Report, asJSON bool) {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			fmt.Fprintln(w, err)
		}
		return
	}
	if !r.OK {
		what := strings.TrimPrefix(r.Difference.Error(), file+": ") // a file that cannot be read is its own difference
		fmt.Fprintf(w, "NOT VERIFIED: %s: %s\n", file, what)
		return
	}
	fmt.Fprintf(w, "verified: period %s of %s, statement %d, cut %s, %d journals, %d entries shown\n", r.Period, r.Network, r.Number, r.Day, r.Journals, r.Shown)
	printTotals(w, r)
	fmt.Fprintln(w, "  proven of each statement: nobody owes more, no house is better or worse off but for what it drew from the pool or paid into it,\n"+
		"  nobody gets a new creditor or debtor, and no more can be cleared")
	if r.Follows != "" {
		fmt.Fprintf(w, "  opens with the seal of %s; give both bundles to prove that too\n", r.Follows)
	}
	fmt.Fprintf(w, "  policy %s\n", r.Policy)
	printKey(w, r.Pinned, r.Operator, "bundle")
}

// printKey says what everything rests on.
func printKey(w io.Writer, pinned bool, operator, from string) {
	if pinned {
		fmt.Fprintf(w, "  signed by the operator's key that you gave, id %s\n", keyID(operator))
		return
	}
	fmt.Fprintf(w, "  NOT PINNED: the operator's key, id %s, was taken from the %s itself, and everything rests on it.\n"+
		"  Compare it with the one your house was given, or verify with --operator KEY:\n  %s\n", keyID(operator), from, operator)
}
