package settlement

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Bounds of one settlement.
const (
	MaxJournals    = 1 << 16 // journals of one cut
	MaxEvents      = 1 << 24 // events of one period
	maxOriginBytes = 256
	maxSlugBytes   = 48
)

// Refusals of input that no period can be built on.
var (
	ErrName     = errors.New("not a name")
	ErrCut      = errors.New("checkpoints do not form a cut")
	ErrBackward = errors.New("a journal would shrink or vanish between two cuts")
	ErrEvent    = errors.New("event cannot be settled")
	ErrPolicy   = errors.New("policy does not hold together")
	ErrOverflow = errors.New("sum does not fit")
)

// Day counts days since 1970-01-01.
type Day int32

// Checkpoint names the state of one journal: everything below Size is in.
type Checkpoint struct {
	Journal string
	Node    string // whose journal it is
	Size    uint64
	Root    [32]byte
}

// Cut is the named line between two periods. A node whose journal is not here is named as missing: its later leaves go
// into the next period, with their own dates.
type Cut struct {
	Day         Day
	Checkpoints []Checkpoint // ascending by journal
	Missing     []string     // nodes of the network without any checkpoint, ascending
}

// NewCut draws the line at these checkpoints. Every journal of the previous cut must be there again and none may have
// shrunk; a node that was not reached keeps the checkpoint that is known of it.
func NewCut(day Day, nodes []string, checkpoints []Checkpoint, previous *Cut) (*Cut, error) {
	if len(checkpoints) > MaxJournals {
		return nil, fmt.Errorf("cutting at %d checkpoints: %w (at most %d)", len(checkpoints), ErrCut, MaxJournals)
	}
	c := &Cut{Day: day, Checkpoints: slices.Clone(checkpoints)}
	slices.SortFunc(c.Checkpoints, func(a, b Checkpoint) int { return cmp.Compare(a.Journal, b.Journal) })
	for i, p := range c.Checkpoints {
		switch {
		case !validOrigin(p.Journal) || !validSlug(p.Node):
			return nil, fmt.Errorf("cutting at %q of %q: %w", p.Journal, p.Node, ErrName)
		case i > 0 && c.Checkpoints[i-1].Journal == p.Journal:
			return nil, fmt.Errorf("cutting at %q: listed twice: %w", p.Journal, ErrCut)
		case !slices.Contains(nodes, p.Node):
			return nil, fmt.Errorf("cutting at %q: node %q is not of the network: %w", p.Journal, p.Node, ErrCut)
		}
	}
	if previous != nil {
		if day < previous.Day {
			return nil, fmt.Errorf("cutting on day %d after day %d: %w", day, previous.Day, ErrBackward)
		}
		for _, p := range previous.Checkpoints {
			if now, here := c.find(p.Journal); !here || now.Size < p.Size || now.Size == p.Size && now.Root != p.Root {
				return nil, fmt.Errorf("cutting at %q, which had %d leaves: %w", p.Journal, p.Size, ErrBackward)
			}
		}
	}
	for _, node := range nodes {
		if !slices.ContainsFunc(c.Checkpoints, func(p Checkpoint) bool { return p.Node == node }) {
			c.Missing = append(c.Missing, node)
		}
	}
	slices.Sort(c.Missing)
	return c, nil
}

func (c *Cut) find(journal string) (Checkpoint, bool) {
	i, here := slices.BinarySearchFunc(c.Checkpoints, journal, func(p Checkpoint, j string) int { return cmp.Compare(p.Journal, j) })
	if !here {
		return Checkpoint{}, false
	}
	return c.Checkpoints[i], true
}

// covers says whether the leaf is below the line. A nil cut covers nothing: it stands before the first period.
func (c *Cut) covers(journal string, index uint64) bool {
	if c == nil {
		return false
	}
	p, here := c.find(journal)
	return here && index < p.Size
}

// Roots returns the roots of the journals: the lot of the clearing is drawn from them.
func (c *Cut) Roots() [][32]byte {
	roots := make([][32]byte, 0, len(c.Checkpoints))
	for _, p := range c.Checkpoints {
		roots = append(roots, p.Root)
	}
	return roots
}

// AppendText appends the canonical text of the cut.
func (c *Cut) AppendText(b []byte) []byte {
	b = append(b, "kith-cut v1\nday "...)
	b = append(strconv.AppendInt(b, int64(c.Day), 10), '\n')
	for _, p := range c.Checkpoints {
		b = append(append(append(b, "checkpoint "...), p.Journal...), ' ')
		b = append(append(b, p.Node...), ' ')
		b = append(strconv.AppendUint(b, p.Size, 10), ' ')
		b = append(hex.AppendEncode(b, p.Root[:]), '\n')
	}
	for _, node := range c.Missing {
		b = append(append(append(b, "missing "...), node...), '\n')
	}
	return b
}

// Digest returns the SHA-256 of the canonical text.
func (c *Cut) Digest() [32]byte { return sha256.Sum256(c.AppendText(nil)) }

func validSlug(s string) bool {
	if len(s) == 0 || len(s) > maxSlugBytes || s[0] == '-' {
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

func validOrigin(s string) bool {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b >= 0x7f || b == '"' || b == '\\' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= maxOriginBytes
}
