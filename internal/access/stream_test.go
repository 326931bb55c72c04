package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func twice(b []byte) func() io.Reader {
	return func() io.Reader { return bytes.NewReader(b) }
}

// plain takes from a roster what differs between two that are equal: where its hash put the cards.
func plain(r *Roster) Roster {
	out := *r
	out.cards = deck{all: r.cards.all}
	return out
}

func TestAStreamCompilesToTheSameRoster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDocument(t)
		rnd := rand.New(rand.NewSource(int64(rapid.Uint32().Draw(t, "shuffle"))))
		rnd.Shuffle(len(d.Members), func(i, k int) { d.Members[i], d.Members[k] = d.Members[k], d.Members[i] })
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		whole := mustCompile(t, d)
		streamed, err := CompileJSON(func() io.Reader { return bytes.NewReader(b) })
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(plain(whole), plain(streamed)) {
			t.Fatalf("%+v\n%+v", plain(whole), plain(streamed))
		}
		for _, k := range d.Cards {
			a, _ := whole.Holder(k.ID)
			b, _ := streamed.Holder(k.ID)
			if a != b || a.ID != k.Member {
				t.Fatalf("%s is held by %q and %q, want %q", k.ID, a.ID, b.ID, k.Member)
			}
		}
		ids := []string{}
		for p := range streamed.People() {
			ids = append(ids, p.ID)
		}
		if len(ids) != len(d.Members) || !slices.IsSorted(ids) {
			t.Fatalf("%d people of %d, in order: %v", len(ids), len(d.Members), ids)
		}
	})
}

func TestAStreamIsAsStrictAsTheWhole(t *testing.T) {
	good, _ := json.Marshal(house())
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown key", `"zone"`, `"zonne"`, "zonne"},
		{"repeated key", `"zone":`, `"node":"porto","zone":`, "stands twice"},
		{"cards before members", `"members":`, `"cards":[{"id":"uid:01020304","member":"ana"}],"members":`, "stands twice"},
		{"version behind the cards", `"version":7,`, ``, "version"},
		{"bad role", `"resident"`, `"king"`, "members[0].role"},
		{"bad card", `pkoc:`, `pkoz:`, "cards[0].id"},
		{"a card of nobody", `"member":"ben"}`, `"member":"zoe"}`, "cards[1].member"},
		{"twice", `"id":"ben","name"`, `"id":"ana","name"`, `members[1].id: "ana" stands twice, first at members[0]`},
	} {
		b := []byte(strings.Replace(string(good), c.old, c.new, 1))
		if bytes.Equal(b, good) {
			t.Fatalf("%s: nothing was changed", c.name)
		}
		if r, err := CompileJSON(twice(b)); r != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want something with %q", c.name, err, c.want)
		}
	}
	late := `{"node":"lisbon","network":"kith","version":1,"issued":1,"zone":"UTC"}`
	if _, err := CompileJSON(twice([]byte(late))); err == nil || !strings.Contains(err.Error(), `"network": comes too late`) {
		t.Errorf("fields in another order: %v", err)
	}
	if _, err := CompileJSON(twice(bytes.Repeat([]byte(","), MaxDocumentBytes+1))); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a text without end: %v", err)
	}
}

func TestATextThatChangesBetweenReadingsIsRefused(t *testing.T) {
	d := house()
	first, _ := json.Marshal(d)
	more := d
	more.Members = append(slices.Clone(d.Members), Member{ID: "zoe", Role: RoleGuest})
	second, _ := json.Marshal(more)
	more.Members, more.Cards = d.Members, append(slices.Clone(d.Cards), Card{ID: nobody, Member: "ana"})
	third, _ := json.Marshal(more)
	for _, changed := range [][]byte{second, third} {
		texts := [][]byte{first, changed}
		_, err := CompileJSON(func() io.Reader {
			b := texts[0]
			texts = texts[1:]
			return bytes.NewReader(b)
		})
		if !errors.Is(err, errMore) {
			t.Errorf("got %v", err)
		}
	}
}

// crowdReader is the text of a house with many people, made while it is read.
type crowdReader struct {
	members, cards int
	buf            []byte
	m, c           int
}

func (r *crowdReader) Read(b []byte) (int, error) {
	for len(r.buf) < len(b) {
		switch {
		case r.m == 0:
			r.buf = append(r.buf, `{"network":"kith","node":"lisbon","version":1,"issued":1,"zone":"UTC","members":[`...)
			fallthrough
		case r.m < r.members:
			r.buf = fmt.Appendf(r.buf, `%s{"id":"member-%06d","name":"Somebody Ordinary","role":"resident","groups":["people","west"]}`, comma(r.m), r.m)
			r.m++
		case r.c == 0:
			r.buf = append(r.buf, `],"cards":[`...)
			fallthrough
		case r.c < r.cards:
			r.buf = fmt.Appendf(r.buf, `%s{"id":"pkoc:%032x%032x","member":"member-%06d"}`, comma(r.c), r.c*7919, r.c, r.c%r.members)
			r.c++
		case r.c == r.cards:
			r.buf = append(r.buf, `]}`...)
			r.c++
		case len(r.buf) == 0:
			return 0, io.EOF
		default:
			return r.take(b), nil
		}
	}
	return r.take(b), nil
}

func (r *crowdReader) take(b []byte) int {
	n := copy(b, r.buf)
	r.buf = r.buf[:copy(r.buf, r.buf[n:])]
	return n
}

func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

func TestACompiledRosterIsSmall(t *testing.T) {
	const people = 20_000
	r, err := CompileJSON(func() io.Reader { return &crowdReader{members: people, cards: people} })
	if err != nil {
		t.Fatal(err)
	}
	if m, c, _ := r.Len(); m != people || c != people {
		t.Fatalf("%d members, %d cards", m, c)
	}
	if p, ok := r.Holder(fmt.Sprintf("pkoc:%032x%032x", 7*7919, 7)); !ok || p.ID != "member-000007" || p.Name != "Somebody Ordinary" {
		t.Fatalf("%+v %t", p, ok)
	}
	// 20 bytes a member, 44 a card, 6 of the table, 30 of text; the rest is what blocks leave unused.
	if each := held(&r) * (1 << 20) / people; each > 120 {
		t.Fatalf("%.0f bytes for a person with a card", each)
	}
	runtime.KeepAlive(r)
}

func TestADeckFindsWhatItHasAndNothingElse(t *testing.T) {
	rnd := rand.New(rand.NewSource(3))
	for _, n := range []int{1, 2, 3, 100, 5000} {
		d := newDeck(n)
		keys := map[cardKey]uint32{}
		for len(keys) < n {
			var k cardKey
			k[0] = []byte{4, 7, 10, 32}[rnd.Intn(4)]
			rnd.Read(k[1 : 1+int(k[0])])
			if _, there := keys[k]; there {
				continue
			}
			if !d.add(card{key: k, member: uint32(len(keys))}) || d.add(card{key: k}) {
				t.Fatal("a new card was refused, or one that is there taken")
			}
			keys[k] = uint32(len(keys))
		}
		for k, want := range keys {
			if c, ok := d.find(k); !ok || c.member != want {
				t.Fatalf("lost %x", k)
			}
			k[20] ^= 1
			if _, ok := keys[k]; !ok {
				if _, ok := d.find(k); ok {
					t.Fatalf("found %x", k)
				}
			}
		}
	}
	var none deck
	if _, ok := none.find(cardKey{4}); ok {
		t.Fatal("found a card in nothing")
	}
}

func TestManyDifferentTenuresAreKept(t *testing.T) {
	d := Document{Network: "kith", Node: "lisbon", Version: 1, Zone: "UTC", Grants: []Grant{{ID: "g", Group: "all", Doors: []string{"front"}}}}
	const people = maxShared + 200
	for i := range people {
		id := fmt.Sprintf("m%d", i)
		d.Members = append(d.Members, Member{ID: id, Role: RoleGuest, Groups: []string{"all"}, Until: int64(1000 + i)})
		d.Cards = append(d.Cards, Card{ID: fmt.Sprintf("uid:%08x", i), Member: id, From: int64(1 + i%3)})
	}
	r := compile(t, d)
	for _, i := range []int{0, 1, maxShared - 2, maxShared, people - 1} {
		q := Query{Card: d.Cards[i].ID, Door: Door{ID: "front", AllowUID: true}, Fresh: Freshness{Fresh: true}}
		for at, want := range map[int64]Reason{0: NotYetValid, 3: Granted, int64(999 + i): Granted, int64(1000 + i): Expired} {
			q.Now = time.Unix(at, 0)
			if v := r.Decide(q); v.Reason != want {
				t.Errorf("member %d at %d: %s, want %s", i, at, v.Reason, want)
			}
		}
	}
}
