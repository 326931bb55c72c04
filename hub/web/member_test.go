package web

import (
	"context"
	"strings"
	"testing"
	"time"
)

func storyMember() MemberStatement {
	leaf := "/event/lisbon-front/" + storyEpoch.String() + "/48200"
	day := storyNow.Unix() / 86400 * 86400
	return MemberStatement{ID: "ana", Name: "Ana Ribeiro", Role: "resident", Home: "Casa da Graça", HomeID: "lisbon", State: "open", Day: "21 November 2026", Open: true, Others: []string{"week-2", "week-1"},
		Sums:    []MemberSum{{"Bed, used", "night", 5, 3, map[string]int{"A": 2, "C": 1}}, {"Kitchen, worked", "minute", 1, 1, map[string]int{"B": 1}}, {"Solar, counted less of", "wh", 12345, 1, map[string]int{"A": 1}}},
		Effects: []MemberEffect{{"night", 0, 0, 5, 3}, {"work-hour", 2, 250, 50, 0}},
		Lines: []MemberLine{{Href: leaf, Day: day, What: "used bed, 3 nights", Where: "Kyōto Machiya", Class: "A", Unit: "night", Amount: 3, Discharged: 3, Debtor: "Casa da Graça", Creditor: "Kyōto Machiya"},
			{Href: leaf + "1", Day: day - int64(48*time.Hour/time.Second), What: "used bed, 2 nights", Where: "Kyōto Machiya", Class: "C", Unit: "night", Amount: 2, Discharged: 1, Debtor: "Casa da Graça", Creditor: "Kyōto Machiya"},
			{Href: leaf + "2", Day: day, What: "worked: kitchen, 1 minute", Where: "Casa da Graça", Class: "B", Aside: "at home"},
			{Href: leaf + "3", Day: day, What: "used " + hostile, Where: strings.Repeat("Wolfeschlegelsteinhausen", 4), Class: "Z", Unit: "work-hour", Scale: 2, Amount: 250, Waived: 250, Debtor: hostile, Creditor: "Casa da Graça"}}, Entries: 9}
}

func (s *story) Member(_ context.Context, id, period string) (MemberStatement, error) {
	m := storyMember()
	switch {
	case s.fail != nil:
		return m, s.fail
	case id != "ana":
		return MemberStatement{Erased: true}, nil
	case period == "week-2":
		m.Period, m.State, m.Day = period, "posted", "14 November 2026"
	case period == "week-1":
		m.Period, m.Wait = period, "This period has too many entries."
	case period != "":
		return m, ErrUnknown
	}
	return m, nil
}

func TestAMembersStatementLeadsToEachLeaf(t *testing.T) {
	h := newWeb(t, newStory()).Handler()
	b := get(t, h, "/member/ana").Body.String()
	leaf := `href="/event/lisbon-front/` + storyEpoch.String() + `/48200`
	inOrder(t, b, `data-live="/live"`, "Ana Ribeiro</h1>", "Resident, at home in", "Since the last closing, up to <strong>21 November 2026", `href="/member/ana" aria-current="page"`, `href="/member/ana?period=week-2">week-2`,
		"Bed, used", "5 nights", "A × 2", "C × 1", "1 minute", "B × 1", "12\u202f345 wh", "no card proved it", "<td>0</td><td>5</td><td>\u22125</td>", "<td>2.50</td><td>0.50</td><td>&#43;2.00</td>",
		leaf+`"`, "Used bed, 3 nights", "21 Nov 2026", "Casa da Graça owes Kyōto Machiya 3 nights; all of it went round", leaf+`1"`, "19 Nov 2026", "2 nights; 1 went round", leaf+`2"`, "at home", leaf+`3"`, "void by decision", "5 older entries are not listed",
		"Statement of", "printed 21 November 2026, 10:42 UTC")
	if strings.Contains(b, "Went round</th>") || strings.Contains(b, "<script>alert") {
		t.Error("a draft discharges nothing yet, and names are text")
	}
	b = get(t, h, "/member/ana?period=week-2").Body.String()
	inOrder(t, b, "Period <strong>week-2</strong>, up to 14 November 2026", `href="/member/ana?period=week-2" aria-current="page"`, "Went round</th>", "<td>\u22125</td><td>3</td>")
	if strings.Contains(b, "data-live") {
		t.Error("a posted period does not change")
	}
	if b = get(t, h, "/member/ana?period=week-1").Body.String(); !strings.Contains(b, "This period has too many entries.") || strings.Contains(b, "Bed, used") {
		t.Error(b)
	}
}

func TestAnErasedMemberHasNoNameOnAnyPage(t *testing.T) {
	h := newWeb(t, newStory()).Handler()
	r := get(t, h, "/member/bo")
	if b := r.Body.String(); r.Code != 200 || !strings.Contains(b, "<h1>Erased</h1>") || strings.Contains(b, "Ana") || strings.Contains(b, ">bo") || strings.Contains(b, "data-live") {
		t.Error(r.Code, b)
	}
	for path, want := range map[string]int{"/member/ana?period=week-9": 404, "/member/ana?period=UP": 404, "/member/UP": 404, "/member/": 404, "/member/a%2fb": 404} {
		if c := get(t, h, path).Code; c != want {
			t.Errorf("%s: %d", path, c)
		}
	}
}
