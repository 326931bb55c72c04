// Package pki owns the keys and certificates of one network: the network's own certificate authority, the hub's server
// certificate, one client certificate per edge, and the signed-note keys of hub and edges.
//
// Two kinds of key answer two questions. A certificate says who speaks on this connection (TLS 1.3, both sides); a note
// key says who wrote these bytes, for ever (C2SP signed-note). The hub checks that both name the same edge.
//
// On a crash every file is the old one or the new one, never a torn one, and a bundle directory is there in full or
// not at all. A private key is never written readable to others and never read when it is. The package reads no clock:
// the caller hands in the time. It never sends a key anywhere and never logs.
package pki

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// How long certificates live. A stolen edge is shut out by retiring it at the hub, which acts at once; expiry only
// bounds what a forgotten certificate can do, so an edge that comes back after a long winter still gets in.
const (
	AuthorityLife = 20 * 365 * 24 * time.Hour
	HubLife       = 2 * 365 * 24 * time.Hour
	EdgeLife      = 5 * 365 * 24 * time.Hour
	// Backdate covers a peer whose clock is behind: a certificate is valid this long before it was made.
	Backdate = time.Hour
)

// Limits of what is read and named.
const (
	MaxFile = 64 << 10 // bytes of a key or certificate file
	MaxName = 48       // bytes of a network, node or edge id
)

// Names of the files in the hub's key directory and in an edge's bundle.
const (
	FileCA         = "ca.pem"
	FileCAKey      = "ca-key.pem"
	FileHub        = "hub.pem"
	FileHubKey     = "hub-key.pem"
	FileHubSign    = "hub.skey"     // signs rosters and tickets
	FileHubVerify  = "hub.vkey"     //
	FileWitSign    = "witness.skey" // co-signs checkpoints, nothing else
	FileWitVerify  = "witness.vkey" //
	FileEdge       = "edge.pem"
	FileEdgeKey    = "edge-key.pem"
	FileEdgeSign   = "edge.skey" // signs the edge's checkpoints
	FileEdgeVerify = "edge.vkey"
)

// Errors that a caller may want to tell apart.
var (
	ErrExposed = errors.New("private key is readable by others")
	ErrExists  = errors.New("already exists")
)

var slug = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,47}$`)

func checkID(what, id string) error {
	if !slug.MatchString(id) {
		return fmt.Errorf("%s %.60q: want 1 to %d of a-z, 0-9 and -, not starting with -", what, id, MaxName)
	}
	return nil
}

// HubKeyName, WitnessKeyName and EdgeKeyName are the note key names of a network. No key signs two formats: what the
// hub promises about a journal (cosignature/v1) and what it orders (rosters, tickets) come from separate seeds.
func HubKeyName(network string) string     { return network + "/hub" }
func WitnessKeyName(network string) string { return network + "/hub-witness" }
func EdgeKeyName(network, node, edge string) string {
	return network + "/" + node + "/" + edge
}
