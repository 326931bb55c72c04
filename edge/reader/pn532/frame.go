package pn532

import (
	"bytes"
	"errors"
	"fmt"
)

// Host frames, PN532 user manual UM0701-02 section 6.2.1.
const (
	hostToChip = 0xD4 // TFI of commands
	chipToHost = 0xD5 // TFI of replies

	normalMax = 255 // bytes of TFI and data in a normal frame
	// payloadMax bounds TFI and data of an extended frame (6.2.1.2: 264 bytes of data and the TFI).
	payloadMax = 265
	// frameMax bounds a whole frame: preamble, start code, FF FF, LENM, LENL, LCS, payload, DCS, postamble.
	frameMax = payloadMax + 10
	// syntaxError is the one payload byte of the error frame.
	syntaxError = 0x7F
)

// Kind is what a frame is.
type Kind uint8

// The kinds of frame. Bad is a frame whose checksums do not hold: it was something, and nobody can say what.
const (
	Bad Kind = iota
	ACK
	NACK
	Info
	Syntax
)

// Frame is one frame from the chip. Data is the payload of an Info frame without its TFI (reply code first) and is valid
// until the next frame is read.
type Frame struct {
	Kind Kind
	Data []byte
}

var (
	ackFrame  = [...]byte{0x00, 0x00, 0xFF, 0x00, 0xFF, 0x00}
	nackFrame = [...]byte{0x00, 0x00, 0xFF, 0xFF, 0x00, 0x00}
)

// ErrTooLong says that a command does not fit one frame.
var ErrTooLong = errors.New("more than one frame holds")

// appendFrame adds the frame of TFI D4, a command code and its parameters to dst.
func appendFrame(dst []byte, code byte, params []byte) ([]byte, error) {
	n := 2 + len(params)
	if n > payloadMax {
		return nil, fmt.Errorf("framing command %02X with %d parameter bytes, limit %d: %w", code, len(params), payloadMax-2, ErrTooLong)
	}
	dst = append(dst, 0x00, 0x00, 0xFF)
	if n <= normalMax {
		dst = append(dst, byte(n), -byte(n))
	} else {
		hi, lo := byte(n>>8), byte(n)
		dst = append(dst, 0xFF, 0xFF, hi, lo, -(hi + lo))
	}
	dst = append(dst, hostToChip, code)
	sum := byte(hostToChip) + code
	for _, b := range params {
		sum += b
	}
	dst = append(dst, params...)
	return append(dst, -sum, 0x00), nil
}

// need says whether parseFrame found something.
type need uint8

const (
	found need = iota // a frame; its bytes are used up
	more              // nothing whole yet; used says how many bytes can only be noise
)

var startCode = []byte{0x00, 0xFF}

// parseFrame reads the first frame in b, wherever it starts, copying nothing. used is how many bytes of b are done with, and
// noise how many of them belonged to no frame; zero bytes between frames are padding, not noise (6.2.1.1: preamble and
// postamble).
//
// A wrong length checksum leaves the end of the frame unknown, so the search goes on behind its start code; with a right one
// the whole frame is taken away even if the data checksum is wrong. What a card put into its data is therefore looked at as
// a frame only after the line itself broke a header, and then it can say no more than the card could have said anyway.
func parseFrame(b []byte) (f Frame, used, noise int, n need) {
	at := bytes.Index(b, startCode)
	if at < 0 {
		used = len(b)
		if used > 0 && b[used-1] == 0x00 { // may be the first half of a start code
			used--
		}
		return Frame{}, used, notZero(b[:used]), more
	}
	noise = notZero(b[:at])
	rest := b[at+2:]
	if len(rest) < 2 {
		return Frame{}, at, noise, more
	}
	switch {
	case rest[0] == 0x00 && rest[1] == 0xFF:
		return Frame{Kind: ACK}, at + 4, noise, found
	case rest[0] == 0xFF && rest[1] == 0x00:
		return Frame{Kind: NACK}, at + 4, noise, found
	case rest[0] == 0xFF && rest[1] == 0xFF:
		if len(rest) < 5 {
			return Frame{}, at, noise, more
		}
		size := int(rest[2])<<8 | int(rest[3])
		if rest[2]+rest[3]+rest[4] != 0 || size > payloadMax {
			return Frame{Kind: Bad}, at + 2, noise, found
		}
		f, used, n = parseBody(rest[5:], size, 7)
		return f, at + used, noise, n
	case rest[0]+rest[1] != 0:
		return Frame{Kind: Bad}, at + 2, noise, found
	}
	f, used, n = parseBody(rest[2:], int(rest[0]), 4)
	return f, at + used, noise, n
}

// parseBody reads size payload bytes and their checksum. head is the length of what stands before them, from the
// start code on, and used counts from there; it is 0 while bytes lack.
func parseBody(b []byte, size, head int) (f Frame, used int, n need) {
	if len(b) < size+1 {
		return Frame{}, 0, more
	}
	var sum byte
	for _, v := range b[:size+1] {
		sum += v
	}
	used = head + size + 1
	switch {
	case sum != 0:
		return Frame{Kind: Bad}, used, found
	case size == 1 && b[0] == syntaxError:
		return Frame{Kind: Syntax}, used, found
	case size < 2 || b[0] != chipToHost:
		return Frame{Kind: Bad}, used, found
	}
	return Frame{Kind: Info, Data: b[1:size:size]}, used, found
}

func notZero(b []byte) int { return len(b) - bytes.Count(b, []byte{0x00}) }
