package storm

import (
	"testing"

	"kith/internal/event"
)

// The excuse of a grant that came before the board had spoken holds for that grant and no other.
func TestOnlyAReleaseThatWasOverBeforeTheBoardSpokeIsEarly(t *testing.T) {
	door := func(boot string, mono int64, body string) event.Leaf {
		return event.Leaf{Kind: event.KindDoor, Boot: boot, Mono: mono, Body: []byte(body)}
	}
	const unlocked, relocked, heard = `{"door":"front","state":"unlocked","why":"tap"}`, `{"door":"front","state":"relocked","why":"not opened"}`, `{"door":"front","state":"closed","why":"start"}`
	tap := &bookTap{boot: "b", mono: 100}
	for name, c := range map[string]struct {
		leaves []event.Leaf
		early  bool
	}{
		"the board spoke after it was over":       {[]event.Leaf{door("b", 110, unlocked), door("b", 210, relocked), door("b", 220, heard)}, true},
		"the board spoke while it lasted":         {[]event.Leaf{door("b", 110, unlocked), door("b", 150, heard), door("b", 210, relocked)}, false},
		"the board had spoken":                    {[]event.Leaf{door("b", 50, heard), door("b", 110, unlocked), door("b", 210, relocked)}, false},
		"the board spoke in another life":         {[]event.Leaf{door("b", 210, relocked), door("c", 220, heard)}, false},
		"the board had spoken, and another start": {[]event.Leaf{door("b", 50, heard), door("b", 210, relocked), door("b", 220, heard)}, false},
		"an earlier release was over":             {[]event.Leaf{door("b", 90, relocked), door("b", 95, heard)}, false},
		"nothing is said":                         {nil, false},
	} {
		m := match{leaves: c.leaves}
		if m.early(tap) != c.early {
			t.Errorf("%s: early is %v", name, !c.early)
		}
	}
}
