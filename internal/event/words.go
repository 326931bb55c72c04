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
// this, so it errs to the side of yes only in that a word of another meaning counts too; a part that is no JSON names nobody.
func Names(part []byte, is func(word string) bool) bool { return names(part, is, maxWithin) }

func names(text []byte, is func(string) bool, within int) bool {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err != nil {
			return false
		}
		word, ok := token.(string)
		if !ok {
			continue
		}
		if is(word) {
			return true
		}
		if within > 0 && strings.HasPrefix(word, "{") && names([]byte(word), is, within-1) {
			return true
		}
	}
}
