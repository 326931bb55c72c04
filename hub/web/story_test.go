package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/internal/event"
	"kith/internal/health"
)

// story is a network in every state that a page can show.
type story struct {
	mu    sync.Mutex // guards lines: a test adds some while pages are read
	nodes []Node
	lines []Line
	event map[Address]Event
	fail  error
	now   Period
	asked Asked         // the last question about a period
	held  chan struct{} // bundles wait for it
}

var (
	storyNow   = time.Date(2026, 11, 21, 10, 42, 30, 0, time.UTC)
	storyEpoch = event.Epoch{0xab, 0xcd}
)

func zone(name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return z
}

func ago(d time.Duration) int64 { return storyNow.Add(-d).UnixMilli() }

func newStory() *story {
	lisbon := Node{ID: "lisbon", Name: "Casa da Graça", Zone: zone("Europe/Lisbon")}
	for i, n := range []string{"Ana Ribeiro", "Bo Lindqvist", "Chidi Okafor", "Dagný", "Eva Martins", "Farid", "Gil", "Hana Sato", "Ines", "João Pedro", "Kwame"} {
		lisbon.People = append(lisbon.People, Person{Member: strings.ToLower(strings.Fields(n)[0]), Name: n, Home: "lisbon", Door: "front", At: ago(time.Duration(3+i*37) * time.Minute)})
	}
	for _, i := range []int{2, 7} {
		lisbon.People[i].Home, lisbon.People[i].House = "kyoto", "Kyōto Machiya"
	}
	lisbon.People[5].Doubt, lisbon.People[10].Doubt = "no-exit", "long-ago"
	lisbon.People[10].At = ago(26 * time.Hour)
	lisbon.Doors = []Door{{Edge: "lisbon-front", ID: "front", State: "relocked", At: ago(3 * time.Minute)}, {Edge: "lisbon-front", ID: "workshop", State: "held", At: ago(11 * time.Minute)},
		{Edge: "lisbon-roof", ID: "roof-terrace", State: "closed", Closed: true, At: ago(16 * time.Hour)}}
	lisbon.Edges = []Edge{{ID: "lisbon-front", Name: "Front hall", Link: Connected, Heard: ago(8 * time.Second), Size: 48213, Receipted: 48213, Backup: 47990, Epochs: 1, Roster: 112, RosterNewest: 112, Version: "0.3.1"},
		{ID: "lisbon-roof", Name: "Roof", Link: Connected, Heard: ago(20 * time.Second), Size: 9120, Receipted: 9020, Behind: 214, Backup: 9000, Epochs: 2, Roster: 111, RosterNewest: 112, Version: "0.3.1", Trouble: []string{"disk nearly full"}}}
	kyoto := Node{ID: "kyoto", Name: "Kyōto Machiya", Zone: zone("Asia/Tokyo"), People: []Person{
		{Member: "yuki", Name: "Yuki", Home: "kyoto", Door: "gate", At: ago(2 * time.Hour)}, {Member: "marta", Name: "Marta Costa", Home: "lisbon", Door: "gate", At: ago(5 * time.Hour), Doubt: "no-exit"}},
		Doors: []Door{{Edge: "kyoto-gate", ID: "gate", State: "relocked", At: ago(2 * time.Hour)}},
		Edges: []Edge{{ID: "kyoto-gate", Link: Away, Heard: ago(95 * time.Minute), Size: 20114, Receipted: 20114, Backup: 20114, Epochs: 1, Roster: 40, RosterNewest: 41, Version: "0.3.1"}}}
	forest := Node{ID: "forest", Name: "Forest camp", Zone: zone("America/Costa_Rica"), Edges: []Edge{{ID: "forest-barn", Link: Never}}}
	bad := Node{ID: "hostile", Name: hostile, Zone: zone("Pacific/Kiritimati"), People: []Person{{Member: "m", Name: hostile, Home: "lisbon", Door: "front", At: ago(time.Minute)},
		{Member: "n", Name: "\u202eevil\u202c مرحبا بكم", Home: "lisbon", Door: "front", At: ago(time.Hour)}, {Member: "o", Name: strings.Repeat("Wolfeschlegelsteinhausen", 8), Home: "lisbon", Door: "front", At: ago(2 * time.Hour)},
		{Member: "p", Name: "👩‍🚀🏳️‍🌈", Home: "lisbon", Door: "front", At: ago(2 * time.Hour)}},
		Edges: []Edge{{ID: "hostile-front", Link: Held, Heard: ago(time.Hour), Size: 10, Receipted: 5}}, Doors: []Door{{Edge: "hostile-front", ID: "front", State: "forced", At: ago(time.Minute)}}}
	s := &story{nodes: []Node{lisbon, kyoto, forest, bad}, event: map[Address]Event{}}
	s.now = storyPeriod()
	s.tell()
	return s
}

const hostile = `<script>alert(1)</script> "'&{{.}} ­`

func (s *story) tell() {
	tap := func(index uint64, node, who, name, dir, verdict, reason, says, assurance string, before time.Duration, receipted bool) {
		s.lines = append(s.lines, Line{Node: node, Edge: node + "-front", Epoch: storyEpoch, Index: index, Kind: event.KindTap, At: ago(before), Clock: event.Synced, Door: "front",
			Direction: dir, Verdict: verdict, Reason: reason, Assurance: assurance, Member: who, Name: name, Says: says, Receipted: receipted})
	}
	thing := func(index uint64, node, kind, door, note string, before time.Duration) {
		s.lines = append(s.lines, Line{Node: node, Edge: node + "-front", Epoch: storyEpoch, Index: index, Kind: event.Kind(kind), At: ago(before), Clock: event.Synced, Door: door, Note: note, Receipted: true})
	}
	tap(48212, "lisbon", "ana", "Ana Ribeiro", "in", "grant", "granted", "let in", "pkoc", 3*time.Minute, false)
	tap(48209, "lisbon", "", "", "in", "deny", "unknown-card", "this card is not known here", "pkoc", 9*time.Minute, true)
	thing(48205, "lisbon", "door", "workshop", "held", 11*time.Minute)
	tap(48200, "lisbon", "bo", "Bo Lindqvist", "in", "grant", "granted", "let in", "uid", 40*time.Minute, true)
	tap(48199, "hostile", "m", hostile, "pass", "grant", "granted", "let in", "pkoc", 55*time.Minute, true)
	tap(48198, "lisbon", "tom", "Tom", "in", "deny", "closed", "outside the hours", "pkoc", 65*time.Minute, true)
	thing(48190, "hostile", "door", "front", "forced", 80*time.Minute)
	tap(20113, "kyoto", "yuki", "Yuki", "in", "grant", "granted", "let in", "pkoc", 2*time.Hour, true)
	tap(48170, "lisbon", "eva", "Eva Martins", "out", "grant", "granted", "let in", "pkoc", 150*time.Minute, true)
	thing(48100, "lisbon", "reader", "front-in", "up", 5*time.Hour)
	thing(48099, "lisbon", "reader", "front-in", "down", 5*time.Hour+time.Minute)
	thing(48001, "lisbon", "boot", "", "unclean", 26*time.Hour)
	tap(48000, "lisbon", "", "", "in", "grant", "granted", "let in", "pkoc", 26*time.Hour+42*time.Minute+30*time.Second, true)
	thing(47999, "lisbon", "clock", "", "unsure", 50*time.Hour)
	thing(47990, "lisbon", "roster", "", "112", 51*time.Hour)
	steps := []Step{{"card", "yes", "proved its own key by a fresh signature", "PKOC, P-256: cannot be copied"}, {"person", "yes", "Ana Ribeiro", "resident, at home in lisbon"},
		{"grant", "yes", "residents", "for the group residents: front, kitchen"}, {"rule", "yes", "at any time", ""}, {"verdict", "yes", "let in", "roster version 112, decided in 1.830 ms"}}
	leaf := `{"v":1,"net":"demo","node":"lisbon","edge":"lisbon-front","epoch":"abcd0000000000000000000000000000","i":48200,"kind":"tap","at":1795255200000,"clock":"synced","boot":"00112233445566aa","mono":0,"body":{"door":"front","reader":"front-in","dir":"in","verdict":"grant","reason":"granted","assurance":"pkoc","roster":112},"c":"efc80b6ba21ed2b33a2a2eb5ab7ba7bd3c2ee5f26cbbd1f2dba0cdf0a1f19b0b"}`
	path := []string{"NYxUYOHKOffcz7EfgcqTxzfY1zDDcgzXm+BmtlhK4eE=", "qL79zXQAMx7pdPUqMq4U+mFUSEnNAtDNb6AU2G65ROE=", "wYhIF4aQIxjUOxVysRkXYvQcwE40XyTmSK1AAZmYBFI="}
	s.event[opaqueAddress] = Event{Leaf: `{"v":2,"net":"demo"}`, Private: "none", Proof: Proof{Receipted: true, Size: 48213, Root: path[0], Leaf: path[0], Path: path, Holds: true}}
	for _, l := range s.lines {
		e := Event{Line: l, HasLine: true, Kind: l.Kind, Node: l.Node, At: l.At, Leaf: leaf, Private: "present",
			Proof: Proof{Receipted: l.Receipted, Size: 48213, Root: "0Iwtp6bj8LUMLqhpiUKDYkiDHV0DBxuhRqouP3ZzS1E=", Leaf: path[0], Path: path, Holds: true, Time: storyNow.Add(-2 * time.Minute)}}
		if l.Kind == event.KindTap {
			e.Steps = append([]Step(nil), steps...)
			e.Steps[1].Text = l.Name
		}
		switch l.Reason {
		case "closed":
			e.Steps[3], e.Steps[4] = Step{"rule", "no", "day", "mon tue wed thu fri 08:00–20:00; closed on 3 named days"}, Step{"verdict", "no", "outside the hours", "roster version 112, decided in 0.091 ms"}
			e.Proof.Holds = false
		case "unknown-card":
			e.Steps[1], e.Steps[2], e.Steps[3] = Step{"person", "no", "nobody known", "this house's roster did not hold the card"}, Step{"grant", "no", "none fits", ""}, Step{"rule", "plain", "none was asked", ""}
			e.Steps[4] = Step{"verdict", "no", "this card is not known here", "roster version 112"}
			e.Private = "erased"
		}
		s.event[Address{l.Edge, l.Epoch, l.Index}] = e
	}
}

// opaqueAddress is of a line that the hub cannot read.
var opaqueAddress = Address{"lisbon-front", storyEpoch, 47000}

func (s *story) Nodes(context.Context) ([]Node, error) { return s.nodes, s.fail }

func (s *story) Lines(_ context.Context, node string, before int64, limit int) ([]Line, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Line
	for _, l := range s.lines {
		if (node == "" || l.Node == node) && (before == 0 || l.At < before) && len(out) < limit {
			out = append(out, l)
		}
	}
	return out, s.fail
}

func (s *story) After(_ context.Context, cursor string, limit int) ([]Line, string, error) {
	if cursor != "" && cursor != "7-0" {
		return nil, "", ErrCursor
	}
	return s.lines[:min(limit, len(s.lines))], "7-0", s.fail
}

func (s *story) Event(_ context.Context, a Address) (Event, error) {
	if e, ok := s.event[a]; ok {
		return e, s.fail
	}
	return Event{}, errors.Join(ErrUnknown, s.fail)
}

func newWeb(t testing.TB, s *story) *Web {
	t.Helper()
	tree := health.New("hub", func() time.Time { return storyNow })
	tree.Set("hub", nil)
	metrics := health.NewMetrics(tree)
	w, err := New(Options{Network: "Kith demo", Houses: s, Book: s, Periods: s, Health: tree, Metrics: metrics.Handler(), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: func() time.Time { return storyNow }})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestStorybook serves every state of the pages for a look with one's own eyes:
// KITH_STORYBOOK=127.0.0.1:8099 go test -run TestStorybook -timeout 0 ./hub/web
func TestStorybook(t *testing.T) {
	address := os.Getenv("KITH_STORYBOOK")
	if address == "" {
		t.Skip("set KITH_STORYBOOK to an address to look at the pages")
	}
	s := newStory()
	w := newWeb(t, s)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("http://" + l.Addr().String())
	go func() {
		for range time.Tick(5 * time.Second) {
			w.Changed("lisbon")
		}
	}()
	if err := w.Serve(t.Context(), l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		t.Fatal(err)
	}
}

func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}
