package chip

// Host frames, PN532 user manual (UM0701-02) section 6.2.1, seen from the chip's side.

const (
	hostToChip = 0xD4 // TFI
	chipToHost = 0xD5 // TFI

	normalMax = 255 // bytes of TFI and data in a normal frame
	// extendedMax bounds TFI and data of an extended frame (7.1: 265 bytes at most).
	extendedMax = 265
)

var (
	ackFrame   = []byte{0x00, 0x00, 0xFF, 0x00, 0xFF, 0x00}
	nackFrame  = []byte{0x00, 0x00, 0xFF, 0xFF, 0x00, 0x00}
	errorFrame = []byte{0x00, 0x00, 0xFF, 0x01, 0xFF, 0x7F, 0x81, 0x00}
)

// appendFrame wraps TFI and data.
func appendFrame(dst, data []byte) []byte {
	n := len(data)
	if n > normalMax {
		hi, lo := byte(n>>8), byte(n)
		dst = append(dst, 0x00, 0x00, 0xFF, 0xFF, 0xFF, hi, lo, -(hi + lo))
	} else {
		dst = append(dst, 0x00, 0x00, 0xFF, byte(n), -byte(n))
	}
	var sum byte
	for _, b := range data {
		sum += b
	}
	dst = append(dst, data...)
	return append(dst, -sum, 0x00)
}

type inputKind int

const (
	inputCommand inputKind = iota
	inputACK
	inputNACK
	inputWake // the long 55 preamble
	inputLost // the line ended
)

// heard is one thing the host said.
type heard struct {
	kind inputKind
	data []byte // command code and parameters
	life *pty   // the line it came from
}

// scanner cuts the host's bytes into what they mean. It holds at most one frame and starts over
// at anything it cannot read, as the chip does.
type scanner struct {
	buf []byte // from a possible start on, at most extendedMax plus framing
}

const frameOverhead = 10 // preamble, start code, extended length, its checksum, DCS, postamble

// feed takes the next byte; ok when it completed something.
func (s *scanner) feed(b byte) (h heard, ok bool) {
	if b == 0x55 && len(s.buf) < 2 {
		s.buf = s.buf[:0]
		return heard{kind: inputWake}, true
	}
	s.buf = append(s.buf, b)
	for len(s.buf) > 0 {
		h, used, verdict := parse(s.buf)
		switch verdict {
		case frameWhole:
			s.drop(used)
			return h, true
		case frameShort:
			return heard{}, false
		case frameBad:
			s.drop(1)
		}
	}
	return heard{}, false
}

func (s *scanner) drop(n int) { s.buf = append(s.buf[:0], s.buf[n:]...) }

type verdict int

const (
	frameShort verdict = iota // more bytes are needed
	frameBad                  // cannot start here
	frameWhole
)

// parse reads one frame that starts with 00 FF at the beginning of b.
func parse(b []byte) (h heard, used int, v verdict) {
	if b[0] != 0x00 {
		return heard{}, 0, frameBad
	}
	if len(b) < 2 {
		return heard{}, 0, frameShort
	}
	if b[1] != 0xFF {
		return heard{}, 0, frameBad
	}
	if len(b) < 4 {
		return heard{}, 0, frameShort
	}
	switch {
	case b[2] == 0x00 && b[3] == 0xFF:
		return heard{kind: inputACK}, 4, frameWhole
	case b[2] == 0xFF && b[3] == 0x00:
		return heard{kind: inputNACK}, 4, frameWhole
	case b[2] == 0xFF && b[3] == 0xFF:
		return parseExtended(b)
	case b[2]+b[3] != 0:
		return heard{}, 0, frameBad
	}
	return parseBody(b, 4, int(b[2]))
}

func parseExtended(b []byte) (heard, int, verdict) {
	if len(b) < 7 {
		return heard{}, 0, frameShort
	}
	if b[4]+b[5]+b[6] != 0 {
		return heard{}, 0, frameBad
	}
	return parseBody(b, 7, int(b[4])<<8|int(b[5]))
}

// parseBody reads n bytes of TFI and data and the checksum behind them.
func parseBody(b []byte, at, n int) (heard, int, verdict) {
	if n < 2 || n > extendedMax {
		return heard{}, 0, frameBad
	}
	if len(b) < at+n+1 {
		return heard{}, 0, frameShort
	}
	var sum byte
	for _, c := range b[at : at+n+1] {
		sum += c
	}
	if sum != 0 || b[at] != hostToChip {
		return heard{}, 0, frameBad
	}
	data := append([]byte(nil), b[at+1:at+n]...)
	return heard{kind: inputCommand, data: data}, at + n + 1, frameWhole
}
