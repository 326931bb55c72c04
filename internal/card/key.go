package card

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	// maxKeyFile bounds a card file in bytes; a P-256 key in PEM is under 300.
	maxKeyFile = 16 << 10
	pemType    = "PRIVATE KEY" // PKCS#8, RFC 7468 section 10
)

// NewKey draws the key of a new card.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("drawing a card key: %w", err)
	}
	return key, nil
}

// SaveKey writes a card to a new file as PKCS#8 in PEM, readable by its owner alone, and makes it durable. It refuses to
// replace a file: an overwritten key is a lost card. After a crash the file may be cut short; LoadKey then says so, and
// nothing is lost, because the card was not handed out yet.
func SaveKey(path string, key *ecdsa.PrivateKey) (err error) {
	if key == nil || key.Curve != elliptic.P256() {
		return fmt.Errorf("saving card key %s: %w", path, ErrCurve)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("saving card key %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("saving card key (choose a new file name): %w", err)
	}
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("saving card key %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("saving card key %s: %w", path, err)
	}
	if err = errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("saving card key %s: making its name durable: %w", path, err)
	}
	return nil
}

// LoadKey reads a card from a file that SaveKey or `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` wrote.
func LoadKey(path string) (*ecdsa.PrivateKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("loading card key: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("loading card key %s: %w", path, err)
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("loading card key %s: more than %d bytes, this is no card file", path, maxKeyFile)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf("loading card key %s: want one PEM block %q (PKCS#8), found none or another type", path, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("loading card key %s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("loading card key %s: %w; PKOC knows no other, make a new card", path, ErrCurve)
	}
	return key, nil
}
