package appliance

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"kith/edge/kiosk"
	"kith/internal/event"
	"kith/internal/journal"
)

// mountWall puts the screen beside a reader on the edge's listener, at the same loopback address as the API.
func (a *Appliance) mountWall(mux *http.ServeMux) error {
	wall, err := a.kiosk.Wall(kiosk.Surroundings{Trouble: a.entryTrouble, Prove: a.proveEntry})
	if err != nil {
		return err
	}
	for _, path := range []string{"GET /kiosk", "GET /kiosk/", "POST /kiosk/", "GET /assets/"} {
		mux.Handle(path, wall)
	}
	mux.Handle("GET /{$}", http.RedirectHandler("/kiosk", http.StatusSeeOther))
	return nil
}

// entryTrouble says beforehand what recordEntry or the reader would say afterwards.
func (a *Appliance) entryTrouble(reader string) kiosk.Trouble {
	if p, ok := a.states[reader]; ok {
		if s := p.Load(); s == nil || !s.up {
			return kiosk.NoReader
		}
	}
	if why, _, _ := a.recorder.trouble(); a.spare != nil || why != "" || a.journal.Space().State == journal.SpaceFull {
		return kiosk.NotKept
	}
	return ""
}

// proveEntry looks how far the leaf at an address is proven by now.
func (a *Appliance) proveEntry(ctx context.Context, address string) kiosk.Proof {
	p := kiosk.Proof{Alone: a.cfg.Hub == ""}
	name, number, _ := strings.Cut(address, "/")
	epoch, err := event.ParseEpoch(name)
	index, err2 := strconv.ParseUint(number, 10, 62)
	if err != nil || err2 != nil {
		return p
	}
	stored, err := a.journal.Read(ctx, epoch, index, 1, event.MaxLeaf+event.MaxPrivate)
	if err != nil || len(stored) != 1 {
		return p
	}
	hash := tlog.RecordHash(stored[0].Leaf)
	p.Leaf = base64.StdEncoding.EncodeToString(hash[:]) // as the hub's page spells it
	if size, _ := a.journal.Receipt(epoch); size > index {
		p.Size = size
	}
	return p
}
