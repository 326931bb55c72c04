package exchange

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// ahead leaves as many copies as are kept, all of them of the hub as it is and with names of a clock that was ahead.
func (w *town) ahead() (dir string, names []string) {
	w.t.Helper()
	made := must(w.x.backup(w.t.Context())).Files[0]
	dir = filepath.Dir(made)
	for i := range w.cfg.Backup.Keep {
		name := copyName(time.Date(2099, 1, 1+i, 0, 0, 0, 0, time.UTC))
		if err := os.WriteFile(filepath.Join(dir, name), must(os.ReadFile(made)), 0o600); err != nil {
			w.t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := os.Remove(made); err != nil {
		w.t.Fatal(err)
	}
	return dir, names
}

// What edges prune by must be there: a copy is never the one that goes to make room, though every other bears a later time.
func TestABackupStandsThoughOlderOnesBearLaterNames(t *testing.T) {
	w := newTown(t)
	w.seeded()
	w.send(w.all()...)
	dir, names := w.ahead()
	w.houses["lisbon"].tap(3)
	w.send("lisbon")
	for range 3 {
		made := must(w.x.backup(t.Context())).Files[0]
		names = append(names[1:], filepath.Base(made))
		if have := must(copies(dir)); !slices.Equal(have, names) {
			t.Fatalf("copies %v, want %v", have, names)
		}
	}
	// The one with the newest name is the newest: it holds all that the marks say.
	db := filepath.Join(t.TempDir(), "hub.db")
	if err := os.Rename(filepath.Join(dir, names[len(names)-1]), db); err != nil {
		t.Fatal(err)
	}
	newest := must(openStorage(t.Context(), filepath.Dir(db), w.cfg.Network))
	defer newest.Close()
	held := map[string]uint64{}
	for _, l := range must(newest.Logs(t.Context())) {
		held[l.Edge] = l.Size
	}
	for _, l := range must(w.x.storage.Logs(t.Context())) {
		if l.Backup == 0 || held[l.Edge] < l.Backup {
			t.Errorf("%s may prune %d leaves, the newest copy holds %d", l.Edge, l.Backup, held[l.Edge])
		}
	}
}

func TestAnErasureLeavesItsBackupThoughOlderOnesBearLaterNames(t *testing.T) {
	w := newTown(t)
	w.enrolled()
	bundles, parts := w.seasons(1)
	dir, _ := w.ahead()
	a := must(w.x.Do(t.Context(), Order{Erase: zeph}))
	if have := must(copies(dir)); len(have) != 1 || filepath.Join(dir, have[0]) != a.Erased.Backup {
		t.Fatalf("copies %v, want %s alone", have, a.Erased.Backup)
	}
	w.forgotten("erased", parts, bundles)
}

// Whoever takes the new copy away before the older ones went has these still, and is told so.
func TestAnErasureWhoseBackupIsGoneRemovesNoOther(t *testing.T) {
	for _, spoil := range []func(string) error{os.Remove, func(file string) error { return os.Truncate(file, 0) }} {
		w := newTown(t)
		w.enrolled()
		w.seasons(1)
		old := must(w.x.backup(t.Context())).Files[0]
		e := must(w.x.erasure(t.Context(), zeph))
		steps := e.steps()
		for _, s := range steps[:len(steps)-1] {
			if err := s.do(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := spoil(e.backup); err != nil {
			t.Fatal(err)
		}
		if err := steps[len(steps)-1].do(t.Context()); err == nil || !strings.Contains(err.Error(), e.backup) {
			t.Fatalf("the new copy is gone: %v", err)
		}
		if _, err := os.Stat(old); err != nil {
			t.Fatal("no copy is left:", err)
		}
	}
}

// A copy that is kept alone is the newest, and what somebody else put into the directory is none of the hub's.
func TestThinningKeepsTheNewestAndWhatIsNotOurs(t *testing.T) {
	w := newTown(t)
	w.cfg.Backup.Keep = 1
	w.restart()
	dir := w.cfg.backupDir(w.dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	others := []string{"hub-before-the-move.db", "hub-zzz.db", "hub-20990101T000000.000Z.db.aside", "hub-20991301T000000.000Z.db"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		made := must(w.x.backup(t.Context())).Files[0]
		if have := must(copies(dir)); !slices.Equal(have, []string{filepath.Base(made)}) {
			t.Fatalf("copies %v, want %s alone", have, made)
		}
		for _, name := range others {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Names ascend as copies are made, from whatever clock; where none is left, that is said.
func TestTheNextCopyIsNamedAboveAllOthers(t *testing.T) {
	now := time.Date(2026, 11, 21, 18, 0, 0, 999_999, time.UTC)
	for _, c := range []struct{ newest, want string }{
		{"", "hub-20261121T180000.000Z.db"},
		{"hub-20261121T175959.999Z.db", "hub-20261121T180000.000Z.db"},
		{"hub-20261121T180000.000Z.db", "hub-20261121T180000.001Z.db"},
		{"hub-20991231T235959.999Z.db", "hub-21000101T000000.000Z.db"},
		{"hub-99991231T235959.998Z.db", "hub-99991231T235959.999Z.db"},
		{"hub-99991231T235959.999Z.db", ""},
	} {
		var older []string
		if c.newest != "" {
			older = []string{"hub-19700101T000000.000Z.db", c.newest}
		}
		name, err := nextCopy(older, now)
		if name != c.want || (err == nil) != (c.want != "") || err != nil && !strings.Contains(fmt.Sprint(err), c.newest) {
			t.Errorf("after %s: %q %v, want %q", c.newest, name, err, c.want)
		}
	}
}
