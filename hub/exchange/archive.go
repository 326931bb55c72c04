package exchange

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"kith/hub/intake"
	"kith/hub/store"
	"kith/internal/event"
)

// archiveLine bounds one line of an archive, in bytes: a leaf with its private part, escaped twice.
const archiveLine = 4 * (event.MaxLeaf + event.MaxPrivate)

// errStopped answers orders that only a running hub can carry out, because the intake's states must change with them.
var errStopped = errors.New("start the hub first: this changes what it believes of an edge")

// archive fills every gap for which the file holds all leaves. The file is an older hub's export, or bare leaf lines. It
// proves itself: nothing but the lost leaves leads to the root behind the gap.
func (x *Exchange) archive(ctx context.Context, file string) (Answer, error) {
	if x.intake == nil {
		return Answer{}, errStopped
	}
	gaps, err := x.storage.Gaps(ctx)
	if err != nil {
		return Answer{}, err
	}
	if len(gaps) == 0 {
		return Answer{}, errors.New("nothing is lost here")
	}
	found, err := readArchive(file, gaps)
	if err != nil {
		return Answer{}, fmt.Errorf("reading %s: %w", file, err)
	}
	var a Answer
	for i, g := range gaps {
		lines := found[i]
		if uint64(len(lines)) != g.To-g.From {
			continue
		}
		if err := x.storage.Fill(ctx, g.Edge, g.Epoch, g.From, lines); err != nil {
			return a, err
		}
		if err := x.intake.Filled(ctx, g.Edge, g.Epoch, intake.Span{From: g.From, To: g.To}); err != nil {
			return a, err
		}
		a.Filled = append(a.Filled, g.String())
	}
	if len(a.Filled) == 0 {
		return a, fmt.Errorf("%s holds none of the %d lost ranges whole; hub verify names them", file, len(gaps))
	}
	return a, nil
}

// readArchive picks, for each gap, the leaves that belong into it, in order. Memory is bounded by the gaps.
func readArchive(file string, gaps []store.Gap) ([][][]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := make([][][]byte, len(gaps))
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 64<<10), archiveLine)
	for lines.Scan() {
		line := lines.Bytes()
		var row struct {
			Leaf string `json:"leaf"`
		}
		if json.Unmarshal(line, &row) == nil && row.Leaf != "" {
			line = []byte(row.Leaf)
		}
		l, err := event.Parse(line)
		if err != nil {
			continue // heads, receipts and private parts stand between the leaves
		}
		for i, g := range gaps {
			if l.Edge == g.Edge && l.Epoch == g.Epoch && l.Index == g.From+uint64(len(out[i])) && l.Index < g.To {
				out[i] = append(out[i], append([]byte(nil), line...))
			}
		}
	}
	return out, lines.Err()
}

// release is an operator's word that an edge with two histories, or two devices with one key, may count again.
func (x *Exchange) release(ctx context.Context, edge string) (Answer, error) {
	if x.intake == nil {
		return Answer{}, errStopped
	}
	if err := x.intake.Release(ctx, edge); err != nil {
		return Answer{}, err
	}
	x.log.Warn("an operator released a held edge", "edge", edge)
	return Answer{}, nil
}
