package card

import (
	"errors"
	"fmt"
)

// ErrMalformed says that the other side's bytes do not parse. Nothing in them is to be believed.
var ErrMalformed = errors.New("malformed message")

// field is one tag of a BER-TLV list. Its value aliases the message.
type field struct {
	tag   uint32
	value []byte
}

// nextField cuts the first field off b. It reads tags of up to three bytes and definite, shortest lengths of up to two bytes
// (ISO 7816-4 5.2.2): more cannot fit a short APDU, so a length like 84 FFFFFFFF is refused where it stands, before anything
// is sized by it. Nothing is copied.
func nextField(b []byte) (field, []byte, error) {
	tag, rest, err := cutTag(b)
	if err != nil {
		return field{}, nil, err
	}
	n, rest, err := cutLength(rest)
	if err != nil {
		return field{}, nil, err
	}
	if n > len(rest) {
		return field{}, nil, fmt.Errorf("tag %X announces %d bytes and %d are left: %w", tag, n, len(rest), ErrMalformed)
	}
	return field{tag: tag, value: rest[:n:n]}, rest[n:], nil
}

func cutTag(b []byte) (uint32, []byte, error) {
	if len(b) == 0 {
		return 0, nil, fmt.Errorf("no tag: %w", ErrMalformed)
	}
	tag := uint32(b[0])
	if b[0]&0x1F != 0x1F {
		return tag, b[1:], nil
	}
	for i := 1; i < len(b) && i <= 2; i++ {
		tag = tag<<8 | uint32(b[i])
		if b[i]&0x80 == 0 {
			return tag, b[i+1:], nil
		}
	}
	return 0, nil, fmt.Errorf("tag %X does not end: %w", tag, ErrMalformed)
}

func cutLength(b []byte) (int, []byte, error) {
	switch {
	case len(b) >= 1 && b[0] < 0x80:
		return int(b[0]), b[1:], nil
	case len(b) >= 2 && b[0] == 0x81 && b[1] >= 0x80:
		return int(b[1]), b[2:], nil
	case len(b) >= 3 && b[0] == 0x82 && b[1] != 0:
		return int(b[1])<<8 | int(b[2]), b[3:], nil
	}
	return 0, nil, fmt.Errorf("length field is cut off, indefinite, not the shortest, or beyond two bytes: %w", ErrMalformed)
}

// slot is one tag that a message may carry once, and where its value goes.
type slot struct {
	tag   uint32
	value *[]byte
}

// fill walks a TLV list in any order, puts known values into their slots, skips unknown tags and refuses duplicates of known
// ones: with two answers under one tag, two readers of the same bytes could disagree on what was proved.
func fill(b []byte, slots []slot) error {
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		b = rest
		for _, s := range slots {
			if s.tag != f.tag {
				continue
			}
			if *s.value != nil {
				return fmt.Errorf("tag %X appears twice: %w", f.tag, ErrMalformed)
			}
			*s.value = f.value
		}
	}
	return nil
}
