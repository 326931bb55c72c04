package store

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// exportFormat names the first line of an export.
const exportFormat = "kith/export/v1"

type exportHead struct {
	Format     string `json:"format"`
	Network    string `json:"network"`
	Generation string `json:"generation"`
}

type exportLog struct {
	Log     string `json:"log"` // edge
	Node    string `json:"node"`
	Epoch   string `json:"epoch"`
	Size    uint64 `json:"size"`
	Root    string `json:"root"`
	Status  string `json:"status"`
	Receipt string `json:"receipt,omitempty"`
}

type exportLeaf struct {
	Leaf    string `json:"leaf"` // the exact bytes
	Salt    string `json:"salt,omitempty"`
	Private string `json:"private,omitempty"`
	Erased  bool   `json:"erased,omitempty"`
	Proof   string `json:"proof"` // receipted, or stored when no receipt covers it yet
}

// exportOpaque is a line that is no leaf. Its bytes need not be text.
type exportOpaque struct {
	Opaque []byte `json:"opaque"` // base64
	Proof  string `json:"proof"`
}

// exportGap stands for leaves that are lost. With the tree behind them a reader can go on.
type exportGap struct {
	Lost [2]uint64 `json:"lost"` // from, to: half open
	Tree []string  `json:"tree"` // compact range of [0, to), base64
	// Proof is the consistency proof from from to to, base64; empty when from is 0.
	Proof []string `json:"proof"`
}

// Export writes everything that was received as lines of JSON: a head, then for each log its state with the receipt,
// followed by its leaves in order. It streams one bundle at a time from one snapshot; the writer is not held up.
func (s *Store) Export(ctx context.Context, w io.Writer) error {
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("exporting: %w", err)
	}
	out := bufio.NewWriterSize(w, 1<<16)
	err = s.export(ctx, tx, out)
	if err = errors.Join(err, out.Flush(), ignoreDone(tx.Rollback())); err != nil {
		return fmt.Errorf("exporting: %w", err)
	}
	return nil
}

func (s *Store) export(ctx context.Context, tx *sql.Tx, w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	head := exportHead{Format: exportFormat, Network: s.network}
	if err := tx.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'generation'`).Scan(&head.Generation); err != nil {
		return err
	}
	if err := enc.Encode(head); err != nil {
		return err
	}
	logs, ids, err := readLogs(ctx, tx)
	if err != nil {
		return err
	}
	for i, l := range logs {
		if err := enc.Encode(exportLog{l.Edge, l.Node, l.Epoch.String(), l.Size, l.Root.String(), l.Status, string(l.Receipt)}); err != nil {
			return err
		}
		if err := exportLeaves(ctx, tx, ids[i], l.Receipt, enc); err != nil {
			return fmt.Errorf("log of %s: %w", l.Edge, err)
		}
	}
	return nil
}

func exportLeaves(ctx context.Context, tx *sql.Tx, id int64, receipt []byte, enc *json.Encoder) error {
	var covered uint64
	if receipt != nil {
		var err error
		if covered, err = noteSize(receipt); err != nil {
			return err
		}
	}
	rows, err := tx.QueryContext(ctx, `SELECT b.first, b.n, b.lines, b.tree, b.opaque, b.lost, b.proof, p.parts FROM bundles b
		LEFT JOIN private_parts p ON p.seq = b.seq WHERE b.log = ? ORDER BY b.first`, id)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var p partsRow
		var text, tree, unread, proof, packed []byte
		var lost bool
		if err := rows.Scan(&p.first, &p.n, &text, &tree, &unread, &lost, &proof, &packed); err != nil {
			return err
		}
		if lost {
			err = exportLost(p.first, p.first+p.n, tree, proof, enc)
		} else if err = p.decode(packed); err == nil {
			err = exportBundle(&p, text, unread, covered, enc)
		}
		if err != nil {
			return err
		}
	}
	return rows.Err()
}

func exportLost(from, to uint64, packed, packedProof []byte, enc *json.Encoder) error {
	t, err := unpackTree(to, packed)
	if err != nil {
		return err
	}
	proof, err := unpackProof(packedProof)
	if err != nil {
		return err
	}
	g := exportGap{Lost: [2]uint64{from, to}, Tree: []string{}, Proof: []string{}}
	for _, h := range t.hashes {
		g.Tree = append(g.Tree, h.String())
	}
	for _, h := range proof {
		g.Proof = append(g.Proof, h.String())
	}
	return enc.Encode(g)
}

func exportBundle(p *partsRow, text, unread []byte, covered uint64, enc *json.Encoder) error {
	for i, line := range bytes.Split(text, newline) {
		index := p.first + uint64(i)
		proof := "stored"
		if index < covered {
			proof = "receipted"
		}
		if isOpaque(unread, uint64(i)) {
			if err := enc.Encode(exportOpaque{nonNil(line), proof}); err != nil {
				return err
			}
			continue
		}
		out := exportLeaf{Leaf: string(line), Proof: proof}
		switch part, state, _ := p.get(index); state {
		case PrivatePresent:
			out.Salt, out.Private = hex.EncodeToString(part.Salt[:]), string(part.Bytes)
		case PrivateErased:
			out.Erased = true
		}
		if err := enc.Encode(out); err != nil {
			return err
		}
	}
	return nil
}
