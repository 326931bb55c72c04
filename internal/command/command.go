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
	if len(args) > 0 && (args[0] == "help" || args[0] == "-h" || args[0] == "--help") {
		p.help(s.Out)
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
		return best.Run(ctx, s, args[len(strings.Fields(best.Name)):])
	}
	if len(args) > 0 {
		fmt.Fprintf(s.Err, "%s: unknown command %q\n\n", p.Name, strings.Join(args[:min(2, len(args))], " "))
	}
	p.help(s.Err)
	return Usage
}

func (p Program) help(w io.Writer) {
	fmt.Fprintf(w, "%s: %s\n\n", p.Name, p.About)
	for _, v := range p.Verbs {
		fmt.Fprintf(w, "  %s %s %s\n        %s\n", p.Name, v.Name, v.Args, v.Help)
	}
	fmt.Fprintf(w, "\nExit codes: 0 ok, 1 failed, 2 wrong use.\n")
}

// Flags makes the flag set of a verb; its messages go to Err and never end the process.
func Flags(s Streams, verb string) *flag.FlagSet {
	f := flag.NewFlagSet(verb, flag.ContinueOnError)
	f.SetOutput(s.Err)
	return f
}

// Parse reads flags that may stand before or after up to n plain arguments, and returns those. ok is false, with the
// code to exit with, when the call was wrong or only asked for help.
func Parse(s Streams, f *flag.FlagSet, args []string, n int) (plain []string, code int, ok bool) {
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, OK, false
			}
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
