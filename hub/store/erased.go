package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"kith/internal/access"
	"kith/internal/event"
)

const (
	maxKnown       = 1 << 16 // words remembered not to be of anybody erased
	keyDigits      = 2 * 65  // of a card's public key, 04 || X || Y
	cardDigits     = 2 * 32  // of a card's id: X
	maxCardID      = len("pkoc:") + cardDigits
	maxCardsBeside = 64 // cards found beside one person; an edge that lies could name any number
)

// gone answers, for one list of erased names, whether a private part names somebody on it. Nearly every word that comes has
// come before and is of somebody who is still there, so those are remembered.
type gone struct {
	list *access.Erasures

	mu    sync.RWMutex
	known map[string]struct{}
}

// Heed gives the store the question who was erased; it is asked for every commit. Call it before the first one.
func (s *Store) Heed(erased func() *access.Erasures) { s.erased = erased }

// gone is the list as it stands now, the same value as long as it is the same list; nil: nobody was erased.
func (s *Store) gone() *gone {
	if s.erased == nil {
		return nil
	}
	list := s.erased()
	if list.Len() == 0 {
		return nil
	}
	s.goneMu.Lock()
	defer s.goneMu.Unlock()
	if s.goneNow == nil || s.goneNow.list != list {
		s.goneNow = &gone{list: list, known: map[string]struct{}{}}
	}
	return s.goneNow
}

// names says what event.Names does of a part in compact JSON. A part without an escape is first read for its quotes alone,
// which costs a tenth and clears almost every part; no text within a text can stand in a part of that kind.
func (g *gone) names(part []byte) bool {
	if g == nil {
		return false
	}
	if bytes.IndexByte(part, '\\') < 0 {
		g.mu.RLock()
		strange := eachWord(part, g.strange)
		g.mu.RUnlock()
		if !strange || !eachWord(part, g.has) {
			return false
		}
	}
	return event.Names(part, func(word string) bool { return g.has([]byte(word)) })
}

var quote = []byte(`"`)

// eachWord asks for each string of a part without escapes until one is answered with yes.
func eachWord(part []byte, is func(word []byte) bool) bool {
	for {
		_, rest, found := bytes.Cut(part, quote)
		word, behind, closed := bytes.Cut(rest, quote)
		if !found || !closed {
			return false
		}
		if is(word) {
			return true
		}
		part = behind
	}
}

// idIn is the text under which a word could stand on the list: the id of a member or card, or that of the card whose public key
// it is. Any other word names nobody.
func idIn(word []byte) []byte {
	switch {
	case len(word) <= event.MaxID, len(word) <= maxCardID && (bytes.HasPrefix(word, pkoc) || bytes.HasPrefix(word, uid)):
		return word
	case len(word) == keyDigits && bytes.HasPrefix(word, []byte("04")):
		return append(slices.Clone(pkoc), word[2:2+cardDigits]...)
	}
	return nil
}

var pkoc, uid = []byte("pkoc:"), []byte("uid:")

// strange says whether a word must be looked up. The caller holds the lock.
func (g *gone) strange(word []byte) bool {
	id := idIn(word)
	if id == nil {
		return false
	}
	_, known := g.known[string(id)]
	return !known
}

func (g *gone) has(word []byte) bool {
	id := idIn(word)
	if id == nil {
		return false
	}
	if g.list.Has(string(id)) {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.known) >= maxKnown {
		clear(g.known)
	}
	g.known[string(id)] = struct{}{}
	return false
}

// sweptRow of meta says for which list everything that is stored was looked at, and the files rewritten after it.
const sweptRow = "erased"

// Swept says whether the list that stands now was followed to its end: everything that is stored was looked at, and what was
// found is also gone from the free pages of the files.
func (s *Store) Swept(ctx context.Context) (bool, error) {
	g := s.gone()
	if g == nil {
		return true, nil
	}
	var n int
	err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM meta WHERE name = ? AND value = ?`, sweptRow, g.digest()).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("reading how far erasing went: %w", err)
	}
	return n > 0, nil
}

func (g *gone) digest() string {
	d := g.list.Digest()
	return hex.EncodeToString(d[:])
}

// Sweep erases every private part that names somebody who was erased, with its salt, and every projection made from it.
// Leaves, roots and receipts stand; what remains is that somebody did something within that hour. It returns how many parts
// were erased. Commits go on while it looks; what they bring is held to the same list. Backups made earlier still hold the
// parts until they are rotated out, and free pages of the files until [Store.Compact], which ends what this began.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	s.mu.Lock() // a commit that began with an older list has ended then, and is looked at
	g := s.gone()
	s.swept = ""
	s.mu.Unlock()
	if g == nil {
		return 0, nil
	}
	list, err := s.naming(ctx, g)
	if err != nil {
		return 0, fmt.Errorf("looking for who was erased: %w", err)
	}
	n, err := s.erase(ctx, func(*commitTx) ([]int64, error) { return list, nil })
	if err != nil {
		return 0, fmt.Errorf("erasing private parts: %w", err)
	}
	s.mu.Lock()
	s.swept = g.digest()
	s.mu.Unlock()
	return n, nil
}

// Compact rewrites the database without its free pages and empties the write-ahead log, so that nothing erased is left in
// the files. Index pages can keep what a deleted row said, which overwriting content alone does not reach. Only then it is
// noted that the list of the sweep before it was followed: after a crash between the two, both are done again.
func (s *Store) Compact(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.write.ExecContext(ctx, `VACUUM`); err != nil {
		return fmt.Errorf("compacting the store: %w", classify(err))
	}
	emptied, err := s.checkpoints.truncate(ctx, s.write)
	if err != nil {
		return fmt.Errorf("compacting the store: %w", classify(err))
	}
	if !emptied {
		return errors.New("compacting the store: a reader holds the write-ahead log")
	}
	if s.swept == "" {
		return nil
	}
	if _, err := s.write.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, sweptRow, s.swept); err != nil {
		return fmt.Errorf("noting how far erasing went: %w", classify(err))
	}
	return nil
}

// naming finds every address whose private part names somebody on the list, ascending.
func (s *Store) naming(ctx context.Context, g *gone) ([]int64, error) {
	var all []int64
	err := s.eachParts(ctx, "", func(log int64, p *partsRow) {
		for i := range p.parts {
			if g.names(p.parts[i].Bytes) {
				all = append(all, log<<maxIndexBits|int64(p.parts[i].Index))
			}
		}
	})
	slices.Sort(all)
	return all, err
}

// eachParts reads every row of private parts in which a text stands.
func (s *Store) eachParts(ctx context.Context, text string, each func(log int64, p *partsRow)) error {
	rows, err := s.read.QueryContext(ctx, `SELECT b.log, b.first, b.n, p.parts FROM private_parts p JOIN bundles b ON b.seq = p.seq
		WHERE ? = '' OR instr(p.parts, CAST(? AS BLOB)) > 0`, text, text)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var log int64
		var p partsRow
		var packed []byte
		if err := rows.Scan(&log, &p.first, &p.n, &packed); err != nil {
			return err
		}
		if err := p.decode(packed); err != nil {
			return err
		}
		each(log, &p)
	}
	return rows.Err()
}

// Beside says in how many private parts a member is named, and which cards stand there as the member's own, the first
// 64 of them in the order of their texts. So it also knows cards that the registry has forgotten.
func (s *Store) Beside(ctx context.Context, member string) (parts int, cards []string, err error) {
	own := map[string]bool{}
	err = s.eachParts(ctx, member, func(_ int64, p *partsRow) {
		for i := range p.parts {
			if event.Names(p.parts[i].Bytes, func(word string) bool { return word == member }) {
				parts++
				cardsOf(member, p.parts[i].Bytes, own)
			}
		}
	})
	if err != nil {
		return 0, nil, fmt.Errorf("looking for a member: %w", err)
	}
	cards = slices.Sorted(maps.Keys(own))
	return parts, cards[:min(len(cards), maxCardsBeside)], nil
}

// cardsOf collects the cards that a part says are a member's.
func cardsOf(member string, part []byte, into map[string]bool) {
	p, err := event.ParsePrivate(part)
	if err != nil {
		return
	}
	if p.Member == member && p.Card != "" {
		into[p.Card] = true
	}
	var body event.EntryPrivate
	if json.Unmarshal(p.Body, &body) == nil && body.WitnessMember == member && body.WitnessCard != "" {
		into[body.WitnessCard] = true
	}
	var within struct {
		Private string `json:"private"`
	}
	if json.Unmarshal(p.Body, &within) == nil && strings.HasPrefix(within.Private, "{") {
		cardsOf(member, []byte(within.Private), into)
	}
}
