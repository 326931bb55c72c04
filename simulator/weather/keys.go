package weather

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
)

// key signs with a keyed hash in place of Ed25519: everybody in the simulator is honest about keys, signatures are
// checked by the same code as ever, and a thousand seeds take seconds.
type key struct {
	name   string
	secret [32]byte
}

func newKey(name string) key { return key{name, sha256.Sum256([]byte("weather key of " + name))} }

func (k key) Name() string { return k.name }

func (k key) KeyHash() uint32 { return binary.BigEndian.Uint32(k.secret[:4]) }

func (k key) Sign(msg []byte) ([]byte, error) {
	h := sha256.New()
	h.Write(k.secret[:])
	h.Write(msg)
	return h.Sum(nil), nil
}

func (k key) Verify(msg, sig []byte) bool {
	want, _ := k.Sign(msg)
	return subtle.ConstantTimeCompare(want, sig) == 1
}
