package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
)

// The operator's key closes periods: it signs statements, the manifests of audit bundles, public reports and commitments, and
// each of these texts begins with a format line of its own. It is apart from the hub's key, so that whoever closes can later
// be somebody else than the machine that collects.
const (
	FileOperatorSign   = "operator.skey"
	FileOperatorVerify = "operator.vkey"
)

// OperatorKeyName is the note key name of who closes a network's periods.
func OperatorKeyName(network string) string { return network + "/operator" }

// MakeOperator makes the operator's key pair where there is none. [Create] does so for a new network: whoever puts keys/ away
// on the first day has all of them.
func MakeOperator(dir, network string) error {
	sign, verify, err := newNoteKey(OperatorKeyName(network))
	if err != nil {
		return err
	}
	skey, vkey := filepath.Join(dir, FileOperatorSign), filepath.Join(dir, FileOperatorVerify)
	for _, file := range []string{skey, vkey} {
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("making %s: %w: keys are never overwritten", file, ErrExists)
		}
	}
	if err := WriteFile(vkey, verify, modePublic); err != nil { // a crash after this leaves a key that signs nothing
		return err
	}
	return WriteFile(skey, sign, modePrivate)
}

// OpenOperator loads the operator's key pair. It makes none: under another key nobody could tell the next period from a
// stranger's.
func OpenOperator(dir, network string) (note.Signer, note.Verifier, []byte, error) {
	name, skey, vkey := OperatorKeyName(network), filepath.Join(dir, FileOperatorSign), filepath.Join(dir, FileOperatorVerify)
	signer, err := LoadSigner(skey)
	if err != nil {
		return nil, nil, nil, err
	}
	verifier, err := LoadVerifier(vkey)
	if err != nil {
		return nil, nil, nil, err
	}
	if signer.Name() != name || verifier.Name() != name {
		return nil, nil, nil, fmt.Errorf("reading %s: the key is named %s, not %s", skey, signer.Name(), name)
	}
	if err := checkPair(dir, "operator", signer, verifier); err != nil {
		return nil, nil, nil, err
	}
	text, err := ReadPublic(vkey)
	return signer, verifier, text, err
}
