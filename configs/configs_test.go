package configs_test

import (
	"bytes"
	"encoding/csv"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kith/configs"
	"kith/hub/audit"
	"kith/hub/exchange"
	"kith/hub/settlement"
	"kith/internal/access"
	"kith/internal/settings"
)

// Both hubs are read exactly as hub run reads them. The edges' files are read where edge run reads them, in edge/appliance.
func TestHubsAreReadAsTheProgramReadsThem(t *testing.T) {
	for name, b := range map[string][]byte{"hub.yaml": configs.Hub, "network/hub.yaml": configs.NetworkHub} {
		c, err := exchange.Decode(name, b)
		if err != nil {
			t.Error(err)
			continue
		}
		if len(c.Nodes) < 3 || c.Listen != exchange.DefaultListen || (c.Policy != "") != (name != "hub.yaml") {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// The four files of the worked example speak of the same network: no rule, thing or entry of a house that is not there, and every
// entry of the seed is one that the catalogue of its place allows and the policy prices.
func TestTheFilesOfTheWorkedExampleAgree(t *testing.T) {
	hub, err := exchange.Decode("hub.yaml", configs.NetworkHub)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := audit.ParsePolicy("policy.yaml", configs.NetworkPolicy)
	if err != nil {
		t.Fatal(err)
	}
	var catalogue struct {
		Houses map[string][]access.Resource `yaml:"houses"`
	}
	if err := settings.Decode("catalogue.yaml", configs.NetworkCatalogue, &catalogue); err != nil {
		t.Fatal(err)
	}
	nodes := map[string]bool{}
	for _, n := range hub.Nodes {
		nodes[n.ID] = true
		if len(catalogue.Houses[n.ID]) == 0 {
			t.Errorf("%s has nothing in its catalogue", n.ID)
		}
	}
	if policy.Network != hub.Network || len(nodes) != 5 || len(policy.Units) != 3 {
		t.Errorf("a policy of %s for %s, %d houses, %d units", policy.Network, hub.Network, len(nodes), len(policy.Units))
	}
	for account := range policy.Limits {
		if _, node, _ := strings.Cut(account.Path, "/"); !nodes[node] {
			t.Errorf("a limit of %s, which is no house", account.Path)
		}
	}
	for _, g := range policy.Pool.Grants {
		if !nodes[g.Node] {
			t.Errorf("a grant to %s, which is no house", g.Node)
		}
	}
	for node, things := range catalogue.Houses {
		_, err := access.Compile(access.Document{Network: hub.Network, Node: node, Version: 1, Zone: "UTC", Resources: things})
		if err != nil || !nodes[node] {
			t.Errorf("the catalogue of %s: %v", node, err)
		}
	}
	rows, err := csv.NewReader(bytes.NewReader(configs.NetworkSeed)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if want := "node,home,kind,resource,quantity,measure,day,evidence"; strings.Join(rows[0], ",") != want {
		t.Fatalf("seed.csv begins with %v, not with %s", rows[0], want)
	}
	units := map[string]bool{}
	for i, r := range rows[1:] {
		things := catalogue.Houses[r[0]]
		k := slices.IndexFunc(things, func(a access.Resource) bool { return a.ID == r[3] })
		quantity, err := strconv.ParseInt(r[4], 10, 64)
		if k < 0 || err != nil || !nodes[r[1]] || !things[k].Allows(r[2]) || things[k].Measure != r[5] || quantity < 1 || quantity > things[k].MaxEntry || !strings.Contains("ABC", r[7]) {
			t.Errorf("seed.csv line %d: %v is not what %s offers", i+2, r, r[0])
		}
		price := policy.Settlement.Prices[settlement.Action(r[2])][r[3]]
		if price.Each < 1 {
			t.Errorf("seed.csv line %d: %s %s has no price", i+2, r[2], r[3])
		}
		units[price.Unit] = true
	}
	if len(units) != 3 {
		t.Errorf("the seed moves %v", units)
	}
}
