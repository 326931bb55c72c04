package ledger

import (
	"cmp"
	"strings"
)

// Bounds of names. A segment is a slug of the network; a leading tilde marks accounts that no member or node can have.
const (
	maxSegmentBytes = 48
	maxSegments     = 4
)

// Account is one column of the books: a path in one unit. Accounts come into being with their first posting.
type Account struct {
	Path string // network/node/member, or one of the paths below
	Unit string
}

// NodePath is the account of a node with the rest of its network.
func NodePath(network, node string) string { return network + "/" + node }

// MemberPath is the account of a member with the home node.
func MemberPath(network, node, member string) string { return network + "/" + node + "/" + member }

// DuePath is what node has open with one other node: the other half stands in DuePath(network, other, node).
func DuePath(network, node, other string) string { return network + "/" + node + "/~due/" + other }

// CommonsPath is the pool.
func CommonsPath(network string) string { return network + "/~commons" }

// ConversionPath holds what was given for what, in every unit that is converted.
func ConversionPath(network string) string { return network + "/~conversion" }

// RoundingPath holds what a conversion could not turn into a whole part.
func RoundingPath(network string) string { return network + "/~rounding" }

// compare orders accounts by path, then unit.
func (a Account) compare(b Account) int {
	if c := cmp.Compare(a.Path, b.Path); c != 0 {
		return c
	}
	return cmp.Compare(a.Unit, b.Unit)
}

func validPath(path string) bool {
	n := 0
	for segment := range strings.SplitSeq(path, "/") {
		if n++; n > maxSegments {
			return false
		}
		if n > 1 {
			segment = strings.TrimPrefix(segment, "~")
		}
		if !validSlug(segment) {
			return false
		}
	}
	return n > 1
}

func validSlug(s string) bool {
	if len(s) == 0 || len(s) > maxSegmentBytes || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', b >= '0' && b <= '9', b == '-':
		default:
			return false
		}
	}
	return true
}
