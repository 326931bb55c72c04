package store

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/internal/event"
)

func decodeHex(dst []byte, s string) (int, error) { return hex.Decode(dst, []byte(s)) }

func TestAFullDiskStoresNothingAndHealsByItself(t *testing.T) {
	s := fresh(t)
	e := newEdge("lisbon", "lisbon-front", 1)
	commit(t, s, e.batch(t, 100))
	var pages int
	if err := s.write.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	execSQL(t, s, fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+3))
	before := dump(t, s)
	a, b := e.batch(t, 100), e.batch(t, 100)
	for range 3 {
		if err := s.Commit(t.Context(), []Accepted{a, b}); !errors.Is(err, ErrDiskFull) {
			t.Fatalf("%v", err)
		}
		if dump(t, s) != before {
			t.Fatal("a failed commit left a trace")
		}
	}
	execSQL(t, s, `PRAGMA max_page_count = 1000000`)
	commit(t, s, a, b)
	if r := verify(t, s); !r.OK() || r.Leaves != 300 {
		t.Fatalf("%+v", r)
	}
}

// It needs a small file system of its own, which only root can make, and not in every container.
func TestARealFullDiskRefusesCleanlyAndHeals(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size=4m"); err != nil {
		if os.Getenv("KITH_PEERS") == "required" && os.Geteuid() == 0 {
			t.Fatalf("mounting a small disk, and KITH_PEERS=required: %v", err)
		}
		t.Skipf("SKIP: may not mount a small disk here (%v); a full disk is tested with a full database only", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	s := open(t, filepath.Join(dir, "hub"))
	t.Cleanup(func() { s.Close() }) // before the unmount
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEdge("lisbon", "lisbon-front", 1)
	stored := uint64(0)
	var refused Accepted
	for range 200 {
		a := e.batch(t, 100)
		err := s.Commit(t.Context(), []Accepted{a})
		if err == nil {
			stored = a.Log.Size
			continue
		}
		if !errors.Is(err, ErrDiskFull) {
			t.Fatalf("after %d leaves: %v", stored, err)
		}
		refused = a
		break
	}
	if refused.Bundle == nil {
		t.Fatal("the disk never filled")
	}
	if got := must(s.Logs(t.Context()))[0].Size; got != stored {
		t.Fatalf("size %d, acknowledged %d", got, stored)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	commit(t, s, refused)
	if r := verify(t, s); !r.OK() || r.Leaves != stored+100 {
		t.Fatalf("%+v", r)
	}
}

const childEnv = "KITH_STORE_CHILD"

// TestChildWriter is the victim of the next test: it commits and says so, until it is killed.
func TestChildWriter(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		t.Skip("run by TestNothingAcknowledgedIsLostToAKill")
	}
	s := open(t, dir)
	e := newEdge("lisbon", "lisbon-front", 1)
	have := uint64(0)
	if logs := must(s.Logs(t.Context())); len(logs) == 1 {
		have = logs[0].Size
	}
	for {
		a := e.batch(t, 7)
		if a.Log.Size <= have {
			continue
		}
		commit(t, s, a)
		fmt.Printf("ACK %d\n", a.Log.Size)
	}
}

func TestNothingAcknowledgedIsLostToAKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hub")
	acked := uint64(0)
	for round := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChildWriter$")
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(150+37*round)*time.Millisecond, func() { cmd.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, ok := strings.CutPrefix(lines.Text(), "ACK "); ok {
				acked, _ = strconv.ParseUint(n, 10, 64)
			}
		}
		cmd.Wait()
		kill.Stop()
		s, err := Open(context.Background(), Options{Dir: dir, Network: testNetwork, Projection: testProjection})
		if err != nil {
			t.Fatal(err)
		}
		r := verify(t, s)
		if !r.OK() || r.Leaves < acked {
			t.Fatalf("round %d: acknowledged %d, have %+v", round, acked, r)
		}
		s.Close()
	}
	if acked == 0 {
		t.Fatal("no round acknowledged anything")
	}
}

func TestQuickPrivateReadsWhatTheParserReads(t *testing.T) {
	same := func(t *rapid.T, b []byte) {
		quick, ok := quickPrivate(b)
		if !ok {
			return
		}
		slow, err := event.ParsePrivate(b)
		if err != nil {
			t.Fatalf("took what the parser refuses: %s (%v)", b, err)
		}
		if quick.At != slow.At || quick.Mono != slow.Mono || quick.Member != slow.Member || quick.Card != slow.Card || string(quick.Body) != string(slow.Body) {
			t.Fatalf("%s\nquick %+v\nslow  %+v", b, quick, slow)
		}
	}
	hits := 0
	rapid.Check(t, func(t *rapid.T) {
		p := event.Private{
			At: rapid.Int64().Draw(t, "at"), Mono: rapid.Int64().Draw(t, "mono"),
			Member: rapid.OneOf(rapid.StringMatching(`[a-z0-9-]{0,20}`), rapid.String()).Draw(t, "member"),
			Card:   rapid.OneOf(rapid.Just("uid:00112233"), rapid.String()).Draw(t, "card"),
		}
		if rapid.Bool().Draw(t, "with body") {
			p.Body, _ = json.Marshal(map[string]string{"grant": rapid.String().Draw(t, "grant")})
		}
		b, err := p.Encode()
		if err != nil {
			t.Skip("not encodable")
		}
		if _, ok := quickPrivate(b); ok {
			hits++
		}
		same(t, b)
		if len(b) > 0 {
			cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
			same(t, b[:cut])
			b[cut] = rapid.Byte().Draw(t, "byte")
			same(t, b)
		}
	})
	if hits == 0 {
		t.Fatal("the quick way was never taken")
	}
}

func FuzzPartsRow(f *testing.F) {
	p := partsRow{first: 10, n: 5}
	p.add(&PrivatePart{Index: 11, Bytes: []byte("x")})
	p.erase(13)
	f.Add(p.encode())
	f.Add([]byte{0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		row := partsRow{first: 10, n: 300}
		if row.decode(b) != nil {
			return
		}
		back := partsRow{first: 10, n: 300}
		if err := back.decode(row.encode()); err != nil || len(back.parts) != len(row.parts) {
			t.Fatalf("%x: %v", b, err)
		}
	})
}
