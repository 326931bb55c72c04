// Package advice works out what would balance a network of houses: which people could sleep where a bed is free, which
// things would be used more elsewhere, and how much each house should host. It only advises; a person accepts or does not.
//
// It owns the sums and the words: a [Case] is what the hub knows now, [Advise] answers it, every line of the answer with
// its reason, and a [Commitment] is the text that an operator signs when accepting one. [Share] is the one rule for what
// is scarce: weighted max-min in whole parts.
//
// It promises that the same case gives the same advice whatever the order of its input, that shares sum exactly, that
// nobody gets more than asked and no house more people than it offers beds, and that an amount which does not fit is
// refused and never wraps. Ties are drawn from the seed of the case. It keeps no state, has no clock, no goroutine, no input
// or output and no floating point number, so a crash loses nothing.
package advice
