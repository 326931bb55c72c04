package kiosk

import (
	"context"
	"net/http"
	"strings"
	"time"

	"kith/internal/event"
)

// entryPage is an entry on its way, and then its receipt.
type entryPage struct {
	frame
	Handle   string
	What     string // "Bed · 2 nights"
	Verb     string
	Head     string
	Text     string
	Heard    string // what the reader said, in words
	Left     int64  // ms
	Total    int64  // ms
	Seconds  int64
	Ring     int64 // of 100
	Waiting  bool
	Done     bool
	Tone     string
	Undo     bool
	Retry    *form
	Index    string
	Epoch    string
	Edge     string
	Proof    Proof
	Evidence string
}

func (w *screen) entry(rw http.ResponseWriter, r *http.Request) {
	f, _ := parseForm(r.URL.RawQuery)
	s, ok := w.find(r.PathValue("handle"))
	at := s.Proposal.Reader
	if !ok || at == "" || s.State == Cancelled || w.old(s) {
		at, _ = w.reader(f.At)
		http.Redirect(rw, r, home(at), http.StatusSeeOther)
		return
	}
	view, now := w.rooms.View()
	p := entryPage{frame: w.frame(at, "", string(s.State)), Handle: w.handle(s.ID)}
	p.Verb, p.What = w.spoken(s, view)
	here := w.address(s.ID, at)
	switch s.State {
	case Waiting, Witness:
		w.waits(&p, s, view, now)
		p.frame = p.looks(waitAgain, here)
	case Recording:
		p.Head, p.Text, p.Tone = "One moment", "It is being written down.", "plain"
		p.frame = p.looks(waitAgain, here)
	case Recorded:
		p.frame = p.idle()
		w.receipt(r.Context(), &p, s)
	default:
		p.frame = p.idle()
		w.ended(&p, s)
	}
	p.Title = p.Head
	w.show(rw, http.StatusOK, "entry", p)
}

// spoken is an entry in two parts: what is done, and to what.
func (w *screen) spoken(s Session, v View) (verbed, what string) {
	verbed, what = verb(s.Proposal.Action), w.thing(v, s.Proposal.Resource)
	quantity, over := s.Quantity, s.State == Recorded
	switch {
	case s.Proposal.Corrects != "":
		verbed = "Take back"
		if over {
			verbed = "No longer counts:"
		}
		for _, l := range w.Recent(MaxRecent) {
			if l.Address == s.Proposal.Corrects {
				quantity = l.Entry.Quantity
			}
		}
	case s.Proposal.Start:
		verbed = "Start"
	case s.Proposal.Stop != "" && !over:
		verbed = "Stop"
	}
	if quantity > 0 {
		what += " · " + counted(quantity, s.Measure)
	}
	return verbed, what
}

func (w *screen) waits(p *entryPage, s Session, v View, now time.Duration) {
	left, total := max(0, s.Until-now), TapWait
	p.Head, p.Text = "Hold your card to the reader", "Nothing is entered without it."
	switch {
	case s.State == Witness:
		total = WitnessWait
		p.Head, p.Text = "Now a second person's card", "Somebody who saw it holds their card to the reader."
	case s.Proposal.Corrects != "":
		p.Text = "The same card takes it back."
	case s.Proposal.Stop != "":
		p.Text = "The card that started it stops it."
	case s.Proposal.Start:
		p.Text = "The clock begins with your card."
	}
	p.Waiting, p.Left, p.Total = true, left.Milliseconds(), total.Milliseconds()
	p.Seconds, p.Ring = int64((left+time.Second-1)/time.Second), int64(100*left/total)
	if t := w.trouble(s.Proposal.Reader, v); t != "" {
		p.Heard, p.Tone = troubleWords(t).Title, "bad"
		return
	}
	w.mu.Lock()
	h, ok := w.heard[s.Proposal.Reader]
	w.mu.Unlock()
	if !ok || h.at < s.Until-total || now-h.at > wordShown {
		return // it was said to somebody before
	}
	switch h.word {
	case Working:
		if s.State == Waiting {
			p.Heard, p.Tone = "Reading the card. Hold it still.", "plain"
		}
	case NotNow:
		p.Heard, p.Tone = "Not now", "bad"
	case TryAgain:
		p.Heard, p.Tone = "Try again: one card, held still", "warn"
	}
}

// receipt is what its maker can check against any copy of the journal.
func (w *screen) receipt(ctx context.Context, p *entryPage, s Session) {
	p.Done, p.Tone = true, "good"
	p.Head = "Thank you"
	if s.Person.Name != "" {
		p.Head += ", " + s.Person.Name
	}
	p.Undo = s.Proposal.Corrects == ""
	if s.Proposal.Corrects != "" {
		p.Head, p.Text = "Taken back", "A new entry says so and names the old one; nothing was deleted."
	}
	if s.Evidence == event.EvidenceC {
		p.Evidence = "This card showed a number that can be copied, so a host may ask."
	}
	p.Edge = w.machine.cfg.Edge
	p.Epoch, p.Index, _ = strings.Cut(s.Address, "/")
	if w.out.Prove != nil {
		p.Proof = w.out.Prove(ctx, s.Address)
	}
	if !p.Proof.Alone && p.Proof.Size == 0 {
		p.Again = proofAgain.Milliseconds()
	}
}

// ended says how an entry came to nothing. Why a card was refused is nobody's business at a wall.
func (w *screen) ended(p *entryPage, s Session) {
	again := &form{At: s.Proposal.Reader, Action: string(s.Proposal.Action), Resource: s.Proposal.Resource, Quantity: s.Quantity, Start: s.Proposal.Start}
	if again.Start {
		again.Quantity = 0
	}
	switch {
	case s.Proposal.Stop != "":
		again = &form{At: s.Proposal.Reader, Stop: w.handle(s.Proposal.Stop)}
	case s.Proposal.Corrects != "":
		again = nil
	}
	switch {
	case s.State == Running:
		p.Head, p.Text, p.Tone = "Started", "When you are done, stop it here with the same card.", "good"
	case s.State == Expired:
		p.Head, p.Text, p.Tone, p.Retry = "Try again", "The time was up. Nothing was entered.", "warn", again
	case s.Reason == "not-recorded":
		p.Head, p.Text, p.Tone, p.Retry = "Try again", "It could not be written down. If that stays so, tell a host.", "warn", again
	default:
		p.Head, p.Text, p.Tone = "Not now", "Nothing was entered. A host can help.", "bad"
	}
}
