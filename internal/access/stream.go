package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// CompileJSON compiles a document without ever holding it: open hands out its text from the beginning, twice, as ParseJSON
// takes it. What it reads and what it returns are bound by the limits of a document; the caller proves that both readings
// were of the bytes that the hub signed.
func CompileJSON(open func() io.Reader) (*Roster, error) {
	seen, err := checkShape(bounded(open()))
	if err != nil {
		return nil, fmt.Errorf("parsing roster: %w", err)
	}
	var d Document
	c := newCompiler(&d, seen)
	if !c.fits() {
		return nil, c.err()
	}
	if err := decodeDocument(bounded(open()), &d, c.member, c.card); err != nil {
		return nil, fmt.Errorf("parsing roster %w", err)
	}
	if !c.fits() {
		return nil, c.err()
	}
	return c.end()
}

// errMore says that a document is not the one whose shape was looked at.
var errMore = errors.New("more people or cards than a moment ago: its file was changed meanwhile")

func bounded(r io.Reader) io.Reader { return &limited{r, MaxDocumentBytes} }

// limited is a reader that says when there is more than a limit, instead of ending there.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("it exceeds the limit of %d bytes", MaxDocumentBytes)
	}
	return n, err
}

// decodeDocument reads a document one list element at a time: a decoder that is asked for the whole keeps a second copy of
// the text, up to twice its size, on a machine that has little. People and cards go to whoever takes them, who keeps
// nothing of the value; the rest goes into d. Keys at the top are taken exactly as they are written, and in the order of
// Document's fields, so that nobody has to wait for what stands behind.
func decodeDocument(r io.Reader, d *Document, member func(*Member) error, card func(*Card) error) error {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	err := decodeFields(dec, d, member, card)
	if err == nil {
		if _, err = dec.Token(); err == io.EOF {
			return nil
		}
		err = errors.New("more bytes after the document's end")
	}
	return fmt.Errorf("near byte %d: %w", dec.InputOffset(), err)
}

func decodeFields(dec *json.Decoder, d *Document, member func(*Member) error, card func(*Card) error) error {
	if err := delimiter(dec, '{'); err != nil {
		return err
	}
	last := -1
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		at := slices.Index(fieldNames(), key)
		switch {
		case at < 0:
			return fmt.Errorf("%.40q: unknown field", key)
		case at <= last:
			return fmt.Errorf("%q: comes too late; the order is %s", key, strings.Join(fieldNames(), ", "))
		}
		last = at
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
			err = decodeList(dec, &d.Groups, MaxGroups)
		case "members":
			var one Member
			err = eachElement(dec, &one, func() error {
				groups := one.Groups
				err := member(&one)
				clear(groups)
				one = Member{Groups: groups[:0]}
				return err
			})
		case "cards":
			var one Card
			err = eachElement(dec, &one, func() error {
				err := card(&one)
				one = Card{}
				return err
			})
		case "schedules":
			err = decodeList(dec, &d.Schedules, MaxSchedules)
		case "grants":
			err = decodeList(dec, &d.Grants, MaxGrants)
		case "closed":
			err = decodeList(dec, &d.Closed, MaxClosed)
		case "resources":
			err = decodeList(dec, &d.Resources, MaxResources)
		case "erasure_key":
			err = dec.Decode(&d.ErasureKey)
		case "erased":
			err = decodeList(dec, &d.Erased, MaxErased)
		}
		if err != nil {
			return fmt.Errorf("%.40q: %w", key, err)
		}
	}
	return delimiter(dec, '}')
}

// fieldNames are Document's, in the order in which they stand.
func fieldNames() []string {
	return []string{"network", "node", "version", "issued", "zone", "groups", "members", "cards", "schedules", "grants", "closed", "resources",
		"erasure_key", "erased"}
}

// keep returns what takes people and cards into d. People of one house and of the same groups share the text of these,
// which each would else have for themselves.
func keep(d *Document) (member func(*Member) error, card func(*Card) error) {
	known := map[string]string{}
	share := func(s *string) {
		if have, ok := known[*s]; ok {
			*s = have
		} else if len(known) < MaxGroups {
			known[*s] = *s
		}
	}
	member = func(m *Member) error {
		if len(d.Members) == MaxMembers {
			return fmt.Errorf("more than %d", MaxMembers)
		}
		d.Members = append(d.Members, *m)
		m = &d.Members[len(d.Members)-1]
		share(&m.Home)
		share(&m.Role)
		if m.Groups = slices.Clone(m.Groups); len(m.Groups) == 0 {
			m.Groups = nil
		}
		for i := range m.Groups {
			share(&m.Groups[i])
		}
		return nil
	}
	card = func(k *Card) error {
		if len(d.Cards) == MaxCards {
			return fmt.Errorf("more than %d", MaxCards)
		}
		d.Cards = append(d.Cards, *k)
		return nil
	}
	return member, card
}

// decodeList appends the elements of a list.
func decodeList[T any](dec *json.Decoder, list *[]T, limit int) error {
	var one T
	return eachElement(dec, &one, func() error {
		if len(*list) == limit {
			return fmt.Errorf("more than %d", limit)
		}
		*list = append(*list, one)
		var none T
		one = none
		return nil
	})
}

// eachElement decodes the elements of a list into one place, one after the other; null is an empty list.
func eachElement[T any](dec *json.Decoder, one *T, take func() error) error {
	token, err := dec.Token()
	if err != nil || token == nil {
		return err
	}
	if token != json.Delim('[') {
		return errors.New("want a list")
	}
	for dec.More() {
		if err := dec.Decode(one); err != nil {
			return err
		}
		if err := take(); err != nil {
			return err
		}
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
