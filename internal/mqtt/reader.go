// Package mqtt owns the few MQTT 3.1.1 packets that pass between an edge and the hub, as bytes: a reader that never
// allocates what a peer merely declares, and the packets that both ends have to look into before they let them through.
//
// It is a codec and a limit, not a client and not a broker: it holds no session, opens no connection and reads no clock.
// Section numbers are those of MQTT Version 3.1.1 (OASIS Standard, 29 October 2014).
package mqtt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Packet types, section 2.2.1.
const (
	CONNECT     = 1
	CONNACK     = 2
	PUBLISH     = 3
	PUBACK      = 4
	PUBREC      = 5
	PUBREL      = 6
	PUBCOMP     = 7
	SUBSCRIBE   = 8
	SUBACK      = 9
	UNSUBSCRIBE = 10
	UNSUBACK    = 11
	PINGREQ     = 12
	PINGRESP    = 13
	DISCONNECT  = 14
)

// Overhead is the number of bytes that a PUBLISH may have beside its payload when its topic has at most MaxTopic bytes:
// fixed header, topic length, topic, packet id.
const (
	MaxTopic = 128
	Overhead = maxFixed + 2 + MaxTopic + 2
)

const (
	maxFixed = 5        // bytes: type and flags, remaining length of at most four
	firstBuf = 4 << 10  // bytes a reader holds at rest
	keepBuf  = 64 << 10 // bytes a reader may keep after a large packet: a full batch fits
)

// Errors of a peer that does not speak the protocol, or says too much.
var (
	ErrTooLong   = errors.New("packet longer than allowed")
	ErrMalformed = errors.New("malformed packet")
)

// Packet is one packet as it came. Raw and Body live in the reader's buffer and are valid until the next call.
type Packet struct {
	Type  byte
	Flags byte
	Raw   []byte // the whole packet
	Body  []byte // Raw without the fixed header
}

// Reader cuts a byte stream into packets. A peer that declares a quarter of a gigabyte in five bytes is refused before
// anything is allocated, and a packet within the limit takes memory only as its bytes really arrive.
type Reader struct {
	src *bufio.Reader
	max int
	buf []byte
}

// NewReader reads packets of at most max bytes in all, fixed header included, from src.
func NewReader(src io.Reader, max int) *Reader {
	return &Reader{src: bufio.NewReaderSize(src, firstBuf), max: max}
}

// SetMax changes the limit for the packets to come: before a peer has said who it is, it gets a small one.
func (r *Reader) SetMax(max int) { r.max = max }

// Wait blocks until the first byte of the next packet is there, so that a caller can tell a silent peer from one that
// stops in the middle of a packet.
func (r *Reader) Wait() error {
	_, err := r.src.Peek(1)
	return err
}

// Next reads one packet.
func (r *Reader) Next() (Packet, error) {
	if cap(r.buf) > keepBuf {
		r.buf = nil
	}
	head, remaining, err := r.header()
	if err != nil {
		return Packet{}, err
	}
	if len(head)+remaining > r.max {
		return Packet{}, fmt.Errorf("%w: %d bytes declared, at most %d", ErrTooLong, len(head)+remaining, r.max)
	}
	r.buf = append(r.buf[:0], head...)
	if err := r.fill(len(head) + remaining); err != nil {
		return Packet{}, err
	}
	p := Packet{Type: head[0] >> 4, Flags: head[0] & 0x0f, Raw: r.buf, Body: r.buf[len(head):]}
	return p, p.checkFlags()
}

// header reads the fixed header, section 2.2: one byte of type and flags, then the remaining length in base 128, low
// digit first, in at most four bytes (2.2.3).
func (r *Reader) header() (head []byte, remaining int, err error) {
	head = make([]byte, 0, maxFixed)
	b, err := r.src.ReadByte()
	if err != nil {
		return nil, 0, err
	}
	head = append(head, b)
	for shift := 0; ; shift += 7 {
		if shift > 21 {
			return nil, 0, fmt.Errorf("%w: remaining length of more than four bytes", ErrMalformed)
		}
		if b, err = r.src.ReadByte(); err != nil {
			return nil, 0, unexpected(err)
		}
		head = append(head, b)
		remaining |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			return head, remaining, nil
		}
	}
}

// fill reads until the buffer holds n bytes. The buffer at most doubles ahead of what has arrived.
func (r *Reader) fill(n int) error {
	for len(r.buf) < n {
		have := len(r.buf)
		grow := min(n, max(2*have, firstBuf))
		if cap(r.buf) < grow {
			r.buf = append(make([]byte, 0, grow), r.buf...)
		}
		r.buf = r.buf[:grow]
		if _, err := io.ReadFull(r.src, r.buf[have:]); err != nil {
			return unexpected(err)
		}
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// checkFlags holds the reserved flags to their fixed values, section 2.2.2, and QoS below 3.
func (p Packet) checkFlags() error {
	want := byte(0)
	switch p.Type {
	case PUBLISH:
		if p.Flags>>1&3 == 3 {
			return fmt.Errorf("%w: publish at quality of service 3", ErrMalformed)
		}
		return nil
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		want = 2
	case 0, 15:
		return fmt.Errorf("%w: reserved packet type %d", ErrMalformed, p.Type)
	}
	if p.Flags != want {
		return fmt.Errorf("%w: flags %#x in packet type %d", ErrMalformed, p.Flags, p.Type)
	}
	return nil
}
