package storm

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kith/internal/journal"
	"kith/internal/pki"
)

// reserveBytes is the reserve that an opened copy lays down: the copy takes no leaf.
const reserveBytes = 1 << 16

// copyJournal copies what a dead edge left of its journal, so that a look at it cannot change what the next start finds.
func copyJournal(state, to string) error {
	return copyTree(state, to, func(name string) bool {
		return strings.HasPrefix(name, "journal.db") && !strings.HasSuffix(name, "-shm")
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

// copyTree copies a directory as somebody copies a card: files only, no sockets and no links.
func copyTree(from, to string, want func(name string) bool) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case d.Type().IsRegular() && want(d.Name()):
			return copyFile(path, target)
		}
		return nil
	})
}

// opened opens a journal directory of an edge as the edge itself does.
func (e *edge) opened(dir string, now func() time.Time) (*journal.Journal, error) {
	id, err := pki.OpenEdge(filepath.Join(e.dir, "identity"))
	if err != nil {
		return nil, err
	}
	return journal.Open(context.Background(), journal.Options{Dir: dir, Network: networkID, Node: e.node, Edge: e.id,
		Signer: id.Signer, Verifier: id.Verifier, Cosigner: id.CosignVerifier, Reserve: reserveBytes, Now: clockOf(now)})
}

// receiptsIn reads every receipt of a copied journal, and removes the copy.
func (e *edge) receiptsIn(dir string) ([]note, error) {
	defer os.RemoveAll(dir)
	j, err := e.opened(dir, nil)
	if err != nil {
		return nil, fmt.Errorf("the journal that a kill left does not open: %w", err)
	}
	defer j.Close()
	var out []note
	for _, epoch := range j.Epochs() {
		_, text := j.Receipt(epoch.Epoch)
		if len(text) == 0 {
			continue
		}
		n, err := readNote(string(text))
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

func everything(string) bool { return true }
