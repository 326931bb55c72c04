package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// MaxScale bounds the decimal places that a unit may show.
const MaxScale = 6

// Unit defines what amounts count. Scale only tells how an amount is shown; all arithmetic is in smallest parts.
type Unit struct {
	Name  string
	Scale int // decimal places, 0 to MaxScale
}

// Refusals of arithmetic.
var (
	ErrShares   = errors.New("cannot be shared like this")
	ErrRate     = errors.New("rate is not a positive fraction")
	ErrOverflow = errors.New("does not fit")
)

// maxShares bounds one division.
const maxShares = 1 << 16

// Split divides total into n shares that sum exactly and differ by at most one. Who gets one part more rotates with the
// event, so that over many events nobody is favoured by a place in a list.
func Split(total int64, n int, event ID) ([]int64, error) {
	if n < 1 || n > maxShares {
		return nil, fmt.Errorf("splitting %d into %d shares: %w", total, n, ErrShares)
	}
	weights := make([]int64, n)
	for i := range weights {
		weights[i] = 1
	}
	return SplitByWeight(total, weights, event)
}

// SplitByWeight divides total in proportion to weights: each share is rounded towards zero, then the parts left go one
// each to the largest remainders. Equal remainders are served in an order that rotates with the event.
func SplitByWeight(total int64, weights []int64, event ID) ([]int64, error) {
	if len(weights) < 1 || len(weights) > maxShares {
		return nil, fmt.Errorf("splitting %d by %d weights: %w", total, len(weights), ErrShares)
	}
	sum, sign, size := uint64(0), int64(1), uint64(total)
	if total < 0 {
		sign, size = -1, -uint64(total)
	}
	for _, w := range weights {
		if w < 0 || uint64(w) > 1<<62-sum {
			return nil, fmt.Errorf("splitting %d by weight %d: %w", total, w, ErrShares)
		}
		sum += uint64(w)
	}
	if sum == 0 {
		return nil, fmt.Errorf("splitting %d by weights of zero: %w", total, ErrShares)
	}
	shares, rest := make([]int64, len(weights)), make([]uint64, len(weights))
	left := size
	for i, w := range weights {
		hi, lo := bits.Mul64(size, uint64(w))
		q, r := bits.Div64(hi, lo, sum) // hi < sum, since w <= sum
		shares[i], rest[i] = sign*int64(q), r
		left -= q
	}
	for _, i := range servingOrder(rest, event)[:left] {
		shares[i] += sign
	}
	return shares, nil
}

// servingOrder lists positions by falling remainder; equal ones start at a place drawn from the event.
func servingOrder(rest []uint64, event ID) []int {
	seed := sha256.Sum256(append([]byte("kith ledger rotation v1\n"), event[:]...))
	n := uint64(len(rest))
	first := binary.BigEndian.Uint64(seed[:8]) % n
	order := make([]int, len(rest))
	for i := range order {
		order[i] = int((first + uint64(i)) % n)
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case rest[a] > rest[b]:
			return -1
		case rest[a] < rest[b]:
			return 1
		}
		return 0
	})
	return order
}

// Rate says that Den parts of the source unit are worth Num parts of the target unit.
type Rate struct{ Num, Den int64 }

// Convert returns what amount is worth, rounded down, and the parts of the source unit that buy nothing: taking them off
// would leave the worth the same. They belong in the rounding account.
func (r Rate) Convert(amount int64) (worth, residue int64, err error) {
	if r.Num <= 0 || r.Den <= 0 {
		return 0, 0, fmt.Errorf("converting at %d/%d: %w", r.Num, r.Den, ErrRate)
	}
	if amount < 0 {
		return 0, 0, fmt.Errorf("converting %d: %w", amount, ErrShares)
	}
	hi, lo := bits.Mul64(uint64(amount), uint64(r.Num))
	if hi >= uint64(r.Den) {
		return 0, 0, fmt.Errorf("converting %d at %d/%d: %w", amount, r.Num, r.Den, ErrOverflow)
	}
	q, _ := bits.Div64(hi, lo, uint64(r.Den))
	if q > 1<<63-1 {
		return 0, 0, fmt.Errorf("converting %d at %d/%d: %w", amount, r.Num, r.Den, ErrOverflow)
	}
	hi, lo = bits.Mul64(q, uint64(r.Den)) // the least source worth q: ceil(q * Den / Num), at most amount
	needed, rest := bits.Div64(hi, lo, uint64(r.Num))
	if rest > 0 {
		needed++
	}
	return int64(q), amount - int64(needed), nil
}

// Conversion is one amount that changes its unit on the way from one account to another.
type Conversion struct {
	Network  string
	From, To Account
	Amount   int64 // in the unit of From
	Rate     Rate
}

// Postings returns the balanced postings: each unit balances through the conversion account, and what the rate could not
// turn into a whole part stands in the rounding account of the source unit.
func (c Conversion) Postings() ([]Posting, error) {
	if c.From.Unit == c.To.Unit {
		return nil, fmt.Errorf("converting %q to itself: %w", c.From.Unit, ErrRate)
	}
	worth, residue, err := c.Rate.Convert(c.Amount)
	if err != nil {
		return nil, err
	}
	through := ConversionPath(c.Network)
	var posts []Posting
	for _, p := range []Posting{
		{Account: c.From, Amount: -c.Amount},
		{Account: Account{Path: through, Unit: c.From.Unit}, Amount: c.Amount - residue},
		{Account: Account{Path: RoundingPath(c.Network), Unit: c.From.Unit}, Amount: residue},
		{Account: Account{Path: through, Unit: c.To.Unit}, Amount: -worth},
		{Account: c.To, Amount: worth},
	} {
		if p.Amount != 0 {
			posts = append(posts, p)
		}
	}
	return posts, nil
}
