package kiosk

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"kith/internal/event"
	"kith/internal/page"
)

//go:embed templates/*.html assets/*
var wallFiles embed.FS

// Limits of the page at the wall.
const (
	MaxTiles     = 24               // buttons of one page; more stand on the next
	MaxStops     = 8                // started uses that are shown
	IdleHome     = 15 * time.Second // an untouched screen goes back to its start
	ReceiptShown = 2 * time.Minute  // after that nobody reads another's receipt by going back
	wordShown    = 6 * time.Second  // what the reader said stands so long beside it
	startAgain   = 5 * time.Second  // between two looks of an untouched start page
	blindAgain   = 30 * time.Second // the same by a reload, which would take the place of whoever reads with a screen reader
	proofAgain   = 2 * time.Second  // between two looks whether the hub has co-signed
	waitAgain    = 2 * AskAgain     // between two looks whether a card came
)

// Trouble is what keeps entries at a reader from being taken.
type Trouble string

// Troubles.
const (
	NoReader Trouble = "no-reader" // it does not answer
	NotKept  Trouble = "not-kept"  // what is written now would not outlast a power cut
	NoRoster Trouble = "no-roster" // nobody is known yet
)

// Proof is how far a leaf can be checked by somebody else.
type Proof struct {
	Leaf  string // its hash in the tree, as the hub's page shows it; empty: it could not be read just now
	Alone bool   // there is no hub to co-sign
	Size  uint64 // of the tree that the hub co-signed with this leaf in it; 0: not yet
}

// Surroundings are what the page at the wall cannot know by itself.
type Surroundings struct {
	Trouble func(reader string) Trouble
	Prove   func(ctx context.Context, address string) Proof
}

// screen is the page. The address of an entry's page carries a keyed hash of its id and not the id, so that whoever walks up
// and goes back in the browser's history cannot give up somebody's started use over the API.
type screen struct {
	*Kiosk
	out   Surroundings
	set   *page.Set
	pages map[string]*template.Template
	token string
	key   [32]byte
}

// Wall serves /kiosk, the screen beside a reader: a thing, a quantity, a card, a receipt. It proposes through the same door
// as the API, and like the API it can only propose: who it is, the card says by its signature.
func (k *Kiosk) Wall(out Surroundings) (http.Handler, error) {
	w := &screen{Kiosk: k, out: out, pages: map[string]*template.Template{}}
	rand.Read(w.key[:])
	token := w.mac("token")
	w.token = hex.EncodeToString(token[:])
	var err error
	if w.set, err = page.New(wallFiles, "templates/*.html"); err != nil {
		return nil, err
	}
	for _, name := range []string{"choose", "start", "amount", "entry", "words"} {
		if w.pages[name], err = w.set.Page(name); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /kiosk", w.start)
	mux.HandleFunc("GET /kiosk/amount", w.amount)
	mux.HandleFunc("POST /kiosk/entry", w.propose)
	mux.HandleFunc("GET /kiosk/entry/{handle}", w.entry)
	mux.HandleFunc("POST /kiosk/entry/{handle}/cancel", w.cancel)
	mux.HandleFunc("POST /kiosk/entry/{handle}/undo", w.undo)
	mux.HandleFunc("GET /assets/{name}", w.set.ServeAsset)
	mux.HandleFunc("GET /kiosk/", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/kiosk", http.StatusSeeOther) })
	return page.Guard(http.NewCrossOriginProtection().Handler(mux)), nil
}

func (w *screen) mac(text string) [16]byte {
	h := hmac.New(sha256.New, w.key[:])
	h.Write([]byte(text))
	return [16]byte(h.Sum(nil)[:16])
}

func (w *screen) handle(id string) string {
	m := w.mac("entry " + id)
	return hex.EncodeToString(m[:])
}

// find turns a handle back into an entry. There are at most MaxSessions and MaxRunning of them.
func (w *screen) find(handle string) (Session, bool) {
	w.mu.Lock()
	var ids []string
	for id := range w.machine.sessions {
		ids = append(ids, id)
	}
	w.mu.Unlock()
	for _, id := range ids {
		if subtle.ConstantTimeCompare([]byte(w.handle(id)), []byte(handle)) == 1 {
			return w.Session(id)
		}
	}
	return Session{}, false
}

// frame is what every page at the wall has.
type frame struct {
	Title string // also what a screen reader hears
	House string
	Home  string // where an untouched screen goes
	At    string // the reader beside it
	Token string
	State string
	Again int64  // ms between two looks
	Idle  int64  // ms until home
	Blind string // content of a refresh for browsers without script
}

func (w *screen) frame(at, title, state string) frame {
	return frame{Title: title, House: page.Pretty(w.machine.cfg.Node), Home: home(at), At: at, Token: w.token, State: state}
}

func home(at string) string {
	if at == "" {
		return "/kiosk"
	}
	return "/kiosk?at=" + url.QueryEscape(at)
}

// idle sends an untouched screen home.
func (f frame) idle() frame {
	f.Idle = IdleHome.Milliseconds()
	f.Blind = fmt.Sprintf("%d; url=%s", int(IdleHome/time.Second), f.Home)
	return f
}

// looks makes a screen look again by itself.
func (f frame) looks(every time.Duration, where string) frame {
	f.Again = every.Milliseconds()
	f.Blind = fmt.Sprintf("%d; url=%s", max(1, int(every/time.Second)), where)
	return f
}

func (w *screen) show(rw http.ResponseWriter, code int, name string, data any) {
	var b bytes.Buffer
	if err := w.pages[name].Execute(&b, data); err != nil {
		w.log.Error("the page at the wall could not be made", "page", name, "err", err)
		http.Error(rw, "This page could not be made. Tell a host.", http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.Header().Set("Cache-Control", "no-store")
	rw.WriteHeader(code)
	_, _ = rw.Write(b.Bytes()) // the browser went away
}

type wordsPage struct {
	frame
	Words  words
	Resend *form // to be sent once more
	Tone   string
}

func (w *screen) say(rw http.ResponseWriter, code int, at string, what words, again *form) {
	w.show(rw, code, "words", wordsPage{w.frame(at, what.Title, "words").idle(), what, again, "warn"})
}

// reader finds out which reader is meant: the one named, or the only one there is.
func (w *screen) reader(at string) (string, bool) {
	all := w.machine.cfg.Readers
	if at == "" && len(all) == 1 {
		return all[0], true
	}
	return at, slices.Contains(all, at)
}

func (w *screen) trouble(reader string, v View) Trouble {
	if v.Roster == nil {
		return NoRoster
	}
	if w.out.Trouble == nil {
		return ""
	}
	return w.out.Trouble(reader)
}

type stop struct{ Handle, Name, Since string }

type startPage struct {
	frame
	Groups []group
	Stops  []stop
	Next   int
	From   int
	Held   bool // an entry waits at this reader, proposed elsewhere
}

func (w *screen) start(rw http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(r.URL.RawQuery) > MaxForm {
		q = url.Values{}
	}
	at, ok := w.reader(q.Get("at"))
	if !ok {
		w.choose(rw, q.Get("at") != "")
		return
	}
	view, _ := w.rooms.View()
	if t := w.trouble(at, view); t != "" {
		what := troubleWords(t)
		f := w.frame(at, what.Title, string(t))
		w.show(rw, http.StatusOK, "words", wordsPage{f.looks(startAgain, f.Home), what, nil, "bad"})
		return
	}
	from, _ := strconv.Atoi(q.Get("from"))
	p := startPage{frame: w.frame(at, "What did you do or use?", "start"), From: max(0, from), Held: w.Takes(at)}
	p.frame = p.looks(startAgain, p.Home)
	p.Blind = fmt.Sprintf("%d; url=%s", int(blindAgain/time.Second), p.Home)
	if p.From > 0 {
		p.frame = p.idle()
		p.Again = 0
	}
	p.Groups, p.Next = offers(view.Roster.Resources(), w.Recent(MaxRecent), p.From)
	if len(p.Groups) == 0 {
		what := words{"Nothing to enter yet", "This house's list of things to use and to do is empty. A host fills it."}
		w.show(rw, http.StatusOK, "words", wordsPage{w.frame(at, what.Title, "empty").looks(startAgain, p.Home), what, nil, "plain"})
		return
	}
	if p.From == 0 {
		p.Stops = w.stops(view)
	}
	w.show(rw, http.StatusOK, "start", p)
}

// stops are the started uses, without a word about whose they are: only the card that started one stops it.
func (w *screen) stops(v View) []stop {
	var out []stop
	for _, u := range w.Running() {
		if len(out) == MaxStops {
			break
		}
		out = append(out, stop{w.handle(u.ID), w.thing(v, u.Resource), time.UnixMilli(u.Started).In(v.Roster.Zone()).Format("15:04")})
	}
	return out
}

func (w *screen) thing(v View, resource string) string {
	if r, ok := v.Roster.Resource(resource); ok {
		return nameOf(r)
	}
	return page.Pretty(resource)
}

// choose asks which reader hangs beside this screen. The answer stands in the address, which the kiosk's browser keeps.
func (w *screen) choose(rw http.ResponseWriter, wrong bool) {
	if len(w.machine.cfg.Readers) == 0 {
		w.say(rw, http.StatusNotFound, "", words{"There is no reader here", "Entries are confirmed by a card at a reader, and this edge has none."}, nil)
		return
	}
	code := http.StatusOK
	if wrong {
		code = http.StatusNotFound
	}
	w.show(rw, code, "choose", struct {
		frame
		Readers []string
	}{w.frame("", "Which reader is beside this screen?", "choose"), w.machine.cfg.Readers})
}

type amountPage struct {
	frame
	Verb, Name, Action, Resource string
	Quantity, Less, More         int64
	Number                       string
	Unit                         string // behind Number
	Whole                        string // as it will be entered
	Presets                      []preset
	Witness                      bool
	Notice                       int // hours that a request should come ahead; the house asks, nothing enforces it
	Startable                    bool
}

type preset struct {
	Quantity int64
	Text     string
}

func (w *screen) amount(rw http.ResponseWriter, r *http.Request) {
	f, err := parseForm(r.URL.RawQuery)
	at, ok := w.reader(f.At)
	view, _ := w.rooms.View()
	res, known := view.Roster.Resource(f.Resource)
	kind := event.Kind(f.Action)
	if err != nil || !ok || !known || !res.Allows(f.Action) || !offered(kind) || w.trouble(at, view) != "" {
		http.Redirect(rw, r, home(at), http.StatusSeeOther)
		return
	}
	n := f.Quantity
	if n == 0 {
		n = usual(res, kind, w.Recent(MaxRecent))
	}
	n = min(max(n, 1), most(res))
	p := amountPage{frame: w.frame(at, verb(kind)+": "+nameOf(res), "amount").idle(), Verb: verb(kind), Name: nameOf(res),
		Action: f.Action, Resource: res.ID, Quantity: n, Whole: counted(n, res.Measure), Witness: res.NeedsWitness(n), Notice: res.Lead,
		Startable: kind == event.KindUse && (res.Measure == "minute" || res.Measure == "hour")}
	p.Less, p.More = max(1, n-step(n-1, res.Measure)), min(n+step(n, res.Measure), most(res))
	p.Number, p.Unit = strconv.FormatInt(n, 10), unitWord(n, res.Measure)
	for _, q := range presets(res) {
		p.Presets = append(p.Presets, preset{q, counted(q, res.Measure)})
	}
	w.show(rw, http.StatusOK, "amount", p)
}

func offered(kind event.Kind) bool {
	for _, v := range verbs {
		if v.kind == kind {
			return true
		}
	}
	return false
}

// pressed reads a form of this page. One of another start of the program, or of no page of ours, is told to begin again.
func (w *screen) pressed(rw http.ResponseWriter, r *http.Request) (form, string, bool) {
	f, err := readForm(rw, r)
	at, ok := w.reader(f.At)
	if !ok {
		at = ""
	}
	if err != nil || !ok || subtle.ConstantTimeCompare([]byte(f.Token), []byte(w.token)) != 1 {
		w.say(rw, http.StatusForbidden, at, words{"Try again", "This page was out of date."}, nil)
		return form{}, "", false
	}
	return f, at, true
}

func (w *screen) propose(rw http.ResponseWriter, r *http.Request) {
	f, at, ok := w.pressed(rw, r)
	if !ok {
		return
	}
	want := Want{Action: f.Action, Resource: f.Resource, Quantity: f.Quantity, Reader: at, Start: f.Start}
	switch {
	case f.Stop != "":
		use, ok := w.find(f.Stop)
		if !ok {
			use.ID = "gone" // the machine says so
		}
		want = Want{Stop: use.ID, Reader: at}
	case !offered(event.Kind(f.Action)):
		want.Action = "" // likewise
	}
	w.lead(rw, r, at, want, &f)
}

// lead enters what is wanted and leads to its page, or says why not.
func (w *screen) lead(rw http.ResponseWriter, r *http.Request, at string, want Want, again *form) {
	s, err := w.enter(want)
	var no *Refusal
	switch {
	case errors.As(err, &no):
		w.say(rw, status(no.Fault), at, refusalWords(no), again)
	case err != nil:
		w.say(rw, http.StatusInternalServerError, at, words{"Try again", "The entry could not be taken."}, nil)
	default:
		http.Redirect(rw, r, w.address(s.ID, at), http.StatusSeeOther)
	}
}

func (w *screen) address(id, at string) string {
	return "/kiosk/entry/" + w.handle(id) + "?at=" + url.QueryEscape(at)
}

func (w *screen) cancel(rw http.ResponseWriter, r *http.Request) {
	_, at, ok := w.pressed(rw, r)
	if !ok {
		return
	}
	// A started use is not given up from here: the card that started it stops it.
	if s, ok := w.find(r.PathValue("handle")); ok && (s.State == Waiting || s.State == Witness) {
		w.Cancel(s.ID)
	}
	http.Redirect(rw, r, home(at), http.StatusSeeOther)
}

// undo proposes the entry that takes another back. Only the card of whoever made it confirms that.
func (w *screen) undo(rw http.ResponseWriter, r *http.Request) {
	_, at, ok := w.pressed(rw, r)
	if !ok {
		return
	}
	s, ok := w.find(r.PathValue("handle"))
	if !ok || s.State != Recorded || w.old(s) {
		w.say(rw, http.StatusNotFound, at, words{"It cannot be taken back here", "Too long ago. A host can help."}, nil)
		return
	}
	w.lead(rw, r, at, Want{Action: string(s.Proposal.Action), Resource: s.Proposal.Resource, Reader: at, Corrects: s.Address}, nil)
}

func (w *screen) old(s Session) bool {
	_, now := w.rooms.View()
	return now > s.Until+ReceiptShown
}
