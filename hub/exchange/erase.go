package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"kith/hub/registry"
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

// erasingFile stands in the state directory from before an erasure begins until the last backup that names the person is
// gone. It names nobody: it only says that an order for somebody nothing is known of may be the end of an unfinished one.
const erasingFile = "erasing"

// erase forgets a person in this order: the registry first, so that rosters without the person go out and nothing new is
// accepted; then private parts and projections; then the free pages of the database; then the backups that still hold the
// person, and these only after a fresh copy has been verified. After a crash anywhere, ordering it again finishes it.
// Somebody of whom nothing was ever known, most likely a misspelt id, costs no backup.
func (x *Exchange) erase(ctx context.Context, member string) (Answer, error) {
	var a Answer
	marker := filepath.Join(x.opt.StateDir, erasingFile)
	_, err := os.Stat(marker)
	unfinished := err == nil
	if err := pki.WriteFile(marker, nil, 0o600); err != nil {
		return a, fmt.Errorf("nothing was erased: %w", err)
	}
	_, known := x.registry.Member(member)
	if known {
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
	if !known && !unfinished && n == 0 {
		return a, errors.Join(fmt.Errorf("no record here names %.60q: nothing was changed; hub list members shows how ids are spelt", member),
			os.Remove(marker))
	}
	if err := x.storage.Compact(ctx); err != nil {
		return a, fmt.Errorf("erased, but old pages are still on the disk; order it again: %w", err)
	}
	taken, err := x.backup(ctx)
	if err != nil {
		return a, fmt.Errorf("erased here; older backups stay until a new one succeeds; order it again: %w", err)
	}
	if err := x.dropBackups(taken.Files[0]); err != nil {
		return a, fmt.Errorf("erased here, but older backups could not be removed; order it again: %w", err)
	}
	if err := os.Remove(marker); err != nil {
		x.log.Warn("the erasure is complete, though its mark could not be removed", "err", err)
	}
	a.Erased = &Erasure{Parts: n, Backup: taken.Files[0]}
	return a, nil
}
