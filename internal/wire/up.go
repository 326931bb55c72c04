package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

func (m *Hello) Encode() ([]byte, error) { return m.up().encode() }

func (m *Hello) up() codec {
	length := uint64(len(m.Checkpoint))
	return codec{
		typ: "hello",
		fields: []field{
			word("boot", &m.Boot), word("disk", &m.Disk), num("seq", &m.Seq), word("challenge", &m.Challenge),
			word("generation", &m.Generation), epochField(&m.Epoch), num("size", &m.Size), num("receipt", &m.ReceiptSize),
			num("roster", &m.Roster), flag("degraded", &m.Degraded), num("checkpoint", &length),
		},
		check: func() error {
			if length > MaxNote || (length == 0) != (m.Size == 0) {
				return fmt.Errorf("a checkpoint of %d bytes for %d leaves", length, m.Size)
			}
			return nil
		},
		size:  func() int { return len(m.Checkpoint) + len(m.Receipt) },
		write: func(b []byte) []byte { return append(append(b, m.Checkpoint...), m.Receipt...) },
		read: func(p []byte) (err error) {
			if length > 0 {
				if m.Checkpoint, err = take(&p, length); err != nil {
					return err
				}
			}
			m.Receipt, err = rest(p)
			return err
		},
	}
}

// Encode writes the batch. Leaves hold no newline, since each is one line of JSON.
func (m *Batch) Encode() ([]byte, error) { return m.up().encode() }

func (m *Batch) up() codec {
	leaves, private := uint64(len(m.Leaves)), m.Private != nil
	return codec{
		typ:    "batch",
		fields: []field{epochField(&m.Epoch), num("from", &m.From), num("leaves", &leaves), flag("private", &private)},
		check: func() error {
			if leaves == 0 || leaves > MaxBatchLeaves {
				return fmt.Errorf("%d leaves, want 1 to %d", leaves, MaxBatchLeaves)
			}
			if m.Private != nil && uint64(len(m.Private)) != leaves {
				return fmt.Errorf("%d private parts for %d leaves", len(m.Private), leaves)
			}
			for i := range m.Leaves {
				if bytes.IndexByte(m.Leaves[i], '\n') >= 0 {
					return fmt.Errorf("leaf %d has a newline", i)
				}
			}
			return nil
		},
		size:  m.payload,
		write: m.write,
		read:  func(p []byte) error { return m.read(p, leaves, private) },
	}
}

func (m *Batch) payload() int {
	n := len(m.Checkpoint)
	for i := range m.Leaves {
		n += len(m.Leaves[i]) + 1
	}
	for i := range m.Private {
		n += len(m.Private[i].Bytes) + 66
	}
	return n
}

func (m *Batch) write(b []byte) []byte {
	for _, l := range m.Leaves {
		b = append(append(b, l...), '\n')
	}
	for i := range m.Private {
		b = m.Private[i].append(b)
	}
	return append(b, m.Checkpoint...)
}

func (p *Private) append(b []byte) []byte {
	if p.Bytes == nil {
		return append(b, "-\n"...)
	}
	b = hex.AppendEncode(b, p.Salt[:])
	b = append(b, ' ')
	b = append(b, p.Bytes...)
	return append(b, '\n')
}

func (m *Batch) read(p []byte, leaves uint64, private bool) (err error) {
	whole := p
	m.Leaves = make([][]byte, leaves)
	for i := range m.Leaves {
		if m.Leaves[i], err = line(&p); err != nil {
			return fmt.Errorf("leaf %d: %w", i, err)
		}
	}
	m.Bundle = whole[: len(whole)-len(p)-1 : len(whole)-len(p)-1]
	if private {
		m.Private = make([]Private, leaves)
		for i := range m.Private {
			l, err := line(&p)
			if err != nil {
				return fmt.Errorf("private part %d: %w", i, err)
			}
			if err := m.Private[i].parse(l); err != nil {
				return fmt.Errorf("private part %d: %w", i, err)
			}
		}
	}
	m.Checkpoint, err = rest(p)
	return err
}

func (p *Private) parse(l []byte) error {
	if len(l) == 1 && l[0] == '-' {
		return nil
	}
	if len(l) < 66 || l[64] != ' ' || !lowerHex(l[:64]) {
		return errors.New("neither '-' nor a salt and a private part")
	}
	if _, err := hex.Decode(p.Salt[:], l[:64]); err != nil {
		return err
	}
	p.Bytes = l[65:]
	return nil
}

func lowerHex(b []byte) bool {
	for _, c := range b {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

func (m *Head) Encode() ([]byte, error) { return m.up().encode() }

func (m *Head) up() codec {
	return codec{
		typ:    "head",
		fields: []field{epochField(&m.Epoch), num("size", &m.Size)},
		size:   func() int { return len(m.Checkpoint) },
		write:  func(b []byte) []byte { return append(b, m.Checkpoint...) },
		read: func(p []byte) (err error) {
			m.Checkpoint, err = rest(p)
			return err
		},
	}
}

func (m *RootsGet) Encode() ([]byte, error) { return m.up().encode() }

func (m *RootsGet) up() codec {
	return codec{
		typ:    "roots-get",
		fields: []field{epochField(&m.Epoch), {name: "sizes", list: &m.Sizes}},
		size:   func() int { return 20 * MaxSizes },
		write:  func(b []byte) []byte { return b },
		read:   empty,
	}
}

func (m *Bridge) Encode() ([]byte, error) { return m.up().encode() }

func (m *Bridge) up() codec {
	subtrees, proof, ahead := uint64(len(m.Subtrees)), uint64(len(m.Proof)), uint64(len(m.Ahead))
	length := uint64(len(m.Checkpoint))
	return codec{
		typ: "bridge",
		fields: []field{
			epochField(&m.Epoch), num("old", &m.Old), num("new", &m.New), num("receipt", &m.ReceiptSize),
			num("subtrees", &subtrees), num("proof", &proof), num("ahead", &ahead), num("checkpoint", &length),
		},
		check: func() error {
			if subtrees > MaxHashes || proof > MaxHashes || ahead > MaxHashes || length > MaxNote {
				return errors.New("too many hashes or too long a note")
			}
			return nil
		},
		size: func() int {
			return 65*len(m.Subtrees) + 65*len(m.Proof) + 65*len(m.Ahead) + len(m.Checkpoint) + len(m.Receipt)
		},
		write: func(b []byte) []byte {
			for _, part := range [][]tlog.Hash{m.Subtrees, m.Proof, m.Ahead} {
				b = appendHashes(b, part)
			}
			return append(append(b, m.Checkpoint...), m.Receipt...)
		},
		read: func(p []byte) (err error) {
			if m.Subtrees, err = readHashes(&p, subtrees); err != nil {
				return err
			}
			if m.Proof, err = readHashes(&p, proof); err != nil {
				return err
			}
			if m.Ahead, err = readHashes(&p, ahead); err != nil {
				return err
			}
			if m.Checkpoint, err = take(&p, length); err != nil {
				return err
			}
			m.Receipt, err = rest(p)
			return err
		},
	}
}

func (m *RosterGet) Encode() ([]byte, error) { return m.up().encode() }

func (m *RosterGet) up() codec {
	return codec{
		typ:    "roster-get",
		fields: []field{num("version", &m.Version), num("part", &m.Part)},
		size:   func() int { return 0 },
		write:  func(b []byte) []byte { return b },
		read:   empty,
	}
}

func empty(p []byte) error {
	if len(p) > 0 {
		return fmt.Errorf("%d bytes of payload, want none", len(p))
	}
	return nil
}
