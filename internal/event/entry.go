package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Economic kinds, in the words of ValueFlows. Their body is an Entry.
const (
	KindWork            Kind = "work"             // time given to the place
	KindUse             Kind = "use"              // of something that stays: a bed, a desk, a machine
	KindConsume         Kind = "consume"          // of something that is gone afterwards: a meal, energy
	KindDeliverService  Kind = "deliver-service"  // like work, counted by result instead of by time
	KindTransfer        Kind = "transfer"         // of rights and custody to another node
	KindTransferCustody Kind = "transfer-custody" // of custody alone: a loan
	KindRaise           Kind = "raise"            // a stock was found to be more
	KindLower           Kind = "lower"            // a stock was found to be less
)

// EntryKinds lists the economic kinds.
func EntryKinds() []Kind {
	return []Kind{KindWork, KindUse, KindConsume, KindDeliverService, KindTransfer, KindTransferCustody, KindRaise, KindLower}
}

// IsEntry reports whether a leaf of this kind is a line of the service log that can count.
func (k Kind) IsEntry() bool { return slices.Contains(EntryKinds(), k) }

// Evidence classes of an entry.
const (
	EvidenceA = "A" // the member's card signed it; with a witness, both cards did
	EvidenceB = "B" // the host's card signed it, the member was named
	EvidenceC = "C" // one-sided: a number that anyone can copy, or nobody's card at all
)

// Limits of an entry.
const (
	MaxQuantity = int64(1_000_000_000) // parts of a measure in one entry: 1,900 years in minutes, 1 GWh in Wh
	MaxNote     = 280                  // bytes of the note in the private part
	NonceSize   = 16                   // bytes of a nonce and of a transaction id
)

// Entry is the public body of every economic kind. The leaf around it says where: network, node, edge and address.
//
// A correction names the entry it replaces: the old one counts nothing from then on, and this one counts as it stands.
// Quantity 0 is allowed in a correction alone and takes the old entry back. An entry is corrected at most once; a
// further correction names the newest. Only entries of the same edge can be named.
type Entry struct {
	Resource string `json:"resource"` // kind, id in the node's catalogue
	Quantity int64  `json:"quantity"` // in whole parts of Measure
	Measure  string `json:"measure"`
	Home     string `json:"home"` // node of the member
	Day      int    `json:"day"`  // days since 1970-01-01 on the node's calendar
	Evidence string `json:"evidence"`
	To       string `json:"to,omitempty"`       // node that receives a transfer; the person, if any, is in the private part
	Corrects string `json:"corrects,omitempty"` // "<epoch>/<index>" of the entry this one replaces, same edge
	Nonce    string `json:"nonce,omitempty"`    // 32 hex digits: the fresh part of what the card signed
}

// EntryPrivate is the kind's part of Private.Body for an entry. Private.Member and Private.Card are the member whom the
// entry concerns and, in class A and C, the member's card. In class B Member is the member and Witness... is the host.
type EntryPrivate struct {
	Note             string `json:"note,omitempty"`
	Reader           string `json:"reader,omitempty"`
	ToMember         string `json:"to_member,omitempty"`
	Started          int64  `json:"started,omitempty"`   // Unix ms, of a use that was started and stopped
	Key              string `json:"key,omitempty"`       // hex of the 65 bytes 04 || X || Y of the member's card
	Signature        string `json:"signature,omitempty"` // hex of the 64 bytes r || s over Binding
	WitnessMember    string `json:"witness,omitempty"`   // a peer or host who stood beside, or the host of class B
	WitnessCard      string `json:"witness_card,omitempty"`
	WitnessNonce     string `json:"witness_nonce,omitempty"`
	WitnessKey       string `json:"witness_key,omitempty"`
	WitnessSignature string `json:"witness_signature,omitempty"` // over WitnessBinding
}

// ErrEntry is wrapped by every refusal of an entry.
var ErrEntry = errors.New("not an entry")

// Check reports what keeps an entry from being one of the given kind.
func (e *Entry) Check(kind Kind) error {
	if why := e.fault(kind); why != "" {
		return fmt.Errorf("%w: %s", ErrEntry, why)
	}
	return nil
}

func (e *Entry) fault(kind Kind) string {
	_, _, correction := e.Corrected()
	transfer := kind == KindTransfer || kind == KindTransferCustody
	switch {
	case !kind.IsEntry():
		return fmt.Sprintf("kind %q is not economic", clip(string(kind)))
	case !IsID(e.Resource):
		return fmt.Sprintf("resource %q is not an id", clip(e.Resource))
	case !IsID(e.Measure):
		return fmt.Sprintf("measure %q is not an id", clip(e.Measure))
	case !IsID(e.Home):
		return fmt.Sprintf("home %q is not an id", clip(e.Home))
	case e.Corrects != "" && !correction:
		return fmt.Sprintf("corrects %q is not an epoch, a slash and an index", clip(e.Corrects))
	case e.Quantity < 0 || e.Quantity > MaxQuantity:
		return fmt.Sprintf("quantity %d is not in 0..%d", e.Quantity, MaxQuantity)
	case e.Quantity == 0 && !correction:
		return "quantity 0; only a correction may take an entry back"
	case e.Day < 0 || e.Day > maxDay:
		return fmt.Sprintf("day %d is not in 0..%d", e.Day, maxDay)
	case e.Evidence != EvidenceA && e.Evidence != EvidenceB && e.Evidence != EvidenceC:
		return fmt.Sprintf("evidence %q is none of A, B, C", clip(e.Evidence))
	case transfer != (e.To != ""):
		return "to stands in a transfer, and only there"
	case e.To != "" && !IsID(e.To):
		return fmt.Sprintf("to %q is not an id", clip(e.To))
	case e.Evidence == EvidenceA && e.Nonce == "":
		return "class A without the nonce that the card signed"
	}
	if e.Nonce != "" {
		if _, err := ParseNonce(e.Nonce); err != nil {
			return err.Error()
		}
	}
	return ""
}

// maxDay is the last day whose Unix milliseconds are far from the end of int64: in the year 4707.
const maxDay = 1_000_000

// Corrected returns the address of the entry that this one replaces; false when it replaces none or names it badly.
func (e *Entry) Corrected() (Epoch, uint64, bool) {
	epoch, index, found := strings.Cut(e.Corrects, "/")
	if !found {
		return Epoch{}, 0, false
	}
	ep, err := ParseEpoch(epoch)
	i, err2 := strconv.ParseUint(index, 10, 62)
	if err != nil || err2 != nil || strconv.FormatUint(i, 10) != index {
		return Epoch{}, 0, false
	}
	return ep, i, true
}

// EncodeEntry writes the one spelling of an entry's body.
func EncodeEntry(kind Kind, e Entry) (json.RawMessage, error) {
	if err := e.Check(kind); err != nil {
		return nil, err
	}
	return Marshal(e)
}

// ParseEntry reads the body of an economic leaf. A second spelling of the same entry is refused, as in a leaf.
func ParseEntry(kind Kind, body []byte) (Entry, error) {
	var e Entry
	if len(body) > MaxLeaf {
		return e, fmt.Errorf("%w: %d bytes, limit %d", ErrEntry, len(body), MaxLeaf)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrEntry, err)
	}
	again, err := EncodeEntry(kind, e)
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again, body) {
		return Entry{}, fmt.Errorf("%w: not in its one spelling", ErrEntry)
	}
	return e, nil
}

// ParseNonce reads 32 lower-case hex digits.
func ParseNonce(s string) ([NonceSize]byte, error) {
	var n [NonceSize]byte
	if err := decodeHex(n[:], s); err != nil {
		return n, fmt.Errorf("nonce %q: %w", clip(s), err)
	}
	return n, nil
}

// EntryBytes are the bytes of an entry that a card's signature covers, one line of compact JSON with these keys in this
// order: net, node, edge, kind, resource, quantity, measure, day, to, corrects. The last two are always there, empty
// when unused.
//
// Not among them: home, since whose card it is becomes known by the answer alone; evidence and nonce, which follow from
// the answer and stand beside it; epoch and index, which the journal gives later. So the signature cannot be carried to
// another place, edge, resource, quantity or day; that it is not used twice is seen by its nonce.
func EntryBytes(l *Leaf, e *Entry) []byte {
	b := make([]byte, 0, 256)
	for _, f := range [...]struct{ key, value string }{{`{"net":"`, l.Network}, {`","node":"`, l.Node}, {`","edge":"`, l.Edge},
		{`","kind":"`, string(l.Kind)}, {`","resource":"`, e.Resource}} {
		b = append(append(b, f.key...), f.value...)
	}
	b = strconv.AppendInt(append(b, `","quantity":`...), e.Quantity, 10)
	b = append(append(b, `,"measure":"`...), e.Measure...)
	b = strconv.AppendInt(append(b, `","day":`...), int64(e.Day), 10)
	b = append(append(b, `,"to":"`...), e.To...)
	b = append(append(b, `","corrects":"`...), e.Corrects...)
	return append(b, `"}`...)
}

const (
	entryDomain   = "kith/entry/v1\n"
	witnessDomain = "kith/witness/v1\n"
)

// Binding is the transaction id that binds a card's signature to an entry: the first 16 bytes of SHA-256(domain, nonce,
// entry bytes). The nonce is drawn fresh for each presentation, so the id never repeats and cannot be answered in advance.
//
// It proves that this card was at a reader after the nonce was drawn, and that this edge asked it about this entry. It
// does not prove that its holder read or understood the entry: a card signs what a reader asks, it has no screen. An
// edge that lies about what it showed can have any entry signed by any card that is held to it; what it cannot do is
// make a signature without the card, or move one to another entry.
func Binding(nonce [NonceSize]byte, entry []byte) [NonceSize]byte {
	h := sha256.New()
	h.Write([]byte(entryDomain))
	h.Write(nonce[:])
	h.Write(entry)
	return [NonceSize]byte(h.Sum(nil)[:NonceSize])
}

// WitnessBinding is the transaction id for a second card, of a witness or of the host of class B. It covers, besides a
// nonce of its own and the entry bytes, the member and the member's card ("" when none), so that a witness of one
// person's work is not one of another's: domain, nonce, member, a newline, card id, a newline, entry bytes.
func WitnessBinding(nonce [NonceSize]byte, member, card string, entry []byte) [NonceSize]byte {
	h := sha256.New()
	h.Write([]byte(witnessDomain))
	h.Write(nonce[:])
	h.Write([]byte(member + "\n" + card + "\n"))
	h.Write(entry)
	return [NonceSize]byte(h.Sum(nil)[:NonceSize])
}

// FormatNonce writes what ParseNonce reads.
func FormatNonce(n [NonceSize]byte) string { return hex.EncodeToString(n[:]) }
