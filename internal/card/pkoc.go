package card

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Status words of the card side (ISO 7816-4 5.1.3, as the Elatec self test expects them).
const (
	statusConditions  = 0x6985 // conditions of use not satisfied
	statusNotFound    = 0x6A82 // AID not found; also a malformed AUTHENTICATE
	statusParameters  = 0x6B00 // wrong P1 P2
	statusInstruction = 0x6D00 // INS not supported
	statusClass       = 0x6E00 // CLA not supported
	statusGeneral     = 0x6F00 // the card failed
)

// PKOCCard is the card's side of PKOC SE V1: what a phone or an applet does. It is used by one goroutine, as a card sits in
// one field. It keeps one bit between commands, whether the application is selected; Reset clears it, as leaving a field does.
//
// It signs transaction ids of exactly 16 bytes. The wire format allows 16 to 65, but the reader is not authenticated, so a
// card is a signing oracle for whatever it accepts: the PKOC Bluetooth flow proves itself by signing a 33-byte ephemeral key
// with this very key, and a rogue NFC reader could harvest that signature from a card that signs longer ids.
type PKOCCard struct {
	key      *ecdsa.PrivateKey
	point    []byte
	selected bool
}

// ErrCurve says that a key is not a P-256 key.
var ErrCurve = errors.New("key is not on the curve P-256")

// NewPKOCCard makes a card of a P-256 key. It panics on another curve: every way to get a key (LoadKey, NewKey) refuses those
// before, so here it is a fault of the program.
func NewPKOCCard(key *ecdsa.PrivateKey) *PKOCCard {
	if key == nil || key.Curve != elliptic.P256() {
		panic("card: NewPKOCCard: " + ErrCurve.Error())
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(fmt.Sprintf("card: NewPKOCCard: %v", err))
	}
	return &PKOCCard{key: key, point: point}
}

// Credential is what a reader will know this card by.
func (c *PKOCCard) Credential() Credential {
	return Credential{Assurance: PKOC, Key: append([]byte(nil), c.point[1:1+KeySize]...)}
}

// Reset forgets the selection: the card left the field.
func (c *PKOCCard) Reset() { c.selected = false }

// Transceive answers one command APDU with data and status word. It never fails and never keeps apdu.
func (c *PKOCCard) Transceive(apdu []byte) []byte {
	data, sw := c.answer(apdu)
	return append(data, byte(sw>>8), byte(sw))
}

func (c *PKOCCard) answer(apdu []byte) ([]byte, uint16) {
	if len(apdu) < 4 || len(apdu) > maxCommand {
		return nil, statusLength
	}
	switch class, ins := apdu[0], apdu[1]; {
	case class != 0x00 && class != 0x80:
		return nil, statusClass
	case class == 0x00 && ins == 0xA4:
		return c.answerSelect(apdu)
	case class == 0x80 && ins == 0x80:
		return c.answerAuthenticate(apdu)
	}
	return nil, statusInstruction
}

// maxCommand bounds a short command APDU: header, Lc, 255 bytes, Le.
const maxCommand = 4 + 1 + 255 + 1

// answerSelect takes the one SELECT that the official Android card takes, byte for byte, so that a reader proved against
// this card works with that one. Any other SELECT also deselects.
func (c *PKOCCard) answerSelect(apdu []byte) ([]byte, uint16) {
	c.selected = false
	if apdu[2] != commandSelect[2] || apdu[3] != commandSelect[3] {
		return nil, statusParameters
	}
	if len(apdu) < 6 || len(apdu) != 6+int(apdu[4]) || apdu[len(apdu)-1] != 0 {
		return nil, statusLength
	}
	if string(apdu) != string(commandSelect[:]) {
		return nil, statusNotFound
	}
	c.selected = true
	return []byte{tagVersion, byte(len(version1)), version1[0], version1[1]}, statusOK
}

func (c *PKOCCard) answerAuthenticate(apdu []byte) ([]byte, uint16) {
	if !c.selected {
		return nil, statusConditions
	}
	if apdu[2] != 0x00 || apdu[3] != 0x01 {
		return nil, statusParameters
	}
	id, sw := parseCommand(apdu)
	if sw != statusOK {
		return nil, sw
	}
	digest := sha256.Sum256(id)
	r, s, err := ecdsa.Sign(rand.Reader, c.key, digest[:])
	if err != nil {
		return nil, statusGeneral
	}
	b := make([]byte, 0, 2+pointSize+2+signatureSize+statusSize)
	b = append(b, tagPublicKey, pointSize)
	b = append(b, c.point...)
	b = append(b, tagSignature, signatureSize)
	var half [32]byte
	b = append(b, r.FillBytes(half[:])...)
	b = append(b, s.FillBytes(half[:])...)
	return b, statusOK
}

// parseCommand takes the transaction id out of an AUTHENTICATE, with or without Le: both kinds of reader are in the field.
func parseCommand(apdu []byte) (id []byte, sw uint16) {
	if len(apdu) < 6 {
		return nil, statusLength
	}
	lc := int(apdu[4])
	if lc == 0 || (len(apdu) != 5+lc && len(apdu) != 6+lc) {
		return nil, statusLength
	}
	if le := apdu[len(apdu)-1]; len(apdu) == 6+lc && le != 0 && int(le) < 2+pointSize+2+signatureSize {
		return nil, statusLength
	}
	var version, reader []byte
	if fill(apdu[5:5+lc], []slot{{tagVersion, &version}, {tagTransactionID, &id}, {tagReaderID, &reader}}) != nil {
		return nil, statusNotFound
	}
	if string(version) != string(version1[:]) || (len(reader) != 16 && len(reader) != 32) || id == nil {
		return nil, statusNotFound
	}
	if len(id) != transactionIDSize { // well formed, and refused: see the oracle in the doc of PKOCCard
		return nil, statusConditions
	}
	return id, statusOK
}
