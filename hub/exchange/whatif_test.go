package exchange

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"kith/hub/audit"
	"kith/hub/settlement"
	"kith/hub/web"
)

// ask tries rules on the draft of the town's week.
func (w *town) ask(p *periodPage, asked web.Asked) *web.Trial {
	w.t.Helper()
	out := must(p.Period(w.t.Context(), asked))
	i := slices.IndexFunc(out.Trials, func(t web.Trial) bool { return t.Unit == asked["unit"] })
	if i < 0 {
		w.t.Fatalf("no form of %q among %d", asked["unit"], len(out.Trials))
	}
	return &out.Trials[i]
}

func TestAWhatIfOfTheRulesInForceIsTheDraft(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	d := must(w.x.Draft(t.Context()))
	p := newPeriodPage(w.x)
	for _, u := range d.Units {
		form := w.ask(p, web.Asked{"unit": u.Unit})
		a := form.Answer
		if a == nil || a.Now != a.Then || a.Now.Gross != u.Gross || a.Now.Goes != u.Cleared {
			t.Fatalf("%s: %+v", u.Unit, form)
		}
		var owes, dues int64
		for _, n := range a.Nodes {
			if n.Now != n.Then {
				t.Errorf("%s in %s: %+v", n.Name, u.Unit, n)
			}
			owes, dues = owes+n.Now.Owes, dues+n.Now.Dues
		}
		if owes != u.Gross-u.Cleared || dues != a.Now.Dues || (dues > 0) != (u.Unit == "night") {
			t.Errorf("%s: %d still owed of %d, dues %d of %+v", u.Unit, owes, u.Gross-u.Cleared, dues, a.Now)
		}
		// Everything typed again as it stands in the form is still the draft.
		asked := web.Asked{"unit": u.Unit}
		for _, f := range fields(form) {
			asked[f.Name] = f.Text
		}
		if again := w.ask(p, asked); again.Answer == nil || again.Answer.Then != a.Now || again.Fault != "" {
			t.Errorf("%s: %+v", u.Unit, again)
		}
	}
}

func fields(t *web.Trial) []web.Field {
	list := append([]web.Field{t.Dues}, t.Prices...)
	for _, l := range t.Limits {
		list = append(list, l.Floor, l.Ceiling)
	}
	return list
}

// TestAWhatIfIsWhatThePolicyWouldGive writes the same change into a policy file and drafts with that.
func TestAWhatIfIsWhatThePolicyWouldGive(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	form := w.ask(newPeriodPage(w.x), web.Asked{"unit": "night", "floor.lisbon": "\u22121", "ceiling.lisbon": "1", "floor.oaxaca": "", "ceiling.oaxaca": "", "floor.vermont": "-2", "ceiling.vermont": "2", "dues": "1/10", "price.use.bed": "3"})
	if form.Answer == nil || form.Fault+form.Wait != "" {
		t.Fatalf("%+v", form)
	}
	text := string(w.x.cfg.PolicyText)
	for _, c := range [][2]string{{"{node: lisbon, unit: night, floor: -10, ceiling: 10}", "{node: lisbon, unit: night, floor: -1, ceiling: 1}"},
		{"{node: oaxaca, unit: night, floor: -10, ceiling: 10}", "{node: vermont, unit: night, floor: -2, ceiling: 2}"}, {"num: 1, den: 20", "num: 1, den: 10"}, {"bed: {unit: night, each: 1}", "bed: {unit: night, each: 3}"}} {
		if !strings.Contains(text, c[0]) {
			t.Fatalf("the example policy has no %q", c[0])
		}
		text = strings.Replace(text, c[0], c[1], 1)
	}
	policy := must(audit.ParsePolicy("policy.yaml", []byte(text)))
	want := must(must(w.x.basis(t.Context())).result(policy))
	i := slices.IndexFunc(want.draft.Units, func(u audit.UnitDraft) bool { return u.Unit == "night" })
	then := form.Answer.Then
	if u := want.draft.Units[i]; then.Gross != u.Gross || then.Goes != u.Cleared || then == form.Answer.Now {
		t.Fatalf("tried %+v, the policy gives %+v", then, u)
	}
	names := w.x.names()
	hit := false
	for _, n := range want.draft.Nodes {
		if n.Unit != "night" || n.Node == "commons" {
			continue
		}
		row := form.Answer.Nodes[slices.IndexFunc(form.Answer.Nodes, func(r web.TrialNode) bool { return r.Name == names[n.Node] })].Then
		if row.Pool != n.After || row.Limited != (n.Limit != nil) || row.Dues != want.dues[[2]string{n.Node, "night"}] {
			t.Errorf("%s: tried %+v, the policy gives %+v", n.Node, row, n)
		}
		if row.Limited && (row.Hit != "") != (n.After <= n.Limit.Floor || n.After >= n.Limit.Ceiling) {
			t.Errorf("%s: %q at %d of %+v", n.Node, row.Hit, n.After, n.Limit)
		}
		hit = hit || row.Hit != ""
	}
	if !hit {
		t.Error("no house reaches a limit: the example shows nothing")
	}
	if d := must(w.x.Draft(t.Context())); d.Units[i].Gross == then.Gross {
		t.Error("trying rules changed the draft, or the example is too small")
	}
}

func TestWhatCannotBeTriedIsSaidBesideTheField(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	p := newPeriodPage(w.x)
	for field, texts := range map[string][]string{
		"floor.lisbon":   {"x", "1.5", "1,5", "--1", "-", "1e3", "9999999999999", "99999999999999999999999", "11", "0x10", "１"},
		"ceiling.lisbon": {"", "-11", "ten"},
		"dues":           {"5", "1/0", "2/1", "-1/2", "101 %", "%", "1/2/3", "five %", "1.00001 %"},
		"price.use.bed":  {"0", "-1", "1.0", "1000000001", "free"},
	} {
		for _, text := range texts {
			form := w.ask(p, web.Asked{"unit": "night", field: text})
			faults := 0
			for _, f := range fields(form) {
				if f.Fault != "" {
					faults++
					if f.Name != field && !(strings.HasPrefix(field, "floor.") && f.Name == "ceiling.lisbon") && !(text == "" && f.Name == "ceiling.lisbon") {
						t.Errorf("%s = %q: the fault stands at %s", field, text, f.Name)
					}
				}
				if f.Name == field && f.Text != text {
					t.Errorf("%s = %q came back as %q", field, text, f.Text)
				}
			}
			if faults != 1 || form.Fault == "" || form.Answer != nil {
				t.Errorf("%s = %q: %d faults, %q, answer %v", field, text, faults, form.Fault, form.Answer)
			}
		}
	}
	if form := w.ask(p, web.Asked{"unit": "night", "floor.nowhere": "1", "nonsense": "<b>"}); !strings.Contains(form.Fault, `"floor.nowhere", "nonsense"`) || form.Answer != nil {
		t.Errorf("%+v", form)
	}
	if out := must(p.Period(t.Context(), web.Asked{"unit": "gold", "dues": "x"})); slices.ContainsFunc(out.Trials, func(t web.Trial) bool { return t.Asked || t.Answer != nil }) {
		t.Error("a unit that there is not was answered")
	}
}

func TestAPolicyWithoutAPoolCanBeTriedWithOne(t *testing.T) {
	w := newTown(t)
	text := string(w.x.cfg.PolicyText)
	w.x.cfg.PolicyText = []byte(text[:strings.Index(text, "commons:")] + text[strings.Index(text, "one_sided:"):])
	w.seeded()
	w.send(w.all()...)
	p := newPeriodPage(w.x)
	form := w.ask(p, web.Asked{"unit": "night", "dues": "5 %", "floor.lisbon": "-4", "ceiling.lisbon": "4"})
	if a := form.Answer; a == nil || a.Now.Dues != 0 || a.Then.Dues == 0 || a.Then.Gross != a.Now.Gross+a.Then.Dues {
		t.Fatalf("%+v", form)
	}
	if form = w.ask(p, web.Asked{"unit": "night", "price.use.bed": ""}); form.Answer == nil || form.Answer.Then.Gross >= form.Answer.Now.Gross {
		t.Errorf("without a price nothing counts: %+v", form.Answer)
	}
}

func TestOneWhatIfIsWorkedOutAtATimeAndKept(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	p := newPeriodPage(w.x)
	asked := web.Asked{"unit": "night", "dues": "5 %"}
	first := w.ask(p, asked).Answer
	if second := w.ask(p, asked).Answer; first == nil || first != second {
		t.Error("the same question was worked out twice")
	}
	for i := range 2 * trialsKept {
		w.ask(p, web.Asked{"unit": "night", "price.use.bed": fmt.Sprint(i + 2)})
	}
	if n := len(p.now.tried); n > trialsKept {
		t.Errorf("%d answers are kept", n)
	}
	for range trialQueue {
		p.queue <- struct{}{}
	}
	if form := w.ask(p, asked); form.Wait == "" || form.Answer != nil || len(p.queue) != trialQueue {
		t.Errorf("one more question than may wait: %+v", form)
	}
	for range trialQueue {
		<-p.queue
	}
	now := p.now
	synctest.Test(t, func(t *testing.T) { // somebody's sum takes long: the reader gets the draft and a sentence
		busy := &periodPage{gate: make(chan struct{}, 1), queue: make(chan struct{}, trialQueue)}
		busy.gate <- struct{}{}
		var out web.Period
		busy.ask(t.Context(), &out, now, web.Asked{"unit": "night"})
		if i := slices.IndexFunc(out.Trials, func(t web.Trial) bool { return t.Asked }); out.Trials[i].Wait == "" || len(busy.queue) != 0 {
			t.Errorf("%+v", out.Trials[i])
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := busy.Period(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestAmountsAndSharesAreReadAsTheyAreWritten(t *testing.T) {
	for _, n := range []int64{0, 1, -1, 5, 100, -100, 12345, -98765, trialMost, -trialMost} {
		for scale := range 7 {
			have, fault := parseAmount(plainAmount(n, scale), scale, trialMost)
			if have != n || fault != "" {
				t.Errorf("%d of scale %d, written %s: %d, %s", n, scale, plainAmount(n, scale), have, fault)
			}
		}
	}
	for text, want := range map[string]settlement.Dues{"": {Num: 0, Den: 1}, "5 %": {Num: 50_000, Den: 1_000_000}, "5%": {Num: 50_000, Den: 1_000_000}, "0.5 %": {Num: 5_000, Den: 1_000_000}, "1/3": {Num: 1, Den: 3}, "100 %": {Num: 1_000_000, Den: 1_000_000}} {
		have, fault := parseDues(text)
		if have != want || fault != "" {
			t.Errorf("%q: %+v, %s", text, have, fault)
		}
		if again, _ := parseDues(duesText(have)); again.Num*want.Den != want.Num*again.Den {
			t.Errorf("%q is written %q", text, duesText(have))
		}
	}
}

func FuzzTrial(f *testing.F) {
	for _, seed := range []string{"-10", "1.50", "5 %", "1/20", "", "\u22123", "99999999999999999999", ".", "1.", "-.5", "%", "1/0"} {
		f.Add(seed, 2)
	}
	f.Fuzz(func(t *testing.T, text string, scale int) {
		scale = max(0, min(scale, 9))
		if n, fault := parseAmount(text, scale, trialMost); fault == "" {
			if n > trialMost || n < -trialMost {
				t.Fatalf("%q: %d", text, n)
			}
			if again, _ := parseAmount(plainAmount(n, scale), scale, trialMost); again != n {
				t.Fatalf("%q: %d, written %q", text, n, plainAmount(n, scale))
			}
		}
		if d, fault := parseDues(text); fault == "" && (d.Num < 0 || d.Den < 1 || d.Num > d.Den) {
			t.Fatalf("%q: %+v", text, d)
		}
	})
}
