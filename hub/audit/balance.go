package audit

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kith/hub/ledger"
	"kith/hub/settlement"
	"kith/internal/event"
	"kith/internal/wire"
)

// BalanceTitle is the first line of a proof of balance.
const BalanceTitle = "kith-balance v1"

// Bounds of a proof of balance.
const (
	MaxBalanceProof = 64 << 20 // bytes; nearly all of it is the manifest, one line for each of the bundle's files
	maxProofLine    = 2048     // bytes: one account, or the path to it in a tree of maxAccounts leaves
	proofFile       = "the proof of balance"
	proofHead       = 7 // lines before the first account
	pathSegments    = 2 // of an account, after network and node
)

// Balance is one account of a node under the seal of a period.
type Balance struct {
	Account string `json:"account"`
	Unit    string `json:"unit"`
	Debits  int64  `json:"debits"`
	Credits int64  `json:"credits"`
	Balance int64  `json:"balance"` // credits less debits: below 0 the node owes
}

// BalanceReport is what verifying a proof of balance came to.
type BalanceReport struct {
	OK         bool        `json:"ok"`
	Network    string      `json:"network,omitempty"`
	Period     string      `json:"period,omitempty"`
	Node       string      `json:"node,omitempty"`
	Operator   string      `json:"operator,omitempty"` // the key that everything rests on: compare it
	Pinned     bool        `json:"pinned"`             // it is the one that was given
	Seal       string      `json:"seal,omitempty"`
	Accounts   uint64      `json:"accounts,omitempty"` // under the seal, of all nodes
	Balances   []Balance   `json:"balances,omitempty"`
	Difference *Difference `json:"difference,omitempty"`
}

// balanceProof is a proof of balance as it is written: accounts with their paths to the seal, and the manifest that signs it.
type balanceProof struct {
	network, period, node, operator string
	seal                            ledger.Seal
	accounts                        []ledger.Proof
	manifest                        []byte
}

// Prove writes the one small file by which a node can show, without bundle, hub or network, what stood on its accounts when
// the period was sealed: in every unit, or in one.
func (c *Closing) Prove(node, unit string, sign Sign) ([]byte, error) {
	if c.Period.State != settlement.Posted {
		return nil, fmt.Errorf("proving balances of period %s in state %q: post it first", c.Period.Name, c.Period.State)
	}
	sealed, err := ledger.SealBalances(c.Period.Name, c.Balances)
	if err != nil {
		return nil, err
	}
	p := balanceProof{network: c.Network.Name, period: c.Period.Name, node: node, operator: c.Network.Operator, seal: sealed.Seal}
	for _, a := range accounts(c.Balances) {
		if !event.IsID(node) || !p.owns(a.Path) || unit != "" && a.Unit != unit {
			continue
		}
		proof, err := sealed.Prove(a)
		if err != nil {
			return nil, err
		}
		p.accounts = append(p.accounts, proof)
	}
	if len(p.accounts) == 0 {
		return nil, fmt.Errorf("no account of %.60q is under the seal of %s%s; hub list nodes shows the houses", node, c.Period.Name, in(unit))
	}
	if p.manifest, err = c.signedManifest(sign); err != nil {
		return nil, err
	}
	return p.appendText(nil), nil
}

func in(unit string) string {
	if unit == "" {
		return ""
	}
	return fmt.Sprintf(" in %.60q", unit)
}

// owns says whether an account is the node's: its one with the pool, or one with another node.
func (p *balanceProof) owns(path string) bool {
	rest, ok := strings.CutPrefix(path, ledger.NodePath(p.network, p.node))
	if !ok || rest == "" {
		return ok
	}
	segments := strings.Split(rest, "/")
	return segments[0] == "" && len(segments) <= 1+pathSegments &&
		!slices.ContainsFunc(segments[1:], func(s string) bool { return !event.IsID(strings.TrimPrefix(s, "~")) })
}

func (p *balanceProof) appendText(b []byte) []byte {
	b = fmt.Appendf(b, "%s\nnetwork %s\nperiod %s\nnode %s\noperator %s\naccounts %d\nseal %s\n", BalanceTitle, p.network, p.period, p.node,
		p.operator, p.seal.Accounts, hex.EncodeToString(p.seal.Root[:]))
	for _, a := range p.accounts {
		b = append(strconv.AppendUint(append(b, "account "...), a.Index, 10), ' ')
		b = append(append(b, a.Leaf...), "path"...)
		for _, h := range a.Path {
			b = hex.AppendEncode(append(b, ' '), h[:])
		}
		b = append(b, '\n')
	}
	return append(fmt.Appendf(b, "end %d\n", len(p.accounts)), p.manifest...)
}

// VerifyBalance checks a proof of balance from its bytes alone, and holds it to the operator's verifier key unless that is empty.
func VerifyBalance(text []byte, operator string) BalanceReport {
	p, balances, d := readBalanceProof(text)
	if d == nil {
		d = p.verify(operator)
	}
	if d != nil {
		return BalanceReport{Difference: d}
	}
	return BalanceReport{OK: true, Network: p.network, Period: p.period, Node: p.node, Operator: p.operator, Pinned: operator != "",
		Seal: hex.EncodeToString(p.seal.Root[:]), Accounts: p.seal.Accounts, Balances: balances}
}

// proofReader takes one line after the other and never holds more than one.
type proofReader struct {
	rest string
	at   int
}

func (r *proofReader) next() (words []string) {
	r.at++
	i := strings.IndexByte(r.rest[:min(len(r.rest), maxProofLine)], '\n')
	if i < 0 {
		return nil
	}
	words, r.rest = strings.Split(r.rest[:i], " "), r.rest[i+1:]
	return words
}

func (r *proofReader) differ(format string, args ...any) *Difference {
	return differ(proofFile, r.at, format, args...)
}

func readBalanceProof(text []byte) (*balanceProof, []Balance, *Difference) {
	if len(text) > MaxBalanceProof {
		return nil, nil, differ(proofFile, 0, "%d bytes, at most %d are read", len(text), MaxBalanceProof)
	}
	r, p := &proofReader{rest: string(text)}, &balanceProof{}
	if words := r.next(); strings.Join(words, " ") != BalanceTitle {
		return nil, nil, r.differ("want %q", BalanceTitle)
	}
	for _, key := range []string{"network", "period", "node", "operator", "accounts", "seal"} {
		words := r.next()
		if len(words) != 2 || words[0] != key || !p.take(key, words[1]) {
			return nil, nil, r.differ("want %s and its value", key)
		}
	}
	var balances []Balance
	for {
		words := r.next()
		if len(words) == 2 && words[0] == "end" && len(balances) > 0 && words[1] == strconv.Itoa(len(balances)) {
			p.manifest = []byte(r.rest)
			return p, balances, nil
		}
		a, d := p.takeAccount(r, words)
		if d != nil {
			return nil, nil, d
		}
		if !p.takePath(r.next()) {
			return nil, nil, r.differ("want the path of the account above: the word and up to %d hashes", pathMost)
		}
		balances = append(balances, a)
	}
}

// pathMost is the height of a tree of maxAccounts leaves.
const pathMost = 24

func (p *balanceProof) take(key, word string) (ok bool) {
	switch key {
	case "network":
		p.network, ok = word, event.IsID(word)
	case "period":
		p.period, ok = word, event.IsID(word)
		p.seal.Period = word
	case "node":
		p.node, ok = word, event.IsID(word)
	case "operator":
		p.operator = word
		_, err := (&Network{Name: p.network, Operator: word}).operator()
		ok = err == nil
	case "accounts":
		var n int64
		n, ok = number(word)
		p.seal.Accounts, ok = uint64(n), ok && n > 0 && n <= maxAccounts
	case "seal":
		p.seal.Root, ok = digest(word)
	}
	return ok
}

// takeAccount reads "account INDEX" and the line that the account has in the balances of the bundle.
func (p *balanceProof) takeAccount(r *proofReader, words []string) (Balance, *Difference) {
	const before, sums = 2, 5
	if len(words) != before+2+sums || words[0] != "account" {
		return Balance{}, r.differ("want account, its number and its line of the balances, or end and how many there were")
	}
	index, ok := number(words[1])
	ok = ok && index >= 0 && uint64(index) < p.seal.Accounts && (len(p.accounts) == 0 || p.accounts[len(p.accounts)-1].Index < uint64(index))
	if !ok || !p.owns(words[before]) || !event.IsID(words[before+1]) {
		return Balance{}, r.differ("not an account of %s, or not behind the one before it", p.node)
	}
	var v [sums]int64
	for i := range v {
		if v[i], ok = number(words[before+2+i]); !ok {
			return Balance{}, r.differ("not five amounts")
		}
	}
	if v[0] < 0 || v[0] > maxBalance || v[1] < 0 || v[1] > maxBalance || v[2] != 0 || v[3] != 0 || v[4] != v[1]-v[0] {
		return Balance{}, r.differ("the balance is not credits less debits")
	}
	a := ledger.Account{Path: words[before], Unit: words[before+1]}
	p.accounts = append(p.accounts, ledger.Proof{Index: uint64(index), Leaf: ledger.AppendLeaf(nil, a, ledger.Totals{Debits: v[0], Credits: v[1]})})
	return Balance{Account: a.Path, Unit: a.Unit, Debits: v[0], Credits: v[1], Balance: v[4]}, nil
}

func (p *balanceProof) takePath(words []string) bool {
	if len(words) == 0 || words[0] != "path" || len(words) > 1+pathMost {
		return false
	}
	a := &p.accounts[len(p.accounts)-1]
	for _, word := range words[1:] {
		h, ok := digest(word)
		if !ok {
			return false
		}
		a.Path = append(a.Path, h)
	}
	return true
}

// verify holds the key to the one that was given, the manifest to the key, the seal to the manifest and each account to the seal.
func (p *balanceProof) verify(operator string) *Difference {
	if operator != "" && p.operator != operator {
		return differ(proofFile, 5, "the operator's key is not the one that was given, %s", wire.Plain(operator))
	}
	behind := proofHead + 2*len(p.accounts) + 1 // lines before the manifest
	key, err := (&Network{Name: p.network, Operator: p.operator}).operator()
	if err != nil {
		return differ(proofFile, 5, "the operator's key: %v", err)
	}
	signed, err := opened(p.manifest, key)
	if err != nil {
		return differ(proofFile, 0, "the manifest, from line %d on: the operator's signature: %v", behind+1, err)
	}
	seal := p.seal.AppendText(nil)
	sum := hash(seal)
	want := []string{manifestTitle, "network " + p.network, "period " + p.period, "", "seal " + hex.EncodeToString(p.seal.Root[:])}
	n, last, found := 0, "", false
	for line := range strings.Lines(signed) {
		line = strings.TrimSuffix(line, "\n")
		words := strings.Split(line[:min(len(line), maxProofLine)], " ")
		ok := false
		switch n++; {
		case n == 4: // which statement, does not matter here
			if ok = len(words) == 2 && words[0] == "statement"; ok {
				_, ok = digest(words[1])
			}
		case n <= len(want):
			ok = line == want[n-1]
		case len(words) == 4 && words[0] == "file" && words[3] > last && plainName(words[3]):
			last = words[3]
			h, fine := digest(words[1])
			size, whole := number(words[2])
			ok = fine && whole && size >= 0
			if last == sealName {
				found, ok = true, ok && h == sum && size == int64(len(seal))
			}
		}
		if !ok {
			return differ(proofFile, behind+n, "the manifest, which the operator signed, is of another seal: %.200q", line)
		}
	}
	if !found {
		return differ(proofFile, behind+n, "the manifest, which the operator signed, names no %s", sealName)
	}
	for i := range p.accounts {
		if p.seal.Verify(p.accounts[i]) != nil {
			return differ(proofFile, proofHead+2*i+1, "this account, by the path below it, does not lead to the seal")
		}
	}
	return nil
}
