package advice

import "fmt"

// quotas shares what members of other houses used in the running period among all houses that offer the kind, by what they
// offer: that is what each of them would have hosted if visitors had spread evenly. A house below its share is asked to
// host more; one above it only hears so.
func (d *desk) quotas() error {
	for _, group := range d.kinds(func(t *Thing) bool { return t.Offered && t.Count > 0 }) {
		total := int64(0)
		for _, t := range group {
			total += t.Hosted
		}
		if total == 0 || len(group) < 2 {
			continue
		}
		var claims []Claim
		for _, t := range group {
			ask := total
			if t.Measure == Night {
				ask = min(total, t.Count*d.Days) // one night a day and bed
			}
			claims = append(claims, Claim{t.Node, ask, t.Count})
		}
		parts, err := Share(total, claims, d.Seed)
		if err != nil {
			return err
		}
		for i := range parts {
			d.quota(group[i], &parts[i]) // both are by ascending house
		}
	}
	return nil
}

func (d *desk) quota(t *Thing, p *Part) {
	what := fmt.Sprintf("Visitors used %d %s in all; shared among the houses by how many each offers, %s's share is %d", p.Total, measured(p.Total, t.Measure), d.names[t.Node], p.Gets)
	switch p.Why {
	case InFull:
		if p.Gets < p.Total {
			what += ", which is all that its own can hold"
		}
	case Remainder:
		what += ", with one more for the largest rounded-off rest"
	case LotWon:
		what += ", with one more by lot among equals"
	case LotLost:
		what += "; the lot for one more among equals fell on others"
	}
	what += fmt.Sprintf(". It has hosted %d.", t.Hosted)
	d.out.Quotas = append(d.out.Quotas, Quota{Node: t.Node, Kind: t.Kind, Measure: t.Measure, Hosted: t.Hosted, Quota: p.Gets, Reason: what})
	more := p.Gets - t.Hosted
	for _, n := range open(d.Promises, func(q *Promise) bool { return q.Do == Offer && q.Kind == t.Kind && q.Provider == t.Node }, t.Hosted) {
		more -= n
	}
	if more > 0 {
		d.add(Item{Do: Offer, Kind: t.Kind, Measure: t.Measure, Provider: t.Node, Quantity: more, Had: t.Hosted, Reason: what})
	}
}

// measured puts a measure into the plural that fits. Short ones are signs of units, which have none.
func measured(n int64, measure string) string {
	if n == 1 || len(measure) <= 3 {
		return measure
	}
	return measure + "s"
}
