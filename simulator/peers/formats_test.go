package peers_test

import (
	"encoding/hex"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"kith/edge/appliance"
	"kith/hub/exchange"
	"kith/hub/registry"
	"kith/hub/store"
	"kith/internal/access"
	"kith/internal/event"
)

// formatsExample is a named example on the page of formats.
var formatsExample = regexp.MustCompile("(?s)<!-- example: ([a-z0-9 -]+) -->\n```[a-z]*\n(.*?)\n```\n")

func readFormats(t *testing.T) (page string, examples map[string]string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/FORMATS.md")
	if err != nil {
		t.Fatal(err)
	}
	examples = map[string]string{}
	for _, m := range formatsExample.FindAllStringSubmatch(string(b), -1) {
		examples[m[1]] = m[2]
	}
	return string(b), examples
}

// documentedExport puts the page's worked example through the hub's store.
func documentedExport(t *testing.T, examples map[string]string) []byte {
	t.Helper()
	h := newHouse(t, "demo")
	var leaves []event.Leaf
	var hashes []tlog.Hash
	var lines []string
	for _, name := range []string{"leaf 0", "leaf 1", "leaf 2"} {
		leaf, err := event.Parse([]byte(examples[name]))
		if err != nil {
			t.Fatal(err)
		}
		leaves, lines, hashes = append(leaves, leaf), append(lines, examples[name]), append(hashes, tlog.RecordHash([]byte(examples[name])))
	}
	h.commit(store.Accepted{Log: logState("lisbon", "lisbon-front", leaves[0].Epoch, hashes, []byte(examples["receipt"]+"\n")), Leaves: leaves,
		Bundle:  []byte(strings.Join(lines, "\n")),
		Private: []store.PrivatePart{{Index: 1, Salt: saltOf(t, examples["commitment"]), Bytes: []byte(examples["private part of leaf 1"])}}})
	out := h.export()
	// The one word of an export that is drawn at random.
	return regexp.MustCompile(`"generation":"[0-9a-f]{32}"`).ReplaceAll(out, []byte(`"generation":"5d41402abc4b2a76b9719d911017c592"`))
}

func TestTheDocumentedExportIsWhatTheHubWrites(t *testing.T) {
	_, examples := readFormats(t)
	if got := strings.TrimSuffix(string(documentedExport(t, examples)), "\n"); got != examples["export"] {
		t.Fatalf("the page has\n%s\nthe hub writes\n%s", examples["export"], got)
	}
}

func TestTheDocumentedExportVerifiesInAnotherLanguage(t *testing.T) {
	python := needPython(t)
	_, examples := readFormats(t)
	var vkeys []string
	for line := range strings.Lines(examples["keys"]) {
		vkeys = append(vkeys, strings.Fields(line)[1])
	}
	code, said := verifyInPython(t, python, []byte(examples["export"]+"\n"), vkeys)
	if want := "verified: 1 logs, 3 leaves, 1 receipts, 1 private parts match, 0 erased, 0 leaves that no receipt proves"; code != 0 || said != want {
		t.Fatalf("exit %d, want 0 and %s:\n%s", code, want, said)
	}
}

// tags lists the keys of a type by one kind of tag, all levels.
func tags(v reflect.Type, tag string, seen map[reflect.Type]bool) []string {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || seen[v] {
		return nil
	}
	seen[v] = true
	var keys []string
	for i := range v.NumField() {
		f := v.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get(tag), ","); name != "" && name != "-" {
			keys = append(keys, name)
		}
		keys = append(keys, tags(f.Type, tag, seen)...)
	}
	return keys
}

func TestEveryConfigurationKeyAndAnswerIsDocumented(t *testing.T) {
	page, _ := readFormats(t)
	for _, c := range []struct {
		section, tag string
		values       []any
	}{
		{"## Edge configuration", "yaml", []any{appliance.Config{}}},
		{"## Hub configuration", "yaml", []any{exchange.Config{}}},
		{"## `hub verify --json`", "json", []any{exchange.Verification{}, exchange.Issue{}, registry.Node{}, registry.Edge{},
			exchange.PeriodState{}, exchange.Erasure{}, answer(t)}},
		{"## Roster", "json", []any{access.Member{}, access.Card{}, registry.Grant{}}},
	} {
		_, rest, ok := strings.Cut(page, "\n"+c.section)
		if !ok {
			t.Errorf("no section %q", c.section)
			continue
		}
		text, _, _ := strings.Cut(rest, "\n## ")
		for _, v := range c.values {
			for _, key := range tags(reflect.TypeOf(v), c.tag, map[reflect.Type]bool{}) {
				if !strings.Contains(text, "`"+key+"`") && !strings.Contains(text, "."+key+"`") {
					t.Errorf("%s does not name the key `%s` of %T", c.section, key, v)
				}
			}
		}
	}
}

// answer is the hub's answer with its own keys alone: what stands under members, cards and grants has a section of its own.
func answer(t *testing.T) any {
	t.Helper()
	whole := reflect.TypeFor[exchange.Answer]()
	var fields []reflect.StructField
	for i := range whole.NumField() {
		f := whole.Field(i)
		fields = append(fields, reflect.StructField{Name: f.Name, Type: reflect.TypeFor[string](), Tag: f.Tag})
	}
	if len(fields) == 0 {
		t.Fatal("the hub's answer has no keys")
	}
	return reflect.New(reflect.StructOf(fields)).Elem().Interface()
}

func saltOf(t *testing.T, text string) [32]byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Fields(text)[1])
	if err != nil || len(b) != 32 {
		t.Fatalf("salt of the example: %v", err)
	}
	return [32]byte(b)
}
