package store

import (
	"fmt"
	"testing"

	"kith/internal/event"
)

// asBefore0007 takes a database back to the form of format 6: lines and presence by address, no time of arrival.
const asBefore0007 = `
	CREATE TABLE old_lines (address INTEGER PRIMARY KEY, node INTEGER NOT NULL REFERENCES nodes(id), at INTEGER NOT NULL,
		shape INTEGER NOT NULL REFERENCES shapes(id), member TEXT NOT NULL);
	INSERT INTO old_lines SELECT (b.log << 40) + b.first + (l.id & 0xffff), l.node, l.at, l.shape, l.member FROM lines l JOIN bundles b ON b.seq = l.id >> 16;
	CREATE TABLE old_presence (member TEXT PRIMARY KEY, node TEXT NOT NULL, address INTEGER NOT NULL, edge TEXT NOT NULL, epoch BLOB NOT NULL,
		idx INTEGER NOT NULL, at INTEGER NOT NULL, clock TEXT NOT NULL, door TEXT NOT NULL, direction TEXT NOT NULL);
	DROP TABLE lines; DROP TABLE presence;
	ALTER TABLE old_lines RENAME TO lines; ALTER TABLE old_presence RENAME TO presence;
	CREATE INDEX lines_by_node ON lines (node, at); CREATE INDEX presence_by_node ON presence (node);
	ALTER TABLE bundles DROP COLUMN received;
	DROP TABLE erased;
	PRAGMA user_version = 6;`

// A database of before says the same after the migration, line by line and person by person, and goes on.
func TestLinesAndPresenceMoveIntoTheOrderOfArrival(t *testing.T) {
	s, edges := full(t)
	if err := s.Erase(t.Context(), Address{"lisbon-front", event.Epoch{1}, 3}); err != nil {
		t.Fatal(err)
	}
	picture := func() string {
		lines, err := s.Lines(t.Context(), "", 0, MaxLines)
		if err != nil {
			t.Fatal(err)
		}
		arrived, _, err := s.LinesAfter(t.Context(), Cursor{}, MaxLines)
		if err != nil {
			t.Fatal(err)
		}
		seen, err := s.Presence(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for i := range seen {
			seen[i].Received = 0 // of before nothing is known but that it came before now
		}
		return fmt.Sprint(lines, arrived, seen)
	}
	before := picture()
	execSQL(t, s, asBefore0007)
	dir := s.dir
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if after := picture(); after != before {
		t.Fatalf("before %s\nafter %s", before, after)
	}
	commit(t, s, edges[2].batch(t, 20))
	if r := verify(t, s); !r.OK() || r.Lines != 488 || r.Present != 10 {
		t.Fatalf("%+v", r)
	}
}
