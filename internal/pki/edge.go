package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Edge is an edge's bundle, loaded and checked. Immutable.
type Edge struct {
	Network, Node, ID string

	Signer         note.Signer   // its checkpoints
	Verifier       note.Verifier //
	Hub            note.Verifier // rosters and tickets
	CosignVerifier note.Verifier // receipts

	ca     *x509.Certificate
	client issued
}

// OpenEdge loads a bundle and checks that all of it belongs to one edge of one network.
func OpenEdge(dir string) (*Edge, error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	e := &Edge{}
	var err error
	if e.ca, err = loadCertificate(at(FileCA)); err != nil {
		return nil, err
	}
	if e.client, err = load(at(FileEdge), at(FileEdgeKey)); err != nil {
		return nil, err
	}
	if err := e.client.cert.CheckSignatureFrom(e.ca); err != nil {
		return nil, fmt.Errorf("reading %s: not signed by %s: %w", at(FileEdge), at(FileCA), err)
	}
	if e.Signer, err = LoadSigner(at(FileEdgeSign)); err != nil {
		return nil, err
	}
	if e.Verifier, err = LoadVerifier(at(FileEdgeVerify)); err != nil {
		return nil, err
	}
	if e.Hub, err = LoadVerifier(at(FileHubVerify)); err != nil {
		return nil, err
	}
	if e.CosignVerifier, err = LoadCosignVerifier(at(FileWitVerify)); err != nil {
		return nil, err
	}
	return e, e.check(dir)
}

func (e *Edge) check(dir string) error {
	parts := strings.Split(e.Signer.Name(), "/")
	if len(parts) != 3 {
		return fmt.Errorf("reading %s: note key %.160q is not named network/node/edge", dir, e.Signer.Name())
	}
	e.Network, e.Node, e.ID = parts[0], parts[1], parts[2]
	for _, id := range parts {
		if err := checkID("part of note key name", id); err != nil {
			return fmt.Errorf("reading %s: %w", dir, err)
		}
	}
	switch {
	case e.client.cert.Subject.CommonName != e.ID:
		return fmt.Errorf("reading %s: certificate is of edge %.60q, note key of edge %q: the bundle is mixed, make a new one",
			dir, e.client.cert.Subject.CommonName, e.ID)
	case e.Hub.Name() != HubKeyName(e.Network) || e.CosignVerifier.Name() != WitnessKeyName(e.Network):
		return fmt.Errorf("reading %s: hub keys %.160q and %.160q are not of network %q: the bundle is mixed, make a new one",
			dir, e.Hub.Name(), e.CosignVerifier.Name(), e.Network)
	}
	return checkPair(dir, "edge", e.Signer, e.Verifier)
}

// Certificate is the edge's own, for its dates.
func (e *Edge) Certificate() *x509.Certificate { return e.client.cert }

// ClientTLS is the edge's side of the connection: TLS 1.3 only, the hub's certificate checked against the network's own
// authority and nothing else, under the name server.
//
// now is the clock that certificates are judged by, nil for time.Now. An edge without a battery clock wakes in 1970, and
// would then refuse the very hub that could tell it the time; so a clock before the day its own certificate was made is
// taken as that day.
func (e *Edge) ClientTLS(server string, now func() time.Time) *tls.Config {
	if now == nil {
		now = time.Now
	}
	floor := e.client.cert.NotBefore.Add(Backdate)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{e.client.tls()},
		RootCAs:      pool(e.ca),
		ServerName:   server,
		Time: func() time.Time {
			if t := now(); t.After(floor) {
				return t
			}
			return floor
		},
	}
}
