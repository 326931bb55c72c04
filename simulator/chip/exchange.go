package chip

import (
	"slices"
	"time"
)

// exchange is InDataExchange, section 7.3.8: one APDU, or a part of one (MI, bit 6 of Tg), or the
// call for the rest of a reply (no data).
func (c *Chip) exchange(p []byte) ([]byte, *job) {
	s := &c.state
	if len(p) < 1 {
		return nil, nil
	}
	t := s.target(p[0])
	if t == nil {
		return []byte{statusContext}, nil
	}
	data := p[1:]
	if len(data) == 0 && len(s.receiving) > 0 {
		return s.nextPart(), nil
	}
	s.receiving = nil
	if len(s.sending)+len(data) > maxChained {
		s.sending = nil
		return []byte{statusFormat}, nil
	}
	if p[0]&statusMore != 0 {
		s.sending = append(s.sending, data...)
		return []byte{statusOK}, nil
	}
	apdu := data
	if len(s.sending) > 0 {
		apdu = append(s.sending, data...)
		s.sending = nil
	}
	if !t.isodp || t.stay.card.Answer == nil {
		return nil, c.silence()
	}
	return c.transact(t.stay, slices.Clone(apdu), func(answer []byte) []byte {
		s.receiving = answer
		return s.nextPart()
	})
}

// nextPart is the status byte and as much of the reply as one frame carries.
func (s *state) nextPart() []byte {
	part, status := s.receiving, byte(statusOK)
	if len(part) > maxReplyData {
		part, status = part[:maxReplyData], statusMore
	}
	s.receiving = s.receiving[len(part):]
	return append([]byte{status}, part...)
}

// silence is a card that does not answer: the status comes when the chip stops waiting.
func (c *Chip) silence() *job {
	return &job{
		at:     time.Now().Add(c.state.exchangeTimeout()),
		expire: func() []byte { return []byte{statusTimeout} },
	}
}

// transact lets a card answer an APDU, at its own pace, if it is there until the end.
func (c *Chip) transact(stay *placed, apdu []byte, answered func([]byte) []byte) ([]byte, *job) {
	k := stay.card
	c.observe("apdu", len(apdu))
	stay.seen++
	if k.LeaveAfter > 0 && stay.seen >= k.LeaveAfter && c.field.holds(stay) {
		c.field.Lift(k)
		c.observe("left", stay.seen)
	}
	if !c.field.holds(stay) {
		return nil, c.silence()
	}
	finish := func() []byte {
		if !c.field.holds(stay) {
			return []byte{statusTimeout}
		}
		answer := k.Answer(apdu)
		if answer == nil {
			return []byte{statusTimeout}
		}
		return answered(answer)
	}
	if k.Delay <= 0 {
		return finish(), nil
	}
	return nil, &job{at: time.Now().Add(k.Delay), expire: finish}
}

// communicate is InCommunicateThru, section 7.3.9: raw frames to the card of target 1. The chip
// adds and takes away the CRC, so none is seen here (ISO 14443-4 section 7.1 without epilogue).
func (c *Chip) communicate(p []byte) ([]byte, *job) {
	if len(c.state.targets) == 0 || len(p) == 0 {
		return nil, c.silence()
	}
	t := c.state.targets[0]
	if !t.isodp || !c.field.holds(t.stay) {
		return nil, c.silence()
	}
	switch pcb := p[0]; {
	case pcb&0xE2 == 0x02 && pcb&0x10 == 0 && len(p) > 1: // I-block, not chained
		return c.transact(t.stay, slices.Clone(p[1:]), func(answer []byte) []byte {
			return append([]byte{statusOK, pcb}, answer...)
		})
	case pcb&0xF6 == 0xB2 && len(p) == 1: // R(NAK): still there
		return []byte{statusOK, 0xA2 | pcb&0x01}, nil
	case pcb == 0xC2 && len(p) == 1: // S(DESELECT)
		return []byte{statusOK, 0xC2}, nil
	}
	return nil, c.silence()
}
