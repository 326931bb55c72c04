package board

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever is put while nobody reads: it never blocks, stays bounded, keeps each signal's order,
// and the last level of every signal arrives.
func TestAnOverflowKeepsTheNewestLevelOfEverySignal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMailbox()
		signals := rapid.IntRange(1, MaxSignals).Draw(t, "signals")
		n := rapid.IntRange(0, 4*queueBound).Draw(t, "changes")
		last := make(map[string]int)
		for i := range n {
			s := fmt.Sprintf("d%d/contact", rapid.IntRange(0, signals-1).Draw(t, "signal"))
			m.put(Change{Signal: s, Value: i})
			last[s] = i
		}
		m.mu.Lock()
		if len(m.queue) > queueBound {
			t.Fatalf("%d changes queued, bound %d", len(m.queue), queueBound)
		}
		m.mu.Unlock()
		got := make(map[string]int)
		for len(got) < len(last) || !reached(got, last) {
			select {
			case c := <-m.out:
				if old, seen := got[c.Signal]; seen && c.Value <= old {
					t.Fatalf("%s went from change %d back to %d", c.Signal, old, c.Value)
				}
				got[c.Signal] = c.Value
			case <-time.After(5 * time.Second):
				t.Fatalf("last levels never arrived: got %v, want %v", got, last)
			}
		}
		m.close()
	})
}

func reached(got, want map[string]int) bool {
	for s, v := range want {
		if got[s] != v {
			return false
		}
	}
	return true
}
