package load

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"kith/hub/exchange"
	"kith/hub/registry"
	"kith/internal/access"
	"kith/internal/bulletin"
	"kith/internal/journal"
	"kith/internal/pki"
)

const (
	weighEvery  = 100 * time.Millisecond
	replayLimit = 2 * time.Minute
)

// measureMemory weighs the edge's process: at rest, and while it takes a large roster and delivers a backlog.
func measureMemory(ctx context.Context, b *bench) (err error) {
	argv, note, err := b.edgeProgram(ctx)
	if err != nil {
		return err
	}
	h, err := openHub(ctx, filepath.Join(b.dir, "memory"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	resting, _, err := h.weigh(ctx, "resting", argv, 0, b.size.idle)
	if err != nil {
		return fmt.Errorf("at rest: %w", err)
	}
	b.add(figure{Name: "edge memory, at rest", Value: resting, Unit: mebi, Floor: 64, Aim: 40, Note: join(note, "resident, with hub session; no tailnet yet")})
	if err := h.crowd(ctx, b.size.credentials); err != nil {
		return fmt.Errorf("entering %d people: %w", b.size.credentials, err)
	}
	after, most, err := h.weigh(ctx, "replaying", argv, b.size.backlog, b.size.idle)
	if err != nil {
		return fmt.Errorf("under replay: %w", err)
	}
	b.add(figure{Name: "edge memory, highest under replay", Value: most, Unit: mebi, Floor: 96, Aim: 64,
		Note: join(note, fmt.Sprintf("%d credentials arrive, and again one more; %d leaves leave", b.size.credentials, b.size.backlog))})
	b.add(figure{Name: "edge memory, after replay", Value: after, Unit: mebi, Note: join(note, "resident, with the large roster in force")})
	return nil
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// another enters one person more, so that a second large roster takes the place of the first.
func (h *hub) another(ctx context.Context) error {
	_, err := h.x.Do(ctx, exchange.Order{Change: &registry.Change{Members: []access.Member{{ID: "one-more", Role: access.RoleGuest, Home: house}}}})
	return err
}

// crowd enters people with one card each.
func (h *hub) crowd(ctx context.Context, n int) error {
	d := largeHouse(n, 20)
	c := registry.Change{Members: d.Members, Cards: d.Cards}
	for i := range c.Members {
		c.Members[i].Home = house
	}
	for _, s := range d.Schedules {
		c.Schedules = append(c.Schedules, registry.Schedule{Node: house, Schedule: s})
	}
	for _, g := range d.Grants {
		c.Grants = append(c.Grants, registry.Grant{Node: house, Grant: g})
	}
	_, err := h.x.Do(ctx, exchange.Order{Change: &c})
	return err
}

// weigh runs an edge with a session to this hub. With a backlog it returns after the hub has all of it and the edge has the
// newest roster, and after that one has been replaced by another of its size; now is the median over a time of rest, most the highest since its start.
func (h *hub) weigh(ctx context.Context, id string, argv []string, backlog int, rest time.Duration) (now, most float64, err error) {
	dir := filepath.Join(h.dir, id)
	if _, err := h.x.Do(ctx, exchange.Order{Bundle: &exchange.BundleOrder{Edge: id, Node: house, Dir: dir, Hub: h.x.BrokerAddr()}}); err != nil {
		return 0, 0, err
	}
	f, err := openFront(dir, id, 1, h.x.BrokerAddr())
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if backlog > 0 {
		if err := f.past(ctx, backlog); err != nil {
			return 0, 0, fmt.Errorf("writing the backlog: %w", err)
		}
	}
	c, err := startChild(ctx, argv, "run", "--config", f.config)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := h.delivered(ctx, c, f, uint64(backlog)+1); err != nil {
		return 0, 0, err
	}
	if backlog > 0 {
		if err := h.another(ctx); err != nil {
			return 0, 0, fmt.Errorf("changing the roster: %w", err)
		}
		if err := h.delivered(ctx, c, f, uint64(backlog)+1); err != nil {
			return 0, 0, err
		}
	}
	var seen []float64
	for end := time.Now().Add(rest); len(seen) == 0 || time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(weighEvery):
		}
		if now, most, err = c.memory(); err != nil {
			return 0, 0, err
		}
		seen = append(seen, now)
	}
	return median(seen[len(seen)/2:]), most, nil
}

// past writes leaves that the hub has not seen.
func (f *front) past(ctx context.Context, leaves int) (err error) {
	keys, err := pki.OpenEdge(f.cfg.Identity)
	if err != nil {
		return err
	}
	j, err := journal.Open(ctx, journal.Options{Dir: filepath.Join(f.dir, "state"), Network: network, Node: house, Edge: f.cfg.Edge,
		Signer: keys.Signer, Verifier: keys.Verifier, Cosigner: keys.CosignVerifier})
	if err != nil {
		return err
	}
	return errors.Join(fillJournal(ctx, j, leaves), j.Close())
}

// delivered waits until the hub holds so many leaves of an edge, and the edge the hub's newest roster.
func (h *hub) delivered(ctx context.Context, c *child, f *front, leaves uint64) error {
	document, ok := h.x.Roster(house)
	sum := sha256.Sum256(document)
	for end := time.Now().Add(replayLimit); ; {
		have, err := held(ctx, h.database())
		if err != nil {
			return err
		}
		newest := !ok || f.holds(sum)
		if have[f.cfg.Edge] >= leaves && newest {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %v the hub has %d of %d leaves of %s (newest roster there: %v): %s", replayLimit, have[f.cfg.Edge],
				leaves, f.cfg.Edge, newest, c.text())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(weighEvery):
		}
	}
}

// holds says whether the roster on the edge's disk is the document with this hash: its header names it.
func (f *front) holds(sum [sha256.Size]byte) bool {
	file, err := os.Open(filepath.Join(f.dir, "state", "roster.signed"))
	if err != nil {
		return false
	}
	defer file.Close()
	head := make([]byte, bulletin.MaxNoteBytes)
	n, _ := io.ReadFull(file, head) // a small roster is shorter
	return bytes.Contains(head[:n], fmt.Appendf(nil, "\n%x\n", sum))
}
