package kiosk

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// tablet starts a headless chromium that prefers light or dark, or skips loudly.
func tablet(t *testing.T, scheme string) context.Context {
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
		t.Skip("SKIP: chromium missing, the screen at the wall was not seen by a real browser")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("blink-settings", "preferredColorScheme="+map[string]string{"dark": "0", "light": "1"}[scheme]))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewContext(ctx)
	t.Cleanup(stop)
	ctx, end := context.WithTimeout(ctx, 120*time.Second)
	t.Cleanup(end)
	return ctx
}

func hang(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// A target's height is measured with what belongs to it; decoration in the bar is not a target.
const measureWall = `(() => JSON.stringify({
	wide: document.documentElement.scrollWidth - window.innerWidth,
	small: [...document.querySelectorAll("a, button")].map(e => [e.textContent.trim().slice(0, 40), e.getBoundingClientRect().height]).filter(([, h]) => h > 0 && h < 48),
	cut: [...document.querySelectorAll("button, .tile, .press")].filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent.trim()),
	paper: getComputedStyle(document.body).backgroundColor,
	inline: document.querySelectorAll("script:not([src]), [style], style").length,
}))()`

// TestEveryStateOfTheScreenInARealBrowser looks at each state on a phone, on a small tablet at the wall and on a desk, in light
// and dark. KITH_SHOTS=<dir> keeps the pictures.
func TestEveryStateOfTheScreenInARealBrowser(t *testing.T) {
	for _, scheme := range []string{"light", "dark"} {
		w := newWall(t)
		b := newTouch(t, w)
		base := hang(t, b.page)
		ctx := tablet(t, scheme)
		see := func(name string) {
			t.Helper()
			for _, size := range [][2]int64{{390, 844}, {800, 480}, {1280, 800}} {
				if os.Getenv("KITH_SHOTS") == "" && (size[0] == 1280) == (scheme == "dark") {
					continue // dark on phone and wall, light on phone and desk; pictures are made of all
				}
				seeWall(t, ctx, base+b.where, fmt.Sprintf("kiosk-%s-%d-%s", name, size[0], scheme), size, scheme)
			}
		}
		b.open("/kiosk?at=cellar")
		see("choose")
		b.open("/kiosk")
		see("start")
		b.press("Workshop")
		see("amount")
		b.press("Start now")
		see("waiting")
		w.show(t, "ana")
		b.again().must("Started")
		see("started")
		b.open("/kiosk").must("Stop Workshop")
		see("running")
		b.press("Kitchen").press("2 h").press("Enter 2 h")
		w.show(t, "ana")
		w.show(t, "ana")
		b.again().must("second person")
		see("witness")
		w.show(t, "ben")
		b.again().must("Thank you")
		see("done")
		b.press("Undo").press("Cancel").press("Workshop").press("Enter")
		w.show(t, "ben")
		b.again().must("Not now")
		see("refused")
		b.trouble = NoReader
		b.open("/kiosk")
		see("dead")
	}
}

func seeWall(t *testing.T, ctx context.Context, url, name string, size [2]int64, scheme string) {
	t.Helper()
	view := []chromedp.EmulateViewportOption{}
	if size[0] < 600 {
		view = append(view, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(size[0], size[1], view...), chromedp.Navigate(url)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	said, err := chromedp.Run(ctx, chromedp.Evaluate[string](measureWall))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if dir := os.Getenv("KITH_SHOTS"); dir != "" {
		shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".png"), shot, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got struct {
		Wide   float64
		Small  [][2]any
		Cut    []string
		Paper  string
		Inline int
	}
	if err := json.Unmarshal([]byte(said), &got); err != nil {
		t.Fatal(err)
	}
	if got.Wide > 0 || len(got.Small) > 0 || len(got.Cut) > 0 || got.Inline > 0 {
		t.Errorf("%s: %v px over the edge, lower than 48 px: %v, cut off: %v, %d inline", name, got.Wide, got.Small, got.Cut, got.Inline)
	}
	if want := map[string]string{"light": "rgb(247, 245, 240)", "dark": "rgb(18, 21, 18)"}[scheme]; got.Paper != want {
		t.Errorf("%s: paper is %s, want %s", name, got.Paper, want)
	}
}

func TestTheScreenFollowsTheCardAndGoesHomeByItself(t *testing.T) {
	ctx := tablet(t, "light")
	w := newWall(t)
	b := newTouch(t, w)
	base := hang(t, b.page)
	console := chromedp.Console(ctx)
	text := func(selector string) string {
		t.Helper()
		s, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector)))
		if err != nil {
			t.Fatalf("%s: %v", selector, err)
		}
		return s
	}
	do := func(actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatal(err)
		}
	}
	js := func(code string) string {
		t.Helper()
		s, err := chromedp.Run(ctx, chromedp.Evaluate[string](code))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	do(chromedp.EmulateViewport(800, 480), chromedp.Navigate(base+"/kiosk"), chromedp.Click(chromedp.CSS(`a[href*="resource=bed"]`)), chromedp.WaitVisible(chromedp.CSS(`.stepper`)))
	js(`window.__same = true; document.querySelector('[data-key="more"]').click(); document.querySelector('[data-key="more"]').click(); ""`) // quicker than any answer
	do(chromedp.WaitVisible(chromedp.CSS(`form input[name="quantity"][value="3"] ~ button`)))
	if js(`String(window.__same)`) != "true" {
		t.Fatal("the page was loaded again for a press of +")
	}
	do(chromedp.Click(chromedp.CSS(`.go`)), chromedp.WaitVisible(chromedp.CSS(`main[data-state="waiting"] .ring`)))
	heard := ""
	for i := 0; i < 200 && !strings.Contains(heard, "Hold your card"); i++ {
		time.Sleep(50 * time.Millisecond) // a live region is filled after it is there, or nobody hears it
		heard = js(`document.querySelector("[data-say]").textContent`)
	}
	if !strings.Contains(heard, "Hold your card") {
		t.Fatalf("a screen reader hears %q", heard)
	}
	js(`window.__same = true; ""`)
	key := w.cards["ana"]
	w.cards["ana"], w.cards["eva"] = w.cards["eva"], key // what the browser shows comes from the card, not from the page
	w.show(t, "ana")
	do(chromedp.WaitVisible(chromedp.CSS(`main[data-state="recorded"]`)))
	if words := text("h1"); words != "Thank you, Eva" || js(`String(window.__same)`) != "true" {
		t.Fatalf("the screen says %q", words)
	}
	b.proof = Proof{Size: 7}
	do(chromedp.WaitVisible(chromedp.CSS(`.proof li:nth-child(2) .good`))) // by itself, once the hub has answered
	js(`document.querySelector("main").dataset.idle = "200"; ""`)
	do(chromedp.WaitVisible(chromedp.CSS(`main[data-state="start"]`)))
	b.trouble = NoReader
	do(chromedp.WaitVisible(chromedp.CSS(`main[data-state="no-reader"]`)))
	js(`console.log("end"), ""`)
	for m, err := range console {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(m.String(), "end") {
			break
		}
		t.Errorf("the browser complains: %s", m)
	}
}
