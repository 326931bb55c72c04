package ledger

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Code is the stable answer to one entry.
type Code string

// The codes. Booked, refused by a limit and refused as resolved are remembered with the entry: the same entry offered
// later gets the same answer, whatever the balances are by then.
const (
	Booked         Code = "booked"
	RefusedLimit   Code = "refused-limit"    // a permission that would pass a floor or a ceiling
	RefusedDone    Code = "refused-resolved" // the hold is resolved, or the entry reversed, already
	RefusedMatch   Code = "refused-mismatch" // the postings are not those of the entry named in Ref
	RefusedForm    Code = "refused-form"     // not well-formed, unbalanced, or in an unknown unit
	RefusedKey     Code = "refused-retired"  // the journal was closed before this index
	RefusedSize    Code = "refused-overflow" // a sum would not fit
	RefusedUnknown Code = "refused-unknown"  // the entry named in Ref is not here yet: offer it again later
	Conflicting    Code = "conflict"         // this identity stands with other content; kept as a Conflict
)

// Limit holds one account between two sides.
type Limit struct {
	Floor   int64
	Ceiling int64
}

// Rules are what the policy in force says about booking.
type Rules struct {
	Limits  map[Account]Limit
	Retired map[string]uint64 // journals whose key is retired, with their final size
}

// Breach says that a fact carried an account past a limit.
type Breach struct {
	Account Account
	Balance int64 // after the entry
	Limit   Limit
}

// Record is one answered entry: a line of the journal of the books.
type Record struct {
	Entry    Entry
	Code     Code // Booked, RefusedLimit, RefusedDone or RefusedMatch
	Breaches []Breach
}

// Conflict keeps an entry whose identity stands with other content.
type Conflict struct {
	ID    ID
	Entry Entry
}

// Answer is what Apply says to one entry. Fresh is false when the same entry was answered before.
type Answer struct {
	ID       ID
	Code     Code
	Fresh    bool
	Breaches []Breach
}

// Totals of one account. All four only grow, so that nothing that happened can disappear in a difference.
type Totals struct {
	Debits         int64
	Credits        int64
	DebitsPending  int64 // held, not resolved: this pair falls again when holds resolve
	CreditsPending int64
}

// Balance is what the account has: credits less debits, without what is held.
func (t Totals) Balance() int64 { return t.Credits - t.Debits }

// Book is the projection of all records. It is owned by one goroutine; it has no lock.
type Book struct {
	units     map[string]Unit
	accounts  map[Account]Totals
	records   []Record
	standing  map[ID]int // index in records
	digests   map[ID][32]byte
	resolved  map[ID]bool // holds that were resolved and entries that were reversed
	conflicts []Conflict
	clashes   map[[32]byte]bool // digests of the conflicts' entries
}

// ErrUnit refuses a unit definition.
var ErrUnit = errors.New("not a unit")

// New returns an empty book in these units.
func New(units []Unit) (*Book, error) {
	b := &Book{units: map[string]Unit{}, accounts: map[Account]Totals{}, standing: map[ID]int{}, digests: map[ID][32]byte{},
		resolved: map[ID]bool{}, clashes: map[[32]byte]bool{}}
	for _, u := range units {
		if _, twice := b.units[u.Name]; twice || !validSlug(u.Name) || u.Scale < 0 || u.Scale > MaxScale {
			return nil, fmt.Errorf("opening books in unit %q of scale %d: %w", u.Name, u.Scale, ErrUnit)
		}
		b.units[u.Name] = u
	}
	return b, nil
}

// Apply answers a batch, in the order of its sources whatever order it comes in. An entry that speaks of another entry
// of the same batch is answered after it; of two contents under one identity, the one with the lesser bytes comes first. The
// answers are in the order of the batch as given.
func (b *Book) Apply(rules Rules, batch []Entry) []Answer {
	order := make([]int, len(batch))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int {
		if c := batch[x].Source.compare(batch[y].Source); c != 0 {
			return c
		}
		return bytes.Compare(batch[x].AppendJSON(nil), batch[y].AppendJSON(nil)) // rare: only where an identity stands twice
	})
	answers := make([]Answer, len(batch))
	for len(order) > 0 {
		var waiting []int
		for _, i := range order {
			if answers[i] = b.answer(rules, &batch[i]); answers[i].Code == RefusedUnknown {
				waiting = append(waiting, i)
			}
		}
		if len(waiting) == len(order) {
			break
		}
		order = waiting
	}
	return answers
}

// compare orders sources by journal, index, part and rule.
func (s Source) compare(o Source) int {
	return cmp.Or(cmp.Compare(s.Journal, o.Journal), cmp.Compare(s.Index, o.Index), cmp.Compare(s.Part, o.Part),
		cmp.Compare(s.Rule, o.Rule))
}

// answer decides one entry and books it in the same step.
func (b *Book) answer(rules Rules, e *Entry) Answer {
	a := Answer{ID: e.ID()}
	if !e.wellFormed() || !b.balanced(e) {
		a.Code = RefusedForm
		return a
	}
	digest := sha256.Sum256(e.AppendJSON(nil))
	if known, here := b.digests[a.ID]; here {
		if known != digest {
			a.Code, a.Fresh = Conflicting, b.keepConflict(e, digest)
			return a
		}
		r := &b.records[b.standing[a.ID]]
		a.Code, a.Breaches = r.Code, r.Breaches
		return a
	}
	if size, retired := rules.Retired[e.Source.Journal]; retired && e.Source.Index >= size {
		a.Code = RefusedKey
		return a
	}
	moves := movesOf(e)
	switch a.Code = b.admit(e); a.Code {
	case Booked:
		if !b.fits(e.Kind, moves) {
			a.Code = RefusedSize
			return a
		}
		if e.Standing == Permission && b.past(rules, e.Kind, moves) {
			a.Code = RefusedLimit
		}
	case RefusedUnknown:
		return a
	}
	if a.Code == Booked {
		b.move(e, moves)
		a.Breaches = b.breaches(rules, e.Kind, moves)
	}
	a.Fresh = true
	b.remember(Record{Entry: e.clone(), Code: a.Code, Breaches: a.Breaches}, a.ID, digest)
	return a
}

func (b *Book) remember(r Record, id ID, digest [32]byte) {
	b.standing[id] = len(b.records)
	b.digests[id] = digest
	b.records = append(b.records, r)
}

// keepConflict keeps the same clash once.
func (b *Book) keepConflict(e *Entry, digest [32]byte) bool {
	if b.clashes[digest] {
		return false
	}
	b.clashes[digest] = true
	b.conflicts = append(b.conflicts, Conflict{ID: e.ID(), Entry: e.clone()})
	return true
}

func (e *Entry) clone() Entry {
	c := *e
	c.Postings = slices.Clone(e.Postings)
	return c
}

// balanced says whether every unit is known and sums to zero. Sums are taken apart by sign, so that they cannot wrap.
func (b *Book) balanced(e *Entry) bool {
	sums := make(map[string][2]int64, 2)
	for _, p := range e.Postings {
		if _, known := b.units[p.Account.Unit]; !known || p.Amount == math.MinInt64 {
			return false
		}
		s, side, size := sums[p.Account.Unit], 0, p.Amount
		if size < 0 {
			side, size = 1, -size
		}
		if size > math.MaxInt64-s[side] {
			return false
		}
		s[side] += size
		sums[p.Account.Unit] = s
	}
	for _, s := range sums {
		if s[0] != s[1] {
			return false
		}
	}
	return true
}

// admit checks what the entry speaks of.
func (b *Book) admit(e *Entry) Code {
	if e.Kind == Post || e.Kind == Hold {
		return Booked
	}
	at, here := b.standing[e.Ref]
	if !here {
		return RefusedUnknown
	}
	r := &b.records[at]
	switch {
	case r.Code != Booked:
		return RefusedDone
	case e.Kind == Reverse && r.Entry.Kind != Post && r.Entry.Kind != Settle,
		e.Kind != Reverse && r.Entry.Kind != Hold:
		return RefusedMatch
	case b.resolved[e.Ref]:
		return RefusedDone
	case e.Kind == Settle && !slices.Equal(e.Postings, r.Entry.Postings),
		e.Kind == Reverse && !slices.Equal(e.Postings, Reversal(&r.Entry, e.Source, e.At).Postings):
		return RefusedMatch
	}
	return Booked
}

// Account returns the totals of one account.
func (b *Book) Account(a Account) Totals { return b.accounts[a] }

// Records returns the journal of the books in booking order. The caller must not change it.
func (b *Book) Records() []Record { return b.records }

// Conflicts returns what was offered under an identity that stands with other content. The caller must not change it.
func (b *Book) Conflicts() []Conflict { return b.conflicts }

// Accounts returns every account that was ever moved, in order.
func (b *Book) Accounts() []Account {
	list := make([]Account, 0, len(b.accounts))
	for a := range b.accounts {
		list = append(list, a)
	}
	slices.SortFunc(list, Account.compare)
	return list
}
