package servicelog

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"kith/internal/access"
	"kith/internal/event"
)

var hour = 472222 * event.HourMS

func leaf(t testing.TB, kind event.Kind, v any) event.Leaf {
	t.Helper()
	b, err := event.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return event.Leaf{Network: "demo", Node: "lisbon", Edge: "lisbon-front", Epoch: event.Epoch{1}, Index: 4, Kind: kind, At: hour,
		Clock: event.Synced, Boot: "0123456789abcdef", Body: b}
}

var granted = event.Tap{Door: "front", Reader: "r1", Direction: "in", Verdict: Grant, Reason: "granted", Assurance: "pkoc", Roster: 7}

func TestATapTellsWhoWhereAndWhen(t *testing.T) {
	l, ok := Project(leaf(t, event.KindTap, granted), &event.Private{At: hour + 61_000, Member: "ana", Card: "pkoc:ab"})
	want := Line{Node: "lisbon", Edge: "lisbon-front", Epoch: event.Epoch{1}, Index: 4, Kind: event.KindTap, At: hour + 61_000, Clock: event.Synced,
		Door: "front", Direction: "in", Verdict: Grant, Reason: "granted", Assurance: "pkoc", Member: "ana"}
	if !ok || l != want {
		t.Fatalf("%+v", l)
	}
	erased, ok := Project(leaf(t, event.KindTap, granted), nil)
	if !ok || erased.Member != "" || erased.At != hour {
		t.Fatalf("%+v", erased)
	}
}

func TestOnlyWhatAHostNeedsToReadHasALine(t *testing.T) {
	for name, c := range map[string]struct {
		leaf event.Leaf
		note string
		ok   bool
	}{
		"boot":           {leaf(t, event.KindBoot, event.Boot{Version: "1"}), NoteStarted, true},
		"unclean boot":   {leaf(t, event.KindBoot, event.Boot{Version: "1", Unclean: true}), NoteUnclean, true},
		"door opened":    {leaf(t, event.KindDoor, event.Door{Door: "front", State: "opened"}), "opened", false},
		"door forced":    {leaf(t, event.KindDoor, event.Door{Door: "front", State: "forced"}), "forced", true},
		"reader down":    {leaf(t, event.KindReader, event.Reader{Reader: "r1"}), NoteDown, true},
		"tamper":         {leaf(t, event.KindTamper, event.Tamper{Open: true}), NoteOpen, true},
		"clock":          {leaf(t, event.KindClock, event.ClockChange{Quality: event.Unsure}), "unsure", true},
		"disk":           {leaf(t, event.KindStorage, event.Storage{State: "full"}), "full", true},
		"roster":         {leaf(t, event.KindRoster, event.RosterSet{Version: 9}), "9", true},
		"fork":           {leaf(t, event.KindFork, event.Epochal{OldEpoch: "x"}), "", true},
		"unknown kind":   {leaf(t, "compost-turned", struct{}{}), "", false},
		"foreign tap":    {leaf(t, event.KindTap, map[string]any{"door": 7}), "", false},
		"tap with extra": {leaf(t, event.KindTap, map[string]any{"door": "front", "verdict": "deny", "moon": true}), "", true},
	} {
		l, ok := Project(c.leaf, nil)
		if ok != c.ok || l.Note != c.note {
			t.Errorf("%s: %v %q, want %v %q", name, ok, l.Note, c.ok, c.note)
		}
	}
}

// carry wraps an original with its private part as a journal does when it starts a new epoch.
func carry(t testing.TB, original event.Leaf, p event.Private) (event.Leaf, *event.Private) {
	t.Helper()
	part, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	salt := [32]byte{7}
	c := event.Commit(salt, part)
	original.Commitment = &c
	line, err := original.Encode()
	if err != nil {
		t.Fatal(err)
	}
	outer := leaf(t, event.KindReplayed, event.Replayed{OldEpoch: original.Epoch.String(), OldIndex: original.Index, Leaf: string(line)})
	outer.At = hour + 50*event.HourMS // carried two days later
	body, err := event.Marshal(event.ReplayedPrivate{Salt: hex.EncodeToString(salt[:]), Private: string(part)})
	if err != nil {
		t.Fatal(err)
	}
	return outer, &event.Private{At: outer.At + 999, Member: p.Member, Card: p.Card, Body: body}
}

func TestACarriedTapIsATapAtItsOwnTime(t *testing.T) {
	original := leaf(t, event.KindTap, granted)
	original.Epoch, original.Index = event.Epoch{9}, 77
	outer, part := carry(t, original, event.Private{At: hour + 5, Member: "ana"})
	want := Line{Node: "lisbon", Edge: "lisbon-front", Epoch: outer.Epoch, Index: outer.Index, Kind: event.KindTap, At: hour + 5,
		Clock: event.Synced, Door: "front", Direction: "in", Verdict: Grant, Reason: "granted", Assurance: "pkoc", Member: "ana", Note: NoteCarried}
	if l, ok := Project(outer, part); !ok || l != want {
		t.Fatalf("have %+v\nwant %+v", l, want)
	}
	// Erased, or not here yet: the hour of the original, and nobody.
	want.At, want.Member = hour, ""
	if l, ok := Project(outer, nil); !ok || l != want {
		t.Fatalf("have %+v\nwant %+v", l, want)
	}
	// A part that does not open the original's commitment names nobody, whatever it claims outside.
	part.Body, _ = json.Marshal(event.ReplayedPrivate{Salt: hex.EncodeToString(make([]byte, 32)), Private: `{"at":1,"mono":0,"member":"ana"}`})
	if l, ok := Project(outer, part); !ok || l != want {
		t.Fatalf("have %+v\nwant %+v", l, want)
	}
}

func TestWhatIsNoTrueCopyIsNotShown(t *testing.T) {
	original := leaf(t, event.KindTap, granted)
	original.Epoch, original.Index = event.Epoch{9}, 77
	outer, _ := carry(t, original, event.Private{At: hour + 5, Member: "ana"})
	for name, swap := range map[string][2]string{
		"another index":    {`"old_index":77`, `"old_index":78`},
		"another epoch":    {`"old_epoch":"09`, `"old_epoch":"08`},
		"another edge":     {`\"edge\":\"lisbon-front\"`, `\"edge\":\"porto-front\"`},
		"another node":     {`\"node\":\"lisbon\"`, `\"node\":\"porto\"`},
		"wrapped twice":    {`\"kind\":\"tap\"`, `\"kind\":\"replayed\"`},
		"no leaf":          {`{\"v\":1`, `{\"v\":2`},
		"a quiet original": {`\"kind\":\"tap\"`, `\"kind\":\"compost-turned\"`},
	} {
		bad := outer
		bad.Body = json.RawMessage(strings.Replace(string(outer.Body), swap[0], swap[1], 1))
		if string(bad.Body) == string(outer.Body) {
			t.Fatalf("%s: the test changed nothing", name)
		}
		if l, ok := Project(bad, nil); ok {
			t.Errorf("%s: shown as %+v", name, l)
		}
	}
}

func TestTheTraceOfACarriedTapIsThatOfTheOriginal(t *testing.T) {
	body, _ := json.Marshal(event.TapPrivate{Grant: "g1", Rule: "day", Micros: 1830})
	original := leaf(t, event.KindTap, granted)
	original.Epoch, original.Index = event.Epoch{9}, 77
	outer, part := carry(t, original, event.Private{At: hour + 5, Member: "ana", Body: body})
	line, _ := Project(outer, part)
	text := ""
	for _, s := range Why(Question{Line: line, Leaf: outer, Private: part}) {
		text += s.Text + " " + s.Detail + "\n"
	}
	for _, want := range []string{"ana", "g1", "day", "let in", "roster version 7", "1.830 ms"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not said in\n%s", want, text)
		}
	}
}

func TestTheTraceFollowsTheDecision(t *testing.T) {
	body, _ := json.Marshal(event.TapPrivate{Grant: "g1", Rule: "day", Micros: 1830})
	p := &event.Private{At: hour + 1, Member: "ana", Card: "pkoc:secret", Body: body}
	lf := leaf(t, event.KindTap, granted)
	line, _ := Project(lf, p)
	q := Question{Line: line, Leaf: lf, Private: p,
		Member: &access.Member{ID: "ana", Name: "Ana", Role: "resident", Home: "lisbon"},
		Grant:  &access.Grant{ID: "g1", Group: "residents", Doors: []string{"front"}},
		Rule:   &access.Schedule{ID: "day", Spans: []access.Span{{Days: []string{"mon", "tue"}, From: "08:00", To: "20:00"}}},
	}
	steps := Why(q)
	names := ""
	all := ""
	for _, s := range steps {
		names += s.Name + " "
		all += s.Text + " " + s.Detail + "\n"
		if s.Mark != Yes {
			t.Errorf("%s: %s", s.Name, s.Mark)
		}
	}
	if names != "card person grant rule verdict " {
		t.Fatal(names)
	}
	for _, want := range []string{"Ana", "resident", "group residents", "mon tue 08:00–20:00", "let in", "roster version 7", "1.830 ms"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not said in\n%s", want, all)
		}
	}
	if strings.Contains(all, "secret") {
		t.Error("the trace shows a card id")
	}
	q.Private, q.Erased, q.Member = nil, true, nil
	if s := Why(q)[1]; s.Text != "erased" || s.Mark != Unknown {
		t.Errorf("%+v", s)
	}
	left := granted
	left.Direction = "out"
	lf = leaf(t, event.KindTap, left)
	out := Question{Leaf: lf, Private: p}
	out.Line, _ = Project(lf, p)
	if steps = Why(out); steps[4].Text != "let out" || steps[4].Mark != Yes {
		t.Errorf("%+v", steps[4])
	}
	refused := granted
	refused.Verdict, refused.Reason = Deny, "closed"
	lf = leaf(t, event.KindTap, refused)
	q.Line, _ = Project(lf, p)
	q.Leaf, q.Private, q.Erased = lf, p, false
	steps = Why(q)
	if steps[3].Mark != No || steps[4].Mark != No || steps[4].Text != "outside the hours" {
		t.Errorf("%+v", steps)
	}
	if Why(Question{Line: Line{Kind: event.KindBoot}}) != nil {
		t.Error("a start has no decision to trace")
	}
}

func TestEveryReasonHasASentence(t *testing.T) {
	for _, r := range []access.Reason{access.Granted, access.UnknownCard, access.Revoked, access.Blocked, access.Expired, access.NotYetValid,
		access.UIDNotAllowed, access.DoorClosed, access.WrongDoor, access.Closed, access.ClockUnsure, access.StaleRoster, access.NoRoster,
		access.BadSignature, access.Unreadable, access.NoRecord, "paused"} {
		if s := Says(string(r)); len(s) < 6 || s == strings.ReplaceAll(string(r), "-", " ") {
			t.Errorf("%s: %q", r, s)
		}
	}
	if Says("some-new-reason") != "some new reason" {
		t.Error("a reason of a newer edge must still be readable")
	}
}

func TestQuickTapReadsWhatTheParserReads(t *testing.T) {
	same := func(t *rapid.T, b []byte) bool {
		quick, ok := quickTap(b)
		if !ok {
			return false
		}
		var slow event.Tap
		if err := json.Unmarshal(b, &slow); err != nil || quick != slow {
			t.Fatalf("%s\nquick %+v\nslow  %+v %v", b, quick, slow, err)
		}
		return true
	}
	hits := 0
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.StringMatching(`[a-z0-9-]{0,12}`), rapid.String())
		b, err := event.Marshal(event.Tap{Door: s.Draw(t, "door"), Reader: "r", Direction: "in", Verdict: "grant", Reason: s.Draw(t, "reason"),
			Assurance: "uid", Roster: rapid.Uint64().Draw(t, "roster"), Late: rapid.Bool().Draw(t, "late")})
		if err != nil {
			t.Skip("not encodable")
		}
		if same(t, b) {
			hits++
		}
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		same(t, b[:cut])
		b[cut] = rapid.Byte().Draw(t, "byte")
		if json.Valid(b) {
			same(t, b)
		}
	})
	if hits == 0 {
		t.Fatal("the quick way was never taken")
	}
}

func BenchmarkProject(b *testing.B) {
	l := leaf(b, event.KindTap, granted)
	p := &event.Private{At: hour + 61_000, Member: "ana"}
	for b.Loop() {
		if _, ok := Project(l, p); !ok {
			b.Fatal("no line")
		}
	}
}

// The leaf is what was signed first: a part that names another time than its hour has no effect, outside and inside.
func TestAPartOutsideItsLeafsHourHasNoEffect(t *testing.T) {
	original := leaf(t, event.KindTap, granted)
	for at, in := range map[int64]bool{hour - 1: false, hour: true, hour + event.HourMS - 1: true, hour + event.HourMS: false, 0: false, -1: false, 1<<63 - 1: false} {
		l, ok := Project(original, &event.Private{At: at, Member: "ana"})
		if !ok || (l.Member == "ana") != in || !in && l.At != hour {
			t.Errorf("at %d: %+v %v", at, l, ok)
		}
		moved := original
		moved.Epoch, moved.Index = event.Epoch{9}, 77
		outer, part := carry(t, moved, event.Private{At: at, Member: "ana"})
		if l, ok := Project(outer, part); !ok || (l.Member == "ana") != in || !in && l.At != hour {
			t.Errorf("carried, at %d: %+v %v", at, l, ok)
		}
	}
}
