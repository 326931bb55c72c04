package feed

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// web of debts of n houses; afterwards few are left.
func debts(n, count int) *Picture {
	r := rand.New(rand.NewPCG(uint64(n), 4))
	p := &Picture{ID: "2026-11", Unit: Unit{"hour", 2}}
	names := []string{"Casa Lisboa", "Ribeira", "Waldhaus", "Hafen 12", "The Mill", "Commons", "A very long name of a house"}
	for i := range n {
		p.Houses = append(p.Houses, House{ID: fmt.Sprintf("h%02d", i), Name: names[i%len(names)]})
	}
	for len(p.Before) < count {
		d := Debt{p.Houses[r.IntN(n)].ID, p.Houses[r.IntN(n)].ID, 1 + r.Int64N(90_000)}
		if d.From == d.To {
			continue
		}
		p.Before = append(p.Before, d)
		if len(p.Before)%(count/3+1) == 0 {
			p.After = append(p.After, Debt{d.From, d.To, d.Amount / 3})
		}
	}
	return p
}

func drawn(t testing.TB, p *Picture) (svg, phone, figure []byte) {
	t.Helper()
	var err error
	if svg, err = p.SVG(Desk); err != nil {
		t.Fatal(err)
	}
	if phone, err = p.SVG(Phone); err != nil {
		t.Fatal(err)
	}
	if figure, err = p.Figure(); err != nil {
		t.Fatal(err)
	}
	return svg, phone, figure
}

func wellFormed(text []byte) error {
	d := xml.NewDecoder(bytes.NewReader(text))
	d.Strict = true
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestPictureAndTableSayTheSame(t *testing.T) {
	p := debts(5, 9)
	svg, phone, figure := drawn(t, p)
	for _, text := range [][]byte{svg, phone, figure} {
		if err := wellFormed(text); err != nil {
			t.Errorf("not well-formed: %v", err)
		}
	}
	for _, want := range []string{"<title ", "<desc ", `role="img"`, "<caption>", `scope="row"`, "Ribeira"} {
		if !strings.Contains(string(figure), want) {
			t.Errorf("the figure lacks %q", want)
		}
	}
	if strings.Contains(string(figure), "style") {
		t.Error("the figure has inline style, which a page's policy blocks")
	}
	pairs, total := map[[2]string]int64{}, int64(0)
	for _, d := range p.Before {
		pairs[[2]string{d.From, d.To}] += d.Amount
		total += d.Amount
	}
	v := &view{scale: map[string]int{"hour": 2}}
	for _, amount := range pairs {
		if !strings.Contains(string(figure), "<td>"+v.amount("hour", amount)+"</td>") {
			t.Errorf("the table lacks %d", amount)
		}
	}
	if got := strings.Count(string(figure), "<tr><th scope=\"row\">"); got != len(pairs) {
		t.Errorf("the table has %d rows for %d pairs", got, len(pairs))
	}
	if !strings.Contains(string(figure), v.amount("hour", total)) {
		t.Error("the total is missing")
	}
	if got := strings.Count(string(svg), "Q"); got < len(pairs) {
		t.Errorf("%d lines are drawn for %d debts", got, len(pairs))
	}
}

func TestPictureOfManyHousesBundlesTheSmallOnes(t *testing.T) {
	p := debts(60, 900)
	svg, _, figure := drawn(t, p)
	if got := strings.Count(string(svg), "<circle"); got != 2*MaxDrawn {
		t.Errorf("%d places are drawn", got)
	}
	if !strings.Contains(string(figure), "37 others") {
		t.Error("the others are not named")
	}
	before, pairs := int64(0), map[[2]string]bool{}
	for _, d := range p.Before {
		before += d.Amount
		pairs[[2]string{d.From, d.To}] = true
	}
	if want := fmt.Sprint(len(pairs), " debts, "); !strings.Contains(string(svg), want) {
		t.Errorf("the picture does not say %q", want)
	}
	if v := (&view{scale: map[string]int{"hour": 2}}); !strings.Contains(string(figure), v.amount("hour", before)) {
		t.Error("the total leaves out what the others owe each other")
	}
}

func TestShuffledDebtsAreTheSamePicture(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{2, 5, 30} {
		p := debts(n, 40)
		a, b, c := drawn(t, p)
		for range 10 {
			r.Shuffle(len(p.Houses), func(i, j int) { p.Houses[i], p.Houses[j] = p.Houses[j], p.Houses[i] })
			r.Shuffle(len(p.Before), func(i, j int) { p.Before[i], p.Before[j] = p.Before[j], p.Before[i] })
			r.Shuffle(len(p.After), func(i, j int) { p.After[i], p.After[j] = p.After[j], p.After[i] })
			x, y, z := drawn(t, p)
			if !bytes.Equal(a, x) || !bytes.Equal(b, y) || !bytes.Equal(c, z) {
				t.Fatal("other order, other bytes")
			}
		}
	}
}

func TestDebtsThatCannotBeAreNotDrawn(t *testing.T) {
	h := []House{{ID: "a"}, {ID: "b"}}
	for name, p := range map[string]*Picture{
		"to itself":       {Houses: h, Before: []Debt{{"a", "a", 1}}},
		"below zero":      {Houses: h, Before: []Debt{{"a", "b", -1}}},
		"to a stranger":   {Houses: h, After: []Debt{{"a", "c", 1}}},
		"house twice":     {Houses: []House{{ID: "a"}, {ID: "a"}}},
		"sum that breaks": {Houses: h, Before: []Debt{{"a", "b", 1 << 62}, {"a", "b", 1 << 62}}},
	} {
		if _, err := p.SVG(Desk); !errors.Is(err, ErrPicture) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, p := range []*Picture{{}, {Houses: h}, {Houses: h, Before: []Debt{{"a", "b", 0}}}, {Houses: h, Before: []Debt{{"a", "b", 1<<63 - 1}}}} {
		svg, _, figure := drawn(t, p)
		if err := errors.Join(wellFormed(svg), wellFormed(figure)); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func TestWholeNumberGeometryIsCloseToTheCircle(t *testing.T) {
	for angle := int64(-720_000); angle <= 720_000; angle += 777 {
		s, c := sine(angle), sine(angle+90_000)
		if d := s*s + c*c - sineOne*sineOne; d > 500_000 || d < -500_000 { // half a per cent of the square
			t.Fatalf("%d: %d and %d", angle, s, c)
		}
	}
	for n := range int64(20_000) {
		if r := root(n); r*r > n || (r+1)*(r+1) <= n {
			t.Fatalf("root of %d is %d", n, r)
		}
	}
}

func FuzzPictureText(f *testing.F) {
	for _, s := range []string{"Casa", "<script>", "\"&'", "\xff", "\u202e", "]]>", strings.Repeat("é", 40)} {
		f.Add(s, int64(5))
	}
	f.Fuzz(func(t *testing.T, s string, n int64) {
		p := &Picture{ID: s, Unit: Unit{s, int(n % 10)}, Houses: []House{{ID: "a", Name: s}, {ID: "b"}, {ID: "c" + s}}, Before: []Debt{{"a", "b", n}, {"b", "c" + s, 7}}}
		for _, layout := range []Layout{Desk, Phone} {
			text, err := p.SVG(layout)
			if err != nil {
				if n < 0 || n > 1<<62 {
					return
				}
				t.Fatal(err)
			}
			if err := wellFormed(text); err != nil {
				t.Fatalf("%v in %s", err, text)
			}
		}
		if text, err := p.Figure(); err != nil || wellFormed(text) != nil {
			t.Fatalf("%v %v", err, wellFormed(text))
		}
	})
}

// TestPagesInARealBrowser looks at the report and at pictures at two widths in light and dark: nothing runs over the
// edge, and the page's own policy blocks nothing of it. KITH_SHOTS=<dir> keeps the pictures.
func TestPagesInARealBrowser(t *testing.T) {
	_, files := filesOf(t, story(t), nil)
	frame := func(p *Picture) []byte {
		_, _, figure := drawn(t, p)
		return []byte(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root { color-scheme: light dark; } body { margin: 1rem; font: 1rem system-ui; background: Canvas; color: CanvasText; } figure { margin: 0; }
.halves { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); } .half { width: 100%; max-width: 34rem; margin: auto; }
.owed { color: light-dark(#a3271b, #ffa99d); } .left { color: light-dark(#1b664d, #86d4b4); } td { text-align: end; padding-inline-start: 1rem; }
</style><title>debts</title><body>` + string(figure))
	}
	desk, phone, _ := drawn(t, debts(6, 12))
	pages := map[string][]byte{"report.html": files.HTML, "debts.html": frame(debts(5, 9)), "many.html": frame(debts(60, 300)), "desk.svg": desk, "phone.svg": phone}
	dir := t.TempDir()
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, scheme := range []string{"light", "dark"} {
		ctx := browser(t, scheme)
		said := chromedp.Console(ctx)
		for name := range pages {
			for _, width := range []int64{390, 1280} {
				if os.Getenv("KITH_SHOTS") == "" && (width == 390) != (scheme == "dark") {
					continue
				}
				look(t, ctx, filepath.Join(dir, name), width, scheme)
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
			t.Errorf("the browser complains: %s", m)
		}
	}
}

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
		t.Skip("SKIP: chromium missing, the report was not seen by a real browser")
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

func look(t *testing.T, ctx context.Context, file string, width int64, scheme string) {
	t.Helper()
	view := []chromedp.EmulateViewportOption{}
	if width < 600 {
		view = append(view, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	name := fmt.Sprintf("%s-%d-%s", filepath.Base(file), width, scheme)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 844, view...), chromedp.Navigate("file://"+file)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	wide, err := chromedp.Run(ctx, chromedp.Evaluate[float64](`document.documentElement.scrollWidth - window.innerWidth`))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if wide > 0 && strings.HasSuffix(file, ".html") {
		t.Errorf("%s: %v px run over the edge", name, wide)
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
}

func TestAnAmountHasThePluralOfItsUnit(t *testing.T) {
	for _, c := range [][3]string{{"1", "night", "1 night"}, {"7", "night", "7 nights"}, {"0.50", "work-hour", "0.50 work-hours"}, {"7", "hours", "7 hours"}, {"7", "EUR", "7 EUR"}, {"7", "", "7 "}} {
		if got := some(c[0], c[1]); got != c[2] {
			t.Errorf("%q, want %q", got, c[2])
		}
	}
}
