package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
)

// Seal binds all balances at the end of a period to one hash: the root of an RFC 6962 tree whose leaves are the accounts
// in order. Whoever has one leaf and its proof knows that this balance, and no other, was sealed.
type Seal struct {
	Period   string // slug, e.g. 2026-11
	Accounts uint64
	Root     [32]byte
}

// Sealed is a seal with its leaves, from which proofs are made.
type Sealed struct {
	Seal
	accounts []Account
	leaves   [][]byte
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
func (b *Book) Seal(period string) (*Sealed, error) {
	if !validSlug(period) {
		return nil, fmt.Errorf("sealing %q: %w", period, ErrPeriod)
	}
	s := &Sealed{accounts: b.Accounts()}
	for _, a := range s.accounts {
		s.leaves = append(s.leaves, AppendLeaf(nil, a, b.accounts[a]))
	}
	s.Seal = Seal{Period: period, Accounts: uint64(len(s.leaves)), Root: treeHash(s.leaves)}
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
	for i, a := range s.accounts {
		if a == account {
			return Proof{Index: uint64(i), Leaf: s.leaves[i], Path: treePath(s.leaves, i)}, nil
		}
	}
	return Proof{}, fmt.Errorf("proving %s in %q: %w", account.Path, account.Unit, ErrVacuous)
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

// treeHash is MTH of RFC 6962 section 2.1.
func treeHash(leaves [][]byte) [32]byte {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leafHash(leaves[0])
	default:
		k := splitAt(n)
		return nodeHash(treeHash(leaves[:k]), treeHash(leaves[k:]))
	}
}

// treePath is PATH of RFC 6962 section 2.1.1.
func treePath(leaves [][]byte, i int) [][32]byte {
	if len(leaves) <= 1 {
		return nil
	}
	k := splitAt(len(leaves))
	if i < k {
		return append(treePath(leaves[:k], i), treeHash(leaves[k:]))
	}
	return append(treePath(leaves[k:], i-k), treeHash(leaves[:k]))
}

// splitAt returns the largest power of two below n.
func splitAt(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }
