package storm

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// watched is how long each state of hub and network is kept while the locks are watched.
const watched = 1500 * time.Millisecond

// The locks know nothing of hub, broker and network: losing or regaining any of them moves none, and with all of them gone a
// tap opens as ever.
func TestNothingButATapMovesALock(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, options{edges: 2})
	n.up()
	n.catchUp(calmLimit)
	taps := 0
	still := func(what string) {
		t.Helper()
		time.Sleep(watched)
		for _, e := range n.edges {
			if _, moved, others := e.post.seen(); len(moved) != taps || len(others) > 0 {
				t.Fatalf("%s: %d movements of the lock of %s after %d taps; others %v", what, len(moved), e.id, taps, others)
			}
			if v := e.post.board.Get(doorID + "/lock"); v != 0 {
				t.Fatalf("%s: the lock of %s stands at %d", what, e.id, v)
			}
		}
		taps++
		for _, e := range n.edges {
			if opened, err := e.post.tap(t.Context(), e.post.cards[taps%cardsEach], holdLong); err != nil || !opened {
				t.Fatalf("%s: a tap does not open %s (%v); %s", what, e.id, err, e.counted())
			}
		}
	}
	kill := func() {
		if err := n.hub.kill(); err != nil {
			t.Fatal(err)
		}
	}
	signal := func(s syscall.Signal) {
		if err := n.hub.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"all is well", func() {}},
		{"hub and broker killed", kill},
		{"hub and broker back", func() { n.startHub(); n.hub.ready(t) }},
		{"line cut", func() { n.line.cut(true) }},
		{"line mended", func() { n.line.cut(false) }},
		{"line bad", func() { n.line.weather(stormSeed) }},
		{"line good", func() { n.line.weather(0) }},
		{"hub stopped in order", func() { n.hub.stop(t) }},
		{"hub started with the line cut", func() { n.line.cut(true); n.startHub(); n.hub.ready(t) }},
		{"line mended again", func() { n.line.cut(false) }},
		{"hub frozen", func() { signal(syscall.SIGSTOP) }},
		{"hub thawed", func() { signal(syscall.SIGCONT) }},
	} {
		step.do()
		still(step.what)
	}
	for _, e := range n.edges {
		e.proc.stop(t)
		time.Sleep(time.Second)
		if _, moved, _ := e.post.seen(); len(moved) != taps {
			t.Errorf("stopping %s moved its lock", e.id)
		}
		e.start()
		e.ready()
	}
	n.catchUp(calmLimit)
	if sum := n.judge(n.book(), n.testify()); sum.grants != len(n.edges)*taps {
		t.Error(fmt.Errorf("%d grants for %d taps at each of %d doors", sum.grants, taps, len(n.edges)))
	}
	n.stopAll()
	n.verifyAll()
}
