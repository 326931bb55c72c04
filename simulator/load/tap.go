package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	edgeboard "kith/edge/board"

	"kith/edge/appliance"
	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/pki"
	"kith/internal/settings"
	"kith/simulator/board"
	"kith/simulator/chip"
)

const (
	tapLimit   = 5 * time.Second        // for the lock to move, or to come back
	tapPulse   = 100 * time.Millisecond // shortest release a door takes, so that it is soon ready for the next person
	betweenTap = 15 * time.Millisecond  // the machine is at rest when somebody comes
	cardsADoor = 3                      // alternating, so that the next one is never the one that still lies there
	tapBytes   = 700                    // a tap's leaf and private part
)

// The physical limit of a tap with a PKOC card, in milliseconds: radio, bus and the card's own signature (docs/ARCHITECTURE.md).
const physicsFast, physicsSlow = 90, 220

// front is a house with virtual hardware: doors, a reader each, and the cards of people who may come in.
type front struct {
	dir    string
	config string
	cfg    appliance.Config
	board  *board.Board
	chips  []*chip.Chip
	fields []*chip.Field
	cards  [][]*chip.Card // by door
	last   atomic.Int64   // monotonic ns when a card handed over the last byte of its newest answer
}

// openFront puts the hardware in place and writes the configuration of an edge for it. With hub empty the edge is alone and
// reads its people from a file; else it is given its identity.
func openFront(dir, id string, doors int, hub string) (*front, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f := &front{dir: dir, config: filepath.Join(dir, "edge.yaml")}
	c := appliance.Config{Network: network, Node: house, Edge: id, Zone: "Europe/Lisbon", Identity: "identity", Hub: hub, Board: "unix:board.sock"}
	people := access.Document{Network: network, Node: house, Zone: c.Zone, Version: 1, Issued: time.Now().Unix()}
	people.Grants = []access.Grant{{ID: "everybody", Group: "members", Zones: []string{"house"}}}
	signals := []string{"tamper"}
	for i := range doors {
		door := fmt.Sprintf("door-%d", i)
		signals = append(signals, board.Door(door)...)
		c.Doors = append(c.Doors, appliance.Door{ID: door, Zones: []string{"house"}, Lock: "fail-secure", Egress: "mechanical",
			Pulse: settings.Duration(tapPulse)})
		c.Readers = append(c.Readers, appliance.Reader{ID: door + "-reader", Door: door, Direction: "pass", PN532: "hsu:" + door + ".tty"})
		var cards []*chip.Card
		for k := range cardsADoor {
			card, id, err := f.card()
			if err != nil {
				return nil, err
			}
			member := fmt.Sprintf("member-%d-%d", i, k)
			people.Members = append(people.Members, access.Member{ID: member, Name: "Somebody", Role: access.RoleResident, Groups: []string{"members"}})
			people.Cards = append(people.Cards, access.Card{ID: id, Member: member})
			cards = append(cards, card)
		}
		f.cards = append(f.cards, cards)
	}
	if hub == "" {
		c.Roster = "roster.yaml"
		if err := writeYAML(filepath.Join(dir, "roster.yaml"), people); err != nil {
			return nil, err
		}
	}
	if err := writeYAML(f.config, c); err != nil {
		return nil, err
	}
	var err error
	if f.cfg, err = appliance.Load(f.config); err != nil {
		return nil, err
	}
	if err := f.plugIn(signals); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func writeYAML(path string, v any) error {
	b, err := settings.Encode(v)
	if err != nil {
		return err
	}
	return pki.WriteFile(path, b, 0o600)
}

// card is a PKOC card that notes when it has answered.
func (f *front) card() (*chip.Card, string, error) {
	key, err := card.NewKey()
	if err != nil {
		return nil, "", err
	}
	k := chip.NewPKOC(key)
	answer := k.Answer
	k.Answer = func(apdu []byte) []byte {
		b := answer(apdu)
		f.last.Store(int64(edgeboard.Now()))
		return b
	}
	id, err := k.ID()
	return k, id, err
}

func (f *front) plugIn(signals []string) (err error) {
	if f.board, err = board.Listen(filepath.Join(f.dir, "board.sock"), signals...); err != nil {
		return err
	}
	for _, d := range f.cfg.Doors {
		field := chip.NewField()
		c, err := chip.Open(field, chip.Options{Link: filepath.Join(f.dir, d.ID+".tty")})
		if err != nil {
			return err
		}
		f.chips, f.fields = append(f.chips, c), append(f.fields, field)
	}
	return nil
}

func (f *front) close() error {
	var errs []error
	for _, c := range f.chips {
		errs = append(errs, c.Close())
	}
	if f.board != nil {
		errs = append(errs, f.board.Close())
	}
	return errors.Join(errs...)
}

// tap holds a card at a door and returns the time from the card's last byte to the lock.
func (f *front) tap(ctx context.Context, door, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, tapLimit)
	defer cancel()
	lock := f.cfg.Doors[door].ID + "/lock"
	if _, err := f.board.Await(ctx, lock, 0); err != nil {
		return 0, err
	}
	k := f.cards[door][n%cardsADoor]
	watch := f.board.Watch()
	defer watch.Stop()
	if err := f.fields[door].Place(k); err != nil {
		return 0, err
	}
	defer f.fields[door].Lift(k)
	change, err := watch.Await(ctx, lock, 1)
	if err != nil {
		return 0, err
	}
	return change.At - time.Duration(f.last.Load()), nil
}

// measureTap lets people in through the assembled edge: virtual cards that answer at once, readers over pseudo-terminals,
// records durable before the lock moves. Turn by turn the two things that no tap can do without are measured bare.
func measureTap(ctx context.Context, b *bench) (err error) {
	dir := filepath.Join(b.dir, "tap")
	f, err := openFront(dir, "front", b.size.doors, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	a, err := appliance.Open(ctx, f.cfg, appliance.Options{StateDir: filepath.Join(dir, "state"), Version: "load", Clock: appliance.TrustedClock()})
	if err != nil {
		return err
	}
	under, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- a.Run(under) }()
	defer func() {
		stop()
		err = errors.Join(err, <-done)
	}()
	floor, err := openFloor(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, floor.close()) }()
	var ours, bare []time.Duration
	for n := range b.size.taps + b.size.doors {
		time.Sleep(betweenTap)
		took, err := f.tap(ctx, n%b.size.doors, n/b.size.doors)
		if err != nil {
			return fmt.Errorf("tap %d: %w", n, err)
		}
		least, err := floor.measure()
		if err != nil {
			return fmt.Errorf("bare exchange and insert: %w", err)
		}
		if n >= b.size.doors { // each reader's first card finds everything cold
			ours, bare = append(ours, took), append(bare, least)
		}
	}
	const peer = "bare pty exchange + SQLite insert"
	p50, p99 := quantile(ours, 500), quantile(ours, 990)
	b.add(figure{Name: "tap: last card byte to lock, p50", Value: p50, Unit: millis, Bare: quantile(bare, 500), Peer: peer, Floor: 2, Aim: 0.5,
		Note: fmt.Sprintf("%d taps; %.2g-%.2g%% of the %d-%d ms that radio, bus and card need", len(ours), 100*p50/physicsSlow, 100*p50/physicsFast, physicsFast, physicsSlow)})
	b.add(figure{Name: "tap: last card byte to lock, p99", Value: p99, Unit: millis, Bare: quantile(bare, 990), Peer: peer, Floor: 10, Aim: 5})
	return nil
}

// tapFloor is a raw exchange with a virtual reader of its own and a bare insert of a tap's bytes.
type tapFloor struct {
	chip *chip.Chip
	line *os.File
	db   *bare
	row  []byte
}

// Frames of the PN532 (user manual 6.2.1): wake-up with SAMConfiguration, and GetFirmwareVersion; the answers are an ACK
// and a frame of so many bytes.
var (
	wakeFrames     = []byte{0x55, 0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x00, 0xFF, 0x05, 0xFB, 0xD4, 0x14, 0x01, 0x14, 0x01, 0x02, 0x00}
	firmwareFrame  = []byte{0x00, 0x00, 0xFF, 0x02, 0xFE, 0xD4, 0x02, 0x2A, 0x00}
	wakeAnswer     = 6 + 9
	firmwareAnswer = 6 + 13
)

func openFloor(ctx context.Context, dir string) (*tapFloor, error) {
	c, err := chip.Open(chip.NewField(), chip.Options{})
	if err != nil {
		return nil, err
	}
	f := &tapFloor{chip: c}
	if f.line, err = os.OpenFile(c.Path(), os.O_RDWR, 0); err != nil {
		return nil, errors.Join(err, f.close())
	}
	if f.db, err = openBare(ctx, filepath.Join(dir, "bare.db")); err != nil {
		return nil, errors.Join(err, f.close())
	}
	r, err := tapRecord(0)
	if err == nil {
		f.row = append(f.row, r.Body...)
		f.row = append(f.row, make([]byte, tapBytes-len(r.Body))...)
		err = f.exchange(wakeFrames, wakeAnswer)
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *tapFloor) exchange(frame []byte, answer int) error {
	if _, err := f.line.Write(frame); err != nil {
		return err
	}
	_, err := io.ReadFull(f.line, make([]byte, answer))
	return err
}

func (f *tapFloor) measure() (time.Duration, error) {
	began := time.Now()
	if err := f.exchange(firmwareFrame, firmwareAnswer); err != nil {
		return 0, err
	}
	if _, err := f.db.insert(f.row); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

func (f *tapFloor) close() error {
	var errs []error
	if f.line != nil {
		errs = append(errs, f.line.Close())
	}
	if f.db != nil {
		errs = append(errs, f.db.close())
	}
	return errors.Join(append(errs, f.chip.Close())...)
}
