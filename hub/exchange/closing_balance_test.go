package exchange

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kith/hub/audit"
	"kith/internal/command"
	"kith/internal/pki"
)

// What a house keeps of a posted period is one small file, and the program alone reads it: no hub, no database, no bundle.
func TestAHouseKeepsItsOwnBalanceAndVerifiesItAlone(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	if _, err := w.x.period(t.Context(), PeriodOrder{Do: "balance", Period: "week-1", Node: "lisbon"}, lastDay); err == nil {
		t.Fatal("a balance of a period that is not there")
	}
	bundle := w.closed("week-1", lastDay)
	c, r := verified(t, bundle)
	dir := t.TempDir()
	key := filepath.Join(w.dir, keysDir, pki.FileOperatorVerify)
	run := func(code int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if got := Program("test").Run(t.Context(), command.Streams{Out: &out, Err: &out}, args); got != code {
			t.Fatalf("%q: code %d, want %d: %s", args, got, code, out.String())
		}
		return out.String()
	}
	config := filepath.Join(dir, "hub.yaml")
	if err := os.WriteFile(config, []byte("network: commons-week\nlisten: 127.0.0.1:0\nbroker: 127.0.0.1:0\nnodes:\n  - {id: lisbon, name: Lisbon, zone: Europe/Lisbon}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.x.close(); err != nil {
		t.Fatal(err)
	}
	defer w.open()
	at := []string{"--config", config, "--state-dir", w.dir}
	file, tar := filepath.Join(dir, "lisbon.txt"), filepath.Join(dir, "week-1.tar")
	said := run(command.OK, append([]string{"period", "balance", "week-1", "lisbon", "--out", file}, at...)...)
	if !strings.Contains(said, "wrote "+file) || !strings.Contains(said, "seal "+r.Seal) {
		t.Error(said)
	}
	if err := os.WriteFile(tar, bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	if said := run(command.OK, "verify", file); !strings.Contains(said, "NOT PINNED") || !strings.Contains(said, "accounts of lisbon") {
		t.Error(said)
	}
	if said := run(command.OK, "verify", "--operator", key, tar, file); strings.Count(said, "that you gave") != 2 {
		t.Error(said)
	}
	var b audit.BalanceReport
	if err := json.Unmarshal([]byte(run(command.OK, "verify", "--json", "--operator", key, file)), &b); err != nil || !b.OK || !b.Pinned || b.Seal != r.Seal {
		t.Errorf("%v %+v", err, b)
	}
	for _, v := range b.Balances {
		found := false
		for a, sums := range c.Balances {
			found = found || a.Path == v.Account && a.Unit == v.Unit && sums.Balance() == v.Balance
		}
		if !found {
			t.Errorf("%+v is not in the books", v)
		}
	}
	var a Answer
	said = run(command.OK, append([]string{"period", "balance", "week-1", "lisbon", "--json", "--unit", "night"}, at...)...)
	if err := json.Unmarshal([]byte(said), &a); err != nil || a.Balance == nil || a.Files != nil || len(a.Balance.Balances) == 0 || len(a.Balance.Balances) >= len(b.Balances) {
		t.Errorf("%v %s", err, said)
	}
	run(command.Failed, append([]string{"period", "balance", "week-1", "nowhere"}, at...)...)
	text := must(os.ReadFile(file))
	at1 := bytes.LastIndexByte(text[:bytes.Index(text, []byte("\npath "))], ' ') + 1
	text[at1] = '1' + (text[at1]-'0'+1)%9
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if said := run(command.Failed, "verify", file); !strings.Contains(said, "NOT VERIFIED") || !strings.Contains(said, "line 8") {
		t.Error(said)
	}
}
