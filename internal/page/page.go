// Package page owns how Kith looks: one style sheet, one small script, the layout and the small pieces that the hub's
// pages and the kiosk share.
//
// Every page works by reload without script; the script only swaps fragments that changed. Nothing is loaded from
// elsewhere and nothing is inline, so the content security policy allows no inline script or style at all. All text goes
// through html/template: names of people are hostile input. The package keeps no state.
package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"kith/internal/event"
)

//go:embed assets/* templates/*.html
var files embed.FS

// Policy is the content security policy of every page.
const Policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// assetAge is how long a browser may keep an asset whose address carries its hash, in seconds.
const assetAge = 365 * 24 * 3600

// Head is what the layout needs besides the content.
type Head struct {
	Title   string
	Network string
	Here    string // path of this page, for the current entry of the navigation
	Live    string // address of the event stream; empty: this page does not change
	Crumbs  []Link
	Nav     []Link // to pages that stand beside the front page
	Foot    string // what the page is made of; empty: of leaves
}

// Link is one step of the way back, or aside.
type Link struct{ Href, Text string }

// Badge is a state: shape and text, never colour alone.
type Badge struct {
	Tone string // good, warn, bad, plain
	Text string
	Hint string // longer words, shown as title
}

// Moment is a time as a house sees it.
type Moment struct {
	At    time.Time // in the house's zone
	Now   time.Time // what "today" means
	Rough bool      // the hour only: the exact time was erased
	Shaky bool      // the edge was not sure of the time
}

// Set is a parsed family of templates with their assets.
type Set struct {
	root   *template.Template
	assets map[string]asset
}

type asset struct {
	body []byte
	kind string
	hash string
}

// New parses the shared templates and those of a room. Files of the room define blocks by name; each of its pages
// defines "main", and a room without navigation defines a "layout" of its own. What the room keeps under assets/ is served
// beside the shared ones.
func New(room fs.FS, pattern string) (*Set, error) {
	s := &Set{assets: map[string]asset{}}
	if err := s.take(files); err != nil {
		return nil, err
	}
	if room != nil {
		if err := s.take(room); err != nil {
			return nil, err
		}
	}
	var err error
	s.root, err = template.New("").Funcs(s.funcs()).ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("parsing shared templates: %w", err)
	}
	if room != nil {
		if s.root, err = s.root.ParseFS(room, pattern); err != nil {
			return nil, fmt.Errorf("parsing templates: %w", err)
		}
	}
	return s, nil
}

// take reads the assets of a file system. Two of one name would show a page in another's clothes.
func (s *Set) take(from fs.FS) error {
	names, err := fs.Glob(from, "assets/*")
	if err != nil {
		return err
	}
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for _, name := range names {
		b, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		kind, base := kinds[path.Ext(name)], path.Base(name)
		if _, twice := s.assets[base]; twice || kind == "" {
			return fmt.Errorf("asset %s: want a new name that ends in .css, .js or .svg", name)
		}
		sum := sha256.Sum256(b)
		s.assets[base] = asset{b, kind, hex.EncodeToString(sum[:6])}
	}
	return nil
}

// Page returns the template of one page: the layout with this page's main part.
func (s *Set) Page(main string) (*template.Template, error) {
	t, err := s.root.Clone()
	if err != nil {
		return nil, err
	}
	if t, err = t.New("main").Parse(`{{template "` + main + `" .}}`); err != nil {
		return nil, fmt.Errorf("page %s: %w", main, err)
	}
	return t.Lookup("layout"), nil
}

func (s *Set) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":    s.address,
		"pretty":   Pretty,
		"initials": Initials,
		"badge":    func(tone, text, hint string) Badge { return Badge{tone, text, hint} },
		"plural":   Plural,
		"number":   Number,
	}
}

func (s *Set) address(name string) string { return "/assets/" + name + "?v=" + s.assets[name].hash }

// ServeAsset answers for /assets/{name}.
func (s *Set) ServeAsset(w http.ResponseWriter, r *http.Request) {
	a, ok := s.assets[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	tag := `"` + a.hash + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Content-Type", a.kind)
	if r.URL.Query().Get("v") == a.hash {
		w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d, immutable", assetAge))
	} else {
		w.Header().Set("Cache-Control", "no-cache")
	}
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(a.body) // the reader went away: nobody is left to tell
}

// Guard sets the headers that keep a page alone with itself.
func Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", Policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		next.ServeHTTP(w, r)
	})
}

// Pretty makes a heading of an id: "front-door" becomes "Front door".
func Pretty(id string) string {
	text := strings.ReplaceAll(id, "-", " ")
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// Initials are at most two letters of a name, for a small round picture without a picture. Names without letters get a
// dot: half an emoji is no picture.
func Initials(name string) string {
	out := ""
	for _, w := range strings.Fields(name) {
		r, _ := utf8.DecodeRuneInString(w)
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			continue
		}
		out += strings.ToUpper(string(r))
		if utf8.RuneCountInString(out) == 2 {
			break
		}
	}
	if out == "" {
		return "•"
	}
	return out
}

// Plural puts a number before its word.
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Number(uint64(max(n, 0))) + " " + many
}

// Number groups digits by threes with a narrow space that does not break; four digits stay together.
func Number(n uint64) string {
	text := strconv.FormatUint(n, 10)
	if len(text) <= 4 {
		return text
	}
	var b strings.Builder
	for i, c := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			b.WriteRune('\u202f')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Hour says whether a time is the bare hour that remains of an erased one.
func Hour(ms int64) bool { return ms%event.HourMS == 0 }

// Short is the time for a list: the clock today, else the day as well.
func (m Moment) Short() string {
	text := m.At.Format("15:04")
	if m.Rough {
		text = m.At.Format("15") + " h"
	}
	if m.Today() {
		return text
	}
	if m.At.Year() != m.Now.In(m.At.Location()).Year() {
		return m.At.Format("2 Jan 2006, ") + text
	}
	return m.At.Format("2 Jan, ") + text
}

// Clock is the time of day alone.
func (m Moment) Clock() string {
	if m.Rough {
		return m.At.Format("15") + " h"
	}
	return m.At.Format("15:04")
}

// Today says whether it was today in that house.
func (m Moment) Today() bool {
	y, d := m.At.Year(), m.At.YearDay()
	n := m.Now.In(m.At.Location())
	return y == n.Year() && d == n.YearDay()
}

// Day is the heading of a day.
func (m Moment) Day() string {
	n := m.Now.In(m.At.Location())
	switch {
	case m.Today():
		return "Today"
	case m.At.Format(time.DateOnly) == n.AddDate(0, 0, -1).Format(time.DateOnly):
		return "Yesterday"
	case m.At.Year() == n.Year():
		return m.At.Format("Monday, 2 January")
	}
	return m.At.Format("Monday, 2 January 2006")
}

// Long is the whole time with its zone.
func (m Moment) Long() string {
	if m.Rough {
		return m.At.Format("Monday, 2 January 2006, in the hour from 15:04 MST")
	}
	return m.At.Format("Monday, 2 January 2006, 15:04:05.000 MST")
}

// Machine is the value of a datetime attribute.
func (m Moment) Machine() string { return m.At.Format(time.RFC3339) }

// Stretch is a heading that holds for every zone at once.
func (m Moment) Stretch() string {
	switch d := m.Now.Sub(m.At); {
	case d < time.Hour:
		return "The last hour"
	case d < 24*time.Hour:
		return "The last day"
	case d < 7*24*time.Hour:
		return "The last week"
	}
	return "Earlier"
}

// Ago is the time since, in the coarsest words that help.
func (m Moment) Ago() string {
	d := m.Now.Sub(m.At)
	switch {
	case d < 0:
		return "in the future"
	case d < 90*time.Second:
		return "just now"
	case d < 90*time.Minute:
		return fmt.Sprintf("%d min ago", int(d.Minutes()+0.5))
	case d < 36*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()+0.5))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24+0.5))
}
