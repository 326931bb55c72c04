package appliance

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"kith/edge/door"
	"kith/edge/occupancy"
	"kith/internal/event"
)

// rebuildLeaves bounds how far back in the journal the picture of who is in is rebuilt from, in leaves: three days of a busy house.
const rebuildLeaves = 20_000

// inside keeps the picture of who is in. Several gates and doors report to it; the mutex makes them one after another.
type inside struct {
	mu    sync.Mutex
	house *occupancy.House
	known map[string]bool // doors that lead in or out
}

// newInside makes an empty picture of the doors that lead in or out of the house; rooms inside it have readers that do not tell.
func newInside(cfg *Config) (*inside, error) {
	var doors []occupancy.Door
	known := map[string]bool{}
	for _, d := range cfg.Doors {
		in, out := false, false
		for _, r := range cfg.Readers {
			if r.Door == d.ID {
				in, out = in || r.Direction == "in", out || r.Direction == "out"
			}
		}
		if !in && !out {
			continue
		}
		zone := "house"
		if len(d.Zones) > 0 {
			zone = d.Zones[0]
		}
		doors = append(doors, occupancy.Door{ID: d.ID, Outside: occupancy.Street, Inside: zone, TapsOut: out && !d.Exit})
		known[d.ID] = true
	}
	h, err := occupancy.New(doors)
	return &inside{house: h, known: known}, err
}

func (i *inside) apply(p occupancy.Passage) {
	if !i.known[p.Door] {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.house.Apply(p)
}

// passed takes a member who was let through.
func (i *inside) passed(doorID, member, direction string, at time.Time) {
	switch direction {
	case "in":
		i.apply(occupancy.Passage{At: at, Door: doorID, Kind: occupancy.In, Member: member})
	case "out":
		i.apply(occupancy.Passage{At: at, Door: doorID, Kind: occupancy.Out, Member: member})
	}
}

// moved takes what a door did that somebody may have walked through unseen.
func (i *inside) moved(doorID, state string, at time.Time) {
	switch door.State(state) {
	case door.ExitPressed:
		i.apply(occupancy.Passage{At: at, Door: doorID, Kind: occupancy.Exit})
	case door.Forced:
		i.apply(occupancy.Passage{At: at, Door: doorID, Kind: occupancy.Forced})
	}
}

// forget drops people as if never seen.
func (i *inside) forget(is func(member string) bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.house.Forget(is)
}

// picture is who is in, at a moment.
func (i *inside) picture(now time.Time) occupancy.Picture {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.house.At(now)
}

// rebuildInside folds the journal's latest leaves again, so that a restart forgets nobody.
func (a *Appliance) rebuildInside(ctx context.Context) error {
	head := a.journal.Head()
	from := uint64(0)
	if head.Size > rebuildLeaves {
		from = head.Size - rebuildLeaves
	}
	for _, e := range a.journal.Epochs() {
		if e.Epoch == head.Epoch {
			from = max(from, e.Pruned)
		}
	}
	for from < head.Size {
		entries, err := a.journal.Read(ctx, head.Epoch, from, 256, 1<<20)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			l, err := event.Parse(e.Leaf)
			if err != nil {
				return err
			}
			a.remember(l, e.Private)
		}
		from += uint64(len(entries))
	}
	return nil
}

func (a *Appliance) remember(l event.Leaf, private []byte) {
	if l.Kind.IsEntry() {
		a.rememberEntry(l, private)
		return
	}
	switch l.Kind {
	case event.KindTap:
		var tap event.Tap
		p, err := event.ParsePrivate(private)
		if err == nil && json.Unmarshal(l.Body, &tap) == nil && tap.Verdict == "grant" {
			a.inside.passed(tap.Door, p.Member, tap.Direction, time.UnixMilli(p.At))
		}
	case event.KindDoor:
		var d event.Door
		if json.Unmarshal(l.Body, &d) == nil {
			a.inside.moved(d.Door, d.State, time.UnixMilli(l.At))
		}
	}
}

func (a *Appliance) rememberEntry(l event.Leaf, private []byte) {
	if p, err := event.ParsePrivate(private); err == nil {
		a.kiosk.Remember(l, &p)
		return
	}
	a.kiosk.Remember(l, nil) // erased
}
