package pn532

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"go.bug.st/serial"

	"kith/edge/reader"
	"kith/internal/card"
)

// peer is a chip at the other end of a serial line, byte for byte, in memory. It lives inside a synctest bubble: its time is
// the bubble's.
type peer struct {
	mu      sync.Mutex
	rx      []byte    // from the host, not understood yet
	cards   []*tagged // in the field
	active  *tagged   // target 1 of the last list
	retries byte
	pending *time.Timer // a running list command
	waiting func()      // runs when the field changes
	last    []byte
	line    *line // the line that is plugged in
	codes   []byte
	apdus   int
	// fault sees every command before the chip does; true means it dealt with it.
	fault func(p *peer, code byte, params []byte) bool
}

// tagged is a card before the antenna.
type tagged struct {
	uid   []byte
	sak   byte
	pkoc  *card.PKOCCard
	delay time.Duration
	raw   func(apdu []byte) []byte
}

// line is one opened port. It satisfies port.
type line struct {
	p       *peer
	in      chan []byte
	rest    []byte
	timeout time.Duration
	closed  chan struct{}
	once    sync.Once
}

var errPulled = errors.New("plug is out")

func (p *peer) plug() *line {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rx, p.line = nil, &line{p: p, in: make(chan []byte, 4096), closed: make(chan struct{})}
	return p.line
}

func (l *line) Read(b []byte) (int, error) {
	if len(l.rest) == 0 {
		t := time.NewTimer(l.timeout)
		defer t.Stop()
		select {
		case l.rest = <-l.in:
		case <-l.closed:
			return 0, errPulled
		case <-t.C:
			return 0, nil
		}
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *line) Write(b []byte) (int, error) {
	select {
	case <-l.closed:
		return 0, errPulled
	default:
	}
	l.p.hear(l, b)
	return len(b), nil
}

func (l *line) Close() error                         { l.once.Do(func() { close(l.closed) }); return nil }
func (l *line) SetMode(*serial.Mode) error           { return nil }
func (l *line) SetReadTimeout(d time.Duration) error { l.timeout = d; return nil }
func (l *line) ResetInputBuffer() error {
	l.rest = nil
	for {
		select {
		case <-l.in:
		default:
			return nil
		}
	}
}

// hear takes the host's bytes and acts on whole frames.
func (p *peer) hear(l *line, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l != p.line {
		return
	}
	p.rx = append(p.rx, b...)
	for {
		i := bytes.Index(p.rx, startCode)
		if i < 0 || len(p.rx) < i+5 {
			return
		}
		f := p.rx[i+2:]
		switch {
		case f[0] == 0x00 && f[1] == 0xFF:
			p.rx = p.rx[i+4:]
			p.abort()
			continue
		case f[0] == 0xFF && f[1] == 0x00:
			p.rx = p.rx[i+4:]
			p.say(p.last)
			continue
		}
		size, head := int(f[0]), 2
		if f[0] == 0xFF && f[1] == 0xFF {
			size, head = int(f[2])<<8|int(f[3]), 5
		}
		if len(f) < head+size+1 {
			return
		}
		command := bytes.Clone(f[head+1 : head+size])
		p.rx = f[head+size+1:]
		p.abort()
		p.codes = append(p.codes, command[0])
		if p.fault == nil || !p.fault(p, command[0], command[1:]) {
			p.say(ackFrame[:])
			p.run(command[0], command[1:])
		}
	}
}

func (p *peer) abort() {
	p.waiting = nil
	if p.pending != nil {
		p.pending.Stop()
		p.pending = nil
	}
}

func (p *peer) say(b []byte) {
	select {
	case p.line.in <- bytes.Clone(b):
	default:
		panic("the host does not read")
	}
}

func (p *peer) reply(code byte, data ...byte) {
	p.last = chipFrame(append([]byte{code + 1}, data...)...)
	p.say(p.last)
}

// run answers as a PN532 does.
func (p *peer) run(code byte, params []byte) {
	switch code {
	case cmdDiagnose:
		if params[0] == 0x06 {
			if len(p.cards) > 0 && p.cards[0] == p.active && p.active.sak&0x20 != 0 {
				p.reply(code, 0x00)
			} else {
				p.reply(code, 0x01)
			}
			return
		}
		p.reply(code, params...)
	case cmdGetFirmware:
		p.reply(code, 0x32, 0x01, 0x06, 0x07)
	case cmdRFConfiguration:
		if params[0] == 0x05 {
			p.retries = params[3]
		}
		p.reply(code)
	case cmdInList:
		p.list(code, int(params[0]))
	case cmdInDataExchange:
		p.exchange(code, params)
	case cmdInRelease, cmdInPSL:
		p.reply(code, 0x00)
	default:
		p.reply(code)
	}
}

func (p *peer) list(code byte, most int) {
	if len(p.cards) == 0 {
		p.waiting = func() { p.list(code, most) }
		p.pending = time.AfterFunc(time.Duration(p.retries)*2*time.Millisecond, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.waiting != nil {
				p.abort()
				p.reply(code, 0)
			}
		})
		return
	}
	p.abort()
	n := min(most, len(p.cards))
	p.active = p.cards[0]
	data := []byte{byte(n)}
	for i, c := range p.cards[:n] {
		data = append(data, byte(i+1), 0x00, 0x44, c.sak, byte(len(c.uid)))
		data = append(data, c.uid...)
		if c.sak&0x20 != 0 {
			data = append(data, 5, 0x78, 0x33, 0x70, 2)
		}
	}
	p.reply(code, data...)
}

func (p *peer) exchange(code byte, params []byte) {
	tg := int(params[0] &^ statusMore)
	if tg < 1 || tg > len(p.cards) {
		p.reply(code, 0x01)
		return
	}
	c := p.cards[tg-1]
	p.apdus++
	answer := []byte{0x6A, 0x82}
	switch {
	case c.raw != nil:
		answer = c.raw(params[1:])
	case c.pkoc != nil:
		answer = c.pkoc.Transceive(params[1:])
	}
	if c.delay == 0 {
		p.reply(code, append([]byte{0}, answer...)...)
		return
	}
	p.waiting = func() {}
	p.pending = time.AfterFunc(c.delay, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.waiting != nil {
			p.abort()
			p.reply(code, append([]byte{0}, answer...)...)
		}
	})
}

// field puts these cards, and no others, before the antenna.
func (p *peer) field(cards ...*tagged) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cards = cards
	if w := p.waiting; w != nil && len(cards) > 0 {
		w()
	}
}

func (p *peer) misbehave(f func(p *peer, code byte, params []byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// pull takes the plug out.
func (p *peer) pull() { p.mu.Lock(); defer p.mu.Unlock(); p.line.Close() }

// book is a sink that proves what it gets and writes down what happened.
type book struct {
	mu    sync.Mutex
	lines []string
	at    []time.Time
	use   func(ctx context.Context, p reader.Presentation) string
}

func (b *book) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, fmt.Sprintf(format, args...))
	b.at = append(b.at, time.Now())
}

func (b *book) Felt()                 { b.note("felt") }
func (b *book) Gone()                 { b.note("gone") }
func (b *book) Unreadable(why string) { b.note("unreadable") }
func (b *book) State(up bool, why string) {
	if up != (why == "") {
		b.note("state without the right reason: %v %q", up, why)
	}
	if up {
		b.note("up")
	} else {
		b.note("down")
	}
}

func (b *book) Presented(ctx context.Context, p reader.Presentation) {
	if b.use != nil {
		b.note("%s", b.use(ctx, p))
		return
	}
	if p.Channels[0] == nil {
		b.note("uid %x", p.Targets[0].UID)
		return
	}
	_, _, err := card.Prove(ctx, p.Channels[0], card.ReaderID{}, nil)
	switch {
	case err == nil:
		b.note("proved")
	case errors.Is(err, card.ErrChannel):
		b.note("lost")
	default:
		b.note("refused")
	}
}

// count is how often a line was written; take empties the book.
func (b *book) count(want string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lines {
		if l == want {
			n++
		}
	}
	return n
}

func (b *book) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.lines
	b.lines, b.at = nil, nil
	return l
}

// bench is a running reader with its chip and its book.
type bench struct {
	*peer
	*book
	r    *Reader
	stop func()
}

// start runs a reader against a new peer until the test ends. Call it inside a bubble.
func start(t *testing.T, opts Options) *bench {
	t.Helper()
	b := &bench{peer: &peer{}, book: &book{}}
	b.r = New(func() (Transport, error) { return newHSU(b.plug(), "in memory", HSUOptions{}), nil }, opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.r.Run(ctx, b.book) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		begin := time.Now()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("stopping took %v", took)
		}
	})
	t.Cleanup(b.stop)
	time.Sleep(10 * time.Millisecond)
	if got := b.take(); len(got) != 1 || got[0] != "up" {
		t.Fatalf("after start: %q", got)
	}
	return b
}

func newTagged(t testing.TB) *tagged {
	t.Helper()
	key, err := card.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return &tagged{uid: []byte{4, 1, 2, 3, 4, 5, 6}, sak: 0x20, pkoc: card.NewPKOCCard(key)}
}

var _ io.ReadWriteCloser = (*line)(nil)
