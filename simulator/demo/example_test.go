package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kith/hub/audit"
	"kith/hub/settlement"
	"kith/internal/command"
	"kith/internal/event"
	"kith/internal/wire"
)

// seedDraft is what the seed alone comes to, as a hub would draft it from journals with one entry after the other. The roots decide lots.
func seedDraft(t *testing.T, root byte) *audit.Draft {
	t.Helper()
	e := network()
	const last = 20_764
	g := &audit.Ground{Policy: e.policy, Network: &audit.Network{Name: e.hub.Network}}
	points := map[string]*settlement.Checkpoint{}
	for i, h := range slices.SortedFunc(slices.Values(e.houses), func(a, b house) int { return strings.Compare(a.id, b.id) }) {
		g.Network.Nodes = append(g.Network.Nodes, h.id)
		points[h.id] = &settlement.Checkpoint{Journal: wire.Origin(e.hub.Network, h.id, h.edges[0].id, event.Epoch{1}), Node: h.id, Root: [32]byte{root, byte(i)}}
	}
	for i := range e.seed {
		v := &e.seed[i]
		h, _ := houseOf(v.place)
		p := points[v.place]
		body, err := event.Marshal(event.Entry{Resource: v.resource, Quantity: v.quantity, Measure: "part", Home: v.home, Day: int(last + v.day), Evidence: v.evidence})
		if err != nil {
			t.Fatal(err)
		}
		l := event.Leaf{Network: e.hub.Network, Node: v.place, Edge: h.edges[0].id, Epoch: event.Epoch{1}, Index: p.Size, Kind: v.action,
			At: (last + v.day) * 86_400_000, Clock: event.Synced, Boot: "00112233445566aa", Body: body}
		line, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		g.Shown = append(g.Shown, audit.Shown{Journal: p.Journal, Index: p.Size, Line: line})
		p.Size++
	}
	var all []settlement.Checkpoint
	for _, p := range points {
		all = append(all, *p)
	}
	var err error
	if g.Cut, err = settlement.NewCut(last, g.Network.Nodes, all, nil); err != nil {
		t.Fatal(err)
	}
	d, err := g.Draft(nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What the page about the example says of its seed is what comes out, whatever lots the roots of the journals draw.
func TestThePageShowsWhatTheSeedComesTo(t *testing.T) {
	page, err := os.ReadFile("../../docs/EXAMPLE.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]bool{}
	for l := range strings.Lines(string(page)) {
		lines[strings.TrimSpace(l)] = true
	}
	for root := range byte(20) {
		d := seedDraft(t, root)
		debts := 0
		for _, u := range d.Units {
			want := []string{fmt.Sprintf("| %s | %d | %d | %d |", u.Unit, u.Gross, u.Cleared, u.Gross-u.Cleared)}
			for _, debt := range u.Debts {
				want = append(want, fmt.Sprintf("| %s | %s | %s | %d | %d |", u.Unit, debt.Debtor, debt.Creditor, debt.Before, debt.After))
			}
			for _, w := range want {
				if !lines[w] {
					t.Errorf("docs/EXAMPLE.md lacks %s", w)
				}
			}
			debts += len(u.Debts)
		}
		if len(d.Units) != 3 || debts != 20 || d.Asides["same-home"] != 1 || d.Asides["capped"] != 1 || len(d.Missing) != 0 {
			t.Errorf("%d units, %d debts, asides %v, missing %v", len(d.Units), debts, d.Asides, d.Missing)
		}
	}
}

// A demo that people lived in for a moment closes with everything the seed owes, in a bundle that needs nobody's word, and leaves nothing.
func TestALivingDemoClosesWithTheSeedInItsBundle(t *testing.T) {
	file := filepath.Join(t.TempDir(), "week.tar")
	dir, err := os.MkdirTemp("", "kith") // short: sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // bounds a hang, and nothing else
	defer cancel()
	var out, errs bytes.Buffer
	if code := Command(ctx, command.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, []string{"--close", "--for", "4s", "--listen", "127.0.0.1:0", "--bundle", file}); code != command.OK {
		t.Fatalf("exit %d: %s\n%s", code, errs.String(), out.String())
	}
	bundle, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	c, r := audit.Verify(bundle)
	if !r.OK {
		t.Fatalf("the bundle does not verify: %v", r.Difference)
	}
	type debt struct {
		debtor, creditor, unit string
		amount                 int64
	}
	have, cleared := map[debt]int{}, map[string]int64{}
	discharged := c.Discharged()
	for _, o := range c.Period.Obligations {
		have[debt{o.Debtor, o.Creditor, o.Unit, o.Amount}]++
		cleared[o.Unit] += discharged[o.ID]
	}
	policy := network().policy
	for i := range network().seed {
		v := &network().seed[i]
		debtor, creditor, unit, amount := owed(v.home, v.place, &v.entry)
		if amount == 0 || v.evidence == event.EvidenceC && amount > policy.Settlement.CapC[unit] {
			continue
		}
		if have[debt{debtor, creditor, unit, amount}]--; have[debt{debtor, creditor, unit, amount}] < 0 {
			t.Errorf("%s does not owe %s %d %s\n%s", debtor, creditor, amount, unit, out.String())
		}
	}
	for _, u := range policy.Units {
		if cleared[u.Name] == 0 {
			t.Errorf("nothing is cleared in %s", u.Name)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v behind (%v)", left, err)
	}
}
