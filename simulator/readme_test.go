package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A stranger has nothing but the README. This test is one: it runs the block that is marked there, word for word, except
// for the two ports, which may be taken on a machine that runs tests.
func TestTheWalkInTheReadmeWorksAsItStands(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- walk: a test runs this block as it stands -->\n```sh\n")
	walk, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatal("README.md has lost its marked block")
	}
	walk = strings.NewReplacer("127.0.0.1:8080", free(t), "127.0.0.1:8883", free(t)).Replace(walk)
	bin, dir := t.TempDir(), t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "kith/edge", "kith/hub", "kith/simulator")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// Job control is on, as in the shell a person types into; kill %name needs it.
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -m -e\n"+walk)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	said := string(out)
	if err != nil {
		for _, log := range []string{"hub.log", "edge.log", "pins.txt", "reader.txt"} {
			b, _ := os.ReadFile(filepath.Join(dir, log))
			t.Logf("%s:\n%s", log, b)
		}
		t.Fatalf("the walk failed: %v\n%s", err, said)
	}
	for _, want := range []string{"front/lock 1", "front/lock 0", `\"verdict\":\"grant\"`, `"proof":"receipted"`, "roster of lisbon is now version",
		"verified: every root, receipt", "verified: every leaf"} {
		if !strings.Contains(said, want) {
			t.Errorf("the walk does not show %q:\n%s", want, said)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "pins.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "front/lock 1"); n != 1 {
		t.Errorf("the lock was released %d times; the revoked card must not open:\n%s", n, b)
	}
}

// free is an address that nobody listens at.
func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
