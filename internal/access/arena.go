package access

import "strings"

// arena keeps the text of many people in blocks that never move, so that it grows without copying what it has.
type arena struct {
	blocks []string
	open   strings.Builder // the block being filled, while compiling
}

// A place in the arena is a block and a byte within it.
const (
	blockBits  = 16
	blockBytes = 1 << blockBits
)

// add appends strings that together fit a block, one behind the other, and says where they begin.
func (a *arena) add(parts ...string) uint32 {
	n := 0
	for _, s := range parts {
		n += len(s)
	}
	if a.open.Len()+n > blockBytes {
		a.close()
		a.open.Grow(blockBytes) // the first block grows as it must: most houses are small
	}
	at := uint32(len(a.blocks)<<blockBits | a.open.Len())
	for _, s := range parts {
		a.open.WriteString(s)
	}
	return at
}

// close ends the block being filled; only then its text can be asked for.
func (a *arena) close() {
	if a.open.Len() > 0 {
		a.blocks = append(a.blocks, a.open.String())
		a.open = strings.Builder{}
	}
}

func (a *arena) text(at uint32, n uint8) string {
	if n == 0 {
		return "" // may stand behind the last block
	}
	from := at & (blockBytes - 1)
	return a.blocks[at>>blockBits][from : from+uint32(n)]
}
