package chip

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// peerTime bounds one run of a foreign program.
const peerTime = 20 * time.Second

// peer finds a foreign program, or skips loudly; under KITH_PEERS=required it fails.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("KITH_PEERS") == "required" {
		t.Fatalf("%s is missing and KITH_PEERS=required", name)
	}
	t.Skipf("SKIP: %s missing: the virtual reader was not shown to libnfc", name)
	return ""
}

// libnfc runs one of its programs against the terminal.
func libnfc(t *testing.T, program, tty string, args ...string) string {
	t.Helper()
	path := peer(t, program)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(),
		"LIBNFC_DEFAULT_DEVICE=pn532_uart:"+tty+":115200",
		"LIBNFC_AUTO_SCAN=false",
		"HOME="+t.TempDir(),
	)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", program, err)
	}
	kill := time.AfterFunc(peerTime, func() { cmd.Process.Kill() })
	defer kill.Stop()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out.String())
	}
	return out.String()
}

// spaced writes bytes as libnfc prints them.
func spaced(b []byte) string {
	var parts []string
	for _, c := range b {
		parts = append(parts, hex.EncodeToString([]byte{c}))
	}
	return strings.Join(parts, "  ")
}

func openChip(t *testing.T, opts Options) (*Chip, *Field) {
	t.Helper()
	field := NewField()
	c, err := Open(field, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, field
}

func TestLibnfcListsTheVirtualPKOCCard(t *testing.T) {
	t.Parallel()
	k := newPKOCCard(t)
	link := filepath.Join(t.TempDir(), "reader")
	seen := make(map[byte]bool)
	c, field := openChip(t, Options{Link: link, Trace: func(cmd []byte) { seen[cmd[0]] = true; t.Logf("%x", cmd) }})
	if err := field.Place(k); err != nil {
		t.Fatal(err)
	}
	out := libnfc(t, "nfc-list", link, "-v")
	c.do(func() {}) // the chip is at rest: seen may be read
	t.Log(out)
	for _, want := range []string{
		"1 ISO14443A passive target(s) found",
		"UID (NFCID1): " + spaced(k.UID),
		"SAK (SEL_RES): 20",
		"ATS: " + spaced(k.ATS[1:]),
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nfc-list does not print %q", want)
		}
	}
}

func TestLibnfcListsNumberedCardsAndPairs(t *testing.T) {
	t.Parallel()
	c, field := openChip(t, Options{})
	one, err := NewUID(unhex(t, "11223344"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := NewUID(unhex(t, "0411223344556677889A"))
	if err != nil {
		t.Fatal(err)
	}
	field.Place(one)
	field.Place(two)
	out := libnfc(t, "nfc-list", c.Path(), "-v")
	for _, want := range []string{"UID (NFCID1): " + spaced(one.UID), "SAK (SEL_RES): 08"} {
		if !strings.Contains(out, want) {
			t.Errorf("nfc-list does not print %q:\n%s", want, out)
		}
	}
	field.Clear()
	if out := libnfc(t, "nfc-list", c.Path()); strings.Contains(out, "NFCID1") {
		t.Errorf("nfc-list sees a card in an empty field:\n%s", out)
	}
}

// nfc-poll uses InAutoPoll or a long list, and waits until the card is taken away.
func TestLibnfcPollSeesACardComeAndGo(t *testing.T) {
	t.Parallel()
	c, field := openChip(t, Options{})
	k := newPKOCCard(t)
	time.AfterFunc(500*time.Millisecond, func() { field.Place(k) })
	time.AfterFunc(1200*time.Millisecond, field.Clear)
	out := libnfc(t, "nfc-poll", c.Path())
	for _, want := range []string{"UID (NFCID1): " + spaced(k.UID), "ATS: " + spaced(k.ATS[1:])} {
		if !strings.Contains(out, want) {
			t.Errorf("nfc-poll does not print %q:\n%s", want, out)
		}
	}
}
