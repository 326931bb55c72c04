package advice

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

func gets(parts []Part) []int64 {
	out := make([]int64, len(parts))
	for i := range parts {
		out[i] = parts[i].Gets
	}
	return out
}

func sum(list []int64) int64 {
	total := int64(0)
	for _, n := range list {
		total += n
	}
	return total
}

func share(t *testing.T, total int64, claims []Claim, seed string) []Part {
	t.Helper()
	parts, err := Share(total, claims, []byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

func TestEqualClaimsDifferByAtMostOneAndSumExactly(t *testing.T) {
	for _, c := range []struct {
		total int64
		n     int
		least int64
		more  int // that many get one more
	}{{100, 3, 33, 1}, {3000, 7, 428, 4}, {5, 5, 1, 0}, {2, 7, 0, 2}, {0, 4, 0, 0}} {
		var claims []Claim
		for i := range c.n {
			claims = append(claims, Claim{fmt.Sprintf("house-%d", i), c.total, 1})
		}
		parts := share(t, c.total, claims, "roots")
		more, lots := 0, 0
		for i, p := range parts {
			if p.Gets == c.least+1 {
				more++
			} else if p.Gets != c.least {
				t.Errorf("%d over %d: %s gets %d", c.total, c.n, p.Who, p.Gets)
			}
			if p.Why == LotWon {
				lots++
			}
			if p.Reason() == "" || parts[i].Total != c.total {
				t.Errorf("%+v has no reason", p)
			}
		}
		if more != c.more || lots != c.more || sum(gets(parts)) != c.total {
			t.Errorf("%d over %d: %v", c.total, c.n, gets(parts))
		}
	}
}

func TestEveryOutcomeHasItsReason(t *testing.T) {
	for _, c := range []struct {
		total  int64
		claims []Claim
		why    Why
		want   string
	}{
		{5, []Claim{{"a", 3, 1}}, InFull, "gets all 3 that it asked for"},
		{5, []Claim{{"a", 1, 1}}, InFull, "gets the 1 that it asked for"},
		{2, []Claim{{"a", 3, 1}}, Whole, "gets 2 of the 3 asked: there are no more"},
		{4, []Claim{{"a", 3, 1}, {"b", 3, 1}}, Whole, "gets 2 of the 3 asked: 4 are shared so that the smallest share is as large as it can be"},
		{3, []Claim{{"a", 9, 4}, {"b", 9, 1}}, Whole, "gets 2 of the 9 asked: 3 are shared so that the smallest share is as large as it can be"},
		{4, []Claim{{"a", 9, 2}, {"b", 9, 1}}, Remainder, "gets 3 of the 9 asked: 4 are shared so that the smallest share is as large as it can be, and its rounded-off rest was among the largest"},
		{3, []Claim{{"a", 3, 1}, {"b", 3, 1}}, LotWon, "gets 2 of the 3 asked: 3 are shared so that the smallest share is as large as it can be, and one more fell to it by lot among equals"},
		{3, []Claim{{"b", 3, 1}, {"a", 3, 1}}, LotLost, "gets 1 of the 3 asked: 3 are shared so that the smallest share is as large as it can be, and the lot for one more among equals fell on others"},
	} {
		parts := share(t, c.total, c.claims, "roots")
		i := slices.IndexFunc(parts, func(p Part) bool { return p.Why == c.why })
		if i < 0 || parts[i].Reason() != c.want {
			t.Errorf("%d among %v: %+v", c.total, c.claims, parts)
		}
	}
}

func TestTheLotFallsElsewhereWithAnotherSeed(t *testing.T) {
	claims := []Claim{{"lisbon", 100, 1}, {"oaxaca", 100, 1}, {"vermont", 100, 1}}
	won := map[string]int{}
	for seed := range 300 {
		for _, p := range share(t, 100, claims, fmt.Sprint(seed)) {
			if p.Why == LotWon {
				won[p.Who]++
			}
		}
	}
	for _, c := range claims { // a fair lot: 100 of 300 each, and less than 60 would be one in ten million
		if won[c.Who] < 60 {
			t.Errorf("the lot favours others than %s: %v", c.Who, won)
		}
	}
}

// every calls f with every vector 0 <= x <= ask that sums to total.
func every(asks []int64, total int64, f func([]int64)) {
	x := make([]int64, len(asks))
	var walk func(int, int64)
	walk = func(i int, left int64) {
		if i == len(asks) {
			if left == 0 {
				f(x)
			}
			return
		}
		for x[i] = 0; x[i] <= min(asks[i], left); x[i]++ {
			walk(i+1, left-x[i])
		}
		x[i] = 0
	}
	walk(0, total)
}

func random(rng *rand.Rand, n int, ask, weight int64) []Claim {
	claims := make([]Claim, n)
	for i := range claims {
		claims[i] = Claim{fmt.Sprintf("house-%d", i), rng.Int64N(ask + 1), 1 + rng.Int64N(weight)}
	}
	return claims
}

func TestWithEqualWeightsNoOtherDivisionHelpsTheSmallestMore(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 400 {
		claims := random(rng, 1+rng.IntN(4), 6, 1)
		var asks []int64
		for _, c := range claims {
			asks = append(asks, c.Ask)
		}
		total := rng.Int64N(14)
		have := slices.Sorted(slices.Values(gets(share(t, total, claims, "s"))))
		every(asks, min(total, sum(asks)), func(x []int64) {
			if other := slices.Sorted(slices.Values(x)); slices.Compare(other, have) > 0 {
				t.Fatalf("%d among asks %v: have %v, but %v is better for the smallest", total, asks, have, other)
			}
		})
	}
}

// ideal is the weighted max-min division in fractions, found another way: by trying every set of claims that could be full.
func ideal(t *testing.T, total int64, claims []Claim) []*big.Rat {
	t.Helper()
	for full := range 1 << len(claims) {
		left, weight := new(big.Rat).SetInt64(total), int64(0)
		for i, c := range claims {
			if full>>i&1 == 1 {
				left.Sub(left, new(big.Rat).SetInt64(c.Ask))
			} else {
				weight += c.Weight
			}
		}
		level := new(big.Rat)
		if weight > 0 {
			level.Quo(left, new(big.Rat).SetInt64(weight))
		} else if left.Sign() >= 0 {
			level.SetInt64(MaxQuantity) // nobody is short
		} else {
			continue
		}
		out, holds := make([]*big.Rat, len(claims)), level.Sign() >= 0
		for i, c := range claims {
			rises, ask := new(big.Rat).Mul(level, new(big.Rat).SetInt64(c.Weight)), new(big.Rat).SetInt64(c.Ask)
			if out[i] = rises; full>>i&1 == 1 {
				out[i] = ask
				holds = holds && rises.Cmp(ask) >= 0 // full, because the level passed it
			} else {
				holds = holds && rises.Cmp(ask) <= 0
			}
		}
		if holds {
			return out
		}
	}
	t.Fatalf("no level for %d among %+v", total, claims)
	return nil
}

func TestWithWeightsNoOtherWholeDivisionIsCloserToTheFractionalOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 300 {
		claims := random(rng, 1+rng.IntN(4), 6, 5)
		var asks []int64
		for _, c := range claims {
			asks = append(asks, c.Ask)
		}
		total := rng.Int64N(14)
		want := ideal(t, total, claims)
		apart := func(x []int64) *big.Rat {
			d := new(big.Rat)
			for i := range x {
				e := new(big.Rat).Sub(new(big.Rat).SetInt64(x[i]), want[i])
				d.Add(d, e.Mul(e, e))
			}
			return d
		}
		have := gets(share(t, total, claims, "s"))
		mine := apart(have)
		for i := range have {
			if e := new(big.Rat).Sub(new(big.Rat).SetInt64(have[i]), want[i]); e.Abs(e).Cmp(big.NewRat(1, 1)) >= 0 {
				t.Fatalf("%d among %+v: %v is a whole part away from %v", total, claims, have, want)
			}
		}
		every(asks, min(total, sum(asks)), func(x []int64) {
			if apart(x).Cmp(mine) < 0 {
				t.Fatalf("%d among %+v: %v is closer to %v than %v", total, claims, x, want, have)
			}
		})
	}
}

func TestSharesSumExactlyNeverPassAnAskAndDoNotDependOnTheOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 300 {
		claims := random(rng, 1+rng.IntN(40), MaxQuantity, MaxQuantity)
		total := rng.Int64N(MaxQuantity + 1)
		parts := share(t, total, claims, "s")
		asked := big.NewInt(0)
		for i, p := range parts {
			if asked.Add(asked, big.NewInt(p.Ask)); p.Gets < 0 || p.Gets > p.Ask {
				t.Fatalf("%+v", parts[i])
			}
		}
		want := total
		if asked.Cmp(big.NewInt(total)) < 0 {
			want = asked.Int64()
		}
		if have := sum(gets(parts)); have != want {
			t.Fatalf("the parts sum to %d, want %d", have, want)
		}
		rng.Shuffle(len(claims), func(i, j int) { claims[i], claims[j] = claims[j], claims[i] })
		if !slices.Equal(parts, share(t, total, claims, "s")) {
			t.Fatal("another order gave another division")
		}
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		total  int64
		claims []Claim
	}{
		"too much":        {MaxQuantity + 1, []Claim{{"a", 1, 1}}},
		"below zero":      {-1, []Claim{{"a", 1, 1}}},
		"a large ask":     {1, []Claim{{"a", MaxQuantity + 1, 1}}},
		"a negative ask":  {1, []Claim{{"a", -1, 1}}},
		"no weight":       {1, []Claim{{"a", 1, 0}}},
		"a large weight":  {1, []Claim{{"a", 1, MaxQuantity + 1}}},
		"twice":           {1, []Claim{{"a", 1, 1}, {"b", 1, 1}, {"a", 2, 1}}},
		"too many claims": {1, make([]Claim, MaxClaims+1)},
	} {
		if _, err := Share(c.total, c.claims, nil); !errors.Is(err, ErrClaim) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var most []Claim
	for i := range MaxClaims {
		most = append(most, Claim{fmt.Sprint(i), MaxQuantity, MaxQuantity})
	}
	if parts := share(t, MaxQuantity, most, ""); sum(gets(parts)) != MaxQuantity {
		t.Error("the largest division does not sum")
	}
}
