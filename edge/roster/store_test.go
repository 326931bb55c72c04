package roster

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"golang.org/x/mod/sumdb/note"

	"kith/internal/access"
	"kith/internal/bulletin"
)

const epoch = 1_790_000_000 // unix seconds at which all test statements are issued, plus their number

type testHub struct {
	signer note.Signer
	keys   bulletin.Keys
}

func newHub(t testing.TB) testHub {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "hub")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := bulletin.ParseKeys(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return testHub{signer, keys}
}

func (h testHub) options() Options {
	return Options{Network: "kith", Node: "lisbon", Keys: h.keys, Built: time.Unix(epoch-1000, 0)}
}

func (h testHub) open(t testing.TB, d disk) *Store {
	t.Helper()
	s, err := openOn(d, h.options())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func document(version uint64, member string) access.Document {
	return access.Document{
		Network: "kith", Node: "lisbon", Version: version, Issued: epoch + int64(version), Zone: "Europe/Lisbon",
		Members: []access.Member{{ID: member, Role: access.RoleResident}},
	}
}

func (h testHub) sign(t testing.TB, d access.Document) (signed, doc []byte) {
	t.Helper()
	doc, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	signed, err = bulletin.SignRoster(bulletin.Describe(bulletin.Header{Network: d.Network, Node: d.Node, Version: d.Version, Issued: d.Issued}, doc), h.signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed, doc
}

func (h testHub) roster(t testing.TB, version uint64, member string) (signed, doc []byte) {
	t.Helper()
	return h.sign(t, document(version, member))
}

func (h testHub) install(t testing.TB, s *Store, version uint64, member string) {
	t.Helper()
	signed, doc := h.roster(t, version, member)
	if err := install(s, signed, doc); err != nil {
		t.Fatal(err)
	}
}

// install puts a whole document in force that never saw the disk.
func install(s *Store, note, text []byte) error {
	doc := newDocument(nil, note)
	if err := doc.add(text); err != nil {
		return err
	}
	return s.Install(note, doc)
}

func (h testHub) signTicket(t testing.TB, version uint64, issued, life int64) []byte {
	t.Helper()
	signed, err := bulletin.SignTicket(bulletin.Ticket{Network: "kith", Node: "lisbon", RosterVersion: version, Issued: epoch + issued, Until: epoch + issued + life}, h.signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (h testHub) ticket(t testing.TB, s *Store, version uint64, issued, life int64) {
	t.Helper()
	if err := s.InstallTicket(h.signTicket(t, version, issued, life)); err != nil {
		t.Fatal(err)
	}
}

func TestEveryRosterThatMustNotComeInIsRefused(t *testing.T) {
	hub, stranger := newHub(t), newHub(t)
	edit := func(f func(*access.Document)) func(*testing.T) ([]byte, []byte) {
		return func(t *testing.T) ([]byte, []byte) {
			d := document(6, "eve")
			f(&d)
			return hub.sign(t, d)
		}
	}
	cases := []struct {
		name string
		make func(*testing.T) (note, doc []byte)
		want error
	}{
		{"an older version", func(t *testing.T) ([]byte, []byte) { return hub.roster(t, 4, "ana") }, ErrOlder},
		{"the same version with other people", func(t *testing.T) ([]byte, []byte) { return hub.roster(t, 5, "eve") }, ErrFork},
		{"a stranger's signature", func(t *testing.T) ([]byte, []byte) { return stranger.roster(t, 6, "eve") }, bulletin.ErrSignature},
		{"another node", edit(func(d *access.Document) { d.Node = "porto" }), ErrForeign},
		{"another network", edit(func(d *access.Document) { d.Network = "kin" }), ErrForeign},
		{"other bytes", func(t *testing.T) ([]byte, []byte) {
			n, d := hub.roster(t, 6, "eve")
			return n, bytes.Replace(d, []byte("eve"), []byte("eva"), 1)
		}, bulletin.ErrDocument},
		{"missing bytes", func(t *testing.T) ([]byte, []byte) { n, d := hub.roster(t, 6, "eve"); return n, d[:len(d)-1] }, bulletin.ErrDocument},
		{"header and document of different versions", func(t *testing.T) ([]byte, []byte) {
			_, doc := hub.roster(t, 6, "eve")
			n, err := bulletin.SignRoster(bulletin.Describe(bulletin.Header{Network: "kith", Node: "lisbon", Version: 7, Issued: epoch + 6}, doc), hub.signer)
			if err != nil {
				t.Fatal(err)
			}
			return n, doc
		}, ErrContent},
		{"a ticket in a roster's place", func(t *testing.T) ([]byte, []byte) { return hub.signTicket(t, 6, 1, 60), []byte("{}") }, bulletin.ErrFormat},
		{"a document that does not compile", edit(func(d *access.Document) { d.Zone = "Nowhere" }), nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := hub.open(t, newPaper())
			hub.install(t, s, 5, "ana")
			n, d := c.make(t)
			err := install(s, n, d)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if _, ok := s.Current().Person("ana"); !ok || s.Held().Version != 5 {
				t.Fatal("a refused roster changed the one in force")
			}
		})
	}
}

func TestInstallingTheSameAgainIsNoError(t *testing.T) {
	hub := newHub(t)
	s := hub.open(t, newPaper())
	hub.install(t, s, 5, "ana")
	hub.install(t, s, 5, "ana")
}

func TestALostRosterFileDoesNotOpenTheWayBack(t *testing.T) {
	hub := newHub(t)
	d := newPaper()
	hub.install(t, hub.open(t, d), 5, "ana")
	delete(d.now, rosterName)
	s := hub.open(t, d)
	if s.Current() != nil || s.Status().Broken == nil {
		t.Fatal("a lost file went unnoticed")
	}
	n, doc := hub.roster(t, 4, "ana")
	if err := install(s, n, doc); !errors.Is(err, ErrOlder) {
		t.Fatalf("rolled back: %v", err)
	}
	n, doc = hub.roster(t, 5, "eve")
	if err := install(s, n, doc); !errors.Is(err, ErrFork) {
		t.Fatalf("took other content: %v", err)
	}
	hub.install(t, s, 5, "ana")
	if s.Status().Broken != nil {
		t.Fatal("still broken after the hub's help")
	}
}

func TestAnOldRosterFilePutBackIsRefused(t *testing.T) {
	hub := newHub(t)
	d := newPaper()
	s := hub.open(t, d)
	hub.install(t, s, 5, "ana")
	old := d.now[rosterName]
	hub.install(t, s, 6, "ben")
	d.now[rosterName] = old
	back := hub.open(t, d)
	if back.Current() != nil || !errors.Is(back.Status().Broken, ErrOlder) {
		t.Fatalf("an old file was taken: %v", back.Status().Broken)
	}
}

func TestATornFileIsSaidAndGivesNoRoster(t *testing.T) {
	hub := newHub(t)
	d := newPaper()
	hub.install(t, hub.open(t, d), 5, "ana")
	whole := d.now[rosterName].now
	for cut := range len(whole) {
		torn := d.after(true, false)
		torn.now[rosterName] = &sheet{now: whole[:cut]}
		s := hub.open(t, torn)
		if s.Current() != nil || s.Status().Broken == nil {
			t.Fatalf("cut at %d of %d bytes: taken as whole", cut, len(whole))
		}
	}
	for i := range whole {
		flipped := d.after(true, false)
		b := bytes.Clone(whole)
		b[i] ^= 0x20
		flipped.now[rosterName] = &sheet{now: b}
		if s := hub.open(t, flipped); s.Current() != nil {
			t.Fatalf("byte %d flipped: taken as whole", i)
		}
	}
}

func TestADiskThatCannotBeWrittenKeepsNoRevokedCardWorking(t *testing.T) {
	hub := newHub(t)
	d := newPaper()
	s := hub.open(t, d)
	hub.install(t, s, 5, "ana")
	d.left = 0
	n, doc := hub.roster(t, 6, "ben")
	if err := install(s, n, doc); !errors.Is(err, errCut) {
		t.Fatalf("the failure was not said: %v", err)
	}
	if s.Held().Version != 6 || s.Current().Version() != 6 || s.Status().Broken == nil {
		t.Fatal("the new roster is not in force, or nobody is told that it is in memory only")
	}
	older, oldDoc := hub.roster(t, 5, "ana")
	if err := install(s, older, oldDoc); !errors.Is(err, ErrOlder) {
		t.Fatalf("memory went back: %v", err)
	}
	if err := s.InstallTicket(hub.signTicket(t, 6, 200, 3600)); !errors.Is(err, errCut) || !s.Freshness().Fresh {
		t.Fatalf("the hub's word does not count while the disk is full: %v", err)
	}
	again := d.after(true, false)
	again.left = 0
	if cut := hub.open(t, again); cut.Held().Version != 5 || cut.Status().Broken == nil {
		t.Fatal("after a power cut a read-only disk must not lock the house out, and must be said")
	}
	d.left = 1 << 20
	if err := s.Persist(); err != nil {
		t.Fatal(err)
	}
	if s.waiting() || s.Status().Broken != nil {
		t.Fatalf("written, and still said not to be: %v", s.Status().Broken)
	}
	if back := hub.open(t, d.after(true, false)); back.Held().Version != 6 {
		t.Fatalf("version %d after the disk took it", back.Held().Version)
	}
}

func TestEveryTicketThatMustNotComeInIsRefused(t *testing.T) {
	hub, stranger := newHub(t), newHub(t)
	s := hub.open(t, newPaper())
	hub.install(t, s, 5, "ana")
	hub.ticket(t, s, 5, 100, 3600)
	foreign, err := bulletin.SignTicket(bulletin.Ticket{Network: "kith", Node: "porto", RosterVersion: 5, Issued: epoch + 200, Until: epoch + 300}, hub.signer)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := hub.roster(t, 6, "ben")
	for _, c := range []struct {
		name string
		note []byte
		want error
	}{
		{"older", hub.signTicket(t, 5, 99, 3600), ErrOlder},
		{"as old, other end", hub.signTicket(t, 5, 100, 3601), ErrOlder},
		{"foreign", foreign, ErrForeign},
		{"stranger", stranger.signTicket(t, 5, 200, 3600), bulletin.ErrSignature},
		{"a roster's header", n, bulletin.ErrFormat},
		{"ahead", hub.signTicket(t, 6, 200, 3600), ErrAhead},
	} {
		if err := s.InstallTicket(c.note); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	hub.ticket(t, s, 5, 100, 3600) // the very same again is no error
}

func TestATicketAheadWaitsForItsRoster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t)
		s := hub.open(t, newPaper())
		hub.install(t, s, 5, "ana")
		if err := s.InstallTicket(hub.signTicket(t, 6, 10, 3600)); !errors.Is(err, ErrAhead) {
			t.Fatal(err)
		}
		if s.Freshness().Fresh {
			t.Fatal("fresh by a ticket for another roster")
		}
		hub.install(t, s, 6, "ben")
		if !s.Freshness().Fresh {
			t.Fatal("the waiting ticket was forgotten")
		}
	})
}

func TestALeaseEndsByTheMonotonicClockAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t)
		s := hub.open(t, newPaper())
		hub.install(t, s, 5, "ana")
		if f := s.Freshness(); f.Fresh {
			t.Fatalf("fresh without a ticket: %+v", f)
		}
		hub.ticket(t, s, 5, 10, 3600)
		time.Sleep(3599 * time.Second)
		if f := s.Freshness(); !f.Fresh || f.Age != 3599*time.Second {
			t.Fatalf("after 3599 s: %+v", f)
		}
		time.Sleep(time.Second)
		if f := s.Freshness(); f.Fresh || f.Age != 3600*time.Second {
			t.Fatalf("after 3600 s: %+v", f)
		}
		hub.ticket(t, s, 5, 4000, 3600)
		if !s.Freshness().Fresh {
			t.Fatal("a new ticket does not help")
		}
	})
}

func TestANewRosterKeepsTheLeaseOfTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t)
		s := hub.open(t, newPaper())
		hub.install(t, s, 5, "ana")
		hub.ticket(t, s, 5, 10, 3600)
		hub.install(t, s, 6, "ben")
		if !s.Freshness().Fresh {
			t.Fatal("a newer roster is stale by an older ticket")
		}
	})
}

func TestPowerCyclingDoesNotStopTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t)
		d := newPaper()
		s := hub.open(t, d)
		hub.install(t, s, 5, "ana")
		hub.ticket(t, s, 5, 10, 24*3600)
		boots := 0
		for hub.open(t, d).Freshness().Fresh {
			d = d.after(false, false) // a minute of power, then none
			if boots++; boots > 200 {
				t.Fatal("the lease is frozen")
			}
			time.Sleep(time.Minute)
		}
		if boots != 143 { // 24 h in steps of 10 min, and the one that ends it
			t.Fatalf("the lease lasted %d boots", boots)
		}
	})
}

// A disk with room for a clock and none for a roster keeps the clock, as old as what stands beside it.
func TestALeaseDoesNotGrowYoungOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t)
		d := newPaper()
		s := hub.open(t, d)
		hub.install(t, s, 5, "ana")
		hub.ticket(t, s, 5, 10, 24*3600)
		d.full = rosterName
		n, doc := hub.roster(t, 6, "ben")
		if err := install(s, n, doc); !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		ctx := t.Context()
		go func() { _ = s.Run(ctx) }()
		time.Sleep(30 * time.Hour)
		again := hub.open(t, d.after(false, false))
		if again.Held().Version != 5 || again.Status().Broken != nil || again.Freshness().Fresh {
			t.Fatalf("version %d, %v, %+v", again.Held().Version, again.Status().Broken, again.Freshness())
		}
		if err := install(again, n, doc); err != nil || again.Held().Version != 6 {
			t.Fatalf("the newer roster was refused: %v", err)
		}
	})
}

// A ticket that found no room must not make the one before look as if it had been put back.
func TestATicketThatFoundNoRoomLeavesTheOneBefore(t *testing.T) {
	hub := newHub(t)
	d := newPaper()
	s := hub.open(t, d)
	hub.install(t, s, 5, "ana")
	hub.ticket(t, s, 5, 10, 24*3600)
	d.full = ticketName
	if err := s.InstallTicket(hub.signTicket(t, 5, 200, 24*3600)); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if again := hub.open(t, d.after(false, false)); again.Status().Broken != nil || !again.Freshness().Fresh {
		t.Fatalf("%v %+v", again.Status().Broken, again.Freshness())
	}
}

func TestElapsedTimeSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t)
		d := newPaper()
		s := hub.open(t, d)
		hub.install(t, s, 5, "ana")
		hub.ticket(t, s, 5, 10, 24*3600)
		ctx := t.Context()
		go func() { _ = s.Run(ctx) }()
		time.Sleep(5*time.Hour + 9*time.Minute)
		again := hub.open(t, d.after(false, false))
		f := again.Freshness()
		if want := 5*time.Hour + bootPenalty; f.Age != want {
			t.Fatalf("age %v, want %v: what was written every 10 min and the penalty", f.Age, want)
		}
		if low := again.Status().LowerBound; low.Unix() != epoch+10+5*3600 {
			t.Fatalf("lower bound %v", low)
		}
	})
}

func TestATicketHeldBackIsAsOldAsTheLowerBoundSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t)
		s := hub.open(t, newPaper())
		hub.install(t, s, 5, "ana")
		s.Witness(time.Unix(epoch+3000, 0))
		hub.ticket(t, s, 5, 10, 3600)
		if f := s.Freshness(); !f.Fresh || f.Age != 2990*time.Second {
			t.Fatalf("%+v", f)
		}
		s.Witness(time.Unix(epoch+3610, 0))
		if s.Freshness().Fresh {
			t.Fatal("fresh after a certain end")
		}
	})
}

func TestTheWallClockIsBelievedOnlyWithinReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t)
		s := hub.open(t, newPaper())
		hub.install(t, s, 5, "ana") // the lower bound is now epoch+5
		low := time.Unix(epoch+5, 0).UTC()
		for _, c := range []struct {
			name    string
			wall    time.Time
			quality Quality
			now     time.Time
			unsure  bool
		}{
			{"not synchronised", low.Add(time.Hour), Unsynchronised, low, true},
			{"behind what is certain", low.Add(-time.Second), Synchronised, low, true},
			{"more than a day ahead", low.Add(farJump + time.Second), Synchronised, low, true},
			{"within a day", low.Add(farJump), Synchronised, low.Add(farJump), false},
			{"behind what was believed before", low.Add(farJump - time.Second), Synchronised, low.Add(farJump), true},
		} {
			now, unsure := s.Clock(c.wall, c.quality)
			if !now.Equal(c.now) || unsure != c.unsure {
				t.Errorf("%s: %v %t, want %v %t", c.name, now, unsure, c.now, c.unsure)
			}
		}
	})
}

func TestARealFolderKeepsARosterAcrossARestart(t *testing.T) {
	hub := newHub(t)
	o := hub.options()
	o.Dir = t.TempDir()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	hub.install(t, s, 5, "ana")
	hub.ticket(t, s, 5, 10, 3600)
	for _, name := range []string{rosterName + ".new", partsName} {
		if err := os.WriteFile(filepath.Join(o.Dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Open(o)
	if err != nil || again.Held().Version != 5 || !again.Freshness().Fresh || again.Status().Broken != nil {
		t.Fatalf("%v %+v", err, again.Status())
	}
	for _, name := range []string{rosterName + ".new", partsName} {
		if _, err := os.Stat(filepath.Join(o.Dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("names of people were left in the half-written %s: %v", name, err)
		}
	}
	if err := hub.deliver(t, again, 6, "ben"); err != nil || again.Status().Broken != nil {
		t.Fatal(err, again.Status().Broken)
	}
	third, err := Open(o)
	if err != nil || third.Held().Version != 6 {
		t.Fatalf("%v %+v", err, third.Status())
	}
	for _, e := range []string{rosterName, ticketName, clockName} {
		info, err := os.Stat(filepath.Join(o.Dir, e))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v: people's names are for this program alone", e, info, err)
		}
	}
	o.Dir = filepath.Join(o.Dir, "none")
	if _, err := Open(o); err == nil {
		t.Fatal("opened a directory that is not there")
	}
}

const goodYAML = `network: kith
node: lisbon
zone: Europe/Lisbon
members:
  - {id: ana, role: resident, groups: [people]}
cards:
  - {id: "uid:04a1b2c3", member: ana}
grants:
  - {id: g, group: people, doors: [front]}
`

func TestALoneEdgesFileIsReadAgainAndKeepsTheLastGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.yaml")
	stamp := time.Now().Add(-time.Hour)
	write := func(text string) {
		t.Helper()
		stamp = stamp.Add(time.Minute)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, stamp, stamp)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenFile(path); err == nil {
		t.Fatal("opened a file that is not there")
	}
	write("grants: [")
	if _, err := OpenFile(path); err == nil {
		t.Fatal("opened a broken file")
	}
	write(goodYAML)
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := f.Current()
	q := access.Query{Card: "uid:04a1b2c3", Door: access.Door{ID: "front", AllowUID: true}, Now: time.Now(), Fresh: f.Freshness()}
	if v := first.Decide(q); !v.Allow || v.RosterVersion != uint64(stamp.Unix()) {
		t.Fatalf("%+v", v)
	}
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", strings.Replace(goodYAML, "zone:", "zonne:", 1), "line 3"},
		{"unknown key within", strings.Replace(goodYAML, "role:", "rolle:", 1), "line 5"},
		{"repeated key", goodYAML + "node: porto\n", "already defined"},
		{"two documents", goodYAML + "---\nnode: porto\n", "more than one document"},
		{"empty", "", "empty"},
		{"bad content", strings.Replace(goodYAML, "resident", "king", 1), "members[0].role"},
		{"too long", goodYAML + strings.Repeat("#", fileLimit), "limit"},
	} {
		write(c.text)
		f.poll(time.Now())
		if err := f.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want something with %q", c.name, err, c.want)
		}
		if f.Current() != first {
			t.Fatalf("%s: the last good roster is gone", c.name)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.poll(time.Now())
	if f.Err() == nil || f.Current() != first {
		t.Fatal("a removed file must be said and must lock nobody out")
	}
	write(strings.Replace(goodYAML, "ana", "ben", 2))
	f.poll(time.Now())
	if _, ok := f.Current().Person("ben"); !ok || f.Err() != nil {
		t.Fatalf("the mended file was not taken: %v", f.Err())
	}
	write(strings.Replace(goodYAML, "ana", "eve", 2))
	before := f.Current()
	_ = os.Chtimes(path, stamp.Add(-time.Minute), stamp.Add(-time.Minute)) // same size, same stamp as the file before
	f.poll(stamp.Add(-time.Minute))                                        // within the same tick of time
	if f.Current() == before {
		t.Fatal("a change within one time stamp was missed")
	}
}

func TestAVanishedFileThatComesBackUnchangedIsFine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.yaml")
	if err := os.WriteFile(path, []byte(goodYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Rename(path, path+".away")
	f.poll(time.Now())
	if f.Err() == nil {
		t.Fatal("a missing file went unnoticed")
	}
	_ = os.Rename(path+".away", path)
	f.poll(time.Now())
	if f.Err() != nil {
		t.Fatalf("still complains: %v", f.Err())
	}
}

func FuzzSplit(f *testing.F) {
	hub := newHub(f)
	n, d := hub.roster(f, 5, "ana")
	f.Add(append(append(bytes.Clone(n), '\n'), d...))
	f.Add([]byte("\n\n\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		note, ok := split(b)
		if ok && (!bytes.HasPrefix(b, append(bytes.Clone(note), '\n')) || note[len(note)-1] != '\n') {
			t.Fatal("the note is not the file's beginning")
		}
	})
}

func FuzzFile(f *testing.F) {
	f.Add([]byte(goodYAML))
	f.Add([]byte("a: &a [*a,*a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseFile(b, time.Unix(epoch, 0)); (r == nil) == (err == nil) {
			t.Fatal("neither a roster nor an error, or both")
		}
	})
}
