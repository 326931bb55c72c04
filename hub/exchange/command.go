package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"kith/hub/registry"
	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/command"
	"kith/internal/health"
)

// Program is the command line of the hub.
func Program(version string) command.Program {
	at := "[--config FILE] [--state-dir DIR]"
	return command.Program{Name: "hub", About: "collects, co-signs, shows and exports the network's journals (version " + version + ")", Verbs: []command.Verb{
		{Name: "run", Args: at + " [--log text|json]", Help: "work until told to stop", Run: runVerb(version)},
		{Name: "status", Args: at + " [--json]", Help: "the health of the running hub", Run: statusVerb},
		{Name: "verify", Args: "[BUNDLE...] | " + at + " [--json]", Help: "recompute every root, receipt, commitment and projection, or, of bundles and proofs of balance, everything that they say; name the first difference", Run: verifyVerb},
		{Name: "export", Args: at, Help: "every leaf with its proof state, as JSON lines", Run: exportVerb},
		{Name: "books", Args: at + " [--format ledger|beancount|csv|balances|jsonl|valueflows]", Help: "the whole book of the posted periods, for another accounting program", Run: booksVerb},
		{Name: "report", Args: at + " PERIOD [--out DIR] [--json] [--from DIR]", Help: "the public report of a posted period, which names nobody; published once, then the same for ever", Run: reportVerb},
		{Name: "backup", Args: at + " [--json]", Help: "copy the database, verify the copy, raise the edges' watermark; keys/ is not in it: keep a copy of that too, in a safe place", Run: backupVerb},
		{Name: "restore", Args: at + " BACKUP [--json]", Help: "make a state directory from a backup, once the lost hub's keys/ is copied into it; edges then send again what it lacks", Run: restoreVerb},
		{Name: "edge add", Args: at + " EDGE --node NODE --out DIR [--hub HOST:PORT]", Help: "admit an edge and write its certificate, keys and first configuration", Run: orderVerb("edge add", edgeAdd)},
		{Name: "member add", Args: at + " MEMBER --name NAME --home NODE [--role ROLE] [--group G]... [--until TIME]", Help: "add or change a person", Run: orderVerb("member add", memberAdd)},
		{Name: "card add", Args: at + " CARD --member MEMBER [--until TIME]", Help: "give a person a card (pkoc:..., uid:..., or a card file)", Run: orderVerb("card add", cardAdd)},
		{Name: "schedule add", Args: at + " SCHEDULE --node NODE --span \"mon-fri 08:00-20:00\"... [--holiday DATE]...", Help: "name weekly hours of a node", Run: orderVerb("schedule add", scheduleAdd)},
		{Name: "grant add", Args: at + " GRANT --node NODE (--member M | --group G) (--door D | --zone Z)... [--schedule S] [--until TIME]", Help: "let people through doors", Run: orderVerb("grant add", grantAdd)},
		{Name: "resource add", Args: at + " RESOURCE --node NODE --measure M [--action A]... [--offered] [--group G]... [limits]", Help: "put a kind of thing into a node's catalogue", Run: orderVerb("resource add", resourceAdd)},
		{Name: "revoke", Args: at + " (card CARD | member MEMBER | grant NODE/GRANT | edge EDGE | resource NODE/RESOURCE)", Help: "take it back at once", Run: orderVerb("revoke", revoke)},
		{Name: "door", Args: at + " (close | open) NODE/DOOR", Help: "close a door for everybody, or open it again to those with a right", Run: orderVerb("door", doorOrder)},
		{Name: "archive", Args: at + " FILE", Help: "bring back leaves that the hub has lost, from an older export", Run: orderVerb("archive", archiveOrder)},
		{Name: "release", Args: at + " EDGE", Help: "let a held edge count again, once you know why it had two histories", Run: orderVerb("release", releaseOrder)},
		{Name: "member erase", Args: at + " MEMBER", Help: "forget a person: name, cards, private parts and the backups that still hold them; every proof stands", Run: orderVerb("member erase", memberErase)},
		{Name: "period close", Args: at + " PERIOD [--day DATE]", Help: "cut at the newest receipts, derive, clear and propose the statement", Run: orderVerb("period close", periodOrder("close", 1))},
		{Name: "period list", Args: at + " [--json]", Help: "every period and its state", Run: orderVerb("period list", periodOrder("list", 0))},
		{Name: "period show", Args: at + " PERIOD [--json]", Help: "its statements, obligations and disputes", Run: orderVerb("period show", periodOrder("show", 1))},
		{Name: "period dispute", Args: at + " PERIOD OBLIGATION --by NODE --reason TEXT", Help: "take one obligation out; a new statement follows, the old one stays readable", Run: orderVerb("period dispute", periodOrder("dispute", 2))},
		{Name: "period decide", Args: at + " PERIOD OBLIGATION --by NODE --outcome stand|amend|void --reason TEXT", Help: "decide a dispute, as a third node", Run: orderVerb("period decide", periodOrder("decide", 2))},
		{Name: "period lapse", Args: at + " PERIOD", Help: "decide by their evidence the disputes that nobody answered in time", Run: orderVerb("period lapse", periodOrder("lapse", 1))},
		{Name: "period confirm", Args: at + " PERIOD --by NODE", Help: "a party's early yes; with all of them the challenge window need not run out", Run: orderVerb("period confirm", periodOrder("confirm", 1))},
		{Name: "period finalise", Args: at + " PERIOD", Help: "after the challenge window: nothing can be disputed any more", Run: orderVerb("period finalise", periodOrder("finalise", 1))},
		{Name: "period exit", Args: at + " PERIOD NODE [--choice \"OBLIGATION REMAINDER NODE,NODE [DATE]\"]...", Help: "let a node go with this period, once it is final: what it has left over is answered or frozen", Run: orderVerb("period exit", periodOrder("exit", 2))},
		{Name: "period post", Args: at + " PERIOD", Help: "book it and seal the balances", Run: orderVerb("period post", periodOrder("post", 1))},
		{Name: "period bundle", Args: at + " PERIOD --out FILE", Help: "write the audit bundle of a posted period", Run: orderVerb("period bundle", periodOrder("bundle", 1))},
		{Name: "period balance", Args: at + " PERIOD NODE [--unit UNIT] [--out FILE] [--json]", Help: "what stood on a house's accounts under the seal of a posted period; FILE is the house's own proof of it", Run: orderVerb("period balance", periodOrder("balance", 2))},
		{Name: "period adopt", Args: at + " FILE [--operator KEY]", Help: "take a period over from its bundle, on a hub that starts anew", Run: orderVerb("period adopt", periodOrder("adopt", 1))},
		{Name: "advice", Args: at + " [--json]", Help: "what would balance the houses now, with the reason for each line", Run: orderVerb("advice", adviceOrder("list"))},
		{Name: "advice accept", Args: at + " ID [--quantity N]", Help: "sign a commitment to a line of advice", Run: orderVerb("advice accept", adviceOrder("accept"))},
		{Name: "commitment list", Args: at + " [--json]", Help: "every commitment that the operator signed, the newest first", Run: orderVerb("commitment list", commitmentOrder("list"))},
		{Name: "commitment cancel", Args: at + " ID [--reason TEXT]", Help: "take a commitment back with a second signed note", Run: orderVerb("commitment cancel", commitmentOrder("cancel"))},
		{Name: "list", Args: at + " nodes|edges|members|cards|grants|resources [--json]", Help: "what the registry holds", Run: orderVerb("list", listOrder)},
	}}
}

// place is what the flags say that all verbs share, and --json of those whose answer can be JSON.
type place struct {
	config, state, log string
	json, debug        bool
}

func placeFlags(f *flag.FlagSet) *place {
	p := &place{}
	f.StringVar(&p.config, "config", "hub.yaml", "configuration `FILE`")
	f.StringVar(&p.state, "state-dir", "", "`DIR` of database and keys; default: state/ beside the configuration")
	return p
}

// answerFlags are those of a verb whose answer can be JSON.
func answerFlags(f *flag.FlagSet) *place {
	p := placeFlags(f)
	f.BoolVar(&p.json, "json", false, "print JSON")
	return p
}

func (p *place) fill() {
	if p.state == "" {
		p.state = filepath.Join(filepath.Dir(p.config), "state")
	}
}

// request builds an order from flags and plain arguments.
type request func(f *flag.FlagSet) (plain int, build func(args []string) (Order, error))

func orderVerb(name string, r request) func(context.Context, command.Streams, []string) int {
	return func(ctx context.Context, s command.Streams, args []string) int {
		f := command.Flags(s, "hub "+name)
		p := answerFlags(f)
		n, build := r(f)
		plain, code, ok := command.Parse(s, f, args, n)
		if !ok {
			return code
		}
		p.fill()
		if len(plain) < n {
			fmt.Fprintf(s.Err, "hub %s: an argument is missing; \"hub %s --help\" shows the form\n", name, name)
			return command.Usage
		}
		o, err := build(plain)
		if err != nil {
			fmt.Fprintf(s.Err, "hub %s: %v\n", name, err)
			return command.Usage
		}
		a, err := give(ctx, p, o)
		if err != nil {
			return command.Fail(s, "hub "+name, err)
		}
		printAnswer(s.Out, a, p.json)
		return command.OK
	}
}

// give hands an order to the running hub or, when none runs, opens the state directory and carries it out here.
func give(ctx context.Context, p *place, o Order) (Answer, error) {
	a, err := send(ctx, p.state, o)
	if !errors.Is(err, errNotRunning) {
		return a, err
	}
	cfg, err := Load(p.config)
	if err != nil {
		return Answer{}, err
	}
	x, err := openDesk(ctx, cfg, Options{StateDir: p.state, existing: o.Change == nil && o.Bundle == nil && (o.Period == nil || o.Period.Do != "adopt")})
	if err != nil {
		return Answer{}, err
	}
	a, err = x.Do(ctx, o)
	return a, errors.Join(err, x.close())
}

func printAnswer(w io.Writer, a Answer, asJSON bool) {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(a); err != nil {
			fmt.Fprintln(w, err)
		}
		return
	}
	for _, n := range a.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\n", n.ID, n.Name, n.Zone)
	}
	for _, e := range a.Edges {
		state := "admitted"
		if e.Retired != 0 {
			state = "retired"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", e.ID, e.Node, state)
	}
	for _, m := range a.Members {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.ID, m.Name, m.Home, m.Role, strings.Join(m.Groups, ","))
	}
	for _, c := range a.Cards {
		state := "valid"
		if c.Revoked {
			state = "revoked"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.ID, c.Member, state)
	}
	for _, g := range a.Grants {
		fmt.Fprintf(w, "%s/%s\t%s%s\t%s\t%s\n", g.Node, g.ID, g.Member, g.Group, strings.Join(append(g.Doors, g.Zones...), ","), g.Grant.Schedule)
	}
	for _, r := range a.Resources {
		offered := "at home"
		if r.Offered {
			offered = "offered"
		}
		fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%s\n", r.Node, r.ID, r.Name, r.Measure, strings.Join(r.Actions, ","), offered)
	}
	for _, f := range a.Files {
		fmt.Fprintf(w, "wrote %s\n", f)
	}
	for _, r := range a.Rosters {
		fmt.Fprintf(w, "roster of %s is now version %d\n", r.Node, r.Version)
	}
	for _, d := range a.Unheard {
		fmt.Fprintf(w, "no edge has told of a door %s yet: is it spelt so? It is closed from its first start on\n", d)
	}
	for _, g := range a.Filled {
		fmt.Fprintf(w, "brought back %s\n", g)
	}
	for i := range a.Periods {
		a.Periods[i].print(w)
	}
	if a.Balance != nil {
		fmt.Fprintf(w, "%s, when period %s was sealed:\n", a.Balance.Node, a.Balance.Period)
		printAccounts(w, a.Balance)
	}
	if a.Advice != nil {
		printAdvice(w, a.Advice)
	}
	for i := range a.Commitments {
		a.Commitments[i].print(w)
	}
	if a.Erased != nil {
		a.Erased.print(w)
	}
	if a.Report != nil {
		a.Report.print(w)
	}
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// moment is a flag for a time: 2026-12-31, RFC 3339, or a duration from now such as 72h.
type moment int64

func (m *moment) String() string { return "" }
func (m *moment) Set(s string) error {
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		*m = moment(time.Now().Add(d).Unix())
		return nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			*m = moment(t.Unix())
			return nil
		}
	}
	return fmt.Errorf("%q is not a time; write 2026-12-31, 2026-12-31T18:00:00Z or 72h", s)
}

func edgeAdd(f *flag.FlagSet) (int, func([]string) (Order, error)) {
	b := &BundleOrder{}
	f.StringVar(&b.Node, "node", "", "`NODE` the edge stands at")
	f.StringVar(&b.Name, "name", "", "`NAME` people know it by")
	f.StringVar(&b.Dir, "out", "", "`DIR` to write, which must not exist")
	f.StringVar(&b.Hub, "hub", "", "`HOST:PORT` of the broker as the edge reaches it; default: as configured")
	return 1, func(args []string) (Order, error) {
		b.Edge = args[0]
		if b.Node == "" || b.Dir == "" {
			return Order{}, errors.New("--node and --out are needed")
		}
		dir, err := filepath.Abs(b.Dir) // a running hub has another working directory
		b.Dir = dir
		return Order{Bundle: b}, err
	}
}

func memberAdd(f *flag.FlagSet) (int, func([]string) (Order, error)) {
	m := access.Member{}
	var groups list
	var from, until moment
	f.StringVar(&m.Name, "name", "", "chosen `NAME`")
	f.StringVar(&m.Home, "home", "", "home `NODE`")
	f.StringVar(&m.Role, "role", access.RoleResident, "`ROLE`: guest, resident, host, operator, governor or auditor")
	f.Var(&groups, "group", "`GROUP`, may be given several times")
	f.Var(&from, "from", "valid from `TIME`")
	f.Var(&until, "until", "valid until `TIME`")
	f.IntVar(&m.PulseMS, "pulse", 0, "longer door release for this person, in `MS`")
	return 1, func(args []string) (Order, error) {
		m.ID, m.Groups, m.From, m.Until = args[0], groups, int64(from), int64(until)
		return Order{Change: &registry.Change{Members: []access.Member{m}}}, nil
	}
}

func cardAdd(f *flag.FlagSet) (int, func([]string) (Order, error)) {
	c := access.Card{}
	var from, until moment
	f.StringVar(&c.Member, "member", "", "`MEMBER` who carries it")
	f.Var(&from, "from", "valid from `TIME`")
	f.Var(&until, "until", "valid until `TIME`")
	return 1, func(args []string) (Order, error) {
		id, err := cardID(args[0])
		c.ID, c.From, c.Until = id, int64(from), int64(until)
		return Order{Change: &registry.Change{Cards: []access.Card{c}}}, err
	}
}

// cardID takes the text of a card, or the file that a virtual card is made of.
func cardID(s string) (string, error) {
	c, err := card.ParseID(s)
	if err == nil {
		return c.ID(), nil
	}
	if strings.HasPrefix(s, "pkoc:") || strings.HasPrefix(s, "uid:") {
		return "", err
	}
	key, err := card.LoadKey(s)
	if err != nil {
		return "", fmt.Errorf("card %.80q is neither pkoc:..., uid:... nor a card file: %w", s, err)
	}
	return card.NewPKOCCard(key).Credential().ID(), nil
}

func scheduleAdd(f *flag.FlagSet) (int, func([]string) (Order, error)) {
	s := registry.Schedule{}
	var spans, holidays list
	f.StringVar(&s.Node, "node", "", "`NODE` it belongs to")
	f.Var(&spans, "span", "`\"mon-fri 08:00-20:00\"` or \"sat,sun 10:00-18:00\", may be given several times")
	f.Var(&holidays, "holiday", "closed on `DATE` (yyyy-mm-dd), may be given several times")
	return 1, func(args []string) (Order, error) {
		s.ID, s.Holidays = args[0], holidays
		for _, text := range spans {
			span, err := parseSpan(text)
			if err != nil {
				return Order{}, err
			}
			s.Spans = append(s.Spans, span)
		}
		return Order{Change: &registry.Change{Schedules: []registry.Schedule{s}}}, nil
	}
}

var week = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// parseSpan reads "mon-fri 08:00-20:00".
func parseSpan(text string) (access.Span, error) {
	days, hours, ok := strings.Cut(text, " ")
	from, to, ok2 := strings.Cut(hours, "-")
	if !ok || !ok2 {
		return access.Span{}, fmt.Errorf("span %q: write days and hours, such as \"mon-fri 08:00-20:00\"", text)
	}
	span := access.Span{From: from, To: to}
	for _, part := range strings.Split(days, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, b := index(week, first), index(week, last)
		if a < 0 || b < a {
			return access.Span{}, fmt.Errorf("span %q: days are mon, tue, wed, thu, fri, sat, sun, alone or as mon-fri", text)
		}
		span.Days = append(span.Days, week[a:b+1]...)
	}
	return span, nil
}

func index(list []string, s string) int {
	for i, v := range list {
		if v == s {
			return i
		}
	}
	return -1
}

func grantAdd(f *flag.FlagSet) (int, func([]string) (Order, error)) {
	g := registry.Grant{}
	var doors, zones list
	var from, until moment
	f.StringVar(&g.Node, "node", "", "`NODE` whose doors it opens")
	f.StringVar(&g.Grant.Member, "member", "", "one `MEMBER`")
	f.StringVar(&g.Grant.Group, "group", "", "or everybody in a `GROUP`")
	f.Var(&doors, "door", "`DOOR`, may be given several times")
	f.Var(&zones, "zone", "`ZONE`, may be given several times")
	f.StringVar(&g.Grant.Schedule, "schedule", "", "only within the hours of `SCHEDULE`")
	f.Var(&from, "from", "valid from `TIME`")
	f.Var(&until, "until", "valid until `TIME`")
	return 1, func(args []string) (Order, error) {
		g.Grant.ID, g.Doors, g.Zones, g.From, g.Until = args[0], doors, zones, int64(from), int64(until)
		return Order{Change: &registry.Change{Grants: []registry.Grant{g}}}, nil
	}
}

func resourceAdd(f *flag.FlagSet) (int, func([]string) (Order, error)) {
	r := registry.Resource{}
	var actions, groups list
	f.StringVar(&r.Node, "node", "", "`NODE` whose catalogue it is")
	f.StringVar(&r.Name, "name", "", "`NAME` people know it by")
	f.StringVar(&r.Measure, "measure", "", "what is counted, `MEASURE`: minute, night, piece, wh, km ...; it cannot be changed later")
	f.Var(&actions, "action", "`VERB` that may be entered, may be given several times; default: use")
	f.BoolVar(&r.Offered, "offered", false, "to members of other nodes too")
	f.Int64Var(&r.Capacity, "capacity", 0, "how `MANY` there are: counted on the board, in advice and in reports; no entry is refused for it")
	f.Var(&groups, "group", "only for members of `GROUP`, may be given several times")
	f.Int64Var(&r.MaxEntry, "max-entry", 0, "most `PARTS` of the measure in one entry")
	f.Int64Var(&r.MaxDay, "max-day", 0, "most `PARTS` of one member in a day")
	f.Int64Var(&r.Witness, "witness-from", 0, "from this many `PARTS` on a second member taps too; 1: always")
	f.IntVar(&r.Lead, "lead-hours", 0, "`HOURS` of notice that a request should give: told in the catalogue, no entry is refused for it")
	return 1, func(args []string) (Order, error) {
		r.Resource.ID, r.Actions, r.Groups = args[0], actions, groups
		return Order{Change: &registry.Change{Resources: []registry.Resource{r}}}, nil
	}
}

func revoke(*flag.FlagSet) (int, func([]string) (Order, error)) {
	return 2, func(args []string) (Order, error) {
		switch args[0] {
		case "card":
			id, err := cardID(args[1])
			return Order{RevokeCard: id}, err
		case "member":
			return Order{Block: args[1]}, nil
		case "edge":
			return Order{Change: &registry.Change{Retire: []string{args[1]}}}, nil
		case "grant", "resource":
			node, id, ok := strings.Cut(args[1], "/")
			if !ok {
				return Order{}, fmt.Errorf("%s %q: write NODE/ID", args[0], args[1])
			}
			key := []registry.Key{{Node: node, ID: id}}
			if args[0] == "resource" {
				return Order{Change: &registry.Change{DropResources: key}}, nil
			}
			return Order{Change: &registry.Change{DropGrants: key}}, nil
		}
		return Order{}, fmt.Errorf("revoke %q: want card, member, grant, edge or resource", args[0])
	}
}

func doorOrder(*flag.FlagSet) (int, func([]string) (Order, error)) {
	return 2, func(args []string) (Order, error) {
		node, door, ok := strings.Cut(args[1], "/")
		closure := []registry.Closure{{Node: node, Door: door}}
		switch {
		case ok && args[0] == "close":
			return Order{Change: &registry.Change{Close: closure}}, nil
		case ok && args[0] == "open":
			return Order{Change: &registry.Change{Open: closure}}, nil
		}
		return Order{}, errors.New("write: hub door close NODE/DOOR, or open")
	}
}

func archiveOrder(*flag.FlagSet) (int, func([]string) (Order, error)) {
	return 1, func(args []string) (Order, error) {
		file, err := filepath.Abs(args[0]) // a running hub has another working directory
		return Order{Archive: file}, err
	}
}

func releaseOrder(*flag.FlagSet) (int, func([]string) (Order, error)) {
	return 1, func(args []string) (Order, error) { return Order{Release: args[0]}, nil }
}

func listOrder(*flag.FlagSet) (int, func([]string) (Order, error)) {
	return 1, func(args []string) (Order, error) {
		switch args[0] {
		case "nodes", "edges", "members", "cards", "grants", "resources":
			return Order{List: args[0]}, nil
		}
		return Order{}, unlisted(args[0])
	}
}

func logger(w io.Writer, p *place) *slog.Logger {
	opt := &slog.HandlerOptions{}
	if p.debug {
		opt.Level = slog.LevelDebug
	}
	if p.log == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

func statusVerb(ctx context.Context, s command.Streams, args []string) int {
	f := command.Flags(s, "hub status")
	p := answerFlags(f)
	if _, code, ok := command.Parse(s, f, args, 0); !ok {
		return code
	}
	p.fill()
	well, err := health.Ask(ctx, filepath.Join(p.state, addrFile), s.Out, p.json)
	switch {
	case err != nil:
		return command.Fail(s, "hub status", err)
	case !well:
		return command.Failed
	}
	return command.OK
}
