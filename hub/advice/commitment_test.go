package advice

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const madeText = `kith-commitment v1
network demo
made 1795255200
do place
action use
resource bed
measure night
quantity 3
provider porto
receiver lisbon
day 2026-11-21
until 2026-11-22
had 1
advice 26aef2f63fd28b23
reason Lisbon expects 15 people for 12 beds.
`

const cancelText = `kith-commitment-cancel v1
network demo
commitment 00000000000000000000000000000000000000000000000000000000000000ff
at 1795255260
reason the guests stay
`

func TestATextReadsBackAsItWasWritten(t *testing.T) {
	c, err := ParseCommitment([]byte(madeText))
	if err != nil {
		t.Fatal(err)
	}
	if c.Do != Place || c.Quantity != 3 || c.Until != c.Day+1 || c.Had != 1 || string(c.Text()) != madeText {
		t.Fatalf("%+v", c)
	}
	if sum := c.Digest(); c.Name() != fmt.Sprintf("%x", sum[:8]) {
		t.Error(c.Name())
	}
	x, err := ParseCancellation([]byte(cancelText))
	if err != nil || x.Commitment[31] != 0xff || x.Reason != "the guests stay" || string(x.Text()) != cancelText {
		t.Fatalf("%+v, %v", x, err)
	}
	bare := strings.Replace(cancelText, "reason the guests stay\n", "", 1)
	if x, err = ParseCancellation([]byte(bare)); err != nil || string(x.Text()) != bare {
		t.Fatal(err)
	}
	for _, do := range []Do{Place, Lend, Offer} {
		i := Item{ID: "26aef2f63fd28b23", Do: do, Kind: "bike", Measure: "hour", Provider: "porto", Receiver: "lisbon", Quantity: 9, Had: 2, Reason: "idle there"}
		if do == Offer {
			i.Receiver = ""
		}
		made := i.Commit("demo", 4, 1795255200)
		back, err := ParseCommitment(made.Text())
		if err != nil || *back != made || back.Quantity != 4 || back.Until-back.Day != do.Days() {
			t.Errorf("%s: %+v, %v", do, back, err)
		}
	}
}

func TestEveryOtherSpellingIsRefused(t *testing.T) {
	for name, change := range map[string][2]string{
		"another title": {"v1\n", "v2\n"}, "no network": {"network demo\n", ""}, "a name that is none": {"network demo", "network Demo"},
		"a signed number": {"quantity 3", "quantity +3"}, "nothing": {"quantity 3", "quantity 0"}, "leading zero": {"quantity 3", "quantity 03"},
		"too much": {"quantity 3", "quantity 1099511627777"}, "another verb": {"do place", "do sell"}, "another action": {"action use", "action consume"},
		"to itself": {"receiver lisbon", "receiver porto"}, "no receiver": {"receiver lisbon\n", ""}, "no date": {"2026-11-21", "2026-13-21"},
		"ends before it begins": {"until 2026-11-22", "until 2026-11-20"}, "no advice": {"26aef2f63fd28b23", "26aef2f6"}, "upper case": {"26aef2f63fd28b23", "26AEF2F63FD28B23"},
		"no reason": {"reason Lisbon expects 15 people for 12 beds.", "reason "}, "a spare line": {"beds.\n", "beds.\nmore\n"}, "no newline": {"beds.\n", "beds."},
		"a return": {"15 people", "15\rpeople"}, "a space at the end": {"beds.", "beds. "}, "no UTF-8": {"15 people", "15\xff people"}, "two spaces": {"had 1", "had  1"},
	} {
		text := strings.Replace(madeText, change[0], change[1], 1)
		if text == madeText {
			t.Fatalf("%s changes nothing", name)
		}
		if _, err := ParseCommitment([]byte(text)); !errors.Is(err, ErrText) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string][2]string{
		"another title": {"v1\n", "v2\n"}, "half a digest": {"commitment 00", "commitment "}, "no time": {"at 1795255260", "at now"}, "an empty reason": {"reason the guests stay", "reason "}, "a spare line": {"stay\n", "stay\n\n"},
	} {
		if _, err := ParseCancellation([]byte(strings.Replace(cancelText, change[0], change[1], 1))); !errors.Is(err, ErrText) {
			t.Errorf("cancel, %s: %v", name, err)
		}
	}
	if _, err := ParseCommitment([]byte(madeText + strings.Repeat("x", MaxText))); !errors.Is(err, ErrText) {
		t.Error(err)
	}
}

func TestAReasonIsOneLine(t *testing.T) {
	for _, bad := range []string{"a\nb", " a", "a\x00", strings.Repeat("a", MaxReason+1), "\xff"} {
		if !errors.Is(CheckReason(bad), ErrText) {
			t.Errorf("%.20q was taken", bad)
		}
	}
	if CheckReason("") != nil || CheckReason("o porquê") != nil {
		t.Error("a good reason was refused")
	}
	if short := shorten(strings.Repeat("ä ", MaxReason)); len(short) > MaxReason || CheckReason(short) != nil {
		t.Errorf("%d bytes", len(short))
	}
}

func FuzzTexts(f *testing.F) {
	f.Add([]byte(madeText))
	f.Add([]byte(cancelText))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := ParseCommitment(text); err == nil && string(c.Text()) != string(text) {
			t.Errorf("%q reads as %q", text, c.Text())
		}
		if c, err := ParseCancellation(text); err == nil && string(c.Text()) != string(text) {
			t.Errorf("%q reads as %q", text, c.Text())
		}
	})
}
