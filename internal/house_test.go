// Package internal holds no code: its tests are the house rules that keep every room in its place.
package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const root = ".."

// file is one Go file of the module with what the rules ask about.
type file struct {
	path    string // slash path from the root
	dir     string // room
	test    bool
	imports []string
	ast     *ast.File
	lines   int
}

var topLevel = map[string]string{
	"edge": "program: the appliance", "hub": "program", "simulator": "program", "provision": "program",
	"firmware": "bundle", "configs": "bundle", "internal": "shared rooms", "docs": "words", ".ci": "machine",
	".git": "machine", "bin": "build output, ignored", "state": "run output, ignored",
	"README.md": "words", "LICENSE": "licence", "Makefile": "machine", "go.mod": "machine", "go.sum": "machine",
	".gitignore": "machine", ".gitattributes": "machine",
}

func TestEveryTopLevelEntryIsAProgramABundleOrAWord(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if topLevel[e.Name()] == "" {
			t.Errorf("%s: no place for it in the house; put it in a room or change docs/ARCHITECTURE.md and this table", e.Name())
		}
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	docs := map[string]string{}
	for _, f := range load(t) {
		if f.test {
			continue
		}
		if f.ast.Doc != nil {
			docs[f.dir] += f.ast.Doc.Text()
		} else if docs[f.dir] == "" {
			docs[f.dir] = ""
		}
	}
	for dir, doc := range docs {
		if len(strings.Fields(doc)) < 10 {
			t.Errorf("%s: the package has no doc sentence that says what it owns", dir)
		}
	}
}

// The arrows of the house. A room is named by its directory; a rule on a directory covers everything below it.
func TestArrowsPointOneWay(t *testing.T) {
	for _, f := range load(t) {
		for _, imp := range f.imports {
			to, ok := strings.CutPrefix(imp, "kith/")
			if !ok {
				continue
			}
			if why := forbidden(f, to); why != "" {
				t.Errorf("%s imports %s: %s", f.path, to, why)
			}
		}
	}
}

func forbidden(f file, to string) string {
	from := f.dir
	wing := func(p string) string { w, _, _ := strings.Cut(p, "/"); return w }
	room := func(p string) string {
		parts := strings.SplitN(p, "/", 3)
		return strings.Join(parts[:min(2, len(parts))], "/")
	}
	switch {
	case room(from) == room(to):
		return ""
	case wing(from) != "simulator" && wing(to) == "simulator":
		return "nobody imports simulator"
	case wing(from) != "provision" && wing(to) == "provision":
		return "nobody imports provision"
	case wing(from) == "internal" && wing(to) != "internal" && wing(to) != "configs":
		return "shared rooms know no wing"
	case wing(from) == "edge" && wing(to) == "hub", wing(from) == "hub" && wing(to) == "edge":
		return "edge and hub never import each other"
	case from == "edge" && wing(to) == "edge" && to != "edge/appliance", from == "hub" && wing(to) == "hub" && to != "hub/exchange":
		return "a program knows its assembled room only"
	case wing(from) == "edge" && wing(to) == "edge" && from != "edge" && room(from) != "edge/appliance",
		wing(from) == "hub" && wing(to) == "hub" && from != "hub" && room(from) != "hub/exchange" && !(room(from) == "hub/audit" && contains(recomputed, to)):
		return "rooms of one wing do not know each other; the assembled room wires them"
	case to == "internal/mesh/tailnet" && from != "edge" && from != "hub" && from != "provision":
		return "only main packages import tailnet, so that the demo never compiles tailscale"
	}
	return ""
}

// A rule that an earlier one hides holds nothing, so a few arrows are named with what is to be said of them.
func TestTheRulesOfTheArrowsSayWhatTheHouseSays(t *testing.T) {
	for _, c := range []struct {
		from, to string
		free     bool
	}{
		{"hub/audit", "hub/clearing", true},
		{"hub/audit", "hub/settlement", true},
		{"hub/audit", "hub/ledger", true},
		{"hub/audit", "hub/advice", false},
		{"hub/audit", "hub/feed", false},
		{"hub/audit", "hub/store", false},
		{"hub/feed", "hub/ledger", false},
		{"hub/exchange", "hub/feed", true},
		{"hub", "hub/exchange", true},
		{"hub", "hub/store", false},
		{"edge/appliance", "edge/gate", true},
		{"edge/gate", "edge/door", false},
		{"edge/gate", "internal/access", true},
		{"edge/gate", "hub/store", false},
		{"hub/store", "edge/gate", false},
		{"edge/reader/pn532", "edge/reader", true},
		{"internal/access", "edge/gate", false},
		{"hub/exchange", "simulator/chip", false},
		{"simulator/week", "hub/exchange", true},
	} {
		if why := forbidden(file{dir: c.from}, c.to); (why == "") != c.free {
			t.Errorf("%s imports %s: %q", c.from, c.to, why)
		}
	}
	for std, impure := range map[string]bool{"os": true, "os/exec": true, "sync": true, "sync/atomic": true, "runtime": true, "runtime/debug": true,
		"math/rand/v2": true, "context": true, "bytes": false, "strings": false, "math/big": false, "time": false, "encoding/json": false} {
		if impureStd.MatchString(std) != impure {
			t.Errorf("%s: in a pure room %v", std, !impure)
		}
	}
}

// hub/audit may import these pure rooms: whoever checks a bundle must run the very functions that closed the period, and an
// interface between them would be one more place for the two to differ.
var recomputed = []string{"hub/ledger", "hub/clearing", "hub/settlement"}

// Pure rooms: no I/O, no clock, no goroutine, no third-party import.
var pure = []string{"internal/event", "internal/access", "internal/policy", "hub/ledger", "hub/clearing", "hub/settlement", "hub/advice", "hub/feed"}

var impureStd = regexp.MustCompile(`^(os|os/.*|net|net/.*|io/ioutil|syscall|log|log/slog|math/rand|math/rand/v2|crypto/rand|database/sql|database/sql/.*|sync|sync/.*|runtime|runtime/.*|context|plugin)$`)

func TestPureRoomsTouchNothing(t *testing.T) {
	for _, f := range load(t) {
		if f.test || !contains(pure, f.dir) {
			continue
		}
		for _, imp := range f.imports {
			if impureStd.MatchString(imp) || strings.Contains(strings.Split(imp, "/")[0], ".") {
				t.Errorf("%s imports %s: %s is a pure room", f.path, imp, f.dir)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine: %s is a pure room", f.path, f.dir)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker", "Tick", "AfterFunc"}, n.Sel.Name) {
					t.Errorf("%s calls time.%s: %s is a pure room", f.path, n.Sel.Name, f.dir)
				}
			}
			return true
		})
	}
}

// One home per guest: where each third-party module may be imported outside tests.
var homes = []struct {
	module string
	rooms  []string
	why    string
}{
	{"modernc.org/sqlite", []string{"internal/journal", "hub/store", "simulator/load"}, "SQL lives where its crash order is written down"},
	{"github.com/nats-io/", []string{"hub/broker"}, "no logic in a broker, and no broker elsewhere"},
	{"github.com/eclipse/paho.mqtt.golang", []string{"edge/link"}, "one MQTT session has one owner"},
	{"periph.io/x/host", []string{"edge/board"}, "pins are claimed in one place"},
	{"periph.io/x/conn", []string{"edge/board", "edge/reader/pn532", "edge/appliance"}, "bus types at the hardware rim"},
	{"go.bug.st/serial", []string{"edge/reader/pn532"}, "serial ports belong to readers"},
	{"github.com/prometheus/", []string{"internal/health"}, "metrics have one registry"},
	{"go.yaml.in/yaml", []string{"internal/settings", "edge/roster"}, "YAML is read strictly, in one way"},
	{"github.com/transparency-dev/merkle", []string{"hub/intake", "hub/store"}, "compact ranges are the hub's"},
	{"github.com/transparency-dev/formats", []string{"internal/pki", "hub/intake", "hub/store", "hub/audit"}, "cosignatures"},
	{"golang.org/x/mod", []string{"internal/journal", "internal/pki", "internal/bulletin", "internal/wire", "hub/intake", "hub/store", "hub/exchange", "hub/audit", "edge/appliance", "edge/outbox", "simulator"}, "notes and trees"},
	{"golang.org/x/sys", []string{"simulator/chip", "edge/appliance", "edge/board", "internal/journal"}, "system calls at the rim"},
	{"tailscale.com", []string{"internal/mesh/tailnet"}, "the mesh is one room"},
}

func TestEachGuestHasOneHome(t *testing.T) {
	used := map[string]bool{}
	for _, f := range load(t) {
		if f.test {
			continue
		}
		for _, imp := range f.imports {
			if !strings.Contains(strings.Split(imp, "/")[0], ".") {
				continue
			}
			home := -1
			for i, h := range homes {
				if strings.HasPrefix(imp, h.module) {
					home = i
				}
			}
			if home < 0 {
				t.Errorf("%s imports %s, which has no home; choose one in this table and say why", f.path, imp)
				continue
			}
			ok := false
			for _, r := range homes[home].rooms {
				if f.dir == r || strings.HasPrefix(f.dir, r+"/") {
					ok = true
					used[homes[home].module] = true
				}
			}
			if !ok {
				t.Errorf("%s imports %s, whose home is %v (%s)", f.path, imp, homes[home].rooms, homes[home].why)
			}
		}
	}
}

func TestNoInitAndNoMutablePackageState(t *testing.T) {
	for _, f := range load(t) {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					t.Errorf("%s: init has side effects before main can refuse", f.path)
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR {
					continue
				}
				for _, s := range d.Specs {
					v := s.(*ast.ValueSpec)
					if len(v.Values) == 0 && v.Names[0].Name != "_" && !embedded(d.Doc) && !embedded(v.Doc) {
						t.Errorf("%s: package variable %s has no value, so something must change it later", f.path, v.Names[0].Name)
					}
				}
			}
		}
	}
}

// embedded says that the linker fills the variable, once.
func embedded(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, c := range doc.List {
		if strings.HasPrefix(c.Text, "//go:embed ") {
			return true
		}
	}
	return false
}

var forbiddenNames = regexp.MustCompile(`^(util|utils|common|helper|helpers|manager|service|base|misc|core)$`)

func TestRoomsAreNouns(t *testing.T) {
	for _, f := range load(t) {
		if forbiddenNames.MatchString(f.ast.Name.Name) {
			t.Errorf("%s: package %s says nothing", f.path, f.ast.Name.Name)
		}
	}
}

func TestFilesHoldOneIdea(t *testing.T) {
	const mainLines, fileLines = 60, 800
	for _, f := range load(t) {
		limit := fileLines
		if filepath.Base(f.path) == "main.go" {
			limit = mainLines
		}
		if f.lines > limit {
			t.Errorf("%s: %d lines, limit %d", f.path, f.lines, limit)
		}
	}
}

// Where SQL may stand: two owners of databases, and the bare floor that the benchmarks hold them against.
var sqlRooms = []string{"internal/journal", "hub/store", "simulator/load"}

var (
	sqlWord  = regexp.MustCompile(`(?i)\b(insert into|select .* from|create table|delete from|update \w+ set)\b`)
	openTodo = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
)

func TestLinesAreInTheirRoom(t *testing.T) {
	for _, f := range load(t) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING || f.test {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				return true
			}
			if sqlWord.MatchString(text) && !contains(sqlRooms, f.dir) {
				t.Errorf("%s: SQL outside journal and store: %.40q", f.path, text)
			}
			if strings.HasPrefix(text, "v1/") && f.dir != "internal/wire" {
				t.Errorf("%s: a topic outside wire: %.40q", f.path, text)
			}
			return true
		})
		for _, c := range f.ast.Comments {
			if f.path != "internal/house_test.go" && openTodo.MatchString(c.Text()) {
				t.Errorf("%s: an open end in a comment: %.60q", f.path, c.Text())
			}
		}
	}
}

func TestSQLiteAndLibcMoveAsAPair(t *testing.T) {
	// modernc.org/sqlite crashes on 32-bit ARM with another libc than the one it was generated against.
	mod, err := os.ReadFile(root + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"modernc.org/sqlite v1.60.1", "modernc.org/libc v1.77.1"} {
		if !strings.Contains(string(mod), want) {
			t.Errorf("go.mod lacks %s; raise the pair together and run the soak", want)
		}
	}
	if strings.Contains(string(mod), "\nreplace") {
		t.Error("go.mod has a replace: nobody could import us")
	}
}

func TestEveryMakeTargetHasHelp(t *testing.T) {
	b, err := os.ReadFile(root + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	target := regexp.MustCompile(`^([a-z][a-z0-9-]*):`)
	for _, line := range strings.Split(string(b), "\n") {
		if m := target.FindStringSubmatch(line); m != nil && !strings.Contains(line, "## ") {
			t.Errorf("Makefile: target %s has no ## help", m[1])
		}
	}
}

func load(t *testing.T) []file {
	t.Helper()
	var out []file
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel == ".git" || rel == "bin" || d.Name() == "testdata" || d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		f := file{path: rel, dir: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(rel, "_test.go"), ast: parsed,
			lines: strings.Count(string(src), "\n")}
		for _, i := range parsed.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, p)
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].path < out[j].path })
	return out
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}
