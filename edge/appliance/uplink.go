package appliance

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"kith/edge/link"
	"kith/edge/outbox"
	"kith/edge/roster"
	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/wire"
)

// lagLimit is how long leaves may wait for a receipt before the health tree says so.
const lagLimit = 10 * time.Minute

// uplink is everything between this edge and the hub: the session, and the outbox that makes sense of it.
type uplink struct {
	link   *link.Link // nil when the session was given
	outbox *outbox.Outbox
	lag    func(now time.Time) error
}

func (a *Appliance) openUplink(context.Context) error {
	if a.cfg.Hub == "" {
		return nil
	}
	u := &uplink{}
	session := a.opt.Session
	if session == nil {
		server := a.cfg.HubName
		if server == "" {
			host, _, err := net.SplitHostPort(a.cfg.Hub)
			if err != nil {
				return err
			}
			server = host
		}
		l, err := link.New(link.Options{Broker: a.cfg.Hub, Edge: a.cfg.Edge, TLS: a.keys.tls(server), Log: a.log})
		if err != nil {
			return err
		}
		u.link, session = l, l
	}
	var seed [8]byte
	rand.Read(seed[:])
	people := a.people.(*roster.Store)
	u.outbox = outbox.NewOutbox(outbox.Options{
		Settings: outbox.Settings{Boot: a.journal.Boot(), Seed: binary.LittleEndian.Uint64(seed[:])},
		Hand: outbox.Hand{
			Log: a.journal, Roster: &rosterDesk{store: people, assembler: people.Assembler()}, Boot: a.journal.Boot(), Disk: a.start.Disk,
			Origin: func(e event.Epoch) string { return wire.Origin(a.cfg.Network, a.cfg.Node, a.cfg.Edge, e) },
			Own:    a.keys.verifier, Witness: a.keys.witness, Degraded: a.degraded, Logger: a.log,
		},
		Changed: a.journal.Changed(), Session: session,
	})
	if a.spare == nil {
		a.recorder.met = u.outbox.Met()
	}
	u.lag = lagWatch(a.journal)
	a.uplink = u
	return nil
}

// degraded tells the hub that an operator should look at this edge.
func (a *Appliance) degraded() bool {
	if a.journal.Space().State != journal.SpaceOK || a.eraser.err() != nil {
		return true
	}
	if a.health.config.Load() != nil || a.http != nil && a.http.away() != nil {
		return true
	}
	for _, p := range a.states {
		if s := p.Load(); s == nil || !s.up {
			return true
		}
	}
	_, quality, _ := a.clock()
	return quality != event.Synced
}

func (u *uplink) stages() []stage {
	var s []stage
	if u.link != nil {
		s = append(s, stage{"link", u.link.Run})
	}
	return append(s, stage{"outbox", u.outbox.Run})
}

// trouble is what the health tree says of the session and of the receipts that come through it.
func (u *uplink) trouble() (session, receipts error) {
	r := u.outbox.Report()
	if u.link != nil {
		if s := u.link.Status(); !s.Up {
			session = fmt.Errorf("no session with the hub; facts wait in the journal: %s", s.Err)
		}
	}
	switch {
	case r.Duplicate:
		receipts = errors.New("TAMPER: another device lives with this edge's key; ask the operator to enrol this one again")
	case r.Held:
		receipts = errors.New("held: the hub keeps our leaves and counts none until an operator decides")
	case r.State == outbox.Away:
		receipts = errors.New("the hub does not know this edge, or has retired it")
	default:
		receipts = u.lag(time.Now())
	}
	return session, receipts
}

// lagWatch notices leaves that have waited for a receipt too long.
func lagWatch(j *journal.Journal) func(time.Time) error {
	var covered atomic.Pointer[time.Time]
	return func(now time.Time) error {
		head := j.Head()
		size, _ := j.Receipt(head.Epoch)
		last := covered.Load()
		if size >= head.Size || last == nil {
			covered.Store(&now)
			return nil
		}
		if wait := now.Sub(*last); wait > lagLimit {
			return fmt.Errorf("%d leaves wait since %s", head.Size-size, last.Format(time.DateTime))
		}
		return nil
	}
}

// rosterDesk takes what the hub sends about people: a signed header first, then the parts of the document, one at a time. It
// belongs to the outbox's goroutine.
type rosterDesk struct {
	store     *roster.Store
	assembler roster.Assembler
	ticket    []byte // the newest that was taken
}

func (d *rosterDesk) Version() uint64 { return d.store.Held().Version }

func (d *rosterDesk) Offer(_ context.Context, note []byte) (outbox.Want, error) {
	h, err := d.store.VerifyHeader(note)
	if err != nil {
		return outbox.Want{}, err
	}
	if err := d.store.Wants(h); err != nil {
		if h == d.store.Held() {
			return outbox.Want{}, nil // already in force
		}
		return outbox.Want{}, err
	}
	d.assembler.Offer(h, note)
	return d.next(), nil
}

func (d *rosterDesk) Part(_ context.Context, version, part, parts uint64, b []byte) (outbox.Want, error) {
	h, _, wanted := d.assembler.Next()
	if !wanted || h.Version != version || part >= uint64(h.Parts()) || parts != uint64(h.Parts()) {
		return d.next(), nil
	}
	note, document, err := d.assembler.Part(h, int(part), b)
	if err != nil {
		return outbox.Want{}, err
	}
	if document != nil {
		if err := d.store.Install(note, document); err != nil {
			return outbox.Want{}, err
		}
	}
	return d.next(), nil
}

func (d *rosterDesk) next() outbox.Want {
	h, part, wanted := d.assembler.Next()
	return outbox.Want{More: wanted, Version: h.Version, Part: uint64(part)}
}

// Ticket takes the hub's word on how long the roster may be relied on. One for a roster that is still on its way is kept
// by the store until that comes.
func (d *rosterDesk) Ticket(_ context.Context, note []byte) error {
	if bytes.Equal(note, d.ticket) {
		return nil // it comes with every hello for ten minutes; proving it once is enough
	}
	switch err := d.store.InstallTicket(note); {
	case errors.Is(err, roster.ErrAhead):
		return nil
	case err != nil:
		return err
	}
	d.ticket = bytes.Clone(note)
	return nil
}
