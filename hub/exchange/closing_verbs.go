package exchange

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kith/hub/audit"
	"kith/internal/command"
)

// periodOrder makes the builder of one verb on periods.
func periodOrder(do string, plain int) request {
	return func(f *flag.FlagSet) (int, func([]string) (Order, error)) {
		o := &PeriodOrder{Do: do}
		switch do {
		case "close":
			f.StringVar(&o.Day, "day", "", "last `DATE` that counts, yyyy-mm-dd; default today")
		case "confirm":
			f.StringVar(&o.Node, "by", "", "`NODE` that says yes")
		case "dispute", "decide":
			f.StringVar(&o.Node, "by", "", "`NODE` whose word it is")
			f.StringVar(&o.Reason, "reason", "", "`TEXT` that says why; name no person")
			if do == "decide" {
				f.StringVar(&o.Outcome, "outcome", "", "stand, amend or void")
			}
		case "bundle":
			f.StringVar(&o.File, "out", "", "`FILE` to write")
		}
		return plain, func(args []string) (Order, error) {
			if plain > 0 {
				o.Period = args[0]
			}
			if plain > 1 {
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
	for _, d := range p.Disputes {
		fmt.Fprintf(w, "  disputed %s by %s\t%s\n", d.Obligation, d.By, d.Outcome)
	}
	for _, l := range p.Lines {
		fmt.Fprintf(w, "  %.16s\t%s owes %s\t%d %s\tdischarged %d\t%s %s\n", l.ID, l.Debtor, l.Creditor, l.Open, l.Unit, l.Discharged, l.Day, l.Evidence)
	}
}

func printTotals(w io.Writer, r *audit.Report) {
	for _, u := range r.Units {
		fmt.Fprintf(w, "  %s: %d owed, %d cleared, %d left\n", u.Unit, u.Gross, u.Cleared, u.Gross-u.Cleared)
	}
	if len(r.Missing) > 0 {
		fmt.Fprintf(w, "  missing at the cut: %s\n", strings.Join(r.Missing, ", "))
	}
	if r.Seal != "" {
		fmt.Fprintf(w, "  seal %s\n", r.Seal)
	}
}

// bundleArgs tells the bundles that verify is to read from the flags of verifying a database.
func bundleArgs(args []string) (files []string, asJSON bool) {
	for i := 0; i < len(args); i++ {
		switch name := strings.TrimLeft(args[i], "-"); {
		case !strings.HasPrefix(args[i], "-"):
			files = append(files, args[i])
		case name == "json" || name == "json=true":
			asJSON = true
		case name == "config" || name == "state-dir":
			i++
		}
	}
	return files, asJSON
}

// verifyBundles checks bundles, the first one first, with nothing but their own bytes. It opens no state directory.
func verifyBundles(s command.Streams, files []string, asJSON bool) int {
	code := command.OK
	var previous *audit.Closing
	for i, file := range files {
		c, r := verifyBundle(file)
		if r.OK && i > 0 {
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
		previous = c
		if c == nil {
			break
		}
	}
	return code
}

func verifyBundle(file string) (*audit.Closing, audit.Report) {
	f, err := os.Open(file)
	if err != nil {
		return nil, audit.Report{Difference: &audit.Difference{File: file, What: err.Error()}}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, audit.MaxBundle+1))
	if err != nil {
		return nil, audit.Report{Difference: &audit.Difference{File: file, What: err.Error()}}
	}
	return audit.Verify(b)
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
		fmt.Fprintf(w, "NOT VERIFIED: %s: %v\n", file, r.Difference)
		return
	}
	fmt.Fprintf(w, "verified: period %s of %s, statement %d, cut %s, %d journals, %d entries shown\n", r.Period, r.Network, r.Number, r.Day, r.Journals, r.Shown)
	printTotals(w, r)
	if r.Follows != "" {
		fmt.Fprintf(w, "  opens with the seal of %s; give both bundles to prove that too\n", r.Follows)
	}
	fmt.Fprintf(w, "  policy %s\n  everything rests on this key; compare it with the one your house was given:\n  %s\n", r.Policy, r.Operator)
}
