package appliance

import (
	"os"
	"runtime/debug"
)

// memoryGoal is the memory of this program, in bytes, from which the collector works harder and gives back what it frees.
// Beside it stand the program's text (up to 19 MiB) and SQLite's pages (2 MiB): together they stay below 64 MiB with 100,000
// credentials, also while one such roster takes the place of another. It is a goal, not a wall: rosters that need more get
// more, and cost the collector little, because a compiled roster holds no pointers to people or cards.
const memoryGoal = 40 << 20

// boundMemory sets the goal, unless the environment names another one (GOMEMLIMIT).
func boundMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryGoal)
	}
}
