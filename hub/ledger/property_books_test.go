package ledger

import (
	"bytes"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The histories are worth what they contain: the same few hundred, on every machine, reach every answer to every kind of entry.
func TestHistoriesReachEveryAnswer(t *testing.T) {
	reached := map[string]int{}
	for seed := range 300 {
		for what, n := range rapid.Custom(func(rt *rapid.T) map[string]int { return runHistory(rt, newBook(t), newBook(t)) }).Example(seed) {
			reached[what] += n
		}
	}
	missing := []string{"post fact breach", "settle fact breach", "reverse fact breach", "settle permission breach"}
	for kind, codes := range map[Kind][]Code{
		Post:    {Booked, RefusedLimit, RefusedForm, RefusedKey, RefusedSize, Conflicting},
		Hold:    {Booked, RefusedLimit, RefusedForm, RefusedKey, RefusedSize, Conflicting},
		Settle:  {Booked, RefusedDone, RefusedMatch, RefusedKey, RefusedUnknown, Conflicting},
		Void:    {Booked, RefusedDone, RefusedMatch, RefusedKey, RefusedUnknown, Conflicting},
		Expire:  {Booked, RefusedDone, RefusedMatch, RefusedKey, RefusedUnknown, Conflicting},
		Reverse: {Booked, RefusedLimit, RefusedDone, RefusedMatch, RefusedKey, RefusedUnknown, Conflicting},
	} {
		for _, code := range codes {
			missing = append(missing, string(kind)+" "+string(code))
		}
	}
	if missing = slices.DeleteFunc(missing, func(what string) bool { return reached[what] > 0 }); len(missing) > 0 {
		t.Errorf("no history comes to %q", missing)
	}
}

// I5 from the other side, without any rule of the ledger: where everything was asked before, no account can leave its limits,
// whichever of the open holds are settled and whichever are not; and what was refused leaves no trace.
func TestPermissionsAloneStayWithinTheLimitsHoweverTheirHoldsEnd(t *testing.T) {
	const mostOpen = 6 // all ways to end them are tried
	places := []Account{lisbon(), porto(), hours(CommonsPath(net))}
	rapid.Check(t, func(rt *rapid.T) {
		b, rules := newBook(t), Rules{Limits: map[Account]Limit{}}
		for _, a := range places {
			rules.Limits[a] = Limit{Floor: rapid.Int64Range(-60, 0).Draw(rt, "floor"), Ceiling: rapid.Int64Range(0, 60).Draw(rt, "ceiling")}
		}
		var open, posted []Entry
		for i := range rapid.Uint64Range(1, 40).Draw(rt, "steps") {
			from, by := rapid.IntRange(0, 2).Draw(rt, "from"), rapid.IntRange(1, 2).Draw(rt, "by")
			amount := rapid.Int64Range(1, 30).Draw(rt, "amount")
			e := Entry{Source: source(i), Kind: Post, Standing: Permission,
				Postings: []Posting{{places[from], -amount}, {places[(from+by)%3], amount}}}
			of := -1
			switch what := rapid.SampledFrom([]Kind{Post, Hold, Hold, Settle, Void, Expire, Reverse}).Draw(rt, "kind"); {
			case what == Hold && len(open) < mostOpen:
				e.Kind = Hold
			case what == Reverse && len(posted) > 0:
				e = Reversal(&posted[rapid.IntRange(0, len(posted)-1).Draw(rt, "of")], source(i), 0)
				e.Standing = Permission
			case (what == Settle || what == Void || what == Expire) && len(open) > 0:
				of = rapid.IntRange(0, len(open)-1).Draw(rt, "of")
				e = Entry{Source: source(i), Kind: what, Standing: Fact, Ref: open[of].ID()}
				if what == Settle {
					e.Postings = open[of].Postings
				}
			}
			before := b.AppendBalances(nil)
			a := b.Apply(rules, []Entry{e})[0]
			switch {
			case len(a.Breaches) > 0:
				rt.Fatalf("%s came to %+v", e.AppendJSON(nil), a.Breaches)
			case a.Code != Booked:
				if again := b.Apply(Rules{}, []Entry{e})[0]; again.Code != a.Code || again.Fresh || !bytes.Equal(b.AppendBalances(nil), before) {
					rt.Fatalf("refused as %q, then answered %+v; the books are %s, were %s", a.Code, again, b.AppendBalances(nil), before)
				}
			case e.Kind == Hold:
				open = append(open, e)
			case of >= 0:
				if open = slices.Delete(open, of, of+1); e.Kind == Settle {
					posted = append(posted, e)
				}
			case e.Kind == Post:
				posted = append(posted, e)
			}
			for settled := range 1 << len(open) {
				for _, place := range places {
					balance := b.Account(place).Balance()
					for k, hold := range open {
						if settled>>k&1 == 1 {
							balance += net64(&hold)[place]
						}
					}
					if l := rules.Limits[place]; balance < l.Floor || balance > l.Ceiling {
						rt.Fatalf("%v can come to %d, limits %+v", place, balance, l)
					}
				}
			}
		}
		checkBooks(rt, b)
	})
}

// I6: one set of entries a leaf and rule version. Facts reach the same seal however they are cut into batches, in whatever
// order and however often these come, and wherever the power goes: late ones, and corrections that come before what they
// correct, included.
func TestFactsReachTheSameSealInWhateverBatchesAndHoweverOftenTheyCome(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var facts []Entry
		corrected := map[int]bool{}
		for i := range rapid.IntRange(1, 30).Draw(rt, "facts") {
			of := rapid.IntRange(-2*i-1, i-1).Draw(rt, "of")
			e := transfer(uint64(i), Fact, rapid.Int64Range(1, 40).Draw(rt, "amount"))
			e.Kind = rapid.SampledFrom([]Kind{Post, Hold}).Draw(rt, "kind")
			if of >= 0 && !corrected[of] && facts[of].Kind != Reverse && facts[of].Kind != Void && facts[of].Kind != Expire {
				corrected[of] = true // a second one would be refused, and which is the second depends on what comes first
				e = Reversal(&facts[of], source(uint64(i)), 0)
				if facts[of].Kind == Hold {
					if e.Kind = rapid.SampledFrom([]Kind{Settle, Void, Expire}).Draw(rt, "end"); e.Kind == Settle {
						e.Postings = facts[of].Postings
					} else {
						e.Postings = nil
					}
				}
			}
			facts = append(facts, e)
		}
		whole, pieces := newBook(t), newBook(t)
		whole.Apply(Rules{}, facts)
		for range rapid.IntRange(0, 6).Draw(rt, "batches") {
			pieces.Apply(Rules{}, rapid.SliceOfN(rapid.SampledFrom(facts), 1, 12).Draw(rt, "batch"))
			if rapid.Bool().Draw(rt, "kill") {
				var err error
				if pieces, err = Restore([]Unit{{Name: "hour", Scale: 2}, {Name: "bed-night"}}, pieces.Records()); err != nil {
					rt.Fatal(err)
				}
			}
		}
		pieces.Apply(Rules{}, rapid.Permutation(facts).Draw(rt, "all of them"))
		if len(pieces.Records()) != len(facts) {
			rt.Fatalf("%d records of %d facts", len(pieces.Records()), len(facts))
		}
		want, err := whole.Seal("2026-11")
		if err != nil {
			rt.Fatal(err)
		}
		if got, err := pieces.Seal("2026-11"); err != nil || got.Seal != want.Seal {
			rt.Fatalf("seal %x, want %x (%v)\n%s", got.Root, want.Root, err, pieces.AppendBalances(nil))
		}
		checkBooks(rt, pieces)
	})
}

// I11 over a history: after conversions there and back at changing rates, what no rate could turn into a whole part stands in
// the rounding accounts to the last part, and nowhere else.
func TestResiduesOfManyConversionsStandInTheRoundingAccounts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBook(t)
		sides := []Account{lisbon(), {Path: NodePath(net, "porto"), Unit: "bed-night"}}
		given, gained, residues := map[string]int64{}, map[string]int64{}, map[string]int64{}
		for i := range rapid.Uint64Range(1, 12).Draw(rt, "conversions") {
			from := rapid.IntRange(0, 1).Draw(rt, "from")
			c := Conversion{Network: net, From: sides[from], To: sides[1-from], Amount: rapid.Int64Range(1, 1000).Draw(rt, "amount"),
				Rate: Rate{Num: rapid.Int64Range(1, 60).Draw(rt, "num"), Den: rapid.Int64Range(1, 60).Draw(rt, "den")}}
			posts, err := c.Postings()
			if err != nil {
				rt.Fatal(err)
			}
			// From the definition: the least amount that is worth as much is what was used.
			worth := func(v int64) int64 {
				return new(big.Int).Div(new(big.Int).Mul(big.NewInt(v), big.NewInt(c.Rate.Num)), big.NewInt(c.Rate.Den)).Int64()
			}
			used := c.Amount
			for used > 0 && worth(used-1) == worth(c.Amount) {
				used--
			}
			e := Entry{Source: source(i), Kind: Post, Standing: Fact, Postings: posts}
			if len(posts) < 2 {
				rt.Fatalf("%+v comes to %v", c, posts)
			}
			a := b.Apply(Rules{}, []Entry{e})[0]
			if a.Code != Booked {
				rt.Fatalf("%+v: %q", c, a.Code)
			}
			given[c.From.Unit] += used
			gained[c.To.Unit] += worth(c.Amount)
			residues[c.From.Unit] += c.Amount - used
		}
		for _, unit := range []string{"hour", "bed-night"} {
			if got := b.Account(Account{RoundingPath(net), unit}).Balance(); got != residues[unit] {
				rt.Fatalf("rounding in %s: %d, want %d", unit, got, residues[unit])
			}
			if got := b.Account(Account{ConversionPath(net), unit}).Balance(); got != given[unit]-gained[unit] {
				rt.Fatalf("conversion in %s: %d, want %d", unit, got, given[unit]-gained[unit])
			}
		}
		checkBooks(rt, b)
	})
}
