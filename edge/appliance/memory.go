package appliance

import (
	"os"
	"runtime/debug"
)

// memoryGoal is the memory of this program, in bytes, from which the collector works harder and gives back what it frees.
// Beside it stand the program's text and SQLite's pages. It is a goal, not a wall: a roster that needs more gets more.
const memoryGoal = 56 << 20

// boundMemory sets the goal, unless the environment names another one (GOMEMLIMIT).
func boundMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryGoal)
	}
}
