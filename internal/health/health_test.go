package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func tree(t *testing.T) (*Tree, *time.Time) {
	t.Helper()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	tr := New("hub", func() time.Time { return now })
	for _, p := range [][2]string{{"hub", "store"}, {"store", "intake"}, {"intake", "edge lisbon-front"}, {"hub", "web"}} {
		if err := tr.Add(p[0], p[1]); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{"hub", "store", "intake", "edge lisbon-front", "web"} {
		tr.Set(n, nil)
	}
	return tr, &now
}

func TestTheFirstRedLineIsTheCause(t *testing.T) {
	tr, _ := tree(t)
	if r := tr.Report(); r.State != OK || r.Cause != "" {
		t.Fatalf("%+v", r)
	}
	tr.Set("edge lisbon-front", errors.New("no checkpoint for 3 min"))
	if r := tr.Report(); r.Cause != "edge lisbon-front" {
		t.Fatalf("%+v", r)
	}
	tr.Set("store", errors.New("the disk is full"))
	r := tr.Report()
	if r.Cause != "store" || r.Why != "the disk is full" {
		t.Fatalf("%+v", r)
	}
	store := r.Tree.Children[0]
	if in := store.Children[0]; in.State != Dependency || in.Why != "store" || in.Children[0].State != Failed {
		t.Fatalf("%+v", in)
	}
	if web := r.Tree.Children[1]; web.State != OK {
		t.Fatalf("%+v", web)
	}
}

func TestWhatHasNotReportedIsNotReady(t *testing.T) {
	tr, _ := tree(t)
	if err := tr.Add("hub", "broker"); err != nil {
		t.Fatal(err)
	}
	if r := tr.Report(); r.State != Unknown || r.Cause != "broker" {
		t.Fatalf("%+v", r)
	}
	tr.Remove("broker")
	tr.Set("broker", errors.New("late report"))
	if r := tr.Report(); r.State != OK {
		t.Fatalf("%+v", r)
	}
}

func TestSinceIsWhenTheStateChanged(t *testing.T) {
	tr, now := tree(t)
	first := *now
	*now = first.Add(time.Minute)
	tr.Set("web", errors.New("a"))
	*now = first.Add(2 * time.Minute)
	tr.Set("web", errors.New("b"))
	web := tr.Snapshot().Children[1]
	if !web.Since.Equal(first.Add(time.Minute)) || web.Why != "b" {
		t.Fatalf("%+v", web)
	}
}

func TestTheTreeIsBounded(t *testing.T) {
	tr, _ := tree(t)
	var err error
	for i := 0; err == nil && i < 2*MaxParts; i++ {
		err = tr.Add("web", fmt.Sprint("part ", i))
	}
	if err == nil || len(tr.parts) != MaxParts {
		t.Fatalf("%d parts, %v", len(tr.parts), err)
	}
	if tr.Add("nowhere", "x") == nil || tr.Add("hub", "intake") == nil {
		t.Fatal("a part in two places")
	}
}

func TestHealthAnswersInJSON(t *testing.T) {
	tr, _ := tree(t)
	tr.Set("web", errors.New("a"))
	w := httptest.NewRecorder()
	tr.ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
	var r Report
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != 503 || r.Cause != "web" || r.Tree.Name != "hub" {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
}

func TestMetricsPleasePromtool(t *testing.T) {
	tr, _ := tree(t)
	m := NewMetrics(tr)
	m.Counter("kith_leaves_total", "Leaves stored.", "node").Add(3, "lisbon")
	m.Gauge("kith_edges_connected", "Edges with a live session.").Set(2)
	m.Histogram("kith_commit_seconds", "Time of a commit.", []float64{.001, .01, .1}, "kind").Observe(.004, "group")
	m.Func("kith_store_bytes", "Size of the database.", func() float64 { return 1 })
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`kith_leaves_total{node="lisbon"} 3`, `kith_part_healthy{part="store"} 1`, `kith_commit_seconds_count{kind="group"} 1`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("missing %s", want)
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("KITH_PEERS") == "required" {
			t.Fatal("promtool is missing and KITH_PEERS=required")
		}
		t.Skip("SKIP: promtool missing, the metrics were not checked by a real peer (Debian package prometheus)")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = w.Body
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
}
