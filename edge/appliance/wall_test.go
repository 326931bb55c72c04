package appliance

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

func TestTheScreenAtTheWallEndsInALeafThatCanBeChecked(t *testing.T) {
	c := newCabin(t)
	base := "http://" + c.edge.Addr()
	read := func(res *http.Response, err error) (string, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.Header.Get("X-Frame-Options")+res.Header.Get("Content-Security-Policy") == "" {
			t.Fatalf("%v %v", err, res.Header)
		}
		return string(b), res.Request.URL.String()
	}
	body, at := read(http.Get(base + "/"))
	if !strings.HasSuffix(at, "/kiosk") || !strings.Contains(body, "Kitchen shift") {
		t.Fatalf("%s: %s", at, body)
	}
	body, _ = read(http.Get(base + "/kiosk/amount?at=reader&action=use&resource=bed"))
	token := regexp.MustCompile(`name="token" value="([0-9a-f]+)"`).FindStringSubmatch(body)
	if token == nil {
		t.Fatal(body)
	}
	form := url.Values{"token": {token[1]}, "at": {"reader"}, "action": {"use"}, "resource": {"bed"}, "quantity": {"2"}}
	body, at = read(http.PostForm(base+"/kiosk/entry", form))
	if !strings.Contains(body, "Hold your card") {
		t.Fatal(body)
	}
	c.hand.show(c.ana)
	for i := 0; i < 500 && !strings.Contains(body, "Thank you"); i++ {
		time.Sleep(10 * time.Millisecond)
		body, _ = read(http.Get(at))
	}
	leaves := c.leaves(t, event.KindUse)
	if len(leaves) != 1 || c.pins.count("door/lock") != 0 {
		t.Fatalf("%d entries, lock driven %d times: %s", len(leaves), c.pins.count("door/lock"), body)
	}
	hash := tlog.RecordHash(leaves[0].Leaf)
	if want := strings.ReplaceAll(base64.StdEncoding.EncodeToString(hash[:]), "+", "&#43;"); !strings.Contains(body, want) || !strings.Contains(body, "keeps its own book") {
		t.Fatalf("the receipt has not the leaf's hash %s: %s", want, body)
	}
	c.edge.states["reader"].Store(&readerState{why: "unplugged"})
	if body, _ = read(http.Get(base + "/kiosk")); !strings.Contains(body, "The reader does not answer") {
		t.Fatal(body)
	}
}

func TestTheScreenOffersNothingThatWouldNotBeKept(t *testing.T) {
	c := newCabin(t)
	c.spoil(t, false)
	res, err := http.Get("http://" + c.edge.Addr() + "/kiosk")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(b), "No entries just now") || strings.Contains(string(b), "Washing") {
		t.Fatalf("%v %s", err, b)
	}
}
