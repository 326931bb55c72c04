package journal

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
	"kith/internal/wire"
)

func TestCheckpointIsAC2SPNoteOfTheRightHead(t *testing.T) {
	l := newLog(t)
	l.append(300)
	id := l.j.Head().Epoch
	for _, size := range []uint64{300, 1, 255, 256, 257, 299, 0} {
		text, err := l.j.Checkpoint(context.Background(), id, size)
		if err != nil {
			t.Fatal(err)
		}
		n, err := note.Open(text, note.VerifierList(l.keys.verifier))
		if err != nil {
			t.Fatal(err)
		}
		if size == 0 {
			size = 300
		}
		want := wire.Checkpoint{Origin: "kith.commons/lisbon/lisbon-front/" + id.String(), Size: size, Root: l.mem[0].root(t, int(size))}.Text()
		if n.Text != want {
			t.Errorf("size %d: checkpoint reads %q, want %q", size, n.Text, want)
		}
	}
	if _, err := l.j.Checkpoint(context.Background(), id, 301); !errors.Is(err, ErrRange) {
		t.Errorf("head beyond the end: %v", err)
	}
}

func TestLargestSignedHeadIsDurableBeforeItsBytesAreReturned(t *testing.T) {
	l := newLog(t)
	l.append(10)
	id := l.j.Head().Epoch
	l.fault(func(stage string, _ []*request) error {
		if stage == "commit" {
			return errInput
		}
		return nil
	})
	if text, err := l.j.Checkpoint(context.Background(), id, 0); err == nil || text != nil {
		t.Fatalf("a head left although it could not be kept: %q, %v", text, err)
	}
	l.fault(nil)
	text, err := l.j.Checkpoint(context.Background(), id, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.reopen()
	if e := l.j.view.Load().current(); e.head.size != 10 || !bytes.Equal(e.head.note, text) {
		t.Fatalf("after reopening the last signed head is %d", e.head.size)
	}
	l.append(5)
	again, err := l.j.Checkpoint(context.Background(), id, 10)
	if err != nil || !bytes.Equal(again, text) {
		t.Fatalf("the head of 10 was signed twice, differently: %v", err)
	}
	l.CheckJournal()
}

func TestReceiptsAreRefusedUnlessTheyAreTrue(t *testing.T) {
	l := newLog(t)
	ctx := context.Background()
	l.append(20)
	id := l.j.Head().Epoch
	good, err := l.j.Checkpoint(ctx, id, 12)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(origin string, size uint64, root tlog.Hash) []byte {
		text, err := note.Sign(&note.Note{Text: wire.Checkpoint{Origin: origin, Size: size, Root: root}.Text()}, l.keys.signer)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	origin := l.j.origin(id)
	byHub := func(text []byte) []byte { return cosign(t, l.keys, l.keys.cosigner, text) }
	stranger := newKeys(t)
	strange, err := note.Sign(&note.Note{Text: wire.Checkpoint{Origin: origin, Size: 12, Root: l.mem[0].root(t, 12)}.Text()}, stranger.signer)
	if err != nil {
		t.Fatal(err)
	}
	strange = cosign(t, stranger, l.keys.cosigner, strange)
	for name, text := range map[string][]byte{
		"no co-signature":         good,
		"another hub's key":       cosign(t, l.keys, newCosigner(t, "commons/hub-witness"), good),
		"another hub's name":      cosign(t, l.keys, newCosigner(t, "elsewhere/hub-witness"), good),
		"future size":             byHub(sign(origin, 21, l.mem[0].root(t, 20))),
		"another root":            byHub(sign(origin, 12, l.mem[0].root(t, 11))),
		"another epoch":           byHub(sign(l.j.origin(event.Epoch{1}), 12, l.mem[0].root(t, 12))),
		"another edge":            byHub(sign(strings.Replace(origin, "front", "back", 1), 12, l.mem[0].root(t, 12))),
		"signed by a stranger":    strange,
		"flipped byte":            flip(byHub(good), len(origin)+4),
		"flipped co-signature":    flip(byHub(good), len(byHub(good))-20),
		"spare bits in base64":    respelt(byHub(good)),
		"a third signature line":  append(byHub(good), "\u2014 someone aGVsbG8=\n"...),
		"empty":                   nil,
		"longer than any receipt": bytes.Repeat([]byte("a\n"), maxNote),
	} {
		if err := l.j.SetReceipt(ctx, text); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
		if size, text := l.j.Receipt(id); size != 0 || text != nil {
			t.Fatalf("%s: it was kept", name)
		}
	}
	l.CheckJournal()
	if err := l.j.SetReceipt(ctx, byHub(good)); err != nil {
		t.Fatal(err)
	}
	if size, text := l.j.Receipt(id); size != 12 || !bytes.Equal(text[:len(good)], good) {
		t.Errorf("receipt of %d kept, want 12", size)
	}
	l.CheckJournal()
}

// respelt sets a bit that base64 leaves unused in the last digit of the last signature: the same bytes in another spelling.
func respelt(text []byte) []byte {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	out := bytes.Clone(text)
	last := bytes.LastIndexFunc(out, func(r rune) bool { return r != '=' && r != '\n' })
	out[last] = digits[strings.IndexByte(digits, out[last])|1]
	return out
}

func TestReceiptNeverGoesBackwards(t *testing.T) {
	l := newLog(t)
	l.append(20)
	id := l.j.Head().Epoch
	for _, size := range []uint64{5, 15, 7, 15} {
		l.receipt(size)
		want := max(size, 15)
		if size == 5 {
			want = 5
		}
		if got, _ := l.j.Receipt(id); got != want {
			t.Fatalf("after a receipt of %d: %d, want %d", size, got, want)
		}
		l.reopen()
		if got, _ := l.j.Receipt(id); got != want {
			t.Fatalf("after a receipt of %d and reopening: %d, want %d", size, got, want)
		}
	}
	l.CheckJournal()
}

func TestLoneEdgeTakesNoReceipt(t *testing.T) {
	k := newKeys(t)
	opt := k.options(t.TempDir())
	opt.Cosigner = nil
	l := openLog(t, k, opt)
	l.append(2)
	cp, err := l.j.Checkpoint(context.Background(), l.j.Head().Epoch, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.j.SetReceipt(context.Background(), cosign(t, k, k.cosigner, cp)); !errors.Is(err, ErrReceipt) {
		t.Errorf("receipt taken without a hub: %v", err)
	}
	l.CheckJournal()
}

func flip(b []byte, at int) []byte {
	out := bytes.Clone(b)
	out[at] ^= 1
	return out
}

func FuzzReceipt(f *testing.F) {
	l := newLog(f)
	l.append(3)
	cp, err := l.j.Checkpoint(context.Background(), l.j.Head().Epoch, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cosign(f, l.keys, l.keys.cosigner, cp))
	f.Add(cp)
	f.Add([]byte(l.j.origin(l.j.Head().Epoch) + "\n3\n\n\n\u2014 x y\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		before, _ := l.j.Receipt(l.j.Head().Epoch)
		if err := l.j.SetReceipt(context.Background(), text); err != nil {
			if now, _ := l.j.Receipt(l.j.Head().Epoch); now != before {
				t.Fatal("a refused receipt changed something")
			}
			if !errors.Is(err, ErrReceipt) {
				t.Fatalf("refused with %v", err)
			}
		}
	})
}
