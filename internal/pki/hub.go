package pki

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Hub is everything secret that a hub holds, loaded. Only Renew changes it; do not call that beside other methods.
type Hub struct {
	dir     string
	network string
	ca      issued
	server  issued

	Signer          note.Signer   // rosters and tickets
	Verifier        note.Verifier //
	Cosigner        note.Signer   // receipts
	CosignVerifier  note.Verifier //
	hubVKey, witKey []byte        // as they go into a bundle
}

// New says what network to make. Names are the host names and addresses under which edges will reach the hub.
type New struct {
	Dir     string
	Network string
	Names   []string
	Now     time.Time
}

// Create makes all keys of a new network in a directory that must not exist yet.
func Create(n New) error {
	if err := checkID("network", n.Network); err != nil {
		return err
	}
	ca, err := newAuthority(n.Network, n.Now)
	if err != nil {
		return err
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	server, err := newServer(ca, key, n.Names, n.Now)
	if err != nil {
		return err
	}
	caKey, err := ca.keyPEM()
	if err != nil {
		return err
	}
	serverKey, err := server.keyPEM()
	if err != nil {
		return err
	}
	sign, verify, err := newNoteKey(HubKeyName(n.Network))
	if err != nil {
		return err
	}
	witSign, witVerify, err := newWitnessKey(WitnessKeyName(n.Network))
	if err != nil {
		return err
	}
	opSign, opVerify, err := newNoteKey(OperatorKeyName(n.Network))
	if err != nil {
		return err
	}
	return makeDir(n.Dir, []named{
		{FileCA, ca.certPEM(), modePublic},
		{FileCAKey, caKey, modePrivate},
		{FileHub, server.certPEM(), modePublic},
		{FileHubKey, serverKey, modePrivate},
		{FileHubSign, sign, modePrivate},
		{FileHubVerify, verify, modePublic},
		{FileWitSign, witSign, modePrivate},
		{FileWitVerify, witVerify, modePublic},
		{FileOperatorSign, opSign, modePrivate},
		{FileOperatorVerify, opVerify, modePublic},
	})
}

// OpenHub loads a network's keys and checks that all of them belong together.
func OpenHub(dir string) (*Hub, error) {
	h := &Hub{dir: dir}
	at := func(name string) string { return filepath.Join(dir, name) }
	var err error
	if h.ca, err = load(at(FileCA), at(FileCAKey)); err != nil {
		return nil, err
	}
	if !h.ca.cert.IsCA || len(h.ca.cert.Subject.Organization) != 1 {
		return nil, fmt.Errorf("reading %s: not a network authority", at(FileCA))
	}
	h.network = h.ca.cert.Subject.Organization[0]
	if h.server, err = load(at(FileHub), at(FileHubKey)); err != nil {
		return nil, err
	}
	if err := h.server.cert.CheckSignatureFrom(h.ca.cert); err != nil {
		return nil, fmt.Errorf("reading %s: not signed by %s: %w", at(FileHub), at(FileCA), err)
	}
	if err := h.loadNotes(at); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Hub) loadNotes(at func(string) string) error {
	var err error
	if h.Signer, err = LoadSigner(at(FileHubSign)); err != nil {
		return err
	}
	if h.Verifier, err = LoadVerifier(at(FileHubVerify)); err != nil {
		return err
	}
	if h.Cosigner, err = LoadCosigner(at(FileWitSign)); err != nil {
		return err
	}
	if h.CosignVerifier, err = LoadCosignVerifier(at(FileWitVerify)); err != nil {
		return err
	}
	if h.hubVKey, err = ReadPublic(at(FileHubVerify)); err != nil {
		return err
	}
	if h.witKey, err = ReadPublic(at(FileWitVerify)); err != nil {
		return err
	}
	if h.Signer.Name() != HubKeyName(h.network) || h.Cosigner.Name() != WitnessKeyName(h.network) {
		return fmt.Errorf("reading %s: note keys are named %s and %s, not of network %s",
			h.dir, h.Signer.Name(), h.Cosigner.Name(), h.network)
	}
	if err := checkPair(h.dir, "hub", h.Signer, h.Verifier); err != nil {
		return err
	}
	return checkPair(h.dir, "witness", h.Cosigner, h.CosignVerifier)
}

// Network is the id of the network these keys belong to.
func (h *Hub) Network() string { return h.network }

// Certificate is the hub's own, for its dates and names.
func (h *Hub) Certificate() *x509.Certificate { return h.server.cert }

// Renew makes and stores a new server certificate when the present one is past its renewal date or lacks one of names,
// and reports whether it did. The key stays: so one file changes, in one step, and no crash can leave a pair that does
// not match. Call it at start, before ServerTLS; a running listener keeps what it was opened with.
func (h *Hub) Renew(names []string, now time.Time) (bool, error) {
	if now.Before(RenewAt(h.server.cert)) && covers(h.server.cert, names) {
		return false, nil
	}
	next, err := newServer(h.ca, h.server.key, names, now)
	if err != nil {
		return false, err
	}
	if err := WriteFile(filepath.Join(h.dir, FileHub), next.certPEM(), modePublic); err != nil {
		return false, err
	}
	h.server = next
	return true, nil
}

func covers(cert *x509.Certificate, names []string) bool {
	for _, n := range names {
		if cert.VerifyHostname(n) != nil {
			return false
		}
	}
	return true
}

// ServerTLS is the hub's side of every connection: TLS 1.3 only, a client certificate of this network demanded. now is
// the clock that certificates are judged by, nil for time.Now. Session tickets are off: a resumed session would not
// look at the certificate again, and a retired edge must not live on in a ticket.
func (h *Hub) ServerTLS(now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{h.server.tls()},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              pool(h.ca.cert),
		SessionTicketsDisabled: true,
		Time:                   now,
	}
}

func pool(ca *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca)
	return p
}

// Issued is what the hub keeps of a bundle: the edge's note verifier key and the SHA-256 of its certificate. A second
// bundle for the same edge id has another fingerprint, so the registry can shut out the lost device and not the new one.
type Issued struct {
	VKey        string
	Fingerprint string
}

// Fingerprint is the lower-case hex SHA-256 of a certificate as it goes over the wire.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// EdgeBundle makes the directory that an edge starts with. Until enrolment exists, in which the edge makes its own keys
// and the hub only ever sees their public halves, the hub makes them here and the operator carries them to the edge:
// the directory is as secret as the edge itself and is to be removed from the hub's machine afterwards.
func (h *Hub) EdgeBundle(dir, node, edge string, now time.Time) (Issued, error) {
	if err := checkID("node", node); err != nil {
		return Issued{}, err
	}
	client, err := newClient(h.ca, edge, now)
	if err != nil {
		return Issued{}, err
	}
	key, err := client.keyPEM()
	if err != nil {
		return Issued{}, err
	}
	sign, verify, err := newNoteKey(EdgeKeyName(h.network, node, edge))
	if err != nil {
		return Issued{}, err
	}
	err = makeDir(dir, []named{
		{FileCA, h.ca.certPEM(), modePublic},
		{FileEdge, client.certPEM(), modePublic},
		{FileEdgeKey, key, modePrivate},
		{FileEdgeSign, sign, modePrivate},
		{FileEdgeVerify, verify, modePublic},
		{FileHubVerify, h.hubVKey, modePublic},
		{FileWitVerify, h.witKey, modePublic},
	})
	if err != nil {
		return Issued{}, err
	}
	return Issued{VKey: strings.TrimSpace(string(verify)), Fingerprint: Fingerprint(client.cert)}, nil
}
