// Package clearing discharges debts between nodes against each other, as far as that is possible without money, and
// proves that no more was possible.
//
// It owns the sums: a [Case] is everything that may be cleared in one unit at one cut, [Settle] answers it, and [Verify]
// accepts that answer or refuses it without any trust in who computed it. The answer is unique: the most debt
// discharged, then the least use of pool credit, then the oldest debts first, then a lot drawn from the roots of the cut.
// Two honest programs reach the same lines, whatever solver they use.
//
// It promises that Settle never returns what Verify would refuse, that the same case gives the same bytes whatever the
// order of its input, and that an amount which does not fit is refused and never wraps. It holds no state, so a crash
// loses nothing.
//
// It never converts between units, never invents a counterparty other than the commons, never lets a debt grow, and has
// no clock, no goroutine, no input or output and no floating point number.
package clearing
