package ledger

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

const net = "kith"

func hours(path string) Account { return Account{Path: path, Unit: "hour"} }

func lisbon() Account { return hours(NodePath(net, "lisbon")) }
func porto() Account  { return hours(NodePath(net, "porto")) }

func newBook(t testing.TB) *Book {
	t.Helper()
	b, err := New([]Unit{{Name: "hour", Scale: 2}, {Name: "bed-night"}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func source(index uint64) Source {
	return Source{Journal: "kith/lisbon-front/0", Index: index, Rule: "v1"}
}

func transfer(index uint64, standing Standing, amount int64) Entry {
	return Entry{Source: source(index), Kind: Post, Standing: standing, At: 1000 - int64(index),
		Postings: []Posting{{Account: lisbon(), Amount: -amount}, {Account: porto(), Amount: amount}}}
}

// checkBooks is the total check after each step: I1, I2, pending in balance, and a rebuild to identical bytes (I6).
func checkBooks(t rapid.TB, b *Book) {
	t.Helper()
	sums, held := map[string]int64{}, map[string]int64{}
	for _, a := range b.Accounts() {
		totals := b.Account(a)
		sums[a.Unit] += totals.Balance()
		held[a.Unit] += totals.CreditsPending - totals.DebitsPending
		if totals.Debits < 0 || totals.Credits < 0 || totals.DebitsPending < 0 || totals.CreditsPending < 0 {
			t.Fatalf("%v: a total below zero: %+v", a, totals)
		}
	}
	for unit := range sums {
		if sums[unit] != 0 || held[unit] != 0 {
			t.Fatalf("unit %q: balances sum to %d, holds to %d", unit, sums[unit], held[unit])
		}
	}
	again, err := Restore([]Unit{{Name: "hour", Scale: 2}, {Name: "bed-night"}}, b.Records())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.AppendBalances(nil), b.AppendBalances(nil)) {
		t.Fatal("a rebuild from the records gives other balances")
	}
}

func apply(t testing.TB, b *Book, rules Rules, entries ...Entry) []Answer {
	t.Helper()
	answers := b.Apply(rules, entries)
	checkBooks(t, b)
	return answers
}

func wantCodes(t *testing.T, answers []Answer, codes ...Code) {
	t.Helper()
	for i, code := range codes {
		if answers[i].Code != code {
			t.Errorf("entry %d: %q, want %q", i, answers[i].Code, code)
		}
	}
}

func TestTwoPermissionsThatTogetherBreakALimitExactlyOneSucceeds(t *testing.T) {
	rules := Rules{Limits: map[Account]Limit{lisbon(): {Floor: -100, Ceiling: 100}}}
	one, two := transfer(1, Permission, 60), transfer(2, Permission, 60)
	for _, batch := range [][]Entry{{one, two}, {two, one}} {
		b := newBook(t)
		answers := apply(t, b, rules, batch...)
		if codes := (map[Code]int{answers[0].Code: 1}); codes[answers[1].Code] == 1 || b.Account(lisbon()).Balance() != -60 {
			t.Fatalf("answers %+v, balance %d", answers, b.Account(lisbon()).Balance())
		}
		again := apply(t, b, Rules{}, batch...) // also when the limit is gone: what was refused stays refused
		for i := range again {
			if again[i].Code != answers[i].Code || again[i].Fresh {
				t.Errorf("offered again: %+v, was %+v", again[i], answers[i])
			}
		}
	}
}

func TestTwoFactsThatTogetherBreakALimitBothStandAndOneBreachIsFlagged(t *testing.T) {
	rules := Rules{Limits: map[Account]Limit{lisbon(): {Floor: -100, Ceiling: 100}}}
	b := newBook(t)
	answers := apply(t, b, rules, transfer(2, Fact, 60), transfer(1, Fact, 60))
	wantCodes(t, answers, Booked, Booked)
	if n := len(answers[0].Breaches) + len(answers[1].Breaches); n != 1 || b.Account(lisbon()).Balance() != -120 {
		t.Errorf("%d breaches, balance %d, want 1 and -120", n, b.Account(lisbon()).Balance())
	}
	back := Entry{Source: source(3), Kind: Post, Standing: Permission, Postings: []Posting{{lisbon(), 5}, {porto(), -5}}}
	wantCodes(t, apply(t, b, rules, back), Booked) // the way back is open though the account is past its floor
}

func TestCeilingRefusesTheReceivingSide(t *testing.T) {
	rules := Rules{Limits: map[Account]Limit{porto(): {Floor: -10, Ceiling: 50}}}
	b := newBook(t)
	wantCodes(t, apply(t, b, rules, transfer(1, Permission, 50), transfer(2, Permission, 1)), Booked, RefusedLimit)
}

func TestHoldsCountAgainstLimitsAndResolveOnce(t *testing.T) {
	rules := Rules{Limits: map[Account]Limit{lisbon(): {Floor: -100, Ceiling: 100}}}
	b := newBook(t)
	hold := transfer(1, Permission, 80)
	hold.Kind = Hold
	wantCodes(t, apply(t, b, rules, hold), Booked)
	if got := b.Account(lisbon()); got.Balance() != 0 || got.DebitsPending != 80 {
		t.Fatalf("after the hold: %+v", got)
	}
	wantCodes(t, apply(t, b, rules, transfer(2, Permission, 30)), RefusedLimit)
	settle := transfer(3, Fact, 80)
	settle.Kind, settle.Ref = Settle, hold.ID()
	wrong := transfer(4, Fact, 79)
	wrong.Kind, wrong.Ref = Settle, hold.ID()
	void := Entry{Source: source(5), Kind: Void, Standing: Fact, Ref: hold.ID()}
	wantCodes(t, apply(t, b, rules, wrong), RefusedMatch)
	wantCodes(t, apply(t, b, rules, settle), Booked)
	wantCodes(t, apply(t, b, rules, void), RefusedDone)
	if got := b.Account(lisbon()); got.Balance() != -80 || got.DebitsPending != 0 {
		t.Fatalf("after settling: %+v", got)
	}
	second := transfer(6, Permission, 20)
	second.Kind = Hold
	expire := Entry{Source: source(7), Kind: Expire, Standing: Fact, Ref: second.ID()}
	wantCodes(t, apply(t, b, rules, second, expire), Booked, Booked)
	if got := b.Account(lisbon()); got.Balance() != -80 || got.DebitsPending != 0 {
		t.Fatalf("after expiry: %+v", got)
	}
}

func TestHoldsCountAgainstTheCeilingOfTheReceivingSide(t *testing.T) {
	rules := Rules{Limits: map[Account]Limit{porto(): {Floor: -100, Ceiling: 100}}}
	b := newBook(t)
	hold := transfer(1, Permission, 80)
	hold.Kind = Hold
	second := transfer(2, Permission, 30)
	second.Kind = Hold
	wantCodes(t, apply(t, b, rules, hold, second, transfer(3, Permission, 30), transfer(4, Permission, 20)),
		Booked, RefusedLimit, RefusedLimit, Booked)
	back := transfer(5, Permission, -10) // what is held has not come yet: it cannot be given on
	back.Postings[0].Account, back.Postings[1].Account = lisbon(), porto()
	wantCodes(t, apply(t, b, rules, back), Booked)
	wantCodes(t, apply(t, b, rules, transfer(6, Permission, -111)), RefusedLimit)
}

func TestReversalHappensAtMostOnce(t *testing.T) {
	b := newBook(t)
	original := transfer(1, Fact, 40)
	first, second := Reversal(&original, source(2), 0), Reversal(&original, source(3), 0)
	crooked := Reversal(&original, source(4), 0)
	crooked.Postings[0].Amount, crooked.Postings[1].Amount = 41, -41
	wantCodes(t, apply(t, b, Rules{}, crooked), RefusedUnknown)
	wantCodes(t, apply(t, b, Rules{}, original, crooked), Booked, RefusedMatch)
	wantCodes(t, apply(t, b, Rules{}, second, first), RefusedDone, Booked) // the earlier source wins
	wantCodes(t, apply(t, b, Rules{}, Reversal(&first, source(5), 0)), RefusedMatch)
	if got := b.Account(lisbon()).Balance(); got != 0 {
		t.Errorf("balance %d after the reversal", got)
	}
}

func TestSameIdentityWithOtherBytesIsKeptAsOneConflict(t *testing.T) {
	b := newBook(t)
	other := transfer(1, Fact, 41)
	apply(t, b, Rules{}, transfer(1, Fact, 40))
	for range 3 {
		wantCodes(t, apply(t, b, Rules{}, other), Conflicting)
	}
	if len(b.Conflicts()) != 1 || b.Conflicts()[0].Entry.Postings[1].Amount != 41 || b.Account(porto()).Balance() != 40 {
		t.Errorf("%d conflicts, balance %d", len(b.Conflicts()), b.Account(porto()).Balance())
	}
}

func TestMalformedEntriesAreRefused(t *testing.T) {
	b := newBook(t)
	for name, spoil := range map[string]func(*Entry){
		"unbalanced":         func(e *Entry) { e.Postings[0].Amount++ },
		"unbalanced by unit": func(e *Entry) { e.Postings[0].Account.Unit = "bed-night" },
		"unknown unit":       func(e *Entry) { e.Postings[0].Account.Unit = "euro"; e.Postings[1].Account.Unit = "euro" },
		"zero":               func(e *Entry) { e.Postings = append(e.Postings, Posting{Account: porto()}) },
		"wrapping":           func(e *Entry) { e.Postings[0].Amount, e.Postings[1].Amount = -1<<63, -1<<63 },
		"foreign path":       func(e *Entry) { e.Postings[0].Account.Path = `kith/"` },
		"a path too short":   func(e *Entry) { e.Postings[0].Account.Path = "kith" },
		"a ref it needs not": func(e *Entry) { e.Ref = ID{1} },
		"no ref":             func(e *Entry) { e.Kind = Reverse },
		"unknown kind":       func(e *Entry) { e.Kind = "gift" },
		"journal with quote": func(e *Entry) { e.Source.Journal = `a"b` },
	} {
		e := transfer(1, Fact, 40)
		spoil(&e)
		if got := apply(t, b, Rules{}, e)[0].Code; got != RefusedForm {
			t.Errorf("%s: %q, want %q", name, got, RefusedForm)
		}
	}
	if len(b.Records()) != 0 {
		t.Error("a malformed entry was recorded")
	}
}

func TestTotalsThatDoNotFitAreRefused(t *testing.T) {
	b := newBook(t)
	answers := apply(t, b, Rules{}, transfer(1, Fact, maxTotal), transfer(2, Fact, 1), transfer(3, Fact, maxTotal+1))
	wantCodes(t, answers, Booked, RefusedSize, RefusedSize)
}

func TestRetiredKeyBooksNothingAfterItsFinalSize(t *testing.T) {
	b := newBook(t)
	rules := Rules{Retired: map[string]uint64{source(0).Journal: 2}}
	wantCodes(t, apply(t, b, rules, transfer(1, Fact, 1), transfer(2, Fact, 1)), Booked, RefusedKey)
}

func TestBatchThriceShuffledWithAKillBetweenGivesTheSameSeal(t *testing.T) {
	rules := Rules{Limits: map[Account]Limit{lisbon(): {Floor: -300, Ceiling: 300}}}
	var batch []Entry
	for i := range uint64(60) {
		standing := Fact
		if i%3 == 0 {
			standing = Permission
		}
		e := transfer(i, standing, int64(i)-25)
		if i == 25 {
			e = Reversal(&batch[3], source(i), 0)
		}
		batch = append(batch, e)
	}
	whole := newBook(t)
	apply(t, whole, rules, batch...)
	want, err := whole.Seal("2026-11")
	if err != nil {
		t.Fatal(err)
	}
	for kill := range len(batch) {
		b := newBook(t)
		b.Apply(rules, batch[:kill]) // what was durable when the power went
		b, err := Restore([]Unit{{Name: "hour", Scale: 2}, {Name: "bed-night"}}, b.Records())
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(uint64(kill), 1))
		for range 3 {
			shuffled := append([]Entry(nil), batch...)
			rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			b.Apply(rules, shuffled)
		}
		checkBooks(t, b)
		if got, err := b.Seal("2026-11"); err != nil || got.Seal != want.Seal {
			t.Fatalf("killed after %d: seal %x, want %x (%v)", kill, got.Root, want.Root, err)
		}
	}
}

func TestChangedRecordsAreNotRestored(t *testing.T) {
	b := newBook(t)
	original := transfer(1, Fact, 40)
	apply(t, b, Rules{}, original, Reversal(&original, source(2), 0))
	for name, spoil := range map[string]func([]Record) []Record{
		"out of order": func(r []Record) []Record { return []Record{r[1], r[0]} },
		"doubled":      func(r []Record) []Record { return append(r, r[0]) },
		"unbalanced": func(r []Record) []Record {
			r[0].Entry = transfer(1, Fact, 40)
			r[0].Entry.Postings[0].Amount--
			return r
		},
		"other answer": func(r []Record) []Record { r[1].Code = RefusedDone; return r },
	} {
		if _, err := Restore([]Unit{{Name: "hour"}}, spoil(append([]Record(nil), b.Records()...))); err == nil {
			t.Errorf("%s: restored", name)
		}
	}
}

func BenchmarkApplyInBatchesOfHundred(b *testing.B) {
	rules := Rules{Limits: map[Account]Limit{lisbon(): {Floor: -1 << 50, Ceiling: 1 << 50}}}
	book, index := newBook(b), uint64(0)
	for b.Loop() {
		batch := make([]Entry, 100)
		for i := range batch {
			batch[i] = transfer(index, Permission, 1)
			index++
		}
		book.Apply(rules, batch)
	}
	b.ReportMetric(100*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
