package kiosk

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
)

// wall is a kiosk with its neighbours laid open: real cards, a roster that knows their keys, a disk that can be slow.
type wall struct {
	kiosk *Kiosk
	cards map[string]*card.PKOCCard
	owner map[string]string // card id to member
	disk  func() error

	mu    sync.Mutex
	said  []Word
	facts []event.Fact
}

type held struct{ card *card.PKOCCard }

func (h held) Transceive(ctx context.Context, apdu []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return h.card.Transceive(apdu), nil
}

func newWall(t *testing.T) *wall {
	t.Helper()
	w := &wall{cards: map[string]*card.PKOCCard{}, owner: map[string]string{}, disk: func() error { return nil }}
	roster := catalogueOf(t)
	for p := range roster.People() {
		key, err := card.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		w.cards[p.ID] = card.NewPKOCCard(key)
		w.owner[w.cards[p.ID].Credential().ID()] = p.ID
	}
	start := time.Now()
	w.kiosk = New(Config{Network: "demo", Node: "lisbon", Edge: "lisbon-front", Readers: []string{reader}}, Rooms{
		View: func() (View, time.Duration) { return View{roster, time.Now(), event.Synced}, time.Since(start) },
		Identify: func(id string, _ card.Assurance) (access.Person, access.Reason) {
			if p, ok := roster.Person(w.owner[id]); ok {
				return p, access.Granted
			}
			return access.Person{}, access.UnknownCard
		},
		Record: func(_ context.Context, f event.Fact) (event.Epoch, uint64, error) {
			if err := w.disk(); err != nil {
				return event.Epoch{}, 0, err
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.facts = append(w.facts, f)
			return event.Epoch{}, uint64(len(w.facts) - 1), nil
		},
		Say: func(_ string, word Word, _ time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.said = append(w.said, word)
		},
		Keep:     func([]Use) error { return nil },
		ReaderID: func(string) card.ReaderID { return card.ReaderID{} },
	}, nil, nil)
	return w
}

func (w *wall) show(t *testing.T, who ...string) {
	var targets []card.Target
	var channels []card.Channel
	for i, id := range who {
		targets = append(targets, card.Target{UID: []byte{4, byte(i), 2, 3, 4, 5, 6}, SAK: 0x20})
		channels = append(channels, held{w.cards[id]})
	}
	w.kiosk.Present(t.Context(), reader, targets, channels)
}

func (w *wall) ask(method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.kiosk.Handler().ServeHTTP(rec, r)
	return rec
}

func (w *wall) post(t *testing.T, body string) Answer {
	t.Helper()
	res := w.ask("POST", "/api/v1/entries", body)
	var a Answer
	if res.Code != http.StatusCreated || json.Unmarshal(res.Body.Bytes(), &a) != nil {
		t.Fatalf("%d %s", res.Code, res.Body)
	}
	return a
}

func (w *wall) get(t *testing.T, id string) Answer {
	t.Helper()
	res := w.ask("GET", "/api/v1/entries/"+id, "")
	var a Answer
	if res.Code != http.StatusOK || json.Unmarshal(res.Body.Bytes(), &a) != nil {
		t.Fatalf("%d %s", res.Code, res.Body)
	}
	return a
}

const twoNights = `{"action":"use","resource":"bed","quantity":2,"reader":"front-in","note":"blue room"}`

func TestAnEntryOverTheAPIIsSignedByTheCardThatWasShown(t *testing.T) {
	w := newWall(t)
	a := w.post(t, twoNights)
	if a.State != Waiting || a.LeftMS <= 0 || a.Measure != "night" || !w.kiosk.Takes(reader) || w.kiosk.Takes("front-out") {
		t.Fatalf("%+v", a)
	}
	w.show(t, "eva")
	if a = w.get(t, a.ID); a.State != Recorded || a.Evidence != "A" || a.Name != "Eva" || a.Address != strings.Repeat("0", 32)+"/0" {
		t.Fatalf("%+v", a)
	}
	f := w.facts[0]
	if err := card.CheckBinding(event.Leaf{Network: "demo", Node: "lisbon", Edge: "lisbon-front", Kind: f.Kind, Body: f.Body}, *f.Private); err != nil {
		t.Fatalf("the journal's bytes do not prove the card: %v", err)
	}
	if err := card.CheckBinding(event.Leaf{Network: "demo", Node: "porto", Edge: "lisbon-front", Kind: f.Kind, Body: f.Body}, *f.Private); !errors.Is(err, card.ErrBinding) {
		t.Fatalf("the same signature passed for another place: %v", err)
	}
	res := w.ask("GET", "/api/v1/entries?limit=5", "")
	if !strings.Contains(res.Body.String(), a.Address) || strings.Contains(strings.ToLower(res.Body.String()), "eva") {
		t.Fatalf("the list is wrong or names the person: %s", res.Body)
	}
	if res := w.ask("GET", "/api/v1/resources", ""); !strings.Contains(res.Body.String(), `"id":"kitchen"`) {
		t.Fatalf("%s", res.Body)
	}
}

func TestTwoCardsProveWorkAndBothSignaturesHold(t *testing.T) {
	w := newWall(t)
	a := w.post(t, `{"action":"work","resource":"kitchen","quantity":180,"reader":"front-in"}`)
	w.show(t, "ana")
	if s := w.get(t, a.ID); s.State != Witness {
		t.Fatalf("%+v", s)
	}
	w.show(t, "ana")
	w.show(t, "ben")
	if s := w.get(t, a.ID); s.State != Recorded || s.Evidence != "A" {
		t.Fatalf("%+v", s)
	}
	leaf := event.Leaf{Network: "demo", Node: "lisbon", Edge: "lisbon-front", Kind: w.facts[0].Kind, Body: w.facts[0].Body}
	if err := card.CheckBinding(leaf, *w.facts[0].Private); err != nil {
		t.Fatal(err)
	}
	w.post(t, `{"action":"use","resource":"bed","quantity":1,"reader":"front-in","member":"ana"}`)
	w.show(t, "host")
	leaf.Kind, leaf.Body = w.facts[1].Kind, w.facts[1].Body
	if err := card.CheckBinding(leaf, *w.facts[1].Private); err != nil || !strings.Contains(string(leaf.Body), `"evidence":"B"`) {
		t.Fatalf("a host's word: %v %s", err, leaf.Body)
	}
}

func TestTwoCardsAtOnceAndABrokenCardLeaveTheEntryWaiting(t *testing.T) {
	w := newWall(t)
	a := w.post(t, twoNights)
	w.show(t, "ana", "ben")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	w.kiosk.Present(gone, reader, []card.Target{{UID: []byte{4, 1, 2, 3, 4, 5, 6}, SAK: 0x20}}, []card.Channel{held{w.cards["ana"]}})
	w.kiosk.Present(t.Context(), reader, []card.Target{{UID: []byte{8, 1, 2, 3}}}, []card.Channel{nil})
	if s := w.get(t, a.ID); s.State != Waiting || len(w.facts) != 0 {
		t.Fatalf("%+v", s)
	}
	for i, word := range w.said {
		if want := []Word{Working, TryAgain}[i%2]; word != want {
			t.Fatalf("said %v", w.said)
		}
	}
	res := w.ask("POST", "/api/v1/entries/"+a.ID+"/cancel", "")
	if res.Code != http.StatusOK || w.get(t, a.ID).State != Cancelled {
		t.Fatalf("%d %s", res.Code, res.Body)
	}
	w.show(t, "ana") // the reader asked, and the entry ended before the card could answer
	if w.said[len(w.said)-1] != NotNow || len(w.facts) != 0 {
		t.Fatalf("said %v", w.said)
	}
}

func TestHostileRequestsAreRefusedAndChangeNothing(t *testing.T) {
	w := newWall(t)
	for name, c := range map[string]struct {
		body   string
		header []string
		want   int
	}{
		"not JSON":              {"{", nil, 400},
		"empty":                 {"", nil, 400},
		"a list":                {"[]", nil, 400},
		"null":                  {"null", nil, 400},
		"two values":            {twoNights + twoNights, nil, 400},
		"unknown key":           {`{"action":"use","evil":1}`, nil, 400},
		"key twice":             {`{"quantity":1,"quantity":2}`, nil, 400},
		"key in another case":   {`{"Action":"use"}`, nil, 400},
		"float":                 {strings.Replace(twoNights, ":2", ":2.5", 1), nil, 400},
		"exponent":              {strings.Replace(twoNights, ":2", ":2e9", 1), nil, 400},
		"number beyond int64":   {strings.Replace(twoNights, ":2", ":99999999999999999999", 1), nil, 400},
		"text for a number":     {strings.Replace(twoNights, ":2", `:"2"`, 1), nil, 400},
		"deep":                  {strings.Repeat(`{"note":`, 100) + "1" + strings.Repeat("}", 100), nil, 400},
		"bad UTF-8":             {strings.Replace(twoNights, "blue", "bl\xffe", 1), nil, 400},
		"escaped line feed":     {strings.Replace(twoNights, "blue", `bl\ne`, 1), nil, 400},
		"too long":              {strings.Replace(twoNights, "blue", strings.Repeat("x", MaxBody), 1), nil, 413},
		"a form":                {twoNights, []string{"Content-Type", "text/plain"}, 415},
		"another page's script": {twoNights, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"another origin":        {twoNights, []string{"Origin", "http://evil.example"}, 403},
		"a member by a browser": {`{"action":"use","resource":"bed","quantity":1,"member":"ana"}`, []string{"Origin", "http://example.com"}, 403},
		"a member by a fetch":   {strings.Replace(twoNights, "{", `{"member":"ana",`, 1), []string{"Sec-Fetch-Site", "same-origin"}, 403},
		"unknown reader":        {strings.Replace(twoNights, "front-in", "x", 1), nil, 400},
		"to nobody":             {`{"action":"transfer","resource":"flour","quantity":1,"reader":"front-in","to":"porto/"}`, nil, 400},
		"to a path":             {`{"action":"transfer","resource":"flour","quantity":1,"reader":"front-in","to":"porto/a/b"}`, nil, 400},
		"unknown resource":      {strings.Replace(twoNights, "bed", "boat", 1), nil, 422},
	} {
		res := w.ask("POST", "/api/v1/entries", c.body, c.header...)
		if res.Code != c.want || w.kiosk.Takes(reader) {
			t.Errorf("%s: %d %s, want %d", name, res.Code, res.Body, c.want)
		}
	}
	for path, want := range map[string]int{"/api/v1/entries/nothing": 404, "/api/v1/entries?limit=0": 400, "/api/v1/entries?limit=101": 400,
		"/api/v1/entries?limit=x": 400, "/api/v1/secrets": 404} {
		if res := w.ask("GET", path, ""); res.Code != want {
			t.Errorf("%s: %d, want %d", path, res.Code, want)
		}
	}
	if res := w.ask("POST", "/api/v1/entries/nothing/cancel", ""); res.Code != 404 {
		t.Errorf("cancel of nothing: %d", res.Code)
	}
	w.post(t, twoNights)
	if res := w.ask("POST", "/api/v1/entries", twoNights); res.Code != 409 {
		t.Errorf("two at one reader: %d", res.Code)
	}
}

func FuzzParseWant(f *testing.F) {
	f.Add([]byte(twoNights))
	f.Add([]byte(`{"start":true,"note":"\u0000"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		want, err := ParseWant(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseWant(again); len(again) <= MaxBody && (err != nil || back != want) {
			t.Fatalf("%+v became %+v (%v)", want, back, err)
		}
	})
}

func TestASlowDiskIsWaitedForAndTheWordIsSaidWhenItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWall(t)
		w.disk = func() error { time.Sleep(RecordWait + time.Second); return nil }
		a := w.post(t, twoNights)
		begin := time.Now()
		w.show(t, "ana")
		if d := time.Since(begin); d != RecordWait {
			t.Fatalf("the reader was held for %s", d)
		}
		if s := w.get(t, a.ID); s.State != Recording || w.said[len(w.said)-1] != Working {
			t.Fatalf("%+v said %v", s, w.said)
		}
		w.kiosk.Close()
		if s := w.get(t, a.ID); s.State != Recorded || w.said[len(w.said)-1] != Yes {
			t.Fatalf("%+v said %v", s, w.said)
		}
		late := w.post(t, twoNights)
		w.show(t, "ana")
		synctest.Wait()
		if s := w.get(t, late.ID); s.State != Refused || s.Reason != "not-recorded" || len(w.facts) != 1 {
			t.Fatalf("recorded while stopping: %+v", s)
		}
	})
}
