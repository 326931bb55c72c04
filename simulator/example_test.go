package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kith/hub/audit"
	"kith/hub/settlement"
)

// The worked example closes on anybody's machine as its page says, and the bundle says the same to a verifier that knows nothing else.
func TestTheWorkedExampleClosesAsItsPageSays(t *testing.T) {
	text, err := os.ReadFile("../docs/EXAMPLE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- closing: a test runs this block as it stands -->\n```sh\n")
	block, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatal("docs/EXAMPLE.md has lost its marked block")
	}
	bin, dir := t.TempDir(), t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "kith/hub", "kith/simulator")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // bounds a hang, and nothing else
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-e", "-c", block)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	bundle, err := os.ReadFile(filepath.Join(dir, "week.tar"))
	if err != nil {
		t.Fatal(err)
	}
	c, r := audit.Verify(bundle)
	if !r.OK || c.Period.State != settlement.Posted {
		t.Fatalf("the bundle does not verify: %+v", r)
	}
	if len(r.Units) != 3 || len(c.Period.Obligations) != 20 {
		t.Errorf("%d units and %d debts", len(r.Units), len(c.Period.Obligations))
	}
	for _, u := range r.Units {
		if row := fmt.Sprintf("\n| %s | %d | %d | %d |\n", u.Unit, u.Gross, u.Cleared, u.Gross-u.Cleared); !strings.Contains(string(text), row) {
			t.Errorf("docs/EXAMPLE.md does not say %q", row)
		}
	}
	for _, want := range []string{"verified: period demo-week", "verified: every root, receipt", "demo-week\tposted"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("nothing says %q:\n%s", want, out)
		}
	}
}
