package exchange

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kith/hub/audit"
	"kith/internal/command"
	"kith/internal/pki"
)

func TestVerifyHoldsABundleToTheOperatorsKeyThatIsGiven(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	bundle := w.closed("week-1", lastDay)
	dir := t.TempDir()
	file, other := filepath.Join(dir, "b.tar"), t.TempDir()
	if err := os.WriteFile(file, bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(w.dir, keysDir, pki.FileOperatorVerify)
	text := strings.TrimSpace(string(must(pki.ReadPublic(key))))
	operatorOf(t, other, "commons-week")
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no key", nil, command.OK, "NOT PINNED"},
		{"the key", []string{"--operator", text}, command.OK, "that you gave"},
		{"its file", []string{"--operator=" + key}, command.OK, "that you gave"},
		{"in JSON", []string{"--json", "--operator", key}, command.OK, `"pinned": true`},
		{"another key", []string{"--operator", filepath.Join(other, pki.FileOperatorVerify)}, command.Failed, "network.txt"},
		{"no such key", []string{"--operator", "nobody"}, command.Failed, ""},
		{"no such flag", []string{"--operater", text}, command.Usage, ""},
	} {
		var out bytes.Buffer
		code := Program("test").Run(t.Context(), command.Streams{Out: &out, Err: &out}, append([]string{"verify", file}, tc.args...))
		if code != tc.code || !strings.Contains(out.String(), tc.says) {
			t.Errorf("%s: code %d, want %d: %s", tc.name, code, tc.code, out.String())
		}
	}
	if _, r := audit.Verify(bundle); r.Pinned {
		t.Error("a bundle pins its own key")
	}
}
