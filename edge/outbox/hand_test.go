package outbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/wire"
)

// drawer is a journal that keeps receipts and nothing else.
type drawer struct {
	Log    // nil: nothing else is asked of it
	answer error
	size   uint64
	kept   []byte
	tried  int
}

func (d *drawer) Receipt(event.Epoch) (uint64, []byte) { return d.size, d.kept }

func (d *drawer) SetReceipt(_ context.Context, text []byte) error {
	if d.tried++; d.answer != nil {
		return d.answer
	}
	d.kept = text
	return nil
}

type pair struct {
	signer   note.Signer
	verifier note.Verifier
}

// newPair makes a key from a seed.
func newPair(t *testing.T, name string, seed byte) pair {
	t.Helper()
	skey, vkey, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 64)), name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return pair{s, v}
}

// Only a note that both keys signed, for this epoch, may accuse the hub of another history: Foreign makes the edge look for
// the place where the two part, Worthless is noise that anybody on the line could make.
func TestAReceiptIsOursForeignOrWorthless(t *testing.T) {
	edge, hub, stranger := newPair(t, "kith/edge", 1), newPair(t, "kith/hub", 2), newPair(t, "kith/hub", 3)
	epoch, other := event.Epoch{1}, event.Epoch{2}
	origin := func(e event.Epoch) string { return wire.Origin("demo", "lisbon", "front", e) }
	sign := func(e event.Epoch, size uint64, by ...pair) []byte {
		n := &note.Note{Text: wire.Checkpoint{Origin: origin(e), Size: size, Root: tlog.Hash(sha256.Sum256(nil))}.Text()}
		signers := make([]note.Signer, len(by))
		for i, p := range by {
			signers[i] = p.signer
		}
		b, err := note.Sign(n, signers...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	both := sign(epoch, 7, edge, hub)
	changed := bytes.Replace(both, []byte("\n7\n"), []byte("\n8\n"), 1)
	broken := errors.New("disk is gone")
	foreign := fmt.Errorf("%w: its root at size 7 is not ours", journal.ErrReceipt)
	for _, c := range []struct {
		name    string
		text    []byte
		journal error
		want    Verdict
		tried   int
	}{
		{"both keys, our tree", both, nil, Ours, 1},
		{"both keys, another tree", both, foreign, Foreign, 1},
		{"both keys, and the disk takes none", both, broken, NoNote, 1},
		{"both keys and a stranger's", sign(epoch, 7, edge, stranger, hub), foreign, Foreign, 1},
		{"our key alone", sign(epoch, 7, edge), foreign, Worthless, 0},
		{"the hub's key alone", sign(epoch, 7, hub), foreign, Worthless, 0},
		{"our key and a stranger's under the hub's name", sign(epoch, 7, edge, stranger), foreign, Worthless, 0},
		{"nobody's key", sign(epoch, 7, stranger), foreign, Worthless, 0},
		{"changed after it was signed", changed, foreign, Worthless, 0},
		{"both keys, another epoch", sign(other, 7, edge, hub), foreign, Worthless, 0},
		{"no note at all", []byte("7\n"), foreign, Worthless, 0},
	} {
		log := &drawer{answer: c.journal}
		h := &Hand{Log: log, Origin: origin, Own: edge.verifier, Witness: hub.verifier, Logger: slog.New(slog.DiscardHandler)}
		hear := func(size uint64) InReceipt {
			b, err := (&wire.Receipt{Generation: "g1", Epoch: epoch, Size: size, Note: c.text}).Encode()
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			in, err := h.Hear(t.Context(), b)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			return in.(InReceipt)
		}
		if got := hear(7); got.Note != c.want || log.tried != c.tried {
			t.Errorf("%s: verdict %d after asking the journal %d times, want %d after %d", c.name, got.Note, log.tried, c.want, c.tried)
		}
		if got := hear(6); got.Note != Worthless {
			t.Errorf("%s, in a message that claims another size: verdict %d", c.name, got.Note)
		}
	}
	log := &drawer{size: 7, kept: both, answer: broken}
	h := &Hand{Log: log, Origin: origin, Own: edge.verifier, Witness: hub.verifier, Logger: slog.New(slog.DiscardHandler)}
	if size, v := h.keep(t.Context(), epoch, both); size != 7 || v != Ours || log.tried != 0 {
		t.Errorf("a receipt that is kept already: %d, verdict %d, the journal was asked %d times", size, v, log.tried)
	}
}
