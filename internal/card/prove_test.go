package card

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func newCard(t testing.TB) *PKOCCard {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return NewPKOCCard(key)
}

// direct is a card on a desk: no radio between.
type direct struct {
	card *PKOCCard
	// change edits an answer to AUTHENTICATE before the reader sees it, knowing the id that was asked.
	change func(answer, id []byte) []byte
	le     []int // status word 6700 for AUTHENTICATE commands of these lengths
}

func (d *direct) Transceive(_ context.Context, apdu []byte) ([]byte, error) {
	for _, n := range d.le {
		if apdu[1] == 0x80 && len(apdu) == n {
			return []byte{0x67, 0x00}, nil
		}
	}
	answer := d.card.Transceive(apdu)
	if apdu[1] == 0x80 && d.change != nil {
		answer = d.change(answer, apdu[11:27])
	}
	return answer, nil
}

func TestReaderAndCardAgree(t *testing.T) {
	c := newCard(t)
	cred, proof, err := Prove(t.Context(), &direct{card: c}, ReaderID{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cred.ID() != c.Credential().ID() || cred.Assurance != PKOC {
		t.Errorf("proved %s, card is %s", cred.ID(), c.Credential().ID())
	}
	if err := Verify(proof.PublicKey, proof.Signature, proof.TransactionID); err != nil {
		t.Errorf("the proof does not verify again: %v", err)
	}
}

func TestWrongLengthAndNothingElseIsAskedAgainWithoutLe(t *testing.T) {
	ok := []byte{0x5C, 0x02, 0x01, 0x00, 0x90, 0x00}
	c := newCard(t)
	if _, _, err := Prove(t.Context(), &direct{card: c, le: []int{62}}, ReaderID{}, nil); err != nil {
		t.Errorf("card that wants no Le: %v", err)
	}
	if _, _, err := Prove(t.Context(), &direct{card: c, le: []int{61, 62}}, ReaderID{}, nil); !errors.Is(err, StatusError{Step: "AUTHENTICATE without Le", SW: 0x6700}) {
		t.Errorf("card that says 6700 twice: %v", err)
	}
	for _, sw := range []uint16{0x6A82, 0x6B00, 0x6A86, 0x6D00, 0x6E00, 0x6985, 0x6A88, 0x6F00, 0x6C87, 0x6187, 0x9001, 0x0000, 0x6701} {
		ch := &script{answers: [][]byte{ok, {byte(sw >> 8), byte(sw)}}}
		_, _, err := Prove(t.Context(), ch, ReaderID{}, nil)
		var status StatusError
		if !errors.As(err, &status) || status.SW != sw || errors.Is(err, ErrNotPKOC) {
			t.Errorf("%04X: %v", sw, err)
		}
		if len(ch.sent) != 2 {
			t.Errorf("%04X: %d commands, want SELECT and one AUTHENTICATE", sw, len(ch.sent))
		}
	}
}

func TestSelectAnswersAreReadTolerantly(t *testing.T) {
	long := bytes.Repeat([]byte{0x02, 0x00}, 100)
	for _, tc := range []struct {
		name   string
		answer []byte
		want   error // nil: AUTHENTICATE was tried
	}{
		{"plain", []byte{0x5C, 2, 1, 0, 0x90, 0}, nil},
		{"several versions, ours last", []byte{0x5C, 4, 2, 0, 1, 0, 0x90, 0}, nil},
		{"a card value after it that is no TLV", []byte{0x5C, 2, 1, 0, 0xFF, 0xFF, 0x90, 0}, nil},
		{"an unknown tag before it", []byte{0x5F, 0x2D, 1, 9, 0x5C, 2, 1, 0, 0x90, 0}, nil},
		{"a two-byte length", append(append([]byte{0x53, 0x81, 200}, long...), 0x5C, 2, 1, 0, 0x90, 0), nil},
		{"only a newer version", []byte{0x5C, 2, 2, 0, 0x90, 0}, ErrVersion},
		{"version across a boundary", []byte{0x5C, 4, 2, 1, 0, 0, 0x90, 0}, ErrVersion},
		{"odd list", []byte{0x5C, 3, 1, 0, 1, 0x90, 0}, ErrMalformed},
		{"empty list", []byte{0x5C, 0, 0x90, 0}, ErrMalformed},
		{"no list", []byte{0x6F, 0, 0x90, 0}, ErrMalformed},
		{"nothing", []byte{0x90, 0}, ErrMalformed},
		{"half a status", []byte{0x90}, ErrMalformed},
		{"no bytes", nil, ErrMalformed},
		{"cut list", []byte{0x5C, 2, 1, 0x90, 0}, ErrMalformed},
		{"refused", []byte{0x6A, 0x82}, ErrNotPKOC},
		{"refused by a phone set to Bluetooth", []byte{0x6F, 0x00}, ErrNotPKOC},
	} {
		ch := &script{answers: [][]byte{tc.answer}}
		_, _, err := Prove(t.Context(), ch, ReaderID{}, nil)
		if tc.want == nil {
			if len(ch.sent) != 2 || !errors.Is(err, ErrChannel) {
				t.Errorf("%s: AUTHENTICATE was not tried: %v", tc.name, err)
			}
		} else if !errors.Is(err, tc.want) || len(ch.sent) != 1 {
			t.Errorf("%s: %v after %d commands, want %v", tc.name, err, len(ch.sent), tc.want)
		}
	}
}

func tlv(tag byte, value []byte) []byte { return append([]byte{tag, byte(len(value))}, value...) }

func TestHostileAnswersAreRefused(t *testing.T) {
	c := newCard(t)
	order := elliptic.P256().Params().N.FillBytes(make([]byte, 32))
	field := elliptic.P256().Params().P.FillBytes(make([]byte, 32))
	zero := make([]byte, 32)
	var recorded []byte
	if _, p, err := Prove(t.Context(), &direct{card: c}, ReaderID{}, nil); err != nil {
		t.Fatal(err)
	} else {
		recorded = append(append(tlv(0x5A, p.PublicKey), tlv(0x9E, p.Signature)...), 0x90, 0)
	}
	// Each case gets the honest key (65), signature (64) and the asked id, and gives the answer without status word.
	for _, tc := range []struct {
		name string
		make func(key, sig, id []byte) []byte
		want error
	}{
		{"key twice", func(k, s, _ []byte) []byte {
			return bytes.Join([][]byte{tlv(0x5A, k), tlv(0x9E, s), tlv(0x5A, k)}, nil)
		}, ErrMalformed},
		{"signature twice", func(k, s, _ []byte) []byte {
			return bytes.Join([][]byte{tlv(0x9E, s), tlv(0x5A, k), tlv(0x9E, s)}, nil)
		}, ErrMalformed},
		{"empty key, then a key", func(k, s, _ []byte) []byte {
			return bytes.Join([][]byte{{0x5A, 0}, tlv(0x5A, k), tlv(0x9E, s)}, nil)
		}, ErrMalformed},
		{"truncated value", func(k, s, _ []byte) []byte { return append(tlv(0x5A, k), tlv(0x9E, s)[:40]...) }, ErrMalformed},
		{"tag without length", func(k, s, _ []byte) []byte { return append(append(tlv(0x5A, k), tlv(0x9E, s)...), 0x53) }, ErrMalformed},
		{"length of four gigabytes", func(k, s, _ []byte) []byte {
			return append([]byte{0x5A, 0x84, 0xFF, 0xFF, 0xFF, 0xFF}, k...)
		}, ErrMalformed},
		{"indefinite length", func(k, s, _ []byte) []byte { return append([]byte{0x5A, 0x80}, k...) }, ErrMalformed},
		{"length not the shortest", func(k, s, _ []byte) []byte {
			return append(append([]byte{0x5A, 0x81, 65}, k...), tlv(0x9E, s)...)
		}, ErrMalformed},
		{"tag without end", func(k, s, _ []byte) []byte { return []byte{0x5F, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, 0x00} }, ErrMalformed},
		{"no key", func(k, s, _ []byte) []byte { return tlv(0x9E, s) }, ErrMalformed},
		{"no signature", func(k, s, _ []byte) []byte { return tlv(0x5A, k) }, ErrMalformed},
		{"empty", func(k, s, _ []byte) []byte { return nil }, ErrMalformed},
		{"DER signature", func(k, _, id []byte) []byte {
			digest := sha256.Sum256(id)
			der, err := ecdsa.SignASN1(rand.Reader, c.key, digest[:])
			if err != nil {
				t.Fatal(err)
			}
			return append(tlv(0x5A, k), tlv(0x9E, der)...)
		}, ErrMalformed},
		{"r is 0", func(k, s, _ []byte) []byte { copy(s, zero); return append(tlv(0x5A, k), tlv(0x9E, s)...) }, ErrSignature},
		{"s is 0", func(k, s, _ []byte) []byte { copy(s[32:], zero); return append(tlv(0x5A, k), tlv(0x9E, s)...) }, ErrSignature},
		{"both are 0", func(k, s, _ []byte) []byte { clear(s); return append(tlv(0x5A, k), tlv(0x9E, s)...) }, ErrSignature},
		{"r is n", func(k, s, _ []byte) []byte { copy(s, order); return append(tlv(0x5A, k), tlv(0x9E, s)...) }, ErrSignature},
		{"s is n", func(k, s, _ []byte) []byte { copy(s[32:], order); return append(tlv(0x5A, k), tlv(0x9E, s)...) }, ErrSignature},
		{"r and s swapped", func(k, s, _ []byte) []byte {
			return append(tlv(0x5A, k), tlv(0x9E, append(bytes.Clone(s[32:]), s[:32]...))...)
		}, ErrSignature},
		{"point off the curve", func(k, s, _ []byte) []byte { k[64] ^= 1; return append(tlv(0x5A, k), tlv(0x9E, s)...) }, ErrPublicKey},
		{"key all zero", func(k, s, _ []byte) []byte { clear(k); return append(tlv(0x5A, k), tlv(0x9E, s)...) }, ErrPublicKey},
		{"point at zero", func(k, s, _ []byte) []byte { clear(k[1:]); return append(tlv(0x5A, k), tlv(0x9E, s)...) }, ErrPublicKey},
		{"x beyond the field", func(k, s, _ []byte) []byte { copy(k[1:], field); return append(tlv(0x5A, k), tlv(0x9E, s)...) }, ErrPublicKey},
		{"hybrid point", func(k, s, _ []byte) []byte { k[0] = 6; return append(tlv(0x5A, k), tlv(0x9E, s)...) }, ErrPublicKey},
		{"compressed point", func(k, s, _ []byte) []byte { return append(tlv(0x5A, k[:33]), tlv(0x9E, s)...) }, ErrMalformed},
		{"a recording of an earlier tap", func(_, _, _ []byte) []byte { return recorded[:len(recorded)-2] }, ErrSignature},
		{"another card's key", func(_, s, _ []byte) []byte { return append(tlv(0x5A, newCard(t).point), tlv(0x9E, s)...) }, ErrSignature},
		{"64 KiB", func(k, s, _ []byte) []byte {
			return append(append(tlv(0x5A, k), tlv(0x9E, s)...), make([]byte, 64<<10)...)
		}, ErrMalformed},
	} {
		ch := &direct{card: c, change: func(a, id []byte) []byte {
			key, sig := bytes.Clone(a[2:67]), bytes.Clone(a[69:133])
			return append(tc.make(key, sig, id), 0x90, 0x00)
		}}
		cred, proof, err := Prove(t.Context(), ch, ReaderID{}, nil)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
		if cred.Key != nil || proof.PublicKey != nil || proof.Signature != nil {
			t.Errorf("%s: something was handed out beside the error", tc.name)
		}
	}
}

func TestBothHalvesOfSAreAccepted(t *testing.T) {
	c := newCard(t)
	n := elliptic.P256().Params().N
	flip := func(a, _ []byte) []byte {
		s := new(big.Int).SetBytes(a[101:133])
		s.Sub(n, s).FillBytes(a[101:133])
		return a
	}
	for i := range 8 { // honest signatures are high or low by chance; with and without flip both halves are met
		ch := &direct{card: c}
		if i%2 == 1 {
			ch.change = flip
		}
		if _, _, err := Prove(t.Context(), ch, ReaderID{}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLostCardIsNoDenial(t *testing.T) {
	gone := errors.New("field is empty")
	for n := range 2 {
		ch := &script{err: gone}
		if n == 1 {
			ch.answers = [][]byte{{0x5C, 2, 1, 0, 0x90, 0}}
		}
		_, _, err := Prove(t.Context(), ch, ReaderID{}, nil)
		var status StatusError
		if !errors.Is(err, ErrChannel) || !errors.Is(err, gone) || errors.As(err, &status) || errors.Is(err, ErrNotPKOC) {
			t.Errorf("after %d answers: %v", n, err)
		}
	}
}

func TestAnyOrderOfTagsWithAnyUnknownBetweenRoundTrips(t *testing.T) {
	c := newCard(t)
	rapid.Check(t, func(r *rapid.T) {
		unknown := func(label string) []byte {
			tag := rapid.SampledFrom([]byte{0x01, 0x4E, 0x53, 0xF8, 0xFB, 0xFC, 0xFD, 0xE2}).Draw(r, label+" tag")
			return tlv(tag, rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(r, label))
		}
		ch := &direct{card: c, change: func(a, _ []byte) []byte {
			parts := rapid.Permutation([][]byte{a[:67], a[67:133], unknown("first"), unknown("second")}).Draw(r, "answer")
			return append(bytes.Join(parts, nil), 0x90, 0x00)
		}}
		if _, _, err := Prove(t.Context(), ch, ReaderID{}, nil); err != nil {
			r.Fatal(err)
		}
		id := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, "id")
		size := rapid.SampledFrom([]int{16, 32}).Draw(r, "reader id size")
		parts := rapid.Permutation([][]byte{tlv(0x5C, []byte{1, 0}), tlv(0x4C, id), tlv(0x4D, make([]byte, size)), unknown("third")}).Draw(r, "command")
		body := bytes.Join(parts, nil)
		command := append([]byte{0x80, 0x80, 0, 1, byte(len(body))}, body...)
		if rapid.Bool().Draw(r, "le") {
			command = append(command, 0)
		}
		c.Transceive(commandSelect[:])
		a := c.Transceive(command)
		if len(a) != 135 || Verify(a[2:67], a[69:133], id) != nil {
			r.Fatalf("%X gives %X", command, a)
		}
	})
}

// idCollector answers SELECT, keeps the id of AUTHENTICATE and lets the card vanish: 10,000 signatures are not the point.
type idCollector struct{ ids map[[16]byte]bool }

func (c *idCollector) Transceive(_ context.Context, apdu []byte) ([]byte, error) {
	if apdu[1] == 0xA4 {
		return []byte{0x5C, 2, 1, 0, 0x90, 0}, nil
	}
	c.ids[[16]byte(apdu[11:27])] = true
	return nil, errors.New("gone")
}

func TestTransactionIDsNeverRepeatAndDoNotComeFromAClock(t *testing.T) {
	const taps = 10_000
	all := idCollector{ids: map[[16]byte]bool{}}
	for life := range 2 { // each bubble begins at the same frozen instant: a clock would give the same ids again
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			for range taps / 2 {
				_, _, err := Prove(t.Context(), &all, ReaderID{}, nil)
				if !errors.Is(err, ErrChannel) {
					t.Fatal(err)
				}
			}
			if !time.Now().Equal(start) {
				t.Fatalf("life %d: the clock moved, so this proves nothing", life)
			}
		})
	}
	if len(all.ids) != taps {
		t.Errorf("%d different ids in %d taps", len(all.ids), taps)
	}
	var sum [16]int // no byte position is constant or a counter
	for id := range all.ids {
		for i, b := range id {
			sum[i] += int(b)
		}
	}
	for i, s := range sum {
		if mean := s / taps; mean < 120 || mean > 135 { // 127.5 +- 0.74 standard error
			t.Errorf("byte %d has mean %d", i, mean)
		}
	}
}

func TestCallersIDIsSentAsItIs(t *testing.T) {
	id := [16]byte{1, 2, 3}
	c := idCollector{ids: map[[16]byte]bool{}}
	_, _, _ = Prove(t.Context(), &c, ReaderID{}, &id)
	if !c.ids[id] || len(c.ids) != 1 {
		t.Errorf("sent %v", c.ids)
	}
}

func ExampleProve() {
	key, _ := NewKey()
	held := NewPKOCCard(key) // in life: a card in the field of a reader
	cred, _, err := Prove(context.Background(), &direct{card: held}, ReaderID{}, nil)
	fmt.Println(err, cred.Assurance, cred.ID() == held.Credential().ID())
	// Output: <nil> pkoc true
}

func BenchmarkProve(b *testing.B) {
	ch := &direct{card: newCard(b)}
	for b.Loop() {
		if _, _, err := Prove(b.Context(), ch, ReaderID{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
