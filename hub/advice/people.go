package advice

import (
	"bytes"
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"strings"
)

// bedroom is one house with the promises about its beds counted.
type bedroom struct {
	*Node
	expected int64 // people, once every promise is kept
	free     int64 // offered beds that nobody is in or was promised
	over     int64 // people beyond the beds
	gets     int64 // people who come by this advice
	lot      [32]byte
}

// people places those who are in beyond the beds of their house where beds are offered and free: as many as there are beds
// for, shared by max-min among the houses that ask, and spread so that the fullest house is as empty as it can be.
func (d *desk) people() error {
	rooms := d.bedrooms()
	free, asked := int64(0), int64(0)
	var claims []Claim
	for _, r := range rooms {
		free, asked = free+r.free, asked+r.over
		if r.over > 0 {
			claims = append(claims, Claim{r.ID, r.over, 1})
		}
	}
	parts, err := Share(free, claims, d.Seed)
	if err != nil {
		return err
	}
	spread(rooms, min(free, asked))
	hosts := slices.DeleteFunc(slices.Clone(rooms), func(r *bedroom) bool { return r.gets == 0 })
	slices.SortStableFunc(hosts, func(a, b *bedroom) int { return cmp.Compare(b.gets, a.gets) }) // large to large: few lines
	slices.SortStableFunc(parts, func(a, b Part) int { return cmp.Compare(b.Gets, a.Gets) })
	left := make([]int64, len(hosts))
	for i, h := range hosts {
		left[i] = h.gets
	}
	at := 0
	for i := range parts {
		p := &parts[i]
		from := rooms[slices.IndexFunc(rooms, func(r *bedroom) bool { return r.ID == p.Who })]
		for need := p.Gets; need > 0; {
			n := min(need, left[at])
			d.place(from, hosts[at], n, p)
			need, left[at] = need-n, left[at]-n
			if left[at] == 0 {
				at++
			}
		}
		if p.Gets < p.Ask {
			why := "no house has an offered bed free"
			if free > 0 {
				why = "it " + p.Reason()
			}
			d.out.Unmet = append(d.out.Unmet, Unmet{p.Who, p.Ask - p.Gets, fmt.Sprintf("%s expects %s for %s, and %s.",
				d.names[p.Who], plural(from.expected, "person", "people"), plural(from.Beds, "bed", "beds"), why)})
		}
	}
	slices.SortFunc(d.out.Unmet, func(a, b Unmet) int { return strings.Compare(a.Node, b.Node) })
	return nil
}

func (d *desk) bedrooms() []*bedroom {
	var rooms []*bedroom
	by := map[string]*bedroom{}
	draw := lot(d.Seed, "bed")
	for i := range d.nodes {
		n := &d.nodes[i]
		r := &bedroom{Node: n, expected: n.In, lot: draw(n.ID)}
		by[n.ID] = r
		rooms = append(rooms, r)
	}
	promised := map[string]int64{}
	for _, r := range rooms {
		for i, n := range open(d.Promises, func(p *Promise) bool { return p.Do == Place && p.Provider == r.ID }, r.Visitors) {
			if n == 0 {
				continue
			}
			r.expected += n
			promised[r.ID] += n
			if from := by[d.Promises[i].Receiver]; from != nil {
				from.expected -= n
			}
		}
	}
	for _, r := range rooms {
		r.expected = max(0, r.expected) // whoever was promised a bed elsewhere may have left by themselves
		if r.Beds == 0 {
			continue
		}
		r.free = max(0, min(r.Beds-r.expected, r.Offered-r.Visitors-promised[r.ID]))
		r.over = max(0, r.expected-r.Beds)
	}
	return rooms
}

// spread gives people to hosts one by one, each to the house that is then least full.
func spread(rooms []*bedroom, people int64) {
	var q fullness
	for _, r := range rooms {
		if r.free > 0 {
			q = append(q, r)
		}
	}
	heap.Init(&q)
	for ; people > 0; people-- {
		r := q[0]
		if r.gets++; r.gets == r.free {
			heap.Pop(&q)
		} else {
			heap.Fix(&q, 0)
		}
	}
}

// fullness orders hosts by how full they would be with one more; then larger ones first, whom one more changes less; then by lot.
type fullness []*bedroom

func (q fullness) Len() int      { return len(q) }
func (q fullness) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q fullness) Less(i, j int) bool {
	a, b := q[i], q[j]
	if c := compareProducts(a.expected+a.gets+1, b.Beds, b.expected+b.gets+1, a.Beds); c != 0 {
		return c < 0
	}
	if a.Beds != b.Beds {
		return a.Beds > b.Beds
	}
	return bytes.Compare(a.lot[:], b.lot[:]) < 0
}
func (q *fullness) Push(x any) { *q = append(*q, x.(*bedroom)) }
func (q *fullness) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func (d *desk) place(from, to *bedroom, n int64, p *Part) {
	d.add(Item{Do: Place, Kind: to.Bed, Measure: Night, Provider: to.ID, Receiver: from.ID, Quantity: n, Had: to.Visitors,
		Reason: fmt.Sprintf("%s expects %s for %s and %s. %s has %d of its offered beds free. With these guests %d of its %d beds are taken; spread like this, the fullest host stays as empty as it can.",
			d.names[from.ID], plural(from.expected, "person", "people"), plural(from.Beds, "bed", "beds"), p.Reason(),
			d.names[to.ID], to.free, to.expected+to.gets, to.Beds)})
}
