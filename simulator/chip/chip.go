// Package chip owns a virtual PN532: a reader chip that speaks its serial host protocol (HSU) on
// a pseudo-terminal, with a field of virtual cards before its antenna and, when asked, the faults
// that readers in the field have.
//
// It promises to answer as the chip does (PN532 user manual, UM0701-02) to what drivers really
// send, and to hold at most one frame, one command and one reply. A crash leaves at most a stale
// symbolic link. It never looks into the driver: whoever opens the terminal is served.
package chip

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Timing of the chip.
const (
	defaultAttempt = 2 * time.Millisecond   // one activation attempt into an empty field
	defaultReturn  = 200 * time.Millisecond // from hang-up to return
	staleAfter     = 20 * time.Millisecond  // a late reply leaves on its own after this
	heardBound     = 32                     // inputs waiting for the chip
	readBytes      = 512                    // one read of the line
)

// Event is something a watcher may want to print.
type Event struct {
	Kind  string // awake, listed, apdu, left, released, aborted, hung-up, returned
	Count int    // targets listed, bytes of the APDU, exchanges until a card left, or the target released
}

// Options of a chip; the zero value is a well-behaved reader without a symbolic link.
type Options struct {
	// Link is a path at which a symbolic link to the terminal stands, also after a hang-up.
	Link string
	// Attempt is the time of one activation attempt; 0 means 2 ms.
	Attempt time.Duration
	// ReturnAfter is how long a hang-up lasts; 0 means 200 ms, less than 0 until Return.
	ReturnAfter time.Duration
	// Seed draws the garbage of the garbage fault.
	Seed uint64
	// Observe is called on the chip's goroutine and must not block; nil means nobody watches.
	Observe func(Event)
	// Trace sees every command (code and parameters) on the chip's goroutine.
	Trace func(command []byte)
}

// Chip is a running virtual PN532.
type Chip struct {
	field *Field
	opts  Options
	ctl   chan func()
	input chan heard
	quit  chan struct{}
	done  chan struct{}

	// Everything below belongs to the chip's goroutine.
	line    *pty // nil while hung up
	awake   bool
	state   state
	job     *job
	fault   Fault
	left    int    // commands the fault still has; negative: without end
	last    []byte // last reply frame, for a NACK
	stale   []byte // reply to an aborted command, still to leave
	staleAt time.Time
	back    time.Time // when a hung-up line returns
	noise   *rand.Rand
	out     []byte // scratch
}

// job is a command that could not be answered at once.
type job struct {
	code   byte
	at     time.Time     // when expire is due; zero: never
	try    func() []byte // asked at every change of the field; nil reply: wait on
	expire func() []byte
	late   bool // its reply is to come after an abort only
}

// Open starts a chip on a new pseudo-terminal.
func Open(field *Field, opts Options) (*Chip, error) {
	if opts.Attempt == 0 {
		opts.Attempt = defaultAttempt
	}
	if opts.ReturnAfter == 0 {
		opts.ReturnAfter = defaultReturn
	}
	c := &Chip{
		field: field,
		opts:  opts,
		ctl:   make(chan func()),
		input: make(chan heard, heardBound),
		quit:  make(chan struct{}),
		done:  make(chan struct{}),
		noise: rand.New(rand.NewPCG(opts.Seed, 0x504E353332)),
	}
	if err := c.connect(); err != nil {
		return nil, fmt.Errorf("opening virtual reader: %w", err)
	}
	go c.run()
	return c, nil
}

// Path is the terminal a driver opens now; empty while hung up.
func (c *Chip) Path() (path string) {
	c.do(func() {
		if c.line != nil {
			path = c.line.path
		}
	})
	return path
}

// HangUp closes the line, as a pulled plug does; it returns by itself after ReturnAfter.
func (c *Chip) HangUp() { c.do(c.hangUp) }

// Return ends a hang-up now.
func (c *Chip) Return() (err error) {
	c.do(func() {
		if c.line == nil {
			err = c.connect()
		}
	})
	return err
}

// Close ends the chip and removes its link.
func (c *Chip) Close() error {
	select {
	case <-c.done:
		return nil
	default:
	}
	c.do(func() {
		select {
		case <-c.quit:
		default:
			close(c.quit)
		}
	})
	<-c.done
	if c.opts.Link != "" {
		if err := os.Remove(c.opts.Link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("closing virtual reader: %w", err)
		}
	}
	return nil
}

// do runs f on the chip's goroutine and waits; after Close it does nothing.
func (c *Chip) do(f func()) {
	ran := make(chan struct{})
	select {
	case c.ctl <- func() { f(); close(ran) }:
		<-ran
	case <-c.done:
	}
}

func (c *Chip) observe(kind string, count int) {
	if c.opts.Observe != nil {
		c.opts.Observe(Event{Kind: kind, Count: count})
	}
}

// connect opens a new line and resets the chip: it sleeps until the host sends the preamble
// (7.2.11, LowVbat mode on HSU).
func (c *Chip) connect() error {
	line, err := openPTY()
	if err != nil {
		return err
	}
	if c.opts.Link != "" {
		if err := link(c.opts.Link, line.path); err != nil {
			line.close()
			return err
		}
	}
	c.line, c.awake, c.job, c.last, c.stale = line, false, nil, nil, nil
	c.state = newState()
	go c.listen(line)
	return nil
}

func (c *Chip) hangUp() {
	if c.line == nil {
		return
	}
	c.line.close()
	c.line, c.job, c.stale = nil, nil, nil
	if c.opts.ReturnAfter > 0 {
		c.back = time.Now().Add(c.opts.ReturnAfter)
	} else {
		c.back = time.Time{}
	}
	c.observe("hung-up", 0)
}

// listen owns the reading side of one life of the line.
func (c *Chip) listen(line *pty) {
	var s scanner
	buf := make([]byte, readBytes)
	for {
		n, err := line.master.Read(buf)
		for _, b := range buf[:n] {
			h, ok := s.feed(b)
			if ok && !c.say(h, line) {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				c.say(heard{kind: inputLost}, line)
			}
			return
		}
	}
}

func (c *Chip) say(h heard, line *pty) bool {
	h.life = line
	select {
	case c.input <- h:
		return true
	case <-c.done:
		return false
	}
}

// run owns the chip.
func (c *Chip) run() {
	defer close(c.done)
	defer func() {
		if c.line != nil {
			c.line.close()
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var due <-chan time.Time
		if at := c.nextDue(); !at.IsZero() {
			timer.Reset(time.Until(at))
			due = timer.C
		}
		select {
		case <-c.quit:
			return
		case h := <-c.input:
			if h.life == c.line && c.line != nil {
				c.hear(h)
			}
		case <-c.field.changed:
			c.retry()
		case <-due:
			c.tick(time.Now())
		case f := <-c.ctl:
			f()
		}
	}
}

// nextDue is when the chip must act by itself; zero: not at all.
func (c *Chip) nextDue() time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if c.line == nil {
		sooner(c.back)
		return at
	}
	if c.job != nil {
		sooner(c.job.at)
	}
	if c.stale != nil {
		sooner(c.staleAt)
	}
	return at
}

func (c *Chip) tick(now time.Time) {
	if c.line == nil {
		if !c.back.IsZero() && !now.Before(c.back) {
			if err := c.connect(); err != nil {
				c.back = now.Add(defaultReturn)
				return
			}
			c.observe("returned", 0)
		}
		return
	}
	if c.stale != nil && !now.Before(c.staleAt) {
		c.flushStale()
	}
	if j := c.job; j != nil && !j.at.IsZero() && !now.Before(j.at) {
		c.finish(j, j.expire())
	}
}

// retry asks a waiting command again after the field changed.
func (c *Chip) retry() {
	if j := c.job; j != nil && j.try != nil {
		if reply := j.try(); reply != nil {
			c.finish(j, reply)
		}
	}
}

func (c *Chip) finish(j *job, reply []byte) {
	c.job = nil
	c.reply(j.code, reply)
}

// hear acts on what the host said.
func (c *Chip) hear(h heard) {
	switch h.kind {
	case inputWake:
		if !c.awake {
			c.awake = true
			c.observe("awake", 0)
		}
	case inputACK:
		c.abort()
	case inputNACK:
		if c.last != nil {
			c.write(c.last)
		}
	case inputCommand:
		if c.awake {
			c.command(h.data)
		}
	case inputLost:
		c.hangUp()
	}
}

// abort ends a running command (6.2.1.3). A host also sends ACK to confirm a reply; then there
// is nothing to end.
func (c *Chip) abort() {
	if c.job != nil {
		if c.job.late {
			c.stale, c.staleAt = c.job.expire(), time.Now().Add(staleAfter)
		}
		c.job = nil
		c.observe("aborted", 0)
	}
	c.state.applyRate()
}

// command runs one command under the fault in force.
func (c *Chip) command(data []byte) {
	if !c.state.rateAgrees(c.line) {
		return // garbled on a line of two speeds
	}
	if c.opts.Trace != nil {
		c.opts.Trace(data)
	}
	c.job = nil // a new command takes the place of a running one
	fault := c.takeFault()
	if !c.acknowledge(fault) {
		return
	}
	if c.stale != nil {
		c.flushStale()
	}
	code := data[0]
	reply, j := c.execute(code, data[1:])
	if fault != FaultNone {
		c.replyFaulty(fault, code, reply, j)
		return
	}
	if reply == nil && j != nil {
		j.code = code
		c.job = j
		return
	}
	c.reply(code, reply)
}

// reply sends the data of a reply behind its TFI and code; nil data means the error frame.
func (c *Chip) reply(code byte, data []byte) {
	if data == nil {
		c.last = errorFrame
	} else {
		c.out = append(append(c.out[:0], chipToHost, code+1), data...)
		c.last = appendFrame(make([]byte, 0, len(c.out)+frameOverhead), c.out)
	}
	c.write(c.last)
	if code == cmdPowerDown && data != nil {
		c.awake = false
	}
}

func (c *Chip) flushStale() {
	c.write(c.stale)
	c.stale = nil
}

func (c *Chip) write(b []byte) {
	if c.line == nil {
		return
	}
	if err := c.line.write(b); err != nil {
		c.hangUp()
	}
}

// rates are the serial rates of SetSerialBaudRate by its parameter (7.2.9), as terminal flags.
func rate(br byte) (flag uint32, ok bool) {
	rates := [...]uint32{unix.B9600, unix.B19200, unix.B38400, unix.B57600, unix.B115200, unix.B230400, unix.B460800, unix.B921600}
	if int(br) >= len(rates) {
		return 0, false // 1 288 000 baud has no terminal flag
	}
	return rates[br], true
}
