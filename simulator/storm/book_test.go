package storm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"kith/internal/event"
)

// book is an export, read by rules of its own: nothing here but the leaf's format is shared with the programs.
type book struct {
	generation string
	logs       []*bookLog
}

// bookLog is one (edge, epoch) with its leaves in order.
type bookLog struct {
	edge, node, epoch string
	size              uint64
	root, status      string
	receipt           string
	leaves            []bookLeaf
	lost              [][2]uint64
}

type bookLeaf struct {
	line  string
	leaf  event.Leaf
	tap   *bookTap // of a tap, also of a replayed one
	whole string   // line, salt and private part: what must be the same after a restore
}

// bookTap is what a tap leaf and its private part say together.
type bookTap struct {
	body     event.Tap
	at       time.Time
	card     string
	member   string
	boot     string
	mono     int64
	replayed bool
}

// exportLine holds every kind of line of an export.
type exportLine struct {
	Format, Generation string
	Log, Node, Epoch   string
	Size               uint64
	Root, Status       string
	Receipt            string
	Leaf               string
	Salt, Private      string
	Proof              json.RawMessage // a word at a leaf, hashes at a gap
	Lost               *[2]uint64
}

// maxExportLine bounds one line, in bytes: a receipt or two leaves and what JSON adds to them.
const maxExportLine = 1 << 17

func readBook(export []byte) (*book, error) {
	b := &book{}
	scan := bufio.NewScanner(bytes.NewReader(export))
	scan.Buffer(nil, maxExportLine)
	for n := 1; scan.Scan(); n++ {
		var l exportLine
		if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		switch {
		case l.Format != "":
			b.generation = l.Generation
		case l.Log != "":
			b.logs = append(b.logs, &bookLog{edge: l.Log, node: l.Node, epoch: l.Epoch, size: l.Size, root: l.Root, status: l.Status, receipt: l.Receipt})
		case len(b.logs) == 0:
			return nil, fmt.Errorf("line %d: nothing came before it", n)
		case l.Lost != nil:
			last := b.logs[len(b.logs)-1]
			last.lost = append(last.lost, *l.Lost)
		case l.Leaf != "":
			leaf, err := readLeaf(l)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			last := b.logs[len(b.logs)-1]
			last.leaves = append(last.leaves, leaf)
		default:
			return nil, fmt.Errorf("line %d: of no known kind: %.80s", n, scan.Text())
		}
	}
	return b, scan.Err()
}

func readLeaf(l exportLine) (bookLeaf, error) {
	out := bookLeaf{line: l.Leaf, whole: l.Leaf + "\n" + l.Salt + "\n" + l.Private}
	var err error
	if out.leaf, err = event.Parse([]byte(l.Leaf)); err != nil {
		return out, err
	}
	leaf, private := out.leaf, []byte(l.Private)
	replayed := false
	if leaf.Kind == event.KindReplayed {
		var body event.Replayed
		var outer event.Private
		var inner event.ReplayedPrivate
		if err := json.Unmarshal(leaf.Body, &body); err != nil {
			return out, err
		}
		if leaf, err = event.Parse([]byte(body.Leaf)); err != nil {
			return out, fmt.Errorf("replayed: %w", err)
		}
		if leaf.Kind != event.KindTap {
			return out, nil
		}
		if outer, err = event.ParsePrivate(private); err != nil {
			return out, fmt.Errorf("replayed: %w", err)
		}
		if err := json.Unmarshal(outer.Body, &inner); err != nil {
			return out, fmt.Errorf("replayed: %w", err)
		}
		private, replayed = []byte(inner.Private), true
	}
	if leaf.Kind != event.KindTap {
		return out, nil
	}
	p, err := event.ParsePrivate(private)
	if err != nil {
		return out, err
	}
	out.tap = &bookTap{at: time.UnixMilli(p.At), card: p.Card, member: p.Member, boot: leaf.Boot, mono: p.Mono, replayed: replayed}
	return out, json.Unmarshal(leaf.Body, &out.tap.body)
}

// ofEdge lists an edge's logs.
func (b *book) ofEdge(edge string) []*bookLog {
	var out []*bookLog
	for _, l := range b.logs {
		if l.edge == edge {
			out = append(out, l)
		}
	}
	return out
}

// taps lists an edge's taps in the order of their times.
func (b *book) taps(edge string) []*bookTap {
	var out []*bookTap
	for _, l := range b.ofEdge(edge) {
		for _, leaf := range l.leaves {
			if leaf.tap != nil {
				out = append(out, leaf.tap)
			}
		}
	}
	slices.SortStableFunc(out, func(a, c *bookTap) int { return a.at.Compare(c.at) })
	return out
}

// leaves of an edge, in their order.
func (b *book) leaves(edge string) []event.Leaf {
	var out []event.Leaf
	for _, l := range b.ofEdge(edge) {
		for _, leaf := range l.leaves {
			out = append(out, leaf.leaf)
		}
	}
	return out
}

// rootAt is the RFC 6962 tree head over the first n leaves (section 2.1).
func (l *bookLog) rootAt(n uint64) (string, error) {
	if n > uint64(len(l.leaves)) {
		return "", fmt.Errorf("%d leaves, root at %d asked", len(l.leaves), n)
	}
	if n == 0 {
		empty := sha256.Sum256(nil)
		return base64.StdEncoding.EncodeToString(empty[:]), nil
	}
	hashes := make([][32]byte, n)
	for i := range hashes {
		hashes[i] = sha256.Sum256(append([]byte{0}, l.leaves[i].line...))
	}
	root := treeHead(hashes)
	return base64.StdEncoding.EncodeToString(root[:]), nil
}

func treeHead(hashes [][32]byte) [32]byte {
	if len(hashes) == 1 {
		return hashes[0]
	}
	k := 1
	for k*2 < len(hashes) {
		k *= 2
	}
	left, right := treeHead(hashes[:k]), treeHead(hashes[k:])
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}

// note is a receipt as an edge held it.
type note struct {
	epoch string
	size  uint64
	root  string
}

// readNote takes the three lines that both keys signed.
func readNote(text string) (note, error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) != 4 {
		return note{}, fmt.Errorf("receipt of %d lines", len(lines))
	}
	n := note{epoch: lines[0][strings.LastIndex(lines[0], "/")+1:], root: lines[2]}
	if b, err := hex.DecodeString(n.epoch); err != nil || len(b) != 16 {
		return n, fmt.Errorf("receipt of %q", lines[0])
	}
	_, err := fmt.Sscanf(lines[1], "%d", &n.size)
	return n, err
}
