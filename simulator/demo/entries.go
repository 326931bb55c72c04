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
	witnessGap  = 3 * time.Second  // between two people's cards in the history
	recordAgain = time.Millisecond // between two looks whether an entry without a card is recorded
	answerLimit = 64 << 10         // bytes of an edge's answer
)

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

// given says whether somebody gave something, and did not take it.
func (e *entry) given() bool {
	return e.action == event.KindWork || e.action == event.KindDeliverService
}

// note lets somebody who is in enter something. Live that is rather a visitor from another house, whose entry the houses
// will settle; of the week that is over, the visits are those of the seed. Where it is tomorrow already visitors wait: what
// they enter is dated tomorrow, and no draft of today moves by it.
func (s *script) note(now time.Time, live bool) (move, bool) {
	hs := houses()
	for try := range 20 {
		h := hs[s.rng.IntN(len(hs))]
		live := live && !h.tomorrow(now)
		var visitors, residents []int
		for i, p := range s.people {
			switch {
			case s.where[i] != h.id || p.trait == revoked || p.trait == expired || p.role == "guest":
			case p.home != h.id:
				visitors = append(visitors, i)
			default:
				residents = append(residents, i)
			}
		}
		in := residents
		if live {
			in = append(residents, visitors...)
		}
		if len(in) < 2 || live && len(visitors) == 0 && try < 12 {
			continue
		}
		who := in[s.rng.IntN(len(in))]
		if live && len(visitors) > 0 && s.rng.Float64() < 0.85 {
			who = visitors[s.rng.IntN(len(visitors))]
		}
		e, witnessed := s.choose(h)
		if !s.net.bears(s.people[who].home, h.id, &e) {
			continue
		}
		for witnessed && (e.witness < 0 || e.witness == who) {
			e.witness = in[s.rng.IntN(len(in))]
		}
		return move{who: who, edge: h.edges[0].id, reader: kioskReader, entry: &e}, true
	}
	return move{}, false
}

// tomorrow says whether the house's calendar is ahead of the network's, which is UTC.
func (h *house) tomorrow(now time.Time) bool {
	zone, err := time.LoadLocation(h.zone)
	if err != nil {
		panic("demo: a zone of the example is unknown: " + h.zone)
	}
	return now.In(zone).Format(time.DateOnly) > now.UTC().Format(time.DateOnly)
}

// choose is one thing that people do in a house, and whether a second person must stand beside.
func (s *script) choose(h house) (e entry, witnessed bool) {
	r := &h.things[s.rng.IntN(len(h.things))]
	e = entry{action: event.KindUse, resource: r.ID, quantity: int64(1 + s.rng.IntN(2)), witness: -1}
	if len(r.Actions) > 0 {
		e.action = event.Kind(r.Actions[0])
	}
	if r.Measure == "minute" {
		e.quantity = int64(30 * (1 + s.rng.IntN(5)))
	}
	return e, r.NeedsWitness(e.quantity)
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
	return p.propose(ctx, now, m.entry.proposal(m.reader), keys...)
}

// host enters what somebody of another house did, with the evidence that the seed names: B has the host's card, C nobody's.
func (p *past) host(ctx context.Context, now time.Time, member string, v *visit, host *ecdsa.PrivateKey) error {
	proposal := v.proposal(kioskReader)
	proposal.Member = member
	if v.evidence == event.EvidenceB {
		return p.propose(ctx, now, proposal, host)
	}
	proposal.Reader = ""
	return p.propose(ctx, now, proposal)
}

func (p *past) propose(ctx context.Context, now time.Time, what kiosk.Proposal, keys ...*ecdsa.PrivateKey) error {
	p.now = now
	s, err := p.kiosk.Propose(what)
	if err != nil {
		return err
	}
	for what.Reader == "" && !s.State.Final() && sleep(ctx, recordAgain) { // no card waits for it
		s, _ = p.kiosk.Session(s.ID)
	}
	for _, key := range keys {
		target := card.Target{UID: []byte{4, 1, 2, 3, 4, 5, 6}, SAK: 0x20}
		p.kiosk.Present(ctx, what.Reader, []card.Target{target}, []card.Channel{direct{card.NewPKOCCard(key)}})
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
