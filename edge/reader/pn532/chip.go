package pn532

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

const (
	// ackWait bounds the time from a command to its ACK. The chip takes under 1 ms (UM0701-02 section 6.2.1.5 has the host
	// give up after 15 ms); a busy host and a USB bridge need the rest.
	ackWait = 250 * time.Millisecond
	// shortWait bounds the reply to a command that needs no card.
	shortWait = 250 * time.Millisecond
	// repeatWait bounds the wait for a repeated frame after our NACK.
	repeatWait = 250 * time.Millisecond
	// syncWait bounds one attempt to hear the chip's echo.
	syncWait = 250 * time.Millisecond

	maxSends    = 3  // times one command is written because the chip answers NACK
	maxTries    = 2  // times a command is run that the line spoiled
	maxSyncs    = 2  // echo attempts before the chip counts as dead
	maxStrays   = 16 // frames that may come where another is awaited
	syncPayload = 8  // bytes of the echo
)

// Command codes, UM0701-02 section 7.
const (
	cmdDiagnose         = 0x00
	cmdGetFirmware      = 0x02
	cmdSetBaudRate      = 0x10
	cmdSAMConfiguration = 0x14
	cmdRFConfiguration  = 0x32
	cmdInDataExchange   = 0x40
	cmdInList           = 0x4A
	cmdInPSL            = 0x4E
	cmdInRelease        = 0x52
)

var (
	// ErrSyntax says that the chip answered with its error frame.
	ErrSyntax = errors.New("chip does not know the command or its parameters")
	// ErrProtocol says that the chip answered something else than was asked.
	ErrProtocol = errors.New("chip broke the protocol")

	errNoACK   = errors.New("chip did not acknowledge")
	errNoReply = errors.New("chip acknowledged and did not answer")
	errDead    = errors.New("chip is silent")
	errBad     = errors.New("reply came spoiled twice")
)

// chip speaks commands over a transport. It belongs to the reader's goroutine.
//
// Its one rule: after anything went wrong the line is in an unknown state, and nothing is asked before resync has brought it
// back. So an answer is only ever taken from a line on which nothing else can be under way.
type chip struct {
	t       Transport
	stats   *counters
	out     []byte // scratch for a frame
	nonce   uint64 // of the last echo
	retries int    // activation retries that the chip has, -1 unknown
	rxBuf   []byte // a chained answer
	dead    error  // why nothing is asked any more
	// plainPresence is set when this chip turned out not to know the presence check of Diagnose.
	plainPresence bool
}

func newChip(t Transport, stats *counters) *chip {
	return &chip{
		t: t, stats: stats, retries: -1, out: make([]byte, 0, frameMax), rxBuf: make([]byte, 0, maxAnswer),
		nonce: uint64(time.Now().UnixNano()), // only has to differ from what an earlier life left in the chip
	}
}

// request is one command.
type request struct {
	code   byte
	params []byte
	wait   time.Duration // for the reply, from the ACK on
	expect int           // payload bytes the reply probably has beside TFI and code
	once   bool          // never run twice: it changes something outside the chip
}

// command runs one command and returns the reply's data, valid until the next one. A command that the line spoiled is run
// again within maxTries, unless it is to run once. errDead means the chip is lost, for good: whoever asks on, as for the second
// card of a presentation, would wait for it once more. After every other error it is back in order.
func (c *chip) command(ctx context.Context, q request) ([]byte, error) {
	if c.dead != nil {
		return nil, c.dead
	}
	data, err := c.tries(ctx, q)
	if errors.Is(err, errDead) {
		c.dead = err
	}
	return data, err
}

func (c *chip) tries(ctx context.Context, q request) ([]byte, error) {
	for try := 1; ; try++ {
		data, err := c.attempt(ctx, q)
		if err == nil {
			return data, nil
		}
		if errors.Is(err, errDead) || errors.Is(err, ErrTooLong) {
			return nil, err
		}
		if !errors.Is(err, ErrSyntax) { // the error frame is a whole answer: nothing is under way
			if dead := c.resync(); dead != nil {
				return nil, errors.Join(dead, err)
			}
		}
		if q.once || try == maxTries || errors.Is(err, errNoReply) || ctx.Err() != nil {
			return nil, err
		}
	}
}

func (c *chip) attempt(ctx context.Context, q request) ([]byte, error) {
	frame, err := appendFrame(c.out[:0], q.code, q.params)
	if err != nil {
		return nil, err
	}
	c.stats.commands.Add(1)
	if err := c.awaitACK(ctx, frame); err != nil {
		return nil, fmt.Errorf("command %02X: %w", q.code, err)
	}
	data, err := c.awaitReply(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("command %02X: %w", q.code, err)
	}
	return data, nil
}

// send writes a frame; a transport that cannot is dead.
func (c *chip) send(frame []byte) error {
	if err := c.t.Send(frame); err != nil {
		return fmt.Errorf("%w: %w", errDead, err)
	}
	return nil
}

// receive reads a frame and sorts the transport's errors into those of the line and those that end it.
func (c *chip) receive(ctx context.Context, deadline time.Time, expect int) (Frame, error) {
	f, err := c.t.Receive(ctx, deadline, expect)
	switch {
	case err == nil:
		c.stats.frames.Add(1)
		return f, nil
	case errors.Is(err, ErrTimeout), errors.Is(err, ErrNoise), ctx.Err() != nil:
		return Frame{}, err
	}
	return Frame{}, fmt.Errorf("%w: %w", errDead, err)
}

// awaitACK sends a command and waits until the chip has it. The chip does one thing after another, so a reply that comes
// before the ACK belongs to an earlier command and is dropped.
func (c *chip) awaitACK(ctx context.Context, frame []byte) error {
	deadline := time.Now().Add(ackWait)
	if err := c.send(frame); err != nil {
		return err
	}
	sends := 1
	for range maxStrays {
		f, err := c.receive(ctx, deadline, 0)
		if errors.Is(err, ErrTimeout) {
			return errNoACK
		}
		if err != nil {
			return err
		}
		switch f.Kind {
		case ACK:
			return nil
		case NACK:
			if sends == maxSends {
				return fmt.Errorf("refused %d times: %w", sends, errNoACK)
			}
			sends++
			if err := c.send(frame); err != nil {
				return err
			}
		default:
			c.stats.strays.Add(1)
		}
	}
	return fmt.Errorf("%d other frames instead of an ACK: %w", maxStrays, ErrProtocol)
}

// awaitReply waits for the reply to q. One spoiled frame is asked for again with a NACK (6.2.1.4).
func (c *chip) awaitReply(ctx context.Context, q request) ([]byte, error) {
	deadline := time.Now().Add(q.wait)
	repeated := false
	for range maxStrays {
		f, err := c.receive(ctx, deadline, 2+q.expect)
		if errors.Is(err, ErrTimeout) {
			return nil, errNoReply
		}
		if err != nil {
			return nil, err
		}
		switch f.Kind {
		case Info:
			if f.Data[0] != q.code+1 {
				c.stats.strays.Add(1)
				return nil, fmt.Errorf("reply %02X: %w", f.Data[0], ErrProtocol)
			}
			return f.Data[1:], nil
		case Syntax:
			return nil, ErrSyntax
		case Bad:
			if repeated {
				return nil, errBad
			}
			repeated = true
			c.stats.nacks.Add(1)
			if err := c.t.Flush(); err != nil { // the rest of a frame whose length nobody knows
				return nil, fmt.Errorf("%w: %w", errDead, err)
			}
			if err := c.send(nackFrame[:]); err != nil {
				return nil, err
			}
			if again := time.Now().Add(repeatWait); again.Before(deadline) {
				deadline = again
			}
		default:
			c.stats.strays.Add(1)
		}
	}
	return nil, fmt.Errorf("%d other frames instead of a reply: %w", maxStrays, ErrProtocol)
}

// resync ends whatever the chip is doing (an ACK from the host aborts, 6.2.1.3) and makes it echo a number that was never
// sent before (Diagnose, communication line test, 7.2.1). The chip answers in order, so once the echo is here no reply to an
// older command can follow it. It does not look at the caller's context: an ended transaction must leave the line in order
// too, and the time is bounded by maxSyncs times (ackWait, syncWait and a write).
func (c *chip) resync() error {
	c.stats.resyncs.Add(1)
	c.retries = -1
	var last error
	for range maxSyncs {
		if err := c.send(ackFrame[:]); err != nil {
			return err
		}
		if err := c.t.Flush(); err != nil {
			return fmt.Errorf("%w: %w", errDead, err)
		}
		if last = c.echo(); last == nil || errors.Is(last, errDead) {
			return last
		}
	}
	return fmt.Errorf("%w: no echo in %d attempts: %w", errDead, maxSyncs, last)
}

// echo sends one line test and drops everything until its own answer comes.
func (c *chip) echo() error {
	c.nonce++
	params := binary.BigEndian.AppendUint64([]byte{0x00}, c.nonce) // test number 00: communication line
	frame, err := appendFrame(c.out[:0], cmdDiagnose, params)
	if err != nil {
		return err
	}
	if err := c.send(frame); err != nil {
		return err
	}
	deadline, expect := time.Now().Add(syncWait), 0
	for range maxStrays {
		f, err := c.receive(context.Background(), deadline, expect)
		if err != nil {
			return err
		}
		if f.Kind == ACK {
			expect = 2 + 1 + syncPayload
		}
		if f.Kind == Info && f.Data[0] == cmdDiagnose+1 && bytes.Equal(f.Data[1:], params) {
			return nil
		}
	}
	return fmt.Errorf("%d other frames instead of an echo: %w", maxStrays, ErrProtocol)
}
