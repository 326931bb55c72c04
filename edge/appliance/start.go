package appliance

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"kith/internal/pki"
)

// start counts the starts of one state directory. Disk is drawn once: two running copies of one disk show the same, which
// is how the hub recognises a clone.
type start struct {
	Disk   string `json:"disk"`
	Starts uint64 `json:"starts"`
}

// maxStartFile is the size in bytes beyond which the file is not ours.
const maxStartFile = 4096

// nextStart reads, raises and writes the count. A damaged file is a new disk: losing the count loses no fact.
func nextStart(path string) (start, error) {
	var s start
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil: // a sector that cannot be read: the doors need this file least of all
	case len(b) > maxStartFile || json.Unmarshal(b, &s) != nil || len(s.Disk) != 32:
		s = start{}
	}
	if s.Disk == "" {
		var id [16]byte
		rand.Read(id[:])
		s.Disk = hex.EncodeToString(id[:])
	}
	s.Starts++
	b, err = json.Marshal(s)
	if err != nil {
		return s, err
	}
	if err := pki.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		// A full disk must not keep doors from deciding; the hub then sees one start number twice with another boot id.
		return s, nil
	}
	return s, nil
}
