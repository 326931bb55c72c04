package page

import (
	"bytes"
	"io/fs"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestOnePageOfARoomStandsInTheLayout(t *testing.T) {
	room := fstest.MapFS{"templates/x.html": {Data: []byte(`{{define "hello"}}<h1>{{.Head.Title}}</h1>{{template "badge" badge "bad" "forced" ""}}{{end}}`)}}
	set, err := New(room, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	p, err := set.Page("hello")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := p.Execute(&out, map[string]Head{"Head": {Title: `<b onload="x">`, Network: "n"}}); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, "<h1>&lt;b onload=") || !strings.Contains(s, "<svg") || strings.Contains(s, "<script") {
		t.Fatal(s)
	}
	broken, err := set.Page("nowhere")
	if err == nil && broken.Execute(&out, map[string]Head{"Head": {}}) == nil {
		t.Fatal("a page without a main part was made")
	}
}

func TestARoomBringsAssetsAndALayoutOfItsOwn(t *testing.T) {
	room := fstest.MapFS{"assets/wall.css": {Data: []byte("b{}")}, "templates/x.html": {Data: []byte(
		`{{define "layout"}}<link href="{{asset "wall.css"}}"><link href="{{asset "page.css"}}">{{template "main" .}}{{end}}{{define "hello"}}hi{{end}}`)}}
	set, err := New(room, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	p, err := set.Page("hello")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := p.Execute(&out, nil); err != nil || !strings.Contains(out.String(), `"/assets/wall.css?v=`) || !strings.HasSuffix(out.String(), "hi") || strings.Contains(out.String(), `v="`) {
		t.Fatal(err, out.String())
	}
	for name, bad := range map[string]string{"a shared name": "assets/page.css", "an unknown kind": "assets/wall.exe"} {
		if _, err := New(fstest.MapFS{bad: {}, "templates/x.html": {}}, "templates/*.html"); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestNothingIsLoadedFromElsewhere(t *testing.T) {
	if strings.Contains(Policy, "unsafe") || strings.Contains(Policy, "http") || !strings.HasPrefix(Policy, "default-src 'none'") {
		t.Error(Policy)
	}
	outside := regexp.MustCompile(`(?i)https?://|url\(|@import|eval\(|innerHTML\s*=[^=]|document\.write`)
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(string(b), "http://www.w3.org/2000/svg", "")
		if hit := outside.FindString(text); hit != "" {
			t.Errorf("%s: %s", name, hit)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// contrast is that of WCAG 2.2, "relative luminance".
func contrast(a, b string) float64 {
	lum := func(hex string) float64 {
		v := [3]float64{}
		for i := range v {
			n, _ := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
			c := float64(n) / 255
			if c <= 0.04045 {
				v[i] = c / 12.92
			} else {
				v[i] = math.Pow((c+0.055)/1.055, 2.4)
			}
		}
		return 0.2126*v[0] + 0.7152*v[1] + 0.0722*v[2]
	}
	x, y := lum(a), lum(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestEveryTextCanBeReadInLightAndDark(t *testing.T) {
	b, err := files.ReadFile("assets/page.css")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.SplitN(string(b), "@media (prefers-color-scheme: dark)", 2)
	if len(blocks) != 2 {
		t.Fatal("no dark colours")
	}
	for name, css := range map[string]string{"light": blocks[0], "dark": blocks[1]} {
		colour := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6})`).FindAllStringSubmatch(css, -1) {
			if _, set := colour[m[1]]; !set {
				colour[m[1]] = m[2]
			}
		}
		for _, pair := range [][2]string{{"ink", "paper"}, {"ink", "card"}, {"ink", "sunk"}, {"soft", "paper"}, {"soft", "card"}, {"soft", "sunk"}, {"accent", "card"}, {"accent", "accent-soft"},
			{"good", "good-soft"}, {"warn", "warn-soft"}, {"bad", "bad-soft"}, {"plain", "plain-soft"}, {"bad", "card"}, {"good", "card"}} {
			if colour[pair[0]] == "" || colour[pair[1]] == "" {
				t.Fatalf("%s: %v is not defined", name, pair)
			}
			if c := contrast(colour[pair[0]], colour[pair[1]]); c < 4.5 {
				t.Errorf("%s: %s on %s has contrast %.2f, AA wants 4.5", name, pair[0], pair[1], c)
			}
		}
	}
}

func TestMomentsAreWordsOfTheHouse(t *testing.T) {
	lisbon := time.FixedZone("WET", 0)
	now := time.Date(2026, 11, 21, 10, 42, 0, 0, lisbon)
	at := func(d time.Duration) Moment { return Moment{At: now.Add(-d), Now: now} }
	rough := at(42 * time.Minute)
	rough.Rough = true
	for _, c := range []struct{ have, want string }{
		{at(time.Hour).Short(), "09:42"}, {at(24 * time.Hour).Short(), "20 Nov, 10:42"}, {at(366 * 24 * time.Hour).Short(), "20 Nov 2025, 10:42"},
		{rough.Short(), "10 h"}, {rough.Clock(), "10 h"}, {at(0).Day(), "Today"}, {at(11 * time.Hour).Day(), "Yesterday"}, {at(72 * time.Hour).Day(), "Wednesday, 18 November"},
		{at(0).Ago(), "just now"}, {at(20 * time.Minute).Ago(), "20 min ago"}, {at(5 * time.Hour).Ago(), "5 h ago"}, {at(80 * time.Hour).Ago(), "3 days ago"}, {at(-time.Hour).Ago(), "in the future"},
		{at(time.Minute).Stretch(), "The last hour"}, {at(2 * time.Hour).Stretch(), "The last day"}, {at(30 * time.Hour).Stretch(), "The last week"}, {at(1000 * time.Hour).Stretch(), "Earlier"},
		{Number(7), "7"}, {Number(4821), "4821"}, {Number(48213), "48\u202f213"}, {Number(1234567), "1\u202f234\u202f567"}, {Plural(1, "leaf", "leaves"), "1 leaf"}, {Plural(0, "leaf", "leaves"), "0 leaves"},
		{Pretty("roof-terrace"), "Roof terrace"}, {Pretty(""), ""}, {Initials("Ana Maria Ribeiro"), "AM"}, {Initials("élise"), "É"}, {Initials("<script> \"x"), "•"}, {Initials(""), "•"},
	} {
		if c.have != c.want {
			t.Errorf("have %q, want %q", c.have, c.want)
		}
	}
	// Tokyo is a day ahead: today is the house's own.
	tokyo := time.FixedZone("JST", 9*3600)
	night := time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)
	if m := (Moment{At: night.Add(-2 * time.Hour).In(tokyo), Now: night}); m.Day() != "Yesterday" {
		t.Errorf("23:00 in Tokyo seen from 01:00 the next day is %s", m.Day())
	}
}
