package appliance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"kith/internal/access"
	"kith/internal/command"
	"kith/internal/settings"
)

// eraseVerb prints what a host puts into the roster file of an edge without a hub. The file stays the host's: its comments, and who
// else stands in it, are not ours to rewrite. What follows, the running edge does by itself.
func eraseVerb(_ context.Context, s command.Streams, args []string) int {
	f := command.Flags(s, "edge erase")
	config := f.String("config", "edge.yaml", "configuration `FILE`")
	ids, code, ok := command.Parse(s, f, args, access.MaxErased)
	switch {
	case !ok:
		return code
	case len(ids) == 0:
		fmt.Fprintln(s.Err, "edge erase: name the member, or cards, that are to be forgotten")
		return command.Usage
	}
	if err := printErased(s, *config, ids); err != nil {
		return command.Fail(s, "edge erase", err)
	}
	return command.OK
}

func printErased(s command.Streams, config string, ids []string) error {
	cfg, err := Load(config)
	if err != nil {
		return err
	}
	if cfg.Roster == "" {
		return errors.New("the people of this edge come from its hub: hub member erase reaches it from there")
	}
	b, _, err := readRoster(cfg.Roster)
	if err != nil {
		return err
	}
	var d access.Document
	if err := settings.Decode(cfg.Roster, b, &d); err != nil {
		return err
	}
	names, strangers, err := eraseFrom(&d, ids)
	if err != nil {
		return fmt.Errorf("%s: %w", cfg.Roster, err)
	}
	for _, id := range strangers { // beside what is to be pasted, which names nobody
		fmt.Fprintf(s.Err, "edge erase: %s stands in no line of %s: see that it is spelt as it was\n", id, cfg.Roster)
	}
	fmt.Fprintf(s.Out, "# Take them and their cards out of %s, put this in (in place of these two keys if they are there), and save.\n", cfg.Roster)
	fmt.Fprintln(s.Out, "# The running edge then erases what names them; edge status says when it could not. A copy elsewhere is yours to remove.")
	fmt.Fprintf(s.Out, "erasure_key: %q\nerased:\n", d.ErasureKey)
	for _, n := range names {
		fmt.Fprintf(s.Out, "  - %q\n", n.String())
	}
	return nil
}

// eraseFrom adds members, with the cards that the document gives them, and cards to those who were erased. It draws the key if
// there is none, and returns which of them the document knows nothing of.
func eraseFrom(d *access.Document, ids []string) (names []access.ErasedName, strangers []string, err error) {
	var key access.ErasureKey
	if d.ErasureKey == "" && len(d.Erased) == 0 {
		rand.Read(key[:])
		d.ErasureKey = hex.EncodeToString(key[:])
	}
	if n, err := hex.Decode(key[:], []byte(d.ErasureKey[:min(len(d.ErasureKey), 2*len(key))])); err != nil || n != len(key) || 2*n != len(d.ErasureKey) {
		return nil, nil, fmt.Errorf("erasure_key: is not %d hex digits", 2*len(key))
	}
	for i, text := range d.Erased {
		var n access.ErasedName
		b, err := hex.DecodeString(text)
		if err != nil || copy(n[:], b) != len(n) || len(b) != len(n) {
			return nil, nil, fmt.Errorf("erased[%d]: is not %d hex digits", i, 2*len(n))
		}
		names = append(names, n)
	}
	for _, id := range ids {
		known := slices.ContainsFunc(d.Members, func(m access.Member) bool { return m.ID == id })
		for _, c := range d.Cards {
			if c.ID == id || c.Member == id {
				known, names = true, append(names, key.Name(c.ID))
			}
		}
		names = append(names, key.Name(id))
		if !known {
			strangers = append(strangers, id)
		}
	}
	slices.SortFunc(names, access.ErasedName.Compare)
	if names = slices.Compact(names); len(names) > access.MaxErased {
		return nil, nil, fmt.Errorf("erased: %d names, limit %d", len(names), access.MaxErased)
	}
	return names, strangers, nil
}
