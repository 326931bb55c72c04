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
// this, so a key that is unknown here counts; the rights and readers that [TapPrivate] and [EntryPrivate] name do not, since
// a grant that is spelt like a member's id would cost everybody's parts. A part that is no JSON names nobody.
func Names(part []byte, is func(word string) bool) bool { return names(part, is, maxWithin) }

func names(text []byte, is func(string) bool, within int) bool {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var objects []bool // of what is open: whether it is an object
	key := false       // the next word is a key, and names nobody
	thing := false     // the next word is the name of a thing
	for {
		token, err := dec.Token()
		if err != nil {
			return false
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				objects = append(objects, t == '{')
				key, thing = t == '{', false
				continue
			}
			objects = objects[:len(objects)-1]
		case string:
			if key {
				key, thing = false, t == "grant" || t == "rule" || t == "reader"
				continue
			}
			if !thing && is(t) || within > 0 && strings.HasPrefix(t, "{") && names([]byte(t), is, within-1) {
				return true
			}
		}
		key = len(objects) > 0 && objects[len(objects)-1]
	}
}
