package ledger

import (
	"bytes"
	"cmp"
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var (
	historyJournals = []string{"kith/lisbon-front/0", "kith/lisbon-front/1", "kith/porto-front/0"}
	historyPaths    = []string{NodePath(net, "lisbon"), NodePath(net, "porto"), CommonsPath(net), MemberPath(net, "lisbon", "m1")}
	historyMoves    = []string{"post", "post", "post", "hold", "hold", "settle", "settle", "void", "expire", "reverse", "reverse",
		"early", "born", "repeat", "conflict", "twins", "spoiled", "huge"}
)

// history draws what houses and edges may offer a hub over weeks: indexes in any order, so that some facts come late, and
// beside what is right everything that is wrong in one way.
type history struct {
	rt      *rapid.T
	offered []Entry
	unborn  []Entry // spoken of already, not offered yet
}

func (h *history) chance(oneIn int) bool {
	return rapid.IntRange(1, oneIn).Draw(h.rt, "chance") == oneIn
}

func (h *history) source() Source {
	return Source{Journal: rapid.SampledFrom(historyJournals).Draw(h.rt, "journal"), Index: rapid.Uint64Range(0, 40).Draw(h.rt, "index"),
		Rule: rapid.SampledFrom([]string{"v1", "v1", "v2"}).Draw(h.rt, "rule"), Part: rapid.Uint32Range(0, 1).Draw(h.rt, "part")}
}

// fresh moves one to three amounts between accounts: some entries balance in two units, and some name an account twice.
func (h *history) fresh(kind Kind) Entry {
	e := Entry{Source: h.source(), Kind: kind, Standing: rapid.SampledFrom([]Standing{Fact, Permission}).Draw(h.rt, "standing"),
		At: rapid.Int64Range(0, 1000).Draw(h.rt, "at"), Unsure: h.chance(4)}
	for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(h.rt, "moves") {
		unit := rapid.SampledFrom([]string{"hour", "hour", "bed-night"}).Draw(h.rt, "unit")
		from := rapid.IntRange(0, len(historyPaths)-1).Draw(h.rt, "from")
		to := (from + rapid.IntRange(1, len(historyPaths)-1).Draw(h.rt, "to")) % len(historyPaths)
		amount := rapid.Int64Range(1, 40).Draw(h.rt, "amount")
		e.Postings = append(e.Postings, Posting{Account{historyPaths[from], unit}, -amount},
			Posting{Account{historyPaths[to], unit}, amount})
	}
	return e
}

// about draws an entry that speaks of another one.
func (h *history) about(of *Entry, kind Kind) Entry {
	e := Reversal(of, h.source(), rapid.Int64Range(0, 1000).Draw(h.rt, "at"))
	e.Kind, e.Standing = kind, rapid.SampledFrom([]Standing{Fact, Fact, Permission}).Draw(h.rt, "standing")
	switch kind {
	case Void, Expire:
		e.Postings = nil
		return e
	case Settle:
		e.Postings = slices.Clone(of.Postings)
	}
	if len(e.Postings) == 0 {
		e.Postings = h.fresh(Post).Postings // of a void: there is nothing to take back
	} else if h.chance(8) {
		for i := range e.Postings {
			e.Postings[i].Amount *= 2 // balanced, and not what it speaks of
		}
	}
	return e
}

func (h *history) draw() Entry {
	what := rapid.SampledFrom(historyMoves).Draw(h.rt, "what")
	switch what {
	case "hold":
		return h.fresh(Hold)
	case "settle", "void", "expire", "reverse":
		right := []Kind{Hold}
		if what == "reverse" {
			right = []Kind{Post, Settle, Reverse} // a reversal is no longer taken back; a correction is a new entry
		}
		anything := h.chance(8)
		var list []*Entry
		for i := range h.offered {
			if e := &h.offered[i]; anything || slices.Contains(right, e.Kind) {
				list = append(list, e)
			}
		}
		if len(list) > 0 {
			return h.about(rapid.SampledFrom(list).Draw(h.rt, "of"), Kind(what))
		}
	case "early":
		e := h.fresh(rapid.SampledFrom([]Kind{Post, Hold}).Draw(h.rt, "kind"))
		h.unborn = append(h.unborn, e)
		if e.Kind == Post {
			return h.about(&e, Reverse)
		}
		return h.about(&e, rapid.SampledFrom([]Kind{Settle, Void, Expire}).Draw(h.rt, "end"))
	case "born":
		if len(h.unborn) > 0 {
			e := h.unborn[0]
			h.unborn = h.unborn[1:]
			return e
		}
	case "repeat":
		if len(h.offered) > 0 {
			return rapid.SampledFrom(h.offered).Draw(h.rt, "which")
		}
	case "conflict", "twins":
		list := h.offered
		if what == "twins" && len(list) > 0 {
			list = list[len(list)-1:] // most often of the same batch
		}
		if len(list) > 0 {
			return h.other(rapid.SampledFrom(list).Draw(h.rt, "which"))
		}
	case "spoiled":
		e := h.fresh(rapid.SampledFrom([]Kind{Post, Hold}).Draw(h.rt, "kind"))
		first, second := &e.Postings[0], &e.Postings[1]
		switch rapid.IntRange(0, 3).Draw(h.rt, "how") {
		case 0:
			second.Amount++
		case 1:
			first.Account.Unit, second.Account.Unit = "euro", "euro"
		case 2:
			first.Account.Unit, second.Account.Unit = "hour", "bed-night" // balanced over all, not in either
		case 3:
			first.Amount, second.Amount = math.MinInt64, math.MinInt64 // wraps to zero
		}
		return e
	case "huge":
		e := h.fresh(rapid.SampledFrom([]Kind{Post, Hold}).Draw(h.rt, "kind"))
		v := rapid.SampledFrom([]int64{maxTotal / 2, maxTotal - 1, maxTotal, maxTotal + 1, math.MaxInt64}).Draw(h.rt, "huge")
		e.Postings = e.Postings[:2]
		e.Postings[0].Amount, e.Postings[1].Amount = -v, v
		return e
	}
	return h.fresh(Post)
}

// other is another content under the same identity.
func (h *history) other(e Entry) Entry {
	e = e.clone()
	switch how := rapid.IntRange(0, 3).Draw(h.rt, "other"); {
	case how == 0:
		e.At++
	case how == 1:
		e.Unsure = !e.Unsure
	case how == 2 || len(e.Postings) == 0:
		e.Standing = map[Standing]Standing{Fact: Permission, Permission: Fact}[e.Standing]
	default:
		slices.Reverse(e.Postings)
	}
	return e
}

// rules draws limits for three accounts and, rarely, retires a journal. What is retired stays so.
func (h *history) rules(r Rules) Rules {
	next := Rules{Limits: r.Limits, Retired: map[string]uint64{}}
	for j, size := range r.Retired {
		next.Retired[j] = size
	}
	if r.Limits == nil || h.chance(4) {
		next.Limits = map[Account]Limit{}
		for _, a := range []Account{lisbon(), hours(CommonsPath(net)), {Path: NodePath(net, "porto"), Unit: "bed-night"}} {
			floor, ceiling := rapid.Int64Range(-80, 0).Draw(h.rt, "floor"), rapid.Int64Range(0, 80).Draw(h.rt, "ceiling")
			next.Limits[a] = Limit{Floor: floor, Ceiling: ceiling}
		}
	}
	if j := rapid.SampledFrom(historyJournals).Draw(h.rt, "retire"); h.chance(6) && next.Retired[j] == 0 {
		next.Retired[j] = rapid.Uint64Range(1, 40).Draw(h.rt, "final size")
	}
	return next
}

// model answers entries by the simplest possible means: a list of what was booked, summed anew for every question.
type model struct {
	said    map[ID]said
	booked  []Entry
	clashes map[string]bool
}

type said struct {
	text     string
	entry    Entry
	code     Code
	breaches []Breach
}

func (m *model) apply(rules Rules, batch []Entry) []Answer {
	type place struct {
		at   int
		text string
	}
	var order, left []place
	for i := range batch {
		order = append(order, place{i, string(batch[i].AppendJSON(nil))})
	}
	slices.SortStableFunc(order, func(x, y place) int {
		a, b := batch[x.at].Source, batch[y.at].Source
		return cmp.Or(cmp.Compare(a.Journal, b.Journal), cmp.Compare(a.Index, b.Index), cmp.Compare(a.Part, b.Part),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(x.text, y.text))
	})
	answers := make([]Answer, len(batch))
	for ; len(order) != len(left); order, left = left, nil {
		left = nil
		for _, p := range order {
			if answers[p.at] = m.answer(rules, &batch[p.at], p.text); answers[p.at].Code == RefusedUnknown {
				left = append(left, p)
			}
		}
		if len(left) == len(order) {
			break
		}
	}
	return answers
}

func (m *model) answer(rules Rules, e *Entry, text string) Answer {
	id := e.ID()
	if !even(e) {
		return Answer{ID: id, Code: RefusedForm}
	}
	if s, known := m.said[id]; known && s.text == text {
		return Answer{ID: id, Code: s.code, Breaches: s.breaches}
	} else if known {
		fresh := !m.clashes[text]
		m.clashes[text] = true
		return Answer{ID: id, Code: Conflicting, Fresh: fresh}
	}
	if size, retired := rules.Retired[e.Source.Journal]; retired && e.Source.Index >= size {
		return Answer{ID: id, Code: RefusedKey}
	}
	code := m.judge(rules, e)
	if code == RefusedUnknown || code == RefusedSize {
		return Answer{ID: id, Code: code}
	}
	s := said{text: text, entry: *e, code: code}
	if code == Booked {
		m.booked = append(m.booked, *e)
		s.breaches = m.breaches(rules, e)
	}
	m.said[id] = s
	return Answer{ID: id, Code: code, Fresh: true, Breaches: s.breaches}
}

// even says whether an entry balances in every unit, and is whole otherwise.
func even(e *Entry) bool {
	sums := map[string]*big.Int{"hour": {}, "bed-night": {}}
	for _, p := range e.Postings {
		if sums[p.Account.Unit] == nil || p.Amount == 0 {
			return false
		}
		sums[p.Account.Unit].Add(sums[p.Account.Unit], big.NewInt(p.Amount))
	}
	return sums["hour"].Sign() == 0 && sums["bed-night"].Sign() == 0
}

func (m *model) judge(rules Rules, e *Entry) Code {
	if e.Kind != Post && e.Kind != Hold {
		of, here := m.said[e.Ref]
		wanted := []Kind{Hold}
		if e.Kind == Reverse {
			wanted = []Kind{Post, Settle}
		}
		done := slices.ContainsFunc(m.booked, func(b Entry) bool { return b.Ref == e.Ref })
		switch {
		case !here:
			return RefusedUnknown
		case of.code != Booked:
			return RefusedDone
		case !slices.Contains(wanted, of.entry.Kind):
			return RefusedMatch
		case done:
			return RefusedDone
		}
		for i, p := range e.Postings {
			q := of.entry.Postings
			if len(q) != len(e.Postings) || p.Account != q[i].Account {
				return RefusedMatch
			}
			if sign := map[Kind]int64{Settle: 1, Reverse: -1}[e.Kind]; p.Amount != sign*q[i].Amount {
				return RefusedMatch
			}
		}
		if e.Kind != Reverse {
			return Booked
		}
	}
	for a := range net64(e) {
		t, gives, gains := m.totals(a), uint64(0), uint64(0)
		for _, p := range e.Postings {
			if p.Account == a && p.Amount < 0 {
				gives += uint64(-p.Amount)
			} else if p.Account == a {
				gains += uint64(p.Amount)
			}
		}
		if uint64(t.Debits+t.DebitsPending)+gives > maxTotal || uint64(t.Credits+t.CreditsPending)+gains > maxTotal {
			return RefusedSize
		}
	}
	for a, n := range net64(e) {
		limit, limited := rules.Limits[a]
		t := m.totals(a)
		least, most := t.Balance()-t.DebitsPending+n, t.Balance()+t.CreditsPending+n
		if e.Standing == Permission && limited && (n < 0 && least < limit.Floor || n > 0 && most > limit.Ceiling) {
			return RefusedLimit
		}
	}
	return Booked
}

// net64 is what an entry comes to for each account.
func net64(e *Entry) map[Account]int64 {
	n := map[Account]int64{}
	for _, p := range e.Postings {
		n[p.Account] += p.Amount
	}
	return n
}

// breaches is asked right after e was booked.
func (m *model) breaches(rules Rules, e *Entry) (list []Breach) {
	if e.Kind == Hold {
		return nil
	}
	for a, n := range net64(e) {
		limit, limited := rules.Limits[a]
		if now := m.totals(a).Balance(); limited && (n < 0 && now < limit.Floor || n > 0 && now > limit.Ceiling) {
			list = append(list, Breach{Account: a, Balance: now, Limit: limit})
		}
	}
	slices.SortFunc(list, func(x, y Breach) int {
		return cmp.Or(cmp.Compare(x.Account.Path, y.Account.Path), cmp.Compare(x.Account.Unit, y.Account.Unit))
	})
	return list
}

func (m *model) totals(a Account) (t Totals) {
	ended := map[ID]bool{}
	for i := range m.booked {
		ended[m.booked[i].Ref] = true
	}
	for i := range m.booked {
		e := &m.booked[i]
		for _, p := range e.Postings {
			switch {
			case p.Account != a || e.Kind == Hold && ended[e.ID()]:
			case e.Kind == Hold && p.Amount < 0:
				t.DebitsPending -= p.Amount
			case e.Kind == Hold:
				t.CreditsPending += p.Amount
			case p.Amount < 0:
				t.Debits -= p.Amount
			default:
				t.Credits += p.Amount
			}
		}
	}
	return t
}

// witness watches a book from the outside, record by record.
type witness struct {
	texts    []string // of every record so far
	balance  map[Account]int64
	sources  map[Source]bool
	ended    map[ID]bool
	booked   map[ID]Entry
	grown    map[Account]Totals
	balances []byte
}

func newWitness() *witness {
	return &witness{balance: map[Account]int64{}, sources: map[Source]bool{}, ended: map[ID]bool{}, booked: map[ID]Entry{},
		grown: map[Account]Totals{}}
}

// see looks at what a batch has changed. rules were in force for it.
func (w *witness) see(rt *rapid.T, b *Book, rules Rules, answers []Answer) {
	records := b.Records()
	for i := range w.texts {
		if i >= len(records) || w.texts[i] != recordText(&records[i]) {
			rt.Fatalf("record %d was changed or taken away", i)
		}
	}
	for i := len(w.texts); i < len(records); i++ {
		w.texts = append(w.texts, recordText(&records[i]))
		w.record(rt, &records[i], rules)
	}
	for _, a := range b.Accounts() {
		now, was := b.Account(a), w.grown[a]
		if now.Balance() != w.balance[a] {
			rt.Fatalf("%v has %d, the booked records say %d: something else left a trace", a, now.Balance(), w.balance[a])
		}
		if now.Debits < was.Debits || now.Credits < was.Credits {
			rt.Fatalf("%v: a total fell from %+v to %+v", a, was, now)
		}
		w.grown[a] = now
	}
	text := b.AppendBalances(nil)
	if !slices.ContainsFunc(answers, func(a Answer) bool { return a.Code == Booked && a.Fresh }) && !bytes.Equal(text, w.balances) {
		rt.Fatal("nothing was booked, and the balances have changed")
	}
	w.balances = text
	for _, c := range b.Conflicts() {
		if i := slices.IndexFunc(records, func(r Record) bool { return r.Entry.Source == c.Entry.Source }); i < 0 ||
			bytes.Equal(c.Entry.AppendJSON(nil), records[i].Entry.AppendJSON(nil)) {
			rt.Fatalf("%s is kept as a conflict with nothing, or with itself", c.ID)
		}
	}
}

func recordText(r *Record) string { return string(r.Code) + " " + string(r.Entry.AppendJSON(nil)) }

func (w *witness) record(rt *rapid.T, r *Record, rules Rules) {
	e := &r.Entry
	if w.sources[e.Source] {
		rt.Fatalf("I6: %+v has two entries", e.Source)
	}
	w.sources[e.Source] = true
	if size, retired := rules.Retired[e.Source.Journal]; retired && e.Source.Index >= size {
		rt.Fatalf("I12: leaf %d of a journal that ended at %d was answered %q", e.Source.Index, size, r.Code)
	}
	if r.Code != Booked {
		if len(r.Breaches) > 0 {
			rt.Fatalf("I5: %q with a breach", r.Code)
		}
		return
	}
	if !even(e) {
		rt.Fatalf("I2: booked without balancing: %s", e.AppendJSON(nil))
	}
	if e.Ref != (ID{}) {
		of, here := w.booked[e.Ref]
		if !here || w.ended[e.Ref] {
			rt.Fatalf("I10: %s of %s, which was reversed or ended before, or never booked", e.Kind, e.Ref)
		}
		w.ended[e.Ref] = true
		if e.Kind == Reverse && (of.Kind == Reverse || of.Kind == Hold) {
			rt.Fatalf("I10: the reversal of a %s", of.Kind)
		}
		for a, n := range net64(e) {
			if e.Kind == Reverse && n+net64(&of)[a] != 0 {
				rt.Fatalf("I10: a reversal leaves %d at %v", n+net64(&of)[a], a)
			}
		}
	}
	w.booked[e.ID()] = *e
	if e.Kind == Hold {
		if len(r.Breaches) > 0 {
			rt.Fatal("I5: a hold moved nothing yet, and is flagged")
		}
		return
	}
	for a, n := range net64(e) {
		w.balance[a] += n
		now, limit := w.balance[a], rules.Limits[a]
		_, limited := rules.Limits[a]
		farther := limited && (n < 0 && now < limit.Floor || n > 0 && now > limit.Ceiling)
		if farther && e.Standing == Permission && e.Kind != Settle {
			rt.Fatalf("I5: a permission carried %v to %d, past %+v", a, now, limit)
		}
		if flagged := slices.Contains(r.Breaches, Breach{Account: a, Balance: now, Limit: limit}); flagged != farther {
			rt.Fatalf("I5: %v at %d, limits %+v: flagged %v", a, now, limit, flagged)
		}
	}
}

// I1, I2, I5, I6, I10 and I12 over random histories. Three books run beside each other: the one under test, which is restored
// from its records now and then, one that gets each batch in another order, and the model.
func TestRandomHistoriesKeepEveryInvariant(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { runHistory(rt, newBook(t), newBook(t)) })
}

// runHistory returns how often what was drawn came to which answer.
func runHistory(rt *rapid.T, b, mirror *Book) map[string]int {
	h, w, m := &history{rt: rt}, newWitness(), &model{said: map[ID]said{}, clashes: map[string]bool{}}
	rules, tally := Rules{}, map[string]int{}
	for range rapid.IntRange(1, 12).Draw(rt, "batches") {
		rules = h.rules(rules)
		if h.chance(4) {
			var err error
			if b, err = Restore([]Unit{{Name: "hour", Scale: 2}, {Name: "bed-night"}}, b.Records()); err != nil {
				rt.Fatal(err)
			}
			clear(m.clashes) // conflicts are evidence beside the books, not records of them
		}
		var batch []Entry
		for range rapid.IntRange(1, 10).Draw(rt, "size") {
			batch = append(batch, h.draw())
			h.offered = append(h.offered, batch[len(batch)-1])
		}
		got, want := b.Apply(rules, batch), m.apply(rules, batch)
		w.see(rt, b, rules, got)
		checkBooks(rt, b)
		for i := range batch {
			if g, w := got[i], want[i]; g.ID != w.ID || g.Code != w.Code || g.Fresh != w.Fresh || !slices.Equal(g.Breaches, w.Breaches) {
				rt.Fatalf("entry %d: %+v, want %+v: %s", i, got[i], want[i], batch[i].AppendJSON(nil))
			}
			tally[string(batch[i].Kind)+" "+string(got[i].Code)]++
			if got[i].Fresh && len(got[i].Breaches) > 0 {
				tally[string(batch[i].Kind)+" "+string(batch[i].Standing)+" breach"]++
			}
		}
		for _, a := range b.Accounts() {
			if b.Account(a) != m.totals(a) {
				rt.Fatalf("%v: %+v, want %+v", a, b.Account(a), m.totals(a))
			}
		}
		if len(b.Conflicts()) != len(m.clashes) {
			rt.Fatalf("%d conflicts are kept, want %d", len(b.Conflicts()), len(m.clashes))
		}
		mirror.Apply(rules, rapid.Permutation(batch).Draw(rt, "order"))
		if !slices.EqualFunc(b.Records(), mirror.Records(), func(x, y Record) bool { return recordText(&x) == recordText(&y) }) {
			rt.Fatal("another order within the batches gave other records")
		}
	}
	var again []Entry
	for _, r := range b.Records() {
		again = append(again, r.Entry)
	}
	for _, a := range b.Apply(Rules{Retired: map[string]uint64{historyJournals[0]: 0}}, rapid.Permutation(again).Draw(rt, "again")) {
		if s := m.said[a.ID]; a.Fresh || a.Code != s.code || !slices.Equal(a.Breaches, s.breaches) {
			rt.Fatalf("I6: offered again, %s is answered %+v, was %q", a.ID, a, s.code)
		}
	}
	if len(b.Records()) != len(again) || !bytes.Equal(b.AppendBalances(nil), w.balances) {
		rt.Fatal("I6: what was offered again has changed the books")
	}
	return tally
}
