package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// decodeDocument reads a document one list element at a time: a decoder that is asked for the whole keeps a second copy of
// the text, up to twice its size, on a machine that has little. Keys at the top are taken exactly as they are written.
func decodeDocument(dec *json.Decoder) (d Document, err error) {
	if err := delimiter(dec, '{'); err != nil {
		return d, err
	}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return d, err
		}
		key, _ := token.(string)
		switch key {
		case "network":
			err = dec.Decode(&d.Network)
		case "node":
			err = dec.Decode(&d.Node)
		case "version":
			err = dec.Decode(&d.Version)
		case "issued":
			err = dec.Decode(&d.Issued)
		case "zone":
			err = dec.Decode(&d.Zone)
		case "groups":
			err = decodeList(dec, &d.Groups, nil)
		case "members":
			err = decodeList(dec, &d.Members, shareWords())
		case "cards":
			err = decodeList(dec, &d.Cards, nil)
		case "schedules":
			err = decodeList(dec, &d.Schedules, nil)
		case "grants":
			err = decodeList(dec, &d.Grants, nil)
		case "closed":
			err = decodeList(dec, &d.Closed, nil)
		case "resources":
			err = decodeList(dec, &d.Resources, nil)
		default:
			err = errors.New("unknown field")
		}
		if err != nil {
			return d, fmt.Errorf("%.40q: %w", key, err)
		}
	}
	return d, delimiter(dec, '}')
}

// shareWords lets people of one house and of the same groups share the text of these, which each would else have for
// themselves.
func shareWords() func(*Member) {
	known := map[string]string{}
	share := func(s *string) {
		if have, ok := known[*s]; ok {
			*s = have
		} else if len(known) < MaxGroups {
			known[*s] = *s
		}
	}
	return func(m *Member) {
		share(&m.Home)
		share(&m.Role)
		m.Groups = slices.Clone(m.Groups)
		for i := range m.Groups {
			share(&m.Groups[i])
		}
	}
}

// decodeList appends the elements of a list, each after tidy has seen it; null is an empty list.
func decodeList[T any](dec *json.Decoder, list *[]T, tidy func(*T)) error {
	token, err := dec.Token()
	if err != nil || token == nil {
		return err
	}
	if token != json.Delim('[') {
		return errors.New("want a list")
	}
	for dec.More() {
		var one T
		if err := dec.Decode(&one); err != nil {
			return err
		}
		if tidy != nil {
			tidy(&one)
		}
		*list = append(*list, one)
	}
	return delimiter(dec, ']')
}

func delimiter(dec *json.Decoder, want json.Delim) error {
	token, err := dec.Token()
	switch {
	case err == io.EOF && want != '{':
		return io.ErrUnexpectedEOF
	case err == nil && token != want:
		return fmt.Errorf("want %v", want)
	}
	return err
}
