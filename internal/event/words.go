package event

import (
	"bytes"
	"encoding/json"
	"strings"
)

// maxWithin bounds how often a text may stand within a text: a part that was carried over once stands within another.
const maxWithin = 3

// Names reports whether a private part says a word for which is holds: any string value as a whole, wherever it stands, and
// also in a part that was carried over from an old epoch and stands within this one as a text. Whoever erases a person asks
// this, so a key that is unknown here counts. Two kinds of words name nobody: the rights and readers of [TapPrivate] and
// [EntryPrivate], since a grant that is spelt like a member's id would cost everybody's parts; and a card or its key beside the
// member whose card it was then, or the witness, since cards change hands, and what Ben did with one is not forgotten with Ana,
// who had it later. A part that is no JSON names nobody.
func Names(part []byte, is func(word string) bool) bool { return names(part, is, maxWithin) }

func names(text []byte, is func(string) bool, within int) bool {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var (
		objects []bool            // of what is open: whether it is an object
		expect  bool              // the next word is a key
		key     string            // of the value that comes
		cards   [persons][]string // to be asked for once it is known that nobody stands beside
		beside  [persons]bool
	)
	for {
		token, err := dec.Token()
		if err != nil {
			break
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				objects = append(objects, t == '{')
				expect = t == '{'
				continue
			}
			objects = objects[:len(objects)-1]
		case string:
			if expect {
				key, expect = t, false
				continue
			}
			switch key {
			case "grant", "rule", "reader":
			case "card", "key":
				cards[owner] = append(cards[owner], t)
			case "witness_card", "witness_key":
				cards[witness] = append(cards[witness], t)
			default:
				beside[owner] = beside[owner] || key == "member" && t != ""
				beside[witness] = beside[witness] || key == "witness" && t != ""
				if is(t) || within > 0 && strings.HasPrefix(t, "{") && names([]byte(t), is, within-1) {
					return true
				}
			}
		}
		expect = len(objects) > 0 && objects[len(objects)-1]
	}
	for who, list := range cards {
		for _, c := range list {
			if !beside[who] && is(c) {
				return true
			}
		}
	}
	return false
}

// Whose card stands in a part.
const (
	owner = iota
	witness
	persons
)
