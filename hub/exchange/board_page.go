package exchange

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"kith/hub/advice"
	"kith/hub/audit"
	"kith/hub/settlement"
	"kith/hub/store"
	"kith/hub/web"
)

// Limits of the board.
const (
	boardAge     = 2 * time.Second // how long one board serves all readers
	boardRest    = 4               // times as long as a board took, it is not made again
	maxOverShown = 20              // commitments that count no more, the latest
)

// boardPage answers the operator's board from one look at a time. Whoever holds the gate may touch the rest.
type boardPage struct {
	x    *Exchange
	gate chan struct{}
	at   time.Time
	took time.Duration
	last web.Board
}

func newBoardPage(x *Exchange) *boardPage { return &boardPage{x: x, gate: make(chan struct{}, 1)} }

// Board implements web.Boards.
func (p *boardPage) Board(ctx context.Context) (web.Board, error) {
	if err := p.enter(ctx); err != nil {
		return web.Board{}, err
	}
	defer p.leave()
	if !p.at.IsZero() && time.Since(p.at) < max(boardAge, boardRest*p.took) {
		return p.last, nil
	}
	began := time.Now()
	fresh, err := p.x.board(ctx, began)
	if err != nil {
		return web.Board{}, fmt.Errorf("looking at the houses: %w", err)
	}
	p.last, p.at, p.took = fresh, time.Now(), time.Since(began)
	return fresh, nil
}

func (p *boardPage) enter(ctx context.Context) error {
	select {
	case p.gate <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *boardPage) leave() { <-p.gate }

// Accept implements web.Boards.
func (p *boardPage) Accept(ctx context.Context, id string, quantity int64) error {
	return p.order(ctx, func() error {
		_, err := p.x.Accept(ctx, id, quantity, time.Now())
		return err
	})
}

// Cancel implements web.Boards.
func (p *boardPage) Cancel(ctx context.Context, id string) error {
	return p.order(ctx, func() error {
		_, err := p.x.Cancel(ctx, id, "", time.Now())
		return err
	})
}

// order carries out what a reader of the board asked for. The next look is a fresh one.
func (p *boardPage) order(ctx context.Context, do func() error) error {
	if err := p.enter(ctx); err != nil {
		return err
	}
	defer p.leave()
	err := do()
	p.at = time.Time{}
	if errors.Is(err, ErrChanged) {
		return fmt.Errorf("%w: %w", web.ErrChanged, err)
	}
	return err
}

// board gathers one board.
func (x *Exchange) board(ctx context.Context, now time.Time) (web.Board, error) {
	names := map[string]string{}
	for _, n := range x.cfg.Nodes {
		names[n.ID] = n.Name
	}
	called := func(id string) string {
		if names[id] == "" {
			return id
		}
		return names[id]
	}
	out, err := x.boardAdvice(ctx, now, called)
	if err != nil {
		return out, err
	}
	s, err := x.standing(ctx)
	if err != nil {
		return out, err
	}
	out.Wait = s.wait
	signed, err := x.lastReceipts(ctx)
	if err != nil {
		return out, err
	}
	for _, n := range x.cfg.Nodes {
		h := web.BoardHouse{Node: n.ID, Oldest: s.oldest[n.ID], Signed: signed[n.ID]}
		for _, r := range x.registry.Resources(n.ID) {
			if r.Measure == advice.Night && r.Allows("use") {
				h.Beds += r.Capacity
				if r.Offered {
					h.Offered += r.Capacity
				}
			}
		}
		for _, f := range s.figures {
			if f.Node == n.ID {
				h.Figures = append(h.Figures, boardFigure(f, s.scales))
			}
		}
		out.Houses = append(out.Houses, h)
	}
	return out, nil
}

func boardFigure(f audit.NodeDraft, scales map[string]int) web.BoardFigure {
	b := web.BoardFigure{Unit: f.Unit, Scale: scales[f.Unit], Given: f.Given, Taken: f.Taken, Balance: f.After}
	if f.Limit != nil {
		b.Limited, b.Floor, b.Ceiling = true, f.Limit.Floor, f.Limit.Ceiling
	}
	return b
}

// boardAdvice puts advice and commitments into the words of the page.
func (x *Exchange) boardAdvice(ctx context.Context, now time.Time, called func(string) string) (web.Board, error) {
	var out web.Board
	a, err := x.Advise(ctx, now)
	if err != nil {
		return out, err
	}
	line := func(do advice.Do, kind, measure string, quantity int64, provider, receiver string) web.BoardLine {
		l := web.BoardLine{Do: string(do), Kind: kind, Measure: measure, Quantity: quantity, Provider: called(provider)}
		if receiver != "" {
			l.Receiver = called(receiver)
		}
		if r, ok := x.catalogued(provider, kind); ok {
			l.Kind = r
		}
		return l
	}
	for _, i := range a.Items {
		out.Advice = append(out.Advice, web.BoardAdvice{ID: i.ID, BoardLine: line(i.Do, i.Kind, i.Measure, i.Quantity, i.Provider, i.Receiver), Reason: i.Reason})
	}
	for _, u := range a.Unmet {
		out.Unmet = append(out.Unmet, web.BoardUnmet{House: called(u.Node), Quantity: u.Quantity, Reason: u.Reason})
	}
	for _, q := range a.Quotas {
		out.Quotas = append(out.Quotas, web.BoardQuota{BoardLine: line(advice.Offer, q.Kind, q.Measure, q.Quota, q.Node, ""), Hosted: q.Hosted})
	}
	list, err := x.Commitments(ctx, now)
	if err != nil {
		return out, err
	}
	over := 0
	for _, c := range list {
		if c.State != stateInForce {
			if over++; over > maxOverShown {
				continue
			}
		}
		out.Commitments = append(out.Commitments, web.BoardCommitment{ID: c.ID, BoardLine: line(c.Do, c.Resource, c.Measure, c.Quantity, c.Provider, c.Receiver),
			Until: c.Until, State: c.State, Reason: c.Reason, Note: c.Note})
	}
	return out, nil
}

// catalogued is what people call a kind of thing at a house.
func (x *Exchange) catalogued(node, kind string) (string, bool) {
	for _, r := range x.registry.Resources(node) {
		if r.ID == kind && r.Name != "" {
			return r.Name, true
		}
	}
	return "", false
}

// standing is how the houses stand in the running period.
type standing struct {
	wait    string // a sentence: why there are no figures
	figures []audit.NodeDraft
	scales  map[string]int
	oldest  map[string]int64 // day of the oldest open obligation that a house has a part in, since 1970-01-01
}

func (x *Exchange) standing(ctx context.Context) (*standing, error) {
	s := &standing{scales: map[string]int{}, oldest: map[string]int64{}}
	policy, wait := x.pagePolicy()
	if s.wait = wait; wait != "" {
		return s, nil
	}
	for _, u := range policy.Units {
		s.scales[u.Name] = u.Scale
	}
	if under, err := x.underWayNow(ctx, s); under || err != nil {
		return s, err
	}
	b, err := x.basis(ctx)
	if err != nil {
		return nil, err
	}
	if b.empty {
		s.wait = "No house has a co-signed checkpoint yet, so nothing is counted."
		return s, nil
	}
	set, err := b.ground.Derive()
	if err != nil {
		return nil, err
	}
	s.age(set.Obligations)
	d, err := b.draft(b.ground.Policy)
	if err != nil {
		return nil, err
	}
	s.figures = d.Nodes
	return s, nil
}

// underWayNow says whether a period is being closed, and what is known of its debts then.
func (x *Exchange) underWayNow(ctx context.Context, s *standing) (bool, error) {
	x.closing.mu.Lock()
	defer x.closing.mu.Unlock()
	if err := x.loadPeriod(ctx); err != nil {
		return false, err
	}
	c := x.closing.last
	if c == nil || c.Period.State == settlement.Posted {
		return false, nil
	}
	s.wait = fmt.Sprintf("Period %s is being closed: it is %s. Figures of the next one begin once it is posted.", c.Name, c.Period.State)
	s.age(c.Period.Obligations)
	return true, nil
}

func (s *standing) age(list []settlement.Obligation) {
	for i := range list {
		o := &list[i]
		if o.Open() <= 0 || o.Frozen {
			continue
		}
		for _, node := range []string{o.Debtor, o.Creditor} {
			if have, ok := s.oldest[node]; !ok || int64(o.Day) < have {
				s.oldest[node] = int64(o.Day)
			}
		}
	}
}

// lastReceipts is when this hub last co-signed a checkpoint of each node.
func (x *Exchange) lastReceipts(ctx context.Context) (map[string]time.Time, error) {
	logs, err := x.storage.Store.Logs(ctx)
	if err != nil {
		return nil, err
	}
	last := map[string]time.Time{}
	for i := range logs {
		if at, ok := x.cosigned(&logs[i]); ok && at.After(last[logs[i].Node]) {
			last[logs[i].Node] = at
		}
	}
	return last, nil
}

// cosigned reads the time out of the hub's own signature: behind the four bytes that name the key stand eight of Unix
// seconds (C2SP tlog-cosignature).
func (x *Exchange) cosigned(l *store.Log) (time.Time, bool) {
	if l.Receipt == nil {
		return time.Time{}, false
	}
	opened, err := note.Open(l.Receipt, note.VerifierList(x.keys.CosignVerifier))
	if err != nil || len(opened.Sigs) == 0 {
		return time.Time{}, false // hub verify says what is wrong with it
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(opened.Sigs[0].Base64))
	if err != nil || len(raw) < 12 {
		return time.Time{}, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(raw[4:12])), 0), true
}
