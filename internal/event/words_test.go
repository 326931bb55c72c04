package event

import (
	"strings"
	"testing"
)

func TestNamesFindsAWordWhereverAPartSaysIt(t *testing.T) {
	inner, err := Marshal(Private{At: 1, Member: "fay"})
	if err != nil {
		t.Fatal(err)
	}
	body, err := Marshal(ReplayedPrivate{Salt: "00", Private: string(inner)})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Marshal(Private{At: 2, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		string(inner): true,
		string(again): true,
		`{"at":1,"card":"uid:01","body":{"witness":"fay"}}`: true,
		`{"at":1,"body":{"list":[{"a":["fay"]}]}}`:          true,
		`{"at":1,"member":"f\u0061y"}`:                      true,
		`{"at":1,"member":"fayette","note":"fay was here"}`: false,
		`{"at":1,"member":"ana"}`:                           false,
		`fay`:                                               false,
		``:                                                  false,
		`{"fay`:                                             false,
	} {
		if got := Names([]byte(text), func(w string) bool { return w == "fay" }); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add([]byte(`{"at":1,"body":"{\"at\":1,\"body\":\"{\\\"member\\\":\\\"fay\\\"}\"}"}`))
	f.Add([]byte(strings.Repeat(`[`, 4000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > MaxPrivate {
			return
		}
		calls := 0
		Names(b, func(string) bool { calls++; return false })
		if calls > (maxWithin+1)*len(b) {
			t.Fatalf("%d words in %d bytes", calls, len(b))
		}
	})
}

// The "b" is a card's key beside the member whose card it is.
func TestAKeyNamesNobody(t *testing.T) {
	const part = `{"at":1,"mono":2,"member":"note","body":{"note":"x","list":["key",{"witness":"a"}],"key":"b"}}`
	for w, want := range map[string]bool{"member": false, "mono": false, "body": false, "witness": false, "list": false,
		"note": true, "x": true, "key": true, "a": true, "b": false} {
		if got := Names([]byte(part), func(s string) bool { return s == w }); got != want {
			t.Errorf("%s: %v", w, got)
		}
	}
}

func TestAGrantThatIsSpeltLikeAPersonNamesNobody(t *testing.T) {
	is := func(s string) bool { return s == "front" }
	tap, err := Marshal(TapPrivate{Grant: "front", Rule: "front"})
	if err != nil {
		t.Fatal(err)
	}
	entry, err := Marshal(EntryPrivate{Reader: "front", ToMember: "ana"})
	if err != nil {
		t.Fatal(err)
	}
	if Names(tap, is) || Names(entry, is) {
		t.Error("a thing is taken for a person")
	}
	if entry, err = Marshal(EntryPrivate{Reader: "front", WitnessMember: "front"}); err != nil || !Names(entry, is) {
		t.Errorf("the person beside the thing is not seen: %v", err)
	}
}

func TestACardNamesWhoHadItThen(t *testing.T) {
	is := func(s string) bool { return s == "uid:04a1" || s == "zeph" }
	for text, want := range map[string]bool{
		`{"at":1,"member":"bo","card":"uid:04a1"}`:                                                   false, // it was Bo's then
		`{"at":1,"card":"uid:04a1","member":"bo","body":{"us":1}}`:                                   false,
		`{"at":1,"member":"bo","card":"uid:04b2","body":{"witness":"cy","witness_card":"uid:04a1"}}`: false,
		`{"at":1,"card":"uid:04a1"}`:                                                                 true, // nobody's that is known
		`{"at":1,"member":"","card":"uid:04a1"}`:                                                     true,
		`{"at":1,"member":"bo","card":"uid:04b2","body":{"witness_card":"uid:04a1"}}`:                true,
		`{"at":1,"member":"zeph","card":"uid:04b2"}`:                                                 true,
		`{"at":1,"member":"bo","body":{"witness":"zeph","witness_card":"uid:04c3"}}`:                 true,
		`{"at":1,"member":"bo","card":"uid:04b2","body":{"other":"uid:04a1"}}`:                       true, // a key that is unknown here
		`{"at":1,"member":"bo","body":{"private":"{\"at\":1,\"card\":\"uid:04a1\"}"}}`:               true,
		`{"at":1,"body":{"private":"{\"at\":1,\"member\":\"bo\",\"card\":\"uid:04a1\"}"}}`:           false,
	} {
		if got := Names([]byte(text), is); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
