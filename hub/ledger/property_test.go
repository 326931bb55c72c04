package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The twelve invariants of books and periods, and the tests that hold them. A test of another room stands with its name.
//
//	I1   all balances of a unit sum to zero: TestRandomHistoriesKeepEveryInvariant (checkBooks, after every batch)
//	I2   an entry balances in each of its units: TestRandomHistoriesKeepEveryInvariant, TestMalformedEntriesAreRefused
//	I3   original = discharged + waived + open, each at least zero: settlement TestPeriodsOfRandomStepsKeepEveryInvariant
//	I4   a set-off leaves every net position as it was: clearing TestEveryFamilyIsSettledVerifiedAndKeepsNetPositions; and
//	     what a period and its exits make of it: settlement TestPeriodsOfRandomStepsKeepEveryInvariant
//	I5   a permission never passes a limit, a fact that does is booked and flagged: TestRandomHistoriesKeepEveryInvariant,
//	     TestPermissionsAloneStayWithinTheLimitsHoweverTheirHoldsEnd; of a closed period: audit
//	     TestALimitThatFactsPassIsInTheBundleAndCannotBeLeftOut
//	I6   one set of entries a leaf and rule version: TestRandomHistoriesKeepEveryInvariant,
//	     TestFactsReachTheSameSealInWhateverBatchesAndHoweverOftenTheyCome; one obligation a leaf: settlement
//	     TestEveryLeafIsSettledOnceByTheFirstCutThatCoversIt
//	I7   a statement follows from cut and policy, byte for byte: settlement TestPeriodsOfRandomStepsKeepEveryInvariant, clearing
//	     TestShuffledInputAndOtherParallelismGiveIdenticalBytes; whole bundles: audit TestShuffledInputsGiveIdenticalBytes
//	I8   no policy in force before its delay or with too few governors: comes with the rules, when there are governors to count.
//	     Until then one key of the operator closes a period, and what stands for it is that only enough distinct signers make
//	     a statement final, and not before its window: settlement TestPeriodsOfRandomStepsKeepEveryInvariant,
//	     settlement TestOneSignerTwiceIsOneSigner; and that the statement binds the policy it was made under (I7)
//	I9   erasing a person moves no root: store TestErasingAnybodyAtAnyTimeMovesNoRootAndNoProof, exchange
//	     TestAnErasedMemberIsInNoFileAndEveryProofStands; nothing that could be erased enters a period: settlement
//	     TestNothingOfAPersonEntersAPeriod
//	I10  an entry is reversed at most once, and to nothing: TestRandomHistoriesKeepEveryInvariant, TestReversalHappensAtMostOnce
//	I11  what a conversion cannot turn into a whole part is booked: TestConversionBooksItsResidue,
//	     TestResiduesOfManyConversionsStandInTheRoundingAccounts
//	I12  a retired key says nothing after its final size: TestRandomHistoriesKeepEveryInvariant,
//	     TestRetiredKeyBooksNothingAfterItsFinalSize; settlement TestEveryLeafIsSettledOnceByTheFirstCutThatCoversIt; at the
//	     hub's door: intake TestStrangersAndRetiredEdgesStoreNothing
//
// TestTheTableOfInvariantsNamesTestsThatAreThere reads these lines.

func TestTheTableOfInvariantsNamesTestsThatAreThere(t *testing.T) {
	text, err := os.ReadFile("property_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for line := range strings.Lines(string(text)) {
		if row, is := strings.CutPrefix(line, "//\t"); is {
			table.WriteString(row)
		}
	}
	for n := 1; n <= 12; n++ {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^I%d `, n)).MatchString(table.String()) {
			t.Errorf("I%d is not in the table", n)
		}
	}
	named := regexp.MustCompile(`(?:\b([a-z]+)\s+)?\b(Test[A-Z]\w+)`).FindAllStringSubmatch(table.String(), -1)
	rooms := map[string]bool{"settlement": true, "clearing": true, "audit": true, "store": true, "exchange": true, "intake": true}
	for _, m := range named {
		room := "ledger"
		if rooms[m[1]] {
			room = m[1]
		}
		files, err := filepath.Glob(filepath.Join("..", room, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(files, func(name string) bool {
			code, err := os.ReadFile(name)
			return err == nil && bytes.Contains(code, []byte("\nfunc "+m[2]+"(t *testing.T)"))
		}) {
			t.Errorf("%s of hub/%s is in the table and nowhere else", m[2], room)
		}
	}
}

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

// I11 for one conversion: the residue is as large as can be, and stands in the rounding account.
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
