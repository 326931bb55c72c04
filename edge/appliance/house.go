package appliance

import (
	"context"
	"encoding/hex"
	"time"

	"kith/edge/roster"
	"kith/internal/access"
	"kith/internal/event"
	"kith/internal/journal"
)

// Timing of what is looked after beside the taps.
const (
	houseEvery = time.Second
	pruneEvery = time.Hour
)

// keepHouse notices what no room reports by itself: the disk filling up, a roster that came into force, leaves that may
// go. It works until ctx ends.
func (a *Appliance) keepHouse(ctx context.Context) {
	tick := time.NewTicker(houseEvery)
	defer tick.Stop()
	space := journal.SpaceOK
	var inForce *access.Roster
	var pruned time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if s := a.journal.Space().State; s != space {
				space = s
				_, _, lost := a.recorder.trouble()
				a.log.Warn("disk changed", "state", s)
				a.record(event.KindStorage, event.Storage{State: s, Lost: lost})
			}
			inForce = a.noteRoster(inForce)
			if now.Sub(pruned) >= pruneEvery {
				pruned = now
				wall, _, _ := a.clock()
				if n, err := a.journal.Prune(ctx, wall); err != nil {
					a.log.Error("pruning the journal", "err", err)
				} else if n > 0 {
					a.log.Info("journal pruned", "leaves", n)
				}
			}
		}
	}
}

// noteRoster records a roster that came into force since the last look. A file that was edited under an unchanged version
// is another roster, so the values themselves are compared.
func (a *Appliance) noteRoster(last *access.Roster) *access.Roster {
	current := a.people.Current()
	if current == nil || current == last {
		return last
	}
	body := event.RosterSet{Version: current.Version(), Source: "file"}
	switch people := a.people.(type) {
	case *roster.Store:
		h := people.Held()
		body.Hash, body.Source = hex.EncodeToString(h.Hash[:]), "hub"
	case *filed:
		h := people.Digest()
		body.Hash = hex.EncodeToString(h[:])
	}
	a.record(event.KindRoster, body)
	a.log.Info("roster in force", "version", body.Version, "source", body.Source)
	return current
}
