package demo

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"kith/edge/appliance"
	"kith/edge/kiosk"
	"kith/internal/access"
	"kith/internal/card"
	"kith/internal/event"
)

const (
	witnessGap  = 3 * time.Second // between two people's cards in the history
	answerLimit = 64 << 10        // bytes of an edge's answer
)

// catalogue is what every house of the demo has. Houses share their beds, kitchens and machines; tools stay at home.
func catalogue(h house) []access.Resource {
	return []access.Resource{
		{ID: "bed", Name: "Bed", Measure: "night", Offered: true, Capacity: h.beds, MaxEntry: 7, MaxDay: 7, Lead: 24},
		{ID: "washing-machine", Name: "Washing machine", Measure: "cycle", Offered: true, Capacity: 2, MaxEntry: 3, MaxDay: 4},
		{ID: "meal", Name: "Shared meal", Measure: "piece", Actions: []string{"consume"}, Offered: true, MaxEntry: 4, MaxDay: 6},
		{ID: "kitchen", Name: "Kitchen shift", Measure: "minute", Actions: []string{"work"}, Offered: true, MaxEntry: 480, MaxDay: 600, Witness: 120},
		{ID: "garden", Name: "Garden", Measure: "minute", Actions: []string{"work"}, Offered: true, MaxEntry: 480, MaxDay: 600, Witness: 120},
	}
}

// kioskReader is the reader in the hall of every house, beside the screen. No door is passed there.
const kioskReader = "hall"

// entry is what somebody enters at it.
type entry struct {
	action   event.Kind
	resource string
	quantity int64
	witness  int // index of the second person; -1 for none
}

func (e *entry) proposal(reader string) kiosk.Proposal {
	return kiosk.Proposal{Action: e.action, Resource: e.resource, Quantity: e.quantity, Reader: reader}
}

// note lets somebody who is in enter something: rather a visitor from another house, whose entry the houses will settle.
func (s *script) note() (move, bool) {
	hs := houses()
	for try := range 12 {
		h := hs[s.rng.IntN(len(hs))]
		var visitors, in []int
		for i, p := range s.people {
			switch {
			case s.where[i] != h.id || p.trait == revoked || p.trait == expired || p.role == "guest":
			case p.home != h.id:
				visitors = append(visitors, i)
				in = append(in, i)
			default:
				in = append(in, i)
			}
		}
		if len(in) < 2 || len(visitors) == 0 && try < 6 {
			continue
		}
		who := in[s.rng.IntN(len(in))]
		if len(visitors) > 0 && s.rng.Float64() < 0.85 {
			who = visitors[s.rng.IntN(len(visitors))]
		}
		e := s.choose()
		for e.witness = -1; e.action == event.KindWork && e.quantity >= 120 && (e.witness < 0 || e.witness == who); {
			e.witness = in[s.rng.IntN(len(in))]
		}
		return move{who: who, edge: h.edges[0].id, reader: kioskReader, entry: &e}, true
	}
	return move{}, false
}

func (s *script) choose() entry {
	switch s.rng.IntN(6) {
	case 0, 1:
		return entry{action: event.KindUse, resource: "bed", quantity: int64(1 + s.rng.IntN(3))}
	case 2:
		return entry{action: event.KindUse, resource: "washing-machine", quantity: 1}
	case 3:
		return entry{action: event.KindConsume, resource: "meal", quantity: int64(1 + s.rng.IntN(2))}
	case 4:
		return entry{action: event.KindWork, resource: "kitchen", quantity: int64(30 * (1 + s.rng.IntN(6)))}
	}
	return entry{action: event.KindWork, resource: "garden", quantity: int64(30 * (1 + s.rng.IntN(5)))}
}

// openKiosk gives the history the production kiosk, on the script's clock.
func (p *past) openKiosk(cfg appliance.Config, roster *access.Roster) {
	c := kiosk.Config{Network: cfg.Network, Node: cfg.Node, Edge: cfg.Edge}
	for _, r := range cfg.Readers {
		c.Readers = append(c.Readers, r.ID)
	}
	p.kiosk = kiosk.New(c, kiosk.Rooms{
		View: func() (kiosk.View, time.Duration) {
			return kiosk.View{Roster: roster, Wall: p.now, Clock: event.Synced}, p.now.Sub(p.start)
		},
		Identify: func(id string, _ card.Assurance) (access.Person, access.Reason) {
			return roster.Identify(access.Query{Card: id, Now: p.now})
		},
		Record: func(_ context.Context, f event.Fact) (event.Epoch, uint64, error) {
			p.facts = append(p.facts, f)
			return event.Epoch{}, uint64(len(p.facts)), nil
		},
		Say:      func(string, kiosk.Word, time.Duration) {},
		Keep:     func([]kiosk.Use) error { return nil },
		ReaderID: func(string) card.ReaderID { return card.ReaderID{} },
	}, nil, nil)
}

// enter makes one entry of the week. What the catalogue does not allow is refused there as it would be today.
func (p *past) enter(ctx context.Context, now time.Time, m move, keys ...*ecdsa.PrivateKey) error {
	p.now = now
	s, err := p.kiosk.Propose(m.entry.proposal(m.reader))
	if err != nil {
		return err
	}
	for _, key := range keys {
		target := card.Target{UID: []byte{4, 1, 2, 3, 4, 5, 6}, SAK: 0x20}
		p.kiosk.Present(ctx, m.reader, []card.Target{target}, []card.Channel{direct{card.NewPKOCCard(key)}})
		p.now = p.now.Add(witnessGap)
	}
	p.kiosk.Cancel(s.ID) // a refused or unfinished one must not hold the reader
	return nil
}

// call is one request to an edge on this machine.
func call(ctx context.Context, method, url string, body, into any) error {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", method, url, res.Status)
	}
	return json.NewDecoder(io.LimitReader(res.Body, answerLimit)).Decode(into)
}
