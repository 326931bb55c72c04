package chip

import (
	"context"
	"fmt"
	"io"
	"slices"

	"kith/internal/card"
)

const cardUsage = `usage: simulator card new FILE    make a virtual PKOC card, print its card id
       simulator card show FILE   print the card id of FILE (or of uid:HEX)
`

// CardCommand is `simulator card`.
func CardCommand(_ context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	if slices.ContainsFunc(args, isHelp) {
		fmt.Fprint(stdout, cardUsage)
		return exitOK
	}
	if len(args) != 2 || args[1] == "" {
		fmt.Fprint(stderr, cardUsage)
		return exitUsage
	}
	var id string
	var err error
	switch args[0] {
	case "new":
		id, err = newCardFile(args[1])
	case "show":
		id, err = showCard(args[1])
	default:
		fmt.Fprint(stderr, cardUsage)
		return exitUsage
	}
	if err != nil {
		fmt.Fprintln(stderr, "simulator card:", err)
		return exitFailed
	}
	fmt.Fprintln(stdout, id)
	return exitOK
}

func newCardFile(path string) (string, error) {
	key, err := card.NewKey()
	if err != nil {
		return "", err
	}
	if err := card.SaveKey(path, key); err != nil {
		return "", err
	}
	return card.NewPKOCCard(key).Credential().ID(), nil
}

func showCard(name string) (string, error) {
	k, err := LoadCard(name)
	if err != nil {
		return "", err
	}
	return k.ID()
}
