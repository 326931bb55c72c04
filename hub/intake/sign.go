package intake

import (
	"bytes"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/note"

	"kith/internal/event"
	"kith/internal/wire"
)

// Finish turns the outputs of one edge into messages. It may be called only after everything that Step asked to store is
// durable: it co-signs. However many batches of a log were stored at once, the log gets one co-signature and one receipt,
// at its newest size. The receipts stay in the edge's logs, to be told to the store with the next commit.
func (e *Edge) Finish(outputs []Output, witness note.Signer) ([]wire.Down, error) {
	var out []wire.Down
	told := map[event.Epoch]bool{}
	for i := range outputs {
		o := &outputs[i]
		if o.Reply == nil || o.Newest && told[o.Epoch] {
			continue
		}
		if o.Newest {
			told[o.Epoch] = true
		}
		if err := e.fill(o, witness); err != nil {
			return out, err
		}
		out = append(out, o.Reply)
	}
	return out, nil
}

func (e *Edge) fill(o *Output, witness note.Signer) error {
	if o.Sign != nil {
		text, err := cosign(o.Sign, witness)
		if err != nil {
			return err
		}
		o.Reply.(*wire.Receipt).Note = text
		return nil
	}
	l := e.find(o.Epoch)
	if l == nil {
		return nil
	}
	if err := l.cosign(witness); err != nil {
		return err
	}
	switch m := o.Reply.(type) {
	case *wire.Receipt:
		m.Size, m.Backup, m.Note = l.receipted, l.Backup, l.Receipt
	case *wire.State:
		m.Receipt = l.Receipt
	case *wire.Conflict:
		m.Receipt = l.Receipt
	}
	return nil
}

// cosign brings the receipt up to the size of the log. Without the edge's own note at that size, which a crash right after
// a commit may have cost, the older receipt stands until the edge speaks again.
func (l *Log) cosign(witness note.Signer) error {
	if l.receipted == l.Size || l.Checkpoint == nil {
		return nil
	}
	text, err := cosign(l.Checkpoint, witness)
	if err != nil {
		return err
	}
	l.Receipt, l.receipted = text, l.Size
	return nil
}

// cosign adds the hub's cosignature/v1 line (C2SP tlog-cosignature) to the edge's signed note.
func cosign(text []byte, witness note.Signer) ([]byte, error) {
	body, sigs, ok := bytes.Cut(text, []byte("\n\n"))
	if !ok {
		return nil, fmt.Errorf("co-signing: not a note")
	}
	signed, err := note.Sign(&note.Note{Text: string(body) + "\n"}, witness)
	if err != nil {
		return nil, fmt.Errorf("co-signing: %w", err)
	}
	// The edge's own line stays first, byte for byte.
	line := signed[len(body)+2:]
	return append(append(append(make([]byte, 0, len(text)+len(line)), body...), "\n\n"...), append(bytes.Clone(sigs), line...)...), nil
}

// noteSize reads the size line of a note that was verified before it was stored.
func noteSize(text []byte) uint64 {
	_, rest, _ := bytes.Cut(text, []byte("\n"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.ParseUint(string(line), 10, 62)
	if err != nil {
		return 0
	}
	return n
}
