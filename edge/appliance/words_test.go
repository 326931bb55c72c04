package appliance

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// constants are the values of the constants of one type, as the source has them.
func constants(t *testing.T, source, typ string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", source))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source %s: %v", source, err)
	}
	var out []string
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			switch of := spec.Type.(type) {
			case *ast.Ident:
				ok = of.Name == typ
			case *ast.SelectorExpr:
				ok = of.Sel.Name == typ
			default:
				ok = false
			}
			if lit, is := spec.Values[0].(*ast.BasicLit); ok && is {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					out = append(out, text)
				}
			}
			return true
		})
	}
	if len(out) < 2 {
		t.Fatalf("%s has %d constants of the type %s", source, len(out), typ)
	}
	return out
}

// The page lists every word that the edge writes or takes, and no other.
func TestEveryWordOfASetIsOnThePage(t *testing.T) {
	b, err := os.ReadFile("../../docs/FORMATS.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	word, aside := regexp.MustCompile("`([a-z-]+)`"), regexp.MustCompile(`\([^()]*\)`)
	words := func(text string) []string {
		set := map[string]bool{}
		for _, m := range word.FindAllStringSubmatch(aside.ReplaceAllString(text, ""), -1) {
			set[m[1]] = true
		}
		return slices.Sorted(maps.Keys(set))
	}
	between := func(from, to string) string {
		_, rest, ok := strings.Cut(page, from)
		text, _, ok2 := strings.Cut(rest, to)
		if !ok || !ok2 {
			t.Fatalf("the page has no %q that ends with %q", from, to)
		}
		return text
	}
	var kinds strings.Builder // first cells of the table
	for line := range strings.Lines(between("\n| kind | body |\n", "\n\n")) {
		kinds.WriteString(strings.SplitN(line, "|", 3)[1])
	}
	for _, c := range []struct {
		what, page string
		code       []string
	}{
		{"directions of a tap", between("`dir`: ", ";"), directions},
		{"directions of a reader", between("`direction`: ", "; `pn532`"), directions},
		{"states of a door", between("| a door changed. `door` id; `state`: ", ";"), constants(t, "edge/door/*.go", "State")},
		{"reasons of a tap", between("Reasons of a tap: ", "\n\n"),
			append(constants(t, "internal/access/verdict.go", "Reason"), "paused")}, // the last is the gate's own
		{"degraded modes", between("| `degraded` | once the ticket has run out: ", "|"), constants(t, "internal/access/verdict.go", "Degraded")},
		{"kinds", kinds.String() + between("Economic kinds, in the words of ValueFlows: ", "."), constants(t, "internal/event/*.go", "Kind")},
		{"states of an entry", between("entry in the making has `id`; `state`: ", "; `reason`"), constants(t, "edge/kiosk/*.go", "State")},
	} {
		if got, want := words(c.page), slices.Compact(slices.Sorted(slices.Values(c.code))); !slices.Equal(got, want) {
			t.Errorf("%s: the page has %v, the code %v", c.what, got, want)
		}
	}
}
