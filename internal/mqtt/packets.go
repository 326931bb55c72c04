package mqtt

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Level is the protocol level of MQTT 3.1.1, section 3.1.2.2.
const Level = 4

// Return codes of CONNACK, section 3.2.2.3.
const (
	Accepted           = 0
	BadLevel           = 1
	IdentifierRejected = 2
	ServerUnavailable  = 3
	NotAuthorized      = 5
)

// Refused is the return code of SUBACK for a filter that is not granted, section 3.9.3.
const Refused = 0x80

// Connect is what matters of CONNECT, section 3.1. User name and password are read over: who a peer is, its certificate
// says.
type Connect struct {
	Level     byte
	Clean     bool
	Will      bool
	KeepAlive uint16 // seconds, 0 for none
	ClientID  string
}

// flags of CONNECT, section 3.1.2.3
const (
	flagReserved = 1 << iota
	flagClean
	flagWill
	_
	_
	flagWillRetain
	flagPassword
	flagUser
)

// ParseConnect reads the body of a CONNECT and demands that it is used up.
func ParseConnect(body []byte) (Connect, error) {
	c := cursor{rest: body}
	name := c.text()
	level, flags := c.byte(), c.byte()
	keep := c.uint16()
	id := c.text()
	switch {
	case c.bad:
		return Connect{}, fmt.Errorf("%w: connect cut short or not text", ErrMalformed)
	case name != "MQTT":
		return Connect{}, fmt.Errorf("%w: protocol name is not MQTT", ErrMalformed)
	case flags&flagReserved != 0:
		return Connect{}, fmt.Errorf("%w: reserved connect flag set", ErrMalformed)
	case flags&flagWill == 0 && flags&(0x18|flagWillRetain) != 0:
		return Connect{}, fmt.Errorf("%w: will flags without a will", ErrMalformed)
	}
	if flags&flagWill != 0 {
		c.text()
		c.bytes()
	}
	if flags&flagUser != 0 {
		c.text()
	}
	if flags&flagPassword != 0 {
		c.bytes()
	}
	if c.bad || len(c.rest) != 0 {
		return Connect{}, fmt.Errorf("%w: connect payload does not match its flags", ErrMalformed)
	}
	return Connect{Level: level, Clean: flags&flagClean != 0, Will: flags&flagWill != 0, KeepAlive: keep, ClientID: id}, nil
}

// AppendConnect writes a CONNECT with a clean session, without will, user or password.
func AppendConnect(dst []byte, clientID string, keepAlive uint16) []byte {
	dst = appendHeader(dst, CONNECT<<4, 2+4+1+1+2+2+len(clientID))
	dst = appendText(dst, "MQTT")
	dst = append(dst, Level, flagClean)
	dst = binary.BigEndian.AppendUint16(dst, keepAlive)
	return appendText(dst, clientID)
}

// AppendConnAck writes a CONNACK without a present session.
func AppendConnAck(dst []byte, code byte) []byte {
	return append(dst, CONNACK<<4, 2, 0, code)
}

// ParseConnAck reads the return code.
func ParseConnAck(body []byte) (code byte, err error) {
	if len(body) != 2 {
		return 0, fmt.Errorf("%w: connack of %d bytes", ErrMalformed, len(body))
	}
	return body[1], nil
}

// Publish is a PUBLISH, section 3.3. Payload aliases the packet.
type Publish struct {
	Topic   string
	QoS     byte
	Retain  bool
	Dup     bool
	ID      uint16 // 0 at quality of service 0
	Payload []byte
}

// ParsePublish reads a PUBLISH.
func ParsePublish(p Packet) (Publish, error) {
	c := cursor{rest: p.Body}
	out := Publish{QoS: p.Flags >> 1 & 3, Retain: p.Flags&1 != 0, Dup: p.Flags&8 != 0}
	out.Topic = c.text()
	if out.QoS > 0 {
		out.ID = c.uint16()
		c.bad = c.bad || out.ID == 0 // 2.3.1
	}
	if c.bad || out.Topic == "" {
		return Publish{}, fmt.Errorf("%w: publish cut short, without topic or without packet id", ErrMalformed)
	}
	out.Payload = c.rest
	return out, nil
}

// AppendPublish writes a PUBLISH at quality of service 0.
func AppendPublish(dst []byte, topic string, payload []byte) []byte {
	dst = appendHeader(dst, PUBLISH<<4, 2+len(topic)+len(payload))
	dst = appendText(dst, topic)
	return append(dst, payload...)
}

// AppendPubAck writes a PUBACK.
func AppendPubAck(dst []byte, id uint16) []byte {
	return binary.BigEndian.AppendUint16(append(dst, PUBACK<<4, 2), id)
}

// Subscribe is a SUBSCRIBE of one filter, section 3.8; MQTT allows more, an edge has one.
type Subscribe struct {
	ID     uint16
	Filter string
	QoS    byte
}

// ParseSubscribe reads the body of a SUBSCRIBE with exactly one filter.
func ParseSubscribe(body []byte) (Subscribe, error) {
	c := cursor{rest: body}
	s := Subscribe{ID: c.uint16(), Filter: c.text(), QoS: c.byte()}
	if c.bad || s.ID == 0 || s.QoS > 2 || len(c.rest) != 0 {
		return Subscribe{}, fmt.Errorf("%w: want one filter with its quality of service", ErrMalformed)
	}
	return s, nil
}

// AppendSubscribe writes a SUBSCRIBE of one filter at quality of service 0.
func AppendSubscribe(dst []byte, id uint16, filter string) []byte {
	dst = appendHeader(dst, SUBSCRIBE<<4|2, 2+2+len(filter)+1)
	dst = binary.BigEndian.AppendUint16(dst, id)
	return append(appendText(dst, filter), 0)
}

// AppendSubAck writes the answer to a SUBSCRIBE of one filter: the quality of service granted, or Refused.
func AppendSubAck(dst []byte, id uint16, code byte) []byte {
	return append(binary.BigEndian.AppendUint16(append(dst, SUBACK<<4, 3), id), code)
}

// AppendPingResp writes a PINGRESP.
func AppendPingResp(dst []byte) []byte { return append(dst, PINGRESP<<4, 0) }

func appendHeader(dst []byte, first byte, remaining int) []byte {
	dst = append(dst, first)
	for {
		b := byte(remaining & 0x7f)
		if remaining >>= 7; remaining > 0 {
			dst = append(dst, b|0x80)
			continue
		}
		return append(dst, b)
	}
}

func appendText(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// cursor reads the fields of a body; once something is missing it stays bad and yields zeros.
type cursor struct {
	rest []byte
	bad  bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || len(c.rest) < n {
		c.bad = true
		return nil
	}
	out := c.rest[:n]
	c.rest = c.rest[n:]
	return out
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) bytes() []byte { return c.take(int(c.uint16())) }

// text reads a UTF-8 string, section 1.5.3: well formed, without U+0000.
func (c *cursor) text() string {
	b := c.bytes()
	if !utf8.Valid(b) {
		c.bad = true
		return ""
	}
	for _, x := range b {
		if x == 0 {
			c.bad = true
			return ""
		}
	}
	return string(b)
}
