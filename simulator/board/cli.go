package board

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Exit codes of Command.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const maxCommandLine = 4096 // bytes of one line on stdin

const usage = `usage: simulator board --socket PATH [--door NAME]... [--push] [--for DURATION] [--json]

Makes a virtual board at a Unix socket, prints each change as a line. Reads commands on stdin
(the first --door is meant when none is named; the default door is "front"):
  contact open|closed [DOOR]    exit press|release [DOOR]    fire on|off [DOOR]
  tamper open|closed            push on|off [DOOR]           quit
Any other program may watch the same socket. The end of stdin does not end the board.
`

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// Command is `simulator board`.
func Command(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var socket string
	var doors doorList
	var span time.Duration
	var asJSON, push bool
	flags := flag.NewFlagSet("board", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	flags.StringVar(&socket, "socket", "", "path of the Unix socket")
	flags.Var(&doors, "door", "door id; may be repeated")
	flags.DurationVar(&span, "for", 0, "end after this time")
	flags.BoolVar(&asJSON, "json", false, "print changes as JSON")
	flags.BoolVar(&push, "push", false, "someone pushes at every door")
	if slices.ContainsFunc(args, isHelp) {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	if err := flags.Parse(args); err != nil {
		return exitUsage
	}
	if socket == "" || flags.NArg() > 0 || span < 0 {
		flags.Usage()
		return exitUsage
	}
	if len(doors) == 0 {
		doors = doorList{"front"}
	}
	if span > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, span)
		defer cancel()
	}
	inputs := []string{"tamper"}
	for _, d := range doors {
		inputs = append(inputs, Door(d)...)
	}
	b, err := Listen(socket, inputs...)
	if err != nil {
		fmt.Fprintln(stderr, "simulator board:", err)
		return exitFailed
	}
	defer b.Close()
	s := &session{board: b, doors: doors, out: stdout, json: asJSON}
	if push {
		for _, d := range doors {
			if err := b.Lean(d, defaultPush()); err != nil {
				fmt.Fprintln(stderr, "simulator board:", err)
				return exitFailed
			}
		}
	}
	return s.run(ctx, stdin)
}

// defaultPush is a person who walks through: the door opens half a second after the strike lets
// go and falls shut two seconds later.
func defaultPush() Push { return Push{Open: 500 * time.Millisecond, Close: 2 * time.Second} }

type doorList []string

func (l *doorList) String() string { return strings.Join(*l, ",") }

func (l *doorList) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// session is one run of the command; one goroutine owns it.
type session struct {
	board *Board
	doors []string
	out   io.Writer
	json  bool
}

func (s *session) run(ctx context.Context, stdin io.Reader) int {
	w := s.board.Watch()
	defer w.Stop()
	first, _ := json.Marshal(map[string]string{"socket": s.board.Path()}) // two strings: no error
	fmt.Fprintf(s.out, "%s\n", first)
	lines := commands(ctx, stdin)
	for {
		select {
		case <-ctx.Done():
			return exitOK
		case c, ok := <-w.C:
			if !ok {
				return exitFailed
			}
			s.print(c)
		case line, ok := <-lines:
			if !ok {
				lines = nil
				continue
			}
			words := strings.Fields(line)
			if len(words) == 1 && words[0] == "quit" {
				s.drain(w)
				return exitOK
			}
			if err := s.do(words); err != nil {
				s.complain(err)
			}
		}
	}
}

// drain prints what happened before the end and was not printed yet.
func (s *session) drain(w *Watch) {
	for {
		select {
		case c, ok := <-w.C:
			if !ok {
				return
			}
			s.print(c)
		default:
			return
		}
	}
}

// complain says what is wrong with a command, in the form of the other lines.
func (s *session) complain(err error) {
	if s.json {
		text, _ := json.Marshal(map[string]string{"error": err.Error()}) // two strings: no error
		fmt.Fprintf(s.out, "%s\n", text)
		return
	}
	fmt.Fprintf(s.out, "error %v\n", err)
}

func (s *session) print(c Change) {
	direction := "out"
	if c.Input {
		direction = "in"
	}
	if s.json {
		fmt.Fprintf(s.out, "{\"t\":%d,%q:%q,\"v\":%d}\n", int64(c.At), direction, c.Signal, c.Value)
		return
	}
	fmt.Fprintf(s.out, "%d %s %s %d\n", int64(c.At), direction, c.Signal, c.Value)
}

// do runs one command: WHAT LEVEL [DOOR].
func (s *session) do(words []string) error {
	if len(words) == 0 {
		return nil
	}
	if len(words) < 2 || len(words) > 3 {
		return fmt.Errorf("command %q: want what, level and perhaps a door", strings.Join(words, " "))
	}
	door := s.doors[0]
	if len(words) == 3 {
		door = words[2]
	}
	switch words[0] + " " + words[1] {
	case "contact open":
		return s.board.Set(door+"/contact", 1)
	case "contact closed":
		return s.board.Set(door+"/contact", 0)
	case "exit press":
		return s.board.Set(door+"/exit", 1)
	case "exit release":
		return s.board.Set(door+"/exit", 0)
	case "fire on":
		return s.board.Set(door+"/fire", 1)
	case "fire off":
		return s.board.Set(door+"/fire", 0)
	case "tamper open":
		return s.board.Set("tamper", 1)
	case "tamper closed":
		return s.board.Set("tamper", 0)
	case "push on":
		return s.board.Lean(door, defaultPush())
	case "push off":
		return s.board.Lean(door, Push{})
	}
	return fmt.Errorf("unknown command %q", strings.Join(words, " "))
}

// commands reads lines until stdin or ctx ends. The goroutine behind it may outlive ctx by one
// read, because a read of standard input cannot be taken back.
func commands(ctx context.Context, stdin io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		in := bufio.NewScanner(stdin)
		in.Buffer(make([]byte, 0, maxCommandLine), maxCommandLine)
		for in.Scan() {
			select {
			case lines <- in.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}
