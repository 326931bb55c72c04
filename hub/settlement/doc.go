// Package settlement carries a period from its cut to its posted statement.
//
// It owns what nodes owe each other: which leaves a [Cut] covers, which obligations follow from their events under a
// [Policy], how dues and grants of the commons join them, what is disputed, what stays open afterwards, and what becomes
// of a node that leaves. [Period.Step] is the one place that moves a period on; it takes times as values and answers every
// input with the new period or a refusal.
//
// It promises that a statement can be derived again from cut and policy alone, byte for byte, and that nothing falls
// between two periods: a leaf belongs to the first cut that covers it, whatever date it bears. It holds nothing durable; a
// period is a value, and whoever stores it stores each step in one transaction.
//
// It checks no signature. Who disputes, decides, says yes or chooses is a name that is handed in, and until the rules let a node
// sign for itself, that name is the word of the operator who closes; what is checked is that it is the right party's.
//
// It never clears and never books: the assembled hub hands its obligations to the clearing and its lines to the ledger.
// It has no clock, no goroutine, no input or output and no floating point number.
package settlement
