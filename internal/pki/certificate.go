package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

const (
	blockCertificate = "CERTIFICATE"
	blockKey         = "PRIVATE KEY" // PKCS #8, RFC 5208
)

// issued is a certificate with its private key, in memory.
type issued struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (i issued) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: i.cert.Raw})
}

func (i issued) keyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return nil, fmt.Errorf("encoding private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

func (i issued) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.cert.Raw}, PrivateKey: i.key, Leaf: i.cert}
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// issue makes a certificate for key from template, signed by parent, or by itself when parent is nil.
func issue(template *x509.Certificate, key *ecdsa.PrivateKey, parent *issued) (issued, error) {
	// RFC 5280 4.1.2.2: positive, at most 20 octets, unpredictable.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return issued{}, fmt.Errorf("making a serial number: %w", err)
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	signer, above := key, template
	if parent != nil {
		signer, above = parent.key, parent.cert
		if template.NotAfter.After(above.NotAfter) {
			template.NotAfter = above.NotAfter
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, above, key.Public(), signer)
	if err != nil {
		return issued{}, fmt.Errorf("signing certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return issued{}, fmt.Errorf("reading back certificate: %w", err)
	}
	return issued{cert, key}, nil
}

func newAuthority(network string, now time.Time) (issued, error) {
	key, err := newKey()
	if err != nil {
		return issued{}, err
	}
	return issue(&x509.Certificate{
		Subject:               pkix.Name{CommonName: network + " network authority", Organization: []string{network}},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(AuthorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs peers, never another authority
	}, key, nil)
}

// newServer makes the hub's certificate. Its only use is to be a server, so a stolen one cannot speak as an edge.
func newServer(ca issued, key *ecdsa.PrivateKey, names []string, now time.Time) (issued, error) {
	if len(names) == 0 {
		return issued{}, errors.New("hub certificate: no host name or address: edges could not check whom they reach")
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "hub", Organization: ca.cert.Subject.Organization},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(HubLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	return issue(t, key, &ca)
}

// newClient makes an edge's certificate: client only, common name = edge id.
func newClient(ca issued, edge string, now time.Time) (issued, error) {
	if err := checkID("edge", edge); err != nil {
		return issued{}, err
	}
	key, err := newKey()
	if err != nil {
		return issued{}, err
	}
	return issue(&x509.Certificate{
		Subject:               pkix.Name{CommonName: edge, Organization: ca.cert.Subject.Organization},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(EdgeLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, key, &ca)
}

// parseCertificate reads exactly one PEM certificate.
func parseCertificate(data []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != blockCertificate || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("want exactly one PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != blockKey || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("want exactly one PEM private key (PKCS #8)")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("want an ECDSA P-256 key")
	}
	return ec, nil
}

// load reads a certificate with its key and checks that they belong together.
func load(certPath, keyPath string) (issued, error) {
	cert, err := loadCertificate(certPath)
	if err != nil {
		return issued{}, err
	}
	data, err := ReadPrivate(keyPath)
	if err != nil {
		return issued{}, err
	}
	key, err := parseKey(data)
	if err != nil {
		return issued{}, fmt.Errorf("reading %s: %w", keyPath, err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return issued{}, fmt.Errorf("reading %s: it is not the key of %s", keyPath, certPath)
	}
	return issued{cert, key}, nil
}

func loadCertificate(path string) (*x509.Certificate, error) {
	data, err := ReadPublic(path)
	if err != nil {
		return nil, err
	}
	cert, err := parseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return cert, nil
}

// RenewAt is when a certificate should be replaced: after two thirds of its life, so that a third is left to notice.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 3 * 2)
}
