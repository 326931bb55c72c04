package web

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"kith/internal/event"
	"kith/internal/page"
)

// Limits of handing a bundle out.
const (
	bundlePart = 64 << 10         // bytes that are written at once
	bundleWait = 20 * time.Second // for the reader to take one part
)

// StatementQuery asks for a page of one period.
type StatementQuery struct {
	Period string
	Number int // of the statement; 0: the newest
	From   int // first obligation of the page
}

// Statement is one period from its cut on.
type Statement struct {
	Name, State, Day  string
	Until             int64 // it can be challenged, Unix seconds; 0: not now
	Number            int   // that is shown; 0: none is out
	Numbers           []StatementNumber
	Confirmed         []string // houses that said yes early
	Units             []StatementUnit
	Lines             []StatementLine // from the From-th of Total on
	From, Total       int
	Cut               []CutPoint
	Missing           []string
	Disputes          []StatementDispute
	Balances          []Posting // with the seal; those that are not zero
	MoreBalances      int
	Postings          []Posting // the first ones
	Posted            int       // postings in all
	Accounts          int
	Seal, Follows     string
	Note, Key, Policy string
	File              string // of the bundle; empty before it is posted
	Fetch, Check, Own string // lines for a terminal
	Pool              bool   // houses have limits with a pool
	Next              []Order
}

// StatementNumber is one statement of a period. Withdrawn ones stay readable.
type StatementNumber struct {
	Number    int
	At        int64 // Unix seconds
	Withdrawn bool
	Digest    string
}

// StatementUnit is what a statement comes to in one unit.
type StatementUnit struct {
	Name        string
	Scale       int
	Gross, Goes int64
}

// StatementLine is one obligation.
type StatementLine struct {
	ID               string
	Debtor, Creditor string
	Unit             string
	Scale            int
	Open             int64 // before the statement
	Discharged, Rest int64
	Day, Evidence    string
	Fresh            bool   // not carried from an earlier period
	Aside            string // why it is not in this statement
	Href             string // of the leaf that it follows from
	From             string // in words, when it follows from none
}

// CutPoint is one checkpoint that the period ends at.
type CutPoint struct {
	House, Edge, Epoch string
	Size               uint64
	Root               string
}

// StatementDispute is one dispute.
type StatementDispute struct {
	ID, By, Outcome, Reviewer string
	At                        int64
	Debtor, Creditor, Unit    string
	Scale                     int
	Amount                    int64
}

// Posting moves one account, or is what stands on it.
type Posting struct {
	Why, Account, Unit string
	Scale              int
	Amount             int64
}

type statementView struct {
	Head         page.Head
	S            Statement
	Steps        []step
	Until        string
	Signed       string // when the shown statement was proposed
	Withdrawn    bool
	Numbers      []numberRow
	Units        []unitView
	Lines        []lineOf
	Newer, Older string
	Last         int
	Disputes     []disputeRow
	Balances     []postingRow
	Postings     []postingRow
	Download     string
	Promises     []promise
}

// promise is something that the check proves of every statement, and how.
type promise struct{ What, How string }

// promised says it in words (docs/FORMATS.md, "Clearing": feasible, optimal, unique).
func promised(pool bool) []promise {
	even, others := "What a house no longer owes is what it is no longer owed, summed house by house.",
		"Only debts that were there are made less; none is made."
	if pool {
		even = "What a house no longer owes is what it is no longer owed, but for what it drew from the pool or paid into it: summed house by house."
		others = "Only debts that were there are made less; none is made. Only with the pool does a balance move, and never past a house's limit."
	}
	return []promise{
		{"Nobody owes more than before", "Of each debt something between nothing and all of it goes away, compared debt by debt."},
		{"No house is better or worse off", even},
		{"Nobody gets a new creditor or debtor", others},
		{"No more can be cleared", "The proof in the bundle sets a bound that no way of clearing can pass, and the total reaches it. Where several would, the oldest debts and then a public lot decide."},
	}
}

type numberRow struct {
	StatementNumber
	Href, When string
	Here       bool
}

type lineOf struct {
	StatementLine
	Amount, Done, Left string
	Short              string // of the id: enough for hub period dispute
	Goes               string // "goes round", in its tense
}

type disputeRow struct {
	StatementDispute
	When, Sum, Short string
}

type postingRow struct {
	Posting
	Sum string
}

const (
	shortID       = 16 // digits of an id on a page
	statementFoot = "A statement is signed over the exact texts in its bundle. Whoever runs the check needs neither this hub nor a network."
)

func (w *Web) statement(rw http.ResponseWriter, r *http.Request) {
	q := StatementQuery{Period: r.PathValue("id")}
	ok := event.IsID(q.Period)
	for name, into := range map[string]*int{"number": &q.Number, "from": &q.From} {
		if text := r.URL.Query().Get(name); text != "" {
			n, err := strconv.Atoi(text)
			ok = ok && err == nil && n >= 0 && (n > 0 || name == "from")
			*into = n
		}
	}
	if !ok {
		w.lost(rw, r)
		return
	}
	s, err := w.o.Periods.Statement(r.Context(), q)
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	w.render(rw, r, "statement", w.statementView(r, &s))
}

func (w *Web) statementView(r *http.Request, s *Statement) statementView {
	here := "/period/" + s.Name
	v := statementView{S: *s, Steps: stations(s.State, s.Number), Until: utc(s.Until), Last: s.From + len(s.Lines),
		Head: page.Head{Title: "Period " + s.Name, Network: w.o.Network, Here: r.URL.Path, Nav: nav(), Foot: statementFoot}}
	for _, n := range s.Numbers {
		row := numberRow{n, fmt.Sprintf("%s?number=%d", here, n.Number), utc(n.At), n.Number == s.Number}
		if row.Here {
			v.Signed, v.Withdrawn = row.When, n.Withdrawn
		}
		v.Numbers = append(v.Numbers, row)
	}
	for _, u := range s.Units {
		v.Units = append(v.Units, unitView{Name: u.Name, Gross: amount(u.Gross, u.Scale), Goes: amount(u.Goes, u.Scale), Left: amount(u.Gross-u.Goes, u.Scale)})
	}
	goes := "went round"
	if s.State != "posted" {
		v.Head.Live, goes = "/live", "goes round"
	}
	for _, l := range s.Lines {
		v.Lines = append(v.Lines, lineOf{l, amounted(l.Open, l.Scale, l.Unit), amount(l.Discharged, l.Scale), amount(l.Rest, l.Scale), l.ID[:min(len(l.ID), shortID)], goes})
	}
	leaf := func(from int) string { return fmt.Sprintf("%s?number=%d&from=%d#debts", here, s.Number, from) }
	if s.From > 0 {
		v.Newer = leaf(max(0, s.From-StatementLines))
	}
	if v.Last < s.Total {
		v.Older = leaf(v.Last)
	}
	for _, d := range s.Disputes {
		v.Disputes = append(v.Disputes, disputeRow{d, utc(d.At), amounted(d.Amount, d.Scale, d.Unit), d.ID[:min(len(d.ID), shortID)]})
	}
	for _, p := range s.Balances {
		v.Balances = append(v.Balances, postingRow{p, amounted(p.Amount, p.Scale, p.Unit)})
	}
	for _, p := range s.Postings {
		v.Postings = append(v.Postings, postingRow{p, amounted(p.Amount, p.Scale, p.Unit)})
	}
	v.Promises = promised(s.Pool)
	if s.File != "" {
		v.Download = here + "/bundle.tar"
	}
	return v
}

// bundle hands out the audit bundle of a posted period, part by part: a slow reader has time for each, and is not waited for.
func (w *Web) bundle(rw http.ResponseWriter, r *http.Request) {
	select {
	case w.downloads <- struct{}{}:
		defer func() { <-w.downloads }()
	default:
		rw.Header().Set("Retry-After", "10")
		http.Error(rw, "others are taking bundles just now; try again in a moment", http.StatusServiceUnavailable)
		return
	}
	name := r.PathValue("id")
	if !event.IsID(name) {
		w.lost(rw, r)
		return
	}
	b, err := w.o.Periods.Bundle(r.Context(), name)
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	h := rw.Header()
	h.Set("Content-Type", "application/x-tar")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	h.Set("Content-Disposition", `attachment; filename="`+name+`.tar"`) // an id: no quote, no slash
	h.Set("Cache-Control", "no-store")
	out := http.NewResponseController(rw)
	for len(b) > 0 {
		// A writer without deadlines (a recorder in a test) just writes.
		_ = out.SetWriteDeadline(time.Now().Add(bundleWait))
		n, err := rw.Write(b[:min(len(b), bundlePart)])
		if err != nil {
			return // the reader sees from the length that the end is missing
		}
		b = b[n:]
	}
}
