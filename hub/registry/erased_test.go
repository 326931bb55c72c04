package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/internal/access"
)

// listed is whether every node's roster says that these were erased, and the registry itself.
func listed(t *testing.T, r *Registry, want bool, ids ...string) {
	t.Helper()
	lists := []*access.Erasures{r.Erasures()}
	for _, n := range r.Nodes() {
		d := document(t, r, n.ID)
		roster, err := access.Compile(d)
		if err != nil {
			t.Fatal(err)
		}
		lists = append(lists, roster.Erasures())
	}
	for i, list := range lists {
		for _, id := range ids {
			if list.Has(id) != want {
				t.Errorf("list %d: %s erased %v, want %v", i, id, !want, want)
			}
		}
	}
}

func stored(m *memory) string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(m.records)) {
		for _, id := range slices.Sorted(maps.Keys(m.records[kind])) {
			all = append(all, kind+" "+id+" "+string(m.records[kind][id]))
		}
	}
	for _, v := range m.rosters {
		all = append(all, string(v.Document))
	}
	return strings.Join(all, "\n")
}

func TestAnErasedPersonIsANameThatTellsNobody(t *testing.T) {
	r, m := house(t)
	if len(m.records[KindErased]) != 0 || document(t, r, "lisbon").ErasureKey != "" {
		t.Fatal("a list before anybody was erased")
	}
	apply(t, r, Change{Cards: []access.Card{{ID: card(4), Member: "ana", Revoked: true}},
		Grants: []Grant{{"porto", access.Grant{ID: "guest", Member: "ana", Doors: []string{"front"}}}}})
	rosters := apply(t, r, Change{Erase: []Erasing{{"ana", []string{card(5), card(2), "uid:nonsense"}}}})
	if len(rosters) != 2 {
		t.Fatalf("%d rosters: every node has the list", len(rosters))
	}
	listed(t, r, true, "ana", card(1), card(4), card(5))
	listed(t, r, false, "eva", card(2), "uid:nonsense", "bo", "")
	for _, word := range []string{"ana", card(1), card(4), card(5), strings.TrimPrefix(card(1), "pkoc:")} {
		if strings.Contains(stored(m), word+`"`) {
			t.Fatalf("the registry still says %s", word)
		}
	}
	if _, ok := r.Member("ana"); ok || len(document(t, r, "porto").Grants) != 0 {
		t.Fatal("the member or a grant stands")
	}
	if rosters := apply(t, r, Change{Erase: []Erasing{{"ana", []string{card(5)}}}}); len(rosters) != 0 {
		t.Fatal("an order given again changed something")
	}
	apply(t, r, Change{Erase: []Erasing{{Member: "stranger"}}}) // whom leaves name and the registry forgot
	listed(t, r, true, "ana", "stranger")
	again, err := Open(t.Context(), "demo", m)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(snapshot(r.book), snapshot(again.book)); d != "" || again.Erasures().Digest() != r.Erasures().Digest() {
		t.Fatalf("a restart changed the book: %s", d)
	}
	delete(m.records[KindErased], keyID)
	if _, err := Open(t.Context(), "demo", m); err == nil || !strings.Contains(err.Error(), "key") {
		t.Fatalf("names without their key: %v", err)
	}
}

func TestAnErasedIdIsNeverAddedAgainAndACardIs(t *testing.T) {
	r, _ := house(t)
	apply(t, r, Change{Erase: []Erasing{{Member: "ana"}}})
	var no *Refusal
	_, err := r.Apply(t.Context(), Change{Members: []access.Member{{ID: "ana", Home: "porto", Role: access.RoleGuest}}}, now)
	if !errors.As(err, &no) || !strings.Contains(err.Error(), "choose another id") {
		t.Fatal(err)
	}
	rosters := apply(t, r, Change{Cards: []access.Card{{ID: card(1), Member: "gil"}}})
	if len(rosters) != 2 {
		t.Fatalf("%d rosters: the list is another one everywhere", len(rosters))
	}
	listed(t, r, false, card(1))
	listed(t, r, true, "ana")
}

func TestAnErasureThatWasNotStoredIsNotInForce(t *testing.T) {
	r, m := house(t)
	before := snapshot(r.book)
	m.fail = errors.New("disk")
	if _, err := r.Apply(t.Context(), Change{Erase: []Erasing{{Member: "ana"}}}, now); !errors.Is(err, m.fail) {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, snapshot(r.book)); d != "" || r.Erasures().Len() != 0 {
		t.Fatal(d)
	}
	m.fail = nil
	apply(t, r, Change{Erase: []Erasing{{Member: "ana"}}})
	before = snapshot(r.book)
	m.fail = errors.New("disk")
	if _, err := r.Apply(t.Context(), Change{Cards: []access.Card{{ID: card(1), Member: "gil"}}}, now); !errors.Is(err, m.fail) {
		t.Fatal(err)
	}
	listed(t, r, true, card(1))
	if d := cmp.Diff(before, snapshot(r.book)); d != "" {
		t.Fatal(d)
	}
}

func TestAFullListErasesNobodyMore(t *testing.T) {
	r, m := house(t)
	apply(t, r, Change{Erase: []Erasing{{Member: "gil"}}})
	for i := range access.MaxErased - r.Erasures().Len() {
		n := r.book.erased.key.Name(fmt.Sprint("m", i))
		r.book.erased.names[n] = true
		m.records[KindErased][n.String()], _ = json.Marshal(erasedRecord{Name: n.String()})
	}
	r, err := Open(t.Context(), "demo", m)
	if err != nil {
		t.Fatal(err)
	}
	var no *Refusal
	_, err = r.Apply(t.Context(), Change{Erase: []Erasing{{Member: "ana"}}}, now)
	if !errors.As(err, &no) || !strings.Contains(err.Error(), "50002") || !strings.Contains(err.Error(), "limit is 50000") {
		t.Fatal(err)
	}
	if _, ok := r.Member("ana"); !ok || r.Erasures().Len() != access.MaxErased {
		t.Fatal("half an erasure")
	}
	apply(t, r, Change{Erase: []Erasing{{Member: "gil"}}}) // is on it
	document(t, r, "lisbon")                               // an edge takes a full list
}

func TestAnOlderCopyOfTheBookRecallsWhoWasErased(t *testing.T) {
	r, _ := house(t)
	apply(t, r, Change{Erase: []Erasing{{Member: "ana"}, {Member: "gil"}}})
	apply(t, r, Change{Cards: []access.Card{{ID: card(3), Member: "eva"}}})
	kept := r.Memory()
	older, m := house(t)
	apply(t, older, Change{Cards: []access.Card{{ID: card(7), Member: "ana"}}}) // taken back before she was erased
	kept.Names = append(kept.Names, kept.Key.Name(card(2)))                     // written before eva got it
	own := older.Memory().Key
	m.fail = errors.New("disk")
	if _, err := older.Apply(t.Context(), Change{Recall: &kept}, now); !errors.Is(err, m.fail) || older.Memory().Key != own {
		t.Fatal("not stored, and in force:", err)
	}
	m.fail = nil
	apply(t, older, Change{Recall: &kept})
	listed(t, older, true, "ana", "gil", card(1), card(3), card(7))
	listed(t, older, false, "eva", card(2))
	if got := ids(document(t, older, "porto")); got != "eva" {
		t.Fatal(got)
	}
	if older.Memory().Key != kept.Key {
		t.Fatal("another key")
	}
	if v := apply(t, older, Change{Recall: &kept}); len(v) != 0 {
		t.Fatal("recalled twice")
	}
	again, err := Open(t.Context(), "demo", m)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(snapshot(older.book), snapshot(again.book)); d != "" {
		t.Fatal(d)
	}
	strange := Memory{Key: access.ErasureKey{1}, Names: kept.Names}
	if _, err := older.Apply(t.Context(), Change{Recall: &strange}, now); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Fatal(err)
	}
	apply(t, older, Change{Recall: &Memory{}})
}

// In a copy from before a card went to whoever was erased with it, that card is another's still: its name is kept, until
// somebody hands the card out anew, and counts as soon as a start finds nobody who holds it.
func TestACardThatWasAnothersBeforeStaysInTheMemory(t *testing.T) {
	r, _ := house(t)
	apply(t, r, Change{Cards: []access.Card{{ID: card(9), Member: "ana"}}})
	apply(t, r, Change{Erase: []Erasing{{Member: "ana"}}})
	kept := r.Memory()
	name := kept.Key.Name(card(9))
	remembers := func(r *Registry, want bool, when string) {
		t.Helper()
		m := r.Memory()
		if slices.Contains(m.Names, name) != want || !slices.IsSortedFunc(m.Names, access.ErasedName.Compare) {
			t.Fatalf("%s: remembered %v, want %v", when, !want, want)
		}
	}
	restored := func() (*Registry, *memory) {
		older, m := house(t)
		apply(t, older, Change{Cards: []access.Card{{ID: card(9), Member: "bo"}}})
		apply(t, older, Change{Recall: &kept})
		listed(t, older, true, "ana", card(1))
		listed(t, older, false, "bo", card(9))
		remembers(older, true, "put back")
		return older, m
	}
	older, m := restored()
	apply(t, older, Change{Erase: []Erasing{{Member: "gil"}}})
	remembers(older, true, "another was erased")
	apply(t, older, Change{Cards: []access.Card{{ID: card(9), Member: "bo", Revoked: true}}})
	remembers(older, true, "revoked")
	before := older.Memory()
	m.fail = errors.New("disk")
	if _, err := older.Apply(t.Context(), Change{DropCards: []string{card(9)}, Erase: []Erasing{{Member: "bo"}}}, now); !errors.Is(err, m.fail) {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, older.Memory()); d != "" {
		t.Fatal("not stored, and in force:", d)
	}
	m.fail = nil
	apply(t, older, Change{DropCards: []string{card(9)}})
	remembers(older, true, "taken back")
	again, err := Open(t.Context(), "demo", m)
	if err != nil {
		t.Fatal(err)
	}
	next := older.Memory()
	apply(t, again, Change{Recall: &next})
	listed(t, again, true, card(9))
	if d := cmp.Diff(next, again.Memory()); d != "" {
		t.Fatal(d)
	}

	older, _ = restored()
	apply(t, older, Change{DropCards: []string{card(9)}})
	apply(t, older, Change{Cards: []access.Card{{ID: card(9), Member: "eva"}}})
	remembers(older, false, "handed out again")
	older, _ = restored()
	apply(t, older, Change{Erase: []Erasing{{Member: "bo"}}}) // with all that is bo's
	listed(t, older, true, "bo", card(9))
	remembers(older, true, "erased with its holder")
	if n := len(older.Memory().Names); n != older.Erasures().Len() {
		t.Fatalf("%d names are kept of %d", n, older.Erasures().Len())
	}
}

// What waits never makes the list longer than a start reads.
func TestNamesThatWaitGiveWayToThoseInForce(t *testing.T) {
	r, _ := house(t)
	apply(t, r, Change{Erase: []Erasing{{Member: "gil"}}})
	e := &r.book.erased
	for i := range access.MaxErased - r.Erasures().Len() {
		e.names[e.key.Name(fmt.Sprint("m", i))] = true
	}
	e.waiting[e.key.Name(card(2))] = true
	if m := r.Memory(); len(m.Names) != access.MaxErased || slices.Contains(m.Names, e.key.Name(card(2))) {
		t.Fatalf("%d names", len(m.Names))
	}
}
