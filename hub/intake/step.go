package intake

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/wire"
)

// Ground is what Step needs to know of the hub itself.
type Ground struct {
	Generation string
	Run        string // random word of this start of the hub
	Credit     uint64 // leaves an edge may send past what is stored
	Broken     Defects
}

// Defects that must never be on.
type Defects struct {
	AnswerFirst bool // co-signs and answers before the commit
	SkipRoot    bool // takes leaves without comparing the root: a doubled address is passed over unseen
	AnyEpoch    bool // goes on with an epoch that was sealed or has forked
	TwoRoots    bool // co-signs any head of a smaller size
}

// Output is what Step asks for. The shell stores every Accept in one transaction and only then signs and sends the
// replies: a co-signature never leaves before what it covers is durable.
type Output struct {
	Accept *Accepted
	Reply  wire.Down
	// Sign is the edge's own note to be co-signed for Reply. The shell puts the result, or with nil the log's newest
	// receipt, into Reply.
	Sign  []byte
	Epoch event.Epoch
	// Log asks the shell to put the state after the commit into a Receipt: one co-signature an epoch and commit.
	Newest bool
}

// Step takes one checked message. It reads no clock and draws no lot: the same edge, ground and message give the same
// answer. The receiver stays as it was.
//
//	status       takes leaves          becomes
//	(new)        from index 0          open
//	open         that continue it      sealed: a later epoch starts with restored or recovered; fork: two roots of one
//	                                   size shown by the edge itself, or a later epoch starts with fork
//	sealed/fork  below its limit       -
func (e Edge) Step(g Ground, c *Checked) (Edge, []Output) {
	s := step{ground: g, edge: e.clone(), c: c}
	switch {
	case !c.Admitted:
		s.turnAway(wire.StatusUnknown)
	case c.Admission.Retired:
		s.turnAway(wire.StatusRetired)
	default:
		s.take()
	}
	return s.edge, s.out
}

type step struct {
	ground Ground
	edge   Edge
	c      *Checked
	out    []Output
}

func (s *step) take() {
	if epoch, ok := epochOf(s.c.Up); ok && s.c.Foreign {
		s.reuse(epoch)
		return
	}
	switch m := s.c.Up.(type) {
	case *wire.Hello:
		s.hello(m)
	case *wire.Batch:
		s.batch(m)
	case *wire.Head:
		s.head(m)
	case *wire.RootsGet:
		s.roots(m)
	case *wire.Bridge:
		s.bridge(m)
	}
}

// turnAway answers an edge that has no right here, so that it can tell its people; it stores nothing.
func (s *step) turnAway(status string) {
	if m, ok := s.c.Up.(*wire.Hello); ok {
		s.reply(&wire.State{Generation: s.ground.Generation, Epoch: m.Epoch, Root: emptyRoot(), Status: status, Boot: m.Boot, Seq: m.Seq})
	}
}

func emptyRoot() tlog.Hash { return (&tree{}).root() }

func (s *step) reply(m wire.Down) { s.out = append(s.out, Output{Reply: m}) }

// change stores a new state of a log with evidence and no leaves.
func (s *step) change(l *Log, evidence ...Evidence) {
	s.out = append(s.out, Output{Accept: &Accepted{Log: *l, From: l.Size, Evidence: evidence}})
}

// reuse refuses an epoch that another edge started: 128 random bits do not meet by chance.
func (s *step) reuse(epoch event.Epoch) {
	if l := s.home(); l != nil {
		s.change(l, Evidence{Kind: EvidenceReuse, Bytes: epoch[:], Why: "epoch belongs to another edge"})
	}
	s.reply(&wire.Conflict{Generation: s.ground.Generation, Epoch: epoch, Root: emptyRoot(), Why: "epoch belongs to another edge"})
}

// home is the newest log of the edge: where evidence without a log of its own is filed.
func (s *step) home() *Log {
	if n := len(s.edge.Logs); n > 0 {
		return &s.edge.Logs[n-1]
	}
	return nil
}

// log finds the log of an epoch, or describes one that does not exist yet.
func (s *step) log(epoch event.Epoch) (l *Log, known bool) {
	if l := s.edge.find(epoch); l != nil {
		return l, true
	}
	return &Log{Edge: s.edge.ID, Node: s.edge.Node, Epoch: epoch, Root: emptyRoot(),
		Standing: Standing{Status: wire.StatusOpen, Held: s.edge.Held, Duplicate: s.edge.Duplicate}}, false
}

func (s *step) conflict(l *Log, why string) {
	s.out = append(s.out, Output{Epoch: l.Epoch, Reply: &wire.Conflict{
		Generation: s.ground.Generation, Epoch: l.Epoch, Size: l.Size, Root: l.Root, Why: wire.Plain(why)}})
}

func (s *step) receipt(l *Log) {
	s.out = append(s.out, Output{Epoch: l.Epoch, Newest: true, Reply: &wire.Receipt{
		Generation: s.ground.Generation, Epoch: l.Epoch, Size: l.Size, Backup: l.Backup, Credit: s.ground.Credit}})
}

// hello answers with the hub's own state, takes note of who is asking, and compares heads of one size.
func (s *step) hello(m *wire.Hello) {
	again := s.meet(m)
	l, known := s.log(m.Epoch)
	if known && m.Size == l.Size && m.Size > 0 {
		if s.c.Head.Root != l.Root {
			s.fork(l, m.Checkpoint)
		} else if l.Checkpoint == nil {
			l.Checkpoint = m.Checkpoint
		}
	}
	if r := s.c.Receipt; r != nil && r.Size > l.Size && known && r.Size != s.edge.forgot {
		s.edge.forgot = r.Size
		s.change(l, Evidence{Kind: EvidenceForgot, Index: r.Size, Bytes: m.Receipt, Why: fmt.Sprintf("we hold %d leaves", l.Size)})
	}
	if r := s.c.Receipt; r != nil && known && l.Standing.Status != wire.StatusOpen && r.Size > l.Standing.Limit {
		// What we co-signed once stood here. A restore has lost it, and it may come back.
		l.Standing.Limit = r.Size
		s.change(l)
	}
	status := l.Standing.Status
	if !known {
		status = wire.StatusNew
	}
	s.out = append(s.out, Output{Epoch: m.Epoch, Reply: &wire.State{
		Generation: s.ground.Generation, Epoch: m.Epoch, Size: l.Size, Root: l.Root, Status: status, Limit: l.Standing.Limit,
		Held: s.edge.Held, Duplicate: s.edge.Duplicate, Backup: l.Backup, Credit: s.ground.Credit,
		Boot: m.Boot, Seq: m.Seq, Challenge: challenge(s.ground.Run, s.edge.turn), Again: again,
	}})
}

// meet proves duplicates. A start of the edge that another one has replaced is dead, unless it answers a challenge that
// was given after the other had spoken: then both live at once, from one key. A late message of a dead start cannot do
// that, however long the network kept it. It reports whether the speaker should answer at once.
func (s *step) meet(m *wire.Hello) (again bool) {
	e := &s.edge
	e.turn++
	at := -1
	for i := range e.boots {
		if e.boots[i].id == m.Boot {
			at = i
		}
	}
	if at >= 0 && e.boots[at].gone == 0 {
		return false
	}
	if at >= 0 && turnOf(s.ground.Run, m.Challenge) <= e.boots[at].gone {
		return !e.Duplicate // late, or alive: the challenge will tell
	}
	var other string
	for i := range e.boots {
		if e.boots[i].gone == 0 {
			other = e.boots[i].id
			e.boots[i].gone = e.turn
		}
	}
	if at >= 0 {
		e.boots[at].gone = 0
		s.duplicate(m, other)
		return false
	}
	e.boots = append(e.boots, boot{id: m.Boot, disk: m.Disk})
	if len(e.boots) > maxBoots {
		e.boots = e.boots[1:]
	}
	return false
}

func (s *step) duplicate(m *wire.Hello, other string) {
	if s.edge.Duplicate {
		return
	}
	s.edge.Duplicate, s.edge.Held = true, true
	l, known := s.log(m.Epoch)
	if !known {
		if l = s.home(); l == nil {
			return // nothing is stored yet; the flag rides on the first log
		}
	}
	for i := range s.edge.Logs {
		s.edge.Logs[i].Standing.Held, s.edge.Logs[i].Standing.Duplicate = true, true
		if s.edge.Logs[i].Epoch != l.Epoch {
			s.change(&s.edge.Logs[i])
		}
	}
	s.change(l, Evidence{Kind: EvidenceDuplicate, Index: l.Size, Bytes: fmt.Appendf(nil, "%s %s %s", m.Boot, other, m.Disk),
		Why: "two starts answer challenges in turn"})
}

// fork keeps the proof: the edge signed head, and the hub holds, signed by the same edge, another tree of that size.
func (s *step) fork(l *Log, head []byte) {
	proof := append(append([]byte{}, head...), l.Checkpoint...)
	if len(l.Checkpoint) == 0 {
		proof = append(proof, l.Receipt...)
	}
	if l.Standing.Status != wire.StatusFork {
		l.Standing.Status, l.Standing.Limit = wire.StatusFork, max(l.Size, l.Standing.Limit)
	}
	s.hold()
	s.change(l, Evidence{Kind: EvidenceFork, Index: s.c.Head.Size, Bytes: proof, Why: "two roots of one size"})
}

// hold puts all that this edge has sent, and will send, before an operator.
func (s *step) hold() {
	s.edge.Held = true
	for i := range s.edge.Logs {
		s.edge.Logs[i].Standing.Held = true
	}
}

// head compares a head of the edge with our own tree at that size. If they agree it is co-signed, which proves to the edge
// where the common part ends; if not, it is the proof of a fork.
func (s *step) head(m *wire.Head) {
	l, known := s.log(m.Epoch)
	if !known || m.Size > l.Size || m.Size == 0 {
		s.conflict(l, fmt.Sprintf("we hold %d leaves", l.Size))
		return
	}
	mine := l.Root
	if m.Size < l.Size {
		if len(s.c.Roots) != 1 || s.c.Roots[0] == (tlog.Hash{}) {
			s.conflict(l, "our root at that size is not known now")
			return
		}
		mine = s.c.Roots[0]
	}
	if mine != s.c.Head.Root && !s.ground.Broken.TwoRoots {
		s.fork(l, m.Checkpoint)
		s.conflict(l, "two roots of one size")
		return
	}
	s.out = append(s.out, Output{Epoch: l.Epoch, Sign: m.Checkpoint, Reply: &wire.Receipt{
		Generation: s.ground.Generation, Epoch: l.Epoch, Size: m.Size, Backup: l.Backup, Credit: s.ground.Credit}})
}

func (s *step) roots(m *wire.RootsGet) {
	l, _ := s.log(m.Epoch)
	answer := &wire.Roots{Generation: s.ground.Generation, Epoch: m.Epoch, Sizes: m.Sizes, Roots: make([]tlog.Hash, len(m.Sizes))}
	for i, n := range m.Sizes {
		switch {
		case n == l.Size:
			answer.Roots[i] = l.Root
		case n < l.Size && i < len(s.c.Roots):
			answer.Roots[i] = s.c.Roots[i]
		}
	}
	s.reply(answer)
}
