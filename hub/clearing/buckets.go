package clearing

// buckets is a priority queue over small whole distances (Dial): one stack of entries per distance. A node that came
// closer is entered again; its older entries are passed over when they come up.
type buckets struct {
	first   []int32 // newest entry at each distance, 0 when none
	entries []entry // entries[0] is none
	dist    []int32
}

type entry struct{ node, next int32 }

// unreached is the distance of a node that no deficit was found for.
const unreached = int32(1) << 30

func newBuckets(nodes int) buckets {
	return buckets{first: make([]int32, 2*nodes+4), entries: make([]entry, 1, 2*nodes+4), dist: make([]int32, nodes)}
}

func (b *buckets) insert(v, d int32) {
	b.dist[v] = d
	b.entries = append(b.entries, entry{node: v, next: b.first[d]})
	b.first[d] = int32(len(b.entries) - 1)
}

// updatePrices lowers every price by eps times the node's distance to the nearest deficit, where an edge is as long as
// its reduced cost in eps, rounded down, plus one. Afterwards every node with excess sees an admissible way at once. It
// stops when most nodes with excess are reached; what is farther moves with the last distance.
func (w *worker) updatePrices() bool {
	b := &w.buckets
	clear(b.first)
	b.entries = b.entries[:1]
	active := 0
	for v := range w.nodes {
		switch {
		case w.excess[v] < 0:
			b.insert(int32(v), 0)
		default:
			if w.excess[v] > 0 {
				active++
			}
			b.dist[v] = unreached
		}
	}
	if active == 0 {
		return true
	}
	enough := active / 8 // the last few lie far out and would cost most of the search
	last, far := int32(0), int32(len(b.first)-1)
	for d := int32(0); d < far && active > enough; d++ {
		for b.first[d] != 0 {
			e := b.entries[b.first[d]]
			b.first[d] = e.next
			v := e.node
			if b.dist[v] != d {
				continue
			}
			b.dist[v] = -1 - d // done
			if w.excess[v] > 0 {
				active--
			}
			w.reach(v, d)
		}
		last = d
	}
	for v := range w.nodes {
		d := last + 1
		if b.dist[v] < 0 {
			d = -1 - b.dist[v]
		}
		if d == 0 {
			continue
		}
		w.cur[v] = w.start[v]
		if w.price[v] -= int64(d) << w.shift; w.price[v] < -maxPrice {
			return false
		}
	}
	return true
}

// reach offers every node from which flow may come to v the way through v.
func (w *worker) reach(v, d int32) {
	b, pv := &w.buckets, w.price[v]
	far := int64(len(b.first) - 1)
	dist, price := b.dist, w.price
	edges := w.edges[w.start[v]:w.start[v+1]]
	for i := range edges {
		e := edges[i]
		if e.head&mayCome == 0 {
			continue
		}
		to := int32(e.to())
		known := dist[to]
		if known <= d {
			continue
		}
		at := int64(d) + (price[to]-pv-int64(e.cost)*w.scale)>>w.shift + 1
		if at >= far || at >= int64(known) {
			continue
		}
		b.insert(to, int32(at))
	}
}
