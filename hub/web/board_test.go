package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"kith/internal/page"
)

// desk plays the room that signs.
type desk struct {
	mu    sync.Mutex // guards all below: a browser orders while a test reads
	board Board
	did   []string
	fail  error
}

func (d *desk) Board(context.Context) (Board, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.board, d.fail
}

func (d *desk) Accept(_ context.Context, id string, quantity int64) error {
	return d.note(fmt.Sprintf("accept %s %d", id, quantity))
}

func (d *desk) Cancel(_ context.Context, id string) error { return d.note("cancel " + id) }

func (d *desk) note(what string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail == nil {
		d.did = append(d.did, what)
	}
	return d.fail
}

func (d *desk) orders() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.did)
}

func storyBoard() Board {
	reason := "Casa da Graça expects 11 people for 9 beds and gets all 2 that it asked for. Kyōto Machiya has 3 of its offered beds free."
	return Board{
		Houses: []BoardHouse{
			{Node: "lisbon", Beds: 9, Offered: 4, Oldest: 20766, Signed: storyNow.Add(-2 * time.Minute), Figures: []BoardFigure{
				{Unit: "night", Given: 12, Taken: 9, Balance: -8, Limited: true, Floor: -10, Ceiling: 10},
				{Unit: "work-hour", Scale: 2, Given: 100, Taken: 1234567, Balance: 95, Limited: true, Floor: -100, Ceiling: 100},
				{Unit: "meal", Given: 3, Taken: 0}}},
			{Node: "kyoto", Beds: 2, Offered: 2, Oldest: 20777, Signed: storyNow.Add(-95 * time.Minute), Figures: []BoardFigure{
				{Unit: "night", Given: 1, Taken: 2, Balance: 11, Limited: true, Floor: -10, Ceiling: 10}}},
			{Node: "forest"}, {Node: "hostile", Beds: 40, Offered: 40}},
		Advice: []BoardAdvice{
			{ID: "00000000000000a1", BoardLine: BoardLine{Do: "place", Kind: "Bed", Measure: "night", Quantity: 2, Provider: "Kyōto Machiya", Receiver: "Casa da Graça"}, Reason: reason},
			{ID: "00000000000000a2", BoardLine: BoardLine{Do: "lend", Kind: "bike", Measure: "hour", Quantity: 1, Provider: hostile, Receiver: "Forest camp"}, Reason: hostile},
			{ID: "00000000000000a3", BoardLine: BoardLine{Do: "offer", Kind: "bed", Measure: "night", Quantity: 15, Provider: "Forest camp"}, Reason: "Visitors used 40 nights in all."}},
		Unmet:  []BoardUnmet{{House: hostile, Quantity: 1, Reason: "There are beds for fewer people than ask."}},
		Quotas: []BoardQuota{{BoardLine{Do: "offer", Kind: "bed", Measure: "night", Quantity: 25, Provider: "Forest camp"}, 10}, {BoardLine{Do: "offer", Kind: "bed", Measure: "night", Quantity: 15, Provider: "Kyōto Machiya"}, 30}},
		Commitments: []BoardCommitment{
			{ID: "00000000000000c1", BoardLine: BoardLine{Do: "place", Kind: "Bed", Measure: "night", Quantity: 1, Provider: "Kyōto Machiya", Receiver: "Casa da Graça"}, Until: "2026-11-22", State: "in-force", Reason: reason, Note: "kith-commitment v1\nnetwork demo\n\n\u2014 demo/operator AAAA\n"},
			{ID: "00000000000000c2", BoardLine: BoardLine{Do: "lend", Kind: "bike", Measure: "hour", Quantity: 2, Provider: "Forest camp", Receiver: hostile}, Until: "2026-11-30", State: "cancelled", Note: hostile},
			{ID: "00000000000000c3", BoardLine: BoardLine{Do: "offer", Kind: "bed", Measure: "night", Quantity: 2, Provider: "Forest camp"}, Until: "2026-11-01", State: "over"}}}
}

func boardWeb(t testing.TB, s *story, d *desk) *Web {
	t.Helper()
	o := newWeb(t, s).o
	o.Network = "A network of houses with a long name"
	o.Boards, o.Log = d, slog.New(slog.NewTextHandler(io.Discard, nil))
	w, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestTheBoardSaysInWordsWhatItsBarsShow(t *testing.T) {
	w := boardWeb(t, newStory(), &desk{board: storyBoard()})
	rec := get(t, w.Handler(), "/board")
	b := rec.Body.String()
	last := 0
	for _, want := range []string{`aria-current="page">Board</a>`, "17 people</strong> in, <strong>51 beds</strong> in <strong>4 houses</strong>", "3 suggestions",
		`href="/node/lisbon"`, "<b>11</b> in, 9 beds", "2 not for certain", `class="bar bad"`, "2 more than beds", "4 offered to visitors",
		"gave 12, took 9", "with the pool \u22128, limits \u221210 to 10", `class="bar warn"`, "80\u202f% of its floor",
		"gave 1.00, took 12\u202f345.67", "with the pool &#43;0.95, limits \u22121.00 to 1.00", "95\u202f% of its ceiling", "gave 3, took 0", "no limit set",
		"catching up, 214 to come", "Front hall", "just now</time>", "314 waiting", "12 days, since 9 November", "2 min ago",
		`href="/node/kyoto"`, "past its ceiling", "yesterday", "in, beds not known", "none yet",
		"2 people from Casa da Graça to Kyōto Machiya", "gets all 2 that it asked for", `name="quantity" value="2"`, `id="accept-00000000000000a1"`,
		"1 × Bike from &lt;script&gt;", "Forest camp hosts 15 more nights", "no bed", "1 person from &lt;script&gt;", "15 below its share", "15 above its share",
		"in force", "until 2026-11-22", "kith-commitment v1", `id="cancel-00000000000000c1"`, "cancelled", "over"} {
		i := strings.Index(b[last:], want)
		if i < 0 {
			t.Fatalf("%q is missing or out of order in %s", want, b[last:])
		}
		last += i
	}
	if strings.Contains(b, `id="cancel-00000000000000c2"`) || strings.Contains(b, `id="cancel-00000000000000c3"`) {
		t.Error("what counts no more can be cancelled")
	}
	if strings.Contains(b, "<script>alert") || strings.Contains(b, " style=") || strings.Contains(b, "http://") || !strings.HasSuffix(strings.TrimSpace(b), "</html>") || strings.Contains(b, "%!") {
		t.Error("not safe, or not whole")
	}
	if rec.Header().Get("Content-Security-Policy") != page.Policy || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v", rec.Header())
	}
	if n := strings.Count(b, `value="`+w.token+`"`); n != 4 {
		t.Errorf("the token stands in %d forms of 4", n)
	}
}

func TestABoardWithoutFiguresSaysWhy(t *testing.T) {
	w := boardWeb(t, newStory(), &desk{board: Board{Wait: "No policy <b>is</b> configured."}})
	b := get(t, w.Handler(), "/board").Body.String()
	for _, want := range []string{"No policy &lt;b&gt;is&lt;/b&gt; configured.", "the houses are in balance", "Nothing yet."} {
		if !strings.Contains(b, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if rec := get(t, newWeb(t, newStory()).Handler(), "/board"); rec.Code != 404 {
		t.Errorf("a hub without a board: %d", rec.Code)
	}
	w = boardWeb(t, newStory(), &desk{fail: errors.New("disk of ana")})
	if rec := get(t, w.Handler(), "/board"); rec.Code != 500 || strings.Contains(rec.Body.String(), "ana") {
		t.Errorf("%d", rec.Code)
	}
}

// post sends a form as a browser on our own page does, but for the changes.
func post(w *Web, path string, form url.Values, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	r.Host = "127.0.0.1:8080"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Origin", "null") // what a browser writes for a page without a referrer
	for _, c := range change {
		c(r)
	}
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, r)
	return rec
}

func TestAnOrderIsTakenFromAPageOfThisProcessOnly(t *testing.T) {
	d := &desk{board: storyBoard()}
	w := boardWeb(t, newStory(), d)
	good := url.Values{"token": {w.token}, "id": {"00000000000000a1"}, "quantity": {"2"}}
	head := func(pairs ...string) func(*http.Request) {
		return func(r *http.Request) {
			for i := 0; i < len(pairs); i += 2 {
				if r.Header.Del(pairs[i]); pairs[i+1] != "" {
					r.Header.Set(pairs[i], pairs[i+1])
				}
			}
		}
	}
	for name, c := range map[string]struct {
		form url.Values
		with func(*http.Request)
		code int
	}{
		"another site":               {good, head("Sec-Fetch-Site", "cross-site"), 403},
		"a site of the same domain":  {good, head("Sec-Fetch-Site", "same-site"), 403},
		"typed into the address bar": {good, head("Sec-Fetch-Site", "none"), 403},
		"no word of a browser":       {good, head("Sec-Fetch-Site", "", "Origin", ""), 403},
		"an old browser elsewhere":   {good, head("Sec-Fetch-Site", "", "Origin", "http://evil.example"), 403},
		"another port of this host":  {good, head("Sec-Fetch-Site", "", "Origin", "http://127.0.0.1:9999"), 403},
		"another host name":          {good, func(r *http.Request) { r.Host = "evil.example" }, 421},
		"not a form":                 {good, head("Content-Type", "text/plain"), 403},
		"JSON":                       {good, head("Content-Type", "application/json"), 403},
		"no kind":                    {good, head("Content-Type", ""), 403},
		"no token":                   {url.Values{"id": good["id"], "quantity": good["quantity"]}, head(), 403},
		"another token":              {url.Values{"token": {strings.Repeat("0", 32)}, "id": good["id"], "quantity": good["quantity"]}, head(), 403},
		"too long":                   {url.Values{"token": good["token"], "id": {strings.Repeat("a", MaxForm)}, "quantity": good["quantity"]}, head(), 400},
		"no number":                  {url.Values{"token": good["token"], "id": good["id"], "quantity": {"two"}}, head(), 409},
		"nothing":                    {url.Values{"token": good["token"], "id": good["id"], "quantity": {"0"}}, head(), 409},
	} {
		if rec := post(w, "/board/accept", c.form, c.with); rec.Code != c.code {
			t.Errorf("%s: %d, want %d", name, rec.Code, c.code)
		}
	}
	// The token in the address of the request is no token: addresses end up in logs.
	if rec := post(w, "/board/accept?token="+w.token, url.Values{"id": good["id"], "quantity": good["quantity"]}); rec.Code != 403 {
		t.Errorf("a token in the address: %d", rec.Code)
	}
	if rec := get(t, w.Handler(), "/board/accept?token="+w.token+"&id=00000000000000a1&quantity=2"); rec.Code == 200 || rec.Code == 303 {
		t.Errorf("a GET gave an order: %d", rec.Code)
	}
	if did := d.orders(); len(did) != 0 {
		t.Fatalf("refused, and done all the same: %v", did)
	}
	for _, with := range []func(*http.Request){head(), head("Sec-Fetch-Site", "", "Origin", "http://127.0.0.1:8080")} {
		rec := post(w, "/board/accept", good, with)
		if rec.Code != 303 || rec.Header().Get("Location") != "/board" {
			t.Errorf("a good order: %d %s", rec.Code, rec.Header().Get("Location"))
		}
	}
	if rec := post(w, "/board/cancel", url.Values{"token": {w.token}, "id": {"00000000000000c1"}}); rec.Code != 303 {
		t.Errorf("a good cancellation: %d", rec.Code)
	}
	if did := d.orders(); !slices.Equal(did, []string{"accept 00000000000000a1 2", "accept 00000000000000a1 2", "cancel 00000000000000c1"}) {
		t.Errorf("%v", did)
	}
	if boardWeb(t, newStory(), d).token == w.token || len(w.token) != 32 {
		t.Error("two processes have one token")
	}
}

func TestAnOrderThatCameTooLateSaysSo(t *testing.T) {
	d := &desk{fail: fmt.Errorf("gone: %w", ErrChanged)}
	w := boardWeb(t, newStory(), d)
	form := url.Values{"token": {w.token}, "id": {"x"}, "quantity": {"1"}}
	rec := post(w, "/board/accept", form)
	if b := rec.Body.String(); rec.Code != 409 || !strings.Contains(b, "nothing was signed") || !strings.Contains(b, `href="/board"`) {
		t.Errorf("%d %s", rec.Code, b)
	}
	d.fail = errors.New("disk of ana")
	if rec = post(w, "/board/cancel", form); rec.Code != 500 || strings.Contains(rec.Body.String(), "ana") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestOnlyAnOperatorsPostChangesSomething(t *testing.T) {
	ok := func(http.ResponseWriter, *http.Request) {}
	for name, r := range map[string]route{
		"a GET that changes":   {pattern: "GET /x", role: Operator, handle: ok, changes: true},
		"a host's POST":        {pattern: "POST /x", role: Host, handle: ok, changes: true},
		"an undeclared POST":   {pattern: "POST /x", role: Operator, handle: ok},
		"a DELETE":             {pattern: "DELETE /x", role: Operator, handle: ok, changes: true},
		"nobody's POST":        {pattern: "POST /x", role: Anyone, handle: ok, changes: true},
		"a POST without a say": {pattern: "POST /x", handle: ok, changes: true},
	} {
		if _, err := mount([]route{r}); err == nil {
			t.Errorf("%s: started", name)
		}
	}
	var changing []string
	for _, r := range newWeb(t, newStory()).routes() {
		if r.changes {
			changing = append(changing, r.pattern)
		}
	}
	if !slices.Equal(changing, []string{"POST /board/accept", "POST /board/cancel"}) {
		t.Errorf("%v", changing)
	}
}

func TestABarChangesItsToneBeforeTheLimit(t *testing.T) {
	for _, c := range []struct {
		balance, floor, ceiling int64
		tone, text              string
		from, size, zero        int
	}{
		{0, -10, 10, "good", "", 50, 0, 50}, {7, -10, 10, "good", "", 50, 35, 50}, {-7, -10, 10, "good", "", 15, 35, 50},
		{75, -100, 100, "warn", "75\u202f% of its ceiling", 50, 37, 50}, {89, -100, 100, "warn", "89\u202f% of its ceiling", 50, 44, 50},
		{90, -100, 100, "bad", "90\u202f% of its ceiling", 50, 45, 50}, {100, -100, 100, "bad", "at its ceiling", 50, 50, 50},
		{-8, -10, 30, "warn", "80\u202f% of its floor", 5, 20, 25}, {-11, -10, 30, "bad", "past its floor", 0, 25, 25}, {1, -10, 0, "bad", "past its ceiling", 100, 0, 100},
		{0, 0, 10, "good", "", 0, 0, 0},
	} {
		b := balanceBar(&BoardFigure{Balance: c.balance, Limited: true, Floor: c.floor, Ceiling: c.ceiling})
		if b == nil || b.Tone != c.tone || b.Text != c.text || b.From != c.from || b.Size != c.size || b.Zero != c.zero {
			t.Errorf("%d of %d to %d: %+v", c.balance, c.floor, c.ceiling, b)
		}
	}
	for _, f := range []BoardFigure{{Floor: 1, Ceiling: 2}, {Floor: -2, Ceiling: -1}, {}, {Floor: -maxBarNum - 1, Ceiling: 1}, {Ceiling: maxBarNum + 1}} {
		if b := balanceBar(&f); b != nil {
			t.Errorf("%+v was drawn: %+v", f, b)
		}
	}
	if b := balanceBar(&BoardFigure{Balance: maxBarNum, Floor: -maxBarNum, Ceiling: maxBarNum}); b.Size != 50 || b.Tone != "bad" {
		t.Errorf("%+v", b)
	}
}

func TestTheBoardInARealBrowser(t *testing.T) {
	d := &desk{board: storyBoard()}
	w := boardWeb(t, newStory(), d)
	base := serve(t, w)
	for _, scheme := range []string{"light", "dark"} {
		ctx := browser(t, scheme)
		for _, width := range []int64{390, 1280} {
			if os.Getenv("KITH_SHOTS") == "" && (width == 390) != (scheme == "dark") {
				continue
			}
			look(t, ctx, base+"/board", fmt.Sprintf("board-%d-%s", width, scheme), width, scheme)
			if high, err := chromedp.Run(ctx, chromedp.Evaluate[float64](`Math.max(...[...document.querySelectorAll(".top a")].map((e) => e.getBoundingClientRect().height))`)); err != nil || high > 60 {
				t.Errorf("the navigation is %v high: %v", high, err)
			}
			// A table stays a table for whoever hears it, also where it is drawn as blocks.
			roles, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.querySelectorAll('.board [role="row"] > [role="cell"], .board [role="row"] > [role="rowheader"]').length`))
			if err != nil || roles != 4*6 {
				t.Errorf("%d cells: %v", roles, err)
			}
		}
	}
}

// TestABoardIsUsedByKeyboardAlone accepts by the Enter key, and keeps the focus where it was when the page changes under it.
func TestABoardIsUsedByKeyboardAlone(t *testing.T) {
	d := &desk{board: storyBoard()}
	w := boardWeb(t, newStory(), d)
	base := serve(t, w)
	ctx := browser(t, "light")
	focused := func() string {
		id, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.activeElement.id`))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	const second = "accept-00000000000000a2"
	if err := chromedp.Do(ctx, chromedp.Navigate(base+"/board"), chromedp.WaitVisible(chromedp.CSS(`.pulse[data-state="up"]`)), chromedp.Focus(chromedp.CSS("#"+second))); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.board.Advice[1].Quantity = 3
	d.mu.Unlock()
	w.Changed("")
	if err := chromedp.Do(ctx, chromedp.WaitReady(chromedp.CSS(`input[name="quantity"][value="3"]`))); err != nil {
		t.Fatal(err)
	}
	if id := focused(); id != second {
		t.Fatalf("the focus went to %q", id)
	}
	if err := chromedp.Do(ctx, chromedp.KeyEvent("\r"), chromedp.WaitVisible(chromedp.CSS("#board-promised"))); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); len(d.orders()) == 0 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	if did := d.orders(); !slices.Equal(did, []string{"accept 00000000000000a2 3"}) {
		t.Fatalf("%v", did)
	}
	where, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.pathname`))
	if err != nil || !regexp.MustCompile(`^/board`).MatchString(where) {
		t.Errorf("%q, %v", where, err)
	}
}
