package demo

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"kith/edge/kiosk"
	"kith/hub/settlement"
	"kith/simulator/chip"
)

// Timing of the entries that people make while the demo lives.
const (
	entryWait  = 15 * time.Second       // for one entry from proposal to leaf
	draftWait  = 3 * time.Second        // for the hub to have it and the draft to show it
	draftAgain = 500 * time.Millisecond // between two looks at the draft
	holdTime   = 3 * time.Second        // that a card is held before its owner tries once more
	hallAgain  = 500 * time.Millisecond // between two looks whether you stand at a kiosk
	hallPause  = 2 * time.Second        // before somebody holds a card for you: long enough to see the countdown
)

// did says an entry the way people do.
func did(e *entry) string {
	n := e.quantity
	switch e.resource {
	case "bed":
		return "slept " + plural(n, "night")
	case "meal":
		return "ate " + plural(n, "shared meal")
	case "desk":
		return "sat at a desk for " + plural(n, "minute")
	case "workshop":
		return "used the workshop for " + plural(n, "minute")
	case "lesson":
		return "taught for " + plural(n, "hour")
	case "cooking":
		return "cooked for " + plural(n, "minute")
	case "repair":
		return "repaired things for " + plural(n, "minute")
	}
	return "worked in the garden for " + plural(n, "minute")
}

func plural(n int64, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// stand marks a reader that the script's people use, so that nobody else's card is held there in your name.
func (d *demo) stand(place string, there bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.standing[place] = there
}

func (d *demo) stands(place string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.standing[place]
}

// enter drives the edge's own API and then holds the cards to the reader, as people at a kiosk do.
func (d *demo) enter(ctx context.Context, m move) bool {
	place := m.edge + "/" + m.reader
	d.stand(place, true)
	defer d.stand(place, false)
	short, cancel := context.WithTimeout(ctx, entryWait)
	defer cancel()
	base := "http://" + d.addrs[m.edge] + "/api/v1/entries"
	var a kiosk.Answer
	want := kiosk.Want{Action: string(m.entry.action), Resource: m.entry.resource, Quantity: m.entry.quantity, Reader: m.reader}
	if err := call(short, http.MethodPost, base, want, &a); err != nil {
		return false // you stand there
	}
	defer func() {
		if !a.State.Final() { // whoever comes next must not sign it
			_ = call(ctx, http.MethodPost, base+"/"+a.ID+"/cancel", nil, &a) // else it ends by itself
		}
	}()
	hands := []int{m.who}
	if m.entry.witness >= 0 {
		hands = append(hands, m.entry.witness)
	}
	for _, who := range hands {
		before := a.State
		d.holdUntil(short, place, who, func() bool {
			return call(short, http.MethodGet, base+"/"+a.ID, nil, &a) != nil || a.State != before
		})
		if a.State.Final() {
			break
		}
	}
	for !a.State.Final() && sleep(short, kiosk.AskAgain) {
		if err := call(short, http.MethodGet, base+"/"+a.ID, nil, &a); err != nil {
			return false
		}
	}
	if a.State != kiosk.Recorded {
		return false
	}
	d.mu.Lock()
	d.entries++
	d.mu.Unlock()
	d.tell(ctx, m, a.Evidence)
	return true
}

// holdUntil holds somebody's card to a reader until something has come of it, and like anybody takes it away and tries again
// when nothing does.
func (d *demo) holdUntil(ctx context.Context, place string, who int, done func() bool) {
	field, c := d.fields[place], chip.NewPKOC(d.key(who))
	for ctx.Err() == nil {
		if err := field.Place(c); err != nil {
			return
		}
		came := false
		for held := time.Duration(0); held < holdTime && !came && sleep(ctx, kiosk.AskAgain); held += kiosk.AskAgain {
			came = done()
		}
		field.Lift(c)
		if came || !sleep(ctx, kiosk.AskAgain) {
			return
		}
	}
}

// tell prints what a visitor's entry does to the draft of the period. What people do at home moves nothing between houses, and
// is told only when somebody stood witness.
func (d *demo) tell(ctx context.Context, m move, evidence string) {
	p, h := d.people[m.who], houseAt(m.edge)
	home, _ := houseOf(p.home)
	text := " " + did(m.entry) + " (" + evidence
	if m.entry.witness >= 0 {
		text += ", witnessed by " + d.people[m.entry.witness].name
	}
	if home.id == h.id {
		if m.entry.witness >= 0 {
			d.say("%s: %s%s) -> at home: nobody owes anything", h.name, p.name, text)
		}
		return
	}
	giver := h // of what was used; of work, the house that the worker comes from
	if m.entry.given() {
		giver = home
	}
	d.say("%s: %s from %s%s) -> %s", h.name, p.name, home.name, text, d.drafted(ctx, h, giver, m.entry))
}

// drafted waits until the draft has moved by an entry, and says where it stands.
func (d *demo) drafted(ctx context.Context, at, giver house, e *entry) string {
	price := network().policy.Settlement.Prices[settlement.Action(e.action)][e.resource]
	unit, amount := price.Unit, price.Each*e.quantity
	key := giver.id + " " + unit
	d.mu.Lock()
	known := d.given != nil
	away := d.away[at.id]
	if known && !away {
		d.given[key] += amount
	}
	want := d.given[key]
	d.mu.Unlock()
	if away {
		return "kept in the journal of " + at.name + ", whose uplink is away"
	}
	ctx, cancel := context.WithTimeout(ctx, draftWait)
	defer cancel()
	for known && sleep(ctx, draftAgain) {
		draft, err := d.hub.Draft(ctx)
		if err != nil {
			break
		}
		for _, n := range draft.Nodes {
			if n.Node == giver.id && n.Unit == unit && n.Given >= want {
				return fmt.Sprintf("draft: %s has given %s (+%d)", giver.name, plural(n.Given, unit), amount)
			}
		}
	}
	return "on its way to the hub"
}

// see remembers where the draft stands once the week of history has arrived.
func (d *demo) see(ctx context.Context) {
	for last := 0; sleep(ctx, hallPause); {
		draft, err := d.hub.Draft(ctx)
		if err != nil {
			continue
		}
		if draft.Entries == 0 || draft.Entries != last || len(draft.Missing) > 0 {
			last = draft.Entries
			continue
		}
		given := map[string]int64{}
		for _, n := range draft.Nodes {
			given[n.Node+" "+n.Unit] = n.Given
		}
		d.mu.Lock()
		d.given = given
		d.mu.Unlock()
		return
	}
}

// attend waits for you at the kiosk of one house: who looks at its screen has no card in hand, so somebody holds one. It is
// always the same visitor, whose card can also undo and stop, and a resident beside as witness where two are asked for.
func (d *demo) attend(ctx context.Context, h house) {
	edge := h.edges[0].id
	place := edge + "/" + kioskReader
	waits := func() bool {
		var all struct {
			Readers []kiosk.Standing `json:"readers"`
		}
		if call(ctx, http.MethodGet, "http://"+d.addrs[edge]+"/api/v1/readers", nil, &all) != nil {
			return false
		}
		for _, r := range all.Readers {
			if r.ID == kioskReader {
				return r.Waiting && !d.stands(place)
			}
		}
		return false
	}
	visitor, witness := d.companions(h)
	for sleep(ctx, hallAgain) {
		if !waits() || !sleep(ctx, hallPause) || !waits() {
			continue
		}
		for _, who := range []int{visitor, witness} {
			d.say("you asked at the kiosk of %s: %s from %s holds a card to the reader", h.name, d.people[who].name, d.homeOf(who))
			short, cancel := context.WithTimeout(ctx, cardTime)
			d.holdUntil(short, place, who, func() bool { return false })
			cancel()
			if !sleep(ctx, hallPause) || !waits() {
				break
			}
		}
	}
}

func (d *demo) homeOf(who int) string {
	h, _ := houseOf(d.people[who].home)
	return h.name
}

// companions are the host of another house, and the host of this one.
func (d *demo) companions(h house) (visitor, witness int) {
	hs := houses()
	for i := range hs {
		if hs[i].id != h.id {
			continue
		}
		next := hs[(i+1)%len(hs)].id
		for k, p := range d.people {
			switch {
			case p.role == "host" && p.home == next:
				visitor = k
			case p.role == "host" && p.home == h.id:
				witness = k
			}
		}
	}
	return visitor, witness
}

func houseAt(edge string) house {
	for _, h := range houses() {
		for _, e := range h.edges {
			if e.id == edge {
				return h
			}
		}
	}
	return house{}
}
