package settlement

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Split divides a total by weights into shares that sum exactly; equal remainders rotate with the event. The ledger has
// the one implementation; the assembled hub passes it in.
type Split func(total int64, weights []int64, event [32]byte) ([]int64, error)

// Dues says what the commons asks in one unit: Num/Den of everything that was derived in the period, rounded down once for
// the whole network, then divided by what each node hosted and used.
type Dues struct {
	Unit     string
	Num, Den int64
}

// Grant is what the commons gives to one node in a period, decided under the policy.
type Grant struct {
	Node   string
	Unit   string
	Amount int64
	Reason string // slug: the decision it follows from
}

// Pool is the commons of a network as seen by one period.
type Pool struct {
	Commons string // its node in the graph
	Dues    []Dues
	Grants  []Grant
}

// Join adds the commons' dues and grants to the obligations of a period, as ordinary obligations dated on the cut.
func (p *Pool) Join(policy *Policy, cut *Cut, list []Obligation, split Split) ([]Obligation, error) {
	joined := slices.Clone(list)
	for _, d := range p.Dues {
		if d.Num < 0 || d.Den <= 0 || d.Num > d.Den || !validSlug(d.Unit) {
			return nil, fmt.Errorf("asking dues of %d/%d in %q: %w", d.Num, d.Den, d.Unit, ErrPolicy)
		}
		dues, err := p.share(policy, cut, d, list, split)
		if err != nil {
			return nil, fmt.Errorf("asking dues in %q: %w", d.Unit, err)
		}
		joined = append(joined, dues...)
	}
	for i, g := range p.Grants {
		if g.Amount <= 0 || !validSlug(g.Node) || !validSlug(g.Unit) || !validSlug(g.Reason) || g.Node == p.Commons {
			return nil, fmt.Errorf("granting %d to %q: %w", g.Amount, g.Node, ErrPolicy)
		}
		joined = append(joined, Obligation{ID: commonsID(policy, cut, fmt.Sprintf("grant %d %s %s %s", i, g.Unit, g.Node, g.Reason)),
			Debtor: p.Commons, Creditor: g.Node, Unit: g.Unit, Amount: g.Amount, Day: cut.Day, Evidence: Confirmed})
	}
	sortObligations(joined)
	return joined, nil
}

func (p *Pool) share(policy *Policy, cut *Cut, d Dues, list []Obligation, split Split) ([]Obligation, error) {
	volume := map[string]int64{}
	gross := int64(0)
	for _, o := range list {
		if o.Unit != d.Unit || o.Debtor == p.Commons || o.Creditor == p.Commons {
			continue
		}
		if o.Amount > math.MaxInt64/4-gross {
			return nil, ErrOverflow
		}
		gross += o.Amount
		volume[o.Debtor] += o.Amount
		volume[o.Creditor] += o.Amount
	}
	hi, lo := bits.Mul64(uint64(gross), uint64(d.Num))
	total, _ := bits.Div64(hi, lo, uint64(d.Den)) // Num <= Den, so this is at most gross
	if total == 0 {
		return nil, nil
	}
	nodes, weights := make([]string, 0, len(volume)), make([]int64, 0, len(volume))
	for node := range volume {
		nodes = append(nodes, node)
	}
	slices.Sort(nodes)
	for _, node := range nodes {
		weights = append(weights, volume[node])
	}
	shares, err := split(int64(total), weights, commonsID(policy, cut, "dues "+d.Unit))
	if err != nil {
		return nil, err
	}
	var dues []Obligation
	for i, node := range nodes {
		if shares[i] > 0 {
			dues = append(dues, Obligation{ID: commonsID(policy, cut, "dues "+d.Unit+" "+node), Debtor: node, Creditor: p.Commons,
				Unit: d.Unit, Amount: shares[i], Day: cut.Day, Evidence: Confirmed})
		}
	}
	return dues, nil
}

// commonsID identifies what follows from a cut as a whole and not from one leaf.
func commonsID(policy *Policy, cut *Cut, what string) ID {
	digest := cut.Digest()
	b := append([]byte("kith commons v1\n"), digest[:]...)
	b = append(append(b, policy.Version...), '\n')
	return sha256.Sum256(append(append(b, what...), '\n'))
}
