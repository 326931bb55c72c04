package kiosk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"kith/internal/access"
	"kith/internal/event"
)

// Limits of the API.
const (
	MaxBody     = 4 << 10 // bytes of a request
	maxList     = 100     // entries of one answer
	defaultList = 20
)

// Want is the body of POST /api/v1/entries.
type Want struct {
	Action   string `json:"action,omitempty"`
	Resource string `json:"resource,omitempty"`
	Quantity int64  `json:"quantity,omitempty"`
	Reader   string `json:"reader,omitempty"`
	Note     string `json:"note,omitempty"`
	Member   string `json:"member,omitempty"`
	To       string `json:"to,omitempty"` // NODE or NODE/MEMBER
	Corrects string `json:"corrects,omitempty"`
	Start    bool   `json:"start,omitempty"`
	Stop     string `json:"stop,omitempty"`
}

// Answer is an entry in the making as the API shows it. The id is the only key to it, and only whoever proposed has it.
type Answer struct {
	ID       string `json:"id"`
	State    State  `json:"state"`
	Reason   string `json:"reason,omitempty"`
	Action   string `json:"action"`
	Resource string `json:"resource"`
	Quantity int64  `json:"quantity"`
	Measure  string `json:"measure"`
	Reader   string `json:"reader,omitempty"`
	Name     string `json:"name,omitempty"` // the member's chosen name, once a card said who
	Evidence string `json:"evidence,omitempty"`
	Address  string `json:"address,omitempty"` // "<epoch>/<index>" of the leaf
	LeftMS   int64  `json:"left_ms,omitempty"` // how long it will still wait
}

// Listed is one line of GET /api/v1/entries: what stands in the journal in public.
type Listed struct {
	Address   string      `json:"address"`
	Action    event.Kind  `json:"action"`
	Entry     event.Entry `json:"entry"`
	Corrected bool        `json:"corrected,omitempty"`
}

// Standing is one line of GET /api/v1/readers.
type Standing struct {
	ID      string `json:"id"`
	Waiting bool   `json:"waiting"` // an entry waits there for a card
}

type refusalBody struct {
	Error  string `json:"error"`
	Reason string `json:"reason"`
}

// Handler serves the API. The caller keeps it on loopback; pages of other origins are refused here.
func (k *Kiosk) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/entries", k.postEntry)
	mux.HandleFunc("GET /api/v1/entries", k.listEntries)
	mux.HandleFunc("GET /api/v1/entries/{id}", func(w http.ResponseWriter, r *http.Request) { k.showEntry(w, r.PathValue("id")) })
	mux.HandleFunc("POST /api/v1/entries/{id}/cancel", func(w http.ResponseWriter, r *http.Request) {
		if !k.Cancel(r.PathValue("id")) {
			say(w, http.StatusNotFound, refusalBody{"no such entry in the making", "unknown-entry"})
			return
		}
		k.showEntry(w, r.PathValue("id"))
	})
	mux.HandleFunc("GET /api/v1/readers", func(w http.ResponseWriter, _ *http.Request) {
		list := []Standing{}
		for _, id := range k.machine.cfg.Readers {
			list = append(list, Standing{id, k.Takes(id)})
		}
		say(w, http.StatusOK, map[string]any{"readers": list})
	})
	mux.HandleFunc("GET /api/v1/resources", func(w http.ResponseWriter, _ *http.Request) {
		view, _ := k.rooms.View()
		all := view.Roster.Resources()
		if all == nil {
			all = []access.Resource{}
		}
		say(w, http.StatusOK, map[string]any{"resources": all})
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

func (k *Kiosk) postEntry(w http.ResponseWriter, r *http.Request) {
	// A form of another page can send text/plain without asking; JSON it cannot.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		say(w, http.StatusUnsupportedMediaType, refusalBody{"send Content-Type: application/json", "not-json"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		say(w, http.StatusRequestEntityTooLarge, refusalBody{fmt.Sprintf("the body could not be read; at most %d bytes", MaxBody), "too-long"})
		return
	}
	want, err := ParseWant(body)
	if err != nil {
		say(w, http.StatusBadRequest, refusalBody{err.Error(), "not-json"})
		return
	}
	// A browser cannot leave these headers out. Whoever stands at the screen must not write in somebody's name by way of this
	// very listener, which is the screen's own origin.
	if want.Member != "" && r.Header.Get("Origin")+r.Header.Get("Sec-Fetch-Site") != "" {
		say(w, http.StatusForbidden, refusalBody{"a browser names nobody; use edge entry add", "from-a-browser"})
		return
	}
	s, err := k.enter(want)
	var no *Refusal
	switch {
	case errors.As(err, &no):
		say(w, status(no.Fault), refusalBody{no.Text, no.Reason})
	case err != nil:
		say(w, http.StatusInternalServerError, refusalBody{"the entry could not be taken", "fault"})
	default:
		w.Header().Set("Location", "/api/v1/entries/"+s.ID)
		say(w, http.StatusCreated, k.answer(s))
	}
}

// enter is the one way into the machine from outside, for the API and for the page at the wall.
func (k *Kiosk) enter(want Want) (Session, error) {
	p := Proposal{Action: event.Kind(want.Action), Resource: want.Resource, Quantity: want.Quantity, Reader: want.Reader, Note: want.Note,
		Member: want.Member, Corrects: want.Corrects, Start: want.Start, Stop: want.Stop}
	var ok bool
	if p.To, p.ToMember, ok = splitTo(want.To); !ok {
		return Session{}, refuse(Bad, "bad-to", "to: want NODE or NODE/MEMBER")
	}
	return k.Propose(p)
}

func status(f Fault) int {
	switch f {
	case Ruled:
		return http.StatusUnprocessableEntity
	case Busy:
		return http.StatusConflict
	case Full:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// ParseWant reads one JSON object strictly: no unknown key, no key twice or in another case, nothing behind the end.
func ParseWant(body []byte) (Want, error) {
	var compact bytes.Buffer
	if len(body) > MaxBody {
		return Want{}, fmt.Errorf("%d bytes, limit %d", len(body), MaxBody)
	}
	if err := json.Compact(&compact, body); err != nil {
		return Want{}, errors.New("the body is not one JSON object")
	}
	if err := event.CheckJSON(compact.Bytes()); err != nil { // keys twice, floats, bad UTF-8
		return Want{}, fmt.Errorf("the body: %w", err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(compact.Bytes(), &keys); err != nil || keys == nil {
		return Want{}, errors.New("the body is not one JSON object")
	}
	for k := range keys {
		switch k {
		case "action", "resource", "quantity", "reader", "note", "member", "to", "corrects", "start", "stop":
		default:
			return Want{}, fmt.Errorf("unknown key %.40q", k)
		}
	}
	var want Want
	if err := json.Unmarshal(compact.Bytes(), &want); err != nil {
		var at *json.UnmarshalTypeError
		if errors.As(err, &at) {
			return Want{}, fmt.Errorf("%s: not a value of its kind", at.Field)
		}
		return Want{}, errors.New("the body is not one JSON object")
	}
	return want, nil
}

func (k *Kiosk) showEntry(w http.ResponseWriter, id string) {
	s, ok := k.Session(id)
	if !ok {
		say(w, http.StatusNotFound, refusalBody{"no such entry in the making; finished ones are forgotten after a while", "unknown-entry"})
		return
	}
	say(w, http.StatusOK, k.answer(s))
}

func (k *Kiosk) answer(s Session) Answer {
	a := Answer{ID: s.ID, State: s.State, Reason: s.Reason, Action: string(s.Proposal.Action), Resource: s.Proposal.Resource,
		Quantity: s.Quantity, Measure: s.Measure, Reader: s.Proposal.Reader, Name: s.Person.Name, Evidence: s.Evidence, Address: s.Address}
	if s.State == Waiting || s.State == Witness {
		_, now := k.rooms.View()
		a.LeftMS = max(0, (s.Until - now).Milliseconds())
	}
	return a
}

func (k *Kiosk) listEntries(w http.ResponseWriter, r *http.Request) {
	limit := defaultList
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxList {
			say(w, http.StatusBadRequest, refusalBody{fmt.Sprintf("limit: want 1 to %d", maxList), "bad-limit"})
			return
		}
		limit = n
	}
	list := []Listed{}
	for _, l := range k.Recent(limit) {
		list = append(list, Listed{l.Address, l.Kind, l.Entry, l.Corrected})
	}
	say(w, http.StatusOK, map[string]any{"entries": list})
}

func say(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client went away
}

// AskAgain is how long a client should wait before it asks again how an entry stands.
const AskAgain = 200 * time.Millisecond
