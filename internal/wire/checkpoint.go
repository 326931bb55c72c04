package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"kith/internal/event"
)

// Checkpoint is the body of a C2SP checkpoint (c2sp.org/tlog-checkpoint) of one epoch of one edge: three lines, no
// extension lines, since what nobody reads nobody should sign.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   tlog.Hash
}

// Origin is the first line of every checkpoint of one epoch.
func Origin(network, node, edge string, epoch event.Epoch) string {
	return "kith." + network + "/" + node + "/" + edge + "/" + epoch.String()
}

// Text writes the body that is signed.
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// ParseCheckpoint reads the body of a note: exactly what Text writes.
func ParseCheckpoint(text string) (Checkpoint, error) {
	var c Checkpoint
	origin, rest, ok := strings.Cut(text, "\n")
	size, rest, ok2 := strings.Cut(rest, "\n")
	root, rest, ok3 := strings.Cut(rest, "\n")
	if !ok || !ok2 || !ok3 || rest != "" || origin == "" {
		return c, errors.New("checkpoint: want three lines: origin, size, root")
	}
	n, err := strconv.ParseUint(size, 10, 62)
	if err != nil || strconv.FormatUint(n, 10) != size {
		return c, fmt.Errorf("checkpoint: size %q is not a number below 2^62", clip(size))
	}
	hash, err := base64.StdEncoding.Strict().DecodeString(root)
	if err != nil || len(hash) != tlog.HashSize {
		return c, errors.New("checkpoint: root is not 32 bytes of base64")
	}
	return Checkpoint{Origin: origin, Size: n, Root: tlog.Hash(hash)}, nil
}

// OneSpelling refuses what golang.org/x/mod/sumdb/note passes over when it opens a note: more or fewer signature lines than
// wanted, spare words, and the bits that base64 leaves unused in the last digit of a signature. A note that may be spelt in
// two ways could be changed on a disk or in an export without any signature failing, and two honest copies could differ.
// Call it beside note.Open, never instead.
func OneSpelling(text []byte, signatures int) error {
	_, lines, ok := strings.Cut(string(text), "\n\n")
	if n := strings.Count(lines, "\n"); !ok || n != signatures {
		return fmt.Errorf("note: %d signature lines, want %d", n, signatures)
	}
	for line := range strings.Lines(lines) {
		rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "\u2014 ")
		name, sig, ok2 := strings.Cut(rest, " ")
		if !ok || !ok2 || name == "" {
			return errors.New("note: a signature line is a dash, a name and the signature")
		}
		if raw, err := base64.StdEncoding.Strict().DecodeString(sig); err != nil || base64.StdEncoding.EncodeToString(raw) != sig {
			return fmt.Errorf("note: the signature of %s is not in canonical base64", Plain(name))
		}
	}
	return nil
}
