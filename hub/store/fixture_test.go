package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

const testNetwork = "demo"

// testProjection is small, but reads leaf and private part as a real one does.
var testProjection = Projection{
	Line: func(l event.Leaf, p *event.Private) (Line, bool) {
		if l.Kind != event.KindTap {
			return Line{}, false
		}
		var tap event.Tap
		if json.Unmarshal(l.Body, &tap) != nil {
			return Line{}, false
		}
		line := Line{
			Node: l.Node, Edge: l.Edge, Epoch: l.Epoch, Index: l.Index, Kind: l.Kind, At: l.At, Clock: l.Clock, Door: tap.Door,
			Direction: tap.Direction, Verdict: tap.Verdict, Reason: tap.Reason, Assurance: tap.Assurance,
		}
		if p != nil {
			line.At, line.Member = p.At, p.Member
		}
		return line, true
	},
	Seen: func(l Line) (Seen, bool) {
		s := Seen{Member: l.Member, Node: l.Node, Edge: l.Edge, Epoch: l.Epoch, Index: l.Index, At: l.At, Clock: l.Clock, Door: l.Door, Direction: l.Direction}
		return s, l.Member != "" && l.Verdict == "grant"
	},
	Newer: func(a, b Seen) bool {
		if a.At != b.At {
			return a.At > b.At
		}
		if a.Edge != b.Edge {
			return a.Edge > b.Edge
		}
		if c := bytes.Compare(a.Epoch[:], b.Epoch[:]); c != 0 {
			return c > 0
		}
		return a.Index > b.Index
	},
	Fact: func(l event.Leaf) (Fact, bool) {
		if l.Kind != event.KindDoor {
			return Fact{}, false
		}
		var d event.Door
		if json.Unmarshal(l.Body, &d) != nil {
			return Fact{}, false
		}
		return Fact{Node: l.Node, Edge: l.Edge, Topic: "door", Subject: d.Door, Value: d.State, At: l.At, Index: l.Index}, true
	},
}

// edgeLog plays one edge and the intake in front of the store: it makes leaves, keeps the tree and "co-signs".
type edgeLog struct {
	node, edge string
	epoch      event.Epoch
	tree       tree
	lines      []string
	parts      map[uint64]PrivatePart
}

func newEdge(node, edge string, epoch byte) *edgeLog {
	return &edgeLog{node: node, edge: edge, epoch: event.Epoch{epoch}, parts: map[uint64]PrivatePart{}}
}

var hour = 472222 * event.HourMS

// testNow stands still, so that two stores with the same leaves are the same.
func testNow() time.Time { return time.UnixMilli(hour + event.HourMS) }

func (e *edgeLog) leaf(t testing.TB, kind event.Kind, body any, private *event.Private) event.Leaf {
	t.Helper()
	raw, err := event.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	l := event.Leaf{
		Network: testNetwork, Node: e.node, Edge: e.edge, Epoch: e.epoch, Index: e.tree.size, Kind: kind, At: hour,
		Clock: event.Synced, Boot: "00112233445566aa", Body: raw,
	}
	if private != nil {
		p, err := private.Encode()
		if err != nil {
			t.Fatal(err)
		}
		salt := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(e.edge), l.Index))
		c := event.Commit(salt, p)
		l.Commitment = &c
		e.parts[l.Index] = PrivatePart{Index: l.Index, Salt: salt, Bytes: p}
	}
	b, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	e.lines = append(e.lines, string(b))
	e.tree.append(tlog.RecordHash(b), nil)
	return l
}

func (e *edgeLog) tap(t testing.TB, member string, at int64) event.Leaf {
	t.Helper()
	return e.leaf(t, event.KindTap, event.Tap{Door: "front", Reader: "r1", Direction: "in", Verdict: "grant", Reason: "granted", Assurance: "pkoc", Roster: 7},
		&event.Private{At: at, Mono: 12345, Member: member, Card: "pkoc:" + strings.Repeat("ab", 32), Body: json.RawMessage(`{"grant":"g1","us":830}`)})
}

// batch makes n taps of members m0..m9 and a receipted Accepted for them.
func (e *edgeLog) batch(t testing.TB, n int) Accepted {
	t.Helper()
	from := e.tree.size
	var leaves []event.Leaf
	for i := range n {
		leaves = append(leaves, e.tap(t, fmt.Sprintf("m%d", i%10), hour+int64(e.tree.size)))
	}
	return e.accepted(t, from, leaves)
}

func (e *edgeLog) accepted(t testing.TB, from uint64, leaves []event.Leaf) Accepted {
	t.Helper()
	a := Accepted{Log: e.log(t), From: from, Leaves: leaves, Bundle: []byte(strings.Join(e.lines[from:], "\n"))}
	for i := from; i < e.tree.size; i++ {
		if p, ok := e.parts[i]; ok {
			a.Private = append(a.Private, p)
		}
	}
	return a
}

func (e *edgeLog) log(t testing.TB) Log {
	t.Helper()
	root, err := e.tree.root()
	if err != nil {
		t.Fatal(err)
	}
	l := Log{Edge: e.edge, Node: e.node, Epoch: e.epoch, Size: e.tree.size, Root: root, Status: "ok", Boot: "00112233445566aa"}
	for _, h := range e.tree.hashes {
		l.Range = append(l.Range, h)
	}
	l.Receipt = fmt.Appendf(nil, "kith.demo/%s/%s/%s\n%d\n%s\n\n— sig\n", e.node, e.edge, e.epoch, l.Size, base64.StdEncoding.EncodeToString(root[:]))
	return l
}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Options{Dir: dir, Network: testNetwork, Projection: testProjection, Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func fresh(t testing.TB) *Store {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "hub"))
}

func commit(t testing.TB, s *Store, batches ...Accepted) {
	t.Helper()
	if err := s.Commit(context.Background(), batches); err != nil {
		t.Fatal(err)
	}
}
