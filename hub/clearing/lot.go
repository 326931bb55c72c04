package clearing

import (
	"crypto/sha256"
	"encoding/binary"
)

// lotBits is the width of one drawn number. A tie that survives one lot goes into the next, so this only weighs the work
// of one lot against the number of lots.
const lotBits = 24

// lotDomain separates this hash from every other use of SHA-256 in the network.
const lotDomain = "kith clearing lot v1\n"

// lot draws one number per ordered pair of nodes. It depends on the roots of the cut, which nobody knows before the cut,
// on the unit, and on the names of the two nodes alone: a debt between others does not change it.
type lot struct {
	seed  [32]byte
	nodes []string
}

func newLot(c *Case, counter uint32) *lot {
	h := sha256.New()
	h.Write([]byte(lotDomain))
	h.Write([]byte{byte(len(c.terms.Unit))})
	h.Write([]byte(c.terms.Unit))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(c.terms.Roots))))
	for i := range c.terms.Roots {
		h.Write(c.terms.Roots[i][:])
	}
	h.Write(binary.BigEndian.AppendUint32(nil, counter))
	l := &lot{nodes: c.nodes}
	h.Sum(l.seed[:0])
	return l
}

// draw returns the number of the pair, 0 to 1<<lotBits - 1.
func (l *lot) draw(debtor, creditor int32) int64 {
	var buf [32 + 2 + 2*MaxNameBytes]byte
	b := append(buf[:0], l.seed[:]...)
	b = append(b, byte(len(l.nodes[debtor])))
	b = append(b, l.nodes[debtor]...)
	b = append(b, byte(len(l.nodes[creditor])))
	b = append(b, l.nodes[creditor]...)
	sum := sha256.Sum256(b)
	return int64(binary.BigEndian.Uint32(sum[:4]) >> (32 - lotBits))
}
