package storm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kith/internal/event"
)

// healLimit is how long a hub may take to hold everything again: the edges' links back off to a few seconds in these tests.
const healLimit = 90 * time.Second

// backup takes one and returns its file.
func (n *network) backup() string {
	n.t.Helper()
	for line := range strings.Lines(n.order("backup")) {
		if file, ok := strings.CutPrefix(strings.TrimSpace(line), "wrote "); ok {
			return file
		}
	}
	n.t.Fatal("hub backup names no file")
	return ""
}

// restore kills the hub and makes a new state directory from a backup and the old keys, as after the loss of a disk.
func (n *network) restore(file string) {
	n.t.Helper()
	if err := n.hub.kill(); err != nil {
		n.t.Fatal(err)
	}
	fresh := filepath.Join(n.dir, "state-restored")
	if err := copyTree(filepath.Join(n.state, "keys"), filepath.Join(fresh, "keys"), everything); err != nil {
		n.t.Fatal(err)
	}
	n.state = fresh
	n.order("restore", file)
}

// book reads the hub's export.
func (n *network) book() *book {
	n.t.Helper()
	b, err := readBook(n.export())
	if err != nil {
		n.t.Fatal(err)
	}
	return b
}

// missing says which leaf of an older book does not stand in this one, byte for byte with its private part.
func (b *book) missing(older *book) error {
	have := map[string]string{}
	for _, l := range b.logs {
		for _, leaf := range l.leaves {
			have[fmt.Sprintf("%s/%s/%d", l.edge, l.epoch, leaf.leaf.Index)] = leaf.whole
		}
	}
	for _, l := range older.logs {
		for _, leaf := range l.leaves {
			at := fmt.Sprintf("%s/%s/%d", l.edge, l.epoch, leaf.leaf.Index)
			if whole, ok := have[at]; !ok {
				return fmt.Errorf("%s is missing", at)
			} else if whole != leaf.whole {
				return fmt.Errorf("%s is another leaf", at)
			}
		}
	}
	return nil
}

// testify collects what was seen at every edge, all doors being strict.
func (n *network) testify() []witness {
	n.t.Helper()
	var out []witness
	for _, e := range n.edges {
		w := witness{edge: e.id, strict: true}
		w.presentations, w.movements, w.others = e.post.seen()
		held, err := e.receiptsIn(mustCopy(n.t, e))
		if err != nil {
			n.t.Error(err)
		}
		w.receipts = held
		out = append(out, w)
	}
	return out
}

// judge wants every tap that opened a door in the hub, exactly once.
func (n *network) judge(b *book, seen []witness) tally {
	n.t.Helper()
	findings, sum := examine(b, seen)
	for _, f := range findings {
		n.t.Errorf("%s: %s", f.kind, f.text)
	}
	if sum.matched == 0 || sum.matched != sum.pulses {
		n.t.Errorf("%d of %d pulses matched", sum.matched, sum.pulses)
	}
	return sum
}

// F11: a hub restored from an old backup is told by its edges what it lacks, and ends where it would have been.
func TestHubFromAnOldBackupIsHealedByItsEdges(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, options{edges: 2})
	n.up()
	for _, e := range n.edges {
		e.post.taps(t, 5)
	}
	n.catchUp(calmLimit)
	file := n.backup()
	for _, e := range n.edges {
		e.post.taps(t, 7)
	}
	n.catchUp(calmLimit)
	reference := n.book()
	n.restore(file)
	if b := n.book(); b.missing(reference) == nil || b.generation == reference.generation {
		t.Fatalf("the restored hub lacks nothing or has its old generation %s: this test proves nothing", b.generation)
	}
	for _, e := range n.edges {
		e.post.taps(t, 3) // doors do not ask whether there is a hub
	}
	n.startHub()
	began := time.Now()
	n.hub.ready(t)
	eventually(t, healLimit, "the hub to hold what it held", func() error { return n.book().missing(reference) })
	t.Logf("healed in %s", time.Since(began).Round(100*time.Millisecond))
	n.catchUp(calmLimit)
	for _, e := range n.edges {
		e.post.taps(t, 2)
	}
	n.catchUp(calmLimit)
	seen := n.testify()
	b := n.book()
	if b.generation == reference.generation {
		t.Error("the restored hub kept its generation: edges cannot tell that it may have forgotten")
	}
	for _, l := range b.logs {
		if l.status != "open" {
			t.Errorf("%s/%s is %q after a restore that lost nothing for good", l.edge, l.epoch, l.status)
		}
	}
	n.judge(b, seen)
	n.stopAll()
	n.verifyAll()
}

// A hub restored from a backup has forgotten its newest rosters, and a door never accepts one that is not newer than what it
// holds. What the operator then takes back must reach the doors all the same.
func TestWhatARestoredHubTakesBackIsTakenBackAtTheDoors(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, options{edges: 1})
	n.up()
	e := n.edges[0]
	n.catchUp(calmLimit)
	file := n.backup()
	var newest uint64
	for i := range 5 { // newer rosters than the backup holds
		out := n.order("member", "add", fmt.Sprintf("late-%d", i), "--name", "Late", "--home", e.node, "--group", "members")
		newest = issued(t, out, e.node)
	}
	e.post.taps(t, 1)
	eventually(t, healLimit, "the newest roster at the edge", func() error {
		if held := n.book().roster(e.id); held < newest {
			return fmt.Errorf("roster %d of %d", held, newest)
		}
		return nil
	})
	held := n.book().roster(e.id)
	n.restore(file)
	n.startHub()
	n.hub.ready(t)
	eventually(t, healLimit, "the hub to say that it has forgotten rosters", func() error {
		if out, _ := verb(t, n.bin.hub, "status", "--config", n.hubConfig(), "--state-dir", n.state); !strings.Contains(out, "it was restored") {
			return fmt.Errorf("hub status:\n%s", out)
		}
		return nil
	})
	c := e.post.cards[0]
	id, err := c.ID()
	if err != nil {
		t.Fatal(err)
	}
	n.order("revoke", "card", id)
	began := time.Now()
	eventually(t, healLimit, "a newer roster at the edge", func() error {
		if now := n.book().roster(e.id); now <= held {
			return fmt.Errorf("roster %d, and it held %d before", now, held)
		}
		return nil
	})
	t.Logf("roster %d before, %d after %s", held, n.book().roster(e.id), time.Since(began).Round(100*time.Millisecond))
	if opened, err := e.post.tap(t.Context(), c, holdLong); err != nil || opened {
		t.Errorf("a card that the restored hub took back still opens (%v)", err)
	}
	n.catchUp(calmLimit)
	if taps := n.book().taps(e.id); len(taps) == 0 || taps[len(taps)-1].body.Verdict != "deny" {
		t.Error("the last tap was not refused")
	}
	n.stopAll()
	n.verifyAll()
}

// issued reads the roster version of a node from a command's answer.
func issued(t testing.TB, out, node string) uint64 {
	t.Helper()
	for line := range strings.Lines(out) {
		var version uint64
		if n, _ := fmt.Sscanf(line, "roster of "+node+" is now version %d", &version); n == 1 {
			return version
		}
	}
	t.Fatalf("no new roster of %s in:\n%s", node, out)
	return 0
}

// F12: what the hub lost and its edge had pruned is a range with a name, until an archive brings it back.
func TestWhatHubAndEdgeLostIsNamedUntilAnArchiveFillsIt(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, options{edges: 1, retention: "1s"})
	e := n.edges[0]
	e.writeOld(t, 700, time.Now().Add(-5*time.Hour))
	old := n.backup() // before the hub had any of it
	n.up()
	e.post.taps(t, 4)
	n.catchUp(calmLimit)
	n.backup() // raises the watermark: from here on the edge may prune
	e.proc.stop(t)
	e.start()
	e.ready()
	eventually(t, healLimit, "the edge to prune", func() error {
		if p := e.pruned(); p == 0 {
			return fmt.Errorf("nothing is pruned")
		}
		return nil
	})
	n.catchUp(calmLimit)
	reference := n.export()
	n.restore(old)
	n.startHub()
	n.hub.ready(t)
	eventually(t, healLimit, "the hub to name what is lost", func() error {
		if out, _ := verb(t, n.bin.hub, "verify", "--config", n.hubConfig(), "--state-dir", n.state); !strings.Contains(out, "LOST") {
			return fmt.Errorf("hub verify says:\n%s", out)
		}
		return nil
	})
	e.post.taps(t, 3)
	n.catchUp(calmLimit)
	t.Logf("hub verify: %s", n.order("verify"))
	b := n.book()
	if l := b.ofEdge(e.id); len(l) != 1 || len(l[0].lost) != 1 || l[0].lost[0] != [2]uint64{0, e.pruned()} || !strings.Contains(l[0].status, "lost=0-") {
		t.Fatalf("the export does not name the lost range 0-%d: %+v", e.pruned(), l[0].lost)
	}
	archive := filepath.Join(n.dir, "archive.jsonl")
	if err := os.WriteFile(archive, reference, 0o600); err != nil {
		t.Fatal(err)
	}
	n.order("archive", archive)
	whole, err := readBook(reference)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.book().missing(whole); err != nil {
		t.Errorf("after the archive: %v", err)
	}
	if out := n.order("verify"); strings.Contains(out, "LOST") {
		t.Errorf("after the archive hub verify still says:\n%s", out)
	}
	n.judge(n.book(), n.testify())
	n.stopAll()
	n.verifyAll()
}

// pruned is how many leaves of its first epoch an edge no longer holds.
func (e *edge) pruned() uint64 {
	e.n.t.Helper()
	var r struct {
		Epochs []struct {
			Pruned uint64 `json:"pruned"`
		} `json:"epochs"`
	}
	out := mustVerb(e.n.t, e.n.bin.edge, "verify", "--json", "--config", e.config())
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Epochs) == 0 {
		e.n.t.Fatalf("edge verify --json: %v\n%s", err, out)
	}
	return r.Epochs[0].Pruned
}

// roster is the newest roster version that an edge said it holds.
func (b *book) roster(edge string) uint64 {
	var version uint64
	for _, l := range b.ofEdge(edge) {
		for _, leaf := range l.leaves {
			var body event.RosterSet
			if leaf.leaf.Kind == event.KindRoster && json.Unmarshal(leaf.leaf.Body, &body) == nil {
				version = max(version, body.Version)
			}
		}
	}
	return version
}
