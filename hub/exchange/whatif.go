package exchange

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"kith/hub/audit"
	"kith/hub/ledger"
	"kith/hub/servicelog"
	"kith/hub/settlement"
	"kith/hub/web"
	"kith/internal/event"
	"kith/internal/page"
)

// Limits of trying other rules on the draft.
const (
	trialHouses = 100                      // houses whose limits stand in one form: a query is bounded by the header it comes in
	trialSize   = 200_000                  // leaves and carried debts; clearing more takes longer than a reader waits
	trialQueue  = 4                        // readers with a question of their own that wait at the same time
	trialWait   = 8 * time.Second          // for the answers before; one that is begun is finished
	trialsKept  = 16                       // answers kept for the draft that they belong to
	trialMost   = int64(1_000_000_000_000) // smallest parts in a limit
	trialPrice  = int64(1_000_000_000)     // smallest parts in a price, as in a policy
	trialShare  = int64(1_000_000_000)     // denominator of dues
	trialPool   = "commons"                // the pool of a policy that names none
	trialNaming = "the rules that you try"
	fromCommons = "commons" // source of an obligation that follows from no leaf (docs/FORMATS.md, "Audit bundle")
)

// trial is what somebody wants to change in one unit. Only fields that differ from the policy are here.
type trial struct {
	unit   string
	limits map[string]*ledger.Limit // by node; nil: none
	dues   *settlement.Dues         // Num 0: none
	prices map[[2]string]int64      // by action and kind; 0: it does not count
}

// trials makes a form of every unit of the policy, and reads into it what was asked of one.
func (p *drafted) trials(asked web.Asked) ([]web.Trial, *trial) {
	var list []web.Trial
	var wanted *trial
	for _, u := range p.policy.Units {
		f := &trialForm{drafted: p, unit: u, out: web.Trial{Unit: u.Name, Scale: u.Scale}, try: trial{unit: u.Name, limits: map[string]*ledger.Limit{}, prices: map[[2]string]int64{}}}
		if asked["unit"] == u.Name {
			f.asked, f.out.Asked = asked, true
		}
		f.fill()
		if f.out.Asked && !f.bad {
			wanted = &f.try
		}
		list = append(list, f.out)
	}
	return list, wanted
}

// trialForm reads one form.
type trialForm struct {
	*drafted
	unit  ledger.Unit
	asked web.Asked // nil: nothing was asked of this unit
	known map[string]bool
	out   web.Trial
	try   trial
	bad   bool
}

func (f *trialForm) fill() {
	f.known = map[string]bool{"unit": true}
	rule := settlement.Dues{Unit: f.unit.Name, Den: 1}
	for _, d := range f.policy.Pool.Dues {
		if d.Unit == f.unit.Name {
			rule = d
		}
	}
	f.out.Dues = f.field("dues", "Dues to the pool, of everything given", duesText(rule))
	if text, changed := f.changed(&f.out.Dues); changed {
		d, fault := parseDues(text)
		d.Unit = f.unit.Name
		f.refuse(&f.out.Dues, fault)
		f.try.dues = &d
	}
	f.prices()
	for _, n := range f.houses[:min(len(f.houses), trialHouses)] {
		f.limit(n.ID, n.Name)
	}
	f.out.More = max(0, len(f.houses)-trialHouses)
	var strange []string
	for name := range f.asked {
		if !f.known[name] {
			strange = append(strange, fmt.Sprintf("%.60q", name))
		}
	}
	if slices.Sort(strange); len(strange) > 0 {
		f.out.Fault, f.bad = "No such field: "+strings.Join(strange[:min(len(strange), 3)], ", ")+".", true
	}
	if f.bad && f.out.Fault == "" {
		f.out.Fault = "Nothing was worked out: look at the marked fields."
	}
}

func (f *trialForm) field(name, label, now string) web.Field {
	f.known[name] = true
	v := web.Field{Name: name, Label: label, Text: now, Now: now}
	if text, here := f.asked[name]; here {
		v.Text = strings.TrimSpace(text)
	}
	return v
}

// changed gives what was typed, when it is another text than that of the rule in force.
func (f *trialForm) changed(v *web.Field) (string, bool) {
	return strings.NewReplacer("\u2212", "-", "\u202f", "", "\u00a0", "").Replace(v.Text), f.asked != nil && v.Text != v.Now
}

func (f *trialForm) refuse(v *web.Field, fault string) {
	if fault != "" {
		v.Fault, f.bad = fault, true
	}
}

func (f *trialForm) prices() {
	for action, kinds := range f.policy.Settlement.Prices {
		for kind, price := range kinds {
			if price.Unit != f.unit.Name {
				continue
			}
			label := page.Pretty(kind) + ", " + servicelog.Did(event.Kind(action))
			if m := f.measures[kind]; m != "" {
				label += ", per " + strings.ReplaceAll(m, "-", " ")
			}
			v := f.field("price."+string(action)+"."+kind, label, plainAmount(price.Each, f.unit.Scale))
			if text, changed := f.changed(&v); changed {
				each, fault := int64(0), ""
				if text != "" {
					if each, fault = parseAmount(text, f.unit.Scale, trialPrice); fault == "" && each < 1 {
						fault = "A price is above zero. Leave it empty and it does not count."
					}
				}
				f.refuse(&v, fault)
				f.try.prices[[2]string{string(action), kind}] = each
			}
			f.out.Prices = append(f.out.Prices, v)
		}
	}
	slices.SortFunc(f.out.Prices, func(a, b web.Field) int { return cmp.Compare(a.Label, b.Label) })
}

// limit makes the two fields of one house. They are given both, or neither: then the house has nothing to do with the pool.
func (f *trialForm) limit(node, name string) {
	l, limited := f.policy.Limits[ledger.Account{Path: ledger.NodePath(f.policy.Network, node), Unit: f.unit.Name}]
	floor, ceiling := "", ""
	if limited {
		floor, ceiling = plainAmount(l.Floor, f.unit.Scale), plainAmount(l.Ceiling, f.unit.Scale)
	}
	row := web.LimitFields{House: name, Floor: f.field("floor."+node, "floor of "+name, floor), Ceiling: f.field("ceiling."+node, "ceiling of "+name, ceiling)}
	low, lowered := f.changed(&row.Floor)
	high, raised := f.changed(&row.Ceiling)
	if lowered || raised {
		f.try.limits[node] = f.pair(&row, l, low, high)
	}
	f.out.Limits = append(f.out.Limits, row)
}

// pair reads what was typed over the limit l of one house.
func (f *trialForm) pair(row *web.LimitFields, l ledger.Limit, low, high string) *ledger.Limit {
	var wrong, amiss string
	if low != "" && row.Floor.Text != row.Floor.Now {
		l.Floor, wrong = parseAmount(low, f.unit.Scale, trialMost)
	}
	if high != "" && row.Ceiling.Text != row.Ceiling.Now {
		l.Ceiling, amiss = parseAmount(high, f.unit.Scale, trialMost)
	}
	switch {
	case low == "" && high == "":
		return nil
	case low == "" && amiss == "":
		wrong = "A ceiling needs a floor. Leave both empty for no limit."
	case high == "" && wrong == "":
		amiss = "A floor needs a ceiling. Leave both empty for no limit."
	case wrong+amiss == "" && l.Floor > l.Ceiling:
		amiss = "The ceiling is below the floor."
	}
	f.refuse(&row.Floor, wrong)
	f.refuse(&row.Ceiling, amiss)
	return &l
}

// parseAmount reads a number as people write it into smallest parts. The fault is a sentence, empty when there is none.
func parseAmount(text string, scale int, most int64) (int64, string) {
	want := "Want a whole number, such as 12."
	if scale > 0 {
		want = fmt.Sprintf("Want a number such as 12.5, with at most %s after the point.", page.Plural(scale, "digit", "digits"))
	}
	digits, negative := strings.CutPrefix(text, "-")
	whole, rest, point := strings.Cut(digits, ".")
	if whole == "" || point && (rest == "" || len(rest) > scale) || strings.Trim(whole+rest, "0123456789") != "" {
		return 0, want
	}
	n, err := strconv.ParseInt(whole+rest+strings.Repeat("0", scale-len(rest)), 10, 64)
	if err != nil || n > most {
		return 0, "That is too much: at most " + plainAmount(most, scale) + "."
	}
	if negative {
		n = -n
	}
	return n, ""
}

// plainAmount writes an amount so that parseAmount reads it back.
func plainAmount(n int64, scale int) string {
	sign, size := "", uint64(n)
	if n < 0 {
		sign, size = "-", -size
	}
	text := strconv.FormatUint(size, 10)
	if scale <= 0 {
		return sign + text
	}
	text = strings.Repeat("0", max(0, scale+1-len(text))) + text
	whole, rest := text[:len(text)-scale], strings.TrimRight(text[len(text)-scale:], "0")
	if rest == "" {
		return sign + whole
	}
	return sign + whole + "." + rest
}

// duesText writes a share as a percentage when that is exact, else as a fraction. No dues are an empty text.
func duesText(d settlement.Dues) string {
	const hundredths = 10_000 // of all
	switch {
	case d.Num == 0:
		return ""
	case d.Num <= trialShare && d.Num*hundredths%d.Den == 0:
		return plainAmount(d.Num*hundredths/d.Den, 2) + " %"
	}
	return fmt.Sprintf("%d/%d", d.Num, d.Den)
}

func parseDues(text string) (settlement.Dues, string) {
	const want = "Want a share such as 5 % or 1/20, at most all of it. Leave it empty for none."
	if text == "" {
		return settlement.Dues{Den: 1}, ""
	}
	var d settlement.Dues
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		n, fault := parseAmount(strings.TrimSpace(percent), 4, trialShare)
		if d = (settlement.Dues{Num: n, Den: 1_000_000}); fault != "" {
			return d, want
		}
	} else {
		num, den, _ := strings.Cut(text, "/")
		var fault, fault2 string
		d.Num, fault = parseAmount(strings.TrimSpace(num), 0, trialShare)
		if d.Den, fault2 = parseAmount(strings.TrimSpace(den), 0, trialShare); fault+fault2 != "" {
			return d, want
		}
	}
	if d.Num < 0 || d.Den < 1 || d.Num > d.Den {
		return d, want
	}
	return d, ""
}

// under is the policy with the trial's rules in place of its own. It goes through the one parser of policies, so that
// nothing can be tried that could not be set.
func (t *trial) under(p *audit.Policy) (*audit.Policy, []byte, error) {
	s := &p.Settlement
	units, limits, dues, grants := []any{}, []any{}, []any{}, []any{}
	for _, u := range p.Units {
		units = append(units, map[string]any{"name": u.Name, "scale": u.Scale})
	}
	prices := map[string]map[string]any{}
	for action, kinds := range s.Prices {
		for kind, price := range kinds {
			each := price.Each
			if other, here := t.prices[[2]string{string(action), kind}]; here && price.Unit == t.unit {
				each = other
			}
			if each == 0 {
				continue
			}
			if prices[string(action)] == nil {
				prices[string(action)] = map[string]any{}
			}
			prices[string(action)][kind] = map[string]any{"unit": price.Unit, "each": each}
		}
	}
	add := func(node, unit string, l ledger.Limit) {
		limits = append(limits, map[string]any{"node": node, "unit": unit, "floor": l.Floor, "ceiling": l.Ceiling})
	}
	for a, l := range p.Limits {
		node := strings.TrimPrefix(a.Path, p.Network+"/")
		if _, here := t.limits[node]; !here || a.Unit != t.unit {
			add(node, a.Unit, l)
		}
	}
	for node, l := range t.limits {
		if l != nil {
			add(node, t.unit, *l)
		}
	}
	slices.SortFunc(limits, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	rules := p.Pool.Dues
	if t.dues != nil {
		rules = slices.DeleteFunc(slices.Clone(rules), func(d settlement.Dues) bool { return d.Unit == t.unit })
		if t.dues.Num > 0 {
			rules = append(rules, *t.dues)
		}
	}
	for _, d := range rules {
		dues = append(dues, map[string]any{"unit": d.Unit, "num": d.Num, "den": d.Den})
	}
	for _, g := range p.Pool.Grants {
		grants = append(grants, map[string]any{"node": g.Node, "unit": g.Unit, "amount": g.Amount, "reason": g.Reason})
	}
	pool := p.Pool.Commons
	if pool == "" && len(dues)+len(limits) > 0 {
		pool = trialPool
	}
	seconds := func(n int64) string { return (time.Duration(n) * time.Second).String() }
	text, err := json.Marshal(map[string]any{"version": s.Version, "network": p.Network, "units": units, "prices": prices, "limits": limits,
		"commons":   map[string]any{"node": pool, "dues": dues, "grants": grants},
		"closing":   map[string]any{"window": seconds(p.Terms.WindowSeconds), "answer": seconds(p.Terms.AnswerSeconds), "age_days": p.AgeCap},
		"one_sided": map[string]any{"hold": s.HoldC, "cap": s.CapC}}) // JSON is YAML
	if err != nil {
		return nil, nil, err
	}
	changed, err := audit.ParsePolicy(trialNaming, text)
	return changed, text, err
}

// result is a draft with the dues that each node pays in it.
type result struct {
	draft *audit.Draft
	dues  map[[2]string]int64 // by node and unit
}

func (b *basis) result(policy *audit.Policy) (*result, error) {
	d, err := b.draft(policy)
	if err != nil {
		return nil, err
	}
	dues, err := b.dues(policy)
	return &result{d, dues}, err
}

// dues are what the period asks of each node for the pool. What an earlier period asked is a debt like any other.
func (b *basis) dues(policy *audit.Policy) (map[[2]string]int64, error) {
	dues := map[[2]string]int64{}
	if b.empty || len(policy.Pool.Dues) == 0 {
		return dues, nil
	}
	g := *b.ground
	g.Policy = policy
	set, err := g.Derive()
	if err != nil {
		return nil, err
	}
	for i := range set.Obligations {
		o := &set.Obligations[i]
		if set.Fresh[o.ID] && o.Creditor == policy.Pool.Commons && set.Sources[o.ID].Kind == fromCommons {
			dues[[2]string{o.Debtor, o.Unit}] += o.Amount
		}
	}
	return dues, nil
}

// compare says what a unit comes to under both policies.
func (p *drafted) compare(now, then *result, unit string) *web.Trialled {
	c := &web.Trialled{}
	rows := map[string]*web.TrialNode{}
	at := func(node string) *web.TrialNode {
		if rows[node] == nil {
			rows[node] = &web.TrialNode{Name: p.called(node)}
		}
		return rows[node]
	}
	for i, r := range []*result{now, then} {
		sums := []*web.Sums{&c.Now, &c.Then}[i]
		side := func(node string) *web.Standing { return []*web.Standing{&at(node).Now, &at(node).Then}[i] }
		for _, u := range r.draft.Units {
			if u.Unit != unit {
				continue
			}
			sums.Gross, sums.Goes = u.Gross, u.Cleared
			for _, d := range u.Debts {
				side(d.Debtor).Owes += d.After
				side(d.Creditor).Owed += d.After
			}
		}
		for _, n := range r.draft.Nodes {
			if n.Unit == unit {
				s := side(n.Node)
				s.Pool, s.Dues = n.After, r.dues[[2]string{n.Node, unit}]
				sums.Dues += s.Dues
				if n.Limit != nil {
					s.Limited, s.Hit = true, hits(n.After, *n.Limit)
				}
			}
		}
	}
	for _, row := range rows {
		c.Nodes = append(c.Nodes, *row)
	}
	slices.SortFunc(c.Nodes, func(a, b web.TrialNode) int { return cmp.Compare(a.Name, b.Name) })
	return c
}

// hits says where a balance stands that cannot move on.
func hits(balance int64, l ledger.Limit) string {
	switch {
	case balance < l.Floor:
		return "below its floor"
	case balance > l.Ceiling:
		return "above its ceiling"
	case balance == l.Floor:
		return "at its floor"
	case balance == l.Ceiling:
		return "at its ceiling"
	}
	return ""
}

// try answers one question about the draft, or says in a sentence why it cannot. Whoever calls holds the gate.
func (p *drafted) try(t *trial) (*web.Trialled, string) {
	if size := p.size(); size > trialSize {
		return nil, fmt.Sprintf("This period has %s entries and carried debts; other rules are tried on at most %s.", page.Number(uint64(size)), page.Number(trialSize))
	}
	policy, text, err := t.under(p.policy)
	if err != nil {
		return nil, "These rules do not hold together: " + short(err.Error())
	}
	key := t.unit + " " + string(text)
	if known := p.tried[key]; known != nil {
		return known, ""
	}
	if p.now.dues == nil {
		if p.now.dues, err = p.basis.dues(p.policy); err != nil {
			return nil, "The dues of the draft could not be worked out: " + short(err.Error())
		}
	}
	then, err := p.basis.result(policy)
	if err != nil {
		return nil, "Under these rules there is no draft: " + short(err.Error())
	}
	if len(p.tried) >= trialsKept {
		clear(p.tried)
	}
	p.tried[key] = p.compare(p.now, then, t.unit)
	return p.tried[key], ""
}

func (p *drafted) size() int {
	n := len(p.basis.ground.Shown)
	if c := p.basis.ground.Opening; c != nil {
		n += len(c.Obligations)
	}
	return n
}

func short(s string) string {
	const most = 300 // bytes of an error on a page
	if len(s) <= most {
		return s
	}
	for s = s[:most]; !utf8.ValidString(s); {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// ask answers a question on a period that is drafted already. It waits for its turn no longer than a reader would.
func (p *periodPage) ask(ctx context.Context, out *web.Period, d *drafted, asked web.Asked) {
	var wanted *trial
	out.Trials, wanted = d.trials(asked)
	i := slices.IndexFunc(out.Trials, func(t web.Trial) bool { return t.Asked })
	if i < 0 || wanted == nil {
		return
	}
	t := &out.Trials[i]
	select {
	case p.queue <- struct{}{}:
		defer func() { <-p.queue }()
	default:
		t.Wait = "Others are trying rules just now. Try again in a moment."
		return
	}
	ctx, cancel := context.WithTimeout(ctx, trialWait)
	defer cancel()
	select {
	case p.gate <- struct{}{}:
		defer func() { <-p.gate }()
	case <-ctx.Done():
		t.Wait = "Working it out takes longer than a page waits. Try again in a moment."
		return
	}
	t.Answer, t.Wait = d.try(wanted)
}
