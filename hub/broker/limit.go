package broker

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// bucket is a token bucket: rate tokens per second, at most burst saved up. It is a value with its owner's lock; the
// time comes from outside.
type bucket struct {
	rate, burst int64
	level       int64 // tokens times nanoseconds per second, so that no division rounds
	at          time.Time
}

// Largest rate and burst: their products with a second of nanoseconds still fit.
const (
	maxRate  = 1 << 31
	maxBurst = 1 << 32
)

func newBucket(rate, burst int, now time.Time) bucket {
	b := bucket{rate: min(int64(rate), maxRate), burst: min(int64(burst), maxBurst), at: now}
	b.level = b.burst * int64(time.Second)
	return b
}

func (b *bucket) fill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		full := b.burst * int64(time.Second)
		// A long pause fills the bucket; reckoning it out could overflow.
		if d > time.Duration((full-b.level)/b.rate) {
			b.level = full
		} else {
			b.level = min(full, b.level+int64(d)*b.rate)
		}
		b.at = now
	}
}

// take removes n tokens, going into debt if need be, and says how long to wait until the debt is paid.
func (b *bucket) take(n int, now time.Time) time.Duration {
	b.fill(now)
	b.level -= int64(n) * int64(time.Second)
	if b.level >= 0 {
		return 0
	}
	return time.Duration(-b.level / b.rate)
}

// try removes a token if there is one.
func (b *bucket) try(now time.Time) bool {
	b.fill(now)
	if b.level < int64(time.Second) {
		return false
	}
	b.level -= int64(time.Second)
	return true
}

func (b *bucket) full(now time.Time) bool {
	b.fill(now)
	return b.level == b.burst*int64(time.Second)
}

// maxSources bounds the sources remembered; beyond it strangers are refused until some are forgotten.
const maxSources = 4096

// porch counts who stands outside. A source is an IPv4 address or an IPv6 /64, which one subscriber has for itself.
type porch struct {
	limits Limits

	mu      sync.Mutex
	closed  bool
	total   int
	sources map[string]*source
	conns   map[net.Conn]struct{}
}

type source struct {
	halfOpen int
	rate     bucket
}

func newPorch(l Limits) *porch {
	return &porch{limits: l, sources: make(map[string]*source), conns: make(map[net.Conn]struct{})}
}

func sourceOf(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	ip := ap.Addr().Unmap()
	if ip.Is4() {
		return ip.String()
	}
	p, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ip.String()
	}
	return p.String()
}

// enter admits a connection to the porch, or says why not.
func (p *porch) enter(conn net.Conn, now time.Time) (refusal string) {
	key := sourceOf(conn.RemoteAddr())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return "closing"
	}
	s := p.sources[key]
	if s == nil {
		if len(p.sources) >= maxSources && !p.sweep(now) {
			return "too many sources"
		}
		s = &source{rate: newBucket(p.limits.ConnectRate, 2*p.limits.ConnectRate, now)}
		p.sources[key] = s
	}
	switch {
	case p.total >= p.limits.HalfOpenTotal:
		return "too many half-open connections"
	case s.halfOpen >= p.limits.HalfOpen:
		return "too many half-open connections of this source"
	case !s.rate.try(now):
		return "too many connections of this source"
	}
	s.halfOpen++
	p.total++
	p.conns[conn] = struct{}{}
	return ""
}

// leave ends a connection's stay on the porch: it became a session or went away.
func (p *porch) leave(conn net.Conn, now time.Time) {
	key := sourceOf(conn.RemoteAddr())
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.conns[conn]; !ok {
		return
	}
	delete(p.conns, conn)
	p.total--
	if s := p.sources[key]; s != nil {
		if s.halfOpen--; s.halfOpen == 0 && s.rate.full(now) {
			delete(p.sources, key)
		}
	}
}

// sweep forgets sources that have nothing open and a full bucket.
func (p *porch) sweep(now time.Time) bool {
	for key, s := range p.sources {
		if s.halfOpen == 0 && s.rate.full(now) {
			delete(p.sources, key)
		}
	}
	return len(p.sources) < maxSources
}

func (p *porch) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for conn := range p.conns {
		conn.Close()
	}
}

// budget is a number of bytes that many share. A taker waits until enough is free or its own done channel closes.
type budget struct {
	mu      sync.Mutex
	size    int
	free    int
	waiting bool
	changed chan struct{} // closed and replaced when something was given back and somebody waits
}

func newBudget(size int) *budget {
	return &budget{size: size, free: size, changed: make(chan struct{})}
}

func (b *budget) take(n int, done <-chan struct{}) bool {
	for {
		b.mu.Lock()
		if b.free >= n {
			b.free -= n
			b.mu.Unlock()
			return true
		}
		b.waiting = true
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-done:
			return false
		}
	}
}

func (b *budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	if b.waiting {
		b.waiting = false
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

func (b *budget) used() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size - b.free
}

// share is what one session holds of its own budget and of everybody's. When the session ends, all of it goes back, also
// for messages that got lost inside; one that is taken later gives back nothing twice.
type share struct {
	own  *budget
	all  *budget
	each int // least cost of a message, bytes: bounds their number as well

	mu   sync.Mutex
	held int
	dead bool
}

func newShare(l Limits, all *budget) *share {
	return &share{own: newBudget(l.UpBytes), all: all, each: l.UpBytes / l.UpMessages}
}

func (s *share) take(n int, done <-chan struct{}) bool {
	n = max(n, s.each)
	if !s.own.take(n, done) {
		return false
	}
	if !s.all.take(n, done) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		s.all.give(n)
		return false
	}
	s.held += n
	return true
}

func (s *share) give(n int) {
	s.mu.Lock()
	n = min(max(n, s.each), s.held)
	s.held -= n
	s.mu.Unlock()
	if n > 0 {
		s.all.give(n)
		s.own.give(n)
	}
}

func (s *share) end() {
	s.mu.Lock()
	n := s.held
	s.held, s.dead = 0, true
	s.mu.Unlock()
	if n > 0 {
		s.all.give(n)
	}
}
