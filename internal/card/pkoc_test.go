package card

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func auth(tlvs ...[]byte) []byte {
	body := bytes.Join(tlvs, nil)
	return append([]byte{0x80, 0x80, 0x00, 0x01, byte(len(body))}, body...)
}

func TestCardSaysWhatIsWrong(t *testing.T) {
	version, reader := tlv(0x5C, []byte{1, 0}), tlv(0x4D, make([]byte, 32))
	id := tlv(0x4C, make([]byte, 16))
	good := auth(version, id, reader)
	selected := commandSelect[:]
	change := func(b []byte, at int, v byte) []byte { b = bytes.Clone(b); b[at] = v; return b }
	for _, tc := range []struct {
		name   string
		before []byte
		apdu   []byte
		want   uint16
	}{
		{"authenticate", selected, good, 0x9000},
		{"authenticate with a short reader id", selected, auth(version, id, tlv(0x4D, make([]byte, 16))), 0x9000},
		{"authenticate before select", nil, good, 0x6985},
		{"authenticate after a refused select", change(selected, 12, 2), good, 0x6985},
		{"an id of 15 bytes", selected, auth(version, tlv(0x4C, make([]byte, 15)), reader), 0x6985},
		{"a Bluetooth ephemeral key of 33 bytes", selected, auth(version, tlv(0x4C, make([]byte, 33)), reader), 0x6985},
		{"an id of 65 bytes", selected, auth(version, tlv(0x4C, make([]byte, 65)), reader), 0x6985},
		{"no id", selected, auth(version, reader), 0x6A82},
		{"id twice", selected, auth(version, id, reader, id), 0x6A82},
		{"no version", selected, auth(id, reader), 0x6A82},
		{"version 02 00", selected, auth(tlv(0x5C, []byte{2, 0}), id, reader), 0x6A82},
		{"no reader id", selected, auth(version, id), 0x6A82},
		{"reader id of 20 bytes", selected, auth(version, id, tlv(0x4D, make([]byte, 20))), 0x6A82},
		{"broken TLV", selected, auth(version, id, reader, []byte{0x53}), 0x6A82},
		{"Lc too long", selected, change(good, 4, 0x3A), 0x6700},
		{"Lc too short", selected, change(good, 4, 0x30), 0x6700},
		{"no body", selected, []byte{0x80, 0x80, 0, 1}, 0x6700},
		{"Lc zero", selected, []byte{0x80, 0x80, 0, 1, 0, 0}, 0x6700},
		{"Le too small for the answer", selected, append(bytes.Clone(good), 0x10), 0x6700},
		{"P2", selected, change(good, 3, 2), 0x6B00},
		{"P1", selected, change(good, 2, 1), 0x6B00},
		{"another instruction", selected, change(good, 1, 0x88), 0x6D00},
		{"GET DATA of SE V2", selected, []byte{0x00, 0xCA, 0x7F, 0x63, 0x00}, 0x6D00},
		{"another class", selected, change(good, 0, 0x90), 0x6E00},
		{"select of another application", nil, change(selected, 12, 2), 0x6A82},
		{"select of a longer AID", nil, []byte{0, 0xA4, 4, 0, 9, 0xA0, 0, 0, 8, 0x98, 0, 0, 1, 0, 0}, 0x6A82},
		{"select without Le", nil, selected[:13], 0x6700},
		{"select with another Le", nil, change(selected, 13, 4), 0x6700},
		{"select by file id", nil, change(selected, 2, 0), 0x6B00},
		{"three bytes", nil, []byte{0, 0xA4, 4}, 0x6700},
		{"nothing", nil, nil, 0x6700},
		{"64 KiB", nil, make([]byte, 64<<10), 0x6700},
	} {
		c := newCard(t)
		if tc.before != nil {
			c.Transceive(tc.before)
		}
		a := c.Transceive(tc.apdu)
		if got := uint16(a[len(a)-2])<<8 | uint16(a[len(a)-1]); got != tc.want {
			t.Errorf("%s: %04X, want %04X", tc.name, got, tc.want)
		}
		if tc.want != 0x9000 && len(a) != 2 {
			t.Errorf("%s: %d bytes of data beside a refusal", tc.name, len(a)-2)
		}
	}
}

func TestLeavingTheFieldDeselects(t *testing.T) {
	c := newCard(t)
	c.Transceive(commandSelect[:])
	c.Reset()
	if a := c.Transceive(commandAuthenticate(ReaderID{}, [16]byte{})); !bytes.Equal(a, []byte{0x69, 0x85}) {
		t.Errorf("%X", a)
	}
}

func TestCardOnAnotherCurveIsAFaultOfTheProgram(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a P-384 card was made")
		}
	}()
	NewPKOCCard(key)
}

func TestKeyFileRoundTrips(t *testing.T) {
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "card.pem")
	if err := SaveKey(path, key); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
	got, err := LoadKey(path)
	if err != nil || !got.Equal(key) {
		t.Errorf("loaded another key: %v", err)
	}
	if err := SaveKey(path, key); !errors.Is(err, os.ErrExist) {
		t.Errorf("a card was overwritten: %v", err)
	}
}

func TestKeyFilesThatAreNoCardAreRefused(t *testing.T) {
	dir := t.TempDir()
	block := func(kind string, der []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(p384)
	other := block("PRIVATE KEY", der, err)
	if err := SaveKey(filepath.Join(dir, "p384"), p384); !errors.Is(err, ErrCurve) {
		t.Errorf("a P-384 key was saved: %v", err)
	}
	p256, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(p256)
	old := block("EC PRIVATE KEY", sec1, err)
	for name, tc := range map[string]struct {
		text []byte
		want error
	}{
		"another curve": {other, ErrCurve},
		"SEC 1":         {old, nil},
		"cut short":     {other[:len(other)/2], nil},
		"empty":         {nil, nil},
		"too large":     {bytes.Repeat([]byte{'x'}, maxKeyFile+1), nil},
		"no PKCS#8":     {block("PRIVATE KEY", []byte{0x30, 0x00}, nil), nil},
	} {
		path := filepath.Join(dir, "try")
		if err := os.WriteFile(path, tc.text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKey(path)
		if err == nil || (tc.want != nil && !errors.Is(err, tc.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := LoadKey(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

func TestIDsHaveOneSpelling(t *testing.T) {
	for _, id := range []string{
		"pkoc:0ec5d87dc39d14a2c5480686da860c82b16be0b6903b525f84848b79fd463e32",
		"uid:deadbeef", "uid:04a1b2c3d4e5f6", "uid:04a1b2c3d4e5f6a7b8c9",
	} {
		c, err := ParseID(id)
		if err != nil || c.ID() != id {
			t.Errorf("%s: %v, %v", id, c, err)
		}
	}
	for _, id := range []string{
		"", "pkoc", "pkoc:", "uid:", "pkoc:00", "uid:0011", "uid:DEADBEEF", "uid:deadbee", "uid:deadbeeg", " uid:deadbeef", "uid:deadbeef ",
		"UID:deadbeef", "tag:deadbeef", "uid:00000000", "uid:ffffffffffffff", "uid:08123456", "uid:88123456",
		"pkoc:0000000000000000000000000000000000000000000000000000000000000000",
		"pkoc:0ec5d87dc39d14a2c5480686da860c82b16be0b6903b525f84848b79fd463e3200",
		"uid:deadbeef:deadbeef",
	} {
		if c, err := ParseID(id); !errors.Is(err, ErrNoCredential) {
			t.Errorf("%q was read as %v: %v", id, c, err)
		}
	}
}

func TestUIDsThatNameNobodyAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		uid  []byte
		ok   bool
	}{
		{"single size", []byte{0xDE, 0xAD, 0xBE, 0xEF}, true},
		{"double size", []byte{4, 1, 2, 3, 4, 5, 6}, true},
		{"triple size", []byte{4, 1, 2, 3, 4, 5, 6, 7, 8, 9}, true},
		{"double size beginning with 08", []byte{8, 1, 2, 3, 4, 5, 6}, true},
		{"random", []byte{8, 1, 2, 3}, false},
		{"half of a longer one", []byte{0x88, 4, 1, 2}, false},
		{"zero", make([]byte, 4), false},
		{"zero, long", make([]byte, 7), false},
		{"erased", []byte{0xFF, 0xFF, 0xFF, 0xFF}, false},
		{"five bytes", []byte{1, 2, 3, 4, 5}, false},
		{"none", nil, false},
	} {
		c, err := NewUID(tc.uid)
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
		if tc.ok && (c.Assurance != UID || !bytes.Equal(c.Key, tc.uid)) {
			t.Errorf("%s: %v", tc.name, c)
		}
	}
}
