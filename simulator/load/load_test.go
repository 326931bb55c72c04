package load

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kith/internal/command"
)

// TestMain lets this binary act as the simulator, so that programs that are killed and weighed can be started from it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "load" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := Command(ctx, command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[2:])
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func run(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Command(t.Context(), command.Streams{In: strings.NewReader(""), Out: &o, Err: &e}, args)
	return code, o.String(), e.String()
}

// documented wants every key of a JSON object, and of the objects in its lists, in the section of the page that is about us.
func documented(t *testing.T, text string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/FORMATS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## Simulator\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	wanted := slices.Collect(maps.Keys(object))
	for _, v := range object {
		list, _ := v.([]any)
		for _, each := range list {
			inner, _ := each.(map[string]any)
			wanted = slices.AppendSeq(wanted, maps.Keys(inner))
		}
	}
	for _, key := range wanted {
		if !strings.Contains(section, "`"+key+"`") {
			t.Errorf("docs/FORMATS.md does not say what %s is", key)
		}
	}
}

func TestEveryPartOfTheTableIsMeasured(t *testing.T) {
	code, out, said := run(t, "--bench", "--short", "--json")
	if code != command.OK {
		t.Fatalf("exit %d: %s\n%s", code, said, out)
	}
	var table struct{ Figures []figure }
	if err := json.Unmarshal([]byte(out), &table); err != nil {
		t.Fatal(err)
	}
	documented(t, out)
	found := map[string]bool{}
	for _, f := range table.Figures {
		if f.Value <= 0 {
			t.Errorf("%s was measured as %v", f.Name, f.Value)
		}
		if f.Peer != "" && f.Bare <= 0 {
			t.Errorf("%s stands beside %q, which was measured as %v", f.Name, f.Peer, f.Bare)
		}
		if found[f.Name] && f.Note == "" {
			t.Errorf("%s stands twice without a word on the difference", f.Name)
		}
		found[f.Name] = true
		for _, p := range parts() {
			if strings.HasPrefix(f.Name, p.name) {
				found[p.name] = true
			}
		}
	}
	for _, want := range []string{"tap: last card byte to lock, p99", "decision, p99", "journal append, p50", "ingest, 100 events a batch",
		"ingest, 1 event a batch", "ingest over MQTT+TLS, 1 event a batch", "receipt at 1,000 events/s, p99", "edge memory, at rest",
		"edge memory, highest under replay", "edge ready after SIGKILL", "hub ready after SIGKILL", "solve a clearing", "verify a clearing",
		"solve the first stage of a clearing", "read and verify a clearing", "memory of a clearing, highest"} {
		if !found[want] {
			t.Errorf("no figure %q", want)
		}
	}
}

func TestOnlyMeasuresWhatItNamesAndPrintsATable(t *testing.T) {
	code, out, said := run(t, "--bench", "--short", "--only", "decision,journal")
	if code != command.OK || !strings.Contains(out, "decision, p99") || !strings.Contains(out, "journal append, p50") || strings.Contains(out, "tap:") {
		t.Fatalf("exit %d: %s\n%s", code, said, out)
	}
	if code, _, said := run(t, "--bench", "--only", "weather"); code != command.Usage || !strings.Contains(said, "weather") {
		t.Fatalf("exit %d for a part that does not exist: %s", code, said)
	}
}

func TestAFigureThatCannotBeMeasuredFailsTheRun(t *testing.T) {
	code, out, said := run(t, "--bench", "--short", "--only", "memory", "--edge", "/nonexistent/edge")
	if code != command.Failed || !strings.Contains(said, "memory: ") {
		t.Fatalf("exit %d: %s\n%s", code, said, out)
	}
}

func TestTheGeneratorLosesAndDoublesNothing(t *testing.T) {
	code, out, said := run(t, "--edges", "3", "--rate", "300", "--for", "300ms", "--json")
	if code != command.OK {
		t.Fatalf("exit %d: %s\n%s", code, said, out)
	}
	var r outcome
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	documented(t, out)
	if r.Events != 90 || r.Lost != 0 || r.Doubled != 0 || r.P50 <= 0 || r.P99 < r.P50 {
		t.Fatalf("%+v", r)
	}
	for _, args := range [][]string{{"--edges", "0"}, {"--edges", "-1"}, {"--rate", "-1"}, {"--batch", "0"}, {"--for", "0s"}, {"--for", "-5s"}} {
		if code, out, said := run(t, args...); code != command.Usage || out != "" || !strings.Contains(said, args[0]+" "+args[1]) {
			t.Errorf("%v: exit %d: %s%s", args, code, out, said)
		}
	}
}
