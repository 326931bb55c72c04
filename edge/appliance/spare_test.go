package appliance

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kith/internal/event"
	"kith/internal/journal"
)

// spoil makes the state directory one that takes no journal, and gives the doors a memory of their own.
func (c *cabin) spoil(t *testing.T, strict bool) {
	t.Helper()
	c.stop()
	log := filepath.Join(c.state(), "log")
	if err := errors.Join(os.Rename(log, log+".good"), os.WriteFile(log, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if strict {
		config := filepath.Join(c.dir, "edge.yaml")
		b, err := os.ReadFile(config)
		if err == nil {
			err = os.WriteFile(config, []byte(strings.Replace(string(b), "allow_uid: true", "strict: true\n    allow_uid: true", 1)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.spare = t.TempDir()
	c.start(t)
}

func TestADiskThatTakesNothingAtTheStartKeepsNoDoorShutButAStrictOne(t *testing.T) {
	for name, strict := range map[string]bool{"door": false, "strict door": true} {
		t.Run(name, func(t *testing.T) {
			c := newCabin(t)
			c.spoil(t, strict)
			c.hand.show(c.ana)
			time.Sleep(100 * time.Millisecond) // a release has reached the lock by now
			if opened := c.pins.count("door/lock") > 0; opened == strict {
				t.Fatalf("opened: %v", opened)
			}
			taps := c.leaves(t, event.KindTap)
			if len(taps) == 0 {
				t.Fatal("the tap is not in the journal in memory")
			}
			l, err := event.Parse(taps[0].Leaf)
			var tap event.Tap
			if err = errors.Join(err, json.Unmarshal(l.Body, &tap)); err != nil || tap.Verdict != "grant" || !tap.Late {
				t.Fatalf("%+v %v", tap, err)
			}
			if err := c.edge.journalTrouble(); err == nil || !strings.Contains(err.Error(), "memory only") {
				t.Fatalf("health says %v", err)
			}
			if _, _, err := c.edge.recordEntry(t.Context(), event.Fact{Kind: event.KindDoor}); !errors.Is(err, errVolatile) {
				t.Fatalf("an entry was taken: %v", err)
			}
			size := c.edge.journal.Head().Size
			c.stop()
			c.start(t)
			if now := c.edge.journal.Head().Size; now <= size {
				t.Fatalf("a restart of the program lost %d leaves to %d", size, now)
			}
		})
	}
}

func TestAJournalInMemoryIsOursAlone(t *testing.T) {
	c := newCabin(t)
	c.spoil(t, false)
	c.stop()
	made, err := filepath.Glob(filepath.Join(c.spare, "kith-edge-*"))
	if err != nil || len(made) != 1 {
		t.Fatalf("%q %v", made, err)
	}
	cfg, err := Load(filepath.Join(c.dir, "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	for what, plant := range map[string]func() error{
		"a link":              func() error { return os.Symlink(elsewhere, made[0]) },
		"an open directory":   func() error { return errors.Join(os.Mkdir(made[0], 0o700), os.Chmod(made[0], 0o755)) },
		"a file of that name": func() error { return os.WriteFile(made[0], nil, 0o700) },
	} {
		if err := errors.Join(os.RemoveAll(made[0]), plant()); err != nil {
			t.Fatal(err)
		}
		a, err := Open(t.Context(), cfg, Options{StateDir: c.state(), Clock: TrustedClock(), Board: c.pins, SpareDir: c.spare,
			Reader: func(Reader) (Presenter, error) { return c.hand, nil }})
		if err == nil {
			a.close()
			t.Errorf("%s was written to", what)
		}
	}
	if got, _ := os.ReadDir(elsewhere); len(got) != 0 {
		t.Errorf("something went through the link: %v", got)
	}
}

func TestAnotherEdgesJournalIsNoReasonForOneInMemory(t *testing.T) {
	c := newCabin(t)
	c.stop()
	for _, no := range []error{journal.ErrIdentity, journal.ErrNewer, journal.ErrSettings} {
		if diskRefuses(t.Context(), no) {
			t.Errorf("%v", no)
		}
	}
	c.start(t)
	cfg, err := Load(filepath.Join(c.dir, "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := Open(t.Context(), cfg, Options{StateDir: c.state(), Clock: TrustedClock(), Board: c.pins, SpareDir: t.TempDir(),
		Reader: func(Reader) (Presenter, error) { return c.hand, nil }}); err == nil {
		a.close()
		t.Error("a second program ran beside the first, with a journal of its own")
	}
}

func TestAFactBehindAPendingOneIsNotForgotten(t *testing.T) {
	d := &disk{}
	r := newRecorder(d, slog.New(slog.DiscardHandler))
	r.held = append(r.held, record(tapFact(t, 1)))
	d.set(journal.ErrPending)
	p := pending{tapFact(t, 2), make(chan error, 1)}
	r.write(t.Context(), []pending{p})
	d.set(nil)
	r.write(t.Context(), nil)
	if len(d.written) != 2 || len(r.held) != 0 {
		t.Fatalf("%d written, %d held", len(d.written), len(r.held))
	}
}
