package registry

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"kith/internal/access"
)

// Erasing is a person to be forgotten: with cards and grants, if still known, and for ever. Cards are further ones that were
// theirs once; one that is somebody else's now is left alone.
type Erasing struct {
	Member string
	Cards  []string
}

// Memory is who was erased as it is kept beside a database, so that an older copy of the database does not bring anybody back.
type Memory struct {
	Key   access.ErasureKey
	Names []access.ErasedName
}

// erased is who was forgotten, in names that tell nobody who that was.
type erased struct {
	key   access.ErasureKey
	kept  bool // the key is in the store
	names map[access.ErasedName]bool
	plain []string // names as texts, ascending, as every roster has them; nil: to be made again

	// Names of cards that somebody holds here and that were erased all the same, says the list beside the database: this is a copy
	// from before the card went to whoever was erased. They are not in force while the card is held, and are not forgotten.
	waiting map[access.ErasedName]bool
}

// erasedRecord is either the key or one name.
type erasedRecord struct {
	Key  string `json:"key,omitempty"`
	Name string `json:"name,omitempty"`
}

// keyID is the key's place among the names, which are hexadecimal.
const keyID = "key"

func loadErased(b *Book, body []byte) error {
	var r erasedRecord
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	if r.Key != "" {
		b.erased.kept = true
		return unhex(b.erased.key[:], r.Key)
	}
	var n access.ErasedName
	err := unhex(n[:], r.Name)
	b.erased.names[n] = true
	return err
}

func unhex(dst []byte, text string) error {
	b, err := hex.DecodeString(text)
	if err == nil && len(b) != len(dst) {
		err = fmt.Errorf("%d bytes, want %d", len(b), len(dst))
	}
	copy(dst, b)
	return err
}

// begin draws the key of a network that has erased nobody. It is stored with the first name.
func (e *erased) begin() error {
	if e.kept {
		return nil
	}
	if len(e.names) > 0 {
		return fmt.Errorf("%d people or cards were erased under a key that is not here", len(e.names))
	}
	_, err := rand.Read(e.key[:])
	return err
}

func (e *erased) has(id string) bool { return len(e.names) > 0 && e.names[e.key.Name(id)] }

func ascending(set map[access.ErasedName]bool) []access.ErasedName {
	return slices.SortedFunc(maps.Keys(set), access.ErasedName.Compare)
}

func (e *erased) list() *access.Erasures { return access.NewErasures(e.key, ascending(e.names)) }

// texts are the key and the names as a roster has them; nothing while nobody was erased.
func (e *erased) texts() (key string, names []string) {
	if len(e.names) == 0 {
		return "", nil
	}
	if e.plain == nil {
		for _, n := range ascending(e.names) {
			e.plain = append(e.plain, n.String())
		}
	}
	return hex.EncodeToString(e.key[:]), e.plain
}

// erase forgets people. Who is on the list already adds nothing, so that an order may be given again.
func (a *applying) erase(c Change) {
	for _, e := range c.Erase {
		a.eraseOne(e)
	}
	if c.Recall != nil {
		a.recall(c.Recall)
	}
	if n := len(a.b.erased.names); a.step.Erased && n > access.MaxErased {
		a.refuse("%d names of people and cards would stand in the list of who was erased, the limit is %d: nobody was erased now. "+
			"Cards that are handed out again leave the list; beyond that only a new network begins with an empty one", n, access.MaxErased)
	}
}

func (a *applying) eraseOne(e Erasing) {
	if !a.id("member", e.Member) {
		return
	}
	for _, card := range append(slices.Clone(a.b.cardsOf[e.Member]), e.Cards...) {
		if k, ok := a.b.cards[card]; isCard(card) && (!ok || k.Member == e.Member) {
			a.mark(a.b.erased.key.Name(card))
		}
	}
	if _, ok := a.b.members[e.Member]; ok {
		a.dropMember(e.Member)
	}
	a.mark(a.b.erased.key.Name(e.Member))
}

// recall takes in what was kept beside the database: whoever is on that list and here goes, with every card of theirs. A name
// of a card that somebody else holds here waits: either that card was handed out again since, or it was not yet the erased one's
// when this copy was made. Should nobody hold it at a later start, it is on the list.
func (a *applying) recall(m *Memory) {
	if len(m.Names) == 0 {
		return
	}
	if m.Key != a.b.erased.key {
		if len(a.b.erased.names) > 0 {
			a.refuse("the names of who was erased stand under another key than those in the database: they are of another hub")
			return
		}
		old, kept := a.b.erased.key, a.b.erased.kept
		a.b.erased.key, a.b.erased.kept = m.Key, false
		a.step.undo = append(a.step.undo, func() { a.b.erased.key, a.b.erased.kept = old, kept })
	}
	gone := make(map[access.ErasedName]bool, len(m.Names))
	for _, n := range m.Names {
		gone[n] = true
	}
	for _, p := range sorted(a.b.members) {
		if gone[m.Key.Name(p.ID)] {
			a.eraseOne(Erasing{Member: p.ID})
		}
	}
	for id := range a.b.cards {
		if n := m.Key.Name(id); gone[n] {
			set(a, a.b.erased.waiting, n, true)
			delete(gone, n)
		}
	}
	for n := range gone {
		a.mark(n)
	}
}

// mark puts a name on the list, and the key into the store with the first one.
func (a *applying) mark(n access.ErasedName) {
	e := &a.b.erased
	unset(a, e.waiting, n)
	if e.names[n] {
		return
	}
	if !e.kept {
		e.kept = true
		a.step.undo = append(a.step.undo, func() { e.kept = false })
		a.put(KindErased, keyID, erasedRecord{Key: hex.EncodeToString(e.key[:])})
	}
	set(a, e.names, n, true)
	a.put(KindErased, n.String(), erasedRecord{Name: n.String()})
	a.relist()
}

// unmark takes a card off the list that is handed out again: what it says from now on is somebody else's.
func (a *applying) unmark(card string) {
	e := &a.b.erased
	n := e.key.Name(card)
	unset(a, e.waiting, n)
	if !e.names[n] {
		return
	}
	unset(a, e.names, n)
	a.drop(KindErased, n.String())
	a.relist()
}

// relist has every node's roster made again.
func (a *applying) relist() {
	a.b.erased.plain = nil
	a.step.undo = append(a.step.undo, func() { a.b.erased.plain = nil })
	a.step.Erased = true
	for id := range a.b.nodes {
		a.touched[id] = true
	}
}

// Erasures are those in force.
func (r *Registry) Erasures() *access.Erasures { return r.erased.Load() }

// Memory is what to keep beside the database of who was erased: the names in force, and those that wait as far as there is room.
func (r *Registry) Memory() Memory {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e := &r.book.erased
	names, waiting := ascending(e.names), ascending(e.waiting)
	names = append(names, waiting[:min(len(waiting), max(access.MaxErased-len(names), 0))]...)
	slices.SortFunc(names, access.ErasedName.Compare)
	return Memory{e.key, names}
}
