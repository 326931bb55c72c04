package exchange

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"kith/hub/store"
	"kith/internal/command"
	"kith/internal/pki"
)

// speak runs a verb as an operator does.
func speak(t *testing.T, args ...string) (out, said string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = Program("test").Run(t.Context(), command.Streams{In: strings.NewReader(""), Out: &o, Err: &e}, args)
	return o.String(), e.String(), code
}

func TestARestoreMakesNoKeysOfItsOwn(t *testing.T) {
	b := newBench(t)
	j := b.admit("lisbon-front")
	j.taps(5)
	receipt(t, j, 5, b.say(j.keys.ID, j.batch(0, 5)))
	b.settle()
	file := must(b.x.backup(t.Context())).Files[0]
	if err := b.x.close(); err != nil {
		t.Fatal(err)
	}
	authority := must(os.ReadFile(filepath.Join(b.dir, keysDir, pki.FileCA)))
	fresh := filepath.Join(t.TempDir(), "state")
	config := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(config, []byte(testConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	order := []string{"restore", file, "--config", config, "--state-dir", fresh, "--json"}
	out, said, code := speak(t, order...)
	if code != command.Failed || out != "" || !strings.Contains(said, filepath.Join(fresh, keysDir)) || !strings.Contains(said, "cp -a") {
		t.Fatalf("a restore without keys: code %d: %s%s", code, out, said)
	}
	if _, err := os.Stat(fresh); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a refused restore left something in %s: %v", fresh, err)
	}
	if err := os.CopyFS(filepath.Join(fresh, keysDir), os.DirFS(filepath.Join(b.dir, keysDir))); err != nil {
		t.Fatal(err)
	}
	keysOnly(t, filepath.Join(fresh, keysDir))
	out, said, code = speak(t, order...)
	var a Answer
	if err := json.Unmarshal([]byte(out), &a); code != command.OK || err != nil || !slices.Equal(a.Files, []string{filepath.Join(fresh, store.FileName)}) {
		t.Fatalf("a restore with the keys: code %d: %s%s %v", code, out, said, err)
	}
	if !bytes.Equal(must(os.ReadFile(filepath.Join(fresh, keysDir, pki.FileCA))), authority) {
		t.Fatal("the restored network has another authority")
	}
	b.dir = fresh
	b.open()
	if r := b.settle(); r.Leaves != 5 || r.Receipts != 1 {
		t.Fatalf("%+v", r)
	}
}

func TestTheWaitingPageSaysWhatTheFileSaysNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(testConfig + "colour: red\n")
	_, first := Load(path)
	w := &waiting{path: path}
	w.trouble.Store(&first)
	page := func() string {
		t.Helper()
		r := httptest.NewRecorder()
		w.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/", nil))
		if r.Code != http.StatusServiceUnavailable || r.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %v", r.Code, r.Header())
		}
		return r.Body.String()
	}
	if text := page(); !strings.Contains(text, "unknown key colour") {
		t.Fatal(text)
	}
	if _, ready, changed := w.look(); ready || changed {
		t.Fatal("the same mistake counts as news")
	}
	// Whoever waits keeps asking while the file is read.
	var asking sync.WaitGroup
	done := make(chan struct{})
	asking.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				w.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
			}
		}
	})
	write(testConfig + "shape: round\n")
	if _, ready, changed := w.look(); ready || !changed {
		t.Fatalf("another mistake: ready %v, changed %v", ready, changed)
	}
	if text := page(); strings.Contains(text, "colour") || !strings.Contains(text, "unknown key shape") {
		t.Fatal(text)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, ready, changed := w.look(); ready || !changed || !strings.Contains(page(), "no such file") {
		t.Fatalf("a file that is gone: ready %v, changed %v", ready, changed)
	}
	write(testConfig)
	cfg, ready, _ := w.look()
	close(done)
	asking.Wait()
	if !ready || cfg.Network != "demo" {
		t.Fatalf("a mended file: ready %v, %+v", ready, cfg)
	}
}

func TestJSONIsAFlagOfThoseThatAnswerInIt(t *testing.T) {
	for _, verb := range []string{"run", "export", "books"} {
		if out, _, code := speak(t, verb, "--help"); code != command.OK || strings.Contains(out, "--json") {
			t.Errorf("hub %s promises JSON that it does not print: %d %s", verb, code, out)
		}
		if _, said, code := speak(t, verb, "--json"); code != command.Usage || !strings.Contains(said, "json") {
			t.Errorf("hub %s --json: code %d %s", verb, code, said)
		}
	}
	for _, verb := range []string{"status", "verify", "backup", "restore", "report", "list"} {
		if out, _, code := speak(t, verb, "--help"); code != command.OK || !strings.Contains(out, "--json") {
			t.Errorf("hub %s hides its JSON: %d %s", verb, code, out)
		}
	}
}

// Whoever reads that the hub runs may give an order at once; it must reach this hub and not find the directory locked.
func TestAnOrderThatComesBeforeTheHubServesItWaits(t *testing.T) {
	config := filepath.Join(t.TempDir(), "hub.yaml")
	text := testConfig + "listen: 127.0.0.1:0\nbroker: 127.0.0.1:0\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	x, err := Open(t.Context(), must(Load(config)), Options{StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	answered := make(chan int, 1)
	var out, said bytes.Buffer
	go func() {
		answered <- Program("test").Run(t.Context(), command.Streams{Out: &out, Err: &said}, []string{"list", "nodes", "--config", config, "--state-dir", state})
	}()
	for len(answered) == 0 { // the order lies in the socket's queue, or has failed
		if c, err := net.Dial("unix", filepath.Join(state, controlFile)); err == nil {
			c.Close()
			break
		}
	}
	ran := make(chan error, 1)
	go func() { ran <- x.Run(ctx) }()
	if code := <-answered; code != command.OK || !strings.Contains(out.String(), "lisbon") {
		t.Errorf("code %d: %s%s", code, out.String(), said.String())
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(state, controlFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the control socket was left behind: %v", err)
	}
}
