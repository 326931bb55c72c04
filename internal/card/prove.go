package card

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Tags of PKOC NFC SE V1.
const (
	tagVersion       = 0x5C // protocol versions, two bytes each
	tagTransactionID = 0x4C // what the card signs
	tagReaderID      = 0x4D // site id and reader location id, not signed
	tagPublicKey     = 0x5A // uncompressed P-256 point
	tagSignature     = 0x9E // raw r||s
)

const (
	transactionIDSize = 16 // bytes; longer ids are legal on the wire, ours are exactly this long
	pointSize         = 65 // bytes of 04 || X || Y
	signatureSize     = 64 // bytes of r || s, each padded to 32
	statusSize        = 2  // bytes of the status word
	// maxAnswer bounds an answer: a short APDU carries at most 256 bytes and its status word (ISO 7816-4 5.1).
	maxAnswer = 256 + statusSize
	// statusOK is the only status word that is not a refusal.
	statusOK = 0x9000
	// statusLength says that the length, for us the presence of Le, was not to the card's taste.
	statusLength = 0x6700
)

// commandSelect is SELECT by the PKOC AID, with Le. The official Android card compares all 14 bytes: no longer AID, no
// missing Le.
var commandSelect = [...]byte{0x00, 0xA4, 0x04, 0x00, 0x08, 0xA0, 0x00, 0x00, 0x08, 0x98, 0x00, 0x00, 0x01, 0x00}

// version1 is the version of SE V1 in tag 5C.
var version1 = [2]byte{0x01, 0x00}

var (
	// ErrNotPKOC says that the card did not accept SELECT of the PKOC application.
	ErrNotPKOC = errors.New("not a PKOC card")
	// ErrVersion says that the card speaks PKOC, but not version 01 00.
	ErrVersion = errors.New("card does not offer PKOC version 01 00")
	// ErrChannel says that the card or the link went away before an answer: nothing is known, the person should try again.
	ErrChannel = errors.New("lost the card before it answered")
	// ErrPublicKey says that the offered key is not a point of P-256.
	ErrPublicKey = errors.New("public key is not a point on P-256")
	// ErrSignature says that the signature is not one of this key over this transaction id.
	ErrSignature = errors.New("signature does not match")
)

// StatusError is a denial by the card: any status word but 9000.
type StatusError struct {
	Step string // the command that was refused
	SW   uint16
}

func (e StatusError) Error() string { return fmt.Sprintf("card answered %04X to %s", e.SW, e.Step) }

// ReaderID is who asks. PKOC sends it to the card and signs nothing of it, so it informs and proves nothing.
type ReaderID struct {
	Site     [16]byte
	Location [16]byte
}

// Proof is the evidence of one successful Prove. Its slices are its own.
type Proof struct {
	TransactionID []byte        // 16 bytes, the signed challenge
	PublicKey     []byte        // 65 bytes, 04 || X || Y
	Signature     []byte        // 64 bytes, r || s
	Elapsed       time.Duration // from sending AUTHENTICATE to its last answer: what a relay would stretch
}

// Prove runs SELECT and AUTHENTICATE on ch and verifies the answer. With txid nil the challenge is 16 fresh bytes of the
// system's random source, never a clock or a counter: a challenge that can be guessed can be answered in advance by whoever
// once held the card. A caller who binds the signature to a document of its own passes that 16-byte digest as txid, and then
// owns the duty that it never repeats.
//
// A StatusError in the chain is the card's own refusal with its status word; ErrChannel means nobody refused, the answer was
// lost. Everything else is an answer that was given and not believed.
func Prove(ctx context.Context, ch Channel, reader ReaderID, txid *[16]byte) (Credential, Proof, error) {
	var id [transactionIDSize]byte
	if txid != nil {
		id = *txid
	} else {
		rand.Read(id[:]) // never fails: it ends the process instead (crypto/rand)
	}
	data, err := exchange(ctx, ch, commandSelect[:], "SELECT")
	if err != nil {
		var status StatusError
		if errors.As(err, &status) {
			err = fmt.Errorf("%w: %w", ErrNotPKOC, err)
		}
		return Credential{}, Proof{}, fmt.Errorf("proving a card: %w", err)
	}
	if err := checkSelect(data); err != nil {
		return Credential{}, Proof{}, fmt.Errorf("proving a card: reading the answer to SELECT: %w", err)
	}
	start := time.Now()
	data, err = authenticate(ctx, ch, reader, id)
	elapsed := time.Since(start)
	if err != nil {
		return Credential{}, Proof{}, fmt.Errorf("proving a card: %w", err)
	}
	key, sig, err := parseAuthenticate(data)
	if err != nil {
		return Credential{}, Proof{}, fmt.Errorf("proving a card: reading the answer to AUTHENTICATE: %w", err)
	}
	if err := Verify(key, sig, id[:]); err != nil {
		return Credential{}, Proof{}, fmt.Errorf("proving a card: %w", err)
	}
	proof := Proof{TransactionID: id[:], PublicKey: bytes.Clone(key), Signature: bytes.Clone(sig), Elapsed: elapsed}
	return Credential{Assurance: PKOC, Key: bytes.Clone(key[1 : 1+KeySize])}, proof, nil
}

// authenticate sends AUTHENTICATE with Le, as openpkoc and the Elatec self test do, and once more without it, as the official
// Android reader does, if and only if the card says 6700. The id is the same: a card that said 6700 has signed nothing.
func authenticate(ctx context.Context, ch Channel, reader ReaderID, id [transactionIDSize]byte) ([]byte, error) {
	command := commandAuthenticate(reader, id)
	data, err := exchange(ctx, ch, command, "AUTHENTICATE")
	var status StatusError
	if errors.As(err, &status) && status.SW == statusLength {
		return exchange(ctx, ch, command[:len(command)-1], "AUTHENTICATE without Le")
	}
	return data, err
}

// commandAuthenticate builds the 62 bytes of AUTHENTICATE, Le last.
func commandAuthenticate(reader ReaderID, id [transactionIDSize]byte) []byte {
	b := make([]byte, 0, 64)
	b = append(b, 0x80, 0x80, 0x00, 0x01, 0x38)
	b = append(b, tagVersion, byte(len(version1)))
	b = append(b, version1[:]...)
	b = append(b, tagTransactionID, transactionIDSize)
	b = append(b, id[:]...)
	b = append(b, tagReaderID, 32)
	b = append(b, reader.Site[:]...)
	b = append(b, reader.Location[:]...)
	return append(b, 0x00)
}

// exchange sends one command and returns the data of a 9000 answer.
func exchange(ctx context.Context, ch Channel, command []byte, step string) ([]byte, error) {
	answer, err := ch.Transceive(ctx, command)
	if err != nil {
		return nil, fmt.Errorf("sending %s: %w: %w", step, ErrChannel, err)
	}
	if len(answer) < statusSize || len(answer) > maxAnswer {
		return nil, fmt.Errorf("answer to %s is %d bytes, want %d to %d: %w", step, len(answer), statusSize, maxAnswer, ErrMalformed)
	}
	data, tail := answer[:len(answer)-statusSize], answer[len(answer)-statusSize:]
	if sw := uint16(tail[0])<<8 | uint16(tail[1]); sw != statusOK {
		return nil, StatusError{Step: step, SW: sw}
	}
	return data, nil
}

// checkSelect wants version 01 00 among those that tag 5C lists. Cards in the field put bytes of their own after it that are
// no TLV (openpkoc allows two), so what follows 5C is not parsed: nothing there is used.
func checkSelect(data []byte) error {
	for len(data) > 0 {
		f, rest, err := nextField(data)
		if err != nil {
			return err
		}
		data = rest
		if f.tag != tagVersion {
			continue
		}
		if len(f.value) == 0 || len(f.value)%len(version1) != 0 {
			return fmt.Errorf("version list of %d bytes: %w", len(f.value), ErrMalformed)
		}
		for v := f.value; len(v) > 0; v = v[len(version1):] {
			if bytes.Equal(v[:len(version1)], version1[:]) {
				return nil
			}
		}
		return ErrVersion
	}
	return fmt.Errorf("no version list (tag 5C): %w", ErrMalformed)
}

// parseAuthenticate takes key and signature out of an answer. The results alias it.
func parseAuthenticate(data []byte) (key, sig []byte, err error) {
	if err := fill(data, []slot{{tagPublicKey, &key}, {tagSignature, &sig}}); err != nil {
		return nil, nil, err
	}
	if len(key) != pointSize {
		return nil, nil, fmt.Errorf("public key (tag 5A) is %d bytes, want %d: %w", len(key), pointSize, ErrMalformed)
	}
	if len(sig) != signatureSize { // a DER signature is 70 to 72 bytes and ends here
		return nil, nil, fmt.Errorf("signature (tag 9E) is %d bytes, want raw r||s of %d: %w", len(sig), signatureSize, ErrMalformed)
	}
	return key, sig, nil
}

// Verify checks a raw r||s signature by the uncompressed P-256 point key over id, SHA-256. It is all a third party needs to
// check a Proof again.
//
// A high s is accepted. The standard has no low-s rule and half of all honest signatures are high; the twin of a signature
// (r, n-s) proves nothing more than the original, because the id is used once and no signature is ever used as a name.
func Verify(key, sig, id []byte) error {
	if len(key) != pointSize || len(sig) != signatureSize {
		return fmt.Errorf("key of %d and signature of %d bytes, want %d and %d: %w", len(key), len(sig), pointSize, signatureSize, ErrMalformed)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), key)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPublicKey, err)
	}
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	n := elliptic.P256().Params().N
	if r.Sign() == 0 || s.Sign() == 0 || r.Cmp(n) >= 0 || s.Cmp(n) >= 0 {
		return fmt.Errorf("r or s is not in 1..n-1: %w", ErrSignature)
	}
	digest := sha256.Sum256(id)
	if !ecdsa.Verify(pub, digest[:], r, s) {
		return ErrSignature
	}
	return nil
}
