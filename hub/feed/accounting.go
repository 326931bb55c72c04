package feed

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
)

const bufferBytes = 1 << 16

// WriteLedger writes one text that both hledger (check -s) and ledger (--strict --pedantic) accept: every commodity and
// account is declared, amounts are whole numbers of smallest parts, and each closing asserts every sealed balance.
// Holds, and what became of them, stand as comments: they move no balance until they are settled.
func WriteLedger(w io.Writer, j *Journal) error {
	c, err := survey(j)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, bufferBytes)
	fmt.Fprintf(b, "; kith-ledger-export v1\n; network %s\n", plainName(c.network))
	for _, u := range c.units {
		fmt.Fprintf(b, "; unit %s counts smallest parts with %d decimal places\n", plainName(u.Name), u.Scale)
	}
	b.WriteByte('\n')
	for _, u := range c.units {
		fmt.Fprintf(b, "commodity \"%s\"\n", plainName(u.Name))
	}
	for _, path := range c.paths {
		fmt.Fprintf(b, "account %s\n", plainPath(path))
	}
	if c.opening != nil {
		day := isoDay(min(max(c.opening.Day, firstDay), lastDay))
		fmt.Fprintf(b, "\n%s * opening from %s\n", day, plainName(c.opening.Period))
		writeRoot(b, "    ; seal ", c.opening)
		for _, s := range c.opening.sealed() {
			writePlainPosting(b, "    ", Posting{s.Path, s.Unit, s.Amount})
		}
	}
	for i := range c.stretches {
		c.stretches[i].writeLedger(b)
	}
	return flush(b, "ledger journal")
}

func (s *stretch) writeLedger(b *bufio.Writer) {
	for _, e := range s.entries {
		switch {
		case e.moves() && len(e.Postings) > 0:
			fmt.Fprintf(b, "\n%s * (%d) %s %s\n", isoDay(e.day), e.Seq, e.Kind, plainName(e.ID))
			writeOrigin(b, "    ; ", e.Entry)
			for _, p := range e.Postings {
				writePlainPosting(b, "    ", p)
			}
		case e.Code == "booked":
			fmt.Fprintf(b, "\n; %s (%d) %s %s\n", isoDay(e.day), e.Seq, plainName(e.Kind), plainName(e.ID))
			writeOrigin(b, ";     ", e.Entry)
			for _, p := range e.Postings {
				writePlainPosting(b, ";     ", p)
			}
		}
	}
	if s.closing == nil {
		return
	}
	fmt.Fprintf(b, "\n%s * closing %s\n", isoDay(s.day), plainName(s.closing.Period))
	writeRoot(b, "    ; seal ", s.closing)
	for _, k := range s.closing.sealed() {
		unit := plainName(k.Unit)
		fmt.Fprintf(b, "    %s  0 \"%s\" = %d \"%s\"\n", plainPath(k.Path), unit, k.Amount, unit)
	}
}

func writePlainPosting(b *bufio.Writer, indent string, p Posting) {
	b.WriteString(indent)
	b.WriteString(plainPath(p.Path))
	b.WriteString("  ")
	b.WriteString(strconv.FormatInt(p.Amount, 10))
	b.WriteString(" \"")
	b.WriteString(plainName(p.Unit))
	b.WriteString("\"\n")
}

func writeOrigin(b *bufio.Writer, indent string, e *Entry) {
	fmt.Fprintf(b, "%sfrom %s %d part %d rule %s at %d", indent, plainOrigin(e.Journal), e.Index, e.Part, plainName(e.Rule), e.At)
	if e.Unsure {
		b.WriteString(" unsure")
	}
	if e.Ref != "" {
		b.WriteString(" of " + plainName(e.Ref))
	}
	b.WriteByte('\n')
}

func writeRoot(b *bufio.Writer, indent string, k *Closing) {
	if k.Root != "" {
		b.WriteString(indent + plainName(k.Root) + "\n")
	}
}

// WriteBeancount writes the same books for beancount. Its balances hold at the start of a day, so a closing is asserted
// on the day after it.
func WriteBeancount(w io.Writer, j *Journal) error {
	c, err := survey(j)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, bufferBytes)
	fmt.Fprintf(b, "; kith-beancount-export v1\noption \"title\" \"Kith network %s\"\n\n", plainName(c.network))
	for _, u := range c.units {
		fmt.Fprintf(b, "1970-01-01 commodity %s\n  name: \"%s\"\n  scale: %d\n", beanUnit(u.Name), plainName(u.Name), u.Scale)
	}
	b.WriteByte('\n')
	names := beanAccounts(c.paths)
	for _, path := range c.paths {
		fmt.Fprintf(b, "1970-01-01 open %s\n", names[path])
	}
	if c.opening != nil {
		day := isoDay(min(max(c.opening.Day, firstDay), lastDay))
		fmt.Fprintf(b, "\n%s * \"opening\" \"%s\"\n", day, plainName(c.opening.Period))
		for _, s := range c.opening.sealed() {
			fmt.Fprintf(b, "  %s  %d %s\n", names[s.Path], s.Amount, beanUnit(s.Unit))
		}
	}
	for i := range c.stretches {
		c.stretches[i].writeBeancount(b, names)
	}
	return flush(b, "beancount journal")
}

func (s *stretch) writeBeancount(b *bufio.Writer, names map[string]string) {
	for _, e := range s.entries {
		lead, indent := "", "  "
		if !e.moves() || len(e.Postings) == 0 {
			lead, indent = "; ", ";   "
		}
		if e.Code != "booked" {
			continue
		}
		fmt.Fprintf(b, "\n%s%s * \"%s\" \"%s\"\n", lead, isoDay(e.day), plainName(e.Kind), plainName(e.ID))
		fmt.Fprintf(b, "%sseq: %d\n%sfrom: \"%s %d part %d rule %s at %d", indent, e.Seq, indent, plainOrigin(e.Journal), e.Index,
			e.Part, plainName(e.Rule), e.At)
		if e.Unsure {
			b.WriteString(" unsure")
		}
		b.WriteString("\"\n")
		if e.Ref != "" {
			fmt.Fprintf(b, "%sof: \"%s\"\n", indent, plainName(e.Ref))
		}
		for _, p := range e.Postings {
			fmt.Fprintf(b, "%s%s  %d %s\n", indent, names[p.Path], p.Amount, beanUnit(p.Unit))
		}
	}
	if s.closing == nil {
		return
	}
	day := isoDay(s.day + 1)
	fmt.Fprintf(b, "\n; closing %s", plainName(s.closing.Period))
	writeRoot(b, " seal ", s.closing)
	if s.closing.Root == "" {
		b.WriteByte('\n')
	}
	for _, k := range s.closing.sealed() {
		fmt.Fprintf(b, "%s balance %s  %d %s\n", day, names[k.Path], k.Amount, beanUnit(k.Unit))
	}
}

func flush(b *bufio.Writer, what string) error {
	if err := b.Flush(); err != nil {
		return fmt.Errorf("writing the %s: %w", what, err)
	}
	return nil
}
