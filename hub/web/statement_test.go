package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const storyKey = "demo/operator+a1b2c3d4+AaBbCcDdEeFfGgHhIiJjKkLlMmNnOoPpQqRrSsTtUuVv"

// storyStatement is a posted period with every state that a debt can have.
func storyStatement() Statement {
	leaf := "/event/lisbon-front/" + storyEpoch.String() + "/48200"
	line := func(id, debtor, creditor string, open, done int64, aside string) StatementLine {
		return StatementLine{ID: strings.Repeat(id, 32), Debtor: debtor, Creditor: creditor, Unit: "night", Open: open, Discharged: done, Rest: open - done,
			Day: "19 November 2026", Evidence: "A", Fresh: true, Aside: aside, Href: leaf}
	}
	s := Statement{Name: "week-2", State: "posted", Day: "14 November 2026", Number: 2, Follows: "week-1", Policy: "rules-1 " + strings.Repeat("ab", 32), Key: storyKey,
		Numbers: []StatementNumber{{1, storyNow.Unix() - 9000, true, strings.Repeat("11", 32)}, {2, storyNow.Unix() - 4000, false, strings.Repeat("22", 32)}},
		Units:   []StatementUnit{{"night", 0, 33, 20}, {"work-hour", 2, 1234567, 1234562}}, Confirmed: []string{"Casa da Graça", hostile},
		Lines: []StatementLine{line("aa", "Casa da Graça", "Kyōto Machiya", 12, 12, ""), line("bb", hostile, "Forest camp", 9, 4, ""), line("cc", "Kyōto Machiya", strings.Repeat("Wolfeschlegelsteinhausen", 4), 7, 0, "disputed: left out")},
		Total: 4, Cut: []CutPoint{{"Casa da Graça", "lisbon-front", storyEpoch.String(), 48213, strings.Repeat("d0", 32)}}, Missing: []string{"Forest camp"},
		Disputes: []StatementDispute{{ID: strings.Repeat("cc", 32), By: hostile, At: storyNow.Unix() - 6000, Debtor: "Kyōto Machiya", Creditor: "Casa da Graça", Unit: "night", Amount: 7, Outcome: "stand", Reviewer: "Forest camp"},
			{ID: strings.Repeat("dd", 32), By: "Forest camp", At: storyNow.Unix() - 6000, Debtor: "Forest camp", Creditor: "Casa da Graça", Unit: "night", Amount: 1, Outcome: "void"}},
		Balances: []Posting{{Account: "Casa da Graça, with Kyōto Machiya", Unit: "night", Amount: -3}}, Postings: []Posting{{"came up", "Casa da Graça, with Kyōto Machiya", "night", 0, -3}, {"went round", hostile, "night", 0, 3}}, Posted: 40,
		Accounts: 12, Seal: strings.Repeat("5ea1", 16), Note: "kith-settlement-statement v1\nnetwork demo\n\n— demo/operator abc=\n", File: "week-2.tar",
		Pool: true, Own: "hub period balance --out NODE-week-2.txt week-2 NODE", Fetch: "hub period bundle --config /etc/kith/hub.yaml --state-dir /var/lib/kith --out week-2.tar week-2", Check: "hub verify week-2.tar"}
	dues := line("ee", "Casa da Graça", "The pool", 1, 0, "")
	dues.Href, dues.From, dues.Fresh = "", "dues", false
	s.Lines = append(s.Lines, dues)
	return s
}

func (s *story) Statement(_ context.Context, q StatementQuery) (Statement, error) {
	st := storyStatement()
	switch {
	case s.fail != nil:
		return st, s.fail
	case q.Period == "week-3":
		st.Name, st.State, st.Until, st.File, st.Seal, st.Balances, st.Postings = "week-3", "proposed", storyNow.Unix(), "", "", nil, nil
		st.Next = []Order{{"A house says yes early:", "hub period confirm --by NODE week-3"}}
	case q.Period != "week-2" || q.Number > 2 || q.From > 600:
		return st, ErrUnknown
	}
	if q.Number > 0 {
		st.Number = q.Number
	}
	if q.From > 0 {
		st.From, st.Total = q.From, 603
	}
	return st, nil
}

// storyBundle is larger than one part of a download.
var storyBundle = bytes.Repeat([]byte("kith"), bundlePart)

func (s *story) Bundle(_ context.Context, name string) ([]byte, error) {
	if s.held != nil {
		<-s.held
	}
	if name != "week-2" {
		return nil, ErrUnknown
	}
	return storyBundle, s.fail
}

func TestAPostedPeriodShowsEverythingThatItRestsOn(t *testing.T) {
	h := newWeb(t, newStory()).Handler()
	b := get(t, h, "/period/week-2").Body.String()
	inOrder(t, b, "Period week-2</h1>", "Cut on <strong>14 November 2026", "statement 2 stands", "<td>33</td><td>20</td><td>13</td>", "<td>12\u202f345.67</td><td>12\u202f345.62</td><td>0.05</td>",
		"Nobody owes more than before", "No house is better or worse off", "paid into it", "Nobody gets a new creditor or debtor", "No more can be cleared", "the total reaches it",
		`href="/period/week-2/bundle.tar" download="week-2.tar"`, "<pre>hub verify week-2.tar</pre>", "hub period bundle --config /etc/kith/hub.yaml --state-dir /var/lib/kith --out week-2.tar week-2", "hub period balance --out NODE-week-2.txt week-2 NODE", strings.Repeat("5ea1", 16), "12 accounts", storyKey[:13], "rules-1 abab", `href="/period/week-1"`,
		"it stands", "decided by", "void", "nobody answered in time", `href="/period/week-2?number=1"`, "withdrawn", `href="/period/week-2?number=2" aria-current="page"`, "shown here", "kith-settlement-statement v1",
		"No journal of: ", "lisbon-front", "48\u202f213", strings.Repeat("d0", 32), "Casa da Graça, with Kyōto Machiya", "\u22123 nights", "40 postings", "the first 2; all are in the bundle",
		"4 debts", `href="/event/lisbon-front/`, "owes <span dir=\"auto\">Kyōto Machiya</span> 12 nights", "aaaaaaaaaaaaaaaa", "12 went round", "4 went round", "5 stays", "disputed: left out", "dues, carried over", "1 stays")
	if strings.Contains(b, "data-live") || strings.Contains(b, "<script>alert") {
		t.Error("a posted period does not change, and names are text")
	}
	if b = get(t, h, "/period/week-2?number=1").Body.String(); !strings.Contains(b, "This one was withdrawn") {
		t.Error("an old statement does not say that it was withdrawn")
	}
	b = get(t, h, "/period/week-2?from=200").Body.String()
	inOrder(t, b, "200 to 204 of 603 debts", `href="/period/week-2?number=2&amp;from=0#debts"`, `href="/period/week-2?number=2&amp;from=204#debts"`)
	b = get(t, h, "/period/week-3").Body.String()
	inOrder(t, b, `data-live="/live"`, "can be challenged until <strong>21 November 2026, 10:42 UTC", "How far it is", `class="node plain"`, "Said yes early", "hub period confirm --by NODE week-3")
	if strings.Contains(b, "bundle.tar") || strings.Contains(b, "hub verify") {
		t.Error("there is a bundle before the period is posted")
	}
	for _, path := range []string{"/period/week-9", "/period/Week", "/period/week-2?number=3", "/period/week-2?number=0", "/period/week-2?number=x", "/period/week-2?from=-1", "/period/week-2?from=601", "/period/week-9/bundle.tar", "/period/..%2f/bundle.tar"} {
		if c := get(t, h, path).Code; c != 404 {
			t.Errorf("%s: %d", path, c)
		}
	}
}

func TestABundleIsHandedOutWholeAndFewAtATime(t *testing.T) {
	s := newStory()
	w := newWeb(t, s)
	r := get(t, w.Handler(), "/period/week-2/bundle.tar")
	if r.Code != 200 || !bytes.Equal(r.Body.Bytes(), storyBundle) {
		t.Fatalf("%d, %d bytes", r.Code, r.Body.Len())
	}
	for k, want := range map[string]string{"Content-Type": "application/x-tar", "Content-Length": fmt.Sprint(len(storyBundle)), "Content-Disposition": `attachment; filename="week-2.tar"`, "Cache-Control": "no-store"} {
		if r.Header().Get(k) != want {
			t.Errorf("%s is %q", k, r.Header().Get(k))
		}
	}
	s.held = make(chan struct{})
	done := make(chan int, MaxDownloads)
	for range MaxDownloads {
		go func() { done <- get(t, w.Handler(), "/period/week-2/bundle.tar").Code }()
	}
	for len(w.downloads) < MaxDownloads { // until all of them are inside
		time.Sleep(time.Millisecond)
	}
	if r := get(t, w.Handler(), "/period/week-2/bundle.tar"); r.Code != 503 || r.Header().Get("Retry-After") == "" {
		t.Errorf("one more download: %d", r.Code)
	}
	close(s.held)
	for range MaxDownloads {
		if c := <-done; c != 200 {
			t.Errorf("a download gave %d", c)
		}
	}
	s.fail = errors.New("disk")
	if r := get(t, w.Handler(), "/period/week-2/bundle.tar"); r.Code != 500 || strings.Contains(r.Body.String(), "disk") || get(t, w.Handler(), "/period/week-2").Code != 500 {
		t.Error(r.Code)
	}
}
