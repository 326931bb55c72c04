package feed

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// WriteCSV writes one row per posting, and one without an account for an entry that has none, as RFC 4180. Text that a
// spreadsheet would take for a formula has an apostrophe before it; whoever reads by program drops one leading
// apostrophe. Refused entries are listed too; their code says so.
func WriteCSV(w io.Writer, j *Journal) error {
	c, err := survey(j)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, bufferBytes)
	b.WriteString("seq,id,code,kind,standing,day,at_ms,unsure,journal,index,rule,part,ref,posting,account,unit,amount\r\n")
	for i := range c.stretches {
		bySeq(c.stretches[i].entries)
		for _, e := range c.stretches[i].entries {
			head := strings.Join([]string{strconv.FormatUint(e.Seq, 10), cell(e.ID), cell(e.Code), cell(e.Kind), cell(e.Standing),
				isoDay(e.day), strconv.FormatInt(e.At, 10), strconv.FormatBool(e.Unsure), cell(e.Journal),
				strconv.FormatUint(e.Index, 10), cell(e.Rule), strconv.FormatUint(uint64(e.Part), 10), cell(e.Ref)}, ",")
			if len(e.Postings) == 0 {
				b.WriteString(head + ",,,,\r\n")
			}
			for i, p := range e.Postings {
				fmt.Fprintf(b, "%s,%d,%s,%s,%d\r\n", head, i, cell(p.Path), cell(p.Unit), p.Amount)
			}
		}
	}
	return flush(b, "CSV of entries")
}

// WriteBalancesCSV writes the sealed balances of all closings, one row per account.
func WriteBalancesCSV(w io.Writer, j *Journal) error {
	c, err := survey(j)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, bufferBytes)
	b.WriteString("period,day,after,root,account,unit,balance,debits_pending,credits_pending\r\n")
	for _, s := range c.stretches {
		if s.closing == nil {
			continue
		}
		for _, k := range s.closing.sealed() {
			fmt.Fprintf(b, "%s,%s,%d,%s,%s,%s,%d,%d,%d\r\n", cell(s.closing.Period), isoDay(min(max(s.closing.Day, firstDay), lastDay)), s.closing.After,
				cell(s.closing.Root), cell(k.Path), cell(k.Unit), k.Amount, k.DebitsPending, k.CreditsPending)
		}
	}
	return flush(b, "CSV of balances")
}

// cell writes text as one field. Spreadsheets look at the first character that is not blank.
func cell(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if lead := strings.TrimLeft(s, " \u00a0\u3000"); lead != "" && strings.ContainsRune("=+-@\t\r\n'|%\uff1d\uff0b\uff0d\uff20", firstRune(lead)) {
		s = "'" + s
	}
	if strings.ContainsAny(s, ",\"\r\n") || strings.TrimSpace(s) != s {
		return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	return s
}

func firstRune(s string) rune {
	for _, r := range s {
		return r
	}
	return 0
}

type lineHead struct {
	Format  string `json:"format"`
	Network string `json:"network"`
	Units   []Unit `json:"units"`
}

type lineEntry struct {
	Type     string   `json:"type"`
	Seq      uint64   `json:"seq"`
	ID       string   `json:"id"`
	Code     string   `json:"code"`
	Kind     string   `json:"kind"`
	Standing string   `json:"standing"`
	At       int64    `json:"at"`
	Unsure   bool     `json:"unsure"`
	Journal  string   `json:"journal"`
	Index    uint64   `json:"index"`
	Rule     string   `json:"rule"`
	Part     uint32   `json:"part"`
	Ref      string   `json:"ref,omitempty"`
	Postings [][3]any `json:"postings"`
}

type lineSeal struct {
	Type     string   `json:"type"`
	Period   string   `json:"period"`
	Day      string   `json:"day"`
	After    uint64   `json:"after"`
	Root     string   `json:"root"`
	Balances [][5]any `json:"balances"` // path, unit, balance, debits pending, credits pending
}

// WriteJSONLines writes a head line, then entries in booking order with each seal after the entries it covers. Amounts
// are 64-bit whole numbers; a reader that keeps numbers as floating point must read them as text.
func WriteJSONLines(w io.Writer, j *Journal) error {
	c, err := survey(j)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, bufferBytes)
	enc := json.NewEncoder(b)
	lines := []any{lineHead{"kith-books-export v1", c.network, append([]Unit{}, c.units...)}}
	if c.opening != nil {
		lines = append(lines, c.opening.line("opening"))
	}
	for i := range c.stretches {
		s := &c.stretches[i]
		bySeq(s.entries)
		for _, e := range s.entries {
			line := lineEntry{"entry", e.Seq, e.ID, e.Code, e.Kind, e.Standing, e.At, e.Unsure, e.Journal, e.Index, e.Rule, e.Part,
				e.Ref, make([][3]any, len(e.Postings))}
			for i, p := range e.Postings {
				line.Postings[i] = [3]any{p.Path, p.Unit, p.Amount}
			}
			lines = append(lines, line)
		}
		if s.closing != nil {
			lines = append(lines, s.closing.line("seal"))
		}
		for _, line := range lines {
			if err := enc.Encode(line); err != nil {
				return fmt.Errorf("writing the JSON lines: %w", err)
			}
		}
		lines = lines[:0]
	}
	return flush(b, "JSON lines")
}

func (k *Closing) line(what string) lineSeal {
	s := lineSeal{what, k.Period, isoDay(min(max(k.Day, firstDay), lastDay)), k.After, k.Root, make([][5]any, len(k.Balances))}
	for i, b := range k.sealed() {
		s.Balances[i] = [5]any{b.Path, b.Unit, b.Amount, b.DebitsPending, b.CreditsPending}
	}
	return s
}
