package audit

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	cosign "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"kith/hub/settlement"
	"kith/internal/event"
	"kith/internal/pki"
	"kith/internal/wire"
)

const networkTitle = "kith-network v1"

// Network says who belongs to a network at a cut, with the keys that their signatures are checked by.
type Network struct {
	Name     string
	Operator string   // note verifier key of who closes
	Witness  string   // of the hub's co-signatures
	Nodes    []string // ascending
	Edges    []Edge
}

// Edge is one edge with its note verifier key.
type Edge struct{ ID, Node, Key string }

// AppendText appends the canonical text.
func (n *Network) AppendText(b []byte) []byte {
	b = fmt.Appendf(b, "%s\nnetwork %s\noperator %s\nwitness %s\n", networkTitle, n.Name, n.Operator, n.Witness)
	nodes, edges := slices.Clone(n.Nodes), slices.Clone(n.Edges)
	slices.Sort(nodes)
	slices.SortFunc(edges, func(a, b Edge) int { return compareText(a.ID, b.ID) })
	for _, id := range nodes {
		b = fmt.Appendf(b, "node %s\n", id)
	}
	for _, e := range edges {
		b = fmt.Appendf(b, "edge %s %s %s\n", e.ID, e.Node, e.Key)
	}
	return b
}

// ParseNetwork reads what AppendText writes.
func ParseNetwork(text []byte) (*Network, error) {
	s, err := scan(networkName, text, networkTitle)
	if err != nil {
		return nil, err
	}
	n := &Network{}
	for words := s.next(); words != nil; words = s.next() {
		switch {
		case len(words) == 2 && words[0] == "network" && event.IsID(words[1]):
			n.Name = words[1]
		case len(words) == 2 && words[0] == "operator":
			n.Operator = words[1]
			if _, err := n.operator(); err != nil {
				return nil, s.bad("not the key of this network's operator: " + err.Error())
			}
		case len(words) == 2 && words[0] == "witness":
			n.Witness = words[1]
			if _, err := n.witness(); err != nil {
				return nil, s.bad("not the key of this network's witness: " + err.Error())
			}
		case len(words) == 2 && words[0] == "node" && event.IsID(words[1]) && !n.twin(words[1], false):
			n.Nodes = append(n.Nodes, words[1])
		case len(words) == 4 && words[0] == "edge" && event.IsID(words[1]) && event.IsID(words[2]) && !n.twin(words[1], true):
			e := Edge{ID: words[1], Node: words[2], Key: words[3]}
			v, err := verifierKey(e.Key)
			switch want := pki.EdgeKeyName(n.Name, e.Node, e.ID); {
			case err != nil:
				return nil, s.bad("the key of edge " + e.ID + " is no verifier key")
			case v.Name() != want:
				return nil, s.bad("the key of edge " + e.ID + " is not named " + want)
			case !n.hasNode(e.Node):
				return nil, s.bad("edge " + e.ID + " is of no node of the network")
			}
			n.Edges = append(n.Edges, e)
		default:
			return nil, s.bad("not a line of a network")
		}
	}
	return n, (Files{networkName: text}).sameOrNil(networkName, n.AppendText(nil))
}

// hasNode says whether a node is of the network. Nodes ascend.
func (n *Network) hasNode(id string) bool {
	_, here := slices.BinarySearch(n.Nodes, id)
	return here
}

// twin says whether the newest node or edge has this id already: lines ascend, so that a twin can only stand there.
func (n *Network) twin(id string, edge bool) bool {
	if edge {
		return len(n.Edges) > 0 && n.Edges[len(n.Edges)-1].ID == id
	}
	return len(n.Nodes) > 0 && n.Nodes[len(n.Nodes)-1] == id
}

// operator is the verifier of statements and bundles.
func (n *Network) operator() (note.Verifier, error) {
	v, err := verifierKey(n.Operator)
	if err == nil && v.Name() != pki.OperatorKeyName(n.Name) {
		err = fmt.Errorf("it is named %s", wire.Plain(v.Name()))
	}
	return v, err
}

// witness is the verifier of the hub's co-signatures.
func (n *Network) witness() (note.Verifier, error) {
	if err := oneSpelling(n.Witness); err != nil {
		return nil, err
	}
	v, err := cosign.NewVerifierForCosignatureV1(n.Witness)
	if err == nil && v.Name() != pki.WitnessKeyName(n.Name) {
		err = fmt.Errorf("it is named %s", wire.Plain(v.Name()))
	}
	return v, err
}

func verifierKey(vkey string) (note.Verifier, error) {
	if err := oneSpelling(vkey); err != nil {
		return nil, err
	}
	return note.NewVerifier(vkey)
}

// oneSpelling refuses a verifier key whose base64 has another spelling of the same bytes, or whose id is not that of its name and
// bytes, in lower case.
func oneSpelling(vkey string) error {
	name, rest, _ := strings.Cut(vkey, "+")
	id, key, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.Strict().DecodeString(key)
	sum := hash(append([]byte(name+"\n"), raw...))
	if err != nil || base64.StdEncoding.EncodeToString(raw) != key || hex.EncodeToString(sum[:4]) != id {
		return errors.New("it is no verifier key, or its id is not that of its bytes")
	}
	return nil
}

// opened is a note that one key must have signed, in the one spelling of a note.
func opened(text []byte, key note.Verifier) (string, error) {
	n, err := note.Open(text, note.VerifierList(key))
	if err != nil {
		return "", err
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return "", errors.New("it must carry this one signature and no other")
	}
	return n.Text, wire.OneSpelling(text, 1)
}

// checkpoint proves a receipt: the hub's co-signature on what the edge signed. An edge that got a new key keeps its old
// journals: a line of an earlier key, of the same name, rests on the hub's co-signature.
func (n *Network) checkpoint(receipt []byte) (settlement.Checkpoint, error) {
	var none settlement.Checkpoint
	witness, err := n.witness()
	if err != nil {
		return none, fmt.Errorf("the witness key: %w", err)
	}
	origin, _, _ := strings.Cut(string(receipt), "\n")
	edge, _, err := n.journal(origin)
	if err != nil {
		return none, err
	}
	key, err := note.NewVerifier(edge.Key)
	if err != nil {
		return none, fmt.Errorf("the key of edge %s: %w", edge.ID, err)
	}
	opened, err := note.Open(receipt, note.VerifierList(witness, key))
	if err != nil {
		return none, err
	}
	if err := wire.OneSpelling(receipt, 2); err != nil {
		return none, err
	}
	hub, own := false, false
	for _, s := range opened.Sigs {
		hub = hub || s.Name == witness.Name() && s.Hash == witness.KeyHash()
		own = own || s.Name == key.Name()
	}
	for _, s := range opened.UnverifiedSigs {
		own = own || s.Name == key.Name()
	}
	if !hub || !own {
		return none, errors.New("the hub's or the edge's signature is missing")
	}
	c, err := wire.ParseCheckpoint(opened.Text)
	if err != nil {
		return none, err
	}
	return settlement.Checkpoint{Journal: c.Origin, Node: edge.Node, Size: c.Size, Root: [tlog.HashSize]byte(c.Root)}, nil
}

// journal finds the edge and epoch that an origin names.
func (n *Network) journal(origin string) (Edge, event.Epoch, error) {
	for _, e := range n.Edges {
		rest, ok := strings.CutPrefix(origin, "kith."+n.Name+"/"+e.Node+"/"+e.ID+"/")
		if !ok {
			continue
		}
		epoch, err := event.ParseEpoch(rest)
		return e, epoch, err
	}
	return Edge{}, event.Epoch{}, fmt.Errorf("%s is of no edge of this network", wire.Plain(origin))
}
