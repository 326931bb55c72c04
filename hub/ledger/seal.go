package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Seal binds all balances at the end of a period to one hash: the root of an RFC 6962 tree whose leaves are the accounts
// in order. Whoever has one leaf and its proof knows that this balance, and no other, was sealed.
type Seal struct {
	Period   string // slug, e.g. 2026-11
	Accounts uint64
	Root     [32]byte
}

// Sealed is a seal with its tree, from which proofs are made.
type Sealed struct {
	Seal
	accounts []Account
	leaves   [][]byte
	levels   [][][32]byte // hashes, from the leaves up; a last one without a sibling goes up as it is
}

// Proof shows that Leaf is the Index-th of the sealed accounts.
type Proof struct {
	Index uint64
	Leaf  []byte
	Path  [][32]byte // sibling hashes from the leaf up
}

// Refusals about seals.
var (
	ErrPeriod  = errors.New("not a period")
	ErrVacuous = errors.New("nothing is sealed there")
	ErrProof   = errors.New("proof does not lead to the seal")
)

// maxPathHashes is the height of the tallest tree a seal can have.
const maxPathHashes = 64

// AppendLeaf appends the one line that the account is in a seal and in the text of all balances.
func AppendLeaf(b []byte, a Account, t Totals) []byte {
	b = append(append(b, a.Path...), ' ')
	b = append(b, a.Unit...)
	for _, v := range []int64{t.Debits, t.Credits, t.DebitsPending, t.CreditsPending, t.Balance()} {
		b = strconv.AppendInt(append(b, ' '), v, 10)
	}
	return append(b, '\n')
}

// AppendBalances appends the projection: one leaf line per account, in order.
func (b *Book) AppendBalances(text []byte) []byte {
	for _, a := range b.Accounts() {
		text = AppendLeaf(text, a, b.accounts[a])
	}
	return text
}

// Seal closes a period over the balances as they stand.
func (b *Book) Seal(period string) (*Sealed, error) { return SealBalances(period, b.accounts) }

// SealBalances closes a period over balances that were gathered elsewhere.
func SealBalances(period string, balances map[Account]Totals) (*Sealed, error) {
	if !validSlug(period) {
		return nil, fmt.Errorf("sealing %q: %w", period, ErrPeriod)
	}
	s := &Sealed{accounts: slices.SortedFunc(maps.Keys(balances), Account.compare)}
	hashes := make([][32]byte, len(s.accounts))
	for i, a := range s.accounts {
		s.leaves = append(s.leaves, AppendLeaf(nil, a, balances[a]))
		hashes[i] = leafHash(s.leaves[i])
	}
	s.levels = levelsOver(hashes)
	s.Seal = Seal{Period: period, Accounts: uint64(len(s.leaves)), Root: sha256.Sum256(nil)}
	if top := s.levels[len(s.levels)-1]; len(top) == 1 {
		s.Root = top[0]
	}
	return s, nil
}

// AppendText appends the seal's canonical text.
func (s Seal) AppendText(b []byte) []byte {
	b = append(append(b, "kith-ledger-seal v1\nperiod "...), s.Period...)
	b = strconv.AppendUint(append(b, "\naccounts "...), s.Accounts, 10)
	b = hex.AppendEncode(append(b, "\nroot "...), s.Root[:])
	return append(b, '\n')
}

// Prove returns the proof of one account's balance.
func (s *Sealed) Prove(account Account) (Proof, error) {
	i, here := slices.BinarySearchFunc(s.accounts, account, Account.compare)
	if !here {
		return Proof{}, fmt.Errorf("proving %s in %q: %w", account.Path, account.Unit, ErrVacuous)
	}
	p := Proof{Index: uint64(i), Leaf: s.leaves[i]}
	for _, level := range s.levels {
		if sibling := i ^ 1; sibling < len(level) {
			p.Path = append(p.Path, level[sibling])
		}
		i >>= 1
	}
	return p, nil
}

// Verify checks a proof by the algorithm of RFC 9162 section 2.1.3.2.
func (s Seal) Verify(p Proof) error {
	if s.Accounts == 0 || p.Index >= s.Accounts || len(p.Leaf) == 0 {
		return fmt.Errorf("verifying account %d of %d: %w", p.Index, s.Accounts, ErrVacuous)
	}
	if len(p.Path) > maxPathHashes {
		return fmt.Errorf("verifying a path of %d hashes: %w", len(p.Path), ErrProof)
	}
	at, last, hash := p.Index, s.Accounts-1, leafHash(p.Leaf)
	for _, sibling := range p.Path {
		if last == 0 {
			return fmt.Errorf("verifying account %d: path too long: %w", p.Index, ErrProof)
		}
		if at&1 == 1 || at == last {
			hash = nodeHash(sibling, hash)
			for at&1 == 0 && at != 0 {
				at, last = at>>1, last>>1
			}
		} else {
			hash = nodeHash(hash, sibling)
		}
		at, last = at>>1, last>>1
	}
	if last != 0 || hash != s.Root {
		return fmt.Errorf("verifying account %d: %w", p.Index, ErrProof)
	}
	return nil
}

func leafHash(leaf []byte) [32]byte { return sha256.Sum256(append([]byte{0}, leaf...)) }

func nodeHash(left, right [32]byte) [32]byte {
	var b [1 + 2*32]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// levelsOver makes the tree of RFC 6962 section 2.1 level by level. That RFC splits n leaves at the largest power of two below
// n; pairing neighbours and carrying an odd last one up gives the same tree.
func levelsOver(hashes [][32]byte) [][][32]byte {
	levels := [][][32]byte{hashes}
	for len(hashes) > 1 {
		up := make([][32]byte, 0, (len(hashes)+1)/2)
		for i := 0; i+1 < len(hashes); i += 2 {
			up = append(up, nodeHash(hashes[i], hashes[i+1]))
		}
		if len(hashes)%2 == 1 {
			up = append(up, hashes[len(hashes)-1])
		}
		levels, hashes = append(levels, up), up
	}
	return levels
}
