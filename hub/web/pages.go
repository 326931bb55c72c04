package web

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"kith/internal/event"
	"kith/internal/page"
)

func (w *Web) network(rw http.ResponseWriter, r *http.Request) {
	nodes, err := w.o.Houses.Nodes(r.Context())
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	lines, err := w.o.Book.Lines(r.Context(), "", 0, HomeLines)
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	now := w.o.Now()
	v := networkView{Head: page.Head{Title: "Houses", Network: w.o.Network, Here: "/", Live: "/live", Nav: nav()}}
	zones := map[string]*Node{}
	for i := range nodes {
		n := &nodes[i]
		zones[n.ID] = n
		v.Houses = append(v.Houses, card(n, now))
		v.People += len(n.People)
		for _, p := range n.People {
			if p.Doubt != "" {
				v.Doubtful++
			}
		}
	}
	v.Days = days(lines, zones, now, true)
	w.render(rw, r, "network", v)
}

type networkView struct {
	Head             page.Head
	Houses           []houseCard
	People, Doubtful int
	Days             []day
}

// houseCard is a node at a glance.
type houseCard struct {
	Node    *Node
	Time    string
	In      int
	Doubt   int
	Faces   []face
	More    int
	Badges  []page.Badge
	Trouble bool
}

type face struct {
	Initials, Title string
	Doubt           bool
}

func card(n *Node, now time.Time) houseCard {
	c := houseCard{Node: n, Time: now.In(n.Zone).Format("15:04"), In: len(n.People), Badges: []page.Badge{linkBadge(n, now)}}
	for _, p := range n.People {
		if p.Doubt != "" {
			c.Doubt++
		}
		if len(c.Faces) < MaxFaces {
			name := called(p)
			c.Faces = append(c.Faces, face{page.Initials(name), name, p.Doubt != ""})
		}
	}
	c.More = len(n.People) - len(c.Faces)
	for _, d := range n.Doors {
		if b := doorBadge(d); b.Tone == "bad" || b.Tone == "warn" {
			c.Badges = append(c.Badges, page.Badge{Tone: b.Tone, Text: page.Pretty(d.ID) + ": " + b.Text})
		}
	}
	for _, e := range n.Edges {
		for _, t := range e.Trouble {
			c.Badges = append(c.Badges, page.Badge{Tone: "warn", Text: t})
		}
	}
	return c
}

func called(p Person) string {
	if p.Name != "" {
		return p.Name
	}
	return p.Member
}

func (w *Web) node(rw http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	nodes, err := w.o.Houses.Nodes(r.Context())
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	i := slices.IndexFunc(nodes, func(n Node) bool { return n.ID == id })
	if i < 0 {
		w.lost(rw, r)
		return
	}
	var before int64
	if text := r.URL.Query().Get("before"); text != "" {
		if before, err = strconv.ParseInt(text, 10, 64); err != nil || before <= 0 {
			w.lost(rw, r)
			return
		}
	}
	lines, err := w.o.Book.Lines(r.Context(), id, before, NodeLines)
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	n, now := &nodes[i], w.o.Now()
	v := nodeView{
		Head: page.Head{Title: n.Name, Network: w.o.Network, Here: r.URL.Path, Live: "/live?node=" + url.QueryEscape(id), Nav: nav(),
			Crumbs: []page.Link{{Href: "/node/" + id, Text: n.Name}}},
		Node: n, Card: card(n, now), Days: days(lines, map[string]*Node{id: n}, now, false), Past: before > 0,
	}
	if v.Past {
		v.Head.Live = "" // the past does not move
	}
	for _, p := range n.People {
		v.People = append(v.People, personRow{p, called(p), page.Initials(called(p)), moment(p.At, n.Zone, now), doubtBadge(p.Doubt), p.Home != "" && p.Home != id})
	}
	for _, d := range n.Doors {
		v.Doors = append(v.Doors, doorRow{d, doorBadge(d), moment(d.At, n.Zone, now)})
	}
	for _, e := range n.Edges {
		v.Edges = append(v.Edges, edgeRow{Edge: e, Badge: edgeBadge(e), Heard: moment(e.Heard, n.Zone, now), Facts: edgeFacts(e)})
	}
	if len(lines) == NodeLines {
		v.Older = fmt.Sprintf("/node/%s?before=%d", id, lines[len(lines)-1].At)
	}
	w.render(rw, r, "node", v)
}

type nodeView struct {
	Head   page.Head
	Node   *Node
	Card   houseCard
	People []personRow
	Doors  []doorRow
	Edges  []edgeRow
	Days   []day
	Older  string
	Past   bool
}

type personRow struct {
	Person   Person
	Name     string
	Initials string
	Since    page.Moment
	Doubt    page.Badge
	Visitor  bool
}

type doorRow struct {
	Door  Door
	Badge page.Badge
	Since page.Moment
}

type edgeRow struct {
	Edge  Edge
	Badge page.Badge
	Heard page.Moment
	Facts [][2]string
}

// day is a stretch of the list under one heading.
type day struct {
	Title string
	Lines []lineRow
}

// lineRow is one line in words.
type lineRow struct {
	Href  string
	When  page.Moment
	Who   string // empty for things
	What  string
	Where string
	Badge page.Badge
	Proof string // a word when the line is not receipted yet
}

// days cuts lines into days of the house they belong to.
func days(lines []Line, nodes map[string]*Node, now time.Time, named bool) []day {
	var out []day
	for _, l := range lines {
		zone, where := time.UTC, page.Pretty(l.Node)
		if n := nodes[l.Node]; n != nil {
			zone, where = n.Zone, n.Name
		}
		row := words(l)
		row.When = lineMoment(l, zone, now)
		row.Href = fmt.Sprintf("/event/%s/%s/%d", l.Edge, l.Epoch, l.Index)
		if named {
			row.Where = join(row.Where, where)
		}
		title := row.When.Day()
		if named {
			title = row.When.Stretch() // houses in many zones do not share a day
		}
		if len(out) == 0 || out[len(out)-1].Title != title {
			out = append(out, day{Title: title})
		}
		last := &out[len(out)-1]
		last.Lines = append(last.Lines, row)
	}
	return out
}

func moment(ms int64, zone *time.Location, now time.Time) page.Moment {
	return page.Moment{At: time.UnixMilli(ms).In(zone), Now: now}
}

func lineMoment(l Line, zone *time.Location, now time.Time) page.Moment {
	m := moment(l.At, zone, now)
	m.Shaky = l.Clock != event.Synced
	m.Rough = (l.Kind == event.KindTap || l.Kind.IsEntry()) && l.Member == "" && page.Hour(l.At)
	return m
}

func (w *Web) event(rw http.ResponseWriter, r *http.Request) {
	epoch, err1 := event.ParseEpoch(r.PathValue("epoch"))
	index, err2 := strconv.ParseUint(r.PathValue("index"), 10, 62)
	edge := r.PathValue("edge")
	if err1 != nil || err2 != nil || !event.IsID(edge) {
		w.lost(rw, r)
		return
	}
	e, err := w.o.Book.Event(r.Context(), Address{edge, epoch, index})
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	nodes, err := w.o.Houses.Nodes(r.Context())
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	zone, name, now := time.UTC, page.Pretty(e.Node), w.o.Now()
	if i := slices.IndexFunc(nodes, func(n Node) bool { return n.ID == e.Node }); i >= 0 {
		zone, name = nodes[i].Zone, nodes[i].Name
	}
	v := eventView{Event: e, Edge: edge, Epoch: epoch.String(), Index: index, House: name, When: moment(e.At, zone, now)}
	if e.HasLine {
		v.Row = words(e.Line)
		v.When = lineMoment(e.Line, zone, now)
		v.Title = join2(v.Row.Who, v.Row.What)
		v.Late = e.Line.Note == "late"
	} else {
		v.Row.What = page.Pretty(string(e.Kind))
		if e.Kind == "" {
			v.Row.What = "A line that this hub cannot read"
		}
		v.Title = v.Row.What
	}
	if e.Proof.Receipted && !e.Proof.Time.IsZero() {
		v.Signed = page.Moment{At: e.Proof.Time.In(zone), Now: now}
	}
	v.Head = page.Head{Title: v.Title, Network: w.o.Network, Here: r.URL.Path, Nav: nav()}
	if e.Node != "" {
		v.Head.Crumbs = []page.Link{{Href: "/node/" + e.Node, Text: name}}
	}
	w.render(rw, r, "event", v)
}

type eventView struct {
	Head        page.Head
	Event       Event
	Title       string
	Row         lineRow
	House       string
	Edge, Epoch string
	Index       uint64
	When        page.Moment
	Signed      page.Moment
	Late        bool
}

// render writes the whole page into memory first, so that a fault in the middle does not show half a page.
func (w *Web) render(rw http.ResponseWriter, r *http.Request, name string, v any) {
	w.write(rw, r, name, http.StatusOK, v)
}

func (w *Web) write(rw http.ResponseWriter, r *http.Request, name string, code int, v any) {
	var buf bytes.Buffer
	if err := w.pages[name].Execute(&buf, v); err != nil {
		w.o.Log.ErrorContext(r.Context(), "page not rendered", "page", name, "err", err)
		http.Error(rw, "this page could not be made; the log of the hub says why", http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.Header().Set("Cache-Control", "no-store") // who is at home is nobody's cache's business
	rw.WriteHeader(code)
	_, _ = rw.Write(buf.Bytes()) // the reader went away: nobody is left to tell
}

type faultView struct {
	Head  page.Head
	Title string
	Text  string
}

func (w *Web) lost(rw http.ResponseWriter, r *http.Request) {
	w.write(rw, r, "fault", http.StatusNotFound, faultView{page.Head{Title: "Nothing here", Network: w.o.Network, Nav: nav()}, "Nothing here",
		"No house, event or page has this address. It may have been mistyped, or never arrived at this hub."})
}

// fail answers what could not be read; what is not known here is lost.
func (w *Web) fail(rw http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, ErrUnknown) {
		w.lost(rw, r)
		return
	}
	w.o.Log.ErrorContext(r.Context(), "page not answered", "err", err)
	w.write(rw, r, "fault", http.StatusInternalServerError, faultView{page.Head{Title: "Not now", Network: w.o.Network, Nav: nav()}, "Not now",
		"The hub could not read its own book. Doors go on by themselves. /health names the first thing that failed."})
}

func (w *Web) ready(rw http.ResponseWriter, r *http.Request) {
	if _, err := w.o.Houses.Nodes(r.Context()); err != nil {
		http.Error(rw, "not ready", http.StatusServiceUnavailable)
		return
	}
	_, _ = rw.Write([]byte("ready\n"))
}
