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

// duplicateLimit is the promise: two devices with one key are known after at most so long.
const duplicateLimit = time.Minute

// image copies the state directory of a stopped edge.
func (e *edge) image() string {
	e.n.t.Helper()
	to := filepath.Join(e.n.t.TempDir(), "state")
	if err := copyTree(e.state(), to, everything); err != nil {
		e.n.t.Fatal(err)
	}
	return to
}

// rollBack puts an older copy in place of the state directory.
func (e *edge) rollBack(image string) {
	e.n.t.Helper()
	if err := os.Rename(e.state(), filepath.Join(e.dir, "state-lost")); err != nil {
		e.n.t.Fatal(err)
	}
	if err := copyTree(image, e.state(), everything); err != nil {
		e.n.t.Fatal(err)
	}
}

// clone makes a second device of a stopped edge: its whole directory, with hardware of its own and the same people.
func (e *edge) clone() *edge {
	e.n.t.Helper()
	c := &edge{n: e.n, id: e.id, node: e.node, dir: e.dir + "-clone"}
	if err := copyTree(e.dir, c.dir, func(name string) bool { return !strings.HasPrefix(name, "reader") }); err != nil {
		e.n.t.Fatal(err)
	}
	c.post = openPost(e.n.t, c.dir, e.post.cards)
	e.n.t.Cleanup(func() {
		if c.proc != nil && c.proc.alive() {
			_ = c.proc.kill() // a failed test left it running
		}
	})
	return c
}

// older takes an image after some taps, and makes more taps that reach the hub.
func (n *network) older(e *edge, before, after int) (image string) {
	n.t.Helper()
	e.post.taps(n.t, before)
	n.catchUp(calmLimit)
	e.proc.stop(n.t)
	image = e.image()
	e.start()
	e.ready()
	e.post.taps(n.t, after)
	n.catchUp(calmLimit)
	e.proc.stop(n.t)
	return image
}

// tapsHeld wants so many taps of an edge in the hub, replayed ones among them.
func (n *network) tapsHeld(e *edge, all, replayed int) error {
	taps := n.book().taps(e.id)
	carried := 0
	for _, t := range taps {
		if t.replayed {
			carried++
		}
	}
	if len(taps) != all || carried != replayed {
		return fmt.Errorf("the hub has %d taps of %s, %d replayed; want %d and %d", len(taps), e.id, carried, all, replayed)
	}
	return nil
}

// F13: an older copy of the disk comes back and nobody tapped before the hub was met. What a start says of itself waits for
// the hub's first word, so the copy is still a prefix of what the hub has: no fork, nobody is held, nothing is carried over.
func TestEdgeFromAnOlderCopyBeginsANewEpoch(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, options{edges: 1})
	n.up()
	e := n.edges[0]
	image := n.older(e, 4, 5)
	reference := n.book()
	e.rollBack(image)
	e.start()
	e.ready()
	eventually(t, healLimit, "a second epoch in the hub", func() error {
		if logs := n.book().ofEdge(e.id); len(logs) != 2 {
			return fmt.Errorf("%d logs", len(logs))
		}
		return nil
	})
	e.post.taps(t, 3)
	eventually(t, healLimit, "all taps in the hub", func() error { return n.tapsHeld(e, 4+5+3, 0) })
	n.catchUp(calmLimit)
	b := n.book()
	if err := b.missing(reference); err != nil {
		t.Errorf("what stood in the hub before: %v", err)
	}
	first := b.ofEdge(e.id)[1].leaves[0].leaf
	var body event.Epochal
	if err := json.Unmarshal(first.Body, &body); err != nil || first.Kind != event.KindRestored {
		t.Errorf("the new epoch begins with %s (%v)", first.Kind, err)
	}
	at, err := n.nodeEdge(e.id)
	if err != nil || at.Link != "connected" {
		t.Errorf("the hub calls the edge %q (%v), want connected: nobody has to release it", at.Link, err)
	}
	for _, l := range b.ofEdge(e.id)[1].leaves {
		if l.leaf.Kind == event.KindReplayed {
			t.Errorf("leaf %d is carried over, but the copy wrote nothing: %s", l.leaf.Index, l.leaf.Body)
		}
	}
	t.Logf("begins with %s after %d leaves; the hub calls the edge %q (%v); log states %q and %q", first.Kind, body.OldSize, at.Link, err,
		b.ofEdge(e.id)[0].status, b.ofEdge(e.id)[1].status)
	n.judge(b, n.testify())
	n.stopAll()
	n.verifyAll()
}

// F14: the copy went on by itself before the hub saw it. Every tap of it is kept, and counts for nothing until an operator
// has decided.
func TestTapsOfAnOlderCopyAreReplayedAndHeld(t *testing.T) {
	t.Parallel()
	const offline = 8
	n := newNetwork(t, options{edges: 1})
	n.up()
	e := n.edges[0]
	image := n.older(e, 4, 5)
	n.line.cut(true)
	e.rollBack(image)
	e.start()
	e.ready()
	e.post.taps(t, offline)
	n.line.cut(false)
	eventually(t, healLimit, "the taps of the copy in the hub", func() error { return n.tapsHeld(e, 4+5+offline, offline) })
	eventually(t, healLimit, "held to be said on both sides", func() error {
		at, err := n.nodeEdge(e.id)
		if err == nil && at.Link != "held" {
			err = fmt.Errorf("/api/v1/nodes calls the link %q", at.Link)
		}
		if out := e.status(); err == nil && !strings.Contains(out, "held") {
			err = fmt.Errorf("edge status says nothing of it:\n%s", out)
		}
		return err
	})
	n.catchUp(calmLimit)
	if s := n.book().ofEdge(e.id)[0].status; !strings.HasPrefix(s, "fork") || !strings.Contains(s, "held") {
		t.Errorf("the hub calls the old epoch %q", s)
	}
	n.order("release", e.id)
	eventually(t, healLimit, "the release to be seen", func() error {
		at, err := n.nodeEdge(e.id)
		if err == nil && at.Link != "connected" {
			err = fmt.Errorf("link %q", at.Link)
		}
		return err
	})
	e.post.taps(t, 2)
	n.catchUp(calmLimit)
	n.judge(n.book(), n.testify())
	n.stopAll()
	n.verifyAll()
}

// F15: two devices live with one key at the same time.
func TestTwoDevicesWithOneKeyAreKnownWithinAMinute(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, options{edges: 1})
	n.up()
	e := n.edges[0]
	e.post.taps(t, 3)
	n.catchUp(calmLimit)
	e.proc.stop(t)
	c := e.clone()
	e.start()
	c.start()
	began := time.Now()
	e.ready()
	c.ready()
	eventually(t, duplicateLimit, "the hub to call them one too many", func() error {
		for _, l := range n.book().ofEdge(e.id) {
			if strings.Contains(l.status, "duplicate") && strings.Contains(l.status, "held") {
				return nil
			}
		}
		return fmt.Errorf("no log is marked")
	})
	t.Logf("known after %s", time.Since(began).Round(100*time.Millisecond))
	if at, err := n.nodeEdge(e.id); err != nil || at.Link != "held" {
		t.Errorf("/api/v1/nodes calls the link %q (%v)", at.Link, err)
	}
	eventually(t, healLimit, "a device to say TAMPER", func() error {
		if out := e.status() + c.status(); !strings.Contains(out, "TAMPER") {
			return fmt.Errorf("edge status:\n%s", out)
		}
		return nil
	})
	e.post.taps(t, 3) // both doors go on with what they know
	c.post.taps(t, 3)
	c.proc.stop(t)
	eventually(t, healLimit, "what is left to be receipted", e.caughtUp)
	for _, d := range []*edge{e, c} {
		mustVerb(t, n.bin.edge, "verify", "--config", d.config())
	}
	findings, _ := examine(n.book(), nil)
	for _, f := range findings {
		t.Errorf("%s: %s", f.kind, f.text)
	}
	n.stopAll()
	n.verifyAll()
}

// F16: two devices of one key take turns. The fork is found where their histories part, and no tap of either is lost. A clone
// that met the hub before anybody tapped at it passes for an older copy; it is known when the first device comes back.
func TestTwoDevicesTakingTurnsAreKnownWhereTheyPart(t *testing.T) {
	t.Run("the clone wrote first", func(t *testing.T) { takeTurns(t, true) })
	t.Run("the clone met the hub first", func(t *testing.T) { takeTurns(t, false) })
}

func takeTurns(t *testing.T, alone bool) {
	t.Parallel()
	n := newNetwork(t, options{edges: 1})
	n.up()
	e := n.edges[0]
	e.post.taps(t, 3)
	n.catchUp(calmLimit)
	e.proc.stop(t)
	c := e.clone()
	common := e.leaves()
	e.start()
	e.ready()
	e.post.taps(t, 4)
	n.catchUp(calmLimit)
	e.proc.stop(t)
	n.line.cut(alone)
	c.start()
	c.ready()
	if !alone {
		eventually(t, healLimit, "the clone's own epoch", func() error {
			if logs := n.book().ofEdge(e.id); len(logs) != 2 {
				return fmt.Errorf("%d logs", len(logs))
			}
			return nil
		})
	}
	c.post.taps(t, 5)
	n.line.cut(false)
	eventually(t, healLimit, "the clone's taps in the hub", func() error {
		if got := len(n.book().taps(e.id)); got != 3+4+5 {
			return fmt.Errorf("%d taps", got)
		}
		return nil
	})
	c.proc.stop(t)
	logs := n.book().ofEdge(e.id)
	var body event.Epochal
	first := logs[len(logs)-1].leaves[0].leaf
	err := json.Unmarshal(first.Body, &body)
	if alone && (err != nil || first.Kind != event.KindFork || body.OldSize != common) {
		t.Errorf("the clone's epoch begins with %s after %d leaves (%v), the histories part after %d", first.Kind, body.OldSize, err, common)
	}
	if !alone && (err != nil || first.Kind != event.KindRestored) {
		t.Errorf("the epoch of the clone that wrote nothing begins with %s (%v)", first.Kind, err)
	}
	if s := logs[0].status; alone && (!strings.HasPrefix(s, "fork") || !strings.Contains(s, "held")) {
		t.Errorf("the hub calls the first epoch %q", s)
	}
	e.start()
	e.ready()
	e.post.taps(t, 2)
	eventually(t, healLimit, "the first device's taps in the hub", func() error {
		if got := len(n.book().taps(e.id)); got != 3+4+5+2 {
			return fmt.Errorf("%d taps", got)
		}
		return nil
	})
	n.catchUp(calmLimit)
	if at, err := n.nodeEdge(e.id); err != nil || at.Link != "held" {
		t.Errorf("two devices took turns, and the hub calls the edge %q (%v)", at.Link, err)
	}
	for _, d := range []*edge{e, c} {
		mustVerb(t, n.bin.edge, "verify", "--config", d.config())
	}
	b := n.book()
	w := n.testify()
	people, locks, _ := c.post.seen()
	w[0].presentations = append(w[0].presentations, people...)
	w[0].movements = append(w[0].movements, locks...)
	w[0].sort()
	n.judge(b, w)
	n.stopAll()
	n.verifyAll()
}

// leaves is the size of a stopped edge's present epoch.
func (e *edge) leaves() uint64 {
	e.n.t.Helper()
	var r struct {
		Epochs []struct {
			Size uint64 `json:"size"`
		} `json:"epochs"`
	}
	out := mustVerb(e.n.t, e.n.bin.edge, "verify", "--json", "--config", e.config())
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Epochs) == 0 {
		e.n.t.Fatalf("edge verify --json: %v\n%s", err, out)
	}
	return r.Epochs[len(r.Epochs)-1].Size
}
