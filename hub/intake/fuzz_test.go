package intake

import (
	"testing"

	"kith/internal/event"
)

// The short way to a part's time must never say another time than the parser that the projections use.
func FuzzLeadingAt(f *testing.F) {
	for _, s := range []string{`{"at":1790000000000,"mono":5,"member":"ana","body":{"us":310}}`, `{"at":5,"AT":6}`, `{"at":5,"aT":6,"body":{}}`, `{"at":-1,"x":0}`,
		`{"at":5,"\u0061t":6}`, `{"at":"5","x":0}`, `{"at":5}`, `{"mono":1,"at":5}`, `{"at":[1,2],"x":0}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, part []byte) {
		at, ok := leadingAt(part)
		if event.CheckJSON(part) != nil || !ok {
			return
		}
		if p, err := event.ParsePrivate(part); err == nil && p.At != at {
			t.Fatalf("%q: %d the short way, %d the long way", part, at, p.At)
		}
	})
}
