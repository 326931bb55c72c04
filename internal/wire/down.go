package wire

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

func (m *State) Encode() ([]byte, error) { return m.down().encode() }

func (m *State) down() codec {
	return codec{
		typ: "state",
		fields: []field{
			word("generation", &m.Generation), epochField(&m.Epoch), num("size", &m.Size), {name: "root", hex: m.Root[:]},
			word("status", &m.Status), num("limit", &m.Limit), flag("held", &m.Held), flag("duplicate", &m.Duplicate),
			num("backup", &m.Backup), num("credit", &m.Credit), word("boot", &m.Boot), num("seq", &m.Seq), word("challenge", &m.Challenge), flag("again", &m.Again),
		},
		size:  func() int { return len(m.Receipt) },
		write: func(b []byte) []byte { return append(b, m.Receipt...) },
		read:  readNote(&m.Receipt),
	}
}

func (m *Receipt) Encode() ([]byte, error) { return m.down().encode() }

func (m *Receipt) down() codec {
	return codec{
		typ: "receipt",
		fields: []field{
			word("generation", &m.Generation), epochField(&m.Epoch), num("size", &m.Size), num("backup", &m.Backup),
			num("credit", &m.Credit),
		},
		size:  func() int { return len(m.Note) },
		write: func(b []byte) []byte { return append(b, m.Note...) },
		read:  readNote(&m.Note),
	}
}

func (m *Need) Encode() ([]byte, error) { return m.down().encode() }

func (m *Need) down() codec {
	return codec{
		typ:    "need",
		fields: []field{word("generation", &m.Generation), epochField(&m.Epoch), num("from", &m.From)},
		size:   func() int { return 0 },
		write:  func(b []byte) []byte { return b },
		read:   empty,
	}
}

func (m *Conflict) Encode() ([]byte, error) { return m.down().encode() }

func (m *Conflict) down() codec {
	return codec{
		typ: "conflict",
		fields: []field{
			word("generation", &m.Generation), epochField(&m.Epoch), num("size", &m.Size), {name: "root", hex: m.Root[:]},
			{name: "why", why: &m.Why},
		},
		size:  func() int { return len(m.Receipt) },
		write: func(b []byte) []byte { return append(b, m.Receipt...) },
		read:  readNote(&m.Receipt),
	}
}

func (m *Roots) Encode() ([]byte, error) { return m.down().encode() }

func (m *Roots) down() codec {
	return codec{
		typ: "roots",
		fields: []field{
			word("generation", &m.Generation), epochField(&m.Epoch), {name: "sizes", list: &m.Sizes},
		},
		check: func() error {
			if m.Roots != nil && len(m.Roots) != len(m.Sizes) {
				return fmt.Errorf("%d roots for %d sizes", len(m.Roots), len(m.Sizes))
			}
			return nil
		},
		size: func() int { return 65 * len(m.Roots) },
		write: func(b []byte) []byte {
			for i := range m.Sizes {
				if i >= len(m.Roots) || m.Roots[i] == (tlog.Hash{}) {
					b = append(b, "-\n"...)
					continue
				}
				b = appendHashes(b, m.Roots[i:i+1])
			}
			return b
		},
		read: m.read,
	}
}

func (m *Roots) read(p []byte) error {
	m.Roots = make([]tlog.Hash, len(m.Sizes))
	for i := range m.Roots {
		l, err := line(&p)
		if err != nil {
			return err
		}
		if len(l) == 1 && l[0] == '-' {
			continue
		}
		if !decodeHex(m.Roots[i][:], string(l)) || m.Roots[i] == (tlog.Hash{}) {
			return fmt.Errorf("root line %d is not one", i)
		}
	}
	return empty(p)
}

func (m *RosterOffer) Encode() ([]byte, error) { return m.down().encode() }

func (m *RosterOffer) down() codec { return noteOnly("roster-offer", &m.Note) }

func (m *Ticket) Encode() ([]byte, error) { return m.down().encode() }

func (m *Ticket) down() codec { return noteOnly("ticket", &m.Note) }

func noteOnly(typ string, note *[]byte) codec {
	return codec{
		typ:   typ,
		size:  func() int { return len(*note) },
		write: func(b []byte) []byte { return append(b, *note...) },
		read:  readNote(note),
	}
}

func readNote(note *[]byte) func([]byte) error {
	return func(p []byte) (err error) {
		*note, err = rest(p)
		return err
	}
}

func (m *RosterPart) Encode() ([]byte, error) { return m.down().encode() }

func (m *RosterPart) down() codec {
	return codec{
		typ:    "roster-part",
		fields: []field{num("version", &m.Version), num("part", &m.Part), num("parts", &m.Parts)},
		check: func() error {
			if m.Part >= m.Parts || len(m.Bytes) > MaxRosterPart {
				return fmt.Errorf("part %d of %d, %d bytes", m.Part, m.Parts, len(m.Bytes))
			}
			return nil
		},
		size:  func() int { return len(m.Bytes) },
		write: func(b []byte) []byte { return append(b, m.Bytes...) },
		read: func(p []byte) error {
			if len(p) > MaxRosterPart {
				return fmt.Errorf("%d bytes, limit %d", len(p), MaxRosterPart)
			}
			m.Bytes = p
			return nil
		},
	}
}
