// Package configs owns the example configuration files, embedded so that the demo, the tests and the documentation use
// the same bytes. It only hands them out.
package configs

import _ "embed"

// The examples. Each is complete and is read by a test exactly as its program reads it.
var (
	//go:embed edge.yaml
	Edge []byte // one house door with a PN532 and a relay, reporting to a hub

	//go:embed edge-alone.yaml
	EdgeAlone []byte // the same without any hub: people come from roster.yaml

	//go:embed roster.yaml
	Roster []byte // people, cards and grants of a lone edge

	//go:embed hub.yaml
	Hub []byte // a network of three houses

	//go:embed network/hub.yaml
	NetworkHub []byte // the worked example network: five places

	//go:embed network/policy.yaml
	NetworkPolicy []byte // what counts how much there: three units, dues, a grant and limits

	//go:embed network/catalogue.yaml
	NetworkCatalogue []byte // what each of them has and shares

	//go:embed network/seed.csv
	NetworkSeed []byte // what people did and used in its first week
)
