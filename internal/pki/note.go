package pki

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"

	cosign "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// newNoteKey makes an Ed25519 signed-note key pair, both as one line of text.
func newNoteKey(name string) (skey, vkey []byte, err error) {
	s, v, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, nil, fmt.Errorf("making note key %s: %w", name, err)
	}
	return []byte(s + "\n"), []byte(v + "\n"), nil
}

// newWitnessKey makes the key pair of a co-signer: the verifier key carries the cosignature/v1 type (C2SP
// tlog-cosignature), so that no plain note verifier ever takes it for its own.
func newWitnessKey(name string) (skey, vkey []byte, err error) {
	skey, plain, err := newNoteKey(name)
	if err != nil {
		return nil, nil, err
	}
	v, err := cosign.VKeyToCosignatureV1(strings.TrimSpace(string(plain)))
	if err != nil {
		return nil, nil, fmt.Errorf("making witness key %s: %w", name, err)
	}
	return skey, []byte(v + "\n"), nil
}

// LoadSigner reads a note signing key; it must not be readable by others.
func LoadSigner(path string) (note.Signer, error) {
	data, err := ReadPrivate(path)
	if err != nil {
		return nil, err
	}
	s, err := note.NewSigner(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, fmt.Errorf("reading %s: not a note signing key: %w", path, err)
	}
	return s, nil
}

// LoadVerifier reads a plain note verifier key.
func LoadVerifier(path string) (note.Verifier, error) {
	data, err := ReadPublic(path)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, fmt.Errorf("reading %s: not a note verifier key: %w", path, err)
	}
	return v, nil
}

// LoadCosigner reads the hub's witness key. Its signatures carry the time of signing.
func LoadCosigner(path string) (note.Signer, error) {
	data, err := ReadPrivate(path)
	if err != nil {
		return nil, err
	}
	s, err := cosign.NewSignerForCosignatureV1(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, fmt.Errorf("reading %s: not a witness signing key: %w", path, err)
	}
	return s, nil
}

// LoadCosignVerifier reads the verifier of the hub's receipts.
func LoadCosignVerifier(path string) (note.Verifier, error) {
	data, err := ReadPublic(path)
	if err != nil {
		return nil, err
	}
	v, err := cosign.NewVerifierForCosignatureV1(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, fmt.Errorf("reading %s: not a witness verifier key: %w", path, err)
	}
	return v, nil
}

// checkPair signs with s and verifies with v: two files that do not belong together must not get as far as a journal.
func checkPair(dir, what string, s note.Signer, v note.Verifier) error {
	// A checkpoint is the one text that both formats can sign.
	text := "kith-key-check\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return fmt.Errorf("checking %s key in %s: %w", what, dir, err)
	}
	if _, err := note.Open(signed, note.VerifierList(v)); err != nil {
		return fmt.Errorf("checking %s key in %s: signing and verifier key do not belong together: %w", what, filepath.Clean(dir), err)
	}
	return nil
}
