package chip

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kith/internal/card"
)

// Exit codes of every command here.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Bounds of the reader command.
const (
	maxCommandLine = 4096                   // bytes of one line on stdin
	maxKnownCards  = 256                    // card files a session may name
	eventsWaiting  = 256                    // events not yet printed; more are dropped, not waited for
	defaultTap     = 400 * time.Millisecond // a hand holds a card about this long
	maxTap         = time.Hour
	maxSlow        = time.Minute // a card thinks
	maxLeave       = 1000        // exchanges before a card leaves
)

const readerUsage = `usage: simulator reader --tty PATH [--card FILE|uid:HEX]... [--for DURATION] [--json]

Makes a virtual PN532 reader on a pseudo-terminal and links it at PATH. Prints {"tty":...} first,
then a line per event. Reads commands on stdin:
  tap [FILE|uid:HEX] [MS]   hold a card before the reader (default: the first --card, 400 ms)
  place [FILE|uid:HEX]      put a card down (default: every --card)
  lift                      take all cards away
  slow MS [FILE|uid:HEX]    a card that thinks MS before each answer (default: every --card); 0: at once
  leave N [FILE|uid:HEX]    a card that leaves the field in the middle of its N-th exchange of each stay
                            (default: every --card); 0: it stays. Both hold from the next tap or place on
  fault NAME [N]            misbehave for N commands (default: until the next fault); none heals
  quit
The end of stdin does not end the reader; quit, --for or a signal does.
`

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// ReaderCommand is `simulator reader`.
func ReaderCommand(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var tty string
	var cards stringList
	var span time.Duration
	var asJSON bool
	flags := flag.NewFlagSet("reader", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, readerUsage) }
	flags.StringVar(&tty, "tty", "", "path of the link to the terminal")
	flags.Var(&cards, "card", "card file or uid:HEX; may be repeated")
	flags.DurationVar(&span, "for", 0, "end after this time")
	flags.BoolVar(&asJSON, "json", false, "print events as JSON")
	if slices.ContainsFunc(args, isHelp) {
		fmt.Fprint(stdout, readerUsage)
		return exitOK
	}
	if err := flags.Parse(args); err != nil {
		return exitUsage
	}
	if tty == "" || flags.NArg() > 0 || span < 0 {
		flags.Usage()
		return exitUsage
	}
	if span > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, span)
		defer cancel()
	}
	s := &session{field: NewField(), known: make(map[string]*Card), names: cards, out: stdout, json: asJSON}
	for _, name := range cards {
		if _, err := s.card(name); err != nil {
			fmt.Fprintln(stderr, "simulator reader:", err)
			return exitFailed
		}
	}
	events := make(chan Event, eventsWaiting)
	c, err := Open(s.field, Options{Link: tty, Observe: func(e Event) {
		select {
		case events <- e:
		default:
		}
	}})
	if err != nil {
		fmt.Fprintln(stderr, "simulator reader:", err)
		return exitFailed
	}
	s.chip = c
	s.print(map[string]any{"tty": c.Path(), "link": tty})
	s.run(ctx, lines(ctx, stdin), events)
	if err := c.Close(); err != nil {
		fmt.Fprintln(stderr, "simulator reader:", err)
		return exitFailed
	}
	return exitOK
}

// lines reads commands from r until it ends or ctx does. The goroutine behind it may outlive
// ctx by one read, because a read of standard input cannot be taken back.
func lines(ctx context.Context, r io.Reader) <-chan string {
	text := make(chan string)
	go func() {
		defer close(text)
		in := bufio.NewScanner(r)
		in.Buffer(make([]byte, 0, maxCommandLine), maxCommandLine)
		for in.Scan() {
			select {
			case text <- in.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return text
}

type stringList []string

func (l *stringList) String() string     { return strings.Join(*l, ",") }
func (l *stringList) Set(s string) error { *l = append(*l, s); return nil }

// session is one run of the reader command; one goroutine owns it.
type session struct {
	field *Field
	chip  *Chip
	known map[string]*Card // at most maxKnownCards
	names []string         // of --card
	out   io.Writer
	json  bool
}

func (s *session) run(ctx context.Context, lines <-chan string, events <-chan Event) {
	var lift <-chan time.Time // set while a tap lasts; no command is read meanwhile
	for {
		commands := lines
		if lift != nil {
			commands = nil
		}
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			s.event(e.Kind, e.Count)
		case <-lift:
			lift = nil
			s.field.Clear()
			s.event("lifted", 0)
		case line, ok := <-commands:
			if !ok {
				lines = nil
				continue
			}
			hold, quit, err := s.do(strings.Fields(line))
			if err != nil {
				s.print(map[string]any{"t": monotonic(), "error": err.Error()})
			}
			if quit {
				return
			}
			if hold > 0 {
				lift = time.After(hold)
			}
		}
	}
}

// do runs one command; hold is how long a tap keeps the card in the field.
func (s *session) do(words []string) (hold time.Duration, quit bool, err error) {
	if len(words) == 0 {
		return 0, false, nil
	}
	switch words[0] {
	case "quit":
		return 0, true, nil
	case "lift":
		s.field.Clear()
		s.event("lifted", 0)
		return 0, false, nil
	case "place":
		return 0, false, s.place(words[1:], s.names)
	case "tap":
		hold, names := defaultTap, words[1:]
		if n := len(names); n > 0 {
			if ms, err := strconv.Atoi(names[n-1]); err == nil {
				hold, names = time.Duration(ms)*time.Millisecond, names[:n-1]
			}
		}
		if hold <= 0 || hold > maxTap {
			return 0, false, fmt.Errorf("tap of %v: want up to %v", hold, maxTap)
		}
		return hold, false, s.place(names, s.names[:min(1, len(s.names))])
	case "slow", "leave":
		return 0, false, s.temper(words)
	case "fault":
		return 0, false, s.misbehave(words[1:])
	}
	return 0, false, fmt.Errorf("unknown command %q", words[0])
}

func (s *session) place(names, defaults []string) error {
	if len(names) == 0 {
		names = defaults
	}
	if len(names) == 0 {
		return fmt.Errorf("no card named, and none given with --card")
	}
	for _, name := range names {
		k, err := s.card(name)
		if err != nil {
			return err
		}
		if err := s.field.Place(k); err != nil {
			return err
		}
	}
	s.event("placed", len(names))
	return nil
}

// temper changes how cards behave that are not in the field: WORD NUMBER [CARD]. The chip reads a card's fields while it is
// there, and perhaps for a moment longer, so it is a copy that behaves otherwise from now on.
func (s *session) temper(words []string) error {
	what, most := words[0], int(maxSlow/time.Millisecond)
	if what == "leave" {
		most = maxLeave
	}
	if len(words) < 2 || len(words) > 3 {
		return fmt.Errorf("%s: want a number up to %d and perhaps a card", what, most)
	}
	n, err := strconv.Atoi(words[1])
	if err != nil || n < 0 || n > most {
		return fmt.Errorf("%s %s: want a number up to %d", what, words[1], most)
	}
	names := words[2:]
	if len(names) == 0 {
		names = s.names
	}
	if len(names) == 0 {
		return fmt.Errorf("no card named, and none given with --card")
	}
	changed := map[string]*Card{}
	for _, name := range names {
		k, err := s.card(name)
		switch {
		case err != nil:
			return err
		case k.Answer == nil:
			return fmt.Errorf("%s %s: a card that is only a number exchanges nothing", what, name)
		case s.field.has(k):
			return fmt.Errorf("%s %s: it is in the field; lift it first", what, name)
		}
		next := *k
		if what == "slow" {
			next.Delay = time.Duration(n) * time.Millisecond
		} else {
			next.LeaveAfter = n
		}
		changed[name] = &next
	}
	maps.Copy(s.known, changed)
	s.event(what, n)
	return nil
}

func (s *session) misbehave(words []string) error {
	if len(words) == 0 || len(words) > 2 {
		return fmt.Errorf("fault NAME [N]: want one of %v or none", Faults())
	}
	n := -1
	if len(words) == 2 {
		var err error
		if n, err = strconv.Atoi(words[1]); err != nil || n < 0 {
			return fmt.Errorf("fault %s %s: want a number of commands", words[0], words[1])
		}
	}
	if err := s.chip.Inject(Fault(words[0]), n); err != nil {
		return err
	}
	s.event("fault-"+words[0], n)
	return nil
}

// card finds or makes the card of a name.
func (s *session) card(name string) (*Card, error) {
	if k := s.known[name]; k != nil {
		return k, nil
	}
	if len(s.known) >= maxKnownCards {
		return nil, fmt.Errorf("more than %d cards named", maxKnownCards)
	}
	k, err := LoadCard(name)
	if err != nil {
		return nil, err
	}
	s.known[name] = k
	return k, nil
}

// LoadCard makes the card that a name stands for: uid:HEX, or a PKOC key file.
func LoadCard(name string) (*Card, error) {
	if digits, ok := strings.CutPrefix(name, "uid:"); ok {
		uid, err := hex.DecodeString(digits)
		if err != nil {
			return nil, fmt.Errorf("reading card %s: %w", name, err)
		}
		return NewUID(uid)
	}
	key, err := card.LoadKey(name)
	if err != nil {
		return nil, err
	}
	return NewPKOC(key), nil
}

func (s *session) event(kind string, count int) {
	if s.json {
		s.print(map[string]any{"t": monotonic(), "event": kind, "n": count})
		return
	}
	fmt.Fprintf(s.out, "%s %d\n", kind, count)
}

func (s *session) print(v map[string]any) {
	text, err := json.Marshal(v)
	if err != nil {
		return // strings and integers only: cannot happen
	}
	fmt.Fprintf(s.out, "%s\n", text)
}

// monotonic is the clock of the board protocol, so that a tap and a lock's pulse compare.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano()
}
