// Package command owns how our programs are spoken to: a table of verbs, one line of help each, and three exit codes. It
// runs what it is given and keeps nothing.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// Exit codes of every program.
const (
	OK     = 0
	Failed = 1
	Usage  = 2
)

// Streams are the three files a verb may use.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	form     string // of the verb that runs, for its help
}

// Verb is one thing a program can be told to do. Name may be two words: "edge add".
type Verb struct {
	Name string
	Args string // shown after the name in help
	Help string
	Run  func(ctx context.Context, s Streams, args []string) int
}

// Program is a name and its verbs.
type Program struct {
	Name, About string
	Verbs       []Verb
}

// Run finds the verb and runs it. Help goes to Out with OK, mistakes to Err with Usage.
func (p Program) Run(ctx context.Context, s Streams, args []string) int {
	if len(args) > 0 && (args[0] == "help" || isHelp(args[0])) {
		p.help(s.Out, p.Verbs)
		return OK
	}
	var best *Verb
	for i := range p.Verbs {
		words := strings.Fields(p.Verbs[i].Name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == p.Verbs[i].Name {
			if best == nil || len(words) > len(strings.Fields(best.Name)) {
				best = &p.Verbs[i]
			}
		}
	}
	if best != nil {
		s.form = p.form(best)
		return best.Run(ctx, s, args[len(strings.Fields(best.Name)):])
	}
	if len(args) == 0 {
		p.help(s.Err, p.Verbs)
		return Usage
	}
	var kin []Verb // "period" alone is no verb, and whoever types it wants to know which there are
	for _, v := range p.Verbs {
		if strings.HasPrefix(v.Name, args[0]+" ") {
			kin = append(kin, v)
		}
	}
	if len(kin) > 0 && len(args) > 1 && isHelp(args[1]) {
		p.help(s.Out, kin)
		return OK
	}
	fmt.Fprintf(s.Err, "%s: unknown command %q; \"%s help\" lists them all\n", p.Name, strings.Join(args[:min(2, len(args))], " "), p.Name)
	if len(kin) > 0 {
		fmt.Fprintln(s.Err)
		p.help(s.Err, kin)
	}
	return Usage
}

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

func (p Program) form(v *Verb) string {
	return fmt.Sprintf("  %s\n        %s\n", strings.TrimSpace(p.Name+" "+v.Name+" "+v.Args), v.Help)
}

func (p Program) help(w io.Writer, verbs []Verb) {
	fmt.Fprintf(w, "%s: %s\n\n", p.Name, p.About)
	for i := range verbs {
		io.WriteString(w, p.form(&verbs[i]))
	}
	fmt.Fprintf(w, "\n%s COMMAND --help shows its flags. Exit codes: 0 ok, 1 failed, 2 wrong use.\n", p.Name)
}

// Flags makes the flag set of a verb. It says nothing by itself and never ends the process: Parse speaks for it.
func Flags(_ Streams, verb string) *flag.FlagSet {
	f := flag.NewFlagSet(verb, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	return f
}

// flagHelp lists what a verb's flags mean, as they are written in our texts.
func flagHelp(w io.Writer, form string, f *flag.FlagSet) {
	if form == "" {
		form = "  " + f.Name() + "\n"
	}
	fmt.Fprintf(w, "%s\n", form)
	f.VisitAll(func(g *flag.Flag) {
		kind, what := flag.UnquoteUsage(g)
		if g.DefValue != "" && g.DefValue != "false" && g.DefValue != "0" && g.DefValue != "0s" {
			what += " (default " + g.DefValue + ")"
		}
		fmt.Fprintf(w, "  %s\n        %s\n", strings.TrimSpace("--"+g.Name+" "+kind), what)
	})
}

// Parse reads flags that may stand before or after up to n plain arguments, and returns those. ok is false, with the
// code to exit with, when the call was wrong or only asked for help.
func Parse(s Streams, f *flag.FlagSet, args []string, n int) (plain []string, code int, ok bool) {
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				flagHelp(s.Out, s.form, f)
				return nil, OK, false
			}
			fmt.Fprintf(s.Err, "%s: %v; \"%s --help\" shows its flags\n", f.Name(), err, f.Name())
			return nil, Usage, false
		}
		if f.NArg() == 0 {
			break
		}
		plain = append(plain, f.Arg(0))
		args = f.Args()[1:]
	}
	if len(plain) > n {
		fmt.Fprintf(s.Err, "%s: too many arguments: %s\n", f.Name(), strings.Join(plain[n:], " "))
		return nil, Usage, false
	}
	return plain, OK, true
}

// Fail prints what went wrong and returns the exit code for it.
func Fail(s Streams, doing string, err error) int {
	fmt.Fprintf(s.Err, "%s: %v\n", doing, err)
	return Failed
}
