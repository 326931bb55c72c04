package audit

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"kith/hub/clearing"
	"kith/hub/ledger"
	"kith/hub/settlement"
	"kith/internal/event"
	"kith/internal/settings"
)

// Bounds of a policy. With them one entry of the largest quantity comes to less than 2^60.
const (
	maxPrice     = 1_000_000_000
	maxUnits     = 64
	maxPrices    = 10_000
	maxAmount    = int64(1) << 60
	maxWindow    = 366 * 24 * time.Hour
	defaultAge   = 365 // days
	policyNaming = "policy.yaml"
)

// Policy is what the rules in force say about closing, as read from one file.
type Policy struct {
	Network    string
	Settlement settlement.Policy // with the version and the hash of the file
	Pool       settlement.Pool
	Terms      settlement.Terms
	Units      []ledger.Unit // ascending by name
	AgeCap     int32         // days
	Limits     map[ledger.Account]ledger.Limit
	limits     []limitRule
}

type policyFile struct {
	Version string               `yaml:"version"`
	Network string               `yaml:"network"`
	Units   []unitRule           `yaml:"units"`
	Prices  map[string]priceList `yaml:"prices"` // by action, then by resource kind
	Commons commonsRule          `yaml:"commons"`
	Limits  []limitRule          `yaml:"limits"`
	Closing closingRule          `yaml:"closing"`
	Weak    weakRule             `yaml:"one_sided"`
}

type priceList map[string]struct {
	Unit string `yaml:"unit"`
	Each int64  `yaml:"each"`
}

type unitRule struct {
	Name  string `yaml:"name"`
	Scale int    `yaml:"scale"` // decimal places when shown; all amounts are whole smallest parts
}

type commonsRule struct {
	Node   string      `yaml:"node"`
	Dues   []duesRule  `yaml:"dues"`
	Grants []grantRule `yaml:"grants"`
}

type duesRule struct {
	Unit string `yaml:"unit"`
	Num  int64  `yaml:"num"`
	Den  int64  `yaml:"den"`
}

type grantRule struct {
	Node   string `yaml:"node"`
	Unit   string `yaml:"unit"`
	Amount int64  `yaml:"amount"`
	Reason string `yaml:"reason"`
}

type limitRule struct {
	Node    string `yaml:"node"`
	Unit    string `yaml:"unit"`
	Floor   int64  `yaml:"floor"`
	Ceiling int64  `yaml:"ceiling"`
}

type closingRule struct {
	Window  settings.Duration `yaml:"window"`   // in which a statement can be challenged
	Answer  settings.Duration `yaml:"answer"`   // after which an unanswered dispute is decided by its evidence
	AgeDays int32             `yaml:"age_days"` // debts older than this count as this old
}

type weakRule struct {
	Hold bool             `yaml:"hold"` // evidence C waits until it is confirmed
	Cap  map[string]int64 `yaml:"cap"`  // most per unit that one home may owe one place by evidence C
}

// ParsePolicy reads a policy strictly. The hash of its bytes is the policy's identity.
func ParsePolicy(name string, text []byte) (*Policy, error) {
	var f policyFile
	if err := settings.Decode(name, text, &f); err != nil {
		return nil, err
	}
	if f.Closing.AgeDays == 0 {
		f.Closing.AgeDays = defaultAge
	}
	if problems := f.check(); len(problems) > 0 {
		return nil, &settings.Error{File: name, Lines: problems}
	}
	p := &Policy{Network: f.Network,
		Settlement: settlement.Policy{Version: f.Version, Hash: sha256.Sum256(text), HoldC: f.Weak.Hold, CapC: f.Weak.Cap,
			Prices: map[settlement.Action]map[string]settlement.Price{}},
		Pool:   settlement.Pool{Commons: f.Commons.Node},
		Terms:  settlement.Terms{WindowSeconds: seconds(f.Closing.Window), AnswerSeconds: seconds(f.Closing.Answer), Signers: 1},
		AgeCap: f.Closing.AgeDays,
		Limits: map[ledger.Account]ledger.Limit{}, limits: f.Limits,
	}
	slices.SortFunc(p.limits, func(a, b limitRule) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Unit, b.Unit)) })
	for _, u := range f.Units {
		p.Units = append(p.Units, ledger.Unit(u))
	}
	slices.SortFunc(p.Units, func(a, b ledger.Unit) int { return compareText(a.Name, b.Name) })
	for action, kinds := range f.Prices {
		list := map[string]settlement.Price{}
		for kind, price := range kinds {
			list[kind] = settlement.Price(price)
		}
		p.Settlement.Prices[settlement.Action(action)] = list
	}
	for _, d := range f.Commons.Dues {
		p.Pool.Dues = append(p.Pool.Dues, settlement.Dues(d))
	}
	for _, g := range f.Commons.Grants {
		p.Pool.Grants = append(p.Pool.Grants, settlement.Grant(g))
	}
	for _, l := range f.Limits {
		p.Limits[ledger.Account{Path: ledger.NodePath(f.Network, l.Node), Unit: l.Unit}] = ledger.Limit{Floor: l.Floor, Ceiling: l.Ceiling}
	}
	return p, nil
}

// appendText writes the rules as they were read, one a line, so that a verifier needs no YAML.
func (p *Policy) appendText(b []byte) []byte {
	s := &p.Settlement
	b = fmt.Appendf(b, "kith-rules v1\nversion %s\nnetwork %s\n", s.Version, p.Network)
	for _, u := range p.Units {
		b = fmt.Appendf(b, "unit %s %d\n", u.Name, u.Scale)
	}
	for _, action := range slices.Sorted(maps.Keys(s.Prices)) {
		for _, kind := range slices.Sorted(maps.Keys(s.Prices[action])) {
			price := s.Prices[action][kind]
			b = fmt.Appendf(b, "price %s %s %s %d\n", action, kind, price.Unit, price.Each)
		}
	}
	b = fmt.Appendf(b, "commons %s\n", cmp.Or(p.Pool.Commons, "-"))
	for _, d := range p.Pool.Dues {
		b = fmt.Appendf(b, "dues %s %d %d\n", d.Unit, d.Num, d.Den)
	}
	for _, g := range p.Pool.Grants {
		b = fmt.Appendf(b, "grant %s %s %d %s\n", g.Node, g.Unit, g.Amount, g.Reason)
	}
	for _, l := range p.limits {
		b = fmt.Appendf(b, "limit %s %s %d %d\n", l.Node, l.Unit, l.Floor, l.Ceiling)
	}
	b = fmt.Appendf(b, "hold %d\n", flag(s.HoldC))
	for _, unit := range slices.Sorted(maps.Keys(s.CapC)) {
		b = fmt.Appendf(b, "cap %s %d\n", unit, s.CapC[unit])
	}
	return fmt.Appendf(b, "window %d\nanswer %d\nage-days %d\nend\n", p.Terms.WindowSeconds, p.Terms.AnswerSeconds, p.AgeCap)
}

func seconds(d settings.Duration) int64 { return int64(time.Duration(d) / time.Second) }

func (f *policyFile) check() []string {
	var p []string
	bad := func(format string, args ...any) { p = append(p, fmt.Sprintf(format, args...)) }
	units := map[string]bool{}
	for _, u := range f.Units {
		if !event.IsID(u.Name) || units[u.Name] || u.Scale < 0 || u.Scale > ledger.MaxScale {
			bad("units: %.60q must be an id, once, with a scale of 0 to %d", u.Name, ledger.MaxScale)
		}
		units[u.Name] = true
	}
	unit := func(where, name string) {
		if !units[name] {
			bad("%s: unit %.60q is not among the units", where, name)
		}
	}
	if !event.IsID(f.Version) || !event.IsID(f.Network) || len(units) == 0 || len(units) > maxUnits {
		bad("version and network must be ids, and there are 1 to %d units", maxUnits)
	}
	n := 0
	for _, action := range slices.Sorted(maps.Keys(f.Prices)) {
		if a := settlement.Action(action); a != settlement.Work && a != settlement.Use && a != settlement.Consume && a != settlement.DeliverService {
			bad("prices: %.60q is none of work, deliver-service, use, consume", action)
		}
		for _, kind := range slices.Sorted(maps.Keys(f.Prices[action])) {
			price := f.Prices[action][kind]
			if n++; !event.IsID(kind) || price.Each < 1 || price.Each > maxPrice {
				bad("prices.%s: %.60q needs a whole price of 1 to %d", action, kind, maxPrice)
			}
			unit("prices."+action, price.Unit)
		}
	}
	if n == 0 || n > maxPrices {
		bad("prices: want 1 to %d", maxPrices)
	}
	f.checkPool(bad, unit)
	for _, name := range slices.Sorted(maps.Keys(f.Weak.Cap)) {
		unit("one_sided.cap", name)
		if f.Weak.Cap[name] < 0 {
			bad("one_sided.cap: %s is below zero", name)
		}
	}
	c := f.Closing
	if time.Duration(c.Window) > maxWindow || time.Duration(c.Answer) > maxWindow || c.AgeDays < 0 || c.AgeDays > clearing.MaxAgeCap {
		bad("closing: window and answer are at most %s, age_days 0 to %d", maxWindow, clearing.MaxAgeCap)
	}
	return p
}

func (f *policyFile) checkPool(bad func(string, ...any), unit func(where, name string)) {
	c := f.Commons
	if c.Node == "" && len(c.Dues)+len(c.Grants)+len(f.Limits) > 0 || c.Node != "" && !event.IsID(c.Node) {
		bad("commons: node %.60q must be an id: dues, grants and limits speak of it", c.Node)
	}
	asked := map[string]bool{}
	for _, d := range c.Dues {
		unit("commons.dues", d.Unit)
		if d.Num < 0 || d.Den < 1 || d.Num > d.Den || asked[d.Unit] {
			bad("commons.dues: %s must be one fraction of at most 1", d.Unit)
		}
		asked[d.Unit] = true
	}
	for _, g := range c.Grants {
		unit("commons.grants", g.Unit)
		if !event.IsID(g.Node) || !event.IsID(g.Reason) || g.Node == c.Node || g.Amount < 1 || g.Amount > maxAmount {
			bad("commons.grants: %.60q needs a node, a reason and an amount above zero", g.Node)
		}
	}
	seen := map[[2]string]bool{}
	for _, l := range f.Limits {
		unit("limits", l.Unit)
		key := [2]string{l.Node, l.Unit}
		if !event.IsID(l.Node) || l.Node == c.Node || l.Floor > l.Ceiling || l.Floor < -maxAmount || l.Ceiling > maxAmount || seen[key] {
			bad("limits: %.60q in %.60q needs a floor below its ceiling, once", l.Node, l.Unit)
		}
		seen[key] = true
	}
}
