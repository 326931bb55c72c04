package appliance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"kith/edge/feedback"
	"kith/edge/kiosk"
	"kith/edge/roster"
	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
	"kith/internal/pki"
)

const (
	usesFile      = "uses.json" // started and not stopped, in the state directory
	usesFileLimit = 256 << 10   // bytes
)

// openKiosk wires the room of entries. Its facts do not go through the recorder: that keeps what a disk will not take, and
// an entry is refused instead, while the person who made it is still there.
func (a *Appliance) openKiosk(context.Context) error {
	path := filepath.Join(a.opt.StateDir, usesFile)
	running, err := readUses(path)
	if err != nil {
		a.log.Error("started uses were lost; their quantities have to be entered by hand", "err", err)
	}
	cfg := kiosk.Config{Network: a.cfg.Network, Node: a.cfg.Node, Edge: a.cfg.Edge}
	for _, r := range a.cfg.Readers {
		cfg.Readers = append(cfg.Readers, r.ID)
	}
	a.kiosk = kiosk.New(cfg, kiosk.Rooms{
		View: func() (kiosk.View, time.Duration) {
			wall, quality, mono := a.clock()
			return kiosk.View{Roster: a.people.Current(), Wall: wall, Clock: quality}, mono
		},
		Identify: a.identify,
		Record:   a.recordEntry,
		Say: func(reader string, w kiosk.Word, hold time.Duration) {
			if lamp := a.lamps[reader]; lamp != nil {
				lamp.Say(feedback.Utterance{Word: kioskWords[w], Hold: hold})
			}
		},
		Keep: func(uses []kiosk.Use) error {
			b, err := json.Marshal(uses)
			if err != nil {
				return err
			}
			return pki.WriteFile(path, append(b, '\n'), 0o600)
		},
		ReaderID: a.cfg.readerID,
	}, running, a.log)
	return nil
}

var kioskWords = map[kiosk.Word]feedback.Word{
	kiosk.Working: feedback.Working, kiosk.Yes: feedback.Yes, kiosk.NotNow: feedback.NotNow, kiosk.TryAgain: feedback.TryAgain,
}

func readUses(path string) ([]kiosk.Use, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, usesFileLimit+1))
	if err != nil {
		return nil, err
	}
	if len(b) > usesFileLimit {
		return nil, fmt.Errorf("%s: more than %d bytes", path, usesFileLimit)
	}
	var uses []kiosk.Use
	return uses, json.Unmarshal(b, &uses)
}

// identify asks the roster whose card this is, with the time that doors use.
func (a *Appliance) identify(cardID string, assurance card.Assurance) (access.Person, access.Reason) {
	wall, quality, _ := a.clock()
	trust := roster.Unsynchronised
	if quality == event.Synced {
		trust = roster.Synchronised
	}
	q := access.Query{Card: cardID, Assurance: string(assurance)}
	q.Now, q.ClockUnsure = a.people.Clock(wall, trust)
	return a.people.Current().Identify(q)
}

// recordEntry makes an entry durable and says where it stands. It has no bound of its own: an answer that came before the
// disk's would be a guess, and the entry would be made twice.
func (a *Appliance) recordEntry(ctx context.Context, f event.Fact) (event.Epoch, uint64, error) {
	if a.spare != nil {
		return event.Epoch{}, 0, errVolatile // what people account for must not be gone after a power cut
	}
	if err := a.recorder.settle(ctx); err != nil {
		return event.Epoch{}, 0, err
	}
	indexes, err := a.facts.Append(ctx, record(f))
	if err != nil {
		return event.Epoch{}, 0, err
	}
	epochs := a.journal.Epochs()
	for i := len(epochs) - 1; i >= 0; i-- { // the newest, unless a new one began in between
		if epochs[i].Size <= indexes[0] {
			continue
		}
		stored, err := a.journal.Read(ctx, epochs[i].Epoch, indexes[0], 1, event.MaxLeaf+event.MaxPrivate)
		if err != nil || len(stored) != 1 {
			continue
		}
		if l, err := event.Parse(stored[0].Leaf); err == nil && l.Kind == f.Kind && bytes.Equal(l.Body, f.Body) {
			return epochs[i].Epoch, indexes[0], nil
		}
	}
	return epochs[len(epochs)-1].Epoch, indexes[0], nil // durable; only its address is a guess
}
