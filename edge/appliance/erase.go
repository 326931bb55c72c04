package appliance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"kith/edge/roster"
	"kith/internal/access"
	"kith/internal/event"
	"kith/internal/journal"
	"kith/internal/pki"
)

// What a roster says of erased people is carried out here: what is recorded from then on leaves them out, and what was recorded
// before is searched, once for each list. The search has a goroutine of its own and reads in small steps; no door waits for it.
const (
	erasedFile  = "erased"          // digest of the list that was searched for last, in the state directory
	eraseEvery  = time.Second       // between two looks at the list in force
	eraseAgain  = 5 * time.Minute   // after a search that failed
	erasedLimit = 2*sha256.Size + 1 // bytes of that file
)

// eraser owns the search.
type eraser struct {
	path    string
	log     *slog.Logger
	list    func() *access.Erasures // in force; nil: none
	search  func(context.Context, func(string) bool) error
	trouble atomic.Pointer[error] // why the last search did not come to its end; nil: it did

	// Owned by the goroutine that looks.
	done  string           // digest of the list that was searched for last; empty: not known
	seen  *access.Erasures // the list that was looked at last
	again time.Time        // no try before
}

// read takes up what a former start wrote down. Where the roster in force has another list than that, or none, what is recorded
// now may name people whom the next list names again: then nothing counts as searched.
func (e *eraser) read() {
	f, err := os.Open(e.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		e.done = digest(nil)
	case err == nil:
		defer f.Close()
		if b, err := io.ReadAll(io.LimitReader(f, erasedLimit+1)); err == nil && len(b) == erasedLimit {
			e.done = string(b[:len(b)-1])
		}
	}
	if e.done != digest(e.list()) {
		e.done = ""
	}
}

func digest(list *access.Erasures) string {
	d := list.Digest()
	return hex.EncodeToString(d[:])
}

func (e *eraser) run(ctx context.Context) {
	tick := time.NewTicker(eraseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			e.look(ctx, now)
		}
	}
}

// look searches when another list came into force, and again when that failed a while ago.
func (e *eraser) look(ctx context.Context, now time.Time) {
	list := e.list()
	if list != e.seen {
		e.seen, e.again = list, time.Time{}
	} else if now.Before(e.again) || e.again.IsZero() && e.done != "" {
		return
	}
	want := digest(list)
	if want == e.done {
		e.trouble.Store(nil)
		return
	}
	err := e.erase(ctx, list, want)
	if ctx.Err() != nil {
		return // the next start searches again
	}
	if err != nil {
		e.log.Error("erasing did not come to its end", "err", err, "again", eraseAgain)
		e.trouble.Store(&err)
		e.again = now.Add(eraseAgain)
		return
	}
	e.trouble.Store(nil)
	e.done, e.again = want, time.Time{}
}

func (e *eraser) erase(ctx context.Context, list *access.Erasures, want string) error {
	if list.Len() > 0 {
		if err := e.search(ctx, list.Has); err != nil {
			return err
		}
	}
	return pki.WriteFile(e.path, []byte(want+"\n"), 0o600)
}

// err is what the health tree shows.
func (e *eraser) err() error {
	if p := e.trouble.Load(); p != nil {
		return fmt.Errorf("somebody who was erased may still be named here; tried again every %s: %w", eraseAgain, *p)
	}
	return nil
}

// openEraser comes before anybody can tap, so that the list in force is known from the first fact on.
func (a *Appliance) openEraser(context.Context) error {
	a.eraser = &eraser{path: filepath.Join(a.opt.StateDir, erasedFile), log: a.log, list: a.erasures, search: a.searchAll}
	a.eraser.read()
	return nil
}

func (a *Appliance) erasures() *access.Erasures {
	if a.people == nil {
		return nil
	}
	return a.people.Current().Erasures()
}

// searchAll erases wherever this edge keeps people: started uses and who is in, the journal, one in memory that an earlier start
// left, and the roster's files.
func (a *Appliance) searchAll(ctx context.Context, is func(string) bool) error {
	uses := a.kiosk.Forget(is) // one that fails keeps no other from being searched
	a.facts.passed()
	a.inside.forget(is)
	n, written := a.journal.Erase(ctx, is)
	a.log.Info("journal searched for people who were erased", "parts", n)
	var memory, people error
	if a.spare == nil {
		memory = eraseSpare(ctx, a.journalOptions(), a.opt.SpareDir, is)
	} else {
		memory = fmt.Errorf("the journal on the disk could not be searched; mend the disk and start again: %w", a.spare)
	}
	switch p := a.people.(type) {
	case *roster.Store:
		people = p.Persist() // until it is on the disk, the one before is
	case *filed:
		people = p.settled()
	}
	return errors.Join(written, memory, people, uses)
}

// sweep removes what a power cut left of a file that was being written: people may stand in it.
func (a *Appliance) sweep(context.Context) error {
	if a.spare != nil {
		return nil // nothing is written here, and the directory is not locked
	}
	for _, name := range []string{usesFile, lastRosterFile} {
		left, err := filepath.Glob(filepath.Join(a.opt.StateDir, ".tmp-"+name+"-*"))
		if err != nil {
			return err
		}
		for _, path := range left {
			if err := os.Remove(path); err != nil {
				a.log.Warn("what a power cut left stays", "file", path, "err", err)
			}
		}
	}
	return nil
}

// errErased answers an entry that names somebody who was erased since it was begun.
var errErased = errors.New("it names somebody who was erased")

// discreet is the journal as facts reach it: it leaves out who was erased.
type discreet struct {
	journal appender
	list    func() *access.Erasures
	under   sync.RWMutex // held for reading while facts are on their way under the list that was in force when they came
}

// Append writes facts without the names of the erased. An entry is nothing without the people in it, and is refused.
func (d *discreet) Append(ctx context.Context, records ...journal.Record) ([]uint64, error) {
	d.under.RLock()
	defer d.under.RUnlock()
	if list := d.list(); list.Len() > 0 {
		for i := range records {
			p, changed := without(records[i].Private, list.Has)
			if changed && records[i].Kind.IsEntry() {
				return nil, errErased
			}
			records[i].Private = p
		}
	}
	return d.journal.Append(ctx, records...)
}

// passed returns when no fact is on its way any more that was looked at under an earlier list.
func (d *discreet) passed() {
	d.under.Lock()
	defer d.under.Unlock() // to have held it is all
}

// without is a private part in which nobody stands for whom is holds. What else it says stays, unless they stand in that too.
func without(p *event.Private, is func(string) bool) (*event.Private, bool) {
	if p == nil {
		return nil, false
	}
	names := func(p *event.Private) bool {
		b, err := p.Encode()
		return err != nil || event.Names(b, is)
	}
	if !names(p) {
		return p, false
	}
	q := *p
	if is(q.Member) {
		q.Member = ""
	}
	if is(q.Card) {
		q.Card = ""
	}
	if names(&q) {
		q.Body = nil
	}
	return &q, true
}
