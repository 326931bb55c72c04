// Package ledger keeps double-entry books in exact whole numbers.
//
// It owns the rules of booking: what an [Entry] is, when it may stand, and what the balances are. [Book.Apply] is the one
// place that decides; it answers every entry with one stable [Code]. Every entry balances per unit, nothing is changed or
// deleted, a reversal happens at most once, a hold is posted, voided or expired at most once, and the same entry offered
// again, in any order, changes nothing. The same identity with other content is kept as a [Conflict] and never booked.
// Limits gate permissions: a permission past a limit is refused in the same step. A fact happened, so it is booked and the
// breach is recorded.
//
// It promises that balances are a projection of the journal: [Restore] from the records gives the same bytes. It holds
// nothing durable itself; whoever stores records stores each batch in one transaction, and a crash before that loses only
// what was not acknowledged.
//
// It never converts between units by itself, never rounds without saying where the rest went, and has no clock, no
// goroutine, no input or output and no floating point number.
package ledger
