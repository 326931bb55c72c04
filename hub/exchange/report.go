package exchange

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"kith/hub/audit"
	"kith/hub/feed"
	"kith/hub/settlement"
	"kith/hub/store"
	"kith/internal/command"
	"kith/internal/pki"
	"kith/internal/wire"
)

// ReportOrder asks for the public report of a posted period.
type ReportOrder struct {
	Period string `json:"period"`
	From   string `json:"from,omitempty"` // directory with the report as it was published, to be taken back in
}

// Published is a public report. The same period has the same bytes for ever.
type Published struct {
	Period   string `json:"period"`
	Fresh    bool   `json:"fresh,omitempty"` // published, or taken back in, by this very order
	Markdown string `json:"report_md"`
	HTML     string `json:"report_html"`
	JSON     string `json:"report_json"`
	Note     string `json:"report_note"`
}

// reportVerb publishes the report of a period, or gives it again.
func reportVerb(ctx context.Context, s command.Streams, args []string) int {
	f := command.Flags(s, "hub report")
	p := answerFlags(f)
	out := f.String("out", "", "`DIR` to write report.md, report.html, report.json and report.note into")
	from := f.String("from", "", "`DIR` with a report that was published already, to be taken back in")
	plain, code, ok := command.Parse(s, f, args, 1)
	if !ok {
		return code
	}
	p.fill()
	if len(plain) != 1 {
		fmt.Fprintln(s.Err, "hub report: name the period; hub period list shows them")
		return command.Usage
	}
	o := ReportOrder{Period: plain[0], From: *from}
	if o.From != "" {
		var err error
		if o.From, err = filepath.Abs(o.From); err != nil { // a running hub has another working directory
			return command.Fail(s, "hub report", err)
		}
	}
	a, err := give(ctx, p, Order{Publish: &o})
	if err == nil && a.Published == nil {
		err = errors.New("the running hub knows no reports; start this version")
	}
	if err == nil && *out != "" {
		err = a.Published.write(s.Out, *out)
	} else if err == nil {
		text := a.Published.Markdown
		if p.json {
			text = a.Published.JSON
		}
		_, err = io.WriteString(s.Out, text)
	}
	if err != nil {
		return command.Fail(s, "hub report", err)
	}
	return command.OK
}

// write puts the four files into a directory, the note last: where it stands, the others do. A directory with another
// report is left alone.
func (p *Published) write(w io.Writer, dir string) error {
	files := []struct{ name, text string }{{feed.ReportMarkdown, p.Markdown}, {feed.ReportHTML, p.HTML}, {feed.ReportJSON, p.JSON},
		{feed.ReportNote, p.Note}}
	for _, f := range files {
		have, err := readText(filepath.Join(dir, f.name))
		if err == nil && string(have) != f.text {
			return fmt.Errorf("%s holds another report; name another directory", dir)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(dir, f.name)
		if err := pki.WriteFile(name, []byte(f.text), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(w, "wrote %s\n", name)
	}
	return nil
}

// readText reads one file of a report.
func readText(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, store.MaxRelease+1))
	if err == nil && len(b) > store.MaxRelease {
		err = fmt.Errorf("%s has more than %d bytes", name, store.MaxRelease)
	}
	return b, err
}

// publish gives the report of a period. The first time it is made, signed and stored, and with it those of the posted
// periods before, since what one may tell depends on what the others did; from then on it is what it was.
func (x *Exchange) publish(ctx context.Context, o ReportOrder) (Answer, error) {
	x.closing.mu.Lock()
	defer x.closing.mu.Unlock()
	kept, here, err := x.storage.Release(ctx, o.Period)
	if err != nil {
		return Answer{}, err
	}
	switch {
	case o.From != "":
		err = x.takeBack(ctx, o)
	case !here:
		err = x.publishUpTo(ctx, o.Period)
	default: // a changed text must not go out under the period's name
		c, failed := x.readPeriod(ctx, o.Period)
		if err = failed; err == nil {
			_, err = checkRelease(c, &kept)
		}
	}
	if err != nil {
		return Answer{}, fmt.Errorf("report of %.60s: %w", o.Period, err)
	}
	if !here {
		if kept, _, err = x.storage.Release(ctx, o.Period); err != nil {
			return Answer{}, err
		}
	}
	// A database that is put back without this row would publish the period anew, perhaps in other words. So the row stands in
	// a copy before anybody reads it: one that this process made, since the one that saved the row may not have come so far.
	if !x.closing.copied[o.Period] {
		if _, err := x.backup(ctx); err != nil {
			return Answer{}, fmt.Errorf("report of %s: it is kept, but no backup has it; run hub backup, then ask again: %w", o.Period, err)
		}
		if x.closing.copied == nil {
			x.closing.copied = map[string]bool{}
		}
		x.closing.copied[o.Period] = true
	}
	return Answer{Published: &Published{Period: kept.Period, Fresh: !here, Markdown: string(kept.Markdown), HTML: string(kept.HTML),
		JSON: string(kept.JSON), Note: string(kept.Note)}}, nil
}

// publishUpTo releases every posted period up to one that has no report yet, in order.
func (x *Exchange) publishUpTo(ctx context.Context, period string) error {
	names, err := x.storage.Periods(ctx)
	if err != nil {
		return err
	}
	until := slices.Index(names, period)
	if until < 0 {
		return errors.New("there is no such period; hub period list shows them")
	}
	released, err := x.storage.Released(ctx)
	if err != nil {
		return err
	}
	if n := len(released); n > 0 && released[n-1].Number > until+1 {
		return fmt.Errorf("%s, which is later, is published already; bring this one back with --from, as it was published", released[n-1].Period)
	}
	p := &past{}
	var last *audit.Closing
	var previous *feed.Release
	for i, name := range names[:until+1] {
		c, err := x.readPeriod(ctx, name)
		if err == nil {
			err = c.Follows(last)
		}
		if err != nil {
			return err
		}
		if c.Period.State != settlement.Posted {
			return fmt.Errorf("it is %s; only what is posted is reported", c.Period.State)
		}
		kept, here, err := x.storage.Release(ctx, name)
		switch {
		case err != nil:
		case here:
			previous, err = checkRelease(c, &kept)
		default:
			previous, err = x.publishNext(ctx, i+1, c, p, previous, i == until)
		}
		if err != nil {
			return fmt.Errorf("period %s: %w", name, err)
		}
		p.add(c)
		last = c
	}
	return nil
}

// publishNext makes the report of one period and keeps it. A period that was closed elsewhere was perhaps reported there,
// and a second report of it could tell what the first withheld; so it is passed over here.
func (x *Exchange) publishNext(ctx context.Context, number int, c *audit.Closing, p *past, previous *feed.Release, wanted bool) (*feed.Release, error) {
	sign, vkey, err := x.operator()
	if err != nil {
		return nil, err
	}
	if c.Manifest() != nil || vkey != c.Network.Operator {
		if wanted {
			return nil, errors.New("it was closed elsewhere, and reported there or nowhere; take that report in with --from")
		}
		return unseen(c), nil
	}
	report, err := x.figures(ctx, c, p, previous)
	if err != nil {
		return nil, err
	}
	out, err := report.Release(previous)
	if err != nil {
		return nil, err
	}
	files, err := out.Files()
	if err != nil {
		return nil, err
	}
	signed, err := sign(string(files.Note))
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	kept := store.Release{Number: number, Period: c.Name, Markdown: files.Markdown, HTML: files.HTML, JSON: files.JSON, Note: signed}
	if _, err := checkRelease(c, &kept); err != nil { // as everybody else will
		return nil, err
	}
	if err := x.storage.SaveRelease(ctx, kept); err != nil {
		return nil, err
	}
	x.log.Info("a report is published", "period", c.Name)
	return out, nil
}

// unseen stands for the release of a period that was published elsewhere, or not at all. It may have withheld what its
// pool did, once; the next one then has to withhold it too.
func unseen(c *audit.Closing) *feed.Release {
	r := &feed.Release{Network: c.Network.Name, Period: c.Name, To: c.Report().Day}
	for _, u := range c.Policy.Units {
		r.Pool = append(r.Pool, feed.Commons{Unit: u.Name, Withheld: 1})
	}
	return r
}

// checkRelease proves a report: the note is of who closed the period, its hashes are those of the texts, and they speak of
// the final statement.
func checkRelease(c *audit.Closing, kept *store.Release) (*feed.Release, error) {
	key, err := note.NewVerifier(c.Network.Operator)
	if err != nil {
		return nil, fmt.Errorf("the operator's key: %w", err)
	}
	n, err := note.Open(kept.Note, note.VerifierList(key))
	if err == nil {
		err = wire.OneSpelling(kept.Note, 1)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", feed.ReportNote, err)
	}
	files := &feed.Files{Markdown: kept.Markdown, HTML: kept.HTML, JSON: kept.JSON, Note: []byte(n.Text)}
	r, err := files.Open()
	if err != nil {
		return nil, err
	}
	s := c.Period.InForce()
	if r.Network != c.Network.Name || r.Period != c.Name || kept.Period != c.Name || s == nil || r.StatementDigest != hex.EncodeToString(s.Digest[:]) {
		return nil, fmt.Errorf("%s speaks of statement %d of %.60s, digest %.64s; the period has another", feed.ReportJSON, r.Statement, r.Period,
			r.StatementDigest)
	}
	return r, nil
}

// takeBack keeps a report that was published before: by this hub, whose database was put back since, or where the period
// was closed.
func (x *Exchange) takeBack(ctx context.Context, o ReportOrder) error {
	names, err := x.storage.Periods(ctx)
	if err != nil {
		return err
	}
	number := slices.Index(names, o.Period) + 1
	c, err := x.readPeriod(ctx, o.Period)
	if err != nil {
		return err
	}
	kept := store.Release{Number: number, Period: o.Period}
	for name, text := range map[string]*[]byte{feed.ReportMarkdown: &kept.Markdown, feed.ReportHTML: &kept.HTML, feed.ReportJSON: &kept.JSON,
		feed.ReportNote: &kept.Note} {
		if *text, err = readText(filepath.Join(o.From, name)); err != nil {
			return err
		}
	}
	if _, err := checkRelease(c, &kept); err != nil {
		return fmt.Errorf("%s is not to be taken in: %w", o.From, err)
	}
	return x.storage.SaveRelease(ctx, kept)
}

// verifyRelease holds the report of a period to it, when it has one.
func (x *Exchange) verifyRelease(ctx context.Context, c *audit.Closing, v *Verification) error {
	kept, here, err := x.storage.Release(ctx, c.Name)
	if err != nil || !here {
		return err
	}
	if _, err := checkRelease(c, &kept); err != nil {
		v.OK, v.Differences = false, append(v.Differences, fmt.Sprintf("report of %s: %v", c.Name, err))
		return nil
	}
	v.Releases++
	return nil
}
