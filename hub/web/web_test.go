package web

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kith/internal/page"
)

func get(t *testing.T, h http.Handler, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.Host = "127.0.0.1:8080"
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

var allPages = []string{"/", "/node/lisbon", "/node/kyoto", "/node/forest", "/node/hostile", "/period", "/period/week-2", "/period/week-3", "/member/ana", "/member/nobody", "/node/lisbon?before=1795255200000", "/nowhere",
	"/event/lisbon-front/" + storyEpoch.String() + "/48200", "/event/hostile-front/" + storyEpoch.String() + "/48199",
	"/event/lisbon-front/" + storyEpoch.String() + "/48209", "/event/lisbon-front/" + storyEpoch.String() + "/48001",
	"/event/lisbon-front/" + storyEpoch.String() + "/47000"}

func TestEveryPageIsSafeWholeAndPrivate(t *testing.T) {
	h := newWeb(t, newStory()).Handler()
	inline := regexp.MustCompile(`(?i)<script(?:>|\s+[^>]*>\s*[^<\s])|\son[a-z]+=|<style|\sstyle=|javascript:`)
	for _, path := range allPages {
		w := get(t, h, path)
		body := w.Body.String()
		if w.Code != 200 && path != "/nowhere" {
			t.Errorf("%s: %d", path, w.Code)
		}
		for k, want := range map[string]string{"Content-Security-Policy": page.Policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
			if w.Header().Get(k) != want {
				t.Errorf("%s: %s is %q", path, k, w.Header().Get(k))
			}
		}
		if strings.Contains(body, "<script>alert") || inline.MatchString(strings.ReplaceAll(body, `</script>`, "")) {
			t.Errorf("%s: something inline or unescaped: %s", path, inline.FindString(body))
		}
		if !strings.HasSuffix(strings.TrimSpace(body), "</html>") || strings.Contains(body, "<no value>") || strings.Contains(body, "%!") {
			t.Errorf("%s: not whole", path)
		}
		if strings.Contains(body, "http://") || strings.Contains(body, "https://") {
			t.Errorf("%s: loads or links elsewhere", path)
		}
	}
	if b := get(t, h, "/node/hostile").Body.String(); !strings.Contains(b, "&lt;script&gt;alert(1)") || !strings.Contains(b, strings.Repeat("Wolfeschlegelsteinhausen", 8)) {
		t.Error("a hostile name is not shown as text")
	}
}

func TestTheWhyAndTheProofAreOnThePage(t *testing.T) {
	h := newWeb(t, newStory()).Handler()
	b := get(t, h, "/event/lisbon-front/"+storyEpoch.String()+"/48200").Body.String()
	last := 0
	for _, want := range []string{"Bo Lindqvist</span> came in", "proved its own key", "for the group residents", "at any time", "let in", `href="/member/bo"`, "Co-signed at 48\u202f213 leaves", "The leaf is in the co-signed tree", "qL79zXQAMx7", "&#34;i&#34;:48200"} {
		i := strings.Index(b[last:], want)
		if i < 0 {
			t.Fatalf("%q is missing or out of order", want)
		}
		last += i
	}
	b = get(t, h, "/event/lisbon-front/"+storyEpoch.String()+"/48198").Body.String()
	if !strings.Contains(b, "outside the hours") || !strings.Contains(b, "do not lead to the co-signed root") {
		t.Error("a broken proof must be said")
	}
	b = get(t, h, "/event/lisbon-front/"+storyEpoch.String()+"/47000").Body.String()
	if !strings.Contains(b, "cannot read") || strings.Contains(b, "1970") || strings.Contains(b, `href="/node/"`) {
		t.Error("a line that cannot be read must still have an honest page")
	}
	b = get(t, h, "/event/lisbon-front/"+storyEpoch.String()+"/48212").Body.String()
	if !strings.Contains(b, "Not co-signed yet") || strings.Contains(b, "Recomputed") {
		t.Error("a leaf without a receipt must say so")
	}
}

func TestTimesAreTheHouses(t *testing.T) {
	h := newWeb(t, newStory()).Handler()
	b := get(t, h, "/").Body.String()
	for _, want := range []string{"10:42 there", "19:42 there", "04:42 there", ">17:42</time>"} {
		if !strings.Contains(b, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func TestBadAddressesFindNothing(t *testing.T) {
	h := newWeb(t, newStory()).Handler()
	for _, path := range []string{"/node/nobody", "/node/Lisbon", "/node/..%2f", "/node/lisbon?before=x", "/node/lisbon?before=-1", "/event/lisbon-front/zz/1",
		"/event/lisbon-front/" + storyEpoch.String() + "/99999999999999999999", "/event/lisbon-front/" + storyEpoch.String() + "/-1",
		"/event/lisbon-front/" + storyEpoch.String() + "/7", "/event/UPPER/" + storyEpoch.String() + "/1", "/assets/none", "/assets/..%2fpage.go", "/nowhere"} {
		if w := get(t, h, path); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/live?node=%2e%2e", "/api/v1/events?after=x", "/api/v1/events?limit=0", "/api/v1/events?limit=501"} {
		if w := get(t, h, path); w.Code != 400 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestOnlyLoopbackIsServedAndAnswered(t *testing.T) {
	for _, a := range []string{"0.0.0.0:8080", ":8080", "192.168.1.4:80", "[::]:80", "hub.example:80", "100.64.0.1:80", "nonsense"} {
		if CheckListen(a) == nil {
			t.Errorf("%s was accepted", a)
		}
	}
	for _, a := range []string{"127.0.0.1:0", "[::1]:8080", "localhost:80", "127.9.9.9:1"} {
		if err := CheckListen(a); err != nil {
			t.Error(err)
		}
	}
	h := newWeb(t, newStory()).Handler()
	for host, want := range map[string]int{"evil.example": 421, "evil.example:8080": 421, "127.0.0.1.evil.example": 421, "192.168.0.2": 421, "": 421,
		"localhost:8080": 200, "127.0.0.1": 200, "[::1]:8080": 200, "[::1]": 200} {
		if w := get(t, h, "/", func(r *http.Request) { r.Host = host }); w.Code != want {
			t.Errorf("host %q: %d, want %d", host, w.Code, want)
		}
	}
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Skip("SKIP: a wildcard listener is missing: " + err.Error())
	}
	if err := newWeb(t, newStory()).Serve(t.Context(), l); err == nil {
		t.Error("served on a wildcard address")
	}
}

func TestARouteWithoutARoleDoesNotStart(t *testing.T) {
	ok := func(http.ResponseWriter, *http.Request) {}
	for name, table := range map[string][]route{
		"no role":      {{pattern: "GET /x", handle: ok}},
		"unknown role": {{pattern: "GET /x", role: "king", handle: ok}},
		"no handler":   {{pattern: "GET /x", role: Host}},
		"twice":        {{pattern: "GET /x", role: Host, handle: ok}, {pattern: "GET /x", role: Host, handle: ok}},
		"any method":   {{pattern: "/x", role: Host, handle: ok}},
		"a POST":       {{pattern: "POST /x", role: Host, handle: ok}},
		"empty":        {},
	} {
		if _, err := mount(table); err == nil {
			t.Errorf("%s: started", name)
		}
	}
	for _, r := range newWeb(t, newStory()).routes() {
		people := strings.Contains(r.pattern, "node") || strings.Contains(r.pattern, "event") || r.pattern == "GET /{$}" || r.pattern == "GET /live"
		if people && r.role != Host {
			t.Errorf("%s shows people to %s", r.pattern, r.role)
		}
	}
}

func TestNothingChangesByAnyRequest(t *testing.T) {
	h := newWeb(t, newStory()).Handler()
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		for _, path := range []string{"/", "/node/lisbon", "/api/v1/nodes"} {
			w := get(t, h, path, func(r *http.Request) { r.Method = method })
			if w.Code != 405 && w.Code != 403 {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
			w = get(t, h, path, func(r *http.Request) { r.Method = method; r.Header.Set("Sec-Fetch-Site", "cross-site") })
			if w.Code != 403 {
				t.Errorf("cross-site %s %s: %d", method, path, w.Code)
			}
		}
	}
}

func TestAssetsAreKeptByTheirHash(t *testing.T) {
	h := newWeb(t, newStory()).Handler()
	body := get(t, h, "/").Body.String()
	for _, found := range regexp.MustCompile(`/assets/[a-z.]+\?v=[0-9a-f]+`).FindAllString(body, -1) {
		w := get(t, h, found)
		if w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: %d %v", found, w.Code, w.Header())
		}
		tag := w.Header().Get("ETag")
		if w = get(t, h, found, func(r *http.Request) { r.Header.Set("If-None-Match", tag) }); w.Code != 304 {
			t.Errorf("%s: %d for a copy that is fresh", found, w.Code)
		}
	}
	if w := get(t, h, "/assets/page.css"); w.Code != 200 || strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
		t.Errorf("an address without a hash must not be kept: %v", w.Header())
	}
}

func TestAFailingBookSaysNotNow(t *testing.T) {
	s := newStory()
	s.fail = errors.New("disk of ana")
	h := newWeb(t, s).Handler()
	for _, path := range []string{"/", "/node/lisbon", "/event/lisbon-front/" + storyEpoch.String() + "/48200", "/api/v1/nodes", "/api/v1/events"} {
		w := get(t, h, path)
		if w.Code != 500 || strings.Contains(w.Body.String(), "ana") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := get(t, h, "/readyz"); w.Code != 503 {
		t.Errorf("readyz: %d", w.Code)
	}
}

func TestTheAPISpeaksJSON(t *testing.T) {
	h := newWeb(t, newStory()).Handler()
	nodes := decode[struct {
		Nodes []struct {
			ID    string
			In    int
			Doubt int `json:"in_doubt"`
		}
	}](t, get(t, h, "/api/v1/nodes").Body.String())
	if len(nodes.Nodes) != 4 || nodes.Nodes[0].In != 11 || nodes.Nodes[0].Doubt != 2 {
		t.Errorf("%+v", nodes)
	}
	events := decode[struct {
		Events []struct{ Edge, Epoch, Kind string }
		Next   string
	}](t, get(t, h, "/api/v1/events?limit=3").Body.String())
	if len(events.Events) != 3 || events.Next != "7-0" || events.Events[0].Edge != "lisbon-front" {
		t.Errorf("%+v", events)
	}
	if w := get(t, h, "/api/v1/events?after=7-0"); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
}

func TestReadersHearOfTheirNodeOnly(t *testing.T) {
	w := newWeb(t, newStory())
	base := serve(t, w)
	lines := func(path string) (*bufio.Scanner, func()) {
		ctx, cancel := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, "GET", base+path, nil)
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if a.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%v", a.Header)
		}
		s := bufio.NewScanner(a.Body)
		s.Scan() // retry
		return s, func() { cancel(); a.Body.Close() }
	}
	all, end := lines("/live")
	defer end()
	kyoto, stop := lines("/live?node=kyoto")
	defer stop()
	w.Changed("lisbon")
	w.Changed("kyoto")
	next := func(s *bufio.Scanner) string {
		for s.Scan() {
			if d, ok := strings.CutPrefix(s.Text(), "data: "); ok {
				return d
			}
		}
		t.Fatal("the stream ended")
		return ""
	}
	if a, b, k := next(all), next(all), next(kyoto); a != "lisbon" || b != "kyoto" || k != "kyoto" {
		t.Fatalf("%s %s %s", a, b, k)
	}
}

func TestASlowReaderIsCutAndNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive()
		slow, _ := l.join("")
		quick, _ := l.join("")
		heard := 0
		go func() {
			for {
				select {
				case <-quick.wake:
					heard++
				case <-quick.cut:
					return
				}
			}
		}()
		for range readerQueue + 1 {
			l.publish("lisbon")
			synctest.Wait()
		}
		select {
		case <-slow.cut:
		default:
			t.Fatal("the slow reader was not cut")
		}
		if heard != readerQueue+1 || len(l.readers) != 1 {
			t.Fatalf("the quick one heard %d of %d, %d readers left", heard, readerQueue+1, len(l.readers))
		}
		for range MaxReaders - 1 {
			if _, ok := l.join(""); !ok {
				t.Fatal("refused too early")
			}
		}
		if _, ok := l.join(""); ok {
			t.Fatal("no bound on readers")
		}
		l.close()
		synctest.Wait()
		if _, ok := l.join(""); ok {
			t.Fatal("joined a closed house")
		}
	})
}

// stuck is a connection whose peer takes nothing.
type stuck struct {
	http.ResponseWriter
	deadline time.Time
}

func (s *stuck) SetWriteDeadline(d time.Time) error { s.deadline = d; return nil }
func (s *stuck) FlushError() error                  { return nil }
func (s *stuck) Write(b []byte) (int, error) {
	if strings.HasPrefix(string(b), "retry") {
		return len(b), nil
	}
	time.Sleep(time.Until(s.deadline))
	return 0, os.ErrDeadlineExceeded
}

func TestAStuckPeerHoldsAStreamForOneDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeb(t, newStory())
		done := make(chan struct{})
		go func() {
			w.stream(&stuck{ResponseWriter: httptest.NewRecorder()}, httptest.NewRequest("GET", "/live", nil))
			close(done)
		}()
		synctest.Wait()
		start := time.Now()
		w.Changed("lisbon")
		<-done
		if took := time.Since(start); took != writeTimeout {
			t.Fatalf("held for %v", took)
		}
		if len(w.live.readers) != 0 {
			t.Fatal("the reader is still in the list")
		}
	})
}

func TestAQuietStreamShowsThatItLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeb(t, newStory())
		ctx, cancel := context.WithCancel(t.Context())
		out := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			w.stream(out, httptest.NewRequest("GET", "/live", nil).WithContext(ctx))
			close(done)
		}()
		time.Sleep(3*beat + time.Second)
		cancel()
		<-done
		if n := strings.Count(out.Body.String(), ": still here"); n != 3 {
			t.Fatalf("%d signs of life", n)
		}
	})
}

func TestHealthAndMetricsAreServed(t *testing.T) {
	h := newWeb(t, newStory()).Handler()
	if w := get(t, h, "/health"); w.Code != 200 || !strings.Contains(w.Body.String(), `"state": "ok"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w := get(t, h, "/metrics")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "kith_part_healthy") {
		t.Fatalf("%d", w.Code)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("KITH_PEERS") == "required" {
			t.Fatal("promtool is missing and KITH_PEERS=required")
		}
		t.Skip("SKIP: promtool missing, /metrics was not checked by a real peer (Debian package prometheus)")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = w.Body
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
}
