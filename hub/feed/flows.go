package feed

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// ErrFlow refuses a flow that has no name in ValueFlows.
var ErrFlow = errors.New("not a flow that can be named")

// Flow is the public part of one economic event. Place is the node where it happened, Home the node of the member; for
// transfer and transfer-custody, Place gives and Home receives.
type Flow struct {
	ID       string // e.g. journal/index
	Action   string // our verb: work, deliver-service, use, consume, transfer, transfer-custody, cite, raise, lower
	Place    string
	Home     string
	Resource string // kind
	Quantity int64
	Unit     string // measure of the kind
	Day      int32
	Evidence string
}

// Claim is an obligation: what Debtor owes Creditor. TriggeredBy names the flow behind it, if there is one.
type Claim struct {
	ID          string
	Debtor      string
	Creditor    string
	Unit        string
	Amount      int64
	Day         int32
	TriggeredBy string
}

// Discharge is what a closing settled of one claim.
type Discharge struct {
	Claim  string
	Period string
	Day    int32
	Amount int64
}

// Flows are what a period's events, obligations and set-off come to.
type Flows struct {
	Network    string
	Flows      []Flow
	Claims     []Claim
	Discharges []Discharge
}

type vfMeasure struct {
	Value int64  `json:"hasNumericalValue"`
	Unit  string `json:"hasUnit"`
}

type vfEvent struct {
	ID        string     `json:"id"`
	Action    string     `json:"action"`
	Provider  string     `json:"provider"`
	Receiver  string     `json:"receiver"`
	Conforms  string     `json:"resourceConformsTo"`
	Resource  *vfMeasure `json:"resourceQuantity,omitempty"`
	Effort    *vfMeasure `json:"effortQuantity,omitempty"`
	Time      string     `json:"hasPointInTime"`
	Scope     string     `json:"inScopeOf"`
	Certainty string     `json:"note,omitempty"`
}

type vfClaim struct {
	ID        string    `json:"id"`
	Action    string    `json:"action"`
	Provider  string    `json:"provider"`
	Receiver  string    `json:"receiver"`
	Resource  vfMeasure `json:"resourceQuantity"`
	Created   string    `json:"created"`
	Triggered string    `json:"triggeredBy,omitempty"`
	Finished  bool      `json:"finished"`
}

type vfSettlement struct {
	Settles  string    `json:"settles"`
	Resource vfMeasure `json:"resourceQuantity"`
	Time     string    `json:"hasPointInTime"`
	Scope    string    `json:"inScopeOf"`
}

type vfNamed struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type vfDocument struct {
	Format      string         `json:"format"`
	Vocabulary  string         `json:"vocabulary"`
	Network     string         `json:"network"`
	Agents      []vfNamed      `json:"agents"`
	Kinds       []vfNamed      `json:"resourceSpecifications"`
	Units       []vfNamed      `json:"units"`
	Events      []vfEvent      `json:"economicEvents"`
	Claims      []vfClaim      `json:"claims"`
	Settlements []vfSettlement `json:"settlements"`
}

// vfAction names our verb as ValueFlows does, and says whether it counts effort (time) or a resource.
func vfAction(verb string) (action string, effort, fromHome bool, err error) {
	switch verb {
	case "work":
		return "work", true, true, nil
	case "deliver-service":
		return "deliverService", false, true, nil
	case "use":
		return "use", true, false, nil
	case "transfer-custody":
		return "transferCustody", false, false, nil
	case "consume", "transfer", "cite", "raise", "lower":
		return verb, false, false, nil
	}
	return "", false, false, fmt.Errorf("action %.40q: %w", verb, ErrFlow)
}

// WriteValueFlows writes events, claims and settlements under the names of ValueFlows (valueflo.ws): obligations are
// claims, set-off is settlements, nodes are agents. It maps names, it is not RDF.
func WriteValueFlows(w io.Writer, f *Flows) error {
	if len(f.Flows)+len(f.Claims)+len(f.Discharges) > MaxEntries {
		return fmt.Errorf("naming %d flows: %w (at most %d)", len(f.Flows), ErrFlow, MaxEntries)
	}
	d := vfDocument{Format: "kith-valueflows v1", Vocabulary: "https://w3id.org/valueflows", Network: f.Network,
		Events: []vfEvent{}, Claims: []vfClaim{}, Settlements: []vfSettlement{}}
	agents, kinds, units := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i := range f.Flows {
		e, err := f.Flows[i].event()
		if err != nil {
			return fmt.Errorf("naming flow %.80q: %w", f.Flows[i].ID, err)
		}
		agents[e.Provider], agents[e.Receiver] = true, true
		kinds[e.Conforms], units[f.Flows[i].Unit] = true, true
		d.Events = append(d.Events, e)
	}
	if err := d.settle(f); err != nil {
		return err
	}
	for _, c := range d.Claims {
		agents[c.Provider], agents[c.Receiver], units[c.Resource.Unit] = true, true, true
	}
	d.Agents, d.Kinds, d.Units = named(agents), named(kinds), named(units)
	slices.SortFunc(d.Events, func(a, b vfEvent) int { return cmp.Compare(a.ID, b.ID) })
	for i := 1; i < len(d.Events); i++ {
		if d.Events[i-1].ID == d.Events[i].ID {
			return fmt.Errorf("naming flow %.80q: %w: it stands twice", d.Events[i].ID, ErrFlow)
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	if err := enc.Encode(&d); err != nil {
		return fmt.Errorf("writing the ValueFlows document: %w", err)
	}
	return nil
}

func (f *Flow) event() (vfEvent, error) {
	action, effort, fromHome, err := vfAction(f.Action)
	if err != nil {
		return vfEvent{}, err
	}
	e := vfEvent{ID: f.ID, Action: action, Provider: f.Place, Receiver: f.Home, Conforms: f.Resource,
		Time: isoDay(min(max(f.Day, firstDay), lastDay)), Scope: f.Place}
	if fromHome {
		e.Provider, e.Receiver = f.Home, f.Place
	}
	if f.Evidence != "" {
		e.Certainty = "evidence class " + f.Evidence
	}
	m := &vfMeasure{f.Quantity, f.Unit}
	if effort {
		e.Effort = m
	} else {
		e.Resource = m
	}
	return e, nil
}

// settle fills claims and settlements and says of each claim whether it is finished.
func (d *vfDocument) settle(f *Flows) error {
	open, unit := map[string]int64{}, map[string]string{}
	for _, c := range f.Claims {
		if _, twice := open[c.ID]; twice || c.Amount <= 0 {
			return fmt.Errorf("naming claim %.80q of %d: %w: it stands twice, or is empty", c.ID, c.Amount, ErrFlow)
		}
		open[c.ID], unit[c.ID] = c.Amount, c.Unit
	}
	for _, s := range f.Discharges {
		left, here := open[s.Claim]
		if !here || s.Amount <= 0 || s.Amount > left {
			return fmt.Errorf("settling %d of claim %.80q with %d open: %w", s.Amount, s.Claim, left, ErrFlow)
		}
		open[s.Claim] = left - s.Amount
		d.Settlements = append(d.Settlements, vfSettlement{Settles: s.Claim, Resource: vfMeasure{s.Amount, unit[s.Claim]},
			Time: isoDay(min(max(s.Day, firstDay), lastDay)), Scope: s.Period})
	}
	for _, c := range f.Claims {
		d.Claims = append(d.Claims, vfClaim{ID: c.ID, Action: "transfer", Provider: c.Debtor, Receiver: c.Creditor,
			Resource: vfMeasure{c.Amount, c.Unit}, Created: isoDay(min(max(c.Day, firstDay), lastDay)), Triggered: c.TriggeredBy,
			Finished: open[c.ID] == 0})
	}
	slices.SortFunc(d.Claims, func(a, b vfClaim) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(d.Settlements, func(a, b vfSettlement) int {
		return cmp.Or(cmp.Compare(a.Settles, b.Settles), cmp.Compare(a.Time, b.Time), cmp.Compare(a.Scope, b.Scope),
			cmp.Compare(a.Resource.Value, b.Resource.Value))
	})
	return nil
}

func named(set map[string]bool) []vfNamed {
	list := make([]vfNamed, 0, len(set))
	for id := range set {
		list = append(list, vfNamed{id, id})
	}
	slices.SortFunc(list, func(a, b vfNamed) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// sum adds amounts that are not below zero, or says that they do not fit.
func sum(a, b int64) (int64, bool) {
	if a < 0 || b < 0 || a > math.MaxInt64-b {
		return 0, false
	}
	return a + b, true
}
