package intake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/wire"
)

// batch appends what continues the log. The one thing that is believed is the root: whatever overlaps what is stored is
// passed over, because an equal root behind it proves it equal.
func (s *step) batch(m *wire.Batch) {
	l, known := s.log(m.Epoch)
	to := m.From + uint64(len(m.Leaves))
	switch {
	case m.From > l.Size:
		s.reply(&wire.Need{Generation: s.ground.Generation, Epoch: m.Epoch, From: l.Size})
		return
	case to == l.Size && s.c.Head.Root != l.Root && !s.ground.Broken.SkipRoot:
		s.fork(l, m.Checkpoint)
		s.conflict(l, "two roots of one size")
		return
	case to <= l.Size:
		if to == l.Size && l.Checkpoint == nil {
			l.Checkpoint = m.Checkpoint // lost in a crash between the commit and the receipt
		}
		s.receipt(l)
		return
	case l.Standing.Status != wire.StatusOpen && to > l.Standing.Limit && !s.ground.Broken.AnyEpoch:
		s.conflict(l, fmt.Sprintf("%s at %d", l.Standing.Status, l.Standing.Limit))
		return
	case !known && len(s.edge.Logs) >= maxLogs:
		s.conflict(l, "too many epochs")
		return
	}
	skip := l.Size - m.From
	t := treeOf(l.Size, l.Range)
	for _, h := range s.c.Hashes[skip:] {
		t.extend(h)
	}
	root := t.root()
	if root != s.c.Head.Root && !s.ground.Broken.SkipRoot {
		s.mismatch(l, known, m.Checkpoint)
		return
	}
	if !known {
		s.edge.Logs = append(s.edge.Logs, *l)
		l = &s.edge.Logs[len(s.edge.Logs)-1]
	}
	a := &Accepted{From: l.Size, Leaves: s.c.Leaves[skip:], Bundle: after(m.Bundle, m.Leaves, int(skip))}
	for _, p := range s.c.Private {
		if p.Index >= l.Size {
			a.Private = append(a.Private, p)
		}
	}
	for _, bad := range s.c.Bad {
		if bad.Index >= l.Size {
			a.Evidence = append(a.Evidence, bad)
		}
	}
	if l.Size == 0 {
		s.opens(l, &s.c.Leaves[0])
	}
	l.Size, l.Root, l.Range, l.Checkpoint = to, root, t.pack(), m.Checkpoint
	for i := len(a.Leaves) - 1; i >= 0; i-- {
		if a.Leaves[i].Kind != "" {
			l.Boot = a.Leaves[i].Boot
			break
		}
	}
	a.Log = *l
	s.out = append(s.out, Output{Accept: a})
	s.receipt(l)
}

// after cuts the first skip lines off a bundle.
func after(bundle []byte, leaves [][]byte, skip int) []byte {
	for i := range skip {
		bundle = bundle[len(leaves[i])+1:]
	}
	return bytes.Clone(bundle)
}

// mismatch answers a batch that does not lead to its own checkpoint: the leaves differ from what was signed, or the part
// before them does. The edge compares our head with its own and, if they differ, shows its head of our size: that is the
// proof of a fork. Until then this is a note, made once for each size.
func (s *step) mismatch(l *Log, known bool, checkpoint []byte) {
	if known && s.edge.noted != l.Size+1 {
		s.edge.noted = l.Size + 1
		s.change(l, Evidence{Kind: EvidenceMismatch, Index: l.Size, Bytes: checkpoint, Why: "root does not follow from the leaves"})
	}
	s.conflict(l, "root does not follow from the leaves")
}

// opens looks at the first leaf of a new epoch: it may say where an older one ends.
func (s *step) opens(l *Log, first *event.Leaf) {
	if first.Kind != event.KindFork && first.Kind != event.KindRestored && first.Kind != event.KindRecovered {
		return
	}
	var body event.Epochal
	if err := json.Unmarshal(first.Body, &body); err != nil {
		return
	}
	id, err := event.ParseEpoch(body.OldEpoch)
	if err != nil {
		return
	}
	if first.Kind == event.KindFork {
		s.hold()
		l.Standing.Held = true
	}
	old := s.edge.find(id)
	if old == nil || old.Standing.Status == wire.StatusFork {
		return
	}
	if old.Standing.Status == wire.StatusOpen || first.Kind == event.KindFork {
		old.Standing.Status = wire.StatusSealed
		if first.Kind == event.KindFork {
			old.Standing.Status = wire.StatusFork
		}
		// What the hub lost in a restore may still come: up to where the edge says that the old epoch stands.
		old.Standing.Limit = max(old.Size, body.OldSize, old.Standing.Limit)
		s.change(old)
	}
}

// bridge leads over a range that is lost on both sides. It is taken only with the hub's own receipt over that very range:
// then the hub once held it, and what is missing is the hub's loss, visible as such until the archive brings it back.
func (s *step) bridge(m *wire.Bridge) {
	l, known := s.log(m.Epoch)
	t := tree{size: m.New, nodes: m.Subtrees}
	root := s.c.Head.Root
	switch {
	case l.Size != m.Old:
		s.reply(&wire.Need{Generation: s.ground.Generation, Epoch: m.Epoch, From: l.Size})
		return
	case m.New <= m.Old || m.ReceiptSize < m.New || s.c.Receipt == nil || bits.OnesCount64(m.New) != len(m.Subtrees) ||
		t.root() != root || len(l.Standing.Lost) >= maxLost || !known && len(s.edge.Logs) >= maxLogs ||
		l.Standing.Status != wire.StatusOpen && m.New > l.Standing.Limit:
		s.conflict(l, "bridge does not stand")
		return
	}
	var proof tlog.TreeProof
	if m.Old > 0 {
		proof = m.Proof
		if err := tlog.CheckTree(proof, int64(m.New), root, int64(m.Old), l.Root); err != nil {
			s.conflict(l, "bridge does not start at our head")
			return
		}
	}
	if err := tlog.CheckTree(m.Ahead, int64(m.ReceiptSize), s.c.Receipt.Root, int64(m.New), root); err != nil {
		s.conflict(l, "bridge does not lead to our receipt")
		return
	}
	if !known {
		s.edge.Logs = append(s.edge.Logs, *l)
		l = &s.edge.Logs[len(s.edge.Logs)-1]
	}
	gap := Gap{Span: Span{From: m.Old, To: m.New}, Before: l.Range, Root: root}
	l.Standing.Lost = append(append([]Span{}, l.Standing.Lost...), gap.Span)
	l.Size, l.Root, l.Range, l.Checkpoint = m.New, root, t.pack(), m.Checkpoint
	s.out = append(s.out, Output{Accept: &Accepted{Log: *l, From: m.Old, Lost: true, Proof: proof,
		Evidence: []Evidence{{Kind: EvidenceLost, Index: m.Old, Bytes: gap.Text(), Why: "gone here and at the edge"}}}})
	s.receipt(l)
}
