package access

import (
	"fmt"
	"slices"
	"time"
)

const dayMinutes = 24 * 60

// week is a compiled schedule. All times are wall-clock minutes of the node's zone, so a change of summer time needs no
// case of its own: a skipped hour is never asked about, and a repeated hour is open both times.
type week struct {
	id       string
	spans    [7][]span // by the weekday a span begins on, time.Sunday = 0
	holidays []int32   // civil day numbers, ascending
}

// span is [from, to) in minutes after the beginning day's midnight; to above dayMinutes reaches into the next day.
type span struct{ from, to int16 }

// wall is one moment on the node's wall: its civil day, weekday and minute.
type wall struct {
	day     int32
	weekday time.Weekday
	minute  int16
}

func wallAt(t time.Time, zone *time.Location) wall {
	local := t.In(zone)
	y, m, d := local.Date()
	return wall{day: civilDay(y, m, d), weekday: local.Weekday(), minute: int16(local.Hour()*60 + local.Minute())}
}

// civilDay numbers calendar days; UTC has no gaps, so the day before is always one less.
func civilDay(y int, m time.Month, d int) int32 {
	return int32(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

func (w *week) open(at wall) bool {
	if !w.holiday(at.day) {
		for _, s := range w.spans[at.weekday] {
			if s.from <= at.minute && at.minute < s.to {
				return true
			}
		}
	}
	if w.holiday(at.day - 1) {
		return false
	}
	late := at.minute + dayMinutes
	for _, s := range w.spans[(at.weekday+6)%7] {
		if late < s.to {
			return true
		}
	}
	return false
}

func (w *week) holiday(day int32) bool {
	_, found := slices.BinarySearch(w.holidays, day)
	return found
}

func compileWeek(path string, s Schedule, p *problems) week {
	w := week{id: s.ID}
	if len(s.Spans) == 0 {
		p.add("%s.spans: is empty; name at least one span or leave the grant's schedule out", path)
	}
	if len(s.Spans) > MaxSpans {
		p.add("%s.spans: %d exceed the limit of %d", path, len(s.Spans), MaxSpans)
		return w
	}
	if len(s.Holidays) > MaxHolidays {
		p.add("%s.holidays: %d exceed the limit of %d", path, len(s.Holidays), MaxHolidays)
		return w
	}
	for i, raw := range s.Spans {
		at := fmt.Sprintf("%s.spans[%d]", path, i)
		sp, ok := compileSpan(at, raw, p)
		for k, name := range raw.Days {
			day, known := weekdays(name)
			if !known {
				p.add("%s.days[%d]: %.20q is none of mon, tue, wed, thu, fri, sat, sun", at, k, name)
				continue
			}
			if slices.Contains(raw.Days[:k], name) {
				p.add("%s.days[%d]: %q stands twice", at, k, name)
				continue
			}
			if ok {
				w.spans[day] = append(w.spans[day], sp)
			}
		}
	}
	for i, text := range s.Holidays {
		d, err := time.Parse("2006-01-02", text)
		if err != nil {
			p.add("%s.holidays[%d]: %.20q is no date like 2026-12-25", path, i, text)
			continue
		}
		w.holidays = append(w.holidays, civilDay(d.Date()))
	}
	slices.Sort(w.holidays)
	w.holidays = slices.Compact(w.holidays)
	return w
}

func compileSpan(path string, s Span, p *problems) (span, bool) {
	if len(s.Days) == 0 || len(s.Days) > 7 {
		p.add("%s.days: has %d days, want 1 to 7", path, len(s.Days))
	}
	from, okFrom := clockMinutes(s.From)
	if !okFrom || from == dayMinutes {
		p.add("%s.from: %.20q is no time from 00:00 to 23:59", path, s.From)
		return span{}, false
	}
	to, okTo := clockMinutes(s.To)
	if !okTo {
		p.add("%s.to: %.20q is no time from 00:00 to 24:00", path, s.To)
		return span{}, false
	}
	if from == to {
		p.add("%s: from and to are both %s, an empty span; for a whole day write 00:00 to 24:00", path, s.From)
		return span{}, false
	}
	if to < from {
		to += dayMinutes
	}
	return span{from: from, to: to}, true
}

// clockMinutes reads exactly HH:MM.
func clockMinutes(s string) (int16, bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	for _, i := range [...]int{0, 1, 3, 4} {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	h := int16(s[0]-'0')*10 + int16(s[1]-'0')
	m := int16(s[3]-'0')*10 + int16(s[4]-'0')
	if m > 59 || h > 24 || (h == 24 && m > 0) {
		return 0, false
	}
	return h*60 + m, true
}

func weekdays(name string) (time.Weekday, bool) {
	switch name {
	case "sun":
		return time.Sunday, true
	case "mon":
		return time.Monday, true
	case "tue":
		return time.Tuesday, true
	case "wed":
		return time.Wednesday, true
	case "thu":
		return time.Thursday, true
	case "fri":
		return time.Friday, true
	case "sat":
		return time.Saturday, true
	}
	return 0, false
}
