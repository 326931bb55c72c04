package chip

import (
	"fmt"
	"slices"
	"time"
)

// Fault is one way a reader misbehaves.
type Fault string

// The faults, each named for what the host sees.
const (
	FaultNone      Fault = "none"
	FaultGarbage   Fault = "garbage"    // noise before the ACK
	FaultTrickle   Fault = "trickle"    // one byte per write
	FaultNoACK     Fault = "no-ack"     // the reply comes, the ACK does not
	FaultNACK      Fault = "nack"       // NACK in place of ACK and reply
	FaultBadLCS    Fault = "bad-lcs"    // wrong length checksum
	FaultBadDCS    Fault = "bad-dcs"    // wrong data checksum
	FaultError     Fault = "error"      // the error frame for a reply
	FaultWrongCode Fault = "wrong-code" // the reply to another command
	FaultLate      Fault = "late"       // no reply until the host gave up, then it comes
	FaultLong      Fault = "long"       // an extended reply of 264 bytes
	FaultSilence   Fault = "silence"    // neither ACK nor reply
	FaultHangUp    Fault = "hang-up"    // the line closes and returns
)

// Faults lists every fault there is.
func Faults() []Fault {
	return []Fault{
		FaultGarbage, FaultTrickle, FaultNoACK, FaultNACK, FaultBadLCS, FaultBadDCS, FaultError,
		FaultWrongCode, FaultLate, FaultLong, FaultSilence, FaultHangUp,
	}
}

const (
	garbageBytes  = 24
	longReply     = 264                    // TFI, code and data
	tricklePause  = 100 * time.Microsecond // a byte at 115200 baud takes 87 us
	neverForAHost = 24 * time.Hour
)

// Inject puts a fault on the next n commands; n < 0 keeps it until the next Inject. FaultNone
// heals.
func (c *Chip) Inject(f Fault, n int) error {
	if f != FaultNone && !slices.Contains(Faults(), f) {
		return fmt.Errorf("injecting fault %q: want one of %v", string(f), Faults())
	}
	c.do(func() {
		c.fault, c.left = f, n
		if f == FaultNone {
			c.left = 0
			if c.job != nil && c.job.late {
				c.job = nil
			}
		}
	})
	return nil
}

func (c *Chip) takeFault() Fault {
	if c.left == 0 || c.fault == "" {
		return FaultNone
	}
	if c.left > 0 {
		c.left--
	}
	return c.fault
}

// acknowledge sends what the host sees before a reply; false when there will be none.
func (c *Chip) acknowledge(f Fault) bool {
	switch f {
	case FaultSilence:
		return false
	case FaultHangUp:
		c.hangUp()
		return false
	case FaultNACK:
		c.write(nackFrame)
		return false
	case FaultNoACK:
		return true
	case FaultGarbage:
		c.write(c.garbage())
	case FaultTrickle:
		c.trickle(ackFrame)
		return true
	}
	c.write(ackFrame)
	return true
}

// garbage holds no whole frame, but the beginnings of some.
func (c *Chip) garbage() []byte {
	b := make([]byte, garbageBytes)
	for i := range b {
		b[i] = byte(c.noise.IntN(256))
	}
	copy(b[c.noise.IntN(garbageBytes-4):], []byte{0x00, 0x00, 0xFF, 0x01})
	return b
}

func (c *Chip) trickle(b []byte) {
	for i := range b {
		c.write(b[i : i+1])
		time.Sleep(tricklePause)
	}
}

// replyFaulty sends the reply of a command under a fault. A command that would wait (j) is
// waited for only where the fault lies in the form of the reply.
func (c *Chip) replyFaulty(f Fault, code byte, data []byte, j *job) {
	if data == nil && j != nil {
		switch f {
		case FaultGarbage, FaultTrickle, FaultNoACK:
			j.code = code
			c.job = j
			return
		}
		data = []byte{0x00}
	}
	whole := append([]byte{chipToHost, code + 1}, data...)
	switch f {
	case FaultTrickle:
		c.last = appendFrame(nil, whole)
		c.trickle(c.last)
	case FaultBadLCS:
		c.last = appendFrame(nil, whole)
		bad := slices.Clone(c.last)
		bad[4] ^= 0x55
		c.write(bad)
	case FaultBadDCS:
		c.last = appendFrame(nil, whole)
		bad := slices.Clone(c.last)
		bad[len(bad)-2] ^= 0x55
		c.write(bad)
	case FaultError:
		c.reply(code, nil)
	case FaultWrongCode:
		c.reply(code+2, data)
	case FaultLate:
		frame := appendFrame(nil, whole)
		c.job = &job{
			code: code, late: true, at: time.Now().Add(neverForAHost),
			expire: func() []byte { return frame },
		}
	case FaultLong:
		long := make([]byte, longReply)
		copy(long, whole)
		c.reply(code, long[2:])
	default:
		c.reply(code, data)
	}
}
