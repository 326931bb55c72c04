package exchange

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"kith/hub/registry"
	"kith/internal/access"
	"kith/internal/pki"
)

// Erasure is what forgetting a person came to.
type Erasure struct {
	Parts  int    `json:"parts"`  // private parts erased, with their salts
	Backup string `json:"backup"` // the fresh copy that replaced all older ones
}

func (e *Erasure) print(w io.Writer) {
	if e.Parts == 0 {
		fmt.Fprintln(w, "nothing that this person did is recorded here, or it is erased already")
	}
	fmt.Fprintf(w, "erased %s; all older backups are gone, the new one is %s\n", many(uint64(max(e.Parts, 0)), "private part", "private parts"), e.Backup)
}

// erasing is one order under way.
type erasing struct {
	x      *Exchange
	member string
	cards  []string
	answer Answer
	parts  int
	backup string
	older  []string // backups that may hold the person
}

// steps of an erasure: the registry first, which remembers names that tell nobody who it was, so that rosters without the person
// go out and nothing new is taken in; then private parts and projections; then the free pages of the database; then the
// backups that still hold the person, and these only after a fresh copy has been verified. Each may be done again, so after
// a crash anywhere, ordering it again finishes it.
func (e *erasing) steps() []step {
	return []step{
		{e.forget, "nothing was erased"},
		{func(context.Context) error { return e.x.keepMemory() }, "the person is out of the registry and of the rosters, and nothing else was erased yet; order it again"},
		{e.sweep, "the person is out of the registry and of the rosters, and nothing else was erased yet; order it again"},
		{e.compact, "erased, but old pages are still on the disk; order it again"},
		{e.copy, "erased here; older backups stay until a new one succeeds; order it again"},
		{e.drop, "erased here, but older backups could not be removed; order it again"},
	}
}

type step struct {
	do     func(context.Context) error
	failed string // what to say then
}

func (e *erasing) forget(ctx context.Context) (err error) {
	e.answer, err = e.x.apply(ctx, registry.Change{Erase: []registry.Erasing{{Member: e.member, Cards: e.cards}}})
	return err
}

func (e *erasing) sweep(ctx context.Context) (err error) {
	e.parts, err = e.x.storage.Sweep(ctx)
	if e.x.pages != nil {
		e.x.pages.periods.faces.forget()
	}
	return err
}

func (e *erasing) compact(ctx context.Context) error { return e.x.storage.Compact(ctx) }

// copy notes the older backups first: one that is taken meanwhile, and that edges prune by, began after everything was erased.
func (e *erasing) copy(ctx context.Context) (err error) {
	if e.older, err = filepath.Glob(filepath.Join(e.x.cfg.backupDir(e.x.opt.StateDir), backupPrefix+"*"+backupSuffix)); err != nil {
		return err
	}
	taken, err := e.x.backup(ctx)
	if err == nil {
		e.backup = taken.Files[0]
	}
	return err
}

// drop looks first whether the new copy stands: older ones that name somebody are better than none.
func (e *erasing) drop(context.Context) error {
	if err := intact(e.backup); err != nil {
		return fmt.Errorf("the new copy is gone, so the older ones stay: %w", err)
	}
	var errs []error
	for _, file := range e.older {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) { // the oldest went when the new one came
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// erasure looks a person up. Somebody of whom nothing was ever known, most likely a misspelt id, costs no backup; an erased
// id is known by its name on the list.
func (x *Exchange) erasure(ctx context.Context, member string) (*erasing, error) {
	_, known := x.registry.Member(member)
	named, cards, err := x.storage.Beside(ctx, member)
	if err != nil {
		return nil, fmt.Errorf("nothing was erased: %w", err)
	}
	if !known && named == 0 && !x.registry.Erasures().Has(member) {
		return nil, fmt.Errorf("no record here names %.60q: nothing was changed; hub list members shows how ids are spelt", member)
	}
	return &erasing{x: x, member: member, cards: cards}, nil
}

func (x *Exchange) erase(ctx context.Context, member string) (Answer, error) {
	e, err := x.erasure(ctx, member)
	if err != nil {
		return Answer{}, err
	}
	for _, s := range e.steps() {
		if err := s.do(ctx); err != nil {
			return e.answer, fmt.Errorf("%s: %w", s.failed, err)
		}
	}
	e.answer.Erased = &Erasure{Parts: e.parts, Backup: e.backup}
	return e.answer, nil
}

// memoryFile keeps the list of who was erased beside the database, so that a database put back from an older copy, which still
// has a person, forgets that person again when it is opened. Its first line is the key, each other one a name.
const memoryFile = "erased"

// maxMemory bounds the file, in bytes.
const maxMemory = 65 + access.MaxErased*33

// keepMemory writes the list as it stands; nothing while nobody was erased.
func (x *Exchange) keepMemory() error {
	m := x.registry.Memory()
	if len(m.Names) == 0 {
		return nil
	}
	text := fmt.Appendf(nil, "%x\n", m.Key)
	for _, n := range m.Names {
		text = fmt.Appendf(text, "%s\n", n)
	}
	return pki.WriteFile(filepath.Join(x.opt.StateDir, memoryFile), text, 0o600)
}

// handedOut takes a card off the list beside the database that was just registered for somebody again. Where that fails the name
// only waits there: it counts again at a start at which nobody holds the card.
func (x *Exchange) handedOut() {
	if err := x.keepMemory(); err != nil {
		x.log.Warn("a card of somebody who was erased is handed out again; the list beside the database still has it", "err", err)
	}
}

// readMemory is empty while there is no file.
func readMemory(file string) (m registry.Memory, err error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxMemory+1))
	if err != nil {
		return m, err
	}
	return parseMemory(text)
}

func parseMemory(text []byte) (m registry.Memory, err error) {
	if len(text) > maxMemory {
		return m, fmt.Errorf("more than %d bytes", maxMemory)
	}
	for i, line := range bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
		dst := m.Key[:]
		var n access.ErasedName
		if i > 0 {
			dst = n[:]
		}
		if hex.DecodedLen(len(line)) != len(dst) || len(line)%2 != 0 {
			return m, fmt.Errorf("line %d: want %d hexadecimal digits", i+1, 2*len(dst))
		}
		if _, err := hex.Decode(dst, line); err != nil {
			return m, fmt.Errorf("line %d: %w", i+1, err)
		}
		if i > 0 {
			m.Names = append(m.Names, n)
		}
	}
	return m, nil
}

// remember brings a database that was just opened to what was erased: it may be an older copy than the list beside it, or a
// crash may have come between the list and the records, or between these and the old pages of the files.
func (x *Exchange) remember(ctx context.Context) error {
	file := filepath.Join(x.opt.StateDir, memoryFile)
	m, err := readMemory(file)
	if err == nil {
		_, err = x.registry.Apply(ctx, registry.Change{Recall: &m}, time.Now())
	}
	if err != nil {
		return fmt.Errorf("taking in who was erased, from %s; put the file of this very hub there, or move it away and order erasures again: %w", file, err)
	}
	if now := x.registry.Memory(); !sameMemory(m, now) {
		if err := x.keepMemory(); err != nil {
			return err
		}
	}
	x.storage.Heed(x.registry.Erasures)
	done, err := x.storage.Swept(ctx)
	if err != nil || done {
		return err
	}
	n, err := x.storage.Sweep(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		x.log.Warn("parts of people who were erased stood in the database and are gone now; backups may hold them: order the erasure again", "parts", n)
	}
	// Also where nothing was found: a crash may have come before the pages went. A disk without the room for it keeps no hub
	// from starting; the next start tries again.
	if err := x.storage.Compact(ctx); err != nil {
		x.log.Error("people were erased, but old pages that name them are still on the disk; they go with the next start, or when the "+
			"erasure is ordered again", "err", err)
	}
	return nil
}

func sameMemory(a, b registry.Memory) bool {
	return len(b.Names) == 0 && len(a.Names) == 0 || a.Key == b.Key && slices.Equal(a.Names, b.Names)
}
