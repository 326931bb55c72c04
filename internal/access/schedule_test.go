package access

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func weekOf(t testing.TB, days []string, from, to string, holidays ...string) *week {
	t.Helper()
	var p problems
	w := compileWeek("s", Schedule{ID: "s", Spans: []Span{{Days: days, From: from, To: to}}, Holidays: holidays}, &p)
	if err := p.err(); err != nil {
		t.Fatal(err)
	}
	return &w
}

func TestSchedulesFollowTheWallAlsoWhereClocksAreChanged(t *testing.T) {
	every := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	cases := []struct {
		name, zone string
		w          *week
		utc        string
		want       bool
	}{
		{"a minute before", "Europe/Lisbon", weekOf(t, []string{"wed"}, "08:00", "20:00"), "2026-11-18 07:59:59", false},
		{"the first second", "Europe/Lisbon", weekOf(t, []string{"wed"}, "08:00", "20:00"), "2026-11-18 08:00:00", true},
		{"the last second", "Europe/Lisbon", weekOf(t, []string{"wed"}, "08:00", "20:00"), "2026-11-18 19:59:59", true},
		{"the end is out", "Europe/Lisbon", weekOf(t, []string{"wed"}, "08:00", "20:00"), "2026-11-18 20:00:00", false},
		{"another day", "Europe/Lisbon", weekOf(t, []string{"wed"}, "08:00", "20:00"), "2026-11-19 12:00:00", false},
		{"until midnight", "Europe/Lisbon", weekOf(t, []string{"wed"}, "08:00", "24:00"), "2026-11-18 23:59:59", true},
		{"and no further", "Europe/Lisbon", weekOf(t, []string{"wed"}, "08:00", "24:00"), "2026-11-19 00:00:00", false},
		{"to 00:00 means midnight", "Europe/Lisbon", weekOf(t, []string{"wed"}, "08:00", "00:00"), "2026-11-18 23:59:59", true},
		{"past midnight before", "Europe/Lisbon", weekOf(t, []string{"sat"}, "22:00", "06:00"), "2026-11-21 23:00:00", true},
		{"past midnight after", "Europe/Lisbon", weekOf(t, []string{"sat"}, "22:00", "06:00"), "2026-11-22 05:59:59", true},
		{"past midnight over", "Europe/Lisbon", weekOf(t, []string{"sat"}, "22:00", "06:00"), "2026-11-22 06:00:00", false},
		{"not the morning of its own day", "Europe/Lisbon", weekOf(t, []string{"sat"}, "22:00", "06:00"), "2026-11-21 05:00:00", false},
		{"a holiday", "Europe/Lisbon", weekOf(t, every, "08:00", "20:00", "2026-12-25"), "2026-12-25 12:00:00", false},
		{"a holiday closes the span it began", "Europe/Lisbon", weekOf(t, every, "22:00", "06:00", "2026-12-25"), "2026-12-26 05:00:00", false},
		{"but not the tail of the day before", "Europe/Lisbon", weekOf(t, every, "22:00", "06:00", "2026-12-25"), "2026-12-25 05:00:00", true},
		{"the year's turn", "Europe/Lisbon", weekOf(t, []string{"thu"}, "22:00", "06:00"), "2027-01-01 03:00:00", true},
		// Lisbon 2026-03-29: 01:00 -> 02:00, at 01:00 UTC.
		{"Lisbon spring, before the gap", "Europe/Lisbon", weekOf(t, []string{"sun"}, "00:30", "03:00"), "2026-03-29 00:59:59", true},
		{"Lisbon spring, after the gap it is 02:00", "Europe/Lisbon", weekOf(t, []string{"sun"}, "00:30", "02:00"), "2026-03-29 01:00:00", false},
		{"Lisbon spring, a span within the gap never opens", "Europe/Lisbon", weekOf(t, []string{"sun"}, "01:00", "01:59"), "2026-03-29 01:10:00", false},
		// Lisbon 2026-10-25: 02:00 -> 01:00, at 01:00 UTC.
		{"Lisbon autumn, the first 01:30", "Europe/Lisbon", weekOf(t, []string{"sun"}, "01:00", "02:00"), "2026-10-25 00:30:00", true},
		{"Lisbon autumn, the second 01:30", "Europe/Lisbon", weekOf(t, []string{"sun"}, "01:00", "02:00"), "2026-10-25 01:30:00", true},
		{"Lisbon autumn, 02:00 at last", "Europe/Lisbon", weekOf(t, []string{"sun"}, "01:00", "02:00"), "2026-10-25 02:00:00", false},
		// New York 2026-03-08: 02:00 EST -> 03:00 EDT, at 07:00 UTC.
		{"New York spring, a night across the gap", "America/New_York", weekOf(t, []string{"sat"}, "22:00", "03:30"), "2026-03-08 07:29:59", true},
		{"New York spring, and its end", "America/New_York", weekOf(t, []string{"sat"}, "22:00", "03:30"), "2026-03-08 07:30:00", false},
		// Santiago 2026-09-06: 00:00 -> 01:00, at 04:00 UTC; midnight itself does not exist.
		{"Santiago, the last minute before a missing midnight", "America/Santiago", weekOf(t, []string{"sat"}, "22:00", "24:00"), "2026-09-06 03:59:59", true},
		{"Santiago, a night across a missing midnight", "America/Santiago", weekOf(t, []string{"sat"}, "22:00", "01:30"), "2026-09-06 04:10:00", true},
		{"Santiago, the day after begins at 01:00", "America/Santiago", weekOf(t, []string{"sun"}, "00:00", "01:30"), "2026-09-06 04:10:00", true},
		{"Santiago, a holiday without its midnight", "America/Santiago", weekOf(t, every, "00:00", "24:00", "2026-09-06"), "2026-09-06 04:10:00", false},
		// Lord Howe changes by half an hour: 2026-04-05 02:00 -> 01:30, at 15:00 UTC the day before.
		{"Lord Howe, the second 01:45", "Australia/Lord_Howe", weekOf(t, []string{"sun"}, "01:30", "02:00"), "2026-04-04 15:15:00", true},
		{"Lord Howe, 02:00 at last", "Australia/Lord_Howe", weekOf(t, []string{"sun"}, "01:30", "02:00"), "2026-04-04 15:30:00", false},
	}
	for _, c := range cases {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.w.open(wallAt(at(t, "UTC", c.utc), zone)); got != c.want {
			t.Errorf("%s: open is %t at %v", c.name, got, at(t, "UTC", c.utc).In(zone))
		}
	}
}

// TestSchedulesAgreeWithAMinuteByMinuteModel compares the compiled week with the plainest reading of the words: what does
// the wall say, and does some span that began today or yesterday cover it?
func TestSchedulesAgreeWithAMinuteByMinuteModel(t *testing.T) {
	names := []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	rapid.Check(t, func(t *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom([]string{"Europe/Lisbon", "America/Santiago", "Australia/Lord_Howe", "Asia/Tokyo"}).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		clock := func(m int) string { return time.Date(2000, 1, 1, 0, m, 0, 0, time.UTC).Format("15:04") }
		from, to := rapid.IntRange(0, 1439).Draw(t, "from"), rapid.IntRange(0, 1439).Draw(t, "to")
		if from == to {
			return
		}
		days := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 7, func(s string) string { return s }).Draw(t, "days")
		holiday := rapid.SampledFrom([]string{"2026-03-29", "2026-09-06", "2026-04-05", "2026-10-25"}).Draw(t, "holiday")
		var p problems
		w := compileWeek("s", Schedule{ID: "s", Spans: []Span{{Days: days, From: clock(from), To: clock(to)}}, Holidays: []string{holiday}}, &p)
		if err := p.err(); err != nil {
			t.Fatal(err)
		}
		now := time.Unix(rapid.Int64Range(1_772_000_000, 1_800_000_000).Draw(t, "now"), 0)
		local := now.In(zone)
		has := func(day time.Time) bool {
			if day.Format("2006-01-02") == holiday {
				return false
			}
			for _, d := range days {
				if d == names[day.Weekday()] {
					return true
				}
			}
			return false
		}
		today := time.Date(local.Year(), local.Month(), local.Day(), 12, 0, 0, 0, time.UTC)
		minute := local.Hour()*60 + local.Minute()
		want := false
		if from < to {
			want = has(today) && from <= minute && minute < to
		} else {
			want = (has(today) && minute >= from) || (has(today.AddDate(0, 0, -1)) && minute < to)
		}
		if got := w.open(wallAt(now, zone)); got != want {
			t.Fatalf("%v %s-%s holiday %s at %v: open is %t", days, clock(from), clock(to), holiday, local, got)
		}
	})
}
