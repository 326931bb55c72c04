package appliance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kith/edge/board"
)

// lit waits until a lamp is on or off; the wait bounds a hang and is well below the minute that the light would last.
func (c *cabin) lit(t *testing.T, signal string, want bool, when string) {
	t.Helper()
	for range 2000 {
		c.pins.mu.Lock()
		on := c.pins.level[signal] > 0
		c.pins.mu.Unlock()
		if on == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: %s is not %v", when, signal, want)
}

func TestTheGreenLightLastsAsLongAsTheLockIsReleasedAndNoLonger(t *testing.T) {
	c := newCabin(t)
	c.stop()
	path := filepath.Join(c.dir, "edge.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Replace(string(b), "pulse: 5s", "pulse: 60s\n    held: 10m\n    fire: true", 1)
	if long == string(b) {
		t.Fatal("the example has another pulse")
	}
	if err := os.WriteFile(path, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	c.pins.inputs <- board.Change{Signal: "door/fire", Value: 0}
	c.pins.inputs <- board.Change{Signal: "door/contact", Value: 0}
	for range 2 {
		c.hand.show(c.ana)
		c.lit(t, "reader/green", true, "after a tap")
		c.lit(t, "door/lock", true, "after a tap")
		c.pins.inputs <- board.Change{Signal: "door/contact", Value: 1}
		c.lit(t, "door/lock", false, "once the door is open")
		c.lit(t, "reader/green", false, "once the lock has fallen")
		c.pins.inputs <- board.Change{Signal: "door/contact", Value: 0}
	}
	c.hand.show(c.ana)
	c.pins.inputs <- board.Change{Signal: "door/fire", Value: 1}
	c.lit(t, "reader/green", true, "in a fire")
	c.pins.inputs <- board.Change{Signal: "door/fire", Value: 0}
	c.lit(t, "door/lock", false, "after the fire")
	c.lit(t, "reader/green", false, "after the fire")
}
