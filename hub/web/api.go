package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

type apiNode struct {
	ID     string      `json:"id"`
	Name   string      `json:"name"`
	Zone   string      `json:"zone"`
	In     int         `json:"in"`
	Doubt  int         `json:"in_doubt"`
	People []apiPerson `json:"people"`
	Edges  []apiEdge   `json:"edges"`
	Doors  []apiDoor   `json:"doors"`
}

type apiPerson struct {
	Member string `json:"member"`
	Name   string `json:"name,omitempty"`
	Since  int64  `json:"since_ms"`
	Door   string `json:"door"`
	Doubt  string `json:"doubt,omitempty"`
}

type apiEdge struct {
	ID        string   `json:"id"`
	Link      Link     `json:"link"`
	Heard     int64    `json:"heard_ms"`
	Size      uint64   `json:"size"`
	Receipted uint64   `json:"receipted"`
	Behind    uint64   `json:"behind"`
	Backup    uint64   `json:"backup"`
	Roster    uint64   `json:"roster"`
	Trouble   []string `json:"trouble,omitempty"`
}

type apiDoor struct {
	Edge  string `json:"edge"`
	ID    string `json:"id"`
	State string `json:"state"`
	Since int64  `json:"since_ms"`
}

type apiEvent struct {
	Node      string `json:"node"`
	Edge      string `json:"edge"`
	Epoch     string `json:"epoch"`
	Index     uint64 `json:"index"`
	Kind      string `json:"kind"`
	At        int64  `json:"at_ms"`
	Clock     string `json:"clock"`
	Door      string `json:"door,omitempty"`
	Direction string `json:"direction,omitempty"`
	Verdict   string `json:"verdict,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Assurance string `json:"assurance,omitempty"`
	Member    string `json:"member,omitempty"`
	Note      string `json:"note,omitempty"`
	Receipted bool   `json:"receipted"`
}

func (w *Web) apiNodes(rw http.ResponseWriter, r *http.Request) {
	nodes, err := w.o.Houses.Nodes(r.Context())
	if err != nil {
		w.apiFail(rw, r, err)
		return
	}
	out := struct {
		Now   string    `json:"now"`
		Nodes []apiNode `json:"nodes"`
	}{w.o.Now().UTC().Format(time.RFC3339), []apiNode{}}
	for _, n := range nodes {
		a := apiNode{ID: n.ID, Name: n.Name, Zone: n.Zone.String(), In: len(n.People), People: []apiPerson{}, Edges: []apiEdge{}, Doors: []apiDoor{}}
		for _, p := range n.People {
			a.People = append(a.People, apiPerson{p.Member, p.Name, p.At, p.Door, p.Doubt})
			if p.Doubt != "" {
				a.Doubt++
			}
		}
		for _, e := range n.Edges {
			a.Edges = append(a.Edges, apiEdge{e.ID, e.Link, e.Heard, e.Size, e.Receipted, e.Behind, e.Backup, e.Roster, e.Trouble})
		}
		for _, d := range n.Doors {
			a.Doors = append(a.Doors, apiDoor{d.Edge, d.ID, d.State, d.At})
		}
		out.Nodes = append(out.Nodes, a)
	}
	w.json(rw, r, out)
}

// apiEvents answers in the order of arrival; "next" is the cursor to ask with again, also when nothing came.
func (w *Web) apiEvents(rw http.ResponseWriter, r *http.Request) {
	limit := MaxEvents
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > MaxEvents {
			http.Error(rw, "limit is a number from 1 to "+strconv.Itoa(MaxEvents), http.StatusBadRequest)
			return
		}
		limit = n
	}
	lines, next, err := w.o.Book.After(r.Context(), r.URL.Query().Get("after"), limit)
	if errors.Is(err, ErrCursor) {
		http.Error(rw, "after is the \"next\" of an earlier answer", http.StatusBadRequest)
		return
	}
	if err != nil {
		w.apiFail(rw, r, err)
		return
	}
	out := struct {
		Events []apiEvent `json:"events"`
		Next   string     `json:"next"`
	}{[]apiEvent{}, next}
	for _, l := range lines {
		out.Events = append(out.Events, apiEvent{l.Node, l.Edge, l.Epoch.String(), l.Index, string(l.Kind), l.At, string(l.Clock), l.Door,
			l.Direction, l.Verdict, l.Reason, l.Assurance, l.Member, l.Note, l.Receipted})
	}
	w.json(rw, r, out)
}

func (w *Web) json(rw http.ResponseWriter, r *http.Request, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		w.apiFail(rw, r, err)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("Cache-Control", "no-store")
	_, _ = rw.Write(append(b, '\n')) // the reader went away: nobody is left to tell
}

func (w *Web) apiFail(rw http.ResponseWriter, r *http.Request, err error) {
	w.o.Log.ErrorContext(r.Context(), "api not answered", "err", err)
	http.Error(rw, "the hub could not read its own book; /health names the cause", http.StatusInternalServerError)
}
