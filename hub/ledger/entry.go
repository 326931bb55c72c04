package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// ID is the identity of an entry, derived from where it came from.
type ID [32]byte

// String returns the ID as 64 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Source says which leaf of which journal caused an entry, under which version of the rules, and which part of that
// leaf's entries it is. One leaf under one rule version has one set of entries.
type Source struct {
	Journal string // origin of the journal: printable ASCII without quote, backslash or space
	Index   uint64
	Rule    string // version of the rules, a slug
	Part    uint32
}

// Bounds of one entry.
const (
	maxJournalBytes = 256
	MaxPostings     = 1024 // postings of one entry
	MaxEntryBytes   = 1 << 18
)

// ID derives the identity. docs/FORMATS.md, "Ledger", gives the exact bytes.
func (s Source) ID() ID {
	b := append([]byte("kith ledger entry v1\n"), s.Journal...)
	b = strconv.AppendUint(append(b, '\n'), s.Index, 10)
	b = append(append(b, '\n'), s.Rule...)
	b = strconv.AppendUint(append(b, '\n'), uint64(s.Part), 10)
	return sha256.Sum256(append(b, '\n'))
}

// Kind is what an entry does.
type Kind string

// The kinds. A hold only reserves; settle turns exactly what was held into posted amounts.
const (
	Post    Kind = "post"
	Hold    Kind = "hold"
	Settle  Kind = "settle"  // of the hold named in Ref
	Void    Kind = "void"    // of the hold named in Ref: it was wrong or withdrawn
	Expire  Kind = "expire"  // of the hold named in Ref: its time ran out
	Reverse Kind = "reverse" // of the posted entry named in Ref
)

// Standing says whether the world already moved.
type Standing string

// A permission asks to move value and may be refused; a fact happened, also where the books could not be asked.
const (
	Permission Standing = "permission"
	Fact       Standing = "fact"
)

// Posting moves one account: above zero it gains, below zero it gives. All postings of an entry sum to zero per unit.
type Posting struct {
	Account Account
	Amount  int64
}

// Entry is one line of the journal of the books. At is when the event says it happened; the books order by source alone.
type Entry struct {
	Source   Source
	Kind     Kind
	Standing Standing
	At       int64 // Unix ms by the edge's clock
	Unsure   bool  // that clock was not trusted
	Ref      ID    // what Settle, Void, Expire and Reverse speak of; zero otherwise
	Postings []Posting
}

// ID returns the identity of the entry.
func (e *Entry) ID() ID { return e.Source.ID() }

// Reversal returns the entry that takes original back. A correction is a fact.
func Reversal(original *Entry, source Source, at int64) Entry {
	r := Entry{Source: source, Kind: Reverse, Standing: Fact, At: at, Ref: original.ID()}
	for _, p := range original.Postings {
		r.Postings = append(r.Postings, Posting{Account: p.Account, Amount: -p.Amount})
	}
	return r
}

// AppendJSON appends the one line of JSON that the entry is: fixed keys in fixed order, no spaces, no newline. These
// bytes are what identity is compared by.
func (e *Entry) AppendJSON(b []byte) []byte {
	id := e.ID()
	b = hex.AppendEncode(append(b, `{"id":"`...), id[:])
	b = append(append(b, `","journal":"`...), e.Source.Journal...)
	b = strconv.AppendUint(append(b, `","index":`...), e.Source.Index, 10)
	b = append(append(b, `,"rule":"`...), e.Source.Rule...)
	b = strconv.AppendUint(append(b, `","part":`...), uint64(e.Source.Part), 10)
	b = append(append(b, `,"kind":"`...), e.Kind...)
	b = append(append(b, `","standing":"`...), e.Standing...)
	b = strconv.AppendInt(append(b, `","at":`...), e.At, 10)
	b = strconv.AppendBool(append(b, `,"unsure":`...), e.Unsure)
	if e.Ref != (ID{}) {
		b = hex.AppendEncode(append(b, `,"ref":"`...), e.Ref[:])
		b = append(b, '"')
	}
	b = append(b, `,"postings":[`...)
	for i, p := range e.Postings {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, `["`...), p.Account.Path...)
		b = append(append(b, `","`...), p.Account.Unit...)
		b = strconv.AppendInt(append(b, `",`...), p.Amount, 10)
		b = append(b, ']')
	}
	return append(b, "]}"...)
}

// ErrEntry is wrapped by every refusal of ParseEntry.
var ErrEntry = errors.New("not an entry in canonical form")

// ParseEntry reads one line back. It accepts only the bytes that AppendJSON writes.
func ParseEntry(text []byte) (Entry, error) {
	if len(text) > MaxEntryBytes {
		return Entry{}, fmt.Errorf("reading an entry of %d bytes: %w (at most %d)", len(text), ErrEntry, MaxEntryBytes)
	}
	var raw struct {
		Journal  string               `json:"journal"`
		Index    uint64               `json:"index"`
		Rule     string               `json:"rule"`
		Part     uint32               `json:"part"`
		Kind     Kind                 `json:"kind"`
		Standing Standing             `json:"standing"`
		At       int64                `json:"at"`
		Unsure   bool                 `json:"unsure"`
		Ref      string               `json:"ref"`
		Postings [][3]json.RawMessage `json:"postings"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return Entry{}, fmt.Errorf("reading an entry: %w: %w", ErrEntry, err)
	}
	e := Entry{Source: Source{Journal: raw.Journal, Index: raw.Index, Rule: raw.Rule, Part: raw.Part},
		Kind: raw.Kind, Standing: raw.Standing, At: raw.At, Unsure: raw.Unsure}
	if raw.Ref != "" {
		ref, err := hex.DecodeString(raw.Ref)
		if err != nil || len(ref) != len(e.Ref) {
			return Entry{}, fmt.Errorf("reading an entry: ref: %w", ErrEntry)
		}
		e.Ref = ID(ref)
	}
	if len(raw.Postings) > MaxPostings {
		return Entry{}, fmt.Errorf("reading an entry of %d postings: %w (at most %d)", len(raw.Postings), ErrEntry, MaxPostings)
	}
	for _, p := range raw.Postings {
		var post Posting
		if errors.Join(json.Unmarshal(p[0], &post.Account.Path), json.Unmarshal(p[1], &post.Account.Unit),
			json.Unmarshal(p[2], &post.Amount)) != nil {
			return Entry{}, fmt.Errorf("reading an entry: posting: %w", ErrEntry)
		}
		e.Postings = append(e.Postings, post)
	}
	if !e.wellFormed() || !bytes.Equal(e.AppendJSON(nil), text) {
		return Entry{}, fmt.Errorf("reading an entry: %w", ErrEntry)
	}
	return e, nil
}

// wellFormed says whether the names can stand in JSON as they are and the kind fits the rest.
func (e *Entry) wellFormed() bool {
	if len(e.Source.Journal) == 0 || len(e.Source.Journal) > maxJournalBytes || !validSlug(e.Source.Rule) {
		return false
	}
	for i := range len(e.Source.Journal) {
		if b := e.Source.Journal[i]; b <= ' ' || b >= 0x7f || b == '"' || b == '\\' {
			return false
		}
	}
	if e.Standing != Fact && e.Standing != Permission {
		return false
	}
	for i := range e.Postings {
		if a := e.Postings[i].Account; !validPath(a.Path) || !validSlug(a.Unit) || e.Postings[i].Amount == 0 {
			return false
		}
	}
	switch e.Kind {
	case Post, Hold:
		return e.Ref == (ID{}) && len(e.Postings) > 1 && len(e.Postings) <= MaxPostings
	case Settle, Reverse:
		return e.Ref != (ID{}) && len(e.Postings) > 1 && len(e.Postings) <= MaxPostings
	case Void, Expire:
		return e.Ref != (ID{}) && len(e.Postings) == 0
	}
	return false
}
