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

// OpenOperator loads, or at the first closing makes, the operator's key pair.
func OpenOperator(dir, network string) (note.Signer, note.Verifier, []byte, error) {
	name, skey, vkey := OperatorKeyName(network), filepath.Join(dir, FileOperatorSign), filepath.Join(dir, FileOperatorVerify)
	if _, err := os.Stat(skey); errors.Is(err, fs.ErrNotExist) {
		s, v, err := newNoteKey(name)
		if err != nil {
			return nil, nil, nil, err
		}
		// The verifier first: a crash between the two leaves no signing key, and the next try makes a fresh pair.
		if err := WriteFile(vkey, v, modePublic); err != nil {
			return nil, nil, nil, err
		}
		if err := WriteFile(skey, s, modePrivate); err != nil {
			return nil, nil, nil, err
		}
	}
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
