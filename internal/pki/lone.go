package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
)

// OpenLone loads, or at the first start makes, the key pair of an edge that has no hub: it signs its own checkpoints, so
// that its journal can be verified and can join a network later. There is no certificate and nobody to co-sign.
func OpenLone(dir, network, node, edge string) (note.Signer, note.Verifier, error) {
	name := EdgeKeyName(network, node, edge)
	skey := filepath.Join(dir, FileEdgeSign)
	if _, err := os.Stat(skey); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, nil, fmt.Errorf("making the edge's keys: %w", err)
		}
		s, v, err := newNoteKey(name)
		if err != nil {
			return nil, nil, err
		}
		// The verifier first: a crash between the two leaves no signing key, and the next start makes a fresh pair.
		if err := WriteFile(filepath.Join(dir, FileEdgeVerify), v, 0o644); err != nil {
			return nil, nil, err
		}
		if err := WriteFile(skey, s, 0o600); err != nil {
			return nil, nil, err
		}
	}
	signer, err := LoadSigner(skey)
	if err != nil {
		return nil, nil, err
	}
	verifier, err := LoadVerifier(filepath.Join(dir, FileEdgeVerify))
	if err != nil {
		return nil, nil, err
	}
	if signer.Name() != name || verifier.Name() != name || signer.KeyHash() != verifier.KeyHash() {
		return nil, nil, fmt.Errorf("keys in %s are those of %s, not of %s", dir, signer.Name(), name)
	}
	return signer, verifier, nil
}
