package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func event(i int) ID { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))) }

func TestSharesOfHundredOverThreeAndThreeThousandOverSevenSumExactlyAndRotate(t *testing.T) {
	for _, tc := range []struct {
		total int64
		n     int
	}{{100, 3}, {3000, 7}, {-100, 3}, {2, 5}, {0, 4}} {
		extra := make([]int, tc.n)
		for i := range 700 {
			shares, err := Split(tc.total, tc.n, event(i))
			if err != nil {
				t.Fatal(err)
			}
			sum := int64(0)
			for place, s := range shares {
				sum += s
				if s != tc.total/int64(tc.n) {
					extra[place]++
				}
			}
			if sum != tc.total || slices.Max(shares)-slices.Min(shares) > 1 {
				t.Fatalf("%d over %d: %v", tc.total, tc.n, shares)
			}
		}
		if left := tc.total % int64(tc.n); left != 0 && slices.Min(extra) < 700*int(max(left, -left))/tc.n/2 {
			t.Errorf("%d over %d: the remainder went %v times to each place: it does not rotate", tc.total, tc.n, extra)
		}
	}
}

func TestWeightedSharesSumExactlyAndStayWithinOneOfTheirPart(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		total := rapid.Int64().Draw(rt, "total")
		weights := rapid.SliceOfN(rapid.Int64Range(0, 1<<40), 1, 12).Draw(rt, "weights")
		sum := int64(0)
		for _, w := range weights {
			sum += w
		}
		if sum == 0 {
			weights[0], sum = 1, 1
		}
		shares, err := SplitByWeight(total, weights, event(rapid.Int().Draw(rt, "event")))
		if err != nil {
			rt.Fatal(err)
		}
		got := new(big.Int)
		for i, s := range shares {
			got.Add(got, big.NewInt(s))
			// |share * sum - total * weight| < sum
			d := new(big.Int).Mul(big.NewInt(s), big.NewInt(sum))
			d.Sub(d, new(big.Int).Mul(big.NewInt(total), big.NewInt(weights[i])))
			if d.CmpAbs(big.NewInt(sum)) >= 0 {
				rt.Fatalf("share %d of weight %d is off by a whole part", s, weights[i])
			}
		}
		if got.Cmp(big.NewInt(total)) != 0 {
			rt.Fatalf("shares sum to %s, want %d", got, total)
		}
	})
}

func TestConversionBooksItsResidue(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rate := Rate{Num: rapid.Int64Range(1, 1000).Draw(rt, "num"), Den: rapid.Int64Range(1, 1000).Draw(rt, "den")}
		c := Conversion{Network: net, From: lisbon(), To: Account{Path: NodePath(net, "porto"), Unit: "bed-night"},
			Amount: rapid.Int64Range(1, 1<<50).Draw(rt, "amount"), Rate: rate}
		posts, err := c.Postings()
		if err != nil {
			rt.Fatal(err)
		}
		worth, residue, _ := rate.Convert(c.Amount)
		if want := new(big.Int).Div(new(big.Int).Mul(big.NewInt(c.Amount), big.NewInt(rate.Num)), big.NewInt(rate.Den)); want.Cmp(big.NewInt(worth)) != 0 {
			rt.Fatalf("worth %d, want %s", worth, want)
		}
		if less, _, _ := rate.Convert(c.Amount - residue); less != worth {
			rt.Fatalf("without its residue %d the amount is worth %d, not %d", residue, less, worth)
		}
		if used := c.Amount - residue; used > 0 {
			if less, _, _ := rate.Convert(used - 1); less >= worth {
				rt.Fatal("the residue could be larger")
			}
		}
		b := newBook(t)
		if got := b.Apply(Rules{}, []Entry{{Source: source(1), Kind: Post, Standing: Fact, Postings: posts}})[0].Code; got != Booked {
			rt.Fatalf("answer %q", got)
		}
		if got := b.Account(hours(RoundingPath(net))).Balance(); got != residue {
			rt.Fatalf("rounding account has %d, want %d", got, residue)
		}
		checkBooks(t, b)
	})
}

// Random histories against the invariants: sums of zero, balance per entry, one set per source, permissions within
// limits, breaches flagged, resolution at most once, and the same books whatever the order within a batch.
func TestRandomHistoriesKeepEveryInvariant(t *testing.T) {
	places := []Account{lisbon(), porto(), hours(CommonsPath(net)), hours(MemberPath(net, "lisbon", "m1"))}
	limit := Limit{Floor: -50, Ceiling: 50}
	rules := Rules{Limits: map[Account]Limit{places[0]: limit, places[1]: limit}}
	rapid.Check(t, func(rt *rapid.T) {
		b, mirror := newBook(t), newBook(t)
		var offered []Entry
		next := uint64(0)
		for range rapid.IntRange(1, 6).Draw(rt, "batches") {
			var batch []Entry
			for range rapid.IntRange(1, 8).Draw(rt, "size") {
				next++
				batch = append(batch, drawEntry(rt, next, places, offered))
				offered = append(offered, batch[len(batch)-1])
			}
			if rapid.Bool().Draw(rt, "repeat") {
				batch = append(batch, offered[rapid.IntRange(0, len(offered)-1).Draw(rt, "which")])
			}
			before := map[Account]int64{}
			for _, a := range places {
				before[a] = b.Account(a).Balance()
			}
			b.Apply(rules, batch)
			mirror.Apply(rules, rapid.Permutation(batch).Draw(rt, "order"))
			checkBooks(t, b)
		}
		if !bytes.Equal(b.AppendBalances(nil), mirror.AppendBalances(nil)) {
			rt.Fatal("another order within the batches gave other balances")
		}
		checkHistory(rt, b, limit, places[:2])
	})
}

func drawEntry(rt *rapid.T, index uint64, places []Account, offered []Entry) Entry {
	kind := rapid.SampledFrom([]Kind{Post, Post, Hold, Settle, Void, Reverse}).Draw(rt, "kind")
	standing := rapid.SampledFrom([]Standing{Fact, Permission}).Draw(rt, "standing")
	if len(offered) == 0 {
		kind = Post
	}
	if kind != Post && kind != Hold {
		of := offered[rapid.IntRange(0, len(offered)-1).Draw(rt, "of")]
		e := Reversal(&of, source(index), 0)
		e.Kind = kind
		if kind == Settle {
			e.Postings = slices.Clone(of.Postings)
		}
		if kind == Void {
			e.Postings = nil
		}
		return e
	}
	from := rapid.IntRange(0, len(places)-1).Draw(rt, "from")
	to := (from + rapid.IntRange(1, len(places)-1).Draw(rt, "to")) % len(places)
	amount := rapid.Int64Range(1, 40).Draw(rt, "amount")
	return Entry{Source: source(index), Kind: kind, Standing: standing,
		Postings: []Posting{{places[from], -amount}, {places[to], amount}}}
}

// checkHistory replays the records by the simplest possible arithmetic.
func checkHistory(rt *rapid.T, b *Book, limit Limit, limited []Account) {
	balance, seen, resolved := map[Account]int64{}, map[ID]bool{}, map[ID]bool{}
	for _, r := range b.Records() {
		e := r.Entry
		if seen[e.ID()] {
			rt.Fatalf("%s stands twice", e.ID())
		}
		seen[e.ID()] = true
		if r.Code != Booked {
			continue
		}
		if e.Ref != (ID{}) {
			if resolved[e.Ref] {
				rt.Fatalf("%s was resolved twice", e.Ref)
			}
			resolved[e.Ref] = true
		}
		if e.Kind == Hold {
			continue
		}
		flagged := map[Account]bool{}
		for _, br := range r.Breaches {
			flagged[br.Account] = true
		}
		for _, p := range e.Postings {
			balance[p.Account] += p.Amount
			now := balance[p.Account]
			worse := p.Amount < 0 && now < limit.Floor || p.Amount > 0 && now > limit.Ceiling
			if !slices.Contains(limited, p.Account) {
				continue
			}
			if worse && e.Kind == Post && e.Standing == Permission {
				rt.Fatalf("a permission carried %s to %d", p.Account.Path, now)
			}
			if worse != flagged[p.Account] {
				rt.Fatalf("%s at %d: breach flagged %v", p.Account.Path, now, flagged[p.Account])
			}
		}
	}
	for _, a := range b.Accounts() {
		if b.Account(a).Balance() != balance[a] {
			rt.Fatalf("%s has %d, the records say %d", a.Path, b.Account(a).Balance(), balance[a])
		}
	}
}

func TestEverySealedBalanceIsProvedAndNoOther(t *testing.T) {
	for n := 1; n < 40; n++ {
		b := newBook(t)
		for i := range uint64(n) {
			e := transfer(i, Fact, int64(i)+1)
			e.Postings[1].Account = hours(NodePath(net, fmt.Sprintf("n%d", i)))
			b.Apply(Rules{}, []Entry{e})
		}
		sealed, err := b.Seal("2026-11")
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range b.Accounts() {
			p, err := sealed.Prove(a)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p.Leaf, AppendLeaf(nil, a, b.Account(a))) {
				t.Fatalf("leaf %q", p.Leaf)
			}
			if err := sealed.Verify(p); err != nil {
				t.Fatalf("%d accounts, %s: %v", n, a.Path, err)
			}
			refuseSpoiledProofs(t, sealed.Seal, p)
		}
		if _, err := sealed.Prove(hours("kith/nobody")); err == nil {
			t.Fatal("a proof for an account that is not sealed")
		}
	}
	empty, _ := newBook(t).Seal("2026-11")
	if err := empty.Verify(Proof{Leaf: []byte("x")}); err == nil {
		t.Error("a proof against an empty seal was accepted")
	}
}

func refuseSpoiledProofs(t *testing.T, seal Seal, p Proof) {
	t.Helper()
	spoiled := []Proof{
		{Index: p.Index, Leaf: append([]byte("x"), p.Leaf...), Path: p.Path},
		{Index: p.Index, Leaf: p.Leaf, Path: append(slices.Clone(p.Path), [32]byte{1})},
		{Index: seal.Accounts, Leaf: p.Leaf, Path: p.Path},
	}
	if len(p.Path) > 0 {
		spoiled = append(spoiled, Proof{Index: p.Index, Leaf: p.Leaf, Path: p.Path[1:]},
			Proof{Index: p.Index ^ 1, Leaf: p.Leaf, Path: p.Path})
	}
	for i, s := range spoiled {
		if err := seal.Verify(s); err == nil {
			t.Fatalf("spoiled proof %d of account %d of %d was accepted", i, p.Index, seal.Accounts)
		}
	}
}

func TestEntryReadsBackFromItsOwnBytesOnly(t *testing.T) {
	e := transfer(7, Permission, 40)
	hold := transfer(8, Fact, 40)
	hold.Kind, hold.Ref = Settle, e.ID()
	for _, e := range []Entry{e, hold} {
		text := e.AppendJSON(nil)
		back, err := ParseEntry(text)
		if err != nil || !bytes.Equal(back.AppendJSON(nil), text) {
			t.Fatalf("%v: %s", err, text)
		}
		for i := range text {
			changed := bytes.Clone(text)
			changed[i] ^= 1
			if other, err := ParseEntry(changed); err == nil && bytes.Equal(other.AppendJSON(nil), text) {
				t.Fatalf("byte %d can change without a trace", i)
			}
		}
		if _, err := ParseEntry(append(text, '\n')); err == nil {
			t.Error("a trailing byte was accepted")
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	e := transfer(7, Permission, 40)
	f.Add(e.AppendJSON(nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		if e, err := ParseEntry(text); err == nil && !bytes.Equal(e.AppendJSON(nil), text) {
			t.Fatal("accepted a line that is not canonical")
		}
	})
}
