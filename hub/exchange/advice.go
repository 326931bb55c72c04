package exchange

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"kith/hub/advice"
	"kith/hub/audit"
	"kith/hub/presence"
	"kith/hub/store"
	"kith/internal/event"
	"kith/internal/pki"
	"kith/internal/wire"
)

// ErrChanged says that advice, or a commitment, is not what somebody saw earlier.
var ErrChanged = errors.New("not any more what was shown; look again")

// promises are the commitments that this hub's operator signed, as far as their notes verify.
type promises struct {
	mu     sync.Mutex // held for the length of a signing, so that one bed is not promised twice
	loaded bool
	list   []promise
}

type promise struct {
	advice.Commitment
	digest    [32]byte
	note      []byte
	cancelled *advice.Cancellation
}

// name is the id that people use.
func (p *promise) name() string { return hex.EncodeToString(p.digest[:8]) }

// inForce says whether a promise counts on a day.
func (p *promise) inForce(day int32) bool {
	return p.cancelled == nil && p.Day <= day && day <= p.Until
}

// AdviceOrder asks for advice, or accepts a line of it.
type AdviceOrder struct {
	Do       string `json:"do"` // list, accept
	ID       string `json:"id,omitempty"`
	Quantity int64  `json:"quantity,omitempty"` // accept: what was seen; 0: what is advised now
}

// CommitmentOrder asks for commitments, or takes one back.
type CommitmentOrder struct {
	Do     string `json:"do"` // list, cancel
	ID     string `json:"id,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// CommitmentState is a commitment as people see it.
type CommitmentState struct {
	ID        string    `json:"id"`
	Do        advice.Do `json:"do"`
	Action    string    `json:"action"`
	Resource  string    `json:"resource"`
	Measure   string    `json:"measure"`
	Quantity  int64     `json:"quantity"`
	Provider  string    `json:"provider"`
	Receiver  string    `json:"receiver,omitempty"`
	Made      int64     `json:"made"`  // Unix seconds
	Until     string    `json:"until"` // last day that it counts
	State     string    `json:"state"` // in-force, over or cancelled
	Cancelled int64     `json:"cancelled,omitempty"`
	Reason    string    `json:"reason"`
	Note      string    `json:"note"`
}

// What has become of a commitment.
const (
	stateInForce   = "in-force"
	stateOver      = "over"
	stateCancelled = "cancelled"
)

func (p *promise) describe(day int32) CommitmentState {
	s := CommitmentState{ID: p.name(), Do: p.Do, Action: p.Do.Action(), Resource: p.Kind, Measure: p.Measure, Quantity: p.Quantity,
		Provider: p.Provider, Receiver: p.Receiver, Made: p.Made, Until: time.Unix(int64(p.Until)*daySeconds, 0).UTC().Format(time.DateOnly),
		State: stateInForce, Reason: p.Reason, Note: string(p.note)}
	switch {
	case p.cancelled != nil:
		s.State, s.Cancelled = stateCancelled, p.cancelled.At
	case !p.inForce(day):
		s.State = stateOver
	}
	return s
}

func dayOf(now time.Time) int32 { return int32(now.Unix() / daySeconds) }

// Advice carries out an order about advice. A commitment is durable when it returns.
func (x *Exchange) Advice(ctx context.Context, o AdviceOrder) (Answer, error) {
	switch o.Do {
	case "list":
		a, err := x.Advise(ctx, time.Now())
		return Answer{Advice: a}, err
	case "accept":
		c, err := x.Accept(ctx, o.ID, o.Quantity, time.Now())
		return Answer{Commitments: []CommitmentState{c}}, err
	}
	return Answer{}, fmt.Errorf("advice %.40q: want list or accept", o.Do)
}

// Commitment carries out an order about commitments. A cancellation is durable when it returns.
func (x *Exchange) Commitment(ctx context.Context, o CommitmentOrder) (Answer, error) {
	switch o.Do {
	case "list":
		list, err := x.Commitments(ctx, time.Now())
		return Answer{Commitments: list}, err
	case "cancel":
		c, err := x.Cancel(ctx, o.ID, o.Reason, time.Now())
		return Answer{Commitments: []CommitmentState{c}}, err
	}
	return Answer{}, fmt.Errorf("commitment %.40q: want list or cancel", o.Do)
}

// Advise works out what would balance the houses now.
func (x *Exchange) Advise(ctx context.Context, now time.Time) (*advice.Advice, error) {
	x.promises.mu.Lock()
	defer x.promises.mu.Unlock()
	return x.advise(ctx, now)
}

func (x *Exchange) advise(ctx context.Context, now time.Time) (*advice.Advice, error) {
	if err := x.loadPromises(ctx); err != nil {
		return nil, err
	}
	c, err := x.adviceCase(ctx, now)
	if err != nil {
		return nil, fmt.Errorf("gathering what advice rests on: %w", err)
	}
	return advice.Advise(c)
}

// Accept signs a commitment to what a line of advice says. A quantity above what would be advised now is ErrChanged.
func (x *Exchange) Accept(ctx context.Context, id string, quantity int64, now time.Time) (CommitmentState, error) {
	x.promises.mu.Lock()
	defer x.promises.mu.Unlock()
	a, err := x.advise(ctx, now)
	if err != nil {
		return CommitmentState{}, err
	}
	i := slices.IndexFunc(a.Items, func(i advice.Item) bool { return i.ID == id })
	switch {
	case i < 0:
		return CommitmentState{}, fmt.Errorf("accepting %.40q: no such advice now: %w", id, ErrChanged)
	case quantity < 0 || quantity > a.Items[i].Quantity:
		return CommitmentState{}, fmt.Errorf("accepting %d of %s: %d are advised now: %w", quantity, id, a.Items[i].Quantity, ErrChanged)
	case quantity == 0:
		quantity = a.Items[i].Quantity
	}
	c := a.Items[i].Commit(x.cfg.Network, quantity, now.Unix())
	if digest := c.Digest(); slices.ContainsFunc(x.promises.list, func(p promise) bool { return p.digest == digest }) {
		return CommitmentState{}, fmt.Errorf("accepting %s: the very same was signed this second: %w", id, ErrChanged) // one note cannot stand for two
	}
	signed, err := x.signPromise(ctx, store.CommitmentNote{Digest: c.Digest()}, c.Text())
	if err != nil {
		return CommitmentState{}, err
	}
	p := promise{Commitment: c, digest: c.Digest(), note: signed}
	x.promises.list = append(x.promises.list, p)
	x.log.Info("a commitment was signed", "commitment", c.Name(), "do", string(c.Do), "provider", c.Provider, "receiver", c.Receiver, "quantity", quantity)
	x.balanceChanged()
	return p.describe(dayOf(now)), nil
}

// Cancel signs that a commitment is taken back.
func (x *Exchange) Cancel(ctx context.Context, id, reason string, now time.Time) (CommitmentState, error) {
	if err := advice.CheckReason(reason); err != nil {
		return CommitmentState{}, err
	}
	x.promises.mu.Lock()
	defer x.promises.mu.Unlock()
	if err := x.loadPromises(ctx); err != nil {
		return CommitmentState{}, err
	}
	i := slices.IndexFunc(x.promises.list, func(p promise) bool { return p.name() == id })
	if i < 0 {
		return CommitmentState{}, fmt.Errorf("no commitment %.40q; hub commitment list shows them: %w", id, ErrChanged)
	}
	p := &x.promises.list[i]
	if s := p.describe(dayOf(now)); s.State != stateInForce {
		return s, fmt.Errorf("commitment %s is %s already: %w", id, s.State, ErrChanged)
	}
	c := &advice.Cancellation{Network: x.cfg.Network, Commitment: p.digest, At: now.Unix(), Reason: reason}
	if _, err := x.signPromise(ctx, store.CommitmentNote{Digest: p.digest, Cancels: true}, c.Text()); err != nil {
		return CommitmentState{}, err
	}
	p.cancelled = c
	x.log.Info("a commitment was cancelled", "commitment", id)
	x.balanceChanged()
	return p.describe(dayOf(now)), nil
}

// signPromise signs a text as the operator and makes the note durable.
func (x *Exchange) signPromise(ctx context.Context, n store.CommitmentNote, text []byte) ([]byte, error) {
	sign, _, err := x.operator()
	if err == nil {
		n.Note, err = sign(string(text))
	}
	if err == nil {
		err = x.storage.SaveCommitment(ctx, n)
	}
	if err != nil {
		return nil, fmt.Errorf("signing a commitment: %w", err)
	}
	return n.Note, nil
}

// balanceChanged lets those who look at the board know.
func (x *Exchange) balanceChanged() {
	if x.pages != nil && x.pages.web != nil {
		x.pages.web.Changed("")
	}
}

// Commitments lists every commitment, the newest first.
func (x *Exchange) Commitments(ctx context.Context, now time.Time) ([]CommitmentState, error) {
	x.promises.mu.Lock()
	defer x.promises.mu.Unlock()
	if err := x.loadPromises(ctx); err != nil {
		return nil, err
	}
	list := make([]CommitmentState, 0, len(x.promises.list))
	for i := range x.promises.list {
		list = append(list, x.promises.list[i].describe(dayOf(now)))
	}
	slices.Reverse(list)
	return list, nil
}

// loadPromises reads the notes, once. One that does not verify counts nothing; hub verify names it.
func (x *Exchange) loadPromises(ctx context.Context) error {
	if x.promises.loaded {
		return nil
	}
	notes, err := x.storage.Commitments(ctx)
	if err != nil {
		return err
	}
	list, faults, err := x.readPromises(notes)
	if err != nil {
		return err
	}
	for _, f := range faults {
		x.log.Error("a commitment counts nothing; hub verify names it too", "err", f)
	}
	x.promises.list, x.promises.loaded = list, true
	return nil
}

// readPromises proves each note by the operator's key and reads it. faults are those that do not hold.
func (x *Exchange) readPromises(notes []store.CommitmentNote) (list []promise, faults []error, err error) {
	if len(notes) == 0 {
		return nil, nil, nil // nothing to prove, with or without a key
	}
	key, err := pki.LoadVerifier(filepath.Join(x.opt.StateDir, keysDir, pki.FileOperatorVerify))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, []error{fmt.Errorf("%d notes of commitments, and no key of an operator to prove them by: %w", len(notes), err)}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	at := map[[32]byte]int{}
	for _, n := range notes {
		if err := x.readPromise(&list, at, &n, key); err != nil {
			faults = append(faults, fmt.Errorf("commitment %x: %w", n.Digest[:8], err))
		}
	}
	return list, faults, nil
}

func (x *Exchange) readPromise(list *[]promise, at map[[32]byte]int, n *store.CommitmentNote, key note.Verifier) error {
	opened, err := note.Open(n.Note, note.VerifierList(key))
	if err != nil {
		return err
	}
	if err := wire.OneSpelling(n.Note, 1); err != nil {
		return err
	}
	text := []byte(opened.Text)
	if !n.Cancels {
		c, err := advice.ParseCommitment(text)
		switch {
		case err != nil:
			return err
		case c.Network != x.cfg.Network || sha256.Sum256(text) != n.Digest:
			return fmt.Errorf("the note is of %s, digest %x", c.Network, sha256.Sum256(text))
		}
		at[n.Digest] = len(*list)
		*list = append(*list, promise{Commitment: *c, digest: n.Digest, note: n.Note})
		return nil
	}
	c, err := advice.ParseCancellation(text)
	i, known := at[n.Digest]
	switch {
	case err != nil:
		return err
	case c.Network != x.cfg.Network || c.Commitment != n.Digest || !known:
		return fmt.Errorf("the note takes back %x of %s, which is not here before it", c.Commitment, c.Network)
	}
	(*list)[i].cancelled = c
	return nil
}

// verifyCommitments proves every note of a commitment by the operator's key.
func (x *Exchange) verifyCommitments(ctx context.Context, v *Verification) error {
	notes, err := x.storage.Commitments(ctx)
	if err != nil {
		return err
	}
	list, faults, err := x.readPromises(notes)
	if err != nil {
		return err
	}
	for _, f := range faults {
		v.OK, v.Differences = false, append(v.Differences, f.Error())
	}
	if v.Commitments = uint64(len(notes) - len(faults)); len(list) == 0 {
		v.Commitments = 0
	}
	return nil
}

// adviceCase gathers what the hub knows: catalogues, who is in, what was used since the last cut, and promises in force.
func (x *Exchange) adviceCase(ctx context.Context, now time.Time) (*advice.Case, error) {
	c := &advice.Case{Day: dayOf(now)}
	seen, err := x.storage.Presence(ctx, "")
	if err != nil {
		return nil, err
	}
	people := map[string]*presence.House{}
	for _, h := range presence.Houses(asSeen(seen), now) {
		people[h.Node] = &h
	}
	used, err := x.used(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, n := range x.cfg.Nodes {
		node := advice.Node{ID: n.ID, Name: n.Name}
		if h := people[n.ID]; h != nil {
			node.In = int64(len(h.People))
			for _, p := range h.People {
				if m, ok := x.registry.Member(p.Member); ok && m.Home != n.ID {
					node.Visitors++
				}
			}
		}
		most := int64(0)
		for _, r := range x.registry.Resources(n.ID) {
			t := advice.Thing{Node: n.ID, Kind: r.ID, Measure: r.Measure, Count: r.Capacity, Offered: r.Offered, Lendable: r.Allows(string(event.KindTransferCustody))}
			t.Used, t.Hosted = used[[2]string{n.ID, r.ID}].all, used[[2]string{n.ID, r.ID}].visitors
			c.Things = append(c.Things, t)
			if r.Measure != advice.Night || !r.Allows(string(event.KindUse)) {
				continue
			}
			node.Beds = min(node.Beds+r.Capacity, advice.MaxPeople)
			if r.Offered {
				node.Offered = min(node.Offered+r.Capacity, advice.MaxPeople)
				if r.Capacity > most {
					node.Bed, most = r.ID, r.Capacity
				}
			}
		}
		c.Nodes = append(c.Nodes, node)
	}
	for i := range x.promises.list {
		if p := &x.promises.list[i]; p.inForce(c.Day) {
			c.Promises = append(c.Promises, p.Promise())
		}
	}
	return c, nil
}

// use is what was done with one kind of thing at one house.
type use struct{ all, visitors int64 }

// used sums the entries of the running period, those of receipted leaves, and fills in how long it runs and what ties are
// drawn from: the last cut, which nobody can choose any more. An entry that a later one corrects counts nothing. What was
// carried over from a lost branch is left out: the books count it, advice can do without.
func (x *Exchange) used(ctx context.Context, c *advice.Case) (map[[2]string]use, error) {
	x.closing.mu.Lock()
	defer x.closing.mu.Unlock()
	if err := x.loadPeriod(ctx); err != nil {
		return nil, err
	}
	seed := sha256.Sum256([]byte("kith advice seed v1\n" + x.cfg.Network + "\n"))
	before, first := map[string]uint64{}, int64(c.Day)
	if last := x.closing.last; last != nil {
		seed, first = last.Cut.Digest(), int64(last.Cut.Day)
		for _, p := range last.Cut.Checkpoints {
			before[p.Journal] = p.Size
		}
	}
	heads, err := x.heads(ctx)
	if err != nil {
		return nil, err
	}
	sums, gone := map[[2]string]use{}, map[audit.Address]bool{}
	var shown []audit.Shown
	for i := range heads {
		e, err := x.economic(ctx, &heads[i], before[heads[i].point.Journal])
		if err != nil {
			return nil, err
		}
		shown = append(shown, e.shown...)
	}
	for i := range shown {
		if at, ok := audit.Target(shown[i].Line); ok {
			gone[at] = true
		}
	}
	for i := range shown {
		l, err := event.Parse(shown[i].Line)
		if err != nil || l.Kind != event.KindUse && l.Kind != event.KindConsume || gone[audit.Address{Journal: shown[i].Journal, Index: shown[i].Index}] {
			continue
		}
		e, err := event.ParseEntry(l.Kind, l.Body)
		if err != nil {
			continue
		}
		if x.closing.last == nil {
			first = min(first, int64(e.Day)) // the first period runs since the first entry
		}
		key := [2]string{l.Node, e.Resource}
		s := sums[key]
		s.all = min(s.all+e.Quantity, advice.MaxParts) // a quantity is at most 2^30
		if e.Home != l.Node {
			s.visitors = min(s.visitors+e.Quantity, s.all)
		}
		sums[key] = s
	}
	c.Seed, c.Days = seed[:], min(max(int64(c.Day)-first, 1), advice.MaxDays)
	return sums, nil
}

// says is a line of advice or a commitment in one sentence.
func (s *CommitmentState) says() string {
	return sentence(s.Do, s.Quantity, s.Resource, s.Measure, s.Provider, s.Receiver)
}

func sentence(do advice.Do, quantity int64, resource, measure, provider, receiver string) string {
	switch do {
	case advice.Place:
		return fmt.Sprintf("%d from %s sleep at %s (%s)", quantity, receiver, provider, resource)
	case advice.Lend:
		return fmt.Sprintf("%d %s go from %s to %s", quantity, resource, provider, receiver)
	}
	if quantity != 1 {
		measure += "s"
	}
	return fmt.Sprintf("%s hosts %d more %s (%s)", provider, quantity, measure, resource)
}
