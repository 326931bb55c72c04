package web

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"kith/internal/event"
)

// browser starts a headless chromium that prefers light or dark, or skips loudly.
func browser(t *testing.T, scheme string) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("KITH_PEERS") == "required" {
			t.Fatal("chromium is missing and KITH_PEERS=required")
		}
		t.Skip("SKIP: chromium missing, the pages were not seen by a real browser")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("blink-settings", "preferredColorScheme="+map[string]string{"dark": "0", "light": "1"}[scheme]))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewContext(ctx)
	t.Cleanup(stop)
	ctx, end := context.WithTimeout(ctx, 90*time.Second)
	t.Cleanup(end)
	return ctx
}

func serve(t *testing.T, w *Web) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// TestPagesInARealBrowser looks at every page at two widths in light and dark: nothing runs over the edge, nothing is
// blocked or logged, every target can be hit with a thumb. KITH_SHOTS=<dir> keeps the pictures.
func TestPagesInARealBrowser(t *testing.T) {
	w := newWeb(t, newStory())
	base := serve(t, w)
	for _, scheme := range []string{"light", "dark"} {
		ctx := browser(t, scheme)
		said := chromedp.Console(ctx)
		for _, p := range []struct{ name, path string }{
			{"network", "/"}, {"node", "/node/lisbon"}, {"hostile", "/node/hostile"}, {"empty", "/node/forest"}, {"lost", "/nowhere"}, {"period", "/period"},
			{"statement", "/period/week-2"}, {"under-way", "/period/week-3"}, {"member", "/member/ana"}, {"erased", "/member/bo"},
			{"granted", "/event/lisbon-front/" + storyEpoch.String() + "/48200"}, {"refused", "/event/lisbon-front/" + storyEpoch.String() + "/48198"},
			{"held", "/event/hostile-front/" + storyEpoch.String() + "/48199"},
		} {
			for _, width := range []int64{390, 1280} {
				if os.Getenv("KITH_SHOTS") == "" && (width == 390) != (scheme == "dark") {
					continue // dark on the phone, light on the desk; pictures are made of all four
				}
				look(t, ctx, base+p.path, fmt.Sprintf("%s-%d-%s", p.name, width, scheme), width, scheme)
			}
		}
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[string](`console.log("end"), ""`)); err != nil {
			t.Fatal(err)
		}
		for m, err := range said {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(m.String(), "end") {
				break
			}
			if !strings.Contains(m.String(), "/nowhere") && !strings.Contains(m.String(), "404") {
				t.Errorf("the browser complains: %s", m)
			}
		}
	}
}

// A target is measured without those inside a running line of text (WCAG 2.2, 2.5.8).
const measure = `(() => {
	const wide = document.documentElement.scrollWidth - window.innerWidth;
	const small = [...document.querySelectorAll("a, summary, button, input:not([type=hidden])")].filter(e => !e.matches(".skip, p a:not(.more-link)"))
		.map(e => [e.textContent.trim().slice(0, 40), e.getBoundingClientRect().height]).filter(([, h]) => h > 0 && h < 48);
	return JSON.stringify({ wide, small, paper: getComputedStyle(document.body).backgroundColor, scripts: document.querySelectorAll("script:not([src])").length,
		styles: document.querySelectorAll("[style], style").length, alert: !!window.__alerted });
})()`

func look(t *testing.T, ctx context.Context, url, name string, width int64, scheme string) {
	t.Helper()
	view := []chromedp.EmulateViewportOption{}
	if width < 600 {
		view = append(view, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 844, view...), chromedp.Navigate(url)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	said, err := chromedp.Run(ctx, chromedp.Evaluate[string](measure))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if dir := os.Getenv("KITH_SHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), shot, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := decode[struct {
		Wide            float64
		Small           [][2]any
		Paper           string
		Scripts, Styles int
	}](t, said)
	if got.Wide > 0 {
		t.Errorf("%s: %v px run over the edge", name, got.Wide)
	}
	if len(got.Small) > 0 {
		t.Errorf("%s: targets lower than 48 px: %v", name, got.Small)
	}
	if got.Scripts != 0 || got.Styles != 0 {
		t.Errorf("%s: %d inline scripts, %d inline styles", name, got.Scripts, got.Styles)
	}
	if want := map[string]string{"light": "rgb(247, 245, 240)", "dark": "rgb(18, 21, 18)"}[scheme]; got.Paper != want {
		t.Errorf("%s: paper is %s, want %s", name, got.Paper, want)
	}
}

func TestANewTapAppearsWithoutAReload(t *testing.T) {
	ctx := browser(t, "light")
	s := newStory()
	w := newWeb(t, s)
	base := serve(t, w)
	if err := chromedp.Do(ctx, chromedp.Navigate(base+"/node/lisbon"), chromedp.WaitVisible(chromedp.CSS(`.pulse[data-state="up"]`))); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.lines = append([]Line{{Node: "lisbon", Edge: "lisbon-front", Epoch: storyEpoch, Index: 48213, Kind: event.KindTap, At: ago(time.Second),
		Clock: event.Synced, Door: "front", Direction: "in", Verdict: "grant", Reason: "granted", Assurance: "pkoc", Member: "zoe", Name: "Zoë New", Says: "let in"}}, s.lines...)
	s.mu.Unlock()
	w.Changed("lisbon")
	words, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(`li.new .words b`)))
	if err != nil {
		t.Fatal(err)
	}
	if words != "Zoë New" {
		t.Fatalf("the new line says %q", words)
	}
}

func TestTheDraftIsFreshWithoutAReloadAndWhatWasOpenedOrTypedStays(t *testing.T) {
	ctx := browser(t, "light")
	s := newStory()
	w := newWeb(t, s)
	base := serve(t, w)
	if err := chromedp.Do(ctx, chromedp.Navigate(base+"/period?unit=night"), chromedp.WaitVisible(chromedp.CSS(`.pulse[data-state="up"]`))); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector("figure details").open = true; document.querySelector('[name="dues"]').value = "7 %"; ""`)); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.now.Units[0].Gross++
	s.now.Units = append(s.now.Units, PeriodUnit{Name: "meal"})
	s.mu.Unlock()
	w.Changed("")
	if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(`#unit-2`))); err != nil {
		t.Fatal(err)
	}
	said, err := chromedp.Run(ctx, chromedp.Evaluate[string](`[document.querySelector("figure details").open, document.querySelector('[name="dues"]').value, document.querySelector(".sums dd").textContent].join()`))
	if err != nil {
		t.Fatal(err)
	}
	if said != "true,7 %,34" {
		t.Errorf("after the change: %s", said)
	}
}
