package exchange

import (
	"context"
	"fmt"
	"io"

	"kith/hub/registry"
)

// Erasure is what forgetting a person came to.
type Erasure struct {
	Parts  int    `json:"parts"`  // private parts erased, with their salts
	Backup string `json:"backup"` // the fresh copy that replaced all older ones
}

func (e *Erasure) print(w io.Writer) {
	if e.Parts == 0 {
		fmt.Fprintln(w, "no record here names this id: whoever it was never came, is erased already, or is spelt otherwise")
	}
	fmt.Fprintf(w, "erased %s; all older backups are gone, the new one is %s\n", many(uint64(max(e.Parts, 0)), "private part", "private parts"), e.Backup)
}

// erase forgets a person in this order: the registry first, so that rosters without the person go out and nothing new is
// accepted; then private parts and projections; then the free pages of the database; then the backups that still hold the
// person, and these only after a fresh copy has been verified. After a crash anywhere, ordering it again finishes it.
func (x *Exchange) erase(ctx context.Context, member string) (Answer, error) {
	var a Answer
	if _, known := x.registry.Member(member); known {
		var err error
		if a, err = x.apply(ctx, registry.Change{DropMembers: []string{member}}); err != nil {
			return a, err
		}
	}
	n, err := x.storage.EraseMember(ctx, member)
	if x.pages != nil {
		x.pages.periods.faces.forget()
	}
	if err != nil {
		return a, err
	}
	if err := x.storage.Compact(ctx); err != nil {
		return a, fmt.Errorf("erased, but old pages are still on the disk; order it again: %w", err)
	}
	taken, err := x.backup(ctx)
	if err != nil {
		return a, fmt.Errorf("erased here; older backups stay until a new one succeeds; order it again: %w", err)
	}
	if err := x.dropBackups(taken.Files[0]); err != nil {
		return a, fmt.Errorf("erased here, but older backups could not be removed: %w", err)
	}
	a.Erased = &Erasure{Parts: n, Backup: taken.Files[0]}
	return a, nil
}
