package health

import (
	"fmt"
	"strings"
)

// Text is the report for a terminal: the cause first, then the tree, one indented line a part.
func (r Report) Text() string {
	var b strings.Builder
	if r.Cause != "" {
		fmt.Fprintf(&b, "%s: %s (%s)\n", r.State, r.Cause, r.Why)
	} else {
		fmt.Fprintf(&b, "%s\n", r.State)
	}
	var walk func(n Node, depth int)
	walk = func(n Node, depth int) {
		fmt.Fprintf(&b, "%s%-24s %s", strings.Repeat("  ", depth), n.Name, n.State)
		if n.Why != "" {
			fmt.Fprintf(&b, "  %s", n.Why)
		}
		b.WriteByte('\n')
		for _, c := range n.Children {
			walk(c, depth+1)
		}
	}
	walk(r.Tree, 0)
	return b.String()
}
