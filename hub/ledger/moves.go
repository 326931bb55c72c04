package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
)

// move is what one entry does to one account, all its postings there together.
type move struct {
	account Account
	debit   int64
	credit  int64
}

// movesOf gathers the postings by account. A void has none of its own: it moves what the hold reserved.
func movesOf(e *Entry) []move {
	moves := make([]move, 0, len(e.Postings))
	for _, p := range e.Postings {
		i := slices.IndexFunc(moves, func(m move) bool { return m.account == p.Account })
		if i < 0 {
			i = len(moves)
			moves = append(moves, move{account: p.Account})
		}
		if p.Amount < 0 {
			moves[i].debit -= p.Amount
		} else {
			moves[i].credit += p.Amount
		}
	}
	return moves
}

// maxTotal bounds every total, so that any balance, and any balance with all holds counted, fits an int64.
const maxTotal = math.MaxInt64 / 4

// fits says whether no total passes its bound. Settling moves amounts that were held, and those were counted already.
func (b *Book) fits(kind Kind, moves []move) bool {
	if kind == Settle || kind == Void || kind == Expire {
		return true
	}
	for _, m := range moves {
		t := b.accounts[m.account]
		if m.debit > maxTotal-t.Debits-t.DebitsPending || m.credit > maxTotal-t.Credits-t.CreditsPending {
			return false
		}
	}
	return true
}

// past says whether a permission would carry an account farther past a limit. What is held counts as if it were gone
// already and never as if it had come, so that resolving a hold cannot break a limit. Settling is therefore always
// within; moving back towards the limits is always allowed.
func (b *Book) past(rules Rules, kind Kind, moves []move) bool {
	if kind == Settle || kind == Void || kind == Expire {
		return false
	}
	for _, m := range moves {
		limit, limited := rules.Limits[m.account]
		if !limited {
			continue
		}
		t := b.accounts[m.account]
		lowest := t.Balance() - t.DebitsPending + m.credit - m.debit
		highest := t.Balance() + t.CreditsPending + m.credit - m.debit
		if m.debit > m.credit && lowest < limit.Floor || m.credit > m.debit && highest > limit.Ceiling {
			return true
		}
	}
	return false
}

// move books an admitted entry.
func (b *Book) move(e *Entry, moves []move) {
	if e.Kind == Void || e.Kind == Expire {
		held := &b.records[b.standing[e.Ref]].Entry
		moves = movesOf(held)
	}
	for _, m := range moves {
		t := b.accounts[m.account]
		switch e.Kind {
		case Hold:
			t.DebitsPending += m.debit
			t.CreditsPending += m.credit
		case Void, Expire:
			t.DebitsPending -= m.debit
			t.CreditsPending -= m.credit
		case Settle:
			t.DebitsPending -= m.debit
			t.CreditsPending -= m.credit
			t.Debits += m.debit
			t.Credits += m.credit
		default:
			t.Debits += m.debit
			t.Credits += m.credit
		}
		b.accounts[m.account] = t
	}
	if e.Ref != (ID{}) {
		b.resolved[e.Ref] = true
	}
}

// breaches lists the limits that a booked entry carried an account past, or farther past, as it now stands.
func (b *Book) breaches(rules Rules, kind Kind, moves []move) []Breach {
	if kind == Hold {
		return nil
	}
	var list []Breach
	for _, m := range moves {
		limit, limited := rules.Limits[m.account]
		balance := b.accounts[m.account].Balance()
		if limited && (m.debit > m.credit && balance < limit.Floor || m.credit > m.debit && balance > limit.Ceiling) {
			list = append(list, Breach{Account: m.account, Balance: balance, Limit: limit})
		}
	}
	slices.SortFunc(list, func(x, y Breach) int { return x.Account.compare(y.Account) })
	return list
}

// ErrRecords means that records do not form a journal of these books: a stored journal was changed.
var ErrRecords = errors.New("records do not form a journal")

// Restore rebuilds the projection from the records, without asking any rule again: what was decided stays decided.
func Restore(units []Unit, records []Record) (*Book, error) {
	b, err := New(units)
	if err != nil {
		return nil, err
	}
	for i := range records {
		r := &records[i]
		e := &r.Entry
		if !e.wellFormed() || !b.balanced(e) {
			return nil, fmt.Errorf("restoring record %d: not an entry: %w", i, ErrRecords)
		}
		id := e.ID()
		if _, twice := b.standing[id]; twice {
			return nil, fmt.Errorf("restoring record %d: %s stands twice: %w", i, id, ErrRecords)
		}
		code, moves := b.admit(e), movesOf(e)
		switch {
		case code != r.Code && (code != Booked || r.Code != RefusedLimit || e.Standing != Permission):
			return nil, fmt.Errorf("restoring record %d: stored as %q, follows as %q: %w", i, r.Code, code, ErrRecords)
		case r.Code == Booked && !b.fits(e.Kind, moves):
			return nil, fmt.Errorf("restoring record %d: %w", i, ErrRecords)
		case r.Code == Booked:
			b.move(e, moves)
		}
		b.remember(Record{Entry: e.clone(), Code: r.Code, Breaches: slices.Clone(r.Breaches)}, id, sha256.Sum256(e.AppendJSON(nil)))
	}
	return b, nil
}
