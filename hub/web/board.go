package web

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"kith/internal/page"
)

// Limits of the board.
const (
	MaxForm   = 1 << 10 // bytes of the body of an order given on a page
	maxBarNum = 1 << 50 // parts in a limit that a bar is drawn for; amounts of a policy are larger only by mistake
)

// Where the bars of the board change their tone, in per cent of the way from zero to the limit.
const (
	nearLimit = 75
	atLimit   = 90
)

// Board is how the houses stand beside each other, what would balance them, and what was promised.
type Board struct {
	Wait        string // a sentence: why there are no figures of the running period; empty: there are
	Houses      []BoardHouse
	Advice      []BoardAdvice
	Unmet       []BoardUnmet
	Quotas      []BoardQuota
	Commitments []BoardCommitment // newest first
}

// BoardHouse is what the board adds to a [Node].
type BoardHouse struct {
	Node          string
	Beds, Offered int64 // of the catalogue; Offered to members of other houses
	Figures       []BoardFigure
	Oldest        int64     // day of the oldest unsettled debt the house has a part in, since 1970-01-01; 0: none
	Signed        time.Time // when its newest checkpoint was co-signed; zero: none was
}

// BoardFigure is a house in one unit, in smallest parts.
type BoardFigure struct {
	Unit           string
	Scale          int
	Given, Taken   int64
	Balance        int64 // with the pool, if the period closed now
	Limited        bool
	Floor, Ceiling int64
}

// BoardLine says who does what for whom. Provider and Receiver are names of houses.
type BoardLine struct {
	Do                 string // place, lend or offer
	Kind, Measure      string
	Quantity           int64
	Provider, Receiver string
}

// BoardAdvice is a line of advice that can be accepted.
type BoardAdvice struct {
	ID string
	BoardLine
	Reason string
}

// BoardUnmet is what nothing can be advised for.
type BoardUnmet struct {
	House    string
	Quantity int64
	Reason   string
}

// BoardQuota is a house's share of what visitors used of one kind; its Quantity is the share.
type BoardQuota struct {
	BoardLine
	Hosted int64
}

// BoardCommitment is advice that was accepted.
type BoardCommitment struct {
	ID string
	BoardLine
	Until  string // last day
	State  string // in-force, over or cancelled
	Reason string
	Note   string // as it was signed
}

// Boards tells how the houses stand, and carries an operator's order to the desk. Accept commits to a quantity of a line of
// advice, Cancel takes a commitment back; both are durable when they return nil. ErrChanged: the advice, or the commitment, is
// not any more what the reader saw.
type Boards interface {
	Board(ctx context.Context) (Board, error)
	Accept(ctx context.Context, id string, quantity int64) error
	Cancel(ctx context.Context, id string) error
}

// ErrChanged is what Boards answers when the reader saw something older.
var ErrChanged = errors.New("not any more what was shown")

// newToken makes what every form of this process carries, so that an order can only come from a page that this process made.
func newToken() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("making the form's token: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// sameOrigin says whether a browser states that a page of this very address sent the request. Our pages send no referrer, and
// browsers then write "null" as origin; so Sec-Fetch-Site decides, and Origin only where a browser does not know it.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	return r.Header.Get("Origin") == "http://"+r.Host
}

// ordered lets an order through that a page of this process sent, in a form of bounded size.
func (w *Web) ordered(do func(ctx context.Context, r *http.Request) error) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || kind != "application/x-www-form-urlencoded" || !sameOrigin(r) {
			w.refuse(rw, r, http.StatusForbidden, "Not from here", "Orders are taken from this hub's own pages only. Open the board and press the button there, or use hub advice accept.")
			return
		}
		r.Body = http.MaxBytesReader(rw, r.Body, MaxForm)
		if err := r.ParseForm(); err != nil {
			w.refuse(rw, r, http.StatusBadRequest, "Not understood", "The form did not arrive whole. Open the board and try again.")
			return
		}
		if subtle.ConstantTimeCompare([]byte(r.PostForm.Get("token")), []byte(w.token)) != 1 {
			w.refuse(rw, r, http.StatusForbidden, "An old page", "The hub was started again since this page was made. Open the board and press the button there.")
			return
		}
		err = do(r.Context(), r)
		switch {
		case errors.Is(err, ErrChanged):
			w.refuse(rw, r, http.StatusConflict, "It has changed", "What you saw is not what would be advised now, so nothing was signed. Open the board and look again.")
		case err != nil:
			w.fail(rw, r, err)
		default:
			http.Redirect(rw, r, "/board", http.StatusSeeOther)
		}
	}
}

func (w *Web) refuse(rw http.ResponseWriter, r *http.Request, code int, title, text string) {
	w.write(rw, r, "board-refused", code, faultView{page.Head{Title: title, Network: w.o.Network, Here: r.URL.Path, Nav: nav()}, title, text})
}

func (w *Web) accept(ctx context.Context, r *http.Request) error {
	quantity, err := strconv.ParseInt(r.PostForm.Get("quantity"), 10, 64)
	if err != nil || quantity < 1 {
		return fmt.Errorf("a quantity of %.20q: %w", r.PostForm.Get("quantity"), ErrChanged)
	}
	return w.o.Boards.Accept(ctx, r.PostForm.Get("id"), quantity)
}

func (w *Web) cancel(ctx context.Context, r *http.Request) error {
	return w.o.Boards.Cancel(ctx, r.PostForm.Get("id"))
}

type boardView struct {
	Head    page.Head
	Token   string
	Wait    string
	In      int
	Beds    int
	Houses  []boardRow
	Advice  []adviceRow
	Unmet   []unmetRow
	Quotas  []quotaRow
	Commits []commitRow
}

type boardRow struct {
	ID, Name string
	In       int
	Beds     int
	Offered  int
	Doubt    int
	Fill     *bar // nil: no beds in the catalogue
	Figures  []figureRow
	Link     page.Badge
	Edges    []edgeLine
	Oldest   string
	Signed   page.Moment
	IsSigned bool
}

type edgeLine struct {
	Name  string
	Heard page.Moment
	Ever  bool
	Link  page.Badge
	Wait  uint64 // leaves that are not co-signed here yet
}

type figureRow struct {
	Unit                 string
	Given, Taken, Net    string
	Floor, Ceiling, Says string
	Bar                  *bar // nil: no limit
}

// bar is a drawing of BarWidth units across. Its words stand beside it.
type bar struct {
	Tone       string // good, warn or bad
	Text       string // empty: nothing to say
	From, Size int
	Zero       int // where zero is; -1: at the start
}

// barWidth is how many units a bar is across.
const barWidth = 100

type adviceRow struct {
	BoardAdvice
	Says string
	More string
}

type unmetRow struct{ Says, Reason string }

type quotaRow struct {
	House, What   string
	Quota, Hosted string
	Says          string
}

type commitRow struct {
	BoardCommitment
	Says    string
	Badge   page.Badge
	InForce bool
}

func (w *Web) board(rw http.ResponseWriter, r *http.Request) {
	if w.o.Boards == nil {
		w.lost(rw, r)
		return
	}
	b, err := w.o.Boards.Board(r.Context())
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	nodes, err := w.o.Houses.Nodes(r.Context())
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	now := w.o.Now()
	v := boardView{Head: page.Head{Title: "Board", Network: w.o.Network, Here: r.URL.Path, Live: "/live", Nav: nav(),
		Foot: "What you accept or cancel here is a note under the operator's key. hub verify proves every one of them."}, Token: w.token, Wait: b.Wait}
	more := map[string]*BoardHouse{}
	for i := range b.Houses {
		more[b.Houses[i].Node] = &b.Houses[i]
	}
	for i := range nodes {
		row := houseRow(&nodes[i], more[nodes[i].ID], now)
		v.Houses = append(v.Houses, row)
		v.In += len(nodes[i].People)
		v.Beds += row.Beds
	}
	for _, a := range b.Advice {
		v.Advice = append(v.Advice, adviceRow{a, a.says(), a.more()})
	}
	for _, u := range b.Unmet {
		v.Unmet = append(v.Unmet, unmetRow{page.Plural(int(u.Quantity), "person", "people") + " from " + u.House, u.Reason})
	}
	for _, q := range b.Quotas {
		v.Quotas = append(v.Quotas, quotaWords(&q))
	}
	for _, c := range b.Commitments {
		v.Commits = append(v.Commits, commitRow{c, c.says(), commitBadge(c.State), c.State == "in-force"})
	}
	w.render(rw, r, "board", v)
}

func houseRow(n *Node, h *BoardHouse, now time.Time) boardRow {
	row := boardRow{ID: n.ID, Name: n.Name, In: len(n.People), Link: linkBadge(n, now)}
	for _, p := range n.People {
		if p.Doubt != "" {
			row.Doubt++
		}
	}
	for _, e := range n.Edges {
		name := e.Name
		if name == "" {
			name = e.ID
		}
		row.Edges = append(row.Edges, edgeLine{Name: name, Heard: moment(e.Heard, n.Zone, now), Ever: e.Heard > 0, Link: edgeBadge(e), Wait: e.Behind + e.Size - min(e.Receipted, e.Size)})
	}
	if h == nil {
		return row
	}
	row.Beds, row.Offered = int(h.Beds), int(h.Offered)
	row.Fill = fullness(int64(row.In), h.Beds)
	for _, f := range h.Figures {
		row.Figures = append(row.Figures, figureWords(&f))
	}
	if h.Oldest > 0 {
		row.Oldest = ageWords(now.Unix()/(24*60*60)-h.Oldest, h.Oldest)
	}
	if !h.Signed.IsZero() {
		row.Signed, row.IsSigned = page.Moment{At: h.Signed.In(n.Zone), Now: now}, true
	}
	return row
}

func ageWords(days, day int64) string {
	switch {
	case days <= 0:
		return "today"
	case days == 1:
		return "yesterday"
	}
	return page.Plural(int(days), "day", "days") + ", since " + time.Unix(day*24*60*60, 0).UTC().Format("2 January")
}

// fullness draws people beside beds. A house may well hold more people than beds by day: they are in, not asleep.
func fullness(in, beds int64) *bar {
	if beds <= 0 {
		return nil
	}
	b := &bar{Tone: "good", Size: share(min(in, beds), beds), Zero: -1}
	switch {
	case in > beds:
		b.Tone, b.Text = "bad", page.Number(uint64(in-beds))+" more than beds"
	case in == beds:
		b.Tone, b.Text = "warn", "full"
	}
	return b
}

// figureWords draws a balance between floor and ceiling.
func figureWords(f *BoardFigure) figureRow {
	r := figureRow{Unit: page.Pretty(f.Unit), Given: amount(f.Given, f.Scale), Taken: amount(f.Taken, f.Scale), Net: plus(f.Balance, f.Scale)}
	if !f.Limited {
		return r
	}
	r.Floor, r.Ceiling = amount(f.Floor, f.Scale), amount(f.Ceiling, f.Scale)
	r.Bar = balanceBar(f)
	return r
}

func balanceBar(f *BoardFigure) *bar {
	if f.Floor > 0 || f.Ceiling < 0 || f.Floor < -maxBarNum || f.Ceiling > maxBarNum || f.Floor == f.Ceiling {
		return nil // zero is outside: the words must do
	}
	b := &bar{Tone: "good", Zero: share(-f.Floor, f.Ceiling-f.Floor)}
	at := share(min(max(f.Balance, f.Floor), f.Ceiling)-f.Floor, f.Ceiling-f.Floor)
	b.From, b.Size = min(at, b.Zero), max(at, b.Zero)-min(at, b.Zero)
	size, limit, name := f.Balance, f.Ceiling, "ceiling"
	if f.Balance < 0 {
		size, limit, name = -f.Balance, -f.Floor, "floor"
	}
	switch {
	case size > limit:
		b.Tone, b.Text = "bad", "past its "+name
	case size == limit && size > 0:
		b.Tone, b.Text = "bad", "at its "+name
	case size == 0:
	case reaches(size, limit, atLimit):
		b.Tone, b.Text = "bad", fmt.Sprintf("%d\u202f%% of its %s", share(size, limit), name)
	case reaches(size, limit, nearLimit):
		b.Tone, b.Text = "warn", fmt.Sprintf("%d\u202f%% of its %s", share(size, limit), name)
	}
	return b
}

// reaches says whether size is at least that many per cent of limit; neither is negative and limit is at most maxBarNum.
func reaches(size, limit, percent int64) bool { return size*100 >= limit*percent }

// share is size of all in hundredths, rounded down; 0 <= size <= all.
func share(size, all int64) int {
	hi, lo := bits.Mul64(uint64(size), barWidth)
	q, _ := bits.Div64(hi, lo, uint64(all))
	return int(q)
}

func plus(n int64, scale int) string {
	if n > 0 {
		return "+" + amount(n, scale)
	}
	return amount(n, scale)
}

// says is the line in one sentence.
func (l *BoardLine) says() string {
	n := page.Number(uint64(max(l.Quantity, 0)))
	switch l.Do {
	case "place":
		return page.Plural(int(l.Quantity), "person", "people") + " from " + l.Receiver + " to " + l.Provider
	case "lend":
		return n + " \u00d7 " + page.Pretty(l.Kind) + " from " + l.Provider + " to " + l.Receiver
	}
	return l.Provider + " hosts " + n + " more " + plural(l.Quantity, l.Measure)
}

// more is what the sentence leaves out.
func (l *BoardLine) more() string {
	switch l.Do {
	case "place":
		return page.Pretty(l.Kind) + ", for the night"
	case "lend":
		return "a loan"
	}
	return page.Pretty(l.Kind) + ", for visitors of other houses"
}

// plural is a measure of a catalogue behind a number. Short ones are signs of units, which have no plural.
func plural(n int64, measure string) string {
	if n == 1 || len(measure) <= 3 || strings.HasSuffix(measure, "s") {
		return measure
	}
	return measure + "s"
}

func quotaWords(q *BoardQuota) quotaRow {
	r := quotaRow{House: q.Provider, What: page.Pretty(q.Kind) + ", by " + q.Measure, Quota: page.Number(uint64(max(q.Quantity, 0))), Hosted: page.Number(uint64(max(q.Hosted, 0)))}
	switch d := q.Hosted - q.Quantity; {
	case d < 0:
		r.Says = page.Number(uint64(-d)) + " below its share"
	case d > 0:
		r.Says = page.Number(uint64(d)) + " above its share"
	default:
		r.Says = "its share"
	}
	return r
}

func commitBadge(state string) page.Badge {
	switch state {
	case "in-force":
		return page.Badge{Tone: "good", Text: "in force"}
	case "cancelled":
		return page.Badge{Tone: "plain", Text: "cancelled"}
	}
	return page.Badge{Tone: "plain", Text: "over"}
}
