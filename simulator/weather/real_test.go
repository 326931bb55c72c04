package weather

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	cosign "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/edge/outbox"
	"kith/hub/intake"
	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/wire"
)

// The models above stand in for the journal and for keys. Here the journal on disk, Ed25519 and both shells with their
// goroutines speak the same words; nothing is virtual.

// guardedShelf is the shelf for more than one goroutine: intake reads roots beside a commit.
type guardedShelf struct {
	mu sync.Mutex
	*shelf
}

func (g *guardedShelf) Commit(ctx context.Context, all []intake.Accepted) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shelf.Commit(ctx, all)
}

func (g *guardedShelf) Roots(ctx context.Context, edge string, epoch event.Epoch, sizes []uint64) ([]tlog.Hash, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shelf.Roots(ctx, edge, epoch, sizes)
}

type street struct {
	shelf    *guardedShelf
	t        *testing.T
	world    *world // only for its shelf
	own, hub note.Signer
	ownV     note.Verifier
	hubV     note.Verifier
	intake   *intake.Intake
	down     chan []byte
}

func (s *street) Admission(string) (intake.Admission, bool) {
	return intake.Admission{Node: "node", Verifier: s.ownV}, true
}

func (s *street) Send(_ string, payload []byte) error {
	select {
	case s.down <- bytes.Clone(payload):
	default:
	}
	return nil
}

// wireUp is the edge's session.
type wireUp struct {
	s  *street
	up chan bool
}

func (w wireUp) Send(_ context.Context, payload []byte) error {
	w.s.intake.Offer("front", bytes.Clone(payload))
	return nil
}
func (w wireUp) Received() <-chan []byte { return w.s.down }
func (w wireUp) Up() <-chan bool         { return w.up }

func newStreet(t *testing.T) *street {
	t.Helper()
	s := &street{t: t, world: newWorld(1, Options{}), down: make(chan []byte, 1024)}
	skey, vkey, err := note.GenerateKey(nil, network+"/node/front")
	check(t, err)
	s.own, err = note.NewSigner(skey)
	check(t, err)
	s.ownV, err = note.NewVerifier(vkey)
	check(t, err)
	skey, vkey, err = note.GenerateKey(nil, network+"/hub-witness")
	check(t, err)
	s.hub, err = cosign.NewSignerForCosignatureV1(skey)
	check(t, err)
	vkey, err = cosign.VKeyToCosignatureV1(vkey)
	check(t, err)
	s.hubV, err = cosign.NewVerifierForCosignatureV1(vkey)
	check(t, err)
	s.shelf = &guardedShelf{shelf: s.world.hub.shelf}
	s.intake, err = intake.Open(t.Context(), intake.Options{Network: network, Store: s.shelf, Edges: s, Sender: s, Signer: s.hub, Witness: s.hubV})
	check(t, err)
	go s.intake.Run(t.Context())
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// visit runs an edge on a directory until all it has is receipted, and returns its epochs.
func (s *street) visit(dir, boot string, work func(*journal.Journal)) []journal.EpochInfo {
	s.t.Helper()
	j, err := journal.Open(s.t.Context(), journal.Options{Dir: dir, Network: network, Node: "node", Edge: "front", Signer: s.own, Verifier: s.ownV, Cosigner: s.hubV, Boot: boot})
	check(s.t, err)
	defer j.Close()
	work(j)
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	session := wireUp{s, make(chan bool, 1)}
	session.up <- true
	x := outbox.NewOutbox(outbox.Options{
		Settings: outbox.Settings{Boot: boot, Seed: 1}, Changed: j.Changed(), Session: session,
		Hand: outbox.Hand{Log: j, Boot: boot, Disk: "d1", Own: s.ownV, Witness: s.hubV,
			Origin: func(e event.Epoch) string { return wire.Origin(network, "node", "front", e) }},
	})
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	for ctx.Err() == nil {
		e := j.Epochs()
		if r := x.Report(); r.State == outbox.Live && r.Epoch == e[len(e)-1].Epoch && e[len(e)-1].Receipt == e[len(e)-1].Size {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if ctx.Err() != nil {
		s.t.Fatalf("not delivered: %+v %+v", x.Report(), j.Epochs())
	}
	cancel()
	<-done
	return j.Epochs()
}

func taps(t *testing.T, j *journal.Journal, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		_, err := j.Append(t.Context(), journal.Record{Kind: event.KindTap, At: time.Now(), Clock: event.Synced,
			Body: marshal(map[string]string{"tap": fmt.Sprint(i)}), Private: &event.Private{Member: fmt.Sprintf("m%d", i)}})
		check(t, err)
	}
}

func TestRealJournalForksAndLosesNoTap(t *testing.T) {
	s := newStreet(t)
	dir := filepath.Join(t.TempDir(), "journal")
	first := s.visit(dir, "00000000000000aa", func(j *journal.Journal) { taps(t, j, 0, 700) })
	if len(first) != 1 || first[0].Receipt != 700 {
		t.Fatalf("epochs %+v", first)
	}
	older := filepath.Join(t.TempDir(), "older")
	check(t, os.CopyFS(older, os.DirFS(dir)))
	s.visit(dir, "00000000000000bb", func(j *journal.Journal) { taps(t, j, 700, 720) })
	after := s.visit(older, "00000000000000cc", func(j *journal.Journal) { taps(t, j, 800, 1210) })
	if len(after) != 2 || !after[0].Abandoned || after[1].Size != 411 {
		t.Fatalf("epochs %+v", after)
	}
	// Every tap of both branches is at the hub, once, with its private part.
	s.shelf.mu.Lock()
	defer s.shelf.mu.Unlock()
	seen := map[[32]byte]int{}
	for _, a := range s.world.hub.shelf.order {
		for _, line := range s.world.hub.shelf.logs[a].lines {
			if key, ok := original(line); ok {
				seen[key]++
			}
		}
	}
	if len(seen) != 720+410 {
		t.Errorf("%d taps at the hub", len(seen))
	}
	old := s.world.hub.shelf.logs[address{"front", after[0].Epoch}]
	if standing, err := intake.ParseStanding(old.standing); err != nil || standing.Status != wire.StatusFork || !standing.Held || old.state.Size != 720 {
		t.Errorf("old epoch %q, %d leaves", old.standing, old.state.Size)
	}
	if s.world.filed(intake.EvidenceFork) == 0 {
		t.Error("no proof of the fork")
	}
	for _, v := range s.world.result.Violations {
		t.Error(v)
	}
}
