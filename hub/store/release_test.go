package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// releaseOf is a report with texts of some size, so that it needs pages of its own.
func releaseOf(number int) Release {
	text := func(what string) []byte { return bytes.Repeat(fmt.Appendf(nil, "%s of p%d\n", what, number), 1500) }
	return Release{Number: number, Period: fmt.Sprintf("p%d", number), Markdown: text("md"), HTML: text("html"), JSON: text("json"), Note: text("note")}
}

func (s *Store) begun(t testing.TB, number int) {
	t.Helper()
	p := Period{Number: number, Name: fmt.Sprintf("p%d", number), Files: map[string][]byte{"cut.txt": []byte("x")}}
	if err := s.SavePeriod(context.Background(), p); err != nil {
		t.Fatal(err)
	}
}

// checkReleases wants exactly the first n releases, whole.
func checkReleases(t testing.TB, s *Store, n int) {
	t.Helper()
	list := must(s.Released(context.Background()))
	if len(list) != n {
		t.Fatalf("%d releases, want %d", len(list), n)
	}
	for i, l := range list {
		want := releaseOf(i + 1)
		have, here, err := s.Release(context.Background(), want.Period)
		if err != nil || !here || l.Number != want.Number || l.Period != want.Period || have.Number != want.Number ||
			fmt.Sprintf("%q", have.texts()) != fmt.Sprintf("%q", want.texts()) {
			t.Fatalf("release %d: %v %v, not as it was saved", i+1, here, err)
		}
	}
}

func TestAReleaseIsWrittenOnce(t *testing.T) {
	s := fresh(t)
	for n := range 3 {
		s.begun(t, n+1)
	}
	for range 2 { // again is no change
		if err := s.SaveRelease(t.Context(), releaseOf(1)); err != nil {
			t.Fatal(err)
		}
	}
	checkReleases(t, s, 1)
	for i, change := range []func(*Release){func(r *Release) { r.Markdown = []byte("x") }, func(r *Release) { r.HTML = []byte("x") },
		func(r *Release) { r.JSON = []byte("x") }, func(r *Release) { r.Note = []byte("x") }, func(r *Release) { r.Period = "p2" }} {
		r := releaseOf(1)
		change(&r)
		if err := s.SaveRelease(t.Context(), r); !errors.Is(err, ErrConflict) {
			t.Fatalf("change %d: %v", i, err)
		}
	}
	if err := s.SaveRelease(t.Context(), releaseOf(7)); !errors.Is(err, ErrUnknown) {
		t.Fatalf("of no period: %v", err)
	}
	for i, change := range []func(*Release){func(r *Release) { r.Note = nil }, func(r *Release) { r.HTML = make([]byte, MaxRelease+1) }} {
		r := releaseOf(2)
		change(&r)
		if s.SaveRelease(t.Context(), r) == nil {
			t.Fatalf("bad text %d was kept", i)
		}
	}
	if _, here, err := s.Release(t.Context(), "p2"); here || err != nil {
		t.Fatalf("%v %v", here, err)
	}
	checkReleases(t, s, 1)
}

func TestABackupHoldsTheReleases(t *testing.T) {
	s := fresh(t)
	commit(t, s, newEdge("lisbon", "lisbon-front", 1).batch(t, 5))
	for n := range 3 {
		s.begun(t, n+1)
		if err := s.SaveRelease(t.Context(), releaseOf(n+1)); err != nil {
			t.Fatal(err)
		}
	}
	file, dir := filepath.Join(t.TempDir(), "b.db"), filepath.Join(t.TempDir(), "restored")
	if _, err := s.Backup(t.Context(), file, testChecks); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), file, Options{Dir: dir, Network: testNetwork, Projection: testProjection}, testChecks); err != nil {
		t.Fatal(err)
	}
	checkReleases(t, open(t, dir), 3)
}

// Every way in which keeping a release can go wrong, and what is there afterwards.
func TestAReleaseIsThereWholeOrNotAtAllWhateverFails(t *testing.T) {
	for name, c := range map[string]struct {
		fail   func(t *testing.T, s *Store) error // keeps release 2, or fails to
		stored bool
	}{
		"failed, not stored: the disk is full": {func(t *testing.T, s *Store) error {
			var pages int
			if err := s.write.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
				t.Fatal(err)
			}
			execSQL(t, s, fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+2))
			err := s.SaveRelease(t.Context(), releaseOf(2))
			if !errors.Is(err, ErrDiskFull) {
				t.Errorf("want a full disk, got %v", err)
			}
			execSQL(t, s, `PRAGMA max_page_count = 1000000`)
			return err
		}, false},
		"failed, not stored: told to stop before": {func(t *testing.T, s *Store) error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return s.SaveRelease(ctx, releaseOf(2))
		}, false},
		"failed, not stored: the transaction is left before its end": {func(t *testing.T, s *Store) error {
			tx, err := s.write.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			r := releaseOf(2)
			if err := saveRelease(t.Context(), tx, &r); err != nil {
				t.Fatal(err)
			}
			return errors.Join(errors.New("killed"), tx.Rollback())
		}, false},
		"failed but stored: the answer is lost": {func(t *testing.T, s *Store) error {
			if err := s.SaveRelease(t.Context(), releaseOf(2)); err != nil {
				t.Fatal(err)
			}
			return errors.New("nobody heard of it")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "hub")
			s := open(t, dir)
			for n := range 2 {
				s.begun(t, n+1)
			}
			if err := s.SaveRelease(t.Context(), releaseOf(1)); err != nil {
				t.Fatal(err)
			}
			if c.fail(t, s) == nil {
				t.Fatal("it did not fail")
			}
			have := 1
			if c.stored {
				have = 2
			}
			checkReleases(t, s, have)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
			checkReleases(t, s, have)
			if err := s.SaveRelease(t.Context(), releaseOf(2)); err != nil { // asked again
				t.Fatal(err)
			}
			checkReleases(t, s, 2)
		})
	}
}

const releaseChildEnv = "KITH_STORE_RELEASE_CHILD"

// TestReleaseChildWriter is the victim of the next test: it keeps releases and says so, until it is killed.
func TestReleaseChildWriter(t *testing.T) {
	dir := os.Getenv(releaseChildEnv)
	if dir == "" {
		t.Skip("run by TestNoReleaseIsLostOrTornByAKill")
	}
	s := open(t, dir)
	for n := len(must(s.Released(t.Context()))) + 1; ; n++ {
		s.begun(t, n)
		fmt.Printf("NEXT %d\n", n)
		if err := s.SaveRelease(t.Context(), releaseOf(n)); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("ACK %d\n", n)
	}
}

// The victim is killed before it keeps one in half of the rounds and after it said so in the others: by what it says, not
// by a clock.
func TestNoReleaseIsLostOrTornByAKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hub")
	acked := 0
	for round := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestReleaseChildWriter$")
		cmd.Env = append(os.Environ(), releaseChildEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		word, goal := []string{"NEXT ", "ACK "}[round%2], acked+3
		for lines := bufio.NewScanner(out); lines.Scan(); {
			text := lines.Text()
			if n, ok := strings.CutPrefix(text, "ACK "); ok {
				acked, _ = strconv.Atoi(n)
			}
			if n, ok := strings.CutPrefix(text, word); ok && must(strconv.Atoi(n)) == goal {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the victim ended by itself")
		}
		s, err := Open(context.Background(), Options{Dir: dir, Network: testNetwork, Projection: testProjection})
		if err != nil {
			t.Fatal(err)
		}
		have := len(must(s.Released(t.Context())))
		if have < acked || acked < goal-1 {
			t.Fatalf("round %d: %d acknowledged, %d kept, killed at %d", round, acked, have, goal)
		}
		checkReleases(t, s, have)
		acked = have
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
