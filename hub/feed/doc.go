// Package feed writes what leaves the hub: the books for other accounting programs, the monthly public report, and the
// picture of debts before and after a closing.
//
// It owns the outward formats and the rule that keeps people out of the public one: [Report.Release] withholds every
// figure that fewer than the policy's number of members stand behind or that one member dominates, and then as many
// more as it takes so that none of the withheld can be computed from what is published. The exports of the books carry
// everything the books carry and are for those who may read the books.
//
// Everything here is a function from values to bytes. The same values in any order give the same bytes, and every name
// is treated as hostile: in each format it comes out as text and as nothing else. The package keeps no state, so a crash
// costs nothing but the call. It never reads a store, never signs, never rounds an amount and uses no floating point.
package feed
