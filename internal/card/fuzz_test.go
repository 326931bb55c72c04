package card

import (
	"context"
	"crypto/ecdsa"
	"runtime"
	"testing"
)

// fuzzAllocation bounds what one parse may allocate, in bytes: errors with their text, nothing sized by the input.
const fuzzAllocation = 8 << 10

func boundAllocation(t *testing.T, f func()) {
	t.Helper()
	least := ^uint64(0)
	for range 3 { // other goroutines allocate too; the least of three is this one's
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if least = min(least, after.TotalAlloc-before.TotalAlloc); least <= fuzzAllocation {
			return
		}
	}
	t.Errorf("%d bytes allocated, bound %d", least, fuzzAllocation)
}

func FuzzReply(f *testing.F) {
	v := load(f)
	for _, s := range v.Signatures {
		f.Add(unhex(f, s.Response))
	}
	for _, p := range v.Payloads {
		f.Add(unhex(f, p.Payload))
	}
	f.Add([]byte{0x5C, 2, 1, 0, 0x90, 0})
	f.Add([]byte{0x5A, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0x90, 0})
	f.Fuzz(func(t *testing.T, answer []byte) {
		boundAllocation(t, func() {
			_ = checkSelect(answer)
			key, sig, err := parseAuthenticate(answer)
			if err == nil && (len(key) != pointSize || len(sig) != signatureSize) {
				t.Errorf("key of %d and signature of %d bytes", len(key), len(sig))
			}
		})
		ch := &script{answers: [][]byte{{0x5C, 2, 1, 0, 0x90, 0}, answer}}
		if c, _, err := Prove(context.Background(), ch, ReaderID{}, nil); err == nil {
			t.Errorf("%X proved %s against an id it cannot know", answer, c.ID())
		}
	})
}

func FuzzCommand(f *testing.F) {
	for _, a := range load(f).APDU {
		f.Add(unhex(f, a.Command))
	}
	f.Add([]byte{0x80, 0x80, 0, 1, 6, 0x4C, 0x84, 0xFF, 0xFF, 0xFF, 0xFF})
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, apdu []byte) {
		boundAllocation(t, func() {
			if len(apdu) > 4 {
				_, _ = parseCommand(apdu)
			}
		})
		checkCommand(t, key, apdu)
	})
}

// checkCommand holds the oracle rule against any bytes: whatever is signed is 16 bytes long.
func checkCommand(t *testing.T, key *ecdsa.PrivateKey, apdu []byte) {
	t.Helper()
	c := NewPKOCCard(key)
	c.Transceive(commandSelect[:])
	a := c.Transceive(apdu)
	if len(a) < 2 || len(a) > maxAnswer {
		t.Fatalf("answer of %d bytes", len(a))
	}
	if len(a) < 2+pointSize {
		return
	}
	id, sw := parseCommand(apdu)
	if sw != statusOK || len(id) != transactionIDSize {
		t.Fatalf("signed %d bytes for %X", len(id), apdu)
	}
	if err := Verify(a[2:67], a[69:133], id); err != nil {
		t.Fatal(err)
	}
}
