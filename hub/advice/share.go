package advice

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// Limits of one division.
const (
	MaxClaims   = 1 << 12 // claims of one division
	MaxQuantity = 1 << 50 // parts in any ask, weight or total: so many weights sum within 63 bits
)

// Refusals.
var (
	ErrCase  = errors.New("cannot be advised on")
	ErrClaim = errors.New("cannot be shared like this")
)

// Claim is what one house asks of something that all share. Weights say how shares relate; equal ones mean equal shares.
type Claim struct {
	Who    string
	Ask    int64
	Weight int64 // from 1
}

// Why a claim gets what it gets.
type Why string

// The outcomes of a claim.
const (
	InFull    Why = "in-full"   // no share of anybody would grow without it
	Whole     Why = "whole"     // its share in whole parts
	Remainder Why = "remainder" // one more: the part that rounding took from it was among the largest
	LotWon    Why = "lot-won"   // one more, by lot among equals
	LotLost   Why = "lot-lost"  // as entitled to one more as those that the lot fell on
)

// Part is the answer to one claim.
type Part struct {
	Claim
	Gets  int64
	Why   Why
	Total int64 // of what was shared
	Among int   // claims
}

// Reason says why, as a part of a sentence.
func (p *Part) Reason() string {
	short := fmt.Sprintf("gets %d of the %d asked: %d are shared so that the smallest share is as large as it can be", p.Gets, p.Ask, p.Total)
	switch {
	case p.Why == InFull && p.Ask == 1:
		return "gets the 1 that it asked for"
	case p.Why == InFull:
		return fmt.Sprintf("gets all %d that it asked for", p.Ask)
	case p.Among == 1:
		return fmt.Sprintf("gets %d of the %d asked: there are no more", p.Gets, p.Ask)
	}
	switch p.Why {
	case Remainder:
		return short + ", and its rounded-off rest was among the largest"
	case LotWon:
		return short + ", and one more fell to it by lot among equals"
	case LotLost:
		return short + ", and the lot for one more among equals fell on others"
	}
	return short
}

// Share divides total among claims by weighted max-min: all shares rise together, each as fast as its weight, and a claim
// that has all it asked for stops. What rounding down leaves goes out one by one by the largest remainder; equal ones are drawn
// from the seed. The parts come by ascending name and sum to total, or to all that was asked when that is less.
func Share(total int64, claims []Claim, seed []byte) ([]Part, error) {
	if len(claims) > MaxClaims || total < 0 || total > MaxQuantity {
		return nil, fmt.Errorf("sharing %d among %d: %w (at most %d among %d)", total, len(claims), ErrClaim, int64(MaxQuantity), MaxClaims)
	}
	parts := make([]Part, len(claims))
	for i, c := range claims {
		if c.Ask < 0 || c.Ask > MaxQuantity || c.Weight < 1 || c.Weight > MaxQuantity {
			return nil, fmt.Errorf("%.60q asks for %d with weight %d: %w (an ask of 0 to %d, a weight from 1)", c.Who, c.Ask, c.Weight, ErrClaim, int64(MaxQuantity))
		}
		parts[i] = Part{Claim: c, Total: total, Among: len(claims)}
	}
	slices.SortFunc(parts, func(a, b Part) int { return strings.Compare(a.Who, b.Who) })
	for i := 1; i < len(parts); i++ {
		if parts[i].Who == parts[i-1].Who {
			return nil, fmt.Errorf("%.60q asks twice: %w", parts[i].Who, ErrClaim)
		}
	}
	fill(parts, uint64(total), lot(seed, "share"))
	return parts, nil
}

// fill raises the level. Claims that the level reaches drop out, those with the lowest ask for their weight first.
func fill(parts []Part, left uint64, draw func(string) [32]byte) {
	order := make([]*Part, len(parts))
	weights := uint64(0)
	for i := range parts {
		order[i] = &parts[i]
		weights += uint64(parts[i].Weight)
	}
	slices.SortStableFunc(order, func(a, b *Part) int { return compareProducts(a.Ask, b.Weight, b.Ask, a.Weight) })
	for len(order) > 0 {
		p := order[0]
		if above(uint64(p.Ask), weights, uint64(p.Weight), left) {
			break
		}
		p.Gets, p.Why = p.Ask, InFull
		left -= uint64(p.Ask)
		weights -= uint64(p.Weight)
		order = order[1:]
	}
	if len(order) == 0 {
		return
	}
	type rest struct {
		part *Part
		over uint64
		lot  [32]byte
	}
	rests := make([]rest, len(order))
	spare := left
	for i, p := range order {
		hi, lo := bits.Mul64(left, uint64(p.Weight))
		whole, over := bits.Div64(hi, lo, weights) // hi < weights, since the weight is at most their sum and left fits
		p.Gets, p.Why = int64(whole), Whole
		spare -= whole
		rests[i] = rest{p, over, draw(p.Who)}
	}
	slices.SortFunc(rests, func(a, b rest) int { return cmp.Or(cmp.Compare(b.over, a.over), bytes.Compare(a.lot[:], b.lot[:])) })
	for i := range rests { // a share below its ask has room for one more
		r := &rests[i]
		tied := spare > 0 && spare < uint64(len(rests)) && rests[spare-1].over == rests[spare].over && r.over == rests[spare].over
		switch won := uint64(i) < spare; {
		case won && tied:
			r.part.Why = LotWon
		case won:
			r.part.Why = Remainder
		case tied:
			r.part.Why = LotLost
		}
		if uint64(i) < spare {
			r.part.Gets++
		}
	}
}

// above says whether a*b > c*d.
func above(a, b, c, d uint64) bool {
	h1, l1 := bits.Mul64(a, b)
	h2, l2 := bits.Mul64(c, d)
	return h1 > h2 || h1 == h2 && l1 > l2
}

// compareProducts compares a*b with c*d; none is negative.
func compareProducts(a, b, c, d int64) int {
	h1, l1 := bits.Mul64(uint64(a), uint64(b))
	h2, l2 := bits.Mul64(uint64(c), uint64(d))
	return cmp.Or(cmp.Compare(h1, h2), cmp.Compare(l1, l2))
}

// lotDomain separates this hash from every other use of SHA-256 in the network.
const lotDomain = "kith advice lot v1\n"

// lot draws one number per name. It depends on seed, purpose and the name alone: who else asks does not change it.
func lot(seed []byte, purpose string) func(string) [32]byte {
	base := sha256.Sum256(fmt.Appendf(nil, "%s%s\n%d\n%s", lotDomain, purpose, len(seed), seed))
	return func(who string) [32]byte { return sha256.Sum256(append(base[:len(base):len(base)], who...)) }
}
