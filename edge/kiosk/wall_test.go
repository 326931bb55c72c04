package kiosk

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kith/internal/event"
)

// touch is a browser at the wall without script: it follows links and sends the forms that stand on a page.
type touch struct {
	*wall
	t       testing.TB
	page    http.Handler
	trouble Trouble
	proof   Proof
	where   string
	code    int
	body    string
}

func newTouch(t testing.TB, w *wall) *touch {
	t.Helper()
	b := &touch{wall: w, t: t}
	var err error
	b.page, err = w.kiosk.Wall(Surroundings{Trouble: func(string) Trouble { return b.trouble },
		Prove: func(_ context.Context, address string) Proof { b.proof.Leaf = "hash of " + address; return b.proof }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *touch) send(method, where, body string, header ...string) *touch {
	b.t.Helper()
	for range 5 {
		r := httptest.NewRequest(method, where, strings.NewReader(body))
		if method == "POST" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		rec := httptest.NewRecorder()
		b.page.ServeHTTP(rec, r)
		b.where, b.code, b.body = where, rec.Code, rec.Body.String()
		if rec.Code != http.StatusSeeOther {
			return b
		}
		method, where, body = "GET", rec.Header().Get("Location"), ""
	}
	b.t.Fatalf("%s goes round", where)
	return b
}

func (b *touch) open(where string) *touch { b.t.Helper(); return b.send("GET", where, "") }

var (
	links  = regexp.MustCompile(`(?s)<a [^>]*href="([^"]*)"[^>]*>(.*?)</a>`)
	forms  = regexp.MustCompile(`(?s)<form[^>]*method="(get|post)" action="([^"]*)"[^>]*>(.*?)</form>`)
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	pushes = regexp.MustCompile(`(?s)<button([^>]*)>(.*?)</button>`)
	named  = regexp.MustCompile(`name="([^"]*)" value="([^"]*)"`)
)

// press touches the link or button with those words.
func (b *touch) press(words string) *touch {
	b.t.Helper()
	for _, m := range links.FindAllStringSubmatch(b.body, -1) {
		if strings.Contains(m[2], words) {
			return b.open(html.UnescapeString(m[1]))
		}
	}
	for _, m := range forms.FindAllStringSubmatch(b.body, -1) {
		fields := url.Values{}
		for _, h := range hidden.FindAllStringSubmatch(m[3], -1) {
			fields.Set(h[1], html.UnescapeString(h[2]))
		}
		for _, p := range pushes.FindAllStringSubmatch(m[3], -1) {
			if !strings.Contains(p[1]+p[2], words) {
				continue
			}
			if n := named.FindStringSubmatch(p[1]); n != nil {
				fields.Set(n[1], n[2])
			}
			if m[1] == "get" {
				return b.open(m[2] + "?" + fields.Encode())
			}
			return b.send("POST", m[2], fields.Encode())
		}
	}
	b.t.Fatalf("nothing at %s says %q:\n%s", b.where, words, b.body)
	return b
}

func (b *touch) again() *touch { b.t.Helper(); return b.open(b.where) }

func (b *touch) must(words ...string) *touch {
	b.t.Helper()
	for _, w := range words {
		if !strings.Contains(b.body, w) {
			b.t.Fatalf("%s (%d) does not say %q:\n%s", b.where, b.code, w, b.body)
		}
	}
	return b
}

func (b *touch) never(words ...string) *touch {
	b.t.Helper()
	for _, w := range words {
		if strings.Contains(b.body, w) {
			b.t.Fatalf("%s says %q:\n%s", b.where, w, b.body)
		}
	}
	return b
}

func TestTwoTouchesAndACardMakeAnEntryWithAReceipt(t *testing.T) {
	w := newWall(t)
	b := newTouch(t, w)
	b.open("/kiosk").must("What did you do or use?", ">Bed<").press("Bed").press("More").press("Enter 2 nights")
	b.must("Hold your card to the reader", "Bed · 2 nights", "The door stays shut").never("Ana", "Eva")
	w.show(t, "eva")
	b.again().must("Thank you, Eva", "Bed · 2 nights", "In this house&#39;s journal", "Not yet at the hub", "hash of "+strings.Repeat("0", 32)+"/0")
	b.proof = Proof{Size: 12}
	b.again().must("Co-signed by the hub", "12 leaves")
	b.proof = Proof{Alone: true}
	b.again().must("keeps its own book")
	if len(w.facts) != 1 || w.facts[0].Private.Member != "eva" {
		t.Fatalf("%+v", w.facts)
	}
	receipt := b.where
	b.press("Undo").must("The same card takes it back", "Take back", "Bed · 2 nights")
	w.show(t, "ana")
	if b.again().must("Not now", "Hold your card"); len(w.facts) != 1 {
		t.Fatal("somebody else took it back")
	}
	w.show(t, "eva")
	b.again().must("Taken back", "No longer counts").never("Undo")
	e, err := event.ParseEntry(w.facts[1].Kind, w.facts[1].Body)
	if err != nil || e.Quantity != 0 || e.Corrects != strings.Repeat("0", 32)+"/0" {
		t.Fatalf("%+v %v", e, err)
	}
	b.open(receipt).press("Undo").must("It cannot be taken back here")
	if b.code != http.StatusUnprocessableEntity || w.kiosk.Takes(reader) {
		t.Fatal(b.code)
	}
	b.press("Back").must("What did you do or use?")
}

func TestTwoCardsAreAskedForWhereTheCatalogueWantsThem(t *testing.T) {
	w := newWall(t)
	b := newTouch(t, w).open("/kiosk").press("Kitchen").must("Your card at the reader confirms it next").press("2 h").must("needs two cards").press("Enter 2 h")
	w.show(t, "ana")
	b.again().must("Now a second person")
	w.show(t, "ana")
	b.again().must("Not now")
	w.show(t, "ben")
	b.again().must("Thank you, Ana")
}

func TestAUseIsStartedAndStoppedWithoutATraceOfWho(t *testing.T) {
	w := newWall(t)
	b := newTouch(t, w).open("/kiosk").press("Workshop").press("Start now").must("The clock begins with your card", "Start</span>")
	w.show(t, "ana")
	b.again().must("Started")
	use := w.kiosk.Running()[0]
	b.open("/kiosk").must("Stop Workshop").never("Ana", use.ID)
	b.press("Stop Workshop").must("The card that started it stops it").never(use.ID)
	w.show(t, "ben")
	b.again().must("Not now")
	b.press("Cancel").must("Stop Workshop") // the stop, not the use
	b.send("POST", "/kiosk/entry/"+handleIn(t, b.body)+"/cancel", "at=front-in&token="+tokenIn(t, b.body)).must("Stop Workshop")
	if len(w.kiosk.Running()) != 1 {
		t.Fatal("a started use was given up without its card")
	}
	b.press("Stop Workshop")
	w.show(t, "ana")
	b.again().must("Thank you, Ana", "Workshop · 1 min")
	b.open("/kiosk").never("Stop Workshop")
}

func tokenIn(t testing.TB, body string) string {
	t.Helper()
	m := regexp.MustCompile(`name="token" value="([0-9a-f]{32})"`).FindStringSubmatch(body)
	if m == nil {
		t.Fatal("no token on the page")
	}
	return m[1]
}

func handleIn(t testing.TB, body string) string {
	t.Helper()
	m := regexp.MustCompile(`name="stop" value="([0-9a-f]{32})"`).FindStringSubmatch(body)
	if m == nil {
		t.Fatal("no started use on the page")
	}
	return m[1]
}

func TestNoBrowserSaysWhoItIsAndNoOtherPageSpeaks(t *testing.T) {
	w := newWall(t)
	b := newTouch(t, w).open("/kiosk").press("Bed")
	good := "at=front-in&action=use&resource=bed&quantity=2&token=" + tokenIn(t, b.body)
	for name, c := range map[string]struct {
		body   string
		header []string
		want   int
	}{
		"a member":          {good + "&member=ana", nil, 403},
		"a note":            {good + "&note=x", nil, 403},
		"a correction":      {good + "&corrects=x", nil, 403},
		"a field twice":     {good + "&quantity=3", nil, 403},
		"no token":          {strings.Replace(good, "token=", "x=", 1), nil, 403},
		"another token":     {good[:len(good)-4] + "0000", nil, 403},
		"an empty token":    {good[:strings.Index(good, "token=")] + "token=", nil, 403},
		"a long body":       {good + strings.Repeat("&", MaxForm), nil, 403},
		"text":              {good, []string{"Content-Type", "text/plain"}, 403},
		"another page":      {good, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"another origin":    {good, []string{"Origin", "http://evil.example"}, 403},
		"another port":      {good, []string{"Origin", "http://example.com:81"}, 403},
		"a word":            {strings.Replace(good, "=2", "=two", 1), nil, 403},
		"an unknown reader": {strings.Replace(good, "front-in", "back", 1), nil, 403},
		"a count of stock":  {strings.Replace(good, "use&resource=bed", "raise&resource=flour", 1), nil, 400},
		"too much":          {strings.Replace(good, "=2", "=15", 1), nil, 422},
		"nothing":           {strings.Replace(good, "=2", "=0", 1), nil, 400},
		"an unknown use":    {"at=front-in&stop=ana&token=" + tokenIn(t, b.body), nil, 422},
	} {
		if b.send("POST", "/kiosk/entry", c.body, c.header...); b.code != c.want || w.kiosk.Takes(reader) {
			t.Errorf("%s: %d, want %d: %s", name, b.code, c.want, b.body)
		}
	}
	if b.send("POST", "/kiosk/entry", good, "Origin", "http://example.com"); b.code != 200 || !w.kiosk.Takes(reader) { // httptest's own host
		t.Fatalf("our own page: %d", b.code)
	}
	if b.send("POST", "/kiosk/entry", good).must("Another entry waits here"); b.code != http.StatusConflict {
		t.Fatal(b.code)
	}
	b.open("/kiosk").must("An entry waits at this reader")
	for _, where := range []string{"/kiosk/entry/nothing", "/kiosk/entry/nothing?at=front-in", "/kiosk/settings", "/kiosk/amount?at=front-in&action=raise&resource=flour",
		"/kiosk/amount?action=use&resource=boat&at=front-in", "/kiosk/amount?quantity=x&at=front-in"} {
		b.open(where).must("What did you do or use?")
	}
}

func TestARefusedCardHearsNotNowAndNotWhy(t *testing.T) {
	w := newWall(t)
	b := newTouch(t, w).open("/kiosk").press("Workshop").press("Enter 30 min")
	w.show(t, "ben") // who is no maker
	b.again().must("<h1>Not now</h1>", "Nothing was entered").never("Ben", "group", "not-in-group")
	w.disk = func() error { return context.DeadlineExceeded }
	b.open("/kiosk").press("Bed").press("Enter 1 night")
	w.show(t, "ben")
	b.again().must("<h1>Try again", "could not be written down").never("deadline")
	w.disk = func() error { return nil }
	b.press("Try again").must("Hold your card")
}

func TestTroubleStandsWhereTheButtonsWere(t *testing.T) {
	w := newWall(t)
	b := newTouch(t, w)
	for trouble, words := range map[Trouble]string{NoReader: "The reader does not answer", NotKept: "No entries just now", NoRoster: "Not ready yet"} {
		b.trouble = trouble
		b.open("/kiosk").must(words).never("Bed", "<button")
		b.open("/kiosk/amount?at=front-in&action=use&resource=bed").must(words)
	}
	b.trouble = ""
	b.open("/kiosk").press("Bed").press("Enter")
	b.trouble = NoReader
	b.again().must("Hold your card", "The reader does not answer").press("Cancel")
	if w.kiosk.Takes(reader) {
		t.Fatal("cancelled, and still waiting")
	}
	b.open("/kiosk?at=cellar").must("Which reader is beside this screen?", "/kiosk?at=front-in")
}

func TestAScreenLeftAloneGoesHomeAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWall(t)
		b := newTouch(t, w).open("/kiosk").press("Bed").must(fmt.Sprintf(`data-idle="%d"`, IdleHome.Milliseconds()), `content="15; url=/kiosk?at=front-in"`).press("Enter")
		b.never("data-idle")
		time.Sleep(TapWait + time.Second)
		b.again().must("Try again", "The time was up", "data-idle")
		b.press("Try again")
		w.show(t, "eva")
		synctest.Wait()
		b.again().must("Thank you, Eva", "data-idle")
		receipt, token := b.where, tokenIn(t, b.body)
		time.Sleep(TapWait + ReceiptShown + time.Second)
		b.open(receipt).must("What did you do or use?").never("Eva")
		b.send("POST", strings.SplitN(receipt, "?", 2)[0]+"/undo", "at=front-in&token="+token).must("It cannot be taken back here")
	})
}

func TestWhatIsEnteredMostStandsFirstAndProposesItsUsualQuantity(t *testing.T) {
	w := newWall(t)
	b := newTouch(t, w)
	for _, n := range []int{2, 45, 45} {
		w.post(t, fmt.Sprintf(`{"action":"use","resource":"workshop","quantity":%d,"reader":"front-in"}`, n))
		w.show(t, "ana")
	}
	b.open("/kiosk")
	if strings.Index(b.body, "Workshop") > strings.Index(b.body, "Bed") {
		t.Fatal("the usual thing does not stand first")
	}
	b.press("Workshop").must("Enter 45 min").press(`"less"`).must("Enter 30 min").press(`"less"`).must("Enter 25 min").press("4 h").must("Enter 4 h").press(`"more"`).must("Enter 4 h 30 min")
	b.open("/kiosk/amount?at=front-in&action=use&resource=bed&quantity=99").must("Enter 14 nights", "asks to be told 24 h ahead")
	b.open("/kiosk/amount?at=front-in&action=use&resource=bed&quantity=-5").must("Enter 1 night<")
}

func TestTheScreensRulesOfStyleAreItsOwn(t *testing.T) {
	b := newTouch(t, newWall(t)).open("/kiosk")
	class, sheets := regexp.MustCompile(`\.([a-z][a-z-]*)`), map[string]map[string]bool{}
	for _, m := range regexp.MustCompile(`href="(/assets/(page|kiosk)\.css[^"]*)"`).FindAllStringSubmatch(b.body, -1) {
		if strings.Contains(b.open(m[1]).body, "@import") {
			t.Fatal("loads more")
		}
		sheets[m[2]] = map[string]bool{}
		for _, c := range class.FindAllStringSubmatch(b.body, -1) {
			sheets[m[2]][c[1]] = true
		}
		b.open("/kiosk")
	}
	shared := map[string]bool{"lead": true, "badge": true, "icon": true, "good": true, "warn": true, "bad": true}
	for c := range sheets["kiosk"] {
		if sheets["page"][c] && !shared[c] {
			t.Errorf("class %s means something on the hub's pages too: a change there would move the screen at the wall", c)
		}
	}
	if len(sheets["kiosk"]) < 10 || len(sheets["page"]) < 10 {
		t.Fatalf("%d and %d classes", len(sheets["kiosk"]), len(sheets["page"]))
	}
}

func FuzzParseForm(f *testing.F) {
	f.Add("at=front-in&action=use&resource=bed&quantity=2&token=0")
	f.Add("start=1&stop=%ff;&")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseForm(text)
		if err != nil {
			return
		}
		if n := len(got.Token) + len(got.At) + len(got.Action) + len(got.Resource) + len(got.Stop); n > MaxForm || len(text) > MaxForm {
			t.Fatalf("%d bytes out of %d", n, len(text))
		}
		back := url.Values{}
		for k, v := range map[string]string{"token": got.Token, "at": got.At, "action": got.Action, "resource": got.Resource, "stop": got.Stop} {
			back.Set(k, v)
		}
		back.Set("quantity", fmt.Sprint(got.Quantity))
		if got.Start {
			back.Set("start", "1")
		}
		if again, err := parseForm(back.Encode()); len(back.Encode()) <= MaxForm && (err != nil || again != got) {
			t.Fatalf("%+v became %+v (%v)", got, again, err)
		}
	})
}
