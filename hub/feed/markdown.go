package feed

import (
	"fmt"
	"strings"
)

// markdown writes the release as CommonMark with tables.
func (r *Release) markdown() []byte {
	v := r.view()
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: report for %s\n\n%s to %s, %s. Statement %d", md(r.Network), md(r.Period), r.From, r.To, houses(len(r.Houses)), r.Statement)
	if r.StatementDigest != "" {
		fmt.Fprintf(&b, ", digest `%s`", plainName(r.StatementDigest))
	}
	b.WriteString(".\n\n## What went round\n\nWhat houses owed each other and could clear without money.\n\n")
	b.WriteString("| unit | owed | cleared | left | clearing ratio |\n|---|---:|---:|---:|---:|\n")
	for _, c := range r.Clearing {
		share := "–"
		if c.Gross == nil {
			share = wordWithheld
		}
		if c.Ratio != nil {
			share = fmt.Sprintf("%d/%d = %s %%", c.Ratio.Num, c.Ratio.Den, c.Ratio.Percent)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", md(c.Unit), v.maybe(c.Unit, c.Gross), v.maybe(c.Unit, c.Cleared), v.maybe(c.Unit, c.Left), share)
	}
	b.WriteString("\n## What was delivered\n")
	for _, s := range v.sections() {
		fmt.Fprintf(&b, "\n### %s, by %s\n\n| house | delivered | offered | target |\n|---|---:|---:|---:|\n", md(s.Kind), md(s.Unit))
		rows := s.Rows
		if !s.Lone {
			rows = append(rows[:len(rows):len(rows)], s.Total)
		}
		for _, line := range rows {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", md(line.House), line.Delivered, line.Offered, line.Target)
		}
	}
	b.WriteString("\n## Commons\n\n| unit | in | out | balance | largest demand | coverage |\n|---|---:|---:|---:|---:|---:|\n")
	for _, p := range r.Pool {
		cover := "–"
		if p.In == nil {
			cover = wordWithheld
		}
		if p.Coverage != nil {
			cover = fmt.Sprintf("%d/%d = %s %%", p.Coverage.Num, p.Coverage.Den, p.Coverage.Percent)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", md(p.Unit), v.maybe(p.Unit, p.In), v.maybe(p.Unit, p.Out), v.maybe(p.Unit, p.Balance),
			v.maybe(p.Unit, p.Demand), cover)
	}
	fmt.Fprintf(&b, "\n## What was in dispute\n\n- Disputes opened: %d\n- Disputes closed: %d\n- Limits passed by facts: %d\n", r.DisputesOpened, r.DisputesClosed, r.Breaches)
	for _, c := range r.Corrections {
		fmt.Fprintf(&b, "- Corrections to %s: %d\n", md(c.Period), c.Count)
	}
	b.WriteString("\n## Houses and rules\n\n")
	for _, h := range r.Houses {
		b.WriteString("- " + md(v.house[h.ID]) + missing(h.Missing) + "\n")
	}
	for _, rule := range r.Rules {
		fmt.Fprintf(&b, "- Rules %s, in force since %s\n", md(rule.Version), rule.Since)
	}
	fmt.Fprintf(&b, "\n## How to read this\n\n%s\n\n%s\n", r.explain(), checkWords)
	return []byte(b.String())
}

func houses(n int) string {
	if n == 1 {
		return "1 house"
	}
	return fmt.Sprintf("%d houses", n)
}

func missing(yes bool) string {
	if yes {
		return " (not reached at the cut; its later entries follow in the next report)"
	}
	return ""
}

func (r *Release) explain() string {
	return fmt.Sprintf("A figure is published only if at least %d people stand behind it and no one of them has more than %d %% of it. "+
		"Other figures are withheld with it, so that it cannot be worked out. Zero means that nobody did. Percentages are rounded down; "+
		"the fractions are exact.", r.Privacy.MinMembers, r.Privacy.DominancePercent)
}

const checkWords = "A note signed by the operator names the SHA-256 of report.md, report.html and report.json. What was cleared can be " +
	"recomputed by anyone from the audit bundle of the period."

// md writes text so that Markdown shows it as it is.
func md(s string) string {
	var b strings.Builder
	for _, r := range printable(s) {
		if strings.ContainsRune("\\`*_{}[]()#+-.!|<>&~:@\"'=/$^%;?,", r) && !isWordJoin(r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// isWordJoin spares characters that mean nothing inside a line.
func isWordJoin(r rune) bool {
	return r == '-' || r == ',' || r == '.' || r == '\'' || r == '?' || r == '%'
}
