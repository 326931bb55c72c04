package demo

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strconv"
	"sync"
	"time"

	"kith/configs"
	"kith/hub/audit"
	"kith/hub/exchange"
	"kith/hub/settlement"
	"kith/internal/access"
	"kith/internal/event"
	"kith/internal/settings"
)

// example is the worked example network of configs/network, as the hub reads it: the demo has no houses, prices, limits
// and things of its own.
type example struct {
	hub    exchange.Config
	policy *audit.Policy
	houses []house
	seed   []visit
}

// visit is one line of the seed: what somebody of a home did or used at a place.
type visit struct {
	home, place, evidence string
	day                   int64 // since the seed's last, so at most 0
	entry
}

var network = sync.OnceValue(func() *example {
	e, err := readExample()
	if err != nil {
		panic("demo: the worked example is embedded, and still " + err.Error())
	}
	return e
})

func houses() []house { return network().houses }

func readExample() (*example, error) {
	e := &example{}
	var err error
	if e.hub, err = exchange.Decode("hub.yaml", configs.NetworkHub); err != nil {
		return nil, err
	}
	if e.policy, err = audit.ParsePolicy("policy.yaml", configs.NetworkPolicy); err != nil {
		return nil, err
	}
	var all struct {
		Houses map[string][]access.Resource `yaml:"houses"`
	}
	if err := settings.Decode("catalogue.yaml", configs.NetworkCatalogue, &all); err != nil {
		return nil, err
	}
	for _, n := range e.hub.Nodes {
		h := house{id: n.ID, name: n.Name, zone: n.Zone, things: all.Houses[n.ID]}
		h.edges, h.people = doors(n.ID)
		e.houses = append(e.houses, h)
	}
	e.seed, err = readSeed(configs.NetworkSeed)
	return e, err
}

func readSeed(text []byte) ([]visit, error) {
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		return nil, err
	}
	var list []visit
	last := int64(0)
	for i, r := range rows[1:] {
		quantity, err := strconv.ParseInt(r[4], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("seed.csv line %d: quantity: %w", i+2, err)
		}
		day, err := strconv.ParseInt(r[6], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("seed.csv line %d: day: %w", i+2, err)
		}
		list = append(list, visit{home: r[1], place: r[0], evidence: r[7], day: day, entry: entry{event.Kind(r[2]), r[3], quantity, -1}})
		last = max(last, day)
	}
	for i := range list {
		list[i].day -= last
	}
	return list, nil
}

// When the visits of the seed happen in the demo's week: on its last whole days, at an hour that is the same day in every
// house, and one after the other.
const (
	visitHour  = 13 * time.Hour // UTC
	visitApart = 8 * time.Minute
	visitStays = 10 * time.Second // between a visitor's coming in and the entry
)

// at is when the i-th visit of the seed happens in a week that ends now.
func (v *visit) at(i int, now time.Time) time.Time {
	yesterday := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	return yesterday.AddDate(0, 0, int(v.day)).Add(visitHour + time.Duration(i)*visitApart)
}

// balances are how houses stand by what visitors gave and took, by house and unit.
type balances map[[2]string]int64

// reach is how far people let a house drift before they rather do something else: visible on its bar, within its limit.
func reach(unit string) int64 {
	if unit == "minute" {
		return 300
	}
	return 8
}

// owed is what an entry makes one house owe another; nothing at home.
func owed(home, place string, e *entry) (debtor, creditor, unit string, amount int64) {
	price := network().policy.Settlement.Prices[settlement.Action(e.action)][e.resource]
	if e.given() {
		home, place = place, home
	}
	if home == place {
		return home, place, price.Unit, 0
	}
	return home, place, price.Unit, price.Each * e.quantity
}

func (b balances) add(home, place string, e *entry) {
	debtor, creditor, unit, amount := owed(home, place, e)
	b[[2]string{debtor, unit}] -= amount
	b[[2]string{creditor, unit}] += amount
}

// bears says whether no house drifts too far by an entry, or only back.
func (b balances) bears(home, place string, e *entry) bool {
	debtor, creditor, unit, amount := owed(home, place, e)
	return b[[2]string{debtor, unit}]-amount >= -reach(unit) && b[[2]string{creditor, unit}]+amount <= reach(unit)
}
