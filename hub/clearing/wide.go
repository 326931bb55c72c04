package clearing

import (
	"math/big"
	"math/bits"
)

// Wide is a signed 128-bit integer: an objective of a stage is a sum of amounts times weights and can pass 64 bits while
// every amount fits.
type Wide struct {
	hi int64
	lo uint64
}

// WideOf returns v as a Wide.
func WideOf(v int64) Wide { return Wide{hi: v >> 63, lo: uint64(v)} }

// plus returns w + a*b. Weights stay below 1<<32 and the amounts of a case sum below 1<<62, so the result always fits.
func (w Wide) plus(a, b int64) Wide {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	// Mul64 is unsigned; a negative factor counts 1<<64 too much for each unit of the other.
	if a < 0 {
		hi -= uint64(b)
	}
	if b < 0 {
		hi -= uint64(a)
	}
	sum, carry := bits.Add64(w.lo, lo, 0)
	return Wide{hi: int64(uint64(w.hi) + hi + carry), lo: sum}
}

func (w Wide) big() *big.Int {
	v := new(big.Int).Lsh(big.NewInt(w.hi), 64)
	return v.Add(v, new(big.Int).SetUint64(w.lo))
}

// String returns w in decimal digits.
func (w Wide) String() string { return w.big().String() }

// parseWide reads the decimal form back and accepts no other spelling of the same number.
func parseWide(s string) (Wide, bool) {
	const longestDigits = 40 // digits and sign of -(1 << 127)
	if len(s) > longestDigits {
		return Wide{}, false
	}
	v, ok := new(big.Int).SetString(s, 10)
	if !ok || v.BitLen() > 127 || v.String() != s {
		return Wide{}, false
	}
	low := new(big.Int).And(v, new(big.Int).SetUint64(^uint64(0)))
	return Wide{hi: new(big.Int).Rsh(v, 64).Int64(), lo: low.Uint64()}, true
}
