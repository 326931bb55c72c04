package access

import (
	"testing"
	"time"
)

func TestACatalogueIsForThoseItNames(t *testing.T) {
	d := house()
	d.Resources = append(d.Resources, Resource{ID: "attic", Measure: "hour"})
	d.Members[2].Groups = []string{"people"} // cara, at home in porto
	r := compile(t, d)
	for _, c := range []struct {
		member, resource string
		want             Reason
	}{
		{"ana", "bed", Granted},
		{"cara", "bed", Granted},        // offered to the commons
		{"cara", "kitchen", NotOffered}, // though she is in the group
		{"cara", "attic", NotOffered},
		{"ana", "kitchen", Granted},
		{"ben", "kitchen", NotInGroup},
		{"ben", "attic", Granted},
		{"eve", "bed", Blocked},
		{"zoe", "bed", UnknownCard},
		{"ana", "boat", NoResource},
	} {
		if got := r.Entitled(c.member, c.resource); got != c.want {
			t.Errorf("%s at %s: %s, want %s", c.member, c.resource, got, c.want)
		}
	}
	var none *Roster
	if none.Entitled("ana", "bed") != NoResource || none.Resources() != nil {
		t.Error("an edge without a roster offers something")
	}
}

func TestAResourceSaysItsVerbsAndItsWitness(t *testing.T) {
	r := compile(t, house())
	bed, _ := r.Resource("bed")
	kitchen, ok := r.Resource("kitchen")
	if !ok || !bed.Allows("use") || bed.Allows("work") || kitchen.Allows("use") || !kitchen.Allows("work") {
		t.Fatalf("%+v %+v", bed, kitchen)
	}
	if bed.NeedsWitness(1_000) || kitchen.NeedsWitness(239) || !kitchen.NeedsWitness(240) {
		t.Fatal("a witness is asked at the wrong quantity")
	}
	if _, ok := r.Resource("boat"); ok {
		t.Fatal("a resource that is not there")
	}
}

func TestOnlyACardInForceIdentifies(t *testing.T) {
	r := compile(t, house())
	now := time.Unix(1_790_000_000, 0)
	for _, c := range []struct {
		card string
		want Reason
		who  string
	}{
		{anaCard, Granted, "ana"},
		{danUID, Granted, "dan"}, // by number: the caller records how weak that is
		{lostCard, Revoked, ""},
		{blockCard, Blocked, ""},
		{"uid:01020304", UnknownCard, ""},
	} {
		p, why := r.Identify(Query{Card: c.card, Now: now})
		if why != c.want || p.ID != c.who {
			t.Errorf("%.12s: %s %q, want %s %q", c.card, why, p.ID, c.want, c.who)
		}
	}
	var none *Roster
	if _, why := none.Identify(Query{Card: anaCard}); why != NoRoster {
		t.Errorf("without a roster: %s", why)
	}
}
