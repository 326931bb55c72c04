package advice

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

const (
	// busier is how many times as much each thing must be used where it would go, compared with those that stay behind.
	// Less than that is not worth the way.
	busier   = 2
	maxMoves = 1_000 // things of one kind in one advice
)

// shelf is one kind of thing at one house, with the promises about it counted.
type shelf struct {
	*Thing
	count int64 // once every promise is kept
	lot   [32]byte
}

// muchBusier compares use per thing: that of x with a of them against busier times that of y with b.
func muchBusier(x *shelf, a int64, y *shelf, b int64) bool {
	return compareProducts(x.Used, b, y.Used*busier, a) >= 0
}

// kinds groups the things of the case, ascending by kind and measure, each group by ascending house.
func (d *desk) kinds(pick func(*Thing) bool) [][]*Thing {
	var all []*Thing
	for i := range d.Things {
		if t := &d.Things[i]; pick(t) {
			all = append(all, t)
		}
	}
	order := func(a, b *Thing) int {
		return strings.Compare(a.Kind+" "+a.Measure, b.Kind+" "+b.Measure) // ids hold no space
	}
	slices.SortFunc(all, func(a, b *Thing) int {
		if c := order(a, b); c != 0 {
			return c
		}
		return strings.Compare(a.Node, b.Node)
	})
	var groups [][]*Thing
	for i, t := range all {
		if i == 0 || order(all[i-1], t) != 0 {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], t)
	}
	return groups
}

// things moves what may leave its house from where it is used least to where it is used most, one by one, while each is
// used busier times as much there. Whoever has some keeps one.
func (d *desk) things() error {
	groups := d.kinds(func(t *Thing) bool { return t.Lendable && t.Offered && t.Count > 0 && t.Measure != Night })
	for _, group := range groups {
		shelves := d.shelves(group)
		before := map[*shelf]int64{}
		for _, s := range shelves {
			before[s] = s.count
		}
		moved := map[[2]*shelf]int64{}
		for range maxMoves {
			from, to := least(shelves), most(shelves)
			if from == nil || to == nil || from == to || !muchBusier(to, to.count, from, from.count-1) {
				break
			}
			from.count, to.count = from.count-1, to.count+1
			moved[[2]*shelf{from, to}]++
		}
		for _, from := range shelves {
			for _, to := range shelves {
				if n := moved[[2]*shelf{from, to}]; n > 0 {
					d.lend(from, to, n, before)
				}
			}
		}
	}
	return nil
}

func (d *desk) shelves(group []*Thing) []*shelf {
	draw := lot(d.Seed, "thing "+group[0].Kind)
	var shelves []*shelf
	by := map[string]*shelf{}
	for _, t := range group {
		s := &shelf{t, t.Count, draw(t.Node)}
		shelves, by[t.Node] = append(shelves, s), s
	}
	for _, s := range shelves {
		for i, n := range open(d.Promises, func(p *Promise) bool { return p.Do == Lend && p.Kind == s.Kind && p.Receiver == s.Node }, s.Count) {
			if from := by[d.Promises[i].Provider]; n > 0 && from != nil {
				n = min(n, max(0, from.count-1))
				s.count, from.count = s.count+n, from.count-n
			}
		}
	}
	return shelves
}

// least is the shelf whose things would be used least with one fewer, of those that have one to spare; ties by lot.
func least(shelves []*shelf) *shelf {
	var best *shelf
	for _, s := range shelves {
		if s.count < 2 {
			continue
		}
		if best == nil || better(compareProducts(s.Used, best.count-1, best.Used, s.count-1), s, best) {
			best = s
		}
	}
	return best
}

// most is the shelf whose things are used most; ties by lot.
func most(shelves []*shelf) *shelf {
	var best *shelf
	for _, s := range shelves {
		if s.Used == 0 || s.count == 0 {
			continue
		}
		if best == nil || better(compareProducts(best.Used, s.count, s.Used, best.count), s, best) {
			best = s
		}
	}
	return best
}

func better(c int, a, b *shelf) bool { return c < 0 || c == 0 && bytes.Compare(a.lot[:], b.lot[:]) < 0 }

func (d *desk) lend(from, to *shelf, n int64, before map[*shelf]int64) {
	d.add(Item{Do: Lend, Kind: from.Kind, Measure: from.Measure, Provider: from.Node, Receiver: to.Node, Quantity: n, Had: to.Count,
		Reason: fmt.Sprintf("%s has %d of them, used for %d %s in this period; %s has %d, used for %d. Each is used at least %d times as much there, and whoever lends keeps one.",
			d.names[from.Node], before[from], from.Used, from.Measure, d.names[to.Node], before[to], to.Used, busier)})
}
