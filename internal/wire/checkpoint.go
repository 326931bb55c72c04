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
